/* SPDX-License-Identifier: MIT
 *
 * Streams over a core that does nothing by itself (fake_core.h): the test completes each operation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <proactor/stream.h>

#include "fake_core.h"

/* ------------------------------------------------------------------------------------------------------------
 * The stream and its user
 * ------------------------------------------------------------------------------------------------------------ */

enum { SLICE_COUNT = 16 };

static struct pro_stream s;
static struct pro_stream_write writes[8];
static struct pro_slice slices[SLICE_COUNT];
static char buffers[SLICE_COUNT]; /* stand for buffers; nobody looks into one */
static char text[1024];           /* what was called, a word each */
static void (*act)(const char *word);

static void called(const char *word, int value)
{
    assert_false(core.calling);
    snprintf(text + strlen(text), sizeof text - strlen(text), value ? "%s(%d) " : "%s ", word, value);
    if (act)
        act(word);
}

#define assert_called(words)                                                                                           \
    do {                                                                                                               \
        assert_string_equal(text, words);                                                                              \
        text[0] = 0;                                                                                                   \
    } while (0)

static void on_connected(struct pro_stream *stream, int error)
{
    assert_ptr_equal(stream, &s);
    called("connected", error);
}

static void on_data(struct pro_stream *stream, struct pro_slice *slice)
{
    char word[2] = {(char)('a' + (slice - slices)), 0};
    assert_ptr_equal(stream, &s);
    assert_null(slice->next);
    pro_slice_return(slice);
    called(word, 0);
}

static void on_end(struct pro_stream *stream, int error)
{
    assert_ptr_equal(stream, &s);
    called("end", error);
}

static void on_drained(struct pro_stream *stream)
{
    assert_ptr_equal(stream, &s);
    called("drained", 0);
}

static void on_broken(struct pro_stream *stream, int error)
{
    assert_ptr_equal(stream, &s);
    called("broken", error);
}

static void on_closed(struct pro_stream *stream, int error)
{
    static const struct pro_stream closed;
    assert_ptr_equal(stream, &s);
    assert_memory_equal(&s, &closed, sizeof s);
    called("closed", error);
}

static void on_written(struct pro_stream *stream, struct pro_stream_write *write, int res)
{
    char word[3] = {'w', (char)('0' + (write - writes)), 0};
    assert_ptr_equal(stream, &s);
    called(word, res);
}

static struct pro_stream_config config;

static int setup(void **state)
{
    core = (struct fake_core){.now = 1000};
    s = (struct pro_stream){0};
    text[0] = 0;
    act = NULL;
    config = (struct pro_stream_config){.pool = pool,
                                        .connected = on_connected,
                                        .data = on_data,
                                        .end = on_end,
                                        .drained = on_drained,
                                        .broken = on_broken,
                                        .closed = on_closed};
    for (unsigned i = 0; i < SLICE_COUNT; i++)
        slices[i] = (struct pro_slice){.size = 10, .buffer = (struct pro_buffer *)(void *)&buffers[i]};
    return 0;
}

/* A call of the interface, from which nothing may be called back. */
#define CALL(expression)                                                                                               \
    do {                                                                                                               \
        bool calling_ = core.calling;                                                                                  \
        core.calling = true;                                                                                           \
        expression;                                                                                                    \
        core.calling = calling_;                                                                                       \
    } while (0)

static void complete(struct pro_op *op, int code, int res)
{
    assert_int_equal(op->code, code);
    op->code = IDLE;
    op->time_at = 0;
    op->done(loop, op, (struct pro_result){.res = res});
}

static void sent(void)
{
    assert_true(s.out.code == SEND || s.out.code == SLICES);
    complete(&s.out, s.out.code, (int)s.out.u.io.size);
}

static void arrives(unsigned slice, bool more)
{
    assert_int_equal(s.in.code, RECEIVE);
    if (!more)
        s.in.code = IDLE, core.pauses = 0;
    s.in.done(loop, &s.in, (struct pro_result){10, more ? PRO_MORE : 0, &slices[slice]});
}

static void answer_pause(void)
{
    assert_int_equal(core.pauses, 1);
    core.pauses = 0;
    s.in.done(loop, &s.in, (struct pro_result){0, PRO_MORE | PRO_PAUSED, NULL});
}

static void file_ends(void)
{
    assert_int_equal(s.in.code, RECEIVE);
    s.in.code = IDLE;
    core.pauses = 0;
    s.in.done(loop, &s.in, (struct pro_result){0, PRO_EOF, NULL});
}

