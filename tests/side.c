/* SPDX-License-Identifier: MIT
 *
 * See side.h. Streams and writes have memory of their own, freed in the callback that gives it back, so that ASAN sees
 * a touch that comes later.
 */
#include "side.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct holder {
    struct pro_stream stream;
    struct side *side;
};

/* A write of the pattern, in memory of its own that is freed when it is answered. */
struct request {
    struct pro_stream_write write;
    struct side *side;
    uint32_t size;
    uint8_t data[];
};

struct side *side_of(struct pro_stream *stream)
{
    return PRO_CONTAINER_OF(stream, struct holder, stream)->side;
}

uint32_t draw(struct side *side, uint32_t below)
{
    side->random ^= side->random << 13;
    side->random ^= side->random >> 7;
    side->random ^= side->random << 17;
    return (uint32_t)((side->random * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

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

void on_closed(struct pro_stream *stream, int error)
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

struct side *side_new(struct world *w, struct pro_pool *pool)
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

void side_open(struct side *side, enum kind kind)
{
    int fds[2];
    if (kind == UNIX)
        unix_pair(fds);
    else
        tcp_pair(fds);
    side->far = world_own(side->w, fds[1]);
    pro_stream_open(side->stream, side->w->loop, fds[0], &side->config);
}

void side_open_narrow(struct side *side, enum kind kind)
{
    int room = kind == TCP ? 65536 : 1;
    side_open(side, kind);
    for (int name = SO_SNDBUF; name <= SO_RCVBUF; name++) {
        assert_int_equal(setsockopt(side->far, SOL_SOCKET, name, &room, sizeof room), 0);
        assert_int_equal(pro_option_set(&side->stream->handle, SOL_SOCKET, name, &room, sizeof room), 0);
    }
}
_Static_assert(SO_RCVBUF == SO_SNDBUF + 1, "neighbours");

void side_pause(struct side *side)
{
    pro_stream_pause(side->stream);
    side->paused = true;
}

void side_resume(struct side *side)
{
    side->paused = false;
    pro_stream_resume(side->stream);
}

void side_end(struct side *side, enum pro_stream_ending ending)
{
    side->closing = true;
    pro_stream_close(side->stream, ending);
}

void side_write(struct side *side, uint32_t size)
{
    struct request *request = malloc(sizeof *request + size);
    assert_non_null(request);
    request->side = side;
    request->size = size;
    pattern_fill(request->data, size, side->written_at);
    side->written_at += size;
    side->requests++;
    pro_stream_write(side->stream, &request->write, request->data, size, on_written);
}

struct pro_slice *side_take(struct side *side)
{
    struct pro_slice *slice = side->head;
    assert_non_null(slice);
    side->head = slice->next;
    if (!side->head)
        side->tail = NULL;
    slice->next = NULL;
    return slice;
}

void side_drop(struct side *side)
{
    pro_slice_return_list(side->head);
    side->head = side->tail = NULL;
}

void side_forward(struct side *side, struct pro_slice *list)
{
    for (struct pro_slice *slice = list; slice; slice = slice->next) {
        pattern_fill(slice->data, slice->size, side->written_at);
        side->written_at += slice->size;
    }
    pro_stream_write_slices(side->stream, list);
}

void far_read(struct side *side, size_t most)
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

void far_write(struct side *side, uint64_t *at, uint64_t end, size_t most)
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

void far_reset(struct side *side)
{
    struct linger none = {1, 0};
    assert_int_equal(setsockopt(side->far, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
    world_close(side->w, side->far);
    side->far = -1;
}

void far_close(struct side *side)
{
    world_close(side->w, side->far);
    side->far = -1;
}

void read_step(struct side *side, size_t most, unsigned turn, const char *condition, int line)
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

void side_done(struct side *side)
{
    READ_UNTIL(side, SIZE_MAX, side->count[CLOSED]);
    assert_int_equal(side->count[CLOSED], 1);
    side_drop(side);
    free(side->got);
    side->got = NULL;
    if (side->far >= 0)
        far_close(side);
}

void side_finish(struct side *side)
{
    side_end(side, PRO_STREAM_NOW);
    side_done(side);
}

void assert_pool_idle(struct pro_pool *pool)
{
    struct pro_pool_stats stats;
    pro_pool_stats(pool, &stats, sizeof stats);
    assert_int_equal(stats.slices_lent, 0);
    assert_int_equal(stats.buffers_lent, 0);
}

bool far_has_pattern(const struct side *side)
{
    return pattern_holds(side->got, side->got_size, 0);
}

void side_collect(struct side *side, size_t size)
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

struct server server_new(struct world *w, int backlog)
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

void server_fill(struct world *w, const struct server *server)
{
    for (unsigned i = 0; i < 3; i++) {
        int fd = world_own(w, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        connect(fd, (const struct sockaddr *)&server->address, server->length);
        poll(NULL, 0, 5);
    }
}

void side_connect(struct side *side, const struct server *server, uint64_t deadline)
{
    assert_int_equal(pro_stream_connect(side->stream, side->w->loop, (const struct sockaddr *)&server->address,
                                        server->length, deadline, &side->config),
                     0);
}

void end_in_event(struct side *side, enum event event)
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
