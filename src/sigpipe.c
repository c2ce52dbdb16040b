/* SPDX-License-Identifier: MIT */
#include "sigpipe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

bool proi_has_rwf_nosignal(void)
{
    int ends[2];
    char byte = 0;
    struct iovec iov = {&byte, 1};
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return false;
    bool works = pwritev2(ends[1], &iov, 1, -1, RWF_NOSIGNAL) == 1;
    close(ends[0]);
    close(ends[1]);
    return works;
}

void proi_sigpipe_hold(struct proi_sigpipe *ret_state)
{
    sigset_t pending, sigpipe;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    ret_state->pending = sigismember(&pending, SIGPIPE) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &sigpipe, &ret_state->mask);
}

void proi_sigpipe_release(const struct proi_sigpipe *state)
{
    static const struct timespec at_once = {0, 0};
    sigset_t sigpipe;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    int saved = errno;
    while (!state->pending && sigtimedwait(&sigpipe, NULL, &at_once) < 0 && errno == EINTR)
        continue;
    (void)pthread_sigmask(SIG_SETMASK, &state->mask, NULL);
    errno = saved;
}
