/* SPDX-License-Identifier: MIT
 *
 * The service inside this program, where its memory can be counted and refused, and its loop taken away at any moment.
 *
 * malloc and calloc are wrapped by the linker for what is linked in here; the library's own memory comes from the
 * world's ledger. Peers are plain sockets; where one has to read and write at length it is a child, forked before there
 * is a loop.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "service.h"
#include "session.h"

/* ---- The wrapped allocator ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static struct {
    uint64_t calls;
    uint64_t fail_at; /* the call that fails, counted as `calls` is; 0: none */
    bool on;          /* inside the loop */
} heap;

static bool heap_refuses(void)
{
    return heap.on && ++heap.calls == heap.fail_at;
}

void *__wrap_malloc(size_t size)
{
    return heap_refuses() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return heap_refuses() ? NULL : __real_calloc(count, size);
}

/* ---- A service in a world ---- */

struct rig {
    struct world *w;
    struct service *service;
    struct log log;
    int null;
    struct sockaddr_storage at;
    socklen_t length;
};

static void rig_open_at(struct world *w, struct rig *rig, uint64_t drain_ns, const void *address, socklen_t length)
{
    *rig =
        (struct rig){.w = w, .null = world_own(w, open("/dev/null", O_WRONLY | O_CLOEXEC)), .length = sizeof rig->at};
    world_open(w);
    log_init(&rig->log, "test", rig->null, LOG_DEBUG, pro_now(w->loop));
    struct service_config config = {.max_frame = 99999, .high_water = 1 << 20, .drain_ns = drain_ns, .log = &rig->log};
    assert_int_equal(service_new(w->loop, &config, &rig->service), 0);
    memcpy(&rig->at, address, length);
    assert_int_equal(service_listen(rig->service, &rig->at, length, 0, &rig->at, &rig->length), 0);
    service_start(rig->service, 100);
}

static void rig_open(struct world *w, struct rig *rig, uint64_t drain_ns)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    rig_open_at(w, rig, drain_ns, &any, sizeof any);
}

static void rig_turn(struct rig *rig, enum pro_run_mode mode)
{
    heap.on = true;
    world_run(rig->w, mode);
    heap.on = false;
}

static void rig_close(struct rig *rig)
{
    world_shut(rig->w);
    service_free(rig->service);
}

static struct service_counters rig_counters(const struct rig *rig)
{
    struct service_counters counters;
    service_counters(rig->service, &counters);
    return counters;
}

static int rig_connect(struct rig *rig)
{
    int fd = peer_connect_to(rig->w, &rig->at, rig->length);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* ---- Allocations ---- */

/* The peer: a round of traffic for every byte that comes. Never returns. */
static void rounds(struct world *w, int orders, const struct traffic *t)
{
    uint16_t port;
    uint8_t go;
    struct sockaddr_storage at = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (read(orders, &port, sizeof port) != sizeof port)
        _exit(1);
    in.sin_port = htons(port);
    memcpy(&at, &in, sizeof in);
    int fd = peer_connect_to(w, &at, sizeof in);
    while (read(orders, &go, 1) == 1)
        traffic_check(w, fd, t, 0);
    _exit(0);
}

static pid_t rounds_start(struct world *w, const struct traffic *t, int *ret_orders)
{
    int orders[2];
    assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(orders[1]);
        rounds(w, orders[0], t);
    }
    close(orders[0]);
    *ret_orders = world_own(w, orders[1]);
    return pid;
}

/* The peaks of what is held at a time depend on how the bytes happen to arrive, so it may take some rounds until no new
 * one is met. An allocation for each request would be met in all of them. */
static void requests_when_in_steady_state_allocate_nothing(void **state)
{
    struct world *w = *state;
    struct rig rig;
    struct traffic t;
    int orders, status;
    unsigned count = (unsigned)stress(20000), round = 0;
    uint64_t calls;
    traffic_fill(w, &t, count, 3000, 12);
    pid_t pid = rounds_start(w, &t, &orders);
    rig_open(w, &rig, 0);
    uint16_t port = ntohs(((struct sockaddr_in *)(void *)&rig.at)->sin_port);
    write_all(orders, &port, sizeof port);
    do {
        calls = heap.calls + w->ledger.allocations;
        write_all(orders, "!", 1);
        assert_true(++round < 20);
        while (rig_counters(&rig).frames < (uint64_t)round * count)
            rig_turn(&rig, PRO_RUN_ONCE);
    } while (heap.calls + w->ledger.allocations > calls);
    assert_true(calls > 0);
    world_close(w, orders);
    while (rig_counters(&rig).open > 0)
        rig_turn(&rig, PRO_RUN_ONCE);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    rig_close(&rig);
}

