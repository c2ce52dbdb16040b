/* SPDX-License-Identifier: MIT
 *
 * The loop's end against everything else: what is posted to it, and what is in flight on it at any point.
 */
#include "walk.h"

#include <netinet/in.h>

/* ------------------------------------------------------------------------------------------------------------
 * Posts: each is answered once, in order, until the loop is freed; and none is taken afterwards
 * ------------------------------------------------------------------------------------------------------------ */

#define LETTERS 2u

struct letter {
    struct note note;
    unsigned number; /* of all that were posted */
};

struct mail {
    struct pro_handle handle;
    struct peer peer;
    struct letter letters[LETTERS];
    struct note recv;
    struct pro_remote *remote;
    unsigned posted, arrived;
    bool again; /* the first has been posted a second time, by its own continuation */
    char byte;
};

static void letter_came(struct note *n, struct pro_result r);

static void post(struct play *p, unsigned i)
{
    struct mail *x = p->own;
    struct letter *letter = &x->letters[i];
    struct pro_op *op = note_begin(p, &letter->note, i ? "second" : "first", letter_came);
    int r = pro_post(x->remote, op, on_note);
    CHECK(p, r == (p->freeing ? -ESHUTDOWN : 0), "a post says %s", pro_error_name(r));
    CHECK(p, pro_op_in_flight(op) == (r == 0), "a post says %s, and is not as it says", pro_error_name(r));
    if (r == 0)
        letter->number = ++x->posted;
    else
        note_void(&letter->note);
}

static void letter_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct mail *x = p->own;
    struct letter *letter = PRO_CONTAINER_OF(n, struct letter, note);
    CHECK(p, letter->number == ++x->arrived, "post %u arrives as number %u", letter->number, x->arrived);
    CHECK(p, r.res == (p->freeing ? -ECANCELED : 0), "a post ends with %d", r.res);
    if (letter == x->letters && x->remote && !x->again) {
        x->again = true;
        post(p, 0);
    }
}

static void post_first(struct play *p)
{
    post(p, 0);
}

static void post_second(struct play *p)
{
    post(p, 1);
}

static void wake(struct play *p)
{
    pro_wake(((struct mail *)p->own)->remote);
}

static void drop_remote(struct play *p)
{
    struct mail *x = p->own;
    pro_remote_unref(x->remote);
    x->remote = NULL;
}

static void write_mail(struct play *p)
{
    peer_write(p, &((struct mail *)p->own)->peer, 1);
}

static void mail_read(struct note *n, struct pro_result r)
{
    struct mail *x = n->play->own;
    if (r.res > 0)
        tape_take(n->play, &x->peer.out, &x->byte, 1);
}

static bool has_loop(struct play *p)
{
    return p->loop;
}

static void post_and_free(struct play *p)
{
    static const struct act poster[] = {{"post", post_first, NULL},
                                        {"wake", wake, NULL},
                                        {"post", post_second, NULL},
                                        {"unref", drop_remote, NULL},
                                        {0}};
    static const struct act far[] = {{"write", write_mail, NULL}, {0}};
    static const struct act freer[] = {{"free", play_free_loop, has_loop}, {0}};
    struct mail x = {0};
    p->own = &x;
    x.remote = pro_remote_get(p->loop);
    CHECK(p, x.remote, "no remote");
    peer_open(p, &x.peer, &x.handle);
    pro_recv(&x.handle, note_begin(p, &x.recv, "recv", mail_read), &x.byte, 1, 0, on_note);
    play_cast(p, poster);
    play_cast_far(p, far);
    bool frees = play_variant(p, 2);
    if (frees)
        play_cast_far(p, freer);
    play_run(p);
    CHECK(p, x.arrived == x.posted, "%u were posted, %u have arrived", x.posted, x.arrived);
    CHECK(p, frees || x.posted == LETTERS + (unsigned)x.again, "a post was not taken");
    CHECK(p, !x.remote, "the remote has not been dropped");
    play_end(p);
    peer_close(p, &x.peer);
}

/* ------------------------------------------------------------------------------------------------------------
 * The loop is freed at every point
 * ------------------------------------------------------------------------------------------------------------ */

enum { FILL = 6 }; /* bytes to be sent, into a buffer of 4 */
enum { CLOSE, ABORT, RELEASE, CANCEL, ENDINGS };

struct pulled {
    struct pro_handle in, out, listener;
    struct peer far_in, far_out;
    struct note multi, send, accept, timer, ending;        /* started before */
    struct note late_recv, late_post, late_timer, closing; /* started by continuations of the pull-down */
    struct pro_remote *remote;
    struct pro_pool *pool;
    struct pro_slice *held; /* until the loop is gone */
    struct sockaddr_storage at;
    struct iovec iov;
    char data[FILL], byte;
    int caller;
    uint32_t way;
    uint64_t when;
    bool accepted;
};

