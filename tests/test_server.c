/* SPDX-License-Identifier: MIT
 *
 * The server end to end: answers, and every way a connection ends (PROTOCOL.md, "What happens when things go wrong").
 * Limits and load are in test_server_load.c, start and end of the server in test_server_run.c.
 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Answers ---- */

static void frames_when_glued_are_answered_in_order(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00003abc00002xy\n", 16);
    peer_shut(fd);
    assert_peer_gets(fd, "00003cba00002yx");
    assert_peer_end(fd);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void line_ends_when_between_frames_are_skipped(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    int fd = peer_connect(w, s);
    static const char request[] = "\r\n\n00003a\nb\r\n00001\r\r\r00004wxyz\n00002\n\r00001q";
    peer_send(fd, request, sizeof request - 1);
    assert_peer_gets(fd, "00003b\na00001\r00004zyxw00002\r\n00001q");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* One frame cut at every place: in the header, before and in the payload, and with another glued to its end. */
static void frame_when_cut_anywhere_is_answered(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    int fd = peer_connect(w, s);
    static const char request[] = "\n00007abcdefg00003xyz";
    size_t size = sizeof request - 1;
    for (size_t cut = 1; cut < size; cut++) {
        peer_send(fd, request, cut);
        peer_wait_acked(fd);
        usleep(500); /* let it be read: a cut that is not seen tests nothing, but fails nothing */
        peer_send(fd, request + cut, size - cut);
        assert_peer_gets(fd, "00007gfedcba00003zyx");
    }
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void hundred_thousand_frames_when_chunked_at_random_match_the_oracle(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    struct traffic t;
    unsigned count = (unsigned)stress(100000);
    traffic_fill(w, &t, count, 2000, 1);
    int fd = peer_connect(w, s);
    traffic_check(w, fd, &t, 0);
    assert_int_equal(server_counter(s, "frames"), count);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void big_frames_when_pipelined_match_the_oracle(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    static const size_t chunks[] = {0, 1448, 16384, 65536, 65541, 1 << 20};
    struct traffic t;
    unsigned seed = 7;
    traffic_init(w, &t, 64 * 100004);
    for (unsigned i = 0; i < 64; i++)
        traffic_add(&t, i % 3 ? 99999 : 65528 + i / 3, &seed);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        int fd = peer_connect(w, s);
        traffic_check(w, fd, &t, chunks[i]);
        world_close(w, fd);
    }
    assert_int_equal(server_counter(s, "frames"), 6 * 64);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Sparse and dense pieces in turn: what the gather is for. */
static void big_frames_when_in_uneven_pieces_match_the_oracle(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    static const size_t pieces[] = {1, 40000, 3, 7, 200, 17000, 5, 30000, 16000, 900, 1, 1, 65536, 4000, 100};
    struct traffic t;
    unsigned seed = 11;
    traffic_init(w, &t, 16 * 100004);
    for (unsigned i = 0; i < 16; i++)
        traffic_add(&t, 99999 - i, &seed);
    int fd = peer_connect(w, s);
    for (size_t sent = 0, i = 0, size; sent < t.request_size; sent += size, i++) {
        size = pieces[i % (sizeof pieces / sizeof pieces[0])];
        if (size > t.request_size - sent)
            size = t.request_size - sent;
        peer_send(fd, t.request + sent, size);
        peer_wait_acked(fd); /* so that pieces are pieces to the server too; the answers fit the sockets' buffers */
        usleep(100);
    }
    uint8_t *got = world_alloc(w, t.answer_size);
    assert_int_equal(peer_read(fd, got, t.answer_size), t.answer_size);
    assert_memory_equal(got, t.answer, t.answer_size);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void frame_when_sent_byte_by_byte_is_answered(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    struct traffic t;
    unsigned seed = 3;
    traffic_init(w, &t, 8192);
    traffic_add(&t, 5000, &seed);
    traffic_add(&t, 1, &seed);
    int fd = peer_connect(w, s);
    traffic_check(w, fd, &t, 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void urgent_byte_when_sent_is_a_byte_like_any_other(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--log-level", "debug", NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00003a", 6);
    assert_int_equal(send(fd, "b", 1, MSG_OOB), 1);
    peer_send(fd, "c", 1);
    assert_peer_gets(fd, "00003cba");
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* ---- Endings ---- */

static void end_of_file_when_between_frames_is_clean(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--log-level", "debug", NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00003abc\r\n", 10);
    peer_shut(fd);
    assert_peer_gets(fd, "00003cba");
    assert_peer_end(fd);
    server_log(s, ": closed after 1 frame, at byte 10: end of file\n", 1);
    assert_int_equal(server_counter(s, "closed"), 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void end_of_file_when_inside_a_frame_keeps_earlier_answers(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00003abc00005xy", 15);
    peer_shut(fd);
    assert_peer_gets(fd, "00003cba");
    assert_peer_end(fd);
    server_log(s, ": truncated after 1 frame, at byte 15: end of file inside a frame, 3 bytes", 1);
    fd = peer_connect(w, s);
    peer_send(fd, "000", 3);
    peer_shut(fd);
    assert_peer_end(fd);
    server_log(s, ": truncated after 0 frames, at byte 3:", 1);
    assert_int_equal(server_counter(s, "truncated"), 2);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void half_close_when_answers_are_owed_delivers_them_all(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    struct traffic t;
    traffic_large(w, &t, 8, 5);
    int fd = peer_connect(w, s);
    peer_send(fd, t.request, t.request_size); /* nothing is read meanwhile: it fits the sockets' buffers */
    peer_shut(fd);
    uint8_t *got = world_alloc(w, t.answer_size);
    assert_int_equal(peer_read(fd, got, t.answer_size), t.answer_size);
    assert_memory_equal(got, t.answer, t.answer_size);
    assert_peer_end(fd);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void bad_header_when_met_is_told_with_place_and_bytes(void **state)
{
    static const struct {
        const char *bytes;
        unsigned offset;
        const char *reason, *quoted;
    } rows[] = {
        {"+0003abc", 0, "header byte is not a digit", "\"+0003abc\""},
        {" 0003abc", 0, "header byte is not a digit", "\" 0003abc\""},
        {"0x003abc", 1, "header byte is not a digit", "\"x003abc\""},
        {"0000\x01", 4, "header byte is not a digit", "\"\\x01\""},
        {"12\r\n", 2, "header byte is not a digit", "\"\\r\\n\""},
        {"-00\x1b[2J", 0, "header byte is not a digit", "\"-00\\x1b[2J\""},
        {"00000", 4, "length is zero", "\"0\""},
        {"00011", 4, "length is over the limit", "\"1\""},
        {"99999", 4, "length is over the limit", "\"9\""},
    };
    struct world *w = *state;
    struct server *s = server_start(w, "--max-frame", "10", NULL);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[160];
        int fd = peer_connect(w, s);
        peer_send(fd, "00003abc\n00010abcdefghij", 24);
        peer_send(fd, rows[i].bytes, strlen(rows[i].bytes));
        assert_peer_gets(fd, "00003cba00010jihgfedcba");
        assert_peer_end(fd);
        world_close(w, fd);
        snprintf(line, sizeof line, ": bad_header after 2 frames, at byte %u: %s, there stands %s\n",
                 24 + rows[i].offset, rows[i].reason, rows[i].quoted);
        server_log(s, line, 1);
    }
    assert_non_null(strstr(s->log, "reversed: 127.0.0.1:"));
    assert_int_equal(server_counter(s, "bad_header"), sizeof rows / sizeof rows[0]);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* 400,000 bytes of answers are owed, and megabytes nobody will read stand behind the bad header. A careless close would
 * reset the connection and destroy most of the answers. */
static void bad_header_when_followed_by_much_input_keeps_every_answer(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    struct traffic t;
    unsigned seed = 9;
    size_t behind = 3 << 20;
    uint8_t *got = world_alloc(w, 400016);
    traffic_init(w, &t, 400016 + behind);
    for (unsigned i = 0; i < 4; i++)
        traffic_add(&t, 99999, &seed);
    memset(t.request + t.request_size, 'X', behind);
    int fd = peer_connect(w, s);
    peer_send(fd, t.request, t.request_size + behind); /* all of it, before anything is read */
    assert_int_equal(peer_read(fd, got, t.answer_size), t.answer_size);
    assert_memory_equal(got, t.answer, t.answer_size);
    assert_peer_end(fd);
    peer_offer(fd, t.request, 1000); /* and still nothing resets it */
    assert_peer_end(fd);
    assert_int_equal(server_counter(s, "bad_header"), 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void reset_when_inside_a_frame_is_counted_with_its_peer(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    int fd = peer_connect(w, s), other = peer_connect(w, s);
    peer_send(fd, "00003abc00500xyz", 16);
    assert_peer_gets(fd, "00003cba");
    peer_reset(w, fd);
    server_log(s, ": reset after 1 frame, at byte 16: ECONNRESET", 1);
    assert_non_null(strstr(s->log, "reversed: 127.0.0.1:"));
    peer_send(other, "00002ab", 7);
    assert_peer_gets(other, "00002ba");
    assert_int_equal(server_counter(s, "reset"), 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void reset_when_answers_are_owed_returns_everything(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    struct traffic t;
    traffic_large(w, &t, 100, 5);
    for (unsigned i = 0; i < 8; i++) {
        int fd = peer_connect(w, s);
        size_t sent = 0;
        while (sent < t.request_size) { /* until neither side takes more */
            ssize_t n = send(fd, t.request + sent, t.request_size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0)
                break;
            sent += (size_t)n;
        }
        peer_reset(w, fd);
        server_log(s, ": reset after ", i + 1);
    }
    assert_int_equal(server_counter(s, "reset"), 8);
    server_await(s, "open", 0);
    server_await(s, "lent", 0);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void idle_peer_when_its_time_is_up_is_closed(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--idle-timeout", "150ms", NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00003abc", 8);
    assert_peer_gets(fd, "00003cba");
    assert_peer_end(fd);
    server_log(s, ": idle after 1 frame, at byte 8: no frame for 150 ms\n", 1);
    int mute = peer_connect(w, s);
    assert_peer_end(mute);
    server_log(s, ": idle after 0 frames, at byte 0:", 1);
    assert_int_equal(server_counter(s, "idle"), 2);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Line ends are no frames. If they counted, this would never end. */
static void line_ends_when_sent_for_ever_do_not_keep_a_peer(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--idle-timeout", "200ms", NULL);
    int fd = peer_connect(w, s);
    char byte;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0) {
        peer_offer(fd, "\n", 1);
        usleep(20000);
    }
    server_log(s, ": idle after 0 frames", 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* A trickle that moved the deadline would never end; the answers earned before come all the same. */
static void slow_frame_when_its_time_is_up_ends_the_peer(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--frame-timeout", "300ms", NULL);
    int fd = peer_connect(w, s);
    char byte;
    peer_send(fd, "00003abc", 8);
    assert_peer_gets(fd, "00003cba");
    peer_send(fd, "99999", 5);
    while (recv(fd, &byte, 1, MSG_DONTWAIT) < 0) {
        peer_offer(fd, "x", 1);
        usleep(5000);
    }
    server_log(s, ": slow after 1 frame, at byte ", 1);
    server_log(s, ": a frame was not whole after 300 ms\n", 1);
    assert_int_equal(server_counter(s, "slow"), 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Half a header is a frame begun as well. */
static void slow_header_when_its_time_is_up_ends_the_peer(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--frame-timeout", "100ms", NULL);
    int fd = peer_connect(w, s);
    peer_send(fd, "00003ab", 7);
    peer_send(fd, "c0", 2);
    assert_peer_gets(fd, "00003cba");
    assert_peer_end(fd);
    server_log(s, ": slow after 1 frame, at byte 9:", 1);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

static void peer_that_does_not_read_when_its_time_is_up_is_reset(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--send-timeout", "200ms", NULL);
    struct traffic t;
    traffic_large(w, &t, 400, 5);
    int fd = peer_connect(w, s), error;
    assert_true(peer_stuff(fd, &t, &error) < t.request_size);
    server_log(s, ": stalled after ", 1);
    server_log(s, ": the peer took nothing of its answers for 200 ms\n", 1);
    assert_true(error == ECONNRESET || peer_drain(fd) == ECONNRESET);
    assert_int_equal(server_counter(s, "stalled"), 1);
    server_await(s, "lent", 0);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Whoever is not read because he does not read is not idle, and not slow. When he reads on, nothing is missing. */
static void peer_when_paused_is_not_ended_by_the_deadlines_of_reading(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--idle-timeout", "1s", "--frame-timeout", "1s", "--send-timeout", "0", NULL);
    struct traffic t;
    traffic_large(w, &t, 400, 5);
    int fd = peer_connect(w, s), error;
    size_t sent = peer_stuff(fd, &t, &error);
    assert_int_equal(error, 0);
    assert_true(sent < t.request_size);
    usleep(2500000);
    assert_true(server_counter(s, "pauses") > 0);
    uint8_t *got = world_alloc(w, t.answer_size);
    peer_exchange(fd, t.request + sent, t.request_size - sent, 65536, got, t.answer_size);
    assert_memory_equal(got, t.answer, t.answer_size);
    assert_int_equal(server_counter(s, "frames"), 400);
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* ---- The log ---- */

static void log_when_at_level_error_has_start_lines_only(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--log-level", "error", NULL);
    struct traffic t;
    traffic_fill(w, &t, 1000, 3000, 4);
    int fd = peer_connect(w, s);
    traffic_check(w, fd, &t, 0);
    int bad = peer_connect(w, s);
    peer_send(bad, "bad", 3);
    assert_peer_end(bad);
    int cut = peer_connect(w, s);
    peer_send(cut, "00003a", 6);
    peer_shut(cut);
    assert_peer_end(cut);
    int idle = peer_connect(w, s);
    (void)idle;
    assert_int_equal(server_stop(s, SIGTERM), 0);
    assert_int_equal(occurrences(s->log, "\n"), 1);
    assert_int_equal(strncmp(s->log, "reversed: listening on 127.0.0.1:", 33), 0);
    assert_non_null(strstr(s->log, strcmp(getenv("PROACTOR_BACKEND"), "epoll") == 0 ? " (epoll, 1 thread)\n"
                                                                                    : " (io_uring, 1 thread)\n"));
}

static void log_when_flooded_leaves_lines_out_and_says_so(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, NULL);
    for (unsigned i = 0; i < 300; i++) {
        int fd = peer_connect(w, s);
        peer_send(fd, "?\n\x1b", 3);
        assert_peer_end(fd);
        world_close(w, fd);
    }
    assert_int_equal(server_counter(s, "bad_header"), 300);
    usleep(300000); /* a token is earned by then, or was before */
    int fd = peer_connect(w, s);
    peer_send(fd, "!", 1);
    assert_peer_end(fd);
    server_log(s, " lines left out\n", 1);
    assert_true(occurrences(s->log, "bad_header after") < 300);
    assert_null(strchr(s->log, '\x1b'));
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

/* Fills the pipe that its standard error is, which is made small first, up to less than a line. Returns the bytes. */
static size_t stuff_log(struct world *w, struct server *s)
{
    enum { LEFT = 8 };
    char path[64];
    assert_true(fcntl(s->stderr_fd, F_SETPIPE_SZ, 1) > 0); /* a page */
    size_t size = (size_t)fcntl(s->stderr_fd, F_GETPIPE_SZ) - LEFT;
    char *filler = world_alloc(w, size);
    memset(filler, '~', size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", s->stderr_fd);
    int fd = world_own(w, open(path, O_WRONLY | O_CLOEXEC));
    write_all(fd, filler, size);
    world_close(w, fd);
    return size;
}

static void serve_one(struct world *w, const struct server *s)
{
    int fd = peer_connect(w, s);
    peer_send(fd, "00001a", 6);
    assert_peer_gets(fd, "00001a");
    world_close(w, fd);
}

/* Nobody reads its standard error; it must serve all the same, and say so when somebody does. The bucket of tokens lets
 * only some twenty lines go, so the pipe is filled before. */
static void log_when_its_pipe_is_full_does_not_stop_the_server(void **state)
{
    struct world *w = *state;
    struct server *s = server_start(w, "--log-level", "debug", NULL);
    size_t before = s->log_size, filled = stuff_log(w, s);
    for (unsigned i = 0; i < 100; i++)
        serve_one(w, s);
    server_log(s, "~", (unsigned)filled);
    assert_int_equal(s->log_size, before + filled); /* no part of a line either */
    assert_true(fcntl(s->stderr_fd, F_SETPIPE_SZ, 65536) > 0);
    while (!strstr(s->log, " lines left out\n")) {
        serve_one(w, s);
        server_counter(s, "open");
    }
    assert_int_equal(server_stop(s, SIGTERM), 0);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        SERVER_TEST(frames_when_glued_are_answered_in_order),
        SERVER_TEST(line_ends_when_between_frames_are_skipped),
        SERVER_TEST(frame_when_cut_anywhere_is_answered),
        SERVER_TEST(hundred_thousand_frames_when_chunked_at_random_match_the_oracle),
        SERVER_TEST(big_frames_when_pipelined_match_the_oracle),
        SERVER_TEST(big_frames_when_in_uneven_pieces_match_the_oracle),
        SERVER_TEST(frame_when_sent_byte_by_byte_is_answered),
        SERVER_TEST(urgent_byte_when_sent_is_a_byte_like_any_other),
        SERVER_TEST(end_of_file_when_between_frames_is_clean),
        SERVER_TEST(end_of_file_when_inside_a_frame_keeps_earlier_answers),
        SERVER_TEST(half_close_when_answers_are_owed_delivers_them_all),
        SERVER_TEST(bad_header_when_met_is_told_with_place_and_bytes),
        SERVER_TEST(bad_header_when_followed_by_much_input_keeps_every_answer),
        SERVER_TEST(reset_when_inside_a_frame_is_counted_with_its_peer),
        SERVER_TEST(reset_when_answers_are_owed_returns_everything),
        SERVER_TEST(idle_peer_when_its_time_is_up_is_closed),
        SERVER_TEST(line_ends_when_sent_for_ever_do_not_keep_a_peer),
        SERVER_TEST(slow_frame_when_its_time_is_up_ends_the_peer),
        SERVER_TEST(slow_header_when_its_time_is_up_ends_the_peer),
        SERVER_TEST(peer_that_does_not_read_when_its_time_is_up_is_reset),
        SERVER_TEST(peer_when_paused_is_not_ended_by_the_deadlines_of_reading),
        SERVER_TEST(log_when_at_level_error_has_start_lines_only),
        SERVER_TEST(log_when_flooded_leaves_lines_out_and_says_so),
        SERVER_TEST(log_when_its_pipe_is_full_does_not_stop_the_server),
    };
    programs_find(argc, argv);
    return RUN(tests);
}
