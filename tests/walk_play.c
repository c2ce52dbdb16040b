/* SPDX-License-Identifier: MIT
 *
 * Players, operations and bytes of the exhaustive scenarios: walk.h.
 */
#include "walk.h"

#include <netinet/in.h>
#include <stdio.h>

enum { MOST_STEPS = 2000 };

/* ------------------------------------------------------------------------------------------------------------
 * Calls and acts
 * ------------------------------------------------------------------------------------------------------------ */

void play_call(struct play *p)
{
    CHECK(p, !p->calling, "the scenario calls the library from inside of itself");
    p->calling = true;
}

void play_called(struct play *p)
{
    p->calling = false;
}

void play_cast(struct play *p, const struct act *acts)
{
    CHECK(p, p->player_count < PLAYERS, "the scenario has too many players");
    p->players[p->player_count++] = acts;
}

void play_cast_far(struct play *p, const struct act *acts)
{
    p->far[p->player_count] = true;
    play_cast(p, acts);
}

static bool can_act(struct play *p, unsigned player, bool inside)
{
    const struct act *act = p->players[player];
    return act->name && !(inside && p->far[player]) && (!act->can || act->can(p));
}

/* One act of whom the choice falls on; false if nobody can, or if it is nobody's turn, which is the first choice. */
static bool act_once(struct play *p, bool inside)
{
    bool may_wait = inside || !pro_sim_idle(p->sim);
    unsigned able = 0;
    if (p->over)
        return false;
    for (unsigned i = 0; i < p->player_count; i++)
        able += can_act(p, i, inside);
    if (able == 0)
        return false;
    uint32_t chosen = pro_sim_choose(p->sim, able + may_wait);
    if (may_wait && chosen-- == 0)
        return false;
    unsigned player = 0;
    while (!can_act(p, player, inside) || chosen-- > 0)
        player++;
    const struct act *act = p->players[player]++;
    bool calling = p->calling;
    pro_sim_note(p->sim, "act: %s", act->name);
    p->calling = true;
    act->run(p);
    p->calling = calling;
    return true;
}

void play_continued(struct play *p)
{
    p->calling = false;
    while (p->scenario->inside && act_once(p, true))
        ;
}

/* Something happens: a step of the world, or a turn of the loop that waits for some. */
static bool go_on(struct play *p)
{
    if (!p->scenario->runs || !p->loop || p->over)
        return pro_sim_step(p->sim, 1) == 1;
    if (pro_sim_idle(p->sim))
        return false;
    CHECK(p, pro_run(p->loop, PRO_RUN_ONCE) >= 0, "pro_run fails");
    return true;
}

void play_run(struct play *p)
{
    for (unsigned fault = 0; fault < PRO_SIM_FAULTS; fault++)
        if (p->scenario->kinds >> fault & 1)
            pro_sim_rate(p->sim, (enum pro_sim_fault)fault, 1);
    for (unsigned steps = 0; !p->over; steps++) {
        CHECK(p, steps < MOST_STEPS, "the history does not end");
        while (act_once(p, false))
            ;
        if (!go_on(p))
            break;
    }
    play_settle(p);
}

void play_settle(struct play *p)
{
    p->over = true;
    pro_sim_calm(p->sim);
    CHECK(p, pro_sim_step(p->sim, MOST_STEPS) < MOST_STEPS, "the history does not end");
}

void play_rest(struct play *p)
{
    CHECK(p, pro_sim_step(p->sim, MOST_STEPS) < MOST_STEPS, "the start does not end");
}

void play_free_loop(struct play *p)
{
    struct pro_loop *loop = p->loop;
    bool calling = p->calling; /* an act may free it: it runs continuations as pro_run does */
    p->freeing = true;
    p->calling = false;
    pro_loop_free(loop);
    p->loop = NULL;
    p->calling = calling;
}

void play_end(struct play *p)
{
    p->over = true;
    if (p->loop)
        play_free_loop(p);
    CHECK(p, p->in_flight == 0, "%u operations have had no final completion", p->in_flight);
}

uint32_t play_variant(struct play *p, uint32_t count)
{
    uint32_t variant = pro_sim_choose(p->sim, count);
    pro_sim_note(p->sim, "variant %u of %u", variant, count);
    return variant;
}

uint64_t play_hits(const struct play *p, enum pro_sim_fault fault)
{
    struct pro_sim_stats stats;
    pro_sim_stats(p->sim, &stats, sizeof stats);
    return stats.hits[fault];
}

struct pro_loop *play_loop(struct play *p)
{
    struct pro_loop *loop;
    struct pro_config config = PRO_CONFIG_INIT;
    config.backend = PRO_BACKEND_SIM;
    config.sim = p->sim;
    config.allocator = pro_sim_allocator(p->sim);
    CHECK(p, pro_loop_new(&config, &loop) == 0, "no loop");
    return loop;
}

/* ------------------------------------------------------------------------------------------------------------
 * Notes
 * ------------------------------------------------------------------------------------------------------------ */

struct pro_op *note_begin(struct play *p, struct note *n, const char *name,
                          void (*then)(struct note *n, struct pro_result r))
{
    CHECK(p, !n->in_flight, "%s is started twice", name);
    n->play = p;
    n->name = name;
    n->then = then;
    n->in_flight = true;
    n->asked = p->freeing;
    n->deadline = 0;
    n->starts++;
    p->in_flight++;
    return &n->op;
}

void note_void(struct note *n)
{
    n->in_flight = false;
    n->starts--;
    n->play->in_flight--;
}

void note_asked(struct note *n)
{
    n->asked = n->in_flight;
}

void note_cancel(struct note *n)
{
    note_asked(n);
    pro_cancel(&n->op);
}

