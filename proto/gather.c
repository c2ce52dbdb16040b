/* SPDX-License-Identifier: MIT
 *
 * The happy path: large frames fill their slices, the slices are pushed on the list, and go out from it.
 *
 * Chunks are for the rest: a peer that sends a frame in dribs and drabs would pin a buffer of 64 KiB with each. Small
 * pieces are copied into the newest chunk as long as it has room. When it has none, another is pushed on the list,
 * twice as large, so that the memory is less than twice the bytes received (or the smallest chunk); and no larger than
 * what the frame can still bring. Nothing ever moves: a chunk that was started is filled in place, and a list of seven
 * goes out as well as one would.
 *
 *     struct gather_chunk | head room for a header | payload bytes ... room |
 *                                                   '--- node.data, .size
 *
 * The piece that leaves first is the newest, and the header must stand before it. If the oldest slice begins with the
 * header, five bytes are split off there and lead the list. Else the newest chunk has room for one, and if the newest
 * piece is a slice, an empty chunk is pushed, which is nothing but that room.
 *
 * Until it is written, a chunk stands in the list by the slice in its struct pro_stream_write, which is nobody else's
 * until then. `charge`, which is the holder's to use, tells chunks from slices.
 */
#include "gather.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"

#define SPARES_MOST 64

enum { IS_SLICE, IS_HEADED_SLICE, IS_CHUNK };

struct gather_chunk {
    struct pro_stream_write write; /* write.node links it and counts its bytes until it is written */
    struct gather_cache *cache;
    uint32_t capacity; /* payload bytes */
    uint8_t bytes[];   /* head room, payload */
};

#define SMALL_SIZE (offsetof(struct gather_chunk, bytes) + FRAME_HEADER_SIZE + GATHER_SMALL)

static_assert(SMALL_SIZE <= 256, "a peer that stalls in its first bytes costs a quarter of a kibibyte");

#define GATHER_ASSERT(condition) ((condition) ? (void)0 : gather_panic(__func__, #condition))

static _Noreturn void gather_panic(const char *function, const char *condition)
{
    fprintf(stderr, "gather: %s: assertion failed: %s\n", function, condition);
    abort();
}

static struct gather_chunk *chunk_of(struct pro_slice *piece)
{
    GATHER_ASSERT(piece->charge == IS_CHUNK);
    return PRO_CONTAINER_OF(piece, struct gather_chunk, write.node);
}

/* ---- Chunks ---- */

static struct gather_chunk *chunk_new(struct gather_cache *cache, size_t capacity)
{
    struct gather_chunk *chunk = cache->spare;
    if (capacity <= GATHER_SMALL)
        capacity = GATHER_SMALL;
    if (capacity == GATHER_SMALL && chunk) {
        cache->spare = chunk->write.node.next ? chunk_of(chunk->write.node.next) : NULL;
        cache->spares--;
    } else {
        chunk = malloc(offsetof(struct gather_chunk, bytes) + FRAME_HEADER_SIZE + capacity);
        if (!chunk)
            return NULL;
    }
    cache->out++;
    chunk->cache = cache;
    chunk->capacity = (uint32_t)capacity;
    chunk->write.node = (struct pro_slice){.data = chunk->bytes + FRAME_HEADER_SIZE, .charge = IS_CHUNK};
    return chunk;
}

static void chunk_free(struct gather_chunk *chunk)
{
    struct gather_cache *cache = chunk->cache;
    GATHER_ASSERT(cache->out > 0);
    cache->out--;
    if (chunk->capacity != GATHER_SMALL || cache->spares == SPARES_MOST) {
        free(chunk);
        return;
    }
    chunk->write.node =
        (struct pro_slice){.next = cache->spare ? &cache->spare->write.node : NULL, .charge = IS_CHUNK};
    cache->spare = chunk;
    cache->spares++;
}

void gather_cache_clear(struct gather_cache *cache)
{
    GATHER_ASSERT(cache->out == 0);
    while (cache->spare) {
        struct gather_chunk *chunk = cache->spare;
        cache->spare = chunk->write.node.next ? chunk_of(chunk->write.node.next) : NULL;
        free(chunk);
    }
    cache->spares = 0;
}

/* ---- Holding ---- */

static void push(struct gather *gather, struct pro_slice *piece)
{
    piece->next = gather->newest;
    gather->newest = piece;
}

static struct pro_slice *pop(struct gather *gather)
{
    struct pro_slice *piece = gather->newest;
    gather->newest = piece->next;
    piece->next = NULL;
    return piece;
}

void gather_take(struct gather *gather, struct pro_slice *slice, bool headed)
{
    GATHER_ASSERT(slice->size > (headed ? FRAME_HEADER_SIZE : 0));
    GATHER_ASSERT(!headed || !gather->newest);
    slice->charge = headed ? IS_HEADED_SLICE : IS_SLICE;
    push(gather, slice);
}

