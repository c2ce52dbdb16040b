/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: what reversed and reverse read from their command lines. An input is two bytes and a text:
 *
 *     s,--listen,[::1]:80,--threads=4        the words of a line for reversed
 *     c,--connect-timeout,5s,unix:@name      the same for reverse
 *     a,[fe80::1%eth0]:80                    an address
 *     d,500ms                                a duration
 *     z,64KiB                                a size
 *     ||
 *     | the byte between words, of which each can be the one; an argument holds no NUL, so that one always is
 *     the kind; any other letter is s
 *
 * What is accepted, and as what, is held against a naive reading (cli_naive.h). It is then written out again, and the
 * text read again: the same must come of it. What is refused must leave the result as it was, and say why on one
 * printable line. Each line is read twice, with another one in between, so that nothing may stay behind.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "cli_naive.h"
#include "fuzz.h"

#define WORDS_MOST 64
#define TEXT_MOST  ((size_t)4096)
#define UNTOUCHED  0x55
#define LINE_ROOM  ((size_t)64 + sizeof(struct address))

/* ---- Memory ---- */

/* A string in memory of just its size, for a sanitizer to see a step beyond it. */
static char *own_string(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    REQUIRE(text);
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

static bool is_untouched(const void *memory, size_t size)
{
    const uint8_t *bytes = memory;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != UNTOUCHED)
            return false;
    return true;
}

/* ---- Addresses ---- */

static bool same_address(const struct address *a, const struct address *b)
{
    return a->kind == b->kind && a->port == b->port && strcmp(a->name, b->name) == 0;
}

static void print_address(const struct address *address, char out[LINE_ROOM])
{
    bool v6 = strchr(address->name, ':') != NULL;
    if (address->kind == ADDRESS_INET)
        snprintf(out, LINE_ROOM, v6 ? "[%s]:%u" : "%s:%u", address->name, (unsigned)address->port);
    else
        snprintf(out, LINE_ROOM, "unix:%s%s", address->kind == ADDRESS_UNIX ? "" : "@", address->name);
}

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (!isprint((unsigned char)*text) || *text == '\\' || *text == '"')
            return false;
    return true;
}

/* Resolved, where no name has to be looked up for it, and formatted; the latter is one printable line, whatever it was. */
static void check_format(const struct address *address, const char *text)
{
    struct sockaddr_storage at;
    struct in_addr v4;
    socklen_t length = 0;
    char *out = malloc(ADDRESS_TEXT_SIZE);
    REQUIRE(out);
    if (address->kind != ADDRESS_INET || inet_pton(AF_INET, address->name, &v4) == 1) {
        REQUIRE(!address_resolve(address, &at, &length));
        REQUIRE(length <= sizeof at);
        const char *shown = address_format(&at, length, out);
        for (const char *c = shown; *c; c++)
            REQUIRE(*c >= 0x20 && *c < 0x7f);
        if (is_plain(text))
            REQUIRE(strcmp(shown, text) == 0);
    }
    free(out);
}

static void check_address(const char *text)
{
    struct address *read = malloc(sizeof *read), naive, again;
    char line[LINE_ROOM];
    REQUIRE(read);
    memset(read, UNTOUCHED, sizeof *read);
    const char *wrong = address_parse(text, read);
    REQUIRE(!wrong == naive_address(text, &naive));
    if (wrong) {
        REQUIRE(wrong[0] != '\0' && is_untouched(read, sizeof *read));
    } else {
        REQUIRE(same_address(read, &naive));
        print_address(read, line);
        REQUIRE(!address_parse(line, &again) && same_address(read, &again));
        check_format(read, line);
    }
    free(read);
}

/* ---- Durations and sizes ---- */

static void check_duration(const char *text)
{
    static const uint64_t untouched = UINT64_C(0x5555555555555555);
    uint64_t read = untouched, naive = 0, again;
    const char *wrong = options_duration(text, &read);
    REQUIRE(!wrong == naive_duration(text, &naive));
    if (wrong) {
        REQUIRE(wrong[0] != '\0' && read == untouched);
        return;
    }
    char line[32];
    REQUIRE(read == naive);
    REQUIRE(read % 1000000 == 0);
    snprintf(line, sizeof line, "%" PRIu64 "ms", read / 1000000);
    REQUIRE(!options_duration(line, &again) && again == read);
}

