/* Everything but attention: memory and time, the model's operations, block scores, walks,
 * selections. The CPU backend computes the same on the same numbers. Selections from equal scores
 * must be equal; selections from each backend's own scores may differ in near-ties, which are
 * counted. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/budget.h"
#include "core/rng.h"
#include "tests/kernels/parity_cuda.h"

/* --- device ----------------------------------------------------------------------------------- */

void parity_device(struct parity *p)
{
    struct sw_backend *be = p->cuda;
    void *a, *b;
    size_t before = be->peak_bytes(be, true);
    must(be->alloc(be, 1000, &a), "alloc");
    must(be->alloc(be, (size_t)64 << 20, &b), "alloc");
    check(p, ((uintptr_t)a & 63) == 0 && ((uintptr_t)b & 63) == 0,
          "alloc: not aligned to 64 bytes");
    be->free(be, b);
    be->free(be, NULL);
    size_t peak = be->peak_bytes(be, true);
    check(p, peak >= ((size_t)64 << 20) + 1000 && peak < before + ((size_t)80 << 20),
          "peak_bytes: %zu after %zu", peak, before);
    check(p, be->peak_bytes(be, false) < peak, "peak_bytes: not reset");
    size_t avail = be->free_bytes(be);
    check(p, avail > (size_t)1 << 28, "free_bytes: %zu", avail);
    void *huge = NULL;
    enum sw_status st = be->alloc(be, (size_t)1 << 42, &huge);
    check(p, st == SW_ENOMEM && huge == NULL, "alloc of 4 TiB: %s", sw_status_name(st));
    check(p, strstr(sw_error_message(), "4398046511104") && strstr(sw_error_message(), "free"),
          "out of memory says: %s", sw_error_message());
    sw_error_clear();
    must(be->zero(be, a, 1000), "after out of memory");
    char text[1000];
    memset(text, 1, sizeof text);
    must(be->download(be, text, a, sizeof text), "download");
    bool zero = true;
    for (size_t i = 0; i < sizeof text; i++)
        zero = zero && text[i] == 0;
    check(p, zero, "zero: not zero");
    double ms = -1;
    must(be->mark(be, 0), "mark");
    must(be->flush_cache(be), "flush_cache");
    must(be->mark(be, 1), "mark");
    must(be->elapsed_ms(be, 0, 1, &ms), "elapsed_ms");
    check(p, ms > 0 && ms < 1000, "elapsed_ms: %g", ms);
    /* conversions: all three types in, and out again */
    float f[5] = {0.0f, -1.0f, 3.14159265f, 1e30f, 65504.0f}, back[5];
    uint16_t half[2] = {0x3c00, 0xc500}, bf[2] = {0x3f80, 0xc0a0}; /* 1, -5 */
    must(be->upload_act(be, a, f, SW_F32, 5), "upload_act");
    must(be->download_act(be, back, a, 5), "download_act");
    for (int i = 0; i < 5; i++)
        check(p, back[i] == bf16_round(f[i]), "upload_act of %g gives %g", (double)f[i],
              (double)back[i]);
    must(be->upload_act(be, a, half, SW_F16, 2), "upload_act");
    must(be->download_act(be, back, a, 2), "download_act");
    check(p, back[0] == 1.0f && back[1] == -5.0f, "upload_act of fp16 gives %g %g", (double)back[0],
          (double)back[1]);
    must(be->upload_act(be, a, bf, SW_BF16, 2), "upload_act");
    must(be->download_act(be, back, a, 2), "download_act");
    check(p, back[0] == 1.0f && back[1] == -5.0f, "upload_act of bf16 gives %g %g", (double)back[0],
          (double)back[1]);
    be->free(be, a);
}

/* --- model ------------------------------------------------------------------------------------ */

/* Compares activations: `roundings` bf16 roundings of the value's size, a little of the largest
 * value for cancellation, and `extra`. */
static void compare_acts(struct parity *p, const char *what, const void *cpu, const void *cuda,
                         size_t count, double roundings, double extra)
{
    float *x = need(count * sizeof *x), *y = need(count * sizeof *y);
    must(p->cpu->download_act(p->cpu, x, cpu, count), what);
    must(p->cuda->download_act(p->cuda, y, cuda, count), what);
    double top = 0, worst = 0;
    for (size_t i = 0; i < count; i++)
        top = fabs((double)x[i]) > top ? fabs((double)x[i]) : top;
    for (size_t i = 0; i < count; i++) {
        double e = fabs((double)x[i] - y[i]),
               allowed = roundings * (fabs((double)x[i]) / 256 + top * 1e-6) + extra + 1e-30;
        worst = !(e / allowed <= worst) ? e / allowed : worst;
    }
    check(p, worst <= 1, "%s: %.2f of the allowed difference", what, worst);
    free(x);
    free(y);
}

/* Widths and addresses that take 16 bytes a thread and ones that do not; rows longer than a block;
 * positions in the middle of a group of tokens. */
