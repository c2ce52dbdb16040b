/* SPDX-License-Identifier: MIT
 *
 * Where a change goes is told narrowly: what else may have happened there must not excuse it, and no other rule may be
 * broken before. So an operation has to be `undisturbed` (neither it nor its handle was told to end), a connection
 * `whole` (nobody has ended anything yet). A change does not touch what a send has moved, which is where all later
 * bytes are counted from. */
#include "mutation.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define BIT(kind) (1u << (kind))

/* ------------------------------------------------------------------------------------------------------------
 * Looking
 * ------------------------------------------------------------------------------------------------------------ */

static struct event *done(struct history *h, size_t at, unsigned kinds)
{
    struct event *e = &h->events[at];
    return e->what == EVENT_DONE && kinds & BIT(e->kind) ? e : NULL;
}

static struct event * final(struct history *h, size_t at, unsigned kinds)
{
    struct event *e = done(h, at, kinds);
    return e && !(e->flags & PRO_MORE) ? e : NULL;
}

/* A final that says success. */
static struct event *success(struct history *h, size_t at, unsigned kinds)
{
    struct event *e = final(h, at, kinds);
    return e && e->res >= 0 ? e : NULL;
}

/* A completion that brought more than one byte, of an end whose other end is known. */
static struct event *piece(struct history *h, size_t at, unsigned kinds)
{
    struct event *e = done(h, at, kinds);
    if (!e || e->count < 2)
        return NULL;
    for (size_t i = 0; i < at; i++)
        if (h->events[i].what == EVENT_OPEN && h->events[i].handle == e->handle)
            return h->events[i].peer != NOBODY ? e : NULL;
    return NULL;
}

static struct event *start_of(struct history *h, uint16_t flight)
{
    size_t i = 0;
    while (h->events[i].what != EVENT_START || h->events[i].flight != flight)
        i++;
    return &h->events[i];
}

/* The first event of the kind from `at` on, on the same handle if `handle` is one; or the number of events. */
static size_t next(const struct history *h, size_t at, enum event_what what, uint16_t handle)
{
    while (at < h->count && (h->events[at].what != what || (handle != NOBODY && h->events[at].handle != handle)))
        at++;
    return at;
}

static bool any(const struct history *h, size_t from, size_t to, enum event_what what)
{
    return next(h, from, what, NOBODY) < to;
}

static bool has_deadline(struct history *h, uint16_t flight)
{
    for (size_t i = 0; i < h->count; i++)
        if (h->events[i].what == EVENT_DEADLINE && h->events[i].flight == flight)
            return true;
    return start_of(h, flight)->preset > 0;
}

/* Neither cancelled nor closed, nor has the loop been freed, before `at`. */
static bool uncancelled(struct history *h, size_t at)
{
    const struct event *e = &h->events[at];
    for (size_t i = 0; i < at; i++) {
        const struct event *other = &h->events[i];
        bool cancels = other->what == EVENT_CANCEL && other->flight == e->flight;
        bool closes = other->what == EVENT_CANCEL_ALL || (other->what == EVENT_START && flight_closes(other->kind));
        if (cancels || other->what == EVENT_FREE || (closes && other->handle != NOBODY && other->handle == e->handle))
            return false;
    }
    return true;
}

static bool undisturbed(struct history *h, size_t at)
{
    return uncancelled(h, at) && !has_deadline(h, h->events[at].flight);
}

