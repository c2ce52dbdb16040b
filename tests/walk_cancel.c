/* SPDX-License-Identifier: MIT
 *
 * Cancel and deadline against completion, for operations that complete once.
 */
#include "walk.h"

#include <netinet/in.h>

/* ------------------------------------------------------------------------------------------------------------
 * A receive, and the one after it, which must bring what the first has not
 * ------------------------------------------------------------------------------------------------------------ */

enum { SOME, ALL, PIPE, WAYS }; /* pro_recv, with PRO_RECV_ALL, pro_read */

struct receiving {
    struct pro_handle handle;
    struct peer peer;
    struct note recv, rest;
    char data[2][8]; /* of `recv` and of `rest` */
    uint32_t way, size;
};

static char *data_of(struct receiving *x, const struct note *n)
{
    return x->data[n == &x->rest];
}

static void receive(struct play *p, struct note *n, const char *name, void (*then)(struct note *n, struct pro_result r))
{
    struct receiving *x = p->own;
    struct pro_op *op = note_begin(p, n, name, then);
    if (x->way == PIPE)
        pro_read(&x->handle, op, data_of(x, n), x->size, PRO_STREAM, on_note);
    else
        pro_recv(&x->handle, op, data_of(x, n), x->size, x->way == ALL ? PRO_RECV_ALL : 0, on_note);
}

static void received(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct receiving *x = p->own;
    if (r.res > 0)
        tape_take(p, &x->peer.out, data_of(x, n), (uint32_t)r.res);
    if (r.res > 0 && x->way == ALL)
        CHECK(p, (uint32_t)r.res == x->size || n->asked || n->deadline || x->peer.out.ended, "RECV_ALL brings %d bytes",
              r.res);
    if (r.flags & PRO_EOF)
        CHECK(p, x->peer.out.ended && x->peer.out.received == x->peer.out.sent, "the end comes before the bytes");
    CHECK(p, r.res > 0 || r.flags & PRO_EOF || n->asked || n->deadline, "a receive ends with %d", r.res);
}

static void rest_came(struct note *n, struct pro_result r)
{
    received(n, r);
    if (!(r.flags & PRO_EOF))
        receive(n->play, n, "rest", rest_came);
}

static void recv_ended(struct note *n, struct pro_result r)
{
    struct receiving *x = n->play->own;
    received(n, r);
    receive(n->play, &x->rest, "rest", rest_came);
}

static void recv_again(struct note *n, struct pro_result r)
{
    received(n, r);
    if (!(r.flags & PRO_EOF))
        receive(n->play, n, "recv", recv_again);
}

static void write_two(struct play *p)
{
    peer_write(p, &((struct receiving *)p->own)->peer, 2);
}

static void end_input(struct play *p)
{
    struct receiving *x = p->own;
    if (x->way == PIPE)
        peer_close(p, &x->peer);
    else
        peer_end(p, &x->peer);
}

static void write_and_end(struct play *p)
{
    write_two(p);
    end_input(p);
}

static void cancel_it(struct play *p)
{
    note_cancel(&((struct receiving *)p->own)->recv);
}

static const struct act writer[] = {{"write", write_two, NULL}, {"end", end_input, NULL}, {0}};
static const struct act twice[] = {{"write", write_two, NULL}, {"write and end", write_and_end, NULL}, {0}};

static void receiving_open(struct play *p, struct receiving *x, uint32_t ways)
{
    int fds[2];
    p->own = x;
    x->way = play_variant(p, ways);
    x->size = 3;
    if (x->way < PIPE) {
        peer_open(p, &x->peer, &x->handle);
    } else {
        CHECK(p, pro_sim_pipe(p->sim, fds) == 0, "no pipe");
        pro_adopt(p->loop, &x->handle, fds[0]);
        x->peer = (struct peer){.fd = fds[1], .end = 1};
    }
}

static void receiving_end(struct play *p, struct receiving *x)
{
    CHECK(p, p->in_flight == 0, "a receive does not end");
    CHECK(p, x->peer.out.received == x->peer.out.sent, "bytes have not arrived");
    play_end(p);
    peer_close(p, &x->peer);
}

static void cancel_recv(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_it, NULL}, {0}};
    struct receiving x = {0};
    receiving_open(p, &x, WAYS);
    receive(p, &x.recv, "recv", recv_ended);
    play_cast_far(p, writer);
    play_cast(p, canceller);
    play_run(p);
    receiving_end(p, &x);
}

/* The receive is started again by its final continuation, and what was asked of one flight is not asked of the next. */
static void cancel_twice(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_it, NULL}, {"cancel", cancel_it, NULL}, {0}};
    struct receiving x = {0};
    receiving_open(p, &x, PIPE);
    receive(p, &x.recv, "recv", recv_again);
    play_cast_far(p, twice + 1);
    play_cast(p, canceller);
    play_run(p);
    receiving_end(p, &x);
}

/* Two receives in line, and either is cancelled: what they bring is in order. */
static void cancel_either(struct play *p)
{
    struct receiving *x = p->own;
    note_cancel(play_variant(p, 2) ? &x->rest : &x->recv);
}

static void recvs_in_line(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_either, NULL}, {0}};
    struct receiving x = {0};
    receiving_open(p, &x, PIPE);
    receive(p, &x.recv, "first", received);
    receive(p, &x.rest, "second", rest_came);
    play_cast_far(p, twice);
    play_cast(p, canceller);
    play_run(p);
    receiving_end(p, &x);
}

