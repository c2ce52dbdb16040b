/* SPDX-License-Identifier: MIT
 *
 * Streams: order, marks, pause, deadlines and every way to end, over socketpairs and TCP.
 *
 * A `side` is a stream with a memory: it counts its callbacks and fails the test when one comes that may not (data
 * while paused, anything but `closed` and answers after a close, anything outside pro_run, anything after `closed`).
 * The far end is mostly a plain descriptor, read and written between turns that do not wait.
 */
#include "harness.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <proactor/stream.h>

#define MS UINT64_C(1000000)

enum kind { UNIX, TCP, KINDS };
enum event { CONNECTED, DATA, END, DRAINED, BROKEN, WRITTEN, CLOSED, EVENTS };

struct side {
    struct pro_stream *stream; /* memory of its own, freed in `closed` */
    struct pro_stream_config config;
    struct world *w;
    struct side *link; /* for `side_of` */
    int far;
    unsigned count[EVENTS];
    int error[EVENTS]; /* of the last */
    unsigned requests, ok, failed, cancelled;
    bool paused, closing, keep;
    uint64_t received;      /* bytes, which follow the pattern when `check` is set */
    bool check;
    uint64_t written_at;    /* the pattern's position of what is written next */
    struct pro_slice *head, *tail; /* kept */
    uint8_t *got;           /* what the far end has read */
    size_t got_size, got_room;
    int far_error;          /* 0: end of file; 1: not yet */
    void (*act)(struct side *side, enum event event);
    int choice;             /* for `act` */
    uint64_t random;
};

/* A stream in memory of its own, so that ASAN sees a touch after `closed`. */
struct holder {
    struct pro_stream stream;
    struct side *side;
};

static struct side *side_of(struct pro_stream *stream)
{
    return PRO_CONTAINER_OF(stream, struct holder, stream)->side;
}

