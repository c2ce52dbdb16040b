/* SPDX-License-Identifier: MIT
 *
 * The server program: command line, limits, threads, signals. What it does with a connection is in service.c.
 *
 *     main thread       options -> a worker for each thread: loop, service -> listeners
 *                                     |
 *                       first worker runs here, the others on threads of their own; a loop is freed where it ran
 *
 *     signal handler    posts to every worker through its remote, and does nothing else
 *
 * Everything but the threads is made before the first loop runs, by one thread, so that whatever fails is told at the
 * start and in one place. The start lines come when the threads are there too. Each kind of post has its own operation
 * in each worker, and `posted` guards it: a signal may come again before the post has arrived.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <proactor.h>

#include "listen.h"
#include "log.h"
#include "options.h"
#include "service.h"
#include "standard.h"

#define RESERVE_BY_THREAD 8                   /* descriptors that a loop may still open */
#define SAME_WISH_NS      UINT64_C(100000000) /* timeout(1) signals its child, and then its group with the child in it */

enum { STATUS_CLEAN, STATUS_FAILED, STATUS_USAGE, STATUS_CUT };

enum mail { MAIL_DRAIN, MAIL_CUT, MAIL_COUNTERS, MAILS };

struct worker {
    struct pro_loop *loop;
    struct service *service;
    struct pro_remote *remote;
    struct log log;
    struct {
        struct pro_op op;
        atomic_bool posted;
    } mail[MAILS];
    pthread_t thread;
    unsigned index;
    int result; /* of pro_run */
};

struct server {
    struct options options;
    struct log log;
    struct worker *workers;
    unsigned count;
    struct listening listening[OPTIONS_LISTEN_MOST];
};

/* A handler has no other way to know them. Set once, before the handlers are. */
static struct server *signalled;
static _Atomic uint64_t terminated_ns; /* when it was first told to end; 0: not yet */

/* ---- Posts ---- */

static void on_drain(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    if (r.res == 0)
        service_drain(PRO_CONTAINER_OF(op, struct worker, mail[MAIL_DRAIN].op)->service);
}

static void on_cut(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    if (r.res == 0)
        service_cut(PRO_CONTAINER_OF(op, struct worker, mail[MAIL_CUT].op)->service);
}

static void on_counters(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct worker *worker = PRO_CONTAINER_OF(op, struct worker, mail[MAIL_COUNTERS].op);
    atomic_store(&worker->mail[MAIL_COUNTERS].posted, false);
    if (r.res == 0)
        service_print_counters(worker->service, worker->index);
}

static pro_fn *const mail_continuations[MAILS] = {on_drain, on_cut, on_counters};

/* Async-signal-safe, any thread. */
static void post_to_all(struct server *server, enum mail mail)
{
    for (unsigned i = 0; i < server->count; i++) {
        struct worker *worker = &server->workers[i];
        if (!atomic_exchange(&worker->mail[mail].posted, true))
            (void)pro_post(worker->remote, &worker->mail[mail].op, mail_continuations[mail]);
    }
}

/* What a signal to end is for. Two within a moment come from one wish, and only a later one has lost its patience. */
static enum mail ending_wanted(void)
{
    struct timespec time = {0};
    uint64_t first = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &time); /* async-signal-safe */
    uint64_t now = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
    if (atomic_compare_exchange_strong(&terminated_ns, &first, now))
        return MAIL_DRAIN;
    return now < first + SAME_WISH_NS ? MAIL_DRAIN : MAIL_CUT;
}

static void on_signal(int number)
{
    int saved = errno;
    if (number == SIGUSR1)
        post_to_all(signalled, MAIL_COUNTERS);
    else
        post_to_all(signalled, ending_wanted());
    errno = saved;
}

static void handle_signals(struct server *server)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    signalled = server;
    sigemptyset(&act.sa_mask);
    (void)sigaction(SIGTERM, &act, NULL);
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGUSR1, &act, NULL);
}

/* ---- Making it ---- */

