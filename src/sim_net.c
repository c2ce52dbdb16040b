/* SPDX-License-Identifier: MIT
 *
 * Sockets, pipes and files of a simulated world.
 *
 * A descriptor is a number for a node. A stream socket's node has a channel for what comes in; what it sends goes into
 * the channel of its peer. So a node that is closed may leave bytes and an end of file behind, under way in what is no
 * longer its own.
 *
 *      node A  -- send --> [ channel of B ] -- recv --> node B
 *              <-- recv -- [ channel of A ] <-- send --
 *
 * TCP, as far as a program can tell: a connection is made as soon as it stands in the backlog, and a full backlog lets
 * it try again a second later, and then after twice the time; closing with bytes unread resets the other end, and so
 * does sending to an end that is closed; a reset loses what is under way and leaves what has arrived, and is told once.
 *
 * On Unix sockets and pipes nothing takes time. */
#include "sim_net.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "sim_node.h"

enum {
    BUFFER = 64 * 1024,
    CONNECT_TRIES = 6,
    FIRST_PORT = 32768,
    MOST_BACKLOG = 4096,
    FIRST_DESCRIPTOR = 1 << 20,
    MOST_DESCRIPTORS = 1 << 22,
};
#define SECOND_NS UINT64_C(1000000000)

#define IN  (POLLIN | POLLRDNORM)
#define OUT (POLLOUT | POLLWRNORM)

/* ---- Descriptors and nodes ---- */

void proi_sim_net_init(struct pro_sim *sim, const struct pro_sim_config *config)
{
    struct sim_net *net = proi_world_alloc(sim, sizeof *net);
    net->first = config->first_descriptor ? config->first_descriptor : FIRST_DESCRIPTOR;
    if (net->first == PRO_SIM_FROM_0)
        net->first = 0;
    net->limit = config->descriptors ? config->descriptors : MOST_DESCRIPTORS;
    net->buffer = config->socket_buffer ? config->socket_buffer : BUFFER;
    net->last_closed = UINT32_MAX;
    net->port = FIRST_PORT;
    sim->net = net;
}

struct sim_node *proi_sim_node(const struct pro_sim *sim, int fd)
{
    const struct sim_net *net = sim->net;
    if (fd < 0 || (uint32_t)fd < net->first || (uint32_t)fd - net->first >= net->used)
        return NULL;
    return net->table[(uint32_t)fd - net->first];
}

static bool table_full(const struct sim_net *net)
{
    return net->unused_count == 0 && net->used == net->limit;
}

/* A descriptor for the node: the number that was closed last, if there is one. */
static int describe(struct pro_sim *sim, struct sim_node *node)
{
    struct sim_net *net = sim->net;
    if (table_full(net))
        return -EMFILE;
    uint32_t i = net->unused_count > 0 ? net->unused[--net->unused_count] : net->used++;
    if (net->used > net->table_room)
        net->table = proi_world_grow(sim, net->table, &net->table_room, sizeof(struct sim_node *));
    net->table[i] = node;
    node->references++;
    sim->stats.descriptors++;
    if (i == net->last_closed)
        proi_sim_count(sim, PRO_SIM_NUMBER_REUSED);
    proi_sim_tell(sim, SIM_E_OPEN, net->first + i, (int64_t)node->kind, node->number);
    return (int)(net->first + i);
}

void proi_sim_undescribe(struct pro_sim *sim, int fd)
{
    struct sim_net *net = sim->net;
    uint32_t i = (uint32_t)fd - net->first;
    if (net->unused_count == net->unused_room)
        net->unused = proi_world_grow(sim, net->unused, &net->unused_room, sizeof *net->unused);
    net->unused[net->unused_count++] = i;
    net->last_closed = i;
    net->table[i] = NULL;
    sim->stats.descriptors--;
    proi_sim_tell(sim, SIM_E_CLOSE, fd, 0, 0);
}

static void on_arrival(struct pro_sim *sim, struct sim_action *action);
static void on_reset(struct pro_sim *sim, struct sim_action *action);
static void on_connect(struct pro_sim *sim, struct sim_action *action);

