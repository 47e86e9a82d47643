/* Prepared datasets, checked without being loaded. */
#include "harness/inputs/dataset_check.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness/config/yaml_tree.h"
#include "harness/inputs/foreign.h"
#include "harness/store/h5_data.h"

enum { VALUES_MAX = 1 << 28 };

/* --- attributes ------------------------------------------------------------------------------- */

static int check_int(struct sw_problems *problems, hid_t file, const char *name, int low, int high)
{
    int64_t value = 0;
    char place[64];
    snprintf(place, sizeof place, "attribute %s", name);
    if (sw_h5_get_int(file, name, &value) != SW_OK) {
        sw_error_clear();
        sw_problem(problems, NULL, place, "found none, expected an integer");
        return low;
    }
    if (value < low || value > high) {
        sw_problem(problems, NULL, place, "found %lld, expected %d…%d", (long long)value, low,
                   high);
        return low;
    }
    return (int)value;
}

static void check_text(struct sw_problems *problems, hid_t file, const char *name,
                       const char *expected, char *out, size_t size)
{
    char *text = NULL, place[64];
    snprintf(place, sizeof place, "attribute %s", name);
    if (sw_h5_get_text(file, name, &text) != SW_OK) {
        sw_error_clear();
        sw_problem(problems, NULL, place, "found none, expected a text");
        return;
    }
    if (expected && strcmp(text, expected) != 0)
        sw_problem(problems, NULL, place, "expected \"%s\"", expected);
    if (out)
        snprintf(out, size, "%s", text);
    free(text);
}

/* "ppl, all, …": what a score may be. */
static const char *score_names(char *text, size_t size)
{
    snprintf(text, size, "ppl");
    for (const struct sw_scorer *s = sw_scorers; s->name; s++)
        snprintf(text + strlen(text), size - strlen(text), ", %s", s->name);
    return text;
}

static void check_score(struct sw_problems *problems, hid_t file, struct sw_dataset_info *info)
{
    char score[24] = "", names[256];
    check_text(problems, file, "score", NULL, score, sizeof score);
    if (!*score)
        return;
    info->scorer = sw_scorer_find(score);
    bool windows = strcmp(score, "ppl") == 0;
    if (problems->count > 0)
        return; /* what the score is to be judged by is wrong itself */
    if (!windows && !info->scorer)
        sw_problem(problems, NULL, "attribute score", "expected one of %s",
                   score_names(names, sizeof names));
    else if (windows && (info->scored_tokens < 1 || info->scored_tokens >= info->context ||
                         info->max_new_tokens != 0))
        sw_problem(problems, NULL, "attribute scored_tokens",
                   "found %d, and max_new_tokens %d; score ppl expects 1…%d and 0",
                   info->scored_tokens, info->max_new_tokens, info->context - 1);
    else if (!windows && (info->max_new_tokens < 1 || info->max_new_tokens >= info->context ||
                          info->scored_tokens != 0))
        sw_problem(problems, NULL, "attribute max_new_tokens",
                   "found %d, and scored_tokens %d; score %s expects 1…%d and 0",
                   info->max_new_tokens, info->scored_tokens, score, info->context - 1);
}

static void check_lengths(struct sw_problems *problems, hid_t file, struct sw_dataset_info *info)
{
    char lengths[24] = "";
    check_text(problems, file, "lengths", NULL, lengths, sizeof lengths);
    info->at_most = strcmp(lengths, "at_most") == 0;
    if (*lengths && !info->at_most && strcmp(lengths, "exact") != 0)
        sw_problem(problems, NULL, "attribute lengths", "expected exact or at_most");
    if (info->at_most && !info->scorer)
        sw_problem(problems, NULL, "attribute lengths",
                   "found at_most; windows of score ppl are exact");
}

