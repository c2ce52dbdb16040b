/* SPDX-License-Identifier: MIT
 *
 * The oracle of the reverse service against what can be read off the page, and against the parser; and whether the
 * requests that are made up are as various as they are meant to be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "frame.h"
#include "frame_trace.h"
#include "reverse_oracle.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ROOM         ((size_t)300000)

static struct guard guard; /* of the request: its end is flush with the page */
static uint8_t owed[ROOM], answered[ROOM];

static int set_up(void **state)
{
    guard = guard_new(ROOM);
    return 0;
}

static int tear_down(void **state)
{
    guard_free(guard);
    return 0;
}

static void answer_when_spelt_out_is_right(void **state)
{
    static const struct {
        const char *request, *answer;
        uint32_t max_frame, frames;
        enum oracle_end end;
    } rows[] = {
        {"", "", 9, 0, ORACLE_CLOSED},
        {"\r\n\n", "", 9, 0, ORACLE_CLOSED},
        {"00003abc", "00003cba", 3, 1, ORACLE_CLOSED},
        {"\n00001a\r\n00010abcdefghij\n", "00001a00010jihgfedcba", 10, 2, ORACLE_CLOSED},
        {"00003x\r\n00002\n0", "00003\n\rx000020\n", 9, 2, ORACLE_CLOSED},
        {"00002ab0", "00002ba", 9, 1, ORACLE_TRUNCATED},
        {"00002ab9999", "00002ba", 9, 1, ORACLE_TRUNCATED},
        {"00002ab00002", "00002ba", 9, 1, ORACLE_TRUNCATED},
        {"00002ab00002a", "00002ba", 9, 1, ORACLE_TRUNCATED},
        {"00000", "", 9, 0, ORACLE_BAD},
        {"00002ab0000\n00001a", "00002ba", 9, 1, ORACLE_BAD},
        {"00002ab00\r", "00002ba", 9, 1, ORACLE_BAD},
        {"00002abx", "00002ba", 9, 1, ORACLE_BAD},
        {"00002ab/", "00002ba", 9, 1, ORACLE_BAD},
        {"00002ab:", "00002ba", 9, 1, ORACLE_BAD},
        {"00002ab00003abc", "00002ba", 2, 1, ORACLE_BAD},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t size = strlen(rows[i].request);
        uint8_t *request = guard.end - size;
        memcpy(request, rows[i].request, size);
        struct oracle_answer answer = oracle_answer(request, size, rows[i].max_frame, owed);
        assert_int_equal(answer.end, rows[i].end);
        assert_int_equal(answer.frames, rows[i].frames);
        assert_int_equal(answer.size, strlen(rows[i].answer));
        assert_memory_equal(owed, rows[i].answer, answer.size);
    }
}

/* The same by the parser, in chunks. */
static struct oracle_answer parser_answer(const uint8_t *request, size_t size, uint32_t max_frame, uint64_t *seed)
{
    struct oracle_answer answer = {0};
    struct frame_parser parser;
    frame_parser_init(&parser, max_frame);
    for (size_t at = 0; at < size;) {
        struct frame_span span;
        size_t chunk = 1 + draw_below(seed, 5000), left = size - at;
        enum frame_status status = frame_parse(&parser, request + at, chunk < left ? chunk : left, &span);
        at += frame_span_size(span);
        if (status == FRAME_BAD) {
            answer.end = ORACLE_BAD;
            return answer;
        }
        if (status != FRAME_READY)
            continue;
        uint32_t length = frame_length(&parser);
        frame_header_write(answered + answer.size, length);
        memcpy(answered + answer.size + FRAME_HEADER_SIZE, request + at - length, length);
        frame_reverse(answered + answer.size + FRAME_HEADER_SIZE, length);
        answer.size += FRAME_HEADER_SIZE + length;
        answer.frames++;
    }
    answer.end = frame_parser_between(&parser) ? ORACLE_CLOSED : ORACLE_TRUNCATED;
    return answer;
}

