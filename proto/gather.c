/* SPDX-License-Identifier: MIT
 *
 * The happy path: large frames fill their slices, the slices are pushed on the list, and go out from it.
 *
 * Chunks are for the rest: a peer that sends a frame in dribs and drabs would pin a buffer of half a megabyte with each. Small
 * pieces are copied into the newest chunk as long as it has room. When it has none, another is pushed on the list,
 * twice as large, so that the memory is at most about three times the bytes received (or the smallest chunk); and no
 * larger than what the frame can still bring. Nothing ever moves: a chunk that was started is filled in place, and a
 * list of seven goes out as well as one would.
 *
 *     struct gather_chunk | head room for a header | payload bytes ... room |
 *                                                   '--- node.data, .size
 *
 * The piece that leaves first is the newest, and the header must stand before it. If that is a chunk, it has room for
 * one. If it is a slice and the oldest slice begins with the header, five bytes are split off there and lead the list,
 * so that slices alone go out in one send. Else an empty chunk is pushed, which is nothing but that room.
 *
 * Until it is written, a chunk stands in the list by the slice in its struct pro_stream_write, which is nobody else's
 * until then. `charge`, which is the holder's to use, tells chunks from slices.
 */
#include "gather.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "frame.h"

#define SPARE_BYTES_MOST (1u << 20)

enum { IS_SLICE, IS_HEADED_SLICE, IS_CHUNK };

struct gather_chunk {
    struct pro_stream_write write; /* write.node links it and counts its bytes until it is written */
    struct gather_cache *cache;
    uint32_t order;  /* its memory is 256 << order bytes */
    uint8_t bytes[]; /* head room, payload */
};

#define SMALLEST (offsetof(struct gather_chunk, bytes) + FRAME_HEADER_SIZE + GATHER_SMALL)

static_assert(SMALLEST == 256, "a peer that stalls in its first bytes costs a quarter of a kibibyte");

static struct gather_chunk *chunk_of(struct pro_slice *piece)
{
    CHECK(piece->charge == IS_CHUNK);
    return PRO_CONTAINER_OF(piece, struct gather_chunk, write.node);
}

/* ---- Chunks ---- */

static size_t capacity_of(uint32_t order)
{
    CHECK(order < GATHER_ORDERS);
    return ((size_t)SMALLEST << order) - (SMALLEST - GATHER_SMALL);
}

static uint32_t order_for(size_t bytes)
{
    uint32_t order = 0;
    while (order < GATHER_ORDERS && capacity_of(order) < bytes)
        order++;
    CHECK(order < GATHER_ORDERS);
    return order;
}

static struct gather_chunk *spare_pop(struct gather_cache *cache, uint32_t order)
{
    struct gather_chunk *chunk = cache->spare[order];
    if (!chunk)
        return NULL;
    cache->spare[order] = chunk->write.node.next ? chunk_of(chunk->write.node.next) : NULL;
    cache->spare_bytes -= (uint32_t)SMALLEST << order;
    if (--cache->count[order] < cache->least[order])
        cache->least[order] = cache->count[order];
    return chunk;
}

static struct gather_chunk *chunk_new(struct gather_cache *cache, uint32_t order)
{
    struct gather_chunk *chunk = spare_pop(cache, order);
    if (!chunk)
        chunk = malloc(SMALLEST << order);
    if (!chunk)
        return NULL;
    cache->out++;
    chunk->cache = cache;
    chunk->order = order;
    chunk->write.node = (struct pro_slice){.data = chunk->bytes + FRAME_HEADER_SIZE, .charge = IS_CHUNK};
    return chunk;
}

static void chunk_free(struct gather_chunk *chunk)
{
    struct gather_cache *cache = chunk->cache;
    uint32_t bytes = (uint32_t)SMALLEST << chunk->order;
    CHECK(cache->out > 0);
    cache->out--;
    if (!cache->watched || cache->spare_bytes + bytes > SPARE_BYTES_MOST) {
        free(chunk);
        return;
    }
    struct gather_chunk **first = &cache->spare[chunk->order];
    chunk->write.node = (struct pro_slice){.next = *first ? &(*first)->write.node : NULL, .charge = IS_CHUNK};
    *first = chunk;
    cache->count[chunk->order]++;
    cache->spare_bytes += bytes;
}

