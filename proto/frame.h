/* SPDX-License-Identifier: MIT
 *
 * frame: the codec of the reverse protocol, without any I/O.
 *
 * A frame is a header of exactly five ASCII digits, which say how many bytes of payload follow, and
 * that payload. Between frames, and only there, CR and LF are skipped.
 *
 *     00003abc\r\n00005hello
 *     \___/\_/\__/\___/\___/
 *       |   |   |   |    |
 *       |   |   |   |    payload: any bytes, never looked at
 *       |   |   |   header: "00001" to "99999"
 *       |   |   skipped
 *       |   payload
 *       header
 *
 * The parser is handed bytes as they come, in chunks of any size, and says what they are. It copies
 * nothing, keeps no pointer into a chunk, allocates nothing and knows no clock: what it finds depends
 * on the bytes alone and never on where the chunks were cut. It depends on the C library only.
 *
 *     struct frame_parser parser;
 *     frame_parser_init(&parser, FRAME_PAYLOAD_MAX);
 *     ...
 *     while (size > 0) {
 *         struct frame_span span;
 *         enum frame_status status = frame_parse(&parser, data, size, &span);
 *
 *         take(data + span.skipped, span.header + span.payload);
 *         if (status == FRAME_BAD)
 *             return complain(frame_reason_text(frame_reason(&parser)), frame_offset(&parser));
 *         if (status == FRAME_READY)
 *             answer();
 *         data += frame_span_size(span);
 *         size -= frame_span_size(span);
 *     }
 *
 * All sizes, lengths and offsets are in bytes. A parser belongs to one thread at a time; two parsers
 * share nothing. Misuse (a limit out of range, a null pointer, a parser that was never initialised)
 * aborts with a message, in release builds too.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_SIZE 5
#define FRAME_PAYLOAD_MAX 99999

enum frame_status {
    FRAME_NEED_MORE, /* the whole chunk is consumed and no frame has ended at its last byte */
    FRAME_READY,     /* a frame ended at the last byte consumed; there may be more behind it */
    FRAME_BAD,       /* the stream is broken at frame_offset(), for good */
};

/* Why a stream is broken. The offset is that of the offending byte, as follows. */
enum frame_reason {
    FRAME_REASON_NONE,      /* it is not */
    FRAME_REASON_NOT_DIGIT, /* the first byte of a header that is not '0' to '9' */
    FRAME_REASON_ZERO,      /* the fifth digit of "00000" */
    FRAME_REASON_TOO_LONG,  /* the fifth digit of a length over the parser's limit */
};

/*
 * One direction of one stream. Caller memory, to be embedded; 24 bytes, and copying it forks the
 * parse. Read it through the functions below; the members are frame.c's own.
 */
struct frame_parser {
    uint64_t offset;      /* bytes consumed since init: where in the stream the next byte stands */
    uint32_t payload_max; /* the limit given to init */
    uint32_t length;      /* value of the header digits so far; between frames, that of the last frame */
    uint32_t left;        /* payload bytes still to come */
    uint8_t digits;       /* header bytes taken: 0 between frames, FRAME_HEADER_SIZE in the payload */
    uint8_t reason;       /* enum frame_reason; anything but NONE is final */
};

/*
 * How the bytes consumed by one call are laid out, in this order. They belong to one frame at most;
 * any of the three may be 0, as in the middle of a payload or of a header.
 */
struct frame_span {
    uint32_t skipped; /* CR and LF before the header */
    uint32_t header;  /* header bytes, all of them digits */
    uint32_t payload; /* payload bytes */
};

/* The bytes consumed by the call that gave this span. Cannot overflow: a chunk is below 4 GiB. */
static inline uint32_t frame_span_size(struct frame_span span)
{
    return span.skipped + span.header + span.payload;
}

/*
 * Make *p a parser at offset 0, between frames. It holds nothing that would need to be freed, and may
 * be initialised again at any time. payload_max is the longest payload taken, from 1 to
 * FRAME_PAYLOAD_MAX.
 */
void frame_parser_init(struct frame_parser *p, uint32_t payload_max);

/*
 * Consume bytes up to the end of the frame under way, of the chunk, or of what can be understood,
 * whichever comes first. *ret_span is written whatever the outcome, and says what was consumed:
 *
 *   FRAME_NEED_MORE  all of it: frame_span_size(*ret_span) == size.
 *   FRAME_READY      at least one byte, the last of them the last of a payload. frame_length() tells
 *                    the whole length of that frame. Call again with the rest.
 *   FRAME_BAD        the good bytes before the offending one, which is not consumed. Each later call
 *                    says FRAME_BAD, consumes nothing, and does not look at its data.
 *
 * A length is judged when its fifth digit has come, no sooner: "9" alone breaks no limit.
 *
 * data is read during the call only, and payload bytes not at all: the cost is that of the skipped and
 * header bytes, however long the payload. size may be 0 (data may then be null) and is at most
 * UINT32_MAX.
 */
enum frame_status frame_parse(struct frame_parser *p, const uint8_t *data, size_t size, struct frame_span *ret_span);

/* True if no frame has begun since the last one ended: an end of file here is clean. False once bad. */
bool frame_parser_between(const struct frame_parser *p);

/*
 * The length that the current header announced, from its fifth digit on; it stays to be read after
 * FRAME_READY, until the next header begins. 0 if there is none: no frame yet, a header still
 * incomplete, or a stream that is broken.
 */
uint32_t frame_length(const struct frame_parser *p);

/* The payload bytes of the current frame that are still to come; 0 outside a payload. */
uint32_t frame_left(const struct frame_parser *p);

/* The bytes consumed since init. Of a broken stream, the offset of the offending byte, from 0. */
uint64_t frame_offset(const struct frame_parser *p);

/* Why the stream is broken, or FRAME_REASON_NONE. */
enum frame_reason frame_reason(const struct frame_parser *p);

/* The reason as a phrase for a log line, without capital or full stop. Static: never freed. */
const char *frame_reason_text(enum frame_reason reason);

/* Abort with a message unless *p is a state that a parser can be in. frame_parse() does it by itself. */
void frame_check(const struct frame_parser *p);

/* Write the header of a payload of length bytes, from 1 to FRAME_PAYLOAD_MAX. No NUL is added. */
void frame_header_write(uint8_t out[FRAME_HEADER_SIZE], uint32_t length);

/* Reverse the bytes in place. Any alignment, any size; data may be null if size is 0. */
void frame_reverse(uint8_t *data, size_t size);

#endif
