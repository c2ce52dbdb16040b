/* SPDX-License-Identifier: MIT
 *
 * The assertions of the frame codec: each is met from both sides, a state that is just allowed and one that just is not.
 *
 * An assertion that fails calls abort, and the signal's handler jumps out of it. So all is done in one process, which
 * then can also tell what of the codec it has covered.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "frame.h"

/* ---- Dying, and living on ---- */

static sigjmp_buf survived;

static void jump_out(int number)
{
    (void)number;
    siglongjmp(survived, 1);
}

/* Calls body, and returns whether it aborted. What it wrote to standard error is in `text`. */
static bool aborts(void (*body)(const void *), const void *argument, char *text, size_t size)
{
    struct sigaction ours = {.sa_handler = jump_out}, before;
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    volatile bool died = false;
    assert_true(file && saved >= 0);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    sigaction(SIGABRT, &ours, &before);
    if (sigsetjmp(survived, 1) == 0)
        body(argument);
    else
        died = true;
    sigaction(SIGABRT, &before, NULL);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = pread(fileno(file), text, size - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    fclose(file);
    return died;
}

static void expect_abort(void (*body)(const void *), const void *argument, const char *says)
{
    char text[512];
    if (!aborts(body, argument, text, sizeof text))
        fail_msg("no abort where this is owed: %s", says);
    if (!strstr(text, says))
        fail_msg("says: %s instead of: %s", text, says);
}

static void expect_none(void (*body)(const void *), const void *argument)
{
    char text[512];
    if (aborts(body, argument, text, sizeof text))
        fail_msg("aborted without a reason: %s", text);
}

/* ---- States ---- */

static void check(const void *argument)
{
    frame_check(argument);
}

/* In the payload of a frame of 7 bytes, the first of the stream, of which 4 are to come. */
static const struct frame_parser payload = {.payload_max = 10, .length = 7, .left = 4, .digits = 5, .offset = 8};

/* In front of the fifth digit of a header, the first of the stream. */
static const struct frame_parser header = {.payload_max = 10, .length = 12, .digits = 4, .offset = 4};

static const struct frame_parser between = {.payload_max = 10, .length = 10, .offset = 15};

/* A copy in which one member is another. */
#define WITH(from, name, value)                                                                                        \
    __extension__({                                                                                                    \
        struct frame_parser with_##name = (from);                                                                      \
        with_##name.name = (value);                                                                                    \
        with_##name;                                                                                                   \
    })

static void accepted(struct frame_parser state)
{
    expect_none(check, &state);
}

static void refused(struct frame_parser state, const char *condition)
{
    char says[128];
    snprintf(says, sizeof says, "frame_check: assertion failed: %s", condition);
    expect_abort(check, &state, says);
}

static void state_when_of_any_kind_has_its_limits(void **state)
{
    (void)state;
    expect_abort(check, NULL, "frame_check: assertion failed: p != NULL");
    accepted((struct frame_parser){.payload_max = 1});
    accepted((struct frame_parser){.payload_max = 99999});
    refused((struct frame_parser){.payload_max = 0}, "p->payload_max >= 1");
    refused((struct frame_parser){.payload_max = 100000}, "p->payload_max >= 1");
    refused(WITH(payload, digits, 6), "p->digits <= FRAME_HEADER_SIZE");
    for (uint8_t reason = 0; reason <= FRAME_REASON_TOO_LONG; reason++)
        accepted(WITH(between, reason, reason));
    refused(WITH(between, reason, FRAME_REASON_TOO_LONG + 1), "p->reason < REASONS");
}

static void state_when_in_a_payload_has_its_limits(void **state)
{
    (void)state;
    accepted(payload);
    refused(WITH(payload, reason, 1), "p->reason == FRAME_REASON_NONE");
    accepted(WITH(payload, payload_max, 7));
    refused(WITH(payload, payload_max, 6), "p->length <= p->payload_max");
    refused(WITH(payload, left, 0), "p->left >= 1");
    accepted(WITH(WITH(payload, left, 1), offset, 11));
    accepted(WITH(payload, left, 7));
    refused(WITH(payload, left, 8), "p->left >= 1");
    refused(WITH(payload, offset, 7), "p->offset >=");
    accepted(WITH(payload, offset, UINT64_MAX));
}

static void state_when_in_a_header_or_between_has_its_limits(void **state)
{
    static const uint32_t bounds[] = {1, 10, 100, 1000, 10000};
    (void)state;
    accepted(header);
    accepted(between);
    refused(WITH(header, left, 1), "p->left == 0");
    refused(WITH(between, left, 1), "p->left == 0");
    refused(WITH(header, offset, 3), "p->offset >= p->digits");
    for (uint8_t digits = 1; digits <= 4; digits++) {
        accepted(WITH(WITH(header, digits, digits), length, bounds[digits] - 1));
        accepted(WITH(WITH(header, digits, digits), length, 0));
        refused(WITH(WITH(header, digits, digits), length, bounds[digits]), "p->length < value_bounds[p->digits]");
    }
    refused(WITH(between, length, 11), "p->length <= p->payload_max");
    accepted(WITH(between, length, 1));
    accepted(WITH(between, offset, 0));
}

/* ---- Calls ---- */

struct call {
    struct frame_parser parser;
    const char *data;
    size_t size;
    bool without_span;
};

static void parse(const void *argument)
{
    struct call call = *(const struct call *)argument;
    struct frame_span span;
    frame_parse(&call.parser, (const uint8_t *)call.data, call.size, call.without_span ? NULL : &span);
}

static void call_when_its_arguments_are_wrong_aborts(void **state)
{
    (void)state;
    struct frame_parser fresh = {.payload_max = 10};
    struct call good[] = {{fresh, "00001a", 6, false}, {fresh, NULL, 0, false}, {fresh, "00001a", UINT32_MAX, false}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        expect_none(parse, &good[i]);
    expect_abort(parse, &(struct call){.data = "0", .size = 1}, "frame_check: assertion failed: p->payload_max >= 1");
    expect_abort(parse, &(struct call){fresh, "0", 1, true}, "frame_parse: assertion failed: ret_span != NULL");
    expect_abort(parse, &(struct call){fresh, "0", (size_t)UINT32_MAX + 1, false},
                 "frame_parse: assertion failed: size <= UINT32_MAX");
    expect_abort(parse, &(struct call){fresh, NULL, 1, false}, "frame_parse: assertion failed: data != NULL");

    /* A state that the call itself would put right, had it not looked first. */
    expect_abort(parse, &(struct call){WITH(between, left, 1), "0", 1, false},
                 "frame_check: assertion failed: p->left");
}

static void init(const void *argument)
{
    struct frame_parser parser;
    const uint32_t *payload_max = argument;
    frame_parser_init(payload_max ? &parser : NULL, payload_max ? *payload_max : 1);
}

static void write_header(const void *argument)
{
    uint8_t out[FRAME_HEADER_SIZE];
    frame_header_write(out, *(const uint32_t *)argument);
}

static void name_reason(const void *argument)
{
    assert_non_null(frame_reason_text(*(const enum frame_reason *)argument));
}

static void reverse(const void *argument)
{
    frame_reverse(NULL, *(const size_t *)argument);
}

static void reversal_when_of_nothing_but_no_bytes_aborts(void **state)
{
    static const size_t none = 0, some = 1;
    (void)state;
    expect_none(reverse, &none);
    expect_abort(reverse, &some, "frame_reverse: assertion failed: data != NULL");
}

static void number_when_out_of_range_aborts(void **state)
{
    static const uint32_t good[] = {1, 99999}, bad[] = {0, 100000, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        expect_none(init, &good[i]);
        expect_none(write_header, &good[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        expect_abort(init, &bad[i], "frame_check: assertion failed: p->payload_max >= 1");
        expect_abort(write_header, &bad[i], "frame_header_write: assertion failed: length >= 1");
    }
    expect_abort(init, NULL, "frame_parser_init: assertion failed: p != NULL");
    assert_string_equal(frame_reason_text(FRAME_REASON_NONE), "no error");
    enum frame_reason last = FRAME_REASON_TOO_LONG, none = (enum frame_reason)(FRAME_REASON_TOO_LONG + 1);
    expect_none(name_reason, &last);
    expect_abort(name_reason, &none, "frame_reason_text: assertion failed: (size_t)reason < REASONS");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_when_of_any_kind_has_its_limits),
        cmocka_unit_test(state_when_in_a_payload_has_its_limits),
        cmocka_unit_test(state_when_in_a_header_or_between_has_its_limits),
        cmocka_unit_test(call_when_its_arguments_are_wrong_aborts),
        cmocka_unit_test(reversal_when_of_nothing_but_no_bytes_aborts),
        cmocka_unit_test(number_when_out_of_range_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
