/* SPDX-License-Identifier: MIT
 *
 * What a script can do. Everything an operation is given has memory of its own, exactly as much as was asked for. */
#include "runner.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

static void *exactly(size_t size)
{
    void *memory = malloc(size);
    assert_non_null(memory);
    return memory;
}

static void add_for(struct runner *r, enum event_what what, const struct actor *a, uint32_t size, uint64_t at)
{
    struct event e = runner_blank(what);
    e.flight = a->flight;
    e.handle = a->handle;
    e.kind = a->kind;
    e.size = size;
    e.at = at;
    runner_add(r, e);
}

/* ------------------------------------------------------------------------------------------------------------
 * Slices
 * ------------------------------------------------------------------------------------------------------------ */

void runner_hold(struct runner *r, struct pro_slice *slice, bool keep)
{
    if (keep && r->held_count < HELD && !r->ending)
        r->held[r->held_count++] = slice;
    else
        pro_slice_return(slice);
}

/* The oldest. */
static struct pro_slice *take(struct runner *r)
{
    if (r->held_count == 0)
        return NULL;
    struct pro_slice *slice = r->held[0];
    memmove(r->held, r->held + 1, --r->held_count * sizeof *r->held);
    return slice;
}

void runner_return(struct runner *r, uint32_t slices)
{
    struct event e = runner_blank(EVENT_RETURN);
    for (; e.size < slices && r->held_count > 0; e.size++)
        pro_slice_return(take(r));
    runner_add(r, e);
}

static void do_return(struct runner *r, const struct act *act)
{
    if (r->held_count > 0)
        runner_return(r, act->amount);
}

static void do_split(struct runner *r, const struct act *act)
{
    struct pro_slice *slice = r->held_count > 0 && r->held_count < HELD ? r->held[0] : NULL, *tail = NULL;
    struct event e = runner_blank(EVENT_SPLIT);
    if (!slice || slice->size < 2)
        return;
    e.size = 1 + act->way % (slice->size - 1);
    e.res = pro_slice_split(slice, e.size, &tail);
    if (e.res == 0)
        r->held[r->held_count++] = tail;
    runner_add(r, e);
}

/* ------------------------------------------------------------------------------------------------------------
 * Starts
 * ------------------------------------------------------------------------------------------------------------ */

static uint64_t lateness(const struct runner *r, const struct act *act)
{
    uint64_t now = pro_now(r->w->loop);
    switch (act->lateness) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
        return now + 1000000000;
    default:
        return now + act->amount % 200000;
    }
}

/* An idle operation: that of the running continuation, or a new one. NULL if no slot is free. */
static struct actor *idle_actor(struct runner *r, const struct act *act)
{
    unsigned slot = act->slot;
    for (unsigned i = 0; slot < SLOTS && r->slots[slot]; i++) {
        if (i == SLOTS)
            return NULL;
        slot = (slot + 1) % SLOTS;
    }
    struct actor *a = r->reuse ? r->reuse : calloc(1, sizeof *a);
    assert_non_null(a);
    r->reuse = NULL;
    a->runner = r;
    a->slot = (uint8_t)slot;
    if (slot < SLOTS)
        r->slots[slot] = a;
    return a;
}

static struct event starting(enum flight_kind kind, uint32_t size)
{
    struct event e = runner_blank(EVENT_START);
    e.kind = kind;
    e.size = size;
    return e;
}

/* Makes `a` ready for a start, which follows, and notes that. */
static void launch(struct actor *a, const struct act *act, struct seat *seat, struct event e)
{
    struct runner *r = a->runner;
    a->seat = seat;
    a->kind = e.kind;
    a->then = act->then;
    a->way = act->way;
    a->flight = r->flights++;
    a->handle = seat ? seat->number : NOBODY;
    e.flight = a->flight;
    e.handle = a->handle;
    e.preset = e.kind == FLIGHT_POST ? 0 : lateness(r, act);
    if (e.preset)
        pro_deadline(&a->op, e.preset);
    r->flying++;
    runner_add(r, e);
}

/* A seat where something may be started; also one that is closing, where it is to be refused. */
static struct seat *seat_of(struct runner *r, const struct act *act)
{
    struct seat *seat = &r->seats[act->seat];
    return seat->state != EMPTY && seat->usable ? seat : NULL;
}

