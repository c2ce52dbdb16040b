/* SPDX-License-Identifier: MIT
 *
 * The kernel does not take what is submitted (it has no memory, or cannot keep more completions), and takes it later:
 * until then nothing has been sent, whatever makes no completion. */
#include "harness.h"

#include <errno.h>
#include <limits.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MS_NS = 1000000, ENTRIES = 4, MANY = 20, GATHERS = 100 };

int __real_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, void *arg, size_t size);
int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, void *arg, size_t size);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);

static int refusal;      /* 0: none */
static unsigned refused; /* enters */
static bool only_enters; /* what is not an enter of the turn is refused */
static const int errors[] = {-EAGAIN, -EBUSY, -ENOMEM, -EINTR};
enum { ERRORS = sizeof errors / sizeof *errors };

int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, void *arg, size_t size)
{
    refused += refusal != 0;
    return refusal ? refusal : __real_io_uring_enter2(fd, submit, wait, flags, arg, size);
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    return only_enters ? -EAGAIN : refusal ? refusal : __real_io_uring_submit(ring);
}

static unsigned rings_refused; /* of buffers */

int __real_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *reg, unsigned flags);
int __wrap_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *reg, unsigned flags);
static bool no_rings;

int __wrap_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *reg, unsigned flags)
{
    rings_refused += no_rings;
    return no_rings ? -ENOMEM : __real_io_uring_register_buf_ring(ring, reg, flags);
}

static bool no_registrations;

int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    if (!no_registrations || operation != EPOLL_CTL_ADD)
        return __real_epoll_ctl(epoll, operation, fd, event);
    errno = ENOSPC;
    return -1;
}

ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
static bool no_nowait;
static size_t largest_write; /* of those that may block */

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    if (!(flags & RWF_NOWAIT) && iov->iov_len > largest_write)
        largest_write = iov->iov_len;
    if (!no_nowait || !(flags & RWF_NOWAIT))
        return __real_pwritev64v2(fd, iov, count, offset, flags);
    errno = EOPNOTSUPP;
    return -1;
}

/* As before Linux 6.4: a pipe that blocks is written as much as it has room for when it says that it is writable. More
 * would block, unless the kernel happens to interrupt it. */
