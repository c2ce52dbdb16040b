/* SPDX-License-Identifier: MIT
 *
 * How a loop waits: spin_us, min_wait_us. Nothing is timed. A loop that may spin for an hour shows what it sees while it
 * does: a test in which it misses something is killed. One that may spin for a moment shows that it sleeps then. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MOMENT_US = 100,
    PAUSE_US = 20000, /* after which another thread does something */
    FEW = 6,          /* system calls of a wait that is not a busy one */
};
#define HOUR_US   UINT32_C(3600000000)
#define KNOWS_MIN (1U << 15) /* IORING_FEAT_MIN_TIMEOUT */

static uint64_t waits(const struct world *w)
{
    struct pro_stats stats;
    pro_loop_stats(w->loop, &stats, sizeof stats);
    return stats.waits;
}

/* Times this thread gave up the processor of itself. */
static long sleeps(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

/* ------------------------------------------------------------------------------------------------------------
 * Another thread
 * ------------------------------------------------------------------------------------------------------------ */

struct other {
    pthread_t thread;
    useconds_t pause;
    struct pro_remote *remote;
    struct record *post; /* NULL: none */
    bool wake;
    int fd; /* that is written to; -1: none */
    ssize_t written;
};

static void *act(void *context)
{
    struct other *other = context;
    usleep(other->pause);
    if (other->post)
        pro_post(other->remote, &other->post->op, on_record);
    if (other->wake)
        pro_wake(other->remote);
    if (other->fd >= 0)
        other->written = write(other->fd, "x", 1);
    return NULL;
}

static struct other *other_new(struct world *w)
{
    struct other *other = world_alloc(w, sizeof *other);
    other->remote = pro_remote_get(w->loop);
    other->fd = -1;
    return other;
}

static void other_start(struct other *other, useconds_t pause)
{
    other->pause = pause;
    assert_int_equal(pthread_create(&other->thread, NULL, act, other), 0);
}

static void other_end(struct other *other)
{
    pthread_join(other->thread, NULL);
    pro_remote_unref(other->remote);
}

/* ------------------------------------------------------------------------------------------------------------
 * What happens while the loop waits ends the wait
 * ------------------------------------------------------------------------------------------------------------ */

static void timers_end_it(struct world *w)
{
    struct record *r = world_record(w);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t at = pro_now(w->loop) + i * 100000;
        pro_timer(w->loop, record_begin(r), at, on_record);
        RUN_UNTIL(w, r->finals == i + 1);
        assert_int_equal(r->last.res, 0);
        assert_true(pro_now(w->loop) >= at);
    }
}

static void deadlines_end_it(struct world *w)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    char byte;
    for (unsigned i = 0; i < 20; i++) {
        struct record *r = world_record(w);
        pro_deadline(&r->op, pro_now(w->loop) + i * 100000 + 1);
        pro_recv(near, record_begin(r), &byte, 1, 0, on_record);
        RUN_UNTIL(w, r->finals == 1);
        assert_int_equal(r->last.res, -ETIME);
    }
}

static void posts_end_it(struct world *w)
{
    struct record *never = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    for (unsigned i = 0; i < 20; i++) {
        struct other *other = other_new(w);
        other->post = world_record(w);
        record_begin(other->post);
        other_start(other, i * 100);
        RUN_UNTIL(w, other->post->finals == 1);
        other_end(other);
    }
    pro_cancel(&never->op);
    RUN_UNTIL(w, never->finals == 1);
}

static void wakes_end_it(struct world *w)
{
    struct record *never = world_record(w);
    pro_timer(w->loop, record_begin(never), PRO_NEVER, on_record);
    for (unsigned i = 0; i < 20; i++) {
        struct other *other = other_new(w);
        other->wake = true;
        other_start(other, i * 100);
        assert_int_equal(world_run(w, PRO_RUN_ONCE), 1);
        other_end(other);
    }
    pro_cancel(&never->op);
    RUN_UNTIL(w, never->finals == 1);
}

static void results_end_it(struct world *w)
{
    struct record *r = world_record(w), *send = world_record(w);
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    char byte, data[] = "y";
    for (unsigned i = 0; i < 20; i++) {
        struct other *other = other_new(w);
        struct iovec iov = {data, 1};
        other->fd = far;
        pro_recv(near, record_begin(r), &byte, 1, 0, on_record);
        pro_send(near, record_begin(send), &iov, 1, 0, on_record);
        other_start(other, i * 100);
        RUN_UNTIL(w, r->finals == i + 1 && send->finals == i + 1);
        other_end(other);
        assert_int_equal(other->written, 1);
        assert_int_equal(r->last.res, 1);
        assert_int_equal(read_now(far, &byte, 1), 1);
    }
}

