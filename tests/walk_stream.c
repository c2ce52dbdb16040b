/* SPDX-License-Identifier: MIT
 *
 * Streams that are closed with writes in their queue: every write is answered once and in order, before the stream is
 * closed; the peer gets all of it, or sees that it has not; and nothing but answers comes after the close.
 */
#include "walk.h"

#include <netinet/in.h>

#include <proactor/stream.h>

enum { FIRST = 4, SLICES = 2, SECOND = 1, ALL = FIRST + SLICES + SECOND, MOST = ALL + 1 };
enum { WRITES = 3, WRITE_TIMEOUT = 20000, LINGER_TIME = 50000 };

struct writing {
    struct pro_stream_write write;
    uint32_t end, size; /* its last byte, on the tape */
    bool asked, answered;
    bool refused; /* it was asked for too late */
    int res;
};

struct streaming {
    struct pro_stream stream;
    struct play *play;
    struct pro_stream_config config;
    struct peer peer, next_peer;
    struct pro_pool *pool; /* of what is written, and of what is read if the stream reads */
    struct pro_slice *slices;
    struct writing writes[WRITES]; /* two that are queued at first, with slices between them, and a late one */
    struct pro_stream_write next;
    char data[MOST];
    uint32_t queued;           /* bytes, at first */
    uint32_t first_mode, mode; /* of the first close, and the harshest */
    bool cut;                  /* the peer has broken the connection, or may have */
    bool shut;
    bool heard; /* the peer has heard of a reset */
    bool freed; /* the loop is gone */
    unsigned closes, closed, broken, ended, drained, nexts;
    int error;
    uint64_t closed_at, done_at; /* the first close, and the end of it */
};

/* ------------------------------------------------------------------------------------------------------------
 * What the stream tells
 * ------------------------------------------------------------------------------------------------------------ */

static struct streaming *told(struct pro_stream *stream, const char *what, int value)
{
    struct streaming *x = PRO_CONTAINER_OF(stream, struct streaming, stream);
    pro_sim_note(x->play->sim, "stream: %s %d", what, value);
    play_call(x->play);
    CHECK(x->play, !x->closed, "%s is told after the close", what);
    return x;
}

/* Whether there is a reason for this failure. */
static bool may_fail(const struct streaming *x, int error)
{
    const struct play *p = x->play;
    switch (error) {
    case -ECONNRESET:
    case -EPIPE:
        return x->cut;
    case -ETIME:
        return x->config.write_timeout_ns > 0;
    case -ECONNREFUSED:
        return play_hits(p, PRO_SIM_REFUSE) > 0;
    case -ENOBUFS:
    case -ENOMEM:
        return play_hits(p, PRO_SIM_NO_MEMORY) > 0;
    default:
        return (error == -ECANCELED || error == -ESHUTDOWN) && p->freeing;
    }
}

static void written(struct pro_stream *stream, struct pro_stream_write *write, int res)
{
    struct streaming *x = told(stream, "written", res);
    struct play *p = x->play;
    struct writing *w = PRO_CONTAINER_OF(write, struct writing, write);
    CHECK(p, w->asked && !w->answered, "a write is answered twice");
    for (const struct writing *before = x->writes; before < w; before++)
        CHECK(p, before->answered || !before->asked, "a write is answered out of order");
    CHECK(p, res == (int)w->size || res < 0, "a write of %u bytes says %d", w->size, res);
    CHECK(p, !w->refused || res < 0, "a write that came too late is done");
    CHECK(p, res > 0 || may_fail(x, res) || (w->refused && res == -EPIPE) || (x->closes && res == -ECANCELED),
          "a write ends with %d", res);
    w->answered = true;
    w->res = res;
    play_continued(p);
}

static void data_came(struct pro_stream *stream, struct pro_slice *slice)
{
    struct streaming *x = told(stream, "data", (int)slice->size);
    CHECK(x->play, !x->closes && !x->ended, "data comes after the end");
    slice_take(x->play, &x->peer.out, slice);
    play_continued(x->play);
}

static void input_ended(struct pro_stream *stream, int error)
{
    struct streaming *x = told(stream, "end", error);
    CHECK(x->play, !x->closes && x->ended++ == 0, "the end is told twice, or after the close");
    CHECK(x->play, error ? may_fail(x, error) : x->peer.out.ended || x->cut, "reading ends with %d", error);
    CHECK(x->play, error || x->peer.out.received == x->peer.out.sent, "the end comes before the bytes");
    play_continued(x->play);
}

