/* SPDX-License-Identifier: MIT
 *
 * Memory of a loop: the allocator that the configuration names, and the page that tells a forked child. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loop.h"

static void *default_alloc(void *context, size_t size, size_t align)
{
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void default_free(void *context, void *memory, size_t size)
{
    free(memory);
}

const struct pro_allocator proi_allocator_default = {default_alloc, default_free, NULL};

void *proi_alloc(const struct pro_allocator *allocator, size_t size, size_t align)
{
    void *memory = allocator->alloc(allocator->context, size, align);
    return memory ? memset(memory, 0, size) : NULL;
}

void proi_free(const struct pro_allocator *allocator, void *memory, size_t size)
{
    if (memory)
        allocator->free(allocator->context, memory, size);
}

struct proi_guard *proi_guard_new(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    struct proi_guard *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    page->process = madvise(page, size, MADV_WIPEONFORK) < 0 ? getpid() : 0; /* gVisor does not know it */
    page->owner = PROI_ANYONE;
    return page;
}

bool proi_guard_forked(struct proi_guard *guard)
{
    if (guard->process && guard->process != getpid())
        guard->owner = NULL;
    return !guard->owner;
}

void proi_guard_free(struct proi_guard *guard)
{
    if (guard)
        munmap(guard, (size_t)sysconf(_SC_PAGESIZE));
}
