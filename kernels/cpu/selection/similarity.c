/* similarity.c: how alike a block's tokens are (SpargeAttn): the mean cosine over all pairs is the
 * squared length of the mean unit vector, so that no matrix of pairs is needed. 4·d FLOPs a token;
 * each is read once. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/device/cpu.h"

static void similarity_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sw_similarity *a = ctx;
    int blocks = sw_blocks(a->n, a->block), head = (int)(task / blocks), i = (int)(task % blocks),
        d = a->head_dim;
    int from = i * a->block, to = from + a->block < a->n ? from + a->block : a->n;
    const float *shift = a->shift ? a->shift + (size_t)head * (size_t)d : NULL;
    double sum[SW_MAX_HEAD_DIM] = {0}, squared = 0;
    float x[SW_MAX_HEAD_DIM];
    for (int t = from; t < to; t++) {
        memcpy(x, (const float *)a->x + ((size_t)t * (size_t)a->heads + (size_t)head) * (size_t)d,
               (size_t)d * sizeof *x);
        double norm = 0;
        for (int c = 0; c < d; c++) {
            x[c] -= shift ? shift[c] : 0.0f;
            norm += (double)x[c] * (double)x[c];
        }
        if (norm == 0)
            continue;
        double scale = 1.0 / sqrt(norm);
        for (int c = 0; c < d; c++)
            sum[c] += scale * (double)x[c];
    }
    for (int c = 0; c < d; c++)
        squared += sum[c] * sum[c];
    a->out[(size_t)head * (size_t)a->ld + (size_t)i] =
        (float)(squared / ((double)(to - from) * (double)(to - from)));
}

enum sw_status sw_cpu_similarity(struct sw_backend *be, const struct sw_similarity *a)
{
    CPU_NEED(a && a->x && a->out && a->heads > 0 && a->head_dim > 0 && a->n > 0 && a->block > 0 &&
             a->ld >= sw_blocks(a->n, a->block));
    if (a->head_dim > SW_MAX_HEAD_DIM)
        return SW_FAIL(SW_EUNSUPPORTED, "similarity: head_dim %d; the cpu backend goes up to %d",
                       a->head_dim, SW_MAX_HEAD_DIM);
    struct sw_similarity copy = *a;
    sw_workers_run(cpu_of(be)->workers, (long)a->heads * sw_blocks(a->n, a->block), similarity_task,
                   &copy);
    return SW_OK;
}
