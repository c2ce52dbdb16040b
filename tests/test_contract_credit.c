/* SPDX-License-Identifier: MIT
 *
 * Clause 8: credit and pauses of the multishot receive. Where the
 * kernel can count the credit, the same is run with the library counting. */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection whose bytes follow the pattern, and what of them has been seen. */
struct flow {
    struct world *w;
    struct pro_handle *near;
    int far;
    struct record *r;
    uint64_t sent, seen; /* positions in the pattern */
    struct pro_pool *pool;
};

static void see(struct record *r, struct pro_result result)
{
    struct flow *f = r->context;
    if (!result.slice)
        return;
    assert_true(pattern_holds(result.slice->data, result.slice->size, f->seen));
    f->seen += result.slice->size;
    record_drop(r);
}

static struct flow *flow_new(struct world *w, uint32_t credit)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    struct flow *f = world_alloc(w, sizeof *f);
    config.buffer_size = 4096;
    config.quota_buffers = 64;
    f->w = w;
    f->near = world_tcp(w, &f->far);
    f->r = world_record(w);
    f->r->context = f;
    f->r->then = see;
    f->pool = world_pool(w, &config);
    pro_recv_multi(f->near, record_begin(f->r), f->pool, credit, on_record);
    return f;
}

static void flow_send(struct flow *f, size_t size)
{
    uint8_t data[4096];
    while (size > 0) {
        size_t piece = size < sizeof data ? size : sizeof data;
        pattern_fill(data, piece, f->sent);
        write_all(f->far, data, piece);
        f->sent += piece;
        size -= piece;
    }
}

/* Exactly so many bytes, and not one more. */
static void run_until_seen(struct flow *f, uint64_t position)
{
    RUN_UNTIL(f->w, f->seen >= position);
    assert_int_equal(f->seen, position);
}

static uint32_t next_random(uint32_t *random)
{
    *random = *random * 1664525 + 1013904223;
    return *random >> 8;
}

/* ------------------------------------------------------------------------------------------------------------
 * Credit
 * ------------------------------------------------------------------------------------------------------------ */

static void c08_receive_when_credit_is_used_up_pauses(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 1000);
    flow_send(f, 10000);
    run_until_seen(f, 1000);
    assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED); /* the piece that used it up says so */
    unsigned completions = f->r->completions;
    world_turns(w, 5);
    assert_int_equal(f->r->completions, completions);
    assert_int_equal(f->seen, 1000);
    assert_int_equal(f->r->finals, 0);
}

static void c08_piece_that_leaves_credit_is_not_called_paused(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 1000);
    flow_send(f, 999);
    run_until_seen(f, 999);
    for (unsigned i = 0; i < f->r->completions; i++)
        assert_int_equal(f->r->log[i].flags, PRO_MORE);
    flow_send(f, 1);
    run_until_seen(f, 1000);
    assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED);
}

static void c08_receive_when_started_without_credit_waits_for_it(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 0);
    flow_send(f, 100);
    world_turns(w, 5);
    assert_int_equal(f->r->completions, 0);
    pro_recv_credit(&f->r->op, 60);
    assert_int_equal(f->r->completions, 0);
    run_until_seen(f, 60);
    assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED);
}

static void c08_receive_when_given_a_byte_delivers_a_byte(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 0);
    flow_send(f, 300);
    for (unsigned i = 1; i <= 300; i++) {
        pro_recv_credit(&f->r->op, 1);
        RUN_UNTIL(w, f->r->completions == i);
        assert_int_equal(f->r->last.res, 1);
        assert_int_equal(f->seen, i);
        assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED);
    }
}

/* Random credit against random data, for a megabyte: never a byte more than was given, and in the end all of it. */
static void random_credit(struct world *w, bool inside)
{
    struct flow *f = flow_new(w, 0);
    uint64_t given = 0;
    uint32_t random = inside ? 5 : 7;
    while (f->seen < 1 << 20) {
        if (f->sent - f->seen < 100000)
            flow_send(f, 1 + next_random(&random) % 20000);
        if (given == f->seen || next_random(&random) % 2) {
            uint32_t credit = 1 + next_random(&random) % (next_random(&random) % 3 ? 20000 : 10);
            pro_recv_credit(&f->r->op, credit);
            given += credit;
        }
        world_turns(w, next_random(&random) % 3);
        assert_true(f->seen <= given);
        assert_int_equal(f->r->finals, 0);
    }
    while (f->seen < f->sent) {
        if (given == f->seen) {
            pro_recv_credit(&f->r->op, 5000);
            given += 5000;
        }
        world_turns(w, 1);
        assert_true(f->seen <= given);
    }
    pro_cancel(&f->r->op);
    RUN_UNTIL(w, f->r->finals == 1);
}

