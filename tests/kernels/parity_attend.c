/* Attention and block mass. The reference is plain double arithmetic on the same bf16 values, in
 * this file; the allowance is twice the error of a naive bf16 implementation (probabilities and
 * output rounded to bf16), measured on the same rows. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/kernels/parity_cuda.h"

enum units { SHARED, GROUP, HEAD, DENSE };
static const char *const unit_names[] = {"shared", "group", "head", "dense"};

struct attend_case {
    int batch, n_q, n_k, H, Hkv, d, block;
    enum units units;
    bool partial;
};

static const size_t SENTINELS = 512;

/* A random causal selection: forced {0, i-1, i}, others with probability 0.3; some blocks
 * partial. */
static void random_selection(const struct attend_case *c, uint64_t seed, struct sw_selection *s)
{
    int units = c->batch * (c->units == SHARED ? 1 : c->units == GROUP ? c->Hkv : c->H);
    int row0 = (c->n_k - c->n_q) / c->block, rows = sw_blocks(c->n_k, c->block) - row0;
    must(sw_selection_reserve(s, NULL, units, rows, sw_selection_full_capacity(units, row0, rows),
                              c->partial),
         "reserve");
    s->block = c->block;
    s->n = c->n_k;
    s->n_q = c->n_q;
    s->row0 = row0;
    s->window = c->partial ? c->block + c->block / 2 + 3 : 0;
    s->sink = c->partial ? c->block / 2 + 1 : 0;
    int32_t at = 0;
    uint64_t draw = 0;
    for (int u = 0; u < units; u++)
        for (int i = row0; i < row0 + rows; i++) {
            s->indptr[u * rows + i - row0] = at;
            for (int j = 0; j <= i; j++) {
                double x = sw_rng_uniform(seed, SW_RNG_TEST, draw++);
                if (!(j == 0 || j >= i - 1 || x < 0.3))
                    continue;
                if (c->partial)
                    s->whole[at] = !(j == 0 || j >= i - 1 || x < 0.1) || x < 0.05;
                s->indices[at++] = j;
            }
        }
    s->indptr[units * rows] = at;
    must(sw_selection_validate(s), "selection");
}

static bool kept(const struct sw_selection *s, int t, int key, int32_t e)
{
    return key <= t && (!s->whole || s->whole[e] || t - key < s->window || key < s->sink);
}

/* One query row: exact in double, and the naive bf16 way. weights: n_k doubles of room. */
static void reference_row(const struct attend_case *c, const struct sw_selection *s, const float *q,
                          const float *k, const float *v, float scale, int seq, int h, int t,
                          double *weights, float *exact, float *naive)
{
    int d = c->d, G = c->H / c->Hkv, pos = c->n_k - c->n_q + t, g = h / G;
    const float *qr =
        q + (((size_t)seq * (size_t)c->n_q + (size_t)t) * (size_t)c->H + (size_t)h) * (size_t)d;
    size_t kv0 = (size_t)seq * (size_t)c->n_k;
    for (int u = 0; u <= pos; u++)
        weights[u] = s ? -INFINITY : 0.0;
    if (s) {
        int per = s->units / c->batch, unit = seq * per + (per == 1 ? 0 : per == c->H ? h : g);
        int row = unit * s->rows + pos / s->block - s->row0;
        for (int32_t e = s->indptr[row]; e < s->indptr[row + 1]; e++)
            for (int u = s->indices[e] * s->block; u < (s->indices[e] + 1) * s->block && u <= pos;
                 u++)
                if (kept(s, pos, u, e))
                    weights[u] = 0.0;
    }
    double top = -INFINITY, sum = 0;
    for (int u = 0; u <= pos; u++) {
        if (weights[u] != 0.0)
            continue;
        const float *kr = k + ((kv0 + (size_t)u) * (size_t)c->Hkv + (size_t)g) * (size_t)d;
        double part[8] = {0}, dot = 0; /* eight sums: the compiler may use vectors */
        for (int x = 0; x < d; x += 8)
            for (int y = 0; y < 8; y++)
                part[y] += (double)qr[x + y] * kr[x + y];
        for (int y = 0; y < 8; y++)
            dot += part[y];
        weights[u] = dot * scale;
        top = weights[u] > top ? weights[u] : top;
    }
    double o[256] = {0};
    float rounded[256] = {0};
    for (int u = 0; u <= pos; u++) {
        if (weights[u] == -INFINITY) {
            weights[u] = 0;
            continue;
        }
        weights[u] = exp(weights[u] - top);
        sum += weights[u];
    }
    for (int u = 0; u <= pos; u++) {
        if (weights[u] == 0)
            continue;
        const float *vr = v + ((kv0 + (size_t)u) * (size_t)c->Hkv + (size_t)g) * (size_t)d;
        double p = weights[u] / sum;
        float pb = bf16_round((float)p);
        for (int x = 0; x < d; x++) {
            o[x] += p * vr[x];
            rounded[x] += pb * vr[x];
        }
    }
    for (int x = 0; x < d; x++) {
        exact[x] = (float)o[x];
        naive[x] = bf16_round(rounded[x]);
    }
}

