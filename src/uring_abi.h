/* SPDX-License-Identifier: MIT
 *
 * Kernel constants newer than the liburing of Debian 12 (2.3). The ABI is what counts; see include/uapi/linux/io_uring.h
 * in the kernel. */
#ifndef PROI_URING_ABI_H
#define PROI_URING_ABI_H

#include <errno.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15)
#endif

/* struct io_uring_getevents_arg as of Linux 6.12: the minimum wait has the place of a pad that had to be 0. */
struct proi_getevents {
    uint64_t sigmask;
    uint32_t sigmask_size;
    uint32_t min_wait_us;
    uint64_t timeout; /* the address of a struct __kernel_timespec; 0: none */
};
_Static_assert(sizeof(struct proi_getevents) == sizeof(struct io_uring_getevents_arg), "the kernel knows its size");

/* Submits everything, and waits for `count` completions, which `arg` (or NULL) may cut short: one system call. `flags` are
 * 0, or IORING_ENTER_REGISTERED_RING of a ring that io_uring_register_ring_fd was called for. None of
 * liburing 2.3's functions takes a minimum wait. The entries are handed over as its own submit does it: the kernel's
 * tail is set to the tail of those given out; the array of indices, written once at set-up, maps each to itself. */
static inline int proi_enter(struct io_uring *ring, unsigned flags, unsigned count, struct proi_getevents *arg)
{
    unsigned tail = ring->sq.sqe_tail;
    flags |= IORING_ENTER_GETEVENTS | (arg ? IORING_ENTER_EXT_ARG : 0u);
    ring->sq.sqe_head = tail;
    io_uring_smp_store_release(ring->sq.ktail, tail);
    return io_uring_enter2((unsigned)ring->enter_ring_fd, tail - *ring->sq.khead, count, flags, (void *)arg,
                           arg ? sizeof *arg : 0);
}

/* io_uring_enable_rings is declared by liburing 2.3 but not exported. */
static inline int proi_enable_ring(const struct io_uring *ring)
{
    return syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0 ? -errno : 0;
}

/* Linux 6.17: the bytes after which a multishot receive ends. It shares its place with file_index. */
static inline void proi_sqe_limit(struct io_uring_sqe *sqe, unsigned bytes)
{
    sqe->file_index = bytes;
}

#endif
