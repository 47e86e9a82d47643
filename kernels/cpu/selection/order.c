/* Scores as integers in the order that selections follow. */
#include "kernels/cpu/selection/order.h"

static inline void swap(uint64_t *a, uint64_t *b)
{
    uint64_t t = *a;
    *a = *b;
    *b = t;
}

uint64_t sw_kth_largest(uint64_t *x, int n, int k)
{
    int lo = 0, hi = n - 1;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (x[mid] > x[lo])
            swap(&x[mid], &x[lo]);
        if (x[hi] > x[lo])
            swap(&x[hi], &x[lo]);
        if (x[hi] > x[mid])
            swap(&x[hi], &x[mid]);
        uint64_t pivot = x[mid];
        int i = lo, j = hi;
        while (i <= j) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i <= j)
                swap(&x[i++], &x[j--]);
        }
        if (k <= j)
            hi = j;
        else if (k >= i)
            lo = i;
        else
            return x[k];
    }
    return x[k];
}

/* Radix sort of the scores' four bytes, least significant first: each pass is stable, and four
 * passes end in x. */
void sw_sort_scores(uint64_t *x, uint64_t *spare, size_t n)
{
    for (int shift = 32; shift < 64; shift += 8) {
        size_t start[256] = {0}, at = 0;
        for (size_t i = 0; i < n; i++)
            start[x[i] >> shift & 255]++;
        for (int digit = 255; digit >= 0; digit--) { /* descending */
            size_t count = start[digit];
            start[digit] = at;
            at += count;
        }
        for (size_t i = 0; i < n; i++)
            spare[start[x[i] >> shift & 255]++] = x[i];
        uint64_t *t = x;
        x = spare;
        spare = t;
    }
}
