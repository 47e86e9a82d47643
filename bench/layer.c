/* layer.c: what a prompt costs beside attention: one layer of Llama-3.1-8B's shape over n rows,
 * with the calls, the order, the chunks and the memory of core/model/pass.c.
 *
 * Each operation's time beside the limit of its kind, both from the same rounds: products beside an
 * 8192³ one, the others, which only move bytes, beside a copy. A round runs the layer in chunks of
 * several sizes, each with time stamps between the operations and without, then what the limits are
 * made of; medians over rounds. So all sizes and the limits see the same heat. The size that
 * core/model/pass.c takes at this length is marked. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gpu.h"
#include "core/model/model.h"

enum { ROUNDS = 7, SIZES = 4, SMALL = 2048, EDGE = 8192, PRODUCTS = 8 };
enum op { NORM, Q, K, V, ROPE, O, NORM_MLP, GATE, UP, SWIGLU, DOWN, OPS };

struct bench {
    struct sw_backend *be;
    const struct sw_named_shape *m;
    int n, rows, qw, kw;
    void *x, *q, *before, *k, *v;
    void *gain, *w[OPS];
    float *inv_freq;
    bool stamped;
    int stamps;
    enum op of[SW_TIMER_SLOTS]; /* what was done when a stamp was set */
};

static void *at_row(const struct bench *b, void *base, int row, int width)
{
    return (char *)base + (size_t)row * (size_t)width * sw_dtype_size(b->be->act);
}

static void did(struct bench *b, enum op op)
{
    if (!b->stamped)
        return;
    b->of[++b->stamps] = op;
    sw_must(b->be->mark(b->be, b->stamps), "mark");
}

static void product(struct bench *b, enum op op, const void *in, int rows, int n_in, int n_out,
                    bool accumulate, void *out)
{
    sw_must(b->be->linear(b->be, in, b->w[op], NULL, rows, n_in, n_out, accumulate, out), "linear");
    did(b, op);
}

static void project(struct bench *b, int row, int rows)
{
    struct sw_backend *be = b->be;
    const struct sw_shape *s = &b->m->shape;
    int hidden = b->m->hidden;
    void *q = at_row(b, b->q, row, b->qw), *k = at_row(b, b->k, row, b->kw);
    sw_must(be->rmsnorm(be, at_row(b, b->x, row, hidden), b->gain, rows, hidden, 1e-5f, b->before),
            "rmsnorm");
    did(b, NORM);
    product(b, Q, b->before, rows, hidden, b->qw, false, q);
    product(b, K, b->before, rows, hidden, b->kw, false, k);
    product(b, V, b->before, rows, hidden, b->kw, false, at_row(b, b->v, row, b->kw));
    sw_must(be->rope(be, q, rows, s->n_heads, s->head_dim, row, b->inv_freq, 1), "rope");
    sw_must(be->rope(be, k, rows, s->n_kv_heads, s->head_dim, row, b->inv_freq, 1), "rope");
    did(b, ROPE);
}

/* Attention is written over the queries. */
static void add_attention(struct bench *b, int row, int rows)
{
    product(b, O, at_row(b, b->q, row, b->qw), rows, b->qw, b->m->hidden, true,
            at_row(b, b->x, row, b->m->hidden));
}

static void add_mlp(struct bench *b, int row, int rows)
{
    struct sw_backend *be = b->be;
    int hidden = b->m->hidden, inter = b->m->intermediate;
    void *x = at_row(b, b->x, row, hidden), *normed = b->q,
         *gate = at_row(b, normed, b->rows, hidden), *up = at_row(b, gate, b->rows, inter);
    sw_must(be->rmsnorm(be, x, b->gain, rows, hidden, 1e-5f, normed), "rmsnorm");
    did(b, NORM_MLP);
    product(b, GATE, normed, rows, hidden, inter, false, gate);
    product(b, UP, normed, rows, hidden, inter, false, up);
    sw_must(be->swiglu(be, gate, up, (size_t)rows * (size_t)inter, gate), "swiglu");
    did(b, SWIGLU);
    product(b, DOWN, gate, rows, inter, hidden, true, x);
}

static double elapsed(struct bench *b, int from, int to)
{
    double ms;
    sw_must(b->be->elapsed_ms(b->be, from, to, &ms), "elapsed");
    return ms;
}

