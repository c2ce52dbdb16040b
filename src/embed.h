/* SPDX-License-Identifier: MIT
 *
 * pro_loop_fd for the backends that stand on the kernel: one descriptor that is readable when a run is due. */
#ifndef PROI_EMBED_H
#define PROI_EMBED_H

#include <stdint.h>

/* An epoll descriptor over the backend's own and a timer. */
struct proi_embed {
    int fd, timer; /* -1 until opened */
};

void proi_embed_init(struct proi_embed *embed);
/* Returns the descriptor, making it first if need be. `source` becomes readable when something completes. */
int proi_embed_open(struct proi_embed *embed, int source);
/* One more source; without effect before it is open. 0 or a negative errno. */
int proi_embed_watch(const struct proi_embed *embed, int source);
/* Readable at `until` at the latest; 0 is at once. */
void proi_embed_arm(const struct proi_embed *embed, uint64_t until);
void proi_embed_close(struct proi_embed *embed);

#endif
