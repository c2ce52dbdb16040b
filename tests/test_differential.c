/* SPDX-License-Identifier: MIT
 *
 * Random scripts on this backend: the judge, who knows the contract and no backend, accepts what they saw. And he is
 * shown to be awake.
 *
 * DIFF_SEED=N begins with that seed, DIFF_TRACE=1 prints events as they happen, STRESS scales the number of seeds. */
#include "mutation.h"
#include "tally.h"

#include <stdlib.h>
#include <string.h>

enum {
    SEEDS = 1000,
    LIE_SEEDS = 300,
    OFTEN = 20, /* a lie has been told */
    MOST_LIES = 64,
    LEAST = 2,   /* of everything that can happen, in SEEDS */
    SHOWN = 120, /* events of a history that is rejected */
};

static uint64_t first_seed(void)
{
    const char *seed = getenv("DIFF_SEED");
    return seed ? strtoull(seed, NULL, 10) : 1;
}

static struct history run(struct world *w, struct script *script, uint64_t seed)
{
    static char note[64];
    struct history h = {0};
    snprintf(note, sizeof note, "DIFF_SEED=%llu", (unsigned long long)seed);
    world_note(w, note);
    world_alive();
    script_draw(script, seed);
    script_run(script, w, &h);
    return h;
}

static void show(const struct script *script, const struct history *h, struct verdict v)
{
    size_t first = v.event > SHOWN ? v.event - SHOWN : 0;
    script_print(script, stderr);
    history_print(h, first, v.event + 3 - first, stderr);
    print_error("DIFF_SEED=%llu: event %zu: %s: %s\n", (unsigned long long)script->seed, v.event, v.rule, v.complaint);
}

static void script_when_run_is_accepted(void **state)
{
    struct world *w = *state;
    struct tally tally = {0};
    struct script *script = world_alloc(w, sizeof *script);
    unsigned long seeds = stress(SEEDS);
    for (unsigned long i = 0; i < seeds; i++) {
        struct history h = run(w, script, first_seed() + i);
        struct verdict v = model_judge(&h);
        if (v.rule)
            show(script, &h, v);
        tally_add(&tally, script, &h);
        history_free(&h);
        assert_null(v.rule);
    }
    world_note(w, NULL);
    tally_print(&tally, stdout);
    const char *lacks = seeds < SEEDS ? NULL : tally_lacks(&tally, LEAST);
    if (lacks)
        print_error("there is too little of: %s\n", lacks);
    assert_null(lacks);
}

/* Tells the lie at one place of the history, if there is one; where the search for it begins is the seed's choice. */
static bool is_told(const struct mutation *lie, const struct script *script, const struct history *h)
{
    struct history changed = history_copy(h);
    size_t tried = 0;
    while (tried < h->count && !lie->change(&changed, (script->seed * 7919 + tried) % h->count))
        tried++;
    bool told = tried < h->count;
    struct verdict v = told ? model_judge(&changed) : (struct verdict){lie->rule, NULL, 0};
    bool named = v.rule && strcmp(v.rule, lie->rule) == 0;
    if (!named) {
        history_print(&changed, 0, changed.count, stderr);
        print_error("DIFF_SEED=%llu: \"%s\" is to break %s, and the judge says at event %zu: %s\n",
                    (unsigned long long)script->seed, lie->how, lie->rule, v.event, v.rule ? v.rule : "nothing");
    }
    history_free(&changed);
    assert_true(named);
    return told;
}

static void history_when_changed_is_rejected(void **state)
{
    struct world *w = *state;
    struct script *script = world_alloc(w, sizeof *script);
    unsigned told[MOST_LIES] = {0};
    assert_null(mutation(MOST_LIES));
    for (unsigned long i = 0; i < LIE_SEEDS; i++) {
        struct history h = run(w, script, first_seed() + i);
        for (unsigned lie = 0; mutation(lie); lie++)
            if (told[lie] < OFTEN)
                told[lie] += is_told(mutation(lie), script, &h);
        history_free(&h);
    }
    world_note(w, NULL);
    for (unsigned lie = 0; mutation(lie); lie++) {
        printf("%-36s %-44s %u\n", mutation(lie)->rule, mutation(lie)->how, told[lie]);
        assert_true(told[lie] > 0);
    }
}

static void rule_has_a_lie_that_breaks_it(void **state)
{
    for (unsigned rule = 0; model_rule(rule); rule++) {
        unsigned lies = 0;
        for (unsigned lie = 0; mutation(lie); lie++)
            lies += strcmp(mutation(lie)->rule, model_rule(rule)) == 0;
        if (lies == 0)
            print_error("nothing breaks %s\n", model_rule(rule));
        assert_true(lies > 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(script_when_run_is_accepted),
        TEST_BARE(history_when_changed_is_rejected),
        TEST_BARE(rule_has_a_lie_that_breaks_it),
    };
    return RUN(tests);
}
