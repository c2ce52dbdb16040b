/* SPDX-License-Identifier: MIT
 *
 * Close, abort and release against what is in flight.
 */
#include "walk.h"

#include <poll.h>

enum { CLOSE, ABORT, RELEASE, ENDINGS };
enum { SEND = 6 }; /* bytes, into a buffer of 4 */

struct closing {
    struct pro_handle handle, other_handle;
    struct peer peer, next_peer, other_peer;
    struct note recv, late, send, close, next, other;
    struct pro_pool *pool; /* the receive is a multishot */
    char data[8], out[SEND], byte;
    struct iovec iov;
    uint32_t way;
    int fd;
    bool early; /* what begins on the closing handle does so before the close is with the kernel */
    bool reset; /* the close has said that it was turned into an abort */
};

static void peer_reads(struct play *p)
{
    peer_read(p, &((struct closing *)p->own)->peer);
}

static void peer_writes(struct play *p)
{
    peer_write(p, &((struct closing *)p->own)->peer, 2);
}

/* Whether an operation on the handle may end like this. */
static void check_closing(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    const struct closing *x = p->own;
    CHECK(p, x->close.finals == 0, "%s ends after the close", n->name);
    CHECK(p, r.res > 0 || n->asked || r.flags & PRO_EOF, "%s ends with %d", n->name, r.res);
}

static void late_came(struct note *n, struct pro_result r)
{
    check_closing(n, r);
    CHECK(n->play, r.res == -ECANCELED || r.res == -ESHUTDOWN, "what begins on a closing handle ends with %d", r.res);
}

static void start_late(struct play *p)
{
    struct closing *x = p->own;
    struct pro_op *op = note_begin(p, &x->late, "late", late_came);
    x->late.asked = true;
    pro_recv(&x->handle, op, x->data, sizeof x->data, 0, on_note);
}

static bool is_closing(struct play *p)
{
    return ((struct closing *)p->own)->close.in_flight;
}

/* The close is with the kernel. */
static bool closes_alone(struct play *p)
{
    const struct closing *x = p->own;
    return x->close.in_flight && !x->recv.in_flight && !x->send.in_flight && !x->late.starts;
}

/* A receive ends, and another one begins: on a handle that closes. */
static void recv_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct closing *x = p->own;
    check_closing(n, r);
    if (r.slice)
        slice_take(p, &x->peer.out, r.slice);
    else if (r.res > 0)
        tape_take(p, &x->peer.out, x->data, (uint32_t)r.res);
    if (!n->in_flight && x->close.starts && x->early)
        start_late(p);
}

static void send_went(struct note *n, struct pro_result r)
{
    struct closing *x = n->play->own;
    check_closing(n, r);
    CHECK(n->play, (r.res == SEND) == (pro_op_bytes(&n->op) == SEND), "a send says %d", r.res);
    CHECK(n->play, x->peer.in.received <= pro_op_bytes(&n->op), "more has arrived than went");
    x->peer.in.sent = pro_op_bytes(&n->op);
}

static void next_came(struct note *n, struct pro_result r)
{
    struct closing *x = n->play->own;
    CHECK(n->play, r.res == 2, "the next connection ends with %d", r.res);
    tape_take(n->play, &x->next_peer.out, x->data, 2);
}

/* The handle's memory, and the number of its descriptor, belong to another connection at once. */
static void closed(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct closing *x = p->own;
    CHECK(p, !x->recv.in_flight && !x->late.in_flight && !x->send.in_flight, "a close ends first");
    x->reset = r.res == -ETIME || r.res == -ECANCELED;
    CHECK(p, r.res == (x->way == RELEASE ? x->fd : 0) || x->reset, "a close ends with %d", r.res);
    if (p->freeing)
        return;
    p->over = true; /* what the peer does now meets nothing of the library */
    peer_open(p, &x->next_peer, &x->handle);
    CHECK(p, x->way == RELEASE || x->handle.fd == x->fd, "the number is not used again");
    pro_recv(&x->handle, note_begin(p, &x->next, "next", next_came), x->data, 2, PRO_RECV_ALL, on_note);
    peer_write(p, &x->next_peer, 2);
}

static void close_it(struct play *p)
{
    static void (*const ways[])(struct pro_handle *, struct pro_op *, pro_fn *) = {pro_close, pro_abort, pro_release};
    struct closing *x = p->own;
    note_asked(&x->recv);
    note_asked(&x->send);
    ways[x->way](&x->handle, note_begin(p, &x->close, "close", closed), on_note);
}

