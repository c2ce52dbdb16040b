/* SPDX-License-Identifier: MIT */
#include "sim_peer.h"

#include <errno.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>

#define MILLISECOND UINT64_C(1000000)

enum { MOST_TRIES = 8, MOST_FRAMES = 24 };

static pro_fn on_connected, on_sent, on_send_again, on_received, on_piece, on_receive_again, on_retry, on_guard,
    on_shut, on_closed;

static uint32_t choose(const struct peer *peer, uint32_t count)
{
    return pro_sim_choose(peer->all->sim, count);
}

/* What a program may be told, besides -ECANCELED and -ESHUTDOWN at its own wish. */
static void check_error(const struct peer *peer, int res)
{
    static const int legal[] = {ECONNRESET, EPIPE, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT, ENOMEM, ENOBUFS, ENOTCONN};
    if (res >= 0 || peer->closing || ((res == -ECANCELED || res == -ESHUTDOWN) && peer->taken))
        return;
    for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++)
        if (res == -legal[i])
            return;
    pro_sim_fail(peer->all->sim, "a peer is told %s", pro_error_name(res));
}

/* ---- The end ---- */

static void leave(struct peer *peer, enum peer_end end, int error)
{
    if (peer->end == PEER_UNDER_WAY) {
        peer->end = end;
        peer->error = error;
    }
    if (peer->closing)
        return;
    peer->closing = true;
    pro_cancel(&peer->out_wait);
    pro_cancel(&peer->in_wait);
    pro_cancel(&peer->guard);
    if (end == PEER_LEFT && (peer->how == RESETS_MID_FRAME || peer->how == RESETS_OWED))
        pro_abort(&peer->handle, &peer->close, on_closed);
    else
        pro_close(&peer->handle, &peer->close, on_closed);
}

static void on_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, close);
    if (peer->end == PEER_NOT_CONNECTED && r.res != -ESHUTDOWN && peer->tries < MOST_TRIES) {
        peer->end = PEER_UNDER_WAY;
        peer->error = 0;
        peer->closing = false;
        pro_timer_after(loop, &peer->out_wait, (1 + choose(peer, 500)) * MILLISECOND, on_retry);
        return;
    }
    peer->all->over++;
}

static void on_guard(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, guard);
    if (r.res == 0)
        leave(peer, PEER_LEFT, 0);
    else if (!peer->closing) /* its loop is freed */
        peer->end = PEER_LEFT;
}

/* ---- Sending ---- */

static bool is_owed(const struct peer *peer)
{
    return peer->got < peer->owed.size;
}

/* All is sent: what the peer does now. */
static void sent_all(struct peer *peer)
{
    switch (peer->how) {
    case RESETS_OWED:
        hits_add(peer->all->hits, "reset_owed", is_owed(peer));
        leave(peer, PEER_LEFT, 0);
        break;
    case RESETS_MID_FRAME:
        hits_add(peer->all->hits, "reset_mid_frame", 1);
        leave(peer, PEER_LEFT, 0);
        break;
    case STALLS:
    case NEVER_READS:
    case SAYS_NOTHING:
        break;
    case HALF_CLOSE:
    case TRUNCATED:
    case GIBBERISH:
        hits_add(peer->all->hits, "half_close_owed", is_owed(peer));
        peer->shut = true;
        pro_shutdown(&peer->handle, &peer->out, SHUT_WR, on_shut);
        break;
    default:
        if (is_owed(peer) || peer->shut)
            break;
        peer->shut = true;
        pro_shutdown(&peer->handle, &peer->out, SHUT_WR, on_shut);
    }
}

static void send_more(struct peer *peer)
{
    size_t left = peer->stop_at - peer->sent;
    if (left == 0) {
        peer->sending = false;
        sent_all(peer);
        return;
    }
    size_t most = peer->how == SLOW_SENDER ? 1 : 30000 - choose(peer, 30000);
    peer->sending = true;
    peer->iov = (struct iovec){peer->request + peer->sent, most < left ? most : left};
    pro_send(&peer->handle, &peer->out, &peer->iov, 1, 0, on_sent);
}

static void on_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, out);
    check_error(peer, r.res);
    peer->sent += r.res > 0 ? (size_t)r.res : 0;
    if (peer->closing)
        return;
    if (r.res < 0) { /* it may still read what came before */
        peer->sending = false;
        peer->error = r.res;
        if (peer->how == NEVER_READS)
            leave(peer, PEER_BROKEN, r.res);
        return;
    }
    uint64_t pause = peer->how == SLOW_SENDER ? 1 + choose(peer, 4) : choose(peer, 8) == 7 ? choose(peer, 40) : 0;
    if (pause > 0)
        pro_timer_after(loop, &peer->out_wait, pause * MILLISECOND, on_send_again);
    else
        send_more(peer);
}

