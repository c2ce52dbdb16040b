/* SPDX-License-Identifier: MIT */
#include "sim_long.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_day.h"
#include "sim_hand.h"
#include "sim_memory.h"

/* What a kind is given. */
struct task {
    const struct pro_sim_config *config;
    void (*line)(void *context, const char *text);
    struct hits *hits;
    struct sim_result *result;
};

static struct pro_sim_config world_of(const struct task *task)
{
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    config.seed = task->config->seed;
    config.replay = task->config->replay;
    config.socket_buffer = 4096;
    config.audit_every = 1000; /* the pool is large, and it is looked at in the other worlds */
    return config;
}

static const struct service_config limits = {
    .max_frame = 9000,
    .high_water = 64 * 1024,
    .idle_ns = 5 * SECOND,
    .frame_ns = 2 * SECOND,
    .send_ns = 20 * SECOND,
    .drain_ns = 10 * SECOND,
};

/* Adds up a world that has come to its end. */
static void account(const struct task *task, const struct pro_sim_stats *stats)
{
    struct pro_sim_stats *sum = &task->result->stats;
    hits_add_world(task->hits, stats);
    sum->hash = (sum->hash ^ stats->hash) * 0x9e3779b97f4a7c15u;
    sum->events += stats->events;
    sum->steps += stats->steps;
    sum->audits += stats->audits;
}

static void judge(const struct task *task, const struct stage *s, const struct hand *h, bool calm)
{
    task->result->sessions++;
    task->result->bytes += h->got;
    task->result->exact += h->end == HAND_SERVED;
    if (calm && h->end != HAND_SERVED)
        pro_sim_fail(s->sim, "undisturbed, a peer that goes way %d gets %zu bytes of %zu", (int)h->way, h->got,
                     h->owed.size);
}

/* ---- connection_cycles ---- */

/* A peer asks for no more than SMALL bytes at a time, SMALL_FRAMES times: what all of them need together, each a piece
 * of a frame for every frame and a buffer for every answer, is less than the warmth. */
enum { CYCLES = 20000, LOOK_EVERY = 1000, PARALLEL = 8, WARMTH = 64, SMALL = 183, SMALL_FRAMES = 3 };

static void set_cycle_faults(struct stage *s, uint32_t mood)
{
    for (unsigned i = 0; i < PRO_SIM_FAULTS && mood > 0; i++)
        pro_sim_rate(s->sim, i, mood == 1 ? 20 : 200);
    pro_sim_rate(s->sim, PRO_SIM_CLOCK, mood == 2 ? 5 : 0);
}

static enum hand_way choose_way(struct stage *s)
{
    uint32_t way = pro_sim_choose(s->sim, 40);
    if (way == HAND_STAYS)
        return HAND_CLOSES;
    return way < HAND_WAYS ? (enum hand_way)way : way % 2 ? HAND_CLOSES : HAND_SHUTS;
}

/* One visit to each peer, with some time of the world after it. Returns how many have ended. */
static unsigned visit(const struct task *task, struct stage *s, struct hand *hands, bool more, bool calm)
{
    unsigned ended = 0;
    bool moved = false;
    for (unsigned i = 0; i < PARALLEL; i++) {
        struct hand *h = &hands[i];
        if (h->end == HAND_NONE && more && stage_connections(s) < PARALLEL) {
            enum hand_way way = choose_way(s);
            hand_begin(h, s, way, 1 + pro_sim_choose(s->sim, SMALL_FRAMES), SMALL);
        }
        moved |= hand_go_on(h, s);
        if (h->end == HAND_NONE || h->end == HAND_UNDER_WAY)
            continue;
        judge(task, s, h, calm);
        h->end = HAND_NONE;
        ended++;
    }
    stage_run(s, moved ? 10 * MICROSECOND * (1 + pro_sim_choose(s->sim, 4)) : 20 * MILLISECOND);
    return ended;
}

static bool any_hand(const struct hand *hands, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (hands[i].end == HAND_UNDER_WAY)
            return true;
    return false;
}

static void require_progress(struct stage *s, uint64_t rounds)
{
    if (rounds > UINT64_C(100) * LOOK_EVERY)
        pro_sim_fail(s->sim, "connections do not come and go any more");
}

static void play_cycles(const struct task *task)
{
    struct stage s;
    struct pro_sim_config config = world_of(task);
    struct pro_sim_stats stats;
    struct holding first = {0};
    struct service_config small = limits;
    small.max_frame = SMALL; /* a header that announces more is bad, and nothing is set aside for it */
    struct hand *hands = sim_memory_own(PARALLEL * sizeof *hands);
    stage_open(&s, &config, &small, 100000, task->line);
    stage_warm_up(&s, WARMTH);
    uint32_t mood = pro_sim_choose(s.sim, 3);
    for (unsigned cycles = 0, looks = 1; looks <= CYCLES / LOOK_EVERY; looks++) {
        set_cycle_faults(&s, mood);
        for (uint64_t rounds = 0; cycles < looks * LOOK_EVERY || any_hand(hands, PARALLEL);
             require_progress(&s, rounds++))
            cycles += visit(task, &s, hands, cycles < looks * LOOK_EVERY, mood == 0);
        pro_sim_calm(s.sim);
        stage_settle(&s);
        if (looks == 1)
            first = stage_holding(&s);
        holding_require(&s, first, stage_holding(&s), "after thousands of connections");
    }
    hits_add(task->hits, "connection_cycles", task->result->exact);
    stage_close(&s, &stats);
    account(task, &stats);
    free(hands);
}

/* ---- virtual_day ---- */

