/* What decides a cell's outcome, as JSON, and the hashes made of it. */
#include "harness/config/identity.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "harness/config/param_json.h"
#include "sw_version.h"

static enum sw_status no_memory(void)
{
    return SW_FAIL(SW_ENOMEM, "out of host memory (identity of a cell)");
}

/* --- what decides the outcome ----------------------------------------------------------------- */

static json_t *names_json(const char *const *names, unsigned set)
{
    json_t *list = json_array();
    for (int i = 0; names[i]; i++)
        if (set & 1u << i)
            (void)json_array_append_new(list, json_string(names[i]));
    return list;
}

/* Names, not paths: the content counts, by the input's hash. */
static json_t *workload_json(const struct sw_cell *cell)
{
    const struct sw_workload *w = cell->workload;
    json_t *out =
        json_pack("{s:s, s:s}", "kind", sw_cell_workload(cell), "model", sw_cell_model(cell));
    if (w->kind == SW_WORKLOAD_TASK)
        (void)json_object_update_new(out, json_pack("{s:s, s:i, s:i}", "task", sw_cell_task(cell),
                                                    "samples", w->samples, "recovery_samples",
                                                    w->recovery_samples));
    if (w->kind == SW_WORKLOAD_SYNTHETIC)
        (void)json_object_update_new(
            out, json_pack("{s:s, s:i, s:i, s:i}", "generator", sw_cell_task(cell), "layers",
                           cell->shape.n_layers, "decode_tokens", w->decode_tokens, "whole_model",
                           w->whole_model));
    return out;
}

static json_t *param_files_json(const struct sw_texts *files)
{
    json_t *out = json_object();
    for (int i = 0; i + 1 < files->count; i += 2)
        (void)json_object_set_new(out, files->items[i], json_string(files->items[i + 1]));
    return out;
}

static json_t *timing_json(const struct sw_timing *timing)
{
    return json_pack("{s:f, s:i, s:f, s:f}", "warmup_ms", timing->warmup_ms, "min_runs",
                     timing->min_runs, "max_seconds", timing->max_seconds, "target_error",
                     timing->target_error);
}

/* As asked for, by the config or, where that leaves it open, by the environment; 0: all cores. */
static json_int_t asked_threads(const struct sw_config *config)
{
    const char *environment = getenv("SWBENCH_THREADS"); /* the backend has refused a bad one */
    return config->threads > 0 || !environment ? config->threads : strtol(environment, NULL, 10);
}

/* NULL when out of memory, or when a text is not UTF-8. */
static json_t *identity_json(const struct sw_cell *cell, const struct sw_backend *backend)
{
    const struct sw_config *c = cell->config;
    json_t *density = isnan(cell->density) ? json_null() : json_real(cell->density);
    json_t *out = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:o, s:i, s:o, s:s, s:s, s:i, s:I, s:o, s:o}",
        "version", 1, "code", SW_CODE_HASH, "backend", backend->name, "device", backend->device,
        "variant", backend->variant, "workload", workload_json(cell), "input", cell->input_hash,
        "method", cell->method->name, "params", json_loads(cell->params_json, 0, NULL), "context",
        cell->context, "density", density, "phase", sw_phase_names[cell->phase], "budget",
        sw_budget_mode_names[cell->budget], "dense_layers", cell->dense_layers, "seed",
        (json_int_t)cell->seed, "measure", names_json(sw_measure_names, c->measure), "save",
        names_json(sw_save_names, c->save));
    if (cell->param_files.count)
        (void)json_object_set_new(out, "param_files", param_files_json(&cell->param_files));
    /* The number of threads decides no metric but time, so it counts only where that is measured,
     * and as asked for: a sweep that shares cores out among processes keeps its keys. */
    if (c->measure & SW_MEASURE_LATENCY) {
        (void)json_object_set_new(out, "threads", json_integer(asked_threads(c)));
        (void)json_object_set_new(out, "timing", timing_json(&c->timing));
    }
    return out;
}

/* --- hashes ----------------------------------------------------------------------------------- */

/* Values are hashed, not their text: the digits that a JSON library writes for a number differ from
 * version to version. A pair of hashes is hashed again, so that no order or nesting is lost. */
