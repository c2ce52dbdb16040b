/* SPDX-License-Identifier: MIT
 *
 * How it becomes known. */
#include "model_facts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Turns and what is between them, counted on: the insides of turn 3, then outside, then the insides of turn 4. */
static uint64_t moment(const struct event *e)
{
    return 2 * e->turn + !e->inside;
}

/* Whether the deadline that holds may have taken effect by `e`: that happens at the end of a turn. */
static bool may_have_passed(const struct flight *f, const struct event *e)
{
    return f->deadline && f->deadline <= e->now && moment(e) > moment(f->set);
}

/* Whether a turn surely came to its end with nothing left to tell; what is left goes before deadlines. */
static bool is_worked_off(const struct model *m, uint64_t turn)
{
    unsigned completions = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->h->count; i++)
        if (m->h->events[i].turn == turn && m->h->events[i].what == EVENT_DONE) {
            completions++;
            bytes += m->h->events[i].count;
        }
    return m->h->prompt && completions < 128 && bytes < 65536;
}

uint64_t facts_late_since(const struct model *m, const struct flight *f, const struct event *e)
{
    for (const struct event *seen = f->set; f->deadline && seen < e; seen++)
        if (f->deadline <= seen->now) {
            /* That one sees it; of a send that has been tried and waits, and of what was set to be over, the next. What
             * is about to be tried then is tried once more. */
            uint64_t turn = seen->turn + (!seen->inside || moment(seen) == moment(f->set)) + is(f->start, STREAM_SENDS);
            turn += !is(f->start, TIMERS | CLOSES);
            return moment(e) > 2 * turn && is_worked_off(m, turn - 1) && is_worked_off(m, turn) ? turn : 0;
        }
    return 0;
}

bool facts_may_be_ending(const struct flight *f, const struct event *e)
{
    return f->cancel || f->may_be_late || may_have_passed(f, e);
}

static bool is_cut(const struct flight *f)
{
    return f->final && f->final->res < 0 && f->final->moved > 0 && f->final->moved < f->start->size;
}

/* ------------------------------------------------------------------------------------------------------------
 * Gathering
 * ------------------------------------------------------------------------------------------------------------ */

static void first(const struct event **at, const struct event *e)
{
    if (!*at)
        *at = e;
}

static unsigned more(unsigned count, uint16_t number)
{
    return number != NOBODY && number >= count ? number + 1u : count;
}

static void count(struct model *m)
{
    for (size_t i = 0; i < m->h->count; i++) {
        const struct event *e = &m->h->events[i];
        m->flight_count = more(m->flight_count, e->flight);
        m->handle_count = more(m->handle_count, e->handle);
        m->end_count = more(m->end_count, e->end);
    }
    m->flights = calloc(m->flight_count + 1u, sizeof *m->flights);
    m->handles = calloc(m->handle_count + 1u, sizeof *m->handles);
    m->ends = calloc(m->end_count + 1u, sizeof *m->ends);
    if (!m->flights || !m->handles || !m->ends)
        abort();
    for (unsigned i = 0; i < m->end_count; i++)
        m->ends[i].peer = m->ends[i].target = NOBODY;
}

/* An end, known or not known, of a connection. */
static void gather_end(struct model *m, const struct event *e)
{
    if (e->what == EVENT_DISCARD)
        first(e->end == NOBODY ? &m->lost : &m->ends[e->end].closed, e);
    if (e->end != NOBODY && e->peer != NOBODY) {
        m->ends[e->end].peer = e->peer;
        m->ends[e->peer].peer = e->end;
    }
}

/* A close that is told to hurry resets the connection. */
static void gather_hurry(struct model *m, const struct event *e)
{
    for (unsigned i = 0; i < m->flight_count; i++) {
        struct flight *f = &m->flights[i];
        bool told = e->what == EVENT_CANCEL_ALL ? f->start && f->start->handle == e->handle : i == e->flight;
        if (told && in_flight(f, e) && f->start->kind == FLIGHT_CLOSE && end_of(m, f->start))
            first(&end_of(m, f->start)->aborted, e);
    }
}

static void gather_start(struct model *m, const struct event *e)
{
    struct end *end = end_of(m, e);
    first(&flight_of(m, e)->start, e);
    if (flight_closes(e->kind))
        first(&m->handles[e->handle].closing, e);
    if (end && e->kind == FLIGHT_CONNECT)
        end->target = e->target;
    if (end && is(e, BIT(FLIGHT_CLOSE) | BIT(FLIGHT_ABORT)))
        first(&end->closed, e);
    if (end && (e->kind == FLIGHT_ABORT || (e->kind == FLIGHT_CLOSE && e->preset)))
        first(&end->aborted, e);
}

