/* SPDX-License-Identifier: MIT
 *
 * Eleven levels of 64 slots. A time goes to the level of the highest bit in which it differs from `now`, so all times
 * of a level share the bits above with `now`, and everything on a lower level comes before everything on a higher one:
 *
 *      now   = ...|101|011|110           level 1, slot 5:  ...|101|101|xxx
 *      level       2   1   0             level 0, slot 7:  ...|101|011|111
 *
 * When time moves on, `now` goes to the start of one slot after the other, the earliest first. A slot that holds few is
 * sorted and handed out; one that holds many is spread over the level below, where the same happens to each of its
 * slots: a radix sort whose buckets are the wheel's own. Its last steps find the operations in the cache, which a sort
 * of all that is due would not. The kernel's and the classic wheels have a tick; this one does not need it, because
 * empty slots are skipped whole: an operation is placed again at most once per level and in practice once or not at all.
 *
 * Appending to a slot keeps insertion order among equal times: an earlier insert sits at the same level or higher, and
 * reaches the common slot first. */
#include "timer.h"

#include <string.h>

enum {
    LOOK_AT_MOST = 16, /* operations of a slot, to sleep until the very first; beyond that the start of the slot does */
    FEW = 16,          /* are sorted where they are */
};

static void append(struct proi_wheel_list *list, struct pro_op *op)
{
    op->time_next = NULL;
    op->time_prev = list->head ? list->tail : op;
    if (list->head)
        list->tail->time_next = op;
    else
        list->head = op;
    list->tail = op;
}

/* Out of the list; its time_next keeps what it was. */
static void unlink_end(struct proi_wheel_list *list, struct pro_op *op)
{
    struct pro_op *next = op->time_next, *prev = op->time_prev == op ? NULL : op->time_prev;
    op->time_prev = NULL;
    if (prev)
        prev->time_next = next;
    else
        list->head = next;
    if (next)
        next->time_prev = prev ? prev : next;
    else
        list->tail = prev;
}

static unsigned slot_of(uint64_t at, unsigned level)
{
    return (unsigned)(at >> (level * PROI_WHEEL_BITS)) & (PROI_WHEEL_SLOTS - 1);
}

void proi_wheel_init(struct proi_wheel *wheel, uint64_t now)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->now = now;
}

void proi_wheel_insert(struct proi_wheel *wheel, struct pro_op *op)
{
    proi_assert(!op->time_prev);
    if (op->time_at <= wheel->now) {
        append(&wheel->due, op);
        return;
    }
    unsigned level = proi_wheel_level(wheel->now, op->time_at), slot = slot_of(op->time_at, level);
    append(&wheel->slots[level][slot], op);
    wheel->occupied[level] |= 1ull << slot;
}

void proi_wheel_remove_end(struct proi_wheel *wheel, struct pro_op *op)
{
    if (op->time_at <= wheel->now) {
        bool ready = wheel->ready.head == op || wheel->ready.tail == op;
        unlink_end(ready ? &wheel->ready : &wheel->due, op);
        return;
    }
    unsigned level = proi_wheel_level(wheel->now, op->time_at), slot = slot_of(op->time_at, level);
    unlink_end(&wheel->slots[level][slot], op);
    if (!wheel->slots[level][slot].head)
        wheel->occupied[level] &= ~(1ull << slot);
}

void proi_wheel_move_slot(struct proi_wheel *wheel, struct pro_op *op, uint64_t at)
{
    proi_wheel_remove(wheel, op);
    op->time_at = at;
    proi_wheel_insert(wheel, op);
}

/* Merges two chains by time; of equals the ones of `a` come first. */
static struct pro_op *merge(struct pro_op *a, struct pro_op *b)
{
    struct pro_op *first = NULL, **end = &first;
    while (a && b) {
        struct pro_op **least = b->time_at < a->time_at ? &b : &a;
        *end = *least;
        end = &(*least)->time_next;
        *least = *end;
    }
    *end = a ? a : b;
    return first;
}

/* Cuts a chain behind its first operations that are in order, and returns the rest. */
static struct pro_op *cut_run(struct pro_op *run)
{
    while (run->time_next && run->time_next->time_at >= run->time_at)
        run = run->time_next;
    struct pro_op *rest = run->time_next;
    run->time_next = NULL;
    return rest;
}

/* Merge sort of a list: stable, no recursion, one look at what is in order. `runs[i]` holds 2^i runs merged, or none. */
static struct pro_op *sort(struct pro_op *chain)
{
    struct pro_op *runs[48] = {NULL}, *sorted = NULL;
    unsigned used = 0;
    while (chain) {
        struct pro_op *run = chain;
        chain = cut_run(run);
        unsigned i = 0;
        for (; runs[i]; i++) {
            run = merge(runs[i], run);
            runs[i] = NULL;
        }
        runs[i] = run;
        used = i < used ? used : i + 1;
    }
    for (unsigned i = 0; i < used; i++)
        sorted = merge(runs[i], sorted);
    return sorted;
}

