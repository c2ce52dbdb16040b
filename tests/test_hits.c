/* SPDX-License-Identifier: MIT
 *
 * The kinds of docs/faults.md against those of the world, and the counters: that they add up, over processes too, and
 * that whatever was never met is found. Each mistake that the tables could have is planted and seen. */
#include "hits.h"

#include "harness.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A copy of the table, for a mistake. */
struct copy {
    const char *kinds[HITS_MOST], *played[HITS_MOST];
    struct hits_table table;
};

static void copy_docs(struct copy *copy)
{
    assert_in_range(hits_docs.count, 25, HITS_MOST - 1);
    assert_in_range(hits_docs.played_count, 1, HITS_MOST - 1);
    memcpy(copy->kinds, hits_docs.kinds, hits_docs.count * sizeof copy->kinds[0]);
    memcpy(copy->played, hits_docs.played, hits_docs.played_count * sizeof copy->played[0]);
    copy->table = (struct hits_table){copy->kinds, hits_docs.count, copy->played, hits_docs.played_count};
}

static unsigned place_of(const char *const *names, unsigned count, const char *name)
{
    unsigned i = 0;
    while (i < count && strcmp(names[i], name) != 0)
        i++;
    assert_true(i < count);
    return i;
}

/* ---- Names ---- */

static void names_of_the_docs_are_those_of_the_world_and_the_played(void **state)
{
    assert_int_equal(hits_misnamed(&hits_docs), 0);
    assert_true(hits_docs.count == PRO_SIM_FAULTS + hits_docs.played_count);
}

static void judge(void *context)
{
    _exit((int)hits_misnamed(context));
}

/* The table has one mistake, and `text` is said of it. */
static void assert_misnamed(struct copy *copy, const char *text)
{
    char said[4096] = "";
    assert_int_equal(in_child(judge, &copy->table, said, sizeof said), 1 << 8);
    if (!strstr(said, text))
        fail_msg("it should say \"%s\", and says: %s", text, said);
}

static void fault_of_the_world_when_the_docs_leave_it_out_is_found(void **state)
{
    for (int fault = 0; fault < PRO_SIM_FAULTS; fault++) {
        struct copy copy;
        char text[96];
        const char *name = pro_sim_fault_name((enum pro_sim_fault)fault);
        copy_docs(&copy);
        unsigned i = place_of(copy.kinds, copy.table.count, name);
        copy.kinds[i] = copy.kinds[--copy.table.count];
        snprintf(text, sizeof text, "the world's fault '%s' is not in docs/faults.md", name);
        assert_misnamed(&copy, text);
    }
}

static void kind_when_nobody_knows_it_is_found(void **state)
{
    struct copy copy;
    copy_docs(&copy);
    copy.kinds[copy.table.count++] = "accept_eagain";
    assert_misnamed(&copy, "'accept_eagain' is neither a fault of the world nor played");
}

static void kind_when_it_is_played_and_the_worlds_is_found(void **state)
{
    struct copy copy;
    copy_docs(&copy);
    copy.played[copy.table.played_count++] = "segment";
    assert_misnamed(&copy, "'segment' is a fault of the world, and played");
}

static void kind_when_it_is_there_twice_is_found(void **state)
{
    struct copy copy;
    copy_docs(&copy);
    copy.kinds[copy.table.count++] = "segment";
    assert_misnamed(&copy, "'segment' is there twice");
}

/* ---- Counters ---- */

static void counts_when_added_add_up(void **state)
{
    static struct hits hits, other;
    hits_init(&hits, &hits_docs);
    hits_init(&other, &hits_docs);
    hits_add(&hits, "never_reads", 3);
    hits_add(&hits, "never_reads", UINT64_C(1) << 40);
    hits_add(&other, "never_reads", 1);
    hits_add(&other, "cut", 2);
    hits_merge(&hits, &other);
    assert_true(hits_of(&hits, "never_reads") == 4 + (UINT64_C(1) << 40));
    assert_true(hits_of(&hits, "cut") == 2);
    assert_true(hits_of(&hits, "drain") == 0);
}

static void counts_of_a_world_when_added_find_their_names(void **state)
{
    static struct hits hits;
    struct pro_sim_stats stats = {0};
    for (int fault = 0; fault < PRO_SIM_FAULTS; fault++)
        stats.hits[fault] = (uint64_t)fault + 100;
    hits_init(&hits, &hits_docs);
    hits_add_world(&hits, &stats);
    hits_add_world(&hits, &stats);
    for (int fault = 0; fault < PRO_SIM_FAULTS; fault++)
        assert_int_equal(hits_of(&hits, pro_sim_fault_name((enum pro_sim_fault)fault)), 2 * (fault + 100));
    assert_int_equal(hits_of(&hits, "drain"), 0);
}

