/* SPDX-License-Identifier: MIT
 *
 * The test harness: a world around every test, and an audit after it.
 *
 *      static void c04_recv_when_cancelled_ends(void **state)
 *      {
 *          struct world *w = *state;
 *          int far;
 *          struct pro_handle *near = world_tcp(w, &far);
 *          struct record *r = world_record(w);
 *          char data[16];
 *          pro_recv(near, record_begin(r), data, sizeof data, 0, on_record);
 *          pro_cancel(&r->op);
 *          RUN_UNTIL(w, r->finals == 1);
 *          assert_int_equal(r->last.res, -ECANCELED);
 *      }
 *
 *      int main(void)
 *      {
 *          static const struct CMUnitTest tests[] = {TEST(c04_recv_when_cancelled_ends)};
 *          return RUN(tests);
 *      }
 *
 * Setup notes the descriptors that are open. Teardown frees the loop (whatever is still in flight: that is clause 13
 * at work in every test), then what the world lent to the test, and compares: a descriptor or a block of memory that
 * was not there before fails the test and is listed. What outlives a failed test must therefore not be on its
 * stack: take handles, records and buffers from the world. (On the stack they are fine if nothing is in flight on
 * them when the test returns, and if it dies on an assertion before that, the report may end in a crash.)
 *
 * PROACTOR_BACKEND=sim gives every test a simulated world of its own, in which nothing goes wrong and nothing takes
 * time; sim_calls.c leads the test's system calls there.
 *
 * No test says how long something may take; one that is stuck is named and killed after HARNESS_GUARD seconds (60). But
 * on a kernel's backend time is real, and some tests have to do with it:
 *
 *   test_contract_run, test_wait     see that nothing comes before its time; never that it comes soon after
 *   test_contract_streams, test_refused, test_server, test_wait
 *                                    stand still until a deadline has passed. What must have come before it had 2 s in
 *                                    test_wait, and as long as the server's own time-outs in test_server: 100 ms or more
 *   test_stream, test_server_load    give the kernel 1 s to bring what was written, 10 s to have its memory back
 *
 * Where others sleep, it is between two looks at what they wait for, or to let something happen that need not.
 *
 * HARNESS_ONLY and HARNESS_SKIP, patterns with * and ?, choose among the tests of a program.
 * Without the backend that PROACTOR_BACKEND names the program ends with 77, which meson shows as a skip.
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include <proactor.h>
#include <proactor/sim.h>

/* ------------------------------------------------------------------------------------------------------------
 * The ledger: an allocator that counts, checks what comes back, and fails when told
 * ------------------------------------------------------------------------------------------------------------ */

struct ledger {
    pthread_mutex_t mutex;
    struct block *blocks; /* that are out */
    uint64_t count;       /* of them */
    uint64_t bytes;       /* in them */
    uint64_t peak_bytes;
    uint64_t allocations; /* ever asked for, granted or not */
    uint64_t fail_at;     /* the allocation that fails, counted as `allocations` is; 0: none */
    uint64_t fail_from;   /* this one and all later fail; 0: none */
    uint64_t failed;
};

void ledger_init(struct ledger *ledger);
struct pro_allocator ledger_allocator(struct ledger *ledger);
/* The n-th allocation from here (1 is the next) fails, once or with all that follow. */
void ledger_fail_nth(struct ledger *ledger, uint64_t n);
void ledger_fail_from(struct ledger *ledger, uint64_t n);
void ledger_fail_never(struct ledger *ledger);

/* ------------------------------------------------------------------------------------------------------------
 * The world of a test
 * ------------------------------------------------------------------------------------------------------------ */

struct world {
    struct pro_loop *loop;
    struct pro_config config; /* the backend of PROACTOR_BACKEND, the ledger as allocator */
    struct ledger ledger;
    struct pro_sim *sim;     /* of backend sim, else NULL */
    uint64_t sim_heap_calls; /* of malloc and its kin, for its own memory */
    const char *note;        /* world_note */
    int running;             /* inside world_run */
    struct lent *memory;     /* world_alloc */
    struct record *records;  /* world_record */
    struct owned *owned;     /* world_own */
    struct pro_pool *pools[8];
    unsigned pool_count;
    struct descriptors *before;
};

