/* SPDX-License-Identifier: MIT
 *
 * The loop's own state, and what its parts say to each other. */
#ifndef PROI_LOOP_H
#define PROI_LOOP_H

#include <proactor.h>

#include <stdarg.h>

#include "backend.h"
#include "list.h"
#include "op.h"
#include "timer.h"

/* Alone in a page that a forked child finds zeroed, without a system call. */
struct proi_guard {
    const void *owner; /* the thread that runs the loop, see proi_self, or PROI_ANYONE; NULL: this is a forked child */
    pid_t process;     /* where the system does not zero the page; else 0 */
};
#define PROI_ANYONE ((const void *)1) /* none has run it yet */

struct pro_loop {
    const struct proi_backend *backend;
    void *backend_state;
    struct proi_queue submissions;         /* STARTING, and what ended before it was popped */
    struct proi_braid completions;         /* ENDED, and reports that are not final */
    uint32_t turn_completions, turn_bytes; /* bounds of a turn */
    uint32_t bytes;                        /* received in this turn */
    uint64_t now;
    uint64_t spin_ns; /* 0: it goes to sleep at once */
    uint64_t tidy_at; /* when its pools give back what they do not need; PRO_NEVER: there is nothing to look for */
    uint64_t overdue_since; /* deadlines that have passed wait for results; 0: none does */
    uint64_t background;    /* operations in flight that do not keep pro_run */
    int accepted;           /* the descriptor that a continuation is being handed, or -1 */
    struct pro_handle *handles;
    struct pro_pool *pools; /* those that have received here */
    struct pro_remote *remote;
    bool once; /* this run ends when something has happened */
    bool running, stopping, freeing, pollable, enabled;
    struct proi_guard *guard;
    struct pro_stats stats;
    struct pro_allocator allocator;
    struct proi_wheel wheel;
    char description[256];
};

/* What tells the calling thread from all others that live: where its thread-local memory is. The processor has it at
 * hand, while pthread_self is a call. */
static inline const void *proi_self(void)
{
    return __builtin_thread_pointer();
}

/* Tells the processor that this thread only waits. (On ARM a `yield` is over at once.) */
static inline void proi_relax(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("isb");
#endif
}

/* Aborts unless the calling thread may use the loop. */
static inline void proi_loop_check(const struct pro_loop *loop)
{
    const void *owner = loop->guard->owner;
    if (__builtin_expect(owner == proi_self(), 1))
        return;
    proi_require(owner, "a loop is used in a forked child");
    proi_require(owner == PROI_ANYONE, "a loop is used by a foreign thread");
}

/* Work was made while nobody runs: a foreign loop that polls pro_loop_fd must learn of it. */
void proi_loop_arm(struct pro_loop *loop);
static inline void proi_loop_note(struct pro_loop *loop)
{
    if (loop->pollable)
        proi_loop_arm(loop);
}

/* The common part of every start. `op` is idle. Its deadline is not in the wheel yet: see proi_op_time. */
static inline void proi_op_begin(struct pro_loop *loop, struct pro_op *op, enum proi_code code, pro_fn *done)
{
    proi_loop_check(loop);
    proi_require(op->state == PROI_IDLE, "an operation is started while it is in flight");
    proi_require(done, "an operation is started without a continuation");
    op->code = (uint8_t)code;
    op->done = done;
    op->res = 0;
    op->link_next = op->link_prev = op->queue_next = op->time_next = op->time_prev = NULL;
    op->flags &= code == PROI_TIMER || code == PROI_POST ? PROI_BACKGROUND : PROI_BACKGROUND | PROI_TIMED | PROI_LAZY;
    loop->stats.started++;
    loop->stats.in_flight++;
    if (op->flags & PROI_BACKGROUND)
        loop->background++;
}

/* Puts the deadline that `op` was given into the wheel, if it is not there yet. A send that the backend tries at once
 * does without until it turns out to wait: most never do. */
void proi_op_time(struct pro_loop *loop, struct pro_op *op);

/* For the backend, at the next wait. */
static inline void proi_op_submit(struct pro_loop *loop, struct pro_op *op)
{
    op->state = PROI_STARTING;
    if (op->flags & PROI_INQUEUE)
        return;
    op->flags |= PROI_INQUEUE;
    proi_queue_push(&loop->submissions, op);
    proi_loop_note(loop);
}

/* Makes `res` final: out of its lists and the wheel, continuation in due course. Not for an ACTIVE one. */
void proi_op_end(struct pro_loop *loop, struct pro_op *op, int res);
/* What an event decided is final: the continuation is called here. */
void proi_op_finish(struct pro_loop *loop, struct pro_op *op, int res, uint32_t flags);
/* Ends it if the backend has no part in it; else asks the backend, and its event will tell. */
void proi_op_cancel(struct pro_loop *loop, struct pro_op *op, bool late);
/* A completion that is not final and was not brought by an event: its continuation is called in due course. */
void proi_op_report(struct pro_loop *loop, struct pro_op *op, int res);
/* Asks the backend to give an ACTIVE operation back. */
void proi_op_recall(struct pro_loop *loop, struct pro_op *op);

static inline struct pro_loop *proi_loop_of(const struct pro_op *op)
{
    return proi_has_handle(op) ? op->owner.handle->loop : op->owner.loop;
}

/* That of the C library. */
extern const struct pro_allocator proi_allocator_default;
/* Memory through the loop's allocator; zeroed. */
void *proi_alloc(const struct pro_allocator *allocator, size_t size, size_t align);
void proi_free(const struct pro_allocator *allocator, void *memory, size_t size);

/* Appends to the loop's description. */
void proi_describe(struct pro_loop *loop, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Its owner is anyone. NULL: there is no memory. */
struct proi_guard *proi_guard_new(void);
void proi_guard_free(struct proi_guard *guard);
/* Whether this is a forked child, also where only its number tells. */
bool proi_guard_forked(struct proi_guard *guard);

#endif
