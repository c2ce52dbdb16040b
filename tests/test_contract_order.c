/* SPDX-License-Identifier: MIT
 *
 * Clause 9: order within a handle, and what becomes of a send that is cut. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection with small buffers whose far end reads by hand and checks the pattern. */
struct line {
    struct world *w;
    struct pro_handle *near;
    int far;
    uint8_t *data; /* the pattern, LINE_DATA of it */
    uint64_t got;
};

enum { LINE_DATA = 1 << 20 };

/* TCP with the smallest buffers waits for its own timers; these are small and still fluent. */
static void narrow(const int fds[2])
{
    int size = 16384;
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}

static struct line *line_new(struct world *w, void (*pair)(int fds[2]))
{
    int fds[2];
    struct line *l = world_alloc(w, sizeof *l);
    pair(fds);
    if (pair == unix_pair)
        shrink_buffers(fds[0]);
    else
        narrow(fds);
    *l = (struct line){.w = w, .far = world_own(w, fds[1]), .near = world_adopt(w, fds[0])};
    l->data = world_alloc(w, LINE_DATA);
    pattern_fill(l->data, LINE_DATA, 0);
    return l;
}

/* Reads what is there; 0 at the end, else -EAGAIN. */
static int line_read(struct line *l)
{
    static uint8_t scrap[65536];
    int n;
    while ((n = read_now(l->far, scrap, sizeof scrap)) > 0) {
        assert_true(pattern_holds(scrap, (size_t)n, l->got));
        l->got += (uint64_t)n;
    }
    return n;
}

/* Reads and turns until `r` has ended; TCP may take a moment of its own, and the guard is the limit. */
static void line_run(struct line *l, const struct record *r)
{
    while (r->finals < r->starts) {
        line_read(l);
        world_turns(l->w, 1);
    }
}

static struct record *line_send(struct line *l, uint64_t position, size_t size)
{
    struct record *r = world_record(l->w);
    struct iovec *iov = world_alloc(l->w, sizeof *iov);
    *iov = (struct iovec){l->data + position, size};
    pro_send(l->near, record_begin(r), iov, 1, 0, on_record);
    return r;
}

/* ------------------------------------------------------------------------------------------------------------
 * Order
 * ------------------------------------------------------------------------------------------------------------ */

static void c09_receives_when_queued_complete_in_order(void **state)
{
    struct world *w = *state;
    enum { MANY = 40 };
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r[MANY];
    uint8_t *data = world_alloc(w, MANY * 16);
    uint64_t position = 0, order = 0;
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_recv(near, record_begin(r[i]), data + i * 16, 16, i % 2 ? PRO_RECV_ALL : 0, on_record);
    }
    for (unsigned sent = 0; sent < MANY * 16; sent += 7) {
        uint8_t piece[7];
        pattern_fill(piece, sizeof piece, sent);
        write_all(far, piece, sizeof piece);
        world_turns(w, sent % 3);
    }
    for (unsigned i = 0; i < MANY; i++) {
        RUN_UNTIL(w, r[i]->finals == 1);
        assert_true(r[i]->last.res > 0 && r[i]->last.res <= 16);
        if (i % 2)
            assert_int_equal(r[i]->last.res, 16);
        assert_true(pattern_holds(data + i * 16, (size_t)r[i]->last.res, position));
        position += (uint64_t)r[i]->last.res;
        assert_true(r[i]->order > order);
        order = r[i]->order;
    }
}

static void sends_in_order(struct world *w, void (*pair)(int fds[2]))
{
    enum { MANY = 60 };
    struct line *l = line_new(w, pair);
    struct record *r[MANY];
    uint64_t position = 0;
    for (unsigned i = 0; i < MANY; i++) {
        size_t size = 1 + (i * 7919u) % 16000;
        r[i] = line_send(l, position, size);
        position += size;
        if (i % 7 == 0)
            world_turns(w, 1);
    }
    line_run(l, r[MANY - 1]);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(r[i]->finals, 1);
        assert_int_equal(r[i]->last.res, 1 + (i * 7919u) % 16000); /* each whole */
        assert_int_equal(pro_op_bytes(&r[i]->op), r[i]->last.res);
        if (i > 0)
            assert_true(r[i]->order > r[i - 1]->order);
    }
    line_read(l);
    assert_int_equal(l->got, position);
    assert_int_equal(world_close_handle(w, l->near), 0);
}

