/* SPDX-License-Identifier: MIT
 *
 * The reactor: readiness is turned into completions.
 *
 *      start --> ready queue --> system call --> event
 *                    ^               |
 *                    |             EAGAIN
 *      epoll_wait ---'               v
 *       (an edge)  <-------- waiting, the handle marked
 *
 * The happy path: an operation is tried at once, in the turn it was started in, and completes without epoll having
 * heard of the descriptor. Only the first EAGAIN registers it, once, for both directions and edge-triggered; no other
 * epoll_ctl follows until it is closed. From then on two marks on the handle say that the last attempt to read or
 * write found nothing, and an edge takes them off.
 *
 * A receive from TCP that got less than it asked for has emptied the socket, and that saves the call which would only
 * say EAGAIN: what comes later makes an edge. The exceptions are a peer that has closed its end, since that edge may be
 * past, and urgent data, at whose mark a receive stops; the events tell, and then one reads on. On other sockets it says
 * nothing: Unix ones stop at every control message, and TLS in the kernel at every record.
 *
 * A multishot goes to the end of the ready queue after every piece, and reap() runs each entry once, so a turn gives
 * every handle one system call. Sends go before receives.
 *
 * Possible failure modes. Descriptors that epoll refuses (regular files) never block, so they never get that far. A
 * descriptor that may block is asked with poll(2), or with flags that forbid blocking, before it is touched; see
 * docs/backends.md for what that cannot cover. An epoll_ctl that fails for want of memory is the operation's error. */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "embed.h"
#include "handle.h"
#include "loop.h"
#include "pool.h"
#include "post.h"
#include "sigpipe.h"

/* What a registration asks for: all that poll(2) knows, at edges. */
#define EVERYTHING                                                                                                     \
    (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND | EPOLLET)

enum {
    EVENTS = 128,
    PASSES = 8, /* turns without a look at what else has become ready, at most, while something is */
};

/* handle->backend_flags */
enum {
    REGISTERED = 1 << 0,
    NO_READ = 1 << 1, /* the last attempt would have blocked: wait for an edge */
    NO_WRITE = 1 << 2,
    HANGUP = 1 << 3,    /* the peer's end is closed: an end of file is to be read */
    BLOCKING = 1 << 4,  /* lacks O_NONBLOCK, ... */
    ASKED = 1 << 5,     /* ... which was looked up */
    UNWATCHED = 1 << 6, /* epoll refuses it: always ready */
    URGENT = 1 << 7,    /* the peer has sent urgent data: receives stop at its mark */
    SHORT = 1 << 8,     /* a receive has brought less than it asked for */
    UNTOLD = 1 << 9,    /* registered, and no edge has come yet: one will tell what holds */
};

struct epoll {
    int fd;
    int timer;         /* for distant deadlines, see alarm_stands; -1: not to be had */
    uint64_t alarm_at; /* when it ends a wait; UINT64_MAX: it does not */
    bool nosignal, no_pwait2;
    uint32_t ready_count; /* entries of the ready queue */
    uint32_t limit;       /* those that were there when wait() returned */
    uint32_t passed;      /* turns since the last look */
    struct proi_queue ready;
    struct proi_queue ready_sends; /* go first: what they send is in the cache still, and then their memory is free */
    struct proi_embed embed;
    struct epoll_event events[EVENTS];
};

static struct epoll *state(const struct pro_loop *loop)
{
    return loop->backend_state;
}

static bool has_ready(const struct epoll *ep)
{
    return ep->ready_count > 0;
}

static void make_ready(struct epoll *ep, struct pro_op *op)
{
    if (op->flags & PROI_INQUEUE)
        return;
    op->flags |= PROI_INQUEUE;
    proi_queue_push(proi_lane_of(op->code) == PROI_SENDS ? &ep->ready_sends : &ep->ready, op);
    ep->ready_count++;
}