/* No connection has been ended in any way before `at`. */
static bool whole(struct history *h, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        const struct event *e = &h->events[i];
        bool ends = e->what == EVENT_START && (flight_closes(e->kind) || e->kind == FLIGHT_SHUTDOWN);
        if (ends || e->what == EVENT_DISCARD || e->what == EVENT_FREE)
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------------------
 * Changing
 * ------------------------------------------------------------------------------------------------------------ */

static void insert(struct history *h, size_t at, struct event e)
{
    history_add(h, e);
    memmove(&h->events[at + 1], &h->events[at], (h->count - 1 - at) * sizeof e);
    h->events[at] = e;
}

static void erase(struct history *h, size_t at)
{
    h->count--;
    memmove(&h->events[at], &h->events[at + 1], (h->count - at) * sizeof h->events[0]);
}

static void move(struct history *h, size_t from, size_t to)
{
    struct event e = h->events[from];
    erase(h, from);
    insert(h, to, e);
}

static bool exchange(struct history *h, size_t a, size_t b)
{
    struct event e = h->events[a];
    h->events[a] = h->events[b];
    h->events[b] = e;
    return true;
}

static void insert_cancel(struct history *h, size_t at, const struct event *like)
{
    struct event e = *like;
    e.what = EVENT_CANCEL;
    insert(h, at, e);
}

/* An operation that brought nothing ends with `res`. */
static bool ends_with(struct event *e, int res)
{
    e->res = res;
    e->flags = 0;
    e->in_flight = false;
    return true;
}

enum {
    ANY = BIT(FLIGHT_KINDS) - 1,
    CALLED_BACK = ANY & ~BIT(FLIGHT_TRY_SEND),
    PLAIN = BIT(FLIGHT_TIMER) | BIT(FLIGHT_POLL), /* what brings no bytes and stands in no order with others */
    RECEIVES = BIT(FLIGHT_RECV) | BIT(FLIGHT_RECV_MULTI),
    SENDS = BIT(FLIGHT_SEND) | BIT(FLIGHT_SEND_SLICES),
    ENOUGH_TURNS = 12, /* for a cancel */
};

/* ------------------------------------------------------------------------------------------------------------
 * Clauses 2 to 6
 * ------------------------------------------------------------------------------------------------------------ */

static bool inside_a_call(struct history *h, size_t at)
{
    struct event *e = done(h, at, ANY);
    return e && (e->nested = true);
}

static bool outside_of_run(struct history *h, size_t at)
{
    struct event *e = done(h, at, CALLED_BACK);
    if (e)
        e->inside = false;
    return e;
}

static bool final_twice(struct history *h, size_t at)
{
    struct event *e = final(h, at, CALLED_BACK);
    if (e)
        insert(h, at, *e);
    return e;
}

static bool more_of_one(struct history *h, size_t at)
{
    struct event *e = success(h, at, PLAIN | BIT(FLIGHT_POST));
    if (!e)
        return false;
    e->flags |= PRO_MORE;
    return e->in_flight = true;
}

static bool not_idle(struct history *h, size_t at)
{
    struct event *e = done(h, at, ANY);
    if (e)
        e->in_flight = !e->in_flight;
    return e;
}

static bool multishot_ends(struct history *h, size_t at)
{
    struct event *e = done(h, at, BIT(FLIGHT_POLL_MULTI) | BIT(FLIGHT_TIMER_EVERY) | BIT(FLIGHT_ACCEPT_MULTI));
    return e && e->flags & PRO_MORE && undisturbed(h, at) && ends_with(e, e->res);
}

static bool cancelled_by_nobody(struct history *h, size_t at)
{
    struct event *e = success(h, at, PLAIN);
    return e && undisturbed(h, at) && ends_with(e, -ECANCELED);
}

static bool cancelled_long_ago(struct history *h, size_t at)
{
    struct event *e = &h->events[at];
    if (e->what != EVENT_START || !h->prompt || !(BIT(e->kind) & (PLAIN | RECEIVES)))
        return false;
    for (size_t i = at; i < h->count; i++) {
        if (final(h, i, ANY) && h->events[i].flight == e->flight)
            return false;
        if (h->events[i].what == EVENT_BOOKS && h->events[i].turn > e->turn + ENOUGH_TURNS)
            break;
        if (i + 1 == h->count)
            return false;
    }
    insert_cancel(h, at + 1, e);
    return true;
}

static bool late_without_deadline(struct history *h, size_t at)
{
    struct event *e = final(h, at, PLAIN);
    return e && !has_deadline(h, e->flight) && ends_with(e, -ETIME);
}

/* Its deadline had passed when it was started, many turns before it was cancelled. */
static bool cancelled_when_late(struct history *h, size_t at)
{
    struct event *e = final(h, at, BIT(FLIGHT_POLL) | BIT(FLIGHT_ACCEPT) | RECEIVES), *start, *cancel = NULL;
    if (!e || e->res != -ECANCELED || !h->prompt)
        return false;
    start = start_of(h, e->flight);
    for (struct event *other = start; other < e; other++) {
        if (other->what == EVENT_DEADLINE && other->flight == e->flight)
            return false;
        if (other->what == EVENT_CANCEL && other->flight == e->flight && !cancel)
            cancel = other;
    }
    if (!cancel || cancel->turn < start->turn + 4 || cancel->turn > start->turn + ENOUGH_TURNS - 2)
        return false;
    start->preset = start->now;
    return true;
}

static bool after_the_close(struct history *h, size_t at)
{
    struct event *e = final(h, at, CALLED_BACK);
    if (!e || e->handle == NOBODY)
        return false;
    size_t close = next(h, at + 1, EVENT_DONE, e->handle);
    if (close == h->count || !flight_closes(h->events[close].kind) || any(h, at, close, EVENT_BOOKS))
        return false;
    move(h, at, close);
    return true;
}

static bool close_is_not_hurried(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_CLOSE) | BIT(FLIGHT_ABORT));
    if (!e)
        return false;
    size_t start = (size_t)(start_of(h, e->flight) - h->events);
    for (size_t i = start; i < at; i++)
        if (final(h, i, CALLED_BACK) && h->events[i].handle == e->handle &&
            start_of(h, h->events[i].flight) < &h->events[start]) {
            insert_cancel(h, start + 1, e);
            return true;
        }
    return false;
}

