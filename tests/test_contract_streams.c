/* SPDX-License-Identifier: MIT
 *
 * Clauses 3 to 7 and 12 for connections that stream: pieces so large, and so many at once, that a backend may take them
 * otherwise than the small ones that the other tests receive. io_uring receives from one such connection at a time,
 * while the others stand in line; whatever is done to one is therefore done after each small number of turns, and so
 * to one that receives, to one in line, and to one that waits for data. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PIECE = 64 * 1024, /* a buffer of the pool */
    WARM = 4 * PIECE,  /* bytes after which a connection streams */
    AHEAD = 3 * PIECE, /* bytes that are sent, and wait, when something is done to it */
    MANY = 3,
    TURNS = 6,
};

struct stream {
    struct record *r;
    struct pro_handle *near;
    int far;
    uint64_t sent, seen;
};

/* What the record keeps is what comes next; it goes back. */
static void take(struct stream *s)
{
    for (const struct pro_slice *slice = s->r->head; slice; slice = slice->next) {
        assert_true(pattern_holds(slice->data, slice->size, s->seen));
        s->seen += slice->size;
    }
    record_drop(s->r);
}

static void take_at_once(struct record *r, struct pro_result result)
{
    if (result.slice)
        take(r->context);
}

static void start(struct stream *s, struct pro_pool *pool, uint32_t credit)
{
    pro_recv_multi(s->near, record_begin(s->r), pool, credit, on_record);
}

static void stream_open(struct world *w, struct stream *s)
{
    *s = (struct stream){.r = world_record(w)};
    s->near = world_tcp(w, &s->far);
    s->r->context = s;
    s->r->then = take_at_once;
}

/* Writes until `until` as much as the socket takes. */
static void feed(struct stream *s, uint64_t until)
{
    static uint8_t data[PIECE];
    for (ssize_t moved = 1; moved > 0 && s->sent<until; s->sent += moved> 0 ? (uint64_t)moved : 0) {
        size_t size = until - s->sent < sizeof data ? (size_t)(until - s->sent) : sizeof data;
        pattern_fill(data, size, s->sent);
        moved = write(s->far, data, size);
    }
}

/* All of them have brought `until` bytes. The one without a record is left out. */
static void flow_until(struct world *w, struct stream *s, unsigned count, uint64_t until)
{
    for (unsigned turn = 0, done = 0; done < count; turn++) {
        assert_true(turn < 100000);
        done = 0;
        for (unsigned i = 0; i < count; i++) {
            if (s[i].r)
                feed(&s[i], until);
            done += !s[i].r || s[i].seen == until;
        }
        world_turns(w, 1);
    }
}

/* Connections that stream and have more to bring, `turns` turns after it has arrived. */
static void open_many(struct world *w, struct stream s[MANY], struct pro_pool *pool, unsigned turns)
{
    for (unsigned i = 0; i < MANY; i++) {
        stream_open(w, &s[i]);
        start(&s[i], pool, PRO_UNLIMITED);
    }
    flow_until(w, s, MANY, WARM);
    for (unsigned i = 0; i < MANY; i++)
        feed(&s[i], WARM + AHEAD);
    world_turns(w, turns);
}

/* All that was sent arrives, and the connections go. */
static void end_many(struct world *w, struct stream s[MANY])
{
    flow_until(w, s, MANY, 2 * WARM + AHEAD);
    for (unsigned i = 0; i < MANY; i++) {
        if (!s[i].r)
            continue;
        assert_int_equal(world_close_handle(w, s[i].near), 0);
        world_close(w, s[i].far);
    }
}

