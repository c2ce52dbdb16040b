/* SPDX-License-Identifier: MIT
 *
 * What the load generator says and expects: an endless stream of frames that repeats itself, laid out beforehand with
 * its answers, so that a request is a pointer into it and verifying a reply is a memcmp.
 *
 *     |<------------ period ----------->|
 *     frame 0 | frame 1 | … | frame n-1 | frame 0 | frame 1 | …      laid out, so that a run over the border is whole
 *
 * libc alone.
 */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stddef.h>
#include <stdint.h>

enum { PATTERN_HEADER = 5, PATTERN_PAYLOAD_MAX = 99999 };

struct pattern {
    uint8_t *request; /* `size` bytes */
    uint8_t *answer;  /* `size` bytes, frame by frame as long as the request */
    size_t size;      /* a whole number of periods */
    size_t period;
    uint32_t *frame; /* bytes of each frame of a period, header and all */
    uint32_t frames;
};

/* Memory that large data is sent from or received into: it begins in the middle of a page, since the processor copies
 * slowly between places of the same offset, and the kernel's pages are filled from the first byte on. Ends the program if
 * there is none. */
uint8_t *pattern_memory(size_t size);
void pattern_memory_free(uint8_t *memory);

/* The next of a series of numbers that look random (xorshift). `*seed` is not 0. */
uint64_t pattern_draw(uint64_t *seed);

/* Writes a frame of random bytes and its answer, each PATTERN_HEADER + length bytes. */
void pattern_frame(uint8_t *request, uint8_t *answer, uint32_t length, uint64_t *seed);

/* Lays a stream out whose payloads are of these lengths, one after the other. Ends the program if there is no memory. */
void pattern_make(struct pattern *pattern, const uint32_t *lengths, uint32_t count, uint64_t seed);

void pattern_free(struct pattern *pattern);

#endif
