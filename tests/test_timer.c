/* SPDX-License-Identifier: MIT
 *
 * The timing wheel against a sorted list: a million operations in random order, jumps of every size. */
#include "timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A time ahead whose magnitude, not only its value, is random. */
static uint64_t ahead(void)
{
    return draw() >> (draw() % 64);
}

/* What is due by `now`, chained by link_next. */
static struct pro_op *take(struct proi_wheel *wheel, uint64_t now)
{
    struct pro_op *first = NULL, **end = &first, *op;
    proi_wheel_advance(wheel, now);
    while ((op = proi_wheel_pop(wheel)) != NULL) {
        assert_null(op->time_prev);
        *end = op;
        end = &op->link_next;
    }
    *end = NULL;
    assert_true(wheel->now == now);
    return first;
}

static void timers_when_in_random_order_come_out_sorted_and_never_early(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    static struct proi_wheel wheel;
    struct pro_op *ops = calloc(COUNT, sizeof *ops);
    size_t in = 0, out = 0, removed = 0;
    uint64_t now = 1000;
    assert_non_null(ops);
    proi_wheel_init(&wheel, now);
    for (size_t i = 0; i < COUNT; i++) {
        uint64_t d = ahead() >> 20;
        ops[i].time_at = now + d;
        proi_wheel_insert(&wheel, &ops[i]);
        in++;
        if (draw() % 8 == 0) {
            struct pro_op *victim = &ops[draw() % (i + 1)];
            if (victim->time_prev) {
                proi_wheel_remove(&wheel, victim);
                victim->time_at = 0;
                removed++;
            }
        }
        struct pro_op *other = &ops[draw() % (i + 1)];
        if (other->time_prev) {
            uint64_t at = draw() % 2 ? other->time_at + draw() % 4096 : now + (ahead() >> 20);
            proi_wheel_move(&wheel, other, at);
            assert_true(other->time_prev && other->time_at == at);
        }
        if (draw() % 4)
            continue;
        uint64_t next = proi_wheel_next(&wheel), last = 0, before = now;
        now += draw() % 2 ? ahead() >> 24 : 1;
        for (struct pro_op *op = take(&wheel, now); op; op = op->link_next) {
            assert_true(op->time_at <= now && op->time_at >= last && op->time_at >= before - (before > 0));
            assert_true(next <= op->time_at || next == before);
            last = op->time_at;
            out++;
        }
        for (size_t k = 0; k < 8; k++) { /* nothing overdue was left behind */
            struct pro_op *op = &ops[draw() % (i + 1)];
            assert_true(!op->time_prev || op->time_at > now);
        }
    }
    for (struct pro_op *op = take(&wheel, PRO_NEVER); op; op = op->link_next)
        out++;
    assert_int_equal(in, out + removed);
    assert_null(proi_wheel_any(&wheel));
    assert_true(proi_wheel_next(&wheel) == PRO_NEVER);
    free(ops);
}

static void timers_when_equal_come_out_in_order_of_insertion(void **state)
{
    (void)state;
    static struct proi_wheel wheel;
    static struct pro_op ops[300];
    memset(ops, 0, sizeof ops);
    proi_wheel_init(&wheel, 0);
    for (size_t i = 0; i < 300; i++) { /* the same instant, from ever nearer */
        ops[i].time_at = 1u << 20;
        proi_wheel_insert(&wheel, &ops[i]);
        assert_null(take(&wheel, i * 3000));
    }
    size_t i = 0;
    for (struct pro_op *op = take(&wheel, 1u << 20); op; op = op->link_next)
        assert_ptr_equal(op, &ops[i++]);
    assert_int_equal(i, 300);
}

/* u.timer.every numbers the insertions: what comes out is sorted by time, and then by number. */
static void timers_when_many_share_their_times_keep_the_order_of_insertion(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    static struct proi_wheel wheel;
    struct pro_op *ops = calloc(COUNT, sizeof *ops);
    uint64_t now = 12345, number = 0, out = 0;
    assert_non_null(ops);
    proi_wheel_init(&wheel, now);
    for (unsigned round = 0; round < 40; round++) {
        uint64_t grain = 1ull << draw() % 20, span = 1ull << draw() % 30, in = 0;
        for (size_t i = 0; i < COUNT && in < COUNT / 8; i++) {
            if (ops[i].time_prev)
                continue;
            ops[i].time_at = now + 1 + draw() % span / grain * grain;
            ops[i].u.timer.every = number++;
            proi_wheel_insert(&wheel, &ops[i]);
            in++;
        }
        now += draw() % 4 ? draw() % (span * 2) : 1;
        const struct pro_op *last = NULL;
        for (struct pro_op *op = take(&wheel, now); op; last = op, op = op->link_next, out++)
            assert_true(!last || last->time_at < op->time_at ||
                        (last->time_at == op->time_at && last->u.timer.every < op->u.timer.every));
    }
    for (struct pro_op *op = take(&wheel, PRO_NEVER - 1); op; op = op->link_next)
        out++;
    assert_true(out == number && number > COUNT);
    free(ops);
}

