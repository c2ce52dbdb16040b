/* SPDX-License-Identifier: MIT
 *
 * A non-blocking connection, as the servers have it that are told when a socket is ready: busy polling, select, poll,
 * epoll and signals differ in how they are told, and in nothing else.
 *
 *     conn_serve():  recv into the chunk --> answers in place --> send from the chunk ---.
 *                          |                                        |                    |
 *                     nothing there                           no room for all         all sent
 *                          v                                        v                    v
 *                     CONN_EMPTY                                CONN_FULL       CONN_SHORT, CONN_MORE
 *
 * The chunk is one for all connections of a thread, and stays warm in the cache. A connection owns memory only while it
 * has to: for a frame of which the end has not come, and for answers that the socket had no room for. While it owes
 * answers it is not read from, so a peer that does not read them costs a chunk and a frame at most.
 *
 * After a bad header the answers before it are sent and the write side is shut; what the peer still sends is read and
 * dropped until it closes, for to close with unread input would destroy the answers on their way. */
#ifndef BENCH_CONN_H
#define BENCH_CONN_H

#include "codec.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CONN_CHUNK = 64 * 1024 + 64 };

enum conn_state {
    CONN_MORE,  /* there may be more to read */
    CONN_SHORT, /* less was there than was asked for: what there was of data is read, but perhaps not the end of it */
    CONN_EMPTY, /* nothing was there */
    CONN_FULL,  /* answers wait for room; until there is some, nothing is read */
    CONN_OVER,  /* the peer is gone, or has all it is owed: conn_close() */
};

/* All zero at first. */
struct conn {
    struct codec_part part;
    uint8_t *owed; /* answers the socket had no room for; NULL: none */
    uint32_t owed_size, owed_sent;
    bool bad;  /* a bad header came: input is dropped */
    bool open; /* the entry is in use; for servers that look through all of them */
};

static inline bool conn_broken(ssize_t sent)
{
    return sent < 0 && errno != EAGAIN && errno != EINTR;
}

/* The peer has all that it is owed. */
static inline void conn_paid(const struct conn *conn, int fd)
{
    if (conn->bad)
        shutdown(fd, SHUT_WR);
}

/* Sends what it can of what is owed. CONN_MORE: that was all of it. */
static inline enum conn_state conn_pay(struct conn *conn, int fd)
{
    ssize_t sent = send(fd, conn->owed + conn->owed_sent, conn->owed_size - conn->owed_sent, MSG_NOSIGNAL);
    if (conn_broken(sent))
        return CONN_OVER;
    conn->owed_sent += sent > 0 ? (uint32_t)sent : 0;
    if (conn->owed_sent < conn->owed_size)
        return CONN_FULL;
    free(conn->owed);
    conn->owed = NULL;
    conn_paid(conn, fd);
    return CONN_MORE;
}

/* Keeps a copy of what is left when the first `sent` bytes are gone. */
static inline void conn_owe(struct conn *conn, const struct iovec *iov, int count, size_t sent)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (sent == total)
        return;
    conn->owed = malloc(total - sent);
    if (!conn->owed)
        abort();
    conn->owed_size = 0;
    conn->owed_sent = 0;
    for (int i = 0; i < count; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
        memcpy(conn->owed + conn->owed_size, (uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip);
        conn->owed_size += (uint32_t)(iov[i].iov_len - skip);
        sent -= skip;
    }
}

/* Sends the answers to a chunk, in one system call. False: the connection is broken. */
static inline bool conn_answer(struct conn *conn, int fd, const struct codec_chunk *chunk)
{
    struct iovec iov[2] = {{chunk->frame, chunk->frame_size}, {chunk->answers, chunk->size}};
    struct iovec *first = chunk->frame ? iov : iov + 1;
    int count = (chunk->frame ? 1 : 0) + (chunk->size ? 1 : 0);
    ssize_t sent = 0;
    if (count == 1) {
        sent = send(fd, first->iov_base, first->iov_len, MSG_NOSIGNAL);
    } else if (count == 2) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    }
    bool broken = conn_broken(sent);
    if (!broken)
        conn_owe(conn, first, count, sent > 0 ? (size_t)sent : 0);
    free(chunk->frame);
    if (!broken && !conn->owed)
        conn_paid(conn, fd);
    return !broken;
}

/* One receive at most, and the answers to it. */
static inline enum conn_state conn_serve(struct conn *conn, int fd, uint8_t chunk[CONN_CHUNK])
{
    if (conn->owed) {
        enum conn_state state = conn_pay(conn, fd);
        if (state != CONN_MORE)
            return state;
    }
    ssize_t n = recv(fd, chunk, CONN_CHUNK, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? CONN_EMPTY : n < 0 && errno == EINTR ? CONN_MORE : CONN_OVER;
    if (!conn->bad) {
        struct codec_chunk owed = codec_take(&conn->part, chunk, (size_t)n);
        conn->bad = owed.bad;
        if (!conn_answer(conn, fd, &owed))
            return CONN_OVER;
    }
    return conn->owed ? CONN_FULL : n < CONN_CHUNK ? CONN_SHORT : CONN_MORE;
}

/* The entry is as it was at first. */
static inline void conn_close(struct conn *conn, int fd)
{
    codec_part_drop(&conn->part);
    free(conn->owed);
    *conn = (struct conn){0};
    close(fd);
}

#endif
