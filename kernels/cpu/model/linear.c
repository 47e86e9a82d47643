/* linear.c: the products with weights. 2·rows·n_in·n_out FLOPs; up to SW_FEW_ROWS rows read every
 * weight once for a handful of FLOPs and are bound by memory, more rows are bound by arithmetic and
 * go to OpenBLAS in slices of fixed size. */
#include <cblas.h>
#include <math.h>

#include "kernels/cpu/device/cpu.h"

enum {
    ROWS = 256,     /* rows a slice: each slice packs its part of w again, 1/256 of its FLOPs */
    COLS = 1024,    /* outputs a slice */
    COLS_FEW = 128, /* the same with few rows, where columns are all there is to share */
    GEMV_FLOATS = 1 << 15, /* weights a task */
};

struct linear {
    const struct sw_vec *vec;
    const float *x, *w, *bias;
    int rows, n_in, n_out, row_slice, col_slice, col_slices;
    bool accumulate;
    float *out;
};

static int gemv_slice(int n_in) { return n_in >= GEMV_FLOATS / 4 ? 4 : GEMV_FLOATS / n_in / 4 * 4; }

/* Few rows: groups of SW_GEMV_ROWS, the later ones with the weights still in cache. */
static void few_rows(const struct sw_vec *vec, const float *x, int rows, const float *w, int n_in,
                     int n_out, const float *bias, bool accumulate, float *out, ptrdiff_t ldo)
{
    for (int r = 0; r < rows; r += SW_GEMV_ROWS)
        vec->gemv(x + (ptrdiff_t)r * n_in, n_in, rows - r < SW_GEMV_ROWS ? rows - r : SW_GEMV_ROWS,
                  w, n_in, n_out, bias, accumulate, out + r * ldo, ldo);
}

static void linear_task(void *ctx, long i, int worker)
{
    (void)worker;
    const struct linear *a = ctx;
    int r0 = (int)(i / a->col_slices) * a->row_slice, c0 = (int)(i % a->col_slices) * a->col_slice;
    int rows = a->rows - r0 < a->row_slice ? a->rows - r0 : a->row_slice,
        cols = a->n_out - c0 < a->col_slice ? a->n_out - c0 : a->col_slice;
    const float *x = a->x + (size_t)r0 * (size_t)a->n_in, *w = a->w + (size_t)c0 * (size_t)a->n_in;
    const float *bias = a->bias ? a->bias + c0 : NULL;
    float *out = a->out + (size_t)r0 * (size_t)a->n_out + c0;
    if (a->rows <= SW_FEW_ROWS) {
        few_rows(a->vec, x, rows, w, a->n_in, cols, bias, a->accumulate, out, a->n_out);
        return;
    }
    if (bias)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < cols; c++) {
                float *to = out + (size_t)r * (size_t)a->n_out + c;
                *to = a->accumulate ? *to + bias[c] : bias[c];
            }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, cols, a->n_in, 1.0f, x, a->n_in, w,
                a->n_in, a->accumulate || bias ? 1.0f : 0.0f, out, a->n_out);
}

enum sw_status sw_cpu_linear(struct sw_backend *be, const void *x, const void *w, const void *bias,
                             int rows, int n_in, int n_out, bool accumulate, void *out)
{
    CPU_NEED(rows >= 0 && n_in > 0 && n_out > 0);
    CPU_NEED(rows == 0 || (x && w && out));
    if (rows == 0)
        return SW_OK;
    struct linear a = {.vec = cpu_of(be)->vec,
                       .x = x,
                       .w = w,
                       .bias = bias,
                       .rows = rows,
                       .n_in = n_in,
                       .n_out = n_out,
                       .row_slice = ROWS,
                       .col_slice = rows <= SW_FEW_ROWS ? gemv_slice(n_in)
                                    : rows < ROWS       ? COLS_FEW
                                                        : COLS,
                       .accumulate = accumulate,
                       .out = out};
    a.col_slices = (n_out + a.col_slice - 1) / a.col_slice;
    sw_workers_run(cpu_of(be)->workers, ((long)rows + ROWS - 1) / ROWS * a.col_slices, linear_task,
                   &a);
    return SW_OK;
}

/* --- output head -------------------------------------------------------------------------------
 */

/* A task is HEAD_ROWS rows × HEAD_COLS words; its logits are made in pieces that stay
 * in the second cache level, and of each piece only maximum, Σ exp, best id and the target's logit
 * are kept. */

enum { HEAD_ROWS = 64, HEAD_PIECE = 1024, HEAD_COLS = 4096 };

struct part {
    float max, target;
    double sum; /* Σ exp(logit - max) */
    int32_t best;
};

