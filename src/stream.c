/* SPDX-License-Identifier: MIT
 *
 * Streams, on the public header alone: connecting, reading, ending. Writing is in stream_write.c.
 *
 * The happy path
 *
 *   `in` is one multishot receive for the whole life of the connection, with credit that is not counted: the pool's
 *   quota bounds what a stream holds. What it brings goes to `data` at once, from the continuation. `out` carries one
 *   send at a time, at last the close.
 *
 * Pause
 *
 *   A pause takes the credit away. What the kernel had taken by then still comes, before the answer, and is stashed;
 *   so is the end. Resume gives the credit back, but a stash must be delivered before, and not from inside the call
 *   of pro_stream_resume: it asks for one more pause, whose answer is the way back into the loop. If the receive has
 *   ended, a timer of no delay on the idle `in` is.
 *
 *              pause            answered                        FLOWING: it has credit
 *      FLOWING -----> ASKED ---------------> neither            ASKED: an answer is to come
 *         ^             |  not paused then      |               a completion of any kind, while not paused,
 *         '-------------+-----------------------'               delivers the stash, then gives credit
 *              credit     resume: credit, or with a stash ASKED
 *
 * Possible failure modes
 *
 *   The connect fails: BROKEN; `connected` is told, and `broken` is not. The receive fails, or meets the read deadline:
 *   `end`; writing goes on. A receive may end with data because its deadline lost the race: it is started again with a
 *   deadline that has passed, which the callback may move.
 *   Any callback may call anything, also pro_stream_close. Therefore a continuation makes its own change complete
 *   first, calls back then, and reads flags and queue anew after each call. The stream itself stays where it is: it is
 *   the caller's again in `closed` only, which nothing here follows.
 *
 * The ending
 *
 *   `ending` is the harshest ending asked for. proi_stream_advance is called when one is asked for and at every
 *   completion after that; it derives the next step from what is the case, and so an ending that is overtaken needs no
 *   code:
 *
 *                LINGER, FLUSH                       queue sent,
 *      [ open ] ---------------> [ flushing: `out` ] -----------.----------------> [ lingering: `in` ]
 *          |                        |      FLUSH: queue sent,   | write side shut       | end of file, error,
 *          | NOW, ABORT             |      or failed            |                       | bytes or time are up
 *          v                        v                           v                       v
 *      [ finish: end what is on `out`, then pro_close or pro_abort with `out` ] <-------'
 *          |
 *          v
 *      [ gone: answer every write, once more if that brought new ones ] --closed--> the caller's memory
 */
#include "stream.h"

#include <errno.h>
#include <string.h>

#define LINGER_NS_DEFAULT    UINT64_C(5000000000)
#define LINGER_BYTES_DEFAULT (UINT64_C(1) << 20)
#define LINGER_PROGRESS      INT64_C(16384)

_Static_assert(sizeof(struct pro_stream) <= 312, "an idle connection costs this");

static pro_fn on_connect, on_receive, on_wake_in, on_closed, on_settle;

static struct pro_stream *of_in(struct pro_op *op)
{
    struct pro_stream *stream = PRO_CONTAINER_OF(op, struct pro_stream, in);
    proi_assert(stream->config);
    return stream;
}

static bool is_loss(int error)
{
    return error == -ECONNRESET || error == -ETIMEDOUT || error == -EHOSTUNREACH || error == -ENETUNREACH;
}

/* The kernel tells the loss of a connection once, to whoever asks first. If that is a write, the end of file that a reader
 * is shown afterwards is none. (A peer that did end its side makes writes fail with EPIPE.) */
void proi_stream_note_error(struct pro_stream *stream, int error)
{
    proi_assert(error < 0 && error > INT16_MIN);
    if (!stream->error)
        stream->error = (int16_t)error;
    if (is_loss(error) && !has(stream, END_HELD | IN_OVER))
        stream->end_error = (int16_t)error;
}

/* ---- Reading ---- */

static void stash_return(struct pro_stream *stream)
{
    struct pro_slice *first = stream->u.stash ? stream->u.stash->next : NULL;
    if (first)
        stream->u.stash->next = NULL;
    stream->u.stash = NULL;
    pro_slice_return_list(first);
}

