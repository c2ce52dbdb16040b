/* SPDX-License-Identifier: MIT
 *
 * Which backend a loop gets.
 *
 * Named: that one, or its error. AUTO: io_uring, and if the system refuses it, whatever the errno, epoll with the
 * reason in the description. The list of errnos that mean "refused" is long and grows (missing, switched off, hidden by
 * a sandbox, out of locked memory or descriptors), and each program that kept it narrow broke on some system; so none
 * is kept, and what is wrong with more than io_uring will show in epoll too. */
#include "backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

static const char *likely_cause(int error)
{
    switch (-error) {
    case ENOSYS:
        return "the kernel has no io_uring, or a sandbox hides it";
    case EPERM:
        return "switched off by kernel.io_uring_disabled, or forbidden by a sandbox";
    case EACCES:
        return "forbidden by a security policy";
    case EINVAL:
    case EOPNOTSUPP:
        return "the kernel is too old for what is needed";
    case ENOMEM:
        return "out of memory, or of locked memory: RLIMIT_MEMLOCK";
    case EMFILE:
    case ENFILE:
        return "out of descriptors";
    default:
        return pro_error_text(error);
    }
}

static int try_backend(struct pro_loop *loop, const struct proi_backend *backend, const struct pro_config *config)
{
    loop->backend = backend;
    return backend->init(loop, config);
}

int proi_backend_select(struct pro_loop *loop, const struct pro_config *config)
{
    enum pro_backend_kind kind = config->backend;
    const char *wish = getenv("PROACTOR_BACKEND");
    if (kind == PRO_BACKEND_AUTO && wish && *wish && strcmp(wish, "auto") != 0) {
        if (strcmp(wish, "io_uring") != 0 && strcmp(wish, "epoll") != 0)
            return -EINVAL;
        kind = *wish == 'i' ? PRO_BACKEND_IO_URING : PRO_BACKEND_EPOLL;
    }
    if (kind == PRO_BACKEND_SIM)
        return try_backend(loop, &proi_backend_sim, config);
    if (kind == PRO_BACKEND_EPOLL)
        return try_backend(loop, &proi_backend_epoll, config);
    int r = try_backend(loop, &proi_backend_uring, config);
    if (r == 0 || kind == PRO_BACKEND_IO_URING)
        return r;
    loop->description[0] = '\0';
    int error = r;
    r = try_backend(loop, &proi_backend_epoll, config);
    if (r == 0)
        proi_describe(loop, ": io_uring_setup: %s (%s)", pro_error_name(error), likely_cause(error));
    return r;
}
