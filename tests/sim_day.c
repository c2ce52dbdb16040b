/* SPDX-License-Identifier: MIT
 *
 * What a guest of the service does over and over, on a loop of its own:
 *
 *      connect -> exchange -> [ pauses | waits in vain until its deadline ] -> exchange -> ...
 *         ^                   [ waits until the service finds it idle     ]
 *         |                   [ trickles a frame until it is too slow    ]
 *         |                   [ leaves                                    ]
 *         '------ a pause, or a connect that nobody answers -'
 *
 * Each end of a wait has its time: not before, and not much later. */
#include "sim_day.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_memory.h"

#define HOUR  (3600 * SECOND)
#define DAY   (24 * HOUR)
#define EVERY (60 * SECOND)
/* Of a result whose time has come: what the network and a hesitant kernel add, a few milliseconds at most each. */
#define LATE (20 * MILLISECOND)
/* Of a timer: nothing but the turns that are under way. A thousand ticks that each put the next one off show. */
#define TICK_LATE MILLISECOND

enum { GUESTS = 6, LEAST = 100, REQUEST = 600, FRAMES = 3, MOST_FRAME = 183 };

enum plan { PAUSE, WAIT_IN_VAIN, BE_IDLE, BE_SLOW, LEAVE, CONNECT_IN_VAIN, PLANS };

const struct service_config sim_day_limits = {
    .max_frame = MOST_FRAME,
    .high_water = 64 * 1024,
    .idle_ns = 60 * SECOND,
    .frame_ns = 10 * SECOND,
    .send_ns = 30 * SECOND,
    .drain_ns = 10 * SECOND,
};

struct guest {
    struct day *day;
    struct pro_handle handle;
    struct pro_op op, close;
    enum plan plan;
    uint64_t from, to; /* when it ends */
    size_t half;       /* bytes of a frame that is never whole */
    struct iovec iov;
    struct oracle_answer owed;
    uint8_t request[REQUEST], answer[REQUEST], got[REQUEST];
};

struct day {
    struct stage *stage;
    struct pro_loop *loop;
    struct pro_op tick;
    uint64_t began, ticks;
    struct pro_handle deaf; /* a listener that accepts nobody */
    struct sockaddr_in deaf_at;
    bool over;
    unsigned exchanges, plans[PLANS];
    struct guest guests[GUESTS];
};

static pro_fn on_connected, on_sent, on_answered, on_paused, on_nothing, on_half_sent, on_more, on_more_sent,
    on_thrown_out, on_left, on_back, on_not_connected;

static uint32_t choose(void *context, uint32_t count)
{
    return pro_sim_choose(context, count);
}

static uint64_t now_of(const struct guest *g)
{
    return pro_sim_now(g->day->stage->sim);
}

static uint64_t some_seconds(const struct guest *g, uint32_t most)
{
    return SECOND + pro_sim_choose(g->day->stage->sim, most * 1000) * MILLISECOND;
}

__attribute__((__noreturn__)) static void wrong(const struct guest *g, const char *what, int res)
{
    pro_sim_fail(g->day->stage->sim, "guest %d, plan %d: %s, with %s", (int)(g - g->day->guests), (int)g->plan, what,
                 res < 0 ? pro_error_name(res) : "success");
}

/* The wait that was planned has ended. Whether there is more to do. */
static bool ended_in_time(struct guest *g, struct pro_result r, int expected)
{
    if (g->day->over)
        return false;
    if (r.res != expected)
        wrong(g, "a wait ends otherwise than planned", r.res);
    if (now_of(g) < g->from)
        wrong(g, "a wait ends too early", r.res);
    if (now_of(g) > g->to + LATE)
        wrong(g, "a wait ends too late", r.res);
    g->day->plans[g->plan]++;
    return true;
}

/* ---- Coming and going ---- */

static void come(struct guest *g)
{
    if (pro_socket(g->day->loop, &g->handle, AF_INET, SOCK_STREAM, 0) < 0)
        wrong(g, "there is no socket", 0);
    bool in_vain = pro_sim_choose(g->day->stage->sim, 4) == 0;
    const struct sockaddr_in *at = in_vain ? &g->day->deaf_at : &g->day->stage->at;
    g->from = g->to = now_of(g) + some_seconds(g, 20);
    g->plan = CONNECT_IN_VAIN;
    pro_deadline(&g->op, g->from);
    pro_connect(&g->handle, &g->op, (const struct sockaddr *)at, sizeof *at, in_vain ? on_not_connected : on_connected);
}

