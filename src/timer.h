/* SPDX-License-Identifier: MIT
 *
 * A timing wheel for deadlines and timers. Pure: it is handed the time.
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

/* Known by both ends; the first one's time_prev is itself, so that one in the middle knows that it is. */
struct proi_wheel_list {
    struct pro_op *head, *tail;
};

struct proi_wheel {
    uint64_t now;   /* up to here everything has been handed out, or is due or ready */
    uint64_t until; /* where advance() goes */
    uint64_t occupied[PROI_WHEEL_LEVELS];
    struct proi_wheel_list slots[PROI_WHEEL_LEVELS][PROI_WHEEL_SLOTS];
    struct proi_wheel_list due;   /* inserted with a time that had passed */
    struct proi_wheel_list ready; /* what pop() hands out next, in order */
};

void proi_wheel_init(struct proi_wheel *wheel, uint64_t now);

/* `op` is not in the wheel and op->time_at is set; for the others: is in the wheel. */
void proi_wheel_insert(struct proi_wheel *wheel, struct pro_op *op);
static inline void proi_wheel_remove(struct proi_wheel *wheel, struct pro_op *op);
/* Remove, and insert with another time; but among those of the same time `op` may keep an earlier place. */
static inline void proi_wheel_move(struct proi_wheel *wheel, struct pro_op *op, uint64_t at);

/* Moves on to `now`: what is due by then is handed out by pop(), which is to be called until it returns NULL. In between
 * anything may be inserted and removed, what is due included; what is inserted due waits for the next advance(). */
void proi_wheel_advance(struct proi_wheel *wheel, uint64_t now);
struct pro_op *proi_wheel_pop(struct proi_wheel *wheel);

/* A time not after the first that is due, and after `now` unless something is due: how long one may sleep.
 * UINT64_MAX when the wheel is empty. */
uint64_t proi_wheel_next(const struct proi_wheel *wheel);

/* Any operation that is in the wheel, or NULL. */
struct pro_op *proi_wheel_any(const struct proi_wheel *wheel);

/* remove() of the first or last of a list. */
void proi_wheel_remove_end(struct proi_wheel *wheel, struct pro_op *op);

/* Inline, and seldom more than this: what is cancelled is out of the cache, and the fewer instructions there are between
 * one and the next, the more of them the processor fetches at a time. The neighbours are written to and not read. */
static inline void proi_wheel_remove(struct proi_wheel *wheel, struct pro_op *op)
{
    struct pro_op *next = op->time_next, *prev = op->time_prev;
    proi_assert(prev);
    if (!next || prev == op) {
        proi_wheel_remove_end(wheel, op);
        return;
    }
    op->time_prev = NULL;
    prev->time_next = next;
    next->time_prev = prev;
}

/* The level of a time after `now`. */
static inline unsigned proi_wheel_level(uint64_t now, uint64_t at)
{
    return (63u - (unsigned)__builtin_clzll(now ^ at)) / PROI_WHEEL_BITS;
}

/* move() to another slot. */
void proi_wheel_move_slot(struct proi_wheel *wheel, struct pro_op *op, uint64_t at);

/* Next to nothing while the slot is the same, as for an idle limit that is set anew with every byte. */
static inline void proi_wheel_move(struct proi_wheel *wheel, struct pro_op *op, uint64_t at)
{
    uint64_t now = wheel->now, old = op->time_at;
    if (old > now && (old ^ at) >> proi_wheel_level(now, old) * PROI_WHEEL_BITS == 0)
        op->time_at = at;
    else
        proi_wheel_move_slot(wheel, op, at);
}

#endif
