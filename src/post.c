/* Posting from other threads: a stack that anyone may push to and the loop takes whole.
 *
 *      poster:  push op on `inbox`;       if (exchange(asleep, 0)) write(waker)
 *      loop:    asleep = 1; inbox empty?  then sleep;      ... take the whole inbox, turn it over: first in, first out
 *
 * Both sides write one variable and then read the other's, sequentially consistent, so at least one of them sees the
 * other: a post is never slept through. Only the first post after the loop fell asleep pays for a system call.
 *
 * The mailbox outlives the loop until its last reference is dropped, and with it the waker's descriptor: a poster that
 * is late writes to a descriptor nobody reads, never to somebody else's. A closed box holds the mark CLOSED for ever.
 * pro_post and pro_wake use lock-free atomics and write(2) only, and so may be called from a signal handler. */
#include "post.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pro_remote {
    _Atomic(struct pro_op *) inbox;
    atomic_bool asleep, woken;
    atomic_uint references;
    int waker;             /* -1: the backend looks for itself */
    struct pro_loop *loop; /* of the posted operations; not looked into */
    const uint8_t *guard;
    struct pro_allocator allocator;
};

static struct pro_op closed; /* its address is the mark; never written */
#define CLOSED (&closed)

struct pro_remote *pro_remote_ref(struct pro_remote *remote)
{
    proi_require(*remote->guard, "a remote is used in a forked child");
    atomic_fetch_add_explicit(&remote->references, 1, memory_order_relaxed);
    return remote;
}

static void unref(struct pro_remote *remote)
{
    if (atomic_fetch_sub_explicit(&remote->references, 1, memory_order_acq_rel) != 1)
        return;
    struct pro_allocator allocator = remote->allocator;
    if (remote->waker >= 0)
        close(remote->waker);
    proi_guard_free(remote->guard);
    proi_free(&allocator, remote, sizeof *remote);
}

void pro_remote_unref(struct pro_remote *remote)
{
    if (!remote)
        return;
    proi_require(*remote->guard, "a remote is used in a forked child");
    unref(remote);
}

static struct pro_remote *remote_new(struct pro_loop *loop)
{
    struct pro_remote *remote = proi_alloc(&loop->allocator, sizeof *remote, _Alignof(struct pro_remote));
    if (!remote)
        return NULL;
    remote->allocator = loop->allocator;
    remote->loop = loop;
    atomic_init(&remote->references, 1);
    atomic_init(&remote->inbox, loop->freeing ? CLOSED : NULL);
    remote->guard = proi_guard_new();
    remote->waker = loop->backend->waker ? loop->backend->waker(loop) : -1;
    if ((remote->waker >= 0 || !loop->backend->waker) && remote->guard)
        return remote;
    if (remote->waker >= 0)
        close(remote->waker);
    proi_guard_free(remote->guard);
    proi_free(&loop->allocator, remote, sizeof *remote);
    return NULL;
}

struct pro_remote *pro_remote_get(struct pro_loop *loop)
{
    proi_loop_check(loop);
    if (!loop->remote) {
        loop->remote = remote_new(loop);
        proi_loop_note(loop); /* the waker is to be watched */
    }
    return loop->remote ? pro_remote_ref(loop->remote) : NULL;
}

static void wake(struct pro_remote *remote)
{
    if (!atomic_exchange(&remote->asleep, false) || remote->waker < 0)
        return;
    int saved = errno; /* a signal handler must not change it */
    uint64_t one = 1;
    ssize_t n = write(remote->waker, &one, sizeof one);
    (void)n; /* full means it was written to and not yet seen, which is as good */
    errno = saved;
}

int pro_post(struct pro_remote *to, struct pro_op *op, pro_fn *done)
{
    proi_require(*to->guard, "a remote is used in a forked child");
    proi_require(op->state == PROI_IDLE, "an operation is posted while it is in flight");
    proi_require(done, "an operation is posted without a continuation");
    struct pro_op *first = atomic_load(&to->inbox);
    op->state = PROI_POSTED;
    op->code = PROI_POST;
    op->done = done;
    op->owner.loop = to->loop;
    do {
        if (first == CLOSED) {
            op->state = PROI_IDLE;
            return -ESHUTDOWN;
        }
        op->queue_next = first;
    } while (!atomic_compare_exchange_weak(&to->inbox, &first, op));
    wake(to);
    return 0;
}

void pro_wake(struct pro_remote *remote)
{
    proi_require(*remote->guard, "a remote is used in a forked child");
    atomic_store(&remote->woken, true);
    wake(remote);
}

/* Starts and ends at once every operation of `stack`, the oldest first. */
static void receive(struct pro_loop *loop, struct pro_op *stack, int res)
{
    struct pro_op *queue = NULL;
    while (stack) {
        struct pro_op *op = stack;
        stack = op->queue_next;
        op->queue_next = queue;
        queue = op;
    }
    while (queue) {
        struct pro_op *op = queue;
        pro_fn *done = op->done;
        queue = op->queue_next;
        op->state = PROI_IDLE;
        proi_op_begin(loop, op, PROI_POST, done);
        op->state = PROI_POSTED;
        proi_op_end(loop, op, res);
    }
}

bool proi_post_take(struct pro_loop *loop)
{
    struct pro_remote *remote = loop->remote;
    if (!remote)
        return false;
    atomic_store_explicit(&remote->asleep, false, memory_order_relaxed);
    if (atomic_load_explicit(&remote->inbox, memory_order_relaxed) && !loop->freeing)
        receive(loop, atomic_exchange(&remote->inbox, NULL), 0);
    return atomic_load_explicit(&remote->woken, memory_order_relaxed) && atomic_exchange(&remote->woken, false);
}

bool proi_post_pending(const struct pro_loop *loop)
{
    struct pro_remote *remote = loop->remote;
    return remote && ((atomic_load(&remote->inbox) && !loop->freeing) || atomic_load(&remote->woken));
}

bool proi_post_sleep(struct pro_loop *loop)
{
    if (loop->remote)
        atomic_store(&loop->remote->asleep, true);
    return !proi_post_pending(loop);
}

void proi_post_close(struct pro_loop *loop)
{
    if (loop->remote)
        receive(loop, atomic_exchange(&loop->remote->inbox, CLOSED), -ECANCELED);
}

void proi_post_fini(struct pro_loop *loop)
{
    if (loop->remote)
        unref(loop->remote);
    loop->remote = NULL;
}
