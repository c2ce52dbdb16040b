/* A timing wheel for deadlines and timers. Pure: it is handed the time.
 *
 * An operation is in the wheel by its time_next, time_prev and time_at. Insert, remove and move are O(1); time is exact
 * to the nanosecond, nothing fires early, and what is due comes out in the order of its time, and of its insertion
 * where times are equal. */
#ifndef PROI_TIMER_H
#define PROI_TIMER_H

#include <proactor.h>

#include "list.h"

enum {
    PROI_WHEEL_BITS = 6,
    PROI_WHEEL_SLOTS = 1 << PROI_WHEEL_BITS,
    PROI_WHEEL_LEVELS = 11, /* 11 x 6 bits cover all 64 of the time */
};

struct proi_wheel {
    uint64_t now;   /* up to here everything has been handed out, or is due or ready */
    uint64_t until; /* where advance() goes */
    uint64_t occupied[PROI_WHEEL_LEVELS];
    struct pro_op *slots[PROI_WHEEL_LEVELS][PROI_WHEEL_SLOTS];
    struct pro_op *due;   /* inserted with a time that had passed */
    struct pro_op *ready; /* what pop() hands out next, in order */
};

void proi_wheel_init(struct proi_wheel *wheel, uint64_t now);

/* `op` is not in the wheel and op->time_at is set; for the others: is in the wheel. */
void proi_wheel_insert(struct proi_wheel *wheel, struct pro_op *op);
static inline void proi_wheel_remove(struct proi_wheel *wheel, struct pro_op *op);
/* Remove, and insert with another time; but among those of the same time `op` may keep an earlier place. Costs next to
 * nothing while the slot is the same, as for an idle limit that is set anew with every byte. */
void proi_wheel_move(struct proi_wheel *wheel, struct pro_op *op, uint64_t at);

/* Moves on to `now`: what is due by then is handed out by pop(), which is to be called until it returns NULL. In between
 * anything may be inserted and removed, what is due included; what is inserted due waits for the next advance(). */
void proi_wheel_advance(struct proi_wheel *wheel, uint64_t now);
struct pro_op *proi_wheel_pop(struct proi_wheel *wheel);

/* A time not after the first that is due, and after `now` unless something is due: how long one may sleep.
 * UINT64_MAX when the wheel is empty. */
uint64_t proi_wheel_next(const struct proi_wheel *wheel);

/* Any operation that is in the wheel, or NULL. */
struct pro_op *proi_wheel_any(const struct proi_wheel *wheel);

/* --- remove(), which is worth it: what is cancelled is out of the cache, and the fewer instructions there are between
 * one and the next, the more of them the processor fetches at a time --- */

/* Out of the list; its time_next keeps what it was. */
static inline void proi_wheel_unlink(struct pro_op **head, struct pro_op *op)
{
    struct pro_op *next = op->time_next, *prev = op->time_prev;
    op->time_prev = NULL;
    if (*head == op)
        *head = next;
    else
        prev->time_next = next;
    if (next)
        next->time_prev = prev;
    else if (*head)
        (*head)->time_prev = prev;
}

static inline unsigned proi_wheel_level(uint64_t now, uint64_t at)
{
    return (63u - (unsigned)__builtin_clzll(now ^ at)) / PROI_WHEEL_BITS;
}

static inline unsigned proi_wheel_slot(uint64_t at, unsigned level)
{
    return (unsigned)(at >> (level * PROI_WHEEL_BITS)) & (PROI_WHEEL_SLOTS - 1);
}

/* Of the lists of what is due, the one that has `op` at an end; from the middle it goes without regard to the head. */
static inline struct pro_op **proi_wheel_due_list(struct proi_wheel *wheel, const struct pro_op *op)
{
    const struct pro_op *head = wheel->ready;
    return head && (head == op || head->time_prev == op) ? &wheel->ready : &wheel->due;
}

static inline void proi_wheel_remove(struct proi_wheel *wheel, struct pro_op *op)
{
    proi_assert(op->time_prev);
    if (op->time_at <= wheel->now) {
        proi_wheel_unlink(proi_wheel_due_list(wheel, op), op);
        return;
    }
    unsigned level = proi_wheel_level(wheel->now, op->time_at), slot = proi_wheel_slot(op->time_at, level);
    proi_wheel_unlink(&wheel->slots[level][slot], op);
    if (!wheel->slots[level][slot])
        wheel->occupied[level] &= ~(1ull << slot);
}

#endif
