/* SPDX-License-Identifier: MIT
 *
 * What both programs do alike at their start.
 */
#include "standard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>

void standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY); /* becomes `fd`, the lowest that is free */
}

void standard_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

int standard_print(struct log *log, const char *text)
{
    if (fputs(text, stdout) >= 0 && fflush(stdout) == 0)
        return 0;
    int error = errno;
    log_always(log, "standard output: %s (%s)", pro_error_name(error), pro_error_text(error));
    return 1;
}

int standard_print_version(struct log *log)
{
    char text[64];
    snprintf(text, sizeof text, "%s %d.%d.%d\n", log->name, PRO_VERSION_MAJOR, PRO_VERSION_MINOR, PRO_VERSION_PATCH);
    return standard_print(log, text);
}

static const struct {
    int error;
    const char *cause;
} uring_causes[] = {
    {ENOSYS, "this kernel has no io_uring, or a seccomp filter hides it"},
    {EPERM, "forbidden by kernel.io_uring_disabled or a seccomp filter, as in many containers"},
    {EACCES, "forbidden by a security policy"},
    {EINVAL, "the kernel refuses the parameters, it may be too old"},
    {EOPNOTSUPP, "not supported here"},
    {ENOMEM, "out of memory, or RLIMIT_MEMLOCK is too low"},
    {EMFILE, "RLIMIT_NOFILE is too low"},
    {ENFILE, "the system is out of descriptors"},
};

const char *standard_backend_cause(enum pro_backend_kind asked, int error)
{
    if (asked != PRO_BACKEND_IO_URING) /* epoll has no causes of its own, and was what auto tried last */
        return pro_error_text(error);
    for (size_t i = 0; i < sizeof uring_causes / sizeof uring_causes[0]; i++)
        if (uring_causes[i].error == -error)
            return uring_causes[i].cause;
    return "unexpected";
}
