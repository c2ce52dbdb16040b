/* SPDX-License-Identifier: MIT
 *
 * The trace of a stream, by the parser and by the oracle: see frame_trace.h.
 *
 * The oracle is written against PROTOCOL.md and to be believed at a glance. It may be slow, it may look
 * at bytes as often as it likes, and it uses the C library's idea of a number where the parser has its
 * own.
 */
#include "frame_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REQUIRE(condition) ((condition) ? (void)0 : broken(__LINE__, #condition))

static _Noreturn void broken(int line, const char *condition)
{
    fprintf(stderr, "frame_trace.c:%d: does not hold: %s\n", line, condition);
    abort();
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

struct guard guard_new(size_t size)
{
    size_t page = page_size();
    size_t usable = (size + page - 1) / page * page;
    uint8_t *map = mmap(NULL, usable + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    REQUIRE(map != MAP_FAILED);
    REQUIRE(mprotect(map + page, usable, PROT_READ | PROT_WRITE) == 0);
    return (struct guard){.start = map + page, .end = map + page + usable};
}

void guard_free(struct guard guard)
{
    size_t page = page_size();

    munmap(guard.start - page, (size_t)(guard.end - guard.start) + 2 * page);
}

/* xorshift64*: repeatable, and good enough to choose cuts. */
uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545F4914F6CDD1Du;
}

size_t draw_below(uint64_t *seed, size_t bound)
{
    return (size_t)((draw(seed) >> 16) % bound);
}

static size_t next_chunk(struct cuts *cuts, size_t at, size_t size)
{
    size_t n = 1;

    if (cuts->mask != 0) {
        while (at + n < size && (cuts->mask >> (at + n - 1) & 1) == 0)
            n++;
    } else if (cuts->seed != 0) {
        n = draw_below(&cuts->seed, draw(&cuts->seed) >> 63 ? 4 : 300);
    } else {
        n = cuts->every;
    }
    return n < size - at ? n : size - at;
}

static void put(struct trace *t, char letter, size_t n)
{
    REQUIRE(n <= TRACE_MAX - t->size);
    memset(t->letters + t->size, letter, n);
    t->size += n;
}

/* The last letters are those of a whole frame: mark its end. */
static void put_frame_end(struct trace *t, const struct frame_parser *p)
{
    size_t length = frame_length(p);

    REQUIRE(length > 0 && length < t->size);
    REQUIRE(t->letters[t->size - length - 1] == 'h');
    REQUIRE(t->letters[t->size - length] == 'p');
    REQUIRE(t->letters[t->size - 1] == 'p');
    REQUIRE(frame_left(p) == 0);
    t->letters[t->size - 1] = 'P';
}

enum frame_status trace_feed(struct frame_parser *p, const uint8_t *data, size_t size, struct trace *t)
{
    enum frame_status status;

    do {
        struct frame_span span;
        uint64_t before = frame_offset(p);

        status = frame_parse(p, data, size, &span);
        frame_check(p);
        size_t consumed = frame_span_size(span);
        REQUIRE(consumed <= size);
        REQUIRE(frame_offset(p) == before + consumed);
        REQUIRE(status != FRAME_NEED_MORE || consumed == size);
        REQUIRE(status != FRAME_READY || span.payload > 0);
        REQUIRE((status == FRAME_BAD) == (frame_reason(p) != FRAME_REASON_NONE));
        put(t, '.', span.skipped);
        put(t, 'h', span.header);
        put(t, 'p', span.payload);
        if (status == FRAME_READY)
            put_frame_end(t, p);
        data += consumed;
        size -= consumed;
    } while (size > 0 && status != FRAME_BAD);
    return status;
}

void trace_parser(const uint8_t *data, size_t size, uint32_t max, struct cuts cuts, struct guard guard, struct trace *t)
{
    struct frame_parser parser;
    enum frame_status status = FRAME_NEED_MORE;
    bool flush_with_end = true;

    frame_parser_init(&parser, max);
    t->size = 0;
    for (size_t at = 0; at < size && status != FRAME_BAD; flush_with_end = !flush_with_end) {
        size_t n = next_chunk(&cuts, at, size);
        uint8_t *chunk = flush_with_end ? guard.end - n : guard.start;

        memcpy(chunk, data + at, n);
        status = trace_feed(&parser, chunk, n, t);
        at += n;
    }
    t->reason = frame_reason(&parser);
    t->offset = frame_offset(&parser);
    t->between = frame_parser_between(&parser);
    if (t->reason != FRAME_REASON_NONE)
        put(t, '!', 1);
    REQUIRE(t->size <= size);
    put(t, '-', size - t->size);
}

static bool is_one_of(uint8_t byte, const char *set)
{
    return byte != '\0' && strchr(set, byte) != NULL;
}

void trace_oracle(const uint8_t *data, size_t size, uint32_t max, struct trace *t)
{
    enum frame_reason reason = FRAME_REASON_NONE;
    bool between = true;
    size_t i = 0;

    memset(t->letters, '-', size);
    while (i < size && reason == FRAME_REASON_NONE) {
        char header[FRAME_HEADER_SIZE + 1] = "";
        size_t digits = 0;

        if (is_one_of(data[i], "\r\n")) {
            t->letters[i++] = '.';
            continue;
        }
        while (digits < 5 && i + digits < size && is_one_of(data[i + digits], "0123456789")) {
            header[digits] = (char)data[i + digits];
            digits++;
        }
        unsigned long length = strtoul(header, NULL, 10);
        if (digits < 5 && i + digits < size)
            reason = FRAME_REASON_NOT_DIGIT;
        else if (digits == 5 && (length == 0 || length > max))
            reason = length == 0 ? FRAME_REASON_ZERO : FRAME_REASON_TOO_LONG;

        for (size_t n = reason != FRAME_REASON_NONE && digits == 5 ? 4 : digits; n > 0; n--)
            t->letters[i++] = 'h';
        between = false;
        if (reason != FRAME_REASON_NONE || digits < 5)
            break;
        for (; length > 0 && i < size; length--)
            t->letters[i++] = length == 1 ? 'P' : 'p';
        between = length == 0;
    }
    if (reason != FRAME_REASON_NONE)
        t->letters[i] = '!';
    t->size = size;
    t->reason = reason;
    t->offset = i;
    t->between = between;
}

bool traces_differ(const struct trace *a, const struct trace *b)
{
    return a->size != b->size || memcmp(a->letters, b->letters, a->size) != 0 || a->reason != b->reason ||
           a->offset != b->offset || a->between != b->between;
}

void trace_print(const char *who, const struct trace *t)
{
    int shown = t->size < 400 ? (int)t->size : 400;

    fprintf(stderr, "%-8s %.*s  %s at %llu%s\n", who, shown, t->letters, frame_reason_text(t->reason),
            (unsigned long long)t->offset, t->between ? ", between frames" : "");
}
