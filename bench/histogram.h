/* SPDX-License-Identifier: MIT
 *
 * A histogram of durations that is exact to 1 part in 128, whatever their size: log-linear, as HDR histograms are.
 *
 *     value      0 … 127 | 128 … 255 | 256 … 511 | 512 … 1023 | …
 *     a bucket holds   1 |         1 |         2 |          4 | …  values; 128 buckets each
 *
 * Recording is a shift and an increment. All zero bytes is empty. libc alone.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_ROW = 1 << HISTOGRAM_BITS,
    HISTOGRAM_TOP = 40, /* from 2^40 ns, 18 minutes, on all values share the last bucket */
    HISTOGRAM_BUCKETS = (HISTOGRAM_TOP - HISTOGRAM_BITS + 1) * HISTOGRAM_ROW,
};

struct histogram {
    uint64_t count;
    uint64_t most; /* the largest value, exact */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline uint32_t histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_ROW)
        return (uint32_t)value;
    uint32_t top = 63 - (uint32_t)__builtin_clzll(value);
    if (top >= HISTOGRAM_TOP)
        return HISTOGRAM_BUCKETS - 1;
    return ((top - HISTOGRAM_BITS) << HISTOGRAM_BITS) + (uint32_t)(value >> (top - HISTOGRAM_BITS));
}

/* The largest value that falls into the bucket. */
static inline uint64_t histogram_bucket_end(uint32_t bucket)
{
    if (bucket < HISTOGRAM_ROW)
        return bucket;
    uint32_t shift = bucket / HISTOGRAM_ROW - 1;
    return (((uint64_t)HISTOGRAM_ROW + bucket % HISTOGRAM_ROW + 1) << shift) - 1;
}

static inline void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram->buckets[histogram_bucket(value)]++;
    histogram->count++;
    if (value > histogram->most)
        histogram->most = value;
}

/* The value that a share of all, 0 to 1, do not exceed; 0 when there are none. Never below the true one. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t rank = (uint64_t)(share * (double)histogram->count), passed = 0;
    if ((double)rank < share * (double)histogram->count || rank == 0)
        rank++;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        passed += histogram->buckets[i];
        if (passed >= rank)
            return histogram_bucket_end(i) < histogram->most ? histogram_bucket_end(i) : histogram->most;
    }
    return histogram->most;
}

#endif
