/* SPDX-License-Identifier: MIT
 *
 * Two loops, a pulse on each, and up to three acts in every continuation, until there have been enough of them. When an
 * operation has ended its memory is freed, or holds the next one before anything else happens, or it is started again.
 *
 * `busy` is the check that continuations come from a turn of their loop and from nowhere else: it is set in every
 * continuation and around every call made from outside of one. */
#include "sim_deed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MICROSECOND UINT64_C(1000)
#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)

enum { LEAST_RUNS = 300, MORE_RUNS = 700, MOST_RUNS = 10000, LAST_RUNS = 20, STORM = 100000, FIRST_SEATS = 5 };

static const char *const counted[COUNTED] = {
    [ACT_CANCEL] = "act_cancel",   [ACT_CANCEL_TWICE] = "act_cancel_twice",
    [ACT_RESTART] = "act_restart", [ACT_CLOSE] = "act_close",
    [ACT_ABORT] = "act_abort",     [ACT_FREE_OP] = "act_free_op",
    [ACT_PAUSE] = "act_pause",     [ACT_DEADLINE] = "act_deadline",
    [ACT_POST] = "act_post",       [MEMORY_REUSED] = "op_memory_reused",
    [LOOP_FREED] = "loop_freed",
};

bool acts_are_over(const struct acts *a)
{
    return a->runs >= a->budget;
}

/* ---- Operations ---- */

/* Memory for one: of the operation that has just ended, or new. */
static struct deed *deed_memory(struct acts *a)
{
    struct deed *d = a->spare;
    if (d)
        memset(d, 0x5a, sizeof *d);
    a->spare = NULL;
    return d ? d : malloc(sizeof *d);
}

static bool enlist(struct deed *d)
{
    struct acts *a = d->acts;
    unsigned room = a->ending ? DEEDS : DEEDS - SEATS;
    d->index = 0;
    while (d->index < room && a->deeds[d->index])
        d->index++;
    if (d->index == room)
        return false;
    a->deeds[d->index] = d;
    if (d->seat && (d->kind < CLOSE || d->kind > RELEASE))
        d->seat->in_flight++;
    return true;
}

static void delist(struct deed *d)
{
    d->acts->deeds[d->index] = NULL;
    if (d->seat && (d->kind < CLOSE || d->kind > RELEASE))
        d->seat->in_flight--;
}

/* Sets what is new with every start, but not the operation, and starts it. */
static bool begin_again(struct deed *d)
{
    struct acts *a = d->acts;
    d->asked = d->late = d->first = d->doomed = d->pausing = d->known = d->given = false;
    d->deadline = 0;
    if (draw(a, 8) == 0 && d->kind != VERIFY) {
        d->deadline = draw(a, 2) ? 1 : pro_now(a->loops[d->loop]) + draw(a, 1000) * MICROSECOND;
        pro_deadline(&d->op, d->deadline);
    }
    d->background = draw(a, 8) == 0;
    if (d->background)
        pro_op_background(&d->op);
    if (!enlist(d))
        return false;
    if (deed_start(d))
        return true;
    delist(d);
    return false;
}

bool deed_begin(struct acts *a, enum kind kind, struct seat *seat, unsigned loop)
{
    bool reused = a->spare != NULL;
    struct deed *d = a->loops[loop] ? deed_memory(a) : NULL;
    if (!d)
        return false;
    memset(d, 0, offsetof(struct deed, data));
    d->acts = a;
    d->seat = seat;
    d->kind = kind;
    d->loop = loop;
    if (begin_again(d)) {
        a->counts[MEMORY_REUSED] += reused;
        return true;
    }
    free(d);
    return false;
}

/* ---- Loops ---- */

static struct pro_loop *make_loop(struct acts *a)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    config.backend = PRO_BACKEND_SIM;
    config.sim = a->sim;
    config.allocator = pro_sim_allocator(a->sim);
    if (draw(a, 4) > 0) {
        config.turn_completions = draw(a, 2) ? 2 : 2 + draw(a, 8);
        config.turn_bytes = 1 + draw(a, 10000);
    }
    while (pro_loop_new(&config, &loop) < 0) /* a fault; the next time it may be there */
        continue;
    return loop;
}

