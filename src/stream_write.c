/* SPDX-License-Identifier: MIT
 *
 * Streams, on the public header alone: the queue and what sends it.
 *
 * The happy path
 *
 *   One send is away at a time. Meanwhile the queue grows; when it is back the next run of slices, up to 256 KiB of
 *   them, goes in one gathered send, so that the busier a stream is the fewer calls it makes. A write of the caller's
 *   own bytes goes alone, in pieces of 256 KiB: it stays at the head of the queue until its last piece is sent, and its
 *   size is what still has to go.
 *
 *   What is queued is counted by what it pins. A slice that shares its buffer with the one before it in the queue is
 *   charged nothing; when the one before leaves first, the charge moves on to it (queue_pop). The sum is then always
 *   that of the buffers queued, each once as long as its slices are neighbours.
 *
 * Possible failure modes
 *
 *   A send or a shutdown fails: BROKEN. What is queued is dropped and answered, then `broken` is told. Writes that come
 *   after a failure or a shutdown are refused: they stand in the queue with no bytes left, and a timer of no delay on the
 *   idle `out` answers them.
 *   Once an ending is asked for, each completion here is its next step, and nothing is told but the answers to writes.
 */
#include "stream.h"

#include <errno.h>

#define SEND_MOST (UINT32_C(256) << 10) /* bytes in one send */

static pro_fn on_run_sent, on_write_sent, on_shut, on_refused;

/* ---- The queue ---- */

static struct pro_slice *queue_head(const struct pro_stream *stream)
{
    return stream->queue ? stream->queue->next : NULL;
}

static struct pro_stream_write *write_of(struct pro_slice *node)
{
    proi_assert(!node->buffer);
    return PRO_CONTAINER_OF(node, struct pro_stream_write, node);
}

static bool shares(const struct pro_slice *a, const struct pro_slice *b)
{
    return a && b && a->buffer && b->buffer && pro_slice_shares(a, b);
}

/* Counts what is queued or sent from now on. */
static void charge(struct pro_stream *stream, uint32_t pinned)
{
    proi_require(pinned <= UINT32_MAX - stream->queued_pinned, "4 GiB in the queue of a stream");
    stream->queued_pinned += pinned;
    if (stream->queued_pinned >= high_mark(stream->config))
        set(stream, FULL);
}

static void queue_append(struct pro_stream *stream, struct pro_slice *slice)
{
    ring_append(&stream->queue, slice);
    charge(stream, slice->charge);
    hurry(stream);
}

/* What leaves takes its charge along, unless the next in the queue pins the same buffer. */
static struct pro_slice *queue_pop(struct pro_stream *stream)
{
    struct pro_slice *slice = ring_pop(&stream->queue), *next = queue_head(stream);
    proi_assert(slice->charge <= stream->queued_pinned);
    if (shares(slice, next)) {
        proi_assert(next->charge == 0);
        next->charge = slice->charge;
        slice->charge = 0;
    }
    return slice;
}

static void answer(struct pro_stream *stream, struct pro_stream_write *write, int res)
{
    if (write->written)
        write->written(stream, write, res);
}

void proi_stream_drop(struct pro_stream *stream, int error)
{
    proi_assert(error < 0);
    const struct pro_slice *last = stream->queue;
    for (bool more = last; more;) {
        struct pro_slice *slice = queue_pop(stream);
        more = slice != last;
        stream->queued_pinned -= slice->charge;
        if (slice->buffer)
            pro_slice_return(slice);
        else
            answer(stream, write_of(slice), error);
    }
}

/* ---- Writing ---- */

static void arm_write_deadline(struct pro_stream *stream)
{
    if (stream->config->write_timeout_ns)
        pro_deadline(&stream->out, after(stream, stream->config->write_timeout_ns));
}

