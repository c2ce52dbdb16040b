/* SPDX-License-Identifier: MIT
 *
 * Streams: every way to end, and everything at once.
 */
#include "side.h"

#include <errno.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * Endings
 * ------------------------------------------------------------------------------------------------------------ */

/* The queue stands, the peer has sent more than was read, and reads only now. */
static void linger_when_input_is_unread_delivers_every_byte_and_a_clean_end(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 4; i++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side_open(side, i % KINDS);
        if (i < 2)
            side_pause(side);
        side_collect(side, i < 2 ? 0 : 1000);
        far_write(side, &at, 100000, SIZE_MAX);
        side_write(side, 400000);
        if (side->head)
            side_forward(side, side_take(side));
        world_turns(w, 2);
        side_drop(side);
        side_end(side, PRO_STREAM_LINGER);
        uint64_t goal = side->written_at;
        READ_UNTIL(side, 7000, side->far_error != 1);
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, goal);
        assert_true(far_has_pattern(side));
        assert_int_equal(side->ok, 1);
        world_turns(w, 10);
        assert_int_equal(side->count[CLOSED], 0); /* waits for the peer to close */
        at = 0;
        far_write(side, &at, 1000, SIZE_MAX);
        world_turns(w, 3);
        assert_pool_idle(pool);
        far_close(side);
        RUN_UNTIL(w, side->count[CLOSED] == 1);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
    }
}

static void linger_when_the_limit_of_bytes_is_met_closes(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side->config.linger_bytes = 50000;
        side->config.linger_ns = 3600000 * MS;
        side_open(side, kind);
        side_write(side, 100);
        side_end(side, PRO_STREAM_LINGER);
        uint64_t at = 0;
        READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
        while (at < 49999) {
            far_write(side, &at, 49999, SIZE_MAX);
            world_turns(w, 5);
            assert_int_equal(side->count[CLOSED], 0);
        }
        world_turns(w, 10);
        assert_int_equal(side->count[CLOSED], 0);
        far_write(side, &at, 50000, SIZE_MAX);
        RUN_UNTIL(w, side->count[CLOSED] == 1);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
        assert_pool_idle(pool);
    }
}

static void linger_when_its_time_is_up_closes(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 4; i++) {
        struct side *side = side_new(w, pool);
        side->config.linger_ns = 10 * MS;
        side_open(side, i % KINDS);
        if (i & 2)
            side_pause(side);
        side_end(side, PRO_STREAM_LINGER);
        RUN_UNTIL(w, side->count[CLOSED] == 1);
        assert_int_equal(side->error[CLOSED], 0);
        far_read(side, SIZE_MAX);
        assert_int_equal(side->far_error, 0);
        side_done(side);
    }
}

/* Its time is up many times before it has got what was sent; and it has not noticed yet that its input is unwanted. */
static void linger_when_the_peer_reads_slowly_waits_for_it(void **state)
{
    enum { SOME = 40000 };
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct side *side = side_new(w, pool);
    side->config.linger_ns = 200 * MS;
    side_open(side, TCP);
    side_write(side, 1000000);
    side_end(side, PRO_STREAM_LINGER);
    for (uint64_t at = 0, goal = side->written_at; side->got_size < goal;) {
        struct record *pace = world_record(w);
        far_write(side, &at, at + 1, 1);
        far_read(side, SOME);
        assert_int_equal(side->far_error, 1);
        pro_timer_after(w->loop, record_begin(pace), 40 * MS, on_record);
        RUN_UNTIL(w, pace->finals == 1);
    }
    assert_true(far_has_pattern(side));
    READ_UNTIL(side, SOME, side->far_error != 1);
    assert_int_equal(side->far_error, 0);
    side_done(side);
}

static void linger_when_the_peer_resets_says_so(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    side_open(side, TCP);
    side_end(side, PRO_STREAM_LINGER);
    READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
    far_reset(side);
    RUN_UNTIL(w, side->count[CLOSED] == 1);
    assert_int_equal(side->error[CLOSED], -ECONNRESET);
    side_done(side);
}

/* The kernel tells of a reset once, here to the write; after it a receive would bring what is there and an end of file. */
static void end_when_a_write_has_met_the_reset_is_no_end_of_file(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    uint64_t at = 0;
    side_open(side, TCP);
    side_pause(side);
    far_write(side, &at, 100, 100);
    far_reset(side);
    side_write(side, 10);
    RUN_UNTIL(w, side->count[WRITTEN] == 1);
    side_resume(side);
    RUN_UNTIL(w, side->count[END] == 1);
    assert_int_equal(side->error[END], -ECONNRESET);
    side_finish(side);
}

