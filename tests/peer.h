/* SPDX-License-Identifier: MIT
 *
 * End to end: the built `reversed` as a child process, and peers with plain blocking sockets.
 *
 *      static void frame_when_whole_is_answered(void **state)
 *      {
 *          struct world *w = *state;
 *          struct server *s = server_start(w, NULL);
 *          int fd = peer_connect(w, s);
 *          peer_send(fd, "00003abc", 8);
 *          assert_peer_gets(fd, "00003cba");
 *          assert_int_equal(server_stop(s, SIGTERM), 0);
 *      }
 *
 * A server lives until server_stop or the end of its test, whichever is first; it dies with this program too. What it
 * writes to standard error is kept. Sockets belong to the world. What waits does so without a limit: a read that
 * waits for ever is ended by the harness's guard, which names the test.
 */
#ifndef TESTS_PEER_H
#define TESTS_PEER_H

#include <sys/resource.h>
#include <sys/types.h>

#include "harness.h"

/* A test with servers in its world; like TEST_BARE, but what is left of them is killed after the test. */
#define SERVER_TEST(name) cmocka_unit_test_setup_teardown(name, world_setup_bare, server_teardown)
int server_teardown(void **state);

/* Takes the program's path from the environment's REVERSED or REVERSE, else from the command line. Ends with 77, a
 * skip, if neither is there. */
void programs_find(int argc, char **argv);
extern const char *reversed_path, *reverse_path;

/* ---- Children ---- */

struct server {
    struct server *next;
    struct world *world;
    pid_t pid; /* 0 when it was waited for */
    int stderr_fd;
    char *log; /* what it wrote so far, ends with NUL */
    size_t log_size;
    unsigned listeners; /* start lines */
    uint16_t port;      /* of the first TCP listener */
};

/* What the next servers are started with, besides their arguments; reset by the teardown. */
struct server_conditions {
    struct rlimit descriptors; /* both 0: inherited */
    bool full_log;             /* its standard error is a pipe that is full */
    struct {                   /* a system call that fails with this errno value; 0: none */
        unsigned call;
        int error;
    } refused;
    bool any_backend; /* no --backend: auto */
    bool no_listen;   /* no --listen either */
};
extern struct server_conditions server_conditions;

/* Starts `reversed --listen 127.0.0.1:0 --backend B`, then the arguments up to NULL, and waits for its start lines. If
 * an argument is "--listen" the first one is left out. */
struct server *server_start(struct world *w, ...) __attribute__((sentinel));
/* The same, but does not wait: for what does not start. */
struct server *server_try(struct world *w, ...) __attribute__((sentinel));
/* Waits until its log has `text` `count` times; fails if it ends before. Returns where the last one begins. */
const char *server_log(struct server *s, const char *text, unsigned count);
/* Reads its log to the end, waits for it; the exit status, or -signal. */
int server_wait(struct server *s);
/* The same after a signal, and after the peers of its world have closed: a server lingers for those who do not. */
int server_stop(struct server *s, int signal);
/* Stops it, so that what is sent to it stays in the kernel; and lets it go on. */
void server_freeze(struct server *s);
void server_thaw(struct server *s);
/* Asks for its counters, waits for them, and returns the value of one, such as "frames". The threads are added up. */
uint64_t server_counter(struct server *s, const char *name);
/* Asks until it has that value: for what follows soon. */
void server_await(struct server *s, const char *name, uint64_t value);
/* Resident memory in bytes, and processor time in hundredths of a second. */
uint64_t server_rss(const struct server *s);
uint64_t server_ticks(const struct server *s);
unsigned occurrences(const char *text, const char *what);

/* ---- Peers ---- */

/* A connection to the first TCP listener, or to an address; blocking. */
int peer_connect(struct world *w, const struct server *s);
int peer_connect_to(struct world *w, const struct sockaddr_storage *at, socklen_t length);
void peer_send(int fd, const void *data, size_t size);
/* Tries, for as long as the other end does not close or reset. */
bool peer_offer(int fd, const void *data, size_t size);
/* Reads `size` bytes or to the end, whichever is first; the count. Fails on an error such as a reset. */
size_t peer_read(int fd, void *data, size_t size);
/* Reads exactly `text`. */
void assert_peer_gets(int fd, const char *text);
/* Nothing more comes, and the end is clean. */
void assert_peer_end(int fd);
/* Reads and drops until the end or an error: 0 or the errno. */
int peer_drain(int fd);
/* Half-close; and a close that resets. */
void peer_shut(int fd);
void peer_reset(struct world *w, int fd);
/* Bytes sent that the other end's kernel has not acknowledged; and until there are none. */
int peer_unacked(int fd);
void peer_wait_acked(int fd);
/* Sends all of `data` in chunks of up to `chunk` bytes (0: random sizes), and reads `answer_size` bytes meanwhile. */
void peer_exchange(int fd, const void *data, size_t size, size_t chunk, void *answer, size_t answer_size);

/* ---- Traffic ---- */

/* Requests, and what is to come back: the oracle. Memory of the world. */
struct traffic {
    uint8_t *request, *answer;
    size_t request_size, answer_size;
    unsigned frames;
};

/* Adds a frame of `length` random bytes. */
void traffic_add(struct traffic *t, uint32_t length, unsigned *seed);
void traffic_init(struct world *w, struct traffic *t, size_t capacity);
/* `count` frames of random sizes up to `most`, small ones more often, some with line ends before them. */
void traffic_fill(struct world *w, struct traffic *t, unsigned count, uint32_t most, unsigned seed);
/* `count` frames of the largest size. */
void traffic_large(struct world *w, struct traffic *t, unsigned count, unsigned seed);
/* Sends it and checks what comes back. */
void traffic_check(struct world *w, int fd, const struct traffic *t, size_t chunk);

/* Sends until neither side takes more for a while, and reads nothing. Returns the bytes that went. An error is told only
 * once by the kernel, so it is noted; else 0. */
size_t peer_stuff(int fd, const struct traffic *t, int *ret_error);

#endif
