/* SPDX-License-Identifier: MIT
 *
 * The system calls of a test whose world is a simulated one.
 *
 * Tests make their sockets with plain calls, whatever the backend. The linker (--wrap) puts this file between them and
 * libc: a call that makes a descriptor makes it in the world of the running test, if that is a simulated one; a call on
 * a descriptor of that world goes to its simulated kernel; and its clock is the clock. All else goes on to libc. So the
 * tests are the same on every backend, and compare the simulated kernel with the real one.
 *
 * In a calm world without latency whatever can happen has happened when a call returns. A blocking call that would wait
 * is therefore a mistake of the test, and ends it. Only sleeping lets time pass, and then the kernel works on what it
 * was asked for, while the loops stand still. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "sim_node.h"

/* clang-format off */
#define WRAP(type, name, ...)       \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)
WRAP(int, socket, int family, int type, int protocol);
WRAP(int, socketpair, int family, int type, int protocol, int fds[2]);
WRAP(int, pipe, int fds[2]);
WRAP(int, pipe2, int fds[2], int flags);
WRAP(int, bind, int fd, const struct sockaddr *address, socklen_t length);
WRAP(int, listen, int fd, int backlog);
WRAP(int, connect, int fd, const struct sockaddr *address, socklen_t length);
WRAP(int, accept, int fd, struct sockaddr *address, socklen_t *length);
WRAP(int, accept4, int fd, struct sockaddr *address, socklen_t *length, int flags);
WRAP(int, getsockname, int fd, struct sockaddr *address, socklen_t *length);
WRAP(int, setsockopt, int fd, int level, int name, const void *value, socklen_t length);
WRAP(ssize_t, read, int fd, void *data, size_t size);
WRAP(ssize_t, pread64, int fd, void *data, size_t size, off64_t offset);
WRAP(ssize_t, write, int fd, const void *data, size_t size);
WRAP(ssize_t, recv, int fd, void *data, size_t size, int flags);
WRAP(ssize_t, send, int fd, const void *data, size_t size, int flags);
WRAP(int, shutdown, int fd, int how);
WRAP(int, dup, int fd);
WRAP(int, close, int fd);
WRAP(int, fcntl64, int fd, int command, ...);
WRAP(int, poll, struct pollfd *fds, nfds_t count, int timeout_ms);
WRAP(int, clock_gettime, clockid_t clock, struct timespec *ret_time);
/* clang-format on */

/* Whether the world of the test is a simulated one and `fd` is a descriptor of it. */
static struct pro_sim *world_of(int fd)
{
    struct pro_sim *sim = harness_sim();
    return sim && fd >= harness_first_descriptor() ? sim : NULL;
}

static int result(int r)
{
    if (r >= 0)
        return r;
    errno = -r;
    return -1;
}

/* ------------------------------------------------------------------------------------------------------------
 * O_NONBLOCK, which the simulated kernel does not know: its calls never wait
 * ------------------------------------------------------------------------------------------------------------ */

/* By the number of what stands behind the descriptor, which is never used again. */
static struct status {
    int number;
    bool blocks;
} statuses[HARNESS_DESCRIPTORS];

static struct status *status_at(int fd)
{
    int at = fd - harness_first_descriptor();
    assert_true(at >= 0 && at < HARNESS_DESCRIPTORS);
    return &statuses[at];
}

static bool blocks(struct pro_sim *sim, int fd)
{
    const struct status *status = status_at(fd);
    return status->blocks && status->number == proi_sim_number(sim, fd);
}

/* Returns `fd`, which is new, or a negative errno. */
static int note_blocking(struct pro_sim *sim, int fd, bool blocking)
{
    if (fd >= 0)
        *status_at(fd) = (struct status){proi_sim_number(sim, fd), blocking};
    return fd;
}

/* The result of a call that never waits, for a descriptor that may be a blocking one. */
static int waits_never(struct pro_sim *sim, int fd, const char *call, int r)
{
    if ((r != -EAGAIN && r != -EINPROGRESS) || !blocks(sim, fd))
        return result(r);
    fprintf(stderr, "sim_calls: %s on descriptor %d, which is a blocking one, would wait for ever\n", call, fd);
    abort();
}

