/* SPDX-License-Identifier: MIT
 *
 * pro_run, time and timers; clause 11 as far as one thread can show it; clause 12, fairness. */
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MS_NS   UINT64_C(1000000)
#define HOUR_NS (3600 * 1000 * MS_NS)

/* ------------------------------------------------------------------------------------------------------------
 * pro_run and what it returns
 * ------------------------------------------------------------------------------------------------------------ */

static void run_when_nothing_is_in_flight_returns_zero(void **state)
{
    struct world *w = *state;
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    assert_int_equal(world_run(w, PRO_RUN_NOWAIT), 0);
}

static void run_returns_when_the_last_operation_has_ended(void **state)
{
    struct world *w = *state;
    struct record *a = world_record(w), *b = world_record(w);
    pro_timer_after(w->loop, record_begin(a), MS_NS, on_record);
    pro_timer_after(w->loop, record_begin(b), 2 * MS_NS, on_record);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    assert_int_equal(a->finals + b->finals, 2);
}

static void run_of_one_turn_says_whether_more_is_in_flight(void **state)
{
    struct world *w = *state;
    struct record *a = world_record(w), *b = world_record(w);
    pro_timer(w->loop, record_begin(a), PRO_NEVER, on_record);
    assert_int_equal(world_run(w, PRO_RUN_NOWAIT), 1);
    pro_timer(w->loop, record_begin(b), 0, on_record);
    assert_int_equal(world_run(w, PRO_RUN_ONCE), 1);
    assert_int_equal(b->finals, 1);
    pro_cancel(&a->op);
    assert_int_equal(world_run(w, PRO_RUN_ONCE), 0);
    assert_int_equal(a->finals, 1);
}

static void background_operations_do_not_keep_the_run(void **state)
{
    struct world *w = *state;
    int far;
    char data[4];
    struct pro_handle *near = world_tcp(w, &far);
    struct record *before = world_record(w), *during = world_record(w), *front = world_record(w);
    pro_op_background(&before->op);
    pro_timer(w->loop, record_begin(before), PRO_NEVER, on_record);
    pro_recv(near, record_begin(during), data, sizeof data, 0, on_record);
    assert_int_equal(world_run(w, PRO_RUN_NOWAIT), 1);
    pro_op_background(&during->op);
    pro_op_background(&during->op);
    assert_int_equal(world_run(w, PRO_RUN_NOWAIT), 0);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    pro_timer_after(w->loop, record_begin(front), MS_NS, on_record);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    assert_int_equal(front->finals, 1);
    assert_int_equal(before->finals + during->finals, 0);
    write_all(far, "abc", 3); /* they work as others do while something keeps the run */
    pro_timer(w->loop, record_begin(front), PRO_NEVER, on_record);
    RUN_UNTIL(w, during->finals == 1);
    /* "From now to its final completion": the next flight is an ordinary one. */
    pro_recv(near, record_begin(during), data, sizeof data, 0, on_record);
    pro_cancel(&front->op);
    RUN_UNTIL(w, front->finals == 2);
    assert_int_equal(world_run(w, PRO_RUN_NOWAIT), 1);
}

static void run_of_one_turn_when_only_background_is_in_flight_does_not_wait(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    assert_int_equal(world_run(w, PRO_RUN_ONCE), 0);
    pro_op_background(&r->op);
    pro_timer(w->loop, record_begin(r), PRO_NEVER, on_record);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(world_run(w, PRO_RUN_ONCE), 0); /* else the guard strikes */
    assert_int_equal(r->completions, 0);
}

static void stop_the_loop(struct record *r, struct pro_result result)
{
    (void)result;
    pro_stop(r->world->loop);
}

static void stop_inside_a_continuation_ends_the_run(void **state)
{
    struct world *w = *state;
    struct record *never = world_record(w), *r = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    r->then = stop_the_loop;
    for (unsigned i = 1; i <= 3; i++) {
        pro_timer(w->loop, record_begin(r), 0, on_record);
        assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 1);
        assert_int_equal(r->finals, i);
    }
    assert_int_equal(never->finals, 0);
}

static void stop_before_a_run_ends_the_next_after_its_turn(void **state)
{
    struct world *w = *state;
    struct record *never = world_record(w), *r = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    pro_timer(w->loop, record_begin(r), 0, on_record);
    pro_stop(w->loop);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 1);
    assert_int_equal(r->finals, 1); /* the turn was taken */
    r->then = stop_the_loop;        /* it held for one run only */
    pro_timer_after(w->loop, record_begin(r), MS_NS, on_record);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 1);
    assert_int_equal(r->finals, 2);
}

