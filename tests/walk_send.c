/* SPDX-License-Identifier: MIT
 *
 * Sends against cancel, deadline, reset and shutdown: what the peer gets is what the program was told, in order, and
 * behind a send that was cut nothing goes.
 */
#include "walk.h"

enum { FIRST = 6, SECOND = 3 };
enum { BYTES, SLICES, PIPE, WAYS }; /* pro_send, pro_send_slices, pro_write */

struct sending {
    struct pro_handle handle;
    struct peer peer;
    struct note first, second, shut;
    struct pro_pool *pool;
    struct pro_slice *slices; /* received, for SLICES */
    char data[FIRST + SECOND + 1];
    struct iovec iov[3], more;
    uint32_t way;
    bool cut;        /* a send has ended in its middle */
    char told[TAPE]; /* went, says the program */
    char got[TAPE];  /* came, says the peer */
    uint32_t told_size, got_size;
    int end; /* of what came: as peer.end */
};

static void read_some(struct play *p)
{
    struct sending *x = p->own;
    for (;;) {
        int n = pro_sim_read(p->sim, x->peer.fd, x->got + x->got_size, TAPE - x->got_size);
        if (n <= 0) {
            x->end = n == -EAGAIN ? 1 : n;
            return;
        }
        x->got_size += (uint32_t)n;
    }
}

static void reset_peer(struct play *p)
{
    pro_sim_reset(p->sim, ((struct sending *)p->own)->peer.fd);
}

/* Bytes that went, of those at `data`. */
static void tell(struct sending *x, const struct note *n, const char *data)
{
    uint32_t bytes = pro_op_bytes(&n->op);
    memcpy(x->told + x->told_size, data, bytes);
    x->told_size += bytes;
}

static void check_send(struct note *n, struct pro_result r, uint32_t size)
{
    struct play *p = n->play;
    struct sending *x = p->own;
    uint32_t bytes = pro_op_bytes(&n->op);
    bool broken = play_hits(p, PRO_SIM_NO_MEMORY) > 0;
    bool reset = r.res == -ECONNRESET || r.res == -EPIPE;
    CHECK(p, (r.res == (int)size) == (bytes == size), "a send says %d, and %u bytes went", r.res, bytes);
    CHECK(p, bytes == 0 || !x->cut, "a send goes behind one that was cut");
    CHECK(p, r.res > 0 || n->asked || n->deadline || (broken && r.res == -ENOBUFS) || reset, "a send ends with %d",
          r.res);
    if (bytes > 0 && bytes < size)
        x->cut = true;
}

static void first_sent(struct note *n, struct pro_result r)
{
    struct sending *x = n->play->own;
    tell(x, n, x->data);
    check_send(n, r, FIRST);
}

static void second_sent(struct note *n, struct pro_result r)
{
    struct sending *x = n->play->own;
    bool cut = x->cut;
    tell(x, n, x->data + FIRST);
    check_send(n, r, SECOND);
    CHECK(n->play, !cut || r.res == -EPIPE || n->asked || n->deadline, "behind a cut a send ends with %d", r.res);
    CHECK(n->play, !cut || pro_try_send(&x->handle, "!", 1) == -EPIPE, "behind a cut something can be sent");
}

static void cancel_either(struct play *p)
{
    struct sending *x = p->own;
    note_cancel(play_variant(p, 2) ? &x->second : &x->first);
}

static void keep_slice(struct note *n, struct pro_result r)
{
    struct sending *x = n->play->own;
    struct pro_slice **link = &x->slices;
    while (*link)
        link = &(*link)->next;
    *link = r.slice;
}

