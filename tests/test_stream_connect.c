/* SPDX-License-Identifier: MIT
 *
 * Streams that connect: to who listens, to nobody, and closed on the way.
 */
#include "side.h"

#include <errno.h>

static void side_accept(struct side *side, const struct server *server)
{
    side->far = world_own(side->w, accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static void connect_when_somebody_listens_connects_and_reads(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 10);
    for (unsigned i = 0; i < 16; i++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side->check = true;
        side_connect(side, &server, i & 1 ? pro_now(w->loop) + 10000 * MS : 0);
        assert_int_equal(pro_stream_try_write(side->stream, "x", 1), -EAGAIN);
        side_write(side, 1000);
        if (i & 2)
            side_pause(side);
        if (i & 4)
            pro_stream_shutdown(side->stream);
        if (i & 8)
            pro_stream_read_deadline(side->stream, pro_now(w->loop) + 20 * MS);
        RUN_UNTIL(w, side->count[CONNECTED]);
        assert_int_equal(side->error[CONNECTED], 0);
        side_accept(side, &server);
        far_write(side, &at, 1000, SIZE_MAX);
        if (i & 2) {
            world_turns(w, 5);
            side_resume(side);
        }
        READ_UNTIL(side, SIZE_MAX, side->received == 1000 && side->got_size == 1000);
        if (i & 4)
            READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
        if (i & 8) {
            RUN_UNTIL(w, side->count[END]);
            assert_int_equal(side->error[END], -ETIME);
        }
        assert_int_equal(side->ok, 1);
        side_finish(side);
        assert_int_equal(side->count[CONNECTED], 1);
    }
    assert_pool_idle(pool);
}

static void connect_when_nobody_listens_is_refused(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, -1);
    for (enum pro_stream_ending ending = PRO_STREAM_LINGER; ending <= PRO_STREAM_ABORT; ending++) {
        struct side *side = side_new(w, pool);
        side_connect(side, &server, 0);
        side_write(side, 1000);
        RUN_UNTIL(w, side->count[CONNECTED]);
        assert_int_equal(side->error[CONNECTED], -ECONNREFUSED);
        assert_int_equal(side->failed, 1);
        assert_int_equal(side->error[WRITTEN], -ECONNREFUSED);
        side_write(side, 1000);
        RUN_UNTIL(w, side->failed == 2);
        side_end(side, ending);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], -ECONNREFUSED);
        assert_int_equal(side->count[BROKEN] + side->count[END], 0);
        side_done(side);
    }
}

static void connect_when_there_is_no_descriptor_says_so(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    struct sockaddr bad = {.sa_family = 250};
    assert_int_equal(pro_stream_connect(side->stream, w->loop, &bad, sizeof bad, 0, &side->config), -EAFNOSUPPORT);
    side_open(side, UNIX); /* it is closed still */
    side_finish(side);
}

static void connect_when_nobody_answers_meets_its_deadline(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 0);
    server_fill(w, &server);
    struct side *side = side_new(w, pool);
    side_connect(side, &server, pro_now(w->loop) + 20 * MS);
    side_write(side, 1000);
    RUN_UNTIL(w, side->count[CONNECTED]);
    assert_int_equal(side->error[CONNECTED], -ETIME);
    assert_int_equal(side->error[WRITTEN], -ETIME);
    side_end(side, PRO_STREAM_LINGER);
    RUN_UNTIL(w, side->count[CLOSED]);
    assert_int_equal(side->error[CLOSED], -ETIME);
    side_done(side);
}

static void close_when_connecting_ends_the_connect(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 0);
    server_fill(w, &server);
    for (unsigned i = 0; i < 16; i++) {
        struct side *side = side_new(w, pool);
        bool queued = i & 8;
        enum pro_stream_ending ending = 1 + i % 4;
        side_connect(side, &server, queued ? pro_now(w->loop) + 20 * MS : 0);
        if (queued)
            side_write(side, 1000);
        if (i & 4)
            world_turns(w, 2);
        side_end(side, ending);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], queued && ending <= PRO_STREAM_FLUSH ? -ETIME : 0);
        assert_int_equal(side->cancelled + side->failed, queued);
        side_done(side);
    }
}

/* Connect, write, close, all at once: fire and forget. */
static void close_when_connecting_with_a_queue_still_delivers_it(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 10);
    for (enum pro_stream_ending ending = PRO_STREAM_LINGER; ending <= PRO_STREAM_FLUSH; ending++) {
        struct side *side = side_new(w, pool);
        side_connect(side, &server, 0);
        side_write(side, 1000);
        side_end(side, ending);
        RUN_UNTIL(w, side->ok == 1);
        side_accept(side, &server);
        READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
        assert_int_equal(side->got_size, 1000);
        far_close(side);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
    }
}

static void close_when_called_inside_connected_works(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server good = server_new(w, 100), bad = server_new(w, -1);
    for (int how = 0; how < 16; how++) {
        struct side *side = side_new(w, pool);
        side->act = end_in_event;
        side->choice = CONNECTED * 8 + how % 8;
        side->config.linger_ns = 5 * MS;
        side_connect(side, how < 8 ? &good : &bad, 0);
        if (how & 1)
            side_write(side, 10);
        RUN_UNTIL(w, side->count[CLOSED]);
        side_done(side);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(connect_when_somebody_listens_connects_and_reads),
        TEST(connect_when_nobody_listens_is_refused),
        TEST(connect_when_there_is_no_descriptor_says_so),
        TEST(connect_when_nobody_answers_meets_its_deadline),
        TEST(close_when_connecting_ends_the_connect),
        TEST(close_when_connecting_with_a_queue_still_delivers_it),
        TEST(close_when_called_inside_connected_works),
    };
    return RUN(tests);
}