static void c09_sends_when_queued_are_delivered_in_order_and_whole(void **state)
{
    sends_in_order(*state, unix_pair);
    sends_in_order(*state, tcp_pair);
}

static void c09_send_bigger_than_the_socket_takes_is_delivered_whole(void **state)
{
    struct world *w = *state;
    struct line *l = line_new(w, unix_pair);
    struct record *r = line_send(l, 0, LINE_DATA);
    world_turns(w, 3);
    assert_int_equal(r->completions, 0);
    line_run(l, r);
    assert_int_equal(r->last.res, LINE_DATA);
    line_read(l);
    assert_int_equal(l->got, LINE_DATA);
}

/* A thousand and twenty-four pieces of all sizes, some empty, over a socket that takes a few at a time. */
static void c09_send_of_many_pieces_is_delivered_whole(void **state)
{
    struct world *w = *state;
    struct line *l = line_new(w, unix_pair);
    struct record *r = world_record(w);
    struct iovec *iov = world_alloc(w, 1024 * sizeof *iov);
    size_t position = 0;
    for (unsigned i = 0; i < 1024; i++) {
        size_t size = i % 5 == 4 ? 0 : (i * 31) % 900;
        iov[i] = (struct iovec){l->data + position, size};
        position += size;
    }
    assert_true(position < LINE_DATA);
    pro_send(l->near, record_begin(r), iov, 1024, PRO_SEND_MORE, on_record);
    line_run(l, r);
    assert_int_equal(r->last.res, position);
    struct record *last = line_send(l, position, 1);
    line_run(l, last);
    line_read(l);
    assert_int_equal(l->got, position + 1);
}

static void c09_send_with_more_to_follow_arrives(void **state)
{
    struct world *w = *state;
    struct line *l = line_new(w, tcp_pair);
    struct record *r = world_record(w);
    struct iovec iov = {l->data, 10};
    pro_send(l->near, record_begin(r), &iov, 1, PRO_SEND_MORE, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 10);
    struct record *last = line_send(l, 10, 10);
    RUN_UNTIL(w, last->finals == 1);
    while (l->got < 20)
        line_read(l);
}

static void c09_shutdown_waits_its_turn(void **state)
{
    struct world *w = *state;
    struct line *l = line_new(w, unix_pair);
    struct record *big = line_send(l, 0, 200000), *end = world_record(w);
    pro_shutdown(l->near, record_begin(end), SHUT_WR, on_record);
    struct record *after = line_send(l, 200000, 10);
    world_turns(w, 3);
    assert_int_equal(end->finals, 0);
    line_run(l, after);
    assert_int_equal(big->last.res, 200000);
    assert_int_equal(end->last.res, 0);
    assert_int_equal(after->last.res, -EPIPE);
    assert_true(big->order < end->order && end->order < after->order);
    assert_int_equal(line_read(l), 0); /* end of file */
    assert_int_equal(l->got, 200000);
}

static void c09_shutdown_of_reading_ends_a_receive(void **state)
{
    struct world *w = *state;
    int far;
    char data[4];
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w), *end = world_record(w);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    world_turns(w, 2);
    pro_shutdown(near, record_begin(end), SHUT_RD, on_record);
    RUN_UNTIL(w, end->finals == 1 && r->finals == 1);
    assert_int_equal(end->last.res, 0);
    assert_int_equal(r->last.res, 0);
    assert_int_equal(r->last.flags, PRO_EOF);
}

static void c09_writes_to_a_pipe_are_delivered_in_order(void **state)
{
    struct world *w = *state;
    enum { MANY = 20, EACH = 30000 };
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    struct line *l = world_alloc(w, sizeof *l);
    *l = (struct line){.w = w, .far = world_own(w, ends[0]), .near = world_adopt(w, ends[1])};
    l->data = world_alloc(w, MANY * EACH);
    pattern_fill(l->data, MANY * EACH, 0);
    struct record *r[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_write(l->near, record_begin(r[i]), l->data + i * EACH, EACH, PRO_STREAM, on_record);
    }
    line_run(l, r[MANY - 1]);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(r[i]->last.res, EACH);
    line_read(l);
    assert_int_equal(l->got, MANY * EACH);
}

/* ------------------------------------------------------------------------------------------------------------
 * A send that is cut
 * ------------------------------------------------------------------------------------------------------------ */

