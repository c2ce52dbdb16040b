/* SPDX-License-Identifier: MIT
 *
 * Clause 10, and what the header says of sockets: listening, accepting, connecting, addresses, options. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * 10. Errors
 * ------------------------------------------------------------------------------------------------------------ */

static void c10_error_of_either_sign_has_a_name_and_a_sentence(void **state)
{
    (void)state;
    static const struct {
        int error;
        const char *name;
    } known[] = {
        {ECONNRESET, "ECONNRESET"}, {ECANCELED, "ECANCELED"},
        {ETIME, "ETIME"},           {ESHUTDOWN, "ESHUTDOWN"},
        {EPIPE, "EPIPE"},           {ECHILD, "ECHILD"},
        {ENOSYS, "ENOSYS"},         {EPERM, "EPERM"},
        {EACCES, "EACCES"},         {EINVAL, "EINVAL"},
        {EOPNOTSUPP, "EOPNOTSUPP"}, {ENOMEM, "ENOMEM"},
        {EMFILE, "EMFILE"},         {ENFILE, "ENFILE"},
        {ENOBUFS, "ENOBUFS"},       {ECONNREFUSED, "ECONNREFUSED"},
        {EADDRINUSE, "EADDRINUSE"}, {ENOTSOCK, "ENOTSOCK"},
        {ENOTCONN, "ENOTCONN"},     {ETIMEDOUT, "ETIMEDOUT"},
        {EBADF, "EBADF"},           {EIO, "EIO"},
        {ENOSPC, "ENOSPC"},         {EISDIR, "EISDIR"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_string_equal(pro_error_name(known[i].error), known[i].name);
        assert_string_equal(pro_error_name(-known[i].error), known[i].name);
        assert_true(strlen(pro_error_text(known[i].error)) > 10);
        assert_ptr_equal(pro_error_text(known[i].error), pro_error_text(-known[i].error)); /* static */
    }
}

static void c10_error_that_is_not_known_is_told_all_the_same(void **state)
{
    (void)state;
    static const int unknown[] = {4095, -4095, 100000, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(pro_error_name(unknown[i]), "E?");
        assert_non_null(pro_error_text(unknown[i]));
    }
}

static struct record *connect_to(struct world *w, struct pro_handle *near, const void *address, socklen_t length)
{
    struct record *r = world_record(w);
    pro_connect(near, record_begin(r), address, length, on_record);
    RUN_UNTIL(w, r->finals == 1);
    return r;
}

static void c10_connect_when_nobody_listens_is_refused(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length), *near = world_handle(w);
    assert_int_equal(world_close_handle(w, listener), 0);
    assert_int_equal(pro_socket(w->loop, near, AF_INET, SOCK_STREAM, 0), 0);
    struct record *r = connect_to(w, near, &at, length);
    assert_int_equal(r->last.res, -ECONNREFUSED);
    assert_int_equal(world_close_handle(w, near), 0); /* it can only be closed */
}

static void c10_receive_when_not_connected_fails(void **state)
{
    struct world *w = *state;
    struct pro_handle *near = world_handle(w);
    struct record *r = world_record(w);
    char data[4];
    assert_int_equal(pro_socket(w->loop, near, AF_INET, SOCK_STREAM, 0), 0);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, -ENOTCONN);
}

