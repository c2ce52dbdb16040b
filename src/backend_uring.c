/* The proactor: SQE preparation and CQE reaping, nothing else.
 *
 *      start --> SQE --.                                          user_data
 *      cancel -> SQE --+--> one io_uring_enter a turn --> CQEs      operation        its own completions
 *                      '    (submits, waits, in one)       |        operation | 1    the cancel of it
 *                                 |                        |        operation | 4    a send that is tried
 *      reap  <-- no CQE: sent ----'                        |        WAKER            another thread's eventfd
 *        ^------ one at a time ----------------------------'        ALARM            a distant deadline
 *
 * The happy path: an SQE for every operation started, in one system call that also waits; its CQE becomes an event. A
 * multishot receive takes its memory from a ring of the pool's buffers, which is filled up before every enter.
 *
 * A send that is tried makes no CQE if all of it went (IOSQE_CQE_SKIP_SUCCESS): with MSG_DONTWAIT the kernel has done with
 * it before io_uring_enter returns, and with MSG_WAITALL anything less is a failure, which does make one. So when the
 * kernel has taken the SQE, and no CQE, overflow included, says otherwise, the bytes are sent, and the memory comes back
 * in the same turn. As no CQE will end a sleep either, one must not sleep on such a send unless it is lazy.
 *
 * A handle that streams, that is, whose receives bring much at once, leaves its multishot receive for single ones. A
 * multishot one fills its buffers as fast as the kernel can, sixteen connections' worth in one enter, and when the answers
 * are sent all of that has left the cache again. So a poll tells that there is data, the handle stands in line, and each
 * enter receives for one of them, beside the sends that the last one led to.
 *
 * When an operation is over. An operation may be known to the kernel twice: by its own request (PROI_KERNEL) and by a
 * cancel that names it (PROI_KCANCEL). Both answer with a CQE, in either order, and until both have, the operation's
 * memory must not be used for another: the cancel would hit that. So a result that comes first is HELD.
 *
 * Possible failure modes. The submission queue is full: it is submitted, and if even that fails the core asks again
 * next turn. The completion queue overflows: the kernel keeps the rest and hands it over at the next enter. The buffer
 * ring is empty: -ENOBUFS, the core parks the receive, and the ring is kept fuller from then on. A non-blocking
 * descriptor that io_uring will not poll for us says -EAGAIN: a poll goes before the next attempt (PROI_POLLING). Where
 * the kernel has no buffer rings, a poll goes before every receive, so that no memory is held while there is no data. */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "embed.h"
#include "loop.h"
#include "pool.h"
#include "post.h"
#include "sigpipe.h"
#include "uring_probe.h"

enum {
    DEFAULT_ENTRIES = 256,
    LEAST_COMPLETIONS = 1024,
    MESSAGES = 32,   /* gathered sends between two submissions */
    BATCH = 64,      /* completions that a minimum wait waits for */
    LOOKS = 64,      /* between two looks at the clock, which costs more */
    FIRST_LEVEL = 4, /* buffers in the ring to begin with: few stay warm in the cache */
    TAG_CANCEL = 1,  /* in the low bits of user_data */
    TAG_TRIED = 4,
    TAGS = 7,
    DRAINED = 0, /* no operation has these addresses */
    ALARM = 1,
    WAKER = 2,
    NOBODY = 3,
    STREAM_FROM = 32 * 1024,            /* bytes in one piece that make a handle one that streams, ... */
    STREAM_UNTIL = 4,                   /* ... and so many in a row that do not, make an end of that */
    TRIED_MOST = 1 << 30,               /* bytes: the kernel cuts what is near 2 GiB, and calls that a success */
    ROOM = POLLOUT | POLLERR | POLLHUP, /* a send will not find the socket full */
};

/* The kernel adds to the time a wait may last without a look at what its own holds. */
#define LONGEST_NS (UINT64_C(1) << 61)
#define FAR_NS     UINT64_C(1000000000) /* deadlines that are meant never to pass are this far away */

/* Tells the processor that this loop only waits. */
#if defined(__x86_64__) || defined(__i386__)
#define relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define relax() __asm__ volatile("yield")
#else
#define relax() ((void)0)
#endif

/* handle->backend_flags */
enum {
    ASKED = 1 << 0,       /* it was looked up whether ... */
    BLOCKING = 1 << 1,    /* ... it is a terminal that may block a writer */
    STREAMS = 1 << 2,     /* it receives one piece at a time */
    SMALL_PIECE = 1 << 8, /* counted from this bit on: small pieces in a row */
};

struct message {
    struct msghdr header;
    struct iovec iovs[PROI_GATHER];
};

/* A pool as this ring knows it. */
struct group {
    struct io_uring_buf_ring *ring;
    uint32_t entries;
    uint32_t filled;  /* buffers in the ring */
    uint32_t level;   /* how many there should be, ... */
    uint32_t most;    /* ... and at most: others of the pool are for single receives */
    uint32_t stocked; /* the level it was last filled to: a shortage that many receives meet raises it once */
    uint32_t first;   /* the level it began with, and falls back to */
    uint32_t least;   /* that were filled when it was looked at, since the level was last lowered or left */
    uint16_t id;
    bool keeps; /* a buffer was asked back and did not come, so it is not asked again until the level rises */
};