static void cut_by_cancel(struct record *r)
{
    pro_cancel(&r->op);
}

static void cut_by_deadline(struct record *r)
{
    pro_deadline(&r->op, 1);
}

/* One send goes out whole, one is cut midway, those after it are not tried: what arrives is what was said to go. */
static void cut_a_send(struct world *w, void (*pair)(int fds[2]), void (*cut)(struct record *r), int error)
{
    struct line *l = line_new(w, pair);
    struct record *first = line_send(l, 0, 100);
    struct record *r = line_send(l, 100, LINE_DATA - 100 - 10);
    struct record *queued = line_send(l, LINE_DATA - 10, 10);
    for (unsigned i = 0; i < 10; i++) {
        line_read(l);
        world_turns(w, 2);
    }
    assert_int_equal(first->last.res, 100);
    assert_int_equal(r->finals, 0);
    cut(r);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, error);
    uint32_t went = pro_op_bytes(&r->op);
    assert_true(went > 0 && went < LINE_DATA - 110);
    RUN_UNTIL(w, queued->finals == 1);
    assert_int_equal(queued->last.res, -EPIPE);
    assert_int_equal(pro_op_bytes(&queued->op), 0);
    struct record *later = line_send(l, LINE_DATA - 10, 10);
    RUN_UNTIL(w, later->finals == 1);
    assert_int_equal(later->last.res, -EPIPE);
    assert_int_equal(pro_try_send(l->near, l->data, 10), -EPIPE);
    for (unsigned i = 0; i < 10; i++) {
        line_read(l);
        world_turns(w, 1);
    }
    assert_int_equal(world_close_handle(w, l->near), 0);
    while (line_read(l) != 0)
        continue;
    assert_int_equal(l->got, 100 + went);
}

static void c09_send_when_cancelled_midway_says_how_much_went_and_is_the_last(void **state)
{
    cut_a_send(*state, unix_pair, cut_by_cancel, -ECANCELED);
    cut_a_send(*state, tcp_pair, cut_by_cancel, -ECANCELED);
}

static void c09_send_when_late_midway_says_how_much_went_and_is_the_last(void **state)
{
    cut_a_send(*state, unix_pair, cut_by_deadline, -ETIME);
}

static void c09_send_when_the_peer_goes_midway_fails_and_is_the_last(void **state)
{
    struct world *w = *state;
    struct line *l = line_new(w, unix_pair);
    struct record *r = line_send(l, 0, LINE_DATA - 10), *queued = line_send(l, LINE_DATA - 10, 10);
    world_turns(w, 3);
    line_read(l);
    world_turns(w, 3);
    world_close(w, l->far);
    RUN_UNTIL(w, r->finals == 1 && queued->finals == 1);
    assert_true(r->last.res == -EPIPE || r->last.res == -ECONNRESET);
    assert_true(pro_op_bytes(&r->op) > 0);
    assert_int_equal(queued->last.res, -EPIPE);
}

static void c09_write_when_cancelled_midway_says_how_much_went_and_is_the_last(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    struct line *l = world_alloc(w, sizeof *l);
    *l = (struct line){.w = w, .far = world_own(w, ends[0]), .near = world_adopt(w, ends[1])};
    l->data = world_alloc(w, LINE_DATA);
    pattern_fill(l->data, LINE_DATA, 0);
    struct record *r = world_record(w), *queued = world_record(w);
    pro_write(l->near, record_begin(r), l->data, LINE_DATA, PRO_STREAM, on_record);
    pro_write(l->near, record_begin(queued), l->data, 10, PRO_STREAM, on_record);
    world_turns(w, 3);
    line_read(l);
    world_turns(w, 3);
    pro_cancel(&r->op);
    RUN_UNTIL(w, queued->finals == 1);
    assert_int_equal(r->last.res, -ECANCELED);
    uint32_t went = pro_op_bytes(&r->op);
    assert_true(went > 0);
    assert_int_equal(queued->last.res, -EPIPE);
    assert_int_equal(world_close_handle(w, l->near), 0);
    assert_int_equal(line_read(l), 0);
    assert_int_equal(l->got, went);
}

/* A queue of sends into a socket that is read slowly, one cancelled: each ends once, in one of three ways, and the far
 * end sees exactly the bytes they say, in their order. */
enum { MANY = 50, EACH = 8000 };

