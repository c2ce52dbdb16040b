/* SPDX-License-Identifier: MIT
 *
 * The server as a program: how it starts, refuses to start, listens, and ends.
 *
 * "Every whole frame that is in the kernel's receive buffer when the signal is handled" is tested to the letter: the
 * server is stopped (SIGSTOP), the frames are sent and waited for until the kernel has acknowledged them, the signal is
 * sent, and only then does the server go on.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static bool tests_epoll(void)
{
    const char *name = getenv("PROACTOR_BACKEND");
    return name && strcmp(name, "epoll") == 0;
}

/* ---- Start ---- */

static void start_when_wrongly_used_names_the_option_and_exits_2(void **state)
{
    static const struct {
        const char *arguments[3];
        const char *says;
    } rows[] = {
        {{"--listen", "nonsense"}, "reversed: --listen nonsense: no port is given"},
        {{"--listen", "::1:80"}, "--listen ::1:80: an IPv6 address is written in brackets"},
        {{"--listen", "1.2.3.4:70000"}, "--listen 1.2.3.4:70000: the port is over 65535"},
        {{"--listen"}, "--listen: needs a value"},
        {{"--backend", "kqueue"}, "--backend kqueue: must be auto, io_uring or epoll"},
        {{"--threads", "0"}, "--threads 0: must be from 1 to 256, or auto"},
        {{"--max-connections=-1"}, "--max-connections -1: must be a number"},
        {{"--max-frame", "100000"}, "--max-frame 100000: must be from 1 to 99999"},
        {{"--idle-timeout", "5"}, "--idle-timeout 5: is no duration"},
        {{"--frame-timeout", "1.5s"}, "--frame-timeout 1.5s: is no duration"},
        {{"--send-timeout", ""}, "--send-timeout : is no duration"},
        {{"--drain-timeout", "9999999999999h"}, "--drain-timeout 9999999999999h: is "},
        {{"--high-water", "1kb"}, "--high-water 1kb: must be from 1 byte to 1GiB"},
        {{"--log-level", "loud"}, "--log-level loud: must be error, warn, info or debug"},
        {{"--what\x1b"}, "--what\\x1b: there is no such option"},
        {{"stray"}, "stray: there is no such option"},
    };
    struct world *w = *state;
    server_conditions.no_listen = true;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct server *s = server_try(w, rows[i].arguments[0], rows[i].arguments[1], rows[i].arguments[2], NULL);
        assert_int_equal(server_wait(s), 2);
        if (!strstr(s->log, rows[i].says))
            fail_msg("it says: %s\ninstead of: %s", s->log, rows[i].says);
        assert_int_equal(occurrences(s->log, "\n"), 1);
    }
}

static void start_when_cores_are_more_than_connections_has_a_thread_for_each(void **state)
{
    struct world *w = *state;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0 || CPU_COUNT(&set) < 2)
        skip();
    struct server *s = server_start(w, "--threads", "auto", "--max-connections", "1", NULL);
    assert_non_null(strstr(s->log, "1 thread"));
    assert_null(strstr(s->log, "threads"));
}

static void start_when_port_is_in_use_says_so_and_exits_1(void **state)
{
    struct world *w = *state;
    char address[64], says[128];
    struct server *first = server_start(w, NULL);
    snprintf(address, sizeof address, "127.0.0.1:%u", first->port);
    snprintf(says, sizeof says, "reversed: --listen %s: EADDRINUSE (", address);
    static const char *const threads[] = {"1", "2"};
    for (unsigned i = 0; i < 2; i++) { /* with threads the port could be shared, which nobody asked for */
        struct server *second = server_try(w, "--listen", address, "--threads", threads[i], NULL);
        assert_int_equal(server_wait(second), 1);
        assert_non_null(strstr(second->log, says));
        assert_int_equal(occurrences(second->log, "\n"), 1);
    }
    int fd = peer_connect(w, first);
    peer_send(fd, "00002ab", 7);
    assert_peer_gets(fd, "00002ba");
    assert_int_equal(server_stop(first, SIGTERM), 0);
    struct server *threaded = server_start(w, "--threads", "2", NULL);
    snprintf(address, sizeof address, "127.0.0.1:%u", threaded->port);
    struct server *second = server_try(w, "--listen", address, "--threads", "2", NULL);
    assert_int_equal(server_wait(second), 1);
    assert_int_equal(server_stop(threaded, SIGTERM), 0);
}