/* With each that comes out another goes, wherever it is, and one is put back, which waits for the next time. */
static void timers_when_removed_while_others_come_out_do_not(void **state)
{
    (void)state;
    enum { COUNT = 2000, PUT_BACK = 3 };
    static struct proi_wheel wheel;
    static struct pro_op ops[COUNT];
    memset(ops, 0, sizeof ops);
    uint64_t now = 1 << 20;
    proi_wheel_init(&wheel, now);
    for (unsigned round = 0; round < 50; round++) {
        uint64_t span = 1ull << (4 + draw() % 20);
        size_t in = 0, seen = 0, removed = 0, put_back = 0;
        struct pro_op *op;
        for (size_t i = 0; i < COUNT; i++) { /* those that were put back are in the wheel */
            if (!ops[i].time_prev) {
                ops[i].time_at = now - 8 + draw() % span;
                proi_wheel_insert(&wheel, &ops[i]);
            }
            ops[i].flags = 0;
            in++;
        }
        now += span;
        proi_wheel_advance(&wheel, now);
        while ((op = proi_wheel_pop(&wheel)) != NULL) {
            struct pro_op *victim = &ops[draw() % COUNT];
            assert_true(!op->flags && op->time_at <= now);
            op->flags = 1;
            seen++;
            if (op - ops < PUT_BACK) {
                proi_wheel_insert(&wheel, op);
                put_back++;
            }
            if (victim->time_prev) {
                proi_wheel_remove(&wheel, victim);
                put_back -= victim->flags;
                removed += !victim->flags;
                victim->flags = 1;
            }
        }
        assert_int_equal(seen + removed, in);
        for (size_t i = 0; i < COUNT; i++)
            put_back -= ops[i].time_prev != NULL;
        assert_int_equal(put_back, 0);
    }
}

static void timer_when_moved_within_its_slot_is_only_written_to(void **state)
{
    (void)state;
    static struct proi_wheel wheel;
    static struct pro_op ops[3];
    memset(ops, 0, sizeof ops);
    proi_wheel_init(&wheel, 1 << 12);
    for (size_t i = 0; i < 3; i++) {
        ops[i].time_at = (1 << 18) + i; /* level 3, and as long as the wheel stands */
        proi_wheel_insert(&wheel, &ops[i]);
    }
    for (uint64_t at = 1 << 18; at < 1 << 19; at += (1 << 18) - 1) { /* the slot's first and last */
        struct pro_op before = ops[0];
        before.time_at = at;
        proi_wheel_move(&wheel, &ops[0], at);
        assert_memory_equal(&before, &ops[0], sizeof before);
        assert_ptr_equal(proi_wheel_any(&wheel), &ops[0]);
    }
    assert_ptr_equal(take(&wheel, (1 << 18) + 2), &ops[1]);
    assert_ptr_equal(take(&wheel, (1 << 19) - 1), &ops[0]);
}

static void timer_when_moved_to_another_slot_is_due_there(void **state)
{
    (void)state;
    static struct proi_wheel wheel;
    const uint64_t begin = 1 << 12;
    const uint64_t to[] = {(1 << 19),  (1 << 18) - 1, begin + 1,  begin, 0,         begin + 64,
                           1ull << 40, PRO_NEVER,     1ull << 41, begin, begin - 1, begin + 63};
    struct pro_op op = {.time_at = 1 << 18};
    proi_wheel_init(&wheel, begin);
    proi_wheel_insert(&wheel, &op);
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        proi_wheel_move(&wheel, &op, to[i]);
        assert_true(op.time_at == to[i]);
        assert_true(proi_wheel_next(&wheel) == (to[i] > begin ? to[i] : begin));
    }
    assert_null(take(&wheel, begin + 62));
    assert_ptr_equal(take(&wheel, begin + 63), &op);
    assert_null(proi_wheel_any(&wheel));
}

static void next_when_few_are_due_is_exact(void **state)
{
    (void)state;
    static struct proi_wheel wheel;
    struct pro_op op = {.time_at = 123456789012345};
    proi_wheel_init(&wheel, 77);
    proi_wheel_insert(&wheel, &op);
    assert_true(proi_wheel_next(&wheel) == op.time_at);
    assert_null(take(&wheel, op.time_at - 1));
    assert_true(proi_wheel_next(&wheel) == op.time_at);
    assert_ptr_equal(take(&wheel, op.time_at), &op);
}

static void next_when_many_share_a_slot_is_not_late(void **state)
{
    (void)state;
    static struct proi_wheel wheel;
    static struct pro_op ops[100];
    memset(ops, 0, sizeof ops);
    proi_wheel_init(&wheel, 5);
    for (size_t i = 0; i < 100; i++) {
        ops[i].time_at = ((uint64_t)1 << 40) + i * 1000;
        proi_wheel_insert(&wheel, &ops[i]);
    }
    for (uint64_t now = 5, turns = 0;; turns++) { /* sleeping as told wakes at the very first, in a few turns */
        uint64_t next = proi_wheel_next(&wheel);
        assert_true(next > now && turns < 12);
        now = next;
        struct pro_op *due = take(&wheel, now);
        if (!due)
            continue;
        assert_ptr_equal(due, &ops[0]);
        assert_null(due->link_next);
        break;
    }
}

static void never_when_inserted_stays(void **state)
{
    (void)state;
    static struct proi_wheel wheel;
    struct pro_op op = {.time_at = PRO_NEVER};
    proi_wheel_init(&wheel, 1);
    proi_wheel_insert(&wheel, &op);
    assert_null(take(&wheel, PRO_NEVER - 1));
    assert_ptr_equal(proi_wheel_any(&wheel), &op);
    proi_wheel_remove(&wheel, &op);
    assert_null(proi_wheel_any(&wheel));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_when_in_random_order_come_out_sorted_and_never_early),
        cmocka_unit_test(timers_when_equal_come_out_in_order_of_insertion),
        cmocka_unit_test(timers_when_many_share_their_times_keep_the_order_of_insertion),
        cmocka_unit_test(timers_when_removed_while_others_come_out_do_not),
        cmocka_unit_test(timer_when_moved_within_its_slot_is_only_written_to),
        cmocka_unit_test(timer_when_moved_to_another_slot_is_due_there),
        cmocka_unit_test(next_when_few_are_due_is_exact),
        cmocka_unit_test(next_when_many_share_a_slot_is_not_late),
        cmocka_unit_test(never_when_inserted_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