/* Milliseconds of the layer; with `ops` stamped, and those of each operation. */
static double layer(struct bench *b, int rows, double *ops)
{
    struct sw_backend *be = b->be;
    int last = 1;
    b->rows = rows;
    b->stamped = ops != NULL;
    b->stamps = 0;
    sw_must(be->mark(be, 0), "mark");
    for (int row = 0; row < b->n; row += rows)
        project(b, row, b->n - row < rows ? b->n - row : rows);
    for (int row = 0; row < b->n; row += rows)
        add_attention(b, row, b->n - row < rows ? b->n - row : rows);
    for (int row = 0; row < b->n; row += rows)
        add_mlp(b, row, b->n - row < rows ? b->n - row : rows);
    if (ops) {
        for (int i = 0; i < OPS; i++)
            ops[i] = 0;
        for (int i = 1; i <= b->stamps; i++)
            ops[b->of[i]] += elapsed(b, i - 1, i);
        last = b->stamps;
    } else {
        sw_must(be->mark(be, last), "mark");
    }
    return elapsed(b, 0, last);
}

static double median(double *x)
{
    qsort(x, ROUNDS, sizeof *x, ascending);
    return x[ROUNDS / 2];
}

struct rounds {
    double ops[SIZES][OPS][ROUNDS], layer[SIZES][ROUNDS], edge[ROUNDS], copy[ROUNDS], o[ROUNDS],
        down[ROUNDS];
};

/* Chunks of SMALL << c rows; no more than there are. */
static int size_of(const struct bench *b, int c) { return SMALL << c < b->n ? SMALL << c : b->n; }

static void round_of(struct bench *b, struct rounds *r, int i, void *const *edge)
{
    struct sw_backend *be = b->be;
    int hidden = b->m->hidden, inter = b->m->intermediate, most = size_of(b, SIZES - 1);
    for (int c = 0; c < SIZES; c++) {
        double ops[OPS];
        (void)layer(b, size_of(b, c), ops);
        for (int k = 0; k < OPS; k++)
            r->ops[c][k][i] = ops[k];
        r->layer[c][i] = layer(b, size_of(b, c), NULL);
    }
    sw_must(be->mark(be, 0), "mark");
    for (int k = 0; k < PRODUCTS; k++)
        sw_must(be->linear(be, edge[0], edge[1], NULL, EDGE, EDGE, EDGE, false, edge[2]), "linear");
    sw_must(be->mark(be, 1), "mark");
    sw_must(be->copy(be, edge[4], edge[3], (size_t)1 << 30), "copy");
    sw_must(be->mark(be, 2), "mark");
    for (int row = 0; row < b->n;
         row += most) /* o and down with nothing to add to: what the residual costs in them */
        product(b, O, at_row(b, b->q, row, b->qw), b->n - row < most ? b->n - row : most, b->qw,
                hidden, false, edge[4]);
    sw_must(be->mark(be, 3), "mark");
    for (int row = 0; row < b->n; row += most)
        product(b, DOWN, at_row(b, b->q, most, hidden), b->n - row < most ? b->n - row : most,
                inter, hidden, false, edge[4]);
    sw_must(be->mark(be, 4), "mark");
    r->edge[i] = elapsed(b, 0, 1) / PRODUCTS;
    r->copy[i] = elapsed(b, 1, 2);
    r->o[i] = elapsed(b, 2, 3);
    r->down[i] = elapsed(b, 3, 4);
}

static void print_rounds(const struct bench *b, struct rounds *r, int models)
{
    static const char *const names[OPS] = {"rmsnorm",
                                           "q",
                                           "k",
                                           "v",
                                           "rope of q and k",
                                           "o, residual added",
                                           "rmsnorm before the MLP",
                                           "gate",
                                           "up",
                                           "swiglu",
                                           "down, residual added"};
    double n = b->n, hidden = b->m->hidden, inter = b->m->intermediate, qw = b->qw, kw = b->kw;
    const double flop[OPS] = {[Q] = 2 * n * hidden * qw,       [K] = 2 * n * hidden * kw,
                              [V] = 2 * n * hidden * kw,       [O] = 2 * n * hidden * qw,
                              [GATE] = 2 * n * hidden * inter, [UP] = 2 * n * hidden * inter,
                              [DOWN] = 2 * n * hidden * inter};
    const double bytes[OPS] = {[NORM] = 4 * n * hidden,
                               [ROPE] = 4 * n * (qw + kw),
                               [NORM_MLP] = 4 * n * hidden,
                               [SWIGLU] = 6 * n * inter};
    /* TFLOP/s, GB/s */
    double edge = 2.0 * EDGE * EDGE * EDGE / median(r->edge) * 1e-9,
           copy = 2.0 * (1 << 30) / median(r->copy) * 1e-6;
    double least[OPS], limit = 0, products[SIZES] = {0}, layers = b->m->shape.n_layers;
    printf("layer   n %d, a layer without attention: ms, TFLOP/s or GB/s, share of the limit "
           "(product of %d cubed %.0f TFLOP/s, copy %.0f GB/s)\n",
           b->n, EDGE, edge, copy);
    printf("%-22s %-11s", "", "rows");
    for (int c = 0; c < SIZES; c++)
        printf(" | %22d%s", size_of(b, c), size_of(b, c) == models ? " *" : "  ");
    printf("\n");
    for (int k = 0; k < OPS; k++) {
        bool is_product = flop[k] > 0;
        least[k] = is_product ? flop[k] / edge * 1e-9 : bytes[k] / copy * 1e-6;
        limit += least[k];
        printf("%-22s %6.2f %-4s", names[k], is_product ? flop[k] * 1e-12 : bytes[k] * 1e-9,
               is_product ? "TFLO" : "GB");
        for (int c = 0; c < SIZES; c++) {
            double ms = median(r->ops[c][k]);
            products[c] += is_product ? ms : 0;
            printf(" | %9.3f %6.0f %5.1f %%", ms,
                   is_product ? flop[k] / ms * 1e-9 : bytes[k] / ms * 1e-6, 100 * least[k] / ms);
        }
        printf("\n");
    }
    printf("%-34s", "all, without time stamps");
    for (int c = 0; c < SIZES; c++)
        printf(" | %9.3f %6s %5.1f %%", median(r->layer[c]), "", 100 * limit / median(r->layer[c]));
    printf("\n%-34s", "a model: seconds, of them products");
    for (int c = 0; c < SIZES; c++)
        printf(" | %9.3f %6.3f %7s", median(r->layer[c]) * layers * 1e-3,
               products[c] * layers * 1e-3, "");
    printf("\nat the limits %.3f ms a layer, %.3f s a model; o and down with nothing to add to: "
           "%.3f and %.3f ms",
           limit, limit * layers * 1e-3, median(r->o), median(r->down));
    if (b->be->clock_mhz)
        printf("; SM clock after the last %d MHz", b->be->clock_mhz(b->be));
    printf("\n");
}