static void start_when_address_is_not_ours_exits_1(void **state)
{
    struct world *w = *state;
    struct server *s = server_try(w, "--listen", "192.0.2.77:0", NULL);
    assert_int_equal(server_wait(s), 1);
    assert_non_null(strstr(s->log, "--listen 192.0.2.77:0: EADDRNOTAVAIL"));
    s = server_try(w, "--listen", "no-such-host.invalid:80", NULL);
    assert_int_equal(server_wait(s), 1);
    assert_non_null(strstr(s->log, "--listen no-such-host.invalid:80: "));
}

/* Each errno with which io_uring may be refused. */
static void start_when_io_uring_is_refused_falls_back_or_fails_by_name(void **state)
{
    static const int errors[] = {ENOSYS, EPERM, EACCES, EINVAL, EOPNOTSUPP, ENOMEM, EMFILE};
    struct world *w = *state;
    if (tests_epoll())
        skip();
    for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        char says[96];
        const char *name = pro_error_name(errors[i]);
        server_conditions = (struct server_conditions){.refused = {SYS_io_uring_setup, errors[i]}, .any_backend = true};
        struct server *s = server_start(w, NULL);
        snprintf(says, sizeof says, "reversed: io_uring is not available, using epoll: io_uring_setup: %s (", name);
        assert_non_null(strstr(s->log, says));
        assert_non_null(strstr(s->log, " (epoll, 1 thread)\n"));
        assert_int_equal(occurrences(s->log, "\n"), 2);
        int fd = peer_connect(w, s);
        peer_send(fd, "00002ab", 7);
        assert_peer_gets(fd, "00002ba");
        assert_int_equal(server_stop(s, SIGTERM), 0);

        s = server_try(w, "--backend", "io_uring", NULL);
        assert_int_equal(server_wait(s), 1);
        snprintf(says, sizeof says, "reversed: --backend io_uring: %s (", name);
        assert_non_null(strstr(s->log, says));
        assert_int_equal(occurrences(s->log, "\n"), 1);
    }
}

/* The causes that io_uring may have are not those of epoll. */
static void start_when_epoll_is_refused_says_no_more_than_is_known(void **state)
{
    struct world *w = *state;
    if (!tests_epoll())
        skip();
    server_conditions.refused.call = SYS_epoll_create1;
    server_conditions.refused.error = EPERM;
    struct server *s = server_try(w, NULL);
    assert_int_equal(server_wait(s), 1);
    assert_non_null(strstr(s->log, "reversed: --backend epoll: EPERM ("));
    assert_null(strstr(s->log, "io_uring"));
}

/* Up to the count that suffices: each says that it is for want of a descriptor, and not of memory alone. */
static void start_when_descriptors_are_few_says_so(void **state)
{
    struct world *w = *state;
    for (rlim_t most = 4;; most++) {
        assert_true(most < 30);
        server_conditions.descriptors = (struct rlimit){most, most};
        struct server *s = server_try(w, NULL);
        server_log(s, "\n", 1);
        if (strstr(s->log, "listening on")) {
            assert_int_equal(server_stop(s, SIGTERM), 0);
            return;
        }
        assert_int_equal(server_wait(s), 1);
        if (!strstr(s->log, "NOFILE") && !strstr(s->log, "EMFILE"))
            fail_msg("with %u descriptors it says: %s", (unsigned)most, s->log);
    }
}