static uint32_t draw(struct side *side, uint32_t below)
{
    side->random ^= side->random << 13;
    side->random ^= side->random >> 7;
    side->random ^= side->random << 17;
    return (uint32_t)((side->random * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

/* ------------------------------------------------------------------------------------------------------------
 * Callbacks
 * ------------------------------------------------------------------------------------------------------------ */

static struct side *called(struct pro_stream *stream, enum event event, int error)
{
    struct side *side = side_of(stream);
    assert_true(side->w->running > 0);
    assert_int_equal(side->count[CLOSED], 0);
    if (side->closing)
        assert_true(event == CLOSED || event == WRITTEN);
    if (side->paused)
        assert_true(event != DATA && event != END);
    if (side->count[END])
        assert_true(event != DATA && event != END);
    if (side->count[BROKEN])
        assert_true(event != BROKEN && event != DRAINED);
    side->count[event]++;
    side->error[event] = error;
    return side;
}

static void act(struct side *side, enum event event)
{
    if (side->act)
        side->act(side, event);
}

static void on_connected(struct pro_stream *stream, int error)
{
    struct side *side = called(stream, CONNECTED, error);
    act(side, CONNECTED);
}

static void on_data(struct pro_stream *stream, struct pro_slice *slice)
{
    struct side *side = called(stream, DATA, 0);
    assert_null(slice->next);
    assert_true(slice->size > 0);
    if (side->check)
        assert_true(pattern_holds(slice->data, slice->size, side->received));
    side->received += slice->size;
    if (!side->keep) {
        pro_slice_return(slice);
    } else {
        if (side->tail)
            side->tail->next = slice;
        else
            side->head = slice;
        side->tail = slice;
    }
    act(side, DATA);
}

static void on_end(struct pro_stream *stream, int error)
{
    struct side *side = called(stream, END, error);
    act(side, END);
}

static void on_drained(struct pro_stream *stream)
{
    struct side *side = called(stream, DRAINED, 0);
    uint32_t high = side->config.high ? side->config.high : 1 << 20;
    assert_true(pro_stream_queued(stream) <= (side->config.low ? side->config.low : high / 4));
    act(side, DRAINED);
}

static void on_broken(struct pro_stream *stream, int error)
{
    struct side *side = called(stream, BROKEN, error);
    assert_true(error < 0);
    act(side, BROKEN);
}

static void on_closed(struct pro_stream *stream, int error)
{
    struct side *side = called(stream, CLOSED, error);
    static const struct pro_stream closed;
    assert_memory_equal(stream, &closed, sizeof closed);
    assert_true(side->closing);
    assert_int_equal(side->requests, side->ok + side->failed + side->cancelled);
    free(PRO_CONTAINER_OF(stream, struct holder, stream));
    side->stream = NULL;
    act(side, CLOSED);
}

/* A write of the pattern, in memory of its own that is freed when it is answered. */
struct request {
    struct pro_stream_write write;
    struct side *side;
    uint32_t size;
    uint8_t data[];
};

static void on_written(struct pro_stream *stream, struct pro_stream_write *write, int res)
{
    struct side *side = called(stream, WRITTEN, res);
    struct request *request = PRO_CONTAINER_OF(write, struct request, write);
    assert_ptr_equal(request->side, side);
    assert_true(res < 0 || (uint32_t)res == request->size);
    side->ok += res > 0;
    side->failed += res < 0 && res != -ECANCELED;
    side->cancelled += res == -ECANCELED;
    free(request);
    act(side, WRITTEN);
}

/* ------------------------------------------------------------------------------------------------------------
 * Sides
 * ------------------------------------------------------------------------------------------------------------ */

static struct side *side_new(struct world *w, struct pro_pool *pool)
{
    struct side *side = world_alloc(w, sizeof *side);
    struct holder *holder = calloc(1, sizeof *holder);
    assert_non_null(holder);
    holder->side = side;
    side->stream = &holder->stream;
    side->w = w;
    side->far = -1;
    side->far_error = 1;
    side->random = 88172645463325252;
    side->config = (struct pro_stream_config){.pool = pool,
                                              .connected = on_connected,
                                              .data = on_data,
                                              .end = on_end,
                                              .drained = on_drained,
                                              .broken = on_broken,
                                              .closed = on_closed};
    return side;
}

static void side_open(struct side *side, enum kind kind)
{
    int fds[2];
    if (kind == UNIX)
        unix_pair(fds);
    else
        tcp_pair(fds);
    side->far = world_own(side->w, fds[1]);
    pro_stream_open(side->stream, side->w->loop, fds[0], &side->config);
}

/* The same with little room between the two ends. (With the least TCP allows, it would wait for its timers.) */
static void side_open_narrow(struct side *side, enum kind kind)
{
    int room = kind == TCP ? 65536 : 1;
    side_open(side, kind);
    for (int name = SO_SNDBUF; name <= SO_RCVBUF; name++) {
        assert_int_equal(setsockopt(side->far, SOL_SOCKET, name, &room, sizeof room), 0);
        assert_int_equal(pro_option_set(&side->stream->handle, SOL_SOCKET, name, &room, sizeof room), 0);
    }
}
_Static_assert(SO_RCVBUF == SO_SNDBUF + 1, "neighbours");

static void side_pause(struct side *side)
{
    pro_stream_pause(side->stream);
    side->paused = true;
}

static void side_resume(struct side *side)
{
    side->paused = false;
    pro_stream_resume(side->stream);
}

static void side_end(struct side *side, enum pro_stream_ending ending)
{
    side->closing = true;
    pro_stream_close(side->stream, ending);
}

static struct request *side_write(struct side *side, uint32_t size)
{
    struct request *request = malloc(sizeof *request + size);
    assert_non_null(request);
    request->side = side;
    request->size = size;
    pattern_fill(request->data, size, side->written_at);
    side->written_at += size;
    side->requests++;
    pro_stream_write(side->stream, &request->write, request->data, size, on_written);
    return request;
}

static struct pro_slice *side_take(struct side *side)
{
    struct pro_slice *slice = side->head;
    assert_non_null(slice);
    side->head = slice->next;
    if (!side->head)
        side->tail = NULL;
    slice->next = NULL;
    return slice;
}

static void side_drop(struct side *side)
{
    pro_slice_return_list(side->head);
    side->head = side->tail = NULL;
}

/* Writes slices over with the pattern, and writes them. */
static void side_forward(struct side *side, struct pro_slice *list)
{
    for (struct pro_slice *slice = list; slice; slice = slice->next) {
        pattern_fill(slice->data, slice->size, side->written_at);
        side->written_at += slice->size;
    }
    pro_stream_write_slices(side->stream, list);
}

/* Reads at most `most` bytes of what is there at the far end. */
static void far_read(struct side *side, size_t most)
{
    while (most > 0 && side->far >= 0 && side->far_error == 1) {
        if (side->got_room < side->got_size + 65536) {
            side->got_room = side->got_size * 2 + 65536;
            side->got = realloc(side->got, side->got_room);
            assert_non_null(side->got);
        }
        int n = read_now(side->far, side->got + side->got_size, most < 65536 ? most : 65536);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            side->far_error = n;
            return;
        }
        side->got_size += (size_t)n;
        most -= (size_t)n;
    }
}

/* Writes the pattern at the far end, as much as fits, from position *at up to `end`. */
static void far_write(struct side *side, uint64_t *at, uint64_t end, size_t most)
{
    uint8_t data[4096];
    while (*at < end && most > 0) {
        size_t n = end - *at < sizeof data ? (size_t)(end - *at) : sizeof data;
        n = n < most ? n : most;
        pattern_fill(data, n, *at);
        ssize_t moved = send(side->far, data, n, MSG_NOSIGNAL);
        if (moved < 0) {
            assert_int_equal(errno, EAGAIN);
            return;
        }
        *at += (uint64_t)moved;
        most -= (size_t)moved;
    }
}

static void far_reset(struct side *side)
{
    struct linger none = {1, 0};
    assert_int_equal(setsockopt(side->far, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    world_close(side->w, side->far);
    side->far = -1;
}

static void far_close(struct side *side)
{
    world_close(side->w, side->far);
    side->far = -1;
}

/* Turns that do not wait, with the far end reading up to `most` bytes a turn, until `condition` holds. */
#define READ_UNTIL(side, most, condition)                                                                              \
    do {                                                                                                               \
        for (unsigned turns_ = 0; !(condition); turns_++)                                                              \
            read_step((side), (most), turns_, #condition, __LINE__);                                                   \
    } while (0)

static void read_step(struct side *side, size_t most, unsigned turn, const char *condition, int line)
{
    if (turn == 20000) {
        print_error("line %d: still not so: %s; far end: %zu bytes, error %d; received %llu\n", line, condition,
                    side->got_size, side->far_error, (unsigned long long)side->received);
        for (enum event event = 0; event < EVENTS; event++)
            print_error("    event %d: %u times, last error %d\n", event, side->count[event], side->error[event]);
        assert_true(turn < 20000);
    }
    world_turns(side->w, 1);
    far_read(side, most);
    if (turn > 100)
        poll(NULL, 0, 1);
}

static void side_done(struct side *side)
{
    READ_UNTIL(side, SIZE_MAX, side->count[CLOSED]);
    assert_int_equal(side->count[CLOSED], 1);
    side_drop(side);
    free(side->got);
    side->got = NULL;
    if (side->far >= 0)
        far_close(side);
}

/* Ends a side of which nothing more is to be seen. */
static void side_finish(struct side *side)
{
    side_end(side, PRO_STREAM_NOW);
    side_done(side);
}

static void assert_pool_idle(struct pro_pool *pool)
{
    struct pro_pool_stats stats;
    pro_pool_stats(pool, &stats, sizeof stats);
    assert_int_equal(stats.slices_lent, 0);
    assert_int_equal(stats.buffers_lent, 0);
}

static bool far_has_pattern(const struct side *side)
{
    return pattern_holds(side->got, side->got_size, 0);
}

/* Has the far end send `size` bytes, one slice of which the side keeps. */
static void side_collect(struct side *side, size_t size)
{
    static uint8_t data[1 << 20];
    uint64_t goal = side->received + size;
    assert_true(size <= sizeof data);
    side->keep = true;
    for (size_t at = 0; side->received < goal;) {
        ssize_t moved = at < size ? write(side->far, data + at, size - at) : 0;
        at += moved > 0 ? (size_t)moved : 0;
        world_turns(side->w, 1);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------------------------------------------ */

static void writes_when_slices_and_bytes_are_mixed_arrive_in_order(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 4096;
    struct pro_pool *pool = world_pool(w, &config);
    for (unsigned seed = 1; seed <= stress(40); seed++) {
        struct side *side = side_new(w, pool);
        side->random *= seed;
        if (seed % 3)
            side_open(side, seed % KINDS);
        else
            side_open_narrow(side, seed % KINDS);
        for (unsigned i = 0; i < 30; i++)
            side_collect(side, 1 + draw(side, i % 7 ? 200 : 6000));
        while (side->head) {
            struct pro_slice *slice = side_take(side), *tail;
            if (slice->size > 1 && draw(side, 2) && pro_slice_split(slice, 1 + draw(side, slice->size - 1), &tail) == 0)
                slice->next = tail;
            side_forward(side, slice);
            while (draw(side, 2))
                side_write(side, 1 + draw(side, draw(side, 8) ? 3000 : 600000));
            if (draw(side, 4) == 0) {
                world_turns(w, 1);
                far_read(side, draw(side, 10000));
            }
        }
        READ_UNTIL(side, SIZE_MAX, side->got_size == side->written_at && pro_stream_queued(side->stream) == 0);
        assert_true(far_has_pattern(side));
        assert_int_equal(side->ok, side->requests);
        side_finish(side);
        assert_pool_idle(pool);
    }
}

static void slices_when_empty_are_returned(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct side *side = side_new(w, pool);
    side_open(side, UNIX);
    side_collect(side, 10);
    struct pro_slice *slice = side_take(side);
    slice->size = 0;
    pro_stream_write_slices(side->stream, slice);
    pro_stream_write_slices(side->stream, NULL);
    assert_int_equal(pro_stream_queued(side->stream), 0);
    assert_pool_idle(pool);
    side_finish(side);
}

static void queued_when_slices_share_a_buffer_counts_it_once(void **state)
{
    struct world *w = *state;
    enum { BUFFER = 65536, BLOCK = 2000000 };
    struct pro_pool *pool = world_pool(w, NULL);
    struct side *side = side_new(w, pool);
    side_open(side, UNIX);
    side_collect(side, 30000);
    struct pro_slice *a = side_take(side), *b, *c;
    side_collect(side, 30000);
    struct pro_slice *other = side_take(side), *rest;
    assert_null(side->head);
    assert_int_equal(pro_slice_split(a, 10000, &b), 0);
    assert_int_equal(pro_slice_split(b, 10000, &c), 0);
    assert_int_equal(pro_slice_split(other, 7, &rest), 0);
    uint32_t sum = 0;
    side_write(side, BLOCK);
    world_turns(w, 3);
    assert_int_equal(pro_stream_queued(side->stream), sum += BLOCK);
    side_forward(side, a);
    assert_int_equal(pro_stream_queued(side->stream), sum += BUFFER);
    side_forward(side, b);
    assert_int_equal(pro_stream_queued(side->stream), sum);
    other->next = c; /* other, c: c has another neighbour now */
    side_forward(side, other);
    assert_int_equal(pro_stream_queued(side->stream), sum += 2 * BUFFER);
    side_write(side, 100);
    assert_int_equal(pro_stream_queued(side->stream), sum += 100);
    side_forward(side, rest); /* a write stands between it and its buffer */
    assert_int_equal(pro_stream_queued(side->stream), sum += BUFFER);
    READ_UNTIL(side, SIZE_MAX, side->got_size == side->written_at && pro_stream_queued(side->stream) == 0);
    assert_true(far_has_pattern(side));
    side_finish(side);
    assert_pool_idle(pool);
}

/* Four slices of one large buffer, too large for one run: the buffer is counted until the last of them is sent. */
static void queued_when_a_buffer_is_sent_in_runs_counts_it_to_the_last(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    enum { BUFFER = 1 << 20, PART = 200000 };
    config.buffer_size = BUFFER;
    config.slab_buffers = 1;
    struct pro_pool *pool = world_pool(w, &config);
    struct side *side = side_new(w, pool);
    side_open(side, UNIX);
    uint64_t at = 0;
    side->keep = true;
    while (at < 2 * PART) { /* small ones first, so that they are gathered in one buffer */
        far_write(side, &at, 2 * PART, SIZE_MAX);
        world_turns(w, 1);
    }
    READ_UNTIL(side, 0, side->received == 2 * PART);
    unsigned slices = 0, buffers = 0;
    struct pro_slice *last = NULL;
    for (struct pro_slice *slice = side->head; slice; last = slice, slice = slice->next) {
        slices++;
        buffers += !last || !pro_slice_shares(last, slice);
    }
    struct pro_slice *head = side->head;
    side->head = side->tail = NULL;
    side_forward(side, head);
    assert_int_equal(pro_stream_queued(side->stream), buffers * BUFFER);
    uint64_t goal = side->written_at;
    READ_UNTIL(side, 50000, side->got_size == goal);
    READ_UNTIL(side, 0, pro_stream_queued(side->stream) == 0);
    assert_true(far_has_pattern(side));

    side_collect(side, 1000); /* one slice, cut in many, over several runs by writes between them */
    struct pro_slice *part = side_take(side);
    side_write(side, 3000000);
    world_turns(w, 3);
    for (unsigned i = 0; i < 4; i++) {
        struct pro_slice *tail = NULL;
        if (i < 3)
            assert_int_equal(pro_slice_split(part, 100, &tail), 0);
        side_forward(side, part);
        part = tail;
        assert_int_equal(pro_stream_queued(side->stream), 3000000 + BUFFER);
    }
    goal = side->written_at;
    READ_UNTIL(side, SIZE_MAX, side->got_size == goal && pro_stream_queued(side->stream) == 0);
    assert_true(far_has_pattern(side));
    side_finish(side);
    assert_pool_idle(pool);
}

/* The run ends inside a chain of slices that share: what is left of the chain takes the charge over. */
static void queued_when_a_run_ends_inside_a_buffer_moves_the_charge(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    enum { BUFFER = 1 << 20, PART = 180000 };
    config.buffer_size = BUFFER;
    config.slab_buffers = 1;
    struct pro_pool *pool = world_pool(w, &config);
    struct side *side = side_new(w, pool);
    side_open(side, TCP);
    uint8_t *data = world_alloc(w, 3 * PART);
    int large = 4 * PART;
    assert_int_equal(pro_option_set(&side->stream->handle, SOL_SOCKET, SO_RCVBUF, &large, sizeof large), 0);
    struct pro_slice *whole = NULL;
    side->keep = true;
    side_pause(side);
    world_turns(w, 3);
    for (size_t sent = 0; sent < 3 * PART;) {
        ssize_t moved = write(side->far, data + sent, 3 * PART - sent);
        sent += moved > 0 ? (size_t)moved : 0;
        if (moved < 0)
            break;
    }
    side_resume(side);
    READ_UNTIL(side, 0, side->received > 2 * PART + 10);
    whole = side_take(side);
    if (whole->size <= 2 * PART) { /* the kernel gave it in pieces: nothing to be seen here */
        pro_slice_return(whole);
        side_finish(side);
        skip();
    }
    struct pro_slice *middle, *last;
    assert_int_equal(pro_slice_split(whole, PART, &middle), 0);
    assert_int_equal(pro_slice_split(middle, PART, &last), 0);
    whole->next = middle;
    middle->next = last;
    int least = 1;
    assert_int_equal(setsockopt(side->far, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), 0);
    assert_int_equal(pro_option_set(&side->stream->handle, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    side_drop(side);
    side_forward(side, whole);
    while (side->got_size < 2 * PART + 1) {
        assert_int_equal(pro_stream_queued(side->stream), BUFFER);
        world_turns(w, 1);
        far_read(side, 20000);
    }
    READ_UNTIL(side, SIZE_MAX, pro_stream_queued(side->stream) == 0);
    side_finish(side);
    assert_pool_idle(pool);
}

static void queued_when_a_write_is_larger_than_a_send_counts_it_to_the_end(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    enum { SIZE = 1000000 };
    side_open(side, UNIX);
    side_write(side, SIZE);
    while (side->count[WRITTEN] == 0) {
        assert_int_equal(pro_stream_queued(side->stream), SIZE);
        world_turns(w, 1);
        far_read(side, 30000);
    }
    assert_int_equal(side->error[WRITTEN], SIZE);
    assert_int_equal(pro_stream_queued(side->stream), 0);
    side_finish(side);
}

static void drained_when_the_queue_falls_to_low_is_told_once(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned at_low = 0; at_low < 2; at_low++) {
        struct side *side = side_new(w, pool);
        side->config.high = 100000;
        side->config.low = at_low ? 40000 : 39999;
        side_open(side, UNIX);
        side_write(side, 60000);
        assert_true(pro_stream_writable(side->stream));
        side_write(side, 39999);
        assert_true(pro_stream_writable(side->stream));
        READ_UNTIL(side, SIZE_MAX, side->ok == 2);
        world_turns(w, 3);
        assert_int_equal(side->count[DRAINED], 0); /* it never was full */
        side_write(side, 60000);
        side_write(side, 40000);
        assert_false(pro_stream_writable(side->stream));
        READ_UNTIL(side, SIZE_MAX, side->ok == 3);
        assert_true(pro_stream_writable(side->stream));
        assert_int_equal(side->count[DRAINED], at_low);
        READ_UNTIL(side, SIZE_MAX, side->ok == 4);
        world_turns(w, 3);
        assert_int_equal(side->count[DRAINED], 1);
        side_finish(side);
    }
}

static void try_write_when_nothing_is_queued_sends_at_once(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    uint8_t data[1000];
    side_open_narrow(side, UNIX);
    uint64_t at = 0;
    for (int n; (pattern_fill(data, sizeof data, at), n = pro_stream_try_write(side->stream, data, sizeof data)) != -EAGAIN;
         at += (uint64_t)n)
        assert_in_range(n, 1, sizeof data);
    assert_true(at > 0);
    side->written_at = at;
    side_write(side, 5);
    far_read(side, SIZE_MAX);
    assert_int_equal(pro_stream_try_write(side->stream, data, sizeof data), -EAGAIN); /* not before what is queued */
    READ_UNTIL(side, SIZE_MAX, side->ok == 1 && side->got_size == side->written_at);
    assert_true(far_has_pattern(side));
    pro_stream_shutdown(side->stream);
    assert_int_equal(pro_stream_try_write(side->stream, data, sizeof data), -EPIPE);
    READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
    side_end(side, PRO_STREAM_NOW);
    assert_int_equal(pro_stream_try_write(side->stream, data, sizeof data), -EPIPE);
    side_done(side);
}

static void shutdown_when_a_queue_stands_comes_after_it(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side_open(side, kind);
        side_collect(side, 1000);
        side_write(side, 500000);
        side_forward(side, side_take(side));
        uint64_t goal = side->written_at;
        pro_stream_shutdown(side->stream);
        pro_stream_shutdown(side->stream);
        side_write(side, 10); /* refused, and so are slices */
        side_collect(side, 10);
        pro_stream_write_slices(side->stream, side_take(side));
        READ_UNTIL(side, 5000, side->far_error == 0);
        assert_int_equal(side->got_size, goal);
        assert_true(far_has_pattern(side));
        READ_UNTIL(side, 0, side->count[WRITTEN] == 2);
        assert_int_equal(side->ok, 1);
        assert_int_equal(side->error[WRITTEN], -EPIPE);
        side_write(side, 10);
        assert_int_equal(side->count[WRITTEN], 2); /* not from inside the call */
        READ_UNTIL(side, 0, side->count[WRITTEN] == 3);
        side_collect(side, 100); /* reading goes on */
        assert_int_equal(side->received, 1110);
        assert_int_equal(side->count[BROKEN], 0);
        side_end(side, PRO_STREAM_LINGER);
        far_close(side);
        side_done(side);
        assert_int_equal(side->error[CLOSED], 0);
        assert_pool_idle(pool);
    }
}

static void write_when_the_peer_does_not_read_times_out(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side->config.write_timeout_ns = 20 * MS;
        side_open_narrow(side, kind);
        side_collect(side, 2000);
        side_write(side, 1000000);
        side_write(side, 1000);
        side_forward(side, side_take(side));
        RUN_UNTIL(w, side->count[BROKEN] == 1);
        assert_int_equal(side->error[BROKEN], -ETIME);
        assert_int_equal(side->failed, 2);
        assert_int_equal(side->error[WRITTEN], -ETIME);
        assert_int_equal(pro_stream_queued(side->stream), 0);
        assert_pool_idle(pool);
        side_end(side, PRO_STREAM_LINGER);
        side_done(side);
        assert_int_equal(side->error[CLOSED], -ETIME);
    }
}

/* A large write is many sends, and each has the whole time. */
static void write_when_the_peer_is_slow_does_not_time_out(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    side->config.write_timeout_ns = 400 * MS;
    side_open(side, UNIX);
    side_write(side, 4 << 20);
    for (unsigned i = 0; side->count[WRITTEN] == 0; i++) {
        world_turns(w, 1);
        far_read(side, 40000);
        poll(NULL, 0, 10);
    }
    assert_int_equal(side->ok, 1);
    side_finish(side);
}

static void rewrite(struct side *side, enum event event)
{
    if (event == WRITTEN && side->error[WRITTEN] < 0 && side->choice-- > 0)
        side_write(side, 10);
}

static void queue_when_the_peer_resets_is_dropped_and_answered(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned retries = 0; retries < 5; retries++) {
        struct side *side = side_new(w, pool);
        side->act = rewrite;
        side->choice = (int)retries;
        side_open_narrow(side, TCP);
        side_collect(side, 1000);
        side_write(side, 3000000);
        for (unsigned i = 0; i < 10; i++)
            side_write(side, 1000);
        side_forward(side, side_take(side));
        world_turns(w, 3);
        far_reset(side);
        READ_UNTIL(side, 0, side->count[BROKEN] && side->count[END]);
        READ_UNTIL(side, 0, side->failed == 11 + retries);
        assert_true(side->error[BROKEN] == -ECONNRESET || side->error[BROKEN] == -EPIPE);
        assert_int_equal(pro_stream_queued(side->stream), 0);
        assert_pool_idle(pool);
        side_write(side, 10);
        assert_int_equal(side->failed, 11 + retries);
        READ_UNTIL(side, 0, side->failed == 12 + retries);
        assert_int_equal(side->count[BROKEN], 1);
        assert_int_equal(side->count[END], 1);
        side_write(side, 10);
        side_end(side, retries % 2 ? PRO_STREAM_LINGER : PRO_STREAM_NOW);
        side_done(side);
        assert_true(side->error[CLOSED] == -ECONNRESET || side->error[CLOSED] == -EPIPE);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------------------------------------------ */

static void toggle(struct side *side, enum event event)
{
    if (event != DATA)
        return;
    uint32_t what = draw(side, 8);
    if (what < 3)
        side_pause(side);
    if (what == 1 || what == 4)
        side_resume(side);
    if (what == 5) {
        side_pause(side);
        side_resume(side);
        side_pause(side);
    }
}

static void pause_when_data_comes_loses_and_reorders_nothing(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    struct pro_pool *pools[3];
    static const uint32_t sizes[3] = {256, 1024, 65536}, quotas[3] = {2, 3, 16};
    for (unsigned i = 0; i < 3; i++) {
        config.buffer_size = sizes[i];
        config.quota_buffers = quotas[i];
        pools[i] = world_pool(w, &config);
    }
    for (unsigned seed = 1; seed <= stress(300); seed++) {
        struct side *side = side_new(w, pools[seed % 3]);
        uint64_t at = 0, end = 3000 + seed % 50 * 2000;
        side->random *= seed;
        side->check = true;
        side->act = toggle;
        side_open(side, seed / 3 % KINDS);
        while (at < end) {
            far_write(side, &at, end, 1 + draw(side, 9000));
            uint32_t what = draw(side, 6);
            if (what == 0 || what == 1)
                side_pause(side);
            if (what == 1 || what == 2 || what == 3)
                side_resume(side);
            world_turns(w, draw(side, 3));
        }
        assert_int_equal(shutdown(side->far, SHUT_WR), 0);
        while (side->count[END] == 0) {
            world_turns(w, draw(side, 3));
            if (draw(side, 2))
                side_resume(side);
        }
        assert_int_equal(side->received, end);
        assert_int_equal(side->error[END], 0);
        side_finish(side);
        assert_pool_idle(pools[seed % 3]);
    }
}

static void end_when_paused_is_held_until_resume(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    enum how { FILE_END, RESET, DEADLINE, HOWS };
    static const int errors[HOWS] = {0, -ECONNRESET, -ETIME};
    for (unsigned i = 0; i < HOWS * 2; i++) {
        struct side *side = side_new(w, pool);
        enum how how = i % HOWS;
        uint64_t at = 0;
        side->check = true;
        side_open(side, TCP);
        if (i >= HOWS) {
            side_pause(side); /* data that comes before the answer is stashed */
            far_write(side, &at, 1000, SIZE_MAX);
        } else {
            far_write(side, &at, 1000, SIZE_MAX);
            READ_UNTIL(side, 0, side->received == 1000);
            side_pause(side);
        }
        if (how == FILE_END)
            assert_int_equal(shutdown(side->far, SHUT_WR), 0);
        else if (how == RESET)
            far_reset(side);
        else
            pro_stream_read_deadline(side->stream, pro_now(w->loop) + 10 * MS);
        for (unsigned turn = 0; turn < 30; turn++) {
            world_turns(w, 1);
            poll(NULL, 0, 1);
        }
        assert_int_equal(side->count[END], 0);
        side_resume(side);
        assert_int_equal(side->count[END], 0);
        RUN_UNTIL(w, side->count[END] == 1);
        assert_int_equal(side->error[END], errors[how]);
        if (how != RESET) /* which may overtake data */
            assert_true(how == DEADLINE || side->received == 1000);
        side_pause(side); /* all this is without effect now */
        side_resume(side);
        pro_stream_read_deadline(side->stream, 1);
        world_turns(w, 3);
        side_end(side, PRO_STREAM_FLUSH);
        side_done(side);
        assert_int_equal(side->error[CLOSED], errors[how]);
        assert_pool_idle(pool);
    }
}

static void read_deadline_when_it_passes_ends_reading_only(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side_open(side, kind);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + 1);
        pro_stream_read_deadline(side->stream, 0);
        far_write(side, &at, 100, SIZE_MAX);
        RUN_UNTIL(w, side->received == 100);
        world_turns(w, 3);
        assert_int_equal(side->count[END], 0);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + 3600000 * MS);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + 10 * MS);
        RUN_UNTIL(w, side->count[END] == 1);
        assert_int_equal(side->error[END], -ETIME);
        side_write(side, 100000);
        far_write(side, &at, 5000, SIZE_MAX); /* unread input must not reset what is still to be sent */
        side_end(side, PRO_STREAM_LINGER);
        READ_UNTIL(side, SIZE_MAX, side->far_error != 1);
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, 100000);
        assert_int_equal(side->ok, 1);
        far_close(side);
        side_done(side);
        assert_int_equal(side->error[CLOSED], -ETIME);
        assert_pool_idle(pool);
    }
}

/* Data at every moment about the deadline: none is lost, and the end comes after it. */
static void read_deadline_when_data_races_it_loses_nothing(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned seed = 1; seed <= stress(200); seed++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side->check = true;
        side->random *= seed;
        side_open(side, seed % KINDS);
        pro_stream_read_deadline(side->stream, pro_now(w->loop) + draw(side, 1000000));
        while (side->count[END] == 0) {
            far_write(side, &at, UINT64_MAX, draw(side, 100));
            world_turns(w, 1);
        }
        assert_int_equal(side->error[END], -ETIME);
        uint8_t rest[4096];
        uint64_t left = 0;
        for (int n; (n = pro_stream_queued(side->stream) ? 0 : (int)recv(side->stream->handle.fd, rest, sizeof rest,
                                                                           MSG_DONTWAIT)) > 0;
             left += (uint64_t)n)
            assert_true(pattern_holds(rest, (size_t)n, side->received + left));
        assert_int_equal(side->received + left, at); /* delivered, or still in the socket */
        side_finish(side);
    }
}

static void callbacks_when_null_are_not_called(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct side *side = side_new(w, pool);
    uint64_t at = 0;
    side->config = (struct pro_stream_config){.pool = pool, .closed = on_closed};
    side_open_narrow(side, TCP);
    far_write(side, &at, 1000, SIZE_MAX);
    world_turns(w, 5);
    assert_pool_idle(pool);
    struct pro_stream_write write;
    static const uint8_t data[4000000];
    pro_stream_write(side->stream, &write, data, sizeof data, NULL);
    world_turns(w, 5);
    far_reset(side);
    READ_UNTIL(side, 0, pro_stream_queued(side->stream) == 0);
    side_end(side, PRO_STREAM_FLUSH);
    side_done(side);
}

static void stream_when_it_has_no_pool_only_writes(void **state)
{
    struct world *w = *state;
    for (enum pro_stream_ending ending = PRO_STREAM_LINGER; ending <= PRO_STREAM_ABORT; ending++) {
        struct side *side = side_new(w, NULL);
        side_open(side, UNIX);
        side_pause(side);
        side_resume(side);
        pro_stream_read_deadline(side->stream, 1);
        side_write(side, 100000);
        READ_UNTIL(side, SIZE_MAX, side->ok == 1);
        side_end(side, ending);
        side_done(side);
        assert_int_equal(side->count[END], 0);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Endings
 * ------------------------------------------------------------------------------------------------------------ */

/* The queue stands, the peer has sent more than was read, and reads only now. */
static void linger_when_input_is_unread_delivers_every_byte_and_a_clean_end(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 4; i++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side_open(side, i % KINDS);
        if (i < 2)
            side_pause(side);
        side_collect(side, i < 2 ? 0 : 1000);
        far_write(side, &at, 100000, SIZE_MAX);
        side_write(side, 400000);
        if (side->head)
            side_forward(side, side_take(side));
        world_turns(w, 2);
        side_drop(side);
        side_end(side, PRO_STREAM_LINGER);
        uint64_t goal = side->written_at;
        READ_UNTIL(side, 7000, side->far_error != 1);
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, goal);
        assert_true(far_has_pattern(side));
        assert_int_equal(side->ok, 1);
        world_turns(w, 10);
        assert_int_equal(side->count[CLOSED], 0); /* waits for the peer to close */
        at = 0;
        far_write(side, &at, 1000, SIZE_MAX);
        world_turns(w, 3);
        assert_pool_idle(pool);
        far_close(side);
        RUN_UNTIL(w, side->count[CLOSED] == 1);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
    }
}

static void linger_when_the_limit_of_bytes_is_met_closes(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side->config.linger_bytes = 50000;
        side->config.linger_ns = 3600000 * MS;
        side_open(side, kind);
        side_write(side, 100);
        side_end(side, PRO_STREAM_LINGER);
        uint64_t at = 0;
        READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
        while (at < 49999) {
            far_write(side, &at, 49999, SIZE_MAX);
            world_turns(w, 5);
            assert_int_equal(side->count[CLOSED], 0);
        }
        world_turns(w, 10);
        assert_int_equal(side->count[CLOSED], 0);
        far_write(side, &at, 50000, SIZE_MAX);
        RUN_UNTIL(w, side->count[CLOSED] == 1);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
        assert_pool_idle(pool);
    }
}

