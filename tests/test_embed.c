/* SPDX-License-Identifier: MIT
 *
 * pro_loop_fd: the loop inside a foreign loop, which sleeps in poll(2) or epoll and knows nothing else of it. */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MS_NS UINT64_C(1000000)

/* A foreign loop of either kind. */
struct foreign {
    struct world *w;
    int fd;    /* of the loop */
    int epoll; /* -1: poll(2) */
};

static struct foreign *foreign_new(struct world *w, bool by_epoll)
{
    struct foreign *f = world_alloc(w, sizeof *f);
    *f = (struct foreign){w, pro_loop_fd(w->loop), -1};
    assert_true(f->fd >= 0);
    assert_int_equal(pro_loop_fd(w->loop), f->fd); /* there is one */
    if (by_epoll) {
        struct epoll_event event = {.events = EPOLLIN};
        f->epoll = world_own(w, epoll_create1(EPOLL_CLOEXEC));
        assert_int_equal(epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->fd, &event), 0);
    }
    return f;
}

/* Waits as long as it takes (or, with 0, not at all); whether it is readable. */
static bool foreign_wait(struct foreign *f, int timeout_ms)
{
    struct pollfd pollfd = {.fd = f->fd, .events = POLLIN};
    struct epoll_event event;
    int n;
    do
        n = f->epoll < 0 ? poll(&pollfd, 1, timeout_ms) : epoll_wait(f->epoll, &event, 1, timeout_ms);
    while (n < 0 && errno == EINTR);
    assert_true(n >= 0);
    return n > 0;
}

/* Runs for as long as there is work; then it must be quiet. A spurious run or two is no harm, an endless row is. */
static void settle(struct foreign *f)
{
    unsigned runs = 0;
    while (foreign_wait(f, 0)) {
        assert_true(++runs < 100);
        assert_true(world_run(f->w, PRO_RUN_NOWAIT) >= 0);
    }
}

/* What a foreign loop does, until `r` has completed so often. */
static void drive(struct foreign *f, const struct record *r, unsigned completions)
{
    unsigned runs = 0;
    while (r->completions < completions) {
        assert_true(foreign_wait(f, -1));
        assert_true(++runs < 10000);
        assert_true(world_run(f->w, PRO_RUN_NOWAIT) >= 0);
    }
}

static void quiet_when_nothing_happens(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    int far;
    char data[4];
    struct record *r = world_record(w);
    settle(f);
    assert_false(foreign_wait(f, 20));
    pro_recv(world_tcp(w, &far), record_begin(r), data, sizeof data, 0, on_record);
    pro_timer(w->loop, record_begin(world_record(w)), PRO_NEVER, on_record);
    settle(f);
    assert_false(foreign_wait(f, 20));
    assert_int_equal(r->completions, 0);
}

static void data_makes_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    int far;
    char data[4];
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    for (unsigned i = 1; i <= 20; i++) {
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        settle(f);
        write_all(far, "abc", 3);
        drive(f, r, i);
        assert_int_equal(r->last.res, 3);
        settle(f);
    }
}

static void multishots_make_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    struct sockaddr_storage at;
    socklen_t length;
    int far;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *accept = world_record(w), *recv = world_record(w);
    recv->drop = true;
    pro_accept_multi(listener, record_begin(accept), on_record);
    pro_recv_multi(world_tcp(w, &far), record_begin(recv), world_pool(w, NULL), PRO_UNLIMITED, on_record);
    for (unsigned i = 1; i <= 20; i++) {
        settle(f);
        int client = tcp_connect(&at, length);
        drive(f, accept, i);
        pro_discard(w->loop, accept->last.res);
        close(client);
        settle(f);
        write_all(far, "abc", 3);
        drive(f, recv, i);
    }
}

