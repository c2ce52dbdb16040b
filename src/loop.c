/* SPDX-License-Identifier: MIT
 *
 * The loop: what was started goes to the backend, what the backend completed goes to the continuations.
 *
 *      start ---> submissions ---> backend ---> events ------.
 *                     |                                       +---> continuations
 *      end, post, timers ------------> completions ----------'
 *
 * A turn flushes the submissions, waits (when there is nothing else to do), reads the clock, takes what other threads
 * posted, lets timers expire, and then runs what is there: completions of the core's own making, and events, each at
 * most as many as the turn allows. Deadlines come last. A continuation may do anything; whatever it starts or ends goes
 * to one of the two queues, so there is no recursion and nothing is called twice.
 *
 * What may go wrong: the backend breaks (its wait fails), which pro_run reports; everything else is somebody's result. */
#include "loop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "handle.h"
#include "pool.h"
#include "post.h"

_Static_assert(sizeof(struct pro_op) <= 96, "the header promises at most 96 bytes");
_Static_assert(sizeof(struct pro_handle) <= 80, "the header promises at most 80 bytes");
_Static_assert(sizeof(struct pro_result) == 16, "a result travels in registers");

enum {
    DEFAULT_TURN_COMPLETIONS = 512,
    DEFAULT_TURN_BYTES = 64 * 1024,
    RETRY_NS = 1000 * 1000,          /* when the kernel has no memory for submissions */
    PATIENCE_NS = 100 * 1000 * 1000, /* for which deadlines wait while there are results */
    TIDY_NS = 1100 * 1000 * 1000,    /* for which pool memory is not needed before it is given back; a far time for the
                                        backends, where that costs less */
};

/* --- making ----------------------------------------------------------------------------------------------------- */

void proi_describe(struct pro_loop *loop, const char *format, ...)
{
    size_t used = strlen(loop->description);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(loop->description + used, sizeof loop->description - used, format, arguments);
    va_end(arguments);
}

/* What programs know that were built before there was a simulation. */
#define OLDEST_CONFIG offsetof(struct pro_config, sim)

static bool config_ok(const struct pro_config *c)
{
    bool both = !c->allocator.alloc == !c->allocator.free, sim = c->backend == PRO_BACKEND_SIM;
    return both && c->backend <= PRO_BACKEND_SIM && sim == (c->sim != NULL) && c->entries <= 32768 &&
           (c->entries & (c->entries - 1)) == 0 && c->completion_entries <= 65536;
}

int pro_loop_new(const struct pro_config *config, struct pro_loop **ret_loop)
{
    struct pro_config c = PRO_CONFIG_INIT;
    if (config && config->size < OLDEST_CONFIG)
        return -EINVAL;
    if (config)
        memcpy(&c, config, config->size < sizeof c ? config->size : sizeof c);
    if (!config_ok(&c))
        return -EINVAL;
    if (!c.allocator.alloc)
        c.allocator = proi_allocator_default;
    struct pro_loop *loop = proi_alloc(&c.allocator, sizeof *loop, _Alignof(struct pro_loop));
    if (!loop)
        return -ENOMEM;
    loop->allocator = c.allocator;
    loop->accepted = -1;
    loop->turn_completions = c.turn_completions ? c.turn_completions : DEFAULT_TURN_COMPLETIONS;
    if (loop->turn_completions < 2) /* one for each queue, or one would starve the other */
        loop->turn_completions = 2;
    loop->turn_bytes = c.turn_bytes ? c.turn_bytes : DEFAULT_TURN_BYTES;
    loop->guard = proi_guard_new();
    int r = loop->guard ? proi_backend_select(loop, &c) : -ENOMEM;
    if (r < 0) {
        proi_guard_free(loop->guard);
        proi_free(&c.allocator, loop, sizeof *loop);
        return r;
    }
    loop->spin_ns = loop->backend->spin ? (uint64_t)c.spin_us * 1000 : 0;
    loop->now = loop->backend->now(loop);
    loop->tidy_at = PRO_NEVER;
    proi_wheel_init(&loop->wheel, loop->now);
    proi_braid_init(&loop->completions);
    *ret_loop = loop;
    return 0;
}

