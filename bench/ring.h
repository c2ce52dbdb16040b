/* SPDX-License-Identifier: MIT
 *
 * What the server on io_uring, by hand, stands on, before there is a connection: the knobs that the ablation turns, a ring
 * set up as they say, the buffers that the kernel receives into, and how the ring is entered and waited for.
 *
 * There are few buffers at first, for few stay in the cache. When the kernel finds none it ends the receive (ENOBUFS), and
 * there are twice as many from then on.
 *
 *     buffer   0              1              2
 *     memory   [____data_____][____data_____][____data_____]...       one every STRIDE bytes
 *               \__ STAGGER and a little
 *
 * Where a buffer begins. The processor copies slowly between places with the same offset in their pages, and the kernel's
 * pages of a socket are filled from the first byte on; so no buffer begins near the beginning of a page (STAGGER). Nor do
 * two begin at the same place of the cache.
 *
 * --spin: before it sleeps it looks at the ring for some microseconds, in memory, without a system call. Where few
 * connections take turns with the server it saves the sleep and the waking, at the price of the processor's idle time.
 * --min-wait US: it sleeps at least so long, unless there are many completions. The opposite trade: less work for each, but
 * later. --with NAME, --without NAME: turns one of the knobs, to see what it gives. */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "server.h"

enum {
    RING_ENTRIES = 1024,
    RING_COMPLETIONS = 8192,
    RING_BUFFERS = 1024, /* at most */
    RING_FIRST_BUFFERS = 32,
    RING_BUFFER = 64 * 1024 + 64, /* takes a frame of 64 KiB */
    RING_SMALL_BUFFER = 16 * 1024,
    RING_PAGE = 4096,
    RING_STAGGER = 1024,
    RING_STRIDE = RING_BUFFER - RING_BUFFER % RING_PAGE + RING_PAGE,
    RING_SPIN_NS = 100 * 1000,
    RING_MANY = 64, /* completions end a --min-wait */
};

/* --- knobs ---------------------------------------------------------------------------------------------------------- */

struct ring_knobs {
    bool defer_taskrun, coop_taskrun; /* without the one the other, or else neither */
    bool multishot_receive, multishot_accept;
    bool skip_success;  /* else each send makes a completion */
    bool early_submit;  /* else a turn has no end by bytes */
    bool large_buffers; /* else of 16 KiB */
    bool bulk;
    bool stagger; /* else each begins where a page does */
    bool receive_poll_first;
    bool ring_descriptor; /* registered */
    bool huge_pages;
    bool spin;
    unsigned min_wait_us;
};

static const struct ring_knobs ring_knobs_as_tuned = {
    .defer_taskrun = true,
    .coop_taskrun = true,
    .multishot_receive = true,
    .multishot_accept = true,
    .skip_success = true,
    .early_submit = true,
    .large_buffers = true,
    .bulk = true,
    .stagger = true,
};

static inline void ring_turn_knob(struct ring_knobs *knobs, const char *name, bool on)
{
    const struct {
        const char *name;
        bool *knob;
    } names[] = {
        {"defer-taskrun", &knobs->defer_taskrun},
        {"coop-taskrun", &knobs->coop_taskrun},
        {"multishot-receive", &knobs->multishot_receive},
        {"multishot-accept", &knobs->multishot_accept},
        {"skip-success", &knobs->skip_success},
        {"early-submit", &knobs->early_submit},
        {"large-buffers", &knobs->large_buffers},
        {"bulk", &knobs->bulk},
        {"stagger", &knobs->stagger},
        {"receive-poll-first", &knobs->receive_poll_first},
        {"ring-descriptor", &knobs->ring_descriptor},
        {"huge-pages", &knobs->huge_pages},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i].name) == 0) {
            *names[i].knob = on;
            return;
        }
    }
    fprintf(stderr, "no such knob: %s\n", name);
    exit(2);
}

/* Takes the options from the end of the arguments, and returns how many are left. */
static inline int ring_take_options(struct ring_knobs *knobs, int argc, char **argv)
{
    for (; argc > 2; argc--) {
        const char *last = argv[argc - 1], *before = argc > 3 ? argv[argc - 2] : "";
        bool with = strcmp(before, "--with") == 0;
        if (strcmp(last, "--spin") == 0) {
            knobs->spin = true;
            continue;
        }
        if (with || strcmp(before, "--without") == 0)
            ring_turn_knob(knobs, last, with);
        else if (strcmp(before, "--min-wait") == 0)
            knobs->min_wait_us = (unsigned)strtoul(last, NULL, 10);
        else
            break;
        argc--;
    }
    if (argc > 3) {
        fprintf(stderr, "no such option: %s\n", argv[argc - 1]);
        exit(2);
    }
    return argc;
}

/* --- the ring and its buffers --------------------------------------------------------------------------------------- */

struct ring {
    struct io_uring io;
    struct ring_knobs knobs;
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    unsigned stock; /* buffers that there are */
    bool enlarged;  /* the stock was, and is not again until this is cleared: at the end of a turn */
};

static inline uint8_t *ring_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        server_die("mmap", errno);
    return memory;
}

static inline uint8_t *ring_buffer(const struct ring *ring, unsigned buffer)
{
    return ring->memory + (size_t)buffer * RING_STRIDE + (ring->knobs.stagger ? RING_STAGGER + buffer % 32 * 64 : 0);
}

