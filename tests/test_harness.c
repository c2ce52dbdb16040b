/* SPDX-License-Identifier: MIT
 *
 * Canaries: every checker of the harness is shown a planted bug, and must catch it.
 *
 * A planted bug is a test of its own that must fail, so it runs in a program of its own: this one again, with the
 * name of the bug as its argument. Its output and its exit status are looked at here. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------------
 * The bugs
 * ------------------------------------------------------------------------------------------------------------ */

static void nothing(void **state)
{
    (void)state;
}

static void leaked_descriptor(void **state)
{
    (void)state;
    assert_true(open("/dev/null", O_RDONLY) >= 0);
}

static void leaked_socket(void **state)
{
    (void)state;
    assert_true(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
}

static void lost_descriptor(void **state)
{
    (void)state;
    close(STDIN_FILENO);
}

static void replaced_descriptor(void **state)
{
    (void)state;
    int fd = open("/dev/zero", O_RDONLY);
    dup2(fd, STDIN_FILENO);
    close(fd);
}

static void leaked_block(void **state)
{
    struct world *w = *state;
    struct pro_allocator allocator = w->config.allocator;
    void *memory = allocator.alloc(allocator.context, 12345, 64);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 64, 0);
}

static void wrong_size_freed(void **state)
{
    struct world *w = *state;
    struct pro_allocator allocator = w->config.allocator;
    allocator.free(allocator.context, allocator.alloc(allocator.context, 16, 16), 17);
}

static void second_final(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    struct pro_result result = {0};
    w->running++; /* as if in pro_run */
    record_begin(r);
    on_record(w->loop, &r->op, result);
    on_record(w->loop, &r->op, result);
    w->running--;
}

static void completion_outside(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    record_begin(r);
    on_record(w->loop, &r->op, (struct pro_result){0});
}

static void never_true(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    pro_timer_every(w->loop, record_begin(r), 0, 1, on_record);
    RUN_UNTIL(w, r->finals == 1);
}

static void stuck(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    alarm(1);
    pro_timer(w->loop, record_begin(r), PRO_NEVER, on_record);
    RUN_UNTIL(w, r->finals == 1);
}

static void die_in_continuation(struct record *r, struct pro_result result)
{
    (void)r;
    assert_int_equal(result.res, 12);
}

static void assertion_in_continuation(void **state)
{
    struct world *w = *state;
    struct record *r = world_record(w);
    r->then = die_in_continuation;
    pro_timer(w->loop, record_begin(r), 0, on_record);
    RUN_UNTIL(w, r->finals == 1);
}

static void child_asserts(void *context)
{
    (void)context;
    assert_true(false);
}

static void assertion_in_child(void **state)
{
    (void)state;
    char text[64];
    int status = in_child(child_asserts, NULL, text, sizeof text);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0); /* it is 99 */
}

static void lives(struct world *w)
{
    (void)w;
}

static void death_that_does_not_come(void **state)
{
    (void)state;
    assert_dies(lives, "");
}

static void dies_wordless(struct world *w)
{
    (void)w;
    fprintf(stderr, "proactor: something else\n");
    abort();
}

static void death_with_other_words(void **state)
{
    (void)state;
    assert_dies(dies_wordless, "the reason");
}

static const struct bug {
    const char *says; /* what its output must contain */
    struct CMUnitTest test;
    const char *says_on_sim; /* if it is something else */
} bugs[] = {
    {"leaked descriptor: ", TEST(leaked_descriptor)},
    {"leaked descriptor: ", TEST(leaked_socket)},
    {"lost descriptor: 0", TEST(lost_descriptor)},
    {"leaked descriptor: 0 -> /dev/zero", TEST(replaced_descriptor)},
    {"12345 bytes", TEST(leaked_block)},
    {"freed with size 17", TEST(wrong_size_freed)},
    {"a completion after the final", TEST(second_final)},
    {"error: Failure", TEST(completion_outside)},
    {"still not so after", TEST(never_true)},
    {"harness: stuck at line", TEST(stuck), "waits for what never comes"},
    {"abandoned: the test ended inside pro_run", TEST(assertion_in_continuation)},
    {"0x63 != 0", TEST(assertion_in_child)},
    {"lives should abort", TEST(death_that_does_not_come)},
    {"should say", TEST(death_with_other_words)},
};
enum { BUGS = sizeof bugs / sizeof bugs[0] };

