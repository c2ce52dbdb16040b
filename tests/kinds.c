/* SPDX-License-Identifier: MIT */
#include "kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define HOUR_NS (3600u * UINT64_C(1000000000))

/* ------------------------------------------------------------------------------------------------------------
 * Handles
 * ------------------------------------------------------------------------------------------------------------ */

static void adopt(struct scene *s, int near, int far)
{
    s->fd = near;
    s->far = world_own(s->w, far);
    s->handle = world_adopt(s->w, near);
}

static void set_tcp(struct scene *s)
{
    int fds[2];
    tcp_pair(fds);
    adopt(s, fds[0], fds[1]);
}

static void set_unix(struct scene *s)
{
    int fds[2];
    unix_pair(fds);
    shrink_buffers(fds[0]);
    shrink_buffers(fds[1]);
    adopt(s, fds[0], fds[1]);
}

static void set_read(struct scene *s)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    adopt(s, ends[0], ends[1]);
}

static void set_write(struct scene *s)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    adopt(s, ends[1], ends[0]);
}

static void set_accept(struct scene *s)
{
    s->fd = loopback_listen(64, &s->address, &s->length);
    s->handle = world_adopt(s->w, s->fd);
}

/* A backlog that is full: the kernel drops the next SYN, and the connect waits for a second try. */
static void set_connect(struct scene *s)
{
    s->far = world_own(s->w, loopback_listen(0, &s->address, &s->length));
    world_own(s->w, tcp_connect(&s->address, s->length));
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    s->handle = world_adopt(s->w, s->fd);
}

static void set_nothing(struct scene *s)
{
    (void)s;
}

static void set_pool(struct scene *s)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 16 * 1024;
    s->pool = world_pool(s->w, &config);
    set_tcp(s);
}

/* Slices to send: received over a pair of their own, so that the scene's handle is untouched. */
static void set_slices(struct scene *s)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 16 * 1024;
    config.quota_buffers = 256;
    s->pool = world_pool(s->w, &config);
    int source;
    struct pro_handle *handle = world_tcp(s->w, &source);
    struct record *r = world_record(s->w);
    pro_recv_multi(handle, record_begin(r), s->pool, PRO_UNLIMITED, on_record);
    for (unsigned i = 0; i < SCENE_LISTS; i++) {
        uint64_t until = r->bytes + 32 * 1024;
        write_all(source, s->data, 32 * 1024);
        RUN_UNTIL(s->w, r->bytes == until);
        s->lists[i] = record_take(r);
    }
    assert_int_equal(world_close_handle(s->w, handle), 0);
    world_close(s->w, source);
    set_unix(s);
}

/* A pool of one buffer, and another handle holds it. */
static void set_dry(struct scene *s)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.max_buffers = config.slab_buffers = config.quota_buffers = 1;
    config.buffer_size = 4096;
    s->pool = world_pool(s->w, &config);
    int source;
    s->other = world_tcp(s->w, &source);
    s->before = world_record(s->w);
    pro_recv_multi(s->other, record_begin(s->before), s->pool, 4096, on_record);
    write_all(source, s->data, 4096);
    RUN_UNTIL(s->w, s->before->bytes == 4096);
    pro_cancel(&s->before->op);
    RUN_UNTIL(s->w, s->before->finals == 1);
    set_tcp(s);
}

/* ------------------------------------------------------------------------------------------------------------
 * Starts
 * ------------------------------------------------------------------------------------------------------------ */

static void start_accept(struct scene *s)
{
    pro_accept(s->handle, record_begin(s->r), on_record);
}

static void start_accept_multi(struct scene *s)
{
    pro_accept_multi(s->handle, record_begin(s->r), on_record);
}

static void start_connect(struct scene *s)
{
    pro_connect(s->handle, record_begin(s->r), (struct sockaddr *)&s->address, s->length, on_record);
}

static void start_recv(struct scene *s)
{
    pro_recv(s->handle, record_begin(s->r), s->data, SCENE_DATA, 0, on_record);
}

static void start_recv_all(struct scene *s)
{
    pro_recv(s->handle, record_begin(s->r), s->data, 10, PRO_RECV_ALL, on_record);
}

static void start_recv_multi(struct scene *s)
{
    pro_recv_multi(s->handle, record_begin(s->r), s->pool, PRO_UNLIMITED, on_record);
}

static void start_recv_paused(struct scene *s)
{
    pro_recv_multi(s->handle, record_begin(s->r), s->pool, 0, on_record);
}

static void start_recv_dry(struct scene *s)
{
    write_all(s->far, s->data, 5);
    pro_recv_multi(s->handle, record_begin(s->r), s->pool, PRO_UNLIMITED, on_record);
}

