/* SPDX-License-Identifier: MIT
 *
 * Clause 7: lent buffers. */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct pro_pool *small_pool(struct world *w, uint32_t buffer_size, uint32_t max, uint32_t quota)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = buffer_size;
    config.slab_buffers = max < 4 ? max : 4;
    config.max_buffers = max;
    config.quota_buffers = quota;
    return world_pool(w, &config);
}

static struct pro_pool_stats stats_of(const struct pro_pool *pool)
{
    struct pro_pool_stats stats;
    pro_pool_stats(pool, &stats, sizeof stats);
    return stats;
}

/* A multishot receive with all the credit there is; slices are kept. */
static struct record *flow(struct world *w, struct pro_pool *pool, int *ret_far, struct pro_handle **ret_near)
{
    struct record *r = world_record(w);
    *ret_near = world_tcp(w, ret_far);
    pro_recv_multi(*ret_near, record_begin(r), pool, PRO_UNLIMITED, on_record);
    return r;
}

/* Different buffers among the slices that a record keeps. */
static unsigned buffers_held(const struct record *r)
{
    unsigned count = 0;
    for (const struct pro_slice *a = r->head; a; a = a->next) {
        const struct pro_slice *b = r->head;
        while (b != a && !pro_slice_shares(a, b))
            b = b->next;
        count += a == b;
    }
    return count;
}

/* Writes what the socket takes; the position after it. */
static uint64_t flood(int far, uint64_t position, size_t most)
{
    uint8_t data[4096];
    while (most > 0) {
        size_t size = most < sizeof data ? most : sizeof data;
        pattern_fill(data, size, position);
        ssize_t moved = write(far, data, size);
        if (moved <= 0)
            break;
        position += (uint64_t)moved;
        most -= (size_t)moved;
    }
    return position;
}

/* ------------------------------------------------------------------------------------------------------------
 * Nothing is held while nothing comes
 * ------------------------------------------------------------------------------------------------------------ */

static void c07_pool_when_new_has_allocated_no_buffer(void **state)
{
    struct world *w = *state;
    uint64_t before = w->ledger.bytes;
    struct pro_pool *pool = world_pool(w, NULL);
    assert_int_equal(stats_of(pool).buffers, 0);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
    assert_int_equal(stats_of(pool).buffer_size, 64 * 1024);
    assert_true(w->ledger.bytes - before < 1024 * 1024); /* bookkeeping for 1024 buffers, not the buffers */
}

static void c07_connections_when_idle_hold_no_memory(void **state)
{
    struct world *w = *state;
    enum { MANY = 200 };
    struct pro_pool *pool = small_pool(w, 4096, 64, 4);
    for (unsigned i = 0; i < MANY; i++) {
        int far;
        struct pro_handle *near;
        struct record *r = flow(w, pool, &far, &near);
        write_all(far, "x", 1);
        RUN_UNTIL(w, r->bytes == 1);
        record_drop(r);
    }
    world_turns(w, 3);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
    assert_int_equal(stats_of(pool).slices_lent, 0);
    assert_true(stats_of(pool).buffers <= 64);
}

static void c07_pool_stats_when_the_caller_is_older_are_cut(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct pro_pool_stats stats;
    memset(&stats, 0x5a, sizeof stats);
    pro_pool_stats(pool, &stats, offsetof(struct pro_pool_stats, buffers_lent));
    assert_int_equal(stats.buffers, 0);
    assert_int_equal(stats.buffers_lent, 0x5a5a5a5a5a5a5a5a);
}

static void assert_refused(struct world *w, struct pro_pool_config config)
{
    struct pro_pool *pool = (struct pro_pool *)w;
    assert_int_equal(pro_pool_new(w->loop, &config, &pool), -EINVAL);
    assert_ptr_equal(pool, w); /* untouched */
}

static void c07_pool_when_its_config_makes_no_sense_is_refused(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.size = 0;
    assert_refused(w, config);
    config = (struct pro_pool_config)PRO_POOL_CONFIG_INIT;
    config.buffer_size = 255;
    assert_refused(w, config);
    config.buffer_size = 16 * 1024 * 1024 + 1;
    assert_refused(w, config);
    config.buffer_size = 0;
    config.max_buffers = 32769;
    assert_refused(w, config);
}

