/* SPDX-License-Identifier: MIT
 *
 * The reverse service: listeners, connections, limits, endings and counters, on one loop.
 *
 *      struct service *service;
 *      service_new(loop, &config, &service);
 *      service_listen(service, address, length, 0, NULL, NULL);
 *      service_start(service, max_connections);
 *      pro_run(loop, PRO_RUN_DEFAULT);          serves until service_drain or service_cut has done its work
 *      pro_loop_free(loop);
 *      service_free(service);
 *
 * It stands on the public header alone, takes time from the loop, and so runs on any backend. All calls are for the
 * loop's thread.
 */
#ifndef PROTO_SERVICE_H
#define PROTO_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <proactor.h>

#include "log.h"

struct service;

/* Durations of 0 are no limit. Copied. */
struct service_config {
    uint32_t max_frame;  /* payload bytes, 1 to FRAME_PAYLOAD_MAX */
    uint32_t high_water; /* pinned bytes owed to a peer at which it is no longer read, at least 1 */
    uint64_t idle_ns, frame_ns, send_ns, drain_ns;
    struct log *log; /* outlives the service */
};

/* How a connection ended: the first cause, counted once and logged once. */
enum service_ending {
    ENDED_CLOSED,    /* end of file between frames */
    ENDED_TRUNCATED, /* end of file inside a frame */
    ENDED_BAD,       /* a bad header */
    ENDED_RESET,     /* by the peer */
    ENDED_IDLE,      /* no frame for too long */
    ENDED_SLOW,      /* a frame took too long */
    ENDED_STALLED,   /* the peer did not read its answers */
    ENDED_DRAINED,   /* the server stopped, everything received was answered */
    ENDED_CUT,       /* the server stopped at once */
    ENDED_FAILED,    /* out of memory, or an error of the network */
    SERVICE_ENDINGS,
};

/* "closed", "truncated", "bad_header", … */
const char *service_ending_name(enum service_ending ending);

struct service_counters {
    uint64_t accepted;      /* connections */
    uint64_t open;          /* of those, still there */
    uint64_t frames;        /* answered */
    uint64_t bytes;         /* received */
    uint64_t pauses;        /* times a peer was not read because it owed us reading */
    uint64_t accept_pauses; /* times accepting rested because the system was short of something */
    uint64_t refused;       /* accepted and closed at once: over the limit, or out of memory */
    uint64_t ended[SERVICE_ENDINGS];
};

/* -ENOMEM, or what pro_pool_new says. */
int service_new(struct pro_loop *loop, const struct service_config *config, struct service **ret_service);

/* Frees the service, after its loop has been freed. NULL is fine. */
void service_free(struct service *service);

/* Listens, but accepts nobody yet. `flags` as for pro_listen. The address it got is stored if wanted. */
int service_listen(struct service *service, const struct sockaddr_storage *at, socklen_t length, unsigned flags,
                   struct sockaddr_storage *ret_at, socklen_t *ret_length);

/* The same with a socket that listens already; the service owns it from now on, unless it fails: -ENOMEM. */
int service_adopt(struct service *service, int fd);

/* Begins to accept, up to so many connections at a time, never more. */
void service_start(struct service *service, uint32_t max_connections);

/* An orderly end: stops listening, answers what has arrived, closes, and has then nothing in flight. If the drain
 * takes too long it is cut. Once; later calls do nothing. */
void service_drain(struct service *service);

/* The end at once: every connection is reset, and pro_run returns. */
void service_cut(struct service *service);

/* Whether connections were reset because the end had to be at once or the drain took too long. */
bool service_was_cut(const struct service *service);

void service_counters(const struct service *service, struct service_counters *ret_counters);

/* Writes the counters to the log as one line, whatever its level, if it takes one. `thread` is for the line. The loop is
 * still there. */
void service_print_counters(const struct service *service, unsigned thread);

#endif
