/* SPDX-License-Identifier: MIT
 *
 * The happy path
 *
 *   A slice comes with whole frames in it. Each payload is reversed where it stands, and the slice, which now reads as
 *   the answers, goes out as it is: no copy, no allocation, whatever the number of frames.
 *
 *       slice    00003abc00005hello000
 *                '-- run ---------''--- the beginning of the next frame
 *       sent     00003cba00005olleh
 *
 *   Line ends between frames must not be sent back. Those at the front are left out of the run; behind one in the
 *   middle the frames are moved down over it, which only people at a keyboard pay for.
 *
 *   What is left over begins a frame that the next slice goes on with. It is held in session->gather: as a slice, split
 *   off the run if there is one, as long as it fills an eighth of the buffer it pins; else as a copy (gather.c). The
 *   slice that completes the frame gives up its front to it, and what is behind that is a slice like any other.
 *
 * Deadlines
 *
 *   One is set at a time, at most once for each slice. Between frames it is that of idleness, moved by each frame that
 *   ends; inside a frame it is the frame's, set when it begins and then left alone, so that a trickle does not move
 *   it. While reading is paused neither runs: that the peer does not read is the write deadline's affair. After a
 *   pause both begin anew; as a frame that is under way cannot bring about a second pause, that is once for a frame.
 *
 * Endings
 *
 *   session_end is the only way out. It is called once, at the first cause; it counts, logs, and tells the stream how
 *   to close, as the table says. After that the stream calls on_closed and nothing else.
 *
 * The drain
 *
 *   "Every whole frame that is in the kernel's receive buffer when the signal is handled" wants a mark in the stream of
 *   bytes. TCP keeps one: tcpi_bytes_received is how many have arrived in order since the connection was made, and the
 *   parser knows how many it was given. The difference is what has to be read, wherever it is now (socket, ring or
 *   stash), and what arrives later does not count. A FIN that has arrived counts as one byte; it ends the reading
 *   itself, so that does no harm.
 *
 *   Elsewhere (Unix sockets) the reading side is shut: what is there can still be read, and an end of file follows
 *   it. On TCP that would be wrong: Linux answers what arrives after both sides are shut with a reset, which is
 *   what a lingering close is there to avoid.
 *
 * Possible failure modes
 *
 *   No memory for a piece of a frame: the frame is lost, so the connection ends, with the answers that were earned.
 *   No slice descriptor left for a split: the piece is copied.
 */
#include "session.h"

#include <errno.h>
#include <netinet/in.h>
#include <linux/tcp.h> /* glibc's struct tcp_info ends too soon */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "check.h"

#define QUOTED_BYTES 16 /* of a bad header */

static const struct {
    const char *name;
    enum log_level level;
    enum pro_stream_ending how;
} endings[] = {
    [ENDED_CLOSED] = {"closed", LOG_DEBUG, PRO_STREAM_FLUSH},
    [ENDED_TRUNCATED] = {"truncated", LOG_INFO, PRO_STREAM_FLUSH},
    [ENDED_BAD] = {"bad_header", LOG_INFO, PRO_STREAM_LINGER},
    [ENDED_RESET] = {"reset", LOG_INFO, PRO_STREAM_NOW},
    [ENDED_IDLE] = {"idle", LOG_INFO, PRO_STREAM_LINGER},
    [ENDED_SLOW] = {"slow", LOG_INFO, PRO_STREAM_LINGER},
    [ENDED_STALLED] = {"stalled", LOG_INFO, PRO_STREAM_ABORT},
    [ENDED_DRAINED] = {"drained", LOG_DEBUG, PRO_STREAM_LINGER},
    [ENDED_CUT] = {"cut", LOG_INFO, PRO_STREAM_ABORT},
    [ENDED_FAILED] = {"failed", LOG_WARN, PRO_STREAM_LINGER},
};

_Static_assert(sizeof endings / sizeof endings[0] == SERVICE_ENDINGS, "a row for every ending");

const char *service_ending_name(enum service_ending ending)
{
    return endings[ending].name;
}

static struct session *session_of(struct pro_stream *stream)
{
    return PRO_CONTAINER_OF(stream, struct session, stream);
}

/* The streams of a service have a member of it in common. */
static struct service *service_of(const struct session *session)
{
    struct pro_stream_config *common = (void *)(uintptr_t)pro_stream_config_of(&session->stream);
    return PRO_CONTAINER_OF(common, struct service, stream_config);
}

/* ---- Endings ---- */

/* A connection that was reset has no peer any more as far as getpeername goes, but SO_PEERNAME still knows it. It wants
 * the exact size. */