static void open_stream(void)
{
    CALL(pro_stream_open(&s, loop, 3, &config));
    assert_int_equal(s.in.code, RECEIVE);
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
}

static void write_bytes(unsigned i, size_t size)
{
    CALL(pro_stream_write(&s, &writes[i], "", size, on_written));
}

static void write_slice(unsigned i)
{
    CALL(pro_stream_write_slices(&s, &slices[i]));
}

static void end_stream(enum pro_stream_ending ending)
{
    CALL(pro_stream_close(&s, ending));
}

/* ------------------------------------------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------------------------------------------ */

static void receive_when_its_final_carries_data_goes_on(void **state)
{
    open_stream();
    arrives(0, false);
    assert_called("a ");
    assert_int_equal(s.in.code, RECEIVE);
    assert_int_equal(s.in.time_at, core.now); /* the deadline lost the race for this piece only */
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
    complete(&s.in, RECEIVE, -ETIME);
    assert_called("end(-62) ");
}

static void move_deadline(const char *word)
{
    if (strcmp(word, "a") == 0)
        CALL(pro_stream_read_deadline(&s, 5000));
}

static void receive_when_its_final_carries_data_lets_the_callback_move_the_deadline(void **state)
{
    act = move_deadline;
    open_stream();
    arrives(0, false);
    assert_int_equal(s.in.time_at, 5000);
}

static void receive_when_its_final_carries_data_and_paused_stands(void **state)
{
    open_stream();
    CALL(pro_stream_pause(&s));
    arrives(0, false);
    assert_called("");
    assert_int_equal(s.in.u.stream.credit, 0);
    CALL(pro_stream_resume(&s));
    answer_pause();
    assert_called("a ");
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
}

static void resume_when_the_pause_is_unanswered_waits_for_it(void **state)
{
    open_stream();
    CALL(pro_stream_pause(&s));
    CALL(pro_stream_pause(&s));
    arrives(0, true);
    CALL(pro_stream_resume(&s));
    CALL(pro_stream_resume(&s));
    assert_called("");
    assert_int_equal(s.in.u.stream.credit, 0);
    arrives(1, true);
    assert_called("a b ");
    answer_pause();
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
    CALL(pro_stream_pause(&s));
    CALL(pro_stream_resume(&s));
    CALL(pro_stream_pause(&s));
    answer_pause();
    assert_int_equal(s.in.u.stream.credit, 0);
    CALL(pro_stream_resume(&s)); /* nothing is stashed: credit at once */
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
}

static void pause_at_b(const char *word)
{
    if (strcmp(word, "b") == 0)
        CALL(pro_stream_pause(&s));
}

static void stash_when_paused_inside_its_delivery_keeps_the_rest_in_order(void **state)
{
    act = pause_at_b;
    open_stream();
    CALL(pro_stream_pause(&s));
    for (unsigned i = 0; i < 4; i++)
        arrives(i, true);
    answer_pause();
    CALL(pro_stream_resume(&s));
    assert_called("");
    answer_pause();
    assert_called("a b ");
    assert_int_equal(s.in.u.stream.credit, 0);
    CALL(pro_stream_resume(&s));
    file_ends(); /* in place of the answer */
    assert_called("c d end ");
    assert_int_equal(s.in.code, IDLE);
}

static void stash_when_the_receive_has_ended_is_delivered_by_a_timer(void **state)
{
    act = pause_at_b;
    open_stream();
    CALL(pro_stream_pause(&s));
    for (unsigned i = 0; i < 3; i++)
        arrives(i, true);
    complete(&s.in, RECEIVE, -ECONNRESET);
    core.pauses = 0;
    CALL(pro_stream_resume(&s));
    CALL(pro_stream_pause(&s));
    CALL(pro_stream_resume(&s));
    assert_called("");
    complete(&s.in, TIMER, 0);
    assert_called("a b ");
    CALL(pro_stream_resume(&s));
    complete(&s.in, TIMER, 0);
    assert_called("c end(-104) ");
    end_stream(PRO_STREAM_NOW);
    complete(&s.out, CLOSE, 0);
    assert_called("closed(-104) ");
}

static void close_at_b(const char *word)
{
    if (strcmp(word, "b") == 0)
        end_stream(PRO_STREAM_LINGER);
}

