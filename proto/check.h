/* SPDX-License-Identifier: MIT
 *
 * Assertions that live in every build. libc alone.
 */
#ifndef PROTO_CHECK_H
#define PROTO_CHECK_H

#include <stdio.h>
#include <stdlib.h>

static _Noreturn inline void check_failed(const char *function, const char *condition)
{
    fprintf(stderr, "%s: assertion failed: %s\n", function, condition);
    abort();
}

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__func__, #condition))

#endif
