/* SPDX-License-Identifier: MIT
 *
 * The simulation, many times over: every seed is a world (sim_world.c), and all of them together must meet every kind of
 * fault that docs/faults.md names.
 *
 *      sim --seeds 10000            seeds 1 to 10000, on as many processes as there are processors
 *      sim --seed 4711 --trace      one seed, event by event
 *      sim --idle 1000000           a million idle connections
 *
 * A seed that fails ends its process with the last events and the line that plays it again; the others end too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim_idle.h"
#include "sim_long.h"
#include "sim_world.h"

enum { MOST_JOBS = 64, MOST_IDLE = 100000000 };

struct options {
    uint64_t first, count, idle;
    unsigned jobs;
    unsigned kind; /* of a single world: one of sim_long.h, or SEED */
    bool trace, twice, hits;
};

/* The long worlds have the seeds of the first few of so many. */
enum { LONG_EVERY = 200, SEED = SIM_LONG_KINDS };

/* Shared by all processes. */
struct totals {
    struct hits hits;
    _Atomic uint64_t worlds, sessions, exact, bytes, events, hash;
    _Atomic uint64_t long_worlds, long_sessions, long_events;
    uint64_t seed[MOST_JOBS]; /* that each process is at, ... */
    unsigned kind[MOST_JOBS]; /* ... and in what kind of world */
};

static const char *program;

static void usage(FILE *to)
{
    fprintf(to, "usage: sim [--seeds N] [--first N] [--jobs N] [--twice]\n"
                "       sim --seed N [--long KIND] [--trace]\n"
                "       sim --idle N\n"
                "  --seeds N   that many worlds (default 1000); every kind of fault must be met\n"
                "  --first N   the first seed (default 1)\n"
                "  --jobs N    processes (default: the processors)\n"
                "  --twice     play each seed twice; the traces must be the same\n"
                "  --seed N    this world only\n"
                "  --long KIND one that takes long: connection_cycles, virtual_day, allocation_from_then_on\n"
                "  --trace     print every event\n"
                "  --idle N    so many idle connections of the service in one world, and what each costs\n");
}

static void print_line(void *context, const char *text)
{
    puts(text);
}

/* What plays one world again. */
static void replay_line(uint64_t seed, unsigned kind, char *out, size_t size)
{
    bool is_long = kind < SIM_LONG_KINDS;
    snprintf(out, size, "%s --seed %llu%s%s --trace", program, (unsigned long long)seed, is_long ? " --long " : "",
             is_long ? sim_long_name(kind) : "");
}

static void play_seed(const struct options *o, struct pro_sim_config *config, struct hits *hits,
                      struct sim_result *ret_result)
{
    config->latency_ns = config->seed % 4 * 50000;
    config->jitter_ns = config->seed % 3 * 300000;
    config->socket_buffer = 1024u << config->seed % 8;
    struct sim_plan plan = {
        .config = config, .sessions = SIM_LEAST_SESSIONS, .events = SIM_LEAST_EVENTS, .acts = true, .hits = hits};
    plan.line = o->trace ? print_line : NULL;
    sim_world_play(&plan, ret_result);
    if (ret_result->sessions < SIM_LEAST_SESSIONS || ret_result->stats.events < SIM_LEAST_EVENTS) {
        fprintf(stderr, "seed %llu: %u sessions, %llu events\n", (unsigned long long)config->seed, ret_result->sessions,
                (unsigned long long)ret_result->stats.events);
        exit(1);
    }
}

static void play(const struct options *o, uint64_t seed, unsigned kind, struct hits *hits,
                 struct sim_result *ret_result)
{
    char replay[512];
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    replay_line(seed, kind, replay, sizeof replay);
    config.seed = seed;
    config.replay = replay;
    if (kind < SIM_LONG_KINDS)
        sim_long_play(kind, &config, o->trace ? print_line : NULL, hits, ret_result);
    else
        play_seed(o, &config, hits, ret_result);
}

/* As often as was asked for. */
static void play_world(const struct options *o, unsigned job, uint64_t seed, unsigned kind, struct totals *totals,
                       struct sim_result *ret_result)
{
    struct sim_result again;
    totals->seed[job] = seed;
    totals->kind[job] = kind;
    play(o, seed, kind, &totals->hits, ret_result);
    totals->hash += ret_result->stats.hash ^ (seed + kind * UINT64_C(1000000007)) * 0x9e3779b97f4a7c15u;
    if (!o->twice)
        return;
    play(o, seed, kind, &totals->hits, &again);
    if (again.stats.hash != ret_result->stats.hash) {
        fprintf(stderr, "seed %llu gives two different traces\n", (unsigned long long)seed);
        exit(1);
    }
}

static void work(const struct options *o, unsigned job, struct totals *totals)
{
    for (uint64_t i = job; i < o->count; i += o->jobs) {
        struct sim_result result;
        play_world(o, job, o->first + i, SEED, totals, &result);
        totals->worlds++;
        totals->sessions += result.sessions;
        totals->exact += result.exact;
        totals->bytes += result.bytes;
        totals->events += result.stats.events;
        if (i % LONG_EVERY >= SIM_LONG_KINDS)
            continue;
        play_world(o, job, o->first + i, (unsigned)(i % LONG_EVERY), totals, &result);
        totals->long_worlds++;
        totals->long_sessions += result.sessions;
        totals->long_events += result.stats.events;
    }
}

