/* SPDX-License-Identifier: MIT
 *
 * Tests of the frame codec, one header at a time: each of the 100,000 that five digits make, read under many limits and
 * behind every cut, and written; and the reasons for which one is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "frame.h"
#include "frame_trace.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct guard guard;

/* ---- headers read ---- */

/* Parse `header` in two chunks, cut after `cut` bytes. Spans are summed. */
static enum frame_status parse_header(struct frame_parser *p, const char *header, size_t cut, size_t *ret_taken)
{
    uint8_t *chunk = guard.end - FRAME_HEADER_SIZE;
    enum frame_status status;
    struct frame_span span;

    memcpy(chunk + (FRAME_HEADER_SIZE - cut), header, cut);
    status = frame_parse(p, chunk + (FRAME_HEADER_SIZE - cut), cut, &span);
    *ret_taken = span.header;
    if (status == FRAME_BAD)
        return status;
    memcpy(chunk + cut, header + cut, FRAME_HEADER_SIZE - cut);
    status = frame_parse(p, chunk + cut, FRAME_HEADER_SIZE - cut, &span);
    *ret_taken += span.header;
    assert_int_equal(span.skipped + span.payload, 0);
    return status;
}

static void check_header(uint32_t length, uint32_t max, size_t cut)
{
    struct frame_parser parser;
    struct frame_span span;
    char header[12];
    size_t taken;

    snprintf(header, sizeof(header), "%05u", length);
    frame_parser_init(&parser, max);
    enum frame_status status = parse_header(&parser, header, cut, &taken);
    if (length == 0 || length > max) {
        assert_int_equal(status, FRAME_BAD);
        assert_int_equal(taken, 4);
        assert_int_equal(frame_offset(&parser), 4);
        assert_int_equal(frame_reason(&parser), length == 0 ? FRAME_REASON_ZERO : FRAME_REASON_TOO_LONG);
        return;
    }
    assert_int_equal(status, FRAME_NEED_MORE);
    assert_int_equal(taken, FRAME_HEADER_SIZE);
    assert_int_equal(frame_length(&parser), length);
    assert_int_equal(frame_left(&parser), length);
    assert_false(frame_parser_between(&parser));

    status = frame_parse(&parser, guard.start, length - 1, &span);
    assert_int_equal(status, FRAME_NEED_MORE);
    assert_int_equal(span.payload, length - 1);
    status = frame_parse(&parser, guard.start, 2, &span); /* one byte too many: not this frame's */
    assert_int_equal(status, FRAME_READY);
    assert_int_equal(span.payload, 1);
    assert_int_equal(frame_length(&parser), length);
    assert_int_equal(frame_offset(&parser), FRAME_HEADER_SIZE + length);
    assert_true(frame_parser_between(&parser));
}

static void header_when_any_of_100000_is_judged_by_the_limit(void **state)
{
    static const uint32_t limits[] = {1, 2, 9999, 10000, 10001, 65535, 65536, 99998, 99999};

    (void)state;
    for (size_t i = 0; i < COUNT(limits); i++)
        for (uint32_t length = 0; length <= 99999; length++)
            check_header(length, limits[i], length % 6);
    for (size_t cut = 0; cut <= FRAME_HEADER_SIZE; cut++)
        for (uint32_t length = 0; length <= 99999; length += cut % FRAME_HEADER_SIZE == 0 ? 1 : 7)
            check_header(length, 99999, cut);
}

static void header_when_next_to_any_limit_is_judged_exactly(void **state)
{
    (void)state;
    for (uint32_t max = 1; max <= FRAME_PAYLOAD_MAX; max++) {
        size_t cut = max % 6;

        check_header(max - 1, max, cut);
        check_header(max, max, cut);
        if (max < FRAME_PAYLOAD_MAX)
            check_header(max + 1, max, cut);
    }
}