static void check_size(const char *text, uint32_t least, uint32_t most)
{
    static const uint32_t untouched = UINT32_C(0x55555555);
    uint32_t read = untouched, naive = 0, again;
    const char *wrong = options_size(text, least, most, &read);
    REQUIRE(!wrong == naive_size(text, least, most, &naive));
    if (wrong) {
        REQUIRE(wrong[0] != '\0' && read == untouched);
        return;
    }
    char line[32];
    REQUIRE(read == naive);
    REQUIRE(read >= least && read <= most);
    snprintf(line, sizeof line, read % 1024 == 0 ? "%" PRIu32 "KiB" : "%" PRIu32,
             read % 1024 == 0 ? read / 1024 : read);
    REQUIRE(!options_size(line, least, most, &again) && again == read);
}

/* ---- Lines ---- */

struct line {
    int count;
    char *words[WORDS_MOST + 1];
};

/* The words between separators, the name of the program before them. */
static void split(struct line *line, const uint8_t *text, size_t size, uint8_t separator)
{
    size_t from = 0;
    line->count = 0;
    line->words[line->count++] = own_string((const uint8_t *)"program", 7);
    for (size_t i = 0; i <= size && line->count < WORDS_MOST; i++) {
        if (i < size && text[i] != separator && text[i] != '\0')
            continue;
        line->words[line->count++] = own_string(text + from, i - from);
        from = i + 1;
    }
    line->words[line->count] = NULL;
}

static void free_line(struct line *line)
{
    for (int i = 0; i < line->count; i++)
        free(line->words[i]);
}

static void check_error(const char error[OPTIONS_ERROR_SIZE])
{
    size_t size = strnlen(error, OPTIONS_ERROR_SIZE);
    REQUIRE(size > 0 && size < OPTIONS_ERROR_SIZE);
    for (size_t i = 0; i < size; i++)
        REQUIRE(error[i] >= 0x20 && error[i] < 0x7f);
}

static bool same_options(const struct options *a, const struct options *b)
{
    bool same = a->listen_count == b->listen_count && a->backend == b->backend && a->log_level == b->log_level &&
                a->threads == b->threads && a->max_connections == b->max_connections && a->max_frame == b->max_frame &&
                a->high_water == b->high_water && a->idle_ns == b->idle_ns && a->frame_ns == b->frame_ns &&
                a->send_ns == b->send_ns && a->drain_ns == b->drain_ns && a->spin_us == b->spin_us &&
                a->min_wait_us == b->min_wait_us && a->features_off == b->features_off;
    for (uint32_t i = 0; same && i < a->listen_count; i++)
        same = same_address(&a->listen[i], &b->listen[i]);
    return same;
}

static bool same_client(const struct client_options *a, const struct client_options *b)
{
    return same_address(&a->server, &b->server) && a->backend == b->backend && a->connect_ns == b->connect_ns;
}

static const char *backend_name(enum pro_backend_kind kind)
{
    REQUIRE(kind == PRO_BACKEND_AUTO || kind == PRO_BACKEND_IO_URING || kind == PRO_BACKEND_EPOLL);
    return kind == PRO_BACKEND_AUTO ? "auto" : kind == PRO_BACKEND_EPOLL ? "epoll" : "io_uring";
}

/* A line being written, each word in a row of its own. */
struct written {
    int count;
    char rows[WORDS_MOST][LINE_ROOM];
    char *words[WORDS_MOST + 1];
};

__attribute__((format(printf, 2, 3))) static void put(struct written *to, const char *format, ...)
{
    va_list arguments;
    REQUIRE(to->count < WORDS_MOST);
    char *row = to->rows[to->count];
    va_start(arguments, format);
    vsnprintf(row, LINE_ROOM, format, arguments);
    va_end(arguments);
    to->words[to->count++] = row;
    to->words[to->count] = NULL;
}

static void put_ms(struct written *to, const char *name, uint64_t ns)
{
    put(to, "%s=%" PRIu64 "ms", name, ns / 1000000);
}

