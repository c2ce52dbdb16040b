/* SPDX-License-Identifier: MIT
 *
 * Cancel against completion: connections that come and that are made, timers; and operations that are something else
 * as soon as they have ended.
 */
#include "walk.h"

#include <netinet/in.h>
#include <poll.h>

/* ------------------------------------------------------------------------------------------------------------
 * Accept: every connection is delivered, or waits, or is told that it is gone
 * ------------------------------------------------------------------------------------------------------------ */

enum { CALLERS = 2 };

struct accepting {
    struct pro_handle listener;
    struct sockaddr_storage at;
    struct note accept, rest, close;
    int callers[CALLERS];
    unsigned called, accepted;
    bool multi;
};

static void call(struct play *p)
{
    struct accepting *x = p->own;
    int fd = pro_sim_connect(p->sim, (struct sockaddr *)&x->at, sizeof(struct sockaddr_in));
    CHECK(p, fd >= 0 || (fd == -ECONNREFUSED && x->close.starts), "a caller cannot connect: %d", fd);
    if (fd >= 0)
        x->callers[x->called++] = fd;
}

static void take_caller(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct accepting *x = p->own;
    CHECK(p, r.res >= 0 || n->asked || p->freeing || r.res == -EMFILE || r.res == -ENOMEM, "an accept ends with %d",
          r.res);
    CHECK(p, r.res < 0 || x->accepted < x->called, "more connections than callers");
    if (r.res < 0)
        return;
    x->accepted++;
    pro_discard(p->loop, r.res);
}

static void accept_rest(struct note *n, struct pro_result r)
{
    struct accepting *x = n->play->own;
    take_caller(n, r);
    if (!n->in_flight && !n->play->freeing)
        pro_accept(&x->listener, note_begin(n->play, n, "rest", accept_rest), on_note);
}

static void accept_ended(struct note *n, struct pro_result r)
{
    struct accepting *x = n->play->own;
    take_caller(n, r);
    CHECK(n->play, n->in_flight || !x->multi || r.res < 0, "a multishot ends unasked");
    if (!n->in_flight)
        pro_accept(&x->listener, note_begin(n->play, &x->rest, "rest", accept_rest), on_note);
}

static void cancel_accepting(struct play *p)
{
    note_cancel(&((struct accepting *)p->own)->accept);
}

static void accepting_open(struct play *p, struct accepting *x, bool multi)
{
    p->own = x;
    x->multi = multi;
    play_listen(p, &x->listener, &x->at);
}

/* What the callers see is what the program has seen. */
static void accepting_end(struct play *p, struct accepting *x)
{
    unsigned ended = 0, reset = 0;
    char byte;
    play_end(p);
    for (unsigned i = 0; i < x->called; i++) {
        int r = pro_sim_read(p->sim, x->callers[i], &byte, 1);
        ended += r == 0;
        reset += r == -ECONNRESET;
        pro_sim_close(p->sim, x->callers[i]);
    }
    CHECK(p, ended == x->accepted && reset == x->called - x->accepted,
          "%u callers, %u accepted, but %u connections are closed and %u reset", x->called, x->accepted, ended, reset);
}

static const struct act callers[] = {{"call", call, NULL}, {"call", call, NULL}, {0}};

static void walk_accept(struct play *p, bool multi)
{
    static const struct act canceller[] = {{"cancel", cancel_accepting, NULL}, {0}};
    struct accepting x = {0};
    accepting_open(p, &x, multi);
    struct pro_op *op = note_begin(p, &x.accept, "accept", accept_ended);
    (multi ? pro_accept_multi : pro_accept)(&x.listener, op, on_note);
    play_cast_far(p, callers);
    play_cast(p, canceller);
    play_run(p);
    CHECK(p, x.accept.finals == 1 && x.rest.in_flight, "an accept does not end");
    CHECK(p, x.accepted + play_hits(p, PRO_SIM_ACCEPT_ABORTED) == x.called, "a caller waits in vain");
    accepting_end(p, &x);
}

static void cancel_accept(struct play *p)
{
    walk_accept(p, false);
}

static void cancel_accept_multi(struct play *p)
{
    walk_accept(p, true);
}