static void c08_receive_never_delivers_more_than_its_credit(void **state)
{
    random_credit(*state, false);
    random_credit(*state, true);
}

/* The same where the backend has to count by itself. */
static void c08_receive_when_the_kernel_does_not_count_never_delivers_more(void **state)
{
    struct world *w = *state;
    static const uint64_t off[] = {PRO_FEATURE_RECV_MULTISHOT, PRO_FEATURE_BUFFER_RING};
    for (unsigned i = 0; i < sizeof off / sizeof off[0]; i++) {
        w->config.features_off = off[i];
        world_open(w);
        random_credit(w, false);
        world_shut(w);
    }
}

/* What is beyond the credit stays in the socket: a plain receive finds it after the multishot has ended. */
static void c08_bytes_beyond_the_credit_stay_in_the_socket(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 777);
    struct record *r = world_record(w);
    uint8_t *data = world_alloc(w, 4096);
    flow_send(f, 2000);
    run_until_seen(f, 777);
    pro_cancel(&f->r->op);
    RUN_UNTIL(w, f->r->finals == 1);
    pro_recv(f->near, record_begin(r), data, 2000 - 777, PRO_RECV_ALL, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 2000 - 777);
    assert_true(pattern_holds(data, 2000 - 777, 777));
}

static void c08_receive_with_unlimited_credit_never_pauses(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, PRO_UNLIMITED);
    for (unsigned i = 0; i < 50; i++) {
        flow_send(f, 20000);
        run_until_seen(f, f->sent);
        assert_int_equal(f->r->last.flags, PRO_MORE);
        pro_recv_credit(&f->r->op, 1); /* stays unlimited */
    }
    for (unsigned i = 0; i < f->r->completions && i < RECORD_LOG; i++)
        assert_int_equal(f->r->log[i].flags, PRO_MORE);
}

static void c08_credit_when_very_much_does_not_wrap(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 4000000000);
    pro_recv_credit(&f->r->op, 4000000000);
    assert_int_equal(f->r->op.u.stream.credit, PRO_UNLIMITED - 1); /* it stays counted */
    pro_recv_credit(&f->r->op, PRO_UNLIMITED);
    assert_int_equal(f->r->op.u.stream.credit, PRO_UNLIMITED);
    for (unsigned i = 0; i < 10; i++) {
        flow_send(f, 50000);
        run_until_seen(f, f->sent);
        assert_int_equal(f->r->last.flags, PRO_MORE);
    }
}

static void c08_credit_after_the_end_has_no_effect(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 100);
    pro_cancel(&f->r->op);
    pro_recv_credit(&f->r->op, 100);
    RUN_UNTIL(w, f->r->finals == 1);
    pro_recv_credit(&f->r->op, 100);
    pro_recv_pause(&f->r->op);
    flow_send(f, 300);
    world_turns(w, 5);
    assert_int_equal(f->r->completions, 1);
    pro_recv_multi(f->near, record_begin(f->r), f->pool, 50, on_record);
    run_until_seen(f, 50);
    world_turns(w, 5);
    assert_int_equal(f->seen, 50); /* the next flight has its own credit only */
    assert_int_equal(f->r->pauses, 0);
}

/* ------------------------------------------------------------------------------------------------------------
 * Pauses that are asked for
 * ------------------------------------------------------------------------------------------------------------ */

static void c08_pause_is_answered_once_and_then_nothing_comes(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, PRO_UNLIMITED);
    world_turns(w, 3);
    pro_recv_pause(&f->r->op);
    assert_int_equal(f->r->completions, 0);
    RUN_UNTIL(w, f->r->pauses == 1);
    flow_send(f, 5000);
    world_turns(w, 5);
    assert_int_equal(f->r->completions, 1);
    pro_recv_credit(&f->r->op, 2000);
    run_until_seen(f, 2000);
    assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED);
    assert_int_equal(f->r->pauses, 1);
}

