/* SPDX-License-Identifier: MIT */
#include "sim_ways.h"

#include <string.h>

enum { STEP = 4 }; /* in the pattern, from one sending to the next */

/* ---- The pattern ---- */

static uint8_t pattern[256 * STEP + SENDING_MOST];

static void make_pattern(void)
{
    uint32_t x = 1;
    for (uint32_t i = 0; i < sizeof pattern; i++) {
        x = x * 1664525 + 1013904223;
        pattern[i] = (uint8_t)(x >> 24);
    }
    for (uint32_t n = 0; n < 256; n++) /* the first byte of each is its own */
        pattern[n * STEP] = (uint8_t)n;
}

const uint8_t *sending_bytes(uint32_t n)
{
    if (pattern[STEP] == 0)
        make_pattern();
    return pattern + (n & 255) * STEP;
}

uint32_t datagram_size(uint32_t n)
{
    return 1 + (n * 2654435761u >> 8) % DATAGRAM_MOST;
}

/* ---- A way ---- */

void way_init(struct way *way, struct pro_sim *sim)
{
    *way = (struct way){.sim = sim, .cut = UINT32_MAX};
}

bool way_open(const struct way *way)
{
    return way->next - way->first < WAY_ROOM;
}

static struct sending *sending_at(struct way *way, uint32_t n)
{
    return &way->sendings[n % WAY_ROOM];
}

uint32_t way_begin(struct way *way, uint32_t size)
{
    *sending_at(way, way->next) = (struct sending){.size = size};
    return way->next++;
}

/* What is over and received to its last byte is behind us. */
static void settle(struct way *way)
{
    while (way->at < way->next) {
        const struct sending *s = sending_at(way, way->at);
        if (!s->over || s->moved > way->got)
            break;
        way->at++;
        way->got = 0;
    }
    while (way->first < way->at && sending_at(way, way->first)->over)
        way->first++;
}

/* Nothing that came after a cut has moved. */
static void check_cut(struct way *way)
{
    for (uint32_t n = way->cut + 1; way->cut != UINT32_MAX && n < way->next; n++)
        if (sending_at(way, n)->over && sending_at(way, n)->moved > 0)
            pro_sim_fail(way->sim, "sending %u was cut, and %u bytes of sending %u went all the same", way->cut,
                         sending_at(way, n)->moved, n);
}

void way_over(struct way *way, uint32_t n, uint32_t moved, int res)
{
    struct sending *s = sending_at(way, n);
    uint32_t received = n > way->at ? 0 : n == way->at ? way->got : s->skipped ? 0 : s->size;
    if (s->over || n - way->first >= WAY_ROOM)
        pro_sim_fail(way->sim, "sending %u is over twice", n);
    if (moved > s->size || (res >= 0 ? (uint32_t)res != moved : moved == s->size))
        pro_sim_fail(way->sim, "a sending of %u bytes ends with %d, %u moved", s->size, res, moved);
    if (received > moved || (s->skipped && moved > 0))
        pro_sim_fail(way->sim, "%u bytes of sending %u were received%s, and %u moved", received, n,
                     s->skipped ? " and passed over" : "", moved);
    s->over = true;
    s->moved = moved;
    if (res < 0 && moved > 0 && n < way->cut)
        way->cut = n;
    check_cut(way);
    settle(way);
}

void way_mend(struct way *way)
{
    way->cut = UINT32_MAX;
}

/* At the beginning of a sending: those of which nothing went are passed over. */
static void pass_over(struct way *way, uint8_t first_byte)
{
    for (; way->at < way->next; way->at++) {
        struct sending *s = sending_at(way, way->at);
        if ((!s->over || s->moved > 0) && (uint8_t)way->at == first_byte)
            return;
        if (s->over && s->moved > 0)
            pro_sim_fail(way->sim, "byte 0x%02x comes where sending %u should begin", first_byte, way->at);
        s->skipped = true;
    }
    pro_sim_fail(way->sim, "byte 0x%02x comes, and nobody has sent it", first_byte);
}

/* How much of what is being received may still come; it goes on to the next one first if that is nothing. */
static uint32_t expect(struct way *way, uint8_t next_byte)
{
    const struct sending *s = sending_at(way, way->at);
    if (way->at < way->next && way->got > 0 && way->got == s->size) {
        way->at++;
        way->got = 0;
    }
    if (way->got == 0)
        pass_over(way, next_byte);
    s = sending_at(way, way->at);
    return (s->over ? s->moved : s->size) - way->got;
}

void way_receive(struct way *way, const uint8_t *data, uint32_t size)
{
    if (way->ended && !way->loose)
        pro_sim_fail(way->sim, "%u bytes come after the end of file", size);
    while (size > 0) {
        uint32_t left = expect(way, *data), run = left < size ? left : size;
        if (memcmp(data, sending_bytes(way->at) + way->got, run) != 0)
            pro_sim_fail(way->sim, "other bytes come than those of sending %u from %u on", way->at, way->got);
        way->got += run;
        data += run;
        size -= run;
        settle(way);
    }
}