/* The listener is closed while callers come. */
static void close_listener(struct play *p)
{
    struct accepting *x = p->own;
    note_asked(&x->accept);
    pro_close(&x->listener, note_begin(p, &x->close, "close", NULL), on_note);
}

static void hear_caller(struct note *n, struct pro_result r)
{
    struct accepting *x = n->play->own;
    take_caller(n, r);
    CHECK(n->play, n->in_flight || x->close.finals == 0, "an accept ends after the close of its listener");
}

static void close_accept(struct play *p)
{
    static const struct act closer[] = {{"close", close_listener, NULL}, {0}};
    struct accepting x = {0};
    bool multi = play_variant(p, 2) == 1;
    accepting_open(p, &x, multi);
    struct pro_op *op = note_begin(p, &x.accept, "accept", hear_caller);
    (multi ? pro_accept_multi : pro_accept)(&x.listener, op, on_note);
    play_cast_far(p, callers);
    play_cast(p, closer);
    play_run(p);
    CHECK(p, x.accept.finals == 1 && x.close.finals == 1, "a close does not end");
    accepting_end(p, &x);
}

/* ------------------------------------------------------------------------------------------------------------
 * Connect
 * ------------------------------------------------------------------------------------------------------------ */

struct connecting {
    struct pro_handle listener, handle;
    struct sockaddr_storage at;
    struct note connect, accept;
    int accepted;
};

static void accepted(struct note *n, struct pro_result r)
{
    ((struct connecting *)n->play->own)->accepted = r.res;
}

static void cancel_connecting(struct play *p)
{
    note_cancel(&((struct connecting *)p->own)->connect);
}

static void connect_ended(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    bool refused = play_hits(p, PRO_SIM_REFUSE) > 0, lost = play_hits(p, PRO_SIM_UNREACHABLE) > 0;
    CHECK(p,
          r.res == 0 || r.res == -ECANCELED || r.res == -ETIME || (refused && r.res == -ECONNREFUSED) ||
              (lost && r.res == -EHOSTUNREACH),
          "a connect ends with %s", pro_error_name(r.res));
}

static void cancel_connect(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_connecting, NULL}, {0}};
    static const uint64_t deadlines[] = {0, 1500, 2500};
    struct connecting x = {.accepted = -1};
    char byte;
    p->own = &x;
    play_listen(p, &x.listener, &x.at);
    CHECK(p, pro_socket(p->loop, &x.handle, AF_INET, SOCK_STREAM, 0) == 0, "no socket");
    uint64_t deadline = deadlines[play_variant(p, 3)];
    struct pro_op *op = note_begin(p, &x.connect, "connect", connect_ended);
    pro_connect(&x.handle, op, (struct sockaddr *)&x.at, sizeof(struct sockaddr_in), on_note);
    if (deadline)
        note_deadline(&x.connect, pro_now(p->loop) + deadline);
    play_cast(p, canceller);
    play_run(p);
    CHECK(p, x.connect.finals == 1, "a connect does not end");
    pro_accept(&x.listener, note_begin(p, &x.accept, "accept", accepted), on_note);
    play_settle(p);
    if (x.connect.last.res == 0) {
        CHECK(p, x.accepted >= 0, "what is connected is not to be accepted");
        CHECK(p, pro_try_send(&x.handle, "a", 1) == 1, "what is connected cannot be written to");
        play_settle(p); /* it takes its time */
        CHECK(p, pro_sim_read(p->sim, x.accepted, &byte, 1) == 1, "what was sent has not arrived");
    }
    if (x.accepted >= 0)
        pro_discard(p->loop, x.accepted);
    play_end(p);
}

/* ------------------------------------------------------------------------------------------------------------
 * Timers
 * ------------------------------------------------------------------------------------------------------------ */

struct timing {
    struct note first, second, every;
    uint64_t at, counted;
};

enum { INTERVAL = 1000 };

static void timer_ended(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct timing *x = p->own;
    CHECK(p, r.res == 0 || r.res == -ECANCELED, "a timer ends with %d", r.res);
    if (r.res == 0)
        CHECK(p, pro_now(p->loop) >= x->at, "a timer is early");
    if (r.res == 0 && n == &x->second)
        CHECK(p, x->first.finals == 1, "timers of one time overtake each other");
}

