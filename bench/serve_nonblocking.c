/* SPDX-License-Identifier: MIT
 *
 * Non-blocking I/O and nothing else: every socket is asked, over and over, whether there is something.
 *
 *     thread                     kernel
 *     recv() ------------------> no data
 *            <------------------ EAGAIN                          1. waiting for data is the program's, which never sleeps
 *     recv() ------------------> no data
 *            <------------------ EAGAIN
 *     recv() ------------------> data is there, is copied        2. copying it
 *            <------------------ n bytes
 *
 * It finds data sooner than a thread that has to be woken, as long as there are few sockets, and it burns a whole core
 * to do so, whether there is work or not. Each idle connection costs a system call a round. It is here to show what the
 * readiness calls (select, poll, epoll) save, which answer the question for all sockets at once and let the thread sleep.
 *
 * A round asks each connection once, the listener once, and starts again:
 *
 *     fds      [ 9 | 5 | 12 | 7 ]          dense, in any order: a connection that ends is replaced by the last
 *     conns    [ . . . . . 5 . 7 . 9 . . 12 ]   by descriptor */
#include <stdint.h>

#include "conn.h"
#include "server.h"

struct state {
    struct listener listener;
    struct conn *conns; /* by descriptor */
    int *fds;           /* the open ones */
    unsigned count;
    uint8_t chunk[CONN_CHUNK];
};

/* Connections come in bursts; between them one call a round is enough. */
static void accept_all(struct state *s)
{
    for (;;) {
        int fd = server_accept(&s->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        s->fds[s->count++] = fd;
    }
}

/* False: it has ended. */
static bool serve(struct state *s, int fd)
{
    /* One receive a round, so that nobody waits for a connection that never runs dry. */
    if (conn_serve(&s->conns[fd], fd, s->chunk) != CONN_OVER)
        return true;
    conn_close(&s->conns[fd], fd);
    return false;
}

static void serve_all(struct state *s)
{
    unsigned i = 0;
    while (i < s->count) {
        if (serve(s, s->fds[i]))
            i++;
        else
            s->fds[i] = s->fds[--s->count];
    }
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    static struct state s;
    s.listener = server_listen(&server, SOCK_NONBLOCK);
    s.conns = server_table(server.limit, sizeof *s.conns);
    s.fds = server_table(server.limit, sizeof *s.fds);
    for (;;) {
        accept_all(&s);
        serve_all(&s);
    }
}
