/* SPDX-License-Identifier: MIT
 *
 * A row for each kind of operation: how it is started, what a completion must be like, and the errors that something
 * in the world may have brought about. A cancel, a deadline and the end of the loop are looked at for all alike. */
#include "sim_deed.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define MICROSECOND UINT64_C(1000)

enum { MOST_REPORTS = 6 };

static struct way *way_in(const struct deed *d)
{
    return &d->seat->wire->ways[1 - d->seat->side];
}

static struct way *way_out(const struct deed *d)
{
    return &d->seat->wire->ways[d->seat->side];
}

static struct pro_loop *loop_of(const struct deed *d)
{
    return d->acts->loops[d->loop];
}

/* ---- Slices ---- */

void keep_slice(struct acts *a, struct pro_slice *slice)
{
    if (a->kept_count == KEPT || acts_are_over(a) || draw(a, 3) == 0)
        pro_slice_return(slice);
    else
        a->kept[a->kept_count++] = slice;
}

struct pro_slice *take_slice(struct acts *a)
{
    if (a->kept_count == 0)
        return NULL;
    unsigned i = draw(a, a->kept_count);
    struct pro_slice *slice = a->kept[i];
    a->kept[i] = a->kept[--a->kept_count];
    slice->next = NULL;
    return slice;
}

/* ---- Receiving ---- */

static bool start_recv(struct deed *d)
{
    d->size = 1 + draw(d->acts, DEED_DATA);
    pro_recv(&d->seat->handle, &d->op, d->data, d->size, d->kind == RECV_ALL ? PRO_RECV_ALL : 0, on_deed);
    return true;
}

/* `cut`: a datagram of that size may be a part of one. */
static void receive(struct deed *d, const uint8_t *data, uint32_t size, uint32_t limit, bool cut)
{
    if (size > limit)
        pro_sim_fail(d->acts->sim, "%u bytes come where %u were asked for", size, limit);
    if (d->seat->type == DATAGRAMS)
        way_receive_datagram(way_in(d), data, size, cut);
    else
        way_receive(way_in(d), data, size);
}

/* 0 is an end of file, and says so; nobody sends empty datagrams. */
static void judge_end(const struct deed *d, struct pro_result r)
{
    if (!(r.flags & PRO_EOF) || r.flags & PRO_MORE || d->seat->type == DATAGRAMS)
        pro_sim_fail(d->acts->sim, "kind %d ends with 0 and flags %u", d->kind, r.flags);
    way_end(way_in(d));
}

/* Whether a multishot receive takes whatever comes. */
static bool is_able(const struct deed *d)
{
    return d && d->kind == RECV_MULTI && d->credit > 0 && !d->pausing && !d->asked && d->deadline == 0 && !d->late;
}

/* Receives bring in the order they were started; but while a multishot one is paused others pass it, and one of those
 * may be at the kernel when it gets credit again. */
static void judge_order(const struct deed *d)
{
    struct acts *a = d->acts;
    for (unsigned i = 0; i < DEEDS; i++) {
        struct deed *other = a->deeds[i];
        if (!other || other->seat != d->seat || other->order > d->order || d->asked || d->deadline > 0 || d->late)
            continue;
        bool held = (other->kind == RECV || other->kind == RECV_ALL || other->kind == READ) && !other->asked &&
                    other->deadline == 0 && !other->late;
        if (held || (is_able(other) && (d->order > other->since || ++other->passed > 1)))
            pro_sim_fail(a->sim, "receive %u (kind %d) brings something before receive %u (kind %d)", d->order, d->kind,
                         other->order, other->kind);
    }
}

/* What ends short has perhaps met an error, and told of the bytes instead; then the next one meets an end of file. */
static void judge_recv(struct deed *d, struct pro_result r)
{
    if (d->kind == RECV_ALL && r.res > 0 && (uint32_t)r.res < d->size)
        way_in(d)->loose = true;
    if (r.res > 0)
        judge_order(d);
    if (r.res > 0)
        receive(d, d->data, (uint32_t)r.res, d->size, (uint32_t)r.res == d->size);
    else if (r.res == 0)
        judge_end(d, r);
}