static void every_ended(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct timing *x = p->own;
    CHECK(p, n->in_flight == (r.res > 0) && (n->in_flight || r.res == -ECANCELED), "a timer reports %d", r.res);
    if (!n->in_flight)
        return;
    x->counted += (uint64_t)r.res;
    CHECK(p, x->counted == (pro_now(p->loop) - x->at) / INTERVAL + 1, "a timer that repeats has counted %d", r.res);
    if (n->mores == 2) /* the history is to have an end */
        note_cancel(n);
}

static void cancel_first_timer(struct play *p)
{
    note_cancel(&((struct timing *)p->own)->first);
}

static void cancel_every_timer(struct play *p)
{
    note_cancel(&((struct timing *)p->own)->every);
}

static void cancel_timer(struct play *p)
{
    static const struct act one[] = {{"cancel", cancel_first_timer, NULL}, {0}};
    static const struct act two[] = {{"cancel", cancel_every_timer, NULL}, {0}};
    struct timing x = {.at = pro_now(p->loop) + 2500};
    p->own = &x;
    pro_timer(p->loop, note_begin(p, &x.first, "first", timer_ended), x.at, on_note);
    pro_timer_every(p->loop, note_begin(p, &x.every, "every", every_ended), x.at, INTERVAL, on_note);
    pro_timer(p->loop, note_begin(p, &x.second, "second", timer_ended), x.at, on_note);
    play_cast(p, one);
    play_cast(p, two);
    play_run(p);
    CHECK(p, p->in_flight == 0, "a timer does not end");
    CHECK(p, x.second.last.res == 0, "a timer was cancelled in the place of another");
    play_end(p);
}

/* ------------------------------------------------------------------------------------------------------------
 * An operation that is started again in its own final, as something else, with a cancel on its way
 * ------------------------------------------------------------------------------------------------------------ */

enum { RECV, RECV_OTHER, SEND, TIMER, MULTI, POLL, CLOSE, LIVES };

struct reborn {
    struct pro_handle a, b;
    struct peer far_a, far_b;
    struct note op, other;
    struct pro_pool *pool;
    char data[2][8];
    struct iovec iov;
    uint32_t life;
    uint64_t at;
};

static void second_life(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct reborn *x = p->own;
    switch (x->life) {
    case RECV:
    case RECV_OTHER:
        if (r.res > 0)
            tape_take(p, x->life == RECV ? &x->far_a.out : &x->far_b.out, x->data[0], (uint32_t)r.res);
        CHECK(p, r.res > 0 || r.flags & PRO_EOF, "a receive ends with %d", r.res);
        break;
    case MULTI:
        if (r.slice)
            slice_take(p, &x->far_a.out, r.slice);
        CHECK(p, n->in_flight || r.flags & PRO_EOF, "a multishot ends with %d", r.res);
        break;
    case TIMER:
        CHECK(p, r.res == 0 && pro_now(p->loop) >= x->at, "a timer ends with %d, or early", r.res);
        break;
    default:
        CHECK(p,
              x->life == SEND   ? r.res == 3
              : x->life == POLL ? r.res > 0
                                : r.res == 0,
              "life %u ends with %d", x->life, r.res);
    }
}

static void first_life(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct reborn *x = p->own;
    if (r.res > 0)
        tape_take(p, &x->far_a.out, x->data[0], (uint32_t)r.res);
    struct pro_op *op = note_begin(p, n, "second life", second_life);
    switch (x->life) {
    case RECV:
    case RECV_OTHER:
        pro_recv(x->life == RECV ? &x->a : &x->b, op, x->data[0], 1, 0, on_note);
        break;
    case SEND:
        tape_fill(&x->far_b.in, x->data[0], 3);
        x->far_b.in.sent = 3;
        x->iov = (struct iovec){x->data[0], 3};
        pro_send(&x->b, op, &x->iov, 1, 0, on_note);
        break;
    case MULTI:
        pro_recv_multi(&x->a, op, x->pool, PRO_UNLIMITED, on_note);
        break;
    case TIMER:
        x->at = pro_now(p->loop) + 1500;
        pro_timer(p->loop, op, x->at, on_note);
        break;
    case POLL:
        pro_poll(&x->b, op, POLLOUT, on_note);
        break;
    default:
        pro_close(&x->a, op, on_note);
    }
}

