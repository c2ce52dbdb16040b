/* SPDX-License-Identifier: MIT
 *
 * What is made of a stream of the reverse protocol, written down: a letter for each byte, the *trace*.
 *
 *     .  skipped        p  payload                           !  the byte at which the stream broke
 *     h  header         P  payload, and the frame is whole   -  never consumed: it came after that
 *
 *     "\n00003abc0002x"  ->  ".hhhhhppPhhhh!"  and NOT_DIGIT
 *
 * Two streams are understood alike if their traces are alike, and a trace knows nothing of chunks. So
 * the parser, under any cuts, can be held against the oracle, which has the whole stream before it and
 * shares no code with the parser. Tests and fuzzers use it alike; what breaks the parser's contract
 * with its caller, as opposed to the protocol, aborts here.
 */
#ifndef FRAME_TRACE_H
#define FRAME_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"

#define TRACE_MAX ((size_t)512 * 1024)

struct trace {
    size_t size;
    char letters[TRACE_MAX];
    enum frame_reason reason;
    uint64_t offset; /* bytes consumed */
    bool between;    /* an end of file would be clean */
};

/*
 * Memory between two PROT_NONE pages: to look a byte too far is to be killed. The start and the end
 * are both flush with a page.
 */
struct guard {
    uint8_t *start, *end;
};

struct guard guard_new(size_t size); /* size is rounded up to whole pages */
void guard_free(struct guard guard);

/*
 * Where a stream is cut into chunks. If mask is not 0, bit i of it cuts after byte i, and the stream is
 * of 64 bytes at most. Else, if seed is not 0, at random, with empty chunks among them. Else after
 * each `every` bytes.
 */
struct cuts {
    uint64_t mask;
    uint64_t seed;
    size_t every;
};

/* A random number; *seed is the generator's state, not 0. Below bound, which is not 0, if there is one. */
uint64_t draw(uint64_t *seed);
size_t draw_below(uint64_t *seed, size_t bound);

/*
 * Feed one chunk to its end, or until the stream breaks, and append its letters to *t. Each call is
 * held to the contract in frame.h. Returns what the last call said.
 */
enum frame_status trace_feed(struct frame_parser *p, const uint8_t *data, size_t size, struct trace *t);

/*
 * The trace of the parser. Each chunk is copied into guarded memory of TRACE_MAX bytes, by turns flush
 * with its end and its start.
 */
void trace_parser(const uint8_t *data, size_t size, uint32_t max, struct cuts cuts, struct guard guard,
                  struct trace *t);

/* The trace that the protocol asks for. */
void trace_oracle(const uint8_t *data, size_t size, uint32_t max, struct trace *t);

bool traces_differ(const struct trace *a, const struct trace *b);

/* One line on standard error, long traces cut short. */
void trace_print(const char *who, const struct trace *t);

#endif
