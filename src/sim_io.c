/* SPDX-License-Identifier: MIT
 *
 * What is done with the descriptors of a simulated world: send and receive, read and write, and the ways to end. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include "sim_node.h"

#define IN  (POLLIN | POLLRDNORM)
#define OUT (POLLOUT | POLLWRNORM)

static size_t total_of(const struct iovec *iov, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

/* ---- Sending ---- */

static int send_bytes(struct pro_sim *sim, struct sim_node *node, const struct iovec *iov, size_t count, size_t size)
{
    struct sim_node *peer = node->peer;
    if (!peer && (node->family == AF_UNIX || node->kind == SIM_PIPE_WRITE))
        return -EPIPE;
    if (!peer) { /* its host answers with a reset */
        proi_sim_send_reset(sim, node);
        return (int)size;
    }
    uint32_t room = proi_sim_channel_room(&peer->in);
    if (room == 0)
        return -EAGAIN;
    uint32_t n = size < room ? (uint32_t)size : room;
    proi_sim_channel_send(sim, &peer->in, iov, count, n);
    proi_sim_tell(sim, SIM_E_SEND, node->number, n, (int64_t)size);
    proi_sim_under_way(sim, peer);
    return (int)n;
}

static int deliver(struct pro_sim *sim, const struct sim_node *node, struct sim_node *to, const struct iovec *iov,
                   size_t count, uint32_t size)
{
    bool network = node->family != AF_UNIX;
    bool full = proi_sim_channel_room(&to->in) < size;
    if (full && !network)
        return -EAGAIN;
    if (full || (network && pro_sim_chance(sim, PRO_SIM_LOSS))) {
        proi_sim_tell(sim, SIM_E_DROP, to->number, size, 0);
        return (int)size;
    }
    proi_sim_tell(sim, SIM_E_SEND, node->number, size, size);
    proi_sim_channel_send(sim, &to->in, iov, count, size);
    if (network && proi_sim_channel_room(&to->in) >= size && pro_sim_chance(sim, PRO_SIM_DUPLICATE))
        proi_sim_channel_send(sim, &to->in, iov, count, size);
    else if (network && pro_sim_chance(sim, PRO_SIM_REORDER))
        (void)proi_sim_channel_swap(sim, &to->in);
    proi_sim_under_way(sim, to);
    return (int)size;
}

static int send_packet(struct pro_sim *sim, struct sim_node *node, const struct iovec *iov, size_t count, size_t size)
{
    struct sim_node *to = node->peer;
    if (size > node->in.limit)
        return -EMSGSIZE;
    if (node->kind == SIM_DATAGRAMS && node->remote)
        to = proi_sim_find_bound(sim, node->remote, SIM_DATAGRAMS);
    if (to)
        return deliver(sim, node, to, iov, count, (uint32_t)size);
    if (!(node->flags & NODE_CONNECTED))
        return -ENOTCONN;
    if (node->kind == SIM_PACKETS)
        return -EPIPE;
    if (node->family == AF_UNIX)
        return -ECONNREFUSED;
    node->error = ECONNREFUSED; /* the answer of the other host, to the next call */
    proi_sim_changed(sim, node, IN | OUT | POLLERR);
    return (int)size;
}

int proi_sim_send(struct pro_sim *sim, int fd, const struct iovec *iov, size_t count, size_t most)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    size_t size = total_of(iov, count);
    if (!node)
        return -EBADF;
    if (node->kind == SIM_LISTENER)
        return -EPIPE;
    if (node->kind > SIM_LISTENER)
        return -ENOTSOCK;
    if (node->error)
        return proi_sim_take_error(node);
    if (node->flags & (NODE_RESET | NODE_SHUT_OUT))
        return -EPIPE;
    if (node->flags & NODE_CONNECTING)
        return -EAGAIN;
    if (!(node->flags & NODE_CONNECTED) && node->kind == SIM_STREAM)
        return node->family == AF_UNIX ? -ENOTCONN : -EPIPE;
    if (node->in.borders)
        return send_packet(sim, node, iov, count, size);
    return send_bytes(sim, node, iov, count, size < most ? size : most);
}

/* ---- Receiving ---- */

static int receive(struct pro_sim *sim, struct sim_node *node, void *data, size_t size, bool peek)
{
    uint32_t room_before = proi_sim_channel_room(&node->in);
    uint32_t n = proi_sim_channel_read(&node->in, data, size < INT32_MAX ? (uint32_t)size : INT32_MAX, peek);
    proi_sim_tell(sim, SIM_E_RECV, node->number, n, (int64_t)size);
    struct sim_node *sender = node->peer;
    /* A sender hears of room when a quarter of the buffer is free. */
    uint32_t quarter = node->in.limit / 4;
    if (sender && proi_sim_channel_room(&node->in) > quarter && (room_before <= quarter || node->in.borders))
        proi_sim_changed(sim, sender, OUT);
    return (int)n;
}

