/* SPDX-License-Identifier: MIT
 *
 * Command lines, addresses, durations, sizes, the escaping of other people's bytes, and a log that nobody reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "options.h"

/* Splits `line` at spaces and reads it; words stay put until the next call. */
static enum options_outcome read_line(const char *line, struct options *ret, char *error)
{
    static char copy[1024];
    char *words[64] = {(char *)(uintptr_t) "reversed"}, *rest = copy;
    int count = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word)
            words[count++] = word;
    return options_read(count, words, ret, error);
}

static struct options accept_line(const char *line)
{
    struct options o;
    char error[OPTIONS_ERROR_SIZE] = "";
    if (read_line(line, &o, error) != OPTIONS_RUN)
        fail_msg("%s: %s", line, error);
    return o;
}

static void refuse_line(const char *line, const char *says)
{
    struct options o, untouched;
    char error[OPTIONS_ERROR_SIZE] = "";
    memset(&o, 0x55, sizeof o);
    memset(&untouched, 0x55, sizeof untouched);
    assert_int_equal(read_line(line, &o, error), OPTIONS_ERROR);
    if (strcmp(error, says) != 0)
        fail_msg("\"%s\" says: %s\ninstead of: %s", line, error, says);
    assert_memory_equal(&o, &untouched, sizeof o);
}

static void options_when_none_are_given_have_the_defaults(void **state)
{
    (void)state;
    struct options o = accept_line("");
    assert_int_equal(o.listen_count, 1);
    assert_int_equal(o.listen[0].kind, ADDRESS_INET);
    assert_string_equal(o.listen[0].name, "127.0.0.1");
    assert_int_equal(o.listen[0].port, 6789);
    assert_int_equal(o.backend, PRO_BACKEND_AUTO);
    assert_int_equal(o.log_level, LOG_INFO);
    assert_int_equal(o.threads, 1);
    assert_int_equal(o.max_connections, 0);
    assert_int_equal(o.max_frame, 99999);
    assert_int_equal(o.high_water, 1 << 20);
    assert_int_equal(o.idle_ns, 60000000000);
    assert_int_equal(o.frame_ns, 10000000000);
    assert_int_equal(o.send_ns, 30000000000);
    assert_int_equal(o.drain_ns, 10000000000);
    assert_int_equal(o.spin_us, 0);
    assert_int_equal(o.min_wait_us, 0);
}

static void options_when_given_are_all_read(void **state)
{
    (void)state;
    struct options o = accept_line("--listen 0.0.0.0:1 --listen=[::1]:2 --listen unix:/a:b --listen unix:@c "
                                   "--backend io_uring --threads 3 --max-connections 77 --max-frame 4KiB "
                                   "--idle-timeout 1h --frame-timeout=2m --send-timeout 3s --drain-timeout 4ms "
                                   "--high-water 5MiB --spin 50us --min-wait=10 --log-level debug");
    assert_int_equal(o.listen_count, 4);
    assert_int_equal(o.listen[0].port, 1);
    assert_string_equal(o.listen[1].name, "::1");
    assert_int_equal(o.listen[1].port, 2);
    assert_int_equal(o.listen[2].kind, ADDRESS_UNIX);
    assert_string_equal(o.listen[2].name, "/a:b");
    assert_int_equal(o.listen[3].kind, ADDRESS_UNIX_ABSTRACT);
    assert_string_equal(o.listen[3].name, "c");
    assert_int_equal(o.backend, PRO_BACKEND_IO_URING);
    assert_int_equal(o.threads, 3);
    assert_int_equal(o.max_connections, 77);
    assert_int_equal(o.max_frame, 4096);
    assert_int_equal(o.idle_ns, 3600000000000);
    assert_int_equal(o.frame_ns, 120000000000);
    assert_int_equal(o.send_ns, 3000000000);
    assert_int_equal(o.drain_ns, 4000000);
    assert_int_equal(o.high_water, 5 << 20);
    assert_int_equal(o.spin_us, 50);
    assert_int_equal(o.min_wait_us, 10);
    assert_int_equal(o.features_off, 0);
    struct options without = accept_line("--without skip_success --without=registered_ring");
    assert_int_equal(without.features_off, PRO_FEATURE_SKIP_SUCCESS | PRO_FEATURE_REGISTERED_RING);
    assert_int_equal(o.log_level, LOG_DEBUG);
    assert_int_equal(accept_line("--threads auto").threads, 0);
    assert_int_equal(accept_line("--threads 2 --threads 4").threads, 4); /* the last one counts */
    assert_int_equal(accept_line("--idle-timeout 0").idle_ns, 0);
}