static bool start_recv_multi(struct deed *d)
{
    struct acts *a = d->acts;
    d->credit = draw(a, 3) > 0 ? draw(a, 4000) : PRO_UNLIMITED;
    pro_recv_multi(&d->seat->handle, &d->op, a->pools[d->loop], d->credit, on_deed);
    return true;
}

/* It had none, or had to wait for the answer to a pause: now it goes on. */
static void resume(struct deed *d)
{
    d->since = ++d->seat->starts;
    d->passed = 0;
}

void deed_credit(struct deed *d, uint32_t bytes)
{
    uint32_t *credit = d->pausing ? &d->credit_after : &d->credit;
    if (*credit == 0 && !d->pausing)
        resume(d);
    d->given = true;
    *credit = bytes < PRO_UNLIMITED - *credit ? *credit + bytes : PRO_UNLIMITED;
    pro_recv_credit(&d->op, bytes);
}

void deed_pause(struct deed *d)
{
    d->pausing = true;
    d->credit_after = 0;
    pro_recv_pause(&d->op);
}

/* As far as can be seen: not with those that are being sent. */
static void judge_quota(const struct deed *d, struct pro_slice *slice)
{
    const struct acts *a = d->acts;
    const struct pro_slice *buffers[KEPT + 1] = {slice};
    unsigned count = 1;
    slice->charge = d->seat->serial;
    for (unsigned i = 0; i < a->kept_count; i++) {
        bool is_new = a->kept[i]->charge == slice->charge;
        for (unsigned k = 0; k < count && is_new; k++)
            is_new = !pro_slice_shares(a->kept[i], buffers[k]);
        if (is_new)
            buffers[count++] = a->kept[i];
    }
    if (count > a->quota)
        pro_sim_fail(a->sim, "a handle holds %u buffers, and its quota is %u", count, a->quota);
}

static void judge_slice(struct deed *d, struct pro_result r)
{
    struct acts *a = d->acts;
    uint32_t limit = d->credit < a->buffer_size ? d->credit : a->buffer_size;
    if (!r.slice || r.slice->size != (uint32_t)r.res || r.slice->next)
        pro_sim_fail(a->sim, "%d bytes come, and are not in their slice", r.res);
    receive(d, r.slice->data, r.slice->size, limit, d->given || r.slice->size == limit);
    bool counted = d->credit != PRO_UNLIMITED;
    d->credit -= counted ? r.slice->size : 0;
    if (!d->pausing && (d->credit == 0) != !!(r.flags & PRO_PAUSED))
        pro_sim_fail(a->sim, "credit of %u is left, and the flags are %u", d->credit, r.flags);
    judge_quota(d, r.slice);
    keep_slice(a, r.slice);
}

static void judge_recv_multi(struct deed *d, struct pro_result r)
{
    if (r.res > 0) {
        judge_slice(d, r);
    } else if (r.res == 0 && r.flags == (PRO_MORE | PRO_PAUSED)) {
        if (!d->pausing)
            pro_sim_fail(d->acts->sim, "a pause is answered that nobody asked for");
        d->pausing = false;
        d->credit = d->credit_after;
        resume(d);
    } else if (r.res == 0) {
        judge_end(d, r);
    }
}

/* ---- Sending ---- */

/* The size of what goes out next, and its number; 0 if nothing can. */
static uint32_t next_sending(struct acts *a, const struct seat *seat, uint32_t size, uint32_t *ret_number)
{
    struct way *way = &seat->wire->ways[seat->side];
    if (seat->type == DATAGRAMS) {
        *ret_number = way->next;
        return way->next < DATAGRAMS_MOST ? datagram_size(way->next++) : 0;
    }
    if (!way_open(way))
        return 0;
    *ret_number = way_begin(way, size);
    return size;
}