struct uring {
    struct io_uring ring;
    uint64_t features;
    uint32_t limit;            /* CQEs that were there when wait() returned */
    uint32_t seen;             /* CQEs up to here have been looked through for sends that were tried and fell short */
    uint32_t lazy, prompt;     /* of `tried`: those that a sleep may delay, and those that it may not */
    struct proi_queue tried;   /* sends since the last enter, in the order of their SQEs */
    struct proi_queue done;    /* for reap(): sends that went, receives that left `streams`; the result is in `res` */
    struct proi_queue streams; /* receives that know of data and wait for their turn */
    uint32_t messages;         /* used since the last submission */
    uint32_t writes;           /* in flight, which may raise SIGPIPE */
    uint32_t drains;           /* CQEs to come that take buffers back ... */
    struct pro_pool *drained;  /* ... from this pool's ring; NULL: it has been forgotten */
    uint32_t min_wait_us;
    uint64_t alarm_at; /* UINT64_MAX: none stands */
    struct __kernel_timespec alarm;
    int waker;   /* -1: none */
    int eventfd; /* signalled at completions, for pro_loop_fd; -1: none */
    bool waker_armed, nosignal, registers;
    struct proi_embed embed;
    struct message message[MESSAGES];
};

static struct uring *state(const struct pro_loop *loop)
{
    return loop->backend_state;
}

/* --- submission ---------------------------------------------------------------------------------------------------- */

/* The kernel has its own copy of the messages of what it took off the queue; what it left still points to ours. */
static void note_submitted(struct uring *u)
{
    if (io_uring_sq_ready(&u->ring) == 0)
        u->messages = 0;
}

static void submit(struct uring *u)
{
    io_uring_submit(&u->ring);
    note_submitted(u);
}

/* NULL when the kernel takes none off the queue. */
static struct io_uring_sqe *get_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe)
        return sqe;
    submit(u);
    return io_uring_get_sqe(&u->ring);
}

/* What is prepared for one operation. */
struct prepare {
    struct uring *u;
    struct pro_op *op;
    struct io_uring_sqe *sqe;
    int fd;
};

static void prepare_recv(const struct prepare *p)
{
    uint32_t moved = p->op->u.io.moved;
    char *data = p->op->u.io.data;
    io_uring_prep_recv(p->sqe, p->fd, data + moved, p->op->u.io.size - moved,
                       p->op->flags & PROI_ALL ? MSG_WAITALL : 0);
}

static uint32_t piece(const struct pro_op *op)
{
    uint32_t credit = op->u.stream.credit, buffer = op->u.stream.pool->buffer_size;
    return credit < buffer ? credit : buffer;
}

/* The kernel looks at the limit between two pieces, so the last one may go beyond it by all but one byte of a buffer
 * (measured on 6.18). A limit of that much less than the window is exact; a window of a buffer or less is one piece. */
static void prepare_recv_multi(const struct prepare *p)
{
    struct pro_pool *pool = p->op->u.stream.pool;
    const struct group *group = pool->backend_state;
    struct pro_buffer *buffer = (void *)(uintptr_t)p->op->u.stream.reserved;
    if (buffer) { /* the data is there */
        io_uring_prep_recv(p->sqe, p->fd, buffer->data, piece(p->op), MSG_DONTWAIT);
        return;
    }
    bool multishot = p->u->features & PRO_FEATURE_RECV_MULTISHOT && p->op->u.stream.armed > pool->buffer_size;
    io_uring_prep_recv(p->sqe, p->fd, NULL, multishot ? 0 : piece(p->op), 0);
    p->sqe->flags |= IOSQE_BUFFER_SELECT;
    p->sqe->buf_group = group->id;
    if (multishot) {
        p->sqe->ioprio |= IORING_RECV_MULTISHOT;
        proi_sqe_limit(p->sqe, p->op->u.stream.armed - pool->buffer_size + 1);
    }
}

