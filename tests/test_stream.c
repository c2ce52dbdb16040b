/* SPDX-License-Identifier: MIT
 *
 * Streams: writing (order, marks, what is counted) and reading (pause, deadlines, the end).
 */
#include "side.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------------------------------------------ */

static void writes_when_slices_and_bytes_are_mixed_arrive_in_order(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 4096;
    struct pro_pool *pool = world_pool(w, &config);
    for (unsigned seed = 1; seed <= stress(40); seed++) {
        struct side *side = side_new(w, pool);
        side->random *= seed;
        if (seed % 3)
            side_open(side, seed % KINDS);
        else
            side_open_narrow(side, seed % KINDS);
        for (unsigned i = 0; i < 30; i++)
            side_collect(side, 1 + draw(side, i % 7 ? 200 : 6000));
        while (side->head) {
            struct pro_slice *slice = side_take(side), *tail;
            if (slice->size > 1 && draw(side, 2) && pro_slice_split(slice, 1 + draw(side, slice->size - 1), &tail) == 0)
                slice->next = tail;
            side_forward(side, slice);
            while (draw(side, 2))
                side_write(side, 1 + draw(side, draw(side, 8) ? 3000 : 600000));
            if (draw(side, 4) == 0) {
                world_turns(w, 1);
                far_read(side, draw(side, 10000));
            }
        }
        READ_UNTIL(side, SIZE_MAX, side->got_size == side->written_at && pro_stream_queued(side->stream) == 0);
        assert_true(far_has_pattern(side));
        assert_int_equal(side->ok, side->requests);
        side_finish(side);
        assert_pool_idle(pool);
    }
}

static void slices_when_empty_are_returned(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct side *side = side_new(w, pool);
    side_open(side, UNIX);
    side_collect(side, 10);
    struct pro_slice *slice = side_take(side);
    slice->size = 0;
    pro_stream_write_slices(side->stream, slice);
    pro_stream_write_slices(side->stream, NULL);
    assert_int_equal(pro_stream_queued(side->stream), 0);
    assert_pool_idle(pool);
    side_finish(side);
}

static void queued_when_slices_share_a_buffer_counts_it_once(void **state)
{
    struct world *w = *state;
    enum { BUFFER = 65536, BLOCK = 2000000 };
    struct pro_pool *pool = world_pool(w, NULL);
    struct side *side = side_new(w, pool);
    side_open(side, UNIX);
    side_collect(side, 30000);
    struct pro_slice *a = side_take(side), *b, *c;
    side_collect(side, 30000);
    struct pro_slice *other = side_take(side), *rest;
    assert_null(side->head);
    assert_int_equal(pro_slice_split(a, 10000, &b), 0);
    assert_int_equal(pro_slice_split(b, 10000, &c), 0);
    assert_int_equal(pro_slice_split(other, 7, &rest), 0);
    uint32_t sum = 0;
    side_write(side, BLOCK);
    world_turns(w, 3);
    assert_int_equal(pro_stream_queued(side->stream), sum += BLOCK);
    side_forward(side, a);
    assert_int_equal(pro_stream_queued(side->stream), sum += BUFFER);
    side_forward(side, b);
    assert_int_equal(pro_stream_queued(side->stream), sum);
    other->next = c; /* other, c: c has another neighbour now */
    side_forward(side, other);
    assert_int_equal(pro_stream_queued(side->stream), sum += 2 * BUFFER);
    side_write(side, 100);
    assert_int_equal(pro_stream_queued(side->stream), sum += 100);
    side_forward(side, rest); /* a write stands between it and its buffer */
    assert_int_equal(pro_stream_queued(side->stream), sum += BUFFER);
    READ_UNTIL(side, SIZE_MAX, side->got_size == side->written_at && pro_stream_queued(side->stream) == 0);
    assert_true(far_has_pattern(side));
    side_finish(side);
    assert_pool_idle(pool);
}

