/* SPDX-License-Identifier: MIT
 *
 * proactor: completion-based asynchronous I/O for Linux.
 *
 * You start an operation and go on; when the kernel has *completed* it, its continuation is called with the
 * result. Behind the same calls stand io_uring (completions come from the kernel), epoll (readiness is turned into
 * completions) and a simulated world for tests (<proactor/sim.h>). Nothing in a program changes with the backend.
 *
 *      struct pro_loop *loop;
 *      pro_loop_new(NULL, &loop);                            one loop, one thread
 *      pro_recv(&peer, &op, data, sizeof data, 0, on_data);  start; never fails, never calls back
 *      pro_run(loop, PRO_RUN_DEFAULT);                       on_data(loop, &op, result) is called from here
 *
 *
 * THE CONTRACT
 *
 *  1. An operation is memory of the caller. `struct pro_op` is a member of an object of yours, found again with
 *     PRO_CONTAINER_OF. All zero bytes is idle. The core allocates nothing per operation; pools and streams
 *     allocate through the loop's allocator, within configured limits, and not in steady state.
 *  2. Starting never fails and never calls back. Every outcome, even an immediate one, reaches the continuation
 *     from inside pro_run, on the loop's thread. Misuse (starting an operation that is in flight, closing twice, a
 *     foreign thread, freeing a loop inside one of its continuations) aborts with a message in every build.
 *  3. Exactly one final completion. A continuation is called any number of times with PRO_MORE, and then exactly
 *     once without. At that last call the operation is idle: it may be started again, or its memory freed, from
 *     inside the continuation, and the kernel holds no reference to it of any kind. A multishot operation ends
 *     only by end of file, error, cancel, deadline or close. A final completion may carry data.
 *  4. Cancel hastens and decides nothing. After pro_cancel the final completion still comes: with the real result
 *     if that won the race, else -ECANCELED. It may be asked at any time, any number of times. Data or a descriptor
 *     that won the race is delivered, never dropped.
 *  5. Any operation may have a deadline, set, moved or cleared before or during its flight, in O(1). When it passes
 *     the operation is cancelled and reports -ETIME unless its result won. The first of cancel and deadline names
 *     the error.
 *  6. Handles close cleanly. pro_close ends every operation in flight on the handle (what is started on a closing
 *     handle ends -ECANCELED), lets their continuations run, closes the descriptor, and then runs its own. No
 *     operation ever acts on a reused descriptor number. Closing does not shut a socket down behind the back of
 *     others who hold it; pro_abort resets the connection, and a deadline or a cancel on a close turns it into an
 *     abort.
 *  7. Buffers are lent. A receive may take its memory from a `struct pro_pool` at the moment the data is there, so
 *     an idle connection holds none. What it brings comes as slices, yours until returned, from any continuation,
 *     split or whole. A pool grows in slabs up to its limit and no handle holds more than its quota. What it has
 *     not needed for some seconds stays allocated, but its pages go back to the system. A dry pool pauses receives
 *     and resumes them by itself; it is no error. A pool may outlive its loop.
 *  8. Credit. A multishot receive delivers at most the bytes it has credit for, and pauses at zero. A pause asked
 *     for is answered by one completion {0, PRO_MORE|PRO_PAUSED}, after which nothing comes until credit is given.
 *     While it is paused a receive into your own memory may be started on the same handle.
 *  9. Order. At most one receive and one send of a handle are at the kernel; the others queue in the handle.
 *     Receives complete in order. Sends are delivered in the order started, each whole before the next. A stream
 *     send cut short by cancel, deadline or error says how many bytes went (pro_op_bytes), and from then on every
 *     later send on that handle ends -EPIPE untried. Datagrams are exempt.
 * 10. Errors are negative errno values in the result. End of file is `res` 0 with PRO_EOF. pro_error_name and
 *     pro_error_text say what an error means.
 * 11. One loop, one thread: the first that runs it. Other threads hold a counted `struct pro_remote` and post
 *     through it; once the loop is gone a post says -ESHUTDOWN. Waking is async-signal-safe. There are no hidden
 *     globals and no hidden threads.
 * 12. Fair. One turn runs the completions that were there when it began, bounded by count and by bytes: no handle,
 *     timer or poster starves another.
 * 13. Pull-down. Outside pro_run, pro_loop_free cancels everything, runs every final continuation, and returns
 *     every byte and every descriptor. What is started meanwhile ends -ESHUTDOWN, so a continuation that starts
 *     again whatever ended would keep it busy for ever. In a forked child pro_run says -ECHILD, pro_loop_free frees
 *     the child's copies only, anything else aborts; the parent is untouched.
 *
 *
 * CONVENTIONS, valid wherever nothing else is said
 *
 *  - Thread: every call is for the loop's thread (before the first pro_run: any one thread at a time). Calls marked
 *    "any thread" or "async-signal-safe" are the exceptions.
 *  - Functions that can fail return int, 0 or a negative errno value, and leave `ret_` parameters untouched on
 *    failure. Functions that start an operation return nothing (2).
 *  - Time is CLOCK_MONOTONIC in nanoseconds, absolute, as pro_now tells it. PRO_NEVER is a time that never comes.
 *  - Memory given to an operation (bytes, iovec array, address) stays valid and untouched until its final
 *    completion, and so do the operation and its handle.
 *  - An operation's `res` says 0 for success unless its comment says more.
 */
