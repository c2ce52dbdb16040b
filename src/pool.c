/* SPDX-License-Identifier: MIT
 *
 * Buffers in slabs, slices that share them, and accounts that say who holds how much.
 *
 *      pool -- slab -- buffer --.-- slice (head of a message, lent to handle A)
 *           '- slab    buffer   '-- slice (the rest, lent to handle A)
 *                      buffer ----- account of handle A: 2 buffers, filling the second
 *
 * A buffer is free, with the backend (to be received into), or lent: then its `references` are its slices. It returns to
 * the free ones with its last slice, and that wakes the first receive that waits for one.
 *
 * The quota counts buffers, since it is memory that runs out and not bytes. A peer that sends single bytes to a handle
 * whose program keeps them would fill it with nothing; so a piece of less than a quarter of a buffer is copied behind
 * the last one when that is still held and has room, and its descriptor with it: that never runs out (pack).
 *
 *      buffer  | first piece | slice | piece | slice | piece |  room  |
 *
 * How many buffers that takes at most is known, whence proi_pool_window: what arrives in it cannot exceed the quota.
 *
 * Memory that a burst needed goes back to the system, see proi_pool_tidy. The free buffers are last in, first out: what
 * lies below the deepest that was taken in a second or so is not needed. These buffers lose their pages and become cold
 * ones, which are taken when there is no other. They are not given back to the allocator: all of a slab's would have to
 * be free at once, and its accounts and slice descriptors too, which serve the whole pool. Nobody has a free buffer,
 * neither a slice nor the backend nor the kernel, so its bytes are nobody's; and what is said about a buffer, its own
 * account included, is not in it but in its slab's other allocation. With whole pages only, neighbours keep theirs.
 *
 * What may fail: a slab or a batch of slice descriptors is not to be had. The pool is then as large as it is. */
#include "pool.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "handle.h"

enum {
    DEFAULT_BUFFER = 64 * 1024,
    DEFAULT_SLAB = 16,
    DEFAULT_BUFFERS = 1024,
    DEFAULT_QUOTA = 16,
    SLICES_PER_BUFFER = 8, /* besides those of pieces that were moved together */
    SLICE_ALIGN = _Alignof(struct pro_slice),
    /* Bytes that a piece which is moved takes beside its own. */
    PACKED_MOST = sizeof(struct pro_slice) + SLICE_ALIGN - 1,
    SLAB_ALIGN = 4096,
    /* Where buffers begin in a page. The kernel's data begins at the beginning of one, and some processors copy a quarter
     * slower between places that are equal modulo the page (`rep movsb`). Nor do any two buffers begin alike. */
    FIRST_OFFSET = 1024,
    STAGGER = 64,
    KEEP_BYTES = 1 << 17,  /* stay warm: who needs little is never tidied */
    TIDY_BYTES = 16 << 20, /* given back at a time: half a millisecond to a whole one (measured: 6.18) */
};

static bool config_ok(const struct pro_pool_config *c)
{
    return c->size >= sizeof *c && (c->buffer_size == 0 || (c->buffer_size >= 256 && c->buffer_size <= 16u << 20)) &&
           c->max_buffers <= 32768 && c->slab_buffers <= 32768;
}

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The binary logarithm, rounded up: buffers are found by their number without a division. */
static uint32_t shift_for(uint32_t count)
{
    return count > 1 ? 32 - (uint32_t)__builtin_clz(count - 1) : 0;
}

int pro_pool_new(struct pro_loop *loop, const struct pro_pool_config *config, struct pro_pool **ret_pool)
{
    struct pro_pool_config c = PRO_POOL_CONFIG_INIT;
    proi_loop_check(loop);
    if (config && !config_ok(config))
        return -EINVAL;
    if (config)
        c = *config;
    struct pro_pool *pool = proi_alloc(&loop->allocator, sizeof *pool, _Alignof(struct pro_pool));
    if (!pool)
        return -ENOMEM;
    pool->allocator = loop->allocator;
    pool->buffer_size = or_default(c.buffer_size, DEFAULT_BUFFER);
    pool->max_buffers = or_default(c.max_buffers, DEFAULT_BUFFERS);
    pool->slab_shift = shift_for(least(or_default(c.slab_buffers, DEFAULT_SLAB), pool->max_buffers));
    pool->quota = least(or_default(c.quota_buffers, DEFAULT_QUOTA), pool->max_buffers);
    pool->keep = or_default(KEEP_BYTES / pool->buffer_size, 1);
    pool->slab_max = (pool->max_buffers + (1u << pool->slab_shift) - 1) >> pool->slab_shift;
    pool->slabs = proi_alloc(&pool->allocator, pool->slab_max * sizeof *pool->slabs, _Alignof(struct proi_slab *));
    if (!pool->slabs) {
        proi_free(&loop->allocator, pool, sizeof *pool);
        return -ENOMEM;
    }
    *ret_pool = pool;
    return 0;
}

