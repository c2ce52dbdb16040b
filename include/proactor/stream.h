/* SPDX-License-Identifier: MIT
 *
 * Streams: a connected stream socket with a reader, an ordered write queue and an orderly end.
 *
 * Built on <proactor.h> alone. A stream is memory of the caller, like an operation; it holds one handle and two
 * operations, so an idle one costs sizeof(struct pro_stream) and no buffer.
 *
 *        pro_stream_open                  pro_stream_write, _write_slices, _shutdown
 *              |                                        |
 *              v                                        v
 *      [ reading ] --data--> you            queue -> one send at a time -> socket
 *         |   ^                               |
 *       pause resume                          '--drained--> you, when it falls to the low mark
 *         |
 *        end (end of file, error or deadline; once)
 *
 *      pro_stream_close --> queue flushed or dropped --> shutdown, linger --> closed --> you; the memory is yours
 *
 * Callbacks come from pro_run only, never from inside a call of yours. Any of them may call anything here; after
 * `closed` the stream may be freed or opened again. After pro_stream_close only `closed` is called, and `written` of
 * the writes that are still to be answered.
 *
 * pro_loop_free ends streams as it ends everything: `end` and `broken` are told. A stream that is paused hears nothing,
 * and what is stashed for it stays its own: close streams before their loop is freed (`closed` comes from there).
 */
#ifndef PROACTOR_STREAM_H
#define PROACTOR_STREAM_H

#include <proactor.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pro_stream;

/* What all streams of a kind have in common. Caller's memory, not copied: it outlives its streams and does not
 * change while they are open. A callback that is NULL is not called; received slices are then returned. */
struct pro_stream_config {
    struct pro_pool *pool; /* where received data is put; NULL: nothing is read, and a lingering close does not wait */

    /* Pinned bytes (see pro_slice_pinned) in the write queue at which pro_stream_writable says no, and at which,
     * falling, `drained` is called. Defaults 1 MiB and a quarter of `high`. */
    uint32_t high, low;

    /* A single send that takes longer ends writing with -ETIME: a peer that does not read. What is written goes in
     * sends of at most 256 KiB (a larger slice alone), each of which has the whole time. 0: no limit, not for a close
     * that sends the queue either. */
    uint64_t write_timeout_ns;

    /* How long, and for how many bytes, a lingering close reads and drops what the peer still sends. Defaults 5 s
     * and 1 MiB. The time begins anew if the peer has taken 16 KiB more of what was sent to it, and has not got all. */
    uint64_t linger_ns;
    uint64_t linger_bytes;

    /* The connection is made (error 0; reading has begun), or is not; then what was written has been answered with the
     * error, and neither `end` nor `broken` follows: call pro_stream_close. */
    void (*connected)(struct pro_stream *stream, int error);
    /* Received bytes, now yours: return the slice, or write it. */
    void (*data)(struct pro_stream *stream, struct pro_slice *slice);
    /* Reading is over: 0 at end of file, -ETIME at the read deadline, or the error, also if it was a write that met the
     * loss of the connection (the kernel would show an end of file then). Writing may go on. Once. */
    void (*end)(struct pro_stream *stream, int error);
    /* The queue was at `high` or above and has fallen to `low` or below. */
    void (*drained)(struct pro_stream *stream);
    /* Writing failed: everything queued has been dropped, later writes are dropped unsent; call pro_stream_close.
     * Once. */
    void (*broken)(struct pro_stream *stream, int error);
    /* The descriptor is closed and everything is returned. `error` is the first error the stream met, or 0. */
    void (*closed)(struct pro_stream *stream, int error);
};

/* Private. All zero bytes is closed. */
struct pro_stream {
    struct pro_handle handle;
    struct pro_op in;  /* connect, receive, linger */
    struct pro_op out; /* send, shutdown, close */
    const struct pro_stream_config *config;
    struct pro_slice *queue; /* to be written: the last of a ring */
    union {
        uint64_t read_deadline;  /* asked for while connecting */
        struct pro_slice *stash; /* received while paused: the last of a ring */
        uint64_t lingered;       /* bytes dropped since the close */
    } u;
    uint32_t queued_pinned;  /* bytes pinned by the queue and the write in flight */
    uint32_t writing_pinned; /* those of the slices in flight; while it lingers, bytes that have not reached the peer */
    int16_t error;           /* the first met */
    int16_t end_error;       /* what `end` has to tell */
    uint16_t flags;
    uint8_t ending;
    uint8_t reserved;
};

