/* SPDX-License-Identifier: MIT
 *
 * The happy path: a multishot accept on every listener, a session for each connection (session.c), one pool for all.
 *
 * The limit
 *
 *   "Exactly never over" and a multishot accept do not go together: the kernel takes what has queued before it can be
 *   told to stop. So the way of accepting depends on the room that is left:
 *
 *      room          mode   what is in flight on each listener
 *      MANY_ROOM..   MANY   a multishot accept; a burst of a full backlog still fits
 *      listeners..   ONE    a single accept, which has its place reserved
 *      1..           POLL   a poll; who is ready reserves a place and accepts. Were the last place reserved by an
 *                           idle listener, the others would starve
 *      0             NONE   nothing; the backlog holds the rest
 *
 *   `adjust` is called after everything that changes the room. When the mode changes, it cancels what is in flight in
 *   the old one, and its continuation starts the new one. A connection that won against the cancel is taken in: its
 *   place was reserved.
 *
 * Possible failure modes
 *
 *   No descriptor, no memory: the mode is NONE until `backoff` fires, RETRY_NS later; one line in COMPLAIN_NS.
 *   A listener that cannot accept for another reason is treated alike: it may be passing, and must not spin.
 *
 * The end
 *
 *   service_drain makes the mode LAST: single accepts with a deadline a few milliseconds away, for what is in the
 *   backlog has been received too; then the listener is closed. Sessions are told to drain. When all of them are gone
 *   nothing is in flight, and pro_run returns. If `drain_timer` comes first, the rest is cut.
 */
#include "service.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "frame.h"
#include "session.h"

#define MILLISECOND     UINT64_C(1000000)
#define RETRY_NS        (100 * MILLISECOND)
#define COMPLAIN_NS     (1000 * MILLISECOND)
#define LAST_NS         (5 * MILLISECOND)   /* for a connection in the backlog to be accepted */
#define LAST_MOST_NS    (250 * MILLISECOND) /* for the whole backlog, if more and more come */
#define SCARCE_NS       (10 * MILLISECOND)  /* for one that a poll has seen */
#define LINGER_NS       (5000 * MILLISECOND)
#define TRIM_NS         (1000 * MILLISECOND)
#define LINGER_BYTES    (UINT64_C(64) << 20)
#define MANY_ROOM       8192 /* twice the backlog that the system allows unless told otherwise */
#define MANY_HYSTERESIS 1024

#define BUFFER_SIZE  (UINT32_C(512) << 10) /* much at once is cheaper; of what is not used of it nothing is resident */
#define BUFFERS_HELD 10   /* beyond the mark: a frame under way pins two, the rest keeps the kernel receiving */
#define BUFFERS_MANY 1024 /* of the pool, 512 MiB: for some hundred peers that leave their answers unread */
#define BUFFERS_MOST 4096 /* 2 GiB: if a single peer may be owed much */

enum accept_mode { ACCEPT_NONE, ACCEPT_MANY, ACCEPT_ONE, ACCEPT_POLL, ACCEPT_LAST };

struct listener {
    struct pro_handle handle;
    struct pro_op op; /* accept, poll or close */
    struct service *service;
    struct listener *next;
    uint8_t doing; /* enum accept_mode: what is in flight */
    bool closing;
};

static pro_fn on_accept, on_accept_one, on_ready, on_backoff, on_drain_deadline, on_listener_closed;

/* ---- Accepting ---- */

static uint32_t room(const struct service *service)
{
    uint32_t open = (uint32_t)service->counters.open;
    return open < service->max_connections ? service->max_connections - open : 0;
}

static enum accept_mode wanted_mode(const struct service *service)
{
    uint32_t left = room(service);
    uint32_t many = service->accepting == ACCEPT_MANY ? MANY_ROOM : MANY_ROOM + MANY_HYSTERESIS;
    if (!service->started || left == 0 || pro_op_in_flight(&service->backoff))
        return ACCEPT_NONE;
    if (service->draining)
        return ACCEPT_LAST;
    if (left >= many)
        return ACCEPT_MANY;
    return left >= service->listener_count ? ACCEPT_ONE : ACCEPT_POLL;
}

