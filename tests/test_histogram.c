/* SPDX-License-Identifier: MIT
 *
 * The histogram of the bench: its buckets leave no gap, and its quantiles are those of a sorted list, to 1 in 128.
 */
#include "../bench/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void buckets_when_in_order_leave_no_gap(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        assert_int_equal(histogram_bucket(histogram_bucket_end(i)), i);
        assert_int_equal(histogram_bucket(histogram_bucket_end(i) + 1), i + 1);
    }
    assert_int_equal(histogram_bucket(0), 0);
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(histogram_bucket(UINT64_C(1) << HISTOGRAM_TOP), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(histogram_bucket_end(HISTOGRAM_BUCKETS - 1), (UINT64_C(1) << HISTOGRAM_TOP) - 1);
}

static void buckets_when_large_are_narrow_for_their_value(void **state)
{
    (void)state;
    for (uint32_t i = HISTOGRAM_ROW; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t first = histogram_bucket_end(i - 1) + 1;
        assert_true((histogram_bucket_end(i) - first) * HISTOGRAM_ROW <= first);
    }
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void quantiles_when_values_are_random_are_those_of_the_sorted_list(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static const double shares[] = {0.0001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    static struct histogram histogram;
    static uint64_t values[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = draw() >> (25 + draw() % 39);
        histogram_record(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof values[0], ascending);
    assert_int_equal(histogram.count, COUNT);
    assert_int_equal(histogram.most, values[COUNT - 1]);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t exact = values[(size_t)(shares[i] * COUNT) - 1], told = histogram_quantile(&histogram, shares[i]);
        assert_true(told >= exact);
        assert_true(told - exact <= exact / HISTOGRAM_ROW);
    }
}

static void quantiles_when_few_or_none_are_what_is_there(void **state)
{
    (void)state;
    static struct histogram none, one, vast;
    assert_int_equal(histogram_quantile(&none, 0.5), 0);
    assert_int_equal(none.most, 0);
    histogram_record(&one, 1000001);
    assert_int_equal(histogram_quantile(&one, 0), 1000001);
    assert_int_equal(histogram_quantile(&one, 0.5), 1000001);
    assert_int_equal(histogram_quantile(&one, 1), 1000001);
    histogram_record(&vast, UINT64_MAX);
    histogram_record(&vast, 3);
    assert_int_equal(histogram_quantile(&vast, 0.5), 3);
    assert_true(histogram_quantile(&vast, 0.51) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_when_in_order_leave_no_gap),
        cmocka_unit_test(buckets_when_large_are_narrow_for_their_value),
        cmocka_unit_test(quantiles_when_values_are_random_are_those_of_the_sorted_list),
        cmocka_unit_test(quantiles_when_few_or_none_are_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
