/* SPDX-License-Identifier: MIT
 *
 * Names and options of simulated sockets, and the audit of them all. */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "sim_node.h"

enum { LEAST_BUFFER = 2048, MOST_BUFFER = 1 << 28 };

/* ---- Names ---- */

/* The end that nobody has bound: the host's only address, and a port. */
static socklen_t ephemeral(const struct sim_node *node, const struct sim_address *other, struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->ss_family = (sa_family_t)node->family;
    if (node->family == AF_UNIX || !other)
        return node->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof ret->ss_family;
    *ret = other->at;
    if (node->family == AF_INET)
        ((struct sockaddr_in *)ret)->sin_port = htons(node->port);
    else
        ((struct sockaddr_in6 *)ret)->sin6_port = htons(node->port);
    return other->length;
}

int proi_sim_name(struct pro_sim *sim, int fd, bool peer, struct sockaddr_storage *ret, socklen_t *ret_length)
{
    const struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    if (node->kind > SIM_LISTENER)
        return -ENOTSOCK;
    if (peer && (!(node->flags & NODE_CONNECTED) || node->flags & NODE_RESET))
        return -ENOTCONN;
    const struct sim_address *address = peer ? node->remote : node->local;
    if (address) {
        *ret = address->at;
        *ret_length = address->length;
    } else {
        *ret_length = ephemeral(node, peer ? node->local : node->remote, ret);
    }
    return 0;
}

/* ---- Options ---- */

/* Those that are kept, and mean nothing here. */
static const struct {
    int level, name;
    uint16_t flag;
} kept[] = {
    {SOL_SOCKET, SO_REUSEADDR, NODE_REUSEADDR}, {SOL_SOCKET, SO_REUSEPORT, NODE_REUSEPORT},
    {SOL_SOCKET, SO_KEEPALIVE, NODE_KEEPALIVE}, {SOL_SOCKET, SO_OOBINLINE, NODE_OOBINLINE},
    {IPPROTO_TCP, TCP_NODELAY, NODE_NODELAY},
};

static uint16_t kept_flag(const struct sim_node *node, int level, int name)
{
    if (level == IPPROTO_TCP && node->family == AF_UNIX)
        return 0;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (kept[i].level == level && kept[i].name == name)
            return kept[i].flag;
    return 0;
}

/* Of what is sent to `node`. The room may have grown, and a sender may wait for it. */
static int set_buffer(struct pro_sim *sim, struct sim_node *node, int size)
{
    struct sim_channel *channel = &node->in;
    if (size > MOST_BUFFER) /* Linux has its most as well */
        size = MOST_BUFFER;
    channel->limit = size > LEAST_BUFFER / 2 ? (uint32_t)size * 2 : LEAST_BUFFER;
    if (node->peer && proi_sim_channel_room(channel) > channel->limit / 4)
        proi_sim_changed(sim, node->peer, POLLOUT | POLLWRNORM);
    return 0;
}

int proi_sim_option_set(struct pro_sim *sim, int fd, int level, int name, const void *value, socklen_t length)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    int number;
    if (!node)
        return -EBADF;
    if (node->kind > SIM_LISTENER)
        return -ENOTSOCK;
    if (length < (socklen_t)sizeof number)
        return -EINVAL;
    memcpy(&number, value, sizeof number);
    if (level == SOL_SOCKET && name == SO_LINGER && length >= (socklen_t)sizeof(struct linger)) {
        const struct linger *linger = value;
        bool none = linger->l_onoff && linger->l_linger == 0;
        node->flags = (uint16_t)(none ? node->flags | NODE_LINGER_0 : node->flags & ~NODE_LINGER_0);
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_RCVBUF)
        return set_buffer(sim, node, number);
    if (level == SOL_SOCKET && name == SO_SNDBUF)
        return node->peer ? set_buffer(sim, node->peer, number) : 0;
    uint16_t flag = kept_flag(node, level, name);
    if (!flag)
        return -ENOPROTOOPT;
    node->flags = (uint16_t)(number ? node->flags | flag : node->flags & ~flag);
    return 0;
}

static int give(void *value, socklen_t *length, const void *from, size_t size)
{
    size_t n = *length < size ? *length : size;
    memcpy(value, from, n);
    *length = (socklen_t)n;
    return 0;
}

