/* SPDX-License-Identifier: MIT
 *
 * 24 hours of the reverse service with a few clients.
 */
#ifndef TESTS_SIM_DAY_H
#define TESTS_SIM_DAY_H

#include "sim_hand.h"

/* Those of a service that is open all day. */
extern const struct service_config sim_day_limits;

/* The stage is warm. Returns how many exchanges there were. Afterwards the clients are gone, and what is held is what was
 * held before. */
unsigned sim_day_play(struct stage *stage);

#endif