static void stash_when_closed_inside_its_delivery_is_returned(void **state)
{
    act = close_at_b;
    open_stream();
    CALL(pro_stream_pause(&s));
    for (unsigned i = 0; i < 4; i++)
        arrives(i, true);
    CALL(pro_stream_resume(&s));
    answer_pause();
    assert_called("a b ");
    assert_int_equal(core.returned, 4);
}

static void connect_when_paused_gives_no_credit(void **state)
{
    static const struct sockaddr address;
    CALL(assert_int_equal(pro_stream_connect(&s, loop, &address, sizeof address, 7777, &config), 0));
    assert_int_equal(s.in.time_at, 7777);
    CALL(pro_stream_pause(&s));
    CALL(pro_stream_read_deadline(&s, 8888));
    assert_int_equal(s.in.time_at, 7777);
    complete(&s.in, CONNECT, 0);
    assert_called("connected ");
    assert_int_equal(s.in.time_at, 8888);
    assert_int_equal(s.in.u.stream.credit, 0);
    CALL(pro_stream_resume(&s));
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
}

/* ------------------------------------------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------------------------------------------ */

static void sends_when_slices_are_many_take_256_kib(void **state)
{
    open_stream();
    write_bytes(0, 5);
    for (unsigned i = 0; i < 7; i++) {
        slices[i].size = i == 5 ? 300000 : 131072;
        write_slice(i);
    }
    write_bytes(1, 600000);
    static const uint32_t sizes[] = {5, 262144, 262144, 131072, 300000, 131072, 262144, 262144, 75712};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(s.out.u.io.size, sizes[i]);
        sent();
    }
    assert_called("w0(5) w1(600000) ");
    assert_int_equal(s.out.code, IDLE);
    assert_int_equal(pro_stream_queued(&s), 0);
}

static bool lazy(void)
{
    return s.out.u.io.moved;
}

/* Else the loop might sleep while somebody waits for its end. */
static void send_is_lazy_only_while_nothing_waits_for_it(void **state)
{
    open_stream();
    write_slice(0);
    assert_true(lazy());
    write_slice(1);
    assert_false(lazy());
    sent();
    assert_true(lazy()); /* the second is the last */
    write_bytes(0, 1);
    assert_false(lazy());
    sent();
    sent();
    write_slice(2);
    CALL(pro_stream_shutdown(&s));
    assert_false(lazy());
    assert_called("w0(1) ");
}

static void send_is_not_lazy_when_drained_is_owed(void **state)
{
    config.high = PINNED;
    open_stream();
    write_slice(0);
    assert_false(lazy());
    sent();
    assert_called("drained ");
}

static void send_is_not_lazy_when_the_stream_closes(void **state)
{
    open_stream();
    write_slice(0);
    assert_true(lazy());
    end_stream(PRO_STREAM_FLUSH);
    assert_false(lazy());
}

static void queued_when_runs_end_inside_a_buffer_is_exact(void **state)
{
    open_stream();
    write_bytes(0, 1);
    for (unsigned i = 0; i < 6; i++) { /* a b b b c c, each its own run */
        slices[i].size = 200000;
        slices[i].buffer = (struct pro_buffer *)(void *)&buffers[i == 0 ? 0 : i < 4 ? 1 : 2];
        write_slice(i);
    }
    static const uint32_t queued[] = {3001, 3000, 2000, 2000, 2000, 1000, 1000, 0};
    for (unsigned i = 0; i < sizeof queued / sizeof queued[0] - 1; i++) {
        assert_int_equal(pro_stream_queued(&s), queued[i]);
        sent();
    }
    assert_int_equal(pro_stream_queued(&s), 0);
}

static void write_deadline_when_configured_is_set_for_each_send(void **state)
{
    config.write_timeout_ns = 50;
    open_stream();
    write_bytes(0, 300000);
    write_slice(0);
    assert_int_equal(s.out.time_at, 1050);
    core.now = 2000;
    sent();
    assert_int_equal(s.out.time_at, 2050);
    core.now = PRO_NEVER - 10;
    sent();
    assert_int_equal(s.out.time_at, PRO_NEVER);
    complete(&s.out, SLICES, -ETIME);
    assert_called("w0(300000) broken(-62) ");
}

static void write_again(const char *word)
{
    if (word[0] == 'w')
        write_bytes((unsigned)(word[1] - '0'), 10);
}

