/* SPDX-License-Identifier: MIT
 *
 * In the calm, when there has been time for all that was under way: what is still in flight must have something to wait
 * for. A cancel, a deadline, a wake-up, the next of a lane: whatever got lost shows here.
 *
 * Most kinds have no reason at all. A receive has one while nothing was sent, a send while nobody takes anything. So
 * if one end of a wire takes whatever comes ("hungry") and has not got it, or the other has still not sent it, then
 * both wait for each other. */
#include "sim_deed.h"

#include <errno.h>
#include <poll.h>

#define BIT(kind) (1u << (kind))

enum {
    RECEIVES = BIT(RECV) | BIT(RECV_ALL) | BIT(RECV_MULTI) | BIT(READ),
    SENDS = BIT(SEND) | BIT(SEND_SLICES) | BIT(WRITE),
    ACCEPTS = BIT(ACCEPT) | BIT(ACCEPT_MULTI),
};

/* How many of these kinds are in flight, on one seat or (NULL) anywhere. */
static unsigned count(const struct acts *a, const struct seat *seat, unsigned kinds)
{
    unsigned found = 0;
    for (unsigned i = 0; i < DEEDS; i++) {
        const struct deed *d = a->deeds[i];
        found += d && (!seat || d->seat == seat) && BIT(d->kind) & kinds;
    }
    return found;
}

static bool is_held_back(const struct deed *d)
{
    if (d->kind == RECV_ALL)
        return true;
    return d->kind == RECV_MULTI &&
           (d->pausing || d->credit == 0 || count(d->acts, NULL, BIT(SEND_SLICES)) > 0); /* those pin the pool */
}

/* It takes whatever comes. */
static bool is_hungry(const struct seat *seat)
{
    const struct acts *a = seat->acts;
    for (unsigned i = 0; i < DEEDS; i++)
        if (a->deeds[i] && a->deeds[i]->seat == seat && is_held_back(a->deeds[i]))
            return false;
    return count(a, seat, RECEIVES) > 0;
}

/* The one at the other end of the wire, if it is known; NULL. */
static const struct seat *other_end(const struct seat *seat)
{
    for (unsigned i = 0; i < SEATS; i++) {
        const struct seat *other = seat->acts->seats[i];
        if (other && other != seat && other->wire == seat->wire)
            return other;
    }
    return NULL;
}

static bool is_gone(const struct seat *seat)
{
    return !seat->wire->open[1 - seat->side] && !(seat->side == 0 && seat->wire->wanted);
}

/* Something lies there to be received. One that wants all may have taken it, and not said so yet. */
static bool has_input(const struct seat *seat)
{
    return seat->type != DATAGRAMS && way_holds(&seat->wire->ways[1 - seat->side]) &&
           count(seat->acts, seat, BIT(RECV_ALL)) == 0;
}

static bool receive_waits(const struct deed *d)
{
    const struct seat *seat = d->seat;
    return seat->type == DATAGRAMS || !is_hungry(seat) || !(is_gone(seat) || has_input(seat));
}

static bool send_waits(const struct deed *d)
{
    const struct seat *seat = d->seat, *other = other_end(seat);
    if (seat->type == DATAGRAMS)
        return false;
    return !is_gone(seat) && !(other && is_hungry(other));
}

static bool poll_waits(const struct deed *d)
{
    const struct seat *seat = d->seat;
    if (seat->type == PAPER)
        return false;
    if (seat->type == LISTENER || seat->connecting)
        return true;
    if (d->size & POLLOUT)
        return seat->type == READER || send_waits(d);
    return seat->type == WRITER || !has_input(seat);
}

/* While the backlog is full a connect is tried again and again. */
static bool connect_waits(const struct deed *d)
{
    const struct acts *a = d->acts;
    bool listens = false;
    for (unsigned i = 0; i < SEATS; i++) {
        const struct seat *seat = a->seats[i];
        if (!seat || seat->type != LISTENER || seat_port(seat, false) != d->seat->wire->to.sin_port)
            continue;
        listens = true;
        if (count(a, seat, ACCEPTS) > 0)
            return false;
    }
    return listens;
}

static bool waits_on_wire(const struct deed *d)
{
    unsigned kind = BIT(d->kind);
    if (kind & SENDS)
        return count(d->acts, d->seat, BIT(CONNECT)) > 0 || send_waits(d);
    if (kind & RECEIVES)
        return receive_waits(d);
    return count(d->acts, d->seat, SENDS | BIT(CONNECT)) > 0; /* a shutdown in its turn */
}

static bool may_wait(const struct deed *d)
{
    if (d->asked || (d->kind != POST && d->deadline > 0 && d->deadline <= pro_sim_now(d->acts->sim)))
        return false;
    if (!d->seat || d->kind >= CLOSE || d->seat->closing || d->pausing)
        return false;
    if (d->seat->failed || BIT(d->kind) & ACCEPTS || d->kind == POLL_MULTI)
        return true;
    if (d->kind == POLL)
        return poll_waits(d);
    if (d->kind == CONNECT)
        return connect_waits(d);
    return d->seat->type != PAPER && waits_on_wire(d);
}

void deeds_that_wait(struct acts *a)
{
    for (unsigned i = 0; i < DEEDS; i++) {
        const struct deed *d = a->deeds[i];
        if (d && !may_wait(d))
            pro_sim_fail(a->sim, "kind %d, size %u, on a seat of type %d (descriptor %d), waits for nothing", d->kind,
                         d->size, d->seat ? (int)d->seat->type : -1, d->seat ? d->seat->handle.fd : -1);
    }
}
