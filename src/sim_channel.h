/* SPDX-License-Identifier: MIT
 *
 * One direction of a simulated connection: what is under way to a node, and what has arrived there.
 *
 *      read <-- [ arrived | under way, in flights ] <-- sent
 */
#ifndef PROI_SIM_CHANNEL_H
#define PROI_SIM_CHANNEL_H

#include <sys/uio.h>

#include "sim_world.h"

/* A piece under way; of a channel with borders also one that waits to be read. */
struct sim_flight {
    uint64_t at;
    uint32_t size;
    bool end; /* no bytes, but the end of file */
};

struct sim_channel {
    uint8_t *data; /* a ring, as large as was needed so far */
    uint32_t room, first, held;
    uint32_t arrived; /* of those held */
    uint32_t limit;
    bool borders, ended, instant;
    struct sim_flight *flights; /* a ring */
    uint32_t flight_room, flight_first, flight_count;
    uint32_t whole; /* with borders: flights that have arrived, which are the first ones */
    uint64_t sent, read, lost, received;
};

void proi_sim_channel_free(struct pro_sim *sim, struct sim_channel *channel);
/* Bytes that it has room for. */
uint32_t proi_sim_channel_room(const struct sim_channel *channel);
/* Puts bytes under way, not more than there is room for; and the end of file. */
void proi_sim_channel_send(struct pro_sim *sim, struct sim_channel *channel, const struct iovec *iov, size_t count,
                           uint32_t size);
void proi_sim_channel_end(struct pro_sim *sim, struct sim_channel *channel);
/* The two datagrams that were sent last change places, if both are under way. */
bool proi_sim_channel_swap(struct pro_sim *sim, struct sim_channel *channel);
/* When the next piece arrives; PRO_NEVER when none is under way. */
uint64_t proi_sim_channel_next(const struct sim_channel *channel);
/* Lets it arrive, and returns its bytes. */
uint32_t proi_sim_channel_arrive(struct sim_channel *channel);
/* Whether a read would bring something, be it an empty datagram. */
bool proi_sim_channel_readable(const struct sim_channel *channel);
/* Reads what has arrived, without taking it if `peek`; of a datagram what fits. */
uint32_t proi_sim_channel_read(struct sim_channel *channel, void *data, uint32_t size, bool peek);
/* What is under way is lost; also what has arrived, if `all`. */
void proi_sim_channel_cut(struct sim_channel *channel, bool all);
/* Fails if the counts do not add up. */
void proi_sim_channel_audit(struct pro_sim *sim, const struct sim_channel *channel);

#endif
