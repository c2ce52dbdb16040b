/* SPDX-License-Identifier: MIT */
#include "sim_hand.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_memory.h"

enum { PIECE = 4096 };

/* ---- Memory ---- */

static void *ration_alloc(void *context, size_t size, size_t align)
{
    struct ration *r = context;
    if (r->rationed && r->left == 0) {
        r->refused++;
        return NULL;
    }
    r->left -= r->rationed;
    return r->under.alloc(r->under.context, size, align);
}

static void ration_free(void *context, void *memory, size_t size)
{
    struct ration *r = context;
    r->under.free(r->under.context, memory, size);
}

struct holding stage_holding(const struct stage *s)
{
    struct pro_sim_stats stats;
    pro_sim_stats(s->sim, &stats, sizeof stats);
    return (struct holding){stats.descriptors, stats.allocations, stats.bytes - sim_memory_added()};
}

void holding_require(const struct stage *s, struct holding before, struct holding now, const char *when)
{
    if (now.descriptors != before.descriptors)
        pro_sim_fail(s->sim, "%s there are %llu descriptors, and there were %llu", when,
                     (unsigned long long)now.descriptors, (unsigned long long)before.descriptors);
    if (now.allocations != before.allocations || now.bytes != before.bytes)
        pro_sim_fail(s->sim, "%s %llu bytes in %llu allocations are in use, and it was %llu in %llu", when,
                     (unsigned long long)now.bytes, (unsigned long long)now.allocations,
                     (unsigned long long)before.bytes, (unsigned long long)before.allocations);
}

/* ---- The service ---- */

void stage_open(struct stage *s, const struct pro_sim_config *config, const struct service_config *limits,
                uint32_t max_connections, void (*line)(void *context, const char *text))
{
    struct pro_config loop = PRO_CONFIG_INIT;
    struct service_config service = *limits;
    struct sockaddr_storage at = {0};
    *s = (struct stage){.max_frame = limits->max_frame};
    s->at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(6789)};
    memcpy(&at, &s->at, sizeof s->at);
    if (pro_sim_new(config, &s->sim) < 0)
        abort();
    pro_sim_trace(s->sim, line, NULL);
    s->ration.under = pro_sim_allocator(s->sim);
    s->memory = (struct pro_allocator){ration_alloc, ration_free, &s->ration};
    log_init(&s->log, "sim", -1, LOG_ERROR, pro_sim_now(s->sim));
    service.log = &s->log;
    loop.backend = PRO_BACKEND_SIM;
    loop.sim = s->sim;
    loop.allocator = s->memory;
    (void)sim_memory_use(&s->memory);
    if (pro_loop_new(&loop, &s->loop) < 0 || service_new(s->loop, &service, &s->service) < 0 ||
        service_listen(s->service, &at, sizeof s->at, 0, NULL, NULL) < 0)
        pro_sim_fail(s->sim, "the service does not start in a calm world");
    service_start(s->service, max_connections);
    (void)sim_memory_use(NULL);
}

void stage_run(struct stage *s, uint64_t ns)
{
    uint64_t until = pro_sim_now(s->sim) + ns;
    (void)sim_memory_use(&s->memory);
    (void)pro_sim_run(s->sim, until);
    if (pro_sim_now(s->sim) < until) /* nothing is in flight: the service has given up, or left */
        pro_sim_stand_still(s->sim, until - pro_sim_now(s->sim));
    (void)sim_memory_use(NULL);
}

uint64_t stage_connections(const struct stage *s)
{
    struct service_counters c;
    service_counters(s->service, &c);
    return c.open;
}

/* One look is not enough: a connection may be waiting for a service that rests. */
void stage_settle(struct stage *s)
{
    unsigned quiet = 0;
    for (unsigned i = 0; quiet < 2; i++) {
        stage_run(s, SECOND);
        quiet = stage_connections(s) == 0 ? quiet + 1 : 0;
        if (i == 600)
            pro_sim_fail(s->sim, "%llu connections do not come to their end", (unsigned long long)stage_connections(s));
    }
}

void stage_close(struct stage *s, struct pro_sim_stats *ret_stats)
{
    pro_sim_audit(s->sim);
    (void)sim_memory_use(&s->memory);
    pro_loop_free(s->loop);
    service_free(s->service);
    (void)sim_memory_use(NULL);
    pro_sim_stats(s->sim, ret_stats, sizeof *ret_stats);
    pro_sim_free(s->sim);
}

/* ---- Peers ---- */

static uint32_t choose(void *context, uint32_t count)
{
    return pro_sim_choose(context, count);
}

/* `close` and not a reset, unless it is told otherwise. */
static void end(struct hand *h, struct stage *s, enum hand_end how)
{
    if (h->fd >= 0)
        pro_sim_close(s->sim, h->fd);
    h->fd = -1;
    h->end = how;
}

void hand_ask(struct hand *h, struct stage *s, uint32_t frames, uint32_t most_frame)
{
    static const enum oracle_end ends[HAND_WAYS] = {[HAND_BREAKS_OFF] = ORACLE_TRUNCATED, [HAND_BAD] = ORACLE_BAD};
    h->sent = h->got = 0;
    h->size = h->way == HAND_SILENT
                  ? 0
                  : oracle_request(choose, s->sim, most_frame, frames, ends[h->way], h->request, sizeof h->request);
    h->owed = oracle_answer(h->request, h->size, s->max_frame, h->answer);
}