/* The run ends inside a chain of slices that share: what is left of the chain takes the charge over. */
static void queued_when_a_run_ends_inside_a_buffer_moves_the_charge(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    enum { BUFFER = 1 << 20, PART = 50000, PARTS = 6 };
    config.buffer_size = BUFFER;
    config.slab_buffers = 4;
    struct pro_pool *pool = world_pool(w, &config);
    struct side *side = side_new(w, pool);
    side_open(side, UNIX);
    for (unsigned i = 0; i < PARTS; i++) /* small pieces are put behind each other, while they are kept */
        side_collect(side, PART);
    for (struct pro_slice *slice = side->head; slice; slice = slice->next)
        assert_true(pro_slice_shares(slice, side->head));
    side_write(side, 4000000); /* until they stand in the queue */
    uint64_t before = side->written_at;
    struct pro_slice *list = side->head;
    side->head = side->tail = NULL;
    side_forward(side, list);
    READ_UNTIL(side, SIZE_MAX, side->ok == 1);
    while (pro_stream_queued(side->stream) > 0) {
        assert_int_equal(pro_stream_queued(side->stream), BUFFER);
        world_turns(w, 1);
        far_read(side, SIZE_MAX);
    }
    for (unsigned i = 0; i < 1000 && side->got_size < side->written_at; i++) { /* without a turn */
        far_read(side, SIZE_MAX);
        poll(NULL, 0, 1);
    }
    assert_int_equal(side->got_size, before + PARTS * PART);
    assert_true(far_has_pattern(side));
    side_finish(side);
    assert_pool_idle(pool);
}

static void queued_when_a_write_is_larger_than_a_send_counts_it_to_the_end(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    enum { SIZE = 1000000 };
    side_open(side, UNIX);
    side_write(side, SIZE);
    while (side->count[WRITTEN] == 0) {
        assert_int_equal(pro_stream_queued(side->stream), SIZE);
        world_turns(w, 1);
        far_read(side, 30000);
    }
    assert_int_equal(side->error[WRITTEN], SIZE);
    assert_int_equal(pro_stream_queued(side->stream), 0);
    side_finish(side);
}

static void drained_when_the_queue_falls_to_low_is_told_once(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned at_low = 0; at_low < 2; at_low++) {
        struct side *side = side_new(w, pool);
        side->config.high = 100000;
        side->config.low = at_low ? 40000 : 39999;
        side_open(side, UNIX);
        side_write(side, 60000);
        assert_true(pro_stream_writable(side->stream));
        side_write(side, 39999);
        assert_true(pro_stream_writable(side->stream));
        READ_UNTIL(side, SIZE_MAX, side->ok == 2);
        world_turns(w, 3);
        assert_int_equal(side->count[DRAINED], 0); /* it never was full */
        side_write(side, 60000);
        side_write(side, 40000);
        assert_false(pro_stream_writable(side->stream));
        READ_UNTIL(side, SIZE_MAX, side->ok == 3);
        assert_true(pro_stream_writable(side->stream));
        assert_int_equal(side->count[DRAINED], at_low);
        READ_UNTIL(side, SIZE_MAX, side->ok == 4);
        world_turns(w, 3);
        assert_int_equal(side->count[DRAINED], 1);
        side_finish(side);
    }
}

static void try_write_when_nothing_is_queued_sends_at_once(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    uint8_t data[1000];
    side_open_narrow(side, UNIX);
    uint64_t at = 0;
    for (int n;
         (pattern_fill(data, sizeof data, at), n = pro_stream_try_write(side->stream, data, sizeof data)) != -EAGAIN;
         at += (uint64_t)n)
        assert_in_range(n, 1, sizeof data);
    assert_true(at > 0);
    side->written_at = at;
    side_write(side, 5);
    far_read(side, SIZE_MAX);
    assert_int_equal(pro_stream_try_write(side->stream, data, sizeof data), -EAGAIN); /* not before what is queued */
    READ_UNTIL(side, SIZE_MAX, side->ok == 1 && side->got_size == side->written_at);
    assert_true(far_has_pattern(side));
    pro_stream_shutdown(side->stream);
    assert_int_equal(pro_stream_try_write(side->stream, data, sizeof data), -EPIPE);
    READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
    side_end(side, PRO_STREAM_NOW);
    assert_int_equal(pro_stream_try_write(side->stream, data, sizeof data), -EPIPE);
    side_done(side);
}

