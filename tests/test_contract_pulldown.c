/* SPDX-License-Identifier: MIT
 *
 * Clause 13: pull-down, and what a forked child may do. */
#include "harness.h"
#include "kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * Pull-down
 * ------------------------------------------------------------------------------------------------------------ */

/* A scene whose world ends under it. What remains of it is the test's own. */
static void let_go(struct scene *s)
{
    for (unsigned i = 0; i < SCENE_LISTS; i++)
        pro_slice_return_list(s->lists[i]);
    s->handle = s->other = NULL;
}

static void pull_down_after(struct world *w, const struct kind *kind, unsigned turns)
{
    struct scene *s = scene_open(w, kind);
    scene_start(s);
    world_turns(w, turns);
    world_shut(w);
    assert_int_equal(s->r->finals, 1);
    assert_int_equal(s->r->completions, 1);
    assert_int_equal(s->r->last.res, -ECANCELED);
    assert_false(scene_fd_is_open(s));
    if (s->before)
        assert_int_equal(s->before->finals, s->before->starts);
    let_go(s);
    if (s->pool) {
        assert_ptr_equal(w->pools[--w->pool_count], s->pool);
        pro_pool_free(s->pool);
    }
    assert_int_equal(w->ledger.count, 0); /* every byte */
    world_open(w);
}

static void c13_operation_of_any_kind_when_pulled_down_ends_cancelled(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < kind_count; i++)
        for (unsigned turns = 0; turns < 4; turns++) {
            world_note(w, kinds[i].name);
            pull_down_after(w, &kinds[i], turns);
        }
    world_note(w, NULL);
}

/* Started anew in the final that the pull-down brings about. */
static void restart(struct scene *s, struct pro_result result)
{
    if (!(result.flags & PRO_MORE) && s->r->starts < 3)
        scene_start(s);
}

static void c13_restart_of_any_kind_while_pulled_down_ends_with_shutdown(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < kind_count; i++) {
        world_note(w, kinds[i].name);
        struct scene *s = scene_open(w, &kinds[i]);
        s->then = restart;
        scene_start(s);
        world_turns(w, 2);
        world_shut(w);
        assert_int_equal(s->r->finals, 3);
        assert_int_equal(s->r->log[0].res, -ECANCELED);
        assert_int_equal(s->r->log[1].res, -ESHUTDOWN);
        assert_int_equal(s->r->log[2].res, -ESHUTDOWN);
        let_go(s);
        world_open(w);
    }
    world_note(w, NULL);
}

/* Operations of every kind in one loop; the loop is freed after so many turns, and once without any. */
static void c13_everything_at_once_when_pulled_down_ends(void **state)
{
    struct world *w = *state;
    struct scene *s[64];
    for (unsigned turns = 0; turns < 5; turns++) {
        for (unsigned i = 0; i < kind_count; i++) {
            s[i] = scene_open(w, &kinds[i]);
            scene_start(s[i]);
        }
        world_turns(w, turns);
        for (unsigned i = 0; i < kind_count; i += 3) {
            if (s[i]->kind->flags & KIND_RECEIVES && s[i]->far >= 0)
                write_all(s[i]->far, "12345", 5); /* some results are on their way */
            if (i % 2)
                pro_cancel(&s[i]->r->op);
        }
        world_shut(w);
        for (unsigned i = 0; i < kind_count; i++) {
            assert_int_equal(s[i]->r->finals, 1);
            assert_false(scene_fd_is_open(s[i]));
            let_go(s[i]);
        }
        world_open(w);
        while (w->pool_count > 0)
            pro_pool_free(w->pools[--w->pool_count]);
    }
}

static void c13_loop_when_never_run_is_freed(void **state)
{
    struct world *w = *state;
    world_shut(w);
    assert_int_equal(w->ledger.count, 0);
    pro_loop_free(NULL);
}

static void c13_handle_when_idle_is_closed_by_the_pull_down(void **state)
{
    struct world *w = *state;
    int far[3];
    char data[4];
    for (unsigned i = 0; i < 3; i++)
        world_tcp(w, &far[i]);
    world_shut(w);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(read_now(far[i], data, sizeof data), 0);
}

/* A close, an abort and a release that are under way when the loop goes. */
static void c13_close_when_pulled_down_completes(void **state)
{
    struct world *w = *state;
    for (unsigned turns = 0; turns < 3; turns++) {
        int far[3];
        struct record *r[3], *recv[3];
        struct pro_handle *near[3];
        for (unsigned i = 0; i < 3; i++) {
            near[i] = world_tcp(w, &far[i]);
            r[i] = world_record(w);
            recv[i] = world_record(w);
            pro_recv(near[i], record_begin(recv[i]), world_alloc(w, 8), 8, 0, on_record);
        }
        world_turns(w, turns);
        pro_close(near[0], record_begin(r[0]), on_record);
        pro_abort(near[1], record_begin(r[1]), on_record);
        pro_release(near[2], record_begin(r[2]), on_record);
        world_shut(w);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(r[i]->finals, 1);
            assert_int_equal(recv[i]->finals, 1);
        }
        assert_true(r[2]->last.res >= 0); /* it is the caller's */
        assert_true(fcntl(r[2]->last.res, F_GETFD) >= 0);
        close(r[2]->last.res);
        world_open(w);
    }
}