#ifndef PROACTOR_H
#define PROACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PRO_API __attribute__((visibility("default")))

#define PRO_VERSION_MAJOR 0
#define PRO_VERSION_MINOR 1
#define PRO_VERSION_PATCH 0
/* One number that grows with the version: 0x00MMmmpp. */
#define PRO_VERSION ((PRO_VERSION_MAJOR << 16) | (PRO_VERSION_MINOR << 8) | PRO_VERSION_PATCH)

/* The PRO_VERSION of the library that is linked, which may be newer than this header. Any thread. */
PRO_API unsigned pro_version(void);

/* The object of type `type` whose member `member` is at `pointer`. */
#define PRO_CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define PRO_NEVER     UINT64_MAX /* a time that never comes */
#define PRO_UNLIMITED UINT32_MAX /* credit that is not counted */

struct pro_loop;
struct pro_pool;
struct pro_remote;
struct pro_op;
struct pro_sim;

/* ------------------------------------------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------------------------------------------ */

/* A piece of received memory, lent by a pool until pro_slice_return. You may change `data` and `size` to a part of
 * what was given (skip a header, drop a tail), write to the bytes, and link slices by `next`. */
struct pro_slice {
    struct pro_slice *next; /* yours; delivered as NULL */
    uint8_t *data;
    uint32_t size;             /* bytes, at least 1 as delivered */
    uint32_t charge;           /* yours; streams keep the bytes they count for this slice here */
    struct pro_buffer *buffer; /* private: what the slice pins */
};

enum {
    PRO_MORE = 1 << 0,   /* not the last completion of this operation (3) */
    PRO_EOF = 1 << 1,    /* end of file: `res` is 0 and nothing more can come (10) */
    PRO_PAUSED = 1 << 2, /* a multishot receive stands still until it is given credit (8) */
};

struct pro_result {
    int32_t res;             /* bytes, a descriptor, events, or a negative errno */
    uint32_t flags;          /* PRO_MORE, PRO_EOF, PRO_PAUSED */
    struct pro_slice *slice; /* received bytes, `res` of them, now yours; else NULL */
};

/* A continuation. It may start, cancel and close anything, and, without PRO_MORE, free `op`. */
typedef void pro_fn(struct pro_loop *loop, struct pro_op *op, struct pro_result result);

/* The name of an errno value ("ECONNRESET"), and one sentence on what it means here. `error` may be negative (as in
 * a result) or positive; one that is not known gives "E?". Static strings. Any thread. */
