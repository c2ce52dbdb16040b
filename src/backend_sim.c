/* SPDX-License-Identifier: MIT
 *
 * The simulated kernel, as a backend: requests that are carried out, cancelled and told in any order a kernel may choose.
 *
 *      start ---> request --- carried out ---> result --- reap ---> event
 *                  |   ^          |  ^           ^
 *                  |   '- EAGAIN -'  |           |
 *                  |    (watches its descriptor) |
 *      cancel -----'--- takes effect ------------'
 *
 * Being carried out and being cancelled are things that happen (sim_world.h), so their order is a choice, and so is how
 * many of them happen before a wait returns. A result that is there is told whatever is cancelled afterwards.
 *
 * A turn takes a microsecond of the world's time, so that a program that polls gets on. */
#include "backend.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

#include "handle.h"
#include "loop.h"
#include "pool.h"
#include "post.h"
#include "sim_net.h"

enum { TURN_NS = 1000, BATCH = 16 };
#define MILLISECOND UINT64_C(1000000)

struct request {
    struct sim_action carry_out, cancel;
    struct sim_watch watch;
    struct backend *backend;
    struct pro_op *op;
    uint32_t slot, serial;
    uint32_t credit; /* of a multishot receive, when it was started: what it is given or loses later comes too late */
    int events;      /* of a multishot poll: that have come up */
    bool done;       /* its last result is there */
    bool told;       /* a multishot poll has looked; a slow close has waited */
};

struct result {
    struct request *request;
    struct pro_slice *slice;
    int32_t res;
    bool more;
};

struct backend {
    struct sim_loop base;
    struct pro_sim *sim;
    struct request **requests; /* an operation that is active has its place here in `res` */
    uint32_t request_room, request_count;
    uint32_t *unused;
    uint32_t unused_room, unused_count;
    struct result *results; /* a ring */
    uint32_t result_room, result_first, result_count;
    uint32_t limit; /* results that this turn may see */
    bool one_shot;
};

static struct backend *state(const struct pro_loop *loop)
{
    return loop->backend_state;
}

static struct pro_sim *world(const struct pro_loop *loop)
{
    return state(loop)->sim;
}

/* ---- Requests and results ---- */

static void on_carry_out(struct pro_sim *sim, struct sim_action *action);
static void on_cancel(struct pro_sim *sim, struct sim_action *action);
static void on_changed(struct pro_sim *sim, struct sim_watch *watch, int events);

static struct request *request_new(struct backend *b, struct pro_op *op)
{
    struct request *r = proi_world_alloc(b->sim, sizeof *r);
    if (b->unused_count == 0 && b->request_count == b->request_room)
        b->requests = proi_world_grow(b->sim, b->requests, &b->request_room, sizeof(struct request *));
    r->slot = b->unused_count > 0 ? b->unused[--b->unused_count] : b->request_count++;
    r->serial = ++b->sim->requests_made;
    r->backend = b;
    r->op = op;
    r->carry_out.run = on_carry_out;
    r->cancel.run = on_cancel;
    r->watch.changed = on_changed;
    b->requests[r->slot] = r;
    op->res = (int32_t)r->slot;
    return r;
}

static void request_free(struct request *r)
{
    struct backend *b = r->backend;
    proi_assert(!r->watch.node && r->carry_out.place == SIM_IDLE);
    if (b->unused_count == b->unused_room)
        b->unused = proi_world_grow(b->sim, b->unused, &b->unused_room, sizeof *b->unused);
    b->unused[b->unused_count++] = r->slot;
    b->requests[r->slot] = NULL;
    proi_world_free(b->sim, r, sizeof *r);
}

static struct request *request_of(const struct backend *b, const struct pro_op *op)
{
    struct request *r = (uint32_t)op->res < b->request_count ? b->requests[op->res] : NULL;
    proi_assert(r && r->op == op);
    return r;
}

static void push_result(struct request *r, int res, struct pro_slice *slice, bool more)
{
    struct backend *b = r->backend;
    if (b->result_count == b->result_room) {
        uint32_t old = b->result_room;
        b->results = proi_world_grow(b->sim, b->results, &b->result_room, sizeof *b->results);
        for (uint32_t i = 0; i < b->result_first; i++)
            b->results[old + i] = b->results[i];
    }
    b->results[(b->result_first + b->result_count++) & (b->result_room - 1)] = (struct result){r, slice, res, more};
    proi_sim_tell(b->sim, SIM_E_RESULT, r->serial, res, more);
    if (more)
        return;
    r->done = true;
    proi_sim_unwatch(&r->watch);
    proi_sim_never(b->sim, &r->carry_out);
}

