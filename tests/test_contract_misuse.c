/* SPDX-License-Identifier: MIT
 *
 * Misuse aborts with a message, in every build (2), on every backend. Each body runs in a child with a new loop. */
#include "harness.h"
#include "kinds.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * An operation that is in flight
 * ------------------------------------------------------------------------------------------------------------ */

static const struct kind *dying;
static unsigned dying_turns;

static void start_twice(struct world *w)
{
    struct scene *s = scene_open(w, dying);
    scene_start(s);
    world_turns(w, dying_turns);
    s->r->finals++; /* the record should not object */
    scene_start(s);
}

static void c02_start_of_any_kind_when_in_flight_aborts(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < kind_count; i++) {
        world_note(w, kinds[i].name);
        dying = &kinds[i];
        for (dying_turns = 0; dying_turns < 3; dying_turns += 2)
            assert_dies(start_twice, "in flight");
    }
    world_note(w, NULL);
}

static void start_as_another_kind(struct world *w)
{
    struct record *r = world_record(w);
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    pro_timer(w->loop, record_begin(r), PRO_NEVER, on_record);
    pro_recv(near, &r->op, world_alloc(w, 8), 8, 0, on_record);
}

static void c02_start_of_another_kind_when_in_flight_aborts(void **state)
{
    (void)state;
    assert_dies(start_as_another_kind, "in flight");
}

static void restart_at_more(struct record *r, struct pro_result result)
{
    (void)result;
    pro_timer(r->world->loop, &r->op, 0, on_record);
}

static void start_inside_more(struct world *w)
{
    struct record *r = world_record(w);
    r->then = restart_at_more;
    pro_timer_every(w->loop, record_begin(r), 1, 1, on_record);
    world_turns(w, 3);
}

static void c02_start_inside_a_completion_with_more_aborts(void **state)
{
    (void)state;
    assert_dies(start_inside_more, "in flight");
}

/* ------------------------------------------------------------------------------------------------------------
 * Handles
 * ------------------------------------------------------------------------------------------------------------ */

static void close_twice(struct world *w)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    pro_close(near, record_begin(world_record(w)), on_record);
    pro_close(near, record_begin(world_record(w)), on_record);
}

static void abort_after_close(struct world *w)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    pro_close(near, record_begin(world_record(w)), on_record);
    pro_abort(near, record_begin(world_record(w)), on_record);
}

static void release_after_abort(struct world *w)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    pro_abort(near, record_begin(world_record(w)), on_record);
    pro_release(near, record_begin(world_record(w)), on_record);
}

static void close_what_is_closed(struct world *w)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    world_close_handle(w, near);
    pro_close(near, record_begin(world_record(w)), on_record);
}

static void receive_on_what_is_closed(struct world *w)
{
    pro_recv(world_handle(w), record_begin(world_record(w)), world_alloc(w, 8), 8, 0, on_record);
}

static void receive_without_a_pool(struct world *w)
{
    int far;
    pro_recv_multi(world_tcp(w, &far), record_begin(world_record(w)), NULL, PRO_UNLIMITED, on_record);
}

static void adopt_into_what_is_open(struct world *w)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    pro_adopt(w->loop, near, dup(0));
}

static void c02_closing_twice_aborts(void **state)
{
    (void)state;
    assert_dies(close_twice, "clos");
    assert_dies(abort_after_close, "clos");
    assert_dies(release_after_abort, "clos");
    assert_dies(close_what_is_closed, "clos");
}

static void c02_start_on_a_closed_handle_aborts(void **state)
{
    (void)state;
    assert_dies(receive_on_what_is_closed, "clos");
}

static void c02_adopting_into_an_open_handle_aborts(void **state)
{
    (void)state;
    assert_dies(adopt_into_what_is_open, "open");
}

/* ------------------------------------------------------------------------------------------------------------
 * Sizes and numbers
 * ------------------------------------------------------------------------------------------------------------ */

static char letter[] = "x";

static void receive_nothing(struct world *w)
{
    int far;
    pro_recv(world_tcp(w, &far), record_begin(world_record(w)), world_alloc(w, 8), 0, 0, on_record);
}

static void receive_too_much(struct world *w)
{
    int far;
    pro_recv(world_tcp(w, &far), record_begin(world_record(w)), world_alloc(w, 8), (size_t)INT32_MAX + 1, 0, on_record);
}

static void read_nothing(struct world *w)
{
    pro_read(world_adopt(w, dup(0)), record_begin(world_record(w)), world_alloc(w, 8), 0, 0, on_record);
}

static void write_nothing(struct world *w)
{
    pro_write(world_adopt(w, dup(0)), record_begin(world_record(w)), "", 0, 0, on_record);
}

static void send_no_pieces(struct world *w)
{
    int far;
    struct iovec iov = {0};
    pro_send(world_tcp(w, &far), record_begin(world_record(w)), &iov, 0, 0, on_record);
}

