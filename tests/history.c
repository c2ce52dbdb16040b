/* SPDX-License-Identifier: MIT
 *
 * Histories as memory and as text. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

static void *grown(void *memory, size_t *room, size_t wanted, size_t size)
{
    if (wanted <= *room)
        return memory;
    while (*room < wanted)
        *room = *room ? *room * 2 : 256;
    memory = realloc(memory, *room * size);
    if (!memory)
        abort();
    return memory;
}

struct event *history_add(struct history *h, struct event event)
{
    h->events = grown(h->events, &h->room, h->count + 1, sizeof *h->events);
    h->events[h->count] = event;
    return &h->events[h->count++];
}

size_t history_keep(struct history *h, const void *data, size_t size)
{
    size_t at = h->byte_count;
    h->bytes = grown(h->bytes, &h->byte_room, at + size, 1);
    if (size > 0)
        memcpy(h->bytes + at, data, size);
    h->byte_count += size;
    return at;
}

struct history history_copy(const struct history *h)
{
    struct history copy = {.prompt = h->prompt};
    for (size_t i = 0; i < h->count; i++)
        history_add(&copy, h->events[i]);
    history_keep(&copy, h->bytes, h->byte_count);
    return copy;
}

void history_free(struct history *h)
{
    free(h->events);
    free(h->bytes);
    memset(h, 0, sizeof *h);
}

/* What differs by kind. */
static const struct {
    const char *name;
    bool multi, receives, sends, closes;
} kinds[FLIGHT_KINDS] = {
    [FLIGHT_RECV] = {"recv", .receives = true},
    [FLIGHT_RECV_MULTI] = {"recv_multi", .multi = true, .receives = true},
    [FLIGHT_ACCEPT] = {"accept", .receives = true},
    [FLIGHT_ACCEPT_MULTI] = {"accept_multi", .multi = true, .receives = true},
    [FLIGHT_CONNECT] = {"connect", .sends = true},
    [FLIGHT_SEND] = {"send", .sends = true},
    [FLIGHT_SEND_SLICES] = {"send_slices", .sends = true},
    [FLIGHT_TRY_SEND] = {"try_send", .sends = true},
    [FLIGHT_SHUTDOWN] = {"shutdown", .sends = true},
    [FLIGHT_POLL] = {"poll"},
    [FLIGHT_POLL_MULTI] = {"poll_multi", .multi = true},
    [FLIGHT_TIMER] = {"timer"},
    [FLIGHT_TIMER_EVERY] = {"timer_every", .multi = true},
    [FLIGHT_POST] = {"post"},
    [FLIGHT_CLOSE] = {"close", .closes = true},
    [FLIGHT_ABORT] = {"abort", .closes = true},
    [FLIGHT_RELEASE] = {"release", .closes = true},
};

const char *event_name(enum event_what what)
{
    static const char *const names[EVENT_WHATS] = {
        [EVENT_OPEN] = "open",         [EVENT_DISCARD] = "discard", [EVENT_START] = "start",
        [EVENT_DONE] = "done",         [EVENT_CANCEL] = "cancel",   [EVENT_CANCEL_ALL] = "cancel all",
        [EVENT_DEADLINE] = "deadline", [EVENT_CREDIT] = "credit",   [EVENT_PAUSE] = "pause",
        [EVENT_RETURN] = "return",     [EVENT_SPLIT] = "split",     [EVENT_BOOKS] = "books",
        [EVENT_FREE] = "free",         [EVENT_END] = "end",
    };
    return names[what];
}

const char *flight_name(enum flight_kind kind)
{
    return kinds[kind].name;
}

bool flight_is_multi(enum flight_kind kind)
{
    return kinds[kind].multi;
}

bool flight_receives(enum flight_kind kind)
{
    return kinds[kind].receives;
}

bool flight_sends(enum flight_kind kind)
{
    return kinds[kind].sends;
}

bool flight_closes(enum flight_kind kind)
{
    return kinds[kind].closes;
}

static void print_start(const struct event *e, FILE *to)
{
    fprintf(to, "start %u: %s", e->flight, flight_name(e->kind));
    if (e->handle != NOBODY)
        fprintf(to, " on h%u", e->handle);
    fprintf(to, ", size %u%s", e->size, e->flags & PRO_RECV_ALL ? ", all" : "");
    if (e->kind == FLIGHT_TIMER || e->kind == FLIGHT_TIMER_EVERY)
        fprintf(to, ", at %+lld, every %llu", (long long)(e->at - e->now), (unsigned long long)e->every);
    if (e->preset)
        fprintf(to, ", deadline %+lld", (long long)(e->preset - e->now));
}

static void print_done(const struct event *e, FILE *to)
{
    fprintf(to, "   done %u: %s ", e->flight, flight_name(e->kind));
    if (e->res < 0)
        fprintf(to, "%s", pro_error_name(e->res));
    else
        fprintf(to, "%d", e->res);
    fprintf(to, "%s%s%s", e->flags & PRO_MORE ? " MORE" : "", e->flags & PRO_EOF ? " EOF" : "",
            e->flags & PRO_PAUSED ? " PAUSED" : "");
    if (e->moved)
        fprintf(to, ", moved %u", e->moved);
    fprintf(to, "%s", e->nested ? ", inside a call" : "");
}

static void print_event(const struct event *e, FILE *to)
{
    const char *name = event_name(e->what);
    switch (e->what) {
    case EVENT_OPEN:
        fprintf(to, "%s h%u: descriptor %d, end %d opposite %d", name, e->handle, e->res, (int16_t)e->end,
                (int16_t)e->peer);
        break;
    case EVENT_START:
        print_start(e, to);
        break;
    case EVENT_DONE:
        print_done(e, to);
        break;
    case EVENT_CANCEL_ALL:
        fprintf(to, "%s on h%u", name, e->handle);
        break;
    case EVENT_DEADLINE:
        fprintf(to, "%s of %u: %+lld", name, e->flight, e->at ? (long long)(e->at - e->now) : 0);
        break;
    case EVENT_CREDIT:
        fprintf(to, "%s for %u: %u", name, e->flight, e->size);
        break;
    case EVENT_CANCEL:
    case EVENT_PAUSE:
        fprintf(to, "%s %u", name, e->flight);
        break;
    case EVENT_RETURN:
    case EVENT_SPLIT:
        fprintf(to, "%s %u", name, e->size);
        break;
    case EVENT_BOOKS:
        fprintf(to, "%s: %llu = %llu + %llu", name, (unsigned long long)e->started, (unsigned long long)e->completed,
                (unsigned long long)e->flying);
        break;
    case EVENT_END:
        fprintf(to, "%s, %llu slices out", name, (unsigned long long)e->started);
        break;
    default:
        fputs(name, to);
    }
}

void history_print(const struct history *h, size_t first, size_t most, FILE *to)
{
    for (size_t i = first; i < h->count && i - first < most; i++) {
        const struct event *e = &h->events[i];
        fprintf(to, "%4zu turn %3llu +%llu %s ", i, (unsigned long long)e->turn,
                (unsigned long long)((e->now - h->events[0].now) / 1000), e->inside ? "in " : "out");
        print_event(e, to);
        fputc('\n', to);
    }
}