static bool start_send(struct deed *d)
{
    struct acts *a = d->acts;
    uint32_t size = draw(a, 6) > 0 ? 1 + draw(a, DEED_DATA) : 1 + draw(a, SENDING_MOST);
    d->size = next_sending(a, d->seat, size, &d->number);
    if (d->size == 0)
        return false;
    uint8_t *data = (uint8_t *)(uintptr_t)sending_bytes(d->number);
    if (d->size <= DEED_DATA)
        data = memcpy(d->data, data, d->size);
    d->iov[0] = (struct iovec){data, d->size / 2};
    d->iov[1] = (struct iovec){data, 0};
    d->iov[2] = (struct iovec){data + d->size / 2, d->size - d->size / 2};
    pro_send(&d->seat->handle, &d->op, d->iov, 3, draw(a, 2) ? PRO_SEND_MORE : 0, on_deed);
    return true;
}

/* Some of those that are kept; of the last only what `most` leaves. */
static struct pro_slice *some_slices(struct acts *a, uint32_t most, uint32_t *ret_size)
{
    struct pro_slice *list = NULL, **link = &list, *slice;
    uint32_t size = 0;
    for (uint32_t left = 1 + draw(a, 4); left > 0 && size < most && (slice = take_slice(a)) != NULL; left--) {
        slice->size = slice->size < most - size ? slice->size : most - size;
        size += slice->size;
        *link = slice;
        link = &slice->next;
    }
    *ret_size = size;
    return list;
}

/* A datagram has its size, so there must be as many bytes. */
static bool start_send_slices(struct deed *d)
{
    struct acts *a = d->acts;
    bool datagram = d->seat->type == DATAGRAMS;
    uint32_t size, at = 0;
    struct pro_slice *list = some_slices(a, datagram ? datagram_size(way_out(d)->next) : SENDING_MOST, &size);
    bool fits = list && (!datagram || size == datagram_size(way_out(d)->next));
    d->size = fits ? next_sending(a, d->seat, size, &d->number) : 0;
    if (d->size == 0) {
        pro_slice_return_list(list);
        return false;
    }
    for (struct pro_slice *slice = list; slice; at += slice->size, slice = slice->next)
        memcpy(slice->data, sending_bytes(d->number) + at, slice->size);
    pro_send_slices(&d->seat->handle, &d->op, list, on_deed);
    return true;
}

static void judge_send(struct deed *d, struct pro_result r)
{
    uint32_t moved = pro_op_bytes(&d->op);
    if (d->seat->type != DATAGRAMS)
        way_over(way_out(d), d->number, moved, r.res);
    else if (r.res >= 0 ? (uint32_t)r.res != d->size : moved > 0)
        pro_sim_fail(d->acts->sim, "a datagram of %u bytes is sent with %d, %u moved", d->size, r.res, moved);
}

/* After a SHUT_RD an end of file is no end. */
static bool start_shutdown(struct deed *d)
{
    int how = draw(d->acts, 4) > 0 ? SHUT_WR : (int)draw(d->acts, 3);
    way_in(d)->loose |= how != SHUT_WR;
    pro_shutdown(&d->seat->handle, &d->op, how, on_deed);
    return true;
}

/* What was started before it has been sent before it, unless something was cut: then nothing is sent any more. That may
 * not have been told yet, so a sending that could have been cut excuses all. */
static void judge_shutdown(struct deed *d, struct pro_result r)
{
    const struct deed *unsent = NULL;
    bool cut = d->seat->closing || way_out(d)->cut != UINT32_MAX;
    for (unsigned i = 0; i < DEEDS; i++) {
        const struct deed *other = d->acts->deeds[i];
        bool sends = other && other->seat == d->seat && (other->kind == SEND || other->kind == SEND_SLICES);
        if (!sends || other->order > d->order)
            continue;
        cut |= other->asked || other->late || other->deadline != 0;
        unsent = other;
    }
    if (r.res == 0 && unsent && !cut)
        pro_sim_fail(d->acts->sim, "a shutdown comes before the sending of %u bytes in front of it", unsent->size);
}

/* ---- Pipes and files ---- */