static void linger_when_its_time_is_up_closes(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 4; i++) {
        struct side *side = side_new(w, pool);
        side->config.linger_ns = 10 * MS;
        side_open(side, i % KINDS);
        if (i & 2)
            side_pause(side);
        side_end(side, PRO_STREAM_LINGER);
        RUN_UNTIL(w, side->count[CLOSED] == 1);
        assert_int_equal(side->error[CLOSED], 0);
        far_read(side, SIZE_MAX);
        assert_int_equal(side->far_error, 0);
        side_done(side);
    }
}

static void linger_when_the_peer_resets_says_so(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    side_open(side, TCP);
    side_end(side, PRO_STREAM_LINGER);
    READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
    far_reset(side);
    RUN_UNTIL(w, side->count[CLOSED] == 1);
    assert_int_equal(side->error[CLOSED], -ECONNRESET);
    side_done(side);
}

static void flush_when_a_queue_stands_sends_it_and_closes(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct side *side = side_new(w, pool);
        side_open(side, kind);
        side_write(side, 700000);
        side_end(side, PRO_STREAM_FLUSH);
        uint64_t goal = side->written_at;
        side_write(side, 10); /* comes too late */
        READ_UNTIL(side, 20000, side->far_error != 1);
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, goal);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->ok, 1);
        assert_int_equal(side->cancelled, 1);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
    }
}