void way_end(struct way *way)
{
    way->ended = true;
}

/* Of the n-th, and if there is more. */
static bool is_owed(const struct way *way, uint32_t n, uint32_t *ret_got, uint32_t *ret_moved)
{
    const struct sending *s = &way->sendings[n % WAY_ROOM];
    *ret_got = n == way->at ? way->got : 0;
    *ret_moved = s->over ? s->moved : 0;
    return *ret_moved > *ret_got;
}

bool way_holds(const struct way *way)
{
    uint32_t got, moved;
    for (uint32_t n = way->at; !way->ended && !way->loose && n < way->next; n++)
        if (is_owed(way, n, &got, &moved))
            return true;
    return false;
}

void way_judge(const struct way *way)
{
    uint32_t got, moved;
    for (uint32_t n = way->at; way->ended && !way->loose && n < way->next; n++) {
        if (is_owed(way, n, &got, &moved))
            pro_sim_fail(way->sim, "an end of file was received, and %u of %u bytes of sending %u", got, moved, n);
    }
}

void way_receive_datagram(const struct way *way, const uint8_t *data, uint32_t size, bool cut)
{
    uint32_t n = size > 0 ? data[0] : 0;
    if (size == 0 || n >= way->next)
        pro_sim_fail(way->sim, "a datagram of %u bytes comes that nobody has sent", size);
    if (size > datagram_size(n) || (size < datagram_size(n) && !cut))
        pro_sim_fail(way->sim, "a datagram of %u bytes comes with %u", datagram_size(n), size);
    if (memcmp(data, sending_bytes(n), size) != 0)
        pro_sim_fail(way->sim, "datagram %u comes with the bytes of another", n);
}

/* ---- A file ---- */

void paper_init(struct paper *paper, struct pro_sim *sim, bool stream_writes, uint32_t size)
{
    memset(paper, 0, sizeof *paper);
    paper->sim = sim;
    paper->stream_writes = stream_writes;
    paper->size = size;
    paper->cut = UINT32_MAX;
    memcpy(paper->bytes, sending_bytes(0), size);
}

bool paper_open(const struct paper *paper, uint32_t size)
{
    return paper->next - paper->first < PAPER_WRITES && (!paper->stream_writes || size <= PAPER_ROOM - paper->planned);
}

uint32_t paper_begin(struct paper *paper, uint32_t offset, uint32_t size)
{
    uint32_t i = paper->next % PAPER_WRITES;
    paper->writes[i].offset = offset;
    paper->writes[i].size = size;
    paper->writes[i].over = false;
    paper->planned += size;
    paper->version++;
    return paper->next++;
}

/* Writes happen in the order they were started, whatever the order in which that is told. */
static void put_down(struct paper *paper)
{
    for (; paper->first < paper->next && paper->writes[paper->first % PAPER_WRITES].over; paper->first++) {
        uint32_t i = paper->first % PAPER_WRITES, moved = paper->writes[i].moved;
        uint32_t at = paper->stream_writes ? paper->position : paper->writes[i].offset;
        memcpy(paper->bytes + at, sending_bytes(paper->first), moved);
        if (moved > 0 && at + moved > paper->size)
            paper->size = at + moved;
        paper->position += paper->stream_writes ? moved : 0;
    }
}

void paper_over(struct paper *paper, uint32_t n, uint32_t moved, int res)
{
    uint32_t i = n % PAPER_WRITES, size = paper->writes[i].size;
    if (paper->writes[i].over || moved > size || (res >= 0 ? (uint32_t)res != moved : moved == size))
        pro_sim_fail(paper->sim, "a write of %u bytes ends with %d, %u moved", size, res, moved);
    if (moved > 0 && n > paper->cut)
        pro_sim_fail(paper->sim, "write %u was cut, and %u bytes of write %u went all the same", paper->cut, moved, n);
    if (paper->stream_writes && res < 0 && moved > 0 && n < paper->cut)
        paper->cut = n;
    paper->writes[i].over = true;
    paper->writes[i].moved = moved;
    put_down(paper);
}

void paper_mend(struct paper *paper)
{
    paper->cut = UINT32_MAX;
}

bool paper_still(const struct paper *paper)
{
    return paper->first == paper->next;
}

void paper_read(struct paper *paper, uint32_t offset, const uint8_t *data, uint32_t size, bool known)
{
    bool in_stream = offset == UINT32_MAX;
    uint32_t at = in_stream ? paper->position : offset;
    paper->position += in_stream ? size : 0;
    if (!known)
        return;
    if (size == 0 ? at < paper->size : at + size > paper->size)
        pro_sim_fail(paper->sim, "a read of a file of %u bytes brings %u from %u on", paper->size, size, at);
    if (memcmp(data, paper->bytes + at, size) != 0)
        pro_sim_fail(paper->sim, "a file has other bytes than were written, of %u from %u on", size, at);
}
