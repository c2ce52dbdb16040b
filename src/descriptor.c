/* SPDX-License-Identifier: MIT
 *
 * Descriptors: how they become handles, what can be asked of them at once, and how they end.
 *
 * The close. It cancels what is in flight, waits until all those continuations have run, and is then handed to the
 * backend like any other operation. Nothing on the handle is alive at that moment, which is why no operation can ever
 * act on a descriptor number that somebody else got.
 *
 * A start that comes later still, on a closing handle, ends -ECANCELED and is waited for like the others, so that the
 * continuation of the close is the last to be called: there the handle and all its operations may be freed.
 *
 * Possible failure modes: an operation that the kernel does not let go of. A deadline or a cancel on the close resets
 * the connection, which leaves nothing to wait for. */
#include "handle.h"

#include <errno.h>
#include <string.h>

#include "pool.h"

/* --- descriptors in and out ------------------------------------------------------------------------------------------ */

void pro_adopt(struct pro_loop *loop, struct pro_handle *handle, int fd)
{
    proi_loop_check(loop);
    proi_require(!handle->loop, "a descriptor is adopted into an open handle");
    proi_require(fd >= 0, "a negative descriptor is adopted");
    memset(handle, 0, sizeof *handle);
    handle->loop = loop;
    handle->fd = fd;
    if (fd == loop->accepted) {
        handle->flags = PROI_H_CONNECTION;
        loop->accepted = -1;
    }
    handle->next = loop->handles;
    if (loop->handles)
        loop->handles->prev = handle;
    loop->handles = handle;
}

static void forget(struct pro_handle *handle)
{
    struct pro_loop *loop = handle->loop;
    if (handle->prev)
        handle->prev->next = handle->next;
    else
        loop->handles = handle->next;
    if (handle->next)
        handle->next->prev = handle->prev;
    proi_pool_orphan(handle);
    memset(handle, 0, sizeof *handle);
}

int pro_socket(struct pro_loop *loop, struct pro_handle *handle, int family, int type, int protocol)
{
    proi_loop_check(loop);
    int fd = loop->backend->control->socket(loop, family, type, protocol);
    if (fd < 0)
        return fd;
    pro_adopt(loop, handle, fd);
    return 0;
}

int pro_listen(struct pro_loop *loop, struct pro_handle *handle, const struct sockaddr *address, socklen_t length,
               int backlog, unsigned flags)
{
    const struct proi_control *control = loop->backend->control;
    proi_loop_check(loop);
    int fd = control->socket(loop, address->sa_family, SOCK_STREAM, 0);
    if (fd < 0)
        return fd;
    int r = control->listen(loop, fd, address, length, backlog > 0 ? backlog : SOMAXCONN, flags);
    if (r < 0) {
        control->close(loop, fd);
        return r;
    }
    pro_adopt(loop, handle, fd);
    return 0;
}

static struct pro_loop *open_loop(const struct pro_handle *handle)
{
    proi_require(handle->loop, "a closed handle is used");
    proi_loop_check(handle->loop);
    return handle->loop;
}

int pro_local_address(const struct pro_handle *handle, struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
    struct pro_loop *loop = open_loop(handle);
    return loop->backend->control->name(loop, handle->fd, false, ret_address, ret_length);
}

int pro_peer_address(const struct pro_handle *handle, struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
    struct pro_loop *loop = open_loop(handle);
    return loop->backend->control->name(loop, handle->fd, true, ret_address, ret_length);
}

int pro_option_set(struct pro_handle *handle, int level, int name, const void *value, socklen_t length)
{
    struct pro_loop *loop = open_loop(handle);
    handle->flags &= (uint16_t)~PROI_H_KNOWN; /* TLS in the kernel comes by an option */
    return loop->backend->control->set(loop, handle->fd, level, name, value, length);
}

int pro_option_get(const struct pro_handle *handle, int level, int name, void *value, socklen_t *length)
{
    struct pro_loop *loop = open_loop(handle);
    return loop->backend->control->get(loop, handle->fd, level, name, value, length);
}

int pro_unsent(const struct pro_handle *handle)
{
    struct pro_loop *loop = open_loop(handle);
    return loop->backend->control->unsent(loop, handle->fd);
}

void pro_discard(struct pro_loop *loop, int fd)
{
    proi_loop_check(loop);
    if (fd == loop->accepted)
        loop->accepted = -1;
    loop->backend->control->close(loop, fd);
}

/* --- the close --------------------------------------------------------------------------------------------------------- */