/* Reference rows of one case, shared out over threads. */
struct reference {
    const struct attend_case *c;
    const struct sw_selection *s;
    const float *q, *k, *v;
    float scale, *exact, *naive;
    int rows, first, step;
};

static int sampled(const struct attend_case *c, int rows, int r)
{
    return rows == 1 ? c->n_q - 1 : (int)((int64_t)r * (c->n_q - 1) / (rows - 1));
}

static void *reference_rows(void *arg)
{
    const struct reference *w = arg;
    const struct attend_case *c = w->c;
    double *weights = need((size_t)c->n_k * sizeof *weights);
    for (int i = w->first; i < c->batch * w->rows * c->H; i += w->step) {
        size_t at = (size_t)i * (size_t)c->d;
        reference_row(c, w->s, w->q, w->k, w->v, w->scale, i / (w->rows * c->H), i % c->H,
                      sampled(c, w->rows, i / c->H % w->rows), weights, w->exact + at,
                      w->naive + at);
    }
    free(weights);
    return NULL;
}

/* Over the queries q [count] what `got` has, sentinels behind both; where that is not taken, an
 * error. */
static void check_in_place(struct parity *p, const struct sw_attend *a, const float *q,
                           const float *got, size_t count, const char *name)
{
    struct sw_backend *be = p->cuda;
    size_t all = count + SENTINELS;
    float *host = need(all * sizeof *host);
    bool allowed = be->attend_in_place(be, a);
    /* several tiles a multiprocessor: a race shows in some runs only */
    int runs = allowed && a->n_q > 2000 ? 8 : 1;
    for (int run = 0; run < runs; run++) {
        memcpy(host, q, count * sizeof *host);
        memcpy(host + count, got + count, SENTINELS * sizeof *host);
        void *over = acts_on_device(be, host, all);
        struct sw_attend same = *a;
        same.q = same.out = over;
        if (allowed) {
            must(be->attend(be, &same), name);
            must(be->download_act(be, host, over, all), name);
            check(p, memcmp(host, got, all * sizeof *host) == 0,
                  "%s: other bits over the queries, run %d", name, run);
        } else {
            check(p, be->attend(be, &same) == SW_EINTERNAL, "%s: written over its queries", name);
            sw_error_clear();
        }
        be->free(be, over);
    }
    free(host);
}