static void stats_when_the_caller_is_older_are_cut(void **state)
{
    struct world *w = *state;
    struct pro_stats stats;
    memset(&stats, 0x5a, sizeof stats);
    world_turns(w, 2);
    pro_loop_stats(w->loop, &stats, offsetof(struct pro_stats, started));
    assert_true(stats.turns >= 2 && stats.turns < 100);
    assert_int_equal(stats.started, 0x5a5a5a5a5a5a5a5a);
}

/* ------------------------------------------------------------------------------------------------------------
 * Time and timers
 * ------------------------------------------------------------------------------------------------------------ */

static uint64_t monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * MS_NS + (uint64_t)now.tv_nsec;
}

static void now_outside_a_run_is_the_monotonic_clock(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t before = monotonic(), now = pro_now(w->loop), after = monotonic();
        assert_true(before <= now && now <= after);
    }
}

static uint64_t time_seen[2];

static void note_time(struct record *r, struct pro_result result)
{
    (void)result;
    time_seen[r->context != NULL] = pro_now(r->world->loop);
    while (!world_is_sim(r->world) && monotonic() <= time_seen[0]) /* a simulated clock does not go on here */
        continue;
    assert_int_equal(pro_now(r->world->loop), time_seen[r->context != NULL]);
}

static void now_inside_a_turn_stands_still(void **state)
{
    struct world *w = *state;
    struct record *a = world_record(w), *b = world_record(w);
    a->then = b->then = note_time;
    b->context = b;
    pro_timer(w->loop, record_begin(a), 1, on_record);
    pro_timer(w->loop, record_begin(b), 2, on_record);
    RUN_UNTIL(w, b->finals == 1);
    assert_true(time_seen[0] > 0);
    assert_int_equal(time_seen[0], time_seen[1]);
}

static void timer_is_never_early(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 20; i++) {
        struct record *r = world_record(w);
        uint64_t at = pro_now(w->loop) + i * 100000 + 1;
        if (i % 2)
            pro_timer(w->loop, record_begin(r), at, on_record);
        else
            pro_timer_after(w->loop, record_begin(r), i * 100000 + 1, on_record);
        RUN_UNTIL(w, r->finals == 1);
        assert_true(monotonic() >= at);
        assert_int_equal(r->last.res, 0);
    }
}

/* In the order of their times, and in the order of their starts where those are equal. */
static void timers_run_in_the_order_of_their_times(void **state)
{
    struct world *w = *state;
    enum { MANY = 500 };
    struct record *r[MANY];
    uint64_t at[MANY], base = pro_now(w->loop) + MS_NS;
    uint32_t random = 99;
    for (unsigned i = 0; i < MANY; i++) {
        random = random * 1664525 + 1013904223;
        at[i] = i % 3 == 0 ? base : base + (random >> 8) % 50 * (i % 2 ? 1 : 100000);
        r[i] = world_record(w);
        pro_timer(w->loop, record_begin(r[i]), at[i], on_record);
    }
    for (unsigned i = 0; i < MANY; i++)
        RUN_UNTIL(w, r[i]->finals == 1);
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned n = 0; n < i; n++)
            assert_true((at[n] <= at[i]) == (r[n]->order < r[i]->order));
}

/* All are long due when the loop first looks. */
static void timers_when_all_are_due_keep_their_order(void **state)
{
    struct world *w = *state;
    enum { MANY = 300 };
    struct record *r[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_timer(w->loop, record_begin(r[i]), 1 + (i * 7) % 100, on_record);
    }
    for (unsigned i = 0; i < MANY; i++)
        RUN_UNTIL(w, r[i]->finals == 1);
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned n = 0; n < i; n++)
            assert_true(((n * 7) % 100 <= (i * 7) % 100) == (r[n]->order < r[i]->order));
}

static void timer_when_repeating_reports_until_cancelled(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    uint64_t first = pro_now(w->loop) + MS_NS;
    pro_timer_every(w->loop, record_begin(r), first, 100000, on_record);
    RUN_UNTIL(w, r->completions >= 10);
    uint64_t total = 0;
    for (unsigned i = 0; i < 10; i++) {
        assert_true(r->log[i].res >= 1);
        assert_int_equal(r->log[i].flags, PRO_MORE);
        total += (uint64_t)r->log[i].res;
    }
    assert_true(first + (total - 1) * 100000 <= monotonic());
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -ECANCELED);
}