static void queue_when_each_answer_writes_again_is_answered_once_a_turn(void **state)
{
    act = write_again;
    open_stream();
    write_bytes(0, 10);
    write_bytes(1, 10);
    complete(&s.out, SEND, -EPIPE);
    assert_called("w0(-32) w1(-32) broken(-32) ");
    complete(&s.out, TIMER, 0);
    assert_called("w0(-32) w1(-32) ");
    complete(&s.out, TIMER, 0);
    assert_called("w0(-32) w1(-32) ");
    end_stream(PRO_STREAM_LINGER);
    assert_int_equal(s.out.flags, 1);
    complete(&s.out, TIMER, -ECANCELED);
    complete(&s.in, RECEIVE, -ECANCELED);
    complete(&s.out, ABORT, 0);
    assert_called("w0(-32) w1(-32) ");
    act = NULL;
    complete(&s.out, TIMER, 0);
    assert_called("w0(-32) w1(-32) closed(-32) ");
}

static void slices_when_shut_are_returned_while_the_queue_stands(void **state)
{
    open_stream();
    write_bytes(0, 10);
    CALL(pro_stream_shutdown(&s));
    write_slice(0);
    assert_int_equal(core.returned, 1);
    sent();
    assert_int_equal(s.out.code, SHUTDOWN);
    write_bytes(1, 10);
    complete(&s.out, SHUTDOWN, 0);
    complete(&s.out, TIMER, 0);
    assert_called("w0(10) w1(-32) ");
}

static void shutdown_when_it_fails_breaks_the_stream(void **state)
{
    open_stream();
    CALL(pro_stream_shutdown(&s));
    complete(&s.out, SHUTDOWN, -ENOTCONN);
    assert_called("broken(-107) ");
}

static void try_write_when_connecting_or_refused_sends_nothing(void **state)
{
    static const struct sockaddr address;
    pro_stream_connect(&s, loop, &address, sizeof address, 0, &config);
    assert_int_equal(pro_stream_try_write(&s, "x", 1), -EAGAIN);
    complete(&s.in, CONNECT, 0);
    assert_int_equal(pro_stream_try_write(&s, "x", 1), 1);
    write_bytes(0, 10);
    assert_int_equal(pro_stream_try_write(&s, "x", 1), -EAGAIN);
    sent();
    CALL(pro_stream_shutdown(&s));
    assert_int_equal(pro_stream_try_write(&s, "x", 1), -EPIPE);
}

/* The kernel tells the loss of a connection once. It may have been told to a write that was not the first to fail. */
static void end_when_a_write_met_the_loss_is_no_end_of_file(void **state)
{
    open_stream();
    core.try_error = -ENOBUFS;
    CALL(assert_int_equal(pro_stream_try_write(&s, "x", 1), -ENOBUFS));
    core.try_error = -ECONNRESET;
    CALL(assert_int_equal(pro_stream_try_write(&s, "x", 1), -ECONNRESET));
    file_ends();
    assert_called("end(-104) ");
}

static void drained_when_the_queue_is_dropped_is_not_told(void **state)
{
    config.high = 100;
    open_stream();
    write_bytes(0, 100);
    write_bytes(1, 1);
    complete(&s.out, SEND, -ECONNRESET);
    assert_called("w0(-104) w1(-104) broken(-104) ");
}

/* ------------------------------------------------------------------------------------------------------------
 * Endings
 * ------------------------------------------------------------------------------------------------------------ */

static void linger_when_reading_flows_stands_until_the_queue_is_sent(void **state)
{
    config.linger_ns = 500;
    config.linger_bytes = 25;
    open_stream();
    CALL(pro_stream_read_deadline(&s, 1234));
    write_bytes(0, 10);
    end_stream(PRO_STREAM_LINGER);
    assert_int_equal(s.in.time_at, 0);
    assert_int_equal(s.in.u.stream.credit, 0);
    answer_pause();
    CALL(pro_stream_read_deadline(&s, 1234)); /* and all this is without effect */
    CALL(pro_stream_pause(&s));
    CALL(pro_stream_resume(&s));
    CALL(pro_stream_shutdown(&s));
    assert_int_equal(s.in.u.stream.credit, 0);
    sent();
    core.now = 2000;
    complete(&s.out, SHUTDOWN, 0);
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
    assert_int_equal(s.in.time_at, 2500);
    arrives(0, true);
    arrives(1, true);
    assert_int_equal(s.out.code, IDLE);
    arrives(2, true);
    assert_int_equal(s.out.code, CLOSE);
    assert_int_equal(core.returned, 3);
    complete(&s.in, RECEIVE, -ECANCELED);
    complete(&s.out, CLOSE, 0);
    assert_called("w0(10) closed ");
}

