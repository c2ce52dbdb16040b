/* SPDX-License-Identifier: MIT
 *
 * Blocking I/O: a thread for each connection, which sleeps in recv() until there is data and in send() until there is
 * room.
 *
 *     thread                     kernel
 *     recv() ------------------> no data: the thread sleeps     1. waiting for data
 *                                data comes, is copied          2. copying it
 *            <------------------ n bytes
 *     reverse
 *     send() ------------------> no room: the thread sleeps
 *            <------------------ all taken
 *
 * The easiest to write, by far: where the program stands is the state of the connection, its stack is the connection's
 * memory, and a peer that does not read stops its own thread and nobody else. One connection alone is served as fast as
 * in any other model. What it costs: a switch of threads for each request once several are active, and a stack, a kernel
 * stack and a thread's bookkeeping for each one that is idle.
 *
 * The memory. The buffer is on the stack, large enough for any frame. Pages of a stack that were never touched do not
 * exist, and glibc keeps the stacks of ended threads for the next ones, so to begin and end a thread is cheap. It works in
 * place:
 *
 *     buffer   [ answers .............. | rest of a frame | room to receive ............ ]
 *                 \_ sent, gone              \_ moved to the front, then received behind
 *
 * Of a large frame, only what is missing and the next header is asked for, so that the rest to be moved is small. */
#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>

#include "codec.h"
#include "server.h"

enum {
    BUFFER = 128 * 1024,        /* more than CODEC_FRAME_MAX */
    STACK = BUFFER + 64 * 1024, /* and what the C library takes */
    LARGE = 16 * 1024,          /* a frame of this size is received by itself */
};

static_assert(BUFFER > CODEC_FRAME_MAX + CODEC_HEADER, "room for any frame and the header behind it");

/* Blocks until all is sent. False: the peer is gone. */
static bool send_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return false;
        data += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

/* How much to receive behind the beginning of a frame. */
static size_t wanted(const uint8_t *data, size_t have)
{
    size_t frame = codec_frame_size(data, have);
    return frame >= LARGE ? frame + CODEC_HEADER - have : BUFFER - have;
}

/* After a bad header: to close with unread input would destroy the answers on their way. */
static void drop_input(int fd, uint8_t *buffer)
{
    ssize_t n;
    shutdown(fd, SHUT_WR);
    do
        n = recv(fd, buffer, BUFFER, 0);
    while (n > 0 || (n < 0 && errno == EINTR));
}

static void serve(int fd)
{
    uint8_t buffer[BUFFER];
    size_t have = 0;
    for (;;) {
        ssize_t n = recv(fd, buffer + have, wanted(buffer, have), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        have += (size_t)n;
        struct codec_span span = codec_in_place(buffer, have);
        if (!send_all(fd, buffer, span.answers))
            return;
        if (span.bad) {
            drop_input(fd, buffer);
            return;
        }
        have -= span.rest;
        if (span.rest > 0 && have > 0)
            memmove(buffer, buffer + span.rest, have);
    }
}

static void *connection(void *arg)
{
    int fd = (int)(intptr_t)arg;
    serve(fd);
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    struct listener listener = server_listen(&server, 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    for (;;) {
        int fd = server_accept(&listener, 0);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, &attributes, connection, (void *)(intptr_t)fd) != 0)
            close(fd); /* no thread for it: turned away */
    }
}
