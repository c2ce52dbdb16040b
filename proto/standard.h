/* SPDX-License-Identifier: MIT */
#ifndef PROTO_STANDARD_H
#define PROTO_STANDARD_H

#include <proactor.h>

#include "log.h"

/* Opens /dev/null on each of the descriptors 0, 1 and 2 that is closed. Else the first socket of a program that is
 * started with `2>&-` would become its standard error, and a peer would get to read the log. It is opened the wrong way
 * round, so that use of it fails as it would have: output that nobody gets must not pass for written. */
void standard_descriptors(void);

/* What would kill the program by its own output: SIGPIPE and SIGXFSZ. The write says EPIPE or EFBIG instead. */
void standard_signals(void);

/* Prints a text that was asked for. Returns the exit status: 0, or 1 after a line that says why it is not printed. */
int standard_print(struct log *log, const char *text);

/* The same for the log's name and the version. */
int standard_print_version(struct log *log);

/* The likely cause when the backend that was asked for cannot start with this negative errno value. */
const char *standard_backend_cause(enum pro_backend_kind asked, int error);

#endif
