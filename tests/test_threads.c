/* SPDX-License-Identifier: MIT
 *
 * Clause 11 with threads: posts by the million, first in, first out for each poster; posts against the end of the
 * loop; wakes. Run under TSAN as well. Nothing is asserted off the main thread: results are counted. */
#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { POSTERS = 4, WINDOW = 256 };

/* ------------------------------------------------------------------------------------------------------------
 * A storm
 * ------------------------------------------------------------------------------------------------------------ */

struct letter {
    struct pro_op op;
    struct poster *poster;
    atomic_bool free; /* its final has run */
    uint64_t number;
};

struct poster {
    pthread_t thread;
    struct pro_remote *remote;
    struct letter letters[WINDOW];
    uint64_t count;    /* to be posted */
    uint64_t posted;   /* by the thread */
    uint64_t failed;   /* of those, unasked for */
    uint64_t expected; /* by the loop: the next number */
    uint64_t run, cancelled, misplaced, strange;
    bool until_shutdown;
    uint64_t refused;
};

static void on_letter(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct letter *letter = PRO_CONTAINER_OF(op, struct letter, op);
    struct poster *poster = letter->poster;
    poster->misplaced += letter->number != poster->expected;
    poster->expected = letter->number + 1;
    poster->run += result.res == 0;
    poster->cancelled += result.res == -ECANCELED;
    poster->strange += (result.res != 0 && result.res != -ECANCELED) || result.flags;
    atomic_store_explicit(&letter->free, true, memory_order_release);
}

static void *post_letters(void *context)
{
    struct poster *poster = context;
    for (uint64_t i = 0; i < poster->count; i++) {
        struct letter *letter = &poster->letters[i % WINDOW];
        while (!atomic_load_explicit(&letter->free, memory_order_acquire))
            sched_yield();
        atomic_store_explicit(&letter->free, false, memory_order_relaxed);
        letter->number = i;
        int result = pro_post(poster->remote, &letter->op, on_letter);
        if (result == -ESHUTDOWN && poster->until_shutdown) {
            atomic_store_explicit(&letter->free, true, memory_order_relaxed);
            poster->refused++;
            break;
        }
        poster->failed += result != 0;
        poster->posted++;
    }
    pro_remote_unref(poster->remote);
    return NULL;
}

static void poster_start(struct poster *poster, struct pro_remote *remote, uint64_t count)
{
    memset(poster, 0, sizeof *poster);
    poster->remote = pro_remote_ref(remote);
    poster->count = count;
    for (unsigned i = 0; i < WINDOW; i++) {
        poster->letters[i].poster = poster;
        atomic_init(&poster->letters[i].free, true);
    }
}

static void c11_posts_of_many_threads_all_arrive_in_the_order_of_each(void **state)
{
    struct world *w = *state;
    struct poster *posters = world_alloc(w, POSTERS * sizeof *posters);
    struct pro_remote *remote = pro_remote_get(w->loop);
    uint64_t each = stress(1000000) / POSTERS + 1, arrived = 0;
    for (unsigned i = 0; i < POSTERS; i++)
        poster_start(&posters[i], remote, each);
    struct record *never = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_letters, &posters[i]), 0);
    while (arrived < POSTERS * each) {
        assert_int_equal(world_run(w, PRO_RUN_ONCE), 1);
        arrived = 0;
        for (unsigned i = 0; i < POSTERS; i++)
            arrived += posters[i].run;
        world_alive();
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(posters[i].posted, each);
        assert_int_equal(posters[i].run, each);
        assert_int_equal(posters[i].misplaced, 0);
        assert_int_equal(posters[i].failed + posters[i].strange + posters[i].cancelled, 0);
    }
    pro_remote_unref(remote);
}

/* Pauses of every length between posts: the loop runs, looks once more, falls asleep, sleeps. */
static void *post_unevenly(void *context)
{
    struct poster *poster = context;
    uint64_t seed = 3, pause = 0;
    for (uint64_t i = 0; i < poster->count; i++) {
        struct letter *letter = &poster->letters[i % WINDOW];
        while (!atomic_load_explicit(&letter->free, memory_order_acquire))
            sched_yield();
        if (i % 64 == 0) /* of one magnitude for a while, for what adapts to it */
            pause = UINT64_C(1) << i / 64 % 14;
        seed = seed * UINT64_C(6364136223846793005) + 1;
        for (volatile uint64_t left = (seed >> 40) % pause; left > 0;)
            left = left - 1;
        atomic_store_explicit(&letter->free, false, memory_order_relaxed);
        letter->number = i;
        poster->failed += pro_post(poster->remote, &letter->op, on_letter) != 0;
        poster->posted++;
    }
    pro_remote_unref(poster->remote);
    return NULL;
}

