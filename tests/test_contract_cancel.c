/* SPDX-License-Identifier: MIT
 *
 * Clauses 4 and 5: cancels and deadlines. */
#include "harness.h"
#include "kinds.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#define MS_NS UINT64_C(1000000)

/* ------------------------------------------------------------------------------------------------------------
 * 4. Cancel hastens and decides nothing
 * ------------------------------------------------------------------------------------------------------------ */

static void finish_cancelled(struct scene *s)
{
    assert_int_equal(s->r->finals, 0);
    RUN_UNTIL(s->w, s->r->finals == 1);
    assert_int_equal(s->r->completions, 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_int_equal(s->r->last.flags, 0);
    world_turns(s->w, 3);
    assert_int_equal(s->r->completions, 1);
}

static void cancel_before_a_turn(struct scene *s)
{
    scene_start(s);
    pro_cancel(&s->r->op);
    assert_int_equal(s->r->completions, 0); /* never calls back */
    if (s->kind->flags & KIND_SENDS) {      /* may have moved bytes before: they are told, and it is cut */
        RUN_UNTIL(s->w, s->r->finals == 1);
        assert_int_equal(s->r->last.res, -ECANCELED);
    } else {
        finish_cancelled(s);
    }
}

static void c04_operation_of_any_kind_when_cancelled_at_once_ends_cancelled(void **state)
{
    for_kinds(*state, 0, 0, cancel_before_a_turn);
}

static void cancel_after_turns(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 4);
    pro_cancel(&s->r->op);
    finish_cancelled(s);
}

static void c04_operation_of_any_kind_when_cancelled_in_flight_ends_cancelled(void **state)
{
    for_kinds(*state, 0, 0, cancel_after_turns);
}

static void cancel_many_times(struct scene *s)
{
    scene_start(s);
    pro_cancel(&s->r->op);
    pro_cancel(&s->r->op);
    world_turns(s->w, 1);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    pro_cancel(&s->r->op);
    world_turns(s->w, 3);
    assert_int_equal(s->r->finals, 1);
}

static void c04_operation_of_any_kind_when_cancelled_often_ends_once(void **state)
{
    for_kinds(*state, 0, 0, cancel_many_times);
}

static void cancel_self(struct scene *s, struct pro_result result)
{
    (void)result;
    pro_cancel(&s->r->op);
}

static void cancel_self_when_fed(struct scene *s)
{
    s->then = cancel_self;
    scene_start(s);
    scene_feed(s);
    RUN_UNTIL(s->w, s->r->finals == 1);
    assert_true(s->r->last.res == -ECANCELED || s->r->finals == s->r->completions);
    if (s->kind->flags & KIND_MULTI)
        assert_int_equal(s->r->last.res, -ECANCELED);
}

static void c04_operation_of_any_kind_when_it_cancels_itself_ends_once(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < kind_count; i++) {
        if (!kinds[i].feed || (kinds[i].flags & KIND_SLOW))
            continue;
        world_note(w, kinds[i].name);
        struct scene *s = scene_open(w, &kinds[i]);
        cancel_self_when_fed(s);
        scene_shut(s);
    }
    world_note(w, NULL);
}

static void cancel_other(struct record *r, struct pro_result result)
{
    struct scene *s = r->context;
    (void)result;
    pro_cancel(&s->r->op);
    assert_int_equal(s->r->completions, 0);
}

static void cancel_from_a_timer(struct scene *s)
{
    struct record *timer = world_record(s->w);
    timer->context = s;
    timer->then = cancel_other;
    scene_start(s);
    pro_timer(s->w->loop, record_begin(timer), 0, on_record);
    finish_cancelled(s);
    assert_int_equal(timer->finals, 1);
}

static void c04_operation_of_any_kind_when_cancelled_by_another_continuation_ends_cancelled(void **state)
{
    for_kinds(*state, 0, 0, cancel_from_a_timer);
}

