/* SPDX-License-Identifier: MIT
 *
 * libevent the way its book teaches it: a bufferevent for each connection. Whole frames are reversed where they stand
 * in the input, and are moved to the output without a copy.
 *
 *     evbuffer of input    [frame frame fra]   --->   [answer answer]    evbuffer of output
 *                          made contiguous            its chains move over
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdint.h>

#include "codec.h"
#include "server.h"

enum {
    SINGLE = 256 * 1024, /* bytes of one read or write, at most */
    OWED_MOST = 1 << 20, /* from there on a peer is not read from */
};

struct peer {
    struct bufferevent *stream;
    bool bad;    /* a bad header came: input is dropped */
    bool ending; /* the peer has ended: close when all is sent */
};

struct state {
    struct event_base *base;
    struct event *accepting;
    struct listener listener;
};

static void drop(struct peer *peer)
{
    bufferevent_free(peer->stream);
    free(peer);
}

static void when_paid(struct peer *peer)
{
    if (evbuffer_get_length(bufferevent_get_output(peer->stream)) > 0)
        return;
    if (peer->ending)
        drop(peer);
    else if (peer->bad)
        shutdown(bufferevent_getfd(peer->stream), SHUT_WR);
}

/* The frame at the head of the input is measured before it is made contiguous, so that nothing is moved twice. */
static void answer(struct peer *peer)
{
    struct evbuffer *input = bufferevent_get_input(peer->stream);
    struct evbuffer *output = bufferevent_get_output(peer->stream);
    size_t size;
    while (!peer->bad && (size = evbuffer_get_length(input)) > 0) {
        size_t first = evbuffer_get_contiguous_space(input);
        uint8_t *data = evbuffer_pullup(input, (ssize_t)(first < CODEC_HEADER ? size : first));
        size_t there = first < CODEC_HEADER ? size : first;
        if (*data != '\r' && *data != '\n' && there >= CODEC_HEADER && codec_frame_size(data, there) <= size &&
            codec_frame_size(data, there) > there) {
            there = codec_frame_size(data, there);
            data = evbuffer_pullup(input, (ssize_t)there);
        }
        struct codec_span span = codec_in_place(data, there);
        if (span.answers == span.rest) {
            evbuffer_remove_buffer(input, output, span.answers);
        } else {
            evbuffer_add(output, data, span.answers);
            evbuffer_drain(input, span.rest);
        }
        peer->bad = span.bad;
        if (span.rest == 0)
            return;
    }
}

static void on_read(struct bufferevent *stream, void *arg)
{
    struct peer *peer = arg;
    bool was_bad = peer->bad;
    answer(peer);
    if (peer->bad)
        evbuffer_drain(bufferevent_get_input(stream), evbuffer_get_length(bufferevent_get_input(stream)));
    if (peer->bad && !was_bad)
        when_paid(peer);
    else if (evbuffer_get_length(bufferevent_get_output(stream)) > OWED_MOST)
        bufferevent_disable(stream, EV_READ);
}

static void on_written(struct bufferevent *stream, void *arg)
{
    struct peer *peer = arg;
    if (!peer->ending)
        bufferevent_enable(stream, EV_READ);
    when_paid(peer);
}

static void on_event(struct bufferevent *stream, short events, void *arg)
{
    struct peer *peer = arg;
    if (!(events & BEV_EVENT_EOF)) {
        drop(peer);
        return;
    }
    peer->ending = true;
    when_paid(peer);
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
        peer->stream = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
        if (!peer->stream)
            server_die("bufferevent_socket_new", errno);
        bufferevent_setcb(peer->stream, on_read, on_written, on_event, peer);
        bufferevent_set_max_single_read(peer->stream, SINGLE);
        bufferevent_set_max_single_write(peer->stream, SINGLE);
        bufferevent_enable(peer->stream, EV_READ | EV_WRITE);
    }
}

static void *run(void *arg)
{
    struct state *s = server_table(1, sizeof *s);
    s->listener = server_listen(arg, SOCK_NONBLOCK);
    s->base = event_base_new();
    s->accepting = s->base ? event_new(s->base, s->listener.fd, EV_READ | EV_PERSIST, on_connection, s) : NULL;
    if (!s->accepting || event_add(s->accepting, NULL) < 0)
        server_die("libevent", errno);
    event_base_dispatch(s->base);
    return NULL;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    server_run(&server, run);
}