/* `rested`: the kernel has found that nothing is there to be received, and has taken what there is room for. */
static void closing_open(struct play *p, struct closing *x, bool multi, bool rested)
{
    p->own = x;
    peer_open(p, &x->peer, &x->handle);
    x->fd = x->handle.fd;
    x->early = !multi;
    x->pool = play_pool(p, 2, 2);
    struct pro_op *op = note_begin(p, &x->recv, "recv", recv_came);
    if (multi)
        pro_recv_multi(&x->handle, op, x->pool, PRO_UNLIMITED, on_note);
    else
        pro_recv(&x->handle, op, x->data, 3, PRO_RECV_ALL, on_note);
    if (rested)
        play_rest(p);
    tape_fill(&x->peer.in, x->out, SEND);
    x->peer.in.sent = SEND;
    x->iov = (struct iovec){x->out, SEND};
    pro_send(&x->handle, note_begin(p, &x->send, "send", send_went), &x->iov, 1, 0, on_note);
    if (rested)
        play_rest(p);
}

/* What the peer sees in the end: all that was sent, and an end that fits. */
static void closing_end(struct play *p, struct closing *x)
{
    bool unread = x->peer.out.received < x->peer.out.sent, reset = x->way == ABORT || x->reset;
    CHECK(p, x->close.finals == 1 && x->next.finals == 1, "a close does not end");
    if (x->way == RELEASE) {
        peer_rest(p, &x->peer, x->close.last.res);
        CHECK(p, x->peer.out.received == x->peer.out.sent, "bytes are lost by a release");
        CHECK(p, pro_sim_close(p->sim, x->close.last.res) == 0, "what was released is not open");
        unread = false;
    }
    peer_read(p, &x->peer);
    CHECK(p, x->peer.in.received == x->peer.in.sent, "%u bytes went, %u have arrived", x->peer.in.sent,
          x->peer.in.received);
    CHECK(p, x->peer.end == (reset || unread ? -ECONNRESET : 0), "the peer sees %d", x->peer.end);
    pro_pool_free(x->pool);
    play_end(p);
    peer_close(p, &x->peer);
    peer_close(p, &x->next_peer);
}

static void walk_closing(struct play *p, struct closing *x, const struct act *far)
{
    static const struct act closer[] = {{"close", close_it, NULL}, {"start", start_late, closes_alone}, {0}};
    play_cast_far(p, far);
    play_cast(p, closer);
    play_run(p);
    closing_end(p, x);
}

static void close_both(struct play *p)
{
    static const struct act far[] = {{"write", peer_writes, NULL}, {"read", peer_reads, NULL}, {0}};
    struct closing x = {.way = play_variant(p, 2) ? ABORT : CLOSE};
    closing_open(p, &x, play_variant(p, 2), true);
    walk_closing(p, &x, far);
}

static void release_both(struct play *p)
{
    static const struct act far[] = {{"write", peer_writes, NULL}, {"write", peer_writes, NULL}, {0}};
    struct closing x = {.way = RELEASE};
    closing_open(p, &x, play_variant(p, 2), true);
    walk_closing(p, &x, far);
}

/* The same while both are on their way to the kernel. */
static void peer_moves(struct play *p)
{
    peer_writes(p);
    peer_reads(p);
}

static void close_at_once(struct play *p)
{
    static const struct act far[] = {{"write and read", peer_moves, NULL}, {0}};
    struct closing x = {.way = play_variant(p, ENDINGS)};
    closing_open(p, &x, false, false);
    walk_closing(p, &x, far);
}

/* ------------------------------------------------------------------------------------------------------------
 * A close that must not wait
 * ------------------------------------------------------------------------------------------------------------ */

static void close_by(struct play *p)
{
    close_it(p);
    note_deadline(&((struct closing *)p->own)->close, pro_sim_now(p->sim) + 3500);
}

static void cancel_close(struct play *p)
{
    note_cancel(&((struct closing *)p->own)->close);
}

/* Told in one turn with the result of the close, and before it. */
static void other_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    CHECK(p, r.res == 1 || p->freeing, "the other receive ends with %d", r.res);
    if (closes_alone(p))
        start_late(p);
}

static void write_other(struct play *p)
{
    peer_write(p, &((struct closing *)p->own)->other_peer, 1);
}

