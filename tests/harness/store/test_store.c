/* Result files: what is written is what is read, whole or absent, and any damage is found. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/method.h"
#include "harness/program/verbs.h"
#include "harness/report/index.h"
#include "harness/store/h5_data.h"
#include "harness/store/provenance.h"
#include "harness/store/store.h"

static char folder[64];

/* --- a disk that can be full ------------------------------------------------------------------ */

static long long bytes_left = -1; /* until writes fail with ENOSPC; -1: never */

static ssize_t write_some(int fd, size_t count)
{
    char link[64], target[256] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (bytes_left < 0 || readlink(link, target, sizeof target - 1) < 0 ||
        strncmp(target, folder, strlen(folder)) != 0)
        return 0; /* the disk that is full is the one with our folder */
    if ((long long)count > bytes_left) {
        errno = ENOSPC;
        return -1;
    }
    bytes_left -= (long long)count;
    return 0;
}

/* These take the place of the C library's, also for the HDF5 library. */
ssize_t write(int fd, const void *data, size_t count)
{
    static union {
        void *symbol;
        ssize_t (*call)(int, const void *, size_t);
    } next;
    if (!next.symbol)
        next.symbol = dlsym(RTLD_NEXT, "write");
    return write_some(fd, count) < 0 ? -1 : next.call(fd, data, count);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset)
{
    static union {
        void *symbol;
        ssize_t (*call)(int, const void *, size_t, off_t);
    } next;
    if (!next.symbol)
        next.symbol = dlsym(RTLD_NEXT, "pwrite");
    return write_some(fd, count) < 0 ? -1 : next.call(fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset);
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset)
{
    return pwrite(fd, data, count, offset);
}

/* --- cells made by hand ----------------------------------------------------------------------- */

static char config_text[] = "version: 1\nname: by-hand\n";
static char params_json[] = "{\"variant\": \"arxiv\", \"block_size\": 64}";
static char identity[] = "{\"cell\": \"by hand\"}";
static char model_name[] = "smollm2-135m-instruct", task_name[] = "niah_single_1",
            config_name[] = "by-hand";
static struct sw_config config = {
    .text = config_text, .name = config_name, .budget = SW_BUDGET_MATCHED, .dense_layers = 2};
static struct sw_workload workload = {.kind = SW_WORKLOAD_TASK, .model = model_name};
static const struct sw_method method = {.name = "sketchwalk"}, dense = {.name = "dense"};
static struct sw_backend backend = {
    .name = "cpu", .device = "A Processor, \"quoted\"", .details = "avx2", .threads = 2};

static struct sw_cell make_cell(const char *key, enum sw_phase phase)
{
    struct sw_cell cell = {.config = &config,
                           .workload = &workload,
                           .task = task_name,
                           .method = &method,
                           .params_json = params_json,
                           .identity = identity,
                           .context = 4096,
                           .density = 0.2,
                           .phase = phase,
                           .seed = 1};
    snprintf(cell.key, sizeof cell.key, "%s", key);
    snprintf(cell.experiment, sizeof cell.experiment, "e%s", key + 1);
    snprintf(cell.conditions, sizeof cell.conditions, "%032d", 1);
    return cell;
}

enum { LAYERS = 4, HEADS = 3, SAMPLES = 5 };

static void fill_result(struct sw_result *result, double level)
{
    static const char *const references[] = {"a, \"b\"", "größer"};
    double layers[LAYERS] = {NAN, NAN, level, level / 3}, heads[LAYERS * HEADS], samples[SAMPLES];
    for (int i = 0; i < LAYERS * HEADS; i++)
        heads[i] = i * level;
    for (int i = 0; i < SAMPLES; i++)
        samples[i] = level + 0.1 * i;
    struct sw_metric *recall = sw_result_metric(result, "block_recall"),
                     *nll = sw_result_metric(result, "nll");
    assert_non_null(recall);
    assert_non_null(nll);
    recall->value = level;
    recall->n = 24;
    assert_int_equal(sw_metric_set_layers(recall, layers, LAYERS), SW_OK);
    assert_int_equal(sw_metric_set_layer_heads(recall, heads, LAYERS, HEADS), SW_OK);
    nll->value = 0.1 + 0.2;
    nll->lo = 0.25;
    nll->hi = 0.35;
    nll->n = SAMPLES;
    assert_int_equal(sw_metric_set_samples(nll, samples, SAMPLES), SW_OK);
    sw_result_metric(result, "density")->value = 0.1999;
    assert_int_equal(
        sw_result_predict(result, &(struct sw_answer){.prediction = "cut here: \xe2\x82",
                                                      .references = references,
                                                      .n_references = 2,
                                                      .score = 1,
                                                      .depth = 0.25}),
        SW_OK);
    assert_int_equal(sw_result_warn(result, "density off by %d block", 1), SW_OK);
}