/* Data is under way when the pause is asked for: it comes before the answer, and after the answer nothing does. */
static void c08_pause_under_load_is_answered_after_what_was_taken(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, PRO_UNLIMITED);
    for (unsigned i = 1; i <= 60; i++) {
        flow_send(f, 30000);
        world_turns(w, i % 3);
        pro_recv_pause(&f->r->op);
        RUN_UNTIL(w, f->r->pauses == i);
        assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED);
        uint64_t seen = f->seen;
        world_turns(w, 3);
        assert_int_equal(f->seen, seen);
        pro_recv_credit(&f->r->op, PRO_UNLIMITED);
        run_until_seen(f, f->sent);
    }
    assert_int_equal(f->r->finals, 0);
}

static void c08_pause_at_once_after_the_start_is_answered(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 500);
    flow_send(f, 1000);
    pro_recv_pause(&f->r->op);
    RUN_UNTIL(w, f->r->pauses == 1);
    world_turns(w, 3);
    assert_true(f->seen <= 500);
    uint64_t seen = f->seen;
    pro_recv_credit(&f->r->op, 100); /* the old credit was taken back */
    run_until_seen(f, seen + 100);
    world_turns(w, 3);
    assert_int_equal(f->seen, seen + 100);
}

static void c08_pause_while_standing_without_credit_is_answered(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 100);
    flow_send(f, 300);
    run_until_seen(f, 100);
    pro_recv_pause(&f->r->op);
    RUN_UNTIL(w, f->r->pauses == 1);
    pro_recv_pause(&f->r->op);
    RUN_UNTIL(w, f->r->pauses == 2);
    pro_recv_credit(&f->r->op, 200);
    run_until_seen(f, 300);
}

/* Asked twice before the answer: at least one answer, not more than two, and then nothing. */
static void c08_pause_asked_twice_ends_in_silence(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, PRO_UNLIMITED);
    world_turns(w, 2);
    pro_recv_pause(&f->r->op);
    pro_recv_pause(&f->r->op);
    RUN_UNTIL(w, f->r->pauses >= 1);
    world_turns(w, 3);
    unsigned completions = f->r->completions;
    assert_true(completions <= 2);
    flow_send(f, 500);
    world_turns(w, 5);
    assert_int_equal(f->r->completions, completions);
}

static void c08_credit_given_before_the_answer_counts_after_it(void **state)
{
    struct world *w = *state;
    for (unsigned turns = 0; turns < 3; turns++) {
        struct flow *f = flow_new(w, PRO_UNLIMITED);
        world_turns(w, turns);
        pro_recv_pause(&f->r->op);
        pro_recv_credit(&f->r->op, 300);
        pro_recv_credit(&f->r->op, 200);
        RUN_UNTIL(w, f->r->pauses == 1);
        assert_int_equal(f->seen, 0);
        flow_send(f, 5000);
        run_until_seen(f, 500);
        world_turns(w, 5);
        assert_int_equal(f->seen, 500);
        assert_int_equal(f->r->pauses, 1);
    }
}

/* Pause, credit, pause, credit, with no turn in between: the last credit is what counts. */
static void c08_pause_takes_back_credit_given_before_it(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 5000);
    world_turns(w, 2);
    pro_recv_pause(&f->r->op);
    pro_recv_credit(&f->r->op, 4000);
    pro_recv_pause(&f->r->op);
    pro_recv_credit(&f->r->op, 10);
    RUN_UNTIL(w, f->r->pauses >= 1);
    flow_send(f, 1000);
    run_until_seen(f, 10);
    world_turns(w, 5);
    assert_int_equal(f->seen, 10);
}

static void pause_inside(struct record *r, struct pro_result result)
{
    see(r, result);
    if (result.slice)
        pro_recv_pause(&r->op);
    else if (result.flags & PRO_MORE)
        pro_recv_credit(&r->op, PRO_UNLIMITED);
}

static void c08_pause_and_credit_inside_its_continuation_alternate(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, PRO_UNLIMITED);
    f->r->then = pause_inside;
    for (unsigned i = 0; i < 40; i++) {
        flow_send(f, 10000);
        run_until_seen(f, f->sent);
    }
    unsigned pauses = f->r->pauses;
    RUN_UNTIL(w, f->r->pauses > pauses || f->r->last.slice == NULL);
    assert_int_equal(f->r->finals, 0);
}

/* ------------------------------------------------------------------------------------------------------------
 * A receive into the program's own memory, while paused
 * ------------------------------------------------------------------------------------------------------------ */

