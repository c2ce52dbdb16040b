/* SPDX-License-Identifier: MIT
 *
 * What happens in a simulated world, and in which order.
 *
 * Whatever may happen is an action: a request is carried out, a cancel takes effect, a segment arrives, a loop takes its
 * turn. Those that may happen now stand in a ring, oldest first, and the next is drawn from among the first few of it
 * and the loops that are due. So anything can overtake anything else, but nothing is overtaken for ever. When nothing
 * can happen now the clock jumps to the next thing that has a time.
 *
 * Determinism: nothing here or in what is called from here looks at an address, at a real clock or at uninitialised
 * memory. The hash of the trace is the proof.
 *
 * Possible failure modes: a ledger does not add up, or the program says that something is wrong. Both print the last
 * events, the choices or the seed, and abort. */
#include "sim_world.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

enum {
    WINDOW = 16, /* of the things that can happen now, those among which is drawn */
    TAIL = 40,   /* events that a failure prints */
    MOST_BUFFER = 1 << 30,
};
#define HOUR_NS   UINT64_C(3600000000000)
#define MINUTE_NS UINT64_C(60000000000)
#define UNLIMITED UINT64_MAX

/* ---- Making ---- */

static bool config_ok(const struct pro_sim_config *c)
{
    bool walks = c->front == PRO_SIM_WALK;
    return c->size >= sizeof *c && c->front <= PRO_SIM_WALK && walks == (c->walk != NULL) &&
           (c->bytes || c->byte_count == 0) && !c->allocator.alloc == !c->allocator.free &&
           (c->first_descriptor <= INT32_MAX / 2 || c->first_descriptor == PRO_SIM_FROM_0) &&
           c->descriptors <= INT32_MAX / 2 && c->socket_buffer <= MOST_BUFFER;
}

void pro_sim_faults(struct pro_sim_config *config, uint16_t rate)
{
    for (unsigned i = 0; i < PRO_SIM_FAULTS; i++)
        config->rates[i] = rate;
}

int pro_sim_new(const struct pro_sim_config *config, struct pro_sim **ret_sim)
{
    if (!config_ok(config))
        return -EINVAL;
    struct pro_allocator allocator = config->allocator;
    if (!allocator.alloc)
        allocator = proi_allocator_default;
    struct pro_sim *sim = allocator.alloc(allocator.context, sizeof *sim, _Alignof(struct pro_sim));
    if (!sim)
        return -ENOMEM;
    *sim = (struct pro_sim){
        .allocator = allocator,
        .now = config->start_ns ? config->start_ns : HOUR_NS,
        .latency = config->latency_ns,
        .jitter = config->jitter_ns,
        .fault_budget = config->fault_budget,
        .fault_limited = config->fault_budget > 0,
        .memory_limit = config->memory ? config->memory : UNLIMITED,
        .audit_every = config->audit_every             ? config->audit_every
                       : config->front == PRO_SIM_WALK ? 1
                                                       : 64,
        .replay = config->replay,
    };
    memcpy(sim->rates, config->rates, sizeof sim->rates);
    sim->stats.world_bytes = sizeof *sim;
    proi_choice_init(&sim->choice, config);
    proi_sim_net_init(sim, config);
    *ret_sim = sim;
    return 0;
}

void pro_sim_free(struct pro_sim *sim)
{
    if (!sim)
        return;
    proi_require(!sim->loops, "a world is freed before its loops");
    if (sim->stats.descriptors > 0)
        proi_sim_audit_net(sim);
    if (sim->stats.descriptors > 0)
        pro_sim_fail(sim, "%llu descriptors are still open", (unsigned long long)sim->stats.descriptors);
    if (sim->stats.allocations > 0)
        pro_sim_fail(sim, "%llu allocations of %llu bytes are still out", (unsigned long long)sim->stats.allocations,
                     (unsigned long long)sim->stats.bytes);
    proi_sim_net_free(sim);
    if (proi_witness.context == sim)
        proi_witness = (struct proi_witness){NULL, NULL};
    proi_world_free(sim, sim->heap, sim->heap_room * sizeof *sim->heap);
    proi_world_free(sim, sim->ready, sim->ready_room * sizeof *sim->ready);
    proi_assert(sim->stats.world_bytes == sizeof *sim);
    struct pro_allocator allocator = sim->allocator;
    allocator.free(allocator.context, sim, sizeof *sim);
}

/* ---- The world's own memory ---- */