static void again_thrice(struct record *r, struct pro_result result)
{
    if (r->starts < 4)
        pro_recv(r->context, record_begin(r), world_alloc(r->world, 8), 8, 0, on_record);
}

/* A close that others of its handle keep waiting, through several turns. */
static void c13_close_when_pulled_down_keeps_its_deadline(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *close = world_record(w), *recv = world_record(w);
    recv->then = again_thrice;
    recv->context = near;
    pro_recv(near, record_begin(recv), world_alloc(w, 8), 8, 0, on_record);
    pro_deadline(&close->op, 1);
    pro_close(near, record_begin(close), on_record);
    world_shut(w);
    assert_int_equal(recv->finals, 4);
    assert_int_equal(recv->last.res, -ESHUTDOWN);
    assert_int_equal(close->finals, 1);
    assert_int_equal(close->last.res, -ETIME);
}

/* The loop has taken them from the mailbox, and a turn is not long enough to run them all. */
static void c13_posts_when_taken_and_not_run_end_cancelled(void **state)
{
    enum { POSTS = 9 };
    struct world *w = *state;
    struct record *posts[POSTS];
    unsigned ran = 0;
    w->config.turn_completions = 2;
    world_open(w);
    struct pro_remote *remote = pro_remote_get(w->loop);
    for (unsigned i = 0; i < POSTS; i++) {
        posts[i] = world_record(w);
        posts[i]->starts++;
        assert_int_equal(pro_post(remote, &posts[i]->op, on_record), 0);
    }
    world_turns(w, 2);
    while (ran < POSTS && posts[ran]->finals > 0)
        ran++;
    assert_in_range(ran, 1, POSTS - 1);
    world_shut(w);
    for (unsigned i = 0; i < POSTS; i++) {
        assert_int_equal(posts[i]->finals, 1);
        assert_int_equal(posts[i]->last.res, i < ran ? 0 : -ECANCELED);
    }
    pro_remote_unref(remote);
}

/* Inside the finals: closes handles, cancels, starts, posts, sets deadlines. */
struct busybody {
    struct pro_handle *near, *other;
    struct record *close, *timer, *recv, *post;
    struct pro_remote *remote;
    int posted;
};

static void meddle(struct record *r, struct pro_result result)
{
    struct busybody *b = r->context;
    (void)result;
    pro_cancel(&r->op);
    pro_cancel_all(b->other);
    pro_timer(r->world->loop, record_begin(b->timer), 0, on_record);
    pro_deadline(&b->timer->op, 1);
    pro_recv(b->other, record_begin(b->recv), world_alloc(r->world, 8), 8, 0, on_record);
    pro_close(b->near, record_begin(b->close), on_record);
    b->posted = pro_post(b->remote, &b->post->op, on_record);
    if (b->posted == 0)
        b->post->starts++;
}

static void c13_finals_when_pulled_down_may_do_anything(void **state)
{
    struct world *w = *state;
    struct busybody *b = world_alloc(w, sizeof *b);
    int far;
    *b = (struct busybody){.near = world_tcp(w, &far),
                           .other = world_tcp(w, &far),
                           .close = world_record(w),
                           .timer = world_record(w),
                           .recv = world_record(w),
                           .post = world_record(w),
                           .remote = pro_remote_get(w->loop)};
    struct record *r = world_record(w);
    r->context = b;
    r->then = meddle;
    pro_recv(b->near, record_begin(r), world_alloc(w, 8), 8, 0, on_record);
    world_turns(w, 2);
    world_shut(w);
    assert_int_equal(r->finals, 1);
    assert_int_equal(b->close->finals, 1);
    assert_int_equal(b->timer->last.res, -ESHUTDOWN);
    assert_int_equal(b->recv->last.res, -ESHUTDOWN);
    assert_true(b->posted == -ESHUTDOWN || (b->posted == 0 && b->post->finals == 1));
    pro_remote_unref(b->remote);
}

/* Freed after every count of turns of a conversation: two ends of the library, both in the loop. */
static void converse(struct record *r, struct pro_result result)
{
    if (result.res <= 0)
        return;
    struct pro_slice *slice = record_take(r);
    if (slice)
        pro_send_slices(r->context, record_begin(world_record(r->world)), slice, on_record);
}