/* Each allocation of a little scene fails once, the service's own and the library's: whatever is lost, it goes on
 * serving, and nothing leaks. */
static void play_with_failure(struct world *w, uint64_t heap_fails, uint64_t ledger_fails, uint64_t ret_made[2])
{
    struct rig rig;
    char got[64];
    rig_open(w, &rig, 0);
    heap.calls = 0;
    heap.fail_at = heap_fails;
    uint64_t before = w->ledger.allocations;
    if (ledger_fails)
        ledger_fail_nth(&w->ledger, ledger_fails);
    int fds[3];
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = rig_connect(&rig);
        peer_send(fds[i], "00002ab00900stalled", 19);
    }
    for (unsigned i = 0; i < 50; i++) {
        rig_turn(&rig, PRO_RUN_NOWAIT);
        usleep(200);
    }
    for (unsigned i = 0; i < 3; i++)
        (void)peer_offer(fds[i], "more of it", 10);
    for (unsigned i = 0; i < 50; i++) {
        rig_turn(&rig, PRO_RUN_NOWAIT);
        usleep(200);
    }
    ret_made[0] = heap.calls;
    ret_made[1] = w->ledger.allocations - before;
    heap.fail_at = 0;
    ledger_fail_never(&w->ledger);
    int fd = rig_connect(&rig);
    peer_send(fd, "00003xyz", 8);
    for (ssize_t n = -1; n <= 0; n = recv(fd, got, sizeof got, 0))
        rig_turn(&rig, PRO_RUN_ONCE);
    assert_memory_equal(got, "00003zyx", 8);
    rig_close(&rig);
    world_close_all(w);
}

static void allocations_when_each_fails_once_cost_a_peer_at_most(void **state)
{
    struct world *w = *state;
    uint64_t made[2], total[2];
    play_with_failure(w, 0, 0, total);
    assert_true(total[0] >= 6); /* three sessions, three frames held */
    for (uint64_t n = 1; n <= total[0]; n++)
        play_with_failure(w, n, 0, made);
    for (uint64_t n = 1; n <= total[1]; n++)
        play_with_failure(w, 0, n, made);
}

/* ---- Pull-down ---- */

/* Peers in every state that a peer can be in. */
static void crowd(struct rig *rig, const struct traffic *t)
{
    static const char *const says[] = {"", "0", "00002", "00002a", "00002ab", "00002abX", "\r\n", "00002ab99999xyz"};
    for (unsigned i = 0; i < sizeof says / sizeof says[0]; i++)
        peer_offer(rig_connect(rig), says[i], strlen(says[i]));
    int gone = rig_connect(rig);
    peer_offer(gone, "00002ab", 7);
    peer_reset(rig->w, gone);
    int shut = rig_connect(rig);
    peer_offer(shut, "00002ab0000", 11);
    peer_shut(shut);
    int stuffed = rig_connect(rig);
    (void)!send(stuffed, t->request, t->request_size, MSG_NOSIGNAL);
}

static void loop_when_freed_at_any_turn_returns_everything(void **state)
{
    struct world *w = *state;
    struct traffic t;
    traffic_large(w, &t, 40, 5);
    for (unsigned turns = 0; turns < 60; turns += turns < 20 ? 1 : 7) {
        for (unsigned how = 0; how < 3; how++) {
            struct rig rig;
            rig_open(w, &rig, 1000000000);
            crowd(&rig, &t);
            for (unsigned i = 0; i < turns; i++) {
                if (i == turns / 2 && how == 1)
                    service_drain(rig.service);
                if (i == turns / 2 && how == 2)
                    service_cut(rig.service);
                rig_turn(&rig, PRO_RUN_NOWAIT);
            }
            rig_close(&rig);
            assert_int_equal(w->ledger.count, 0);
            world_close_all(w);
        }
    }
}

/* ---- Answers ---- */

static uint64_t started(const struct world *w)
{
    struct pro_stats stats;
    pro_loop_stats(w->loop, &stats, sizeof stats);
    return stats.started;
}

