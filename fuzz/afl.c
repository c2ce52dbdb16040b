/* SPDX-License-Identifier: MIT
 *
 * The loop of AFL++, in persistent mode: many inputs a process, each in memory that the fuzzer shares with it. Built by
 * afl-clang-fast only, which knows the words with underscores.
 */
#include <unistd.h>

#include "fuzz.h"

/* Runs before the process is made anew, in case that something was left behind after all. */
#define RUNS 100000

__AFL_FUZZ_INIT();

int main(void)
{
    __AFL_INIT();
    const uint8_t *data = __AFL_FUZZ_TESTCASE_BUF;
    while (__AFL_LOOP(RUNS)) {
        size_t size = (size_t)__AFL_FUZZ_TESTCASE_LEN;
        LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
