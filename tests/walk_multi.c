/* SPDX-License-Identifier: MIT
 *
 * Multishot receives: cancel against data, credit and pause.
 */
#include "walk.h"

struct listening {
    struct pro_handle handle;
    struct peer peer;
    struct note multi, rest;
    struct pro_pool *pool;
    struct pro_slice *held; /* of a pool from which a handle may hold one */
    bool holds;             /* slices are held until an act returns them */
    char data[8];
    uint32_t credit;       /* bytes that may come: before the answer if it is pausing */
    uint32_t credit_after; /* given since the pause was asked for */
    bool pausing;
};

static void write_two(struct play *p)
{
    peer_write(p, &((struct listening *)p->own)->peer, 2);
}

static void write_and_end(struct play *p)
{
    struct listening *x = p->own;
    peer_write(p, &x->peer, 2);
    peer_end(p, &x->peer);
}

static void write_all(struct play *p)
{
    write_two(p);
    write_and_end(p);
}

static const struct act writer_of_all[] = {{"write all", write_all, NULL}, {0}};
static const struct act writer[] = {{"write", write_two, NULL}, {"write and end", write_and_end, NULL}, {0}};

static void listening_open(struct play *p, struct listening *x, uint32_t quota)
{
    p->own = x;
    peer_open(p, &x->peer, &x->handle);
    x->pool = play_pool(p, 2, quota);
}

/* The end has been sent, so everything ends. */
static void listening_end(struct play *p, struct listening *x)
{
    CHECK(p, p->in_flight == 0, "a receive does not end");
    CHECK(p, x->peer.out.received == x->peer.out.sent, "bytes have not arrived");
    pro_pool_free(x->pool);
    play_end(p);
    peer_close(p, &x->peer);
}

/* ------------------------------------------------------------------------------------------------------------
 * Cancel
 * ------------------------------------------------------------------------------------------------------------ */

static bool refuses(const struct play *p)
{
    return play_hits(p, PRO_SIM_NO_MEMORY) > 0;
}

static void rest_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct listening *x = p->own;
    if (r.res > 0)
        tape_take(p, &x->peer.out, x->data, (uint32_t)r.res);
    CHECK(p, r.res > 0 || r.flags & PRO_EOF || (r.res == -ENOMEM && refuses(p)), "a receive ends with %d", r.res);
    if (!(r.flags & PRO_EOF))
        pro_recv(&x->handle, note_begin(p, n, "rest", rest_came), x->data, sizeof x->data, 0, on_note);
}

static void take_slice(struct play *p, struct listening *x, struct pro_slice *slice)
{
    if (!x->holds) {
        slice_take(p, &x->peer.out, slice);
        return;
    }
    CHECK(p, !x->held, "more is lent than the quota");
    tape_take(p, &x->peer.out, slice->data, slice->size);
    x->held = slice;
}

static void multi_came(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct listening *x = p->own;
    if (r.slice)
        take_slice(p, x, r.slice);
    CHECK(p, r.res > 0 || r.flags & PRO_EOF || n->asked || (r.res == -ENOMEM && refuses(p)), "a multishot says %d",
          r.res);
    if (n->in_flight)
        return;
    CHECK(p, r.flags & PRO_EOF || r.res < 0, "a multishot ends unasked");
    pro_recv(&x->handle, note_begin(p, &x->rest, "rest", rest_came), x->data, sizeof x->data, 0, on_note);
}

static void cancel_it(struct play *p)
{
    note_cancel(&((struct listening *)p->own)->multi);
}

static void give_back(struct play *p)
{
    struct listening *x = p->own;
    struct pro_slice *slice = x->held;
    x->held = NULL;
    pro_slice_return(slice);
}

static bool holds_one(struct play *p)
{
    return ((struct listening *)p->own)->held;
}

static void cancel_multi(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_it, NULL}, {0}};
    struct listening x = {0};
    listening_open(p, &x, 2);
    pro_recv_multi(&x.handle, note_begin(p, &x.multi, "multi", multi_came), x.pool, PRO_UNLIMITED, on_note);
    play_cast_far(p, writer);
    play_cast(p, canceller);
    play_run(p);
    listening_end(p, &x);
}

/* With a quota of one buffer every piece comes with the kernel's last word on the request. */
static void cancel_last_word(struct play *p)
{
    static const struct act canceller[] = {{"cancel", cancel_it, NULL}, {0}};
    static const struct act keeper[] = {{"return", give_back, holds_one}, {"return", give_back, holds_one}, {0}};
    struct listening x = {.holds = true};
    listening_open(p, &x, 1);
    pro_recv_multi(&x.handle, note_begin(p, &x.multi, "multi", multi_came), x.pool, PRO_UNLIMITED, on_note);
    play_cast_far(p, writer);
    play_cast(p, canceller);
    play_cast(p, keeper);
    play_run(p);
    while (x.held) {
        give_back(p);
        play_settle(p);
    }
    listening_end(p, &x);
}

/* ------------------------------------------------------------------------------------------------------------
 * Credit
 * ------------------------------------------------------------------------------------------------------------ */