static void cancel_all_on_handle(struct scene *s)
{
    if (!s->handle)
        return;
    scene_start(s);
    world_turns(s->w, 2);
    pro_cancel_all(s->handle);
    pro_cancel_all(s->handle);
    finish_cancelled(s);
    if (s->before && s->kind->flags & KIND_QUEUED) {
        RUN_UNTIL(s->w, s->before->finals == 1);
        assert_int_equal(s->before->last.res, -ECANCELED);
    }
}

static void c04_everything_on_a_handle_when_cancelled_ends_cancelled(void **state)
{
    for_kinds(*state, 0, 0, cancel_all_on_handle);
}

static void c04_handle_when_its_operations_are_cancelled_works_on(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w), *poll = world_record(w);
    char data[8];
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    pro_poll_multi(near, record_begin(poll), 1 /* POLLIN */, on_record);
    world_turns(w, 2);
    pro_cancel_all(near);
    RUN_UNTIL(w, r->finals == 1 && poll->finals == 1);
    pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
    world_turns(w, 3);
    assert_int_equal(r->finals, 1);
    write_all(far, "abc", 3);
    RUN_UNTIL(w, r->finals == 2);
    assert_int_equal(r->last.res, 3);
}

/* A queued operation that is cancelled goes; the one before it does not notice. */
static void cancel_queued_only(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 2);
    pro_cancel(&s->r->op);
    finish_cancelled(s);
    assert_int_equal(s->before->finals, 0);
    if (s->kind->flags & KIND_RECEIVES) {
        write_all(s->far, "1", 1);
        RUN_UNTIL(s->w, s->before->finals == 1);
        assert_int_equal(s->before->last.res, 1);
    }
}

static void c04_queued_operation_when_cancelled_leaves_the_one_before_it(void **state)
{
    for_kinds(*state, KIND_QUEUED, 0, cancel_queued_only);
}

/* Whatever wins: the bytes arrive, or they are still there for the next. */
static void feed_and_cancel(struct scene *s, unsigned turns)
{
    uint8_t rest[64];
    scene_start(s);
    world_turns(s->w, turns);
    write_all(s->far, "12345", 5);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    int got = (int)s->r->bytes + (s->r->head || s->r->last.res < 0 ? 0 : s->r->last.res);
    int left = read_now(s->fd, rest, sizeof rest);
    assert_int_equal(got + (left > 0 ? left : 0), 5);
}

static void feed_and_cancel_at_once(struct scene *s)
{
    feed_and_cancel(s, 0);
}

static void feed_and_cancel_later(struct scene *s)
{
    feed_and_cancel(s, 3);
}

static void c04_data_when_racing_a_cancel_is_not_lost(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"recv", "recv_multi", "recv_multi, paused", "read"};
    for (unsigned i = 0; i < kind_count; i++) {
        for (unsigned n = 0; n < sizeof names / sizeof names[0]; n++) {
            if (strcmp(kinds[i].name, names[n]) != 0)
                continue;
            world_note(w, names[n]);
            struct scene *s = scene_open(w, &kinds[i]);
            feed_and_cancel_at_once(s);
            scene_shut(s);
            s = scene_open(w, &kinds[i]);
            feed_and_cancel_later(s);
            scene_shut(s);
        }
    }
    world_note(w, NULL);
}

/* A receive of all that is cut delivers what had come, or leaves it: nothing in between. */
static void c04_recv_all_when_cancelled_midway_loses_nothing(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char data[8] = "", rest[8] = "";
    pro_recv(near, record_begin(r), data, 8, PRO_RECV_ALL, on_record);
    world_turns(w, 2);
    write_all(far, "abcd", 4);
    world_turns(w, 3);
    assert_int_equal(r->completions, 0);
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 1);
    int had = r->last.res > 0 ? r->last.res : 0;
    assert_true(had > 0 || r->last.res == -ECANCELED);
    assert_memory_equal(data, "abcd", (size_t)had);
    write_all(far, "efgh", 4);
    pro_recv(near, record_begin(r), rest, (size_t)(8 - had), PRO_RECV_ALL, on_record);
    RUN_UNTIL(w, r->finals == 2);
    assert_int_equal(r->last.res, 8 - had);
    assert_memory_equal(rest, &"abcdefgh"[had], (size_t)(8 - had));
}

