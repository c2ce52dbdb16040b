/* SPDX-License-Identifier: MIT
 *
 * The simulated world itself: that it is the same twice, that it notices what is wrong, and what it does with time. What
 * the loops do in it is in the conformance tests, in walk.c and in sim.c. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <proactor/sim.h>
#include <proactor/stream.h>

#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)

/* ---- An echo server and peers played by hand ---- */

enum { PEERS = 40 };

struct echo {
    struct pro_sim *sim;
    struct pro_loop *loop;
    struct pro_pool *pool;
    struct pro_handle listener;
    struct pro_op accept;
    struct pro_stream_config streams;
    struct pro_stream stream[PEERS];
    unsigned accepted, late;
    uint64_t idle_ns;
    int peers[PEERS];
};

static struct echo *echo_of(struct pro_stream *stream)
{
    return PRO_CONTAINER_OF((uintptr_t)stream->config, struct echo, streams);
}

static void on_data(struct pro_stream *stream, struct pro_slice *slice)
{
    struct echo *e = echo_of(stream);
    if (e->idle_ns)
        pro_stream_read_deadline(stream, pro_now(e->loop) + e->idle_ns);
    pro_stream_write_slices(stream, slice);
}

static void on_end(struct pro_stream *stream, int error)
{
    echo_of(stream)->late += error == -ETIME;
    pro_stream_close(stream, PRO_STREAM_FLUSH);
}

static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct echo *e = PRO_CONTAINER_OF(op, struct echo, accept);
    if (r.res < 0)
        return;
    struct pro_stream *stream = &e->stream[e->accepted++];
    pro_stream_open(stream, loop, r.res, &e->streams);
    if (e->idle_ns)
        pro_stream_read_deadline(stream, pro_now(loop) + e->idle_ns);
}

static void echo_open(struct echo *e, const struct pro_sim_config *world, unsigned turn_completions)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(pro_sim_new(world, &e->sim), 0);
    config.backend = PRO_BACKEND_SIM;
    config.sim = e->sim;
    config.turn_completions = turn_completions;
    config.allocator = pro_sim_allocator(e->sim);
    assert_int_equal(pro_loop_new(&config, &e->loop), 0);
    assert_int_equal(pro_loop_backend(e->loop), PRO_BACKEND_SIM);
    assert_int_equal(pro_pool_new(e->loop, NULL, &e->pool), 0);
    e->streams = (struct pro_stream_config){.pool = e->pool, .data = on_data, .end = on_end};
    assert_int_equal(pro_listen(e->loop, &e->listener, (struct sockaddr *)&at, sizeof at, 0, 0), 0);
    pro_op_background(&e->accept);
    pro_accept_multi(&e->listener, &e->accept, on_accept);
    for (unsigned i = 0; i < PEERS; i++) {
        e->peers[i] = pro_sim_connect(e->sim, (struct sockaddr *)&at, sizeof at);
        assert_true(e->peers[i] >= 0);
    }
    while (e->accepted < PEERS)
        assert_int_equal(pro_sim_step(e->sim, 1), 1);
}

static struct pro_sim_stats echo_shut(struct echo *e)
{
    struct pro_sim_stats stats;
    for (unsigned i = 0; i < PEERS; i++)
        pro_sim_close(e->sim, e->peers[i]);
    pro_sim_run(e->sim, PRO_NEVER);
    pro_loop_free(e->loop);
    pro_pool_free(e->pool);
    pro_sim_stats(e->sim, &stats, sizeof stats);
    pro_sim_free(e->sim);
    return stats;
}

static uint64_t hash_of(const struct pro_sim_config *config)
{
    struct echo e = {0};
    char line[32];
    echo_open(&e, config, 0);
    for (unsigned i = 0; i < PEERS; i++)
        pro_sim_write(e.sim, e.peers[i], line, (size_t)snprintf(line, sizeof line, "hello from %u\n", i));
    pro_sim_run(e.sim, pro_sim_now(e.sim) + SECOND);
    return echo_shut(&e).hash;
}

/* ---- The same twice ---- */