/* A late loop gets one report with the number of times, not a burst. */
static void timer_when_the_loop_is_late_coalesces(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    uint64_t now = pro_now(w->loop);
    pro_timer_every(w->loop, record_begin(r), now - 1000 * MS_NS, 100 * MS_NS, on_record);
    RUN_UNTIL(w, r->completions == 1);
    assert_true(r->last.res >= 11);
    unsigned reports = r->completions;
    struct record *other = world_record(w);
    pro_timer(w->loop, record_begin(other), 0, on_record);
    RUN_UNTIL(w, other->finals == 1);
    assert_true(r->completions <= reports + 1);
    /* The rhythm is kept: the sum of all reports is the number of periods that have passed. */
    RUN_UNTIL(w, r->completions == reports + 2);
    uint64_t total = 0;
    for (unsigned i = 0; i < r->completions; i++)
        total += (uint64_t)r->log[i].res;
    assert_true(now - 1000 * MS_NS + (total - 1) * 100 * MS_NS <= monotonic());
}

static void timers_when_very_many_all_fire(void **state)
{
    struct world *w = *state;
    enum { MANY = 100000 };
    struct record *r = world_alloc(w, MANY * sizeof *r);
    uint64_t base = pro_now(w->loop);
    for (unsigned i = 0; i < MANY; i++) {
        r[i].world = w;
        pro_timer(w->loop, record_begin(&r[i]), i % 10 ? base + i * 97 % 20000000 : base + HOUR_NS + i, on_record);
    }
    for (unsigned i = 0; i < MANY; i++)
        if (i % 10 == 0)
            pro_cancel(&r[i].op);
    for (unsigned i = 0; i < MANY; i++) {
        RUN_UNTIL(w, r[i].finals == 1);
        assert_int_equal(r[i].last.res, i % 10 ? 0 : -ECANCELED);
    }
}

static void timer_at_never_keeps_the_loop_and_can_be_cancelled(void **state)
{
    struct world *w = *state;
    struct record *a = world_record(w), *b = world_record(w), *c = world_record(w);
    pro_timer(w->loop, record_begin(a), PRO_NEVER, on_record);
    pro_timer_after(w->loop, record_begin(b), PRO_NEVER, on_record);
    pro_timer_every(w->loop, record_begin(c), PRO_NEVER, PRO_NEVER, on_record);
    struct record *late[8]; /* and those that might as well be */
    for (unsigned i = 0; i < 8; i++) {
        late[i] = world_record(w);
        if (i % 2)
            pro_timer(w->loop, record_begin(late[i]), PRO_NEVER - (UINT64_C(1) << (7 * i)), on_record);
        else
            pro_timer_after(w->loop, record_begin(late[i]), PRO_NEVER - (UINT64_C(1) << (7 * i)), on_record);
        pro_deadline(&late[i]->op, PRO_NEVER - 1);
    }
    world_turns(w, 3);
    assert_int_equal(a->completions + b->completions + c->completions, 0);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(late[i]->completions, 0);
        pro_cancel(&late[i]->op);
    }
    pro_cancel(&a->op);
    pro_cancel(&b->op);
    pro_cancel(&c->op);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    assert_int_equal(a->finals + b->finals + c->finals, 3);
}

/* A deadline that comes after the timer changes nothing. */
static void timers_of_one_time_when_given_deadlines_keep_their_order(void **state)
{
    struct world *w = *state;
    struct record *r[4];
    uint64_t at = pro_now(w->loop) + 2000000;
    for (unsigned i = 0; i < 4; i++) {
        r[i] = world_record(w);
        pro_timer(w->loop, record_begin(r[i]), at, on_record);
    }
    pro_deadline(&r[1]->op, at + 1);
    pro_deadline(&r[0]->op, PRO_NEVER);
    pro_deadline(&r[0]->op, 0);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(r[i]->last.res, 0);
        assert_true(i == 0 || r[i]->order == r[i - 1]->order + 1);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * 11. The mailbox, on one thread
 * ------------------------------------------------------------------------------------------------------------ */

static void c11_posts_of_one_thread_arrive_in_order(void **state)
{
    struct world *w = *state;
    enum { MANY = 2000 };
    struct pro_remote *remote = pro_remote_get(w->loop);
    struct record *r[MANY];
    assert_non_null(remote);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        assert_int_equal(pro_post(remote, record_begin(r[i]), on_record), 0);
        assert_int_equal(r[i]->completions, 0);
        assert_true(pro_op_in_flight(&r[i]->op));
    }
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(r[i]->finals, 1);
        assert_int_equal(r[i]->last.res, 0);
        assert_true(i == 0 || r[i]->order > r[i - 1]->order);
    }
    pro_remote_unref(remote);
}

