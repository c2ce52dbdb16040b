/* SPDX-License-Identifier: MIT
 *
 * Clause 6: handles close cleanly; and the ways out that are not a close: abort, release, discard. */
#include "harness.h"
#include "kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void close_fn(struct pro_handle *handle, struct pro_op *op, pro_fn *done);

/* ------------------------------------------------------------------------------------------------------------
 * Close, abort and release end what is in flight
 * ------------------------------------------------------------------------------------------------------------ */

/* An abort is an event for a poll, which may tell of it. */
static bool hears_of_aborts(const struct scene *s)
{
    return strncmp(s->kind->name, "poll", 4) == 0;
}

/* Starts the operation of the scene, lets `turns` pass, and ends the handle; the operation's final comes first. */
static struct record *end_handle(struct scene *s, close_fn *end, unsigned turns)
{
    struct record *close = world_record(s->w);
    scene_start(s);
    world_turns(s->w, turns);
    end(s->handle, record_begin(close), on_record);
    assert_int_equal(close->completions, 0);
    assert_int_equal(s->r->completions, 0);
    RUN_UNTIL(s->w, close->finals == 1);
    s->handle = NULL;
    assert_int_equal(s->r->finals, 1);
    assert_true(s->r->completions == 1 || (end == pro_abort && hears_of_aborts(s)));
    assert_true(s->r->order < close->order);
    if (s->before && s->kind->flags & KIND_QUEUED)
        assert_true(s->before->finals == 1 && s->before->order < close->order);
    return close;
}

static void close_at_once(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *close = end_handle(s, pro_close, 0);
    assert_int_equal(close->last.res, 0);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_false(scene_fd_is_open(s));
}

static void c06_handle_when_closed_at_once_ends_the_operation_of_any_kind(void **state)
{
    for_kinds(*state, 0, 0, close_at_once);
}

static void close_later(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *close = end_handle(s, pro_close, 4);
    assert_int_equal(close->last.res, 0);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_false(scene_fd_is_open(s));
}

static void c06_handle_when_closed_ends_the_operation_of_any_kind(void **state)
{
    for_kinds(*state, 0, 0, close_later);
}

static void abort_later(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *close = end_handle(s, pro_abort, 3);
    assert_int_equal(close->last.res, 0);
    assert_true(s->r->last.res < 0 || (hears_of_aborts(s) && s->r->last.res & POLLHUP));
    assert_false(scene_fd_is_open(s));
}

static void c06_handle_when_aborted_ends_the_operation_of_any_kind(void **state)
{
    for_kinds(*state, 0, 0, abort_later);
}

static void release_later(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *release = end_handle(s, pro_release, 3);
    assert_int_equal(release->last.res, s->fd);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_true(scene_fd_is_open(s));
    assert_int_equal(close(s->fd), 0);
}

static void c06_handle_when_released_ends_the_operation_of_any_kind(void **state)
{
    for_kinds(*state, 0, 0, release_later);
}

/* The close is begun by the operation's own final continuation, with the operation itself. */
static void close_with_itself(struct scene *s, struct pro_result result)
{
    if (!(result.flags & PRO_MORE) && s->handle) {
        pro_close(s->handle, record_begin(s->r), on_record);
        s->handle = NULL;
    }
}

static void cancel_then_close_inside(struct scene *s)
{
    if (!s->handle)
        return;
    s->then = close_with_itself;
    scene_start(s);
    world_turns(s->w, 2);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 2);
    assert_int_equal(s->r->last.res, 0);
    assert_false(scene_fd_is_open(s));
}

static void c06_handle_when_closed_inside_the_final_of_any_kind_closes(void **state)
{
    for_kinds(*state, 0, 0, cancel_then_close_inside);
}

/* The close is begun inside a completion with PRO_MORE. */
static void close_at_more(struct scene *s, struct pro_result result)
{
    if (s->handle && result.flags & PRO_MORE) {
        pro_close(s->handle, record_begin(s->context), on_record);
        s->handle = NULL;
    }
}

