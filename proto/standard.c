/* SPDX-License-Identifier: MIT
 *
 * What both programs do alike at their start.
 */
#include "standard.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

void standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", O_RDWR); /* becomes `fd`, the lowest that is free */
}

static const struct {
    int error;
    const char *cause;
} causes[] = {
    {ENOSYS, "this kernel has no io_uring, or a seccomp filter hides it"},
    {EPERM, "forbidden by kernel.io_uring_disabled or a seccomp filter, as in many containers"},
    {EACCES, "forbidden by a security policy"},
    {EINVAL, "the kernel refuses the parameters, it may be too old"},
    {EOPNOTSUPP, "not supported here"},
    {ENOMEM, "out of memory, or RLIMIT_MEMLOCK is too low"},
    {EMFILE, "RLIMIT_NOFILE is too low"},
    {ENFILE, "the system is out of descriptors"},
};

const char *standard_backend_cause(int error)
{
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++)
        if (causes[i].error == -error)
            return causes[i].cause;
    return "unexpected";
}
