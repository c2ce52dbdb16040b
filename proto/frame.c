/* SPDX-License-Identifier: MIT
 *
 * The parser has four states, and needs no member to name them: how many digits of the header it has
 * taken tells the first three apart, and a reason makes the fourth.
 *
 *       CR, LF              digit               any byte
 *        .--.               .--.                .--.
 *        |  v               |  v                |  v
 *       between --digit--> header --5th digit--> payload
 *        ^   |              |                    |
 *        |   '------. .-----'                    |
 *        |          v v                          |
 *        |          bad  not a digit, zero,      |
 *        |               too long                |
 *        '---------------------------------------'
 *                last byte: FRAME_READY
 *
 *     state     digits   length                 left          reason
 *     between   0        the last frame's or 0  0             none
 *     header    1..4     value of the digits    0             none
 *     payload   5        1..payload_max         1..length     none
 *     bad       0..4     as it was              0             one
 *
 * The happy path: a chunk begins with a whole frame. The five bytes are turned into a number without a
 * branch between them, the payload is a subtraction, and the state is between before and after.
 *
 * The careful path: the frame is cut by the end of the chunk, line ends stand before it, or something is
 * wrong with its header. The bytes of that are then taken one at a time, so that each cut resumes where it
 * stopped and each error is pinned to its byte. Whatever the happy path will not take goes this way, so
 * it never has to explain itself; and as all that it does is take many steps at once, the two cannot
 * disagree on a good frame.
 */
#include "frame.h"

#include <assert.h>
#include <string.h>

#include "check.h"

static_assert(sizeof(struct frame_parser) <= 24, "every connection carries a parser");

static const char *const reason_texts[] = {
    [FRAME_REASON_NONE] = "no error",
    [FRAME_REASON_NOT_DIGIT] = "header byte is not a digit",
    [FRAME_REASON_ZERO] = "length is zero",
    [FRAME_REASON_TOO_LONG] = "length is over the limit",
};

#define REASONS (sizeof(reason_texts) / sizeof(reason_texts[0]))

static_assert(REASONS == FRAME_REASON_TOO_LONG + 1, "a text for every reason");

/* A header of which n digits are in has a value below value_bounds[n]. */
static const uint32_t value_bounds[FRAME_HEADER_SIZE + 1] = {1, 10, 100, 1000, 10000, 100000};

static_assert(FRAME_PAYLOAD_MAX == 99999 && FRAME_HEADER_SIZE == 5, "the bounds above are for five digits");

void frame_check(const struct frame_parser *p)
{
    CHECK(p != NULL);
    CHECK(p->payload_max >= 1 && p->payload_max <= FRAME_PAYLOAD_MAX);
    CHECK(p->digits <= FRAME_HEADER_SIZE);
    CHECK(p->reason < REASONS);

    if (p->digits == FRAME_HEADER_SIZE) {
        CHECK(p->reason == FRAME_REASON_NONE);
        CHECK(p->length <= p->payload_max);
        CHECK(p->left >= 1 && p->left <= p->length);
        CHECK(p->offset >= (uint64_t)FRAME_HEADER_SIZE + p->length - p->left);
    } else {
        CHECK(p->left == 0);
        CHECK(p->offset >= p->digits);
        CHECK(p->length < value_bounds[p->digits] || p->digits == 0);
        CHECK(p->length <= p->payload_max || p->digits != 0);
    }
}

void frame_parser_init(struct frame_parser *p, uint32_t payload_max)
{
    CHECK(p != NULL);
    *p = (struct frame_parser){.payload_max = payload_max};
    frame_check(p);
}

static uint32_t count_line_ends(const uint8_t *data, uint32_t size)
{
    uint32_t n = 0;

    while (n < size && (data[n] == '\r' || data[n] == '\n'))
        n++;
    return n;
}

/* The value of a whole header, or 0, which no good header has, if one of the bytes is no digit. */
static inline uint32_t header_value(const uint8_t in[FRAME_HEADER_SIZE])
{
    uint32_t a = in[0] - (uint32_t)'0';
    uint32_t b = in[1] - (uint32_t)'0';
    uint32_t c = in[2] - (uint32_t)'0';
    uint32_t d = in[3] - (uint32_t)'0';
    uint32_t e = in[4] - (uint32_t)'0';
    bool digits = (a <= 9) & (b <= 9) & (c <= 9) & (d <= 9) & (e <= 9);

    return digits ? a * 10000 + b * 1000 + c * 100 + d * 10 + e : 0;
}

/* One step of the careful path. A byte that is refused leaves the parser as it was, but for the reason. */
static bool take_digit(struct frame_parser *p, uint8_t byte)
{
    uint32_t digit = byte - (uint32_t)'0';
    uint32_t value = (p->digits == 0 ? 0 : p->length * 10) + digit;
    bool last = p->digits == FRAME_HEADER_SIZE - 1;

    if (digit > 9)
        p->reason = FRAME_REASON_NOT_DIGIT;
    else if (last && value == 0)
        p->reason = FRAME_REASON_ZERO;
    else if (last && value > p->payload_max)
        p->reason = FRAME_REASON_TOO_LONG;
    if (p->reason != FRAME_REASON_NONE)
        return false;

    p->length = value;
    p->left = last ? value : 0;
    p->digits++;
    return true;
}

/* Take what the chunk has of the header, up to its end or the first byte that is wrong; return how much. */
static uint32_t take_header(struct frame_parser *p, const uint8_t *data, uint32_t size)
{
    uint32_t n = 0;

    while (n < size && p->digits < FRAME_HEADER_SIZE && take_digit(p, data[n]))
        n++;
    return n;
}

