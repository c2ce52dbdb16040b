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
 * There are few buffers at first, for few stay in the cache. When the kernel finds none it ends the receive (ENOBUFS):
 * there are twice as many from then on, and it is asked for again. All buffers go back at the end of a turn whatever the
 * peers do.
 *
 * --spin: before it sleeps it looks at the ring for some microseconds, in memory, without a system call. Where few
 * connections take turns with the server it saves the sleep and the waking, at the price of the processor's idle time. */
#include <assert.h>
#include <liburing.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#include "codec.h"
#include "server.h"

enum {
    ENTRIES = 1024,
    COMPLETIONS = 8192,
    BUFFER = 64 * 1024 + 64, /* takes a frame of 64 KiB; and no two begin at the same place of the cache */
    BUFFERS = 1024,          /* at most */
    FIRST_BUFFERS = 32,
    NO_BUFFER = BUFFERS, /* the piece's memory is from malloc() */
    PIECES = 256,
    NO_PIECE = PIECES,
    TURN = 48 * 1024,
    BACKLOG = 512 * 1024, /* from there on a connection is not read from */
    SPIN_NS = 100 * 1000,
};

enum kind { ACCEPT, RETRY, RECEIVE, CANCEL, SEND, BACKLOG_SEND, CLOSE };

/* Answers to be sent in this turn. */
struct piece {
    uint8_t *data;
    uint32_t size;
    uint16_t buffer;
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
    bool receiving;          /* the kernel has a receive for it */
    bool in_turn;            /* it has pieces */
    bool deaf;               /* input is dropped, after a bad header or when the peer is gone */
    bool ended;              /* there is no more input */
};

struct loop {
    struct io_uring ring;
    struct listener listener;
    struct conn *conns; /* by descriptor */
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    unsigned stock;  /* buffers that there are */
    bool stocked;    /* it was enlarged in this turn */
    bool last_words; /* in this turn something is sent after which a connection is to be ended */
    bool spin;
    size_t bytes; /* of all pieces */
    unsigned pieces, talkers;
    struct piece piece[PIECES];
    int talker[PIECES]; /* the connections that have pieces, by descriptor */
    struct iovec iovs[PIECES];
    struct msghdr messages[PIECES];
};

static_assert(sizeof(struct conn) <= 40, "that much an idle connection costs");
static_assert(ENTRIES >= 2 * PIECES + 16, "settle() may need an entry for each send of the turn");

/* --- requests ------------------------------------------------------------------------------------------------------- */

/* There is always one: a turn ends before they run out. */
static struct io_uring_sqe *request(struct loop *l)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);
    if (!sqe)
        server_die("io_uring_get_sqe", ENOSPC);
    return sqe;
}

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
    struct io_uring_sqe *sqe = request(l);
    io_uring_prep_multishot_accept(sqe, l->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    sign(sqe, ACCEPT, l->listener.fd, 0);
}

static void start_receive(struct loop *l, int fd)
{
    struct io_uring_sqe *sqe = request(l);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->buf_group = 0;
    sign(sqe, RECEIVE, fd, IOSQE_BUFFER_SELECT);
    l->conns[fd].receiving = true;
}

static void cancel_receive(struct loop *l, int fd)
{
    struct io_uring_sqe *sqe = request(l);
    io_uring_prep_cancel64(sqe, name(RECEIVE, fd), 0);
    sign(sqe, CANCEL, fd, IOSQE_CQE_SKIP_SUCCESS);
}

/* --- buffers -------------------------------------------------------------------------------------------------------- */

