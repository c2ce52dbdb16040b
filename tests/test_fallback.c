/* SPDX-License-Identifier: MIT
 *
 * io_uring is refused by a filter on system calls: AUTO serves on epoll and says why, a named backend fails with the
 * errno. Each case runs in a child, for a filter cannot be taken off. Runs once, not once a backend. */
#include "harness.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The system call `number` fails with `error` from here on. */
static void forbid(unsigned number, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(77);
}

/* In the child nothing may be asserted; a wrong turn says where it was. */
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                    \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static void count(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    if (result.slice)
        pro_slice_return(result.slice);
}

/* It serves: a receive of each kind, a timer, a post. */
static void expect_service(struct pro_loop *loop)
{
    int fds[2];
    char data[4];
    struct pro_op op[4] = {0};
    struct pro_handle handle = {0};
    struct pro_pool *pool;
    struct pro_remote *remote = pro_remote_get(loop);
    tcp_pair(fds);
    EXPECT(remote && pro_pool_new(loop, NULL, &pool) == 0);
    pro_adopt(loop, &handle, fds[0]);
    pro_recv(&handle, &op[0], data, sizeof data, 0, count);
    pro_timer_after(loop, &op[1], 1000, count);
    EXPECT(pro_post(remote, &op[2], count) == 0);
    write_all(fds[1], "abcdefgh", 8);
    while (pro_op_in_flight(&op[0]) || pro_op_in_flight(&op[1]) || pro_op_in_flight(&op[2]))
        EXPECT(pro_run(loop, PRO_RUN_ONCE) >= 0);
    pro_recv_multi(&handle, &op[3], pool, PRO_UNLIMITED, count);
    close(fds[1]);
    EXPECT(pro_run(loop, PRO_RUN_DEFAULT) == 0);
    pro_close(&handle, &op[0], count);
    EXPECT(pro_run(loop, PRO_RUN_DEFAULT) == 0);
    pro_remote_unref(remote);
    pro_pool_free(pool);
}

static void child_of_auto(void *context)
{
    int error = *(const int *)context;
    struct pro_loop *loop;
    forbid(__NR_io_uring_setup, error);
    EXPECT(pro_loop_new(NULL, &loop) == 0);
    EXPECT(pro_loop_backend(loop) == PRO_BACKEND_EPOLL);
    const char *text = pro_loop_describe(loop);
    fprintf(stderr, "%s\n", text);
    EXPECT(strncmp(text, "epoll", 5) == 0);
    EXPECT(strstr(text, "io_uring_setup"));
    EXPECT(strstr(text, pro_error_name(error)));
    expect_service(loop);
    pro_loop_free(loop);
}

static void child_of_name(void *context)
{
    int error = *(const int *)context;
    struct pro_loop *loop = NULL;
    struct pro_config config = PRO_CONFIG_INIT;
    config.backend = PRO_BACKEND_IO_URING;
    unsigned before = descriptor_count();
    forbid(__NR_io_uring_setup, error);
    EXPECT(pro_loop_new(&config, &loop) == -error);
    EXPECT(!loop);
    EXPECT(descriptor_count() == before);
    setenv("PROACTOR_BACKEND", "io_uring", 1);
    EXPECT(pro_loop_new(NULL, &loop) == -error);
    setenv("PROACTOR_BACKEND", "epoll", 1);
    EXPECT(pro_loop_new(NULL, &loop) == 0);
    EXPECT(!strstr(pro_loop_describe(loop), "io_uring")); /* it was chosen, it did not fall back */
    pro_loop_free(loop);
}

static const int errors[] = {ENOSYS, EPERM, EACCES, EINVAL, EOPNOTSUPP, ENOMEM, EMFILE};

static void expect_child(void (*body)(void *), void *context)
{
    char said[1024] = "";
    int status = in_child(body, context, said, sizeof said);
    if (status == 77 << 8)
        skip();
    if (status != 0)
        fail_msg("wait status %x, said: %s", (unsigned)status, said);
}

static void auto_when_io_uring_is_refused_serves_on_epoll_and_says_why(void **state)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        int error = errors[i];
        expect_child(child_of_auto, &error);
    }
}

static void io_uring_by_name_when_refused_fails_with_the_errno(void **state)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        int error = errors[i];
        expect_child(child_of_name, &error);
    }
}

/* The ring can be made, but one of the other two calls is refused: found out at the start, not in the first run. */
static void child_of_half_a_ring(void *context)
{
    struct pro_loop *loop;
    forbid(*(const unsigned *)context, EPERM);
    EXPECT(pro_loop_new(NULL, &loop) == 0);
    fprintf(stderr, "%s\n", pro_loop_describe(loop));
    expect_service(loop);
    pro_loop_free(loop);
}

static void auto_when_io_uring_is_half_refused_serves(void **state)
{
    static unsigned calls[] = {__NR_io_uring_register, __NR_io_uring_enter};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        expect_child(child_of_half_a_ring, &calls[i]);
}