static void credited(struct note *n, struct pro_result r)
{
    struct play *p = n->play;
    struct listening *x = p->own;
    if (!n->in_flight) {
        CHECK(p, r.flags & PRO_EOF, "a multishot ends with %d", r.res);
        x->pausing = false; /* that answers everything */
    } else if (r.slice) {
        CHECK(p, (uint32_t)r.res <= x->credit, "%d bytes come for a credit of %u", r.res, x->credit);
        x->credit -= x->credit == PRO_UNLIMITED ? 0 : (uint32_t)r.res;
        bool last = x->credit == 0 && !x->pausing;
        CHECK(p, !(r.flags & PRO_PAUSED) == !last, "a piece is%s the last of its credit", last ? "" : " not");
        slice_take(p, &x->peer.out, r.slice);
    } else {
        CHECK(p, r.flags & PRO_PAUSED && x->pausing, "an answer comes to no question");
        x->credit = x->credit_after;
        x->credit_after = 0;
        x->pausing = false;
    }
}

static void give(struct listening *x, uint32_t bytes)
{
    uint32_t *credit = x->pausing ? &x->credit_after : &x->credit;
    *credit = bytes == PRO_UNLIMITED ? PRO_UNLIMITED : *credit + bytes;
    pro_recv_credit(&x->multi.op, bytes);
}

static void give_one(struct play *p)
{
    give(p->own, 1);
}

static void give_two(struct play *p)
{
    give(p->own, 2);
}

static void pause_it(struct play *p)
{
    struct listening *x = p->own;
    pro_recv_pause(&x->multi.op);
    x->pausing = x->multi.in_flight;
    x->credit_after = 0; /* it takes back that, too */
}

static void credit(struct play *p)
{
    static const struct act giver[] = {{"give", give_one, NULL}, {"give", give_two, NULL}, {0}};
    static const struct act pauser[] = {{"pause", pause_it, NULL}, {0}};
    static const uint32_t quotas[] = {2, 1};
    struct listening x = {0};
    listening_open(p, &x, quotas[play_variant(p, 2)]);
    x.credit = play_variant(p, 2);
    pro_recv_multi(&x.handle, note_begin(p, &x.multi, "multi", credited), x.pool, x.credit, on_note);
    play_cast_far(p, writer_of_all);
    play_cast(p, giver);
    play_cast(p, pauser);
    play_run(p);
    CHECK(p, !x.pausing, "a pause is not answered");
    CHECK(p, !x.multi.in_flight || x.credit == 0, "a receive stands still with credit");
    give(&x, PRO_UNLIMITED);
    play_settle(p);
    listening_end(p, &x);
}

/* What passes a multishot that is paused, and waits behind one that is not. */
static void recv_two(struct play *p)
{
    struct listening *x = p->own;
    pro_recv(&x->handle, note_begin(p, &x->rest, "recv", rest_came), x->data, 2, 0, on_note);
}

static void paused_and_recv(struct play *p)
{
    static const struct act giver[] = {{"pause", pause_it, NULL}, {"give", give_two, NULL}, {0}};
    static const struct act receiver[] = {{"recv", recv_two, NULL}, {0}};
    struct listening x = {0};
    listening_open(p, &x, 2);
    x.credit = play_variant(p, 2);
    pro_recv_multi(&x.handle, note_begin(p, &x.multi, "multi", credited), x.pool, x.credit, on_note);
    play_cast_far(p, writer_of_all);
    play_cast(p, giver);
    play_cast(p, receiver);
    play_run(p);
    CHECK(p, !x.pausing, "a pause is not answered");
    give(&x, PRO_UNLIMITED);
    play_settle(p);
    listening_end(p, &x);
}

#define NUISANCES                                                                                                      \
    (FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL) |             \
     FAULT(POOL_EMPTY) | FAULT(FEW))

const struct scenario walk_multi[] = {
    {.name = "cancel_multi",
     .bounds = "recv_multi; 1 cancel, 2 x 2 bytes and the end",
     .body = cancel_multi,
     .faults = 2,
     .kinds = NUISANCES | FAULT(ONE_SHOT) | FAULT(SHORT_RECV) | FAULT(NO_MEMORY),
     .inside = true},
    {.name = "cancel_last_word",
     .bounds = "recv_multi with a quota of 1 buffer; 1 cancel, 2 returns, 2 x 2 bytes and the end",
     .body = cancel_last_word,
     .faults = 1,
     .kinds = NUISANCES | FAULT(SHORT_RECV),
     .inside = true},
    {.name = "credit",
     .bounds = "recv_multi with a credit of 0 or 1 byte, a quota of 1 or 2 buffers; 1 + 2 bytes of credit, 1 pause, "
               "4 bytes and the end",
     .body = credit,
     .faults = 1,
     .kinds = FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(POOL_EMPTY)},
    {.name = "paused_and_recv",
     .bounds = "recv_multi with a credit of 0 or 1 byte, and a recv; 2 bytes of credit, 1 pause, 4 bytes and the end",
     .body = paused_and_recv,
     .faults = 1,
     .kinds = FAULT(RECALL) | FAULT(MULTISHOT_END) | FAULT(CANCEL_LATE) | FAULT(FEW)},
    {0},
};
