/* bench_hopper.cu: checks the Hopper attention kernel against a plain fp32 one, and times it. Needs
 * a Hopper GPU (exit 77 without one), no PyTorch.
 *
 *   bench_hopper check                     small shapes, every path, whole outputs
 *   bench_hopper check-small               the same, fewer and smaller: for compute-sanitizer
 *   bench_hopper time [n …]                H = 32, Hkv = 8, density 0.2 and 1, causal
 *   bench_hopper time-64 [n …]             H = 64, Hkv = 16, head_dim 64, and blocks of 128, by
 *   turns with head_dim 128 at the same operations
 *   bench_hopper time-all [n …]            also blocks of 128, lists per group and per head,
 *   head_dim 64, odd groups
 *
 * Tolerance: error at most twice that of a naive bf16 implementation (scores, probabilities and
 * output each rounded to bf16), both against fp32. Outputs are poisoned with NaN before each call,
 * as are the K and V rows past n_k, and a guard behind the output must survive. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "bench/hopper.cuh"
#include "kernels/cuda/attention/attend_hopper.h"

static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

__global__ void fill_normal(__nv_bfloat16 *x, int64_t count, uint64_t seed, float sigma)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * blockDim.x) {
        uint64_t h = (seed + i) * 0x9E3779B97F4A7C15ull;
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ull;
        h = (h ^ (h >> 27)) * 0x94D049BB133111EBull;
        h ^= h >> 31;
        float u = ((uint32_t)h + 1.f) * 2.3283064e-10f, v = (uint32_t)(h >> 32) * 2.3283064e-10f;
        x[i] = __float2bfloat16(sigma * sqrtf(-2.f * logf(fminf(u, 1.f))) * cospif(2.f * v));
    }
}

static __nv_bfloat16 *make(int64_t count, uint64_t seed, float sigma)
{
    __nv_bfloat16 *x;
    CUDA(cudaMalloc(&x, count * 2));
    fill_normal<<<1024, 256>>>(x, count, seed, sigma);
    CUDA(cudaGetLastError());
    return x;
}

/* One (query, head) a CTA: exact softmax attention in fp32, and the naive bf16 one. rows: which
 * queries. */
__global__ void reference(sw_attend a, const int32_t *indptr, const int32_t *indices, int block,
                          int units, int sel_rows, const int *queries, float *exact, float *naive)
{
    extern __shared__ float p[];
    __shared__ float red[2][32];
    int d = a.head_dim, t = queries[blockIdx.x], h = blockIdx.y,
        hk = h / (a.n_heads / a.n_kv_heads), pos = a.n_k - a.n_q + t;
    const __nv_bfloat16 *q = (const __nv_bfloat16 *)a.q + ((int64_t)t * a.n_heads + h) * d;
    const __nv_bfloat16 *k = (const __nv_bfloat16 *)a.k + (int64_t)hk * d,
                        *v = (const __nv_bfloat16 *)a.v + (int64_t)hk * d;
    int64_t step = (int64_t)a.n_kv_heads * d;
    int u = units == 1 ? 0 : units == a.n_kv_heads ? hk : h;
    int begin = 0, count = pos + 1;
    if (indptr) {
        begin = indptr[u * sel_rows + t / block];
        count = (indptr[u * sel_rows + t / block + 1] - begin) * block;
    }
    float best[2] = {-INFINITY, -INFINITY};
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        int key = indptr ? indices[begin + i / block] * block + i % block : i;
        float s = -INFINITY;
        if (key <= pos) {
            s = 0.f;
            for (int c = 0; c < d; c++)
                s += __bfloat162float(q[c]) * __bfloat162float(k[key * step + c]);
            s *= a.scale;
        }
        p[i] = s;
        best[0] = fmaxf(best[0], s);
        best[1] = fmaxf(best[1], __bfloat162float(__float2bfloat16(s)));
    }
    for (int j = 0; j < 2; j++) {
        for (int o = 16; o; o >>= 1)
            best[j] = fmaxf(best[j], __shfl_xor_sync(~0u, best[j], o));
        if (threadIdx.x % 32 == 0)
            red[j][threadIdx.x / 32] = best[j];
    }
    __syncthreads();
    for (int j = 0; j < 2; j++)
        for (int w = 0; w < (int)blockDim.x / 32; w++)
            best[j] = fmaxf(best[j], red[j][w]);
    __syncthreads();
    float sum[2] = {0.f, 0.f};
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        sum[0] += expf(p[i] - best[0]);
        sum[1] += expf(__bfloat162float(__float2bfloat16(p[i])) - best[1]);
    }
    for (int j = 0; j < 2; j++) {
        for (int o = 16; o; o >>= 1)
            sum[j] += __shfl_xor_sync(~0u, sum[j], o);
        if (threadIdx.x % 32 == 0)
            red[j][threadIdx.x / 32] = sum[j];
    }
    __syncthreads();
    for (int j = 0; j < 2; j++) {
        sum[j] = 0.f;
        for (int w = 0; w < (int)blockDim.x / 32; w++)
            sum[j] += red[j][w];
    }
    int c = threadIdx.x;
    if (c >= d)
        return;
    float o0 = 0.f, o1 = 0.f;
    for (int i = 0; i < count; i++) {
        int key = indptr ? indices[begin + i / block] * block + i % block : i;
        if (key > pos)
            continue;
        float x = __bfloat162float(v[key * step + c]);
        o0 += expf(p[i] - best[0]) * x;
        o1 += __bfloat162float(__float2bfloat16(
                  expf(__bfloat162float(__float2bfloat16(p[i])) - best[1]) / sum[1])) *
              x;
    }
    int64_t at = ((int64_t)blockIdx.x * a.n_heads + h) * d + c;
    exact[at] = o0 / sum[0];
    naive[at] = __bfloat162float(__float2bfloat16(o1));
}

