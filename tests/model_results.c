/* SPDX-License-Identifier: MIT
 *
 * The rules about what operations bring: bytes, slices, results and errors, in which order. */
#include "model_facts.h"

#include <poll.h>
#include <string.h>

const char *c07_slices(const struct model *m, const struct event *e)
{
    if (e->what == EVENT_END && e->started > 0)
        return "slices are out that were returned";
    if (e->what != EVENT_DONE)
        return NULL;
    if (e->slice != (e->kind == FLIGHT_RECV_MULTI && e->res > 0))
        return "a slice without bytes, or bytes without a slice";
    return e->slice && e->count != (uint32_t)e->res ? "the slice is not as large as the result" : NULL;
}

const char *c08_credit(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || e->kind != FLIGHT_RECV_MULTI)
        return NULL;
    const struct flight *f = flight_of(m, e);
    bool used_up = f->credit != PRO_UNLIMITED && (uint32_t)e->res == f->credit;
    if (e->res > 0 && (uint32_t)e->res > f->credit)
        return "more bytes than there was credit for";
    if (e->res > 0 && !f->pausing && used_up != !!(e->flags & PRO_PAUSED))
        return "the piece that uses up the credit says so, and no other";
    if (e->res > 0 && e->flags & PRO_PAUSED && !used_up)
        return "paused with credit left";
    if (e->res == 0 && e->flags & PRO_PAUSED && !f->pausing)
        return "a pause is answered that was not asked for";
    bool stands = f->credit == 0 && !f->pausing;
    return stands && !was_ended(e->res) ? "it stands without credit and tells something" : NULL;
}

/* Whether a receive into memory of the program, `f`, may have passed a multishot that stood still meanwhile. */
static bool may_pass(const struct flight *f, const struct flight *multi)
{
    bool stands = multi->pausing || multi->credit == 0;
    return multi->start->kind == FLIGHT_RECV_MULTI && f->start->kind == FLIGHT_RECV &&
           (stands || before(f->start, multi->stood));
}

/* Whether an earlier one of the same lane has told all it had to tell, though its final is still to come. */
static bool has_told_all(const struct flight *f, const struct event *e)
{
    return facts_may_be_ending(f, e) && f->final && was_ended(f->final->res) && f->final->moved == 0 &&
           !before(e, f->last_piece);
}

const char *c09_receives_in_order(const struct model *m, const struct event *e)
{
    bool answer = e->res == 0 && e->flags & PRO_PAUSED;
    if (e->what != EVENT_DONE || !flight_receives(e->kind) || was_ended(e->res) || answer)
        return NULL;
    const struct flight *f = flight_of(m, e);
    for (const struct flight *other = m->flights; other < f; other++)
        if (other->start && other->start->handle == e->handle && flight_receives(other->start->kind) &&
            in_flight(other, e) && !has_told_all(other, e) && !may_pass(f, other))
            return "a receive completes before one that was started before it";
    return NULL;
}

const char *c09_sends_in_order(const struct model *m, const struct event *e)
{
    if (!is_final(e) || !flight_sends(e->kind) || (e->moved == 0 && e->res < 0))
        return NULL;
    const struct flight *f = flight_of(m, e);
    for (const struct flight *other = m->flights; other < f; other++)
        if (other->start && other->start->handle == e->handle && flight_sends(other->start->kind) &&
            in_flight(other, e) && !facts_may_be_ending(other, e) && !facts_cut_before(m, other))
            return "a send completes before one that was started before it";
    return NULL;
}

/* The bytes that came are the next ones that the other end has sent, and it had started to send them. */
const char *c09_bytes(const struct model *m, const struct event *e)
{
    struct end *end = e->what == EVENT_DONE && e->count > 0 ? end_of(m, e) : NULL;
    if (!end || !flight_receives(e->kind))
        return NULL;
    if (end->at_end)
        return "bytes after the end of the stream";
    if (facts_unknown(end))
        return NULL;
    uint64_t from = end->received, to = from + e->count;
    if (end->peer == NOBODY || to > m->ends[end->peer].sent)
        return "bytes that were never sent";
    for (const struct flight *f = m->flights; f < m->flights + m->flight_count; f++) {
        if (!f->start || !is(f->start, STREAM_SENDS) || end_of(m, f->start) != &m->ends[end->peer] || !f->final)
            continue;
        uint64_t low = f->stream_at > from ? f->stream_at : from, high = f->stream_at + f->final->moved;
        high = high < to ? high : to;
        if (low >= high)
            continue;
        if (f->start > e)
            return "bytes that are sent later";
        const uint8_t *sent = m->h->bytes + f->start->bytes + (low - f->stream_at);
        if (memcmp(sent, m->h->bytes + e->bytes + (low - from), high - low) != 0)
            return "other bytes than were sent";
    }
    return NULL;
}

