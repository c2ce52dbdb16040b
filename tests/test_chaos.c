/* SPDX-License-Identifier: MIT
 *
 * Everything at once, at random: operations of every kind on handles of every kind, and in every continuation a random
 * act: cancels, deadlines, closes, aborts, releases, restarts, credit, pauses, slices split and returned, posts. A seed
 * is one history as far as the kernel allows; CHAOS_SEED=n runs that one, STRESS scales how many there are.
 *
 * On the simulation every other history is played in a hostile world, where the seed also chooses what the kernel does
 * next, and every kind of fault comes up that a plain call of the test would not meet.
 *
 * What must hold, whatever happens: one final each, none after the close of its handle; never an errno that betrays
 * an operation on a wrong descriptor or an unfinished one; never a byte more than the credit; the books balance; and
 * in the end no byte, no slice and no descriptor is left. Operations and handles are freed in their finals, and the
 * memory is spoilt. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEATS = 14, ACTORS = 80, KEPT = 64, STEPS = 250, DATA = 3000, BIG = 200000 };

enum seat_type { LISTENER, STREAM, DATAGRAM, READER, WRITER, FRESH };
enum seat_state { EMPTY, OPEN, CLOSING };

/* A handle, in memory of its own that goes with it. */
struct seat {
    struct pro_handle *handle;
    enum seat_type type;
    enum seat_state state;
    int fd;
    unsigned in_flight; /* but for the close */
};

struct chaos {
    struct world *w;
    struct pro_pool *pool;
    struct pro_remote *remote;
    struct sockaddr_storage at;
    socklen_t length;
    uint64_t random;
    bool ending, hostile;
    unsigned acts; /* of the running continuation */
    struct seat seats[SEATS];
    struct actor *actors[ACTORS];
    struct pro_slice *kept[KEPT];
    unsigned kept_count;
    uint64_t started, finals;
};

/* An operation, in memory of its own that goes with its final. */
struct actor {
    struct pro_op op;
    struct chaos *chaos;
    unsigned index;
    struct seat *seat; /* NULL: a timer or a post */
    bool closes, releases, multi;
    bool pausing;
    uint32_t credit, credit_after; /* what may come before, and after the answer to a pause */
    struct iovec iov[3];
    uint8_t data[DATA];
};

static uint8_t big[BIG];

static uint32_t draw(struct chaos *c, uint32_t below)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return (uint32_t)((c->random >> 20) % below);
}

static void act(struct chaos *c);
static pro_fn on_actor;

/* ------------------------------------------------------------------------------------------------------------
 * Seats
 * ------------------------------------------------------------------------------------------------------------ */

static struct seat *empty_seat(struct chaos *c)
{
    for (unsigned i = 0; i < SEATS; i++)
        if (c->seats[i].state == EMPTY)
            return &c->seats[i];
    return NULL;
}

static void sit(struct chaos *c, struct seat *seat, enum seat_type type, int fd)
{
    *seat = (struct seat){calloc(1, sizeof *seat->handle), type, OPEN, fd, 0};
    assert_non_null(seat->handle);
    assert_true(fd >= 0);
    pro_adopt(c->w->loop, seat->handle, fd);
}

/* A new pair, one or both ends of which sit down. */
static void seat_pair(struct chaos *c)
{
    int fds[2];
    enum seat_type type[2] = {STREAM, STREAM};
    switch (draw(c, 4)) {
    case 0:
        tcp_pair(fds);
        break;
    case 1:
        unix_pair(fds);
        break;
    case 2:
        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
        type[0] = type[1] = DATAGRAM;
        break;
    default:
        assert_int_equal(pipe2(fds, O_CLOEXEC | (draw(c, 2) ? O_NONBLOCK : 0)), 0);
        type[0] = READER, type[1] = WRITER;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct seat *seat = empty_seat(c);
        if (seat)
            sit(c, seat, type[i], fds[i]);
        else
            close(fds[i]);
    }
}

