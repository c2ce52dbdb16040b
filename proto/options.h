/* SPDX-License-Identifier: MIT
 *
 * The command lines of `reversed` and `reverse`, read into structs.
 *
 * Reading is pure: it prints nothing, looks nothing up, asks the system nothing and keeps no pointer into argv. What
 * the system has to say (how many cores, how many descriptors) is left as 0 for the program to fill in.
 */
#ifndef PROTO_OPTIONS_H
#define PROTO_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include <proactor.h>

#include "address.h"
#include "log.h"

#define OPTIONS_LISTEN_MOST  16
#define OPTIONS_THREADS_MOST 256

/* Room for any message of options_read, NUL included. */
#define OPTIONS_ERROR_SIZE 256

enum options_outcome {
    OPTIONS_RUN,
    OPTIONS_HELP,    /* --help was given: print the text, exit 0 */
    OPTIONS_VERSION, /* --version */
    OPTIONS_ERROR,   /* the message says which option, and why; exit 2 */
};

/* All zero bytes are not the defaults: options_read sets those. A duration of 0 means no limit. */
struct options {
    struct address listen[OPTIONS_LISTEN_MOST];
    uint32_t listen_count;
    enum pro_backend_kind backend;
    enum log_level log_level;
    uint32_t threads;         /* 0: as many as there are cores */
    uint32_t max_connections; /* 0: as many as there are descriptors */
    uint32_t max_frame;       /* payload bytes */
    uint32_t high_water;      /* bytes */
    uint64_t idle_ns, frame_ns, send_ns, drain_ns;
    uint32_t spin_us, min_wait_us; /* 0: off */
    uint64_t features_off;         /* PRO_FEATURE_ bits */
};

/* argv[0] is skipped. On OPTIONS_ERROR the message is in `error`, escaped and on one line. */
enum options_outcome options_read(int argc, char *const argv[], struct options *ret_options,
                                  char error[OPTIONS_ERROR_SIZE]);

struct client_options {
    struct address server;
    enum pro_backend_kind backend;
    uint64_t connect_ns;
};

enum options_outcome client_options_read(int argc, char *const argv[], struct client_options *ret_options,
                                         char error[OPTIONS_ERROR_SIZE]);

/* The texts of --help. */
extern const char options_help[];
extern const char client_options_help[];

/* "30s", "500ms", "2m", "1h" or "0". Returns NULL, or a phrase that says what is wrong. */
const char *options_duration(const char *text, uint64_t *ret_ns);

/* "50", which are microseconds, "50us", "5ms" or "1s", up to a second. Returns NULL, or a phrase. */
const char *options_moment(const char *text, uint32_t *ret_us);

/* "65536", "64KiB", "1MiB", "1GiB", from `least` to `most`. Returns NULL, or a phrase, to which the
 * caller may prefer one that names his limits. */
const char *options_size(const char *text, uint32_t least, uint32_t most, uint32_t *ret_bytes);

#endif
