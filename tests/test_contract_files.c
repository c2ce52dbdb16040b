/* SPDX-License-Identifier: MIT
 *
 * What the header says of pro_read, pro_write and pro_poll: files, pipes, terminals, descriptors of others. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

/* An unnamed regular file with `text` in it, standing at its start; a memfd refuses epoll as a file on disk does. */
static int file_with(const struct world *w, const char *text)
{
    char name[] = "/tmp/proactor-test-XXXXXX";
    if (world_is_sim(w))
        return pro_sim_file(w->sim, text, strlen(text));
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    write_all(fd, text, strlen(text));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static struct pro_result read_once(struct world *w, struct pro_handle *near, void *data, size_t size, uint64_t offset)
{
    struct record *r = world_record(w);
    pro_read(near, record_begin(r), data, size, offset, on_record);
    RUN_UNTIL(w, r->finals == 1);
    return r->last;
}

static struct pro_result write_once(struct world *w, struct pro_handle *near, const char *text, uint64_t offset)
{
    struct record *r = world_record(w);
    pro_write(near, record_begin(r), text, strlen(text), offset, on_record);
    RUN_UNTIL(w, r->finals == 1);
    return r->last;
}

/* ------------------------------------------------------------------------------------------------------------
 * Files
 * ------------------------------------------------------------------------------------------------------------ */

static void file_when_read_as_a_stream_moves_on_to_its_end(void **state)
{
    struct world *w = *state;
    struct pro_handle *near = world_adopt(w, file_with(w, "hello, world"));
    char data[16] = "";
    assert_int_equal(read_once(w, near, data, 5, PRO_STREAM).res, 5);
    assert_memory_equal(data, "hello", 5);
    assert_int_equal(read_once(w, near, data, 16, PRO_STREAM).res, 7);
    assert_memory_equal(data, ", world", 7);
    struct pro_result end = read_once(w, near, data, 16, PRO_STREAM);
    assert_int_equal(end.res, 0);
    assert_int_equal(end.flags, PRO_EOF);
}

static void file_when_read_at_a_position_stays_where_it_stands(void **state)
{
    struct world *w = *state;
    struct pro_handle *near = world_adopt(w, file_with(w, "hello, world"));
    char data[16] = "";
    assert_int_equal(read_once(w, near, data, 16, 7).res, 5);
    assert_memory_equal(data, "world", 5);
    assert_int_equal(read_once(w, near, data, 16, 0).res, 12);
    assert_int_equal(read_once(w, near, data, 16, 12).flags, PRO_EOF);
    assert_int_equal(read_once(w, near, data, 16, 1 << 20).flags, PRO_EOF);
    assert_int_equal(read_once(w, near, data, 4, PRO_STREAM).res, 4);
    assert_memory_equal(data, "hell", 4);
}

static void file_when_written_holds_it(void **state)
{
    struct world *w = *state;
    int fd = file_with(w, "..........");
    struct pro_handle *near = world_adopt(w, fd);
    char data[16] = "";
    assert_int_equal(write_once(w, near, "abc", 4).res, 3);
    assert_int_equal(write_once(w, near, "de", PRO_STREAM).res, 2);
    assert_int_equal(write_once(w, near, "f", PRO_STREAM).res, 1);
    assert_int_equal(write_once(w, near, "end", 12).res, 3); /* a hole */
    assert_int_equal(pread(fd, data, sizeof data, 0), 15);
    assert_memory_equal(data, "def.abc...\0\0end", 15);
}

/* Positions beyond what 32 bits hold. */
static void file_when_used_beyond_four_gigabytes_keeps_its_places(void **state)
{
    struct world *w = *state;
    int fd = file_with(w, "");
    struct pro_handle *near = world_adopt(w, fd);
    char data[8] = "";
    uint64_t far_out = (UINT64_C(5) << 30) + 3;
    if (world_is_sim(w)) { /* whose files end before that: a place cut to 32 bits would be found */
        assert_int_equal(write_once(w, near, "abc", far_out).res, -EFBIG);
        assert_int_equal(read_once(w, near, data, 8, far_out).flags, PRO_EOF);
        return;
    }
    assert_int_equal(write_once(w, near, "abc", far_out).res, 3);
    assert_int_equal(read_once(w, near, data, 8, far_out + 1).res, 2);
    assert_memory_equal(data, "bc", 2);
    assert_int_equal(lseek(fd, 0, SEEK_END), (off_t)far_out + 3);
}

/* A file that blocks, as every one does, is written at once: an appended line stays whole, and a turn is not a byte. */
static void file_when_much_is_written_takes_it_at_once(void **state)
{
    enum { MUCH = 100000 };
    struct world *w = *state;
    struct pro_handle *near = world_adopt(w, file_with(w, ""));
    struct record *r = world_record(w);
    char *data = world_alloc(w, MUCH);
    pattern_fill(data, MUCH, 0);
    struct pro_stats before, after;
    pro_loop_stats(w->loop, &before, sizeof before);
    pro_write(near, record_begin(r), data, MUCH, PRO_STREAM, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, MUCH);
    pro_loop_stats(w->loop, &after, sizeof after);
    assert_in_range(after.turns - before.turns, 1, 50);
}

/* Standard input as a shell gives it with `< file`: epoll refuses to watch it. */
static void standard_input_when_a_file_is_read_to_its_end(void **state)
{
    struct world *w = *state;
    skip_on_sim(w);
    int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100), fd = file_with(w, "from a file");
    assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    close(fd);
    struct pro_handle *near = world_adopt(w, STDIN_FILENO);
    char data[32];
    assert_int_equal(read_once(w, near, data, sizeof data, PRO_STREAM).res, 11);
    assert_int_equal(read_once(w, near, data, sizeof data, PRO_STREAM).flags, PRO_EOF);
    struct record *release = world_record(w);
    pro_release(near, record_begin(release), on_record);
    RUN_UNTIL(w, release->finals == 1);
    assert_int_equal(release->last.res, STDIN_FILENO);
    assert_int_equal(dup2(saved, STDIN_FILENO), STDIN_FILENO);
    close(saved);
}