static void go(struct guest *g)
{
    pro_close(&g->handle, &g->close, on_left);
}

static void on_left(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, close);
    if (g->day->over)
        return;
    g->plan = LEAVE;
    g->from = g->to = now_of(g) + some_seconds(g, 600);
    pro_timer(loop, &g->op, g->from, on_back);
}

static void on_back(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (ended_in_time(g, r, 0))
        come(g);
}

static void on_not_connected(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (ended_in_time(g, r, -ETIME))
        go(g);
}

/* ---- An exchange ---- */

static void ask(struct guest *g)
{
    size_t size = oracle_request(choose, g->day->stage->sim, MOST_FRAME, 1 + pro_sim_choose(g->day->stage->sim, FRAMES),
                                 ORACLE_CLOSED, g->request, sizeof g->request);
    g->owed = oracle_answer(g->request, size, MOST_FRAME, g->answer);
    g->iov = (struct iovec){g->request, size};
    g->from = now_of(g);
    pro_deadline(&g->op, g->from + 5 * SECOND);
    pro_send(&g->handle, &g->op, &g->iov, 1, 0, on_sent);
}

static void on_connected(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (g->day->over)
        return;
    if (r.res < 0)
        wrong(g, "it is not let in", r.res);
    ask(g);
}

static void on_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (g->day->over)
        return;
    if (r.res < 0)
        wrong(g, "it cannot send", r.res);
    pro_deadline(op, now_of(g) + 5 * SECOND);
    pro_recv(&g->handle, op, g->got, g->owed.size, PRO_RECV_ALL, on_answered);
}

/* ---- And what follows ---- */

static void plan(struct guest *g)
{
    uint64_t now = now_of(g), since = g->from; /* when it sent what the service has answered */
    g->plan = pro_sim_choose(g->day->stage->sim, LEAVE + 1);
    g->from = g->to = now + some_seconds(g, 40);
    switch (g->plan) {
    case PAUSE:
        pro_timer(g->day->loop, &g->op, g->from, on_paused);
        break;
    case WAIT_IN_VAIN:
        pro_deadline(&g->op, g->from);
        pro_recv(&g->handle, &g->op, g->got, 1, 0, on_nothing);
        break;
    case BE_IDLE:
        g->from = since + sim_day_limits.idle_ns;
        g->to = now + sim_day_limits.idle_ns;
        pro_recv(&g->handle, &g->op, g->got, 1, 0, on_thrown_out);
        break;
    case BE_SLOW:
        g->from = now + sim_day_limits.frame_ns;
        memcpy(g->request, "00100a half", 11);
        g->half = 1 + pro_sim_choose(g->day->stage->sim, 10);
        g->iov = (struct iovec){g->request, g->half};
        pro_send(&g->handle, &g->op, &g->iov, 1, 0, on_half_sent);
        break;
    default:
        go(g);
    }
}

static void on_answered(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (g->day->over)
        return;
    if (r.res != (int)g->owed.size || memcmp(g->got, g->answer, g->owed.size) != 0)
        wrong(g, "it does not get what it is owed", r.res);
    g->day->exchanges++;
    plan(g);
}

static void on_paused(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (ended_in_time(g, r, 0))
        ask(g);
}

static void on_nothing(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (ended_in_time(g, r, -ETIME))
        ask(g);
}

static void on_half_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (g->day->over)
        return;
    if (r.res < 0)
        wrong(g, "it cannot send", r.res);
    g->to = now_of(g) + sim_day_limits.frame_ns;
    pro_timer_after(loop, op, some_seconds(g, 8), on_more);
}

/* One byte more, which does not help. */
static void on_more(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (g->day->over)
        return;
    g->iov = (struct iovec){g->request + g->half, 1};
    pro_send(&g->handle, op, &g->iov, 1, 0, on_more_sent);
}

static void on_more_sent(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (g->day->over)
        return;
    if (r.res < 0)
        wrong(g, "it cannot send", r.res);
    pro_recv(&g->handle, op, g->got, 1, 0, on_thrown_out);
}