struct lists {
    std::vector<int32_t> indptr, indices;
    double pairs = 0; /* kept token pairs, mean over units */
};

/* Random lists: about `density` of the causal blocks, the diagonal always; density >= 1: all; < 0:
 * the diagonal and the block before. */
static lists random_lists(int n_q, int n_k, int block, int units, double density, uint64_t seed)
{
    lists l;
    int b0 = (n_k - n_q) / block, b1 = sw_blocks(n_k, block);
    l.indptr.push_back(0);
    for (int u = 0; u < units; u++)
        for (int i = b0; i < b1; i++) {
            int keep = density < 0 ? std::min(1, i) : (int)floor(density * i + 0.5);
            std::vector<int32_t> row;
            if (keep >= i || density < 0)
                for (int j = i - keep; j < i; j++)
                    row.push_back(j);
            else /* selection sampling */
                for (int j = 0, left = keep; j < i && left > 0; j++)
                    if (mix(seed ^ ((uint64_t)u << 50) ^ ((uint64_t)i << 25) ^ j) %
                            (uint64_t)(i - j) <
                        (uint64_t)left) {
                        row.push_back(j);
                        left--;
                    }
            row.push_back(i);
            double queries = std::min(block, n_k - i * block);
            l.pairs +=
                ((double)(row.size() - 1) * block * queries + queries * (queries + 1) / 2) / units;
            l.indices.insert(l.indices.end(), row.begin(), row.end());
            l.indptr.push_back((int32_t)l.indices.size());
        }
    return l;
}

struct shape {
    int n_q, n_k, H, Hkv, d, block, units;
    double density;
    float sigma;
    int kv_extra;
};

static double dense_pairs(double n_q, double n_k)
{
    return n_q * (n_k - n_q) + n_q * (n_q + 1) / 2;
}

struct problem {
    sw_attend a;
    sw_selection sel;
    lists l;
    int64_t out_count;
    double pairs;
};

enum { GUARD = 4096 };

