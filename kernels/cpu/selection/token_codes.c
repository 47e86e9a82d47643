/* token_codes.c: compact codes of key tokens, and a query's scores of tokens by them alone. A code
 * is a few words; scores read nothing else. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

enum {
    MOST_TRANSFORM = 1024, /* coordinates of a head, after zeros */
    TASK_TOKENS = 256
};

static bool codes_fit(const struct sw_token_codes *c, int n)
{
    bool all = !c->channels;
    return c->words && c->heads > 0 && c->head_dim > 0 && n > 0 && n <= c->ld &&
           (c->kind == SW_CODES_HADAMARD
                ? all && sw_code_transform(c->head_dim) <= MOST_TRANSFORM
                : c->n_channels > 0 && c->n_channels <= c->head_dim &&
                      c->n_channels <= MOST_TRANSFORM && (!all || c->n_channels == c->head_dim));
}

static uint32_t *words_of(const struct sw_token_codes *c, int head, int token)
{
    return c->words + ((size_t)head * (size_t)c->ld + (size_t)token) * (size_t)sw_code_words(c);
}

/* --- codes ------------------------------------------------------------------------------------ */

/* Butterflies in the order of the strides: CUDA has the same sums, so that codes are the same. */
static void hadamard(float *y, int p)
{
    for (int stride = 1; stride < p; stride *= 2)
        for (int i = 0; i < p; i += 2 * stride)
            for (int c = i; c < i + stride; c++) {
                float a = y[c], b = y[c + stride];
                y[c] = a + b;
                y[c + stride] = a - b;
            }
}

static void code_hadamard(const float *x, int d, uint32_t *words)
{
    int p = sw_code_transform(d);
    float y[MOST_TRANSFORM] = {0};
    memcpy(y, x, (size_t)d * sizeof *y);
    hadamard(y, p);
    memset(words, 0, (size_t)(p / 16) * sizeof *words);
    for (int c = 0; c < p; c++) {
        uint32_t code = (uint32_t)(y[c] > -10) + (uint32_t)(y[c] > 0) + (uint32_t)(y[c] > 10);
        words[c / 32] |= (code >> 1) << (c % 32);
        words[p / 32 + c / 32] |= (code & 1) << (c % 32);
    }
}

static void code_minmax(const float *x, const int32_t *channels, int count, uint32_t *words)
{
    float low = INFINITY, high = -INFINITY;
    for (int c = 0; c < count; c++) {
        float v = x[channels ? channels[c] : c];
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    float step = (high - low) / 15;
    int used = (count + 7) / 8;
    memset(words, 0, (size_t)used * sizeof *words);
    for (int c = 0; c < count && step > 0; c++) {
        float level = rintf((x[channels ? channels[c] : c] - low) / step);
        uint32_t code = level < 15 ? (uint32_t)level : 15;
        words[c / 8] |= code << (c % 8 * 4);
    }
    memcpy(words + used, &low, sizeof low);
    memcpy(words + used + 1, &step, sizeof step);
}

struct tokens {
    const struct sw_code_tokens *a;
    int tasks; /* a head */
};

static void tokens_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct tokens *p = ctx;
    const struct sw_code_tokens *a = p->a;
    const struct sw_token_codes *to = &a->to;
    int head = (int)(task / p->tasks), from = a->t0 + (int)(task % p->tasks) * TASK_TOKENS,
        end = from + TASK_TOKENS < a->t1 ? from + TASK_TOKENS : a->t1;
    const int32_t *channels =
        to->channels ? to->channels + (size_t)head * (size_t)to->n_channels : NULL;
    for (int t = from; t < end; t++) {
        const float *x =
            (const float *)a->x +
            ((size_t)(t - a->t0) * (size_t)to->heads + (size_t)head) * (size_t)to->head_dim;
        if (to->kind == SW_CODES_HADAMARD)
            code_hadamard(x, to->head_dim, words_of(to, head, t));
        else
            code_minmax(x, channels, to->n_channels, words_of(to, head, t));
    }
}

