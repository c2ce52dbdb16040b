/* SPDX-License-Identifier: MIT
 *
 * Micro-benchmarks: what the library adds to bare liburing. Each part does the same work both ways, and prints a line of
 * JSON with nanoseconds, the least of REPEATS measurements: what disturbs only ever adds. They are of the thread's CPU
 * time, kernel and all, except for posts, where two threads meet.
 *
 *     micro                        all parts
 *     micro PART                   one
 *     micro PART library COUNT     one way, COUNT times, unmeasured: for callgrind
 *     micro PART bare COUNT
 *
 * Instructions do not depend on what else the machine does. Those of one operation are the difference of two counts:
 *
 *     valgrind --tool=callgrind micro nop library 100000
 *     valgrind --tool=callgrind micro nop library 200000
 *
 * The bare side is in micro_bare.c. */
#include "micro.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <proactor.h>

enum { REPEATS = 5 };

uint64_t micro_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t micro_cpu(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

void micro_must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "micro: failed: %s\n", what);
    exit(1);
}

void micro_pairs(int near[MICRO_BATCH], int far[MICRO_BATCH])
{
    for (int i = 0; i < MICRO_BATCH; i++) {
        int pair[2];
        micro_must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0, "socketpair");
        near[i] = pair[0];
        far[i] = pair[1];
    }
}

void micro_close(const int fds[MICRO_BATCH])
{
    for (int i = 0; i < MICRO_BATCH; i++)
        close(fds[i]);
}

static cpu_set_t allowed; /* when the program began */

void micro_pin(unsigned number)
{
    cpu_set_t one;
    unsigned cpu = 0;
    if (CPU_COUNT(&allowed) < 2)
        return;
    while (!CPU_ISSET(cpu, &allowed) || number-- > 0)
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    micro_must(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

void micro_unpin(void)
{
    micro_must(sched_setaffinity(0, sizeof allowed, &allowed) == 0, "sched_setaffinity");
}

uint64_t micro_draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static struct pro_loop *new_loop(void)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop;
    config.backend = PRO_BACKEND_IO_URING;
    micro_must(pro_loop_new(&config, &loop) == 0, "a loop on io_uring");
    return loop;
}

/* --- nop: a write to /dev/null, which is all overhead, from its start to its continuation --- */

struct lane {
    struct pro_op op;
    struct pro_handle handle;
    uint64_t *left;
};

static const char byte = 'x';

static void on_written(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct lane *lane = PRO_CONTAINER_OF(op, struct lane, op);
    micro_must(result.res == 1, "a write to /dev/null");
    if (*lane->left == 0)
        return;
    --*lane->left;
    pro_write(&lane->handle, op, &byte, 1, PRO_STREAM, on_written);
}

static uint64_t nop_library(uint64_t count)
{
    static struct lane lanes[MICRO_BATCH];
    struct pro_loop *loop = new_loop();
    uint64_t left = count;
    for (int i = 0; i < MICRO_BATCH; i++) {
        lanes[i].left = &left;
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        micro_must(fd >= 0, "/dev/null");
        pro_adopt(loop, &lanes[i].handle, fd);
    }
    uint64_t start = micro_cpu();
    for (int i = 0; i < MICRO_BATCH && left; i++, left--)
        pro_write(&lanes[i].handle, &lanes[i].op, &byte, 1, PRO_STREAM, on_written);
    micro_must(pro_run(loop, PRO_RUN_DEFAULT) == 0, "pro_run");
    uint64_t took = micro_cpu() - start;
    pro_loop_free(loop);
    memset(lanes, 0, sizeof lanes);
    return took;
}

/* --- timer: one that is due, from its start to its continuation, without the kernel --- */

struct again {
    struct pro_op op;
    uint64_t *left;
};

static void on_due(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct again *again = PRO_CONTAINER_OF(op, struct again, op);
    if (*again->left == 0)
        return;
    --*again->left;
    pro_timer(loop, op, 0, on_due);
}

static uint64_t timer_library(uint64_t count)
{
    struct again timers[MICRO_BATCH] = {{.left = NULL}};
    struct pro_loop *loop = new_loop();
    uint64_t left = count, start = micro_cpu();
    for (int i = 0; i < MICRO_BATCH && left; i++, left--) {
        timers[i].left = &left;
        pro_timer(loop, &timers[i].op, 0, on_due);
    }
    micro_must(pro_run(loop, PRO_RUN_DEFAULT) == 0, "pro_run");
    uint64_t took = micro_cpu() - start;
    pro_loop_free(loop);
    return took;
}

/* --- timers: many pending, at random times; cancelled in random order, or all due --- */

static void on_timer(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
}

static uint32_t *shuffled(uint32_t count)
{
    uint64_t seed = 7;
    uint32_t *order = malloc(count * sizeof *order);
    micro_must(order, "memory");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = (uint32_t)(micro_draw(&seed) % (i + 1));
        order[i] = i;
        order[i] = order[other];
        order[other] = i;
    }
    return order;
}