/* From 1000 on, with so much on its way to the peer; until 1500. */
static void begin_to_linger(int unsent)
{
    config.linger_ns = 500;
    open_stream();
    end_stream(PRO_STREAM_LINGER);
    answer_pause();
    core.now = 1000;
    core.unsent = unsent;
    complete(&s.out, SHUTDOWN, 0);
    assert_int_equal(s.in.time_at, 1500);
}

static void expect_close(void)
{
    complete(&s.in, RECEIVE, -ETIME);
    assert_int_equal(s.out.code, CLOSE);
    complete(&s.out, CLOSE, 0);
    assert_called("closed ");
}

static void linger_when_the_peer_takes_more_begins_anew(void **state)
{
    begin_to_linger(50000);
    core.now = 1500;
    core.unsent -= 16 * 1024;
    complete(&s.in, RECEIVE, -ETIME);
    assert_int_equal(s.in.code, RECEIVE);
    assert_int_equal(s.in.time_at, 2000);
    arrives(0, true);
    core.unsent -= 16 * 1024 - 1; /* too little to wait for */
    expect_close();
}

static void linger_when_the_peer_has_got_all_ends(void **state)
{
    begin_to_linger(50000);
    core.unsent = 0;
    expect_close();
}

static void linger_when_the_pause_is_unanswered_gives_credit_before_it(void **state)
{
    open_stream();
    end_stream(PRO_STREAM_LINGER);
    complete(&s.out, SHUTDOWN, 0);
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
    answer_pause();
    complete(&s.in, RECEIVE, -ETIME);
    complete(&s.out, CLOSE, 0);
    assert_called("closed "); /* its own limit is no error */
}

static void linger_when_reading_ended_at_its_deadline_reads_again(void **state)
{
    open_stream();
    complete(&s.in, RECEIVE, -ETIME);
    end_stream(PRO_STREAM_LINGER);
    complete(&s.out, SHUTDOWN, 0);
    assert_int_equal(s.in.code, RECEIVE);
    assert_int_equal(s.in.u.stream.credit, PRO_UNLIMITED);
    file_ends();
    complete(&s.out, CLOSE, 0);
    assert_called("end(-62) closed(-62) ");
}

static void linger_when_a_resume_is_on_its_way_waits_for_it(void **state)
{
    open_stream();
    CALL(pro_stream_pause(&s));
    complete(&s.in, RECEIVE, -ETIME);
    core.pauses = 0;
    CALL(pro_stream_resume(&s));
    end_stream(PRO_STREAM_LINGER);
    complete(&s.out, SHUTDOWN, 0);
    assert_int_equal(s.in.code, TIMER);
    complete(&s.in, TIMER, 0);
    assert_int_equal(s.in.code, RECEIVE);
    file_ends();
    complete(&s.out, CLOSE, 0);
    assert_called("closed(-62) ");
}

static void linger_when_the_file_has_ended_closes_after_the_shutdown(void **state)
{
    open_stream();
    file_ends();
    end_stream(PRO_STREAM_LINGER);
    complete(&s.out, SHUTDOWN, 0);
    complete(&s.out, CLOSE, 0);
    assert_called("end closed ");
}

static void linger_when_a_final_carries_data_still_ends(void **state)
{
    open_stream();
    end_stream(PRO_STREAM_LINGER);
    arrives(0, false); /* an old deadline that lost */
    complete(&s.out, SHUTDOWN, 0);
    assert_int_equal(s.in.code, RECEIVE);
    arrives(1, false); /* the limit, which lost too */
    complete(&s.out, CLOSE, 0);
    assert_int_equal(core.returned, 2);
    assert_called("closed ");
}

static void closed_when_operations_end_after_the_close_comes_last(void **state)
{
    open_stream();
    CALL(pro_stream_pause(&s));
    arrives(0, true);
    file_ends();
    CALL(pro_stream_resume(&s));
    end_stream(PRO_STREAM_NOW);
    assert_int_equal(s.in.flags, 1); /* the timer was cancelled */
    complete(&s.out, CLOSE, 0);
    assert_called("");
    complete(&s.in, TIMER, -ECANCELED);
    assert_called("closed ");
    assert_int_equal(core.returned, 1);
}

