/* SPDX-License-Identifier: MIT
 *
 * Posting from other threads: a stack that anyone may push to and the loop takes whole.
 *
 *      poster:  push op on `inbox`;       if (asleep && exchange(asleep, 0)) write(waker)
 *      loop:    asleep = 1; inbox empty?  then sleep;      ... take the whole inbox, turn it over: first in, first out
 *
 * Both sides write one variable and then read the other's, sequentially consistent, so at least one of them sees the
 * other: a post is never slept through. In detail: if the loop finds the inbox empty, then in the one order that all
 * such operations have, asleep = 1 comes before the push, and the push before the poster's look at `asleep`. That look
 * finds the 1, or what was written over it: a 0 by another poster, who is about to write to the waker, or by the loop,
 * which has woken up and looks into the inbox before it sleeps again. The look itself is a plain load; the exchange
 * comes after it only to make one system call of many posters' wishes, and costs nothing while the loop is awake.
 *
 * The operations of a taken inbox are known one by one, each by the one before, and each has to be fetched from the cache
 * of the processor that posted it. So posters leave a note of what they posted, `trail`, for the loop to fetch several
 * at a time. It is a hint, written without any care for others who write, and only ever prefetched.
 *
 * Only the first post after the loop fell asleep pays for a system call, and so does the loop, for being woken. So after
 * posts it looks into the inbox for another moment before it falls asleep, if that has been of use lately (linger).
 *
 * The mailbox outlives the loop until its last reference is dropped, and with it the waker's descriptor: a poster that
 * is late writes to a descriptor nobody reads, never to somebody else's. A closed box holds the mark CLOSED for ever.
 * pro_post and pro_wake use lock-free atomics and write(2) only, and so may be called from a signal handler. */
#include "post.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    CACHE_LINE = 64,
    TRAIL = 256, /* a power of two */
    AHEAD = 8,   /* of the one that is worked on */
    LOOKS = 64,  /* into the inbox before the loop falls asleep: a microsecond, or three where a pause is long */
    CHANCES = 4, /* looks in vain, one after the other, after which it is given up */
    TRY = 16,    /* ... but for one time in so many */
};

/* What posters need is together, and what only the loop writes is not near it. */
struct pro_remote {
    _Alignas(CACHE_LINE) _Atomic(struct pro_op *) inbox;
    atomic_bool asleep, woken;
    atomic_uint references;
    int waker;             /* -1: the backend looks for itself */
    struct pro_loop *loop; /* of the posted operations; not looked into */
    struct proi_guard *guard;
    atomic_uint posted; /* where the trail goes on */

    _Alignas(CACHE_LINE) bool announced; /* the loop has said that it is asleep */
    bool taken;                          /* something, since it last was about to say so */
    unsigned chances, tries;
    struct pro_allocator allocator;

    _Alignas(CACHE_LINE) _Atomic(struct pro_op *) trail[TRAIL];
};

static struct pro_op closed; /* its address is the mark; never written */
#define CLOSED (&closed)

struct pro_remote *pro_remote_ref(struct pro_remote *remote)
{
    proi_require(remote->guard->owner, "a remote is used in a forked child");
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
    proi_require(remote->guard->owner, "a remote is used in a forked child");
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
    /* Last, for the backend watches it from then on. */
    remote->waker = remote->guard && loop->backend->waker ? loop->backend->waker(loop) : -1;
    if (remote->guard && (remote->waker >= 0 || !loop->backend->waker))
        return remote;
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
    if (!atomic_load(&remote->asleep) || !atomic_exchange(&remote->asleep, false) || remote->waker < 0)
        return;
    int saved = errno; /* a signal handler must not change it */
    uint64_t one = 1;
    ssize_t n = write(remote->waker, &one, sizeof one);
    (void)n; /* full means it was written to and not yet seen, which is as good */
    errno = saved;
}

