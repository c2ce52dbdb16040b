/* SPDX-License-Identifier: MIT
 *
 * Events, and where handles come from. */
#include "runner.h"

#include <stdlib.h>
#include <string.h>

struct event runner_blank(enum event_what what)
{
    return (struct event){.what = what, .flight = NOBODY, .handle = NOBODY, .end = NOBODY, .peer = NOBODY};
}

void runner_add(struct runner *r, struct event e)
{
    struct pro_stats stats;
    if (r->w->loop) {
        pro_loop_stats(r->w->loop, &stats, sizeof stats);
        r->turn = stats.turns;
        r->now = pro_now(r->w->loop);
    }
    e.turn = r->turn;
    e.now = r->now;
    e.inside = r->inside;
    history_add(r->h, e);
    if (r->trace)
        history_print(r->h, r->h->count - 1, 1, stderr);
}

void runner_books(struct runner *r)
{
    struct event e = runner_blank(EVENT_BOOKS);
    struct pro_stats stats;
    pro_loop_stats(r->w->loop, &stats, sizeof stats);
    e.started = stats.started;
    e.completed = stats.completed;
    e.flying = stats.in_flight;
    runner_add(r, e);
}

/* ------------------------------------------------------------------------------------------------------------
 * Seats
 * ------------------------------------------------------------------------------------------------------------ */

/* `end` NOBODY: a new one. The handle is open, or is to adopt `fd`. */
static void sit(struct runner *r, struct seat *seat, struct pro_handle *handle, int fd, uint16_t end)
{
    struct event e = runner_blank(EVENT_OPEN);
    assert_true(r->ends < MOST_ENDS);
    if (end == NOBODY) {
        end = r->ends++;
        r->peers[end] = NOBODY;
    }
    seat->handle = handle;
    seat->state = OPEN;
    seat->number = r->handles++;
    seat->end = end;
    e.handle = seat->number;
    e.end = end;
    e.peer = r->peers[end];
    e.res = fd;
    runner_add(r, e);
}

static struct pro_handle *new_handle(void)
{
    struct pro_handle *handle = calloc(1, sizeof *handle);
    assert_non_null(handle);
    return handle;
}

void runner_adopt(struct runner *r, struct seat *seat, int fd, uint16_t end)
{
    struct pro_handle *handle = new_handle();
    pro_adopt(r->w->loop, handle, fd);
    sit(r, seat, handle, fd, end);
}

/* Little fills it. Not the other half, where TCP would wait for its timers again and again. */
static void shrink(struct seat *seat)
{
    int least = 1;
    pro_option_set(seat->handle, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
}

static void open_pair(struct runner *r, struct seat *seats, uint8_t way)
{
    int fds[2];
    if (seats[0].state != EMPTY || seats[1].state != EMPTY)
        return;
    if (way & 1 || (world_is_sim(r->w) && r->script->liberties)) /* where a connect would take its time */
        unix_pair(fds);
    else
        tcp_pair(fds);
    r->peers[r->ends] = (uint16_t)(r->ends + 1);
    r->peers[r->ends + 1] = r->ends;
    r->ends = (uint16_t)(r->ends + 2);
    for (unsigned i = 0; i < 2; i++) {
        seats[i] = (struct seat){.usable = true};
        runner_adopt(r, &seats[i], fds[i], (uint16_t)(r->ends - 2 + i));
        if (way & 2)
            shrink(&seats[i]);
    }
}

/* The descriptor of a handle that the library opened is not told; none has this one. */
static void open_listener(struct runner *r, struct seat *seat)
{
    struct sockaddr_in at = loopback_address();
    struct pro_handle *handle = new_handle();
    *seat = (struct seat){.length = sizeof seat->address};
    assert_int_equal(pro_listen(r->w->loop, handle, (struct sockaddr *)&at, sizeof at, 0, 0), 0);
    assert_int_equal(pro_local_address(handle, &seat->address, &seat->length), 0);
    sit(r, seat, handle, -1, NOBODY);
}

static void open_socket(struct runner *r, struct seat *seat)
{
    struct pro_handle *handle = new_handle();
    *seat = (struct seat){.fresh = true};
    assert_int_equal(pro_socket(r->w->loop, handle, AF_INET, SOCK_STREAM, 0), 0);
    sit(r, seat, handle, -1, NOBODY);
}

void runner_open(struct runner *r, const struct act *act)
{
    struct seat *seat = &r->seats[act->seat];
    if (act->seat < LISTENER)
        open_pair(r, &r->seats[act->seat & 2], act->way);
    else if (seat->state != EMPTY || act->seat >= FIRST_ACCEPTED)
        return;
    else if (act->seat == LISTENER)
        open_listener(r, seat);
    else
        open_socket(r, seat);
}

/* Notes where a connection comes from, as soon as it comes from anywhere: one that is aborted has forgotten it. */
void runner_locate(struct seat *seat)
{
    struct sockaddr_storage address;
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    if (seat->state == EMPTY || seat->fresh || seat->length > 0 ||
        pro_local_address(seat->handle, &address, &length) < 0 || in->sin_port == 0)
        return;
    seat->address = address;
    seat->length = length;
}

/* The end that connected from there; one that has been closed is still remembered by its seat. */
static uint16_t connected_from(struct runner *r, const struct sockaddr_storage *address, socklen_t length)
{
    for (unsigned i = LISTENER + 1; i < FIRST_ACCEPTED; i++) {
        struct seat *seat = &r->seats[i];
        runner_locate(seat);
        if (seat->length == length && memcmp(&seat->address, address, length) == 0 && r->peers[seat->end] == NOBODY)
            return seat->end;
    }
    return NOBODY;
}

void runner_discard(struct runner *r, int fd, uint16_t end)
{
    struct event e = runner_blank(EVENT_DISCARD);
    e.end = end;
    runner_add(r, e);
    pro_discard(r->w->loop, fd);
}

void runner_accepted(struct runner *r, int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    struct seat *seat = &r->seats[FIRST_ACCEPTED];
    while (seat < r->seats + SEATS && seat->state != EMPTY)
        seat++;
    if (seat == r->seats + SEATS || r->give_back) {
        runner_discard(r, fd, NOBODY);
        return;
    }
    *seat = (struct seat){.usable = true};
    struct pro_handle *handle = new_handle();
    pro_adopt(r->w->loop, handle, fd);
    memset(&address, 0, sizeof address);
    int known = pro_peer_address(handle, &address, &length);
    uint16_t peer = known == 0 ? connected_from(r, &address, length) : NOBODY, end = r->ends++;
    r->peers[end] = peer;
    if (peer != NOBODY)
        r->peers[peer] = end;
    sit(r, seat, handle, fd, end);
}