/* Every connection is delivered or still in the backlog: `rounds` cancelled accepts against one connect each. */
static void c04_connection_when_racing_a_cancel_is_not_lost(void **state)
{
    struct world *w = *state;
    enum { ROUNDS = 200 };
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w);
    int far[ROUNDS];
    unsigned accepted = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        pro_accept(listener, record_begin(r), on_record);
        world_turns(w, i % 3);
        far[i] = tcp_connect(&at, length);
        world_turns(w, i % 2);
        pro_cancel(&r->op);
        RUN_UNTIL(w, r->finals == r->starts);
        if (r->last.res >= 0) {
            pro_discard(w->loop, r->last.res);
            accepted++;
        } else {
            assert_int_equal(r->last.res, -ECANCELED);
        }
    }
    while (accepted < ROUNDS) {
        pro_accept(listener, record_begin(r), on_record);
        RUN_UNTIL(w, r->finals == r->starts);
        assert_true(r->last.res >= 0);
        pro_discard(w->loop, r->last.res);
        accepted++;
    }
    pro_accept(listener, record_begin(r), on_record);
    world_turns(w, 3);
    assert_int_equal(r->finals, r->starts - 1); /* there was not one too many */
    for (unsigned i = 0; i < ROUNDS; i++)
        close(far[i]);
}

/* A multishot is cancelled, or late, amid a flood and started anew, over and over: not a byte is missing. */
struct flood {
    uint64_t sent, seen;
};

static void follow_flood(struct record *r, struct pro_result result)
{
    struct flood *f = r->context;
    if (!result.slice)
        return;
    assert_true(pattern_holds(result.slice->data, result.slice->size, f->seen));
    f->seen += result.slice->size;
    record_drop(r);
}

static void c04_multishot_recv_when_cancelled_under_load_loses_nothing(void **state)
{
    struct world *w = *state;
    struct flood *f = world_alloc(w, sizeof *f);
    struct record *r = world_record(w);
    struct pro_pool *pool = world_pool(w, NULL);
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    static uint8_t data[10000];
    r->context = f;
    r->then = follow_flood;
    for (unsigned i = 0; i < 300; i++) {
        pattern_fill(data, sizeof data, f->sent);
        ssize_t moved = write(far, data, 1 + (i * 379) % sizeof data);
        f->sent += moved > 0 ? (uint64_t)moved : 0;
        pro_recv_multi(near, record_begin(r), pool, PRO_UNLIMITED, on_record);
        world_turns(w, i % 4);
        if (i % 3)
            pro_cancel(&r->op);
        else
            pro_deadline(&r->op, 1);
        RUN_UNTIL(w, r->finals == r->starts);
        assert_int_equal(r->last.res, i % 3 ? -ECANCELED : -ETIME);
    }
    pro_recv_multi(near, record_begin(r), pool, PRO_UNLIMITED, on_record);
    RUN_UNTIL(w, f->seen == f->sent);
}

static void discard_accepted(struct record *r, struct pro_result result)
{
    if (result.res < 0)
        return;
    ++*(unsigned *)r->context;
    pro_discard(r->world->loop, result.res);
}