const char *pro_loop_describe(const struct pro_loop *loop)
{
    return loop->description;
}

enum pro_backend_kind pro_loop_backend(const struct pro_loop *loop)
{
    return loop->backend->kind;
}

uint64_t pro_now(const struct pro_loop *loop)
{
    return loop->running ? loop->now : loop->backend->now(loop);
}

void pro_loop_stats(const struct pro_loop *loop, struct pro_stats *ret_stats, size_t size)
{
    memcpy(ret_stats, &loop->stats, size < sizeof loop->stats ? size : sizeof loop->stats);
}

/* --- the life of an operation (op.h) ------------------------------------------------------------------------------ */

void proi_loop_arm(struct pro_loop *loop)
{
    if (!loop->running)
        loop->backend->pollable_arm(loop, 0);
}

static void time_set(struct pro_loop *loop, struct pro_op *op, uint64_t at)
{
    op->time_at = at;
    op->flags |= PROI_TIMED;
    proi_wheel_insert(&loop->wheel, op);
    proi_loop_note(loop);
}

static void time_clear(struct pro_loop *loop, struct pro_op *op)
{
    if (op->time_prev)
        proi_wheel_remove(&loop->wheel, op);
    op->flags &= (uint16_t)~PROI_TIMED;
}

void proi_op_time(struct pro_loop *loop, struct pro_op *op)
{
    if (op->flags & PROI_TIMED && !op->time_prev)
        time_set(loop, op, op->time_at);
}

static void complete_later(struct pro_loop *loop, struct pro_op *op)
{
    op->flags |= PROI_INQUEUE;
    proi_braid_push(&loop->completions, op);
    proi_loop_note(loop);
}

/* What an operation holds besides its place in lists. */
static void release(struct pro_op *op)
{
    if (op->code == PROI_SEND_SLICES) {
        pro_slice_return_list(op->u.io.data);
        op->u.io.data = NULL;
    } else if (op->code == PROI_RECV_MULTI) {
        proi_pool_leave(op->u.stream.pool);
    }
}

static void detach(struct pro_loop *loop, struct pro_op *op)
{
    time_clear(loop, op);
    if (proi_has_handle(op))
        proi_handle_unlink(op);
    release(op);
}

/* What receives and has something to tell, be it the bytes of one that was cut, stays first in its lane until its
 * continuation is called: the next one must not tell before it. */
static bool keeps_place(const struct pro_op *op)
{
    bool tells = op->res != -ECANCELED && op->res != -ETIME && op->res != -ESHUTDOWN;
    return tells && proi_lane_of(op->code) == PROI_RECEIVES && op->link_prev;
}

void proi_op_end(struct pro_loop *loop, struct pro_op *op, int res)
{
    proi_assert(op->state != PROI_IDLE && op->state != PROI_ENDED);
    op->state = PROI_ENDED;
    op->res = res;
    op->flags &= (uint16_t)~PROI_REPORT;
    if (keeps_place(op))
        time_clear(loop, op);
    else
        detach(loop, op);
    if (!(op->flags & PROI_INQUEUE))
        complete_later(loop, op);
}

void proi_op_report(struct pro_loop *loop, struct pro_op *op, int res)
{
    proi_assert(!(op->flags & PROI_INQUEUE));
    op->res = res;
    op->flags |= PROI_REPORT;
    complete_later(loop, op);
}

/* From now on it is idle. */
static void settle(struct pro_loop *loop, struct pro_op *op)
{
    proi_assert(!op->link_prev && !(op->flags & (PROI_INQUEUE | PROI_TIMED | PROI_KERNEL | PROI_KCANCEL)));
    loop->stats.completed++;
    loop->stats.in_flight--;
    loop->background -= (op->flags & PROI_BACKGROUND) != 0;
    op->state = PROI_IDLE;
    op->flags = 0;
}

static void finish_close(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    if (proi_handle_wait_last(op, result.res))
        return;
    settle(loop, op);
    proi_handle_closed(op);
    op->done(loop, op, result);
}

