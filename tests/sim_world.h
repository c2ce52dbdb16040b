/* SPDX-License-Identifier: MIT
 *
 * One seed of the simulation: the reverse service, its clients, and whatever may go wrong, in one world.
 *
 * All that is decided is drawn from the world, so the same body serves a seed, a fuzzer's bytes and a replay.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <proactor/sim.h>

#include "hits.h"

/* What every seed is worth. */
enum { SIM_LEAST_SESSIONS = 8, SIM_LEAST_EVENTS = 2000 };

struct sim_result {
    unsigned sessions; /* connections that were made to the service */
    unsigned exact;    /* of them, those that had to get every answer, and did */
    unsigned idle_rounds;
    uint64_t bytes; /* of answers, checked against the oracle */
    struct pro_sim_stats stats;
};

struct sim_plan {
    const struct pro_sim_config *config;
    unsigned sessions;                             /* it goes on until there were so many ... */
    uint64_t events;                               /* ... and the trace has so many lines */
    bool acts;                                     /* beside them anything that continuations may do: sim_acts.h */
    void (*line)(void *context, const char *text); /* of the trace; may be NULL */
    struct hits *hits;
};

/* Plays one world to its end. Whatever is wrong ends the process by pro_sim_fail. */
void sim_world_play(const struct sim_plan *plan, struct sim_result *ret_result);

#endif