static void c13_conversation_when_pulled_down_at_any_turn_leaks_nothing(void **state)
{
    struct world *w = *state;
    for (unsigned turns = 0; turns < 30; turns++) {
        struct pro_pool *pool = world_pool(w, NULL);
        struct pro_handle *end[2];
        int fds[2];
        tcp_pair(fds);
        for (unsigned i = 0; i < 2; i++) {
            struct record *r = world_record(w);
            end[i] = world_adopt(w, fds[i]);
            r->then = converse;
            r->context = end[i];
            pro_recv_multi(end[i], record_begin(r), pool, PRO_UNLIMITED, on_record);
        }
        struct iovec iov = {(char[]){"to and fro"}, 10};
        pro_send(end[0], record_begin(world_record(w)), &iov, 1, 0, on_record);
        world_turns(w, turns);
        world_shut(w);
        for (struct record *r = w->records; r; r = r->next)
            assert_int_equal(r->finals, r->starts);
        pro_pool_free(w->pools[--w->pool_count]);
        assert_int_equal(w->ledger.count, 0);
        world_open(w);
    }
}

/* ------------------------------------------------------------------------------------------------------------
 * A forked child
 * ------------------------------------------------------------------------------------------------------------ */

static void run_in_child(void *context)
{
    struct world *w = context;
    for (unsigned i = 0; i < 3; i++)
        if (pro_run(w->loop, PRO_RUN_NOWAIT) != -ECHILD || pro_run(w->loop, PRO_RUN_DEFAULT) != -ECHILD)
            _exit(1);
}

static void free_in_child(void *context)
{
    struct world *w = context;
    uint64_t calls = 0;
    for (struct record *r = w->records; r; r = r->next)
        calls += r->completions;
    if (pro_run(w->loop, PRO_RUN_NOWAIT) != -ECHILD)
        _exit(1);
    pro_loop_free(w->loop);
    for (struct record *r = w->records; r; r = r->next)
        calls -= r->completions;
    if (calls != 0) /* no continuation runs in the child */
        _exit(2);
    while (w->pool_count > 0)
        pro_pool_free(w->pools[--w->pool_count]);
    if (w->ledger.count != 0)
        _exit(3);
}

static void exit_in_child(void *context)
{
    (void)context;
    exit(0);
}

/* Everything in flight; a child does `body`; then all that was in flight completes in the parent as if nothing was. */
static void fork_amid(struct world *w, void (*body)(void *), bool run_before)
{
    static const char *const names[] = {"accept_multi", "recv", "recv_multi", "send", "read", "write", "poll_multi"};
    struct scene *s[8];
    unsigned count = 0;
    char text[256];
    for (unsigned i = 0; i < kind_count; i++)
        for (unsigned n = 0; n < sizeof names / sizeof names[0]; n++)
            if (strcmp(kinds[i].name, names[n]) == 0) {
                s[count] = scene_open(w, &kinds[i]);
                scene_start(s[count++]);
            }
    if (run_before)
        world_turns(w, 3);
    int status = in_child(body, w, text, sizeof text);
    if (status != 0)
        print_error("child: %x %s\n", (unsigned)status, text);
    assert_int_equal(status, 0);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(s[i]->r->completions, 0);
        scene_feed(s[i]);
        if (s[i]->kind->flags & KIND_ACCEPTS)
            assert_true(s[i]->r->last.res >= 0);
        else
            assert_int_equal(s[i]->r->last.res, s[i]->kind->fed);
    }
    while (count > 0)
        scene_shut(s[--count]);
}

static void c13_run_in_a_forked_child_says_so_and_harms_nobody(void **state)
{
    fork_amid(*state, run_in_child, true);
    fork_amid(*state, run_in_child, false);
}

static void c13_free_in_a_forked_child_harms_nobody(void **state)
{
    fork_amid(*state, free_in_child, true);
    fork_amid(*state, free_in_child, false);
}

static void c13_exit_of_a_forked_child_harms_nobody(void **state)
{
    fork_amid(*state, exit_in_child, true);
}