static void flush_when_the_peer_does_not_read_times_out(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 4; i++) {
        struct side *side = side_new(w, pool);
        side->config.write_timeout_ns = 10 * MS;
        side_open_narrow(side, i % KINDS);
        side_collect(side, 1000);
        side_write(side, 1000000);
        side_forward(side, side_take(side));
        side_end(side, i < 2 ? PRO_STREAM_FLUSH : PRO_STREAM_LINGER);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], -ETIME);
        assert_int_equal(side->failed, 1);
        side_done(side);
        assert_pool_idle(pool);
    }
}

static void now_when_a_queue_stands_drops_it(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 8; i++) {
        struct side *side = side_new(w, pool);
        side_open_narrow(side, i % KINDS);
        side_collect(side, 1000);
        struct pro_slice *slice = side_take(side);
        if (i & 2)
            side_pause(side);
        uint64_t at = 0;
        far_write(side, &at, 1000, SIZE_MAX);
        side_write(side, 1000000);
        side_write(side, 1000);
        side_forward(side, slice);
        if (i & 4)
            world_turns(w, 3);
        side_end(side, PRO_STREAM_NOW);
        assert_int_equal(side->count[WRITTEN], 0);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->cancelled, 2);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
        assert_pool_idle(pool);
    }
}

static void abort_when_connected_resets_the_peer(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = side_new(w, pool);
        side_open(side, TCP);
        if (i)
            side_write(side, 8 << 20);
        world_turns(w, 2);
        side_end(side, PRO_STREAM_ABORT);
        RUN_UNTIL(w, side->count[CLOSED]);
        READ_UNTIL(side, SIZE_MAX, side->far_error != 1);
        assert_int_equal(side->far_error, -ECONNRESET);
        assert_int_equal(side->error[CLOSED], 0);
        assert_int_equal(side->cancelled, i);
        side_done(side);
    }
}

