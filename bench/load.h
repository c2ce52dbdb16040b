/* SPDX-License-Identifier: MIT
 *
 * The load generator: what its parts share.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "histogram.h"
#include "pattern.h"

enum { LOAD_PATTERNS = 16 };

struct load_options {
    uint16_t port;
    uint32_t connections;
    uint32_t depth; /* requests in flight on each connection, closed loop */
    uint32_t idle;  /* connections that asked once, and stay */
    uint64_t rate;  /* requests/s of the open loop; 0: closed loop */
    uint64_t seconds_ns, warmup_ns;
    uint64_t seed;
    pid_t server; /* whose CPU time is read at both ends of the measurement; 0: nobody's */
    bool mix;     /* frames of many sizes in place of `size` */
    uint32_t size;
    bool churn;    /* a connection for each request */
    bool hold;     /* when the connections stand, say so and wait for the end of standard input */
    bool check;    /* see load_check.h */
    bool syscalls; /* count the server's */
    bool quiet;
};

/* What was seen between the two ends of the measurement. */
struct load_result {
    uint64_t requests; /* answered and verified; at least one */
    uint64_t answered; /* the same, but from the first request on */
    uint64_t bytes;    /* of answers */
    uint64_t elapsed_ns;
    uint64_t load_cpu_ns, server_cpu_ns;
    int64_t syscalls;         /* of the server; -1: cannot be counted here */
    uint64_t behind;          /* asked (or due) and not answered at the end; they are in the histogram with their age */
    struct histogram latency; /* ns */
};

/* Ends the program with a message. */
_Noreturn __attribute__((format(printf, 1, 2))) void load_die(const char *format, ...);

uint64_t load_now(void);

/* A blocking TCP connection to the server from 127.0.0.0/8; `source` picks the address and is any number. -errno. */
int load_connect(uint16_t port, uint32_t source);

/* The server's system calls, counted by the tracepoint raw_syscalls:sys_enter. All zero: they are not. */
struct load_syscalls {
    int *fds; /* one for each thread that there was at first */
    uint32_t count;
};
/* Before there are connections: a server may have a thread for each. Without effect when the kernel or the rights for it
 * are not there. */
void load_syscalls_open(struct load_syscalls *calls, pid_t server);
uint64_t load_syscalls_read(const struct load_syscalls *calls);

/* Runs the workload. Ends the program when the server gives a wrong answer, closes a connection, or stalls. */
void load_run(const struct load_options *options, const struct load_syscalls *calls, struct load_result *ret_result);

/* Opens the idle connections and has each answered once. The descriptors stay open to the end of the program. */
void load_idle(const struct load_options *options);

/* The check of correctness. Returns whether the server passed; says on standard error where it did not. */
bool load_check(uint16_t port, uint64_t seed);

#endif
