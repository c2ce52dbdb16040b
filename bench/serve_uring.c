/* SPDX-License-Identifier: MIT
 *
 * io_uring, by hand: the limit that the library is measured against. Whatever paid is in here and nothing that did not.
 *
 *     thread                     kernel
 *     a request in the ring ---> "receive, for as long as there is data, into any of these buffers"
 *     io_uring_enter() --------> the thread sleeps                 1. waiting for data, and
 *                                data comes, is copied             2. copying it, are both the kernel's
 *                    <---------- completions in a ring: n bytes, in buffer 17; n bytes, in buffer 3; ...
 *
 * The program is not told that it may receive but that it has received: the proactor, against the reactor of select, poll,
 * epoll and signals. A request may stand for ever (multishot), so in the steady state only sends are asked for, and one
 * system call hands in all that were made ready and waits for what comes next.
 *
 * A turn. Completions are taken one by one, their data is answered in place, and the answers become the pieces of this
 * turn. A turn ends when there are no more completions, or after TURN bytes, for what was reversed has to be sent while it
 * is in the cache. Then each connection gets one send for all its pieces:
 *
 *     completion --> codec --> piece --.
 *     completion --> codec --> piece --+--> a send a connection --> io_uring_enter() --> settle(): buffers go back
 *     completion --> codec --> piece --'
 *
 * A send is done by the kernel within the system call (MSG_DONTWAIT), it is all or an error (MSG_WAITALL), and it makes no
 * completion unless something is wrong (IOSQE_CQE_SKIP_SUCCESS). So when the call has returned and no completion says
 * otherwise, all has been sent, and every buffer is free again while it is still warm.
 *
 * A short send does make a completion. What it left is copied to the connection's backlog, which one patient send at a time
 * works off; as long as there is one, answers are added to it and nothing else is sent, so nothing overtakes. When it is
 * too long the receive is cancelled, and asked for again when all of it is gone.
 *
 * When the kernel finds no buffer it ends the receive (ENOBUFS): there are more from then on, and it is asked for again. All
 * buffers go back at the end of a turn whatever the peers do.
 *
 * Bulk. A system call does the receives of all connections that have data, and nothing bounds that: with large frames the
 * data of the last one throws the first one's out of the cache before it is answered. So a connection that sends much is
 * only watched (a multishot poll). Those that are ready wait in a queue, and each end of a turn hands in the sends of the
 * connection before together with a receive of the next, which is done within the call as well:
 *
 *     poll --> queue --> "send the answers in hot[0]; receive into hot[1]" --> codec --> pieces in hot[1] --> ...
 *
 * The ring, its buffers and the options are in ring.h. */
#include <assert.h>
#include <poll.h>
#include <stdint.h>

#include "codec.h"
#include "ring.h"
#include "server.h"

enum {
    FROM_MALLOC = RING_BUFFERS, /* where the memory of a piece is from, if it is no buffer */
    FROM_BULK,
    PIECES = 256,
    NO_PIECE = PIECES,
    TURN = 48 * 1024,
    BACKLOG = 512 * 1024, /* from there on a connection is not read from */
    BULK = 512 * 1024,    /* a bulk receive takes so much at most: several large frames, answered by one send */
    MUCH = 32 * 1024,     /* a connection from which so much is received at once is bulk, */
    LITTLE = 8 * 1024,    /* until so little */
    LITTLE_TIMES = 16,    /* is received so often in succession */
};

enum kind { ACCEPT, RETRY, RECEIVE, POLL, BULK_RECEIVE, CANCEL, SEND, BACKLOG_SEND, CLOSE };

/* Answers to be sent in this turn. */
struct piece {
    uint8_t *data;
    uint32_t size;
    uint16_t from; /* a buffer's number, or FROM_ */
    uint16_t next; /* of the same connection */
};

struct backlog {
    uint8_t *sending, *waiting; /* the kernel reads the one while the other is added to */
    uint32_t sending_size, sent;
    uint32_t waiting_size, room;
    bool paused; /* the receive is cancelled, or about to be */
};

