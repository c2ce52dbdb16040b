/* SPDX-License-Identifier: MIT
 *
 * Listening on an address with one service for each thread.
 */
#ifndef PROTO_LISTEN_H
#define PROTO_LISTEN_H

#include <sys/types.h>

#include "address.h"
#include "service.h"

#define LISTEN_ERROR_SIZE 512

/* An address that is listened on. All zero bytes is none. */
struct listening {
    char text[ADDRESS_TEXT_SIZE]; /* with the real port */
    char path[108];               /* of the socket file that was made, or "" */
    dev_t device;                 /* which file that is */
    ino_t inode;
};

/* Listens on `address` with each of `count` services; all share the port or the socket. Returns 0 and fills *ret, or a
 * negative errno value with a message in `error` that names the address and the cause. What was opened before it
 * failed is closed with the services. */
int listen_on(const struct address *address, struct service *const services[], unsigned count,
              struct listening *ret_listening, char error[LISTEN_ERROR_SIZE]);

/* Removes the socket file, if it is still the one that was made. */
void listen_remove(const struct listening *listening);

#endif
