/* SPDX-License-Identifier: MIT
 *
 * Clauses 1 to 3: what an operation is, what starting one does, and how it ends. */
#include "harness.h"
#include "kinds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * 1. An operation is memory of the caller
 * ------------------------------------------------------------------------------------------------------------ */

_Static_assert(sizeof(struct pro_op) <= 96, "an operation is at most 96 bytes");
_Static_assert(sizeof(struct pro_handle) <= 80, "a handle is at most 80 bytes");

struct object {
    char before[24];
    struct pro_op op;
    char after[8];
    unsigned calls;
};

static void on_object(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    (void)loop, (void)result;
    PRO_CONTAINER_OF(op, struct object, op)->calls++;
}

static void c01_operation_when_completed_finds_its_object(void **state)
{
    struct world *w = *state;
    struct object *object = world_alloc(w, sizeof *object);
    pro_timer(w->loop, &object->op, 0, on_object);
    RUN_UNTIL(w, object->calls == 1);
}

static void c01_operation_when_zeroed_is_idle(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    assert_false(pro_op_in_flight(&r->op));
    pro_cancel(&r->op); /* without effect on what is idle */
    world_turns(w, 3);
    pro_timer(w->loop, record_begin(r), 0, on_record);
    assert_true(pro_op_in_flight(&r->op));
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 0);
    assert_false(pro_op_in_flight(&r->op));
}

/* The second time nothing is allocated: neither at the start nor on the way. The first may fill a pool. */
static void start_twice_counting(struct scene *s)
{
    struct world *w = s->w;
    scene_start(s);
    if (s->kind->feed)
        scene_feed(s);
    pro_cancel(&s->r->op);
    RUN_UNTIL(w, s->r->finals == 1);
    record_drop(s->r);
    uint64_t before = w->ledger.allocations;
    scene_start(s);
    world_turns(w, 2);
    pro_cancel(&s->r->op);
    RUN_UNTIL(w, s->r->finals == 2);
    assert_int_equal(w->ledger.allocations, before);
}

static void c01_operation_of_any_kind_when_started_allocates_nothing(void **state)
{
    for_kinds(*state, 0, KIND_SLOW, start_twice_counting);
}

static void c01_operations_when_many_allocate_nothing(void **state)
{
    struct world *w = *state;
    enum { MANY = 5000 };
    struct record **r = world_alloc(w, MANY * sizeof *r);
    uint64_t before = w->ledger.allocations;
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_timer(w->loop, record_begin(r[i]), 1 + i, on_record);
    }
    for (unsigned i = 0; i < MANY; i++)
        RUN_UNTIL(w, r[i]->finals == 1);
    assert_int_equal(w->ledger.allocations, before);
}

/* ------------------------------------------------------------------------------------------------------------
 * 2. Starting never fails and never calls back
 * ------------------------------------------------------------------------------------------------------------ */

static void start_and_look(struct scene *s)
{
    scene_start(s);
    assert_int_equal(s->r->completions, 0);
    assert_true(pro_op_in_flight(&s->r->op));
}

static void c02_start_of_any_kind_calls_nothing_back(void **state)
{
    for_kinds(*state, 0, 0, start_and_look);
}

/* on_record itself refuses to be called outside pro_run; here the outcome is known before the start. */
static void c02_start_when_data_is_there_completes_in_pro_run(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char data[8];
    write_all(far, "abc", 3);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    assert_int_equal(r->completions, 0);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 3);
    assert_memory_equal(data, "abc", 3);
    assert_int_equal(world_close_handle(w, near), 0);
}

static void c02_start_when_it_must_fail_completes_in_pro_run(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct pro_handle *near = world_adopt(w, ends[0]);
    world_own(w, ends[1]);
    struct record *r = world_record(w);
    char data[8];
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    assert_int_equal(r->completions, 0);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -ENOTSOCK);
    assert_int_equal(world_close_handle(w, near), 0);
}

static pthread_t continuation_thread;

static void note_thread(struct record *r, struct pro_result result)
{
    (void)r, (void)result;
    continuation_thread = pthread_self();
}