static void options_when_wrong_are_refused_by_name(void **state)
{
    (void)state;
    refuse_line("--thread 2", "--thread: there is no such option; --help lists them");
    refuse_line("--threads", "--threads: needs a value");
    refuse_line("--threads=", "--threads : must be from 1 to 256, or auto");
    refuse_line("--threads 257", "--threads 257: must be from 1 to 256, or auto");
    refuse_line("--threads 2x", "--threads 2x: must be from 1 to 256, or auto");
    refuse_line("--max-connections 0", "--max-connections 0: must be a number from 1 to 10000000");
    refuse_line("--max-connections 99999999999999999999",
                "--max-connections 99999999999999999999: must be a number from 1 to 10000000");
    refuse_line("--max-frame 0", "--max-frame 0: must be from 1 to 99999 bytes");
    refuse_line("--max-frame 1GiB", "--max-frame 1GiB: must be from 1 to 99999 bytes");
    refuse_line("--high-water 0", "--high-water 0: must be from 1 byte to 1GiB, such as 65536 or 64KiB");
    refuse_line("--high-water 2GiB", "--high-water 2GiB: must be from 1 byte to 1GiB, such as 65536 or 64KiB");
    refuse_line("--high-water 5000000000",
                "--high-water 5000000000: must be from 1 byte to 1GiB, such as 65536 or 64KiB");
    refuse_line("--high-water MiB", "--high-water MiB: must be from 1 byte to 1GiB, such as 65536 or 64KiB");
    refuse_line("--idle-timeout 10001h", "--idle-timeout 10001h: is over 10000h");
    refuse_line("--idle-timeout 99999999999999999999h", "--idle-timeout 99999999999999999999h: is over 10000h");
    refuse_line("--idle-timeout 99999999999999999999",
                "--idle-timeout 99999999999999999999: is no duration such as 500ms, 30s, 2m, 1h or 0");
    refuse_line("--spin 2s", "--spin 2s: must be from 0 to 1s, such as 50us");
    refuse_line("--without luck", "--without luck: is no feature of io_uring that is known here, such as skip_success");
    refuse_line("--min-wait x", "--min-wait x: must be from 0 to 1s, such as 50us");
    refuse_line("--log-level", "--log-level: needs a value");
    refuse_line("--backend uring", "--backend uring: must be auto, io_uring or epoll");
    refuse_line("x\ny\x7f\xff", "x\\ny\\x7f\\xff: there is no such option; --help lists them");
    refuse_line("-", "-: there is no such option; --help lists them");
    refuse_line("--threads 4 --max-connections 3",
                "--max-connections: must be at least --threads (4), so that each thread has one");
}

static void options_when_addresses_are_too_many_are_refused(void **state)
{
    (void)state;
    char line[512] = "";
    for (unsigned i = 0; i < OPTIONS_LISTEN_MOST; i++)
        strcat(line, " --listen a:1");
    assert_int_equal(accept_line(line).listen_count, OPTIONS_LISTEN_MOST);
    strcat(line, " --listen b:1");
    refuse_line(line, "--listen b:1: is one address too many, 16 are taken");
}

