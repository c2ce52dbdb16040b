/* SPDX-License-Identifier: MIT
 *
 * How often each kind of fault was met: a counter for every kind that docs/faults.md names.
 *
 *      static struct hits hits;                        or in memory that worker processes share (MAP_SHARED)
 *      hits_init(&hits, &hits_docs);
 *      hits_add(&hits, "never_reads", 1);              what the test program plays itself
 *      hits_add_world(&hits, &stats);                  what a world counted, when it has come to its end
 *      hits_print(&hits);
 *      return hits_missing(&hits) > 0;
 *
 * A counter is added to in one step, so processes that share them need no lock and no pipe. */
#ifndef TESTS_HITS_H
#define TESTS_HITS_H

#include <stdatomic.h>
#include <stdint.h>

#include <proactor/sim.h>

enum { HITS_MOST = 128 };

/* The kinds, and those of them that no world counts because the test program plays them. */
struct hits_table {
    const char *const *kinds;
    unsigned count;
    const char *const *played;
    unsigned played_count;
};

/* The tables of docs/faults.md. */
extern const struct hits_table hits_docs;

struct hits {
    const struct hits_table *table;
    _Atomic uint64_t counts[HITS_MOST]; /* in the order of the table */
};

/* All counters are 0. Before other processes are forked. */
void hits_init(struct hits *hits, const struct hits_table *table);

/* Aborts on a name that is not in the table: a kind that nobody asks for is a mistake of the program or of the docs. */
void hits_add(struct hits *hits, const char *kind, uint64_t count);
/* Everything that a world has counted. */
void hits_add_world(struct hits *hits, const struct pro_sim_stats *stats);
/* The counters of another part of the program, which has the same table. */
void hits_merge(struct hits *hits, const struct hits *from);
uint64_t hits_of(const struct hits *hits, const char *kind);

/* One line a kind, on standard output. */
void hits_print(const struct hits *hits);
/* How many kinds were never met; names each on standard error. */
unsigned hits_missing(const struct hits *hits);

/* How many names are wrong; says so of each on standard error. Every fault of enum pro_sim_fault is in the table, every
 * kind is either one of those or played, and none is there twice. */
unsigned hits_misnamed(const struct hits_table *table);

#endif