static void fill_selection(struct sw_selection *s, int n)
{
    *s = (struct sw_selection){0};
    assert_int_equal(sw_selection_full(s, n, 64, 1), SW_OK);
}

static enum sw_status write_cell(const struct sw_cell *cell, bool decode, double level)
{
    struct sw_cell_writer *w;
    enum sw_status st = sw_cell_writer_open(folder, cell, &backend, &w);
    if (st != SW_OK)
        return st;
    struct sw_selection selection;
    fill_selection(&selection, 64 * 100);
    float *output = calloc(200 * HEADS * 16, sizeof *output);
    assert_non_null(output);
    output[17] = 1.5f;
    st = sw_cell_writer_selection(w, decode, 2, false, &selection, NULL);
    if (st == SW_OK)
        st = sw_cell_writer_output(w, decode, 2, output, 200, HEADS, 16);
    sw_selection_free(&selection);
    free(output);
    if (st != SW_OK) {
        sw_cell_writer_abort(w);
        return st;
    }
    struct sw_result result = {0};
    fill_result(&result, level);
    st = sw_cell_writer_commit(w, &result);
    sw_result_clear(&result);
    return st;
}

static char *cell_path(const char *key)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/cells/%s.h5", folder, key);
    return path;
}

/* --- set-up ----------------------------------------------------------------------------------- */

static int remove_below(const char *path)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    return system(command);
}

static int make_folder(void **state)
{
    (void)state;
    bytes_left = -1;
    sw_error_clear();
    snprintf(folder, sizeof folder, "/tmp/swbench-store-XXXXXX");
    return mkdtemp(folder) && sw_store_open_folder(folder) == SW_OK ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    bytes_left = -1;
    return remove_below(folder);
}