/* Makes sure that an edge will come. 1 if none will, because the descriptor is always ready. */
static int watch(struct epoll *ep, struct pro_handle *handle)
{
    struct epoll_event event = {.events = EVERYTHING, .data.ptr = handle};
    if (handle->backend_flags & (REGISTERED | UNWATCHED))
        return handle->backend_flags & UNWATCHED ? 1 : 0;
    if (epoll_ctl(ep->fd, EPOLL_CTL_ADD, handle->fd, &event) == 0) {
        handle->backend_flags |= REGISTERED | UNTOLD;
        return 0;
    }
    if (errno != EPERM)
        return -errno;
    handle->backend_flags |= UNWATCHED;
    return 1;
}

/* --- the system calls -------------------------------------------------------------------------------------------- */

static int result(ssize_t r)
{
    return r < 0 ? -errno : (int)r;
}

static bool ready_now(int fd, short events)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    return poll(&pollfd, 1, 0) > 0;
}

/* What is on a disk, and not a file of the kernel's that waits for news (/proc/kmsg). */
static bool is_stored(struct pro_handle *handle)
{
    struct stat is;
    bool file = fstat(handle->fd, &is) == 0 && (S_ISREG(is.st_mode) || S_ISBLK(is.st_mode));
    return file && watch(state(handle->loop), handle) == 1;
}

/* Adopted descriptors keep their flags, so some may block; but files do not: nobody has to come for them to be read or
 * written. */
static bool may_block(struct pro_handle *handle)
{
    if (!(handle->backend_flags & ASKED)) {
        int flags = fcntl(handle->fd, F_GETFL);
        bool stored = is_stored(handle);
        bool blocks = flags >= 0 && !(flags & O_NONBLOCK) && !stored;
        handle->backend_flags |= (uint16_t)(ASKED | (blocks ? BLOCKING : 0));
    }
    return handle->backend_flags & BLOCKING;
}

static int do_recv(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    char *data = op->u.io.data;
    uint32_t moved = op->u.io.moved;
    return result(recv(op->owner.handle->fd, data + moved, op->u.io.size - moved, MSG_DONTWAIT));
}

/* Plain TCP that brought less than was asked for is empty, unless urgent data stands in between. The first time that
 * is not looked into: of a connection with one request it would cost more than it saves. */
static void note_short(struct pro_handle *handle)
{
    if (handle->backend_flags & (HANGUP | URGENT) || !(handle->backend_flags & REGISTERED))
        return;
    if (handle->backend_flags & SHORT && proi_handle_kind(handle) == PROI_TCP)
        handle->backend_flags |= NO_READ;
    handle->backend_flags |= SHORT;
}

/* What the core has armed it with is for a kernel that receives without asking. Here each piece is asked for, and one of
 * any size fits as long as there is room for one: to end at that border would cut frames for nothing. */
static int do_recv_multi(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    struct pro_handle *handle = op->owner.handle;
    struct pro_pool *pool = op->u.stream.pool;
    uint32_t credit = op->u.stream.credit, size = credit < pool->buffer_size ? credit : pool->buffer_size;
    struct pro_buffer *buffer = proi_pool_take(pool);
    if (!buffer)
        return -ENOBUFS;
    int n = result(recv(handle->fd, buffer->data, size, MSG_DONTWAIT));
    if (n <= 0) {
        proi_pool_give(buffer);
        return n;
    }
    if ((uint32_t)n < size)
        note_short(handle);
    event->slice = proi_pool_lend(buffer, handle, (uint32_t)n);
    event->more = (uint32_t)n < credit && proi_pool_room(pool, handle) > 0;
    return n;
}

