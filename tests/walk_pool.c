/* SPDX-License-Identifier: MIT
 *
 * A pool of one buffer, and two that receive from it: whoever has it keeps the other waiting, and nothing is lost.
 */
#include "walk.h"

enum { HANDLES = 3 }; /* the third in pool_in_line only */

struct sharing {
    struct pro_handle handles[HANDLES];
    struct peer peers[HANDLES];
    struct note multis[HANDLES];
    struct pro_pool *pool;
    struct note close;
    struct pro_slice *held[2]; /* until an act returns them: one, or the two that it was split into */
    unsigned count;
    bool splits;
};

static void share_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct sharing *x = p->own;
    size_t i = (size_t)(n - x->multis);
    if (r.slice) {
        CHECK(p, !x->held[0] && !x->held[1], "the one buffer is lent twice");
        tape_take(p, &x->peers[i].out, r.slice->data, r.slice->size);
        x->held[0] = r.slice;
        if (x->splits && r.slice->size > 1)
            CHECK(p, pro_slice_split(r.slice, 1, &x->held[1]) == 0, "a slice cannot be split");
    }
    CHECK(p, r.slice || r.flags & PRO_EOF || n->asked, "a multishot says %d", r.res);
    CHECK(p, n->in_flight || r.flags & PRO_EOF || n->asked, "a multishot ends unasked");
}

static void write_to_both(struct play *p)
{
    struct sharing *x = p->own;
    peer_write(p, &x->peers[0], 2);
    peer_write(p, &x->peers[1], 2);
}

static void give_back(struct play *p)
{
    struct sharing *x = p->own;
    bool second = !x->held[0];
    struct pro_slice *slice = x->held[second];
    x->held[second] = NULL;
    pro_slice_return(slice);
}

static bool holds(struct play *p)
{
    const struct sharing *x = p->own;
    return x->held[0] || x->held[1];
}

static void cancel_first(struct play *p)
{
    note_cancel(&((struct sharing *)p->own)->multis[0]);
}

static void sharing_open(struct play *p, struct sharing *x, unsigned count, bool rested)
{
    p->own = x;
    static const char *const names[HANDLES] = {"first", "second", "third"};
    x->count = count;
    x->pool = play_pool(p, 1, 1);
    for (unsigned i = 0; i < count; i++) {
        peer_open(p, &x->peers[i], &x->handles[i]);
        pro_recv_multi(&x->handles[i], note_begin(p, &x->multis[i], names[i], share_came), x->pool, PRO_UNLIMITED,
                       on_note);
        if (rested)
            play_rest(p);
    }
}

/* The buffer is there for whoever is still in flight. */
static void give_back_all(struct play *p)
{
    struct sharing *x = p->own;
    while (holds(p)) {
        give_back(p);
        play_settle(p);
    }
    for (unsigned i = 0; i < x->count; i++)
        if (x->multis[i].in_flight)
            CHECK(p, x->peers[i].out.received == x->peers[i].out.sent, "bytes have not arrived for receive %u", i);
}

static void sharing_end(struct play *p, struct sharing *x)
{
    play_end(p);
    for (unsigned i = 0; i < x->count; i++)
        peer_close(p, &x->peers[i]);
}

static void pool_of_one(struct play *p)
{
    static const struct act far[] = {{"write", write_to_both, NULL}, {0}};
    static const struct act keeper[] = {{"return", give_back, holds}, {0}};
    static const struct act canceller[] = {{"cancel", cancel_first, NULL}, {0}};
    struct sharing x = {0};
    sharing_open(p, &x, 2, false);
    play_cast_far(p, far);
    play_cast(p, keeper);
    if (play_variant(p, 2))
        play_cast(p, canceller);
    play_run(p);
    give_back_all(p);
    for (unsigned i = 0; i < 2; i++) {
        peer_rest(p, &x.peers[i], x.handles[i].fd);
        CHECK(p, x.peers[i].out.received == x.peers[i].out.sent, "bytes are lost of receive %u", i);
        note_asked(&x.multis[i]);
    }
    sharing_end(p, &x);
    pro_pool_free(x.pool);
}

