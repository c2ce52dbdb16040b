/* SPDX-License-Identifier: MIT
 *
 * Two things a log must not do to a server: fill a disk because some peer is rude ten thousand times a second, and
 * stop the loop because nobody reads the pipe that standard error is.
 *
 * Against the first, a bucket of tokens: a burst of BURST lines, and then one every REFILL_NS. Against the second, a
 * line goes out only if poll says that the descriptor takes it. For a pipe that means room for PIPE_BUF bytes, so a
 * line of at most LINE_MOST goes at once, and whole. Lines that fall to either are counted, and the next line that is
 * written is followed by how many those were.
 *
 * Start lines and fatal errors pass the bucket and wait for room, but not for ever: a server whose standard error is
 * full must still serve, and end when it is told to. Who does not read within WAIT_TRIES times WAIT_MS is not waited for
 * again until a line has gone. A signal cuts a try short, so that the end does not wait for the start lines.
 */
#include "log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BURST     20
#define REFILL_NS UINT64_C(100000000)
#define LINE_MOST 1024

#define WAIT_TRIES 10
#define WAIT_MS    100

_Static_assert(LINE_MOST <= PIPE_BUF, "a line goes into a pipe at once or not at all");

void log_init(struct log *log, const char *name, int fd, enum log_level level, uint64_t now_ns)
{
    *log = (struct log){.name = name, .fd = fd, .level = level, .tokens = BURST, .refilled_ns = now_ns};
}

bool log_wants(const struct log *log, enum log_level level)
{
    return level <= log->level;
}

/* The lost end of a line that is too long is not worth a second buffer: the newline always fits. */
__attribute__((format(printf, 3, 0))) static size_t compose(const struct log *log, char line[LINE_MOST],
                                                            const char *format, va_list arguments)
{
    int n = snprintf(line, LINE_MOST, "%s: ", log->name);
    size_t size = n < 0 ? 0 : (size_t)n;
    n = vsnprintf(line + size, LINE_MOST - size, format, arguments);
    size += n < 0 ? 0 : (size_t)n;
    if (size > LINE_MOST - 1)
        size = LINE_MOST - 1;
    line[size++] = '\n';
    return size;
}

static void put(int fd, const char *line, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, line, size);
        if (n < 0 && errno != EINTR)
            return; /* there is no one left to tell */
        if (n > 0) {
            line += n;
            size -= (size_t)n;
        }
    }
}

static bool takes(int fd, int wait_ms)
{
    struct pollfd it = {.fd = fd, .events = POLLOUT};
    return poll(&it, 1, wait_ms) == 1 && (it.revents & POLLOUT) != 0;
}

static bool takes_soon(int fd)
{
    for (unsigned tries = 0; tries < WAIT_TRIES; tries++)
        if (takes(fd, WAIT_MS))
            return true;
    return false;
}

static bool has_token(struct log *log, uint64_t now_ns)
{
    uint64_t earned = now_ns > log->refilled_ns ? (now_ns - log->refilled_ns) / REFILL_NS : 0;
    if (earned >= BURST - log->tokens) {
        log->tokens = BURST;
        log->refilled_ns = now_ns;
    } else {
        log->tokens += (uint32_t)earned;
        log->refilled_ns += earned * REFILL_NS;
    }
    if (log->tokens == 0)
        return false;
    log->tokens--;
    return true;
}

/* Whether there is room for a line; else it is counted. */
static bool has_room(struct log *log, bool patient)
{
    bool room = patient && !log->stuck ? takes_soon(log->fd) : takes(log->fd, 0);
    log->stuck = !room && (patient || log->stuck);
    log->left_out += !room;
    return room;
}

__attribute__((format(printf, 2, 0))) static void tell(const struct log *log, const char *format, va_list arguments)
{
    char line[LINE_MOST];
    put(log->fd, line, compose(log, line, format, arguments));
}

static void confess(struct log *log)
{
    char line[LINE_MOST];
    if (log->left_out == 0 || !takes(log->fd, 0))
        return;
    int n = snprintf(line, sizeof line, "%s: %llu lines left out\n", log->name, (unsigned long long)log->left_out);
    put(log->fd, line, n < 0 ? 0 : (size_t)n);
    log->left_out = 0;
}

void log_line(struct log *log, enum log_level level, uint64_t now_ns, const char *format, ...)
{
    if (!log_wants(log, level))
        return;
    if (!has_token(log, now_ns)) {
        log->left_out++;
        return;
    }
    if (!has_room(log, false))
        return;
    va_list arguments;
    va_start(arguments, format);
    tell(log, format, arguments);
    va_end(arguments);
    confess(log);
}

void log_report(struct log *log, const char *format, ...)
{
    if (!has_room(log, false))
        return;
    va_list arguments;
    va_start(arguments, format);
    tell(log, format, arguments);
    va_end(arguments);
}

void log_always(struct log *log, const char *format, ...)
{
    if (!has_room(log, true))
        return;
    va_list arguments;
    va_start(arguments, format);
    tell(log, format, arguments);
    va_end(arguments);
    confess(log);
}

/* The escape of one byte, at most four characters; returns how many. */
static size_t escape_byte(char out[5], uint8_t byte)
{
    static const char hex[] = "0123456789abcdef";
    static const char special[] = "\n\r\t\\\"", letters[] = "nrt\\\"";
    const char *found = byte ? strchr(special, byte) : NULL;
    if (found) {
        out[0] = '\\';
        out[1] = letters[found - special];
        return 2;
    }
    if (byte >= 0x20 && byte < 0x7f) {
        out[0] = (char)byte;
        return 1;
    }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[byte >> 4];
    out[3] = hex[byte & 15];
    return 4;
}

size_t log_escape(char *out, size_t size, const void *bytes, size_t count)
{
    const uint8_t *in = bytes;
    size_t n = 0, mark = 0; /* the dots go to the last place that leaves them room */
    for (size_t i = 0; i < count; i++) {
        char text[5];
        size_t k = escape_byte(text, in[i]);
        if (n + k >= size) {
            memcpy(out + mark, "...", 4);
            return mark + 3;
        }
        memcpy(out + n, text, k);
        n += k;
        if (n + 4 <= size)
            mark = n;
    }
    out[n] = '\0';
    return n;
}