static struct sim_node *node_new(struct pro_sim *sim, enum sim_kind kind, int family, int type)
{
    struct sim_node *node = proi_world_alloc(sim, sizeof *node);
    node->kind = kind;
    node->family = (int16_t)family;
    node->type = (int16_t)type;
    node->number = ++sim->net->numbers;
    node->in.limit = sim->net->buffer;
    node->in.instant = family != AF_INET && family != AF_INET6;
    node->in.borders = kind == SIM_PACKETS || kind == SIM_DATAGRAMS;
    node->arrival.run = on_arrival;
    node->reset.run = on_reset;
    node->connect.run = on_connect;
    return node;
}

static void unbind(struct pro_sim *sim, struct sim_node *node)
{
    if (node->prev)
        node->prev->next = node->next;
    else if (sim->net->bound == node)
        sim->net->bound = node->next;
    if (node->next)
        node->next->prev = node->prev;
    node->next = node->prev = NULL;
}

void proi_sim_node_free(struct pro_sim *sim, struct sim_node *node)
{
    proi_assert(!node->watches && !node->peer && !node->backlog);
    proi_sim_never(sim, &node->arrival);
    proi_sim_never(sim, &node->reset);
    proi_sim_never(sim, &node->connect);
    if (node->kind == SIM_LISTENER || node->kind == SIM_DATAGRAMS || node->flags & NODE_BOUND)
        unbind(sim, node);
    proi_sim_channel_free(sim, &node->in);
    proi_world_free(sim, node->bytes, node->room);
    proi_world_free(sim, node, sizeof *node);
}

/* A new node gets a descriptor, or is gone. */
static int publish(struct pro_sim *sim, struct sim_node *node)
{
    int fd = describe(sim, node);
    if (fd < 0)
        proi_sim_node_free(sim, node);
    return fd;
}

void proi_sim_changed(struct pro_sim *sim, struct sim_node *node, int events)
{
    for (struct sim_watch *watch = node->watches; watch; watch = watch->next)
        watch->changed(sim, watch, events);
}

int proi_sim_watch(struct pro_sim *sim, int fd, struct sim_watch *watch)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    struct sim_watch **link = &node->watches;
    while (*link)
        link = &(*link)->next;
    *link = watch;
    watch->prev = link == &node->watches ? NULL : PRO_CONTAINER_OF(link, struct sim_watch, next);
    watch->next = NULL;
    watch->node = node;
    return 0;
}

void proi_sim_unwatch(struct sim_watch *watch)
{
    if (!watch->node)
        return;
    if (watch->prev)
        watch->prev->next = watch->next;
    else
        watch->node->watches = watch->next;
    if (watch->next)
        watch->next->prev = watch->prev;
    watch->node = NULL;
}

int proi_sim_kind(struct pro_sim *sim, int fd)
{
    const struct sim_node *node = proi_sim_node(sim, fd);
    return node ? (int)node->kind : -EBADF;
}

int proi_sim_number(struct pro_sim *sim, int fd)
{
    const struct sim_node *node = proi_sim_node(sim, fd);
    return node ? (int)node->number : -EBADF;
}

/* ---- What comes in ---- */

static void expect_arrival(struct pro_sim *sim, struct sim_node *node)
{
    uint64_t next = proi_sim_channel_next(&node->in);
    if (next != PRO_NEVER)
        proi_sim_later(sim, &node->arrival, next);
}

static bool takes_time(const struct pro_sim *sim, const struct sim_node *node)
{
    return !node->in.instant && (sim->latency || sim->jitter);
}

static void arrive(struct pro_sim *sim, struct sim_node *node)
{
    uint32_t size = proi_sim_channel_arrive(&node->in);
    if (node->in.ended && size == 0 && proi_sim_channel_next(&node->in) == PRO_NEVER)
        proi_sim_tell(sim, SIM_E_END, node->number, 0, 0);
    else
        proi_sim_tell(sim, SIM_E_ARRIVE, size, node->number, (int64_t)node->in.received);
    proi_sim_changed(sim, node,
                     IN | (node->in.ended ? POLLRDHUP : 0) |
                         (node->in.ended && node->flags & NODE_SHUT_OUT ? POLLHUP : 0));
}

