/* SPDX-License-Identifier: MIT
 *
 * Servers as children, plain peers and the oracle; see peer.h.
 *
 * A server's standard error is a pipe that is read whenever something is waited for. The pipe is also how its end is
 * noticed: then it is empty and closed, and only then is the child waited for.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MOST = 32 };

const char *reversed_path, *reverse_path;
struct server_conditions server_conditions;
static struct server *servers;

void programs_find(int argc, char **argv)
{
    reversed_path = getenv("REVERSED");
    reverse_path = getenv("REVERSE");
    if (argc > 1)
        reversed_path = argv[1];
    if (argc > 2)
        reverse_path = argv[2];
    if (reversed_path && access(reversed_path, X_OK) == 0)
        return;
    fprintf(stderr, "peer: the path of reversed is wanted, in REVERSED or as an argument\n");
    exit(77);
}

/* ---- Children ---- */

/* `call` fails with `number`, everything else is allowed. */
static void refuse(unsigned call, int number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)number & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(98);
}

static void become(const char *path, char *const arguments[], int stderr_fd)
{
    int null = open("/dev/null", O_RDWR);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(null, 0);
    dup2(null, 1);
    dup2(stderr_fd, 2);
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    if (server_conditions.any_backend)
        unsetenv("PROACTOR_BACKEND");
    if (server_conditions.refused.error)
        refuse(server_conditions.refused.call, server_conditions.refused.error);
    if (server_conditions.descriptors.rlim_cur)
        setrlimit(RLIMIT_NOFILE, &server_conditions.descriptors);
    execv(path, arguments);
    _exit(99);
}

static void fill(int pipe)
{
    static const char piece[4096];
    assert_int_equal(fcntl(pipe, F_SETFL, O_NONBLOCK), 0);
    while (write(pipe, piece, sizeof piece) > 0) {
    }
    assert_int_equal(fcntl(pipe, F_SETFL, 0), 0);
}

static struct server *launch(char *const arguments[])
{
    int fds[2];
    struct server *s = calloc(1, sizeof *s);
    assert_non_null(s);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    if (server_conditions.full_log)
        fill(fds[1]);
    fflush(NULL);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0)
        become(reversed_path, arguments, fds[1]);
    close(fds[1]);
    s->stderr_fd = fds[0];
    s->log = calloc(1, 1);
    s->next = servers;
    servers = s;
    return s;
}

static struct server *launch_with(struct world *w, va_list list)
{
    char *arguments[ARGUMENTS_MOST + 8] = {(char *)(uintptr_t) "reversed"};
    const char *given[ARGUMENTS_MOST];
    unsigned count = 0, n = 1, listeners = 0;
    for (const char *it = va_arg(list, const char *); it; it = va_arg(list, const char *)) {
        assert_true(count < ARGUMENTS_MOST);
        listeners += strcmp(it, "--listen") == 0;
        given[count++] = it;
    }
    if (listeners == 0 && !server_conditions.no_listen) {
        listeners = 1;
        arguments[n++] = (char *)(uintptr_t) "--listen";
        arguments[n++] = (char *)(uintptr_t) "127.0.0.1:0";
    }
    if (!server_conditions.any_backend && getenv("PROACTOR_BACKEND")) {
        arguments[n++] = (char *)(uintptr_t) "--backend";
        arguments[n++] = getenv("PROACTOR_BACKEND");
    }
    for (unsigned i = 0; i < count; i++)
        arguments[n++] = (char *)(uintptr_t)given[i];
    struct server *s = launch(arguments);
    s->world = w;
    s->listeners = listeners ? listeners : 1;
    return s;
}

struct server *server_try(struct world *w, ...)
{
    va_list list;
    va_start(list, w);
    struct server *s = launch_with(w, list);
    va_end(list);
    return s;
}

struct server *server_start(struct world *w, ...)
{
    va_list list;
    va_start(list, w);
    struct server *s = launch_with(w, list);
    va_end(list);
    server_log(s, "listening on", s->listeners);
    server_log(s, "\n", s->listeners); /* the last line is whole */
    const char *at = s->log;
    while (s->port == 0 && (at = strstr(at, "listening on ")) != NULL) {
        at += strlen("listening on ");
        const char *end = strstr(at, " (");
        if (strncmp(at, "unix:", 5) != 0 && end) {
            while (end > at && end[-1] != ':')
                end--;
            s->port = (uint16_t)atoi(end);
        }
    }
    return s;
}

/* Reads what it wrote, waiting for something; false at the end. */
static bool read_log(struct server *s)
{
    char piece[4096];
    ssize_t n;
    do
        n = read(s->stderr_fd, piece, sizeof piece);
    while (n < 0 && errno == EINTR);
    assert_true(n >= 0);
    s->log = realloc(s->log, s->log_size + (size_t)n + 1);
    assert_non_null(s->log);
    memcpy(s->log + s->log_size, piece, (size_t)n);
    s->log_size += (size_t)n;
    s->log[s->log_size] = '\0';
    return n > 0;
}

unsigned occurrences(const char *text, const char *what)
{
    unsigned n = 0;
    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        n++;
    return n;
}