/* Every pair of endings, the second at every stage of the first. */
static void close_when_a_harsher_ending_is_asked_for_hurries(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (enum pro_stream_ending first = PRO_STREAM_LINGER; first <= PRO_STREAM_ABORT; first++)
        for (enum pro_stream_ending second = PRO_STREAM_LINGER; second <= PRO_STREAM_ABORT; second++)
            for (unsigned turns = 0; turns < 8; turns++) {
                struct side *side = side_new(w, pool);
                side_open(side, TCP);
                side_write(side, turns & 1 ? 100 : 8 << 20);
                side_end(side, first);
                for (unsigned i = 0; i < turns; i++) {
                    world_turns(w, 1);
                    far_read(side, turns & 2 ? SIZE_MAX : 0);
                }
                if (side->stream)
                    pro_stream_close(side->stream, second);
                if (side->stream && second < PRO_STREAM_NOW && first < PRO_STREAM_NOW)
                    READ_UNTIL(side, SIZE_MAX, side->count[CLOSED] || side->far_error == 0);
                if (first == PRO_STREAM_LINGER && second == PRO_STREAM_LINGER)
                    far_close(side);
                RUN_UNTIL(w, side->count[CLOSED]);
                if (first < PRO_STREAM_NOW && second < PRO_STREAM_NOW)
                    assert_int_equal(side->ok, 1);
                side_done(side);
            }
    assert_pool_idle(pool);
}

