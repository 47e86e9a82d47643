/* The operations of the one-hop baselines (core/ops.h) on both backends. What only compares or adds
 * exact numbers must be the same to the bit; products and softmaxes agree within fp32's rounding of
 * bf16 inputs, and lists made of them but for near-ties. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/kernels/parity_cuda.h"

enum { BACKENDS = 2 };

static struct sw_backend *backend(struct parity *p, int w) { return w == 0 ? p->cpu : p->cuda; }

static void *zeros_on(struct sw_backend *be, size_t bytes)
{
    void *host = calloc(bytes ? bytes : 1, 1), *d = on_device(be, host, bytes);
    free(host);
    return d;
}

static uint8_t *bytes_from(struct sw_backend *be, const void *device, size_t bytes)
{
    uint8_t *host = need(bytes);
    must(be->download(be, host, device, bytes), "download");
    return host;
}

/* Multiples of 1/1024 below 1: their sums are exact in fp64 and nearly so in fp32, and there are
 * ties. */
static float *exact_values(uint64_t seed, size_t count)
{
    float *x = need(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(sw_rng_u64(seed, SW_RNG_TEST, i) % 1024) / 1024.0f;
    return x;
}

static void same_bytes(struct parity *p, uint8_t *got[BACKENDS], size_t bytes, const char *what,
                       int n, int block)
{
    size_t other = 0;
    for (size_t i = 0; i < bytes; i++)
        other += got[0][i] != got[1][i];
    check(p, other == 0, "%s, n %d B %d: %zu of %zu differ", what, n, block, other, bytes);
    free(got[0]);
    free(got[1]);
}

static void close_floats(struct parity *p, float *got[BACKENDS], size_t count, double allowed,
                         const char *what, int n, int block)
{
    double top = 0, e = largest_error(got[1], got[0], count);
    for (size_t i = 0; i < count; i++)
        top = fabs((double)got[0][i]) > top ? fabs((double)got[0][i]) : top;
    check(p, e <= allowed * top, "%s, n %d B %d: differs by %.3g of %.3g, allowed %.3g", what, n,
          block, e, top, allowed * top);
    free(got[0]);
    free(got[1]);
}

/* --- flags and keep matrices, on the same exact numbers --------------------------------------- */

static void marks(struct parity *p, int n, int block, uint64_t seed)
{
    int rows = 3, ld = n + 3, b = sw_blocks(n, block), k[3] = {1, n / 2 + 1, n};
    float *x = exact_values(seed, (size_t)rows * (size_t)ld);
    for (int small = 0; small < 2; small++) {
        uint8_t *flags[BACKENDS];
        for (int w = 0; w < BACKENDS; w++) {
            struct sw_backend *be = backend(p, w);
            float *d = on_device(be, x, (size_t)rows * (size_t)ld * 4);
            uint8_t *out = zeros_on(be, (size_t)rows * (size_t)ld);
            must(be->mark_top(be, &(struct sw_mark_top){.in = d,
                                                        .rows = rows,
                                                        .n = n,
                                                        .ld = ld,
                                                        .always = small ? 3 : 0,
                                                        .k = k,
                                                        .small_first = small,
                                                        .flags = out}),
                 "mark_top");
            flags[w] = bytes_from(be, out, (size_t)rows * (size_t)ld);
            for (int r = 0; r < rows; r++) /* beyond n nothing is promised */
                memset(flags[w] + r * ld + n, 0, (size_t)(ld - n));
            be->free(be, d);
            be->free(be, out);
        }
        same_bytes(p, flags, (size_t)rows * (size_t)ld,
                   small ? "mark_top, small first" : "mark_top", n, block);
    }
    int counts[BACKENDS][3];
    for (int w = 0; w < BACKENDS; w++) {
        struct sw_backend *be = backend(p, w);
        float *d = on_device(be, x, (size_t)rows * (size_t)ld * 4);
        must(be->count_mass(be, &(struct sw_count_mass){.in = d,
                                                        .rows = rows,
                                                        .n = n,
                                                        .ld = ld,
                                                        .limit = n / 3.0,
                                                        .counts = counts[w]}),
             "count_mass");
        be->free(be, d);
    }
    check(p, memcmp(counts[0], counts[1], sizeof counts[0]) == 0, "count_mass, n %d: %d %d", n,
          counts[0][0], counts[1][0]);
    float *lines[BACKENDS];
    for (int split = 0; split < 2; split++) {
        for (int w = 0; w < BACKENDS; w++) {
            struct sw_backend *be = backend(p, w);
            float *d = on_device(be, x, (size_t)rows * (size_t)ld * 4),
                  *out = zeros_on(be, (size_t)rows * (size_t)b * 4);
            must(be->pool_vertical_slash(be, &(struct sw_pool_vertical_slash){.in = d,
                                                                              .rows = rows,
                                                                              .n = n,
                                                                              .ld = ld,
                                                                              .block = block,
                                                                              .split = split,
                                                                              .scale = 0.5f,
                                                                              .out = out,
                                                                              .ld_out = b}),
                 "pool_vertical_slash");
            lines[w] = floats_from(be, out, (size_t)rows * (size_t)b);
            be->free(be, d);
            be->free(be, out);
        }
        close_floats(p, lines, (size_t)rows * (size_t)b, 1e-6, "pool_vertical_slash", n, block);
    }
    free(x);
}

static void keeps(struct parity *p, int n, int block, uint64_t seed)
{
    int b = sw_blocks(n, block), ld = b + 2, units = 3;
    size_t entries = (size_t)units * (size_t)ld * (size_t)ld,
           line = (size_t)units * (size_t)(n + 1);
    float *scores = exact_values(seed, entries);
    uint8_t *columns = need(line), *slashes = need(line), *whole = need(line);
    for (size_t i = 0; i < line; i++) {
        columns[i] = sw_rng_u64(seed + 1, SW_RNG_TEST, i) % 97 == 0;
        slashes[i] = sw_rng_u64(seed + 2, SW_RNG_TEST, i) % 61 == 0;
        whole[i] = sw_rng_u64(seed + 3, SW_RNG_TEST, i) % 9 == 0;
    }
    double limit[3] = {0.4, -1, 0.8};
    for (int kind = 0; kind < 5; kind++) {
        uint8_t *keep[BACKENDS];
        struct sw_selection lists[BACKENDS] = {{0}, {0}};
        for (int w = 0; w < BACKENDS; w++) {
            struct sw_backend *be = backend(p, w);
            float *d = on_device(be, scores, entries * 4);
            uint8_t *dc = on_device(be, columns, line), *ds = on_device(be, slashes, line),
                    *dw = on_device(be, whole, line), *out = zeros_on(be, entries);
            if (kind < 3)
                must(be->keep_mass(be, &(struct sw_keep_mass){.scores = {d, units, ld, ld},
                                                              .row0 = 0,
                                                              .rows = b,
                                                              .rule = (enum sw_mass_rule)kind,
                                                              .limit = limit,
                                                              .clear = true,
                                                              .keep = out}),
                     "keep_mass");
            else
                must(be->keep_vertical_slash(
                         be, &(struct sw_keep_vertical_slash){.columns = dc,
                                                              .slashes = ds,
                                                              .whole_rows = kind == 3 ? NULL : dw,
                                                              .row0 = 0,
                                                              .rows = b,
                                                              .n = n,
                                                              .block = block,
                                                              .grain = kind == 3 ? 1 : block,
                                                              .ld_in = n + 1,
                                                              .straddle = kind == 4,
                                                              .clear = true,
                                                              .keep = {out, units, ld, ld}}),
                     "keep_vertical_slash");
            struct sw_selection list = {0};
            bool masked = kind == 3;
            must(be->select_keep(be,
                                 &(struct sw_select_keep){.keep = {out, units, ld, ld},
                                                          .row0 = 0,
                                                          .rows = b,
                                                          .columns = masked ? dc : NULL,
                                                          .slashes = masked ? ds : NULL,
                                                          .mask_ld = masked ? n + 1 : 0,
                                                          .block = block,
                                                          .n = n,
                                                          .n_q = n},
                                 &list),
                 "select_keep");
            must(sw_selection_to_host(&list, &lists[w]), "to_host");
            must(sw_selection_validate(&lists[w]), "select_keep");
            sw_selection_free(&list);
            uint8_t *all = bytes_from(be, out, entries);
            keep[w] = need(entries);
            memset(keep[w], 0, entries);
            for (int u = 0; u < units; u++) /* what is used, as 0 or 1 */
                for (int i = 0; i < b; i++)
                    for (int j = 0; j <= i; j++) {
                        size_t at = ((size_t)u * (size_t)ld + (size_t)i) * (size_t)ld + (size_t)j;
                        keep[w][at] = all[at] != 0;
                    }
            free(all);
            void *used[] = {d, dc, ds, dw, out};
            for (size_t f = 0; f < sizeof used / sizeof *used; f++)
                be->free(be, used[f]);
        }
        static const char *const names[] = {"keep_mass reach", "keep_mass within", "keep_mass unit",
                                            "keep_vertical_slash a token",
                                            "keep_vertical_slash a block"};
        same_bytes(p, keep, entries, names[kind], n, block);
        check(p,
              memcmp(lists[0].indptr, lists[1].indptr, (size_t)(units * b + 1) * 4) == 0 &&
                  memcmp(lists[0].indices, lists[1].indices,
                         (size_t)lists[0].indptr[units * b] * 4) == 0,
              "select_keep after %s, n %d B %d: other lists", names[kind], n, block);
        check(p, sw_selection_density(&lists[0]) == sw_selection_density(&lists[1]),
              "select_keep after %s, n %d: densities differ", names[kind], n);
        sw_selection_free(&lists[0]);
        sw_selection_free(&lists[1]);
    }
    free(scores);
    free(columns);
    free(slashes);
    free(whole);
}

/* --- scores of queries and keys --------------------------------------------------------------- */

struct shape_case {
    int n, H, Hkv, d, block, stride, last;
};

static void scores_of(struct parity *p, const struct shape_case *c, uint64_t seed)
{
    int b = sw_blocks(c->n, c->block), ld = b + 1, last = c->last < c->n ? c->last : c->n;
    size_t qn = (size_t)c->n * (size_t)c->H * (size_t)c->d,
           kn = (size_t)c->n * (size_t)c->Hkv * (size_t)c->d;
    size_t H = (size_t)c->H, Hkv = (size_t)c->Hkv, lines_n = H * (size_t)(c->n + 2),
           matrix_n = H * (size_t)ld * (size_t)ld;
    size_t means_n = Hkv * (size_t)ld * (size_t)c->d, words = (size_t)((c->block + 63) / 64);
    float *q = random_values(seed, qn, 1), *k = random_values(seed + 1, kn, 1),
          *v = random_values(seed + 2, kn, 1);
    float *columns[2], *slashes[2], *diagonal[2], *alike[2], *low[2], *bound[2], *gates[2], *out[2],
        *lines[2];
    struct sw_selection lists[2] = {{0}, {0}};
    float *shift = need(Hkv * (size_t)c->d * 4);
    for (size_t i = 0; i < Hkv * (size_t)c->d; i++)
        shift[i] = 0.25f * (float)(i % 5);
    for (int w = 0; w < BACKENDS; w++) {
        struct sw_backend *be = backend(p, w);
        void *dq = acts_on_device(be, q, qn), *dk = acts_on_device(be, k, kn),
             *dv = acts_on_device(be, v, kn), *o = acts_on_device(be, q, qn);
        struct sw_attend in = {.batch = 1,
                               .n_q = c->n,
                               .n_k = c->n,
                               .n_heads = c->H,
                               .n_kv_heads = c->Hkv,
                               .head_dim = c->d,
                               .kv_stride = c->n,
                               .q = dq,
                               .k = dk,
                               .v = dv,
                               .out = o,
                               .scale = (float)(1 / sqrt((double)c->d))};
        float *dc = zeros_on(be, lines_n * 4), *ds = zeros_on(be, lines_n * 4),
              *m = zeros_on(be, matrix_n * 4), *g = zeros_on(be, matrix_n * 4);
        float *sim = zeros_on(be, Hkv * (size_t)ld * 4),
              *dshift = on_device(be, shift, Hkv * (size_t)c->d * 4),
              *ls = zeros_on(be, matrix_n * 4);
        float *lo = zeros_on(be, means_n * 4), *hi = zeros_on(be, means_n * 4),
              *up = zeros_on(be, H * (size_t)ld * 4), *means = zeros_on(be, means_n * 4);
        uint8_t *keep = zeros_on(be, matrix_n);
        uint64_t *bits = zeros_on(be, matrix_n * words * 8);
        must(be->vertical_slash(
                 be,
                 &(struct sw_vertical_slash){
                     .in = &in, .last = last, .ld = c->n + 2, .columns = dc, .slashes = ds}),
             "vertical_slash");
        columns[w] = floats_from(be, dc, lines_n);
        slashes[w] = floats_from(be, ds, lines_n);
        must(be->antidiagonal(be, &(struct sw_antidiagonal){.in = &in,
                                                            .stride = c->stride,
                                                            .block = c->block,
                                                            .out = {m, c->H, ld, ld}}),
             "antidiagonal");
        diagonal[w] = floats_from(be, m, matrix_n);
        must(be->similarity(be, &(struct sw_similarity){.x = dk,
                                                        .heads = c->Hkv,
                                                        .head_dim = c->d,
                                                        .n = c->n,
                                                        .block = c->block,
                                                        .shift = dshift,
                                                        .out = sim,
                                                        .ld = ld}),
             "similarity");
        alike[w] = floats_from(be, sim, Hkv * (size_t)ld);
        size_t token = Hkv * (size_t)c->d * sw_dtype_size(be->act);
        for (int part = 0; part < 2; part++) /* all but the last token, then that one */
            must(
                be->extremes(be, &(struct sw_extremes){.x = (char *)dk +
                                                            (part ? (size_t)(c->n - 1) * token : 0),
                                                       .heads = c->Hkv,
                                                       .head_dim = c->d,
                                                       .block = c->block,
                                                       .t0 = part ? c->n - 1 : 0,
                                                       .t1 = part ? c->n : c->n - 1,
                                                       .ld = ld,
                                                       .low = lo,
                                                       .high = hi}),
                "extremes");
        low[w] = floats_from(be, lo, means_n);
        must(be->bound_scores(be, &(struct sw_bound_scores){.q = dq,
                                                            .n_heads = c->H,
                                                            .n_kv_heads = c->Hkv,
                                                            .head_dim = c->d,
                                                            .b = b,
                                                            .ld_in = ld,
                                                            .low = lo,
                                                            .high = hi,
                                                            .out = {up, c->Hkv, 1, ld}}),
             "bound_scores");
        bound[w] = floats_from(be, up, H * (size_t)ld);
        must(be->pool(be, &(struct sw_pool){.x = dk,
                                            .heads = c->Hkv,
                                            .head_dim = c->d,
                                            .units = c->Hkv,
                                            .block = c->block,
                                            .t0 = 0,
                                            .t1 = c->n,
                                            .ld = ld,
                                            .sums = lo}),
             "pool");
        must(be->sketch(be, &(struct sw_sketch){.sums = lo,
                                                .units = c->Hkv,
                                                .ld = ld,
                                                .d = c->d,
                                                .block = c->block,
                                                .n = c->n,
                                                .i0 = 0,
                                                .i1 = b,
                                                .out = means}),
             "means");
        struct sw_token_gates of = {.q = dq,
                                    .n = c->n,
                                    .n_q = c->n,
                                    .n_heads = c->H,
                                    .n_kv_heads = c->Hkv,
                                    .head_dim = c->d,
                                    .block = c->block,
                                    .k_ld = ld,
                                    .k = means,
                                    .scale = in.scale};
        must(be->gate_scores(be, &(struct sw_gate_scores){.in = of, .out = {g, c->Hkv, ld, ld}}),
             "gate_scores");
        gates[w] = floats_from(be, g, matrix_n);
        must(be->vertical_slash_scores(
                 be, &(struct sw_vertical_slash_scores){.columns = dc,
                                                        .slashes = ds,
                                                        .row0 = 0,
                                                        .rows = b,
                                                        .b = b,
                                                        .ld_in = c->n + 2,
                                                        .out = {ls, c->H, ld, ld}}),
             "vertical_slash_scores");
        lines[w] = floats_from(be, ls, matrix_n);
        int *top = need((size_t)b * sizeof *top);
        for (int i = 0; i < b; i++)
            top[i] = i < 3 ? i : 3;
        must(be->gate_top(be,
                          &(struct sw_gate_top){
                              .in = of, .top = top, .keep = {keep, c->H, ld, ld}, .queries = bits}),
             "gate_top");
        struct sw_selection list = {0};
        must(be->select_keep(be,
                             &(struct sw_select_keep){.keep = {keep, c->H, ld, ld},
                                                      .row0 = 0,
                                                      .rows = b,
                                                      .queries = bits,
                                                      .block = c->block,
                                                      .n = c->n,
                                                      .n_q = c->n},
                             &list),
             "select_keep");
        in.sel = &list;
        must(be->attend(be, &in), "attend with token masks");
        out[w] = need(qn * 4);
        must(be->download_act(be, out[w], o, qn), "download");
        must(sw_selection_to_host(&list, &lists[w]), "to_host");
        must(sw_selection_validate(&lists[w]), "gate_top");
        sw_selection_free(&list);
        free(top);
        void *used[] = {dq,     dk, dv, o,  dc, ds,    m,    g,   sim,
                        dshift, ls, lo, hi, up, means, keep, bits};
        for (size_t f = 0; f < sizeof used / sizeof *used; f++)
            be->free(be, used[f]);
    }
    /* Each token keeps as many blocks on both sides; a near-tie moves one. */
    double kept[2] = {sw_selection_density(&lists[0]), sw_selection_density(&lists[1])};
    check(p, fabs(kept[0] - kept[1]) <= 2e-3 * kept[0], "gate_top, n %d: density %g, %g", c->n,
          kept[0], kept[1]);
    check(p, relative_error(out[1], out[0], qn) <= 0.03,
          "attention with token masks, n %d: error %.3g", c->n, relative_error(out[1], out[0], qn));
    free(out[0]);
    free(out[1]);
    sw_selection_free(&lists[0]);
    sw_selection_free(&lists[1]);
    close_floats(p, columns, lines_n, 2e-5, "vertical_slash, columns", c->n, c->block);
    close_floats(p, slashes, lines_n, 2e-5, "vertical_slash, slashes", c->n, c->block);
    close_floats(p, lines, matrix_n, 2e-5, "vertical_slash_scores", c->n, c->block);
    close_floats(p, diagonal, matrix_n, 1e-4, "antidiagonal", c->n, c->block);
    close_floats(p, alike, Hkv * (size_t)ld, 1e-5, "similarity", c->n, c->block);
    close_floats(p, low, means_n, 0, "extremes", c->n, c->block);
    close_floats(p, bound, H * (size_t)ld, 1e-5, "bound_scores", c->n, c->block);
    close_floats(p, gates, matrix_n, 1e-4, "gate_scores", c->n, c->block);
    free(q);
    free(k);
    free(v);
    free(shift);
}

/* --- Sketch&Walk's decode step: fused on the GPU, its parts on the CPU ------------------------ */

/* repeat: of keys, after so many blocks; 0: none */
struct step_case {
    int n, H, Hkv, d, block, r;
    bool first;
    float exponent;
    double density;
    int repeat;
};

/* What a step leaves behind, of one sequence. */
struct step_result {
    struct sw_selection list;
    float *row, *walked, *sketches, *out;
};
static void free_result(struct step_result *r)
{
    sw_selection_free(&r->list);
    free(r->row);
    free(r->walked);
    free(r->sketches);
    free(r->out);
}

/* Frees both, and the results no longer have them. */
static void close_pair(struct parity *p, float **got, float **reference, size_t count,
                       double allowed, const char *what, const struct step_case *c)
{
    float *pair[BACKENDS] = {*reference, *got};
    *reference = *got = NULL;
    close_floats(p, pair, count, allowed, what, c->n, c->block);
}

/* The same values `times` times, one after the other. */
static float *repeated(const float *x, size_t count, int times)
{
    float *all = need(count * (size_t)times * sizeof *all);
    for (int i = 0; i < times; i++)
        memcpy(all + count * (size_t)i, x, count * sizeof *x);
    return all;
}
static float *repeated_on(struct sw_backend *be, const float *x, size_t count, int times)
{
    float *all = repeated(x, count, times),
          *d = on_device(be, all, count * (size_t)times * sizeof *all);
    free(all);
    return d;
}
static void *repeated_acts(struct sw_backend *be, const float *x, size_t count, int times)
{
    float *all = repeated(x, count, times), *d = acts_on_device(be, all, count * (size_t)times);
    free(all);
    return d;
}

/* Unit `unit` of a selection as one of its own. */
static void one_unit(const struct sw_selection *all, int unit, struct sw_selection *out)
{
    int from = all->indptr[unit], count = all->indptr[unit + 1] - from;
    must(sw_selection_reserve(out, NULL, 1, 1, count, false), "reserve");
    out->block = all->block;
    out->n = all->n;
    out->n_q = all->n_q;
    out->row0 = all->row0;
    out->indptr[0] = 0;
    out->indptr[1] = count;
    memcpy(out->indices, all->indices + from, (size_t)count * sizeof *out->indices);
}

/* One step of the last of `batch` sequences, whose others have other queries; then its attention,
 * twice: on the GPU the first makes its list from the scores and the second takes the list that was
 * written, and both must have the same bits. */
static void run_step(struct parity *p, struct sw_backend *be, const struct step_case *c, int batch,
                     const struct sw_srht *host_t, const float *q, const float *k,
                     const float *cached, const float *x, struct step_result *out)
{
    int b = sw_blocks(c->n, c->block), last = b - 1, ld = (b + 6) / 4 * 4, m;
    size_t d = (size_t)c->d, d_pow2 = (size_t)host_t->d_pow2, width = (size_t)ld,
           matrix = width * width, kn = (size_t)c->n * (size_t)c->Hkv * d, qn = (size_t)c->H * d;
    size_t others = (size_t)batch - 1, act = sw_dtype_size(be->act),
           sketch_n = width * (size_t)c->r;
    m = sw_budget_decode(c->n, c->block, c->density, SW_FORCED_COMMON, NULL);
    float *qs = repeated(q, qn, batch);
    for (size_t i = 0; i < others * qn; i++)
        qs[i] = -qs[i];
    char *dq = acts_on_device(be, qs, qn * (size_t)batch), *dk = repeated_acts(be, k, kn, batch),
         *o = acts_on_device(be, qs, qn * (size_t)batch);
    float *a = repeated_on(be, cached, matrix, batch), *dx = repeated_on(be, x, width, batch),
          *walked = zeros_on(be, (size_t)batch * width * 4);
    float *sums = zeros_on(be, (size_t)batch * width * d * 4), *q_sums = zeros_on(be, d * 4),
          *q_sketch = zeros_on(be, (size_t)c->r * 4);
    float *k_sketch = zeros_on(be, (size_t)batch * sketch_n * 4);
    struct sw_srht t = *host_t;
    t.signs = on_device(be, host_t->signs, d_pow2 * 4);
    t.keep = on_device(be, host_t->keep, d_pow2 * 4);
    struct sw_pool pool = {
        .heads = c->Hkv, .head_dim = c->d, .units = 1, .block = c->block, .ld = ld};
    struct sw_sketch sketch = {.units = 1, .ld = ld, .d = c->d, .block = c->block, .transform = &t};
    for (int i = 0; i < batch; i++) {
        pool.x = dk + (size_t)i * kn * act;
        pool.sums = sums + (size_t)i * width * d;
        pool.t0 = 0;
        pool.t1 = c->n - 1;
        sketch.sums = pool.sums;
        sketch.n = c->n - 1;
        sketch.i0 = 0;
        sketch.i1 = sw_blocks(c->n - 1, c->block);
        sketch.out = k_sketch + (size_t)i * sketch_n;
        must(be->pool(be, &pool), "pool");
        must(be->sketch(be, &sketch), "sketch");
    }
    struct sw_selection list = {0};
    const char *token = dk + (size_t)(c->n - 1) * (size_t)c->Hkv * d * act;
    if (be->walk_step) {
        struct sw_walk_step step = {.batch = batch,
                                    .k_stride = (int64_t)kn,
                                    .q = dq,
                                    .k = token,
                                    .n_heads = c->H,
                                    .n_kv_heads = c->Hkv,
                                    .head_dim = c->d,
                                    .block = c->block,
                                    .n = c->n,
                                    .ld = ld,
                                    .transform = &t,
                                    .scale = 0.3f,
                                    .exponent = c->exponent,
                                    .k_sums = sums,
                                    .k_sketch = k_sketch,
                                    .a = a,
                                    .x = c->first ? NULL : dx,
                                    .out = walked,
                                    .kept = m,
                                    .forced = SW_FORCED_COMMON};
        must(be->walk_step(be, &step, &list), "walk_step");
    } else {
        pool.x = token;
        pool.t0 = c->n - 1;
        pool.t1 = c->n;
        must(be->pool(be, &pool), "pool");
        sketch.n = c->n;
        sketch.i0 = last;
        sketch.i1 = b;
        must(be->sketch(be, &sketch), "sketch");
        must(be->pool(be, &(struct sw_pool){.x = dq,
                                            .heads = c->H,
                                            .head_dim = c->d,
                                            .units = 1,
                                            .block = 1,
                                            .t1 = 1,
                                            .ld = 1,
                                            .sums = q_sums}),
             "pool");
        must(be->sketch(be, &(struct sw_sketch){.sums = q_sums,
                                                .units = 1,
                                                .ld = 1,
                                                .d = c->d,
                                                .block = 1,
                                                .n = 1,
                                                .i1 = 1,
                                                .transform = &t,
                                                .out = q_sketch}),
             "sketch");
        float *row_c = a + (size_t)last * width;
        must(be->block_scores(be, &(struct sw_block_scores){.q = q_sketch,
                                                            .k = k_sketch,
                                                            .units_q = 1,
                                                            .units_k = 1,
                                                            .rows = 1,
                                                            .row0 = last,
                                                            .b = b,
                                                            .r = c->r,
                                                            .q_ld = 1,
                                                            .k_ld = ld,
                                                            .scale = 0.3f,
                                                            .exponent = c->exponent,
                                                            .softmax = true,
                                                            .causal = true,
                                                            .out = {row_c, 1, 1, ld}}),
             "block_scores");
        must(be->walk(be, &(struct sw_walk){.rows = 1,
                                            .row0 = last,
                                            .b = b,
                                            .x = c->first ? row_c : dx,
                                            .a = {a, 1, ld, ld},
                                            .anchor = row_c,
                                            .alpha = c->first,
                                            .beta = !c->first,
                                            .causal = true,
                                            .scale_rows = true,
                                            .out = {walked, 1, 1, ld}}),
             "walk");
        must(be->select_top(be,
                            &(struct sw_select_top){.scores = {walked, 1, 1, ld},
                                                    .row0 = last,
                                                    .rows = 1,
                                                    .budget = &m,
                                                    .forced = SW_FORCED_COMMON,
                                                    .block = c->block,
                                                    .n = c->n,
                                                    .n_q = 1},
                            &list),
             "select_top");
    }
    struct sw_attend attend = {.batch = batch,
                               .n_q = 1,
                               .n_k = c->n,
                               .n_heads = c->H,
                               .n_kv_heads = c->Hkv,
                               .head_dim = c->d,
                               .kv_stride = c->n,
                               .q = dq,
                               .k = dk,
                               .v = dk,
                               .out = o,
                               .scale = 0.2f,
                               .sel = &list};
    float *outs[2];
    for (int i = 0; i < 2; i++) {
        outs[i] = need(qn * (size_t)batch * 4);
        must(be->attend(be, &attend), "attend");
        must(be->download_act(be, outs[i], o, qn * (size_t)batch), "download");
        /* what it wrote is gone */
        must(be->upload_act(be, o, qs, SW_F32, qn * (size_t)batch), "upload");
    }
    check(p, memcmp(outs[0], outs[1], qn * (size_t)batch * 4) == 0,
          "attention behind a step of %d sequences of %d and from its list differ", batch, c->n);
    struct sw_selection host = {0};
    must(sw_selection_to_host(&list, &host), "to_host");
    must(sw_selection_validate(&host), "walk_step");
    one_unit(&host, batch - 1, &out->list);
    out->row = need((size_t)b * 4);
    float *whole = floats_from(be, a + others * matrix, matrix);
    memcpy(out->row, whole + (size_t)last * width, (size_t)b * 4);
    out->walked = floats_from(be, walked + others * width, (size_t)b);
    out->sketches = floats_from(be, k_sketch + others * sketch_n, (size_t)b * (size_t)c->r);
    out->out = need(qn * 4);
    memcpy(out->out, outs[0] + others * qn, qn * 4);
    free(whole);
    free(qs);
    free(outs[0]);
    free(outs[1]);
    sw_selection_free(&host);
    sw_selection_free(&list);
    void *used[] = {dq,
                    dk,
                    o,
                    a,
                    dx,
                    walked,
                    sums,
                    q_sums,
                    q_sketch,
                    k_sketch,
                    (void *)t.signs,
                    (void *)t.keep};
    for (size_t f = 0; f < sizeof used / sizeof *used; f++)
        be->free(be, used[f]);
}

static void walk_steps(struct parity *p, const struct step_case *c, uint64_t seed)
{
    int b = sw_blocks(c->n, c->block), ld = (b + 6) / 4 * 4, d_pow2 = 1;
    while (d_pow2 < c->d)
        d_pow2 *= 2;
    size_t d = (size_t)c->d, matrix = (size_t)ld * (size_t)ld,
           kn = (size_t)c->n * (size_t)c->Hkv * d, qn = (size_t)c->H * d;
    float *q = random_values(seed, qn, 2), *k = random_values(seed + 1, kn, 2),
          *cached = exact_values(seed + 2, matrix), *x = exact_values(seed + 3, (size_t)ld);
    size_t token = (size_t)c->Hkv * d, period = (size_t)(c->repeat * c->block) * token;
    for (size_t i = period; period && i < kn; i++)
        k[i] = k[i - period];
    for (int i = 0; i < ld; i++) /* lower triangular, as the contract has it */
        for (int j = i + 1; j < ld; j++)
            cached[(size_t)i * (size_t)ld + (size_t)j] = 0;
    float *signs = need((size_t)d_pow2 * 4);
    int32_t *keep = need((size_t)d_pow2 * 4);
    for (int i = 0; i < d_pow2; i++) {
        signs[i] = sw_rng_u64(seed, SW_RNG_SIGNS, (uint64_t)i) & 1 ? -1.0f : 1.0f;
        keep[i] = (i * 5 + 3) % d_pow2; /* a permutation: 5 is odd */
    }
    struct sw_srht t = {.d = c->d,
                        .d_pow2 = d_pow2,
                        .r = c->r,
                        .scale = 1.0f / sqrtf((float)c->r),
                        .signs = signs,
                        .keep = keep};
    struct step_result of[3];
    memset(of, 0, sizeof of);
    run_step(p, p->cpu, c, 1, &t, q, k, cached, x, &of[0]);
    run_step(p, p->cuda, c, 1, &t, q, k, cached, x, &of[1]);
    run_step(p, p->cuda, c, 3, &t, q, k, cached, x, &of[2]);
    int other = 0, entries = of[0].list.indptr[1];
    for (int e = 0; e < entries && e < of[1].list.indptr[1]; e++)
        other += of[0].list.indices[e] != of[1].list.indices[e];
    check(p, entries == of[1].list.indptr[1] && other <= (c->repeat ? 0 : 1 + entries / 100),
          "walk_step, n %d: %d and %d blocks, %d differ", c->n, entries, of[1].list.indptr[1],
          other);
    if (c->repeat) { /* equal blocks, wherever they lie: a tie stays one */
        int unlike = 0;
        for (int j = c->repeat; j < b - 1; j++)
            unlike += of[1].row[j] != of[1].row[j - c->repeat];
        check(p, unlike == 0, "walk_step, n %d: %d weights differ from those of equal blocks", c->n,
              unlike);
    }
    size_t sketches = (size_t)b * (size_t)c->r;
    check(p,
          of[2].list.indptr[1] == entries &&
              !memcmp(of[1].list.indices, of[2].list.indices, (size_t)entries * sizeof(int32_t)) &&
              !memcmp(of[1].row, of[2].row, (size_t)b * 4) &&
              !memcmp(of[1].walked, of[2].walked, (size_t)b * 4) &&
              !memcmp(of[1].sketches, of[2].sketches, sketches * 4),
          "walk_step, n %d: one of three sequences differs from one alone", c->n);
    /* A block of difference in a near-tie would show here, so only equal lists are compared; the
     * bound is that of the attention tests' bf16. */
    if (other == 0)
        check(p, relative_error(of[1].out, of[0].out, qn) <= 0.02,
              "attention behind walk_step, n %d: error %.3g", c->n,
              relative_error(of[1].out, of[0].out, qn));
    close_pair(p, &of[1].sketches, &of[0].sketches, sketches, 1e-6, "walk_step, key sketches", c);
    close_pair(p, &of[1].row, &of[0].row, (size_t)b, 1e-4, "walk_step, row of the matrix", c);
    close_pair(p, &of[1].walked, &of[0].walked, (size_t)b, 1e-4, "walk_step, the walk", c);
    for (int i = 0; i < 3; i++)
        free_result(&of[i]);
    free(q);
    free(k);
    free(cached);
    free(x);
    free(signs);
    free(keep);
}

void parity_baselines(struct parity *p)
{
    static const int sizes[][2] = {{1, 16}, {63, 64}, {300, 16}, {1000, 64}, {4000, 32}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (p->quick && sizes[i][0] > 1000)
            continue;
        marks(p, sizes[i][0], sizes[i][1], 900 + i);
        keeps(p, sizes[i][0], sizes[i][1], 950 + i);
    }
    static const struct shape_case shapes[] = {
        {2, 2, 1, 64, 64, 8, 64},      {200, 4, 2, 64, 32, 16, 64},  {1000, 6, 2, 128, 64, 8, 130},
        {2100, 8, 2, 96, 128, 16, 64}, {3000, 4, 4, 128, 64, 4, 32},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (!p->quick || shapes[i].n <= 1000)
            scores_of(p, &shapes[i], 1000 + 10 * i);
    static const struct step_case steps[] = {
        {2, 2, 1, 64, 64, 64, true, 8, 0.5, 0},
        {65, 4, 2, 64, 64, 32, false, 8, 0.5, 0},
        {1000, 6, 2, 96, 16, 64, false, 2.5f, 0.3, 0},
        {4097, 8, 2, 128, 64, 64, false, 2, 0.2, 0},
        {9000, 32, 8, 128, 64, 64, true, 8, 0.2, 0},
        {20000, 8, 8, 128, 32, 128, false, 1, 0.1, 0},
        {9000, 4, 2, 64, 64, 64, true, 8, 0.3, 7},
        {4500, 4, 2, 128, 16, 64, true, 1, 0.3, 7},
        {40000, 4, 2, 64, 16, 64, true, 3, 0.2, 5},
        {70000, 2, 1, 64, 16, 32, true, 3, 0.2, 5},
        {40000, 4, 2, 64, 16, 64, false, 1.5f, 0.2, 0},
        {65536, 2, 1, 64, 16, 32, false, 1, 0.2, 0},
        {70000, 2, 1, 64, 16, 32, false, 1, 0.2, 0},
        {3000, 2, 1, 256, 64, 200, false, 8, 0.4, 0},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (!p->quick || steps[i].n <= 5000)
            walk_steps(p, &steps[i], 2000 + 10 * i);
}
