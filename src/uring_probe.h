/* SPDX-License-Identifier: MIT
 *
 * What this kernel's io_uring can do, found out by trying. */
#ifndef PROI_URING_PROBE_H
#define PROI_URING_PROBE_H

#include <proactor.h>

#include "uring_abi.h"

/* Sets up `ring` with as many of the features in `wanted` (PRO_FEATURE_ bits) as the kernel takes, disabled until
 * proi_enable_ring. With `spins` its flags tell of completions that wait to be made (IORING_SQ_TASKRUN). Returns 0 and
 * those features, or the errno of io_uring_setup(2), or -EOPNOTSUPP if an operation is missing that there is no
 * substitute for. */
int proi_uring_setup(struct io_uring *ring, unsigned entries, unsigned completion_entries, uint64_t wanted, bool spins,
                     uint64_t *ret_features);

/* Tries the other features of `wanted` on sockets and a small ring of its own. Returns 0 and those that work, or the
 * errno of what forbids to use a ring at all. */
int proi_uring_try(uint64_t wanted, uint64_t *ret_features);

/* The name of the feature with this bit (PRO_FEATURE_); NULL behind the last. */
const char *proi_uring_feature_name(unsigned bit);

#endif
