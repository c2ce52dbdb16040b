/* SPDX-License-Identifier: MIT
 *
 * One row for every kind of operation, for what the contract says of all of them alike.
 *
 * A scene is a handle with everything its operation needs. `scene_start` starts the operation so that it stays in
 * flight; `scene_feed` makes what it waits for happen, and runs turns until it has completed once. */
#ifndef TESTS_KINDS_H
#define TESTS_KINDS_H

#include "harness.h"

enum { SCENE_DATA = 256 * 1024, SCENE_LISTS = 4 };

struct scene {
    struct world *w;
    const struct kind *kind;
    struct pro_handle *handle;            /* NULL: a timer, or the test has closed it */
    int fd;                               /* that the handle has or had; -1: a timer */
    int far;                              /* the other end, the test's own; -1: none */
    struct record *r;                     /* the operation */
    struct record *before;                /* what stands in its way, or NULL */
    struct pro_handle *other;             /* a second handle, or NULL */
    struct pro_pool *pool;                /* or NULL */
    struct pro_slice *lists[SCENE_LISTS]; /* for sends of slices */
    struct sockaddr_storage address;
    socklen_t length;
    struct iovec iov;
    uint8_t *data;
    void (*then)(struct scene *s, struct pro_result result); /* in the operation's continuation, or NULL */
    void *context;
};

struct kind {
    const char *name;
    void (*set)(struct scene *s);
    void (*start)(struct scene *s);
    void (*feed)(struct scene *s); /* NULL: only time lets it complete */
    int32_t fed;                   /* its res then; a descriptor if KIND_ACCEPTS */
    unsigned flags;
};

enum {
    KIND_MULTI = 1 << 0,   /* goes on when it has been fed */
    KIND_ACCEPTS = 1 << 1, /* delivers descriptors, which the scene discards */
    KIND_RECEIVES = 1 << 2,
    KIND_SENDS = 1 << 3,
    KIND_QUEUED = 1 << 4, /* waits behind `before` */
    KIND_SLOW = 1 << 5,   /* to feed it takes a second */
};

extern const struct kind kinds[];
extern const unsigned kind_count;

/* A scene of the world's, and its end: the handle is closed, with all that is still in flight. */
struct scene *scene_open(struct world *w, const struct kind *kind);
void scene_start(struct scene *s);
void scene_feed(struct scene *s);
void scene_shut(struct scene *s);
/* True if the descriptor that the handle had is open and still the same. */
bool scene_fd_is_open(const struct scene *s);
/* Has the far end read what is there. */
void scene_drain(struct scene *s);

/* Runs `body` with a new scene of every kind that has all of `flags` and none of `not`, and names the kind that
 * fails. */
void for_kinds(struct world *w, unsigned flags, unsigned not, void (*body)(struct scene *s));

#endif
