/* Queries, keys and values from counters: the same bits on every machine. */
#include "core/model/synthetic.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/rng.h"

enum { TABLE = 1 << 16, RUN = 64, HOT = 3 };

/* Standard normals at 2^16 equally likely levels: four draws from one 64-bit counter hash. Exact
 * enough for attention tensors (largest level
 * 4.2 sigma) and 20 times faster than Box–Muller. */
static float normal_table[TABLE];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
    /* Inverse of the normal distribution function by Newton steps from the neighbour's value, both
     * tails by symmetry. */
    const int half = TABLE / 2;
    double x = 0;
    for (int i = 0; i < half; i++) {
        double p = (half + i + 0.5) / TABLE;
        for (int step = 0; step < 8; step++)
            x -= (0.5 * erfc(-x * M_SQRT1_2) - p) / (0.3989422804014327 * exp(-0.5 * x * x));
        normal_table[TABLE / 2 + i] = (float)x;
        normal_table[TABLE / 2 - 1 - i] = (float)-x;
    }
}

static void fill_normal(uint64_t stream, float *x, size_t count)
{
    for (size_t at = 0; at < count; at += 4) {
        uint64_t bits = sw_mix64(stream + at / 4);
        for (size_t c = 0; c < 4 && at + c < count; c++)
            x[at + c] = normal_table[(bits >> (16 * c)) & (TABLE - 1)];
    }
}

/* Streams of one seed: (layer, what, token or run). Mixed twice, so that neighbouring streams share
 * nothing. */
static uint64_t stream(uint64_t seed, int layer, int what, int index)
{
    return sw_mix64(sw_rng_u64(seed, SW_RNG_GAUSSIAN,
                               (uint64_t)layer << 40 | (uint64_t)what << 36 | (uint64_t)index))
           << 12;
}

enum { Q, K, V, TOPIC };

/* Adds `strength` times the unit topic direction of a run, per KV head, to a token's heads. */
static void add_topic(uint64_t seed, int layer, int run, float strength, int heads, int kv_heads,
                      int d, float *topic, float *token)
{
    for (int g = 0; g < kv_heads; g++) {
        fill_normal(stream(seed, layer, TOPIC, run * kv_heads + g), topic, (size_t)d);
        float norm = 0;
        for (int c = 0; c < d; c++)
            norm += topic[c] * topic[c];
        float scale = strength / sqrtf(norm);
        int per_group = heads / kv_heads;
        for (int h = g * per_group; h < (g + 1) * per_group; h++)
            for (int c = 0; c < d; c++)
                token[h * d + c] += scale * topic[c];
    }
}

enum sw_status sw_synthetic_layer(const struct sw_shape *shape, int planted, uint64_t seed,
                                  int layer, int n, float *q, float *k, float *v)
{
    pthread_once(&table_once, fill_table);
    int H = shape->n_heads, Hkv = shape->n_kv_heads, d = shape->head_dim;
    float *topic = malloc(sizeof *topic * (size_t)d);
    if (!topic)
        return SW_FAIL(SW_ENOMEM, "synthetic: asked %zu bytes of host memory",
                       sizeof *topic * (size_t)d);
    /* With keys k = e + a·topic and queries q = e' + a·Σ topic, |topic| = 1 and a² = 4 sqrt(d), a
     * matching key's logit is raised by 4: e^4 = 55
     * times the weight of an unrelated one. */
    float strength = planted ? sqrtf(4 * sqrtf((float)d)) : 0;
    for (int t = 0; t < n; t++) {
        float *qt = q + (size_t)t * (size_t)H * (size_t)d,
              *kt = k + (size_t)t * (size_t)Hkv * (size_t)d,
              *vt = v + (size_t)t * (size_t)Hkv * (size_t)d;
        fill_normal(stream(seed, layer, Q, t), qt, (size_t)H * (size_t)d);
        fill_normal(stream(seed, layer, K, t), kt, (size_t)Hkv * (size_t)d);
        fill_normal(stream(seed, layer, V, t), vt, (size_t)Hkv * (size_t)d);
        if (!planted)
            continue;
        int run = t / RUN;
        add_topic(seed, layer, run, strength, Hkv, Hkv, d, topic, kt);
        add_topic(seed, layer, run, 0.5f * strength, H, Hkv, d, topic, qt);
        add_topic(seed, layer, 0, 0.5f * strength, H, Hkv, d, topic, qt);
        for (int hot = 0; hot < HOT && run > 0; hot++) {
            uint64_t draw = sw_rng_u64(seed, SW_RNG_PLANTED,
                                       (uint64_t)layer << 40 | (uint64_t)run << 8 | (uint64_t)hot);
            add_topic(seed, layer, (int)(draw % (uint64_t)run), strength, H, Hkv, d, topic, qt);
        }
    }
    free(topic);
    return SW_OK;
}