/* ------------------------------------------------------------------------------------------------------------
 * The handle that holds the buffer is closed, or the one that waits for it
 * ------------------------------------------------------------------------------------------------------------ */

static void first_closed(struct note *n, struct pro_result r)
{
    struct sharing *x = n->play->own;
    CHECK(n->play, r.res == 0 && !x->multis[0].in_flight, "a close ends with %d, or first", r.res);
    memset(&x->handles[0], 0x5a, sizeof x->handles[0]); /* what it holds of the pool must not look at it */
}

static void close_first(struct play *p)
{
    struct sharing *x = p->own;
    note_asked(&x->multis[0]);
    pro_close(&x->handles[0], note_begin(p, &x->close, "close", first_closed), on_note);
}

/* At the end the pool is freed: when all is back, or before. */
static void pool_and_close(struct play *p)
{
    static const struct act far[] = {{"write", write_to_both, NULL}, {0}};
    static const struct act keeper[] = {{"return", give_back, holds}, {"return", give_back, holds}, {0}};
    static const struct act closer[] = {{"close", close_first, NULL}, {0}};
    struct sharing x = {0};
    x.splits = play_variant(p, 2);
    sharing_open(p, &x, 2, true);
    play_cast_far(p, far);
    play_cast(p, keeper + !x.splits);
    play_cast(p, closer);
    play_run(p);
    CHECK(p, x.close.finals == 1, "a close does not end");
    if (x.splits)
        give_back_all(p);
    note_cancel(&x.multis[1]);
    play_settle(p);
    CHECK(p, p->in_flight == 0, "a receive does not end");
    peer_rest(p, &x.peers[1], x.handles[1].fd);
    CHECK(p, x.peers[1].out.received == x.peers[1].out.sent, "bytes are lost");
    pro_pool_free(x.pool);
    while (holds(p))
        give_back(p);
    sharing_end(p, &x);
}

/* ------------------------------------------------------------------------------------------------------------
 * The first of those that wait is cancelled as the buffer comes back: it is the next one's
 * ------------------------------------------------------------------------------------------------------------ */

static void close_holder(struct play *p)
{
    close_first(p);
    give_back(p);
}

static void cancel_second(struct play *p)
{
    note_cancel(&((struct sharing *)p->own)->multis[1]);
}

static void pool_in_line(struct play *p)
{
    static const struct act keeper[] = {{"close and return", close_holder, NULL}, {"return", give_back, holds}, {0}};
    static const struct act canceller[] = {{"cancel", cancel_second, NULL}, {0}};
    struct sharing x = {0};
    sharing_open(p, &x, HANDLES, true);
    for (unsigned i = 0; i < HANDLES; i++) {
        peer_write(p, &x.peers[i], 2);
        play_rest(p);
    }
    CHECK(p, x.peers[0].out.received == 2 && holds(p), "the first does not hold the buffer");
    play_cast(p, keeper);
    play_cast(p, canceller);
    play_run(p);
    give_back_all(p);
    CHECK(p, x.multis[2].in_flight, "a multishot ends unasked");
    note_asked(&x.multis[2]);
    sharing_end(p, &x);
    pro_pool_free(x.pool);
}

#define NUISANCES                                                                                                      \
    (FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL) |             \
     FAULT(POOL_EMPTY) | FAULT(FEW))

const struct scenario walk_pool[] = {
    {.name = "pool_of_one",
     .bounds = "2 recv_multis on 1 buffer; 1 return, 1 cancel or none, 2 x 2 bytes",
     .body = pool_of_one,
     .faults = 1,
     .kinds = NUISANCES},
    {.name = "pool_and_close",
     .bounds = "2 recv_multis on 1 buffer; 1 close, 2 x 2 bytes; 1 return, and the pool freed while the slice is "
               "out, or 2 returns of its halves, and the pool freed when all are back",
     .body = pool_and_close,
     .faults = 1,
     .kinds = FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(POOL_EMPTY)},
    {.name = "pool_in_line",
     .bounds = "3 recv_multis on 1 buffer that the first holds; its handle closed and the buffer returned, 1 cancel of "
               "the second, 1 return, 3 x 2 bytes being there",
     .body = pool_in_line,
     .faults = 1,
     .kinds = FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(POOL_EMPTY)},
    {0},
};
