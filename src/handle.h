/* SPDX-License-Identifier: MIT
 *
 * Handles, their lanes, and what an event means for each kind of operation. */
#ifndef PROI_HANDLE_H
#define PROI_HANDLE_H

#include "loop.h"

/* The part of a start that all operations on a handle have in common. */
static inline void proi_handle_begin(struct pro_handle *handle, struct pro_op *op, enum proi_code code, pro_fn *done)
{
    struct pro_loop *loop = handle->loop;
    proi_require(loop, "an operation is started on a closed handle");
    bool tried = (code == PROI_SEND || code == PROI_SEND_SLICES) && loop->backend->tries_sends && !handle->sends;
    proi_op_begin(loop, op, code, done);
    op->owner.handle = handle;
    handle->in_flight++;
    if (op->flags & PROI_TIMED && !(tried && op->time_at > loop->now))
        proi_op_time(loop, op);
}

/* An event of the backend: calls the continuation, or starts the operation again. */
void proi_handle_event(struct pro_loop *loop, const struct proi_event *event);

/* Takes `op` out of its handle's lists, and lets the lane go on: the second when there is more to it. */
void proi_handle_unlink_listed(struct pro_op *op);
static inline void proi_handle_unlink(struct pro_op *op)
{
    struct pro_handle *handle = op->owner.handle;
    if (handle->sends == op && !op->link_next) {
        handle->sends = NULL;
        op->link_prev = NULL;
    } else {
        proi_handle_unlink_listed(op);
    }
}

/* What its descriptor is; asked once. */
enum proi_kind proi_handle_kind(struct pro_handle *handle);

/* A close or multishot receive of the submission queue is about to go to the backend. False if it may not, and stands
 * still. */
bool proi_handle_prepare(struct pro_loop *loop, struct pro_op *op);
/* The backend found no memory for a receive. */
void proi_handle_starve(struct pro_loop *loop, struct pro_op *op);
/* Memory or credit is back for a receive that is STARVED or PARKED. */
void proi_handle_resume(struct pro_op *op);

/* The report of `op`, the answer to a pause, is about to be delivered with the flags that are returned. */
uint32_t proi_handle_answer(struct pro_op *op);
/* Cancels everything in flight but a close. */
void proi_handle_cancel(struct pro_handle *handle);

/* The final continuation of an operation on `handle` has run. */
void proi_handle_left_closing(struct pro_handle *handle);
static inline void proi_handle_left(struct pro_handle *handle)
{
    proi_assert(handle->in_flight > 0);
    handle->in_flight--;
    if (handle->flags & PROI_H_CLOSING)
        proi_handle_left_closing(handle);
}
/* `op` ends between two rounds with the backend: what it must be told, given what it had moved already. */
int proi_handle_cut(struct pro_op *op, int error);

/* The close is done with `res`, but something was started on the handle since: true if it has to wait for that. */
bool proi_handle_wait_last(struct pro_op *op, int res);
/* The final continuation of the close itself is about to run: nothing of the handle may be touched after it. */
void proi_handle_closed(struct pro_op *op);
/* A close that should hurry. */
void proi_handle_hurry(struct pro_op *op, bool late);

/* Pull-down, last step: the descriptors that were never closed. */
void proi_handles_drop(struct pro_loop *loop);

#endif
