/* SPDX-License-Identifier: MIT */
#include "fake_core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "check.h"

struct fake_core core;
struct pro_loop *const loop = (struct pro_loop *)(void *)&core;
struct pro_pool *const pool = (struct pro_pool *)(void *)&core;

void proi_die(const char *kind, const char *what, const char *file, int line)
{
    print_error("%s:%d: %s: %s\n", file, line, kind, what);
    abort();
}

static void start(struct pro_op *op, uint8_t code, pro_fn *done)
{
    assert_int_equal(op->code, IDLE);
    op->code = code;
    op->done = done;
    op->flags = 0;
}

bool pro_op_in_flight(const struct pro_op *op)
{
    return op->code != IDLE;
}

uint64_t pro_now(const struct pro_loop *of)
{
    assert_ptr_equal(of, loop);
    return core.now;
}

void pro_adopt(struct pro_loop *of, struct pro_handle *handle, int fd)
{
    handle->loop = of;
    handle->fd = fd;
}

int pro_socket(struct pro_loop *of, struct pro_handle *handle, int family, int type, int protocol)
{
    pro_adopt(of, handle, 3);
    return 0;
}

void pro_connect(struct pro_handle *handle, struct pro_op *op, const struct sockaddr *address, socklen_t length,
                 pro_fn *done)
{
    start(op, CONNECT, done);
}

void pro_recv_multi(struct pro_handle *handle, struct pro_op *op, struct pro_pool *from, uint32_t credit, pro_fn *done)
{
    assert_ptr_equal(from, pool);
    start(op, RECEIVE, done);
    op->u.stream.credit = credit;
}

void pro_recv_credit(struct pro_op *op, uint32_t bytes)
{
    assert_int_equal(op->code, RECEIVE);
    assert_int_equal(op->u.stream.credit, 0); /* never given twice */
    op->u.stream.credit = bytes;
}

void pro_recv_pause(struct pro_op *op)
{
    assert_int_equal(op->code, RECEIVE);
    assert_int_equal(core.pauses, 0); /* never asked for twice */
    op->u.stream.credit = 0;
    core.pauses++;
}

void pro_send(struct pro_handle *handle, struct pro_op *op, struct iovec *iov, int count, unsigned flags, pro_fn *done)
{
    assert_int_equal(count, 1);
    start(op, SEND, done);
    op->u.io.data = iov->iov_base;
    op->u.io.size = (uint32_t)iov->iov_len;
    *iov = (struct iovec){NULL, 0}; /* it may be modified */
}

void pro_send_slices(struct pro_handle *handle, struct pro_op *op, struct pro_slice *list, pro_fn *done)
{
    start(op, SLICES, done);
    op->u.io.size = 0;
    for (const struct pro_slice *slice = list; slice; slice = slice->next)
        op->u.io.size += slice->size;
    pro_slice_return_list(list); /* whenever the core likes */
}

void pro_shutdown(struct pro_handle *handle, struct pro_op *op, int how, pro_fn *done)
{
    assert_int_equal(how, SHUT_WR);
    start(op, SHUTDOWN, done);
}

void pro_timer_after(struct pro_loop *of, struct pro_op *op, uint64_t delay_ns, pro_fn *done)
{
    assert_ptr_equal(of, loop);
    assert_int_equal(delay_ns, 0);
    start(op, TIMER, done);
}

void pro_close(struct pro_handle *handle, struct pro_op *op, pro_fn *done)
{
    assert_non_null(handle->loop);
    start(op, CLOSE, done);
}

void pro_abort(struct pro_handle *handle, struct pro_op *op, pro_fn *done)
{
    assert_non_null(handle->loop);
    start(op, ABORT, done);
}

void pro_deadline(struct pro_op *op, uint64_t at)
{
    op->time_at = at;
}

/* Kept where a fake operation has nothing else. */
void pro_op_lazy(struct pro_op *op, bool lazy)
{
    op->u.io.moved = lazy;
}

void pro_cancel(struct pro_op *op)
{
    op->flags = op->code != IDLE; /* was cancelled */
}

int pro_try_send(struct pro_handle *handle, const void *data, size_t size)
{
    return core.try_error ? core.try_error : (int)size;
}

int pro_unsent(const struct pro_handle *handle)
{
    return core.unsent;
}

void pro_slice_return(struct pro_slice *slice)
{
    assert_non_null(slice->buffer);
    slice->buffer = NULL;
    core.returned++;
}

void pro_slice_return_list(struct pro_slice *list)
{
    while (list) {
        struct pro_slice *next = list->next;
        pro_slice_return(list);
        list = next;
    }
}

uint32_t pro_slice_pinned(const struct pro_slice *slice)
{
    assert_non_null(slice->buffer);
    return PINNED;
}

bool pro_slice_shares(const struct pro_slice *a, const struct pro_slice *b)
{
    return a->buffer == b->buffer;
}