static bool start_read(struct deed *d)
{
    struct acts *a = d->acts;
    const struct paper *paper = d->seat->paper;
    uint64_t offset = PRO_STREAM;
    d->size = 1 + draw(a, DEED_DATA);
    if (paper) {
        d->offset = paper->stream_writes ? draw(a, PAPER_ROOM) : UINT32_MAX;
        offset = paper->stream_writes ? d->offset : PRO_STREAM;
        d->known = paper_still(paper);
        d->number = paper->version;
    }
    pro_read(&d->seat->handle, &d->op, d->data, d->size, offset, on_deed);
    return true;
}

static void judge_read(struct deed *d, struct pro_result r)
{
    struct paper *paper = d->seat->paper;
    if (!paper) {
        judge_recv(d, r);
        return;
    }
    if (r.res < 0)
        return;
    if ((r.res == 0) != !!(r.flags & PRO_EOF) || (uint32_t)r.res > d->size)
        pro_sim_fail(d->acts->sim, "a read of %u bytes ends with %d and flags %u", d->size, r.res, r.flags);
    paper_read(paper, d->offset, d->data, (uint32_t)r.res, d->known && paper->version == d->number);
}

/* Faults have ended, and all writes: the file is read from its start. */
static bool start_verify(struct deed *d)
{
    d->size = DEED_DATA;
    pro_read(&d->seat->handle, &d->op, d->data, d->size, d->offset, on_deed);
    return true;
}

static void judge_verify(struct deed *d, struct pro_result r)
{
    if (r.res < 0)
        pro_sim_fail(d->acts->sim, "in the calm a file cannot be read: %s", pro_error_name(r.res));
    d->known = true;
    d->number = d->seat->paper->version;
    judge_read(d, r);
    d->offset += (uint32_t)r.res;
}

static bool start_write(struct deed *d)
{
    struct acts *a = d->acts;
    struct paper *paper = d->seat->paper;
    uint64_t offset = PRO_STREAM;
    d->size = 1 + draw(a, DEED_DATA);
    if (paper) {
        uint32_t at = draw(a, PAPER_ROOM - d->size);
        if (!paper_open(paper, d->size))
            return false;
        d->number = paper_begin(paper, at, d->size);
        offset = paper->stream_writes ? PRO_STREAM : at;
    } else if (!way_open(way_out(d))) {
        return false;
    } else {
        d->number = way_begin(way_out(d), d->size);
    }
    memcpy(d->data, sending_bytes(d->number), d->size);
    pro_write(&d->seat->handle, &d->op, d->data, d->size, offset, on_deed);
    return true;
}

static void judge_write(struct deed *d, struct pro_result r)
{
    if (d->seat->paper)
        paper_over(d->seat->paper, d->number, pro_op_bytes(&d->op), r.res);
    else
        way_over(way_out(d), d->number, pro_op_bytes(&d->op), r.res);
}

/* ---- Readiness, connections ---- */

static bool start_poll(struct deed *d)
{
    d->size = draw(d->acts, 2) ? POLLIN : POLLOUT;
    if (d->kind == POLL)
        pro_poll(&d->seat->handle, &d->op, d->size, on_deed);
    else
        pro_poll_multi(&d->seat->handle, &d->op, d->size, on_deed);
    return true;
}

static void judge_poll(struct deed *d, struct pro_result r)
{
    if (r.res == 0 || (r.res > 0 && (uint32_t)r.res & ~(d->size | POLLERR | POLLHUP)))
        pro_sim_fail(d->acts->sim, "a poll for 0x%x says 0x%x", d->size, (unsigned)r.res);
}

static bool start_accept(struct deed *d)
{
    if (d->kind == ACCEPT)
        pro_accept(&d->seat->handle, &d->op, on_deed);
    else
        pro_accept_multi(&d->seat->handle, &d->op, on_deed);
    return true;
}

static void judge_accept(struct deed *d, struct pro_result r)
{
    if (r.res >= 0)
        seat_accepted(d->seat, r.res);
}

static bool start_connect(struct deed *d)
{
    const struct sockaddr_in *to = &d->seat->wire->to;
    d->seat->connecting = true;
    pro_connect(&d->seat->handle, &d->op, (const struct sockaddr *)to, sizeof *to, on_deed);
    return true;
}

static void judge_connect(struct deed *d, struct pro_result r)
{
    d->seat->connecting = false;
    d->seat->failed |= r.res < 0;
}