void bench_layer(struct sw_backend *be, int n)
{
    const struct sw_named_shape *m = sw_shape_find("llama-3.1-8b");
    struct bench b = {.be = be,
                      .m = m,
                      .n = n,
                      .qw = m->shape.n_heads * m->shape.head_dim,
                      .kw = m->shape.n_kv_heads * m->shape.head_dim};
    const struct sw_model_config config = {
        .shape = m->shape, .hidden = m->hidden, .intermediate = m->intermediate};
    if ((n / SMALL + 1) * OPS >= SW_TIMER_SLOTS) {
        printf("layer   n %d: more operations than time stamps\n", n);
        return;
    }
    size_t hidden = (size_t)m->hidden, inter = (size_t)m->intermediate, qw = (size_t)b.qw,
           kw = (size_t)b.kw, rows_n = (size_t)n, edge_n = (size_t)EDGE * EDGE;
    size_t most_rows = (size_t)size_of(&b, SIZES - 1), mlp = most_rows * (hidden + 2 * inter),
           queries = rows_n * qw;
    b.x = bench_acts(be, 1, 1, rows_n * hidden);
    b.q = bench_acts(be, 2, 1, queries > mlp ? queries : mlp);
    b.before = bench_acts(be, 3, 1, most_rows * hidden);
    b.k = bench_acts(be, 4, 1, rows_n * kw);
    b.v = bench_acts(be, 5, 1, rows_n * kw);
    b.gain = bench_acts(be, 6, 1, hidden);
    const size_t weights[OPS] = {
        [Q] = hidden * qw,       [K] = hidden * kw,     [V] = hidden * kw,      [O] = hidden * qw,
        [GATE] = hidden * inter, [UP] = hidden * inter, [DOWN] = hidden * inter};
    for (int k = 0; k < OPS; k++)
        b.w[k] = weights[k] ? bench_acts(be, 10 + (uint64_t)k, 0.02f, weights[k]) : NULL;
    float inv_freq[256];
    for (int k = 0; k < m->shape.head_dim / 2; k++)
        inv_freq[k] = (float)pow(m->rope_theta, -2.0 * k / m->shape.head_dim);
    b.inv_freq = bench_upload(be, inv_freq, sizeof inv_freq);
    size_t copied = (size_t)1 << 29; /* 1 GiB; the last one also takes a chunk's o and down */
    void *edge[5] = {bench_acts(be, 20, 1, edge_n), bench_acts(be, 21, 0.02f, edge_n),
                     bench_acts(be, 22, 1, edge_n), bench_acts(be, 23, 1, copied),
                     bench_acts(be, 24, 1, copied)};
    struct rounds *r = sw_need(sizeof *r);
    round_of(&b, r, 0, edge); /* warm-up */
    for (int i = 0; i < ROUNDS; i++)
        round_of(&b, r, i, edge);
    print_rounds(&b, r, sw_pass_chunk(&config, n));
    free(r);
    void *all[] = {b.x, b.q, b.before, b.k, b.v, b.gain, b.inv_freq};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->free(be, all[i]);
    for (int k = 0; k < OPS; k++)
        be->free(be, b.w[k]);
    for (int i = 0; i < 5; i++)
        be->free(be, edge[i]);
}