/* `length` in a chunk that has `size` bytes of payload: all of the frame is taken, or what is there of it. */
static void check_whole_frame(uint32_t length, uint32_t max, uint32_t size)
{
    uint8_t *chunk = guard.start;
    struct frame_parser p;
    struct frame_span span;
    char header[12];
    bool good = length >= 1 && length <= max, whole = good && size >= length;

    snprintf(header, sizeof(header), "%05u", length);
    memcpy(chunk, header, FRAME_HEADER_SIZE);
    frame_parser_init(&p, max);
    enum frame_status status = frame_parse(&p, chunk, FRAME_HEADER_SIZE + size, &span);
    assert_int_equal(status, !good ? FRAME_BAD : whole ? FRAME_READY : FRAME_NEED_MORE);
    assert_int_equal(span.skipped, 0);
    assert_int_equal(span.header, good ? FRAME_HEADER_SIZE : FRAME_HEADER_SIZE - 1);
    assert_int_equal(span.payload, !good ? 0 : whole ? length : size);
    assert_int_equal(frame_offset(&p), span.header + span.payload);
    assert_int_equal(frame_length(&p), good ? length : 0);
    assert_int_equal(frame_left(&p), good && !whole ? length - size : 0);
    assert_int_equal(frame_parser_between(&p), whole);
}

static void header_when_any_of_100000_stands_before_its_payload_is_judged_alike(void **state)
{
    (void)state;
    for (uint32_t length = 0; length <= FRAME_PAYLOAD_MAX; length++) {
        uint32_t max = length > 0 ? length : FRAME_PAYLOAD_MAX, less = length > 1 ? length - 1 : 1;

        check_whole_frame(length, max, length);
        check_whole_frame(length, max, length + 1);
        check_whole_frame(length, max, length > 0 ? length - 1 : 0);
        check_whole_frame(length, less, length + 1);
    }
}

/* Behind the header there is as much as any length asks for: what is no digit must not pass for a larger one. */
static void header_when_a_byte_is_no_digit_is_refused_though_a_payload_follows(void **state)
{
    (void)state;
    static uint8_t stream[FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX];
    for (size_t at = 0; at < FRAME_HEADER_SIZE; at++) {
        for (int byte = 0; byte < 256; byte++) {
            bool line_end = at == 0 && (byte == '\r' || byte == '\n');
            struct frame_parser p;
            struct frame_span span;

            if ((byte >= '0' && byte <= '9') || line_end)
                continue;
            memcpy(stream, "00000", FRAME_HEADER_SIZE);
            stream[at] = (uint8_t)byte;
            frame_parser_init(&p, FRAME_PAYLOAD_MAX);
            assert_int_equal(frame_parse(&p, stream, sizeof(stream), &span), FRAME_BAD);
            assert_int_equal(frame_reason(&p), FRAME_REASON_NOT_DIGIT);
            assert_int_equal(frame_offset(&p), at);
        }
    }
}

/* ---- headers written, reasons named ---- */

static void header_when_written_is_five_digits(void **state)
{
    uint8_t *out = guard.end - FRAME_HEADER_SIZE;
    char text[12];

    (void)state;
    for (uint32_t length = 1; length <= FRAME_PAYLOAD_MAX; length++) {
        out[-1] = 0xa5;
        frame_header_write(out, length);
        snprintf(text, sizeof(text), "%05u", length);
        assert_memory_equal(out, text, FRAME_HEADER_SIZE);
        assert_int_equal(out[-1], 0xa5);
    }
}

static void reason_when_named_has_a_text_of_its_own(void **state)
{
    (void)state;
    for (int a = FRAME_REASON_NONE; a <= FRAME_REASON_TOO_LONG; a++) {
        assert_true(strlen(frame_reason_text((enum frame_reason)a)) > 0);
        for (int b = FRAME_REASON_NONE; b < a; b++)
            assert_string_not_equal(frame_reason_text((enum frame_reason)a), frame_reason_text((enum frame_reason)b));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_when_any_of_100000_is_judged_by_the_limit),
        cmocka_unit_test(header_when_next_to_any_limit_is_judged_exactly),
        cmocka_unit_test(header_when_any_of_100000_stands_before_its_payload_is_judged_alike),
        cmocka_unit_test(header_when_a_byte_is_no_digit_is_refused_though_a_payload_follows),
        cmocka_unit_test(header_when_written_is_five_digits),
        cmocka_unit_test(reason_when_named_has_a_text_of_its_own),
    };

    guard = guard_new(TRACE_MAX);
    int failed = cmocka_run_group_tests_name("frame header", tests, NULL, NULL);
    guard_free(guard);
    return failed;
}
