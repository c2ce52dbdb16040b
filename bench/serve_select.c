/* SPDX-License-Identifier: MIT
 *
 * select(): one call asks for all sockets and sleeps until one of them is ready.
 *
 *     thread                     kernel
 *     select() ----------------> none is ready: the thread sleeps   1. waiting for data, of all sockets at once
 *              <---------------- these bits
 *     recv() ------------------> data is copied                     2. copying it
 *            <------------------ n bytes
 *
 * The sockets are bits of a set, by descriptor. The kernel walks all of the set at each call, up to the highest
 * descriptor, and overwrites it with the answer, so the program hands in a copy and walks the answer as well: the cost of
 * a call grows with the number of connections, idle ones included, whatever the number of those that are ready.
 *
 *     wanted   0000010110100...     a bit for each descriptor, kept
 *     ready    0000000100000...     a copy, after the call
 *              \__word__/           walked a word at a time: 64 idle connections cost one comparison
 *
 * FD_SETSIZE, 1024, is a limit of the C library's fd_set and its macros, not of the call: Linux takes sets of any size.
 * So the sets are arrays of words here, in the layout that the kernel has for them. */
#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <sys/select.h>

#include "conn.h"
#include "server.h"

enum { WORD_BITS = sizeof(unsigned long) * CHAR_BIT };

static_assert(sizeof(fd_mask) == sizeof(unsigned long), "a set is made of words");

enum set { READ, WRITE, SETS };

struct state {
    struct listener listener;
    struct conn *conns; /* by descriptor */
    unsigned long *wanted[SETS], *ready[SETS];
    int highest; /* descriptor that was ever in use */
    uint8_t chunk[CONN_CHUNK];
};

static void want(struct state *s, enum set set, int fd, bool on)
{
    unsigned long bit = 1UL << (unsigned)fd % WORD_BITS;
    unsigned long *word = &s->wanted[set][(unsigned)fd / WORD_BITS];
    *word = on ? *word | bit : *word & ~bit;
}

static unsigned words(const struct state *s)
{
    return (unsigned)s->highest / WORD_BITS + 1;
}

static void add(struct state *s, int fd)
{
    s->highest = fd > s->highest ? fd : s->highest;
    want(s, READ, fd, true);
}

static void accept_all(struct state *s)
{
    for (;;) {
        int fd = server_accept(&s->listener, SOCK_NONBLOCK);
        if (fd < 0)
            return;
        add(s, fd);
    }
}

/* One receive for each time it is ready: what is left makes it ready again. */
static void serve(struct state *s, int fd)
{
    enum conn_state state = conn_serve(&s->conns[fd], fd, s->chunk);
    if (state == CONN_OVER)
        conn_close(&s->conns[fd], fd);
    want(s, READ, fd, state != CONN_FULL && state != CONN_OVER);
    want(s, WRITE, fd, state == CONN_FULL);
}

static void wait_for_ready(struct state *s)
{
    for (int set = 0; set < SETS; set++)
        memcpy(s->ready[set], s->wanted[set], words(s) * sizeof(unsigned long));
    int n = select(s->highest + 1, (fd_set *)s->ready[READ], (fd_set *)s->ready[WRITE], NULL, NULL);
    if (n < 0 && errno != EINTR)
        server_die("select", errno);
    if (n < 0)
        memset(s->ready[READ], 0, words(s) * sizeof(unsigned long));
}

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    static struct state s;
    s.listener = server_listen(&server, SOCK_NONBLOCK);
    s.conns = server_table(server.limit, sizeof *s.conns);
    for (int set = 0; set < SETS; set++) {
        s.wanted[set] = server_table(server.limit / WORD_BITS + 1, sizeof(unsigned long));
        s.ready[set] = server_table(server.limit / WORD_BITS + 1, sizeof(unsigned long));
    }
    add(&s, s.listener.fd);
    for (;;) {
        wait_for_ready(&s);
        for (unsigned i = 0, end = words(&s); i < end; i++) {
            /* A connection waits for one of the two, never for both. */
            for (unsigned long bits = s.ready[READ][i] | s.ready[WRITE][i]; bits; bits &= bits - 1) {
                int fd = (int)(i * WORD_BITS) + __builtin_ctzl(bits);
                if (fd == s.listener.fd)
                    accept_all(&s);
                else
                    serve(&s, fd);
            }
        }
    }
}
