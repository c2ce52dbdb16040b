/* SPDX-License-Identifier: MIT
 *
 * Lies. Each makes one small change to a history that was true, such that one rule of the contract is broken for sure. A
 * judge who does not name it is asleep. */
#ifndef TESTS_MUTATION_H
#define TESTS_MUTATION_H

#include "model.h"

struct mutation {
    const char *rule; /* that is broken, ... */
    const char *how;
    bool (*change)(struct history *h, size_t at); /* ... by a change at this event; false: there it does not go */
};

/* NULL from the number of them on. */
const struct mutation *mutation(unsigned i);

#endif