static void reset_by(int far)
{
    struct linger now = {1, 0};
    assert_int_equal(setsockopt(far, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
}

static void c10_receive_when_the_peer_resets_fails(void **state)
{
    struct world *w = *state;
    struct pro_pool *pool = world_pool(w, NULL);
    for (unsigned i = 0; i < 4; i++) {
        int far;
        char data[4];
        struct pro_handle *near = world_tcp(w, &far);
        struct record *r = world_record(w);
        if (i % 2)
            pro_recv_multi(near, record_begin(r), pool, PRO_UNLIMITED, on_record);
        else
            pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        world_turns(w, i);
        reset_by(far);
        world_close(w, far);
        RUN_UNTIL(w, r->finals == 1);
        assert_int_equal(r->last.res, -ECONNRESET);
        assert_int_equal(r->last.flags, 0);
    }
}

static void c10_end_of_file_is_zero_with_a_flag(void **state)
{
    struct world *w = *state;
    int far;
    char data[4];
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    world_close(w, far);
    for (unsigned i = 1; i < 4; i++) { /* and again */
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        RUN_UNTIL(w, r->finals == i);
        assert_int_equal(r->last.res, 0);
        assert_int_equal(r->last.flags, PRO_EOF);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Listening
 * ------------------------------------------------------------------------------------------------------------ */

/* Listens, has a client of the library connect, and checks both ends' addresses against each other. */
static void listen_and_connect(struct world *w, const void *address, socklen_t length)
{
    struct pro_handle *listener = world_handle(w), *client = world_handle(w), *server = world_handle(w);
    struct sockaddr_storage at = {0}, peer = {0}, own = {0};
    socklen_t at_length = sizeof at, peer_length = sizeof peer, own_length = sizeof own;
    struct record *accept = world_record(w);
    assert_int_equal(pro_listen(w->loop, listener, address, length, 0, 0), 0);
    assert_int_equal(pro_local_address(listener, &at, &at_length), 0);
    pro_accept(listener, record_begin(accept), on_record);
    assert_int_equal(pro_socket(w->loop, client, at.ss_family, SOCK_STREAM, 0), 0);
    assert_int_equal(connect_to(w, client, &at, at_length)->last.res, 0);
    RUN_UNTIL(w, accept->finals == 1);
    assert_true(accept->last.res >= 0);
    pro_adopt(w->loop, server, accept->last.res);
    assert_int_equal(pro_peer_address(client, &peer, &peer_length), 0);
    assert_int_equal(peer_length, at_length);
    assert_memory_equal(&peer, &at, at_length);
    assert_int_equal(pro_peer_address(server, &peer, &peer_length), 0);
    assert_int_equal(pro_local_address(client, &own, &own_length), 0);
    assert_int_equal(peer_length, own_length);
    assert_memory_equal(&peer, &own, own_length);
    assert_int_equal(pro_peer_address(listener, &peer, &peer_length), -ENOTCONN);
}

static void listen_on_ipv4(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    listen_and_connect(*state, &at, sizeof at);
}

static void listen_on_ipv6(void **state)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool have = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0;
    if (fd >= 0)
        close(fd);
    if (!have)
        skip();
    listen_and_connect(*state, &at, sizeof at);
}

static void listen_on_a_unix_path(void **state)
{
    char dir[] = "/tmp/proactor-test-XXXXXX";
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    assert_non_null(mkdtemp(dir));
    snprintf(at.sun_path, sizeof at.sun_path, "%s/socket", dir);
    listen_and_connect(*state, &at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(at.sun_path) + 1));
    unlink(at.sun_path);
    rmdir(dir);
}

static void listen_on_an_abstract_name(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int n = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "proactor-test-%d", (int)getpid());
    listen_and_connect(*state, &at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n));
}

static void listen_when_the_address_is_taken_fails(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *other = world_handle(w), zero = {0};
    world_listen(w, &at, &length);
    assert_int_equal(pro_listen(w->loop, other, (struct sockaddr *)&at, length, 0, 0), -EADDRINUSE);
    assert_memory_equal(other, &zero, sizeof zero); /* closed, and nothing leaked: teardown looks */
    struct sockaddr_in bad = {.sin_family = AF_INET, .sin_addr = {htonl(0x01020304)}};
    if (!world_is_sim(w)) /* whose one host has every address */
        assert_int_equal(pro_listen(w->loop, other, (struct sockaddr *)&bad, sizeof bad, 0, 0), -EADDRNOTAVAIL);
    bad.sin_family = 77;
    assert_int_equal(pro_listen(w->loop, other, (struct sockaddr *)&bad, sizeof bad, 0, 0), -EAFNOSUPPORT);
    assert_int_equal(pro_socket(w->loop, other, 77, SOCK_STREAM, 0), -EAFNOSUPPORT);
}

static void listen_with_reuseport_shares_the_address(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at = {0};
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof at;
    struct pro_handle *one = world_handle(w), *two = world_handle(w);
    assert_int_equal(pro_listen(w->loop, one, (struct sockaddr *)&any, sizeof any, 16, PRO_REUSEPORT), 0);
    assert_int_equal(pro_local_address(one, &at, &length), 0);
    assert_int_equal(pro_listen(w->loop, two, (struct sockaddr *)&at, length, 16, PRO_REUSEPORT), 0);
}

/* After a connection that leaves TIME_WAIT behind, the port is free for the next listener. */
static void listen_again_on_the_port_of_a_served_connection(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length), *server = world_handle(w);
    struct record *r = world_record(w);
    pro_accept(listener, record_begin(r), on_record);
    int far = world_own(w, tcp_connect(&at, length));
    RUN_UNTIL(w, r->finals == 1);
    pro_adopt(w->loop, server, r->last.res);
    assert_int_equal(world_close_handle(w, server), 0); /* this end closes first: TIME_WAIT is on the port */
    world_close(w, far);
    assert_int_equal(world_close_handle(w, listener), 0);
    assert_int_equal(pro_listen(w->loop, listener, (struct sockaddr *)&at, length, 0, 0), 0);
}

