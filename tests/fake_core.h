/* SPDX-License-Identifier: MIT
 *
 * A core that does nothing by itself: a test completes each operation, in orders and with results that the contract
 * allows and that kernels bring about once in a million times. For src/stream.c and stream_write.c, linked alone.
 */
#ifndef TESTS_FAKE_CORE_H
#define TESTS_FAKE_CORE_H

#include <proactor.h>

/* What an operation is, in its `code`. */
enum { IDLE, CONNECT, RECEIVE, SEND, SLICES, SHUTDOWN, TIMER, CLOSE, ABORT };
enum { PINNED = 1000 };

struct fake_core {
    uint64_t now;
    unsigned pauses;   /* unanswered */
    unsigned returned; /* slices */
    bool calling;      /* inside a call of the stream's interface: nothing may be called back */
    int unsent;        /* what pro_unsent says */
    int try_error;     /* what pro_try_send says; 0: it sends all */
};
extern struct fake_core core;

/* Stand for the loop and the pool; nobody looks into them. */
extern struct pro_loop *const loop;
extern struct pro_pool *const pool;

#endif