/* A test with a loop, and one that opens (or does not open) its own with world_open. */
#define TEST(name)      cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
#define TEST_BARE(name) cmocka_unit_test_setup_teardown(name, world_setup_bare, world_teardown)

/* Runs an array of tests; the value is main's. */
#define RUN(tests) harness_run(__FILE__, tests, sizeof(tests) / sizeof((tests)[0]))

int harness_run(const char *file, const struct CMUnitTest *tests, size_t count);

int world_setup(void **state);
int world_setup_bare(void **state);
int world_teardown(void **state);

/* Makes the loop from `w->config`, which a bare test may have changed. */
void world_open(struct world *w);
/* Frees the loop early, and returns the slices that records still hold. */
void world_shut(struct world *w);

/* A long test goes on: the guard's time begins anew. */
void world_alive(void);

/* Names what the test is at (NULL: nothing); said if it fails there. A static string. */
void world_note(struct world *w, const char *note);

/* pro_run, noted, so that a test that dies in a continuation is cleaned up after. */
int world_run(struct world *w, enum pro_run_mode mode);
/* `count` turns that do not wait: for what should *not* happen. */
void world_turns(struct world *w, unsigned count);

/* Turns that wait, until `condition` holds; fails after a hundred thousand of them. */
#define RUN_UNTIL(w, condition)                                                                                        \
    do {                                                                                                               \
        unsigned steps_ = 0;                                                                                           \
        while (!(condition))                                                                                           \
            world_step((w), &steps_, #condition, __FILE__, __LINE__);                                                  \
    } while (0)
void world_step(struct world *w, unsigned *steps, const char *condition, const char *file, int line);

/* Zeroed memory that is freed after the loop. Not from the ledger. */
void *world_alloc(struct world *w, size_t size);
/* A descriptor of the test's own, closed after the test unless world_close did it before. Returns `fd`. */
int world_own(struct world *w, int fd);
void world_close(struct world *w, int fd);
void world_close_all(struct world *w);

/* A closed handle; and one that has adopted `fd`. */
struct pro_handle *world_handle(struct world *w);
struct pro_handle *world_adopt(struct world *w, int fd);

/* One end of a connection is adopted; the other, non-blocking, is the test's own. */
struct pro_handle *world_tcp(struct world *w, int *ret_far);
struct pro_handle *world_unix(struct world *w, int *ret_far);
/* A TCP listener on 127.0.0.1, and its address. */
struct pro_handle *world_listen(struct world *w, struct sockaddr_storage *ret_address, socklen_t *ret_length);
/* A pool that is freed after the loop. `config` may be NULL. */
struct pro_pool *world_pool(struct world *w, const struct pro_pool_config *config);

/* Closes the handle and runs until that is done; `res` of the close. */
int world_close_handle(struct world *w, struct pro_handle *handle);

/* ------------------------------------------------------------------------------------------------------------
 * Records: an operation that remembers what came of it
 * ------------------------------------------------------------------------------------------------------------ */

enum { RECORD_LOG = 32 };

struct record {
    struct pro_op op;
    struct world *world;
    struct record *next;
    unsigned starts;      /* record_begin */
    unsigned completions; /* calls of the continuation */
    unsigned finals;      /* those without PRO_MORE */
    unsigned pauses;      /* answers {0, PRO_MORE|PRO_PAUSED} */
    uint64_t bytes;       /* received in slices */
    unsigned order;       /* its place among all finals of the program, from 1 */
    struct pro_result last;
    struct pro_result log[RECORD_LOG];                        /* the first ones */
    struct pro_slice *head, *tail;                            /* slices kept, for record_text and record_drop */
    void (*then)(struct record *r, struct pro_result result); /* called at the end of on_record, if not NULL */
    bool drop;                                                /* return slices at once; `then` sees them gone */
    void *context;                                            /* the test's own */
};

/* Lent by the world; kept slices go back to their pool after the test. */
struct record *world_record(struct world *w);
/* Notes a start. Returns the operation, so that it can stand in the call. */
struct pro_op *record_begin(struct record *r);
/* The continuation. Fails the test on a completion after the final, outside pro_run, or with an impossible result. */
pro_fn on_record;
/* Copies kept bytes, at most `size`; the count that is there. */
size_t record_text(const struct record *r, void *data, size_t size);
/* Returns the kept slices. */
void record_drop(struct record *r);
/* Takes the kept slices away from the record. */
struct pro_slice *record_take(struct record *r);

/* ------------------------------------------------------------------------------------------------------------
 * Sockets of the test's own: plain calls that fail the test when they go wrong
 * ------------------------------------------------------------------------------------------------------------ */

/* An address to listen on, another one of 127.0.0.0/8 each time, with SO_REUSEADDR: tests make very many connections,
 * and a port, or a pair of addresses, is not free again for a minute after one. */
struct sockaddr_in loopback_address(void);
/* A listening descriptor, non-blocking, and its address. */
int loopback_listen(int backlog, struct sockaddr_storage *ret_address, socklen_t *ret_length);
/* Two connected non-blocking descriptors, owned by nobody yet. */
void tcp_pair(int fds[2]);
void unix_pair(int fds[2]);
/* A non-blocking TCP connection to `address`, made at once (loopback); owned by nobody yet. */
int tcp_connect(const struct sockaddr_storage *address, socklen_t length);
/* A pipe of the kernel's on every backend, close-on-exec: for talking to other processes. */
void kernel_pipe(int ends[2]);
/* The smallest buffers the kernel gives, so that little data fills them. */
void shrink_buffers(int fd);
void write_all(int fd, const void *data, size_t size);
/* What is there now: the count, 0 at end of file, or -errno (-EAGAIN). */
int read_now(int fd, void *data, size_t size);
/* A byte of a pattern that tells every position. */
uint8_t pattern_byte(uint64_t position);
void pattern_fill(void *data, size_t size, uint64_t position);
bool pattern_holds(const void *data, size_t size, uint64_t position);
/* Descriptors of the process, those of an opendir not counted, and of its simulated world. */
unsigned descriptor_count(void);

/* ------------------------------------------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------------------------------------------ */

/* Runs `body` in a forked child, with whatever the parent has, and exits 0 when it returns; an assertion that
 * fails in it is exit 99. Returns the wait status, and the start of what it wrote to stderr. */
int in_child(void (*body)(void *context), void *context, char *ret_stderr, size_t size);

/* `body`, run in a child in a new world with a loop of its own, dies by abort and says `text` after "proactor: ". */
#define assert_dies(body, text) harness_dies((body), #body, (text), __FILE__, __LINE__)
void harness_dies(void (*body)(struct world *w), const char *name, const char *text, const char *file, int line);

/* ------------------------------------------------------------------------------------------------------------
 * Odds and ends
 * ------------------------------------------------------------------------------------------------------------ */

/* `full`, scaled by the environment's STRESS (a factor such as 0.01), at least 1. */
unsigned long stress(unsigned long full);
/* Which backend the world's loop runs on. */
bool world_is_uring(const struct world *w);
bool world_is_sim(const struct world *w);
/* For tests of what a kernel does and no contract says. */
void skip_on_sim(const struct world *w);
/* Another simulated world in place of the calm one, with the choices and faults of `config`. There is no loop and no
 * descriptor. */
void world_sim_change(struct world *w, const struct pro_sim_config *config);

/* ------------------------------------------------------------------------------------------------------------
 * Backend sim, among the parts of the harness
 * ------------------------------------------------------------------------------------------------------------ */

enum { HARNESS_DESCRIPTORS = 8192 }; /* that a simulated world may have */

/* Where plain calls make descriptors: NULL is the kernel. */
struct pro_sim *harness_sim(void);
int harness_first_descriptor(void);
/* Returns what it was. */
struct pro_sim *harness_set_sim(struct pro_sim *sim);
/* Whether sim_calls.c is linked. */
bool harness_calls_are_led(void);
/* Gives `w` a simulated world, and frees it, or says what was left open there. */
void world_sim_open(struct world *w);
bool world_sim_shut(struct world *w);
unsigned world_sim_descriptors(void);

#endif
