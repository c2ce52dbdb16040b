/* SPDX-License-Identifier: MIT
 *
 * How scripts are drawn. */
#include "script.h"

#include <string.h>

static uint32_t draw(uint64_t *random, uint32_t below)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (uint32_t)((*random >> 20) % below);
}

static const struct {
    const char *name;
    uint8_t weight, reaction_weight;
    uint32_t least, most; /* amount */
} acts[ACTS] = {
    [ACT_NONE] = {"none", 0, 0, 0, 0},
    [ACT_RECV] = {"recv", 8, 8, 1, 3000},
    [ACT_RECV_ALL] = {"recv_all", 5, 4, 1, 5000},
    [ACT_RECV_MULTI] = {"recv_multi", 9, 6, 0, 6000},
    [ACT_ACCEPT] = {"accept", 2, 2, 0, 0},
    [ACT_ACCEPT_MULTI] = {"accept_multi", 2, 1, 0, 0},
    [ACT_CONNECT] = {"connect", 4, 4, 0, 0},
    [ACT_SEND] = {"send", 14, 10, 1, 4000},
    [ACT_SEND_SLICES] = {"send_slices", 9, 10, 1, 4},
    [ACT_TRY_SEND] = {"try_send", 2, 2, 1, 3000},
    [ACT_SHUTDOWN] = {"shutdown", 2, 1, 0, 0},
    [ACT_POLL] = {"poll", 2, 2, 0, 0},
    [ACT_POLL_MULTI] = {"poll_multi", 2, 1, 0, 0},
    [ACT_TIMER] = {"timer", 4, 3, 0, 300000},
    [ACT_TIMER_EVERY] = {"timer_every", 1, 1, 1, 100000},
    [ACT_POST] = {"post", 2, 2, 0, 0},
    [ACT_CLOSE] = {"close", 2, 2, 0, 0},
    [ACT_ABORT] = {"abort", 1, 1, 0, 0},
    [ACT_RELEASE] = {"release", 2, 1, 0, 0},
    [ACT_CANCEL] = {"cancel", 5, 4, 0, 0},
    [ACT_CANCEL_ALL] = {"cancel_all", 1, 1, 0, 0},
    [ACT_DEADLINE] = {"deadline", 4, 3, 0, 200000},
    [ACT_CREDIT] = {"credit", 5, 4, 0, 4000},
    [ACT_PAUSE] = {"pause", 3, 2, 0, 0},
    [ACT_RETURN] = {"return", 3, 3, 1, 8},
    [ACT_SPLIT] = {"split", 1, 1, 0, 0},
    [ACT_OPEN] = {"open", 4, 0, 0, 0},
    [ACT_TURNS] = {"turns", 24, 0, 1, 4},
    [ACT_WAIT] = {"wait", 4, 0, 0, 250000},
};

static enum act_what draw_what(uint64_t *random, bool reaction)
{
    unsigned total = 0;
    for (unsigned i = 0; i < ACTS; i++)
        total += reaction ? acts[i].reaction_weight : acts[i].weight;
    unsigned at = draw(random, total);
    for (unsigned i = 0;; i++) {
        unsigned weight = reaction ? acts[i].reaction_weight : acts[i].weight;
        if (at < weight)
            return (enum act_what)i;
        at -= weight;
    }
}

/* Mostly the pairs, or few acts would find a connection; what is for the listener goes there. */
static uint8_t draw_seat(uint64_t *random, enum act_what what)
{
    if (what == ACT_ACCEPT || what == ACT_ACCEPT_MULTI)
        return 4;
    if (what == ACT_CONNECT)
        return (uint8_t)(5 + draw(random, 2));
    return (uint8_t)(draw(random, 3) ? draw(random, 4) : draw(random, SEATS));
}

