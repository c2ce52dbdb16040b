/* SPDX-License-Identifier: MIT
 *
 * What goes one way between two ends, and what is in a file: small models, which a simulated world is held against.
 *
 * What is sent the n-th time one way has bytes that tell n and their place. So it can be said of each byte received
 * whether it is the next one, although nobody knows yet how far the sends that are under way will get:
 *
 *      sendings   [ over, 900 of 900 | over, 0 of 50 | in flight, of 300 | in flight, of 40 ]
 *                   first                              at, got 120                     next ->
 *
 * Whatever does not fit fails the world. */
#ifndef TESTS_SIM_WAYS_H
#define TESTS_SIM_WAYS_H

#include <proactor/sim.h>

enum {
    SENDING_MOST = 40000,  /* bytes of one sending */
    DATAGRAM_MOST = 1000,  /* of a datagram; every socket of a world takes as many */
    DATAGRAMS_MOST = 250,  /* one way: the first byte tells which it is */
    WAY_ROOM = 32,         /* sendings that are not accounted for yet */
    PAPER_ROOM = 6 * 1024, /* bytes of a file */
    PAPER_WRITES = 16,
};

/* The bytes of the n-th sending: SENDING_MOST of them. */
const uint8_t *sending_bytes(uint32_t n);
/* The length of the n-th datagram. */
uint32_t datagram_size(uint32_t n);

struct sending {
    uint32_t size, moved;
    bool over;    /* `moved` is known */
    bool skipped; /* a later one has come before it: nothing of it may have moved */
};

struct way {
    struct pro_sim *sim;
    uint32_t first, next; /* sendings that are kept */
    uint32_t at, got;     /* what is being received, and the bytes of it that were */
    uint32_t cut;         /* the sending after which nothing goes any more; UINT32_MAX */
    bool ended;           /* an end of file was received */
    bool loose;           /* an error, or the end that receives, may have made it end early */
    struct sending sendings[WAY_ROOM];
};

void way_init(struct way *way, struct pro_sim *sim);
/* Whether one more may be sent. */
bool way_open(const struct way *way);
/* The number of a sending that begins. */
uint32_t way_begin(struct way *way, uint32_t size);
/* It is over: `moved` bytes went, and `res` was told. */
void way_over(struct way *way, uint32_t n, uint32_t moved, int res);
/* Another handle holds the sending end: a cut is forgotten. */
void way_mend(struct way *way);
void way_receive(struct way *way, const uint8_t *data, uint32_t size);
void way_end(struct way *way);
/* Whether something has gone for certain and was not received, though it can be. */
bool way_holds(const struct way *way);
/* Both ends are gone. */
void way_judge(const struct way *way);
/* A datagram; `cut`: perhaps not all of it. */
void way_receive_datagram(const struct way *way, const uint8_t *data, uint32_t size, bool cut);

/* A file that is written to either where it stands or at places, and read in the other manner. */
struct paper {
    struct pro_sim *sim;
    bool stream_writes;
    uint32_t size, position; /* of the one who reads or writes in stream */
    uint32_t planned;        /* bytes of all writes in stream */
    uint32_t first, next, version, cut;
    struct {
        uint32_t offset, size, moved;
        bool over;
    } writes[PAPER_WRITES];
    uint8_t bytes[PAPER_ROOM];
};

/* `paper->bytes` are the first `size` bytes of sending 0. */
void paper_init(struct paper *paper, struct pro_sim *sim, bool stream_writes, uint32_t size);
/* Whether so many bytes may be written. */
bool paper_open(const struct paper *paper, uint32_t size);
/* The number of a write that begins; `offset` does not matter in stream. */
uint32_t paper_begin(struct paper *paper, uint32_t offset, uint32_t size);
void paper_over(struct paper *paper, uint32_t n, uint32_t moved, int res);
void paper_mend(struct paper *paper);
/* Whether no write is under way. */
bool paper_still(const struct paper *paper);
/* A read brought `size` bytes (0: the end), from `offset` on or, if that is UINT32_MAX, from where the file stands.
 * `known`: no write was under way meanwhile. */
void paper_read(struct paper *paper, uint32_t offset, const uint8_t *data, uint32_t size, bool known);

#endif