/* ---- What the requests do ---- */

static int do_recv(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    struct pro_op *op = r->op;
    uint32_t moved = op->u.io.moved, size = op->u.io.size - moved;
    if (pro_sim_chance(sim, PRO_SIM_NO_MEMORY))
        return -ENOMEM;
    if (pro_sim_chance(sim, PRO_SIM_SHORT_RECV) && proi_handle_kind(op->owner.handle) < PROI_PACKETS)
        size = proi_sim_part(sim, size);
    return proi_sim_recv(sim, op->owner.handle->fd, (char *)op->u.io.data + moved, size, 0);
}

/* The bytes to ask for. A border that falls into a datagram would cost its rest, so only credit cuts one. */
static uint32_t window_of(const struct request *r)
{
    const struct pro_op *op = r->op;
    uint32_t armed = op->u.stream.armed, buffer = op->u.stream.pool->buffer_size;
    bool borders = proi_handle_kind(op->owner.handle) >= PROI_PACKETS;
    uint32_t window = armed == 0 || (armed < buffer && borders) ? r->credit : armed;
    return window < buffer ? window : buffer;
}

static int do_recv_multi(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    struct pro_op *op = r->op;
    struct pro_handle *handle = op->owner.handle;
    struct pro_pool *pool = op->u.stream.pool;
    uint32_t size = window_of(r);
    if (pro_sim_chance(sim, PRO_SIM_NO_MEMORY))
        return -ENOMEM;
    if (pro_sim_chance(sim, PRO_SIM_SHORT_RECV) && proi_handle_kind(handle) < PROI_PACKETS)
        size = proi_sim_part(sim, size);
    struct pro_buffer *buffer = pro_sim_chance(sim, PRO_SIM_POOL_EMPTY) ? NULL : proi_pool_take(pool);
    if (!buffer)
        return -ENOBUFS;
    int n = proi_sim_recv(sim, handle->fd, buffer->data, size, 0);
    if (n <= 0) {
        proi_pool_give(buffer);
        return n;
    }
    event->slice = proi_pool_lend(buffer, handle, (uint32_t)n);
    uint32_t left = (uint32_t)n < op->u.stream.armed ? op->u.stream.armed - (uint32_t)n : 0;
    event->more = left >= pool->buffer_size; /* as a kernel does, which cannot cut the last piece either */
    if (event->more)
        op->u.stream.armed -= (uint32_t)n;
    return n;
}

static int do_accept(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    static const struct {
        enum pro_sim_fault fault;
        int error;
        bool gone; /* the connection */
    } errors[] = {
        {PRO_SIM_ACCEPT_EMFILE, EMFILE, false},       {PRO_SIM_ACCEPT_ENFILE, ENFILE, false},
        {PRO_SIM_ACCEPT_ENOMEM, ENOMEM, false},       {PRO_SIM_ACCEPT_ENOBUFS, ENOBUFS, false},
        {PRO_SIM_ACCEPT_ABORTED, ECONNABORTED, true}, {PRO_SIM_ACCEPT_EINTR, EINTR, false},
        {PRO_SIM_ACCEPT_EPERM, EPERM, true},
    };
    int fd = r->op->owner.handle->fd;
    bool there = proi_sim_poll(sim, fd) > 0;
    for (size_t i = 0; there && i < sizeof errors / sizeof errors[0]; i++) {
        if (!pro_sim_chance(sim, errors[i].fault))
            continue;
        int gone = errors[i].gone ? proi_sim_accept(sim, fd) : -1;
        if (gone >= 0) {
            proi_sim_abort(sim, gone);
            proi_sim_close(sim, gone);
        }
        return -errors[i].error;
    }
    int accepted = proi_sim_accept(sim, fd);
    event->more = accepted >= 0 && r->op->code == PROI_ACCEPT_MULTI;
    return accepted;
}

