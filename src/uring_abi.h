/* Kernel constants newer than the liburing of Debian 12 (2.3). The ABI is what counts; see include/uapi/linux/io_uring.h
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