static void file_when_it_cannot_says_why(void **state)
{
    struct world *w = *state;
    char data[4];
    skip_on_sim(w);
    struct pro_handle *dir = world_adopt(w, open("/tmp", O_RDONLY | O_DIRECTORY));
    assert_int_equal(read_once(w, dir, data, sizeof data, PRO_STREAM).res, -EISDIR);
    struct pro_handle *full = world_adopt(w, open("/dev/full", O_WRONLY));
    assert_int_equal(write_once(w, full, "abc", PRO_STREAM).res, -ENOSPC);
    struct pro_handle *null = world_adopt(w, open("/dev/null", O_RDWR));
    assert_int_equal(write_once(w, null, "abc", PRO_STREAM).res, 3);
    assert_int_equal(read_once(w, null, data, sizeof data, PRO_STREAM).flags, PRO_EOF);
    struct pro_handle *readonly = world_adopt(w, open("/dev/null", O_RDONLY));
    assert_int_equal(write_once(w, readonly, "abc", PRO_STREAM).res, -EBADF);
    struct pro_handle *zero = world_adopt(w, open("/dev/zero", O_RDONLY));
    assert_int_equal(read_once(w, zero, data, sizeof data, PRO_STREAM).res, 4);
}

/* Reads that queue on one file take their turns, and continue one another. */
static void reads_of_a_file_when_queued_are_in_order(void **state)
{
    struct world *w = *state;
    enum { MANY = 10 };
    struct pro_handle *near = world_adopt(w, file_with(w, "abcdefghij"));
    struct record *r[MANY];
    char *data = world_alloc(w, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = world_record(w);
        pro_read(near, record_begin(r[i]), data + i, 1, PRO_STREAM, on_record);
    }
    for (unsigned i = 0; i < MANY; i++)
        RUN_UNTIL(w, r[i]->finals == 1);
    assert_memory_equal(data, "abcdefghij", MANY);
}