/* A line that means `o`, in which each option is given. */
static void write_options(const struct options *o, struct written *to)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    char address[LINE_ROOM];
    to->count = 0;
    put(to, "reversed");
    for (uint32_t i = 0; i < o->listen_count; i++) {
        print_address(&o->listen[i], address);
        put(to, "--listen");
        put(to, "%s", address);
    }
    put(to, "--backend=%s", backend_name(o->backend));
    if (o->threads == 0)
        put(to, "--threads=auto");
    else
        put(to, "--threads=%" PRIu32, o->threads);
    if (o->max_connections > 0)
        put(to, "--max-connections=%" PRIu32, o->max_connections);
    put(to, "--max-frame=%" PRIu32, o->max_frame);
    put(to, "--high-water=%" PRIu32, o->high_water);
    put_ms(to, "--idle-timeout", o->idle_ns);
    put_ms(to, "--frame-timeout", o->frame_ns);
    put_ms(to, "--send-timeout", o->send_ns);
    put_ms(to, "--drain-timeout", o->drain_ns);
    put(to, "--spin=%" PRIu32 "us", o->spin_us);
    put(to, "--min-wait=%" PRIu32, o->min_wait_us);
    for (unsigned bit = 0; naive_features[bit]; bit++)
        if (o->features_off & UINT64_C(1) << bit)
            put(to, "--without=%s", naive_features[bit]);
    REQUIRE((size_t)o->log_level < sizeof levels / sizeof levels[0]);
    put(to, "--log-level=%s", levels[o->log_level]);
}

static void check_server(const struct line *line)
{
    static struct written written;
    static char *other[] = {(char *)(uintptr_t) "reversed", (char *)(uintptr_t) "--listen=unix:other",
                            (char *)(uintptr_t) "--threads=7", (char *)(uintptr_t) "--max-frame=77", NULL};
    struct options *read = malloc(sizeof *read), naive, again;
    char *error = malloc(OPTIONS_ERROR_SIZE), ignored[OPTIONS_ERROR_SIZE], error_again[OPTIONS_ERROR_SIZE];
    REQUIRE(read && error);
    memset(read, UNTOUCHED, sizeof *read);
    enum options_outcome outcome = options_read(line->count, line->words, read, error);
    REQUIRE(options_read(4, other, &again, ignored) == OPTIONS_RUN && again.threads == 7 && again.max_frame == 77);
    REQUIRE(options_read(line->count, line->words, &again, error_again) == outcome);
    REQUIRE(naive_options(line->count, line->words, &naive) == outcome);
    if (outcome == OPTIONS_RUN) {
        REQUIRE(same_options(read, &naive) && same_options(read, &again));
        write_options(read, &written);
        REQUIRE(options_read(written.count, written.words, &again, ignored) == OPTIONS_RUN);
        REQUIRE(same_options(read, &again));
    } else {
        REQUIRE(is_untouched(read, sizeof *read));
    }
    if (outcome == OPTIONS_ERROR) {
        check_error(error);
        REQUIRE(strcmp(error, error_again) == 0);
    }
    free(error);
    free(read);
}

static void check_client(const struct line *line)
{
    static struct written written;
    struct client_options *read = malloc(sizeof *read), naive, again;
    char *error = malloc(OPTIONS_ERROR_SIZE), ignored[OPTIONS_ERROR_SIZE], address[LINE_ROOM];
    REQUIRE(read && error);
    memset(read, UNTOUCHED, sizeof *read);
    enum options_outcome outcome = client_options_read(line->count, line->words, read, error);
    REQUIRE(naive_client_options(line->count, line->words, &naive) == outcome);
    if (outcome == OPTIONS_RUN) {
        REQUIRE(same_client(read, &naive));
        written.count = 0;
        put(&written, "reverse");
        put(&written, "--backend=%s", backend_name(read->backend));
        put_ms(&written, "--connect-timeout", read->connect_ns);
        print_address(&read->server, address);
        put(&written, "%s", address);
        REQUIRE(client_options_read(written.count, written.words, &again, ignored) == OPTIONS_RUN);
        REQUIRE(same_client(read, &again));
    } else {
        REQUIRE(is_untouched(read, sizeof *read));
    }
    if (outcome == OPTIONS_ERROR)
        check_error(error);
    free(error);
    free(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct line line;
    uint8_t kind = size > 0 ? data[0] : 's', separator = size > 1 ? data[1] : ',';
    size_t head = size < 2 ? size : 2;
    if (size > TEXT_MOST)
        return 0;
    split(&line, data + head, size - head, separator);
    switch (kind) {
    case 'a':
        check_address(line.words[1]);
        break;
    case 'd':
        check_duration(line.words[1]);
        break;
    case 'z':
        check_size(line.words[1], 1, UINT32_MAX);
        check_size(line.words[1], 1, 99999);
        check_size(line.words[1], 1000, 1 << 30);
        break;
    case 'c':
        check_client(&line);
        break;
    default:
        check_server(&line);
        break;
    }
    free_line(&line);
    return 0;
}