PRO_API const char *pro_error_name(int error);
PRO_API const char *pro_error_text(int error);

/* ------------------------------------------------------------------------------------------------------------
 * Operations and handles: memory of the caller
 * ------------------------------------------------------------------------------------------------------------ */

/* An operation (1). All zero bytes is idle. Every member is private; they are listed so that the size is known. */
struct pro_op {
    struct pro_op *link_next, *link_prev; /* the lane of its handle, or the queue of a dry pool */
    struct pro_op *queue_next;            /* the loop's queues, or a remote's inbox */
    struct pro_op *time_next, *time_prev; /* the timing wheel */
    uint64_t time_at;                     /* deadline, or when a timer fires */
    pro_fn *done;
    union {
        struct pro_handle *handle;
        struct pro_loop *loop; /* timers and posts have no handle */
    } owner;
    uint8_t code;
    uint8_t state;
    uint16_t flags;
    int32_t res;
    union {
        struct {
            void *data; /* bytes, iovec array, slice list or address */
            uint32_t size;
            uint32_t moved;
            uint64_t offset;
        } io;
        struct {
            struct pro_pool *pool;
            uint32_t credit;
            uint32_t armed;
            uint64_t reserved;
        } stream;
        struct {
            uint64_t at, every, deadline;
        } timer;
    } u;
};

/* What a descriptor is to the library. All zero bytes is closed. Its memory belongs to the caller and stays put from
 * pro_adopt (or whatever opened it) to the final completion of pro_close, pro_abort or pro_release, or until
 * pro_loop_free. Every member is private. */
struct pro_handle {
    struct pro_loop *loop;
    struct pro_handle *next, *prev; /* all open handles of the loop */
    struct pro_op *receives;        /* lanes: the first operation of each is at the kernel, the others wait */
    struct pro_op *sends;
    struct pro_op *others;       /* polls, and the close */
    struct pro_op *parked;       /* a multishot receive that is paused or waits for memory */
    struct pro_account *account; /* what it holds of a pool; NULL when nothing */
    int32_t fd;
    uint32_t in_flight; /* operations whose final continuation has not run */
    uint16_t flags;
    uint16_t backend_flags;
    uint32_t reserved;
};

/* True from the start of `op` until its final continuation is called. */
PRO_API bool pro_op_in_flight(const struct pro_op *op);

/* Bytes a send or write had moved when it ended: of use after an error, when `res` holds the errno (9). Valid from
 * the final continuation until `op` is started again. */
PRO_API uint32_t pro_op_bytes(const struct pro_op *op);

/* From now to its final completion `op` does not keep pro_run from returning: a signal watcher, a statistics timer.
 * May be called before or during flight. */
PRO_API void pro_op_background(struct pro_op *op);

/* The success of a send may be told late: it does not end a sleep of the loop (unless that is one of PRO_RUN_ONCE), and
 * is told when the sleep ends for another reason. For sends whose continuation only tidies up. May be said, and taken
 * back, before and during flight; holds to the final completion. */
PRO_API void pro_op_lazy(struct pro_op *op, bool lazy);

/* ------------------------------------------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------------------------------------------ */

enum pro_backend_kind {
    PRO_BACKEND_AUTO,     /* io_uring, else epoll with the reason in pro_loop_describe */
    PRO_BACKEND_IO_URING, /* fails if it is not available */
    PRO_BACKEND_EPOLL,
    PRO_BACKEND_SIM, /* a simulated world, see <proactor/sim.h> */
};

/* Memory for everything the library allocates. `align` is a power of two. `free` gets the size that was asked for.
 * Called on the loop's thread, and by whoever drops the last reference to a remote or a pool. Pages that lie wholly in
 * a pool's buffers may be discarded with madvise(2), MADV_DONTNEED. */
struct pro_allocator {
    void *(*alloc)(void *context, size_t size, size_t align); /* NULL when there is none */
    void (*free)(void *context, void *memory, size_t size);
    void *context;
};