static void set_timers(struct pro_loop *loop, struct pro_op *ops, uint64_t count, uint64_t from, uint64_t span)
{
    uint64_t seed = 5;
    for (uint64_t i = 0; i < count; i++)
        pro_timer(loop, &ops[i], from + micro_draw(&seed) % span, on_timer);
}

/* Has the pages there before the clock runs. A memset behind a calloc would be left out by the compiler. */
static void touch(void *memory, size_t size)
{
    for (size_t at = 0; at < size; at += 4096)
        ((volatile char *)memory)[at] = 0;
}

static struct micro_timers timers_library(uint64_t count)
{
    struct micro_timers took = {0, 0, 0};
    struct pro_loop *loop = new_loop();
    struct pro_op *ops = calloc(count, sizeof *ops);
    uint32_t *order = shuffled((uint32_t)count);
    micro_must(ops, "memory");
    touch(ops, count * sizeof *ops);
    uint64_t start = micro_cpu();
    set_timers(loop, ops, count, pro_now(loop) + UINT64_C(60000000000), UINT64_C(3600000000000));
    took.set = micro_cpu() - start;
    start = micro_cpu();
    for (uint64_t i = 0; i < count; i++)
        pro_cancel(&ops[order[i]]);
    micro_must(pro_run(loop, PRO_RUN_DEFAULT) == 0, "pro_run");
    took.cancel = micro_cpu() - start;
    /* All are due by the time the loop looks. */
    set_timers(loop, ops, count, pro_now(loop), 1000000);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    start = micro_cpu();
    micro_must(pro_run(loop, PRO_RUN_DEFAULT) == 0, "pro_run");
    took.fire = micro_cpu() - start;
    pro_loop_free(loop);
    free(ops);
    free(order);
    return took;
}

/* --- cancel: a receive that waits --- */

static void on_cancelled(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    micro_must(result.res == -ECANCELED, "a receive was not cancelled");
}

static uint64_t cancel_library(uint64_t count)
{
    static struct lane lanes[MICRO_BATCH];
    static char room[MICRO_BATCH];
    int near[MICRO_BATCH], far[MICRO_BATCH];
    struct pro_loop *loop = new_loop();
    micro_pairs(near, far);
    for (int i = 0; i < MICRO_BATCH; i++)
        pro_adopt(loop, &lanes[i].handle, near[i]);
    uint64_t start = micro_cpu();
    for (uint64_t done = 0; done < count; done += MICRO_BATCH) {
        for (int i = 0; i < MICRO_BATCH; i++)
            pro_recv(&lanes[i].handle, &lanes[i].op, &room[i], 1, 0, on_cancelled);
        micro_must(pro_run(loop, PRO_RUN_NOWAIT) >= 0, "pro_run");
        for (int i = 0; i < MICRO_BATCH; i++)
            pro_cancel(&lanes[i].op);
        micro_must(pro_run(loop, PRO_RUN_DEFAULT) == 0, "pro_run");
    }
    uint64_t took = micro_cpu() - start;
    pro_loop_free(loop);
    memset(lanes, 0, sizeof lanes);
    micro_close(far);
    return took;
}

/* --- pool: a message into lent memory, which is given back at once; a send(2) each is in it, on both sides --- */

struct listener {
    struct lane lane;
    uint64_t *received;
};

static void on_message(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct listener *listener = PRO_CONTAINER_OF(op, struct listener, lane.op);
    if (result.slice) {
        ++*listener->received;
        pro_slice_return(result.slice);
    }
    if (*listener->received % MICRO_BATCH == 0)
        pro_stop(loop);
}

