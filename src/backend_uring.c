/* SPDX-License-Identifier: MIT
 *
 * The proactor: SQE preparation and CQE reaping, nothing else.
 *
 *      start --> SQE --.                                          user_data
 *      cancel -> SQE --+--> one io_uring_enter a turn --> CQEs      operation        its own completions
 *                      '    (submits, waits, in one)       |        operation | 1    the cancel of it
 *                                 |                        |        operation | 2    a piece for one that is watched
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
 * A receive into pool memory of a handle that streams is watched instead, see uring_watch.c.
 *
 * When an operation is over. An operation may be known to the kernel twice: by its own request (PROI_KERNEL) and by a
 * cancel that names it (PROI_KCANCEL). Both answer with a CQE, in either order, and until both have, the operation's
 * memory must not be used for another: the cancel would hit that. So a result that comes first is HELD.
 *
 * Possible failure modes. The submission queue is full: it is submitted, and if even that fails the core asks again
 * next turn. The completion queue overflows: the kernel keeps the rest and hands it over at the next enter. The buffer
 * ring is empty: -ENOBUFS, the core parks the receive, and the ring is kept fuller from then on. A non-blocking
 * descriptor that io_uring will not poll for us says -EAGAIN: a poll goes before the next attempt (PROI_POLLING). */
#include "uring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool.h"
#include "sigpipe.h"
#include "uring_probe.h"

enum {
    DEFAULT_ENTRIES = 256,
    LEAST_COMPLETIONS = 1024,
    TRIED_MOST = 1 << 30,               /* bytes: the kernel cuts what is near 2 GiB, and calls that a success */
    ROOM = POLLOUT | POLLERR | POLLHUP, /* a send will not find the socket full */
};

/* --- submission ---------------------------------------------------------------------------------------------------- */

static void prepare_recv(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    uint32_t moved = op->u.io.moved;
    char *data = op->u.io.data;
    io_uring_prep_recv(sqe, fd, data + moved, op->u.io.size - moved, op->flags & PROI_ALL ? MSG_WAITALL : 0);
}

/* The kernel looks at the limit between two pieces, so the last one may go beyond it by all but one byte of a buffer
 * (measured on 6.18). A limit of that much less than the window is exact; a window of a buffer or less is one piece. */
