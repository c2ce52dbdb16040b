#include <netinet/in.h>
#include <proactor/stream.h>
#include <stdlib.h>

static void on_data(struct pro_stream *peer, struct pro_slice *slice)
{
    pro_stream_write_slices(peer, slice); /* the received memory itself goes out */
    if (!pro_stream_writable(peer))
        pro_stream_pause(peer); /* until it has read what it is owed */
}
static void on_end(struct pro_stream *peer, int error)
{
    pro_stream_close(peer, error ? PRO_STREAM_NOW : PRO_STREAM_FLUSH);
}
static void on_closed(struct pro_stream *peer, int error)
{
    free(peer);
}
static struct pro_stream_config echo = {
    .data = on_data, .end = on_end, .broken = on_end, .drained = pro_stream_resume, .closed = on_closed};

static struct pro_handle listener;
static struct pro_op accepting, resting;

static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r);
static void on_rested(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    pro_accept_multi(&listener, &accepting, on_accept);
}
static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct pro_stream *peer = r.res >= 0 ? calloc(1, sizeof *peer) : NULL;
    if (peer)
        pro_stream_open(peer, loop, r.res, &echo);
    else if (r.res >= 0)
        pro_discard(loop, r.res);
    if (!(r.flags & PRO_MORE)) /* no descriptor is left: those who come wait in the backlog */
        pro_timer_after(loop, &resting, 100000000, on_rested);
}

int main(int argc, char **argv)
{
    struct pro_loop *loop;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "7777"))};
    if (pro_loop_new(NULL, &loop) || pro_pool_new(loop, NULL, &echo.pool) ||
        pro_listen(loop, &listener, (struct sockaddr *)&at, sizeof at, 0, 0))
        return 1;
    pro_accept_multi(&listener, &accepting, on_accept);
    return pro_run(loop, PRO_RUN_DEFAULT);
}