static void cancel_the_first_in_flight(struct record *r[MANY])
{
    for (unsigned i = 0; i < MANY; i++)
        if (!r[i]->finals) {
            pro_cancel(&r[i]->op);
            return;
        }
    fail_msg("all was sent before it could be cancelled");
}

static void check_what_arrived(const struct line *l, struct record *r[MANY], const uint8_t *seen, size_t size)
{
    unsigned done = 0, failed = 0, cancelled = 0;
    size_t at = 0;
    for (unsigned i = 0; i < MANY; i++) {
        uint32_t went = pro_op_bytes(&r[i]->op);
        assert_int_equal(r[i]->finals, 1);
        done += r[i]->last.res == EACH;
        failed += r[i]->last.res == -EPIPE;
        cancelled += r[i]->last.res == -ECANCELED;
        assert_true(at + went <= size);
        assert_memory_equal(seen + at, l->data + i * EACH, went);
        at += went;
    }
    assert_int_equal(done + failed + cancelled, MANY);
    assert_true(cancelled <= 1 && (cancelled == 1 || failed == 0));
    assert_int_equal(at, size);
}

static void c09_sends_done_failed_and_cancelled_are_all_of_them(void **state)
{
    struct world *w = *state;
    uint8_t *seen = world_alloc(w, MANY * EACH + 1);
    for (unsigned round = 0; round < 20; round++) {
        struct line *l = line_new(w, round % 2 ? unix_pair : tcp_pair);
        struct record *r[MANY];
        size_t size = 0;
        int n;
        for (unsigned i = 0; i < MANY; i++)
            r[i] = line_send(l, i * EACH, EACH);
        for (unsigned i = 0; i < 1 + round; i++) {
            n = read_now(l->far, seen + size, 100 * round);
            size += n > 0 ? (size_t)n : 0;
            world_turns(w, 2);
        }
        cancel_the_first_in_flight(r);
        while (!r[MANY - 1]->finals) {
            n = read_now(l->far, seen + size, MANY * EACH + 1 - size);
            size += n > 0 ? (size_t)n : 0;
            world_turns(w, 1);
        }
        assert_int_equal(world_close_handle(w, l->near), 0);
        while ((n = read_now(l->far, seen + size, MANY * EACH + 1 - size)) != 0)
            size += n > 0 ? (size_t)n : 0;
        check_what_arrived(l, r, seen, size);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Datagrams are exempt
 * ------------------------------------------------------------------------------------------------------------ */

static void c09_datagram_when_cancelled_does_not_break_the_handle(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[600];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
    shrink_buffers(fds[0]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    world_own(w, fds[1]);
    struct iovec iov = {data, sizeof data};
    unsigned filled = 0;
    struct record *r;
    do { /* until the socket takes no more */
        r = world_record(w);
        struct iovec *one = world_alloc(w, sizeof *one);
        *one = iov;
        pro_send(near, record_begin(r), one, 1, 0, on_record);
        world_turns(w, 3);
        filled += r->finals;
    } while (r->finals);
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -ECANCELED);
    assert_int_equal(pro_op_bytes(&r->op), 0);
    for (unsigned i = 0; i < filled; i++)
        assert_int_equal(read_now(fds[1], data, sizeof data), sizeof data);
    assert_int_equal(read_now(fds[1], data, sizeof data), -EAGAIN);
    struct record *after = world_record(w);
    pro_send(near, record_begin(after), &iov, 1, 0, on_record);
    RUN_UNTIL(w, after->finals == 1);
    assert_int_equal(after->last.res, sizeof data);
    assert_int_equal(read_now(fds[1], data, sizeof data), sizeof data);
}

static void c09_datagram_when_empty_is_no_end(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[8];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
    struct pro_handle *near = world_adopt(w, fds[0]);
    world_own(w, fds[1]);
    struct record *r = world_record(w), *multi = world_record(w);
    assert_int_equal(send(fds[1], "", 0, 0), 0);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 0);
    assert_int_equal(r->last.flags, 0);
    pro_recv_multi(near, record_begin(multi), world_pool(w, NULL), PRO_UNLIMITED, on_record);
    assert_int_equal(send(fds[1], "", 0, 0), 0);
    assert_int_equal(send(fds[1], "abc", 3, 0), 3);
    RUN_UNTIL(w, multi->bytes == 3);
    assert_int_equal(multi->finals, 0);
}

/* A refusal that an earlier datagram brought about is told once, and the next one goes out. */
static void c09_datagram_when_refused_does_not_break_the_handle(void **state)
{
    struct world *w = *state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof at;
    int near_fd = socket(AF_INET, SOCK_DGRAM, 0), far = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(far, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(far, (struct sockaddr *)&at, &length), 0);
    assert_int_equal(connect(near_fd, (struct sockaddr *)&at, sizeof at), 0);
    close(far);
    struct pro_handle *near = world_adopt(w, near_fd);
    struct iovec iov = {(char[]){"abc"}, 3};
    unsigned refused = 0, sent = 0;
    for (unsigned i = 0; i < 6; i++) {
        struct record *r = world_record(w);
        iov.iov_len = 3;
        pro_send(near, record_begin(r), &iov, 1, 0, on_record);
        RUN_UNTIL(w, r->finals == 1);
        sent += r->last.res == 3;
        refused += r->last.res == -ECONNREFUSED;
    }
    assert_int_equal(sent + refused, 6);
    assert_true(sent >= 2 && refused >= 1);
}

/* ------------------------------------------------------------------------------------------------------------
 * Slices, and sends without an operation
 * ------------------------------------------------------------------------------------------------------------ */

/* Slices received on one connection, to be sent on another. */
static struct pro_slice *borrow(struct world *w, struct pro_pool *pool, const uint8_t *data, size_t size)
{
    int far;
    struct pro_handle *near = world_unix(w, &far);
    struct record *r = world_record(w);
    pro_recv_multi(near, record_begin(r), pool, PRO_UNLIMITED, on_record);
    for (size_t sent = 0; sent < size;) {
        size_t piece = size - sent < 8192 ? size - sent : 8192;
        write_all(far, data + sent, piece);
        sent += piece;
        RUN_UNTIL(w, r->bytes == sent);
    }
    struct pro_slice *list = record_take(r);
    assert_int_equal(world_close_handle(w, near), 0);
    world_close(w, far);
    return list;
}

static uint64_t lent(const struct pro_pool *pool)
{
    struct pro_pool_stats stats;
    pro_pool_stats(pool, &stats, sizeof stats);
    return stats.slices_lent;
}

static struct pro_pool *slice_pool(struct world *w)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 1024;
    config.quota_buffers = config.max_buffers = 2048;
    return world_pool(w, &config);
}