static void c02_continuation_runs_on_the_thread_of_pro_run(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    r->then = note_thread;
    pro_timer(w->loop, record_begin(r), 0, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_true(pthread_equal(continuation_thread, pthread_self()));
}

/* A start from inside a continuation does not run its own continuation there and then. */
static void start_nested(struct record *r, struct pro_result result)
{
    (void)result;
    struct record *inner = r->context;
    pro_timer(r->world->loop, record_begin(inner), 0, on_record);
    assert_int_equal(inner->completions, 0);
}

static void c02_start_inside_a_continuation_calls_nothing_back(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    r->context = world_record(w);
    r->then = start_nested;
    pro_timer(w->loop, record_begin(r), 0, on_record);
    RUN_UNTIL(w, ((struct record *)r->context)->finals == 1);
}

/* Many more than the submission queue holds (256), started in one go. */
static void c02_starts_when_more_than_the_queue_holds_all_complete(void **state)
{
    struct world *w = *state;
    enum { MANY = 1500 };
    struct record **r = world_alloc(w, MANY * sizeof *r);
    struct pro_handle **near = world_alloc(w, MANY * sizeof *near);
    int *far = world_alloc(w, MANY * sizeof *far);
    char *data = world_alloc(w, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        near[i] = world_unix(w, &far[i]);
        pro_recv(near[i], record_begin(r[i]), data + i, 1, 0, on_record);
    }
    for (unsigned i = 0; i < MANY; i++)
        write_all(far[i], "x", 1);
    for (unsigned i = 0; i < MANY; i++) {
        RUN_UNTIL(w, r[i]->finals == 1);
        assert_int_equal(r[i]->last.res, 1);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * 3. Exactly one final completion
 * ------------------------------------------------------------------------------------------------------------ */

static void assert_fed(const struct scene *s, struct pro_result result)
{
    if (s->kind->flags & KIND_ACCEPTS)
        assert_true(result.res >= 0);
    else
        assert_int_equal(result.res, s->kind->fed);
}

static void feed_and_see_one_final(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 3);
    assert_int_equal(s->r->completions, 0);
    scene_feed(s);
    assert_fed(s, s->r->log[0]);
    bool multi = s->kind->flags & KIND_MULTI;
    assert_int_equal(s->r->finals, !multi);
    assert_int_equal(pro_op_in_flight(&s->r->op), multi);
    unsigned completions = s->r->completions;
    world_turns(s->w, 5);
    assert_int_equal(s->r->completions, completions);
}

static void c03_operation_of_any_kind_when_it_completes_ends_once(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < kind_count; i++) {
        if (!kinds[i].feed)
            continue;
        world_note(w, kinds[i].name);
        struct scene *s = scene_open(w, &kinds[i]);
        feed_and_see_one_final(s);
        scene_shut(s);
    }
    world_note(w, NULL);
}

static void feed_twice(struct scene *s)
{
    if (!s->kind->feed)
        return;
    scene_start(s);
    unsigned rounds = s->kind->flags & KIND_ACCEPTS ? 20 : 3;
    for (unsigned i = 0; i < rounds; i++)
        scene_feed(s);
    assert_int_equal(s->r->finals, 0);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
}

static void c03_multishot_of_any_kind_goes_on_until_cancelled(void **state)
{
    for_kinds(*state, KIND_MULTI, 0, feed_twice);
}

static void restart_once(struct scene *s, struct pro_result result)
{
    if (!(result.flags & PRO_MORE) && s->r->starts == 1) {
        assert_false(pro_op_in_flight(&s->r->op));
        scene_start(s);
        assert_true(pro_op_in_flight(&s->r->op));
    }
}

static void cancel_restart_feed(struct scene *s)
{
    s->then = restart_once;
    scene_start(s);
    world_turns(s->w, 1);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    world_turns(s->w, 5); /* the first flight's cancel must not reach the second */
    assert_int_equal(s->r->finals, 1);
    if (s->kind->feed && !(s->kind->flags & KIND_SLOW)) {
        scene_feed(s);
        assert_true(s->r->last.res >= 0);
    }
}

/* Sends cannot take part: one that was cut leaves -EPIPE behind (9). */
static void c03_operation_of_any_kind_when_restarted_in_its_final_is_new(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < kind_count; i++) {
        bool cut = kinds[i].feed && (kinds[i].flags & KIND_SENDS);
        if (cut || strcmp(kinds[i].name, "connect") == 0 || strcmp(kinds[i].name, "shutdown, queued") == 0)
            continue;
        world_note(w, kinds[i].name);
        struct scene *s = scene_open(w, &kinds[i]);
        cancel_restart_feed(s);
        scene_shut(s);
    }
    world_note(w, NULL);
}

/* The operation is in a block of its own that is gone when its final continuation returns; sanitizers watch. */
struct parcel {
    struct pro_op op;
    unsigned *finals;
};