/* A cancel or a deadline does not lose a post; it runs, or it is cancelled, once. */
static void c11_post_when_cancelled_or_late_ends_once(void **state)
{
    struct world *w = *state;
    struct pro_remote *remote = pro_remote_get(w->loop);
    for (unsigned i = 0; i < 4; i++) {
        struct record *r = world_record(w);
        if (i % 2)
            pro_deadline(&r->op, 1);
        assert_int_equal(pro_post(remote, record_begin(r), on_record), 0);
        if (i / 2)
            pro_cancel(&r->op);
        RUN_UNTIL(w, r->finals == 1);
        assert_true(r->last.res == 0 || r->last.res == -ECANCELED || r->last.res == -ETIME);
        world_turns(w, 2);
    }
    pro_remote_unref(remote);
}

static void c11_post_after_the_loop_is_gone_says_shutdown(void **state)
{
    struct world *w = *state;
    struct pro_remote *remote = pro_remote_get(w->loop), *again = pro_remote_ref(remote);
    struct record *r = world_record(w), *pending = world_record(w);
    assert_ptr_equal(again, remote);
    assert_int_equal(pro_post(remote, record_begin(pending), on_record), 0);
    world_shut(w);
    assert_int_equal(pending->finals, 1); /* posted before, not yet run */
    assert_int_equal(pending->last.res, -ECANCELED);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pro_post(remote, &r->op, on_record), -ESHUTDOWN);
        assert_false(pro_op_in_flight(&r->op));
        pro_wake(remote); /* harmless */
    }
    pro_remote_unref(remote);
    assert_int_equal(pro_post(again, &r->op, on_record), -ESHUTDOWN);
    pro_remote_unref(again);
    assert_int_equal(w->ledger.count, 0);
}

static void c11_remotes_when_taken_often_are_counted(void **state)
{
    struct world *w = *state;
    struct pro_remote *remote[5];
    struct record *r = world_record(w);
    for (unsigned i = 0; i < 5; i++) {
        remote[i] = pro_remote_get(w->loop);
        assert_non_null(remote[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        pro_remote_unref(remote[i]);
    assert_int_equal(pro_post(remote[4], record_begin(r), on_record), 0);
    RUN_UNTIL(w, r->finals == 1);
    pro_remote_unref(remote[4]);
    remote[0] = pro_remote_get(w->loop); /* and again, when the last had been dropped */
    assert_int_equal(pro_post(remote[0], record_begin(r), on_record), 0);
    RUN_UNTIL(w, r->finals == 2);
    pro_remote_unref(remote[0]);
}

static void c11_remote_when_there_is_no_memory_is_null(void **state)
{
    struct world *w = *state;
    ledger_fail_from(&w->ledger, 1);
    assert_null(pro_remote_get(w->loop));
    ledger_fail_never(&w->ledger);
    struct pro_remote *remote = pro_remote_get(w->loop);
    assert_non_null(remote);
    pro_remote_unref(remote);
}

static void c11_wake_makes_a_run_of_one_turn_return(void **state)
{
    struct world *w = *state;
    struct pro_remote *remote = pro_remote_get(w->loop);
    struct record *never = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    for (unsigned i = 0; i < 5; i++) {
        pro_wake(remote);
        pro_wake(remote);
        assert_int_equal(world_run(w, PRO_RUN_ONCE), 1); /* else the guard strikes */
    }
    assert_int_equal(never->completions, 0);
    pro_remote_unref(remote);
}

static struct pro_remote *signal_remote;
static struct record *signal_record;
static volatile sig_atomic_t signal_count;

static void wake_in_handler(int number)
{
    (void)number;
    signal_count++;
    pro_wake(signal_remote);
}

static void post_in_handler(int number)
{
    (void)number;
    if (!pro_op_in_flight(&signal_record->op)) {
        signal_record->starts++;
        pro_post(signal_remote, &signal_record->op, on_record);
    }
}

/* A signal while the loop sleeps in the kernel: from a timer of the kernel's, so nothing else wakes the loop. */
static timer_t start_ticks(int number, long ns)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
    struct itimerspec every = {{0, ns}, {0, ns}};
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &every, NULL), 0);
    return timer;
}