/* Features of the io_uring backend. Each is tried at start and used if it works; a bit in `features_off` keeps it
 * unused, so that its worth can be measured and its absence tested. */
enum {
    PRO_FEATURE_DEFER_TASKRUN = 1 << 0, /* completions are made when the loop asks for them */
    PRO_FEATURE_SINGLE_ISSUER = 1 << 1,
    PRO_FEATURE_SUBMIT_ALL = 1 << 2,
    PRO_FEATURE_BUFFER_RING = 1 << 3,    /* the kernel picks a buffer of the pool when data is there */
    PRO_FEATURE_RECV_MULTISHOT = 1 << 4, /* one request receives until its credit is used up (Linux 6.17) */
    PRO_FEATURE_ACCEPT_MULTISHOT = 1 << 5,
    PRO_FEATURE_SKIP_SUCCESS = 1 << 6,    /* a send makes a completion only when it falls short */
    PRO_FEATURE_MIN_WAIT = 1 << 7,        /* used if `min_wait_us` asks for it (Linux 6.12) */
    PRO_FEATURE_REGISTERED_RING = 1 << 8, /* from the first run on; a thread can have sixteen */
};

/* Zero means the default, everywhere. Start from PRO_CONFIG_INIT. */
struct pro_config {
    size_t size;                    /* sizeof(struct pro_config): lets later versions add members */
    enum pro_backend_kind backend;  /* AUTO is overruled by PROACTOR_BACKEND=io_uring|epoll in the environment */
    uint32_t entries;               /* submission queue, a power of two; default 256 */
    uint32_t completion_entries;    /* completion queue; default 4 x entries, at least 1024 */
    uint32_t turn_completions;      /* most continuations a turn runs; default 512 (12) */
    uint32_t turn_bytes;            /* bytes received after which a turn ends; default 64 KiB (12) */
    uint64_t features_off;          /* PRO_FEATURE_ bits */
    struct pro_allocator allocator; /* default: aligned_alloc and free */
    struct pro_sim *sim;            /* the world, for PRO_BACKEND_SIM */
    /* Before it sleeps, a loop looks for results this long; default 0. Burns the idle core to save the sleep and the
     * waking. */
    uint32_t spin_us;
    /* A loop that sleeps waits this long for more than one result, where the kernel can (io_uring, Linux 6.12); default
     * 0. Fewer wakings at saturation, later answers at moderate load. */
    uint32_t min_wait_us;
};
#define PRO_CONFIG_INIT                                                                                                \
    {                                                                                                                  \
        sizeof(struct pro_config), PRO_BACKEND_AUTO, 0, 0, 0, 0, 0, {NULL, NULL, NULL}, NULL, 0, 0                     \
    }

/* Makes a loop. `config` may be NULL and is not kept. Fails with -EINVAL (a config or PROACTOR_BACKEND that makes no
 * sense), -ENOMEM, -EMFILE, or, for a named backend, the errno of what refused it (-ENOSYS, -EPERM, … see
 * docs/backends.md). */
PRO_API int pro_loop_new(const struct pro_config *config, struct pro_loop **ret_loop);

/* Pull-down (13). NULL is fine. */
PRO_API void pro_loop_free(struct pro_loop *loop);

enum pro_run_mode {
    PRO_RUN_DEFAULT, /* until nothing but background operations is in flight, or pro_stop */
    PRO_RUN_ONCE,    /* until something has happened; like NOWAIT if nothing but background operations is in flight */
    PRO_RUN_NOWAIT,  /* one turn without waiting */
};

/* Runs continuations. Returns 1 if operations other than background ones are still in flight, 0 if none is; or
 * -ECHILD in a forked child, or the errno of a ring that is broken beyond repair. */
PRO_API int pro_run(struct pro_loop *loop, enum pro_run_mode mode);

/* Makes the pro_run that is running (or else the next one) return at the end of its turn. */
PRO_API void pro_stop(struct pro_loop *loop);

