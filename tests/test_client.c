/* SPDX-License-Identifier: MIT
 *
 * The client `reverse` as a filter: against the built server, and against servers that misbehave.
 *
 * A client's three standard descriptors are pipes or files of the test's. `feed` and `drain` run in one poll loop, so
 * that neither side waits for a test that is busy with the other.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct client {
    pid_t pid;
    int in, out, err; /* ends of the test's; -1 when closed */
    char *output, error[4096];
    size_t output_size, error_size, output_room;
};

static void put_on(int from, int to)
{
    if (from == to)
        fcntl(to, F_SETFD, 0);
    else if (from >= 0)
        dup2(from, to);
    else
        close(to);
}

/* Standard input, output and error are these descriptors; -1 is a closed one. */
static pid_t spawn(const char *const arguments[], int in, int out, int err)
{
    char *list[16] = {(char *)(uintptr_t) "reverse"};
    unsigned n = 1;
    list[n++] = (char *)(uintptr_t) "--backend";
    list[n++] = getenv("PROACTOR_BACKEND");
    for (; *arguments; arguments++)
        list[n++] = (char *)(uintptr_t)*arguments;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    int files[3] = {fcntl(in, F_DUPFD, 10), fcntl(out, F_DUPFD, 10), fcntl(err, F_DUPFD, 10)}; /* -1 stays -1 */
    for (int fd = 0; fd < 3; fd++)
        put_on(files[fd], fd);
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    execv(reverse_path, list);
    _exit(99);
}

static void pipe_up(int fds[2])
{
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
}

/* With pipes for all three, or with `in` as its standard input. The test's end of that does not block: poll tells of room
 * for a page, and a client whose output is not read meanwhile reads no more than that. */
static struct client client_start(struct world *w, const char *const arguments[], int in)
{
    int input[2] = {in, -1}, output[2], error[2];
    if (in < 0) {
        pipe_up(input);
        assert_int_equal(fcntl(input[1], F_SETFL, O_NONBLOCK), 0);
    }
    pipe_up(output);
    pipe_up(error);
    struct client c = {.in = input[1], .out = output[0], .err = error[0], .output_room = 4096};
    c.output = malloc(c.output_room);
    assert_non_null(c.output);
    c.pid = spawn(arguments, input[0], output[1], error[1]);
    (void)w;
    close(input[0]);
    close(output[1]);
    close(error[1]);
    return c;
}

static void take_output(struct client *c)
{
    if (c->output_size + 65536 > c->output_room) {
        c->output_room = 2 * c->output_room + 65536;
        c->output = realloc(c->output, c->output_room);
        assert_non_null(c->output);
    }
    ssize_t n = read(c->out, c->output + c->output_size, 65536);
    assert_true(n >= 0);
    c->output_size += (size_t)n;
    if (n == 0) {
        close(c->out);
        c->out = -1;
    }
}

static void take_error(struct client *c)
{
    ssize_t n = read(c->err, c->error + c->error_size, sizeof c->error - 1 - c->error_size);
    assert_true(n >= 0);
    c->error_size += (size_t)n;
    c->error[c->error_size] = '\0';
    if (n == 0) {
        close(c->err);
        c->err = -1;
    }
}

static void feed_some(struct client *c, const char **input, size_t *size)
{
    ssize_t n = *size ? write(c->in, *input, *size < 65536 ? *size : 65536) : 0;
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0) {
        *input += n;
        *size -= (size_t)n;
    } else {
        close(c->in);
        c->in = -1;
    }
}