void *proi_world_alloc(struct pro_sim *sim, size_t size)
{
    void *memory = sim->allocator.alloc(sim->allocator.context, size, _Alignof(max_align_t));
    proi_require(memory, "a simulated world finds no memory");
    sim->stats.world_bytes += size;
    return memset(memory, 0, size);
}

void proi_world_free(struct pro_sim *sim, void *memory, size_t size)
{
    if (!memory)
        return;
    sim->stats.world_bytes -= size;
    sim->allocator.free(sim->allocator.context, memory, size);
}

void *proi_world_grow(struct pro_sim *sim, void *array, uint32_t *room, size_t element)
{
    uint32_t more = *room ? *room * 2 : 8;
    void *grown = proi_world_alloc(sim, more * element);
    if (array)
        memcpy(grown, array, *room * element);
    proi_world_free(sim, array, *room * element);
    *room = more;
    return grown;
}

/* ---- Memory of the program ---- */

/* Stands before each block, at the alignment asked for. */
struct block {
    size_t size, lead;
};

static void *program_alloc(void *context, size_t size, size_t align)
{
    struct pro_sim *sim = context;
    size_t lead = (sizeof(struct block) + align - 1) / align * align;
    if (size > sim->memory_limit - sim->stats.bytes || pro_sim_chance(sim, PRO_SIM_ALLOCATION))
        return NULL;
    uint8_t *memory = aligned_alloc(align, (lead + size + align - 1) / align * align);
    if (!memory)
        return NULL;
    memset(memory + lead, 0xa5, size);
    struct block *block = (struct block *)(void *)(memory + lead - sizeof(struct block));
    *block = (struct block){size, lead};
    sim->stats.allocations++;
    sim->stats.bytes += size;
    return memory + lead;
}

static void program_free(void *context, void *memory, size_t size)
{
    struct pro_sim *sim = context;
    struct block *block = (struct block *)(void *)((uint8_t *)memory - sizeof(struct block));
    if (block->size != size)
        pro_sim_fail(sim, "an allocation of %zu bytes is freed as one of %zu", block->size, size);
    sim->stats.allocations--;
    sim->stats.bytes -= size;
    memset(memory, 0x5a, size);
    free((uint8_t *)memory - block->lead);
}

struct pro_allocator pro_sim_allocator(struct pro_sim *sim)
{
    return (struct pro_allocator){program_alloc, program_free, sim};
}

/* ---- Trace ---- */

/* What each number of a line means; those that a line has not are 0. */
static const char *const texts[SIM_EVENTS] = {
    [SIM_E_FAULT] = "fault",
    [SIM_E_STILL] = "the program stands still for %lld ns",
    [SIM_E_TIME] = "the clock goes on by %lld ns",
    [SIM_E_START] = "request %lld starts, operation %lld, descriptor %lld",
    [SIM_E_CANCEL] = "request %lld is to be cancelled",
    [SIM_E_TURN] = "loop %lld takes a turn, %lld results",
    [SIM_E_RESULT] = "request %lld has result %lld, more %lld",
    [SIM_E_EVENT] = "request %lld tells its loop %lld, more %lld",
    [SIM_E_CANCELLED] = "request %lld is cancelled",
    [SIM_E_OPEN] = "descriptor %lld is opened, kind %lld",
    [SIM_E_CLOSE] = "descriptor %lld is closed",
    [SIM_E_SEND] = "node %lld sends %lld of %lld bytes",
    [SIM_E_RECV] = "node %lld receives %lld of %lld bytes",
    [SIM_E_ARRIVE] = "%lld bytes arrive at node %lld, %lld in all",
    [SIM_E_END] = "the end of file arrives at node %lld",
    [SIM_E_RESET] = "node %lld is reset",
    [SIM_E_CONNECT] = "node %lld begins to connect",
    [SIM_E_CONNECTED] = "node %lld is connected to node %lld",
    [SIM_E_REFUSED] = "node %lld is not connected: %lld",
    [SIM_E_ACCEPT] = "listener %lld gives node %lld as descriptor %lld",
    [SIM_E_LOOP] = "loop %lld is made",
    [SIM_E_LOOP_GONE] = "loop %lld is freed",
    [SIM_E_DROP] = "a datagram to node %lld of %lld bytes is dropped",
    [SIM_E_NOTE] = "note",
};