static void seat_socket(struct chaos *c)
{
    struct seat *seat = empty_seat(c);
    if (seat)
        sit(c, seat, FRESH, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static struct seat *any_seat(struct chaos *c)
{
    struct seat *seat = &c->seats[draw(c, SEATS)];
    return seat->state == EMPTY ? NULL : seat;
}

/* ------------------------------------------------------------------------------------------------------------
 * Actors
 * ------------------------------------------------------------------------------------------------------------ */

static struct actor *actor_new(struct chaos *c, struct seat *seat)
{
    for (unsigned i = 0; i < ACTORS; i++) {
        if (c->actors[i])
            continue;
        struct actor *a = calloc(1, sizeof *a);
        assert_non_null(a);
        a->chaos = c;
        a->index = i;
        a->seat = seat;
        c->actors[i] = a;
        c->started++;
        if (seat)
            seat->in_flight++;
        if (draw(c, 8) == 0)
            pro_deadline(&a->op, draw(c, 2) ? 1 : pro_now(c->w->loop) + draw(c, 200000));
        if (draw(c, 8) == 0)
            pro_op_background(&a->op);
        return a;
    }
    return NULL;
}

static struct actor *any_actor(struct chaos *c)
{
    return c->actors[draw(c, ACTORS)];
}

static void keep(struct chaos *c, struct pro_slice *slice)
{
    if (c->kept_count == KEPT || draw(c, 3) == 0)
        pro_slice_return(slice);
    else
        c->kept[c->kept_count++] = slice;
}

static struct pro_slice *take(struct chaos *c)
{
    if (c->kept_count == 0)
        return NULL;
    unsigned i = draw(c, c->kept_count);
    struct pro_slice *slice = c->kept[i];
    c->kept[i] = c->kept[--c->kept_count];
    return slice;
}

/* What must never be seen of the machinery. */
static void check_errno(const struct chaos *c, int res)
{
    static const int never[] = {EAGAIN, EINTR, EBADF, EFAULT, EINVAL, EALREADY, ENOENT, EBUSY, EEXIST};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (res == -never[i])
            fail_msg("an operation ended with %s", pro_error_name(res));
    assert_true(res != -ENOBUFS || c->hostile); /* a network may have none; a pool that has none says nothing */
}

static void check_credit(struct actor *a, struct pro_result result)
{
    if (result.res > 0 && a->credit != PRO_UNLIMITED) {
        assert_true((uint32_t)result.res <= a->credit);
        a->credit -= (uint32_t)result.res;
    }
    if (result.res == 0 && result.flags == (PRO_MORE | PRO_PAUSED)) {
        assert_true(a->pausing);
        a->pausing = false;
        a->credit = a->credit_after;
    }
}

/* The handle is closed: none of its operations is left. */
static void on_seat_closed(struct seat *seat, const struct actor *a, struct pro_result result)
{
    assert_int_equal(seat->in_flight, 0);
    if (a->releases) {
        assert_int_equal(result.res, seat->fd);
        assert_int_equal(close(seat->fd), 0);
    }
    memset(seat->handle, 0xa5, sizeof *seat->handle);
    free(seat->handle);
    seat->state = EMPTY;
}

static void on_accepted(struct chaos *c, int fd)
{
    struct seat *seat = empty_seat(c);
    if (seat && draw(c, 4))
        sit(c, seat, STREAM, fd);
    else
        pro_discard(c->w->loop, fd);
}

static void on_actor(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    struct actor *a = PRO_CONTAINER_OF(op, struct actor, op);
    struct chaos *c = a->chaos;
    struct seat *seat = a->seat;
    bool accepts = seat && seat->type == LISTENER && !a->closes;
    assert_ptr_equal(c->actors[a->index], a); /* else: a completion after the final */
    assert_int_equal(pro_op_in_flight(op), !!(result.flags & PRO_MORE));
    check_errno(c, result.res);
    if (a->multi)
        check_credit(a, result);
    if (result.slice)
        keep(c, result.slice);
    if (accepts && result.res >= 0 && !(result.flags & PRO_PAUSED))
        on_accepted(c, result.res);
    if (!(result.flags & PRO_MORE)) {
        c->actors[a->index] = NULL;
        c->finals++;
        if (a->closes)
            on_seat_closed(seat, a, result);
        else if (seat)
            seat->in_flight--;
        memset(a, 0x5a, sizeof *a);
        free(a);
    }
    for (c->acts = c->ending ? draw(c, 4) == 0 : draw(c, 3); c->acts > 0; c->acts--)
        act(c);
}

/* ------------------------------------------------------------------------------------------------------------
 * Acts
 * ------------------------------------------------------------------------------------------------------------ */

static void start_recv(struct chaos *c, struct seat *seat)
{
    struct actor *a = actor_new(c, seat);
    if (!a)
        return;
    if (seat->type == READER) {
        pro_read(seat->handle, &a->op, a->data, 1 + draw(c, DATA), PRO_STREAM, on_actor);
    } else if (draw(c, 2)) {
        pro_recv(seat->handle, &a->op, a->data, 1 + draw(c, DATA), draw(c, 2) ? PRO_RECV_ALL : 0, on_actor);
    } else {
        a->multi = true;
        a->credit = draw(c, 3) ? draw(c, 5000) : PRO_UNLIMITED;
        pro_recv_multi(seat->handle, &a->op, c->pool, a->credit, on_actor);
    }
}

static struct pro_slice *some_slices(struct chaos *c)
{
    struct pro_slice *list = NULL;
    for (unsigned n = 1 + draw(c, 4); n > 0; n--) {
        struct pro_slice *slice = take(c);
        if (!slice)
            break;
        slice->next = list;
        list = slice;
    }
    return list;
}

static void start_send(struct chaos *c, struct seat *seat)
{
    struct actor *a = actor_new(c, seat);
    size_t size = seat->type == DATAGRAM || draw(c, 3) ? 1 + draw(c, 3000) : 1 + draw(c, BIG - 1);
    struct pro_slice *list = seat->type != WRITER && draw(c, 2) ? some_slices(c) : NULL;
    if (!a) {
        pro_slice_return_list(list);
        return;
    }
    if (seat->type == WRITER) {
        pro_write(seat->handle, &a->op, big, size, PRO_STREAM, on_actor);
    } else if (list) {
        pro_send_slices(seat->handle, &a->op, list, on_actor);
    } else if (draw(c, 10) == 0 && seat->type == STREAM) {
        pro_shutdown(seat->handle, &a->op, (int)draw(c, 3), on_actor);
    } else {
        a->iov[0] = (struct iovec){big, size / 2};
        a->iov[1] = (struct iovec){big, 0};
        a->iov[2] = (struct iovec){big, size - size / 2};
        pro_send(seat->handle, &a->op, a->iov, 3, draw(c, 2) ? PRO_SEND_MORE : 0, on_actor);
    }
}

static void start_poll(struct chaos *c, struct seat *seat)
{
    struct actor *a = actor_new(c, seat);
    if (!a)
        return;
    unsigned events = draw(c, 2) ? POLLIN : POLLOUT;
    if (seat->type == LISTENER) { /* its results would pass for connections */
        pro_accept(seat->handle, &a->op, on_actor);
    } else if (draw(c, 2)) {
        pro_poll(seat->handle, &a->op, events, on_actor);
    } else {
        pro_poll_multi(seat->handle, &a->op, events, on_actor);
    }
}

static void start_accept_or_connect(struct chaos *c, struct seat *seat)
{
    struct actor *a = actor_new(c, seat);
    if (!a)
        return;
    if (seat->type == LISTENER && draw(c, 2)) {
        pro_accept_multi(seat->handle, &a->op, on_actor);
    } else if (seat->type == LISTENER) {
        pro_accept(seat->handle, &a->op, on_actor);
    } else {
        seat->type = STREAM;
        pro_connect(seat->handle, &a->op, (struct sockaddr *)&c->at, c->length, on_actor);
    }
}

static void act_start(struct chaos *c)
{
    struct seat *seat = any_seat(c);
    if (!seat)
        return;
    if (seat->type == LISTENER || seat->type == FRESH)
        start_accept_or_connect(c, seat);
    else if (draw(c, 5) == 0)
        start_poll(c, seat);
    else if (seat->type == READER || (seat->type != WRITER && draw(c, 2)))
        start_recv(c, seat);
    else
        start_send(c, seat);
}

static void act_close(struct chaos *c)
{
    static void (*const ways[])(struct pro_handle *, struct pro_op *, pro_fn *) = {pro_close, pro_abort, pro_release};
    struct seat *seat = any_seat(c);
    if (!seat || seat->state != OPEN || (seat->type == LISTENER && !c->ending && draw(c, 20)))
        return;
    struct actor *a = actor_new(c, seat);
    if (!a)
        return;
    seat->in_flight--; /* it does not count itself */
    seat->state = CLOSING;
    unsigned way = draw(c, 3);
    a->closes = true;
    a->releases = way == 2;
    ways[way](seat->handle, &a->op, on_actor);
}

static void act_cancel(struct chaos *c)
{
    struct actor *a = any_actor(c);
    struct seat *seat = any_seat(c);
    if (draw(c, 10) == 0 && seat)
        pro_cancel_all(seat->handle);
    else if (a)
        pro_cancel(&a->op);
}

static void act_deadline(struct chaos *c)
{
    struct actor *a = any_actor(c);
    uint64_t now = pro_now(c->w->loop);
    const uint64_t times[] = {0, 1, now, now + draw(c, 100000), now + 1000000000, PRO_NEVER};
    if (a)
        pro_deadline(&a->op, times[draw(c, 6)]);
}

static void act_credit(struct chaos *c)
{
    struct actor *a = any_actor(c);
    if (!a || !a->multi)
        return;
    if (draw(c, 3)) {
        uint32_t bytes = draw(c, 4) ? draw(c, 3000) : PRO_UNLIMITED;
        uint32_t *credit = a->pausing ? &a->credit_after : &a->credit;
        *credit = bytes < PRO_UNLIMITED - *credit ? *credit + bytes : PRO_UNLIMITED;
        pro_recv_credit(&a->op, bytes);
    } else {
        a->pausing = true;
        a->credit_after = 0;
        pro_recv_pause(&a->op);
    }
}

static void act_slices(struct chaos *c)
{
    struct pro_slice *slice = take(c), *tail = NULL;
    if (!slice)
        return;
    if (slice->size > 1 && draw(c, 2) && c->kept_count + 2 < KEPT &&
        pro_slice_split(slice, 1 + draw(c, slice->size - 1), &tail) == 0) {
        c->kept[c->kept_count++] = slice;
        c->kept[c->kept_count++] = tail;
    } else {
        slice->next = NULL;
        pro_slice_return(slice);
    }
}

static void act_timer(struct chaos *c)
{
    struct actor *a = actor_new(c, NULL);
    if (!a)
        return;
    if (draw(c, 3) == 0)
        pro_timer_every(c->w->loop, &a->op, 0, 1 + draw(c, 100000), on_actor);
    else
        pro_timer_after(c->w->loop, &a->op, draw(c, 200000), on_actor);
}

static void act_post(struct chaos *c)
{
    struct actor *a = actor_new(c, NULL);
    if (a && pro_post(c->remote, &a->op, on_actor) < 0) {
        assert_true(c->ending);
        c->actors[a->index] = NULL;
        c->started--;
        free(a);
    }
}

static void act_try_send(struct chaos *c)
{
    struct seat *seat = any_seat(c);
    if (seat && seat->type == STREAM)
        pro_try_send(seat->handle, big, 1 + draw(c, 3000));
}

static void act_seat(struct chaos *c)
{
    if (c->ending)
        return;
    if (draw(c, 3))
        seat_pair(c);
    else
        seat_socket(c);
}

static void act(struct chaos *c)
{
    static void (*const acts[])(struct chaos *) = {act_start,  act_start, act_start,    act_start,    act_start,
                                                   act_cancel, act_close, act_deadline, act_credit,   act_slices,
                                                   act_slices, act_timer, act_post,     act_try_send, act_seat};
    acts[draw(c, sizeof acts / sizeof acts[0])](c);
}

/* ------------------------------------------------------------------------------------------------------------
 * A history
 * ------------------------------------------------------------------------------------------------------------ */

static void configure(struct chaos *c)
{
    struct pro_config *config = &c->w->config;
    config->entries = draw(c, 3) ? 0 : 4;
    config->completion_entries = config->entries ? 8 : 0;
    config->turn_completions = draw(c, 3) ? 0 : 1 + draw(c, 8);
    config->turn_bytes = draw(c, 3) ? 0 : 1 + draw(c, 10000);
    config->spin_us = draw(c, 4) ? 0 : 20;
    config->min_wait_us = draw(c, 4) ? 0 : 20;
    config->features_off = draw(c, 3) ? 0 : draw(c, 512);
}

static void begin(struct chaos *c)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    configure(c);
    world_open(c->w);
    config.buffer_size = 256 + draw(c, 2000);
    config.slab_buffers = 1 + draw(c, 8);
    config.max_buffers = 1 + draw(c, 30);
    config.quota_buffers = 1 + draw(c, config.max_buffers);
    c->pool = world_pool(c->w, &config);
    c->remote = pro_remote_get(c->w->loop);
    int fd = loopback_listen(4, &c->at, &c->length);
    sit(c, &c->seats[0], LISTENER, fd);
    for (unsigned i = 0; i < 5; i++)
        seat_pair(c);
}

/* Faults of the network that a plain connect of the test would meet are left out, and so is a loop that cannot be made. */
static void make_world(struct chaos *c, uint64_t seed, const char *replay)
{
    static const enum pro_sim_fault left_out[] = {PRO_SIM_REFUSE, PRO_SIM_UNREACHABLE, PRO_SIM_BACKLOG, PRO_SIM_RESET,
                                                  PRO_SIM_NO_BACKEND};
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    c->hostile = seed % 2;
    config.front = c->hostile ? PRO_SIM_SEED : PRO_SIM_CALM;
    config.seed = seed;
    config.audit_every = 1;
    config.replay = replay;
    pro_sim_faults(&config, (uint16_t)(1u << draw(c, 14)));
    for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++)
        config.rates[left_out[i]] = 0;
    world_sim_change(c->w, &config);
}

