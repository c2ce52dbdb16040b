/* SPDX-License-Identifier: MIT
 *
 * The engine of the load generator: one thread, one ring, and as little work for a request as can be, since it shares
 * the machine with the server it measures.
 *
 *     flush     one send for each connection that owes bytes, straight from its pattern
 *     wait      submit, and sleep until there is a completion (open loop: spin, so that requests leave in time)
 *     drain     replies are compared with the pattern; each whole one is timed and, in a closed loop, asks for the next
 *
 * Sends of up to QUICK bytes make no completion unless they fall short. No two are in one submission, and the flush
 * comes after all completions were seen, so a send that fell short is taken up again before the next one leaves. Longer
 * ones complete, one at a time on a connection. Requests are never written to, so nothing waits for their memory.
 *
 * Small replies are received by multishot into a ring of buffers. Large ones are received by recv(2) into one buffer
 * that stays in the cache, when a poll says so: that takes the least CPU here.
 *
 * Churn. A connection is a slot of the ring's table of files, and a request is a chain that is handed in at once: close
 * what is in the slot, put a socket there, connect it, send, receive. Only the receive completes. No option is set and
 * nothing is bound: the server has 64 addresses, so that ports suffice.
 *
 * Times. A reply is timed by a clock that is read once for each batch of completions. In a closed loop its request
 * counts from the batch that caused it, in an open loop from the moment it was due, however late it left. What has no
 * reply at the end of the measurement counts with the age it has reached, so that a server cannot hide its worst.
 */
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum {
    QUICK = 16384,
    LARGE = 12288, /* frames from here on are received large */
    SMALL_BUFFER = 16384,
    SMALL_BUFFERS = 2048,
    STAGGER = 64, /* so that no two buffers begin at the same place of the cache */
    BIG_BUFFER = 262144,
    GROUP = 0,
    ENTRIES = 4096,
    COMPLETIONS = 32768,
    BATCH = 256,
    ADDRESSES = 64,
};
#define TICK_NS  UINT64_C(50000000)
#define STALL_NS UINT64_C(10000000000)

enum kind { SEND, RECEIVE, READABLE, TICK };

struct connection {
    struct pattern *pattern;
    struct connection *next_dirty;
    uint64_t *asked_at; /* when each request in flight was asked for; `depth` of them, closed loop only */
    uint64_t asked;     /* requests since it was opened */
    uint64_t answered;
    size_t unsent;  /* bytes asked for that the kernel was not given */
    size_t send_at; /* in the period of the pattern */
    size_t receive_at;
    uint32_t ask_frame; /* the frame of the period that is asked for next */
    uint32_t answer_frame;
    uint32_t left;      /* bytes to the end of answer_frame */
    uint32_t last_send; /* bytes of the last send */
    int fd;             /* or slot, of churn */
    bool dirty;         /* in the list of those to be flushed */
    bool waiting;       /* for the completion of a send */
    bool patient;       /* the next send is to wait for room */
};

struct engine {
    struct io_uring ring;
    const struct load_options *options;
    struct load_result *result;
    struct connection *connections;
    struct connection *dirty;
    struct pattern patterns[LOAD_PATTERNS];
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    uint32_t small_buffers;                  /* a power of two; few, so that they stay in the cache */
    size_t room;                             /* of each connection in the memory, of churn */
    struct sockaddr_in addresses[ADDRESSES]; /* of the server, of churn */
    bool large;
    bool measuring;
    uint32_t opened;
    uint64_t now;
    uint64_t start;       /* of the schedule of the open loop */
    uint64_t due;         /* requests asked for by that schedule */
    uint64_t answered;    /* since the start of the program */
    uint64_t progress_at; /* when an answer came last */
    struct __kernel_timespec tick;
};

/* Most often there is nothing to divide. */
static size_t wrapped(size_t at, size_t period)
{
    return at < period ? at : at % period;
}

static struct io_uring_sqe *entry(struct engine *engine)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&engine->ring);
    if (!sqe) {
        io_uring_submit(&engine->ring);
        sqe = io_uring_get_sqe(&engine->ring);
        if (!sqe)
            load_die("the submission queue stays full");
    }
    return sqe;
}

/* After the entry is prepared. */
static void name(const struct engine *engine, struct io_uring_sqe *sqe, const struct connection *connection,
                 enum kind kind)
{
    sqe->user_data = (uint64_t)(connection - engine->connections) << 2 | kind;
}

static uint8_t *small_buffer(const struct engine *engine, uint32_t id)
{
    return engine->memory + (size_t)id * (SMALL_BUFFER + STAGGER);
}