static void prepare_accept(const struct prepare *p)
{
    io_uring_prep_accept(p->sqe, p->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (p->op->code == PROI_ACCEPT_MULTI && p->u->features & PRO_FEATURE_ACCEPT_MULTISHOT)
        p->sqe->ioprio |= IORING_ACCEPT_MULTISHOT;
}

static void prepare_connect(const struct prepare *p)
{
    io_uring_prep_connect(p->sqe, p->fd, p->op->u.io.data, p->op->u.io.size);
}

/* Until the next submission the kernel reads the message from here; then it has its own copy. Returns whether all that
 * is to be sent is in it. */
static bool prepare_message(const struct prepare *p, struct message *message, unsigned flags)
{
    const struct pro_slice *slice = NULL;
    message->header = (struct msghdr){.msg_iov = p->op->u.io.data, .msg_iovlen = p->op->u.io.size};
    if (p->op->code == PROI_SEND_SLICES) {
        size_t n = 0;
        for (slice = p->op->u.io.data; slice && n < PROI_GATHER; slice = slice->next)
            message->iovs[n++] = (struct iovec){slice->data, slice->size};
        message->header.msg_iov = message->iovs;
        message->header.msg_iovlen = n;
        flags |= slice ? MSG_MORE : 0;
    }
    io_uring_prep_sendmsg(p->sqe, p->fd, &message->header, flags);
    return !slice;
}

/* Without a CQE if it goes well; see settle(). Its place in the queue is kept in `res`. */
static void try_send(const struct prepare *p)
{
    struct uring *u = p->u;
    if (!u->tried.head)
        u->seen = io_uring_smp_load_acquire(u->ring.cq.ktail);
    p->op->res = (int32_t)(u->ring.sq.sqe_tail - 1);
    p->op->flags |= PROI_INQUEUE;
    proi_queue_push(&u->tried, p->op);
    ++*(p->op->flags & PROI_LAZY ? &u->lazy : &u->prompt);
    p->sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

/* MSG_DONTWAIT, because the kernel's own waiting is a trap: it polls for EPOLLRDHUP too, so for a peer that has shut its
 * write side it tries 128 times in vain and then puts a thread to sleep in sendmsg, one for each such connection; and
 * while it tries, a cancel does not find the request (measured: 6.18). We wait, see translate(). */
static void prepare_send(const struct prepare *p)
{
    unsigned flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL | (p->op->flags & PROI_ALL ? MSG_MORE : 0u);
    const struct iovec *iov = p->op->u.io.data;
    const struct pro_slice *slice = p->op->u.io.data;
    bool whole = p->op->u.io.offset <= TRIED_MOST;
    if (p->op->code == PROI_SEND && p->op->u.io.size == 1)
        io_uring_prep_send(p->sqe, p->fd, iov->iov_base, iov->iov_len, (int)flags);
    else if (p->op->code == PROI_SEND_SLICES && !slice->next)
        io_uring_prep_send(p->sqe, p->fd, slice->data, slice->size, (int)flags);
    else
        whole &= prepare_message(p, &p->u->message[p->u->messages++], flags);
    if (whole && p->u->features & PRO_FEATURE_SKIP_SUCCESS)
        try_send(p);
}

static void prepare_read(const struct prepare *p)
{
    io_uring_prep_read(p->sqe, p->fd, p->op->u.io.data, p->op->u.io.size, p->op->u.io.offset);
}

/* A terminal without O_NONBLOCK says that it is writable and then blocks the caller, which would be the loop. */
static bool may_block(struct pro_handle *handle)
{
    if (!(handle->backend_flags & ASKED)) {
        int flags = fcntl(handle->fd, F_GETFL);
        handle->backend_flags = (uint16_t)(ASKED | (!(flags & O_NONBLOCK) && isatty(handle->fd) ? BLOCKING : 0));
    }
    return handle->backend_flags & BLOCKING;
}

static void prepare_write(const struct prepare *p)
{
    uint32_t moved = p->op->u.io.moved;
    uint64_t offset = p->op->u.io.offset == PRO_STREAM ? PRO_STREAM : p->op->u.io.offset + moved;
    io_uring_prep_write(p->sqe, p->fd, (char *)p->op->u.io.data + moved, p->op->u.io.size - moved, offset);
    if (p->u->nosignal)
        p->sqe->rw_flags = RWF_NOSIGNAL;
    if (may_block(p->op->owner.handle))
        p->sqe->flags |= IOSQE_ASYNC; /* so a thread of the kernel's does it */
}

static void prepare_shutdown(const struct prepare *p)
{
    io_uring_prep_shutdown(p->sqe, p->fd, (int)p->op->u.io.size);
}

static void prepare_poll(const struct prepare *p)
{
    io_uring_prep_poll_add(p->sqe, p->fd, p->op->u.io.size);
    if (p->op->code == PROI_POLL_MULTI)
        p->sqe->len = IORING_POLL_ADD_MULTI;
}

static void prepare_close(const struct prepare *p)
{
    io_uring_prep_close(p->sqe, p->fd);
}

static const struct {
    void (*prepare)(const struct prepare *p);
    short waits; /* what to poll for when it says EAGAIN */
} rows[PROI_CODES] = {
    [PROI_RECV] = {prepare_recv, POLLIN},     [PROI_RECV_MULTI] = {prepare_recv_multi, POLLIN},
    [PROI_ACCEPT] = {prepare_accept, POLLIN}, [PROI_ACCEPT_MULTI] = {prepare_accept, POLLIN},
    [PROI_READ] = {prepare_read, POLLIN},     [PROI_CONNECT] = {prepare_connect, POLLOUT},
    [PROI_SEND] = {prepare_send, POLLOUT},    [PROI_SEND_SLICES] = {prepare_send, POLLOUT},
    [PROI_WRITE] = {prepare_write, POLLOUT},  [PROI_SHUTDOWN] = {prepare_shutdown, 0},
    [PROI_POLL] = {prepare_poll, 0},          [PROI_POLL_MULTI] = {prepare_poll, 0},
    [PROI_CLOSE] = {prepare_close, 0},
};

/* --- buffers ---------------------------------------------------------------------------------------------------------- */

/* Moves free buffers of the pool into the kernel's ring, up to the level. */
static void fill(struct pro_pool *pool, struct group *group)
{
    int added = 0;
    int mask = io_uring_buf_ring_mask(group->entries);
    group->stocked = group->level;
    if (group->filled < group->least)
        group->least = group->filled;
    while (group->filled < group->level) {
        struct pro_buffer *buffer = proi_pool_take(pool);
        if (!buffer)
            break;
        io_uring_buf_ring_add(group->ring, buffer->data, pool->buffer_size, (unsigned short)buffer->id, mask, added++);
        group->filled++;
    }
    if (added)
        io_uring_buf_ring_advance(group->ring, added);
}

static uint16_t unused_group(const struct pro_loop *loop)
{
    for (uint16_t id = 0;; id++) {
        bool used = false;
        for (const struct pro_pool *pool = loop->pools; pool && !used; pool = pool->next)
            used = pool->backend_state && ((const struct group *)pool->backend_state)->id == id;
        if (!used)
            return id;
    }
}

static size_t ring_size(uint32_t entries)
{
    return entries * sizeof(struct io_uring_buf);
}

/* Gives the pool a ring; without effect where that is refused. */
static void open_group(struct pro_loop *loop, struct pro_pool *pool)
{
    struct uring *u = state(loop);
    uint32_t entries = 1;
    while (entries < pool->max_buffers)
        entries *= 2;
    struct group *group = proi_alloc(&loop->allocator, sizeof *group, _Alignof(struct group));
    void *ring = group ? proi_alloc(&loop->allocator, ring_size(entries), 4096) : NULL;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)ring, .ring_entries = entries, .bgid = unused_group(loop)};
    if (!ring || io_uring_register_buf_ring(&u->ring, &reg, 0) < 0) {
        proi_free(&loop->allocator, ring, ring_size(entries));
        proi_free(&loop->allocator, group, sizeof *group);
        return;
    }
    io_uring_buf_ring_init(ring);
    uint32_t level = FIRST_LEVEL < pool->max_buffers ? FIRST_LEVEL : pool->max_buffers;
    uint32_t most = pool->max_buffers > 2 * level ? pool->max_buffers / 2 : level;
    *group = (struct group){.ring = ring, .entries = entries, .level = level, .first = level, .most = most};
    group->id = reg.bgid;
    pool->keep += level;
    pool->backend_state = group;
}