static void c07_pool_of_the_smallest_kind_works(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near;
    struct pro_pool *pool = small_pool(w, 256, 1, 1);
    struct record *r = flow(w, pool, &far, &near);
    r->drop = true;
    for (unsigned i = 0; i < 100; i++) {
        flood(far, 0, 1000);
        RUN_UNTIL(w, r->bytes == (i + 1) * 1000);
    }
    assert_int_equal(stats_of(pool).buffers, 1);
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 1);
}

static void c07_pool_of_the_largest_kind_works(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 256;
    config.max_buffers = config.quota_buffers = 32768;
    config.slab_buffers = 4096;
    struct pro_pool *pool = world_pool(w, &config);
    int far;
    struct pro_handle *near;
    struct record *r = flow(w, pool, &far, &near);
    for (uint64_t sent = 0; sent < 2000000;) { /* all of it is kept */
        sent = flood(far, sent, 50000);
        RUN_UNTIL(w, r->bytes == sent);
    }
    assert_true(stats_of(pool).buffers_lent >= 2000000 / 256);
    record_drop(r);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
}

static void c07_pools_when_many_do_not_meet(void **state)
{
    struct world *w = *state;
    enum { MANY = 40 };
    struct pro_pool *pools[MANY];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            int far;
            struct pro_handle *near;
            char text[16], got[16];
            assert_int_equal(pro_pool_new(w->loop, NULL, &pools[i]), 0);
            struct record *r = flow(w, pools[i], &far, &near);
            write_all(far, text, (size_t)snprintf(text, sizeof text, "pool %u", i));
            RUN_UNTIL(w, r->bytes == strlen(text));
            record_text(r, got, sizeof got);
            assert_memory_equal(got, text, strlen(text));
            record_drop(r);
            assert_int_equal(world_close_handle(w, near), 0);
            if (i % 2)
                pro_pool_free(pools[i]); /* its place is taken by the next */
        }
        for (unsigned i = 0; i < MANY; i += 2)
            pro_pool_free(pools[i]);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Slices
 * ------------------------------------------------------------------------------------------------------------ */

static struct pro_slice *receive_slice(struct world *w, struct pro_pool *pool, const char *text)
{
    int far;
    struct pro_handle *near;
    struct record *r = flow(w, pool, &far, &near);
    write_all(far, text, strlen(text));
    RUN_UNTIL(w, r->bytes == strlen(text));
    struct pro_slice *slice = record_take(r);
    assert_null(slice->next);
    assert_int_equal(world_close_handle(w, near), 0);
    return slice;
}

static void c07_slice_is_the_callers_until_returned(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 4096, 8, 8);
    struct pro_slice *slice = receive_slice(w, pool, "hello, world");
    assert_memory_equal(slice->data, "hello, world", 12);
    assert_int_equal(stats_of(pool).buffers_lent, 1);
    assert_int_equal(stats_of(pool).slices_lent, 1);
    assert_int_equal(pro_slice_pinned(slice), 4096);
    world_turns(w, 3);
    memset(slice->data, 'x', 5); /* the bytes may be written */
    slice->data += 7;            /* and a part of it taken */
    slice->size = 3;
    slice->charge = 77;
    assert_memory_equal(slice->data, "wor", 3);
    pro_slice_return(slice);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
    assert_int_equal(stats_of(pool).slices_lent, 0);
}

static void c07_slice_when_split_is_two(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 4096, 8, 8);
    struct pro_slice *head = receive_slice(w, pool, "hello, world"), *tail = NULL, marker;
    head->next = &marker;
    assert_int_equal(pro_slice_split(head, 5, &tail), 0);
    assert_ptr_equal(head->next, &marker);
    assert_null(tail->next);
    assert_int_equal(head->size, 5);
    assert_int_equal(tail->size, 7);
    assert_memory_equal(head->data, "hello", 5);
    assert_memory_equal(tail->data, ", world", 7);
    assert_true(pro_slice_shares(head, tail));
    assert_int_equal(pro_slice_pinned(tail), 4096);
    assert_int_equal(stats_of(pool).buffers_lent, 1);
    assert_int_equal(stats_of(pool).slices_lent, 2);
    head->next = NULL;
    pro_slice_return(head);
    assert_int_equal(stats_of(pool).buffers_lent, 1); /* until the last slice is back */
    assert_memory_equal(tail->data, ", world", 7);
    pro_slice_return(tail);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
}

