/* SPDX-License-Identifier: MIT
 *
 * libevent: a persistent event for each connection, level-triggered, and everything else as in the epoll servers. This
 * is the library's fast side; its buffered side is in serve_event_buffer.c. */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdint.h>

#include "conn.h"
#include "server.h"

enum { TURN = 16 };

struct state {
    struct event_base *base;
    struct event accepting;
    struct listener listener;
    uint8_t chunk[CONN_CHUNK];
};

struct peer {
    struct event event;
    struct state *state;
    struct conn conn;
    short watched;
};

static void on_ready(evutil_socket_t fd, short events, void *arg);

static void watch(struct peer *peer, int fd, short events)
{
    if (peer->watched == events)
        return;
    if (peer->watched)
        event_del(&peer->event);
    event_assign(&peer->event, peer->state->base, fd, (short)(events | EV_PERSIST), on_ready, peer);
    if (event_add(&peer->event, NULL) < 0)
        server_die("event_add", errno);
    peer->watched = events;
}

static void on_ready(evutil_socket_t fd, short events, void *arg)
{
    struct peer *peer = arg;
    enum conn_state state = CONN_MORE;
    for (int i = 0; i < TURN && state == CONN_MORE; i++)
        state = conn_serve(&peer->conn, fd, peer->state->chunk);
    if (state == CONN_OVER) {
        event_del(&peer->event);
        conn_close(&peer->conn, fd);
        free(peer);
        return;
    }
    watch(peer, fd, state == CONN_FULL ? EV_WRITE : EV_READ);
}

static void on_connection(evutil_socket_t listener, short events, void *arg)
{
    struct state *s = arg;
    for (;;) {
        int fd = server_accept(&s->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer)
            server_die("calloc", errno);
        peer->state = s;
        watch(peer, fd, EV_READ);
    }
}

/* No locks and no notice of time: one loop belongs to one thread. */
static struct event_base *make_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;
    if (config && event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST |
                                                    EVENT_BASE_FLAG_NO_CACHE_TIME) == 0)
        base = event_base_new_with_config(config);
    if (!base)
        server_die("event_base_new", errno);
    event_config_free(config);
    return base;
}

static void *run(void *arg)
{
    struct state *s = server_table(1, sizeof *s);
    s->listener = server_listen(arg, SOCK_NONBLOCK);
    s->base = make_base();
    event_assign(&s->accepting, s->base, s->listener.fd, EV_READ | EV_PERSIST, on_connection, s);
    if (event_add(&s->accepting, NULL) < 0)
        server_die("event_add", errno);
    event_base_dispatch(s->base);
    return NULL;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    server_run(&server, run);
}
