/* SPDX-License-Identifier: MIT */
#include "sim_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void __wrap_free(void *memory);

/* Stands before every block. */
struct lead {
    const struct pro_allocator *from; /* NULL: libc */
    void *base;                       /* what was allocated */
    size_t size;
    size_t reserved;
};
_Static_assert(sizeof(struct lead) % _Alignof(max_align_t) == 0, "what follows is aligned");

static const struct pro_allocator *volatile in_place;
static size_t added;

static void *with_lead(uint8_t *base, size_t offset, const struct pro_allocator *from, size_t size)
{
    if (!base)
        return NULL;
    ((struct lead *)(void *)(base + offset))[-1] = (struct lead){from, base, size, 0};
    added += from ? sizeof(struct lead) : 0;
    return base + offset;
}

void *__wrap_malloc(size_t size)
{
    const struct pro_allocator *a = in_place;
    size_t whole = size + sizeof(struct lead);
    uint8_t *base = a ? a->alloc(a->context, whole, _Alignof(max_align_t)) : __real_malloc(whole);
    return with_lead(base, sizeof(struct lead), a, whole);
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *memory = __wrap_malloc(count * size);
    return memory ? memset(memory, 0, count * size) : NULL;
}

/* Of the library and the world themselves, which have allocators of their own. */
void *__wrap_aligned_alloc(size_t align, size_t size)
{
    size_t lead = align > sizeof(struct lead) ? align : sizeof(struct lead);
    return with_lead(__real_aligned_alloc(align, lead + size), lead, NULL, lead + size);
}

void __wrap_free(void *memory)
{
    if (!memory)
        return;
    struct lead *lead = (struct lead *)memory - 1;
    if (lead->from) {
        added -= sizeof(struct lead);
        lead->from->free(lead->from->context, lead->base, lead->size);
    } else {
        __real_free(lead->base);
    }
}

const struct pro_allocator *sim_memory_use(const struct pro_allocator *allocator)
{
    const struct pro_allocator *before = in_place;
    in_place = allocator;
    return before;
}

size_t sim_memory_added(void)
{
    return added;
}

void *sim_memory_own(size_t size)
{
    const struct pro_allocator *before = sim_memory_use(NULL);
    void *memory = calloc(1, size);
    (void)sim_memory_use(before);
    if (!memory)
        abort();
    return memory;
}