static void end_it(struct side *side, enum event event)
{
    if (event == (enum event)(side->choice / 8) && !side->closing) {
        side_end(side, (enum pro_stream_ending)(1 + side->choice % 4));
        if (side->choice & 4)
            pro_stream_close(side->stream, PRO_STREAM_ABORT);
        side_write(side, 10);
        assert_int_equal(pro_stream_try_write(side->stream, "x", 1), -EPIPE);
        pro_stream_pause(side->stream);
        pro_stream_resume(side->stream);
        pro_stream_shutdown(side->stream);
        pro_stream_read_deadline(side->stream, 1);
    }
}

static void end_inside(struct world *w, struct pro_pool *pool, enum event event, int how, bool fails)
{
    struct side *side = side_new(w, pool);
    uint64_t at = 0;
    side->act = end_it;
    side->choice = (int)event * 8 + how;
    side->config.high = 3000000;
    side->config.linger_ns = 5 * MS;
    side_open_narrow(side, TCP);
    for (unsigned i = 0; i < 4; i++)
        side_write(side, 1000000);
    world_turns(w, 2);
    far_write(side, &at, 1000, SIZE_MAX);
    world_turns(w, 2);
    if (fails) {
        far_reset(side);
    } else {
        assert_true(shutdown(side->far, SHUT_WR) == 0 || side->closing);
        READ_UNTIL(side, 30000, side->closing);
    }
    side_done(side);
    assert_true(side->closing);
}

static void close_when_called_inside_a_callback_works(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (int how = 0; how < 8; how++) {
        end_inside(w, pool, DATA, how, false);
        end_inside(w, pool, END, how, false);
        end_inside(w, pool, DRAINED, how, false);
        end_inside(w, pool, BROKEN, how, true);
        end_inside(w, pool, WRITTEN, how, false);
        end_inside(w, pool, WRITTEN, how, true);
        end_inside(w, pool, END, how, true);
    }
    assert_pool_idle(pool);
}

static void reopen(struct pro_stream *stream, int error)
{
    struct side *side = side_of(stream);
    assert_int_equal(error, 0);
    if (side->choice-- > 0) {
        int fds[2];
        unix_pair(fds);
        close(fds[1]);
        pro_stream_open(stream, side->w->loop, fds[0], &side->config);
        pro_stream_close(stream, PRO_STREAM_FLUSH);
    } else {
        on_closed(stream, error);
    }
}

static void closed_when_it_opens_the_stream_again_works(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    side->config.closed = reopen;
    side->choice = 5;
    side_open(side, UNIX);
    side_end(side, PRO_STREAM_NOW);
    side_done(side);
    assert_int_equal(side->choice, -1);
}

/* ------------------------------------------------------------------------------------------------------------
 * Connecting
 * ------------------------------------------------------------------------------------------------------------ */

struct server {
    int fd;
    struct sockaddr_storage address;
    socklen_t length;
};

static struct server server_new(struct world *w, int backlog)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct server server = {.fd = world_own(w, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
                            .length = sizeof server.address};
    assert_int_equal(bind(server.fd, (struct sockaddr *)&any, sizeof any), 0);
    if (backlog >= 0)
        assert_int_equal(listen(server.fd, backlog), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&server.address, &server.length), 0);
    return server;
}

