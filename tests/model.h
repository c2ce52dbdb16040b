/* SPDX-License-Identifier: MIT
 *
 * The contract as a judge. It is given a history, which is all that a program asked of a loop and all that it was told,
 * and says whether a loop that keeps the contract could have told that. It calls nothing of the library, so it judges
 * every backend alike; of <proactor.h> it knows the flags.
 *
 * What it leaves open is what the contract leaves open: in how many pieces bytes come, in which order operations of
 * different lanes end, who wins a race.
 *
 * A flight is one start of an operation with all that came of it, counted from 0 in the order of the starts. An end is
 * one end of a connection, or a listener; it outlives its handle where that is released and the descriptor adopted again. */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <proactor.h>

enum { NOBODY = UINT16_MAX }; /* no handle, no end, no flight */

enum flight_kind {
    FLIGHT_RECV,
    FLIGHT_RECV_MULTI,
    FLIGHT_ACCEPT,
    FLIGHT_ACCEPT_MULTI,
    FLIGHT_CONNECT,
    FLIGHT_SEND,
    FLIGHT_SEND_SLICES,
    FLIGHT_TRY_SEND, /* ends as it starts */
    FLIGHT_SHUTDOWN,
    FLIGHT_POLL,
    FLIGHT_POLL_MULTI,
    FLIGHT_TIMER,
    FLIGHT_TIMER_EVERY,
    FLIGHT_POST,
    FLIGHT_CLOSE,
    FLIGHT_ABORT,
    FLIGHT_RELEASE,
    FLIGHT_KINDS,
};

enum event_what {
    EVENT_OPEN,    /* `handle`, with the descriptor `res`; on `end`, if it is a connection, opposite `peer` if known */
    EVENT_DISCARD, /* what an accept brought is closed at once: `end`, opposite `peer` */
    EVENT_START,   /* `flight` */
    EVENT_DONE,    /* a completion of `flight` */
    EVENT_CANCEL,  /* of `flight` */
    EVENT_CANCEL_ALL, /* of what is in flight on `handle` */
    EVENT_DEADLINE,   /* of `flight` becomes `at`; 0: none */
    EVENT_CREDIT,     /* `size` more for `flight` */
    EVENT_PAUSE,      /* of `flight` */
    EVENT_RETURN,     /* of `size` slices; the judge does not look at it, ... */
    EVENT_SPLIT,      /* ... nor at this: of a slice at `size`, with `res` */
    EVENT_BOOKS,      /* between turns: what pro_loop_stats says */
    EVENT_FREE,       /* the loop is about to be freed */
    EVENT_END,        /* it has been, and all slices are returned: `started` of them, so says the pool, are out */
    EVENT_WHATS,
};

struct event {
    enum event_what what;
    enum flight_kind kind; /* of the flight */
    uint16_t flight, handle, end, peer;
    bool inside;    /* a continuation */
    bool nested;    /* DONE: while a call of the program was under way */
    bool in_flight; /* DONE: what pro_op_in_flight says */
    bool slice;     /* DONE: one came */
    uint32_t flags; /* START: PRO_RECV_ALL; DONE: of the result */
    int32_t res;
    uint32_t size;    /* START: bytes of memory, credit, bytes to send, events, `how` */
    uint32_t moved;   /* final DONE of a send: pro_op_bytes */
    uint32_t count;   /* bytes that are to be sent or have come, ... */
    size_t bytes;     /* ... and where in the history's bytes they are */
    uint64_t turn;    /* turns so far, by pro_loop_stats */
    uint64_t now;     /* pro_now */
    uint64_t at;      /* a timer's or deadline's time */
    uint64_t every;   /* a timer's interval */
    uint64_t preset;  /* START: the deadline set before it, or 0 */
    uint16_t target;  /* START of a connect: the listener's end */
    uint64_t started; /* BOOKS; END */
    uint64_t completed;
    uint64_t flying;
};

struct history {
    struct event *events;
    size_t count, room;
    uint8_t *bytes;
    size_t byte_count, byte_room;
    bool prompt; /* in a turn there is room for all there is to tell, and what is cancelled ends at once */
};

/* Appends. The event, valid until the next is added. */
struct event *history_add(struct history *h, struct event event);
/* Keeps a copy; where it is. */
size_t history_keep(struct history *h, const void *data, size_t size);
struct history history_copy(const struct history *h);
void history_free(struct history *h);
/* The events from `first` on, at most `most`, a line each. */
void history_print(const struct history *h, size_t first, size_t most, FILE *to);

/* What is wrong with a history first. */
struct verdict {
    const char *rule; /* one of model_rule(); NULL: it is accepted */
    const char *complaint;
    size_t event; /* that showed it */
};
struct verdict model_judge(const struct history *h);

/* The names of the rules, which begin with their clause; NULL from the number of them on. */
const char *model_rule(unsigned i);

const char *event_name(enum event_what what);
const char *flight_name(enum flight_kind kind);
/* More than one completion may come; it receives or accepts; it sends, or waits among what is sent. */
bool flight_is_multi(enum flight_kind kind);
bool flight_receives(enum flight_kind kind);
bool flight_sends(enum flight_kind kind);
bool flight_closes(enum flight_kind kind);

#endif
