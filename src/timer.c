/* Eleven levels of 64 slots. A time goes to the level of the highest bit in which it differs from `now`, so all times
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
 * A slot is a list known by its head, whose time_prev is the tail, like the lists in list.h. Appending keeps insertion
 * order among equal times: an earlier insert sits at the same level or higher, and reaches the common slot first. */
#include "timer.h"

#include <string.h>

enum {
    LOOK_AT_MOST = 16, /* operations of a slot, to sleep until the very first; beyond that the start of the slot does */
    FEW = 16,          /* are sorted where they are */
};

static void list_append(struct pro_op **head, struct pro_op *op)
{
    op->time_next = NULL;
    op->time_prev = *head ? (*head)->time_prev : op;
    if (*head) {
        (*head)->time_prev->time_next = op;
        (*head)->time_prev = op;
    } else {
        *head = op;
    }
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
        list_append(&wheel->due, op);
        return;
    }
    unsigned level = proi_wheel_level(wheel->now, op->time_at), slot = proi_wheel_slot(op->time_at, level);
    list_append(&wheel->slots[level][slot], op);
    wheel->occupied[level] |= 1ull << slot;
}

void proi_wheel_move(struct proi_wheel *wheel, struct pro_op *op, uint64_t at)
{
    uint64_t now = wheel->now, old = op->time_at;
    if (old > now && (old ^ at) >> proi_wheel_level(now, old) * PROI_WHEEL_BITS == 0) {
        op->time_at = at; /* the slot is the same */
        return;
    }
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

/* Makes a list of a chain. */
static struct pro_op *listed(struct pro_op *chain)
{
    struct pro_op *last = NULL;
    for (struct pro_op *op = chain; op; last = op, op = op->time_next)
        op->time_prev = last;
    if (chain)
        chain->time_prev = last;
    return chain;
}

/* Sorts the operations of a list by time, if they are few. */
static bool sort_few(struct pro_op **head)
{
    unsigned count = 0;
    for (const struct pro_op *op = *head; op; op = op->time_next)
        if (++count > FEW)
            return false;
    if (count > 1)
        *head = listed(sort(*head));
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
            list_append(&wheel->ready, op);
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
    unsigned slot = proi_wheel_slot(start, level);
    uint64_t end = start | ((1ull << level * PROI_WHEEL_BITS) - 1);
    struct pro_op *op = wheel->slots[level][slot];
    wheel->slots[level][slot] = NULL;
    wheel->occupied[level] &= ~(1ull << slot);
    bool sorted = level == 0 || sort_few(&op);
    wheel->now = !sorted ? start : end < wheel->until ? end : wheel->until;
    if (sorted && op->time_prev->time_at <= wheel->now)
        wheel->ready = op; /* all of them */
    else
        spread(wheel, op);
    return true;
}

void proi_wheel_advance(struct proi_wheel *wheel, uint64_t now)
{
    proi_assert(now >= wheel->now && !wheel->ready);
    wheel->until = now;
    wheel->ready = wheel->due && wheel->due->time_next ? listed(sort(wheel->due)) : wheel->due;
    wheel->due = NULL;
}

struct pro_op *proi_wheel_pop(struct proi_wheel *wheel)
{
    while (!wheel->ready && step(wheel))
        continue;
    struct pro_op *op = wheel->ready;
    if (op)
        proi_wheel_unlink(&wheel->ready, op);
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
    if (wheel->due)
        return wheel->now;
    if (!first_slot(wheel, &level, &start))
        return UINT64_MAX;
    return earliest(wheel->slots[level][proi_wheel_slot(start, level)], start);
}

struct pro_op *proi_wheel_any(const struct proi_wheel *wheel)
{
    if (wheel->ready || wheel->due)
        return wheel->ready ? wheel->ready : wheel->due;
    for (unsigned level = 0; level < PROI_WHEEL_LEVELS; level++)
        if (wheel->occupied[level])
            return wheel->slots[level][__builtin_ctzll(wheel->occupied[level])];
    return NULL;
}