static void on_parcel(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct parcel *parcel = PRO_CONTAINER_OF(op, struct parcel, op);
    if (result.slice)
        pro_slice_return(result.slice);
    (void)loop;
    if (result.flags & PRO_MORE)
        return;
    ++*parcel->finals;
    memset(parcel, 0xa5, sizeof *parcel);
    free(parcel);
}

static struct pro_op *parcel_new(unsigned *finals)
{
    struct parcel *parcel = calloc(1, sizeof *parcel);
    assert_non_null(parcel);
    parcel->finals = finals;
    return &parcel->op;
}

static void c03_operation_when_freed_in_its_final_is_never_touched_again(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    char data[8];
    for (unsigned round = 0; round < 50; round++) {
        unsigned finals = 0;
        int far;
        struct pro_handle *near = world_tcp(w, &far);
        struct pro_op *one = parcel_new(&finals), *two = parcel_new(&finals), *three = parcel_new(&finals);
        pro_recv(near, one, data, sizeof data, 0, on_parcel);
        pro_recv_multi(near, two, pool, PRO_UNLIMITED, on_parcel);
        pro_deadline(two, pro_now(w->loop) + 1000000000);
        pro_timer_after(w->loop, three, 3600 * UINT64_C(1000000000), on_parcel);
        if (round % 2)
            write_all(far, "abcdefghijkl", 12);
        world_turns(w, round % 4);
        pro_cancel(three);
        assert_int_equal(world_close_handle(w, near), 0);
        RUN_UNTIL(w, finals == 3);
        world_close(w, far);
    }
}

/* A datagram more than a kernel's small batch limit, over and over: what needs re-arming is re-armed unseen. */
static void c03_multishot_recv_when_it_lasts_is_rearmed_unseen(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_unix(w, &far);
    struct record *r = world_record(w);
    uint8_t piece[512];
    r->drop = true;
    pro_recv_multi(near, record_begin(r), world_pool(w, NULL), PRO_UNLIMITED, on_record);
    for (unsigned i = 0; i < 2000; i++) {
        write_all(far, piece, sizeof piece);
        if (i % 37 == 0)
            RUN_UNTIL(w, r->bytes == (i + 1) * sizeof piece);
    }
    RUN_UNTIL(w, r->bytes == 2000 * sizeof piece);
    assert_int_equal(r->finals, 0);
    world_close(w, far);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 0);
    assert_int_equal(r->last.flags, PRO_EOF);
}

static void c03_multishot_recv_when_the_peer_ends_ends_with_eof(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char text[8] = "";
    pro_recv_multi(near, record_begin(r), world_pool(w, NULL), PRO_UNLIMITED, on_record);
    write_all(far, "last", 4);
    world_close(w, far);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(record_text(r, text, sizeof text), 4);
    assert_string_equal(text, "last");
    assert_int_equal(r->last.flags, PRO_EOF);
}

static void c03_recv_all_when_the_peer_ends_says_how_much_came(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char text[8] = "";
    pro_recv(near, record_begin(r), text, 8, PRO_RECV_ALL, on_record);
    write_all(far, "la", 2);
    world_turns(w, 3);
    assert_int_equal(r->completions, 0);
    write_all(far, "st", 2);
    world_close(w, far);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 4);
    assert_string_equal(text, "last");
    pro_recv(near, record_begin(r), text, 8, PRO_RECV_ALL, on_record);
    RUN_UNTIL(w, r->finals == 2);
    assert_int_equal(r->last.res, 0);
    assert_int_equal(r->last.flags, PRO_EOF);
}

/* ------------------------------------------------------------------------------------------------------------
 * The books
 * ------------------------------------------------------------------------------------------------------------ */

static void look_at_books(struct scene *s)
{
    struct pro_stats stats;
    scene_start(s);
    for (unsigned i = 0; i < 4; i++) {
        pro_loop_stats(s->w->loop, &stats, sizeof stats);
        assert_int_equal(stats.started, stats.completed + stats.in_flight);
        assert_true(stats.in_flight >= 1);
        world_turns(s->w, 1);
    }
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    pro_loop_stats(s->w->loop, &stats, sizeof stats);
    assert_int_equal(stats.started, stats.completed + stats.in_flight);
    assert_int_equal(stats.in_flight, s->before && s->before->finals < s->before->starts);
}

static void c03_books_always_balance(void **state)
{
    for_kinds(*state, 0, 0, look_at_books);
}

/* ------------------------------------------------------------------------------------------------------------
 * pro_op_lazy
 * ------------------------------------------------------------------------------------------------------------ */

