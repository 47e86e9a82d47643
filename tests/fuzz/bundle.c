/* Tensor bundles: a whole HDF5 file, or a good bundle spoilt (hdf5_maker.h); checked, then read. */
#include "harness/inputs/bundle.h"

#include <stdlib.h>

#include "harness/inputs/bundle_check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/hdf5_maker.h"

enum { N = 6, M = 2, H = 2, HKV = 1, D = 4, MOST = 1 << 20 };

static void make_layer(struct maker *m, hid_t parent, const char *name, hsize_t tokens)
{
    static const float values[N * H * D] = {1, -2, 0.5f, 3};
    const hsize_t q[3] = {tokens, H, D}, kv[3] = {tokens, HKV, D};
    hid_t layer = maker_group(m, parent, name);
    maker_close(maker_dataset(m, layer, "q", H5T_NATIVE_FLOAT, 3, q, values));
    maker_close(maker_dataset(m, layer, "k", H5T_NATIVE_FLOAT, 3, kv, values));
    maker_close(maker_dataset(m, layer, "v", H5T_NATIVE_FLOAT, 3, kv, values));
    maker_close(layer);
}

static uint8_t *make(const uint8_t *data, size_t size, size_t *bytes)
{
    struct maker m;
    maker_begin(&m, data, size);
    maker_text(&m, m.file, "format", "swbench-tensors");
    maker_int(&m, m.file, "version", 1);
    maker_int(&m, m.file, "n_layers", 2);
    maker_int(&m, m.file, "n_heads", H);
    maker_int(&m, m.file, "n_kv_heads", HKV);
    maker_int(&m, m.file, "head_dim", D);
    make_layer(&m, m.file, "layer_000", N);
    make_layer(&m, m.file, "layer_001", N);
    hid_t decode = maker_group(&m, m.file, "decode");
    make_layer(&m, decode, "layer_000", M);
    make_layer(&m, decode, "layer_001", M);
    maker_close(decode);
    return maker_end(&m, bytes);
}

static void read_layers(const char *path)
{
    struct sw_bundle *bundle;
    if (sw_bundle_open(path, &bundle) != SW_OK)
        return;
    const struct sw_shape *s = sw_bundle_shape(bundle);
    size_t tokens = (size_t)sw_bundle_tokens(bundle) + (size_t)sw_bundle_decode_tokens(bundle),
           token = (size_t)s->n_heads * (size_t)s->head_dim;
    float *q = tokens * token <= MOST ? malloc(3 * tokens * token * sizeof *q) : NULL;
    for (int layer = 0; q && layer < s->n_layers && layer < 3; layer++)
        if (sw_bundle_read(bundle, layer, q, q + tokens * token, q + 2 * tokens * token) != SW_OK)
            sw_error_clear();
    free(q);
    sw_bundle_close(bundle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *made = maker_is_file(data, size) ? NULL : make(data, size, &size);
    const char *path = fuzz_file(made ? made : data, size);
    struct sw_bundle_info info;
    enum sw_status status = sw_bundle_check(path, fuzz_messages(), &info);
    if (status != SW_OK)
        sw_error_clear();
    read_layers(path);
    sw_error_clear();
    free(made);
    return 0;
}