static void run_case(struct parity *p, const struct attend_case *c, enum sw_attend_kernel kernel,
                     uint64_t seed)
{
    size_t d = (size_t)c->d, row = (size_t)c->H * d,
           q_count = (size_t)c->batch * (size_t)c->n_q * row;
    int stride = c->n_k + 5; /* rows past n_k hold NaN: nobody may use them */
    size_t kv_row = (size_t)c->Hkv * d, kv_count = (size_t)c->batch * (size_t)c->n_k * kv_row;
    float *q = random_values(seed, q_count, 2.0f), *k = random_values(seed + 1, kv_count, 1.0f),
          *v = random_values(seed + 2, kv_count, 1.0f);
    size_t padded = (size_t)c->batch * (size_t)stride * kv_row;
    float *kp = need(padded * sizeof *kp), *vp = need(padded * sizeof *vp);
    for (size_t i = 0; i < padded; i++)
        kp[i] = vp[i] = NAN;
    for (int b = 0; b < c->batch; b++) {
        memcpy(kp + (size_t)b * (size_t)stride * kv_row, k + (size_t)b * (size_t)c->n_k * kv_row,
               (size_t)c->n_k * kv_row * sizeof *k);
        memcpy(vp + (size_t)b * (size_t)stride * kv_row, v + (size_t)b * (size_t)c->n_k * kv_row,
               (size_t)c->n_k * kv_row * sizeof *v);
    }
    float *poison = need((q_count + SENTINELS) * sizeof *poison);
    for (size_t i = 0; i < q_count + SENTINELS; i++)
        poison[i] = i < q_count ? NAN : 1234.0f;
    struct sw_backend *be = p->cuda;
    struct sw_selection host = {0}, device = {0};
    if (c->units != DENSE) {
        random_selection(c, seed + 3, &host);
        selection_on_device(be, &host, &device);
    }
    void *dq = acts_on_device(be, q, q_count), *dk = acts_on_device(be, kp, padded),
         *dv = acts_on_device(be, vp, padded);
    void *out = acts_on_device(be, poison, q_count + SENTINELS);
    float scale = (float)(1.0 / sqrt((double)c->d));
    struct sw_attend a = {.batch = c->batch,
                          .n_q = c->n_q,
                          .n_k = c->n_k,
                          .n_heads = c->H,
                          .n_kv_heads = c->Hkv,
                          .head_dim = c->d,
                          .kv_stride = stride,
                          .q = dq,
                          .k = dk,
                          .v = dv,
                          .out = out,
                          .scale = scale,
                          .sel = c->units == DENSE ? NULL : &device,
                          .kernel = kernel};
    char name[160];
    snprintf(name, sizeof name, "attend batch %d n_q %d n_k %d H %d/%d d %d B %d %s%s", c->batch,
             c->n_q, c->n_k, c->H, c->Hkv, c->d, c->block, unit_names[c->units],
             c->partial ? " partial" : "");
    enum sw_status st = be->attend(be, &a);
    if (st == SW_EUNSUPPORTED && kernel == SW_ATTEND_LIBRARY) {
        printf("%s: %s\n", name, sw_error_message()); /* a build without cuDNN */
        sw_error_clear();
    } else if (st != SW_OK) {
        check(p, false, "%s: %s", name, sw_error_message());
        sw_error_clear();
    } else {
        float *got = need((q_count + SENTINELS) * sizeof *got);
        must(be->download_act(be, got, out, q_count + SENTINELS), name);
        bool intact = true, finite = true;
        for (size_t i = 0; i < SENTINELS; i++)
            intact = intact && got[q_count + i] == bf16_round(1234.0f);
        for (size_t i = 0; i < q_count; i++)
            finite = finite && isfinite(got[i]);
        check(p, intact, "%s: wrote past its output", name);
        check(p, finite, "%s: NaN or unwritten output", name);
        check_in_place(p, &a, q, got, q_count, name);
        /* Rows to compare: all of a few, else an even sample with the ends. */
        int wanted = p->quick        ? 24
                     : c->n_k > 2000 ? 16
                     : c->n_k > 200  ? 32
                                     : 64,
            rows = c->n_q < wanted ? c->n_q : wanted;
        size_t count = (size_t)c->batch * (size_t)rows * row, at = 0;
        float *exact = need(count * sizeof *exact), *naive = need(count * sizeof *naive),
              *own = need(count * sizeof *own);
        enum { THREADS = 12 };
        struct reference work[THREADS];
        pthread_t threads[THREADS];
        bool started[THREADS];
        for (int i = 0; i < THREADS; i++) {
            work[i] = (struct reference){
                c,      c->units == DENSE ? NULL : &host, q, k, v, scale, exact, naive, rows, i,
                THREADS};
            started[i] = pthread_create(&threads[i], NULL, reference_rows, &work[i]) == 0;
            if (!started[i])
                reference_rows(&work[i]);
        }
        for (int i = 0; i < THREADS; i++)
            if (started[i])
                pthread_join(threads[i], NULL);
        for (int b = 0; b < c->batch; b++)
            for (int r = 0; r < rows; r++, at += row)
                memcpy(own + at,
                       got + ((size_t)b * (size_t)c->n_q + (size_t)sampled(c, rows, r)) * row,
                       row * sizeof *own);
        double e = relative_error(own, exact, count), e0 = relative_error(naive, exact, count);
        double m = largest_error(own, exact, count), m0 = largest_error(naive, exact, count);
        check(p, e <= 2 * e0, "%s: error %.3g, naive bf16 %.3g", name, e, e0);
        check(p, m <= 2 * m0 + 1e-3, "%s: largest error %.3g, naive bf16 %.3g", name, m, m0);
        free(got);
        free(exact);
        free(naive);
        free(own);
    }
    be->free(be, dq);
    be->free(be, dk);
    be->free(be, dv);
    be->free(be, out);
    sw_selection_free(&device);
    sw_selection_free(&host);
    free(q);
    free(k);
    free(v);
    free(kp);
    free(vp);
    free(poison);
}

