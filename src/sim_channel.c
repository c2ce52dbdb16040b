/* SPDX-License-Identifier: MIT
 *
 * Bytes under way. The ring grows as bytes need it, so that an idle connection has none; pieces arrive in the order they
 * were sent, for each is at least as late as the one before. */
#include "sim_channel.h"

#include <string.h>

enum { MOST_PIECES = 4 };

static void copy_in(struct sim_channel *c, const uint8_t *from, uint32_t size)
{
    uint32_t at = (c->first + c->held) & (c->room - 1), run = c->room - at < size ? c->room - at : size;
    memcpy(c->data + at, from, run);
    memcpy(c->data, from + run, size - run);
    c->held += size;
}

static void copy_out(const struct sim_channel *c, uint8_t *to, uint32_t size)
{
    uint32_t run = c->room - c->first < size ? c->room - c->first : size;
    memcpy(to, c->data + c->first, run);
    memcpy(to + run, c->data, size - run);
}

/* A power of two that holds `size`. */
static void make_room(struct pro_sim *sim, struct sim_channel *c, uint32_t size)
{
    uint32_t room = c->room ? c->room : 64;
    while (room < size)
        room *= 2;
    if (room == c->room)
        return;
    uint8_t *data = proi_world_alloc(sim, room);
    if (c->held > 0)
        copy_out(c, data, c->held);
    proi_world_free(sim, c->data, c->room);
    c->data = data;
    c->room = room;
    c->first = 0;
}

static struct sim_flight *flight_at(const struct sim_channel *c, uint32_t i)
{
    return &c->flights[(c->flight_first + i) & (c->flight_room - 1)];
}

static void add_flight(struct pro_sim *sim, struct sim_channel *c, uint32_t size, bool end)
{
    uint64_t at = c->instant ? sim->now : sim->now + proi_sim_latency(sim);
    if (c->flight_count == c->flight_room) {
        uint32_t old = c->flight_room;
        c->flights = proi_world_grow(sim, c->flights, &c->flight_room, sizeof *c->flights);
        for (uint32_t i = 0; i < c->flight_first; i++)
            c->flights[old + i] = c->flights[i];
    }
    if (c->flight_count > 0 && flight_at(c, c->flight_count - 1)->at > at)
        at = flight_at(c, c->flight_count - 1)->at;
    *flight_at(c, c->flight_count++) = (struct sim_flight){at, size, end};
}

void proi_sim_channel_free(struct pro_sim *sim, struct sim_channel *c)
{
    proi_world_free(sim, c->data, c->room);
    proi_world_free(sim, c->flights, c->flight_room * sizeof *c->flights);
}

uint32_t proi_sim_channel_room(const struct sim_channel *c)
{
    return c->held < c->limit ? c->limit - c->held : 0;
}

void proi_sim_channel_send(struct pro_sim *sim, struct sim_channel *c, const struct iovec *iov, size_t count,
                           uint32_t size)
{
    uint32_t left = size;
    make_room(sim, c, c->held + size);
    c->sent += size;
    for (size_t i = 0; i < count && left > 0; i++) {
        uint32_t run = iov[i].iov_len < left ? (uint32_t)iov[i].iov_len : left;
        copy_in(c, iov[i].iov_base, run);
        left -= run;
    }
    proi_assert(left == 0);
    for (unsigned pieces = 1; pieces < MOST_PIECES && size > 1 && !c->borders && !c->instant; pieces++) {
        if (!pro_sim_chance(sim, PRO_SIM_SEGMENT))
            break;
        uint32_t part = proi_sim_part(sim, size);
        add_flight(sim, c, part, false);
        size -= part;
    }
    add_flight(sim, c, size, false);
}

void proi_sim_channel_end(struct pro_sim *sim, struct sim_channel *c)
{
    add_flight(sim, c, 0, true);
}

bool proi_sim_channel_swap(struct pro_sim *sim, struct sim_channel *c)
{
    if (c->flight_count < c->whole + 2 || flight_at(c, c->flight_count - 1)->end)
        return false;
    struct sim_flight *a = flight_at(c, c->flight_count - 2), *b = flight_at(c, c->flight_count - 1);
    uint32_t first = a->size, second = b->size, both = first + second;
    if (both > 0) {
        uint8_t *bytes = proi_world_alloc(sim, both);
        struct sim_channel end = *c;
        end.first = (c->first + c->held - both) & (c->room - 1);
        copy_out(&end, bytes, both);
        c->held -= both;
        copy_in(c, bytes + first, second);
        copy_in(c, bytes, first);
        proi_world_free(sim, bytes, both);
    }
    a->size = second;
    b->size = first;
    return true;
}

uint64_t proi_sim_channel_next(const struct sim_channel *c)
{
    return c->flight_count > c->whole ? flight_at(c, c->whole)->at : PRO_NEVER;
}

static void drop_flight(struct sim_channel *c)
{
    c->flight_first = (c->flight_first + 1) & (c->flight_room - 1);
    c->flight_count--;
}

uint32_t proi_sim_channel_arrive(struct sim_channel *c)
{
    struct sim_flight flight = *flight_at(c, c->whole);
    if (flight.end) {
        c->ended = true;
        c->flight_count--; /* it is the last */
    } else if (c->borders) {
        c->whole++;
    } else {
        drop_flight(c);
    }
    c->arrived += flight.size;
    c->received += flight.size;
    return flight.size;
}

bool proi_sim_channel_readable(const struct sim_channel *c)
{
    return c->borders ? c->whole > 0 : c->arrived > 0;
}

static void take(struct sim_channel *c, uint32_t size)
{
    c->first = (c->first + size) & (c->room - 1);
    c->held -= size;
    c->arrived -= size;
}

uint32_t proi_sim_channel_read(struct sim_channel *c, void *data, uint32_t size, bool peek)
{
    uint32_t there = c->borders ? flight_at(c, 0)->size : c->arrived, n = size < there ? size : there;
    if (n > 0)
        copy_out(c, data, n);
    if (peek)
        return n;
    c->read += n;
    if (c->borders) {
        c->lost += there - n;
        take(c, there);
        drop_flight(c);
        c->whole--;
    } else {
        take(c, n);
    }
    return n;
}

void proi_sim_channel_cut(struct sim_channel *c, bool all)
{
    uint32_t kept = all ? 0 : c->arrived;
    c->lost += c->held - kept;
    c->held = c->arrived = kept;
    c->flight_count = c->whole = all ? 0 : c->whole;
}

void proi_sim_channel_audit(struct pro_sim *sim, const struct sim_channel *c)
{
    uint64_t under_way = 0, borders = 0;
    for (uint32_t i = 0; i < c->flight_count; i++)
        *(i < c->whole ? &borders : &under_way) += flight_at(c, i)->size;
    if (c->sent != c->read + c->lost + c->held)
        pro_sim_fail(sim, "bytes: %llu sent, %llu read, %llu lost, %u held", (unsigned long long)c->sent,
                     (unsigned long long)c->read, (unsigned long long)c->lost, c->held);
    if (c->arrived + under_way != c->held || (c->borders && borders != c->arrived))
        pro_sim_fail(sim, "bytes: %u held, %u arrived, %llu under way", c->held, c->arrived,
                     (unsigned long long)under_way);
}