/* ------------------------------------------------------------------------------------------------------------
 * Pipes and terminals
 * ------------------------------------------------------------------------------------------------------------ */

static void pipe_when_read_waits_for_what_is_written(void **state)
{
    struct world *w = *state;
    for (unsigned blocking = 0; blocking < 2; blocking++) {
        int ends[2];
        char data[8];
        assert_int_equal(pipe2(ends, blocking ? 0 : O_NONBLOCK), 0);
        struct pro_handle *near = world_adopt(w, ends[0]);
        struct record *r = world_record(w), *timer = world_record(w);
        pro_read(near, record_begin(r), data, sizeof data, PRO_STREAM, on_record);
        pro_timer_after(w->loop, record_begin(timer), 1000, on_record);
        RUN_UNTIL(w, timer->finals == 1);
        assert_int_equal(r->finals, 0);
        write_all(ends[1], "abc", 3);
        RUN_UNTIL(w, r->finals == 1);
        assert_int_equal(r->last.res, 3);
        close(ends[1]);
        pro_read(near, record_begin(r), data, sizeof data, PRO_STREAM, on_record);
        RUN_UNTIL(w, r->finals == 2);
        assert_int_equal(r->last.res, 0);
        assert_int_equal(r->last.flags, PRO_EOF);
        assert_int_equal(world_close_handle(w, near), 0);
    }
}

static void terminal_when_read_and_written_passes_lines(void **state)
{
    struct world *w = *state;
    skip_on_sim(w);
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
        skip();
    world_own(w, master);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    struct termios raw;
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    struct pro_handle *near = world_adopt(w, slave);
    struct record *r = world_record(w), *timer = world_record(w), *big = world_record(w);
    char data[8] = "";
    pro_read(near, record_begin(r), data, sizeof data, PRO_STREAM, on_record);
    pro_timer_after(w->loop, record_begin(timer), 1000, on_record);
    RUN_UNTIL(w, timer->finals == 1);
    assert_int_equal(r->finals, 0);
    write_all(master, "line\n", 5);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 5);
    assert_memory_equal(data, "line\n", 5);
    assert_int_equal(write_once(w, near, "reply", PRO_STREAM).res, 5);
    assert_int_equal(read_now(master, data, sizeof data), 5);
    /* More than it takes: the loop does not block, and all of it arrives. */
    static uint8_t much[100000], scrap[4096];
    unsigned got = 0;
    pattern_fill(much, sizeof much, 0);
    pro_write(near, record_begin(big), much, sizeof much, PRO_STREAM, on_record);
    pro_timer_after(w->loop, record_begin(timer), 1000, on_record);
    RUN_UNTIL(w, timer->finals == 2);
    while (got < sizeof much) {
        int n = read_now(master, scrap, sizeof scrap);
        if (n > 0)
            assert_true(pattern_holds(scrap, (size_t)n, got));
        got += n > 0 ? (unsigned)n : 0;
        world_turns(w, 1);
    }
    RUN_UNTIL(w, big->finals == 1);
    assert_int_equal(big->last.res, sizeof much);
}

static void read_of_an_eventfd_brings_its_count(void **state)
{
    struct world *w = *state;
    skip_on_sim(w);
    int fd = eventfd(0, EFD_NONBLOCK);
    struct pro_handle *near = world_adopt(w, fd);
    struct record *r = world_record(w);
    uint64_t count = 0, two = 2;
    for (unsigned i = 1; i <= 3; i++) {
        pro_read(near, record_begin(r), &count, sizeof count, PRO_STREAM, on_record);
        world_turns(w, 2);
        assert_int_equal(r->finals, i - 1);
        write_all(fd, &two, sizeof two);
        RUN_UNTIL(w, r->finals == i);
        assert_int_equal(r->last.res, 8);
        assert_int_equal(count, 2);
    }
}