static void other_ended(struct note *n, struct pro_result r)
{
    struct reborn *x = n->play->own;
    CHECK(n->play, r.res > 0, "the other receive ends with %d", r.res);
    tape_take(n->play, &x->far_b.out, x->data[1], (uint32_t)r.res);
}

static void write_both(struct play *p)
{
    struct reborn *x = p->own;
    peer_write(p, &x->far_a, 2);
    peer_end(p, &x->far_a);
    peer_write(p, &x->far_b, 2);
}

static void cancel_first_life(struct play *p)
{
    note_cancel(&((struct reborn *)p->own)->op);
}

static bool is_first_life(struct play *p)
{
    const struct reborn *x = p->own;
    return x->op.starts == 1;
}

static void restart(struct play *p)
{
    static const struct act far[] = {{"write", write_both, NULL}, {0}};
    static const struct act canceller[] = {{"cancel", cancel_first_life, is_first_life}, {0}};
    struct reborn x = {0};
    p->own = &x;
    x.life = play_variant(p, LIVES);
    peer_open(p, &x.far_a, &x.a);
    peer_open(p, &x.far_b, &x.b);
    x.pool = play_pool(p, 1, 1);
    pro_recv(&x.b, note_begin(p, &x.other, "other", other_ended), x.data[1], 1, 0, on_note);
    pro_recv(&x.a, note_begin(p, &x.op, "first life", first_life), x.data[0], 1, 0, on_note);
    play_cast_far(p, far);
    play_cast(p, canceller);
    play_run(p);
    CHECK(p, p->in_flight == 0 && x.op.starts == 2, "an operation does not end");
    peer_read(p, &x.far_b);
    CHECK(p, x.far_b.in.received == x.far_b.in.sent, "what was sent has not arrived");
    pro_pool_free(x.pool);
    play_end(p);
    peer_close(p, &x.far_a);
    peer_close(p, &x.far_b);
}

#define NUISANCES (FAULT(RECALL) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL))

const struct scenario walk_connect[] = {
    {.name = "cancel_accept",
     .bounds = "1 accept; 1 cancel, 2 callers",
     .body = cancel_accept,
     .faults = 2,
     .kinds = NUISANCES | FAULT(ACCEPT_EMFILE) | FAULT(ACCEPT_ABORTED) | FAULT(ACCEPT_EINTR),
     .inside = true},
    {.name = "cancel_accept_multi",
     .bounds = "1 accept_multi; 1 cancel, 2 callers",
     .body = cancel_accept_multi,
     .faults = 1,
     .kinds =
         NUISANCES | FAULT(ACCEPT_EMFILE) | FAULT(ACCEPT_ABORTED) | FAULT(MULTISHOT_END) | FAULT(ONE_SHOT) | FAULT(FEW),
     .inside = true},
    {.name = "close_accept",
     .bounds = "1 accept or accept_multi; 1 close, 2 callers",
     .body = close_accept,
     .faults = 2,
     .kinds = NUISANCES | FAULT(ACCEPT_EMFILE) | FAULT(ACCEPT_ABORTED) | FAULT(MULTISHOT_END) | FAULT(FEW) |
              FAULT(SLOW_CLOSE),
     .inside = true},
    {.name = "cancel_connect",
     .bounds = "1 connect; 1 cancel, 1 of 3 deadlines",
     .body = cancel_connect,
     .faults = 2,
     .kinds = NUISANCES | FAULT(REFUSE) | FAULT(UNREACHABLE) | FAULT(BACKLOG) | FAULT(INTERRUPT) | FAULT(VAIN),
     .latency_ns = 1000,
     .inside = true},
    {.name = "cancel_timer",
     .bounds = "2 timers, 1 that repeats 3 times; 2 cancels",
     .body = cancel_timer,
     .faults = 2,
     .kinds = FAULT(EARLY_WAKE) | FAULT(FEW),
     .inside = true,
     .runs = true},
    {.name = "restart",
     .bounds = "2 recvs, 1 restarted as recv, send, timer, recv_multi, poll or close; 1 cancel, 2 x 2 bytes",
     .body = restart,
     .faults = 1,
     .kinds = FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(FEW),
     .inside = true},
    {0},
};