static void destroy(struct pro_pool *pool)
{
    struct pro_allocator allocator = pool->allocator;
    proi_assert(pool->lent == 0 && !pool->loop);
    for (uint32_t i = 0; i < pool->slab_count; i++) {
        struct proi_slab *slab = pool->slabs[i];
        proi_free(&allocator, slab->data, slab->data_size);
        proi_free(&allocator, slab, slab->size);
    }
    proi_free(&allocator, pool->slabs, pool->slab_max * sizeof *pool->slabs);
    proi_free(&allocator, pool, sizeof *pool);
}

void pro_pool_free(struct pro_pool *pool)
{
    if (!pool)
        return;
    if (pool->loop)
        proi_loop_check(pool->loop);
    proi_require(pool->receives == 0, "pool freed while a receive is in flight on it");
    proi_require(!pool->freed, "pool freed twice");
    proi_pool_detach(pool);
    pool->freed = true;
    if (pool->slices_lent == 0)
        destroy(pool);
}

static void slice_free(struct pro_pool *pool, struct pro_slice *slice)
{
    slice->next = pool->slices;
    pool->slices = slice;
}

static struct proi_slab *slab_of(const struct pro_buffer *buffer)
{
    return buffer->pool->slabs[buffer->id >> buffer->pool->slab_shift];
}

static void push_cold(struct pro_pool *pool, struct pro_buffer *buffer)
{
    buffer->filled = PROI_BUFFER_COLD;
    buffer->next = pool->cold;
    pool->cold = buffer;
}

/* One more slab of cold buffers. */
static bool add_slab(struct pro_pool *pool)
{
    uint32_t count = least(1u << pool->slab_shift, pool->max_buffers - pool->buffers);
    if (count == 0)
        return false;
    size_t slices = (size_t)count * SLICES_PER_BUFFER,
           stride = ((size_t)pool->buffer_size + 2UL * STAGGER - 1) / STAGGER * STAGGER;
    size_t size = sizeof(struct proi_slab) + count * sizeof(struct pro_buffer) + slices * sizeof(struct pro_slice);
    struct proi_slab *slab = proi_alloc(&pool->allocator, size, _Alignof(struct proi_slab));
    if (!slab)
        return false;
    slab->size = size;
    slab->count = slab->cold = count;
    slab->data_size = FIRST_OFFSET + (size_t)count * stride;
    slab->data = pool->allocator.alloc(pool->allocator.context, slab->data_size, SLAB_ALIGN);
    if (!slab->data) {
        proi_free(&pool->allocator, slab, size);
        return false;
    }
    slab->slices = (struct pro_slice *)(void *)(slab->buffers + count);
    for (size_t i = slices; i-- > 0;)
        slice_free(pool, &slab->slices[i]);
    for (uint32_t i = count; i-- > 0;) {
        struct pro_buffer *buffer = &slab->buffers[i];
        buffer->data = slab->data + FIRST_OFFSET + (size_t)i * stride;
        buffer->pool = pool;
        buffer->id = pool->buffers + i;
        push_cold(pool, buffer);
        buffer->own.next = pool->accounts;
        pool->accounts = &buffer->own;
    }
    pool->slabs[pool->slab_count++] = slab;
    pool->buffers += count;
    return true;
}