/* Entries of folder/`name`, hidden ones included. */
static int entries(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static const struct sw_tidy_row *find_row(const struct sw_tidy *tidy, const char *cell,
                                          const char *metric, int layer)
{
    for (int64_t i = 0; i < tidy->count; i++)
        if (strcmp(tidy->rows[i].cell, cell) == 0 && strcmp(tidy->rows[i].metric, metric) == 0 &&
            tidy->rows[i].layer == layer)
            return &tidy->rows[i];
    return NULL;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_metric_table(void **state)
{
    (void)state;
    static const char *const contract[] = {"density",
                                           "density_all_layers",
                                           "block_union_density",
                                           "kv_fetch_density",
                                           "block_recall",
                                           "block_recall_rollout",
                                           "mass_recall",
                                           "output_rel_error",
                                           "accuracy",
                                           "ppl",
                                           "nll_delta",
                                           "prefill_attention_ms",
                                           "prefill_select_ms",
                                           "decode_attention_us",
                                           "decode_select_us",
                                           "ttft_ms",
                                           "tpot_ms",
                                           "peak_memory_bytes",
                                           "effective_tflops",
                                           "effective_gbps"};
    struct sw_result result = {0};
    struct sw_metric *first = sw_result_metric(&result, "density");
    for (size_t i = 0; i < sizeof contract / sizeof contract[0]; i++) {
        assert_non_null(sw_metric_find(contract[i]));
        assert_non_null(sw_result_metric(&result, contract[i]));
    }
    assert_ptr_equal(first, sw_result_metric(&result, "density")); /* pointers stay good */
    assert_null(sw_result_metric(&result, "densty"));
    sw_result_clear(&result);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct sw_cell cell = make_cell("00000000000000000000000000000001", SW_PHASE_PREFILL);
    assert_int_equal(write_cell(&cell, false, 0.75), SW_OK);
    assert_int_equal(entries("cells"), 1);
    bool failed = true;
    assert_true(sw_store_has_cell(folder, cell.key, &failed));
    assert_false(failed);
    assert_false(sw_store_has_cell(folder, "00000000000000000000000000000002", &failed));

    struct sw_tidy *tidy;
    assert_int_equal(sw_tidy_read(folder, &tidy), SW_OK);
    /* metrics, and the two layers of block_recall that have a value */
    assert_int_equal(tidy->count, 3 + 2);
    const struct sw_tidy_row *row = find_row(tidy, cell.key, "nll", -1);
    assert_non_null(row);
    assert_true(row->value == 0.1 + 0.2 && row->lo == 0.25 && row->hi == 0.35);
    assert_int_equal(row->n, SAMPLES);
    assert_string_equal(row->unit, "nat/token");
    assert_string_equal(row->method, "sketchwalk");
    assert_string_equal(row->params, params_json);
    assert_string_equal(row->device, backend.device);
    assert_string_equal(row->phase, "prefill");
    assert_string_equal(row->status, "ok");
    assert_true(row->context == 4096 && row->density == 0.2 && row->seed == 1);
    row = find_row(tidy, cell.key, "block_recall", 3);
    assert_non_null(row);
    assert_true(row->value == 0.25 && isnan(row->lo));
    assert_null(find_row(tidy, cell.key, "block_recall", 0));
    sw_tidy_free(tidy);

    struct sw_cell_reader *reader;
    double *samples;
    int n;
    char *text;
    struct sw_texts warnings;
    assert_int_equal(sw_cell_reader_open(folder, cell.key, &reader), SW_OK);
    assert_int_equal(sw_cell_reader_samples(reader, "nll", &samples, &n), SW_OK);
    assert_true(n == SAMPLES && samples[4] == 0.75 + 0.4);
    free(samples);
    assert_int_equal(sw_cell_reader_samples(reader, "ppl", &samples, &n), SW_OK);
    assert_true(n == 0 && samples == NULL);
    struct sw_answers answers;
    assert_int_equal(sw_cell_reader_answers(reader, &answers), SW_OK);
    assert_int_equal(answers.count, 1);
    /* what is no UTF-8 is marked */
    assert_string_equal(answers.items[0].prediction, "cut here: \xef\xbf\xbd");
    assert_int_equal(answers.items[0].n_references, 2);
    assert_string_equal(answers.items[0].references[1], "größer");
    assert_true(answers.items[0].score == 1 && answers.items[0].depth == 0.25 &&
                answers.source.dataset == NULL);
    sw_answers_clear(&answers);
    assert_int_equal(sw_cell_reader_provenance(reader, "config", &text), SW_OK);
    assert_string_equal(text, config_text);
    free(text);
    assert_int_equal(sw_cell_reader_warnings(reader, &warnings), SW_OK);
    assert_int_equal(warnings.count, 1);
    assert_string_equal(warnings.items[0], "density off by 1 block");
    sw_texts_clear(&warnings);
    sw_cell_reader_close(reader);
}

static void test_saved_arrays(void **state)
{
    (void)state;
    struct sw_cell cell = make_cell("0000000000000000000000000000000d", SW_PHASE_DECODE);
    assert_int_equal(write_cell(&cell, true, 0.5), SW_OK);
    hid_t file;
    assert_int_equal(sw_h5_open(cell_path(cell.key), &file), SW_OK);
    /* the second is a link */
    static const char *const groups[] = {"decode/layer_002/selection", "layer_002/selection"};
    for (int g = 0; g < 2; g++) {
        hid_t group = H5Gopen2(file, groups[g], H5P_DEFAULT);
        assert_true(group >= 0);
        int64_t units = 0;
        assert_int_equal(sw_h5_get_int(group, "units", &units), SW_OK);
        assert_int_equal(units, 1);
        hid_t indices = H5Dopen2(group, "indices", H5P_DEFAULT), space = H5Dget_space(indices);
        assert_int_equal(H5Sget_simple_extent_npoints(space), 100 * 101 / 2);
        int32_t *read = calloc(100 * 101 / 2, sizeof *read);
        assert_true(H5Dread(indices, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
        assert_true(read[0] == 0 && read[1] == 0 && read[2] == 1 && read[100 * 101 / 2 - 1] == 99);
        free(read);
        H5Sclose(space);
        H5Dclose(indices);
        H5Gclose(group);
    }
    hid_t output = H5Dopen2(file, "layer_002/output", H5P_DEFAULT);
    assert_true(output >= 0);
    H5Dclose(output);
    sw_h5_close(file);
}

/* Token masks of a selection: bytes a unit and token, words an entry. */
static void test_saved_masks(void **state)
{
    (void)state;
    enum { N = 100, UNITS = 2, WORDS = 2, BLOCK = 128 };
    struct sw_cell cell = make_cell("000000000000000000000000000000ac", SW_PHASE_PREFILL);
    struct sw_cell_writer *w;
    struct sw_selection s = {0};
    assert_int_equal(sw_cell_writer_open(folder, &cell, &backend, &w), SW_OK);
    assert_int_equal(sw_selection_full(&s, N, BLOCK, UNITS), SW_OK);
    s.whole = calloc((size_t)s.capacity, 1);
    assert_int_equal(sw_selection_reserve_masks(&s, N, WORDS), SW_OK);
    for (int i = 0; i < UNITS * N; i++) {
        s.columns[i] = i % 3 == 0;
        s.slashes[i] = i % 5 == 0;
    }
    for (int i = 0; i < UNITS * WORDS; i++)
        s.queries[i] = 0x8000000000000001u + (uint64_t)i;
    assert_int_equal(sw_cell_writer_selection(w, false, 1, false, &s, NULL), SW_OK);
    struct sw_result result = {0};
    fill_result(&result, 0.5);
    assert_int_equal(sw_cell_writer_commit(w, &result), SW_OK);
    sw_result_clear(&result);
    hid_t file;
    assert_int_equal(sw_h5_open(cell_path(cell.key), &file), SW_OK);
    static const char *const names[] = {"layer_001/selection/columns",
                                        "layer_001/selection/slashes"};
    for (int l = 0; l < 2; l++) {
        uint8_t read[UNITS * N];
        hid_t dataset = H5Dopen2(file, names[l], H5P_DEFAULT), space = H5Dget_space(dataset);
        assert_int_equal(H5Sget_simple_extent_npoints(space), UNITS * N);
        assert_true(H5Dread(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
        assert_memory_equal(read, l ? s.slashes : s.columns, sizeof read);
        H5Sclose(space);
        H5Dclose(dataset);
    }
    uint64_t words[UNITS * WORDS];
    hid_t dataset = H5Dopen2(file, "layer_001/selection/queries", H5P_DEFAULT);
    assert_true(H5Dread(dataset, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, words) >= 0);
    assert_memory_equal(words, s.queries, sizeof words);
    H5Dclose(dataset);
    sw_h5_close(file);
    sw_selection_free(&s);
    unlink(cell_path(cell.key));
}

/* Changes one byte (XOR mask) or, mask 0, cuts the file at `at`. */
static void damage(const char *path, off_t at, unsigned char mask)
{
    if (!mask) {
        assert_int_equal(truncate(path, at), 0);
        return;
    }
    int fd = open(path, O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= mask;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void test_damage_is_found(void **state)
{
    (void)state;
    struct sw_cell good = make_cell("00000000000000000000000000000001", SW_PHASE_PREFILL);
    struct sw_cell cell = make_cell("00000000000000000000000000000002", SW_PHASE_PREFILL);
    assert_int_equal(write_cell(&good, false, 0.5), SW_OK);
    assert_int_equal(write_cell(&cell, false, 0.5), SW_OK);
    const char *path = cell_path(cell.key);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    bool failed;
    for (off_t k = 0; k < 200; k++) { /* bits all over the file */
        off_t at = k < 60 ? k : info.st_size * (k - 60) / 140;
        damage(path, at, (unsigned char)(1u << (k % 8)));
        assert_false(sw_store_has_cell(folder, cell.key, &failed));
        damage(path, at, (unsigned char)(1u << (k % 8)));
    }
    assert_true(sw_store_has_cell(folder, cell.key, &failed));
    static const double cuts[] = {0.999, 0.5, 0.01, 0};
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        damage(path, (off_t)(cuts[c] * (double)info.st_size), 0);
        assert_false(sw_store_has_cell(folder, cell.key, &failed));
        struct sw_tidy *tidy;
        assert_int_equal(sw_tidy_read(folder, &tidy), SW_EINPUT);
        assert_non_null(strstr(sw_error_message(), cell.key));
        assert_null(strchr(sw_error_message(), '\n'));
        sw_error_clear();
        assert_int_equal(sw_index_write(folder), SW_EINPUT); /* said, and the rest is there */
        assert_non_null(strstr(sw_error_message(), cell.key));
        sw_error_clear();
        struct sw_texts damaged = {0};
        assert_int_equal(sw_tidy_read_intact(folder, &tidy, &damaged), SW_OK);
        assert_int_equal(damaged.count, 1);
        assert_non_null(find_row(tidy, good.key, "nll", -1));
        sw_texts_clear(&damaged);
        sw_tidy_free(tidy);
    }
    FILE *f = fopen(path, "w");
    fputs("\x89HDF\r\n\x1a\n, says another program, and goes on", f);
    fclose(f);
    struct sw_tidy *tidy;
    assert_int_equal(sw_tidy_read(folder, &tidy), SW_EINPUT);
    assert_non_null(strstr(sw_error_message(), "not a file written by swbench"));
    sw_error_clear();
    assert_int_equal(write_cell(&cell, false, 0.5), SW_OK); /* redone, it is whole again */
    assert_true(sw_store_has_cell(folder, cell.key, &failed));
}

/* A copy is the same bytes or nothing, and what is damaged is not copied. */
static void test_copy(void **state)
{
    (void)state;
    struct sw_cell cell = make_cell("0000000000000000000000000000000c", SW_PHASE_PREFILL);
    char from[128], to[160];
    bool failed;
    assert_int_equal(write_cell(&cell, false, 0.5), SW_OK);
    snprintf(from, sizeof from, "%s/from.h5", folder);
    snprintf(to, sizeof to, "%s/cells", folder);
    assert_int_equal(rename(cell_path(cell.key), from), 0);
    for (long long room = 0; room < 3000; room += 1000) {
        bytes_left = room;
        assert_int_equal(sw_h5_copy(from, to, cell.key), SW_EIO);
        bytes_left = -1;
        assert_non_null(strstr(sw_error_message(), cell.key));
        sw_error_clear();
        assert_int_equal(entries("cells"), 0);
    }
    damage(from, 4000, 1);
    assert_int_equal(sw_h5_copy(from, to, cell.key), SW_EINPUT);
    sw_error_clear();
    assert_int_equal(entries("cells"), 0);
    damage(from, 4000, 1);
    assert_int_equal(sw_h5_copy(from, to, cell.key), SW_OK);
    assert_true(sw_store_has_cell(folder, cell.key, &failed));
    assert_int_equal(entries("cells"), 1);
    assert_int_equal(sw_h5_copy("/nowhere", to, cell.key), SW_EINPUT);
    sw_error_clear();
}

static void test_disk_full(void **state)
{
    (void)state;
    struct sw_cell cell = make_cell("000000000000000000000000000000fu", SW_PHASE_PREFILL);
    int refused = 0;
    bool failed;
    for (long long room = 0;; room += 1777) {
        bytes_left = room;
        enum sw_status st = write_cell(&cell, false, 0.5);
        bytes_left = -1;
        if (st == SW_OK)
            break;
        ++refused;
        assert_int_equal(st, SW_EIO);
        assert_non_null(strstr(sw_error_message(), "No space left on device"));
        assert_non_null(strstr(sw_error_message(), folder));
        assert_null(strchr(sw_error_message(), '\n'));
        assert_int_equal(entries("cells"), 0);
        sw_error_clear();
    }
    assert_true(refused > 10);
    assert_true(sw_store_has_cell(folder, cell.key, &failed));
    bytes_left = 100;
    assert_int_equal(sw_index_write(folder), SW_EIO);
    bytes_left = -1;
    assert_int_equal(entries("."), 1); /* cells, and nothing else */
    sw_error_clear();
    bytes_left = 0;
    assert_int_equal(sw_store_open_folder(folder), SW_EINPUT);
    bytes_left = -1;
    sw_error_clear();
}

static void test_abort_leaves_nothing(void **state)
{
    (void)state;
    struct sw_cell cell = make_cell("000000000000000000000000000000ab", SW_PHASE_PREFILL);
    struct sw_cell_writer *w;
    assert_int_equal(sw_cell_writer_open(folder, &cell, &backend, &w), SW_OK);
    struct sw_selection selection;
    fill_selection(&selection, 1000);
    assert_int_equal(sw_cell_writer_selection(w, false, 0, false, &selection, NULL), SW_OK);
    sw_selection_free(&selection);
    sw_cell_writer_abort(w);
    sw_cell_writer_abort(NULL);
    assert_int_equal(entries("cells"), 0);
}

static void test_failed_and_skipped(void **state)
{
    (void)state;
    struct sw_cell cell = make_cell("000000000000000000000000000000fa", SW_PHASE_PREFILL);
    struct sw_cell_writer *w;
    struct sw_result result = {.status = SW_RESULT_FAILED,
                               .reason = strdup("out of memory, \"really\"\nsecond line")};
    assert_int_equal(sw_cell_writer_open(folder, &cell, &backend, &w), SW_OK);
    assert_int_equal(sw_cell_writer_commit(w, &result), SW_OK);
    bool failed = false;
    assert_true(sw_store_has_cell(folder, cell.key, &failed));
    assert_true(failed);
    result.status = SW_RESULT_SKIPPED; /* written over it, and without a backend */
    assert_int_equal(sw_cell_writer_open(folder, &cell, NULL, &w), SW_OK);
    assert_int_equal(sw_cell_writer_commit(w, &result), SW_OK);
    assert_true(sw_store_has_cell(folder, cell.key, &failed));
    assert_false(failed);
    sw_result_clear(&result);
    struct sw_tidy *tidy;
    assert_int_equal(sw_tidy_read(cell_path(cell.key), &tidy), SW_OK); /* one cell file will do */
    assert_int_equal(tidy->count, 1);
    assert_string_equal(tidy->rows[0].status, "skipped");
    assert_string_equal(tidy->rows[0].metric, "");
    assert_true(isnan(tidy->rows[0].value));
    sw_tidy_free(tidy);
}

static void test_index(void **state)
{
    (void)state;
    struct sw_cell a = make_cell("0000000000000000000000000000000a", SW_PHASE_PREFILL),
                   b = make_cell("0000000000000000000000000000000b", SW_PHASE_PREFILL);
    b.density = 0.1; /* sorts first */
    char path[128];
    hid_t file;
    snprintf(path, sizeof path, "%s/results.h5", folder);
    assert_int_equal(sw_index_write(folder), SW_OK); /* no cells: an empty table */
    assert_int_equal(write_cell(&a, false, 0.5), SW_OK);
    assert_int_equal(write_cell(&b, false, 0.5), SW_OK);
    assert_int_equal(sw_index_write(folder), SW_OK);
    assert_int_equal(entries("."), 2);
    assert_int_equal(sw_h5_open(path, &file), SW_OK);
    struct sw_texts keys;
    assert_int_equal(sw_h5_members(file, "cells", &keys), SW_OK);
    assert_int_equal(keys.count, 2);
    sw_texts_clear(&keys);
    char link[80];
    double *value;
    hsize_t dims[3];
    int rank;
    snprintf(link, sizeof link, "cells/%s/metrics/nll", a.key); /* through the external link */
    assert_int_equal(sw_h5_read_reals(file, link, &value, dims, &rank), SW_OK);
    assert_true(value[0] == 0.1 + 0.2);
    free(value);
    assert_int_equal(sw_h5_read_reals(file, "tidy/density", &value, dims, &rank), SW_OK);
    assert_int_equal(dims[0], 10);
    assert_true(value[0] == 0.1 && value[9] == 0.2);
    free(value);
    sw_h5_close(file);
    struct sw_tidy *tidy;
    assert_int_equal(sw_tidy_read(path, &tidy), SW_OK); /* results.h5 stands for its folder */
    assert_int_equal(tidy->count, 10);
    sw_tidy_free(tidy);
}

static void test_folders(void **state)
{
    (void)state;
    char path[192];
    snprintf(path, sizeof path, "%s/a/b/c", folder);
    assert_int_equal(sw_store_open_folder(path), SW_OK);
    assert_int_equal(sw_store_open_folder(path), SW_OK);
    snprintf(path, sizeof path, "%s/file", folder);
    close(open(path, O_WRONLY | O_CREAT, 0666));
    assert_int_equal(sw_store_open_folder(path), SW_EINPUT);
    assert_non_null(strstr(sw_error_message(), path));
    sw_error_clear();
    snprintf(path, sizeof path, "%s/file/below", folder);
    assert_int_equal(sw_store_open_folder(path), SW_EINPUT);
    sw_error_clear();
    /* root cannot write here either */
    assert_int_equal(sw_store_open_folder("/proc/swbench"), SW_EINPUT);
    sw_error_clear();
    struct sw_tidy *tidy;
    assert_int_equal(sw_tidy_read("/tmp/no/such/folder", &tidy), SW_EINPUT);
    sw_error_clear();

    /* What a killed process left goes; what a living one is writing stays. */
    pid_t dead = fork();
    if (dead == 0)
        _exit(0);
    waitpid(dead, NULL, 0);
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    const int pids[] = {dead, getpid()};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/cells/.%d.%d@%.60s.tmp", folder, i, pids[i], host);
        close(open(path, O_WRONLY | O_CREAT, 0666));
    }
    assert_int_equal(entries("cells"), 2);
    assert_int_equal(sw_store_open_folder(folder), SW_OK);
    assert_int_equal(entries("cells"), 1);
    assert_int_equal(access(path, F_OK), 0); /* the second */
}

/* Runs a verb with stdout and stderr into files; returns what it printed (static). */
static const char *run_verb(int (*verb)(int, char **), int argc, char **argv, int expected,
                            bool errors)
{
    static char text[65536];
    char path[2][128];
    int saved[2];
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/output-%d", folder, i);
        saved[i] = dup(1 + i);
        int fd = open(path[i], O_RDWR | O_CREAT | O_TRUNC, 0666);
        dup2(fd, 1 + i);
        close(fd);
    }
    int rc = verb(argc, argv);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], 1 + i);
        close(saved[i]);
    }
    int fd = open(path[errors], O_RDONLY);
    ssize_t got = read(fd, text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    close(fd);
    assert_int_equal(rc, expected);
    sw_error_clear();
    return text;
}
#define VERB(verb, expected, errors, ...)                                 \
    run_verb(verb, (int)(sizeof(char *[]){__VA_ARGS__} / sizeof(char *)), \
             (char *[]){__VA_ARGS__, NULL}, expected, errors)

static void write_sweep(void)
{
    static char sketchwalk_identity[] = "{\"method\": \"sketchwalk\", \"density\": 0.2}",
                dense_identity[] = "{\"method\": \"dense\", \"density\": 1}";
    struct sw_cell cell = make_cell("00000000000000000000000000000001", SW_PHASE_PREFILL);
    cell.identity = sketchwalk_identity;
    assert_int_equal(write_cell(&cell, false, 0.5), SW_OK);
    cell = make_cell("00000000000000000000000000000002", SW_PHASE_PREFILL);
    cell.identity = dense_identity;
    cell.method = &dense;
    cell.density = 1;
    assert_int_equal(write_cell(&cell, false, 0.25), SW_OK);
    cell = make_cell("00000000000000000000000000000003", SW_PHASE_PREFILL);
    cell.density = 0.1;
    struct sw_cell_writer *w;
    struct sw_result result = {.status = SW_RESULT_FAILED, .reason = strdup("said \"no\", twice")};
    assert_int_equal(sw_cell_writer_open(folder, &cell, &backend, &w), SW_OK);
    assert_int_equal(sw_cell_writer_commit(w, &result), SW_OK);
    sw_result_clear(&result);
}

static void test_export(void **state)
{
    (void)state;
    write_sweep();
    const char *text = VERB(sw_verb_export, SW_EXIT_OK, false, "export", folder, "--format", "csv");
    assert_non_null(
        strstr(text, "cell,workload,model,task,method,params,backend,device,context,"
                     "density,phase,seed,metric,layer,value,unit,n,"
                     "lo,hi,status,reason,budget,dense_layers,experiment,conditions,baseline\n"));
    assert_non_null(
        strstr(text, "\"{\"\"variant\"\": \"\"arxiv\"\", \"\"block_size\"\": 64}\",cpu,\"A "
                     "Processor, \"\"quoted\"\"\",4096,0.2,"
                     "prefill,1,nll,,0.30000000000000004,nat/token,5,0.25,0.35,ok,,matched,"));
    assert_non_null(strstr(text, ",,,,,,,failed,\"said \"\"no\"\", twice\",matched,"));
    text = VERB(sw_verb_export, SW_EXIT_OK, false, "export", folder, "--format=jsonl", "--metric",
                "nll", "density");
    assert_non_null(strstr(text, "\"metric\":\"nll\",\"layer\":null,\"value\":0.30000000000000004,"
                                 "\"unit\":\"nat/token\",\"n\":5,\"lo\":0.25"));
    assert_non_null(strstr(
        text, "\"reason\":\"said \\\"no\\\", twice\",\"budget\":\"matched\",\"dense_layers\":"));
    assert_null(strstr(text, "block_recall"));
    text = VERB(sw_verb_export, SW_EXIT_USAGE, true, "export", folder, "--metric", "block_recal");
    assert_non_null(strstr(text, "did you mean 'block_recall'?"));
    VERB(sw_verb_export, SW_EXIT_USAGE, true, "export", folder, "--format", "xml");
    VERB(sw_verb_export, SW_EXIT_USAGE, true, "export");
    VERB(sw_verb_export, SW_EXIT_USAGE, true, "export", "/tmp/no/such/folder");
}

/* A cell takes another baseline in place: all else of it stays, and it is whole. */
static void test_baseline(void **state)
{
    (void)state;
    const char *key = "00000000000000000000000000000001";
    struct sw_tidy *before, *after;
    struct stat info[2];
    char path[256];
    write_sweep();
    snprintf(path, sizeof path, "%s/cells/%s.h5", folder, key);
    assert_int_equal(sw_tidy_read(folder, &before), SW_OK);
    assert_int_equal(sw_store_set_baseline(folder, key, SW_BASELINE_LIBRARY), SW_OK);
    assert_int_equal(sw_tidy_read(folder, &after), SW_OK);
    assert_int_equal(before->count, after->count);
    for (int64_t i = 0; i < after->count; i++) {
        const struct sw_tidy_row *a = &before->rows[i], *b = &after->rows[i];
        assert_string_equal(a->baseline, "fastest");
        assert_string_equal(b->baseline, strcmp(b->cell, key) == 0 ? "library" : "fastest");
        assert_string_equal(a->metric, b->metric);
        assert_true(a->value == b->value || (isnan(a->value) && isnan(b->value)));
    }
    /* A file that says so already is left alone; a damaged one is said, and left. */
    assert_int_equal(stat(path, &info[0]), 0);
    assert_int_equal(sw_store_set_baseline(folder, key, SW_BASELINE_LIBRARY), SW_OK);
    assert_int_equal(stat(path, &info[1]), 0);
    assert_true(info[0].st_ino == info[1].st_ino);
    assert_int_equal(truncate(path, info[0].st_size - 1), 0);
    assert_int_equal(sw_store_set_baseline(folder, key, SW_BASELINE_OWN), SW_EINPUT);
    sw_error_clear();
    assert_int_equal(entries("cells"), 3);
    sw_tidy_free(before);
    sw_tidy_free(after);
}

/* Of a cell of 0.1 it is the fastest. */
static void test_no_baseline(void **state)
{
    (void)state;
    struct sw_h5_file file;
    struct sw_tidy *tidy;
    char cells[64];
    write_sweep();
    snprintf(cells, sizeof cells, "%s/cells", folder);
    assert_int_equal(sw_h5_change(cells, "00000000000000000000000000000001", &file), SW_OK);
    assert_true(H5Adelete(file.id, "baseline") >= 0);
    assert_int_equal(sw_h5_publish(&file), SW_OK);
    assert_int_equal(sw_tidy_read(folder, &tidy), SW_OK);
    assert_string_equal(tidy->rows[0].baseline, "fastest");
    sw_tidy_free(tidy);
    assert_int_equal(
        sw_store_set_baseline(folder, "00000000000000000000000000000001", SW_BASELINE_OWN), SW_OK);
    assert_int_equal(sw_tidy_read(folder, &tidy), SW_OK);
    assert_string_equal(find_row(tidy, "00000000000000000000000000000001", "nll", -1)->baseline,
                        "own");
    sw_tidy_free(tidy);
}

static void test_report(void **state)
{
    (void)state;
    write_sweep();
    const char *text = VERB(sw_verb_report, SW_EXIT_OK, false, "report", folder);
    assert_non_null(strstr(text, "| sketchwalk"));
    assert_non_null(strstr(text, "failed: said \"no\", twice"));
    assert_non_null(strstr(text, "density off by 1 block (2 cells)"));
    assert_non_null(strstr(text, "2 cells ok, 1 failed, 0 skipped"));
    assert_non_null(strstr(text, "- threads: 2\n"));
    assert_true(strstr(text, "| dense") < strstr(text, "| sketchwalk"));
    text = VERB(sw_verb_report, SW_EXIT_OK, false, "report", folder, "--format", "latex");
    assert_non_null(strstr(text, "\\begin{tabular}"));
    VERB(sw_verb_report, SW_EXIT_USAGE, true, "report", folder, "--format", "csv");
}

int main(int argc, char **argv)
{
    sw_provenance_init(argc, argv);
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_metric_table),
        TEST(test_round_trip),
        TEST(test_saved_arrays),
        TEST(test_saved_masks),
        TEST(test_damage_is_found),
        TEST(test_disk_full),
        TEST(test_abort_leaves_nothing),
        TEST(test_failed_and_skipped),
        TEST(test_index),
        TEST(test_folders),
        TEST(test_export),
        TEST(test_baseline),
        TEST(test_no_baseline),
        TEST(test_report),
        TEST(test_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