/* Takes `count` buffers back from the ring, if it can. Only the kernel may: it takes them off at any time, and where it
 * gave up polling for a receive, a thread of its own holds one and writes to it. So it is asked to read something into
 * them, namely from a counter that has as much, and says which they were. That is done when submit() returns, and
 * nothing is left in the queue for a ring of another pool with the same number. */
static void drain(struct uring *u, struct pro_pool *pool, uint32_t count)
{
    struct group *group = pool->backend_state;
    struct io_uring_sq *sq = &u->ring.sq;
    uint32_t room = io_uring_sq_space_left(&u->ring);
    if (u->drains > 0 || io_uring_sq_ready(&u->ring) > 0)
        return;
    count = count < room ? count : room;
    int fd = eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    group->keeps = fd < 0;
    if (fd < 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        io_uring_prep_read(sqe, fd, NULL, sizeof(uint64_t), PRO_STREAM);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = group->id;
        sqe->user_data = DRAINED;
    }
    u->drained = pool;
    u->drains = count;
    submit(u);
    for (unsigned at = *sq->khead; at != sq->sqe_tail; at++) {
        io_uring_prep_nop(&sq->sqes[at & sq->ring_mask]); /* which the kernel did not take */
        sq->sqes[at & sq->ring_mask].user_data = DRAINED;
    }
    close(fd);
}

static void on_drained(struct uring *u, const struct io_uring_cqe *cqe)
{
    proi_assert(u->drains > 0);
    u->drains--;
    struct pro_pool *pool = u->drained;
    struct group *group = pool ? pool->backend_state : NULL;
    if (!group)
        return;
    if (!(cqe->flags & IORING_CQE_F_BUFFER)) {
        group->keeps = true;
        return;
    }
    group->filled--;
    proi_pool_chill(proi_pool_buffer(pool, cqe->flags >> IORING_CQE_BUFFER_SHIFT));
    proi_pool_wake(pool);
}

/* A level of which less than a quarter was used at a time since the last call falls to twice what was. A shortage raises
 * it again, so a wrong guess costs little. */
static bool uring_tidy_pool(struct pro_loop *loop, struct pro_pool *pool)
{
    struct group *group = pool->backend_state;
    if (!group)
        return false;
    uint32_t used = group->level - (group->least < group->level ? group->least : group->level);
    if (used < group->level / 4 && group->level > group->first)
        group->level = 2 * used > group->first ? 2 * used : group->first;
    group->least = group->level;
    bool more = group->filled > group->level && !group->keeps;
    if (more)
        drain(state(loop), pool, group->filled - group->level);
    return group->level > group->first || more;
}

static void uring_forget_pool(struct pro_loop *loop, struct pro_pool *pool)
{
    struct uring *u = state(loop);
    struct group *group = pool->backend_state;
    if (!group)
        return;
    if (*loop->guard) /* a forked child shares the parent's ring */
        io_uring_unregister_buf_ring(&u->ring, group->id);
    if (u->drained == pool)
        u->drained = NULL;
    proi_pool_reclaim(pool);
    pool->keep -= group->first;
    proi_free(&loop->allocator, group->ring, ring_size(group->entries));
    proi_free(&loop->allocator, group, sizeof *group);
    pool->backend_state = NULL;
}

/* Memory for a receive that starts: 0 or -ENOBUFS. Without a buffer ring it is first asked whether there is data. */
static int provide(struct pro_loop *loop, struct pro_op *op)
{
    struct pro_pool *pool = op->u.stream.pool;
    if (!pool->backend_state && state(loop)->features & PRO_FEATURE_BUFFER_RING)
        open_group(loop, pool);
    struct group *group = pool->backend_state;
    uint16_t *mode = &op->owner.handle->backend_flags;
    if (group && *mode & STREAMS && !proi_pool_stock(pool))
        *mode &= (uint16_t)~STREAMS; /* what the pool has is in the ring */
    if (group && !(*mode & STREAMS)) {
        op->flags &= (uint16_t)~PROI_PRIVATE;
        fill(pool, group);
        return group->filled > 0 ? 0 : -ENOBUFS;
    }
    if (!(op->flags & PROI_PRIVATE)) {
        op->flags |= PROI_POLLING;
        return proi_pool_stock(pool) ? 0 : -ENOBUFS;
    }
    op->flags &= (uint16_t)~PROI_PRIVATE;
    op->u.stream.reserved = (uintptr_t)proi_pool_take(pool);
    return op->u.stream.reserved ? 0 : -ENOBUFS;
}