/* A cancel is asked for by a continuation, which a post of another thread runs. */
static void cancel_it(struct record *r, struct pro_result result)
{
    pro_cancel(r->context);
}

static void cancels_end_it(struct world *w)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    char byte;
    for (unsigned i = 0; i < 20; i++) {
        struct record *r = world_record(w);
        struct other *other = other_new(w);
        other->post = world_record(w);
        other->post->then = cancel_it;
        other->post->context = &r->op;
        record_begin(other->post);
        pro_recv(near, record_begin(r), &byte, 1, 0, on_record);
        other_start(other, i * 100);
        RUN_UNTIL(w, r->finals == 1 && other->post->finals == 1);
        other_end(other);
        assert_int_equal(r->last.res, -ECANCELED);
    }
}

static void everything_ends_it(struct world *w)
{
    timers_end_it(w);
    deadlines_end_it(w);
    posts_end_it(w);
    wakes_end_it(w);
    results_end_it(w);
    cancels_end_it(w);
}

static void spin_when_endless_misses_nothing(void **state)
{
    struct world *w = *state;
    w->config.spin_us = HOUR_US;
    world_open(w);
    everything_ends_it(w);
}

/* Without the flag that tells of work, and without the work being put off. */
static void spin_when_endless_and_features_are_off_misses_nothing(void **state)
{
    static const uint64_t off[] = {PRO_FEATURE_DEFER_TASKRUN, PRO_FEATURE_DEFER_TASKRUN | PRO_FEATURE_SINGLE_ISSUER,
                                   UINT64_MAX};
    struct world *w = *state;
    w->config.spin_us = HOUR_US;
    for (unsigned i = 0; i < sizeof off / sizeof off[0]; i++) {
        w->config.features_off = off[i];
        world_open(w);
        everything_ends_it(w);
        world_shut(w);
    }
}

/* So short that the loop goes to sleep at about the time that something happens. */
static void spin_when_short_misses_nothing(void **state)
{
    struct world *w = *state;
    for (w->config.spin_us = 1; w->config.spin_us < 2000; w->config.spin_us *= 4) {
        world_open(w);
        everything_ends_it(w);
        world_shut(w);
    }
}

static void spin_when_queues_are_tiny_misses_nothing(void **state)
{
    struct world *w = *state;
    w->config.spin_us = HOUR_US;
    w->config.entries = 4;
    w->config.completion_entries = 8;
    world_open(w);
    everything_ends_it(w);
}