/* ------------------------------------------------------------------------------------------------------------
 * Deadlines: the first of deadline and cancel names the error
 * ------------------------------------------------------------------------------------------------------------ */

struct late {
    struct receiving receiving; /* first, so that it is the same `own` */
    struct note marker;         /* a timer at the deadline */
    uint64_t deadline, cancelled;
    bool marked, marked_before; /* the deadline had come when the cancel did */
    bool moved;
};

static void late_ended(struct note *n, struct pro_result r)
{
    struct late *x = n->play->own;
    received(n, r);
    if (r.res == -ETIME)
        CHECK(n->play, !x->cancelled || x->cancelled >= x->deadline, "a deadline that came after the cancel is named");
    if (r.res == -ECANCELED)
        CHECK(n->play, x->moved || !x->marked_before, "a cancel that came after the deadline is named");
    n->deadline = 0;
    receive(n->play, &x->receiving.rest, "rest", rest_came);
}

static void mark(struct note *n, struct pro_result r)
{
    ((struct late *)n->play->own)->marked = true;
}

static void cancel_late(struct play *p)
{
    struct late *x = p->own;
    x->cancelled = pro_sim_now(p->sim);
    x->marked_before = x->marked;
    note_cancel(&x->receiving.recv);
}

/* Sooner, never, or in the past. */
static void move_deadline(struct play *p)
{
    struct late *x = p->own;
    const uint64_t to[] = {x->deadline - 1000, 0, 1};
    if (!x->receiving.recv.in_flight)
        return;
    x->moved = true;
    x->deadline = to[play_variant(p, 3)];
    pro_deadline(&x->receiving.recv.op, x->deadline);
    if (!x->cancelled && x->deadline && x->deadline < x->receiving.recv.deadline)
        x->receiving.recv.deadline = x->deadline;
}

static void deadline_recv(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_late, NULL}, {0}};
    static const struct act mover[] = {{"move", move_deadline, NULL}, {0}};
    struct late x = {0};
    receiving_open(p, &x.receiving, PIPE);
    x.deadline = pro_now(p->loop) + 2500;
    pro_timer(p->loop, note_begin(p, &x.marker, "marker", mark), x.deadline, on_note);
    receive(p, &x.receiving.recv, "recv", late_ended);
    note_deadline(&x.receiving.recv, x.deadline);
    play_cast_far(p, twice + 1);
    play_cast(p, canceller);
    play_cast(p, mover);
    play_run(p);
    receiving_end(p, &x.receiving);
}

static void late_again(struct note *n, struct pro_result r);

/* What is to be received is there, and so is the deadline, or almost. */
static void receive_late(struct play *p, struct note *n)
{
    struct late *x = p->own;
    receive(p, n, "recv", late_again);
    if (n->starts <= 3)
        note_deadline(n, x->deadline);
}

static void late_again(struct note *n, struct pro_result r)
{
    received(n, r);
    if (!(r.flags & PRO_EOF))
        receive_late(n->play, n);
}

static void deadline_run(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_it, NULL}, {0}};
    struct late x = {0};
    receiving_open(p, &x.receiving, PIPE);
    const uint64_t deadlines[] = {1, pro_now(p->loop) + 500, pro_now(p->loop) + 1500};
    x.deadline = deadlines[play_variant(p, 3)];
    write_and_end(p);
    receive_late(p, &x.receiving.recv);
    play_cast(p, canceller);
    play_run(p);
    receiving_end(p, &x.receiving);
}

#define NUISANCES (FAULT(RECALL) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL))

const struct scenario walk_cancel[] = {
    {.name = "cancel_recv",
     .bounds = "recv, RECV_ALL or read; 1 cancel, 2 bytes and the end",
     .body = cancel_recv,
     .faults = 2,
     .kinds = NUISANCES | FAULT(SHORT_RECV) | FAULT(INTERRUPT) | FAULT(VAIN),
     .inside = true},
    {.name = "cancel_twice",
     .bounds = "recv or RECV_ALL, restarted; 2 cancels, 2 bytes and the end",
     .body = cancel_twice,
     .faults = 1,
     .kinds = NUISANCES,
     .inside = true},
    {.name = "recvs_in_line",
     .bounds = "2 recvs or RECV_ALLs; 1 cancel, 2 x 2 bytes and the end",
     .body = recvs_in_line,
     .faults = 1,
     .kinds = NUISANCES | FAULT(SHORT_RECV),
     .inside = true},
    {.name = "deadline_recv",
     .bounds = "recv or RECV_ALL; 1 deadline, moved once, 1 cancel, 2 bytes and the end",
     .body = deadline_recv,
     .faults = 1,
     .kinds = NUISANCES},
    {.name = "deadline_run",
     .bounds = "recv or RECV_ALL by pro_run, whose turn may start what it tells the result of, 3 times with 1 of 3 "
               "deadlines, and to the end; 1 cancel, 2 bytes and the end being there",
     .body = deadline_run,
     .faults = 2,
     .kinds = NUISANCES | FAULT(SHORT_RECV) | FAULT(INTERRUPT) | FAULT(EARLY_WAKE),
     .inside = true,
     .runs = true},
    {0},
};
