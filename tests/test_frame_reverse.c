/* SPDX-License-Identifier: MIT
 *
 * Tests of the frame codec's reversal of a payload in place: of any size, wherever it begins, and nothing beyond it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame.h"
#include "frame_trace.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct guard guard;

/* Reverse size bytes at data, of which the surroundings are ours too unless they are a guard page. */
static void check_reverse(uint8_t *data, size_t size)
{
    static uint8_t original[TRACE_MAX];
    uint64_t seed = 0x2545F4914F6CDD1Du ^ size;

    for (size_t i = 0; i < size; i++)
        data[i] = original[i] = (uint8_t)(draw(&seed) >> 56);
    if (data > guard.start)
        data[-1] = 0xa5;
    if (data + size < guard.end)
        data[size] = 0x5a;
    frame_reverse(data, size);
    for (size_t i = 0; i < size; i++)
        if (data[i] != original[size - 1 - i])
            fail_msg("size %zu, alignment %zu: byte %zu is wrong", size, (size_t)((uintptr_t)data % 64), i);
    if (data > guard.start)
        assert_int_equal(data[-1], 0xa5);
    if (data + size < guard.end)
        assert_int_equal(data[size], 0x5a);
    frame_reverse(data, size);
    assert_memory_equal(data, original, size);
}

static void reversal_when_of_any_size_and_alignment_is_exact(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 600; size++) {
        for (size_t shift = 0; shift < 16; shift++)
            check_reverse(guard.start + 64 + shift, size);
        check_reverse(guard.start, size);
        check_reverse(guard.end - size, size);
    }
}

static void reversal_when_large_is_exact(void **state)
{
    static const size_t sizes[] = {4095, 4096, 4097, 16383, 65535, 65536, 65543, 99998, 99999, TRACE_MAX - 3};

    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        check_reverse(guard.start, sizes[i]);
        check_reverse(guard.start + 3, sizes[i]);
        check_reverse(guard.end - sizes[i], sizes[i]);
    }
}

static void reversal_when_empty_takes_null(void **state)
{
    (void)state;
    frame_reverse(NULL, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reversal_when_of_any_size_and_alignment_is_exact),
        cmocka_unit_test(reversal_when_large_is_exact),
        cmocka_unit_test(reversal_when_empty_takes_null),
    };

    guard = guard_new(TRACE_MAX);
    int failed = cmocka_run_group_tests_name("frame reverse", tests, NULL, NULL);
    guard_free(guard);
    return failed;
}
