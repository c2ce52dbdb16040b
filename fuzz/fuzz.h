/* SPDX-License-Identifier: MIT
 *
 * What every fuzz target has, and how it is told that an input is a find.
 *
 * A target is one source with one function, LLVMFuzzerTestOneInput. What calls it is chosen when it is built: libFuzzer,
 * AFL++ (afl.c), or a plain program that replays files (replay.c). A run leaves nothing behind: the same input does the
 * same again, whatever was run before it.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Does one input, of any bytes at all, and returns 0; or aborts with a message, and the input is a find. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static _Noreturn inline void fuzz_find(const char *function, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", function, line, condition);
    abort();
}

#define REQUIRE(condition) ((condition) ? (void)0 : fuzz_find(__func__, __LINE__, #condition))

#endif
