/* SPDX-License-Identifier: MIT
 *
 * The judge. It goes through a history once to gather what came of each flight, handle and end in all: how much a send
 * moved, when a handle was closed. Then it walks through the events with what was known at each, and asks every rule
 * about it. A rule says NULL or what is wrong.
 *
 * Results are judged by what had been *started* before them, since the program is not told when a thing happens: from
 * the start of a shutdown on, the other end may see the end of the stream. Where a rule cannot know, it allows. */
#include "model.h"

#include "model_facts.h"

enum { PATIENCE = 10 }; /* turns */

static const char *c02_calls_back_from_the_loop_only(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE)
        return NULL;
    if (e->nested)
        return "a continuation was called while a call of the program was under way";
    return e->inside || e->kind == FLIGHT_TRY_SEND ? NULL : "a continuation was called outside of pro_run";
}

static const char *c03_one_final(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE)
        return NULL;
    const struct flight *f = flight_of(m, e);
    if (!before(f->start, e))
        return "a completion before the start";
    if (before(f->final, e))
        return "a completion after the final one";
    if (e->flags & PRO_MORE && !flight_is_multi(e->kind))
        return "more is announced of what completes once";
    if (e->in_flight != !!(e->flags & PRO_MORE))
        return "in flight after the final completion, or idle before it";
    bool ended = e->res < 0 || e->flags & PRO_EOF || facts_may_be_ending(f, e);
    return !is_final(e) || !flight_is_multi(e->kind) || ended ? NULL : "a multishot ended for no reason";
}

static const char *c04_nobody_cancels_but_the_program(const struct model *m, const struct event *e)
{
    if (!is_final(e) || e->res != -ECANCELED || flight_of(m, e)->cancel)
        return NULL;
    return "it was not cancelled";
}

/* Of what no kernel leaves to a thread of its own, which might take its time. */
static const char *c04_cancel_hastens(const struct model *m, const struct event *e)
{
    for (unsigned i = 0; e->what == EVENT_BOOKS && m->h->prompt && i < m->flight_count; i++) {
        const struct flight *f = &m->flights[i];
        if (!f->start || !in_flight(f, e) || !is(f->start, STREAM_RECEIVES | ACCEPTS | POLLS | TIMERS))
            continue;
        uint64_t late = facts_late_since(m, f, e), since = f->cancel ? f->cancel->turn : late;
        if ((f->cancel || late) && e->turn > since + PATIENCE)
            return "it was told to end long ago";
    }
    return NULL;
}

static const char *c05_deadline_in_time(const struct model *m, const struct event *e)
{
    if (!is_final(e) || e->res != -ETIME || flight_of(m, e)->may_be_late)
        return NULL;
    return "it had no deadline that had passed before it was cancelled";
}

static const char *c05_first_of_cancel_and_deadline(const struct model *m, const struct event *e)
{
    if (!is_final(e) || e->res != -ECANCELED || !flight_of(m, e)->is_late)
        return NULL;
    return "its deadline had passed before it was cancelled";
}

static const char *c06_close_is_the_last(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || e->handle == NOBODY)
        return NULL;
    if (before(m->handles[e->handle].closed, e))
        return "a completion after that of the close";
    if (!is_final(e) || !flight_closes(e->kind))
        return NULL;
    for (unsigned i = 0; i < m->flight_count; i++) {
        const struct flight *f = &m->flights[i];
        if (i != e->flight && f->start && f->start->handle == e->handle && in_flight(f, e))
            return "the close completes before an operation on its handle";
    }
    return NULL;
}

/* What a cancel or a deadline finds still waiting for operations that were there before it becomes an abort. */
static const char *c06_close_is_hurried(const struct model *m, const struct event *e)
{
    if (!is_final(e) || !is(e, BIT(FLIGHT_CLOSE) | BIT(FLIGHT_ABORT)) || e->res != 0)
        return NULL;
    const struct flight *close = flight_of(m, e);
    uint64_t late = facts_late_since(m, close, e);
    for (const struct flight *f = m->flights; f < close; f++) {
        if (!f->start || f->start->handle != e->handle || !f->final)
            continue;
        if ((close->cancel && in_flight(f, close->cancel)) || (late && f->final->turn > late))
            return "the close was told to hurry, and does not say so";
    }
    return NULL;
}

static const char *c06_start_on_a_closing_handle(const struct model *m, const struct event *e)
{
    if (!is_final(e) || e->handle == NOBODY || flight_closes(e->kind))
        return NULL;
    const struct event *start = flight_of(m, e)->start;
    if (!before(m->handles[e->handle].closing, start) || was_ended(e->res))
        return NULL;
    return "an operation was tried on a closing handle";
}

static const char *c06_descriptors_have_one_owner(const struct model *m, const struct event *e)
{
    const struct event *open = e->handle == NOBODY ? NULL : m->handles[e->handle].open;
    if (e->what == EVENT_DONE && e->kind == FLIGHT_RELEASE && open->res >= 0 && e->res != open->res)
        return "the descriptor released is not the one adopted";
    for (unsigned i = 0; e->what == EVENT_OPEN && e->res >= 0 && i < m->handle_count; i++) {
        const struct handle *h = &m->handles[i];
        if (i != e->handle && before(h->open, e) && h->open->res == e->res && !before(h->closing, e))
            return "a descriptor is given twice";
    }
    return NULL;
}