static void queue_drained(struct pro_stream *stream)
{
    struct streaming *x = told(stream, "drained", (int)pro_stream_queued(stream));
    CHECK(x->play, !x->closes && !x->broken && x->drained++ == 0, "the queue is drained twice, or after its end");
    CHECK(x->play, pro_stream_queued(stream) <= x->config.low, "the queue is drained and not empty");
    play_continued(x->play);
}

static void output_broke(struct pro_stream *stream, int error)
{
    struct streaming *x = told(stream, "broken", error);
    CHECK(x->play, !x->closes && x->broken++ == 0, "it breaks twice, or after the close");
    CHECK(x->play, may_fail(x, error), "writing breaks with %d", error);
    play_continued(x->play);
}

static void connected(struct pro_stream *stream, int error)
{
    struct streaming *x = told(stream, "connected", error);
    CHECK(x->play, !x->closes, "it is connected after the close");
    CHECK(x->play, error == 0 || may_fail(x, error), "the connect ends with %d", error);
    x->cut |= error < 0;
    play_continued(x->play);
}

static void next_closed(struct pro_stream *stream, int error)
{
    struct streaming *x = PRO_CONTAINER_OF(stream, struct streaming, stream);
    CHECK(x->play, error == 0 || x->play->freeing, "the next stream is closed with %d", error);
    CHECK(x->play, x->nexts++ == 0, "the next stream is closed twice");
}

/* The stream's memory, and the number of its descriptor, are another stream's at once. */
static void open_next(struct streaming *x)
{
    static const struct pro_stream_config plain = {.closed = next_closed};
    int fds[2];
    CHECK(x->play, pro_sim_pair(x->play->sim, fds) == 0, "no pair");
    x->next_peer = (struct peer){.fd = fds[1], .end = 1, .in.sent = 1};
    pro_stream_open(&x->stream, x->play->loop, fds[0], &plain);
    pro_stream_write(&x->stream, &x->next, x->data, 1, NULL);
    pro_stream_close(&x->stream, PRO_STREAM_FLUSH);
}

static void stream_closed(struct pro_stream *stream, int error)
{
    struct streaming *x = told(stream, "closed", error);
    static const struct pro_stream zero;
    CHECK(x->play, x->closes, "it is closed, and nobody asked for it");
    for (const struct writing *w = x->writes; w < x->writes + WRITES; w++)
        CHECK(x->play, w->answered || !w->asked, "it is closed, and a write is not answered");
    CHECK(x->play, memcmp(stream, &zero, sizeof zero) == 0, "it is closed, and something is left in it");
    CHECK(x->play, error == 0 || may_fail(x, error), "it is closed with %d", error);
    x->closed++;
    x->done_at = pro_sim_now(x->play->sim);
    x->error = error;
    if (!x->play->freeing)
        open_next(x);
    pro_sim_calm(x->play->sim);
    play_continued(x->play);
}

/* ------------------------------------------------------------------------------------------------------------
 * Acts
 * ------------------------------------------------------------------------------------------------------------ */

static void peer_reads(struct play *p)
{
    peer_read(p, &((struct streaming *)p->own)->peer);
}

static void peer_writes(struct play *p)
{
    struct streaming *x = p->own;
    char data[2];
    tape_fill(&x->peer.out, data, sizeof data);
    int n = pro_sim_write(p->sim, x->peer.fd, data, sizeof data);
    x->peer.out.sent += n > 0 ? (uint32_t)n : 0;
    x->heard |= n == -ECONNRESET; /* which is said once */
}

static void peer_ends(struct play *p)
{
    peer_end(p, &((struct streaming *)p->own)->peer);
}

static void peer_resets(struct play *p)
{
    struct streaming *x = p->own;
    x->cut = true;
    pro_sim_reset(p->sim, x->peer.fd);
}

static void peer_closes(struct play *p)
{
    struct streaming *x = p->own;
    x->cut = true; /* what comes for it now is answered by a reset */
    peer_close(p, &x->peer);
}

static bool is_open(struct play *p)
{
    const struct streaming *x = p->own;
    return !x->closed && !x->freed;
}

static void close_as(struct streaming *x, uint32_t mode)
{
    if (x->closes++ == 0) {
        x->first_mode = mode;
        x->closed_at = pro_sim_now(x->play->sim);
    }
    x->mode = mode > x->mode ? mode : x->mode;
    pro_sim_note(x->play->sim, "close %u", mode);
    pro_stream_close(&x->stream, (enum pro_stream_ending)mode);
}

