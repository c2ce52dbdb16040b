/* SPDX-License-Identifier: MIT
 *
 * The client: lines in, reversed lines out, through a server.
 *
 *      standard input --read--> input --take_lines--> request --write--> server
 *                                          |                                |
 *                                     lengths asked                       slices
 *                                          |                                |
 *      standard output <--write-- output <-'----------- take_answer <-------'
 *
 * Requests are pipelined. `asked` is the window: the lengths of the lines that have been taken and not yet been put
 * out, in order. An empty line stands in it as 0 and costs the server nothing; it is put out when all before it have
 * been. The window bounds the lines, the buffers bound the bytes, and nothing grows: when the window or the request is
 * full no line is taken, when the input is full nothing is read, when the output is full the server is not read.
 *
 * `advance` is called at the end of every continuation, looks at what is the case, and starts whatever can be started.
 * No other place decides what is next.
 *
 * Possible failure modes: the server cannot be reached, closes with lines unanswered, or answers nonsense; a line is
 * too long; input or output fail. Each sets the verdict once. What was answered by then is put out, and then the line
 * is written that says what went wrong. Only when nobody reads the output any more there is nothing to say.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <proactor/stream.h>

#include "frame.h"
#include "log.h"
#include "options.h"
#include "standard.h"

#define READ_SIZE    ((size_t)64 << 10)
#define INPUT_SIZE   (FRAME_PAYLOAD_MAX + 1 + READ_SIZE)
#define REQUEST_SIZE ((size_t)256 << 10)
#define OUTPUT_FULL  ((size_t)256 << 10)                 /* above it the server is not read */
#define OUTPUT_SIZE  (OUTPUT_FULL + ((size_t)256 << 10)) /* what one slice and a window of empty lines can add */
#define WINDOW       4096u

_Static_assert(REQUEST_SIZE >= FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX, "a line fits");
_Static_assert((WINDOW & (WINDOW - 1)) == 0, "the window is a ring");

enum { STATUS_CLEAN, STATUS_FAILED, STATUS_USAGE };

struct client {
    struct client_options options;
    struct log log;
    char server[ADDRESS_TEXT_SIZE];
    struct sockaddr_storage at;
    socklen_t at_length;

    struct pro_loop *loop;
    struct pro_pool *pool;
    struct pro_stream stream;
    struct pro_stream_config stream_config;
    struct pro_handle in, out;
    struct pro_op read, write;
    struct pro_stream_write send;

    uint8_t *input; /* taken lines, lines to take, room */
    size_t input_at, input_end;
    uint8_t *request;
    size_t request_size;
    uint8_t *output, *writing;
    size_t output_size;

    uint32_t asked[WINDOW];
    uint32_t asked_first, asked_count; /* free-running; the count of those that are out */
    struct frame_parser parser;
    uint64_t line; /* lines taken */

    bool connected, sending, paused, eof, too_long, shut;
    bool over; /* the verdict is in */
    bool gone; /* the loop is being freed: what still completes changes nothing */
    int status;
    char message[512]; /* "" is silence */
};

__attribute__((format(printf, 3, 4))) static void decide(struct client *c, int status, const char *format, ...)
{
    if (c->over)
        return;
    c->over = true;
    c->status = status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->message, sizeof c->message, format, arguments);
    va_end(arguments);
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
    memcpy(c->output + c->output_size, data, size);
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
    uint8_t *full = c->output;
    size_t size = c->output_size;
    c->output = c->writing;
    c->writing = full;
    c->output_size = 0;
    pro_write(&c->out, &c->write, full, size, PRO_STREAM, on_write);
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
        decide(c, STATUS_FAILED, "line %llu is longer than %d bytes", (unsigned long long)c->line + 1,
               FRAME_PAYLOAD_MAX);
    else
        decide(c, STATUS_CLEAN, "%s", "");
}

static void advance(struct client *c)
{
    if (c->gone)
        return;
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
    if (c->over && c->output_size == 0 && !pro_op_in_flight(&c->write))
        pro_stop(c->loop);
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
        decide(c, STATUS_FAILED, "standard input: %s (%s)", pro_error_name(r.res), pro_error_text(r.res));
    advance(c);
}

