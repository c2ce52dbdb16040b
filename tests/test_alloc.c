/* SPDX-License-Identifier: MIT
 *
 * Clause 1: nothing is allocated per request; and what happens when there is no memory.
 *
 * Two counters watch: the ledger, through which the library's own allocator goes, and the linker's --wrap, which puts
 * itself before malloc and its kin for everything that is linked statically here, the library included. */
#include "harness.h"
#include "kinds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * malloc and its kin
 * ------------------------------------------------------------------------------------------------------------ */

static uint64_t heap_calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void __wrap_free(void *memory);

void *__wrap_malloc(size_t size)
{
    heap_calls++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    heap_calls++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    heap_calls++;
    return __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    heap_calls++;
    return __real_aligned_alloc(align, size);
}

void __wrap_free(void *memory)
{
    heap_calls++;
    __real_free(memory);
}

/* All but those of a simulated kernel. */
static uint64_t library_heap_calls(const struct world *w)
{
    return heap_calls - w->sim_heap_calls;
}

static void counter_when_memory_is_taken_counts(void **state)
{
    struct world *w = *state;
    uint64_t heap = library_heap_calls(w), ledger = w->ledger.allocations;
    struct pro_pool *pool;
    assert_int_equal(pro_pool_new(w->loop, NULL, &pool), 0);
    assert_true(w->ledger.allocations > ledger);
    assert_true(library_heap_calls(w) > heap);
    heap = library_heap_calls(w);
    pro_pool_free(pool);
    assert_true(library_heap_calls(w) > heap);
    struct pro_config plain = w->config; /* the default allocator is seen too */
    plain.allocator = (struct pro_allocator){0};
    struct pro_loop *loop;
    heap = library_heap_calls(w);
    assert_int_equal(pro_loop_new(&plain, &loop), 0);
    pro_loop_free(loop);
    assert_true(library_heap_calls(w) >= heap + 2);
}

/* ------------------------------------------------------------------------------------------------------------
 * Nothing is allocated per request
 * ------------------------------------------------------------------------------------------------------------ */

enum { ROUNDS = 10000, WARM_UP = 200 };

/* Runs `round` until it is warm, and then many times between two looks at the counters. */
static void steady(struct world *w, void (*round)(void *context), void *context)
{
    for (unsigned i = 0; i < WARM_UP; i++)
        round(context);
    uint64_t heap = library_heap_calls(w), ledger = w->ledger.allocations;
    for (unsigned i = 0; i < ROUNDS; i++)
        round(context);
    assert_int_equal(library_heap_calls(w), heap);
    assert_int_equal(w->ledger.allocations, ledger);
}

struct echo {
    struct world *w;
    struct pro_handle handle;
    struct pro_op recv, send;
    struct pro_slice *kept; /* behind the send in flight */
    int far;
};

static void on_echo_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct echo *e = PRO_CONTAINER_OF(op, struct echo, send);
    struct pro_slice *kept = e->kept;
    e->kept = NULL;
    if (kept)
        pro_send_slices(&e->handle, op, kept, on_echo_sent);
}

static void on_echo_data(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct echo *e = PRO_CONTAINER_OF(op, struct echo, recv);
    struct pro_slice **tail = &e->kept;
    if (!result.slice)
        return;
    while (*tail)
        tail = &(*tail)->next;
    *tail = result.slice;
    if (!pro_op_in_flight(&e->send))
        on_echo_sent(loop, &e->send, result);
}

static void echo_round(void *context)
{
    static char data[3000];
    struct echo *e = context;
    if (write(e->far, data, sizeof data) != sizeof data)
        fail();
    for (size_t got = 0; got < sizeof data;) {
        world_turns(e->w, 1);
        int n = read_now(e->far, data, sizeof data);
        got += n > 0 ? (size_t)n : 0;
    }
}

static void c01_echo_of_slices_allocates_nothing(void **state)
{
    struct world *w = *state;
    struct echo *e = world_alloc(w, sizeof *e);
    int fds[2];
    tcp_pair(fds);
    e->w = w;
    e->far = world_own(w, fds[1]);
    pro_adopt(w->loop, &e->handle, fds[0]);
    pro_recv_multi(&e->handle, &e->recv, world_pool(w, NULL), PRO_UNLIMITED, on_echo_data);
    steady(w, echo_round, e);
}

/* The same into the caller's memory, with timers, deadlines, cancels and posts on the way. */
struct mix {
    struct world *w;
    struct pro_handle handle;
    struct pro_op recv, send, timer, post;
    struct pro_remote *remote;
    struct iovec iov;
    char data[64];
    int far;
    unsigned finals;
};

static void on_mix(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
}

