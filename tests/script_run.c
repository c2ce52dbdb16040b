/* SPDX-License-Identifier: MIT
 *
 * How scripts are run, from the loop's making to its end. What an operation was given goes with its final completion, and
 * so does the operation, unless it is started again from there. */
#include "runner.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------------
 * The continuation
 * ------------------------------------------------------------------------------------------------------------ */

static void add_done(const struct actor *a, struct pro_result result)
{
    struct runner *r = a->runner;
    struct event e = runner_blank(EVENT_DONE);
    bool final = !(result.flags & PRO_MORE);
    const uint8_t *data = result.slice ? result.slice->data : a->memory;
    e.flight = a->flight;
    e.handle = a->handle;
    e.kind = a->kind;
    e.res = result.res;
    e.flags = result.flags;
    e.slice = result.slice != NULL;
    e.nested = r->calls > 0;
    e.in_flight = pro_op_in_flight(&a->op);
    if (result.slice)
        e.count = result.slice->size;
    else if (a->kind == FLIGHT_RECV && result.res > 0)
        e.count = (uint32_t)result.res;
    e.bytes = e.count > 0 ? history_keep(r->h, data, e.count) : 0;
    if (final && (a->kind == FLIGHT_SEND || a->kind == FLIGHT_SEND_SLICES))
        e.moved = pro_op_bytes(&a->op);
    runner_add(r, e);
}

/* The handle is closed: its memory is ours. */
static void on_closed(struct runner *r, struct actor *a, int res)
{
    struct seat *seat = a->seat;
    memset(seat->handle, 0xa5, sizeof *seat->handle);
    free(seat->handle);
    seat->handle = NULL;
    seat->state = EMPTY;
    if (a->kind != FLIGHT_RELEASE || res < 0)
        return;
    if (r->give_back)
        runner_discard(r, res, seat->end);
    else
        runner_adopt(r, seat, res, seat->end);
}

/* The final has been told: what the operation was given goes, and it may go itself. */
static void on_final(struct runner *r, struct actor *a, int res)
{
    r->flying--;
    if (a->slot < SLOTS)
        r->slots[a->slot] = NULL;
    free(a->memory);
    a->memory = NULL;
    if (a->kind == FLIGHT_CONNECT && res == 0) {
        a->seat->usable = true;
        runner_locate(a->seat);
    }
    if (flight_closes(a->kind))
        on_closed(r, a, res);
    r->reuse = a;
}

void runner_on_actor(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct actor *a = PRO_CONTAINER_OF(op, struct actor, op);
    struct runner *r = a->runner;
    uint8_t then = a->then;
    r->inside = true;
    add_done(a, result);
    a->then = 0;
    if (result.slice)
        runner_hold(r, result.slice, a->way & 1);
    if (flight_receives(a->kind) && a->kind >= FLIGHT_ACCEPT && result.res >= 0)
        runner_accepted(r, result.res);
    if (!(result.flags & PRO_MORE))
        on_final(r, a, result.res);
    if (then && !r->ending)
        runner_perform(r, &r->script->reactions[then - 1]);
    if (r->reuse) {
        memset(r->reuse, 0x5a, sizeof *r->reuse);
        free(r->reuse);
        r->reuse = NULL;
    }
    r->inside = false;
}

/* ------------------------------------------------------------------------------------------------------------
 * The run
 * ------------------------------------------------------------------------------------------------------------ */

static void perform_on(struct runner *r, enum act_what what, unsigned seat, uint32_t amount)
{
    struct act act = {.what = what, .seat = (uint8_t)seat, .slot = NO_SLOT, .amount = amount};
    runner_perform(r, &act);
}

static void close_seats(struct runner *r, unsigned from, unsigned to)
{
    static const enum act_what ways[] = {ACT_CLOSE, ACT_ABORT, ACT_RELEASE, ACT_CLOSE};
    for (unsigned i = from; i < to; i++)
        perform_on(r, ways[(r->script->seed + i) % 4], i, 0);
}

static void cancel_kinds(struct runner *r, unsigned kinds)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (r->slots[i] && kinds & 1u << r->slots[i]->kind)
            runner_cancel(r->slots[i]);
}

static bool any_closing(const struct runner *r)
{
    for (unsigned i = 0; i < SEATS; i++)
        if (r->seats[i].state == CLOSING)
            return true;
    return false;
}

/* Neither end has shut its reading, and both are known: what is sent over it arrives. */
static bool is_sound(const struct runner *r, const struct seat *seat)
{
    return seat->usable && r->peers[seat->end] != NOBODY && !r->deaf[seat->end] && !r->deaf[r->peers[seat->end]];
}

/* Each end receives until the end of the stream, and ends its own when it has sent all. */
static void drain(struct runner *r)
{
    cancel_kinds(r, 1u << FLIGHT_RECV_MULTI | 1u << FLIGHT_ACCEPT | 1u << FLIGHT_ACCEPT_MULTI | 1u << FLIGHT_CONNECT |
                        1u << FLIGHT_POLL | 1u << FLIGHT_POLL_MULTI | 1u << FLIGHT_TIMER | 1u << FLIGHT_TIMER_EVERY);
    RUN_UNTIL(r->w, !any_closing(r));
    for (unsigned i = 0; i < SEATS; i++)
        if (!is_sound(r, &r->seats[i]))
            perform_on(r, ACT_CLOSE, i, 0);
    for (unsigned i = 0; i < SEATS; i++) {
        perform_on(r, ACT_RECV_MULTI, i, PRO_UNLIMITED);
        perform_on(r, ACT_SHUTDOWN, i, 0);
    }
    RUN_UNTIL(r->w, r->flying == 0);
    runner_books(r);
}