const char *c09_sends_are_whole(const struct model *m, const struct event *e)
{
    if (!is_final(e) || !is(e, STREAM_SENDS))
        return NULL;
    const struct flight *f = flight_of(m, e);
    if (e->res < 0)
        return e->moved < f->start->size ? NULL : "a send that moved all its bytes has failed";
    if (e->moved != (uint32_t)e->res)
        return "pro_op_bytes is not the result";
    return e->moved == f->start->size || e->kind == FLIGHT_TRY_SEND ? NULL : "a send was cut and says success";
}

const char *c09_cut_is_the_last(const struct model *m, const struct event *e)
{
    if (!is_final(e) || !is(e, STREAM_SENDS) || !facts_cut_before(m, flight_of(m, e)))
        return NULL;
    bool refused = e->res == -EPIPE || was_ended(e->res) || (e->kind == FLIGHT_TRY_SEND && e->res == -EAGAIN);
    return refused && e->moved == 0 ? NULL : "a send was tried after one that was cut";
}

const char *c09_shutdown_in_its_turn(const struct model *m, const struct event *e)
{
    const struct end *end = is_final(e) && is(e, STREAM_SENDS) ? end_of(m, e) : NULL;
    if (!end || e->moved == 0 || !before(end->shut_write, flight_of(m, e)->start))
        return NULL;
    return "bytes were sent after the shutdown";
}

const char *c09_all_bytes(const struct model *m, const struct event *e)
{
    if (!is_final(e) || e->kind != FLIGHT_RECV || e->res <= 0)
        return NULL;
    const struct flight *f = flight_of(m, e);
    if (!(f->start->flags & PRO_RECV_ALL))
        return NULL;
    const struct end *end = end_of(m, e);
    bool ended = facts_may_be_ending(f, e) || facts_may_be_at_end(m, end, e, end->received + e->count);
    return (uint32_t)e->res == f->start->size || ended ? NULL : "fewer bytes than were to be waited for";
}

const char *c10_end_of_file(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || !is(e, STREAM_RECEIVES) || e->res != 0)
        return e->what == EVENT_DONE && e->flags & PRO_EOF ? "an end of file that is none" : NULL;
    if (e->flags & PRO_PAUSED && e->flags & PRO_MORE)
        return NULL;
    if (e->flags != PRO_EOF)
        return "nothing was received, and it is no end of file";
    const struct end *end = end_of(m, e);
    return facts_may_be_at_end(m, end, e, end->received) ? NULL : "an end of file while there is more, or may be";
}

/* Errors that are not of our own making, and when they may be seen. Besides: who sends to an end that nobody reads. */
static bool cannot_send(const struct model *m, const struct flight *f, const struct event *e)
{
    const struct end *end = end_of(m, e), *peer = peer_of(m, end);
    return facts_may_hang_up(m, end, e) || (peer && before(peer->shut_read, e)) || facts_cut_before(m, f);
}

static bool is_reset(const struct model *m, const struct flight *f, const struct event *e)
{
    return facts_may_be_reset(m, end_of(m, e), e);
}

static bool is_over(const struct model *m, const struct flight *f, const struct event *e)
{
    const struct end *end = end_of(m, e), *peer = peer_of(m, end);
    return facts_may_be_reset(m, end, e) || (peer && (before(peer->shut_write, e) || before(peer->closed, e)));
}

static bool is_aborted(const struct model *m, const struct flight *f, const struct event *e)
{
    return before(end_of(m, e)->aborted, e);
}

static bool nobody_listens(const struct model *m, const struct flight *f, const struct event *e)
{
    return before(m->ends[f->start->target].closed, e);
}

static bool always(const struct model *m, const struct flight *f, const struct event *e)
{
    return true;
}