static void shutdown_when_a_queue_stands_comes_after_it(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side_open(side, kind);
        side_collect(side, 1000);
        side_write(side, 500000);
        side_forward(side, side_take(side));
        uint64_t goal = side->written_at;
        pro_stream_shutdown(side->stream);
        pro_stream_shutdown(side->stream);
        side_write(side, 10); /* refused, and so are slices */
        side_collect(side, 10);
        pro_stream_write_slices(side->stream, side_take(side));
        READ_UNTIL(side, 5000, side->far_error == 0);
        assert_int_equal(side->got_size, goal);
        assert_true(far_has_pattern(side));
        READ_UNTIL(side, 0, side->count[WRITTEN] == 2);
        assert_int_equal(side->ok, 1);
        assert_int_equal(side->error[WRITTEN], -EPIPE);
        side_write(side, 10);
        assert_int_equal(side->count[WRITTEN], 2); /* not from inside the call */
        READ_UNTIL(side, 0, side->count[WRITTEN] == 3);
        side_collect(side, 100); /* reading goes on */
        assert_int_equal(side->received, 1110);
        assert_int_equal(side->count[BROKEN], 0);
        side_end(side, PRO_STREAM_LINGER);
        far_close(side);
        side_done(side);
        assert_int_equal(side->error[CLOSED], 0);
        assert_pool_idle(pool);
    }
}

static void write_when_the_peer_does_not_read_times_out(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side->config.write_timeout_ns = 20 * MS;
        side_open_narrow(side, kind);
        side_collect(side, 2000);
        side_write(side, 1000000);
        side_write(side, 1000);
        side_forward(side, side_take(side));
        RUN_UNTIL(w, side->count[BROKEN] == 1);
        assert_int_equal(side->error[BROKEN], -ETIME);
        assert_int_equal(side->failed, 2);
        assert_int_equal(side->error[WRITTEN], -ETIME);
        assert_int_equal(pro_stream_queued(side->stream), 0);
        assert_pool_idle(pool);
        side_end(side, PRO_STREAM_LINGER);
        side_done(side);
        assert_int_equal(side->error[CLOSED], -ETIME);
    }
}

/* A large write is many sends, and each has the whole time. */
static void write_when_the_peer_is_slow_does_not_time_out(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    side->config.write_timeout_ns = 400 * MS;
    side_open(side, UNIX);
    side_write(side, 4 << 20);
    for (unsigned i = 0; side->count[WRITTEN] == 0; i++) {
        world_turns(w, 1);
        far_read(side, 40000);
        poll(NULL, 0, 10);
    }
    assert_int_equal(side->ok, 1);
    side_finish(side);
}

static void rewrite(struct side *side, enum event event)
{
    if (event == WRITTEN && side->error[WRITTEN] < 0 && side->choice-- > 0)
        side_write(side, 10);
}

