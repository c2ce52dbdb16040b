/* SPDX-License-Identifier: MIT
 *
 * A million operations cancelled while they complete, their memory used again at once; connections that come and go.
 * STRESS scales the numbers (0.01 is a hundredth). */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t seed = 2463534242;

static uint32_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

/* ------------------------------------------------------------------------------------------------------------
 * Cancel against completion
 *
 * Some lanes, each a connection with one operation at a time. In every final the operation's memory is freed and the
 * next is allocated, which is the same block as a rule. Every start is met by a byte, a cancel, a deadline, or several
 * of them, now or in a later turn. The bytes written are the bytes received, or still there.
 * ------------------------------------------------------------------------------------------------------------ */

enum { LANES = 64 };

struct lane {
    struct stress *stress;
    struct pro_handle handle;
    int fd, far;
    struct flight *flight; /* NULL: between two */
    uint64_t written, received;
};

struct stress {
    struct world *w;
    struct pro_pool *pool;
    uint64_t started, finals, target, cancelled, late, done;
    struct lane lanes[LANES];
};

struct flight {
    struct pro_op op;
    struct lane *lane;
    bool counts; /* its res is bytes */
    char data[8];
};

static void fly(struct lane *lane);

static void on_flight(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct flight *flight = PRO_CONTAINER_OF(op, struct flight, op);
    struct lane *lane = flight->lane;
    struct stress *s = lane->stress;
    assert_ptr_equal(lane->flight, flight); /* else: a completion after the final */
    if (result.slice)
        pro_slice_return(result.slice);
    if (result.res > 0 && flight->counts)
        lane->received += (uint64_t)result.res;
    if (result.flags & PRO_MORE)
        return;
    s->finals++;
    s->cancelled += result.res == -ECANCELED;
    s->late += result.res == -ETIME;
    s->done += result.res >= 0;
    assert_true(result.res >= 0 || result.res == -ECANCELED || result.res == -ETIME);
    memset(flight, 0x5a, sizeof *flight);
    free(flight);
    lane->flight = NULL;
    if (draw() % 2 && s->started < s->target)
        fly(lane);
}

static void start(struct lane *lane, struct flight *flight)
{
    struct pro_handle *handle = &lane->handle;
    struct pro_loop *loop = lane->stress->w->loop;
    flight->counts = true;
    switch (draw() % 6) {
    case 0:
        pro_recv_multi(handle, &flight->op, lane->stress->pool, draw() % 4 + 1, on_flight);
        break;
    case 1:
        flight->counts = false;
        pro_poll(handle, &flight->op, POLLIN, on_flight);
        break;
    case 2:
        flight->counts = false;
        pro_timer(loop, &flight->op, pro_now(loop) + draw() % 100000, on_flight);
        break;
    default:
        pro_recv(handle, &flight->op, flight->data, sizeof flight->data, 0, on_flight);
    }
}

/* Starts the next; some are cancelled or due at once. */
static void fly(struct lane *lane)
{
    struct stress *s = lane->stress;
    struct flight *flight = calloc(1, sizeof *flight);
    assert_non_null(flight);
    flight->lane = lane;
    lane->flight = flight;
    s->started++;
    if (draw() % 8 == 0)
        pro_deadline(&flight->op, 1);
    start(lane, flight);
    if (draw() % 4 == 0)
        pro_cancel(&flight->op);
}

/* One thing happens to a lane. */
static void disturb(struct lane *lane)
{
    struct stress *s = lane->stress;
    if (!lane->flight && s->started < s->target)
        fly(lane);
    uint32_t act = draw() % 8;
    if (act < 4 && lane->written - lane->received < 64) {
        write_all(lane->far, "x", 1);
        lane->written++;
    }
    if (act >= 2 && lane->flight)
        pro_cancel(&lane->flight->op);
    if (act == 1 && lane->flight)
        pro_deadline(&lane->flight->op, pro_now(s->w->loop) + draw() % 1000);
}

static void lanes_open(struct stress *s)
{
    for (unsigned i = 0; i < LANES; i++) {
        int fds[2];
        struct lane *lane = &s->lanes[i];
        if (i % 2)
            tcp_pair(fds);
        else
            unix_pair(fds);
        lane->stress = s;
        lane->fd = fds[0];
        lane->far = world_own(s->w, fds[1]);
        pro_adopt(s->w->loop, &lane->handle, fds[0]);
    }
}

/* The rest is in the socket, or TCP still has it on its way: then the guard is the limit. */
static void lanes_check(struct stress *s)
{
    char rest[256];
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *lane = &s->lanes[i];
        while (lane->received < lane->written) {
            int n = read_now(lane->fd, rest, sizeof rest);
            lane->received += n > 0 ? (uint64_t)n : 0;
        }
        assert_int_equal(lane->received, lane->written);
        assert_int_equal(read_now(lane->fd, rest, sizeof rest), -EAGAIN);
    }
}

static void cancel_when_racing_completion_leaves_one_final_each(void **state)
{
    struct world *w = *state;
    struct stress *s = world_alloc(w, sizeof *s);
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 256;
    config.quota_buffers = 4;
    s->w = w;
    s->pool = world_pool(w, &config);
    s->target = stress(1000000);
    lanes_open(s);
    while (s->finals < s->target) {
        for (unsigned i = 0; i < LANES; i++)
            disturb(&s->lanes[draw() % LANES]);
        for (unsigned i = 0; i < LANES && s->started >= s->target; i++)
            if (s->lanes[i].flight)
                pro_cancel(&s->lanes[i].flight->op);
        world_turns(w, 1);
        world_alive();
    }
    assert_int_equal(s->finals, s->started);
    if (s->target >= 1000) /* all three outcomes were seen */
        assert_true(s->cancelled > s->target / 50 && s->late > s->target / 200 && s->done > s->target / 50);
    lanes_check(s);
}