static void format_line(const struct sim_record *r, char *out, size_t size)
{
    int used = snprintf(out, size, "%llu.%09llu  ", (unsigned long long)(r->at / 1000000000),
                        (unsigned long long)(r->at % 1000000000));
    if (used < 0 || (size_t)used >= size)
        return;
    if (r->event == SIM_E_FAULT)
        snprintf(out + used, size - (size_t)used, "fault: %s", pro_sim_fault_name((enum pro_sim_fault)r->a));
    else if (r->event == SIM_E_NOTE)
        snprintf(out + used, size - (size_t)used, "%s", r->text);
    else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(out + used, size - (size_t)used, texts[r->event], (long long)r->a, (long long)r->b, (long long)r->c);
#pragma GCC diagnostic pop
    }
}

static void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * 0x9e3779b97f4a7c15u;
    *hash ^= *hash >> 29;
}

static struct sim_record *record(struct pro_sim *sim, enum sim_event event, int64_t a, int64_t b, int64_t c)
{
    struct sim_record *r = &sim->records[sim->stats.events++ % SIM_RECORDS];
    r->at = sim->now;
    r->event = event;
    r->a = a;
    r->b = b;
    r->c = c;
    mix(&sim->stats.hash, sim->now);
    mix(&sim->stats.hash, (uint64_t)event);
    mix(&sim->stats.hash, (uint64_t)a);
    mix(&sim->stats.hash, (uint64_t)b);
    mix(&sim->stats.hash, (uint64_t)c);
    return r;
}

static void print(const struct pro_sim *sim, const struct sim_record *r)
{
    char line[160];
    if (!sim->trace)
        return;
    format_line(r, line, sizeof line);
    sim->trace(sim->trace_context, line);
}

void proi_sim_tell(struct pro_sim *sim, enum sim_event event, int64_t a, int64_t b, int64_t c)
{
    print(sim, record(sim, event, a, b, c));
}

void pro_sim_trace(struct pro_sim *sim, void (*line)(void *context, const char *text), void *context)
{
    sim->trace = line;
    sim->trace_context = context;
}

void pro_sim_note(struct pro_sim *sim, const char *format, ...)
{
    struct sim_record *r = record(sim, SIM_E_NOTE, 0, 0, 0);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->text, sizeof r->text, format, arguments);
    va_end(arguments);
    for (const char *c = r->text; *c; c++)
        mix(&sim->stats.hash, (uint8_t)*c);
    print(sim, r);
}

/* How it came to this: the last events, and how to play them again. */
static void testify(void *context)
{
    const struct pro_sim *sim = context;
    char line[160];
    bool walks = sim->choice.front == PRO_SIM_WALK;
    uint64_t first = sim->stats.events > TAIL ? sim->stats.events - TAIL : 0;
    fflush(stdout);
    for (uint64_t i = first; i < sim->stats.events; i++) {
        format_line(&sim->records[i % SIM_RECORDS], line, sizeof line);
        fprintf(stderr, "%s\n", line);
    }
    fprintf(stderr, "proactor: after %llu events, hash %016llx\n", (unsigned long long)sim->stats.events,
            (unsigned long long)sim->stats.hash);
    if (walks) {
        fputs("proactor: history ", stderr);
        proi_walk_print(sim->choice.walk, stderr);
        fputs("\n", stderr);
    }
    if (!sim->replay)
        return;
    fprintf(stderr, "proactor: replay with: %s%s", sim->replay, walks ? " " : "");
    if (walks)
        proi_walk_print(sim->choice.walk, stderr);
    fputs("\n", stderr);
}

void pro_sim_fail(struct pro_sim *sim, const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    va_start(arguments, format);
    fputs("proactor: the simulation failed: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\n", stderr);
    testify(sim);
    abort();
}

/* ---- Faults and choices ---- */

