/* SPDX-License-Identifier: MIT
 *
 * TCP: the first service gets the port, which may be 0, and the others join it with SO_REUSEPORT. That option would
 * also let a second server of the same user join unasked, and take half of the connections from the first. So
 * before it is used, the address is bound and listened on once without it.
 *
 * Unix: the kernel does not spread connections over sockets there, so one socket is made and each service gets a
 * descriptor of it. A socket file outlives its server if that was killed. Whether it did is found out by connecting: a
 * file that refuses is replaced, one that answers (or is busy) is in use. A path that is no socket is never touched.
 *
 * A server that has bound and does not listen yet refuses too, and must not be taken for a dead one by another that
 * starts at the same time. So each holds a lock from before it binds until it listens. It is a flock of the directory,
 * for a lock file would stay behind, and removing one is a race of its own. Who may not read the directory, or does not
 * get the lock within a second, goes on without: better a rare race than a server that anybody can keep from starting.
 *
 * A server that was killed may hold its address a little longer: the kernel takes an io_uring apart in the background,
 * and with it the sockets that requests were waiting on. Therefore an address that is in use is tried again for a
 * second before it is believed.
 */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int explain(char error[LISTEN_ERROR_SIZE], const struct address *address, int number, const char *cause)
{
    char name[ADDRESS_TEXT_SIZE], port[8] = "";
    const char *prefix = address->kind == ADDRESS_UNIX ? "unix:" : address->kind == ADDRESS_INET ? "" : "unix:@";
    bool v6 = address->kind == ADDRESS_INET && strchr(address->name, ':');
    log_escape(name, sizeof name, address->name, strlen(address->name));
    if (address->kind == ADDRESS_INET)
        snprintf(port, sizeof port, ":%u", address->port);
    snprintf(error, LISTEN_ERROR_SIZE, "--listen %s%s%s%s%s: %s%s%s%s", prefix, v6 ? "[" : "", name, v6 ? "]" : "",
             port, number ? pro_error_name(number) : "", number ? " (" : "", cause, number ? ")" : "");
    return number ? number : -EINVAL;
}

/* False when it was waited long enough. */
static bool wait_a_little(unsigned *tries)
{
    static const struct timespec pause = {.tv_nsec = 20000000L};
    nanosleep(&pause, NULL);
    return ++*tries < 50;
}

/* ---- TCP ---- */

/* Whether anybody listens on the address: 0 or a negative errno value. */
static int probe(const struct sockaddr_storage *at, socklen_t length)
{
    int on = 1, error = 0;
    int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)at, length) < 0 || listen(fd, 1) < 0)
        error = -errno;
    close(fd);
    return error;
}

static int listen_first(const struct sockaddr_storage *at, socklen_t length, struct service *service, unsigned flags,
                        struct sockaddr_storage *ret_at, socklen_t *ret_length)
{
    int error = flags & PRO_REUSEPORT ? probe(at, length) : 0;
    return error ? error : service_listen(service, at, length, flags, ret_at, ret_length);
}

static int listen_inet(struct sockaddr_storage *at, socklen_t *length, struct service *const services[], unsigned count)
{
    unsigned flags = count > 1 ? PRO_REUSEPORT : 0, tries = 0;
    struct sockaddr_storage got = {0};
    socklen_t size = sizeof got;
    int error;
    do
        error = listen_first(at, *length, services[0], flags, &got, &size);
    while (error == -EADDRINUSE && wait_a_little(&tries));
    for (unsigned i = 1; i < count && !error; i++)
        error = service_listen(services[i], &got, size, flags, NULL, NULL);
    if (!error) {
        *at = got;
        *length = size;
    }
    return error;
}

/* ---- Unix ---- */

static int connects(const struct sockaddr_storage *at, socklen_t length)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int error = connect(fd, (const struct sockaddr *)at, length) < 0 ? -errno : 0;
    close(fd);
    return error;
}

static bool is_stale(const struct sockaddr_storage *at, socklen_t length, const char *path)
{
    struct stat file;
    return lstat(path, &file) == 0 && S_ISSOCK(file.st_mode) && connects(at, length) == -ECONNREFUSED;
}

/* Holds the directory of `path` until the result is closed; -1 if it cannot be held. */
static int lock_directory(const char *path, unsigned *tries)
{
    char directory[sizeof(((struct address *)0)->name) + 2];
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 2, slash ? path : "./");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK || !wait_a_little(tries)) {
            close(fd);
            return -1;
        }
    }
    return fd;
}

static int bind_unix(int fd, const struct sockaddr_storage *at, socklen_t length, const char *path)
{
    if (bind(fd, (const struct sockaddr *)at, length) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -errno;
    if (!path || !is_stale(at, length, path))
        return -EADDRINUSE;
    if (unlink(path) < 0 || bind(fd, (const struct sockaddr *)at, length) < 0)
        return -errno;
    return 0;
}

static void note_file(struct listening *listening, const char *path)
{
    struct stat file;
    if (lstat(path, &file) < 0)
        return;
    snprintf(listening->path, sizeof listening->path, "%.107s", path);
    listening->device = file.st_dev;
    listening->inode = file.st_ino;
}

/* One try to have the address listened on, by this process alone. */
static int claim_unix(int fd, const struct sockaddr_storage *at, socklen_t length, const char *path,
                      struct listening *listening, unsigned *tries)
{
    int lock = path ? lock_directory(path, tries) : -1;
    int error = bind_unix(fd, at, length, path);
    if (!error && path)
        note_file(listening, path);
    if (!error && listen(fd, SOMAXCONN) < 0) {
        error = -errno;
        listen_remove(listening);
    }
    if (lock >= 0)
        close(lock);
    return error;
}

static int share(int fd, struct service *const services[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        int error = copy < 0 ? -errno : service_adopt(services[i], copy);
        if (error) {
            if (copy >= 0)
                close(copy);
            return error;
        }
    }
    return 0;
}

static int listen_unix(const struct address *address, const struct sockaddr_storage *at, socklen_t length,
                       struct service *const services[], unsigned count, struct listening *listening)
{
    const char *path = address->kind == ADDRESS_UNIX ? address->name : NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int error;
    unsigned tries = 0;
    do
        error = claim_unix(fd, at, length, path, listening, &tries);
    while (error == -EADDRINUSE && wait_a_little(&tries));
    if (!error) {
        error = share(fd, services, count);
        if (error)
            listen_remove(listening);
    }
    close(fd);
    return error;
}

int listen_on(const struct address *address, struct service *const services[], unsigned count,
              struct listening *ret_listening, char error[LISTEN_ERROR_SIZE])
{
    struct sockaddr_storage at = {0};
    socklen_t length;
    struct listening listening = {0};
    const char *wrong = address_resolve(address, &at, &length);
    if (wrong)
        return explain(error, address, 0, wrong);
    int result = address->kind == ADDRESS_INET ? listen_inet(&at, &length, services, count)
                                               : listen_unix(address, &at, length, services, count, &listening);
    if (result)
        return explain(error, address, result, pro_error_text(result));
    address_format(&at, length, listening.text);
    *ret_listening = listening;
    return 0;
}

void listen_remove(const struct listening *listening)
{
    struct stat file;
    if (listening->path[0] && lstat(listening->path, &file) == 0 && file.st_dev == listening->device &&
        file.st_ino == listening->inode)
        unlink(listening->path);
}