/* On a Unix socket, where a receive brings all that was sent before it. */
static void rig_open_unix(struct world *w, struct rig *rig)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t length = offsetof(struct sockaddr_un, sun_path) + 1;
    length += (size_t)snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "test_service-%d", (int)getpid());
    rig_open_at(w, rig, 0, &at, (socklen_t)length);
}

static void answer_when_a_frame_comes_in_two_large_pieces_is_one_send(void **state)
{
    enum { FIRST = 80000 };
    struct world *w = *state;
    struct rig rig;
    struct traffic t;
    unsigned seed = 9;
    traffic_init(w, &t, 100004);
    traffic_add(&t, 99999, &seed);
    rig_open_unix(w, &rig);
    int peer = rig_connect(&rig);
    write_all(peer, t.request, FIRST);
    while (rig_counters(&rig).bytes < FIRST)
        rig_turn(&rig, PRO_RUN_ONCE);
    uint64_t before = started(w);
    write_all(peer, t.request + FIRST, t.request_size - FIRST);
    uint8_t *answer = world_alloc(w, t.answer_size);
    for (size_t got = 0; got < t.answer_size;) {
        rig_turn(&rig, PRO_RUN_NOWAIT);
        ssize_t n = read(peer, answer + got, t.answer_size - got);
        got += n > 0 ? (size_t)n : 0;
    }
    assert_memory_equal(answer, t.answer, t.answer_size);
    assert_in_range(started(w) - before, 1, 2); /* the send, and the timer that trims the cache of chunks */
    rig_close(&rig);
}

/* The drain by itself: what is left in flight afterwards is nothing. */
static void drain_when_done_leaves_nothing_in_flight(void **state)
{
    struct world *w = *state;
    struct rig rig;
    struct traffic t;
    struct service_counters c;
    traffic_fill(w, &t, 1, 10, 1);
    rig_open(w, &rig, 0);
    crowd(&rig, &t);
    for (unsigned i = 0; i < 100; i++)
        rig_turn(&rig, PRO_RUN_NOWAIT);
    service_drain(rig.service);
    service_drain(rig.service);
    rig_turn(&rig, PRO_RUN_NOWAIT);
    world_close_all(w);
    heap.on = true;
    assert_int_equal(world_run(w, PRO_RUN_DEFAULT), 0);
    heap.on = false;
    c = rig_counters(&rig);
    assert_int_equal(c.open, 0);
    assert_false(service_was_cut(rig.service));
    uint64_t ended = 0;
    for (unsigned i = 0; i < SERVICE_ENDINGS; i++)
        ended += c.ended[i];
    assert_int_equal(ended, c.accepted); /* every ending is counted, once */
    assert_int_equal(c.accepted, 11);
    rig_close(&rig);
}

/* ---- Memory ---- */

/* The most that is held for a peer, as docs/server.md says. The mark and the copying of sparse frames stop the reading
 * before that, so here the slices are kept by one who has neither. */
static void peer_when_everything_it_sends_is_kept_gets_its_quota(void **state)
{
    enum { QUOTA_BYTES = 6 << 20 };
    static const char data[65536];
    struct world *w = *state;
    struct rig rig;
    struct pro_stats loop = {0};
    struct pro_pool_stats pool = {0};
    int far;
    rig_open(w, &rig, 0);
    struct record *kept = world_record(w);
    pro_recv_multi(world_tcp(w, &far), record_begin(kept), rig.service->pool, PRO_UNLIMITED, on_record);
    while (loop.pool_dry == 0) {
        assert_true(send(far, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL) > 0 || errno == EAGAIN);
        world_run(w, PRO_RUN_NOWAIT);
        pro_loop_stats(w->loop, &loop, sizeof loop);
    }
    assert_int_equal(kept->finals, 0);
    pro_pool_stats(rig.service->pool, &pool, sizeof pool);
    assert_int_equal(pool.buffers_lent * pool.buffer_size, QUOTA_BYTES);
    record_drop(kept);
    rig_close(&rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(requests_when_in_steady_state_allocate_nothing),
        TEST_BARE(allocations_when_each_fails_once_cost_a_peer_at_most),
        TEST_BARE(loop_when_freed_at_any_turn_returns_everything),
        TEST_BARE(answer_when_a_frame_comes_in_two_large_pieces_is_one_send),
        TEST_BARE(drain_when_done_leaves_nothing_in_flight),
        TEST_BARE(peer_when_everything_it_sends_is_kept_gets_its_quota),
    };
    return RUN(tests);
}