static struct record *send_one(struct world *w, struct pro_handle *near, bool lazy)
{
    static char byte = 'x';
    struct record *r = world_record(w);
    struct iovec *iov = world_alloc(w, sizeof *iov);
    *iov = (struct iovec){&byte, 1};
    pro_op_lazy(record_begin(r), lazy);
    pro_send(near, &r->op, iov, 1, 0, on_record);
    return r;
}

static struct record *receive_one(struct world *w, struct pro_handle *near)
{
    struct record *r = world_record(w);
    pro_recv(near, record_begin(r), world_alloc(w, 1), 1, 0, on_record);
    return r;
}

static void c03_send_when_another_waits_completes_without_it(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *receive = receive_one(w, near);
    world_turns(w, 2);
    struct record *send = send_one(w, near, false);
    RUN_UNTIL(w, send->finals == 1); /* or it sleeps for ever: nobody sends anything */
    assert_int_equal(send->last.res, 1);
    assert_int_equal(receive->finals, 0);
}

static void c03_lazy_send_completes_with_the_next_that_does(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *receive = receive_one(w, near), *send = send_one(w, near, true);
    struct record *timer = world_record(w);
    pro_timer_after(w->loop, record_begin(timer), 1000000, on_record);
    RUN_UNTIL(w, timer->finals == 1);
    world_turns(w, 1);
    assert_int_equal(send->finals, 1);
    assert_int_equal(send->last.res, 1);
    assert_int_equal(receive->finals, 0);
    assert_int_equal(pro_op_bytes(&send->op), 1);
}

static void c03_lazy_send_when_it_is_all_there_is_completes(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *send = send_one(w, near, true), *background = world_record(w);
    pro_op_background(record_begin(background));
    pro_timer(w->loop, &background->op, PRO_NEVER, on_record);
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    assert_int_equal(send->finals, 1);
}

static void c03_lazy_send_when_that_is_taken_back_completes(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *receive = receive_one(w, near), *send = send_one(w, near, true);
    pro_op_lazy(&send->op, false);
    RUN_UNTIL(w, send->finals == 1);
    assert_int_equal(receive->finals, 0);
}

static void c03_lazy_send_when_it_falls_short_completes(void **state)
{
    struct world *w = *state;
    enum { MUCH = 8 << 20 };
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *send = world_record(w);
    struct iovec iov = {world_alloc(w, MUCH), MUCH};
    char *sink = world_alloc(w, 1 << 16);
    ssize_t got = 0;
    pro_op_lazy(record_begin(send), true);
    pro_send(near, &send->op, &iov, 1, 0, on_record);
    for (ssize_t n; got<MUCH; got += n> 0 ? n : 0) {
        world_turns(w, 1);
        n = read(far, sink, 1 << 16);
        assert_true(n != 0);
    }
    world_turns(w, 3);
    assert_int_equal(send->finals, 1);
    assert_int_equal(send->last.res, MUCH);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c01_operation_when_completed_finds_its_object),
        TEST(c01_operation_when_zeroed_is_idle),
        TEST(c01_operation_of_any_kind_when_started_allocates_nothing),
        TEST(c01_operations_when_many_allocate_nothing),
        TEST(c02_start_of_any_kind_calls_nothing_back),
        TEST(c02_start_when_data_is_there_completes_in_pro_run),
        TEST(c02_start_when_it_must_fail_completes_in_pro_run),
        TEST(c02_continuation_runs_on_the_thread_of_pro_run),
        TEST(c02_start_inside_a_continuation_calls_nothing_back),
        TEST(c02_starts_when_more_than_the_queue_holds_all_complete),
        TEST(c03_operation_of_any_kind_when_it_completes_ends_once),
        TEST(c03_multishot_of_any_kind_goes_on_until_cancelled),
        TEST(c03_operation_of_any_kind_when_restarted_in_its_final_is_new),
        TEST(c03_operation_when_freed_in_its_final_is_never_touched_again),
        TEST(c03_multishot_recv_when_it_lasts_is_rearmed_unseen),
        TEST(c03_multishot_recv_when_the_peer_ends_ends_with_eof),
        TEST(c03_recv_all_when_the_peer_ends_says_how_much_came),
        TEST(c03_books_always_balance),
        TEST(c03_send_when_another_waits_completes_without_it),
        TEST(c03_lazy_send_completes_with_the_next_that_does),
        TEST(c03_lazy_send_when_it_is_all_there_is_completes),
        TEST(c03_lazy_send_when_that_is_taken_back_completes),
        TEST(c03_lazy_send_when_it_falls_short_completes),
    };
    return RUN(tests);
}