static problem set_up(const shape &s, uint64_t seed)
{
    problem p;
    memset(&p.a, 0, sizeof p.a);
    memset(&p.sel, 0, sizeof p.sel);
    int64_t stride = s.n_k + s.kv_extra, used = (int64_t)s.n_k * s.Hkv * s.d,
            all = stride * s.Hkv * s.d;
    p.out_count = (int64_t)s.n_q * s.H * s.d;
    p.a.batch = 1, p.a.n_q = s.n_q, p.a.n_k = s.n_k, p.a.n_heads = s.H, p.a.n_kv_heads = s.Hkv,
    p.a.head_dim = s.d;
    p.a.kv_stride = stride;
    p.a.q = make(p.out_count, seed, s.sigma);
    __nv_bfloat16 *k = make(all, seed + (1ull << 40), s.sigma),
                  *v = make(all, seed + (2ull << 40), 1.f), *out;
    if (all > used) {
        CUDA(cudaMemset(k + used, 0xFF, (all - used) * 2));
        CUDA(cudaMemset(v + used, 0xFF, (all - used) * 2));
    }
    CUDA(cudaMalloc(&out, (p.out_count + GUARD) * 2));
    p.a.k = k, p.a.v = v, p.a.out = out;
    p.a.scale = 1.f / sqrtf((float)s.d);
    p.pairs = dense_pairs(s.n_q, s.n_k);
    if (s.block) {
        p.l = random_lists(s.n_q, s.n_k, s.block, s.units, s.density, seed);
        p.pairs = p.l.pairs;
        p.sel.block = s.block, p.sel.n = s.n_k, p.sel.units = s.units, p.sel.n_q = s.n_q;
        p.sel.row0 = (s.n_k - s.n_q) / s.block;
        p.sel.rows = ((int)p.l.indptr.size() - 1) / s.units;
        p.sel.capacity = (int64_t)p.l.indices.size(),
        p.sel.rows_capacity = (int64_t)p.l.indptr.size() - 1;
        CUDA(cudaMalloc(&p.sel.indptr, p.l.indptr.size() * 4));
        CUDA(cudaMalloc(&p.sel.indices, p.l.indices.size() * 4));
        CUDA(cudaMemcpy(p.sel.indptr, p.l.indptr.data(), p.l.indptr.size() * 4,
                        cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(p.sel.indices, p.l.indices.data(), p.l.indices.size() * 4,
                        cudaMemcpyHostToDevice));
    }
    return p;
}

static void attend(problem &p)
{
    p.a.sel = p.sel.block ? &p.sel : NULL;
    if (sw_hopper_attend(&p.a, 0) != SW_OK) {
        printf("failed: %s\n", sw_error_message());
        exit(1);
    }
}

static void tear_down(problem &p)
{
    cudaFree((void *)p.a.q), cudaFree((void *)p.a.k), cudaFree((void *)p.a.v), cudaFree(p.a.out);
    cudaFree(p.sel.indptr), cudaFree(p.sel.indices);
}

/* samples: queries checked (0: all). */
static int check(const shape &s, int samples)
{
    problem p = set_up(s, 1 + s.n_q * 31 + s.H * 7 + s.d);
    CUDA(cudaMemset(p.a.out, 0xFF, (p.out_count + GUARD) * 2));
    attend(p);
    CUDA(cudaDeviceSynchronize());
    std::vector<uint16_t> got(p.out_count + GUARD), again;
    CUDA(cudaMemcpy(got.data(), p.a.out, got.size() * 2, cudaMemcpyDeviceToHost));
    CUDA(cudaMemset(p.a.out, 0xFF, (p.out_count + GUARD) * 2));
    attend(p);
    again.resize(got.size());
    CUDA(cudaMemcpy(again.data(), p.a.out, got.size() * 2, cudaMemcpyDeviceToHost));
    bool same = memcmp(got.data(), again.data(), got.size() * 2) == 0, guard = true;
    for (int64_t i = p.out_count; i < (int64_t)got.size(); i++)
        guard = guard && got[i] == 0xFFFF;

    std::vector<int> queries;
    if (samples == 0 || samples >= s.n_q)
        for (int i = 0; i < s.n_q; i++)
            queries.push_back(i);
    else {
        queries.push_back(0);
        for (int i = 1; i < samples; i++)
            queries.push_back(i == 1 ? s.n_q - 1 : (int)(mix(i) % (uint64_t)s.n_q));
    }
    int *dq;
    float *exact, *naive;
    int64_t count = (int64_t)queries.size() * s.H * s.d;
    CUDA(cudaMalloc(&dq, queries.size() * 4));
    CUDA(cudaMemcpy(dq, queries.data(), queries.size() * 4, cudaMemcpyHostToDevice));
    CUDA(cudaMalloc(&exact, count * 4));
    CUDA(cudaMalloc(&naive, count * 4));
    size_t longest = s.n_k;
    if (s.block) {
        longest = 0;
        for (size_t r = 0; r + 1 < p.l.indptr.size(); r++)
            longest = std::max(longest, (size_t)(p.l.indptr[r + 1] - p.l.indptr[r]) * s.block);
    }
    CUDA(cudaFuncSetAttribute(reference, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 * 1024));
    reference<<<dim3((unsigned)queries.size(), s.H), 128, longest * 4>>>(
        p.a, s.block ? p.sel.indptr : NULL, p.sel.indices, s.block ? s.block : 1, s.units,
        p.sel.rows, dq, exact, naive);
    CUDA(cudaGetLastError());
    std::vector<float> he(count), hn(count);
    CUDA(cudaMemcpy(he.data(), exact, count * 4, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(hn.data(), naive, count * 4, cudaMemcpyDeviceToHost));
    double norm = 0, e_ours = 0, e_naive = 0, m_ours = 0, m_naive = 0;
    bool nan = false;
    int64_t row = (int64_t)s.H * s.d;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)got[queries[i / row] * row + i % row] << 16;
        float x;
        memcpy(&x, &bits, 4);
        nan = nan || x != x;
        double a = fabs((double)x - he[i]), b = fabs((double)hn[i] - he[i]);
        norm += (double)he[i] * he[i], e_ours += a * a, e_naive += b * b;
        m_ours = std::max(m_ours, a), m_naive = std::max(m_naive, b);
    }
    bool ok = same && guard && !nan && e_ours <= 4 * e_naive && m_ours <= 2 * m_naive;
    printf("%s n_q %6d n_k %6d H %2d/%-2d d %3d B %3d units %2d rho %5.2f sigma %.0f  error %.2e "
           "(naive bf16 %.2e)  max %.1e (%.1e)%s%s%s\n",
           ok ? "ok  " : "FAIL", s.n_q, s.n_k, s.H, s.Hkv, s.d, s.block, s.block ? s.units : 0,
           s.block ? s.density : 1.0, s.sigma, sqrt(e_ours / norm), sqrt(e_naive / norm), m_ours,
           m_naive, same ? "" : "  DIFFERS FROM RUN TO RUN", guard ? "" : "  WROTE PAST THE END",
           nan ? "  NaN" : "");
    fflush(stdout);
    tear_down(p);
    cudaFree(dq), cudaFree(exact), cudaFree(naive);
    return !ok;
}

