/* SPDX-License-Identifier: MIT
 *
 * The happy path
 *
 *      input --read--> input --take_lines--> request --write--> server
 *                                 |                                |
 *                            lengths asked                       slices
 *                                 |                                |
 *      output <--write-- output <-'----------- take_answers <------'
 *
 * Requests are pipelined. `asked` is the window: the lengths of the lines that have been taken and not yet been put
 * out, in order. An empty line stands in it as 0 and costs the server nothing; it is put out when all before it have
 * been. The window bounds the lines, the buffers bound the bytes, and nothing grows: when the window or the request is
 * full no line is taken, when the input is full nothing is read, when the output is full the server is not read.
 *
 * `advance` is called at the end of every continuation, looks at what is the case, and starts whatever can be started.
 * No other place decides what is next.
 *
 * A host may have several addresses, of which not all lead to the server: each that does not connect is followed by the
 * next. Nothing is read before one does, so that nothing has to be asked twice.
 *
 * Possible failure modes: the server cannot be reached, closes with lines unanswered, or answers nonsense; a line is
 * too long; input or output fail. The first of them is the verdict. What was answered by then is put out, and then all
 * is closed. Only when nobody reads the output any more there is nothing to say.
 *
 * A loop that is freed early is one of them: it ends what is in flight, and something always is. Up to the verdict that
 * is the connect or the receive, or the write for which a receive that is paused, or over, is waiting.
 */
#include "client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <proactor/stream.h>

#include "check.h"
#include "frame.h"

#define READ_SIZE    ((size_t)64 << 10)
#define INPUT_SIZE   (FRAME_PAYLOAD_MAX + 1 + READ_SIZE)
#define REQUEST_SIZE ((size_t)256 << 10)
#define OUTPUT_FULL  ((size_t)256 << 10)                 /* above it the server is not read */
#define OUTPUT_SIZE  (OUTPUT_FULL + ((size_t)256 << 10)) /* what one slice and a window of empty lines can add */
#define WINDOW       4096u

_Static_assert(REQUEST_SIZE >= FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX, "a line fits");
_Static_assert((WINDOW & (WINDOW - 1)) == 0, "the window is a ring");

struct client {
    struct client_config config;
    struct pro_loop *loop;
    struct pro_stream stream;
    struct pro_stream_config stream_config;
    struct pro_handle in, out;
    struct pro_op read, write, release;
    struct pro_stream_write send;

    size_t input_at, input_end; /* taken lines, lines to take, room */
    size_t request_size;
    size_t output_size;
    uint32_t asked_first, asked_count; /* free-running; the count of those that are out */
    struct frame_parser parser;
    uint64_t line;  /* lines taken */
    uint32_t tried; /* of its addresses */

    bool connected, sending, paused, eof, too_long, shut;
    bool over;                      /* the verdict is in */
    bool closing;                   /* and what was answered has been put out */
    bool done;                      /* and everything is closed */
    uint8_t filling;                /* the output that answers are put into; the other one is being written */
    char server[ADDRESS_TEXT_SIZE]; /* the address tried last */
    char message[512];              /* the verdict; "" is a clean end */

    uint32_t asked[WINDOW]; /* this and the rest is not cleared */
    uint8_t input[INPUT_SIZE];
    uint8_t request[REQUEST_SIZE];
    uint8_t output[2][OUTPUT_SIZE];
};

__attribute__((format(printf, 2, 3))) static void fail(struct client *c, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!c->over)
        vsnprintf(c->message, sizeof c->message, format, arguments);
    va_end(arguments);
    c->over = true;
}

static void fail_at(struct client *c, const char *what, int error)
{
    fail(c, "%s: %s (%s)", what, pro_error_name(error), pro_error_text(error));
}

/* ---- Lines to requests ---- */

static void ask(struct client *c, uint32_t length)
{
    c->asked[(c->asked_first + c->asked_count) % WINDOW] = length;
    c->asked_count++;
    c->line++;
}

/* Takes the line of `length` bytes that the input begins with. False: there is no room for it now. */
static bool take_line(struct client *c, size_t length)
{
    if (c->asked_count == WINDOW || c->request_size + FRAME_HEADER_SIZE + length > REQUEST_SIZE)
        return false;
    if (length > 0) {
        frame_header_write(c->request + c->request_size, (uint32_t)length);
        memcpy(c->request + c->request_size + FRAME_HEADER_SIZE, c->input + c->input_at, length);
        c->request_size += FRAME_HEADER_SIZE + length;
    }
    ask(c, (uint32_t)length);
    return true;
}