/* Feeds it, reads what it writes, and waits for it: the exit status, or -signal. */
static int client_finish(struct client *c, const char *input, size_t size)
{
    int status;
    signal(SIGPIPE, SIG_IGN);
    while (c->out >= 0 || c->err >= 0) {
        struct pollfd it[3] = {
            {.fd = c->in, .events = POLLOUT}, {.fd = c->out, .events = POLLIN}, {.fd = c->err, .events = POLLIN}};
        assert_true(poll(it, 3, -1) > 0);
        if (it[0].revents)
            feed_some(c, &input, &size);
        if (it[1].revents)
            take_output(c);
        if (it[2].revents)
            take_error(c);
    }
    if (c->in >= 0)
        close(c->in);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void client_done(struct client *c)
{
    free(c->output);
}

static void assert_complains(const struct client *c, const char *begins)
{
    if (strncmp(c->error, begins, strlen(begins)) != 0)
        fail_msg("it says: %s\ninstead of: %s", c->error, begins);
    assert_int_equal(occurrences(c->error, "\n"), 1);
}

static void address_of(const struct server *s, char out[32])
{
    snprintf(out, 32, "127.0.0.1:%u", s->port);
}

/* Runs it on `input` and wants `output`. */
static void assert_filters(struct world *w, const char *address, bool from_file, const char *input, size_t size,
                           const char *output, size_t output_size)
{
    const char *const arguments[] = {address, NULL};
    int file = -1;
    if (from_file) {
        char name[] = "/tmp/reverse-test-XXXXXX";
        file = mkostemp(name, O_CLOEXEC);
        assert_true(file >= 0);
        unlink(name);
        write_all(file, input, size);
        assert_int_equal(lseek(file, 0, SEEK_SET), 0);
    }
    struct client c = client_start(w, arguments, file);
    int status = client_finish(&c, input, from_file ? 0 : size);
    if (status != 0)
        fail_msg("it ended with %d: %s", status, c.error);
    assert_string_equal(c.error, "");
    assert_int_equal(c.output_size, output_size);
    assert_memory_equal(c.output, output, output_size);
    client_done(&c);
}

/* Lines of random bytes, and the same reversed. */
static void make_lines(struct world *w, unsigned count, uint32_t most, char **ret_lines, char **ret_reversed,
                       size_t *ret_size)
{
    unsigned seed = count;
    size_t size = 0;
    char *lines = world_alloc(w, (size_t)count * (most + 1)), *reversed = world_alloc(w, (size_t)count * (most + 1));
    for (unsigned i = 0; i < count; i++) {
        uint32_t bound = most >> ((unsigned)rand_r(&seed) % 12);
        uint32_t length = (uint32_t)rand_r(&seed) % (bound + 1);
        for (uint32_t k = 0; k < length; k++) {
            char byte = (char)(rand_r(&seed) >> 5);
            lines[size + k] = reversed[size + length - 1 - k] = byte == '\n' ? 'n' : byte;
        }
        lines[size + length] = reversed[size + length] = '\n';
        size += length + 1;
    }
    *ret_lines = lines;
    *ret_reversed = reversed;
    *ret_size = size;
}

/* ---- As a filter ---- */

static void lines_when_few_are_reversed(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"\n", "\n"},
        {"a", "a\n"},
        {"abc\n", "cba\n"},
        {"abc", "cba\n"},
        {"\n\nabc\n\n\nde\n\n", "\n\ncba\n\n\ned\n\n"},
        {"00003abc\n", "cba30000\n"},
        {"crlf\r\n", "\rflrc\n"},
    };
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32];
    address_of(s, address);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int from_file = 0; from_file < 2; from_file++)
            assert_filters(w, address, from_file, rows[i].in, strlen(rows[i].in), rows[i].out, strlen(rows[i].out));
    assert_int_equal(server_counter(s, "frames"), 2 * 7); /* an empty line is nothing to the server */
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void lines_when_many_keep_their_order(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32], *lines, *reversed;
    size_t size;
    address_of(s, address);
    make_lines(w, (unsigned)stress(50000), 200, &lines, &reversed, &size);
    assert_filters(w, address, true, lines, size, reversed, size);
    assert_filters(w, address, false, lines, size, reversed, size);
    make_lines(w, 300, 99999, &lines, &reversed, &size);
    assert_filters(w, address, true, lines, size, reversed, size);
    assert_filters(w, address, false, lines, size, reversed, size);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void lines_when_empty_by_the_thousand_cost_nothing(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32];
    size_t size = 200000;
    char *lines = world_alloc(w, size + 8), *output = world_alloc(w, size + 8);
    address_of(s, address);
    memset(lines, '\n', size);
    memcpy(output, lines, size);
    assert_filters(w, address, true, lines, size, output, size);
    memcpy(lines + size / 2, "ab\n", 3); /* one answer that the rest waits for */
    memcpy(output + size / 2, "ba\n", 3);
    assert_filters(w, address, false, lines, size, output, size);
    assert_int_equal(server_counter(s, "frames"), 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void line_when_too_long_is_an_error_that_names_it(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32], *lines = world_alloc(w, 300000), *output = world_alloc(w, 300000);
    const char *const arguments[] = {address, NULL};
    address_of(s, address);
    memset(lines, 'x', 300000);
    lines[99999] = '\n'; /* the longest that is fine */
    memcpy(output, lines, 100000);
    assert_filters(w, address, true, lines, 100000, output, 100000);
    assert_filters(w, address, false, lines, 99999, output, 100000);
    for (unsigned i = 0; i < 3; i++) { /* one byte more; with a newline, at the end of the file, and with more behind */
        static const size_t sizes[] = {4 + 100001, 4 + 100000, 300000};
        memset(lines, 'x', 300000);
        memcpy(lines, "ab\n\n", 4);
        if (i == 0)
            lines[4 + 100000] = '\n';
        struct client c = client_start(w, arguments, -1);
        assert_int_equal(client_finish(&c, lines, sizes[i]), 1);
        assert_complains(&c, "reverse: line 3 is longer than 99999 bytes\n");
        assert_int_equal(c.output_size, 4);
        assert_memory_equal(c.output, "ba\n\n", 4);
        client_done(&c);
    }
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* What a person at a terminal wants: an answer to each line before the next is typed. */
static void lines_when_typed_are_answered_at_once(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32], got[8];
    const char *const arguments[] = {address, NULL};
    address_of(s, address);
    struct client c = client_start(w, arguments, -1);
    for (unsigned i = 0; i < 50; i++) {
        write_all(c.in, i % 5 ? "abc\n" : "\nbc\n", 4);
        for (size_t n = 0; n < 4;) {
            ssize_t more = read(c.out, got + n, 4 - n);
            assert_true(more > 0);
            n += (size_t)more;
        }
        assert_memory_equal(got, i % 5 ? "cba\n" : "\ncb\n", 4);
    }
    assert_int_equal(client_finish(&c, NULL, 0), 0);
    client_done(&c);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void lines_when_typed_at_a_terminal_are_answered(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32], got[256] = "";
    const char *const arguments[] = {address, NULL};
    int status, master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    address_of(s, address);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
        skip();
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0);
    pid_t pid = spawn(arguments, slave, slave, slave);
    write_all(master, "hello\nworld\n\x04", 13);
    close(slave);
    for (size_t n = 0; n < sizeof got - 1;) { /* the echo, the answers, then EIO when the last end is closed */
        ssize_t more = read(master, got + n, sizeof got - 1 - n);
        if (more <= 0)
            break;
        n += (size_t)more;
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(master);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_non_null(strstr(got, "olleh\r\n"));
    assert_non_null(strstr(got, "dlrow\r\n"));
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void output_when_nobody_reads_it_any_more_ends_quietly(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32], *lines, *reversed;
    const char *const arguments[] = {address, NULL};
    size_t size;
    address_of(s, address);
    make_lines(w, 20000, 200, &lines, &reversed, &size);
    struct client c = client_start(w, arguments, -1);
    close(c.out);
    c.out = -1;
    assert_int_equal(client_finish(&c, lines, size), 0);
    assert_string_equal(c.error, "");
    client_done(&c);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* With `in` and `out` as its standard input and output, of which -1 is a closed one, and `most` bytes as the longest
 * file. It is to fail, and to say so. */
static void assert_fails(const char *address, int in, int out, rlim_t most, const char *says)
{
    const char *const arguments[] = {address, NULL};
    struct rlimit before, limit;
    char text[256] = "";
    int err[2], status;
    pipe_up(err);
    fflush(NULL); /* what this program has written is not to meet the limit, which is the child's */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = (struct rlimit){most, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    pid_t pid = spawn(arguments, in, out, err[1]);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    close(err[1]);
    for (size_t n = 0; n < sizeof text - 1;) {
        ssize_t more = read(err[0], text + n, sizeof text - 1 - n);
        if (more <= 0)
            break;
        n += (size_t)more;
    }
    close(err[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1 || strncmp(text, says, strlen(says)) != 0)
        fail_msg("status %d, it says: %s\ninstead of: %s", status, text, says);
}

/* A pipe with a line in it and no more to come. */
static int line_in_a_pipe(struct world *w)
{
    int fds[2];
    pipe_up(fds);
    write_all(fds[1], "abc\n", 4);
    close(fds[1]);
    return world_own(w, fds[0]);
}

static void output_when_it_cannot_be_written_is_an_error(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32], name[] = "/tmp/reverse-test-XXXXXX";
    int full = world_own(w, open("/dev/full", O_WRONLY | O_CLOEXEC)), file = world_own(w, mkostemp(name, O_CLOEXEC));
    address_of(s, address);
    unlink(name);
    assert_fails(address, line_in_a_pipe(w), full, RLIM_INFINITY, "reverse: standard output: ENOSPC (");
    assert_fails(address, line_in_a_pipe(w), -1, RLIM_INFINITY, "reverse: standard output: EBADF (");
    write_all(file, "12345678", 8);
    assert_fails(address, line_in_a_pipe(w), file, 8, "reverse: standard output: EFBIG (");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void input_when_closed_is_an_error(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32];
    address_of(s, address);
    assert_fails(address, -1, world_own(w, open("/dev/null", O_WRONLY | O_CLOEXEC)), RLIM_INFINITY,
                 "reverse: standard input: EBADF (");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void server_when_on_a_unix_socket_is_reached(void **state)
{
    struct world *w = *state;
    char name[64];
    snprintf(name, sizeof name, "unix:@reverse-test-%d", (int)getpid());
    struct server *s = server_start(w, "--listen", name, NULL);
    assert_filters(w, name, false, "abc\n\nde", 7, "cba\n\ned\n", 8);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* ---- When it goes wrong ---- */

static void client_when_there_is_no_server_says_so(void **state)
{
    static const char *const rows[][2] = {
        {"127.0.0.1:1", "reverse: cannot reach 127.0.0.1:1: ECONNREFUSED ("},
        {"unix:/nowhere/at/all", "reverse: cannot reach unix:/nowhere/at/all: ENOENT ("},
        {"unix:@nobody-listens-here", "reverse: cannot reach unix:@nobody-listens-here: ECONNREFUSED ("},
        {"no-such-host.invalid:80", "reverse: no-such-host.invalid: "},
    };
    struct world *w = *state;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const arguments[] = {rows[i][0], NULL};
        struct client c = client_start(w, arguments, -1);
        assert_int_equal(client_finish(&c, "abc\n", 4), 1);
        assert_complains(&c, rows[i][1]);
        assert_int_equal(c.output_size, 0);
        client_done(&c);
    }
}

static void client_when_wrongly_used_exits_2(void **state)
{
    struct world *w = *state;
    const char *const arguments[] = {"--listen", "127.0.0.1:1", NULL};
    struct client c = client_start(w, arguments, -1);
    assert_int_equal(client_finish(&c, "", 0), 2);
    assert_complains(&c, "reverse: --listen: there is no such option; --help lists them\n");
    client_done(&c);
}

/* A server that reads once, says something, and hangs up: cleanly, or with a reset. */
struct fake {
    int listener;
    char address[32];
    const char *says;
    bool resets;
    pthread_t thread;
};

static void *fake_serve(void *argument)
{
    struct fake *f = argument;
    char bin[65536];
    struct linger now = {1, 0};
    int fd = accept(f->listener, NULL, NULL);
    if (fd < 0 || recv(fd, bin, sizeof bin, 0) < 0)
        return NULL;
    (void)!send(fd, f->says, strlen(f->says), MSG_NOSIGNAL);
    if (f->resets)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    else
        shutdown(fd, SHUT_WR);
    while (!f->resets && recv(fd, bin, sizeof bin, 0) > 0) {
    }
    close(fd);
    return NULL;
}

static void fake_start(struct world *w, struct fake *f)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof in;
    f->listener = world_own(w, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    assert_int_equal(bind(f->listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(f->listener, 1), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&in, &length), 0);
    snprintf(f->address, sizeof f->address, "127.0.0.1:%u", ntohs(in.sin_port));
    assert_int_equal(pthread_create(&f->thread, NULL, fake_serve, f), 0);
}

static void client_when_the_server_misbehaves_says_how(void **state)
{
    static const struct {
        const char *says, *output, *complains;
        bool resets;
    } rows[] = {
        {"", "", ": the server closed the connection with 3 lines unanswered\n", false},
        {"00002ba", "ba\n", ": the server closed the connection with 2 lines unanswered\n", false},
        {"00002ba00003dc", "ba\ndc", ": the server closed the connection with 2 lines unanswered\n", false},
        {"00002ba00003edc", "ba\nedc\n", ": the server closed the connection with 1 line unanswered\n", false},
        {"", "", ": ECONNRESET (", true},
        {"hello", "", " does not answer as a reverse server does\n", false},
        {"00003bax", "", " does not answer as a reverse server does\n", false},
    };
    struct world *w = *state;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fake f = {.says = rows[i].says, .resets = rows[i].resets};
        fake_start(w, &f);
        const char *const arguments[] = {f.address, NULL};
        char complaint[128];
        struct client c = client_start(w, arguments, -1);
        int status = client_finish(&c, "ab\ncde\nf\n", 9);
        pthread_join(f.thread, NULL);
        snprintf(complaint, sizeof complaint, "reverse: %s%s", f.address, rows[i].complains);
        assert_int_equal(status, 1);
        assert_complains(&c, complaint);
        assert_int_equal(c.output_size, strlen(rows[i].output));
        assert_memory_equal(c.output, rows[i].output, c.output_size);
        client_done(&c);
    }
}

static void client_when_the_server_is_killed_ends(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    char address[32];
    const char *const arguments[] = {address, NULL};
    address_of(s, address);
    struct client c = client_start(w, arguments, -1);
    char got[4];
    write_all(c.in, "abc\n", 4);
    assert_int_equal(read(c.out, got, 4), 4);
    assert_int_equal(kill(s->pid, SIGKILL), 0);
    assert_int_equal(server_wait(s), -SIGKILL);
    while (c.err >= 0) /* its input stays open: it must notice all the same */
        take_error(&c);
    assert_int_equal(client_finish(&c, NULL, 0), 1);
    assert_int_equal(strncmp(c.error, "reverse: 127.0.0.1:", 19), 0);
    assert_int_equal(occurrences(c.error, "\n"), 1);
    client_done(&c);
}

static void client_when_asked_for_help_prints_it(void **state)
{
    struct world *w = *state;
    const char *const help[] = {"--help", NULL}, *const version[] = {"--version", NULL};
    struct client c = client_start(w, help, -1);
    assert_int_equal(client_finish(&c, "", 0), 0);
    assert_int_equal(strncmp(c.output, "usage: reverse [options] [ADDR]\n", 32), 0);
    client_done(&c);
    c = client_start(w, version, -1);
    assert_int_equal(client_finish(&c, "", 0), 0);
    assert_int_equal(strncmp(c.output, "reverse 0.1.0\n", 14), 0);
    client_done(&c);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        SERVER_TEST(lines_when_few_are_reversed),
        SERVER_TEST(lines_when_many_keep_their_order),
        SERVER_TEST(lines_when_empty_by_the_thousand_cost_nothing),
        SERVER_TEST(line_when_too_long_is_an_error_that_names_it),
        SERVER_TEST(lines_when_typed_are_answered_at_once),
        SERVER_TEST(lines_when_typed_at_a_terminal_are_answered),
        SERVER_TEST(output_when_nobody_reads_it_any_more_ends_quietly),
        SERVER_TEST(output_when_it_cannot_be_written_is_an_error),
        SERVER_TEST(input_when_closed_is_an_error),
        SERVER_TEST(server_when_on_a_unix_socket_is_reached),
        SERVER_TEST(client_when_there_is_no_server_says_so),
        SERVER_TEST(client_when_wrongly_used_exits_2),
        SERVER_TEST(client_when_the_server_misbehaves_says_how),
        SERVER_TEST(client_when_the_server_is_killed_ends),
        SERVER_TEST(client_when_asked_for_help_prints_it),
    };
    programs_find(argc, argv);
    return RUN(tests);
}