static const char *const fault_names[PRO_SIM_FAULTS] = {
    [PRO_SIM_SEGMENT] = "segment",
    [PRO_SIM_DELAY] = "delay",
    [PRO_SIM_SHORT_SEND] = "short_send",
    [PRO_SIM_SHORT_RECV] = "short_recv",
    [PRO_SIM_RESET] = "reset",
    [PRO_SIM_REFUSE] = "refuse",
    [PRO_SIM_UNREACHABLE] = "unreachable",
    [PRO_SIM_BACKLOG] = "backlog",
    [PRO_SIM_LOSS] = "loss",
    [PRO_SIM_DUPLICATE] = "duplicate",
    [PRO_SIM_REORDER] = "reorder",
    [PRO_SIM_ACCEPT_EMFILE] = "accept_emfile",
    [PRO_SIM_ACCEPT_ENFILE] = "accept_enfile",
    [PRO_SIM_ACCEPT_ENOMEM] = "accept_enomem",
    [PRO_SIM_ACCEPT_ENOBUFS] = "accept_enobufs",
    [PRO_SIM_ACCEPT_ABORTED] = "accept_aborted",
    [PRO_SIM_ACCEPT_EINTR] = "accept_eintr",
    [PRO_SIM_ACCEPT_EPERM] = "accept_eperm",
    [PRO_SIM_INTERRUPT] = "interrupt",
    [PRO_SIM_VAIN] = "vain",
    [PRO_SIM_RECALL] = "recall",
    [PRO_SIM_NO_MEMORY] = "no_memory",
    [PRO_SIM_MULTISHOT_END] = "multishot_end",
    [PRO_SIM_ONE_SHOT] = "one_shot",
    [PRO_SIM_POOL_EMPTY] = "pool_empty",
    [PRO_SIM_SUBMIT_FULL] = "submit_full",
    [PRO_SIM_CANCEL_FULL] = "cancel_full",
    [PRO_SIM_CANCEL_LATE] = "cancel_late",
    [PRO_SIM_EARLY_WAKE] = "early_wake",
    [PRO_SIM_FEW] = "few",
    [PRO_SIM_SLOW_CLOSE] = "slow_close",
    [PRO_SIM_SOCKET] = "socket",
    [PRO_SIM_LISTEN] = "listen",
    [PRO_SIM_OPTION] = "option",
    [PRO_SIM_FULL] = "full",
    [PRO_SIM_NO_BACKEND] = "no_backend",
    [PRO_SIM_ALLOCATION] = "allocation",
    [PRO_SIM_CLOCK] = "clock",
    [PRO_SIM_READ_SHORT] = "read_short",
    [PRO_SIM_READ_EIO] = "read_eio",
    [PRO_SIM_WRITE_SHORT] = "write_short",
    [PRO_SIM_WRITE_ENOSPC] = "write_enospc",
    [PRO_SIM_WRITE_EIO] = "write_eio",
    [PRO_SIM_RESULT_WINS] = "result_wins",
    [PRO_SIM_NUMBER_REUSED] = "number_reused",
};

const char *pro_sim_fault_name(enum pro_sim_fault fault)
{
    proi_require(fault < PRO_SIM_FAULTS, "a fault that does not exist");
    return fault_names[fault];
}

void proi_sim_count(struct pro_sim *sim, enum pro_sim_fault fault)
{
    sim->stats.hits[fault]++;
    proi_sim_tell(sim, SIM_E_FAULT, (int64_t)fault, 0, 0);
}

bool pro_sim_chance(struct pro_sim *sim, enum pro_sim_fault fault)
{
    proi_require(fault < PRO_SIM_FAULTS, "a fault that does not exist");
    if (sim->rates[fault] == 0 || (sim->fault_limited && sim->fault_budget == 0))
        return false;
    if (!proi_chance(&sim->choice, sim->rates[fault]))
        return false;
    sim->fault_budget -= sim->fault_limited;
    proi_sim_count(sim, fault);
    return true;
}

uint32_t pro_sim_choose(struct pro_sim *sim, uint32_t count)
{
    return proi_choose(&sim->choice, count);
}

uint32_t proi_sim_part(struct pro_sim *sim, uint32_t whole)
{
    if (whole <= 1)
        return whole;
    if (sim->choice.front == PRO_SIM_WALK)
        return proi_choose(&sim->choice, 2) ? whole - 1 : 1;
    return 1 + proi_choose(&sim->choice, whole - 1);
}

void pro_sim_rate(struct pro_sim *sim, enum pro_sim_fault fault, uint16_t rate)
{
    proi_require(fault < PRO_SIM_FAULTS, "a fault that does not exist");
    sim->rates[fault] = rate;
}

void pro_sim_calm(struct pro_sim *sim)
{
    memset(sim->rates, 0, sizeof sim->rates);
}

uint64_t proi_sim_latency(struct pro_sim *sim)
{
    uint64_t jitter = sim->jitter ? sim->jitter * proi_choose(&sim->choice, 16) / 15 : 0;
    uint64_t latency = sim->latency + jitter;
    return pro_sim_chance(sim, PRO_SIM_DELAY) ? latency * (1 + proi_choose(&sim->choice, 100)) + 1 : latency;
}

uint64_t pro_sim_now(const struct pro_sim *sim)
{
    return sim->now;
}

