/* SPDX-License-Identifier: MIT
 *
 * epoll, level-triggered: the kernel remembers which sockets are asked for, and answers with those that are ready.
 *
 *     thread                     kernel
 *     epoll_ctl() -------------> the socket is on the list of interest, a hook stays on it
 *     epoll_wait() ------------> none is ready: the thread sleeps   1. waiting for data, of all sockets at once
 *                  <------------ up to EVENTS of those that are
 *     recv() ------------------> data is copied                     2. copying it
 *            <------------------ n bytes
 *
 * An idle connection costs nothing in a call, and that is the whole difference to poll(). Level-triggered means that a
 * socket is reported for as long as it is ready. So one receive for each report is enough, nothing is forgotten by
 * stopping there, and every connection gets its turn: it is the forgiving one of the two modes. What it costs: the
 * kernel keeps each socket that it reported on the ready list and looks at it once more in the next call, to find that
 * it is not ready; and to wait for room the interest must be changed, a system call there and one back. */
#include <stdint.h>
#include <sys/epoll.h>

#include "conn.h"
#include "server.h"

enum { EVENTS = 256 };

struct state {
    struct listener listener;
    struct conn *conns; /* by descriptor */
    int epoll;
    struct epoll_event events[EVENTS];
    uint8_t chunk[CONN_CHUNK];
};

static void watch(const struct state *s, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(s->epoll, operation, fd, &event) < 0)
        server_die("epoll_ctl", errno);
}

static void accept_all(struct state *s)
{
    for (;;) {
        int fd = server_accept(&s->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        watch(s, EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

/* A connection that was closed in this batch may have been followed by one with the same descriptor, which is then asked
 * for nothing: a receive in vain. */
static void serve(struct state *s, int fd)
{
    struct conn *conn = &s->conns[fd];
    bool was_full = conn->owed;
    enum conn_state state = conn_serve(conn, fd, s->chunk);
    if (state == CONN_OVER)
        conn_close(conn, fd); /* and epoll forgets it: there is no other descriptor for the socket */
    else if (was_full != (state == CONN_FULL))
        watch(s, EPOLL_CTL_MOD, fd, state == CONN_FULL ? EPOLLOUT : EPOLLIN);
}

static void *loop(void *arg)
{
    struct server *server = arg;
    struct state *s = server_table(1, sizeof *s);
    s->conns = server->conns;
    s->listener = server_listen(server, SOCK_NONBLOCK);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0)
        server_die("epoll_create1", errno);
    watch(s, EPOLL_CTL_ADD, s->listener.fd, EPOLLIN);
    for (;;) {
        int n = epoll_wait(s->epoll, s->events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            server_die("epoll_wait", errno);
        for (int i = 0; i < n; i++) {
            if (s->events[i].data.fd == s->listener.fd)
                accept_all(s);
            else
                serve(s, s->events[i].data.fd);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    server.conns = server_table(server.limit, sizeof(struct conn));
    server_run(&server, loop);
}