static uint8_t *churn_memory(const struct engine *engine, const struct connection *connection)
{
    return engine->memory + (size_t)connection->fd * engine->room;
}

static void arm_receive(struct engine *engine, struct connection *connection)
{
    struct io_uring_sqe *sqe = entry(engine);
    if (engine->large) {
        io_uring_prep_poll_multishot(sqe, connection->fd, POLLIN);
    } else if (engine->options->churn) {
        io_uring_prep_recv(sqe, connection->fd, churn_memory(engine, connection), engine->room, 0);
        sqe->flags |= IOSQE_FIXED_FILE;
    } else {
        io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = GROUP;
    }
    if (!engine->large)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    name(engine, sqe, connection, engine->large ? READABLE : RECEIVE);
}

static void arm_tick(struct engine *engine)
{
    struct io_uring_sqe *sqe = entry(engine);
    io_uring_prep_timeout(sqe, &engine->tick, 0, 0);
    name(engine, sqe, engine->connections, TICK);
}

static void soil(struct engine *engine, struct connection *connection)
{
    if (connection->dirty)
        return;
    connection->dirty = true;
    connection->next_dirty = engine->dirty;
    engine->dirty = connection;
}

static void ask(struct engine *engine, struct connection *connection)
{
    const struct pattern *pattern = connection->pattern;
    if (connection->asked_at)
        connection->asked_at[connection->asked % engine->options->depth] = engine->now;
    connection->asked++;
    connection->unsent += pattern->frame[connection->ask_frame];
    connection->ask_frame = connection->ask_frame + 1 < pattern->frames ? connection->ask_frame + 1 : 0;
    soil(engine, connection);
}

static void send_owed(struct engine *engine, struct connection *connection)
{
    const struct pattern *pattern = connection->pattern;
    size_t size = pattern->size - connection->send_at;
    if (size > connection->unsent)
        size = connection->unsent;
    bool quick = size == connection->unsent && size <= QUICK && !connection->patient;
    struct io_uring_sqe *sqe = entry(engine);
    io_uring_prep_send(sqe, connection->fd, pattern->request + connection->send_at, size,
                       MSG_NOSIGNAL | MSG_WAITALL | (quick ? MSG_DONTWAIT : 0));
    if (quick)
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    name(engine, sqe, connection, SEND);
    connection->last_send = (uint32_t)size;
    connection->unsent -= size;
    connection->send_at = wrapped(connection->send_at + size, pattern->period);
    connection->waiting = !quick;
    connection->patient = false;
}

