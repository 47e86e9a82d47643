/* Dense causal attention by cuDNN: the baseline that most users would otherwise run. Host code
 * only; without SWBENCH_CUDNN it is empty.
 *
 * The graph is built by cudnn-frontend (header-only), once a shape, and kept. libcudnn itself is
 * opened at run time, so that the module loads where it is missing. */
#ifdef SWBENCH_CUDNN
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cstring> /* cudnn-frontend 1.32 needs it and does not include it */

#include <cudnn_frontend.h>

#include <dlfcn.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/attention/attend_cudnn.h"

namespace fe = cudnn_frontend;

namespace cudnn_frontend
{
void *cudnn_dlhandle = nullptr;
}

namespace
{

enum tensor_id : int64_t { ID_Q = 1, ID_K, ID_V, ID_O };

struct plan {
    int batch, n, heads, kv_heads, d;
    int64_t kv_stride;
    float scale;
    std::shared_ptr<fe::graph::Graph> graph; /* null: the library does not take this shape */
    int64_t workspace;
};

struct library {
    cudnnHandle_t handle = nullptr;
    std::vector<plan> plans;
};

bool open_library()
{
    static bool tried;
    if (!tried) {
        tried = true;
        for (const char *name : {"libcudnn.so.9", "libcudnn.so"})
            if (!fe::cudnn_dlhandle)
                fe::cudnn_dlhandle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    return fe::cudnn_dlhandle != nullptr;
}

std::shared_ptr<fe::graph::Tensor_attributes> tensor(fe::graph::Graph &g, const char *name,
                                                     tensor_id id, int batch, int heads, int n,
                                                     int d, int64_t seq_stride)
{
    return g.tensor(fe::graph::Tensor_attributes()
                        .set_name(name)
                        .set_uid(id)
                        .set_dim({batch, heads, n, d})
                        .set_stride({seq_stride * heads * d, d, (int64_t)heads * d, 1}));
}

/* Leaves p.graph null when cuDNN says no. */
void build(cudnnHandle_t handle, plan &p)
{
    auto g = std::make_shared<fe::graph::Graph>();
    g->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    auto q = tensor(*g, "q", ID_Q, p.batch, p.heads, p.n, p.d, p.n);
    auto k = tensor(*g, "k", ID_K, p.batch, p.kv_heads, p.n, p.d, p.kv_stride);
    auto v = tensor(*g, "v", ID_V, p.batch, p.kv_heads, p.n, p.d, p.kv_stride);
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(false)
                       .set_causal_mask(true)
                       .set_attn_scale(p.scale);
    auto out = g->sdpa(q, k, v, options)[0];
    out->set_output(true)
        .set_uid(ID_O)
        .set_dim({p.batch, p.heads, p.n, p.d})
        .set_stride({(int64_t)p.n * p.heads * p.d, p.d, (int64_t)p.heads * p.d, 1});
    if (!g->build(handle, {fe::HeurMode_t::A}).is_good())
        return;
    if (!g->get_workspace_size(p.workspace).is_good())
        return;
    p.graph = g;
}

} // namespace

enum sw_status sw_cudnn_attend(struct cuda_state *s, const struct sw_attend *a, bool *done)
{
    *done = false;
    if (a->sel || a->n_q != a->n_k || !open_library())
        return SW_OK;
    try {
        auto *lib = static_cast<library *>(s->dense);
        cudaStream_t stream = queue_on(s); /* the handle keeps it; each call is to be counted */
        if (!lib) {
            lib = new library;
            s->dense = lib;
            if (fe::detail::create_handle(&lib->handle) != CUDNN_STATUS_SUCCESS ||
                fe::detail::set_stream(lib->handle, stream) != CUDNN_STATUS_SUCCESS)
                lib->handle = nullptr;
        }
        if (!lib->handle)
            return SW_OK;
        plan *found = nullptr;
        for (plan &p : lib->plans)
            if (p.batch == a->batch && p.n == a->n_k && p.heads == a->n_heads &&
                p.kv_heads == a->n_kv_heads && p.d == a->head_dim && p.kv_stride == a->kv_stride &&
                p.scale == a->scale)
                found = &p;
        if (!found) {
            if (lib->plans.size() >= 64)
                lib->plans.clear();
            lib->plans.push_back({a->batch, a->n_k, a->n_heads, a->n_kv_heads, a->head_dim,
                                  a->kv_stride, a->scale, nullptr, 0});
            found = &lib->plans.back();
            build(lib->handle, *found);
        }
        if (!found->graph)
            return SW_OK;
        void *workspace = nullptr;
        if (found->workspace > 0)
            SW_TRY(sw_cuda_scratch(s, SCRATCH_ATTEND, (size_t)found->workspace, &workspace));
        std::unordered_map<int64_t, void *> pack = {{ID_Q, const_cast<void *>(a->q)},
                                                    {ID_K, const_cast<void *>(a->k)},
                                                    {ID_V, const_cast<void *>(a->v)},
                                                    {ID_O, a->out}};
        auto status = found->graph->execute(lib->handle, pack, workspace);
        if (!status.is_good()) {
            LAUNCHED(s, "cuDNN attention");
            return SW_FAIL(SW_EDEVICE, "cuDNN attention: %s", status.get_message().c_str());
        }
        LAUNCHED(s, "cuDNN attention");
        *done = true;
    } catch (const std::exception &e) {
        return SW_FAIL(SW_EINTERNAL, "cuDNN attention: %s", e.what());
    }
    return SW_OK;
}

void sw_cudnn_close(struct cuda_state *s)
{
    auto *lib = static_cast<library *>(s->dense);
    if (!lib)
        return;
    lib->plans.clear();
    if (lib->handle)
        (void)fe::detail::destroy_handle(lib->handle);
    delete lib;
    s->dense = nullptr;
}

void sw_cudnn_version(char *text, size_t size)
{
    text[0] = '\0';
    if (!open_library())
        return;
    size_t v = fe::detail::get_backend_version();
    snprintf(text, size, "cuDNN %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}
#endif