/* Calls the final continuation of what has a handle. `op` is out of everything; after the call it may not exist. */
static inline void finish(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct pro_handle *handle = op->owner.handle;
    if (op->code == PROI_CLOSE || op->code == PROI_RELEASE) {
        finish_close(loop, op, result);
        return;
    }
    settle(loop, op);
    op->done(loop, op, result);
    proi_handle_left(handle);
}

void proi_op_finish(struct pro_loop *loop, struct pro_op *op, int res, uint32_t flags)
{
    proi_assert(proi_has_handle(op));
    if (op->flags & PROI_INQUEUE) { /* a recall of it waits in the submission queue */
        op->flags |= flags & PRO_EOF ? PROI_AT_EOF : 0;
        proi_op_end(loop, op, res);
        return;
    }
    op->state = PROI_ENDED;
    detach(loop, op);
    finish(loop, op, (struct pro_result){res, flags, NULL});
}

void proi_op_recall(struct pro_loop *loop, struct pro_op *op)
{
    proi_assert(op->state == PROI_ACTIVE);
    if (op->flags & PROI_ASKED)
        return;
    if (loop->backend->cancel(loop, op) == 0) {
        op->flags |= PROI_ASKED;
    } else if (!(op->flags & PROI_INQUEUE)) {
        op->flags |= PROI_INQUEUE;
        proi_queue_push(&loop->submissions, op);
    }
    proi_loop_note(loop);
}

/* Not inline: the short way through pro_cancel would have to save the registers that the long way needs. A deadline that
 * had passed when this turn began was first, though it wait for results still. */
__attribute__((noinline)) void proi_op_cancel(struct pro_loop *loop, struct pro_op *op, bool late)
{
    if (op->flags & PROI_CANCEL)
        return;
    late |= op->flags & PROI_TIMED && op->time_at <= loop->now;
    switch ((enum proi_state)op->state) {
    case PROI_IDLE:
    case PROI_ENDED:
    case PROI_POSTED:
        return;
    case PROI_CLOSING:
        proi_handle_hurry(op, late);
        return;
    case PROI_STARTING:
        if (op->code == PROI_CLOSE)
            return;
        break;
    case PROI_ACTIVE:
        if (op->code == PROI_CLOSE)
            return;
        op->flags |= (uint16_t)(PROI_CANCEL | (late ? PROI_LATE : 0));
        proi_op_recall(loop, op);
        return;
    case PROI_QUEUED:
    case PROI_PARKED:
    case PROI_STARVED:
    case PROI_TIMING:
        break;
    }
    op->flags |= (uint16_t)(PROI_CANCEL | (late ? PROI_LATE : 0));
    int error = late ? -ETIME : -ECANCELED;
    proi_op_end(loop, op, proi_has_handle(op) ? proi_handle_cut(op, error) : error);
}

/* As proi_op_end, and most of what it costs to cancel a timer: a million of them are out of the cache, and the processor
 * fetches the next while it works on this one, if the instructions in between are few. */
static inline void timer_end(struct pro_loop *loop, struct pro_op *op, int res)
{
    uint16_t flags = op->flags;
    if (flags & PROI_TIMED)
        proi_wheel_remove(&loop->wheel, op);
    op->state = PROI_ENDED;
    op->flags = (flags & PROI_BACKGROUND) | PROI_INQUEUE;
    op->res = res;
    if (!(flags & PROI_INQUEUE))
        proi_braid_push(&loop->completions, op);
    proi_loop_note(loop);
}

void pro_cancel(struct pro_op *op)
{
    if (op->state == PROI_TIMING) {
        struct pro_loop *loop = op->owner.loop;
        proi_loop_check(loop);
        timer_end(loop, op, -ECANCELED);
    } else if (op->state != PROI_IDLE && op->state != PROI_POSTED) {
        struct pro_loop *loop = proi_loop_of(op);
        proi_loop_check(loop);
        proi_op_cancel(loop, op, false);
    }
}

bool pro_op_in_flight(const struct pro_op *op)
{
    return op->state != PROI_IDLE;
}

uint32_t pro_op_bytes(const struct pro_op *op)
{
    return op->u.io.moved;
}

