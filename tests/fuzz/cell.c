/* Result cells: a whole HDF5 file, or a good one spoilt (hdf5_maker.h), under a first line whose
 * checksum holds; read as export, report and compare read it. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "harness/store/h5_data.h"
#include "harness/store/store.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/hdf5_maker.h"

enum { HEADER = 512 };

static void make_metric(struct maker *m, hid_t metrics, hid_t layers, const char *name)
{
    static const double values[] = {0.5, 0.25};
    const hsize_t two = 2;
    hid_t value = maker_dataset(m, metrics, name, H5T_NATIVE_DOUBLE, 0, &two, values);
    maker_text(m, value, "units", "1");
    maker_int(m, value, "n", 2);
    maker_real(m, value, "lo", 0.1);
    maker_real(m, value, "hi", 0.9);
    maker_close(value);
    maker_close(maker_dataset(m, layers, name, H5T_NATIVE_DOUBLE, 1, &two, values));
}

static uint8_t *make(const uint8_t *data, size_t size, size_t *bytes)
{
    static const char *const texts[] = {"key",     "workload", "model", "task",  "params",
                                        "backend", "device",   "phase", "reason"};
    static const double samples[] = {0.4, 0.6};
    const hsize_t two = 2;
    struct maker m;
    maker_begin(&m, data, size);
    maker_text(&m, m.file, "format", "swbench-cell");
    maker_int(&m, m.file, "version", 1);
    maker_text(&m, m.file, "method", "dense");
    maker_text(&m, m.file, "status", "ok");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        maker_text(&m, m.file, texts[i], texts[i]);
    maker_int(&m, m.file, "context", 128);
    maker_int(&m, m.file, "seed", 1);
    maker_real(&m, m.file, "density", 0.2);
    hid_t metrics = maker_group(&m, m.file, "metrics"),
          layers = maker_group(&m, m.file, "per_layer");
    make_metric(&m, metrics, layers, "nll");
    make_metric(&m, metrics, layers, "density");
    maker_close(metrics);
    maker_close(layers);
    hid_t raw = maker_group(&m, m.file, "samples");
    maker_close(maker_dataset(&m, raw, "nll", H5T_NATIVE_DOUBLE, 1, &two, samples));
    maker_close(raw);
    hid_t provenance = maker_group(&m, m.file, "provenance");
    maker_text(&m, provenance, "identity", "{\"code\": 1, \"seed\": 2}");
    maker_text(&m, provenance, "ended", "2026-01-01T00:00:00Z");
    maker_close(provenance);
    return maker_end(&m, bytes);
}

/* The user block that makes a file one of ours (h5_file.c). */
static uint8_t *with_header(const uint8_t *data, size_t size)
{
    uint8_t *whole = calloc(1, HEADER + size);
    if (!whole)
        abort();
    snprintf((char *)whole, HEADER,
             "swbench HDF5 file: xxh3-64 %016llx of the %lld bytes from byte %d on, where HDF5 "
             "begins (readers find it there)\n",
             (unsigned long long)XXH3_64bits(data, size), (long long)size, HEADER);
    if (size)
        memcpy(whole + HEADER, data, size);
    return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *made = maker_is_file(data, size) ? NULL : make(data, size, &size);
    uint8_t *whole = with_header(made ? made : data, size);
    const char *path = fuzz_file(whole, HEADER + size);
    struct sw_tidy *tidy;
    struct sw_cell_reader *reader;
    struct sw_texts warnings;
    if (sw_tidy_read(path, &tidy) == SW_OK)
        sw_tidy_free(tidy);
    sw_error_clear();
    if (sw_cell_reader_open(path, "key", &reader) == SW_OK) {
        char *text = NULL;
        if (sw_cell_reader_provenance(reader, "identity", &text) == SW_OK)
            free(text);
        sw_error_clear();
        if (sw_cell_reader_warnings(reader, &warnings) == SW_OK)
            sw_texts_clear(&warnings);
        sw_cell_reader_close(reader);
    }
    sw_error_clear();
    free(whole);
    free(made);
    return 0;
}