static void check_books(struct chaos *c)
{
    struct pro_stats stats;
    pro_loop_stats(c->w->loop, &stats, sizeof stats);
    assert_int_equal(stats.started, stats.completed + stats.in_flight);
}

/* All is cancelled, and comes to its end; nobody starts anything new for long. */
static void wind_up(struct chaos *c)
{
    c->ending = true;
    for (unsigned turns = 0; c->finals < c->started; turns++) {
        assert_true(turns < 100000);
        for (unsigned i = 0; i < ACTORS; i++)
            if (c->actors[i])
                pro_cancel(&c->actors[i]->op);
        world_turns(c->w, 1);
    }
    check_books(c);
}

/* The loop is freed; what sits on it still is nobody's any more. */
static void end(struct chaos *c)
{
    c->ending = true;
    world_shut(c->w);
    assert_int_equal(c->finals, c->started);
    for (unsigned i = 0; i < SEATS; i++) {
        if (c->seats[i].state == EMPTY)
            continue;
        assert_int_equal(c->seats[i].in_flight, 0);
        free(c->seats[i].handle);
    }
    for (unsigned i = 0; i < c->kept_count; i++)
        pro_slice_return(c->kept[i]);
    struct pro_pool_stats stats;
    pro_pool_stats(c->pool, &stats, sizeof stats);
    assert_int_equal(stats.slices_lent + stats.buffers_lent, 0);
    pro_pool_free(c->w->pools[--c->w->pool_count]);
    pro_remote_unref(c->remote);
    assert_int_equal(c->w->ledger.count, 0);
}

