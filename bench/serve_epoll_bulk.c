/* SPDX-License-Identifier: MIT
 *
 * epoll, edge-triggered, receiving in bulk: serve_epoll_et.c with another idea of memory, for large frames.
 *
 * There, a frame that did not come whole is put together elsewhere. Here everything is received into a buffer that is
 * large enough for several frames of any size, answered in place, and sent from there; what is not whole stays, and the
 * next receive goes on behind it:
 *
 *     buffer   [ sent | answers owed | rest of a frame | room ....................... ]
 *              0      sent           answers..rest     size                      BUFFER
 *
 * So a large frame takes few system calls, is never copied by the program, and is reversed while its end is still in the
 * cache. In return a connection in the middle of a frame holds a whole buffer, and not just what it has received.
 *
 * Between frames it holds none. The buffers lie on a stack: the connection that is served takes the topmost, which is
 * the one still in the cache, and puts it back unless it has something left in it. With small frames it is always the
 * same one. Of a buffer's pages those exist that were written to. */
#include <assert.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "codec.h"
#include "server.h"

enum {
    EVENTS = 256,
    TURN = 8,            /* receives */
    BUFFER = 512 * 1024, /* several large frames, answered by one send; yet half of a usual second-level cache */
};

static_assert(BUFFER >= 2 * CODEC_FRAME_MAX, "the rest of a frame may have to wait behind an answer");

static const uint32_t interest = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

/* A buffer that is free begins with the address of the one below it. */
struct buffer {
    struct buffer *below;
};

struct conn {
    uint8_t *data;          /* NULL: it holds nothing */
    uint32_t sent, answers; /* data[sent, answers) is owed */
    uint32_t rest, size;    /* data[rest, size) is the beginning of a frame */
    bool bad;               /* a bad header came: input is dropped */
};

enum state { MORE, SHORT, EMPTY, FULL, OVER }; /* as in conn.h */

struct loop {
    struct listener listener;
    struct conn *conns; /* by descriptor */
    struct buffer *free;
    int epoll;
    struct epoll_event events[EVENTS];
};

static void take_buffer(struct loop *l, struct conn *conn)
{
    if (conn->data)
        return;
    if (l->free) {
        conn->data = (uint8_t *)l->free;
        l->free = l->free->below;
    } else {
        conn->data = server_table(1, BUFFER);
    }
    conn->sent = conn->answers = conn->rest = conn->size = 0;
}

static void put_buffer(struct loop *l, struct conn *conn)
{
    struct buffer *buffer = (struct buffer *)(void *)conn->data;
    if (!buffer)
        return;
    buffer->below = l->free;
    l->free = buffer;
    conn->data = NULL;
}

/* Sends what is owed. */
static enum state pay(struct conn *conn, int fd)
{
    if (conn->sent < conn->answers) {
        ssize_t n = send(fd, conn->data + conn->sent, conn->answers - conn->sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return OVER;
        conn->sent += n > 0 ? (uint32_t)n : 0;
    }
    if (conn->sent < conn->answers)
        return FULL;
    if (conn->bad)
        shutdown(fd, SHUT_WR);
    return MORE;
}

/* Nothing is owed, and the rest is small, for it is less than a frame; yet it is moved only if its end would not fit. */
static void make_room(struct conn *conn)
{
    uint32_t have = conn->size - conn->rest;
    size_t frame = codec_frame_size(conn->data + conn->rest, have);
    if (have == 0 || conn->rest + frame + CODEC_HEADER > BUFFER) {
        memmove(conn->data, conn->data + conn->rest, have);
        conn->rest = 0;
        conn->size = have;
    }
}

static void answer(struct conn *conn)
{
    struct codec_span span = codec_in_place(conn->data + conn->rest, conn->size - conn->rest);
    conn->sent = conn->rest;
    conn->answers = conn->rest + (uint32_t)span.answers;
    conn->rest = span.bad ? conn->size : conn->rest + (uint32_t)span.rest;
    conn->bad = span.bad;
}

static bool owes(const struct conn *conn)
{
    return conn->data && conn->sent < conn->answers;
}

/* Pays what is owed; then one receive at most, and the answers to it. */
static enum state serve_once(struct conn *conn, int fd)
{
    enum state state = owes(conn) ? pay(conn, fd) : MORE;
    if (state != MORE)
        return state;
    make_room(conn);
    uint32_t room = BUFFER - conn->size;
    ssize_t n = recv(fd, conn->data + conn->size, room, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? EMPTY : n < 0 && errno == EINTR ? MORE : OVER;
    conn->size += (uint32_t)n;
    if (conn->bad) {
        conn->rest = conn->size;
    } else {
        answer(conn);
        state = pay(conn, fd);
    }
    return state == MORE && (uint32_t)n < room ? SHORT : state;
}

static void watch(const struct loop *l, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(l->epoll, operation, fd, &event) < 0)
        server_die("epoll_ctl", errno);
}

static void accept_all(struct loop *l)
{
    for (;;) {
        int fd = server_accept(&l->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        watch(l, EPOLL_CTL_ADD, fd, interest);
    }
}

static bool goes_on(enum state state, uint32_t events)
{
    bool ending = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    return state == MORE || (state == SHORT && ending);
}

/* Room in a socket that was never full concerns nobody. */
static bool concerns(const struct conn *conn, uint32_t events)
{
    return owes(conn) || events & ~(uint32_t)EPOLLOUT;
}

static void serve(struct loop *l, int fd, uint32_t events)
{
    struct conn *conn = &l->conns[fd];
    if (!concerns(conn, events))
        return;
    enum state state = MORE;
    take_buffer(l, conn);
    for (int i = 0; i < TURN && goes_on(state, events); i++)
        state = serve_once(conn, fd);
    if (state == OVER || (state != FULL && conn->rest == conn->size))
        put_buffer(l, conn);
    if (state == OVER) {
        *conn = (struct conn){0};
        close(fd);
    } else if (goes_on(state, events)) {
        watch(l, EPOLL_CTL_MOD, fd, interest); /* its turn is over: to the end of the list */
    }
}

static void *run(void *arg)
{
    struct server *server = arg;
    struct loop *l = server_table(1, sizeof *l);
    l->conns = server->conns;
    l->listener = server_listen(server, SOCK_NONBLOCK);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0)
        server_die("epoll_create1", errno);
    watch(l, EPOLL_CTL_ADD, l->listener.fd, EPOLLIN | EPOLLET);
    for (;;) {
        int n = epoll_wait(l->epoll, l->events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            server_die("epoll_wait", errno);
        for (int i = 0; i < n; i++) {
            if (l->events[i].data.fd == l->listener.fd)
                accept_all(l);
            else
                serve(l, l->events[i].data.fd, l->events[i].events);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    server.conns = server_table(server.limit, sizeof(struct conn));
    server_run(&server, run);
}