static void c11_posts_when_they_come_at_any_distance_are_never_slept_through(void **state)
{
    struct world *w = *state;
    struct poster *poster = world_alloc(w, sizeof *poster);
    struct pro_remote *remote = pro_remote_get(w->loop);
    struct record *never = world_record(w);
    poster_start(poster, remote, stress(50000));
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    assert_int_equal(pthread_create(&poster->thread, NULL, post_unevenly, poster), 0);
    while (poster->run < poster->count) {
        assert_int_equal(world_run(w, PRO_RUN_ONCE), 1); /* blocks for ever if one is lost: the guard strikes */
        world_alive();
    }
    pthread_join(poster->thread, NULL);
    assert_int_equal(poster->misplaced + poster->failed + poster->strange + poster->cancelled, 0);
    pro_remote_unref(remote);
}

/* However many were posted, a loop that has nothing more to do sleeps. */
static void c11_loop_when_posts_have_run_sleeps(void **state)
{
    struct world *w = *state;
    struct poster *poster = world_alloc(w, sizeof *poster);
    struct pro_remote *remote = pro_remote_get(w->loop);
    for (unsigned round = 0; round < 4; round++) {
        struct record *timer = world_record(w);
        struct pro_stats before, after;
        poster_start(poster, remote, WINDOW);
        assert_int_equal(pthread_create(&poster->thread, NULL, post_letters, poster), 0);
        pthread_join(poster->thread, NULL);
        pro_timer_after(w->loop, record_begin(timer), 20000000, on_record);
        pro_loop_stats(w->loop, &before, sizeof before);
        assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
        pro_loop_stats(w->loop, &after, sizeof after);
        assert_int_equal(poster->run, WINDOW);
        assert_int_equal(timer->finals, 1);
        assert_true(after.turns - before.turns < 100);
        assert_int_equal(after.started - before.started, WINDOW);
        assert_int_equal(after.in_flight, 0);
    }
    pro_remote_unref(remote);
}

/* ------------------------------------------------------------------------------------------------------------
 * Posts against the end of the loop
 * ------------------------------------------------------------------------------------------------------------ */

/* Whatever was accepted has run or was cancelled, once; the first refusal is the end. */
static void post_until_shutdown(struct world *w, unsigned turns, bool drop_first)
{
    struct poster *posters = world_alloc(w, POSTERS * sizeof *posters);
    struct pro_remote *remote = pro_remote_get(w->loop);
    for (unsigned i = 0; i < POSTERS; i++) {
        poster_start(&posters[i], remote, UINT64_MAX);
        posters[i].until_shutdown = true;
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_letters, &posters[i]), 0);
    }
    if (drop_first)
        pro_remote_unref(remote);
    world_turns(w, turns);
    world_shut(w);
    for (unsigned i = 0; i < POSTERS; i++) {
        struct poster *p = &posters[i];
        pthread_join(p->thread, NULL);
        assert_int_equal(p->refused, 1);
        assert_int_equal(p->run + p->cancelled, p->posted);
        assert_int_equal(p->misplaced + p->failed + p->strange, 0);
        for (unsigned n = 0; n < WINDOW; n++)
            assert_false(pro_op_in_flight(&p->letters[n].op));
    }
    if (!drop_first)
        pro_remote_unref(remote);
    assert_int_equal(w->ledger.count, 0); /* the last reference took the mailbox with it */
    world_open(w);
}

static void c11_posts_when_the_loop_is_freed_run_or_are_cancelled_or_refused(void **state)
{
    struct world *w = *state;
    unsigned rounds = (unsigned)stress(300);
    for (unsigned i = 0; i < rounds; i++)
        post_until_shutdown(w, i % 7, i % 2);
}

/* ------------------------------------------------------------------------------------------------------------
 * Wakes
 * ------------------------------------------------------------------------------------------------------------ */

struct waker {
    pthread_t thread;
    struct pro_remote *remote;
    uint64_t wakes;
    struct pro_op op; /* posted after the last */
    atomic_bool done;
};

static void on_waker_done(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    atomic_store(&PRO_CONTAINER_OF(op, struct waker, op)->done, true);
}

static void *wake_often(void *context)
{
    struct waker *waker = context;
    for (uint64_t i = 0; i < waker->wakes; i++)
        pro_wake(waker->remote);
    pro_post(waker->remote, &waker->op, on_waker_done);
    return NULL;
}

static void c11_wakes_of_many_threads_reach_the_loop(void **state)
{
    struct world *w = *state;
    struct waker *wakers = world_alloc(w, POSTERS * sizeof *wakers);
    struct pro_remote *remote = pro_remote_get(w->loop);
    struct record *never = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    for (unsigned i = 0; i < POSTERS; i++) {
        wakers[i].remote = remote;
        wakers[i].wakes = stress(100000);
        assert_int_equal(pthread_create(&wakers[i].thread, NULL, wake_often, &wakers[i]), 0);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        RUN_UNTIL(w, atomic_load(&wakers[i].done));
        pthread_join(wakers[i].thread, NULL);
    }
    assert_int_equal(never->completions, 0);
    pro_remote_unref(remote);
}