void pro_op_lazy(struct pro_op *op, bool lazy)
{
    op->flags = (uint16_t)(lazy ? op->flags | PROI_LAZY : op->flags & ~PROI_LAZY);
}

void pro_op_background(struct pro_op *op)
{
    if (op->flags & PROI_BACKGROUND)
        return;
    op->flags |= PROI_BACKGROUND;
    if (op->state != PROI_IDLE && op->state != PROI_POSTED) {
        struct pro_loop *loop = proi_loop_of(op);
        proi_loop_check(loop);
        loop->background++;
    }
}

/* --- timers and deadlines ------------------------------------------------------------------------------------------ */

static uint64_t timer_next(const struct pro_op *op)
{
    uint64_t deadline = op->u.timer.deadline;
    return deadline && deadline < op->u.timer.at ? deadline : op->u.timer.at;
}

static void timer_place(struct pro_loop *loop, struct pro_op *op)
{
    time_set(loop, op, timer_next(op));
}

static void timer_start(struct pro_loop *loop, struct pro_op *op, uint64_t at, uint64_t every, pro_fn *done)
{
    uint64_t deadline = op->flags & PROI_TIMED ? op->time_at : 0;
    proi_op_begin(loop, op, PROI_TIMER, done);
    op->owner.loop = loop;
    op->u.timer.at = at;
    op->u.timer.every = every;
    op->u.timer.deadline = deadline;
    op->state = PROI_TIMING;
    if (loop->freeing)
        timer_end(loop, op, -ESHUTDOWN);
    else
        timer_place(loop, op);
}

void pro_timer(struct pro_loop *loop, struct pro_op *op, uint64_t at, pro_fn *done)
{
    timer_start(loop, op, at, 0, done);
}

void pro_timer_after(struct pro_loop *loop, struct pro_op *op, uint64_t delay_ns, pro_fn *done)
{
    uint64_t now = pro_now(loop);
    timer_start(loop, op, delay_ns < PRO_NEVER - now ? now + delay_ns : PRO_NEVER, 0, done);
}

void pro_timer_every(struct pro_loop *loop, struct pro_op *op, uint64_t first, uint64_t interval_ns, pro_fn *done)
{
    proi_require(interval_ns > 0, "a timer repeats with an interval of 0");
    timer_start(loop, op, first, interval_ns, done);
}

static void timer_deadline(struct pro_loop *loop, struct pro_op *op, uint64_t at)
{
    op->u.timer.deadline = at;
    if (op->flags & PROI_REPORT)
        return; /* placed when that has run */
    if (timer_next(op) == op->time_at)
        return; /* among those of the same time it keeps the place that its start gave it */
    time_clear(loop, op);
    timer_place(loop, op);
}

/* Not inline, for the sake of the short way through pro_deadline. */
__attribute__((noinline)) static void move_deadline(struct pro_op *op, uint64_t at)
{
    if (op->state == PROI_ENDED || op->code == PROI_POST)
        return;
    struct pro_loop *loop = proi_loop_of(op);
    proi_loop_check(loop);
    if (!(op->flags & PROI_CANCEL))
        op->flags &= (uint16_t)~PROI_LATE;
    if (op->code == PROI_TIMER) {
        timer_deadline(loop, op, at);
    } else if (at && op->time_prev) {
        proi_wheel_move(&loop->wheel, op, at);
        proi_loop_note(loop);
    } else {
        time_clear(loop, op);
        if (at)
            time_set(loop, op, at);
    }
}

void pro_deadline(struct pro_op *op, uint64_t at)
{
    if (op->state != PROI_IDLE) {
        move_deadline(op, at);
        return;
    }
    op->time_at = at;
    op->flags = (uint16_t)(at ? op->flags | PROI_TIMED : op->flags & ~PROI_TIMED);
}