static void send_too_many_pieces(struct world *w)
{
    int far;
    struct iovec *iov = world_alloc(w, 1025 * sizeof *iov);
    for (unsigned i = 0; i < 1025; i++)
        iov[i] = (struct iovec){letter, 1};
    pro_send(world_tcp(w, &far), record_begin(world_record(w)), iov, 1025, 0, on_record);
}

static void send_empty_pieces(struct world *w)
{
    int far;
    struct iovec iov[2] = {{letter, 0}, {letter, 0}};
    pro_send(world_tcp(w, &far), record_begin(world_record(w)), iov, 2, 0, on_record);
}

static void send_too_much(struct world *w)
{
    int far;
    struct iovec iov[2] = {{letter, INT32_MAX}, {letter, INT32_MAX}};
    pro_send(world_tcp(w, &far), record_begin(world_record(w)), iov, 2, 0, on_record);
}

static void try_to_send_nothing(struct world *w)
{
    int far;
    pro_try_send(world_tcp(w, &far), "", 0);
}

static void send_no_slices(struct world *w)
{
    int far;
    pro_send_slices(world_tcp(w, &far), record_begin(world_record(w)), NULL, on_record);
}

static void repeat_at_no_interval(struct world *w)
{
    pro_timer_every(w->loop, record_begin(world_record(w)), 1, 0, on_record);
}

static void c02_sizes_that_make_no_sense_abort(void **state)
{
    (void)state;
    assert_dies(receive_nothing, "0");
    assert_dies(receive_too_much, "INT32_MAX");
    assert_dies(read_nothing, "0");
    assert_dies(write_nothing, "0");
    assert_dies(send_no_pieces, "1024");
    assert_dies(send_too_many_pieces, "1024");
    assert_dies(send_empty_pieces, "0");
    assert_dies(send_too_much, "INT32_MAX");
    assert_dies(try_to_send_nothing, "0");
    assert_dies(send_no_slices, "0");
    assert_dies(repeat_at_no_interval, "interval");
}

/* ------------------------------------------------------------------------------------------------------------
 * Slices and pools
 * ------------------------------------------------------------------------------------------------------------ */

static struct pro_slice *a_slice(struct world *w, struct pro_pool **ret_pool)
{
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    assert_int_equal(pro_pool_new(w->loop, NULL, ret_pool), 0);
    pro_recv_multi(near, record_begin(r), *ret_pool, PRO_UNLIMITED, on_record);
    write_all(far, "12345", 5);
    RUN_UNTIL(w, r->bytes == 5);
    return record_take(r);
}

static void return_twice(struct world *w)
{
    struct pro_pool *pool;
    struct pro_slice *slice = a_slice(w, &pool);
    pro_slice_return(slice);
    pro_slice_return(slice);
}

static void split_at_the_start(struct world *w)
{
    struct pro_pool *pool;
    struct pro_slice *slice = a_slice(w, &pool), *tail;
    pro_slice_split(slice, 0, &tail);
}

static void split_at_the_end(struct world *w)
{
    struct pro_pool *pool;
    struct pro_slice *slice = a_slice(w, &pool), *tail;
    pro_slice_split(slice, 5, &tail);
}

static void free_a_pool_in_use(struct world *w)
{
    struct pro_pool *pool;
    a_slice(w, &pool);
    pro_pool_free(pool);
}

static void use_a_pool_on_two_loops(struct world *w)
{
    struct pro_pool *pool;
    struct pro_loop *other;
    int fds[2];
    a_slice(w, &pool);
    pro_loop_new(&w->config, &other);
    tcp_pair(fds);
    struct pro_handle *near = world_handle(w);
    pro_adopt(other, near, fds[0]);
    pro_recv_multi(near, record_begin(world_record(w)), pool, 1, on_record);
}

static void c02_slices_and_pools_that_are_misused_abort(void **state)
{
    (void)state;
    assert_dies(return_twice, "twice");
    assert_dies(split_at_the_start, "split");
    assert_dies(split_at_the_end, "split");
    assert_dies(free_a_pool_in_use, "pool");
    assert_dies(use_a_pool_on_two_loops, "pool");
    assert_dies(receive_without_a_pool, "without a pool");
}

/* ------------------------------------------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------------------------------------------ */

static void free_the_loop(struct record *r, struct pro_result result)
{
    (void)result;
    pro_loop_free(r->world->loop);
}

static void free_inside_a_continuation(struct world *w)
{
    struct record *r = world_record(w);
    r->then = free_the_loop;
    pro_timer(w->loop, record_begin(r), 0, on_record);
    world_run(w, PRO_RUN_DEFAULT);
}

static void run_the_loop(struct record *r, struct pro_result result)
{
    (void)result;
    pro_run(r->world->loop, PRO_RUN_NOWAIT);
}

static void run_inside_a_continuation(struct world *w)
{
    struct record *r = world_record(w);
    r->then = run_the_loop;
    pro_timer(w->loop, record_begin(r), 0, on_record);
    world_run(w, PRO_RUN_DEFAULT);
}

