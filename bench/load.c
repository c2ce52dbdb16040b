/* SPDX-License-Identifier: MIT
 *
 * The load generator of the bench: command line, connections, and what is said at the end.
 *
 *     load PORT [OPTION...]          load_run.c: closed loop, open loop or churn; one line of JSON on standard output
 *     load PORT --check              load_check.c: is the server right at all?
 *     load PORT --idle N --hold      connections that stand there, for memory to be looked at
 */
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* One source address has 28,000 ports, and a closed connection keeps its port for a second or more. */
#define SOURCES 64

enum { IDLE_AT_ONCE = 256 };

static const char usage[] = "usage: load PORT [OPTION...]\n"
                            "  --connections N   default 64\n"
                            "  --depth N         requests in flight on each, default 1\n"
                            "  --size BYTES      of a payload, default 64\n"
                            "  --mix             payloads of 16 bytes to 64 KiB, most of them small\n"
                            "  --rate N          open loop: N requests/s, whatever the answers do\n"
                            "  --churn           connect, ask, close; over and over on each connection\n"
                            "  --idle N          that many connections more, which ask once and stay\n"
                            "  --seconds S       measured, default 3\n"
                            "  --warmup S        before that, default 0.5\n"
                            "  --server PID      tell its CPU time as well\n"
                            "  --syscalls        count its system calls as well\n"
                            "  --hold            with --idle: say `ready`, wait for the end of standard input\n"
                            "  --check           see whether the server is right, no matter how fast\n"
                            "  --seed N          of random bytes and sizes, default 1\n"
                            "  --quiet           no progress on standard error\n";

void load_die(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "load: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(1);
}

uint64_t load_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int load_connect(uint16_t port, uint32_t source)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + source % SOURCES)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0 ||
        bind(fd, (struct sockaddr *)&from, sizeof from) < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

/* Many at a time: a server that looks through all its connections at each call does so once for all of them. */
static uint32_t open_idle(const struct load_options *options, const struct pattern *pattern, uint32_t first)
{
    static int fds[IDLE_AT_ONCE];
    uint8_t answer[PATTERN_HEADER + 64];
    uint32_t count = options->idle - first < IDLE_AT_ONCE ? options->idle - first : IDLE_AT_ONCE;
    for (uint32_t i = 0; i < count; i++) {
        fds[i] = load_connect(options->port, first + i);
        if (fds[i] < 0)
            load_die("idle connection %u: %s", first + i, strerror(-fds[i]));
        if (send(fds[i], pattern->request, sizeof answer, MSG_NOSIGNAL) != sizeof answer)
            load_die("idle connection %u: cannot ask", first + i);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (recv(fds[i], answer, sizeof answer, MSG_WAITALL) != sizeof answer ||
            memcmp(answer, pattern->answer, sizeof answer) != 0)
            load_die("idle connection %u was not answered, or wrongly", first + i);
    }
    return count;
}

void load_idle(const struct load_options *options)
{
    struct pattern pattern;
    uint64_t said = load_now();
    pattern_make(&pattern, &(uint32_t){64}, 1, options->seed);
    for (uint32_t i = 0; i < options->idle; i += open_idle(options, &pattern, i)) {
        if (!options->quiet && load_now() - said > 1000000000) {
            fprintf(stderr, "load: %u idle connections\n", i);
            said = load_now();
        }
    }
    pattern_free(&pattern);
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || value > most || text[0] == '-') {
        fprintf(stderr, "load: not a number from 0 to %llu: %s\n", (unsigned long long)most, text);
        exit(2);
    }
    return value;
}

static uint64_t duration(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0 && seconds <= 3600)) {
        fprintf(stderr, "load: not a number of seconds: %s\n", text);
        exit(2);
    }
    return (uint64_t)(seconds * 1e9);
}

enum option_name {
    CONNECTIONS,
    DEPTH,
    SIZE,
    MIX,
    RATE,
    CHURN,
    IDLE,
    SECONDS,
    WARMUP,
    SERVER,
    SYSCALLS,
    HOLD,
    CHECK,
    SEED,
    QUIET,
    HELP
};

