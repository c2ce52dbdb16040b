/* SPDX-License-Identifier: MIT
 *
 * Sends one frame to the server on a port of this host and prints the answer, each step under a deadline:
 *
 *      client 6789 'hello, world'
 *
 * A frame is five digits, the size of what follows. The operation moves from step to step; its deadline is set anew
 * for each, before the start. */
#include <errno.h>
#include <netinet/in.h>
#include <proactor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
enum { HEADER = 5, MOST = 99999 };

struct client {
    struct pro_handle handle;
    struct pro_op op;
    struct iovec frame;
    int size;
    char data[HEADER + MOST + 1];
    int status;
};
static pro_fn on_connected, on_sent, on_answer, on_closed;

static void finish(struct client *client, const char *step, int error)
{
    if (error)
        fprintf(stderr, "client: %s: %s\n", step, pro_error_text(error));
    client->status = error != 0;
    pro_close(&client->handle, &client->op, on_closed);
}

static void on_connected(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct client *client = PRO_CONTAINER_OF(op, struct client, op);
    if (r.res < 0) {
        finish(client, "connect", r.res);
        return;
    }
    pro_deadline(op, pro_now(loop) + 2 * SECOND);
    pro_send(&client->handle, op, &client->frame, 1, 0, on_sent);
}

static void on_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct client *client = PRO_CONTAINER_OF(op, struct client, op);
    if (r.res < 0) {
        finish(client, "send", r.res);
        return;
    }
    pro_deadline(op, pro_now(loop) + 2 * SECOND);
    pro_recv(&client->handle, op, client->data, (size_t)client->size, PRO_RECV_ALL, on_answer);
}

static void on_answer(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct client *client = PRO_CONTAINER_OF(op, struct client, op);
    if (r.res == client->size)
        printf("%.*s\n", r.res - HEADER, client->data + HEADER);
    finish(client, "receive", r.res == client->size ? 0 : r.res < 0 ? r.res : -ECONNRESET); /* less: it hung up */
}

static void on_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
}

int main(int argc, char **argv)
{
    static struct client client;
    struct pro_loop *loop;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (argc != 3 || strlen(argv[2]) > MOST) {
        fprintf(stderr, "usage: client PORT TEXT\n");
        return 2;
    }
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    client.size = sprintf(client.data, "%05zu%s", strlen(argv[2]), argv[2]); /* the answer's, too */
    client.frame = (struct iovec){client.data, (size_t)client.size};
    if (pro_loop_new(NULL, &loop) < 0 || pro_socket(loop, &client.handle, AF_INET, SOCK_STREAM, 0) < 0)
        return 1;
    pro_deadline(&client.op, pro_now(loop) + 2 * SECOND);
    pro_connect(&client.handle, &client.op, (struct sockaddr *)&at, sizeof at, on_connected);
    pro_run(loop, PRO_RUN_DEFAULT);
    pro_loop_free(loop);
    return client.status;
}