/* ------------------------------------------------------------------------------------------------------------
 * Accepting
 * ------------------------------------------------------------------------------------------------------------ */

static void accepted_descriptor_is_nonblocking_and_close_on_exec(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w);
    for (unsigned i = 1; i <= 2; i++) {
        if (i == 1)
            pro_accept(listener, record_begin(r), on_record);
        else
            pro_accept_multi(listener, record_begin(r), on_record);
        world_own(w, tcp_connect(&at, length));
        RUN_UNTIL(w, r->completions == i);
        if (!world_is_sim(w)) {
            assert_true(fcntl(r->last.res, F_GETFL) & O_NONBLOCK);
            assert_true(fcntl(r->last.res, F_GETFD) & FD_CLOEXEC);
        }
        pro_discard(w->loop, r->last.res);
    }
    struct pro_handle *near = world_handle(w);
    int on = 0;
    socklen_t size = sizeof on;
    assert_int_equal(pro_socket(w->loop, near, AF_INET, SOCK_STREAM, 0), 0);
    assert_int_equal(pro_option_get(near, SOL_SOCKET, SO_TYPE, &on, &size), 0);
    assert_int_equal(on, SOCK_STREAM);
}

/* In a world of its own, whose descriptors begin at 0. */
static void accept_zero_on_sim(struct world *w)
{
    struct pro_sim_config from_0 = PRO_SIM_CONFIG_INIT;
    struct pro_config config = w->config;
    struct pro_loop *outer = w->loop;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct pro_handle *listener = world_handle(w), *near = world_handle(w);
    struct record *r = world_record(w), *recv = world_record(w);
    int ends[2];
    char data[4];
    from_0.first_descriptor = PRO_SIM_FROM_0;
    assert_int_equal(pro_sim_new(&from_0, &config.sim), 0);
    assert_int_equal(pro_sim_pipe(config.sim, ends), 0);
    assert_int_equal(ends[0], 0);
    assert_int_equal(pro_loop_new(&config, &w->loop), 0);
    assert_int_equal(pro_listen(w->loop, listener, (struct sockaddr *)&at, sizeof at, 0, 0), 0);
    for (unsigned i = 0; i < 2; i++) {
        int far = pro_sim_connect(config.sim, (struct sockaddr *)&at, sizeof at);
        assert_true(far > 0);
        assert_int_equal(i ? world_close_handle(w, near) : pro_sim_close(config.sim, 0), 0);
        (i ? pro_accept_multi : pro_accept)(listener, record_begin(r), on_record);
        RUN_UNTIL(w, r->completions == i + 1);
        assert_int_equal(r->last.res, 0);
        pro_adopt(w->loop, near, 0);
        pro_recv(near, record_begin(recv), data, sizeof data, 0, on_record);
        assert_int_equal(pro_sim_write(config.sim, far, "abc", 3), 3);
        RUN_UNTIL(w, recv->finals == i + 1);
        assert_int_equal(recv->last.res, 3);
        assert_int_equal(pro_sim_close(config.sim, far), 0);
    }
    assert_int_equal(pro_sim_close(config.sim, ends[1]), 0);
    world_shut(w);
    pro_sim_free(config.sim);
    w->loop = outer;
}

/* Descriptor 0 is one too. */
static void accept_when_number_zero_is_free_yields_it(void **state)
{
    struct world *w = *state;
    if (world_is_sim(w)) {
        accept_zero_on_sim(w);
        return;
    }
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length), *near = world_handle(w);
    struct record *r = world_record(w), *recv = world_record(w);
    char data[4];
    int far = world_own(w, tcp_connect(&at, length));
    int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100);
    assert_true(saved >= 0);
    for (unsigned i = 0; i < 2; i++) {
        close(STDIN_FILENO);
        if (i == 0)
            pro_accept(listener, record_begin(r), on_record);
        else
            pro_accept_multi(listener, record_begin(r), on_record);
        if (i == 1)
            far = world_own(w, tcp_connect(&at, length)); /* takes number 0 itself: give it another */
        if (far == STDIN_FILENO) {
            int moved = dup(far);
            world_own(w, moved);
            world_close(w, far);
            far = moved;
        }
        RUN_UNTIL(w, r->completions == i + 1);
        assert_int_equal(r->last.res, 0);
        pro_adopt(w->loop, near, 0);
        pro_recv(near, record_begin(recv), data, sizeof data, 0, on_record);
        write_all(far, "abc", 3);
        RUN_UNTIL(w, recv->finals == i + 1);
        assert_int_equal(recv->last.res, 3);
        assert_int_equal(world_close_handle(w, near), 0);
        assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
    }
    assert_int_equal(dup2(saved, STDIN_FILENO), STDIN_FILENO);
    close(saved);
}