static void start_when_a_thread_cannot_be_made_is_no_start(void **state)
{
    struct world *w = *state;
    server_conditions.refused.call = SYS_clone3;
    server_conditions.refused.error = EAGAIN;
    struct server *s = server_try(w, "--threads", "2", NULL);
    assert_int_equal(server_wait(s), 1);
    assert_non_null(strstr(s->log, "reversed: cannot start thread 1: EAGAIN (RLIMIT_NPROC"));
    assert_null(strstr(s->log, "listening on"));
}

/* The output of a program that ends by itself. */
static void assert_prints(const char *arguments, const char *begins)
{
    char command[512], text[256] = "";
    snprintf(command, sizeof command, "'%s' %s 2>&1", reversed_path, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(text, 1, sizeof text - 1, pipe);
    assert_true(n > 0);
    while (fgetc(pipe) != EOF) {
    }
    assert_int_equal(pclose(pipe), 0);
    assert_int_equal(strncmp(text, begins, strlen(begins)), 0);
}

static void help_and_version_when_asked_for_are_printed(void **state)
{
    (void)state;
    assert_prints("--help", "usage: reversed [options]\n");
    assert_prints("-h", "usage: reversed [options]\n");
    assert_prints("--version", "reversed 0.1.0\n");
    assert_prints("--threads 2 --help", "usage: reversed");
}

/* What a program says that cannot print: `redirected` is where it should have. */
static void assert_cannot_print(const char *path, const char *redirected, const char *says)
{
    char command[512], text[256] = "";
    snprintf(command, sizeof command, "ulimit -f 0; exec 2>&1; '%s' %s", path, redirected);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = '\0';
    int status = pclose(pipe);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1 || !strstr(text, says))
        fail_msg("%s %s: status %d, it says: %s", path, redirected, status, text);
}

static void help_and_version_when_they_cannot_be_printed_are_an_error(void **state)
{
    (void)state;
    const char *const paths[] = {reversed_path, reverse_path};
    char file[64], redirected[128];
    snprintf(file, sizeof file, "/tmp/reversed-test-%d.out", (int)getpid());
    snprintf(redirected, sizeof redirected, "--help >%s", file);
    for (unsigned i = 0; i < 2; i++) {
        assert_cannot_print(paths[i], "--version >&-", ": standard output: EBADF (");
        assert_cannot_print(paths[i], "--help >/dev/full", ": standard output: ENOSPC (");
        assert_cannot_print(paths[i], redirected, ": standard output: EFBIG (");
    }
    unlink(file);
}

/* ---- Addresses ---- */

static void make_unix(const char *name, struct sockaddr_storage *ret_at, socklen_t *ret_length)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    bool abstract = name[0] == '@';
    size_t size = strlen(name);
    memcpy(un.sun_path, name, size);
    if (abstract)
        un.sun_path[0] = '\0';
    *ret_at = (struct sockaddr_storage){0};
    memcpy(ret_at, &un, sizeof un);
    *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + !abstract);
}

static void assert_serves_unix(struct world *w, const char *name)
{
    struct sockaddr_storage at;
    socklen_t length;
    make_unix(name, &at, &length);
    int fd = peer_connect_to(w, &at, length);
    struct traffic t;
    traffic_fill(w, &t, 50, 99999, 8);
    traffic_check(w, fd, &t, 0);
    world_close(w, fd);
}

/* A path where nothing is, and what --listen takes for it. */
static void temporary_path(char path[64], char address[80])
{
    snprintf(path, 64, "/tmp/reversed-test-%d.sock", (int)getpid());
    snprintf(address, 80, "unix:%s", path);
    unlink(path);
}

