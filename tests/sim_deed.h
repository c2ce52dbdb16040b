/* SPDX-License-Identifier: MIT
 *
 * The inside of sim_acts.h: seats are handles, deeds are operations, each in memory of its own that goes with its last
 * continuation.
 *
 *      sim_acts.c   the loops, the acts, the beginning and the end
 *      sim_deed.c   what each kind of operation is started with, and what its results may be
 *      sim_seat.c   how handles come, are handed on and go
 *      sim_wait.c   what may still be in flight when everything has had its time
 *      sim_ways.c   what is received, if that was sent */
#ifndef TESTS_SIM_DEED_H
#define TESTS_SIM_DEED_H

#include <netinet/in.h>

#include "sim_acts.h"
#include "sim_ways.h"

enum {
    LOOPS = 2,
    SEATS = 14,
    DEEDS = 40 + SEATS, /* those at the end are for the last closes */
    KEPT = 24,
    DEED_DATA = 1300,
};

enum seat_type { LISTENER, STREAM, DATAGRAMS, READER, WRITER, PAPER, SEAT_TYPES };

enum kind {
    RECV,
    RECV_ALL,
    RECV_MULTI,
    SEND,
    SEND_SLICES,
    SHUTDOWN,
    READ,
    WRITE,
    POLL,
    POLL_MULTI,
    ACCEPT,
    ACCEPT_MULTI,
    CONNECT,
    TIMER,
    TIMER_EVERY,
    POST,
    CLOSE,
    ABORT,
    RELEASE,
    VERIFY, /* a file is read to its end */
    KINDS,
};

/* What is counted, for hits.h. */
enum counted {
    ACT_CANCEL,
    ACT_CANCEL_TWICE,
    ACT_RESTART,
    ACT_CLOSE,
    ACT_ABORT,
    ACT_FREE_OP,
    ACT_PAUSE,
    ACT_DEADLINE,
    ACT_POST,
    MEMORY_REUSED,
    LOOP_FREED,
    COUNTED,
};

struct seat;

/* Two ends, and what goes from each to the other: ways[i] begins at end i. */
struct wire {
    struct way ways[2];
    bool open[2];
    bool wanted; /* end 1 may still be accepted */
    struct sockaddr_in to;
};

struct seat {
    struct pro_handle handle;
    struct acts *acts;
    enum seat_type type;
    unsigned index, loop;
    uint32_t serial;    /* stands in the slices it has brought */
    unsigned in_flight; /* but for its close */
    unsigned starts;    /* and credit that made a receive go on: what came when */
    int fd;
    bool closing, connecting;
    bool failed; /* there is nothing to do with it but to close it */
    struct wire *wire;
    unsigned side;
    struct paper *paper;
};

struct deed {
    struct pro_op op;
    struct acts *acts;
    struct seat *seat; /* NULL: a timer or a post */
    enum kind kind;
    unsigned index, loop;
    uint32_t number; /* of what it sends or writes, of a post, of the paper it reads */
    uint32_t size;
    uint32_t credit, credit_after; /* what may come before, and after the answer to a pause */
    uint32_t offset;
    unsigned reports;
    unsigned order, since; /* of seat->starts, when it was started, and when it had credit again */
    unsigned passed;       /* receives that came before it, since then */
    uint64_t at, deadline;
    bool asked;  /* to end */
    bool late;   /* a deadline had passed when it was moved */
    bool first;  /* it was asked before any deadline had passed: that names the error */
    bool doomed; /* it was started where nothing can be any more */
    bool pausing, known, background;
    bool given; /* more credit: it is not known which of it a datagram was cut by */
    struct iovec iov[3];
    uint8_t data[DEED_DATA];
};

struct pulse {
    struct pro_op op;
    struct acts *acts;
};

struct acts {
    struct pro_sim *sim;
    struct hits *hits;
    struct pro_loop *loops[LOOPS];
    struct pro_remote *remotes[LOOPS];
    struct pro_pool *pools[LOOPS];
    uint32_t buffer_size, quota;
    uint32_t seats_made;
    struct sockaddr_in at[LOOPS];
    struct pulse pulses[LOOPS];
    struct seat *seats[SEATS];
    struct deed *deeds[DEEDS];
    struct pro_slice *kept[KEPT];
    unsigned kept_count;
    struct deed *spare; /* memory of the operation that has just ended, for the next */
    uint32_t posted[LOOPS], taken[LOOPS];
    unsigned running; /* the loop of the continuation that runs */
    unsigned focus;   /* the seat where most happens */
    bool busy;        /* in a continuation, or in a call */
    bool ending;      /* no new handles */
    bool freeing[LOOPS];
    unsigned runs, budget; /* continuations that were called, and within which there are acts */
    uint64_t counts[COUNTED];
};

static inline uint32_t draw(const struct acts *a, uint32_t count)
{
    return pro_sim_choose(a->sim, count);
}

/* ---- sim_acts.c ---- */

/* Starts an operation on a seat, or one without a seat on a loop. False if there was no room, or nothing to start. */
bool deed_begin(struct acts *a, enum kind kind, struct seat *seat, unsigned loop);
/* No more acts. */
bool acts_are_over(const struct acts *a);
pro_fn on_deed;

/* ---- sim_deed.c ---- */

/* Sets it in motion; false if it cannot be. */
bool deed_start(struct deed *d);
/* Judges one completion. */
void deed_judge(struct deed *d, struct pro_result r);
void deed_credit(struct deed *d, uint32_t bytes);
void deed_pause(struct deed *d);
/* Something to do on a seat; KINDS if there is nothing. */
enum kind deed_choose(struct acts *a, const struct seat *seat);
void act_try_send(struct acts *a, struct seat *seat);
/* A slice that nobody needs yet; and one of those, or NULL. */
void keep_slice(struct acts *a, struct pro_slice *slice);
struct pro_slice *take_slice(struct acts *a);

/* ---- sim_seat.c ---- */

/* A new pair, pipe, file, connection or listener; it may come to nothing. */
void seat_something(struct acts *a);
void seat_listener(struct acts *a, unsigned loop);
/* An accept has brought a descriptor. */
void seat_accepted(struct seat *listener, int fd);
/* Its handle is closed, or released if `fd` is not negative: it is handed on, or goes. */
void seat_closed(struct seat *seat, int fd);
/* Its loop is gone. */
void seat_lost(struct seat *seat);
/* The port of its end or of the other, as it stands in an address; 0. */
uint16_t seat_port(const struct seat *seat, bool peer);

/* ---- sim_wait.c ---- */

/* Nothing has been done for seconds, and nothing goes wrong any more: fails if an operation is in flight that should
 * have ended. */
void deeds_that_wait(struct acts *a);

#endif