/* An end of file. */
static void on_thrown_out(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct guest *g = PRO_CONTAINER_OF(op, struct guest, op);
    if (ended_in_time(g, r, 0))
        go(g);
}

/* ---- The day ---- */

static void on_tick(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    struct day *day = PRO_CONTAINER_OF(op, struct day, tick);
    if (day->over)
        return;
    uint64_t now = pro_sim_now(day->stage->sim), at = day->began + ++day->ticks * EVERY;
    if (r.res != 1 || now < at || now > at + TICK_LATE)
        pro_sim_fail(day->stage->sim, "tick %llu comes with %d, and %lld ns late", (unsigned long long)day->ticks,
                     (int)r.res, (long long)(now - at));
}

/* A listener whose backlog is full for ever. */
static void be_deaf(struct day *day, int ret_fds[2])
{
    struct pro_sim *sim = day->stage->sim;
    day->deaf_at = day->stage->at;
    day->deaf_at.sin_port = htons(6790);
    if (pro_listen(day->loop, &day->deaf, (struct sockaddr *)&day->deaf_at, sizeof day->deaf_at, 1, 0) < 0)
        pro_sim_fail(sim, "there is no second listener");
    for (unsigned i = 0; i < 2; i++)
        ret_fds[i] = pro_sim_connect(sim, (struct sockaddr *)&day->deaf_at, sizeof day->deaf_at);
}

static void set_liberties(struct pro_sim *sim)
{
    static const enum pro_sim_fault liberties[] = {
        PRO_SIM_SEGMENT,       PRO_SIM_DELAY,       PRO_SIM_SHORT_SEND,  PRO_SIM_SHORT_RECV,
        PRO_SIM_INTERRUPT,     PRO_SIM_VAIN,        PRO_SIM_RECALL,      PRO_SIM_ONE_SHOT,
        PRO_SIM_MULTISHOT_END, PRO_SIM_POOL_EMPTY,  PRO_SIM_SUBMIT_FULL, PRO_SIM_CANCEL_FULL,
        PRO_SIM_EARLY_WAKE,    PRO_SIM_CANCEL_LATE, PRO_SIM_SLOW_CLOSE,  PRO_SIM_FEW,
    };
    for (size_t i = 0; i < sizeof liberties / sizeof liberties[0]; i++)
        pro_sim_rate(sim, liberties[i], 300);
}

static void make_loop(struct day *day)
{
    struct pro_config config = PRO_CONFIG_INIT;
    config.backend = PRO_BACKEND_SIM;
    config.sim = day->stage->sim;
    config.allocator = day->stage->memory;
    if (pro_loop_new(&config, &day->loop) < 0)
        pro_sim_fail(day->stage->sim, "a calm world refuses a loop");
}

static void pass(struct day *day)
{
    struct stage *s = day->stage;
    day->began = pro_sim_now(s->sim);
    pro_timer_every(day->loop, &day->tick, day->began + EVERY, EVERY, on_tick);
    for (unsigned i = 0; i < GUESTS; i++) {
        day->guests[i].day = day;
        come(&day->guests[i]);
    }
    stage_run(s, DAY + SECOND);
    if (day->ticks != DAY / EVERY)
        pro_sim_fail(s->sim, "the day has %llu ticks", (unsigned long long)day->ticks);
    for (unsigned i = 0; i < PLANS; i++)
        if (day->plans[i] < LEAST)
            pro_sim_fail(s->sim, "plan %u was carried out %u times in a day", i, day->plans[i]);
}

unsigned sim_day_play(struct stage *s)
{
    struct day *day = sim_memory_own(sizeof *day);
    struct holding before = stage_holding(s);
    int fds[2];
    day->stage = s;
    make_loop(day);
    be_deaf(day, fds);
    set_liberties(s->sim);
    pass(day);
    pro_sim_calm(s->sim);
    day->over = true;
    pro_loop_free(day->loop);
    for (unsigned i = 0; i < 2; i++)
        pro_sim_close(s->sim, fds[i]);
    stage_settle(s);
    holding_require(s, before, stage_holding(s), "after a day");
    unsigned exchanges = day->exchanges;
    free(day);
    return exchanges;
}
