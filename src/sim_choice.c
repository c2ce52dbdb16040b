/* SPDX-License-Identifier: MIT
 *
 * Choices, and the walk through all of them.
 *
 * A walk keeps the choices of the history under way as a stack of (taken, of how many). A history replays the stack from
 * the bottom, and takes 0 wherever it comes to a choice that is new. The next history is the one with the last choice
 * that can be raised raised, and what is above it forgotten:
 *
 *      0 0 0   0 0 1   0 1   1 0 0 ...        three choices of two; after "0 1" there was nothing more to choose
 *
 * This ends if every history does, and misses none, since what happens depends on nothing else. That is checked: a choice
 * that is met again must be of as many as before. */
#include "sim_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

struct taken {
    uint32_t choice, count;
};

struct pro_sim_walk {
    struct taken *stack;
    size_t depth, room;
    size_t at; /* how far this history has come */
    uint64_t histories;
    bool only; /* one given history */
};

void proi_choice_init(struct proi_choice *choice, const struct pro_sim_config *config)
{
    const uint8_t *bytes = config->bytes;
    *choice = (struct proi_choice){
        .front = config->front,
        .random = config->seed,
        .bytes = bytes,
        .bytes_end = bytes ? bytes + config->byte_count : NULL,
        .walk = config->walk,
    };
}

/* SplitMix64, of Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t next_random(struct proi_choice *choice)
{
    uint64_t z = choice->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint32_t next_byte(struct proi_choice *choice)
{
    return choice->bytes < choice->bytes_end ? *choice->bytes++ : 0;
}

static uint32_t next_word(struct proi_choice *choice)
{
    uint32_t low = next_byte(choice);
    return low | next_byte(choice) << 8;
}

static bool push(struct pro_sim_walk *walk, struct taken taken)
{
    if (walk->depth == walk->room) {
        size_t room = walk->room ? walk->room * 2 : 64;
        struct taken *stack = realloc(walk->stack, room * sizeof *stack);
        if (!stack)
            return false;
        walk->stack = stack;
        walk->room = room;
    }
    walk->stack[walk->depth++] = taken;
    return true;
}

static uint32_t walk_choose(struct pro_sim_walk *walk, uint32_t count)
{
    if (walk->at == walk->depth)
        proi_require(push(walk, (struct taken){0, count}), "a walk finds no memory");
    struct taken *taken = &walk->stack[walk->at++];
    if (walk->only && taken->count == 0)
        taken->count = count;
    proi_require(taken->count == count, "a scenario that is walked does not depend on its choices alone");
    proi_require(taken->choice < count, "a history that is replayed belongs to another scenario");
    return taken->choice;
}

uint32_t proi_choose(struct proi_choice *choice, uint32_t count)
{
    proi_require(count > 0, "a choice of none");
    if (count == 1)
        return 0;
    switch (choice->front) {
    case PRO_SIM_SEED:
        return (uint32_t)(((next_random(choice) >> 32) * count) >> 32);
    case PRO_SIM_BYTES:
        return (count <= 256 ? next_byte(choice) : next_word(choice)) % count;
    case PRO_SIM_WALK:
        return walk_choose(choice->walk, count);
    case PRO_SIM_CALM:
        break;
    }
    return 0;
}

bool proi_chance(struct proi_choice *choice, uint16_t rate)
{
    if (rate == 0)
        return false;
    switch (choice->front) {
    case PRO_SIM_SEED:
        return next_random(choice) >> 48 < rate;
    case PRO_SIM_BYTES:
        return next_byte(choice) > (rate < 65280 ? 255u - (rate + 255u) / 256u : 0); /* a byte can say yes, and no */
    case PRO_SIM_WALK:
        return walk_choose(choice->walk, 2) == 1;
    case PRO_SIM_CALM:
        break;
    }
    return false;
}

/* ---- The walk ---- */

struct pro_sim_walk *pro_sim_walk_new(void)
{
    return calloc(1, sizeof(struct pro_sim_walk));
}

void pro_sim_walk_free(struct pro_sim_walk *walk)
{
    if (walk)
        free(walk->stack);
    free(walk);
}

bool pro_sim_walk_next(struct pro_sim_walk *walk)
{
    if (walk->histories > 0) {
        walk->depth = walk->only ? 0 : walk->at; /* what was not met again is no part of it */
        while (walk->depth > 0 && walk->stack[walk->depth - 1].choice + 1 == walk->stack[walk->depth - 1].count)
            walk->depth--;
        if (walk->depth == 0)
            return false;
        walk->stack[walk->depth - 1].choice++;
    }
    walk->at = 0;
    walk->histories++;
    return true;
}

uint64_t pro_sim_walk_count(const struct pro_sim_walk *walk)
{
    return walk->histories;
}

bool pro_sim_walk_only(struct pro_sim_walk *walk, const char *history)
{
    proi_require(walk->histories == 0, "a history is given to a walk that has begun");
    walk->only = true;
    while (*history) {
        char *end;
        unsigned long choice = strtoul(history, &end, 10);
        if (end == history || choice > UINT32_MAX || (*end && *end != '.'))
            return false;
        if (!push(walk, (struct taken){(uint32_t)choice, 0}))
            return false;
        history = *end ? end + 1 : end;
    }
    return true;
}

void proi_walk_print(const struct pro_sim_walk *walk, FILE *to)
{
    for (size_t i = 0; i < walk->at; i++)
        fprintf(to, i ? ".%u" : "%u", walk->stack[i].choice);
}

void pro_sim_walk_history(const struct pro_sim_walk *walk, char *out, size_t size)
{
    size_t used = 0;
    if (size > 0)
        out[0] = '\0';
    for (size_t i = 0; i < walk->at && used + 12 < size; i++)
        used += (size_t)snprintf(out + used, size - used, i ? ".%u" : "%u", walk->stack[i].choice);
}