static void history(struct world *w, uint64_t seed)
{
    static char note[64];
    struct chaos *c = calloc(1, sizeof *c);
    snprintf(note, sizeof note, "CHAOS_SEED=%llu", (unsigned long long)seed);
    world_note(w, note);
    world_alive();
    c->w = w;
    c->random = seed * 0x9e3779b97f4a7c15u + 1;
    unsigned descriptors = descriptor_count();
    if (world_is_sim(w))
        make_world(c, seed, note);
    begin(c);
    for (unsigned step = 0, steps = draw(c, STEPS); step < steps; step++) {
        for (unsigned i = draw(c, 4); i > 0; i--)
            act(c);
        world_turns(w, draw(c, 2));
        check_books(c);
    }
    if (draw(c, 2))
        wind_up(c);
    end(c);
    assert_int_equal(descriptor_count(), descriptors);
    free(c);
}

static void random_acts_in_every_continuation_leave_nothing_behind(void **state)
{
    struct world *w = *state;
    if (getenv("CHAOS_SEED")) {
        history(w, strtoull(getenv("CHAOS_SEED"), NULL, 10));
    } else {
        for (unsigned long seed = 1, seeds = stress(1000); seed <= seeds; seed++)
            history(w, seed);
    }
    world_note(w, NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(random_acts_in_every_continuation_leave_nothing_behind),
    };
    return RUN(tests);
}
