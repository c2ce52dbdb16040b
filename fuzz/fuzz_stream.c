/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: two streams, connected to each other in a simulated world, and a program that does anything to them that
 * is allowed, between steps of the world and in every callback.
 *
 * The first bytes say what kind of world it is; each of the others is a choice: of the program, of the network, of the
 * kernel. When they are used up nothing more is begun, no fault strikes, and both streams have to come to their end.
 *
 *      written --> tape of this end --> [ stream | network | stream ] --> the other end compares
 *
 * What must hold, whatever happens:
 *  - bytes received are the next ones of the tape;
 *  - a stream that ends by shutdown, LINGER or FLUSH shows an end of file only after the last byte of its tape, and any
 *    stream only after what it has answered as written;
 *  - each callback comes from a turn, when it may and as often as it may, each write is answered once, and `closed` comes;
 *  - nothing is left: descriptors, memory, slices (the world looks).
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <proactor/sim.h>
#include <proactor/stream.h>

#include "fuzz.h"

#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)

enum { ENDS = 2, WRITES = 8, TAPE = 1 << 19, MOST_ACTS = 600, MOST_ROUNDS = 4, HIGH = 3000, LOW = 900 };

/* How an input ends. AT_ONCE: the loop is freed with all that is in flight. */
enum { AT_ONCE = 1, POLITELY };

struct answer {
    struct pro_stream_write write;
    uint32_t size;
    bool due;
};

struct end {
    struct pro_stream *stream; /* memory of its own for each life, so that a sanitizer sees who comes too late */
    struct end *other;
    struct pro_slice *kept;
    enum pro_stream_ending ending; /* 0: not asked to end */
    enum pro_stream_ending last;   /* how it is to end if it has not by then */
    bool connecting, paused, shut, ended, broken;
    bool whole; /* its end of file is worth something */
    bool full;  /* it is owed `drained` */
    uint32_t written, answered, received;
    struct answer answers[WRITES];
    uint8_t tape[TAPE];
};

/* One input at a time; libFuzzer has one thread. */
static struct {
    struct pro_sim *sim;
    struct pro_loop *loop;
    struct pro_pool *pool;
    struct {
        struct pro_handle handle;
        struct pro_op close;
    } listeners[MOST_ROUNDS]; /* one for each connection, so that none takes another's */
    struct pro_op accept;
    struct sockaddr_in address;
    bool accepting, calling, calm;
    unsigned acts, rounds;
    uint32_t last;    /* how it ends */
    struct end *ends; /* two; not forgotten between inputs, as that takes time */
} run;
static struct end both[ENDS];

#define CHECK(condition, ...) ((condition) ? (void)0 : pro_sim_fail(run.sim, __VA_ARGS__))

static void act(void);

static uint32_t choose(uint32_t count)
{
    return pro_sim_choose(run.sim, count);
}

static unsigned number(const struct end *e)
{
    return (unsigned)(e - run.ends);
}

static struct end *end_of(const struct pro_stream *stream)
{
    struct end *e = run.ends[0].stream == stream ? &run.ends[0] : &run.ends[1];
    CHECK(e->stream == stream, "a callback of a stream that is gone");
    return e;
}

/* ---- Callbacks ---- */

static struct end *called(const struct pro_stream *stream, const char *what, int res)
{
    struct end *e = end_of(stream);
    pro_sim_note(run.sim, "end %u: %s %d", number(e), what, res);
    CHECK(!run.calling, "%s from within a call", what);
    return e;
}

/* What a program does in a callback: anything. It is part of a turn, not of a call. */
static void called_back(void)
{
    while (!run.calm && choose(4) == 1)
        act();
}

static void on_connected(struct pro_stream *stream, int error)
{
    struct end *e = called(stream, "connected", error);
    CHECK(e->connecting && !e->ending, "connected, and was not connecting");
    e->connecting = false;
    e->broken |= error < 0;
    called_back();
}

