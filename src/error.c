/* SPDX-License-Identifier: MIT
 *
 * Names and sentences for errno values, as this library means them, and the last words before an abort.
 *
 * Our own table, for three reasons: strerror is not thread-safe, strerrorname_np is glibc's alone, and the general
 * text of an errno ("Operation not permitted") seldom says what it means for an I/O operation. */
#include <proactor.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

static const struct {
    int error;
    const char *name, *text;
} errors[] = {
#define ROW(name, text)                                                                                                \
    {                                                                                                                  \
        name, #name, text                                                                                              \
    }
    ROW(EPERM, "The system forbids it, by privilege, seccomp or firewall."),
    ROW(ENOENT, "There is no such file or socket path."),
    ROW(EINTR, "A signal interrupted the call."),
    ROW(EIO, "The device or file system failed."),
    ROW(EBADF, "The descriptor is not open, or not for this use."),
    ROW(ECHILD, "The loop belongs to the parent process; after a fork the child can only free it."),
    ROW(EAGAIN, "It cannot be done at once."),
    ROW(ENOMEM, "There is no memory, or the limit of locked memory is reached."),
    ROW(EACCES, "Permission is denied."),
    ROW(EFAULT, "An address lies outside the program's memory."),
    ROW(EBUSY, "The resource is in use."),
    ROW(EEXIST, "It exists already."),
    ROW(ENXIO, "There is no such device, or nobody reads the pipe."),
    ROW(ENODEV, "The device does not support it."),
    ROW(ENOTDIR, "A part of the path is no directory."),
    ROW(EISDIR, "The descriptor is a directory."),
    ROW(EROFS, "The file system is read-only."),
    ROW(ENAMETOOLONG, "The path is too long."),
    ROW(ELOOP, "The path has too many symbolic links."),
    ROW(ESTALE, "The file is gone from the server that has it."),
    ROW(EDQUOT, "The quota of the file system is used up."),
    ROW(EOVERFLOW, "A value does not fit."),
    ROW(EINVAL, "An argument makes no sense here, or the kernel does not know it."),
    ROW(ENFILE, "The system is out of descriptors."),
    ROW(EMFILE, "The process is out of descriptors."),
    ROW(EFBIG, "The file would become too large."),
    ROW(ENOSPC, "There is no space left."),
    ROW(ESPIPE, "The descriptor has no position: a pipe, socket or terminal."),
    ROW(ENOTTY, "The descriptor does not know this request."),
    ROW(EPIPE, "The connection is closed for writing, or an earlier send was cut short."),
    ROW(ENOSYS, "The kernel lacks this call, or a sandbox hides it."),
    ROW(ETIME, "The deadline passed."),
    ROW(ENOTSOCK, "The descriptor is no socket."),
    ROW(EDESTADDRREQ, "The socket has no peer and none was given."),
    ROW(EMSGSIZE, "The message is too large for the socket."),
    ROW(EPROTOTYPE, "The protocol does not fit the socket's type."),
    ROW(EPROTONOSUPPORT, "The protocol is not supported."),
    ROW(EPROTO, "The peer or the protocol went wrong."),
    ROW(ENOPROTOOPT, "The socket does not know the option."),
    ROW(EOPNOTSUPP, "The descriptor or kernel does not support this operation."),
    ROW(EAFNOSUPPORT, "The address family is not supported."),
    ROW(EADDRINUSE, "The address is in use."),
    ROW(EADDRNOTAVAIL, "The address is not one of this machine, or no port is left."),
    ROW(ENETDOWN, "The network is down."),
    ROW(ENETUNREACH, "There is no route to the network."),
    ROW(ECONNABORTED, "The connection was ended before it was taken."),
    ROW(ECONNRESET, "The peer reset the connection."),
    ROW(ENOBUFS, "There is no buffer or descriptor left."),
    ROW(EISCONN, "The socket is connected already."),
    ROW(ENOTCONN, "The socket is not connected."),
    ROW(ESHUTDOWN, "The loop is being freed, or is gone."),
    ROW(ETIMEDOUT, "The peer did not answer in the time TCP allows."),
    ROW(ECONNREFUSED, "Nobody listens at the address."),
    ROW(EHOSTDOWN, "The host is down."),
    ROW(EHOSTUNREACH, "There is no route to the host."),
    ROW(EALREADY, "It is under way already."),
    ROW(EINPROGRESS, "It is under way."),
    ROW(ECANCELED, "The operation was cancelled, or its handle closed."),
    ROW(EBADR, "The kernel lost a completion; the loop cannot go on."),
#undef ROW
};

static size_t find(int error)
{
    size_t i = 0;
    error = error < 0 ? -error : error;
    while (i < sizeof errors / sizeof *errors && errors[i].error != error)
        i++;
    return i;
}

const char *pro_error_name(int error)
{
    size_t i = find(error);
    if (error == 0)
        return "0";
    return i < sizeof errors / sizeof *errors ? errors[i].name : "E?";
}

const char *pro_error_text(int error)
{
    size_t i = find(error);
    if (error == 0)
        return "Success.";
    return i < sizeof errors / sizeof *errors ? errors[i].text
                                              : "An error this library has no words for; see errno(3).";
}

unsigned pro_version(void)
{
    return PRO_VERSION;
}

_Thread_local struct proi_witness proi_witness;

noreturn void proi_die(const char *kind, const char *what, const char *file, int line)
{
    fprintf(stderr, "proactor: %s: %s (%s:%d)\n", kind, what, file, line);
    if (proi_witness.speak)
        proi_witness.speak(proi_witness.context);
    abort();
}
