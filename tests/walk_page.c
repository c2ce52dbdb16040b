/* SPDX-License-Identifier: MIT
 *
 * The page in which a loop sees that it was forked costs three system calls, two thirds of the time of a history. Nobody
 * forks here, so the page is one of these.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 8 };

static _Alignas(PAGE) uint8_t pages[PAGES][PAGE];
static bool used[PAGES];

void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t size);
int __wrap_munmap(void *address, size_t size);
int __real_madvise(void *address, size_t size, int advice);
int __wrap_madvise(void *address, size_t size, int advice);

static int page_of(const void *address)
{
    for (int i = 0; i < PAGES; i++)
        if (address == pages[i])
            return i;
    return -1;
}

void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    for (int i = 0; i < PAGES && size == PAGE && flags & MAP_ANONYMOUS; i++) {
        if (used[i])
            continue;
        used[i] = true;
        return memset(pages[i], 0, PAGE);
    }
    return __real_mmap64(address, size, protection, flags, fd, offset);
}

int __wrap_munmap(void *address, size_t size)
{
    int page = page_of(address);
    if (page < 0)
        return __real_munmap(address, size);
    used[page] = false;
    return 0;
}

int __wrap_madvise(void *address, size_t size, int advice)
{
    return page_of(address) < 0 ? __real_madvise(address, size, advice) : 0;
}