/* Such descriptors say that they are writable, and block if they are given too much. */
static void write_to_what_blocks_goes(void **state)
{
    enum { MUCH = 200000 }; /* more than a pipe holds */
    struct world *w = *state;
    int ends[2];
    uint64_t count = 0;
    skip_on_sim(w);
    int counter = eventfd(0, 0);
    struct pro_handle *near = world_adopt(w, counter);
    assert_int_equal(write_once(w, near, "\1\0\0\0\0\0\0", PRO_STREAM).res,
                     -EINVAL); /* seven bytes: as write(2) says */
    struct record *r = world_record(w), *much = world_record(w);
    uint64_t seven = 7;
    pro_write(near, record_begin(r), &seven, sizeof seven, PRO_STREAM, on_record);
    RUN_UNTIL(w, r->finals == 1);
    assert_int_equal(r->last.res, 8);
    assert_int_equal(read(counter, &count, sizeof count), 8);
    assert_int_equal(count, 7);
    char *data = world_alloc(w, MUCH), *got = world_alloc(w, MUCH);
    pattern_fill(data, MUCH, 0);
    kernel_pipe(ends);
    pro_write(world_adopt(w, ends[1]), record_begin(much), data, MUCH, PRO_STREAM, on_record);
    size_t have = 0;
    for (ssize_t n; have < MUCH; have += (size_t)n) {
        world_turns(w, 1);
        n = read(ends[0], got + have, MUCH - have);
        assert_true(n > 0);
    }
    RUN_UNTIL(w, much->finals == 1);
    assert_int_equal(much->last.res, MUCH);
    assert_true(pattern_holds(got, MUCH, 0));
    close(ends[0]);
}

/* ------------------------------------------------------------------------------------------------------------
 * Readiness
 * ------------------------------------------------------------------------------------------------------------ */