/* `moved` says that the connect is under way. */
static int do_connect(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    struct pro_op *op = r->op;
    int res = proi_sim_connect(sim, op->owner.handle->fd, op->u.io.data, op->u.io.size);
    if (res == -EISCONN && op->u.io.moved)
        return 0;
    if (res == -EAGAIN) /* a Unix listener's full backlog, of which nothing tells */
        return -ECONNREFUSED;
    if (res != -EINPROGRESS && res != -EALREADY)
        return res;
    op->u.io.moved = 1;
    return -EAGAIN;
}

static int do_send(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    struct pro_op *op = r->op;
    struct iovec iovs[PROI_GATHER], *iov = op->u.io.data;
    size_t count = op->u.io.size, most = (size_t)op->u.io.offset;
    bool borders = proi_handle_kind(op->owner.handle) >= PROI_PACKETS;
    if (op->code == PROI_SEND_SLICES) {
        iov = iovs;
        count = 0;
        for (const struct pro_slice *s = op->u.io.data; s && count < PROI_GATHER; s = s->next)
            iovs[count++] = (struct iovec){s->data, s->size};
    }
    if (pro_sim_chance(sim, PRO_SIM_NO_MEMORY))
        return -ENOBUFS;
    if (!borders && pro_sim_chance(sim, PRO_SIM_SHORT_SEND))
        most = proi_sim_part(sim, (uint32_t)most);
    return proi_sim_send(sim, op->owner.handle->fd, iov, count, most);
}

static int do_read(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    struct pro_op *op = r->op;
    int fd = op->owner.handle->fd;
    uint32_t size = op->u.io.size;
    if (proi_sim_kind(sim, fd) == SIM_FILE && pro_sim_chance(sim, PRO_SIM_READ_EIO))
        return -EIO;
    if (pro_sim_chance(sim, PRO_SIM_READ_SHORT))
        size = proi_sim_part(sim, size);
    return proi_sim_read(sim, fd, op->u.io.data, size, op->u.io.offset);
}

static int do_write(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    struct pro_op *op = r->op;
    int fd = op->owner.handle->fd;
    uint32_t moved = op->u.io.moved, size = op->u.io.size - moved;
    uint64_t offset = op->u.io.offset == PRO_STREAM ? PRO_STREAM : op->u.io.offset + moved;
    bool file = proi_sim_kind(sim, fd) == SIM_FILE;
    if (file && pro_sim_chance(sim, PRO_SIM_WRITE_ENOSPC))
        return -ENOSPC;
    if (file && pro_sim_chance(sim, PRO_SIM_WRITE_EIO))
        return -EIO;
    if (pro_sim_chance(sim, PRO_SIM_WRITE_SHORT))
        size = proi_sim_part(sim, size);
    return proi_sim_write(sim, fd, (const char *)op->u.io.data + moved, size, offset);
}

static int do_shutdown(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    return proi_sim_shutdown(sim, r->op->owner.handle->fd, (int)r->op->u.io.size);
}

static int poll_events(struct pro_sim *sim, const struct request *r)
{
    int events = proi_sim_poll(sim, r->op->owner.handle->fd);
    return events < 0 ? events : events & ((int)r->op->u.io.size | POLLERR | POLLHUP);
}

static int do_poll(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    int events = poll_events(sim, r);
    return events == 0 ? -EAGAIN : events;
}

/* What holds at first, and then what comes up. */
static int do_poll_multi(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    int now = poll_events(sim, r), events = r->told ? r->events & now : now;
    if (now < 0)
        return now;
    r->told = true;
    r->events = 0;
    event->more = events != 0;
    return events == 0 ? -EAGAIN : events;
}

static int do_close(struct pro_sim *sim, struct request *r, struct proi_event *event)
{
    if (!r->told && pro_sim_chance(sim, PRO_SIM_SLOW_CLOSE)) {
        r->told = true;
        proi_sim_later(sim, &r->carry_out, sim->now + MILLISECOND);
        return -EAGAIN;
    }
    return proi_sim_close(sim, r->op->owner.handle->fd);
}