/* The slice for `res` bytes, or NULL; takes a buffer that was not filled back. */
static struct pro_slice *received(struct pro_op *op, int res, unsigned flags)
{
    struct pro_pool *pool = op->u.stream.pool;
    struct group *group = pool->backend_state;
    struct pro_buffer *buffer = (void *)(uintptr_t)op->u.stream.reserved;
    if (flags & IORING_CQE_F_BUFFER) {
        buffer = proi_pool_buffer(pool, flags >> IORING_CQE_BUFFER_SHIFT);
        group->filled--;
    } else if (group && res == -ENOBUFS && group->level == group->stocked && group->level < group->most) {
        group->least = 0;
        group->keeps = false;
        group->level = group->level * 2 < group->most ? group->level * 2 : group->most;
    }
    op->u.stream.reserved = 0;
    if (buffer && res > 0)
        return proi_pool_lend(buffer, op->owner.handle, (uint32_t)res);
    if (buffer)
        proi_pool_give(buffer);
    return NULL;
}

/* What a piece of `bytes` says about its handle. */
static void adapt(struct pro_loop *loop, struct pro_op *op, int bytes, unsigned flags)
{
    uint16_t *mode = &op->owner.handle->backend_flags;
    if (bytes >= STREAM_FROM) {
        *mode = (uint16_t)((*mode & (SMALL_PIECE - 1)) | STREAMS);
        if (flags & IORING_CQE_F_MORE)
            proi_op_recall(loop, op);
        else if (flags & IORING_CQE_F_SOCK_NONEMPTY)
            op->flags |= PROI_PRIVATE; /* no poll is needed */
    } else if (*mode & STREAMS && bytes > 0) {
        *mode = (uint16_t)(*mode + SMALL_PIECE);
        if (*mode / SMALL_PIECE == STREAM_UNTIL)
            *mode &= (uint16_t)((SMALL_PIECE - 1) & ~STREAMS);
    }
}

/* --- start, cancel ------------------------------------------------------------------------------------------------------ */

/* An SQE for the request of `op`, or for the poll that goes before it. */
static int prepare(struct pro_loop *loop, struct pro_op *op)
{
    struct uring *u = state(loop);
    if (u->messages == MESSAGES)
        submit(u);
    struct io_uring_sqe *sqe = u->messages < MESSAGES ? get_sqe(u) : NULL;
    if (!sqe)
        return -EAGAIN;
    int r = op->code == PROI_RECV_MULTI && !(op->flags & PROI_POLLING) ? provide(loop, op) : 0;
    struct prepare p = {u, op, sqe, op->owner.handle->fd};
    if (r < 0) {
        io_uring_prep_nop(sqe); /* it is taken, and cannot be given back */
        sqe->user_data = NOBODY;
        return r;
    }
    if (!(op->flags & PROI_POLLING))
        rows[op->code].prepare(&p);
    else if (op->flags & PROI_PRIVATE)
        io_uring_prep_poll_multishot(sqe, p.fd, (unsigned)rows[op->code].waits);
    else
        io_uring_prep_poll_add(sqe, p.fd, (unsigned)rows[op->code].waits);
    sqe->user_data = (uintptr_t)op | (sqe->flags & IOSQE_CQE_SKIP_SUCCESS ? TAG_TRIED : 0);
    op->flags |= PROI_KERNEL;
    u->writes += op->code == PROI_WRITE;
    return 0;
}

/* The receive of a handle that streams, once there is data. */
static bool stands_in_line(const struct pro_op *op)
{
    return op->code == PROI_RECV_MULTI && (op->flags & (PROI_PRIVATE | PROI_POLLING)) == PROI_PRIVATE &&
           op->owner.handle->backend_flags & STREAMS;
}

static int uring_start(struct pro_loop *loop, struct pro_op *op)
{
    struct uring *u = state(loop);
    if (!stands_in_line(op))
        return prepare(loop, op);
    op->flags |= PROI_INQUEUE;
    proi_queue_push(&u->streams, op);
    return 0;
}

/* Receives for the first in line; true if that leaves some. */
static bool receive_next(struct pro_loop *loop)
{
    struct uring *u = state(loop);
    struct pro_op *op = proi_queue_pop(&u->streams);
    if (!op)
        return false;
    op->flags &= (uint16_t)~PROI_INQUEUE;
    op->res = op->flags & PROI_ASKED ? -ECANCELED : prepare(loop, op);
    if (op->res < 0) {
        op->flags |= PROI_INQUEUE;
        proi_queue_push(&u->done, op);
    }
    return u->streams.head;
}

