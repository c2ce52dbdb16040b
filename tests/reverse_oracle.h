/* SPDX-License-Identifier: MIT
 *
 * The plain oracle of the reverse service: what it owes for a string of request bytes. And a source of such strings.
 *
 * Nothing is shared with the parser in proto/: the oracle has the whole string before it and is to be believed at a
 * glance. Where every choice comes from is the caller's: a seed, a fuzzer's bytes, a simulated world.
 */
#ifndef TESTS_REVERSE_ORACLE_H
#define TESTS_REVERSE_ORACLE_H

#include <stddef.h>
#include <stdint.h>

/* What stands at the end of a request, as the service calls it when it has got that far. */
enum oracle_end {
    ORACLE_CLOSED,    /* nothing: the last frame is whole */
    ORACLE_TRUNCATED, /* a frame that is not */
    ORACLE_BAD,       /* a bad header; what follows it is not looked at */
    ORACLE_ENDS,
};

struct oracle_answer {
    size_t size; /* bytes owed */
    size_t frames;
    enum oracle_end end;
};

/* Writes the answer to `out`, which has room for `size` bytes: no answer is longer than its request. A header over
 * `max_frame` is bad. */
struct oracle_answer oracle_answer(const uint8_t *request, size_t size, uint32_t max_frame, uint8_t *out);

/* Says 0 to count - 1. */
typedef uint32_t oracle_choose_fn(void *context, uint32_t count);

#define ORACLE_ROOM_LEAST 32

/* Makes a request that ends as `end` says, of up to `frames` whole frames: most of them small, a few up to `max_frame`,
 * some with line ends before them. A bad header may stand anywhere among them. Writes it to `out`, which has room for
 * `room` bytes, at least ORACLE_ROOM_LEAST; frames that do not fit are left out. Returns the size. */
size_t oracle_request(oracle_choose_fn *choose, void *context, uint32_t max_frame, uint32_t frames, enum oracle_end end,
                      uint8_t *out, size_t room);

#endif