/* ------------------------------------------------------------------------------------------------------------
 * Connections that come and go, their numbers with them
 *
 * A client and a server of the library in one loop. Every connection exchanges a mark of its own; then one end closes
 * or aborts with receives in flight, and the number goes to the next.
 * ------------------------------------------------------------------------------------------------------------ */

enum { CLIENTS = 16 };

struct client {
    struct churn *churn;
    struct pro_handle handle;
    struct pro_op op, recv, close;
    struct iovec iov;
    uint32_t mark, echo;
    bool busy;
};

struct server {
    struct churn *churn;
    struct pro_handle handle;
    struct pro_op recv, send;
    struct iovec iov;
    uint32_t mark, rest;
};

struct churn {
    struct world *w;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener;
    struct pro_op accept;
    struct client clients[CLIENTS];
    uint32_t mark;
    uint64_t cycles, target;
    unsigned servers;
};

static void on_server_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct server *server = PRO_CONTAINER_OF(op, struct server, recv);
    server->churn->servers--;
    free(server);
}

static void on_server_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    assert_true(result.res == 4 || result.res == -ECANCELED || result.res == -EPIPE || result.res == -ECONNRESET);
}

static void on_server_data(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct server *server = PRO_CONTAINER_OF(op, struct server, recv);
    if (result.res <= 0) {
        pro_close(&server->handle, op, on_server_closed);
        return;
    }
    assert_int_equal(result.res, 4);
    server->iov = (struct iovec){&server->mark, 4};
    if (!pro_op_in_flight(&server->send))
        pro_send(&server->handle, &server->send, &server->iov, 1, 0, on_server_sent);
    pro_recv(&server->handle, op, &server->rest, 4, 0, on_server_data); /* nothing comes but the end */
}

static void on_churn_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct churn *c = PRO_CONTAINER_OF(op, struct churn, accept);
    if (!(result.flags & PRO_MORE))
        return;
    struct server *server = calloc(1, sizeof *server);
    assert_non_null(server);
    server->churn = c;
    c->servers++;
    pro_adopt(loop, &server->handle, result.res);
    pro_recv(&server->handle, &server->recv, &server->mark, 4, PRO_RECV_ALL, on_server_data);
}

static void on_client_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct client *client = PRO_CONTAINER_OF(op, struct client, close);
    client->busy = false;
    client->churn->cycles++;
    assert_false(pro_op_in_flight(&client->recv) || pro_op_in_flight(&client->op));
}

/* Its own mark and no other: no operation acted on a number that was somebody else's before. */
static void on_client_echo(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct client *client = PRO_CONTAINER_OF(op, struct client, recv);
    if (result.res == 4)
        assert_int_equal(client->echo, client->mark);
    else
        assert_int_equal(result.res, -ECANCELED);
    if (pro_op_in_flight(&client->close))
        return;
    if (client->mark % 2)
        pro_close(&client->handle, &client->close, on_client_closed);
    else
        pro_abort(&client->handle, &client->close, on_client_closed);
}

static void on_client_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    assert_true(result.res == 4 || result.res == -ECANCELED);
}

static void on_client_connected(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct client *client = PRO_CONTAINER_OF(op, struct client, op);
    assert_int_equal(result.res, 0);
    client->iov = (struct iovec){&client->mark, 4};
    pro_send(&client->handle, op, &client->iov, 1, 0, on_client_sent);
    pro_recv(&client->handle, &client->recv, &client->echo, 4, PRO_RECV_ALL, on_client_echo);
    if (client->mark % 5 == 0) /* gone before the answer */
        pro_close(&client->handle, &client->close, on_client_closed);
}

static void client_start(struct client *client)
{
    struct churn *c = client->churn;
    client->busy = true;
    client->mark = ++c->mark;
    client->echo = 0;
    assert_int_equal(pro_socket(c->w->loop, &client->handle, AF_INET, SOCK_STREAM, 0), 0);
    struct linger now = {1, 0}; /* no TIME_WAIT: there are not that many ports */
    assert_int_equal(pro_option_set(&client->handle, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    pro_connect(&client->handle, &client->op, (struct sockaddr *)&c->at, c->length, on_client_connected);
}

static void connections_when_they_come_and_go_never_meet_each_other(void **state)
{
    struct world *w = *state;
    struct churn *c = world_alloc(w, sizeof *c);
    c->w = w;
    c->target = stress(50000);
    c->listener = world_listen(w, &c->at, &c->length);
    pro_accept_multi(c->listener, &c->accept, on_churn_accept);
    unsigned most = 0;
    while (c->cycles < c->target) {
        for (unsigned i = 0; i < CLIENTS; i++) {
            c->clients[i].churn = c;
            if (!c->clients[i].busy)
                client_start(&c->clients[i]);
        }
        world_run(w, PRO_RUN_ONCE);
        most = c->servers > most ? c->servers : most;
        world_alive();
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        RUN_UNTIL(w, !c->clients[i].busy);
    RUN_UNTIL(w, c->servers == 0);
    assert_true(most <= 16 * CLIENTS);
    assert_int_equal(world_close_handle(w, c->listener), 0);
    assert_false(pro_op_in_flight(&c->accept));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(cancel_when_racing_completion_leaves_one_final_each),
        TEST(connections_when_they_come_and_go_never_meet_each_other),
    };
    return RUN(tests);
}
