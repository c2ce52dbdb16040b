/* SPDX-License-Identifier: MIT
 *
 * Addresses as people write them:
 *
 *     127.0.0.1:6789    localhost:6789    [::1]:6789    unix:/run/reversed    unix:@reversed
 *
 * Reading one is pure: no name is looked up, no file is touched, nothing is allocated. Resolving it is a step of
 * its own. The other direction turns a socket address into the same notation.
 */
#ifndef PROTO_ADDRESS_H
#define PROTO_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum address_kind {
    ADDRESS_INET,          /* a host and a port */
    ADDRESS_UNIX,          /* a path in the file system */
    ADDRESS_UNIX_ABSTRACT, /* a name without one */
};

struct address {
    enum address_kind kind;
    uint16_t port;
    char name[256]; /* host without brackets, path, or abstract name without '@'; ends with NUL */
};

/* Enough for every text that address_format makes, NUL included. */
#define ADDRESS_TEXT_SIZE 192

/* Reads `text`. Returns NULL and fills *ret_address, or a static phrase that says what is wrong with it. */
const char *address_parse(const char *text, struct address *ret_address);

/* A socket address to bind or connect. `unix:@` names keep their exact length. */
struct address_found {
    struct sockaddr_storage at;
    socklen_t length;
};

/* The first `room` socket addresses, in the order in which they are to be tried; looks a host name up if it is no number,
 * which alone may have several. Returns NULL, or a phrase that says why there is none. */
const char *address_find(const struct address *address, struct address_found found[], uint32_t room,
                         uint32_t *ret_count);

/* The first of them. */
const char *address_resolve(const struct address *address, struct sockaddr_storage *ret_at, socklen_t *ret_length);

/* Writes `at` in the notation above, escaped where it is not printable, and returns `out`. */
const char *address_format(const struct sockaddr_storage *at, socklen_t length, char out[ADDRESS_TEXT_SIZE]);

#endif
