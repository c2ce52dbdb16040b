/* SPDX-License-Identifier: MIT
 *
 * The grammar, decided by the first bytes and never by trying one thing after another:
 *
 *     address  = "unix:@" name | "unix:" path | "[" v6 [ "%" zone ] "]:" port | host ":" port
 *     host     = letters, digits, "-", "." and "_"; a v4 address looks like that too
 *     port     = "0" … "65535", digits only
 *
 * A v6 address without brackets has a second colon, which no host has, and is refused with advice: whether the last
 * group is a port could only be guessed.
 */
#include "address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "log.h"

#define PATH_MOST (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define HOST_MOST 253

static const char *parse_port(const char *text, uint16_t *ret_port)
{
    uint32_t port = 0;
    size_t n = strlen(text);
    if (n == 0)
        return "the port is missing";
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return "the port is not a number";
        port = port * 10 + (uint32_t)(text[i] - '0');
        if (port > UINT16_MAX)
            return "the port is over 65535";
    }
    *ret_port = (uint16_t)port;
    return NULL;
}

static void take_name(struct address *address, const char *name, size_t size)
{
    memcpy(address->name, name, size);
    address->name[size] = '\0';
}

static const char *parse_unix(const char *text, struct address *ret)
{
    bool abstract = text[0] == '@';
    const char *name = abstract ? text + 1 : text;
    size_t size = strlen(name);
    if (size == 0)
        return abstract ? "the name is missing" : "the path is missing";
    /* An abstract name has a NUL before it where a path has one behind it: the same room. */
    if (size > PATH_MOST)
        return "the path is over 107 bytes";
    ret->kind = abstract ? ADDRESS_UNIX_ABSTRACT : ADDRESS_UNIX;
    take_name(ret, name, size);
    return NULL;
}

static const char *parse_v6(const char *text, struct address *ret)
{
    const char *close = strchr(text, ']');
    if (!close || close[1] != ':')
        return "[v6] must be followed by a port, as in [::1]:6789";
    size_t size = (size_t)(close - text) - 1;
    if (size == 0 || size > HOST_MOST)
        return "what is in the brackets is no IPv6 address";
    take_name(ret, text + 1, size);

    struct in6_addr bits;
    char number[HOST_MOST + 1];
    size_t digits = strcspn(ret->name, "%");
    memcpy(number, ret->name, digits);
    number[digits] = '\0';
    if (inet_pton(AF_INET6, number, &bits) != 1 || (digits < size && digits + 1 == size))
        return "what is in the brackets is no IPv6 address";
    ret->kind = ADDRESS_INET;
    return parse_port(close + 2, &ret->port);
}

static bool is_host_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
           c == '_';
}

static const char *parse_host(const char *text, struct address *ret)
{
    const char *colon = strchr(text, ':');
    if (!colon)
        return "no port is given, as in 127.0.0.1:6789";
    if (strchr(colon + 1, ':'))
        return "an IPv6 address is written in brackets, as in [::1]:6789";
    size_t size = (size_t)(colon - text);
    if (size == 0)
        return "no host is given, as in 127.0.0.1:6789";
    if (size > HOST_MOST)
        return "the host is over 253 bytes";
    for (size_t i = 0; i < size; i++)
        if (!is_host_byte(text[i]))
            return "the host has a byte that no host name has";
    ret->kind = ADDRESS_INET;
    take_name(ret, text, size);
    return parse_port(colon + 1, &ret->port);
}

const char *address_parse(const char *text, struct address *ret_address)
{
    struct address address = {0};
    const char *wrong;
    if (strncmp(text, "unix:", 5) == 0)
        wrong = parse_unix(text + 5, &address);
    else if (text[0] == '[')
        wrong = parse_v6(text, &address);
    else
        wrong = parse_host(text, &address);
    if (!wrong)
        *ret_address = address;
    return wrong;
}

static void resolve_unix(const struct address *address, struct sockaddr_storage *ret_at, socklen_t *ret_length)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t size = strlen(address->name);
    bool abstract = address->kind == ADDRESS_UNIX_ABSTRACT;
    memcpy(un.sun_path + abstract, address->name, size);
    *ret_at = (struct sockaddr_storage){0};
    memcpy(ret_at, &un, sizeof un);
    *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
}

const char *address_find(const struct address *address, struct address_found found[], uint32_t room,
                         uint32_t *ret_count)
{
    if (address->kind != ADDRESS_INET) {
        resolve_unix(address, &found[0].at, &found[0].length);
        *ret_count = 1;
        return NULL;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    char port[8];
    uint32_t count = 0;
    snprintf(port, sizeof port, "%u", address->port);
    int error = getaddrinfo(address->name, port, &hints, &list);
    if (error)
        return gai_strerror(error);
    for (const struct addrinfo *it = list; it && count < room; it = it->ai_next) {
        found[count].at = (struct sockaddr_storage){0};
        memcpy(&found[count].at, it->ai_addr, it->ai_addrlen);
        found[count++].length = it->ai_addrlen;
    }
    freeaddrinfo(list);
    *ret_count = count;
    return NULL;
}

const char *address_resolve(const struct address *address, struct sockaddr_storage *ret_at, socklen_t *ret_length)
{
    struct address_found found = {0};
    uint32_t count;
    const char *wrong = address_find(address, &found, 1, &count);
    if (!wrong) {
        *ret_at = found.at;
        *ret_length = found.length;
    }
    return wrong;
}

static void format_unix(const struct sockaddr_un *un, socklen_t length, char out[ADDRESS_TEXT_SIZE])
{
    size_t size = length - offsetof(struct sockaddr_un, sun_path);
    bool abstract = size > 0 && un->sun_path[0] == '\0';
    const char *name = un->sun_path + abstract;
    size = abstract ? size - 1 : strnlen(name, size);
    int n = snprintf(out, ADDRESS_TEXT_SIZE, "unix:%s", abstract ? "@" : "");
    log_escape(out + n, ADDRESS_TEXT_SIZE - (size_t)n, name, size);
}

const char *address_format(const struct sockaddr_storage *at, socklen_t length, char out[ADDRESS_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (at->ss_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *in = (const void *)at;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(in->sin_port));
    } else if (at->ss_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *in6 = (const void *)at;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else if (at->ss_family == AF_UNIX && length >= offsetof(struct sockaddr_un, sun_path)) {
        format_unix((const void *)at, length, out);
    } else {
        snprintf(out, ADDRESS_TEXT_SIZE, "unknown");
    }
    return out;
}