static inline void ring_put_buffer(struct ring *ring, unsigned buffer)
{
    io_uring_buf_ring_add(ring->buffers, ring_buffer(ring, buffer),
                          ring->knobs.large_buffers ? RING_BUFFER : RING_SMALL_BUFFER, (uint16_t)buffer,
                          io_uring_buf_ring_mask(RING_BUFFERS), 0);
    io_uring_buf_ring_advance(ring->buffers, 1);
}

/* However many receives meet the same shortage, it doubles the stock once. */
static inline void ring_enlarge_stock(struct ring *ring)
{
    unsigned wanted = ring->stock ? ring->stock * 2 : RING_FIRST_BUFFERS;
    if (ring->enlarged || wanted > RING_BUFFERS)
        return;
    while (ring->stock < wanted)
        ring_put_buffer(ring, ring->stock++);
    ring->enlarged = true;
}

static inline void ring_make_buffers(struct ring *ring)
{
    const size_t size = (size_t)RING_BUFFERS * RING_STRIDE;
    ring->buffers = (struct io_uring_buf_ring *)(void *)ring_map(RING_BUFFERS * sizeof(struct io_uring_buf));
    ring->memory = ring_map(size);
    if (ring->knobs.huge_pages && madvise(ring->memory, size, MADV_HUGEPAGE) < 0)
        server_die("madvise", errno);
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)ring->buffers, .ring_entries = RING_BUFFERS};
    int r = io_uring_register_buf_ring(&ring->io, &reg, 0);
    if (r < 0)
        server_die("io_uring_register_buf_ring", -r);
    io_uring_buf_ring_init(ring->buffers);
    ring_enlarge_stock(ring);
}

/* DEFER_TASKRUN: the kernel does its part of the work within our system calls, and does not interrupt for it. Of all the
 * set-up flags it is the one that counts, by half of the processor's time. */
static inline void ring_open(struct ring *ring, const struct ring_knobs *knobs)
{
    unsigned taskrun = knobs->coop_taskrun ? IORING_SETUP_COOP_TASKRUN : 0;
    if (knobs->defer_taskrun)
        taskrun = IORING_SETUP_DEFER_TASKRUN;
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | taskrun |
                 (knobs->spin ? IORING_SETUP_TASKRUN_FLAG : 0U),
        .cq_entries = RING_COMPLETIONS,
    };
    ring->knobs = *knobs;
    int r = io_uring_queue_init_params(RING_ENTRIES, &ring->io, &params);
    if (r < 0)
        server_die("io_uring_setup", -r);
    for (unsigned i = 0; i < RING_ENTRIES; i++)
        ring->io.sq.array[i] = i;
    if (knobs->ring_descriptor)
        r = io_uring_register_ring_fd(&ring->io);
    if (r < 0)
        server_die("io_uring_register_ring_fd", -r);
    ring_make_buffers(ring);
}

/* --- entering, and waiting ------------------------------------------------------------------------------------------ */

/* There is always one: a turn ends before they run out. */
static inline struct io_uring_sqe *ring_request(struct ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->io);
    if (!sqe)
        server_die("io_uring_get_sqe", ENOSPC);
    return sqe;
}

/* What io_uring_enter() is told besides (EXT_ARG), as of Linux 6.12. */
struct ring_enter_arg {
    uint64_t sigmask;
    uint32_t sigmask_size, min_wait_us;
    uint64_t timeout;
};

/* One system call, where that of Debian 12's liburing knows no min-wait. The entries' order was written down when the ring
 * was made, and is always the same. */
static inline int ring_enter(struct ring *ring, unsigned entries, unsigned wait)
{
    static const struct __kernel_timespec hour = {.tv_sec = 3600}; /* with none the wait would end with the min-wait */
    struct ring_enter_arg arg = {.min_wait_us = ring->knobs.min_wait_us, .timeout = (uintptr_t)&hour};
    bool registered = ring->io.enter_ring_fd != ring->io.ring_fd, patient = wait && arg.min_wait_us;
    unsigned flags = (wait ? IORING_ENTER_GETEVENTS : 0) | (registered ? IORING_ENTER_REGISTERED_RING : 0);
    io_uring_smp_store_release(ring->io.sq.ktail, ring->io.sq.sqe_tail);
    ring->io.sq.sqe_head = ring->io.sq.sqe_tail;
    if (patient)
        return io_uring_enter2((unsigned)ring->io.enter_ring_fd, entries, RING_MANY, flags | IORING_ENTER_EXT_ARG,
                               (sigset_t *)&arg, sizeof arg);
    return io_uring_enter2((unsigned)ring->io.enter_ring_fd, entries, wait, flags, NULL, _NSIG / 8);
}

/* Hands in all requests, and waits for so many completions. */
static inline void ring_submit(struct ring *ring, unsigned wait)
{
    unsigned entries = io_uring_sq_ready(&ring->io);
    int n;
    if (entries == 0 && !wait)
        return;
    do
        n = ring_enter(ring, entries, wait);
    while (n == -EINTR);
    if (n == -ETIME)
        n = 0;
    if (n < 0 || (unsigned)n != entries)
        server_die("io_uring_enter", n < 0 ? -n : EIO);
}

static inline uint64_t ring_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static inline void ring_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* True when there are completions. What has come is the kernel's until it is fetched with a system call, which is made
 * only when the ring says that there is something. */
static inline bool ring_spin(struct ring *ring)
{
    uint64_t end = ring_now() + RING_SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (IO_URING_READ_ONCE(*ring->io.sq.kflags) & IORING_SQ_TASKRUN)
                io_uring_get_events(&ring->io);
            if (io_uring_cq_ready(&ring->io) > 0)
                return true;
            ring_relax();
        }
    } while (ring_now() < end);
    return false;
}

#endif
