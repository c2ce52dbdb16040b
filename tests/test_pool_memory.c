/* SPDX-License-Identifier: MIT
 *
 * Clauses 7 and 13, and a look inside: what a pool has not needed for a while goes back to the system.
 *
 * Time passes by timers of the loop, some seconds on a kernel and none in the simulation. Whether memory is gone is the
 * kernel's word, in every backend: mincore(2). */
#include "harness.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool.h"

enum {
    MILLISECOND = 1000 * 1000,
    HANDLES = 48,
    ROUNDS = 6,
    PIECE = 3000, /* bytes: little, of which each takes a buffer for a moment */
    BULK = 2 * 1024 * 1024,
    BUFFER = 64 * 1024,
};

struct burst {
    struct pro_pool *pool;
    struct record *records[HANDLES];
    struct pro_handle *near[HANDLES];
    int far[HANDLES];
    uint64_t sent[HANDLES];
};

static struct burst *burst_new(struct world *w, struct pro_pool *pool)
{
    struct burst *b = world_alloc(w, sizeof *b);
    b->pool = pool;
    for (unsigned i = 0; i < HANDLES; i++) {
        b->near[i] = world_tcp(w, &b->far[i]);
        b->records[i] = world_record(w);
        pro_recv_multi(b->near[i], record_begin(b->records[i]), pool, PRO_UNLIMITED, on_record);
    }
    return b;
}

static struct pro_pool *pool_new(struct world *w)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = BUFFER;
    config.max_buffers = 256;
    config.quota_buffers = 128;
    return world_pool(w, &config);
}

static void send_some(struct burst *b, unsigned i, size_t size)
{
    static uint8_t data[PIECE * 16];
    for (size_t moved; size > 0; size -= moved, b->sent[i] += moved) {
        moved = size < sizeof data ? size : sizeof data;
        pattern_fill(data, moved, b->sent[i]);
        ssize_t n = write(b->far[i], data, moved);
        if (n <= 0)
            break;
        moved = (size_t)n;
    }
}

static void pass(struct world *w, uint64_t milliseconds)
{
    struct record *timer = world_record(w);
    pro_timer_after(w->loop, record_begin(timer), milliseconds * MILLISECOND, on_record);
    RUN_UNTIL(w, timer->finals == 1);
}

/* All at once and little of each, which needs many buffers ready; then much of one, all of which is kept. */
static void burst_play(struct world *w, struct burst *b)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < HANDLES; i++)
            send_some(b, i, PIECE);
        for (unsigned i = 0; i < HANDLES; i++)
            RUN_UNTIL(w, b->records[i]->bytes == b->sent[i]);
        pass(w, 1); /* who stops streaming changes over */
    }
    for (uint64_t end = b->sent[0] + BULK; b->sent[0] < end;) {
        uint64_t left = end - b->sent[0];
        send_some(b, 0, left < 65536 ? left : 65536);
        RUN_UNTIL(w, b->records[0]->bytes == b->sent[0]);
    }
}

static void assert_kept_is_whole(const struct record *r, uint64_t position)
{
    for (const struct pro_slice *slice = r->head; slice; slice = slice->next) {
        assert_true(pattern_holds(slice->data, slice->size, position));
        position += slice->size;
    }
    assert_int_equal(position, r->bytes);
}

static uint64_t turns(const struct world *w)
{
    struct pro_stats stats;
    pro_loop_stats(w->loop, &stats, sizeof stats);
    return stats.turns;
}

/* Bytes of the pool's buffers that are in memory. */
static size_t resident(const struct pro_pool *pool)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = 0;
    for (uint32_t id = 0; id < pool->buffers; id++) {
        uintptr_t begin = ((uintptr_t)proi_pool_buffer(pool, id)->data + page - 1) / page * page;
        unsigned char pages[BUFFER / 4096] = {0};
        size_t whole = ((uintptr_t)proi_pool_buffer(pool, id)->data + BUFFER - begin) / page;
        assert_int_equal(mincore((void *)begin, whole * page, pages), 0);
        for (size_t i = 0; i < whole; i++)
            count += pages[i] & 1;
    }
    return count * page;
}