/* Receives the bytes that are to be sent, as slices: one of 4 bytes, which is split, and one of 2. */
static void fetch_slices(struct play *p, struct sending *x)
{
    struct note receive = {0};
    struct pro_slice *tail;
    x->pool = play_pool(p, 2, 2);
    pro_recv_multi(&x->handle, note_begin(p, &receive, "receive", keep_slice), x->pool, FIRST, on_note);
    peer_write(p, &x->peer, 4);
    pro_sim_run(p->sim, pro_sim_now(p->sim) + 10000);
    peer_write(p, &x->peer, FIRST - 4);
    pro_sim_run(p->sim, pro_sim_now(p->sim) + 10000);
    note_cancel(&receive);
    pro_sim_run(p->sim, PRO_NEVER);
    CHECK(p, x->peer.out.sent == FIRST && x->slices && x->slices->size == 4 && !receive.in_flight, "no slices");
    CHECK(p, pro_slice_split(x->slices, 1, &tail) == 0, "a slice cannot be split");
    tail->next = x->slices->next;
    x->slices->next = tail;
}

static void start_first(struct play *p, struct sending *x)
{
    struct pro_op *op = note_begin(p, &x->first, "first", first_sent);
    x->iov[0] = (struct iovec){x->data, 1};
    x->iov[1] = (struct iovec){x->data + 1, 3};
    x->iov[2] = (struct iovec){x->data + 4, FIRST - 4};
    switch (x->way) {
    case BYTES:
        pro_send(&x->handle, op, x->iov, 3, 0, on_note);
        break;
    case SLICES:
        pro_send_slices(&x->handle, op, x->slices, on_note);
        break;
    default:
        pro_write(&x->handle, op, x->data, FIRST, PRO_STREAM, on_note);
    }
}

static void start_second(struct play *p, struct sending *x)
{
    struct pro_op *op = note_begin(p, &x->second, "second", second_sent);
    x->more = (struct iovec){x->data + FIRST, SECOND};
    if (x->way == PIPE)
        pro_write(&x->handle, op, x->data + FIRST, SECOND, PRO_STREAM, on_note);
    else
        pro_send(&x->handle, op, &x->more, 1, 0, on_note);
}

static void sending_open(struct play *p, struct sending *x, uint32_t ways)
{
    int fds[2];
    p->own = x;
    x->way = play_variant(p, ways);
    x->end = 1;
    tape_fill(&x->peer.in, x->data, sizeof x->data);
    if (x->way < PIPE) {
        peer_open(p, &x->peer, &x->handle);
    } else {
        CHECK(p, pro_sim_pipe(p->sim, fds) == 0, "no pipe");
        pro_adopt(p->loop, &x->handle, fds[1]);
        x->peer = (struct peer){.fd = fds[0], .end = 1};
    }
    if (x->way == SLICES)
        fetch_slices(p, x);
}

/* The peer reads until nothing more comes. */
static void read_all(struct play *p, struct sending *x)
{
    for (uint32_t before = TAPE; before != x->got_size;) {
        before = x->got_size;
        read_some(p);
        play_settle(p);
    }
}

static void sending_end(struct play *p, struct sending *x, bool whole)
{
    read_all(p, x);
    CHECK(p, p->in_flight == 0, "a send does not end");
    CHECK(p, memcmp(x->got, x->told, x->got_size) == 0, "the peer got what was not sent");
    CHECK(p, !whole || x->got_size == x->told_size, "%u bytes went, %u have arrived", x->told_size, x->got_size);
    pro_pool_free(x->pool);
    play_end(p);
    peer_close(p, &x->peer);
}

static void cancel_send(struct play *p)
{
    static const struct act reader[] = {{"read", read_some, NULL}, {"read", read_some, NULL}, {0}};
    static const struct act canceller[] = {{"cancel", cancel_either, NULL}, {0}};
    struct sending x = {0};
    sending_open(p, &x, WAYS);
    start_first(p, &x);
    start_second(p, &x);
    play_cast_far(p, reader);
    play_cast(p, canceller);
    play_run(p);
    sending_end(p, &x, true);
}

