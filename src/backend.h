/* SPDX-License-Identifier: MIT
 *
 * The one seam. A backend turns a started operation into results; time, the wait for something to happen and every
 * system call about descriptors are reached through it and through nothing else. It calls no user code, knows no timers
 * and keeps no policy: order, credit, cancel, deadlines and close are the core's, once for all backends.
 *
 *      core                                    backend
 *       start(op)  ------------------------->   (SQE prepared; handle marked)
 *       cancel(op) ------------------------->   "give it back soon"
 *       spin(until) ------------------------>   submit, look (where the program asked for it)
 *       wait(until) ------------------------>   submit, sleep
 *       look() ----------------------------->   what else has happened (where a deadline has passed)
 *       reap(&event) until false <-----------   one result at a time, at the pace the core sets
 *
 * An operation between start() and the event without `more` that answers it is ACTIVE: the backend may use its
 * queue_next, the lower flags and, for what the row allows, its arguments. After that event the backend holds no
 * reference to it, and neither does the kernel. */
#ifndef PROI_BACKEND_H
#define PROI_BACKEND_H

#include <proactor.h>

/* One result. `res` as the system call would have it: 0 is not yet an end of file. A multishot receive without `more`
 * and -ENOBUFS found no memory; -ECANCELED is what a cancelled operation says unless its result won. */
struct proi_event {
    struct pro_op *op;
    struct pro_slice *slice;
    int32_t res;
    bool more;
};

/* What a descriptor is, as far as it matters. */
enum proi_kind {
    PROI_BYTES,     /* a byte stream: 0 received bytes are its end, and a send may go in parts */
    PROI_TCP,       /* the same, and a receive that brings less than asked for has emptied it */
    PROI_PACKETS,   /* borders are kept; 0 bytes are its end */
    PROI_DATAGRAMS, /* borders are kept; 0 bytes are one */
};

/* Slices that go out in one system call, at most; of what keeps borders, also the most that can be sent. */
enum { PROI_GATHER = 64 };

/* What needs no waiting: each returns at once, 0 (or what its comment says) or a negative errno. */
struct proi_control {
    int (*socket)(struct pro_loop *loop, int family, int type, int protocol); /* a descriptor */
    int (*listen)(struct pro_loop *loop, int fd, const struct sockaddr *address, socklen_t length, int backlog,
                  unsigned flags);
    int (*name)(struct pro_loop *loop, int fd, bool peer, struct sockaddr_storage *ret, socklen_t *ret_length);
    int (*set)(struct pro_loop *loop, int fd, int level, int name, const void *value, socklen_t length);
    int (*get)(struct pro_loop *loop, int fd, int level, int name, void *value, socklen_t *length);
    int (*unsent)(struct pro_loop *loop, int fd); /* bytes that the peer's kernel does not have */
    int (*try_send)(struct pro_loop *loop, int fd, const void *data, size_t size); /* bytes */
    int (*close)(struct pro_loop *loop, int fd);
    void (*reset)(struct pro_loop *loop, int fd); /* the connection, for whoever holds it; else nothing */
    enum proi_kind (*kind)(struct pro_loop *loop, int fd);
};

/* Deadlines that are meant never to pass are this far away: what waits for one may wake up for nothing in between. */
#define PROI_FAR_NS UINT64_C(1000000000)

struct proi_backend {
    enum pro_backend_kind kind;
    /* A send on a socket has an event by the end of the next wait(), or proi_op_time() is called for it: it waits. */
    bool tries_sends;

    /* Sets loop->backend_state and adds what it found to the description. On failure it leaves nothing behind, and
     * the reason in the description. */
    int (*init)(struct pro_loop *loop, const struct pro_config *config);
    /* Nothing is active. Also called in a forked child, where it gives back the child's copies and touches nothing that
     * the parent shares. */
    void (*fini)(struct pro_loop *loop);
    /* Once, on the loop's thread, before the first start(). */
    int (*enable)(struct pro_loop *loop);

    /* 0; -EAGAIN: no room before the next wait(), ask again then; -ENOBUFS: a receive from a pool that is dry. */
    int (*start)(struct pro_loop *loop, struct pro_op *op);
    /* 0, or -EAGAIN as above. Asked once for an active operation. */
    int (*cancel)(struct pro_loop *loop, struct pro_op *op);
    /* Submits what was started, and returns when something has completed, when woken, or at `until` (0: at once). 0, or a
     * failure, which is final: the backend is broken. */
    int (*wait)(struct pro_loop *loop, uint64_t until);
    /* Comes after wait(): asks the kernel for what has happened meanwhile, though there be something to reap. 0; 1 if
     * there may be results that reap() will not tell, because the kernel refuses for now, or has too many; or as wait()
     * a failure. NULL: wait() has told what there is. */
    int (*look)(struct pro_loop *loop);
    /* Submits what was started, and looks for results for loop->spin_ns, but not beyond `until`, without sleeping. True
     * when there is something to reap, or posted; wait() is called next in any case. The loop has not been declared
     * asleep yet: posters do not write to the waker, so this looks at proi_post_pending() itself. NULL: it never spins. */
    bool (*spin)(struct pro_loop *loop, uint64_t until);
    /* Takes the next event of those that were there when wait() or look() returned; false when there is none left. */
    bool (*reap)(struct pro_loop *loop, struct proi_event *ret_event);

    /* The descriptor is about to be closed or given away: nothing is in flight on it. */
    void (*forget)(struct pro_loop *loop, struct pro_handle *handle);
    /* The pool will not be used on this loop any more: nothing is in flight on it. */
    void (*forget_pool)(struct pro_loop *loop, struct pro_pool *pool);
    /* About once a second, while there may be memory to give back: the backend gives the pool what it has had of it for
     * long without need. True if it should be asked again. NULL: it keeps no buffers. */
    bool (*tidy_pool)(struct pro_loop *loop, struct pro_pool *pool);

    uint64_t (*now)(const struct pro_loop *loop); /* CLOCK_MONOTONIC, ns */
    /* A descriptor, the caller's, which ends wait() when written to as an eventfd; watched until fini. NULL: wait() looks
     * at proi_post_pending() itself. */
    int (*waker)(struct pro_loop *loop);
    /* For pro_loop_fd: a descriptor that is readable once something completed; and a note that nothing but an event or
     * the time `until` (0: at once) needs a run. */
    int (*pollable)(struct pro_loop *loop);
    void (*pollable_arm)(struct pro_loop *loop, uint64_t until);

    const struct proi_control *control;
};

extern const struct proi_backend proi_backend_uring, proi_backend_epoll, proi_backend_sim;
extern const struct proi_control proi_control_kernel;
uint64_t proi_kernel_now(const struct pro_loop *loop);

/* Chooses and initialises: fills loop->backend, or fails with everything undone. */
int proi_backend_select(struct pro_loop *loop, const struct pro_config *config);

#endif