static void world_when_its_seed_is_the_same_is_the_same(void **state)
{
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    config.latency_ns = config.jitter_ns = 20000;
    config.rates[PRO_SIM_SEGMENT] = config.rates[PRO_SIM_DELAY] = config.rates[PRO_SIM_SHORT_RECV] = 5000;
    uint64_t before = 0;
    for (config.seed = 1; config.seed < 20; config.seed++) {
        uint64_t hash = hash_of(&config);
        assert_int_equal(hash, hash_of(&config));
        assert_int_not_equal(hash, before);
        before = hash;
    }
}

static void world_when_its_bytes_are_the_same_is_the_same(void **state)
{
    uint8_t bytes[4096];
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    config.front = PRO_SIM_BYTES;
    config.bytes = bytes;
    config.latency_ns = config.jitter_ns = 20000;
    config.rates[PRO_SIM_SEGMENT] = config.rates[PRO_SIM_DELAY] = 20000;
    uint64_t calm = hash_of(&config);
    for (unsigned i = 0; i < 20; i++) {
        pattern_fill(bytes, sizeof bytes, i * 1000);
        config.byte_count = 1 + i * 200;
        uint64_t hash = hash_of(&config);
        assert_int_equal(hash, hash_of(&config));
        assert_true(i == 0 || hash != calm);
    }
}

/* Three choices, of which the last is only met when the first is 1: 1 + 2 x 3 histories of (0) and (1, a, b). */
static void walk_when_it_ends_has_seen_every_history(void **state)
{
    struct pro_sim_walk *walk = pro_sim_walk_new();
    unsigned seen[2][2][3] = {0}, count = 0;
    assert_non_null(walk);
    while (pro_sim_walk_next(walk)) {
        struct pro_sim_config config = {.size = sizeof config, .front = PRO_SIM_WALK, .walk = walk};
        struct pro_sim *sim;
        char history[64];
        assert_int_equal(pro_sim_new(&config, &sim), 0);
        uint32_t a = pro_sim_choose(sim, 2), b = a ? pro_sim_choose(sim, 2) : 0, c = a ? pro_sim_choose(sim, 3) : 0;
        assert_int_equal(pro_sim_choose(sim, 1), 0);
        seen[a][b][c]++;
        count++;
        pro_sim_walk_history(walk, history, sizeof history);
        assert_int_equal(strlen(history), a ? 5 : 1);
        pro_sim_free(sim);
    }
    assert_int_equal(count, 7);
    assert_int_equal(pro_sim_walk_count(walk), 7);
    assert_int_equal(seen[0][0][0], 1);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(seen[1][i / 3][i % 3], 1);
    pro_sim_walk_free(walk);
}

static void walk_when_one_history_is_asked_for_takes_that(void **state)
{
    struct pro_sim_walk *walk = pro_sim_walk_new();
    struct pro_sim_config config = {.size = sizeof config, .front = PRO_SIM_WALK, .walk = walk};
    struct pro_sim *sim;
    assert_false(pro_sim_walk_only(walk, "1.x"));
    pro_sim_walk_free(walk);
    walk = config.walk = pro_sim_walk_new();
    assert_true(pro_sim_walk_only(walk, "1.0.2"));
    assert_true(pro_sim_walk_next(walk));
    assert_int_equal(pro_sim_new(&config, &sim), 0);
    assert_int_equal(pro_sim_choose(sim, 2), 1);
    assert_int_equal(pro_sim_choose(sim, 2), 0);
    assert_int_equal(pro_sim_choose(sim, 3), 2);
    pro_sim_free(sim);
    assert_false(pro_sim_walk_next(walk));
    pro_sim_walk_free(walk);
}

/* ---- The clock ---- */

/* The process stands still while what the peers have sent lies there. It has come in time. */
static void deadline_when_the_clock_leaps_spares_what_had_arrived(void **state)
{
    for (unsigned turn_completions = 2; turn_completions <= 512; turn_completions *= 16) {
        struct pro_sim_config config = {.size = sizeof config, .front = PRO_SIM_CALM};
        struct echo e = {.idle_ns = 5 * SECOND};
        echo_open(&e, &config, turn_completions);
        pro_sim_run(e.sim, pro_sim_now(e.sim) + SECOND);
        pro_sim_stand_still(e.sim, 3 * SECOND);
        for (unsigned i = 0; i < PEERS; i += 2)
            assert_int_equal(pro_sim_write(e.sim, e.peers[i], "in time", 7), 7);
        pro_sim_stand_still(e.sim, 60 * SECOND);
        pro_sim_run(e.sim, pro_sim_now(e.sim) + SECOND);
        assert_int_equal(e.late, PEERS / 2);
        for (unsigned i = 0; i < PEERS; i++) {
            char answer[16];
            assert_int_equal(pro_sim_read(e.sim, e.peers[i], answer, sizeof answer), i % 2 ? 0 : 7);
        }
        echo_shut(&e);
    }
}