static pro_fn on_pulse;

static void open_loop(struct acts *a, unsigned loop)
{
    a->loops[loop] = make_loop(a);
    while (!(a->remotes[loop] = pro_remote_get(a->loops[loop])))
        continue;
    seat_listener(a, loop);
    pro_timer_after(a->loops[loop], &a->pulses[loop].op, 0, on_pulse);
}

static uint64_t in_flight(const struct acts *a, unsigned loop)
{
    struct pro_stats stats = {0};
    if (a->loops[loop])
        pro_loop_stats(a->loops[loop], &stats, sizeof stats);
    return stats.in_flight;
}

static void free_loop(struct acts *a, unsigned loop)
{
    struct pro_op unused = {0};
    a->counts[LOOP_FREED] += in_flight(a, loop) > 0;
    a->freeing[loop] = true;
    pro_loop_free(a->loops[loop]);
    for (unsigned i = 0; i < SEATS; i++)
        if (a->seats[i] && a->seats[i]->loop == loop)
            seat_lost(a->seats[i]);
    for (unsigned i = 0; i < DEEDS; i++)
        if (a->deeds[i] && a->deeds[i]->loop == loop)
            pro_sim_fail(a->sim, "a loop is gone, and kind %d has not ended", a->deeds[i]->kind);
    a->loops[loop] = NULL;
    a->freeing[loop] = false;
    if (pro_post(a->remotes[loop], &unused, on_pulse) != -ESHUTDOWN)
        pro_sim_fail(a->sim, "a loop is gone, and takes a post");
    pro_remote_unref(a->remotes[loop]);
}

/* ---- Acts ---- */

static struct deed *any_deed(struct acts *a)
{
    bool there = draw(a, 2) == 0 && a->seats[a->focus];
    unsigned first = draw(a, DEEDS);
    for (unsigned i = 0; i < DEEDS; i++) {
        struct deed *d = a->deeds[(first + i) % DEEDS];
        if (d && (!there || d->seat == a->seats[a->focus]))
            return d;
    }
    return NULL;
}

static struct seat *any_seat(struct acts *a)
{
    if (draw(a, 40) == 0)
        a->focus = draw(a, SEATS);
    unsigned first = draw(a, 2) == 0 ? a->focus : draw(a, SEATS);
    for (unsigned i = 0; i < SEATS; i++)
        if (a->seats[(first + i) % SEATS])
            return a->seats[(first + i) % SEATS];
    return NULL;
}

static void act_start(struct acts *a)
{
    struct seat *seat = any_seat(a);
    enum kind kind = seat ? deed_choose(a, seat) : KINDS;
    if (kind != KINDS)
        (void)deed_begin(a, kind, seat, seat->loop);
}

static void ask(struct deed *d)
{
    bool late = d->late || (d->deadline > 0 && d->deadline <= pro_now(d->acts->loops[d->loop]));
    d->first |= !d->asked && !late;
    d->asked = true;
}

static void cancel(struct deed *d)
{
    struct acts *a = d->acts;
    a->counts[d->asked ? ACT_CANCEL_TWICE : ACT_CANCEL]++;
    ask(d);
    pro_cancel(&d->op);
}

static void act_cancel(struct acts *a)
{
    struct deed *d = any_deed(a);
    if (d && d->kind == RECV_ALL &&
        draw(a, 2) == 0) /* what it has is not lost, and comes before what the next one gets */
        (void)deed_begin(a, RECV, d->seat, d->loop);
    for (uint32_t times = 1 + draw(a, 2); d && times > 0; times--)
        cancel(d);
}

static void act_cancel_all(struct acts *a)
{
    struct seat *seat = any_seat(a);
    if (!seat || draw(a, 3) > 0)
        return;
    for (unsigned i = 0; i < DEEDS; i++)
        if (a->deeds[i] && a->deeds[i]->seat == seat)
            ask(a->deeds[i]);
    pro_cancel_all(&seat->handle);
}

