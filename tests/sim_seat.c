/* SPDX-License-Identifier: MIT */
#include "sim_deed.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { PORT = 7007 };

/* ---- Wires ---- */

static struct wire *wire_new(struct acts *a)
{
    struct wire *wire = calloc(1, sizeof *wire);
    if (!wire)
        return NULL;
    way_init(&wire->ways[0], a->sim);
    way_init(&wire->ways[1], a->sim);
    return wire;
}

static void wire_left(struct wire *wire, unsigned side, bool bytes)
{
    wire->open[side] = false;
    if (wire->open[0] || wire->open[1])
        return;
    if (bytes) {
        way_judge(&wire->ways[0]);
        way_judge(&wire->ways[1]);
    }
    free(wire);
}

/* ---- Seats ---- */

/* A seat without a handle yet. */
static struct seat *seat_new(struct acts *a, enum seat_type type, unsigned loop)
{
    unsigned i = 0;
    while (i < SEATS && a->seats[i])
        i++;
    struct seat *seat = i < SEATS && a->loops[loop] ? calloc(1, sizeof *seat) : NULL;
    if (!seat)
        return NULL;
    seat->acts = a;
    seat->type = type;
    seat->index = i;
    seat->serial = ++a->seats_made;
    seat->loop = loop;
    a->seats[i] = seat;
    return seat;
}

static void seat_free(struct seat *seat)
{
    seat->acts->seats[seat->index] = NULL;
    memset(seat, 0x5a, sizeof *seat);
    free(seat);
}

/* Who sits on the descriptor, or NULL and the descriptor is closed. */
static struct seat *sit(struct acts *a, enum seat_type type, int fd)
{
    struct seat *seat = seat_new(a, type, draw(a, LOOPS));
    if (!seat) {
        pro_sim_close(a->sim, fd);
        return NULL;
    }
    seat->fd = fd;
    pro_adopt(a->loops[seat->loop], &seat->handle, fd);
    return seat;
}

static void seat_wire(struct acts *a, enum seat_type first, enum seat_type second, const int fds[2])
{
    struct wire *wire = wire_new(a);
    for (unsigned side = 0; side < 2; side++) {
        struct seat *seat = wire ? sit(a, side == 0 ? first : second, fds[side]) : NULL;
        if (!wire)
            pro_sim_close(a->sim, fds[side]);
        if (!seat)
            continue;
        seat->wire = wire;
        seat->side = side;
        wire->open[side] = true;
    }
    if (wire && !wire->open[0] && !wire->open[1])
        free(wire);
}

static void seat_pair(struct acts *a)
{
    int fds[2];
    if (pro_sim_pair(a->sim, fds) == 0)
        seat_wire(a, STREAM, STREAM, fds);
}

static void seat_datagrams(struct acts *a)
{
    int fds[2];
    if (pro_sim_datagrams(a->sim, fds) == 0)
        seat_wire(a, DATAGRAMS, DATAGRAMS, fds);
}

static void seat_pipe(struct acts *a)
{
    int fds[2];
    if (pro_sim_pipe(a->sim, fds) == 0)
        seat_wire(a, READER, WRITER, fds);
}

static void seat_paper(struct acts *a)
{
    uint32_t size = draw(a, 3) > 0 ? draw(a, 2000) : 0;
    struct paper *paper = malloc(sizeof *paper);
    if (!paper)
        return;
    paper_init(paper, a->sim, draw(a, 2) != 0, size);
    int fd = pro_sim_file(a->sim, paper->bytes, size);
    struct seat *seat = fd >= 0 ? sit(a, PAPER, fd) : NULL;
    if (seat)
        seat->paper = paper;
    else
        free(paper);
}

static void seat_connection(struct acts *a)
{
    unsigned loop = draw(a, LOOPS);
    struct seat *seat = seat_new(a, STREAM, loop);
    struct wire *wire = seat ? wire_new(a) : NULL;
    if (!wire || pro_socket(a->loops[loop], &seat->handle, AF_INET, SOCK_STREAM, 0) < 0) {
        free(wire);
        if (seat)
            seat_free(seat);
        return;
    }
    seat->fd = -1; /* nobody has told */
    seat->wire = wire;
    wire->open[0] = wire->wanted = true;
    wire->to = a->at[draw(a, LOOPS)];
    if (!deed_begin(a, CONNECT, seat, loop))
        seat->failed = true;
}