static void flush_when_a_queue_stands_sends_it_and_closes(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side_open(side, kind);
        side_write(side, 700000);
        side_end(side, PRO_STREAM_FLUSH);
        uint64_t goal = side->written_at;
        side_write(side, 10); /* comes too late */
        READ_UNTIL(side, 20000, side->far_error != 1);
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, goal);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->ok, 1);
        assert_int_equal(side->cancelled, 1);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
    }
}

static void flush_when_the_peer_does_not_read_times_out(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 4; i++) {
        struct side *side = side_new(w, pool);
        side->config.write_timeout_ns = 10 * MS;
        side_open_narrow(side, i % KINDS);
        side_collect(side, 1000);
        side_write(side, 1000000);
        side_forward(side, side_take(side));
        side_end(side, i < 2 ? PRO_STREAM_FLUSH : PRO_STREAM_LINGER);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], -ETIME);
        assert_int_equal(side->failed, 1);
        side_done(side);
        assert_pool_idle(pool);
    }
}

static void now_when_a_queue_stands_drops_it(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 8; i++) {
        struct side *side = side_new(w, pool);
        side_open_narrow(side, i % KINDS);
        side_collect(side, 1000);
        struct pro_slice *slice = side_take(side);
        if (i & 2)
            side_pause(side);
        uint64_t at = 0;
        far_write(side, &at, 1000, SIZE_MAX);
        side_write(side, 1000000);
        side_write(side, 1000);
        side_forward(side, slice);
        if (i & 4)
            world_turns(w, 3);
        side_end(side, PRO_STREAM_NOW);
        assert_int_equal(side->count[WRITTEN], 0);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->cancelled, 2);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
        assert_pool_idle(pool);
    }
}

static void abort_when_connected_resets_the_peer(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = side_new(w, pool);
        side_open(side, TCP);
        if (i)
            side_write(side, 8 << 20);
        world_turns(w, 2);
        side_end(side, PRO_STREAM_ABORT);
        RUN_UNTIL(w, side->count[CLOSED]);
        READ_UNTIL(side, SIZE_MAX, side->far_error != 1);
        assert_int_equal(side->far_error, -ECONNRESET);
        assert_int_equal(side->error[CLOSED], 0);
        assert_int_equal(side->cancelled, i);
        side_done(side);
    }
}

/* Every pair of endings, the second at every stage of the first. */
static void close_when_a_harsher_ending_is_asked_for_hurries(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum pro_stream_ending first = PRO_STREAM_LINGER; first <= PRO_STREAM_ABORT; first++)
        for (enum pro_stream_ending second = PRO_STREAM_LINGER; second <= PRO_STREAM_ABORT; second++)
            for (unsigned turns = 0; turns < 8; turns++) {
                struct side *side = side_new(w, pool);
                side_open(side, TCP);
                side_write(side, turns & 1 ? 100 : 8 << 20);
                side_end(side, first);
                for (unsigned i = 0; i < turns; i++) {
                    world_turns(w, 1);
                    far_read(side, turns & 2 ? SIZE_MAX : 0);
                }
                if (side->stream)
                    pro_stream_close(side->stream, second);
                if (side->stream && second < PRO_STREAM_NOW && first < PRO_STREAM_NOW)
                    READ_UNTIL(side, SIZE_MAX, side->count[CLOSED] || side->far_error == 0);
                if (first == PRO_STREAM_LINGER && second == PRO_STREAM_LINGER)
                    far_close(side);
                RUN_UNTIL(w, side->count[CLOSED]);
                if (first < PRO_STREAM_NOW && second < PRO_STREAM_NOW)
                    assert_int_equal(side->ok, 1);
                side_done(side);
            }
    assert_pool_idle(pool);
}

static void end_inside(struct world *w, struct pro_pool *pool, enum event event, int how, bool fails)
{
    struct side *side = side_new(w, pool);
    uint64_t at = 0;
    side->act = end_in_event;
    side->choice = (int)event * 8 + how;
    side->config.high = 3000000;
    side->config.linger_ns = 5 * MS;
    side_open_narrow(side, TCP);
    for (unsigned i = 0; i < 4; i++)
        side_write(side, 1000000);
    world_turns(w, 2);
    far_write(side, &at, 1000, SIZE_MAX);
    world_turns(w, 2);
    if (fails) {
        far_reset(side);
    } else {
        assert_true(shutdown(side->far, SHUT_WR) == 0 || side->closing);
        READ_UNTIL(side, 30000, side->closing);
    }
    side_done(side);
    assert_true(side->closing);
}

static void close_when_called_inside_a_callback_works(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (int how = 0; how < 8; how++) {
        end_inside(w, pool, DATA, how, false);
        end_inside(w, pool, END, how, false);
        end_inside(w, pool, DRAINED, how, false);
        end_inside(w, pool, BROKEN, how, true);
        end_inside(w, pool, WRITTEN, how, false);
        end_inside(w, pool, WRITTEN, how, true);
        end_inside(w, pool, END, how, true);
    }
    assert_pool_idle(pool);
}