static void options_when_help_is_among_them_ask_for_it(void **state)
{
    (void)state;
    struct options o;
    char error[OPTIONS_ERROR_SIZE];
    assert_int_equal(read_line("--help", &o, error), OPTIONS_HELP);
    assert_int_equal(read_line("--threads 2 -h --nonsense", &o, error), OPTIONS_HELP);
    assert_int_equal(read_line("--version", &o, error), OPTIONS_VERSION);
    assert_int_equal(read_line("--nonsense --help", &o, error), OPTIONS_ERROR);
    static const char *const names[] = {
        "--listen",        "--backend",      "--threads",       "--max-connections", "--max-frame", "--idle-timeout",
        "--frame-timeout", "--send-timeout", "--drain-timeout", "--high-water",      "--log-level", "--version",
        "--help",          "--spin",         "--min-wait",      "--without",         "-h,"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_non_null(strstr(options_help, names[i]));
    assert_non_null(strstr(client_options_help, "-h, --help"));
}

/* A long word must neither overrun the message nor the name that it is taken apart into. */
static void options_when_words_are_long_keep_to_their_buffers(void **state)
{
    (void)state;
    struct options o;
    char word[5000], *words[] = {(char *)(uintptr_t) "reversed", word, NULL};
    for (size_t size = 1; size < sizeof word; size += size < 300 ? 1 : 97) {
        char error[OPTIONS_ERROR_SIZE + 8];
        memset(error, 'E', sizeof error);
        memset(word, '\x01', size);
        word[0] = '-';
        word[size] = '\0';
        assert_int_equal(options_read(2, words, &o, error), OPTIONS_ERROR);
        assert_non_null(memchr(error, '\0', OPTIONS_ERROR_SIZE));
        assert_memory_equal(error + OPTIONS_ERROR_SIZE, "EEEEEEEE", 8);
    }
}

static void client_options_when_read_take_one_address(void **state)
{
    (void)state;
    struct client_options o;
    char error[OPTIONS_ERROR_SIZE];
    char *none[] = {(char *)(uintptr_t) "reverse"};
    char *one[] = {none[0], (char *)(uintptr_t) "unix:@x", (char *)(uintptr_t) "--connect-timeout=5ms",
                   (char *)(uintptr_t) "--backend", (char *)(uintptr_t) "epoll"};
    char *two[] = {none[0], (char *)(uintptr_t) "a:1", (char *)(uintptr_t) "b:2"};
    char *bad[] = {none[0], (char *)(uintptr_t) "a"};
    assert_int_equal(client_options_read(1, none, &o, error), OPTIONS_RUN);
    assert_string_equal(o.server.name, "127.0.0.1");
    assert_int_equal(o.server.port, 6789);
    assert_int_equal(client_options_read(5, one, &o, error), OPTIONS_RUN);
    assert_int_equal(o.server.kind, ADDRESS_UNIX_ABSTRACT);
    assert_int_equal(o.connect_ns, 5000000);
    assert_int_equal(o.backend, PRO_BACKEND_EPOLL);
    assert_int_equal(client_options_read(4, one, &o, error), OPTIONS_ERROR);
    assert_string_equal(error, "--backend: needs a value");
    assert_int_equal(client_options_read(3, two, &o, error), OPTIONS_ERROR);
    assert_string_equal(error, "b:2: is one address too many");
    assert_int_equal(client_options_read(2, bad, &o, error), OPTIONS_ERROR);
    assert_string_equal(error, "a: no port is given, as in 127.0.0.1:6789");
}

/* ---- Values ---- */

static void durations_when_read_are_exact_or_refused(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"0", 0},
        {"00", 0},
        {"0s", 0},
        {"1ms", 1000000},
        {"500ms", 500000000},
        {"30s", 30000000000},
        {"2m", 120000000000},
        {"1h", 3600000000000},
        {"10000h", 36000000000000000},
        {"007s", 7000000000},
        {"36000000000ms", 36000000000000000},
    };
    static const char *const bad[] = {"",
                                      "5",
                                      "s",
                                      "-1s",
                                      "+1s",
                                      " 1s",
                                      "1 s",
                                      "1s ",
                                      "1.5s",
                                      "1S",
                                      "1min",
                                      "1us",
                                      "1ns",
                                      "0x10s",
                                      "10001h",
                                      "36000000001ms",
                                      "18446744073709551616ms",
                                      "99999999999999999999h",
                                      "1ss",
                                      "1\n"};
    (void)state;
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t ns = 1;
        assert_null(options_duration(good[i].text, &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t ns = 77;
        if (!options_duration(bad[i], &ns))
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(ns, 77);
    }
}