static void timers_make_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    struct record *r = world_record(w), *late = world_record(w), *every = world_record(w);
    int far;
    char data[4];
    struct pro_handle *near = world_tcp(w, &far);
    for (unsigned i = 1; i <= 10; i++) {
        pro_timer_after(w->loop, record_begin(r), i % 2 ? 2 * MS_NS : 0, on_record);
        if (i % 3)
            settle(f);
        drive(f, r, i);
        pro_recv(near, record_begin(late), data, sizeof data, 0, on_record);
        if (i % 3)
            settle(f);
        pro_deadline(&late->op, pro_now(w->loop) + MS_NS); /* set between runs */
        drive(f, late, i);
        assert_int_equal(late->last.res, -ETIME);
    }
    pro_timer_every(w->loop, record_begin(every), 1, MS_NS, on_record);
    drive(f, every, 5);
}

static void posts_make_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    struct pro_remote *remote = pro_remote_get(w->loop);
    struct record *r = world_record(w);
    for (unsigned i = 1; i <= 20; i++) {
        settle(f);
        assert_int_equal(pro_post(remote, record_begin(r), on_record), 0);
        drive(f, r, i);
        settle(f);
        pro_wake(remote);
        assert_true(foreign_wait(f, -1));
    }
    pro_remote_unref(remote);
}

/* Descriptors that are signalled from inside a system call of their own: eventfds of the program. */
static void eventfds_make_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct pro_handle *near = world_adopt(w, fd);
    struct record *poll = world_record(w), *read = world_record(w);
    uint64_t count = 0, one = 1;
    for (unsigned i = 1; i <= 10; i++) {
        pro_poll(near, record_begin(poll), POLLIN, on_record);
        settle(f);
        write_all(fd, &one, sizeof one);
        drive(f, poll, i);
        assert_int_equal(read_now(fd, &count, sizeof count), sizeof count);
        pro_read(near, record_begin(read), &count, sizeof count, PRO_STREAM, on_record);
        settle(f);
        write_all(fd, &one, sizeof one);
        drive(f, read, i);
        assert_int_equal(count, 1);
    }
}

static void *post_from_a_thread(void *context)
{
    struct record *r = context;
    pro_post(r->context, &r->op, on_record);
    return NULL;
}

static void posts_of_threads_make_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    struct pro_remote *remote = pro_remote_get(w->loop);
    struct record *r = world_record(w);
    r->context = remote;
    for (unsigned i = 1; i <= 20; i++) {
        pthread_t thread;
        settle(f);
        record_begin(r);
        assert_int_equal(pthread_create(&thread, NULL, post_from_a_thread, r), 0);
        drive(f, r, i);
        pthread_join(thread, NULL);
    }
    pro_remote_unref(remote);
}

/* Whatever is asked for outside pro_run is work for the next one. */
static void calls_between_runs_make_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    struct record *r = world_record(w), *close = world_record(w), *poll = world_record(w);
    char data[4];
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    settle(f);
    write_all(far, "abc", 3); /* before the start: no edge will come */
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    drive(f, r, 1);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    settle(f);
    pro_cancel(&r->op);
    drive(f, r, 2);
    pro_poll(near, record_begin(poll), POLLOUT, on_record);
    drive(f, poll, 1);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    settle(f);
    pro_close(near, record_begin(close), on_record);
    drive(f, close, 1);
    assert_int_equal(r->finals, 3);
}

/* Credit and memory that come back between runs set a paused receive going. */
static void credit_between_runs_makes_it_readable(struct world *w, bool by_epoll)
{
    struct foreign *f = foreign_new(w, by_epoll);
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    struct record *r = world_record(w);
    int far;
    static char data[4096];
    config.buffer_size = 1024;
    config.max_buffers = 1;
    pro_recv_multi(world_tcp(w, &far), record_begin(r), world_pool(w, &config), 0, on_record);
    write_all(far, data, sizeof data);
    settle(f);
    assert_int_equal(r->completions, 0);
    pro_recv_credit(&r->op, 10);
    drive(f, r, 1);
    settle(f);
    record_drop(r);
    pro_recv_pause(&r->op);
    drive(f, r, 2);
    assert_int_equal(r->pauses, 1);
    pro_recv_credit(&r->op, PRO_UNLIMITED);
    drive(f, r, 3);
    settle(f);
    for (unsigned i = r->completions + 1; r->bytes < sizeof data; i++) {
        record_drop(r); /* the only buffer comes back */
        drive(f, r, i);
        settle(f);
    }
}