static void close_any(struct play *p)
{
    close_as(p->own, PRO_STREAM_LINGER + play_variant(p, 4));
}

static void close_gently(struct play *p)
{
    close_as(p->own, PRO_STREAM_LINGER + play_variant(p, 2));
}

static void free_loop(struct play *p)
{
    play_free_loop(p);
    ((struct streaming *)p->own)->freed = true;
}

static void shut_output(struct play *p)
{
    struct streaming *x = p->own;
    x->shut = true;
    pro_stream_shutdown(&x->stream);
}

static void queue_write(struct streaming *x, struct writing *w, uint32_t start, uint32_t size)
{
    *w = (struct writing){.end = start + size, .size = size, .asked = true};
    w->refused = x->closes || x->broken || x->shut;
    pro_stream_write(&x->stream, &w->write, x->data + start, size, written);
}

static void write_late(struct play *p)
{
    struct streaming *x = p->own;
    CHECK(p, !(x->closes || x->broken || x->shut) || pro_stream_try_write(&x->stream, "!", 1) == -EPIPE,
          "something can be sent after the end");
    queue_write(x, &x->writes[2], ALL, MOST - ALL);
}

/* ------------------------------------------------------------------------------------------------------------
 * Begin and end
 * ------------------------------------------------------------------------------------------------------------ */

static void keep_slice(struct note *n, struct pro_result r)
{
    if (r.slice)
        ((struct streaming *)n->play->own)->slices = r.slice;
}

/* Receives the slices that are to be written, by another connection: two that share a buffer. */
static void fetch_slices(struct play *p, struct streaming *x)
{
    struct pro_handle handle = {0};
    struct peer other;
    struct note receive = {0}, close = {0};
    peer_open(p, &other, &handle);
    pro_recv_multi(&handle, note_begin(p, &receive, "receive", keep_slice), x->pool, SLICES, on_note);
    CHECK(p, pro_sim_write(p->sim, other.fd, x->data + FIRST, SLICES) == SLICES, "no slices are sent");
    pro_sim_run(p->sim, pro_sim_now(p->sim) + 10000);
    CHECK(p, x->slices && pro_slice_split(x->slices, 1, &x->slices->next) == 0, "no slices");
    note_asked(&receive);
    pro_close(&handle, note_begin(p, &close, "close of another", NULL), on_note);
    pro_sim_run(p->sim, PRO_NEVER);
    peer_close(p, &other);
}

static void streaming_open(struct play *p, struct streaming *x, bool reads)
{
    p->own = x;
    x->play = p;
    x->pool = play_pool(p, 3, 1);
    x->config.pool = reads ? x->pool : NULL;
    x->config.high = 8;
    x->config.low = 1;
    x->config.linger_ns = LINGER_TIME;
    x->config.connected = connected;
    x->config.data = data_came;
    x->config.end = input_ended;
    x->config.drained = queue_drained;
    x->config.broken = output_broke;
    x->config.closed = stream_closed;
    tape_fill(&x->peer.in, x->data, MOST);
    fetch_slices(p, x);
}

static void streaming_pair(struct play *p, struct streaming *x)
{
    int fds[2];
    CHECK(p, pro_sim_pair(p->sim, fds) == 0, "no pair");
    x->peer = (struct peer){.fd = fds[1], .end = 1, .in.sent = MOST};
    pro_stream_open(&x->stream, p->loop, fds[0], &x->config);
}

static void fill_queue(struct streaming *x)
{
    struct pro_slice *slices = x->slices;
    x->slices = NULL;
    x->queued = ALL;
    play_call(x->play);
    queue_write(x, &x->writes[0], 0, FIRST);
    pro_stream_write_slices(&x->stream, slices);
    queue_write(x, &x->writes[1], FIRST + SLICES, SECOND);
    play_called(x->play);
}

/* The first write alone. */
static void queue_first(struct streaming *x)
{
    x->queued = FIRST;
    play_call(x->play);
    pro_slice_return_list(x->slices);
    queue_write(x, &x->writes[0], 0, FIRST);
    play_called(x->play);
}

/* The peer reads until nothing comes any more, ends its side, and then is gone. */
static void read_all(struct play *p, struct streaming *x)
{
    for (uint32_t before = MOST + 1; x->peer.fd >= 0 && before != x->peer.in.received;) {
        before = x->peer.in.received;
        peer_read(p, &x->peer);
        play_settle(p);
    }
    if (x->peer.fd >= 0)
        peer_end(p, &x->peer);
    play_settle(p);
    if (x->peer.fd >= 0)
        peer_read(p, &x->peer);
}