static void moments_when_read_are_exact_or_refused(void **state)
{
    static const struct {
        const char *text;
        uint32_t us;
    } good[] = {{"0", 0},        {"0ms", 0},         {"50", 50},          {"50us", 50},          {"1ms", 1000},
                {"1s", 1000000}, {"0001s", 1000000}, {"1000ms", 1000000}, {"1000000us", 1000000}};
    static const char *const bad[] = {"",    "us",   "-1",  "1.5ms",      "1 us",
                                      "1ns", "1m",   "2s",  "1001ms",     "1000001",
                                      "1ss", "1us ", "0x1", "4294967297", "18446744073709551616us"};
    (void)state;
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint32_t us = 77;
        assert_null(options_moment(good[i].text, &us));
        assert_int_equal(us, good[i].us);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint32_t us = 77;
        if (!options_moment(bad[i], &us))
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(us, 77);
    }
}

static void sizes_when_read_are_exact_or_refused(void **state)
{
    (void)state;
    uint32_t n = 77;
    assert_null(options_size("1", 1, UINT32_MAX, &n));
    assert_int_equal(n, 1);
    assert_null(options_size("4294967295", 1, UINT32_MAX, &n));
    assert_int_equal(n, UINT32_MAX);
    assert_null(options_size("3GiB", 1, UINT32_MAX, &n));
    assert_int_equal(n, UINT32_C(3) << 30);
    static const char *const bad[] = {
        "",      "4294967296",           "4GiB",          "0",    "1kb",      "1K", "1KIB", "KiB", "-1", "1.5MiB",
        "1 KiB", "99999999999999999999", "4294967295KiB", "0x10", "1\xc2\xa0"};
    n = 77;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (!options_size(bad[i], 1, UINT32_MAX, &n))
            fail_msg("%s was taken", bad[i]);
    assert_int_equal(n, 77);
    assert_string_equal(options_size("9", 10, 20, &n), "is too small");
    assert_string_equal(options_size("21", 10, 20, &n), "is too big");
    assert_string_equal(options_size("99999999999999999999MiB", 10, 20, &n), "is too big");
    assert_null(options_size("4KiB", 4096, 4096, &n));
    assert_int_equal(n, 4096);
}

/* ---- Addresses ---- */

static void addresses_when_wrong_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      ":",
                                      ":80",
                                      "host",
                                      "host:",
                                      "host:x",
                                      "host:-1",
                                      "host:65536",
                                      "host:99999999999",
                                      "ho st:1",
                                      "host/:1",
                                      "host:80:80",
                                      "::1:80",
                                      "[::1]",
                                      "[::1]80",
                                      "[::1]:",
                                      "[::1:80",
                                      "[]:80",
                                      "[1.2.3.4]:80",
                                      "[::g]:80",
                                      "[::1%]:80",
                                      "unix:",
                                      "unix:@",
                                      "host\x80:1",
                                      "[::1]:65536"};
    (void)state;
    struct address address, untouched;
    memset(&untouched, 0x55, sizeof untouched);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        address = untouched;
        if (!address_parse(bad[i], &address))
            fail_msg("\"%s\" was taken", bad[i]);
        assert_memory_equal(&address, &untouched, sizeof address);
    }
    char text[400] = "unix:/";
    memset(text + 6, 'p', 106);
    assert_null(address_parse(text, &address));
    strcat(text, "q");
    assert_string_equal(address_parse(text, &address), "the path is over 107 bytes");
    memset(text, 'h', 300);
    strcpy(text + 253, ":1");
    assert_null(address_parse(text, &address));
    strcpy(text + 253, "h:1");
    assert_string_equal(address_parse(text, &address), "the host is over 253 bytes");
    text[0] = '[';
    strcpy(text + 300, "]:1");
    assert_non_null(address_parse(text, &address));
}

/* What is parsed, resolved and formatted again is what it was. */
static void addresses_when_formatted_read_as_they_were_written(void **state)
{
    static const char *const texts[] = {"127.0.0.1:0",      "255.255.255.255:65535", "[::1]:6789", "[fe80::1]:80",
                                        "unix:/run/x.sock", "unix:relative",         "unix:@name", "unix:@a:b@c"};
    (void)state;
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct address address;
        struct sockaddr_storage at;
        socklen_t length = 0;
        char text[ADDRESS_TEXT_SIZE];
        assert_null(address_parse(texts[i], &address));
        assert_null(address_resolve(&address, &at, &length));
        assert_string_equal(address_format(&at, length, text), texts[i]);
    }
}