static void accept_one(struct listener *listener, enum accept_mode mode, uint64_t deadline)
{
    listener->doing = (uint8_t)mode;
    listener->service->reserved++;
    pro_deadline(&listener->op, deadline);
    pro_accept(&listener->handle, &listener->op, on_accept_one);
}

static void close_listener(struct listener *listener)
{
    listener->closing = true;
    listener->doing = ACCEPT_NONE;
    pro_close(&listener->handle, &listener->op, on_listener_closed);
}

/* The rest of the backlog is accepted while the drain is young. */
static void accept_last(struct listener *listener)
{
    uint64_t now = pro_now(listener->service->loop);
    if (now >= listener->service->drain_began + LAST_MOST_NS)
        close_listener(listener);
    else
        accept_one(listener, ACCEPT_LAST, now + LAST_NS);
}

/* Starts on an idle listener what the mode wants, or cancels what it does not want. */
static void arm(struct listener *listener)
{
    enum accept_mode mode = (enum accept_mode)listener->service->accepting;
    if (listener->closing)
        return;
    if (pro_op_in_flight(&listener->op)) {
        if (listener->doing != mode)
            pro_cancel(&listener->op);
        return;
    }
    listener->doing = (uint8_t)mode;
    if (mode == ACCEPT_NONE && listener->service->draining)
        close_listener(listener);
    else if (mode == ACCEPT_MANY)
        pro_accept_multi(&listener->handle, &listener->op, on_accept);
    else if (mode == ACCEPT_ONE)
        accept_one(listener, mode, 0);
    else if (mode == ACCEPT_POLL)
        pro_poll(&listener->handle, &listener->op, POLLIN, on_ready);
    else if (mode == ACCEPT_LAST)
        accept_last(listener);
}

static void arm_all(struct service *service)
{
    for (struct listener *listener = service->listeners; listener; listener = listener->next)
        arm(listener);
}

static void adjust(struct service *service)
{
    enum accept_mode mode = wanted_mode(service);
    if (mode == service->accepting && mode != ACCEPT_POLL)
        return;
    service->accepting = (uint8_t)mode;
    arm_all(service);
}

static void rest(struct service *service, int error)
{
    uint64_t now = pro_now(service->loop);
    if (pro_op_in_flight(&service->backoff))
        return;
    service->counters.accept_pauses++;
    pro_timer_after(service->loop, &service->backoff, RETRY_NS, on_backoff);
    if (now >= service->next_complaint) {
        service->next_complaint = now + COMPLAIN_NS;
        log_line(service->config.log, LOG_WARN, now, "accept: %s (%s); resting for %u ms", pro_error_name(error),
                 pro_error_text(error), (unsigned)(RETRY_NS / MILLISECOND));
    }
}

static void welcome(struct service *service, int fd)
{
    int error = room(service) > 0 ? session_open(service, fd) : -EAGAIN;
    if (error) {
        pro_discard(service->loop, fd);
        service->counters.refused++;
    }
    if (error == -ENOMEM)
        rest(service, error);
    if (error)
        return;
    service->counters.accepted++;
    service->counters.open++;
    if (service->draining)
        session_drain(service->sessions);
}

/* Whatever came of the operation on a listener: takes it in, and goes on as the mode wants. */
static void accepted(struct listener *listener, int res)
{
    struct service *service = listener->service;
    if (res >= 0)
        welcome(service, res);
    else if (res == -ETIME && listener->doing == ACCEPT_LAST)
        close_listener(listener);
    else if (res == -ESHUTDOWN)
        service->started = false;
    else if (res != -ECANCELED && res != -ETIME)
        rest(service, res);
    adjust(service);
    arm(listener);
}

static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct listener *listener = PRO_CONTAINER_OF(op, struct listener, op);
    accepted(listener, r.res);
}

static void on_accept_one(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct listener *listener = PRO_CONTAINER_OF(op, struct listener, op);
    listener->service->reserved--;
    accepted(listener, r.res);
}

