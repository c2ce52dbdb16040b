/* SPDX-License-Identifier: MIT
 *
 * Receives into pool memory that are watched: a poll stands at the kernel and tells that there is data, and pieces of it
 * are received when the handle's turn comes.
 *
 *      start --> poll --> there is data --> line --> piece --> event
 *                 ^                          ^         |
 *                 |                          '--more---+
 *                 '-------------------------empty------'
 *
 * It is for handles that stream, that is, whose receives bring much at once. A multishot receive fills its buffers as fast
 * as the kernel can, sixteen connections' worth in one enter, and when the answers are sent all of that has left the cache
 * again. So those that have data stand in line, and each enter receives one piece, beside the sends that the last one led
 * to. It also is for kernels without buffer rings, so that no memory is held while there is no data; there, those that do
 * not stream are received from all at once.
 *
 * The operation is with the kernel as that poll from its start until the poll has been called back. That is done, as by a
 * cancel, when the core has to look at credit or memory, when the handle streams no more, and at an end or an error, which
 * waits in `res` meanwhile (URING_OVER). From when it stands in line until its piece has been answered, which is in the
 * enter that asks for it, it cannot be called back, and what that comes to is seen then:
 *
 *                         PROI_POLLING   PROI_KERNEL   URING_IN_LINE   queue     what comes next
 *      watched            yes            yes                                     CQE of the poll, of a cancel
 *      in line            yes            yes           yes             line      its turn
 *      piece under way    yes            yes           yes                       CQE of the piece
 *      poll has ended     yes                          yes             line, -   the same, and then it is back
 *      back                                                            done      reap
 */
#include <errno.h>
#include <poll.h>

#include "handle.h"
#include "pool.h"
#include "uring.h"

enum { STREAM_UNTIL = 4 }; /* small pieces in a row that make an end of streaming */

void proi_uring_adapt(struct pro_op *op, uint32_t bytes)
{
    uint16_t *mode = &op->owner.handle->backend_flags;
    if (bytes >= URING_STREAM_FROM) {
        *mode = (uint16_t)((*mode & (URING_SMALL_PIECE - 1)) | URING_STREAMS);
    } else if (*mode & URING_STREAMS) {
        *mode = (uint16_t)(*mode + URING_SMALL_PIECE);
        if (*mode / URING_SMALL_PIECE == STREAM_UNTIL)
            *mode &= (uint16_t)((URING_SMALL_PIECE - 1) & ~URING_STREAMS);
    }
}

bool proi_uring_may_watch(const struct pro_op *op)
{
    return !op->u.stream.pool->backend_state || op->owner.handle->backend_flags & URING_STREAMS;
}

void proi_uring_watch(struct pro_op *op, struct io_uring_sqe *sqe)
{
    io_uring_prep_poll_multishot(sqe, op->owner.handle->fd, POLLIN | POLLRDHUP);
    op->owner.handle->backend_flags &= (uint16_t) ~(URING_ENDS | URING_OVER);
}

static void line_up(struct uring *u, struct pro_op *op)
{
    op->flags |= PROI_INQUEUE;
    op->owner.handle->backend_flags |= URING_IN_LINE;
    proi_queue_push(&u->line, op);
}

/* Its turn is over. Returns whether it was told to end meanwhile; that has to be asked for again. */
static bool end_turn(struct pro_op *op)
{
    bool asked = op->flags & PROI_ASKED;
    op->flags &= (uint16_t)~PROI_ASKED;
    op->owner.handle->backend_flags &= (uint16_t)~URING_IN_LINE;
    return asked;
}

bool proi_uring_on_watch(struct uring *u, struct pro_op *op, const struct io_uring_cqe *cqe)
{
    uint16_t *mode = &op->owner.handle->backend_flags;
    if (cqe->res > 0 && cqe->res & (POLLRDHUP | POLLHUP | POLLERR))
        *mode |= URING_ENDS;
    if (cqe->res > 0 && !(op->flags & (PROI_INQUEUE | PROI_ASKED) || *mode & URING_IN_LINE))
        line_up(u, op); /* else it is in line, or about to be called back */
    if (cqe->flags & IORING_CQE_F_MORE)
        return false;
    op->flags &= (uint16_t)~PROI_KERNEL;
    if (!(*mode & URING_OVER))
        op->res = cqe->res < 0 ? cqe->res : -EAGAIN;
    if (*mode & URING_IN_LINE)
        return false; /* its turn tells */
    op->flags &= (uint16_t)~PROI_POLLING;
    return true;
}

