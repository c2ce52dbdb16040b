/* SPDX-License-Identifier: MIT
 *
 * Slow and plain. Texts are matched as patterns, numbers are compared as floating point before they are believed.
 */
#include "cli_naive.h"

#include <arpa/inet.h>
#include <fnmatch.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define DIGITS       "0123456789"
#define HOST_BYTES   DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._"
#define SECOND_NS    1000000000.0
#define DURATION_TOP (10000 * 3600 * SECOND_NS)

/* ---- Values ---- */

/* The number at the beginning of a text; what is too long for a number is more than anything. */
static bool number_at(const char *text, double *ret_value, const char **ret_end)
{
    size_t size = strspn(text, DIGITS);
    char copy[400];
    *ret_end = text + size;
    while (size > 1 && *text == '0') {
        text++;
        size--;
    }
    if (size == 0)
        return false;
    if (size > 15) {
        *ret_value = 1e30;
        return true;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    *ret_value = strtod(copy, NULL);
    return true;
}

/* A number from `least` to `most` and nothing else. */
static bool whole_number(const char *text, double least, double most, uint32_t *ret)
{
    const char *end;
    double value;
    if (!number_at(text, &value, &end) || *end != '\0' || value < least || value > most)
        return false;
    *ret = (uint32_t)value;
    return true;
}

bool naive_duration(const char *text, uint64_t *ret_ns)
{
    const char *end;
    double value, worth;
    if (!number_at(text, &value, &end))
        return false;
    if (strcmp(end, "ms") == 0)
        worth = SECOND_NS / 1000;
    else if (strcmp(end, "s") == 0)
        worth = SECOND_NS;
    else if (strcmp(end, "m") == 0)
        worth = SECOND_NS * 60;
    else if (strcmp(end, "h") == 0)
        worth = SECOND_NS * 3600;
    else if (*end == '\0' && value <= 0)
        worth = 0;
    else
        return false;
    if (value * worth > DURATION_TOP)
        return false;
    *ret_ns = (uint64_t)value * (uint64_t)worth;
    return true;
}

bool naive_size(const char *text, uint32_t least, uint32_t most, uint32_t *ret_bytes)
{
    const char *end;
    double value;
    if (!number_at(text, &value, &end))
        return false;
    if (strcmp(end, "KiB") == 0)
        value *= 1024;
    else if (strcmp(end, "MiB") == 0)
        value *= 1024 * 1024;
    else if (strcmp(end, "GiB") == 0)
        value *= 1024 * 1024 * 1024;
    else if (*end != '\0')
        return false;
    if (value < least || value > most)
        return false;
    *ret_bytes = (uint32_t)value;
    return true;
}

static bool in_brackets(const char *inner)
{
    char number[256];
    struct in6_addr bits;
    const char *zone = strchr(inner, '%');
    size_t size = zone ? (size_t)(zone - inner) : strlen(inner);
    if (zone && zone[1] == '\0')
        return false;
    memcpy(number, inner, size);
    number[size] = '\0';
    return inet_pton(AF_INET6, number, &bits) == 1;
}

/* host:port or [v6]:port. What is before the port is `size` bytes. */
static bool host_and_port(const char *text, size_t size, const char *port, struct address *ret)
{
    struct address found = {.kind = ADDRESS_INET};
    uint32_t number;
    bool brackets = text[0] == '[';
    if (brackets && (size < 2 || text[size - 1] != ']'))
        return false;
    if (brackets) {
        text++;
        size -= 2;
    }
    if (size == 0 || size > 253)
        return false;
    memcpy(found.name, text, size);
    if (brackets ? !in_brackets(found.name) : strspn(found.name, HOST_BYTES) != size)
        return false;
    if (!whole_number(port, 0, 65535, &number))
        return false;
    found.port = (uint16_t)number;
    *ret = found;
    return true;
}

bool naive_address(const char *text, struct address *ret)
{
    bool name = fnmatch("unix:@*", text, 0) == 0, path = !name && fnmatch("unix:*", text, 0) == 0;
    if (name || path) {
        const char *what = strchr(text, ':') + 1 + name;
        struct address found = {.kind = name ? ADDRESS_UNIX_ABSTRACT : ADDRESS_UNIX};
        size_t size = strlen(what);
        if (size < 1 || size > 107)
            return false;
        memcpy(found.name, what, size);
        *ret = found;
        return true;
    }
    const char *colon = strrchr(text, ':');
    if (!colon || (text[0] == '[' && memchr(text, ']', (size_t)(colon - text)) != colon - 1))
        return false;
    return host_and_port(text, (size_t)(colon - text), colon + 1, ret);
}

static bool one_of(const char *text, const char *const names[], int *ret)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool naive_backend(const char *text, enum pro_backend_kind *ret)
{
    static const char *const names[] = {"auto", "io_uring", "epoll", NULL};
    static const enum pro_backend_kind kinds[] = {PRO_BACKEND_AUTO, PRO_BACKEND_IO_URING, PRO_BACKEND_EPOLL};
    int which;
    if (!one_of(text, names, &which))
        return false;
    *ret = kinds[which];
    return true;
}

/* ---- Lines ---- */

/* Whether an argument is the option `name`. Then its value is what is behind '=', or the next argument, or NULL. */
static bool is_option(char *const argv[], int left, const char *name, const char **ret_value, int *ret_used)
{
    size_t size = strlen(name);
    if (strncmp(argv[0], name, size) != 0 || (argv[0][size] != '\0' && argv[0][size] != '='))
        return false;
    *ret_used = argv[0][size] == '=' ? 1 : 2;
    *ret_value = argv[0][size] == '=' ? argv[0] + size + 1 : left > 1 ? argv[1] : NULL;
    return true;
}

static bool asks(const char *argument, enum options_outcome *ret)
{
    if (strcmp(argument, "--version") == 0)
        *ret = OPTIONS_VERSION;
    else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0)
        *ret = OPTIONS_HELP;
    else
        return false;
    return true;
}