static void prepare_recv_multi(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    struct pro_pool *pool = op->u.stream.pool;
    const struct group *group = pool->backend_state;
    uint32_t credit = op->u.stream.credit, piece = credit < pool->buffer_size ? credit : pool->buffer_size;
    bool multishot = u->features & PRO_FEATURE_RECV_MULTISHOT && op->u.stream.armed > pool->buffer_size;
    io_uring_prep_recv(sqe, fd, NULL, multishot ? 0 : piece, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group->id;
    if (multishot) {
        sqe->ioprio |= IORING_RECV_MULTISHOT;
        proi_sqe_limit(sqe, op->u.stream.armed - pool->buffer_size + 1);
    }
}

static void prepare_accept(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (op->code == PROI_ACCEPT_MULTI && u->features & PRO_FEATURE_ACCEPT_MULTISHOT)
        sqe->ioprio |= IORING_ACCEPT_MULTISHOT;
}

static void prepare_connect(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_connect(sqe, fd, op->u.io.data, op->u.io.size);
}

static void prepare_read(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_read(sqe, fd, op->u.io.data, op->u.io.size, op->u.io.offset);
}

/* A terminal without O_NONBLOCK says that it is writable and then blocks the caller, which would be the loop. */
static bool may_block(struct pro_handle *handle)
{
    if (!(handle->backend_flags & URING_ASKED)) {
        int flags = fcntl(handle->fd, F_GETFL);
        handle->backend_flags |=
            (uint16_t)(URING_ASKED | (!(flags & O_NONBLOCK) && isatty(handle->fd) ? URING_BLOCKING : 0));
    }
    return handle->backend_flags & URING_BLOCKING;
}

static void prepare_write(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    uint32_t moved = op->u.io.moved;
    uint64_t offset = op->u.io.offset == PRO_STREAM ? PRO_STREAM : op->u.io.offset + moved;
    io_uring_prep_write(sqe, fd, (char *)op->u.io.data + moved, op->u.io.size - moved, offset);
    if (u->nosignal)
        sqe->rw_flags = RWF_NOSIGNAL;
    if (may_block(op->owner.handle))
        sqe->flags |= IOSQE_ASYNC; /* so a thread of the kernel's does it */
}

static void prepare_shutdown(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_shutdown(sqe, fd, (int)op->u.io.size);
}

static void prepare_poll(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_poll_add(sqe, fd, op->u.io.size);
    if (op->code == PROI_POLL_MULTI)
        sqe->len = IORING_POLL_ADD_MULTI;
}

static void prepare_close(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_close(sqe, fd);
}

static const struct {
    void (*prepare)(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe, int fd); /* NULL: see start_send */
    short waits; /* what to poll for when it says EAGAIN */
} rows[PROI_CODES] = {
    [PROI_RECV] = {prepare_recv, POLLIN},
    [PROI_RECV_MULTI] = {prepare_recv_multi, POLLIN},
    [PROI_ACCEPT] = {prepare_accept, POLLIN},
    [PROI_ACCEPT_MULTI] = {prepare_accept, POLLIN},
    [PROI_READ] = {prepare_read, POLLIN},
    [PROI_CONNECT] = {prepare_connect, POLLOUT},
    [PROI_SEND] = {NULL, POLLOUT},
    [PROI_SEND_SLICES] = {NULL, POLLOUT},
    [PROI_WRITE] = {prepare_write, POLLOUT},
    [PROI_SHUTDOWN] = {prepare_shutdown, 0},
    [PROI_POLL] = {prepare_poll, 0},
    [PROI_POLL_MULTI] = {prepare_poll, 0},
    [PROI_CLOSE] = {prepare_close, 0},
};

/* --- start, cancel ------------------------------------------------------------------------------------------------------ */

static bool sends_data(const struct pro_op *op)
{
    return op->code == PROI_SEND || op->code == PROI_SEND_SLICES;
}

/* Until the next submission the kernel reads the message from here; then it has its own copy. Returns whether all that
 * is to be sent is in it. */
static bool prepare_message(struct pro_op *op, struct io_uring_sqe *sqe, int fd, struct message *message,
                            unsigned flags)
{
    const struct pro_slice *slice = NULL;
    message->header = (struct msghdr){.msg_iov = op->u.io.data, .msg_iovlen = op->u.io.size};
    if (op->code == PROI_SEND_SLICES) {
        size_t n = 0;
        for (slice = op->u.io.data; slice && n < PROI_GATHER; slice = slice->next)
            message->iovs[n++] = (struct iovec){slice->data, slice->size};
        message->header.msg_iov = message->iovs;
        message->header.msg_iovlen = n;
        flags |= slice ? MSG_MORE : 0;
    }
    io_uring_prep_sendmsg(sqe, fd, &message->header, flags);
    return !slice;
}

/* Without a CQE if it goes well; see settle() in uring_wait.c. Its place in the queue is kept in `res`. */
static void try_send(struct uring *u, struct pro_op *op, struct io_uring_sqe *sqe)
{
    if (!u->tried.head)
        u->seen = io_uring_smp_load_acquire(u->ring.cq.ktail);
    op->res = (int32_t)(u->ring.sq.sqe_tail - 1);
    op->flags |= PROI_INQUEUE;
    proi_queue_push(&u->tried, op);
    ++*(op->flags & PROI_LAZY ? &u->lazy : &u->prompt);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data |= TAG_TRIED;
}

/* MSG_DONTWAIT, because the kernel's own waiting is a trap: it polls for EPOLLRDHUP too, so for a peer that has shut its
 * write side it tries 128 times in vain and then puts a thread to sleep in sendmsg, one for each such connection; and
 * while it tries, a cancel does not find the request (measured: 6.18). We wait, see translate(). */
static int start_send(struct uring *u, struct pro_op *op)
{
    const struct iovec *iov = op->u.io.data;
    const struct pro_slice *slice = op->u.io.data;
    bool list = op->code == PROI_SEND_SLICES, gathers = list ? slice->next != NULL : op->u.io.size > 1;
    if (gathers && u->messages == MESSAGES)
        proi_uring_submit(u);
    struct io_uring_sqe *sqe = gathers && u->messages == MESSAGES ? NULL : proi_uring_sqe(u);
    if (!sqe)
        return -EAGAIN;
    int fd = op->owner.handle->fd, flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL;
    bool whole = op->u.io.offset <= TRIED_MOST;
    if (op->flags & PROI_ALL)
        flags |= MSG_MORE;
    if (gathers)
        whole &= prepare_message(op, sqe, fd, &u->message[u->messages++], (unsigned)flags);
    else if (list)
        io_uring_prep_send(sqe, fd, slice->data, slice->size, flags);
    else
        io_uring_prep_send(sqe, fd, iov->iov_base, iov->iov_len, flags);
    sqe->user_data = (uintptr_t)op;
    op->flags |= PROI_KERNEL;
    if (whole && u->features & PRO_FEATURE_SKIP_SUCCESS)
        try_send(u, op, sqe);
    return 0;
}

/* Memory for a receive that starts: 0 or -ENOBUFS. One that is to be watched (PROI_POLLING) takes it when there is data. */
static int provide(struct pro_loop *loop, struct pro_op *op)
{
    struct pro_pool *pool = op->u.stream.pool;
    if (!pool->backend_state && !pool->ringless && proi_uring_of(loop)->features & PRO_FEATURE_BUFFER_RING)
        proi_uring_open_group(loop, pool);
    struct group *group = pool->backend_state;
    bool watch = op->flags & PROI_POLLING || proi_uring_may_watch(op);
    op->flags &= (uint16_t)~PROI_POLLING;
    if (watch && proi_pool_stock(pool)) {
        op->flags |= PROI_POLLING;
        return 0;
    }
    if (!group)
        return -ENOBUFS;
    op->owner.handle->backend_flags &= (uint16_t)~URING_STREAMS; /* what the pool has is in the ring */
    proi_uring_fill(pool, group);
    return group->filled > 0 ? 0 : -ENOBUFS;
}

/* An SQE for the request of `op`, or for the poll that goes before it. */
static int start_request(struct pro_loop *loop, struct pro_op *op)
{
    struct uring *u = proi_uring_of(loop);
    struct io_uring_sqe *sqe = proi_uring_sqe(u);
    if (!sqe)
        return -EAGAIN;
    int fd = op->owner.handle->fd, r = 0;
    if (op->code == PROI_RECV_MULTI)
        r = provide(loop, op);
    if (r < 0) {
        io_uring_prep_nop(sqe); /* it is taken, and cannot be given back */
        sqe->user_data = NOBODY;
        return r;
    }
    if (!(op->flags & PROI_POLLING))
        rows[op->code].prepare(u, op, sqe, fd);
    else if (op->code == PROI_RECV_MULTI)
        proi_uring_watch(op, sqe);
    else if (op->flags & PROI_PRIVATE)
        io_uring_prep_poll_multishot(sqe, fd, (unsigned)rows[op->code].waits);
    else
        io_uring_prep_poll_add(sqe, fd, (unsigned)rows[op->code].waits);
    sqe->user_data = (uintptr_t)op;
    op->flags |= PROI_KERNEL;
    u->writes += op->code == PROI_WRITE;
    return 0;
}

static int uring_start(struct pro_loop *loop, struct pro_op *op)
{
    bool tries = sends_data(op) && !(op->flags & PROI_POLLING);
    return tries ? start_send(proi_uring_of(loop), op) : start_request(loop, op);
}

static int uring_cancel(struct pro_loop *loop, struct pro_op *op)
{
    bool tried = sends_data(op) && !(op->flags & PROI_POLLING);
    bool in_line = proi_uring_is_watched(op) && op->owner.handle->backend_flags & URING_IN_LINE;
    bool left = op->flags & PROI_INQUEUE && !(op->flags & PROI_KERNEL); /* the line, for `done` */
    if (op->flags & PROI_KCANCEL || tried || in_line || left)
        return 0; /* one is under way, or its turn or the next enter will see to it */
    struct io_uring_sqe *sqe = proi_uring_sqe(proi_uring_of(loop));
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

/* The slice for `res` bytes, or NULL; takes a buffer that was not filled back. */
static inline struct pro_slice *received(struct pro_op *op, int res, unsigned flags)
{
    struct pro_pool *pool = op->u.stream.pool;
    struct group *group = pool->backend_state;
    struct pro_buffer *buffer = NULL;
    if (flags & IORING_CQE_F_BUFFER) {
        buffer = proi_pool_buffer(pool, flags >> IORING_CQE_BUFFER_SHIFT);
        group->filled--;
    } else if (group && res == -ENOBUFS) {
        proi_uring_ran_dry(group);
    }
    if (buffer && res > 0)
        return proi_pool_lend(buffer, op->owner.handle, (uint32_t)res);
    if (buffer)
        proi_pool_give(buffer);
    return NULL;
}

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
    if (sends && !changes && !(res & ROOM))
        op->flags |= PROI_POLLING | PROI_PRIVATE;
    return -EAGAIN;
}

/* What was sent fell short: the rest waits for room without trying first. */
static bool fell_short(const struct pro_op *op, int res)
{
    return sends_data(op) && res > 0 && (uint64_t)res < op->u.io.offset;
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

/* Whether nothing about the descriptor can ever change, which is what epoll refuses to watch; without a descriptor to ask
 * it, what is no socket, pipe, terminal or nameless file. A multishot poll of such a one ends at once, and would for ever
 * if it were started again. */
static bool always_ready(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct stat is;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return fstat(fd, &is) == 0 && is.st_mode & S_IFMT && !S_ISSOCK(is.st_mode) && !S_ISFIFO(is.st_mode) &&
               !isatty(fd);
    bool refused = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 && errno == EPERM;
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
    return op->code == PROI_RECV_MULTI && cqe->flags & IORING_CQE_F_MORE && cqe->res > 0 &&
           cqe->res < URING_STREAM_FROM && !(op->flags & PROI_POLLING) &&
           !(op->owner.handle->backend_flags & URING_STREAMS);
}

/* A request of the ring's own. */
static void on_own(struct uring *u, const struct io_uring_cqe *cqe)
{
    if (cqe->user_data == WAKER)
        u->waker_armed = cqe->flags & IORING_CQE_F_MORE;
    else if (cqe->user_data == ALARM)
        u->alarm_at = UINT64_MAX;
    else if (cqe->user_data == DRAINED)
        proi_uring_drained(u, cqe);
}

/* The request of `op` has come to its end. Whether that makes an event. */
static bool leave(struct uring *u, struct pro_op *op, struct proi_event *ret_event)
{
    op->flags &= (uint16_t)~PROI_KERNEL;
    u->writes -= op->code == PROI_WRITE;
    if (op->flags & PROI_KCANCEL)
        return hold(op, ret_event);
    ret_event->more = poll_stays(op, ret_event->res);
    return true;
}

/* Whether the CQE makes an event. */
static bool on_cqe(struct pro_loop *loop, const struct io_uring_cqe *cqe, struct proi_event *ret_event)
{
    struct uring *u = proi_uring_of(loop);
    uint64_t data = cqe->user_data;
    struct pro_op *op = (struct pro_op *)(uintptr_t)(data & ~(uint64_t)TAGS);
    if (!op) {
        on_own(u, cqe);
        return false;
    }
    if (data & TAG_CANCEL)
        return on_cancel(loop, op, cqe->res, ret_event);
    if (receives_on(op, cqe)) { /* what most of them say, without what the others need */
        *ret_event = (struct proi_event){op, received(op, cqe->res, cqe->flags), cqe->res, true};
        return true;
    }
    if (data & TAG_PIECE)
        return proi_uring_on_piece(loop, op, cqe, ret_event);
    if (proi_uring_is_watched(op)) {
        if (!proi_uring_on_watch(u, op, cqe))
            return false;
        *ret_event = (struct proi_event){.op = op, .res = op->res};
        return leave(u, op, ret_event);
    }
    if (op->flags & PROI_POLLING && cqe->flags & IORING_CQE_F_MORE) {
        if (cqe->res & ROOM)
            proi_op_recall(loop, op);
        return false;
    }
    *ret_event = (struct proi_event){.op = op, .more = cqe->flags & IORING_CQE_F_MORE};
    if (op->code == PROI_RECV_MULTI)
        ret_event->slice = received(op, cqe->res, cqe->flags);
    if (ret_event->slice)
        proi_uring_adapt(op, (uint32_t)cqe->res);
    ret_event->res = translate(op, cqe->res);
    if (!ret_event->more)
        return leave(u, op, ret_event);
    if (op->code == PROI_RECV_MULTI && op->owner.handle->backend_flags & URING_STREAMS)
        proi_op_recall(loop, op); /* it will be watched */
    return true;
}

/* Of its own, so that the short way of uring_reap() stays short. */
__attribute__((noinline)) static bool reap_cqe(struct pro_loop *loop, struct proi_event *ret_event)
{
    struct uring *u = proi_uring_of(loop);
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
    struct uring *u = proi_uring_of(loop);
    struct pro_op *done = proi_queue_pop(&u->done);
    if (!done)
        return reap_cqe(loop, ret_event);
    done->flags &= (uint16_t) ~(PROI_INQUEUE | PROI_KERNEL);
    *ret_event = (struct proi_event){.op = done, .res = done->res};
    return true;
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
    struct uring *u = proi_uring_of(loop);
    int r = proi_enable_ring(&u->ring);
    if (r < 0 || !u->registers || io_uring_register_ring_fd(&u->ring) != 1)
        return r;
    describe(loop, u->features, PRO_FEATURE_REGISTERED_RING);
    u->features |= PRO_FEATURE_REGISTERED_RING;
    return 0;
}

static void uring_fini(struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
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
    .wait = proi_uring_wait,
    .look = proi_uring_look,
    .spin = proi_uring_spin,
    .reap = uring_reap,
    .forget = uring_forget,
    .forget_pool = proi_uring_forget_pool,
    .tidy_pool = proi_uring_tidy_pool,
    .now = proi_kernel_now,
    .waker = proi_uring_waker,
    .pollable = proi_uring_pollable,
    .pollable_arm = proi_uring_pollable_arm,
    .control = &proi_control_kernel,
};