static void c04_multishot_accept_when_cancelled_under_load_loses_no_connection(void **state)
{
    struct world *w = *state;
    struct sockaddr_storage at;
    socklen_t length;
    struct pro_handle *listener = world_listen(w, &at, &length);
    struct record *r = world_record(w);
    unsigned *accepted = world_alloc(w, sizeof *accepted), made = 0;
    r->context = accepted;
    r->then = discard_accepted;
    for (unsigned i = 0; i < 100; i++) {
        pro_accept_multi(listener, record_begin(r), on_record);
        world_turns(w, i % 2);
        for (unsigned n = 0; n < i % 5; n++, made++)
            world_own(w, tcp_connect(&at, length));
        world_turns(w, i % 3);
        pro_cancel(&r->op);
        RUN_UNTIL(w, r->finals == r->starts);
        assert_int_equal(r->last.res, -ECANCELED);
    }
    pro_accept_multi(listener, record_begin(r), on_record);
    RUN_UNTIL(w, *accepted == made);
    world_turns(w, 3);
    assert_int_equal(*accepted, made);
}

/* There is no room for the cancel, the end of the stream comes first, and is told late for other things are before it.
 * The next receive, which finds the end as well, waits. */
static void c04_receive_when_its_cancel_waits_for_room_tells_before_the_next(void **state)
{
    struct world *w = *state;
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    struct record *timers[8], *first = world_record(w), *second = world_record(w);
    uint8_t data[2];
    int far;
    if (!world_is_sim(w))
        skip();
    config.rates[PRO_SIM_CANCEL_FULL] = UINT16_MAX;
    world_sim_change(w, &config);
    w->config.turn_completions = 2;
    world_open(w);
    struct pro_handle *near = world_unix(w, &far);
    pro_recv(near, record_begin(first), &data[0], 1, 0, on_record);
    pro_recv(near, record_begin(second), &data[1], 1, 0, on_record);
    for (unsigned i = 0; i < 8; i++) {
        timers[i] = world_record(w);
        pro_timer(w->loop, record_begin(timers[i]), PRO_NEVER, on_record);
    }
    world_turns(w, 2);
    world_close(w, far);
    for (unsigned i = 0; i < 8; i++)
        pro_cancel(&timers[i]->op);
    pro_cancel(&first->op);
    RUN_UNTIL(w, first->finals + second->finals == 2);
    assert_int_equal(first->last.flags, PRO_EOF);
    assert_int_equal(second->last.flags, PRO_EOF);
    assert_true(first->order < second->order);
}

static void c04_cancel_of_an_idle_operation_does_not_reach_its_next_flight(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w);
    char data[8];
    for (unsigned i = 0; i < 100; i++) {
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        write_all(far, "x", 1);
        RUN_UNTIL(w, r->finals == r->starts);
        pro_cancel(&r->op);
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        world_turns(w, 2);
        assert_int_equal(r->finals + 1, r->starts);
        write_all(far, "x", 1);
        RUN_UNTIL(w, r->finals == r->starts);
        assert_int_equal(r->last.res, 1);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * 5. Deadlines
 * ------------------------------------------------------------------------------------------------------------ */

static void finish_late(struct scene *s)
{
    RUN_UNTIL(s->w, s->r->finals == 1);
    assert_int_equal(s->r->completions, 1);
    assert_int_equal(s->r->last.res, -ETIME);
}

static void deadline_before_start(struct scene *s)
{
    pro_deadline(&s->r->op, pro_now(s->w->loop) + MS_NS);
    scene_start(s);
    finish_late(s);
}

static void c05_operation_of_any_kind_when_its_deadline_passes_ends_late(void **state)
{
    for_kinds(*state, 0, 0, deadline_before_start);
}

static void deadline_in_flight(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 2);
    pro_deadline(&s->r->op, pro_now(s->w->loop) + MS_NS);
    finish_late(s);
}

static void c05_operation_of_any_kind_when_given_a_deadline_in_flight_ends_late(void **state)
{
    for_kinds(*state, 0, 0, deadline_in_flight);
}

/* As after the process has stood still: the data of very many is there, and then all their deadlines have passed. A
 * kernel does not tell so many results at once. */