static void unix_path_when_served_is_made_and_removed(void **state)
{
    struct world *w = *state;
    char path[64], address[80], says[128];
    struct stat file;
    temporary_path(path, address);
    struct server *s = server_start(w, "--listen", address, "--log-level", "debug", NULL);
    snprintf(says, sizeof says, "listening on %s (", address);
    assert_non_null(strstr(s->log, says));
    assert_serves_unix(w, path);
    server_log(s, "reversed: unix:pid ", 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
    assert_int_equal(lstat(path, &file), -1);
}

static void unix_path_when_stale_is_replaced_and_when_alive_is_in_use(void **state)
{
    struct world *w = *state;
    char path[64], address[80];
    struct stat file;
    temporary_path(path, address);
    struct server *s = server_start(w, "--listen", address, NULL);
    assert_int_equal(server_stop(s, SIGKILL), -SIGKILL);
    assert_int_equal(lstat(path, &file), 0);

    s = server_start(w, "--listen", address, "--threads", "2", NULL);
    assert_serves_unix(w, path);
    struct server *second = server_try(w, "--listen", address, NULL);
    assert_int_equal(server_wait(second), 1);
    assert_non_null(strstr(second->log, ": EADDRINUSE ("));
    assert_serves_unix(w, path); /* and did not take the file away */
    assert_int_equal(server_stop(s, SIGTERM), 0);
    assert_int_equal(lstat(path, &file), -1);
}

/* Another server is between bind and listen, which it does with the directory locked. This one finds a file that refuses,
 * and must wait for the lock before it takes that for stale. */
static void unix_path_when_another_server_is_starting_on_it_is_left_to_it(void **state)
{
    struct world *w = *state;
    char directory[] = "/tmp/reversed-test-XXXXXX", path[64], address[80];
    struct sockaddr_storage at;
    socklen_t length;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/socket", directory);
    snprintf(address, sizeof address, "unix:%s", path);
    make_unix(path, &at, &length);
    int lock = world_own(w, open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int other = world_own(w, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(bind(other, (struct sockaddr *)&at, length), 0);
    struct server *s = server_try(w, "--listen", address, NULL);
    usleep(300000); /* it comes to the lock; if it comes later, the test shows nothing, but fails neither */
    assert_int_equal(listen(other, 5), 0);
    assert_int_equal(flock(lock, LOCK_UN), 0);
    assert_int_equal(server_wait(s), 1);
    assert_non_null(strstr(s->log, ": EADDRINUSE ("));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
}

/* What nobody may read, or somebody holds for ever, keeps no server from starting. */
static void unix_path_when_its_directory_cannot_be_locked_is_served(void **state)
{
    struct world *w = *state;
    char directory[] = "/tmp/reversed-test-XXXXXX", address[80];
    assert_non_null(mkdtemp(directory));
    snprintf(address, sizeof address, "unix:%s/socket", directory);
    int lock = world_own(w, open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    assert_int_equal(flock(lock, LOCK_EX), 0);
    struct server *s = server_start(w, "--listen", address, NULL);
    assert_int_equal(server_stop(s, SIGTERM), 0);
    assert_int_equal(rmdir(directory), 0);
}

static void unix_path_when_it_is_another_file_is_left_alone(void **state)
{
    struct world *w = *state;
    char path[64], address[80];
    struct stat file;
    temporary_path(path, address);
    FILE *precious = fopen(path, "w");
    assert_non_null(precious);
    fputs("precious", precious);
    fclose(precious);
    struct server *s = server_try(w, "--listen", address, NULL);
    assert_int_equal(server_wait(s), 1);
    assert_non_null(strstr(s->log, ": EADDRINUSE ("));
    assert_int_equal(lstat(path, &file), 0);
    assert_int_equal(file.st_size, 8);
    unlink(path);
}

/* The start lines are given up, not waited for; what is read here is what filled the pipe. */
static void start_when_nobody_reads_the_log_serves_and_ends(void **state)
{
    struct world *w = *state;
    char name[64];
    int status;
    struct sockaddr_storage at;
    socklen_t length;
    server_conditions.full_log = true;
    snprintf(name, sizeof name, "unix:@reversed-test-%d", (int)getpid());
    make_unix(name + 5, &at, &length);
    struct server *s = server_try(w, "--listen", name, NULL);
    int fd = world_own(w, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    while (connect(fd, (struct sockaddr *)&at, length) < 0)
        usleep(1000);
    peer_send(fd, "00002ab", 7);
    assert_peer_gets(fd, "00002ba");
    world_close(w, fd);
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    s->pid = 0;
    assert_int_equal(status, 0);
}

static void addresses_when_several_are_all_served(void **state)
{
    struct world *w = *state;
    char name[64];
    snprintf(name, sizeof name, "unix:@reversed-test-%d", (int)getpid());
    struct server *s = server_start(w, "--listen", name, "--listen", "localhost:0", "--listen", "127.0.0.1:0", NULL);
    assert_int_equal(occurrences(s->log, "reversed: listening on "), 3);
    assert_non_null(strstr(s->log, name));
    assert_serves_unix(w, name + 5);
    int fd = peer_connect(w, s);
    peer_send(fd, "00002ab", 7);
    assert_peer_gets(fd, "00002ba");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void address_when_ipv6_is_served(void **state)
{
    struct world *w = *state;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    bool there = probe >= 0 && bind(probe, (struct sockaddr *)&in6, sizeof in6) == 0;
    if (probe >= 0)
        close(probe);
    if (!there)
        skip();
    struct server *s = server_start(w, "--listen", "[::1]:0", NULL);
    assert_non_null(strstr(s->log, "listening on [::1]:"));
    struct sockaddr_storage at = {0};
    in6.sin6_port = htons(s->port);
    memcpy(&at, &in6, sizeof in6);
    int fd = peer_connect_to(w, &at, sizeof in6);
    peer_send(fd, "bad", 3);
    assert_peer_end(fd);
    server_log(s, "reversed: [::1]:", 1);
    int other = peer_connect_to(w, &at, sizeof in6);
    peer_send(other, "00009123", 8);
    peer_reset(w, other); /* the peer of a connection that was reset is still known */
    server_log(s, ": reset after", 1);
    assert_int_equal(occurrences(s->log, "reversed: [::1]:"), 2);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* ---- End ---- */

static void sigterm_when_idle_ends_with_0(void **state)
{
    struct world *w = *state;
    static const int signals[] = {SIGTERM, SIGINT};
    for (unsigned i = 0; i < 2; i++) {
        struct server *s = server_start(w, "--log-level", "error", "--threads", i ? "2" : "1", NULL);
        assert_int_equal(server_stop(s, signals[i]), 0);
        assert_int_equal(occurrences(s->log, "\n"), 1);
    }
}

/* What the server has received is in its kernel only: on eight connections, of which two it has not even accepted. Half a
 * frame stands at the end of each. */
static void assert_drain_is_complete(struct world *w, struct server *s, int fds[], unsigned count,
                                     const struct traffic *t, bool tcp)
{
    uint8_t *got = world_alloc(w, t->answer_size);
    for (unsigned i = 0; i < count; i++) {
        peer_send(fds[i], t->request, t->request_size);
        peer_send(fds[i], "00005abc", 8);
    }
    for (unsigned i = 0; tcp && i < count; i++)
        peer_wait_acked(fds[i]);
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    server_thaw(s);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(peer_read(fds[i], got, t->answer_size), t->answer_size);
        assert_memory_equal(got, t->answer, t->answer_size);
        assert_peer_end(fds[i]);
        world_close(w, fds[i]);
    }
    assert_int_equal(server_wait(s), 0);
}

static void sigterm_when_frames_are_in_the_kernel_answers_each(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--log-level", "debug", NULL);
    int fds[8];
    struct traffic t;
    traffic_fill(w, &t, 40, 1500, 6); /* fits the receive buffer of a connection that was never read */
    for (unsigned i = 0; i < 6; i++) {
        fds[i] = peer_connect(w, s);
        peer_send(fds[i], "00002ab", 7);
        assert_peer_gets(fds[i], "00002ba");
    }
    server_freeze(s);
    fds[6] = peer_connect(w, s);
    fds[7] = peer_connect(w, s);
    assert_drain_is_complete(w, s, fds, 8, &t, true);
    assert_int_equal(occurrences(s->log, ": drained after "), 8);
}

static void sigterm_when_frames_are_in_a_unix_socket_answers_each(void **state)
{
    struct world *w = *state;
    char name[64];
    snprintf(name, sizeof name, "unix:@reversed-test-%d", (int)getpid());
    struct server *s = server_start(w, "--listen", name, "--log-level", "debug", NULL);
    struct sockaddr_storage at;
    socklen_t length;
    int fds[4];
    struct traffic t;
    traffic_fill(w, &t, 40, 1500, 6);
    make_unix(name + 5, &at, &length);
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = peer_connect_to(w, &at, length);
        peer_send(fds[i], "00002ab", 7);
        assert_peer_gets(fds[i], "00002ba");
    }
    server_freeze(s);
    fds[3] = peer_connect_to(w, &at, length);
    assert_drain_is_complete(w, s, fds, 4, &t, false);
    assert_int_equal(occurrences(s->log, ": drained after "), 4);
}

/* Sends frames until it is refused, and counts what comes back; never closes first. */
struct flood {
    int fd;
    const struct traffic *t;
    size_t sent;
    _Atomic size_t got;
    bool wrong;
    int end;
};

static bool all_have_got_something(struct flood *floods, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (floods[i].got == 0)
            return false;
    return true;
}

static void *flood_send(void *argument)
{
    struct flood *f = argument;
    while (peer_offer(f->fd, f->t->request, f->t->request_size))
        f->sent += f->t->request_size;
    return NULL;
}

static void *flood_read(void *argument)
{
    struct flood *f = argument;
    uint8_t piece[16384];
    ssize_t n;
    while ((n = recv(f->fd, piece, sizeof piece, 0)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            f->wrong |= piece[i] != f->t->answer[(f->got + (size_t)i) % f->t->answer_size];
        f->got += (size_t)n;
    }
    f->end = n == 0 ? 0 : errno;
    shutdown(f->fd, SHUT_RDWR);
    return NULL;
}

/* Peers that go on sending for as long as they can do not keep the server from ending, and get whole, right answers to
 * the last. (That the end is clean for them too cannot be: they are reset while they send.) */
static void sigterm_when_under_load_ends_with_0(void **state)
{
    enum { FLOODS = 8 };
    struct world *w = *state;
    struct server *s = server_start(w, "--drain-timeout", "30s", "--log-level", "debug", NULL);
    struct flood floods[FLOODS];
    pthread_t threads[2 * FLOODS];
    struct traffic t;
    unsigned seed = 3;
    traffic_init(w, &t, 100000);
    for (unsigned i = 0; i < 100; i++)
        traffic_add(&t, 1 + (uint32_t)rand_r(&seed) % 900, &seed);
    for (unsigned i = 0; i < FLOODS; i++) {
        floods[i] = (struct flood){.fd = peer_connect(w, s), .t = &t};
        assert_int_equal(pthread_create(&threads[2 * i], NULL, flood_send, &floods[i]), 0);
        assert_int_equal(pthread_create(&threads[2 * i + 1], NULL, flood_read, &floods[i]), 0);
    }
    while (server_counter(s, "frames") < 20000 || !all_have_got_something(floods, FLOODS))
        usleep(1000);
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(server_wait(s), 0);
    for (unsigned i = 0; i < 2 * FLOODS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < FLOODS; i++) {
        assert_false(floods[i].wrong);
        assert_true(floods[i].got > 0);
    }
    assert_int_equal(occurrences(s->log, ": drained after "), FLOODS);
}

static void sigterm_when_peer_owes_reading_answers_what_was_received(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--drain-timeout", "30s", "--log-level", "debug", NULL);
    struct traffic t;
    traffic_large(w, &t, 400, 5);
    int fd = peer_connect(w, s), error;
    size_t sent = peer_stuff(fd, &t, &error);
    assert_true(sent < t.request_size);
    assert_true(server_counter(s, "pauses") > 0);
    server_freeze(s);
    uint8_t *got = world_alloc(w, t.answer_size + 1);
    /* What is not acknowledged is not received. The frames that are, are owed. */
    int unacked = peer_unacked(fd);
    size_t whole = (sent - (size_t)unacked) / 100004 * 100004;
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    server_thaw(s);
    size_t n = peer_read(fd, got, t.answer_size + 1);
    assert_true(n >= whole);
    assert_int_equal(n % 100004, 0);
    assert_memory_equal(got, t.answer, n);
    world_close(w, fd);
    assert_int_equal(server_wait(s), 0);
    assert_int_equal(occurrences(s->log, ": drained after "), 1);
}

static void sigterm_when_given_twice_ends_at_once_with_3(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--threads", "2", "--drain-timeout", "0", NULL);
    int fds[10];
    for (unsigned i = 0; i < 10; i++) {
        fds[i] = peer_connect(w, s);
        peer_send(fds[i], "00002ab", 7);
        assert_peer_gets(fds[i], "00002ba");
    }
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_peer_end(fds[i]); /* the drain is on; nobody closes, so it lingers */
    usleep(150000);              /* sooner it would be the same wish */
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(server_wait(s), 3);
}

/* Two at once, as timeout(1) sends them. Both are there when the server goes on, and so are handled one after the other. */
static void sigterm_when_given_twice_at_once_is_one_wish(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00002ab", 7);
    assert_peer_gets(fd, "00002ba");
    server_freeze(s);
    peer_send(fd, "00002cd", 7);
    peer_wait_acked(fd);
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(kill(s->pid, SIGINT), 0);
    server_thaw(s);
    assert_peer_gets(fd, "00002dc");
    assert_peer_end(fd);
    world_close(w, fd);
    assert_int_equal(server_wait(s), 0);
}

static void drain_when_it_takes_too_long_is_cut_with_3(void **state)
{
    struct world *w = *state;
    char path[64], address[80];
    struct stat file;
    temporary_path(path, address);
    struct server *s =
        server_start(w, "--listen", "127.0.0.1:0", "--listen", address, "--drain-timeout", "300ms", NULL);
    struct traffic t;
    traffic_large(w, &t, 400, 5);
    int fd = peer_connect(w, s), error;
    assert_true(peer_stuff(fd, &t, &error) < t.request_size); /* more is owed than can go out unread */
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(server_wait(s), 3);
    assert_non_null(strstr(s->log, "the drain took longer than 300 ms and is cut short\n"));
    assert_non_null(strstr(s->log, ": cut after "));
    assert_int_equal(lstat(path, &file), -1);
}

/* Idle peers that do not close do not make a cut of every drain. */
static void drain_when_idle_peers_do_not_close_ends_with_0(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--drain-timeout", "1s", NULL);
    for (unsigned i = 0; i < 20; i++)
        peer_connect(w, s);
    server_await(s, "open", 20);
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(server_wait(s), 0);
}

static void signals_when_storming_change_nothing(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--threads", "2", NULL);
    struct traffic t;
    traffic_fill(w, &t, 300, 9000, 31);
    for (unsigned i = 0; i < 3000; i++) {
        assert_int_equal(kill(s->pid, SIGUSR1), 0);
        if (i % 100 == 0) {
            int fd = peer_connect(w, s);
            traffic_check(w, fd, &t, 0);
            world_close(w, fd);
        }
    }
    assert_true(server_counter(s, "thread") <= 1); /* its pipe was full for a while; it was not stuck on it */
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void restart_when_killed_binds_the_same_port(void **state)
{
    struct world *w = *state;
    char address[64];
    struct server *s = server_start(w, NULL);
    snprintf(address, sizeof address, "127.0.0.1:%u", s->port);
    for (unsigned i = 0; i < 20; i++) {
        int fds[10];
        for (unsigned k = 0; k < 10; k++) {
            fds[k] = peer_connect(w, s);
            peer_send(fds[k], "00002ab000", 10);
            assert_peer_gets(fds[k], "00002ba");
        }
        assert_int_equal(kill(s->pid, SIGKILL), 0); /* with connections open, which then linger in the kernel */
        assert_int_equal(server_wait(s), -SIGKILL);
        s = server_start(w, "--listen", address, "--threads", i % 2 ? "2" : "1", NULL);
        world_close_all(w);
    }
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void counters_when_asked_for_are_one_line_a_thread(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--threads", "2", "--log-level", "error", NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00002ab00003abc", 15);
    assert_peer_gets(fd, "00002ba00003cba");
    assert_int_equal(server_counter(s, "frames"), 2);
    assert_int_equal(server_counter(s, "bytes"), 15);
    assert_int_equal(server_counter(s, "open"), 1);
    assert_int_equal(occurrences(s->log, "counters: thread=0 "), 3);
    assert_int_equal(occurrences(s->log, "counters: thread=1 "), 3);
    assert_int_equal(server_stop(s, SIGTERM), 0);
    assert_int_equal(occurrences(s->log, "counters:"), 6); /* at exit at level debug only */
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        SERVER_TEST(start_when_wrongly_used_names_the_option_and_exits_2),
        SERVER_TEST(start_when_cores_are_more_than_connections_has_a_thread_for_each),
        SERVER_TEST(start_when_port_is_in_use_says_so_and_exits_1),
        SERVER_TEST(start_when_address_is_not_ours_exits_1),
        SERVER_TEST(start_when_io_uring_is_refused_falls_back_or_fails_by_name),
        SERVER_TEST(start_when_epoll_is_refused_says_no_more_than_is_known),
        SERVER_TEST(start_when_descriptors_are_few_says_so),
        SERVER_TEST(start_when_a_thread_cannot_be_made_is_no_start),
        SERVER_TEST(help_and_version_when_asked_for_are_printed),
        SERVER_TEST(help_and_version_when_they_cannot_be_printed_are_an_error),
        SERVER_TEST(unix_path_when_served_is_made_and_removed),
        SERVER_TEST(unix_path_when_stale_is_replaced_and_when_alive_is_in_use),
        SERVER_TEST(unix_path_when_another_server_is_starting_on_it_is_left_to_it),
        SERVER_TEST(unix_path_when_its_directory_cannot_be_locked_is_served),
        SERVER_TEST(unix_path_when_it_is_another_file_is_left_alone),
        SERVER_TEST(start_when_nobody_reads_the_log_serves_and_ends),
        SERVER_TEST(addresses_when_several_are_all_served),
        SERVER_TEST(address_when_ipv6_is_served),
        SERVER_TEST(sigterm_when_idle_ends_with_0),
        SERVER_TEST(sigterm_when_frames_are_in_the_kernel_answers_each),
        SERVER_TEST(sigterm_when_frames_are_in_a_unix_socket_answers_each),
        SERVER_TEST(sigterm_when_under_load_ends_with_0),
        SERVER_TEST(sigterm_when_peer_owes_reading_answers_what_was_received),
        SERVER_TEST(sigterm_when_given_twice_ends_at_once_with_3),
        SERVER_TEST(sigterm_when_given_twice_at_once_is_one_wish),
        SERVER_TEST(drain_when_it_takes_too_long_is_cut_with_3),
        SERVER_TEST(drain_when_idle_peers_do_not_close_ends_with_0),
        SERVER_TEST(signals_when_storming_change_nothing),
        SERVER_TEST(restart_when_killed_binds_the_same_port),
        SERVER_TEST(counters_when_asked_for_are_one_line_a_thread),
    };
    programs_find(argc, argv);
    return RUN(tests);
}