static void receive(struct pro_stream *stream, uint32_t credit)
{
    proi_assert(!has(stream, CONNECTING | READING | FLOWING | ASKED));
    if (!stream->config->pool)
        return;
    set(stream, credit ? READING | FLOWING : READING);
    pro_recv_multi(&stream->handle, &stream->in, stream->config->pool, credit, on_receive);
}

static void give_credit(struct pro_stream *stream)
{
    proi_assert(has(stream, READING) && !has(stream, FLOWING));
    set(stream, FLOWING);
    pro_recv_credit(&stream->in, PRO_UNLIMITED);
}

static void ask_pause(struct pro_stream *stream)
{
    proi_assert(has(stream, READING) && !has(stream, ASKED));
    clear(stream, FLOWING);
    set(stream, ASKED);
    pro_recv_pause(&stream->in);
}

static void tell_end(struct pro_stream *stream)
{
    clear(stream, END_HELD);
    if (stream->config->end)
        stream->config->end(stream, stream->end_error);
}

static void hand_over(struct pro_stream *stream, struct pro_slice *slice)
{
    if (stream->config->data)
        stream->config->data(stream, slice);
    else
        pro_slice_return(slice);
}

/* Tells the caller what has come, for as long as it wants to hear; then lets more come. */
static void deliver(struct pro_stream *stream)
{
    while (stream->u.stash && !has(stream, PAUSED))
        hand_over(stream, ring_pop(&stream->u.stash));
    if (has(stream, PAUSED) || stream->ending)
        return;
    if (has(stream, END_HELD))
        tell_end(stream);
    else if (has(stream, READING) && !has(stream, FLOWING | ASKED))
        give_credit(stream);
}

static void receive_ended(struct pro_stream *stream, struct pro_result r)
{
    clear(stream, READING | FLOWING | ASKED);
    if (r.slice && !(r.flags & PRO_EOF)) {
        pro_deadline(&stream->in, pro_now(stream->handle.loop));
        receive(stream, 0);
        return;
    }
    if (r.res < 0)
        proi_stream_note_error(stream, r.res);
    set(stream, r.res == -ETIME ? END_HELD : END_HELD | IN_OVER);
    if (!(r.flags & PRO_EOF))
        stream->end_error = (int16_t)r.res;
}

/* A peer that reads slowly is not cut off for that: the reset that follows unread input would destroy what it has not got.
 * But one that takes a byte now and then must not be waited for for days. */
static bool takes_more(struct pro_stream *stream)
{
    int64_t unsent = pro_unsent(&stream->handle);
    return unsent > 0 && unsent + LINGER_PROGRESS <= stream->writing_pinned;
}

/* After pro_stream_close nobody wants to know what comes, only when it is over. */
static void receive_dropped(struct pro_stream *stream, struct pro_result r)
{
    if (r.slice) {
        stream->u.lingered += r.slice->size;
        pro_slice_return(r.slice);
    }
    if (r.flags & PRO_MORE)
        return;
    clear(stream, READING | FLOWING | ASKED);
    if (r.res == -ETIME && has(stream, LINGERING) && !has(stream, CLOSING) && takes_more(stream))
        clear(stream, LINGERING); /* to begin anew */
    bool failed = r.res < 0 && r.res != -ETIME;
    if (failed && r.res != -ECANCELED && !has(stream, CLOSING)) /* else it is our own doing */
        proi_stream_note_error(stream, r.res);
    if (failed || (r.flags & PRO_EOF) || has(stream, LINGERING))
        set(stream, IN_OVER);
}

/* What is not simply a piece for somebody who waits for it. */
static void receive_otherwise(struct pro_stream *stream, struct pro_result r)
{
    if (stream->ending) {
        receive_dropped(stream, r);
        proi_stream_advance(stream);
        return;
    }
    if (r.slice)
        ring_append(&stream->u.stash, r.slice);
    if (!(r.flags & PRO_MORE))
        receive_ended(stream, r);
    else if (r.flags & PRO_PAUSED)
        clear(stream, FLOWING | ASKED);
    deliver(stream);
}

static void on_receive(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_in(op);
    bool wanted = !stream->ending && !stream->u.stash && !has(stream, PAUSED);
    proi_assert(has(stream, READING));
    if (r.flags == PRO_MORE && r.slice && wanted)
        hand_over(stream, r.slice);
    else
        receive_otherwise(stream, r);
}