static bool make_loop(struct server *server, struct worker *worker)
{
    struct pro_config config = PRO_CONFIG_INIT;
    config.backend = server->options.backend;
    config.spin_us = server->options.spin_us;
    config.min_wait_us = server->options.min_wait_us;
    config.features_off = server->options.features_off;
    int error = pro_loop_new(&config, &worker->loop);
    if (!error)
        return true;
    const char *name = pro_error_name(error), *cause = standard_backend_cause(config.backend, error);
    if (config.backend == PRO_BACKEND_AUTO)
        log_always(&server->log, "no backend can start: %s (%s)", name, cause);
    else
        log_always(&server->log, "--backend %s: %s (%s)", config.backend == PRO_BACKEND_IO_URING ? "io_uring" : "epoll",
                   name, cause);
    return false;
}

static bool make_worker(struct server *server, struct worker *worker)
{
    const struct options *o = &server->options;
    if (!make_loop(server, worker))
        return false;
    log_init(&worker->log, "reversed", STDERR_FILENO, o->log_level, pro_now(worker->loop));
    struct service_config config = {.max_frame = o->max_frame,
                                    .high_water = o->high_water,
                                    .idle_ns = o->idle_ns,
                                    .frame_ns = o->frame_ns,
                                    .send_ns = o->send_ns,
                                    .drain_ns = o->drain_ns,
                                    .log = &worker->log};
    int error = service_new(worker->loop, &config, &worker->service);
    if (error) {
        log_always(&server->log, "thread %u: %s (%s)", worker->index, pro_error_name(error), pro_error_text(error));
        return false;
    }
    worker->remote = pro_remote_get(worker->loop);
    if (!worker->remote)
        log_always(&server->log, "thread %u: no descriptor is left (RLIMIT_NOFILE), or no memory", worker->index);
    return worker->remote;
}

static bool make_workers(struct server *server)
{
    unsigned count = server->options.threads;
    server->workers = calloc(count, sizeof *server->workers);
    if (!server->workers) {
        log_always(&server->log, "no memory for %u threads", count);
        return false;
    }
    server->count = count;
    for (unsigned i = 0; i < count; i++) {
        server->workers[i].index = i;
        if (!make_worker(server, &server->workers[i]))
            return false;
    }
    return true;
}

static bool make_listeners(struct server *server)
{
    struct service *services[OPTIONS_THREADS_MOST];
    char error[LISTEN_ERROR_SIZE];
    for (unsigned i = 0; i < server->count; i++)
        services[i] = server->workers[i].service;
    for (uint32_t i = 0; i < server->options.listen_count; i++) {
        if (listen_on(&server->options.listen[i], services, server->count, &server->listening[i], error) < 0) {
            log_always(&server->log, "%s", error);
            return false;
        }
    }
    return true;
}

/* Connections that the descriptors suffice for. The lowest that is free tells how many are taken. */
static uint32_t affordable_connections(const struct server *server)
{
    struct rlimit limit;
    int next = dup(STDERR_FILENO);
    if (next >= 0)
        close(next);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || next < 0)
        return server->count;
    rlim_t used = (rlim_t)next + (rlim_t)RESERVE_BY_THREAD * server->count;
    rlim_t most = limit.rlim_cur > used ? limit.rlim_cur - used : 0;
    if (most > 10000000)
        most = 10000000;
    return most > server->count ? (uint32_t)most : server->count;
}

static void start_services(struct server *server)
{
    uint32_t affordable = affordable_connections(server), most = server->options.max_connections;
    if (most > affordable)
        log_line(&server->log, LOG_WARN, 0, "--max-connections %u: RLIMIT_NOFILE suffices for about %u", most,
                 affordable);
    if (most == 0)
        most = affordable;
    for (unsigned i = 0; i < server->count; i++)
        service_start(server->workers[i].service, most / server->count + (i < most % server->count));
}

/* ---- Running it ---- */

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    worker->result = pro_run(worker->loop, PRO_RUN_DEFAULT);
    if (worker->result < 0) {
        log_always(&worker->log, "thread %u: the loop failed: %s (%s)", worker->index, pro_error_name(worker->result),
                   pro_error_text(worker->result));
        post_to_all(signalled, MAIL_DRAIN);
    }
    if (log_wants(&worker->log, LOG_DEBUG))
        service_print_counters(worker->service, worker->index);
    pro_loop_free(worker->loop);
    worker->loop = NULL;
    return NULL;
}