static bool tried_on_a_closing_handle(struct history *h, size_t at)
{
    struct event *e = final(h, at, BIT(FLIGHT_POLL) | RECEIVES | BIT(FLIGHT_ACCEPT));
    if (!e || e->res >= 0)
        return false;
    const struct event *start = start_of(h, e->flight);
    for (size_t i = 0; &h->events[i] < start; i++)
        if (h->events[i].what == EVENT_START && h->events[i].handle == e->handle && flight_closes(h->events[i].kind)) {
            e->res = e->kind == FLIGHT_POLL ? POLLIN : 0;
            e->flags = BIT(e->kind) & RECEIVES ? PRO_EOF : 0;
            return true;
        }
    return false;
}

static bool another_descriptor_released(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_RELEASE));
    if (!e || h->events[next(h, 0, EVENT_OPEN, e->handle)].res < 0)
        return false;
    e->res++;
    return true;
}

static bool descriptor_given_twice(struct history *h, size_t at)
{
    struct event *e = &h->events[at];
    size_t first = next(h, 0, EVENT_OPEN, NOBODY);
    if (e->what != EVENT_OPEN || e->res < 0 || first == at || h->events[first].res < 0)
        return false;
    for (size_t i = 0; i < at; i++)
        if (h->events[i].what == EVENT_START && h->events[i].handle == h->events[first].handle &&
            flight_closes(h->events[i].kind))
            return false;
    e->res = h->events[first].res;
    return true;
}

/* ------------------------------------------------------------------------------------------------------------
 * Clauses 7 and 8
 * ------------------------------------------------------------------------------------------------------------ */

static bool slice_of_nothing(struct history *h, size_t at)
{
    struct event *e = done(h, at, ANY);
    if (e)
        e->slice = !e->slice;
    return e;
}

static bool small_slice(struct history *h, size_t at)
{
    struct event *e = piece(h, at, BIT(FLIGHT_RECV_MULTI));
    if (e)
        e->count--;
    return e;
}

static bool slices_out(struct history *h, size_t at)
{
    return h->events[at].what == EVENT_END && ++h->events[at].started;
}

/* A piece of a receive whose credit nobody has touched since its start. */
static struct event *first_piece(struct history *h, size_t at)
{
    struct event *e = piece(h, at, BIT(FLIGHT_RECV_MULTI));
    for (size_t i = 0; e && i < at; i++) {
        const struct event *other = &h->events[i];
        bool touches = other->what == EVENT_CREDIT || other->what == EVENT_PAUSE || other->what == EVENT_DONE;
        if (touches && other->flight == e->flight)
            return NULL;
    }
    return e;
}

static bool paused_with_credit(struct history *h, size_t at)
{
    struct event *e = first_piece(h, at);
    if (e)
        e->flags ^= PRO_PAUSED;
    return e;
}

static bool beyond_the_credit(struct history *h, size_t at)
{
    struct event *e = first_piece(h, at);
    if (e)
        start_of(h, e->flight)->size = (uint32_t)e->res - 1;
    return e;
}

static bool without_credit(struct history *h, size_t at)
{
    struct event *e = first_piece(h, at);
    if (e)
        start_of(h, e->flight)->size = 0;
    return e;
}

static bool answer_to_nobody(struct history *h, size_t at)
{
    struct event *e = first_piece(h, at), answer;
    if (!e)
        return false;
    answer = *e;
    answer.flags = PRO_MORE | PRO_PAUSED;
    answer.in_flight = true;
    answer.slice = false;
    answer.res = 0;
    answer.count = 0;
    insert(h, at, answer);
    return true;
}