static const struct {
    unsigned kinds;
    int error;
    bool (*when)(const struct model *m, const struct flight *f, const struct event *e);
} errors[] = {
    {STREAM_RECEIVES, -ECONNRESET, is_reset},
    {STREAM_RECEIVES, -ENOTCONN, is_aborted},
    {STREAM_SENDS, -EPIPE, cannot_send},
    {STREAM_SENDS, -ECONNRESET, is_reset},
    {BIT(FLIGHT_TRY_SEND), -EAGAIN, always},
    {BIT(FLIGHT_SHUTDOWN), -ENOTCONN, is_over},
    {BIT(FLIGHT_CONNECT), -ECONNREFUSED, nobody_listens},
    {BIT(FLIGHT_CONNECT), -ECONNRESET, nobody_listens},
    {BIT(FLIGHT_CONNECT), -ECONNRESET, is_aborted},
    {~(unsigned)(BIT(FLIGHT_RELEASE) | BIT(FLIGHT_POST)), -ECANCELED, always}, /* c04 knows when, ... */
    {~(unsigned)(BIT(FLIGHT_RELEASE) | BIT(FLIGHT_POST)), -ETIME, always},     /* ... c05, ... */
    {BIT(FLIGHT_POST), -ECANCELED, always},
    {~(unsigned)(CLOSES | BIT(FLIGHT_POST)), -ESHUTDOWN, always}, /* ... and c13 */
};

const char *c10_errors(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || e->res >= 0)
        return NULL;
    if (e->flags)
        return "an error with flags";
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (is(e, errors[i].kinds) && e->res == errors[i].error && errors[i].when(m, flight_of(m, e), e))
            return NULL;
    return "an error that nothing has caused";
}

/* What a result may be that is none of the errors; `most` 0 for a receive or poll is what was asked for. */
static const struct {
    int least, most;
} results[FLIGHT_KINDS] = {
    [FLIGHT_ACCEPT] = {0, INT32_MAX},     [FLIGHT_ACCEPT_MULTI] = {0, INT32_MAX},
    [FLIGHT_RECV] = {0, INT32_MAX},       [FLIGHT_RECV_MULTI] = {0, INT32_MAX},
    [FLIGHT_SEND] = {1, INT32_MAX},       [FLIGHT_SEND_SLICES] = {1, INT32_MAX},
    [FLIGHT_TRY_SEND] = {1, INT32_MAX},   [FLIGHT_POLL] = {1, INT16_MAX},
    [FLIGHT_POLL_MULTI] = {1, INT16_MAX}, [FLIGHT_TIMER_EVERY] = {1, INT32_MAX},
    [FLIGHT_RELEASE] = {0, INT32_MAX},
};

const char *c10_results(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || e->res < 0)
        return NULL;
    uint32_t size = flight_of(m, e)->start->size;
    if (e->res < results[e->kind].least || e->res > results[e->kind].most)
        return "a result out of range";
    if (e->flags & PRO_PAUSED && e->kind != FLIGHT_RECV_MULTI)
        return "what is no multishot receive says that it is paused";
    bool bounded = is(e, BIT(FLIGHT_RECV) | STREAM_SENDS);
    return bounded && (uint32_t)e->res > size ? "more bytes than were asked for" : NULL;
}

const char *polls_tell_what_is(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || !is(e, POLLS) || e->res < 0)
        return NULL;
    unsigned events = (unsigned)e->res;
    const struct end *end = end_of(m, e), *peer = peer_of(m, end);
    if (events & ~(flight_of(m, e)->start->size | POLLERR | POLLHUP | POLLRDHUP))
        return "events that were not asked for";
    bool hung_up = facts_may_hang_up(m, end, e);
    if (events & (POLLERR | POLLHUP | POLLRDHUP) && !hung_up)
        return "a connection that nobody ends hangs up";
    return events & POLLIN && !hung_up && !(peer && peer->sent > 0) ? "readable, and nobody has sent a byte" : NULL;
}

const char *accept_brings_what_connects(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || !is(e, ACCEPTS) || e->res < 0)
        return NULL;
    const struct end *listener = end_of(m, e);
    return listener->accepts < listener->connects ? NULL : "more connections than were made";
}