/* All that is in flight will have something to say to that. */
static void provoke(struct runner *r)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (r->slots[i] && r->slots[i]->then == 0)
            r->slots[i]->then = (uint8_t)(i + 1);
}

static void end(struct runner *r)
{
    r->ending = r->script->ending != END_FREE;
    if (r->script->ending == END_DRAIN) {
        runner_return(r, HELD);
        drain(r);
    }
    if (r->script->ending == END_FREE)
        provoke(r);
    r->give_back = true;
    if (r->script->ending != END_FREE) {
        cancel_kinds(r, 1u << FLIGHT_TIMER | 1u << FLIGHT_TIMER_EVERY);
        close_seats(r, 0, SEATS);
        RUN_UNTIL(r->w, r->flying == 0);
        runner_books(r);
    }
}

/* The loop, and then what was lent. */
static void pull_down(struct runner *r)
{
    struct pro_pool_stats stats, drained;
    runner_add(r, runner_blank(EVENT_FREE));
    world_shut(r->w);
    for (unsigned i = 0; i < SEATS; i++)
        if (r->seats[i].state != EMPTY)
            free(r->seats[i].handle);
    runner_return(r, HELD);
    pro_pool_stats(r->pool, &stats, sizeof stats);
    pro_pool_stats(r->drain_pool, &drained, sizeof drained);
    struct event e = runner_blank(EVENT_END);
    e.started = stats.slices_lent + stats.buffers_lent + drained.slices_lent + drained.buffers_lent;
    runner_add(r, e);
    while (r->w->pool_count > 0)
        pro_pool_free(r->w->pools[--r->w->pool_count]);
    pro_remote_unref(r->remote);
}

/* Nothing of this changes what a program may observe, but for order, time and pieces. */
static void change_world(const struct script *script, struct world *w)
{
    static const enum pro_sim_fault liberties[] = {
        PRO_SIM_SEGMENT,     PRO_SIM_DELAY,       PRO_SIM_SHORT_SEND,    PRO_SIM_SHORT_RECV, PRO_SIM_INTERRUPT,
        PRO_SIM_VAIN,        PRO_SIM_RECALL,      PRO_SIM_MULTISHOT_END, PRO_SIM_ONE_SHOT,   PRO_SIM_POOL_EMPTY,
        PRO_SIM_SUBMIT_FULL, PRO_SIM_CANCEL_FULL, PRO_SIM_CANCEL_LATE,   PRO_SIM_EARLY_WAKE, PRO_SIM_FEW,
        PRO_SIM_SLOW_CLOSE,  PRO_SIM_FULL,
    };
    static char replay[96];
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    snprintf(replay, sizeof replay, "PROACTOR_BACKEND=sim DIFF_SEED=%llu STRESS=0.001 test_differential",
             (unsigned long long)script->seed);
    config.replay = replay;
    config.seed = script->seed;
    config.front = script->liberties ? PRO_SIM_SEED : PRO_SIM_CALM;
    config.latency_ns = config.jitter_ns = script->liberties ? 20000 : 0;
    for (unsigned i = 0; i < sizeof liberties / sizeof liberties[0]; i++)
        config.rates[liberties[i]] = script->liberties;
    world_sim_change(w, &config);
}

void script_run(const struct script *script, struct world *w, struct history *ret_history)
{
    struct runner *r = calloc(1, sizeof *r);
    if (world_is_sim(w))
        change_world(script, w);
    struct pro_config config = w->config;
    assert_non_null(r);
    w->config.entries = script->config.entries;
    w->config.completion_entries = script->config.completion_entries;
    w->config.turn_completions = script->config.turn_completions;
    w->config.turn_bytes = script->config.turn_bytes;
    w->config.features_off = script->config.features_off;
    w->config.spin_us = script->config.spin_us;
    w->config.min_wait_us = script->config.min_wait_us;
    world_open(w);
    w->config = config;
    r->w = w;
    r->script = script;
    r->trace = getenv("DIFF_TRACE") != NULL;
    r->h = ret_history;
    bool narrow = world_is_uring(w) && script->config.completion_entries;
    r->h->prompt = !script->config.turn_completions && !script->config.turn_bytes && !narrow &&
                   !(world_is_sim(w) && script->liberties);
    r->pool = world_pool(w, &script->pool);
    r->drain_pool = world_pool(w, NULL);
    r->remote = pro_remote_get(w->loop);
    assert_non_null(r->remote);
    for (unsigned i = 0; i < FIRST_ACCEPTED; i++)
        runner_perform(r, &(struct act){.what = ACT_OPEN, .seat = (uint8_t)i, .way = (uint8_t)(script->seed >> i)});
    for (unsigned i = 0; i < script->count; i++)
        runner_perform(r, &script->acts[i]);
    end(r);
    pull_down(r);
    free(r);
}