/* What the peer got, against what the writes say. */
static void check_tape(struct play *p, const struct streaming *x)
{
    bool failed = false;
    for (const struct writing *w = x->writes; w < x->writes + WRITES && w->asked; w++) {
        CHECK(p, !failed || w->res < 0, "a write is done behind one that failed");
        failed |= w->res < 0;
        CHECK(p, !failed || x->peer.in.received < w->end, "a write has failed, and all of it has arrived");
        CHECK(p, failed || x->cut || x->peer.in.received >= w->end, "a write is done, and %u bytes have arrived",
              x->peer.in.received);
    }
}

/* Whether the end that the peer sees fits what it got. */
static void check_end(struct play *p, const struct streaming *x)
{
    bool lingered = x->mode == PRO_STREAM_LINGER && x->done_at < x->closed_at + LINGER_TIME;
    bool unread = !lingered && x->peer.out.sent > x->peer.out.received;
    bool reset = x->heard || x->peer.end == -ECONNRESET;
    if (x->cut)
        return;
    if (x->first_mode == PRO_STREAM_ABORT)
        CHECK(p, reset, "after an abort the peer sees %d", x->peer.end);
    if (x->mode > PRO_STREAM_FLUSH)
        return;
    if (x->peer.in.received < x->queued)
        CHECK(p, x->error < 0 && reset, "%u bytes have arrived, and the peer sees %d", x->peer.in.received,
              x->peer.end);
    else if (x->error == 0)
        CHECK(p, !reset || unread, "all has arrived, and the peer sees %d", x->peer.end);
}

static void streaming_end(struct play *p, struct streaming *x)
{
    read_all(p, x);
    CHECK(p, x->closed == 1, "a stream is not closed");
    CHECK(p, x->nexts == 1, "the next stream is not closed");
    check_tape(p, x);
    check_end(p, x);
    peer_read(p, &x->next_peer);
    CHECK(p, x->next_peer.in.received == 1 && x->next_peer.end == 0, "the next peer does not get its byte");
    pro_pool_free(x->pool);
    play_end(p);
    peer_close(p, &x->peer);
    peer_close(p, &x->next_peer);
}

/* ------------------------------------------------------------------------------------------------------------
 * The scenarios
 * ------------------------------------------------------------------------------------------------------------ */

/* A stream with a peer and a queue, on which everybody has acted; `writer` may be NULL. */
static void streaming_play(struct play *p, struct streaming *x, const struct act *far, const struct act *closer,
                           const struct act *writer)
{
    streaming_open(p, x, false);
    streaming_pair(p, x);
    fill_queue(x);
    play_cast_far(p, far);
    play_cast(p, closer);
    if (writer)
        play_cast(p, writer);
    play_run(p);
}

static void stream_close(struct play *p)
{
    static const struct act far[] = {{"read", peer_reads, is_open}, {"read", peer_reads, is_open}, {0}};
    static const struct act closer[] = {{"close", close_any, NULL}, {0}};
    struct streaming x = {0};
    streaming_play(p, &x, far, closer, NULL);
    streaming_end(p, &x);
}

/* The peer goes on writing while what it is to get is on its way. */
static void stream_linger(struct play *p)
{
    static const struct act far[] = {{"write", peer_writes, is_open}, {"end", peer_ends, is_open}, {0}};
    static const struct act closer[] = {{"close", close_gently, NULL}, {0}};
    struct streaming x = {0};
    streaming_open(p, &x, true);
    streaming_pair(p, &x);
    queue_first(&x);
    play_cast_far(p, far);
    play_cast(p, closer);
    play_run(p);
    streaming_end(p, &x);
}

/* A harsher ending overtakes, a milder one does not; and a write comes too late, or just in time. */
static void stream_close_twice(struct play *p)
{
    static const struct act far[] = {{"read", peer_reads, is_open}, {0}};
    static const struct act closer[] = {{"close", close_gently, NULL}, {"close", close_any, is_open}, {0}};
    static const struct act writer[] = {{"write late", write_late, is_open}, {0}};
    struct streaming x = {0};
    streaming_play(p, &x, far, closer, writer);
    streaming_end(p, &x);
}

/* The write side is shut behind the queue, which makes no difference to the close. */
static void stream_shut(struct play *p)
{
    static const struct act far[] = {{"read", peer_reads, is_open}, {0}};
    static const struct act closer[] = {{"shutdown", shut_output, NULL}, {"close", close_any, NULL}, {0}};
    static const struct act writer[] = {{"write late", write_late, is_open}, {0}};
    struct streaming x = {0};
    streaming_play(p, &x, far, closer, writer);
    streaming_end(p, &x);
}