static void act_deadline(struct acts *a)
{
    struct deed *d = any_deed(a);
    if (!d || d->kind == VERIFY)
        return;
    uint64_t now = pro_now(a->loops[d->loop]);
    const uint64_t times[] = {0, 1, now, now + draw(a, 1000) * MICROSECOND, now + SECOND, PRO_NEVER};
    d->late |= d->deadline > 0 && d->deadline <= now;
    d->deadline = times[draw(a, 6)];
    a->counts[ACT_DEADLINE]++;
    pro_deadline(&d->op, d->deadline);
}

static void act_credit(struct acts *a)
{
    struct deed *d = any_deed(a);
    if (!d || d->kind != RECV_MULTI)
        return;
    if (draw(a, 3) > 0) {
        deed_credit(d, draw(a, 4) > 0 ? draw(a, 3000) : PRO_UNLIMITED);
    } else {
        a->counts[ACT_PAUSE]++;
        deed_pause(d);
        if (draw(a, 2) == 0) /* before it is answered */
            deed_credit(d, 1 + draw(a, 3000));
    }
}

static void act_close(struct acts *a)
{
    struct seat *seat = any_seat(a);
    if (seat)
        (void)deed_begin(a, (enum kind)(CLOSE + draw(a, 3)), seat, seat->loop);
}

static void act_slices(struct acts *a)
{
    struct pro_slice *slice = take_slice(a), *tail = NULL;
    if (!slice)
        return;
    if (slice->size > 1 && a->kept_count + 2 <= KEPT &&
        pro_slice_split(slice, 1 + draw(a, slice->size - 1), &tail) == 0) {
        tail->charge = slice->charge;
        a->kept[a->kept_count++] = slice;
        a->kept[a->kept_count++] = tail;
    } else {
        pro_slice_return(slice);
    }
}

static void act_timer(struct acts *a)
{
    (void)deed_begin(a, draw(a, 3) > 0 ? TIMER : TIMER_EVERY, NULL, a->running);
}

static void act_post(struct acts *a)
{
    (void)deed_begin(a, POST, NULL, draw(a, LOOPS));
}

static void act_send_now(struct acts *a)
{
    struct seat *seat = any_seat(a);
    if (seat && seat->wire && !seat->failed && (seat->type == STREAM || seat->type == DATAGRAMS))
        act_try_send(a, seat);
}

static void act_seat(struct acts *a)
{
    if (!a->ending)
        seat_something(a);
}

/* The loop that does not run this continuation is freed, and there is another in its place. While it comes down other
 * loops of the world take turns. */
static void act_free_loop(struct acts *a)
{
    unsigned running = a->running, other = (running + 1) % LOOPS;
    if (a->ending || a->freeing[running] || draw(a, 40) > 0)
        return;
    a->busy = false;
    free_loop(a, other);
    a->busy = true;
    a->running = running;
    open_loop(a, other);
}

static void act(struct acts *a)
{
    static void (*const acts[])(struct acts *) = {
        act_start, act_start,  act_start,  act_start,      act_start,    act_start,    act_start,  act_start,
        act_start, act_cancel, act_cancel, act_cancel_all, act_deadline, act_deadline, act_credit, act_credit,
        act_close, act_slices, act_timer,  act_post,       act_send_now, act_seat,     act_seat,   act_free_loop};
    acts[draw(a, sizeof acts / sizeof acts[0])](a);
}

/* ---- Continuations ---- */

static void enter(struct acts *a, const struct pro_loop *loop, unsigned expected)
{
    if (a->busy)
        pro_sim_fail(a->sim, "a continuation is called from within a call");
    if (loop != a->loops[expected])
        pro_sim_fail(a->sim, "a continuation is called by another loop");
    a->busy = true;
    a->running = expected;
    if (++a->runs > STORM)
        pro_sim_fail(a->sim, "continuations are called again and again");
}