static bool start_close(struct deed *d)
{
    struct acts *a = d->acts;
    struct seat *seat = d->seat;
    static void (*const ways[])(struct pro_handle *, struct pro_op *, pro_fn *) = {pro_close, pro_abort, pro_release};
    if (seat->closing)
        return false;
    if (d->kind == RELEASE && (seat->failed || seat->connecting))
        d->kind = CLOSE;
    a->counts[ACT_CLOSE] += d->kind == CLOSE && seat->in_flight > 0;
    a->counts[ACT_ABORT] += d->kind == ABORT && seat->in_flight > 0;
    seat->closing = true;
    ways[d->kind - CLOSE](&seat->handle, &d->op, on_deed);
    return true;
}

/* ---- Without a handle ---- */

static bool start_timer(struct deed *d)
{
    struct acts *a = d->acts;
    struct pro_loop *loop = loop_of(d);
    d->at = pro_now(loop) + draw(a, 3000) * MICROSECOND;
    d->reports = 1 + draw(a, MOST_REPORTS);
    d->size = 1 + draw(a, 1000);
    d->number = 0;
    if (d->kind == TIMER)
        pro_timer(loop, &d->op, d->at, on_deed);
    else
        pro_timer_every(loop, &d->op, d->at, d->size * MICROSECOND, on_deed);
    return true;
}

static void judge_timer(struct deed *d, struct pro_result r)
{
    struct acts *a = d->acts;
    bool again = r.flags & PRO_MORE;
    if (r.res < 0)
        return;
    if (again != (d->kind == TIMER_EVERY) || again != (r.res > 0) || pro_now(loop_of(d)) < d->at)
        pro_sim_fail(a->sim, "a timer says %d with flags %u, %lld ns late", r.res, r.flags,
                     (long long)(pro_now(loop_of(d)) - d->at));
    d->number += (uint32_t)r.res;
    if (again && d->number > 1 + (pro_now(loop_of(d)) - d->at) / (d->size * MICROSECOND))
        pro_sim_fail(a->sim, "a timer was due %u times, it says, every %u us in %llu ns", d->number, d->size,
                     (unsigned long long)(pro_now(loop_of(d)) - d->at));
    if (again && (--d->reports == 0 || acts_are_over(a))) {
        d->asked = true;
        pro_cancel(&d->op);
    }
}

static bool start_post(struct deed *d)
{
    struct acts *a = d->acts;
    int r = pro_post(a->remotes[d->loop], &d->op, on_deed);
    bool gone = a->freeing[d->loop];
    if (r != (gone ? -ESHUTDOWN : 0))
        pro_sim_fail(a->sim, "a post to a loop that is %s returns %d", gone ? "gone" : "there", r);
    d->number = a->posted[d->loop];
    a->posted[d->loop] += r == 0;
    a->counts[ACT_POST] += r == 0;
    return r == 0;
}

static void judge_post(struct deed *d, struct pro_result r)
{
    if (d->number != d->acts->taken[d->loop]++)
        pro_sim_fail(d->acts->sim, "post %u comes in the place of post %u", d->number, d->acts->taken[d->loop] - 1);
}

static void judge_nothing(struct deed *d, struct pro_result r)
{
}

/* ---- The rows ---- */

