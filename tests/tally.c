/* SPDX-License-Identifier: MIT */
#include "tally.h"

#include <errno.h>

static enum outcome outcome_of(const struct event *e)
{
    if (e->flags & PRO_MORE)
        return OUTCOME_MORE;
    switch (e->res) {
    case -ECANCELED:
        return OUTCOME_CANCELLED;
    case -ETIME:
        return OUTCOME_LATE;
    case -ESHUTDOWN:
        return OUTCOME_SHUT_DOWN;
    default:
        return e->res < 0 ? OUTCOME_FAILED : e->flags & PRO_EOF ? OUTCOME_EOF : OUTCOME_DONE;
    }
}

static void add_done(struct tally *tally, const struct event *e)
{
    bool paused = e->flags & PRO_PAUSED;
    tally->seen[e->kind][outcome_of(e)]++;
    tally->answers += paused && e->res == 0;
    tally->used_up += paused && e->res > 0;
    tally->cut += e->res < 0 && e->moved > 0;
    tally->bytes += e->count;
}

void tally_add(struct tally *tally, const struct script *script, const struct history *h)
{
    tally->endings[script->ending]++;
    for (size_t i = 0; i < h->count; i++) {
        const struct event *e = &h->events[i];
        tally->events[e->what]++;
        tally->whole += e->what == EVENT_START && e->flags & PRO_RECV_ALL;
        if (e->what == EVENT_DONE)
            add_done(tally, e);
    }
}

static const char *const outcomes[OUTCOMES] = {"done", "more", "eof", "cancelled", "late", "shut down", "failed"};

#define BIT(outcome) (1u << (outcome))
enum {
    ENDED = BIT(OUTCOME_CANCELLED) | BIT(OUTCOME_LATE) | BIT(OUTCOME_SHUT_DOWN),
    ONCE = BIT(OUTCOME_DONE) | ENDED,
    SENT = ONCE | BIT(OUTCOME_FAILED),
    MANY = BIT(OUTCOME_MORE) | ENDED,
};

/* What can be. */
static const unsigned possible[FLIGHT_KINDS] = {
    [FLIGHT_RECV] = SENT | BIT(OUTCOME_EOF),
    [FLIGHT_RECV_MULTI] = MANY | BIT(OUTCOME_EOF) | BIT(OUTCOME_FAILED),
    [FLIGHT_ACCEPT] = ONCE,
    [FLIGHT_ACCEPT_MULTI] = MANY,
    [FLIGHT_CONNECT] = ONCE & ~BIT(OUTCOME_SHUT_DOWN), /* few sockets are still to be connected by then */
    [FLIGHT_SEND] = SENT,
    [FLIGHT_SEND_SLICES] = SENT,
    [FLIGHT_TRY_SEND] = BIT(OUTCOME_DONE) | BIT(OUTCOME_CANCELLED) | BIT(OUTCOME_FAILED),
    [FLIGHT_SHUTDOWN] = SENT,
    [FLIGHT_POLL] = ONCE,
    [FLIGHT_POLL_MULTI] = MANY,
    [FLIGHT_TIMER] = ONCE,
    [FLIGHT_TIMER_EVERY] = MANY,
    [FLIGHT_POST] = BIT(OUTCOME_DONE) | BIT(OUTCOME_CANCELLED),
    [FLIGHT_CLOSE] = BIT(OUTCOME_DONE) | BIT(OUTCOME_CANCELLED) | BIT(OUTCOME_LATE),
    [FLIGHT_ABORT] = BIT(OUTCOME_DONE),
    [FLIGHT_RELEASE] = BIT(OUTCOME_DONE),
};

void tally_print(const struct tally *tally, FILE *to)
{
    fprintf(to, "%-12s", "");
    for (unsigned i = 0; i < OUTCOMES; i++)
        fprintf(to, " %9s", outcomes[i]);
    fputc('\n', to);
    for (unsigned kind = 0; kind < FLIGHT_KINDS; kind++) {
        fprintf(to, "%-12s", flight_name((enum flight_kind)kind));
        for (unsigned i = 0; i < OUTCOMES; i++)
            fprintf(to, " %9lu", tally->seen[kind][i]);
        fputc('\n', to);
    }
    fprintf(to, "pauses answered %lu, credit used up %lu, sends cut %lu, to be received whole %lu, bytes %lu\n",
            tally->answers, tally->used_up, tally->cut, tally->whole, tally->bytes);
    for (unsigned i = 0; i < EVENT_WHATS; i++)
        fprintf(to, "%s %lu%s", event_name((enum event_what)i), tally->events[i], i + 1 < EVENT_WHATS ? ", " : "\n");
}

const char *tally_lacks(const struct tally *tally, unsigned long least)
{
    for (unsigned kind = 0; kind < FLIGHT_KINDS; kind++)
        for (unsigned i = 0; i < OUTCOMES; i++)
            if (possible[kind] & BIT(i) && tally->seen[kind][i] < least)
                return flight_name((enum flight_kind)kind);
    for (unsigned i = 0; i < EVENT_WHATS; i++)
        if (tally->events[i] < least)
            return event_name((enum event_what)i);
    for (unsigned i = 0; i < ENDINGS; i++)
        if (tally->endings[i] < least)
            return "an ending";
    if (tally->answers < least || tally->used_up < least)
        return "pauses";
    if (tally->whole < least || tally->bytes < least * least)
        return "bytes";
    return tally->cut < least ? "sends that were cut" : NULL;
}