static void mix_round(void *context)
{
    struct mix *m = context;
    char byte = 'x';
    m->iov = (struct iovec){m->data, sizeof m->data};
    pro_deadline(&m->recv, pro_now(m->w->loop) + 1000000000);
    pro_recv(&m->handle, &m->recv, m->data, sizeof m->data, 0, on_mix);
    pro_timer_after(m->w->loop, &m->timer, 1000, on_mix);
    pro_post(m->remote, &m->post, on_mix);
    if (write(m->far, &byte, 1) != 1)
        fail();
    while (pro_op_in_flight(&m->recv) || pro_op_in_flight(&m->post))
        world_turns(m->w, 1);
    pro_recv(&m->handle, &m->recv, m->data, sizeof m->data, 0, on_mix);
    pro_send(&m->handle, &m->send, &m->iov, 1, 0, on_mix);
    world_turns(m->w, 1);
    pro_cancel(&m->recv);
    pro_cancel(&m->timer);
    while (pro_op_in_flight(&m->recv) || pro_op_in_flight(&m->send) || pro_op_in_flight(&m->timer))
        world_turns(m->w, 1);
    while (read_now(m->far, (char[256]){0}, 256) > 0)
        continue;
}

static void c01_mix_of_operations_allocates_nothing(void **state)
{
    struct world *w = *state;
    struct mix *m = world_alloc(w, sizeof *m);
    int fds[2];
    unix_pair(fds);
    m->w = w;
    m->far = world_own(w, fds[1]);
    m->remote = pro_remote_get(w->loop);
    pro_adopt(w->loop, &m->handle, fds[0]);
    steady(w, mix_round, m);
    pro_remote_unref(m->remote);
}

/* Connections that come, are served from the pool and go. */
struct visits {
    struct world *w;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener, handle;
    struct pro_op accept, recv, close;
    struct pro_pool *pool;
    unsigned closed;
};

static void on_visit_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    PRO_CONTAINER_OF(op, struct visits, close)->closed++;
}

static void on_visit_data(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct visits *v = PRO_CONTAINER_OF(op, struct visits, recv);
    if (result.slice)
        pro_slice_return(result.slice);
    if (!(result.flags & PRO_MORE))
        pro_close(&v->handle, &v->close, on_visit_closed);
}

static void on_visit(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct visits *v = PRO_CONTAINER_OF(op, struct visits, accept);
    if (result.res < 0)
        return;
    pro_adopt(loop, &v->handle, result.res);
    pro_recv_multi(&v->handle, &v->recv, v->pool, PRO_UNLIMITED, on_visit_data);
}

static void visit_round(void *context)
{
    struct visits *v = context;
    unsigned before = v->closed;
    int far = tcp_connect(&v->at, v->length);
    struct linger now = {1, 0}; /* no TIME_WAIT */
    if (write(far, "hello", 5) != 5 || setsockopt(far, SOL_SOCKET, SO_LINGER, &now, sizeof now) < 0)
        fail();
    close(far);
    while (v->closed == before)
        world_turns(v->w, 1);
}

static void c01_connections_that_come_and_go_allocate_nothing(void **state)
{
    struct world *w = *state;
    struct visits *v = world_alloc(w, sizeof *v);
    v->w = w;
    v->pool = world_pool(w, NULL);
    v->listener = world_listen(w, &v->at, &v->length);
    pro_accept_multi(v->listener, &v->accept, on_visit);
    steady(w, visit_round, v);
}

/* ------------------------------------------------------------------------------------------------------------
 * Allocation n fails, once or from then on, for every n
 * ------------------------------------------------------------------------------------------------------------ */

static void count_final(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    if (result.slice)
        pro_slice_return(result.slice);
}

/* As much of a first conversation as memory allows; every outcome is the result or -ENOMEM, never a crash. */
static void converse(struct pro_loop *loop, struct pro_pool *pool, struct pro_remote *remote)
{
    struct pro_handle handle = {0};
    struct pro_op recv = {0}, send = {0}, close_op = {0}, timer = {0}, post = {0};
    struct iovec iov = {(char[]){"abc"}, 3};
    int fds[2];
    tcp_pair(fds);
    pro_adopt(loop, &handle, fds[0]);
    if (pool)
        pro_recv_multi(&handle, &recv, pool, 3, count_final);
    pro_send(&handle, &send, &iov, 1, 0, count_final);
    pro_timer_after(loop, &timer, 1000, count_final);
    if (remote)
        assert_int_equal(pro_post(remote, &post, count_final), 0);
    write_all(fds[1], "abc", 3);
    while (pro_op_in_flight(&send) || pro_op_in_flight(&timer) || pro_op_in_flight(&post))
        assert_true(pro_run(loop, PRO_RUN_ONCE) >= 0);
    pro_close(&handle, &close_op, count_final);
    assert_int_equal(pro_run(loop, PRO_RUN_DEFAULT), 0);
    assert_false(pro_op_in_flight(&recv));
    close(fds[1]);
}