/* ------------------------------------------------------------------------------------------------------------
 * Clause 9
 * ------------------------------------------------------------------------------------------------------------ */

/* Exchanges two finals that follow each other on a handle, in the order of their starts, and say success. */
static bool overtakes(struct history *h, size_t at, unsigned kinds)
{
    struct event *e = success(h, at, kinds);
    size_t second = e ? next(h, at + 1, EVENT_DONE, e->handle) : h->count;
    if (!e || e->res == 0 || second == h->count || !undisturbed(h, at))
        return false;
    struct event *other = success(h, second, kinds);
    for (size_t i = at; i < second; i++) /* nor is it told to end in between */
        if (h->events[i].what != EVENT_DONE && h->events[i].what != EVENT_OPEN)
            return false;
    return other && other->res > 0 && e->flight < other->flight && exchange(h, at, second);
}

static bool receive_overtakes(struct history *h, size_t at)
{
    return overtakes(h, at, BIT(FLIGHT_RECV));
}

static bool send_overtakes(struct history *h, size_t at)
{
    return overtakes(h, at, SENDS);
}

static bool another_byte(struct history *h, size_t at)
{
    struct event *e = piece(h, at, RECEIVES);
    if (e)
        h->bytes[e->bytes + e->count / 2] ^= 1;
    return e;
}

/* Short of the first: what comes after it slips forward. */
static bool a_byte_is_lost(struct history *h, size_t at)
{
    struct event *e = piece(h, at, BIT(FLIGHT_RECV));
    if (!e || e->count < 16 || start_of(h, e->flight)->flags & PRO_RECV_ALL)
        return false;
    e->bytes++;
    e->count--;
    e->res--;
    return true;
}

static bool less_than_all(struct history *h, size_t at)
{
    struct event *e = piece(h, at, BIT(FLIGHT_RECV));
    if (!e || !(start_of(h, e->flight)->flags & PRO_RECV_ALL) || !undisturbed(h, at) || !whole(h, at))
        return false;
    e->count--;
    e->res--;
    return true;
}

static bool other_count_moved(struct history *h, size_t at)
{
    struct event *e = success(h, at, SENDS);
    if (!e || e->res < 2)
        return false;
    e->res--;
    return true;
}

static bool all_moved_and_failed(struct history *h, size_t at)
{
    struct event *e = success(h, at, SENDS);
    if (!e || !undisturbed(h, at))
        return false;
    e->res = -ECANCELED;
    insert_cancel(h, at, e);
    return true;
}

static bool tried_after_a_cut(struct history *h, size_t at)
{
    struct event *e = final(h, at, SENDS);
    if (!e || e->res != -EPIPE || e->moved > 0)
        return false;
    for (size_t i = 0; i < at; i++) {
        const struct event *cut = final(h, i, SENDS);
        if (cut && cut->handle == e->handle && cut->flight < e->flight && cut->res < 0 && cut->moved > 0) {
            e->res = (int32_t)start_of(h, e->flight)->size;
            return true;
        }
    }
    return false;
}

/* A shutdown is asked for before a send that it came after. */
static bool sent_after_the_shutdown(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_SHUTDOWN));
    if (!e)
        return false;
    size_t shutdown = (size_t)(start_of(h, e->flight) - h->events), send = shutdown;
    if (h->events[shutdown].size == SHUT_RD)
        return false;
    while (send > 0 && !(h->events[send].what == EVENT_START && h->events[send].handle == e->handle &&
                         BIT(h->events[send].kind) & SENDS))
        send--;
    if (h->events[send].what != EVENT_START || any(h, send, shutdown, EVENT_BOOKS))
        return false;
    for (size_t i = send; i < h->count; i++)
        if (success(h, i, SENDS) && h->events[i].flight == h->events[send].flight) {
            move(h, shutdown, send);
            return true;
        }
    return false;
}

/* ------------------------------------------------------------------------------------------------------------
 * Clauses 10 to 13, and what has no number
 * ------------------------------------------------------------------------------------------------------------ */

static bool end_with_bytes(struct history *h, size_t at)
{
    struct event *e = piece(h, at, BIT(FLIGHT_RECV));
    if (e)
        e->flags |= PRO_EOF;
    return e;
}

static bool end_that_is_not_said(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_RECV));
    return e && e->res == 0 && ends_with(e, 0);
}

static bool end_too_early(struct history *h, size_t at)
{
    struct event *e = piece(h, at, BIT(FLIGHT_RECV));
    if (!e || !whole(h, at))
        return false;
    e->res = 0;
    e->count = 0;
    e->flags = PRO_EOF;
    return true;
}