static void c11_wake_in_a_signal_handler_wakes_the_loop(void **state)
{
    struct world *w = *state;
    skip_on_sim(w);
    struct record *never = world_record(w);
    struct sigaction action = {.sa_handler = wake_in_handler, .sa_flags = SA_RESTART}, before;
    signal_remote = pro_remote_get(w->loop);
    signal_count = 0;
    sigaction(SIGUSR1, &action, &before);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    timer_t timer = start_ticks(SIGUSR1, 5000000);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(world_run(w, PRO_RUN_ONCE), 1);
    timer_delete(timer);
    assert_true(signal_count > 0);
    sigaction(SIGUSR1, &before, NULL);
    pro_remote_unref(signal_remote);
}

static void c11_post_in_a_signal_handler_arrives(void **state)
{
    struct world *w = *state;
    skip_on_sim(w);
    struct record *never = world_record(w);
    struct sigaction action = {.sa_handler = post_in_handler}, before;
    signal_remote = pro_remote_get(w->loop);
    signal_record = world_record(w);
    sigaction(SIGUSR1, &action, &before);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    timer_t timer = start_ticks(SIGUSR1, 2000000);
    RUN_UNTIL(w, signal_record->finals >= 20);
    timer_delete(timer);
    sigaction(SIGUSR1, &before, NULL);
    assert_int_equal(signal_record->last.res, 0);
    pro_remote_unref(signal_remote);
}

/* ------------------------------------------------------------------------------------------------------------
 * EINTR is never shown
 * ------------------------------------------------------------------------------------------------------------ */

static void count_signal(int number)
{
    (void)number;
    signal_count++;
}

static void signals_at_a_thousand_a_second_are_invisible(void **state)
{
    struct world *w = *state;
    skip_on_sim(w);
    struct sigaction action = {.sa_handler = count_signal}, before; /* without SA_RESTART */
    struct record *r = world_record(w), *timer = world_record(w), *accept = world_record(w);
    int far;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *near = world_tcp(w, &far), *listener = world_listen(w, &at, &length);
    char data[64];
    signal_count = 0;
    sigaction(SIGUSR2, &action, &before);
    timer_t ticks = start_ticks(SIGUSR2, 1000000);
    pro_accept(listener, record_begin(accept), on_record);
    for (unsigned i = 1; signal_count < 200; i++) {
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        pro_timer_after(w->loop, record_begin(timer), 3 * MS_NS, on_record);
        RUN_UNTIL(w, timer->finals == i);
        assert_int_equal(timer->last.res, 0);
        assert_int_equal(r->finals, i - 1);
        write_all(far, "x", 1);
        RUN_UNTIL(w, r->finals == i);
        assert_int_equal(r->last.res, 1);
    }
    assert_int_equal(accept->completions, 0);
    timer_delete(ticks);
    sigaction(SIGUSR2, &before, NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(run_when_nothing_is_in_flight_returns_zero),
        TEST(run_returns_when_the_last_operation_has_ended),
        TEST(run_of_one_turn_says_whether_more_is_in_flight),
        TEST(background_operations_do_not_keep_the_run),
        TEST(run_of_one_turn_when_only_background_is_in_flight_does_not_wait),
        TEST(stop_inside_a_continuation_ends_the_run),
        TEST(stop_before_a_run_ends_the_next_after_its_turn),
        TEST(stats_when_the_caller_is_older_are_cut),
        TEST(now_outside_a_run_is_the_monotonic_clock),
        TEST(now_inside_a_turn_stands_still),
        TEST(timer_is_never_early),
        TEST(timers_run_in_the_order_of_their_times),
        TEST(timers_when_all_are_due_keep_their_order),
        TEST(timers_of_one_time_when_given_deadlines_keep_their_order),
        TEST(timer_when_repeating_reports_until_cancelled),
        TEST(timer_when_the_loop_is_late_coalesces),
        TEST(timers_when_very_many_all_fire),
        TEST(timer_at_never_keeps_the_loop_and_can_be_cancelled),
        TEST(c11_posts_of_one_thread_arrive_in_order),
        TEST(c11_post_when_cancelled_or_late_ends_once),
        TEST(c11_post_after_the_loop_is_gone_says_shutdown),
        TEST(c11_remotes_when_taken_often_are_counted),
        TEST(c11_remote_when_there_is_no_memory_is_null),
        TEST(c11_wake_makes_a_run_of_one_turn_return),
        TEST(c11_wake_in_a_signal_handler_wakes_the_loop),
        TEST(c11_post_in_a_signal_handler_arrives),
        TEST(signals_at_a_thousand_a_second_are_invisible),
    };
    return RUN(tests);
}