/* When nothing waits for its end, that only gives the memory back, and need not wake anyone. */
static void send_slices(struct pro_stream *stream, struct pro_slice *run)
{
    pro_op_lazy(&stream->out, !stream->queue && !stream->ending && !has(stream, FULL | SHUT_WANTED));
    pro_send_slices(&stream->handle, &stream->out, run, on_run_sent);
}

static void send_run(struct pro_stream *stream)
{
    proi_assert(stream->writing_pinned == 0);
    struct pro_slice *run = NULL, **link = &run, *next;
    uint64_t bytes = 0;
    do {
        struct pro_slice *slice = queue_pop(stream);
        stream->writing_pinned += slice->charge;
        bytes += slice->size;
        *link = slice;
        link = &slice->next;
        next = queue_head(stream);
    } while (next && next->buffer && bytes + next->size <= SEND_MOST);
    send_slices(stream, run);
}

/* A slice that finds nothing before it needs no queue. */
static void send_at_once(struct pro_stream *stream, struct pro_slice *slice)
{
    proi_assert(stream->writing_pinned == 0);
    stream->writing_pinned = pro_slice_pinned(slice);
    charge(stream, stream->writing_pinned);
    arm_write_deadline(stream);
    send_slices(stream, slice);
}

static void send_write(struct pro_stream *stream)
{
    struct pro_stream_write *write = write_of(queue_head(stream));
    uint32_t size = write->node.size < SEND_MOST ? write->node.size : SEND_MOST;
    write->iov = (struct iovec){write->node.data, size};
    pro_send(&stream->handle, &stream->out, &write->iov, 1, 0, on_write_sent);
}

static void send_head(struct pro_stream *stream)
{
    proi_assert(queue_head(stream)->size > 0);
    arm_write_deadline(stream);
    if (queue_head(stream)->buffer)
        send_run(stream);
    else
        send_write(stream);
}

void proi_stream_pump(struct pro_stream *stream)
{
    proi_assert(!has(stream, CLOSING | GONE));
    const struct pro_slice *head = queue_head(stream);
    if (pro_op_in_flight(&stream->out) || has(stream, CONNECTING))
        return;
    if (head && head->size > 0 && !has(stream, BROKEN)) {
        send_head(stream);
    } else if (has(stream, SHUT_WANTED) && !has(stream, SHUT_STARTED | BROKEN)) {
        set(stream, SHUT_STARTED);
        pro_shutdown(&stream->handle, &stream->out, SHUT_WR, on_shut);
    } else if (head && !stream->ending) {
        pro_timer_after(stream->handle.loop, &stream->out, 0, on_refused);
    }
}

static void proceed(struct pro_stream *stream)
{
    if (stream->ending)
        proi_stream_advance(stream);
    else if (stream->queue || has(stream, SHUT_WANTED))
        proi_stream_pump(stream);
}

bool proi_stream_give_up(struct pro_stream *stream, int error)
{
    set(stream, BROKEN);
    if (stream->ending < PRO_STREAM_NOW)
        proi_stream_note_error(stream, error);
    if (stream->ending) {
        proi_stream_advance(stream);
        return false;
    }
    proi_stream_drop(stream, error);
    return !stream->ending;
}

static void fail(struct pro_stream *stream, int error)
{
    proi_assert(!has(stream, BROKEN) && !pro_op_in_flight(&stream->out));
    if (proi_stream_give_up(stream, error) && stream->config->broken)
        stream->config->broken(stream, error);
}

static void tell_drained(struct pro_stream *stream)
{
    if (stream->ending || !has(stream, FULL))
        return;
    const struct pro_stream_config *config = stream->config;
    uint32_t low = config->low ? config->low : high_mark(stream->config) / 4;
    if (stream->queued_pinned > low)
        return;
    clear(stream, FULL);
    if (config->drained)
        config->drained(stream);
}

static void on_run_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_out(op);
    proi_assert(stream->writing_pinned <= stream->queued_pinned);
    stream->queued_pinned -= stream->writing_pinned;
    stream->writing_pinned = 0;
    if (r.res < 0) {
        fail(stream, r.res);
        return;
    }
    proceed(stream);
    tell_drained(stream);
}