static int uring_cancel(struct pro_loop *loop, struct pro_op *op)
{
    bool tried = rows[op->code].prepare == prepare_send && !(op->flags & PROI_POLLING);
    bool in_line = op->flags & PROI_INQUEUE && !(op->flags & PROI_KERNEL);
    if (op->flags & PROI_KCANCEL || tried || in_line)
        return 0; /* one is under way, or it will be back after the next enter whatever comes of it */
    struct io_uring_sqe *sqe = get_sqe(state(loop));
    if (!sqe)
        return -EAGAIN;
    if (op->flags & PROI_PRIVATE && op->code == PROI_POLL_MULTI) { /* the kernel does not have it, see always_ready */
        io_uring_prep_nop(sqe);
        sqe->user_data = (uintptr_t)op;
        op->flags |= PROI_KERNEL;
        return 0;
    }
    proi_assert(op->flags & PROI_KERNEL);
    io_uring_prep_cancel64(sqe, (uintptr_t)op, 0);
    sqe->user_data = (uintptr_t)op | TAG_CANCEL;
    op->flags |= PROI_KCANCEL;
    return 0;
}

/* --- completion ----------------------------------------------------------------------------------------------------------- */

/* The cancel of `op` is done with. It may have found nothing though the request is there: one that is being tried again
 * stands in no list of the kernel's for a moment. Then it is asked for once more. */
static bool on_cancel(struct pro_loop *loop, struct pro_op *op, int res, struct proi_event *ret_event)
{
    op->flags &= (uint16_t)~PROI_KCANCEL;
    if (op->flags & PROI_KERNEL && res == -ENOENT) {
        op->flags &= (uint16_t)~PROI_ASKED;
        proi_op_recall(loop, op);
        return false;
    }
    if (!(op->flags & PROI_HELD))
        return false;
    op->flags &= (uint16_t)~PROI_HELD;
    *ret_event = (struct proi_event){.op = op, .res = op->res};
    return true;
}

/* Keeps the result of `op` until the cancel that names it is done with; what a multishot brings is not kept. */
static bool hold(struct pro_op *op, struct proi_event *ret_event)
{
    bool brings = proi_row(op)->multi && (ret_event->res > 0 || (ret_event->res == 0 && op->code == PROI_ACCEPT_MULTI));
    op->flags |= PROI_HELD;
    op->res = brings ? -ECANCELED : ret_event->res;
    ret_event->more = brings;
    return brings;
}

/* The poll that goes before an operation has ended: now the operation itself. But a poll for room also ends when the
 * peer has shut its write side, and would at once for ever. Then it is a multishot one, which reports changes
 * (PROI_PRIVATE); on_cqe() calls it back when there is room. */
static int polled(struct pro_op *op, int res)
{
    bool sends = rows[op->code].waits == POLLOUT, changes = op->flags & PROI_PRIVATE;
    op->flags &= (uint16_t) ~(PROI_POLLING | PROI_PRIVATE);
    if (res < 0)
        return res;
    if (op->code == PROI_RECV_MULTI)
        op->flags |= PROI_PRIVATE; /* there is data, see provide() */
    else if (sends && !changes && !(res & ROOM))
        op->flags |= PROI_POLLING | PROI_PRIVATE;
    return -EAGAIN;
}

/* What was sent fell short: the rest waits for room without trying first. */
static bool fell_short(const struct pro_op *op, int res)
{
    return (op->code == PROI_SEND || op->code == PROI_SEND_SLICES) && res > 0 && (uint64_t)res < op->u.io.offset;
}

static int translate(struct pro_op *op, int res)
{
    if (op->flags & PROI_POLLING)
        return polled(op, res);
    if (op->code == PROI_POLL_MULTI && op->flags & PROI_PRIVATE)
        return -ECANCELED;
    if (res == -EAGAIN && op->code == PROI_CONNECT)
        return -ECONNREFUSED; /* a Unix listener's full backlog, of which no poll tells */
    if ((res == -EAGAIN && rows[op->code].waits) || fell_short(op, res))
        op->flags |= PROI_POLLING;
    return res;
}

/* Whether nothing about the descriptor can ever change, which is what epoll refuses to watch. A multishot poll of such
 * a one ends at once, and would for ever if it were started again. */
static bool always_ready(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool refused = epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 && errno == EPERM;
    if (epoll >= 0)
        close(epoll);
    return refused;
}

/* A multishot poll has left the kernel: true if it stays where it is, with nothing more to tell. */
static bool poll_stays(struct pro_op *op, int res)
{
    if (op->code != PROI_POLL_MULTI || op->flags & PROI_CANCEL || res <= 0 || !always_ready(op->owner.handle->fd))
        return false;
    op->flags |= PROI_PRIVATE;
    return true;
}

/* A piece for a multishot receive that goes on as it is. */
static bool receives_on(const struct pro_op *op, const struct io_uring_cqe *cqe)
{
    return op->code == PROI_RECV_MULTI && cqe->flags & IORING_CQE_F_MORE && cqe->res > 0 && cqe->res < STREAM_FROM &&
           !(op->flags & PROI_POLLING) && !(op->owner.handle->backend_flags & STREAMS);
}

