/* SPDX-License-Identifier: MIT */
#include "pattern.h"

#include <stdlib.h>
#include <string.h>

#include "load.h"

/* A stream of small frames is laid out this far beyond its first period; one of large frames is a single period, so
 * that it stays in the cache. */
#define RUN 65536

enum { PAGE = 4096, OFFSET = 1024 };

uint8_t *pattern_memory(size_t size)
{
    uint8_t *memory = aligned_alloc(PAGE, (OFFSET + size + PAGE - 1) / PAGE * PAGE);
    if (!memory)
        load_die("out of memory");
    return memory + OFFSET;
}

void pattern_memory_free(uint8_t *memory)
{
    if (memory)
        free(memory - OFFSET);
}

uint64_t pattern_draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

void pattern_frame(uint8_t *request, uint8_t *answer, uint32_t length, uint64_t *seed)
{
    uint32_t rest = length;
    for (int i = PATTERN_HEADER - 1; i >= 0; i--, rest /= 10)
        request[i] = (uint8_t)('0' + rest % 10);
    memcpy(answer, request, PATTERN_HEADER);
    for (uint32_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)(pattern_draw(seed) >> 24);
        request[PATTERN_HEADER + i] = byte;
        answer[PATTERN_HEADER + length - 1 - i] = byte;
    }
}

void pattern_make(struct pattern *pattern, const uint32_t *lengths, uint32_t count, uint64_t seed)
{
    size_t period = 0, copies;
    for (uint32_t i = 0; i < count; i++)
        period += PATTERN_HEADER + lengths[i];
    if (!period)
        load_die("a pattern of no frames");
    copies = period >= RUN ? 1 : 1 + (RUN + period - 1) / period;
    *pattern = (struct pattern){.period = period, .size = copies * period, .frames = count};
    pattern->request = pattern_memory(pattern->size);
    pattern->answer = pattern_memory(pattern->size);
    pattern->frame = malloc(count * sizeof pattern->frame[0]);
    if (!pattern->frame)
        load_die("out of memory");
    for (size_t i = 0, at = 0; i < count; i++, at += pattern->frame[i - 1]) {
        pattern_frame(pattern->request + at, pattern->answer + at, lengths[i], &seed);
        pattern->frame[i] = PATTERN_HEADER + lengths[i];
    }
    for (size_t at = period; at < pattern->size; at += period) {
        memcpy(pattern->request + at, pattern->request, period);
        memcpy(pattern->answer + at, pattern->answer, period);
    }
}

void pattern_free(struct pattern *pattern)
{
    pattern_memory_free(pattern->request);
    pattern_memory_free(pattern->answer);
    free(pattern->frame);
}
