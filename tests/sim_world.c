/* SPDX-License-Identifier: MIT
 *
 * A world of its own for every seed.
 *
 *      server loop    the reverse service, with limits of this world
 *      client loops   peers that behave and peers that do not, and the client of proto/
 *      chaos          pairs of sockets, datagrams and files with random calls from every continuation (sim_acts.c)
 *
 * What is drawn first is the mood: no faults at all, then everybody must get what it is owed; or some faults of every
 * kind; or many of a few kinds. In the middle the service may be drained or cut, or a loop be freed under its programs.
 * Then the faults stop, and everything has to come to its end within a bound of the world's time.
 *
 * The memory of the service and the client is the world's too (sim_memory.h).
 */
#include "sim_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "service.h"
#include "sim_acts.h"
#include "sim_memory.h"
#include "sim_peer.h"

#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)

enum { CLIENT_LOOPS = 2, MOST_ROUNDS = 64, LINES_SIZE = 4000 };

/* ---- The parts ---- */

/* One client of proto/ with its input and output. */
struct lines {
    struct client *client;
    struct address_found server;
    int in, out, far; /* `far`: what its output is read from */
    char input[LINES_SIZE], expected[LINES_SIZE], got[LINES_SIZE];
    size_t size, got_size;
    bool over, failed;
};

struct play {
    struct pro_sim *sim;
    struct pro_allocator memory;
    const struct sim_plan *plan;
    struct sim_result *result;
    bool faulty;    /* the mood: there are faults */
    bool disturbed; /* by faults, or by an end before the end */
    bool leaving;   /* the service has been told to end */
    bool cut;       /* ... at once */
    struct pro_loop *server, *clients[CLIENT_LOOPS];
    struct pro_pool *pools[CLIENT_LOOPS];
    struct service *service;
    struct pro_remote *remote;
    struct pro_op mail[2]; /* drain, cut */
    struct service_config config;
    struct log log;
    struct peers peers;
    struct peer *first;
    struct lines lines;
    struct acts *acts;
};

static uint32_t choose(struct play *p, uint32_t count)
{
    return pro_sim_choose(p->sim, count);
}

/* ---- The mood ---- */

static void set_mood(struct play *p)
{
    uint32_t mood = choose(p, 10) % 8;
    p->faulty = p->disturbed = mood > 0;
    if (mood >= 1 && mood <= 4) /* some of everything */
        for (unsigned i = 0; i < PRO_SIM_FAULTS; i++)
            pro_sim_rate(p->sim, i, mood == 1 ? 20 : mood == 2 ? 100 : 400);
    for (unsigned i = 0; mood >= 4 && i < 3; i++) { /* much of some */
        uint32_t fault =
            choose(p, PRO_SIM_FAULTS); /* one choice a statement: which comes first is not the compiler's */
        pro_sim_rate(p->sim, fault, (uint16_t)(2000 + choose(p, 14000)));
    }
    pro_sim_rate(p->sim, PRO_SIM_CLOCK, mood == 7 ? 50 : 0); /* peers give up by the clock */
}

/* What a program does that must have a loop. */
static struct pro_loop *make_loop(struct play *p)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_loop *loop = NULL;
    config.backend = PRO_BACKEND_SIM;
    config.sim = p->sim;
    config.allocator = pro_sim_allocator(p->sim);
    if (choose(p, 4) == 0) {
        config.turn_completions = 2 + choose(p, 6);
        config.turn_bytes = 1 + choose(p, 10000);
    }
    while (pro_loop_new(&config, &loop) < 0) /* refused, or no memory: it is told, and tries again */
        continue;
    return loop;
}

/* ---- The service ---- */

static void start_service(struct play *p)
{
    struct sockaddr_storage at = {0};
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(6789)};
    memcpy(&at, &any, sizeof any);
    p->config = (struct service_config){
        .max_frame = p->peers.most_frame,
        .idle_ns = 5 * SECOND,
        .frame_ns = 2 * SECOND,
        .send_ns = 3 * SECOND,
        .log = &p->log,
    };
    p->config.high_water = 1 + choose(p, 4) * 64 * 1024;
    p->config.drain_ns = choose(p, 2) * 10 * SECOND;
    while (service_new(p->server, &p->config, &p->service) < 0)
        continue;
    for (uint32_t listeners = 1 + choose(p, 2); listeners > 0; listeners--)
        while (service_listen(p->service, &at, sizeof any, PRO_REUSEPORT, NULL, NULL) < 0)
            continue;
    while (!(p->remote = pro_remote_get(p->server)))
        continue;
    service_start(p->service, choose(p, 4) == 0 ? 2 + choose(p, 6) : 100000);
    p->peers.server = any;
}

