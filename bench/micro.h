/* SPDX-License-Identifier: MIT
 *
 * What the two sides of the micro-benchmarks share. Each function does its work `count` times and returns the
 * nanoseconds that took, without what has to be set up.
 */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"

enum {
    MICRO_BATCH = 64,        /* operations in flight */
    MICRO_POSTS = 4096,      /* posts under way: more than a turn takes, so that the poster seldom waits for the loop */
    MICRO_WAKES = 2000,      /* measured one by one */
    MICRO_PAUSE_NS = 200000, /* before each of those, for the loop to fall asleep */
    MICRO_APART = 128,       /* bytes: what different threads write is on different cache lines, as it is in programs,
                                where it is in different objects; some processors fetch lines by twos */
};

struct micro_timers {
    uint64_t set, cancel, fire;
};

uint64_t micro_now(void);
uint64_t micro_cpu(void); /* of this thread */
uint64_t micro_draw(uint64_t *seed);
void micro_pairs(int near[MICRO_BATCH], int far[MICRO_BATCH]);
void micro_close(const int fds[MICRO_BATCH]);

/* Keeps the calling thread on the first or second (0, 1) of the processors that the program may run on; without effect
 * where there is but one. Where two threads meet depends on where they run, and by itself a scheduler now puts them on one
 * processor and now on two. */
void micro_pin(unsigned number);
void micro_unpin(void);

/* Ends the program with a message unless `good`. */
void micro_must(bool good, const char *what);

/* On bare liburing, set up as the library sets its rings up. */
uint64_t micro_bare_nop(uint64_t count);
struct micro_timers micro_bare_timers(uint64_t count);
uint64_t micro_bare_cancel(uint64_t count);
uint64_t micro_bare_pool(uint64_t count);
uint64_t micro_bare_post(uint64_t count, struct histogram *waits);

#endif