bool proi_pool_grow(struct pro_pool *pool)
{
    if (!pool->cold && !add_slab(pool))
        return false;
    struct pro_buffer *buffer = pool->cold;
    proi_assert(buffer->filled == PROI_BUFFER_COLD);
    pool->cold = buffer->next;
    buffer->filled = 0;
    buffer->next = pool->free;
    pool->free = buffer;
    pool->warm++;
    slab_of(buffer)->cold--;
    return true;
}

/* Where the allocator has locked the memory, or has it from elsewhere, the system may refuse; then it stays. */
static void drop_pages(const uint8_t *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data, end = begin + size;
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* The pages that it shares with others go with the last of the slab's. */
void proi_pool_chill(struct pro_buffer *buffer)
{
    struct pro_pool *pool = buffer->pool;
    struct proi_slab *slab = slab_of(buffer);
    proi_assert(buffer->references == 0 && !buffer->account);
    drop_pages(buffer->data, pool->buffer_size);
    if (++slab->cold == slab->count)
        drop_pages(slab->data, slab->data_size);
    push_cold(pool, buffer);
    pool->warm--;
}

bool proi_pool_tidy(struct pro_pool *pool)
{
    struct pro_buffer **link = &pool->free, *buffer;
    uint32_t left = or_default(TIDY_BYTES / pool->buffer_size, 1);
    for (; (buffer = *link) != NULL && buffer->filled != PROI_BUFFER_IDLE; link = &buffer->next)
        buffer->filled = PROI_BUFFER_IDLE;
    for (; (buffer = *link) != NULL && pool->warm > pool->keep && left > 0; left--) {
        *link = buffer->next;
        proi_pool_chill(buffer);
    }
    return proi_pool_untidy(pool);
}

void proi_pool_enter(struct pro_loop *loop, struct pro_pool *pool)
{
    proi_require(!pool->freed, "receive on a freed pool");
    proi_require(!pool->loop || pool->loop == loop, "pool used on two loops");
    if (!pool->loop) {
        pool->loop = loop;
        pool->next = loop->pools;
        loop->pools = pool;
    }
    pool->receives++;
}

void proi_pool_leave(struct pro_pool *pool)
{
    proi_assert(pool->receives > 0);
    pool->receives--;
    proi_pool_wake(pool);
}

void proi_pool_detach(struct pro_pool *pool)
{
    struct pro_loop *loop = pool->loop;
    if (!loop)
        return;
    proi_assert(pool->receives == 0 && !pool->starved);
    loop->backend->forget_pool(loop, pool);
    struct pro_pool **link = &loop->pools;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    pool->next = NULL;
    pool->loop = NULL;
    pool->backend_state = NULL;
    pool->ringless = false;
}

void proi_pool_reclaim(struct pro_pool *pool)
{
    pool->free = NULL;
    for (uint32_t i = pool->buffers; i-- > 0;) {
        struct pro_buffer *buffer = proi_pool_buffer(pool, i);
        if (buffer->references > 0 || buffer->filled == PROI_BUFFER_COLD)
            continue;
        buffer->filled = 0;
        buffer->next = pool->free;
        pool->free = buffer;
    }
}

void proi_pool_give(struct pro_buffer *buffer)
{
    struct pro_pool *pool = buffer->pool;
    proi_assert(buffer->references == 0 && !buffer->account);
    buffer->filled = 0;
    buffer->next = pool->free;
    pool->free = buffer;
    proi_pool_wake(pool);
}

static struct pro_account *account_of(const struct pro_pool *pool, const struct pro_handle *handle)
{
    struct pro_account *account = handle->account;
    while (account && account->pool != pool)
        account = account->next;
    return account; /* of one or two */
}

uint32_t proi_pool_room(const struct pro_pool *pool, const struct pro_handle *handle)
{
    const struct pro_account *account = account_of(pool, handle);
    uint32_t lent = account ? account->lent : 0;
    return lent < pool->quota ? pool->quota - lent : 0;
}

/* A piece is moved, or brings a quarter of a buffer, or the buffer before has no room for as much. So each further buffer
 * has cost at least what single bytes fill of one; whatever comes before the last piece takes all but one of the buffers
 * that there is room for, and the last piece that one. */
uint32_t proi_pool_window(const struct pro_pool *pool, const struct pro_handle *handle)
{
    uint32_t room = proi_pool_room(pool, handle), filled = pool->buffer_size - pool->buffer_size / 4 - PACKED_MOST;
    uint64_t before_last = room > 1 ? (uint64_t)(room - 1) * (filled / (1 + PACKED_MOST)) : 0;
    uint64_t bytes = before_last > 0 ? before_last + pool->buffer_size - 1 : 0;
    return bytes > INT32_MAX ? INT32_MAX : (uint32_t)bytes;
}

/* A descriptor. One is kept back for every buffer that is not lent, so that the first slice of a buffer never fails;
 * the others of it may. */
static struct pro_slice *slice_new(struct pro_buffer *buffer, uint32_t size)
{
    struct pro_pool *pool = buffer->pool;
    struct pro_slice *slice = pool->slices;
    uint32_t unused = pool->buffers * SLICES_PER_BUFFER - (pool->slices_lent - pool->packed);
    if (buffer->references > 0 && unused <= pool->buffers - pool->lent)
        return NULL;
    proi_assert(slice);
    pool->slices = slice->next;
    *slice = (struct pro_slice){.data = buffer->data, .size = size, .buffer = buffer};
    buffer->references++;
    pool->slices_lent++;
    return slice;
}

/* A slice for a copy of `size` bytes, both in the room that `buffer` has left; NULL if they do not fit. Not inline: all
 * pieces would save the registers that few need. */
__attribute__((noinline)) static struct pro_slice *pack(struct pro_buffer *buffer, const uint8_t *bytes, uint32_t size)
{
    struct pro_pool *pool = buffer->pool;
    uint32_t gap = -(uint32_t)(uintptr_t)(buffer->data + buffer->filled) % SLICE_ALIGN;
    uint32_t at = buffer->filled + gap, left = pool->buffer_size - buffer->filled;
    if (gap + sizeof(struct pro_slice) + size > left)
        return NULL;
    struct pro_slice *slice = (struct pro_slice *)(void *)(buffer->data + at);
    *slice = (struct pro_slice){.data = (uint8_t *)(slice + 1), .size = size, .buffer = buffer};
    memcpy(slice->data, bytes, size);
    buffer->filled = at + (uint32_t)sizeof *slice + size;
    buffer->references++;
    pool->slices_lent++;
    pool->packed++;
    return slice;
}

static bool is_packed(const struct pro_slice *slice, const struct pro_buffer *buffer)
{
    return (uintptr_t)slice - (uintptr_t)buffer->data < buffer->pool->buffer_size;
}

static struct pro_account *account_open(struct pro_buffer *buffer, struct pro_handle *handle)
{
    struct pro_pool *pool = buffer->pool;
    struct pro_account *account = account_of(pool, handle);
    if (!account) {
        account = pool->accounts;
        proi_assert(account); /* there is one for every buffer, and each open one has a buffer */
        pool->accounts = account->next;
        *account = (struct pro_account){.handle = handle, .pool = pool, .next = handle->account};
        handle->account = account;
    }
    return account;
}

struct pro_slice *proi_pool_lend(struct pro_buffer *buffer, struct pro_handle *handle, uint32_t size)
{
    struct pro_pool *pool = buffer->pool;
    struct pro_account *account = account_open(buffer, handle);
    struct pro_buffer *last = account->filling;
    proi_assert(size > 0 && size <= pool->buffer_size && buffer->references == 0);
    struct pro_slice *slice = last && size < pool->buffer_size / 4 ? pack(last, buffer->data, size) : NULL;
    if (slice) {
        proi_pool_give(buffer);
        return slice;
    }
    proi_assert(account->lent < pool->quota);
    slice = slice_new(buffer, size);
    buffer->filled = size;
    buffer->account = account;
    account->filling = buffer;
    account->lent++;
    pool->lent++;
    return slice;
}

void proi_pool_orphan(struct pro_handle *handle)
{
    for (struct pro_account *account = handle->account; account; account = account->next)
        account->handle = NULL;
    handle->account = NULL;
}

/* Nothing is lent to its handle any more. */
static inline void account_close(struct pro_pool *pool, struct pro_account *account)
{
    if (account->handle) {
        struct pro_account **link = &account->handle->account;
        while (*link != account)
            link = &(*link)->next;
        *link = account->next;
    }
    account->next = pool->accounts;
    pool->accounts = account;
}

/* The last slice of `buffer` is back. */
static inline void buffer_back(struct pro_pool *pool, struct pro_buffer *buffer)
{
    struct pro_account *account = buffer->account;
    struct pro_handle *handle = account->handle;
    proi_assert(account->lent > 0 && pool->lent > 0);
    buffer->account = NULL;
    pool->lent--;
    if (account->filling == buffer)
        account->filling = NULL;
    if (--account->lent == 0)
        account_close(pool, account);
    proi_pool_give(buffer);
    if (handle && handle->parked && handle->parked->state == PROI_STARVED)
        proi_handle_resume(handle->parked);
}

/* The caller may touch what its pool keeps of a slice. */
static inline void check_use(const struct pro_pool *pool)
{
    if (pool->loop)
        proi_loop_check(pool->loop);
}

/* That a slice is returned twice is noticed for as long as its descriptor is one: that of a piece which was moved goes
 * with the buffer. */
static inline void slice_back(struct pro_slice *slice)
{
    struct pro_buffer *buffer = slice->buffer;
    proi_require(buffer && buffer->references > 0, "slice returned twice");
    struct pro_pool *pool = buffer->pool;
    check_use(pool);
    slice->buffer = NULL;
    if (is_packed(slice, buffer))
        pool->packed--;
    else
        slice_free(pool, slice);
    pool->slices_lent--;
    if (--buffer->references == 0)
        buffer_back(pool, buffer);
    if (pool->freed && pool->slices_lent == 0)
        destroy(pool);
}

void pro_slice_return(struct pro_slice *slice)
{
    slice_back(slice);
}

void pro_slice_return_list(struct pro_slice *list)
{
    while (list) {
        struct pro_slice *next = list->next;
        slice_back(list);
        list = next;
    }
}

int pro_slice_split(struct pro_slice *slice, uint32_t at, struct pro_slice **ret_tail)
{
    proi_require(at > 0 && at < slice->size, "slice split outside of its bytes");
    check_use(slice->buffer->pool);
    struct pro_slice *tail = slice_new(slice->buffer, slice->size - at);
    if (!tail)
        return -ENOBUFS;
    tail->data = slice->data + at;
    slice->size = at;
    *ret_tail = tail;
    return 0;
}

uint32_t pro_slice_pinned(const struct pro_slice *slice)
{
    return slice->buffer->pool->buffer_size;
}

bool pro_slice_shares(const struct pro_slice *a, const struct pro_slice *b)
{
    return a->buffer == b->buffer;
}

void pro_pool_stats(const struct pro_pool *pool, struct pro_pool_stats *ret_stats, size_t size)
{
    struct pro_pool_stats stats = {
        .buffer_size = pool->buffer_size,
        .buffers = pool->buffers,
        .buffers_lent = pool->lent,
        .slices_lent = pool->slices_lent,
    };
    memcpy(ret_stats, &stats, size < sizeof stats ? size : sizeof stats);
}

const char *proi_pool_audit(const struct pro_pool *pool)
{
    uint32_t lent = 0, references = 0, free_buffers = 0, cold = 0, free_slices = 0;
    for (uint32_t i = 0; i < pool->buffers; i++) {
        const struct pro_buffer *buffer = proi_pool_buffer(pool, i);
        lent += buffer->references > 0;
        references += buffer->references;
    }
    for (const struct pro_buffer *buffer = pool->free; buffer; buffer = buffer->next)
        free_buffers++;
    for (const struct pro_buffer *buffer = pool->cold; buffer; buffer = buffer->next)
        cold++;
    for (const struct pro_slice *slice = pool->slices; slice; slice = slice->next)
        free_slices++;
    if (lent != pool->lent || references != pool->slices_lent)
        return "its references are not its slices";
    if (free_buffers + cold + lent != pool->buffers)
        return "a buffer is neither free nor lent";
    if (cold + pool->warm != pool->buffers)
        return "its warm buffers are not those that are not cold";
    if (free_slices + references - pool->packed != pool->buffers * SLICES_PER_BUFFER)
        return "a slice is neither free nor lent";
    return NULL;
}
