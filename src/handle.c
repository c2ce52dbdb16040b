/* SPDX-License-Identifier: MIT
 *
 * Handles: what is started on them, in which order it goes to the backend, and what an event means for each kind.
 *
 * The lanes. A handle has one lane for what receives (recv, accept, read) and one for what sends (send, write, connect,
 * shutdown). Only the first of a lane is with the backend; when it leaves, the next one goes. Polls are under way all
 * at once and have a list of their own, which also holds the close.
 *
 * A multishot receive may have to stand still: without credit (PARKED), or without memory (STARVED). It then leaves the
 * lane for `parked`, so that a receive into the program's own memory may pass one that is paused; nothing passes one
 * that is starved, for its bytes come first. It returns to the front.
 *
 * Events. For each kind one function says what an event without `more` means: that the operation is complete, that it
 * goes on (a send cut short by a full socket, a multishot the kernel let go of), or that it has failed. The state is
 * settled before the continuation is called, so that this may cancel, pause or close as it likes. */
#include "handle.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "pool.h"

enum { DENIALS = 64 }; /* of connections, one after the other, that end an accept */

const struct proi_op_row proi_op_rows[PROI_CODES] = {
    [PROI_NONE] = {"none", false, false},
    [PROI_RECV] = {"recv", false, false},
    [PROI_RECV_MULTI] = {"recv_multi", false, true},
    [PROI_ACCEPT] = {"accept", false, false},
    [PROI_ACCEPT_MULTI] = {"accept_multi", false, true},
    [PROI_READ] = {"read", false, false},
    [PROI_CONNECT] = {"connect", false, false},
    [PROI_SEND] = {"send", true, false},
    [PROI_SEND_SLICES] = {"send_slices", true, false},
    [PROI_WRITE] = {"write", true, false},
    [PROI_SHUTDOWN] = {"shutdown", false, false},
    [PROI_POLL] = {"poll", false, false},
    [PROI_POLL_MULTI] = {"poll_multi", false, true},
    [PROI_CLOSE] = {"close", false, false},
    [PROI_RELEASE] = {"release", false, false},
    [PROI_TIMER] = {"timer", false, true},
    [PROI_POST] = {"post", false, false},
};

/* --- lanes ------------------------------------------------------------------------------------------------------ */

static struct pro_op **lane_of(struct pro_handle *handle, enum proi_lane lane)
{
    return lane == PROI_RECEIVES ? &handle->receives : lane == PROI_SENDS ? &handle->sends : &handle->others;
}

/* With the backend, or ended and still to say what it brought: nothing goes before it. */
static bool has_gone_first(const struct pro_op *op)
{
    return op->state == PROI_STARTING || op->state == PROI_ACTIVE || op->state == PROI_ENDED;
}

/* Moves a multishot receive that cannot go on from its lane to the side. */
static void set_aside(struct pro_handle *handle, struct pro_op *op, enum proi_state state)
{
    proi_assert(!handle->parked && op->code == PROI_RECV_MULTI);
    proi_list_remove(&handle->receives, op);
    handle->parked = op;
    op->state = (uint8_t)state;
    if (state == PROI_PARKED)
        proi_pool_wake(op->u.stream.pool);
}

/* Starts the first of the receiving lane if it may go. */
static void pump_receives(struct pro_handle *handle)
{
    for (struct pro_op *op; (op = handle->receives) != NULL && op->state == PROI_QUEUED;) {
        bool multi = op->code == PROI_RECV_MULTI;
        if (op->flags & PROI_INQUEUE || (handle->parked && (multi || handle->parked->state == PROI_STARVED)))
            return;
        if (!multi || op->u.stream.credit > 0) {
            proi_op_submit(handle->loop, op);
            return;
        }
        set_aside(handle, op, PROI_PARKED);
    }
}

static void pump_sends(struct pro_handle *handle)
{
    for (struct pro_op *op; (op = handle->sends) != NULL && op->state == PROI_QUEUED;) {
        if (!(handle->flags & PROI_H_BROKEN && proi_row(op)->sends)) {
            proi_op_submit(handle->loop, op);
            return;
        }
        /* Out of the lane first: ending it would come back here for the next one. */
        proi_list_remove(&handle->sends, op);
        proi_op_end(handle->loop, op, -EPIPE);
    }
}