static void c09_slices_when_sent_go_out_in_order_and_come_back(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = slice_pool(w);
    struct line *l = line_new(w, unix_pair);
    struct record *r = world_record(w);
    struct record *before = line_send(l, 0, 1000);
    struct pro_slice *list = borrow(w, pool, l->data + 1000, 300000);
    pro_send_slices(l->near, record_begin(r), list, on_record);
    struct record *after = line_send(l, 301000, 1000);
    line_run(l, after);
    assert_int_equal(before->last.res, 1000);
    assert_int_equal(r->last.res, 300000);
    assert_int_equal(lent(pool), 0);
    line_read(l);
    assert_int_equal(l->got, 302000);
}

/* Cancelled midway, cancelled while queued, untried after a cut, closed: they come back in any case. */
static void c09_slices_when_not_sent_come_back_too(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = slice_pool(w);
    struct line *l = line_new(w, unix_pair);
    struct record *r = world_record(w), *queued = world_record(w), *untried = world_record(w);
    struct pro_slice *lists[3];
    for (unsigned i = 0; i < 3; i++)
        lists[i] = borrow(w, pool, l->data, 100000);
    pro_send_slices(l->near, record_begin(r), lists[0], on_record);
    pro_send_slices(l->near, record_begin(queued), lists[1], on_record);
    world_turns(w, 3);
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 1 && queued->finals == 1);
    assert_int_equal(r->last.res, -ECANCELED);
    assert_true(pro_op_bytes(&r->op) > 0);
    assert_int_equal(queued->last.res, -EPIPE);
    pro_send_slices(l->near, record_begin(untried), lists[2], on_record);
    RUN_UNTIL(w, untried->finals == 1);
    assert_int_equal(untried->last.res, -EPIPE);
    assert_int_equal(lent(pool), 0);
    struct pro_slice *last = borrow(w, pool, l->data, 100000);
    struct record *closed = world_record(w), *close = world_record(w);
    struct line *next = line_new(w, unix_pair);
    pro_send_slices(next->near, record_begin(closed), last, on_record);
    pro_close(next->near, record_begin(close), on_record);
    RUN_UNTIL(w, close->finals == 1);
    assert_int_equal(closed->last.res, -ECANCELED);
    assert_int_equal(lent(pool), 0);
}

