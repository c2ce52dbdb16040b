/* SPDX-License-Identifier: MIT
 *
 * The oracle is the first function. The rest makes requests.
 *
 * A choice is dear: it may be a line of a trace or a fuzzer's byte. So the bytes of a payload are not chosen one by
 * one; a single choice seeds them. Half of the payloads are digits and line ends, which is what a parser that has lost
 * its place would take for a header.
 */
#include "reverse_oracle.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HEADER    5
#define LINE_ENDS 3                                /* in a row, at most */
#define RESERVE   (LINE_ENDS + HEADER + LINE_ENDS) /* a bad header or a cut one, and the line ends around it */

_Static_assert(ORACLE_ROOM_LEAST >= RESERVE + LINE_ENDS + HEADER + 1, "a frame fits");

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

struct oracle_answer oracle_answer(const uint8_t *request, size_t size, uint32_t max_frame, uint8_t *out)
{
    struct oracle_answer answer = {0};
    for (size_t at = 0; at < size && answer.end == ORACLE_CLOSED;) {
        size_t digits = 0, length = 0;
        if (request[at] == '\r' || request[at] == '\n') {
            at++;
            continue;
        }
        for (; digits < HEADER && at + digits < size && is_digit(request[at + digits]); digits++)
            length = 10 * length + request[at + digits] - '0';
        if (digits == HEADER ? length == 0 || length > max_frame : at + digits < size) {
            answer.end = ORACLE_BAD;
        } else if (digits < HEADER || length > size - at - HEADER) {
            answer.end = ORACLE_TRUNCATED;
        } else {
            memcpy(out + answer.size, request + at, HEADER);
            at += HEADER + length;
            answer.size += HEADER;
            answer.frames++;
            for (size_t i = 1; i <= length; i++)
                out[answer.size++] = request[at - i];
        }
    }
    return answer;
}

/* ---- Requests ---- */

struct draft {
    oracle_choose_fn *choose;
    void *context;
    uint32_t max_frame;
    uint8_t *out;
    size_t size, room;
};

static uint32_t pick(const struct draft *d, uint32_t count)
{
    return d->choose(d->context, count);
}

static void add(struct draft *d, const void *bytes, size_t size)
{
    memcpy(d->out + d->size, bytes, size);
    d->size += size;
}

static void add_header(struct draft *d, uint32_t length)
{
    char header[16];
    snprintf(header, sizeof header, "%05u", length);
    add(d, header, HEADER);
}

static void add_payload(struct draft *d, uint32_t size)
{
    static const char likely[] = "0123456789\r\n";
    bool plain = pick(d, 2);
    uint32_t state = pick(d, UINT32_MAX);
    for (uint32_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        d->out[d->size++] = plain ? (uint8_t)likely[(state >> 24) % (sizeof likely - 1)] : (uint8_t)(state >> 24);
    }
}

static void add_line_ends(struct draft *d)
{
    if (pick(d, 4) == 1)
        for (uint32_t n = 1 + pick(d, LINE_ENDS); n > 0; n--)
            add(d, pick(d, 2) ? "\r" : "\n", 1);
}

static uint32_t pick_length(const struct draft *d)
{
    static const uint32_t most[] = {8, 8, 8, 8, 8, 8, 8, 200, 200, 200, 200, 200, 200, 5000, 5000, 99999};
    uint32_t limit = most[pick(d, sizeof most / sizeof most[0])];
    return 1 + pick(d, limit < d->max_frame ? limit : d->max_frame);
}

static void add_frame(struct draft *d)
{
    uint32_t length = pick_length(d);
    if (d->size + LINE_ENDS + HEADER + length + RESERVE > d->room)
        return;
    add_line_ends(d);
    add_header(d, length);
    add_payload(d, length);
}

/* One of the list; where there is a limit, also the length beyond it. */
static void add_bad_header(struct draft *d)
{
    static const char list[][HEADER + 1] = {
        "00000",  "+0001",  "-0001", " 0001", "    1",
        "0001 ",  "0x001",  "1e001", "0000a", "GET /",
        "00\r01", "000\n1", "00/01", "00:01", "\xef\xbc\x90\xef\xbc",
    };
    uint32_t count = sizeof list / sizeof list[0];
    add_line_ends(d);
    uint32_t which = pick(d, d->max_frame < 99999 ? count + 1 : count);
    if (which < count)
        add(d, list[which], HEADER);
    else
        add_header(d, d->max_frame + 1);
}

/* The beginning of a frame, cut in its header or behind it. */
static void add_start(struct draft *d)
{
    uint32_t length = pick_length(d), most = length;
    if (most > d->room - d->size - HEADER)
        most = (uint32_t)(d->room - d->size - HEADER);
    add_header(d, length);
    if (pick(d, 2))
        add_payload(d, pick(d, most));
    else
        d->size -= 1 + pick(d, HEADER - 1);
}

size_t oracle_request(oracle_choose_fn *choose, void *context, uint32_t max_frame, uint32_t frames, enum oracle_end end,
                      uint8_t *out, size_t room)
{
    struct draft d = {choose, context, max_frame, out, 0, room};
    uint32_t bad_at = end == ORACLE_BAD ? pick(&d, frames + 1) : UINT32_MAX;
    for (uint32_t i = 0; i < frames; i++) {
        if (i == bad_at)
            add_bad_header(&d);
        add_frame(&d);
    }
    if (bad_at == frames)
        add_bad_header(&d);
    add_line_ends(&d);
    if (end == ORACLE_TRUNCATED)
        add_start(&d);
    return d.size;
}