static void check_attributes(struct sw_problems *problems, hid_t file, struct sw_dataset_info *info)
{
    enum { VERSION = 2, MANY = 1 << 24 };
    int64_t version = VERSION;
    check_text(problems, file, "format", "swbench-dataset", NULL, 0);
    /* whatever else is missing: it was not there yet */
    if (sw_h5_get_int(file, "version", &version) == SW_OK && version >= 1 && version < VERSION) {
        sw_problem(problems, NULL, "attribute version",
                   "found %d, expected %d; datasets/prepare.py makes it anew", (int)version,
                   VERSION);
        return;
    }
    check_int(problems, file, "version", VERSION, VERSION);
    check_text(problems, file, "tokenizer_sha256", NULL, info->tokenizer_sha256,
               sizeof info->tokenizer_sha256);
    check_text(problems, file, "tokenizer_json_sha256", NULL, info->tokenizer_json_sha256,
               sizeof info->tokenizer_json_sha256);
    check_text(problems, file, "chat_template_sha256", NULL, info->chat_template_sha256,
               sizeof info->chat_template_sha256);
    check_text(problems, file, "special_ids", NULL, info->special_ids, sizeof info->special_ids);
    info->vocab = check_int(problems, file, "vocab_size", 1, MANY);
    info->context = check_int(problems, file, "context", 1, MANY);
    info->samples = check_int(problems, file, "n_samples", 1, MANY);
    info->max_new_tokens = check_int(problems, file, "max_new_tokens", 0, MANY);
    info->scored_tokens = check_int(problems, file, "scored_tokens", 0, MANY);
    check_score(problems, file, info);
    info->first_line = check_int(problems, file, "first_line", 0, 1);
    check_lengths(problems, file, info);
}

/* --- values ----------------------------------------------------------------------------------- */

/* A whole integer dataset of `rank` dimensions as int64. NULL with a problem written when it cannot
 * be had. count: its values. */
static int64_t *read_values(struct sw_problems *problems, hid_t file, const char *name, int rank,
                            int64_t *count)
{
    hid_t dataset = H5Lexists(file, name, H5P_DEFAULT) > 0 ? H5Dopen2(file, name, H5P_DEFAULT) : -1;
    hid_t type = dataset < 0 ? -1 : H5Dget_type(dataset),
          space = dataset < 0 ? -1 : H5Dget_space(dataset);
    hssize_t n = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    int64_t *values = NULL;
    *count = 0;
    if (type < 0 || H5Tget_class(type) != H5T_INTEGER ||
        H5Sget_simple_extent_ndims(space) != rank || n < 0 || n > VALUES_MAX)
        sw_problem(problems, NULL, name, "expected a %s of integers", rank > 1 ? "table" : "list");
    else if (!sw_h5_is_stored(dataset))
        sw_problem(problems, NULL, name, "claims more values than are stored");
    else if (!(values = malloc(((size_t)n + 1) * sizeof *values)))
        sw_problem(problems, NULL, name, "no memory for its %lld values", (long long)n);
    else if (H5Dread(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
        sw_problem(problems, NULL, name, "cannot be read (damaged or truncated file)");
        free(values);
        values = NULL;
    } else {
        *count = n;
    }
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (dataset >= 0)
        H5Dclose(dataset);
    return values;
}

static int64_t *read_ints(struct sw_problems *problems, hid_t file, const char *name,
                          int64_t *count)
{
    return read_values(problems, file, name, 1, count);
}

/* n_samples + 1 ascending offsets from 0 to `end` (negative: any end). */
static void check_offsets(struct sw_problems *problems, hid_t file, const char *name, int samples,
                          int64_t end)
{
    int64_t n, *offsets = read_ints(problems, file, name, &n);
    if (!offsets)
        return;
    bool good = n == (int64_t)samples + 1 && offsets[0] == 0 && (end < 0 || offsets[n - 1] == end);
    for (int64_t i = 1; good && i < n; i++)
        good = offsets[i] >= offsets[i - 1];
    if (!good)
        sw_problem(problems, NULL, name,
                   "expected %d ascending offsets from 0 to the length of what they index",
                   samples + 1);
    free(offsets);
}

/* The texts of a list, each of them not empty. Returns how many, -1 with a problem written. */
static int check_texts(struct sw_problems *problems, hid_t file, const char *name,
                       struct sw_texts *texts)
{
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0 || sw_h5_read_texts(file, name, texts) != SW_OK) {
        sw_error_clear();
        sw_problem(problems, NULL, name, "expected a list of texts of variable length");
        return -1;
    }
    for (int i = 0; i < texts->count; i++)
        if (!texts->items[i][0]) {
            sw_problem(problems, NULL, name, "found an empty text at [%d], expected none", i);
            break;
        }
    return texts->count;
}