static XXH128_hash_t hash_value(const json_t *value);

static XXH128_hash_t hash_pair(XXH128_hash_t a, XXH128_hash_t b)
{
    const XXH128_hash_t both[2] = {a, b};
    return XXH3_128bits(both, sizeof both);
}

/* 1 and 1.0 are one number. */
static XXH128_hash_t hash_number(const json_t *value)
{
    double real = json_number_value(value);
    int64_t whole = json_integer_value(value); /* 0 for a real */
    if (json_is_real(value) && fabs(real) < 1e15 && real == trunc(real))
        whole = (int64_t)real;
    else if (json_is_real(value))
        return XXH3_128bits_withSeed(&real, sizeof real, JSON_REAL);
    return XXH3_128bits_withSeed(&whole, sizeof whole, JSON_INTEGER);
}

static bool is_among(const char *const *names, const char *name)
{
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

/* The members of an object, in whatever order, but for those in `without`. */
static XXH128_hash_t hash_members(const json_t *object, const char *const *without)
{
    XXH128_hash_t sum = {0};
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)object, key, member)
    {
        if (is_among(without, key))
            continue;
        XXH128_hash_t one = hash_pair(XXH3_128bits(key, strlen(key)), hash_value(member));
        sum.low64 += one.low64;
        sum.high64 += one.high64;
    }
    return XXH3_128bits_withSeed(&sum, sizeof sum, JSON_OBJECT);
}

static XXH128_hash_t hash_list(const json_t *list)
{
    XXH128_hash_t all = XXH3_128bits_withSeed("", 0, JSON_ARRAY);
    for (size_t i = 0; i < json_array_size(list); i++)
        all = hash_pair(all, hash_value(json_array_get(list, i)));
    return all;
}

static XXH128_hash_t hash_value(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return hash_members(value, NULL);
    case JSON_ARRAY:
        return hash_list(value);
    case JSON_INTEGER:
    case JSON_REAL:
        return hash_number(value);
    case JSON_STRING:
        return XXH3_128bits_withSeed(json_string_value(value), json_string_length(value),
                                     JSON_STRING);
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
        break;
    }
    return XXH3_128bits_withSeed("", 0, json_typeof(value));
}

static void write_hash(XXH128_hash_t hash, char out[SW_HASH_SIZE])
{
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, hash);
    for (size_t i = 0; i < sizeof bytes.digest; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes.digest[i]);
}

/* Takes the defaults out of the identity's params. */
static void hash_identity(json_t *identity, struct sw_identity_hashes *out)
{
    static const char *const code[] = {"code", NULL};
    static const char *const not_shared[] = {"code",    "method", "params", "param_files",
                                             "density", "budget", NULL};
    write_hash(hash_members(identity, NULL), out->key);
    write_hash(hash_members(identity, not_shared), out->conditions);
    const char *name = json_string_value(json_object_get(identity, "method"));
    const struct sw_method *method = name ? sw_method_find(name) : NULL;
    if (method)
        sw_param_json_drop_defaults(method->params, json_object_get(identity, "params"));
    write_hash(hash_members(identity, code), out->experiment);
}

enum sw_status sw_identity_hash(const char *identity, struct sw_identity_hashes *out)
{
    json_t *json = json_loads(identity, 0, NULL);
    bool known = json_is_string(json_object_get(json, "code"));
    if (known)
        hash_identity(json, out);
    json_decref(json);
    return known ? SW_OK : SW_FAIL(SW_EINPUT, "not an identity of a cell: no member \"code\"");
}

enum sw_status sw_identify(struct sw_cell *cell, const struct sw_backend *backend)
{
    struct sw_identity_hashes hashes;
    json_t *json = identity_json(cell, backend);
    free(cell->identity);
    cell->identity = json ? json_dumps(json, 0) : NULL;
    if (cell->identity)
        hash_identity(json, &hashes);
    json_decref(json);
    if (!cell->identity)
        return no_memory();
    memcpy(cell->key, hashes.key, SW_HASH_SIZE);
    memcpy(cell->experiment, hashes.experiment, SW_HASH_SIZE);
    memcpy(cell->conditions, hashes.conditions, SW_HASH_SIZE);
    return SW_OK;
}
