/* SPDX-License-Identifier: MIT
 *
 * What each server of the bench does before its I/O model shows: arguments, limits, signals, the listener; and how a
 * connection is accepted where that is a system call. C and C++.
 *
 * SIGTERM ends the process where it stands, with status 0. */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
    uint16_t port;
    unsigned threads;
    unsigned limit; /* no descriptor reaches it: the size of a table by descriptor */
    void *conns; /* such a table, if the server keeps one; each entry belongs to the thread that owns the descriptor */
};

/* A listener and the descriptor kept for the day when there are no others. */
struct listener {
    int fd, spare;
};

#ifdef __cplusplus
[[noreturn]]
#else
_Noreturn
#endif
static inline void
server_die(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(1);
}

static inline void server_on_term(int signal)
{
    (void)signal;
    _exit(0);
}

/* PORT [THREADS]; wrong arguments end the process with status 2. */
static inline struct server server_begin(int argc, char **argv)
{
    struct server server;
    unsigned long port = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned long threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    if (port < 1 || port > 65535 || threads < 1 || threads > 64) {
        fprintf(stderr, "usage: %s PORT [THREADS]\n", argv[0]);
        exit(2);
    }
    struct rlimit descriptors;
    if (getrlimit(RLIMIT_NOFILE, &descriptors) < 0)
        server_die("getrlimit", errno);
    descriptors.rlim_cur = descriptors.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &descriptors) < 0)
        server_die("setrlimit", errno);

    signal(SIGTERM, server_on_term);
    signal(SIGPIPE, SIG_IGN);
    /* A frame's memory comes and goes with every large frame: let it neither go back to the kernel nor be a mapping. */
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    memset(&server, 0, sizeof server);
    server.port = (uint16_t)port;
    server.threads = (unsigned)threads;
    server.limit = descriptors.rlim_cur > 1 << 20 ? 1 << 20 : (unsigned)descriptors.rlim_cur;
    return server;
}

static inline void server_option(int fd, int level, int option)
{
    int on = 1;
    if (setsockopt(fd, level, option, &on, sizeof on) < 0)
        server_die("setsockopt", errno);
}

/* Connections inherit TCP_NODELAY from their listener: a system call saved for each. Several threads listen on the same
 * port, and the kernel deals out the connections. type: SOCK_NONBLOCK or 0. */
static inline struct listener server_listen(const struct server *server, int type)
{
    struct listener listener;
    struct sockaddr_in at;
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_port = htons(server->port);
    listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type, 0);
    if (listener.fd < 0)
        server_die("socket", errno);
    server_option(listener.fd, SOL_SOCKET, SO_REUSEADDR);
    if (server->threads > 1)
        server_option(listener.fd, SOL_SOCKET, SO_REUSEPORT);
    server_option(listener.fd, IPPROTO_TCP, TCP_NODELAY);
    if (bind(listener.fd, (const struct sockaddr *)&at, sizeof at) < 0)
        server_die("bind", errno);
    if (listen(listener.fd, 4096) < 0)
        server_die("listen", errno);
    listener.spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return listener;
}

/* The next connection; -1: there is none at present. Out of descriptors, the spare one is given up for as long as it
 * takes to turn a connection away: else it would stay in the queue and the listener would be ready for ever. Where the
 * listener blocks, there may be descriptors again by the time a connection comes; then it is kept. */
static inline int server_accept(struct listener *listener, int type)
{
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | type);
        if (fd >= 0)
            return fd;
        if (errno == EMFILE || errno == ENFILE) {
            close(listener->spare);
            fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | type);
            listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
            if (fd < 0 || listener->spare >= 0)
                return fd;
            close(fd);
            listener->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            if (errno != EAGAIN)
                perror("accept");
            return -1;
        }
    }
}

/* All zero, its pages taken when they are first written to. */
static inline void *server_table(unsigned entries, size_t size)
{
    void *table = calloc(entries, size);
    if (!table)
        server_die("calloc", errno);
    return table;
}

/* Runs the loop in as many threads as were asked for, each with a listener of its own. It does not return. */
static inline void server_run(struct server *server, void *(*loop)(void *))
{
    for (unsigned i = 1; i < server->threads; i++) {
        pthread_t thread;
        int error = pthread_create(&thread, NULL, loop, server);
        if (error)
            server_die("pthread_create", error);
    }
    loop(server);
}

#endif