/* Out of its turn without a piece: back to the core, once its poll has been called back. */
static void give_back(struct pro_loop *loop, struct pro_op *op)
{
    bool asked = end_turn(op);
    if (op->flags & PROI_KERNEL) {
        proi_op_recall(loop, op);
        return;
    }
    op->res = asked ? -ECANCELED : op->res;
    op->flags = (uint16_t)((op->flags & ~PROI_POLLING) | PROI_INQUEUE);
    proi_queue_push(&proi_uring_of(loop)->done, op);
}

/* False when there is no room for the request. Where there is no buffer the core knows what to do, and where the poll has
 * ended by itself with data, there is still a piece: some descriptors cannot be waited for. */
static bool take_turn(struct pro_loop *loop, struct pro_op *op)
{
    struct pro_pool *pool = op->u.stream.pool;
    bool pollable = op->flags & PROI_KERNEL || op->res == -EAGAIN;
    struct pro_buffer *buffer = pollable && !(op->flags & PROI_ASKED) ? proi_pool_take(pool) : NULL;
    if (!buffer) {
        give_back(loop, op);
        return true;
    }
    struct io_uring_sqe *sqe = proi_uring_sqe(proi_uring_of(loop));
    if (!sqe) {
        proi_pool_give(buffer);
        return false;
    }
    uint32_t credit = op->u.stream.credit;
    op->u.stream.armed = credit < pool->buffer_size ? credit : pool->buffer_size;
    op->u.stream.reserved = (uintptr_t)buffer;
    io_uring_prep_recv(sqe, op->owner.handle->fd, buffer->data, op->u.stream.armed, MSG_DONTWAIT);
    sqe->user_data = (uintptr_t)op | TAG_PIECE;
    return true;
}

bool proi_uring_receive_next(struct pro_loop *loop)
{
    struct uring *u = proi_uring_of(loop);
    bool streams = false;
    for (struct pro_op *op; !streams && (op = proi_queue_pop(&u->line)) != NULL;) {
        op->flags &= (uint16_t)~PROI_INQUEUE;
        if (!take_turn(loop, op)) {
            op->flags |= PROI_INQUEUE;
            proi_queue_push_front(&u->line, op);
            break;
        }
        streams = op->u.stream.reserved && op->owner.handle->backend_flags & URING_STREAMS;
    }
    return u->line.head;
}

/* Whether there may be more to receive of which no change will tell. Of TCP the kernel says so, or (before 5.19) that it
 * brought as much as was asked for. */
static bool may_have_more(const struct pro_op *op, uint32_t got, unsigned flags)
{
    struct pro_handle *handle = op->owner.handle;
    return flags & IORING_CQE_F_SOCK_NONEMPTY || got == op->u.stream.armed || handle->backend_flags & URING_ENDS ||
           proi_handle_kind(handle) != PROI_TCP;
}

static bool has_to_leave(const struct pro_op *op, uint32_t got)
{
    struct pro_pool *pool = op->u.stream.pool;
    return got >= op->u.stream.credit || !proi_uring_may_watch(op) || proi_pool_room(pool, op->owner.handle) == 0;
}

bool proi_uring_on_piece(struct pro_loop *loop, struct pro_op *op, const struct io_uring_cqe *cqe,
                         struct proi_event *ret_event)
{
    struct pro_handle *handle = op->owner.handle;
    struct pro_buffer *buffer = (void *)(uintptr_t)op->u.stream.reserved;
    bool none = cqe->res == -EAGAIN || cqe->res == -EINTR, over = cqe->res <= 0 && !none, asked = end_turn(op);
    op->u.stream.reserved = 0;
    *ret_event = (struct proi_event){.op = op, .res = cqe->res, .more = op->flags & PROI_KERNEL};
    if (cqe->res > 0) {
        ret_event->slice = proi_pool_lend(buffer, handle, (uint32_t)cqe->res);
        proi_uring_adapt(op, (uint32_t)cqe->res);
    } else {
        proi_pool_give(buffer);
    }
    if (!ret_event->more) {
        op->flags &= (uint16_t)~PROI_POLLING;
        ret_event->res = none && asked ? -ECANCELED : cqe->res;
        return true;
    }
    if (over) {
        handle->backend_flags |= URING_OVER;
        op->res = cqe->res;
    }
    if (asked || over || (cqe->res > 0 && has_to_leave(op, (uint32_t)cqe->res)))
        proi_op_recall(loop, op);
    else if (cqe->res == -EINTR || (cqe->res > 0 && may_have_more(op, (uint32_t)cqe->res, cqe->flags)))
        line_up(proi_uring_of(loop), op);
    return cqe->res > 0;
}