static void min_wait_misses_nothing(void **state)
{
    struct world *w = *state;
    for (unsigned spin = 0; spin < 2; spin++) {
        w->config.min_wait_us = 500;
        w->config.spin_us = spin ? MOMENT_US : 0;
        world_open(w);
        everything_ends_it(w);
        world_shut(w);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * The loop sleeps in the end, and once
 * ------------------------------------------------------------------------------------------------------------ */

static void sleeps_until_a_timer(struct world *w)
{
    struct record *r = world_record(w);
    uint64_t before = waits(w);
    long slept = sleeps();
    pro_timer_after(w->loop, record_begin(r), PAUSE_US * 1000, on_record);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    assert_int_equal(r->finals, 1);
    assert_in_range(waits(w) - before, 1, FEW);
    assert_true(sleeps() > slept);
}

/* `at`: of a timer that keeps the loop waiting. */
static void sleeps_until_something_happens(struct world *w, uint64_t at)
{
    struct record *never = world_record(w), *r = world_record(w);
    int far;
    char byte;
    struct pro_handle *near = world_tcp(w, &far);
    struct other *other = other_new(w);
    other->fd = far;
    if (at)
        pro_timer(w->loop, record_begin(never), at, on_record);
    pro_recv(near, record_begin(r), &byte, 1, 0, on_record);
    world_turns(w, 2);
    uint64_t before = waits(w);
    long slept = sleeps();
    other_start(other, PAUSE_US);
    RUN_UNTIL(w, r->finals == 1);
    assert_in_range(waits(w) - before, 1, FEW);
    assert_true(sleeps() > slept);
    other_end(other);
}

static void falls_asleep(struct world *w)
{
    world_open(w);
    sleeps_until_a_timer(w);
    sleeps_until_something_happens(w, 0);
    sleeps_until_something_happens(w, PRO_NEVER - 1); /* beyond what a kernel's clock holds */
    sleeps_until_something_happens(w, PRO_NEVER);
    world_shut(w);
}

static void loop_falls_asleep(void **state)
{
    falls_asleep(*state);
}

static void loop_that_spins_falls_asleep(void **state)
{
    struct world *w = *state;
    w->config.spin_us = MOMENT_US;
    falls_asleep(w);
}

static void loop_with_a_min_wait_falls_asleep(void **state)
{
    struct world *w = *state;
    w->config.min_wait_us = MOMENT_US;
    falls_asleep(w);
}

/* ------------------------------------------------------------------------------------------------------------
 * Distant deadlines, for which an alarm stands: a request of io_uring, a timer descriptor beside epoll
 * ------------------------------------------------------------------------------------------------------------ */

#define SECOND UINT64_C(1000000000)

static void sleep_once(struct world *w)
{
    struct other *other = other_new(w);
    other->wake = true;
    other_start(other, 1000);
    assert_int_equal(world_run(w, PRO_RUN_ONCE), 1);
    other_end(other);
}

static void timer_when_nearer_than_the_one_slept_for_is_in_time(void **state)
{
    struct world *w = *state;
    struct record *far = world_record(w), *near = world_record(w);
    pro_timer_after(w->loop, record_begin(far), 3600 * SECOND, on_record);
    sleep_once(w);
    pro_timer_after(w->loop, record_begin(near), SECOND + SECOND / 10, on_record);
    sleep_once(w);
    RUN_UNTIL(w, near->finals == 1);
    pro_cancel(&far->op);
    RUN_UNTIL(w, far->finals == 1);
    sleeps_until_something_happens(w, 0);
}

static void timer_when_moved_away_while_slept_for_is_in_time(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w), *idle = world_record(w);
    int far;
    char byte;
    uint64_t now = pro_now(w->loop);
    pro_deadline(&idle->op, now + SECOND + SECOND / 10);
    pro_recv(world_tcp(w, &far), record_begin(idle), &byte, 1, 0, on_record);
    sleep_once(w);
    pro_deadline(&idle->op, now + 3600 * SECOND);
    pro_timer(w->loop, record_begin(r), now + SECOND + SECOND / 5, on_record);
    uint64_t before = waits(w);
    RUN_UNTIL(w, r->finals == 1);
    assert_in_range(waits(w) - before, 1, FEW);
    assert_true(pro_now(w->loop) >= now + SECOND + SECOND / 5);
}

/* ------------------------------------------------------------------------------------------------------------
 * Nothing is late before it has been looked for
 * ------------------------------------------------------------------------------------------------------------ */

/* A process: it writes a byte to `armed` when its receive and its deadline stand in the backend, and ends with 0 if the
 * receive brought something. */
static pid_t receive_apart(struct world *w, int fd, int armed)
{
    char byte;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    world_open(w);
    struct record *r = world_record(w);
    pro_deadline(&r->op, pro_now(w->loop) + 2 * SECOND);
    pro_recv(world_adopt(w, fd), record_begin(r), &byte, 1, 0, on_record);
    world_turns(w, 3);
    write_all(armed, "!", 1);
    RUN_UNTIL(w, r->finals == 1);
    _exit(r->last.res == 1 ? 0 : 1);
}

/* Once its receive stands, nothing but its loop's wait puts it to sleep. */
static void await_sleep(pid_t pid)
{
    char path[64], asleep = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    while (asleep != 'S') {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &asleep), 1);
        fclose(file);
    }
}

static void data_when_the_process_was_stopped_is_not_late(void **state)
{
    struct world *w = *state;
    int fds[2], armed[2], status;
    char byte;
    unix_pair(fds);
    kernel_pipe(armed);
    pid_t pid = receive_apart(w, fds[0], armed[1]);
    close(armed[1]);
    assert_int_equal(read(armed[0], &byte, 1), 1);
    close(armed[0]);
    await_sleep(pid);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    write_all(fds[1], "x", 1);
    usleep(2100000);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fds[0]);
    close(fds[1]);
}

