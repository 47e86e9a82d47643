/* order.h: the order of scores that selections follow, as integers: larger key = better. */
#ifndef SW_CPU_ORDER_H
#define SW_CPU_ORDER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Orders scores, then `index` (larger is better). -0 counts as +0, NaN is below everything. */
static inline uint64_t sw_key_of(float score, uint32_t index)
{
    uint32_t u;
    memcpy(&u, &score, sizeof u);
    if (u == 0x80000000u)
        u = 0;
    u = (u & 0x80000000u) ? ~u : u | 0x80000000u;
    if (score != score)
        u = 0;
    return (uint64_t)u << 32 | index;
}

static inline uint32_t sw_key_index(uint64_t key) { return (uint32_t)key; }

/* The k-th largest of x[0 … n-1], 0 <= k < n; reorders x. Quickselect with a median of three. */
uint64_t sw_kth_largest(uint64_t *x, int n, int k);

/* Best first, by the score alone: equal scores keep the order that they have in x. spare: room for
 * n more. */
void sw_sort_scores(uint64_t *x, uint64_t *spare, size_t n);

#endif