static void on_drain(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct play *p = PRO_CONTAINER_OF(op, struct play, mail[0]);
    if (r.res < 0)
        return;
    (void)sim_memory_use(NULL);
    for (struct peer *peer = p->first; peer && !p->leaving; peer = peer->next)
        peer_note_drain(peer);
    (void)sim_memory_use(&p->memory);
    p->leaving = true;
    service_drain(p->service);
}

static void on_cut(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    if (r.res == 0)
        service_cut(PRO_CONTAINER_OF(op, struct play, mail[1])->service);
}

/* As a signal handler of `reversed` does it. */
static void post(struct play *p, unsigned mail)
{
    if (!p->server || pro_op_in_flight(&p->mail[mail]))
        return;
    hits_add(p->plan->hits, mail == 0 ? "drain" : "cut", 1);
    p->disturbed = true;
    p->cut |= mail == 1;
    (void)pro_post(p->remote, &p->mail[mail], mail == 0 ? on_drain : on_cut);
    if (choose(p, 2) == 0) /* more arrives before it is read */
        pro_sim_stand_still(p->sim, (1 + choose(p, 20)) * MILLISECOND);
}

static void free_server(struct play *p)
{
    if (!p->server)
        return;
    pro_loop_free(p->server);
    p->server = NULL;
    pro_remote_unref(p->remote);
    service_free(p->service);
    p->service = NULL;
}

/* ---- Peers ---- */

static void add_peer(struct play *p)
{
    struct peer *peer = sim_memory_own(sizeof *peer);
    unsigned i = choose(p, CLIENT_LOOPS);
    if (!p->clients[i]) {
        free(peer);
        return;
    }
    (void)sim_memory_use(NULL); /* what it allocates itself must be there */
    peer_begin(peer, &p->peers, p->clients[i], choose(p, 2) ? p->pools[i] : NULL);
    (void)sim_memory_use(&p->memory);
    peer->next = p->first;
    p->first = peer;
}

static bool all_over(const struct play *p)
{
    for (const struct peer *peer = p->first; peer; peer = peer->next)
        if (!peer_over(peer))
            return false;
    return p->lines.over || !p->lines.client;
}

static void start_clients(struct play *p)
{
    struct pro_pool_config config = PRO_POOL_CONFIG_INIT;
    config.slab_buffers = 1 + choose(p, 3);
    config.max_buffers = 2 + choose(p, 20);
    config.buffer_size = 256u << choose(p, 6);
    config.quota_buffers = 1 + choose(p, 4);
    for (unsigned i = 0; i < CLIENT_LOOPS; i++) {
        p->clients[i] = make_loop(p);
        while (pro_pool_new(p->clients[i], &config, &p->pools[i]) < 0)
            continue;
    }
}

static void free_client_loop(struct play *p, unsigned i)
{
    for (struct peer *peer = p->first; peer; peer = peer->next)
        peer->taken |= peer->loop == p->clients[i] && !peer_over(peer);
    pro_loop_free(p->clients[i]);
    p->clients[i] = NULL;
}

/* ---- The client of proto/ ---- */

static void on_lines_done(void *context, const char *failure)
{
    struct play *p = context;
    p->lines.over = true;
    p->lines.failed = failure != NULL;
    if (failure && !p->disturbed)
        pro_sim_fail(p->sim, "undisturbed, the client says: %s", failure);
}

/* Lines, and the same reversed. */
static void write_lines(struct play *p)
{
    struct lines *l = &p->lines;
    uint32_t count = choose(p, 30);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = choose(p, 3) ? choose(p, 40) : choose(p, 400);
        if (l->size + length + 1 > LINES_SIZE || length > p->peers.most_frame)
            return;
        for (uint32_t k = 0; k < length; k++) {
            char letter = (char)('a' + choose(p, 26));
            l->input[l->size + k] = letter;
            l->expected[l->size + length - 1 - k] = letter;
        }
        l->size += length;
        l->input[l->size] = l->expected[l->size] = '\n';
        l->size++;
    }
}

