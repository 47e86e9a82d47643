/* A workload's files: where they are, whether they belong together, and what they hash to. */
#include "harness/inputs/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/model/model.h"
#include "core/model/synthetic.h"
#include "harness/inputs/bundle_check.h"
#include "harness/inputs/dataset_check.h"

static enum sw_status out_of_memory(void)
{
    return SW_FAIL(SW_ENOMEM, "inputs: out of host memory");
}

static enum sw_status format_path(char **out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static enum sw_status format_path(char **out, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int used = vasprintf(out, format, ap);
    va_end(ap);
    if (used < 0)
        *out = NULL;
    return used < 0 ? out_of_memory() : SW_OK;
}

/* --- hashing ---------------------------------------------------------------------------------- */

/* Hashes of files, kept while size and time of change are the same. Plans are made by one
 * thread. */
struct kept {
    char *path;
    off_t size;
    struct timespec changed;
    XXH128_canonical_t hash;
};
static struct kept *kept;
static int n_kept;

void sw_inputs_forget(void)
{
    for (int i = 0; i < n_kept; i++)
        free(kept[i].path);
    free(kept);
    kept = NULL;
    n_kept = 0;
}

static enum sw_status hash_stream(const char *path, int fd, XXH128_canonical_t *out)
{
    enum { PIECE = 1 << 20 };
    enum sw_status st = SW_OK;
    XXH3_state_t *state = XXH3_createState();
    void *piece = malloc(PIECE);
    if (!state || !piece)
        st = out_of_memory();
    else
        XXH3_128bits_reset(state);
    while (st == SW_OK) {
        ssize_t got = read(fd, piece, PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            st = SW_FAIL(SW_EINPUT, "%s: cannot read: %s", path, strerror(errno));
        if (got <= 0)
            break;
        XXH3_128bits_update(state, piece, (size_t)got);
    }
    if (st == SW_OK)
        XXH128_canonicalFromHash(out, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    free(piece);
    return st;
}

static void keep(const char *path, const struct stat *about, const XXH128_canonical_t *hash)
{
    struct kept *more = realloc(kept, ((size_t)n_kept + 1) * sizeof *kept);
    if (!more)
        return; /* it is only a shortcut */
    kept = more;
    kept[n_kept] = (struct kept){strdup(path), about->st_size, about->st_mtim, *hash};
    n_kept += kept[n_kept].path != NULL;
}

static enum sw_status hash_file(const char *path, XXH128_canonical_t *out)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe is not waited for */
    if (fd < 0)
        return SW_FAIL(SW_EINPUT, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        close(fd);
        return SW_FAIL(SW_EINPUT, "%s: found something else, expected a file", path);
    }
    for (int i = 0; i < n_kept; i++)
        if (strcmp(kept[i].path, path) == 0 && kept[i].size == about.st_size &&
            kept[i].changed.tv_sec == about.st_mtim.tv_sec &&
            kept[i].changed.tv_nsec == about.st_mtim.tv_nsec) {
            *out = kept[i].hash;
            close(fd);
            return SW_OK;
        }
    enum sw_status st = hash_stream(path, fd, out);
    close(fd);
    if (st == SW_OK)
        keep(path, &about, out);
    return st;
}

static void write_hex(const XXH128_canonical_t *hash, char hex[33])
{
    for (size_t i = 0; i < sizeof hash->digest; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash->digest[i]);
}

enum sw_status sw_input_hash_file(const char *path, char hex[33])
{
    XXH128_canonical_t hash;
    SW_TRY(hash_file(path, &hash));
    write_hex(&hash, hex);
    return SW_OK;
}

/* Texts and file hashes that add up to one hash. */
struct mix {
    XXH3_state_t *state;
};

static void mix_text(struct mix *mix, const char *text)
{
    XXH3_128bits_update(mix->state, text, strlen(text) + 1);
}

static enum sw_status mix_file(struct mix *mix, const char *path)
{
    XXH128_canonical_t hash;
    SW_TRY(hash_file(path, &hash));
    XXH3_128bits_update(mix->state, &hash, sizeof hash);
    return SW_OK;
}

static enum sw_status mix_begin(struct mix *mix)
{
    mix->state = XXH3_createState();
    if (!mix->state)
        return out_of_memory();
    XXH3_128bits_reset(mix->state);
    return SW_OK;
}

static void mix_end(struct mix *mix, char hex[33])
{
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(mix->state));
    write_hex(&hash, hex);
    XXH3_freeState(mix->state);
}

/* --- models ----------------------------------------------------------------------------------- */

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* datasets/PART, or $SWBENCH_DATASETS/PART when the first is not there. Malloc'd. */
static enum sw_status in_datasets(const char *part, char **out)
{
    const char *elsewhere = getenv("SWBENCH_DATASETS");
    SW_TRY(format_path(out, "datasets/%s", part));
    if (!elsewhere || !*elsewhere || access(*out, F_OK) == 0)
        return SW_OK;
    char *other;
    SW_TRY(format_path(&other, "%s/%s", elsewhere, part));
    if (access(other, F_OK) != 0) {
        free(other);
        return SW_OK;
    }
    free(*out);
    *out = other;
    return SW_OK;
}

enum sw_status sw_input_model_folder(const char *model, char **out)
{
    char part[1100];
    *out = NULL;
    snprintf(part, sizeof part, "models/%s", model);
    SW_TRY(strchr(model, '/') ? format_path(out, "%s", model) : in_datasets(part, out));
    if (is_folder(*out))
        return SW_OK;
    enum sw_status st = SW_FAIL(
        SW_EINPUT, "%s: no such model folder; `python datasets/import_model.py` makes one", *out);
    free(*out);
    *out = NULL;
    return st;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int decides_outcome(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    return strcmp(entry->d_name, "config.json") == 0 ||
           (n > 12 && entry->d_name[0] != '.' &&
            strcmp(entry->d_name + n - 12, ".safetensors") == 0);
}

/* Weights, config and token table, in the order of their names. */
static enum sw_status mix_model(struct mix *mix, const char *folder)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, decides_outcome, by_name), weights = 0;
    if (n < 0)
        return SW_FAIL(SW_EINPUT, "%s: cannot list: %s", folder, strerror(errno));
    enum sw_status st = SW_OK;
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        if (st == SW_OK)
            st = format_path(&path, "%s/%s", folder, entries[i]->d_name);
        if (st == SW_OK) {
            mix_text(mix, entries[i]->d_name);
            st = mix_file(mix, path);
            weights += strcmp(entries[i]->d_name, "config.json") != 0 &&
                       strcmp(entries[i]->d_name, "tokenizer.safetensors") != 0;
        }
        free(path);
        free(entries[i]);
    }
    free(entries);
    if (st == SW_OK && weights == 0)
        st = SW_FAIL(
            SW_EINPUT,
            "%s: no weights, expected *.safetensors; `python datasets/import_model.py` makes them",
            folder);
    return st;
}