static void c07_slices_of_different_buffers_do_not_share(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 256, 8, 8);
    int far;
    struct pro_handle *near;
    struct record *r = flow(w, pool, &far, &near);
    flood(far, 0, 512);
    RUN_UNTIL(w, r->bytes == 512);
    assert_false(pro_slice_shares(r->head, r->tail));
    assert_true(pro_slice_shares(r->head, r->head));
}

/* "It has eight for every buffer": one buffer's worth of splits, then no more, then more again. */
static void c07_slice_when_descriptors_run_out_is_not_split(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 4096, 1, 1);
    struct pro_slice *slice = receive_slice(w, pool, "0123456789abcdefghijklmnopqrst"), *list = NULL, *tail = NULL;
    unsigned splits = 0;
    while (pro_slice_split(slice, slice->size - 1, &tail) == 0) {
        assert_true(++splits < 20);
        tail->next = list;
        list = tail;
        tail = NULL;
    }
    assert_int_equal(pro_slice_split(slice, 1, &tail), -ENOBUFS);
    assert_null(tail); /* untouched */
    assert_int_equal(splits, 7);
    assert_int_equal(stats_of(pool).slices_lent, 8);
    struct pro_slice *first = list;
    list = list->next;
    pro_slice_return(first);
    assert_int_equal(pro_slice_split(slice, 1, &tail), 0);
    tail->next = list;
    slice->next = tail;
    pro_slice_return_list(slice);
    pro_slice_return_list(NULL);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
}

/* Returned inside any continuation, of another handle, of a timer, of its own receive. */
static void return_kept(struct record *r, struct pro_result result)
{
    (void)result;
    record_drop(r->context);
}

static void c07_slices_are_returned_from_any_continuation(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 256, 32, 16);
    int far;
    struct pro_handle *near;
    struct record *r = flow(w, pool, &far, &near);
    uint64_t sent = 0;
    for (unsigned i = 0; i < 50; i++) {
        sent = flood(far, sent, 2 * 256);
        RUN_UNTIL(w, r->bytes == sent);
        assert_true(pattern_holds(r->head->data, r->head->size, sent - 2 * 256));
        struct record *timer = world_record(w);
        timer->context = r;
        timer->then = return_kept;
        pro_timer(w->loop, record_begin(timer), 0, on_record);
    }
    r->context = r;
    r->then = return_kept;
    sent = flood(far, sent, 20 * 256);
    RUN_UNTIL(w, r->bytes == sent);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
}

/* ------------------------------------------------------------------------------------------------------------
 * Limits, quotas, a dry pool
 * ------------------------------------------------------------------------------------------------------------ */

static void c07_pool_when_used_grows_to_its_limit_and_no_further(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 1024, 10, 10);
    int far;
    struct pro_handle *near;
    struct record *r = flow(w, pool, &far, &near);
    uint64_t most = 0, sent = flood(far, 0, 64 * 1024);
    for (unsigned i = 0; i < 30; i++) {
        world_turns(w, 1);
        assert_true(stats_of(pool).buffers <= 10);
        assert_true(stats_of(pool).buffers_lent <= stats_of(pool).buffers);
        if (stats_of(pool).buffers_lent > most)
            most = stats_of(pool).buffers_lent;
    }
    assert_true(most <= 10);
    assert_int_equal(buffers_held(r), stats_of(pool).buffers_lent);
    assert_true(r->bytes <= 10 * 1024);
    r->drop = true;
    record_drop(r);
    RUN_UNTIL(w, r->bytes == sent);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
}