static void c02_loop_when_freed_or_run_inside_a_continuation_aborts(void **state)
{
    (void)state;
    assert_dies(free_inside_a_continuation, "continuation");
    assert_dies(run_inside_a_continuation, "continuation");
}

/* ------------------------------------------------------------------------------------------------------------
 * 11. Foreign threads
 * ------------------------------------------------------------------------------------------------------------ */

static struct scene *shared;
static struct record *foreign_record, *foreign_slices;

static void *foreign_run(void *context)
{
    pro_run(shared->w->loop, PRO_RUN_NOWAIT);
    return context;
}

static void *foreign_start(void *context)
{
    pro_timer(shared->w->loop, &foreign_record->op, 0, on_record);
    return context;
}

static void *foreign_recv(void *context)
{
    pro_recv(shared->handle, &foreign_record->op, shared->data, 8, 0, on_record);
    return context;
}

static void *foreign_cancel(void *context)
{
    pro_cancel(&shared->r->op);
    return context;
}

static void *foreign_deadline(void *context)
{
    pro_deadline(&shared->r->op, 1);
    return context;
}

static void *foreign_close(void *context)
{
    pro_close(shared->handle, &foreign_record->op, on_record);
    return context;
}

static void *foreign_free(void *context)
{
    pro_loop_free(shared->w->loop);
    return context;
}

static void *foreign_stop(void *context)
{
    pro_stop(shared->w->loop);
    return context;
}

static void *foreign_remote(void *context)
{
    pro_remote_get(shared->w->loop);
    return context;
}

static void *foreign_adopt(void *context)
{
    pro_adopt(shared->w->loop, world_handle(shared->w), 0);
    return context;
}

static void *foreign_try_send(void *context)
{
    pro_try_send(shared->handle, "x", 1);
    return context;
}

static void *foreign_split(void *context)
{
    struct pro_slice *tail;
    pro_slice_split(foreign_slices->head, 1, &tail);
    return context;
}

static void *foreign_return(void *context)
{
    record_drop(foreign_slices);
    return context;
}

static void *(*const foreign[])(void *) = {
    foreign_run,  foreign_start,  foreign_recv,  foreign_cancel,   foreign_deadline, foreign_close,  foreign_free,
    foreign_stop, foreign_remote, foreign_adopt, foreign_try_send, foreign_split,    foreign_return,
};
static unsigned foreign_chosen;

static void call_from_a_foreign_thread(struct world *w)
{
    pthread_t thread;
    shared = scene_open(w, &kinds[3]);
    foreign_record = world_record(w);
    scene_start(shared);
    int far;
    foreign_slices = world_record(w);
    pro_recv_multi(world_tcp(w, &far), record_begin(foreign_slices), world_pool(w, NULL), PRO_UNLIMITED, on_record);
    write_all(far, "abc", 3);
    RUN_UNTIL(w, foreign_slices->bytes == 3); /* the loop is this thread's now */
    pthread_create(&thread, NULL, foreign[foreign_chosen], NULL);
    pthread_join(thread, NULL);
}

static void c11_calls_from_a_foreign_thread_abort(void **state)
{
    (void)state;
    for (foreign_chosen = 0; foreign_chosen < sizeof foreign / sizeof foreign[0]; foreign_chosen++)
        assert_dies(call_from_a_foreign_thread, "foreign thread");
}

/* Before the first run any one thread at a time may use the loop; the thread that runs it first is its own. */
static void *use_and_run(void *context)
{
    struct world *w = context;
    struct record *r = world_record(w);
    pro_timer(w->loop, record_begin(r), 0, on_record);
    w->running++;
    int result = pro_run(w->loop, PRO_RUN_DEFAULT);
    w->running--;
    struct pro_loop *loop = w->loop;
    w->loop = NULL;
    w->running++;
    pro_loop_free(loop);
    w->running--;
    return r->finals == 1 && result == 0 ? w : NULL;
}

static void c11_loop_belongs_to_the_thread_that_runs_it_first(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    pthread_t thread;
    void *result = NULL;
    pro_timer(w->loop, record_begin(r), 0, on_record); /* started here, completed there */
    assert_int_equal(pthread_create(&thread, NULL, use_and_run, w), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, w);
    assert_int_equal(r->finals, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(c02_start_of_any_kind_when_in_flight_aborts),
        TEST_BARE(c02_start_of_another_kind_when_in_flight_aborts),
        TEST_BARE(c02_start_inside_a_completion_with_more_aborts),
        TEST_BARE(c02_closing_twice_aborts),
        TEST_BARE(c02_start_on_a_closed_handle_aborts),
        TEST_BARE(c02_adopting_into_an_open_handle_aborts),
        TEST_BARE(c02_sizes_that_make_no_sense_abort),
        TEST_BARE(c02_slices_and_pools_that_are_misused_abort),
        TEST_BARE(c02_loop_when_freed_or_run_inside_a_continuation_aborts),
        TEST_BARE(c11_calls_from_a_foreign_thread_abort),
        TEST(c11_loop_belongs_to_the_thread_that_runs_it_first),
    };
    return RUN(tests);
}