static void on_ready(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct listener *listener = PRO_CONTAINER_OF(op, struct listener, op);
    struct service *service = listener->service;
    if (r.res < 0 || service->accepting != ACCEPT_POLL)
        accepted(listener, r.res < 0 ? r.res : -ECANCELED);
    else if (room(service) > service->reserved)
        accept_one(listener, ACCEPT_POLL, pro_now(loop) + SCARCE_NS);
    /* else: whoever has the place reserved calls adjust when it is decided */
}

static void on_backoff(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    if (r.res == 0)
        adjust(PRO_CONTAINER_OF(op, struct service, backoff));
}

void service_left(struct service *service)
{
    service->counters.open--;
    adjust(service);
}

/* ---- Memory that was needed for a while ---- */

static void on_trim(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct service *service = PRO_CONTAINER_OF(op, struct service, trim);
    if (r.res == 0 && gather_cache_trim(&service->cache))
        service_drew(service);
}

/* A timer, but only while there is something to look after: an idle server sleeps. */
void service_drew(struct service *service)
{
    if (pro_op_in_flight(&service->trim))
        return;
    service->cache.watched = true;
    pro_op_background(&service->trim);
    pro_timer_after(service->loop, &service->trim, TRIM_NS, on_trim);
}

/* ---- Listeners ---- */

static struct listener *listener_new(struct service *service)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return NULL;
    listener->service = service;
    listener->next = service->listeners;
    service->listeners = listener;
    service->listener_count++;
    return listener;
}

/* What is accepted inherits both. An answer is not to wait for the acknowledgement of the one before. An urgent byte
 * is a byte like any other here: were it left out of the stream, frames and the drain's count would be off by one. On
 * what is not TCP the first fails, which is fine. */