static void c05_deadlines_of_many_when_their_data_is_there_spare_it(void **state)
{
    enum { CROWD = 200 };
    struct world *w = *state;
    struct record *r[CROWD];
    int far[CROWD];
    char *bytes = world_alloc(w, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        r[i] = world_record(w);
        pro_recv(world_unix(w, &far[i]), record_begin(r[i]), &bytes[i], 1, 0, on_record);
    }
    world_turns(w, 3);
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(write(far[i], "x", 1), 1);
        pro_deadline(&r[i]->op, 1);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        RUN_UNTIL(w, r[i]->finals == 1);
        assert_int_equal(r[i]->last.res, 1);
    }
}

/* The socket is full before it begins: it is tried in vain, and the next ones wait without. */
static void c05_send_when_there_is_no_room_to_begin_with_ends_late(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_unix(w, &far);
    struct record *r = world_record(w);
    char *bytes = world_alloc(w, 65536);
    int n;
    for (size_t size = 65536; size > 0; size /= 2)
        while ((n = pro_try_send(near, bytes, size)) != -EAGAIN)
            assert_true(n > 0);
    for (unsigned i = 1; i <= 3; i++) {
        struct iovec iov = {bytes, 1};
        pro_deadline(&r->op, pro_now(w->loop) + MS_NS);
        pro_send(near, record_begin(r), &iov, 1, 0, on_record);
        RUN_UNTIL(w, r->finals == i);
        assert_int_equal(r->last.res, -ETIME);
    }
}

static void deadline_in_the_past(struct scene *s)
{
    scene_start(s);
    pro_deadline(&s->r->op, 1);
    assert_int_equal(s->r->completions, 0);
    finish_late(s);
}

static void c05_operation_of_any_kind_when_its_deadline_has_passed_ends_in_the_next_turn(void **state)
{
    for_kinds(*state, 0, 0, deadline_in_the_past);
}

static void deadline_moved_nearer(struct scene *s)
{
    pro_deadline(&s->r->op, pro_now(s->w->loop) + 3600 * 1000 * MS_NS);
    scene_start(s);
    world_turns(s->w, 2);
    assert_int_equal(s->r->completions, 0);
    pro_deadline(&s->r->op, pro_now(s->w->loop) + MS_NS);
    finish_late(s);
}

static void c05_deadline_of_any_kind_when_moved_nearer_holds(void **state)
{
    for_kinds(*state, 0, 0, deadline_moved_nearer);
}

/* A timer started after the deadline's time ends after it would have. */
static void pass_by(struct scene *s, uint64_t at)
{
    struct record *timer = world_record(s->w);
    pro_timer(s->w->loop, record_begin(timer), at, on_record);
    RUN_UNTIL(s->w, timer->finals == 1);
    world_turns(s->w, 3);
}

static void deadline_moved_away(struct scene *s, uint64_t to)
{
    uint64_t at = pro_now(s->w->loop) + MS_NS;
    pro_deadline(&s->r->op, at);
    scene_start(s);
    pro_deadline(&s->r->op, to);
    pass_by(s, at + MS_NS);
    assert_int_equal(s->r->finals, 0);
    if (s->kind->feed && !(s->kind->flags & KIND_SLOW)) {
        scene_feed(s);
        assert_true(s->r->last.res >= 0);
    }
}

static void deadline_cleared(struct scene *s)
{
    deadline_moved_away(s, 0);
}

static void c05_deadline_of_any_kind_when_cleared_does_not_come(void **state)
{
    for_kinds(*state, 0, 0, deadline_cleared);
}

static void deadline_moved_later(struct scene *s)
{
    deadline_moved_away(s, pro_now(s->w->loop) + 3600 * 1000 * MS_NS);
}

static void c05_deadline_of_any_kind_when_moved_away_does_not_come(void **state)
{
    for_kinds(*state, 0, 0, deadline_moved_later);
}

static void deadline_never(struct scene *s)
{
    deadline_moved_away(s, PRO_NEVER);
}

static void c05_deadline_of_any_kind_when_moved_to_never_does_not_come(void **state)
{
    for_kinds(*state, 0, 0, deadline_never);
}