static const struct option names[] = {
    {"connections", required_argument, NULL, CONNECTIONS},
    {"depth", required_argument, NULL, DEPTH},
    {"size", required_argument, NULL, SIZE},
    {"mix", no_argument, NULL, MIX},
    {"rate", required_argument, NULL, RATE},
    {"churn", no_argument, NULL, CHURN},
    {"idle", required_argument, NULL, IDLE},
    {"seconds", required_argument, NULL, SECONDS},
    {"warmup", required_argument, NULL, WARMUP},
    {"server", required_argument, NULL, SERVER},
    {"syscalls", no_argument, NULL, SYSCALLS},
    {"hold", no_argument, NULL, HOLD},
    {"check", no_argument, NULL, CHECK},
    {"seed", required_argument, NULL, SEED},
    {"quiet", no_argument, NULL, QUIET},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static void take(struct load_options *options, int name, const char *value)
{
    switch (name) {
    case CONNECTIONS:
        options->connections = (uint32_t)number(value, 1000000);
        break;
    case DEPTH:
        options->depth = (uint32_t)number(value, 65536);
        break;
    case SIZE:
        options->size = (uint32_t)number(value, PATTERN_PAYLOAD_MAX);
        break;
    case RATE:
        options->rate = number(value, 1000000000);
        break;
    case IDLE:
        options->idle = (uint32_t)number(value, 1000000);
        break;
    case SECONDS:
        options->seconds_ns = duration(value);
        break;
    case WARMUP:
        options->warmup_ns = duration(value);
        break;
    case SERVER:
        options->server = (pid_t)number(value, INT32_MAX);
        break;
    case SEED:
        options->seed = number(value, UINT64_MAX);
        break;
    case HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void parse(struct load_options *options, int argc, char **argv)
{
    bool *flags[] = {[MIX] = &options->mix,
                     [CHURN] = &options->churn,
                     [HOLD] = &options->hold,
                     [CHECK] = &options->check,
                     [QUIET] = &options->quiet,
                     [SYSCALLS] = &options->syscalls,
                     [HELP] = NULL};
    int name;
    *options = (struct load_options){.connections = 64, .depth = 1, .size = 64, .seed = 1};
    options->seconds_ns = 3000000000;
    options->warmup_ns = 500000000;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (name >= 0 && name < HELP && flags[name])
            *flags[name] = true;
        else
            take(options, name, optarg);
    }
    if (optind != argc - 1 || !options->depth || !options->size || !options->seed ||
        (!options->connections && !options->hold) ||
        (options->churn && (options->depth > 1 || options->rate || options->mix)) ||
        (options->syscalls && !options->server)) {
        fputs(usage, stderr);
        exit(2);
    }
    options->port = (uint16_t)number(argv[optind], 65535);
}

static void report(const struct load_result *result)
{
    double requests = (double)result->requests, seconds = (double)result->elapsed_ns / 1e9;
    const struct histogram *latency = &result->latency;
    printf("{\"requests\": %llu, \"answered\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"bytes\": %llu, ",
           (unsigned long long)result->requests, (unsigned long long)result->answered, seconds,
           (double)result->requests / seconds, (unsigned long long)result->bytes);
    printf("\"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, \"behind\": %llu, ",
           (double)histogram_quantile(latency, .5) / 1e3, (double)histogram_quantile(latency, .99) / 1e3,
           (double)histogram_quantile(latency, .999) / 1e3, (double)latency->most / 1e3,
           (unsigned long long)result->behind);
    printf("\"load_cpu_us\": %.4f, \"server_cpu_us\": %.4f, \"syscalls\": ",
           (double)result->load_cpu_ns / 1e3 / requests, (double)result->server_cpu_ns / 1e3 / requests);
    if (result->syscalls < 0)
        printf("null}\n");
    else
        printf("%.5f}\n", (double)result->syscalls / requests);
}

int main(int argc, char **argv)
{
    static struct load_result result;
    struct load_syscalls calls = {NULL, 0};
    struct load_options options;
    struct rlimit files;
    char byte;
    parse(&options, argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) < 0)
            load_die("cannot raise the limit of descriptors: %s", strerror(errno));
    }
    if (options.check)
        return load_check(options.port, options.seed) ? 0 : 1;
    if (options.syscalls)
        load_syscalls_open(&calls, options.server);
    load_idle(&options);
    if (options.hold) {
        printf("ready\n");
        fflush(stdout);
        while (read(STDIN_FILENO, &byte, 1) > 0)
            continue;
        return 0;
    }
    load_run(&options, &calls, &result);
    report(&result);
    return 0;
}