/* One attempt with the allocations as the ledger will have them; then, with memory again, it works. */
static void attempt(struct world *w)
{
    struct pro_loop *loop = NULL;
    struct pro_pool *pool = NULL;
    unsigned before = descriptor_count();
    int r = pro_loop_new(&w->config, &loop);
    if (r < 0) {
        assert_int_equal(r, -ENOMEM);
        assert_null(loop);
        assert_int_equal(w->ledger.count, 0);
        assert_int_equal(descriptor_count(), before);
        return;
    }
    w->running++;
    r = pro_pool_new(loop, NULL, &pool);
    assert_true(r == 0 ? pool != NULL : r == -ENOMEM && !pool);
    struct pro_remote *remote = pro_remote_get(loop);
    converse(loop, pool, remote);
    ledger_fail_never(&w->ledger);
    struct pro_pool *fresh = NULL;
    if (!remote)
        assert_non_null(remote = pro_remote_get(loop));
    assert_int_equal(pro_pool_new(loop, NULL, &fresh), 0);
    converse(loop, fresh, remote);
    converse(loop, pool, remote);
    pro_loop_free(loop);
    pro_remote_unref(remote);
    pro_pool_free(pool);
    pro_pool_free(fresh);
    w->running--;
    assert_int_equal(w->ledger.count, 0);
    assert_int_equal(descriptor_count(), before);
}

static void allocation_when_it_fails_is_survived(void **state)
{
    struct world *w = *state;
    for (unsigned n = 1;; n++) {
        assert_true(n < 100);
        uint64_t failed = w->ledger.failed;
        ledger_fail_nth(&w->ledger, n);
        attempt(w);
        if (w->ledger.failed == failed)
            break; /* there are not that many */
    }
}

static void allocations_when_all_fail_from_then_on_are_survived(void **state)
{
    struct world *w = *state;
    for (unsigned n = 1;; n++) {
        assert_true(n < 100);
        uint64_t failed = w->ledger.failed;
        ledger_fail_from(&w->ledger, n);
        attempt(w);
        if (w->ledger.failed == failed)
            break;
    }
}

/* Every kind of operation, started when there is not a byte left. */
static void start_without_memory(struct scene *s)
{
    ledger_fail_from(&s->w->ledger, 1);
    scene_start(s);
    world_turns(s->w, 3);
    if (s->kind->feed && !s->r->finals)
        scene_feed(s);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    ledger_fail_never(&s->w->ledger);
    for (unsigned i = 0; i < s->r->completions && i < RECORD_LOG; i++) {
        int res = s->r->log[i].res;
        assert_true(res >= 0 || res == -ENOMEM || res == -ECANCELED);
        if (res == -ENOMEM)
            assert_non_null(s->pool); /* only the pool needs any */
    }
}

static void operation_of_any_kind_when_there_is_no_memory_needs_none(void **state)
{
    for_kinds(*state, 0, KIND_SLOW, start_without_memory);
}

/* A pool that has some buffers and cannot grow does with what it has: the receive waits, it does not fail. */
static void pool_when_it_cannot_grow_does_with_what_it_has(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 1024;
    config.slab_buffers = 2;
    config.max_buffers = 64;
    config.quota_buffers = 32;
    struct pro_pool *pool = world_pool(w, &config);
    struct record *r = world_record(w);
    int far;
    static char data[20000];
    pro_recv_multi(world_tcp(w, &far), record_begin(r), pool, PRO_UNLIMITED, on_record);
    write_all(far, data, 10);
    RUN_UNTIL(w, r->bytes == 10);
    ledger_fail_from(&w->ledger, 1);
    write_all(far, data, sizeof data);
    for (unsigned turns = 0; r->bytes < 10 + sizeof data; turns++) {
        assert_true(turns < 1000);
        world_turns(w, 1);
        if (turns % 3 == 2)
            record_drop(r);
    }
    assert_int_equal(r->finals, 0);
    ledger_fail_never(&w->ledger);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(counter_when_memory_is_taken_counts),
        TEST(c01_echo_of_slices_allocates_nothing),
        TEST(c01_mix_of_operations_allocates_nothing),
        TEST(c01_connections_that_come_and_go_allocate_nothing),
        TEST_BARE(allocation_when_it_fails_is_survived),
        TEST_BARE(allocations_when_all_fail_from_then_on_are_survived),
        TEST(operation_of_any_kind_when_there_is_no_memory_needs_none),
        TEST(pool_when_it_cannot_grow_does_with_what_it_has),
    };
    return RUN(tests);
}