static void take(struct end *e, const uint8_t *data, uint32_t size)
{
    const struct end *from = e->other;
    CHECK(size <= from->written - e->received, "end %u is given more than was written", number(e));
    CHECK(memcmp(from->tape + e->received, data, size) == 0, "end %u is given other bytes", number(e));
    e->received += size;
}

static bool writes(const struct end *e)
{
    return e->stream && !e->ending && !e->shut && !e->broken;
}

static void write_slices(struct end *e, struct pro_slice *list)
{
    for (const struct pro_slice *slice = list; slice && writes(e); slice = slice->next) {
        memcpy(e->tape + e->written, slice->data, slice->size);
        e->written += slice->size;
    }
    pro_stream_write_slices(e->stream, list);
}

static bool fits(const struct end *e, uint64_t size)
{
    return e->stream && e->written + size <= TAPE;
}

static void on_data(struct pro_stream *stream, struct pro_slice *slice)
{
    struct end *e = called(stream, "data", (int)slice->size), *to = &run.ends[choose(ENDS)];
    CHECK(!e->paused && !e->ending && !e->ended && !e->connecting, "data that may not come");
    CHECK(slice->size > 0 && !slice->next, "a slice that is none");
    take(e, slice->data, slice->size);
    uint32_t what = run.calm ? 0 : choose(4);
    if (what == 1) {
        slice->next = e->kept;
        e->kept = slice;
    } else if (what == 2 && fits(to, slice->size)) {
        run.calling = true;
        write_slices(to, slice);
        to->full |= writes(to) && !pro_stream_writable(to->stream);
        run.calling = false;
    } else {
        pro_slice_return(slice);
    }
    called_back();
}

static void on_end(struct pro_stream *stream, int error)
{
    struct end *e = called(stream, "end", error);
    const struct end *from = e->other;
    CHECK(!e->paused && !e->ending && !e->ended && !e->connecting, "an end that may not come");
    CHECK(error <= 0, "an end with %d", error);
    e->ended = true;
    if (error == 0) {
        CHECK(e->received >= from->answered, "end of file, and written bytes are missing");
        CHECK(!from->whole || e->received == from->written, "end of file after %u of %u bytes", e->received,
              from->written);
    }
    called_back();
}

static void on_drained(struct pro_stream *stream)
{
    struct end *e = called(stream, "drained", 0);
    CHECK(e->full && !e->ending && pro_stream_queued(stream) <= LOW, "drained, and it is not");
    e->full = false;
    called_back();
}

static void on_broken(struct pro_stream *stream, int error)
{
    struct end *e = called(stream, "broken", error);
    CHECK(!e->broken && !e->ending && error < 0 && pro_stream_queued(stream) == 0, "broken, and it may not be");
    e->broken = true;
    e->full = false;
    called_back();
}

static void on_written(struct pro_stream *stream, struct pro_stream_write *write, int res)
{
    struct end *e = called(stream, "written", res);
    struct answer *a = (struct answer *)(void *)write;
    CHECK(a->due, "a write is answered twice");
    CHECK(res < 0 || (uint32_t)res == a->size, "a write is answered with %d of %u", res, a->size);
    a->due = false;
    e->answered += res < 0 ? 0 : a->size;
    called_back();
}

static void on_closed(struct pro_stream *stream, int error)
{
    struct end *e = called(stream, "closed", error);
    CHECK(e->ending, "closed, and nobody asked for it");
    CHECK(error <= 0, "closed with %d", error);
    for (unsigned i = 0; i < WRITES; i++)
        CHECK(!e->answers[i].due, "closed, and a write is not answered");
    e->stream = NULL;
    free(stream);
    called_back();
}

static const struct pro_stream_config no_config = {
    .high = HIGH,
    .low = LOW,
    .linger_ns = SECOND,
    .linger_bytes = 20000,
    .connected = on_connected,
    .data = on_data,
    .end = on_end,
    .drained = on_drained,
    .broken = on_broken,
    .closed = on_closed,
};
static struct pro_stream_config config;

/* ---- Connections ---- */

