/* Which keys a query sees, entry by entry of its list. */
#include "tests/support/reference.h"

/* The rules of a block kept in part, as core/selection.h writes them. */
static bool rule_keeps(const struct sw_selection *sel, int unit, int32_t e, int t, int u)
{
    int words = (sel->block + 63) / 64, bit = t % sel->block, key = u % sel->block;
    if (t - u < sel->window || u < sel->sink)
        return true;
    if (sel->columns && sel->columns[(size_t)unit * (size_t)sel->mask_ld + (size_t)u])
        return true;
    if (sel->slashes && sel->slashes[(size_t)unit * (size_t)sel->mask_ld + (size_t)(t - u)])
        return true;
    if (sel->keys)
        return sel->keys[(size_t)e * (size_t)words + (size_t)(key / 64)] >> (key % 64) & 1;
    return sel->queries &&
           (sel->queries[(size_t)e * (size_t)words + (size_t)(bit / 64)] >> (bit % 64) & 1);
}

bool sw_reference_sees(const struct sw_selection *sel, int unit, int t, int u)
{
    if (u > t)
        return false;
    if (!sel)
        return true;
    int64_t row = (int64_t)unit * sel->rows + t / sel->block - sel->row0;
    for (int32_t e = sel->indptr[row]; e < sel->indptr[row + 1]; e++)
        if (sel->indices[e] == u / sel->block)
            return !sel->whole || sel->whole[e] || rule_keeps(sel, unit, e, t, u);
    return false;
}