static int check_all(bool small)
{
    int bad = 0;
    std::vector<shape> shapes;
    int lengths[] = {1, 63, 64, 65, 127, 128, 129, 200, 447, 1000, 1111, 2048};
    int heads[][2] = {{8, 2}, {4, 4}, {6, 2}, {7, 1}, {4, 2}, {8, 1}};
    for (int d = 64; d <= 128; d += 64)
        for (int n : lengths) {
            if (small && n != 65 && n != 447)
                continue;
            for (auto &g : heads) {
                bool main = g[0] == 8 && g[1] == 2;
                if (!main && n != 65 && n != 447 && n != 1111)
                    continue;
                if (small && n == 447 && !main && g[0] != 6)
                    continue;
                int H = g[0], K = g[1];
                shapes.push_back({n, n, H, K, d, 0, 1, 1, 1, 0});
                shapes.push_back({n, n, H, K, d, 64, 1, 0.3, 1, 37});
                shapes.push_back({n, n, H, K, d, 64, K, 0.5, 3, 5});
                shapes.push_back({n, n, H, K, d, 64, H, 0.5, 1, 0});
                shapes.push_back({n, n, H, K, d, 128, 1, 0.4, 2, 0});
                shapes.push_back({n, n, H, K, d, 128, H, 0.4, 1, 19});
                shapes.push_back({n, n, H, K, d, 64, 1, -1, 1, 0});
            }
            if (n > 256) { /* later chunk of a prompt */
                shapes.push_back({n - 128, n, 8, 2, d, 64, 1, 0.5, 1, 9});
                shapes.push_back({n - 128, n, 6, 2, d, 128, 1, 0.5, 1, 0});
                shapes.push_back({n - 192, n, 7, 1, d, 0, 1, 1, 1, 0});
                shapes.push_back({n - 256, n, 4, 4, d, 0, 1, 1, 1, 0});
            }
        }
    if (!small) {
        shapes.push_back({4096, 4096, 32, 8, 128, 64, 1, 0.2, 1, 0});
        shapes.push_back({8191, 8191, 8, 2, 128, 64, 1, 0.2, 4, 3});
        shapes.push_back({32768, 32768, 32, 8, 128, 64, 1, 0.2, 1, 0});
        shapes.push_back({32700, 32700, 8, 2, 128, 0, 1, 1, 1, 0});
        shapes.push_back({32700, 32700, 8, 2, 64, 64, 2, 0.1, 1, 0});
    }
    for (const shape &s : shapes)
        bad += check(s, s.n_q > 3000 ? 100 : 0);
    /* What must be refused. */
    problem p = set_up({256, 256, 4, 2, 128, 64, 1, 0.5, 1, 0}, 3);
    p.a.sel = &p.sel;
    p.sel.block = 32;
    bad += sw_hopper_attend_supports(&p.a);
    p.sel.block = 64, p.sel.whole = (uint8_t *)p.sel.indices;
    bad += sw_hopper_attend_supports(&p.a);
    p.sel.whole = NULL, p.a.head_dim = 96;
    bad += sw_hopper_attend_supports(&p.a);
    p.a.head_dim = 128, p.a.n_k = 257, p.a.kv_stride = 257;
    bad += sw_hopper_attend_supports(&p.a);
    tear_down(p);
    printf("%zu shapes, %d bad\n", shapes.size(), bad);
    return bad;
}