static void on_send_again(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, out_wait);
    if (r.res == 0 && !peer->closing)
        send_more(peer);
}

static void on_shut(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    check_error(PRO_CONTAINER_OF(op, struct peer, out), r.res);
}

/* ---- Receiving ---- */

static void receive_more(struct peer *peer)
{
    if (peer->pool)
        pro_recv_multi(&peer->handle, &peer->in, peer->pool, 5000 - choose(peer, 5000), on_piece);
    else
        pro_recv(&peer->handle, &peer->in, peer->buffer, sizeof peer->buffer - choose(peer, sizeof peer->buffer), 0,
                 on_received);
}

static void check(struct peer *peer, const uint8_t *data, size_t size)
{
    if (size > peer->owed.size - peer->got)
        pro_sim_fail(peer->all->sim, "a peer gets %zu bytes and is owed %zu", peer->got + size, peer->owed.size);
    if (memcmp(peer->answer + peer->got, data, size) != 0)
        pro_sim_fail(peer->all->sim, "a peer gets other bytes than it is owed, after %zu", peer->got);
    peer->got += size;
    peer->all->bytes += size;
    if (!is_owed(peer) && !peer->sending && !peer->shut && peer->sent == peer->stop_at)
        sent_all(peer);
}

static uint64_t reading_pause(struct peer *peer)
{
    if (peer->how == SLOW_READER)
        return (1 + choose(peer, 20)) * MILLISECOND;
    return choose(peer, 16) == 7 ? choose(peer, 5) * MILLISECOND : 0;
}

static void over(struct peer *peer, struct pro_result r)
{
    /* A reset is told once, and it may have been told to the send. */
    bool clean = r.flags & PRO_EOF && peer->error == 0;
    leave(peer, clean ? PEER_CLEAN : PEER_BROKEN, clean ? 0 : r.res);
}

static void on_received(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, in);
    check_error(peer, r.res);
    if (r.res > 0)
        check(peer, peer->buffer, (size_t)r.res);
    if (peer->closing)
        return;
    uint64_t pause = reading_pause(peer);
    if (r.res <= 0)
        over(peer, r);
    else if (pause > 0)
        pro_timer_after(loop, &peer->in_wait, pause, on_receive_again);
    else
        receive_more(peer);
}

static void on_piece(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, in);
    check_error(peer, r.res);
    if (r.slice) {
        check(peer, r.slice->data, r.slice->size);
        pro_slice_return(r.slice);
    }
    if (peer->closing)
        return;
    if (!(r.flags & PRO_MORE)) {
        if (r.slice) /* the last bytes came with an end that was asked for: there is none */
            pro_sim_fail(peer->all->sim, "a receive that nobody ended has ended with data");
        over(peer, r);
    } else if (r.flags & PRO_PAUSED) {
        uint64_t pause = reading_pause(peer);
        if (pause > 0)
            pro_timer_after(loop, &peer->in_wait, pause, on_receive_again);
        else
            pro_recv_credit(op, 5000 - choose(peer, 5000));
    }
}

static void on_receive_again(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, in_wait);
    if (r.res != 0 || peer->closing)
        return;
    if (pro_op_in_flight(&peer->in))
        pro_recv_credit(&peer->in, 5000 - choose(peer, 5000));
    else
        receive_more(peer);
}

/* ---- The beginning ---- */

static void on_connected(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, out);
    check_error(peer, r.res);
    if (peer->closing)
        return;
    if (r.res < 0) {
        leave(peer, PEER_NOT_CONNECTED, r.res);
        return;
    }
    peer->all->connected++;
    pro_timer_after(loop, &peer->guard, peer->all->give_up_ns, on_guard);
    if (peer->how != NEVER_READS)
        receive_more(peer);
    send_more(peer);
}

static void try_connect(struct peer *peer)
{
    peer->tries++;
    int error = pro_socket(peer->loop, &peer->handle, AF_INET, SOCK_STREAM, 0);
    if (error == 0) {
        pro_connect(&peer->handle, &peer->out, (struct sockaddr *)&peer->all->server, sizeof peer->all->server,
                    on_connected);
    } else if (peer->tries < MOST_TRIES) {
        pro_timer_after(peer->loop, &peer->out_wait, (1 + choose(peer, 500)) * MILLISECOND, on_retry);
    } else {
        peer->end = PEER_NOT_CONNECTED;
        peer->all->over++;
    }
}

static void on_retry(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct peer *peer = PRO_CONTAINER_OF(op, struct peer, out_wait);
    if (r.res == 0) {
        try_connect(peer);
    } else {
        peer->end = PEER_NOT_CONNECTED;
        peer->all->over++;
    }
}

static uint32_t choose_for_request(void *context, uint32_t count)
{
    return pro_sim_choose(context, count);
}

