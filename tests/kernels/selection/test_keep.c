/* Marking: the best of a row, counts up to a sum, and keep matrices, against definitions entry by
 * entry. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/backends.h"
#include "tests/support/buffers.h"

enum { UNTOUCHED = 7 };

static uint8_t *bytes(size_t count)
{
    uint8_t *p = malloc(count);
    memset(p, UNTOUCHED, count);
    return p;
}

/* Does a at x come before b at y? Score descending, NaN last, then the index, larger first or
 * smaller first. */
static bool before(float a, int x, float b, int y, bool small_first)
{
    if (isnan(a) != isnan(b))
        return isnan(b);
    if (!isnan(a) && a != b)
        return a > b;
    return small_first ? x < y : x > y;
}

static void best_of_a_row(void **state)
{
    (void)state;
    static const int cases[][2] = {/* n always */ {1, 0},
                                   {1, 1},
                                   {60, 0},
                                   {60, 30},
                                   {60, 60},
                                   {60, 90},
                                   {5, 30},
                                   {200, 7}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int turn = 0; turn < 8; turn++) {
            enum { ROWS = 5 };
            int n = cases[c][0], always = cases[c][1], ld = n + 2, threads = 1 + turn % 3;
            bool small_first = turn & 1;
            float *in = sw_test_normal((size_t)(ROWS * ld), c * 8 + (size_t)turn);
            for (int x = 0; x < ROWS * ld; x++) { /* ties and odd values */
                int odd = sw_test_int(3, (uint64_t)x, 0, 40);
                in[x] = turn < 4   ? in[x]
                        : odd == 0 ? NAN
                        : odd == 1 ? INFINITY
                        : odd == 2 ? -0.0f
                                   : roundf(in[x] * 2) / 2;
            }
            int k[ROWS] = {0, always, always + 1, n / 2, n + 3};
            uint8_t *flags = bytes((size_t)(ROWS * ld));
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
            sw_test_ok(be->mark_top(be, &(struct sw_mark_top){.in = in,
                                                              .rows = ROWS,
                                                              .n = n,
                                                              .ld = ld,
                                                              .always = always,
                                                              .k = k,
                                                              .small_first = small_first,
                                                              .flags = flags}));
            for (int r = 0; r < ROWS; r++)
                for (int x = 0; x < ld; x++) {
                    if (x >= n) {
                        assert_int_equal(flags[r * ld + x], UNTOUCHED);
                        continue;
                    }
                    int better = always < n ? always : n; /* those always kept count */
                    for (int y = always; y < n && x >= always; y++)
                        better +=
                            y != x && before(in[r * ld + y], y, in[r * ld + x], x, small_first);
                    int want = x < always || better < k[r];
                    if (flags[r * ld + x] != want)
                        fail_msg("case %zu turn %d row %d: entry %d is %d", c, turn, r, x,
                                 flags[r * ld + x]);
                }
            sw_backend_close(be);
            free(in);
            free(flags);
        }
}

static int descending(const void *a, const void *b)
{
    return (*(const float *)a < *(const float *)b) - (*(const float *)a > *(const float *)b);
}

static void counts_up_to_a_sum(void **state)
{
    (void)state;
    enum { ROWS = 4, N = 300, LD = 301 };
    float *in = sw_test_normal(ROWS * LD, 5);
    for (int x = 0; x < ROWS * LD; x++)
        in[x] = x % 3 ? fabsf(in[x]) / N : 0.0f; /* zeros and ties */
    static const double limits[] = {0, 0.001, 0.1, 0.3, 0.5, 100};
    for (size_t l = 0; l < sizeof limits / sizeof *limits; l++)
        for (int threads = 1; threads <= 3; threads++) {
            int counts[ROWS];
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
            sw_test_ok(be->count_mass(be, &(struct sw_count_mass){.in = in,
                                                                  .rows = ROWS,
                                                                  .n = N,
                                                                  .ld = LD,
                                                                  .limit = limits[l],
                                                                  .counts = counts}));
            for (int r = 0; r < ROWS; r++) {
                float sorted[N];
                double sum = 0;
                int want = 0;
                memcpy(sorted, in + r * LD, sizeof sorted);
                qsort(sorted, N, sizeof *sorted, descending);
                for (int x = 0; x < N; x++) {
                    sum += (double)sorted[x];
                    want += sum <= limits[l];
                }
                assert_int_equal(counts[r], want);
            }
            sw_backend_close(be);
        }
    /* .5 + .3 is above .75: one token, to which the caller adds the crossing one */
    float v[3] = {0.2f, 0.5f, 0.3f};
    int count;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    sw_test_ok(be->count_mass(
        be, &(struct sw_count_mass){
                .in = v, .rows = 1, .n = 3, .ld = 3, .limit = 0.75, .counts = &count}));
    assert_int_equal(count, 1);
    sw_backend_close(be);
    free(in);
}

