/* Which attention kernel takes a call. Lists without their own block, or of single keys: the
 * portable kernel, which masks by what is in the list; the others count on the diagonal as the
 * list's last block. One query: decode. Else on Hopper the wgmma kernel where it supports the case
 * (it is faster than cuDNN at every length measured, NOTES.md); else, dense, cuDNN where there is
 * one; else the portable tensor-core kernel. A call may ask for the library (cuDNN) or for our own
 * kernel; SWBENCH_ATTEND=portable leaves only the last, for tests. */
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/attention/attend.h"
#ifdef SWBENCH_HOPPER
#include "kernels/cuda/attention/attend_hopper.h"
#endif
#ifdef SWBENCH_CUDNN
#include "kernels/cuda/attention/attend_cudnn.h"
#endif

enum sw_status sw_cuda_attend_args(struct cuda_state *s, const struct sw_attend *a,
                                   attend_args *out)
{
    const char *what = "attend";
    REQUIRE(a->batch >= 1 && a->n_q >= 1 && a->n_q <= a->n_k && a->kv_stride >= a->n_k, what);
    REQUIRE(a->n_kv_heads >= 1 && a->n_heads % a->n_kv_heads == 0, what);
    if (a->head_dim % 8 != 0 || a->head_dim > 256 || a->head_dim < 8)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "attention on cuda: head_dim %d; expected a multiple of 8 up to 256",
                       a->head_dim);
    (void)s;
    attend_args r = {};
    r.q = static_cast<const bf16 *>(a->q);
    r.k = static_cast<const bf16 *>(a->k);
    r.v = static_cast<const bf16 *>(a->v);
    r.out = static_cast<bf16 *>(a->out);
    r.batch = a->batch;
    r.n_q = a->n_q;
    r.n_k = a->n_k;
    r.H = a->n_heads;
    r.Hkv = a->n_kv_heads;
    r.G = a->n_heads / a->n_kv_heads;
    r.d = a->head_dim;
    r.kv_stride = a->kv_stride;
    r.scale_log2 = a->scale * 1.4426950408889634f;
    r.block_log2 = 6;
    const struct sw_selection *sel = a->sel;
    if (sel) {
        int B = sel->block;
        if (B < 16 || (B & (B - 1)) != 0)
            return SW_FAIL(SW_EUNSUPPORTED,
                           "attention on cuda: block %d; expected a power of two of at least 16",
                           B);
        REQUIRE(sel->backend == &s->be && sel->n == a->n_k && sel->n_q == a->n_q, what);
        REQUIRE(sel->units % a->batch == 0, what);
        r.units_per_seq = sel->units / a->batch;
        REQUIRE(r.units_per_seq == 1 || r.units_per_seq == a->n_kv_heads ||
                    r.units_per_seq == a->n_heads,
                what);
        REQUIRE(a->n_q == 1 || (a->n_k - a->n_q) % B == 0, what);
        REQUIRE(sel->row0 == (a->n_k - a->n_q) / B && sel->rows == sw_blocks(a->n_k, B) - sel->row0,
                what);
        r.indptr = sel->indptr;
        r.indices = sel->indices;
        r.whole = sel->whole;
        r.rows = sel->rows;
        r.row0 = sel->row0;
        r.window = sel->window;
        r.sink = sel->sink;
        r.block_log2 = __builtin_ctz((unsigned)B);
        r.columns = sel->columns;
        r.slashes = sel->slashes;
        r.queries = sel->queries;
        r.keys = sel->keys;
        r.mask_ld = sel->mask_ld;
        r.query_words = (B + 63) / 64;
    }
    *out = r;
    return SW_OK;
}

enum route { DECODE, HOPPER, LIBRARY, PORTABLE };

static bool only_portable(void)
{
    const char *wish = getenv("SWBENCH_ATTEND");
    return wish && strcmp(wish, "portable") == 0;
}

const char *sw_cuda_prompt_kernels(const struct cuda_state *s)
{
    if (only_portable())
        return "portable";
#ifdef SWBENCH_HOPPER
    if (s->major == 9)
        return "hopper";
#endif
    (void)s;
    return "best";
}

/* A library that does not take the call, and was not asked for, leaves it to PORTABLE. */
static enum route route_of(const struct cuda_state *s, const struct sw_attend *a)
{
    (void)s; /* not asked in a build without Hopper's kernel */
    if (a->kernel == SW_ATTEND_LIBRARY)
        return LIBRARY;
    if (a->sel && (a->sel->free_diagonal || a->sel->keys))
        return PORTABLE;
    if (a->n_q == 1)
        return DECODE;
    if (only_portable())
        return PORTABLE;
#ifdef SWBENCH_HOPPER
    if (s->major == 9 && sw_hopper_attend_supports(a))
        return HOPPER;
#endif
#ifdef SWBENCH_CUDNN
    if (!a->sel && a->kernel == SW_ATTEND_BEST)
        return LIBRARY;
#endif
    return PORTABLE;
}

/* What attend.h and attend_hopper.h promise of the prompt kernels. */
static bool in_place(enum route route) { return route == HOPPER || route == PORTABLE; }

bool sw_cuda_attend_in_place(struct sw_backend *be, const struct sw_attend *a)
{
    return in_place(route_of(state_of(be), a));
}

enum sw_status sw_cuda_attend(struct sw_backend *be, const struct sw_attend *a)
{
    struct cuda_state *s = state_of(be);
    attend_args args;
    SW_TRY(sw_cuda_attend_args(s, a, &args));
    enum route route = route_of(s, a);
    REQUIRE(a->out != a->q || in_place(route), "attend");
    if (route == DECODE)
        /* the list may be read while walk_step still writes it, if nothing was queued since */
        return sw_cuda_decode(s, args,
                              a->sel && a->sel->launch && a->sel->launch == s->queue.count());
#ifdef SWBENCH_HOPPER
    if (route == HOPPER)
        return sw_hopper_attend(a, queue_on(s));
#endif
#ifdef SWBENCH_CUDNN
    bool done = false;
    if (route == LIBRARY && !a->sel)
        SW_TRY(sw_cudnn_attend(s, a, &done));
    if (done)
        return SW_OK;
#endif
    if (a->kernel == SW_ATTEND_LIBRARY)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "dense attention by a library: this build has no cuDNN, or it does not take "
                       "%d queries of %d keys",
                       a->n_q, a->n_k);
    return sw_cuda_prefill(s, args);
}