static void on_arrival(struct pro_sim *sim, struct sim_action *action)
{
    struct sim_node *node = PRO_CONTAINER_OF(action, struct sim_node, arrival);
    if (node->kind == SIM_STREAM && node->family != AF_UNIX && node->peer && pro_sim_chance(sim, PRO_SIM_RESET)) {
        proi_sim_break(sim, node->peer);
        proi_sim_break(sim, node);
        return;
    }
    arrive(sim, node);
    expect_arrival(sim, node);
}

/* Something was put under way to the node. Where nothing takes time it is there at once, but for pieces. */
void proi_sim_under_way(struct pro_sim *sim, struct sim_node *node)
{
    if (takes_time(sim, node)) {
        expect_arrival(sim, node);
        return;
    }
    while (proi_sim_channel_next(&node->in) <= sim->now) {
        if (node->in.flight_count - node->in.whole > 1) {
            expect_arrival(sim, node);
            return;
        }
        arrive(sim, node);
    }
    expect_arrival(sim, node);
}

/* A reset has come: what was under way is lost, what has arrived can be read, and then the error is told once. */
void proi_sim_break(struct pro_sim *sim, struct sim_node *node)
{
    if (node->flags & NODE_RESET)
        return;
    struct sim_node *peer = node->peer;
    proi_sim_tell(sim, SIM_E_RESET, node->number, 0, 0);
    proi_sim_never(sim, &node->arrival);
    proi_sim_never(sim, &node->reset);
    proi_sim_channel_cut(&node->in, false);
    node->flags |= NODE_RESET;
    node->error = ECONNRESET;
    node->peer = NULL;
    if (peer)
        peer->peer = NULL;
    proi_sim_changed(sim, node, IN | OUT | POLLERR | POLLHUP | POLLRDHUP);
}

static void on_reset(struct pro_sim *sim, struct sim_action *action)
{
    proi_sim_break(sim, PRO_CONTAINER_OF(action, struct sim_node, reset));
}

void proi_sim_send_reset(struct pro_sim *sim, struct sim_node *to)
{
    if (takes_time(sim, to))
        proi_sim_later(sim, &to->reset, sim->now + proi_sim_latency(sim));
    else
        proi_sim_break(sim, to);
}

/* ---- Addresses ---- */

/* Only what makes up the name: no padding, and no length but the one it needs. (A caller may leave the padding of a
 * sockaddr_in as it found it, or tell the length of a whole sockaddr_storage.) */
static socklen_t tidy(const struct sockaddr *at, socklen_t length, struct sockaddr_storage *ret)
{
    const size_t from = offsetof(struct sockaddr_un, sun_path);
    const char *path = (const char *)at + from;
    struct sockaddr_in in;
    memset(ret, 0, sizeof *ret);
    switch (at->sa_family) {
    case AF_INET:
        memcpy(&in, at, sizeof in);
        memset(in.sin_zero, 0, sizeof in.sin_zero);
        memcpy(ret, &in, sizeof in);
        return sizeof in;
    case AF_INET6:
        memcpy(ret, at, sizeof(struct sockaddr_in6));
        return sizeof(struct sockaddr_in6);
    default:
        if (length <= from || !*path) { /* unnamed, or abstract: every byte counts */
            memcpy(ret, at, length);
            return length;
        }
        length = (socklen_t)(from + strnlen(path, length - from)); /* its end may be told or not */
        memcpy(ret, at, length);
        return length + 1;
    }
}

static const struct sim_address *intern(struct pro_sim *sim, const struct sockaddr *told, socklen_t told_length)
{
    struct sockaddr_storage at;
    socklen_t length = tidy(told, told_length, &at);
    struct sim_address *address = sim->net->addresses;
    while (address && (address->length != length || memcmp(&address->at, &at, length) != 0))
        address = address->next;
    if (address)
        return address;
    address = proi_world_alloc(sim, sizeof *address);
    address->next = sim->net->addresses;
    address->length = length;
    address->at = at;
    sim->net->addresses = address;
    return address;
}

static uint16_t *port_of(struct sockaddr_storage *at)
{
    if (at->ss_family == AF_INET)
        return &((struct sockaddr_in *)at)->sin_port;
    return at->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)at)->sin6_port : NULL;
}