static void play_day(const struct task *task)
{
    struct stage s;
    struct pro_sim_config config = world_of(task);
    struct pro_sim_stats stats;
    config.latency_ns = 50 * MICROSECOND;
    stage_open(&s, &config, &sim_day_limits, 100000, task->line);
    stage_warm_up(&s, WARMTH);
    task->result->exact = task->result->sessions = sim_day_play(&s);
    hits_add(task->hits, "virtual_day", 1);
    stage_close(&s, &stats);
    account(task, &stats);
}

/* ---- allocation_from_then_on ---- */

enum { LAST_MOST = 24, OLD = 4, NEW = 12, AFTER = 4, ALL = OLD + NEW + AFTER };

/* Everybody goes on until all have ended, or are content; the world has `ns` for that. */
static void go_on(struct stage *s, struct hand *hands, unsigned count, uint64_t ns)
{
    for (uint64_t until = pro_sim_now(s->sim) + ns; pro_sim_now(s->sim) < until;) {
        bool all = true;
        for (unsigned i = 0; i < count; i++) {
            (void)hand_go_on(&hands[i], s);
            all &= hands[i].end != HAND_UNDER_WAY || hand_content(&hands[i]);
        }
        if (all)
            return;
        stage_run(s, 10 * MICROSECOND * (1 + pro_sim_choose(s->sim, 100)));
    }
}

static void begin_some(struct stage *s, struct hand *hands, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        hand_begin(&hands[i], s, HAND_STAYS, 1 + pro_sim_choose(s->sim, 6), limits.max_frame);
}

static void require_content(const struct stage *s, const struct hand *hands, unsigned count, const char *when)
{
    for (unsigned i = 0; i < count; i++)
        if (!hand_content(&hands[i]))
            pro_sim_fail(s->sim, "%s a peer has %zu bytes of %zu", when, hands[i].got, hands[i].owed.size);
}

/* Whoever is still there is served. */
static void ask_again(struct stage *s, struct hand *hands, unsigned count)
{
    bool asked[ALL];
    for (unsigned i = 0; i < count; i++) {
        asked[i] = hand_content(&hands[i]);
        if (asked[i])
            hand_ask(&hands[i], s, 2, limits.max_frame);
    }
    go_on(s, hands, count, 3 * SECOND);
    for (unsigned i = 0; i < count; i++)
        if (asked[i])
            require_content(s, &hands[i], 1, "who has lived through it,");
}

/* After `last` more allocations there is no memory for a while. Without peers of an earlier time the service has not got
 * its first buffers yet. */
static void play_need(const struct task *task, struct hand *hands, unsigned last, unsigned old)
{
    struct stage s;
    struct pro_sim_config config = world_of(task);
    struct pro_sim_stats stats;
    unsigned all = old + NEW + AFTER;
    config.seed += UINT64_C(1000003) * (2 * last + (old > 0));
    stage_open(&s, &config, &limits, 100000, task->line);
    uint64_t descriptors = stage_holding(&s).descriptors;

    begin_some(&s, hands, old);
    go_on(&s, hands, old, 3 * SECOND);
    require_content(&s, hands, old, "undisturbed,");

    s.ration.rationed = true;
    s.ration.left = last;
    begin_some(&s, hands + old, NEW);
    for (unsigned i = 0; i < old; i++)
        hand_ask(&hands[i], &s, 3, limits.max_frame);
    go_on(&s, hands, old + NEW, SECOND / 2);
    hits_add(task->hits, "allocation_from_then_on", s.ration.refused > 0);

    s.ration.rationed = false;
    go_on(&s, hands, old + NEW, 3 * SECOND);
    for (unsigned i = 0; i < old + NEW; i++)
        if (hands[i].end == HAND_UNDER_WAY && !hand_content(&hands[i]))
            pro_sim_fail(s.sim, "a peer of the time without memory is neither served nor told");
    begin_some(&s, hands + old + NEW, AFTER);
    go_on(&s, hands, all, 3 * SECOND);
    require_content(&s, hands + old + NEW, AFTER, "with memory again,");
    ask_again(&s, hands, all);
    for (unsigned i = 0; i < all; i++) {
        if (hands[i].end == HAND_UNDER_WAY)
            hand_close(&hands[i], &s);
        judge(task, &s, &hands[i], false);
    }
    stage_settle(&s);
    if (stage_holding(&s).descriptors != descriptors)
        pro_sim_fail(s.sim, "a descriptor is left of the time without memory");
    stage_close(&s, &stats);
    account(task, &stats);
}

static void play_needs(const struct task *task)
{
    struct hand *hands = sim_memory_own(ALL * sizeof *hands);
    for (unsigned last = 0; last < LAST_MOST; last++)
        for (unsigned old = 0; old <= OLD; old += OLD)
            play_need(task, hands, last, old);
    free(hands);
}

/* ---- All of them ---- */

static const struct {
    const char *name;
    void (*play)(const struct task *task);
} kinds[] = {
    {"connection_cycles", play_cycles},
    {"virtual_day", play_day},
    {"allocation_from_then_on", play_needs},
};

_Static_assert(sizeof kinds / sizeof kinds[0] == SIM_LONG_KINDS, "the header says how many");

const char *sim_long_name(unsigned kind)
{
    return kinds[kind].name;
}

void sim_long_play(unsigned kind, const struct pro_sim_config *config, void (*line)(void *context, const char *text),
                   struct hits *hits, struct sim_result *ret_result)
{
    struct task task = {config, line, hits, ret_result};
    *ret_result = (struct sim_result){0};
    kinds[kind].play(&task);
}
