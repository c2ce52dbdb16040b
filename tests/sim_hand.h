/* SPDX-License-Identifier: MIT
 *
 * The reverse service alone in a world, and peers played by hand: plain calls between which the world runs. Cheap, so
 * that there can be very many of them.
 */
#ifndef TESTS_SIM_HAND_H
#define TESTS_SIM_HAND_H

#include <netinet/in.h>
#include <proactor/sim.h>

#include "reverse_oracle.h"
#include "service.h"

#define MICROSECOND UINT64_C(1000)
#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)

/* ---- The service and its memory ---- */

/* The memory of the loop and the service. After `left` more allocations, if `rationed`, there is none. */
struct ration {
    struct pro_allocator under;
    bool rationed;
    uint64_t left, refused;
};

struct stage {
    struct pro_sim *sim;
    struct ration ration;
    struct pro_allocator memory; /* `ration` */
    struct pro_loop *loop;
    struct service *service;
    struct log log;
    struct sockaddr_in at;
    uint32_t max_frame;
};

/* A calm world with the service in it. `limits` need no log. */
void stage_open(struct stage *stage, const struct pro_sim_config *config, const struct service_config *limits,
                uint32_t max_connections, void (*line)(void *context, const char *text));
/* The world runs for so long; what the service allocates is counted. */
void stage_run(struct stage *stage, uint64_t ns);
/* The world runs until the service has no connection; fails if that takes minutes. */
void stage_settle(struct stage *stage);
uint64_t stage_connections(const struct stage *stage);
/* Whatever is left now, a leak of the service among it, makes the world fail. */
void stage_close(struct stage *stage, struct pro_sim_stats *ret_stats);

/* What may not grow: that of the world's, and of the library and the service. */
struct holding {
    uint64_t descriptors, allocations, bytes;
};
struct holding stage_holding(const struct stage *stage);
/* Fails unless both are the same to the last byte. */
void holding_require(const struct stage *stage, struct holding before, struct holding now, const char *when);

/* ---- Peers ---- */

enum hand_way {
    HAND_CLOSES,      /* when it has its answers */
    HAND_SHUTS,       /* its side, when all is sent; reads the rest */
    HAND_STAYS,       /* when it has its answers, until it is told otherwise */
    HAND_RESETS,      /* when it has its answers */
    HAND_RESETS_OWED, /* when all is sent */
    HAND_BREAKS_OFF,  /* inside a frame: closes */
    HAND_BAD,         /* sends a bad header */
    HAND_SILENT,      /* sends nothing */
    HAND_WAYS,
};

enum hand_end {
    HAND_NONE,      /* there is no connection, or none any more that had an end */
    HAND_UNDER_WAY, /* also one that stays */
    HAND_SERVED,    /* it got all that it was owed, or left of its own accord */
    HAND_CUT,       /* it was told that it will not get it */
};

enum { HAND_ROOM = 24 * 1024 };

struct hand {
    int fd;
    enum hand_way way;
    enum hand_end end;
    struct oracle_answer owed;
    size_t size, sent, got;
    uint8_t request[HAND_ROOM], answer[HAND_ROOM];
};

/* Connects, and thinks up requests of so many frames of at most so many bytes. */
void hand_begin(struct hand *hand, struct stage *stage, enum hand_way way, uint32_t frames, uint32_t most_frame);
/* Sends a piece and reads what is there. Whether anything came of it. */
bool hand_go_on(struct hand *hand, struct stage *stage);
/* One that stays: it has all its answers; has some more requests; closes. */
bool hand_content(const struct hand *hand);
void hand_ask(struct hand *hand, struct stage *stage, uint32_t frames, uint32_t most_frame);
void hand_close(struct hand *hand, struct stage *stage);

/* Lets the service take at once as much memory as `peers` later ones of small frames will ever need together: a buffer
 * of its pool and a piece of a frame for each. From then on it takes none. */
void stage_warm_up(struct stage *stage, unsigned peers);

#endif