static void model_widths(struct parity *p)
{
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    static const struct {
        int rows, heads, d;
    } shapes[] = {{3, 3, 100},  {5, 32, 128}, {200, 2, 128}, {301, 9, 80},
                  {150, 5, 24}, {2, 40, 256}, {1, 32, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int rows = shapes[i].rows, heads = shapes[i].heads, d = shapes[i].d, width = heads * d;
        size_t count = (size_t)rows * (size_t)width, odd = count - 1;
        float *x = random_values(500 + i, count, 1), *g = random_values(520 + i, (size_t)width, 1),
              *inv_freq = need((size_t)d * sizeof *inv_freq);
        for (int k = 0; k < d / 2; k++)
            inv_freq[k] = (float)pow(500000.0, -2.0 * k / d);
        void *norm[2], *in_place[2], *roped[2], *glu[2];
        for (int k = 0; k < 2; k++) {
            struct sw_backend *be = both[k];
            size_t element = sw_dtype_size(be->act);
            void *dx = acts_on_device(be, x, count), *dg = acts_on_device(be, g, (size_t)width);
            float *freq = on_device(be, inv_freq, (size_t)d * sizeof *inv_freq);
            norm[k] = acts_on_device(be, x, count);
            in_place[k] = acts_on_device(be, x, count);
            roped[k] = acts_on_device(be, x, count);
            glu[k] = acts_on_device(be, x, count);
            must(be->rmsnorm(be, dx, dg, rows, width, 1e-5f, norm[k]), "rmsnorm");
            must(be->rmsnorm(be, in_place[k], dg, rows, width, 1e-5f, in_place[k]), "rmsnorm");
            must(be->rope(be, roped[k], rows, heads, d, 77777, freq, 1), "rope");
            /* in place, from the second on */
            must(be->swiglu(be, (char *)glu[k] + element, (char *)dx + element, odd,
                            (char *)glu[k] + element),
                 "swiglu");
            be->free(be, dx);
            be->free(be, dg);
            be->free(be, freq);
        }
        char name[80];
        static const char *const what[] = {"rmsnorm", "rmsnorm in place", "rope", "swiglu"};
        void **out[] = {norm, in_place, roped, glu};
        for (int o = 0; o < 4; o++) {
            snprintf(name, sizeof name, "%s [%d, %d of %d]", what[o], rows, heads, d);
            compare_acts(p, name, out[o][0], out[o][1], count, o == 2 ? 1.5 : 1, 0);
            both[0]->free(both[0], out[o][0]);
            both[1]->free(both[1], out[o][1]);
        }
        free(x);
        free(g);
        free(inv_freq);
    }
}

void parity_model(struct parity *p)
{
    model_widths(p);
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    static const struct {
        int rows, in, out;
    } shapes[] = {{1, 64, 96}, {7, 576, 1536}, {130, 256, 320}, {33, 512, 1000}, {257, 1024, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int rows = shapes[i].rows, in = shapes[i].in, n_out = shapes[i].out, d = 64, heads = in / d;
        size_t xs = (size_t)rows * (size_t)in, ys = (size_t)rows * (size_t)n_out;
        float *x = random_values(1 + i, xs, 1),
              *w = random_values(20 + i, (size_t)in * (size_t)n_out, 0.1f),
              *b = random_values(40 + i, (size_t)n_out, 1);
        float *g = random_values(60 + i, (size_t)in, 1), *y0 = random_values(80 + i, ys, 1),
              *table = random_values(90 + i, (size_t)50 * (size_t)in, 1);
        int32_t *ids = need((size_t)rows * sizeof *ids),
                *targets = need((size_t)rows * sizeof *targets);
        float inv_freq[32];
        for (int r = 0; r < rows; r++) {
            ids[r] = (r * 7 + 3) % 50;
            targets[r] = (r * 31 + 5) % n_out;
        }
        for (int k = 0; k < d / 2; k++)
            inv_freq[k] = (float)pow(500000.0, -2.0 * k / d);
        void *lin[2], *lin_add[2], *norm[2], *short_norm[2], *roped[2], *glu[2], *emb[2];
        float *nll[2];
        int32_t *best[2];
        for (int k = 0; k < 2; k++) {
            struct sw_backend *be = both[k];
            void *dx = acts_on_device(be, x, xs),
                 *dw = acts_on_device(be, w, (size_t)in * (size_t)n_out),
                 *db = acts_on_device(be, b, (size_t)n_out);
            void *dg = acts_on_device(be, g, (size_t)in),
                 *dt = acts_on_device(be, table, (size_t)50 * (size_t)in);
            float *freq = on_device(be, inv_freq, sizeof inv_freq);
            lin[k] = acts_on_device(be, y0, ys);
            lin_add[k] = acts_on_device(be, y0, ys);
            norm[k] = acts_on_device(be, x, xs);
            short_norm[k] = acts_on_device(be, x, xs);
            roped[k] = acts_on_device(be, x, xs);
            glu[k] = acts_on_device(be, x, xs);
            emb[k] = acts_on_device(be, x, xs);
            must(be->linear(be, dx, dw, db, rows, in, n_out, false, lin[k]), "linear");
            must(be->linear(be, dx, dw, NULL, rows, in, n_out, true, lin_add[k]), "linear");
            must(be->rmsnorm(be, dx, dg, rows, in, 1e-5f, norm[k]), "rmsnorm");
            must(be->rmsnorm(be, dx, dg, rows * heads, d, 1e-6f, short_norm[k]), "rmsnorm");
            must(be->rope(be, roped[k], rows, heads, d, 100000, freq, 1.1f), "rope");
            must(be->swiglu(be, dx, roped[k], xs - 1, glu[k]), "swiglu");
            must(be->embed(be, dt, ids, rows, in, emb[k]), "embed");
            nll[k] = need((size_t)rows * sizeof(float));
            best[k] = need((size_t)rows * sizeof(int32_t));
            must(be->head(be, dx, dw, rows, in, n_out, targets, nll[k], best[k]), "head");
            be->free(be, dx);
            be->free(be, dw);
            be->free(be, db);
            be->free(be, dg);
            be->free(be, dt);
            be->free(be, freq);
        }
        double top_product = 4 * 0.1 * sqrt((double)in);
        compare_acts(p, "linear with bias", lin[0], lin[1], ys, 1, 0);
        /* the product may be rounded before it is added */
        compare_acts(p, "linear, accumulated", lin_add[0], lin_add[1], ys, 1.5, top_product / 512);
        compare_acts(p, "rmsnorm", norm[0], norm[1], xs, 1, 0);
        compare_acts(p, "rmsnorm of heads", short_norm[0], short_norm[1], xs, 1, 0);
        compare_acts(p, "rope", roped[0], roped[1], xs, 1.5, 0);
        compare_acts(p, "swiglu", glu[0], glu[1], xs, 2.5, 0); /* its input went through rope */
        compare_acts(p, "embed", emb[0], emb[1], xs, 0.01, 0);
        double worst = 0;
        int others = 0;
        for (int r = 0; r < rows; r++) {
            double e = fabs((double)nll[0][r] - nll[1][r]);
            worst = !(e <= worst) ? e : worst;
            others += best[0][r] != best[1][r];
        }
        check(p, worst < 1e-4, "head [%d, %d, %d]: losses differ by %.3g", rows, in, n_out, worst);
        check(p, others == 0, "head: %d of %d argmax differ", others, rows);
        for (int k = 0; k < 2; k++) {
            void *all[] = {lin[k], lin_add[k], norm[k], short_norm[k], roped[k], glu[k], emb[k]};
            for (size_t f = 0; f < sizeof all / sizeof *all; f++)
                both[k]->free(both[k], all[f]);
            free(nll[k]);
            free(best[k]);
        }
        free(x);
        free(w);
        free(b);
        free(g);
        free(y0);
        free(table);
        free(ids);
        free(targets);
    }
}

/* --- pool, sketch, scores, walk, … ------------------------------------------------------------ */

/* A sketch transform with known contents in both memories. */
static struct sw_srht transform_on(struct sw_backend *be, int d, int d_pow2, int r, uint64_t seed)
{
    float *signs = need((size_t)d_pow2 * sizeof *signs);
    int32_t *keep = need((size_t)d_pow2 * sizeof *keep);
    for (int c = 0; c < d_pow2; c++) {
        signs[c] = sw_rng_u64(seed, SW_RNG_TEST, (uint64_t)c) & 1 ? -1.0f : 1.0f;
        keep[c] = (c * 37 + 11) % d_pow2;
    }
    struct sw_srht t = {.d = d,
                        .d_pow2 = d_pow2,
                        .r = r,
                        .scale = 1.0f / sqrtf((float)r),
                        .signs = on_device(be, signs, (size_t)d_pow2 * 4),
                        .keep = on_device(be, keep, (size_t)d_pow2 * 4)};
    free(signs);
    free(keep);
    return t;
}

static void compare_floats(struct parity *p, const char *what, float *const x[2], size_t count,
                           double allowed)
{
    double e = largest_error(x[1], x[0], count);
    check(p, e <= allowed, "%s: differs by %.3g, allowed %.3g", what, e, allowed);
}

struct chain_case {
    int n, H, Hkv, d, block, r, units_q, units_k, units_out;
    bool softmax, causal, padded;
    float exponent;
};

/* Pool, sketch, scores, walk and mean, each step from its own backend's last one; then selections
 * from both. */
static void run_chain(struct parity *p, const struct chain_case *c, uint64_t seed)
{
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    int b = sw_blocks(c->n, c->block), ld = b + 2, d_pow2 = 1;
    while (d_pow2 < c->d)
        d_pow2 *= 2;
    size_t qn = (size_t)c->n * (size_t)c->H * (size_t)c->d,
           kn = (size_t)c->n * (size_t)c->Hkv * (size_t)c->d;
    float *q = random_values(seed, qn, 3), *k = random_values(seed + 1, kn, 3);
    size_t sums_n = (size_t)c->units_q * (size_t)ld * (size_t)c->d,
           sketch_n = (size_t)c->units_q * (size_t)ld * (size_t)c->r;
    size_t plane = (size_t)ld * (size_t)ld, score_n = (size_t)c->units_out * plane;
    float *sums[2], *sketch[2], *scores[2], *walked[2], *rowed[2], *run[2], *mean[2];
    struct sw_selection lists[2] = {{0}, {0}};
    float *zeros = calloc(score_n + sums_n + sketch_n, sizeof *zeros);
    for (int w = 0; w < 2; w++) {
        struct sw_backend *be = both[w];
        void *dq = acts_on_device(be, q, qn), *dk = acts_on_device(be, k, kn);
        float *qs = on_device(be, zeros, sums_n * 4), *ks = on_device(be, zeros, sums_n * 4),
              *qt = on_device(be, zeros, sketch_n * 4), *kt = on_device(be, zeros, sketch_n * 4),
              *a = on_device(be, zeros, score_n * 4), *x = on_device(be, zeros, score_n * 4),
              *y = on_device(be, zeros, score_n * 4), *row = on_device(be, zeros, score_n * 4);
        /* Keys arrive in three pieces, as in chunked prefill and decode: the sums must not depend
         * on it. */
        int cuts[4] = {0, c->n / 3, c->n - (c->n > 1), c->n};
        for (int piece = 0; piece < 3; piece++)
            must(be->pool(be, &(struct sw_pool){.x = (char *)dk + (size_t)cuts[piece] *
                                                                      (size_t)(c->Hkv * c->d) *
                                                                      sw_dtype_size(be->act),
                                                .heads = c->Hkv,
                                                .head_dim = c->d,
                                                .units = c->units_k,
                                                .block = c->block,
                                                .t0 = cuts[piece],
                                                .t1 = cuts[piece + 1],
                                                .ld = ld,
                                                .sums = ks}),
                 "pool");
        must(be->pool(be, &(struct sw_pool){.x = dq,
                                            .heads = c->H,
                                            .head_dim = c->d,
                                            .units = c->units_q,
                                            .block = c->block,
                                            .t0 = 0,
                                            .t1 = c->n,
                                            .ld = ld,
                                            .sums = qs}),
             "pool");
        struct sw_srht t = transform_on(be, c->d, d_pow2, c->r, 5);
        must(be->sketch(be, &(struct sw_sketch){.sums = qs,
                                                .units = c->units_q,
                                                .ld = ld,
                                                .d = c->d,
                                                .block = c->block,
                                                .n = c->n,
                                                .i0 = 0,
                                                .i1 = b,
                                                .padded_tail = c->padded,
                                                .transform = &t,
                                                .out = qt}),
             "sketch");
        must(be->sketch(be, &(struct sw_sketch){.sums = ks,
                                                .units = c->units_k,
                                                .ld = ld,
                                                .d = c->d,
                                                .block = c->block,
                                                .n = c->n,
                                                .i0 = 0,
                                                .i1 = b,
                                                .padded_tail = c->padded,
                                                .transform = &t,
                                                .out = kt}),
             "sketch");
        struct sw_block_scores s = {.q = qt,
                                    .k = kt,
                                    .units_q = c->units_q,
                                    .units_k = c->units_k,
                                    .rows = b,
                                    .row0 = 0,
                                    .b = b,
                                    .r = c->r,
                                    .q_ld = ld,
                                    .k_ld = ld,
                                    .scale = 0.5f,
                                    .exponent = c->exponent,
                                    .softmax = c->softmax,
                                    .causal = c->causal,
                                    .out = {a, c->units_out, ld, ld}};
        must(be->block_scores(be, &s), "block_scores");
        must(be->walk(be, &(struct sw_walk){.rows = b,
                                            .row0 = 0,
                                            .b = b,
                                            .x = a,
                                            .a = {a, c->units_out, ld, ld},
                                            .anchor = a,
                                            .alpha = 0.75f,
                                            .beta = 0.25f,
                                            .causal = c->causal,
                                            .out = {x, c->units_out, ld, ld}}),
             "walk");
        must(be->walk(be, &(struct sw_walk){.rows = b,
                                            .row0 = 0,
                                            .b = b,
                                            .x = x,
                                            .a = {a, c->units_out, ld, ld},
                                            .anchor = NULL,
                                            .alpha = 0,
                                            .beta = 1,
                                            .causal = c->causal,
                                            .scale_rows = true,
                                            .out = {y, c->units_out, ld, ld}}),
             "walk");
        walked[w] = floats_from(be, y, score_n);
        /* Decode: the last block's row alone, pooled over the last rows; then one row through the
         * matrix. */
        int last = b - 1, window = b < 3 ? 1 : 3;
        s.q = qt + (size_t)(b - window) * (size_t)c->r; /* unit stride q_ld stays */
        s.rows = window;
        s.row0 = last;
        s.pool_rows = true;
        s.out.data = row;
        s.out.ld_rows = 1;
        s.q_ld = ld;
        must(be->block_scores(be, &s), "block_scores, pooled");
        must(be->walk(be, &(struct sw_walk){.rows = 1,
                                            .row0 = last,
                                            .b = b,
                                            .x = row,
                                            .a = {a, c->units_out, ld, ld},
                                            .anchor = row,
                                            .alpha = 0.75f,
                                            .beta = 0.25f,
                                            .causal = c->causal,
                                            .scale_rows = true,
                                            .out = {x, c->units_out, 1, ld}}),
             "walk, one row");
        rowed[w] = floats_from(be, x, (size_t)c->units_out * (size_t)ld);
        must(be->running(be, &(struct sw_running){.c = last,
                                                  .b = b,
                                                  .weight = 0.3f,
                                                  .causal = c->causal,
                                                  .row = row,
                                                  .row_ld = ld,
                                                  .a = {a, c->units_out, ld, ld}}),
             "running");
        run[w] = floats_from(be, a, score_n);
        must(be->mean_units(be, &(struct sw_mean_units){.in = {a, c->units_out, ld, ld},
                                                        .rows = b,
                                                        .cols = b,
                                                        .out = {x, 1, ld, ld}}),
             "mean_units");
        mean[w] = floats_from(be, x, plane);
        sums[w] = floats_from(be, ks, sums_n);
        sketch[w] = floats_from(be, kt, sketch_n);
        scores[w] = floats_from(be, row, (size_t)c->units_out * (size_t)ld);
        int *m = need((size_t)b * sizeof *m);
        must(sw_budget_rows(c->n, c->block, 0.3, SW_FORCED_COMMON, m, NULL), "budget");
        struct sw_selection list = {0};
        must(be->select_top(be,
                            &(struct sw_select_top){.scores = {y, c->units_out, ld, ld},
                                                    .row0 = 0,
                                                    .rows = b,
                                                    .budget = m,
                                                    .forced = SW_FORCED_COMMON,
                                                    .block = c->block,
                                                    .n = c->n,
                                                    .n_q = c->n},
                            &list),
             "select_top");
        must(sw_selection_to_host(&list, &lists[w]), "to_host");
        must(sw_selection_validate(&lists[w]), "select_top");
        sw_selection_free(&list);
        free(m);
        void *all[] = {dq, dk, qs, ks, qt, kt, a, x, y, row, (void *)t.signs, (void *)t.keep};
        for (size_t f = 0; f < sizeof all / sizeof *all; f++)
            be->free(be, all[f]);
    }
    char name[160];
    snprintf(name, sizeof name, "n %d H %d/%d d %d B %d r %d units %d/%d/%d%s%s s %g", c->n, c->H,
             c->Hkv, c->d, c->block, c->r, c->units_q, c->units_k, c->units_out,
             c->softmax ? " softmax" : "", c->causal ? " causal" : "", (double)c->exponent);
    check(p, memcmp(sums[0], sums[1], sums_n * 4) == 0,
          "pool, %s: other bits (largest difference %.3g)", name,
          largest_error(sums[1], sums[0], sums_n));
    double top = 0;
    for (size_t i = 0; i < sketch_n; i++)
        top = fabs((double)sketch[0][i]) > top ? fabs((double)sketch[0][i]) : top;
    compare_floats(p, "sketch", sketch, sketch_n, 1e-6 * top);
    for (size_t i = 0, n = (size_t)c->units_out * (size_t)ld; i < n; i++)
        top = fabs((double)scores[0][i]) > top ? fabs((double)scores[0][i]) : top;
    double raw = c->softmax ? 2e-5 : 1e-4 * top;
    compare_floats(p, name, scores, (size_t)c->units_out * (size_t)ld, raw);
    compare_floats(p, "walk, one row", rowed, (size_t)c->units_out * (size_t)ld, 1e-4);
    if (c->softmax) {
        compare_floats(p, "walk", walked, score_n, 1e-4);
        compare_floats(p, "running", run, score_n, 1e-4);
        compare_floats(p, "mean_units", mean, plane, 1e-4);
    }
    /* Lists: same lengths; where they differ, the two scores are near-ties, and few. */
    int64_t entries = lists[0].indptr[lists[0].units * b], other = 0, far = 0;
    check(p, memcmp(lists[0].indptr, lists[1].indptr, (size_t)(lists[0].units * b + 1) * 4) == 0,
          "select_top, %s: other lengths", name);
    for (int row = 0; row < lists[0].units * b; row++) {
        const float *score =
            walked[0] + ((size_t)(row / b) * (size_t)ld + (size_t)(row % b)) * (size_t)ld;
        for (int side = 0; side < 2; side++)
            for (int32_t e = lists[side].indptr[row]; e < lists[side].indptr[row + 1]; e++) {
                int j = lists[side].indices[e];
                bool there = false;
                double nearest = INFINITY;
                for (int32_t o = lists[1 - side].indptr[row]; o < lists[1 - side].indptr[row + 1];
                     o++) {
                    there = there || lists[1 - side].indices[o] == j;
                    double gap = fabs((double)score[j] - score[lists[1 - side].indices[o]]) /
                                 (fabs((double)score[j]) + 1e-30);
                    nearest = gap < nearest ? gap : nearest;
                }
                other += !there;
                far += !there && !(nearest < 1e-3);
            }
    }
    check(p, far == 0 && other <= 2 + entries / 200,
          "select_top, %s: %lld of %lld entries differ, %lld are no near-ties", name,
          (long long)other, (long long)entries, (long long)far);
    for (int w = 0; w < 2; w++) {
        free(sums[w]);
        free(sketch[w]);
        free(scores[w]);
        free(walked[w]);
        free(rowed[w]);
        free(run[w]);
        free(mean[w]);
        sw_selection_free(&lists[w]);
    }
    free(zeros);
    free(q);
    free(k);
}

void parity_scores(struct parity *p)
{
    static const struct chain_case cases[] = {
        {1, 2, 1, 64, 64, 64, 1, 1, 1, true, true, false, 8},
        {65, 4, 2, 64, 64, 32, 1, 1, 1, true, true, false, 8},
        {1000, 4, 2, 128, 32, 64, 1, 1, 1, true, true, false, 8},
        {1000, 4, 2, 96, 16, 128, 4, 2, 1, true, true, true, 1},
        {700, 6, 2, 64, 16, 64, 6, 2, 6, true, false, false, 1},
        {2000, 8, 2, 128, 16, 128, 8, 2, 2, true, true, false, 2.5f},
        {900, 4, 4, 64, 16, 16, 4, 4, 4, false, true, false, 2},
        {4096, 8, 4, 64, 16, 64, 1, 1, 1, true, true, false, 8},
        {3000, 8, 2, 128, 64, 64, 2, 2, 2, true, true, false, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!p->quick || cases[i].n <= 1000)
            run_chain(p, &cases[i], 500 + 10 * i);
    /* The random method's scores are the same bits. */
    size_t count = 3 * 40 * 130;
    float *got[2];
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    for (int w = 0; w < 2; w++) {
        float *zeros = calloc(count, 4), *d = on_device(both[w], zeros, count * 4);
        must(both[w]->hash_scores(both[w], &(struct sw_hash_scores){.seed = 77,
                                                                    .layer = 5,
                                                                    .row0 = 90,
                                                                    .rows = 39,
                                                                    .cols = 129,
                                                                    .out = {d, 3, 40, 130}}),
             "hash_scores");
        got[w] = floats_from(both[w], d, count);
        both[w]->free(both[w], d);
        free(zeros);
    }
    check(p, memcmp(got[0], got[1], count * 4) == 0, "hash_scores: other bits");
    free(got[0]);
    free(got[1]);
}

/* --- select ----------------------------------------------------------------------------------- */

/* Awkward scores: ties, zeros of both signs, infinities, NaN. */
static float *awkward_scores(uint64_t seed, size_t count)
{
    float *x = need(count * sizeof *x);
    for (size_t i = 0; i < count; i++) {
        uint64_t u = sw_rng_u64(seed, SW_RNG_TEST, i);
        float v = (float)((u >> 20) % 1000) * 1e-3f;
        switch (seed % 4) {
        case 0:
            x[i] = v * v * v * v;
            break; /* few ties */
        case 1:
            x[i] = (float)(u % 5);
            break; /* many */
        case 2:
            x[i] = u % 7 == 0   ? NAN
                   : u % 7 == 1 ? -0.0f
                   : u % 7 == 2 ? 0.0f
                   : u % 7 == 3 ? -INFINITY
                                : v - 0.5f;
            break;
        default:
            x[i] = 0.25f;
            break; /* all equal */
        }
    }
    return x;
}

static void compare_lists(struct parity *p, const char *name, const struct sw_selection *x,
                          const struct sw_selection *y)
{
    size_t rows = (size_t)x->units * (size_t)x->rows;
    bool same = x->units == y->units && x->rows == y->rows && x->row0 == y->row0 &&
                x->block == y->block && x->n == y->n && x->n_q == y->n_q &&
                x->window == y->window && x->sink == y->sink &&
                (x->whole != NULL) == (y->whole != NULL) &&
                memcmp(x->indptr, y->indptr, (rows + 1) * 4) == 0;
    check(p, same, "%s: other shape or lengths (%d, %d entries)", name, x->indptr[rows],
          y->indptr[rows]);
    if (!same)
        return;
    size_t entries = (size_t)x->indptr[rows];
    check(p, memcmp(x->indices, y->indices, entries * 4) == 0, "%s: other blocks", name);
    check(p, !x->whole || memcmp(x->whole, y->whole, entries) == 0, "%s: other whole flags", name);
}

void parity_select(struct parity *p)
{
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    static const int sizes[] = {1, 2, 63, 257, 1100};
    for (size_t si = 0; si < sizeof sizes / sizeof *sizes; si++)
        for (uint64_t kind = 0; kind < 5; kind++) {
            int b = sizes[si], B = 64, n = b * B - (b > 1 ? 17 : 0), units = b > 1000 ? 1 : 3,
                ld = b + 5;
            if (p->quick && b > 300)
                continue;
            size_t count = (size_t)units * (size_t)ld * (size_t)ld;
            float *scores = awkward_scores(kind + 4 * (uint64_t)b, count);
            for (int decode = 0; decode < 2; decode++) {
                int row0 = decode ? b - 1 : 0, rows = b - row0;
                struct sw_selection top[2] = {{0}, {0}}, quantile[2] = {{0}, {0}};
                for (int w = 0; w < 2; w++) {
                    struct sw_backend *be = both[w];
                    float *d = on_device(be, scores, count * 4);
                    int *m = need((size_t)b * sizeof *m);
                    must(sw_budget_rows(n, B, kind == 0 ? 0.5 : 0.2,
                                        kind % 2 ? SW_FORCED_DIAGONAL : SW_FORCED_COMMON, m, NULL),
                         "budget");
                    struct sw_selection list = {0};
                    for (int again = 0; again < 2;
                         again++) /* the second call reuses the first one's memory and budget */
                        must(be->select_top(
                                 be,
                                 &(struct sw_select_top){
                                     .scores = {kind == 4 ? NULL : d, units, ld, ld},
                                     .row0 = row0,
                                     .rows = rows,
                                     .budget = m + row0,
                                     .forced = kind % 2 ? SW_FORCED_DIAGONAL : SW_FORCED_COMMON,
                                     .block = B,
                                     .n = n,
                                     .n_q = decode ? 1 : n},
                                 &list),
                             "select_top");
                    must(sw_selection_to_host(&list, &top[w]), "to_host");
                    must(sw_selection_validate(&top[w]), "select_top");
                    sw_selection_free(&list);
                    if (kind < 4) {
                        must(be->select_quantile(be,
                                                 &(struct sw_select_quantile){
                                                     .scores = {d, units, ld, ld},
                                                     .row0 = row0,
                                                     .rows = rows,
                                                     .sink_blocks = 1 + (int)kind % 2,
                                                     .window_blocks = 2,
                                                     .window = 100 - 60 * (int)(kind / 2),
                                                     .sink = 70,
                                                     .dense_from = decode ? b : b - (int)kind,
                                                     .quantile = 0.8,
                                                     .block = B,
                                                     .n = n,
                                                     .n_q = decode ? 1 : n},
                                                 &list),
                             "select_quantile");
                        must(sw_selection_to_host(&list, &quantile[w]), "to_host");
                        must(sw_selection_validate(&quantile[w]), "select_quantile");
                        sw_selection_free(&list);
                    }
                    free(m);
                    be->free(be, d);
                }
                char name[80];
                snprintf(name, sizeof name, "select_top b %d kind %d%s", b, (int)kind,
                         decode ? " decode" : "");
                compare_lists(p, name, &top[0], &top[1]);
                snprintf(name, sizeof name, "select_quantile b %d kind %d%s", b, (int)kind,
                         decode ? " decode" : "");
                if (kind < 4)
                    compare_lists(p, name, &quantile[0], &quantile[1]);
                for (int w = 0; w < 2; w++) {
                    sw_selection_free(&top[w]);
                    sw_selection_free(&quantile[w]);
                }
            }
            free(scores);
        }
}

/* --- a prompt's steps ------------------------------------------------------------------------- */

static float *poisoned(struct sw_backend *be, size_t count)
{
    float *x = need(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = NAN;
    float *d = on_device(be, x, count * sizeof *x);
    free(x);
    return d;
}

/* The largest difference in a matrix [units, ld_rows, ld], each row's by its largest value; columns
 * from b on and rows from `rows` on must not have been written (NaN). */
static double row_error(const float *x, const float *reference, int units, int rows, int b,
                        int ld_rows, int ld, bool *outside)
{
    double worst = 0;
    for (size_t i = 0; i < (size_t)units * (size_t)ld_rows; i++) {
        const float *mine = x + i * (size_t)ld, *other = reference + i * (size_t)ld;
        bool in = (int)(i % (size_t)ld_rows) < rows;
        double top = 1e-30, error = 0;
        for (int j = 0; j < ld; j++)
            if (!in || j >= b) {
                *outside = *outside || !isnan(mine[j]);
            } else {
                double e = fabs((double)mine[j] - other[j]);
                error = e <= error ? error : e; /* NaN stays */
                top = fabs((double)other[j]) > top ? fabs((double)other[j]) : top;
            }
        worst = error / top <= worst ? worst : error / top;
    }
    return worst;
}

/* Queries and keys in one call, the last keys apart from the first ones; sums of the same bits as
 * the CPU's. */
static void pool_sketch_case(struct parity *p, int n, int H, int Hkv, int d, int block, int r,
                             int units_q, int units_k, bool padded, uint64_t seed)
{
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    int b = sw_blocks(n, block), ld = b + 3, d_pow2 = 1, cut = n / 3, width = r ? r : d;
    while (d_pow2 < d)
        d_pow2 *= 2;
    int heads[2] = {H, Hkv}, units[2] = {units_q, units_k};
    float *sums[2][2], *sketches[2][2];
    for (int w = 0; w < 2; w++) {
        struct sw_backend *be = both[w];
        struct sw_srht t = transform_on(be, d, d_pow2, r ? r : 1, 5);
        struct sw_pool pools[3] = {{0}};
        struct sw_sketch sketch[3] = {{0}};
        void *x[2];
        for (int i = 0; i < 2; i++) {
            size_t count = (size_t)n * (size_t)heads[i] * (size_t)d,
                   rows = (size_t)units[i] * (size_t)ld;
            float *values = random_values(seed + (uint64_t)i, count, 3);
            x[i] = acts_on_device(be, values, count);
            pools[i] = (struct sw_pool){.x = x[i],
                                        .heads = heads[i],
                                        .head_dim = d,
                                        .units = units[i],
                                        .block = block,
                                        .t1 = n,
                                        .ld = ld,
                                        .sums = poisoned(be, rows * (size_t)d)};
            sketch[i] = (struct sw_sketch){.sums = pools[i].sums,
                                           .units = units[i],
                                           .ld = ld,
                                           .d = d,
                                           .block = block,
                                           .n = n,
                                           .i1 = b,
                                           .padded_tail = padded,
                                           .transform = r ? &t : NULL,
                                           .out = poisoned(be, rows * (size_t)width)};
            free(values);
        }
        pools[2] = pools[1]; /* the first keys */
        sketch[2] = sketch[1];
        if (cut > 0) {
            pools[2].t1 = sketch[2].n = pools[1].t0 = cut;
            sketch[2].i1 = sw_blocks(cut, block);
            sketch[1].i0 = cut / block;
            pools[1].x = (char *)x[1] + (size_t)cut * (size_t)(Hkv * d) * sw_dtype_size(be->act);
        }
        if (w == 1) {
            if (cut > 0)
                must(be->pool_sketch(be, &pools[2], &sketch[2], 1), "pool_sketch");
            must(be->pool_sketch(be, pools, sketch, 2), "pool_sketch");
        } else {
            for (int i = cut > 0 ? 2 : 1; i >= 0; i--) {
                must(be->pool(be, &pools[i]), "pool");
                must(be->sketch(be, &sketch[i]), "sketch");
            }
        }
        for (int i = 0; i < 2; i++) {
            sums[i][w] = floats_from(be, pools[i].sums, (size_t)units[i] * (size_t)ld * (size_t)d);
            sketches[i][w] =
                floats_from(be, sketch[i].out, (size_t)units[i] * (size_t)ld * (size_t)width);
            be->free(be, x[i]);
            be->free(be, pools[i].sums);
            be->free(be, sketch[i].out);
        }
        be->free(be, (void *)t.signs);
        be->free(be, (void *)t.keep);
    }
    for (int i = 0; i < 2; i++) {
        check(p, memcmp(sums[i][0], sums[i][1], (size_t)units[i] * (size_t)ld * (size_t)d * 4) == 0,
              "pool_sketch n %d d %d B %d, %s: other sums", n, d, block, i ? "keys" : "queries");
        bool outside = false;
        double e =
            row_error(sketches[i][1], sketches[i][0], units[i], b, width, ld, width, &outside);
        check(p, e <= 2e-6 && !outside,
              "pool_sketch n %d d %d B %d r %d, %s: sketches differ by %.3g%s", n, d, block, r,
              i ? "keys" : "queries", e, outside ? ", written outside" : "");
        for (int w = 0; w < 2; w++) {
            free(sums[i][w]);
            free(sketches[i][w]);
        }
    }
}

/* Softmax rows without a mean over units, which one kernel makes. */
static void scores_case(struct parity *p, int b, int row0, int r, int units_q, int units_k,
                        bool causal, float exponent, uint64_t seed)
{
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    int rows = b - row0, ld = b + 5, ld_rows = rows + 1;
    size_t qn = (size_t)units_q * (size_t)ld_rows * (size_t)r,
           kn = (size_t)units_k * (size_t)ld * (size_t)r,
           count = (size_t)units_q * (size_t)ld_rows * (size_t)ld;
    float *q = random_values(seed, qn, 1), *k = random_values(seed + 1, kn, 1), *got[2];
    for (int w = 0; w < 2; w++) {
        struct sw_backend *be = both[w];
        float *dq = on_device(be, q, qn * 4), *dk = on_device(be, k, kn * 4),
              *out = poisoned(be, count);
        must(be->block_scores(be, &(struct sw_block_scores){.q = dq,
                                                            .k = dk,
                                                            .units_q = units_q,
                                                            .units_k = units_k,
                                                            .rows = rows,
                                                            .row0 = row0,
                                                            .b = b,
                                                            .r = r,
                                                            .q_ld = ld_rows,
                                                            .k_ld = ld,
                                                            .scale = 1.0f / sqrtf((float)r),
                                                            .exponent = exponent,
                                                            .softmax = true,
                                                            .causal = causal,
                                                            .out = {out, units_q, ld_rows, ld}}),
             "block_scores");
        got[w] = floats_from(be, out, count);
        void *all[] = {dq, dk, out};
        for (size_t f = 0; f < sizeof all / sizeof *all; f++)
            be->free(be, all[f]);
    }
    bool outside = false;
    double e = row_error(got[1], got[0], units_q, rows, b, ld_rows, ld, &outside);
    check(p, e <= 1e-4 && !outside,
          "block_scores, b %d row0 %d r %d units %d/%d%s s %g: rows differ by %.3g%s", b, row0, r,
          units_q, units_k, causal ? " causal" : "", (double)exponent, e,
          outside ? ", written outside" : "");
    free(got[0]);
    free(got[1]);
    free(q);
    free(k);
}

/* Uniform numbers in b × b; above the diagonal `above`. */
static float *block_matrix(uint64_t seed, int units, int b, int ld, float above)
{
    size_t count = (size_t)units * (size_t)ld * (size_t)ld;
    float *x = need(count * sizeof *x);
    for (size_t i = 0; i < count; i++) {
        int row = (int)(i / (size_t)ld % (size_t)ld), col = (int)(i % (size_t)ld);
        x[i] = row >= b || col >= b || col > row
                   ? above
                   : (float)(sw_rng_u64(seed, SW_RNG_TEST, i) >> 40) * 0x1p-24f;
    }
    return x;
}

struct walk_case {
    int units, b, row0, pad;
    bool causal;
    float alpha, beta;
};

/* The walk against the CPU's, from matrices with NaN where the GPU must not look; its bits from run
 * to run; then walk_top, which must give the bits and the lists that walk and select_top give. */
static void walk_top_case(struct parity *p, const struct walk_case *c, uint64_t seed)
{
    struct sw_backend *both[2] = {p->cpu, p->cuda};
    int b = c->b, ld = b + c->pad, rows = b - c->row0, B = 64, n = b * B - 7;
    size_t plane = (size_t)ld * (size_t)ld, count = (size_t)c->units * plane,
           skip = (size_t)c->row0 * (size_t)ld;
    char name[120];
    snprintf(name, sizeof name, "walk, b %d row0 %d ld %d units %d%s alpha %g beta %g", b, c->row0,
             ld, c->units, c->causal ? " causal" : "", (double)c->alpha, (double)c->beta);
    int *m = need((size_t)b * sizeof *m);
    must(sw_budget_rows(n, B, 0.3, SW_FORCED_COMMON, m, NULL), "budget");
    float *got[2][3] = {{0}};
    struct sw_selection lists[2] = {{0}, {0}};
    for (int w = 0; w < 2; w++) {
        struct sw_backend *be = both[w];
        float above = w ? NAN : 0.0f;
        float *a = block_matrix(seed, c->units, b, ld, above),
              *x = block_matrix(seed + 1, c->units, b, ld, above);
        if (!c->causal)
            for (size_t i = 0; i < count;
                 i++) /* full matrices: only what is outside b × b is left */
                if ((int)(i % (size_t)ld) < b && (int)(i / (size_t)ld % (size_t)ld) < b)
                    a[i] = x[i] = (float)(sw_rng_u64(seed + 2, SW_RNG_TEST, i) >> 40) * 0x1p-24f;
        float *da = on_device(be, a, count * 4), *dx = on_device(be, x, count * 4),
              *out = poisoned(be, count);
        struct sw_walk walk = {.rows = rows,
                               .row0 = c->row0,
                               .b = b,
                               .x = dx + skip,
                               .a = {da, c->units, ld, ld},
                               .anchor = da + skip,
                               .alpha = c->alpha,
                               .beta = c->beta,
                               .causal = c->causal,
                               .scale_rows = true,
                               .out = {out, c->units, ld, ld}};
        struct sw_select_top top = {.scores = {out, c->units, ld, ld},
                                    .row0 = c->row0,
                                    .rows = rows,
                                    .budget = m + c->row0,
                                    .forced = SW_FORCED_COMMON,
                                    .block = B,
                                    .n = n,
                                    .n_q = rows == b ? n : n - c->row0 * B};
        for (int run = 0; run < (w ? 3 : 1); run++) {
            struct sw_selection list = {0};
            if (run == 2) {
                be->free(be, out);
                walk.out.data = out = poisoned(be, count);
                top.scores.data = out;
                must(be->walk_top(be, &walk, &top, &list), "walk_top");
            } else {
                must(be->walk(be, &walk), "walk");
            }
            if (w && run < 2)
                must(be->select_top(be, &top, &list), "select_top");
            if (w && run > 0)
                must(sw_selection_to_host(&list, &lists[run - 1]), "to_host");
            got[w][run] = floats_from(be, out, count);
            sw_selection_free(&list);
        }
        void *all[] = {da, dx, out};
        for (size_t f = 0; f < sizeof all / sizeof *all; f++)
            be->free(be, all[f]);
        free(a);
        free(x);
    }
    bool outside = false;
    double e = row_error(got[1][0], got[0][0], c->units, rows, b, ld, ld, &outside);
    check(p, e <= 1e-4 && !outside, "%s: rows differ by %.3g%s", name, e,
          outside ? ", written outside" : "");
    check(p, memcmp(got[1][0], got[1][1], count * 4) == 0, "%s: other bits in a second run", name);
    check(p, memcmp(got[1][1], got[1][2], count * 4) == 0, "walk_top, %s: other bits than walk's",
          name);
    compare_lists(p, name, &lists[0], &lists[1]);
    for (int run = 0; run < 3; run++) {
        free(got[0][run]);
        free(got[1][run]);
    }
    sw_selection_free(&lists[0]);
    sw_selection_free(&lists[1]);
    free(m);
}

/* A prompt's selection and attention, whose kernels overlap at their ends: launched, and as a
 * recording run twice; the same bits. */
static void recorded_prompt(struct parity *p)
{
    struct sw_backend *be = p->cuda;
    enum { N = 4000, H = 8, HKV = 2, D = 128, B = 64, R = 64 };
    int b = sw_blocks(N, B), m[(N + B - 1) / B];
    size_t qn = (size_t)N * H * D, kn = (size_t)N * HKV * D, plane = (size_t)b * (size_t)b;
    float *values = random_values(71, qn, 2), *reference = need(qn * 4), *again = need(qn * 4);
    void *q = acts_on_device(be, values, qn), *k = acts_on_device(be, values + 1000, kn),
         *v = acts_on_device(be, values + 2000, kn), *out = acts_on_device(be, values, qn);
    float *qs = poisoned(be, (size_t)b * D), *ks = poisoned(be, (size_t)b * D),
          *qt = poisoned(be, (size_t)b * R), *kt = poisoned(be, (size_t)b * R),
          *a = poisoned(be, plane), *x = poisoned(be, plane);
    struct sw_srht t = transform_on(be, D, D, R, 5);
    must(sw_budget_rows(N, B, 0.2, SW_FORCED_COMMON, m, NULL), "budget");
    struct sw_pool pools[2] = {
        {.x = q, .heads = H, .head_dim = D, .units = 1, .block = B, .t1 = N, .ld = b, .sums = qs},
        {.x = k,
         .heads = HKV,
         .head_dim = D,
         .units = 1,
         .block = B,
         .t1 = N,
         .ld = b,
         .sums = ks}};
    struct sw_sketch sketches[2] = {{.sums = qs,
                                     .units = 1,
                                     .ld = b,
                                     .d = D,
                                     .block = B,
                                     .n = N,
                                     .i1 = b,
                                     .transform = &t,
                                     .out = qt},
                                    {.sums = ks,
                                     .units = 1,
                                     .ld = b,
                                     .d = D,
                                     .block = B,
                                     .n = N,
                                     .i1 = b,
                                     .transform = &t,
                                     .out = kt}};
    struct sw_block_scores scores = {.q = qt,
                                     .k = kt,
                                     .units_q = 1,
                                     .units_k = 1,
                                     .rows = b,
                                     .b = b,
                                     .r = R,
                                     .q_ld = b,
                                     .k_ld = b,
                                     .scale = 0.1f,
                                     .exponent = 8,
                                     .softmax = true,
                                     .causal = true,
                                     .out = {a, 1, b, b}};
    struct sw_walk walk = {.rows = b,
                           .b = b,
                           .x = a,
                           .a = {a, 1, b, b},
                           .beta = 1,
                           .causal = true,
                           .scale_rows = true,
                           .out = {x, 1, b, b}};
    struct sw_select_top top = {.scores = {x, 1, b, b},
                                .rows = b,
                                .budget = m,
                                .forced = SW_FORCED_COMMON,
                                .block = B,
                                .n = N,
                                .n_q = N};
    struct sw_selection list = {0};
    struct sw_attend attend = {.batch = 1,
                               .n_q = N,
                               .n_k = N,
                               .n_heads = H,
                               .n_kv_heads = HKV,
                               .head_dim = D,
                               .kv_stride = N,
                               .q = q,
                               .k = k,
                               .v = v,
                               .out = out,
                               .scale = (float)(1 / sqrt(D)),
                               .sel = &list};
    for (int run = 0; run < 4; run++) { /* launched, recorded, run, run */
        if (run == 1)
            must(be->record_begin(be), "record_begin");
        else
            must(be->zero(be, out, qn * sw_dtype_size(be->act)), "zero");
        if (run < 2) {
            must(be->pool_sketch(be, pools, sketches, 2), "pool_sketch");
            must(be->block_scores(be, &scores), "block_scores");
            must(be->walk_top(be, &walk, &top, &list), "walk_top");
            must(be->attend(be, &attend), "attend");
        } else {
            must(be->record_run(be), "record_run");
        }
        if (run == 1) {
            must(be->record_end(be), "record_end");
            continue;
        }
        must(be->download_act(be, run ? again : reference, out, qn), "download_act");
        check(p, run == 0 || memcmp(reference, again, qn * 4) == 0,
              "a recorded prompt, run %d: other bits", run - 1);
    }
    be->record_drop(be);
    void *all[] = {q, k, v, out, qs, ks, qt, kt, a, x, (void *)t.signs, (void *)t.keep};
    for (size_t f = 0; f < sizeof all / sizeof *all; f++)
        be->free(be, all[f]);
    sw_selection_free(&list);
    free(values);
    free(reference);
    free(again);
}

void parity_prompt(struct parity *p)
{
    pool_sketch_case(p, 1, 2, 1, 64, 64, 64, 1, 1, false, 900);
    pool_sketch_case(p, 1000, 8, 2, 128, 64, 64, 1, 1, false, 901);
    pool_sketch_case(p, 777, 4, 4, 96, 16, 100, 4, 2, true, 902);
    pool_sketch_case(p, 515, 6, 3, 80, 128, 0, 3, 3, false, 903);
    static const int widths[] = {16, 63, 257, 300, 600};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        int b = widths[i];
        if (p->quick && b > 300)
            continue;
        scores_case(p, b, 0, 64, 1, 1, true, 8, 920 + 10 * i);
        scores_case(p, b, 0, 20, 4, 2, false, 1, 922 + 10 * i);
        scores_case(p, b, b / 3, 128, 2, 1, true, 2.5f, 924 + 10 * i);
    }
    static const struct walk_case walks[] = {
        {1, 9, 0, 3, true, 0, 1},        {1, 33, 0, 3, true, 0, 1},
        {3, 64, 0, 0, true, 0.5f, 0.5f}, {2, 130, 0, 2, false, 0, 1},
        {1, 257, 100, 3, true, 0, 1},    {1, 300, 0, 1, true, 1, 0},
        {2, 100, 0, 0, true, 0.5f, 0},   {1, 5, 0, 3, true, 0, 1},
        {1, 700, 0, 4, true, 0, 1},      {8, 400, 0, 4, true, 0, 1},
        {8, 403, 0, 0, true, 0, 1},      {8, 390, 0, 2, false, 0.25f, 0.75f},
        {12, 420, 130, 4, true, 0, 1},
    };
    for (size_t i = 0; i < sizeof walks / sizeof *walks; i++)
        if (!p->quick || walks[i].b <= 300)
            walk_top_case(p, &walks[i], 970 + 10 * i);
    recorded_prompt(p);
}