/* A turn that could not run everything leaves it readable. */
static void work_left_over_keeps_it_readable(struct world *w, bool by_epoll)
{
    w->config.turn_completions = 4;
    world_shut(w);
    world_open(w);
    struct foreign *f = foreign_new(w, by_epoll);
    struct record *timers[50], *recvs[50];
    char *data = world_alloc(w, 50);
    for (unsigned i = 0; i < 50; i++) {
        int far;
        timers[i] = world_record(w);
        recvs[i] = world_record(w);
        pro_timer(w->loop, record_begin(timers[i]), 1, on_record);
        pro_recv(world_unix(w, &far), record_begin(recvs[i]), data + i, 1, 0, on_record);
        write_all(far, "x", 1);
    }
    for (unsigned i = 0; i < 50; i++) {
        drive(f, timers[i], 1);
        drive(f, recvs[i], 1);
    }
    settle(f);
}

/* An echo of two megabytes, driven by readiness alone. */
static void echo(struct record *r, struct pro_result result)
{
    struct record *send = r->context;
    if (result.slice)
        pro_send_slices(send->context, record_begin(world_record(r->world)), record_take(r), on_record);
}

static void echo_is_driven_by_readiness_alone(struct world *w, bool by_epoll)
{
    enum { TOTAL = 2 << 20 };
    struct foreign *f = foreign_new(w, by_epoll);
    static uint8_t data[16384];
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w), *send = world_record(w);
    r->then = echo;
    r->context = send;
    send->context = near;
    pro_recv_multi(near, record_begin(r), world_pool(w, NULL), PRO_UNLIMITED, on_record);
    for (uint64_t sent = 0, got = 0; got < TOTAL;) {
        size_t size = TOTAL - sent < sizeof data ? TOTAL - sent : sizeof data;
        pattern_fill(data, size, sent);
        ssize_t n = size ? write(far, data, size) : 0;
        sent += n > 0 ? (uint64_t)n : 0;
        assert_true(foreign_wait(f, -1) && world_run(w, PRO_RUN_NOWAIT) >= 0);
        for (int m; (m = read_now(far, data, sizeof data)) > 0;
             got += (uint64_t)m) /* all: what is there wakes nobody */
            assert_true(pattern_holds(data, (size_t)m, got));
    }
}

/* Each with poll(2) and with epoll. */
#define BOTH(name)                                                                                                     \
    static void name##_in_poll(void **state)                                                                           \
    {                                                                                                                  \
        name(*state, false);                                                                                           \
    }                                                                                                                  \
    static void name##_in_epoll(void **state)                                                                          \
    {                                                                                                                  \
        name(*state, true);                                                                                            \
    }
BOTH(quiet_when_nothing_happens)
BOTH(data_makes_it_readable)
BOTH(multishots_make_it_readable)
BOTH(timers_make_it_readable)
BOTH(posts_make_it_readable)
BOTH(eventfds_make_it_readable)
BOTH(posts_of_threads_make_it_readable)
BOTH(calls_between_runs_make_it_readable)
BOTH(credit_between_runs_makes_it_readable)
BOTH(work_left_over_keeps_it_readable)
BOTH(echo_is_driven_by_readiness_alone)
#define TESTS(name) TEST(name##_in_poll), TEST(name##_in_epoll)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TESTS(quiet_when_nothing_happens),
        TESTS(data_makes_it_readable),
        TESTS(multishots_make_it_readable),
        TESTS(timers_make_it_readable),
        TESTS(posts_make_it_readable),
        TESTS(eventfds_make_it_readable),
        TESTS(posts_of_threads_make_it_readable),
        TESTS(calls_between_runs_make_it_readable),
        TESTS(credit_between_runs_makes_it_readable),
        TESTS(work_left_over_keeps_it_readable),
        TESTS(echo_is_driven_by_readiness_alone),
    };
    return RUN(tests);
}