static struct gather_chunk *newest_chunk(const struct gather *gather)
{
    bool is = gather->newest && gather->newest->charge == IS_CHUNK;
    return is ? chunk_of(gather->newest) : NULL;
}

/* What the next chunk should hold, when `size` bytes do not fit into the last one and `left` may follow. */
static size_t next_capacity(const struct gather_chunk *last, size_t size, size_t left)
{
    size_t wanted = last ? 2 * (size_t)last->capacity : 0;
    if (wanted > size + left)
        wanted = size + left;
    return wanted > size ? wanted : size;
}

static void chunk_fill(struct gather_chunk *chunk, const uint8_t *data, size_t size)
{
    struct pro_slice *node = &chunk->write.node;
    GATHER_ASSERT(size <= chunk->capacity - node->size);
    memcpy(node->data + node->size, data, size);
    node->size += (uint32_t)size;
}

int gather_copy(struct gather *gather, struct gather_cache *cache, const uint8_t *data, size_t size,
                size_t left)
{
    GATHER_ASSERT(size > 0 && size + left <= FRAME_PAYLOAD_MAX);
    struct gather_chunk *last = newest_chunk(gather), *next = NULL;
    size_t room = last ? last->capacity - last->write.node.size : 0;
    size_t here = size < room ? size : room;
    if (here < size) {
        next = chunk_new(cache, next_capacity(last, size - here, left));
        if (!next)
            return -ENOMEM;
    }
    if (here > 0)
        chunk_fill(last, data, here);
    if (next) {
        chunk_fill(next, data + here, size - here);
        push(gather, &next->write.node);
    }
    return 0;
}

void gather_drop(struct gather *gather)
{
    while (gather->newest) {
        struct pro_slice *piece = pop(gather);
        if (piece->charge == IS_CHUNK)
            chunk_free(chunk_of(piece));
        else
            pro_slice_return(piece);
    }
}

/* ---- Answering ---- */

static void on_written(struct pro_stream *stream, struct pro_stream_write *write, int res)
{
    (void)stream, (void)res;
    chunk_free(PRO_CONTAINER_OF(write, struct gather_chunk, write));
}

static void write_chunk(struct pro_stream *stream, struct gather_chunk *chunk, uint32_t head)
{
    uint8_t *data = chunk->bytes + FRAME_HEADER_SIZE - head;
    size_t size = chunk->write.node.size + head;
    chunk->write = (struct pro_stream_write){0};
    pro_stream_write(stream, &chunk->write, data, size, on_written);
}

/* Takes the header off the oldest piece if it has one. Returns it as a slice, or NULL: then it has to be written. */
static struct pro_slice *take_header(struct gather *gather)
{
    struct pro_slice **link = &gather->newest, *payload;
    if (!*link)
        return NULL;
    while ((*link)->next)
        link = &(*link)->next;
    struct pro_slice *oldest = *link;
    if (oldest->charge != IS_HEADED_SLICE)
        return NULL;
    oldest->charge = IS_SLICE;
    if (pro_slice_split(oldest, FRAME_HEADER_SIZE, &payload) < 0) {
        oldest->data += FRAME_HEADER_SIZE;
        oldest->size -= FRAME_HEADER_SIZE;
        return NULL;
    }
    payload->charge = IS_SLICE;
    *link = payload;
    return oldest;
}

/* Room for a header before the newest piece: a chunk. */
static struct gather_chunk *lead(struct gather *gather, struct gather_cache *cache)
{
    struct gather_chunk *chunk = newest_chunk(gather);
    if (!chunk) {
        chunk = chunk_new(cache, 0);
        if (chunk)
            push(gather, &chunk->write.node);
    }
    return chunk;
}

int gather_answer(struct gather *gather, struct gather_cache *cache, struct pro_stream *stream,
                  uint32_t length)
{
    uint32_t head = 0, bytes = 0;
    struct pro_slice *header = take_header(gather);
    if (header) {
        pro_stream_write_slices(stream, header);
    } else {
        struct gather_chunk *chunk = lead(gather, cache);
        if (!chunk)
            return -ENOMEM;
        frame_header_write(chunk->bytes, length);
        head = FRAME_HEADER_SIZE;
    }
    while (gather->newest) {
        struct pro_slice *piece = pop(gather);
        frame_reverse(piece->data, piece->size);
        bytes += piece->size;
        if (piece->charge == IS_CHUNK)
            write_chunk(stream, chunk_of(piece), head);
        else
            pro_stream_write_slices(stream, piece);
        head = 0;
    }
    GATHER_ASSERT(bytes == length);
    return 0;
}