static const struct {
    int (*perform)(struct pro_sim *sim, struct request *r, struct proi_event *event);
    int waits;      /* what must come to hold before it is tried again */
    bool disturbed; /* by faults that are none of its own */
} rows[PROI_CODES] = {
    [PROI_RECV] = {do_recv, POLLIN, true},     [PROI_RECV_MULTI] = {do_recv_multi, POLLIN, true},
    [PROI_ACCEPT] = {do_accept, POLLIN, true}, [PROI_ACCEPT_MULTI] = {do_accept, POLLIN, true},
    [PROI_READ] = {do_read, POLLIN, true},     [PROI_CONNECT] = {do_connect, POLLOUT, true},
    [PROI_SEND] = {do_send, POLLOUT, true},    [PROI_SEND_SLICES] = {do_send, POLLOUT, true},
    [PROI_WRITE] = {do_write, POLLOUT, true},  [PROI_SHUTDOWN] = {do_shutdown, 0, true},
    [PROI_POLL] = {do_poll, ~0, true},         [PROI_POLL_MULTI] = {do_poll_multi, ~0, true},
    [PROI_CLOSE] = {do_close, 0, false},
};

/* ---- Carrying out, cancelling ---- */

static int disturb(struct pro_sim *sim, const struct request *r)
{
    if (!rows[r->op->code].disturbed)
        return 0;
    if (pro_sim_chance(sim, PRO_SIM_INTERRUPT))
        return -EINTR;
    if (pro_sim_chance(sim, PRO_SIM_RECALL))
        return -ECANCELED;
    return pro_sim_chance(sim, PRO_SIM_VAIN) ? -EAGAIN : 0;
}

static void on_carry_out(struct pro_sim *sim, struct sim_action *action)
{
    struct request *r = PRO_CONTAINER_OF(action, struct request, carry_out);
    struct proi_event event = {.op = r->op};
    proi_assert(!r->done && r->op->state == PROI_ACTIVE);
    int res = disturb(sim, r);
    if (res == -EAGAIN) {
        proi_sim_later(sim, action, sim->now + TURN_NS); /* it may be ready, and nobody will wake it */
        return;
    }
    if (res == 0)
        res = rows[r->op->code].perform(sim, r, &event);
    if (res == -EAGAIN)
        return;
    bool one_shot = r->backend->one_shot && r->op->code != PROI_POLL_MULTI; /* which every kernel has */
    if (event.more && (one_shot || pro_sim_chance(sim, PRO_SIM_MULTISHOT_END)))
        event.more = false;
    push_result(r, res, event.slice, event.more);
    if (event.more && proi_sim_poll(sim, r->op->owner.handle->fd) & rows[r->op->code].waits)
        proi_sim_soon(sim, action);
}

static void on_changed(struct pro_sim *sim, struct sim_watch *watch, int events)
{
    struct request *r = PRO_CONTAINER_OF(watch, struct request, watch);
    if (!(events & (rows[r->op->code].waits | POLLERR | POLLHUP)))
        return;
    r->events |= events;
    proi_sim_soon(sim, &r->carry_out);
}

static void on_cancel(struct pro_sim *sim, struct sim_action *action)
{
    struct request *r = PRO_CONTAINER_OF(action, struct request, cancel);
    if (r->done) {
        proi_sim_count(sim, PRO_SIM_RESULT_WINS);
        return;
    }
    proi_sim_tell(sim, SIM_E_CANCELLED, r->serial, 0, 0);
    push_result(r, -ECANCELED, NULL, false);
}

static int sim_start(struct pro_loop *loop, struct pro_op *op)
{
    struct backend *b = state(loop);
    if (op->code == PROI_RECV_MULTI && !proi_pool_stock(op->u.stream.pool))
        return -ENOBUFS;
    if (pro_sim_chance(b->sim, PRO_SIM_SUBMIT_FULL))
        return -EAGAIN;
    struct request *r = request_new(b, op);
    r->credit = op->code == PROI_RECV_MULTI ? op->u.stream.credit : 0;
    proi_sim_tell(b->sim, SIM_E_START, r->serial, op->code, op->owner.handle->fd);
    (void)proi_sim_watch(b->sim, op->owner.handle->fd, &r->watch); /* if it fails, so will the request */
    proi_sim_soon(b->sim, &r->carry_out);
    return 0;
}

static int sim_cancel(struct pro_loop *loop, struct pro_op *op)
{
    struct backend *b = state(loop);
    struct request *r = request_of(b, op);
    if (pro_sim_chance(b->sim, PRO_SIM_CANCEL_FULL))
        return -EAGAIN;
    proi_sim_tell(b->sim, SIM_E_CANCEL, r->serial, 0, 0);
    if (pro_sim_chance(b->sim, PRO_SIM_CANCEL_LATE))
        proi_sim_later(b->sim, &r->cancel, b->sim->now + MILLISECOND);
    else
        proi_sim_soon(b->sim, &r->cancel);
    return 0;
}

