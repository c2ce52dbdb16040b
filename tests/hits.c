/* SPDX-License-Identifier: MIT */
#include "hits.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault_kinds.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static_assert(COUNT(fault_kinds) <= HITS_MOST, "there are more kinds than counters");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a counter that takes a lock cannot be shared by processes");

const struct hits_table hits_docs = {fault_kinds, COUNT(fault_kinds), played_kinds, COUNT(played_kinds)};

/* The place of a name, or -1. */
static int find(const char *const *names, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

static unsigned place(const struct hits *hits, const char *kind)
{
    int i = find(hits->table->kinds, hits->table->count, kind);
    if (i >= 0)
        return (unsigned)i;
    fprintf(stderr, "hits: docs/faults.md knows no kind '%s'\n", kind);
    abort();
}

void hits_init(struct hits *hits, const struct hits_table *table)
{
    assert(table->count <= HITS_MOST);
    hits->table = table;
    for (unsigned i = 0; i < HITS_MOST; i++)
        atomic_init(&hits->counts[i], 0);
}

void hits_add(struct hits *hits, const char *kind, uint64_t count)
{
    atomic_fetch_add_explicit(&hits->counts[place(hits, kind)], count, memory_order_relaxed);
}

void hits_add_world(struct hits *hits, const struct pro_sim_stats *stats)
{
    for (int fault = 0; fault < PRO_SIM_FAULTS; fault++)
        hits_add(hits, pro_sim_fault_name((enum pro_sim_fault)fault), stats->hits[fault]);
}

void hits_merge(struct hits *hits, const struct hits *from)
{
    assert(hits->table == from->table);
    for (unsigned i = 0; i < from->table->count; i++)
        atomic_fetch_add_explicit(&hits->counts[i], atomic_load(&from->counts[i]), memory_order_relaxed);
}

uint64_t hits_of(const struct hits *hits, const char *kind)
{
    return atomic_load(&hits->counts[place(hits, kind)]);
}

void hits_print(const struct hits *hits)
{
    for (unsigned i = 0; i < hits->table->count; i++)
        printf("%-24s %12" PRIu64 "\n", hits->table->kinds[i], atomic_load(&hits->counts[i]));
}

unsigned hits_missing(const struct hits *hits)
{
    unsigned missing = 0;
    for (unsigned i = 0; i < hits->table->count; i++) {
        if (atomic_load(&hits->counts[i]) > 0)
            continue;
        fprintf(stderr, "hits: '%s' was never met\n", hits->table->kinds[i]);
        missing++;
    }
    return missing;
}

static bool is_world_fault(const char *kind)
{
    for (int fault = 0; fault < PRO_SIM_FAULTS; fault++)
        if (strcmp(pro_sim_fault_name((enum pro_sim_fault)fault), kind) == 0)
            return true;
    return false;
}

unsigned hits_misnamed(const struct hits_table *table)
{
    unsigned wrong = 0;
    for (int fault = 0; fault < PRO_SIM_FAULTS; fault++) {
        const char *name = pro_sim_fault_name((enum pro_sim_fault)fault);
        if (find(table->kinds, table->count, name) >= 0)
            continue;
        fprintf(stderr, "hits: the world's fault '%s' is not in docs/faults.md\n", name);
        wrong++;
    }
    for (unsigned i = 0; i < table->count; i++) {
        const char *kind = table->kinds[i];
        bool world = is_world_fault(kind), played = find(table->played, table->played_count, kind) >= 0;
        if (world != played && find(table->kinds, i, kind) < 0)
            continue;
        fprintf(stderr, "hits: '%s' is %s\n", kind,
                world && played   ? "a fault of the world, and played"
                : world || played ? "there twice"
                                  : "neither a fault of the world nor played");
        wrong++;
    }
    return wrong;
}