static uint16_t next_port(struct pro_sim *sim)
{
    if (++sim->net->port < FIRST_PORT)
        sim->net->port = FIRST_PORT;
    return sim->net->port;
}

static bool is_any(const struct sim_address *address)
{
    static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
    if (address->at.ss_family == AF_INET)
        return ((const struct sockaddr_in *)&address->at)->sin_addr.s_addr == htonl(INADDR_ANY);
    return address->at.ss_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)&address->at)->sin6_addr, &any6, sizeof any6) == 0;
}

/* Whether what is sent to `to` comes to who is bound to `address`. */
static bool reaches(const struct sim_address *address, const struct sim_address *to)
{
    struct sockaddr_storage a, b;
    if (address == to)
        return true;
    if (!is_any(address) || address->at.ss_family != to->at.ss_family)
        return false;
    a = address->at;
    b = to->at;
    return *port_of(&a) == *port_of(&b);
}

/* One of those that listen on an address, or that have bound it. */
struct sim_node *proi_sim_find_bound(struct pro_sim *sim, const struct sim_address *to, enum sim_kind kind)
{
    uint32_t count = 0;
    for (struct sim_node *node = sim->net->bound; node; node = node->next)
        count += node->kind == kind && reaches(node->local, to);
    uint32_t chosen = count > 0 ? proi_choose(&sim->choice, count) : 0;
    for (struct sim_node *node = sim->net->bound; node && count > 0; node = node->next)
        if (node->kind == kind && reaches(node->local, to) && chosen-- == 0)
            return node;
    return NULL;
}

bool proi_sim_address_ok(const struct sockaddr *address, socklen_t length)
{
    if (length < (socklen_t)sizeof address->sa_family || length > (socklen_t)sizeof(struct sockaddr_storage))
        return false;
    switch (address->sa_family) {
    case AF_INET:
        return length >= (socklen_t)sizeof(struct sockaddr_in);
    case AF_INET6:
        return length >= (socklen_t)sizeof(struct sockaddr_in6);
    default:
        return address->sa_family == AF_UNIX;
    }
}

int proi_sim_bind(struct pro_sim *sim, int fd, const struct sockaddr *address, socklen_t length)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    struct sockaddr_storage at = {0};
    if (!node)
        return -EBADF;
    if (!proi_sim_address_ok(address, length) || address->sa_family != node->family || node->local)
        return -EINVAL;
    memcpy(&at, address, length);
    if (port_of(&at) && *port_of(&at) == 0)
        *port_of(&at) = htons(next_port(sim));
    const struct sim_address *local = intern(sim, (struct sockaddr *)&at, length);
    for (const struct sim_node *other = sim->net->bound; other; other = other->next)
        if (other->type == node->type && other->local == local && !(other->flags & node->flags & NODE_REUSEPORT))
            return -EADDRINUSE;
    node->local = local;
    node->flags |= NODE_BOUND;
    node->next = sim->net->bound;
    if (node->next)
        node->next->prev = node;
    sim->net->bound = node;
    return 0;
}

/* ---- Making sockets ---- */

static int kind_of_type(int type)
{
    switch (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) {
    case SOCK_STREAM:
        return SIM_STREAM;
    case SOCK_SEQPACKET:
        return SIM_PACKETS;
    case SOCK_DGRAM:
        return SIM_DATAGRAMS;
    default:
        return -EPROTONOSUPPORT;
    }
}

int proi_sim_socket(struct pro_sim *sim, int family, int type, int protocol)
{
    int kind = kind_of_type(type);
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return -EAFNOSUPPORT;
    if (kind < 0)
        return kind;
    return publish(sim, node_new(sim, (enum sim_kind)kind, family, type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)));
}

static void join(struct sim_node *a, struct sim_node *b)
{
    a->peer = b;
    b->peer = a;
    a->flags |= NODE_CONNECTED;
    b->flags |= NODE_CONNECTED;
}

