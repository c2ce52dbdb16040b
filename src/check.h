/* SPDX-License-Identifier: MIT
 *
 * Assertions that live in every build. Two kinds: a bug of ours, and misuse by the program. */
#ifndef PROI_CHECK_H
#define PROI_CHECK_H

#include <stdnoreturn.h>

/* Who has more to say when this thread dies: a simulated world, which knows how it came to that. NULL: nobody. */
struct proi_witness {
    void (*speak)(void *context);
    void *context;
};
extern _Thread_local struct proi_witness proi_witness;

noreturn void proi_die(const char *kind, const char *what, const char *file, int line);

/* What must hold if the library is right. */
#define proi_assert(condition)                                                                                         \
    (__builtin_expect(!(condition), 0) ? proi_die("assertion failed", #condition, __FILE__, __LINE__) : (void)0)

/* What must hold if the program keeps the contract; `what` tells its author what went wrong. */
#define proi_require(condition, what)                                                                                  \
    (__builtin_expect(!(condition), 0) ? proi_die("misuse", what, __FILE__, __LINE__) : (void)0)

#endif