static int give_int(void *value, socklen_t *length, int number)
{
    return give(value, length, &number, sizeof number);
}

static int get_socket(struct pro_sim *sim, struct sim_node *node, int fd, int name, void *value, socklen_t *length)
{
    struct sockaddr_storage at;
    socklen_t size;
    struct ucred self = {getpid(), getuid(), getgid()};
    bool inet = node->family != AF_UNIX;
    switch (name) {
    case SO_ERROR:
        return give_int(value, length, -proi_sim_take_error(node));
    case SO_TYPE:
        return give_int(value, length, node->type);
    case SO_DOMAIN:
        return give_int(value, length, node->family);
    case SO_PROTOCOL:
        return give_int(value, length, !inet ? 0 : node->type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP);
    case SO_ACCEPTCONN:
        return give_int(value, length, node->kind == SIM_LISTENER);
    case SO_RCVBUF:
        return give_int(value, length, (int)node->in.limit);
    case SO_SNDBUF:
        return give_int(value, length, (int)(node->peer ? node->peer->in.limit : node->in.limit));
    case SO_PEERCRED:
        return inet ? -ENOPROTOOPT : give(value, length, &self, sizeof self);
    case SO_PEERNAME:
        if (!(node->flags & NODE_CONNECTED) || !inet)
            return -ENOTCONN;
        at = node->remote ? node->remote->at : (struct sockaddr_storage){0};
        size = node->remote ? node->remote->length : ephemeral(node, node->local, &at);
        return *length < size ? -EINVAL : give(value, length, &at, size);
    default:
        return -ENOPROTOOPT;
    }
}

int proi_sim_option_get(struct pro_sim *sim, int fd, int level, int name, void *value, socklen_t *length)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    struct tcp_info info = {0};
    if (!node)
        return -EBADF;
    if (node->kind > SIM_LISTENER)
        return -ENOTSOCK;
    uint16_t flag = kept_flag(node, level, name);
    if (flag)
        return give_int(value, length, (node->flags & flag) != 0);
    if (level == SOL_SOCKET)
        return get_socket(sim, node, fd, name, value, length);
    if (level != IPPROTO_TCP || node->family == AF_UNIX || node->type != SOCK_STREAM)
        return -EOPNOTSUPP;
    if (name == TCP_ULP)
        return give(value, length, "", 0);
    info.tcpi_bytes_received = node->in.received;
    info.tcpi_bytes_acked = node->peer ? node->peer->in.received : 0;
    return name == TCP_INFO ? give(value, length, &info, sizeof info) : -ENOPROTOOPT;
}

/* ---- Audit ---- */

static void audit_node(struct pro_sim *sim, const struct sim_node *node)
{
    proi_sim_channel_audit(sim, &node->in);
    if (node->references == 0)
        pro_sim_fail(sim, "node %u has a descriptor that it does not know of", node->number);
    if (node->peer && node->peer->peer != node)
        pro_sim_fail(sim, "node %u has a peer that is another's", node->number);
    for (const struct sim_watch *watch = node->watches; watch; watch = watch->next)
        if (watch->node != node)
            pro_sim_fail(sim, "node %u is watched by somebody else's watch", node->number);
}

void proi_sim_audit_net(struct pro_sim *sim)
{
    uint64_t open = 0;
    for (uint32_t i = 0; i < sim->net->used; i++) {
        if (!sim->net->table[i])
            continue;
        audit_node(sim, sim->net->table[i]);
        open++;
    }
    if (open != sim->stats.descriptors)
        pro_sim_fail(sim, "%llu descriptors are open, and %llu are counted", (unsigned long long)open,
                     (unsigned long long)sim->stats.descriptors);
}

void proi_sim_net_free(struct pro_sim *sim)
{
    struct sim_net *net = sim->net;
    while (net->addresses) {
        struct sim_address *address = net->addresses;
        net->addresses = address->next;
        proi_world_free(sim, address, sizeof *address);
    }
    proi_world_free(sim, net->table, net->table_room * sizeof(struct sim_node *));
    proi_world_free(sim, net->unused, net->unused_room * sizeof *net->unused);
    proi_world_free(sim, net, sizeof *net);
}