static struct act draw_act(uint64_t *random, bool reaction, unsigned later)
{
    struct act act = {.what = draw_what(random, reaction)};
    act.seat = draw_seat(random, act.what);
    act.slot = (uint8_t)draw(random, SLOTS);
    act.way = (uint8_t)draw(random, 256);
    act.amount = acts[act.what].least + draw(random, acts[act.what].most - acts[act.what].least + 1);
    if (act.what == ACT_SEND && draw(random, 10) == 0)
        act.amount *= 150; /* more than a socket takes */
    if (act.what == ACT_RECV_MULTI && draw(random, 3) == 0)
        act.amount = PRO_UNLIMITED;
    if (act.what == ACT_DEADLINE || draw(random, 6) == 0)
        act.lateness = (uint8_t)draw(random, 8);
    if (later < REACTIONS && draw(random, 2))
        act.then = (uint8_t)(later + 1 + draw(random, REACTIONS - later));
    return act;
}

static void draw_sizes(struct script *script, uint64_t *random)
{
    struct pro_config *config = &script->config;
    struct pro_pool_config *pool = &script->pool;
    *config = (struct pro_config)PRO_CONFIG_INIT;
    config->entries = draw(random, 4) ? 0 : 4;
    config->completion_entries = config->entries ? 8 : 0;
    config->turn_completions = draw(random, 3) ? 0 : 1 + draw(random, 8);
    config->turn_bytes = draw(random, 3) ? 0 : 1 + draw(random, 10000);
    config->spin_us = draw(random, 4) ? 0 : 20;
    config->min_wait_us = draw(random, 4) ? 0 : 20;
    config->features_off = draw(random, 3) ? 0 : draw(random, 512);
    *pool = (struct pro_pool_config)PRO_POOL_CONFIG_INIT;
    pool->buffer_size = 256 + draw(random, 2000);
    pool->slab_buffers = 1 + draw(random, 8);
    pool->max_buffers = 2 + draw(random, 40);
    pool->quota_buffers = 1 + draw(random, pool->max_buffers);
}

void script_draw(struct script *script, uint64_t seed)
{
    uint64_t random = seed * 0x9e3779b97f4a7c15u + 1;
    memset(script, 0, sizeof *script);
    script->seed = seed;
    for (unsigned i = 0; i < 8; i++) /* seeds that are near each other begin alike */
        draw(&random, 2);
    draw_sizes(script, &random);
    script->ending = (enum ending)draw(&random, ENDINGS);
    script->count = 20 + draw(&random, MOST_ACTS - 20 + 1);
    for (unsigned i = 0; i < script->count; i++)
        script->acts[i] = draw_act(&random, false, 0);
    for (unsigned i = 0; i < REACTIONS; i++)
        script->reactions[i] = draw_act(&random, true, i + 1);
    script->liberties = (uint16_t)(draw(&random, 3) ? draw(&random, 8000) : 0);
}

static void print_act(const struct script *script, const struct act *act, unsigned depth, FILE *to)
{
    fprintf(to, "%*s%s seat %u, slot %u, way %u, amount %u, lateness %u\n", (int)(4 + 2 * depth), "",
            acts[act->what].name, act->seat, act->slot, act->way, act->amount, act->lateness);
    if (act->then && act->what <= ACT_RELEASE && act->what != ACT_TRY_SEND)
        print_act(script, &script->reactions[act->then - 1], depth + 1, to);
}

void script_print(const struct script *script, FILE *to)
{
    static const char *const endings[] = {"drain", "close", "free"};
    fprintf(to,
            "script of seed %llu, then %s; entries %u, turn %u, bytes %u, features off %llx, spin %u, min wait %u, "
            "pool %u of %u, quota %u, liberties %u\n",
            (unsigned long long)script->seed, endings[script->ending], script->config.entries,
            script->config.turn_completions, script->config.turn_bytes, (unsigned long long)script->config.features_off,
            script->config.spin_us, script->config.min_wait_us, script->pool.max_buffers, script->pool.buffer_size,
            script->pool.quota_buffers, script->liberties);
    for (unsigned i = 0; i < script->count; i++)
        if (script->acts[i].what != ACT_NONE)
            print_act(script, &script->acts[i], 0, to);
}
