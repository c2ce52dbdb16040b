/* SPDX-License-Identifier: MIT
 *
 * Sockets of a test's own, and the pattern that is sent over them. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * Sockets
 * ------------------------------------------------------------------------------------------------------------ */

static void unblock(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

/* The port is the same for all; one that nobody has bound for every address. */
static uint16_t loopback_port(void)
{
    static uint16_t port;
    struct sockaddr_in any = {.sin_family = AF_INET};
    if (port)
        return port;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    port = (uint16_t)(20000 + getpid() % 10000);
    do
        any.sin_port = htons(++port);
    while (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 && port < 32000);
    close(fd);
    return port;
}

struct sockaddr_in loopback_address(void)
{
    static uint32_t used;
    uint32_t host = ((uint32_t)getpid() * 2654435761u + used++ * 7919) & 0xffffff;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(loopback_port())};
    address.sin_addr.s_addr = htonl(0x7f000000 | (host ? host : 1));
    return address;
}

int loopback_listen(int backlog, struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = loopback_address();
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, backlog), 0);
    *ret_length = sizeof *ret_address;
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, ret_length), 0);
    return fd;
}

int tcp_connect(const struct sockaddr_storage *address, socklen_t length)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)address, length), 0);
    unblock(fd);
    return fd;
}

void tcp_pair(int fds[2])
{
    int on = 1;
    struct sockaddr_storage at;
    socklen_t length;
    int listener = loopback_listen(1, &at, &length);
    fds[0] = tcp_connect(&at, length);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    close(listener);
    for (int i = 0; i < 2; i++)
        assert_int_equal(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
}

void unix_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
}

void kernel_pipe(int ends[2])
{
    struct pro_sim *sim = harness_set_sim(NULL);
    int r = pipe2(ends, O_CLOEXEC);
    harness_set_sim(sim);
    assert_int_equal(r, 0);
}

void shrink_buffers(int fd)
{
    int least = 1;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), 0);
}

void write_all(int fd, const void *data, size_t size)
{
    while (size > 0) {
        ssize_t moved = write(fd, data, size);
        if (moved < 0 && errno == EINTR)
            continue;
        assert_true(moved > 0);
        data = (const uint8_t *)data + moved;
        size -= (size_t)moved;
    }
}

int read_now(int fd, void *data, size_t size)
{
    ssize_t moved;
    do
        moved = read(fd, data, size);
    while (moved < 0 && errno == EINTR);
    return moved < 0 ? -errno : (int)moved;
}

uint8_t pattern_byte(uint64_t position)
{
    return (uint8_t)((position * 0x9e3779b97f4a7c15u) >> 56);
}

void pattern_fill(void *data, size_t size, uint64_t position)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)data)[i] = pattern_byte(position + i);
}

bool pattern_holds(const void *data, size_t size, uint64_t position)
{
    for (size_t i = 0; i < size; i++)
        if (((const uint8_t *)data)[i] != pattern_byte(position + i))
            return false;
    return true;
}