static void start_send(struct scene *s)
{
    s->iov = (struct iovec){s->data, SCENE_DATA};
    pro_send(s->handle, record_begin(s->r), &s->iov, 1, 0, on_record);
}

static void start_send_slices(struct scene *s)
{
    unsigned i = s->r->starts;
    assert_true(i < SCENE_LISTS);
    struct pro_slice *list = s->lists[i];
    s->lists[i] = NULL;
    pro_send_slices(s->handle, record_begin(s->r), list, on_record);
}

static void start_read(struct scene *s)
{
    pro_read(s->handle, record_begin(s->r), s->data, SCENE_DATA, PRO_STREAM, on_record);
}

static void start_write(struct scene *s)
{
    pro_write(s->handle, record_begin(s->r), s->data, SCENE_DATA, PRO_STREAM, on_record);
}

static void start_poll(struct scene *s)
{
    pro_poll(s->handle, record_begin(s->r), POLLIN, on_record);
}

static void start_poll_multi(struct scene *s)
{
    pro_poll_multi(s->handle, record_begin(s->r), POLLIN, on_record);
}

static void start_timer(struct scene *s)
{
    pro_timer(s->w->loop, record_begin(s->r), pro_now(s->w->loop) + HOUR_NS, on_record);
}

static void start_timer_after(struct scene *s)
{
    pro_timer_after(s->w->loop, record_begin(s->r), HOUR_NS, on_record);
}

static void start_timer_every(struct scene *s)
{
    pro_timer_every(s->w->loop, record_begin(s->r), pro_now(s->w->loop) + HOUR_NS, HOUR_NS, on_record);
}

/* The one in the way is started once, with the first start. */
static bool first_in_line(struct scene *s)
{
    if (s->before)
        return false;
    s->before = world_record(s->w);
    record_begin(s->before);
    return true;
}

static void queue_after_send(struct scene *s)
{
    if (!first_in_line(s))
        return;
    s->iov = (struct iovec){s->data, SCENE_DATA};
    pro_send(s->handle, &s->before->op, &s->iov, 1, 0, on_record);
}

static void start_shutdown(struct scene *s)
{
    queue_after_send(s);
    pro_shutdown(s->handle, record_begin(s->r), SHUT_WR, on_record);
}

static void start_queued_send(struct scene *s)
{
    queue_after_send(s);
    struct iovec *iov = world_alloc(s->w, sizeof *iov);
    *iov = (struct iovec){s->data, 5};
    pro_send(s->handle, record_begin(s->r), iov, 1, 0, on_record);
}

static void start_queued_recv(struct scene *s)
{
    if (first_in_line(s))
        pro_recv(s->handle, &s->before->op, s->data + 4096, 4096, 0, on_record);
    pro_recv(s->handle, record_begin(s->r), s->data, 4096, 0, on_record);
}

/* ------------------------------------------------------------------------------------------------------------
 * Feeding
 * ------------------------------------------------------------------------------------------------------------ */

static void feed_accept(struct scene *s)
{
    world_own(s->w, tcp_connect(&s->address, s->length));
}

static void feed_connect(struct scene *s)
{
    int fd = accept4(s->far, NULL, NULL, SOCK_CLOEXEC);
    world_own(s->w, fd);
}

static void feed_five(struct scene *s)
{
    write_all(s->far, "12345", 5);
}

static void feed_ten(struct scene *s)
{
    write_all(s->far, "1234567890", 10);
}

static void feed_credit(struct scene *s)
{
    write_all(s->far, "12345", 5);
    pro_recv_credit(&s->r->op, 5);
}

static void feed_pool(struct scene *s)
{
    record_drop(s->r);
    if (s->before->head)
        record_drop(s->before); /* what the start has sent is waiting */
    else
        feed_five(s);
}

/* The multishot tells of changes: there is nothing, then something. */
static void feed_poll_multi(struct scene *s)
{
    char scrap[64];
    while (read_now(s->fd, scrap, sizeof scrap) > 0)
        continue;
    world_turns(s->w, 1);
    feed_five(s);
}

static void feed_queued_recv(struct scene *s)
{
    if (s->before->finals == 0) {
        write_all(s->far, "1", 1);
        RUN_UNTIL(s->w, s->before->finals == 1);
    }
    write_all(s->far, "12345", 5);
}

void scene_drain(struct scene *s)
{
    static uint8_t scrap[65536];
    while (read_now(s->far, scrap, sizeof scrap) > 0)
        continue;
}

/* Reads for as long as the operation sends. */
static void feed_by_reading(struct scene *s)
{
    unsigned before = s->r->completions;
    for (unsigned turns = 0; s->r->completions == before; turns++) {
        assert_true(turns < 100000);
        scene_drain(s);
        world_turns(s->w, 1);
    }
}