struct conn {
    struct codec_part part;
    struct backlog *backlog; /* NULL: there is none */
    uint16_t first, last;    /* pieces */
    uint8_t little;          /* bulk receives in succession that brought little */
    bool receiving : 1;      /* the kernel has a receive for it, or a poll */
    bool polled : 1;         /* it is a poll */
    bool bulk : 1;           /* it should be one */
    bool ready : 1;          /* it is in the queue, or its bulk receive is under way */
    bool ending : 1;         /* the end of input has come, perhaps behind data: the poll says so once */
    bool in_turn : 1;        /* it has pieces */
    bool deaf : 1;           /* input is dropped, after a bad header or when the peer is gone */
    bool ended : 1;          /* there is no more input */
};

struct loop {
    struct ring ring;
    struct listener listener;
    struct conn *conns; /* by descriptor */
    bool last_words;    /* in this turn something is sent after which a connection is to be ended */
    uint8_t *hot[2];    /* for bulk */
    unsigned hotter;    /* the one that was received into last */
    bool hot_waiting;   /* for what was received to be answered */
    int *queue;         /* of bulk connections that are ready; a ring */
    unsigned queue_mask, queue_head, queue_tail;
    size_t bytes; /* of all pieces */
    unsigned pieces, talkers;
    struct piece piece[PIECES];
    int talker[PIECES]; /* the connections that have pieces, by descriptor */
    struct iovec iovs[PIECES];
    struct msghdr messages[PIECES];
};

static_assert(sizeof(struct conn) <= 40, "that much an idle connection costs");
static_assert(RING_ENTRIES >= 2 * PIECES + 16, "settle() may need an entry for each send of the turn");

/* --- requests ------------------------------------------------------------------------------------------------------- */

static uint64_t name(enum kind kind, int fd)
{
    return (uint64_t)kind << 32 | (uint32_t)fd;
}

static void sign(struct io_uring_sqe *sqe, enum kind kind, int fd, unsigned flags)
{
    sqe->user_data = name(kind, fd);
    sqe->flags |= (uint8_t)flags;
}

