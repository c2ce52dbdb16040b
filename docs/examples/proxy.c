/* SPDX-License-Identifier: MIT
 *
 * Passes every connection to one port of this host on to another, both ways, without copying a byte:
 *
 *      proxy 7778 7777
 *
 *      client <==> end | end <==> server       what one end receives, the other sends
 *
 * Backpressure is credit: an end may receive WINDOW bytes, and as many again as the other has sent of them. An end of
 * file is passed on as a half-close, after everything that came before it. */
#include <netinet/in.h>
#include <proactor.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW = 256 * 1024 };

struct end {
    struct end *other;
    struct pair *pair;
    struct pro_handle handle;
    struct pro_op recv, send, close;
    struct pro_slice *owed, **tail; /* received by the other end, to be sent by this one */
    bool ending, shut;              /* no more will be owed; and the peer was told */
};

struct pair {
    struct end client, server;
    int open;
    bool closing;
};

static struct pro_pool *pool;
static struct pro_handle listener;
static struct sockaddr_in target;
static pro_fn on_accept, on_connected, on_data, on_sent, on_closed;

static void end_init(struct pair *pair, struct end *end, struct end *other)
{
    end->pair = pair;
    end->other = other;
    end->tail = &end->owed;
}

static void close_pair(struct pair *pair)
{
    if (pair->closing)
        return;
    pair->closing = true;
    pro_close(&pair->client.handle, &pair->client.close, on_closed);
    if (pair->open == 2)
        pro_close(&pair->server.handle, &pair->server.close, on_closed);
}

static void listen_on(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    pro_accept_multi(&listener, op, on_accept);
}

static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    if (!(r.flags & PRO_MORE)) { /* out of descriptors or memory: those who wait are served after a pause */
        pro_timer_after(loop, op, 100 * 1000 * 1000, listen_on);
        return;
    }
    struct pair *pair = calloc(1, sizeof *pair);
    if (!pair) {
        pro_discard(loop, r.res);
        return;
    }
    end_init(pair, &pair->client, &pair->server);
    end_init(pair, &pair->server, &pair->client);
    pro_adopt(loop, &pair->client.handle, r.res);
    pair->open = 1;
    if (pro_socket(loop, &pair->server.handle, AF_INET, SOCK_STREAM, 0) < 0) {
        close_pair(pair);
        return;
    }
    pair->open = 2;
    pro_connect(&pair->server.handle, &pair->server.send, (struct sockaddr *)&target, sizeof target, on_connected);
}

static void on_connected(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pair *pair = PRO_CONTAINER_OF(op, struct end, send)->pair;
    if (r.res < 0) {
        close_pair(pair);
        return;
    }
    pro_recv_multi(&pair->client.handle, &pair->client.recv, pool, WINDOW, on_data);
    pro_recv_multi(&pair->server.handle, &pair->server.recv, pool, WINDOW, on_data);
}

/* Sends what is owed; after the last of it, the end. */
static void push(struct end *end)
{
    struct pro_slice *owed = end->owed;
    if (pro_op_in_flight(&end->send) || end->pair->closing)
        return;
    if (owed) {
        end->owed = NULL;
        end->tail = &end->owed;
        pro_send_slices(&end->handle, &end->send, owed, on_sent);
    } else if (end->ending && !end->shut) {
        end->shut = true;
        pro_shutdown(&end->handle, &end->send, SHUT_WR, on_sent);
    }
}

static void on_data(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct end *end = PRO_CONTAINER_OF(op, struct end, recv)->other;
    if (r.slice) {
        *end->tail = r.slice;
        end->tail = &r.slice->next;
    }
    if (r.flags & PRO_EOF)
        end->ending = true;
    if (r.res < 0)
        close_pair(end->pair);
    else
        push(end);
}

static void on_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct end *end = PRO_CONTAINER_OF(op, struct end, send);
    if (r.res < 0 || (end->shut && end->other->shut)) {
        close_pair(end->pair);
        return;
    }
    pro_recv_credit(&end->other->recv, (uint32_t)r.res); /* 0 for the shutdown */
    push(end);
}

static void on_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pair *pair = PRO_CONTAINER_OF(op, struct end, close)->pair;
    if (--pair->open > 0)
        return;
    pro_slice_return_list(pair->client.owed);
    pro_slice_return_list(pair->server.owed);
    free(pair);
}

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

int main(int argc, char **argv)
{
    struct pro_loop *loop;
    static struct pro_op accept;
    if (argc != 3) {
        fprintf(stderr, "usage: proxy PORT TARGET-PORT\n");
        return 2;
    }
    struct sockaddr_in at = loopback(argv[1]);
    target = loopback(argv[2]);
    if (pro_loop_new(NULL, &loop) || pro_pool_new(loop, NULL, &pool) ||
        pro_listen(loop, &listener, (struct sockaddr *)&at, sizeof at, 0, 0))
        return 1;
    pro_accept_multi(&listener, &accept, on_accept);
    return pro_run(loop, PRO_RUN_DEFAULT);
}
