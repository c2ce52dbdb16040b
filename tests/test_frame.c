/* SPDX-License-Identifier: MIT
 *
 * Tests of the frame codec's parser, which is held against an oracle by the trace that each leaves of a
 * stream (frame_trace.h): "\n00003abc0002x" is ".hhhhhppPhhhh!", wherever the chunks were cut. Headers
 * one by one are in test_frame_header.c, the reversal is in test_frame_reverse.c.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"
#include "frame_trace.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct trace actual, expected;
static struct guard guard;

static int set_up(void **state)
{
    (void)state;
    guard = guard_new(TRACE_MAX);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    guard_free(guard);
    return 0;
}

/* ---- a child that is meant to die ---- */

/* Run body in a child. Returns its wait status; what it wrote to standard error goes to ret_text. */
static int run_in_child(void (*body)(void), char *ret_text, size_t text_size)
{
    int fds[2], status;
    size_t n = 0;
    ssize_t got;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        body();
        _exit(0);
    }
    close(fds[1]);
    while (n < text_size - 1 && (got = read(fds[0], ret_text + n, text_size - 1 - n)) > 0)
        n += (size_t)got;
    ret_text[n] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void assert_aborts(void (*body)(void), const char *message)
{
    char text[4096];
    int status = run_in_child(body, text, sizeof(text));

    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, message));
}

/* ---- the parser against the oracle ---- */

/* Hold the parser against `expected`, under these cuts. */
static void check_cuts(const uint8_t *data, size_t size, uint32_t max, struct cuts cuts)
{
    trace_parser(data, size, max, cuts, guard, &actual);
    if (!traces_differ(&actual, &expected))
        return;
    trace_print("expected", &expected);
    trace_print("actual", &actual);
    fail_msg("limit %u, cut mask %llx, seed %llx, every %zu", max, (unsigned long long)cuts.mask,
             (unsigned long long)cuts.seed, cuts.every);
}

static void check_stream(const char *data, size_t size, uint32_t max, const char *letters, enum frame_reason reason)
{
    const uint8_t *bytes = (const uint8_t *)data;

    trace_oracle(bytes, size, max, &expected);
    assert_int_equal(size, strlen(letters));
    assert_memory_equal(expected.letters, letters, size);
    assert_int_equal(expected.reason, reason);
    check_cuts(bytes, size, max, (struct cuts){.every = size});
    check_cuts(bytes, size, max, (struct cuts){.every = 1});
}

#define CHECK(text, max, letters, reason) check_stream(text, sizeof(text) - 1, max, letters, reason)

/* ---- the size of a parser, and its life ---- */

static void parser_when_measured_is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct frame_parser) <= 24);
    assert_int_equal(sizeof(struct frame_span), 12);
}

static void parser_when_new_is_between_frames_at_offset_zero(void **state)
{
    struct frame_parser parser;

    (void)state;
    memset(&parser, 0xa5, sizeof(parser));
    frame_parser_init(&parser, 1);
    assert_true(frame_parser_between(&parser));
    assert_int_equal(frame_length(&parser), 0);
    assert_int_equal(frame_left(&parser), 0);
    assert_int_equal(frame_offset(&parser), 0);
    assert_int_equal(frame_reason(&parser), FRAME_REASON_NONE);
}

static void chunk_when_empty_changes_nothing(void **state)
{
    static const uint8_t stream[] = "\r00003abc\n00002de0x";
    struct frame_parser parser;
    struct frame_span span;

    (void)state;
    frame_parser_init(&parser, 9);
    for (size_t i = 0; i < sizeof(stream) - 1; i++) {
        for (int with_data = 0; with_data < 2; with_data++) {
            struct frame_parser before = parser;

            memset(&span, 0xff, sizeof(span));
            assert_int_equal(frame_parse(&parser, with_data ? stream : NULL, 0, &span), FRAME_NEED_MORE);
            assert_int_equal(frame_span_size(span), 0);
            assert_int_equal(parser.offset, before.offset);
            assert_int_equal(parser.length, before.length);
            assert_int_equal(parser.left, before.left);
            assert_int_equal(parser.digits, before.digits);
        }
        frame_parse(&parser, stream + i, 1, &span);
    }
    assert_int_equal(frame_parse(&parser, NULL, 0, &span), FRAME_BAD);
}