static void do_recv(struct runner *r, const struct act *act)
{
    struct seat *seat = seat_of(r, act);
    struct actor *a = seat ? idle_actor(r, act) : NULL;
    struct event e = starting(FLIGHT_RECV, act->amount);
    if (!a)
        return;
    e.flags = act->what == ACT_RECV_ALL ? PRO_RECV_ALL : 0;
    a->memory = exactly(e.size);
    launch(a, act, seat, e);
    pro_recv(seat->handle, &a->op, a->memory, e.size, e.flags, runner_on_actor);
}

static void do_recv_multi(struct runner *r, const struct act *act)
{
    struct seat *seat = seat_of(r, act);
    struct actor *a = seat ? idle_actor(r, act) : NULL;
    if (!a)
        return;
    launch(a, act, seat, starting(FLIGHT_RECV_MULTI, act->amount));
    pro_recv_multi(seat->handle, &a->op, r->ending ? r->drain_pool : r->pool, act->amount, runner_on_actor);
}

static void do_accept(struct runner *r, const struct act *act)
{
    struct seat *seat = &r->seats[LISTENER];
    struct actor *a = seat->state != EMPTY ? idle_actor(r, act) : NULL;
    struct event e = starting(act->what == ACT_ACCEPT ? FLIGHT_ACCEPT : FLIGHT_ACCEPT_MULTI, 0);
    if (!a)
        return;
    launch(a, act, seat, e);
    if (e.kind == FLIGHT_ACCEPT)
        pro_accept(seat->handle, &a->op, runner_on_actor);
    else
        pro_accept_multi(seat->handle, &a->op, runner_on_actor);
}

static void do_connect(struct runner *r, const struct act *act)
{
    struct seat *seat = &r->seats[act->seat], *listener = &r->seats[LISTENER];
    bool may = seat->state == OPEN && seat->fresh && listener->state != EMPTY;
    struct actor *a = may ? idle_actor(r, act) : NULL;
    struct event e = starting(FLIGHT_CONNECT, 0);
    if (!a)
        return;
    e.target = listener->end;
    a->memory = exactly(listener->length);
    memcpy(a->memory, &listener->address, listener->length);
    seat->fresh = false;
    launch(a, act, seat, e);
    pro_connect(seat->handle, &a->op, (struct sockaddr *)(void *)a->memory, listener->length, runner_on_actor);
}

static void do_send(struct runner *r, const struct act *act)
{
    struct seat *seat = seat_of(r, act);
    struct actor *a = seat ? idle_actor(r, act) : NULL;
    struct event e = starting(FLIGHT_SEND, act->amount);
    if (!a)
        return;
    e.count = e.size;
    a->memory = exactly(e.size);
    pattern_fill(a->memory, e.size, r->position);
    r->position += e.size;
    e.bytes = history_keep(r->h, a->memory, e.size);
    uint32_t cut = e.size / (1 + act->way % 5);
    a->iov[0] = (struct iovec){a->memory, cut};
    a->iov[1] = (struct iovec){a->memory, 0};
    a->iov[2] = (struct iovec){a->memory + cut, e.size - cut};
    launch(a, act, seat, e);
    pro_send(seat->handle, &a->op, a->iov, cut < e.size ? 3 : 1, act->way & 128 ? PRO_SEND_MORE : 0, runner_on_actor);
}

static void do_send_slices(struct runner *r, const struct act *act)
{
    struct seat *seat = r->held_count > 0 ? seat_of(r, act) : NULL;
    struct actor *a = seat ? idle_actor(r, act) : NULL;
    struct pro_slice *list = NULL, **last = &list;
    struct event e = starting(FLIGHT_SEND_SLICES, 0);
    if (!a)
        return;
    e.bytes = r->h->byte_count;
    for (uint32_t i = 0; i < act->amount && r->held_count > 0; i++) {
        *last = take(r);
        history_keep(r->h, (*last)->data, (*last)->size);
        e.size += (*last)->size;
        last = &(*last)->next;
    }
    *last = NULL;
    e.count = e.size;
    launch(a, act, seat, e);
    pro_send_slices(seat->handle, &a->op, list, runner_on_actor);
}