void proi_handle_unlink_listed(struct pro_op *op)
{
    struct pro_handle *handle = op->owner.handle;
    enum proi_lane lane = proi_lane_of(op->code);
    if (handle->parked == op) {
        handle->parked = NULL;
        if (op->link_prev)
            proi_list_remove(&op->u.stream.pool->starved, op);
    } else if (op->link_prev) {
        proi_list_remove(lane_of(handle, lane), op);
    } else {
        return; /* it was in none, so nothing waits for it */
    }
    if (handle->flags & PROI_H_CLOSING)
        return;
    if (lane == PROI_RECEIVES)
        pump_receives(handle);
    else if (lane == PROI_SENDS)
        pump_sends(handle);
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

/* The arguments are set: puts the operation into its lane, or ends it where none may go. */
static inline void enter(struct pro_op *op, enum proi_lane lane)
{
    struct pro_handle *handle = op->owner.handle;
    struct pro_loop *loop = handle->loop;
    op->state = PROI_QUEUED;
    if (op->code == PROI_RECV_MULTI)
        proi_pool_enter(loop, op->u.stream.pool);
    if (loop->freeing || handle->flags & PROI_H_CLOSING) {
        proi_op_end(loop, op, loop->freeing ? -ESHUTDOWN : -ECANCELED);
        return;
    }
    bool first = !*lane_of(handle, lane);
    proi_list_append(lane_of(handle, lane), op);
    if (lane == PROI_RECEIVES)
        pump_receives(handle);
    else if (lane == PROI_OTHERS || (first && !(handle->flags & PROI_H_BROKEN)))
        proi_op_submit(loop, op);
    else
        pump_sends(handle);
}

static inline void start_io(struct pro_handle *handle, struct pro_op *op, enum proi_code code, void *data, size_t size,
                            uint64_t offset, unsigned flags, pro_fn *done)
{
    proi_handle_begin(handle, op, code, done);
    op->u.io.data = data;
    op->u.io.size = (uint32_t)size;
    op->u.io.moved = 0;
    op->u.io.offset = offset;
    op->flags |= flags ? PROI_ALL : 0;
    enter(op, proi_lane_of(code));
}

static void require_size(size_t size)
{
    proi_require(size > 0, "an operation of size 0");
    proi_require(size <= INT32_MAX, "an operation of more than INT32_MAX bytes");
}

void pro_recv(struct pro_handle *handle, struct pro_op *op, void *data, size_t size, unsigned flags, pro_fn *done)
{
    require_size(size);
    proi_require(!(flags & ~(unsigned)PRO_RECV_ALL), "pro_recv with unknown flags");
    start_io(handle, op, PROI_RECV, data, size, 0, flags, done);
}

void pro_read(struct pro_handle *handle, struct pro_op *op, void *data, size_t size, uint64_t offset, pro_fn *done)
{
    require_size(size);
    start_io(handle, op, PROI_READ, data, size, offset, 0, done);
}

void pro_write(struct pro_handle *handle, struct pro_op *op, const void *data, size_t size, uint64_t offset,
               pro_fn *done)
{
    require_size(size);
    start_io(handle, op, PROI_WRITE, (void *)(uintptr_t)data, size, offset, 0, done);
}

/* For both kinds of send `offset` holds the bytes still to go. */
void pro_send(struct pro_handle *handle, struct pro_op *op, struct iovec *iov, int count, unsigned flags, pro_fn *done)
{
    size_t total = 0;
    proi_require(count > 0 && count <= IOV_MAX, "pro_send with no buffers or more than 1024");
    proi_require(!(flags & ~(unsigned)PRO_SEND_MORE), "pro_send with unknown flags");
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len > INT32_MAX ? (size_t)INT32_MAX + 1 : iov[i].iov_len;
    require_size(total);
    start_io(handle, op, PROI_SEND, iov, (size_t)count, total, flags, done);
}

void pro_send_slices(struct pro_handle *handle, struct pro_op *op, struct pro_slice *list, pro_fn *done)
{
    size_t total = 0, count = 0;
    for (const struct pro_slice *slice = list; slice; slice = slice->next, count++)
        total += slice->size;
    require_size(total);
    start_io(handle, op, PROI_SEND_SLICES, list, 0, total, 0, done);
    if (count > PROI_GATHER && op->state != PROI_ENDED && proi_handle_kind(handle) >= PROI_PACKETS)
        proi_op_end(handle->loop, op, -EMSGSIZE);
}

void pro_accept(struct pro_handle *listener, struct pro_op *op, pro_fn *done)
{
    start_io(listener, op, PROI_ACCEPT, NULL, 0, 0, 0, done);
}

void pro_accept_multi(struct pro_handle *listener, struct pro_op *op, pro_fn *done)
{
    start_io(listener, op, PROI_ACCEPT_MULTI, NULL, 0, 0, 0, done);
}

void pro_connect(struct pro_handle *handle, struct pro_op *op, const struct sockaddr *address, socklen_t length,
                 pro_fn *done)
{
    start_io(handle, op, PROI_CONNECT, (void *)(uintptr_t)address, length, 0, 0, done);
}

void pro_shutdown(struct pro_handle *handle, struct pro_op *op, int how, pro_fn *done)
{
    proi_require(how >= SHUT_RD && how <= SHUT_RDWR, "pro_shutdown with an unknown direction");
    start_io(handle, op, PROI_SHUTDOWN, NULL, (size_t)how, 0, 0, done);
}

void pro_poll(struct pro_handle *handle, struct pro_op *op, unsigned events, pro_fn *done)
{
    start_io(handle, op, PROI_POLL, NULL, events, 0, 0, done);
}

void pro_poll_multi(struct pro_handle *handle, struct pro_op *op, unsigned events, pro_fn *done)
{
    start_io(handle, op, PROI_POLL_MULTI, NULL, events, 0, 0, done);
}

int pro_try_send(struct pro_handle *handle, const void *data, size_t size)
{
    struct pro_loop *loop = handle->loop;
    proi_require(loop, "pro_try_send on a closed handle");
    proi_loop_check(loop);
    require_size(size);
    if (handle->flags & PROI_H_CLOSING)
        return -ECANCELED;
    if (handle->flags & PROI_H_BROKEN)
        return -EPIPE;
    return handle->sends ? -EAGAIN : loop->backend->control->try_send(loop, handle->fd, data, size);
}

/* --- the multishot receive ------------------------------------------------------------------------------------------ */

void pro_recv_multi(struct pro_handle *handle, struct pro_op *op, struct pro_pool *pool, uint32_t credit, pro_fn *done)
{
    proi_require(pool, "a multishot receive without a pool");
    proi_handle_begin(handle, op, PROI_RECV_MULTI, done);
    op->u.stream.pool = pool;
    op->u.stream.credit = credit;
    op->u.stream.armed = 0;
    op->u.stream.reserved = 0; /* it may have been something else before */
    enter(op, PROI_RECEIVES);
}

void proi_handle_resume(struct pro_op *op)
{
    struct pro_handle *handle = op->owner.handle;
    struct pro_op *first = handle->receives;
    proi_assert(handle->parked == op && (op->state == PROI_PARKED || op->state == PROI_STARVED));
    if (op->link_prev)
        proi_list_remove(&op->u.stream.pool->starved, op);
    handle->parked = NULL;
    op->state = PROI_QUEUED;
    proi_list_insert(&handle->receives, first && has_gone_first(first) ? first : NULL, op);
    pump_receives(handle);
}

void proi_handle_starve(struct pro_loop *loop, struct pro_op *op)
{
    struct pro_handle *handle = op->owner.handle;
    struct pro_pool *pool = op->u.stream.pool;
    bool quota = proi_pool_room(pool, handle) == 0;
    if (!quota && pool->buffers == 0) { /* there is nothing to wait for */
        proi_op_end(loop, op, -ENOMEM);
        return;
    }
    loop->stats.pool_dry++;
    set_aside(handle, op, PROI_STARVED);
    if (!quota)
        proi_list_append(&pool->starved, op);
}

/* What is counted stays counted. */
static uint32_t credit_sum(uint32_t credit, uint32_t bytes)
{
    if (credit == PRO_UNLIMITED || bytes == PRO_UNLIMITED)
        return PRO_UNLIMITED;
    return bytes < PRO_UNLIMITED - 1 - credit ? credit + bytes : PRO_UNLIMITED - 1;
}

void pro_recv_credit(struct pro_op *op, uint32_t bytes)
{
    if (op->state == PROI_IDLE || op->state == PROI_ENDED)
        return;
    proi_require(op->code == PROI_RECV_MULTI, "credit is given to what is no multishot receive");
    proi_loop_check(proi_loop_of(op));
    uint32_t *credit = &op->u.stream.credit;
    *credit = credit_sum(*credit, bytes);
    if (op->state == PROI_PARKED && *credit > 0 && !(op->flags & PROI_PAUSE))
        proi_handle_resume(op);
}

void pro_recv_pause(struct pro_op *op)
{
    if (op->state == PROI_IDLE || op->state == PROI_ENDED)
        return;
    struct pro_loop *loop = proi_loop_of(op);
    proi_require(op->code == PROI_RECV_MULTI, "what is no multishot receive is paused");
    proi_loop_check(loop);
    op->u.stream.credit = 0;
    if (op->flags & PROI_PAUSE)
        return;
    op->flags |= PROI_PAUSE;
    if (op->state == PROI_STARVED) {
        if (op->link_prev)
            proi_list_remove(&op->u.stream.pool->starved, op);
        op->state = PROI_PARKED;
        pump_receives(op->owner.handle);
    }
    if (op->state == PROI_ACTIVE)
        proi_op_recall(loop, op);
    else if (op->state != PROI_STARTING) /* else the flush sees the flag */
        proi_op_report(loop, op, 0);
}

uint32_t proi_handle_answer(struct pro_op *op)
{
    proi_assert(op->code == PROI_RECV_MULTI && op->flags & PROI_PAUSE);
    op->flags &= (uint16_t)~PROI_PAUSE;
    if (op->state == PROI_PARKED && op->u.stream.credit > 0)
        proi_handle_resume(op);
    else
        pump_receives(op->owner.handle);
    return PRO_PAUSED;
}

bool proi_handle_prepare(struct pro_loop *loop, struct pro_op *op)
{
    struct pro_handle *handle = op->owner.handle;
    if (op->code == PROI_CLOSE)
        loop->backend->forget(loop, handle);
    if (op->code != PROI_RECV_MULTI)
        return true;
    uint32_t credit = op->u.stream.credit;
    if (op->flags & PROI_PAUSE || credit == 0) {
        set_aside(handle, op, PROI_PARKED);
        if (op->flags & PROI_PAUSE)
            proi_op_report(loop, op, 0);
        pump_receives(handle);
        return false;
    }
    if (proi_pool_room(op->u.stream.pool, handle) == 0) {
        proi_handle_starve(loop, op);
        return false;
    }
    uint32_t window = proi_pool_window(op->u.stream.pool, handle);
    op->u.stream.armed = window < credit ? window : credit;
    return true;
}

/* Counts what arrived; returns the flags to deliver it with. What comes before the answer to a pause belongs to the
 * credit that was taken back. */
static uint32_t spend(struct pro_loop *loop, struct pro_op *op, uint32_t bytes)
{
    uint32_t *credit = &op->u.stream.credit;
    loop->bytes += bytes;
    if (*credit == PRO_UNLIMITED || *credit == 0 || op->flags & PROI_PAUSE)
        return PRO_MORE;
    *credit = bytes < *credit ? *credit - bytes : 0;
    return *credit == 0 ? PRO_MORE | PRO_PAUSED : PRO_MORE;
}

/* --- what an event means --------------------------------------------------------------------------------------------- */

static int cancel_errno(const struct pro_op *op)
{
    return op->flags & PROI_LATE ? -ETIME : -ECANCELED;
}

/* Whether the event says "once more": among other things that a backend has called back what nobody cancelled. */
static bool again(const struct pro_op *op, int res)
{
    return res == -EINTR || res == -EAGAIN || (res == -ECANCELED && !(op->flags & PROI_CANCEL));
}

static void deliver(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    loop->stats.more++;
    op->done(loop, op, result);
}

enum proi_kind proi_handle_kind(struct pro_handle *handle)
{
    if (!(handle->flags & PROI_H_KNOWN)) {
        unsigned kind = handle->loop->backend->control->kind(handle->loop, handle->fd);
        handle->flags = (uint16_t)((handle->flags & ((1 << PROI_H_KIND) - 1)) | PROI_H_KNOWN | kind << PROI_H_KIND);
    }
    return (enum proi_kind)(handle->flags >> PROI_H_KIND);
}

/* What came from a listener does not, and nobody has to ask the kernel at the end of every connection. */
static bool takes_datagrams(struct pro_handle *handle)
{
    return !(handle->flags & PROI_H_CONNECTION) && proi_handle_kind(handle) == PROI_DATAGRAMS;
}

/* The outcome as the contract words it: cancel and deadline by their names. */
static void finish(struct pro_loop *loop, struct pro_op *op, int res, uint32_t flags)
{
    proi_op_finish(loop, op, res == -ECANCELED ? cancel_errno(op) : res, flags);
}

/* Once more, unless it was told to end meanwhile. */
static void go_on(struct pro_loop *loop, struct pro_op *op)
{
    proi_op_time(loop, op);
    if (op->flags & PROI_CANCEL)
        proi_op_finish(loop, op, cancel_errno(op), 0);
    else
        proi_op_submit(loop, op);
}

/* For multishots that have something to deliver as they leave the backend: settles what comes next without a call. */
static void leave_or_go_on(struct pro_loop *loop, struct pro_op *op)
{
    if (op->flags & PROI_CANCEL)
        proi_op_end(loop, op, cancel_errno(op));
    else
        proi_op_submit(loop, op);
}

static void on_plain(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event)
{
    if (again(op, event->res))
        go_on(loop, op);
    else
        finish(loop, op, event->res, 0);
}

static void on_recv(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event)
{
    uint32_t moved = op->u.io.moved;
    if (event->res > 0) {
        moved = op->u.io.moved += (uint32_t)event->res;
        loop->bytes += (uint32_t)event->res;
        if (op->flags & PROI_ALL && moved < op->u.io.size && !(op->flags & PROI_CANCEL))
            go_on(loop, op);
        else
            finish(loop, op, (int)moved, 0);
    } else if (again(op, event->res) && !(moved && op->flags & PROI_CANCEL)) {
        go_on(loop, op);
    } else if (moved > 0) { /* what was gathered; the end or error comes to the next */
        finish(loop, op, (int)moved, 0);
    } else {
        bool end = event->res == 0 && (op->code == PROI_READ || !takes_datagrams(op->owner.handle));
        finish(loop, op, event->res, end ? PRO_EOF : 0);
    }
}

/* What leaves the backend; the pieces before it have gone the short way, see proi_handle_event. */
static void on_recv_multi(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event)
{
    proi_assert(!event->more);
    if (event->res > 0) {
        uint32_t flags = spend(loop, op, (uint32_t)event->res);
        leave_or_go_on(loop, op);
        deliver(loop, op, (struct pro_result){event->res, flags, event->slice});
    } else if (again(op, event->res) || event->res == -ENOBUFS) {
        go_on(loop, op); /* the flush finds out whether there is memory, credit, or a pause to answer */
    } else if (event->res == 0 && takes_datagrams(op->owner.handle)) {
        leave_or_go_on(loop, op);
        deliver(loop, op, (struct pro_result){0, PRO_MORE, NULL});
    } else {
        finish(loop, op, event->res, event->res == 0 ? PRO_EOF : 0);
    }
}

/* accept(2): errors that belong to the one connection, which is gone, and not to the listener. */
static bool of_one_connection(int res)
{
    static const int errors[] = {ECONNABORTED, EPERM,  EPROTO,       ENETDOWN,    ENOPROTOOPT,
                                 EHOSTDOWN,    ENONET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (res == -errors[i])
            return true;
    return false;
}

/* A firewall denies one connection, which is gone then. A filter on system calls denies all of them, and takes none: to
 * ask it for ever would keep the loop busy. So a row of denials is the listener's after all; `moved` counts them. */
static bool denied_always(struct pro_op *op, int res)
{
    op->u.io.moved = res == -EPERM ? op->u.io.moved + 1 : 0;
    return op->u.io.moved >= DENIALS;
}

static void on_accept(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event)
{
    bool multi = op->code == PROI_ACCEPT_MULTI, denied = denied_always(op, event->res);
    if (event->res >= 0)
        loop->accepted = event->res;
    if (again(op, event->res) || (of_one_connection(event->res) && !denied)) {
        go_on(loop, op);
    } else if (multi && event->res >= 0) {
        if (!event->more)
            leave_or_go_on(loop, op);
        deliver(loop, op, (struct pro_result){event->res, PRO_MORE, NULL});
    } else {
        finish(loop, op, event->res, 0);
    }
    loop->accepted = -1;
}

/* Steps over `bytes` that went. */
static void advance_iov(struct pro_op *op, size_t bytes)
{
    struct iovec *iov = op->u.io.data;
    while (op->u.io.size > 0 && bytes >= iov->iov_len) {
        bytes -= iov->iov_len;
        iov++;
        op->u.io.size--;
    }
    if (bytes > 0) {
        iov->iov_base = (char *)iov->iov_base + bytes;
        iov->iov_len -= bytes;
    }
    op->u.io.data = iov;
}

static void advance_slices(struct pro_op *op, size_t bytes)
{
    struct pro_slice *slice = op->u.io.data;
    while (slice && bytes >= slice->size) {
        struct pro_slice *next = slice->next;
        bytes -= slice->size;
        pro_slice_return(slice);
        slice = next;
    }
    if (bytes > 0) {
        proi_assert(slice);
        slice->data += bytes;
        slice->size -= (uint32_t)bytes;
    }
    op->u.io.data = slice;
}

/* Accounts for `bytes` that went; true if nothing is left. What is left of a list of slices goes back at the end. */
static bool all_went(struct pro_op *op, uint32_t bytes)
{
    op->u.io.moved += bytes;
    if (op->code == PROI_WRITE)
        return op->u.io.size == op->u.io.moved;
    proi_assert(bytes <= op->u.io.offset);
    op->u.io.offset -= bytes;
    if (op->u.io.offset == 0)
        return true;
    if (op->code == PROI_SEND)
        advance_iov(op, bytes);
    else
        advance_slices(op, bytes);
    return false;
}

/* A send that has begun and will not end breaks the stream there; a receive keeps what it has. */
int proi_handle_cut(struct pro_op *op, int error)
{
    bool at_offset = op->code == PROI_WRITE && op->u.io.offset != PRO_STREAM;
    if (proi_row(op)->sends && op->u.io.moved > 0 && !at_offset)
        op->owner.handle->flags |= PROI_H_BROKEN;
    return op->code == PROI_RECV && op->u.io.moved > 0 ? (int)op->u.io.moved : error;
}

static void on_send(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event)
{
    if (event->res > 0 && all_went(op, (uint32_t)event->res)) {
        proi_op_finish(loop, op, (int)op->u.io.moved, 0);
    } else if ((event->res > 0 || again(op, event->res)) && !(op->flags & PROI_CANCEL)) {
        go_on(loop, op);
    } else {
        int error = event->res == 0 ? -EIO : event->res;
        finish(loop, op, proi_handle_cut(op, event->res > 0 || again(op, error) ? cancel_errno(op) : error), 0);
    }
}

static void on_poll_multi(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event)
{
    if (event->res > 0) {
        if (!event->more)
            leave_or_go_on(loop, op);
        deliver(loop, op, (struct pro_result){event->res, PRO_MORE, NULL});
    } else if (again(op, event->res) || event->res == 0) {
        go_on(loop, op);
    } else {
        finish(loop, op, event->res, 0);
    }
}

static void on_close(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event)
{
    int res = event->res == -EINTR ? 0 : event->res; /* Linux has closed it */
    proi_op_finish(loop, op, op->flags & PROI_CANCEL ? cancel_errno(op) : res, 0);
}

typedef void event_fn(struct pro_loop *loop, struct pro_op *op, const struct proi_event *event);
static event_fn *const on_event[PROI_CODES] = {
    [PROI_RECV] = on_recv,     [PROI_RECV_MULTI] = on_recv_multi,
    [PROI_ACCEPT] = on_accept, [PROI_ACCEPT_MULTI] = on_accept,
    [PROI_READ] = on_recv,     [PROI_CONNECT] = on_plain,
    [PROI_SEND] = on_send,     [PROI_SEND_SLICES] = on_send,
    [PROI_WRITE] = on_send,    [PROI_SHUTDOWN] = on_plain,
    [PROI_POLL] = on_plain,    [PROI_POLL_MULTI] = on_poll_multi,
    [PROI_CLOSE] = on_close,
};

void proi_handle_event(struct pro_loop *loop, const struct proi_event *event)
{
    struct pro_op *op = event->op;
    proi_assert(op->state == PROI_ACTIVE);
    if (event->slice && event->more) { /* what a server does all day, without the detour: a piece, and ... */
        uint32_t flags = spend(loop, op, (uint32_t)event->res);
        deliver(loop, op, (struct pro_result){event->res, flags, event->slice});
    } else if (op->code == PROI_SEND_SLICES && event->res > 0 && (uint32_t)event->res == op->u.io.offset) {
        op->u.io.moved += (uint32_t)event->res; /* ... a send that is over */
        proi_op_finish(loop, op, (int)op->u.io.moved, 0);
    } else {
        proi_assert(on_event[op->code] && (!event->more || proi_row(op)->multi));
        on_event[op->code](loop, op, event);
    }
}