/* The time, read once a turn; outside pro_run it is read anew. */
PRO_API uint64_t pro_now(const struct pro_loop *loop);

/* What the loop stands on: "io_uring: defer_taskrun, recv_multishot, …", or for one that fell back
 * "epoll: io_uring_setup: EPERM (…)". Lives as long as the loop. */
PRO_API const char *pro_loop_describe(const struct pro_loop *loop);

/* Never PRO_BACKEND_AUTO. */
PRO_API enum pro_backend_kind pro_loop_backend(const struct pro_loop *loop);

/* A descriptor that is readable while pro_run has work: poll it in a foreign loop, and call pro_run(loop,
 * PRO_RUN_NOWAIT) whenever it is. The loop owns it. Returns the descriptor or a negative errno. */
PRO_API int pro_loop_fd(struct pro_loop *loop);

/* Counters since the loop was made. */
struct pro_stats {
    uint64_t turns;
    uint64_t started;   /* operations started; started = completed + in_flight, always */
    uint64_t completed; /* final completions */
    uint64_t in_flight;
    uint64_t more;      /* completions with PRO_MORE */
    uint64_t waits;     /* system calls that submit and wait */
    uint64_t pool_dry;  /* times a receive was parked for want of pool memory */
    uint64_t overflows; /* times the kernel's completion queue overflowed; nothing is lost */
};

/* Copies at most `size` bytes of the counters, so that old callers meet new libraries. */
PRO_API void pro_loop_stats(const struct pro_loop *loop, struct pro_stats *ret_stats, size_t size);

/* ------------------------------------------------------------------------------------------------------------
 * Descriptors in and out
 * ------------------------------------------------------------------------------------------------------------ */

/* Takes charge of an open descriptor of any kind. File status flags are never changed: a blocking descriptor is fine
 * (on epoll see docs/backends.md for listeners shared with other processes). One handle a descriptor. Aborts if the
 * handle is open. */
PRO_API void pro_adopt(struct pro_loop *loop, struct pro_handle *handle, int fd);

/* A new socket, close-on-exec and non-blocking, adopted into `handle`. For pro_connect. socket(2)'s errors. */
PRO_API int pro_socket(struct pro_loop *loop, struct pro_handle *handle, int family, int type, int protocol);

enum {
    PRO_REUSEPORT = 1 << 0, /* several listeners share the address, the kernel spreads the connections */
};

/* A listening stream socket on `address`, adopted into `handle`: TCP over IPv4 or IPv6 (with SO_REUSEADDR), or Unix
 * (path or abstract; the path stays when the listener is closed). `backlog` 0 is the system's most. Errors of socket(2),
 * bind(2), listen(2). */
PRO_API int pro_listen(struct pro_loop *loop, struct pro_handle *handle, const struct sockaddr *address,
                       socklen_t length, int backlog, unsigned flags);

/* The two ends of a socket, getsockname(2) and getpeername(2). */
PRO_API int pro_local_address(const struct pro_handle *handle, struct sockaddr_storage *ret_address,
                              socklen_t *ret_length);
PRO_API int pro_peer_address(const struct pro_handle *handle, struct sockaddr_storage *ret_address,
                             socklen_t *ret_length);

/* setsockopt(2) and getsockopt(2). */
PRO_API int pro_option_set(struct pro_handle *handle, int level, int name, const void *value, socklen_t length);
PRO_API int pro_option_get(const struct pro_handle *handle, int level, int name, void *value, socklen_t *length);

/* Bytes of a stream socket that were sent and have not reached the peer's kernel (tcp(7), SIOCOUTQ; of a Unix socket 0),
 * or a negative errno: what a close with input unread would destroy, for it resets the connection. */
PRO_API int pro_unsent(const struct pro_handle *handle);

/* Closes a descriptor that an accept delivered and that nobody wants. */
PRO_API void pro_discard(struct pro_loop *loop, int fd);