enum sw_status sw_cpu_code_tokens(struct sw_backend *be, const struct sw_code_tokens *a)
{
    CPU_NEED(a && a->x && a->t0 >= 0 && a->t1 > a->t0 && codes_fit(&a->to, a->t1));
    struct tokens p = {.a = a, .tasks = (a->t1 - a->t0 + TASK_TOKENS - 1) / TASK_TOKENS};
    sw_workers_run(cpu_of(be)->workers, (long)a->to.heads * p.tasks, tokens_task, &p);
    return SW_OK;
}

/* --- scores ----------------------------------------------------------------------------------- */

/* A code c is as many ones as c, of three: at least 1, 2, 3. Distances count where these differ. */
static int distance(const uint32_t *q, const uint32_t *k, int planes)
{
    int sum = 0;
    for (int w = 0; w < planes; w++) {
        uint32_t qh = q[w], ql = q[planes + w], kh = k[w], kl = k[planes + w];
        sum += __builtin_popcount((qh | ql) ^ (kh | kl)) + __builtin_popcount(qh ^ kh) +
               __builtin_popcount((qh & ql) ^ (kh & kl));
    }
    return sum;
}

/* <q, low + step · code> = low · Σ q + step · Σ q · code. q: of the channels, in their order. */
static float product(const float *q, float q_sum, const uint32_t *words, int count)
{
    float low, step, sum = 0;
    int used = (count + 7) / 8;
    memcpy(&low, words + used, sizeof low);
    memcpy(&step, words + used + 1, sizeof step);
    for (int c = 0; c < count; c++)
        sum += q[c] * (float)(words[c / 8] >> (c % 8 * 4) & 15);
    return low * q_sum + step * sum;
}

struct scores {
    const struct sw_code_scores *a;
    int tasks; /* a head */
};

static void scores_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct scores *p = ctx;
    const struct sw_code_scores *a = p->a;
    const struct sw_token_codes *c = &a->from;
    int head = (int)(task / p->tasks), from = (int)(task % p->tasks) * TASK_TOKENS,
        end = from + TASK_TOKENS < a->n ? from + TASK_TOKENS : a->n,
        kv = head / (a->n_heads / c->heads);
    const float *q = (const float *)a->q + (size_t)head * (size_t)c->head_dim;
    float *out = sw_unit_row(&a->out, (size_t)head, 0), mine[MOST_TRANSFORM], q_sum = 0;
    uint32_t code[MOST_TRANSFORM / 16];
    if (c->kind == SW_CODES_HADAMARD)
        code_hadamard(q, c->head_dim, code);
    for (int i = 0; c->kind == SW_CODES_MINMAX4 && i < c->n_channels; i++) {
        mine[i] = q[c->channels ? c->channels[kv * c->n_channels + i] : i];
        q_sum += mine[i];
    }
    for (int t = from; t < end; t++)
        out[t] =
            c->kind == SW_CODES_HADAMARD
                ? -(float)distance(code, words_of(c, kv, t), sw_code_transform(c->head_dim) / 32)
                : a->scale * product(mine, q_sum, words_of(c, kv, t), c->n_channels);
    if (a->last_is_best && end == a->n)
        out[a->n - 1] = INFINITY;
}

enum sw_status sw_cpu_code_scores(struct sw_backend *be, const struct sw_code_scores *a)
{
    CPU_NEED(a && a->q && codes_fit(&a->from, a->n) && a->n_heads > 0 &&
             a->n_heads % a->from.heads == 0 && a->out.units == a->n_heads &&
             sw_unit_holds(&a->out, 1, a->n));
    struct scores p = {.a = a, .tasks = (a->n + TASK_TOKENS - 1) / TASK_TOKENS};
    sw_workers_run(cpu_of(be)->workers, (long)a->n_heads * p.tasks, scores_task, &p);
    return SW_OK;
}