static void memory_comes_and_goes(struct world *w)
{
    struct pro_pool *pool = pool_new(w);
    struct burst *b = burst_new(w, pool);
    burst_play(w, b);
    uint32_t high = pool->warm, buffers = pool->buffers;
    assert_true(high >= BULK / BUFFER);
    assert_true(resident(pool) > BULK / 2);
    for (unsigned i = 1; i < HANDLES; i++) /* the bulk is held */
        record_drop(b->records[i]);
    pass(w, 3500);
    assert_kept_is_whole(b->records[0], 0);
    uint32_t lent = pool->lent;
    assert_true(pool->warm <= pool->keep + lent);
    record_drop(b->records[0]); /* which is noticed though nothing is received */
    pass(w, 2500);
    assert_true(pool->warm <= pool->keep);
    assert_true(resident(pool) <= (size_t)pool->keep * BUFFER);
    assert_true(pool->warm < high / 2);
    assert_int_equal(pool->buffers, buffers);
    assert_int_equal(pool->lent, 0);
    uint64_t before = turns(w);
    pass(w, 2500); /* and now it sleeps */
    assert_true(turns(w) - before <= 2);
    uint64_t had = b->records[0]->bytes;
    burst_play(w, b);
    assert_kept_is_whole(b->records[0], had);
    assert_int_equal(pool->buffers, buffers);
}

static void c07_pool_after_a_burst_gives_its_memory_back(void **state)
{
    memory_comes_and_goes(*state);
}

/* The kernel then makes completions whenever it likes. */
static void c07_pool_without_deferred_completions_gives_its_memory_back(void **state)
{
    struct world *w = *state;
    w->config.features_off = PRO_FEATURE_DEFER_TASKRUN;
    world_open(w);
    if (!world_is_uring(w))
        skip();
    memory_comes_and_goes(w);
}

/* At every stage of it. What is still wrong with the pool then, its next loop finds out, and the audit. */
static void c13_loop_when_freed_while_a_pool_gives_back_leaks_nothing(void **state)
{
    static const uint64_t after[] = {0, 1200, 2250};
    struct world *w = *state;
    struct pro_pool *pool = pool_new(w);
    for (unsigned i = 0; i < 3; i++) {
        struct burst *b = burst_new(w, pool);
        burst_play(w, b);
        for (unsigned k = 0; k < HANDLES; k++)
            record_drop(b->records[k]);
        if (after[i])
            pass(w, after[i]);
        world_shut(w);
        const char *fault = proi_pool_audit(pool);
        if (fault)
            fail_msg("%s", fault);
        world_open(w);
    }
}

/* Much is needed for a moment, again and again: that stays. */
static void c01_pool_that_is_used_steadily_keeps_what_it_needs(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = pool_new(w);
    struct burst *b = burst_new(w, pool);
    burst_play(w, b);
    for (unsigned i = 0; i < HANDLES; i++)
        record_drop(b->records[i]);
    uint64_t allocations = w->ledger.allocations;
    for (unsigned i = 0; i < 25; i++) {
        for (uint64_t end = b->sent[0] + BULK / 2; b->sent[0] < end;) {
            send_some(b, 0, 65536);
            RUN_UNTIL(w, b->records[0]->bytes == b->sent[0]);
        }
        record_drop(b->records[0]);
        pass(w, 100);
        assert_true(pool->warm >= BULK / 2 / BUFFER);
        assert_true(resident(pool) >= BULK / 2 - BULK / 16); /* without the pages that two buffers share */
    }
    assert_int_equal(w->ledger.allocations, allocations);
}

/* Small buffers share pages, which go when none of a slab is needed. */
static void c07_pool_of_small_buffers_after_a_burst_gives_its_memory_back(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 2048;
    config.max_buffers = config.quota_buffers = 4096;
    struct pro_pool *pool = world_pool(w, &config);
    struct burst *b = burst_new(w, pool);
    burst_play(w, b);
    uint32_t high = pool->warm;
    assert_true(high >= BULK / 2048);
    for (unsigned i = 0; i < HANDLES; i++)
        record_drop(b->records[i]);
    pass(w, 4500);
    assert_true(pool->warm <= pool->keep);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), gone = 0;
    for (uint32_t i = 0; i < pool->slab_count; i++) {
        const struct proi_slab *slab = pool->slabs[i];
        uintptr_t at = ((uintptr_t)slab->data + page - 1) / page * page;
        unsigned char there;
        assert_int_equal(mincore((void *)at, page, &there), 0);
        if (slab->cold == slab->count)
            assert_false(there & 1);
        gone += slab->cold == slab->count;
    }
    assert_true(gone > pool->slab_count / 2);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c07_pool_after_a_burst_gives_its_memory_back),
        TEST_BARE(c07_pool_without_deferred_completions_gives_its_memory_back),
        TEST(c13_loop_when_freed_while_a_pool_gives_back_leaks_nothing),
        TEST(c01_pool_that_is_used_steadily_keeps_what_it_needs),
        TEST(c07_pool_of_small_buffers_after_a_burst_gives_its_memory_back),
    };
    return RUN(tests);
}