/* One handle takes all it may, and keeps it; the others are served as before, and it goes on when it gives back. */
static void c07_handle_never_holds_more_than_its_quota(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 1024, 16, 5);
    int greedy_far, far[4];
    struct pro_handle *near;
    struct record *greedy = flow(w, pool, &greedy_far, &near), *r[4];
    uint64_t sent = flood(greedy_far, 0, 64 * 1024);
    for (unsigned i = 0; i < 20; i++) {
        world_turns(w, 1);
        assert_true(buffers_held(greedy) <= 5);
    }
    assert_int_equal(greedy->finals, 0); /* it is no error */
    assert_true(buffers_held(greedy) >= 1);
    for (unsigned i = 0; i < 4; i++)
        r[i] = flow(w, pool, &far[i], &near);
    for (unsigned round = 1; round <= 50; round++)
        for (unsigned i = 0; i < 4; i++) {
            write_all(far[i], "abc", 3);
            RUN_UNTIL(w, r[i]->bytes == 3 * round);
            record_drop(r[i]);
            assert_true(buffers_held(greedy) <= 5);
        }
    while (greedy->bytes < sent) {
        assert_true(buffers_held(greedy) <= 5);
        uint64_t had = greedy->bytes;
        record_drop(greedy);
        RUN_UNTIL(w, greedy->bytes > had);
    }
    assert_int_equal(greedy->bytes, sent);
}

/* Far more pieces than a pool has descriptors for parts of a buffer. */
static void c07_single_bytes_when_kept_are_moved_together(void **state)
{
    enum { BYTES = 3000, FEW = 4 /* buffers that hold as many, and what is said of them */ };
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    int far, other_far;
    struct pro_handle *near;
    struct record *r = flow(w, pool, &far, &near), *other = flow(w, pool, &other_far, &near);
    for (uint64_t sent = 0; sent < BYTES;) {
        sent = flood(far, sent, 1);
        RUN_UNTIL(w, r->bytes == sent);
        assert_true(stats_of(pool).buffers_lent <= FEW);
    }
    assert_true(stats_of(pool).slices_lent > BYTES / 2); /* else it was not tested */
    write_all(other_far, "hello", 5);
    RUN_UNTIL(w, other->bytes == 5);
    uint64_t seen = 0;
    for (const struct pro_slice *slice = r->head; slice; slice = slice->next) {
        assert_true(pattern_holds(slice->data, slice->size, seen));
        seen += slice->size;
    }
    record_drop(r);
    record_drop(other);
    assert_int_equal(stats_of(pool).buffers_lent + stats_of(pool).slices_lent, 0);
}

/* Bursts of pieces: mostly small, some of about a quarter of a buffer, some larger than one. Now and then some of what is
 * kept is given back. */
static void keep_pieces_of_any_size(struct world *w, uint32_t buffer_size, uint32_t quota, unsigned seed)
{
    struct pro_pool *pool = small_pool(w, buffer_size, 4 * quota, quota);
    uint64_t sent = 0, seen = 0;
    int far;
    struct pro_handle *near;
    struct record *r = flow(w, pool, &far, &near);
    for (unsigned turn = 0; turn < 300; turn++) {
        for (unsigned i = 0; i < 8; i++) {
            seed = seed * 1103515245 + 12345;
            uint32_t kind = seed >> 16 & 15, most = kind < 12 ? 3 : kind < 15 ? buffer_size / 3 : 2 * buffer_size;
            sent = flood(far, sent, 1 + (seed >> 20) % most);
        }
        world_turns(w, 1);
        assert_true(stats_of(pool).buffers_lent <= quota);
        for (unsigned i = seed >> 24 & 7; i > 0 && r->head; i--) {
            struct pro_slice *slice = r->head;
            assert_true(pattern_holds(slice->data, slice->size, seen));
            seen += slice->size;
            r->head = slice->next;
            r->tail = r->head ? r->tail : NULL;
            pro_slice_return(slice);
        }
    }
    r->drop = true;
    record_drop(r);
    RUN_UNTIL(w, r->bytes == sent);
    assert_int_equal(world_close_handle(w, near), 0);
    assert_int_equal(stats_of(pool).buffers_lent + stats_of(pool).slices_lent, 0);
    pro_pool_free(w->pools[--w->pool_count]);
}

static void keep_pieces_in_any_pool(struct world *w)
{
    static const uint32_t sizes[] = {256, 257, 4096, 65536};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint32_t quota = 1; quota <= 16; quota += 5)
            keep_pieces_of_any_size(w, sizes[i], quota, i + quota);
}

