/* Assertions that live in every build. Two kinds: a bug of ours, and misuse by the program. */
#ifndef PROI_CHECK_H
#define PROI_CHECK_H

#include <stdnoreturn.h>

noreturn void proi_die(const char *kind, const char *what, const char *file, int line);

/* What must hold if the library is right. */
#define proi_assert(condition)                                                                                         \
    (__builtin_expect(!(condition), 0) ? proi_die("assertion failed", #condition, __FILE__, __LINE__) : (void)0)

/* What must hold if the program keeps the contract; `what` tells its author what went wrong. */
#define proi_require(condition, what)                                                                                  \
    (__builtin_expect(!(condition), 0) ? proi_die("misuse", what, __FILE__, __LINE__) : (void)0)

#endif
