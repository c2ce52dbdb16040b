/* SPDX-License-Identifier: MIT
 *
 * One connection of the reverse service. Private to session.c and service.c.
 */
#ifndef PROTO_SESSION_H
#define PROTO_SESSION_H

#include <proactor/stream.h>

#include "frame.h"
#include "gather.h"
#include "service.h"

/* What an idle connection costs, besides the kernel's part. */
struct session {
    struct pro_stream stream;
    struct session *next, *prev; /* of the service */
    struct frame_parser parser;
    union {
        struct gather gather;    /* the frame under way */
        struct service *service; /* once it has ended */
    };
    uint64_t frames;     /* answered */
    uint32_t drain_left; /* while draining: bytes still to be read */
    bool paused;         /* it owes us reading */
    bool draining;
    bool ended; /* counted, logged, and on its way */
};

_Static_assert(sizeof(struct session) - sizeof(struct pro_stream) <= 64, "an idle connection costs this");

/* What the sessions of a service share. */
struct service {
    struct pro_loop *loop;
    struct pro_pool *pool;
    struct service_config config;
    struct pro_stream_config stream_config;
    struct gather_cache cache;
    struct pro_op trim; /* of the cache, while it may hold something */
    struct service_counters counters;
    struct session *sessions;

    /* Accepting: service.c's. */
    struct listener *listeners;
    struct pro_op backoff; /* while accepting rests */
    struct pro_op drain_timer;
    uint64_t drain_began;
    uint64_t next_complaint; /* the rest of accepting is not logged before */
    uint32_t listener_count; /* those that are not closed */
    uint32_t max_connections;
    uint32_t reserved; /* single accepts in flight, each of which may become a connection */
    uint8_t accepting; /* enum accept_mode */
    bool started, draining, cut;
};

/* Fills in the callbacks of `service->stream_config`. */
void session_configure(struct service *service);

/* Takes a connection in. -ENOMEM: it is the caller's still. */
int session_open(struct service *service, int fd);

/* Reads what has arrived by now, answers it, closes. */
void session_drain(struct session *session);

/* Resets it. */
void session_cut(struct session *session);

/* Called by a session that drew on the cache: what that keeps without need is freed after a while. */
void service_drew(struct service *service);

/* Called by a session that is closed; its memory is gone then. */
void service_left(struct service *service);

#endif