const struct kind kinds[] = {
    {"accept", set_accept, start_accept, feed_accept, 0, KIND_ACCEPTS},
    {"accept_multi", set_accept, start_accept_multi, feed_accept, 0, KIND_ACCEPTS | KIND_MULTI},
    {"connect", set_connect, start_connect, feed_connect, 0, KIND_SLOW},
    {"recv", set_tcp, start_recv, feed_five, 5, KIND_RECEIVES},
    {"recv all", set_tcp, start_recv_all, feed_ten, 10, KIND_RECEIVES},
    {"recv, queued", set_tcp, start_queued_recv, feed_queued_recv, 5, KIND_RECEIVES | KIND_QUEUED},
    {"recv_multi", set_pool, start_recv_multi, feed_five, 5, KIND_RECEIVES | KIND_MULTI},
    {"recv_multi, paused", set_pool, start_recv_paused, feed_credit, 5, KIND_RECEIVES | KIND_MULTI},
    {"recv_multi, dry pool", set_dry, start_recv_dry, feed_pool, 5, KIND_RECEIVES | KIND_MULTI},
    {"send", set_unix, start_send, feed_by_reading, SCENE_DATA, KIND_SENDS},
    {"send, queued", set_unix, start_queued_send, feed_by_reading, 5, KIND_SENDS | KIND_QUEUED},
    {"send_slices", set_slices, start_send_slices, feed_by_reading, 32 * 1024, KIND_SENDS},
    {"shutdown, queued", set_unix, start_shutdown, feed_by_reading, 0, KIND_QUEUED},
    {"read", set_read, start_read, feed_five, 5, KIND_RECEIVES},
    {"write", set_write, start_write, feed_by_reading, SCENE_DATA, KIND_SENDS},
    {"poll", set_tcp, start_poll, feed_five, POLLIN, 0},
    {"poll_multi", set_tcp, start_poll_multi, feed_poll_multi, POLLIN, KIND_MULTI},
    {"timer", set_nothing, start_timer, NULL, 0, 0},
    {"timer_after", set_nothing, start_timer_after, NULL, 0, 0},
    {"timer_every", set_nothing, start_timer_every, NULL, 1, KIND_MULTI},
};
const unsigned kind_count = sizeof kinds / sizeof kinds[0];

/* ------------------------------------------------------------------------------------------------------------
 * Scenes
 * ------------------------------------------------------------------------------------------------------------ */

static void scene_then(struct record *r, struct pro_result result)
{
    struct scene *s = r->context;
    if ((s->kind->flags & KIND_ACCEPTS) && s->handle && result.res >= 0)
        pro_discard(s->w->loop, result.res);
    if (s->then)
        s->then(s, result);
}

struct scene *scene_open(struct world *w, const struct kind *kind)
{
    struct scene *s = world_alloc(w, sizeof *s);
    *s = (struct scene){.w = w, .kind = kind, .fd = -1, .far = -1};
    s->data = world_alloc(w, SCENE_DATA);
    pattern_fill(s->data, SCENE_DATA, 0);
    s->r = world_record(w);
    s->r->context = s;
    s->r->then = scene_then;
    kind->set(s);
    return s;
}

void scene_start(struct scene *s)
{
    s->kind->start(s);
}

void scene_feed(struct scene *s)
{
    unsigned before = s->r->completions;
    assert_non_null(s->kind->feed);
    s->kind->feed(s);
    RUN_UNTIL(s->w, s->r->completions > before);
}

bool scene_fd_is_open(const struct scene *s)
{
    return s->fd >= 0 && fcntl(s->fd, F_GETFD) >= 0;
}

void scene_shut(struct scene *s)
{
    pro_cancel(&s->r->op);
    if (s->handle)
        world_close_handle(s->w, s->handle);
    if (s->other)
        world_close_handle(s->w, s->other);
    RUN_UNTIL(s->w, s->r->finals == s->r->starts);
    record_drop(s->r);
    if (s->before)
        record_drop(s->before);
    for (unsigned i = 0; i < SCENE_LISTS; i++)
        pro_slice_return_list(s->lists[i]);
    if (s->far >= 0)
        world_close(s->w, s->far);
    if (s->pool) {
        assert_ptr_equal(s->w->pools[s->w->pool_count - 1], s->pool);
        s->w->pool_count--;
        pro_pool_free(s->pool);
    }
}

void for_kinds(struct world *w, unsigned flags, unsigned not, void (*body)(struct scene *s))
{
    for (unsigned i = 0; i < kind_count; i++) {
        if ((kinds[i].flags & flags) != flags || (kinds[i].flags & not ))
            continue;
        world_note(w, kinds[i].name);
        struct scene *s = scene_open(w, &kinds[i]);
        body(s);
        scene_shut(s);
    }
    world_note(w, NULL);
}
