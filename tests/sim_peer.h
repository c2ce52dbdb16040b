/* SPDX-License-Identifier: MIT
 *
 * A peer of the reverse service in a simulated world: a client that behaves in one of many ways, good and bad, and checks
 * every byte it gets against the oracle.
 */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H

#include <netinet/in.h>
#include <proactor/sim.h>

#include "hits.h"
#include "reverse_oracle.h"

enum behaviour {
    PIPELINED,   /* sends as it can, reads as it can */
    HALF_CLOSE,  /* shuts its side when all is sent, and reads the rest */
    SLOW_READER, /* reads little, and seldom */
    SLOW_SENDER, /* a byte at a time, in good time */
    STALLS,      /* stops inside of a frame */
    BAD_HEADER,
    TRUNCATED,
    GIBBERISH, /* bytes one by one, as they come to its mind; then it shuts its side */
    RESETS_MID_FRAME,
    RESETS_OWED,
    NEVER_READS,
    SAYS_NOTHING,
    BEHAVIOURS,
};

/* How it ended. */
enum peer_end {
    PEER_UNDER_WAY,
    PEER_NOT_CONNECTED,
    PEER_CLEAN,  /* end of file */
    PEER_BROKEN, /* an error */
    PEER_LEFT,   /* it went of its own accord */
};

/* What all peers of a world share. */
struct peers {
    struct pro_sim *sim;
    struct hits *hits;
    struct sockaddr_in server;
    uint32_t most_frame;
    uint64_t give_up_ns; /* how long a peer stays, at most */
    bool freed;          /* the service's loop was taken away, and its connections closed where they stood */
    unsigned connected, over;
    uint64_t bytes; /* of answers */
};

struct peer {
    struct peers *all;
    struct pro_loop *loop;
    struct pro_pool *pool; /* or NULL: it receives into its own memory */
    struct pro_handle handle;
    struct pro_op out, in, out_wait, in_wait, guard, close;
    enum behaviour how;
    enum peer_end end;
    int error;
    uint8_t *request, *answer;
    size_t request_size, request_room;
    struct oracle_answer owed; /* for all of it, which is `answer` */
    size_t sent, got, stop_at;
    size_t least; /* that it must get: owed for what had arrived when the service was told to end */
    unsigned tries;
    bool sending, closing, shut;
    bool taken; /* its loop was freed */
    struct iovec iov;
    uint8_t buffer[4096];
    struct peer *next;
};

/* Begins; the memory is the caller's until peer_over. */
void peer_begin(struct peer *peer, struct peers *all, struct pro_loop *loop, struct pro_pool *pool);
bool peer_over(const struct peer *peer);
void peer_free(struct peer *peer);
/* The service is told to end: what has arrived there by now it will answer. */
void peer_note_drain(struct peer *peer);

/* What went wrong in a world. */
enum disturbance {
    UNDISTURBED, /* nothing: everybody must have got what it was owed */
    DRAINED,     /* the service was told to end: what had arrived must have been answered */
    DISTURBED,
};
/* Judges an ended peer. */
void peer_judge(const struct peer *peer, enum disturbance disturbance);

#endif