static struct pro_stream *new_life(struct end *e)
{
    e->stream = calloc(1, sizeof *e->stream);
    if (!e->stream)
        abort();
    e->ending = 0;
    e->connecting = e->paused = e->shut = e->ended = e->broken = e->whole = e->full = false;
    e->written = e->answered = e->received = 0;
    return e->stream;
}

static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    run.accepting = false;
    CHECK(!run.calling, "a continuation from within a call");
    if (r.res < 0)
        return;
    if (run.calm) {
        pro_discard(loop, r.res);
        return;
    }
    pro_stream_open(new_life(&run.ends[1]), loop, r.res, &config);
    called_back();
}

static void on_listener_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
}

static void connect_ends(void)
{
    struct end *e = &run.ends[0];
    struct pro_handle *listener = &run.listeners[run.rounds - 1].handle;
    const struct sockaddr *address = (const struct sockaddr *)&run.address;
    run.address.sin_port = htons((uint16_t)(6789 + run.rounds));
    if (pro_listen(run.loop, listener, address, sizeof run.address, 4, 0) < 0)
        return;
    uint64_t deadline = choose(4) == 1 ? pro_now(run.loop) + choose(20) * MILLISECOND : 0;
    if (pro_stream_connect(new_life(e), run.loop, address, sizeof run.address, deadline, &config) < 0) {
        free(e->stream);
        e->stream = NULL;
        return;
    }
    e->connecting = true;
    e->other->received = e->other->written = 0;
    e->other->whole = false;
    run.accepting = true;
    pro_accept(listener, &run.accept, on_accept);
}

static void join_ends(void)
{
    int fds[ENDS];
    if (pro_sim_pair(run.sim, fds) < 0)
        abort();
    for (unsigned i = 0; i < ENDS; i++)
        pro_stream_open(new_life(&run.ends[i]), run.loop, fds[i], &config);
}

static void begin_round(void)
{
    if (run.ends[0].stream || run.ends[1].stream || run.accepting || run.rounds == MOST_ROUNDS)
        return;
    run.rounds++;
    if (choose(3) == 1)
        connect_ends();
    else
        join_ends();
}

/* ---- What a program does ---- */

static void write_own(struct end *e)
{
    static const uint32_t most[] = {5000, 60, 60, 60000};
    uint32_t kind = choose(16), size = 1 + choose(most[kind < 4 ? kind : 1]) * (kind == 3 ? 5 : 1);
    struct answer *a = e->answers;
    while (a < e->answers + WRITES && a->due)
        a++;
    if (a == e->answers + WRITES || !fits(e, size))
        return;
    bool kept = writes(e);
    uint8_t *bytes = e->tape + e->written; /* stays until it is answered */
    if (kept) {
        for (uint32_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)((e->written + i) * 167 + number(e) + run.rounds);
        e->written += size;
    }
    a->size = size;
    a->due = true;
    pro_stream_write(e->stream, &a->write, bytes, size, on_written);
}

static void try_write(struct end *e)
{
    uint8_t bytes[600];
    uint32_t size = 1 + choose(sizeof bytes);
    if (!fits(e, size))
        return;
    memset(bytes, (int)(run.acts + size), sizeof bytes);
    bool may = writes(e);
    int n = pro_stream_try_write(e->stream, bytes, size);
    CHECK(n != 0 && n <= (int)size, "try_write says %d", n);
    CHECK(may || n == -EPIPE, "try_write says %d where a write would be dropped", n);
    CHECK(!e->connecting || n < 0, "try_write sends before it is connected");
    if (n > 0) {
        memcpy(e->tape + e->written, bytes, (size_t)n);
        e->written += (uint32_t)n;
    }
}

static void return_kept(struct end *e)
{
    pro_slice_return_list(e->kept);
    e->kept = NULL;
}