static void put_buffer(struct loop *l, unsigned buffer)
{
    io_uring_buf_ring_add(l->buffers, l->memory + (size_t)buffer * BUFFER, BUFFER, (uint16_t)buffer,
                          io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(l->buffers, 1);
}

/* However many receives meet the same shortage, it doubles the stock once. */
static void enlarge_stock(struct loop *l)
{
    unsigned wanted = l->stock ? l->stock * 2 : FIRST_BUFFERS;
    if (l->stocked || wanted > BUFFERS)
        return;
    while (l->stock < wanted)
        put_buffer(l, l->stock++);
    l->stocked = true;
}

/* --- the life of a connection --------------------------------------------------------------------------------------- */

/* Once nothing is under way any more. */
static void close_if_over(struct loop *l, int fd)
{
    struct conn *conn = &l->conns[fd];
    if (!conn->ended || conn->receiving || conn->in_turn || conn->backlog)
        return;
    codec_part_drop(&conn->part);
    *conn = (struct conn){0};
    struct io_uring_sqe *sqe = request(l);
    io_uring_prep_close(sqe, fd);
    sign(sqe, CLOSE, fd, IOSQE_CQE_SKIP_SUCCESS);
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
    struct io_uring_sqe *sqe = request(l);
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
    paid(l, fd);
}

/* --- a turn --------------------------------------------------------------------------------------------------------- */

static void add_piece(struct loop *l, int fd, uint8_t *data, size_t size, unsigned buffer)
{
    struct conn *conn = &l->conns[fd];
    uint16_t index = (uint16_t)l->pieces++;
    l->piece[index] = (struct piece){data, (uint32_t)size, (uint16_t)buffer, NO_PIECE};
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
        struct io_uring_sqe *sqe = request(l);
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
        sign(sqe, SEND, l->talker[i], IOSQE_CQE_SKIP_SUCCESS);
    }
}

/* The send of this turn did not take everything. */
static void on_short_send(struct loop *l, int fd, int res)
{
    struct conn *conn = &l->conns[fd];
    size_t sent = res > 0 ? (size_t)res : 0;
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
    unsigned end = io_uring_smp_load_acquire(l->ring.cq.ktail);
    if (IO_URING_READ_ONCE(*l->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW)
        server_die("the completion ring is too small", EOVERFLOW); /* a short send might have gone unnoticed */
    for (unsigned at = since; at != end && l->talkers > 0; at++) {
        const struct io_uring_cqe *cqe = &l->ring.cq.cqes[at & l->ring.cq.ring_mask];
        if (cqe->user_data >> 32 == SEND)
            on_short_send(l, (int)(uint32_t)cqe->user_data, cqe->res);
    }
    for (unsigned i = 0; i < l->pieces; i++) {
        if (l->piece[i].buffer == NO_BUFFER)
            free(l->piece[i].data);
        else
            put_buffer(l, l->piece[i].buffer);
    }
    for (unsigned i = 0; i < l->talkers; i++) {
        struct conn *conn = &l->conns[l->talker[i]];
        conn->in_turn = false;
        if ((conn->deaf || conn->ended) && !conn->backlog)
            paid(l, l->talker[i]);
    }
    l->pieces = l->talkers = 0;
    l->bytes = 0;
    l->stocked = l->last_words = false;
}

/* Hands in all that is ready, and waits for so many completions. */
static void end_turn(struct loop *l, unsigned wait)
{
    send_pieces(l);
    unsigned since = *l->ring.cq.ktail, entries = io_uring_sq_ready(&l->ring);
    int n;
    do
        n = wait ? io_uring_submit_and_wait(&l->ring, wait) : io_uring_submit(&l->ring);
    while (n == -EINTR);
    if (n < 0 || (unsigned)n != entries)
        server_die("io_uring_enter", n < 0 ? -n : EIO);
    settle(l, since);
}

/* --- completions ---------------------------------------------------------------------------------------------------- */

static void on_data(struct loop *l, int fd, unsigned buffer, size_t size)
{
    struct conn *conn = &l->conns[fd];
    if (conn->deaf) {
        put_buffer(l, buffer);
        return;
    }
    struct codec_chunk chunk = codec_take(&conn->part, l->memory + (size_t)buffer * BUFFER, size);
    conn->deaf = chunk.bad;
    if (conn->backlog) {
        backlog_add(conn->backlog, chunk.frame, chunk.frame_size);
        backlog_add(conn->backlog, chunk.answers, chunk.size);
        free(chunk.frame);
        put_buffer(l, buffer);
        if (conn->backlog->waiting_size > BACKLOG && !conn->backlog->paused && conn->receiving) {
            conn->backlog->paused = true;
            cancel_receive(l, fd);
        }
        return;
    }
    if (chunk.frame)
        add_piece(l, fd, chunk.frame, chunk.frame_size, NO_BUFFER);
    if (chunk.size)
        add_piece(l, fd, chunk.answers, chunk.size, buffer);
    else
        put_buffer(l, buffer);
    if (chunk.bad && conn->in_turn)
        l->last_words = true;
    else if (chunk.bad)
        paid(l, fd);
}

static void on_receive(struct loop *l, int fd, int res, unsigned flags)
{
    struct conn *conn = &l->conns[fd];
    conn->receiving = flags & IORING_CQE_F_MORE;
    if (res > 0)
        on_data(l, fd, flags >> IORING_CQE_BUFFER_SHIFT, (size_t)res);
    else if (flags & IORING_CQE_F_BUFFER)
        put_buffer(l, flags >> IORING_CQE_BUFFER_SHIFT);
    if (res == -ENOBUFS)
        enlarge_stock(l);
    if (conn->receiving)
        return;
    conn->ended |= res == 0 || (res < 0 && res != -ENOBUFS && res != -ECANCELED && res != -EINTR);
    l->last_words |= conn->ended && conn->in_turn;
    if (conn->ended)
        close_if_over(l, fd);
    else if (!conn->backlog || !conn->backlog->paused)
        start_receive(l, fd);
}

/* Out of descriptors or memory: the connections wait in the backlog of the listener for a tenth of a second. */
static void retry_accept(struct loop *l)
{
    static struct __kernel_timespec pause = {.tv_nsec = 100000000};
    struct io_uring_sqe *sqe = request(l);
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
    return l->bytes >= TURN || l->pieces + 2 > PIECES || io_uring_sq_space_left(&l->ring) < l->talkers + 4;
}

static void take_completions(struct loop *l)
{
    unsigned head = *l->ring.cq.khead;
    while (head != io_uring_smp_load_acquire(l->ring.cq.ktail)) {
        struct io_uring_cqe cqe = l->ring.cq.cqes[head & l->ring.cq.ring_mask];
        io_uring_smp_store_release(l->ring.cq.khead, ++head);
        if (turn_is_full(l))
            end_turn(l, 0);
        on_completion(l, &cqe);
    }
}

/* --- waiting -------------------------------------------------------------------------------------------------------- */

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* True when there are completions. What has come is the kernel's until it is fetched with a system call, which is made
 * only when the ring says that there is something. */
static bool spin(struct loop *l)
{
    uint64_t end = now() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (IO_URING_READ_ONCE(*l->ring.sq.kflags) & IORING_SQ_TASKRUN)
                io_uring_get_events(&l->ring);
            if (io_uring_cq_ready(&l->ring) > 0)
                return true;
            relax();
        }
    } while (now() < end);
    return false;
}