static const char *c11_posts_in_order(const struct model *m, const struct event *e)
{
    if (!is_final(e) || e->kind != FLIGHT_POST)
        return NULL;
    return m->last_post != NOBODY && m->last_post > e->flight ? "a post arrives before one that was posted before it"
                                                              : NULL;
}

static const char *c13_pull_down(const struct model *m, const struct event *e)
{
    if (e->what == EVENT_END)
        for (unsigned i = 0; i < m->flight_count; i++)
            if (m->flights[i].start && !m->flights[i].final)
                return "the loop is gone and an operation has not ended";
    if (!is_final(e) || is(e, CLOSES | BIT(FLIGHT_TRY_SEND)))
        return NULL;
    bool late = before(m->freed, flight_of(m, e)->start);
    if (late != (e->res == -ESHUTDOWN))
        return late ? "started while the loop is freed, it ends otherwise" : "nobody has freed the loop";
    return e->kind == FLIGHT_POST && e->res == -ECANCELED && !before(m->freed, e) ? "nobody has freed the loop" : NULL;
}

static const char *timer_is_not_early(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_DONE || e->res < 0)
        return NULL;
    const struct flight *f = flight_of(m, e);
    if (e->kind == FLIGHT_TIMER)
        return e->now < f->start->at ? "a timer fires early" : NULL;
    if (e->kind != FLIGHT_TIMER_EVERY)
        return NULL;
    uint64_t due = f->due + (uint64_t)e->res;
    return f->start->at + (due - 1) * f->start->every > e->now ? "a timer repeats early" : NULL;
}

/* Those that were in the loop before the later of the two was due. */
static const char *timers_in_order(const struct model *m, const struct event *e)
{
    if (!is_final(e) || e->kind != FLIGHT_TIMER || e->res != 0)
        return NULL;
    const struct event *start = flight_of(m, e)->start;
    for (const struct flight *f = m->flights; f < m->flights + m->flight_count; f++) {
        if (!f->start || f->start->kind != FLIGHT_TIMER || !in_flight(f, e) || !f->final || f->final->res != 0)
            continue;
        bool goes_first = f->start->at < start->at || (f->start->at == start->at && f->start < start);
        if (f->start->at == start->at && (f->displaced || flight_of(m, e)->displaced))
            continue;
        if (f->final != e && goes_first && f->start->now < start->at)
            return "a timer fires before one that was due before it";
    }
    return NULL;
}

static const char *books_balance(const struct model *m, const struct event *e)
{
    if (e->what != EVENT_BOOKS)
        return NULL;
    if (e->started != e->completed + e->flying)
        return "started is not completed and in flight";
    if (e->completed != m->completed || e->started > m->started || e->started + m->posts < m->started)
        return "the books are not those of the program";
    return NULL;
}

/* In the order in which they are asked: the later ones count on what the first have seen to. */
#define RULE(function)                                                                                                 \
    {                                                                                                                  \
#function, function                                                                                            \
    }
static const struct {
    const char *name;
    rule_fn *check;
} rules[] = {
    RULE(c02_calls_back_from_the_loop_only),
    RULE(c03_one_final),
    RULE(c10_results),
    RULE(c10_errors),
    RULE(c04_nobody_cancels_but_the_program),
    RULE(c04_cancel_hastens),
    RULE(c05_deadline_in_time),
    RULE(c05_first_of_cancel_and_deadline),
    RULE(c06_close_is_the_last),
    RULE(c06_close_is_hurried),
    RULE(c06_start_on_a_closing_handle),
    RULE(c06_descriptors_have_one_owner),
    RULE(c07_slices),
    RULE(c08_credit),
    RULE(c09_receives_in_order),
    RULE(c09_bytes),
    RULE(c09_all_bytes),
    RULE(c09_cut_is_the_last),
    RULE(c09_sends_are_whole),
    RULE(c09_sends_in_order),
    RULE(c09_shutdown_in_its_turn),
    RULE(c10_end_of_file),
    RULE(c11_posts_in_order),
    RULE(c13_pull_down),
    RULE(timer_is_not_early),
    RULE(timers_in_order),
    RULE(polls_tell_what_is),
    RULE(accept_brings_what_connects),
    RULE(books_balance),
};

enum { RULES = sizeof rules / sizeof rules[0] };

const char *model_rule(unsigned i)
{
    return i < RULES ? rules[i].name : NULL;
}

struct verdict model_judge(const struct history *h)
{
    struct model m;
    struct verdict verdict = {NULL, NULL, 0};
    facts_gather(&m, h);
    for (size_t i = 0; i < h->count && !verdict.rule; i++) {
        const struct event *e = &h->events[i];
        facts_note(&m, e);
        for (unsigned rule = 0; rule < RULES && !verdict.rule; rule++) {
            const char *complaint = rules[rule].check(&m, e);
            if (complaint)
                verdict = (struct verdict){rules[rule].name, complaint, i};
        }
        if (e->what == EVENT_DONE && !verdict.rule)
            facts_take(&m, e);
    }
    facts_drop(&m);
    return verdict;
}