/* The entries of a chain must not be parted by a submission. */
static void churn(struct engine *engine, struct connection *connection)
{
    struct sockaddr_in *to = &engine->addresses[engine->opened++ % ADDRESSES];
    struct io_uring_sqe *sqe;
    if (io_uring_sq_space_left(&engine->ring) < 5)
        io_uring_submit(&engine->ring);
    if (connection->answered) {
        sqe = entry(engine);
        io_uring_prep_close_direct(sqe, (unsigned)connection->fd);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        name(engine, sqe, connection, SEND);
    }
    sqe = entry(engine);
    io_uring_prep_socket_direct(sqe, AF_INET, SOCK_STREAM, 0, (unsigned)connection->fd, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    name(engine, sqe, connection, SEND);
    sqe = entry(engine);
    io_uring_prep_connect(sqe, connection->fd, (const struct sockaddr *)to, sizeof *to);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    name(engine, sqe, connection, SEND);
    sqe = entry(engine);
    io_uring_prep_send(sqe, connection->fd, connection->pattern->request + connection->send_at, connection->unsent,
                       MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    name(engine, sqe, connection, SEND);
    connection->send_at = wrapped(connection->send_at + connection->unsent, connection->pattern->period);
    connection->unsent = 0;
    arm_receive(engine, connection);
}

static void flush(struct engine *engine)
{
    struct connection *connection = engine->dirty;
    engine->dirty = NULL;
    for (; connection; connection = connection->next_dirty) {
        connection->dirty = false;
        if (engine->options->churn)
            churn(engine, connection);
        else if (!connection->waiting && connection->unsent)
            send_owed(engine, connection);
    }
}

static void on_sent(struct engine *engine, struct connection *connection, int32_t res)
{
    size_t period = connection->pattern->period, moved = res > 0 ? (size_t)res : 0;
    if (engine->options->churn)
        load_die("a socket, connect, send or close failed: %s", strerror(-res));
    if (res < 0 && res != -EAGAIN)
        load_die("a send failed: %s", strerror(-res));
    size_t missing = connection->last_send - moved;
    connection->waiting = false;
    connection->patient = missing > 0;
    connection->unsent += missing;
    connection->send_at = (connection->send_at + period - missing % period) % period;
    if (connection->unsent)
        soil(engine, connection);
}

static void open_connection(struct engine *engine, struct connection *connection)
{
    uint32_t index = (uint32_t)(connection - engine->connections);
    if (engine->options->churn) {
        connection->fd = (int)index;
        return;
    }
    connection->fd = load_connect(engine->options->port, index);
    if (connection->fd < 0)
        load_die("cannot connect: %s", strerror(-connection->fd));
    arm_receive(engine, connection);
}

/* When the request that is answered next was asked for, or was due. */
static uint64_t begun(const struct engine *engine, const struct connection *connection)
{
    const struct load_options *options = engine->options;
    if (!options->rate)
        return connection->asked_at[connection->answered % options->depth];
    uint64_t index = (uint64_t)(connection - engine->connections);
    uint64_t nth = connection->answered * options->connections + index;
    return engine->start + (uint64_t)((double)nth * 1e9 / (double)options->rate);
}

static void on_answer(struct engine *engine, struct connection *connection)
{
    const struct pattern *pattern = connection->pattern;
    if (connection->answered >= connection->asked)
        load_die("an answer that was not asked for");
    if (engine->measuring) {
        uint64_t since = begun(engine, connection);
        histogram_record(&engine->result->latency, engine->now > since ? engine->now - since : 0);
        engine->result->requests++;
        engine->result->bytes += pattern->frame[connection->answer_frame];
    }
    engine->answered++;
    engine->result->answered++;
    engine->progress_at = engine->now;
    connection->answered++;
    connection->answer_frame = connection->answer_frame + 1 < pattern->frames ? connection->answer_frame + 1 : 0;
    connection->left = pattern->frame[connection->answer_frame];
    if (!engine->options->rate)
        ask(engine, connection);
}

static void verify(struct engine *engine, struct connection *connection, const uint8_t *data, size_t size)
{
    const struct pattern *pattern = connection->pattern;
    while (size > 0) {
        size_t part = pattern->size - connection->receive_at;
        if (part > size)
            part = size;
        if (memcmp(pattern->answer + connection->receive_at, data, part) != 0)
            load_die("a wrong answer");
        connection->receive_at = wrapped(connection->receive_at + part, pattern->period);
        data += part;
        size -= part;
        while (part >= connection->left) {
            part -= connection->left;
            on_answer(engine, connection);
        }
        connection->left -= (uint32_t)part;
    }
}

static void on_received(struct engine *engine, struct connection *connection, const struct io_uring_cqe *cqe)
{
    uint64_t answered = connection->answered;
    if (cqe->res > 0 && engine->options->churn) {
        verify(engine, connection, churn_memory(engine, connection), (size_t)cqe->res);
    } else if (cqe->res > 0) {
        uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        uint8_t *data = small_buffer(engine, id);
        verify(engine, connection, data, (size_t)cqe->res);
        io_uring_buf_ring_add(engine->buffers, data, SMALL_BUFFER, (unsigned short)id,
                              io_uring_buf_ring_mask(engine->small_buffers), 0);
        io_uring_buf_ring_advance(engine->buffers, 1);
    } else if (cqe->res == 0) {
        load_die("the server closed a connection");
    } else if (cqe->res != -ENOBUFS) {
        load_die("a receive failed: %s", strerror(-cqe->res));
    }
    bool over = engine->options->churn && connection->answered != answered;
    if (!(cqe->flags & IORING_CQE_F_MORE) && !over)
        arm_receive(engine, connection);
}

static void on_readable(struct engine *engine, struct connection *connection, const struct io_uring_cqe *cqe)
{
    ssize_t size;
    if (cqe->res < 0)
        load_die("a poll failed: %s", strerror(-cqe->res));
    do {
        size = recv(connection->fd, engine->memory, BIG_BUFFER, MSG_DONTWAIT);
        if (size == 0)
            load_die("the server closed a connection");
        if (size < 0 && errno != EAGAIN)
            load_die("a receive failed: %s", strerror(errno));
        if (size > 0)
            verify(engine, connection, engine->memory, (size_t)size);
    } while (size == BIG_BUFFER);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm_receive(engine, connection);
}

static void drain(struct engine *engine)
{
    struct io_uring_cqe *cqes[BATCH];
    unsigned count;
    while ((count = io_uring_peek_batch_cqe(&engine->ring, cqes, BATCH)) > 0) {
        engine->now = load_now();
        for (unsigned i = 0; i < count; i++) {
            struct connection *connection = &engine->connections[cqes[i]->user_data >> 2];
            switch ((enum kind)(cqes[i]->user_data & 3)) {
            case SEND:
                on_sent(engine, connection, cqes[i]->res);
                break;
            case RECEIVE:
                on_received(engine, connection, cqes[i]);
                break;
            case READABLE:
                on_readable(engine, connection, cqes[i]);
                break;
            case TICK:
                arm_tick(engine);
                break;
            }
        }
        io_uring_cq_advance(&engine->ring, count);
    }
}

/* Asks for what the schedule says is due. */
static void ask_due(struct engine *engine)
{
    const struct load_options *options = engine->options;
    engine->now = load_now();
    uint64_t due = (uint64_t)((double)(engine->now - engine->start) * (double)options->rate / 1e9) + 1;
    for (; engine->due < due; engine->due++)
        ask(engine, &engine->connections[engine->due % options->connections]);
}

static void turn(struct engine *engine)
{
    int error;
    if (engine->options->rate)
        ask_due(engine);
    flush(engine);
    if (!engine->options->rate)
        error = io_uring_submit_and_wait(&engine->ring, 1);
    else if (io_uring_sq_ready(&engine->ring))
        error = io_uring_submit_and_get_events(&engine->ring);
    else
        error = 0; /* the peek below enters when there is something to fetch */
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY)
        load_die("io_uring_enter: %s", strerror(-error));
    drain(engine);
}

static void set_up_churn(struct engine *engine)
{
    int error = io_uring_register_files_sparse(&engine->ring, engine->options->connections);
    if (error < 0)
        load_die("a table of files: %s", strerror(-error));
    for (uint32_t i = 0; i < ADDRESSES; i++)
        engine->addresses[i] = (struct sockaddr_in){.sin_family = AF_INET,
                                                    .sin_port = htons(engine->options->port),
                                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK + i)};
}

