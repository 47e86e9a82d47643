/* From a density to the number of key blocks that each query block keeps. */
#include "core/budget.h"

#include <math.h>

#include "core/selection.h"

static int min_int(int a, int b) { return a < b ? a : b; }
static int clamp_int(int64_t x, int lo, int hi) { return x < lo ? lo : x > hi ? hi : (int)x; }

/* Row i of n tokens: its queries, its diagonal's pairs, and the pairs of one whole off-diagonal
 * block. */
struct row {
    int64_t queries, diagonal, block_pairs, causal;
};

static struct row row_of(int n, int block, int i)
{
    struct row r;
    r.queries = min_int(block, n - i * block);
    r.diagonal = r.queries * (r.queries + 1) / 2;
    r.block_pairs = r.queries * block;
    r.causal = r.block_pairs * i + r.diagonal;
    return r;
}

int sw_forced_count(struct sw_forced forced, int i)
{
    return min_int(i, forced.sink + forced.local - 1);
}

int64_t sw_budget_pairs(int n, int block, const int *m)
{
    int64_t pairs = 0;
    for (int i = 0; i < sw_blocks(n, block); i++) {
        struct row r = row_of(n, block, i);
        pairs += m[i] * r.block_pairs + r.diagonal;
    }
    return pairs;
}

static enum sw_status check(int n, int block, double density)
{
    if (n < 1 || block < 1 || !(density > 0 && density <= 1))
        return SW_FAIL(SW_EINPUT,
                       "budget: %d tokens, block %d, density %g; expected n >= 1, block >= 1, "
                       "density in (0, 1]",
                       n, block, density);
    return SW_OK;
}

static void fill_proportional(int n, int block, double lambda, struct sw_forced forced, int *m)
{
    for (int i = 0; i < sw_blocks(n, block); i++) {
        struct row r = row_of(n, block, i);
        double want = (lambda * (double)r.causal - (double)r.diagonal) / (double)r.block_pairs;
        m[i] = clamp_int((int64_t)floor(want + 0.5), sw_forced_count(forced, i), i);
    }
}

enum sw_status sw_budget_rows(int n, int block, double density, struct sw_forced forced, int *m,
                              bool *floored)
{
    SW_TRY(check(n, block, density));
    int b = sw_blocks(n, block);
    double target = density * ((double)n * ((double)n + 1) / 2);
    fill_proportional(n, block, 0, forced, m);
    bool at_floor = (double)sw_budget_pairs(n, block, m) > target;
    if (floored)
        *floored = at_floor;
    if (at_floor)
        return SW_OK; /* the forced sets alone */
    /* The total is a step function of lambda, nondecreasing: bisect to the largest lambda that
     * stays within the target.
     * lambda = 2 fills every row (want >= i for all i). 60 halvings resolve every step of fewer
     * than 2^40 pairs. */
    double lo = 0, hi = 2;
    fill_proportional(n, block, hi, forced, m);
    if ((double)sw_budget_pairs(n, block, m) <= target)
        lo = hi;
    for (int step = 0; step < 60 && lo < hi; step++) {
        double mid = 0.5 * (lo + hi);
        fill_proportional(n, block, mid, forced, m);
        if ((double)sw_budget_pairs(n, block, m) <= target)
            lo = mid;
        else
            hi = mid;
    }
    fill_proportional(n, block, lo, forced, m);
    /* What is missing goes to the last rows, one block each, while that brings the total closer. */
    double total = (double)sw_budget_pairs(n, block, m);
    for (int i = b - 1; i >= 0; i--) {
        if (m[i] == i)
            continue;
        double with = total + (double)row_of(n, block, i).block_pairs;
        if (fabs(with - target) >= fabs(total - target))
            break;
        m[i]++;
        total = with;
    }
    return SW_OK;
}

int sw_budget_decode(int n, int block, double density, struct sw_forced forced, bool *floored)
{
    int b = sw_blocks(n, block), tail = n - (b - 1) * block;
    int floor_k = min_int(sw_forced_count(forced, b - 1) + 1, b);
    /* blocks, the current one included */
    int64_t k = (int64_t)floor((density * n - tail) / block + 0.5) + 1;
    if (floored)
        *floored = k < floor_k;
    return clamp_int(k, floor_k, b) - 1;
}