/* Fills the backlog, so that further connects get no answer. */
static void server_fill(struct world *w, const struct server *server)
{
    for (unsigned i = 0; i < 3; i++) {
        int fd = world_own(w, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        connect(fd, (const struct sockaddr *)&server->address, server->length);
        poll(NULL, 0, 5);
    }
}

static void side_connect(struct side *side, const struct server *server, uint64_t deadline)
{
    assert_int_equal(pro_stream_connect(side->stream, side->w->loop, (const struct sockaddr *)&server->address,
                                        server->length, deadline, &side->config),
                     0);
}

static void side_accept(struct side *side, const struct server *server)
{
    side->far = world_own(side->w, accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static void connect_when_somebody_listens_connects_and_reads(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 10);
    for (unsigned i = 0; i < 16; i++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0;
        side->check = true;
        side_connect(side, &server, i & 1 ? pro_now(w->loop) + 10000 * MS : 0);
        assert_int_equal(pro_stream_try_write(side->stream, "x", 1), -EAGAIN);
        side_write(side, 1000);
        if (i & 2)
            side_pause(side);
        if (i & 4)
            pro_stream_shutdown(side->stream);
        if (i & 8)
            pro_stream_read_deadline(side->stream, pro_now(w->loop) + 20 * MS);
        RUN_UNTIL(w, side->count[CONNECTED]);
        assert_int_equal(side->error[CONNECTED], 0);
        side_accept(side, &server);
        far_write(side, &at, 1000, SIZE_MAX);
        if (i & 2) {
            world_turns(w, 5);
            side_resume(side);
        }
        READ_UNTIL(side, SIZE_MAX, side->received == 1000 && side->got_size == 1000);
        if (i & 4)
            READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
        if (i & 8) {
            RUN_UNTIL(w, side->count[END]);
            assert_int_equal(side->error[END], -ETIME);
        }
        assert_int_equal(side->ok, 1);
        side_finish(side);
        assert_int_equal(side->count[CONNECTED], 1);
    }
    assert_pool_idle(pool);
}

static void connect_when_nobody_listens_is_refused(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, -1);
    for (enum pro_stream_ending ending = PRO_STREAM_LINGER; ending <= PRO_STREAM_ABORT; ending++) {
        struct side *side = side_new(w, pool);
        side_connect(side, &server, 0);
        side_write(side, 1000);
        RUN_UNTIL(w, side->count[CONNECTED]);
        assert_int_equal(side->error[CONNECTED], -ECONNREFUSED);
        assert_int_equal(side->failed, 1);
        assert_int_equal(side->error[WRITTEN], -ECONNREFUSED);
        side_write(side, 1000);
        RUN_UNTIL(w, side->failed == 2);
        side_end(side, ending);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], -ECONNREFUSED);
        assert_int_equal(side->count[BROKEN] + side->count[END], 0);
        side_done(side);
    }
}

static void connect_when_there_is_no_descriptor_says_so(void **state)
{
    struct world *w = *state;
    struct side *side = side_new(w, world_pool(w, NULL));
    struct sockaddr bad = {.sa_family = 250};
    assert_int_equal(pro_stream_connect(side->stream, w->loop, &bad, sizeof bad, 0, &side->config), -EAFNOSUPPORT);
    side_open(side, UNIX); /* it is closed still */
    side_finish(side);
}

static void connect_when_nobody_answers_meets_its_deadline(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 0);
    server_fill(w, &server);
    struct side *side = side_new(w, pool);
    side_connect(side, &server, pro_now(w->loop) + 20 * MS);
    side_write(side, 1000);
    RUN_UNTIL(w, side->count[CONNECTED]);
    assert_int_equal(side->error[CONNECTED], -ETIME);
    assert_int_equal(side->error[WRITTEN], -ETIME);
    side_end(side, PRO_STREAM_LINGER);
    RUN_UNTIL(w, side->count[CLOSED]);
    assert_int_equal(side->error[CLOSED], -ETIME);
    side_done(side);
}

static void close_when_connecting_ends_the_connect(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 0);
    server_fill(w, &server);
    for (unsigned i = 0; i < 16; i++) {
        struct side *side = side_new(w, pool);
        bool queued = i & 8;
        enum pro_stream_ending ending = 1 + i % 4;
        side_connect(side, &server, queued ? pro_now(w->loop) + 20 * MS : 0);
        if (queued)
            side_write(side, 1000);
        if (i & 4)
            world_turns(w, 2);
        side_end(side, ending);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], queued && ending <= PRO_STREAM_FLUSH ? -ETIME : 0);
        assert_int_equal(side->cancelled + side->failed, queued);
        side_done(side);
    }
}

/* Connect, write, close, all at once: fire and forget. */
static void close_when_connecting_with_a_queue_still_delivers_it(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 10);
    for (enum pro_stream_ending ending = PRO_STREAM_LINGER; ending <= PRO_STREAM_FLUSH; ending++) {
        struct side *side = side_new(w, pool);
        side_connect(side, &server, 0);
        side_write(side, 1000);
        side_end(side, ending);
        RUN_UNTIL(w, side->ok == 1);
        side_accept(side, &server);
        READ_UNTIL(side, SIZE_MAX, side->far_error == 0);
        assert_int_equal(side->got_size, 1000);
        far_close(side);
        RUN_UNTIL(w, side->count[CLOSED]);
        assert_int_equal(side->error[CLOSED], 0);
        side_done(side);
    }
}