const char *server_log(struct server *s, const char *text, unsigned count)
{
    while (occurrences(s->log, text) < count) {
        if (!read_log(s)) {
            print_error("the server ended without \"%s\" x %u; it said:\n%s\n", text, count, s->log);
            fail();
        }
    }
    const char *at = s->log;
    for (unsigned i = 0; i < count; i++)
        at = strstr(at, text) + (i + 1 < count ? strlen(text) : 0);
    return at;
}

int server_wait(struct server *s)
{
    int status;
    pid_t pid = s->pid;
    while (read_log(s)) {
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    s->pid = 0;
    int result = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    if (result > 3 || (result < 0 && result != -SIGKILL)) /* no status of the server's own */
        print_error("the server ended with %d and said:\n%s\n", result, s->log);
    return result;
}

int server_stop(struct server *s, int signal)
{
    world_close_all(s->world);
    assert_int_equal(kill(s->pid, signal), 0);
    return server_wait(s);
}

void server_freeze(struct server *s)
{
    int status;
    assert_int_equal(kill(s->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(s->pid, &status, WUNTRACED), s->pid);
    assert_true(WIFSTOPPED(status));
}

void server_thaw(struct server *s)
{
    assert_int_equal(kill(s->pid, SIGCONT), 0);
}

uint64_t server_counter(struct server *s, const char *name)
{
    char key[64];
    unsigned before = occurrences(s->log, "counters:"), threads = 1;
    const char *stated = strstr(s->log, " thread");
    while (stated && stated > s->log && stated[-1] >= '0' && stated[-1] <= '9')
        stated--;
    if (stated)
        threads = (unsigned)atoi(stated);
    snprintf(key, sizeof key, " %s=", name);
    assert_int_equal(kill(s->pid, SIGUSR1), 0);

    uint64_t sum = 0;
    for (unsigned i = 1; i <= threads; i++) {
        size_t offset = (size_t)(server_log(s, "counters:", before + i) - s->log);
        while (!strchr(s->log + offset, '\n'))
            assert_true(read_log(s));
        const char *at = strstr(s->log + offset, key);
        assert_non_null(at);
        sum += strtoull(at + strlen(key), NULL, 10);
    }
    return sum;
}

void server_await(struct server *s, const char *name, uint64_t value)
{
    for (unsigned tries = 0; server_counter(s, name) != value; tries++)
        usleep(tries < 100 ? 1000 : 20000);
}

uint64_t server_rss(const struct server *s)
{
    char path[64];
    unsigned long long total = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)s->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llu %llu", &total, &resident), 2);
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t server_ticks(const struct server *s)
{
    char path[64];
    unsigned long long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)s->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system),
                     2);
    fclose(file);
    return (user + system) * 100 / (uint64_t)sysconf(_SC_CLK_TCK);
}

static void server_bury(struct server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    close(s->stderr_fd);
    free(s->log);
    free(s);
}

int server_teardown(void **state)
{
    while (servers) {
        struct server *s = servers;
        servers = s->next;
        server_bury(s);
    }
    server_conditions = (struct server_conditions){0};
    return world_teardown(state);
}

/* ---- Peers ---- */