static void on_write(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct client *c = PRO_CONTAINER_OF(op, struct client, write);
    if (r.res < 0) {
        c->output_size = 0;
        if (r.res == -EPIPE) /* whoever read it has enough; other filters end without a word too */
            decide(c, STATUS_CLEAN, "%s", "");
        else
            decide(c, STATUS_FAILED, "standard output: %s (%s)", pro_error_name(r.res), pro_error_text(r.res));
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

static void on_connected(struct pro_stream *stream, int error)
{
    struct client *c = client_of(stream);
    c->connected = error == 0;
    if (error)
        decide(c, STATUS_FAILED, "cannot reach %s: %s (%s)", c->server, pro_error_name(error), pro_error_text(error));
    advance(c);
}

static void on_data(struct pro_stream *stream, struct pro_slice *slice)
{
    struct client *c = client_of(stream);
    if (!c->over && !take_answers(c, slice->data, slice->size))
        decide(c, STATUS_FAILED, "%s does not answer as a reverse server does", c->server);
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
        decide(c, STATUS_FAILED, "%s: %s with %u lines unanswered", c->server, why, c->asked_count);
    else
        decide(c, STATUS_FAILED, "%s: %s", c->server, why);
    advance(c);
}

static void on_end(struct pro_stream *stream, int error)
{
    server_gone(client_of(stream), error);
}

/* What the server wrote before it went may still be there to be read, and `end` comes after it. */
static void on_broken(struct pro_stream *stream, int error)
{
}

/* ---- Making it ---- */

static bool make_buffers(struct client *c)
{
    c->input = malloc(INPUT_SIZE);
    c->request = malloc(REQUEST_SIZE);
    c->output = malloc(OUTPUT_SIZE);
    c->writing = malloc(OUTPUT_SIZE);
    return c->input && c->request && c->output && c->writing;
}

static int make_loop(struct client *c)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_pool_config pool = PRO_POOL_CONFIG_INIT;
    config.backend = c->options.backend;
    pool.max_buffers = 64;
    int error = pro_loop_new(&config, &c->loop);
    return error ? error : pro_pool_new(c->loop, &pool, &c->pool);
}

static bool make(struct client *c)
{
    const char *wrong = address_resolve(&c->options.server, &c->at, &c->at_length);
    if (wrong) {
        decide(c, STATUS_FAILED, "%s: %s", c->options.server.name, wrong);
        return false;
    }
    address_format(&c->at, c->at_length, c->server);
    if (!make_buffers(c)) {
        decide(c, STATUS_FAILED, "out of memory");
        return false;
    }
    int error = make_loop(c);
    if (error)
        decide(c, STATUS_FAILED, "cannot start: %s (%s)", pro_error_name(error), standard_backend_cause(error));
    return !error;
}

static void run(struct client *c)
{
    c->stream_config = (struct pro_stream_config){
        .pool = c->pool, .connected = on_connected, .data = on_data, .end = on_end, .broken = on_broken};
    frame_parser_init(&c->parser, FRAME_PAYLOAD_MAX);
    pro_adopt(c->loop, &c->in, STDIN_FILENO);
    pro_adopt(c->loop, &c->out, STDOUT_FILENO);
    uint64_t deadline = c->options.connect_ns ? pro_now(c->loop) + c->options.connect_ns : 0;
    int error = pro_stream_connect(&c->stream, c->loop, (const struct sockaddr *)&c->at, c->at_length, deadline,
                                   &c->stream_config);
    if (error)
        decide(c, STATUS_FAILED, "cannot reach %s: %s (%s)", c->server, pro_error_name(error), pro_error_text(error));
    else if ((error = pro_run(c->loop, PRO_RUN_DEFAULT)) < 0)
        decide(c, STATUS_FAILED, "the loop failed: %s (%s)", pro_error_name(error), pro_error_text(error));
}

static void unmake(struct client *c)
{
    c->gone = true;
    pro_loop_free(c->loop);
    pro_pool_free(c->pool);
    free(c->input);
    free(c->request);
    free(c->output);
    free(c->writing);
}

static int reverse(struct client *c)
{
    if (make(c))
        run(c);
    int status = c->status;
    if (!c->over) {
        status = STATUS_FAILED;
        snprintf(c->message, sizeof c->message, "%s: nothing is left to wait for", c->server);
    }
    if (c->message[0])
        log_always(&c->log, "%s", c->message);
    unmake(c);
    return status;
}

int main(int argc, char *argv[])
{
    struct client_options options;
    char error[OPTIONS_ERROR_SIZE];
    standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    enum options_outcome outcome = client_options_read(argc, argv, &options, error);
    if (outcome == OPTIONS_HELP)
        return fputs(client_options_help, stdout) < 0 || fflush(stdout) != 0;
    if (outcome == OPTIONS_VERSION)
        return printf("reverse %d.%d.%d\n", PRO_VERSION_MAJOR, PRO_VERSION_MINOR, PRO_VERSION_PATCH) < 0 ||
               fflush(stdout) != 0;

    struct client *c = calloc(1, sizeof *c);
    int status = STATUS_FAILED;
    if (c) {
        log_init(&c->log, "reverse", STDERR_FILENO, LOG_INFO, 0);
        c->options = options;
        if (outcome == OPTIONS_ERROR)
            log_always(&c->log, "%s", error);
        status = outcome == OPTIONS_ERROR ? STATUS_USAGE : reverse(c);
    }
    free(c);
    return status;
}
