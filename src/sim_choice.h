/* SPDX-License-Identifier: MIT
 *
 * The one source of choices of a simulated world: a seed, a fuzzer's bytes, or a walk through all of them. */
#ifndef PROI_SIM_CHOICE_H
#define PROI_SIM_CHOICE_H

#include <proactor/sim.h>

#include <stdio.h>

struct proi_choice {
    enum pro_sim_front front;
    uint64_t random; /* state of the generator */
    const uint8_t *bytes, *bytes_end;
    struct pro_sim_walk *walk;
};

void proi_choice_init(struct proi_choice *choice, const struct pro_sim_config *config);

/* 0 to count - 1. A count of 1 is no choice and uses nothing up. */
uint32_t proi_choose(struct proi_choice *choice, uint32_t count);

/* Whether something of `rate` in 65536 chances happens. In a walk, anything that has a rate may happen or not. */
bool proi_chance(struct proi_choice *choice, uint16_t rate);

/* The choices of the history under way, all of them. */
void proi_walk_print(const struct pro_sim_walk *walk, FILE *to);

#endif