/* Received and sent on without a copy, with as much credit as has been sent: an echo of a megabyte. */
static void echo_on(struct record *r, struct record *send)
{
    if (r->head && send->starts == send->finals)
        pro_send_slices(send->context, record_begin(send), record_take(r), on_record);
}

static void echo_received(struct record *r, struct pro_result result)
{
    (void)result;
    echo_on(r, r->context);
}

static struct record *echo_source;

static void echo_sent(struct record *send, struct pro_result result)
{
    assert_true(result.res > 0);
    pro_recv_credit(&echo_source->op, (uint32_t)result.res);
    echo_on(echo_source, send);
}

static void c09_slices_when_sent_from_their_continuation_are_an_echo(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = slice_pool(w);
    struct line *l = line_new(w, tcp_pair);
    struct record *r = echo_source = world_record(w), *send = world_record(w);
    r->then = echo_received;
    send->then = echo_sent;
    r->context = send;
    send->context = l->near;
    pro_recv_multi(l->near, record_begin(r), pool, 10000, on_record);
    for (uint64_t sent = 0; l->got < LINE_DATA;) {
        size_t left = LINE_DATA - sent;
        ssize_t moved = left ? write(l->far, l->data + sent, left < 3000 ? left : 3000) : 0;
        sent += moved > 0 ? (uint64_t)moved : 0;
        world_turns(w, 1);
        line_read(l);
    }
    RUN_UNTIL(w, send->starts == send->finals);
    assert_int_equal(lent(pool), 0);
}

/* A list of slices is one datagram, of at most 64 pieces. */
static void c09_slices_when_sent_as_a_datagram_are_one(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = slice_pool(w);
    int fds[2];
    uint8_t data[256];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
    struct pro_handle *near = world_adopt(w, fds[0]);
    world_own(w, fds[1]);
    pattern_fill(data, sizeof data, 0);
    for (unsigned pieces = 63; pieces <= 65; pieces++) {
        struct pro_slice *list = borrow(w, pool, data, 100), *at = list;
        for (unsigned i = 1; i < pieces; i++, at = at->next)
            assert_int_equal(pro_slice_split(at, 1, &at->next), 0);
        struct record *r = world_record(w);
        pro_send_slices(near, record_begin(r), list, on_record);
        RUN_UNTIL(w, r->finals == 1);
        assert_int_equal(r->last.res, pieces <= 64 ? 100 : -EMSGSIZE);
        assert_int_equal(lent(pool), 0);
        int n = read_now(fds[1], data, sizeof data);
        assert_int_equal(n, pieces <= 64 ? 100 : -EAGAIN);
        assert_true(pattern_holds(data, 100, 0));
    }
}

/* One that is larger than the buffer or than the credit is cut there; the rest of it is gone. */
static void c09_datagram_when_larger_than_the_credit_is_cut(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = slice_pool(w); /* of 1024 bytes */
    int fds[2];
    static uint8_t data[2000];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
    struct pro_handle *near = world_adopt(w, fds[0]);
    world_own(w, fds[1]);
    struct record *r = world_record(w);
    r->drop = true;
    pro_recv_multi(near, record_begin(r), pool, 1500, on_record);
    assert_int_equal(send(fds[1], data, 2000, 0), 2000);
    RUN_UNTIL(w, r->completions == 1);
    assert_int_equal(r->last.res, 1024);
    assert_int_equal(r->last.flags, PRO_MORE);
    assert_int_equal(send(fds[1], data, 1000, 0), 1000);
    RUN_UNTIL(w, r->completions == 2);
    assert_int_equal(r->last.res, 1500 - 1024);
    assert_int_equal(r->last.flags, PRO_MORE | PRO_PAUSED);
    assert_int_equal(send(fds[1], data, 10, 0), 10);
    pro_recv_credit(&r->op, 100);
    RUN_UNTIL(w, r->completions == 3);
    assert_int_equal(r->last.res, 10);
}

