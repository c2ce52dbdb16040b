/* SPDX-License-Identifier: MIT
 *
 * epoll, edge-triggered: a socket is reported when something new has happened to it, and not again until then.
 *
 *     kernel      data comes            more comes              the peer reads: there is room
 *     reports     EPOLLIN               EPOLLIN                 EPOLLOUT
 *     program     must read all of it   ...                     must send, and read again
 *
 * The interest is stated once, in and out, for the life of the connection; nothing is looked at twice by the kernel. In
 * return the program has to go on until there is nothing left, for it is not told again. Three things follow:
 *
 *   - When is nothing left? A receive that brings less than was asked for has emptied the socket: what comes later is
 *     an edge. That saves the receive that would say EAGAIN, a system call for each request. It holds for data, not for
 *     the end of the stream, which may already be there and make no edge any more; so while the end is in sight
 *     (EPOLLRDHUP) it is read until it comes.
 *   - A connection that never runs dry must not keep the others waiting: after TURN receives it is asked for anew, which
 *     makes an edge if there is more, and puts it at the end of the list.
 *   - Input that was left unread because the socket was full of answers made its edge long ago. When there is room
 *     again, it is read from again. */
#include <stdint.h>
#include <sys/epoll.h>

#include "conn.h"
#include "server.h"

enum {
    EVENTS = 256,
    TURN = 16, /* receives */
};

static const uint32_t interest = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

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
        watch(s, EPOLL_CTL_ADD, fd, interest);
    }
}

static bool goes_on(enum conn_state state, uint32_t events)
{
    bool ending = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    return state == CONN_MORE || (state == CONN_SHORT && ending);
}

/* Room in a socket that was never full is reported along with the first data and the end; alone, it is an edge that only
 * a connection which owes something has to hear. */
static bool concerns(const struct conn *conn, uint32_t events)
{
    return conn->owed || events & ~(uint32_t)EPOLLOUT;
}

static void serve(struct state *s, int fd, uint32_t events)
{
    struct conn *conn = &s->conns[fd];
    if (!concerns(conn, events))
        return;
    enum conn_state state = CONN_MORE;
    for (int i = 0; i < TURN && goes_on(state, events); i++)
        state = conn_serve(conn, fd, s->chunk);
    if (state == CONN_OVER)
        conn_close(conn, fd); /* and epoll forgets it: there is no other descriptor for the socket */
    else if (goes_on(state, events))
        watch(s, EPOLL_CTL_MOD, fd, interest);
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
    watch(s, EPOLL_CTL_ADD, s->listener.fd, EPOLLIN | EPOLLET);
    for (;;) {
        int n = epoll_wait(s->epoll, s->events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            server_die("epoll_wait", errno);
        for (int i = 0; i < n; i++) {
            if (s->events[i].data.fd == s->listener.fd)
                accept_all(s);
            else
                serve(s, s->events[i].data.fd, s->events[i].events);
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
