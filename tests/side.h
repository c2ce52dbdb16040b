/* SPDX-License-Identifier: MIT
 *
 * A `side` is a stream with a memory: it counts its callbacks and fails the test when one comes that may not (data
 * while paused, anything but `closed` and answers after a close, anything outside pro_run, anything after `closed`).
 * The far end is mostly a plain descriptor, read and written between turns that do not wait.
 */
#ifndef TESTS_SIDE_H
#define TESTS_SIDE_H

#include "harness.h"

#include <proactor/stream.h>

#define MS UINT64_C(1000000)

enum kind { UNIX, TCP, KINDS };
enum event { CONNECTED, DATA, END, DRAINED, BROKEN, WRITTEN, CLOSED, EVENTS };

struct side {
    struct pro_stream *stream; /* memory of its own, freed in `closed` */
    struct pro_stream_config config;
    struct world *w;
    int far;
    unsigned count[EVENTS];
    int error[EVENTS]; /* of the last */
    unsigned requests, ok, failed, cancelled;
    bool paused, closing, keep;
    bool check;                    /* that what is received follows the pattern */
    uint64_t received;             /* bytes */
    uint64_t written_at;           /* the pattern's position of what is written next */
    struct pro_slice *head, *tail; /* kept */
    uint8_t *got;                  /* what the far end has read */
    size_t got_size, got_room;
    int far_error; /* 0: end of file; 1: not yet */
    void (*act)(struct side *side, enum event event);
    int choice; /* for `act` */
    uint64_t random;
};

/* The next random number of this side, below `below`. */
uint32_t draw(struct side *side, uint32_t below);
struct side *side_of(struct pro_stream *stream);
/* Frees the stream. */
void on_closed(struct pro_stream *stream, int error);

/* A side with a closed stream, the default configuration and no far end. */
struct side *side_new(struct world *w, struct pro_pool *pool);
/* Opens it on one end of a new connection; `far` is the other. */
void side_open(struct side *side, enum kind kind);
/* The same with little room between the two ends. (With the least TCP allows, it would wait for its timers.) */
void side_open_narrow(struct side *side, enum kind kind);

/* The calls of a stream, noted. side_write writes the pattern, in memory that is freed when it is answered. */
void side_pause(struct side *side);
void side_resume(struct side *side);
void side_end(struct side *side, enum pro_stream_ending ending);
void side_write(struct side *side, uint32_t size);
/* The first kept slice, now the caller's; and all given back. */
struct pro_slice *side_take(struct side *side);
void side_drop(struct side *side);
/* Writes slices over with the pattern, and writes them. */
void side_forward(struct side *side, struct pro_slice *list);

/* Reads at most `most` bytes of what is there at the far end. */
void far_read(struct side *side, size_t most);
/* Writes the pattern at the far end, as much as fits, from position *at up to `end`. */
void far_write(struct side *side, uint64_t *at, uint64_t end, size_t most);
void far_reset(struct side *side);
void far_close(struct side *side);

/* Runs and reads until a stream that is ending is closed. */
void side_done(struct side *side);
/* Ends a side of which nothing more is to be seen. */
void side_finish(struct side *side);
void assert_pool_idle(struct pro_pool *pool);
bool far_has_pattern(const struct side *side);
/* Has the far end send `size` bytes, which the side keeps. */
void side_collect(struct side *side, size_t size);

struct server {
    int fd;
    struct sockaddr_storage address;
    socklen_t length;
};

/* A TCP socket on loopback; with a backlog below 0 it does not listen. */
struct server server_new(struct world *w, int backlog);
/* Fills the backlog, so that further connects get no answer. */
void server_fill(struct world *w, const struct server *server);
void side_connect(struct side *side, const struct server *server, uint64_t deadline);

/* An act: ends the stream, in the event and in the way that `choice` says (event * 8 + way), and tries what may be called
 * after that. */
void end_in_event(struct side *side, enum event event);

/* Turns that do not wait, with the far end reading up to `most` bytes a turn, until `condition` holds. */
#define READ_UNTIL(side, most, condition)                                                                              \
    do {                                                                                                               \
        for (unsigned turns_ = 0; !(condition); turns_++)                                                              \
            read_step((side), (most), turns_, #condition, __LINE__);                                                   \
    } while (0)

void read_step(struct side *side, size_t most, unsigned turn, const char *condition, int line);

#endif