/* Whether the CQE makes an event. */
static bool on_cqe(struct pro_loop *loop, const struct io_uring_cqe *cqe, struct proi_event *ret_event)
{
    struct uring *u = state(loop);
    uint64_t data = cqe->user_data;
    struct pro_op *op = (struct pro_op *)(uintptr_t)(data & ~(uint64_t)TAGS);
    if (data == WAKER)
        u->waker_armed = cqe->flags & IORING_CQE_F_MORE;
    if (data == ALARM)
        u->alarm_at = UINT64_MAX;
    if (!op) {
        if (data == DRAINED)
            on_drained(u, cqe);
        return false;
    }
    if (data & TAG_CANCEL)
        return on_cancel(loop, op, cqe->res, ret_event);
    if (receives_on(op, cqe)) { /* what most of them say, without what the others need */
        *ret_event = (struct proi_event){op, received(op, cqe->res, cqe->flags), cqe->res, true};
        return true;
    }
    if (op->flags & PROI_POLLING && cqe->flags & IORING_CQE_F_MORE) {
        if (cqe->res & ROOM)
            proi_op_recall(loop, op);
        return false;
    }
    bool receives = op->code == PROI_RECV_MULTI && !(op->flags & PROI_POLLING);
    *ret_event = (struct proi_event){.op = op, .more = cqe->flags & IORING_CQE_F_MORE};
    if (receives) {
        ret_event->slice = received(op, cqe->res, cqe->flags);
        adapt(loop, op, cqe->res, cqe->flags);
    }
    ret_event->res = translate(op, cqe->res);
    if (ret_event->more)
        return true;
    op->flags &= (uint16_t)~PROI_KERNEL;
    u->writes -= op->code == PROI_WRITE;
    if (op->flags & PROI_KCANCEL)
        return hold(op, ret_event);
    ret_event->more = poll_stays(op, ret_event->res);
    return true;
}

/* Of its own, so that the short way of uring_reap() stays short. */
__attribute__((noinline)) static bool reap_cqe(struct pro_loop *loop, struct proi_event *ret_event)
{
    struct uring *u = state(loop);
    struct io_uring_cq *cq = &u->ring.cq;
    bool event = false;
    while (!event && u->limit > 0) {
        unsigned head = *cq->khead;
        u->limit--;
        event = on_cqe(loop, &cq->cqes[head & cq->ring_mask], ret_event);
        io_uring_smp_store_release(cq->khead, head + 1);
    }
    return event;
}

static bool uring_reap(struct pro_loop *loop, struct proi_event *ret_event)
{
    struct uring *u = state(loop);
    struct pro_op *done = proi_queue_pop(&u->done);
    if (!done)
        return reap_cqe(loop, ret_event);
    done->flags &= (uint16_t) ~(PROI_INQUEUE | PROI_KERNEL);
    *ret_event = (struct proi_event){.op = done, .res = done->res};
    return true;
}

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

static void arm_waker(struct uring *u)
{
    struct io_uring_sqe *sqe = u->waker >= 0 && !u->waker_armed ? get_sqe(u) : NULL;
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
    struct uring *u = state(loop);
    if (until >= u->alarm_at)
        return true;
    uint64_t now = until - loop->now < FAR_NS ? until : proi_kernel_now(loop);
    struct io_uring_sqe *sqe = now < until ? get_sqe(u) : NULL;
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
    struct uring *u = state(loop);
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
    struct uring *u = state(loop);
    struct proi_sigpipe held;
    if (u->nosignal || u->writes == 0)
        return enter(loop, until);
    proi_sigpipe_hold(&held);
    int r = enter(loop, until);
    proi_sigpipe_release(&held);
    return r;
}