static void write_to_a_pipe_that_cannot_be_tried_does_not_block(void **state)
{
    enum { MUCH = 200000 }; /* more than it holds */
    struct world *w = *state;
    int ends[2];
    char *data = world_alloc(w, MUCH), *got = world_alloc(w, MUCH);
    w->config.backend = PRO_BACKEND_EPOLL;
    world_open(w);
    struct record *r = world_record(w);
    pattern_fill(data, MUCH, 0);
    kernel_pipe(ends);
    no_nowait = true;
    largest_write = 0;
    pro_write(world_adopt(w, ends[1]), record_begin(r), data, MUCH, PRO_STREAM, on_record);
    for (size_t have = 0; have < MUCH;) {
        world_turns(w, 100);
        ssize_t n = read(ends[0], got + have, MUCH - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    RUN_UNTIL(w, r->finals == 1);
    no_nowait = false;
    assert_int_equal(r->last.res, MUCH);
    assert_true(pattern_holds(got, MUCH, 0));
    assert_int_equal(largest_write, PIPE_BUF);
    close(ends[0]);
}

/* There is no edge to wait for. */
static void receive_after_one_that_could_not_be_watched_gets_its_data(void **state)
{
    struct world *w = *state;
    skip_on_sim(w);
    w->config.backend = PRO_BACKEND_EPOLL;
    world_open(w);
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char byte;
    no_registrations = true;
    pro_recv(near, record_begin(r), &byte, 1, 0, on_record);
    world_turns(w, 5);
    no_registrations = false;
    assert_int_equal(r->finals, 1);
    assert_int_equal(r->last.res, -ENOSPC);
    write_all(far, "a", 1);
    pro_recv(near, record_begin(r), &byte, 1, 0, on_record);
    world_turns(w, 5);
    assert_int_equal(r->finals, 2);
    assert_int_equal(r->last.res, 1);
}

/* An enter that is refused first, on io_uring. */
static struct world *refusing(void **state)
{
    struct world *w = *state;
    refusal = 0;
    only_enters = false;
    if (!world_is_uring(w))
        skip();
    world_turns(w, 1);
    return w;
}

static void send_when_not_taken_is_not_sent(void **state)
{
    struct world *w = refusing(state);
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char got[8];
    for (unsigned i = 0; i < ERRORS; i++) {
        struct iovec iov = {(char[]){"hello"}, 5};
        pro_send(near, record_begin(r), &iov, 1, 0, on_record);
        refusal = errors[i];
        world_turns(w, 5);
        assert_int_equal(r->finals, i);
        assert_int_equal(read_now(far, got, sizeof got), -EAGAIN);
        refusal = 0;
        RUN_UNTIL(w, r->finals == i + 1);
        assert_int_equal(r->last.res, 5);
        assert_int_equal(read_now(far, got, sizeof got), 5);
        assert_memory_equal(got, "hello", 5);
    }
}

/* Those for which the queue has no room are late in time; those in the queue end when the kernel has taken them. */
static void sends_when_the_queue_is_full_are_late(void **state)
{
    struct world *w = refusing(state);
    world_shut(w);
    w->config.entries = ENTRIES;
    world_open(w);
    struct record *r[MANY];
    struct iovec iov[MANY];
    char byte = 0;
    for (unsigned i = 0; i < MANY; i++) {
        int far;
        r[i] = world_record(w);
        iov[i] = (struct iovec){&byte, 1};
        pro_deadline(&r[i]->op, pro_now(w->loop) + MS_NS);
        pro_send(world_tcp(w, &far), record_begin(r[i]), &iov[i], 1, 0, on_record);
    }
    refusal = -EAGAIN;
    for (unsigned late = 0, i = 0; late < MANY - ENTRIES; i++) {
        late = 0;
        for (unsigned k = 0; k < MANY; k++)
            late += r[k]->finals == 1 && r[k]->last.res == -ETIME;
        world_turns(w, 1);
        assert_true(i < 10000000);
    }
    refusal = 0;
    for (unsigned i = 0; i < MANY; i++)
        RUN_UNTIL(w, r[i]->finals == 1);
}

/* What has arrived is not late because the kernel could not be asked for it. */
static void receive_when_refused_is_not_late(void **state)
{
    struct world *w = refusing(state);
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char got[8];
    for (unsigned i = 0; i < ERRORS; i++) {
        pro_recv(near, record_begin(r), got, sizeof got, 0, on_record);
        world_turns(w, 1);
        assert_int_equal(write(far, "hello", 5), 5);
        pro_deadline(&r->op, pro_now(w->loop) + MS_NS);
        refusal = errors[i];
        nanosleep(&(struct timespec){.tv_nsec = 2 * MS_NS}, NULL);
        world_turns(w, 5);
        assert_int_equal(r->finals, i);
        refusal = 0;
        RUN_UNTIL(w, r->finals == i + 1);
        assert_int_equal(r->last.res, 5);
    }
}

/* Its deadline was first, though it could not be judged yet. */
static void cancel_when_refused_after_the_deadline_comes_second(void **state)
{
    struct world *w = refusing(state);
    int far;
    struct record *r = world_record(w);
    char byte;
    pro_recv(world_tcp(w, &far), record_begin(r), &byte, 1, 0, on_record);
    world_turns(w, 1);
    pro_deadline(&r->op, pro_now(w->loop) + MS_NS);
    refusal = -EBUSY;
    nanosleep(&(struct timespec){.tv_nsec = 2 * MS_NS}, NULL);
    world_turns(w, 3);
    assert_int_equal(r->finals, 0);
    pro_cancel(&r->op);
    refusal = 0;
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -ETIME);
}

/* The loop does not go to sleep on what it could not hand over. */
static void receives_when_there_is_no_room_are_asked_again(void **state)
{
    struct world *w = refusing(state);
    world_shut(w);
    w->config.entries = ENTRIES;
    world_open(w);
    struct record *r[MANY];
    char bytes[MANY];
    int far;
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_recv(world_unix(w, &far), record_begin(r[i]), &bytes[i], 1, 0, on_record);
    }
    write_all(far, "x", 1);
    only_enters = true;
    RUN_UNTIL(w, r[MANY - 1]->finals == 1);
    only_enters = false;
    assert_int_equal(r[MANY - 1]->last.res, 1);
}

/* Nor on a cancel for which there was no room, which one that stands in line for its data asks for at its turn. */
static void cancel_in_line_when_there_is_no_room_is_asked_again(void **state)
{
    struct world *w = refusing(state);
    char bytes[ENTRIES];
    for (unsigned turns = 0; turns < 6; turns++) {
        int far;
        struct record *r = world_record(w);
        world_shut(w);
        w->config.entries = ENTRIES;
        w->config.features_off = PRO_FEATURE_BUFFER_RING;
        world_open(w);
        r->drop = true;
        pro_recv_multi(world_unix(w, &far), record_begin(r), world_pool(w, NULL), PRO_UNLIMITED, on_record);
        world_turns(w, 3);
        write_all(far, "x", 1);
        world_turns(w, turns);
        pro_cancel(&r->op);
        for (unsigned i = 0; i < ENTRIES; i++)
            pro_recv(world_unix(w, &far), record_begin(world_record(w)), &bytes[i], 1, 0, on_record);
        only_enters = true;
        RUN_UNTIL(w, r->finals == 1);
        only_enters = false;
        assert_int_equal(r->last.res, -ECANCELED);
    }
}

