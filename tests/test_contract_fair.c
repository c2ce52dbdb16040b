/* SPDX-License-Identifier: MIT
 *
 * Clause 12: a turn is bounded, and nothing starves anything else. "Soon" is counted in turns. */
#include "harness.h"

#include <string.h>
#include <unistd.h>

enum { SOON = 20 };

/* Something that is always ready, and the handle, timer or poster behind it. */
static void again(struct record *r, struct pro_result result)
{
    if (result.flags & PRO_MORE)
        return;
    void (*start)(struct record *) = (void (*)(struct record *))(uintptr_t)r->context;
    start(r);
}

static void start_due_timer(struct record *r)
{
    pro_timer(r->world->loop, record_begin(r), 0, on_record);
}

static struct pro_remote *fair_remote;

static void start_post(struct record *r)
{
    pro_post(fair_remote, record_begin(r), on_record);
}

static struct record *busy(struct world *w, void (*start)(struct record *))
{
    struct record *r = world_record(w);
    r->then = again;
    r->context = (void *)(uintptr_t)start;
    start(r);
    return r;
}

/* A connection that is flooded in every turn. */
struct flood {
    struct record *r;
    int far;
};

static struct flood flood_new(struct world *w, struct pro_pool *pool)
{
    struct flood f = {.r = world_record(w)};
    f.r->drop = true;
    pro_recv_multi(world_tcp(w, &f.far), record_begin(f.r), pool, PRO_UNLIMITED, on_record);
    return f;
}

static void flood_more(const struct flood *f)
{
    static char data[65536];
    while (write(f->far, data, sizeof data) > 0)
        continue;
}

/* Turns until `r` has completed so often; not more than SOON of them. */
static void soon(struct world *w, const struct record *r, unsigned completions, const struct flood *f)
{
    unsigned turns = 0;
    while (r->completions < completions) {
        assert_true(++turns <= SOON);
        if (f)
            flood_more(f);
        world_turns(w, 1);
    }
}

/* A receive, a post, a timer and an accept are served in time, whatever `f` and the others do. */
static void everyone_is_served(struct world *w, const struct flood *f)
{
    struct sockaddr_storage at;
    socklen_t length;
    char data[4];
    int far;
    struct pro_handle *near = world_tcp(w, &far), *listener = world_listen(w, &at, &length);
    struct record *recv = world_record(w), *post = world_record(w), *timer = world_record(w);
    struct record *accept = world_record(w);
    for (unsigned i = 1; i <= 20; i++) {
        write_all(far, "x", 1);
        pro_recv(near, record_begin(recv), data, sizeof data, 0, on_record);
        pro_timer(w->loop, record_begin(timer), 0, on_record);
        pro_post(fair_remote, record_begin(post), on_record);
        pro_accept(listener, record_begin(accept), on_record);
        int client = tcp_connect(&at, length);
        soon(w, recv, i, f);
        soon(w, timer, i, f);
        soon(w, post, i, f);
        soon(w, accept, i, f);
        pro_discard(w->loop, accept->last.res);
        close(client);
    }
}

static void c12_flooded_connection_does_not_starve_others(void **state)
{
    struct world *w = *state;
    fair_remote = pro_remote_get(w->loop);
    struct flood f = flood_new(w, world_pool(w, NULL));
    everyone_is_served(w, &f);
    assert_true(f.r->bytes > 200000); /* it was busy all the time */
    pro_remote_unref(fair_remote);
}

static void c12_timer_that_is_always_due_does_not_starve_others(void **state)
{
    struct world *w = *state;
    fair_remote = pro_remote_get(w->loop);
    struct record *timer = busy(w, start_due_timer);
    everyone_is_served(w, NULL);
    timer->then = NULL;
    pro_remote_unref(fair_remote);
}

static void c12_poster_that_always_posts_does_not_starve_others(void **state)
{
    struct world *w = *state;
    fair_remote = pro_remote_get(w->loop);
    struct record *posts[4];
    for (unsigned i = 0; i < 4; i++)
        posts[i] = busy(w, start_post);
    everyone_is_served(w, NULL);
    for (unsigned i = 0; i < 4; i++)
        posts[i]->then = NULL;
    world_turns(w, 2);
    pro_remote_unref(fair_remote);
}

/* More is always due than a turn may run. */
static void c12_everything_at_once_starves_nobody(void **state)
{
    struct world *w = *state;
    w->config.turn_completions = 8;
    w->config.turn_bytes = 65536;
    world_open(w);
    fair_remote = pro_remote_get(w->loop);
    struct record *timers[4], *posts[4];
    struct flood f = flood_new(w, world_pool(w, NULL));
    for (unsigned i = 0; i < 4; i++) {
        timers[i] = busy(w, start_due_timer);
        posts[i] = busy(w, start_post);
    }
    everyone_is_served(w, &f);
    for (unsigned i = 0; i < 4; i++)
        timers[i]->then = posts[i]->then = NULL;
    world_turns(w, 10);
    pro_remote_unref(fair_remote);
}

