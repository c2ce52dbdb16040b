/* SPDX-License-Identifier: MIT
 *
 * Clients inside this program: several on one loop, next to the service that they ask; and a loop that is taken away
 * from them at any moment. What a client does with lines is the business of test_client.c.
 *
 * sendmsg is wrapped by the linker: the one way in which the epoll backend sends, and what the kernel may refuse.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "service.h"

#define CLIENTS 5

ssize_t __real_sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length);
ssize_t __wrap_sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length);

static int refuse_error; /* 0: none */

ssize_t __wrap_sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    errno = refuse_error;
    return refuse_error ? -1 : __real_sendto(fd, data, size, flags, to, length);
}

/* A client, the far ends of its pipes, and what became of it. */
struct guest {
    struct client *client;
    struct client_config config;
    struct address_found servers[3];
    int to, from;
    unsigned done;
    char failure[512]; /* "" is none */
};

struct rig {
    struct world *w;
    struct service *service;
    struct log log;
    struct pro_pool *pool;
    struct sockaddr_storage at;
    socklen_t length;
    struct guest guests[CLIENTS];
};

static struct rig *rig_open(struct world *w)
{
    struct sockaddr_in any = loopback_address();
    struct rig *rig = world_alloc(w, sizeof *rig);
    rig->w = w;
    rig->length = sizeof rig->at;
    world_open(w);
    log_init(&rig->log, "test", STDERR_FILENO, LOG_ERROR, pro_now(w->loop));
    struct service_config config = {.max_frame = 99999, .high_water = 1 << 20, .log = &rig->log};
    assert_int_equal(service_new(w->loop, &config, &rig->service), 0);
    memcpy(&rig->at, &any, sizeof any);
    assert_int_equal(service_listen(rig->service, &rig->at, sizeof any, 0, &rig->at, &rig->length), 0);
    service_start(rig->service, 100);
    assert_int_equal(pro_pool_new(w->loop, NULL, &rig->pool), 0);
    return rig;
}

static void rig_close(struct rig *rig)
{
    world_shut(rig->w);
    service_free(rig->service);
    pro_pool_free(rig->pool);
}

static void on_done(void *context, const char *failure)
{
    struct guest *guest = context;
    guest->done++;
    snprintf(guest->failure, sizeof guest->failure, "%s", failure ? failure : "");
    client_free(guest->client);
}

/* The test's end does not block. */
static void pipe_of(struct world *w, int *ret_read, int *ret_write, unsigned mine)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[mine], F_SETFL, O_NONBLOCK), 0);
    *ret_read = world_own(w, fds[0]);
    *ret_write = world_own(w, fds[1]);
}

static struct guest *guest_start_at(struct rig *rig, unsigned i, const struct sockaddr_storage at[], unsigned count,
                                    const char *lines)
{
    struct guest *guest = &rig->guests[i];
    for (unsigned k = 0; k < count; k++)
        guest->servers[k] = (struct address_found){at[k], rig->length};
    guest->config = (struct client_config){
        .servers = guest->servers, .server_count = count, .pool = rig->pool, .done = on_done, .context = guest};
    pipe_of(rig->w, &guest->config.in, &guest->to, 1);
    pipe_of(rig->w, &guest->from, &guest->config.out, 0);
    write_all(guest->to, lines, strlen(lines));
    assert_int_equal(client_start(rig->w->loop, &guest->config, &guest->client), 0);
    return guest;
}

static struct guest *guest_start(struct rig *rig, unsigned i, const struct sockaddr_storage *at, const char *lines)
{
    return guest_start_at(rig, i, at, 1, lines);
}

/* It is done, its descriptors are the test's again, and this is what it has put out. */
static void assert_done(struct rig *rig, struct guest *guest, const char *output)
{
    char got[256];
    assert_int_equal(guest->done, 1);
    assert_int_equal(write(guest->config.out, "!", 1), 1);
    ssize_t n = read(guest->from, got, sizeof got - 1);
    assert_true(n > 0);
    got[n - 1] = '\0';
    assert_string_equal(got, output);
    assert_int_not_equal(fcntl(guest->config.in, F_GETFD), -1);
}

static void clients_when_on_one_loop_with_their_service_are_served(void **state)
{
    static const char *const lines[CLIENTS][2] = {{"abc\n\nde", "cba\n\ned\n"}, {"", ""}, {"\n", "\n"}};
    struct rig *rig = rig_open(*state);
    for (unsigned i = 0; i < 3; i++) {
        struct guest *guest = guest_start(rig, i, &rig->at, lines[i][0]);
        world_close(rig->w, guest->to);
    }
    RUN_UNTIL(rig->w, rig->guests[0].done && rig->guests[1].done && rig->guests[2].done);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(rig->guests[i].failure, "");
        assert_done(rig, &rig->guests[i], lines[i][1]);
    }
    rig_close(rig);
}

static void client_when_it_cannot_connect_leaves_the_others_alone(void **state)
{
    struct world *w = *state;
    struct sockaddr_in nobody = loopback_address();
    struct sockaddr_storage silent = {0}, nonsense = {.ss_family = AF_MAX};
    nobody.sin_port = htons(1);
    memcpy(&silent, &nobody, sizeof nobody);
    struct rig *rig = rig_open(w);
    struct guest *a = guest_start(rig, 0, &silent, "abc\n");
    struct guest *b = guest_start(rig, 1, &nonsense, "abc\n");
    struct guest *c = guest_start(rig, 2, &rig->at, "abc\n");
    assert_int_equal(b->done, 0); /* a start calls nobody back */
    RUN_UNTIL(w, a->done && b->done);
    assert_non_null(strstr(a->failure, "cannot reach 127."));
    assert_non_null(strstr(a->failure, ": ECONNREFUSED ("));
    assert_int_equal(strncmp(b->failure, "cannot reach unknown: EAFNOSUPPORT (", 36), 0);
    assert_done(rig, a, "");
    assert_done(rig, b, "");
    world_close(w, c->to);
    RUN_UNTIL(w, c->done);
    assert_string_equal(c->failure, "");
    assert_done(rig, c, "cba\n");
    rig_close(rig);
}

