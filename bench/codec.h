/* SPDX-License-Identifier: MIT
 *
 * The reverse protocol as all the servers of the bench speak it, so that what is compared is the I/O and nothing else.
 * C and C++.
 *
 * An answer has the size of its request, header included, so whole frames are turned into their answers where they
 * stand, in the memory they were received into:
 *
 *     received   00003abc\r\n00005hello00064Lorem ip      codec_in_place()
 *     becomes    00003cba00005olleh____00064Lorem ip
 *                \________________/    \____________/
 *                     answers               rest
 *
 * A frame of which the end has not come yet is either kept where it is until more has been received behind it, or it is
 * put together elsewhere as its own answer, each piece copied backwards to where it belongs; codec_take() does that.
 * Either way each byte is touched once.
 *
 * A frame's memory is set aside on the word of its header. Pages that nothing is written to cost nothing. */
#ifndef BENCH_CODEC_H
#define BENCH_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "../proto/frame.h" /* frame_reverse(), which the library's server uses as well */
#ifdef __cplusplus
}
#endif

#define CODEC_HEADER    ((size_t)FRAME_HEADER_SIZE)
#define CODEC_FRAME_MAX (CODEC_HEADER + FRAME_PAYLOAD_MAX)

static inline bool codec_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* The payload's length that a whole header announces; 0, which none may, when it is not one. */
static inline size_t codec_length(const uint8_t *header)
{
    unsigned a = header[0] - (unsigned)'0';
    unsigned b = header[1] - (unsigned)'0';
    unsigned c = header[2] - (unsigned)'0';
    unsigned d = header[3] - (unsigned)'0';
    unsigned e = header[4] - (unsigned)'0';
    bool digits = (a <= 9) & (b <= 9) & (c <= 9) & (d <= 9) & (e <= 9);
    return digits ? a * 10000 + b * 1000 + c * 100 + d * 10 + e : 0;
}

/* from[0, size) to to[0, size), the last byte first. They do not overlap. */
static inline void codec_copy_reversed(uint8_t *to, const uint8_t *from, size_t size)
{
    for (; size >= 8; size -= 8, from += 8) {
        uint64_t word;
        memcpy(&word, from, sizeof word);
        word = __builtin_bswap64(word);
        memcpy(to + size - 8, &word, sizeof word);
    }
    for (; size > 0; size--)
        to[size - 1] = *from++;
}

/* --- in place ------------------------------------------------------------------------------------------------------- */

struct codec_span {
    size_t answers; /* data[0, answers) is owed to the peer */
    size_t rest;    /* data[rest, size) is the beginning of a frame, or of what follows a bad header */
    bool bad;       /* there is no frame at data[rest] */
};

/* The frame that begins here and is not whole may already be seen to be none. */
static inline bool codec_begins_badly(const uint8_t *data, size_t size)
{
    size_t n = 0;
    while (n < size && n < CODEC_HEADER && codec_digit(data[n]))
        n++;
    return n < size && n < CODEC_HEADER;
}

/* Turns the whole frames of data[0, size), which begins between frames or with a header, into their answers. */
static inline struct codec_span codec_in_place(uint8_t *data, size_t size)
{
    size_t out = 0, in = 0;
    for (;;) {
        while (in < size && (data[in] == '\r' || data[in] == '\n'))
            in++;
        if (size - in <= CODEC_HEADER)
            break;
        size_t length = codec_length(data + in);
        size_t frame = CODEC_HEADER + length;
        if (length == 0 || size - in < frame)
            break;
        if (out != in)
            memmove(data + out, data + in, frame);
        frame_reverse(data + out + CODEC_HEADER, length);
        in += frame;
        out += frame;
    }
    struct codec_span span;
    span.answers = out;
    span.rest = in;
    span.bad = codec_begins_badly(data + in, size - in) || (size - in >= CODEC_HEADER && codec_length(data + in) == 0);
    return span;
}

/* The size of the frame at the beginning of data when it will be whole, as far as it can be known. */
static inline size_t codec_frame_size(const uint8_t *data, size_t size)
{
    return size < CODEC_HEADER ? CODEC_HEADER : CODEC_HEADER + codec_length(data);
}

/* --- in pieces ------------------------------------------------------------------------------------------------------ */

/* A frame of which the end has not come yet. All zero between frames. */
struct codec_part {
    uint8_t *answer; /* from malloc(), once the header is known */
    uint32_t size;   /* of it */
    uint32_t have;   /* bytes of the frame that have come, header included */
    uint8_t header[FRAME_HEADER_SIZE];
};

/* What is owed to the peer for a chunk: first the frame, then the answers. */
struct codec_chunk {
    uint8_t *frame; /* the one that was under way and is whole now; the caller's, to be freed when sent. NULL: none */
    size_t frame_size;
    uint8_t *answers; /* in the chunk itself */
    size_t size;      /* of them; may be 0 */
    bool bad;         /* what follows is no frame: answer what is owed, then end the connection */
};

/* Takes what belongs to the frame under way, and says how much that is. False: it is no frame. */
static inline bool codec_part_fill(struct codec_part *part, const uint8_t *data, size_t size, size_t *ret_taken)
{
    size_t taken = 0;
    for (; part->have < CODEC_HEADER && taken < size; taken++) {
        if (!codec_digit(data[taken]))
            return false;
        part->header[part->have++] = data[taken];
    }
    if (part->have == CODEC_HEADER && !part->answer) {
        size_t length = codec_length(part->header);
        if (length == 0)
            return false;
        part->size = (uint32_t)(CODEC_HEADER + length);
        part->answer = (uint8_t *)malloc(part->size);
        if (!part->answer)
            abort();
        memcpy(part->answer, part->header, CODEC_HEADER);
    }
    if (part->answer) {
        size_t left = part->size - part->have;
        size_t piece = size - taken < left ? size - taken : left;
        codec_copy_reversed(part->answer + CODEC_HEADER + left - piece, data + taken, piece);
        part->have += (uint32_t)piece;
        taken += piece;
    }
    *ret_taken = taken;
    return true;
}

static inline void codec_part_drop(struct codec_part *part)
{
    free(part->answer);
    memset(part, 0, sizeof *part);
}

/* Turns a chunk of the stream, in whatever way it was cut, into what is owed for it; the chunk is written to, and is
 * done with once its answers are sent. */
static inline struct codec_chunk codec_take(struct codec_part *part, uint8_t *data, size_t size)
{
    struct codec_chunk chunk;
    size_t taken = 0;
    memset(&chunk, 0, sizeof chunk);
    if (part->have > 0) {
        if (!codec_part_fill(part, data, size, &taken)) {
            chunk.bad = true;
            return chunk;
        }
        if (!part->answer || part->have < part->size)
            return chunk;
        chunk.frame = part->answer;
        chunk.frame_size = part->size;
        memset(part, 0, sizeof *part);
    }
    chunk.answers = data + taken;
    struct codec_span span = codec_in_place(chunk.answers, size - taken);
    chunk.size = span.answers;
    chunk.bad = span.bad || !codec_part_fill(part, chunk.answers + span.rest, size - taken - span.rest, &taken);
    return chunk;
}

#endif
