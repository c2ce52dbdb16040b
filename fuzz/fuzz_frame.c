/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the parser of frames. An input is a stream and where to cut it (frame_story.h says how it is written).
 *
 * The stream is parsed three times: cut as the input says, in chunks as long as can be, and byte by byte. Each call is
 * held against the story, which knows nothing of chunks: what was consumed and as what, frames, lengths, errors and
 * offsets. So all cuts are understood alike, and rightly.
 *
 * Each chunk lies flush with a page that cannot be read, the other side of it being one by turns: a look beyond it kills
 * in every build, with a sanitizer or without. Memory asked for while the parser runs is a find as well.
 *
 * Large offsets are come by honestly: a parser that has consumed that much, in frames of the largest size, is made once
 * for each kind of stream, and copied. That takes 43000 calls for 4 GiB, as payloads are not looked at. Offsets near
 * 2^64 cannot be reached by any parser.
 */
#include <string.h>

#include "frame.h"
#include "frame_story.h"
#include "frame_trace.h"
#include "fuzz.h"

static struct guard guard;
static struct frame_parser starts[STORY_KINDS];
static struct story story;

/* ---- Memory ---- */

static bool parsing;

/* The linker leads all calls here (--wrap), under names that it makes. */
void *real_malloc(size_t size) __asm__("__real_malloc");
void *real_calloc(size_t count, size_t size) __asm__("__real_calloc");
void *real_realloc(void *old, size_t size) __asm__("__real_realloc");
void *our_malloc(size_t size) __asm__("__wrap_malloc");
void *our_calloc(size_t count, size_t size) __asm__("__wrap_calloc");
void *our_realloc(void *old, size_t size) __asm__("__wrap_realloc");

void *our_malloc(size_t size)
{
    REQUIRE(!parsing);
    return real_malloc(size);
}

void *our_calloc(size_t count, size_t size)
{
    REQUIRE(!parsing);
    return real_calloc(count, size);
}

void *our_realloc(void *old, size_t size)
{
    REQUIRE(!parsing);
    return real_realloc(old, size);
}

/* ---- Beginnings ---- */

static void consume_frame(struct frame_parser *parser, uint32_t length)
{
    char header[FRAME_HEADER_SIZE + 8];
    struct frame_span span;
    snprintf(header, sizeof header, "%05u", (unsigned)length);
    uint8_t *data = guard.end - FRAME_HEADER_SIZE;
    memcpy(data, header, FRAME_HEADER_SIZE);
    REQUIRE(frame_parse(parser, data, FRAME_HEADER_SIZE + length, &span) == FRAME_READY);
}

/* The last two frames share what is left, so that neither is too short. */
static struct frame_parser parser_at(const struct story_kind *kind)
{
    struct frame_parser parser;
    uint64_t left = kind->offset;
    frame_parser_init(&parser, kind->payload_max);
    while (left > 0) {
        uint64_t size = FRAME_HEADER_SIZE + (uint64_t)kind->payload_max;
        if (left < 2 * size)
            size = left <= size ? left : left / 2;
        consume_frame(&parser, (uint32_t)size - FRAME_HEADER_SIZE);
        left -= size;
    }
    REQUIRE(frame_offset(&parser) == kind->offset);
    return parser;
}

static void set_up(void)
{
    guard = guard_new(STORY_MOST);
    for (unsigned i = 0; i < STORY_KINDS; i++)
        starts[i] = parser_at(&story_kinds[i]);
}

/* ---- Parsing ---- */

struct run {
    struct frame_parser parser;
    uint64_t at;   /* where in the stream the next chunk begins */
    size_t frames; /* that have ended */
    unsigned chunks;
};