/* What answers are scored against. */
static void check_expected(struct sw_problems *problems, hid_t file,
                           const struct sw_dataset_info *info)
{
    const struct sw_scorer *scorer = info->scorer;
    struct sw_texts references = {0}, classes = {0};
    int n = check_texts(problems, file, "references", &references);
    check_offsets(problems, file, "reference_offsets", info->samples, n);
    for (int i = 0; i < n && scorer->usable; i++)
        if (references.items[i][0] && !scorer->usable(references.items[i])) {
            sw_problem(problems, NULL, "references", "found none in [%d]; score %s expects %s", i,
                       scorer->name, scorer->expects);
            break;
        }
    if (scorer->classes && check_texts(problems, file, "classes", &classes) == 0)
        sw_problem(problems, NULL, "classes", "found none, expected the labels of the task");
    sw_texts_clear(&references);
    sw_texts_clear(&classes);
}

static void check_depth(struct sw_problems *problems, hid_t file,
                        const struct sw_dataset_info *info)
{
    double *depth = NULL;
    hsize_t dims[3] = {0};
    int rank = 0;
    if (H5Lexists(file, "depth", H5P_DEFAULT) <= 0)
        return;
    bool good = sw_h5_read_reals(file, "depth", &depth, dims, &rank) == SW_OK && rank == 1 &&
                dims[0] == (hsize_t)info->samples;
    sw_error_clear();
    if (!good)
        sw_problem(problems, NULL, "depth", "expected a list of %d real numbers", info->samples);
    for (int i = 0; good && i < info->samples; i++)
        if (depth[i] < 0 || depth[i] > 1) { /* NaN: the sample has none */
            sw_problem(problems, NULL, "depth", "found %g at [%d], expected 0…1 or NaN", depth[i],
                       i);
            break;
        }
    free(depth);
}

/* Pairs [first, last) of tokens; those that lie outside their sample are found when it is read. */
static void check_hops(struct sw_problems *problems, hid_t file, const struct sw_dataset_info *info)
{
    if (H5Lexists(file, "hops", H5P_DEFAULT) <= 0)
        return;
    int64_t n, *hops = read_values(problems, file, "hops", 2, &n);
    for (int64_t h = 0; hops && h + 1 < n; h += 2)
        if (hops[h] < 0 || hops[h + 1] <= hops[h] || hops[h + 1] > info->context) {
            sw_problem(problems, NULL, "hops",
                       "found tokens %lld to %lld at [%lld], expected a "
                       "range inside 0…%d",
                       (long long)hops[h], (long long)hops[h + 1], (long long)h / 2, info->context);
            break;
        }
    free(hops);
    if (hops)
        check_offsets(problems, file, "hop_offsets", info->samples, n / 2);
}

static void check_values(struct sw_problems *problems, hid_t file,
                         const struct sw_dataset_info *info)
{
    if (info->scorer)
        check_expected(problems, file, info);
    check_depth(problems, file, info);
    check_hops(problems, file, info);
    int64_t n, *ids = read_ints(problems, file, "ids", &n);
    if (!ids)
        return;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= info->vocab) {
            sw_problem(problems, NULL, "ids", "found %lld at [%lld], expected 0…%d",
                       (long long)ids[i], (long long)i, info->vocab - 1);
            break;
        }
    free(ids);
    check_offsets(problems, file, "offsets", info->samples, n);
}

static enum sw_status check_dataset(const char *path, FILE *messages, bool all,
                                    struct sw_dataset_info *out)
{
    struct sw_problems problems = {.out = messages, .file = path};
    *out = (struct sw_dataset_info){0};
    hid_t file;
    enum sw_status st = sw_foreign_open(path, &file);
    if (st != SW_OK) {
        fprintf(messages, "%s\n", sw_error_message());
        return st;
    }
    check_attributes(&problems, file, out);
    if (all && problems.count == 0)
        check_values(&problems, file, out);
    H5Fclose(file);
    if (problems.count > 0)
        return SW_FAIL(SW_EINPUT, "%s: %d problem%s", path, problems.count,
                       problems.count == 1 ? "" : "s");
    return SW_OK;
}

enum sw_status sw_dataset_check(const char *path, FILE *messages, struct sw_dataset_info *out)
{
    return check_dataset(path, messages, true, out);
}

enum sw_status sw_dataset_describe(const char *path, struct sw_dataset_info *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    if (!lines)
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    enum sw_status st = check_dataset(path, lines, false, out);
    if (fclose(lines) != 0 && st == SW_OK)
        st = SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    if (st == SW_EINPUT && text && *text) {
        sw_error_clear();
        st = SW_FAIL(SW_EINPUT, "%.*s", (int)strcspn(text, "\n"), text);
    }
    free(text);
    return st;
}
