/* SPDX-License-Identifier: MIT
 *
 * libuv, used to its best: one receive buffer for all connections of a loop, answers tried at once from where they were
 * received, and a write request with a copy only for what the socket has no room for. While such a request is under way
 * the connection is not read from. */
#include <stdint.h>
#include <uv.h>

#include "codec.h"
#include "server.h"

enum { CHUNK = 64 * 1024 + 64 };

struct peer {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    struct codec_part part;
    bool bad; /* a bad header came: input is dropped */
};

struct owed {
    uv_write_t write;
    size_t size;
    uint8_t data[];
};

struct state {
    uv_loop_t loop;
    uv_tcp_t listening;
    uint8_t chunk[CHUNK];
};

static void must(const char *what, int error)
{
    if (error < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(error));
        exit(1);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    codec_part_drop(&peer->part);
    free(peer);
}

static void drop(struct peer *peer)
{
    if (!uv_is_closing((uv_handle_t *)&peer->tcp))
        uv_close((uv_handle_t *)&peer->tcp, on_closed);
}

static void on_shut(uv_shutdown_t *request, int status)
{
}

static void when_paid(struct peer *peer)
{
    if (peer->bad && uv_shutdown(&peer->shutdown, (uv_stream_t *)&peer->tcp, on_shut) < 0)
        drop(peer);
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct state *s = handle->loop->data;
    *buffer = uv_buf_init((char *)s->chunk, CHUNK);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);

static void on_written(uv_write_t *request, int status)
{
    struct peer *peer = request->handle->data;
    free(request->data);
    if (status == UV_ECANCELED)
        return;
    if (status < 0) {
        drop(peer);
        return;
    }
    when_paid(peer);
    if (!uv_is_closing((uv_handle_t *)&peer->tcp))
        must("uv_read_start", uv_read_start((uv_stream_t *)&peer->tcp, on_buffer, on_read));
}

/* What is left of two buffers when the first `sent` bytes are gone. */
static void owe(struct peer *peer, const uv_buf_t buffers[2], size_t sent)
{
    size_t total = buffers[0].len + buffers[1].len;
    struct owed *owed = malloc(sizeof *owed + total - sent);
    if (!owed)
        server_die("malloc", errno);
    owed->size = 0;
    for (int i = 0; i < 2; i++) {
        size_t skip = sent < buffers[i].len ? sent : buffers[i].len;
        if (buffers[i].len > skip)
            memcpy(owed->data + owed->size, buffers[i].base + skip, buffers[i].len - skip);
        owed->size += buffers[i].len - skip;
        sent -= skip;
    }
    owed->write.data = owed;
    uv_buf_t buffer = uv_buf_init((char *)owed->data, (unsigned)owed->size);
    uv_read_stop((uv_stream_t *)&peer->tcp);
    must("uv_write", uv_write(&owed->write, (uv_stream_t *)&peer->tcp, &buffer, 1, on_written));
}

static void answer(struct peer *peer, uint8_t *data, size_t size)
{
    struct codec_chunk chunk = codec_take(&peer->part, data, size);
    uv_buf_t buffers[2] = {uv_buf_init((char *)chunk.frame, (unsigned)chunk.frame_size),
                           uv_buf_init((char *)chunk.answers, (unsigned)chunk.size)};
    bool both = chunk.frame_size > 0;
    size_t total = chunk.frame_size + chunk.size;
    int sent = 0;
    if (total)
        sent = uv_try_write((uv_stream_t *)&peer->tcp, both ? buffers : buffers + 1, both ? 2 : 1);
    peer->bad = chunk.bad;
    if (sent < 0 && sent != UV_EAGAIN)
        drop(peer);
    else if ((size_t)(sent > 0 ? sent : 0) < total)
        owe(peer, buffers, (size_t)(sent > 0 ? sent : 0));
    else
        when_paid(peer);
    free(chunk.frame);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct peer *peer = stream->data;
    if (size < 0)
        drop(peer);
    else if (size > 0 && !peer->bad)
        answer(peer, (uint8_t *)buffer->base, (size_t)size);
}

static void on_connection(uv_stream_t *listening, int status)
{
    if (status < 0)
        return;
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        server_die("calloc", errno);
    must("uv_tcp_init", uv_tcp_init(listening->loop, &peer->tcp));
    peer->tcp.data = peer;
    if (uv_accept(listening, (uv_stream_t *)&peer->tcp) < 0) {
        drop(peer);
        return;
    }
    must("uv_read_start", uv_read_start((uv_stream_t *)&peer->tcp, on_buffer, on_read));
}

static void *run(void *arg)
{
    struct state *s = server_table(1, sizeof *s);
    must("uv_loop_init", uv_loop_init(&s->loop));
    s->loop.data = s;
    must("uv_tcp_init", uv_tcp_init(&s->loop, &s->listening));
    must("uv_tcp_open", uv_tcp_open(&s->listening, server_listen(arg, SOCK_NONBLOCK).fd));
    must("uv_listen", uv_listen((uv_stream_t *)&s->listening, 4096, on_connection));
    uv_run(&s->loop, UV_RUN_DEFAULT);
    return NULL;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    server_run(&server, run);
}
