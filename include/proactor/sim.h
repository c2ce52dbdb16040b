/* SPDX-License-Identifier: MIT
 *
 * The simulation: a world in memory, with a network, files, a clock and every fault, in which a program built on
 * <proactor.h> runs unchanged. One source of choices decides everything that a kernel, a network and a clock decide:
 * the same choices give the same history, event by event.
 *
 *      struct pro_sim_config world = PRO_SIM_CONFIG_INIT;
 *      world.seed = 4711;
 *      pro_sim_faults(&world, 300);                         every kind of fault, 300 in 65536 chances
 *      pro_sim_new(&world, &sim);
 *
 *      struct pro_config config = PRO_CONFIG_INIT;          the program: servers and clients, each on a loop
 *      config.backend = PRO_BACKEND_SIM;
 *      config.sim = sim;
 *      pro_loop_new(&config, &loop);                        ...
 *
 *      pro_sim_run(sim, PRO_NEVER);                         turns of all loops, until nothing more can happen
 *      pro_loop_free(loop);
 *      pro_sim_free(sim);
 *
 * After each step the world checks its ledgers. What it finds wrong, or what the program finds with pro_sim_fail, ends
 * the process by abort(), after the last events and the line `config.replay` that plays the same again.
 *
 * A world and its loops belong to one thread. The world owns the turns: while a loop waits in pro_run, the others take
 * theirs. Descriptors are the world's and mean nothing to the kernel: give them to pro_adopt, pro_discard and the calls
 * below only. Addresses are those of AF_INET, AF_INET6 and AF_UNIX, and there is one host. docs/simulation.md is the
 * manual.
 */
#ifndef PROACTOR_SIM_H
#define PROACTOR_SIM_H

#include <proactor.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pro_sim_walk;

/* Where choices come from. */
enum pro_sim_front {
    PRO_SIM_CALM,  /* always the first: things happen in their natural order, whole and at once */
    PRO_SIM_SEED,  /* pseudo-random, from `seed` */
    PRO_SIM_BYTES, /* from a fuzzer's bytes; once they are used up, as calm */
    PRO_SIM_WALK,  /* every sequence of choices, one after the other: see pro_sim_walk_next */
};

/* What may go wrong, each with a rate. Those that end in an error give it to the operation that asked; the others are
 * liberties that kernels and networks take. */
enum pro_sim_fault {
    PRO_SIM_SEGMENT,        /* what is sent arrives in pieces */
    PRO_SIM_DELAY,          /* a piece takes up to a hundred times as long */
    PRO_SIM_SHORT_SEND,     /* a socket takes less than it has room for */
    PRO_SIM_SHORT_RECV,     /* a receive brings less than is there */
    PRO_SIM_RESET,          /* a connection breaks */
    PRO_SIM_REFUSE,         /* a connect is refused */
    PRO_SIM_UNREACHABLE,    /* a connect finds no way */
    PRO_SIM_BACKLOG,        /* a backlog is full, and the connect is tried again a second later */
    PRO_SIM_LOSS,           /* a datagram is lost ... */
    PRO_SIM_DUPLICATE,      /* ... comes twice ... */
    PRO_SIM_REORDER,        /* ... or before the one sent before it */
    PRO_SIM_ACCEPT_EMFILE,  /* accept(2) says so; the connection stays in the backlog */
    PRO_SIM_ACCEPT_ENFILE,  /* the same */
    PRO_SIM_ACCEPT_ENOMEM,  /* the same */
    PRO_SIM_ACCEPT_ENOBUFS, /* the same */
    PRO_SIM_ACCEPT_ABORTED, /* ECONNABORTED: the connection is gone */
    PRO_SIM_ACCEPT_EINTR,   /* invisible to the program */
    PRO_SIM_ACCEPT_EPERM,   /* a firewall; the connection is gone */
    PRO_SIM_INTERRUPT,      /* another operation is interrupted by a signal */
    PRO_SIM_VAIN,           /* an operation is woken for nothing */
    PRO_SIM_RECALL,         /* the kernel gives an operation back that nobody cancelled */
    PRO_SIM_NO_MEMORY,      /* a send or receive ends -ENOMEM or -ENOBUFS */
    PRO_SIM_MULTISHOT_END,  /* the kernel ends a multishot, and it is started again */
    PRO_SIM_ONE_SHOT,       /* a loop's kernel knows no multishots but polls */
    PRO_SIM_POOL_EMPTY,     /* a receive finds no buffer at the kernel, though the pool has some */
    PRO_SIM_SUBMIT_FULL,    /* there is no room to submit an operation ... */
    PRO_SIM_CANCEL_FULL,    /* ... or a cancel */
    PRO_SIM_CANCEL_LATE,    /* a cancel takes its time */
    PRO_SIM_EARLY_WAKE,     /* a wait ends with nothing to tell */
    PRO_SIM_FEW,            /* a turn sees some of the completions only */
    PRO_SIM_SLOW_CLOSE,     /* a descriptor takes its time to close */
    PRO_SIM_SOCKET,         /* no descriptor for a new socket: -EMFILE */
    PRO_SIM_LISTEN,         /* the address is in use */
    PRO_SIM_OPTION,         /* an option is refused: -ENOPROTOOPT */
    PRO_SIM_FULL,           /* pro_try_send finds no room */
    PRO_SIM_NO_BACKEND,     /* pro_loop_new is refused, with one of the errnos of io_uring_setup(2) */
    PRO_SIM_ALLOCATION,     /* the memory of pro_sim_allocator is out */
    PRO_SIM_CLOCK,          /* the process stood still, and the clock leaps, by up to a minute */
    PRO_SIM_READ_SHORT,     /* a file is read in part */
    PRO_SIM_READ_EIO,       /* a file cannot be read */
    PRO_SIM_WRITE_SHORT,    /* a file is written in part */
    PRO_SIM_WRITE_ENOSPC,   /* the disk is full */
    PRO_SIM_WRITE_EIO,      /* a file cannot be written */
    PRO_SIM_RESULT_WINS,    /* counted only: a cancel came when the result was there */
    PRO_SIM_NUMBER_REUSED,  /* counted only: a descriptor got the number of the one closed last */
    PRO_SIM_FAULTS,
};

