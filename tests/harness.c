/* SPDX-License-Identifier: MIT
 *
 * The world of a test and the audit after it; see harness.h.
 *
 * The happy path: setup lists the descriptors and makes a loop on a counting allocator; the test runs turns until
 * what it waits for has happened; teardown frees the loop, then what the world lent, then compares.
 *
 * Possible failure modes: an assertion in a continuation jumps out of pro_run, and a loop may not be freed then: the
 * world is abandoned with all it holds, and the next test starts from a new count. A test that waits for what never
 * comes is blocked in the kernel: an alarm names it and ends the program. An assertion that fails in a forked child
 * would go on with the parent's remaining tests: teardown knows its process and exits.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, CHILD_FAILED = 99, MOST_STEPS = 100000, BLOCK_MAGIC = 0x70726f61 };

static pid_t harness_pid;
static unsigned guard_seconds = 60;
static atomic_uint finals_ever;

/* Where the test stands, for the alarm. */
static const char *volatile stuck_condition = "(no condition yet)";
static volatile int stuck_line;
static const char *volatile stuck_note = "";

/* ------------------------------------------------------------------------------------------------------------
 * The ledger
 * ------------------------------------------------------------------------------------------------------------ */

struct block {
    struct block *next, **link;
    size_t size, lead;
    uint64_t serial;
    uint32_t magic;
};

void ledger_init(struct ledger *ledger)
{
    *ledger = (struct ledger){0};
    pthread_mutex_init(&ledger->mutex, NULL);
}

static bool ledger_refuses(struct ledger *ledger)
{
    uint64_t serial = ++ledger->allocations;
    bool refuse = serial == ledger->fail_at || (ledger->fail_from && serial >= ledger->fail_from);
    ledger->failed += refuse;
    return refuse;
}

/* The block's own record stands before the memory, in a lead of one alignment. */
static void *ledger_alloc(void *context, size_t size, size_t align)
{
    struct ledger *ledger = context;
    if (align < _Alignof(struct block))
        align = _Alignof(struct block);
    size_t lead = (sizeof(struct block) + align - 1) / align * align;
    size_t total = (lead + size + align - 1) / align * align;
    pthread_mutex_lock(&ledger->mutex);
    uint8_t *base = ledger_refuses(ledger) ? NULL : aligned_alloc(align, total);
    if (base) {
        struct block *block = (struct block *)(void *)(base + lead - sizeof *block);
        *block = (struct block){ledger->blocks, &ledger->blocks, size, lead, ledger->allocations, BLOCK_MAGIC};
        if (block->next)
            block->next->link = &block->next;
        ledger->blocks = block;
        ledger->count++;
        ledger->bytes += size;
        if (ledger->bytes > ledger->peak_bytes)
            ledger->peak_bytes = ledger->bytes;
    }
    pthread_mutex_unlock(&ledger->mutex);
    return base ? base + lead : NULL;
}

static void ledger_free(void *context, void *memory, size_t size)
{
    struct ledger *ledger = context;
    if (!memory)
        return;
    struct block *block = (struct block *)(void *)((uint8_t *)memory - sizeof *block);
    pthread_mutex_lock(&ledger->mutex);
    if (block->magic != BLOCK_MAGIC || block->size != size) {
        fprintf(stderr, "harness: freed with size %zu what was allocated with %zu (magic %x)\n", size, block->size,
                block->magic);
        abort();
    }
    *block->link = block->next;
    if (block->next)
        block->next->link = block->link;
    block->magic = 0;
    ledger->count--;
    ledger->bytes -= size;
    pthread_mutex_unlock(&ledger->mutex);
    free((uint8_t *)memory - block->lead);
}

struct pro_allocator ledger_allocator(struct ledger *ledger)
{
    return (struct pro_allocator){ledger_alloc, ledger_free, ledger};
}

void ledger_fail_nth(struct ledger *ledger, uint64_t n)
{
    ledger->fail_at = ledger->allocations + n;
}

void ledger_fail_from(struct ledger *ledger, uint64_t n)
{
    ledger->fail_from = ledger->allocations + n;
}

void ledger_fail_never(struct ledger *ledger)
{
    ledger->fail_at = ledger->fail_from = 0;
}