/* A thousand wakes are one turn: the next run sleeps until something happens. */
static void c11_wakes_before_a_run_are_one(void **state)
{
    struct world *w = *state;
    struct pro_remote *remote = pro_remote_get(w->loop);
    struct record *timer = world_record(w);
    for (unsigned i = 0; i < 1000; i++)
        pro_wake(remote);
    pro_timer_after(w->loop, record_begin(timer), 20000000, on_record);
    assert_int_equal(world_run(w, PRO_RUN_ONCE), 1);
    assert_int_equal(timer->finals, 0);
    struct pro_stats before, after;
    pro_loop_stats(w->loop, &before, sizeof before);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    pro_loop_stats(w->loop, &after, sizeof after);
    assert_int_equal(timer->finals, 1);
    assert_true(after.turns - before.turns < 100);
    pro_remote_unref(remote);
}

/* Every wake counts: each of them ends a run of one turn that may already be asleep. */
struct player {
    pthread_t thread;
    struct pro_remote *remote;
    atomic_uint asked, stop;
};

static void *wake_when_asked(void *context)
{
    struct player *player = context;
    unsigned answered = 0;
    while (!atomic_load(&player->stop)) {
        unsigned asked = atomic_load(&player->asked);
        if (asked != answered)
            pro_wake(player->remote);
        else
            sched_yield();
        answered = asked;
    }
    return NULL;
}

static void c11_wake_is_never_slept_through(void **state)
{
    struct world *w = *state;
    struct player player = {.remote = pro_remote_get(w->loop)};
    struct record *never = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    assert_int_equal(pthread_create(&player.thread, NULL, wake_when_asked, &player), 0);
    for (unsigned long i = stress(50000); i > 0; i--) {
        atomic_fetch_add(&player.asked, 1);
        assert_int_equal(world_run(w, PRO_RUN_ONCE), 1); /* blocks for ever if it is lost: the guard strikes */
        world_alive();
    }
    atomic_store(&player.stop, 1);
    pthread_join(player.thread, NULL);
    pro_remote_unref(player.remote);
}

/* ------------------------------------------------------------------------------------------------------------
 * Two loops on two threads hand one operation to and fro
 * ------------------------------------------------------------------------------------------------------------ */

struct tennis {
    struct pro_remote *remote[2];
    struct pro_op ball;
    struct pro_op never;
    struct pro_loop *other;
    unsigned long strokes, played;
    unsigned side;
};

static void on_ball(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct tennis *t = PRO_CONTAINER_OF(op, struct tennis, ball);
    t->played++;
    t->side = !t->side;
    if (t->played < t->strokes)
        pro_post(t->remote[t->side], op, on_ball);
    else
        pro_stop(loop);
}

static void on_never(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
}

static void on_end(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    pro_stop(loop);
}

static void *play(void *context)
{
    struct tennis *t = context;
    pro_timer(t->other, &t->never, PRO_NEVER, on_never);
    pro_run(t->other, PRO_RUN_DEFAULT);
    pro_loop_free(t->other);
    return NULL;
}

static void c11_operation_when_posted_to_and_fro_visits_both_loops(void **state)
{
    struct world *w = *state;
    struct tennis *t = world_alloc(w, sizeof *t);
    struct record *never = world_record(w);
    struct pro_op *end = world_alloc(w, sizeof *end);
    pthread_t thread;
    t->strokes = stress(100000) & ~1ul;
    t->strokes = t->strokes ? t->strokes : 2;
    assert_int_equal(pro_loop_new(&w->config, &t->other), 0);
    t->remote[0] = pro_remote_get(w->loop);
    t->remote[1] = pro_remote_get(t->other);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    assert_int_equal(pthread_create(&thread, NULL, play, t), 0);
    t->side = 1;
    assert_int_equal(pro_post(t->remote[1], &t->ball, on_ball), 0);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 1); /* the last stroke is played here: their number is even */
    assert_int_equal(pro_post(t->remote[1], end, on_end), 0);
    pthread_join(thread, NULL);
    assert_int_equal(t->played, t->strokes);
    pro_remote_unref(t->remote[0]);
    pro_remote_unref(t->remote[1]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c11_posts_of_many_threads_all_arrive_in_the_order_of_each),
        TEST(c11_posts_when_they_come_at_any_distance_are_never_slept_through),
        TEST(c11_loop_when_posts_have_run_sleeps),
        TEST(c11_posts_when_the_loop_is_freed_run_or_are_cancelled_or_refused),
        TEST(c11_wakes_of_many_threads_reach_the_loop),
        TEST(c11_wakes_before_a_run_are_one),
        TEST(c11_wake_is_never_slept_through),
        TEST(c11_operation_when_posted_to_and_fro_visits_both_loops),
    };
    return RUN(tests);
}
