/* SPDX-License-Identifier: MIT
 *
 * The simulated world: its clock, what happens in it and in which order, its faults, trace and ledgers. Sockets and files
 * are sim_net.h, the seam to the loops is backend_sim.c.
 *
 *      things that can happen now ----- choice ---> one of them happens: a step
 *          ^            ^                               |
 *          |  due       '-------- makes others possible-'
 *      things of a later time
 */
#ifndef PROI_SIM_WORLD_H
#define PROI_SIM_WORLD_H

#include <proactor/sim.h>

#include "check.h"
#include "sim_choice.h"

/* A thing that may happen: part of a request, a connection, … */
struct sim_action {
    void (*run)(struct pro_sim *sim, struct sim_action *action);
    uint64_t at, serial;
    uint32_t place; /* in the heap of later ones, from 1; SIM_IDLE or SIM_READY */
};
#define SIM_IDLE  0u
#define SIM_READY UINT32_MAX

/* Numbers of the trace's lines; sim_world.c has their texts. */
enum sim_event {
    SIM_E_FAULT,
    SIM_E_TIME,
    SIM_E_STILL,
    SIM_E_START,
    SIM_E_CANCEL,
    SIM_E_TURN,
    SIM_E_RESULT,
    SIM_E_EVENT,
    SIM_E_CANCELLED,
    SIM_E_OPEN,
    SIM_E_CLOSE,
    SIM_E_SEND,
    SIM_E_RECV,
    SIM_E_ARRIVE,
    SIM_E_END,
    SIM_E_RESET,
    SIM_E_CONNECT,
    SIM_E_CONNECTED,
    SIM_E_REFUSED,
    SIM_E_ACCEPT,
    SIM_E_LOOP,
    SIM_E_LOOP_GONE,
    SIM_E_DROP,
    SIM_E_NOTE,
    SIM_EVENTS,
};

/* A loop of the world, as backend_sim.c keeps it. */
struct sim_loop {
    struct pro_loop *loop;
    struct sim_loop *next;
    uint32_t number;
    uint64_t due; /* when its next turn is, if nothing happens before */
};

struct sim_record {
    uint64_t at;
    int64_t a, b, c;
    enum sim_event event;
    char text[48]; /* of a note */
};

enum { SIM_RECORDS = 128 };

struct pro_sim {
    struct pro_allocator allocator;
    struct proi_choice choice;
    uint64_t now;
    uint64_t latency, jitter;
    struct sim_action **heap; /* by time, then serial; from 1 on */
    uint32_t heap_count, heap_room;
    struct sim_action **ready; /* a ring, the oldest first */
    uint32_t ready_first, ready_count, ready_room;
    uint64_t serial;
    struct sim_loop *loops;
    uint32_t loops_made, requests_made;
    bool deep; /* a loop takes its turn from inside a step */
    struct sim_net *net;
    uint16_t rates[PRO_SIM_FAULTS];
    uint32_t fault_budget;
    bool fault_limited;
    uint64_t memory_limit;
    uint32_t audit_every;
    struct pro_sim_stats stats;
    void (*trace)(void *context, const char *line);
    void *trace_context;
    const char *replay;
    struct sim_record records[SIM_RECORDS];
};

/* ---- Things that happen ---- */

/* Now, and at a time; without effect if it is to happen already. And not at all. */
void proi_sim_soon(struct pro_sim *sim, struct sim_action *action);
void proi_sim_later(struct pro_sim *sim, struct sim_action *action, uint64_t at);
void proi_sim_never(struct pro_sim *sim, struct sim_action *action);

/* One step, and if nothing can happen now the clock goes on to the next thing, but not beyond `until`. False: it came
 * to that. Loops that are due take turns, except those that are running. */
bool proi_sim_step(struct pro_sim *sim, uint64_t until);
/* Whether a step could be made without the clock going on. */
bool proi_sim_busy(const struct pro_sim *sim);
/* The clock goes on, and what is due becomes possible. */
void proi_sim_pass(struct pro_sim *sim, uint64_t ns);
/* How long something takes to cross the network. */
uint64_t proi_sim_latency(struct pro_sim *sim);

/* backend_sim.c: whether the loop has something to do now; and one turn of it. */
bool proi_sim_loop_due(const struct sim_loop *base, uint64_t now);
int proi_sim_loop_turn(struct sim_loop *base);
bool proi_sim_loop_alive(const struct sim_loop *base);
bool proi_sim_loop_running(const struct sim_loop *base);
/* backend_sim.c, sim_net.c: look at everything, and fail if it is not as it must be. */
void proi_sim_audit_loop(struct pro_sim *sim, const struct sim_loop *base);
void proi_sim_audit_net(struct pro_sim *sim);
void proi_sim_net_init(struct pro_sim *sim, const struct pro_sim_config *config);
void proi_sim_net_free(struct pro_sim *sim);

/* ---- Faults, choices, trace, memory ---- */

/* Counts a liberty that was taken without being asked for. */
void proi_sim_count(struct pro_sim *sim, enum pro_sim_fault fault);
/* A share of `whole`: 1 to whole - 1, or whole if it is 1. */
uint32_t proi_sim_part(struct pro_sim *sim, uint32_t whole);
void proi_sim_tell(struct pro_sim *sim, enum sim_event event, int64_t a, int64_t b, int64_t c);

/* Memory of the world itself, zeroed. It must be there. */
void *proi_world_alloc(struct pro_sim *sim, size_t size);
void proi_world_free(struct pro_sim *sim, void *memory, size_t size);
/* Doubles an array of `*room` elements; the elements stay, the new ones are zero. */
void *proi_world_grow(struct pro_sim *sim, void *array, uint32_t *room, size_t element);

#endif