static void take_lines(struct client *c)
{
    while (!c->sending && !c->too_long && c->input_at < c->input_end) {
        size_t left = c->input_end - c->input_at;
        const uint8_t *begin = c->input + c->input_at, *newline = memchr(begin, '\n', left);
        size_t length = newline ? (size_t)(newline - begin) : left;
        if (length > FRAME_PAYLOAD_MAX)
            c->too_long = true;
        else if ((!newline && !c->eof) || !take_line(c, length))
            return;
        else
            c->input_at += length + (newline ? 1 : 0);
    }
}

static void on_requested(struct pro_stream *stream, struct pro_stream_write *write, int res);
static pro_fn on_read, on_write;

static void send_request(struct client *c)
{
    if (c->sending || c->request_size == 0)
        return;
    c->sending = true;
    pro_stream_write(&c->stream, &c->send, c->request, c->request_size, on_requested);
}

static void read_more(struct client *c)
{
    if (c->eof || c->too_long || pro_op_in_flight(&c->read))
        return;
    if (c->input_at > 0) {
        memmove(c->input, c->input + c->input_at, c->input_end - c->input_at);
        c->input_end -= c->input_at;
        c->input_at = 0;
    }
    size_t space = INPUT_SIZE - c->input_end;
    if (space > 0)
        pro_read(&c->in, &c->read, c->input + c->input_end, space < READ_SIZE ? space : READ_SIZE, PRO_STREAM, on_read);
}

/* ---- Answers to lines ---- */

static void put(struct client *c, const uint8_t *data, size_t size)
{
    CHECK(size <= OUTPUT_SIZE - c->output_size);
    memcpy(c->output[c->filling] + c->output_size, data, size);
    c->output_size += size;
}

static void pop_asked(struct client *c)
{
    put(c, (const uint8_t *)"\n", 1);
    c->asked_first++;
    c->asked_count--;
}

/* The empty lines whose turn it is. */
static void put_empty_lines(struct client *c)
{
    while (c->asked_count > 0 && c->asked[c->asked_first % WINDOW] == 0 && c->output_size < OUTPUT_FULL)
        pop_asked(c);
}

static bool fits(const struct client *c)
{
    return c->asked_count > 0 && frame_length(&c->parser) == c->asked[c->asked_first % WINDOW];
}

/* Takes one slice's worth of answers. False: they are not answers to what was asked. */
static bool take_answers(struct client *c, const uint8_t *data, size_t size)
{
    while (size > 0) {
        struct frame_span span;
        enum frame_status status = frame_parse(&c->parser, data, size, &span);
        if (status == FRAME_BAD || (span.payload > 0 && !fits(c)))
            return false;
        put(c, data + span.skipped + span.header, span.payload);
        if (status == FRAME_READY) {
            pop_asked(c);
            while (c->asked_count > 0 && c->asked[c->asked_first % WINDOW] == 0)
                pop_asked(c);
        }
        data += frame_span_size(span);
        size -= frame_span_size(span);
    }
    return true;
}

static void write_output(struct client *c)
{
    if (c->output_size == 0 || pro_op_in_flight(&c->write))
        return;
    pro_write(&c->out, &c->write, c->output[c->filling], c->output_size, PRO_STREAM, on_write);
    c->filling ^= 1;
    c->output_size = 0;
}

static void pause_or_resume(struct client *c)
{
    bool full = c->output_size >= OUTPUT_FULL;
    if (full && !c->paused)
        pro_stream_pause(&c->stream);
    else if (!full && c->paused)
        pro_stream_resume(&c->stream);
    c->paused = full;
}

/* ---- What is next ---- */

static bool all_asked(const struct client *c)
{
    return (c->too_long || (c->eof && c->input_at == c->input_end)) && !c->sending && c->request_size == 0;
}

static void conclude(struct client *c)
{
    if (!all_asked(c))
        return;
    if (!c->shut) {
        c->shut = true;
        pro_stream_shutdown(&c->stream);
    }
    if (c->asked_count > 0 || c->output_size > 0 || pro_op_in_flight(&c->write))
        return;
    if (c->too_long)
        fail(c, "line %llu is longer than %d bytes", (unsigned long long)c->line + 1, FRAME_PAYLOAD_MAX);
    c->over = true;
}

static void advance(struct client *c)
{
    if (!c->over && c->connected) {
        put_empty_lines(c);
        take_lines(c);
        put_empty_lines(c);
        send_request(c);
        read_more(c);
    }
    write_output(c);
    if (!c->over && c->connected) {
        pause_or_resume(c);
        conclude(c);
    }
    if (c->over && !c->closing && c->output_size == 0 && !pro_op_in_flight(&c->write)) {
        c->closing = true;
        pro_stream_close(&c->stream, PRO_STREAM_NOW);
    }
}

/* ---- Continuations ---- */

static void on_read(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct client *c = PRO_CONTAINER_OF(op, struct client, read);
    if (r.res > 0)
        c->input_end += (size_t)r.res;
    else if (r.res == 0)
        c->eof = true;
    else
        fail_at(c, "standard input", r.res);
    advance(c);
}

