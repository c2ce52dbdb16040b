/* SPDX-License-Identifier: MIT
 *
 * The ways operations are chained. All are intrusive: an operation may be in one list and one queue at a time.
 *
 *  list: doubly linked through link_next/link_prev, known by its head alone; the head's link_prev is the tail:
 *
 *      head -> A <-> B <-> C -> NULL         A.link_prev == C
 *
 *  queue: singly linked through queue_next, first in first out. Nothing is ever taken from its middle: whoever ends an
 *  operation that is in a queue leaves it there, marked, for the one that pops it.
 *
 *  braid: a queue of STRANDS queues that are pushed to and popped from in turn. The memory of a queue is known only one
 *  operation ahead; a braid's is known, and fetched, STRANDS ahead of the pop:
 *
 *      heads -> A  B  C  D          pushed: A B C D E F
 *               |  |                popped: A (and E is asked for), B (and F), ...
 *               E  F
 *
 *  A long queue, such as the continuations of a million timers, is by the pop no longer in the cache. */
#ifndef PROI_LIST_H
#define PROI_LIST_H

#include <proactor.h>

#include "check.h"

static inline void proi_list_append(struct pro_op **head, struct pro_op *op)
{
    proi_assert(!op->link_prev);
    op->link_next = NULL;
    if (*head) {
        op->link_prev = (*head)->link_prev;
        op->link_prev->link_next = op;
        (*head)->link_prev = op;
    } else {
        op->link_prev = op;
        *head = op;
    }
}

/* Puts `op` behind `after`, or first when that is NULL. */
static inline void proi_list_insert(struct pro_op **head, struct pro_op *after, struct pro_op *op)
{
    if (!*head || (after && !after->link_next)) {
        proi_list_append(head, op);
        return;
    }
    proi_assert(!op->link_prev);
    struct pro_op *next = after ? after->link_next : *head;
    op->link_next = next;
    op->link_prev = next->link_prev;
    next->link_prev = op;
    if (after)
        after->link_next = op;
    else
        *head = op;
}

static inline void proi_list_remove(struct pro_op **head, struct pro_op *op)
{
    proi_assert(op->link_prev && *head);
    struct pro_op *next = op->link_next;
    if (*head == op)
        *head = next;
    else
        op->link_prev->link_next = next;
    if (next)
        next->link_prev = op->link_prev;
    else if (*head)
        (*head)->link_prev = op->link_prev;
    op->link_next = op->link_prev = NULL;
}

struct proi_queue {
    struct pro_op *head, *tail;
};

static inline void proi_queue_push(struct proi_queue *queue, struct pro_op *op)
{
    op->queue_next = NULL;
    if (queue->head)
        queue->tail->queue_next = op;
    else
        queue->head = op;
    queue->tail = op;
}

static inline void proi_queue_push_front(struct proi_queue *queue, struct pro_op *op)
{
    op->queue_next = queue->head;
    if (!queue->head)
        queue->tail = op;
    queue->head = op;
}

static inline struct pro_op *proi_queue_pop(struct proi_queue *queue)
{
    struct pro_op *op = queue->head;
    if (op) {
        queue->head = op->queue_next;
        op->queue_next = NULL;
    }
    return op;
}

enum { PROI_STRANDS = 8 }; /* a power of two */

struct proi_braid {
    struct {
        struct pro_op *head, **end; /* where the next is linked */
    } strands[PROI_STRANDS];
    uint32_t pushed, popped; /* modulo 2^32 */
};

static inline void proi_braid_init(struct proi_braid *braid)
{
    for (unsigned i = 0; i < PROI_STRANDS; i++)
        braid->strands[i].end = &braid->strands[i].head;
    braid->pushed = braid->popped = 0;
}

static inline uint32_t proi_braid_count(const struct proi_braid *braid)
{
    return braid->pushed - braid->popped;
}

static inline void proi_braid_push(struct proi_braid *braid, struct pro_op *op)
{
    struct pro_op ***end = &braid->strands[braid->pushed++ % PROI_STRANDS].end;
    **end = op;
    *end = &op->queue_next;
}

/* It is not empty. */
static inline struct pro_op *proi_braid_pop(struct proi_braid *braid)
{
    unsigned i = braid->popped++ % PROI_STRANDS;
    struct pro_op *op = braid->strands[i].head, *next = op->queue_next;
    op->queue_next = NULL;
    if (braid->strands[i].end == &op->queue_next) {
        braid->strands[i].end = &braid->strands[i].head;
        return op;
    }
    braid->strands[i].head = next;
    __builtin_prefetch(&next->queue_next);
    __builtin_prefetch(&next->res);
    return op;
}

#endif