/* Frees it for good. The allocator may keep what lies below something that is in use, so the pages go first. */
static void chunk_drop(struct gather_chunk *chunk)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)chunk->bytes;
    uintptr_t end = (uintptr_t)chunk + ((uintptr_t)SMALLEST << chunk->order);
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    free(chunk);
}

bool gather_cache_trim(struct gather_cache *cache)
{
    for (uint32_t order = 0; order < GATHER_ORDERS; order++) {
        for (uint32_t unused = cache->least[order]; unused > 0; unused--)
            chunk_drop(spare_pop(cache, order));
        cache->least[order] = cache->count[order];
    }
    cache->watched = cache->spare_bytes > 0;
    return cache->watched;
}

void gather_cache_clear(struct gather_cache *cache)
{
    CHECK(cache->out == 0);
    for (uint32_t order = 0; order < GATHER_ORDERS; order++)
        for (struct gather_chunk *chunk; (chunk = spare_pop(cache, order)) != NULL;)
            free(chunk);
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
    CHECK(slice->size > (headed ? FRAME_HEADER_SIZE : 0));
    CHECK(!headed || !gather->newest);
    slice->charge = headed ? IS_HEADED_SLICE : IS_SLICE;
    push(gather, slice);
}

static struct gather_chunk *newest_chunk(const struct gather *gather)
{
    bool is = gather->newest && gather->newest->charge == IS_CHUNK;
    return is ? chunk_of(gather->newest) : NULL;
}

/* The next chunk, when `size` bytes do not fit into the last one and `left` may follow: twice as large as that. */
static uint32_t next_order(const struct gather_chunk *last, size_t size, size_t left)
{
    uint32_t least = order_for(size), most = order_for(size + left);
    uint32_t wanted = last ? last->order + 1 : 0;
    if (wanted > most)
        wanted = most;
    return wanted > least ? wanted : least;
}

static size_t room_in(const struct gather_chunk *chunk)
{
    return chunk ? capacity_of(chunk->order) - chunk->write.node.size : 0;
}

static void chunk_fill(struct gather_chunk *chunk, const uint8_t *data, size_t size)
{
    struct pro_slice *node = &chunk->write.node;
    CHECK(size <= room_in(chunk));
    memcpy(node->data + node->size, data, size);
    node->size += (uint32_t)size;
}

int gather_copy(struct gather *gather, struct gather_cache *cache, const uint8_t *data, size_t size, size_t left)
{
    CHECK(size > 0 && size + left <= FRAME_PAYLOAD_MAX);
    struct gather_chunk *last = newest_chunk(gather), *next = NULL;
    size_t room = room_in(last);
    size_t here = size < room ? size : room;
    if (here < size) {
        next = chunk_new(cache, next_order(last, size - here, left));
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
    if (newest_chunk(gather) || pro_slice_split(oldest, FRAME_HEADER_SIZE, &payload) < 0) {
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

int gather_answer(struct gather *gather, struct gather_cache *cache, struct pro_stream *stream, uint32_t length)
{
    uint32_t head = 0, bytes = 0;
    struct pro_slice *run = take_header(gather), **end = run ? &run->next : &run; /* slices that go out together */
    if (!run) {
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
        if (piece->charge != IS_CHUNK) {
            *end = piece;
            end = &piece->next;
            continue;
        }
        if (run)
            pro_stream_write_slices(stream, run);
        run = NULL;
        end = &run;
        write_chunk(stream, chunk_of(piece), head);
        head = 0;
    }
    if (run)
        pro_stream_write_slices(stream, run);
    CHECK(bytes == length);
    return 0;
}