static void write_kept(struct end *e)
{
    struct pro_slice *list = e->other->kept;
    uint64_t size = 0;
    for (const struct pro_slice *slice = list; slice; slice = slice->next)
        size += slice->size;
    if (!list || !fits(e, size))
        return;
    e->other->kept = NULL;
    write_slices(e, list);
}

static void close_end(struct end *e, enum pro_stream_ending ending)
{
    bool gentle = ending == PRO_STREAM_LINGER || ending == PRO_STREAM_FLUSH;
    e->whole = gentle && (e->whole || !e->ending);
    if (ending > e->ending)
        e->ending = ending;
    pro_stream_close(e->stream, ending);
}

static void shut(struct end *e)
{
    if (writes(e)) {
        e->whole = true;
        e->shut = true;
    }
    pro_stream_shutdown(e->stream);
}

static void pause_or_resume(struct end *e)
{
    e->paused = !e->paused;
    if (e->paused)
        pro_stream_pause(e->stream);
    else
        pro_stream_resume(e->stream);
}

/* One call, or none. Also from callbacks. */
static void act(void)
{
    struct end *e = &run.ends[choose(ENDS)];
    bool calling = run.calling;
    if (run.calm || run.acts++ > MOST_ACTS)
        return;
    if (!e->stream) {
        run.calling = true;
        begin_round();
        run.calling = calling;
        return;
    }
    run.calling = true;
    switch (choose(12)) {
    case 0:
    case 1:
    case 2:
        write_own(e);
        break;
    case 3:
        try_write(e);
        break;
    case 4:
        write_kept(e);
        break;
    case 5:
        return_kept(e);
        break;
    case 6:
    case 7:
        pause_or_resume(e);
        break;
    case 8:
        pro_stream_read_deadline(e->stream, choose(3) ? pro_now(run.loop) + choose(50) * MILLISECOND : 0);
        break;
    case 9:
        shut(e);
        break;
    case 10:
        close_end(e, 1 + choose(4));
        break;
    case 11:
        CHECK(pro_stream_writable(e->stream) == (pro_stream_queued(e->stream) < HIGH), "writable or not");
        break;
    }
    e->full |= e->stream && writes(e) && !pro_stream_writable(e->stream);
    run.calling = calling;
}

/* ---- One input ---- */

static void make_world(const uint8_t *data, size_t size)
{
    struct pro_sim_config world = PRO_SIM_CONFIG_INIT;
    struct pro_config loop = PRO_CONFIG_INIT;
    struct pro_pool_config pool = PRO_POOL_CONFIG_INIT;
    uint8_t kind = size > 0 ? data[0] : 0, mood = size > 1 ? data[1] : 0, last = size > 2 ? data[2] : 0;
    world.front = PRO_SIM_BYTES;
    world.bytes = size > 3 ? data + 3 : NULL;
    world.byte_count = size > 3 ? size - 3 : 0;
    world.socket_buffer = 512u << (kind & 3);
    world.latency_ns = (kind >> 2 & 3) * UINT64_C(200000);
    world.jitter_ns = (kind >> 4 & 1) * UINT64_C(700000);
    if (mood & 1)
        pro_sim_faults(&world, 256);
    world.rates[(mood >> 1) % PRO_SIM_CLOCK] = (uint16_t)(mood >> 1 > 0 ? 16384 : 0);
    world.rates[PRO_SIM_ALLOCATION] = world.rates[PRO_SIM_NO_BACKEND] = 0; /* the program has to have its loop */
    memset(&run, 0, sizeof run);
    run.ends = both;
    run.last = last & 3;
    for (unsigned i = 0; i < ENDS; i++) {
        both[i].last = 1 + (last >> (2 + 2 * i) & 3);
        both[i].other = &both[1 - i];
        both[i].stream = NULL;
        both[i].kept = NULL;
        memset(both[i].answers, 0, sizeof both[i].answers);
    }
    config = no_config;
    config.write_timeout_ns = (kind >> 5 & 1) * SECOND;
    run.address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(6789)};
    REQUIRE(pro_sim_new(&world, &run.sim) == 0);
    loop.backend = PRO_BACKEND_SIM;
    loop.sim = run.sim;
    loop.allocator = pro_sim_allocator(run.sim);
    loop.turn_completions = kind >> 6 & 1 ? 3 : 0;
    REQUIRE(pro_loop_new(&loop, &run.loop) == 0);
    pool.buffer_size = 256u << (kind >> 7 & 1) * 3;
    pool.slab_buffers = 2;
    pool.max_buffers = 6;
    pool.quota_buffers = 2;
    REQUIRE(pro_pool_new(run.loop, &pool, &run.pool) == 0);
    config.pool = mood == 255 ? NULL : run.pool;
}