static void set_up_buffers(struct engine *engine)
{
    uint32_t count = 64;
    while (count < SMALL_BUFFERS && count < 2 * engine->options->connections)
        count *= 2;
    engine->small_buffers = count;
    engine->buffers = aligned_alloc(4096, SMALL_BUFFERS * sizeof(struct io_uring_buf));
    if (!engine->buffers)
        load_die("out of memory");
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)engine->buffers, .ring_entries = count, .bgid = GROUP};
    io_uring_buf_ring_init(engine->buffers);
    int error = io_uring_register_buf_ring(&engine->ring, &reg, 0);
    if (error < 0)
        load_die("a ring of buffers: %s", strerror(-error));
    for (uint32_t i = 0; i < count; i++)
        io_uring_buf_ring_add(engine->buffers, small_buffer(engine, i), SMALL_BUFFER, (unsigned short)i,
                              io_uring_buf_ring_mask(count), (int)i);
    io_uring_buf_ring_advance(engine->buffers, (int)count);
}

static void set_up_ring(struct engine *engine)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
        .cq_entries = COMPLETIONS,
    };
    int error = io_uring_queue_init_params(ENTRIES, &engine->ring, &params);
    if (error < 0)
        load_die("io_uring_setup: %s (the load generator needs Linux 6.1)", strerror(-error));
    io_uring_register_ring_fd(&engine->ring);
    size_t size = (size_t)SMALL_BUFFERS * (SMALL_BUFFER + STAGGER);
    if (engine->options->churn)
        size = (size_t)engine->options->connections * engine->room;
    else if (engine->large)
        size = BIG_BUFFER;
    engine->memory = pattern_memory(size);
    if (engine->options->churn)
        set_up_churn(engine);
    else if (!engine->large)
        set_up_buffers(engine);
}

/* Neighbours say different things, so that answers to the wrong connection are found; there are fewer patterns, and
 * shorter ones, when the frames are large, since all of it is to stay in the cache. */
static void set_up_patterns(struct engine *engine)
{
    static const uint32_t mix[] = {64, 64, 16, 256, 64, 1024, 100, 64, 4096, 64, 512, 64, 16, 65536, 64, 2000};
    const struct load_options *options = engine->options;
    uint32_t lengths[sizeof mix / sizeof mix[0]], count = sizeof mix / sizeof mix[0], kinds = LOAD_PATTERNS;
    memcpy(lengths, mix, sizeof mix);
    if (!options->mix) {
        count = options->size >= 1024 ? 1 : 8;
        kinds = options->size >= 4096 ? 2 : LOAD_PATTERNS;
        for (uint32_t i = 0; i < count; i++)
            lengths[i] = options->size;
    } else {
        kinds = 2;
    }
    engine->large = !options->churn && (options->mix || options->size >= LARGE);
    engine->room = PATTERN_HEADER + options->size + 64; /* and what was not asked for */
    for (uint32_t i = 0; i < kinds; i++)
        pattern_make(&engine->patterns[i], lengths, count, options->seed + (uint64_t)i * 7919);
    for (uint32_t i = 0; i < options->connections; i++) {
        engine->connections[i].pattern = &engine->patterns[i % kinds];
        engine->connections[i].left = engine->connections[i].pattern->frame[0];
        if (!options->rate)
            engine->connections[i].asked_at = calloc(options->depth, sizeof(uint64_t));
        if (!options->rate && !engine->connections[i].asked_at)
            load_die("out of memory");
    }
}

