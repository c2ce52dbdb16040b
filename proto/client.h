/* SPDX-License-Identifier: MIT
 *
 * The client: lines in, reversed lines out, through a reverse server.
 *
 *      struct client *client;
 *      client_start(loop, &config, &client);
 *      pro_run(loop, PRO_RUN_DEFAULT);          `done` is called from here; client_free there or later
 *
 * Like the service it stands on the public header alone, takes time from the loop, and so runs on any backend; any
 * number of clients share a loop with each other and with whatever else is there. All calls are for the loop's thread.
 */
#ifndef PROTO_CLIENT_H
#define PROTO_CLIENT_H

#include <stdint.h>

#include <proactor.h>

#include "address.h"

struct client;

/* Copied, except for the addresses. */
struct client_config {
    const struct address_found *servers; /* tried in this order until one connects; they outlive the client */
    uint32_t server_count;               /* at least 1 */

    uint64_t connect_ns;   /* how long the connect to one of them may take; 0: no limit */
    struct pro_pool *pool; /* of buffers of at most 128 KiB, where answers are received; outlives the client */
    int in, out;           /* descriptors of any kind, lent to the client until `done` */

    /* The client has ended: nothing of it is in flight, its handles are closed, `in` and `out` are open and yours again.
     * `failure` is NULL if every line was answered, or if nobody reads the output any more; else one line that says
     * what went wrong, of the client's memory. Called once, from pro_run, or from pro_loop_free if the loop is freed
     * before. It may free the client. */
    void (*done)(void *context, const char *failure);
    void *context;
};

/* Starts a client: it connects, and then reads. Everything that may go wrong is told by `done`, except -ENOMEM: then
 * there is no client, and the descriptors are as they were. */
int client_start(struct pro_loop *loop, const struct client_config *config, struct client **ret_client);

/* Frees a client that is done. NULL is fine. */
void client_free(struct client *client);

#endif