static bool sim_reap(struct pro_loop *loop, struct proi_event *ret_event)
{
    struct backend *b = state(loop);
    if (b->limit == 0)
        return false;
    struct result result = b->results[b->result_first];
    struct request *r = result.request;
    b->result_first = (b->result_first + 1) & (b->result_room - 1);
    b->result_count--;
    b->limit--;
    *ret_event = (struct proi_event){r->op, result.slice, result.res, result.more};
    proi_sim_tell(b->sim, SIM_E_EVENT, r->serial, result.res, result.more);
    if (result.more)
        return true;
    if (r->cancel.place != SIM_IDLE) {
        proi_sim_never(b->sim, &r->cancel);
        proi_sim_count(b->sim, PRO_SIM_RESULT_WINS);
    }
    request_free(r);
    return true;
}

/* ---- Turns ---- */

/* Of what can happen now, some does or none, without anybody's turn. A walk that takes turns by steps meets the same
 * things between them, in every order, and needs no second chance here. */
static void go_on(struct pro_sim *sim)
{
    bool deep = sim->deep, walks = sim->choice.front == PRO_SIM_WALK;
    uint32_t often = walks ? 2 : BATCH;
    if (deep && walks)
        return;
    sim->deep = true;
    while (proi_sim_busy(sim) && pro_sim_choose(sim, often) != often - 1)
        proi_sim_step(sim, 0);
    sim->deep = deep;
}

static int sim_wait(struct pro_loop *loop, uint64_t until)
{
    struct backend *b = state(loop);
    struct pro_sim *sim = b->sim;
    proi_sim_pass(sim, TURN_NS);
    loop->stats.waits++;
    bool early = pro_sim_chance(sim, PRO_SIM_EARLY_WAKE);
    if (until && !early)
        while (b->result_count == 0 && sim->now < until && !proi_post_pending(loop))
            if (!proi_sim_step(sim, until) && until == PRO_NEVER)
                pro_sim_fail(sim, "loop %u waits for what never comes", b->base.number);
    if (!early)
        go_on(sim);
    b->limit = b->result_count;
    if (b->limit > 1 && pro_sim_chance(sim, PRO_SIM_FEW))
        b->limit = proi_sim_part(sim, b->limit);
    proi_sim_tell(sim, SIM_E_TURN, b->base.number, b->limit, 0);
    return 0;
}

bool proi_sim_loop_due(const struct sim_loop *base, uint64_t now)
{
    const struct pro_loop *loop = base->loop;
    return !loop->running && (base->due <= now || state(loop)->result_count > 0 || proi_post_pending(loop));
}

int proi_sim_loop_turn(struct sim_loop *base)
{
    return pro_run(base->loop, PRO_RUN_NOWAIT);
}

bool proi_sim_loop_alive(const struct sim_loop *base)
{
    return base->loop->stats.in_flight > base->loop->background;
}

bool proi_sim_loop_running(const struct sim_loop *base)
{
    return base->loop->running;
}

/* ---- Audit ---- */

static unsigned with_backend(const struct pro_op *op)
{
    unsigned count = 0;
    for (; op; op = op->link_next)
        count += op->state == PROI_ACTIVE;
    return count;
}

/* A close that has been carried out gave the number back, be it told or not. */
static bool owns(const struct backend *b, const struct pro_handle *handle)
{
    for (const struct pro_op *op = handle->others; op; op = op->link_next)
        if (op->code == PROI_CLOSE && op->state == PROI_ACTIVE && request_of(b, op)->done)
            return false;
    return handle->fd >= 0;
}

static void audit_handle(struct pro_sim *sim, const struct backend *b, const struct pro_handle *handle)
{
    if (with_backend(handle->receives) > 1 || with_backend(handle->sends) > 1)
        pro_sim_fail(sim, "descriptor %d has two receives or two sends at the kernel", handle->fd);
    for (const struct pro_handle *other = handle->next; other && sim->audit_every == 1; other = other->next)
        if (other->fd == handle->fd && owns(b, handle) && owns(b, other))
            pro_sim_fail(sim, "descriptor %d has two owners", handle->fd);
}