static bool passes(int error)
{
    return error == -EINTR || error == -ETIME || error == -EAGAIN || error == -EBUSY || error == -ENOMEM;
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

/* Whether a sleep keeps nobody waiting for the end of a send: its continuation; a run that ends when something has
 * happened; or the program, if such sends are all it has. */
static bool may_sleep(const struct pro_loop *loop)
{
    const struct uring *u = state(loop);
    bool others = loop->stats.in_flight - loop->background > u->lazy;
    return u->prompt == 0 && (u->lazy == 0 || (others && !loop->once));
}

/* What comes before every system call that submits. */
static int prepare_enter(const struct pro_loop *loop)
{
    struct uring *u = state(loop);
    int r = renew_eventfd(u);
    clear_waker(u);
    if (r < 0)
        return r;
    arm_waker(u);
    for (struct pro_pool *pool = loop->pools; pool; pool = pool->next)
        if (pool->backend_state && pool->receives > 0)
            fill(pool, pool->backend_state);
    return 0;
}

/* After every system call that submits: what is there to reap. */
static void after_enter(struct pro_loop *loop)
{
    struct uring *u = state(loop);
    note_submitted(u);
    if (io_uring_sq_ready(&u->ring) > 0)
        note_waiting(loop, u);
    unsigned tail = io_uring_smp_load_acquire(u->ring.cq.ktail);
    if (u->tried.head)
        settle(u, tail);
    u->limit = tail - *u->ring.cq.khead;
}

static int uring_wait(struct pro_loop *loop, uint64_t until)
{
    struct uring *u = state(loop);
    int r = prepare_enter(loop);
    if (r < 0)
        return r;
    bool more = receive_next(loop), ready = more || io_uring_cq_ready(&u->ring) > 0 || u->done.head;
    loop->stats.overflows += io_uring_cq_has_overflow(&u->ring);
    if (!ready || io_uring_sq_ready(&u->ring) > 0 || u->tried.head) {
        r = enter_quietly(loop, ready || !may_sleep(loop) ? 0 : until);
        loop->stats.waits++;
    }
    after_enter(loop);
    return r >= 0 || passes(r) ? 0 : r;
}

/* Whether there are completions, or the kernel would make some if it were asked. Read from memory. */
static bool has_news(const struct uring *u)
{
    unsigned asks = IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    return asks || io_uring_cq_ready(&u->ring) > 0 || u->done.head;
}

/* No system call but the one that submits, if there is something to submit. */
static bool uring_spin(struct pro_loop *loop, uint64_t until)
{
    struct uring *u = state(loop);
    if (prepare_enter(loop) < 0)
        return true; /* the wait that follows says what is wrong */
    bool pending = io_uring_sq_ready(&u->ring) > 0 || u->streams.head;
    if (pending && uring_wait(loop, 0) < 0)
        return true;
    uint64_t now = proi_kernel_now(loop), end = now + loop->spin_ns;
    for (end = end < until ? end : until; now < end; now = proi_kernel_now(loop)) {
        for (unsigned i = 0; i < LOOKS; i++) {
            if (has_news(u) || proi_post_pending(loop))
                return true;
            relax();
        }
    }
    return false;
}

static int uring_waker(struct pro_loop *loop)
{
    struct uring *u = state(loop);
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

static int uring_pollable(struct pro_loop *loop)
{
    struct uring *u = state(loop);
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

static void uring_pollable_arm(struct pro_loop *loop, uint64_t until)
{
    struct uring *u = state(loop);
    bool work = io_uring_cq_ready(&u->ring) > 0 || io_uring_sq_ready(&u->ring) > 0 || u->tried.head || u->done.head ||
                u->streams.head || io_uring_cq_has_overflow(&u->ring);
    proi_embed_arm(&u->embed, work ? 0 : until);
}

/* --- set-up ---------------------------------------------------------------------------------------------------------------- */

/* Adds the names of `features` to those of the `others`, which are there. */
static void describe(struct pro_loop *loop, uint64_t others, uint64_t features)
{
    const char *name;
    for (unsigned bit = 0; (name = proi_uring_feature_name(bit)) != NULL; bit++) {
        if (!(features & 1u << bit))
            continue;
        proi_describe(loop, "%s%s", others ? ", " : ": ", name);
        others |= features;
    }
}

static int setup(struct uring *u, const struct pro_config *config)
{
    unsigned entries = config->entries ? config->entries : DEFAULT_ENTRIES;
    unsigned completions = config->completion_entries;
    uint64_t wanted = ~config->features_off & ~(config->min_wait_us ? 0 : (uint64_t)PRO_FEATURE_MIN_WAIT), others;
    if (!completions)
        completions = entries * 4 > LEAST_COMPLETIONS ? entries * 4 : LEAST_COMPLETIONS;
    if (completions < entries) /* which the kernel would refuse */
        completions = entries;
    int r = proi_uring_try(wanted, &others);
    if (r == 0)
        r = proi_uring_setup(&u->ring, entries, completions, wanted, config->spin_us > 0, &u->features);
    if (r < 0)
        return r;
    u->features |= others;
    u->min_wait_us = u->features & PRO_FEATURE_MIN_WAIT ? config->min_wait_us : 0;
    u->registers = wanted & PRO_FEATURE_REGISTERED_RING;
    return 0;
}

static int uring_init(struct pro_loop *loop, const struct pro_config *config)
{
    struct uring *u = proi_alloc(&loop->allocator, sizeof *u, _Alignof(struct uring));
    int r = u ? setup(u, config) : -ENOMEM;
    if (r < 0) {
        proi_free(&loop->allocator, u, sizeof *u);
        return r;
    }
    u->waker = u->eventfd = -1;
    u->alarm_at = UINT64_MAX;
    u->nosignal = proi_has_rwf_nosignal();
    proi_embed_init(&u->embed);
    proi_describe(loop, "io_uring");
    describe(loop, 0, u->features);
    loop->backend_state = u;
    return 0;
}

/* A registered descriptor saves every enter the look for the file. The place is the thread's, so it is taken here, and
 * given back by io_uring_queue_exit. */
static int uring_enable(struct pro_loop *loop)
{
    struct uring *u = state(loop);
    int r = proi_enable_ring(&u->ring);
    if (r < 0 || !u->registers || io_uring_register_ring_fd(&u->ring) != 1)
        return r;
    describe(loop, u->features, PRO_FEATURE_REGISTERED_RING);
    u->features |= PRO_FEATURE_REGISTERED_RING;
    return 0;
}

static void uring_fini(struct pro_loop *loop)
{
    struct uring *u = state(loop);
    proi_embed_close(&u->embed);
    if (u->eventfd >= 0)
        close(u->eventfd);
    io_uring_queue_exit(&u->ring);
    proi_free(&loop->allocator, u, sizeof *u);
}

/* Requests hold the file, not the number: there is nothing to forget. */
static void uring_forget(struct pro_loop *loop, struct pro_handle *handle)
{
}

const struct proi_backend proi_backend_uring = {
    .kind = PRO_BACKEND_IO_URING,
    .tries_sends = true,
    .init = uring_init,
    .fini = uring_fini,
    .enable = uring_enable,
    .start = uring_start,
    .cancel = uring_cancel,
    .wait = uring_wait,
    .spin = uring_spin,
    .reap = uring_reap,
    .forget = uring_forget,
    .forget_pool = uring_forget_pool,
    .tidy_pool = uring_tidy_pool,
    .now = proi_kernel_now,
    .waker = uring_waker,
    .pollable = uring_pollable,
    .pollable_arm = uring_pollable_arm,
    .control = &proi_control_kernel,
};