/* Ends what is in flight on the handle, closes the descriptor, completes (6). After the continuation is called the
 * handle is closed and its memory is yours. `res` is 0, or -ETIME or -ECANCELED if a deadline or cancel turned it
 * into an abort; the descriptor is gone in any case. */
PRO_API void pro_close(struct pro_handle *handle, struct pro_op *op, pro_fn *done);

/* The same, but first resets the connection: the peer gets an error at once, unsent data is dropped, and so is the
 * connection of others who share the socket. Unix sockets know no reset: their peer sees an end of file, behind what was
 * sent. On what is no connection it is pro_close. */
PRO_API void pro_abort(struct pro_handle *handle, struct pro_op *op, pro_fn *done);

/* Like pro_close, but the descriptor stays open and goes back to the caller in `res`. */
PRO_API void pro_release(struct pro_handle *handle, struct pro_op *op, pro_fn *done);

/* ------------------------------------------------------------------------------------------------------------
 * Starting operations. None of these fails, none calls back (2).
 * ------------------------------------------------------------------------------------------------------------ */

/* One connection: `res` is a new descriptor (0 is one too), close-on-exec and non-blocking; hand it to pro_adopt or
 * pro_discard. Errors end the operation: on -EMFILE, -ENFILE, -ENOBUFS or -ENOMEM the connection waits in the backlog;
 * start again after a pause. Errors of a single connection (accept(2)) are not shown, but -EPERM is when 64 in
 * a row are denied. */
PRO_API void pro_accept(struct pro_handle *listener, struct pro_op *op, pro_fn *done);

/* Every connection, each with PRO_MORE. */
PRO_API void pro_accept_multi(struct pro_handle *listener, struct pro_op *op, pro_fn *done);

/* connect(2). A handle whose connect failed or was cut can only be closed. */
PRO_API void pro_connect(struct pro_handle *handle, struct pro_op *op, const struct sockaddr *address, socklen_t length,
                         pro_fn *done);

enum {
    PRO_RECV_ALL = 1 << 0,  /* complete when `size` bytes are there, or at end of file, error, cancel: `res` says how
                               many came */
    PRO_SEND_MORE = 1 << 1, /* more follows soon: MSG_MORE */
};

/* Receives 1 to `size` bytes from a socket into `data`; `size` is 1 to INT32_MAX. `res` is the count; 0 with PRO_EOF
 * is the end, 0 without is an empty datagram. What of a datagram does not fit is lost. `flags`: PRO_RECV_ALL, for streams
 * of bytes. */
PRO_API void pro_recv(struct pro_handle *handle, struct pro_op *op, void *data, size_t size, unsigned flags,
                      pro_fn *done);

/* Receives from a socket for as long as there is credit, each piece as a slice of `pool`, with PRO_MORE (7, 8). The
 * piece that uses up the credit has PRO_PAUSED set. `credit` is in bytes, may be 0, or is PRO_UNLIMITED. A datagram
 * that is larger than a buffer or than the credit left is cut. */
PRO_API void pro_recv_multi(struct pro_handle *handle, struct pro_op *op, struct pro_pool *pool, uint32_t credit,
                            pro_fn *done);

/* Adds credit, and resumes the receive if it was paused. PRO_UNLIMITED makes it unlimited; counted credit is at most
 * PRO_UNLIMITED - 1, and more is lost. Without effect once the operation has ended. */
PRO_API void pro_recv_credit(struct pro_op *op, uint32_t bytes);

/* Takes back all credit, and answers with one completion {0, PRO_MORE|PRO_PAUSED}. What the kernel had taken by then
 * is delivered before the answer. Credit given after this call counts, and resumes the receive after the answer. */
PRO_API void pro_recv_pause(struct pro_op *op);

/* Sends all bytes of `count` buffers (1 to 1024; together 1 to INT32_MAX bytes) on a socket. `res` is the count of
 * bytes, all of them, or an error, see pro_op_bytes. The array may be modified. `flags`: PRO_SEND_MORE. */