/* Locked memory is short: the pool does without a ring for as long as it is this loop's. */
static void receives_when_the_ring_is_refused_do_not_ask_again(void **state)
{
    struct world *w = refusing(state);
    int far;
    struct pro_pool *pool = world_pool(w, NULL);
    no_rings = true;
    for (unsigned i = 0; i < 10; i++) {
        struct record *r = world_record(w);
        r->drop = true;
        pro_recv_multi(world_tcp(w, &far), record_begin(r), pool, PRO_UNLIMITED, on_record);
        write_all(far, "hello", 5);
        RUN_UNTIL(w, r->bytes == 5);
    }
    no_rings = false;
    assert_int_equal(rings_refused, 1);
}

/* A loop that may not sleep in the kernel sleeps without: a millisecond at a time. */
static void loop_when_refused_is_not_busy(void **state)
{
    enum { TIME_MS = 30 };
    struct world *w = refusing(state);
    static const int shortages[] = {-EAGAIN, -EBUSY, -ENOMEM};
    for (unsigned i = 0; i < sizeof shortages / sizeof *shortages; i++) {
        struct record *r = world_record(w);
        pro_timer_after(w->loop, record_begin(r), (uint64_t)TIME_MS * MS_NS, on_record);
        refused = 0;
        refusal = shortages[i];
        RUN_UNTIL(w, r->finals == 1);
        refusal = 0;
        assert_in_range(refused, 1, 2 * TIME_MS);
    }
}

static struct pro_remote *remote;

static void *post_after_a_while(void *context)
{
    nanosleep(&(struct timespec){.tv_nsec = 20 * MS_NS}, NULL);
    pro_post(remote, context, on_record);
    return NULL;
}

/* The first enter has no room for what wakes the loop. */
static void post_when_there_is_no_room_for_the_waker_is_not_slept_through(void **state)
{
    struct world *w = refusing(state);
    pthread_t thread;
    char bytes[ENTRIES];
    int far;
    world_shut(w);
    w->config.entries = ENTRIES;
    world_open(w);
    struct record *late = world_record(w), *post = world_record(w);
    remote = pro_remote_get(w->loop);
    for (unsigned i = 0; i < ENTRIES; i++)
        pro_recv(world_unix(w, &far), record_begin(world_record(w)), &bytes[i], 1, 0, on_record);
    pro_timer_after(w->loop, record_begin(late), (uint64_t)20000 * MS_NS, on_record);
    only_enters = true;
    assert_int_equal(pthread_create(&thread, NULL, post_after_a_while, record_begin(post)), 0);
    RUN_UNTIL(w, post->finals == 1);
    only_enters = false;
    assert_int_equal(pthread_join(thread, NULL), 0);
    pro_remote_unref(remote);
    assert_int_equal(late->finals, 0);
}

/* Of two pieces each, so that each needs a message until the kernel has taken it. */
static void gathers_when_not_taken_keep_their_messages(void **state)
{
    struct world *w = refusing(state);
    struct record *r[GATHERS];
    int far[GATHERS];
    struct iovec iov[GATHERS][2];
    char text[GATHERS][2], got[8];
    refusal = -EAGAIN;
    for (unsigned i = 0; i < GATHERS; i++) {
        r[i] = world_record(w);
        text[i][0] = (char)i;
        text[i][1] = (char)~i;
        iov[i][0] = (struct iovec){&text[i][0], 1};
        iov[i][1] = (struct iovec){&text[i][1], 1};
        pro_send(world_unix(w, &far[i]), record_begin(r[i]), iov[i], 2, 0, on_record);
    }
    world_turns(w, 3);
    refusal = 0;
    for (unsigned i = 0; i < GATHERS; i++) {
        RUN_UNTIL(w, r[i]->finals == 1);
        assert_int_equal(r[i]->last.res, 2);
        assert_int_equal(read_now(far[i], got, sizeof got), 2);
        assert_memory_equal(got, text[i], 2);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(send_when_not_taken_is_not_sent),
        TEST(sends_when_the_queue_is_full_are_late),
        TEST(receive_when_refused_is_not_late),
        TEST(cancel_when_refused_after_the_deadline_comes_second),
        TEST(receives_when_there_is_no_room_are_asked_again),
        TEST(cancel_in_line_when_there_is_no_room_is_asked_again),
        TEST(receives_when_the_ring_is_refused_do_not_ask_again),
        TEST(loop_when_refused_is_not_busy),
        TEST(post_when_there_is_no_room_for_the_waker_is_not_slept_through),
        TEST(gathers_when_not_taken_keep_their_messages),
        TEST_BARE(write_to_a_pipe_that_cannot_be_tried_does_not_block),
        TEST_BARE(receive_after_one_that_could_not_be_watched_gets_its_data),
    };
    return RUN(tests);
}
