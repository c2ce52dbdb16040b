/* SPDX-License-Identifier: MIT
 *
 * Signal-driven I/O: the kernel sends a signal when something has happened to a socket.
 *
 *     thread                     kernel
 *     fcntl(F_SETSIG, O_ASYNC)   from now on, a signal for each event on this socket
 *     read(signalfd) ----------> none is queued: the thread sleeps   1. waiting for data, of all sockets at once
 *                    <---------- up to SIGNALS of them, each with its descriptor
 *     recv() ------------------> data is copied                      2. copying it
 *            <------------------ n bytes
 *
 * F_SETSIG is Linux's: with a real-time signal the events queue, and each says which descriptor it is for. (The SIGIO of
 * old does not queue and does not say, and is of use for one socket.) The signals stay blocked and are read from a
 * signalfd, many in one call; a handler could do next to nothing that a server has to do.
 *
 * It was Linux's answer before there was epoll, whose edge-triggered mode is the same idea done right: there a socket is
 * on the list once, however much happens to it. Here
 *
 *   - each segment that comes queues a signal of its own, and of those that were queued while the server was busy most
 *     are old news when they are read;
 *   - the queue has an end. When it is full the kernel sends a plain SIGIO in place of what it drops, and the server must
 *     look at every connection there is, since any of them may have been meant;
 *   - four system calls set a connection up, and what came before the last of them made no signal. */
#include <assert.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/signalfd.h>

#include "conn.h"
#include "server.h"

enum {
    SIGNALS = 256,
    TURN = 16, /* receives */
};

struct entry {
    struct conn conn;
    uint32_t signals; /* in this batch */
    uint32_t next;    /* of the unfinished; 0: the last */
    bool unfinished;
};

struct state {
    struct listener listener;
    struct entry *entries; /* by descriptor */
    int highest;           /* descriptor that was ever in use */
    int signals;
    uint32_t unfinished; /* the first of those whose turn ended before their data did; no connection has descriptor 0 */
    struct signalfd_siginfo infos[SIGNALS];
    uint8_t chunk[CONN_CHUNK];
};

/* Signals for fd go to this thread from now on. */
static void watch(int fd, int number)
{
    struct f_owner_ex self = {F_OWNER_TID, gettid()};
    int flags = fcntl(fd, F_GETFL);
    if (fcntl(fd, F_SETSIG, number) < 0 || fcntl(fd, F_SETOWN_EX, &self) < 0 || flags < 0 ||
        fcntl(fd, F_SETFL, flags | O_ASYNC) < 0)
        server_die("fcntl", errno);
}

/* A receive that brought less than was asked for has brought all the data, so for one signal it is enough. The end of the
 * stream has a signal of its own. If that may be among those acted upon now, or have come while nothing was read, the
 * socket has to be read until it is empty. */
static void serve(struct state *s, int fd, bool until_empty)
{
    struct entry *entry = &s->entries[fd];
    if (!entry->conn.open)
        return; /* it has ended since */
    enum conn_state state = CONN_MORE;
    until_empty |= entry->conn.owed != NULL;
    for (int i = 0; i < TURN && (state == CONN_MORE || (state == CONN_SHORT && until_empty)); i++)
        state = conn_serve(&entry->conn, fd, s->chunk);
    if (state == CONN_OVER) {
        conn_close(&entry->conn, fd);
    } else if (state <= CONN_SHORT && (state == CONN_MORE || until_empty) && !entry->unfinished) {
        entry->unfinished = true; /* there may be no other signal for what is left */
        entry->next = s->unfinished;
        s->unfinished = (uint32_t)fd;
    }
}

/* A turn each for those that were not finished. */
static void serve_unfinished(struct state *s)
{
    uint32_t fd = s->unfinished;
    s->unfinished = 0;
    while (fd) {
        struct entry *entry = &s->entries[fd];
        entry->unfinished = false;
        uint32_t next = entry->next;
        serve(s, (int)fd, true);
        fd = next;
    }
}

/* What has come before the signals were asked for has made none, so it is looked for. */
static void accept_all(struct state *s, int number)
{
    for (;;) {
        int fd = server_accept(&s->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        s->highest = fd > s->highest ? fd : s->highest;
        s->entries[fd].conn.open = true;
        watch(fd, number);
        serve(s, fd, true);
    }
}

/* Signals were lost. */
static void serve_all(struct state *s, int number)
{
    accept_all(s, number);
    for (int fd = 0; fd <= s->highest; fd++)
        serve(s, fd, true);
}

/* Those that a batch has for one connection are acted upon together. */
static void serve_batch(struct state *s, int n, int number)
{
    for (int i = 0; i < n; i++)
        s->entries[s->infos[i].ssi_fd].signals++;
    for (int i = 0; i < n; i++) {
        int fd = s->infos[i].ssi_fd;
        uint32_t signals = s->entries[fd].signals;
        s->entries[fd].signals = 0;
        if (s->infos[i].ssi_signo == SIGIO)
            serve_all(s, number);
        else if (fd == s->listener.fd && signals > 0)
            accept_all(s, number);
        else if (signals > 0)
            serve(s, fd, signals > 1);
    }
}

/* As many as there are, at least one unless some connections are unfinished. */
static int wait_for_signals(struct state *s)
{
    struct pollfd poll_now = {.fd = s->signals, .events = POLLIN};
    if (s->unfinished && poll(&poll_now, 1, 0) <= 0)
        return 0;
    ssize_t n = read(s->signals, s->infos, sizeof s->infos);
    if (n < 0 && errno != EINTR)
        server_die("read", errno);
    return n < 0 ? 0 : (int)((size_t)n / sizeof s->infos[0]);
}

static void run(struct state *s, int number)
{
    accept_all(s, number);
    for (;;) {
        serve_batch(s, wait_for_signals(s), number);
        serve_unfinished(s);
    }
}

/* The queue is as long as the user's limit allows. */
static int open_signals(int number)
{
    struct rlimit queued;
    if (getrlimit(RLIMIT_SIGPENDING, &queued) == 0) {
        queued.rlim_cur = queued.rlim_max;
        if (setrlimit(RLIMIT_SIGPENDING, &queued) < 0)
            server_die("setrlimit", errno);
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigaddset(&set, SIGIO);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        server_die("sigprocmask", errno);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (fd < 0)
        server_die("signalfd", errno);
    return fd;
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    static struct state s;
    int number = SIGRTMIN;
    s.signals = open_signals(number);
    s.entries = server_table(server.limit, sizeof *s.entries);
    s.listener = server_listen(&server, SOCK_NONBLOCK);
    watch(s.listener.fd, number);
    run(&s, number);
}