PRO_API void pro_send(struct pro_handle *handle, struct pro_op *op, struct iovec *iov, int count, unsigned flags,
                      pro_fn *done);

/* Sends a list of slices, linked by `next`, without copying them; `res` as of pro_send. Takes the list over: the slices
 * are returned to their pool as they are done with, in any case. On a socket that keeps message borders at most 64: else
 * -EMSGSIZE. */
PRO_API void pro_send_slices(struct pro_handle *handle, struct pro_op *op, struct pro_slice *list, pro_fn *done);

/* Sends what a socket takes at once, without an operation: 1 to `size` bytes, or -EAGAIN when it takes none or when a
 * send is in flight on the handle, or an error. */
PRO_API int pro_try_send(struct pro_handle *handle, const void *data, size_t size);

/* Reads 1 to `size` bytes from a file, pipe or terminal; `size` as for pro_recv. `offset` is a position in a file, or
 * PRO_STREAM for "where it stands". 0 with PRO_EOF is the end. */
#define PRO_STREAM UINT64_MAX
PRO_API void pro_read(struct pro_handle *handle, struct pro_op *op, void *data, size_t size, uint64_t offset,
                      pro_fn *done);

/* Writes all `size` bytes, of which `res` is the count; ordered and cut like a send (9). */
PRO_API void pro_write(struct pro_handle *handle, struct pro_op *op, const void *data, size_t size, uint64_t offset,
                       pro_fn *done);

/* shutdown(2) with SHUT_RD, SHUT_WR or SHUT_RDWR, in its turn among the sends: what was started before it is sent
 * before it. */
PRO_API void pro_shutdown(struct pro_handle *handle, struct pro_op *op, int how, pro_fn *done);

/* Readiness of a descriptor that somebody else reads and writes. `events` and `res` are those of poll(2). The one-shot
 * completes as soon as one of them holds; the multishot reports once if one holds now, and then changes. A descriptor
 * that is always ready (a regular file) reports ready. The descriptor is the handle's meanwhile: before its owner closes
 * it, get it back with pro_release. */
PRO_API void pro_poll(struct pro_handle *handle, struct pro_op *op, unsigned events, pro_fn *done);
PRO_API void pro_poll_multi(struct pro_handle *handle, struct pro_op *op, unsigned events, pro_fn *done);

/* Completes with 0 at `at`, or in the next turn if that has passed. Timers run in the order of their times, and in
 * the order they were started where those are equal; one that a deadline has brought forward, and that is let back,
 * goes behind those. One at PRO_NEVER keeps a loop running for posts. */
PRO_API void pro_timer(struct pro_loop *loop, struct pro_op *op, uint64_t at, pro_fn *done);
PRO_API void pro_timer_after(struct pro_loop *loop, struct pro_op *op, uint64_t delay_ns, pro_fn *done);

/* At `first`, and then every `interval_ns` (not 0) with PRO_MORE until cancelled. `res` is the number of times it was
 * due since the last report: a late loop gets one report, not a burst. */
PRO_API void pro_timer_every(struct pro_loop *loop, struct pro_op *op, uint64_t first, uint64_t interval_ns,
                             pro_fn *done);

/* When `op` is to end (5); 0 clears. Before a start it holds for the next flight only. A deadline that has passed
 * takes effect in the next turn, or, while the kernel has results to tell first, when those are told (100 ms later at
 * the latest). */
PRO_API void pro_deadline(struct pro_op *op, uint64_t at);

/* Asks that `op`, or everything in flight on `handle`, ends soon (4). Without effect on what is idle. */
PRO_API void pro_cancel(struct pro_op *op);
PRO_API void pro_cancel_all(struct pro_handle *handle);

/* ------------------------------------------------------------------------------------------------------------
 * Other threads and signal handlers
 * ------------------------------------------------------------------------------------------------------------ */

/* A counted reference to the loop's mailbox. Taken on the loop's thread; NULL if there is no memory or descriptor. It
 * does not keep pro_run running: a timer at PRO_NEVER does. */