void pro_sim_stats(const struct pro_sim *sim, struct pro_sim_stats *ret_stats, size_t size)
{
    memcpy(ret_stats, &sim->stats, size < sizeof sim->stats ? size : sizeof sim->stats);
}

/* ---- Things that happen ---- */

static bool before(const struct sim_action *a, const struct sim_action *b)
{
    return a->at < b->at || (a->at == b->at && a->serial < b->serial);
}

static void heap_set(struct pro_sim *sim, uint32_t place, struct sim_action *action)
{
    sim->heap[place] = action;
    action->place = place;
}

static void heap_raise(struct pro_sim *sim, struct sim_action *action)
{
    uint32_t place = action->place;
    for (; place > 1 && before(action, sim->heap[place / 2]); place /= 2)
        heap_set(sim, place, sim->heap[place / 2]);
    heap_set(sim, place, action);
}

static void heap_sink(struct pro_sim *sim, struct sim_action *action)
{
    uint32_t place = action->place;
    for (uint32_t child; (child = place * 2) <= sim->heap_count; place = child) {
        if (child < sim->heap_count && before(sim->heap[child + 1], sim->heap[child]))
            child++;
        if (!before(sim->heap[child], action))
            break;
        heap_set(sim, place, sim->heap[child]);
    }
    heap_set(sim, place, action);
}

static void heap_remove(struct pro_sim *sim, struct sim_action *action)
{
    struct sim_action *last = sim->heap[sim->heap_count--];
    if (last != action) {
        heap_set(sim, action->place, last);
        heap_raise(sim, last);
        heap_sink(sim, last);
    }
    action->place = SIM_IDLE;
}

static struct sim_action **ready_at(const struct pro_sim *sim, uint32_t i)
{
    return &sim->ready[(sim->ready_first + i) & (sim->ready_room - 1)];
}

static void ready_push(struct pro_sim *sim, struct sim_action *action)
{
    if (sim->ready_count == sim->ready_room) {
        uint32_t old = sim->ready_room;
        sim->ready = proi_world_grow(sim, sim->ready, &sim->ready_room, sizeof *sim->ready);
        for (uint32_t i = 0; i < sim->ready_first; i++) /* what had wrapped goes on behind */
            sim->ready[old + i] = sim->ready[i];
    }
    *ready_at(sim, sim->ready_count++) = action;
    action->place = SIM_READY;
}

static struct sim_action *ready_take(struct pro_sim *sim, uint32_t i)
{
    struct sim_action *action = *ready_at(sim, i);
    for (; i > 0; i--) /* those before it move up */
        *ready_at(sim, i) = *ready_at(sim, i - 1);
    sim->ready_first = (sim->ready_first + 1) & (sim->ready_room - 1);
    sim->ready_count--;
    action->place = SIM_IDLE;
    return action;
}

void proi_sim_soon(struct pro_sim *sim, struct sim_action *action)
{
    if (action->place == SIM_READY)
        return;
    if (action->place != SIM_IDLE)
        heap_remove(sim, action);
    ready_push(sim, action);
}

void proi_sim_later(struct pro_sim *sim, struct sim_action *action, uint64_t at)
{
    if (action->place != SIM_IDLE)
        return;
    if (at <= sim->now) {
        ready_push(sim, action);
        return;
    }
    if (sim->heap_count + 1 >= sim->heap_room)
        sim->heap = proi_world_grow(sim, sim->heap, &sim->heap_room, sizeof *sim->heap);
    action->at = at;
    action->serial = sim->serial++;
    action->place = ++sim->heap_count;
    heap_raise(sim, action);
}

void proi_sim_never(struct pro_sim *sim, struct sim_action *action)
{
    if (action->place == SIM_READY) {
        uint32_t i = 0;
        while (*ready_at(sim, i) != action)
            i++;
        (void)ready_take(sim, i);
    } else if (action->place != SIM_IDLE) {
        heap_remove(sim, action);
    }
}

static void advance(struct pro_sim *sim, uint64_t to)
{
    proi_assert(to >= sim->now);
    sim->now = to;
    while (sim->heap_count > 0 && sim->heap[1]->at <= sim->now) {
        struct sim_action *action = sim->heap[1];
        heap_remove(sim, action);
        ready_push(sim, action);
    }
}

void proi_sim_pass(struct pro_sim *sim, uint64_t ns)
{
    advance(sim, sim->now + ns);
}

/* ---- Steps ---- */