static void length_when_header_is_whole_is_known_until_the_next_begins(void **state)
{
    static const char stream[] = "\n00003abc\n00002de";
    static const uint8_t lengths[] = {0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 0, 0, 0, 0, 2, 2, 2};
    static const uint8_t lefts[] = {0, 0, 0, 0, 0, 3, 2, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0};
    struct frame_parser parser;
    struct frame_span span;

    (void)state;
    frame_parser_init(&parser, FRAME_PAYLOAD_MAX);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        frame_parse(&parser, (const uint8_t *)stream + i, 1, &span);
        assert_int_equal(frame_length(&parser), lengths[i]);
        assert_int_equal(frame_left(&parser), lefts[i]);
    }
}

/* ---- single streams, spelt out ---- */

static void stream_when_good_is_cut_into_frames(void **state)
{
    (void)state;
    CHECK("00003abc", 99999, "hhhhhppP", FRAME_REASON_NONE);
    CHECK("00001a00002bc", 2, "hhhhhPhhhhhpP", FRAME_REASON_NONE);
    CHECK("00010aaaaa", 10, "hhhhhppppp", FRAME_REASON_NONE);
    CHECK("000", 10, "hhh", FRAME_REASON_NONE);
}

static void line_ends_when_between_frames_are_skipped(void **state)
{
    (void)state;
    CHECK("\r\n\n\r\r", 9, ".....", FRAME_REASON_NONE);
    CHECK("\n00001a\r\n\r\n00001b\n", 9, ".hhhhhP....hhhhhP.", FRAME_REASON_NONE);
}

static void line_ends_when_in_header_are_not_digits(void **state)
{
    (void)state;
    CHECK("0\r0001a", 9, "h!-----", FRAME_REASON_NOT_DIGIT);
    CHECK("0000\n1a", 9, "hhhh!--", FRAME_REASON_NOT_DIGIT);
    CHECK("\n00\n001a", 9, ".hh!----", FRAME_REASON_NOT_DIGIT);
}

static void line_ends_when_in_payload_are_payload(void **state)
{
    (void)state;
    CHECK("00003\r\n\r00002\n\n\n", 9, "hhhhhppPhhhhhpP.", FRAME_REASON_NONE);
    CHECK("00001\n\n00001\r", 9, "hhhhhP.hhhhhP", FRAME_REASON_NONE);
}

static void error_when_found_names_its_byte(void **state)
{
    (void)state;
    CHECK("00000", 99999, "hhhh!", FRAME_REASON_ZERO);
    CHECK("00001a00000", 99999, "hhhhhPhhhh!", FRAME_REASON_ZERO);
    CHECK("00011x", 10, "hhhh!-", FRAME_REASON_TOO_LONG);
    CHECK("99999x", 99998, "hhhh!-", FRAME_REASON_TOO_LONG);
    CHECK("9999x", 1, "hhhh!", FRAME_REASON_NOT_DIGIT);
    CHECK("9999", 1, "hhhh", FRAME_REASON_NONE);
    CHECK("0000x", 1, "hhhh!", FRAME_REASON_NOT_DIGIT);
    CHECK("+0001a", 9, "!-----", FRAME_REASON_NOT_DIGIT);
    CHECK("-0001a", 9, "!-----", FRAME_REASON_NOT_DIGIT);
    CHECK(" 0001a", 9, "!-----", FRAME_REASON_NOT_DIGIT);
    CHECK("    1a", 9, "!-----", FRAME_REASON_NOT_DIGIT);
    CHECK("0001 a", 9, "hhhh!-", FRAME_REASON_NOT_DIGIT);
    CHECK("0x001a", 99, "h!----", FRAME_REASON_NOT_DIGIT);
    CHECK("0000a1", 99, "hhhh!-", FRAME_REASON_NOT_DIGIT);
    CHECK("000\0001a", 99, "hhh!--", FRAME_REASON_NOT_DIGIT);
    CHECK("1e001a", 99, "h!----", FRAME_REASON_NOT_DIGIT);
    CHECK("\xef\xbc\x90", 99, "!--", FRAME_REASON_NOT_DIGIT); /* a fullwidth zero */
}