static void discard_the_accepted(struct record *r, struct pro_result result)
{
    if (result.res >= 0)
        pro_discard(r->world->loop, result.res);
}

static void accept_multi_when_connections_flood_delivers_each(void **state)
{
    struct world *w = *state;
    enum { MANY = 1000 };
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w);
    r->then = discard_the_accepted;
    pro_accept_multi(listener, record_begin(r), on_record);
    for (unsigned i = 1; i <= MANY; i++) {
        int far = tcp_connect(&at, length);
        if (i % 50 == 0)
            RUN_UNTIL(w, r->completions == i);
        close(far);
    }
    RUN_UNTIL(w, r->completions == MANY);
    assert_int_equal(r->finals, 0);
}

static void accepts_when_queued_each_get_one(void **state)
{
    struct world *w = *state;
    enum { MANY = 10 };
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        r[i]->then = discard_the_accepted;
        pro_accept(listener, record_begin(r[i]), on_record);
    }
    for (unsigned i = 0; i < MANY; i++)
        world_own(w, tcp_connect(&at, length));
    for (unsigned i = 0; i < MANY; i++) {
        RUN_UNTIL(w, r[i]->finals == 1);
        assert_true(r[i]->last.res >= 0);
    }
}

/* Reset before it is accepted: still a descriptor (or not shown at all); the listener goes on. */
static void accept_when_a_connection_was_reset_goes_on(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w);
    r->then = discard_the_accepted;
    int far = tcp_connect(&at, length);
    reset_by(far);
    close(far);
    pro_accept_multi(listener, record_begin(r), on_record);
    world_turns(w, 3);
    unsigned before = r->completions;
    world_own(w, tcp_connect(&at, length));
    RUN_UNTIL(w, r->completions == before + 1);
    assert_int_equal(r->finals, 0);
}

/* All numbers are taken: the accept ends with -EMFILE, the connection waits in the backlog for the next. */
static void accept_when_descriptors_run_out_ends_and_loses_nothing(void **state)
{
    struct world *w = *state;
    static int taken[40000];
    for (unsigned multi = 0; multi < 2; multi++) {
        struct sockaddr_storage at;
        socklen_t length;
        struct pro_handle *listener = world_listen(w, &at, &length);
        struct record *r = world_record(w);
        r->then = discard_the_accepted;
        world_turns(w, 1); /* whatever the loop opens for itself is open now */
        int far = world_own(w, tcp_connect(&at, length));
        unsigned count = 0;
        while ((taken[count] = dup(far)) >= 0)
            count++;
        if (multi)
            pro_accept_multi(listener, record_begin(r), on_record);
        else
            pro_accept(listener, record_begin(r), on_record);
        RUN_UNTIL(w, r->finals == 1);
        while (count > 0)
            close(taken[--count]);
        assert_int_equal(r->last.res, -EMFILE);
        pro_accept(listener, record_begin(r), on_record);
        RUN_UNTIL(w, r->finals == 2);
        assert_true(r->last.res >= 0);
    }
}

/* What came from a listener and is received from at once. */
struct arrival {
    struct pro_handle *near;
    struct pro_pool *pool;
    struct record *received;
};

static void receive_from_the_accepted(struct record *r, struct pro_result result)
{
    struct arrival *a = r->context;
    assert_true(result.res >= 0);
    pro_adopt(r->world->loop, a->near, result.res);
    pro_recv_multi(a->near, record_begin(a->received), a->pool, PRO_UNLIMITED, on_record);
}

static struct arrival *arrival(struct world *w, struct pro_handle *listener, struct pro_pool *pool)
{
    struct arrival *a = world_alloc(w, sizeof *a);
    struct record *r = world_record(w);
    *a = (struct arrival){world_handle(w), pool, world_record(w)};
    r->then = receive_from_the_accepted;
    r->context = a;
    pro_accept(listener, record_begin(r), on_record);
    return a;
}