static enum sw_status load_json(const char *folder, const char *name, json_t **out)
{
    char *path;
    SW_TRY(format_path(&path, "%s/%s", folder, name));
    json_error_t error;
    *out = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    enum sw_status st =
        *out ? SW_OK
             : SW_FAIL(SW_EINPUT, "%s: %s; `python datasets/import_model.py` writes it", path,
                       error.text);
    free(path);
    return st;
}

static double count_parameters(const struct sw_model_config *c)
{
    double d = c->shape.head_dim, h = c->shape.n_heads, g = c->shape.n_kv_heads, w = c->hidden;
    return c->shape.n_layers * (2 * w * h * d + 2 * w * g * d + 3 * w * c->intermediate) +
           (c->tied ? 1.0 : 2.0) * w * c->vocab;
}

/* --- the three kinds -------------------------------------------------------------------------- */

static enum sw_status find_dataset(const struct sw_config *config,
                                   const struct sw_workload *workload, const char *model,
                                   const char *task, int context, char **out)
{
    char part[400];
    snprintf(part, sizeof part, "prepared/%.150s/%.120s-%d-s%llu-n%d.h5", model, task, context,
             (unsigned long long)config->seed, workload->samples);
    if (workload->data)
        SW_TRY(format_path(out, "%s/%s", workload->data, part + strlen("prepared/")));
    else
        SW_TRY(in_datasets(part, out));
    if (access(*out, F_OK) != 0)
        return SW_FAIL(SW_EINPUT, "%s: no such dataset; `python datasets/prepare.py %s` makes it",
                       *out, config->file);
    return SW_OK;
}

/* Whether a file of the model is the one that the dataset was made with, by the hash that the
 * importer wrote down. */
static bool same_file(const json_t *manifest, const char *name, const char *sha256)
{
    const char *now = json_string_value(json_object_get(json_object_get(manifest, "files"), name));
    return now && strcmp(now, sha256) == 0;
}

/* The first thing of the model that decides prompts and is another now, NULL: none. Where a dataset
 * uses no template, prepare.py alone knows whether it would now. */
static const char *changed_since(const json_t *manifest, const json_t *config,
                                 const struct sw_dataset_info *data)
{
    if (!same_file(manifest, "tokenizer.safetensors", data->tokenizer_sha256) ||
        !same_file(manifest, "tokenizer.json", data->tokenizer_json_sha256))
        return "tokenizer";
    if (*data->chat_template_sha256 &&
        !same_file(manifest, "chat_template.jinja", data->chat_template_sha256))
        return "chat template";
    static const char *const keys[] = {"bos_token_id", "eos_token_id"};
    const char *changed = NULL;
    json_t *ids = json_loads(data->special_ids, 0, NULL);
    for (int i = 0; i < 2 && !changed; i++)
        if (!json_equal(json_object_get(ids, keys[i]), json_object_get(config, keys[i])))
            changed = keys[i];
    json_decref(ids);
    return changed;
}