static void kept_lines(void **state)
{
    (void)state;
    static const int cases[][4] = {/* n B row0 units */ {100, 16, 0, 2},
                                   {96, 16, 0, 1},
                                   {9, 16, 0, 2},
                                   {130, 32, 3, 3},
                                   {64, 64, 0, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int turn = 0; turn < 64; turn++) {
            int n = cases[c][0], B = cases[c][1], row0 = cases[c][2], units = cases[c][3],
                b = sw_blocks(n, B), rows = b - row0, ld = b + 1, ld_rows = rows + 2;
            bool tokens = turn & 1, straddle = turn & 2, clear = turn & 4;
            int ld_in = n + 1;
            uint8_t *flags[3];
            for (int f = 0; f < 3; f++) {
                flags[f] = calloc((size_t)(units * ld_in), 1);
                for (int x = 0; x < units * ld_in; x++)
                    flags[f][x] =
                        sw_test_int((uint64_t)(turn * 3 + f), (uint64_t)x, 0, tokens ? 40 : 6) == 0;
            }
            const uint8_t *columns = turn & 8 ? flags[0] : NULL,
                          *slashes = turn & 16 ? flags[1] : NULL,
                          *whole = turn & 32 ? flags[2] : NULL;
            uint8_t *keep = bytes((size_t)(units * ld_rows * ld));
            for (int u = 0; u < units; u++)
                for (int r = 0; r < rows; r++)
                    for (int j = 0; j < b; j++)
                        keep[(u * ld_rows + r) * ld + j] = j <= row0 + r && (u + r + j) % 5 == 0;
            struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1 + turn % 3);
            sw_test_ok(be->keep_vertical_slash(
                be, &(struct sw_keep_vertical_slash){.columns = columns,
                                                     .slashes = slashes,
                                                     .whole_rows = whole,
                                                     .row0 = row0,
                                                     .rows = rows,
                                                     .n = n,
                                                     .block = B,
                                                     .grain = tokens ? 1 : B,
                                                     .ld_in = ld_in,
                                                     .straddle = straddle,
                                                     .clear = clear,
                                                     .keep = {keep, units, ld_rows, ld}}));
            for (int u = 0; u < units; u++)
                for (int r = 0; r < ld_rows; r++)
                    for (int j = 0; j < ld; j++) {
                        int got = keep[(u * ld_rows + r) * ld + j], i = row0 + r;
                        if (r >= rows || j >= b) {
                            assert_int_equal(got, UNTOUCHED);
                            continue;
                        }
                        bool want = !clear && (u + r + j) % 5 == 0;
                        for (int x = 0; x < (tokens ? n : b); x++) {
                            int at = tokens ? x / B : x,
                                reach = tokens ? (x + B - 1) / B : x + straddle;
                            want |= columns && columns[u * ld_in + x] && at == j;
                            want |= slashes && slashes[u * ld_in + x] &&
                                    (i - j == at || i - j == reach);
                        }
                        want |= whole && whole[u * ld_in + i];
                        if (got != (want && j <= i))
                            fail_msg("case %zu turn %d unit %d row %d: block %d is %d", c, turn, u,
                                     i, j, got);
                    }
            sw_backend_close(be);
            free(keep);
            for (int f = 0; f < 3; f++)
                free(flags[f]);
        }
}

/* The places of offsets, by hand: B = 64, row 3, offset 70 is keys 122 … 185, blocks 1 and 2; 64 is
 * block 2 alone; 0 the diagonal. */
static void offsets_by_hand(void **state)
{
    (void)state;
    enum { N = 256, B = 4 };
    static const int cases[][3] = {{70, 1, 2}, {64, 2, 2}, {0, 3, 3}, {127, 1, 2}, {128, 1, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint8_t slashes[N] = {0}, keep[B * B];
        slashes[cases[c][0]] = 1;
        struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
        sw_test_ok(
            be->keep_vertical_slash(be, &(struct sw_keep_vertical_slash){.slashes = slashes,
                                                                         .rows = B,
                                                                         .n = N,
                                                                         .block = 64,
                                                                         .grain = 1,
                                                                         .ld_in = N,
                                                                         .clear = true,
                                                                         .keep = {keep, 1, B, B}}));
        for (int j = 0; j < B; j++)
            assert_int_equal(keep[3 * B + j], j == cases[c][1] || j == cases[c][2]);
        sw_backend_close(be);
    }
}

struct entry {
    float score;
    int row, j;
};

static int best_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->row != y->row ? y->row - x->row : y->j - x->j;
}