static void timer_due(struct pro_loop *loop, struct pro_op *op)
{
    uint64_t late = loop->now - op->u.timer.at, every = op->u.timer.every, deadline = op->u.timer.deadline;
    if (deadline && deadline <= loop->now && (every || deadline < op->u.timer.at)) {
        timer_end(loop, op, -ETIME);
    } else if (every == 0) {
        timer_end(loop, op, 0);
    } else {
        uint64_t times = late / every + 1;
        bool wraps = __builtin_mul_overflow(times, every, &every) || every > PRO_NEVER - op->u.timer.at;
        op->u.timer.at = wraps ? PRO_NEVER : op->u.timer.at + every;
        proi_op_report(loop, op, times > INT32_MAX ? INT32_MAX : (int)times);
    }
}

/* Whether the operation is about to be tried, because there is data or room; but that it is late waits for that once. */
static bool may_win(struct pro_op *op)
{
    if (!(op->flags & PROI_INQUEUE) || op->flags & (PROI_LATE | PROI_CANCEL))
        return false;
    op->flags |= PROI_LATE;
    return true;
}

/* What expires: timers come at once. */
enum due { DUE_TIMERS, DUE_BUT_TRIED, DUE_ALL };

static void expire(struct pro_loop *loop, enum due what)
{
    struct pro_op *op;
    proi_wheel_advance(&loop->wheel, loop->now);
    while ((op = proi_wheel_pop(&loop->wheel)) != NULL) { /* one at a time: ending it may end others that are due */
        op->flags &= (uint16_t)~PROI_TIMED;
        if (op->state == PROI_TIMING)
            timer_due(loop, op);
        else if (what == DUE_ALL || (what == DUE_BUT_TRIED && !may_win(op)))
            proi_op_cancel(loop, op, true);
        else
            time_set(loop, op, op->time_at);
    }
}

/* --- a turn ----------------------------------------------------------------------------------------------------------- */

/* Hands one operation over. False when the backend has no room. */
static bool submit(struct pro_loop *loop, struct pro_op *op)
{
    op->flags &= (uint16_t)~PROI_INQUEUE;
    if (op->state == PROI_ENDED) {
        complete_later(loop, op);
        return true;
    }
    if (op->state == PROI_ACTIVE) { /* to be recalled, and there was no room for that */
        proi_op_recall(loop, op);
        return op->flags & PROI_ASKED;
    }
    proi_assert(op->state == PROI_STARTING);
    if ((op->code == PROI_RECV_MULTI || op->code == PROI_CLOSE) && !proi_handle_prepare(loop, op))
        return true;
    op->state = PROI_ACTIVE;
    op->flags &= (uint16_t)~PROI_ASKED;
    int r = loop->backend->start(loop, op);
    if (r == 0) {
        if (op->code == PROI_RECV_MULTI)
            proi_pool_wake(op->u.stream.pool);
        return true;
    }
    op->state = PROI_STARTING;
    if (r == -ENOBUFS) {
        proi_handle_starve(loop, op);
        return true;
    }
    proi_assert(r == -EAGAIN);
    op->flags |= PROI_INQUEUE;
    proi_queue_push_front(&loop->submissions, op);
    return false;
}

/* False when some are left: they wait, and their time runs. */
static bool flush(struct pro_loop *loop)
{
    struct pro_op *op;
    while ((op = proi_queue_pop(&loop->submissions)) != NULL)
        if (!submit(loop, op))
            break;
    for (struct pro_op *left = loop->submissions.head; left; left = left->queue_next)
        proi_op_time(loop, left);
    return !op;
}

/* A completion of the core's own making: final, or a report. */
static void complete(struct pro_loop *loop, struct pro_op *op)
{
    uint32_t flags = op->flags & PROI_AT_EOF ? PRO_EOF : 0;
    op->flags &= (uint16_t) ~(PROI_INQUEUE | PROI_AT_EOF);
    if (op->state == PROI_ENDED && !proi_has_handle(op)) {
        int res = op->code == PROI_POST && loop->freeing ? -ECANCELED : op->res;
        settle(loop, op);
        op->done(loop, op, (struct pro_result){res, 0, NULL});
        return;
    }
    if (op->state == PROI_ENDED) {
        if (keeps_place(op))
            detach(loop, op);
        finish(loop, op, (struct pro_result){op->res, flags, NULL});
        return;
    }
    proi_assert(op->flags & PROI_REPORT);
    int res = op->res;
    op->flags &= (uint16_t)~PROI_REPORT;
    if (op->code != PROI_TIMER)
        flags = proi_handle_answer(op);
    else if (loop->freeing)
        proi_op_end(loop, op, -ECANCELED);
    else
        timer_place(loop, op);
    loop->stats.more++;
    op->done(loop, op, (struct pro_result){res, PRO_MORE | flags, NULL});
}