static uint64_t fired_at;

static void on_timer(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    fired_at = pro_now(loop);
}

static void clock_when_nothing_happens_jumps_to_the_next_thing(void **state)
{
    struct pro_sim_config config = {.size = sizeof config, .front = PRO_SIM_CALM, .start_ns = 7};
    struct pro_config loop_config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    struct pro_op timer = {0};
    assert_int_equal(pro_sim_new(&config, &loop_config.sim), 0);
    loop_config.backend = PRO_BACKEND_SIM;
    assert_int_equal(pro_loop_new(&loop_config, &loop), 0);
    assert_int_equal(pro_now(loop), 7);
    pro_timer(loop, &timer, 365 * 86400 * SECOND, on_timer);
    assert_int_equal(pro_sim_run(loop_config.sim, SECOND), 1);
    assert_int_equal(pro_sim_now(loop_config.sim), SECOND);
    assert_int_equal(fired_at, 0);
    assert_int_equal(pro_sim_run(loop_config.sim, PRO_NEVER), 0);
    assert_in_range(fired_at, 365 * 86400 * SECOND, 365 * 86400 * SECOND + MILLISECOND);
    pro_loop_free(loop);
    pro_sim_free(loop_config.sim);
}

/* ---- What it notices ---- */

static struct pro_sim *calm_world(void)
{
    struct pro_sim_config config = {.size = sizeof config, .front = PRO_SIM_CALM, .replay = "play it again"};
    struct pro_sim *sim = NULL;
    assert_int_equal(pro_sim_new(&config, &sim), 0);
    return sim;
}

static void leak_descriptor(void *context)
{
    struct pro_sim *sim = calm_world();
    int fds[2];
    pro_sim_pair(sim, fds);
    pro_sim_close(sim, fds[0]);
    pro_sim_free(sim);
}

static void leak_memory(void *context)
{
    struct pro_sim *sim = calm_world();
    struct pro_allocator allocator = pro_sim_allocator(sim);
    if (allocator.alloc(allocator.context, 10, 16))
        pro_sim_free(sim);
}

static void free_other_size(void *context)
{
    struct pro_sim *sim = calm_world();
    struct pro_allocator allocator = pro_sim_allocator(sim);
    void *memory = allocator.alloc(allocator.context, 10, 16);
    allocator.free(allocator.context, memory, 11);
}

static void wait_for_ever(void *context)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    struct pro_handle handle = {0};
    struct pro_op op = {0};
    char byte;
    int fds[2];
    config.backend = PRO_BACKEND_SIM;
    config.sim = calm_world();
    pro_loop_new(&config, &loop);
    pro_sim_pair(config.sim, fds);
    pro_adopt(loop, &handle, fds[0]);
    pro_recv(&handle, &op, &byte, 1, 0, on_timer);
    pro_run(loop, PRO_RUN_DEFAULT);
}

static void two_owners(void *context)
{
    struct pro_sim_config world = {.size = sizeof world, .front = PRO_SIM_CALM, .audit_every = 1};
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    struct pro_handle handles[2] = {0};
    int fds[2];
    config.backend = PRO_BACKEND_SIM;
    pro_sim_new(&world, &config.sim);
    pro_loop_new(&config, &loop);
    pro_sim_pair(config.sim, fds);
    pro_adopt(loop, &handles[0], fds[0]);
    pro_adopt(loop, &handles[1], fds[0]);
    pro_sim_audit(config.sim);
}

static void misuse(void *context)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    struct pro_op op = {0};
    config.backend = PRO_BACKEND_SIM;
    config.sim = calm_world();
    pro_loop_new(&config, &loop);
    pro_timer_after(loop, &op, 1, on_timer);
    pro_sim_run(config.sim, PRO_NEVER);
    pro_timer_after(loop, &op, 1, on_timer);
    pro_timer_after(loop, &op, 1, on_timer);
}

static void free_under_a_loop(void *context)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    config.backend = PRO_BACKEND_SIM;
    config.sim = calm_world();
    pro_loop_new(&config, &loop);
    pro_sim_free(config.sim);
}