static void header_when_a_byte_is_no_digit_is_refused_there(void **state)
{
    (void)state;
    for (size_t at = 0; at < FRAME_HEADER_SIZE; at++) {
        for (int byte = 0; byte < 256; byte++) {
            bool line_end = at == 0 && (byte == '\r' || byte == '\n');
            uint8_t stream[] = "00001a00012";
            size_t start = 6;

            if ((byte >= '0' && byte <= '9') || line_end)
                continue;
            stream[start + at] = (uint8_t)byte;
            trace_oracle(stream, 11, 99999, &expected);
            assert_int_equal(expected.reason, FRAME_REASON_NOT_DIGIT);
            assert_int_equal(expected.offset, start + at);
            check_cuts(stream, 11, 99999, (struct cuts){.every = 11});
            for (size_t i = 0; i < 11; i++)
                check_cuts(stream, 11, 99999, (struct cuts){.mask = (uint64_t)1 << i});
            check_cuts(stream, 11, 99999, (struct cuts){.every = 1});
        }
    }
}

static void stream_when_bad_stays_bad_and_unread(void **state)
{
    static const char *const streams[] = {"x", "00001ax", "00001a0000:", "00000", "99999", "000\r"};
    struct frame_span span;

    (void)state;
    for (size_t i = 0; i < COUNT(streams); i++) {
        struct frame_parser parser;

        frame_parser_init(&parser, 9);
        actual.size = 0;
        trace_feed(&parser, (const uint8_t *)streams[i], strlen(streams[i]), &actual);
        uint64_t offset = frame_offset(&parser);
        enum frame_reason reason = frame_reason(&parser);
        assert_int_equal(offset, strlen(streams[i]) - 1);
        assert_int_not_equal(reason, FRAME_REASON_NONE);

        for (size_t size = 0; size < 20; size++) { /* guard.end cannot be read */
            memset(&span, 0xff, sizeof(span));
            assert_int_equal(frame_parse(&parser, guard.end, size, &span), FRAME_BAD);
            assert_int_equal(frame_span_size(span), 0);
            assert_int_equal(frame_offset(&parser), offset);
            assert_int_equal(frame_reason(&parser), reason);
        }
        assert_false(frame_parser_between(&parser));
        assert_int_equal(frame_length(&parser), 0);
        assert_int_equal(frame_left(&parser), 0);
    }
}

static void payload_when_parsed_is_never_touched(void **state)
{
    struct frame_parser parser;
    struct frame_span span;
    uint8_t *data = guard.end - FRAME_HEADER_SIZE; /* the payload would lie on the guard page */

    (void)state;
    memcpy(data, "99999", FRAME_HEADER_SIZE);
    frame_parser_init(&parser, FRAME_PAYLOAD_MAX);
    assert_int_equal(frame_parse(&parser, data, FRAME_HEADER_SIZE + 99999, &span), FRAME_READY);
    assert_int_equal(span.payload, 99999);
    assert_int_equal(frame_parse(&parser, data, FRAME_HEADER_SIZE + 99998, &span), FRAME_NEED_MORE);
    assert_int_equal(frame_parse(&parser, guard.end, 1, &span), FRAME_READY);
    assert_int_equal(span.payload, 1);
}

static void offset_when_past_4_gib_is_exact(void **state)
{
    struct frame_parser parser;
    struct frame_span span;
    const uint64_t frames = 50000;
    const uint64_t frame_size = FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX;

    (void)state;
    frame_parser_init(&parser, FRAME_PAYLOAD_MAX);
    memcpy(guard.start, "99999", FRAME_HEADER_SIZE);
    for (uint64_t i = 0; i < frames; i++)
        assert_int_equal(frame_parse(&parser, guard.start, frame_size, &span), FRAME_READY);
    assert_int_equal(frame_parse(&parser, (const uint8_t *)"00x", 3, &span), FRAME_BAD);
    assert_true(frame_offset(&parser) == frames * frame_size + 2);
    assert_true(frame_offset(&parser) > UINT32_MAX);
}

/* ---- every cut ---- */

