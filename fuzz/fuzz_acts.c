/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: operations of every kind, and in every continuation anything that one may do (tests/sim_acts.h), in a
 * simulated world.
 *
 * The first two bytes say what the network is like and which faults there are. Each of the others is a choice: what is
 * started, cancelled, closed, freed and handed on, where bytes are cut, what the kernel does next. When they are used up
 * no fault strikes any more, and everything has to come to its end.
 */
#include <proactor/sim.h>

#include "fuzz.h"
#include "hits.h"
#include "sim_acts.h"

#define SECOND UINT64_C(1000000000)

static struct hits hits;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    struct pro_sim *sim;
    uint8_t network = size > 0 ? data[0] : 0, faults = size > 1 ? data[1] : 0;
    if (!hits.table)
        hits_init(&hits, &hits_docs);
    config.front = PRO_SIM_BYTES;
    config.bytes = size > 2 ? data + 2 : NULL;
    config.byte_count = size > 2 ? size - 2 : 0;
    config.latency_ns = (network & 3) * UINT64_C(50000);
    config.jitter_ns = (network >> 2 & 3) * UINT64_C(300000);
    config.socket_buffer = 2048u << (network >> 4 & 7); /* datagrams fit */
    config.audit_every = network >> 7 ? 1 : 0;
    if (faults & 1)
        pro_sim_faults(&config, 256);
    if (faults >> 1 > 0)
        config.rates[(faults >> 1) % PRO_SIM_CLOCK] = 16384;
    REQUIRE(pro_sim_new(&config, &sim) == 0);
    struct acts *acts = acts_begin(sim, &hits);
    pro_sim_run(sim, pro_sim_now(sim) + 100 * SECOND);
    pro_sim_calm(sim);
    acts_end(acts);
    pro_sim_free(sim);
    return 0;
}
