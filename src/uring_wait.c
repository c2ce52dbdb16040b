/* SPDX-License-Identifier: MIT
 *
 * Into the kernel and back: one io_uring_enter submits, waits, and lets the kernel make its completions; what may end its
 * sleep; and what came of the sends that make no completion.
 *
 *      prepare_enter   buffers into the ring, the waker's poll
 *      enter           until: a completion, the waker, a time
 *      after_enter     how far reap() may read; sends that went are done (settle), those not taken wait (note_waiting)
 *
 * A spin is the same without the sleep: it looks at the ring's memory for a while. A foreign loop that polls pro_loop_fd
 * sleeps in our place, on an eventfd that the ring signals. */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "pool.h"
#include "post.h"
#include "sigpipe.h"
#include "uring.h"

enum {
    BATCH = 64, /* completions that a minimum wait waits for */
    LOOKS = 64, /* between two looks at the clock, which costs more */
    REST_NS = 1000 * 1000,
};

/* The kernel adds to the time a wait may last without a look at what its own holds. */
#define LONGEST_NS (UINT64_C(1) << 61)

/* --- sends without a completion ------------------------------------------------------------------------------------------- */

/* Marks those that fell short: a CQE of theirs has come. */
static void mark_answered(struct uring *u, unsigned tail)
{
    const struct io_uring_cq *cq = &u->ring.cq;
    for (; u->seen != tail; u->seen++) {
        uint64_t data = cq->cqes[u->seen & cq->ring_mask].user_data;
        if (data & TAG_TRIED)
            ((struct pro_op *)(uintptr_t)(data & ~(uint64_t)TAGS))->flags |= PROI_PRIVATE;
    }
}

/* After an enter: those that are answered go their way as others do; of the rest those that the kernel took are sent,
 * unless there are completions that cannot be seen yet. */
static void settle(struct uring *u, unsigned tail)
{
    unsigned taken = *u->ring.sq.khead;
    bool all_seen = !io_uring_cq_has_overflow(&u->ring);
    struct proi_queue tried = u->tried;
    mark_answered(u, tail);
    u->tried.head = NULL;
    u->lazy = u->prompt = 0;
    for (struct pro_op *op; (op = proi_queue_pop(&tried)) != NULL;) {
        bool answered = op->flags & PROI_PRIVATE;
        if (answered) {
            op->flags &= (uint16_t) ~(PROI_PRIVATE | PROI_INQUEUE);
        } else if (all_seen && (int32_t)(taken - (uint32_t)op->res) > 0) {
            op->res = (int32_t)op->u.io.offset;
            proi_queue_push(&u->done, op);
        } else {
            proi_queue_push(&u->tried, op);
            u->prompt++;
        }
    }
}

/* Sends that the kernel did not take are no longer tried, but wait. */
static void note_waiting(struct pro_loop *loop, const struct uring *u)
{
    const struct io_uring_sq *sq = &u->ring.sq;
    for (unsigned at = *sq->khead; at != sq->sqe_tail; at++) {
        const struct io_uring_sqe *sqe = &sq->sqes[at & sq->ring_mask];
        if (sqe->opcode == IORING_OP_SEND || sqe->opcode == IORING_OP_SENDMSG)
            proi_op_time(loop, (struct pro_op *)(uintptr_t)(sqe->user_data & ~(uint64_t)TAGS));
    }
}

/* --- waiting ------------------------------------------------------------------------------------------------------------- */

/* Without room for it the next enter makes some. */
static void arm_waker(struct uring *u)
{
    struct io_uring_sqe *sqe = u->waker >= 0 && !u->waker_armed ? proi_uring_sqe(u) : NULL;
    if (!sqe)
        return;
    io_uring_prep_poll_multishot(sqe, u->waker, POLLIN);
    sqe->user_data = WAKER;
    u->waker_armed = true;
}

static struct __kernel_timespec time_left(uint64_t ns)
{
    ns = ns < LONGEST_NS ? ns : LONGEST_NS;
    return (struct __kernel_timespec){(long long)(ns / 1000000000), (long long)(ns % 1000000000)};
}

/* Whether the ring wakes the loop by itself in time. To hand a time-out to each enter costs it a third of its time
 * (measured: 6.18), and most of what a loop waits for are deadlines of seconds, which never pass but move away. So a
 * distant one stands as a request, which is moved when a nearer one comes. That those have moved away is found out when
 * it fires: a wake-up for nothing in the time that a deadline lasts. */