/* Runs what was there when it began; half the turn belongs to the core's completions, the rest to the backend's. */
static uint32_t dispatch(struct pro_loop *loop, bool *ret_all)
{
    bool all = false;
    uint32_t limit = loop->turn_completions, own = limit / 2 + limit % 2, ran = 0;
    struct proi_event event;
    loop->bytes = 0;
    if (own > proi_braid_count(&loop->completions))
        own = proi_braid_count(&loop->completions);
    for (; own > 0; own--, ran++)
        complete(loop, proi_braid_pop(&loop->completions));
    while (ran < limit && loop->bytes < loop->turn_bytes && !(all = !loop->backend->reap(loop, &event))) {
        proi_handle_event(loop, &event);
        ran++;
    }
    *ret_all = all;
    return ran;
}

/* A deadline comes after the results that were there when it passed, so that a process which stood still does not take
 * what has arrived in time for late. So the kernel is asked for them once the clock has been read. 0 if it has told all; 1
 * if not, be it that none has passed; or less than 0. */
static int look(struct pro_loop *loop)
{
    if (!loop->wheel.due.head) {
        loop->overdue_since = 0;
        return 1;
    }
    if (!loop->overdue_since)
        loop->overdue_since = loop->now;
    return loop->backend->look ? loop->backend->look(loop) : 0;
}

/* The patience with results has an end. It begins in the turn that sees the first deadline passed, and not when that
 * was: the process may have stood still. */
static void judge(struct pro_loop *loop, bool all)
{
    bool impatient = loop->overdue_since && loop->now - loop->overdue_since >= PATIENCE_NS;
    if (impatient)
        loop->overdue_since = 0;
    if (loop->wheel.due.head && (all || impatient))
        expire(loop, impatient ? DUE_ALL : DUE_BUT_TRIED);
}

static void tidy(struct pro_loop *loop)
{
    loop->tidy_at = PRO_NEVER;
    for (struct pro_pool *pool = loop->pools; pool; pool = pool->next) {
        bool more = loop->backend->tidy_pool && loop->backend->tidy_pool(loop, pool);
        if (proi_pool_tidy(pool) || more)
            loop->tidy_at = loop->now + TIDY_NS;
    }
}

/* When it must be awake: for what is in the wheel, and to tidy up. That is no operation and ends by itself. Whether there
 * is something to tidy is asked here, where the loop has time, and not where buffers come and go. */
static uint64_t next_due(struct pro_loop *loop)
{
    if (loop->tidy_at == PRO_NEVER)
        for (const struct pro_pool *pool = loop->pools; pool; pool = pool->next)
            if (proi_pool_untidy(pool))
                loop->tidy_at = loop->now + TIDY_NS;
    uint64_t next = proi_wheel_next(&loop->wheel);
    return next < loop->tidy_at ? next : loop->tidy_at;
}

/* Returns how many continuations ran, at least 1 if it was woken, or a negative errno. */
static int turn(struct pro_loop *loop, bool wait)
{
    uint64_t until = 0;
    bool woken = proi_post_take(loop);
    bool flushed = flush(loop);
    loop->stats.turns++;
    if (wait && !woken && !proi_braid_count(&loop->completions) && !loop->stopping)
        until = flushed ? next_due(loop) : loop->now + RETRY_NS;
    if (until && loop->spin_ns && loop->backend->spin(loop, until))
        until = 0;
    if (until && !proi_post_sleep(loop)) /* after the spin, which saves posters the write to the waker */
        until = 0;
    int r = loop->backend->wait(loop, until);
    if (r < 0)
        return r;
    loop->now = loop->backend->now(loop);
    woken |= proi_post_take(loop);
    if (loop->now >= loop->tidy_at)
        tidy(loop);
    expire(loop, DUE_TIMERS);
    r = look(loop);
    if (r < 0)
        return r;
    bool all;
    int ran = (int)dispatch(loop, &all);
    judge(loop, all && r == 0);
    return ran + woken;
}