/* The peer writes and the deadline passes while a continuation stands still; there is more to do then, and on epoll not
 * every turn asks the kernel. */
struct stall {
    struct record *waits; /* for a byte, ... */
    int far;              /* ... which comes from here */
    unsigned turns;       /* until then */
    struct pro_handle *zero;
    char byte;
};

static void stand_still(struct record *r, struct pro_result result)
{
    struct stall *stall = r->context;
    if (stall->waits->finals > 0)
        return;
    if (stall->turns-- == 0) {
        write_all(stall->far, "x", 1);
        usleep(PAUSE_US);
    }
    pro_read(stall->zero, record_begin(r), &stall->byte, 1, PRO_STREAM, on_record);
}

static void data_when_a_continuation_stands_still_is_not_late(void **state)
{
    struct world *w = *state;
    for (unsigned turns = 0; turns < 20; turns++) {
        struct stall stall = {.waits = world_record(w), .turns = turns};
        struct record *busy = world_record(w);
        struct pro_handle *near = world_tcp(w, &stall.far);
        char byte;
        pro_recv(near, record_begin(stall.waits), &byte, 1, 0, on_record);
        world_turns(w, 3);
        pro_deadline(&stall.waits->op, pro_now(w->loop) + (uint64_t)PAUSE_US * 500);
        stall.zero = world_adopt(w, open("/dev/zero", O_RDONLY | O_CLOEXEC));
        busy->then = stand_still;
        busy->context = &stall;
        pro_read(stall.zero, record_begin(busy), &stall.byte, 1, PRO_STREAM, on_record);
        RUN_UNTIL(w, stall.waits->finals == 1 && !pro_op_in_flight(&busy->op));
        assert_int_equal(stall.waits->last.res, 1);
    }
}

/* There was room before the deadline passed: the rest is tried first. */
static void send_when_room_came_in_time_is_not_late(void **state)
{
    enum { MUCH = 300000 }; /* more than the sockets hold, and less than twice as much */
    struct world *w = *state;
    struct record *r = world_record(w);
    char *data = world_alloc(w, MUCH);
    struct iovec iov = {data, MUCH};
    int far;
    pro_send(world_unix(w, &far), record_begin(r), &iov, 1, 0, on_record);
    world_turns(w, 3);
    assert_int_equal(r->finals, 0);
    pro_deadline(&r->op, pro_now(w->loop) + (uint64_t)PAUSE_US * 500);
    assert_true(read_now(far, world_alloc(w, MUCH), MUCH) > 0);
    usleep(PAUSE_US);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, MUCH);
}

/* ------------------------------------------------------------------------------------------------------------
 * Where nothing is waited for
 * ------------------------------------------------------------------------------------------------------------ */

static void spin_is_not_for_runs_that_do_not_wait(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w), *background = world_record(w);
    int far;
    char byte;
    w->config.spin_us = HOUR_US;
    world_open(w);
    pro_op_background(&background->op);
    pro_timer(w->loop, record_begin(background), PRO_NEVER, on_record);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    assert_int_equal(world_run(w, PRO_RUN_ONCE), 0);
    pro_recv(world_tcp(w, &far), record_begin(r), &byte, 1, 0, on_record);
    world_turns(w, 10);
    pro_stop(w->loop);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 1);
    assert_true(pro_loop_fd(w->loop) >= 0);
    world_turns(w, 10);
    assert_int_equal(r->finals, 0);
}