struct head {
    const struct sw_vec *vec;
    const float *x, *w;
    const int32_t *targets;
    int rows, n_in, vocab, parts;
    float *logits;     /* [threads, HEAD_ROWS, HEAD_PIECE] */
    struct part *part; /* [rows, parts] */
};

static void head_task(void *ctx, long i, int worker)
{
    const struct head *a = ctx;
    int r0 = (int)(i / a->parts) * HEAD_ROWS, p = (int)(i % a->parts),
        end = (p + 1) * HEAD_COLS < a->vocab ? (p + 1) * HEAD_COLS : a->vocab;
    int rows = a->rows - r0 < HEAD_ROWS ? a->rows - r0 : HEAD_ROWS;
    float *logits = a->logits + (size_t)worker * HEAD_ROWS * HEAD_PIECE;
    for (int r = 0; r < rows; r++)
        a->part[(size_t)(r0 + r) * (size_t)a->parts + (size_t)p] =
            (struct part){.max = -INFINITY, .best = -1};
    for (int c0 = p * HEAD_COLS; c0 < end; c0 += HEAD_PIECE) {
        int cols = end - c0 < HEAD_PIECE ? end - c0 : HEAD_PIECE;
        const float *x = a->x + (size_t)r0 * (size_t)a->n_in,
                    *w = a->w + (size_t)c0 * (size_t)a->n_in;
        if (a->rows <= SW_FEW_ROWS)
            few_rows(a->vec, x, rows, w, a->n_in, cols, NULL, false, logits, HEAD_PIECE);
        else
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, cols, a->n_in, 1.0f, x,
                        a->n_in, w, a->n_in, 0.0f, logits, HEAD_PIECE);
        for (int r = 0; r < rows; r++) {
            const float *row = logits + (size_t)r * HEAD_PIECE;
            struct part *part = &a->part[(size_t)(r0 + r) * (size_t)a->parts + (size_t)p];
            float max = a->vec->max(row, cols);
            if (max > part->max) {
                part->sum *= exp((double)part->max - (double)max);
                part->max = max;
                for (int c = 0; c < cols; c++)
                    if (row[c] == max) {
                        part->best = c0 + c;
                        break;
                    }
            }
            if (a->targets) {
                part->sum += (double)a->vec->sum_exp(row, part->max, cols);
                int t = a->targets[r0 + r] - c0;
                if (t >= 0 && t < cols)
                    part->target = row[t];
            }
        }
    }
}

enum sw_status sw_cpu_head(struct sw_backend *be, const void *x, const void *w, int rows, int n_in,
                           int vocab, const int32_t *targets, float *nll, int32_t *argmax)
{
    CPU_NEED(rows >= 0 && n_in > 0 && vocab > 0);
    CPU_NEED(rows == 0 || (x && w && (targets || !nll)));
    if (!nll)
        targets = NULL;
    for (int r = 0; targets && r < rows; r++)
        if (targets[r] < 0 || targets[r] >= vocab)
            return SW_FAIL(SW_EINTERNAL, "head: target %d at row %d, vocabulary %d", targets[r], r,
                           vocab);
    if (rows == 0 || (!nll && !argmax))
        return SW_OK;
    struct head a = {.vec = cpu_of(be)->vec,
                     .x = x,
                     .w = w,
                     .targets = targets,
                     .rows = rows,
                     .n_in = n_in,
                     .vocab = vocab,
                     .parts = (vocab + HEAD_COLS - 1) / HEAD_COLS};
    size_t logits = (size_t)be->threads * HEAD_ROWS * HEAD_PIECE * sizeof(float);
    void *scratch;
    SW_TRY(sw_cpu_scratch(be, logits + (size_t)rows * (size_t)a.parts * sizeof *a.part, &scratch));
    a.logits = scratch;
    a.part = (struct part *)(void *)((char *)scratch + logits);
    sw_workers_run(cpu_of(be)->workers, ((long)rows + HEAD_ROWS - 1) / HEAD_ROWS * a.parts,
                   head_task, &a);
    for (int r = 0; r < rows; r++) {
        const struct part *part = a.part + (size_t)r * (size_t)a.parts;
        int best = 0;
        for (int p = 1; p < a.parts; p++)
            if (part[p].max > part[best].max)
                best = p;
        if (argmax)
            argmax[r] = part[best].best;
        if (nll) {
            double sum = 0;
            for (int p = 0; p < a.parts; p++)
                sum += part[p].sum * exp((double)part[p].max - (double)part[best].max);
            nll[r] = (float)(log(sum) + (double)part[best].max -
                             (double)part[targets[r] / HEAD_COLS].target);
        }
    }
    sw_cpu_scratch_done(be);
    return SW_OK;
}
