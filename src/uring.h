/* SPDX-License-Identifier: MIT
 *
 * The ring of a loop, as its four parts know it: requests and completions (backend_uring.c), receives that are watched
 * (uring_watch.c), the buffers that others take their memory from (uring_buffers.c), and the way into the kernel and back
 * (uring_wait.c). */
#ifndef PROI_URING_H
#define PROI_URING_H

#include "backend.h"

#include "embed.h"
#include "loop.h"
#include "uring_abi.h"

enum {
    MESSAGES = 32,  /* gathered sends between two submissions */
    TAG_CANCEL = 1, /* in the low bits of user_data */
    TAG_PIECE = 2,
    TAG_TRIED = 4,
    TAGS = 7,
    DRAINED = 0, /* no operation has these addresses */
    ALARM = 1,
    WAKER = 2,
    NOBODY = 3,
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
    uint32_t limit;           /* CQEs that were there when wait() returned */
    uint32_t seen;            /* CQEs up to here have been looked through for sends that were tried and fell short */
    uint32_t lazy, prompt;    /* of `tried`: those that a sleep may delay, and those that it may not */
    struct proi_queue tried;  /* sends since the last enter, in the order of their SQEs */
    struct proi_queue done;   /* for reap(): sends that went, receives that left `line`; the result is in `res` */
    struct proi_queue line;   /* receives that are watched and know of data */
    uint32_t messages;        /* used since the last submission */
    uint32_t writes;          /* in flight, which may raise SIGPIPE */
    uint32_t drains;          /* CQEs to come that take buffers back ... */
    struct pro_pool *drained; /* ... from this pool's ring; NULL: it has been forgotten */
    uint32_t min_wait_us;
    uint64_t alarm_at; /* UINT64_MAX: none stands */
    struct __kernel_timespec alarm;
    int waker;   /* -1: none */
    int eventfd; /* signalled at completions, for pro_loop_fd; -1: none */
    bool waker_armed, overflown, nosignal, registers;
    struct proi_embed embed;
    struct message message[MESSAGES];
};

static inline struct uring *proi_uring_of(const struct pro_loop *loop)
{
    return loop->backend_state;
}

/* The kernel has its own copy of the messages of what it took off the queue; what it left still points to ours. */
static inline void proi_uring_submitted(struct uring *u)
{
    if (io_uring_sq_ready(&u->ring) == 0)
        u->messages = 0;
}

static inline void proi_uring_submit(struct uring *u)
{
    io_uring_submit(&u->ring);
    proi_uring_submitted(u);
}

/* NULL when the kernel takes none off the queue. */
static inline struct io_uring_sqe *proi_uring_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe)
        return sqe;
    proi_uring_submit(u);
    return io_uring_get_sqe(&u->ring);
}

/* handle->backend_flags */
enum {
    URING_ASKED = 1 << 0,    /* it was looked up whether ... */
    URING_BLOCKING = 1 << 1, /* ... it is a terminal that may block a writer */
    URING_STREAMS = 1 << 2,  /* its receives bring much at once */
    /* Of its receive that is watched: */
    URING_IN_LINE = 1 << 3, /* or its piece is under way */
    URING_ENDS = 1 << 4,    /* an end or error is to be received, perhaps behind data */
    URING_OVER = 1 << 5,    /* its result is in `res`, and final */
    /* ---------------------------------------------------------- */
    URING_SMALL_PIECE = 1 << 8, /* counted from this bit on: small pieces in a row */
};

enum { URING_STREAM_FROM = 32 * 1024 }; /* bytes in one piece that make a handle one that streams */

static inline bool proi_uring_is_watched(const struct pro_op *op)
{
    return op->code == PROI_RECV_MULTI && op->flags & PROI_POLLING;
}

/* What a piece of `bytes` (not 0) says about its handle. */
void proi_uring_adapt(struct pro_op *op, uint32_t bytes);
/* Whether `op` is to be watched: its handle streams, or there is no ring of buffers. */
bool proi_uring_may_watch(const struct pro_op *op);
void proi_uring_watch(struct pro_op *op, struct io_uring_sqe *sqe);
/* A CQE of the poll. True when `op` is over, with what is in `res`. */
bool proi_uring_on_watch(struct uring *u, struct pro_op *op, const struct io_uring_cqe *cqe);
/* Asks for pieces, of handles that stream for one; true if that leaves some in line. */
bool proi_uring_receive_next(struct pro_loop *loop);
/* The CQE of a piece. Whether that makes an event. */
bool proi_uring_on_piece(struct pro_loop *loop, struct pro_op *op, const struct io_uring_cqe *cqe,
                         struct proi_event *ret_event);

/* Gives the pool a ring. Where that is refused it is not tried again. */
void proi_uring_open_group(struct pro_loop *loop, struct pro_pool *pool);
/* Moves free buffers of the pool into the kernel's ring, up to the level. */
void proi_uring_fill(struct pro_pool *pool, struct group *group);
/* A receive found none in it. */
void proi_uring_ran_dry(struct group *group);
/* The kernel has taken a buffer back. */
void proi_uring_drained(struct uring *u, const struct io_uring_cqe *cqe);
bool proi_uring_tidy_pool(struct pro_loop *loop, struct pro_pool *pool);
void proi_uring_forget_pool(struct pro_loop *loop, struct pro_pool *pool);

int proi_uring_wait(struct pro_loop *loop, uint64_t until);
int proi_uring_look(struct pro_loop *loop);
bool proi_uring_spin(struct pro_loop *loop, uint64_t until);
int proi_uring_waker(struct pro_loop *loop);
int proi_uring_pollable(struct pro_loop *loop);
void proi_uring_pollable_arm(struct pro_loop *loop, uint64_t until);

#endif
