/* SPDX-License-Identifier: MIT
 *
 * What is known of a history: of each flight, handle and end what came of it in all, gathered first, and what was known
 * so far, noted as the judge goes from event to event. For the rules of model.c and model_results.c. */
#ifndef TESTS_MODEL_FACTS_H
#define TESTS_MODEL_FACTS_H

#include <errno.h>

#include "model.h"

struct flight {
    const struct event *start, *final;
    const struct event *last_piece; /* the last that brought bytes */
    uint64_t stream_at;             /* a send: where its bytes begin in what its end sent */
    const struct event *cancel;     /* so far: what asked it to end */
    const struct event *set;        /* so far: what set the deadline that holds, ... */
    uint64_t deadline;              /* ... and that, or 0 */
    bool may_be_late, is_late;      /* so far: a deadline may have, has taken effect before any cancel */
    bool pausing;                   /* so far: a pause waits for its answer */
    uint32_t credit, given;         /* so far: what may still come, and what is for after the answer */
    const struct event *stood;      /* the last time when it stood still and went on */
    bool displaced;                 /* so far: a timer that a deadline has brought forward or let back */
    uint64_t due;                   /* so far: a repeating timer's times */
};

struct handle {
    const struct event *open, *closing, *closed;
};

/* One end of a connection, or a listener. The events are the first of their kind. */
struct end {
    uint16_t peer;                                                 /* or NOBODY */
    uint16_t target;                                               /* the listener it connects to, or NOBODY */
    const struct event *shut_read, *shut_write, *closed, *aborted; /* a shutdown only if it was done */
    uint64_t sent, got;                                            /* in all */
    uint64_t received;                                             /* so far */
    unsigned connects, accepts;                                    /* so far: of a listener */
    bool at_end;                                                   /* so far: it was told that nothing more comes */
};

struct model {
    const struct history *h;
    const struct event *freed; /* or NULL */
    const struct event *lost;  /* the first connection discarded whose other end is not known */
    struct flight *flights;
    struct handle *handles;
    struct end *ends;
    unsigned flight_count, handle_count, end_count;
    uint64_t started, completed, posts; /* so far; posts in flight */
    uint16_t last_post;                 /* that was done, or NOBODY */
};

#define BIT(kind) (1u << (kind))
enum {
    STREAM_RECEIVES = BIT(FLIGHT_RECV) | BIT(FLIGHT_RECV_MULTI),
    STREAM_SENDS = BIT(FLIGHT_SEND) | BIT(FLIGHT_SEND_SLICES) | BIT(FLIGHT_TRY_SEND),
    ACCEPTS = BIT(FLIGHT_ACCEPT) | BIT(FLIGHT_ACCEPT_MULTI),
    POLLS = BIT(FLIGHT_POLL) | BIT(FLIGHT_POLL_MULTI),
    TIMERS = BIT(FLIGHT_TIMER) | BIT(FLIGHT_TIMER_EVERY),
    CLOSES = BIT(FLIGHT_CLOSE) | BIT(FLIGHT_ABORT) | BIT(FLIGHT_RELEASE),
};

static inline bool is(const struct event *e, unsigned kinds)
{
    return (BIT(e->kind) & kinds) != 0;
}

static inline bool before(const struct event *first, const struct event *second)
{
    return first && first < second;
}

static inline bool in_flight(const struct flight *f, const struct event *e)
{
    return before(f->start, e) && (!f->final || f->final > e);
}

static inline bool is_final(const struct event *e)
{
    return e->what == EVENT_DONE && !(e->flags & PRO_MORE);
}

/* A result that says nothing but that it was told to end. */
static inline bool was_ended(int res)
{
    return res == -ECANCELED || res == -ETIME || res == -ESHUTDOWN;
}

static inline struct flight *flight_of(const struct model *m, const struct event *e)
{
    return &m->flights[e->flight];
}

/* The end that an operation is on; NULL for timers, posts and listeners. */
static inline struct end *end_of(const struct model *m, const struct event *e)
{
    uint16_t end = e->handle == NOBODY ? NOBODY : m->handles[e->handle].open->end;
    return end == NOBODY ? NULL : &m->ends[end];
}

static inline const struct end *peer_of(const struct model *m, const struct end *end)
{
    return end->peer == NOBODY ? NULL : &m->ends[end->peer];
}

/* The turn at whose end the deadline of `f` took effect for sure, before `e`; or 0. */
uint64_t facts_late_since(const struct model *m, const struct flight *f, const struct event *e);
/* Whether `f` may have been told to end by `e`: by cancel, close or deadline. */
bool facts_may_be_ending(const struct flight *f, const struct event *e);
/* The first send of the same handle, before `f`, that was cut. */
const struct flight *facts_cut_before(const struct model *m, const struct flight *f);

/* One end whose other was gone before it could tell its address. */
bool facts_unknown(const struct end *end);
/* Whether the connection may have been reset: it was aborted, or closed with bytes unread, or bytes came to where
 * nobody reads any more. */
bool facts_may_be_reset(const struct model *m, const struct end *end, const struct event *e);
/* Whether the end of the stream may be there, for one who has received all up to `position`. */
bool facts_may_be_at_end(const struct model *m, const struct end *end, const struct event *e, uint64_t position);
/* Whether either side has ended its part, in either direction. */
bool facts_may_hang_up(const struct model *m, const struct end *end, const struct event *e);

/* All that came of all; freed by facts_drop. */
void facts_gather(struct model *m, const struct history *h);
void facts_drop(struct model *m);
/* What the program does: before the event is judged. And what it was told: after a completion was accepted. */
void facts_note(struct model *m, const struct event *e);
void facts_take(struct model *m, const struct event *e);

/* A rule says NULL or what is wrong. Here are those of model_results.c, which is about what operations bring. */
typedef const char *rule_fn(const struct model *m, const struct event *e);
rule_fn c07_slices, c08_credit, c09_receives_in_order, c09_sends_in_order, c09_bytes, c09_sends_are_whole,
    c09_cut_is_the_last, c09_shutdown_in_its_turn, c09_all_bytes, c10_end_of_file, c10_errors, c10_results,
    polls_tell_what_is, accept_brings_what_connects;

#endif