static void stand_still_for_ever(void *context)
{
    struct pro_sim *sim = calm_world();
    pro_sim_stand_still(sim, PRO_NEVER - pro_sim_now(sim));
}

static void ask_for_another_fault(void *context)
{
    (void)pro_sim_chance(calm_world(), PRO_SIM_FAULTS);
}

static struct pro_sim *run_inside;

static void on_timer_run(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    pro_sim_run(run_inside, PRO_NEVER);
}

static void run_in_a_continuation(void *context)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    struct pro_op op = {0};
    config.backend = PRO_BACKEND_SIM;
    config.sim = run_inside = calm_world();
    pro_loop_new(&config, &loop);
    pro_timer_after(loop, &op, 1, on_timer_run);
    pro_run(loop, PRO_RUN_DEFAULT);
}

/* Longer than any buffer: the line must play the same. */
enum { LONG_HISTORY = 6000 };

static void fail_late(void *context)
{
    struct pro_sim_walk *walk = pro_sim_walk_new();
    struct pro_sim_config config = {.size = sizeof config, .front = PRO_SIM_WALK, .walk = walk, .replay = "play"};
    while (pro_sim_walk_next(walk)) {
        struct pro_sim *sim;
        pro_sim_new(&config, &sim);
        for (unsigned i = 0; i < LONG_HISTORY; i++)
            (void)pro_sim_choose(sim, 2);
        if (pro_sim_choose(sim, 2) == 1)
            pro_sim_fail(sim, "late");
        pro_sim_free(sim);
    }
}

static void failure_after_many_choices_prints_them_all(void **state)
{
    static char said[8 * LONG_HISTORY];
    (void)in_child(fail_late, NULL, said, sizeof said);
    const char *line = strstr(said, "replay with: play 0.");
    assert_non_null(line);
    assert_int_equal(strcspn(line, "\n"), strlen("replay with: play ") + 2 * LONG_HISTORY + 1);
    assert_non_null(strstr(line, ".0.1\n"));
}

static void world_when_something_is_wrong_says_so(void **state)
{
    static const struct {
        void (*body)(void *context);
        const char *says;
        bool replays;
    } cases[] = {
        {leak_descriptor, "1 descriptors are still open", true},
        {leak_memory, "1 allocations of 10 bytes are still out", true},
        {free_other_size, "an allocation of 10 bytes is freed as one of 11", true},
        {wait_for_ever, "loop 1 waits for what never comes", true},
        {two_owners, "has two owners", false},
        {misuse, "an operation is started while it is in flight", true},
        {free_under_a_loop, "a world is freed before its loops", false},
        {stand_still_for_ever, "a world stands still for ever", false},
        {ask_for_another_fault, "a fault that does not exist", false},
        {run_in_a_continuation, "pro_sim_run is called from a continuation", false},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char said[8192];
        int status = in_child(cases[i].body, NULL, said, sizeof said);
        if (!strstr(said, cases[i].says))
            print_error("it should say \"%s\", and says: %s\n", cases[i].says, said);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        assert_non_null(strstr(said, cases[i].says));
        if (cases[i].replays)
            assert_non_null(strstr(said, "proactor: replay with: play it again\n"));
    }
}

/* ---- The kernel in it ---- */

/* Somebody with one descriptor and one operation at a time. */
struct single {
    struct pro_loop *loop;
    struct pro_handle handle;
    struct pro_op op;
    int results, last;
};

static void on_single(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct single *s = PRO_CONTAINER_OF(op, struct single, op);
    s->results++;
    s->last = r.res;
}

static void single_open(struct single *s, struct pro_sim *sim, int fd)
{
    struct pro_config config = PRO_CONFIG_INIT;
    config.backend = PRO_BACKEND_SIM;
    config.sim = sim;
    assert_int_equal(pro_loop_new(&config, &s->loop), 0);
    pro_adopt(s->loop, &s->handle, fd);
}

static int turns(struct single *s, unsigned count)
{
    while (count-- > 0)
        pro_run(s->loop, PRO_RUN_NOWAIT);
    return s->results;
}

