/* SPDX-License-Identifier: MIT
 *
 * Every flag is tried and dropped if it is refused; versions are never compared, for distributions patch them.
 *
 * The order in which set-up flags are given up: DEFER_TASKRUN needs SINGLE_ISSUER, and COOP_TASKRUN is the second best
 * in its place. R_DISABLED (5.10) is needed, so that the ring belongs to the thread that runs it and not to the one that
 * made it. */
#include "uring_probe.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PROBE_BYTES = 4096 };

static const char *const names[] = {"defer_taskrun", "single_issuer",  "submit_all",
                                    "buffer_ring",   "recv_multishot", "accept_multishot",
                                    "skip_success",  "min_wait",       "registered_ring"};

const char *proi_uring_feature_name(unsigned bit)
{
    return bit < sizeof names / sizeof *names ? names[bit] : NULL;
}

/* Set-up flags for a choice of features. Without DEFER_TASKRUN the second best, unless the kernel does not know it. */
static unsigned setup_flags(uint64_t features, bool cooperative)
{
    unsigned flags = 0;
    if (features & PRO_FEATURE_SUBMIT_ALL)
        flags |= IORING_SETUP_SUBMIT_ALL;
    if (features & PRO_FEATURE_SINGLE_ISSUER)
        flags |= IORING_SETUP_SINGLE_ISSUER;
    if (features & PRO_FEATURE_DEFER_TASKRUN && features & PRO_FEATURE_SINGLE_ISSUER)
        flags |= IORING_SETUP_DEFER_TASKRUN;
    else if (cooperative)
        flags |= IORING_SETUP_COOP_TASKRUN;
    return flags;
}

/* The flag that tells of work left to do goes with both of the ways to leave it. Without them there is none: completions
 * are made by interrupting the thread. */
static int try_setup(struct io_uring *ring, unsigned entries, unsigned completion_entries, unsigned flags, bool spins)
{
    struct io_uring_params params;
    if (spins && flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN))
        flags |= IORING_SETUP_TASKRUN_FLAG;
    memset(&params, 0, sizeof params);
    params.flags = flags | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = completion_entries;
    return io_uring_queue_init_params(entries, ring, &params);
}

/* Everything without which there is no substitute. */
static bool complete(struct io_uring *ring)
{
    static const int needed[] = {
        IORING_OP_RECV,         IORING_OP_SEND,    IORING_OP_SENDMSG,       IORING_OP_ACCEPT, IORING_OP_READ,
        IORING_OP_WRITE,        IORING_OP_CONNECT, IORING_OP_POLL_ADD,      IORING_OP_CLOSE,  IORING_OP_SHUTDOWN,
        IORING_OP_ASYNC_CANCEL, IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE};
    const unsigned features = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_SUBMIT_STABLE;
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool ok = probe && (ring->features & features) == features;
    for (size_t i = 0; ok && i < sizeof needed / sizeof *needed; i++)
        ok = io_uring_opcode_supported(probe, needed[i]);
    io_uring_free_probe(probe);
    return ok;
}

int proi_uring_setup(struct io_uring *ring, unsigned entries, unsigned completion_entries, uint64_t wanted, bool spins,
                     uint64_t *ret_features)
{
    static const struct {
        uint64_t dropped;
        bool cooperative;
    } attempts[] = {
        {0, true},
        {PRO_FEATURE_DEFER_TASKRUN, true},
        {PRO_FEATURE_DEFER_TASKRUN | PRO_FEATURE_SINGLE_ISSUER, true},
        {PRO_FEATURE_DEFER_TASKRUN | PRO_FEATURE_SINGLE_ISSUER | PRO_FEATURE_SUBMIT_ALL, false},
    };
    int r = -EINVAL;
    uint64_t features = 0;
    if (!(wanted & PRO_FEATURE_SINGLE_ISSUER))
        wanted &= ~(uint64_t)PRO_FEATURE_DEFER_TASKRUN;
    for (size_t i = 0; r == -EINVAL && i < sizeof attempts / sizeof *attempts; i++) {
        features = wanted & ~attempts[i].dropped;
        r = try_setup(ring, entries, completion_entries, setup_flags(features, attempts[i].cooperative), spins);
    }
    if (r < 0)
        return r;
    if (!complete(ring)) {
        io_uring_queue_exit(ring);
        return -EOPNOTSUPP;
    }
    *ret_features = features & (PRO_FEATURE_DEFER_TASKRUN | PRO_FEATURE_SINGLE_ISSUER | PRO_FEATURE_SUBMIT_ALL);
    if (ring->features & IORING_FEAT_MIN_TIMEOUT)
        *ret_features |= features & PRO_FEATURE_MIN_WAIT;
    return 0;
}