void proi_sim_audit_loop(struct pro_sim *sim, const struct sim_loop *base)
{
    const struct pro_loop *loop = base->loop;
    const struct backend *b = state(loop);
    uint64_t in_flight = 0;
    if (loop->stats.started != loop->stats.completed + loop->stats.in_flight)
        pro_sim_fail(sim, "loop %u: %llu operations started, %llu completed, %llu in flight", base->number,
                     (unsigned long long)loop->stats.started, (unsigned long long)loop->stats.completed,
                     (unsigned long long)loop->stats.in_flight);
    for (uint32_t i = 0; i < b->request_count; i++) {
        const struct request *r = b->requests[i];
        if (r && (r->op->state != PROI_ACTIVE || r->op->res != (int32_t)i))
            pro_sim_fail(sim, "request %u belongs to an operation that does not know of it", r->serial);
    }
    for (const struct pro_handle *handle = loop->handles; handle; handle = handle->next) {
        audit_handle(sim, b, handle);
        in_flight += handle->in_flight;
    }
    if (in_flight > loop->stats.in_flight)
        pro_sim_fail(sim, "loop %u: its handles have more in flight than it has", base->number);
    for (const struct pro_pool *pool = loop->pools; pool; pool = pool->next)
        if (proi_pool_audit(pool))
            pro_sim_fail(sim, "loop %u has a pool with a fault: %s", base->number, proi_pool_audit(pool));
}

/* ---- Descriptors ---- */

static int sim_socket(struct pro_loop *loop, int family, int type, int protocol)
{
    if (pro_sim_chance(world(loop), PRO_SIM_SOCKET))
        return -EMFILE;
    return proi_sim_socket(world(loop), family, type, protocol);
}

