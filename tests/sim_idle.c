/* SPDX-License-Identifier: MIT
 *
 * The memory of the loop and the service is counted by their allocator, as it was asked for; what a heap adds is not in
 * it. The fixed part is what there is without a connection: the loop, the listener, and the pool with as many buffers
 * as are ever needed together, for peers come, and ask, no more than so many at a time. It is the same before the first
 * and after the last, to the byte. The rest is the connections'. */
#include "sim_idle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim_hand.h"
#include "sim_memory.h"

enum { AT_ONCE = 256, ONCE_MORE = 1000, MOST_BYTES = 512 };

static const struct service_config limits = {
    .max_frame = 10000,
    .high_water = 256 * 1024,
    .idle_ns = SECOND * 24 * 3600, /* nobody is to go before all have come */
    .frame_ns = 10 * SECOND,
    .send_ns = 30 * SECOND,
};

struct crowd {
    struct stage stage;
    uint32_t count;
    int *fds;
};

/* What is in use. */
struct use {
    uint64_t user, world;
};

static struct use in_use(const struct crowd *c)
{
    struct pro_sim_stats stats;
    pro_sim_stats(c->stage.sim, &stats, sizeof stats);
    return (struct use){stage_holding(&c->stage).bytes, stats.world_bytes};
}

static void require_open(const struct crowd *c, uint64_t count)
{
    if (stage_connections(&c->stage) != count)
        pro_sim_fail(c->stage.sim, "the service has %" PRIu64 " connections, and it should be %" PRIu64,
                     stage_connections(&c->stage), count);
}

static void come(struct crowd *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        c->fds[i] = pro_sim_connect(c->stage.sim, (struct sockaddr *)&c->stage.at, sizeof c->stage.at);
        if (i % AT_ONCE == AT_ONCE - 1)
            stage_run(&c->stage, MILLISECOND);
    }
    stage_run(&c->stage, SECOND);
    require_open(c, c->count);
}

static void require_answer(const struct crowd *c, int fd)
{
    static const char answer[] = "00005olleh";
    char got[sizeof answer] = "";
    int n = pro_sim_read(c->stage.sim, fd, got, sizeof got);
    if (n != (int)strlen(answer) || memcmp(got, answer, strlen(answer)) != 0)
        pro_sim_fail(c->stage.sim, "a connection among many is answered by %d bytes, '%.*s'", n, n > 0 ? n : 0, got);
}

/* Each of these asks and is answered. */
static void serve(struct crowd *c, const int *fds, uint32_t count)
{
    static const char request[] = "00005hello";
    for (uint32_t from = 0; from < count; from += AT_ONCE) {
        uint32_t to = count - from < AT_ONCE ? count : from + AT_ONCE;
        for (uint32_t i = from; i < to; i++)
            if (pro_sim_write(c->stage.sim, fds[i], request, strlen(request)) != (int)strlen(request))
                pro_sim_fail(c->stage.sim, "a connection among many takes no request");
        stage_run(&c->stage, MILLISECOND);
        for (uint32_t i = from; i < to; i++)
            require_answer(c, fds[i]);
    }
}

static void serve_some(struct crowd *c)
{
    int some[ONCE_MORE];
    uint32_t count = c->count < ONCE_MORE ? c->count : ONCE_MORE;
    uint32_t step = c->count / count; /* one of each so many, so that none is asked twice */
    for (uint32_t i = 0; i < count; i++)
        some[i] = c->fds[i * step + pro_sim_choose(c->stage.sim, step)];
    serve(c, some, count);
}

/* Half of them leave; of the others the service takes its leave. */
static void leave(struct crowd *c)
{
    uint32_t half = c->count / 2;
    for (uint32_t i = 0; i < half; i++) {
        pro_sim_close(c->stage.sim, c->fds[i]);
        if (i % AT_ONCE == 0)
            stage_run(&c->stage, MILLISECOND);
    }
    stage_run(&c->stage, SECOND);
    require_open(c, c->count - half);
    const struct pro_allocator *before = sim_memory_use(&c->stage.memory);
    service_drain(c->stage.service);
    (void)sim_memory_use(before);
    stage_run(&c->stage, SECOND);
    for (uint32_t i = half; i < c->count; i++) {
        char byte;
        if (pro_sim_read(c->stage.sim, c->fds[i], &byte, 1) != 0)
            pro_sim_fail(c->stage.sim, "the service is drained, and a connection does not end");
        pro_sim_close(c->stage.sim, c->fds[i]);
    }
    stage_run(&c->stage, SECOND);
    require_open(c, 0);
}

static void print(const struct crowd *c, const char *what, struct use used, struct use fixed, double seconds)
{
    printf("%" PRIu32 " idle connections%s: %.1f bytes of user memory each (fixed part %" PRIu64
           " bytes), the world's own %.1f bytes each, in %.1f s\n",
           c->count, what, (double)(used.user - fixed.user) / c->count, fixed.user,
           (double)(used.world - fixed.world) / c->count, seconds);
}

static double seconds_since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

int sim_idle(uint32_t count, const char *replay, void (*line)(void *context, const char *text))
{
    struct crowd c = {.count = count, .fds = sim_memory_own(count * sizeof *c.fds)};
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    struct pro_sim_stats stats;
    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    config.seed = 1;
    config.replay = replay;
    config.socket_buffer = 4096;
    config.descriptors = 2 * count + 4 * AT_ONCE;
    config.audit_every = 4 * count + 64; /* a look at everything takes time with their number; below there are some */
    stage_open(&c.stage, &config, &limits, count > AT_ONCE ? count : AT_ONCE, line);
    stage_warm_up(&c.stage, AT_ONCE);
    struct use empty = in_use(&c);
    come(&c);
    pro_sim_audit(c.stage.sim);
    struct use silent = in_use(&c);
    double came = seconds_since(&begin);
    serve(&c, c.fds, count);
    pro_sim_audit(c.stage.sim);
    struct use served = in_use(&c);
    double idled = seconds_since(&begin);
    serve_some(&c);
    leave(&c);
    if (in_use(&c).user != empty.user)
        pro_sim_fail(c.stage.sim, "without connections %" PRIu64 " bytes are in use, and it was %" PRIu64,
                     in_use(&c).user, empty.user);
    print(&c, "", served, empty, idled);
    print(&c, " that never sent", silent, empty, came);
    stage_close(&c.stage, &stats);
    printf("%" PRIu64 " events, hash %016" PRIx64 ", in %.1f s\n", stats.events, stats.hash, seconds_since(&begin));
    free(c.fds);
    if ((served.user - empty.user) / count < MOST_BYTES && (silent.user - empty.user) / count < MOST_BYTES)
        return 0;
    fprintf(stderr, "an idle connection may cost less than %d bytes\n", MOST_BYTES);
    return 1;
}