/* ------------------------------------------------------------------------------------------------------------
 * What makes a descriptor
 * ------------------------------------------------------------------------------------------------------------ */

int __wrap_socket(int family, int type, int protocol)
{
    struct pro_sim *sim = harness_sim();
    if (!sim)
        return __real_socket(family, type, protocol);
    int fd = proi_sim_socket(sim, family, type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), protocol);
    return result(note_blocking(sim, fd, !(type & SOCK_NONBLOCK)));
}

static int made_pair(struct pro_sim *sim, int r, const int fds[2], bool blocking)
{
    for (int i = 0; i < 2 && r >= 0; i++)
        note_blocking(sim, fds[i], blocking);
    return result(r);
}

int __wrap_socketpair(int family, int type, int protocol, int fds[2])
{
    struct pro_sim *sim = harness_sim();
    if (!sim)
        return __real_socketpair(family, type, protocol, fds);
    int r = proi_sim_socketpair(sim, family, type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), fds);
    return made_pair(sim, r, fds, !(type & SOCK_NONBLOCK));
}

int __wrap_pipe2(int fds[2], int flags)
{
    struct pro_sim *sim = harness_sim();
    if (!sim)
        return __real_pipe2(fds, flags);
    int r = proi_sim_pipe(sim, fds);
    return made_pair(sim, r, fds, !(flags & O_NONBLOCK));
}

int __wrap_pipe(int fds[2])
{
    return harness_sim() ? __wrap_pipe2(fds, 0) : __real_pipe(fds);
}

int __wrap_dup(int fd)
{
    struct pro_sim *sim = world_of(fd);
    return sim ? result(note_blocking(sim, proi_sim_dup(sim, fd), blocks(sim, fd))) : __real_dup(fd);
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct pro_sim *sim = world_of(fd);
    if (!sim)
        return __real_accept4(fd, address, length, flags);
    assert_null(address); /* no test asks for it */
    int accepted = proi_sim_accept(sim, fd);
    return waits_never(sim, fd, "accept", note_blocking(sim, accepted, !(flags & SOCK_NONBLOCK)));
}

int __wrap_accept(int fd, struct sockaddr *address, socklen_t *length)
{
    return world_of(fd) ? __wrap_accept4(fd, address, length, 0) : __real_accept(fd, address, length);
}

/* ------------------------------------------------------------------------------------------------------------
 * What is done with a descriptor
 * ------------------------------------------------------------------------------------------------------------ */

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
    struct pro_sim *sim = world_of(fd);
    return sim ? result(proi_sim_bind(sim, fd, address, length)) : __real_bind(fd, address, length);
}

int __wrap_listen(int fd, int backlog)
{
    struct pro_sim *sim = world_of(fd);
    return sim ? result(proi_sim_listen(sim, fd, backlog)) : __real_listen(fd, backlog);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    struct pro_sim *sim = world_of(fd);
    if (!sim)
        return __real_connect(fd, address, length);
    return waits_never(sim, fd, "connect", proi_sim_connect(sim, fd, address, length));
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
    struct pro_sim *sim = world_of(fd);
    if (!sim)
        return __real_getsockname(fd, address, length);
    struct sockaddr_storage at;
    socklen_t size;
    int r = proi_sim_name(sim, fd, false, &at, &size);
    if (r < 0)
        return result(r);
    memcpy(address, &at, size < *length ? size : *length);
    *length = size;
    return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    struct pro_sim *sim = world_of(fd);
    if (!sim)
        return __real_setsockopt(fd, level, name, value, length);
    return result(proi_sim_option_set(sim, fd, level, name, value, length));
}

ssize_t __wrap_read(int fd, void *data, size_t size)
{
    struct pro_sim *sim = world_of(fd);
    if (!sim)
        return __real_read(fd, data, size);
    return waits_never(sim, fd, "read", proi_sim_read(sim, fd, data, size, PRO_STREAM));
}

ssize_t __wrap_pread64(int fd, void *data, size_t size, off64_t offset)
{
    struct pro_sim *sim = world_of(fd);
    return sim ? result(proi_sim_read(sim, fd, data, size, (uint64_t)offset)) : __real_pread64(fd, data, size, offset);
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    struct pro_sim *sim = world_of(fd);
    if (!sim)
        return __real_write(fd, data, size);
    return waits_never(sim, fd, "write", proi_sim_write(sim, fd, data, size, PRO_STREAM));
}

