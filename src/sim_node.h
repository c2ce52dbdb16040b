/* SPDX-License-Identifier: MIT
 *
 * What stands behind the simulated descriptors; for sim_net.c and sim_option.c. */
#ifndef PROI_SIM_NODE_H
#define PROI_SIM_NODE_H

#include "sim_net.h"

/* An address that somebody has bound or connected to. They are kept to the end of the world: there are few. */
struct sim_address {
    struct sim_address *next;
    socklen_t length;
    struct sockaddr_storage at;
};

/* node->flags */
enum {
    NODE_BOUND = 1 << 0,
    NODE_CONNECTED = 1 << 1,
    NODE_CONNECTING = 1 << 2,
    NODE_SHUT_IN = 1 << 3,
    NODE_SHUT_OUT = 1 << 4,
    NODE_RESET = 1 << 5,
    NODE_LINGER_0 = 1 << 6,
    /* Options that are kept and mean nothing here. */
    NODE_REUSEADDR = 1 << 8,
    NODE_REUSEPORT = 1 << 9,
    NODE_NODELAY = 1 << 10,
    NODE_KEEPALIVE = 1 << 11,
    NODE_OOBINLINE = 1 << 12,
};

struct sim_node {
    enum sim_kind kind;
    uint16_t flags;
    uint16_t port; /* of the end that was not bound; host order */
    int16_t family, type;
    int error; /* to be told once; positive */
    uint32_t number;
    uint32_t references; /* descriptors */
    uint8_t tries;       /* of a connect */
    struct sim_node *peer;
    struct sim_watch *watches;
    struct sim_channel in;
    struct sim_action arrival; /* the next piece of `in` */
    struct sim_action reset;   /* is under way to here */
    struct sim_action connect;
    const struct sim_address *local, *remote;
    struct sim_node *next, *prev; /* listeners and bound datagram sockets; of a backlog */
    struct sim_node *backlog;     /* the oldest first */
    uint32_t backlog_count, backlog_limit;
    uint8_t *bytes; /* of a file */
    uint32_t size, room;
    uint64_t position;
};

struct sim_net {
    struct sim_node **table; /* by descriptor, from `first` on */
    uint32_t table_room, used, limit, first;
    uint32_t *unused; /* closed numbers, the last one on top */
    uint32_t unused_room, unused_count, last_closed;
    struct sim_node *bound; /* listeners and datagram sockets */
    struct sim_address *addresses;
    uint32_t numbers, buffer;
    uint16_t port;
};

struct sim_node *proi_sim_node(const struct pro_sim *sim, int fd);
/* Tells those who watch. */
void proi_sim_changed(struct pro_sim *sim, struct sim_node *node, int events);
/* What poll(2) would say. */
int proi_sim_node_events(const struct sim_node *node);

/* sim_net.c for sim_io.c. */
void proi_sim_undescribe(struct pro_sim *sim, int fd);
void proi_sim_node_free(struct pro_sim *sim, struct sim_node *node);
/* A reset comes to the node now; and after the time it takes. */
void proi_sim_break(struct pro_sim *sim, struct sim_node *node);
void proi_sim_send_reset(struct pro_sim *sim, struct sim_node *to);
/* Something was put into its channel. */
void proi_sim_under_way(struct pro_sim *sim, struct sim_node *node);
/* One of those that listen on an address, or that have bound it. */
struct sim_node *proi_sim_find_bound(struct pro_sim *sim, const struct sim_address *to, enum sim_kind kind);
/* The error that is to be told once, negative, or 0. */
int proi_sim_take_error(struct sim_node *node);
struct sim_node *proi_sim_backlog_take(struct sim_node *listener);

/* Whether an address is complete, and of a family that there is. */
bool proi_sim_address_ok(const struct sockaddr *address, socklen_t length);

#endif
