/* SPDX-License-Identifier: MIT
 *
 * Counts the system calls of the server by the tracepoint raw_syscalls:sys_enter; the load generator reads the count at
 * two points in time. That costs the server some time at each call: a run that counts is not one to take times from. Needs
 * root or CAP_PERFMON.
 *
 * The counting begins while the server has few threads, and those that start later are counted along with the one that
 * started them. With a thread for each of 10,000 connections there would not be descriptors enough to count them singly.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define TRACING "/sys/kernel/tracing"

/* Where tracefs is not mounted, a namespace of our own gets it: the system stays as it is. */
static bool tracepoint(uint64_t *ret_id)
{
    static const char path[] = TRACING "/events/raw_syscalls/sys_enter/id";
    unsigned long long id;
    FILE *file = fopen(path, "re");
    if (!file && unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tracefs", TRACING, "tracefs", 0, NULL) == 0)
        file = fopen(path, "re");
    if (!file)
        return false;
    int fields = fscanf(file, "%llu", &id); // NOLINT(cert-err34-c): the kernel wrote it
    fclose(file);
    *ret_id = id;
    return fields == 1;
}

static bool add_thread(struct load_syscalls *calls, pid_t thread, uint64_t id)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_TRACEPOINT, .size = sizeof attr, .config = id, .inherit = 1};
    int fd = (int)syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return errno == ESRCH; /* it has ended meanwhile */
    int *fds = realloc(calls->fds, (calls->count + 1) * sizeof *fds);
    if (!fds)
        load_die("out of memory");
    fds[calls->count++] = fd;
    calls->fds = fds;
    return true;
}

void load_syscalls_open(struct load_syscalls *calls, pid_t server)
{
    char path[64];
    uint64_t id;
    if (!tracepoint(&id))
        return;
    snprintf(path, sizeof path, "/proc/%d/task", (int)server);
    DIR *tasks = opendir(path);
    bool good = tasks;
    for (struct dirent *task; good && (task = readdir(tasks));) {
        pid_t thread = (pid_t)strtol(task->d_name, NULL, 10);
        if (thread > 0)
            good = add_thread(calls, thread, id);
    }
    if (tasks)
        closedir(tasks);
    if (good)
        return;
    while (calls->count > 0) /* some of them are no count of the server */
        close(calls->fds[--calls->count]);
}

uint64_t load_syscalls_read(const struct load_syscalls *calls)
{
    uint64_t sum = 0, count;
    for (uint32_t i = 0; i < calls->count; i++) {
        if (read(calls->fds[i], &count, sizeof count) == sizeof count)
            sum += count;
    }
    return sum;
}
