/* SPDX-License-Identifier: MIT
 *
 * The inside of a running script: script_run.c begins and ends it and has the continuation, script_seats.c opens handles,
 * script_acts.c performs acts. */
#ifndef TESTS_RUNNER_H
#define TESTS_RUNNER_H

#include "script.h"

enum {
    HELD = 32, /* slices */
    MOST_ENDS = 1024,
    NO_SLOT = SLOTS,
    LISTENER = 4,
    FIRST_ACCEPTED = 7,
    QUANTUM_NS = 50000, /* of timers, so that some are due at the same time */
};

enum seat_state { EMPTY, OPEN, CLOSING };

struct seat {
    struct pro_handle *handle;
    enum seat_state state;
    uint16_t number, end; /* in the history */
    bool fresh;           /* a socket that is to be connected */
    bool usable;          /* a connection */
    struct sockaddr_storage address;
    socklen_t length; /* 0: it has none that another end could know */
};

struct runner {
    struct world *w;
    const struct script *script;
    struct history *h;
    struct pro_pool *pool, *drain_pool;
    struct pro_remote *remote;
    struct seat seats[SEATS];
    struct actor *slots[SLOTS];
    struct actor *reuse; /* of the running continuation: may be started again */
    struct pro_slice *held[HELD];
    unsigned held_count;
    unsigned calls; /* of the library that are under way, but those that run continuations */
    bool inside;    /* a continuation */
    bool ending;    /* no more reactions */
    bool trace;
    bool give_back;  /* what is released is discarded */
    unsigned flying; /* flights without a final */
    uint16_t flights, handles, ends;
    uint16_t peers[MOST_ENDS];
    bool deaf[MOST_ENDS]; /* reading was shut down */
    uint64_t turn, now;
    uint64_t position; /* of the pattern */
};

/* An operation. */
struct actor {
    struct pro_op op;
    struct runner *runner;
    struct seat *seat; /* or NULL */
    enum flight_kind kind;
    uint16_t flight, handle;
    uint8_t slot, then, way;
    uint8_t *memory;
    struct iovec iov[3];
};

/* ---- script_seats.c ---- */

struct event runner_blank(enum event_what what);
/* Appends an event, with time and turn. */
void runner_add(struct runner *r, struct event e);
void runner_books(struct runner *r);

/* ACT_OPEN. A descriptor that a release brought comes back to its seat, as the same end. */
void runner_open(struct runner *r, const struct act *act);
void runner_adopt(struct runner *r, struct seat *seat, int fd, uint16_t end);
/* An accept has brought `fd`: it gets a seat, or is discarded where none is free. */
void runner_accepted(struct runner *r, int fd);
void runner_discard(struct runner *r, int fd, uint16_t end);
/* Notes where a connection comes from, as soon as it comes from anywhere: one that is aborted has forgotten it. */
void runner_locate(struct seat *seat);

/* ---- script_acts.c ---- */

void runner_perform(struct runner *r, const struct act *act);
void runner_cancel(struct actor *a);
/* Slices: one that came is held or goes back at once; the oldest of those held go back. */
void runner_hold(struct runner *r, struct pro_slice *slice, bool keep);
void runner_return(struct runner *r, uint32_t slices);

/* ---- script_run.c ---- */

pro_fn runner_on_actor;

#endif
