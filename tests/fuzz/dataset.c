/* Prepared datasets: a whole HDF5 file, or a good one spoilt (hdf5_maker.h); checked, then read. */
#include "harness/inputs/dataset.h"

#include <stdlib.h>

#include "harness/inputs/dataset_check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/hdf5_maker.h"

static void make_list(struct maker *m, const char *name, hid_t type, hsize_t n, const void *values)
{
    maker_close(maker_dataset(m, m->file, name, type, 1, &n, values));
}

static uint8_t *make(const uint8_t *data, size_t size, size_t *bytes)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8}, stop[] = {0};
    static const int64_t offsets[] = {0, 4, 8}, reference_offsets[] = {0, 1, 3};
    static const char *const references[] = {"one", "two", "three"};
    struct maker m;
    const unsigned prompts = size > 0 && data[0] & 1;
    maker_begin(&m, data, size);
    maker_text(&m, m.file, "format", "swbench-dataset");
    maker_int(&m, m.file, "version", 2);
    static const char *const texts[] = {"tokenizer_sha256", "tokenizer_json_sha256",
                                        "chat_template_sha256", "special_ids"};
    for (int i = 0; i < 4; i++)
        maker_text(&m, m.file, texts[i], "00");
    maker_text(&m, m.file, "lengths", "exact");
    maker_int(&m, m.file, "first_line", 0);
    maker_int(&m, m.file, "vocab_size", 10);
    maker_int(&m, m.file, "context", prompts ? 6 : 4);
    maker_int(&m, m.file, "n_samples", 2);
    maker_int(&m, m.file, "max_new_tokens", prompts ? 2 : 0);
    maker_int(&m, m.file, "scored_tokens", prompts ? 0 : 2);
    maker_text(&m, m.file, "score", prompts ? "all" : "ppl");
    hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, H5T_VARIABLE);
    make_list(&m, "ids", H5T_NATIVE_INT32, 8, ids);
    make_list(&m, "offsets", H5T_NATIVE_INT64, 3, offsets);
    make_list(&m, "stop_ids", H5T_NATIVE_INT32, 1, stop);
    make_list(&m, "references", text, 3, references);
    make_list(&m, "reference_offsets", H5T_NATIVE_INT64, 3, reference_offsets);
    H5Tclose(text);
    return maker_end(&m, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *made = maker_is_file(data, size) ? NULL : make(data, size, &size);
    const char *path = fuzz_file(made ? made : data, size);
    struct sw_dataset_info info;
    struct sw_dataset *dataset;
    if (sw_dataset_check(path, fuzz_messages(), &info) != SW_OK)
        sw_error_clear();
    if (sw_dataset_read(path, &dataset) == SW_OK)
        sw_dataset_free(dataset);
    sw_error_clear();
    free(made);
    return 0;
}