/* The peer may read too late for the time that a write may take. */
static void stream_timeout(struct play *p)
{
    static const struct act far[] = {{"read", peer_reads, is_open}, {"read", peer_reads, is_open}, {0}};
    static const struct act closer[] = {{"close", close_gently, NULL}, {0}};
    struct streaming x = {.config.write_timeout_ns = WRITE_TIMEOUT};
    streaming_play(p, &x, far, closer, NULL);
    streaming_end(p, &x);
}

static void stream_cut(struct play *p)
{
    static const struct act reset[] = {{"read", peer_reads, is_open}, {"reset", peer_resets, NULL}, {0}};
    static const struct act gone[] = {{"read", peer_reads, is_open}, {"close", peer_closes, NULL}, {0}};
    static const struct act closer[] = {{"close", close_any, NULL}, {0}};
    struct streaming x = {0};
    streaming_play(p, &x, play_variant(p, 2) ? gone : reset, closer, NULL);
    streaming_end(p, &x);
}

/* Nothing may wait for a loop that is gone: writes are answered, and a stream that was closed in time is closed. */
static void stream_freed(struct play *p)
{
    static const struct act far[] = {{"read", peer_reads, is_open}, {0}};
    static const struct act closer[] = {{"close", close_any, is_open}, {0}};
    static const struct act freer[] = {{"free the loop", free_loop, NULL}, {0}};
    struct streaming x = {0};
    streaming_open(p, &x, false);
    streaming_pair(p, &x);
    fill_queue(&x);
    play_cast_far(p, far);
    play_cast(p, closer);
    play_cast_far(p, freer);
    play_run(p);
    CHECK(p, x.freed && x.closed == (x.closes > 0), "a stream is not closed with its loop");
    for (const struct writing *w = x.writes; w < x.writes + WRITES; w++)
        CHECK(p, w->answered || !w->asked, "the loop is gone, and a write is not answered");
    CHECK(p, x.closes || x.broken || x.writes[1].res > 0, "the loop is gone, and a stream does not know it");
    CHECK(p, pro_stream_queued(&x.stream) == 0, "the loop is gone, and bytes are queued");
    peer_read(p, &x.peer);
    peer_read(p, &x.peer);
    check_tape(p, &x);
    pro_pool_free(x.pool);
    peer_close(p, &x.peer);
    if (x.nexts)
        peer_close(p, &x.next_peer);
}

const struct scenario walk_stream[] = {
    {.name = "stream_close",
     .bounds = "writes of 4 bytes, 2 slices of 1 and 1 byte into a buffer of 3; 1 close of 4 kinds, 2 reads; the next "
               "stream in the same memory",
     .body = stream_close,
     .faults = 1,
     .kinds = FAULT(SHORT_SEND) | FAULT(RECALL) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SUBMIT_FULL) |
              FAULT(NO_MEMORY) | FAULT(SLOW_CLOSE),
     .socket_buffer = 3,
     .inside = true},
    {.name = "stream_linger",
     .bounds = "a write of 4 bytes, on a stream that reads; 1 lingering or flushing close, 2 bytes and the end",
     .body = stream_linger},
    {.name = "stream_close_twice",
     .bounds = "the writes of stream_close; 2 closes, 1 write that may be too late, 1 read",
     .body = stream_close_twice,
     .socket_buffer = 3},
    {.name = "stream_shut",
     .bounds = "the same; 1 shutdown and 1 close of 4 kinds, 1 write that may be too late, 1 read",
     .body = stream_shut,
     .socket_buffer = 3},
    {.name = "stream_timeout",
     .bounds = "the same with a time for each write; 1 lingering or flushing close, 2 reads",
     .body = stream_timeout,
     .faults = 1,
     .kinds = FAULT(RECALL) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL),
     .socket_buffer = 3},
    {.name = "stream_cut",
     .bounds = "the same; 1 close of 4 kinds, 1 read, 1 reset or close by the peer",
     .body = stream_cut,
     .faults = 1,
     .kinds = FAULT(RECALL) | FAULT(CANCEL_LATE) | FAULT(CANCEL_FULL) | FAULT(SLOW_CLOSE),
     .socket_buffer = 3,
     .inside = true},
    {.name = "stream_freed",
     .bounds = "the same; 1 close of 4 kinds, 1 read; the loop is freed",
     .body = stream_freed,
     .socket_buffer = 3,
     .inside = true},
    {0},
};