static void on_write(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct client *c = PRO_CONTAINER_OF(op, struct client, write);
    if (r.res < 0) {
        c->output_size = 0;
        if (r.res != -EPIPE)
            fail_at(c, "standard output", r.res);
        c->over = true; /* whoever read it has enough; other filters end without a word too */
    }
    advance(c);
}

static struct client *client_of(struct pro_stream *stream)
{
    return PRO_CONTAINER_OF(stream, struct client, stream);
}

static void on_requested(struct pro_stream *stream, struct pro_stream_write *write, int res)
{
    struct client *c = client_of(stream);
    c->sending = false;
    c->request_size = 0;
    if (res >= 0) /* else `broken` tells, or `end` did */
        advance(c);
}

static void cannot_reach(struct client *c, int error)
{
    fail(c, "cannot reach %s: %s (%s)", c->server, pro_error_name(error), pro_error_text(error));
}

static void on_connected(struct pro_stream *stream, int error)
{
    struct client *c = client_of(stream);
    c->connected = error == 0;
    if (error && c->tried < c->config.server_count) {
        pro_stream_close(stream, PRO_STREAM_NOW); /* and then the next one, see on_closed */
        return;
    }
    if (error)
        cannot_reach(c, error);
    advance(c);
}

static void on_data(struct pro_stream *stream, struct pro_slice *slice)
{
    struct client *c = client_of(stream);
    if (!c->over && !take_answers(c, slice->data, slice->size))
        fail(c, "%s does not answer as a reverse server does", c->server);
    pro_slice_return(slice);
    advance(c);
}

static void server_gone(struct client *c, int error)
{
    char why[192] = "the server closed the connection";
    if (c->shut && c->asked_count == 0) { /* as it should, after all is answered; the output may still be on its way */
        advance(c);
        return;
    }
    if (error)
        snprintf(why, sizeof why, "%s (%s)", pro_error_name(error), pro_error_text(error));
    if (c->asked_count > 0)
        fail(c, "%s: %s with %u line%s unanswered", c->server, why, c->asked_count, c->asked_count == 1 ? "" : "s");
    else
        fail(c, "%s: %s", c->server, why);
    advance(c);
}

static void on_end(struct pro_stream *stream, int error)
{
    server_gone(client_of(stream), error);
}

/* What the server wrote before it went may still be there to be read, and `end` comes after it. But when it was we who
 * were short of memory, the server is still there, and waits for the rest of a request that cannot be sent any more. */
static void on_broken(struct pro_stream *stream, int error)
{
    if (error == -ENOMEM || error == -ENOBUFS)
        server_gone(client_of(stream), error);
}

/* ---- From the beginning to the end ---- */

static void on_out_released(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct client *c = PRO_CONTAINER_OF(op, struct client, release);
    c->done = true;
    c->config.done(c->config.context, c->message[0] ? c->message : NULL);
}

static void on_in_released(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    pro_release(&PRO_CONTAINER_OF(op, struct client, release)->out, op, on_out_released);
}

static void connect_next(struct client *c)
{
    int error;
    do {
        const struct address_found *server = &c->config.servers[c->tried++];
        uint64_t deadline = c->config.connect_ns ? pro_now(c->loop) + c->config.connect_ns : 0;
        address_format(&server->at, server->length, c->server);
        error = pro_stream_connect(&c->stream, c->loop, (const struct sockaddr *)&server->at, server->length, deadline,
                                   &c->stream_config);
    } while (error && c->tried < c->config.server_count);
    if (error) {
        cannot_reach(c, error);
        pro_release(&c->in, &c->release, on_in_released);
    }
}

/* The input may have a read in flight that nobody needs any more; the release ends it. */
static void on_closed(struct pro_stream *stream, int error)
{
    struct client *c = client_of(stream);
    if (!c->connected && !c->over)
        connect_next(c);
    else
        pro_release(&c->in, &c->release, on_in_released);
}

int client_start(struct pro_loop *loop, const struct client_config *config, struct client **ret_client)
{
    CHECK(config->server_count > 0);
    struct client *c = malloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    memset(c, 0, offsetof(struct client, asked));
    c->config = *config;
    c->loop = loop;
    c->stream_config = (struct pro_stream_config){.pool = config->pool,
                                                  .connected = on_connected,
                                                  .data = on_data,
                                                  .end = on_end,
                                                  .broken = on_broken,
                                                  .closed = on_closed};
    frame_parser_init(&c->parser, FRAME_PAYLOAD_MAX);
    pro_adopt(loop, &c->in, config->in);
    pro_adopt(loop, &c->out, config->out);
    connect_next(c);
    *ret_client = c;
    return 0;
}

void client_free(struct client *client)
{
    CHECK(!client || client->done);
    free(client);
}
