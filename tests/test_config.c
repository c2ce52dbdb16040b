/* SPDX-License-Identifier: MIT
 *
 * What pro_config can change: features, queue sizes, the backend; and configs that make no sense. */
#include "harness.h"
#include "kinds.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * A smoke test of every operation
 * ------------------------------------------------------------------------------------------------------------ */

static void complete_one(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 2);
    if (!s->kind->feed)
        return;
    scene_feed(s);
    if (s->kind->flags & KIND_ACCEPTS)
        assert_true(s->r->log[0].res >= 0);
    else
        assert_int_equal(s->r->log[0].res, s->kind->fed);
}

static void cancel_one(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 2);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
}

static void close_one(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 2);
}

static void connect_and_talk(struct world *w)
{
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length), *near = world_handle(w), *far = world_handle(w);
    struct record *accept = world_record(w), *connect = world_record(w), *send = world_record(w);
    struct record *recv = world_record(w);
    struct iovec iov = {(char[]){"hello"}, 5};
    assert_int_equal(pro_socket(w->loop, near, AF_INET, SOCK_STREAM, 0), 0);
    pro_accept(listener, record_begin(accept), on_record);
    pro_connect(near, record_begin(connect), (struct sockaddr *)&at, length, on_record);
    pro_send(near, record_begin(send), &iov, 1, 0, on_record);
    RUN_UNTIL(w, accept->finals == 1);
    pro_adopt(w->loop, far, accept->last.res);
    pro_recv_multi(far, record_begin(recv), world_pool(w, NULL), 5, on_record);
    RUN_UNTIL(w, recv->bytes == 5);
    assert_int_equal(connect->last.res, 0);
    assert_int_equal(send->last.res, 5);
    assert_int_equal(world_close_handle(w, near), 0);
    assert_int_equal(world_close_handle(w, far), 0);
    assert_int_equal(world_close_handle(w, listener), 0);
    record_drop(recv);
    pro_pool_free(w->pools[--w->pool_count]);
}

static void smoke(struct world *w)
{
    for_kinds(w, 0, KIND_SLOW, complete_one);
    for_kinds(w, 0, KIND_SLOW, cancel_one);
    for_kinds(w, 0, 0, close_one);
    connect_and_talk(w);
}

/* ------------------------------------------------------------------------------------------------------------
 * Features
 * ------------------------------------------------------------------------------------------------------------ */

static const char *const feature_names[] = {"defer_taskrun", "single_issuer",  "submit_all",
                                            "buffer_ring",   "recv_multishot", "accept_multishot",
                                            "skip_success",  "min_wait",       "registered_ring"};
enum { FEATURES = sizeof feature_names / sizeof feature_names[0] };

static void every_feature_alone_can_be_missing(void **state)
{
    struct world *w = *state;
    w->config.min_wait_us = 100;
    for (unsigned bit = 0; bit < FEATURES; bit++) {
        w->config.features_off = UINT64_C(1) << bit;
        world_open(w);
        smoke(w);
        assert_null(strstr(pro_loop_describe(w->loop), feature_names[bit]));
        world_shut(w);
    }
}

static void all_features_can_be_missing(void **state)
{
    struct world *w = *state;
    w->config.features_off = UINT64_MAX;
    w->config.min_wait_us = 100;
    world_open(w);
    smoke(w);
    for (unsigned bit = 0; bit < FEATURES; bit++)
        assert_null(strstr(pro_loop_describe(w->loop), feature_names[bit]));
}

/* Also where there is nothing to wait for but the simulated world, which knows neither. */
static void ways_to_wait_can_be_asked_for(void **state)
{
    struct world *w = *state;
    for (unsigned ways = 1; ways < 4; ways++) {
        w->config.spin_us = ways & 1 ? 50 : 0;
        w->config.min_wait_us = ways & 2 ? 50 : 0;
        world_open(w);
        smoke(w);
        world_shut(w);
    }
}