int peer_connect_to(struct world *w, const struct sockaddr_storage *at, socklen_t length)
{
    int on = 1;
    int fd = world_own(w, socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(fd, (const struct sockaddr *)at, length) < 0) {
        print_error("connect: %s\n", strerror(errno));
        fail();
    }
    if (at->ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int peer_connect(struct world *w, const struct server *s)
{
    struct sockaddr_storage at = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(s->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    memcpy(&at, &in, sizeof in);
    return peer_connect_to(w, &at, sizeof in);
}

bool peer_offer(int fd, const void *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data = (const uint8_t *)data + n;
        size -= (size_t)n;
    }
    return true;
}

void peer_send(int fd, const void *data, size_t size)
{
    assert_true(peer_offer(fd, data, size));
}

size_t peer_read(int fd, void *data, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = recv(fd, (uint8_t *)data + got, size - got, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            print_error("after %zu bytes: %s\n", got, strerror(errno));
            fail();
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return got;
}

/* What the servers have to say about it. */
static void show_logs(void)
{
    for (struct server *s = servers; s; s = s->next) {
        struct pollfd it = {.fd = s->stderr_fd, .events = POLLIN};
        while (s->pid > 0 && poll(&it, 1, 100) == 1 && read_log(s)) {
        }
        print_error("the server said:\n%s\n", s->log);
    }
}

void assert_peer_gets(int fd, const char *text)
{
    char got[256];
    size_t size = strlen(text);
    assert_true(size <= sizeof got);
    size_t n = peer_read(fd, got, size);
    if (n == size && memcmp(got, text, size) == 0)
        return;
    show_logs();
    fail_msg("got \"%.*s\" instead of \"%s\"", (int)n, got, text);
}

void assert_peer_end(int fd)
{
    char byte;
    assert_int_equal(peer_read(fd, &byte, 1), 0);
}

int peer_drain(int fd)
{
    char bin[65536];
    for (;;) {
        ssize_t n = recv(fd, bin, sizeof bin, 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return errno;
    }
}

void peer_shut(int fd)
{
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
}

void peer_reset(struct world *w, int fd)
{
    struct linger now = {1, 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    world_close(w, fd);
}

int peer_unacked(int fd)
{
    int left;
    assert_int_equal(ioctl(fd, SIOCOUTQ, &left), 0);
    return left;
}

void peer_wait_acked(int fd)
{
    while (peer_unacked(fd) > 0)
        usleep(200);
}

static size_t chunk_size(size_t chunk, size_t left, unsigned *seed)
{
    size_t size = chunk;
    if (chunk == 0) { /* from single bytes to more than a receive buffer */
        unsigned scale = (unsigned)rand_r(seed) % 18;
        size = 1 + (size_t)rand_r(seed) % ((size_t)1 << scale);
    }
    return size < left ? size : left;
}

void peer_exchange(int fd, const void *data, size_t size, size_t chunk, void *answer, size_t answer_size)
{
    const uint8_t *out = data;
    uint8_t *in = answer;
    unsigned seed = (unsigned)size;
    size_t planned = 0;
    while (size > 0 || answer_size > 0) {
        struct pollfd it = {.fd = fd, .events = (short)((size ? POLLOUT : 0) | (answer_size ? POLLIN : 0))};
        assert_true(poll(&it, 1, -1) == 1);
        if (it.revents & (POLLIN | POLLERR | POLLHUP)) {
            ssize_t n = recv(fd, in, answer_size, MSG_DONTWAIT);
            if (n <= 0)
                show_logs();
            assert_true(n > 0);
            in += n;
            answer_size -= (size_t)n;
        } else if (it.revents & POLLOUT) {
            if (planned == 0)
                planned = chunk_size(chunk, size, &seed);
            ssize_t n = send(fd, out, planned, MSG_DONTWAIT | MSG_NOSIGNAL);
            assert_true(n > 0);
            out += n;
            size -= (size_t)n;
            planned -= (size_t)n;
        }
    }
}

/* ---- Traffic ---- */

void traffic_init(struct world *w, struct traffic *t, size_t capacity)
{
    *t = (struct traffic){.request = world_alloc(w, capacity), .answer = world_alloc(w, capacity)};
}

void traffic_add(struct traffic *t, uint32_t length, unsigned *seed)
{
    char header[8];
    snprintf(header, sizeof header, "%05u", length);
    memcpy(t->request + t->request_size, header, 5);
    memcpy(t->answer + t->answer_size, header, 5);
    uint8_t *from = t->request + t->request_size + 5, *to = t->answer + t->answer_size + 5;
    for (uint32_t i = 0; i < length; i++) {
        from[i] = (uint8_t)(rand_r(seed) >> 7);
        to[length - 1 - i] = from[i];
    }
    t->request_size += 5 + length;
    t->answer_size += 5 + length;
    t->frames++;
}

void traffic_fill(struct world *w, struct traffic *t, unsigned count, uint32_t most, unsigned seed)
{
    /* Two passes with the same seed: first the sizes are added up. */
    size_t total = 0;
    unsigned dice = seed;
    uint32_t *lengths = world_alloc(w, count * sizeof *lengths);
    for (unsigned i = 0; i < count; i++) {
        uint32_t bound = most >> ((unsigned)rand_r(&dice) % 12);
        lengths[i] = 1 + (uint32_t)rand_r(&dice) % (bound ? bound : 1);
        total += lengths[i] + 5 + 4;
    }
    traffic_init(w, t, total);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned ends = (unsigned)rand_r(&dice) % 16 == 0 ? 1 + (unsigned)rand_r(&dice) % 3 : 0; ends; ends--)
            t->request[t->request_size++] = rand_r(&dice) % 2 ? '\r' : '\n';
        traffic_add(t, lengths[i], &dice);
    }
}

void traffic_large(struct world *w, struct traffic *t, unsigned count, unsigned seed)
{
    traffic_init(w, t, (size_t)count * (5 + 99999));
    for (unsigned i = 0; i < count; i++)
        traffic_add(t, 99999, &seed);
}

void traffic_check(struct world *w, int fd, const struct traffic *t, size_t chunk)
{
    uint8_t *got = world_alloc(w, t->answer_size);
    peer_exchange(fd, t->request, t->request_size, chunk, got, t->answer_size);
    for (size_t i = 0; i < t->answer_size; i++) {
        if (got[i] != t->answer[i]) {
            print_error("the answers differ from byte %zu of %zu\n", i, t->answer_size);
            fail();
        }
    }
}

size_t peer_stuff(int fd, const struct traffic *t, int *ret_error)
{
    size_t sent = 0;
    *ret_error = 0;
    for (unsigned idle = 0; idle < 20 && sent < t->request_size;) {
        ssize_t n = send(fd, t->request + sent, t->request_size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && !*ret_error)
            *ret_error = errno;
        if (n > 0)
            sent += (size_t)n;
        idle = n > 0 ? 0 : idle + 1;
        if (n <= 0)
            usleep(10000);
    }
    return sent;
}