static void c07_pieces_of_any_size_when_kept_stay_within_the_quota(void **state)
{
    keep_pieces_in_any_pool(*state);
}

/* Each write is received at once, and not when the loop asks. */
static void c07_pieces_when_interrupts_bring_them_stay_within_the_quota(void **state)
{
    struct world *w = *state;
    w->config.features_off = PRO_FEATURE_DEFER_TASKRUN;
    world_open(w);
    keep_pieces_in_any_pool(w);
}

/* A pool whose buffers are all out: the receive waits, and goes on when one is back. Nothing is said of it. */
static void c07_receive_when_the_pool_is_dry_waits_and_resumes(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 1024, 2, 1);
    int far, other_far[2];
    struct pro_handle *near;
    struct record *holder[2];
    for (unsigned i = 0; i < 2; i++) {
        holder[i] = flow(w, pool, &other_far[i], &near);
        write_all(other_far[i], "kept", 4);
        RUN_UNTIL(w, holder[i]->bytes == 4);
    }
    struct record *r = flow(w, pool, &far, &near);
    write_all(far, "thirsty", 7);
    world_turns(w, 5);
    assert_int_equal(r->completions, 0);
    struct pro_stats stats;
    pro_loop_stats(w->loop, &stats, sizeof stats);
    assert_true(stats.pool_dry >= 1);
    record_drop(holder[1]);
    RUN_UNTIL(w, r->bytes == 7);
    assert_int_equal(r->last.flags, PRO_MORE);
}

/* Ten connections share two buffers, each slice is returned late: all the bytes of all arrive, in order. */
static void c07_receives_when_many_wait_for_memory_all_get_theirs(void **state)
{
    struct world *w = *state;
    enum { MANY = 10, EACH = 20000 };
    struct pro_pool *pool = small_pool(w, 512, 2, 1);
    struct record *r[MANY];
    uint64_t seen[MANY] = {0}, sent[MANY] = {0};
    int far[MANY];
    struct pro_handle *near;
    for (unsigned i = 0; i < MANY; i++)
        r[i] = flow(w, pool, &far[i], &near);
    for (unsigned done = 0, turn = 0; done < MANY; turn++) {
        assert_true(turn < 100000);
        done = 0;
        for (unsigned i = 0; i < MANY; i++)
            sent[i] = flood(far[i], sent[i], EACH - sent[i]);
        world_turns(w, 1);
        for (unsigned i = 0; i < MANY; i++) {
            for (const struct pro_slice *s = r[i]->head; s; s = s->next) {
                assert_true(pattern_holds(s->data, s->size, seen[i]));
                seen[i] += s->size;
            }
            record_drop(r[i]);
            done += seen[i] == EACH;
        }
    }
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(r[i]->finals, 0);
}

/* A receive waits for memory that a queued send of the same handle holds: what ends the send must not set it going. */
struct tangle {
    struct pro_handle *near;
    struct record *recv, *send, *slices;
};

static struct tangle tangle_new(struct world *w)
{
    static uint8_t much[300000];
    struct pro_pool *pool = small_pool(w, 1024, 1, 1);
    struct iovec *iov = world_alloc(w, sizeof *iov);
    struct tangle t = {.send = world_record(w), .slices = world_record(w)};
    int far;
    *iov = (struct iovec){much, sizeof much};
    t.near = world_unix(w, &far);
    t.recv = world_record(w);
    pro_recv_multi(t.near, record_begin(t.recv), pool, PRO_UNLIMITED, on_record);
    flood(far, 0, 3000);
    RUN_UNTIL(w, t.recv->bytes > 0);
    world_turns(w, 3); /* it has its quota, and waits */
    pro_send(t.near, record_begin(t.send), iov, 1, 0, on_record);
    pro_send_slices(t.near, record_begin(t.slices), record_take(t.recv), on_record);
    world_turns(w, 2);
    assert_int_equal(t.send->finals + t.slices->finals + t.recv->finals, 0);
    return t;
}