ssize_t __wrap_recv(int fd, void *data, size_t size, int flags)
{
    struct pro_sim *sim = world_of(fd);
    if (!sim)
        return __real_recv(fd, data, size, flags);
    int r = proi_sim_recv(sim, fd, data, size, flags & MSG_PEEK);
    return flags & MSG_DONTWAIT ? result(r) : waits_never(sim, fd, "recv", r);
}

ssize_t __wrap_send(int fd, const void *data, size_t size, int flags)
{
    struct pro_sim *sim = world_of(fd);
    struct iovec iov = {(void *)(uintptr_t)data, size};
    if (!sim)
        return __real_send(fd, data, size, flags);
    int r = proi_sim_send(sim, fd, &iov, 1, size);
    return flags & MSG_DONTWAIT ? result(r) : waits_never(sim, fd, "send", r);
}

int __wrap_shutdown(int fd, int how)
{
    struct pro_sim *sim = world_of(fd);
    return sim ? result(proi_sim_shutdown(sim, fd, how)) : __real_shutdown(fd, how);
}

int __wrap_close(int fd)
{
    struct pro_sim *sim = world_of(fd);
    return sim ? result(proi_sim_close(sim, fd)) : __real_close(fd);
}

static int set_pipe_size(struct pro_sim *sim, int fd, int size)
{
    struct sim_node *node = proi_sim_node(sim, fd);
    struct sim_node *reader = node->kind == SIM_PIPE_WRITE ? node->peer : node;
    if (reader)
        reader->in.limit = (uint32_t)size;
    return reader ? size : -EPIPE;
}

/* What the world has accepted is non-blocking. */
static int world_fcntl(struct pro_sim *sim, int fd, int command, int argument)
{
    if (proi_sim_kind(sim, fd) < 0)
        return -EBADF;
    switch (command) {
    case F_GETFD:
        return FD_CLOEXEC;
    case F_GETFL:
        return O_RDWR | (blocks(sim, fd) ? 0 : O_NONBLOCK);
    case F_SETFL:
        note_blocking(sim, fd, !(argument & O_NONBLOCK));
        return 0;
    case F_SETPIPE_SZ:
        return set_pipe_size(sim, fd, argument);
    default:
        return -EINVAL;
    }
}

/* Every other command that a test uses takes an int. */
int __wrap_fcntl64(int fd, int command, ...)
{
    struct pro_sim *sim = world_of(fd);
    va_list arguments;
    va_start(arguments, command);
    int argument = command == F_GETFD || command == F_GETFL ? 0 : va_arg(arguments, int);
    va_end(arguments);
    return sim ? result(world_fcntl(sim, fd, command, argument)) : __real_fcntl64(fd, command, argument);
}

/* ------------------------------------------------------------------------------------------------------------
 * Time
 * ------------------------------------------------------------------------------------------------------------ */

/* The loops belong to the thread that sleeps: they take no turns meanwhile. */
static int pass(struct pro_sim *sim, uint64_t ns)
{
    uint64_t until = pro_sim_now(sim) + ns;
    bool deep = sim->deep;
    sim->deep = true;
    while (proi_sim_step(sim, until))
        continue;
    sim->deep = deep;
    return 0;
}

/* The tests sleep with it, or look at one descriptor. */
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct pro_sim *sim = count > 0 ? world_of(fds->fd) : harness_sim();
    if (!sim)
        return __real_poll(fds, count, timeout_ms);
    if (count == 0)
        return pass(sim, (uint64_t)timeout_ms * 1000000);
    assert_true(count == 1 && timeout_ms == 0);
    int events = proi_sim_poll(sim, fds->fd);
    fds->revents = (short)(events < 0 ? POLLNVAL : events & (fds->events | POLLERR | POLLHUP));
    return fds->revents != 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    struct pro_sim *sim = harness_sim();
    if (!sim || clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, ret_time);
    uint64_t now = pro_sim_now(sim);
    *ret_time = (struct timespec){(time_t)(now / 1000000000), (long)(now % 1000000000)};
    return 0;
}