static bool ledger_is_empty(const struct ledger *ledger)
{
    for (const struct block *block = ledger->blocks; block; block = block->next)
        print_error("leaked memory: allocation %llu, %zu bytes\n", (unsigned long long)block->serial, block->size);
    return ledger->count == 0 && ledger->bytes == 0;
}

/* ------------------------------------------------------------------------------------------------------------
 * Descriptors
 * ------------------------------------------------------------------------------------------------------------ */

struct descriptors {
    unsigned count;
    struct descriptor {
        int fd;
        char target[96]; /* "socket:[inode]": a number that was closed and taken again shows */
    } at[];
};

static struct descriptors *descriptors_now(void)
{
    unsigned room = 64;
    struct descriptors *list = malloc(sizeof *list + room * sizeof list->at[0]);
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(list);
    assert_non_null(dir);
    list->count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(dir))
            continue;
        if (list->count == room) {
            room *= 2;
            list = realloc(list, sizeof *list + room * sizeof list->at[0]);
            assert_non_null(list);
        }
        struct descriptor *d = &list->at[list->count];
        ssize_t length = readlinkat(dirfd(dir), entry->d_name, d->target, sizeof d->target - 1);
        d->target[length > 0 ? length : 0] = 0;
        d->fd = fd;
        list->count++;
    }
    closedir(dir);
    return list;
}

unsigned descriptor_count(void)
{
    struct descriptors *now = descriptors_now();
    unsigned count = now->count + world_sim_descriptors();
    free(now);
    return count;
}

static bool descriptors_have(const struct descriptors *list, const struct descriptor *d)
{
    for (unsigned i = 0; i < list->count; i++)
        if (list->at[i].fd == d->fd && strcmp(list->at[i].target, d->target) == 0)
            return true;
    return false;
}

static bool descriptors_match(const struct descriptors *before, const struct descriptors *after)
{
    bool match = true;
    for (unsigned i = 0; i < after->count; i++)
        if (!descriptors_have(before, &after->at[i])) {
            print_error("leaked descriptor: %d -> %s\n", after->at[i].fd, after->at[i].target);
            match = false;
        }
    for (unsigned i = 0; i < before->count; i++)
        if (!descriptors_have(after, &before->at[i])) {
            print_error("lost descriptor: %d -> %s\n", before->at[i].fd, before->at[i].target);
            match = false;
        }
    return match;
}

/* ------------------------------------------------------------------------------------------------------------
 * The program
 * ------------------------------------------------------------------------------------------------------------ */

static void on_alarm(int number)
{
    (void)number;
    char text[512];
    int length = snprintf(text, sizeof text, "harness: stuck at line %d, waiting for: %s %s\n", stuck_line,
                          stuck_condition, stuck_note);
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        _exit(3);
    _exit(2);
}

static enum pro_backend_kind chosen_backend;

/* To the library the environment's `sim` means nothing. */
static void choose_backend(void)
{
    const char *name = getenv("PROACTOR_BACKEND");
    if (!name || !*name || strcmp(name, "auto") == 0) {
        chosen_backend = PRO_BACKEND_AUTO;
    } else if (strcmp(name, "io_uring") == 0) {
        chosen_backend = PRO_BACKEND_IO_URING;
    } else if (strcmp(name, "epoll") == 0) {
        chosen_backend = PRO_BACKEND_EPOLL;
    } else if (strcmp(name, "sim") == 0) {
        chosen_backend = PRO_BACKEND_SIM;
        unsetenv("PROACTOR_BACKEND");
    } else {
        fprintf(stderr, "harness: PROACTOR_BACKEND=%s is not known\n", name);
        exit(1);
    }
}

static struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    ledger_init(&w->ledger);
    w->config = (struct pro_config)PRO_CONFIG_INIT;
    w->config.backend = chosen_backend;
    w->config.allocator = ledger_allocator(&w->ledger);
    if (chosen_backend == PRO_BACKEND_SIM)
        world_sim_open(w);
    return w;
}