static void describe_names_the_backend_and_its_features(void **state)
{
    struct world *w = *state;
    const char *text = pro_loop_describe(w->loop);
    assert_ptr_equal(text, pro_loop_describe(w->loop)); /* lives as long as the loop */
    if (world_is_uring(w)) {
        assert_memory_equal(text, "io_uring", 8);
    } else if (world_is_sim(w)) {
        assert_memory_equal(text, "sim", 3);
    } else {
        assert_memory_equal(text, "epoll", 5);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Tiny queues: the submission queue is full, the completion queue overflows; nothing is lost
 * ------------------------------------------------------------------------------------------------------------ */

static void tiny(struct world *w)
{
    w->config.entries = 4;
    w->config.completion_entries = 8;
    world_open(w);
}

static void queues_when_tiny_serve_every_operation(void **state)
{
    struct world *w = *state;
    tiny(w);
    smoke(w);
}

enum { MANY = 200 };

static void queues_when_tiny_complete_everything(void **state)
{
    struct world *w = *state;
    struct record *r[MANY];
    char *data = world_alloc(w, MANY);
    tiny(w);
    for (unsigned round = 0; round < 20; round++) {
        int far[MANY];
        struct pro_handle *near[MANY];
        for (unsigned i = 0; i < MANY; i++) {
            near[i] = world_unix(w, &far[i]);
            r[i] = world_record(w);
            pro_recv(near[i], record_begin(r[i]), data + i, 1, 0, on_record);
        }
        world_turns(w, round % 3);
        for (unsigned i = 0; i < MANY; i++) {
            if (i % 3 != 0)
                write_all(far[i], "x", 1);
            if (i % 3 != 1)
                pro_cancel(&r[i]->op);
        }
        for (unsigned i = 0; i < MANY; i++) {
            RUN_UNTIL(w, r[i]->finals == 1);
            assert_true(r[i]->last.res == (i % 3 ? 1 : -ECANCELED) || (i % 3 == 2 && r[i]->last.res == -ECANCELED));
        }
        for (unsigned i = 0; i < MANY; i++) {
            char left;
            world_close_handle(w, near[i]);
            assert_true(read_now(far[i], &left, 1) == 0 || i % 3);
            world_close(w, far[i]);
        }
    }
}

/* All complete at the kernel before the loop looks: more completions than its queue holds. */
static void queues_when_tiny_lose_no_completion(void **state)
{
    struct world *w = *state;
    struct record *recv[MANY], *poll[MANY];
    int far[MANY];
    tiny(w);
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < MANY; i++) {
        struct pro_handle *near = world_unix(w, &far[i]);
        recv[i] = world_record(w);
        recv[i]->drop = true;
        poll[i] = world_record(w);
        pro_recv_multi(near, record_begin(recv[i]), pool, PRO_UNLIMITED, on_record);
        pro_poll_multi(near, record_begin(poll[i]), POLLIN, on_record);
    }
    world_turns(w, 3);
    for (unsigned round = 1; round <= 10; round++) {
        for (unsigned i = 0; i < MANY; i++)
            write_all(far[i], "abc", 3);
        for (unsigned i = 0; i < MANY; i++)
            RUN_UNTIL(w, recv[i]->bytes == 3 * round);
    }
    struct pro_stats stats;
    pro_loop_stats(w->loop, &stats, sizeof stats);
    assert_true(stats.overflows > 0 || !world_is_uring(w)); /* else it was not tested */
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(recv[i]->finals, 0);
        assert_int_equal(poll[i]->finals, 0);
        assert_true(poll[i]->completions > 0 || world_is_sim(w)); /* where the receive may always come first */
        pro_cancel(&poll[i]->op);
        pro_cancel(&recv[i]->op);
    }
    for (unsigned i = 0; i < MANY; i++)
        RUN_UNTIL(w, recv[i]->finals == 1 && poll[i]->finals == 1);
}

/* It is made by interrupts here, and not by the loop's own call, and many turns pass before the kernel can make room. */
static void overflow_when_many_turns_see_it_is_counted_once(void **state)
{
    struct world *w = *state;
    struct record *r[MANY];
    struct pro_stats stats;
    int far[MANY];
    w->config.entries = 4;
    w->config.completion_entries = 64;
    w->config.turn_completions = 2;
    w->config.features_off = PRO_FEATURE_DEFER_TASKRUN;
    world_open(w);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_poll_multi(world_unix(w, &far[i]), record_begin(r[i]), POLLIN, on_record);
    }
    world_turns(w, MANY);
    for (unsigned i = 0; i < MANY; i++)
        write_all(far[i], "x", 1);
    for (unsigned i = 0; i < MANY; i++)
        RUN_UNTIL(w, r[i]->completions > 0);
    pro_loop_stats(w->loop, &stats, sizeof stats);
    assert_in_range(stats.overflows, world_is_uring(w) ? 1 : 0, world_is_uring(w) ? MANY / 64 : 0);
}