/* Takes charge of a connected stream socket and begins to read. */
PRO_API void pro_stream_open(struct pro_stream *stream, struct pro_loop *loop, int fd,
                             const struct pro_stream_config *config);

/* Makes a socket and connects it until `deadline` (absolute; 0: no limit); the outcome is told by `connected`.
 * `address` is needed until then. Fails with the errors of socket(2), and the stream stays closed. */
PRO_API int pro_stream_connect(struct pro_stream *stream, struct pro_loop *loop, const struct sockaddr *address,
                               socklen_t length, uint64_t deadline, const struct pro_stream_config *config);

/* What the stream was opened with; NULL when it is closed. As a member of an object of yours it leads there, by
 * PRO_CONTAINER_OF, and so from each stream to what its kind has in common. */
PRO_API const struct pro_stream_config *pro_stream_config_of(const struct pro_stream *stream);

/* No `data` or `end` is called from here to pro_stream_resume. What had arrived is kept; that the connection is lost is
 * heard after the resume, or by a write. Both are idempotent. */
PRO_API void pro_stream_pause(struct pro_stream *stream);
PRO_API void pro_stream_resume(struct pro_stream *stream);

/* When reading is to end with -ETIME; absolute, 0 clears. Set it anew for an idle limit, once for a limit on a whole
 * message. It stands while reading is paused. */
PRO_API void pro_stream_read_deadline(struct pro_stream *stream, uint64_t at);

/* Writes slices, linked by `next`, after all that was written before; they are returned to their pool when sent or
 * dropped. Never fails: what cannot be sent is dropped, and `broken` tells. */
PRO_API void pro_stream_write_slices(struct pro_stream *stream, struct pro_slice *list);

/* A write of the caller's own bytes: memory of the caller, as are the bytes, until `written` is called. `res` is the
 * size written, or the error: what broke the stream, -EPIPE if it came after that or after pro_stream_shutdown, at the
 * close the first error or -ECANCELED. Every write is answered, at the latest before `closed`. `size` is 1 to
 * INT32_MAX; a queue holds less than 4 GiB. */
struct pro_stream_write;
typedef void pro_stream_written_fn(struct pro_stream *stream, struct pro_stream_write *write, int res);
struct pro_stream_write {
    struct pro_slice node; /* private: the queue's link; its buffer is NULL */
    struct iovec iov;
    pro_stream_written_fn *written;
};
PRO_API void pro_stream_write(struct pro_stream *stream, struct pro_stream_write *write, const void *data, size_t size,
                              pro_stream_written_fn *written);

/* Sends what the socket takes at once, if nothing is queued before it: 1 to `size` bytes, or -EAGAIN (also while
 * connecting), or an error; -EPIPE where a write would be dropped. */
PRO_API int pro_stream_try_write(struct pro_stream *stream, const void *data, size_t size);

/* Bytes pinned by what is queued or being sent, and whether that is below the high mark. */
PRO_API uint32_t pro_stream_queued(const struct pro_stream *stream);
PRO_API bool pro_stream_writable(const struct pro_stream *stream);

/* Half-close: after the queue the peer sees an end of file. Reading goes on. Later writes are dropped. If it fails (the
 * connection is gone) that is told by `broken`. */
PRO_API void pro_stream_shutdown(struct pro_stream *stream);

enum pro_stream_ending {
    PRO_STREAM_LINGER = 1, /* send the queue, shut the write side, drop what still comes until the peer closes or the
                              linger limits are met, close: the peer sees every byte and a clean end of file */
    PRO_STREAM_FLUSH,      /* send the queue, close */
    PRO_STREAM_NOW,        /* drop the queue, close */
    PRO_STREAM_ABORT,      /* drop the queue, reset the connection (a Unix socket has none to reset: pro_abort) */
};

/* Ends the stream; `closed` is called when it is done. May be called again with a harsher ending; a milder one is
 * ignored. A stream that is still connecting goes on with that if something is queued for LINGER or FLUSH to send. Once
 * the queue has failed (broken, timed out) there is nothing left to linger for: the connection is reset at once, so
 * that the peer does not take what it got for the whole. */
PRO_API void pro_stream_close(struct pro_stream *stream, enum pro_stream_ending ending);

/* The two ends and the options of the socket, through the stream's handle: pro_peer_address(&stream->handle, …). */

#ifdef __cplusplus
}
#endif

#endif
