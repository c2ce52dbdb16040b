/* SPDX-License-Identifier: MIT
 *
 * The naive parser is written against the protocol, and to be believed at a glance. It finds all frames first, by
 * looking ahead as it likes; what each call owes is then a matter of which intervals overlap.
 */
#include "frame_story.h"

#include <string.h>

const struct story_kind story_kinds[STORY_KINDS] = {
    {99999, 0},                            /* a */
    {1, 0},                                /* b */
    {2, 0},                                /* c */
    {9, 0},                                /* d */
    {10, 0},                               /* e */
    {11, 0},                               /* f */
    {99, 0},                               /* g */
    {1000, 0},                             /* h */
    {9999, 0},                             /* i */
    {65535, 0},                            /* j */
    {99998, 0},                            /* k */
    {99999, (UINT64_C(1) << 8) - 8},       /* l */
    {99999, (UINT64_C(1) << 16) - 8},      /* m */
    {99999, (UINT64_C(1) << 31) - 100000}, /* n */
    {99999, (UINT64_C(1) << 32) - 8},      /* o */
    {99998, (UINT64_C(1) << 32) - 100000}, /* p */
};

static void end_piece(struct story *story, bool jumps)
{
    uint32_t from = story->piece_count > 0 ? story->pieces[story->piece_count - 1].bytes_to : 0;
    story->pieces[story->piece_count++] =
        (struct story_piece){.bytes_from = from, .bytes_to = (uint32_t)story->size, .jumps = jumps};
}

static void read_pieces(struct story *story, const uint8_t *input, size_t size)
{
    uint8_t cut = size > 1 ? input[1] : 0, jump = size > 2 ? input[2] : 0;
    if (size > STORY_HEAD + STORY_MOST)
        size = STORY_HEAD + STORY_MOST;
    story->kind = size > 0 ? (input[0] + STORY_KINDS - 1U) % STORY_KINDS : 0;
    story->size = story->piece_count = 0;
    for (size_t i = STORY_HEAD; i < size; i++) {
        if (input[i] == cut || input[i] == jump)
            end_piece(story, input[i] != cut);
        else
            story->bytes[story->size++] = input[i];
    }
    end_piece(story, false);
}

static bool is_digit(uint8_t byte)
{
    return byte != 0 && strchr("0123456789", byte) != NULL;
}

static uint32_t number(const uint8_t digits[FRAME_HEADER_SIZE])
{
    return (digits[0] - 48U) * 10000 + (digits[1] - 48U) * 1000 + (digits[2] - 48U) * 100 + (digits[3] - 48U) * 10 +
           (digits[4] - 48U);
}

/* The payload of a frame of which only the header has been told: to its end, or to the stream's. */
static void tell_payload(struct story *story, struct story_frame *frame, size_t *piece)
{
    uint32_t left = frame->length, i = frame->bytes_from;
    while (left > 0) {
        while (*piece < story->piece_count && (!story->pieces[*piece].jumps || story->pieces[*piece].bytes_to < i))
            ++*piece;
        if (*piece < story->piece_count && story->pieces[*piece].bytes_to == i) {
            story->pieces[*piece].jump = left > 1 ? left - 1 : 1;
            left -= story->pieces[*piece].jump;
            ++*piece;
        } else if (i < story->size) {
            left--;
            i++;
        } else {
            break;
        }
    }
    frame->end += frame->length - left;
    frame->bytes_to = i;
    frame->whole = left == 0;
}

static enum frame_reason judge(size_t digits, size_t there, uint32_t length, uint32_t payload_max)
{
    if (digits < FRAME_HEADER_SIZE)
        return digits < there ? FRAME_REASON_NOT_DIGIT : FRAME_REASON_NONE;
    if (length == 0)
        return FRAME_REASON_ZERO;
    return length > payload_max ? FRAME_REASON_TOO_LONG : FRAME_REASON_NONE;
}

/* A frame from its header on, which begins at bytes[i]. */
static void tell_frame(struct story *story, size_t i, size_t *piece)
{
    size_t there = story->size - i, digits = 0;
    while (digits < FRAME_HEADER_SIZE && digits < there && is_digit(story->bytes[i + digits]))
        digits++;
    uint32_t length = digits == FRAME_HEADER_SIZE ? number(story->bytes + i) : 0;
    story->reason = judge(digits, there, length, story_kinds[story->kind].payload_max);
    if (story->reason != FRAME_REASON_NONE && digits == FRAME_HEADER_SIZE)
        digits--; /* the fifth is the one that breaks it */

    struct story_frame frame = {.start = story->end,
                                .end = story->end + digits,
                                .length = story->reason == FRAME_REASON_NONE ? length : 0,
                                .bytes_from = (uint32_t)(i + digits),
                                .bytes_to = (uint32_t)(i + digits)};
    if (frame.length > 0)
        tell_payload(story, &frame, piece);
    if (digits > 0)
        story->frames[story->frame_count++] = frame;
    story->end = frame.end;
}

void story_tell(struct story *story, const uint8_t *input, size_t size)
{
    size_t i = 0, piece = 0;
    read_pieces(story, input, size);
    story->frame_count = 0;
    story->reason = FRAME_REASON_NONE;
    story->end = story_kinds[story->kind].offset;
    while (i < story->size && story->reason == FRAME_REASON_NONE) {
        if (story->bytes[i] == '\r' || story->bytes[i] == '\n') {
            story->end++;
            i++;
            continue;
        }
        tell_frame(story, i, &piece);
        if (story->frame_count == 0 || !story->frames[story->frame_count - 1].whole)
            break;
        i = story->frames[story->frame_count - 1].bytes_to;
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How much of what lies from `at` to `to` is at or behind `edge`. */
static uint32_t behind(uint64_t at, uint64_t to, uint64_t edge)
{
    if (edge >= to)
        return 0;
    return (uint32_t)(to - (edge > at ? edge : at));
}

struct story_step story_step(const struct story *story, size_t frames, uint64_t at, uint64_t to, uint32_t before)
{
    const struct story_frame *frame = frames < story->frame_count ? &story->frames[frames] : NULL;
    uint64_t stop = least(to, frame ? frame->end : story->end);
    uint32_t last = frames > 0 ? story->frames[frames - 1].length : before;
    struct story_step step = {.offset = stop, .status = FRAME_NEED_MORE, .between = true, .length = last};

    step.span.skipped = (uint32_t)(stop - at);
    if (frame && stop > frame->start) {
        uint32_t in_frame = behind(at, stop, frame->start);
        step.span.skipped -= in_frame;
        step.span.payload = behind(at, stop, frame->start + FRAME_HEADER_SIZE);
        step.span.header = in_frame - step.span.payload;
        step.between = false;
        step.length = stop >= frame->start + FRAME_HEADER_SIZE ? frame->length : 0;
        step.left = step.length > 0 ? (uint32_t)(frame->start + FRAME_HEADER_SIZE + frame->length - stop) : 0;
        if (frame->whole && stop == frame->end) {
            step.status = FRAME_READY;
            step.between = true;
        }
    }
    if (step.status != FRAME_READY && story->reason != FRAME_REASON_NONE && stop == story->end && to > stop) {
        step.status = FRAME_BAD;
        step.reason = story->reason;
        step.between = false;
        step.length = 0;
    }
    return step;
}