/* "segment", "accept_emfile", … Static. */
PRO_API const char *pro_sim_fault_name(enum pro_sim_fault fault);

/* Zero means the default, everywhere. Start from PRO_SIM_CONFIG_INIT. */
struct pro_sim_config {
    size_t size; /* sizeof(struct pro_sim_config) */
    enum pro_sim_front front;
    uint32_t fault_budget; /* faults in all, at most; default no limit. A walk without one has no end */
    uint64_t seed;
    const void *bytes; /* used until the world is freed */
    size_t byte_count;
    struct pro_sim_walk *walk;

    uint64_t latency_ns;       /* of what crosses the network: from here ... */
    uint64_t jitter_ns;        /* ... to that much more. Default of both: none, what is sent has arrived */
    uint32_t socket_buffer;    /* bytes a connection holds in each direction, at most 2^30; default 64 KiB */
    uint32_t first_descriptor; /* default 2^20, so that no kernel call takes one of the world's for its own;
                                  PRO_SIM_FROM_0 for 0 */
    uint32_t descriptors;      /* open at once, at most; default 2^22 */
    uint32_t audit_every;      /* steps between two looks at every buffer and handle; default 1 in a walk, else 64 */
    uint64_t memory;           /* bytes of pro_sim_allocator, at most; default no limit */
    uint64_t start_ns;         /* what pro_now says first; default one hour */

    uint16_t rates[PRO_SIM_FAULTS]; /* in 65536 chances */
    const char *replay;             /* a command line for people, printed when the world fails; a walk adds where. Not
                                       copied */
    struct pro_allocator allocator; /* of the world itself; default: aligned_alloc and free */
};
#define PRO_SIM_FROM_0 UINT32_MAX
/* PRO_SIM_SEED with seed 0, no latency, no faults. */
#define PRO_SIM_CONFIG_INIT                                                                                            \
    {                                                                                                                  \
        sizeof(struct pro_sim_config), PRO_SIM_SEED, 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, 0, 0, 0, {0}, NULL,           \
        {                                                                                                              \
            NULL, NULL, NULL                                                                                           \
        }                                                                                                              \
    }

/* Sets every rate of `config`. */
PRO_API void pro_sim_faults(struct pro_sim_config *config, uint16_t rate);

/* Makes a world. -EINVAL, -ENOMEM. What it needs later it must get, else it aborts. */
PRO_API int pro_sim_new(const struct pro_sim_config *config, struct pro_sim **ret_sim);

/* Its loops have been freed. Fails (pro_sim_fail) if a descriptor is still open or if memory of pro_sim_allocator is
 * still out. NULL is fine. */
PRO_API void pro_sim_free(struct pro_sim *sim);

/* ---- Running ---- */

/* Gives all loops their turns until none has anything in flight but background operations and nothing is under way, or
 * nothing can happen any more, or the clock has come to `until`. Returns 0 in the first two cases, 1 in the last. From
 * outside of continuations. A single loop may also be run by pro_run. */
PRO_API int pro_sim_run(struct pro_sim *sim, uint64_t until);

/* Things that happen: at most `steps` of them. Returns how many did. */
PRO_API uint32_t pro_sim_step(struct pro_sim *sim, uint32_t steps);

/* True when nothing can happen, not even later, unless the program or a peer does something. */
PRO_API bool pro_sim_idle(const struct pro_sim *sim);

PRO_API uint64_t pro_sim_now(const struct pro_sim *sim);

