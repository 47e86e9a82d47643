/* One method on tensors of your own: which key blocks does it choose, how many, and what does
 * attention over them give?
 * cmake -S examples/select -B build/select -DCMAKE_PREFIX_PATH=PREFIX && cmake --build build/select
 * && build/select/select [cpu|cuda] */
#include <stdio.h>
#include <stdlib.h>

#include "core/method.h"
#include "kernels/open.h"

enum { N = 4096, H = 8, HKV = 2, D = 64 }; /* tokens, query heads, KV heads, head_dim */

/* Stands for your tensor: [tokens, heads, D], float32, after RoPE. */
static enum sw_status load(struct sw_backend *be, int heads, void **out)
{
    size_t count = (size_t)N * (size_t)heads * D;
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; x && i < count; i++)
        x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    enum sw_status st = x ? be->alloc(be, count * sw_dtype_size(be->act), out)
                          : SW_FAIL(SW_ENOMEM, "out of memory");
    if (st == SW_OK)
        st = be->upload_act(be, *out, x, SW_F32, count);
    free(x);
    return st;
}

static enum sw_status run(struct sw_backend *be, const struct sw_method *method, void *params)
{
    const struct sw_shape shape = {.n_layers = 1, .n_heads = H, .n_kv_heads = HKV, .head_dim = D};
    void *q, *k, *v, *out;
    struct sw_sequence *seq;
    struct sw_selection selection = {0}, host = {0};
    SW_TRY(load(be, H, &q));
    SW_TRY(load(be, HKV, &k));
    SW_TRY(load(be, HKV, &v));
    SW_TRY(be->alloc(be, (size_t)N * H * D * sw_dtype_size(be->act), &out));
    SW_TRY(sw_param_defaults(method->params, params));
    SW_TRY(sw_sequence_begin(&seq, method, params, be, &shape, N, 0.2, SW_BUDGET_MATCHED, 1, 0));
    SW_TRY(sw_sequence_prefill(
        seq, &(struct sw_layer_input){.layer = 0, .n = N, .n_q = N, .q = q, .k = k, .v = v},
        &selection));
    SW_TRY(be->attend(be, &(struct sw_attend){.batch = 1,
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
                                              .scale = seq->scale,
                                              .sel = &selection}));
    SW_TRY(sw_selection_to_host(&selection, &host));
    printf("%s on %s: %d query blocks, density %.4f\n", method->name, be->name, host.rows,
           sw_selection_density(&host));
    sw_selection_free(&selection);
    sw_selection_free(&host);
    sw_sequence_end(seq);
    void *tensors[] = {q, k, v, out};
    for (int i = 0; i < 4; i++)
        be->free(be, tensors[i]);
    return SW_OK;
}

int main(int argc, char **argv)
{
    struct sw_backend *be;
    const struct sw_method *method = sw_method_find("sketchwalk");
    void *params = method ? calloc(1, method->params_size) : NULL;
    enum sw_status st = params ? sw_backend_open(argc > 1 ? argv[1] : "cpu", 0, &be)
                               : SW_FAIL(SW_EINPUT, "no such method");
    if (st == SW_OK) {
        st = run(be, method, params);
        sw_param_free(method->params, params);
        sw_backend_close(be);
    }
    free(params);
    if (st != SW_OK)
        fprintf(stderr, "%s (%s)\n", sw_error_message(), sw_error_place());
    return st == SW_OK ? 0 : 1;
}