/* The parent is freed while the child, with its copies, lives. */
static void c13_parent_when_freed_first_harms_nobody(void **state)
{
    struct world *w = *state;
    int go[2], far;
    char byte;
    kernel_pipe(go);
    struct pro_handle *near = world_tcp(w, &far);
    pro_recv(near, record_begin(world_record(w)), world_alloc(w, 8), 8, 0, on_record);
    world_turns(w, 2);
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        alarm(20);
        if (read(go[0], &byte, 1) != 0)
            _exit(1);
        if (pro_run(w->loop, PRO_RUN_NOWAIT) != -ECHILD)
            _exit(2);
        pro_loop_free(w->loop);
        _exit(0);
    }
    close(go[0]);
    world_shut(w);
    close(go[1]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* A loop of the child's own works. */
static void own_loop_in_child(void *context)
{
    struct world *w = context;
    struct pro_loop *loop;
    struct record *r = world_record(w);
    pro_loop_free(w->loop);
    if (pro_loop_new(&w->config, &loop) < 0)
        _exit(1);
    w->running++;
    pro_timer(loop, record_begin(r), 0, on_record);
    if (pro_run(loop, PRO_RUN_DEFAULT) != 0 || r->finals != 1)
        _exit(2);
    pro_loop_free(loop);
}

static void c13_child_may_have_a_loop_of_its_own(void **state)
{
    char text[256];
    assert_int_equal(in_child(own_loop_in_child, *state, text, sizeof text), 0);
}

/* Anything else aborts. */
static struct scene *inherited;

static void child_starts(void *context)
{
    (void)context;
    scene_start(inherited);
}

static void child_cancels(void *context)
{
    (void)context;
    pro_cancel(&inherited->r->op);
}

static void child_closes(void *context)
{
    pro_close(inherited->handle, &((struct record *)context)->op, on_record);
}

static void child_starts_timer(void *context)
{
    pro_timer(inherited->w->loop, &((struct record *)context)->op, 0, on_record);
}

static void child_adopts(void *context)
{
    (void)context;
    struct pro_handle handle = {0};
    pro_adopt(inherited->w->loop, &handle, 0);
}

static void child_sets_deadline(void *context)
{
    (void)context;
    pro_deadline(&inherited->r->op, 1);
}

static void child_stops(void *context)
{
    (void)context;
    pro_stop(inherited->w->loop);
}

static void child_gets_remote(void *context)
{
    (void)context;
    pro_remote_get(inherited->w->loop);
}

static void child_tries_send(void *context)
{
    (void)context;
    pro_try_send(inherited->handle, "x", 1);
}

static void child_polls_loop(void *context)
{
    (void)context;
    pro_loop_fd(inherited->w->loop);
}

static struct pro_remote *inherited_remote;

static void child_posts(void *context)
{
    pro_post(inherited_remote, &((struct record *)context)->op, on_record);
}

static void child_wakes(void *context)
{
    pro_wake(inherited_remote);
}

static void child_makes_pool(void *context)
{
    (void)context;
    struct pro_pool *pool;
    pro_pool_new(inherited->w->loop, NULL, &pool);
}

static void c13_anything_else_in_a_forked_child_aborts(void **state)
{
    struct world *w = *state;
    static void (*const bodies[])(void *) = {
        child_cancels,    child_closes,     child_starts_timer, child_adopts,        child_stops, child_gets_remote,
        child_tries_send, child_polls_loop, child_makes_pool,   child_sets_deadline, child_posts, child_wakes};
    struct record *spare = world_record(w);
    inherited_remote = pro_remote_get(w->loop);
    inherited = scene_open(w, &kinds[3]);
    scene_start(inherited);
    world_turns(w, 2);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        char text[16384] = "";
        int status = in_child(bodies[i], spare, text, sizeof text);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || !strstr(text, "proactor: "))
            fail_msg("body %zu: wait status %x, said: %s", i, (unsigned)status, text);
    }
    scene_feed(inherited);
    assert_int_equal(inherited->r->last.res, 5);
    char text[16384] = "";
    int status = in_child(child_starts, NULL, text, sizeof text);
    assert_true(WIFSIGNALED(status) && strstr(text, "proactor: "));
    scene_shut(inherited);
    pro_remote_unref(inherited_remote);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(c13_operation_of_any_kind_when_pulled_down_ends_cancelled),
        TEST(c13_restart_of_any_kind_while_pulled_down_ends_with_shutdown),
        TEST(c13_everything_at_once_when_pulled_down_ends),
        TEST(c13_loop_when_never_run_is_freed),
        TEST(c13_handle_when_idle_is_closed_by_the_pull_down),
        TEST(c13_close_when_pulled_down_completes),
        TEST(c13_close_when_pulled_down_keeps_its_deadline),
        TEST_BARE(c13_posts_when_taken_and_not_run_end_cancelled),
        TEST(c13_finals_when_pulled_down_may_do_anything),
        TEST(c13_conversation_when_pulled_down_at_any_turn_leaks_nothing),
        TEST(c13_run_in_a_forked_child_says_so_and_harms_nobody),
        TEST(c13_free_in_a_forked_child_harms_nobody),
        TEST(c13_exit_of_a_forked_child_harms_nobody),
        TEST(c13_parent_when_freed_first_harms_nobody),
        TEST(c13_child_may_have_a_loop_of_its_own),
        TEST(c13_anything_else_in_a_forked_child_aborts),
    };
    return RUN(tests);
}