/* A pull-down waits for what it has cancelled; so may one that never ran. */
static void spin_when_endless_is_pulled_down(void **state)
{
    struct world *w = *state;
    w->config.spin_us = HOUR_US;
    for (unsigned turns = 0; turns < 3; turns++) {
        struct record *r = world_record(w);
        int far;
        char byte;
        world_open(w);
        pro_recv(world_tcp(w, &far), record_begin(r), &byte, 1, 0, on_record);
        world_turns(w, turns);
        world_shut(w);
        assert_int_equal(r->finals, 1);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * The minimum wait
 * ------------------------------------------------------------------------------------------------------------ */

/* It would last for an hour. */
static void min_wait_when_longer_than_a_timer_is_left_out(void **state)
{
    struct world *w = *state;
    w->config.min_wait_us = HOUR_US;
    world_open(w);
    timers_end_it(w);
}

static bool kernel_knows_min_wait(void)
{
    struct io_uring_params params = {0};
    long fd = syscall(__NR_io_uring_setup, 4, &params);
    if (fd >= 0)
        close((int)fd);
    return fd >= 0 && params.features & KNOWS_MIN;
}

/* ------------------------------------------------------------------------------------------------------------
 * The registered descriptor of the ring
 * ------------------------------------------------------------------------------------------------------------ */

enum { LOOPS = 24, SLOTS = 16 }; /* more loops than a thread can register rings */

static bool kernel_registers_rings(void)
{
    struct io_uring_params params = {0};
    long fd = syscall(__NR_io_uring_setup, 4, &params);
    struct io_uring_rsrc_update slot = {.offset = UINT32_MAX, .data = (uint64_t)fd};
    bool registers = fd >= 0 && syscall(__NR_io_uring_register, fd, IORING_REGISTER_RING_FDS, &slot, 1) == 1;
    slot.data = 0; /* what stands for "give it back" */
    if (registers)
        syscall(__NR_io_uring_register, fd, IORING_UNREGISTER_RING_FDS, &slot, 1);
    if (fd >= 0)
        close((int)fd);
    return registers;
}

/* How many of many loops of this thread have one; all of them work. */
static unsigned registered_of_many(struct world *w)
{
    struct pro_loop *loops[LOOPS];
    unsigned registered = 0;
    for (unsigned i = 0; i < LOOPS; i++) {
        struct record *r = world_record(w);
        assert_int_equal(pro_loop_new(&w->config, &loops[i]), 0);
        assert_null(strstr(pro_loop_describe(loops[i]), "registered_ring"));
        pro_timer(loops[i], record_begin(r), 0, on_record);
        w->running = 1;
        assert_int_equal(pro_run(loops[i], PRO_RUN_DEFAULT), 0);
        w->running = 0;
        assert_int_equal(r->finals, 1);
        registered += strstr(pro_loop_describe(loops[i]), "registered_ring") != NULL;
    }
    for (unsigned i = 0; i < LOOPS; i++)
        pro_loop_free(loops[i]);
    return registered;
}

static void ring_is_registered_while_there_is_room(void **state)
{
    struct world *w = *state;
    world_open(w);
    unsigned expected = world_is_uring(w) && kernel_registers_rings() ? SLOTS : 0;
    world_shut(w);
    for (unsigned round = 0; round < 3; round++) /* the places are given back */
        assert_int_equal(registered_of_many(w), expected);
}

static void assert_named(struct world *w, bool named)
{
    world_open(w);
    assert_int_equal(strstr(pro_loop_describe(w->loop), "min_wait") != NULL, named);
    world_shut(w);
}

static void min_wait_is_named_where_it_is_used(void **state)
{
    struct world *w = *state;
    world_open(w);
    bool uring = world_is_uring(w);
    world_shut(w);
    assert_named(w, false);
    w->config.min_wait_us = MOMENT_US;
    assert_named(w, uring && kernel_knows_min_wait());
    w->config.features_off = PRO_FEATURE_MIN_WAIT;
    assert_named(w, false);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(spin_when_endless_misses_nothing),
        TEST_BARE(spin_when_endless_and_features_are_off_misses_nothing),
        TEST_BARE(spin_when_short_misses_nothing),
        TEST_BARE(spin_when_queues_are_tiny_misses_nothing),
        TEST_BARE(spin_when_endless_is_pulled_down),
        TEST_BARE(spin_is_not_for_runs_that_do_not_wait),
        TEST_BARE(min_wait_misses_nothing),
        TEST_BARE(min_wait_when_longer_than_a_timer_is_left_out),
        TEST_BARE(min_wait_is_named_where_it_is_used),
        TEST_BARE(ring_is_registered_while_there_is_room),
        TEST_BARE(loop_falls_asleep),
        TEST_BARE(loop_that_spins_falls_asleep),
        TEST_BARE(loop_with_a_min_wait_falls_asleep),
        TEST(timer_when_nearer_than_the_one_slept_for_is_in_time),
        TEST(timer_when_moved_away_while_slept_for_is_in_time),
        TEST_BARE(data_when_the_process_was_stopped_is_not_late),
        TEST(data_when_a_continuation_stands_still_is_not_late),
        TEST(send_when_room_came_in_time_is_not_late),
    };
    return RUN(tests);
}
