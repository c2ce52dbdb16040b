/* SPDX-License-Identifier: MIT
 *
 * Keeps a write to a pipe without readers from raising SIGPIPE: sockets have MSG_NOSIGNAL, pipes have RWF_NOSIGNAL on
 * Linux 6.18 and later, and before that the signal is blocked for the thread and taken back. */
#ifndef PROI_SIGPIPE_H
#define PROI_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100
#endif

/* Whether the kernel knows RWF_NOSIGNAL. */
bool proi_has_rwf_nosignal(void);

struct proi_sigpipe {
    sigset_t mask;
    bool pending;
};
void proi_sigpipe_hold(struct proi_sigpipe *ret_state);
void proi_sigpipe_release(const struct proi_sigpipe *state);

#endif