static bool alarm_stands(const struct pro_loop *loop, uint64_t until)
{
    struct uring *u = proi_uring_of(loop);
    if (until >= u->alarm_at)
        return true;
    uint64_t now = until - loop->now < PROI_FAR_NS ? until : proi_kernel_now(loop);
    struct io_uring_sqe *sqe = now < until ? proi_uring_sqe(u) : NULL;
    if (!sqe)
        return false;
    u->alarm = time_left(until - now);
    if (u->alarm_at == UINT64_MAX)
        io_uring_prep_timeout(sqe, &u->alarm, 0, 0);
    else
        io_uring_prep_timeout_update(sqe, &u->alarm, ALARM, 0);
    sqe->user_data = u->alarm_at == UINT64_MAX ? ALARM : NOBODY;
    u->alarm_at = until;
    return true;
}

/* With a minimum wait it is waited for as many completions as make a good batch; when the time is over for one. That
 * part only begins if there is a time-out (6.18: without one the call ends, and an idle loop would never sleep), and a
 * time-out within the minimum wait would be overlooked. */
static int enter(const struct pro_loop *loop, uint64_t until)
{
    struct uring *u = proi_uring_of(loop);
    unsigned flags = u->features & PRO_FEATURE_REGISTERED_RING ? IORING_ENTER_REGISTERED_RING : 0;
    if (until == 0 || (u->min_wait_us == 0 && alarm_stands(loop, until)))
        return proi_enter(&u->ring, flags, until != 0, NULL);
    uint64_t now = until == UINT64_MAX ? 0 : proi_kernel_now(loop), left = until - now;
    if (until <= now)
        return proi_enter(&u->ring, flags, 0, NULL);
    bool gathers = u->min_wait_us > 0 && left / 1000 > u->min_wait_us;
    struct __kernel_timespec timeout = time_left(left);
    struct proi_getevents arg = {.timeout = (uintptr_t)&timeout, .min_wait_us = gathers ? u->min_wait_us : 0};
    return proi_enter(&u->ring, flags, gathers ? BATCH : 1, &arg);
}

static int enter_quietly(const struct pro_loop *loop, uint64_t until)
{
    struct uring *u = proi_uring_of(loop);
    struct proi_sigpipe held;
    if (u->nosignal || u->writes == 0)
        return enter(loop, until);
    proi_sigpipe_hold(&held);
    int r = enter(loop, until);
    proi_sigpipe_release(&held);
    return r;
}

/* The kernel has no memory, or completions that it could not deliver. */
static bool is_shortage(int error)
{
    return error == -EAGAIN || error == -EBUSY || error == -ENOMEM;
}

static bool is_passing(int error)
{
    return error == -ETIME || error == -EINTR || is_shortage(error);
}

/* Instead of the sleep that was refused: to ask again at once would keep the processor busy when memory is short. */
static void rest(const struct pro_loop *loop, uint64_t until)
{
    uint64_t now = proi_kernel_now(loop), left = until > now ? until - now : 0;
    nanosleep(&(struct timespec){.tv_nsec = left < REST_NS ? (long)left : REST_NS}, NULL);
}

/* In a foreign loop the waker is watched itself as well, since the ring's signal for it takes its time (see below). */
static void clear_waker(const struct uring *u)
{
    uint64_t token;
    if (u->embed.fd >= 0 && u->waker >= 0 && read(u->waker, &token, sizeof token) < 0)
        return; /* it was not written to */
}

/* Takes the signal back, and registers anew: one that is raised from inside a write to another eventfd, such as the
 * waker, is the last that the kernel (measured: 6.18) gives to a registration. */
static int renew_eventfd(struct uring *u)
{
    uint64_t token;
    if (u->eventfd < 0 || read(u->eventfd, &token, sizeof token) < 0)
        return 0; /* there is none, or it was not signalled */
    io_uring_unregister_eventfd(&u->ring);
    return io_uring_register_eventfd(&u->ring, u->eventfd);
}

/* Whether a post will end a sleep, and no sleep keeps anybody waiting for the end of a send: its continuation; a run that
 * ends when something has happened; or the program, if such sends are all it has. */
static bool may_sleep(const struct pro_loop *loop)
{
    const struct uring *u = proi_uring_of(loop);
    bool others = loop->stats.in_flight - loop->background > u->lazy, heard = u->waker < 0 || u->waker_armed;
    return heard && u->prompt == 0 && (u->lazy == 0 || (others && !loop->once));
}

/* What comes before every system call that submits. */
static int prepare_enter(const struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
    int r = renew_eventfd(u);
    clear_waker(u);
    if (r < 0)
        return r;
    arm_waker(u);
    for (struct pro_pool *pool = loop->pools; pool; pool = pool->next)
        if (pool->backend_state && pool->receives > 0)
            proi_uring_fill(pool, pool->backend_state);
    return 0;
}

