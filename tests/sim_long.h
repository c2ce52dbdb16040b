/* SPDX-License-Identifier: MIT
 *
 * Worlds in which the reverse service lives for long, or in need: what may not grow does not, what is to happen at a time
 * does, and what was short of memory goes on when there is some.
 *
 *      connection_cycles        20,000 connections come and go, well and badly behaved, in a world with faults. After every
 *                               thousand of them descriptors and memory are the same to the last byte
 *      virtual_day              24 hours with a few clients: every timer, pause and deadline, theirs and the service's, comes
 *                               at its time, and in the end descriptors and memory are as at the start
 *      allocation_from_then_on  in a service at work an allocation fails and all that follow, for the first, the second, …
 *                               of them. It drops peers, lives, and serves again when there is memory
 */
#ifndef TESTS_SIM_LONG_H
#define TESTS_SIM_LONG_H

#include "sim_world.h"

/* One of the above; their number, and the names, which are those of docs/faults.md. */
enum { SIM_LONG_KINDS = 3 };
const char *sim_long_name(unsigned kind);

/* Plays it as sim_world_play plays a seed; of `config` the seed and the replay line are used. A kind that needs several
 * worlds adds up what they counted. */
void sim_long_play(unsigned kind, const struct pro_sim_config *config, void (*line)(void *context, const char *text),
                   struct hits *hits, struct sim_result *ret_result);

#endif