static void do_try_send(struct runner *r, const struct act *act)
{
    struct seat *seat = seat_of(r, act);
    uint8_t *data = exactly(act->amount);
    struct event e = starting(FLIGHT_TRY_SEND, act->amount);
    if (seat) {
        pattern_fill(data, act->amount, r->position);
        r->position += act->amount;
        e.flight = r->flights++;
        e.handle = seat->number;
        e.count = e.size;
        e.bytes = history_keep(r->h, data, act->amount);
        runner_add(r, e);
        e.what = EVENT_DONE;
        e.res = pro_try_send(seat->handle, data, act->amount);
        e.moved = e.res > 0 ? (uint32_t)e.res : 0;
        e.count = 0;
        runner_add(r, e);
    }
    free(data);
}

static void do_shutdown(struct runner *r, const struct act *act)
{
    static const int ways[] = {SHUT_WR, SHUT_WR, SHUT_RD, SHUT_RDWR};
    struct seat *seat = seat_of(r, act);
    struct actor *a = seat ? idle_actor(r, act) : NULL;
    struct event e = starting(FLIGHT_SHUTDOWN, (uint32_t)ways[act->way % 4]);
    if (!a)
        return;
    r->deaf[seat->end] |= e.size != SHUT_WR;
    launch(a, act, seat, e);
    pro_shutdown(seat->handle, &a->op, (int)e.size, runner_on_actor);
}

static void do_poll(struct runner *r, const struct act *act)
{
    static const unsigned events[] = {POLLIN, POLLOUT, POLLIN | POLLRDHUP, POLLIN | POLLOUT};
    struct seat *seat = seat_of(r, act);
    struct actor *a = seat ? idle_actor(r, act) : NULL;
    struct event e = starting(act->what == ACT_POLL ? FLIGHT_POLL : FLIGHT_POLL_MULTI, events[act->way % 4]);
    if (!a)
        return;
    launch(a, act, seat, e);
    if (e.kind == FLIGHT_POLL)
        pro_poll(seat->handle, &a->op, e.size, runner_on_actor);
    else
        pro_poll_multi(seat->handle, &a->op, e.size, runner_on_actor);
}

static void do_timer(struct runner *r, const struct act *act)
{
    struct actor *a = idle_actor(r, act);
    struct event e = starting(act->what == ACT_TIMER ? FLIGHT_TIMER : FLIGHT_TIMER_EVERY, 0);
    if (!a)
        return;
    e.at = (pro_now(r->w->loop) + act->amount) / QUANTUM_NS * QUANTUM_NS;
    e.every = act->amount;
    launch(a, act, NULL, e);
    if (e.kind == FLIGHT_TIMER)
        pro_timer(r->w->loop, &a->op, e.at, runner_on_actor);
    else
        pro_timer_every(r->w->loop, &a->op, e.at, e.every, runner_on_actor);
}

static void do_post(struct runner *r, const struct act *act)
{
    struct actor *a = r->give_back ? NULL : idle_actor(r, act); /* a loop that is freed takes none */
    if (!a)
        return;
    launch(a, act, NULL, starting(FLIGHT_POST, 0));
    assert_int_equal(pro_post(r->remote, &a->op, runner_on_actor), 0);
}

static void do_close(struct runner *r, const struct act *act)
{
    static const struct {
        enum flight_kind kind;
        void (*start)(struct pro_handle *handle, struct pro_op *op, pro_fn *done);
    } ways[ACTS] = {
        [ACT_CLOSE] = {FLIGHT_CLOSE, pro_close},
        [ACT_ABORT] = {FLIGHT_ABORT, pro_abort},
        [ACT_RELEASE] = {FLIGHT_RELEASE, pro_release},
    };
    struct seat *seat = &r->seats[act->seat];
    struct actor *a = seat->state == OPEN ? idle_actor(r, act) : NULL;
    if (!a)
        return;
    seat->state = CLOSING;
    launch(a, act, seat, starting(ways[act->what].kind, 0));
    ways[act->what].start(seat->handle, &a->op, runner_on_actor);
}

/* ------------------------------------------------------------------------------------------------------------
 * What is asked of operations in flight
 * ------------------------------------------------------------------------------------------------------------ */

/* The first in flight from the slot on; of the kind, if that is asked for. */
static struct actor *busy_actor(struct runner *r, const struct act *act, bool multi_receives)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct actor *a = r->slots[(act->slot + i) % SLOTS];
        if (a && (!multi_receives || a->kind == FLIGHT_RECV_MULTI))
            return a;
    }
    return NULL;
}