static void c06_slices_that_a_close_gives_back_do_not_wake_the_handle(void **state)
{
    struct world *w = *state;
    struct tangle t = tangle_new(w);
    assert_int_equal(world_close_handle(w, t.near), 0);
    assert_int_equal(t.recv->last.res, -ECANCELED);
    assert_int_equal(t.send->finals + t.slices->finals + t.recv->finals, 3);
}

/* The first stands aside, the others wait for its place. */
static struct pro_handle *three_without_credit(struct world *w, struct record *r[3])
{
    struct pro_pool *pool = small_pool(w, 1024, 4, 4);
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    for (unsigned i = 0; i < 3; i++) {
        r[i] = world_record(w);
        pro_recv_multi(near, record_begin(r[i]), pool, 0, on_record);
    }
    world_turns(w, 2);
    return near;
}

static void c04_multishots_without_credit_all_end_when_cancelled(void **state)
{
    struct world *w = *state;
    struct record *r[3];
    pro_cancel_all(three_without_credit(w, r));
    for (unsigned i = 0; i < 3; i++) {
        RUN_UNTIL(w, r[i]->finals == 1);
        assert_int_equal(r[i]->last.res, -ECANCELED);
    }
}

static void c06_multishots_without_credit_all_end_at_a_close(void **state)
{
    struct world *w = *state;
    struct record *r[3];
    assert_int_equal(world_close_handle(w, three_without_credit(w, r)), 0);
    assert_int_equal(r[0]->finals + r[1]->finals + r[2]->finals, 3);
}

static void c13_multishots_without_credit_all_end_at_a_pull_down(void **state)
{
    struct world *w = *state;
    struct record *r[3];
    three_without_credit(w, r);
    world_shut(w);
    assert_int_equal(r[0]->finals + r[1]->finals + r[2]->finals, 3);
}

static void c04_slices_that_a_cancel_gives_back_do_not_wake_the_handle(void **state)
{
    struct world *w = *state;
    struct tangle t = tangle_new(w);
    pro_cancel_all(t.near);
    RUN_UNTIL(w, t.send->finals + t.slices->finals + t.recv->finals == 3);
    assert_int_equal(t.recv->last.res, -ECANCELED);
}

static void c13_slices_that_a_pull_down_gives_back_do_not_wake_the_handle(void **state)
{
    struct world *w = *state;
    struct tangle t = tangle_new(w);
    world_shut(w);
    assert_int_equal(t.send->finals + t.slices->finals + t.recv->finals, 3);
}

/* The end of the stream is told even if there is no memory: it needs none. Or after some is back, at the latest. */
static void c07_end_when_the_pool_was_dry_comes_at_last(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 1024, 1, 1);
    int far, other_far;
    struct pro_handle *near;
    struct record *holder = flow(w, pool, &other_far, &near);
    flood(other_far, 0, 1024);
    RUN_UNTIL(w, holder->bytes == 1024);
    struct record *r = flow(w, pool, &far, &near);
    write_all(far, "tail", 4);
    world_close(w, far);
    world_turns(w, 3);
    record_drop(holder);
    r->drop = true;
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->bytes, 4);
    assert_int_equal(r->last.flags, PRO_EOF);
}

/* ------------------------------------------------------------------------------------------------------------
 * A pool's end
 * ------------------------------------------------------------------------------------------------------------ */

static void c07_pool_when_freed_with_slices_out_lives_until_the_last(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 4096, 8, 8);
    struct pro_slice *slice = receive_slice(w, pool, "hello"), *tail = NULL;
    w->pool_count--;
    uint64_t before = w->ledger.count;
    pro_pool_free(pool);
    assert_memory_equal(slice->data, "hello", 5);
    assert_int_equal(pro_slice_split(slice, 2, &tail), 0);
    pro_slice_return(slice);
    assert_memory_equal(tail->data, "llo", 3);
    pro_slice_return(tail);
    assert_true(w->ledger.count < before);
    pro_pool_free(NULL);
}

static void c07_pool_outlives_its_loop(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 4096, 8, 8);
    struct pro_slice *slice = receive_slice(w, pool, "hello"), *tail = NULL;
    world_shut(w);
    assert_memory_equal(slice->data, "hello", 5);
    assert_int_equal(pro_slice_split(slice, 2, &tail), 0);
    assert_int_equal(stats_of(pool).slices_lent, 2);
    pro_slice_return(slice);
    pro_slice_return(tail);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
}

