/* SPDX-License-Identifier: MIT
 *
 * Very many idle connections of the reverse service in one world, and what each costs.
 */
#ifndef TESTS_SIM_IDLE_H
#define TESTS_SIM_IDLE_H

#include <stdint.h>

/* Opens `count` connections, has each of them served, lets them idle, serves some again, closes them, and prints what
 * one costs before and after it was served. 0, or 1 if that is more than it may. */
int sim_idle(uint32_t count, const char *replay, void (*line)(void *context, const char *text));

#endif