static void reopen(struct pro_stream *stream, int error)
{
    struct side *side = side_of(stream);
    assert_int_equal(error, 0);
    if (side->choice-- > 0) {
        int fds[2];
        unix_pair(fds);
        close(fds[1]);
        pro_stream_open(stream, side->w->loop, fds[0], &side->config);
        pro_stream_close(stream, PRO_STREAM_FLUSH);
    } else {
        on_closed(stream, error);
    }
}

static void closed_when_it_opens_the_stream_again_works(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    side->config.closed = reopen;
    side->choice = 5;
    side_open(side, UNIX);
    side_end(side, PRO_STREAM_NOW);
    side_done(side);
    assert_int_equal(side->choice, -1);
}

/* ------------------------------------------------------------------------------------------------------------
 * Everything at once
 * ------------------------------------------------------------------------------------------------------------ */

/* One random act. Everything written follows the pattern, so the peer sees loss, repetition and disorder. */
static void wild(struct side *side, enum event event)
{
    uint8_t data[500];
    uint32_t what = draw(side, 40);
    struct pro_slice *tail;
    if (!side->stream || event == CLOSED)
        return;
    if (event == WRITTEN && draw(side, 2)) /* lest failing writes breed for ever */
        return;
    if (what < 8) {
        side_write(side, 1 + draw(side, draw(side, 10) ? 2000 : 300000));
    } else if (what < 16 && side->head) {
        struct pro_slice *slice = side_take(side);
        if (slice->size > 2 && what == 8 && pro_slice_split(slice, slice->size / 2, &tail) == 0)
            slice->next = tail;
        side_forward(side, slice);
    } else if (what < 18 && side->head) {
        pro_slice_return(side_take(side));
    } else if (what < 21 && !side->closing) {
        side_pause(side);
    } else if (what < 28 && !side->closing) {
        side_resume(side);
    } else if (what < 31) {
        pattern_fill(data, sizeof data, side->written_at);
        int n = pro_stream_try_write(side->stream, data, 1 + draw(side, sizeof data));
        side->written_at += n > 0 ? (uint64_t)n : 0;
    } else if (what < 32 && draw(side, 20) == 0) {
        pro_stream_shutdown(side->stream);
    } else if (what < 33) {
        pro_stream_read_deadline(side->stream, draw(side, 3) ? 0 : pro_now(side->w->loop) + draw(side, 2000000));
    } else if (what < 34 && draw(side, side->closing ? 3 : 20) == 0) {
        side_end(side, (enum pro_stream_ending)(1 + draw(side, 4)));
    }
    if (side->head && draw(side, 6) == 0)
        side_drop(side);
}

static void streams_when_anything_happens_keep_order_and_answer_all(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 2048;
    config.quota_buffers = 4;
    struct pro_pool *pool = world_pool(w, &config);
    for (unsigned seed = 1; seed <= stress(400); seed++) {
        struct side *sides[2];
        int fds[2];
        (seed % 2 ? tcp_pair : unix_pair)(fds);
        if (seed % 3 == 0) {
            shrink_buffers(fds[0]);
            shrink_buffers(fds[1]);
        }
        for (unsigned i = 0; i < 2; i++) {
            struct side *side = sides[i] = side_new(w, pool);
            side->random = (seed * 2 + i) * UINT64_C(0x9e3779b97f4a7c15);
            side->act = wild;
            side->check = side->keep = true;
            side->config.high = 20000;
            side->config.linger_ns = 5 * MS;
            side->config.linger_bytes = 20000;
            side->config.write_timeout_ns = 10 * MS;
            pro_stream_open(side->stream, w->loop, fds[i], &side->config);
        }
        for (unsigned step = 0; step < 150; step++) {
            world_turns(w, draw(sides[0], 3));
            wild(sides[step % 2], EVENTS);
        }
        for (unsigned i = 0; i < 2; i++) {
            sides[i]->act = NULL;
            if (sides[i]->stream)
                side_end(sides[i], 1 + draw(sides[i], 4));
        }
        for (unsigned i = 0; i < 2; i++)
            side_drop(sides[i]);
        RUN_UNTIL(w, sides[0]->count[CLOSED] && sides[1]->count[CLOSED]);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(sides[i]->count[CLOSED], 1);
            assert_int_equal(sides[i]->requests, sides[i]->ok + sides[i]->failed + sides[i]->cancelled);
        }
        assert_pool_idle(pool);
    }
}

static void echo(struct side *side, enum event event)
{
    if (event == DATA)
        pro_stream_write_slices(side->stream, side_take(side));
    if (event == DATA && !pro_stream_writable(side->stream))
        side_pause(side);
    if (event == DRAINED)
        side_resume(side);
    if (event == END)
        side_end(side, PRO_STREAM_LINGER);
}

