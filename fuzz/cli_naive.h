/* SPDX-License-Identifier: MIT
 *
 * What command lines mean, told a second time: by the texts of --help, with the C library's ideas of numbers and
 * patterns, sharing no code with proto/. For fuzz_cli.
 */
#ifndef FUZZ_CLI_NAIVE_H
#define FUZZ_CLI_NAIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"

/* Each is true if the text is right, and only then writes the value. */
bool naive_duration(const char *text, uint64_t *ret_ns);
bool naive_size(const char *text, uint32_t least, uint32_t most, uint32_t *ret_bytes);
bool naive_address(const char *text, struct address *ret);

/* The features of io_uring by name, in the order of their bits; NULL at the end. */
extern const char *const naive_features[];

/* Of the whole line. The struct is written unless the outcome is other than OPTIONS_RUN. */
enum options_outcome naive_options(int argc, char *const argv[], struct options *ret);
enum options_outcome naive_client_options(int argc, char *const argv[], struct client_options *ret);

#endif