/* Bytes of which some make a frame. */
static size_t gibber(struct peer *peer)
{
    static const uint8_t letters[] = "00000000123456789\r\nab ";
    size_t size = choose(peer, 200);
    for (size_t i = 0; i < size; i++) {
        uint32_t letter = choose(peer, sizeof letters);
        peer->request[i] = letters[letter] ? letters[letter] : (uint8_t)choose(peer, 256);
    }
    return size;
}

/* What it will say, and what it is owed for that. */
static void compose(struct peer *peer)
{
    static const enum oracle_end ends[BEHAVIOURS] = {[BAD_HEADER] = ORACLE_BAD,
                                                     [TRUNCATED] = ORACLE_TRUNCATED,
                                                     [STALLS] = ORACLE_TRUNCATED,
                                                     [RESETS_MID_FRAME] = ORACLE_TRUNCATED};
    bool much = peer->how == NEVER_READS || (peer->how != SLOW_SENDER && choose(peer, 8) == 7);
    size_t room = peer->how == SLOW_SENDER ? 128 : much ? 700000 : 8000;
    peer->request = malloc(room);
    peer->answer = malloc(room);
    if (!peer->request || !peer->answer)
        abort();
    peer->request_room = room;
    peer->request_size =
        peer->how == GIBBERISH
            ? gibber(peer)
            : oracle_request(choose_for_request, peer->all->sim, peer->all->most_frame,
                             much ? 200 : 1 + choose(peer, MOST_FRAMES), ends[peer->how], peer->request, room);
    peer->owed = oracle_answer(peer->request, peer->request_size, peer->all->most_frame, peer->answer);
    peer->stop_at = peer->how == SAYS_NOTHING ? 0 : peer->request_size;
}

void peer_begin(struct peer *peer, struct peers *all, struct pro_loop *loop, struct pro_pool *pool)
{
    static const char *const kinds[BEHAVIOURS] = {
        [PIPELINED] = "pipelined",     [SLOW_READER] = "slow_reader", [SLOW_SENDER] = "slow_sender",
        [STALLS] = "stalled",          [BAD_HEADER] = "bad_header",   [TRUNCATED] = "truncated",
        [NEVER_READS] = "never_reads", [GIBBERISH] = "gibberish"};
    *peer = (struct peer){.all = all, .loop = loop, .pool = pool};
    peer->how = (enum behaviour)pro_sim_choose(all->sim, BEHAVIOURS);
    compose(peer);
    if (kinds[peer->how])
        hits_add(all->hits, kinds[peer->how], 1);
    try_connect(peer);
}

bool peer_over(const struct peer *peer)
{
    return peer->end != PEER_UNDER_WAY && !peer->handle.loop && !pro_op_in_flight(&peer->out_wait);
}

void peer_free(struct peer *peer)
{
    free(peer->request);
    free(peer->answer);
}

/* Whether an answer ends after `size` bytes. The answer is made of frames like the request. */
static bool at_border(const struct peer *peer, size_t size)
{
    size_t at = 0;
    while (at < size) {
        size_t length = 0;
        for (unsigned i = 0; i < 5; i++)
            length = 10 * length + peer->answer[at + i] - '0';
        at += 5 + length;
    }
    return at == size;
}

void peer_note_drain(struct peer *peer)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    size_t at = 0, whole = 0;
    if (peer->end != PEER_UNDER_WAY || !peer->handle.loop ||
        pro_option_get(&peer->handle, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return;
    uint8_t *answer = malloc(peer->request_size);
    if (!answer)
        abort();
    at = info.tcpi_bytes_acked < peer->request_size ? (size_t)info.tcpi_bytes_acked : peer->request_size;
    whole = oracle_answer(peer->request, at, peer->all->most_frame, answer).size;
    peer->least = whole;
    free(answer);
}

void peer_judge(const struct peer *peer, enum disturbance disturbance)
{
    struct pro_sim *sim = peer->all->sim;
    bool ends_itself = peer->how >= RESETS_MID_FRAME || peer->taken, good = peer->how <= HALF_CLOSE;
    if (peer->end == PEER_CLEAN && !peer->all->freed && !at_border(peer, peer->got))
        pro_sim_fail(sim, "a clean end of file inside an answer, after %zu of %zu bytes", peer->got, peer->owed.size);
    if (disturbance == UNDISTURBED && !ends_itself && (peer->end != PEER_CLEAN || peer->got != peer->owed.size))
        pro_sim_fail(sim, "undisturbed, behaviour %d got %zu of %zu bytes, end %d, %s", peer->how, peer->got,
                     peer->owed.size, peer->end, pro_error_name(peer->error));
    if (disturbance == DRAINED && good && peer->end == PEER_CLEAN && peer->got < peer->least)
        pro_sim_fail(sim, "drained, behaviour %d got %zu bytes, and %zu were owed for what had arrived", peer->how,
                     peer->got, peer->least);
}