/* The peer reads, and then breaks the connection. */
static void reset_send(struct play *p)
{
    static const struct act reader[] = {{"read", read_some, NULL}, {"reset", reset_peer, NULL}, {0}};
    static const struct act canceller[] = {{"cancel", cancel_either, NULL}, {0}};
    struct sending x = {0};
    sending_open(p, &x, PIPE);
    start_first(p, &x);
    start_second(p, &x);
    play_cast_far(p, reader);
    play_cast(p, canceller);
    play_run(p);
    sending_end(p, &x, false);
}

/* Both are late, some turns apart: one that is about to be tried gets one more, and then the one ends the other. */
static void deadline_sends(struct play *p)
{
    static const struct act reader[] = {{"read", read_some, NULL}, {"read", read_some, NULL}, {0}};
    struct sending x = {0};
    sending_open(p, &x, PIPE);
    uint64_t at = pro_now(p->loop) + 2500;
    start_first(p, &x);
    start_second(p, &x);
    note_deadline(&x.first, at);
    note_deadline(&x.second, at + 1000 * play_variant(p, 3));
    play_cast_far(p, reader);
    play_run(p);
    sending_end(p, &x, true);
}

/* ------------------------------------------------------------------------------------------------------------
 * A shutdown in line behind a send
 * ------------------------------------------------------------------------------------------------------------ */

static void shut_down(struct note *n, struct pro_result r)
{
    struct sending *x = n->play->own;
    CHECK(n->play, r.res == 0 || n->asked, "a shutdown ends with %d", r.res);
    CHECK(n->play, r.res < 0 || !x->first.in_flight, "a shutdown overtakes a send");
}

static void cancel_any(struct play *p)
{
    struct sending *x = p->own;
    note_cancel(play_variant(p, 2) ? &x->shut : &x->first);
}

static void shutdown_in_line(struct play *p)
{
    static const struct act reader[] = {{"read", read_some, NULL}, {"read", read_some, NULL}, {0}};
    static const struct act canceller[] = {{"cancel", cancel_any, NULL}, {0}};
    struct sending x = {0};
    sending_open(p, &x, PIPE);
    start_first(p, &x);
    pro_shutdown(&x.handle, note_begin(p, &x.shut, "shutdown", shut_down), SHUT_WR, on_note);
    play_cast_far(p, reader);
    play_cast(p, canceller);
    play_run(p);
    read_all(p, &x);
    CHECK(p, (x.shut.last.res == 0) == (x.end == 0), "a shutdown says %d, and the peer sees %d", x.shut.last.res,
          x.end);
    sending_end(p, &x, true);
}

const struct scenario walk_send[] = {
    {.name = "cancel_send",
     .bounds = "send, send_slices or write of 6 bytes and a send of 3 into a buffer of 4; 1 cancel, 2 reads",
     .body = cancel_send,
     .faults = 1,
     .kinds = FAULT(SHORT_SEND) | FAULT(RECALL) | FAULT(INTERRUPT) | FAULT(NO_MEMORY) | FAULT(CANCEL_LATE) |
              FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL),
     .socket_buffer = 4},
    {.name = "reset_send",
     .bounds = "the same; 1 cancel, 1 read, 1 reset by the peer",
     .body = reset_send,
     .faults = 1,
     .kinds = FAULT(SHORT_SEND) | FAULT(RECALL) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL),
     .socket_buffer = 4},
    {.name = "deadline_sends",
     .bounds = "the same with a deadline for each send, up to 2 turns apart; 2 reads",
     .body = deadline_sends,
     .faults = 2,
     .kinds =
         FAULT(SHORT_SEND) | FAULT(RECALL) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL) | FAULT(VAIN),
     .socket_buffer = 4},
    {.name = "shutdown_in_line",
     .bounds = "send or send_slices of 6 bytes into a buffer of 4, and a shutdown; 1 cancel, 2 reads",
     .body = shutdown_in_line,
     .faults = 1,
     .kinds = FAULT(SHORT_SEND) | FAULT(RECALL) | FAULT(INTERRUPT) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) |
              FAULT(SUBMIT_FULL),
     .socket_buffer = 4},
    {0},
};
