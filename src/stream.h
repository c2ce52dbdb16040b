/* SPDX-License-Identifier: MIT
 *
 * What the two halves of a stream share: stream.c connects, reads and ends, stream_write.c has the queue and what sends
 * it. Nobody else includes this, so its names are as bare as those within a file. */
#ifndef PROI_STREAM_H
#define PROI_STREAM_H

#include <proactor/stream.h>

#include "check.h"

#define HIGH_DEFAULT (UINT32_C(1) << 20)

enum {
    CONNECTING = 1 << 0,    /* `in` is the connect */
    READING = 1 << 1,       /* `in` is the receive */
    FLOWING = 1 << 2,       /* the receive has credit */
    ASKED = 1 << 3,         /* a pause is to be answered */
    PAUSED = 1 << 4,        /* the caller wants no data */
    END_HELD = 1 << 5,      /* `end` is to be called */
    IN_OVER = 1 << 6,       /* nothing can come any more: end of file or a failure */
    FULL = 1 << 7,          /* the queue was at the high mark; `drained` is owed */
    BROKEN = 1 << 8,        /* writing failed */
    SHUT_WANTED = 1 << 9,   /* after the queue, shut the write side */
    SHUT_STARTED = 1 << 10, /* once */
    LINGERING = 1 << 11,    /* the queue is sent and the write side shut; `in` drops what comes */
    CLOSING = 1 << 12,      /* `out` is the close */
    GONE = 1 << 13,         /* the descriptor is closed */
};

static inline bool has(const struct pro_stream *stream, unsigned flags)
{
    return (stream->flags & flags) != 0;
}

static inline void set(struct pro_stream *stream, unsigned flags)
{
    stream->flags = (uint16_t)(stream->flags | flags);
}

static inline void clear(struct pro_stream *stream, unsigned flags)
{
    stream->flags = (uint16_t)(stream->flags & ~flags);
}

static inline struct pro_stream *of_out(struct pro_op *op)
{
    struct pro_stream *stream = PRO_CONTAINER_OF(op, struct pro_stream, out);
    proi_assert(stream->config);
    return stream;
}

static inline uint32_t high_mark(const struct pro_stream_config *config)
{
    return config->high ? config->high : HIGH_DEFAULT;
}

static inline uint64_t after(const struct pro_stream *stream, uint64_t delay_ns)
{
    uint64_t now = pro_now(stream->handle.loop);
    return delay_ns < PRO_NEVER - now ? now + delay_ns : PRO_NEVER;
}

/* Something waits for the send that is under way. */
static inline void hurry(struct pro_stream *stream)
{
    pro_op_lazy(&stream->out, false);
}

/* ---- Rings of slices, known by the last ---- */

static inline void ring_append(struct pro_slice **last, struct pro_slice *slice)
{
    proi_assert(slice && !slice->next);
    slice->next = *last ? (*last)->next : slice;
    if (*last)
        (*last)->next = slice;
    *last = slice;
}

static inline struct pro_slice *ring_pop(struct pro_slice **last)
{
    proi_assert(*last);
    struct pro_slice *first = (*last)->next;
    if (first == *last)
        *last = NULL;
    else
        (*last)->next = first->next;
    first->next = NULL;
    return first;
}

/* ---- stream.c ---- */

/* The first error is the one that `closed` tells; the loss of the connection is what `end` tells. */
void proi_stream_note_error(struct pro_stream *stream, int error);

/* Takes the next step of an ending that was asked for. */
void proi_stream_advance(struct pro_stream *stream);

/* ---- stream_write.c ---- */

/* Gives `out` the next thing to do, if it is idle and there is one. */
void proi_stream_pump(struct pro_stream *stream);

/* Drops what is queued now. What callbacks add meanwhile stays. */
void proi_stream_drop(struct pro_stream *stream, int error);

/* What is queued cannot be sent any more. True: the caller is to be told. */
bool proi_stream_give_up(struct pro_stream *stream, int error);

#endif