static void addresses_when_hostile_are_formatted_escaped(void **state)
{
    (void)state;
    struct sockaddr_storage at = {0};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char text[ADDRESS_TEXT_SIZE];
    memcpy(&at, &un, sizeof un);
    assert_string_equal(address_format(&at, offsetof(struct sockaddr_un, sun_path), text), "unix:");
    memcpy(un.sun_path, "\0\x1b[2J\n\0x", 8);
    memcpy(&at, &un, sizeof un);
    assert_string_equal(address_format(&at, offsetof(struct sockaddr_un, sun_path) + 8, text),
                        "unix:@\\x1b[2J\\n\\x00x");
    memset(un.sun_path, 0xff, sizeof un.sun_path); /* without a NUL, all of it to be escaped */
    memcpy(&at, &un, sizeof un);
    address_format(&at, sizeof un, text);
    assert_true(strlen(text) < sizeof text);
    assert_string_equal(text + strlen(text) - 3, "...");
    at.ss_family = AF_INET;
    assert_string_equal(address_format(&at, 2, text), "unknown");
    at.ss_family = 0;
    assert_string_equal(address_format(&at, sizeof at, text), "unknown");
}

/* ---- Escaping ---- */

static void escape_when_it_fits_is_whole_and_else_ends_with_dots(void **state)
{
    (void)state;
    uint8_t bytes[256];
    char out[1100];
    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    size_t whole = log_escape(out, sizeof out, bytes, 256);
    assert_int_equal(whole, strlen(out));
    for (size_t i = 0; i < whole; i++)
        assert_true(out[i] >= 0x20 && out[i] < 0x7f);
    assert_non_null(strstr(out, "\\x00\\x01"));
    assert_non_null(strstr(out, "\\t\\n\\x0b\\x0c\\r"));
    assert_non_null(strstr(out, "!\\\"#"));
    assert_non_null(strstr(out, "[\\\\]"));
    assert_non_null(strstr(out, "~\\x7f\\x80"));
    for (size_t size = 4; size <= whole + 2; size++) {
        char small[1100];
        memset(small, 'E', sizeof small);
        size_t n = log_escape(small, size, bytes, 256);
        assert_true(n < size);
        assert_int_equal(small[n], '\0');
        assert_int_equal(small[size], 'E');
        if (size > whole)
            assert_string_equal(small, out);
        else
            assert_true(n >= 3 && strcmp(small + n - 3, "...") == 0 && memcmp(small, out, n - 3) == 0);
    }
    assert_int_equal(log_escape(out, 4, bytes, 0), 0);
    assert_string_equal(out, "");
}

/* ---- Noise ---- */

/* Random words made of what options are made of: nothing may crash, and what is taken is in range. */
static void options_when_random_are_read_or_refused_but_never_believed(void **state)
{
    static const char *const parts[] = {"--listen",
                                        "--backend",
                                        "--threads",
                                        "--max-connections",
                                        "--max-frame",
                                        "--idle-timeout",
                                        "--high-water",
                                        "--log-level",
                                        "--spin",
                                        "--min-wait",
                                        "--without",
                                        "us",
                                        "=",
                                        "auto",
                                        "epoll",
                                        "1",
                                        "0",
                                        "9",
                                        "99999999",
                                        "s",
                                        "ms",
                                        "KiB",
                                        "GiB",
                                        ":",
                                        "[",
                                        "]",
                                        "::1",
                                        "unix:",
                                        "@",
                                        "/",
                                        "-",
                                        "%",
                                        "\xff",
                                        "debug",
                                        "127.0.0.1:80",
                                        ""};
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 200000; round++) {
        char words[8][96], *argv[9] = {(char *)(uintptr_t) "reversed"};
        int argc = 1 + rand() % 8;
        for (int i = 1; i < argc; i++) {
            size_t n = 0;
            words[i - 1][0] = '\0';
            for (int k = 1 + rand() % 4; k > 0; k--)
                n += (size_t)snprintf(words[i - 1] + n, sizeof words[0] - n, "%s",
                                      parts[(unsigned)rand() % (sizeof parts / sizeof parts[0])]);
            argv[i] = words[i - 1];
        }
        struct options o;
        struct client_options c;
        char error[OPTIONS_ERROR_SIZE];
        if (options_read(argc, argv, &o, error) == OPTIONS_RUN) {
            assert_true(o.listen_count >= 1 && o.listen_count <= OPTIONS_LISTEN_MOST);
            assert_true(o.threads <= OPTIONS_THREADS_MOST);
            assert_true(o.spin_us <= 1000000 && o.min_wait_us <= 1000000);
            assert_true(o.max_frame >= 1 && o.max_frame <= 99999 && o.high_water >= 1);
        }
        (void)client_options_read(argc, argv, &c, error);
    }
}