/* A head by credit, a large body into own memory, and again: the stream stays in order. */
static void c08_plain_receive_while_paused_takes_its_turn(void **state)
{
    struct world *w = *state;
    enum { HEAD = 10, BODY = 100000 };
    struct flow *f = flow_new(w, HEAD);
    struct record *body = world_record(w);
    uint8_t *data = world_alloc(w, BODY);
    for (unsigned i = 0; i < 10; i++) {
        flow_send(f, HEAD);
        run_until_seen(f, f->sent);
        assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED);
        pro_recv(f->near, record_begin(body), data, BODY, PRO_RECV_ALL, on_record);
        flow_send(f, BODY);
        RUN_UNTIL(w, body->finals == body->starts);
        assert_int_equal(body->last.res, BODY);
        assert_true(pattern_holds(data, BODY, f->seen));
        f->seen += BODY;
        pro_recv_credit(&f->r->op, HEAD);
    }
    assert_int_equal(f->r->finals, 0);
}

/* Credit is given while the plain receive is in flight: what comes next is the plain receive's. */
static void c08_credit_during_a_plain_receive_does_not_overtake_it(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 0);
    struct record *plain = world_record(w);
    uint8_t *data = world_alloc(w, 1000);
    world_turns(w, 1);
    pro_recv(f->near, record_begin(plain), data, 1000, PRO_RECV_ALL, on_record);
    world_turns(w, 2);
    pro_recv_credit(&f->r->op, 500);
    world_turns(w, 2);
    flow_send(f, 1500);
    RUN_UNTIL(w, plain->finals == 1);
    assert_int_equal(plain->last.res, 1000);
    assert_true(pattern_holds(data, 1000, 0));
    assert_true(f->seen == 0 || f->seen >= 1000);
    f->seen += 1000;
    run_until_seen(f, 1500);
    assert_int_equal(f->r->last.flags, PRO_MORE | PRO_PAUSED);
}

static void c08_plain_receive_after_a_pause_gets_what_comes(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, PRO_UNLIMITED);
    struct record *plain = world_record(w);
    uint8_t *data = world_alloc(w, 1000);
    world_turns(w, 2);
    pro_recv_pause(&f->r->op);
    RUN_UNTIL(w, f->r->pauses == 1);
    pro_recv(f->near, record_begin(plain), data, 1000, 0, on_record);
    world_turns(w, 2);
    flow_send(f, 10);
    RUN_UNTIL(w, plain->finals == 1);
    assert_int_equal(plain->last.res, 10);
    assert_int_equal(f->r->completions, 1);
}

/* ------------------------------------------------------------------------------------------------------------
 * The end of a paused receive
 * ------------------------------------------------------------------------------------------------------------ */

static void c08_end_of_file_while_paused_waits_for_credit(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, 100);
    flow_send(f, 100);
    run_until_seen(f, 100);
    world_close(w, f->far);
    unsigned completions = f->r->completions;
    world_turns(w, 5);
    assert_int_equal(f->r->completions, completions);
    pro_recv_credit(&f->r->op, 1);
    RUN_UNTIL(w, f->r->finals == 1);
    assert_int_equal(f->r->last.flags, PRO_EOF);
}

static void c08_paused_receive_when_cancelled_ends(void **state)
{
    struct world *w = *state;
    struct flow *f = flow_new(w, PRO_UNLIMITED);
    pro_recv_pause(&f->r->op);
    RUN_UNTIL(w, f->r->pauses == 1);
    flow_send(f, 10);
    pro_cancel(&f->r->op);
    RUN_UNTIL(w, f->r->finals == 1);
    assert_int_equal(f->r->last.res, -ECANCELED);
    assert_int_equal(f->seen, 0);
}

/* Pause and cancel at once: the final says so, whether the pause was answered or not; nothing follows. */
static void c08_pause_and_cancel_together_end_once(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 6; i++) {
        struct flow *f = flow_new(w, PRO_UNLIMITED);
        world_turns(w, i % 3);
        if (i < 3)
            pro_recv_pause(&f->r->op);
        pro_cancel(&f->r->op);
        if (i >= 3)
            pro_recv_pause(&f->r->op);
        RUN_UNTIL(w, f->r->finals == 1);
        assert_int_equal(f->r->last.res, -ECANCELED);
        assert_true(f->r->pauses <= 1);
        world_turns(w, 3);
    }
}

