/* SPDX-License-Identifier: MIT
 *
 * The server under many peers, and under nasty ones: limits, memory, and that the others do not notice.
 *
 * Memory is measured from outside, as resident size, so the bounds are generous; what they exclude is a factor, such
 * as a buffer of 512 KiB for every byte that somebody sends. Under a sanitizer nothing is measured.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MIB   (UINT64_C(1) << 20)
#define QUOTA 12 /* buffers of half a MiB that a peer may hold */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEASURED = 0 };
#else
enum { MEASURED = 1 };
#endif

static void assert_memory_below(struct server *s, uint64_t before, uint64_t more, const char *when)
{
    uint64_t rss = server_rss(s);
    print_message("# %s: %llu KiB, %lld KiB more than before\n", when, (unsigned long long)rss / 1024,
                  ((long long)rss - (long long)before) / 1024);
    if (MEASURED && rss > before + more)
        fail_msg("%s: %llu bytes resident, %llu before", when, (unsigned long long)rss, (unsigned long long)before);
}

/* A peer that is served as if nothing were the matter. */
static void assert_serves(struct world *w, struct server *s)
{
    struct traffic t;
    traffic_fill(w, &t, 300, 99999, 21);
    int fd = peer_connect(w, s);
    traffic_check(w, fd, &t, 0);
    world_close(w, fd);
}

/* ---- Many ---- */

/* One of the many: what it still has to send and to get. */
struct peer {
    int fd;
    size_t sent, got;
    unsigned seed;
};