static void start_accept(struct loop *l)
{
    struct io_uring_sqe *sqe = ring_request(&l->ring);
    if (l->ring.knobs.multishot_accept)
        io_uring_prep_multishot_accept(sqe, l->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, l->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    sign(sqe, ACCEPT, l->listener.fd, 0);
}

/* Whichever it is that the connection needs. */
static void start_receive(struct loop *l, int fd)
{
    struct conn *conn = &l->conns[fd];
    struct io_uring_sqe *sqe = ring_request(&l->ring);
    conn->receiving = true;
    conn->polled = conn->bulk;
    if (conn->polled) {
        io_uring_prep_poll_multishot(sqe, fd, POLLIN | POLLRDHUP);
        sign(sqe, POLL, fd, 0);
        return;
    }
    if (l->ring.knobs.multishot_receive)
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    else
        io_uring_prep_recv(sqe, fd, NULL, 0, 0);
    if (l->ring.knobs.receive_poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->buf_group = 0;
    sign(sqe, RECEIVE, fd, IOSQE_BUFFER_SELECT);
}

static void cancel_receive(struct loop *l, int fd)
{
    struct io_uring_sqe *sqe = ring_request(&l->ring);
    io_uring_prep_cancel64(sqe, name(l->conns[fd].polled ? POLL : RECEIVE, fd), 0);
    sign(sqe, CANCEL, fd, IOSQE_CQE_SKIP_SUCCESS);
}

/* --- buffers -------------------------------------------------------------------------------------------------------- */

/* Memory that a piece does not need. */
static void put_memory(struct loop *l, uint8_t *data, unsigned from)
{
    if (from < RING_BUFFERS)
        ring_put_buffer(&l->ring, from);
    else if (from == FROM_MALLOC)
        free(data);
}

/* --- the life of a connection --------------------------------------------------------------------------------------- */

/* Once nothing is under way any more. */
static void close_if_over(struct loop *l, int fd)
{
    struct conn *conn = &l->conns[fd];
    if (!conn->ended || conn->receiving || conn->ready || conn->in_turn || conn->backlog)
        return;
    codec_part_drop(&conn->part);
    *conn = (struct conn){0};
    struct io_uring_sqe *sqe = ring_request(&l->ring);
    io_uring_prep_close(sqe, fd);
    sign(sqe, CLOSE, fd, IOSQE_CQE_SKIP_SUCCESS);
}

static void make_ready(struct loop *l, int fd)
{
    if (l->conns[fd].ready)
        return;
    l->conns[fd].ready = true;
    l->queue[l->queue_tail++ & l->queue_mask] = fd;
}

/* It cannot be sent to. The receive, if there is one, ends when the socket is shut. */
static void give_up(struct loop *l, int fd)
{
    struct conn *conn = &l->conns[fd];
    conn->deaf = true;
    conn->ended |= !conn->receiving;
    shutdown(fd, SHUT_RDWR);
}

/* All that was owed is sent. */
static void paid(struct loop *l, int fd)
{
    if (l->conns[fd].deaf)
        shutdown(fd, SHUT_WR); /* and the input is dropped until its end: to close now would destroy the answers */
    close_if_over(l, fd);
}

/* --- the backlog ---------------------------------------------------------------------------------------------------- */

static void backlog_add(struct backlog *backlog, const uint8_t *data, size_t size)
{
    if (size == 0)
        return;
    if (backlog->waiting_size + size > backlog->room) {
        backlog->room = 2 * (backlog->waiting_size + (uint32_t)size);
        backlog->waiting = realloc(backlog->waiting, backlog->room);
        if (!backlog->waiting)
            server_die("realloc", errno);
    }
    memcpy(backlog->waiting + backlog->waiting_size, data, size);
    backlog->waiting_size += (uint32_t)size;
}

/* Sends on, or, when nothing is waiting, is done with it. This send waits for room, and says when it is over. */
static void backlog_send(struct loop *l, int fd)
{
    struct backlog *backlog = l->conns[fd].backlog;
    if (backlog->sent == backlog->sending_size) {
        free(backlog->sending);
        backlog->sending = backlog->waiting;
        backlog->sending_size = backlog->waiting_size;
        backlog->waiting = NULL;
        backlog->sent = backlog->waiting_size = backlog->room = 0;
    }
    struct io_uring_sqe *sqe = ring_request(&l->ring);
    io_uring_prep_send(sqe, fd, backlog->sending + backlog->sent, backlog->sending_size - backlog->sent,
                       MSG_NOSIGNAL | MSG_WAITALL);
    sign(sqe, BACKLOG_SEND, fd, 0);
}

static void backlog_drop(struct conn *conn)
{
    free(conn->backlog->sending);
    free(conn->backlog->waiting);
    free(conn->backlog);
    conn->backlog = NULL;
}

static void on_backlog_send(struct loop *l, int fd, int res)
{
    struct conn *conn = &l->conns[fd];
    struct backlog *backlog = conn->backlog;
    bool broken = res < 0 && res != -EAGAIN && res != -EINTR;
    backlog->sent += res > 0 ? (uint32_t)res : 0;
    if (!broken && (backlog->sent < backlog->sending_size || backlog->waiting_size > 0)) {
        backlog_send(l, fd);
        return;
    }
    backlog_drop(conn);
    if (broken) {
        give_up(l, fd);
        close_if_over(l, fd);
        return;
    }
    if (!conn->receiving && !conn->ended) /* it was paused */
        start_receive(l, fd);
    if (conn->polled && conn->receiving) /* the same */
        make_ready(l, fd);
    paid(l, fd);
}

/* --- a turn --------------------------------------------------------------------------------------------------------- */

static void add_piece(struct loop *l, int fd, uint8_t *data, size_t size, unsigned from)
{
    struct conn *conn = &l->conns[fd];
    uint16_t index = (uint16_t)l->pieces++;
    l->piece[index] = (struct piece){data, (uint32_t)size, (uint16_t)from, NO_PIECE};
    if (conn->in_turn) {
        l->piece[conn->last].next = index;
    } else {
        conn->in_turn = true;
        conn->first = index;
        l->talker[l->talkers++] = fd;
    }
    conn->last = index;
    l->bytes += size;
}

/* One send for a connection and a turn: of two, the second might go out although the first did not. */
static void send_pieces(struct loop *l)
{
    unsigned used = 0;
    for (unsigned i = 0; i < l->talkers; i++) {
        const struct conn *conn = &l->conns[l->talker[i]];
        const struct piece *piece = &l->piece[conn->first];
        struct io_uring_sqe *sqe = ring_request(&l->ring);
        unsigned flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL;
        if (conn->first == conn->last) {
            io_uring_prep_send(sqe, l->talker[i], piece->data, piece->size, (int)flags);
        } else {
            l->messages[i] = (struct msghdr){.msg_iov = &l->iovs[used]};
            for (unsigned at = conn->first; at != NO_PIECE; at = l->piece[at].next)
                l->iovs[used++] = (struct iovec){l->piece[at].data, l->piece[at].size};
            l->messages[i].msg_iovlen = (size_t)(&l->iovs[used] - l->messages[i].msg_iov);
            io_uring_prep_sendmsg(sqe, l->talker[i], &l->messages[i], flags);
        }
        sign(sqe, SEND, l->talker[i], l->ring.knobs.skip_success ? IOSQE_CQE_SKIP_SUCCESS : 0);
    }
}

static size_t owed(const struct loop *l, const struct conn *conn)
{
    size_t size = 0;
    for (unsigned at = conn->first; at != NO_PIECE; at = l->piece[at].next)
        size += l->piece[at].size;
    return size;
}

/* The send of this turn took everything only if a completion was asked for in any case. */
static void on_send(struct loop *l, int fd, int res)
{
    struct conn *conn = &l->conns[fd];
    size_t sent = res > 0 ? (size_t)res : 0;
    if (sent == owed(l, conn))
        return;
    if (res < 0 && res != -EAGAIN && res != -EINTR) {
        give_up(l, fd);
        return;
    }
    conn->backlog = server_table(1, sizeof *conn->backlog);
    for (unsigned at = conn->first; at != NO_PIECE; at = l->piece[at].next) {
        size_t skip = sent < l->piece[at].size ? sent : l->piece[at].size;
        backlog_add(conn->backlog, l->piece[at].data + skip, l->piece[at].size - skip);
        sent -= skip;
    }
    backlog_send(l, fd);
}

/* Nothing that was submitted is under way any more: what the kernel had to say about it, it has said. */
static void settle(struct loop *l, unsigned since)
{
    unsigned end = io_uring_smp_load_acquire(l->ring.io.cq.ktail);
    if (IO_URING_READ_ONCE(*l->ring.io.sq.kflags) & IORING_SQ_CQ_OVERFLOW)
        server_die("the completion ring is too small", EOVERFLOW); /* a short send might have gone unnoticed */
    for (unsigned at = since; at != end && l->talkers > 0; at++) {
        const struct io_uring_cqe *cqe = &l->ring.io.cq.cqes[at & l->ring.io.cq.ring_mask];
        if (cqe->user_data >> 32 == SEND)
            on_send(l, (int)(uint32_t)cqe->user_data, cqe->res);
    }
    for (unsigned i = 0; i < l->pieces; i++)
        put_memory(l, l->piece[i].data, l->piece[i].from);
    for (unsigned i = 0; i < l->talkers; i++) {
        struct conn *conn = &l->conns[l->talker[i]];
        conn->in_turn = false;
        if ((conn->deaf || conn->ended) && !conn->backlog)
            paid(l, l->talker[i]);
    }
    l->pieces = l->talkers = 0;
    l->bytes = 0;
    l->last_words = false;
    l->ring.enlarged = false;
}

/* The next connection of the queue is received from, unless its mind has changed meanwhile. Each takes one entry. */
static void start_bulk_receive(struct loop *l)
{
    while (l->queue_head != l->queue_tail && !l->hot_waiting && io_uring_sq_space_left(&l->ring.io) > 0) {
        int fd = l->queue[l->queue_head++ & l->queue_mask];
        struct conn *conn = &l->conns[fd];
        if (conn->ended || !conn->polled || (conn->backlog && conn->backlog->paused)) {
            conn->ready = false;
            close_if_over(l, fd);
            continue;
        }
        l->hotter ^= 1;
        l->hot_waiting = true;
        struct io_uring_sqe *sqe = ring_request(&l->ring);
        io_uring_prep_recv(sqe, fd, l->hot[l->hotter], BULK, MSG_DONTWAIT);
        sign(sqe, BULK_RECEIVE, fd, 0);
    }
}

/* Hands in all that is ready, and waits for so many completions. */
static void end_turn(struct loop *l, unsigned wait)
{
    send_pieces(l);
    start_bulk_receive(l);
    unsigned since = *l->ring.io.cq.ktail;
    ring_submit(&l->ring, wait);
    settle(l, since);
}

/* --- completions ---------------------------------------------------------------------------------------------------- */

static void on_data(struct loop *l, int fd, uint8_t *data, size_t size, unsigned from)
{
    struct conn *conn = &l->conns[fd];
    if (conn->deaf) {
        put_memory(l, data, from);
        return;
    }
    struct codec_chunk chunk = codec_take(&conn->part, data, size);
    conn->deaf = chunk.bad;
    if (conn->backlog) {
        backlog_add(conn->backlog, chunk.frame, chunk.frame_size);
        backlog_add(conn->backlog, chunk.answers, chunk.size);
        free(chunk.frame);
        put_memory(l, data, from);
        if (conn->backlog->waiting_size > BACKLOG && !conn->backlog->paused && conn->receiving) {
            conn->backlog->paused = true;
            if (!conn->polled)
                cancel_receive(l, fd);
        }
        return;
    }
    if (chunk.frame)
        add_piece(l, fd, chunk.frame, chunk.frame_size, FROM_MALLOC);
    if (chunk.size)
        add_piece(l, fd, chunk.answers, chunk.size, from);
    else
        put_memory(l, data, from);
    if (chunk.bad && conn->in_turn)
        l->last_words = true;
    else if (chunk.bad)
        paid(l, fd);
}

static bool is_end(int res)
{
    return res == 0 || (res < 0 && res != -ENOBUFS && res != -ECANCELED && res != -EINTR && res != -EAGAIN);
}

/* The receive or poll is over: it ended by itself, was cancelled to make room for the other, or to pause. */
static void after_receive(struct loop *l, int fd)
{
    struct conn *conn = &l->conns[fd];
    l->last_words |= conn->ended && conn->in_turn;
    if (conn->ended)
        close_if_over(l, fd);
    else if (!conn->backlog || !conn->backlog->paused)
        start_receive(l, fd);
}

static void on_receive(struct loop *l, int fd, int res, unsigned flags)
{
    struct conn *conn = &l->conns[fd];
    unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;
    conn->receiving = flags & IORING_CQE_F_MORE;
    if (res > 0)
        on_data(l, fd, ring_buffer(&l->ring, buffer), (size_t)res, buffer);
    else if (flags & IORING_CQE_F_BUFFER)
        ring_put_buffer(&l->ring, buffer);
    if (res == -ENOBUFS)
        ring_enlarge_stock(&l->ring);
    if (res >= MUCH && l->ring.knobs.bulk && !conn->bulk) {
        conn->bulk = true;
        if (conn->receiving)
            cancel_receive(l, fd);
    }
    conn->ended |= is_end(res);
    if (!conn->receiving)
        after_receive(l, fd);
}

static void on_poll(struct loop *l, int fd, int res, unsigned flags)
{
    struct conn *conn = &l->conns[fd];
    conn->receiving = flags & IORING_CQE_F_MORE;
    conn->ended |= res < 0 && res != -ECANCELED;
    conn->ending |= res > 0 && res & (POLLRDHUP | POLLHUP | POLLERR);
    if (res > 0)
        make_ready(l, fd);
    if (!conn->receiving)
        after_receive(l, fd);
}

static void on_bulk_receive(struct loop *l, int fd, int res)
{
    struct conn *conn = &l->conns[fd];
    conn->ready = l->hot_waiting = false;
    conn->ended |= is_end(res);
    if (res > 0)
        on_data(l, fd, l->hot[l->hotter], (size_t)res, FROM_BULK);
    if (res == BULK || (res > 0 && conn->ending))
        make_ready(l, fd);
    conn->little = res > 0 && res < LITTLE ? conn->little + 1 : 0;
    conn->bulk = conn->little < LITTLE_TIMES;
    if (conn->receiving && (conn->ended || !conn->bulk))
        cancel_receive(l, fd);
    else if (!conn->receiving && conn->ended)
        after_receive(l, fd);
}

/* Out of descriptors or memory: the connections wait in the backlog of the listener for a tenth of a second. */
static void retry_accept(struct loop *l)
{
    static struct __kernel_timespec pause = {.tv_nsec = 100000000};
    struct io_uring_sqe *sqe = ring_request(&l->ring);
    io_uring_prep_timeout(sqe, &pause, 0, 0);
    sign(sqe, RETRY, 0, 0);
}

static void on_accept(struct loop *l, int res, unsigned flags)
{
    if (res >= 0)
        start_receive(l, res);
    if (flags & IORING_CQE_F_MORE)
        return;
    if (res == -EMFILE || res == -ENFILE || res == -ENOBUFS || res == -ENOMEM)
        retry_accept(l);
    else
        start_accept(l);
}

static void on_completion(struct loop *l, const struct io_uring_cqe *cqe)
{
    int fd = (int)(uint32_t)cqe->user_data;
    switch ((enum kind)(cqe->user_data >> 32)) {
    case ACCEPT:
        on_accept(l, cqe->res, cqe->flags);
        break;
    case RETRY:
        start_accept(l);
        break;
    case RECEIVE:
        on_receive(l, fd, cqe->res, cqe->flags);
        break;
    case POLL:
        on_poll(l, fd, cqe->res, cqe->flags);
        break;
    case BULK_RECEIVE:
        on_bulk_receive(l, fd, cqe->res);
        break;
    case BACKLOG_SEND:
        on_backlog_send(l, fd, cqe->res);
        break;
    case SEND:   /* seen in settle() */
    case CANCEL: /* too late: it has ended by itself */
    case CLOSE:
        break;
    }
}

/* A completion makes two pieces at most, and two requests. */
static bool turn_is_full(const struct loop *l)
{
    return (l->bytes >= TURN && l->ring.knobs.early_submit) || l->pieces + 2 > PIECES ||
           io_uring_sq_space_left(&l->ring.io) < l->talkers + 5;
}

static void take_completions(struct loop *l)
{
    unsigned head = *l->ring.io.cq.khead;
    while (head != io_uring_smp_load_acquire(l->ring.io.cq.ktail)) {
        struct io_uring_cqe cqe = l->ring.io.cq.cqes[head & l->ring.io.cq.ring_mask];
        io_uring_smp_store_release(l->ring.io.cq.khead, ++head);
        if (turn_is_full(l))
            end_turn(l, 0);
        on_completion(l, &cqe);
    }
}

/* --- waiting -------------------------------------------------------------------------------------------------------- */

/* No completion tells that last words were sent, so it must not be waited for; nor while somebody is in the queue. */
static void wait_for_completions(struct loop *l)
{
    if (l->last_words || l->queue_head != l->queue_tail) {
        end_turn(l, 0);
        return;
    }
    if (l->ring.knobs.spin) {
        end_turn(l, 0);
        if (ring_spin(&l->ring))
            return;
    }
    end_turn(l, 1);
}

/* --- the start ------------------------------------------------------------------------------------------------------ */

static void make_hot(struct loop *l)
{
    for (int i = 0; i < 2; i++)
        l->hot[i] = ring_map(BULK + RING_PAGE) + (l->ring.knobs.stagger ? RING_STAGGER : 0);
}

static void make_queue(struct loop *l, unsigned limit)
{
    unsigned size = 1;
    while (size < limit)
        size *= 2;
    l->queue = server_table(size, sizeof(int));
    l->queue_mask = size - 1;
}

struct tuned_server {
    struct server server; /* first: each thread is told where it is */
    struct ring_knobs knobs;
};

static void *run(void *arg)
{
    const struct tuned_server *tuned = arg;
    struct loop *l = server_table(1, sizeof *l);
    l->conns = tuned->server.conns;
    l->listener = server_listen(&tuned->server, 0);
    ring_open(&l->ring, &tuned->knobs);
    make_hot(l);
    make_queue(l, tuned->server.limit);
    start_accept(l);
    for (;;) {
        wait_for_completions(l);
        take_completions(l);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct tuned_server tuned = {.knobs = ring_knobs_as_tuned};
    tuned.server = server_begin(ring_take_options(&tuned.knobs, argc, argv), argv);
    tuned.server.conns = server_table(tuned.server.limit, sizeof(struct conn));
    server_run(&tuned.server, run);
}