static uint64_t pool_library(uint64_t count)
{
    static struct listener listeners[MICRO_BATCH];
    static const char message[64] = "lent and returned";
    int near[MICRO_BATCH], far[MICRO_BATCH];
    struct pro_loop *loop = new_loop();
    struct pro_pool *pool;
    uint64_t received = 0;
    micro_must(pro_pool_new(loop, NULL, &pool) == 0, "a pool");
    micro_pairs(near, far);
    for (int i = 0; i < MICRO_BATCH; i++) {
        listeners[i].received = &received;
        pro_adopt(loop, &listeners[i].lane.handle, near[i]);
        pro_recv_multi(&listeners[i].lane.handle, &listeners[i].lane.op, pool, PRO_UNLIMITED, on_message);
    }
    uint64_t start = micro_cpu();
    while (received < count) {
        for (int i = 0; i < MICRO_BATCH; i++)
            micro_must(send(far[i], message, sizeof message, MSG_NOSIGNAL) == sizeof message, "send");
        uint64_t goal = received + MICRO_BATCH;
        while (received < goal)
            micro_must(pro_run(loop, PRO_RUN_ONCE) >= 0, "pro_run");
    }
    uint64_t took = micro_cpu() - start;
    pro_loop_free(loop);
    pro_pool_free(pool);
    memset(listeners, 0, sizeof listeners);
    micro_close(far);
    return took;
}

/* --- post: from another thread; how many, and how soon one wakes a loop that sleeps --- */

struct posting {
    _Alignas(MICRO_APART) struct pro_op op;
    struct poster *poster;
    uint64_t at;
    atomic_bool free;
};

struct poster {
    struct pro_remote *remote;
    struct pro_op keeper; /* keeps the loop running between the posts */
    struct posting *postings;
    struct histogram *waits; /* NULL: as many as can be */
    uint64_t count, arrived;
};

static void on_kept(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
}

static void on_posted(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct posting *posting = PRO_CONTAINER_OF(op, struct posting, op);
    struct poster *poster = posting->poster;
    if (poster->waits)
        histogram_record(poster->waits, micro_now() - posting->at);
    atomic_store_explicit(&posting->free, true, memory_order_release);
    if (++poster->arrived == poster->count)
        pro_cancel(&poster->keeper);
}

static void *post_all(void *argument)
{
    struct poster *poster = argument;
    micro_pin(1);
    for (uint64_t i = 0; i < poster->count; i++) {
        struct posting *posting = &poster->postings[i % MICRO_POSTS];
        while (!atomic_load_explicit(&posting->free, memory_order_acquire))
            sched_yield();
        atomic_store_explicit(&posting->free, false, memory_order_relaxed);
        if (poster->waits) {
            struct timespec pause = {.tv_nsec = MICRO_PAUSE_NS};
            nanosleep(&pause, NULL);
            posting->at = micro_now();
        }
        micro_must(pro_post(poster->remote, &posting->op, on_posted) == 0, "pro_post");
    }
    return NULL;
}

static uint64_t post_library(uint64_t count, struct histogram *waits)
{
    struct pro_loop *loop = new_loop();
    struct poster poster = {.waits = waits, .count = count, .remote = pro_remote_get(loop)};
    pthread_t thread;
    micro_pin(0);
    poster.postings = aligned_alloc(MICRO_APART, MICRO_POSTS * sizeof *poster.postings);
    micro_must(poster.remote && poster.postings, "memory");
    memset(poster.postings, 0, MICRO_POSTS * sizeof *poster.postings);
    for (int i = 0; i < MICRO_POSTS; i++) {
        poster.postings[i].poster = &poster;
        atomic_init(&poster.postings[i].free, true);
    }
    pro_timer(loop, &poster.keeper, PRO_NEVER, on_kept);
    uint64_t start = micro_now();
    micro_must(pthread_create(&thread, NULL, post_all, &poster) == 0, "a thread");
    micro_must(pro_run(loop, PRO_RUN_DEFAULT) == 0, "pro_run");
    uint64_t took = micro_now() - start;
    micro_must(pthread_join(thread, NULL) == 0, "the thread's end");
    micro_unpin();
    pro_remote_unref(poster.remote);
    pro_loop_free(loop);
    free(poster.postings);
    return took;
}

/* --- what is said --- */

static uint64_t least(uint64_t (*run)(uint64_t count), uint64_t count)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < REPEATS; i++) {
        uint64_t took = run(count);
        best = took < best ? took : best;
    }
    return best;
}

