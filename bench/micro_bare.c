/* SPDX-License-Identifier: MIT
 *
 * The bare side of the micro-benchmarks: liburing, and a function called through a pointer for each completion, which is
 * the least that any library on top of it does. */
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "micro.h"

enum { ENTRIES = 256, COMPLETIONS = 32768, BUFFERS = 256, BUFFER_SIZE = 65536 };

struct bare_op {
    void (*done)(struct io_uring *ring, struct bare_op *op, const struct io_uring_cqe *cqe);
    void *context;
    uint64_t at;
    int fd;
};

static void new_ring(struct io_uring *ring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                     .cq_entries = COMPLETIONS};
    micro_must(io_uring_queue_init_params(ENTRIES, ring, &params) == 0, "io_uring_setup");
}

static void submit(struct io_uring *ring)
{
    micro_must(io_uring_submit(ring) >= 0, "io_uring_submit");
}

static struct io_uring_sqe *entry(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (!sqe) {
        submit(ring);
        sqe = io_uring_get_sqe(ring);
        micro_must(sqe, "a free entry");
    }
    return sqe;
}

/* After the entry is prepared: it makes no completion, or, when it fails, one that belongs to nobody. */
static void make_silent(struct io_uring_sqe *sqe)
{
    io_uring_sqe_set_data(sqe, NULL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

/* Calls what belongs to each completion that is there. Returns their number. */
static unsigned reap(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        struct bare_op *op = io_uring_cqe_get_data(cqe);
        if (op)
            op->done(ring, op, cqe);
        count++;
    }
    io_uring_cq_advance(ring, count);
    return count;
}

static void turn(struct io_uring *ring)
{
    int error = io_uring_submit_and_wait(ring, 1);
    micro_must(error >= 0 || error == -EINTR, "io_uring_enter");
    reap(ring);
}

static const char byte = 'x';

static void start_write(struct io_uring *ring, struct bare_op *op)
{
    struct io_uring_sqe *sqe = entry(ring);
    io_uring_prep_write(sqe, op->fd, &byte, 1, (uint64_t)-1);
    io_uring_sqe_set_data(sqe, op);
}

struct counts {
    uint64_t left, done;
};

static void on_written(struct io_uring *ring, struct bare_op *op, const struct io_uring_cqe *cqe)
{
    struct counts *counts = op->context;
    micro_must(cqe->res == 1, "a write to /dev/null");
    counts->done++;
    if (counts->left == 0)
        return;
    counts->left--;
    start_write(ring, op);
}

uint64_t micro_bare_nop(uint64_t count)
{
    struct bare_op ops[MICRO_BATCH];
    struct counts counts = {.left = count};
    struct io_uring ring;
    new_ring(&ring);
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    micro_must(fd >= 0, "/dev/null");
    uint64_t start = micro_cpu();
    for (int i = 0; i < MICRO_BATCH && counts.left; i++, counts.left--) {
        ops[i] = (struct bare_op){.done = on_written, .context = &counts, .fd = fd};
        start_write(&ring, &ops[i]);
    }
    while (counts.done < count)
        turn(&ring);
    uint64_t took = micro_cpu() - start;
    io_uring_queue_exit(&ring);
    close(fd);
    return took;
}

static void on_ended(struct io_uring *ring, struct bare_op *op, const struct io_uring_cqe *cqe)
{
    struct counts *counts = op->context;
    micro_must(cqe->res == -ECANCELED, "it was not cancelled");
    counts->done++;
}

/* The kernel keeps timeouts in a list and finds one by walking it: a cancel costs more the more there are. They are
 * removed in the order of that list, which is the least it can cost. */
struct micro_timers micro_bare_timers(uint64_t count)
{
    struct micro_timers took = {0, 0, 0};
    struct counts counts = {0, 0};
    struct __kernel_timespec hour = {.tv_sec = 3600};
    struct bare_op *ops = calloc(count, sizeof *ops);
    struct io_uring ring;
    micro_must(ops, "memory");
    new_ring(&ring);
    uint64_t start = micro_cpu();
    for (uint64_t i = 0; i < count; i++) {
        ops[i] = (struct bare_op){.done = on_ended, .context = &counts};
        struct io_uring_sqe *sqe = entry(&ring);
        io_uring_prep_timeout(sqe, &hour, 0, 0);
        io_uring_sqe_set_data(sqe, &ops[i]);
    }
    submit(&ring);
    took.set = micro_cpu() - start;
    start = micro_cpu();
    for (uint64_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = entry(&ring);
        io_uring_prep_timeout_remove(sqe, (uint64_t)(uintptr_t)&ops[i], 0);
        make_silent(sqe);
        if (i % MICRO_BATCH == MICRO_BATCH - 1)
            turn(&ring);
    }
    while (counts.done < count)
        turn(&ring);
    took.cancel = micro_cpu() - start;
    io_uring_queue_exit(&ring);
    free(ops);
    return took;
}

uint64_t micro_bare_cancel(uint64_t count)
{
    static char room[MICRO_BATCH];
    struct bare_op ops[MICRO_BATCH];
    int near[MICRO_BATCH], far[MICRO_BATCH];
    struct counts counts = {0, 0};
    struct io_uring ring;
    new_ring(&ring);
    micro_pairs(near, far);
    uint64_t start = micro_cpu();
    for (uint64_t done = 0; done < count; done += MICRO_BATCH) {
        for (int i = 0; i < MICRO_BATCH; i++) {
            ops[i] = (struct bare_op){.done = on_ended, .context = &counts};
            struct io_uring_sqe *sqe = entry(&ring);
            io_uring_prep_recv(sqe, near[i], &room[i], 1, 0);
            io_uring_sqe_set_data(sqe, &ops[i]);
        }
        submit(&ring);
        for (int i = 0; i < MICRO_BATCH; i++) {
            struct io_uring_sqe *sqe = entry(&ring);
            io_uring_prep_cancel(sqe, &ops[i], 0);
            make_silent(sqe);
        }
        while (counts.done < done + MICRO_BATCH)
            turn(&ring);
    }
    uint64_t took = micro_cpu() - start;
    io_uring_queue_exit(&ring);
    micro_close(near);
    micro_close(far);
    return took;
}

struct bare_pool {
    struct io_uring_buf_ring *ring;
    uint8_t *memory;
    uint64_t received;
};

static void lend(struct bare_pool *pool, unsigned id)
{
    io_uring_buf_ring_add(pool->ring, pool->memory + (size_t)id * BUFFER_SIZE, BUFFER_SIZE, (unsigned short)id,
                          io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(pool->ring, 1);
}

static void start_receive(struct io_uring *ring, struct bare_op *op)
{
    struct io_uring_sqe *sqe = entry(ring);
    io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    io_uring_sqe_set_data(sqe, op);
}

static void on_message(struct io_uring *ring, struct bare_op *op, const struct io_uring_cqe *cqe)
{
    struct bare_pool *pool = op->context;
    if (cqe->res > 0) {
        pool->received++;
        lend(pool, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        start_receive(ring, op);
}

static void new_pool(struct io_uring *ring, struct bare_pool *pool)
{
    pool->memory = aligned_alloc(4096, (size_t)BUFFERS * BUFFER_SIZE);
    pool->ring = aligned_alloc(4096, BUFFERS * sizeof(struct io_uring_buf));
    micro_must(pool->memory && pool->ring, "memory");
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)pool->ring, .ring_entries = BUFFERS};
    io_uring_buf_ring_init(pool->ring);
    micro_must(io_uring_register_buf_ring(ring, &reg, 0) == 0, "a ring of buffers");
    for (unsigned i = 0; i < BUFFERS; i++)
        lend(pool, i);
}

uint64_t micro_bare_pool(uint64_t count)
{
    static const char message[64] = "lent and returned";
    struct bare_op ops[MICRO_BATCH];
    int near[MICRO_BATCH], far[MICRO_BATCH];
    struct bare_pool pool = {NULL, NULL, 0};
    struct io_uring ring;
    new_ring(&ring);
    new_pool(&ring, &pool);
    micro_pairs(near, far);
    for (int i = 0; i < MICRO_BATCH; i++) {
        ops[i] = (struct bare_op){.done = on_message, .context = &pool, .fd = near[i]};
        start_receive(&ring, &ops[i]);
    }
    uint64_t start = micro_cpu();
    while (pool.received < count) {
        for (int i = 0; i < MICRO_BATCH; i++)
            micro_must(send(far[i], message, sizeof message, MSG_NOSIGNAL) == sizeof message, "send");
        uint64_t goal = pool.received + MICRO_BATCH;
        while (pool.received < goal)
            turn(&ring);
    }
    uint64_t took = micro_cpu() - start;
    io_uring_queue_exit(&ring);
    micro_close(near);
    micro_close(far);
    free(pool.memory);
    free(pool.ring);
    return took;
}

struct bare_poster {
    int to; /* the ring's descriptor */
    uint64_t count;
    struct histogram *waits;
    _Atomic uint64_t arrived;
};

static void on_posted(struct io_uring *ring, struct bare_op *op, const struct io_uring_cqe *cqe)
{
    struct bare_poster *poster = op->context;
    if (poster->waits)
        histogram_record(poster->waits, micro_now() - op->at);
    atomic_fetch_add_explicit(&poster->arrived, 1, memory_order_release);
}

/* As many as may be under way go in one submission, unless each is to wake. */
static void *post_all(void *argument)
{
    static struct {
        _Alignas(MICRO_APART) struct bare_op op;
    } ops[MICRO_POSTS];
    struct bare_poster *poster = argument;
    struct io_uring ring;
    micro_pin(1);
    new_ring(&ring);
    for (uint64_t i = 0; i < poster->count; i++) {
        struct bare_op *op = &ops[i % MICRO_POSTS].op;
        if (io_uring_sq_ready(&ring) == MICRO_BATCH)
            submit(&ring);
        while (i - atomic_load_explicit(&poster->arrived, memory_order_acquire) >= MICRO_POSTS) {
            submit(&ring);
            sched_yield();
        }
        *op = (struct bare_op){.done = on_posted, .context = poster};
        struct io_uring_sqe *sqe = entry(&ring);
        io_uring_prep_msg_ring(sqe, poster->to, 0, (uint64_t)(uintptr_t)op, 0);
        make_silent(sqe);
        if (poster->waits) {
            struct timespec pause = {.tv_nsec = MICRO_PAUSE_NS};
            nanosleep(&pause, NULL);
            op->at = micro_now();
            submit(&ring);
        }
    }
    submit(&ring);
    /* What it has sent may be on its way still. */
    while (atomic_load_explicit(&poster->arrived, memory_order_acquire) < poster->count)
        sched_yield();
    io_uring_queue_exit(&ring);
    return NULL;
}

uint64_t micro_bare_post(uint64_t count, struct histogram *waits)
{
    struct bare_poster poster = {.count = count, .waits = waits};
    struct io_uring ring;
    pthread_t thread;
    micro_pin(0);
    new_ring(&ring);
    poster.to = ring.ring_fd;
    uint64_t start = micro_now();
    micro_must(pthread_create(&thread, NULL, post_all, &poster) == 0, "a thread");
    while (atomic_load_explicit(&poster.arrived, memory_order_relaxed) < count)
        turn(&ring);
    uint64_t took = micro_now() - start;
    micro_must(pthread_join(thread, NULL) == 0, "the thread's end");
    micro_unpin();
    io_uring_queue_exit(&ring);
    return took;
}