static uint32_t take_payload(struct frame_parser *p, uint32_t size)
{
    uint32_t n = size < p->left ? size : p->left;

    p->left -= n;
    return n;
}

/* The payload bytes of the whole frame that the chunk begins with, or 0 if that is for the careful path. */
static uint32_t whole_frame(const struct frame_parser *p, const uint8_t *data, uint32_t size)
{
    if (p->digits != 0 || p->reason != FRAME_REASON_NONE || size <= FRAME_HEADER_SIZE)
        return 0;
    uint32_t value = header_value(data);
    return value <= p->payload_max && value <= size - FRAME_HEADER_SIZE ? value : 0;
}

static enum frame_status parse_carefully(struct frame_parser *p, const uint8_t *data, uint32_t rest,
                                         struct frame_span *ret_span)
{
    struct frame_span span = {0};
    enum frame_status status = FRAME_NEED_MORE;

    if (p->reason == FRAME_REASON_NONE && rest > 0) {
        if (p->digits == 0)
            span.skipped = count_line_ends(data, rest);
        if (p->digits < FRAME_HEADER_SIZE)
            span.header = take_header(p, data + span.skipped, rest - span.skipped);
        span.payload = take_payload(p, rest - span.skipped - span.header);
        p->offset += frame_span_size(span);
    }

    if (p->reason != FRAME_REASON_NONE) {
        status = FRAME_BAD;
    } else if (p->digits == FRAME_HEADER_SIZE && p->left == 0) {
        p->digits = 0;
        status = FRAME_READY;
    }
    CHECK(status != FRAME_NEED_MORE || frame_span_size(span) == rest);
    CHECK(status != FRAME_READY || span.payload > 0);
    frame_check(p);
    *ret_span = span;
    return status;
}

enum frame_status frame_parse(struct frame_parser *p, const uint8_t *data, size_t size, struct frame_span *ret_span)
{
    frame_check(p);
    CHECK(ret_span != NULL);
    CHECK(size <= UINT32_MAX);
    CHECK(data != NULL || size == 0);

    uint32_t payload = whole_frame(p, data, (uint32_t)size);

    if (payload == 0)
        return parse_carefully(p, data, (uint32_t)size, ret_span);
    p->length = payload;
    p->offset += FRAME_HEADER_SIZE + payload;
    *ret_span = (struct frame_span){.header = FRAME_HEADER_SIZE, .payload = payload};
    return FRAME_READY;
}

bool frame_parser_between(const struct frame_parser *p)
{
    return p->digits == 0 && p->reason == FRAME_REASON_NONE;
}

uint32_t frame_length(const struct frame_parser *p)
{
    bool whole = p->digits == 0 || p->digits == FRAME_HEADER_SIZE;

    return whole && p->reason == FRAME_REASON_NONE ? p->length : 0;
}

uint32_t frame_left(const struct frame_parser *p)
{
    return p->left;
}

uint64_t frame_offset(const struct frame_parser *p)
{
    return p->offset;
}

enum frame_reason frame_reason(const struct frame_parser *p)
{
    return (enum frame_reason)p->reason;
}

const char *frame_reason_text(enum frame_reason reason)
{
    CHECK((size_t)reason < REASONS);
    return reason_texts[reason];
}

void frame_header_write(uint8_t out[FRAME_HEADER_SIZE], uint32_t length)
{
    CHECK(length >= 1 && length <= FRAME_PAYLOAD_MAX);
    for (int i = FRAME_HEADER_SIZE - 1; i >= 0; i--) {
        out[i] = (uint8_t)('0' + length % 10);
        length /= 10;
    }
}

/*
 * Reversal goes from both ends inwards, a word at a time: swap the outermost words and the bytes
 * within them.
 *
 *     data                                            data + size
 *     |  first word  | ............. |  last word  |
 *
 * The words may overlap, and that is what does away with the odd tail: both are read before either is
 * written, and both then write the same, final bytes where they meet. So one swap of 8 byte words is
 * all it takes for 8 to 16 bytes, and one of 4 byte words for 4 to 8.
 *
 * From 64 bytes on it takes four words of each end at a time. How fast a loop of one is depends on where the linker
 * happens to put it; see docs/rationale.md.
 */
static inline void swap_ends_8(uint8_t *data, size_t size)
{
    uint64_t first, last;

    memcpy(&first, data, sizeof(first));
    memcpy(&last, data + size - sizeof(last), sizeof(last));
    first = __builtin_bswap64(first);
    last = __builtin_bswap64(last);
    memcpy(data, &last, sizeof(last));
    memcpy(data + size - sizeof(first), &first, sizeof(first));
}

static inline void swap_ends_4(uint8_t *data, size_t size)
{
    uint32_t first, last;

    memcpy(&first, data, sizeof(first));
    memcpy(&last, data + size - sizeof(last), sizeof(last));
    first = __builtin_bswap32(first);
    last = __builtin_bswap32(last);
    memcpy(data, &last, sizeof(last));
    memcpy(data + size - sizeof(first), &first, sizeof(first));
}

void frame_reverse(uint8_t *data, size_t size)
{
    CHECK(data != NULL || size == 0);

    for (; size >= 64; size -= 64, data += 32) {
        swap_ends_8(data, size);
        swap_ends_8(data + 8, size - 16);
        swap_ends_8(data + 16, size - 32);
        swap_ends_8(data + 24, size - 48);
    }
    for (; size > 16; size -= 16, data += 8)
        swap_ends_8(data, size);

    if (size >= 8) {
        swap_ends_8(data, size);
    } else if (size >= 4) {
        swap_ends_4(data, size);
    } else if (size >= 2) {
        uint8_t first = data[0];

        data[0] = data[size - 1];
        data[size - 1] = first;
    }
}