static int sorted(const struct sw_keep_mass *a, int unit, int row, bool ends, struct entry *out)
{
    int n = 0;
    for (int r = row < 0 ? 0 : row; r < (row < 0 ? a->rows : row + 1); r++)
        for (int j = 0; j <= a->row0 + r; j++)
            if (ends || (j > 0 && j < a->row0 + r))
                out[n++] = (struct entry){
                    a->scores.data[(unit * a->scores.ld_rows + r) * a->scores.ld + j], r, j};
    qsort(out, (size_t)n, sizeof *out, best_first);
    return n;
}

static void mark(const struct sw_keep_mass *a, int unit, const struct entry *e, uint8_t *want)
{
    want[(unit * a->scores.ld_rows + e->row) * a->scores.ld + e->j] = 1;
}

/* The rules of core/ops.h, in their words. */
static void mass_reference(const struct sw_keep_mass *a, uint8_t *want)
{
    struct entry *e = malloc((size_t)((a->row0 + a->rows) * a->rows) * sizeof *e);
    for (int u = 0; u < a->scores.units; u++) {
        if (a->limit[u] < 0)
            continue;
        if (a->rule == SW_MASS_UNIT) {
            int n = sorted(a, u, -1, true, e);
            double sum = 0;
            for (int x = 0; x < n; x++) {
                sum += (double)e[x].score;
                if (sum <= a->limit[u] * a->rows)
                    mark(a, u, &e[x], want);
            }
            continue;
        }
        for (int r = 0; r < a->rows; r++) {
            int i = a->row0 + r, n = sorted(a, u, r, a->rule == SW_MASS_WITHIN, e);
            const float *row = a->scores.data + (u * a->scores.ld_rows + r) * a->scores.ld;
            double sum = 0, total = 0;
            if (a->rule == SW_MASS_WITHIN) {
                for (int x = 0; x < n; x++) {
                    sum += (double)e[x].score;
                    if (x == 0 || sum <= a->limit[u])
                        mark(a, u, &e[x], want);
                }
                continue;
            }
            for (int j = 0; j <= i; j++)
                total += (double)row[j];
            mark(a, u, &(struct entry){0, r, 0}, want);
            mark(a, u, &(struct entry){0, r, i}, want);
            sum = (double)row[0] + (i > 0 ? (double)row[i] : 0);
            for (int x = 0; x < n && sum < a->limit[u] * total; x++) {
                mark(a, u, &e[x], want);
                sum += (double)e[x].score;
            }
        }
    }
    free(e);
}