static bool read_listen(struct options *o, const char *text)
{
    return o->listen_count < 16 && naive_address(text, &o->listen[o->listen_count]) && ++o->listen_count > 0;
}

static bool read_threads(struct options *o, const char *text)
{
    if (strcmp(text, "auto") != 0)
        return whole_number(text, 1, 256, &o->threads);
    o->threads = 0;
    return true;
}

static bool read_moment(const char *text, uint32_t *ret_us)
{
    const char *end;
    double value;
    if (!number_at(text, &value, &end))
        return false;
    if (strcmp(end, "ms") == 0)
        value *= 1000;
    else if (strcmp(end, "s") == 0)
        value *= 1000000;
    else if (strcmp(end, "us") != 0 && *end != '\0')
        return false;
    if (value > 1000000)
        return false;
    *ret_us = (uint32_t)value;
    return true;
}

static bool read_level(struct options *o, const char *text)
{
    static const char *const names[] = {"error", "warn", "info", "debug", NULL};
    int which;
    if (!one_of(text, names, &which))
        return false;
    o->log_level = (enum log_level)which;
    return true;
}

/* In the order of their bits. */
const char *const naive_features[] = {
    "defer_taskrun",    "single_issuer", "submit_all", "buffer_ring",     "recv_multishot",
    "accept_multishot", "skip_success",  "min_wait",   "registered_ring", NULL};

static bool read_without(struct options *o, const char *text)
{
    int which;
    if (!one_of(text, naive_features, &which))
        return false;
    o->features_off |= UINT64_C(1) << which;
    return true;
}

/* The value of an option, by its place in the list of names below. */
static bool read_value(struct options *o, int which, const char *text)
{
    switch (which) {
    case 0:
        return read_listen(o, text);
    case 1:
        return naive_backend(text, &o->backend);
    case 2:
        return read_threads(o, text);
    case 3:
        return whole_number(text, 1, 10000000, &o->max_connections);
    case 4:
        return naive_size(text, 1, 99999, &o->max_frame);
    case 5:
        return naive_duration(text, &o->idle_ns);
    case 6:
        return naive_duration(text, &o->frame_ns);
    case 7:
        return naive_duration(text, &o->send_ns);
    case 8:
        return naive_duration(text, &o->drain_ns);
    case 9:
        return naive_size(text, 1, 1 << 30, &o->high_water);
    case 10:
        return read_moment(text, &o->spin_us);
    case 11:
        return read_moment(text, &o->min_wait_us);
    case 12:
        return read_without(o, text);
    default:
        return read_level(o, text);
    }
}

static const char *const server_names[] = {
    "--listen",       "--backend",       "--threads",      "--max-connections", "--max-frame",
    "--idle-timeout", "--frame-timeout", "--send-timeout", "--drain-timeout",   "--high-water",
    "--spin",         "--min-wait",      "--without",      "--log-level",       NULL};

enum options_outcome naive_options(int argc, char *const argv[], struct options *ret)
{
    struct options o = {.backend = PRO_BACKEND_AUTO,
                        .log_level = LOG_INFO,
                        .threads = 1,
                        .max_frame = 99999,
                        .high_water = 1048576,
                        .idle_ns = 60000000000,
                        .frame_ns = 10000000000,
                        .send_ns = 30000000000,
                        .drain_ns = 10000000000};
    enum options_outcome outcome;
    const char *value;
    for (int i = 1, used = 1; i < argc; i += used) {
        int which = 0;
        if (asks(argv[i], &outcome))
            return outcome;
        while (server_names[which] && !is_option(argv + i, argc - i, server_names[which], &value, &used))
            which++;
        if (!server_names[which] || !value || !read_value(&o, which, value))
            return OPTIONS_ERROR;
    }
    if (o.listen_count == 0)
        REQUIRE(read_listen(&o, "127.0.0.1:6789"));
    if (o.max_connections > 0 && o.max_connections < o.threads)
        return OPTIONS_ERROR;
    *ret = o;
    return OPTIONS_RUN;
}

enum options_outcome naive_client_options(int argc, char *const argv[], struct client_options *ret)
{
    struct client_options o = {.backend = PRO_BACKEND_AUTO, .connect_ns = 10000000000};
    enum options_outcome outcome;
    const char *value, *where = NULL;
    for (int i = 1, used = 1; i < argc; i += used) {
        bool good;
        if (asks(argv[i], &outcome))
            return outcome;
        used = 1;
        if (argv[i][0] != '-') {
            good = where == NULL;
            where = argv[i];
        } else if (is_option(argv + i, argc - i, "--backend", &value, &used)) {
            good = value && naive_backend(value, &o.backend);
        } else {
            good = is_option(argv + i, argc - i, "--connect-timeout", &value, &used) && value &&
                   naive_duration(value, &o.connect_ns);
        }
        if (!good)
            return OPTIONS_ERROR;
    }
    if (!naive_address(where ? where : "127.0.0.1:6789", &o.server))
        return OPTIONS_ERROR;
    *ret = o;
    return OPTIONS_RUN;
}
