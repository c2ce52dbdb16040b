/* SPDX-License-Identifier: MIT
 *
 * Scripts: random acts of a program whose connections have both their ends on one loop. A seed makes a script, and a
 * script knows no backend: it names seats (handles) and slots (operations), and what it asks of a seat that is empty or
 * a slot that is idle is left out. What the program did and saw is the history that it leaves.
 *
 *      seats   0 -- 1    2 -- 3    pairs              4    a listener
 *              5, 6                connect to it      7, 8, 9    what it accepts
 */
#ifndef TESTS_SCRIPT_H
#define TESTS_SCRIPT_H

#include "harness.h"
#include "model.h"

enum { SEATS = 10, SLOTS = 24, MOST_ACTS = 160, REACTIONS = 64 };

enum act_what {
    ACT_NONE,
    ACT_RECV,
    ACT_RECV_ALL,
    ACT_RECV_MULTI,
    ACT_ACCEPT,
    ACT_ACCEPT_MULTI,
    ACT_CONNECT,
    ACT_SEND,
    ACT_SEND_SLICES,
    ACT_TRY_SEND,
    ACT_SHUTDOWN,
    ACT_POLL,
    ACT_POLL_MULTI,
    ACT_TIMER,
    ACT_TIMER_EVERY,
    ACT_POST,
    ACT_CLOSE,
    ACT_ABORT,
    ACT_RELEASE, /* the descriptor is adopted again */
    ACT_CANCEL,
    ACT_CANCEL_ALL,
    ACT_DEADLINE,
    ACT_CREDIT,
    ACT_PAUSE,
    ACT_RETURN, /* slices that are held */
    ACT_SPLIT,  /* one of them */
    ACT_OPEN,   /* from here on not in a continuation */
    ACT_TURNS,
    ACT_WAIT,
    ACTS,
};

struct act {
    enum act_what what;
    uint8_t seat, slot;
    uint8_t way;      /* what else there is to choose */
    uint8_t then;     /* the reaction, counted from 1, that what it starts brings about when it completes; 0: none */
    uint8_t lateness; /* of a deadline: 0: none, 1: past, 2: far away, else soon */
    uint32_t amount;  /* bytes, credit, turns, ns */
};

enum ending {
    END_DRAIN, /* every byte arrives, every stream ends */
    END_CLOSE, /* every handle is closed with what is in flight */
    END_FREE,  /* the loop is freed with what is in flight */
    ENDINGS,
};

struct script {
    uint64_t seed;
    enum ending ending;
    struct pro_config config; /* the sizes only */
    struct pro_pool_config pool;
    uint16_t liberties; /* that the kernel and network of a simulated world take, in 65536 chances */
    unsigned count;
    struct act acts[MOST_ACTS], reactions[REACTIONS]; /* a reaction's `then` is a later one */
};

void script_draw(struct script *script, uint64_t seed);
void script_print(const struct script *script, FILE *to);

/* Runs it on a new loop of the world's, on backend sim in a new simulated world; everything is gone at the end. */
void script_run(const struct script *script, struct world *w, struct history *ret_history);

#endif