int proi_sim_recv(struct pro_sim *sim, int fd, void *data, size_t size, int flags)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    if (node->kind > SIM_LISTENER)
        return -ENOTSOCK;
    if (proi_sim_channel_readable(&node->in))
        return receive(sim, node, data, size, flags & MSG_PEEK);
    if (node->error)
        return proi_sim_take_error(node);
    if (node->in.ended || node->flags & (NODE_SHUT_IN | NODE_RESET))
        return 0;
    if (!(node->flags & (NODE_CONNECTED | NODE_CONNECTING)) && node->kind != SIM_DATAGRAMS)
        return -ENOTCONN;
    return -EAGAIN;
}

/* ---- Pipes and files ---- */

static int file_read(struct sim_node *node, void *data, size_t size, uint64_t offset)
{
    uint64_t at = offset == PRO_STREAM ? node->position : offset;
    size_t n = at < node->size ? node->size - (size_t)at : 0;
    n = n < size ? n : size;
    if (n > 0)
        memcpy(data, node->bytes + at, n);
    if (offset == PRO_STREAM)
        node->position += n;
    return (int)n;
}

static int file_write(struct pro_sim *sim, struct sim_node *node, const void *data, size_t size, uint64_t offset)
{
    uint64_t at = offset == PRO_STREAM ? node->position : offset;
    if (at > INT32_MAX || size > INT32_MAX - at)
        return -EFBIG;
    uint32_t end = (uint32_t)(at + size);
    while (node->room < end)
        node->bytes = proi_world_grow(sim, node->bytes, &node->room, 1);
    memcpy(node->bytes + at, data, size);
    node->size = end > node->size ? end : node->size;
    if (offset == PRO_STREAM)
        node->position = end;
    return (int)size;
}

int proi_sim_read(struct pro_sim *sim, int fd, void *data, size_t size, uint64_t offset)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    if (node->kind == SIM_FILE)
        return file_read(node, data, size, offset);
    if (node->kind == SIM_PIPE_WRITE)
        return -EBADF;
    if (node->kind != SIM_PIPE_READ)
        return proi_sim_recv(sim, fd, data, size, 0);
    if (proi_sim_channel_readable(&node->in))
        return receive(sim, node, data, size, false);
    return node->in.ended ? 0 : -EAGAIN;
}

int proi_sim_write(struct pro_sim *sim, int fd, const void *data, size_t size, uint64_t offset)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    struct iovec iov = {(void *)(uintptr_t)data, size};
    if (!node)
        return -EBADF;
    if (node->kind == SIM_FILE)
        return file_write(sim, node, data, size, offset);
    if (node->kind == SIM_PIPE_READ)
        return -EBADF;
    return node->kind == SIM_PIPE_WRITE ? send_bytes(sim, node, &iov, 1, size) : proi_sim_send(sim, fd, &iov, 1, size);
}

/* ---- Ending ---- */

/* Datagrams know no end of file: who receives them is not told. */
static void send_end(struct pro_sim *sim, struct sim_node *node)
{
    struct sim_node *peer = node->peer;
    if (!peer || node->flags & NODE_SHUT_OUT)
        return;
    node->flags |= NODE_SHUT_OUT;
    if (node->kind == SIM_DATAGRAMS)
        return;
    proi_sim_channel_end(sim, &peer->in);
    proi_sim_under_way(sim, peer);
}

int proi_sim_shutdown(struct pro_sim *sim, int fd, int how)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    if (node->kind > SIM_LISTENER)
        return -ENOTSOCK;
    if (node->kind == SIM_LISTENER && how != SHUT_WR) {
        node->flags |= NODE_SHUT_IN;
        proi_sim_changed(sim, node, IN | POLLHUP);
        return 0;
    }
    if (!(node->flags & NODE_CONNECTED) || node->flags & NODE_RESET)
        return -ENOTCONN;
    if (how != SHUT_RD)
        send_end(sim, node);
    node->flags |= how == SHUT_RD ? 0 : NODE_SHUT_OUT;
    node->flags |= how == SHUT_WR ? 0 : NODE_SHUT_IN;
    if (how != SHUT_RD && node->in.ended)
        node->flags |= NODE_SHUT_IN;
    proi_sim_changed(sim, node, IN | OUT | POLLRDHUP | (proi_sim_node_events(node) & POLLHUP));
    return 0;
}

int proi_sim_abort(struct pro_sim *sim, int fd)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    if (node->kind != SIM_STREAM && node->kind != SIM_PACKETS)
        return 0;
    if (node->peer)
        proi_sim_send_reset(sim, node->peer);
    if (node->flags & NODE_CONNECTING) {
        proi_sim_never(sim, &node->connect);
        node->flags &= (uint16_t)~NODE_CONNECTING;
    }
    proi_sim_break(sim, node);
    proi_sim_channel_cut(&node->in, true);
    return 0;
}

/* The peer learns of it: by an end of file, or by a reset if something is left unread. */
static void leave_peer(struct pro_sim *sim, struct sim_node *node)
{
    struct sim_node *peer = node->peer;
    if (!peer)
        return;
    bool pipe = node->kind == SIM_PIPE_READ || node->kind == SIM_PIPE_WRITE;
    bool reset = !pipe && !node->in.borders && (node->in.held > 0 || node->flags & NODE_LINGER_0);
    if (!reset && node->kind != SIM_PIPE_READ)
        send_end(sim, node);
    node->peer = NULL;
    peer->peer = NULL;
    if (reset)
        proi_sim_send_reset(sim, peer);
    else
        proi_sim_changed(sim, peer, OUT | POLLERR);
}

