/* SPDX-License-Identifier: MIT
 *
 * What happened in many histories, counted: scripts in which hardly anything happens would all be accepted. */
#ifndef TESTS_TALLY_H
#define TESTS_TALLY_H

#include "script.h"

enum outcome {
    OUTCOME_DONE,
    OUTCOME_MORE,
    OUTCOME_EOF,
    OUTCOME_CANCELLED,
    OUTCOME_LATE,
    OUTCOME_SHUT_DOWN,
    OUTCOME_FAILED, /* with any other error */
    OUTCOMES,
};

struct tally {
    unsigned long seen[FLIGHT_KINDS][OUTCOMES];
    unsigned long events[EVENT_WHATS];
    unsigned long endings[ENDINGS];
    unsigned long answers; /* to a pause */
    unsigned long used_up; /* credit, by a piece */
    unsigned long cut;     /* sends that moved something, and failed */
    unsigned long whole;   /* starts with PRO_RECV_ALL */
    unsigned long bytes;   /* that came */
};

void tally_add(struct tally *tally, const struct script *script, const struct history *h);
void tally_print(const struct tally *tally, FILE *to);
/* What there should have been more of, or NULL; `least` of everything that can be. */
const char *tally_lacks(const struct tally *tally, unsigned long least);

#endif