static void c07_pool_and_slices_when_the_loop_is_gone_are_freed_in_any_order(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 4096, 8, 8);
    struct pro_slice *slice = receive_slice(w, pool, "hello");
    world_shut(w);
    w->pool_count--;
    pro_pool_free(pool);
    assert_memory_equal(slice->data, "hello", 5);
    pro_slice_return(slice);
    assert_int_equal(w->ledger.count, 0);
}

static void c07_pool_when_its_loop_is_gone_serves_the_next(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 4096, 2, 2);
    struct pro_slice *kept = NULL;
    for (unsigned i = 0; i < 5; i++) {
        struct pro_slice *slice = receive_slice(w, pool, "hello");
        assert_memory_equal(slice->data, "hello", 5);
        world_shut(w);
        pro_slice_return_list(kept);
        kept = slice;
        world_open(w);
    }
    assert_memory_equal(kept->data, "hello", 5);
    pro_slice_return(kept);
    assert_int_equal(stats_of(pool).buffers_lent, 0);
}

/* The loop goes while the receive is armed and data is under way: every buffer is back in the books. */
static void c07_loop_when_freed_with_receives_armed_gives_the_buffers_back(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = small_pool(w, 1024, 8, 4);
    for (unsigned i = 0; i < 20; i++) {
        for (unsigned n = 0; n < 4; n++) {
            int far;
            struct pro_handle *near;
            flow(w, pool, &far, &near);
            flood(far, 0, n * 700);
        }
        world_turns(w, i % 4);
        world_shut(w);
        assert_int_equal(stats_of(pool).buffers_lent, 0);
        assert_int_equal(stats_of(pool).slices_lent, 0);
        world_open(w);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c07_pool_when_new_has_allocated_no_buffer),
        TEST(c07_connections_when_idle_hold_no_memory),
        TEST(c07_pool_stats_when_the_caller_is_older_are_cut),
        TEST(c07_pool_when_its_config_makes_no_sense_is_refused),
        TEST(c07_pool_of_the_smallest_kind_works),
        TEST(c07_pool_of_the_largest_kind_works),
        TEST(c07_pools_when_many_do_not_meet),
        TEST(c07_slice_is_the_callers_until_returned),
        TEST(c07_slice_when_split_is_two),
        TEST(c07_slices_of_different_buffers_do_not_share),
        TEST(c07_slice_when_descriptors_run_out_is_not_split),
        TEST(c07_slices_are_returned_from_any_continuation),
        TEST(c07_pool_when_used_grows_to_its_limit_and_no_further),
        TEST(c07_handle_never_holds_more_than_its_quota),
        TEST(c07_single_bytes_when_kept_are_moved_together),
        TEST(c07_pieces_of_any_size_when_kept_stay_within_the_quota),
        TEST_BARE(c07_pieces_when_interrupts_bring_them_stay_within_the_quota),
        TEST(c07_receive_when_the_pool_is_dry_waits_and_resumes),
        TEST(c07_receives_when_many_wait_for_memory_all_get_theirs),
        TEST(c06_slices_that_a_close_gives_back_do_not_wake_the_handle),
        TEST(c04_multishots_without_credit_all_end_when_cancelled),
        TEST(c06_multishots_without_credit_all_end_at_a_close),
        TEST(c13_multishots_without_credit_all_end_at_a_pull_down),
        TEST(c04_slices_that_a_cancel_gives_back_do_not_wake_the_handle),
        TEST(c13_slices_that_a_pull_down_gives_back_do_not_wake_the_handle),
        TEST(c07_end_when_the_pool_was_dry_comes_at_last),
        TEST(c07_pool_when_freed_with_slices_out_lives_until_the_last),
        TEST(c07_pool_outlives_its_loop),
        TEST(c07_pool_and_slices_when_the_loop_is_gone_are_freed_in_any_order),
        TEST(c07_pool_when_its_loop_is_gone_serves_the_next),
        TEST(c07_loop_when_freed_with_receives_armed_gives_the_buffers_back),
    };
    return RUN(tests);
}