static void child_without_locked_memory(void *context)
{
    struct rlimit none = {0, 0};
    struct pro_loop *loop;
    setrlimit(RLIMIT_MEMLOCK, &none);
    EXPECT(pro_loop_new(NULL, &loop) == 0);
    expect_service(loop);
    pro_loop_free(loop);
}

static void auto_without_locked_memory_serves(void **state)
{
    expect_child(child_without_locked_memory, NULL);
}

static void child_without_descriptors(void *context)
{
    struct rlimit few = {3, 3};
    struct pro_loop *loop = NULL;
    struct pro_config config = PRO_CONFIG_INIT;
    setrlimit(RLIMIT_NOFILE, &few);
    for (int kind = PRO_BACKEND_AUTO; kind <= PRO_BACKEND_EPOLL; kind++) {
        config.backend = (enum pro_backend_kind)kind;
        EXPECT(pro_loop_new(&config, &loop) == -EMFILE);
        EXPECT(!loop);
    }
}

static void loop_without_descriptors_fails(void **state)
{
    expect_child(child_without_descriptors, NULL);
}

static struct pro_result last;

static void remember(struct pro_loop *loop, struct pro_op *op, struct pro_result result)
{
    last = result;
}

/* A filter that forbids the call denies every connection and takes none. */
static void child_that_may_not_accept(void *context)
{
    struct pro_loop *loop;
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_handle listener = {0};
    struct pro_op accept = {0};
    struct pro_stats stats;
    struct sockaddr_storage at;
    socklen_t length;
    int fd = loopback_listen(1, &at, &length);
    config.backend = PRO_BACKEND_EPOLL;
    forbid(__NR_accept4, EPERM);
    EXPECT(pro_loop_new(&config, &loop) == 0);
    pro_adopt(loop, &listener, fd);
    pro_accept_multi(&listener, &accept, remember);
    tcp_connect(&at, length);
    EXPECT(pro_run(loop, PRO_RUN_DEFAULT) == 0);
    EXPECT(last.res == -EPERM);
    pro_loop_stats(loop, &stats, sizeof stats);
    EXPECT(stats.turns < 1000);
    pro_loop_free(loop);
}

static void accept_when_every_connection_is_denied_says_so(void **state)
{
    expect_child(child_that_may_not_accept, NULL);
}

/* As a system does that does not know MADV_WIPEONFORK: a child that may only free its copy does not touch the parent's. */
static void child_without_advice(void *context)
{
    struct pro_loop *loop;
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_handle handle = {0};
    struct pro_op op = {0};
    int fds[2], status;
    char byte;
    config.backend = PRO_BACKEND_EPOLL;
    forbid(__NR_madvise, EINVAL);
    EXPECT(pro_loop_new(&config, &loop) == 0);
    expect_service(loop);
    tcp_pair(fds);
    pro_adopt(loop, &handle, fds[0]);
    pro_recv(&handle, &op, &byte, 1, 0, remember);
    for (unsigned i = 0; i < 3; i++)
        EXPECT(pro_run(loop, PRO_RUN_NOWAIT) == 1);
    pid_t pid = fork();
    if (pid == 0) {
        EXPECT(pro_run(loop, PRO_RUN_NOWAIT) == -ECHILD);
        pro_loop_free(loop);
        _exit(0);
    }
    EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    write_all(fds[1], "x", 1);
    EXPECT(pro_run(loop, PRO_RUN_DEFAULT) == 0);
    EXPECT(last.res == 1);
    pro_loop_free(loop);
}

static void loop_when_forks_are_not_told_serves(void **state)
{
    expect_child(child_without_advice, NULL);
}

/* The second attempt finds things as the first did. */
static void child_without_memory_for_a_remote(void *context)
{
    struct pro_loop *loop;
    EXPECT(pro_loop_new(NULL, &loop) == 0);
    unsigned before = descriptor_count();
    forbid(__NR_mmap, ENOMEM);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT(!pro_remote_get(loop));
        EXPECT(pro_run(loop, PRO_RUN_NOWAIT) == 0);
    }
    EXPECT(descriptor_count() == before);
    pro_loop_free(loop);
}

static void remote_without_memory_is_refused(void **state)
{
    expect_child(child_without_memory_for_a_remote, NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST_BARE(auto_when_io_uring_is_refused_serves_on_epoll_and_says_why),
        TEST_BARE(io_uring_by_name_when_refused_fails_with_the_errno),
        TEST_BARE(auto_when_io_uring_is_half_refused_serves),
        TEST_BARE(auto_without_locked_memory_serves),
        TEST_BARE(loop_without_descriptors_fails),
        TEST_BARE(accept_when_every_connection_is_denied_says_so),
        TEST_BARE(loop_when_forks_are_not_told_serves),
        TEST_BARE(remote_without_memory_is_refused),
    };
    unsetenv("PROACTOR_BACKEND");
    return RUN(tests);
}