static void poll_when_the_kernel_knows_no_multishots_reports_changes(void **state)
{
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    struct pro_sim_stats stats = {0};
    struct single s = {0};
    struct pro_sim *sim;
    int ends[2];
    config.rates[PRO_SIM_ONE_SHOT] = UINT16_MAX;
    assert_int_equal(pro_sim_new(&config, &sim), 0);
    assert_int_equal(pro_sim_pair(sim, ends), 0);
    single_open(&s, sim, ends[0]);
    pro_sim_stats(sim, &stats, sizeof stats);
    assert_int_equal(stats.hits[PRO_SIM_ONE_SHOT], 1);
    pro_poll_multi(&s.handle, &s.op, POLLOUT, on_single);
    assert_int_equal(turns(&s, 1000), 1);
    assert_int_equal(s.last, POLLOUT);
    pro_loop_free(s.loop);
    pro_sim_close(sim, ends[1]);
    pro_sim_free(sim);
}

static void datagrams_when_the_peer_is_full_or_gone_are_dropped_or_awaited(void **state)
{
    static uint8_t data[1000];
    struct single s = {0};
    struct pro_sim *sim = calm_world();
    int ends[2];
    assert_int_equal(pro_sim_datagrams(sim, ends), 0);
    single_open(&s, sim, ends[0]);
    for (unsigned i = 0; i < 100; i++) /* more than the peer has room for */
        assert_int_equal(pro_try_send(&s.handle, data, sizeof data), sizeof data);
    pro_poll(&s.handle, &s.op, POLLOUT, on_single);
    assert_int_equal(turns(&s, 100), 1);
    assert_int_equal(s.last, POLLOUT);
    pro_sim_close(sim, ends[1]);
    pro_recv(&s.handle, &s.op, data, sizeof data, 0, on_single);
    assert_int_equal(turns(&s, 100), 1); /* no end of file */
    pro_loop_free(s.loop);
    assert_int_equal(s.last, -ECANCELED);
    pro_sim_free(sim);
}

/* Names are compared, and not the memory they stand in. */
static void connect_when_the_address_stands_in_other_memory_finds_it(void **state)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    struct pro_handle listener = {0};
    struct sockaddr_storage there, here = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&there;
    config.backend = PRO_BACKEND_SIM;
    config.sim = calm_world();
    assert_int_equal(pro_loop_new(&config, &loop), 0);
    memset(&there, 0xcc, sizeof there);
    in->sin_family = AF_INET;
    in->sin_port = htons(80);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&here, &there, offsetof(struct sockaddr_in, sin_zero));
    assert_int_equal(pro_listen(loop, &listener, (struct sockaddr *)&here, sizeof *in, 0, 0), 0);
    for (unsigned i = 0; i < 2; i++) {
        int fd = pro_sim_connect(config.sim, (struct sockaddr *)&there, i ? sizeof there : sizeof *in);
        assert_true(fd >= 0);
        pro_sim_close(config.sim, fd);
    }
    pro_loop_free(loop);
    pro_sim_free(config.sim);
}