/* Two nodes that are each other's, with a descriptor each. */
static int publish_both(struct pro_sim *sim, struct sim_node *a, struct sim_node *b, int ret_fds[2])
{
    join(a, b);
    int first = describe(sim, a), second = first < 0 ? first : describe(sim, b);
    if (second < 0) {
        a->peer = b->peer = NULL;
        if (first >= 0)
            proi_sim_undescribe(sim, first);
        proi_sim_node_free(sim, a);
        proi_sim_node_free(sim, b);
        return second;
    }
    ret_fds[0] = first;
    ret_fds[1] = second;
    return 0;
}

int proi_sim_socketpair(struct pro_sim *sim, int family, int type, int ret_fds[2])
{
    int kind = kind_of_type(type), plain = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (kind < 0)
        return kind;
    struct sim_node *first = node_new(sim, (enum sim_kind)kind, family, plain);
    return publish_both(sim, first, node_new(sim, (enum sim_kind)kind, family, plain), ret_fds);
}

int proi_sim_pipe(struct pro_sim *sim, int ret_fds[2])
{
    struct sim_node *first = node_new(sim, SIM_PIPE_READ, 0, 0);
    return publish_both(sim, first, node_new(sim, SIM_PIPE_WRITE, 0, 0), ret_fds);
}

int proi_sim_file(struct pro_sim *sim, const void *data, size_t size)
{
    struct sim_node *node = node_new(sim, SIM_FILE, 0, 0);
    if (size > 0) {
        node->bytes = proi_world_alloc(sim, size);
        memcpy(node->bytes, data, size);
        node->size = node->room = (uint32_t)size;
    }
    return publish(sim, node);
}

int proi_sim_dup(struct pro_sim *sim, int fd)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    return node ? describe(sim, node) : -EBADF;
}

/* ---- Connections ---- */

int proi_sim_listen(struct pro_sim *sim, int fd, int backlog)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    if ((node->kind != SIM_STREAM && node->kind != SIM_PACKETS && node->kind != SIM_LISTENER) ||
        node->flags & (NODE_CONNECTED | NODE_CONNECTING))
        return -EINVAL;
    if (!node->local) { /* as Linux does for TCP */
        struct sockaddr_in any = {.sin_family = AF_INET};
        int r = node->family == AF_INET ? proi_sim_bind(sim, fd, (struct sockaddr *)&any, sizeof any) : -EINVAL;
        if (r < 0)
            return r;
    }
    node->kind = SIM_LISTENER;
    node->backlog_limit = backlog < 0 || backlog > MOST_BACKLOG ? MOST_BACKLOG : (uint32_t)backlog;
    return 0;
}

static void connect_failed(struct pro_sim *sim, struct sim_node *node, int error)
{
    proi_sim_tell(sim, SIM_E_REFUSED, node->number, -error, 0);
    node->flags &= (uint16_t)~NODE_CONNECTING;
    node->error = error;
    proi_sim_changed(sim, node, OUT | IN | POLLERR | POLLHUP);
}

/* The other end of a connection, in the backlog of the listener. */
static struct sim_node *admit(struct pro_sim *sim, struct sim_node *listener, struct sim_node *node)
{
    enum sim_kind kind = listener->type == SOCK_SEQPACKET ? SIM_PACKETS : SIM_STREAM;
    struct sim_node *child = node_new(sim, kind, listener->family, listener->type), **link = &listener->backlog;
    child->local = node->remote;
    child->remote = node->local;
    child->port = node->port;
    child->in.limit = listener->in.limit;
    child->flags |= listener->flags & (NODE_NODELAY | NODE_KEEPALIVE | NODE_OOBINLINE | NODE_LINGER_0);
    join(node, child);
    if (listener->backlog) { /* its `prev` is the last */
        struct sim_node *last = listener->backlog->prev;
        last->next = child;
        listener->backlog->prev = child;
    } else {
        *link = child;
        child->prev = child;
    }
    listener->backlog_count++;
    return child;
}

static bool backlog_full(const struct sim_node *listener)
{
    return listener->backlog_count > listener->backlog_limit; /* Linux lets one more in */
}

static void try_later(struct pro_sim *sim, struct sim_node *node)
{
    proi_sim_later(sim, &node->connect, sim->now + (SECOND_NS << node->tries++));
}