/* The timer that brings a resumed stream, whose receive has ended, back into the loop. */
static void on_wake_in(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_in(op);
    proi_assert(!has(stream, READING | CONNECTING));
    if (stream->ending)
        proi_stream_advance(stream);
    else
        deliver(stream);
}

static void connected(struct pro_stream *stream, uint64_t read_deadline)
{
    if (stream->ending) {
        proi_stream_advance(stream);
        return;
    }
    pro_deadline(&stream->in, read_deadline);
    receive(stream, has(stream, PAUSED) ? 0 : PRO_UNLIMITED);
    proi_stream_pump(stream);
    if (stream->config->connected)
        stream->config->connected(stream, 0);
}

static void on_connect(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_in(op);
    uint64_t read_deadline = stream->u.read_deadline;
    proi_assert(has(stream, CONNECTING));
    clear(stream, CONNECTING);
    if (!stream->ending)
        stream->u.stash = NULL;
    if (r.res >= 0) {
        connected(stream, read_deadline);
        return;
    }
    set(stream, IN_OVER);
    if (proi_stream_give_up(stream, r.res) && stream->config->connected)
        stream->config->connected(stream, r.res);
}

/* ---- The ending ---- */

/* True while the queue, or the shutdown after it, is on its way. */
static bool flushing(struct pro_stream *stream)
{
    proi_assert(!has(stream, CLOSING));
    if (has(stream, BROKEN))
        return false;
    proi_stream_pump(stream);
    return pro_op_in_flight(&stream->out) || has(stream, CONNECTING);
}

/* True while there is reason to go on reading and dropping. A receive that ended at the caller's deadline is started
 * again, once the timer is out of the way that was to wake a resumed stream. */
static bool lingering(struct pro_stream *stream)
{
    const struct pro_stream_config *config = stream->config;
    uint64_t most = config->linger_bytes ? config->linger_bytes : LINGER_BYTES_DEFAULT;
    proi_assert(!has(stream, CLOSING | CONNECTING));
    if (has(stream, BROKEN | IN_OVER) || !config->pool || stream->u.lingered >= most)
        return false;
    if (has(stream, LINGERING) || (pro_op_in_flight(&stream->in) && !has(stream, READING)))
        return true;
    set(stream, LINGERING);
    int unsent = pro_unsent(&stream->handle);
    stream->writing_pinned = unsent > 0 ? (uint32_t)unsent : 0;
    pro_deadline(&stream->in, after(stream, config->linger_ns ? config->linger_ns : LINGER_NS_DEFAULT));
    if (!has(stream, READING))
        receive(stream, PRO_UNLIMITED);
    else if (!has(stream, FLOWING))
        give_credit(stream);
    return true;
}

/* The close needs an idle operation: if `out` is away it is called back, and this called again. What should have been sent
 * and was not must not look like all there was: the peer gets a reset. */
static void finish(struct pro_stream *stream)
{
    proi_assert(stream->ending && !has(stream, CLOSING));
    pro_cancel(&stream->in);
    if (pro_op_in_flight(&stream->out)) {
        pro_cancel(&stream->out);
        return;
    }
    set(stream, CLOSING);
    bool torn = stream->ending <= PRO_STREAM_FLUSH && has(stream, BROKEN);
    if (stream->ending == PRO_STREAM_ABORT || torn)
        pro_abort(&stream->handle, &stream->out, on_closed);
    else
        pro_close(&stream->handle, &stream->out, on_closed);
}

/* The last step. The memory is the caller's when `closed` is called. */
static void settle(struct pro_stream *stream)
{
    if (pro_op_in_flight(&stream->in) || pro_op_in_flight(&stream->out))
        return;
    int error = stream->error;
    proi_stream_drop(stream, error ? error : -ECANCELED);
    if (stream->queue) {
        pro_timer_after(stream->handle.loop, &stream->out, 0, on_settle);
        return;
    }
    proi_assert(stream->queued_pinned == 0);
    void (*closed)(struct pro_stream *, int) = stream->config->closed;
    memset(stream, 0, sizeof *stream);
    if (closed)
        closed(stream, error);
}

void proi_stream_advance(struct pro_stream *stream)
{
    proi_assert(stream->ending);
    if (has(stream, GONE)) {
        settle(stream);
        return;
    }
    if (has(stream, CLOSING))
        return;
    if (stream->ending <= PRO_STREAM_FLUSH && flushing(stream))
        return;
    if (stream->ending == PRO_STREAM_LINGER && lingering(stream))
        return;
    finish(stream);
}