static void start_lines(struct play *p)
{
    struct lines *l = &p->lines;
    struct client_config config = {.pool = p->pools[0], .done = on_lines_done, .context = p, .connect_ns = 60 * SECOND};
    int ends[2];
    memcpy(&l->server.at, &p->peers.server, sizeof p->peers.server);
    l->server.length = sizeof p->peers.server;
    config.servers = &l->server;
    config.server_count = 1;
    write_lines(p);
    l->in = pro_sim_file(p->sim, l->input, l->size);
    if (pro_sim_pipe(p->sim, ends) < 0 || l->in < 0)
        abort();
    l->far = ends[0];
    l->out = ends[1];
    config.in = l->in;
    config.out = l->out;
    if (client_start(p->clients[0], &config, &l->client) < 0)
        l->client = NULL;
}

static void read_lines(struct play *p)
{
    struct lines *l = &p->lines;
    int n = pro_sim_read(p->sim, l->far, l->got + l->got_size, LINES_SIZE - l->got_size);
    l->got_size += n > 0 ? (size_t)n : 0;
    if (l->got_size > l->size || memcmp(l->got, l->expected, l->got_size) != 0)
        pro_sim_fail(p->sim, "the client puts out what is not its input reversed");
    if (l->over && !l->failed && n <= 0 && l->got_size != l->size)
        pro_sim_fail(p->sim, "the client has put out %zu of %zu bytes, and is content", l->got_size, l->size);
}

static void free_lines(struct play *p)
{
    while (p->lines.got_size < p->lines.size) {
        size_t before = p->lines.got_size;
        read_lines(p);
        if (p->lines.got_size == before)
            break;
    }
    client_free(p->lines.client);
    pro_sim_close(p->sim, p->lines.in);
    pro_sim_close(p->sim, p->lines.out);
    pro_sim_close(p->sim, p->lines.far);
}

/* ---- The play ---- */

/* The service is told to end when it is busy. */
static void drain_under_load(struct play *p)
{
    for (unsigned i = choose(p, 8); i > 0; i--)
        add_peer(p);
    pro_sim_run(p->sim, pro_sim_now(p->sim) + choose(p, 1200) * 1000);
    post(p, 0);
}

/* What comes from outside. */
static void intervene(struct play *p)
{
    switch (choose(p, 60)) {
    case 0:
    case 1:
        drain_under_load(p);
        break;
    case 2:
        post(p, 1);
        break;
    case 3:
        if (!p->server || choose(p, 3) > 0)
            break;
        hits_add(p->plan->hits, "loop_freed", 1);
        p->disturbed = p->peers.freed = p->cut = true;
        free_server(p);
        break;
    case 4:
        if (!p->clients[1] || choose(p, 3) > 0)
            break;
        hits_add(p->plan->hits, "loop_freed", 1);
        free_client_loop(p, 1);
        break;
    default:
        add_peer(p);
    }
}

static uint64_t events(const struct play *p)
{
    struct pro_sim_stats stats;
    pro_sim_stats(p->sim, &stats, sizeof stats);
    return stats.events;
}

static void main_part(struct play *p)
{
    for (unsigned round = 0; round < MOST_ROUNDS; round++) {
        bool enough = p->peers.connected >= p->plan->sessions && events(p) >= p->plan->events;
        if (enough && choose(p, 4) == 0)
            return;
        intervene(p);
        pro_sim_run(p->sim, pro_sim_now(p->sim) + (1 + choose(p, 100)) * MILLISECOND);
        read_lines(p);
    }
}

/* All connections are accounted for. */
static bool service_is_over(const struct play *p)
{
    struct service_counters c;
    uint64_t ended = 0;
    service_counters(p->service, &c);
    for (unsigned i = 0; i < SERVICE_ENDINGS; i++)
        ended += c.ended[i];
    if (ended > c.accepted || c.accepted - c.open > ended)
        pro_sim_fail(p->sim, "the service has accepted %llu connections, ended %llu, and %llu are open",
                     (unsigned long long)c.accepted, (unsigned long long)ended, (unsigned long long)c.open);
    return p->leaving && c.open == 0;
}

