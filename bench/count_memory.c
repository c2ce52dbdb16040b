/* SPDX-License-Identifier: MIT
 *
 * Counts what a server holds of the C library's allocator: LD_PRELOAD it, and name a file of eight bytes in BENCH_MEMORY,
 * which then holds the bytes that are out, as the allocator has rounded them. Works for every server alike, whatever
 * library it stands on. For memory only: it takes time.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The C library's own, under the names it keeps for programs like this one. */
void *libc_malloc(size_t size) __asm__("__libc_malloc");
void *libc_calloc(size_t count, size_t size) __asm__("__libc_calloc");
void *libc_realloc(void *memory, size_t size) __asm__("__libc_realloc");
void *libc_memalign(size_t align, size_t size) __asm__("__libc_memalign");
void libc_free(void *memory) __asm__("__libc_free");

/* An interposer has no object to hang its state on. */
static _Atomic int64_t before_start;
static _Atomic int64_t *out = &before_start;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("BENCH_MEMORY");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared == MAP_FAILED)
        return;
    out = shared;
    atomic_fetch_add(out, atomic_load(&before_start));
}

static void *counted(void *memory)
{
    if (memory)
        atomic_fetch_add_explicit(out, (int64_t)malloc_usable_size(memory), memory_order_relaxed);
    return memory;
}

static void uncount(void *memory)
{
    if (memory)
        atomic_fetch_sub_explicit(out, (int64_t)malloc_usable_size(memory), memory_order_relaxed);
}

void *malloc(size_t size)
{
    return counted(libc_malloc(size));
}

void *calloc(size_t nmemb, size_t size)
{
    return counted(libc_calloc(nmemb, size));
}

void *realloc(void *ptr, size_t size)
{
    int64_t before = ptr ? (int64_t)malloc_usable_size(ptr) : 0;
    void *moved = libc_realloc(ptr, size);
    if (moved || size == 0)
        atomic_fetch_sub_explicit(out, before, memory_order_relaxed);
    return counted(moved);
}

void *memalign(size_t alignment, size_t size)
{
    return counted(libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return counted(libc_memalign(alignment, size));
}

int posix_memalign(void **memptr, size_t alignment, size_t size)
{
    void *memory = counted(libc_memalign(alignment, size));
    if (!memory)
        return ENOMEM;
    *memptr = memory;
    return 0;
}

void free(void *ptr)
{
    uncount(ptr);
    libc_free(ptr);
}