static void poll_when_one_shot_is_level(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[8];
    tcp_pair(fds);
    world_own(w, fds[1]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    struct record *r = world_record(w);
    write_all(fds[1], "abc", 3);
    for (unsigned i = 1; i <= 5; i++) { /* nobody reads: it holds again and again */
        pro_poll(near, record_begin(r), POLLIN, on_record);
        RUN_UNTIL(w, r->finals == i);
        assert_int_equal(r->last.res, POLLIN);
    }
    assert_int_equal(read_now(fds[0], data, sizeof data), 3);
    pro_poll(near, record_begin(r), POLLIN, on_record);
    world_turns(w, 3);
    assert_int_equal(r->finals, 5);
    write_all(fds[1], "x", 1);
    RUN_UNTIL(w, r->finals == 6);
}

static void poll_reports_only_what_was_asked_for(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *out = world_record(w), *both = world_record(w);
    pro_poll(near, record_begin(out), POLLOUT, on_record);
    RUN_UNTIL(w, out->finals == 1);
    assert_int_equal(out->last.res, POLLOUT);
    write_all(far, "x", 1);
    pro_poll(near, record_begin(both), POLLIN | POLLOUT, on_record);
    RUN_UNTIL(w, both->finals == 1);
    assert_int_equal(both->last.res, POLLIN | POLLOUT);
}

static void poll_when_the_peer_is_gone_says_hangup(void **state)
{
    struct world *w = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct pro_handle *near = world_adopt(w, ends[0]);
    struct record *r = world_record(w);
    pro_poll(near, record_begin(r), POLLIN, on_record);
    world_turns(w, 2);
    close(ends[1]);
    RUN_UNTIL(w, r->finals == 1);
    assert_true(r->last.res & POLLHUP);
}

static void poll_multi_reports_what_holds_and_then_changes(void **state)
{
    struct world *w = *state;
    int fds[2];
    char data[8];
    tcp_pair(fds);
    world_own(w, fds[1]);
    struct pro_handle *near = world_adopt(w, fds[0]);
    struct record *r = world_record(w);
    write_all(fds[1], "abc", 3);
    pro_poll_multi(near, record_begin(r), POLLIN, on_record);
    RUN_UNTIL(w, r->completions == 1); /* it holds now */
    assert_int_equal(r->last.res, POLLIN);
    world_turns(w, 5);
    assert_int_equal(r->completions, 1); /* and is not repeated */
    for (unsigned i = 2; i < 20; i++) {
        assert_true(read_now(fds[0], data, sizeof data) > 0);
        world_turns(w, 1);
        assert_int_equal(r->completions, i - 1);
        write_all(fds[1], "x", 1);
        RUN_UNTIL(w, r->completions == i);
        assert_int_equal(r->last.res, POLLIN);
    }
}

/* The second multishot on a descriptor that is watched already also hears of what holds now. */
static void polls_when_several_watch_one_descriptor_all_hear(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r[6];
    for (unsigned i = 0; i < 3; i++) {
        r[i] = world_record(w);
        if (i % 2)
            pro_poll(near, record_begin(r[i]), POLLIN, on_record);
        else
            pro_poll_multi(near, record_begin(r[i]), POLLIN, on_record);
    }
    world_turns(w, 2);
    write_all(far, "x", 1);
    for (unsigned i = 0; i < 3; i++)
        RUN_UNTIL(w, r[i]->completions == 1);
    for (unsigned i = 3; i < 6; i++) {
        r[i] = world_record(w);
        if (i % 2)
            pro_poll(near, record_begin(r[i]), POLLIN, on_record);
        else
            pro_poll_multi(near, record_begin(r[i]), POLLIN, on_record);
        RUN_UNTIL(w, r[i]->completions == 1);
        assert_int_equal(r[i]->last.res, POLLIN);
    }
}

/* Of several that are started at once on what is ready already, none hears it twice. */
static void polls_when_started_together_hear_once(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r[3];
    write_all(far, "x", 1);
    for (unsigned i = 0; i < 3; i++) {
        r[i] = world_record(w);
        pro_poll_multi(near, record_begin(r[i]), POLLIN, on_record);
    }
    for (unsigned i = 0; i < 3; i++)
        RUN_UNTIL(w, r[i]->completions > 0);
    world_turns(w, 10);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(r[i]->completions, 1);
}

/* What it sees at the start is not news a moment later. */
static void poll_when_an_edge_waits_hears_once(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_unix(w, &far);
    struct record *first = world_record(w), *r = world_record(w);
    pro_poll_multi(near, record_begin(first), POLLIN, on_record);
    world_turns(w, 4); /* it is registered, and what holds has been told */
    write_all(far, "x", 1);
    pro_poll_multi(near, record_begin(r), POLLIN, on_record);
    RUN_UNTIL(w, r->completions > 0);
    world_turns(w, 10);
    assert_int_equal(first->completions, 1);
    assert_int_equal(r->completions, 1);
}

/* It is a regular file for stat(2), and whoever reads it waits for the kernel to have something to say, which hardly ever
 * happens meanwhile. */
static void file_of_news_is_waited_for(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    static char data[1 << 16];
    skip_on_sim(w);
    int fd = open("/proc/kmsg", O_RDONLY | O_CLOEXEC);
    struct pollfd it = {.fd = fd, .events = POLLIN};
    if (fd < 0)
        skip();
    if (poll(&it, 1, 0) != 0) { /* it is not ours to take away */
        close(fd);
        skip();
    }
    pro_read(world_adopt(w, fd), record_begin(r), data, sizeof data, PRO_STREAM, on_record);
    world_turns(w, 5); /* and come back */
    pro_cancel(&r->op);
    RUN_UNTIL(w, r->finals == 1);
    assert_true(r->last.res == -ECANCELED || r->last.res > 0);
}

/* Poll goes beside receives and sends, and takes nothing from them. */
static void poll_beside_a_receive_disturbs_nothing(void **state)
{
    struct world *w = *state;
    int far;
    struct pro_handle *near = world_tcp(w, &far);
    struct record *r = world_record(w), *poll = world_record(w);
    char data[8];
    pro_poll_multi(near, record_begin(poll), POLLIN, on_record);
    for (unsigned i = 1; i <= 20; i++) {
        pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
        world_turns(w, i % 3);
        write_all(far, "abc", 3);
        RUN_UNTIL(w, r->finals == i);
        assert_int_equal(r->last.res, 3);
    }
    assert_true(poll->completions >= 1);
    assert_int_equal(poll->finals, 0);
}

static void file_when_polled_is_ready(void **state)
{
    struct world *w = *state;
    struct pro_handle *near = world_adopt(w, file_with(w, "abc"));
    struct record *r = world_record(w), *multi = world_record(w);
    for (unsigned i = 1; i <= 3; i++) {
        pro_poll(near, record_begin(r), POLLIN, on_record);
        RUN_UNTIL(w, r->finals == i);
        assert_int_equal(r->last.res, POLLIN);
    }
    pro_poll_multi(near, record_begin(multi), POLLIN | POLLOUT, on_record);
    RUN_UNTIL(w, multi->completions == 1);
    assert_int_equal(multi->last.res, POLLIN | POLLOUT);
    world_turns(w, 5);
    assert_int_equal(multi->completions, 1); /* it never changes */
    assert_int_equal(multi->last.flags, PRO_MORE);
    pro_cancel(&multi->op);
    RUN_UNTIL(w, multi->finals == 1);
    assert_int_equal(multi->last.res, -ECANCELED);
}

static void file_when_no_descriptor_is_left_is_ready_once(void **state)
{
    struct world *w = *state;
    struct rlimit all, none;
    skip_on_sim(w);
    struct pro_handle *near = world_adopt(w, file_with(w, "abc"));
    struct record *multi = world_record(w);
    world_turns(w, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    none = (struct rlimit){3, all.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    pro_poll_multi(near, record_begin(multi), POLLIN, on_record);
    world_turns(w, 10);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    assert_int_equal(multi->completions, 1);
    assert_int_equal(multi->last.res, POLLIN);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(file_when_read_as_a_stream_moves_on_to_its_end),
        TEST(file_when_read_at_a_position_stays_where_it_stands),
        TEST(file_when_written_holds_it),
        TEST(file_when_used_beyond_four_gigabytes_keeps_its_places),
        TEST(file_when_much_is_written_takes_it_at_once),
        TEST(standard_input_when_a_file_is_read_to_its_end),
        TEST(file_when_it_cannot_says_why),
        TEST(reads_of_a_file_when_queued_are_in_order),
        TEST(pipe_when_read_waits_for_what_is_written),
        TEST(terminal_when_read_and_written_passes_lines),
        TEST(read_of_an_eventfd_brings_its_count),
        TEST(write_to_what_blocks_goes),
        TEST(poll_when_one_shot_is_level),
        TEST(poll_reports_only_what_was_asked_for),
        TEST(poll_when_the_peer_is_gone_says_hangup),
        TEST(poll_multi_reports_what_holds_and_then_changes),
        TEST(polls_when_several_watch_one_descriptor_all_hear),
        TEST(polls_when_started_together_hear_once),
        TEST(poll_when_an_edge_waits_hears_once),
        TEST(file_of_news_is_waited_for),
        TEST(poll_beside_a_receive_disturbs_nothing),
        TEST(file_when_polled_is_ready),
        TEST(file_when_no_descriptor_is_left_is_ready_once),
    };
    return RUN(tests);
}