static void deadline_set_and_cleared_before(struct scene *s)
{
    pro_deadline(&s->r->op, 1);
    pro_deadline(&s->r->op, 0);
    scene_start(s);
    world_turns(s->w, 4);
    assert_int_equal(s->r->completions, 0);
}

static void c05_deadline_of_any_kind_when_cleared_before_the_start_does_not_come(void **state)
{
    for_kinds(*state, 0, 0, deadline_set_and_cleared_before);
}

static void deadline_of_one_flight(struct scene *s)
{
    scene_start(s);
    pro_deadline(&s->r->op, 1);
    finish_late(s);
    scene_start(s);
    world_turns(s->w, 4);
    assert_int_equal(s->r->finals, 1);
}

static void c05_deadline_holds_for_one_flight_only(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"accept_multi", "recv", "recv_multi", "read", "poll", "timer", "timer_every"};
    for (unsigned i = 0; i < kind_count; i++)
        for (unsigned n = 0; n < sizeof names / sizeof names[0]; n++)
            if (strcmp(kinds[i].name, names[n]) == 0) {
                world_note(w, names[n]);
                struct scene *s = scene_open(w, &kinds[i]);
                deadline_of_one_flight(s);
                scene_shut(s);
            }
    world_note(w, NULL);
}

static void result_and_deadline(struct scene *s)
{
    if (!s->kind->feed || (s->kind->flags & (KIND_SLOW | KIND_MULTI)))
        return;
    pro_deadline(&s->r->op, pro_now(s->w->loop) + 3600 * 1000 * MS_NS);
    scene_start(s);
    scene_feed(s);
    assert_true(s->r->last.res >= 0);
    assert_int_equal(s->r->finals, 1);
    pro_deadline(&s->r->op, 0);
    world_turns(s->w, 2);
    assert_int_equal(s->r->completions, 1);
}

static void c05_result_of_any_kind_when_it_comes_before_the_deadline_is_told(void **state)
{
    for_kinds(*state, 0, 0, result_and_deadline);
}