void note_deadline(struct note *n, uint64_t at)
{
    n->deadline = at;
    pro_deadline(&n->op, at);
}

/* What no program may ever see, and what it may see only if somebody asked for it. */
static void check_error(const struct note *n, int error)
{
    static const int never[] = {EAGAIN, EINTR, EBADF, EFAULT, EINVAL, EALREADY, EINPROGRESS, ENOENT, EBUSY, EEXIST};
    struct play *p = n->play;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        CHECK(p, error != never[i], "%s ends with %s", n->name, pro_error_name(error));
    CHECK(p, error != ECANCELED || n->asked || p->freeing, "%s is cancelled, and nobody asked for it", n->name);
    CHECK(p, error != ESHUTDOWN || p->freeing, "%s says that the loop is gone", n->name);
    CHECK(p, error != ETIME || (n->deadline && pro_sim_now(p->sim) >= n->deadline), "%s is too early to be late",
          n->name);
}

void on_note(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct note *n = PRO_CONTAINER_OF(op, struct note, op);
    struct play *p = n->play;
    bool more = r.flags & PRO_MORE;
    pro_sim_note(p->sim, "%s: %d%s%s%s", n->name, r.res, more ? " more" : "", r.flags & PRO_EOF ? " end" : "",
                 r.flags & PRO_PAUSED ? " paused" : "");
    CHECK(p, !p->calling, "%s: a continuation is called from inside a call", n->name);
    CHECK(p, n->in_flight, "%s completes after its final completion", n->name);
    CHECK(p, pro_op_in_flight(op) == more, "%s is %s at its completion", n->name, more ? "idle" : "in flight");
    CHECK(p, !r.slice == (r.res <= 0) || !r.slice, "%s brings a slice of nothing", n->name);
    p->calling = true;
    if (r.res < 0)
        check_error(n, -r.res);
    n->last = r;
    if (more) {
        n->mores++;
    } else {
        n->in_flight = false;
        n->finals++;
        p->in_flight--;
        p->finals++;
    }
    if (n->then)
        n->then(n, r);
    play_continued(p);
}

/* ------------------------------------------------------------------------------------------------------------
 * Bytes and peers
 * ------------------------------------------------------------------------------------------------------------ */

char tape_byte(uint32_t place)
{
    return (char)('a' + place % 26);
}

void tape_take(struct play *p, struct tape *tape, const void *data, uint32_t size)
{
    const char *bytes = data;
    CHECK(p, size <= tape->sent - tape->received, "%u bytes arrive of %u that are under way", size,
          tape->sent - tape->received);
    for (uint32_t i = 0; i < size; i++)
        CHECK(p, bytes[i] == tape_byte(tape->received + i), "byte %u of the tape arrives as '%c', not '%c'",
              tape->received + i, bytes[i], tape_byte(tape->received + i));
    tape->received += size;
}

void tape_fill(const struct tape *tape, char *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        data[i] = tape_byte(tape->sent + i);
}

void peer_open(struct play *p, struct peer *peer, struct pro_handle *handle)
{
    int fds[2];
    CHECK(p, pro_sim_pair(p->sim, fds) == 0, "no pair");
    *peer = (struct peer){.fd = fds[1], .end = 1};
    pro_adopt(p->loop, handle, fds[0]);
}

void peer_write(struct play *p, struct peer *peer, uint32_t size)
{
    char data[TAPE];
    CHECK(p, size <= TAPE, "the tape is too short");
    tape_fill(&peer->out, data, size);
    int n = pro_sim_write(p->sim, peer->fd, data, size);
    peer->out.sent += n > 0 ? (uint32_t)n : 0;
    if (n == -ECONNRESET)
        peer->end = n; /* it is told once */
}

void peer_read(struct play *p, struct peer *peer)
{
    char data[TAPE];
    for (;;) {
        int n = pro_sim_read(p->sim, peer->fd, data, sizeof data);
        if (n > 0) {
            CHECK(p, peer->end != 0, "the peer gets bytes after its end of file");
            tape_take(p, &peer->in, data, (uint32_t)n);
            continue;
        }
        if (peer->end > 0)
            peer->end = n == -EAGAIN ? 1 : n;
        return;
    }
}

void peer_end(struct play *p, struct peer *peer)
{
    pro_sim_shutdown(p->sim, peer->fd, SHUT_WR);
    peer->out.ended = true;
}

void peer_close(struct play *p, struct peer *peer)
{
    if (peer->fd < 0)
        return;
    CHECK(p, pro_sim_close(p->sim, peer->fd) == 0, "the peer's descriptor is not open");
    peer->fd = -1;
    peer->out.ended = true;
}

void peer_rest(struct play *p, struct peer *peer, int fd)
{
    char data[TAPE];
    int n;
    while ((n = pro_sim_read(p->sim, fd, data, sizeof data)) > 0)
        tape_take(p, &peer->out, data, (uint32_t)n);
}

void play_listen(struct play *p, struct pro_handle *handle, struct sockaddr_storage *ret_address)
{
    socklen_t length;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(p, pro_listen(p->loop, handle, (struct sockaddr *)&at, sizeof at, 8, 0) == 0, "no listener");
    CHECK(p, pro_local_address(handle, ret_address, &length) == 0 && length == sizeof at, "no address");
}

struct pro_pool *play_pool(struct play *p, uint32_t buffers, uint32_t quota)
{
    struct pro_pool *pool;
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.buffer_size = 256;
    config.slab_buffers = config.max_buffers = buffers;
    config.quota_buffers = quota;
    CHECK(p, pro_pool_new(p->loop, &config, &pool) == 0, "no pool");
    return pool;
}

void slice_take(struct play *p, struct tape *tape, struct pro_slice *slice)
{
    tape_take(p, tape, slice->data, slice->size);
    pro_slice_return(slice);
}