/* Medians of calls that take turns, so that heat is shared; each shape's rate as a share of the
 * last one's. */
static void time_by_turns(const std::vector<shape> &shapes, double seconds)
{
    std::vector<problem> problems;
    for (const shape &s : shapes)
        problems.push_back(set_up(s, 5));
    std::vector<std::vector<float>> ms(shapes.size());
    cudaEvent_t e0, e1;
    CUDA(cudaEventCreate(&e0));
    CUDA(cudaEventCreate(&e1));
    double spent = 0;
    for (int i = 0; i < 3 || (spent < seconds * 1e3 && i < 200); i++)
        for (size_t j = 0; j < shapes.size(); j++) {
            CUDA(cudaEventRecord(e0));
            attend(problems[j]);
            CUDA(cudaEventRecord(e1));
            CUDA(cudaEventSynchronize(e1));
            float x;
            CUDA(cudaEventElapsedTime(&x, e0, e1));
            spent += x;
            if (i > 0)
                ms[j].push_back(x);
        }
    std::vector<double> rate;
    for (size_t j = 0; j < shapes.size(); j++) {
        std::sort(ms[j].begin(), ms[j].end());
        rate.push_back(4.0 * shapes[j].d * shapes[j].H * problems[j].pairs /
                       ms[j][ms[j].size() / 2] * 1e-9);
    }
    for (size_t j = 0; j < shapes.size(); j++) {
        const shape &s = shapes[j];
        printf("n %6d d %3d H %2d/%-2d B %3d units %2d density %.3f  %9.4f ms (best %9.4f)  %6.1f "
               "TFLOP/s",
               s.n_k, s.d, s.H, s.Hkv, s.block, s.units,
               problems[j].pairs / dense_pairs(s.n_q, s.n_k), ms[j][ms[j].size() / 2], ms[j][0],
               rate[j]);
        printf(shapes.size() > 1 ? "  %.2f\n" : "\n", rate[j] / rate.back());
        tear_down(problems[j]);
    }
    fflush(stdout);
}

static void time_one(const shape &s, double seconds) { time_by_turns({s}, seconds); }

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "check";
    need_hopper();
    if (!strncmp(what, "check", 5))
        return check_all(!strcmp(what, "check-small")) != 0;
    std::vector<int> lengths;
    for (int i = 2; i < argc; i++)
        lengths.push_back(atoi(argv[i]));
    if (lengths.empty())
        lengths = {8192, 32768, 131072};
    bool one = !strcmp(what, "one"); /* one shape, for a profiler */
    for (int n : lengths) {
        if (!strcmp(what, "time-64")) {
            time_by_turns({{n, n, 64, 16, 64, 64, 1, 0.2, 1, 0},
                           {n, n, 32, 8, 128, 128, 1, 0.2, 1, 0},
                           {n, n, 32, 8, 128, 64, 1, 0.2, 1, 0}},
                          0.5);
            time_by_turns({{n, n, 64, 16, 64, 0, 1, 1, 1, 0}, {n, n, 32, 8, 128, 0, 1, 1, 1, 0}},
                          0.5);
            continue;
        }
        time_one({n, n, 32, 8, 128, 64, 1, 0.2, 1, 0}, 0.3);
        if (one)
            continue;
        if (n < 100000)
            time_one({n, n, 32, 8, 128, 0, 1, 1, 1, 0}, 0.3);
        if (!strcmp(what, "time-all")) {
            time_one({n, n, 32, 8, 128, 128, 1, 0.2, 1, 0}, 0.3);
            time_one({n, n, 32, 8, 128, 64, 8, 0.2, 1, 0}, 0.3);
            time_one({n, n, 32, 8, 128, 64, 32, 0.2, 1, 0}, 0.3);
            time_one({n, n, 32, 8, 128, 128, 32, 0.2, 1, 0}, 0.3);
            time_one({n, n, 64, 16, 64, 64, 1, 0.2, 1, 0}, 0.3);
            time_one({n, n, 28, 4, 128, 64, 1, 0.2, 1, 0}, 0.3);
            if (n < 100000)
                time_one({n, n, 64, 16, 64, 0, 1, 1, 1, 0}, 0.3);
        }
    }
    return 0;
}
