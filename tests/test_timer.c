/* The timing wheel against a sorted list: a million operations in random order, jumps of every size. */
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
        if (draw() % 4)
            continue;
        uint64_t next = proi_wheel_next(&wheel), last = 0, before = now;
        now += draw() % 2 ? ahead() >> 24 : 1;
        for (struct pro_op *op = proi_wheel_advance(&wheel, now); op; op = op->time_next) {
            assert_true(op->time_at <= now && op->time_at >= last && op->time_at >= before - (before > 0));
            assert_true(next <= op->time_at || next == before);
            assert_null(op->time_prev);
            last = op->time_at;
            out++;
        }
        for (size_t k = 0; k < 8; k++) { /* nothing overdue was left behind */
            struct pro_op *op = &ops[draw() % (i + 1)];
            assert_true(!op->time_prev || op->time_at > now);
        }
    }
    for (struct pro_op *op = proi_wheel_advance(&wheel, PRO_NEVER); op; op = op->time_next)
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
        assert_null(proi_wheel_advance(&wheel, i * 3000));
    }
    size_t i = 0;
    for (struct pro_op *op = proi_wheel_advance(&wheel, 1u << 20); op; op = op->time_next)
        assert_ptr_equal(op, &ops[i++]);
    assert_int_equal(i, 300);
}

static void next_when_few_are_due_is_exact(void **state)
{
    (void)state;
    static struct proi_wheel wheel;
    struct pro_op op = {.time_at = 123456789012345};
    proi_wheel_init(&wheel, 77);
    proi_wheel_insert(&wheel, &op);
    assert_true(proi_wheel_next(&wheel) == op.time_at);
    assert_null(proi_wheel_advance(&wheel, op.time_at - 1));
    assert_true(proi_wheel_next(&wheel) == op.time_at);
    assert_ptr_equal(proi_wheel_advance(&wheel, op.time_at), &op);
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
        struct pro_op *due = proi_wheel_advance(&wheel, now);
        if (!due)
            continue;
        assert_ptr_equal(due, &ops[0]);
        assert_null(due->time_next);
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
    assert_null(proi_wheel_advance(&wheel, PRO_NEVER - 1));
    assert_ptr_equal(proi_wheel_any(&wheel), &op);
    proi_wheel_remove(&wheel, &op);
    assert_null(proi_wheel_any(&wheel));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_when_in_random_order_come_out_sorted_and_never_early),
        cmocka_unit_test(timers_when_equal_come_out_in_order_of_insertion),
        cmocka_unit_test(next_when_few_are_due_is_exact),
        cmocka_unit_test(next_when_many_share_a_slot_is_not_late),
        cmocka_unit_test(never_when_inserted_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