static bool bytes_left(uint32_t idle)
{
    return run.acts < MOST_ACTS && idle < 40;
}

static void play(void)
{
    for (uint32_t idle = 0; bytes_left(idle); idle++) { /* a 0 does nothing */
        uint32_t what = choose(8);
        if (what > 0)
            idle = 0;
        if (what == 7)
            pro_sim_run(run.sim, pro_sim_now(run.sim) + choose(100) * MILLISECOND);
        else if (what >= 4)
            act();
        else
            pro_sim_step(run.sim, 1 + what * 3);
    }
}

/* Both end, as they choose: and at once where both have much to say and nobody listens, as there is no limit then. */
static void end_both(void)
{
    for (unsigned i = 0; i < ENDS; i++) {
        struct end *e = &run.ends[i];
        return_kept(e);
        if (e->stream)
            close_end(e, e->ending ? e->ending : e->last);
    }
    for (unsigned i = 0; i < MOST_ROUNDS; i++) /* what waits in a backlog is reset */
        if (run.listeners[i].handle.loop)
            pro_close(&run.listeners[i].handle, &run.listeners[i].close, on_listener_closed);
}

/* One end lingers, the other listens until it sees the end of file and closes then: neither has to wait for its limits. */
static void end_politely(void)
{
    struct end *lingers = &run.ends[0], *listens = &run.ends[1];
    return_kept(lingers);
    return_kept(listens);
    if (!lingers->stream || !listens->stream || lingers->ending || listens->ending || lingers->broken ||
        lingers->connecting || listens->ended || listens->broken || lingers->ended ||
        pro_stream_queued(lingers->stream) + pro_stream_queued(listens->stream) > 0)
        return;
    if (listens->paused)
        pause_or_resume(listens);
    pro_stream_read_deadline(listens->stream, 0);
    close_end(lingers, PRO_STREAM_LINGER);
    pro_sim_run(run.sim, pro_sim_now(run.sim) + SECOND / 2);
    CHECK(listens->ended, "the other end was not shown the end of file");
    close_end(listens, PRO_STREAM_FLUSH);
    pro_sim_run(run.sim, pro_sim_now(run.sim) + SECOND / 4);
    CHECK(!lingers->stream && !listens->stream, "a stream lingers without a reason");
}

static void finish(void)
{
    run.calm = true;
    pro_sim_calm(run.sim);
    pro_sim_run(run.sim, pro_sim_now(run.sim) + run.last * SECOND);
    if (run.last == POLITELY && config.pool)
        end_politely();
    end_both();
    if (run.last != AT_ONCE) {
        pro_sim_run(run.sim, pro_sim_now(run.sim) + 100 * SECOND);
        for (unsigned i = 0; i < ENDS; i++)
            if (run.ends[i].stream)
                close_end(&run.ends[i], PRO_STREAM_NOW);
        CHECK(pro_sim_run(run.sim, pro_sim_now(run.sim) + SECOND) == 0, "it goes on and on");
        CHECK(!run.ends[0].stream && !run.ends[1].stream, "a stream does not close");
    }
    pro_loop_free(run.loop);
    CHECK(!run.ends[0].stream && !run.ends[1].stream, "the loop is gone, and a stream was not closed");
    pro_pool_free(run.pool);
    pro_sim_free(run.sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    make_world(data, size);
    play();
    finish();
    return 0;
}