static const struct {
    bool (*start)(struct deed *d);
    void (*judge)(struct deed *d, struct pro_result r);
    int errors[6]; /* positive */
} rows[KINDS] = {
    [RECV] = {start_recv, judge_recv, {ECONNRESET, ENOTCONN, ENOMEM, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT}},
    [RECV_ALL] = {start_recv, judge_recv, {ECONNRESET, ENOTCONN, ENOMEM, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT}},
    [RECV_MULTI] = {start_recv_multi,
                    judge_recv_multi,
                    {ECONNRESET, ENOTCONN, ENOMEM, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT}},
    [SEND] = {start_send, judge_send, {ECONNRESET, EPIPE, ENOBUFS, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT}},
    [SEND_SLICES] = {start_send_slices,
                     judge_send,
                     {ECONNRESET, EPIPE, ENOBUFS, ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT}},
    [SHUTDOWN] = {start_shutdown, judge_shutdown, {ENOTCONN}},
    [READ] = {start_read, judge_read, {EIO}},
    [WRITE] = {start_write, judge_write, {EPIPE, EIO, ENOSPC}},
    [POLL] = {start_poll, judge_poll, {0}},
    [POLL_MULTI] = {start_poll, judge_poll, {0}},
    [ACCEPT] = {start_accept, judge_accept, {EMFILE, ENFILE, ENOMEM, ENOBUFS}},
    [ACCEPT_MULTI] = {start_accept, judge_accept, {EMFILE, ENFILE, ENOMEM, ENOBUFS}},
    [CONNECT] = {start_connect, judge_connect, {ECONNREFUSED, EHOSTUNREACH, ECONNRESET, ETIMEDOUT}},
    [TIMER] = {start_timer, judge_timer, {0}},
    [TIMER_EVERY] = {start_timer, judge_timer, {0}},
    [POST] = {start_post, judge_post, {0}},
    [CLOSE] = {start_close, judge_nothing, {0}},
    [ABORT] = {start_close, judge_nothing, {0}},
    [RELEASE] = {start_close, judge_nothing, {0}},
    [VERIFY] = {start_verify, judge_verify, {0}},
};

bool deed_start(struct deed *d)
{
    bool closes = d->kind >= CLOSE && d->kind <= RELEASE;
    d->doomed = d->kind != POST && !closes && (d->acts->freeing[d->loop] || (d->seat && d->seat->closing));
    d->order = d->since = d->seat ? ++d->seat->starts : 0;
    d->passed = 0;
    return rows[d->kind].start(d);
}

static bool may_be_cancelled(const struct deed *d)
{
    return d->asked || d->acts->freeing[d->loop] ||
           (d->seat && d->seat->closing && (d->kind < CLOSE || d->kind > RELEASE));
}

static bool may_be_late(const struct deed *d)
{
    return d->late || (d->deadline > 0 && d->deadline <= pro_now(loop_of(d)));
}

static bool is_known(enum kind kind, int error)
{
    for (size_t i = 0; i < sizeof rows[0].errors / sizeof rows[0].errors[0]; i++)
        if (rows[kind].errors[i] == error)
            return true;
    return false;
}

/* Some errors need a fault, which the world has counted. */
static bool has_a_cause(const struct acts *a, int error)
{
    static const struct {
        int error;
        enum pro_sim_fault faults[3]; /* one of them */
    } causes[] = {
        {EIO, {PRO_SIM_READ_EIO, PRO_SIM_WRITE_EIO, PRO_SIM_WRITE_EIO}},
        {ENOSPC, {PRO_SIM_WRITE_ENOSPC, PRO_SIM_WRITE_ENOSPC, PRO_SIM_WRITE_ENOSPC}},
        {EMFILE, {PRO_SIM_ACCEPT_EMFILE, PRO_SIM_ACCEPT_EMFILE, PRO_SIM_ACCEPT_EMFILE}},
        {ENFILE, {PRO_SIM_ACCEPT_ENFILE, PRO_SIM_ACCEPT_ENFILE, PRO_SIM_ACCEPT_ENFILE}},
        {ENOMEM, {PRO_SIM_NO_MEMORY, PRO_SIM_ACCEPT_ENOMEM, PRO_SIM_ALLOCATION}},
        {ENOBUFS, {PRO_SIM_NO_MEMORY, PRO_SIM_ACCEPT_ENOBUFS, PRO_SIM_ACCEPT_ENOBUFS}},
        {EHOSTUNREACH, {PRO_SIM_UNREACHABLE, PRO_SIM_UNREACHABLE, PRO_SIM_UNREACHABLE}},
    };
    struct pro_sim_stats stats = {0};
    pro_sim_stats(a->sim, &stats, sizeof stats);
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++)
        if (causes[i].error == error)
            return stats.hits[causes[i].faults[0]] + stats.hits[causes[i].faults[1]] + stats.hits[causes[i].faults[2]] >
                   0;
    return true;
}