static bool reset_by_nobody(struct history *h, size_t at)
{
    struct event *e = piece(h, at, BIT(FLIGHT_RECV));
    if (!e || !whole(h, at))
        return false;
    e->count = 0;
    return ends_with(e, -ECONNRESET);
}

static bool unheard_of(struct history *h, size_t at)
{
    struct event *e = success(h, at, PLAIN);
    return e && ends_with(e, -EIO);
}

static bool error_with_flags(struct history *h, size_t at)
{
    struct event *e = final(h, at, ANY);
    if (!e || e->res >= 0)
        return false;
    e->flags |= PRO_EOF;
    return true;
}

static bool out_of_range(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_TIMER) | BIT(FLIGHT_POST) | BIT(FLIGHT_CONNECT) | BIT(FLIGHT_CLOSE));
    if (e)
        e->res = 1;
    return e;
}

static bool more_than_asked_for(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_RECV) | SENDS);
    if (e)
        e->res = (int32_t)start_of(h, e->flight)->size + 1;
    return e;
}

static bool paused_poll(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_POLL));
    return e && (e->flags |= PRO_PAUSED);
}

static bool post_overtakes(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_POST));
    for (size_t i = at + 1; e && i < h->count; i++)
        if (success(h, i, BIT(FLIGHT_POST)))
            return start_of(h, h->events[i].flight) < e && exchange(h, at, i);
    return false;
}

static bool never_ends(struct history *h, size_t at)
{
    if (!final(h, at, BIT(FLIGHT_TIMER) | BIT(FLIGHT_TIMER_EVERY)) || any(h, at, h->count, EVENT_BOOKS))
        return false;
    erase(h, at);
    return true;
}

static bool shut_down_by_nobody(struct history *h, size_t at)
{
    struct event *e = success(h, at, PLAIN);
    return e && !any(h, 0, at, EVENT_FREE) && ends_with(e, -ESHUTDOWN);
}

static bool started_when_freed(struct history *h, size_t at)
{
    struct event *e = final(h, at, CALLED_BACK);
    return e && e->res == -ESHUTDOWN && ends_with(e, -ECANCELED);
}

static bool timer_early(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_TIMER));
    if (e)
        start_of(h, e->flight)->at = e->now + 1;
    return e;
}

static bool repeats_early(struct history *h, size_t at)
{
    struct event *e = done(h, at, BIT(FLIGHT_TIMER_EVERY));
    if (!e || e->res <= 0 || start_of(h, e->flight)->every < 1000)
        return false;
    e->res = INT32_MAX;
    return true;
}

static bool timer_overtakes(struct history *h, size_t at)
{
    struct event *e = success(h, at, BIT(FLIGHT_TIMER));
    for (size_t i = at + 1; e && i < h->count; i++) {
        const struct event *other = success(h, i, BIT(FLIGHT_TIMER));
        if (!other || other->turn != e->turn)
            continue;
        const struct event *first = start_of(h, e->flight), *second = start_of(h, other->flight);
        return second < e && first->at < second->at && first->now < second->at && exchange(h, at, i);
    }
    return false;
}

static bool events_not_asked_for(struct history *h, size_t at)
{
    struct event *e = done(h, at, BIT(FLIGHT_POLL) | BIT(FLIGHT_POLL_MULTI));
    return e && e->res > 0 && (e->res |= POLLMSG);
}

static bool hangs_up(struct history *h, size_t at)
{
    struct event *e = done(h, at, BIT(FLIGHT_POLL) | BIT(FLIGHT_POLL_MULTI));
    size_t open = e ? next(h, 0, EVENT_OPEN, e->handle) : 0;
    return e && e->res > 0 && h->events[open].peer != NOBODY && whole(h, at) && (e->res |= POLLHUP);
}

static bool connections_of_nobody(struct history *h, size_t at)
{
    struct event *e = done(h, at, BIT(FLIGHT_ACCEPT_MULTI)), accept;
    if (!e || e->res < 0)
        return false;
    accept = *e;
    for (size_t i = 0, count = h->count; i < count; i++)
        if (h->events[i].what == EVENT_START && h->events[i].kind == FLIGHT_CONNECT)
            insert(h, h->count, accept); /* behind all, for they are counted */
    while (h->events[h->count - 1].what == EVENT_DONE && h->events[h->count - 1].flight == accept.flight)
        move(h, h->count - 1, at);
    return true;
}

