/* SPDX-License-Identifier: MIT
 *
 * The inputs of fuzz_frame, and what has to become of them: the *story*, told by a naive parser that has the whole
 * stream before it and shares no code with proto/frame.c.
 *
 * An input is three bytes and a stream:
 *
 *     a | ~ 00003a|bc\n|99999~x00001y
 *     | | | \_______________________/
 *     | | |  the stream, in which the two marks are no bytes
 *     | | the jump: in a payload, it is all that is left of it but for the last byte, or the last byte
 *     | the cut: a chunk ends here; two in a row make an empty chunk
 *     the kind: a limit for payloads, and an offset that the parser has come to before (a to p, see kinds[])
 *
 * Marks stand in the stream, so that they stay with their bytes when a fuzzer moves those. Every byte can be a mark, so
 * that every byte can be in a payload of some input. The marks are optional: an input is cut nowhere if its second byte
 * does not come again.
 *
 * The bytes of a jump are in no memory. The parser says that it never looks at a payload, and is taken at its word: what
 * it gets is a chunk that ends in unreadable memory. So an input of some bytes can hold frames of 99999.
 */
#ifndef FUZZ_FRAME_STORY_H
#define FUZZ_FRAME_STORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

#define STORY_HEAD 3
#define STORY_MOST ((size_t)4096) /* bytes of a stream; what is over is left out */

/* Where a stream begins: a parser with this limit, that has consumed so much already, all of it whole frames. */
struct story_kind {
    uint32_t payload_max;
    uint64_t offset;
};

#define STORY_KINDS 16
extern const struct story_kind story_kinds[STORY_KINDS];

/* A frame, whole or the begun one at the end. Offsets are the stream's. */
struct story_frame {
    uint64_t start, end;
    uint32_t length;     /* 0 if the header is not whole */
    uint32_t bytes_from; /* its payload, less the jumps, in bytes[] */
    uint32_t bytes_to;
    bool whole;
};

/* What stands between two marks: bytes, and then a jump, of 0 if it was a cut. */
struct story_piece {
    uint32_t bytes_from, bytes_to;
    uint32_t jump;
    bool jumps;
};

struct story {
    unsigned kind;
    uint8_t bytes[STORY_MOST];
    size_t size;
    struct story_piece pieces[STORY_MOST + 1];
    size_t piece_count;
    struct story_frame frames[STORY_MOST + 1];
    size_t frame_count;
    enum frame_reason reason;
    uint64_t end; /* of what can be understood: the end of the stream, or the byte that breaks it */
};

/* What one call of frame_parse has to say, and the parser after it. */
struct story_step {
    enum frame_status status;
    struct frame_span span;
    uint64_t offset;
    uint32_t length, left;
    enum frame_reason reason;
    bool between;
};

/* Reads an input. Only the parts that are counted are written. */
void story_tell(struct story *story, const uint8_t *input, size_t size);

/* What is owed for a chunk that reaches from `at` to `to`, when `frames` have ended before `at`. `before` is the length
 * of the last frame that the parser had consumed when the stream began. */
struct story_step story_step(const struct story *story, size_t frames, uint64_t at, uint64_t to, uint32_t before);

#endif