/* The deed is done to each of the connections, at each of the turns. */
static void at_every_turn(struct world *w, void (*deed)(struct world *w, struct stream *s, struct pro_pool *pool))
{
    struct pro_pool *pool = world_pool(w, NULL);
    struct pro_pool_stats stats;
    struct stream *s = world_alloc(w, MANY * sizeof *s);
    for (unsigned turns = 0; turns < TURNS; turns++) {
        for (unsigned i = 0; i < MANY; i++) {
            open_many(w, s, pool, turns);
            deed(w, &s[i], pool);
            end_many(w, s);
        }
        world_alive();
    }
    pro_pool_stats(pool, &stats, sizeof stats);
    assert_int_equal(stats.buffers_lent, 0);
}

/* ------------------------------------------------------------------------------------------------------------
 * What ends one
 * ------------------------------------------------------------------------------------------------------------ */

static void cancel_one(struct world *w, struct stream *s, struct pro_pool *pool)
{
    pro_cancel(&s->r->op);
    RUN_UNTIL(w, s->r->finals == 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
    start(s, pool, PRO_UNLIMITED);
}

static void c04_stream_when_cancelled_ends_and_loses_nothing(void **state)
{
    at_every_turn(*state, cancel_one);
}

static void be_late(struct world *w, struct stream *s, struct pro_pool *pool)
{
    pro_deadline(&s->r->op, pro_now(w->loop));
    RUN_UNTIL(w, s->r->finals == 1);
    assert_int_equal(s->r->last.res, -ETIME);
    start(s, pool, PRO_UNLIMITED);
}

static void c05_stream_when_late_ends_and_loses_nothing(void **state)
{
    at_every_turn(*state, be_late);
}

static void close_one(struct world *w, struct stream *s, struct pro_pool *pool)
{
    (void)pool;
    assert_int_equal(world_close_handle(w, s->near), 0);
    assert_int_equal(s->r->finals, 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
    world_close(w, s->far);
    s->r = NULL;
}

static void c06_stream_when_closed_ends_and_the_others_go_on(void **state)
{
    at_every_turn(*state, close_one);
}

static void c13_streams_when_pulled_down_all_end(void **state)
{
    struct world *w = *state;
    struct stream s[MANY];
    open_many(w, s, world_pool(w, NULL), 2);
    world_shut(w);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(s[i].r->finals, 1);
}

/* The end is right behind the last piece. */
static void c03_stream_when_the_peer_ends_brings_all_and_then_the_end(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct stream *s = world_alloc(w, MANY * sizeof *s);
    for (unsigned more = 0; more <= AHEAD; more += PIECE / 2) {
        open_many(w, s, pool, 0);
        for (unsigned i = 0; i < MANY; i++) {
            feed(&s[i], s[i].sent + more);
            world_close(w, s[i].far);
        }
        for (unsigned i = 0; i < MANY; i++) {
            RUN_UNTIL(w, s[i].r->finals == 1);
            assert_int_equal(s[i].r->last.res, 0);
            assert_int_equal(s[i].r->last.flags, PRO_EOF);
            assert_int_equal(s[i].seen, s[i].sent);
            assert_int_equal(world_close_handle(w, s[i].near), 0);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * What makes one stand still
 * ------------------------------------------------------------------------------------------------------------ */

static void pause_one(struct world *w, struct stream *s, struct pro_pool *pool)
{
    (void)pool;
    pro_recv_pause(&s->r->op);
    RUN_UNTIL(w, s->r->pauses == 1);
    uint64_t seen = s->seen;
    world_turns(w, 5);
    assert_int_equal(s->seen, seen);
    assert_int_equal(s->r->finals, 0);
    pro_recv_credit(&s->r->op, PRO_UNLIMITED);
}

static void c08_stream_when_paused_stands_still_and_goes_on(void **state)
{
    at_every_turn(*state, pause_one);
}

/* Credit given before the pause has been answered. */
static void pause_and_give(struct world *w, struct stream *s, struct pro_pool *pool)
{
    (void)pool;
    pro_recv_pause(&s->r->op);
    pro_recv_credit(&s->r->op, PRO_UNLIMITED);
    RUN_UNTIL(w, s->r->pauses == 1);
}

static void c08_stream_when_paused_and_given_credit_goes_on(void **state)
{
    at_every_turn(*state, pause_and_give);
}

/* Never a byte beyond the credit, whatever it is in pieces; and it is all used. */
static void c08_stream_keeps_to_its_credit(void **state)
{
    struct world *w = *state;
    static const uint32_t credits[] = {1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7};
    struct pro_pool *pool = world_pool(w, NULL);
    struct stream *s = world_alloc(w, sizeof *s);
    uint64_t given = WARM;
    stream_open(w, s);
    start(s, pool, WARM);
    flow_until(w, s, 1, WARM);
    for (unsigned round = 0; round < 60; round++) {
        uint32_t credit = credits[round % (sizeof credits / sizeof *credits)];
        feed(s, given + credit + PIECE);
        world_turns(w, 3);
        assert_int_equal(s->seen, given);
        pro_recv_credit(&s->r->op, credit);
        given += credit;
        while (s->seen < given) {
            feed(s, given + PIECE);
            world_turns(w, 1);
        }
        assert_true(s->r->last.flags & PRO_PAUSED);
    }
    assert_int_equal(s->seen, given);
}

/* ------------------------------------------------------------------------------------------------------------
 * What has no memory
 * ------------------------------------------------------------------------------------------------------------ */

static struct pro_pool *few_buffers(struct world *w, uint32_t max, uint32_t quota)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.slab_buffers = max;
    config.max_buffers = max;
    config.quota_buffers = quota;
    return world_pool(w, &config);
}

/* More connections than buffers, and all of a turn are kept until the next. */
static void flow_with(struct world *w, uint32_t buffers, uint32_t quota)
{
    enum { ALL = 5, EACH = 2 * WARM };
    struct pro_pool *pool = few_buffers(w, buffers, quota);
    struct stream *s = world_alloc(w, ALL * sizeof *s);
    for (unsigned i = 0; i < ALL; i++) {
        stream_open(w, &s[i]);
        s[i].r->then = NULL;
        start(&s[i], pool, PRO_UNLIMITED);
    }
    for (unsigned turn = 0, done = 0; done < ALL; turn++) {
        assert_true(turn < 100000);
        done = 0;
        for (unsigned i = 0; i < ALL; i++) {
            feed(&s[i], EACH);
            done += s[i].seen == EACH;
        }
        world_turns(w, 1);
        for (unsigned i = 0; i < ALL; i++)
            take(&s[i]);
    }
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(s[i].r->finals, 0);
        assert_int_equal(world_close_handle(w, s[i].near), 0);
    }
}

static void c07_streams_when_the_pool_is_small_all_get_theirs(void **state)
{
    for (uint32_t buffers = 1; buffers <= 4; buffers++)
        flow_with(*state, buffers, 1);
}

static void c07_streams_when_one_may_take_the_pool_all_get_theirs(void **state)
{
    for (uint32_t buffers = 1; buffers <= 3; buffers++)
        flow_with(*state, buffers, buffers);
}

/* It streams, then small pieces come, and then the pool is dry: somebody else has the buffers. */
static void c07_stream_when_another_holds_the_pool_waits_for_it(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = few_buffers(w, 4, 4);
    struct stream *s = world_alloc(w, 2 * sizeof *s);
    for (unsigned i = 0; i < 2; i++) {
        stream_open(w, &s[i]);
        start(&s[i], pool, PRO_UNLIMITED);
    }
    flow_until(w, s, 2, WARM);
    s[0].r->then = NULL;
    feed(&s[0], WARM + 8 * PIECE);
    world_turns(w, 20);
    feed(&s[1], WARM + 10);
    world_turns(w, 5);
    take(&s[0]);
    s[0].r->then = take_at_once;
    RUN_UNTIL(w, s[1].seen == WARM + 10);
    flow_until(w, s, 2, WARM + 8 * PIECE);
}

static void c07_stream_keeps_to_its_quota(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = few_buffers(w, 8, 2);
    struct pro_pool_stats stats;
    struct stream *s = world_alloc(w, sizeof *s);
    stream_open(w, s);
    start(s, pool, PRO_UNLIMITED);
    flow_until(w, s, 1, WARM);
    s->r->then = NULL;
    for (unsigned round = 0; round < 20; round++) {
        feed(s, s->sent + AHEAD);
        world_turns(w, 5);
        pro_pool_stats(pool, &stats, sizeof stats);
        assert_in_range(stats.buffers_lent, 1, 2);
        take(s);
    }
    s->r->then = take_at_once;
    flow_until(w, s, 1, s->sent + AHEAD);
}

/* ------------------------------------------------------------------------------------------------------------
 * What it costs
 * ------------------------------------------------------------------------------------------------------------ */

/* Waits of the loop for a number of small pieces, one after the other. */
static uint64_t waits_for(struct world *w, struct stream *s, unsigned pieces)
{
    struct pro_stats before, after;
    pro_loop_stats(w->loop, &before, sizeof before);
    for (; pieces > 0; pieces--) {
        uint64_t until = s->seen + 100;
        feed(s, until);
        RUN_UNTIL(w, s->seen == until);
    }
    pro_loop_stats(w->loop, &after, sizeof after);
    return after.waits - before.waits;
}

/* One that has streamed, and then brings small pieces as it did before, costs what it did before. (Epoll has no such mode,
 * and asks the more rarely what is ready the more it has to try.) */
static void c12_stream_when_its_pieces_are_small_again_is_as_before(void **state)
{
    struct world *w = *state;
    struct stream *s = world_alloc(w, sizeof *s);
    if (pro_loop_backend(w->loop) == PRO_BACKEND_EPOLL)
        skip();
    stream_open(w, s);
    start(s, world_pool(w, NULL), PRO_UNLIMITED);
    waits_for(w, s, 1);
    uint64_t before = waits_for(w, s, 50);
    flow_until(w, s, 1, s->seen + WARM);
    waits_for(w, s, 10);
    uint64_t after = waits_for(w, s, 50);
    assert_in_range(after, 0, before + 10);
}

/* The data and the loss of the connection are told of together, and receiving the one says nothing of the other. */
static void c03_stream_when_reset_behind_data_ends(void **state)
{
    struct world *w = *state;
    struct linger none = {.l_onoff = 1};
    struct pro_pool *pool = world_pool(w, NULL);
    struct stream *s = world_alloc(w, sizeof *s);
    skip_on_sim(w); /* its connections are lost in other ways */
    for (unsigned i = 0; i < 20; i++) {
        stream_open(w, s);
        start(s, pool, PRO_UNLIMITED);
        flow_until(w, s, 1, WARM);
        world_turns(w, TURNS); /* now it waits */
        feed(s, WARM + PIECE / 2);
        assert_int_equal(setsockopt(s->far, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
        world_close(w, s->far);
        RUN_UNTIL(w, s->r->finals == 1);
        assert_in_range(-s->r->last.res, 0, ECONNRESET);
        assert_int_equal(world_close_handle(w, s->near), 0);
    }
}

/* As after the process has stood still: its data came, and then its deadline passed. */
static void c05_stream_when_its_data_came_in_time_brings_it(void **state)
{
    struct world *w = *state;
    struct stream *s = world_alloc(w, sizeof *s);
    skip_on_sim(w);
    stream_open(w, s);
    start(s, world_pool(w, NULL), PRO_UNLIMITED);
    flow_until(w, s, 1, WARM);
    world_turns(w, TURNS);
    uint64_t until = s->seen + PIECE / 2;
    pro_deadline(&s->r->op, pro_now(w->loop) + 1000000);
    feed(s, until);
    usleep(5000);
    RUN_UNTIL(w, s->r->finals == 1);
    assert_int_equal(s->r->last.res, -ETIME);
    assert_int_equal(s->seen, until);
}

/* What is no socket cannot be waited for either. */
static void c10_receive_without_buffer_rings_of_no_socket_fails(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    w->config.features_off = PRO_FEATURE_BUFFER_RING;
    world_open(w);
    skip_on_sim(w);
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    pro_recv_multi(world_adopt(w, fd), record_begin(r), world_pool(w, NULL), PRO_UNLIMITED, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -ENOTSOCK);
}

/* Very many with little, until there are very many buffers at hand. */
static void crowd(struct world *w, struct pro_pool *pool)
{
    enum { CROWD = 64, ROUNDS = 8 };
    struct stream *s = world_alloc(w, CROWD * sizeof *s);
    for (unsigned i = 0; i < CROWD; i++) {
        stream_open(w, &s[i]);
        start(&s[i], pool, PRO_UNLIMITED);
    }
    for (unsigned round = 1; round <= ROUNDS; round++) {
        for (unsigned i = 0; i < CROWD; i++)
            feed(&s[i], round);
        for (unsigned i = 0; i < CROWD; i++)
            RUN_UNTIL(w, s[i].seen == round);
    }
}

/* On io_uring they take turns: what a turn leaves in the cache is one piece, and not one of each. */
static void take_turns(struct world *w, enum pro_run_mode mode)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    struct stream *s = world_alloc(w, MANY * sizeof *s);
    w->config.turn_bytes = UINT32_MAX;
    world_open(w);
    if (!world_is_uring(w))
        skip();
    config.max_buffers = config.quota_buffers = 8192; /* so that nothing else ends a multishot receive */
    struct pro_pool *pool = world_pool(w, &config);
    crowd(w, pool);
    for (unsigned i = 0; i < MANY; i++) {
        stream_open(w, &s[i]);
        start(&s[i], pool, PRO_UNLIMITED);
    }
    for (unsigned turn = 0; turn < 30; turn++) {
        uint64_t before = s[0].seen + s[1].seen + s[2].seen;
        for (unsigned i = 0; i < MANY; i++)
            feed(&s[i], s[i].seen + AHEAD);
        world_run(w, mode);
        if (turn >= 8) /* until then they have been found out, and their multishot receives have come back */
            assert_in_range(s[0].seen + s[1].seen + s[2].seen - before, 0, PIECE);
    }
}

static void c12_streams_when_several_receive_one_after_the_other(void **state)
{
    take_turns(*state, PRO_RUN_NOWAIT);
}

static void c12_streams_when_the_loop_spins_receive_one_after_the_other(void **state)
{
    struct world *w = *state;
    w->config.spin_us = 20;
    take_turns(w, PRO_RUN_ONCE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c03_stream_when_the_peer_ends_brings_all_and_then_the_end),
        TEST(c03_stream_when_reset_behind_data_ends),
        TEST(c04_stream_when_cancelled_ends_and_loses_nothing),
        TEST(c05_stream_when_late_ends_and_loses_nothing),
        TEST(c05_stream_when_its_data_came_in_time_brings_it),
        TEST(c06_stream_when_closed_ends_and_the_others_go_on),
        TEST(c07_stream_keeps_to_its_quota),
        TEST(c07_stream_when_another_holds_the_pool_waits_for_it),
        TEST(c07_streams_when_one_may_take_the_pool_all_get_theirs),
        TEST(c07_streams_when_the_pool_is_small_all_get_theirs),
        TEST(c08_stream_keeps_to_its_credit),
        TEST(c08_stream_when_paused_and_given_credit_goes_on),
        TEST(c08_stream_when_paused_stands_still_and_goes_on),
        TEST_BARE(c10_receive_without_buffer_rings_of_no_socket_fails),
        TEST(c12_stream_when_its_pieces_are_small_again_is_as_before),
        TEST_BARE(c12_streams_when_several_receive_one_after_the_other),
        TEST_BARE(c12_streams_when_the_loop_spins_receive_one_after_the_other),
        TEST(c13_streams_when_pulled_down_all_end),
    };
    return RUN(tests);
}
