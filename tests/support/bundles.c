/* bundles.c: writes a tensor bundle as docs/formats.md describes it, or with one lie. */
#include "tests/support/bundles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "harness/store/h5_data.h"
#include "tests/support/backends.h"

static void put(hid_t file, const char *path, hsize_t n, hsize_t heads, hsize_t d, int rank,
                float bad, hid_t type)
{
    hsize_t dims[3] = {n, heads, d}, flat[2] = {n, heads * d};
    float *values = calloc(n * heads * d, sizeof *values);
    assert_non_null(values);
    values[n * heads * d - 2] = bad;
    hid_t space = rank == 3 ? H5Screate_simple(3, dims, NULL) : H5Screate_simple(2, flat, NULL),
          links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t set = H5Dcreate2(file, path, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0 &&
                H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(set);
    H5Pclose(links);
    H5Sclose(space);
    free(values);
}

void sw_test_bundle_write(const char *path, struct sw_test_bundle b)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    sw_test_ok(sw_h5_set_text(file, "format", b.lie == LIE_FORMAT ? "other" : "swbench-tensors"));
    sw_test_ok(sw_h5_set_int(file, "version", 1));
    sw_test_ok(sw_h5_set_int(file, "n_layers", b.layers));
    sw_test_ok(sw_h5_set_int(file, "n_heads", b.lie == LIE_RATIO ? b.heads + 1 : b.heads));
    sw_test_ok(sw_h5_set_int(file, "n_kv_heads", b.kv_heads));
    sw_test_ok(sw_h5_set_int(file, "head_dim", b.d));
    for (int part = 0; part < (b.decode ? 2 : 1); part++)
        for (int layer = 0; layer < (b.lie == LIE_LAYER ? b.layers - 1 : b.layers); layer++)
            for (const char *q = "qkv"; *q; q++) {
                char name[64];
                bool last = layer == b.layers - 1 && *q == 'v' && part == 0;
                int heads = *q == 'q' ? b.heads : b.kv_heads, n = part ? b.decode : b.n;
                snprintf(name, sizeof name, "%s/layer_%03d/%c", part ? "/decode" : "", layer, *q);
                put(file, name, (hsize_t)(last && b.lie == LIE_TOKENS ? n - 1 : n),
                    (hsize_t)(last && b.lie == LIE_HEADS ? heads + 1 : heads), (hsize_t)b.d,
                    last && b.lie == LIE_RANK ? 2 : 3, last ? b.bad : 0,
                    b.type ? b.type : H5T_IEEE_F32LE);
            }
    assert_true(H5Fclose(file) >= 0);
}