static int do_accept(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    struct pro_handle *handle = op->owner.handle;
    if (may_block(handle) && !ready_now(handle->fd, POLLIN))
        return -EAGAIN;
    int fd = result(accept4(handle->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    event->more = fd >= 0 && op->code == PROI_ACCEPT_MULTI;
    return fd;
}

/* A blocking socket is made to give up at once by its send timeout, which connect(2) heeds; nobody shares a socket that
 * is not connected yet. */
static int connect_blocking(int fd, const struct sockaddr *address, socklen_t length)
{
    struct timeval before = {0, 0}, least = {0, 1};
    socklen_t size = sizeof before;
    getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &before, &size);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &least, sizeof least);
    int r = result(connect(fd, address, length));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &before, sizeof before);
    return r;
}

/* `moved` says that connect(2) has been called. */
static int do_connect(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    struct pro_handle *handle = op->owner.handle;
    int error = 0;
    socklen_t length = sizeof error;
    if (op->u.io.moved == 0) {
        const struct sockaddr *address = op->u.io.data;
        int r = may_block(handle) ? connect_blocking(handle->fd, address, op->u.io.size)
                                  : result(connect(handle->fd, address, op->u.io.size));
        op->u.io.moved = r == -EINPROGRESS || r == -EINTR;
        if (r != -EINPROGRESS && r != -EINTR)
            return r == -EAGAIN ? -ECONNREFUSED : r; /* a Unix listener's full backlog, of which no edge tells */
    }
    if (!ready_now(handle->fd, POLLOUT))
        return -EAGAIN;
    return getsockopt(handle->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
}

static int gather(const struct pro_op *op, struct iovec *iovs, size_t *ret_bytes)
{
    int count = 0;
    *ret_bytes = 0;
    for (const struct pro_slice *s = op->u.io.data; s && count < PROI_GATHER; s = s->next) {
        iovs[count++] = (struct iovec){s->data, s->size};
        *ret_bytes += s->size;
    }
    return count;
}

/* Of what is in one piece, a call that has less to copy. */
static bool one_piece(const struct pro_op *op, struct iovec *ret_iov)
{
    const struct pro_slice *slice = op->u.io.data;
    const struct iovec *iov = op->u.io.data;
    bool one = op->code == PROI_SEND ? op->u.io.size == 1 : !slice->next;
    if (one)
        *ret_iov = op->code == PROI_SEND ? *iov : (struct iovec){slice->data, slice->size};
    return one;
}

static int send_pieces(const struct pro_op *op, int flags, size_t *ret_bytes)
{
    struct iovec iovs[PROI_GATHER];
    struct msghdr message = {.msg_iov = op->u.io.data, .msg_iovlen = op->u.io.size};
    if (op->code == PROI_SEND_SLICES) {
        message.msg_iov = iovs;
        message.msg_iovlen = (size_t)gather(op, iovs, ret_bytes);
        flags |= *ret_bytes < op->u.io.offset ? MSG_MORE : 0;
    }
    return result(sendmsg(op->owner.handle->fd, &message, flags));
}

static int do_send(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    struct pro_handle *handle = op->owner.handle;
    size_t bytes = op->u.io.offset;
    struct iovec iov;
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (op->flags & PROI_ALL ? MSG_MORE : 0);
    bool one = one_piece(op, &iov);
    int n =
        one ? result(sendto(handle->fd, iov.iov_base, iov.iov_len, flags, NULL, 0)) : send_pieces(op, flags, &bytes);
    if (n > 0 && (size_t)n < bytes && handle->backend_flags & REGISTERED)
        handle->backend_flags |= NO_WRITE;
    return n;
}

/* Files and non-blocking descriptors as they are; of the others pipes know RWF_NOWAIT, and the rest is asked first. A
 * file, too, may say EAGAIN then, and is found out to be one when epoll refuses it. */
static bool as_it_is(struct pro_handle *handle)
{
    return !may_block(handle) || handle->backend_flags & UNWATCHED;
}

static int try_read(struct pro_handle *handle, const struct iovec *iov, off_t offset)
{
    if (as_it_is(handle))
        return result(preadv2(handle->fd, iov, 1, offset, 0));
    int n = result(preadv2(handle->fd, iov, 1, offset, RWF_NOWAIT));
    if (n != -EOPNOTSUPP)
        return n;
    return ready_now(handle->fd, POLLIN) ? result(preadv2(handle->fd, iov, 1, offset, 0)) : -EAGAIN;
}

static int do_read(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    struct iovec iov = {op->u.io.data, op->u.io.size};
    off_t offset = op->u.io.offset == PRO_STREAM ? -1 : (off_t)op->u.io.offset;
    int n = try_read(op->owner.handle, &iov, offset);
    return n == -ESPIPE ? try_read(op->owner.handle, &iov, -1) : n; /* as io_uring has it */
}

/* Some devices refuse every flag, also the one that forbids the signal. */
static int write_quietly(const struct epoll *ep, int fd, const struct iovec *iov, off_t offset, int flags)
{
    struct proi_sigpipe held;
    int n = ep->nosignal ? result(pwritev2(fd, iov, 1, offset, flags | RWF_NOSIGNAL)) : -EOPNOTSUPP;
    if (n != -EOPNOTSUPP)
        return n;
    proi_sigpipe_hold(&held);
    n = result(pwritev2(fd, iov, 1, offset, flags));
    proi_sigpipe_release(&held);
    return n;
}

/* The bytes that a descriptor is given which blocks and says that it is writable. A pipe has room for PIPE_BUF (pipe(7)).
 * An anonymous file, such as an eventfd, and a file of the kernel's take the whole or nothing. */
static size_t most_at_once(int fd)
{
    struct stat is;
    if (fstat(fd, &is) < 0)
        return 1;
    if (S_ISFIFO(is.st_mode))
        return PIPE_BUF;
    return is.st_mode & S_IFMT && !S_ISREG(is.st_mode) ? 1 : SIZE_MAX;
}

/* A terminal that blocks and says it is writable may still not take a line. It is opened once more, for this one write,
 * so that O_NONBLOCK is ours alone; the master of a pair cannot be opened again, and nothing can without /proc. */
static int write_blocking(const struct epoll *ep, int fd, struct iovec iov, off_t offset)
{
    char path[32];
    int master, own = -1;
    size_t most = most_at_once(fd);
    if (isatty(fd) && ioctl(fd, TIOCGPTN, &master) < 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (own < 0 && iov.iov_len > most)
        iov.iov_len = most;
    int n = write_quietly(ep, own < 0 ? fd : own, &iov, offset, 0);
    if (own >= 0)
        close(own);
    return n;
}

static int try_write(const struct epoll *ep, struct pro_handle *handle, const struct iovec *iov, off_t offset)
{
    if (as_it_is(handle))
        return write_quietly(ep, handle->fd, iov, offset, 0);
    int n = write_quietly(ep, handle->fd, iov, offset, RWF_NOWAIT);
    if (n != -EOPNOTSUPP)
        return n;
    return ready_now(handle->fd, POLLOUT) ? write_blocking(ep, handle->fd, *iov, offset) : -EAGAIN;
}

static int do_write(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    uint32_t moved = op->u.io.moved;
    struct iovec iov = {(char *)op->u.io.data + moved, op->u.io.size - moved};
    off_t offset = op->u.io.offset == PRO_STREAM ? -1 : (off_t)(op->u.io.offset + moved);
    int n = try_write(state(loop), op->owner.handle, &iov, offset);
    return n == -ESPIPE ? try_write(state(loop), op->owner.handle, &iov, -1) : n; /* as io_uring has it */
}

static int do_shutdown(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    return result(shutdown(op->owner.handle->fd, (int)op->u.io.size));
}

/* The present state; 0 events is "wait for an edge". */
static int do_poll(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    struct pollfd pollfd = {.fd = op->owner.handle->fd, .events = (short)op->u.io.size};
    int r = result(poll(&pollfd, 1, 0));
    if (r < 0)
        return r;
    if (pollfd.revents & POLLNVAL)
        return -EBADF;
    return pollfd.revents ? pollfd.revents : -EAGAIN;
}

static int take_edges(const struct pro_loop *loop, uint64_t until);

/* `moved` collects the events of edges. The first report is made by the registration, which is an edge if one of the
 * events holds, or by a look where that has come already or cannot; what edges that wait have to tell it tells too. */
static int do_poll_multi(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    struct pro_handle *handle = op->owner.handle;
    int events = (int)op->u.io.moved;
    if (!(op->flags & PROI_PRIVATE)) {
        int r = watch(state(loop), handle);
        if (r < 0)
            return r;
        while (r == 0 && !(handle->backend_flags & UNTOLD) && take_edges(loop, 0) == EVENTS)
            continue;
        if (!(handle->backend_flags & UNTOLD))
            events = do_poll(loop, op, event);
    }
    op->flags |= PROI_PRIVATE;
    op->u.io.moved = 0;
    event->more = events > 0;
    return events == 0 ? -EAGAIN : events;
}

static int do_close(struct pro_loop *loop, struct pro_op *op, struct proi_event *event)
{
    return result(close(op->owner.handle->fd));
}

static const struct {
    int (*perform)(struct pro_loop *loop, struct pro_op *op, struct proi_event *event);
    uint16_t waits; /* the mark that says to wait for an edge */
} rows[PROI_CODES] = {
    [PROI_RECV] = {do_recv, NO_READ},     [PROI_RECV_MULTI] = {do_recv_multi, NO_READ},
    [PROI_ACCEPT] = {do_accept, NO_READ}, [PROI_ACCEPT_MULTI] = {do_accept, NO_READ},
    [PROI_READ] = {do_read, NO_READ},     [PROI_CONNECT] = {do_connect, NO_WRITE},
    [PROI_SEND] = {do_send, NO_WRITE},    [PROI_SEND_SLICES] = {do_send, NO_WRITE},
    [PROI_WRITE] = {do_write, NO_WRITE},  [PROI_SHUTDOWN] = {do_shutdown, 0},
    [PROI_POLL] = {do_poll, 0},           [PROI_POLL_MULTI] = {do_poll_multi, 0},
    [PROI_CLOSE] = {do_close, 0},
};

/* --- readiness ------------------------------------------------------------------------------------------------------ */

static void wake_first(struct epoll *ep, struct pro_op *op)
{
    if (op && op->state == PROI_ACTIVE)
        make_ready(ep, op);
}

static void on_edge(struct epoll *ep, struct pro_handle *handle, uint32_t events)
{
    handle->backend_flags &= (uint16_t)~UNTOLD;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        handle->backend_flags |= HANGUP;
    if (events & EPOLLPRI)
        handle->backend_flags |= URGENT;
    if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        handle->backend_flags &= (uint16_t)~NO_READ;
        wake_first(ep, handle->receives);
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        handle->backend_flags &= (uint16_t)~NO_WRITE;
        wake_first(ep, handle->sends);
    }
    for (struct pro_op *op = handle->others; op; op = op->link_next) {
        uint32_t wanted = events & (op->u.io.size | EPOLLHUP | EPOLLERR);
        if (op->state != PROI_ACTIVE || op->code == PROI_CLOSE || !wanted)
            continue;
        op->u.io.moved |= wanted;
        make_ready(ep, op);
    }
}

static int epoll_start(struct pro_loop *loop, struct pro_op *op)
{
    struct epoll *ep = state(loop);
    if (op->code == PROI_RECV_MULTI && !proi_pool_stock(op->u.stream.pool))
        return -ENOBUFS;
    if (!(op->owner.handle->backend_flags & rows[op->code].waits))
        make_ready(ep, op);
    else
        proi_op_time(loop, op);
    return 0;
}

static int epoll_cancel(struct pro_loop *loop, struct pro_op *op)
{
    make_ready(state(loop), op); /* reap() sees that it was asked for */
    return 0;
}

static bool epoll_reap(struct pro_loop *loop, struct proi_event *ret_event)
{
    struct epoll *ep = state(loop);
    while (ep->limit > 0) {
        struct pro_op *op = proi_queue_pop(ep->ready_sends.head ? &ep->ready_sends : &ep->ready);
        struct pro_handle *handle = op->owner.handle;
        ep->limit--;
        ep->ready_count--;
        op->flags &= (uint16_t)~PROI_INQUEUE;
        *ret_event = (struct proi_event){.op = op, .res = -ECANCELED};
        if (op->flags & PROI_ASKED)
            return true;
        int res = rows[op->code].perform(loop, op, ret_event);
        if (res == -EAGAIN) {
            handle->backend_flags |= rows[op->code].waits;
            proi_op_time(loop, op);
            res = watch(ep, handle);
            if (res == 0)
                continue;
            handle->backend_flags &= (uint16_t) ~(NO_READ | NO_WRITE); /* no edge will come */
            if (res > 0) { /* a file, which is read and written as it is now */
                if (rows[op->code].waits)
                    make_ready(ep, op);
                continue;
            }
        }
        ret_event->res = res;
        if (ret_event->more && !(handle->backend_flags & rows[op->code].waits) && rows[op->code].waits)
            make_ready(ep, op);
        return true;
    }
    return false;
}

/* --- waiting --------------------------------------------------------------------------------------------------------- */

/* Kernels before 5.11 wait in milliseconds; rounded up, so that nothing is early. */
static int wait_coarse(struct epoll *ep, const struct timespec *timeout)
{
    int ms = -1;
    if (timeout)
        ms =
            timeout->tv_sec >= 86400 ? 86400000 : (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
    return epoll_wait(ep->fd, ep->events, EVENTS, ms);
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

/* Whether the timer ends the wait in time. A time-out is a timer that the kernel sets and takes back in every call, and
 * most of what a loop waits for are deadlines of seconds, which never pass but move away. So a distant one stands in the
 * timer, which is moved when a nearer one comes; that those have moved away is found out when it fires. */
static bool alarm_stands(const struct pro_loop *loop, uint64_t until)
{
    struct epoll *ep = state(loop);
    if (until >= ep->alarm_at)
        return true;
    if (ep->timer < 0 || until < loop->now || until - loop->now < PROI_FAR_NS)
        return false;
    struct itimerspec when = {.it_value = timespec_of(until)};
    int r = timerfd_settime(ep->timer, TFD_TIMER_ABSTIME, &when, NULL);
    proi_assert(r == 0);
    ep->alarm_at = until;
    return true;
}

static int wait_for(const struct pro_loop *loop, uint64_t until)
{
    struct epoll *ep = state(loop);
    struct timespec left = {0, 0}, *timeout = alarm_stands(loop, until) ? NULL : &left;
    uint64_t now = until && timeout ? proi_kernel_now(loop) : 0;
    if (until > now && timeout)
        left = timespec_of(until - now);
    if (!ep->no_pwait2) {
        int n = epoll_pwait2(ep->fd, ep->events, EVENTS, timeout, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n;
        ep->no_pwait2 = true;
    }
    return wait_coarse(ep, timeout);
}

/* Takes the edges there are, or that come until then. How many, at most EVENTS, or a negative errno. */
static int take_edges(const struct pro_loop *loop, uint64_t until)
{
    struct epoll *ep = state(loop);
    int n = wait_for(loop, until);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        void *what = ep->events[i].data.ptr;
        if (what == ep)
            ep->alarm_at = UINT64_MAX;
        else if (what) /* NULL is the waker */
            on_edge(ep, what, ep->events[i].events);
    }
    return n;
}

static int look_for(struct pro_loop *loop, uint64_t until)
{
    struct epoll *ep = state(loop);
    int n = take_edges(loop, until);
    loop->stats.waits++;
    ep->passed = 0;
    ep->limit = ep->ready_count;
    return n;
}

static int epoll_wait_turn(struct pro_loop *loop, uint64_t until)
{
    struct epoll *ep = state(loop);
    ep->limit = ep->ready_count;
    if (has_ready(ep) && ++ep->passed < PASSES) /* there is enough to do */
        return 0;
    int n = look_for(loop, has_ready(ep) ? 0 : until);
    return n < 0 ? n : 0;
}

static int epoll_look(struct pro_loop *loop)
{
    int n = look_for(loop, 0);
    return n < 0 ? n : n == EVENTS;
}

/* Readiness is only known to the kernel: every look is a system call. */
static bool epoll_spin(struct pro_loop *loop, uint64_t until)
{
    const struct epoll *ep = state(loop);
    uint64_t now = proi_kernel_now(loop), end = now + loop->spin_ns;
    for (end = end < until ? end : until; !has_ready(ep) && !proi_post_pending(loop); now = proi_kernel_now(loop))
        if (now >= end || take_edges(loop, 0) < 0)
            return false;
    return true;
}

static int epoll_waker(struct pro_loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (epoll_ctl(state(loop)->fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

/* --- the rest of the seam ---------------------------------------------------------------------------------------------- */

static int open_timer(struct epoll *ep)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = ep};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0 || epoll_ctl(ep->fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return fd;
    close(fd);
    return -1;
}

static int epoll_init(struct pro_loop *loop, const struct pro_config *config)
{
    struct epoll *ep = proi_alloc(&loop->allocator, sizeof *ep, _Alignof(struct epoll));
    if (!ep)
        return -ENOMEM;
    ep->fd = epoll_create1(EPOLL_CLOEXEC);
    if (ep->fd < 0) {
        int error = errno;
        proi_free(&loop->allocator, ep, sizeof *ep);
        return -error;
    }
    ep->timer = open_timer(ep);
    ep->alarm_at = UINT64_MAX;
    ep->nosignal = proi_has_rwf_nosignal();
    proi_embed_init(&ep->embed);
    proi_describe(loop, "epoll");
    loop->backend_state = ep;
    return 0;
}

static void epoll_fini(struct pro_loop *loop)
{
    struct epoll *ep = state(loop);
    proi_embed_close(&ep->embed);
    if (ep->timer >= 0)
        close(ep->timer);
    close(ep->fd);
    proi_free(&loop->allocator, ep, sizeof *ep);
}

static int epoll_enable(struct pro_loop *loop)
{
    return 0;
}

/* A registration outlives the descriptor if the socket has another one, and would speak of a handle that is gone. */
static void epoll_forget(struct pro_loop *loop, struct pro_handle *handle)
{
    if (handle->backend_flags & REGISTERED)
        epoll_ctl(state(loop)->fd, EPOLL_CTL_DEL, handle->fd, NULL);
    handle->backend_flags &= (uint16_t)~REGISTERED;
}

static void epoll_forget_pool(struct pro_loop *loop, struct pro_pool *pool)
{
}

static int epoll_pollable(struct pro_loop *loop)
{
    return proi_embed_open(&state(loop)->embed, state(loop)->fd);
}

static void epoll_pollable_arm(struct pro_loop *loop, uint64_t until)
{
    proi_embed_arm(&state(loop)->embed, has_ready(state(loop)) ? 0 : until);
}

const struct proi_backend proi_backend_epoll = {
    .kind = PRO_BACKEND_EPOLL,
    .tries_sends = true,
    .init = epoll_init,
    .fini = epoll_fini,
    .enable = epoll_enable,
    .start = epoll_start,
    .cancel = epoll_cancel,
    .wait = epoll_wait_turn,
    .look = epoll_look,
    .spin = epoll_spin,
    .reap = epoll_reap,
    .forget = epoll_forget,
    .forget_pool = epoll_forget_pool,
    .now = proi_kernel_now,
    .waker = epoll_waker,
    .pollable = epoll_pollable,
    .pollable_arm = epoll_pollable_arm,
    .control = &proi_control_kernel,
};