static unsigned ran;

static void count_run(struct record *r, struct pro_result result)
{
    (void)r, (void)result;
    ran++;
}

static void c12_turn_runs_no_more_continuations_than_configured(void **state)
{
    struct world *w = *state;
    enum { MANY = 500, MOST = 16 };
    struct record *r[MANY];
    w->config.turn_completions = MOST;
    world_open(w);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        r[i]->then = count_run;
        pro_timer(w->loop, record_begin(r[i]), 1, on_record);
    }
    unsigned total = ran = 0, turns = 0;
    while (total < MANY) {
        ran = 0;
        assert_true(world_run(w, PRO_RUN_NOWAIT) >= 0);
        assert_true(ran <= MOST);
        total += ran;
        assert_true(++turns < MANY);
    }
}

/* The same with completions that the kernel brings. */
static void c12_turn_runs_no_more_receives_than_configured(void **state)
{
    struct world *w = *state;
    enum { MANY = 200, MOST = 10 };
    struct record *r[MANY];
    char *data = world_alloc(w, MANY);
    w->config.turn_completions = MOST;
    world_open(w);
    for (unsigned i = 0; i < MANY; i++) {
        int far;
        r[i] = world_record(w);
        r[i]->then = count_run;
        pro_recv(world_unix(w, &far), record_begin(r[i]), data + i, 1, 0, on_record);
        write_all(far, "x", 1);
    }
    for (unsigned total = 0, turns = 0; total < MANY; total += ran) {
        ran = 0;
        assert_true(world_run(w, PRO_RUN_NOWAIT) >= 0);
        assert_true(ran <= MOST);
        assert_true(++turns < 10 * MANY);
    }
}

/* A turn ends when so many bytes were received: at most one piece goes beyond. */
static void c12_turn_ends_after_the_bytes_configured(void **state)
{
    struct world *w = *state;
    enum { BUFFER = 4096, TURN = 16384 };
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = BUFFER;
    config.quota_buffers = 256;
    w->config.turn_bytes = TURN;
    world_open(w);
    struct pro_pool *pool = world_pool(w, &config);
    struct flood f[3];
    for (unsigned i = 0; i < 3; i++)
        f[i] = flood_new(w, pool);
    uint64_t before = 0, most = 0;
    for (unsigned turns = 0; turns < 100; turns++) {
        for (unsigned i = 0; i < 3; i++)
            flood_more(&f[i]);
        world_turns(w, 1);
        uint64_t now = f[0].r->bytes + f[1].r->bytes + f[2].r->bytes;
        assert_true(now - before <= TURN + BUFFER);
        most = now - before > most ? now - before : most;
        before = now;
    }
    assert_true(most > 0);
    for (unsigned i = 0; i < 3; i++) /* none of them was starved by the others */
        assert_true(f[i].r->bytes > before / 10);
}

/* "Runs the completions that were there when it began": what a continuation starts is not run in the same turn. */
static void note_turn(struct record *r, struct pro_result result)
{
    (void)result;
    struct pro_stats stats;
    pro_loop_stats(r->world->loop, &stats, sizeof stats);
    *(uint64_t *)r->context = stats.turns;
}

struct pair {
    struct record *next;
    uint64_t turn;
    void (*start)(struct record *);
};

static void start_next(struct record *r, struct pro_result result)
{
    (void)result;
    struct pair *pair = r->context;
    struct pro_stats stats;
    pro_loop_stats(r->world->loop, &stats, sizeof stats);
    pair->turn = stats.turns;
    pair->start(pair->next);
}

static void c12_what_a_continuation_starts_runs_in_a_later_turn(void **state)
{
    struct world *w = *state;
    static void (*const starts[])(struct record *) = {start_due_timer, start_post};
    fair_remote = pro_remote_get(w->loop);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t turn = 0;
        struct record *first = world_record(w), *next = world_record(w);
        struct pair *pair = world_alloc(w, 2 * sizeof *pair);
        *pair = (struct pair){next, 0, starts[i / 2]};
        first->then = start_next;
        first->context = pair;
        next->then = note_turn;
        next->context = &turn;
        starts[i % 2](first);
        RUN_UNTIL(w, next->finals == 1);
        assert_true(turn > pair->turn);
    }
    pro_remote_unref(fair_remote);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c12_flooded_connection_does_not_starve_others),
        TEST(c12_timer_that_is_always_due_does_not_starve_others),
        TEST(c12_poster_that_always_posts_does_not_starve_others),
        TEST_BARE(c12_everything_at_once_starves_nobody),
        TEST_BARE(c12_turn_runs_no_more_continuations_than_configured),
        TEST_BARE(c12_turn_runs_no_more_receives_than_configured),
        TEST_BARE(c12_turn_ends_after_the_bytes_configured),
        TEST(c12_what_a_continuation_starts_runs_in_a_later_turn),
    };
    return RUN(tests);
}