static void stream_when_cut_in_every_way_is_understood_alike(void **state)
{
    static const struct {
        const char *text;
        uint32_t max;
    } streams[] = {
        {"00001a00001b", 99999},
        {"00001a\r\n00002bc", 99999},
        {"\r\n\n00003\r\n\n\r\n", 99999},
        {"00009123456789", 9},
        {"0000500001000", 5},
        {"00001a00002b", 99999},
        {"00001a0000", 99999},
        {"\n00001a00000z", 99999},
        {"00001a00003abc", 2},
        {"00002ab\r00\n01a", 99999},
        {"00002ab+0001a", 99999},
        {"\r\r\r\r\r\r\r\r\r\r", 1},
        {"00007zzz", 7},
        {"00001\n0000a0001", 1},
        {"9999900001a", 99999},
        {"00100", 99},
        {"00001a00001b00x1", 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(streams); i++) {
        const uint8_t *data = (const uint8_t *)streams[i].text;
        size_t size = strlen(streams[i].text);

        assert_true(size <= 16);
        trace_oracle(data, size, streams[i].max, &expected);
        for (uint64_t mask = 0; mask < (uint64_t)1 << (size - 1); mask++) /* the top bit: no cut at all */
            check_cuts(data, size, streams[i].max, (struct cuts){.mask = mask | (uint64_t)1 << (size - 1)});
    }
}

/* ---- random streams ---- */

/* Mostly good frames, of lengths up to `longest`; about one byte in `spoil` is then replaced. */
static size_t random_stream(uint64_t *seed, uint8_t *out, size_t size, size_t longest, size_t spoil)
{
    static const char likely[] = "0123456789000000\r\n\r\n+- x";
    size_t n = 0;

    while (n < size) {
        size_t length = 1 + draw_below(seed, longest);
        char header[12];

        for (size_t ends = draw_below(seed, 6); ends > 3 && n < size; ends--)
            out[n++] = draw(seed) >> 63 ? '\r' : '\n';
        snprintf(header, sizeof(header), "%05u", (unsigned)length);
        for (size_t i = 0; i < FRAME_HEADER_SIZE && n < size; i++)
            out[n++] = (uint8_t)header[i];
        for (; length > 0 && n < size; length--)
            out[n++] = (uint8_t)likely[draw_below(seed, sizeof(likely) - 1)];
    }
    for (size_t hits = spoil == 0 ? 0 : draw_below(seed, 2 + size / spoil); hits > 0; hits--) {
        uint8_t byte = (uint8_t)(draw(seed) >> 56);

        if (byte & 1)
            byte = (uint8_t)likely[draw_below(seed, sizeof(likely) - 1)];
        out[draw_below(seed, size)] = byte;
    }
    return n;
}

static void stream_when_random_is_understood_as_the_oracle_does(void **state)
{
    static const struct {
        size_t rounds, size, longest, spoil;
        uint32_t max;
    } plans[] = {
        {2000, 60, 9, 0, 99999},  {6000, 60, 9, 40, 99999},      {4000, 40, 12, 100, 10},
        {600, 2000, 300, 0, 300}, {600, 2000, 300, 400, 299},    {10, 400000, 99999, 0, 99999},
        {2000, 16, 3, 4, 99999},  {10, 400000, 99999, 0, 50000},
    };
    static uint8_t stream[TRACE_MAX];
    size_t reasons[4] = {0};

    (void)state;
    for (size_t i = 0; i < COUNT(plans); i++) {
        for (size_t round = 0; round < plans[i].rounds; round++) {
            uint64_t seed = 0x9E3779B97F4A7C15u * (round + 1) + i;
            size_t n = random_stream(&seed, stream, plans[i].size, plans[i].longest, plans[i].spoil);

            trace_oracle(stream, n, plans[i].max, &expected);
            reasons[expected.reason]++;
            check_cuts(stream, n, plans[i].max, (struct cuts){.every = n});
            check_cuts(stream, n, plans[i].max, (struct cuts){.seed = seed});
        }
    }
    for (size_t i = 0; i < COUNT(reasons); i++) /* every outcome was met, and often */
        assert_true(reasons[i] > 20);
}

/* ---- canaries: the checks themselves ---- */

static void comparison_when_a_difference_is_planted_sees_it(void **state)
{
    static const uint8_t stream[] = "\n00003abc00002de0x";
    size_t size = sizeof(stream) - 1;

    (void)state;
    trace_oracle(stream, size, 99999, &expected);
    trace_parser(stream, size, 99999, (struct cuts){.every = 4}, guard, &actual);
    assert_false(traces_differ(&actual, &expected));

    for (size_t i = 0; i < size; i++) { /* one letter */
        actual.letters[i] ^= 1;
        assert_true(traces_differ(&actual, &expected));
        actual.letters[i] ^= 1;
    }
    actual.size--;
    assert_true(traces_differ(&actual, &expected));
    actual.size++;
    actual.reason = FRAME_REASON_ZERO;
    assert_true(traces_differ(&actual, &expected));
    actual.reason = expected.reason;
    actual.offset++;
    assert_true(traces_differ(&actual, &expected));
    actual.offset--;
    actual.between = !actual.between;
    assert_true(traces_differ(&actual, &expected));
    actual.between = !actual.between;
    assert_false(traces_differ(&actual, &expected));

    trace_parser(stream, size, 2, (struct cuts){.every = 4}, guard, &actual); /* a parser with another limit */
    assert_true(traces_differ(&actual, &expected));
}

static void look_past_the_end(void)
{
    (void)*(volatile uint8_t *)guard.end;
}

static void look_before_the_start(void)
{
    (void)*(volatile uint8_t *)(guard.start - 1);
}

static void guard_page_when_read_kills(void **state)
{
    char text[4096];

    (void)state;
    assert_int_not_equal(run_in_child(look_past_the_end, text, sizeof(text)), 0);
    assert_int_not_equal(run_in_child(look_before_the_start, text, sizeof(text)), 0);
}

/* ---- misuse ---- */

static void init_with_zero(void)
{
    struct frame_parser parser;

    frame_parser_init(&parser, 0);
}

static void init_with_too_much(void)
{
    struct frame_parser parser;

    frame_parser_init(&parser, FRAME_PAYLOAD_MAX + 1);
}

static void parse_without_init(void)
{
    struct frame_parser parser = {0};
    struct frame_span span;

    frame_parse(&parser, (const uint8_t *)"0", 1, &span);
}

static void parse_too_large_a_chunk(void)
{
    struct frame_parser parser;
    struct frame_span span;

    frame_parser_init(&parser, 1);
    frame_parse(&parser, (const uint8_t *)"0", (size_t)UINT32_MAX + 1, &span);
}

static void parse_null(void)
{
    struct frame_parser parser;
    struct frame_span span;

    frame_parser_init(&parser, 1);
    frame_parse(&parser, NULL, 1, &span);
}

static void check_payload_without_end(void)
{
    struct frame_parser parser;
    struct frame_span span;

    frame_parser_init(&parser, 9);
    frame_parse(&parser, (const uint8_t *)"00003ab", 7, &span);
    parser.left = 4;
    frame_check(&parser);
}

static void write_zero(void)
{
    uint8_t out[FRAME_HEADER_SIZE];

    frame_header_write(out, 0);
}

static void write_too_much(void)
{
    uint8_t out[FRAME_HEADER_SIZE];

    frame_header_write(out, FRAME_PAYLOAD_MAX + 1);
}

static void misuse_when_met_aborts_and_says_so(void **state)
{
    (void)state;
    assert_aborts(init_with_zero, "frame_check: assertion failed: p->payload_max >= 1");
    assert_aborts(init_with_too_much, "frame_check: assertion failed: p->payload_max >= 1");
    assert_aborts(parse_without_init, "frame_check: assertion failed: p->payload_max >= 1");
    assert_aborts(parse_too_large_a_chunk, "frame_parse: assertion failed: size <= UINT32_MAX");
    assert_aborts(parse_null, "frame_parse: assertion failed: data != NULL || size == 0");
    assert_aborts(check_payload_without_end, "frame_check: assertion failed: p->left >= 1");
    assert_aborts(write_zero, "frame_header_write: assertion failed: length >= 1");
    assert_aborts(write_too_much, "frame_header_write: assertion failed: length >= 1");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparison_when_a_difference_is_planted_sees_it),
        cmocka_unit_test(guard_page_when_read_kills),
        cmocka_unit_test(misuse_when_met_aborts_and_says_so),
        cmocka_unit_test(parser_when_measured_is_small),
        cmocka_unit_test(parser_when_new_is_between_frames_at_offset_zero),
        cmocka_unit_test(chunk_when_empty_changes_nothing),
        cmocka_unit_test(length_when_header_is_whole_is_known_until_the_next_begins),
        cmocka_unit_test(stream_when_good_is_cut_into_frames),
        cmocka_unit_test(line_ends_when_between_frames_are_skipped),
        cmocka_unit_test(line_ends_when_in_header_are_not_digits),
        cmocka_unit_test(line_ends_when_in_payload_are_payload),
        cmocka_unit_test(error_when_found_names_its_byte),
        cmocka_unit_test(header_when_a_byte_is_no_digit_is_refused_there),
        cmocka_unit_test(stream_when_bad_stays_bad_and_unread),
        cmocka_unit_test(payload_when_parsed_is_never_touched),
        cmocka_unit_test(offset_when_past_4_gib_is_exact),
        cmocka_unit_test(stream_when_cut_in_every_way_is_understood_alike),
        cmocka_unit_test(stream_when_random_is_understood_as_the_oracle_does),
    };

    return cmocka_run_group_tests_name("frame", tests, set_up, tear_down);
}