static void queue_when_the_peer_resets_is_dropped_and_answered(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned retries = 0; retries < 5; retries++) {
        struct side *side = side_new(w, pool);
        side->act = rewrite;
        side->choice = (int)retries;
        side_open_narrow(side, TCP);
        side_collect(side, 1000);
        side_write(side, 3000000);
        for (unsigned i = 0; i < 10; i++)
            side_write(side, 1000);
        side_forward(side, side_take(side));
        world_turns(w, 3);
        far_reset(side);
        READ_UNTIL(side, 0, side->count[BROKEN] && side->count[END]);
        READ_UNTIL(side, 0, side->failed == 11 + retries);
        assert_true(side->error[BROKEN] == -ECONNRESET || side->error[BROKEN] == -EPIPE);
        assert_int_equal(pro_stream_queued(side->stream), 0);
        assert_pool_idle(pool);
        side_write(side, 10);
        assert_int_equal(side->failed, 11 + retries);
        READ_UNTIL(side, 0, side->failed == 12 + retries);
        assert_int_equal(side->count[BROKEN], 1);
        assert_int_equal(side->count[END], 1);
        side_write(side, 10);
        side_end(side, retries % 2 ? PRO_STREAM_LINGER : PRO_STREAM_NOW);
        side_done(side);
        assert_true(side->error[CLOSED] == -ECONNRESET || side->error[CLOSED] == -EPIPE);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------------------------------------------ */

static void toggle(struct side *side, enum event event)
{
    if (event != DATA)
        return;
    uint32_t what = draw(side, 8);
    if (what < 3)
        side_pause(side);
    if (what == 1 || what == 4)
        side_resume(side);
    if (what == 5) {
        side_pause(side);
        side_resume(side);
        side_pause(side);
    }
}

static void pause_when_data_comes_loses_and_reorders_nothing(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    struct pro_pool *pools[3];
    static const uint32_t sizes[3] = {256, 1024, 65536}, quotas[3] = {2, 3, 16};
    for (unsigned i = 0; i < 3; i++) {
        config.buffer_size = sizes[i];
        config.quota_buffers = quotas[i];
        pools[i] = world_pool(w, &config);
    }
    for (unsigned seed = 1; seed <= stress(300); seed++) {
        struct side *side = side_new(w, pools[seed % 3]);
        uint64_t at = 0, end = 3000 + seed % 50 * 2000;
        side->random *= seed;
        side->check = true;
        side->act = toggle;
        side_open(side, seed / 3 % KINDS);
        while (at < end) {
            far_write(side, &at, end, 1 + draw(side, 9000));
            uint32_t what = draw(side, 6);
            if (what == 0 || what == 1)
                side_pause(side);
            if (what == 1 || what == 2 || what == 3)
                side_resume(side);
            world_turns(w, draw(side, 3));
        }
        assert_int_equal(shutdown(side->far, SHUT_WR), 0);
        while (side->count[END] == 0) {
            world_turns(w, draw(side, 3));
            if (draw(side, 2))
                side_resume(side);
        }
        assert_int_equal(side->received, end);
        assert_int_equal(side->error[END], 0);
        side_finish(side);
        assert_pool_idle(pools[seed % 3]);
    }
}

static void end_when_paused_is_held_until_resume(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    enum how { FILE_END, RESET, DEADLINE, HOWS };
    static const int errors[HOWS] = {0, -ECONNRESET, -ETIME};
    for (unsigned i = 0; i < HOWS * 2; i++) {
        struct side *side = side_new(w, pool);
        enum how how = i % HOWS;
        uint64_t at = 0;
        side->check = true;
        side_open(side, TCP);
        if (i >= HOWS) {
            side_pause(side); /* data that comes before the answer is stashed */
            far_write(side, &at, 1000, SIZE_MAX);
        } else {
            far_write(side, &at, 1000, SIZE_MAX);
            READ_UNTIL(side, 0, side->received == 1000);
            side_pause(side);
        }
        if (how == FILE_END)
            assert_int_equal(shutdown(side->far, SHUT_WR), 0);
        else if (how == RESET)
            far_reset(side);
        else
            pro_stream_read_deadline(side->stream, pro_now(w->loop) + 10 * MS);
        for (unsigned turn = 0; turn < 30; turn++) {
            world_turns(w, 1);
            poll(NULL, 0, 1);
        }
        assert_int_equal(side->count[END], 0);
        side_resume(side);
        assert_int_equal(side->count[END], 0);
        RUN_UNTIL(w, side->count[END] == 1);
        assert_int_equal(side->error[END], errors[how]);
        if (how != RESET) /* which may overtake data */
            assert_true(how == DEADLINE || side->received == 1000);
        side_pause(side); /* all this is without effect now */
        side_resume(side);
        pro_stream_read_deadline(side->stream, 1);
        world_turns(w, 3);
        side_end(side, PRO_STREAM_FLUSH);
        side_done(side);
        assert_int_equal(side->error[CLOSED], errors[how]);
        assert_pool_idle(pool);
    }
}

static void read_deadline_when_it_passes_ends_reading_only(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side_open(side, kind);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + 1);
        pro_stream_read_deadline(side->stream, 0);
        far_write(side, &at, 100, SIZE_MAX);
        RUN_UNTIL(w, side->received == 100);
        world_turns(w, 3);
        assert_int_equal(side->count[END], 0);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + 3600000 * MS);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + 10 * MS);
        RUN_UNTIL(w, side->count[END] == 1);
        assert_int_equal(side->error[END], -ETIME);
        side_write(side, 100000);
        far_write(side, &at, 5000, SIZE_MAX); /* unread input must not reset what is still to be sent */
        side_end(side, PRO_STREAM_LINGER);
        READ_UNTIL(side, SIZE_MAX, side->far_error != 1);
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, 100000);
        assert_int_equal(side->ok, 1);
        world_turns(w, 10);
        assert_int_equal(side->count[CLOSED], 0); /* it reads on, for the peer's end */
        far_close(side);
        side_done(side);
        assert_int_equal(side->error[CLOSED], -ETIME);
        assert_pool_idle(pool);
    }
}

