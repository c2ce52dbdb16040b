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
    uint64_t now; /* up to here everything has been handed out */
    uint64_t occupied[PROI_WHEEL_LEVELS];
    struct pro_op *slots[PROI_WHEEL_LEVELS][PROI_WHEEL_SLOTS];
    struct pro_op *due; /* inserted with a time that had passed */
};

void proi_wheel_init(struct proi_wheel *wheel, uint64_t now);

/* `op` is not in the wheel and op->time_at is set; for the second: is in the wheel. */
void proi_wheel_insert(struct proi_wheel *wheel, struct pro_op *op);
void proi_wheel_remove(struct proi_wheel *wheel, struct pro_op *op);

/* Moves on to `now` and returns what is due, chained by time_next and out of the wheel (time_prev NULL). */
struct pro_op *proi_wheel_advance(struct proi_wheel *wheel, uint64_t now);

/* A time not after the first that is due, and after `now` unless something is due: how long one may sleep.
 * UINT64_MAX when the wheel is empty. */
uint64_t proi_wheel_next(const struct proi_wheel *wheel);

/* Any operation that is in the wheel, or NULL. */
struct pro_op *proi_wheel_any(const struct proi_wheel *wheel);

#endif
