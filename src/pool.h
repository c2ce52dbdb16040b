/* SPDX-License-Identifier: MIT
 *
 * Pools, seen from the core and the backends. */
#ifndef PROI_POOL_H
#define PROI_POOL_H

#include "handle.h"
#include "loop.h"

/* What one handle holds of a pool. It lives in a buffer that was lent to it, so there are never too few. */
struct pro_account {
    struct pro_handle *handle;  /* NULL once that is closed */
    struct pro_buffer *filling; /* where small pieces still fit */
    struct pro_account *next;   /* of the handle, or free ones */
    struct pro_pool *pool;
    uint32_t lent; /* buffers */
};

struct pro_buffer {
    uint8_t *data;
    struct pro_pool *pool;
    struct pro_account *account;
    struct pro_buffer *next; /* free ones */
    uint32_t references;     /* slices */
    uint32_t filled;         /* bytes from the front that slices were cut from; of a free one see below */
    uint32_t id;
    struct pro_account own; /* spare */
};

/* buffer->filled of free ones that have a past; that of the others is 0. */
enum {
    PROI_BUFFER_IDLE = 1 << 30, /* it was free when the pool was last tidied, and has not been taken since */
    PROI_BUFFER_COLD = 1 << 29, /* among the cold ones */
};

/* One allocation: the slab, its buffers' and slices' descriptors. The bytes are another, so that they are aligned. */
struct proi_slab {
    uint8_t *data;
    size_t data_size, size;
    uint32_t count, cold; /* buffers, and those of them that are cold */
    struct pro_slice *slices;
    struct pro_buffer buffers[];
};

struct pro_pool {
    struct pro_loop *loop;   /* that receives from it, or NULL */
    struct pro_pool *next;   /* of the loop */
    void *backend_state;     /* the backend's, while loop is set */
    struct pro_buffer *free; /* last in, first out: the warmest */
    struct pro_buffer *cold; /* free ones as well, without memory behind them: new, or given back to the system */
    struct pro_account *accounts;
    struct pro_slice *slices; /* free descriptors */
    struct pro_op *starved;   /* receives that wait for a buffer, in order */
    struct proi_slab **slabs;
    uint32_t slab_count, slab_max;
    uint32_t buffer_size, slab_shift, max_buffers, quota;
    uint32_t buffers; /* allocated */
    uint32_t warm;    /* those that are not cold, ... */
    uint32_t keep;    /* ... of which so many stay for good */
    uint32_t lent;    /* pinned by slices */
    uint32_t slices_lent;
    uint32_t packed;   /* of those: they are in the buffers themselves */
    uint32_t receives; /* operations in flight on it */
    bool ringless;     /* of a kernel that refused it a ring of buffers */
    bool freed;
    struct pro_allocator allocator;
};

/* A receive starts and ends. Attaches the pool to `loop` if it is free. */
void proi_pool_enter(struct pro_loop *loop, struct pro_pool *pool);
void proi_pool_leave(struct pro_pool *pool);

/* There may be memory: resumes the first receive that waits for it, which waits again if there is none. Called when a
 * buffer comes back, and passed on by whoever was woken and leaves the buffer to others: because it only waits for data
 * now, or has ended, or stands still. So all are woken for as long as there is memory, and none is forgotten. */
static inline void proi_pool_wake(struct pro_pool *pool)
{
    if (pool->starved)
        proi_handle_resume(pool->starved);
}

/* How many more buffers `handle` may hold. */
uint32_t proi_pool_room(const struct pro_pool *pool, const struct pro_handle *handle);
/* How many bytes may arrive for it, in pieces of any size of which the last may be a whole buffer's, before that is
 * exceeded; 0: only one piece at a time. */
uint32_t proi_pool_window(const struct pro_pool *pool, const struct pro_handle *handle);

/* One more free buffer: a cold one, for which there may have to be one more slab first, or as many buffers of one as the
 * limit leaves. False if none. */
bool proi_pool_grow(struct pro_pool *pool);

/* Whether it has buffers that may turn out to be more than it needs. */
static inline bool proi_pool_untidy(const struct pro_pool *pool)
{
    return pool->warm > pool->keep && pool->free;
}

/* A free buffer that is in no list becomes a cold one: its memory goes back to the system. */
void proi_pool_chill(struct pro_buffer *buffer);

/* Gives back to the system what was free all the time since the last call. True if there may be more the next time. */
bool proi_pool_tidy(struct pro_pool *pool);

/* Whether there is a buffer to take, after growing if need be. */
static inline bool proi_pool_stock(struct pro_pool *pool)
{
    return pool->free || proi_pool_grow(pool);
}

/* A buffer to receive into, or NULL when the pool is dry; and one that was not used. */
static inline struct pro_buffer *proi_pool_take(struct pro_pool *pool)
{
    if (!proi_pool_stock(pool))
        return NULL;
    struct pro_buffer *buffer = pool->free;
    proi_assert(buffer->references == 0 && !buffer->account);
    pool->free = buffer->next;
    return buffer;
}
void proi_pool_give(struct pro_buffer *buffer);

static inline struct pro_buffer *proi_pool_buffer(const struct pro_pool *pool, uint32_t id)
{
    proi_assert(id < pool->buffers);
    return &pool->slabs[id >> pool->slab_shift]->buffers[id & ((1u << pool->slab_shift) - 1)];
}

/* `size` bytes were received into `buffer`: the slice that lends them to `handle`. Small pieces are moved together in
 * a buffer the handle holds already, so that what it pins is in proportion to what it got. */
struct pro_slice *proi_pool_lend(struct pro_buffer *buffer, struct pro_handle *handle, uint32_t size);

/* Whatever the backend had is the pool's again. */
void proi_pool_reclaim(struct pro_pool *pool);

/* What is wrong with its counts, or NULL. The backend holds no buffer. */
const char *proi_pool_audit(const struct pro_pool *pool);

/* The handle is closed: what it holds stays lent, and is nobody's. */
void proi_pool_orphan(struct pro_handle *handle);
/* The loop goes. */
void proi_pool_detach(struct pro_pool *pool);

#endif
