/* SPDX-License-Identifier: MIT */
#ifndef PROTO_STANDARD_H
#define PROTO_STANDARD_H

/* Opens /dev/null on each of the descriptors 0, 1 and 2 that is closed. Else the first socket of a program that is
 * started with `2>&-` would become its standard error, and a peer would get to read the log. */
void standard_descriptors(void);

/* The likely cause when a backend that was asked for by name cannot start with this negative errno value. */
const char *standard_backend_cause(int error);

#endif