static enum sw_status match_dataset(const struct sw_input *in, const struct sw_model_config *model,
                                    const struct sw_dataset_info *data,
                                    const struct sw_workload *workload, int context)
{
    json_t *manifest = NULL, *config = NULL;
    enum sw_status st = load_json(in->model_folder, "swbench.json", &manifest);
    if (st == SW_OK)
        st = load_json(in->model_folder, "config.json", &config);
    const char *changed = st != SW_OK                   ? NULL
                          : data->vocab != model->vocab ? "tokenizer"
                                                        : changed_since(manifest, config, data);
    json_decref(manifest);
    json_decref(config);
    SW_TRY(st);
    if (changed)
        return SW_FAIL(SW_EINPUT,
                       "%s: %s of the dataset differs from the model's (%s); datasets/prepare.py "
                       "makes it anew",
                       in->file, changed, in->model_folder);
    if (data->context != context)
        return SW_FAIL(SW_EINPUT, "%s: found context %d, expected %d", in->file, data->context,
                       context);
    if (data->samples != workload->samples)
        return SW_FAIL(SW_EINPUT, "%s: found %d samples, expected %d", in->file, data->samples,
                       workload->samples);
    return SW_OK;
}

static enum sw_status describe_task(const struct sw_config *config,
                                    const struct sw_workload *workload, const char *task,
                                    int context, struct mix *mix, struct sw_input *out)
{
    struct sw_model_config model;
    struct sw_dataset_info data;
    SW_TRY(sw_input_model_folder(workload->model, &out->model_folder));
    SW_TRY(sw_model_config_read(out->model_folder, NULL, &model));
    out->shape = model.shape;
    out->n = context;
    out->max_context = model.max_context;
    out->parameters = count_parameters(&model);
    if (context > model.max_context)
        return SW_FAIL(SW_EINPUT,
                       "axes.context: found %d, expected at most %d, the longest that %s takes",
                       context, model.max_context, out->model_folder);
    SW_TRY(find_dataset(config, workload, sw_workload_model(workload), task, context, &out->file));
    SW_TRY(sw_dataset_describe(out->file, &data));
    SW_TRY(match_dataset(out, &model, &data, workload, context));
    out->decode_tokens = data.max_new_tokens;
    out->scored_tokens = data.scored_tokens;
    SW_TRY(mix_model(mix, out->model_folder));
    mix_text(mix, "dataset");
    SW_TRY(sw_input_hash_file(out->file, out->file_hash));
    return mix_file(mix, out->file);
}

static enum sw_status describe_tensors(const struct sw_workload *workload, struct mix *mix,
                                       struct sw_input *out)
{
    struct sw_bundle_info info;
    SW_TRY(format_path(&out->file, "%s", workload->path));
    SW_TRY(sw_bundle_describe(out->file, &info));
    out->shape = info.shape;
    out->n = info.n;
    out->decode_tokens = info.decode_tokens;
    return mix_file(mix, out->file);
}

static void describe_synthetic(const struct sw_config *config, const struct sw_workload *workload,
                               int context, struct mix *mix, struct sw_input *out)
{
    char text[256];
    out->shape = workload->shape->shape;
    if (workload->layers > 0)
        out->shape.n_layers = workload->layers;
    else if (out->shape.n_layers > 4 && !workload->whole_model)
        out->shape.n_layers = 4;
    out->n = context;
    out->decode_tokens = workload->decode_tokens;
    const struct sw_shape *s = &out->shape;
    snprintf(text, sizeof text, "%s %d: L%d H%d G%d d%d n%d+%d whole %d seed %llu",
             sw_generator_names[workload->generator], SW_SYNTHETIC_VERSION, s->n_layers, s->n_heads,
             s->n_kv_heads, s->head_dim, context, workload->decode_tokens, workload->whole_model,
             (unsigned long long)config->seed);
    mix_text(mix, text);
}

enum sw_status sw_input_describe(const struct sw_config *config, const struct sw_workload *workload,
                                 const char *task, int context, struct sw_input *out)
{
    struct mix mix;
    *out = (struct sw_input){0};
    SW_TRY(mix_begin(&mix));
    enum sw_status st = SW_OK;
    mix_text(&mix, sw_workload_kind_names[workload->kind]);
    switch (workload->kind) {
    case SW_WORKLOAD_TASK:
        st = describe_task(config, workload, task, context, &mix, out);
        break;
    case SW_WORKLOAD_TENSORS:
        st = describe_tensors(workload, &mix, out);
        break;
    case SW_WORKLOAD_SYNTHETIC:
        describe_synthetic(config, workload, context, &mix, out);
        break;
    }
    mix_end(&mix, out->hash);
    return st;
}

void sw_input_clear(struct sw_input *input)
{
    free(input->file);
    free(input->model_folder);
    *input = (struct sw_input){0};
}
