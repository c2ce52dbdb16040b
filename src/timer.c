/* Eleven levels of 64 slots. A time goes to the level of the highest bit in which it differs from `now`, so all times
 * of a level share the bits above with `now`, and everything on a lower level comes before everything on a higher one:
 *
 *      now   = ...|101|011|110           level 1, slot 5:  ...|101|101|xxx
 *      level       2   1   0             level 0, slot 7:  ...|101|011|111
 *
 * When `now` moves on, the slots it passes are emptied and their operations are placed anew, at a lower level or among
 * the due. The kernel's and the classic wheels have a tick; this one does not need it, because a level is skipped whole
 * when time jumps over it: an operation is placed again at most once per level and in practice two or three times.
 *
 * A slot is a list known by its head, whose time_prev is the tail, like the lists in list.h. Appending keeps insertion
 * order among equal times: an earlier insert sits at the same level or higher, and reaches the common slot first. */
#include "timer.h"

#include <string.h>

/* How many operations of a slot are looked at to sleep until the very first: beyond that the start of the slot does. */
enum { LOOK_AT_MOST = 16 };

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

static void list_remove(struct pro_op **head, struct pro_op *op)
{
    struct pro_op *next = op->time_next;
    if (*head == op)
        *head = next;
    else
        op->time_prev->time_next = next;
    if (next)
        next->time_prev = op->time_prev;
    else if (*head)
        (*head)->time_prev = op->time_prev;
    op->time_next = op->time_prev = NULL;
}

static unsigned level_of(uint64_t now, uint64_t at)
{
    return (63u - (unsigned)__builtin_clzll(now ^ at)) / PROI_WHEEL_BITS;
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
        list_append(&wheel->due, op);
        return;
    }
    unsigned level = level_of(wheel->now, op->time_at), slot = slot_of(op->time_at, level);
    list_append(&wheel->slots[level][slot], op);
    wheel->occupied[level] |= 1ull << slot;
}

void proi_wheel_remove(struct proi_wheel *wheel, struct pro_op *op)
{
    proi_assert(op->time_prev);
    if (op->time_at <= wheel->now) {
        list_remove(&wheel->due, op);
        return;
    }
    unsigned level = level_of(wheel->now, op->time_at), slot = slot_of(op->time_at, level);
    list_remove(&wheel->slots[level][slot], op);
    if (!wheel->slots[level][slot])
        wheel->occupied[level] &= ~(1ull << slot);
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

/* Bottom-up merge sort of a chain: stable, no recursion. `runs[i]` holds a sorted chain of 2^i, or none. */
static struct pro_op *sort(struct pro_op *chain)
{
    struct pro_op *runs[48] = {NULL}, *sorted = NULL;
    while (chain) {
        struct pro_op *run = chain;
        chain = chain->time_next;
        run->time_next = NULL;
        run->time_prev = NULL;
        unsigned i = 0;
        for (; runs[i]; i++) {
            run = merge(runs[i], run);
            runs[i] = NULL;
        }
        runs[i] = run;
    }
    for (unsigned i = 0; i < 48; i++)
        sorted = merge(runs[i], sorted);
    return sorted;
}

/* The slots of `level` that `from` -> `to` reaches or passes, as a bit set. */
static uint64_t passed(uint64_t from, uint64_t to, unsigned level)
{
    unsigned shift = level * PROI_WHEEL_BITS;
    uint64_t steps = (to >> shift) - (from >> shift);
    if (steps == 0)
        return 0;
    if (steps >= PROI_WHEEL_SLOTS)
        return ~0ull;
    uint64_t run = (1ull << steps) - 1; /* the `steps` slots behind `from`'s */
    unsigned turn = (slot_of(from, level) + 1) & (PROI_WHEEL_SLOTS - 1);
    return turn ? (run << turn) | (run >> (PROI_WHEEL_SLOTS - turn)) : run;
}

struct pro_op *proi_wheel_advance(struct proi_wheel *wheel, uint64_t now)
{
    struct pro_op *moving = NULL;
    proi_assert(now >= wheel->now);
    for (unsigned level = PROI_WHEEL_LEVELS; level-- > 0;) {
        uint64_t slots = passed(wheel->now, now, level) & wheel->occupied[level];
        wheel->occupied[level] &= ~slots;
        for (; slots; slots &= slots - 1) {
            struct pro_op **slot = &wheel->slots[level][__builtin_ctzll(slots)];
            for (struct pro_op *op; (op = *slot) != NULL;) {
                list_remove(slot, op);
                list_append(&moving, op);
            }
        }
    }
    wheel->now = now;
    while (moving) {
        struct pro_op *op = moving;
        list_remove(&moving, op);
        proi_wheel_insert(wheel, op);
    }
    struct pro_op *due = wheel->due;
    wheel->due = NULL;
    return due ? sort(due) : NULL;
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
    if (wheel->due)
        return wheel->now;
    for (unsigned level = 0; level < PROI_WHEEL_LEVELS; level++) {
        if (!wheel->occupied[level])
            continue;
        unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
        unsigned shift = level * PROI_WHEEL_BITS, above = shift + PROI_WHEEL_BITS;
        uint64_t start = (above < 64 ? wheel->now >> above << above : 0) | (uint64_t)slot << shift;
        return earliest(wheel->slots[level][slot], start);
    }
    return UINT64_MAX;
}

struct pro_op *proi_wheel_any(const struct proi_wheel *wheel)
{
    if (wheel->due)
        return wheel->due;
    for (unsigned level = 0; level < PROI_WHEEL_LEVELS; level++)
        if (wheel->occupied[level])
            return wheel->slots[level][__builtin_ctzll(wheel->occupied[level])];
    return NULL;
}
