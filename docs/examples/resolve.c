/* SPDX-License-Identifier: MIT
 *
 * Work that blocks, on threads of its own: looks up names with getaddrinfo(3), all at once, and prints what they have
 * as it comes:
 *
 *      resolve localhost debian.org
 *
 * A thread posts its result to the loop through a remote, with an operation that is part of the request. Posts that are
 * still to come do not keep pro_run running; a timer that never fires does, until the last of them has come. */
#include <netdb.h>
#include <proactor.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct lookup {
    struct pro_op op;
    pthread_t thread;
    const char *name;
    struct addrinfo *found;
    int error; /* of getaddrinfo */
};
static struct pro_remote *home;
static struct pro_op waiting;
static int unanswered, status;

static void on_found(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct lookup *lookup = PRO_CONTAINER_OF(op, struct lookup, op);
    char text[NI_MAXHOST];
    pthread_join(lookup->thread, NULL);
    for (struct addrinfo *at = lookup->found; at; at = at->ai_next) {
        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            printf("%s %s\n", lookup->name, text);
    }
    if (lookup->error) {
        fprintf(stderr, "resolve: %s: %s\n", lookup->name, gai_strerror(lookup->error));
        status = 1;
    } else {
        freeaddrinfo(lookup->found);
    }
    if (--unanswered == 0)
        pro_cancel(&waiting);
}

static void on_over(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
}

static void *look_up(void *argument)
{
    struct lookup *lookup = argument;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    lookup->error = getaddrinfo(lookup->name, NULL, &hints, &lookup->found);
    pro_post(home, &lookup->op, on_found); /* from here on the request is the loop's */
    return NULL;
}

int main(int argc, char **argv)
{
    struct pro_loop *loop;
    struct lookup *lookups = calloc((size_t)argc, sizeof *lookups);
    if (!lookups || pro_loop_new(NULL, &loop) < 0)
        return 1;
    home = pro_remote_get(loop);
    for (int i = 1; i < argc; i++) {
        struct lookup *lookup = &lookups[i];
        lookup->name = argv[i];
        if (!home || pthread_create(&lookup->thread, NULL, look_up, lookup) != 0) {
            fprintf(stderr, "resolve: no thread for %s\n", argv[i]);
            return 1;
        }
        unanswered++;
    }
    if (unanswered > 0) {
        pro_timer(loop, &waiting, PRO_NEVER, on_over);
        if (pro_run(loop, PRO_RUN_DEFAULT) < 0)
            return 1; /* and leave to the threads what they have */
    }
    pro_remote_unref(home);
    pro_loop_free(loop);
    free(lookups);
    return status;
}