/* The group is skipped unless its backend starts. */
static void require_backend(void)
{
    struct world *w = world_new();
    bool led = !world_is_sim(w) || harness_calls_are_led();
    int error = led ? pro_loop_new(&w->config, &w->loop) : 0;
    if (!led)
        fprintf(stderr, "skipped: this program's calls do not lead to a simulated world\n");
    else if (error < 0)
        fprintf(stderr, "skipped: the backend does not start here: %s (%s)\n", pro_error_name(error),
                pro_error_text(error));
    else
        print_message("# %s\n", pro_loop_describe(w->loop));
    pro_loop_free(w->loop);
    world_sim_shut(w);
    free(w);
    if (!led || error < 0)
        exit(SKIPPED);
}

/* A network of our own, where we may make one: its ports are not used up by the connections that other programs have
 * left in TIME_WAIT, and ours do not stand in their way. */
static void own_network(void)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (chosen_backend == PRO_BACKEND_SIM || unshare(CLONE_NEWNET) < 0)
        return;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return; /* no descriptors: the backend will say so */
    if (ioctl(fd, SIOCSIFFLAGS, &lo) < 0) {
        fprintf(stderr, "harness: no loopback in a network of our own\n");
        exit(1);
    }
    close(fd);
}

int harness_run(const char *file, const struct CMUnitTest *tests, size_t count)
{
    harness_pid = getpid();
    if (getenv("HARNESS_GUARD"))
        guard_seconds = (unsigned)atoi(getenv("HARNESS_GUARD"));
    if (getenv("HARNESS_ONLY"))
        cmocka_set_test_filter(getenv("HARNESS_ONLY"));
    if (getenv("HARNESS_SKIP"))
        cmocka_set_skip_filter(getenv("HARNESS_SKIP"));
    signal(SIGALRM, on_alarm);
    alarm(guard_seconds);
    choose_backend();
    own_network();
    require_backend();
    const char *slash = strrchr(file, '/');
    return _cmocka_run_group_tests(slash ? slash + 1 : file, tests, count, NULL, NULL);
}

/* ------------------------------------------------------------------------------------------------------------
 * The world
 * ------------------------------------------------------------------------------------------------------------ */

struct lent {
    struct lent *next;
    _Alignas(64) uint8_t data[];
};

struct owned {
    struct owned *next;
    int fd;
};

void world_open(struct world *w)
{
    assert_null(w->loop);
    assert_int_equal(pro_loop_new(&w->config, &w->loop), 0);
    assert_non_null(w->loop);
}

int world_setup_bare(void **state)
{
    alarm(guard_seconds);
    stuck_condition = "(no condition yet)";
    struct world *w = world_new();
    world_note(w, NULL);
    w->before = descriptors_now();
    *state = w;
    return 0;
}

int world_setup(void **state)
{
    world_setup_bare(state);
    world_open(*state);
    return 0;
}

void world_alive(void)
{
    alarm(guard_seconds);
}

void world_note(struct world *w, const char *note)
{
    w->note = note;
    stuck_note = note ? note : "";
}

void world_shut(struct world *w)
{
    struct pro_loop *loop = w->loop;
    w->running++; /* finals run in here too */
    pro_loop_free(loop);
    w->running--;
    w->loop = NULL;
    for (struct record *r = w->records; r; r = r->next)
        record_drop(r);
}

static void world_free(struct world *w)
{
    while (w->pool_count > 0)
        pro_pool_free(w->pools[--w->pool_count]);
    while (w->memory) {
        struct lent *next = w->memory->next;
        free(w->memory);
        w->memory = next;
    }
    world_close_all(w);
}

int world_teardown(void **state)
{
    struct world *w = *state;
    if (getpid() != harness_pid)
        _exit(CHILD_FAILED);
    if (w->note)
        print_error("it was at: %s\n", w->note);
    if (w->running) {
        print_error("abandoned: the test ended inside pro_run\n");
        return -1;
    }
    world_shut(w);
    world_free(w);
    bool clean = world_sim_shut(w);
    struct descriptors *after = descriptors_now();
    clean &= descriptors_match(w->before, after);
    clean &= ledger_is_empty(&w->ledger);
    free(after);
    free(w->before);
    if (clean) /* else the leak may be used later and should not crash */
        free(w);
    return clean ? 0 : -1;
}

int world_run(struct world *w, enum pro_run_mode mode)
{
    w->running++;
    int result = pro_run(w->loop, mode);
    w->running--;
    return result;
}

void world_turns(struct world *w, unsigned count)
{
    while (count-- > 0)
        assert_true(world_run(w, PRO_RUN_NOWAIT) >= 0);
}