static void on_write_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_out(op);
    struct pro_stream_write *write = write_of(queue_head(stream));
    if (r.res < 0) {
        fail(stream, r.res);
        return;
    }
    proi_assert((uint32_t)r.res <= write->node.size);
    write->node.data += r.res;
    write->node.size -= (uint32_t)r.res;
    if (write->node.size > 0) {
        proceed(stream);
        return;
    }
    queue_pop(stream);
    stream->queued_pinned -= write->node.charge;
    proceed(stream);
    answer(stream, write, (int)write->node.charge);
    tell_drained(stream);
}

static void on_shut(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_out(op);
    proi_assert(has(stream, SHUT_STARTED));
    if (r.res < 0)
        fail(stream, r.res);
    else
        proceed(stream);
}

static void on_refused(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *stream = of_out(op);
    proi_assert(has(stream, BROKEN | SHUT_STARTED));
    if (stream->ending)
        proi_stream_advance(stream);
    else
        proi_stream_drop(stream, -EPIPE);
}

/* ---- What the header promises ---- */

/* Nothing is to be sent before what comes now. */
static bool is_idle(const struct pro_stream *stream)
{
    return !stream->queue && !pro_op_in_flight(&stream->out) && !has(stream, CONNECTING);
}

static bool refuses(const struct pro_stream *stream)
{
    return stream->ending || has(stream, BROKEN | SHUT_WANTED);
}

void pro_stream_write_slices(struct pro_stream *stream, struct pro_slice *list)
{
    proi_require(stream->config, "the stream is closed");
    if (refuses(stream)) {
        pro_slice_return_list(list);
        return;
    }
    if (list && !list->next && list->size > 0 && is_idle(stream)) {
        send_at_once(stream, list);
        return;
    }
    while (list) {
        struct pro_slice *slice = list;
        list = slice->next;
        slice->next = NULL;
        if (slice->size == 0) {
            pro_slice_return(slice);
            continue;
        }
        slice->charge = shares(stream->queue, slice) ? 0 : pro_slice_pinned(slice);
        queue_append(stream, slice);
    }
    proi_stream_pump(stream);
}

void pro_stream_write(struct pro_stream *stream, struct pro_stream_write *write, const void *data, size_t size,
                      pro_stream_written_fn *written)
{
    proi_require(stream->config, "the stream is closed");
    proi_require(size >= 1 && size <= INT32_MAX, "the size of a write is 1 to INT32_MAX");
    uint32_t left = refuses(stream) ? 0 : (uint32_t)size;
    write->node = (struct pro_slice){.data = (uint8_t *)(uintptr_t)data, .size = left, .charge = left};
    write->written = written;
    queue_append(stream, &write->node);
    if (!stream->ending)
        proi_stream_pump(stream);
}

int pro_stream_try_write(struct pro_stream *stream, const void *data, size_t size)
{
    proi_require(stream->config, "the stream is closed");
    proi_require(size >= 1 && size <= INT32_MAX, "the size of a write is 1 to INT32_MAX");
    if (refuses(stream))
        return -EPIPE;
    if (!is_idle(stream))
        return -EAGAIN;
    int sent = pro_try_send(&stream->handle, data, size);
    if (sent < 0 && sent != -EAGAIN)
        proi_stream_note_error(stream, sent);
    return sent;
}

uint32_t pro_stream_queued(const struct pro_stream *stream)
{
    return stream->queued_pinned;
}

bool pro_stream_writable(const struct pro_stream *stream)
{
    proi_require(stream->config, "the stream is closed");
    return stream->queued_pinned < high_mark(stream->config);
}

void pro_stream_shutdown(struct pro_stream *stream)
{
    proi_require(stream->config, "the stream is closed");
    if (refuses(stream))
        return;
    set(stream, SHUT_WANTED);
    hurry(stream);
    proi_stream_pump(stream);
}