static int sim_listen(struct pro_loop *loop, int fd, const struct sockaddr *address, socklen_t length, int backlog,
                      unsigned flags)
{
    struct pro_sim *sim = world(loop);
    int on = 1;
    if (pro_sim_chance(sim, PRO_SIM_LISTEN))
        return -EADDRINUSE;
    if (flags & PRO_REUSEPORT)
        proi_sim_option_set(sim, fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    int r = proi_sim_bind(sim, fd, address, length);
    return r < 0 ? r : proi_sim_listen(sim, fd, backlog);
}

static int sim_name(struct pro_loop *loop, int fd, bool peer, struct sockaddr_storage *ret, socklen_t *ret_length)
{
    return proi_sim_name(world(loop), fd, peer, ret, ret_length);
}

static int sim_set(struct pro_loop *loop, int fd, int level, int name, const void *value, socklen_t length)
{
    if (pro_sim_chance(world(loop), PRO_SIM_OPTION))
        return -ENOPROTOOPT;
    return proi_sim_option_set(world(loop), fd, level, name, value, length);
}

static int sim_get(struct pro_loop *loop, int fd, int level, int name, void *value, socklen_t *length)
{
    if (pro_sim_chance(world(loop), PRO_SIM_OPTION))
        return -ENOPROTOOPT;
    return proi_sim_option_get(world(loop), fd, level, name, value, length);
}

static int sim_unsent(struct pro_loop *loop, int fd)
{
    return proi_sim_unsent(world(loop), fd);
}

static int sim_try_send(struct pro_loop *loop, int fd, const void *data, size_t size)
{
    struct pro_sim *sim = world(loop);
    struct iovec iov = {(void *)(uintptr_t)data, size};
    if (pro_sim_chance(sim, PRO_SIM_FULL))
        return -EAGAIN;
    size_t most = pro_sim_chance(sim, PRO_SIM_SHORT_SEND) ? proi_sim_part(sim, (uint32_t)size) : size;
    return proi_sim_send(sim, fd, &iov, 1, most);
}

static int sim_close(struct pro_loop *loop, int fd)
{
    return proi_sim_close(world(loop), fd);
}

static void sim_reset(struct pro_loop *loop, int fd)
{
    (void)proi_sim_abort(world(loop), fd);
}

static enum proi_kind sim_kind(struct pro_loop *loop, int fd)
{
    struct sockaddr_storage at;
    socklen_t length;
    switch (proi_sim_kind(world(loop), fd)) {
    case SIM_STREAM:
        proi_sim_name(world(loop), fd, false, &at, &length);
        return at.ss_family == AF_UNIX ? PROI_BYTES : PROI_TCP;
    case SIM_PACKETS:
        return PROI_PACKETS;
    case SIM_DATAGRAMS:
        return PROI_DATAGRAMS;
    default:
        return PROI_BYTES;
    }
}

static const struct proi_control control = {
    .socket = sim_socket,
    .listen = sim_listen,
    .name = sim_name,
    .set = sim_set,
    .get = sim_get,
    .unsent = sim_unsent,
    .try_send = sim_try_send,
    .close = sim_close,
    .reset = sim_reset,
    .kind = sim_kind,
};

/* ---- The rest of the seam ---- */

static const char *const fronts[] = {"calm", "seed", "bytes", "walk"};

static int sim_init(struct pro_loop *loop, const struct pro_config *config)
{
    static const int errors[] = {ENOSYS, EPERM, EACCES, EINVAL, EOPNOTSUPP, ENOMEM, EMFILE};
    struct pro_sim *sim = config->sim;
    if (pro_sim_chance(sim, PRO_SIM_NO_BACKEND))
        return -errors[pro_sim_choose(sim, sizeof errors / sizeof errors[0])];
    struct backend *b = proi_world_alloc(sim, sizeof *b);
    b->sim = sim;
    b->one_shot = pro_sim_chance(sim, PRO_SIM_ONE_SHOT);
    b->base = (struct sim_loop){loop, NULL, ++sim->loops_made, PRO_NEVER};
    struct sim_loop **link = &sim->loops;
    while (*link)
        link = &(*link)->next;
    *link = &b->base;
    loop->backend_state = b;
    loop->pollable = true; /* it tells when its next turn is due */
    proi_describe(loop, "sim: %s", fronts[sim->choice.front]);
    proi_sim_tell(sim, SIM_E_LOOP, b->base.number, 0, 0);
    return 0;
}

/* In a forked child: what is in flight stays so, and is forgotten. */
static void drop_requests(struct backend *b)
{
    for (; b->result_count > 0; b->result_count--) {
        pro_slice_return_list(b->results[b->result_first].slice);
        b->result_first = (b->result_first + 1) & (b->result_room - 1);
    }
    for (uint32_t i = 0; i < b->request_count; i++) {
        struct request *r = b->requests[i];
        if (!r)
            continue;
        proi_sim_unwatch(&r->watch);
        proi_sim_never(b->sim, &r->carry_out);
        proi_sim_never(b->sim, &r->cancel);
        request_free(r);
    }
}

static void sim_fini(struct pro_loop *loop)
{
    struct backend *b = state(loop);
    struct pro_sim *sim = b->sim;
    struct sim_loop **link = &sim->loops;
    while (*link != &b->base)
        link = &(*link)->next;
    *link = b->base.next;
    proi_sim_tell(sim, SIM_E_LOOP_GONE, b->base.number, 0, 0);
    drop_requests(b);
    proi_world_free(sim, b->requests, b->request_room * sizeof(struct request *));
    proi_world_free(sim, b->unused, b->unused_room * sizeof *b->unused);
    proi_world_free(sim, b->results, b->result_room * sizeof *b->results);
    proi_world_free(sim, b, sizeof *b);
}

static int sim_enable(struct pro_loop *loop)
{
    return 0;
}

static void sim_forget(struct pro_loop *loop, struct pro_handle *handle)
{
}

static void sim_forget_pool(struct pro_loop *loop, struct pro_pool *pool)
{
}

static uint64_t sim_now(const struct pro_loop *loop)
{
    return world(loop)->now;
}

static int sim_pollable(struct pro_loop *loop)
{
    return -EOPNOTSUPP; /* nothing of the world is the kernel's */
}

static void sim_pollable_arm(struct pro_loop *loop, uint64_t until)
{
    state(loop)->base.due = until;
}

const struct proi_backend proi_backend_sim = {
    .kind = PRO_BACKEND_SIM,
    .init = sim_init,
    .fini = sim_fini,
    .enable = sim_enable,
    .start = sim_start,
    .cancel = sim_cancel,
    .wait = sim_wait,
    .reap = sim_reap,
    .forget = sim_forget,
    .forget_pool = sim_forget_pool,
    .now = sim_now,
    .waker = NULL,
    .pollable = sim_pollable,
    .pollable_arm = sim_pollable_arm,
    .control = &control,
};