/* A service that has ended is followed by another, so that every seed has its sessions. */
static void last_part(struct play *p)
{
    pro_sim_calm(p->sim);
    if (!p->server || p->leaving || p->cut || pro_op_in_flight(&p->mail[0])) {
        p->cut |= p->server && !service_is_over(p);
        free_server(p);
        p->server = make_loop(p);
        start_service(p);
    }
    while ((p->peers.connected < p->plan->sessions || events(p) < p->plan->events) && p->clients[0]) {
        unsigned before = p->peers.connected;
        add_peer(p);
        pro_sim_run(p->sim, pro_sim_now(p->sim) + 2 * SECOND);
        read_lines(p);
        if (p->peers.connected == before && ++p->result->idle_rounds > 1000)
            pro_sim_fail(p->sim, "nobody is let in any more");
    }
    uint64_t bound = pro_sim_now(p->sim) + 600 * SECOND;
    while (!all_over(p)) {
        pro_sim_run(p->sim, pro_sim_now(p->sim) + SECOND);
        read_lines(p);
        if (pro_sim_now(p->sim) > bound)
            pro_sim_fail(p->sim, "a peer has not come to its end");
    }
}

/* What is left has to end by itself, within a bound. */
static void come_to_rest(struct play *p)
{
    if (p->server) {
        pro_sim_run(p->sim, pro_sim_now(p->sim) + 20 * SECOND); /* those who linger */
        service_drain(p->service);
    }
    if (pro_sim_run(p->sim, pro_sim_now(p->sim) + 60 * SECOND) != 0)
        pro_sim_fail(p->sim, "something is still in flight");
}

static void judge(struct play *p)
{
    enum disturbance disturbance = !p->disturbed ? UNDISTURBED : p->faulty || p->cut ? DISTURBED : DRAINED;
    for (const struct peer *peer = p->first; peer; peer = peer->next) {
        peer_judge(peer, disturbance);
        p->result->exact += !p->disturbed;
    }
}

static void unmake(struct play *p)
{
    free_server(p);
    for (unsigned i = 0; i < CLIENT_LOOPS; i++) {
        pro_loop_free(p->clients[i]);
        p->clients[i] = NULL;
    }
    for (unsigned i = 0; i < CLIENT_LOOPS; i++)
        pro_pool_free(p->pools[i]);
    free_lines(p);
    while (p->first) {
        struct peer *peer = p->first;
        p->first = peer->next;
        peer_free(peer);
        free(peer);
    }
}

void sim_world_play(const struct sim_plan *plan, struct sim_result *ret_result)
{
    struct play *p = sim_memory_own(sizeof *p);
    *ret_result = (struct sim_result){0};
    p->plan = plan;
    p->result = ret_result;
    if (pro_sim_new(plan->config, &p->sim) < 0)
        abort();
    p->memory = pro_sim_allocator(p->sim);
    pro_sim_trace(p->sim, plan->line, NULL);
    log_init(&p->log, "sim", -1, LOG_ERROR, pro_sim_now(p->sim));
    set_mood(p);
    p->peers = (struct peers){
        .sim = p->sim, .hits = plan->hits, .most_frame = 1000 + choose(p, 3) * 49000, .give_up_ns = 60 * SECOND};
    (void)sim_memory_use(&p->memory);
    p->server = make_loop(p);
    start_service(p);
    start_clients(p);
    start_lines(p);
    p->acts = plan->acts ? acts_begin(p->sim, plan->hits) : NULL;
    main_part(p);
    last_part(p);
    if (p->acts)
        acts_end(p->acts);
    come_to_rest(p);
    judge(p);
    unmake(p);
    (void)sim_memory_use(NULL);
    ret_result->sessions = p->peers.connected;
    ret_result->bytes = p->peers.bytes;
    pro_sim_stats(p->sim, &ret_result->stats, sizeof ret_result->stats);
    hits_add_world(plan->hits, &ret_result->stats);
    pro_sim_free(p->sim);
    free(p);
}