static bool alive(const struct pro_loop *loop)
{
    return loop->stats.in_flight > loop->background;
}

/* The run is over, and a foreign loop waits for the next to be due. */
static void rest(struct pro_loop *loop)
{
    bool idle = !proi_braid_count(&loop->completions) && !loop->submissions.head && proi_post_sleep(loop);
    loop->backend->pollable_arm(loop, idle ? next_due(loop) : 0);
}

int pro_run(struct pro_loop *loop, enum pro_run_mode mode)
{
    if (proi_guard_forked(loop->guard))
        return -ECHILD;
    proi_loop_check(loop);
    proi_require(!loop->running, "pro_run is called from a continuation");
    int r = 0;
    if (!loop->enabled) {
        loop->guard->owner = proi_self();
        r = loop->backend->enable(loop);
        loop->enabled = r == 0;
    }
    loop->now = loop->backend->now(loop);
    loop->once = mode == PRO_RUN_ONCE;
    loop->running = true;
    while (r >= 0) {
        r = turn(loop, mode != PRO_RUN_NOWAIT && alive(loop));
        if (mode == PRO_RUN_NOWAIT || loop->stopping || !alive(loop) || (loop->once && r > 0))
            break;
    }
    loop->running = false;
    loop->stopping = false;
    if (loop->pollable)
        rest(loop);
    return r < 0 ? r : alive(loop);
}

void pro_stop(struct pro_loop *loop)
{
    proi_loop_check(loop);
    loop->stopping = true;
    proi_loop_note(loop);
}

int pro_loop_fd(struct pro_loop *loop)
{
    proi_loop_check(loop);
    int fd = loop->backend->pollable(loop);
    if (fd >= 0 && !loop->pollable) {
        loop->pollable = true;
        proi_loop_note(loop); /* the first run finds out what there is */
    }
    return fd;
}

/* --- pull-down -------------------------------------------------------------------------------------------------------- */

static void cancel_everything(struct pro_loop *loop)
{
    struct pro_op *op, *closes = NULL;
    for (struct pro_handle *handle = loop->handles; handle; handle = handle->next)
        proi_handle_cancel(handle);
    while ((op = proi_wheel_any(&loop->wheel)) != NULL) {
        if (op->code == PROI_TIMER) {
            proi_op_end(loop, op, -ECANCELED);
            continue;
        }
        time_clear(loop, op); /* its cancel is under way, ... */
        if (op->code == PROI_CLOSE) {
            op->time_next = closes; /* ... but a close is not cancelled */
            closes = op;
        }
    }
    while ((op = closes) != NULL) {
        closes = op->time_next;
        op->time_next = NULL;
        time_set(loop, op, op->time_at);
    }
}

void pro_loop_free(struct pro_loop *loop)
{
    if (!loop)
        return;
    bool forked = proi_guard_forked(loop->guard);
    proi_require(!loop->running, "a loop is freed from one of its continuations");
    if (!forked) {
        proi_loop_check(loop);
        int r = loop->enabled ? 0 : loop->backend->enable(loop);
        loop->running = loop->freeing = true;
        proi_post_close(loop);
        cancel_everything(loop);
        while (r >= 0 && loop->stats.in_flight > 0)
            r = turn(loop, true);
        proi_require(loop->stats.in_flight == 0, "the backend broke; what it holds cannot be given back");
    }
    while (loop->pools) {
        loop->pools->receives = 0;
        loop->pools->starved = NULL;
        proi_pool_detach(loop->pools);
    }
    proi_handles_drop(loop);
    proi_post_fini(loop);
    loop->backend->fini(loop);
    proi_guard_free(loop->guard);
    struct pro_allocator allocator = loop->allocator;
    proi_free(&allocator, loop, sizeof *loop);
}