PRO_API struct pro_remote *pro_remote_get(struct pro_loop *loop);
/* One more reference, and one less. The mailbox outlives its loop until the last is dropped. Any thread. */
PRO_API struct pro_remote *pro_remote_ref(struct pro_remote *remote);
PRO_API void pro_remote_unref(struct pro_remote *remote);

/* Has `done` called with res 0 on the thread of `to`: the way to hand work to a loop. Posts of one thread arrive in
 * order. Returns 0, or -ESHUTDOWN when the loop is gone, and then `op` is idle. Posted before the loop is freed and
 * not yet run: -ECANCELED. Any thread; async-signal-safe. */
PRO_API int pro_post(struct pro_remote *to, struct pro_op *op, pro_fn *done);

/* Makes the loop take a turn, so that pro_run(PRO_RUN_ONCE) returns. Any thread; async-signal-safe. */
PRO_API void pro_wake(struct pro_remote *remote);

/* ------------------------------------------------------------------------------------------------------------
 * Pools and slices
 * ------------------------------------------------------------------------------------------------------------ */

struct pro_pool_config {
    size_t size;            /* sizeof(struct pro_pool_config) */
    uint32_t buffer_size;   /* bytes, 256 to 16 MiB; default 64 KiB */
    uint32_t slab_buffers;  /* buffers allocated at once, made a power of two; default 16 */
    uint32_t max_buffers;   /* 1 to 32768; default 1024 */
    uint32_t quota_buffers; /* most that one handle may hold; default 16, at most max_buffers */
};
#define PRO_POOL_CONFIG_INIT                                                                                           \
    {                                                                                                                  \
        sizeof(struct pro_pool_config), 0, 0, 0, 0                                                                     \
    }

/* A pool whose memory comes from the allocator of `loop`. NULL config: the defaults. Nothing but bookkeeping is
 * allocated before the first receive. -EINVAL, -ENOMEM. Small pieces that are kept share a buffer, where each takes up to
 * 40 bytes besides its own. The pool serves one loop at a time: this one, and once it is gone, the next that receives
 * from it. A loop that is run tidies its pools up about once a second while there is something to give back to the
 * system; that is no operation, and an idle loop soon sleeps for good. */
PRO_API int pro_pool_new(struct pro_loop *loop, const struct pro_pool_config *config, struct pro_pool **ret_pool);

/* Frees the pool: at once, or, if slices are out, when the last is returned. No receive may be in flight on it. NULL
 * is fine. */
PRO_API void pro_pool_free(struct pro_pool *pool);

struct pro_pool_stats {
    uint64_t buffer_size;  /* bytes */
    uint64_t buffers;      /* allocated, whether there are pages behind them or not */
    uint64_t buffers_lent; /* pinned by slices that are out */
    uint64_t slices_lent;
};
PRO_API void pro_pool_stats(const struct pro_pool *pool, struct pro_pool_stats *ret_stats, size_t size);

/* Gives a slice back, or a list of them linked by `next` (NULL is an empty one). The buffer is free when its last
 * slice is back. */
PRO_API void pro_slice_return(struct pro_slice *slice);
PRO_API void pro_slice_return_list(struct pro_slice *list);

/* Cuts a slice in two before byte `at` (1 to size - 1). `slice` keeps the head and its `next`; the tail is a slice of
 * its own, with `next` NULL. -ENOBUFS when the pool has no descriptor left: it has eight for every buffer. */
PRO_API int pro_slice_split(struct pro_slice *slice, uint32_t at, struct pro_slice **ret_tail);

/* Bytes of memory the slice keeps from being used: those of its whole buffer. */
PRO_API uint32_t pro_slice_pinned(const struct pro_slice *slice);
/* Whether two slices pin the same buffer. */
PRO_API bool pro_slice_shares(const struct pro_slice *a, const struct pro_slice *b);

#ifdef __cplusplus
}
#endif

#endif