static void discard(struct record *r, struct pro_result result)
{
    if (result.res >= 0)
        pro_discard(r->world->loop, result.res);
}

static void queues_when_tiny_accept_everyone(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    tiny(w);
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w);
    r->then = discard;
    pro_accept_multi(listener, record_begin(r), on_record);
    for (unsigned round = 1; round <= 5; round++) {
        int far[MANY];
        for (unsigned i = 0; i < MANY; i++)
            far[i] = tcp_connect(&at, length);
        RUN_UNTIL(w, r->completions == round * MANY);
        for (unsigned i = 0; i < MANY; i++)
            close(far[i]);
    }
    assert_int_equal(r->finals, 0);
}

static void queues_when_tiny_are_pulled_down(void **state)
{
    struct world *w = *state;
    struct record *r[MANY];
    int far;
    tiny(w);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_recv(world_unix(w, &far), record_begin(r[i]), world_alloc(w, 8), 8, 0, on_record);
        if (i % 2)
            pro_timer(w->loop, record_begin(world_record(w)), PRO_NEVER, on_record);
    }
    world_turns(w, 1);
    world_shut(w);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(r[i]->finals, 1);
}

/* Two buffers for ten connections that send at once. */
static void pool_of_two_serves_ten(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    struct record *r[10];
    int far[10];
    config.buffer_size = 1024;
    config.max_buffers = config.slab_buffers = 2;
    struct pro_pool *pool = world_pool(w, &config);
    for (unsigned i = 0; i < 10; i++) {
        r[i] = world_record(w);
        pro_recv_multi(world_tcp(w, &far[i]), record_begin(r[i]), pool, PRO_UNLIMITED, on_record);
    }
    for (unsigned round = 1; round <= 50; round++) {
        static char data[3000];
        for (unsigned i = 0; i < 10; i++)
            write_all(far[i], data, sizeof data);
        unsigned missing = 1;
        for (unsigned turns = 0; missing; turns++) {
            assert_true(turns < 10000);
            world_turns(w, 1);
            missing = 0;
            for (unsigned i = 0; i < 10; i++) {
                record_drop(r[i]);
                missing += r[i]->bytes < round * sizeof data;
            }
        }
    }
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(r[i]->finals, 0);
}