static void leave(struct acts *a)
{
    for (uint32_t left = acts_are_over(a) ? 0 : draw(a, 4); left > 0; left--)
        act(a);
    a->busy = false;
}

/* What becomes of the memory of an operation that has ended. */
static void dispose(struct deed *d)
{
    struct acts *a = d->acts;
    bool closed = d->kind >= CLOSE && d->kind <= RELEASE;
    uint32_t fate = acts_are_over(a) ? 3 : draw(a, 4);
    if (fate == 0 && !closed && d->kind != CONNECT && !(d->seat && d->seat->failed)) {
        if (begin_again(d)) {
            a->counts[ACT_RESTART]++;
            return;
        }
    } else if (fate == 1) {
        a->spare = d;
        act_start(a);
        if (!a->spare)
            return;
        a->spare = NULL;
    }
    a->counts[ACT_FREE_OP]++;
    memset(d, 0x5a, sizeof *d);
    free(d);
}

void on_deed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct deed *d = PRO_CONTAINER_OF(op, struct deed, op);
    struct acts *a = d->acts;
    bool final = !(r.flags & PRO_MORE);
    enter(a, loop, d->loop);
    if (a->deeds[d->index] != d || pro_op_in_flight(op) == final)
        pro_sim_fail(a->sim, "kind %d completes, and is %s flight", d->kind, pro_op_in_flight(op) ? "in" : "in no");
    if (final)
        delist(d);
    deed_judge(d, r);
    if (final && d->kind >= CLOSE && d->kind <= RELEASE)
        seat_closed(d->seat, d->kind == RELEASE ? r.res : -1);
    if (final && d->kind == VERIFY && r.res > 0)
        (void)begin_again(d);
    else if (final)
        dispose(d);
    leave(a);
}

static void on_pulse(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pulse *pulse = PRO_CONTAINER_OF(op, struct pulse, op);
    struct acts *a = pulse->acts;
    enter(a, loop, (unsigned)(pulse - a->pulses));
    if (r.res == 0 && !acts_are_over(a))
        pro_timer_after(loop, op, draw(a, 2000) * MICROSECOND, on_pulse);
    leave(a);
}

/* ---- The beginning ---- */

static void make_pools(struct acts *a)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = a->buffer_size = 256 + draw(a, 2000);
    config.slab_buffers = 1 + draw(a, 4);
    config.max_buffers = 2 + draw(a, 16);
    config.quota_buffers = a->quota = 1 + draw(a, 6);
    for (unsigned i = 0; i < LOOPS; i++)
        while (pro_pool_new(a->loops[i], &config, &a->pools[i]) < 0)
            continue;
}

struct acts *acts_begin(struct pro_sim *sim, struct hits *hits)
{
    struct acts *a;
    while (!(a = calloc(1, sizeof *a)))
        continue;
    a->sim = sim;
    a->hits = hits;
    a->busy = true;
    bool long_run = draw(a, 10) == 9;
    a->budget = LEAST_RUNS + draw(a, long_run ? MOST_RUNS : MORE_RUNS);
    for (unsigned i = 0; i < LOOPS; i++) {
        a->pulses[i].acts = a;
        open_loop(a, i);
    }
    make_pools(a);
    for (unsigned i = 0; i < FIRST_SEATS; i++)
        seat_something(a);
    a->busy = false;
    return a;
}

/* ---- The end ---- */

/* A run says whether something is in flight that is not in the background. */
static void check_run(struct acts *a, unsigned loop)
{
    bool alive = false;
    int r = pro_run(a->loops[loop], PRO_RUN_NOWAIT);
    for (unsigned i = 0; i < DEEDS; i++)
        alive |= a->deeds[i] && a->deeds[i]->loop == loop && !a->deeds[i]->background;
    if (r != alive)
        pro_sim_fail(a->sim, "a run returns %d, and %s is in flight", r, alive ? "something" : "nothing");
}