/* Sorts a list by time. */
static void sort_list(struct proi_wheel_list *list)
{
    if (list->head == list->tail)
        return;
    list->head = sort(list->head);
    struct pro_op *last = list->head;
    for (struct pro_op *op = list->head; op; last = op, op = op->time_next)
        op->time_prev = last;
    list->tail = last;
}

static bool is_short(const struct proi_wheel_list *list)
{
    unsigned count = 0;
    for (const struct pro_op *op = list->head; op; op = op->time_next)
        if (++count > FEW)
            return false;
    return true;
}

/* The start of the slot that is first in time. False when all are empty. */
static bool first_slot(const struct proi_wheel *wheel, unsigned *ret_level, uint64_t *ret_start)
{
    for (unsigned level = 0; level < PROI_WHEEL_LEVELS; level++) {
        if (!wheel->occupied[level])
            continue;
        unsigned shift = level * PROI_WHEEL_BITS, above = shift + PROI_WHEEL_BITS;
        uint64_t slot = (uint64_t)__builtin_ctzll(wheel->occupied[level]);
        *ret_level = level;
        *ret_start = (above < 64 ? wheel->now >> above << above : 0) | slot << shift;
        return true;
    }
    return false;
}

/* Puts the operations of what was a slot to where they belong now. */
static void spread(struct proi_wheel *wheel, struct pro_op *op)
{
    for (struct pro_op *next; op; op = next) {
        next = op->time_next;
        op->time_prev = NULL;
        if (op->time_at <= wheel->now)
            append(&wheel->ready, op);
        else
            proi_wheel_insert(wheel, op);
    }
}

/* Empties the first slot if it begins in time: those that are due become ready, the others go a level down. */
static bool step(struct proi_wheel *wheel)
{
    unsigned level;
    uint64_t start;
    if (!first_slot(wheel, &level, &start) || start > wheel->until)
        return false;
    unsigned slot = slot_of(start, level);
    uint64_t end = start | ((1ull << level * PROI_WHEEL_BITS) - 1);
    struct proi_wheel_list list = wheel->slots[level][slot];
    wheel->slots[level][slot] = (struct proi_wheel_list){NULL, NULL};
    wheel->occupied[level] &= ~(1ull << slot);
    bool sorted = level == 0 || is_short(&list);
    if (level > 0 && sorted)
        sort_list(&list);
    wheel->now = !sorted ? start : end < wheel->until ? end : wheel->until;
    if (sorted && list.tail->time_at <= wheel->now)
        wheel->ready = list; /* all of them */
    else
        spread(wheel, list.head);
    return true;
}

void proi_wheel_advance(struct proi_wheel *wheel, uint64_t now)
{
    proi_assert(now >= wheel->now && !wheel->ready.head);
    wheel->until = now;
    wheel->ready = wheel->due;
    wheel->due = (struct proi_wheel_list){NULL, NULL};
    sort_list(&wheel->ready);
}

struct pro_op *proi_wheel_pop(struct proi_wheel *wheel)
{
    while (!wheel->ready.head && step(wheel))
        continue;
    struct pro_op *op = wheel->ready.head;
    if (op)
        unlink_end(&wheel->ready, op);
    else
        wheel->now = wheel->until;
    return op;
}

/* The earliest time in a slot, or `start` when it holds too many to look at. */
static uint64_t earliest(const struct pro_op *op, uint64_t start)
{
    uint64_t at = UINT64_MAX;
    for (unsigned n = 0; op; op = op->time_next, n++) {
        if (n == LOOK_AT_MOST)
            return start;
        at = op->time_at < at ? op->time_at : at;
    }
    return at;
}

uint64_t proi_wheel_next(const struct proi_wheel *wheel)
{
    unsigned level;
    uint64_t start;
    if (wheel->due.head)
        return wheel->now;
    if (!first_slot(wheel, &level, &start))
        return UINT64_MAX;
    return earliest(wheel->slots[level][slot_of(start, level)].head, start);
}

struct pro_op *proi_wheel_any(const struct proi_wheel *wheel)
{
    if (wheel->ready.head || wheel->due.head)
        return wheel->ready.head ? wheel->ready.head : wheel->due.head;
    for (unsigned level = 0; level < PROI_WHEEL_LEVELS; level++)
        if (wheel->occupied[level])
            return wheel->slots[level][__builtin_ctzll(wheel->occupied[level])].head;
    return NULL;
}