static void assert_received(struct world *w, const struct record *r, const char *expected)
{
    char text[32] = "";
    world_turns(w, 20);
    record_text(r, text, sizeof text);
    assert_string_equal(text, expected);
}

/* A receive stops at the mark of urgent data, and that is not the end of what is there. */
static void accepted_connection_with_urgent_data_is_read_on(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct pro_pool *pool = world_pool(w, NULL);
    skip_on_sim(w);
    for (unsigned turns = 0; turns < 8; turns++) {
        struct record *r = arrival(w, listener, pool)->received;
        int far = world_own(w, tcp_connect(&at, length));
        write_all(far, "abc", 3);
        world_turns(w, turns);
        write_all(far, "def", 3);
        assert_int_equal(send(far, "!", 1, MSG_OOB), 1); /* goes another way */
        write_all(far, "ghi", 3);
        assert_received(w, r, "abcdefghi");
        write_all(far, "jkl", 3);
        world_close(w, far);
        assert_received(w, r, "abcdefghijkl");
        assert_int_equal(r->finals, 1);
        assert_int_equal(r->last.flags & PRO_EOF, PRO_EOF);
    }
}

static void stop_after_a_piece(struct record *r, struct pro_result result)
{
    if (result.slice)
        pro_cancel(&r->op);
}

static void accepted_connection_when_received_from_in_two_ways_loses_nothing(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct arrival *a = arrival(w, listener, world_pool(w, NULL));
    struct record *single = world_record(w), *again = world_record(w);
    int far = world_own(w, tcp_connect(&at, length));
    char byte;
    write_all(far, "a", 1);
    a->received->then = stop_after_a_piece;
    RUN_UNTIL(w, a->received->finals == 1);
    pro_recv(a->near, record_begin(single), &byte, 1, 0, on_record);
    world_turns(w, 5);
    write_all(far, "bcd", 3);
    RUN_UNTIL(w, single->finals == 1);
    pro_recv_multi(a->near, record_begin(again), a->pool, PRO_UNLIMITED, on_record);
    assert_received(w, again, "cd");
}

/* One stops at every control message of a Unix socket too. */
static void accepted_connection_with_control_messages_is_read_on(void **state)
{
    struct world *w = *state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int n = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "proactor-test-%d", (int)getpid());
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    struct pro_handle *listener = world_handle(w);
    struct pro_pool *pool = world_pool(w, NULL);
    skip_on_sim(w);
    assert_int_equal(pro_listen(w->loop, listener, (struct sockaddr *)&at, length, 0, 0), 0);
    for (unsigned turns = 0; turns < 8; turns++) {
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
        char byte = 'a';
        struct iovec iov = {&byte, 1};
        struct msghdr message = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        struct record *r = arrival(w, listener, pool)->received;
        int far = world_own(w, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        assert_int_equal(connect(far, (struct sockaddr *)&at, length), 0);
        memcpy(CMSG_DATA(&control.header), &far, sizeof far);
        world_turns(w, turns);
        assert_int_equal(sendmsg(far, &message, 0), 1);
        assert_int_equal(sendmsg(far, &message, 0), 1);
        write_all(far, "b", 1);
        assert_received(w, r, "aab");
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * Options; flags; blocking descriptors
 * ------------------------------------------------------------------------------------------------------------ */

static void options_are_those_of_the_socket(void **state)
{
    struct world *w = *state;
    int far, on = 1, got = 0;
    socklen_t size = sizeof got;
    struct pro_handle *near = world_tcp(w, &far);
    assert_int_equal(pro_option_set(near, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on), 0);
    assert_int_equal(pro_option_get(near, SOL_SOCKET, SO_KEEPALIVE, &got, &size), 0);
    assert_int_equal(got, 1);
    assert_int_equal(pro_option_set(near, IPPROTO_TCP, TCP_NODELAY, &on, 0), -EINVAL);
    assert_int_equal(pro_option_get(near, SOL_SOCKET, 99999, &got, &size), -ENOPROTOOPT);
}

/* "File status flags are never changed: a blocking descriptor is fine." The loop must not block in its stead. */
static void use_blocking(struct world *w, int near_fd, int far, bool socket)
{
    int flags = fcntl(near_fd, F_GETFL);
    static uint8_t big[1 << 20], scrap[65536];
    char data[16];
    struct pro_handle *near = world_adopt(w, near_fd);
    struct record *r = world_record(w), *send = world_record(w), *timer = world_record(w), *poll = world_record(w);
    struct iovec iov = {big, sizeof big};
    if (socket)
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    pro_timer_after(w->loop, record_begin(timer), 1000, on_record);
    RUN_UNTIL(w, timer->finals == 1); /* nothing blocks */
    if (socket) {
        assert_int_equal(r->finals, 0);
        write_all(far, "abc", 3);
        RUN_UNTIL(w, r->finals == 1);
        assert_int_equal(r->last.res, 3);
        pro_send(near, record_begin(send), &iov, 1, 0, on_record);
    } else {
        pro_write(near, record_begin(send), big, sizeof big, PRO_STREAM, on_record);
    }
    pro_poll(near, record_begin(poll), POLLPRI, on_record);
    pro_timer_after(w->loop, record_begin(timer), 1000, on_record);
    RUN_UNTIL(w, timer->finals == 2);
    assert_int_equal(send->finals, 0);
    assert_int_equal(fcntl(near_fd, F_GETFL), flags);
    while (!send->finals) {
        while (read_now(far, scrap, sizeof scrap) > 0)
            continue;
        world_turns(w, 1);
    }
    assert_int_equal(send->last.res, sizeof big);
    assert_int_equal(fcntl(near_fd, F_GETFL), flags);
    assert_int_equal(world_close_handle(w, near), 0);
}

static void blocking_socket_does_not_block_the_loop(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 2; i++) {
        int fds[2];
        if (i)
            tcp_pair(fds);
        else
            unix_pair(fds);
        if (i == 0)
            assert_int_equal(fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) & ~O_NONBLOCK), 0);
        else
            assert_int_equal(fcntl(fds[0], F_SETFL, O_RDWR), 0);
        int size = 16384;
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        use_blocking(w, fds[0], world_own(w, fds[1]), true);
    }
}