/* Data at every moment about the deadline: none is lost, and the end comes after it. */
static void read_deadline_when_data_races_it_loses_nothing(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned seed = 1; seed <= stress(200); seed++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side->check = true;
        side->random *= seed;
        side_open(side, seed % KINDS);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + draw(side, 1000000));
        while (side->count[END] == 0) {
            far_write(side, &at, UINT64_MAX, draw(side, 100));
            world_turns(w, 1);
        }
        assert_int_equal(side->error[END], -ETIME);
        uint8_t rest[4096];
        uint64_t left = 0;
        int fd = side->stream->handle.fd;
        for (ssize_t n; (n = recv(fd, rest, sizeof rest, MSG_DONTWAIT)) > 0; left += (uint64_t)n)
            assert_true(pattern_holds(rest, (size_t)n, side->received + left));
        assert_int_equal(side->received + left, at); /* delivered, or still in the socket */
        side_finish(side);
    }
}

static void callbacks_when_null_are_not_called(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct side *side = side_new(w, pool);
    uint64_t at = 0;
    side->config = (struct pro_stream_config){.pool = pool, .closed = on_closed};
    side_open_narrow(side, TCP);
    far_write(side, &at, 1000, SIZE_MAX);
    world_turns(w, 5);
    assert_pool_idle(pool);
    struct pro_stream_write write;
    static const uint8_t data[4000000];
    pro_stream_write(side->stream, &write, data, sizeof data, NULL);
    world_turns(w, 5);
    far_reset(side);
    READ_UNTIL(side, 0, pro_stream_queued(side->stream) == 0);
    side_end(side, PRO_STREAM_FLUSH);
    side_done(side);
}

static void stream_when_it_has_no_pool_only_writes(void **state)
{
    struct world *w = *state;
    for (enum pro_stream_ending ending = PRO_STREAM_LINGER; ending <= PRO_STREAM_ABORT; ending++) {
        struct side *side = side_new(w, NULL);
        side_open(side, UNIX);
        side_pause(side);
        side_resume(side);
        pro_stream_read_deadline(side->stream, 1);
        side_write(side, 100000);
        READ_UNTIL(side, SIZE_MAX, side->ok == 1);
        side_end(side, ending);
        side_done(side);
        assert_int_equal(side->count[END], 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(writes_when_slices_and_bytes_are_mixed_arrive_in_order),
        TEST(slices_when_empty_are_returned),
        TEST(queued_when_slices_share_a_buffer_counts_it_once),
        TEST(queued_when_a_run_ends_inside_a_buffer_moves_the_charge),
        TEST(queued_when_a_write_is_larger_than_a_send_counts_it_to_the_end),
        TEST(drained_when_the_queue_falls_to_low_is_told_once),
        TEST(try_write_when_nothing_is_queued_sends_at_once),
        TEST(shutdown_when_a_queue_stands_comes_after_it),
        TEST(write_when_the_peer_does_not_read_times_out),
        TEST(write_when_the_peer_is_slow_does_not_time_out),
        TEST(queue_when_the_peer_resets_is_dropped_and_answered),
        TEST(pause_when_data_comes_loses_and_reorders_nothing),
        TEST(end_when_paused_is_held_until_resume),
        TEST(read_deadline_when_it_passes_ends_reading_only),
        TEST(read_deadline_when_data_races_it_loses_nothing),
        TEST(callbacks_when_null_are_not_called),
        TEST(stream_when_it_has_no_pool_only_writes),
    };
    return RUN(tests);
}