static void c09_try_send_moves_what_the_socket_takes(void **state)
{
    struct world *w = *state;
    struct line *l = line_new(w, unix_pair);
    uint64_t position = 0;
    int n;
    while ((n = pro_try_send(l->near, l->data + position, 5000)) > 0)
        position += (uint64_t)n;
    assert_int_equal(n, -EAGAIN);
    assert_true(position > 0);
    line_read(l);
    assert_int_equal(l->got, position);
    struct record *r = line_send(l, position, 200000);
    assert_int_equal(pro_try_send(l->near, l->data, 10), -EAGAIN); /* a send is in flight */
    world_turns(w, 3);
    assert_int_equal(pro_try_send(l->near, l->data, 10), -EAGAIN);
    line_run(l, r);
    line_read(l);
    position += 200000;
    assert_int_equal(pro_try_send(l->near, l->data + position, 10), 10);
    line_read(l);
    assert_int_equal(l->got, position + 10);
}

/* ------------------------------------------------------------------------------------------------------------
 * No SIGPIPE, whose default is death
 * ------------------------------------------------------------------------------------------------------------ */

static volatile sig_atomic_t pipe_signals;

static void count_pipe_signal(int number)
{
    pipe_signals++;
}

static void send_to_peers_that_are_gone(struct world *w)
{
    struct pro_pool *pool = slice_pool(w);
    struct line *l = line_new(w, unix_pair), *m = line_new(w, unix_pair);
    world_close(w, l->far);
    assert_int_equal(pro_try_send(l->near, l->data, 10), -EPIPE);
    struct record *r = line_send(l, 0, 10), *slices = world_record(w), *write = world_record(w);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -EPIPE);
    struct pro_slice *list = borrow(w, pool, l->data, 10);
    world_close(w, m->far);
    pro_send_slices(m->near, record_begin(slices), list, on_record);
    RUN_UNTIL(w, slices->finals == 1);
    assert_int_equal(slices->last.res, -EPIPE);
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    struct pro_handle *pipe = world_adopt(w, ends[1]);
    close(ends[0]);
    pro_write(pipe, record_begin(write), l->data, 10, PRO_STREAM, on_record);
    RUN_UNTIL(w, write->finals == 1);
    assert_int_equal(write->last.res, -EPIPE);
}

/* Left to its default, seen by a handler, or blocked: it neither comes nor waits to come. */
static void c09_send_to_a_peer_that_is_gone_raises_no_signal(void **state)
{
    struct sigaction action = {.sa_handler = count_pipe_signal}, before;
    sigset_t set, old, pending;
    send_to_peers_that_are_gone(*state);
    sigaction(SIGPIPE, &action, &before);
    send_to_peers_that_are_gone(*state);
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    send_to_peers_that_are_gone(*state);
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    sigaction(SIGPIPE, &before, NULL);
    assert_int_equal(pipe_signals, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c09_receives_when_queued_complete_in_order),
        TEST(c09_sends_when_queued_are_delivered_in_order_and_whole),
        TEST(c09_send_bigger_than_the_socket_takes_is_delivered_whole),
        TEST(c09_send_of_many_pieces_is_delivered_whole),
        TEST(c09_send_with_more_to_follow_arrives),
        TEST(c09_shutdown_waits_its_turn),
        TEST(c09_shutdown_of_reading_ends_a_receive),
        TEST(c09_writes_to_a_pipe_are_delivered_in_order),
        TEST(c09_send_when_cancelled_midway_says_how_much_went_and_is_the_last),
        TEST(c09_send_when_late_midway_says_how_much_went_and_is_the_last),
        TEST(c09_send_when_the_peer_goes_midway_fails_and_is_the_last),
        TEST(c09_write_when_cancelled_midway_says_how_much_went_and_is_the_last),
        TEST(c09_sends_done_failed_and_cancelled_are_all_of_them),
        TEST(c09_datagram_when_cancelled_does_not_break_the_handle),
        TEST(c09_datagram_when_empty_is_no_end),
        TEST(c09_datagram_when_refused_does_not_break_the_handle),
        TEST(c09_slices_when_sent_go_out_in_order_and_come_back),
        TEST(c09_slices_when_not_sent_come_back_too),
        TEST(c09_slices_when_sent_from_their_continuation_are_an_echo),
        TEST(c09_slices_when_sent_as_a_datagram_are_one),
        TEST(c09_datagram_when_larger_than_the_credit_is_cut),
        TEST(c09_try_send_moves_what_the_socket_takes),
        TEST(c09_send_to_a_peer_that_is_gone_raises_no_signal),
    };
    return RUN(tests);
}