/* In the calm everything gets on that can, for a time in which whoever was sent away has come again. */
static void wait_for_most(struct acts *a)
{
    uint64_t end = pro_sim_now(a->sim) + 4 * SECOND;
    pro_sim_run(a->sim, pro_sim_now(a->sim) + 10 * MILLISECOND); /* the pulses are over */
    for (unsigned i = 0; i < LOOPS; i++)
        pro_timer_after(a->loops[i], &a->pulses[i].op, 3 * SECOND, on_pulse);
    while (pro_op_in_flight(&a->pulses[0].op) || pro_op_in_flight(&a->pulses[1].op)) {
        pro_sim_run(a->sim, pro_sim_now(a->sim) + 100 * MILLISECOND);
        if (pro_sim_now(a->sim) > end)
            pro_sim_fail(a->sim, "a timer does not end");
    }
    deeds_that_wait(a);
    for (unsigned i = 0; i < LOOPS; i++)
        check_run(a, i);
}

/* What was told to end ends. */
static void wait_for_all(struct acts *a)
{
    uint64_t bound = pro_sim_now(a->sim) + 10 * SECOND;
    while (in_flight(a, 0) + in_flight(a, 1) > 0) {
        int r = pro_sim_run(a->sim, pro_sim_now(a->sim) + 10 * MILLISECOND);
        uint64_t left = in_flight(a, 0) + in_flight(a, 1);
        if (left > 0 && (r == 0 || pro_sim_now(a->sim) > bound))
            pro_sim_fail(a->sim, "%llu operations do not end, though they were told to", (unsigned long long)left);
    }
}

/* All, or those that end with no handle. */
static void cancel_deeds(struct acts *a, bool all)
{
    a->busy = true;
    for (unsigned i = 0; i < DEEDS; i++) {
        if (!a->deeds[i] || (a->deeds[i]->seat && !all))
            continue;
        a->deeds[i]->asked = true;
        pro_cancel(&a->deeds[i]->op);
    }
    for (unsigned i = 0; i < LOOPS; i++)
        pro_cancel(&a->pulses[i].op);
    a->busy = false;
}

static void verify_papers(struct acts *a)
{
    a->busy = true;
    for (unsigned i = 0; i < SEATS; i++)
        if (a->seats[i] && a->seats[i]->paper)
            while (!deed_begin(a, VERIFY, a->seats[i], a->seats[i]->loop))
                continue;
    a->busy = false;
}

static void close_all(struct acts *a)
{
    a->busy = true;
    for (unsigned i = 0; i < SEATS; i++)
        if (a->seats[i] && !a->seats[i]->closing)
            while (!deed_begin(a, CLOSE, a->seats[i], a->seats[i]->loop))
                continue;
    a->busy = false;
}

static void come_to_rest(struct acts *a, bool verify)
{
    struct pro_slice *slice;
    a->busy = true;
    while ((slice = take_slice(a)) != NULL)
        pro_slice_return(slice);
    a->busy = false;
    wait_for_most(a);
    cancel_deeds(a, verify);
    if (verify) {
        wait_for_all(a);
        verify_papers(a);
        wait_for_all(a);
    }
    close_all(a);
    wait_for_all(a);
}

/* In any order: a pool outlives its loop, and is gone when its last slice is back. */
static void return_slices(struct acts *a)
{
    struct pro_slice *slice;
    unsigned left = LOOPS;
    do {
        if (left > 0 && draw(a, 8) == 0)
            pro_pool_free(a->pools[--left]);
        slice = take_slice(a);
        if (slice)
            pro_slice_return(slice);
    } while (slice);
    while (left > 0)
        pro_pool_free(a->pools[--left]);
}

void acts_end(struct acts *a)
{
    uint32_t manner = draw(a, 3);
    a->ending = true;
    a->budget = 0;
    if (manner == 0) /* its loops are freed under it, while it still acts */
        a->budget = a->runs + LAST_RUNS;
    else
        come_to_rest(a, manner == 1);
    for (unsigned i = 0; i < LOOPS; i++)
        free_loop(a, i);
    return_slices(a);
    for (unsigned i = 0; i < COUNTED; i++)
        hits_add(a->hits, counted[i], a->counts[i]);
    free(a);
}