static void hurry_close(struct play *p)
{
    static const struct act far[] = {{"write other", write_other, NULL}, {0}};
    static const struct act closer[] = {{"close", close_by, NULL}, {0}};
    static const struct act canceller[] = {{"cancel", cancel_close, is_closing}, {0}};
    struct closing x = {.way = CLOSE};
    closing_open(p, &x, play_variant(p, 2), true);
    peer_open(p, &x.other_peer, &x.other_handle);
    pro_recv(&x.other_handle, note_begin(p, &x.other, "other", other_came), &x.byte, 1, 0, on_note);
    play_rest(p);
    play_cast_far(p, far);
    play_cast(p, closer);
    play_cast(p, canceller);
    play_run(p);
    closing_end(p, &x);
    peer_close(p, &x.other_peer);
}

/* ------------------------------------------------------------------------------------------------------------
 * Polls
 * ------------------------------------------------------------------------------------------------------------ */

struct polling {
    struct pro_handle handle;
    struct peer peer;
    struct note once, multi, close;
    uint32_t way;
};

enum { CANCEL_POLLS, CLOSE_POLLS, NO_END, POLL_WAYS };

static void polled(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct polling *x = p->own;
    CHECK(p, x->close.finals == 0, "%s reports after the close", n->name);
    CHECK(p, r.res > 0 ? r.res & POLLIN && x->peer.out.sent : n->asked || p->freeing, "%s says %d", n->name, r.res);
    CHECK(p, n->in_flight == (n == &x->multi && r.res > 0), "%s ends with %d", n->name, r.res);
}

static void write_to_poll(struct play *p)
{
    peer_write(p, &((struct polling *)p->own)->peer, 1);
}

static void end_polls(struct play *p)
{
    struct polling *x = p->own;
    note_asked(&x->once);
    note_asked(&x->multi);
    if (x->way == CANCEL_POLLS)
        pro_cancel_all(&x->handle);
    else
        pro_close(&x->handle, note_begin(p, &x->close, "close", NULL), on_note);
}

static void poll_and_close(struct play *p)
{
    static const struct act far[] = {{"write", write_to_poll, NULL}, {"write", write_to_poll, NULL}, {0}};
    static const struct act closer[] = {{"end", end_polls, NULL}, {0}};
    struct polling x = {0};
    p->own = &x;
    x.way = play_variant(p, POLL_WAYS);
    peer_open(p, &x.peer, &x.handle);
    pro_poll(&x.handle, note_begin(p, &x.once, "poll", polled), POLLIN, on_note);
    play_rest(p);
    pro_poll_multi(&x.handle, note_begin(p, &x.multi, "poll_multi", polled), POLLIN, on_note);
    play_rest(p);
    play_cast_far(p, far);
    if (x.way != NO_END)
        play_cast(p, closer);
    play_run(p);
    CHECK(p, x.once.finals == 1, "a poll does not end");
    CHECK(p, x.multi.finals == (x.way != NO_END), "a multishot poll has ended, or not");
    CHECK(p, x.way != NO_END || x.multi.mores > 0, "a multishot poll has told nothing");
    CHECK(p, x.close.finals == (x.way == CLOSE_POLLS), "a close does not end");
    play_end(p);
    peer_close(p, &x.peer);
}

#define NUISANCES                                                                                                      \
    (FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL) | FAULT(FEW))

const struct scenario walk_close[] = {
    {.name = "close_both",
     .bounds = "RECV_ALL of 3 bytes or recv_multi, and a send of 6 into a buffer of 4; 1 close or abort, 2 bytes, "
               "1 read; a receive that is too late, and one on the next connection",
     .body = close_both,
     .faults = 1,
     .kinds = NUISANCES | FAULT(SHORT_RECV) | FAULT(SLOW_CLOSE),
     .socket_buffer = 4},
    {.name = "release_both",
     .bounds = "the same; 1 release, 2 x 2 bytes",
     .body = release_both,
     .faults = 2,
     .kinds = NUISANCES | FAULT(SHORT_RECV),
     .socket_buffer = 4},
    {.name = "close_at_once",
     .bounds = "RECV_ALL of 3 bytes and a send of 6 into a buffer of 4 as they start; 1 close, abort or release, "
               "2 bytes and 1 read at once",
     .body = close_at_once,
     .socket_buffer = 4},
    {.name = "hurry_close",
     .bounds =
         "RECV_ALL or recv_multi and a send; 1 close with a deadline, cancelled once; 1 recv of 1 byte on another "
         "handle, whose end begins one on the handle that closes",
     .body = hurry_close,
     .faults = 2,
     .kinds = FAULT(CANCEL_LATE) | FAULT(SLOW_CLOSE),
     .socket_buffer = 4},
    {.name = "poll_and_close",
     .bounds = "poll and poll_multi; both cancelled, closed or neither, 2 x 1 byte",
     .body = poll_and_close,
     .faults = 1,
     .kinds = NUISANCES | FAULT(VAIN)},
    {0},
};