static void close_when_called_inside_connected_works(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server good = server_new(w, 100), bad = server_new(w, -1);
    for (int how = 0; how < 16; how++) {
        struct side *side = side_new(w, pool);
        side->act = end_it;
        side->choice = CONNECTED * 8 + how % 8;
        side->config.linger_ns = 5 * MS;
        side_connect(side, how < 8 ? &good : &bad, 0);
        if (how & 1)
            side_write(side, 10);
        RUN_UNTIL(w, side->count[CLOSED]);
        side_done(side);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Everything at once
 * ------------------------------------------------------------------------------------------------------------ */

/* One random act. Everything written follows the pattern, so the peer sees loss, repetition and disorder. */
static void wild(struct side *side, enum event event)
{
    uint8_t data[500];
    uint32_t what = draw(side, 40);
    struct pro_slice *tail;
    if (!side->stream || event == CLOSED)
        return;
    if (event == WRITTEN && draw(side, 2)) /* lest failing writes breed for ever */
        return;
    if (what < 8) {
        side_write(side, 1 + draw(side, draw(side, 10) ? 2000 : 300000));
    } else if (what < 16 && side->head) {
        struct pro_slice *slice = side_take(side);
        if (slice->size > 2 && what == 8 && pro_slice_split(slice, slice->size / 2, &tail) == 0)
            slice->next = tail;
        side_forward(side, slice);
    } else if (what < 18 && side->head) {
        pro_slice_return(side_take(side));
    } else if (what < 21 && !side->closing) {
        side_pause(side);
    } else if (what < 28 && !side->closing) {
        side_resume(side);
    } else if (what < 31) {
        pattern_fill(data, sizeof data, side->written_at);
        int n = pro_stream_try_write(side->stream, data, 1 + draw(side, sizeof data));
        side->written_at += n > 0 ? (uint64_t)n : 0;
    } else if (what < 32 && draw(side, 20) == 0) {
        pro_stream_shutdown(side->stream);
    } else if (what < 33) {
        pro_stream_read_deadline(side->stream, draw(side, 3) ? 0 : pro_now(side->w->loop) + draw(side, 2000000));
    } else if (what < 34 && draw(side, side->closing ? 3 : 20) == 0) {
        side_end(side, (enum pro_stream_ending)(1 + draw(side, 4)));
    }
    if (side->head && draw(side, 6) == 0)
        side_drop(side);
}

static void streams_when_anything_happens_keep_order_and_answer_all(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 2048;
    config.quota_buffers = 4;
    struct pro_pool *pool = world_pool(w, &config);
    for (unsigned seed = 1; seed <= stress(400); seed++) {
        struct side *sides[2];
        int fds[2];
        (seed % 2 ? tcp_pair : unix_pair)(fds);
        if (seed % 3 == 0) {
            shrink_buffers(fds[0]);
            shrink_buffers(fds[1]);
        }
        for (unsigned i = 0; i < 2; i++) {
            struct side *side = sides[i] = side_new(w, pool);
            side->random = (seed * 2 + i) * UINT64_C(0x9e3779b97f4a7c15);
            side->act = wild;
            side->check = side->keep = true;
            side->config.high = 20000;
            side->config.linger_ns = 5 * MS;
            side->config.linger_bytes = 20000;
            side->config.write_timeout_ns = 10 * MS;
            pro_stream_open(side->stream, w->loop, fds[i], &side->config);
        }
        for (unsigned step = 0; step < 150; step++) {
            world_turns(w, draw(sides[0], 3));
            wild(sides[step % 2], EVENTS);
        }
        for (unsigned i = 0; i < 2; i++) {
            sides[i]->act = NULL;
            if (sides[i]->stream)
                side_end(sides[i], 1 + draw(sides[i], 4));
        }
        for (unsigned i = 0; i < 2; i++)
            side_drop(sides[i]);
        RUN_UNTIL(w, sides[0]->count[CLOSED] && sides[1]->count[CLOSED]);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(sides[i]->count[CLOSED], 1);
            assert_int_equal(sides[i]->requests, sides[i]->ok + sides[i]->failed + sides[i]->cancelled);
        }
        assert_pool_idle(pool);
    }
}

static void echo(struct side *side, enum event event)
{
    if (event == DATA)
        pro_stream_write_slices(side->stream, side_take(side));
    if (event == DATA && !pro_stream_writable(side->stream))
        side_pause(side);
    if (event == DRAINED)
        side_resume(side);
    if (event == END)
        side_end(side, PRO_STREAM_LINGER);
}

/* Back pressure all around: the far end writes as fast as it can and reads in fits. */
static void echo_when_the_peer_is_slow_stops_reading_and_returns_all(void **state)
{
    struct world *w = *state;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 8192;
    config.quota_buffers = 8;
    struct pro_pool *pool = world_pool(w, &config);
    for (unsigned seed = 1; seed <= stress(30); seed++) {
        struct side *side = side_new(w, pool);
        uint64_t at = 0, end = 2000000;
        side->random *= seed;
        side->act = echo;
        side->keep = side->check = true;
        side->config.high = 32768;
        side->config.low = draw(side, 2) ? 8192 : 16384;
        side_open_narrow(side, seed % KINDS);
        bool shut = false;
        while (side->far_error == 1) {
            far_write(side, &at, end, draw(side, 60000));
            if (at == end && !shut)
                shut = shutdown(side->far, SHUT_WR) == 0;
            world_turns(w, draw(side, 3));
            far_read(side, draw(side, 60000));
            if (side->stream) /* the mark, the piece that went over it, and what came before the pause was answered */
                assert_in_range(pro_stream_queued(side->stream), 0, 32768 + 8 * 8192);
        }
        assert_int_equal(side->far_error, 0);
        assert_int_equal(side->got_size, end);
        assert_true(far_has_pattern(side));
        side_done(side);
        assert_int_equal(side->error[CLOSED], 0);
        assert_pool_idle(pool);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Pull-down and misuse
 * ------------------------------------------------------------------------------------------------------------ */

static void end_at_end(struct side *side, enum event event)
{
    if ((event == END || event == BROKEN || event == CONNECTED) && !side->closing)
        side_end(side, PRO_STREAM_LINGER);
}

static void loop_when_freed_closes_what_ends(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    struct server server = server_new(w, 0);
    server_fill(w, &server);
    struct side *sides[12];
    for (unsigned i = 0; i < 12; i++) {
        struct side *side = sides[i] = side_new(w, pool);
        side->act = end_at_end;
        if (i < 2) {
            side_connect(side, &server, 0);
        } else {
            side_open_narrow(side, i % KINDS);
            side_collect(side, 1000);
        }
        if (i % 3)
            side_write(side, 1000000);
        if (side->head && i % 4)
            side_forward(side, side_take(side));
        side_drop(side);
        world_turns(w, i % 2);
        if (i >= 8) {
            side_pause(side);
            side_end(side, 1 + i % 4);
        }
    }
    world_shut(w);
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(sides[i]->count[CLOSED], 1);
        assert_int_equal(sides[i]->requests, sides[i]->ok + sides[i]->failed + sides[i]->cancelled);
    }
    assert_pool_idle(pool);
}

static void body_writes_nothing(struct world *w)
{
    struct side *side = side_new(w, NULL);
    struct pro_stream_write write;
    side_open(side, UNIX);
    pro_stream_write(side->stream, &write, "", 0, NULL);
}

static void body_opens_twice(struct world *w)
{
    struct side *side = side_new(w, NULL);
    side_open(side, UNIX);
    side_open(side, UNIX);
}

static void body_writes_to_closed(struct world *w)
{
    struct pro_stream stream = {0};
    (void)w;
    pro_stream_write_slices(&stream, NULL);
}

static void body_ends_in_no_way(struct world *w)
{
    struct side *side = side_new(w, NULL);
    side_open(side, UNIX);
    pro_stream_close(side->stream, 0);
}

static void misuse_when_it_happens_aborts(void **state)
{
    (void)state;
    assert_dies(body_writes_nothing, "misuse: the size of a write");
    assert_dies(body_opens_twice, "misuse: the stream is open");
    assert_dies(body_writes_to_closed, "misuse: the stream is closed");
    assert_dies(body_ends_in_no_way, "misuse: no such ending");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(writes_when_slices_and_bytes_are_mixed_arrive_in_order),
        TEST(slices_when_empty_are_returned),
        TEST(queued_when_slices_share_a_buffer_counts_it_once),
        TEST(queued_when_a_buffer_is_sent_in_runs_counts_it_to_the_last),
        TEST(queued_when_a_run_ends_inside_a_buffer_moves_the_charge),
        TEST(queued_when_a_write_is_larger_than_a_send_counts_it_to_the_end),
        TEST(drained_when_the_queue_falls_to_low_is_told_once),
        TEST(try_write_when_nothing_is_queued_sends_at_once),
        TEST(shutdown_when_a_queue_stands_comes_after_it),
        TEST(write_when_the_peer_does_not_read_times_out),
        TEST(write_when_the_peer_is_slow_does_not_time_out),
        TEST(queue_when_the_peer_resets_is_dropped_and_answered),
        TEST(pause_when_data_comes_loses_and_reorders_nothing),
        TEST(end_when_paused_is_held_until_resume),
        TEST(read_deadline_when_it_passes_ends_reading_only),
        TEST(read_deadline_when_data_races_it_loses_nothing),
        TEST(callbacks_when_null_are_not_called),
        TEST(stream_when_it_has_no_pool_only_writes),
        TEST(linger_when_input_is_unread_delivers_every_byte_and_a_clean_end),
        TEST(linger_when_the_limit_of_bytes_is_met_closes),
        TEST(linger_when_its_time_is_up_closes),
        TEST(linger_when_the_peer_resets_says_so),
        TEST(flush_when_a_queue_stands_sends_it_and_closes),
        TEST(flush_when_the_peer_does_not_read_times_out),
        TEST(now_when_a_queue_stands_drops_it),
        TEST(abort_when_connected_resets_the_peer),
        TEST(close_when_a_harsher_ending_is_asked_for_hurries),
        TEST(close_when_called_inside_a_callback_works),
        TEST(closed_when_it_opens_the_stream_again_works),
        TEST(connect_when_somebody_listens_connects_and_reads),
        TEST(connect_when_nobody_listens_is_refused),
        TEST(connect_when_there_is_no_descriptor_says_so),
        TEST(connect_when_nobody_answers_meets_its_deadline),
        TEST(close_when_connecting_ends_the_connect),
        TEST(close_when_connecting_with_a_queue_still_delivers_it),
        TEST(close_when_called_inside_connected_works),
        TEST(streams_when_anything_happens_keep_order_and_answer_all),
        TEST(echo_when_the_peer_is_slow_stops_reading_and_returns_all),
        TEST(loop_when_freed_closes_what_ends),
        TEST(misuse_when_it_happens_aborts),
    };
    return RUN(tests);
}