static bool find_peer(struct session *session, struct sockaddr_storage *ret_at, socklen_t *ret_length)
{
    static const socklen_t sizes[] = {28, 16}; /* sockaddr_in6, sockaddr_in */
    if (pro_peer_address(&session->stream.handle, ret_at, ret_length) == 0)
        return true;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        socklen_t length = sizes[i];
        if (pro_option_get(&session->stream.handle, SOL_SOCKET, SO_PEERNAME, ret_at, &length) == 0) {
            *ret_length = length;
            return true;
        }
    }
    return false;
}

/* Most peers on Unix sockets have no name, but all have a process. */
static const char *name_peer(struct session *session, char out[ADDRESS_TEXT_SIZE])
{
    struct sockaddr_storage at = {0};
    socklen_t length = sizeof at;
    struct ucred who;
    socklen_t size = sizeof who;
    if (!find_peer(session, &at, &length))
        snprintf(out, ADDRESS_TEXT_SIZE, "unknown");
    else if (at.ss_family == AF_UNIX &&
             pro_option_get(&session->stream.handle, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0)
        snprintf(out, ADDRESS_TEXT_SIZE, "unix:pid %d", (int)who.pid);
    else
        address_format(&at, length, out);
    return out;
}

__attribute__((format(printf, 3, 4))) static void session_end(struct session *session, enum service_ending ending,
                                                              const char *format, ...)
{
    struct service *service = service_of(session);
    if (session->ended)
        return;
    session->ended = true;
    service->counters.ended[ending]++;
    if (log_wants(service->config.log, endings[ending].level)) {
        char peer[ADDRESS_TEXT_SIZE], reason[256];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(reason, sizeof reason, format, arguments);
        va_end(arguments);
        log_line(service->config.log, endings[ending].level, pro_now(service->loop),
                 "%s: %s after %llu frame%s, at byte %llu: %s", name_peer(session, peer), endings[ending].name,
                 (unsigned long long)session->frames, session->frames == 1 ? "" : "s",
                 (unsigned long long)frame_offset(&session->parser), reason);
    }
    gather_drop(&session->gather);
    session->service = service; /* the stream is empty when it says that it is closed */
    pro_stream_close(&session->stream, endings[ending].how);
}

static void end_by_error(struct session *session, int error)
{
    bool reset = error == -ECONNRESET || error == -EPIPE || error == -ECONNABORTED;
    session_end(session, reset ? ENDED_RESET : ENDED_FAILED, "%s (%s)", pro_error_name(error), pro_error_text(error));
}

static void end_by_deadline(struct session *session)
{
    const struct service_config *config = &service_of(session)->config;
    if (frame_parser_between(&session->parser))
        session_end(session, ENDED_IDLE, "no frame for %llu ms", (unsigned long long)(config->idle_ns / 1000000));
    else
        session_end(session, ENDED_SLOW, "a frame was not whole after %llu ms",
                    (unsigned long long)(config->frame_ns / 1000000));
}

static void end_by_bad_header(struct session *session, const uint8_t *bytes, size_t size)
{
    char quoted[4 * QUOTED_BYTES + 4];
    log_escape(quoted, sizeof quoted, bytes, size < QUOTED_BYTES ? size : QUOTED_BYTES);
    session_end(session, ENDED_BAD, "%s, there stands \"%s\"", frame_reason_text(frame_reason(&session->parser)),
                quoted);
}

/* ---- Deadlines and pauses ---- */

static void begin_deadline(struct service *service, struct session *session, bool between)
{
    uint64_t limit_ns = between ? service->config.idle_ns : service->config.frame_ns;
    pro_stream_read_deadline(&session->stream, limit_ns ? pro_now(service->loop) + limit_ns : 0);
}

static void pause_reading(struct service *service, struct session *session)
{
    session->paused = true;
    service->counters.pauses++;
    pro_stream_pause(&session->stream);
    pro_stream_read_deadline(&session->stream, 0);
}

/* ---- Frames ---- */

/* Answers that stand one after the other at the front of a slice. */
struct run {
    uint8_t *begin, *end; /* NULL: none yet */
};

static void run_add(struct run *run, uint8_t *payload, uint32_t size)
{
    uint8_t *frame = payload - FRAME_HEADER_SIZE;
    frame_reverse(payload, size);
    if (!run->begin)
        run->begin = run->end = frame;
    if (run->end != frame)
        memmove(run->end, frame, FRAME_HEADER_SIZE + size);
    run->end += FRAME_HEADER_SIZE + size;
}

/* Cuts `slice` before `at`. Returns what begins there, and leaves in *slice what is before it, NULL if nothing. Returns
 * NULL if no descriptor is left. */
static struct pro_slice *cut(struct pro_slice **slice, uint8_t *at)
{
    struct pro_slice *head = *slice, *tail;
    CHECK(head && at >= head->data);
    if (at == head->data) {
        *slice = NULL;
        return head;
    }
    return pro_slice_split(head, (uint32_t)(at - head->data), &tail) == 0 ? tail : NULL;
}

/* Holds the payload bytes at the end of *slice, from `payload` on. The slice keeps what is before them. */
static int hold(struct session *session, struct pro_slice **slice, const struct run *run, uint8_t *payload,
                uint32_t size, bool headed)
{
    CHECK(*slice);
    uint8_t *from = headed ? payload - FRAME_HEADER_SIZE : payload;
    bool dense = (uint64_t)size * 8 >= pro_slice_pinned(*slice);
    if (dense) {
        if (!run->begin) { /* only line ends or half a header stand before it */
            (*slice)->size -= (uint32_t)(from - (*slice)->data);
            (*slice)->data = from;
        }
        struct pro_slice *piece = cut(slice, from);
        if (piece) {
            gather_take(&session->gather, piece, headed);
            return 0;
        }
    }
    service_drew(service_of(session));
    return gather_copy(&session->gather, &service_of(session)->cache, payload, size, frame_left(&session->parser));
}

/* The frame under way ends with `size` payload bytes at `payload`, near the front of *slice. Answers it; the slice
 * keeps what is behind, NULL if nothing is. */
static int complete(struct session *session, struct pro_slice **slice, uint8_t *payload, uint32_t size)
{
    struct gather_cache *cache = &service_of(session)->cache;
    bool taken = false;
    CHECK(*slice);
    if (size > GATHER_SMALL) {
        struct pro_slice *piece = *slice, *behind = NULL;
        piece->size -= (uint32_t)(payload - piece->data);
        piece->data = payload;
        taken = piece->size == size || pro_slice_split(piece, size, &behind) == 0;
        if (taken) {
            gather_take(&session->gather, piece, false);
            *slice = behind;
        }
    }
    service_drew(service_of(session));
    int error = taken ? 0 : gather_copy(&session->gather, cache, payload, size, 0);
    return error ? error : gather_answer(&session->gather, cache, &session->stream, frame_length(&session->parser));
}

/* Sends the run, and returns what is not sent of the slice. */
static void release(struct session *session, struct pro_slice *slice, const struct run *run)
{
    if (!slice)
        return;
    if (!run->begin) {
        pro_slice_return(slice);
        return;
    }
    slice->data = run->begin;
    slice->size = (uint32_t)(run->end - run->begin);
    slice->next = NULL;
    pro_stream_write_slices(&session->stream, slice);
}

/* What came of a slice. */
struct verdict {
    enum frame_status status;
    int error;                    /* -ENOMEM, or 0 */
    uint32_t frames;              /* answered */
    uint32_t quoted_size;         /* if the status is FRAME_BAD: the bytes that stand there, */
    uint8_t quoted[QUOTED_BYTES]; /* kept because the slice goes before the line is written */
};

static void quote(struct verdict *verdict, const uint8_t *at, size_t size)
{
    verdict->quoted_size = size < QUOTED_BYTES ? (uint32_t)size : QUOTED_BYTES;
    memcpy(verdict->quoted, at, verdict->quoted_size);
}

/* Parses a slice, answers the frames that end in it, and holds the rest. */
static void take_slice(struct session *session, struct pro_slice *slice, struct verdict *verdict)
{
    struct run run = {0};
    uint8_t *at = slice->data, *end = at + slice->size;
    enum frame_status status;
    uint32_t frames = 0;
    int error = 0;
    do {
        struct frame_span span;
        status = frame_parse(&session->parser, at, (size_t)(end - at), &span);
        uint8_t *payload = at + span.skipped + span.header;
        bool headed = span.header == FRAME_HEADER_SIZE;
        at = payload + span.payload;
        if (status != FRAME_READY)
            error = span.payload ? hold(session, &slice, &run, payload, span.payload, headed) : 0;
        else if (headed)
            run_add(&run, payload, span.payload);
        else
            error = complete(session, &slice, payload, span.payload);
        if (status != FRAME_READY || error)
            break;
        frames++;
    } while (at < end);
    verdict->status = status;
    verdict->error = error;
    verdict->frames = frames;
    if (status == FRAME_BAD)
        quote(verdict, at, (size_t)(end - at));
    session->frames += frames;
    release(session, slice, &run);
}

static void end_drained(struct session *session)
{
    session_end(session, ENDED_DRAINED, "the server ends, and has answered what was received");
}

static void on_data(struct pro_stream *stream, struct pro_slice *slice)
{
    struct session *session = session_of(stream);
    struct service *service = service_of(session);
    uint32_t size = slice->size;
    bool was_between = frame_parser_between(&session->parser);
    struct verdict verdict;

    take_slice(session, slice, &verdict);
    bool between = frame_parser_between(&session->parser);
    service->counters.bytes += size;
    service->counters.frames += verdict.frames;
    if (verdict.error) {
        session_end(session, ENDED_FAILED, "no memory for a frame of %u bytes", frame_length(&session->parser));
    } else if (verdict.status == FRAME_BAD) {
        end_by_bad_header(session, verdict.quoted, verdict.quoted_size);
    } else if (session->draining && size >= session->drain_left) {
        end_drained(session);
    } else {
        if (session->draining)
            session->drain_left -= size;
        if (pro_stream_queued(stream) >= service->config.high_water)
            pause_reading(service, session);
        else if (verdict.frames > 0 || (was_between && !between))
            begin_deadline(service, session, between);
    }
}

/* ---- The stream's other events ---- */

static void on_end(struct pro_stream *stream, int error)
{
    struct session *session = session_of(stream);
    if (error == -ETIME)
        end_by_deadline(session);
    else if (error)
        end_by_error(session, error);
    else if (session->draining)
        end_drained(session);
    else if (frame_parser_between(&session->parser))
        session_end(session, ENDED_CLOSED, "end of file");
    else
        session_end(session, ENDED_TRUNCATED, "end of file inside a frame, %u bytes of its payload are missing",
                    frame_left(&session->parser));
}

static void on_drained(struct pro_stream *stream)
{
    struct session *session = session_of(stream);
    if (!session->paused)
        return;
    session->paused = false;
    begin_deadline(service_of(session), session, frame_parser_between(&session->parser));
    pro_stream_resume(stream);
}

static void on_broken(struct pro_stream *stream, int error)
{
    struct session *session = session_of(stream);
    if (error == -ETIME)
        session_end(session, ENDED_STALLED, "the peer took nothing of its answers for %llu ms",
                    (unsigned long long)(service_of(session)->config.send_ns / 1000000));
    else
        end_by_error(session, error);
}

static void on_closed(struct pro_stream *stream, int error)
{
    (void)error; /* the first cause has been told; a close that fails after it is no news */
    struct session *session = session_of(stream);
    struct service *service = session->service;
    CHECK(session->ended);
    if (session->next)
        session->next->prev = session->prev;
    if (session->prev)
        session->prev->next = session->next;
    else
        service->sessions = session->next;
    free(session);
    service_left(service);
}

void session_configure(struct service *service)
{
    service->stream_config.data = on_data;
    service->stream_config.end = on_end;
    service->stream_config.drained = on_drained;
    service->stream_config.broken = on_broken;
    service->stream_config.closed = on_closed;
}

int session_open(struct service *service, int fd)
{
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return -ENOMEM;
    session->next = service->sessions;
    if (session->next)
        session->next->prev = session;
    service->sessions = session;
    frame_parser_init(&session->parser, service->config.max_frame);
    pro_stream_open(&session->stream, service->loop, fd, &service->stream_config);
    begin_deadline(service, session, true);
    return 0;
}

/* ---- The end of the server ---- */

/* Bytes that have arrived in order since the connection was made. */
static bool bytes_arrived(struct session *session, uint64_t *ret_bytes)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (pro_option_get(&session->stream.handle, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return false;
    if (size < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received)
        return false;
    *ret_bytes = info.tcpi_bytes_received;
    return true;
}

static void on_reading_shut(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    free(op);
}

static bool shut_reading(struct session *session)
{
    struct pro_op *op = calloc(1, sizeof *op);
    if (!op)
        return false;
    pro_shutdown(&session->stream.handle, op, SHUT_RD, on_reading_shut);
    return true;
}

void session_drain(struct session *session)
{
    uint64_t arrived, taken = frame_offset(&session->parser);
    if (session->ended || session->draining)
        return;
    session->draining = true;
    session->drain_left = UINT32_MAX;
    if (bytes_arrived(session, &arrived)) {
        if (arrived <= taken)
            end_drained(session);
        else if (arrived - taken < UINT32_MAX)
            session->drain_left = (uint32_t)(arrived - taken);
    } else if (!shut_reading(session)) {
        end_drained(session);
    }
}

void session_cut(struct session *session)
{
    session_end(session, ENDED_CUT, "the server ends at once");
    pro_stream_close(&session->stream, PRO_STREAM_ABORT); /* also if it was on its way at leisure */
}
