/* SPDX-License-Identifier: MIT
 *
 * The control row of the kernel and its clock, common to the backends that stand on it. */
#include "backend.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static int result(int r)
{
    return r < 0 ? -errno : r;
}

static int kernel_socket(struct pro_loop *loop, int family, int type, int protocol)
{
    return result(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
}

static int kernel_listen(struct pro_loop *loop, int fd, const struct sockaddr *address, socklen_t length, int backlog,
                         unsigned flags)
{
    int on = 1;
    bool inet = address->sa_family == AF_INET || address->sa_family == AF_INET6;
    if (inet && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    if (flags & PRO_REUSEPORT && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
        return -errno;
    if (bind(fd, address, length) < 0)
        return -errno;
    return result(listen(fd, backlog));
}

static int kernel_name(struct pro_loop *loop, int fd, bool peer, struct sockaddr_storage *ret, socklen_t *ret_length)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    struct sockaddr *generic = (struct sockaddr *)&address;
    if ((peer ? getpeername(fd, generic, &length) : getsockname(fd, generic, &length)) < 0)
        return -errno;
    *ret = address;
    *ret_length = length;
    return 0;
}

static int kernel_set(struct pro_loop *loop, int fd, int level, int name, const void *value, socklen_t length)
{
    return result(setsockopt(fd, level, name, value, length));
}

static int kernel_get(struct pro_loop *loop, int fd, int level, int name, void *value, socklen_t *length)
{
    return result(getsockopt(fd, level, name, value, length));
}

static int socket_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) < 0 ? -1 : value;
}

/* Unix sockets put what is sent where the peer receives it, and count it for as long as that is not read. */
static int kernel_unsent(struct pro_loop *loop, int fd)
{
    int bytes = 0;
    if (socket_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX)
        return 0;
    return ioctl(fd, SIOCOUTQ, &bytes) < 0 ? -errno : bytes;
}

static int kernel_try_send(struct pro_loop *loop, int fd, const void *data, size_t size)
{
    ssize_t n;
    do
        n = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (int)n;
}

static int kernel_close(struct pro_loop *loop, int fd)
{
    return result(close(fd));
}

/* An unspecified address takes a connection apart: TCP resets it, and lets go of what zero-copy sends have pinned. Unix
 * sockets do not know that, but a shutdown ends theirs. A listener either would stop for everybody who holds it, so that
 * is left alone, as is what has no connection. */
static void kernel_reset(struct pro_loop *loop, int fd)
{
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    int type = socket_option(fd, SOL_SOCKET, SO_TYPE);
    if ((type != SOCK_STREAM && type != SOCK_SEQPACKET) || socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    if (connect(fd, &nowhere, sizeof nowhere) < 0)
        shutdown(fd, SHUT_RDWR);
}

/* TCP under TLS in the kernel gives a record at a time, so it is no plain TCP. */
static bool is_plain_tcp(int fd)
{
    char protocol[16] = "";
    socklen_t length = sizeof protocol;
    return socket_option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP &&
           getsockopt(fd, IPPROTO_TCP, TCP_ULP, protocol, &length) == 0 && (length == 0 || !protocol[0]);
}

static enum proi_kind kernel_kind(struct pro_loop *loop, int fd)
{
    switch (socket_option(fd, SOL_SOCKET, SO_TYPE)) {
    case SOCK_STREAM:
        return is_plain_tcp(fd) ? PROI_TCP : PROI_BYTES;
    case SOCK_SEQPACKET:
        return PROI_PACKETS;
    case -1: /* no socket: a pipe, terminal or file */
        return PROI_BYTES;
    default:
        return PROI_DATAGRAMS;
    }
}

uint64_t proi_kernel_now(const struct pro_loop *loop)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const struct proi_control proi_control_kernel = {
    .socket = kernel_socket,
    .listen = kernel_listen,
    .name = kernel_name,
    .set = kernel_set,
    .get = kernel_get,
    .unsent = kernel_unsent,
    .try_send = kernel_try_send,
    .close = kernel_close,
    .reset = kernel_reset,
    .kind = kernel_kind,
};
