/* SPDX-License-Identifier: MIT
 *
 * poll(): as select(), with an array of the sockets that are asked for in place of a set of all descriptors.
 *
 *     thread                     kernel
 *     poll() ------------------> none is ready: the thread sleeps   1. waiting for data, of all sockets at once
 *            <------------------ n of them are, marked in the array
 *     recv() ------------------> data is copied                     2. copying it
 *            <------------------ n bytes
 *
 * Question and answer are separate members, so nothing is copied before a call, and there is no limit to the number. But
 * the array still goes to the kernel and is walked there at each call, a hook is put on each socket and taken off again:
 * ten thousand idle connections make each call cost ten thousand times that. As long as most of the sockets are ready it
 * is hard to beat: one call finds them all.
 *
 *     polls    [ listener | 9 | 5 | 12 | 7 ]    dense, in any order: one that ends is replaced by the last
 *     conns    [ . . . . . 5 . 7 . 9 . . 12 ]   by descriptor */
#include <poll.h>
#include <stdint.h>

#include "conn.h"
#include "server.h"

struct state {
    struct listener listener;
    struct conn *conns;   /* by descriptor */
    struct pollfd *polls; /* the listener first */
    unsigned count;
    uint8_t chunk[CONN_CHUNK];
};

static void add(struct state *s, int fd)
{
    s->polls[s->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void accept_all(struct state *s)
{
    for (;;) {
        int fd = server_accept(&s->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        add(s, fd);
    }
}

/* One receive for each time it is ready: what is left makes it ready again. False: it has ended. */
static bool serve(struct state *s, struct pollfd *poll)
{
    enum conn_state state = conn_serve(&s->conns[poll->fd], poll->fd, s->chunk);
    if (state == CONN_OVER) {
        conn_close(&s->conns[poll->fd], poll->fd);
        return false;
    }
    poll->events = state == CONN_FULL ? POLLOUT : POLLIN;
    return true;
}

/* The walk ends with the last one that is ready. */
static void serve_ready(struct state *s, int ready)
{
    unsigned i = 1;
    while (ready > 0 && i < s->count) {
        struct pollfd *poll = &s->polls[i];
        if (!poll->revents) {
            i++;
            continue;
        }
        ready--;
        if (serve(s, poll))
            i++;
        else
            *poll = s->polls[--s->count]; /* with its answer, which is looked at next */
    }
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    static struct state s;
    s.listener = server_listen(&server, SOCK_NONBLOCK);
    s.conns = server_table(server.limit, sizeof *s.conns);
    s.polls = server_table(server.limit, sizeof *s.polls);
    add(&s, s.listener.fd);
    for (;;) {
        int ready = poll(s.polls, s.count, -1);
        if (ready < 0 && errno != EINTR)
            server_die("poll", errno);
        bool knock = ready > 0 && s.polls[0].revents;
        serve_ready(&s, ready - knock);
        if (knock) /* last: the walk must not meet the new ones, which have no answer yet */
            accept_all(&s);
    }
}