/* After every system call that submits: what is there to reap. */
static void after_enter(struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
    proi_uring_submitted(u);
    if (io_uring_sq_ready(&u->ring) > 0)
        note_waiting(loop, u);
    unsigned tail = io_uring_smp_load_acquire(u->ring.cq.ktail);
    if (u->tried.head)
        settle(u, tail);
    u->limit = tail - *u->ring.cq.khead;
}

/* The flag stands from an overflow until an enter that finds room for what the kernel kept. */
static void note_overflow(struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
    bool overflown = io_uring_cq_has_overflow(&u->ring);
    loop->stats.overflows += overflown && !u->overflown;
    u->overflown = overflown;
}

int proi_uring_wait(struct pro_loop *loop, uint64_t until)
{
    struct uring *u = proi_uring_of(loop);
    int r = prepare_enter(loop);
    if (r < 0)
        return r;
    bool left = loop->submissions.head, more = proi_uring_receive_next(loop) || (loop->submissions.head && !left);
    bool ready = more || io_uring_cq_ready(&u->ring) > 0 || u->done.head;
    note_overflow(loop);
    bool enters = !ready || io_uring_sq_ready(&u->ring) > 0 || u->tried.head;
    if (enters) {
        r = enter_quietly(loop, ready || !may_sleep(loop) ? 0 : until);
        loop->stats.waits++;
    }
    after_enter(loop);
    if (is_shortage(r) && u->limit == 0 && !u->done.head && until)
        rest(loop, until);
    return r < 0 && !is_passing(r) ? r : 0;
}

/* The kernel does some twenty pieces of its work in an enter. One that brings nothing was the last, unless it was refused,
 * or took a part of the queue only. */
int proi_uring_look(struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
    unsigned ready = io_uring_cq_ready(&u->ring), before;
    int r;
    do {
        before = ready;
        r = enter_quietly(loop, 0);
        loop->stats.waits++;
        ready = io_uring_cq_ready(&u->ring);
    } while (ready > before && ready < loop->turn_completions);
    after_enter(loop);
    if (r < 0)
        return is_passing(r) ? 1 : r;
    return ready > before || io_uring_sq_ready(&u->ring) > 0 || io_uring_cq_has_overflow(&u->ring);
}

/* Whether there are completions, or the kernel would make some if it were asked. Read from memory. */
static bool has_news(const struct uring *u)
{
    unsigned asks = IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    return asks || io_uring_cq_ready(&u->ring) > 0 || u->done.head;
}

/* No system call but the one that submits, if there is something to submit. */
bool proi_uring_spin(struct pro_loop *loop, uint64_t until)
{
    struct uring *u = proi_uring_of(loop);
    if (prepare_enter(loop) < 0 || u->line.head)
        return true; /* the wait that follows says what is wrong, and receives for the next in line */
    if (io_uring_sq_ready(&u->ring) > 0 && proi_uring_wait(loop, 0) < 0)
        return true;
    uint64_t now = proi_kernel_now(loop), end = now + loop->spin_ns;
    for (end = end < until ? end : until; now < end; now = proi_kernel_now(loop)) {
        for (unsigned i = 0; i < LOOKS; i++) {
            if (has_news(u) || proi_post_pending(loop))
                return true;
            proi_relax();
        }
    }
    return false;
}

int proi_uring_waker(struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
    proi_assert(u->waker < 0);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    int r = proi_embed_watch(&u->embed, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    u->waker = fd;
    return fd;
}

static int open_eventfd(struct uring *u)
{
    if (u->eventfd >= 0)
        return 0;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = fd < 0 ? -errno : io_uring_register_eventfd(&u->ring, fd);
    if (r >= 0)
        u->eventfd = fd;
    else if (fd >= 0)
        close(fd);
    return r;
}

int proi_uring_pollable(struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
    int r = u->embed.fd < 0 ? open_eventfd(u) : 0;
    if (u->embed.fd >= 0 || r < 0)
        return r < 0 ? r : u->embed.fd;
    r = proi_embed_open(&u->embed, u->eventfd);
    if (r >= 0 && u->waker >= 0)
        r = proi_embed_watch(&u->embed, u->waker);
    if (r < 0)
        proi_embed_close(&u->embed);
    return r < 0 ? r : u->embed.fd;
}

void proi_uring_pollable_arm(struct pro_loop *loop, uint64_t until)
{
    struct uring *u = proi_uring_of(loop);
    bool work = io_uring_cq_ready(&u->ring) > 0 || io_uring_sq_ready(&u->ring) > 0 || u->tried.head || u->done.head ||
                u->line.head || io_uring_cq_has_overflow(&u->ring);
    proi_embed_arm(&u->embed, work ? 0 : until);
}