static void set_options(struct listener *listener)
{
    int on = 1;
    (void)pro_option_set(&listener->handle, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)pro_option_set(&listener->handle, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
}

static void forget_listener(struct service *service, struct listener *listener)
{
    service->listeners = listener->next;
    service->listener_count--;
    free(listener);
}

int service_listen(struct service *service, const struct sockaddr_storage *at, socklen_t length, unsigned flags,
                   struct sockaddr_storage *ret_at, socklen_t *ret_length)
{
    struct listener *listener = listener_new(service);
    if (!listener)
        return -ENOMEM;
    int error = pro_listen(service->loop, &listener->handle, (const struct sockaddr *)at, length, 0, flags);
    if (error) {
        forget_listener(service, listener);
        return error;
    }
    set_options(listener);
    return ret_at ? pro_local_address(&listener->handle, ret_at, ret_length) : 0;
}

int service_adopt(struct service *service, int fd)
{
    struct listener *listener = listener_new(service);
    if (!listener)
        return -ENOMEM;
    pro_adopt(service->loop, &listener->handle, fd);
    set_options(listener);
    return 0;
}

static void on_listener_closed(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    PRO_CONTAINER_OF(op, struct listener, op)->service->listener_count--;
}

/* ---- From the beginning to the end ---- */

/* A connection may hold what is owed up to the high-water mark, and a frame under way. The quota is above both, so that
 * it is the mark that stops the reading (which lifts the deadlines of reading), and the quota bounds what the kernel
 * puts on top before it learns of that. */
static struct pro_pool_config pool_config(const struct service_config *config)
{
    struct pro_pool_config pool = PRO_POOL_CONFIG_INIT;
    pool.buffer_size = BUFFER_SIZE;
    pool.slab_buffers = 2;
    pool.quota_buffers = (config->high_water + BUFFER_SIZE - 1) / BUFFER_SIZE + BUFFERS_HELD;
    pool.max_buffers = pool.quota_buffers < BUFFERS_MANY / 4 ? BUFFERS_MANY : BUFFERS_MOST;
    return pool;
}

static uint64_t linger_time(const struct service_config *config)
{
    uint64_t half = config->drain_ns / 2; /* a peer that does not close must not make every drain end in a cut */
    return config->drain_ns && half < LINGER_NS ? half + 1 : LINGER_NS;
}

int service_new(struct pro_loop *loop, const struct service_config *config, struct service **ret_service)
{
    struct service *service = calloc(1, sizeof *service);
    if (!service)
        return -ENOMEM;
    service->loop = loop;
    service->config = *config;
    struct pro_pool_config pool = pool_config(config);
    int error = pro_pool_new(loop, &pool, &service->pool);
    if (error) {
        free(service);
        return error;
    }
    service->stream_config = (struct pro_stream_config){.pool = service->pool,
                                                        .high = config->high_water,
                                                        .write_timeout_ns = config->send_ns,
                                                        .linger_ns = linger_time(config),
                                                        .linger_bytes = LINGER_BYTES};
    session_configure(service);
    *ret_service = service;
    return 0;
}

/* Sessions and listeners have ended with the loop, if not before. */
void service_free(struct service *service)
{
    if (!service)
        return;
    for (struct listener *listener = service->listeners, *next; listener; listener = next) {
        next = listener->next;
        free(listener);
    }
    gather_cache_clear(&service->cache);
    pro_pool_free(service->pool);
    free(service);
}

void service_start(struct service *service, uint32_t max_connections)
{
    service->max_connections = max_connections;
    service->started = true;
    adjust(service);
}

static void on_drain_deadline(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct service *service = PRO_CONTAINER_OF(op, struct service, drain_timer);
    if (r.res == 0 && (service->sessions || service->listener_count > 0)) {
        log_line(service->config.log, LOG_WARN, pro_now(loop), "the drain took longer than %llu ms and is cut short",
                 (unsigned long long)(service->config.drain_ns / MILLISECOND));
        service_cut(service);
    }
}

void service_drain(struct service *service)
{
    if (service->draining)
        return;
    service->draining = true;
    service->drain_began = pro_now(service->loop);
    if (service->config.drain_ns) {
        pro_op_background(&service->drain_timer);
        pro_timer_after(service->loop, &service->drain_timer, service->config.drain_ns, on_drain_deadline);
    }
    pro_cancel(&service->backoff);
    for (struct session *session = service->sessions, *next; session; session = next) {
        next = session->next;
        session_drain(session);
    }
    service->accepting = (uint8_t)wanted_mode(service);
    arm_all(service);
}

void service_cut(struct service *service)
{
    service->draining = service->cut = true;
    service->started = false;
    for (struct session *session = service->sessions; session; session = session->next)
        session_cut(session);
    pro_stop(service->loop);
}

bool service_was_cut(const struct service *service)
{
    return service->cut;
}

/* ---- Counters ---- */

void service_counters(const struct service *service, struct service_counters *ret_counters)
{
    *ret_counters = service->counters;
}

void service_print_counters(const struct service *service, unsigned thread)
{
    const struct service_counters *c = &service->counters;
    struct pro_pool_stats pool = {0};
    struct pro_stats loop = {0};
    char ended[256];
    size_t n = 0;
    pro_pool_stats(service->pool, &pool, sizeof pool);
    pro_loop_stats(service->loop, &loop, sizeof loop);
    for (unsigned i = 0; i < SERVICE_ENDINGS && n < sizeof ended; i++)
        n += (size_t)snprintf(ended + n, sizeof ended - n, " %s=%llu", service_ending_name(i),
                              (unsigned long long)c->ended[i]);
    log_report(service->config.log,
               "counters: thread=%u accepted=%llu open=%llu frames=%llu bytes=%llu pauses=%llu accept_pauses=%llu "
               "refused=%llu%s buffers=%llu lent=%llu dry=%llu",
               thread, (unsigned long long)c->accepted, (unsigned long long)c->open, (unsigned long long)c->frames,
               (unsigned long long)c->bytes, (unsigned long long)c->pauses, (unsigned long long)c->accept_pauses,
               (unsigned long long)c->refused, ended, (unsigned long long)pool.buffers,
               (unsigned long long)pool.buffers_lent, (unsigned long long)loop.pool_dry);
}