static void blocking_pipe_does_not_block_the_loop(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    use_blocking(w, ends[1], world_own(w, ends[0]), false);
}

static void blocking_listener_does_not_block_the_loop(void **state)
{
    struct world *w = *state;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(listen(fd, 16), 0);
    struct pro_handle *listener = world_adopt(w, fd);
    struct record *r = world_record(w), *timer = world_record(w);
    struct sockaddr_storage at;
    socklen_t length = sizeof at;
    r->then = discard_the_accepted;
    assert_int_equal(pro_local_address(listener, &at, &length), 0);
    pro_accept_multi(listener, record_begin(r), on_record);
    for (unsigned i = 1; i <= 3; i++) {
        pro_timer_after(w->loop, record_begin(timer), 1000, on_record);
        RUN_UNTIL(w, timer->finals == i);
        assert_int_equal(r->completions, i - 1);
        world_own(w, tcp_connect(&at, length));
        RUN_UNTIL(w, r->completions == i);
        assert_true(fcntl(r->last.res, F_GETFL) < 0); /* discarded */
    }
    assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(c10_error_of_either_sign_has_a_name_and_a_sentence),
        TEST_BARE(c10_error_that_is_not_known_is_told_all_the_same),
        TEST(c10_connect_when_nobody_listens_is_refused),
        TEST(c10_receive_when_not_connected_fails),
        TEST(c10_receive_when_the_peer_resets_fails),
        TEST(c10_end_of_file_is_zero_with_a_flag),
        TEST(listen_on_ipv4),
        TEST(listen_on_ipv6),
        TEST(listen_on_a_unix_path),
        TEST(listen_on_an_abstract_name),
        TEST(listen_when_the_address_is_taken_fails),
        TEST(listen_with_reuseport_shares_the_address),
        TEST(listen_again_on_the_port_of_a_served_connection),
        TEST(accepted_descriptor_is_nonblocking_and_close_on_exec),
        TEST(accept_when_number_zero_is_free_yields_it),
        TEST(accept_multi_when_connections_flood_delivers_each),
        TEST(accepts_when_queued_each_get_one),
        TEST(accept_when_a_connection_was_reset_goes_on),
        TEST(accept_when_descriptors_run_out_ends_and_loses_nothing),
        TEST(accepted_connection_with_urgent_data_is_read_on),
        TEST(accepted_connection_when_received_from_in_two_ways_loses_nothing),
        TEST(accepted_connection_with_control_messages_is_read_on),
        TEST(options_are_those_of_the_socket),
        TEST(blocking_socket_does_not_block_the_loop),
        TEST(blocking_pipe_does_not_block_the_loop),
        TEST(blocking_listener_does_not_block_the_loop),
    };
    return RUN(tests);
}