/* One receive of a group with one buffer: what the kernel says, and whether it wants to go on. */
static int try_one(struct io_uring *ring, int fd, bool multishot, unsigned limit, bool *ret_more)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec second = {.tv_sec = 1};
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_recv(sqe, fd, NULL, 0, MSG_DONTWAIT);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    if (multishot)
        sqe->ioprio |= IORING_RECV_MULTISHOT;
    if (limit)
        proi_sqe_limit(sqe, limit);
    int r = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &second, NULL);
    if (r < 0)
        return r;
    r = cqe->res;
    *ret_more = cqe->flags & IORING_CQE_F_MORE;
    io_uring_cqe_seen(ring, cqe);
    return r;
}

/* Puts a buffer into the ring and four bytes into the socket, and receives them. */
static int feed_and_try(struct io_uring *ring, struct io_uring_buf_ring *buffers, int pair[2], bool multishot,
                        unsigned limit, bool *ret_more)
{
    char *memory = (char *)buffers + PROBE_BYTES - 64;
    if (send(pair[0], "abcd", 4, MSG_DONTWAIT | MSG_NOSIGNAL) != 4)
        return -EIO;
    io_uring_buf_ring_add(buffers, memory, 16, 0, io_uring_buf_ring_mask(8), 0);
    io_uring_buf_ring_advance(buffers, 1);
    return try_one(ring, pair[1], multishot, limit, ret_more);
}

static uint64_t try_receive(struct io_uring *ring, void *page, int pair[2])
{
    struct io_uring_buf_ring *buffers = page;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)page, .ring_entries = 8, .bgid = 0};
    uint64_t works = 0;
    bool more = true;
    if (io_uring_register_buf_ring(ring, &reg, 0) < 0)
        return 0;
    io_uring_buf_ring_init(buffers);
    if (feed_and_try(ring, buffers, pair, false, 0, &more) != 4)
        return 0;
    works |= PRO_FEATURE_BUFFER_RING;
    /* With a limit of all the bytes the kernel must stop by itself; without, it says that it goes on. */
    if (feed_and_try(ring, buffers, pair, true, 4, &more) == 4 && !more)
        works |= PRO_FEATURE_RECV_MULTISHOT;
    return works;
}

/* Where it is not known it fails at once; else nobody connects and it waits until the ring goes. */
static uint64_t try_accept(struct io_uring *ring)
{
    struct sockaddr_un any = {.sun_family = AF_UNIX};
    struct io_uring_cqe *cqe;
    uint64_t works = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any.sun_family) == 0 && listen(fd, 1) == 0) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
        sqe->ioprio |= IORING_ACCEPT_MULTISHOT;
        if (io_uring_submit(ring) == 1 && io_uring_peek_cqe(ring, &cqe) == -EAGAIN)
            works = PRO_FEATURE_ACCEPT_MULTISHOT;
    }
    if (fd >= 0)
        close(fd);
    return works;
}

static bool try_send(struct io_uring *ring, int fd, int *ret_res)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;
    io_uring_prep_send(sqe, fd, "x", 1, MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    if (io_uring_submit(ring) != 1 || io_uring_peek_cqe(ring, &cqe) < 0)
        return false;
    *ret_res = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return true;
}

/* A send that goes well must say nothing, one that does not must say so, both before the call returns. */
static uint64_t try_skip(struct io_uring *ring, int fd)
{
    int least = 1, res = 0;
    if (!(ring->features & IORING_FEAT_CQE_SKIP) || try_send(ring, fd, &res))
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    while (send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        continue;
    return try_send(ring, fd, &res) && res == -EAGAIN ? PRO_FEATURE_SKIP_SUCCESS : 0;
}

/* A sandbox may allow the set-up and forbid the use. */
static int try_enter(struct io_uring *ring)
{
    io_uring_prep_nop(io_uring_get_sqe(ring));
    int r = io_uring_submit_and_wait(ring, 1);
    io_uring_cq_advance(ring, 1);
    return r < 0 ? r : 0;
}

int proi_uring_try(uint64_t wanted, uint64_t *ret_features)
{
    struct io_uring ring;
    int pair[2];
    uint64_t works = 0;
    int r = io_uring_queue_init(8, &ring, 0);
    if (r < 0)
        return r;
    r = try_enter(&ring);
    if (r < 0) {
        io_uring_queue_exit(&ring);
        return r;
    }
    void *page = mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        works = try_receive(&ring, page, pair) | try_accept(&ring) | try_skip(&ring, pair[1]);
        close(pair[0]);
        close(pair[1]);
    }
    io_uring_queue_exit(&ring);
    if (page != MAP_FAILED)
        munmap(page, PROBE_BYTES);
    if (!(wanted & PRO_FEATURE_BUFFER_RING))
        works &= ~(uint64_t)PRO_FEATURE_RECV_MULTISHOT; /* which stands on it */
    *ret_features = works & wanted;
    return 0;
}
