/* SPDX-License-Identifier: MIT
 *
 * Lines for people, on standard error: one write each, rated by level, limited in number, and hardly ever a reason to
 * wait.
 *
 * A `struct log` belongs to one thread. It is handed the time, so that it knows no clock.
 */
#ifndef PROTO_LOG_H
#define PROTO_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
    const char *name; /* begins each line */
    int fd;
    enum log_level level; /* what is above it is not written */
    uint32_t tokens;      /* lines that may be written before the next refill */
    uint64_t refilled_ns; /* when it was last refilled */
    uint64_t left_out;    /* lines not written since the last that was, for want of tokens or of room in the pipe */
    bool stuck;           /* a line was waited for in vain, and none has gone since */
};

/* `name` is not copied. `now_ns` is the time on the clock of the later calls. */
void log_init(struct log *log, const char *name, int fd, enum log_level level, uint64_t now_ns);

/* Whether a line of that level would be written, limits aside: saves the work of composing it. */
bool log_wants(const struct log *log, enum log_level level);

/* Writes a line, or counts it as left out. A later line says how many were. */
__attribute__((format(printf, 4, 5))) void log_line(struct log *log, enum log_level level, uint64_t now_ns,
                                                    const char *format, ...);

/* Writes a line that was asked for, whatever the level and the tokens, unless the pipe is full. */
__attribute__((format(printf, 2, 3))) void log_report(struct log *log, const char *format, ...);

/* Writes a line whatever the level and the limits are: start lines, fatal errors. It waits up to a second for room, on a
 * descriptor that blocks and on one that does not, and then counts the line as left out; the next one is not waited for
 * unless a line has gone in between. */
__attribute__((format(printf, 2, 3))) void log_always(struct log *log, const char *format, ...);

/* Writes `count` bytes of somebody else's as printable ASCII, the rest as \n, \r, \t, \\, \" or \xNN, ending with
 * NUL; "..." stands for what does not fit into `size`, which is at least 4. Returns the length. */
size_t log_escape(char *out, size_t size, const void *bytes, size_t count);

#endif