/* One that nobody listens at, one that no socket is made for, and the server's; then two that both fail. */
static void client_when_a_host_has_several_addresses_tries_each(void **state)
{
    struct world *w = *state;
    struct sockaddr_in nobody = loopback_address();
    struct sockaddr_storage at[3] = {{0}, {.ss_family = AF_MAX}};
    nobody.sin_port = htons(1);
    memcpy(&at[0], &nobody, sizeof nobody);
    struct rig *rig = rig_open(w);
    at[2] = rig->at;
    struct guest *a = guest_start_at(rig, 0, at, 3, "abc\n");
    struct guest *b = guest_start_at(rig, 1, at, 2, "abc\n");
    struct guest *c = guest_start_at(rig, 2, at + 1, 2, "abc\n");
    world_close(w, a->to);
    world_close(w, c->to);
    RUN_UNTIL(w, a->done && b->done && c->done);
    assert_string_equal(a->failure, "");
    assert_string_equal(c->failure, "");
    assert_int_equal(strncmp(b->failure, "cannot reach unknown: EAFNOSUPPORT (", 36), 0);
    assert_done(rig, a, "cba\n");
    assert_done(rig, b, "");
    assert_done(rig, c, "cba\n");
    rig_close(rig);
}

static void input_when_the_server_goes_is_not_read_any_more(void **state)
{
    struct world *w = *state;
    char got[8];
    struct rig *rig = rig_open(w);
    struct guest *guest = guest_start(rig, 0, &rig->at, "abc\n");
    RUN_UNTIL(w, read_now(guest->from, got, sizeof got) == 4);
    service_cut(rig->service);
    RUN_UNTIL(w, guest->done);
    assert_non_null(strstr(guest->failure, ": ECONNRESET ("));
    assert_done(rig, guest, "");
    write_all(guest->to, "mine", 4);
    assert_int_equal(read(guest->config.in, got, sizeof got), 4);
    rig_close(rig);
}

static void request_when_the_kernel_has_no_memory_for_it_ends_the_client(void **state)
{
    struct world *w = *state;
    struct rig *rig = rig_open(w);
    if (pro_loop_backend(w->loop) != PRO_BACKEND_EPOLL) {
        rig_close(rig);
        skip();
    }
    struct guest *guest = guest_start(rig, 0, &rig->at, "abc\n");
    refuse_error = ENOBUFS;
    RUN_UNTIL(w, guest->done); /* the server waits for it, and would for ever */
    refuse_error = 0;
    assert_non_null(strstr(guest->failure, ": ENOBUFS ("));
    assert_non_null(strstr(guest->failure, " with 1 line unanswered"));
    assert_done(rig, guest, "");
    rig_close(rig);
}

/* As many lines as it takes. Nobody reads the answers, so that in the end it does not read the server either. */
static void guest_stuff(struct guest *guest)
{
    char lines[1 << 14];
    memset(lines, 'x', sizeof lines);
    for (size_t at = 999; at < sizeof lines; at += 1000)
        lines[at] = '\n';
    while (write(guest->to, lines, sizeof lines) > 0)
        continue;
}

static void loop_when_freed_at_any_turn_ends_its_clients(void **state)
{
    struct world *w = *state;
    for (unsigned turns = 0; turns < 80; turns += turns < 20 ? 1 : 7) {
        struct sockaddr_storage nonsense[2] = {{.ss_family = AF_MAX}};
        struct sockaddr_in nobody = loopback_address();
        struct rig *rig = rig_open(w);
        nobody.sin_port = htons(1);
        memcpy(&nonsense[1], &nobody, sizeof nobody);
        guest_start(rig, 0, &rig->at, "abc\n");
        world_close(w, guest_start(rig, 1, &rig->at, "\nabc\n")->to);
        world_close(w, guest_start(rig, 2, &rig->at, "")->to);
        guest_start_at(rig, 3, nonsense, 2, "abc\n");
        struct guest *stuffed = guest_start(rig, 4, &rig->at, "");
        for (unsigned i = 0; i < turns; i++) {
            guest_stuff(stuffed);
            world_turns(w, 1);
        }
        rig_close(rig);
        for (unsigned i = 0; i < CLIENTS; i++) {
            assert_int_equal(rig->guests[i].done, 1);
            assert_int_not_equal(fcntl(rig->guests[i].config.in, F_GETFD), -1);
            assert_int_not_equal(fcntl(rig->guests[i].config.out, F_GETFD), -1);
        }
        assert_string_not_equal(rig->guests[0].failure, "");
        assert_int_equal(w->ledger.count, 0);
        world_close_all(w);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(clients_when_on_one_loop_with_their_service_are_served),
        TEST_BARE(client_when_it_cannot_connect_leaves_the_others_alone),
        TEST_BARE(client_when_a_host_has_several_addresses_tries_each),
        TEST_BARE(input_when_the_server_goes_is_not_read_any_more),
        TEST_BARE(request_when_the_kernel_has_no_memory_for_it_ends_the_client),
        TEST_BARE(loop_when_freed_at_any_turn_ends_its_clients),
    };
    return RUN(tests);
}