static void peer_step(struct peer *p, const struct traffic *t, short events)
{
    uint8_t buffer[32768];
    if (events & POLLIN) {
        ssize_t n = recv(p->fd, buffer, sizeof buffer, MSG_DONTWAIT);
        assert_true(n > 0 && (size_t)n <= t->answer_size - p->got);
        assert_memory_equal(buffer, t->answer + p->got, (size_t)n);
        p->got += (size_t)n;
    }
    if ((events & POLLOUT) && p->sent < t->request_size) {
        size_t size = 1 + (size_t)rand_r(&p->seed) % 3000;
        if (size > t->request_size - p->sent)
            size = t->request_size - p->sent;
        ssize_t n = send(p->fd, t->request + p->sent, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        assert_true(n > 0 || errno == EAGAIN);
        p->sent += n > 0 ? (size_t)n : 0;
    }
}

static void run_peers(struct world *w, struct server *s, unsigned count, const struct traffic *t)
{
    struct peer *peers = world_alloc(w, count * sizeof *peers);
    struct pollfd *polls = world_alloc(w, count * sizeof *polls);
    unsigned busy = count;
    for (unsigned i = 0; i < count; i++)
        peers[i] = (struct peer){.fd = peer_connect(w, s), .seed = i};
    while (busy > 0) {
        busy = 0;
        for (unsigned i = 0; i < count; i++) {
            bool sends = peers[i].sent < t->request_size, gets = peers[i].got < t->answer_size;
            busy += gets;
            polls[i] =
                (struct pollfd){.fd = gets ? peers[i].fd : -1, .events = (short)(POLLIN | (sends ? POLLOUT : 0))};
        }
        if (busy > 0)
            assert_true(poll(polls, count, -1) > 0);
        for (unsigned i = 0; i < count; i++)
            if (polls[i].fd >= 0 && polls[i].revents)
                peer_step(&peers[i], t, polls[i].revents);
    }
}

static void peers_when_three_hundred_at_once_all_match_the_oracle(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--log-level", "error", NULL);
    struct traffic t;
    traffic_fill(w, &t, 100, 9000, 2);
    run_peers(w, s, 300, &t);
    assert_int_equal(server_counter(s, "frames"), 300 * 100);
    assert_int_equal(server_counter(s, "open"), 300);
    assert_int_equal(server_stop(s, SIGTERM), 0);
    assert_int_equal(occurrences(s->log, "\n"), 1 + 2);
}

static void peers_when_there_are_threads_are_served_by_all_of_them(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--threads", "2", "--log-level", "debug", NULL);
    struct traffic t;
    traffic_fill(w, &t, 50, 9000, 2);
    run_peers(w, s, 100, &t);
    assert_non_null(strstr(s->log, ", 2 threads)\n"));
    assert_int_equal(server_counter(s, "frames"), 100 * 50);
    assert_int_equal(server_counter(s, "open"), 100);
    /* The kernel spreads a hundred connections over two listeners; that one gets none is not going to happen. */
    assert_null(strstr(s->log, " accepted=0 "));
    assert_non_null(strstr(s->log, "counters: thread=1 "));
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* ---- Limits ---- */

static bool is_answered(int fd, int wait_ms)
{
    struct pollfd it = {.fd = fd, .events = POLLIN};
    return poll(&it, 1, wait_ms) == 1;
}

static void connections_when_at_the_limit_wait_in_the_backlog(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--max-connections", "3", NULL);
    int fds[6];
    for (unsigned i = 0; i < 6; i++) {
        fds[i] = peer_connect(w, s);
        peer_send(fds[i], "00002ab", 7);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_peer_gets(fds[i], "00002ba");
    for (unsigned i = 3; i < 6; i++) {
        assert_false(is_answered(fds[i], 50)); /* the backlog holds them */
        assert_int_equal(server_counter(s, "open"), 3);
        assert_int_equal(server_counter(s, "accepted"), i);
        world_close(w, fds[i - 3]);
        assert_peer_gets(fds[i], "00002ba"); /* one left, one comes in, in order */
    }
    assert_int_equal(server_counter(s, "refused"), 0);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* An idle listener must not sit on the last place while peers wait at the other. */
static void connections_when_one_place_and_two_listeners_use_either(void **state)
{
    struct world *w = *state;
    char name[64];
    snprintf(name, sizeof name, "unix:@reversed-test-%d", (int)getpid());
    struct server *s = server_start(w, "--listen", "127.0.0.1:0", "--listen", name, "--max-connections", "1", NULL);
    struct sockaddr_storage at = {.ss_family = AF_UNIX};
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name + 6) + 1);
    memcpy(((struct sockaddr_un *)(void *)&at)->sun_path + 1, name + 6, strlen(name + 6));
    for (unsigned i = 0; i < 20; i++) {
        int first = i % 2 ? peer_connect(w, s) : peer_connect_to(w, &at, length);
        peer_send(first, "00002ab", 7);
        assert_peer_gets(first, "00002ba");
        int second = i % 4 < 2 ? peer_connect(w, s) : peer_connect_to(w, &at, length);
        peer_send(second, "00002cd", 7);
        assert_false(is_answered(second, 5));
        world_close(w, first);
        assert_peer_gets(second, "00002dc");
        world_close(w, second);
    }
    for (unsigned i = 0; i < 20; i++) { /* and not both, when peers come to both at once */
        server_freeze(s);
        int fds[2] = {peer_connect(w, s), peer_connect_to(w, &at, length)};
        for (unsigned k = 0; k < 2; k++)
            peer_send(fds[k], "00002ab", 7);
        server_thaw(s);
        while (!is_answered(fds[0], 1) && !is_answered(fds[1], 1)) {
        }
        int first = is_answered(fds[0], 0) ? 0 : 1;
        assert_peer_gets(fds[first], "00002ba");
        world_close(w, fds[first]);
        assert_peer_gets(fds[!first], "00002ba");
        world_close(w, fds[!first]);
    }
    assert_int_equal(server_counter(s, "accepted"), 80);
    assert_int_equal(server_counter(s, "refused"), 0);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void connections_when_shared_out_to_threads_never_exceed_the_limit(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--threads", "2", "--max-connections", "5", NULL);
    int fds[40];
    unsigned answered = 0;
    for (unsigned i = 0; i < 40; i++) {
        fds[i] = peer_connect(w, s);
        peer_send(fds[i], "00002ab", 7);
    }
    server_await(s, "open", 5);
    for (unsigned i = 0; i < 40; i++)
        answered += is_answered(fds[i], 0);
    assert_true(answered <= 5);
    assert_int_equal(server_counter(s, "refused"), 0);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Descriptors run out long before the limit that was asked for. Those who are in are served, the rest waits, and comes in
 * as soon as others leave. */
static void accept_when_out_of_descriptors_rests_and_recovers(void **state)
{
    struct world *w = *state;
    server_conditions.descriptors = (struct rlimit){40, 40};
    struct server *s = server_start(w, "--max-connections", "1000", NULL);
    int fds[60];
    for (unsigned i = 0; i < 60; i++) {
        fds[i] = peer_connect(w, s);
        peer_send(fds[i], "00002ab", 7);
    }
    server_log(s, "accept: EMFILE (", 1);
    server_log(s, "resting for 100 ms\n", 1);
    assert_peer_gets(fds[0], "00002ba");
    uint64_t in = server_counter(s, "open"), ticks = server_ticks(s);
    assert_true(in > 10 && in < 40);
    for (unsigned i = 0; i < 20; i++) { /* for half a second */
        peer_send(fds[0], "00003abc", 8);
        assert_peer_gets(fds[0], "00003cba");
        usleep(25000);
    }
    assert_true(server_ticks(s) - ticks < 10); /* a tenth of a second: it does not spin */
    assert_true(occurrences(s->log, "EMFILE") < 5);
    for (unsigned i = 0; i < 60; i++) {
        if (i > 0)
            assert_peer_gets(fds[i], "00002ba");
        world_close(w, fds[i]);
    }
    server_await(s, "closed", 60);
    assert_int_equal(server_counter(s, "accepted"), 60);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void server_when_given_few_descriptors_limits_itself(void **state)
{
    struct world *w = *state;
    server_conditions.descriptors = (struct rlimit){40, 40};
    struct server *s = server_start(w, NULL);
    int fds[60];
    for (unsigned i = 0; i < 60; i++) {
        fds[i] = peer_connect(w, s);
        peer_send(fds[i], "00002ab", 7);
    }
    for (unsigned i = 0; i < 60; i++) {
        assert_peer_gets(fds[i], "00002ba");
        world_close(w, fds[i]);
    }
    assert_int_equal(server_counter(s, "accepted"), 60);
    assert_int_equal(server_counter(s, "accept_pauses"), 0);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* ---- Memory ---- */

/* The frames of `t` again and again to all, until nobody takes any more, for a while. */
static void stuff_all(const int *fds, unsigned count, const struct traffic *t)
{
    size_t sent[12] = {0};
    assert_true(count <= 12);
    for (unsigned idle = 0; idle < 20; idle++) {
        for (unsigned i = 0; i < count; i++) {
            for (ssize_t n; (n = send(fds[i], t->request + sent[i] % t->request_size,
                                      t->request_size - sent[i] % t->request_size, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;) {
                sent[i] += (size_t)n;
                idle = 0;
            }
        }
        usleep(10000);
    }
}

static void memory_when_peers_never_read_is_bounded(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    struct traffic t;
    traffic_large(w, &t, 16, 5);
    assert_serves(w, s);
    uint64_t before = server_rss(s);
    print_message("# idle: %llu KiB\n", (unsigned long long)before / 1024);
    int fds[12];
    for (unsigned i = 0; i < 12; i++)
        fds[i] = peer_connect(w, s);
    stuff_all(fds, 12, &t);
    assert_int_equal(server_counter(s, "pauses") >= 12, 1);
    assert_serves(w, s); /* the others do not notice */
    /* Of each at most the quota (see test_service.c), 12 buffers of 512 KiB: two for the 1 MiB owed, ten for what a pause
     * and a frame under way can add. */
    assert_true(server_counter(s, "lent") <= 12 * QUOTA);
    assert_memory_below(s, before, 12 * QUOTA * MIB / 2, "12 peers that never read");
    for (unsigned i = 0; i < 12; i++)
        peer_reset(w, fds[i]);
    server_await(s, "open", 0);
    server_await(s, "lent", 0);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Of what the server rose by, at most a quarter stays; it has ten seconds, of which it needs two or three. */
static void memory_after_a_burst_falls_back(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    struct traffic t;
    int fds[8];
    traffic_large(w, &t, 16, 19);
    assert_serves(w, s);
    uint64_t before = server_rss(s);
    for (unsigned i = 0; i < 8; i++)
        fds[i] = peer_connect(w, s);
    stuff_all(fds, 8, &t);
    uint64_t rise = server_rss(s) - before;
    assert_true(!MEASURED || rise > 2 * MIB);
    for (unsigned i = 0; i < 8; i++)
        peer_reset(w, fds[i]);
    server_await(s, "open", 0);
    server_await(s, "lent", 0);
    for (unsigned tries = 0; tries < 100 && MEASURED && server_rss(s) > before + rise / 4; tries++)
        usleep(100000);
    print_message("# the burst rose by %llu KiB\n", (unsigned long long)rise / 1024);
    assert_memory_below(s, before, rise / 4, "after a burst");
    assert_serves(w, s);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Each has announced 99,999 bytes and sent a few. */
static void memory_when_a_thousand_stall_inside_a_frame_is_about_their_bytes(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--frame-timeout", "0", NULL);
    for (unsigned i = 0; i < 4; i++)
        assert_serves(w, s); /* so that the buffers this takes are resident already, which have half a megabyte each */
    uint64_t before = server_rss(s);
    for (unsigned i = 0; i < 1000; i++) {
        int fd = peer_connect(w, s);
        peer_send(fd, "00003abc99999", 13);
        peer_send(fd, "stalled here for ever", 21);
        assert_peer_gets(fd, "00003cba");
        peer_send(fd, "one more", 8);
    }
    server_await(s, "open", 1000);
    assert_serves(w, s);
    server_await(s, "lent", 0); /* the last answer may have arrived before the server knows */
    assert_memory_below(s, before, 2 * MIB, "1000 peers stalled in a frame");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void memory_when_a_thousand_are_idle_is_small(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    assert_serves(w, s);
    uint64_t before = server_rss(s);
    for (unsigned i = 0; i < 1000; i++) {
        int fd = peer_connect(w, s);
        peer_send(fd, "00003abc", 8);
        assert_peer_gets(fd, "00003cba");
    }
    assert_memory_below(s, before, 1 * MIB, "1000 idle peers");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Announcing is free, whatever is announced and however the header is cut. */
static void memory_when_headers_only_are_sent_is_that_of_idle_peers(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--frame-timeout", "0", NULL);
    assert_serves(w, s);
    uint64_t before = server_rss(s), bytes = server_counter(s, "bytes");
    for (unsigned i = 0; i < 1000; i++) {
        peer_send(peer_connect(w, s), "99999", 1 + i % 5);
        if (i % 20 == 19) /* all at once, each would need a buffer for a moment */
            server_await(s, "bytes", bytes + (i + 1) * 3);
    }
    server_await(s, "open", 1000);
    server_await(s, "lent", 0); /* the last answer may have arrived before the server knows */
    assert_memory_below(s, before, 1 * MIB, "1000 headers without a payload");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Big frames in small pieces, each of which would pin a buffer of 512 KiB: 100 peers hold 50 KB each. */
static void memory_when_big_frames_come_in_dribs_is_about_their_bytes(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--frame-timeout", "0", NULL);
    struct traffic t;
    int fds[100];
    traffic_large(w, &t, 1, 17);
    assert_serves(w, s);
    uint64_t before = server_rss(s), bytes = server_counter(s, "bytes");
    for (unsigned i = 0; i < 100; i++)
        fds[i] = peer_connect(w, s);
    for (size_t sent = 0; sent < 50000; sent += 500) {
        for (unsigned i = 0; i < 100; i++) {
            peer_send(fds[i], t.request + sent, 500);
            bytes += 500;
            if (i % 20 == 19) /* see above */
                server_await(s, "bytes", bytes);
        }
    }
    server_await(s, "lent", 0); /* the last answer may have arrived before the server knows */
    assert_serves(w, s);
    assert_memory_below(s, before, 14 * MIB, "100 halves of big frames in dribs");
    uint8_t *got = world_alloc(w, t.answer_size);
    for (unsigned i = 0; i < 100; i++) {
        peer_send(fds[i], t.request + 50000, t.request_size - 50000);
        assert_int_equal(peer_read(fds[i], got, t.answer_size), t.answer_size);
        assert_memory_equal(got, t.answer, t.answer_size);
    }
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* ---- One byte at a time, while others work ---- */

struct dripper {
    int fd;
    const struct traffic *t;
};

static void *drip(void *argument)
{
    struct dripper *d = argument;
    for (size_t i = 0; i < d->t->request_size; i++)
        if (!peer_offer(d->fd, d->t->request + i, 1))
            return argument;
    return NULL;
}

static void big_frame_when_sent_byte_by_byte_is_answered_and_others_are_served(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--frame-timeout", "0", NULL);
    struct traffic t;
    pthread_t thread;
    void *failed;
    traffic_large(w, &t, 1, 13);
    struct dripper d = {peer_connect(w, s), &t};
    assert_int_equal(pthread_create(&thread, NULL, drip, &d), 0);
    for (unsigned i = 0; i < 5; i++)
        assert_serves(w, s);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    uint8_t *got = world_alloc(w, t.answer_size);
    assert_int_equal(peer_read(d.fd, got, t.answer_size), t.answer_size);
    assert_memory_equal(got, t.answer, t.answer_size);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        SERVER_TEST(peers_when_three_hundred_at_once_all_match_the_oracle),
        SERVER_TEST(peers_when_there_are_threads_are_served_by_all_of_them),
        SERVER_TEST(connections_when_at_the_limit_wait_in_the_backlog),
        SERVER_TEST(connections_when_one_place_and_two_listeners_use_either),
        SERVER_TEST(connections_when_shared_out_to_threads_never_exceed_the_limit),
        SERVER_TEST(accept_when_out_of_descriptors_rests_and_recovers),
        SERVER_TEST(server_when_given_few_descriptors_limits_itself),
        SERVER_TEST(memory_when_peers_never_read_is_bounded),
        SERVER_TEST(memory_after_a_burst_falls_back),
        SERVER_TEST(memory_when_a_thousand_stall_inside_a_frame_is_about_their_bytes),
        SERVER_TEST(memory_when_a_thousand_are_idle_is_small),
        SERVER_TEST(memory_when_headers_only_are_sent_is_that_of_idle_peers),
        SERVER_TEST(memory_when_big_frames_come_in_dribs_is_about_their_bytes),
        SERVER_TEST(big_frame_when_sent_byte_by_byte_is_answered_and_others_are_served),
    };
    programs_find(argc, argv);
    return RUN(tests);
}