static int run_jobs(const struct options *o, struct totals *totals)
{
    pid_t pids[MOST_JOBS];
    char replay[512];
    int status, failed = 0;
    fflush(NULL);
    for (unsigned job = 0; job < o->jobs; job++) {
        pids[job] = fork();
        if (pids[job] < 0)
            return -errno;
        if (pids[job] == 0) {
            work(o, job, totals);
            _exit(0);
        }
    }
    for (unsigned job = 0; job < o->jobs; job++) {
        if (waitpid(pids[job], &status, 0) < 0 || status == 0)
            continue;
        replay_line(totals->seed[job], totals->kind[job], replay, sizeof replay);
        fprintf(stderr, "sim: seed %llu has failed; play it again with: %s\n", (unsigned long long)totals->seed[job],
                replay);
        failed++;
    }
    return failed;
}

static double seconds(const struct timespec *from, const struct timespec *to)
{
    return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

static int run_seeds(const struct options *o)
{
    struct timespec begin, end;
    struct totals *totals = mmap(NULL, sizeof *totals, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (totals == MAP_FAILED)
        return 1;
    hits_init(&totals->hits, &hits_docs);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int failed = run_jobs(o, totals);
    clock_gettime(CLOCK_MONOTONIC, &end);
    hits_print(&totals->hits);
    printf("%llu worlds, %llu sessions (%llu of them checked to the last byte), %llu bytes of answers, %llu events\n",
           (unsigned long long)totals->worlds, (unsigned long long)totals->sessions, (unsigned long long)totals->exact,
           (unsigned long long)totals->bytes, (unsigned long long)totals->events);
    printf("%llu long worlds, %llu sessions in them, %llu events\n", (unsigned long long)totals->long_worlds,
           (unsigned long long)totals->long_sessions, (unsigned long long)totals->long_events);
    printf("hash %016llx of seeds %llu to %llu\n", (unsigned long long)totals->hash, (unsigned long long)o->first,
           (unsigned long long)(o->first + o->count - 1));
    printf("%.1f s, %.0f sessions a second\n", seconds(&begin, &end), (double)totals->sessions / seconds(&begin, &end));
    if (failed != 0)
        fprintf(stderr, "%d of %u processes failed\n", failed, o->jobs);
    return failed != 0 || (o->hits && hits_missing(&totals->hits) > 0);
}

static int run_one(const struct options *o)
{
    static struct hits hits;
    struct sim_result result;
    hits_init(&hits, &hits_docs);
    play(o, o->first, o->kind, &hits, &result);
    printf("seed %llu: %u sessions, %llu events, hash %016llx\n", (unsigned long long)o->first, result.sessions,
           (unsigned long long)result.stats.events, (unsigned long long)result.stats.hash);
    return 0;
}

static int run_idle(const struct options *o)
{
    char replay[512];
    snprintf(replay, sizeof replay, "%s --idle %llu --trace", program, (unsigned long long)o->idle);
    return sim_idle((uint32_t)o->idle, replay, o->trace ? print_line : NULL);
}

static bool kind_named(const char *text, unsigned *ret)
{
    for (*ret = 0; *ret < SIM_LONG_KINDS; ++*ret)
        if (text && strcmp(text, sim_long_name(*ret)) == 0)
            return true;
    return false;
}

static bool number(const char *text, uint64_t *ret)
{
    char *end;
    if (!text)
        return false;
    *ret = strtoull(text, &end, 10);
    return end != text && !*end;
}

int main(int argc, char **argv)
{
    struct options o = {
        .first = 1, .count = 1000, .jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN), .kind = SEED, .hits = true};
    uint64_t jobs = o.jobs;
    bool one = false, ok = true;
    program = argv[0];
    for (int i = 1; i < argc && ok; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            o.trace = true;
        else if (strcmp(argv[i], "--twice") == 0)
            o.twice = true;
        else if (strcmp(argv[i], "--seeds") == 0)
            ok = number(argv[++i], &o.count);
        else if (strcmp(argv[i], "--first") == 0)
            ok = number(argv[++i], &o.first);
        else if (strcmp(argv[i], "--idle") == 0)
            ok = number(argv[++i], &o.idle) && o.idle > 0 && o.idle <= MOST_IDLE;
        else if (strcmp(argv[i], "--jobs") == 0)
            ok = number(argv[++i], &jobs);
        else if (strcmp(argv[i], "--long") == 0)
            one = ok = kind_named(argv[++i], &o.kind);
        else if (strcmp(argv[i], "--seed") == 0)
            one = ok = number(argv[++i], &o.first);
        else
            ok = false;
    }
    o.jobs = jobs < MOST_JOBS ? (unsigned)jobs : MOST_JOBS;
    if (!ok || o.count == 0 || o.jobs == 0) {
        usage(stderr);
        return 2;
    }
    if (o.idle > 0)
        return run_idle(&o);
    return one ? run_one(&o) : run_seeds(&o);
}