/* Back pressure all around: the far end writes as fast as it can and reads in fits. */
static void echo_when_the_peer_is_slow_stops_reading_and_returns_all(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 8192;
    config.quota_buffers = 8;
    struct pro_pool *pool = world_pool(w, &config);
    for (unsigned seed = 1; seed <= stress(30); seed++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0, end = 2000000;
        side->random *= seed;
        side->act = echo;
        side->keep = side->check = true;
        side->config.high = 32768;
        side->config.low = draw(side, 2) ? 8192 : 16384;
        side_open_narrow(side, seed % KINDS);
        bool shut = false;
        while (side->far_error == 1) {
            far_write(side, &at, end, draw(side, 60000));
            if (at == end && !shut)
                shut = shutdown(side->far, SHUT_WR) == 0;
            world_turns(w, draw(side, 3));
            far_read(side, draw(side, 60000));
            if (side->stream) /* the mark, the piece that went over it, and what came before the pause was answered */
                assert_in_range(pro_stream_queued(side->stream), 0, 32768 + 8 * 8192);
        }
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, end);
        assert_true(far_has_pattern(side));
        side_done(side);
        assert_int_equal(side->error[CLOSED], 0);
        assert_pool_idle(pool);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Pull-down and misuse
 * ------------------------------------------------------------------------------------------------------------ */

static void end_at_end(struct side *side, enum event event)
{
    if ((event == END || event == BROKEN || event == CONNECTED) && !side->closing)
        side_end(side, PRO_STREAM_LINGER);
}

static void loop_when_freed_closes_what_ends(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 0);
    server_fill(w, &server);
    struct side *sides[12];
    for (unsigned i = 0; i < 12; i++) {
        struct side *side = sides[i] = side_new(w, pool);
        side->act = end_at_end;
        if (i < 2) {
            side_connect(side, &server, 0);
        } else {
            side_open_narrow(side, i % KINDS);
            side_collect(side, 1000);
        }
        if (i % 3)
            side_write(side, 1000000);
        if (side->head && i % 4)
            side_forward(side, side_take(side));
        side_drop(side);
        world_turns(w, i % 2);
        if (i >= 8) {
            side_pause(side);
            side_end(side, 1 + i % 4);
        }
    }
    world_shut(w);
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(sides[i]->count[CLOSED], 1);
        assert_int_equal(sides[i]->requests, sides[i]->ok + sides[i]->failed + sides[i]->cancelled);
    }
    assert_pool_idle(pool);
}

static void body_writes_nothing(struct world *w)
{
    struct side *side = side_new(w, NULL);
    struct pro_stream_write write;
    side_open(side, UNIX);
    pro_stream_write(side->stream, &write, "", 0, NULL);
}

static void body_opens_twice(struct world *w)
{
    struct side *side = side_new(w, NULL);
    side_open(side, UNIX);
    side_open(side, UNIX);
}

static void body_writes_to_closed(struct world *w)
{
    struct pro_stream stream = {0};
    (void)w;
    pro_stream_write_slices(&stream, NULL);
}

static void body_ends_in_no_way(struct world *w)
{
    struct side *side = side_new(w, NULL);
    side_open(side, UNIX);
    pro_stream_close(side->stream, 0);
}

static void misuse_when_it_happens_aborts(void **state)
{
    (void)state;
    assert_dies(body_writes_nothing, "misuse: the size of a write");
    assert_dies(body_opens_twice, "misuse: the stream is open");
    assert_dies(body_writes_to_closed, "misuse: the stream is closed");
    assert_dies(body_ends_in_no_way, "misuse: no such ending");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(linger_when_input_is_unread_delivers_every_byte_and_a_clean_end),
        TEST(linger_when_the_limit_of_bytes_is_met_closes),
        TEST(linger_when_its_time_is_up_closes),
        TEST(linger_when_the_peer_reads_slowly_waits_for_it),
        TEST(linger_when_the_peer_resets_says_so),
        TEST(end_when_a_write_has_met_the_reset_is_no_end_of_file),
        TEST(flush_when_a_queue_stands_sends_it_and_closes),
        TEST(flush_when_the_peer_does_not_read_times_out),
        TEST(now_when_a_queue_stands_drops_it),
        TEST(abort_when_connected_resets_the_peer),
        TEST(close_when_a_harsher_ending_is_asked_for_hurries),
        TEST(close_when_called_inside_a_callback_works),
        TEST(closed_when_it_opens_the_stream_again_works),
        TEST(streams_when_anything_happens_keep_order_and_answer_all),
        TEST(echo_when_the_peer_is_slow_stops_reading_and_returns_all),
        TEST(loop_when_freed_closes_what_ends),
        TEST(misuse_when_it_happens_aborts),
    };
    return RUN(tests);
}