static void refuse_backlog(struct pro_sim *sim, struct sim_node *listener)
{
    while (listener->backlog) {
        struct sim_node *child = proi_sim_backlog_take(listener), *peer = child->peer;
        child->peer = NULL;
        if (peer) {
            peer->peer = NULL;
            proi_sim_send_reset(sim, peer);
        }
        proi_sim_node_free(sim, child);
    }
}

int proi_sim_close(struct pro_sim *sim, int fd)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    proi_sim_undescribe(sim, fd);
    if (--node->references > 0)
        return 0;
    while (node->watches)
        proi_sim_unwatch(node->watches);
    leave_peer(sim, node);
    refuse_backlog(sim, node);
    proi_sim_node_free(sim, node);
    return 0;
}

/* ---- What holds ---- */

static int stream_events(const struct sim_node *node)
{
    const struct sim_node *peer = node->peer;
    int events = 0;
    bool over = node->in.ended || node->flags & NODE_SHUT_IN;
    if (proi_sim_channel_readable(&node->in) || over || node->error || node->flags & NODE_RESET)
        events |= IN;
    if (over || node->flags & NODE_RESET)
        events |= POLLRDHUP;
    if (node->error)
        events |= POLLERR;
    if (node->flags & NODE_CONNECTING)
        return events;
    if ((over && node->flags & NODE_SHUT_OUT) || node->flags & NODE_RESET ||
        (!(node->flags & NODE_CONNECTED) && node->kind != SIM_DATAGRAMS))
        events |= POLLHUP;
    bool drops = node->kind == SIM_DATAGRAMS && node->family != AF_UNIX; /* what there is no room for */
    if (!peer || drops || node->flags & NODE_SHUT_OUT || proi_sim_channel_room(&peer->in) > peer->in.limit / 4)
        events |= OUT;
    return events;
}

int proi_sim_node_events(const struct sim_node *node)
{
    switch (node->kind) {
    case SIM_LISTENER:
        return (node->backlog ? IN : 0) | (node->flags & NODE_SHUT_IN ? IN | POLLHUP : 0);
    case SIM_PIPE_READ:
        return (node->in.arrived > 0 ? IN : 0) | (node->in.ended ? POLLHUP : 0);
    case SIM_PIPE_WRITE:
        if (!node->peer)
            return OUT | POLLERR;
        return proi_sim_channel_room(&node->peer->in) > node->peer->in.limit / 4 ? OUT : 0;
    case SIM_FILE:
        return IN | OUT;
    default:
        return stream_events(node);
    }
}

int proi_sim_poll(struct pro_sim *sim, int fd)
{
    const struct sim_node *node = proi_sim_node(sim, fd);
    return node ? proi_sim_node_events(node) : -EBADF;
}

int proi_sim_unsent(struct pro_sim *sim, int fd)
{
    const struct sim_node *node = proi_sim_node(sim, fd);
    if (!node)
        return -EBADF;
    return node->peer ? (int)(node->peer->in.held - node->peer->in.arrived) : 0;
}

/* ---- Peers played by hand ---- */

int pro_sim_pair(struct pro_sim *sim, int ret_fds[2])
{
    return proi_sim_socketpair(sim, AF_INET, SOCK_STREAM, ret_fds);
}

int pro_sim_datagrams(struct pro_sim *sim, int ret_fds[2])
{
    return proi_sim_socketpair(sim, AF_INET, SOCK_DGRAM, ret_fds);
}

int pro_sim_pipe(struct pro_sim *sim, int ret_fds[2])
{
    return proi_sim_pipe(sim, ret_fds);
}

int pro_sim_file(struct pro_sim *sim, const void *data, size_t size)
{
    return size > INT32_MAX ? -EFBIG : proi_sim_file(sim, data, size);
}

int pro_sim_connect(struct pro_sim *sim, const struct sockaddr *address, socklen_t length)
{
    int fd = proi_sim_socket(sim, address->sa_family, SOCK_STREAM, 0);
    if (fd < 0)
        return fd;
    int r = proi_sim_connect(sim, fd, address, length);
    if (r == 0 || r == -EINPROGRESS)
        return fd;
    proi_sim_close(sim, fd);
    return r;
}

int pro_sim_write(struct pro_sim *sim, int fd, const void *data, size_t size)
{
    return proi_sim_write(sim, fd, data, size, PRO_STREAM);
}

int pro_sim_read(struct pro_sim *sim, int fd, void *data, size_t size)
{
    return proi_sim_read(sim, fd, data, size, PRO_STREAM);
}

int pro_sim_shutdown(struct pro_sim *sim, int fd, int how)
{
    return proi_sim_shutdown(sim, fd, how);
}

int pro_sim_close(struct pro_sim *sim, int fd)
{
    return proi_sim_close(sim, fd);
}

int pro_sim_reset(struct pro_sim *sim, int fd)
{
    return proi_sim_abort(sim, fd);
}