static bool one_more_started(struct history *h, size_t at)
{
    return h->events[at].what == EVENT_BOOKS && ++h->events[at].started;
}

static bool one_less_completed(struct history *h, size_t at)
{
    struct event *e = &h->events[at];
    if (e->what != EVENT_BOOKS || e->completed == 0)
        return false;
    e->completed--;
    e->flying++;
    return true;
}

static const struct mutation mutations[] = {
    {"c02_calls_back_from_the_loop_only", "inside a call", inside_a_call},
    {"c02_calls_back_from_the_loop_only", "outside of pro_run", outside_of_run},
    {"c03_one_final", "a final twice", final_twice},
    {"c03_one_final", "more of a one-shot", more_of_one},
    {"c03_one_final", "in flight or idle when it should not be", not_idle},
    {"c03_one_final", "a multishot ends", multishot_ends},
    {"c10_results", "a result out of range", out_of_range},
    {"c10_results", "more bytes than asked for", more_than_asked_for},
    {"c10_results", "a poll that is paused", paused_poll},
    {"c10_errors", "an error nobody knows", unheard_of},
    {"c10_errors", "an error with flags", error_with_flags},
    {"c10_errors", "a reset by nobody", reset_by_nobody},
    {"c04_nobody_cancels_but_the_program", "cancelled by nobody", cancelled_by_nobody},
    {"c04_cancel_hastens", "cancelled long ago", cancelled_long_ago},
    {"c05_deadline_in_time", "late without a deadline", late_without_deadline},
    {"c05_first_of_cancel_and_deadline", "cancelled when it was late already", cancelled_when_late},
    {"c06_close_is_the_last", "a completion after the close", after_the_close},
    {"c06_close_is_hurried", "a close does not say that it was hurried", close_is_not_hurried},
    {"c06_start_on_a_closing_handle", "tried on a closing handle", tried_on_a_closing_handle},
    {"c06_descriptors_have_one_owner", "another descriptor is released", another_descriptor_released},
    {"c06_descriptors_have_one_owner", "a descriptor is given twice", descriptor_given_twice},
    {"c07_slices", "a slice where none is due, or none", slice_of_nothing},
    {"c07_slices", "a slice too small", small_slice},
    {"c07_slices", "a slice is out", slices_out},
    {"c08_credit", "paused or not", paused_with_credit},
    {"c08_credit", "beyond the credit", beyond_the_credit},
    {"c08_credit", "without credit", without_credit},
    {"c08_credit", "the answer to no pause", answer_to_nobody},
    {"c09_receives_in_order", "a receive overtakes", receive_overtakes},
    {"c09_bytes", "another byte", another_byte},
    {"c09_bytes", "a byte is lost", a_byte_is_lost},
    {"c09_all_bytes", "less than all", less_than_all},
    {"c09_cut_is_the_last", "tried after a cut", tried_after_a_cut},
    {"c09_sends_are_whole", "another count moved", other_count_moved},
    {"c09_sends_are_whole", "all is sent, and it failed", all_moved_and_failed},
    {"c09_sends_in_order", "a send overtakes", send_overtakes},
    {"c09_shutdown_in_its_turn", "sent after the shutdown", sent_after_the_shutdown},
    {"c10_end_of_file", "an end with bytes", end_with_bytes},
    {"c10_end_of_file", "an end that is not said", end_that_is_not_said},
    {"c10_end_of_file", "an end too early", end_too_early},
    {"c11_posts_in_order", "a post overtakes", post_overtakes},
    {"c13_pull_down", "it never ends", never_ends},
    {"c13_pull_down", "shut down by nobody", shut_down_by_nobody},
    {"c13_pull_down", "started when the loop is freed", started_when_freed},
    {"timer_is_not_early", "a timer is early", timer_early},
    {"timer_is_not_early", "a timer repeats early", repeats_early},
    {"timers_in_order", "a timer overtakes", timer_overtakes},
    {"polls_tell_what_is", "events nobody asked for", events_not_asked_for},
    {"polls_tell_what_is", "a hang-up by nobody", hangs_up},
    {"accept_brings_what_connects", "connections of nobody", connections_of_nobody},
    {"books_balance", "one more started", one_more_started},
    {"books_balance", "one less completed", one_less_completed},
};

const struct mutation *mutation(unsigned i)
{
    return i < sizeof mutations / sizeof mutations[0] ? &mutations[i] : NULL;
}