struct mark {
    uint64_t at, load_cpu, server_cpu, syscalls;
};

static uint64_t cpu_of(clockid_t clock)
{
    struct timespec used;
    if (clock_gettime(clock, &used) < 0)
        load_die("the CPU time of a process: %s", strerror(errno));
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static struct mark take_mark(const struct engine *engine, const struct load_syscalls *calls)
{
    struct mark mark = {.load_cpu = cpu_of(CLOCK_PROCESS_CPUTIME_ID), .at = load_now()};
    clockid_t server;
    if (engine->options->server) {
        if (clock_getcpuclockid(engine->options->server, &server) != 0)
            load_die("no process %d", (int)engine->options->server);
        mark.server_cpu = cpu_of(server);
    }
    mark.syscalls = load_syscalls_read(calls);
    return mark;
}

/* What is measured has an answer in it: on a busy machine a short time may pass without one, which says nothing of the
 * server. One that does not answer at all is found out. */
static bool is_over(const struct engine *engine, uint64_t end)
{
    return engine->now >= end && (!engine->measuring || engine->result->requests > 0);
}

static void run_until(struct engine *engine, uint64_t end)
{
    uint64_t said_at = engine->now, said = engine->answered;
    engine->progress_at = engine->now;
    for (engine->now = load_now(); !is_over(engine, end); engine->now = load_now()) {
        turn(engine);
        if (engine->now - engine->progress_at > STALL_NS && engine->now > engine->progress_at)
            load_die("no answer for 10 s");
        if (!engine->options->quiet && engine->now > said_at + 1000000000) {
            fprintf(stderr, "load: %.0f requests/s\n",
                    (double)(engine->answered - said) * 1e9 / (double)(engine->now - said_at));
            said_at = engine->now;
            said = engine->answered;
        }
    }
}

static void count_unanswered(struct engine *engine, uint64_t end)
{
    struct load_result *result = engine->result;
    for (uint32_t i = 0; i < engine->options->connections; i++) {
        struct connection *connection = &engine->connections[i];
        for (; connection->answered < connection->asked; connection->answered++, result->behind++) {
            uint64_t since = begun(engine, connection);
            histogram_record(&result->latency, end > since ? end - since : 0);
        }
    }
}

static void start(struct engine *engine)
{
    const struct load_options *options = engine->options;
    engine->now = load_now();
    arm_tick(engine);
    for (uint32_t i = 0; i < options->connections; i++)
        open_connection(engine, &engine->connections[i]);
    engine->start = engine->now = load_now();
    for (uint32_t i = 0; !options->rate && i < options->connections; i++) {
        for (uint32_t j = 0; j < (options->churn ? 1 : options->depth); j++)
            ask(engine, &engine->connections[i]);
    }
}

void load_run(const struct load_options *options, const struct load_syscalls *calls, struct load_result *ret_result)
{
    static struct engine engine;
    engine.options = options;
    engine.result = ret_result;
    engine.tick = (struct __kernel_timespec){.tv_nsec = (long long)TICK_NS};
    engine.connections = calloc(options->connections, sizeof engine.connections[0]);
    if (!engine.connections)
        load_die("out of memory");
    set_up_patterns(&engine);
    set_up_ring(&engine);
    start(&engine);
    run_until(&engine, load_now() + options->warmup_ns);
    struct mark before = take_mark(&engine, calls);
    engine.measuring = true;
    run_until(&engine, before.at + options->seconds_ns);
    struct mark after = take_mark(&engine, calls);
    count_unanswered(&engine, after.at);
    ret_result->elapsed_ns = after.at - before.at;
    ret_result->load_cpu_ns = after.load_cpu - before.load_cpu;
    ret_result->server_cpu_ns = after.server_cpu - before.server_cpu;
    ret_result->syscalls = calls->count ? (int64_t)(after.syscalls - before.syscalls) : -1;
}
