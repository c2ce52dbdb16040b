/* SPDX-License-Identifier: MIT
 *
 * The simulated world of a test, on backend sim. */
#include "harness.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    FIRST_DESCRIPTOR = 1 << 20,
    BUFFER = 212992, /* as Linux has it for Unix sockets: the tests know how much fits at least, and what does not */
};

static struct pro_sim *current;

struct pro_sim *harness_sim(void)
{
    return current;
}

struct pro_sim *harness_set_sim(struct pro_sim *sim)
{
    struct pro_sim *before = current;
    current = sim;
    return before;
}

int harness_first_descriptor(void)
{
    return FIRST_DESCRIPTOR;
}

bool world_is_sim(const struct world *w)
{
    return w->sim != NULL;
}

void skip_on_sim(const struct world *w)
{
    if (world_is_sim(w))
        skip();
}

/* Counted, for the tests that count the library's: what the kernel takes is not its. */
static void *heap_alloc(void *context, size_t size, size_t align)
{
    struct world *w = context;
    w->sim_heap_calls++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void heap_free(void *context, void *memory, size_t size)
{
    struct world *w = context;
    w->sim_heap_calls++;
    free(memory);
}

static void sim_open(struct world *w, struct pro_sim_config config)
{
    config.socket_buffer = BUFFER;
    config.first_descriptor = FIRST_DESCRIPTOR;
    config.descriptors = HARNESS_DESCRIPTORS;
    config.allocator = (struct pro_allocator){heap_alloc, heap_free, w};
    assert_int_equal(pro_sim_new(&config, &w->sim), 0);
    w->config.sim = w->sim;
    harness_set_sim(w->sim);
}

void world_sim_open(struct world *w)
{
    struct pro_sim_config config = PRO_SIM_CONFIG_INIT;
    config.front = PRO_SIM_CALM;
    sim_open(w, config);
}

void world_sim_change(struct world *w, const struct pro_sim_config *config)
{
    assert_null(w->loop);
    assert_true(world_sim_shut(w));
    sim_open(w, *config);
}

static uint64_t descriptors(const struct pro_sim *sim)
{
    struct pro_sim_stats stats;
    pro_sim_stats(sim, &stats, sizeof stats);
    return stats.descriptors;
}

unsigned world_sim_descriptors(void)
{
    return current ? (unsigned)descriptors(current) : 0;
}

bool world_sim_shut(struct world *w)
{
    if (!w->sim)
        return true;
    uint64_t open = descriptors(w->sim);
    harness_set_sim(NULL);
    if (open > 0) {
        print_error("leaked descriptor: %llu of the simulated world's\n", (unsigned long long)open);
        return false;
    }
    pro_sim_free(w->sim);
    return true;
}

bool harness_calls_are_led(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    close(fd);
    return fd >= FIRST_DESCRIPTOR;
}