static void on_connect(struct pro_sim *sim, struct sim_action *action)
{
    struct sim_node *node = PRO_CONTAINER_OF(action, struct sim_node, connect);
    struct sim_node *listener = proi_sim_find_bound(sim, node->remote, SIM_LISTENER);
    if (pro_sim_chance(sim, PRO_SIM_REFUSE))
        listener = NULL;
    if (pro_sim_chance(sim, PRO_SIM_UNREACHABLE)) {
        connect_failed(sim, node, EHOSTUNREACH);
    } else if (!listener) {
        connect_failed(sim, node, ECONNREFUSED);
    } else if (backlog_full(listener) || pro_sim_chance(sim, PRO_SIM_BACKLOG)) {
        if (node->tries >= CONNECT_TRIES)
            connect_failed(sim, node, ETIMEDOUT);
        else
            try_later(sim, node);
    } else {
        const struct sim_node *child = admit(sim, listener, node);
        node->flags &= (uint16_t)~NODE_CONNECTING;
        proi_sim_tell(sim, SIM_E_CONNECTED, node->number, child->number, 0);
        proi_sim_changed(sim, node, OUT);
        proi_sim_changed(sim, listener, IN);
    }
}

int proi_sim_take_error(struct sim_node *node)
{
    int error = node->error;
    node->error = 0;
    return -error;
}

static int connect_unix(struct pro_sim *sim, struct sim_node *node)
{
    struct sim_node *listener = proi_sim_find_bound(sim, node->remote, SIM_LISTENER);
    if (!listener || listener->type != node->type)
        return -ECONNREFUSED;
    if (backlog_full(listener))
        return -EAGAIN;
    (void)admit(sim, listener, node);
    proi_sim_changed(sim, listener, IN);
    return 0;
}

int proi_sim_connect(struct pro_sim *sim, int fd, const struct sockaddr *address, socklen_t length)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    if (node->kind != SIM_STREAM && node->kind != SIM_PACKETS && node->kind != SIM_DATAGRAMS)
        return node->kind == SIM_LISTENER ? -EISCONN : -ENOTSOCK;
    if (!proi_sim_address_ok(address, length))
        return -EINVAL;
    if (address->sa_family != node->family)
        return -EAFNOSUPPORT;
    if (node->error)
        return proi_sim_take_error(node);
    if (node->flags & NODE_CONNECTING)
        return -EALREADY;
    if (node->flags & NODE_CONNECTED && node->kind != SIM_DATAGRAMS)
        return -EISCONN;
    node->remote = intern(sim, address, length);
    if (node->kind == SIM_DATAGRAMS) {
        node->flags |= NODE_CONNECTED;
        return 0;
    }
    if (node->family == AF_UNIX)
        return connect_unix(sim, node);
    node->port = node->port ? node->port : next_port(sim);
    node->flags = (uint16_t)((node->flags & ~NODE_RESET) | NODE_CONNECTING);
    node->tries = 0;
    proi_sim_tell(sim, SIM_E_CONNECT, node->number, 0, 0);
    if (takes_time(sim, node))
        proi_sim_later(sim, &node->connect, sim->now + proi_sim_latency(sim));
    else
        on_connect(sim, &node->connect);
    if (node->error)
        return proi_sim_take_error(node);
    return node->flags & NODE_CONNECTED ? 0 : -EINPROGRESS;
}

struct sim_node *proi_sim_backlog_take(struct sim_node *listener)
{
    struct sim_node *child = listener->backlog;
    listener->backlog = child->next;
    if (child->next)
        child->next->prev = child->prev;
    listener->backlog_count--;
    child->next = child->prev = NULL;
    return child;
}

int proi_sim_accept(struct pro_sim *sim, int fd)
{
    struct sim_node *listener = proi_sim_node(sim, fd);
    if (!listener)
        return -EBADF;
    if (listener->kind != SIM_LISTENER || listener->flags & NODE_SHUT_IN)
        return -EINVAL;
    if (!listener->backlog)
        return -EAGAIN;
    if (table_full(sim->net))
        return -EMFILE;
    struct sim_node *child = proi_sim_backlog_take(listener);
    int accepted = describe(sim, child);
    proi_sim_tell(sim, SIM_E_ACCEPT, listener->number, child->number, accepted);
    return accepted;
}