void parity_attend(struct parity *p)
{
    static const int lengths[] = {1, 63, 64, 65, 1000, 4096}, dims[] = {64, 96, 128, 256},
                     groups[] = {1, 3, 4, 8}, blocks[] = {32, 64, 128};
    uint64_t seed = 100;
    int few = p->quick ? 4 : 6;
    /* the kernel that dispatch chooses, then the portable one */
    for (int pass = 0; pass < 2; pass++) {
        if (pass)
            setenv("SWBENCH_ATTEND", "portable", 1);
        else
            unsetenv("SWBENCH_ATTEND");
        /* racecheck takes cuDNN's asynchronous copies for hazards */
        enum sw_attend_kernel kernel = p->quick ? SW_ATTEND_OWN : SW_ATTEND_BEST;
        for (int li = 0; li < few; li++) {
            int n = lengths[li];
            for (int di = 0; di < 4; di++)
                for (int gi = 0; gi < 4; gi++) {
                    int G = groups[gi], d = dims[di];
                    if ((n > 100 && (di + gi) % 2 != li % 2) || (n > 1000 && gi != di) ||
                        (p->quick && (li + di + gi) % 4 != 0))
                        continue; /* a half of the long ones, a quarter of the longest */
                    int Hkv = n > 1000 ? 1 : 2;
                    run_case(p, &(struct attend_case){1, n, n, G * Hkv, Hkv, d, 64, DENSE, false},
                             kernel, seed += 10);
                    for (int bi = 0; bi < 3; bi++) {
                        if (n > 1000 && bi != (di + 1) % 3)
                            continue;
                        enum units u = (enum units)((li + di + gi + bi) % 3);
                        run_case(p,
                                 &(struct attend_case){1, n, n, G * Hkv, Hkv, d, blocks[bi], u,
                                                       (li + bi) % 2 == 1},
                                 SW_ATTEND_BEST, seed += 10);
                        run_case(p,
                                 &(struct attend_case){1, n, n, G * Hkv, Hkv, d, blocks[bi],
                                                       (enum units)((u + 1) % 3), false},
                                 SW_ATTEND_BEST, seed += 10);
                    }
                }
        }
        /* Blocks of 16 and 256, other head dimensions, batches, chunks of a longer prompt. */
        static const struct attend_case more[] = {
            {1, 300, 300, 8, 2, 64, 16, SHARED, false},
            {1, 300, 300, 6, 2, 128, 16, GROUP, true},
            {1, 700, 700, 8, 2, 128, 256, SHARED, true},
            {1, 700, 700, 4, 4, 64, 256, HEAD, false},
            {1, 200, 200, 4, 2, 80, 64, SHARED, false},
            {1, 200, 200, 4, 2, 32, 64, GROUP, false},
            {1, 130, 130, 4, 2, 192, 64, SHARED, true},
            {2, 200, 200, 8, 2, 128, 64, GROUP, false},
            {3, 77, 77, 4, 4, 64, 32, HEAD, true},
            {1, 128, 512, 8, 2, 128, 64, SHARED, false},
            {1, 130, 514, 8, 2, 128, 128, GROUP, true},
            {1, 70, 582, 28, 4, 128, 64, SHARED, false},
            {1, 100, 612, 8, 2, 64, 64, DENSE, false},
            {1, 37, 1000, 14, 2, 64, 64, DENSE, false},
            {2, 65, 129, 8, 8, 128, 64, DENSE, false},
            {1, 1000, 1000, 32, 8, 128, 64, SHARED, false},
            {1, 1000, 1000, 32, 8, 128, 128, GROUP, false},
            {1, 900, 900, 14, 2, 64, 64, HEAD, false},
            {1, 2500, 2500, 8, 2, 128, 64, SHARED, false},
            {1, 2500, 2500, 28, 4, 128, 64, DENSE, false},
        };
        for (size_t i = 0; i < sizeof more / sizeof *more; i++)
            if (!p->quick || (more[i].n_k < 400 && i % 2 == (size_t)pass))
                run_case(p, &more[i], SW_ATTEND_BEST, seed += 10);
    }
    unsetenv("SWBENCH_ATTEND");
    /* The library's kernel, at the shapes it is timed at. */
    if (!p->quick) {
        run_case(p, &(struct attend_case){1, 1000, 1000, 32, 8, 128, 64, DENSE, false},
                 SW_ATTEND_LIBRARY, seed += 10);
        run_case(p, &(struct attend_case){1, 2048, 2048, 9, 3, 64, 64, DENSE, false},
                 SW_ATTEND_LIBRARY, seed += 10);
    }
    /* Decode: one query; the current block full, begun, and of one token. */
    static const int decode_lengths[] = {1, 17, 64, 65, 200, 1000, 1024, 4096, 9001};
    for (size_t li = 0; li < sizeof decode_lengths / sizeof *decode_lengths; li++)
        for (int di = 0; di < 4; di++)
            for (int gi = 0; gi < 4; gi++) {
                int n = decode_lengths[li], G = groups[gi];
                if (p->quick && (n > 300 || (li + di + gi) % 4 != 0))
                    continue;
                int batch = (di + gi) % 2 ? 4 : 1;
                run_case(p,
                         &(struct attend_case){batch, 1, n, G * 2, 2, dims[di], 64, DENSE, false},
                         SW_ATTEND_BEST, seed += 10);
                run_case(p,
                         &(struct attend_case){batch, 1, n, G * 2, 2, dims[di],
                                               blocks[(di + gi) % 3], (enum units)((gi + li) % 3),
                                               li % 2 == 1},
                         SW_ATTEND_BEST, seed += 10);
            }
    /* groups of more than 16 heads */
    run_case(p, &(struct attend_case){2, 1, 500, 40, 2, 64, 16, SHARED, false}, SW_ATTEND_BEST,
             seed += 10);
    run_case(p, &(struct attend_case){1, 1, 3000, 32, 8, 128, 256, SHARED, false}, SW_ATTEND_BEST,
             seed += 10);
}

