/* SPDX-License-Identifier: MIT
 *
 * The exhaustive scenarios: races of a few operations, each walked through every history there is within its bounds.
 *
 * A history is a sequence of choices: which of the things that can happen does, how many of them a turn sees, whether a
 * fault strikes, and which player acts: the far end of a connection, and the program itself, between any two steps of
 * the world and, where the scenario says so, inside continuations. So what a cancel or a close meets is, in one history
 * or another, everything that it can meet. The world checks its ledgers after each step; the scenario checks what the
 * program sees against the contract in <proactor.h>; and at the end nothing may be left.
 *
 *      walk                                    all of them; one line each
 *      walk --list                             their names
 *      walk --only NAME                        one
 *      walk --faults N                         with at most N faults each
 *      walk --only NAME --trace --history H    one history again, told event by event
 *
 * A history that fails ends the program by abort(), after the line that replays it.
 */
#include "walk.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const struct scenario *const tables[] = {walk_cancel, walk_connect, walk_send, walk_multi,
                                                walk_pool,   walk_close,   walk_loop, walk_stream};

struct options {
    const char *program, *only, *history;
    uint32_t faults;
    bool trace, list;
};

/* What failed() needs to know. */
static struct pro_sim_walk *walk;
static const struct scenario *walked;

/* An assertion, a sanitizer or the world itself has found something. Nothing else of this process goes on. */
static void failed(int signal)
{
    char text[4300], history[4096];
    pro_sim_walk_history(walk, history, sizeof history);
    int n = snprintf(text, sizeof text, "walk: FAILED: %s, history %s\nwalk: it was history number %llu\n",
                     walked->name, history, (unsigned long long)pro_sim_walk_count(walk));
    if (write(STDERR_FILENO, text, (size_t)n) != n)
        _exit(3);
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    raise(signal);
}

static void trace_line(void *context, const char *text)
{
    printf("%s\n", text);
}

static uint32_t fault_budget(const struct scenario *s, const struct options *options)
{
    return s->faults < options->faults ? s->faults : options->faults;
}

static void play_history(const struct scenario *s, const struct options *options, const char *replay)
{
    struct play p = {.scenario = s};
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    config.front = PRO_SIM_WALK;
    config.walk = walk;
    config.fault_budget = fault_budget(s, options);
    config.socket_buffer = s->socket_buffer;
    config.latency_ns = s->latency_ns;
    config.replay = replay;
    struct scenario calm = *s;
    if (config.fault_budget == 0) {
        calm.kinds = 0;
        p.scenario = &calm;
    }
    if (p.scenario->kinds & FAULT(ONE_SHOT))
        config.rates[PRO_SIM_ONE_SHOT] = 1;
    if (pro_sim_new(&config, &p.sim) < 0)
        abort();
    if (options->trace)
        pro_sim_trace(p.sim, trace_line, NULL);
    p.loop = play_loop(&p);
    s->body(&p);
    pro_sim_free(p.sim);
}

static void print_kinds(const struct scenario *s)
{
    const char *before = " of ";
    for (unsigned fault = 0; fault < PRO_SIM_FAULTS; fault++) {
        if (!(s->kinds >> fault & 1))
            continue;
        printf("%s%s", before, pro_sim_fault_name((enum pro_sim_fault)fault));
        before = ", ";
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool walk_scenario(const struct scenario *s, const struct options *options)
{
    char replay[512];
    uint32_t faults = fault_budget(s, options);
    double begun = seconds();
    snprintf(replay, sizeof replay, "%s --faults %u --only %s --trace --history", options->program, faults, s->name);
    walked = s;
    walk = pro_sim_walk_new();
    if (!walk)
        abort();
    if (options->history && !pro_sim_walk_only(walk, options->history)) {
        fprintf(stderr, "%s: no history: %s\n", options->program, options->history);
        return false;
    }
    while (pro_sim_walk_next(walk))
        play_history(s, options, replay);
    printf("%s: %llu histories, %s (bounds: %s; %u faults", s->name, (unsigned long long)pro_sim_walk_count(walk),
           options->history ? "one chosen" : "complete", s->bounds, faults);
    if (faults > 0)
        print_kinds(s);
    printf(") in %.2f s of CPU time\n", seconds() - begun);
    fflush(stdout);
    pro_sim_walk_free(walk);
    walk = NULL;
    return true;
}

static bool number(const char *text, uint32_t *ret_number)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end || value > UINT32_MAX)
        return false;
    *ret_number = (uint32_t)value;
    return true;
}

static bool parse(int argc, char **argv, struct options *options)
{
    options->program = argv[0];
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            options->trace = true;
            continue;
        }
        if (strcmp(argv[i], "--list") == 0) {
            options->list = true;
            continue;
        }
        if (!value)
            return false;
        if (strcmp(argv[i], "--only") == 0)
            options->only = value;
        else if (strcmp(argv[i], "--history") == 0)
            options->history = value;
        else if (strcmp(argv[i], "--faults") != 0 || !number(value, &options->faults))
            return false;
        i++;
    }
    return options->only || !options->history;
}

int main(int argc, char **argv)
{
    struct options options = {.faults = UINT32_MAX};
    struct sigaction action = {.sa_handler = failed};
    unsigned walks = 0;
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s [--list] [--only NAME] [--faults N] [--trace] [--history 0.1.2]\n", argv[0]);
        return 2;
    }
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (const struct scenario *s = tables[t]; s->name; s++) {
            if (options.only && strcmp(options.only, s->name) != 0)
                continue;
            walks++;
            if (options.list)
                puts(s->name);
            else if (!walk_scenario(s, &options))
                return 2;
        }
    }
    if (walks == 0)
        fprintf(stderr, "%s: no such scenario: %s\n", argv[0], options.only);
    return walks == 0 ? 2 : 0;
}