static void late_came(struct note *n, struct pro_result r)
{
    CHECK(n->play, r.res == -ESHUTDOWN, "what begins while the loop is freed ends with %d", r.res);
}

static void listener_closed(struct note *n, struct pro_result r)
{
    struct pulled *x = n->play->own;
    CHECK(n->play, r.res == 0, "a close ends with %d while the loop is freed", r.res);
    CHECK(n->play, !x->accept.in_flight, "a close ends before an accept");
    memset(&x->listener, 0x5a, sizeof x->listener);
}

/* The first that ends because the loop is freed starts whatever can be started. */
static void ended(struct play *p)
{
    struct pulled *x = p->own;
    if (!p->freeing || x->late_timer.starts)
        return;
    pro_timer(p->loop, note_begin(p, &x->late_timer, "late timer", late_came), x->when, on_note);
    pro_recv(&x->out, note_begin(p, &x->late_recv, "late recv", late_came), &x->byte, 1, 0, on_note);
    CHECK(p, pro_post(x->remote, note_begin(p, &x->late_post, "late post", NULL), on_note) == -ESHUTDOWN,
          "a post is taken while the loop is freed");
    note_void(&x->late_post);
    pro_close(&x->listener, note_begin(p, &x->closing, "late close", listener_closed), on_note);
}

static void multi_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct pulled *x = p->own;
    CHECK(p, x->ending.finals == 0 || x->way == CANCEL, "a receive tells something after the close");
    CHECK(p, r.res > 0 || n->asked || p->freeing, "a multishot ends with %d", r.res);
    if (r.slice && !x->held) {
        tape_take(p, &x->far_in.out, r.slice->data, r.slice->size);
        x->held = r.slice;
    } else if (r.slice) {
        slice_take(p, &x->far_in.out, r.slice);
    }
    if (!n->in_flight)
        ended(p);
}

static void send_went(struct note *n, struct pro_result r)
{
    struct pulled *x = n->play->own;
    CHECK(n->play, r.res == FILL || n->play->freeing, "a send ends with %d", r.res);
    x->far_out.in.sent = pro_op_bytes(&n->op);
    ended(n->play);
}

static void accept_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct pulled *x = p->own;
    CHECK(p, r.res >= 0 || p->freeing, "an accept ends with %d", r.res);
    if (r.res >= 0) {
        CHECK(p, !x->accepted, "one caller is two");
        x->accepted = true;
        pro_discard(p->loop, r.res);
    }
    if (!n->in_flight)
        ended(p);
}

static void timer_ran(struct note *n, struct pro_result r)
{
    struct pulled *x = n->play->own;
    CHECK(n->play, n->play->freeing || (r.res == 0 && pro_sim_now(n->play->sim) >= x->when), "a timer ends with %d",
          r.res);
    ended(n->play);
}

static void handle_ended(struct note *n, struct pro_result r)
{
    struct pulled *x = n->play->own;
    CHECK(n->play, !x->multi.in_flight, "a close ends first");
    CHECK(n->play, x->way == RELEASE ? r.res >= 0 : r.res == 0, "a close ends with %d", r.res);
    memset(&x->in, 0x5a, sizeof x->in);
}

static void end_handle(struct play *p)
{
    static void (*const ways[])(struct pro_handle *, struct pro_op *, pro_fn *) = {pro_close, pro_abort, pro_release};
    struct pulled *x = p->own;
    note_asked(&x->multi);
    if (x->way == CANCEL)
        pro_cancel_all(&x->in);
    else
        ways[x->way](&x->in, note_begin(p, &x->ending, "close", handle_ended), on_note);
}

static void write_in(struct play *p)
{
    peer_write(p, &((struct pulled *)p->own)->far_in, 2);
}

static void call(struct play *p)
{
    struct pulled *x = p->own;
    x->caller = pro_sim_connect(p->sim, (struct sockaddr *)&x->at, sizeof(struct sockaddr_in));
    CHECK(p, x->caller >= 0 || (p->freeing && x->caller == -ECONNREFUSED), "a caller cannot connect: %d", x->caller);
}

static void read_and_write(struct play *p)
{
    peer_read(p, &((struct pulled *)p->own)->far_out);
    write_in(p);
}

static void pulled_open(struct play *p, struct pulled *x)
{
    p->own = x;
    x->caller = -1;
    x->remote = pro_remote_get(p->loop);
    x->pool = play_pool(p, 2, 2);
    x->when = pro_now(p->loop) + 15000;
    peer_open(p, &x->far_in, &x->in);
    peer_open(p, &x->far_out, &x->out);
    play_listen(p, &x->listener, &x->at);
    tape_fill(&x->far_out.in, x->data, FILL);
    x->iov = (struct iovec){x->data, FILL};
}