void seat_listener(struct acts *a, unsigned loop)
{
    struct sockaddr_in *at = &a->at[loop];
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)(PORT + loop))};
    at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct seat *seat = seat_new(a, LISTENER, loop);
    if (!seat)
        return;
    if (pro_listen(a->loops[loop], &seat->handle, (struct sockaddr *)at, sizeof *at, (int)draw(a, 4), 0) < 0)
        seat_free(seat);
    else
        seat->fd = -1;
}

static bool has_listener(const struct acts *a, unsigned loop)
{
    for (unsigned i = 0; i < SEATS; i++)
        if (a->seats[i] && a->seats[i]->type == LISTENER && a->seats[i]->loop == loop)
            return true;
    return false;
}

void seat_something(struct acts *a)
{
    static void (*const makers[])(struct acts *) = {seat_pair,      seat_pair, seat_connection, seat_connection,
                                                    seat_datagrams, seat_pipe, seat_paper};
    unsigned loop = draw(a, LOOPS);
    if (!has_listener(a, loop) && a->loops[loop])
        seat_listener(a, loop);
    else
        makers[draw(a, sizeof makers / sizeof makers[0])](a);
}

/* ---- Accepting ---- */

uint16_t seat_port(const struct seat *seat, bool peer)
{
    struct sockaddr_storage at;
    socklen_t length;
    int r = peer ? pro_peer_address(&seat->handle, &at, &length) : pro_local_address(&seat->handle, &at, &length);
    return r < 0 || at.ss_family != AF_INET ? 0 : ((struct sockaddr_in *)&at)->sin_port;
}

/* The wire whose other end has this port. Those that are closing have perhaps no descriptor any more. */
static struct wire *find_wire(struct acts *a, uint16_t port)
{
    for (unsigned i = 0; i < SEATS; i++) {
        const struct seat *seat = a->seats[i];
        if (seat && seat->wire && seat->wire->wanted && !seat->closing && port != 0 && seat_port(seat, false) == port)
            return seat->wire;
    }
    return NULL;
}

void seat_accepted(struct seat *listener, int fd)
{
    struct acts *a = listener->acts;
    if (draw(a, 8) == 0) {
        pro_discard(a->loops[listener->loop], fd);
        return;
    }
    struct seat *seat = sit(a, STREAM, fd);
    if (!seat)
        return;
    struct wire *wire = find_wire(a, seat_port(seat, true));
    if (wire) {
        wire->wanted = false;
        wire->open[1] = true;
        seat->wire = wire;
        seat->side = 1;
        return;
    }
    seat->failed = true; /* who connected is gone already */
    (void)deed_begin(a, ABORT, seat, seat->loop);
}

/* ---- The end of a handle ---- */

/* Whoever has the wire or the paper has it no more. */
static void let_go(struct seat *seat)
{
    if (seat->wire)
        wire_left(seat->wire, seat->side, seat->type != DATAGRAMS);
    free(seat->paper);
}

static void hand_on(struct seat *seat, int fd)
{
    struct acts *a = seat->acts;
    struct seat *next = seat_new(a, seat->type, draw(a, LOOPS));
    if (!next) {
        pro_sim_close(a->sim, fd);
        let_go(seat);
        return;
    }
    next->fd = fd;
    next->wire = seat->wire;
    next->side = seat->side;
    next->paper = seat->paper;
    next->failed = seat->failed;
    if (next->wire)
        way_mend(&next->wire->ways[next->side]);
    if (next->paper)
        paper_mend(next->paper);
    pro_adopt(a->loops[next->loop], &next->handle, fd);
}

void seat_closed(struct seat *seat, int fd)
{
    struct acts *a = seat->acts;
    struct seat gone = *seat;
    if (seat->in_flight > 0)
        pro_sim_fail(a->sim, "a handle is closed before %u of its operations have ended", seat->in_flight);
    if (seat->handle.loop)
        pro_sim_fail(a->sim, "a handle whose close has ended is open");
    if (fd >= 0 && seat->fd >= 0 && fd != seat->fd)
        pro_sim_fail(a->sim, "a release gives descriptor %d, and it was %d", fd, seat->fd);
    seat_free(seat);
    if (fd >= 0)
        hand_on(&gone, fd);
    else
        let_go(&gone);
    if (fd < 0 && !acts_are_over(a) && !a->ending && draw(a, 3) > 0)
        seat_something(a);
}

void seat_lost(struct seat *seat)
{
    struct acts *a = seat->acts;
    if (seat->handle.loop || seat->in_flight > 0)
        pro_sim_fail(a->sim, "a loop is gone, and a handle has %u operations in flight", seat->in_flight);
    let_go(seat);
    seat_free(seat);
}
