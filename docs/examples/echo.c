/* An echo server on port 7777 of the loopback: every connection is one object with one operation. */
#include <netinet/in.h>
#include <proactor.h>
#include <stdlib.h>

struct peer {
    struct pro_handle handle;
    struct pro_op op;
    struct iovec iov;
    char data[4096];
};
static pro_fn on_data, on_sent, on_closed;

static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    (void)op;
    struct peer *peer = r.res >= 0 ? calloc(1, sizeof *peer) : NULL;
    if (!peer) {
        if (r.res >= 0)
            pro_discard(loop, r.res);
        return;
    }
    pro_adopt(loop, &peer->handle, r.res);
    pro_recv(&peer->handle, &peer->op, peer->data, sizeof peer->data, 0, on_data);
}

static void on_data(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    (void)loop;
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, op);
    if (r.res <= 0) { /* end of file, or an error */
        pro_close(&peer->handle, op, on_closed);
        return;
    }
    peer->iov = (struct iovec){peer->data, (size_t)r.res};
    pro_send(&peer->handle, op, &peer->iov, 1, 0, on_sent);
}

static void on_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    (void)loop;
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, op);
    if (r.res < 0)
        pro_close(&peer->handle, op, on_closed);
    else
        pro_recv(&peer->handle, op, peer->data, sizeof peer->data, 0, on_data);
}

static void on_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    (void)loop, (void)r;
    free(PRO_CONTAINER_OF(op, struct peer, op));
}

int main(void)
{
    struct pro_loop *loop;
    struct pro_handle listener = {0};
    struct pro_op accept = {0};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7777), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (pro_loop_new(NULL, &loop) < 0 || pro_listen(loop, &listener, (struct sockaddr *)&at, sizeof at, 0, 0) < 0)
        return 1;
    pro_accept_multi(&listener, &accept, on_accept);
    pro_run(loop, PRO_RUN_DEFAULT);
    pro_loop_free(loop);
}