static void now_when_the_send_wins_its_cancel_answers_it(void **state)
{
    open_stream();
    write_bytes(0, 10);
    write_bytes(1, 10);
    end_stream(PRO_STREAM_NOW);
    assert_int_equal(s.out.flags, 1);
    sent();
    assert_called("w0(10) ");
    complete(&s.in, RECEIVE, -ECANCELED);
    complete(&s.out, CLOSE, 0);
    assert_called("w1(-125) closed ");
}

static void abort_when_the_close_has_begun_hurries_it(void **state)
{
    open_stream();
    end_stream(PRO_STREAM_FLUSH);
    assert_int_equal(s.out.code, CLOSE);
    end_stream(PRO_STREAM_NOW);
    assert_int_equal(s.out.flags, 0);
    end_stream(PRO_STREAM_ABORT);
    assert_int_equal(s.out.flags, 1);
    complete(&s.in, RECEIVE, -ECANCELED);
    complete(&s.out, CLOSE, -ECANCELED);
    assert_called("closed ");
}

static void abort_when_a_send_is_cancelled_for_a_close_resets(void **state)
{
    open_stream();
    write_bytes(0, 10);
    end_stream(PRO_STREAM_NOW);
    end_stream(PRO_STREAM_ABORT);
    complete(&s.out, SEND, -ECANCELED);
    complete(&s.in, RECEIVE, -ECANCELED);
    complete(&s.out, ABORT, 0);
    assert_called("w0(-125) closed ");
}

static void closed_when_errors_were_many_tells_the_first(void **state)
{
    open_stream();
    write_bytes(0, 10);
    complete(&s.in, RECEIVE, -ECONNRESET);
    complete(&s.out, SEND, -EPIPE);
    end_stream(PRO_STREAM_LINGER);
    complete(&s.out, ABORT, 0);
    assert_called("end(-104) w0(-32) broken(-32) closed(-104) ");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    static const struct CMUnitTest tests[] = {
        TEST(receive_when_its_final_carries_data_goes_on),
        TEST(receive_when_its_final_carries_data_lets_the_callback_move_the_deadline),
        TEST(receive_when_its_final_carries_data_and_paused_stands),
        TEST(resume_when_the_pause_is_unanswered_waits_for_it),
        TEST(stash_when_paused_inside_its_delivery_keeps_the_rest_in_order),
        TEST(stash_when_the_receive_has_ended_is_delivered_by_a_timer),
        TEST(stash_when_closed_inside_its_delivery_is_returned),
        TEST(connect_when_paused_gives_no_credit),
        TEST(sends_when_slices_are_many_take_256_kib),
        TEST(send_is_lazy_only_while_nothing_waits_for_it),
        TEST(send_is_not_lazy_when_drained_is_owed),
        TEST(send_is_not_lazy_when_the_stream_closes),
        TEST(queued_when_runs_end_inside_a_buffer_is_exact),
        TEST(write_deadline_when_configured_is_set_for_each_send),
        TEST(queue_when_each_answer_writes_again_is_answered_once_a_turn),
        TEST(slices_when_shut_are_returned_while_the_queue_stands),
        TEST(shutdown_when_it_fails_breaks_the_stream),
        TEST(try_write_when_connecting_or_refused_sends_nothing),
        TEST(end_when_a_write_met_the_loss_is_no_end_of_file),
        TEST(drained_when_the_queue_is_dropped_is_not_told),
        TEST(linger_when_reading_flows_stands_until_the_queue_is_sent),
        TEST(linger_when_the_peer_takes_more_begins_anew),
        TEST(linger_when_the_peer_has_got_all_ends),
        TEST(linger_when_the_pause_is_unanswered_gives_credit_before_it),
        TEST(linger_when_reading_ended_at_its_deadline_reads_again),
        TEST(linger_when_a_resume_is_on_its_way_waits_for_it),
        TEST(linger_when_the_file_has_ended_closes_after_the_shutdown),
        TEST(linger_when_a_final_carries_data_still_ends),
        TEST(closed_when_operations_end_after_the_close_comes_last),
        TEST(now_when_the_send_wins_its_cancel_answers_it),
        TEST(abort_when_the_close_has_begun_hurries_it),
        TEST(abort_when_a_send_is_cancelled_for_a_close_resets),
        TEST(closed_when_errors_were_many_tells_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
