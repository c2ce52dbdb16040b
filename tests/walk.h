/* SPDX-License-Identifier: MIT
 *
 * The exhaustive scenarios: what they have in common. walk.c says what they are.
 *
 *      static void cancel_recv(struct play *p)               one history, in a new world with one loop
 *      {
 *          struct { struct pro_handle handle; struct note recv; ... } x = {...};
 *          static const struct act peer[] = {{"write", peer_writes, NULL}, {0}}, program[] = {{"cancel", ...}, {0}};
 *          p->own = &x;
 *          ...                                                starts, without any choice
 *          play_cast(p, peer);
 *          play_cast(p, program);
 *          play_run(p);                                       every order of acts and of what the world does
 *          ...                                                what must hold now
 *          play_end(p);                                       frees the loop: nothing may be left
 *      }
 */
#ifndef TESTS_WALK_H
#define TESTS_WALK_H

#include <errno.h>
#include <string.h>

#include <proactor.h>
#include <proactor/sim.h>

struct play;

/* Something a player does. `can`: whether it makes sense now; NULL if it always does. */
struct act {
    const char *name;
    void (*run)(struct play *p);
    bool (*can)(struct play *p);
};

#define FAULT(name) (UINT64_C(1) << PRO_SIM_##name)

struct scenario {
    const char *name;
    const char *bounds; /* the players, in words */
    void (*body)(struct play *p);
    uint32_t faults; /* that many at most ... */
    uint64_t kinds;  /* ... of these */
    uint32_t socket_buffer;
    uint64_t latency_ns;
    bool inside; /* acts come in continuations, too */
    bool runs;   /* the loop is run by pro_run, not by the world */
};

enum { PLAYERS = 4, TAPE = 64 };

/* One history. */
struct play {
    const struct scenario *scenario;
    struct pro_sim *sim;
    struct pro_loop *loop;
    void *own; /* the scenario's */
    const struct act *players[PLAYERS];
    bool far[PLAYERS]; /* acts between steps only */
    unsigned player_count;
    bool calling;       /* a call of the library or a continuation is under way: none may begin */
    bool freeing;       /* pro_loop_free has been called */
    bool over;          /* no more acts */
    unsigned in_flight; /* notes */
    uint64_t finals;
};

/* Fails the history. */
#define CHECK(p, condition, ...) ((condition) ? (void)0 : pro_sim_fail((p)->sim, __VA_ARGS__))

/* One more player, with acts up to one without a name: the program, which acts in continuations, too; and a peer. */
void play_cast(struct play *p, const struct act *acts);
void play_cast_far(struct play *p, const struct act *acts);
/* Lets the world and the players act until nothing can happen. Faults only happen here. */
void play_run(struct play *p);
/* The same without faults and without players. */
void play_settle(struct play *p);
/* Before it, after each start: lets that go as far as it can alone, so that there are fewer histories. */
void play_rest(struct play *p);
/* Frees the loop, if it is there still; every note has had its final then. */
void play_end(struct play *p);
void play_free_loop(struct play *p);
/* A choice of the scenario's own, before anything happens. */
uint32_t play_variant(struct play *p, uint32_t count);
/* Times a fault was met in this history. */
uint64_t play_hits(const struct play *p, enum pro_sim_fault fault);
/* Around calls of the library that are not made by acts or continuations. */
void play_call(struct play *p);
void play_called(struct play *p);
/* At the end of a continuation that is no note's, which began with play_call: the players may act in it, too. */
void play_continued(struct play *p);
/* A loop like p->loop. */
struct pro_loop *play_loop(struct play *p);

/* ---- Operations that remember what came of them ---- */

struct note {
    struct pro_op op;
    struct play *play;
    const char *name;
    bool in_flight;
    bool asked;        /* to end, in this flight: -ECANCELED is legal */
    uint64_t deadline; /* of this flight: from then on -ETIME is legal */
    unsigned starts, finals, mores;
    struct pro_result last;
    void (*then)(struct note *n,
                 struct pro_result r); /* what follows; may be NULL. At a final `n` may be freed in it */
};

/* `n` is about to be started: `then` follows every completion, whose continuation is on_note. */
struct pro_op *note_begin(struct play *p, struct note *n, const char *name,
                          void (*then)(struct note *n, struct pro_result r));
pro_fn on_note;
/* It was not started after all: a post that was refused. */
void note_void(struct note *n);
void note_cancel(struct note *n);
/* Something else asks for its end: a close, say. */
void note_asked(struct note *n);
void note_deadline(struct note *n, uint64_t at);

/* ---- Bytes: a tape from one end to the other, of which every place looks different ---- */

struct tape {
    uint32_t sent, received;
    bool ended; /* the sender has sent the end */
};
char tape_byte(uint32_t place);
/* `size` bytes have come: they must be the next ones. */
void tape_take(struct play *p, struct tape *tape, const void *data, uint32_t size);
/* The next `size` bytes to be sent, of at most TAPE. */
void tape_fill(const struct tape *tape, char *data, uint32_t size);

/* The far end of a connection, played by hand. */
struct peer {
    int fd;
    struct tape in, out; /* from the program, to the program */
    int end;             /* what its last call said, once that is not bytes: 1 nothing now, 0 the end, or an error */
};

/* A connection: `handle` adopts one end, the peer has the other. */
void peer_open(struct play *p, struct peer *peer, struct pro_handle *handle);
/* Writes up to `size` bytes of its tape. */
void peer_write(struct play *p, struct peer *peer, uint32_t size);
/* Takes whatever has come for it. */
void peer_read(struct play *p, struct peer *peer);
void peer_end(struct play *p, struct peer *peer);
void peer_close(struct play *p, struct peer *peer);
/* Takes for the program what it has left unread on its descriptor. */
void peer_rest(struct play *p, struct peer *peer, int fd);

/* A listener on a port of its own, and its address. */
void play_listen(struct play *p, struct pro_handle *handle, struct sockaddr_storage *ret_address);
/* A pool of `buffers` buffers of 256 bytes, each handle may hold `quota`. */
struct pro_pool *play_pool(struct play *p, uint32_t buffers, uint32_t quota);
/* A received slice: its bytes are the next of the tape; and it is returned. */
void slice_take(struct play *p, struct tape *tape, struct pro_slice *slice);

/* ---- The scenarios, each table ended by one without a name ---- */

extern const struct scenario walk_cancel[], walk_connect[], walk_send[], walk_multi[], walk_pool[], walk_close[],
    walk_loop[], walk_stream[];

#endif