/* No completion tells that last words were sent, so it must not be waited for. */
static void wait_for_completions(struct loop *l)
{
    if (l->last_words)
        end_turn(l, 0);
    if (l->spin) {
        end_turn(l, 0);
        if (spin(l))
            return;
    }
    end_turn(l, 1);
}

/* DEFER_TASKRUN: the kernel does its part of the work within our system calls, and does not interrupt for it. Of all the
 * set-up flags it is the one that counts, by half of the processor's time. */
static void open_ring(struct loop *l)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | (l->spin ? IORING_SETUP_TASKRUN_FLAG : 0U),
        .cq_entries = COMPLETIONS,
    };
    int r = io_uring_queue_init_params(ENTRIES, &l->ring, &params);
    if (r < 0)
        server_die("io_uring_setup", -r);
    size_t ring_size = BUFFERS * sizeof(struct io_uring_buf), size = (size_t)BUFFERS * BUFFER;
    void *memory =
        mmap(NULL, ring_size + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        server_die("mmap", errno);
    l->buffers = memory;
    l->memory = (uint8_t *)memory + ring_size;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)memory, .ring_entries = BUFFERS};
    r = io_uring_register_buf_ring(&l->ring, &reg, 0);
    if (r < 0)
        server_die("io_uring_register_buf_ring", -r);
    io_uring_buf_ring_init(l->buffers);
    enlarge_stock(l);
}

static bool spin_wanted;

static void *run(void *arg)
{
    struct server *server = arg;
    struct loop *l = server_table(1, sizeof *l);
    l->conns = server->conns;
    l->spin = spin_wanted;
    l->listener = server_listen(server, 0);
    open_ring(l);
    start_accept(l);
    for (;;) {
        wait_for_completions(l);
        take_completions(l);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[argc - 1], "--spin") == 0) {
        spin_wanted = true;
        argc--;
    }
    struct server server = server_begin(argc, argv);
    server.conns = server_table(server.limit, sizeof(struct conn));
    server_run(&server, run);
}