static void on_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_out(op);
    proi_assert(has(stream, CLOSING) && !has(stream, READING | CONNECTING));
    set(stream, GONE);
    stream->handle.loop = loop; /* the handle is ours again; settle() may need a way back */
    settle(stream);
}

static void on_settle(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    settle(of_out(op));
}

/* The first close of a stream: nothing is told from here on, and the receive stands until the queue is sent. */
static void retire(struct pro_stream *stream)
{
    proi_assert(stream->ending);
    hurry(stream);
    if (!has(stream, CONNECTING))
        stash_return(stream);
    stream->u.lingered = 0;
    if (stream->ending == PRO_STREAM_LINGER)
        set(stream, SHUT_WANTED);
    if (has(stream, CONNECTING)) {
        if (!stream->queue && stream->ending < PRO_STREAM_NOW)
            stream->ending = PRO_STREAM_NOW;
    } else if (has(stream, READING)) {
        pro_deadline(&stream->in, 0);
        if (has(stream, FLOWING) && stream->ending <= PRO_STREAM_FLUSH)
            ask_pause(stream);
    }
}

/* ---- What the header promises ---- */

static void init(struct pro_stream *stream, const struct pro_stream_config *config)
{
    proi_require(config->low <= high_mark(config), "a low mark above the high mark");
    *stream = (struct pro_stream){.handle = stream->handle, .config = config};
}

void pro_stream_open(struct pro_stream *stream, struct pro_loop *loop, int fd, const struct pro_stream_config *config)
{
    proi_require(!stream->config, "the stream is open");
    pro_adopt(loop, &stream->handle, fd);
    init(stream, config);
    receive(stream, PRO_UNLIMITED);
}

int pro_stream_connect(struct pro_stream *stream, struct pro_loop *loop, const struct sockaddr *address,
                       socklen_t length, uint64_t deadline, const struct pro_stream_config *config)
{
    proi_require(!stream->config, "the stream is open");
    int result = pro_socket(loop, &stream->handle, address->sa_family, SOCK_STREAM, 0);
    if (result < 0)
        return result;
    init(stream, config);
    set(stream, CONNECTING);
    pro_deadline(&stream->in, deadline);
    pro_connect(&stream->handle, &stream->in, address, length, on_connect);
    return 0;
}

const struct pro_stream_config *pro_stream_config_of(const struct pro_stream *stream)
{
    return stream->config;
}

void pro_stream_pause(struct pro_stream *stream)
{
    proi_require(stream->config, "the stream is closed");
    if (stream->ending)
        return;
    set(stream, PAUSED);
    if (has(stream, FLOWING))
        ask_pause(stream);
}

void pro_stream_resume(struct pro_stream *stream)
{
    proi_require(stream->config, "the stream is closed");
    if (stream->ending || !has(stream, PAUSED))
        return;
    clear(stream, PAUSED);
    if (has(stream, READING)) {
        if (has(stream, ASKED))
            return;
        if (stream->u.stash)
            ask_pause(stream);
        else
            give_credit(stream);
    } else if ((stream->u.stash || has(stream, END_HELD)) && !pro_op_in_flight(&stream->in)) {
        pro_timer_after(stream->handle.loop, &stream->in, 0, on_wake_in);
    }
}

void pro_stream_read_deadline(struct pro_stream *stream, uint64_t at)
{
    proi_require(stream->config, "the stream is closed");
    if (stream->ending)
        return;
    if (has(stream, CONNECTING))
        stream->u.read_deadline = at;
    else if (has(stream, READING))
        pro_deadline(&stream->in, at);
}

void pro_stream_close(struct pro_stream *stream, enum pro_stream_ending ending)
{
    proi_require(stream->config, "the stream is closed");
    proi_require(ending >= PRO_STREAM_LINGER && ending <= PRO_STREAM_ABORT, "no such ending");
    if (ending <= stream->ending)
        return;
    bool first = !stream->ending;
    stream->ending = (uint8_t)ending;
    if (first)
        retire(stream);
    if (!has(stream, CLOSING))
        proi_stream_advance(stream);
    else if (ending == PRO_STREAM_ABORT)
        pro_cancel(&stream->out);
}