void world_step(struct world *w, unsigned *steps, const char *condition, const char *file, int line)
{
    stuck_condition = condition;
    stuck_line = line;
    if (++*steps > MOST_STEPS)
        print_error("%s:%d: still not so after %u turns: %s\n", file, line, *steps, condition);
    assert_true(*steps <= MOST_STEPS);
    int result = world_run(w, PRO_RUN_ONCE);
    if (result < 0)
        print_error("%s:%d: pro_run: %s\n", file, line, pro_error_name(result));
    assert_true(result >= 0);
}

void *world_alloc(struct world *w, size_t size)
{
    size_t total = (sizeof(struct lent) + size + 63) / 64 * 64;
    struct lent *lent = aligned_alloc(64, total);
    assert_non_null(lent);
    memset(lent, 0, total);
    lent->next = w->memory;
    w->memory = lent;
    return lent->data;
}

int world_own(struct world *w, int fd)
{
    assert_true(fd >= 0);
    struct owned *owned = malloc(sizeof *owned);
    assert_non_null(owned);
    *owned = (struct owned){w->owned, fd};
    w->owned = owned;
    return fd;
}

void world_close(struct world *w, int fd)
{
    struct owned **link = &w->owned;
    while (*link && (*link)->fd != fd)
        link = &(*link)->next;
    assert_non_null(*link);
    struct owned *gone = *link;
    *link = gone->next;
    free(gone);
    assert_int_equal(close(fd), 0);
}

void world_close_all(struct world *w)
{
    while (w->owned)
        world_close(w, w->owned->fd);
}

struct pro_handle *world_handle(struct world *w)
{
    return world_alloc(w, sizeof(struct pro_handle));
}

struct pro_handle *world_adopt(struct world *w, int fd)
{
    struct pro_handle *handle = world_handle(w);
    pro_adopt(w->loop, handle, fd);
    return handle;
}

struct pro_handle *world_tcp(struct world *w, int *ret_far)
{
    int fds[2];
    tcp_pair(fds);
    *ret_far = world_own(w, fds[1]);
    return world_adopt(w, fds[0]);
}

struct pro_handle *world_unix(struct world *w, int *ret_far)
{
    int fds[2];
    unix_pair(fds);
    *ret_far = world_own(w, fds[1]);
    return world_adopt(w, fds[0]);
}

struct pro_handle *world_listen(struct world *w, struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
    struct sockaddr_in any = loopback_address();
    struct pro_handle *listener = world_handle(w);
    assert_int_equal(pro_listen(w->loop, listener, (struct sockaddr *)&any, sizeof any, 0, 0), 0);
    *ret_length = sizeof *ret_address;
    assert_int_equal(pro_local_address(listener, ret_address, ret_length), 0);
    return listener;
}

struct pro_pool *world_pool(struct world *w, const struct pro_pool_config *config)
{
    assert_true(w->pool_count < sizeof w->pools / sizeof w->pools[0]);
    struct pro_pool *pool = NULL;
    assert_int_equal(pro_pool_new(w->loop, config, &pool), 0);
    w->pools[w->pool_count++] = pool;
    return pool;
}

int world_close_handle(struct world *w, struct pro_handle *handle)
{
    struct record *r = world_record(w);
    pro_close(handle, record_begin(r), on_record);
    RUN_UNTIL(w, r->finals == 1);
    return r->last.res;
}

bool world_is_uring(const struct world *w)
{
    return pro_loop_backend(w->loop) == PRO_BACKEND_IO_URING;
}

/* ------------------------------------------------------------------------------------------------------------
 * Records
 * ------------------------------------------------------------------------------------------------------------ */

struct record *world_record(struct world *w)
{
    struct record *r = world_alloc(w, sizeof *r);
    r->world = w;
    r->next = w->records;
    w->records = r;
    return r;
}

struct pro_op *record_begin(struct record *r)
{
    assert_int_equal(r->starts, r->finals);
    r->starts++;
    return &r->op;
}