/* The program stands still for so long, as one that is stopped does, while the world goes on. */
PRO_API void pro_sim_stand_still(struct pro_sim *sim, uint64_t ns);

/* Sets one rate; and all to none, for the time in which everything has to come to its end. */
PRO_API void pro_sim_rate(struct pro_sim *sim, enum pro_sim_fault fault, uint16_t rate);
PRO_API void pro_sim_calm(struct pro_sim *sim);

/* A choice of the program's own, from the same source: 0 to count - 1. And one of the world's faults, asked for by the
 * program: whether it happens now; counted. */
PRO_API uint32_t pro_sim_choose(struct pro_sim *sim, uint32_t count);
PRO_API bool pro_sim_chance(struct pro_sim *sim, enum pro_sim_fault fault);

/* Memory that is counted and may be refused, for `config.allocator` of loops and for the program itself. Belongs to the
 * world, which must outlive it. */
PRO_API struct pro_allocator pro_sim_allocator(struct pro_sim *sim);

/* ---- What happened ---- */

struct pro_sim_stats {
    uint64_t events;      /* lines of the trace */
    uint64_t hash;        /* of all of them; the same history has the same */
    uint64_t steps;       /* things that happened */
    uint64_t audits;      /* times the ledgers were looked at in full */
    uint64_t descriptors; /* open */
    uint64_t allocations; /* of pro_sim_allocator that are out, ... */
    uint64_t bytes;       /* ... and their bytes */
    uint64_t world_bytes; /* of the world itself */
    uint64_t hits[PRO_SIM_FAULTS];
};
PRO_API void pro_sim_stats(const struct pro_sim *sim, struct pro_sim_stats *ret_stats, size_t size);

/* From now on every event is told, one line each without a line end; NULL stops it. */
PRO_API void pro_sim_trace(struct pro_sim *sim, void (*line)(void *context, const char *text), void *context);

/* An event of the program's own, part of trace and hash. */
PRO_API void pro_sim_note(struct pro_sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The program has found something wrong: says what, the last events and how to replay, and aborts. */
PRO_API void pro_sim_fail(struct pro_sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3), __noreturn__));

/* Looks at all ledgers now. */
PRO_API void pro_sim_audit(struct pro_sim *sim);

/* ---- Descriptors of the world ---- */

/* Two connected stream sockets; two connected datagram sockets; a pipe, whose first end is read; a file with these
 * contents, open for reading and writing at its start. 0 (or the file's descriptor), or -EMFILE. */
PRO_API int pro_sim_pair(struct pro_sim *sim, int ret_fds[2]);
PRO_API int pro_sim_datagrams(struct pro_sim *sim, int ret_fds[2]);
PRO_API int pro_sim_pipe(struct pro_sim *sim, int ret_fds[2]);
PRO_API int pro_sim_file(struct pro_sim *sim, const void *data, size_t size);

/* A peer played by hand: plain calls that never wait. They return what the system call would, with a negative errno for
 * -1, and are met by no fault of their own. pro_sim_connect returns a descriptor; what it is connected to may have to
 * accept it first. */
PRO_API int pro_sim_connect(struct pro_sim *sim, const struct sockaddr *address, socklen_t length);
PRO_API int pro_sim_write(struct pro_sim *sim, int fd, const void *data, size_t size);
PRO_API int pro_sim_read(struct pro_sim *sim, int fd, void *data, size_t size);
PRO_API int pro_sim_shutdown(struct pro_sim *sim, int fd, int how);
PRO_API int pro_sim_close(struct pro_sim *sim, int fd);
PRO_API int pro_sim_reset(struct pro_sim *sim, int fd);

/* ---- Walking all histories ---- */

/*      while (pro_sim_walk_next(walk)) {
 *          config.front = PRO_SIM_WALK;
 *          config.walk = walk;
 *          ... a small scenario in a new world, the same each time ...
 *      }
 *
 * Depth first: each round takes the next sequence of choices, until there is none left. A scenario must be finite: few
 * operations, a fault budget, bounded turns. NULL if there is no memory. */
PRO_API struct pro_sim_walk *pro_sim_walk_new(void);
PRO_API void pro_sim_walk_free(struct pro_sim_walk *walk);
PRO_API bool pro_sim_walk_next(struct pro_sim_walk *walk);
/* Histories begun so far. */
PRO_API uint64_t pro_sim_walk_count(const struct pro_sim_walk *walk);
/* The choices of the history that is under way, or was the last, as a text ("0.2.1"); as many as there is room for. */
PRO_API void pro_sim_walk_history(const struct pro_sim_walk *walk, char *out, size_t size);
/* Walks this one history only, as a failure has printed it. False if it is none. */
PRO_API bool pro_sim_walk_only(struct pro_sim_walk *walk, const char *history);

#ifdef __cplusplus
}
#endif

#endif
