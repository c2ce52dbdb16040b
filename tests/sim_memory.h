/* SPDX-License-Identifier: MIT
 *
 * Memory of what is under test, when that calls malloc and its kin: it is the world's, counted, and may be refused.
 *
 * The linker wraps the calls (-Wl,--wrap=malloc,…). While sim_memory_use has an allocator in place they go there, else to
 * libc; a block goes back to where it came from whenever it is freed. Wrapped calls of the test itself belong between
 * two changes of the allocator, or into sim_memory_own.
 */
#ifndef TESTS_SIM_MEMORY_H
#define TESTS_SIM_MEMORY_H

#include <proactor.h>

/* From now on memory comes from there; NULL: from libc. Returns what was in place. It outlives its blocks. */
const struct pro_allocator *sim_memory_use(const struct pro_allocator *allocator);

/* What the wrapping adds to the blocks that are out and not libc's, in bytes. */
size_t sim_memory_added(void);

/* Memory of the test's own, zeroed, which must be there. Goes back by free(). */
void *sim_memory_own(size_t size);

#endif