static int run_bug(const char *name)
{
    for (size_t i = 0; i < BUGS; i++)
        if (strcmp(bugs[i].test.name, name) == 0) {
            const struct CMUnitTest tests[] = {bugs[i].test, TEST(nothing)};
            return RUN(tests);
        }
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------
 * They are caught
 * ------------------------------------------------------------------------------------------------------------ */

/* Runs this program with `argument`; its wait status, and all it said. */
static int run_self(const char *argument, char *said, size_t size)
{
    int ends[2], status = -1;
    size_t used = 0;
    kernel_pipe(ends);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        if (harness_sim())
            setenv("PROACTOR_BACKEND", "sim", 1);
        execl("/proc/self/exe", "test_harness", argument, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t n; used + 1 < size && (n = read(ends[0], said + used, size - used - 1)) > 0;)
        used += (size_t)n;
    said[used] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void planted_bugs_when_run_are_caught(void **state)
{
    const struct world *w = *state;
    bool all = true;
    for (size_t i = 0; i < BUGS; i++) {
        char said[8192];
        int status = run_self(bugs[i].test.name, said, sizeof said);
        const char *says = world_is_sim(w) && bugs[i].says_on_sim ? bugs[i].says_on_sim : bugs[i].says;
        if (status != 0 && strstr(said, says))
            continue;
        print_error("not caught: %s (wait status %x); it said: %s\n", bugs[i].test.name, (unsigned)status, said);
        all = false;
    }
    assert_true(all);
}

static void test_without_bug_when_run_passes(void **state)
{
    (void)state;
    char said[8192];
    int status = run_self("none", said, sizeof said);
    assert_int_equal(status, 0);
}

static void death_when_it_comes_is_seen(void **state)
{
    (void)state;
    assert_dies(dies_wordless, "something else");
}

static void ledger_when_told_fails(void **state)
{
    struct world *w = *state;
    struct pro_allocator a = ledger_allocator(&w->ledger);
    ledger_fail_nth(&w->ledger, 2);
    void *first = a.alloc(a.context, 8, 8);
    assert_non_null(first);
    assert_null(a.alloc(a.context, 8, 8));
    void *third = a.alloc(a.context, 8, 4096);
    assert_non_null(third);
    assert_int_equal((uintptr_t)third % 4096, 0);
    ledger_fail_from(&w->ledger, 1);
    assert_null(a.alloc(a.context, 8, 8));
    assert_null(a.alloc(a.context, 8, 8));
    ledger_fail_never(&w->ledger);
    assert_int_equal(w->ledger.failed, 3);
    a.free(a.context, first, 8);
    a.free(a.context, third, 8);
}

static void backend_when_missing_skips(void **state)
{
    skip_on_sim(*state);
    /* A limit of no descriptors keeps any backend from starting; the child runs a group as a program would. */
    char said[8192];
    int status = run_self("no-descriptors", said, sizeof said);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 77);
    assert_non_null(strstr(said, "skipped: "));
}

/* The leak sanitizer has work to do at the very end, and wants descriptors for it. */
static void give_some_back(void)
{
    for (int fd = 10; fd < 30; fd++)
        close(fd);
}

static int run_without_descriptors(void)
{
    static const struct CMUnitTest tests[] = {TEST(nothing)};
    atexit(give_some_back);
    while (dup(STDOUT_FILENO) >= 0)
        continue;
    return RUN(tests);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(planted_bugs_when_run_are_caught), TEST_BARE(test_without_bug_when_run_passes),
        TEST_BARE(death_when_it_comes_is_seen),      TEST_BARE(ledger_when_told_fails),
        TEST_BARE(backend_when_missing_skips),
    };
    if (argc == 2 && strcmp(argv[1], "no-descriptors") == 0)
        return run_without_descriptors();
    if (argc == 2 && strcmp(argv[1], "none") == 0) {
        static const struct CMUnitTest fine[] = {TEST(nothing)};
        return RUN(fine);
    }
    return argc == 2 ? run_bug(argv[1]) : RUN(tests);
}