static void compare(const struct frame_parser *parser, enum frame_status status, struct frame_span span,
                    struct story_step step)
{
    frame_check(parser);
    REQUIRE(status == step.status);
    REQUIRE(span.skipped == step.span.skipped);
    REQUIRE(span.header == step.span.header);
    REQUIRE(span.payload == step.span.payload);
    REQUIRE(frame_offset(parser) == step.offset);
    REQUIRE(frame_length(parser) == step.length);
    REQUIRE(frame_left(parser) == step.left);
    REQUIRE(frame_reason(parser) == step.reason);
    REQUIRE(frame_parser_between(parser) == step.between);
}

/* `size` bytes, of which `readable` are in memory. */
static enum frame_status parse(struct run *run, const uint8_t *data, uint32_t readable, uint32_t size)
{
    uint8_t *chunk = run->chunks++ % 2 == 0 || size > readable ? guard.end - readable : guard.start;
    enum frame_status status;
    memcpy(chunk, data, readable);
    do {
        struct frame_span span = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
        parsing = true;
        status = frame_parse(&run->parser, size > 0 ? chunk : NULL, size, &span);
        parsing = false;
        uint32_t before = frame_length(&starts[story.kind]);
        compare(&run->parser, status, span, story_step(&story, run->frames, run->at, run->at + size, before));
        run->frames += status == FRAME_READY;
        run->at = frame_offset(&run->parser);
        chunk += frame_span_size(span);
        size -= frame_span_size(span);
    } while (size > 0 && status != FRAME_BAD);
    return status;
}

/* The pieces of the story from `from` on: chunks of `most` bytes at most; those without a jump are joined if `join`. */
static void run_story(uint32_t most, bool join)
{
    struct run run = {.parser = starts[story.kind], .at = story_kinds[story.kind].offset};
    enum frame_status status = FRAME_NEED_MORE;
    for (size_t i = 0; i < story.piece_count && status != FRAME_BAD; i++) {
        uint32_t from = story.pieces[i].bytes_from;
        while (join && story.pieces[i].jump == 0 && i + 1 < story.piece_count)
            i++;
        uint32_t bytes = story.pieces[i].bytes_to - from, jump = story.pieces[i].jump;
        for (; bytes > most && status != FRAME_BAD; bytes -= most, from += most)
            status = parse(&run, story.bytes + from, most, most);
        if (status != FRAME_BAD)
            status = parse(&run, story.bytes + from, bytes, bytes + jump);
    }
    REQUIRE(run.at == story.end);
    REQUIRE((status == FRAME_BAD) == (story.reason != FRAME_REASON_NONE));
    if (status == FRAME_BAD) /* for good, and without a look at what comes */
        REQUIRE(parse(&run, story.bytes, 0, 1) == FRAME_BAD);
    else
        REQUIRE(parse(&run, story.bytes, 0, 0) == FRAME_NEED_MORE);
}

/* ---- What else the codec does with a frame ---- */

static void reverse(uint8_t *data, const uint8_t *payload, uint32_t size)
{
    memcpy(data, payload, size);
    frame_reverse(size > 0 ? data : NULL, size);
    for (uint32_t i = 0; i < size; i++)
        REQUIRE(data[i] == payload[size - 1 - i]);
}

static void check_frame(const struct story_frame *frame)
{
    const uint8_t *payload = story.bytes + frame->bytes_from;
    uint8_t header[FRAME_HEADER_SIZE];
    if (frame->length == 0)
        return;
    frame_header_write(header, frame->length);
    REQUIRE(memcmp(header, payload - FRAME_HEADER_SIZE, FRAME_HEADER_SIZE) == 0);
    reverse(guard.end - (frame->bytes_to - frame->bytes_from), payload, frame->bytes_to - frame->bytes_from);
    reverse(guard.start, payload, frame->bytes_to - frame->bytes_from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!guard.start)
        set_up();
    story_tell(&story, data, size);
    run_story(UINT32_MAX, false);
    run_story(UINT32_MAX, true);
    run_story(1, true);
    for (size_t i = 0; i < story.frame_count; i++)
        check_frame(&story.frames[i]);
    REQUIRE(frame_reason_text(story.reason)[0] != '\0');
    return 0;
}