void hand_begin(struct hand *h, struct stage *s, enum hand_way way, uint32_t frames, uint32_t most_frame)
{
    h->way = way;
    h->end = HAND_UNDER_WAY;
    hand_ask(h, s, frames, most_frame);
    h->fd = pro_sim_connect(s->sim, (struct sockaddr *)&s->at, sizeof s->at);
    if (h->fd < 0)
        end(h, s, HAND_CUT);
}

bool hand_content(const struct hand *h)
{
    return h->end == HAND_UNDER_WAY && h->sent == h->size && h->got == h->owed.size;
}

void hand_close(struct hand *h, struct stage *s)
{
    end(h, s, h->got == h->owed.size ? HAND_SERVED : HAND_CUT);
}

/* All is sent, or all is got. Whether that ends it. */
static void perhaps_leave(struct hand *h, struct stage *s, bool just_sent)
{
    bool has_all = h->got == h->owed.size;
    if (h->way == HAND_SHUTS && just_sent)
        (void)pro_sim_shutdown(s->sim, h->fd, SHUT_WR);
    if ((h->way == HAND_RESETS && has_all) || h->way == HAND_RESETS_OWED)
        (void)pro_sim_reset(s->sim, h->fd);
    if ((h->way == HAND_CLOSES || h->way == HAND_RESETS) && has_all)
        end(h, s, HAND_SERVED);
    if (h->way == HAND_RESETS_OWED || h->way == HAND_BREAKS_OFF)
        end(h, s, HAND_SERVED);
}

static void read_there(struct hand *h, struct stage *s)
{
    uint8_t bytes[PIECE];
    int n;
    while ((n = pro_sim_read(s->sim, h->fd, bytes, sizeof bytes)) > 0) {
        if ((size_t)n > h->owed.size - h->got)
            pro_sim_fail(s->sim, "a peer gets %zu bytes and is owed %zu", h->got + (size_t)n, h->owed.size);
        if (memcmp(h->answer + h->got, bytes, (size_t)n) != 0)
            pro_sim_fail(s->sim, "a peer gets other bytes than it is owed, after %zu", h->got);
        h->got += (size_t)n;
    }
    if (n == 0)
        hand_close(h, s);
    else if (n != -EAGAIN)
        end(h, s, HAND_CUT);
}

bool hand_go_on(struct hand *h, struct stage *s)
{
    bool just_sent = false;
    size_t sent = h->sent, got = h->got;
    if (h->end != HAND_UNDER_WAY)
        return false;
    if (h->sent < h->size) {
        size_t left = h->size - h->sent, most = left < PIECE ? left : PIECE;
        int n = pro_sim_write(s->sim, h->fd, h->request + h->sent, 1 + pro_sim_choose(s->sim, (uint32_t)most));
        h->sent += n > 0 ? (size_t)n : 0;
        just_sent = h->sent == h->size;
    }
    read_there(h, s);
    if (h->end == HAND_UNDER_WAY && h->sent == h->size)
        perhaps_leave(h, s, just_sent);
    return h->end != HAND_UNDER_WAY || h->sent > sent || h->got > got;
}

/* ---- Warming up ---- */

enum { WARM_FRAME = 100, WARM_FRAMES = 60, WARM_ANSWER = WARM_FRAMES * (5 + WARM_FRAME) };

static void warm_write(struct stage *s, int fd, const char *bytes, size_t size)
{
    if (pro_sim_write(s->sim, fd, bytes, size) != (int)size)
        pro_sim_fail(s->sim, "a calm world does not take %zu bytes", size);
}

/* All hold half a frame at the same time, and then all leave answers unread that fill more than the socket. */
void stage_warm_up(struct stage *s, unsigned peers)
{
    char bytes[WARM_ANSWER], answer[WARM_ANSWER];
    int *fds = sim_memory_own(peers * sizeof *fds);
    memset(bytes, 'w', sizeof bytes);
    for (unsigned i = 0; i < WARM_FRAMES; i++)
        memcpy(bytes + (size_t)i * (5 + WARM_FRAME), "00100", 5);
    for (unsigned i = 0; i < peers; i++)
        fds[i] = pro_sim_connect(s->sim, (struct sockaddr *)&s->at, sizeof s->at);
    stage_run(s, 10 * MILLISECOND);
    for (unsigned i = 0; i < peers; i++)
        warm_write(s, fds[i], bytes, 50);
    stage_run(s, 10 * MILLISECOND);
    for (unsigned i = 0; i < peers; i++) {
        warm_write(s, fds[i], bytes + 50, sizeof bytes / 2 - 50);
        stage_run(s, 10 * MILLISECOND);
        warm_write(s, fds[i], bytes + sizeof bytes / 2, sizeof bytes / 2);
    }
    stage_run(s, 10 * MILLISECOND);
    if (stage_holding(s).bytes < (uint64_t)peers * 65536)
        pro_sim_fail(s->sim, "%u peers that do not read need no buffers", peers);
    for (unsigned i = 0; i < peers; i++) {
        size_t got = 0;
        for (int n; (n = pro_sim_read(s->sim, fds[i], answer + got, sizeof answer - got)) > 0; got += (size_t)n)
            stage_run(s, 10 * MILLISECOND);
        if (got != sizeof answer || memcmp(answer, bytes, got) != 0)
            pro_sim_fail(s->sim, "a peer gets %zu bytes of a warm answer", got);
        pro_sim_close(s->sim, fds[i]);
    }
    free(fds);
    stage_settle(s);
}