static uint32_t choose(void *context, uint32_t count)
{
    return (uint32_t)draw_below(context, count);
}

static void request_when_made_up_is_understood_as_the_parser_does(void **state)
{
    static const uint32_t limits[] = {99999, 99999, 4000, 1};
    uint64_t seed = 4711;
    for (unsigned round = 0; round < 4000; round++) {
        uint32_t max_frame = limits[round % COUNT(limits)];
        enum oracle_end end = (enum oracle_end)draw_below(&seed, ORACLE_ENDS);
        size_t room = round % 3 ? ROOM : ORACLE_ROOM_LEAST + draw_below(&seed, 2000);
        uint32_t frames = (uint32_t)draw_below(&seed, 40);
        size_t size = oracle_request(choose, &seed, max_frame, frames, end, guard.end - room, room);
        assert_true(size <= room);
        uint8_t *request = guard.end - size;
        memmove(request, guard.end - room, size);

        struct oracle_answer answer = oracle_answer(request, size, max_frame, owed);
        struct oracle_answer other = parser_answer(request, size, max_frame, &seed);
        assert_int_equal(answer.end, end);
        assert_int_equal(other.end, end);
        assert_true(answer.frames <= frames);
        assert_int_equal(answer.frames, other.frames);
        assert_int_equal(answer.size, other.size);
        assert_memory_equal(owed, answered, answer.size);
    }
}

/* What the requests of many rounds are made of, by the trace of the other oracle. */
struct variety {
    unsigned cut_headers, cut_payloads, small, large, empty, skipped;
    char bad[32][FRAME_HEADER_SIZE]; /* those met */
    unsigned bad_count;
};

static void note_bad(struct variety *v, const char *header)
{
    for (unsigned i = 0; i < v->bad_count; i++)
        if (memcmp(v->bad[i], header, FRAME_HEADER_SIZE) == 0)
            return;
    assert_true(v->bad_count < COUNT(v->bad));
    memcpy(v->bad[v->bad_count++], header, FRAME_HEADER_SIZE);
}

static void request_when_made_up_often_is_of_every_kind(void **state)
{
    static struct trace trace;
    static uint8_t request[ROOM];
    struct variety v = {0};
    uint64_t seed = 815;
    for (unsigned round = 0; round < 3000; round++) {
        enum oracle_end end = (enum oracle_end)(round % ORACLE_ENDS);
        size_t size = oracle_request(choose, &seed, 99998, 4, end, request, ROOM);
        trace_oracle(request, size, 99998, &trace);
        v.empty += size == 0;
        v.skipped += memchr(trace.letters, '.', size) != NULL;
        v.cut_headers += end == ORACLE_TRUNCATED && trace.letters[size - 1] == 'h';
        v.cut_payloads += end == ORACLE_TRUNCATED && trace.letters[size - 1] == 'p';
        v.small += end == ORACLE_CLOSED && size < 1000;
        v.large += end == ORACLE_CLOSED && size > 65536;
        if (end == ORACLE_BAD) {
            size_t begin = (size_t)trace.offset;
            while (begin > 0 && trace.letters[begin - 1] == 'h')
                begin--;
            note_bad(&v, (const char *)request + begin);
        }
    }
    assert_int_equal(v.empty, 0);
    assert_true(v.skipped > 1000 && v.skipped < 3000);
    assert_true(v.cut_headers > 200 && v.cut_payloads > 200);
    assert_true(v.small > 300 && v.large > 50);
    assert_int_equal(v.bad_count, 16);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(answer_when_spelt_out_is_right),
        cmocka_unit_test(request_when_made_up_is_understood_as_the_parser_does),
        cmocka_unit_test(request_when_made_up_often_is_of_every_kind),
    };
    return cmocka_run_group_tests_name("oracle", tests, set_up, tear_down);
}