/* From the back, so that the first of a lane ends last and nothing starts in between. */
static void cancel_list(struct pro_loop *loop, struct pro_op *head)
{
    for (struct pro_op *op = head ? head->link_prev : NULL, *before; op; op = before) {
        before = op == head ? NULL : op->link_prev;
        if (op->code != PROI_CLOSE && op->code != PROI_RELEASE)
            proi_op_cancel(loop, op, false);
    }
}

void proi_handle_cancel(struct pro_handle *handle)
{
    struct pro_loop *loop = handle->loop;
    /* First, for a send that ends may give back the memory it waits for; each, for the next may take its place. */
    while (handle->parked)
        proi_op_cancel(loop, handle->parked, false);
    cancel_list(loop, handle->receives);
    cancel_list(loop, handle->sends);
    cancel_list(loop, handle->others);
}

static struct pro_op *close_of(const struct pro_handle *handle)
{
    struct pro_op *op = handle->others;
    while (op && op->state != PROI_CLOSING)
        op = op->link_next;
    return op;
}

void pro_cancel_all(struct pro_handle *handle)
{
    struct pro_loop *loop = open_loop(handle);
    proi_handle_cancel(handle);
    if (close_of(handle))
        proi_op_cancel(loop, close_of(handle), false);
}

/* Nothing but the close is in flight any more. */
static void close_now(struct pro_op *op)
{
    struct pro_handle *handle = op->owner.handle;
    struct pro_loop *loop = handle->loop;
    proi_assert(op->state == PROI_CLOSING && handle->others == op && !op->link_next);
    proi_assert(!handle->receives && !handle->sends && !handle->parked);
    if (op->code == PROI_CLOSE) {
        proi_op_submit(loop, op);
        return;
    }
    loop->backend->forget(loop, handle);
    proi_op_end(loop, op, handle->fd);
}

static void close_start(struct pro_handle *handle, struct pro_op *op, enum proi_code code, pro_fn *done)
{
    open_loop(handle);
    proi_require(!(handle->flags & PROI_H_CLOSING), "a handle is closed twice");
    proi_handle_begin(handle, op, code, done);
    handle->flags |= PROI_H_CLOSING;
    op->state = PROI_CLOSING;
    proi_list_append(&handle->others, op);
    proi_handle_cancel(handle);
    if (handle->in_flight == 1)
        close_now(op);
}

void pro_close(struct pro_handle *handle, struct pro_op *op, pro_fn *done)
{
    close_start(handle, op, PROI_CLOSE, done);
}

void pro_abort(struct pro_handle *handle, struct pro_op *op, pro_fn *done)
{
    struct pro_loop *loop = open_loop(handle);
    proi_require(!(handle->flags & PROI_H_CLOSING), "a handle is closed twice");
    loop->backend->control->reset(loop, handle->fd);
    close_start(handle, op, PROI_CLOSE, done);
}

void pro_release(struct pro_handle *handle, struct pro_op *op, pro_fn *done)
{
    close_start(handle, op, PROI_RELEASE, done);
}

void proi_handle_hurry(struct pro_op *op, bool late)
{
    struct pro_handle *handle = op->owner.handle;
    if (op->code == PROI_RELEASE || op->flags & PROI_HELD)
        return; /* the descriptor is to stay as it is, or gone */
    op->flags |= (uint16_t)(PROI_CANCEL | (late ? PROI_LATE : 0));
    handle->loop->backend->control->reset(handle->loop, handle->fd);
}

void proi_handle_left_closing(struct pro_handle *handle)
{
    struct pro_op *op = handle->in_flight == 1 ? close_of(handle) : NULL;
    if (op && op->flags & PROI_HELD)
        proi_op_end(handle->loop, op, op->res);
    else if (op)
        close_now(op);
}

bool proi_handle_wait_last(struct pro_op *op, int res)
{
    struct pro_handle *handle = op->owner.handle;
    if (handle->in_flight == 1)
        return false;
    op->flags |= PROI_HELD;
    op->state = PROI_CLOSING;
    op->res = res;
    handle->fd = -1; /* the number may be somebody else's by now */
    proi_list_append(&handle->others, op);
    return true;
}

void proi_handle_closed(struct pro_op *op)
{
    forget(op->owner.handle);
}

void proi_handles_drop(struct pro_loop *loop)
{
    while (loop->handles) {
        struct pro_handle *handle = loop->handles;
        if (loop->guard->owner)
            loop->backend->forget(loop, handle);
        loop->backend->control->close(loop, handle->fd);
        forget(handle);
    }
}