void parity_mass(struct parity *p)
{
    static const struct {
        int n, n_q, H, Hkv, d, block;
    } cases[] = {
        {1, 1, 2, 2, 64, 64},        {65, 65, 4, 2, 64, 64},     {300, 300, 4, 2, 128, 64},
        {300, 300, 4, 4, 128, 32},   {300, 300, 6, 2, 96, 16},   {700, 700, 4, 1, 128, 128},
        {1000, 1000, 2, 1, 64, 256}, {333, 1, 4, 2, 128, 64},    {1000, 1, 8, 2, 64, 128},
        {200, 200, 2, 1, 256, 64},   {2500, 2500, 4, 1, 128, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = cases[i].n, n_q = cases[i].n_q, H = cases[i].H, d = cases[i].d, B = cases[i].block;
        if (p->quick && n > 800)
            continue;
        size_t q_count = (size_t)n_q * (size_t)H * (size_t)d,
               k_count = (size_t)n * (size_t)cases[i].Hkv * (size_t)d;
        float *q = random_values(9000 + i, q_count, 2.0f),
              *k = random_values(9100 + i, k_count, 1.0f);
        int b = sw_blocks(n, B), rows = b - (n - n_q) / B, ld = b + 3, ld_rows = rows + 1;
        size_t count = (size_t)H * (size_t)ld_rows * (size_t)ld;
        float *poison = need(count * sizeof *poison), *got[2];
        for (size_t x = 0; x < count; x++)
            poison[x] = -7.0f;
        struct sw_backend *both[2] = {p->cpu, p->cuda};
        for (int w = 0; w < 2; w++) {
            struct sw_backend *be = both[w];
            void *dq = acts_on_device(be, q, q_count), *dk = acts_on_device(be, k, k_count);
            float *out = on_device(be, poison, count * sizeof *out);
            struct sw_block_mass a = {.in = {.batch = 1,
                                             .n_q = n_q,
                                             .n_k = n,
                                             .n_heads = H,
                                             .n_kv_heads = cases[i].Hkv,
                                             .head_dim = d,
                                             .kv_stride = n,
                                             .q = dq,
                                             .k = dk,
                                             .v = dk,
                                             .out = NULL,
                                             .scale = (float)(1.0 / sqrt((double)d))},
                                      .block = B,
                                      .out = {out, H, ld_rows, ld}};
            must(be->block_mass(be, &a), "block_mass");
            got[w] = floats_from(be, out, count);
            be->free(be, dq);
            be->free(be, dk);
            be->free(be, out);
        }
        double worst = largest_error(got[1], got[0], count), sums = 0;
        for (int h = 0; h < H; h++)
            for (int r = 0; r < rows; r++) {
                double sum = 0;
                for (int j = 0; j < b; j++)
                    sum +=
                        got[1][((size_t)h * (size_t)ld_rows + (size_t)r) * (size_t)ld + (size_t)j];
                sums = fabs(sum - 1) > sums ? fabs(sum - 1) : sums;
            }
        check(p, worst <= 2e-5, "block_mass n %d n_q %d d %d B %d: differs by %.3g", n, n_q, d, B,
              worst);
        check(p, sums <= 1e-4, "block_mass n %d n_q %d d %d B %d: a row sums to 1 %+.3g", n, n_q, d,
              B, sums);
        free(got[0]);
        free(got[1]);
        free(poison);
        free(q);
        free(k);
    }
}