/* A real world, so that its counters and names are seen to be those that are meant. */
static void counts_of_a_world_that_has_run_are_those_it_met(void **state)
{
    static struct hits hits;
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    struct pro_sim_stats stats;
    struct pro_sim *sim;
    config.rates[PRO_SIM_FULL] = UINT16_MAX;
    assert_int_equal(pro_sim_new(&config, &sim), 0);
    unsigned met = 0;
    for (unsigned i = 0; i < 10; i++)
        met += pro_sim_chance(sim, PRO_SIM_FULL);
    assert_true(met > 0);
    pro_sim_stats(sim, &stats, sizeof stats);
    hits_init(&hits, &hits_docs);
    hits_add_world(&hits, &stats);
    assert_int_equal(hits_of(&hits, "full"), met);
    assert_int_equal(hits_of(&hits, "segment"), 0);
    pro_sim_free(sim);
}

static void counts_when_processes_share_them_lose_nothing(void **state)
{
    enum { WORKERS = 4, ROUNDS = 50000 };
    struct hits *hits = mmap(NULL, sizeof *hits, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(hits != MAP_FAILED);
    hits_init(hits, &hits_docs);
    pid_t workers[WORKERS];
    fflush(NULL);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = fork();
        if (workers[i] == 0) {
            for (unsigned n = 0; n < ROUNDS; n++)
                hits_add(hits, n % 2 ? "drain" : "cut", 1);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        int status;
        assert_int_equal(waitpid(workers[i], &status, 0), workers[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(hits_of(hits, "drain"), WORKERS * ROUNDS / 2);
    assert_int_equal(hits_of(hits, "cut"), WORKERS * ROUNDS / 2);
    munmap(hits, sizeof *hits);
}

static void add_stranger(void *context)
{
    static struct hits hits;
    hits_init(&hits, &hits_docs);
    hits_add(&hits, "never_read", 1);
}

static void kind_when_the_docs_do_not_name_it_aborts(void **state)
{
    char said[4096] = "";
    int status = in_child(add_stranger, NULL, said, sizeof said);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(said, "docs/faults.md knows no kind 'never_read'"));
}

/* ---- What was never met ---- */

static void count_missing(void *context)
{
    _exit((int)hits_missing(context));
}

static void kinds_when_never_met_are_named(void **state)
{
    static struct hits hits;
    char said[8192] = "";
    hits_init(&hits, &hits_docs);
    assert_int_equal(in_child(count_missing, &hits, said, sizeof said), (int)hits_docs.count << 8);
    for (unsigned left_out = 0; left_out < hits_docs.count; left_out++) {
        char text[64];
        hits_init(&hits, &hits_docs);
        for (unsigned i = 0; i < hits_docs.count; i++)
            hits_add(&hits, hits_docs.kinds[i], i != left_out);
        snprintf(text, sizeof text, "hits: '%s' was never met\n", hits_docs.kinds[left_out]);
        assert_non_null(strstr(said, text));
        assert_int_equal(in_child(count_missing, &hits, said + sizeof said / 2, sizeof said / 2), 1 << 8);
        assert_string_equal(said + sizeof said / 2, text);
    }
    for (unsigned i = 0; i < hits_docs.count; i++)
        hits_add(&hits, hits_docs.kinds[i], 1);
    assert_int_equal(hits_missing(&hits), 0);
}

static void print_to_stderr(void *context)
{
    dup2(STDERR_FILENO, STDOUT_FILENO);
    hits_print(context);
}

static void table_when_printed_has_a_line_for_each_kind(void **state)
{
    static struct hits hits;
    char said[8192] = "", line[96];
    hits_init(&hits, &hits_docs);
    hits_add(&hits, hits_docs.kinds[0], 12345678901);
    hits_add(&hits, "virtual_day", 7);
    assert_int_equal(in_child(print_to_stderr, &hits, said, sizeof said), 0);
    const char *next = said;
    for (unsigned i = 0; i < hits_docs.count; i++) {
        int size = snprintf(line, sizeof line, "%-24s %12" PRIu64 "\n", hits_docs.kinds[i],
                            hits_of(&hits, hits_docs.kinds[i]));
        assert_memory_equal(next, line, (size_t)size);
        next += size;
    }
    assert_int_equal(*next, 0);
    assert_non_null(strstr(said, " 12345678901\n"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(names_of_the_docs_are_those_of_the_world_and_the_played),
        TEST_BARE(fault_of_the_world_when_the_docs_leave_it_out_is_found),
        TEST_BARE(kind_when_nobody_knows_it_is_found),
        TEST_BARE(kind_when_it_is_played_and_the_worlds_is_found),
        TEST_BARE(kind_when_it_is_there_twice_is_found),
        TEST_BARE(counts_when_added_add_up),
        TEST_BARE(counts_of_a_world_when_added_find_their_names),
        TEST_BARE(counts_of_a_world_that_has_run_are_those_it_met),
        TEST_BARE(counts_when_processes_share_them_lose_nothing),
        TEST_BARE(kind_when_the_docs_do_not_name_it_aborts),
        TEST_BARE(kinds_when_never_met_are_named),
        TEST_BARE(table_when_printed_has_a_line_for_each_kind),
    };
    return RUN(tests);
}
