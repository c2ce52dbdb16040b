/* SPDX-License-Identifier: MIT
 *
 * The simulated kernel's descriptors: sockets, pipes and files, and the system calls on them.
 *
 * The calls never wait. They return what Linux would, with a negative errno for -1. Of the faults they know those of the
 * network; those of the calls are the backend's, which asks for them before it calls. */
#ifndef PROI_SIM_NET_H
#define PROI_SIM_NET_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "sim_channel.h"

enum sim_kind { SIM_STREAM, SIM_PACKETS, SIM_DATAGRAMS, SIM_LISTENER, SIM_PIPE_READ, SIM_PIPE_WRITE, SIM_FILE };

/* Something that wants to hear of changes of a descriptor: the events of poll(2) that may have come to hold. */
struct sim_watch {
    struct sim_watch *next, *prev;
    struct sim_node *node;
    void (*changed)(struct pro_sim *sim, struct sim_watch *watch, int events);
};
/* 0 or -EBADF. A watch outlives no descriptor: what is closed is watched by nobody. */
int proi_sim_watch(struct pro_sim *sim, int fd, struct sim_watch *watch);
void proi_sim_unwatch(struct sim_watch *watch);

/* What stands behind a descriptor, and its number in the trace; -EBADF. */
int proi_sim_kind(struct pro_sim *sim, int fd);
int proi_sim_number(struct pro_sim *sim, int fd);

int proi_sim_socket(struct pro_sim *sim, int family, int type, int protocol);
int proi_sim_socketpair(struct pro_sim *sim, int family, int type, int ret_fds[2]);
int proi_sim_bind(struct pro_sim *sim, int fd, const struct sockaddr *address, socklen_t length);
int proi_sim_listen(struct pro_sim *sim, int fd, int backlog);
/* 0, -EINPROGRESS, -EALREADY (under way), -EISCONN, or why not. */
int proi_sim_connect(struct pro_sim *sim, int fd, const struct sockaddr *address, socklen_t length);
int proi_sim_accept(struct pro_sim *sim, int fd);
/* `flags`: MSG_PEEK for a receive. */
int proi_sim_send(struct pro_sim *sim, int fd, const struct iovec *iov, size_t count, size_t most);
int proi_sim_recv(struct pro_sim *sim, int fd, void *data, size_t size, int flags);
/* A pipe or file; `offset` UINT64_MAX: where it stands. */
int proi_sim_read(struct pro_sim *sim, int fd, void *data, size_t size, uint64_t offset);
int proi_sim_write(struct pro_sim *sim, int fd, const void *data, size_t size, uint64_t offset);
int proi_sim_shutdown(struct pro_sim *sim, int fd, int how);
/* Breaks the connection as a linger time of 0 does. The descriptor stays. */
int proi_sim_abort(struct pro_sim *sim, int fd);
int proi_sim_close(struct pro_sim *sim, int fd);
/* One more descriptor for the same thing. */
int proi_sim_dup(struct pro_sim *sim, int fd);
int proi_sim_pipe(struct pro_sim *sim, int ret_fds[2]);
int proi_sim_file(struct pro_sim *sim, const void *data, size_t size);
/* The events of poll(2) that hold, or -EBADF. */
int proi_sim_poll(struct pro_sim *sim, int fd);
int proi_sim_name(struct pro_sim *sim, int fd, bool peer, struct sockaddr_storage *ret, socklen_t *ret_length);
int proi_sim_option_set(struct pro_sim *sim, int fd, int level, int name, const void *value, socklen_t length);
int proi_sim_option_get(struct pro_sim *sim, int fd, int level, int name, void *value, socklen_t *length);
/* Bytes that have been sent and not arrived (SIOCOUTQ). */
int proi_sim_unsent(struct pro_sim *sim, int fd);

#endif