static void c08_pause_and_close_together_end_once(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 6; i++) {
        struct flow *f = flow_new(w, PRO_UNLIMITED);
        flow_send(f, 10);
        world_turns(w, i % 3);
        pro_recv_pause(&f->r->op);
        pro_recv_credit(&f->r->op, i);
        assert_int_equal(world_close_handle(w, f->near), 0);
        assert_int_equal(f->r->finals, 1);
        assert_int_equal(f->r->last.res, -ECANCELED);
    }
}

static void c08_pause_of_a_receive_that_waits_for_memory_is_answered(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 512;
    config.max_buffers = 1;
    struct pro_pool *pool = world_pool(w, &config);
    struct record *holder = world_record(w), *r = world_record(w);
    int far, other_far;
    struct pro_handle *other = world_tcp(w, &other_far), *near = world_tcp(w, &far);
    pro_recv_multi(other, record_begin(holder), pool, PRO_UNLIMITED, on_record);
    write_all(other_far, "x", 1);
    RUN_UNTIL(w, holder->bytes == 1);
    write_all(far, "abc", 3);
    pro_recv_multi(near, record_begin(r), pool, PRO_UNLIMITED, on_record);
    world_turns(w, 3);
    pro_recv_pause(&r->op);
    RUN_UNTIL(w, r->pauses == 1);
    record_drop(holder);
    world_turns(w, 3);
    assert_int_equal(r->bytes, 0);
    pro_recv_credit(&r->op, 2);
    RUN_UNTIL(w, r->bytes == 2);
}

/* ------------------------------------------------------------------------------------------------------------
 * 1. The same memory, for another purpose
 * ------------------------------------------------------------------------------------------------------------ */

static void c01_operation_that_was_a_send_receives(void **state)
{
    struct world *w = *state;
    enum { MUCH = 1 << 24, QUEUED = 4096 };
    int far[2];
    struct pro_handle *full = world_unix(w, &far[0]), *idle = world_unix(w, &far[1]);
    struct pro_pool *pool = world_pool(w, NULL);
    struct record *first = world_record(w), *r = world_record(w);
    uint8_t *data = world_alloc(w, MUCH);
    struct iovec much = {data, MUCH}, queued = {data, QUEUED};
    pro_send(full, record_begin(first), &much, 1, 0, on_record);
    pro_send(full, record_begin(r), &queued, 1, 0, on_record);
    world_turns(w, 3);
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -ECANCELED);

    pro_recv_multi(idle, record_begin(r), pool, PRO_UNLIMITED, on_record);
    world_turns(w, 3);
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 2);
    assert_int_equal(r->last.res, -ECANCELED);
    pro_cancel(&first->op);
    RUN_UNTIL(w, first->finals == 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c08_receive_when_credit_is_used_up_pauses),
        TEST(c08_piece_that_leaves_credit_is_not_called_paused),
        TEST(c08_receive_when_started_without_credit_waits_for_it),
        TEST(c08_receive_when_given_a_byte_delivers_a_byte),
        TEST(c08_receive_never_delivers_more_than_its_credit),
        TEST_BARE(c08_receive_when_the_kernel_does_not_count_never_delivers_more),
        TEST(c08_bytes_beyond_the_credit_stay_in_the_socket),
        TEST(c08_receive_with_unlimited_credit_never_pauses),
        TEST(c08_credit_when_very_much_does_not_wrap),
        TEST(c08_credit_after_the_end_has_no_effect),
        TEST(c08_pause_is_answered_once_and_then_nothing_comes),
        TEST(c08_pause_under_load_is_answered_after_what_was_taken),
        TEST(c08_pause_at_once_after_the_start_is_answered),
        TEST(c08_pause_while_standing_without_credit_is_answered),
        TEST(c08_pause_asked_twice_ends_in_silence),
        TEST(c08_credit_given_before_the_answer_counts_after_it),
        TEST(c08_pause_takes_back_credit_given_before_it),
        TEST(c08_pause_and_credit_inside_its_continuation_alternate),
        TEST(c08_plain_receive_while_paused_takes_its_turn),
        TEST(c08_credit_during_a_plain_receive_does_not_overtake_it),
        TEST(c08_plain_receive_after_a_pause_gets_what_comes),
        TEST(c08_end_of_file_while_paused_waits_for_credit),
        TEST(c08_paused_receive_when_cancelled_ends),
        TEST(c08_pause_and_cancel_together_end_once),
        TEST(c08_pause_and_close_together_end_once),
        TEST(c08_pause_of_a_receive_that_waits_for_memory_is_answered),
        TEST(c01_operation_that_was_a_send_receives),
    };
    return RUN(tests);
}