/* Neither queue of a turn starves the other. */
static void turn_when_without_end_or_minimal_serves_both_queues(void **state)
{
    static const uint32_t turns[] = {1, 2, UINT32_MAX - 1, UINT32_MAX};
    struct world *w = *state;
    for (unsigned i = 0; i < sizeof turns / sizeof *turns; i++) {
        w->config.turn_completions = turns[i];
        world_open(w);
        smoke(w);
        struct record *r = world_record(w);
        pro_timer_after(w->loop, record_begin(r), 1, on_record);
        RUN_UNTIL(w, r->finals == 1);
        world_shut(w);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Choosing, and choosing wrongly
 * ------------------------------------------------------------------------------------------------------------ */

static void assert_refused(struct world *w, const struct pro_config *config)
{
    struct pro_loop *loop = (struct pro_loop *)w;
    assert_int_equal(pro_loop_new(config, &loop), -EINVAL);
    assert_ptr_equal(loop, w); /* untouched */
    assert_int_equal(w->ledger.count, 0);
}

static void config_that_makes_no_sense_is_refused(void **state)
{
    struct world *w = *state;
    struct pro_config config = w->config;
    config.size = 0;
    assert_refused(w, &config);
    config = w->config;
    config.backend = (enum pro_backend_kind)77;
    assert_refused(w, &config);
    config = w->config;
    config.entries = 3;
    assert_refused(w, &config);
    config.entries = UINT32_MAX;
    assert_refused(w, &config);
    config = w->config;
    config.allocator.free = NULL;
    assert_refused(w, &config);
    config = w->config;
    config.allocator.alloc = NULL;
    assert_refused(w, &config);
}

/* What a loop gets. It is made and run on the kernel, even by a test in a simulated world. */
static enum pro_backend_kind chosen(const struct pro_config *config)
{
    struct pro_loop *loop;
    struct pro_sim *sim = harness_set_sim(NULL);
    assert_int_equal(pro_loop_new(config, &loop), 0);
    assert_int_equal(pro_run(loop, PRO_RUN_DEFAULT), 0);
    enum pro_backend_kind kind = pro_loop_backend(loop);
    pro_loop_free(loop);
    harness_set_sim(sim);
    return kind;
}

static void loop_without_a_config_has_the_defaults(void **state)
{
    (void)state;
    assert_in_range(chosen(NULL), PRO_BACKEND_IO_URING, PRO_BACKEND_EPOLL);
}

/* Programs that were built before `sim` came, and before the ways to wait. */
static void config_when_older_is_taken(void **state)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct world *w = *state;
    config.backend = PRO_BACKEND_EPOLL;
    config.size = offsetof(struct pro_config, sim);
    config.sim = (struct pro_sim *)&config; /* behind its end */
    assert_int_equal(chosen(&config), PRO_BACKEND_EPOLL);
    w->config.size = offsetof(struct pro_config, spin_us);
    w->config.min_wait_us = 100; /* behind it */
    world_open(w);
    assert_null(strstr(pro_loop_describe(w->loop), "min_wait"));
}

/* The environment overrules AUTO, and nothing else. */
static void environment_overrules_auto_only(void **state)
{
    struct world *w = *state;
    struct pro_config named = w->config, automatic = w->config;
    char *before = getenv("PROACTOR_BACKEND") ? strdup(getenv("PROACTOR_BACKEND")) : NULL;
    automatic.backend = PRO_BACKEND_AUTO;
    automatic.sim = NULL;
    setenv("PROACTOR_BACKEND", "epoll", 1);
    assert_int_equal(chosen(&automatic), PRO_BACKEND_EPOLL);
    assert_int_equal(chosen(NULL), PRO_BACKEND_EPOLL);
    if (named.backend != PRO_BACKEND_AUTO)
        assert_int_equal(chosen(&named), named.backend);
    if (named.backend == PRO_BACKEND_IO_URING) {
        setenv("PROACTOR_BACKEND", "io_uring", 1);
        assert_int_equal(chosen(&automatic), PRO_BACKEND_IO_URING);
        named.backend = PRO_BACKEND_EPOLL;
        assert_int_equal(chosen(&named), PRO_BACKEND_EPOLL);
    }
    if (before)
        setenv("PROACTOR_BACKEND", before, 1);
    else
        unsetenv("PROACTOR_BACKEND");
    free(before);
}

static void version_is_that_of_the_header(void **state)
{
    assert_int_equal(pro_version(), PRO_VERSION);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(every_feature_alone_can_be_missing),
        TEST_BARE(all_features_can_be_missing),
        TEST_BARE(ways_to_wait_can_be_asked_for),
        TEST(describe_names_the_backend_and_its_features),
        TEST_BARE(queues_when_tiny_serve_every_operation),
        TEST_BARE(queues_when_tiny_complete_everything),
        TEST_BARE(queues_when_tiny_lose_no_completion),
        TEST_BARE(overflow_when_many_turns_see_it_is_counted_once),
        TEST_BARE(queues_when_tiny_accept_everyone),
        TEST_BARE(queues_when_tiny_are_pulled_down),
        TEST_BARE(turn_when_without_end_or_minimal_serves_both_queues),
        TEST(pool_of_two_serves_ten),
        TEST_BARE(config_that_makes_no_sense_is_refused),
        TEST_BARE(loop_without_a_config_has_the_defaults),
        TEST_BARE(config_when_older_is_taken),
        TEST_BARE(environment_overrules_auto_only),
        TEST_BARE(version_is_that_of_the_header),
    };
    return RUN(tests);
}