/* ---- The log ---- */

/* A pipe that is full, and does not block if so wanted. */
static void fill_pipe(int fds[2], int flags)
{
    static const char piece[4096];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(fds[1], piece, sizeof piece) > 0) {
    }
    assert_int_equal(fcntl(fds[1], F_SETFL, flags), 0);
}

/* What is in the pipe behind what filled it, after it has been read. */
static const char *empty_pipe(int fd)
{
    static char text[1 << 20];
    ssize_t n;
    size_t size = 0, zeros = 0;
    while ((n = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)n;
    text[size] = '\0';
    while (zeros < size && text[zeros] == '\0')
        zeros++;
    return text + zeros;
}

static void log_when_nobody_reads_gives_its_line_up(void **state)
{
    (void)state;
    for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
        int fds[2];
        struct log log;
        fill_pipe(fds, flags);
        log_init(&log, "test", fds[1], LOG_INFO, 0);
        log_always(&log, "first");
        for (unsigned i = 0; i < 200; i++) /* not a second each: the whole program has a minute */
            log_always(&log, "more");
        assert_string_equal(empty_pipe(fds[0]), "");
        log_always(&log, "last");
        assert_string_equal(empty_pipe(fds[0]), "test: last\ntest: 201 lines left out\n");
        close(fds[0]);
        close(fds[1]);
    }
}

static void *empty_late(void *argument)
{
    static char text[1 << 20];
    usleep(20000);
    assert_true(read(*(int *)argument, text, sizeof text) > 0);
    return NULL;
}

static void log_when_somebody_reads_late_waits(void **state)
{
    (void)state;
    for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
        int fds[2];
        struct log log;
        pthread_t thread;
        fill_pipe(fds, flags);
        log_init(&log, "test", fds[1], LOG_INFO, 0);
        assert_int_equal(pthread_create(&thread, NULL, empty_late, &fds[0]), 0);
        log_always(&log, "here");
        pthread_join(thread, NULL);
        assert_string_equal(empty_pipe(fds[0]), "test: here\n");
        close(fds[0]);
        close(fds[1]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_when_none_are_given_have_the_defaults),
        cmocka_unit_test(options_when_given_are_all_read),
        cmocka_unit_test(options_when_wrong_are_refused_by_name),
        cmocka_unit_test(options_when_addresses_are_too_many_are_refused),
        cmocka_unit_test(options_when_help_is_among_them_ask_for_it),
        cmocka_unit_test(options_when_words_are_long_keep_to_their_buffers),
        cmocka_unit_test(client_options_when_read_take_one_address),
        cmocka_unit_test(durations_when_read_are_exact_or_refused),
        cmocka_unit_test(moments_when_read_are_exact_or_refused),
        cmocka_unit_test(sizes_when_read_are_exact_or_refused),
        cmocka_unit_test(addresses_when_wrong_are_refused),
        cmocka_unit_test(addresses_when_formatted_read_as_they_were_written),
        cmocka_unit_test(addresses_when_hostile_are_formatted_escaped),
        cmocka_unit_test(escape_when_it_fits_is_whole_and_else_ends_with_dots),
        cmocka_unit_test(log_when_nobody_reads_gives_its_line_up),
        cmocka_unit_test(log_when_somebody_reads_late_waits),
        cmocka_unit_test(options_when_random_are_read_or_refused_but_never_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
