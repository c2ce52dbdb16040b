/* SPDX-License-Identifier: MIT
 *
 * A server that lies, for the load generator to find out: what it does not notice here it would not notice in a server
 * that is measured.
 *
 *     serve_liar PORT none|flip|lose|cut|extra|reset
 *
 *     none     no lie: serve_blocking.c in short
 *     flip     one bit of an answer now and then
 *     lose     the last byte before the end of the connection
 *     cut      what the socket has no room for
 *     extra    a byte more, at the end of the connection
 *     reset    the connection is not closed but reset */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

#include "codec.h"
#include "server.h"

enum { BUFFER = 256 * 1024, FLIP_EACH = 50 };

enum lie { NONE, FLIP, LOSE, CUT, EXTRA, RESET, LIES };

static const char *const lies[LIES] = {"none", "flip", "lose", "cut", "extra", "reset"};

static enum lie lie; /* written before there are threads */
static atomic_uint answers;

/* False: the peer is gone. */
static bool send_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            if (lie == CUT)
                return true;
            if (poll(&room, 1, -1) < 0)
                return false;
        } else if (n < 0 && errno != EINTR) {
            return false;
        }
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* One byte is always held back, for it might be the last. */
static bool answer(int fd, uint8_t *data, size_t size, int *held)
{
    if (size == 0)
        return true;
    if (lie == FLIP && atomic_fetch_add(&answers, 1) % FLIP_EACH == FLIP_EACH - 1)
        data[size - 1] ^= 1;
    if (lie != LOSE)
        return send_all(fd, data, size);
    uint8_t before = (uint8_t)*held;
    if (*held >= 0 && !send_all(fd, &before, 1))
        return false;
    *held = data[size - 1];
    return send_all(fd, data, size - 1);
}

static void serve(int fd, uint8_t *buffer)
{
    size_t have = 0;
    int held = -1;
    ssize_t n;
    while ((n = recv(fd, buffer + have, BUFFER - have, 0)) > 0) {
        have += (size_t)n;
        struct codec_span span = codec_in_place(buffer, have);
        if (!answer(fd, buffer, span.answers, &held))
            return;
        have -= span.rest;
        memmove(buffer, buffer + span.rest, have);
        if (span.bad)
            break;
    }
    if (lie == EXTRA)
        send_all(fd, buffer, 1);
    shutdown(fd, SHUT_WR);
    while (n > 0)
        n = recv(fd, buffer, BUFFER, 0);
}

static void *connection(void *arg)
{
    int fd = (int)(intptr_t)arg;
    uint8_t *buffer = server_table(1, BUFFER);
    serve(fd, buffer);
    free(buffer);
    struct linger reset = {.l_onoff = 1};
    if (lie == RESET && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0)
        server_die("setsockopt", errno);
    close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    while (lie < LIES && (argc != 3 || strcmp(argv[2], lies[lie]) != 0))
        lie++;
    if (lie == LIES) {
        fprintf(stderr, "usage: %s PORT LIE\n", argv[0]);
        return 2;
    }
    struct server server = server_begin(2, argv);
    struct listener listener = server_listen(&server, 0);
    for (;;) {
        int fd = server_accept(&listener, 0);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, NULL, connection, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
        else if (fd >= 0)
            close(fd);
    }
}