static uint32_t count_due(const struct pro_sim *sim)
{
    uint32_t count = 0;
    for (const struct sim_loop *loop = sim->deep ? NULL : sim->loops; loop; loop = loop->next)
        count += proi_sim_loop_due(loop, sim->now);
    return count;
}

static struct sim_loop *due_at(const struct pro_sim *sim, uint32_t i)
{
    struct sim_loop *loop = sim->loops;
    for (;; loop = loop->next)
        if (proi_sim_loop_due(loop, sim->now) && i-- == 0)
            return loop;
}

static uint64_t next_time(const struct pro_sim *sim)
{
    uint64_t next = sim->heap_count > 0 ? sim->heap[1]->at : UNLIMITED;
    for (const struct sim_loop *loop = sim->deep ? NULL : sim->loops; loop; loop = loop->next)
        if (loop->due < next && loop->due > sim->now) /* a loop that runs is not due, and its time may have passed */
            next = loop->due;
    return next;
}

bool proi_sim_busy(const struct pro_sim *sim)
{
    return sim->ready_count > 0 || count_due(sim) > 0;
}

bool pro_sim_idle(const struct pro_sim *sim)
{
    return !proi_sim_busy(sim) && next_time(sim) == UNLIMITED;
}

void pro_sim_audit(struct pro_sim *sim)
{
    sim->stats.audits++;
    for (const struct sim_loop *loop = sim->loops; loop; loop = loop->next)
        proi_sim_audit_loop(sim, loop);
    proi_sim_audit_net(sim);
}

static void happen(struct pro_sim *sim, uint32_t window, uint32_t due)
{
    uint32_t chosen = proi_choose(&sim->choice, window + due);
    if (chosen < window) {
        struct sim_action *action = ready_take(sim, chosen);
        action->run(sim, action);
    } else {
        sim->deep = true;
        int r = proi_sim_loop_turn(due_at(sim, chosen - window));
        sim->deep = false;
        proi_assert(r >= 0);
    }
    sim->stats.steps++;
    if (sim->stats.steps % sim->audit_every == 0)
        pro_sim_audit(sim);
}

bool proi_sim_step(struct pro_sim *sim, uint64_t until)
{
    proi_witness = (struct proi_witness){testify, sim};
    for (;;) {
        uint32_t window = sim->ready_count < WINDOW ? sim->ready_count : WINDOW, due = count_due(sim);
        if (window + due > 0) {
            happen(sim, window, due);
            return true;
        }
        uint64_t next = next_time(sim);
        if (next > until || next == UNLIMITED) {
            if (until != UNLIMITED && until > sim->now)
                advance(sim, until);
            return false;
        }
        proi_sim_tell(sim, SIM_E_TIME, (int64_t)(next - sim->now), 0, 0);
        advance(sim, next);
        if (!sim->deep && pro_sim_chance(sim, PRO_SIM_CLOCK)) {
            pro_sim_stand_still(sim, MINUTE_NS / 100 * (1 + proi_choose(&sim->choice, 100)));
            return true; /* all that was to come may have come */
        }
    }
}

uint32_t pro_sim_step(struct pro_sim *sim, uint32_t steps)
{
    uint32_t made = 0;
    while (made < steps && proi_sim_step(sim, UNLIMITED))
        made++;
    return made;
}

void pro_sim_stand_still(struct pro_sim *sim, uint64_t ns)
{
    proi_require(ns < UNLIMITED - sim->now, "a world stands still for ever");
    uint64_t until = sim->now + ns;
    bool deep = sim->deep;
    proi_sim_tell(sim, SIM_E_STILL, (int64_t)ns, 0, 0);
    sim->deep = true; /* no turns */
    while (sim->now < until)
        (void)proi_sim_step(sim, until);
    sim->deep = deep;
}

static bool any_alive(const struct pro_sim *sim)
{
    for (const struct sim_loop *loop = sim->loops; loop; loop = loop->next)
        if (proi_sim_loop_alive(loop))
            return true;
    return false;
}

int pro_sim_run(struct pro_sim *sim, uint64_t until)
{
    for (const struct sim_loop *loop = sim->loops; loop; loop = loop->next)
        proi_require(!proi_sim_loop_running(loop), "pro_sim_run is called from a continuation");
    while (any_alive(sim) || proi_sim_busy(sim) || sim->heap_count > 0) {
        if (sim->now >= until)
            return 1;
        if (!proi_sim_step(sim, until))
            return sim->now >= until;
    }
    return 0;
}