/* An error of the connection is told once; what comes after it may look like an end of file. */
static bool is_told_once(int res)
{
    return res == -ECONNRESET || res == -ENOTCONN || res == -ECONNREFUSED || res == -EHOSTUNREACH || res == -ETIMEDOUT;
}

static void judge_error(const struct deed *d, int res)
{
    bool legal = res == -ECANCELED   ? may_be_cancelled(d)
                 : res == -ETIME     ? may_be_late(d) && !d->first
                 : res == -ESHUTDOWN ? d->doomed && d->acts->freeing[d->loop]
                                     : is_known(d->kind, -res) && has_a_cause(d->acts, -res);
    if (!legal)
        pro_sim_fail(d->acts->sim, "kind %d ends with %s, and nothing has brought that about", d->kind,
                     pro_error_name(res));
    if (d->seat && d->seat->wire && is_told_once(res))
        way_in(d)->loose = true;
}

void deed_judge(struct deed *d, struct pro_result r)
{
    if (d->doomed && r.res != -ECANCELED && r.res != -ESHUTDOWN)
        pro_sim_fail(d->acts->sim, "kind %d was started on what is closing, and ends with %d", d->kind, r.res);
    if (r.res < 0 && r.flags != 0)
        pro_sim_fail(d->acts->sim, "kind %d ends with %s, and with flags %u", d->kind, pro_error_name(r.res), r.flags);
    if (r.slice && d->kind != RECV_MULTI)
        pro_sim_fail(d->acts->sim, "kind %d brings a slice", d->kind);
    if (r.res < 0)
        judge_error(d, r.res);
    rows[d->kind].judge(d, r);
}

void act_try_send(struct acts *a, struct seat *seat)
{
    uint32_t number, size = next_sending(a, seat, 1 + draw(a, 3000), &number);
    if (size == 0)
        return;
    int n = pro_try_send(&seat->handle, sending_bytes(number), size);
    if (n < 0 && n != -EAGAIN && !is_known(SEND, -n) && !(seat->closing && n == -ECANCELED))
        pro_sim_fail(a->sim, "pro_try_send ends with %s", pro_error_name(n));
    if (seat->type == DATAGRAMS) {
        if (n > 0 && (uint32_t)n != size)
            pro_sim_fail(a->sim, "a datagram of %u bytes is sent in part, %d", size, n);
        return;
    }
    if (n == 0 || (n > 0 && (uint32_t)n > size))
        pro_sim_fail(a->sim, "pro_try_send of %u bytes returns %d", size, n);
    if (is_told_once(n))
        seat->wire->ways[1 - seat->side].loose = true;
    seat->wire->ways[seat->side].sendings[number % WAY_ROOM].size = n > 0 ? (uint32_t)n : size;
    way_over(&seat->wire->ways[seat->side], number, n > 0 ? (uint32_t)n : 0, n);
}

enum kind deed_choose(struct acts *a, const struct seat *seat)
{
    static const struct {
        unsigned count;
        enum kind kinds[12];
    } choices[SEAT_TYPES] = {
        [LISTENER] = {3, {ACCEPT, ACCEPT_MULTI, POLL}},
        [STREAM] = {12,
                    {RECV, RECV, RECV_ALL, RECV_MULTI, RECV_MULTI, SEND, SEND, SEND, SEND_SLICES, SHUTDOWN, POLL,
                     POLL_MULTI}},
        [DATAGRAMS] = {6, {RECV, RECV_MULTI, SEND, SEND, SEND_SLICES, POLL}},
        [READER] = {4, {READ, READ, POLL, POLL_MULTI}},
        [WRITER] = {4, {WRITE, WRITE, POLL, POLL_MULTI}},
        [PAPER] = {4, {READ, WRITE, WRITE, POLL}},
    };
    enum kind kind = choices[seat->type].kinds[draw(a, choices[seat->type].count)];
    if (seat->failed || (seat->type == STREAM && !seat->wire))
        return KINDS;
    return kind == SHUTDOWN && draw(a, 3) > 0 ? SEND : kind;
}