int pro_post(struct pro_remote *to, struct pro_op *op, pro_fn *done)
{
    proi_require(to->guard->owner, "a remote is used in a forked child");
    proi_require(op->state == PROI_IDLE, "an operation is posted while it is in flight");
    proi_require(done, "an operation is posted without a continuation");
    struct pro_op *first = atomic_load(&to->inbox);
    unsigned posted = atomic_load_explicit(&to->posted, memory_order_relaxed);
    op->state = PROI_POSTED;
    op->code = PROI_POST;
    op->done = done;
    op->owner.loop = to->loop;
    atomic_store_explicit(&to->posted, posted + 1, memory_order_relaxed);
    atomic_store_explicit(&to->trail[posted % TRAIL], op, memory_order_relaxed);
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
    proi_require(remote->guard->owner, "a remote is used in a forked child");
    atomic_store(&remote->woken, true);
    wake(remote);
}

static void fetch(const struct pro_remote *remote, unsigned posted)
{
    const struct pro_op *op = atomic_load_explicit(&remote->trail[posted % TRAIL], memory_order_relaxed);
    __builtin_prefetch((const void *)((uintptr_t)op + offsetof(struct pro_op, queue_next)), 1);
    __builtin_prefetch((const void *)((uintptr_t)op + offsetof(struct pro_op, res)), 1);
}

/* Starts and ends at once every operation of `stack`, the oldest first. They come from other processors' caches: what is
 * to be done to one is done at its first touch. */
static void receive(struct pro_loop *loop, struct pro_op *stack, int res)
{
    struct pro_op *queue = NULL;
    uint32_t count = 0;
    unsigned posted = atomic_load_explicit(&loop->remote->posted, memory_order_relaxed) - 1;
    for (unsigned i = 1; i < AHEAD; i++)
        fetch(loop->remote, posted - i);
    while (stack) {
        struct pro_op *op = stack;
        fetch(loop->remote, posted-- - AHEAD);
        stack = op->queue_next;
        op->queue_next = queue;
        queue = op;
        loop->background += (op->flags & PROI_BACKGROUND) != 0;
        op->flags = (op->flags & PROI_BACKGROUND) | PROI_INQUEUE;
        op->state = PROI_ENDED;
        op->res = res;
        count++;
    }
    while (queue) {
        struct pro_op *op = queue;
        queue = op->queue_next;
        proi_braid_push(&loop->completions, op);
    }
    loop->stats.started += count;
    loop->stats.in_flight += count;
    loop->remote->taken |= count > 0;
    proi_loop_note(loop);
}

bool proi_post_take(struct pro_loop *loop)
{
    struct pro_remote *remote = loop->remote;
    if (!remote)
        return false;
    if (remote->announced) {
        remote->announced = false;
        atomic_store_explicit(&remote->asleep, false, memory_order_relaxed);
    }
    if (atomic_load_explicit(&remote->inbox, memory_order_relaxed) && !loop->freeing)
        receive(loop, atomic_exchange(&remote->inbox, NULL), 0);
    return atomic_load_explicit(&remote->woken, memory_order_relaxed) && atomic_exchange(&remote->woken, false);
}

bool proi_post_pending(const struct pro_loop *loop)
{
    struct pro_remote *remote = loop->remote;
    return remote && ((atomic_load(&remote->inbox) && !loop->freeing) || atomic_load(&remote->woken));
}

/* Where one post follows the other quickly, the next is there sooner than the loop could sleep and be woken: both sides
 * are spared the system calls. Bounded; never without a post since the last time; and hardly ever if it is in vain. */
static bool linger(struct pro_remote *remote)
{
    bool taken = remote->taken;
    remote->taken = false;
    if (!taken || remote->waker < 0 || (remote->chances == 0 && ++remote->tries % TRY != 0))
        return false;
    for (unsigned i = 0; i < LOOKS; i++) {
        if (atomic_load_explicit(&remote->inbox, memory_order_relaxed)) {
            remote->chances = CHANCES;
            return true;
        }
        proi_relax();
    }
    remote->chances -= remote->chances > 0;
    return false;
}

bool proi_post_sleep(struct pro_loop *loop)
{
    if (!loop->remote)
        return true;
    if (linger(loop->remote))
        return false;
    loop->remote->announced = true;
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
