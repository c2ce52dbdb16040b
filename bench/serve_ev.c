/* SPDX-License-Identifier: MIT
 *
 * libev: a watcher of readiness for each connection, level-triggered, and everything else as in the epoll servers: the
 * library does no I/O of its own.
 *
 * A connection watches for input, or, while it owes answers, for room; to change that costs a call of epoll_ctl, which
 * libev makes before it waits. */
#include <ev.h>
#include <stdint.h>

#include "conn.h"
#include "server.h"

enum { TURN = 16 };

struct peer {
    ev_io io;
    struct conn conn;
};

struct state {
    ev_io accepting;
    struct listener listener;
    uint8_t chunk[CONN_CHUNK];
};

static void watch(struct ev_loop *loop, struct peer *peer, int events)
{
    int fd = peer->io.fd;
    if ((peer->io.events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(loop, &peer->io);
    ev_io_set(&peer->io, fd, events);
    ev_io_start(loop, &peer->io);
}

static void on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct peer *peer = (struct peer *)io;
    struct state *s = ev_userdata(loop);
    enum conn_state state = CONN_MORE;
    for (int i = 0; i < TURN && state == CONN_MORE; i++)
        state = conn_serve(&peer->conn, io->fd, s->chunk);
    if (state == CONN_OVER) {
        int fd = io->fd;
        ev_io_stop(loop, io);
        conn_close(&peer->conn, fd);
        free(peer);
        return;
    }
    watch(loop, peer, state == CONN_FULL ? EV_WRITE : EV_READ);
}

static void on_connection(struct ev_loop *loop, ev_io *io, int events)
{
    struct state *s = ev_userdata(loop);
    for (;;) {
        int fd = server_accept(&s->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer)
            server_die("calloc", errno);
        ev_io_init(&peer->io, on_ready, fd, EV_READ);
        ev_io_start(loop, &peer->io);
    }
}

static void *run(void *arg)
{
    struct state *s = server_table(1, sizeof *s);
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!loop)
        server_die("ev_loop_new", errno);
    s->listener = server_listen(arg, SOCK_NONBLOCK);
    ev_set_userdata(loop, s);
    ev_io_init(&s->accepting, on_connection, s->listener.fd, EV_READ);
    ev_io_start(loop, &s->accepting);
    ev_run(loop, 0);
    return NULL;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    server_run(&server, run);
}