void runner_cancel(struct actor *a)
{
    add_for(a->runner, EVENT_CANCEL, a, 0, 0);
    pro_cancel(&a->op);
}

static void do_cancel(struct runner *r, const struct act *act)
{
    struct actor *a = busy_actor(r, act, false);
    if (a)
        runner_cancel(a);
}

static void do_cancel_all(struct runner *r, const struct act *act)
{
    struct seat *seat = &r->seats[act->seat];
    struct event e = runner_blank(EVENT_CANCEL_ALL);
    if (seat->state == EMPTY)
        return;
    e.handle = seat->number;
    runner_add(r, e);
    pro_cancel_all(seat->handle);
}

static void do_deadline(struct runner *r, const struct act *act)
{
    struct actor *a = busy_actor(r, act, false);
    uint64_t at = lateness(r, act);
    if (!a || a->kind == FLIGHT_POST)
        return;
    add_for(r, EVENT_DEADLINE, a, 0, at);
    pro_deadline(&a->op, at);
}

static void do_credit(struct runner *r, const struct act *act)
{
    struct actor *a = busy_actor(r, act, true);
    if (!a)
        return;
    add_for(r, EVENT_CREDIT, a, act->amount, 0);
    pro_recv_credit(&a->op, act->amount);
}

static void do_pause(struct runner *r, const struct act *act)
{
    struct actor *a = busy_actor(r, act, true);
    if (!a)
        return;
    add_for(r, EVENT_PAUSE, a, 0, 0);
    pro_recv_pause(&a->op);
}

static void do_turns(struct runner *r, const struct act *act)
{
    r->calls--;
    world_turns(r->w, act->amount);
    r->calls++;
    runner_books(r);
}

/* Until a timer has fired. */
static void do_wait(struct runner *r, const struct act *act)
{
    struct act timer = {.what = ACT_TIMER, .slot = NO_SLOT, .amount = act->amount};
    uint16_t flight = r->flights;
    bool fired = false;
    do_timer(r, &timer);
    r->calls--;
    for (unsigned turns = 0; !fired; turns++) {
        size_t seen = r->h->count;
        assert_true(turns < 100000);
        assert_true(world_run(r->w, PRO_RUN_ONCE) >= 0);
        for (size_t i = seen; i < r->h->count; i++)
            fired |= r->h->events[i].what == EVENT_DONE && r->h->events[i].flight == flight;
    }
    r->calls++;
    runner_books(r);
}

void runner_perform(struct runner *r, const struct act *act)
{
    static void (*const ways[ACTS])(struct runner *, const struct act *) = {
        [ACT_RECV] = do_recv,
        [ACT_RECV_ALL] = do_recv,
        [ACT_RECV_MULTI] = do_recv_multi,
        [ACT_ACCEPT] = do_accept,
        [ACT_ACCEPT_MULTI] = do_accept,
        [ACT_CONNECT] = do_connect,
        [ACT_SEND] = do_send,
        [ACT_SEND_SLICES] = do_send_slices,
        [ACT_TRY_SEND] = do_try_send,
        [ACT_SHUTDOWN] = do_shutdown,
        [ACT_POLL] = do_poll,
        [ACT_POLL_MULTI] = do_poll,
        [ACT_TIMER] = do_timer,
        [ACT_TIMER_EVERY] = do_timer,
        [ACT_POST] = do_post,
        [ACT_CLOSE] = do_close,
        [ACT_ABORT] = do_close,
        [ACT_RELEASE] = do_close,
        [ACT_CANCEL] = do_cancel,
        [ACT_CANCEL_ALL] = do_cancel_all,
        [ACT_DEADLINE] = do_deadline,
        [ACT_CREDIT] = do_credit,
        [ACT_PAUSE] = do_pause,
        [ACT_RETURN] = do_return,
        [ACT_SPLIT] = do_split,
        [ACT_OPEN] = runner_open,
        [ACT_TURNS] = do_turns,
        [ACT_WAIT] = do_wait,
    };
    if (act->what == ACT_NONE)
        return;
    r->calls++;
    ways[act->what](r, act);
    r->calls--;
}