static void kept_mass(void **state)
{
    (void)state;
    static const int cases[][3] = {
        /* rows row0 units */ {1, 0, 1}, {29, 0, 3}, {5, 17, 2}, {70, 0, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int turn = 0; turn < 36; turn++) {
            int rows = cases[c][0], row0 = cases[c][1], units = cases[c][2], ld = row0 + rows + 1,
                ld_rows = rows + 1;
            size_t count = (size_t)(units * ld_rows * ld);
            float *scores = sw_test_normal(count, c + 10);
            for (size_t x = 0; x < count; x++) /* ties and zeros; sums of sixteenths are exact, so
                                                  that limits are met exactly too */
                scores[x] = turn % 2 ? floorf(fabsf(scores[x]) * 4) / 16 : fabsf(scores[x]) / 8;
            static const double limits[] = {0, 0.25, 0.5, 0.9, 1, 1.5};
            double limit[3] = {limits[turn / 6], turn % 4 ? limits[turn / 6] : -1, 0.75};
            bool clear = turn % 5 > 0;
            uint8_t *want = bytes(count), *keep = bytes(count);
            for (int u = 0; u < units; u++)
                for (int r = 0; r < rows; r++)
                    for (int j = 0; j < row0 + rows; j++)
                        want[(u * ld_rows + r) * ld + j] = 0;
            if (!clear)
                memcpy(keep, want, count);
            struct sw_keep_mass a = {.scores = {scores, units, ld_rows, ld},
                                     .row0 = row0,
                                     .rows = rows,
                                     .rule = (enum sw_mass_rule)(turn % 3),
                                     .limit = limit,
                                     .clear = clear,
                                     .keep = keep};
            mass_reference(&a, want);
            for (int threads = 1; threads <= 3; threads += 2) {
                struct sw_backend *be = sw_test_open(sw_test_isas()[0], threads);
                sw_test_ok(be->keep_mass(be, &a));
                for (size_t x = 0; x < count; x++)
                    if (keep[x] != want[x])
                        fail_msg("case %zu turn %d threads %d: unit %zu row %zu block %zu is %d", c,
                                 turn, threads, x / (size_t)(ld_rows * ld),
                                 x / (size_t)ld % (size_t)ld_rows, x % (size_t)ld, keep[x]);
                sw_backend_close(be);
            }
            free(scores);
            free(want);
            free(keep);
        }
}

/* Worked by hand: XAttention's row of four blocks, SpargeAttn's of three. */
static void mass_by_hand(void **state)
{
    (void)state;
    static struct {
        enum sw_mass_rule rule;
        double limit;
        float scores[4];
        int n, want;
    } cases[] = {{SW_MASS_REACH, 0.8, {0.05f, 0.10f, 0.60f, 0.25f}, 4, 0xd},
                 {SW_MASS_REACH, 0.95, {0.05f, 0.10f, 0.60f, 0.25f}, 4, 0xf},
                 {SW_MASS_REACH, 0.2, {0.05f, 0.10f, 0.60f, 0.25f}, 4, 0x9},
                 {SW_MASS_WITHIN, 0.8, {0.6f, 0.3f, 0.1f}, 3, 0x1},
                 {SW_MASS_WITHIN, 0.95, {0.6f, 0.3f, 0.1f}, 3, 0x3},
                 {SW_MASS_WITHIN, 0.1, {0.1f, 0.3f, 0.6f}, 3, 0x4},
                 {SW_MASS_WITHIN, 0.5, {0.25f, 0.25f, 0.25f, 0.25f}, 4, 0xc},
                 {SW_MASS_REACH, 0.75, {0.25f, 0.25f, 0.25f, 0.25f}, 4, 0xd},
                 {SW_MASS_WITHIN, 0.98, {0, 0, 0}, 3, 0x7}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint8_t keep[4];
        struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
        sw_test_ok(be->keep_mass(be, &(struct sw_keep_mass){.scores = {cases[c].scores, 1, 1, 4},
                                                            .row0 = cases[c].n - 1,
                                                            .rows = 1,
                                                            .rule = cases[c].rule,
                                                            .limit = &cases[c].limit,
                                                            .clear = true,
                                                            .keep = keep}));
        for (int j = 0; j < cases[c].n; j++)
            if (keep[j] != (cases[c].want >> j & 1))
                fail_msg("case %zu: block %d is %d", c, j, keep[j]);
        sw_backend_close(be);
    }
}

static void broken_contracts(void **state)
{
    (void)state;
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 1);
    float scores[16] = {0};
    uint8_t flags[16];
    double limit = 0.5;
    int k = 1;
    struct sw_mark_top top = {.in = scores, .rows = 1, .n = 16, .ld = 16, .k = &k, .flags = flags};
    sw_test_ok(be->mark_top(be, &top));
    top.ld = 15;
    sw_test_fails(be->mark_top(be, &top), SW_EINTERNAL);
    struct sw_keep_vertical_slash lines = {.columns = flags,
                                           .rows = 4,
                                           .n = 64,
                                           .block = 16,
                                           .grain = 16,
                                           .ld_in = 4,
                                           .keep = {flags, 1, 4, 4}};
    lines.grain = 8;
    sw_test_fails(be->keep_vertical_slash(be, &lines), SW_EINTERNAL);
    lines.grain = 1; /* then a flag a token is needed */
    sw_test_fails(be->keep_vertical_slash(be, &lines), SW_EINTERNAL);
    struct sw_keep_mass mass = {
        .scores = {scores, 1, 4, 4}, .rows = 4, .limit = &limit, .keep = flags};
    sw_test_ok(be->keep_mass(be, &mass));
    mass.row0 = 1;
    sw_test_fails(be->keep_mass(be, &mass), SW_EINTERNAL);
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_of_a_row),   cmocka_unit_test(counts_up_to_a_sum),
        cmocka_unit_test(kept_lines),      cmocka_unit_test(offsets_by_hand),
        cmocka_unit_test(kept_mass),       cmocka_unit_test(mass_by_hand),
        cmocka_unit_test(broken_contracts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