static void gather_done(struct model *m, const struct event *e)
{
    struct flight *f = flight_of(m, e);
    struct end *end = end_of(m, e);
    if (f->final || !f->start)
        return;
    if (e->count > 0)
        f->last_piece = e;
    if (end && flight_receives(e->kind))
        end->got += e->count;
    if (is_final(e)) {
        f->final = e;
        if (flight_closes(e->kind))
            first(&m->handles[e->handle].closed, e);
    }
}

/* Where what each send moved stands in what its end sent: sends go out in the order started. */
static void gather_sends(struct model *m)
{
    for (unsigned i = 0; i < m->flight_count; i++) {
        struct flight *f = &m->flights[i];
        struct end *end = f->start && is(f->start, STREAM_SENDS) ? end_of(m, f->start) : NULL;
        if (!end || !f->final)
            continue;
        f->stream_at = end->sent;
        end->sent += f->final->moved;
    }
}

static void gather_shutdowns(struct model *m)
{
    for (unsigned i = 0; i < m->flight_count; i++) {
        const struct flight *f = &m->flights[i];
        if (!f->start || f->start->kind != FLIGHT_SHUTDOWN || !f->final || was_ended(f->final->res))
            continue;
        struct end *end = end_of(m, f->start);
        if (f->start->size != SHUT_WR)
            first(&end->shut_read, f->start);
        if (f->start->size != SHUT_RD)
            first(&end->shut_write, f->start);
    }
}

void facts_gather(struct model *m, const struct history *h)
{
    *m = (struct model){.h = h, .last_post = NOBODY};
    count(m);
    for (size_t i = 0; i < m->h->count; i++) {
        const struct event *e = &m->h->events[i];
        if (e->what == EVENT_OPEN)
            first(&m->handles[e->handle].open, e);
        if (e->what == EVENT_OPEN || e->what == EVENT_DISCARD)
            gather_end(m, e);
        if (e->what == EVENT_START)
            gather_start(m, e);
        if (e->what == EVENT_DONE)
            gather_done(m, e);
        if (e->what == EVENT_FREE)
            first(&m->freed, e);
    }
    for (size_t i = 0; i < m->h->count; i++) {
        const struct event *e = &m->h->events[i];
        if (e->what == EVENT_CANCEL || e->what == EVENT_CANCEL_ALL || e->what == EVENT_DEADLINE)
            gather_hurry(m, e);
    }
    gather_sends(m);
    gather_shutdowns(m);
}

void facts_drop(struct model *m)
{
    free(m->flights);
    free(m->handles);
    free(m->ends);
}

/* ------------------------------------------------------------------------------------------------------------
 * What may be known of a connection
 * ------------------------------------------------------------------------------------------------------------ */

bool facts_unknown(const struct end *end)
{
    return end->peer == NOBODY && end->target == NOBODY;
}

bool facts_may_be_reset(const struct model *m, const struct end *end, const struct event *e)
{
    const struct end *peer = peer_of(m, end);
    if (before(end->aborted, e) || before(end->shut_read, e))
        return true;
    if (facts_unknown(end))
        return true;
    if (!peer)
        return before(m->lost, e) || before(m->ends[end->target].closed, e);
    return before(peer->aborted, e) || before(peer->shut_read, e) || (before(peer->closed, e) && end->sent > peer->got);
}

bool facts_may_be_at_end(const struct model *m, const struct end *end, const struct event *e, uint64_t position)
{
    const struct end *peer = peer_of(m, end);
    if (facts_may_be_reset(m, end, e))
        return true;
    return peer && (before(peer->shut_write, e) || before(peer->closed, e)) && position == peer->sent;
}

bool facts_may_hang_up(const struct model *m, const struct end *end, const struct event *e)
{
    const struct end *peer = peer_of(m, end);
    return facts_may_be_reset(m, end, e) || before(end->shut_write, e) ||
           (peer && (before(peer->shut_write, e) || before(peer->closed, e)));
}