static void cancel_then_deadline(struct scene *s)
{
    scene_start(s);
    world_turns(s->w, 1);
    pro_cancel(&s->r->op);
    pro_deadline(&s->r->op, 1);
    RUN_UNTIL(s->w, s->r->finals == 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
}

static void c05_cancel_of_any_kind_when_before_the_deadline_names_the_error(void **state)
{
    for_kinds(*state, 0, 0, cancel_then_deadline);
}

/* The deadline falls due in the turn in which a timer's continuation then cancels: the timer is later. */
static void deadline_then_cancel(struct scene *s)
{
    struct record *timer = world_record(s->w);
    uint64_t at = pro_now(s->w->loop) + MS_NS;
    timer->context = s;
    timer->then = NULL;
    scene_start(s);
    pro_deadline(&s->r->op, at);
    pro_timer(s->w->loop, record_begin(timer), at + MS_NS, on_record);
    RUN_UNTIL(s->w, timer->finals == 1);
    pro_cancel(&s->r->op);
    RUN_UNTIL(s->w, s->r->finals == 1);
    assert_int_equal(s->r->last.res, -ETIME);
}

static void c05_deadline_of_any_kind_when_before_the_cancel_names_the_error(void **state)
{
    for_kinds(*state, 0, 0, deadline_then_cancel);
}

static void deadline_of_queued_only(struct scene *s)
{
    pro_deadline(&s->r->op, pro_now(s->w->loop) + MS_NS);
    scene_start(s);
    finish_late(s);
    assert_int_equal(s->before->finals, 0);
}

static void c05_queued_operation_when_late_leaves_the_one_before_it(void **state)
{
    for_kinds(*state, KIND_QUEUED, 0, deadline_of_queued_only);
}

/* Set, moved and cleared thousands of times; those whose last word was "soon" end, and no other. */
static void c05_deadlines_when_many_are_each_kept(void **state)
{
    struct world *w = *state;
    enum { MANY = 600 };
    struct record *r[MANY];
    char *data = world_alloc(w, MANY);
    uint32_t random = 12345;
    for (unsigned i = 0; i < MANY; i++) {
        int far;
        r[i] = world_record(w);
        pro_recv(world_unix(w, &far), record_begin(r[i]), data + i, 1, 0, on_record);
    }
    for (unsigned n = 0; n < 20000; n++) {
        random = random * 1664525 + 1013904223;
        uint64_t hour = pro_now(w->loop) + 3600 * 1000 * MS_NS;
        pro_deadline(&r[(random >> 8) % MANY]->op, random & 0x80000000 ? hour + (random & 0xffff) * MS_NS : 0);
        if (n % 1000 == 0)
            world_turns(w, 1);
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(r[i]->finals, 0);
        pro_deadline(&r[i]->op, i % 2 ? pro_now(w->loop) + i * 1000 : 0);
    }
    for (unsigned i = 1; i < MANY; i += 2) {
        RUN_UNTIL(w, r[i]->finals == 1);
        assert_int_equal(r[i]->last.res, -ETIME);
    }
    for (unsigned i = 0; i < MANY; i += 2)
        assert_int_equal(r[i]->finals, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c04_operation_of_any_kind_when_cancelled_at_once_ends_cancelled),
        TEST(c04_operation_of_any_kind_when_cancelled_in_flight_ends_cancelled),
        TEST(c04_operation_of_any_kind_when_cancelled_often_ends_once),
        TEST(c04_operation_of_any_kind_when_it_cancels_itself_ends_once),
        TEST(c04_operation_of_any_kind_when_cancelled_by_another_continuation_ends_cancelled),
        TEST(c04_everything_on_a_handle_when_cancelled_ends_cancelled),
        TEST(c04_handle_when_its_operations_are_cancelled_works_on),
        TEST(c04_queued_operation_when_cancelled_leaves_the_one_before_it),
        TEST(c04_data_when_racing_a_cancel_is_not_lost),
        TEST(c04_recv_all_when_cancelled_midway_loses_nothing),
        TEST(c04_connection_when_racing_a_cancel_is_not_lost),
        TEST(c04_multishot_recv_when_cancelled_under_load_loses_nothing),
        TEST(c04_multishot_accept_when_cancelled_under_load_loses_no_connection),
        TEST_BARE(c04_receive_when_its_cancel_waits_for_room_tells_before_the_next),
        TEST(c04_cancel_of_an_idle_operation_does_not_reach_its_next_flight),
        TEST(c05_operation_of_any_kind_when_its_deadline_passes_ends_late),
        TEST(c05_operation_of_any_kind_when_given_a_deadline_in_flight_ends_late),
        TEST(c05_operation_of_any_kind_when_its_deadline_has_passed_ends_in_the_next_turn),
        TEST(c05_deadline_of_any_kind_when_moved_nearer_holds),
        TEST(c05_deadline_of_any_kind_when_cleared_does_not_come),
        TEST(c05_deadline_of_any_kind_when_moved_away_does_not_come),
        TEST(c05_deadline_of_any_kind_when_moved_to_never_does_not_come),
        TEST(c05_deadline_of_any_kind_when_cleared_before_the_start_does_not_come),
        TEST(c05_deadline_holds_for_one_flight_only),
        TEST(c05_result_of_any_kind_when_it_comes_before_the_deadline_is_told),
        TEST(c05_cancel_of_any_kind_when_before_the_deadline_names_the_error),
        TEST(c05_deadline_of_any_kind_when_before_the_cancel_names_the_error),
        TEST(c05_queued_operation_when_late_leaves_the_one_before_it),
        TEST(c05_deadlines_when_many_are_each_kept),
        TEST(c05_send_when_there_is_no_room_to_begin_with_ends_late),
        TEST(c05_deadlines_of_many_when_their_data_is_there_spare_it),
    };
    return RUN(tests);
}