static void say_timers(uint64_t count)
{
    struct micro_timers best = {UINT64_MAX, UINT64_MAX, UINT64_MAX}, bare;
    uint64_t bare_count = count / 100;
    double n = (double)count, few = (double)bare_count;
    bare = micro_bare_timers(bare_count);
    for (int i = 0; i < REPEATS; i++) {
        struct micro_timers took = timers_library(count);
        best.set = took.set < best.set ? took.set : best.set;
        best.cancel = took.cancel < best.cancel ? took.cancel : best.cancel;
        best.fire = took.fire < best.fire ? took.fire : best.fire;
    }
    printf("{\"part\": \"timers\", \"count\": %.0f, \"set_ns\": %.1f, \"cancel_ns\": %.1f, \"fire_ns\": %.1f, ", n,
           (double)best.set / n, (double)best.cancel / n, (double)best.fire / n);
    printf("\"bare_count\": %.0f, \"bare_set_ns\": %.1f, \"bare_cancel_ns\": %.1f}\n", few, (double)bare.set / few,
           (double)bare.cancel / few);
}

static uint64_t post_many(uint64_t count)
{
    return post_library(count, NULL);
}

static uint64_t bare_post_many(uint64_t count)
{
    return micro_bare_post(count, NULL);
}

static void say_post(uint64_t count)
{
    static struct histogram waits, bare_waits;
    double library = (double)count * 1e9 / (double)least(post_many, count);
    double bare = (double)count * 1e9 / (double)least(bare_post_many, count);
    post_library(MICRO_WAKES, &waits);
    micro_bare_post(MICRO_WAKES, &bare_waits);
    printf("{\"part\": \"post\", \"library_per_s\": %.0f, \"bare_per_s\": %.0f, ", library, bare);
    printf("\"library_wake_p50_ns\": %llu, \"library_wake_p99_ns\": %llu, \"bare_wake_p50_ns\": %llu, "
           "\"bare_wake_p99_ns\": %llu}\n",
           (unsigned long long)histogram_quantile(&waits, .5), (unsigned long long)histogram_quantile(&waits, .99),
           (unsigned long long)histogram_quantile(&bare_waits, .5),
           (unsigned long long)histogram_quantile(&bare_waits, .99));
}

static uint64_t timers_all(uint64_t count)
{
    struct micro_timers took = timers_library(count);
    return took.set + took.cancel + took.fire;
}

static uint64_t bare_timers_all(uint64_t count)
{
    struct micro_timers took = micro_bare_timers(count);
    return took.set + took.cancel;
}

static const struct part {
    const char *name;
    uint64_t (*library)(uint64_t count);
    uint64_t (*bare)(uint64_t count);
    void (*say)(uint64_t count); /* NULL: both sides, in ns */
    uint64_t count;
} parts[] = {
    {"nop", nop_library, micro_bare_nop, NULL, 500000},
    {"timer", timer_library, micro_bare_nop, NULL, 500000},
    {"timers", timers_all, bare_timers_all, say_timers, 1000000},
    {"post", post_many, bare_post_many, say_post, 1000000},
    {"cancel", cancel_library, micro_bare_cancel, NULL, 100000},
    {"pool", pool_library, micro_bare_pool, NULL, 100000},
};

static void say(const struct part *part)
{
    if (part->say) {
        part->say(part->count);
        return;
    }
    double library = (double)least(part->library, part->count), bare = (double)least(part->bare, part->count);
    printf("{\"part\": \"%s\", \"library_ns\": %.1f, \"bare_ns\": %.1f}\n", part->name, library / (double)part->count,
           bare / (double)part->count);
}

int main(int argc, char **argv)
{
    micro_must(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "sched_getaffinity");
    bool known = argc == 1;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (argc > 1 && strcmp(argv[1], parts[i].name) != 0)
            continue;
        known = true;
        if (argc == 4 && strcmp(argv[2], "library") == 0)
            parts[i].library(strtoull(argv[3], NULL, 10));
        else if (argc == 4 && strcmp(argv[2], "bare") == 0)
            parts[i].bare(strtoull(argv[3], NULL, 10));
        else if (argc <= 2)
            say(&parts[i]);
        else
            known = false;
        fflush(stdout);
    }
    if (!known)
        fprintf(stderr, "usage: micro [nop|timer|timers|post|cancel|pool [library|bare COUNT]]\n");
    return known ? 0 : 2;
}
