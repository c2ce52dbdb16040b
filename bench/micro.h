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
    MICRO_POSTS = 1024,      /* posts under way */
    MICRO_WAKES = 2000,      /* measured one by one */
    MICRO_PAUSE_NS = 200000, /* before each of those, for the loop to fall asleep */
};

struct micro_timers {
    uint64_t set, cancel, fire;
};

uint64_t micro_now(void);
uint64_t micro_cpu(void); /* of this thread */
uint64_t micro_draw(uint64_t *seed);
void micro_pairs(int near[MICRO_BATCH], int far[MICRO_BATCH]);

/* Ends the program with a message unless `good`. */
void micro_must(bool good, const char *what);

/* On bare liburing, set up as the library sets its rings up. */
uint64_t micro_bare_nop(uint64_t count);
struct micro_timers micro_bare_timers(uint64_t count);
uint64_t micro_bare_cancel(uint64_t count);
uint64_t micro_bare_pool(uint64_t count);
uint64_t micro_bare_post(uint64_t count, struct histogram *waits);

#endif
