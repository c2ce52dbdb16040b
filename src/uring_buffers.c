/* SPDX-License-Identifier: MIT
 *
 * A pool's buffers in the kernel's hands: a ring of them for each pool, filled up before every enter, and how full it is
 * kept.
 *
 *      pool --fill--> ring --a receive--> program --its last slice--> pool
 *                      '-----drain------> pool, cold
 *
 * Few buffers stay in the cache, so the level begins low. A receive that finds the ring empty (-ENOBUFS) raises it, and
 * a second or two in which little was used lowers it again. What may fail: the ring is refused, and receives then wait
 * for data before they take a buffer; the counter that a drain reads from is, and what is in the ring stays there. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "pool.h"
#include "uring.h"

enum {
    FIRST_LEVEL = 4, /* buffers in the ring to begin with: few stay warm in the cache */
};

void proi_uring_fill(struct pro_pool *pool, struct group *group)
{
    int added = 0;
    int mask = io_uring_buf_ring_mask(group->entries);
    group->stocked = group->level;
    if (group->filled < group->least)
        group->least = group->filled;
    while (group->filled < group->level) {
        struct pro_buffer *buffer = proi_pool_take(pool);
        if (!buffer)
            break;
        io_uring_buf_ring_add(group->ring, buffer->data, pool->buffer_size, (unsigned short)buffer->id, mask, added++);
        group->filled++;
    }
    if (added)
        io_uring_buf_ring_advance(group->ring, added);
}

static uint16_t unused_group(const struct pro_loop *loop)
{
    for (uint16_t id = 0;; id++) {
        bool used = false;
        for (const struct pro_pool *pool = loop->pools; pool && !used; pool = pool->next)
            used = pool->backend_state && ((const struct group *)pool->backend_state)->id == id;
        if (!used)
            return id;
    }
}

static size_t ring_size(uint32_t entries)
{
    return entries * sizeof(struct io_uring_buf);
}

void proi_uring_open_group(struct pro_loop *loop, struct pro_pool *pool)
{
    struct uring *u = proi_uring_of(loop);
    uint32_t entries = 1;
    while (entries < pool->max_buffers)
        entries *= 2;
    struct group *group = proi_alloc(&loop->allocator, sizeof *group, _Alignof(struct group));
    size_t page = (size_t)sysconf(_SC_PAGESIZE); /* where the kernel wants it to begin */
    void *ring = group ? proi_alloc(&loop->allocator, ring_size(entries), page) : NULL;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)ring, .ring_entries = entries, .bgid = unused_group(loop)};
    if (!ring || io_uring_register_buf_ring(&u->ring, &reg, 0) < 0) {
        proi_free(&loop->allocator, ring, ring_size(entries));
        proi_free(&loop->allocator, group, sizeof *group);
        pool->ringless = true;
        return;
    }
    io_uring_buf_ring_init(ring);
    uint32_t level = FIRST_LEVEL < pool->max_buffers ? FIRST_LEVEL : pool->max_buffers;
    uint32_t most = pool->max_buffers > 2 * level ? pool->max_buffers / 2 : level;
    *group = (struct group){.ring = ring, .entries = entries, .level = level, .first = level, .most = most};
    group->id = reg.bgid;
    pool->keep += level;
    pool->backend_state = group;
}

/* Takes `count` buffers back from the ring, if it can. Only the kernel may: it takes them off at any time, and where it
 * gave up polling for a receive, a thread of its own holds one and writes to it. So it is asked to read something into
 * them, namely from a counter that has as much, and says which they were. That is done when submit() returns, and
 * nothing is left in the queue for a ring of another pool with the same number. */
static void drain(struct uring *u, struct pro_pool *pool, uint32_t count)
{
    struct group *group = pool->backend_state;
    struct io_uring_sq *sq = &u->ring.sq;
    uint32_t room = io_uring_sq_space_left(&u->ring);
    if (u->drains > 0 || io_uring_sq_ready(&u->ring) > 0)
        return;
    count = count < room ? count : room;
    int fd = eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    group->keeps = fd < 0;
    if (fd < 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        io_uring_prep_read(sqe, fd, NULL, sizeof(uint64_t), PRO_STREAM);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = group->id;
        sqe->user_data = DRAINED;
    }
    u->drained = pool;
    u->drains = count;
    proi_uring_submit(u);
    for (unsigned at = *sq->khead; at != sq->sqe_tail; at++) {
        io_uring_prep_nop(&sq->sqes[at & sq->ring_mask]); /* which the kernel did not take */
        sq->sqes[at & sq->ring_mask].user_data = DRAINED;
    }
    close(fd);
}

void proi_uring_drained(struct uring *u, const struct io_uring_cqe *cqe)
{
    proi_assert(u->drains > 0);
    u->drains--;
    struct pro_pool *pool = u->drained;
    struct group *group = pool ? pool->backend_state : NULL;
    if (!group)
        return;
    if (!(cqe->flags & IORING_CQE_F_BUFFER)) {
        group->keeps = true;
        return;
    }
    group->filled--;
    proi_pool_chill(proi_pool_buffer(pool, cqe->flags >> IORING_CQE_BUFFER_SHIFT));
    proi_pool_wake(pool);
}

/* A shortage that many receives meet raises the level once. */
void proi_uring_ran_dry(struct group *group)
{
    if (group->level != group->stocked || group->level >= group->most)
        return;
    group->least = 0;
    group->keeps = false;
    group->level = group->level * 2 < group->most ? group->level * 2 : group->most;
}

/* A level of which less than a quarter was used at a time since the last call falls to twice what was. A shortage raises
 * it again, so a wrong guess costs little. */
bool proi_uring_tidy_pool(struct pro_loop *loop, struct pro_pool *pool)
{
    struct group *group = pool->backend_state;
    if (!group)
        return false;
    uint32_t used = group->level - (group->least < group->level ? group->least : group->level);
    if (used < group->level / 4 && group->level > group->first)
        group->level = 2 * used > group->first ? 2 * used : group->first;
    group->least = group->level;
    bool more = group->filled > group->level && !group->keeps;
    if (more)
        drain(proi_uring_of(loop), pool, group->filled - group->level);
    return group->level > group->first || more;
}

void proi_uring_forget_pool(struct pro_loop *loop, struct pro_pool *pool)
{
    struct uring *u = proi_uring_of(loop);
    struct group *group = pool->backend_state;
    if (!group)
        return;
    if (loop->guard->owner) /* a forked child shares the parent's ring */
        io_uring_unregister_buf_ring(&u->ring, group->id);
    if (u->drained == pool)
        u->drained = NULL;
    proi_pool_reclaim(pool);
    pool->keep -= group->first;
    proi_free(&loop->allocator, group->ring, ring_size(group->entries));
    proi_free(&loop->allocator, group, sizeof *group);
    pool->backend_state = NULL;
}
