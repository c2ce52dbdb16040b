/* SPDX-License-Identifier: MIT
 *
 * The life of an operation.
 *
 *                 start                       flush                  event, without MORE
 *      IDLE ---------------> QUEUED --------> STARTING --> ACTIVE ------------------------.
 *       ^    (lane of the      |  ^   (first     |    ^      |                            |
 *       |     handle)          |  |   of lane)   |    '------'  cut short, or what the    |
 *       |                      |  | credit,      |      kernel ended unasked: once more   |
 *       |                      |  | memory       v                                        |
 *       |                      |  '---------- PARKED, STARVED  (multishot receives)       |
 *       |                      v                  |                                       |
 *       '-- continuation --- ENDED <--------------+---------------------------------------'
 *                              ^
 *      IDLE --> TIMING --------+      timers; in the wheel
 *      IDLE --> CLOSING -------+      a close that waits for the others of its handle, then STARTING
 *      IDLE --> POSTED --------'      in a remote's inbox
 *
 * Invariant: an operation is in the list its state names; it is in at most one queue, and PROI_INQUEUE tells so; with
 * PROI_TIMED it is in the wheel, or a send of which the backend has not said yet that it waits. */
#ifndef PROI_OP_H
#define PROI_OP_H

#include <proactor.h>

#include "check.h"

/* In the order of their lanes, see proi_lane_of. */
enum proi_code {
    PROI_NONE,
    PROI_RECV,
    PROI_RECV_MULTI,
    PROI_ACCEPT,
    PROI_ACCEPT_MULTI,
    PROI_READ,
    PROI_CONNECT,
    PROI_SEND,
    PROI_SEND_SLICES,
    PROI_WRITE,
    PROI_SHUTDOWN,
    PROI_POLL,
    PROI_POLL_MULTI,
    PROI_CLOSE,
    PROI_RELEASE,
    PROI_TIMER,
    PROI_POST,
    PROI_CODES,
};

enum proi_state {
    PROI_IDLE,
    PROI_QUEUED,   /* waits in its lane */
    PROI_STARTING, /* in the loop's submission queue */
    PROI_ACTIVE,   /* with the backend */
    PROI_PARKED,   /* multishot receive without credit */
    PROI_STARVED,  /* multishot receive without memory */
    PROI_TIMING,
    PROI_CLOSING,
    PROI_POSTED,
    PROI_ENDED, /* the result is final; the continuation has not run */
};

/* op->flags. Those above the line are the core's, those below the backend's. */
enum {
    PROI_TIMED = 1 << 0, /* has a deadline, which is in the wheel if time_prev is set */
    PROI_BACKGROUND = 1 << 1,
    PROI_INQUEUE = 1 << 2, /* linked by queue_next */
    PROI_CANCEL = 1 << 3,  /* cancel or deadline has been asked for */
    PROI_LATE = 1 << 4,    /* ... and it was the deadline; alone: that has passed, and waits for one more try */
    PROI_PAUSE = 1 << 5,   /* a pause waits for its answer */
    PROI_REPORT = 1 << 6,  /* in the completion queue with a result that is not final */
    PROI_ASKED = 1 << 7,   /* the backend was told to give it back */
    PROI_AT_EOF = 1 << 8,  /* the stored result is an end of file */
    PROI_ALL = 1 << 9,     /* PRO_RECV_ALL, PRO_SEND_MORE: of the start */
    /* ------------------------------------------------------------- */
    PROI_KERNEL = 1 << 10,  /* the kernel holds the request */
    PROI_KCANCEL = 1 << 11, /* the kernel holds a cancel for it */
    PROI_HELD = 1 << 12,    /* its result waits in `res` for that cancel to come back */
    PROI_POLLING = 1 << 13, /* the request at the kernel is a poll that goes before it */
    PROI_PRIVATE = 1 << 14, /* one more bit for a backend's own purpose */
    /* ------------------------------------------------------------- */
    PROI_LAZY = 1 << 15, /* pro_op_lazy */
};

enum proi_lane { PROI_RECEIVES, PROI_SENDS, PROI_OTHERS };

_Static_assert(PROI_READ < PROI_CONNECT && PROI_SHUTDOWN < PROI_POLL, "the codes are in the order of their lanes");

static inline enum proi_lane proi_lane_of(enum proi_code code)
{
    if (code <= PROI_READ)
        return PROI_RECEIVES;
    return code <= PROI_SHUTDOWN ? PROI_SENDS : PROI_OTHERS;
}

/* handle->flags */
enum {
    PROI_H_CLOSING = 1 << 0,
    PROI_H_BROKEN = 1 << 1,     /* a stream send was cut: later ones are not tried */
    PROI_H_KNOWN = 1 << 2,      /* its enum proi_kind has been asked for, see PROI_H_KIND */
    PROI_H_CONNECTION = 1 << 3, /* from a listener: no datagrams */
    PROI_H_KIND = 8,            /* it stands from this bit on */
};

/* What differs by operation, for the core. The backends have tables of their own. */
struct proi_op_row {
    const char *name;
    bool sends; /* moves bytes out, whole, in order */
    bool multi; /* completes many times */
};
extern const struct proi_op_row proi_op_rows[PROI_CODES];

static inline const struct proi_op_row *proi_row(const struct pro_op *op)
{
    proi_assert(op->code < PROI_CODES);
    return &proi_op_rows[op->code];
}

static inline bool proi_has_handle(const struct pro_op *op)
{
    return op->code != PROI_TIMER && op->code != PROI_POST;
}

#endif
