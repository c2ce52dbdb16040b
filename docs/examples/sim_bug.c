/* SPDX-License-Identifier: MIT
 *
 * An echo server with a bug, and the world that finds it: sim_bug [fixed] [SEED]. docs/simulation.md tells the story. */
#include <netinet/in.h>
#include <proactor/sim.h>
#include <proactor/stream.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum pro_stream_ending ending = PRO_STREAM_NOW; /* the bug */

static void on_end(struct pro_stream *peer, int error)
{
    pro_stream_close(peer, ending);
}
static void on_closed(struct pro_stream *peer, int error)
{
    free(peer);
}
static struct pro_stream_config echo = {.data = pro_stream_write_slices, .end = on_end, .closed = on_closed};
static void on_accept(struct pro_loop *loop, struct pro_op *op, struct pro_result r)
{
    if (r.res >= 0)
        pro_stream_open(calloc(1, sizeof(struct pro_stream)), loop, r.res, &echo);
}

/* A client says a line, and a millisecond later that this was all. It is owed an answer. Seed 0 is the calm world. */
static void play(unsigned long seed, const char *replay)
{
    struct pro_sim_config world = {.size = sizeof world, .seed = seed, .latency_ns = 50000, .replay = replay};
    struct pro_config config = {.size = sizeof config, .backend = PRO_BACKEND_SIM};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7777)};
    struct pro_loop *loop;
    struct pro_handle listener = {0};
    struct pro_op accept = {0};
    char answer[16] = "";
    world.front = seed ? PRO_SIM_SEED : PRO_SIM_CALM;
    world.rates[PRO_SIM_SEGMENT] = world.rates[PRO_SIM_DELAY] = world.rates[PRO_SIM_SHORT_SEND] = 3000;
    if (pro_sim_new(&world, &config.sim) || pro_loop_new(&config, &loop) || pro_pool_new(loop, NULL, &echo.pool) ||
        pro_listen(loop, &listener, (struct sockaddr *)&at, sizeof at, 0, 0))
        exit(1);
    pro_accept_multi(&listener, &accept, on_accept);
    int client = pro_sim_connect(config.sim, (struct sockaddr *)&at, sizeof at);
    pro_sim_run(config.sim, PRO_NEVER); /* until nothing happens any more: it is connected */
    pro_sim_write(config.sim, client, "hello, world", 12);
    pro_sim_run(config.sim, pro_sim_now(config.sim) + 1000000);
    pro_sim_shutdown(config.sim, client, SHUT_WR);
    pro_sim_run(config.sim, PRO_NEVER);
    int size = pro_sim_read(config.sim, client, answer, sizeof answer);
    if (size != 12 || memcmp(answer, "hello, world", 12) != 0)
        pro_sim_fail(config.sim, "the answer has %d bytes: '%.*s'", size, size > 0 ? size : 0, answer);
    pro_sim_close(config.sim, client);
    pro_loop_free(loop);
    pro_pool_free(echo.pool);
    pro_sim_free(config.sim);
}

int main(int argc, char **argv)
{
    bool fixed = argc > 1 && strcmp(argv[1], "fixed") == 0;
    unsigned long only = argc > 1 + fixed ? strtoul(argv[1 + fixed], NULL, 10) : 0;
    char replay[256];
    ending = fixed ? PRO_STREAM_FLUSH : PRO_STREAM_NOW;
    for (unsigned long seed = only; seed <= (only ? only : 1000); seed++) {
        snprintf(replay, sizeof replay, "%s %s%lu", argv[0], fixed ? "fixed " : "", seed);
        play(seed, replay);
        if (seed % 1000 == 0)
            printf("seed %lu: every answer was right so far\n", seed);
    }
}
