/* SPDX-License-Identifier: MIT
 *
 * The mailbox of a loop: what other threads and signal handlers may touch. */
#ifndef PROI_POST_H
#define PROI_POST_H

#include "loop.h"

/* Moves what was posted to the completions; true if pro_wake was called since the last time. */
bool proi_post_take(struct pro_loop *loop);
/* Announces that the loop goes to sleep; false if it must not, because there is something in the box. */
bool proi_post_sleep(struct pro_loop *loop);
/* Whether there is something in the box. */
bool proi_post_pending(const struct pro_loop *loop);
/* No more posts; those in the box end -ECANCELED. */
void proi_post_close(struct pro_loop *loop);
/* The loop's own reference goes. */
void proi_post_fini(struct pro_loop *loop);

#endif