/* The room comes by an option, and not by a read. */
static void send_when_the_buffer_grows_goes_on(void **state)
{
    static char bytes[200000], taken[sizeof bytes];
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    struct pro_handle near = {0}, far = {0};
    struct pro_op op = {0};
    struct iovec iov = {bytes, sizeof bytes};
    int fds[2], size = 1 << 20;
    config.backend = PRO_BACKEND_SIM;
    config.sim = calm_world();
    assert_int_equal(pro_loop_new(&config, &loop), 0);
    assert_int_equal(pro_sim_pair(config.sim, fds), 0);
    pro_adopt(loop, &near, fds[0]);
    pro_adopt(loop, &far, fds[1]);
    pro_send(&near, &op, &iov, 1, 0, on_timer);
    pro_sim_run(config.sim, PRO_NEVER);
    assert_true(pro_op_in_flight(&op));
    assert_int_equal(pro_option_set(&far, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
    pro_sim_run(config.sim, PRO_NEVER);
    assert_false(pro_op_in_flight(&op));
    assert_int_equal(pro_sim_read(config.sim, fds[1], taken, sizeof taken), sizeof taken);
    pro_loop_free(loop);
    pro_sim_free(config.sim);
}

/* What is in flight there is forgotten. */
static void free_in_a_forked_child(void *context)
{
    const struct pro_config *config = context;
    struct pro_loop *loop;
    struct pro_handle handle = {0};
    struct pro_op op = {0};
    char byte;
    int fds[2];
    pro_loop_new(config, &loop);
    pro_sim_pair(config->sim, fds);
    pro_adopt(loop, &handle, fds[0]);
    pro_recv(&handle, &op, &byte, 1, 0, on_timer);
    pro_run(loop, PRO_RUN_NOWAIT);
    int status = 0;
    pid_t child = fork();
    if (child > 0)
        waitpid(child, &status, 0);
    pro_loop_free(loop);
    pro_sim_close(config->sim, fds[1]);
    pro_sim_free(config->sim);
    _exit(child > 0 && status == 0 ? 0 : child == 0 ? 0 : 1);
}

static void world_when_forked_can_be_freed(void **state)
{
    struct pro_config config = PRO_CONFIG_INIT;
    char said[8192];
    config.backend = PRO_BACKEND_SIM;
    config.sim = calm_world();
    int status = in_child(free_in_a_forked_child, &config, said, sizeof said);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pro_sim_free(config.sim);
}

/* One byte decides: the highest rate says no to one of 256. */
static void chance_when_taken_from_bytes_grows_with_the_rate(void **state)
{
    static const uint16_t rates[] = {1, 300, 32768, 65280, 65281, UINT16_MAX};
    static const unsigned hits[] = {1, 2, 128, 255, 255, 255};
    uint8_t bytes[256];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct pro_sim_config config = {
            .size = sizeof config, .front = PRO_SIM_BYTES, .bytes = bytes, .byte_count = sizeof bytes};
        struct pro_sim *sim;
        unsigned count = 0;
        pro_sim_faults(&config, rates[i]);
        assert_int_equal(pro_sim_new(&config, &sim), 0);
        for (unsigned n = 0; n < sizeof bytes; n++)
            count += pro_sim_chance(sim, PRO_SIM_FULL);
        assert_int_equal(count, hits[i]);
        pro_sim_free(sim);
    }
}

/* ---- Making one ---- */

static void world_when_its_config_makes_no_sense_is_refused(void **state)
{
    struct pro_sim *sim;
    struct pro_sim_walk *walk = pro_sim_walk_new();
    struct pro_sim_config good = PRO_SIM_CONFIG_INIT;
    struct pro_sim_config bad[] = {good, good, good, good, good};
    bad[0].size--;
    bad[1].front = PRO_SIM_WALK;
    bad[2].walk = walk;
    bad[3].byte_count = 1;
    bad[4].front = (enum pro_sim_front)4;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(pro_sim_new(&bad[i], &sim), -EINVAL);
    pro_sim_walk_free(walk);
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    config.backend = PRO_BACKEND_SIM;
    assert_int_equal(pro_loop_new(&config, &loop), -EINVAL); /* no world */
    config.sim = calm_world();
    config.backend = PRO_BACKEND_EPOLL;
    assert_int_equal(pro_loop_new(&config, &loop), -EINVAL);
    config.backend = PRO_BACKEND_SIM;
    assert_int_equal(pro_loop_new(&config, &loop), 0);
    assert_int_equal(pro_loop_fd(loop), -EOPNOTSUPP);
    pro_loop_free(loop);
    pro_sim_free(config.sim);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(world_when_its_seed_is_the_same_is_the_same),
        cmocka_unit_test(world_when_its_bytes_are_the_same_is_the_same),
        cmocka_unit_test(walk_when_it_ends_has_seen_every_history),
        cmocka_unit_test(walk_when_one_history_is_asked_for_takes_that),
        cmocka_unit_test(deadline_when_the_clock_leaps_spares_what_had_arrived),
        cmocka_unit_test(clock_when_nothing_happens_jumps_to_the_next_thing),
        cmocka_unit_test(world_when_something_is_wrong_says_so),
        cmocka_unit_test(poll_when_the_kernel_knows_no_multishots_reports_changes),
        cmocka_unit_test(datagrams_when_the_peer_is_full_or_gone_are_dropped_or_awaited),
        cmocka_unit_test(connect_when_the_address_stands_in_other_memory_finds_it),
        cmocka_unit_test(send_when_the_buffer_grows_goes_on),
        cmocka_unit_test(world_when_forked_can_be_freed),
        cmocka_unit_test(chance_when_taken_from_bytes_grows_with_the_rate),
        cmocka_unit_test(failure_after_many_choices_prints_them_all),
        cmocka_unit_test(world_when_its_config_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