static void pulled_end(struct play *p, struct pulled *x)
{
    char byte;
    CHECK(p, !p->loop && p->in_flight == 0, "%u operations have had no final completion", p->in_flight);
    peer_read(p, &x->far_out);
    CHECK(p, x->far_out.in.received == x->far_out.in.sent && x->far_out.end == 0, "%u bytes went, %u have arrived",
          x->far_out.in.sent, x->far_out.in.received);
    if (x->ending.finals && x->way == RELEASE) {
        peer_rest(p, &x->far_in, x->ending.last.res);
        CHECK(p, x->far_in.out.received == x->far_in.out.sent, "bytes are lost by a release");
        CHECK(p, pro_sim_close(p->sim, x->ending.last.res) == 0, "what was released is not open");
    }
    if (x->caller >= 0) {
        int r = pro_sim_read(p->sim, x->caller, &byte, 1);
        CHECK(p, r == (x->accepted ? 0 : -ECONNRESET), "a caller sees %d", r);
        pro_sim_close(p->sim, x->caller);
    }
    pro_remote_unref(x->remote);
    if (x->held) {
        CHECK(p, (char)x->held->data[0] == tape_byte(0), "what a slice holds has gone with the loop");
        pro_slice_return(x->held);
    }
    pro_pool_free(x->pool);
    peer_close(p, &x->far_in);
    peer_close(p, &x->far_out);
}

static const struct act freer[] = {{"free", play_free_loop, NULL}, {0}};

static void walk_free(struct play *p, bool rested)
{
    static const struct act far[] = {{"read and write", read_and_write, NULL}, {0}};
    static const struct act ender[] = {{"end", end_handle, has_loop}, {0}};
    struct pulled x = {0};
    pulled_open(p, &x);
    x.way = play_variant(p, ENDINGS);
    if (!rested)
        write_in(p);
    pro_recv_multi(&x.in, note_begin(p, &x.multi, "multi", multi_came), x.pool, PRO_UNLIMITED, on_note);
    if (rested)
        play_rest(p);
    x.far_out.in.sent = FILL;
    pro_send(&x.out, note_begin(p, &x.send, "send", send_went), &x.iov, 1, 0, on_note);
    if (rested)
        play_rest(p);
    if (rested)
        play_cast_far(p, far);
    play_cast(p, ender);
    play_cast_far(p, freer);
    play_run(p);
    pulled_end(p, &x);
}

static void free_loop(struct play *p)
{
    walk_free(p, true);
}

static void free_at_once(struct play *p)
{
    walk_free(p, false);
}

/* What waits: for a caller, for a time. */
static void free_waiting(struct play *p)
{
    static const struct act far[] = {{"call", call, NULL}, {0}};
    struct pulled x = {0};
    pulled_open(p, &x);
    (play_variant(p, 2) ? pro_accept_multi : pro_accept)(&x.listener, note_begin(p, &x.accept, "accept", accept_came),
                                                         on_note);
    pro_timer(p->loop, note_begin(p, &x.timer, "timer", timer_ran), x.when, on_note);
    play_cast_far(p, far);
    play_cast_far(p, freer);
    play_run(p);
    pulled_end(p, &x);
}

#define NUISANCES                                                                                                      \
    (FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL) | FAULT(FEW))

const struct scenario walk_loop[] = {
    {.name = "post_and_free",
     .bounds = "2 posts, 1 again by its own continuation, 1 wake, 1 recv; the remote dropped, the loop freed or not, "
               "1 byte",
     .body = post_and_free,
     .faults = 1,
     .kinds = FAULT(EARLY_WAKE) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(FEW),
     .inside = true},
    {.name = "free_loop",
     .bounds = "recv_multi, and a send of 6 bytes into a buffer of 4; 1 cancel, close, abort or release, 1 free of the "
               "loop, 2 bytes and 1 read at once; a timer, a recv, a post and a close while it is freed",
     .body = free_loop,
     .faults = 1,
     .kinds = NUISANCES | FAULT(SLOW_CLOSE),
     .socket_buffer = 4},
    {.name = "free_at_once",
     .bounds = "the same while they start, 2 bytes being there",
     .body = free_at_once,
     .socket_buffer = 4},
    {.name = "free_waiting",
     .bounds = "accept or accept_multi and a timer; 1 free of the loop, 1 caller; the same while it is freed",
     .body = free_waiting,
     .faults = 2,
     .kinds = NUISANCES | FAULT(SLOW_CLOSE) | FAULT(EARLY_WAKE)},
    {0},
};