/* Only when all of it is there: who starts a server takes the line for its being ready. */
static void tell_start(struct server *server)
{
    struct pro_loop *loop = server->workers[0].loop;
    const char *what = pro_loop_describe(loop);
    bool uring = pro_loop_backend(loop) == PRO_BACKEND_IO_URING;
    if (strncmp(what, "epoll: ", 7) == 0)
        log_always(&server->log, "io_uring is not available, using %s", what);
    for (uint32_t i = 0; i < server->options.listen_count; i++)
        log_always(&server->log, "listening on %s (%s, %u thread%s)", server->listening[i].text,
                   uring ? "io_uring" : "epoll", server->count, server->count == 1 ? "" : "s");
}

/* The threads besides this one. What was started of them is told to end if the rest cannot be. */
static bool start_threads(struct server *server, unsigned *ret_started)
{
    unsigned started = 1;
    int error = 0;
    while (started < server->count && !error) {
        error = pthread_create(&server->workers[started].thread, NULL, run_worker, &server->workers[started]);
        started += !error;
    }
    if (error) {
        log_always(&server->log, "cannot start thread %u: %s (%s)", started, pro_error_name(error),
                   error == EAGAIN ? "RLIMIT_NPROC or another limit of processes, or no memory"
                                   : pro_error_text(error));
        post_to_all(server, MAIL_DRAIN);
    }
    *ret_started = started;
    return !error;
}

static bool run(struct server *server)
{
    unsigned started;
    bool all = start_threads(server, &started);
    if (all)
        tell_start(server);
    run_worker(&server->workers[0]);
    for (unsigned i = 1; i < started; i++)
        (void)pthread_join(server->workers[i].thread, NULL);
    return all;
}

static int status_of(const struct server *server)
{
    int status = STATUS_CLEAN;
    for (unsigned i = 0; i < server->count; i++) {
        const struct worker *worker = &server->workers[i];
        if (service_was_cut(worker->service))
            status = STATUS_CUT;
        if (worker->result < 0)
            return STATUS_FAILED;
    }
    return status;
}

static void unmake(struct server *server)
{
    for (unsigned i = 0; i < server->count; i++)
        pro_loop_free(server->workers[i].loop); /* those that never ran */
    for (unsigned i = 0; i < server->count; i++) {
        struct worker *worker = &server->workers[i];
        service_free(worker->service);
        if (worker->remote)
            pro_remote_unref(worker->remote);
    }
    for (uint32_t i = 0; i < server->options.listen_count; i++)
        listen_remove(&server->listening[i]);
    free(server->workers);
}

/* From here on the handlers must not post: the remotes are going. */
static void ignore_signals(void)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
}

static int serve(struct server *server)
{
    int status = STATUS_FAILED;
    if (make_workers(server) && make_listeners(server)) {
        handle_signals(server);
        start_services(server);
        status = run(server) ? status_of(server) : STATUS_FAILED;
        ignore_signals();
    }
    unmake(server);
    return status;
}

/* What --threads auto is here; each thread has a connection at least. */
static uint32_t count_threads(const struct options *o)
{
    cpu_set_t set;
    uint32_t most = o->max_connections ? o->max_connections : OPTIONS_THREADS_MOST;
    uint32_t cores = sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : (uint32_t)CPU_COUNT(&set);
    most = most < OPTIONS_THREADS_MOST ? most : OPTIONS_THREADS_MOST;
    return cores < most ? cores : most;
}

int main(int argc, char *argv[])
{
    struct server server = {0};
    char error[OPTIONS_ERROR_SIZE];
    standard_descriptors();
    standard_signals();
    enum options_outcome outcome = options_read(argc, argv, &server.options, error);
    log_init(&server.log, "reversed", STDERR_FILENO, server.options.log_level, 0);
    switch (outcome) {
    case OPTIONS_HELP:
        return standard_print(&server.log, options_help);
    case OPTIONS_VERSION:
        return standard_print_version(&server.log);
    case OPTIONS_ERROR:
        log_always(&server.log, "%s", error);
        return STATUS_USAGE;
    case OPTIONS_RUN:
        break;
    }
    if (server.options.threads == 0)
        server.options.threads = count_threads(&server.options);
    return serve(&server);
}
