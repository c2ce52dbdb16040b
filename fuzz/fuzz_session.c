/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the reverse service and its clients in a simulated world (tests/sim_world.c), with every fault, the plain
 * oracle and all ledgers.
 *
 * The first byte says what the network is like. Each of the others is a choice: what the peers do and say, where their
 * bytes are cut, what the kernel and the clock do, which fault strikes. When they are used up no fault strikes, and
 * everybody has to come to an end.
 */
#include <proactor/sim.h>

#include "fuzz.h"
#include "hits.h"
#include "sim_world.h"

enum { SESSIONS = 3 };

static struct hits hits;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    struct sim_plan plan = {.config = &config, .sessions = SESSIONS, .hits = &hits};
    struct sim_result result;
    uint8_t network = size > 0 ? data[0] : 0;
    if (!hits.table)
        hits_init(&hits, &hits_docs);
    config.front = PRO_SIM_BYTES;
    config.bytes = data + (size > 0);
    config.byte_count = size - (size > 0);
    config.latency_ns = (network & 3) * UINT64_C(50000);
    config.jitter_ns = (network >> 2 & 3) * UINT64_C(300000);
    config.socket_buffer = 512u << (network >> 4 & 7);
    config.audit_every = network >> 7 ? 1 : 0;
    sim_world_play(&plan, &result);
    REQUIRE(result.sessions >= SESSIONS);
    return 0;
}