static void record_check(const struct record *r, struct pro_result result)
{
    if (r->starts != r->finals + 1)
        print_error("a completion after the final: res %d, flags %x\n", result.res, result.flags);
    assert_int_equal(r->starts, r->finals + 1);
    assert_true(r->world->running > 0);
    assert_int_equal(result.flags & ~(uint32_t)(PRO_MORE | PRO_EOF | PRO_PAUSED), 0);
    if (result.flags & PRO_EOF)
        assert_int_equal(result.res, 0);
    if (result.slice) {
        assert_true(result.res > 0);
        assert_int_equal(result.res, result.slice->size);
        assert_null(result.slice->next);
    }
    assert_int_equal(pro_op_in_flight(&r->op), !!(result.flags & PRO_MORE));
}

static void record_keep(struct record *r, struct pro_slice *slice)
{
    if (r->tail)
        r->tail->next = slice;
    else
        r->head = slice;
    r->tail = slice;
}

void on_record(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    (void)loop;
    struct record *r = PRO_CONTAINER_OF(op, struct record, op);
    record_check(r, result);
    if (r->completions < RECORD_LOG)
        r->log[r->completions] = result;
    r->completions++;
    r->last = result;
    r->pauses += result.res == 0 && !result.slice && result.flags == (PRO_MORE | PRO_PAUSED);
    if (result.slice) {
        r->bytes += result.slice->size;
        if (r->drop)
            pro_slice_return(result.slice);
        else
            record_keep(r, result.slice);
    }
    if (!(result.flags & PRO_MORE)) {
        r->finals++;
        r->order = ++finals_ever;
    }
    if (r->then)
        r->then(r, result);
}

size_t record_text(const struct record *r, void *data, size_t size)
{
    size_t total = 0;
    for (const struct pro_slice *s = r->head; s; s = s->next) {
        size_t room = size > total ? size - total : 0;
        memcpy((uint8_t *)data + (size - room), s->data, s->size < room ? s->size : room);
        total += s->size;
    }
    return total;
}

struct pro_slice *record_take(struct record *r)
{
    struct pro_slice *list = r->head;
    r->head = r->tail = NULL;
    return list;
}

void record_drop(struct record *r)
{
    pro_slice_return_list(record_take(r));
}

/* ------------------------------------------------------------------------------------------------------------
 * Children
 * ------------------------------------------------------------------------------------------------------------ */

/* The child dies without a core file, and by the plain signal: cmocka's own handlers would jump. */
static void child_prepare(int to)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM};
    struct rlimit none = {0, 0};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &none);
    dup2(to, STDERR_FILENO);
    close(to);
    alarm(20);
}

static void read_to_end(int fd, char *text, size_t size)
{
    char scrap[256];
    size_t used = 0;
    for (ssize_t n; (n = read(fd, scrap, sizeof scrap)) != 0;) {
        if (n < 0 && errno != EINTR)
            break;
        for (ssize_t i = 0; i < n && used + 1 < size; i++)
            text[used++] = scrap[i];
    }
    if (size > 0)
        text[used] = 0;
}

int in_child(void (*body)(void *context), void *context, char *ret_stderr, size_t size)
{
    int ends[2], status = -1;
    kernel_pipe(ends);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        child_prepare(ends[1]);
        body(context);
        fflush(NULL);
        _exit(0);
    }
    close(ends[1]);
    read_to_end(ends[0], ret_stderr, size);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return status;
}

static void death_in_new_world(void *context)
{
    void (*const *body)(struct world *) = context;
    struct world *w = world_new();
    world_open(w);
    (*body)(w);
}

void harness_dies(void (*body)(struct world *w), const char *name, const char *text, const char *file, int line)
{
    char said[16384] = ""; /* a simulated world tells its last events first */
    int status = in_child(death_in_new_world, &body, said, sizeof said);
    bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    const char *own = strstr(said, "proactor: ");
    if (aborted && own && strstr(own, text))
        return;
    if (!aborted)
        print_error("%s:%d: %s should abort, but its wait status is %x\n", file, line, name, (unsigned)status);
    else
        print_error("%s:%d: %s should say \"proactor: … %s\"\n", file, line, name, text);
    print_error("it said: %s\n", said);
    _fail(file, line);
}

unsigned long stress(unsigned long full)
{
    const char *text = getenv("STRESS");
    double scaled = (double)full * (text ? atof(text) : 1.0);
    return scaled < 1 ? 1 : (unsigned long)scaled;
}