const struct flight *facts_cut_before(const struct model *m, const struct flight *f)
{
    for (const struct flight *other = m->flights; other < f; other++)
        if (other->start && other->start->handle == f->start->handle && is(other->start, STREAM_SENDS) && is_cut(other))
            return other;
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------------
 * Walking
 * ------------------------------------------------------------------------------------------------------------ */

/* Whether the deadline has taken effect before `e`, which cancels or moves it, or tells the result. */
static void settle(const struct model *m, struct flight *f, const struct event *e)
{
    if (f->cancel)
        return;
    f->may_be_late |= may_have_passed(f, e);
    /* A repeating timer may be about to report. */
    f->is_late |= f->start->kind != FLIGHT_TIMER_EVERY && e->what != EVENT_DONE && facts_late_since(m, f, e) > 0;
}

static void cancel(const struct model *m, struct flight *f, const struct event *e)
{
    settle(m, f, e);
    if (f->cancel)
        return;
    f->may_be_late |= f->deadline && f->deadline <= e->now; /* it was first, though nobody has seen it yet */
    f->cancel = e;
}

/* All that is in flight on a handle; or (NOBODY) anywhere, but for closes. */
static void cancel_all(struct model *m, const struct event *e, uint16_t handle)
{
    for (unsigned i = 0; i < m->flight_count; i++) {
        struct flight *f = &m->flights[i];
        bool meant = f->start && (handle == NOBODY ? !is(f->start, CLOSES) : f->start->handle == handle);
        if (meant && f->start != e && in_flight(f, e))
            cancel(m, f, e);
    }
}

/* When something is to happen to a timer. */
static uint64_t earlier(uint64_t deadline, uint64_t at)
{
    return deadline && deadline < at ? deadline : at;
}

static void set_deadline(struct flight *f, const struct event *e, uint64_t at)
{
    f->displaced |= e->what == EVENT_DEADLINE && earlier(at, f->start->at) != earlier(f->deadline, f->start->at);
    f->deadline = at;
    f->set = e;
}

static void note_start(struct model *m, const struct event *e)
{
    struct flight *f = flight_of(m, e);
    m->started += e->kind != FLIGHT_TRY_SEND;
    m->posts += e->kind == FLIGHT_POST;
    f->credit = e->size;
    set_deadline(f, e, e->preset);
    if (e->kind == FLIGHT_CONNECT)
        m->ends[e->target].connects++;
    if (flight_closes(e->kind))
        cancel_all(m, e, e->handle);
    else if (before(m->freed, e) || (e->handle != NOBODY && before(m->handles[e->handle].closing, e)))
        f->cancel = e; /* it ends untried */
}

static uint32_t sum(uint32_t credit, uint32_t given)
{
    if (given == PRO_UNLIMITED || credit == PRO_UNLIMITED)
        return PRO_UNLIMITED;
    return given < PRO_UNLIMITED - 1 - credit ? credit + given : PRO_UNLIMITED - 1;
}

static void note_credit(struct flight *f, const struct event *e)
{
    uint32_t *credit = f->pausing ? &f->given : &f->credit;
    if (!f->pausing && f->credit == 0)
        f->stood = e;
    *credit = sum(*credit, e->size);
}

void facts_note(struct model *m, const struct event *e)
{
    struct flight *f = e->flight == NOBODY ? NULL : flight_of(m, e);
    if (f && e->what != EVENT_START && !in_flight(f, e) && f->final != e)
        return; /* without effect */
    switch (e->what) {
    case EVENT_START:
        note_start(m, e);
        break;
    case EVENT_CANCEL:
        cancel(m, f, e);
        break;
    case EVENT_CANCEL_ALL:
        cancel_all(m, e, e->handle);
        break;
    case EVENT_FREE:
        cancel_all(m, e, NOBODY);
        break;
    case EVENT_DEADLINE:
        settle(m, f, e);
        set_deadline(f, e, e->at);
        break;
    case EVENT_CREDIT:
        note_credit(f, e);
        break;
    case EVENT_PAUSE:
        f->pausing = true;
        f->given = 0;
        break;
    case EVENT_DONE:
        settle(m, f, e);
        break;
    default:
        break;
    }
}

void facts_take(struct model *m, const struct event *e)
{
    struct flight *f = flight_of(m, e);
    struct end *end = end_of(m, e);
    if (end && flight_receives(e->kind))
        end->received += e->count;
    if (end && e->flags & PRO_EOF)
        end->at_end = !before(end->shut_read, e) && !before(end->aborted, e);
    if (is(e, ACCEPTS) && e->res >= 0)
        end->accepts++;
    if (e->kind == FLIGHT_TIMER_EVERY && e->res > 0)
        f->due += (uint64_t)e->res;
    if (e->kind == FLIGHT_RECV_MULTI && e->res > 0 && f->credit != PRO_UNLIMITED)
        f->credit -= (uint32_t)e->res;
    if (e->kind == FLIGHT_RECV_MULTI && e->res == 0 && e->flags & PRO_PAUSED) {
        f->pausing = false;
        f->credit = f->given;
        f->stood = e;
    }
    if (!is_final(e))
        return;
    m->completed += e->kind != FLIGHT_TRY_SEND;
    if (e->kind == FLIGHT_POST) {
        m->posts--;
        m->last_post = e->flight;
    }
}
