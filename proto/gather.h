/* SPDX-License-Identifier: MIT
 *
 * A frame whose payload comes in pieces: what is held of it, and its answer as a gather of the pieces.
 *
 *     payload as it comes     [ slice ][ bytes copied out of sparse slices ][ slice ][ rest ]
 *     held, newest first      rest -> slice -> chunk -> slice
 *     the answer              header, then the same list, each piece reversed in place
 *
 * A piece is a slice of the pool, which goes out as it is, or a chunk: heap memory for what would pin much more than
 * it holds. The parser knows the length, so a header need not be held, and is written anew; one that stands at the
 * front of the oldest slice is kept and used, for then the whole answer is slices and goes out in one send.
 *
 * One thread. Nothing here is allocated before payload bytes have come.
 */
#ifndef PROTO_GATHER_H
#define PROTO_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <proactor/stream.h>

struct gather_chunk;

/* Chunks that are not in use, by size, kept so that a steady flow of frames that slices cut in two allocates nothing.
 * What a burst left is freed by gather_cache_trim. It outlives every gather and every answer that drew on it. All zero
 * bytes is empty. */
#define GATHER_ORDERS 10 /* of 256 bytes, 512, ... 128 KiB */
struct gather_cache {
    struct gather_chunk *spare[GATHER_ORDERS];
    uint16_t count[GATHER_ORDERS]; /* of them */
    uint16_t least[GATHER_ORDERS]; /* that there were since the last trim */
    uint32_t spare_bytes;
    uint32_t out; /* chunks that are held or being sent */
    bool watched; /* its holder will call gather_cache_trim; else nothing is kept */
};

/* All zero bytes holds nothing. */
struct gather {
    struct pro_slice *newest;
};

/* Payload bytes that the smallest chunk takes: what fits is better copied than split off. */
#define GATHER_SMALL 183

/* Holds the payload bytes of `slice`, all of them, and owns it from now on. If it is the first piece of its frame and
 * `headed`, the frame's header stands before them in the slice. */
void gather_take(struct gather *gather, struct pro_slice *slice, bool headed);

/* Holds a copy of `size` bytes. At most `left` more are to come in this frame; no memory is set aside beyond that,
 * nor beyond about what is held already. -ENOMEM: nothing of them is held, and the frame is lost. */
int gather_copy(struct gather *gather, struct gather_cache *cache, const uint8_t *data, size_t size, size_t left);

/* The frame of `length` bytes is whole: reverses what is held, writes the answer to `stream`, and holds nothing any
 * more. -ENOMEM: nothing is written, and what is held is to be dropped. */
int gather_answer(struct gather *gather, struct gather_cache *cache, struct pro_stream *stream, uint32_t length);

/* Drops what is held. */
void gather_drop(struct gather *gather);

/* Frees the chunks that were spare all the time since the last call. True if others are left; else the cache is no
 * longer watched. */
bool gather_cache_trim(struct gather_cache *cache);

/* Frees the spare chunks. None may be out. */
void gather_cache_clear(struct gather_cache *cache);

#endif