static void feed_then_close_inside(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *close = s->context = world_record(s->w);
    s->then = close_at_more;
    scene_start(s);
    scene_feed(s);
    RUN_UNTIL(s->w, close->finals == 1);
    assert_int_equal(s->r->finals, 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_false(scene_fd_is_open(s));
}

static void c06_handle_when_closed_inside_a_multishot_closes(void **state)
{
    for_kinds(*state, KIND_MULTI, 0, feed_then_close_inside);
}

/* Another operation's continuation closes. */
static void close_scene_handle(struct record *r, struct pro_result result)
{
    struct scene *s = r->context;
    (void)result;
    pro_close(s->handle, record_begin(s->context), on_record);
    s->handle = NULL;
}

static void timer_closes(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *timer = world_record(s->w), *close = s->context = world_record(s->w);
    timer->context = s;
    timer->then = close_scene_handle;
    scene_start(s);
    pro_timer(s->w->loop, record_begin(timer), 0, on_record);
    RUN_UNTIL(s->w, close->finals == 1);
    assert_int_equal(s->r->finals, 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
}

static void c06_handle_when_closed_by_another_continuation_closes(void **state)
{
    for_kinds(*state, 0, 0, timer_closes);
}

/* Cancelled and closed and, on the way, late: still one final. */
static void cancel_and_close(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *close = world_record(s->w);
    scene_start(s);
    world_turns(s->w, 2);
    pro_cancel(&s->r->op);
    pro_deadline(&s->r->op, 1);
    pro_close(s->handle, record_begin(close), on_record);
    pro_cancel(&s->r->op);
    s->handle = NULL;
    RUN_UNTIL(s->w, close->finals == 1);
    assert_int_equal(s->r->finals, 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
}

static void c06_handle_when_closed_after_a_cancel_ends_once(void **state)
{
    for_kinds(*state, 0, 0, cancel_and_close);
}

/* ------------------------------------------------------------------------------------------------------------
 * What is started on a closing handle
 * ------------------------------------------------------------------------------------------------------------ */

static void start_while_closing(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *close = world_record(s->w);
    if (s->far >= 0 && s->kind->flags & KIND_RECEIVES)
        write_all(s->far, "12345", 5); /* it would complete at once */
    pro_close(s->handle, record_begin(close), on_record);
    scene_start(s);
    assert_int_equal(s->r->completions, 0);
    s->handle = NULL;
    RUN_UNTIL(s->w, close->finals == 1);
    assert_int_equal(s->r->finals, 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_true(s->r->order < close->order);
}

static void c06_start_of_any_kind_on_a_closing_handle_ends_cancelled(void **state)
{
    for_kinds(*state, 0, 0, start_while_closing);
}

/* Begun anew inside the continuation that the close brought about. */
static void restart_in_final(struct scene *s, struct pro_result result)
{
    if (!(result.flags & PRO_MORE) && s->r->starts < 4)
        scene_start(s);
}

static void restart_while_closing(struct scene *s)
{
    if (!s->handle)
        return;
    struct record *close = world_record(s->w);
    s->then = restart_in_final;
    scene_start(s);
    world_turns(s->w, 2);
    pro_close(s->handle, record_begin(close), on_record);
    RUN_UNTIL(s->w, close->finals == 1);
    s->handle = NULL;
    assert_int_equal(s->r->finals, 4);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_true(s->r->order < close->order);
}

static void c06_restart_of_any_kind_while_closing_ends_cancelled(void **state)
{
    for_kinds(*state, 0, 0, restart_while_closing);
}

/* ------------------------------------------------------------------------------------------------------------
 * Everything at once
 * ------------------------------------------------------------------------------------------------------------ */

enum { CROWD = 24 };

/* Receives, sends, polls, a paused multishot and a shutdown, all on one handle. */
static void start_crowd(struct world *w, struct pro_handle *near, struct pro_pool *pool, struct record *r[CROWD])
{
    uint8_t *data = world_alloc(w, SCENE_DATA);
    for (unsigned i = 0; i < CROWD; i++)
        r[i] = world_record(w);
    unsigned n = 0;
    pro_recv_multi(near, record_begin(r[n++]), pool, 0, on_record);
    while (n < 8)
        pro_recv(near, record_begin(r[n++]), data, 16, 0, on_record);
    while (n < 16) {
        struct iovec *iov = world_alloc(w, sizeof *iov);
        *iov = (struct iovec){data, SCENE_DATA};
        pro_send(near, record_begin(r[n++]), iov, 1, 0, on_record);
    }
    pro_shutdown(near, record_begin(r[n++]), SHUT_WR, on_record);
    while (n < 20)
        pro_poll(near, record_begin(r[n++]), POLLPRI, on_record);
    while (n < CROWD)
        pro_poll_multi(near, record_begin(r[n++]), POLLPRI, on_record);
}

static void crowd_then_close(struct world *w, unsigned turns)
{
    int fds[2];
    tcp_pair(fds);
    shrink_buffers(fds[0]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    world_own(w, fds[1]);
    struct record *r[CROWD], *close = world_record(w);
    start_crowd(w, near, world_pool(w, NULL), r);
    world_turns(w, turns);
    pro_close(near, record_begin(close), on_record);
    RUN_UNTIL(w, close->finals == 1);
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(r[i]->finals, 1);
        assert_true(r[i]->last.res == -ECANCELED || r[i]->last.res == -EPIPE);
        assert_true(r[i]->order < close->order);
    }
    assert_int_equal(close->last.res, 0);
}

static void c06_handle_when_closed_with_everything_in_flight_ends_all_before(void **state)
{
    crowd_then_close(*state, 0);
    crowd_then_close(*state, 1);
    crowd_then_close(*state, 5);
}

/* ------------------------------------------------------------------------------------------------------------
 * The descriptor
 * ------------------------------------------------------------------------------------------------------------ */

static void c06_peer_when_the_handle_is_closed_sees_the_end(void **state)
{
    struct world *w = *state;
    int far;
    char data[4];
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    world_turns(w, 2);
    assert_int_equal(world_close_handle(w, near), 0);
    assert_int_equal(read_now(far, data, sizeof data), 0);
}

static void c06_handle_when_closed_may_be_adopted_again_and_freed(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 20; i++) {
        struct pro_handle *near = calloc(1, sizeof *near);
        for (unsigned n = 0; n < 3; n++) {
            int fds[2];
            char data[4];
            tcp_pair(fds);
            pro_adopt(w->loop, near, fds[0]);
            struct record *r = world_record(w);
            pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
            if (n % 2)
                write_all(fds[1], "ab", 2);
            world_turns(w, i % 3);
            assert_int_equal(world_close_handle(w, near), 0);
            close(fds[1]);
        }
        memset(near, 0xa5, sizeof *near);
        free(near);
    }
}

/* In the close's continuation the number is taken again, by a socket that must not be touched. */
struct reuse {
    struct record *close, *next;
    struct pro_handle *handle;
    int number, stolen[2], far;
    char data[16];
};

static void take_the_number(struct record *r, struct pro_result result)
{
    struct reuse *u = r->context;
    assert_int_equal(result.res, 0);
    unix_pair(u->stolen);
    write_all(u->stolen[1], "untouched", 9);
    write_all(u->stolen[0], "untouched", 9);
}

static void c06_number_when_reused_at_once_is_not_touched(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    unsigned taken = 0;
    for (unsigned i = 0; i < 300; i++) {
        struct reuse *u = world_alloc(w, sizeof *u);
        int fds[2];
        char data[16];
        tcp_pair(fds);
        u->number = fds[0];
        struct pro_handle *near = world_adopt(w, fds[0]);
        struct record *one = world_record(w), *two = world_record(w), *poll = world_record(w);
        u->close = world_record(w);
        u->close->context = u;
        u->close->then = take_the_number;
        if (i % 2)
            pro_recv_multi(near, record_begin(one), pool, PRO_UNLIMITED, on_record);
        else
            pro_recv(near, record_begin(one), u->data, sizeof u->data, 0, on_record);
        pro_recv(near, record_begin(two), u->data, sizeof u->data, 0, on_record);
        pro_poll_multi(near, record_begin(poll), POLLIN, on_record);
        world_turns(w, i % 4);
        if (i % 5 == 0)
            write_all(fds[1], "x", 1);
        pro_close(near, record_begin(u->close), on_record);
        RUN_UNTIL(w, u->close->finals == 1);
        assert_true(one->finals == 1 && two->finals == 1 && poll->finals == 1);
        taken += u->stolen[0] == u->number || u->stolen[1] == u->number;
        world_turns(w, 2);
        assert_int_equal(read_now(u->stolen[0], data, sizeof data), 9);
        assert_int_equal(read_now(u->stolen[1], data, sizeof data), 9);
        close(u->stolen[0]);
        close(u->stolen[1]);
        close(fds[1]);
    }
    assert_true(taken > 200); /* else nothing was tested */
}

/* The same number, adopted again at once on another handle: the new operation is not hit by the old cancel. */
static void c06_number_when_adopted_again_at_once_serves_the_new_handle(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 300; i++) {
        int far;
        char *data = world_alloc(w, 8);
        struct pro_handle *near = world_tcp(w, &far);
        struct record *old = world_record(w), *new = world_record(w);
        pro_recv(near, record_begin(old), data, 4, 0, on_record);
        world_turns(w, i % 3);
        assert_int_equal(world_close_handle(w, near), 0);
        int next_far;
        struct pro_handle *next = world_tcp(w, &next_far);
        pro_recv(next, record_begin(new), data, 4, 0, on_record);
        world_turns(w, i % 3);
        assert_int_equal(new->finals, 0);
        write_all(next_far, "abc", 3);
        RUN_UNTIL(w, new->finals == 1);
        assert_int_equal(new->last.res, 3);
        assert_int_equal(world_close_handle(w, next), 0);
        world_close(w, far);
        world_close(w, next_far);
    }
}

/* Others hold the socket: it is not shut down behind their back. */
static void c06_socket_when_others_hold_it_survives_the_close(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[16];
    tcp_pair(fds);
    int holder = world_own(w, dup(fds[0]));
    world_own(w, fds[1]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    struct record *r = world_record(w);
    pro_recv(near, record_begin(r), world_alloc(w, 16), 16, 0, on_record);
    world_turns(w, 2);
    assert_int_equal(world_close_handle(w, near), 0);
    write_all(holder, "there", 5);
    assert_int_equal(read_now(fds[1], data, sizeof data), 5);
    write_all(fds[1], "back", 4);
    world_turns(w, 2);
    assert_int_equal(read_now(holder, data, sizeof data), 4);
}

static void c06_listener_when_others_hold_it_survives_the_close(void **state)
{
    struct world *w = *state;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage at;
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    int holder = world_own(w, dup(fd));
    struct pro_handle *listener = world_adopt(w, fd);
    struct record *r = world_record(w);
    pro_accept_multi(listener, record_begin(r), on_record);
    world_turns(w, 2);
    assert_int_equal(world_close_handle(w, listener), 0);
    world_own(w, tcp_connect(&at, length));
    world_turns(w, 2);
    assert_int_equal(r->completions, 1);
    world_own(w, accept(holder, NULL, NULL)); /* the connection is the holder's */
}

/* A copy of the descriptor lives on; no event of it may reach the loop (TRAPS: epoll reports a closed number). */
static void c06_closed_handle_when_a_copy_lives_stays_silent(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[16];
    tcp_pair(fds);
    int copy = world_own(w, dup(fds[0]));
    world_own(w, fds[1]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    struct record *r = world_record(w), *poll = world_record(w);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    pro_poll_multi(near, record_begin(poll), POLLIN, on_record);
    world_turns(w, 2);
    assert_int_equal(world_close_handle(w, near), 0);
    memset(near, 0xa5, sizeof *near); /* its memory is the caller's */
    write_all(fds[1], "noise", 5);
    world_turns(w, 3);
    assert_int_equal(read_now(copy, data, sizeof data), 5);
}

/* ------------------------------------------------------------------------------------------------------------
 * Abort, and the close that becomes one
 * ------------------------------------------------------------------------------------------------------------ */

static void c06_peer_when_the_connection_is_aborted_gets_an_error(void **state)
{
    struct world *w = *state;
    int far;
    char data[4];
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w), *end = world_record(w);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    world_turns(w, 2);
    pro_abort(near, record_begin(end), on_record);
    RUN_UNTIL(w, end->finals == 1);
    assert_int_equal(end->last.res, 0);
    assert_int_equal(read_now(far, data, sizeof data), -ECONNRESET);
}

static void c06_connection_when_aborted_drops_unsent_data(void **state)
{
    struct world *w = *state;
    static uint8_t scrap[SCENE_DATA];
    int fds[2];
    tcp_pair(fds);
    shrink_buffers(fds[0]);
    shrink_buffers(fds[1]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    world_own(w, fds[1]);
    struct record *r = world_record(w), *end = world_record(w);
    struct iovec iov = {scrap, sizeof scrap};
    pro_send(near, record_begin(r), &iov, 1, 0, on_record);
    world_turns(w, 3);
    pro_abort(near, record_begin(end), on_record);
    RUN_UNTIL(w, end->finals == 1);
    assert_true(r->last.res < 0);
    int got;
    do
        got = read_now(fds[1], scrap, sizeof scrap);
    while (got > 0);
    assert_int_equal(got, -ECONNRESET);
}

static void c06_connection_when_aborted_ends_for_others_who_share_it(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[4];
    tcp_pair(fds);
    int holder = world_own(w, dup(fds[0]));
    world_own(w, fds[1]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    struct record *end = world_record(w);
    pro_abort(near, record_begin(end), on_record);
    RUN_UNTIL(w, end->finals == 1);
    assert_int_equal(read_now(fds[1], data, sizeof data), -ECONNRESET);
    assert_true(send(holder, "x", 1, MSG_NOSIGNAL) < 0);
}

static void abort_plain(struct world *w, int fd)
{
    struct pro_handle *near = world_adopt(w, fd);
    struct record *end = world_record(w);
    pro_abort(near, record_begin(end), on_record);
    RUN_UNTIL(w, end->finals == 1);
    assert_int_equal(end->last.res, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void c06_abort_on_what_is_no_connection_is_a_close(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    abort_plain(w, ends[0]);
    abort_plain(w, ends[1]);
    abort_plain(w, world_is_sim(w) ? pro_sim_file(w->sim, "", 0) : open("/dev/null", O_RDONLY));
    abort_plain(w, socket(AF_INET, SOCK_STREAM, 0));
    abort_plain(w, socket(AF_INET, SOCK_DGRAM, 0));
    unix_pair(ends);
    abort_plain(w, ends[0]);
    close(ends[1]);
}

/* Aborting a listener does not end it for others who hold it: it is no connection. */
static void c06_listener_when_aborted_is_closed(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w), *end = world_record(w);
    pro_accept_multi(listener, record_begin(r), on_record);
    pro_abort(listener, record_begin(end), on_record);
    RUN_UNTIL(w, end->finals == 1);
    assert_int_equal(end->last.res, 0);
    assert_int_equal(r->last.res, -ECANCELED);
}

static void hurried_close(struct scene *s, bool by_deadline)
{
    if (!s->handle)
        return;
    struct record *close = world_record(s->w);
    scene_start(s);
    world_turns(s->w, 2);
    pro_close(s->handle, record_begin(close), on_record);
    if (by_deadline)
        pro_deadline(&close->op, 1);
    else
        pro_cancel(&close->op);
    s->handle = NULL;
    RUN_UNTIL(s->w, close->finals == 1);
    assert_true(close->last.res == 0 || close->last.res == (by_deadline ? -ETIME : -ECANCELED));
    assert_int_equal(s->r->finals, 1);
    assert_true(s->r->last.res < 0);
    assert_false(scene_fd_is_open(s)); /* in any case */
}

static void close_with_deadline(struct scene *s)
{
    hurried_close(s, true);
}

static void close_with_cancel(struct scene *s)
{
    hurried_close(s, false);
}

static void c06_close_when_its_deadline_passes_closes_all_the_same(void **state)
{
    for_kinds(*state, 0, 0, close_with_deadline);
}

static void c06_close_when_cancelled_closes_all_the_same(void **state)
{
    for_kinds(*state, 0, 0, close_with_cancel);
}

/* ------------------------------------------------------------------------------------------------------------
 * Release and discard
 * ------------------------------------------------------------------------------------------------------------ */

static void c06_descriptor_when_released_has_lost_nothing(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[16];
    tcp_pair(fds);
    world_own(w, fds[1]);
    for (unsigned i = 0; i < 50; i++) {
        struct pro_handle *near = world_adopt(w, fds[0]);
        struct record *r = world_record(w), *release = world_record(w);
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        world_turns(w, i % 3);
        pro_release(near, record_begin(release), on_record);
        write_all(fds[1], "abc", 3);
        RUN_UNTIL(w, release->finals == 1);
        assert_int_equal(release->last.res, fds[0]);
        int left = read_now(fds[0], data, sizeof data);
        assert_int_equal((r->last.res > 0 ? r->last.res : 0) + (left > 0 ? left : 0), 3);
    }
    close(fds[0]);
}

/* The same with a multishot: what it has not delivered is still in the socket. */
static void c06_descriptor_when_released_under_a_multishot_has_lost_nothing(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    uint64_t sent = 0, seen = 0;
    int fds[2];
    static uint8_t data[4096];
    tcp_pair(fds);
    world_own(w, fds[1]);
    for (unsigned i = 0; i < 100; i++) {
        struct pro_handle *near = world_adopt(w, fds[0]);
        struct record *r = world_record(w), *release = world_record(w);
        pro_recv_multi(near, record_begin(r), pool, PRO_UNLIMITED, on_record);
        world_turns(w, i % 3);
        pattern_fill(data, 1000, sent);
        write_all(fds[1], data, 1000);
        sent += 1000;
        world_turns(w, i % 2);
        pro_release(near, record_begin(release), on_record);
        RUN_UNTIL(w, release->finals == 1);
        size_t got = record_text(r, data, sizeof data);
        assert_true(pattern_holds(data, got, seen));
        seen += got;
        record_drop(r);
    }
    int n;
    while ((n = read_now(fds[0], data, sizeof data)) > 0) {
        assert_true(pattern_holds(data, (size_t)n, seen));
        seen += (uint64_t)n;
    }
    assert_int_equal(seen, sent);
    close(fds[0]);
}

static void c06_descriptor_when_released_serves_another_loop(void **state)
{
    struct world *w = *state;
    struct pro_loop *second;
    int fds[2];
    char data[16];
    tcp_pair(fds);
    world_own(w, fds[1]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    struct record *release = world_record(w), *r = world_record(w);
    pro_release(near, record_begin(release), on_record);
    RUN_UNTIL(w, release->finals == 1);
    assert_int_equal(pro_loop_new(&w->config, &second), 0);
    pro_adopt(second, near, fds[0]);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    write_all(fds[1], "abc", 3);
    w->running++;
    while (r->finals == 0)
        pro_run(second, PRO_RUN_ONCE);
    w->running--;
    assert_int_equal(r->last.res, 3);
    pro_loop_free(second);
}

static void c06_accepted_descriptor_when_discarded_is_closed(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    char data[4];
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w);
    pro_accept(listener, record_begin(r), on_record);
    int far = world_own(w, tcp_connect(&at, length));
    RUN_UNTIL(w, r->finals == 1);
    assert_true(r->last.res >= 0);
    pro_discard(w->loop, r->last.res);
    assert_int_equal(fcntl(r->last.res, F_GETFD), -1);
    assert_int_equal(read_now(far, data, sizeof data), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c06_handle_when_closed_at_once_ends_the_operation_of_any_kind),
        TEST(c06_handle_when_closed_ends_the_operation_of_any_kind),
        TEST(c06_handle_when_aborted_ends_the_operation_of_any_kind),
        TEST(c06_handle_when_released_ends_the_operation_of_any_kind),
        TEST(c06_handle_when_closed_inside_the_final_of_any_kind_closes),
        TEST(c06_handle_when_closed_inside_a_multishot_closes),
        TEST(c06_handle_when_closed_by_another_continuation_closes),
        TEST(c06_handle_when_closed_after_a_cancel_ends_once),
        TEST(c06_start_of_any_kind_on_a_closing_handle_ends_cancelled),
        TEST(c06_restart_of_any_kind_while_closing_ends_cancelled),
        TEST(c06_handle_when_closed_with_everything_in_flight_ends_all_before),
        TEST(c06_peer_when_the_handle_is_closed_sees_the_end),
        TEST(c06_handle_when_closed_may_be_adopted_again_and_freed),
        TEST(c06_number_when_reused_at_once_is_not_touched),
        TEST(c06_number_when_adopted_again_at_once_serves_the_new_handle),
        TEST(c06_socket_when_others_hold_it_survives_the_close),
        TEST(c06_listener_when_others_hold_it_survives_the_close),
        TEST(c06_closed_handle_when_a_copy_lives_stays_silent),
        TEST(c06_peer_when_the_connection_is_aborted_gets_an_error),
        TEST(c06_connection_when_aborted_drops_unsent_data),
        TEST(c06_connection_when_aborted_ends_for_others_who_share_it),
        TEST(c06_abort_on_what_is_no_connection_is_a_close),
        TEST(c06_listener_when_aborted_is_closed),
        TEST(c06_close_when_its_deadline_passes_closes_all_the_same),
        TEST(c06_close_when_cancelled_closes_all_the_same),
        TEST(c06_descriptor_when_released_has_lost_nothing),
        TEST(c06_descriptor_when_released_under_a_multishot_has_lost_nothing),
        TEST(c06_descriptor_when_released_serves_another_loop),
        TEST(c06_accepted_descriptor_when_discarded_is_closed),
    };
    return RUN(tests);
}
