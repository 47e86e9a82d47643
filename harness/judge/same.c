/* Counterparts of a cell, found in an index sorted by what they share. */
#include "harness/judge/same.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/method.h"
#include "harness/config/param_json.h"
#include "harness/store/result.h"

struct sw_same {
    const struct sw_tidy_row **rows; /* sorted: by_share, then by_variant */
    int64_t count;
};

static int compare_densities(double a, double b) /* NaN (the method's own) last */
{
    return isnan(a) || isnan(b) ? (isnan(a) != 0) - (isnan(b) != 0) : (a > b) - (a < b);
}

/* What is looked up: conditions, metric, method. */
static int by_share(const struct sw_tidy_row *a, const struct sw_tidy_row *b)
{
    int c = strcmp(a->conditions, b->conditions);
    c = c ? c : strcmp(a->metric, b->metric);
    return c ? c : strcmp(a->method, b->method);
}

/* The order among those: it decides between equals, so it must not depend on keys, which change
 * with the code. */
static int by_variant(const void *left, const void *right)
{
    const struct sw_tidy_row *a = *(const struct sw_tidy_row *const *)left,
                             *b = *(const struct sw_tidy_row *const *)right;
    int c = by_share(a, b);
    c = c ? c : compare_densities(a->density, b->density);
    c = c ? c : strcmp(a->params, b->params);
    c = c ? c : strcmp(a->budget, b->budget);
    return c ? c : strcmp(a->experiment, b->experiment);
}

enum sw_status sw_same_make(const struct sw_tidy *tidy, struct sw_same **out)
{
    struct sw_same *same = calloc(1, sizeof *same);
    *out = NULL;
    if (same)
        same->rows = malloc(((size_t)tidy->count + 1) * sizeof *same->rows);
    if (!same || !same->rows) {
        free(same);
        return SW_FAIL(SW_ENOMEM, "out of memory (index of %lld rows)", (long long)tidy->count);
    }
    for (int64_t i = 0; i < tidy->count; i++) {
        const struct sw_tidy_row *row = &tidy->rows[i];
        if (row->layer < 0 && *row->metric &&
            strcmp(row->status, sw_result_status_names[SW_RESULT_OK]) == 0)
            same->rows[same->count++] = row;
    }
    qsort(same->rows, (size_t)same->count, sizeof *same->rows, by_variant);
    *out = same;
    return SW_OK;
}

void sw_same_free(struct sw_same *same)
{
    if (same)
        free(same->rows);
    free(same);
}

/* --- look-up ---------------------------------------------------------------------------------- */

/* The first row that is not before `wanted` in by_share, then by density (`after`: the first behind
 * all rows of that). */
static int64_t bound(const struct sw_same *same, const struct sw_tidy_row *wanted, bool density,
                     bool after)
{
    int64_t low = 0, high = same->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int c = by_share(same->rows[middle], wanted);
        if (c == 0 && density)
            c = compare_densities(same->rows[middle]->density, wanted->density);
        if (c < 0 || (after && c == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Rows of `method` with the conditions and metric of `row`, and its density if asked. */
static const struct sw_tidy_row *const *find_all(const struct sw_same *same,
                                                 const struct sw_tidy_row *row, const char *method,
                                                 bool density, int *n)
{
    struct sw_tidy_row wanted = *row;
    wanted.method = method;
    int64_t first = bound(same, &wanted, density, false);
    *n = (int)(bound(same, &wanted, density, true) - first);
    return same->rows + first;
}

static json_int_t block_size_of(const struct sw_tidy_row *row)
{
    json_t *params = json_loads(row->params, 0, NULL);
    json_int_t size = json_integer_value(json_object_get(params, "block_size"));
    json_decref(params);
    return size;
}

/* How many parameters two cells share, names and values, and as a tie-break how many of the first
 * one's are at their defaults: a one-hop cell of the same variant, block size and sketch is the
 * partner of a walk, and the default one that of a method which has none of these. */
static int likeness(const struct sw_tidy_row *candidate, const struct sw_tidy_row *row)
{
    const struct sw_method *method = sw_method_find(candidate->method);
    json_t *ours = json_loads(candidate->params, 0, NULL),
           *theirs = json_loads(row->params, 0, NULL);
    int shared = 0, defaults = 0;
    for (const struct sw_param *p = method ? method->params : NULL; p && p->name; p++) {
        json_t *value = json_object_get(ours, p->name);
        shared += value && json_equal(value, json_object_get(theirs, p->name));
        defaults += value && sw_param_json_is_default(p, value);
    }
    json_decref(ours);
    json_decref(theirs);
    return 100 * shared + defaults;
}

/* Of several the one of the same budget, then the most alike; else the first. */
static const struct sw_tidy_row *most_alike(const struct sw_tidy_row *const *rows, int n,
                                            const struct sw_tidy_row *row)
{
    const struct sw_tidy_row *best = n ? rows[0] : NULL;
    int most = -1;
    for (int i = 0; i < n && n > 1; i++) {
        int alike = 100000 * (strcmp(rows[i]->budget, row->budget) == 0) + likeness(rows[i], row);
        if (alike > most) {
            most = alike;
            best = rows[i];
        }
    }
    return best;
}

const struct sw_tidy_row *const *sw_same_all_dense(const struct sw_same *same,
                                                   const struct sw_tidy_row *row, int *n)
{
    return find_all(same, row, "dense", false, n);
}

const struct sw_tidy_row *sw_same_dense(const struct sw_same *same, const struct sw_tidy_row *row)
{
    int n;
    const struct sw_tidy_row *const *rows = sw_same_all_dense(same, row, &n);
    return most_alike(rows, n, row);
}

static bool has_kernel(const struct sw_tidy_row *dense, const char *kernel)
{
    json_t *params = json_loads(dense->params, 0, NULL);
    const char *found = json_string_value(json_object_get(params, "kernel"));
    bool same = found && strcmp(found, kernel) == 0;
    json_decref(params);
    return same;
}

/* kernel NULL: any. */
static const struct sw_tidy_row *fastest_of(const struct sw_tidy_row *const *rows, int n,
                                            const char *kernel)
{
    const struct sw_tidy_row *fastest = NULL;
    for (int i = 0; i < n; i++)
        if (isfinite(rows[i]->value) && (!fastest || rows[i]->value < fastest->value) &&
            (!kernel || has_kernel(rows[i], kernel)))
            fastest = rows[i];
    return fastest;
}

const struct sw_tidy_row *sw_same_baseline(const struct sw_same *same,
                                           const struct sw_tidy_row *row, bool *kernel)
{
    int n;
    const struct sw_tidy_row *const *rows = sw_same_all_dense(same, row, &n), *found = NULL;
    if (strcmp(row->baseline, sw_baseline_names[SW_BASELINE_FASTEST]) != 0)
        found = fastest_of(rows, n, row->baseline);
    *kernel = found != NULL;
    return found ? found : fastest_of(rows, n, NULL);
}

/* A method's own density is another for each method; and what runs by its own rule is beside no
 * one-hop of a set density. */
const struct sw_tidy_row *sw_same_one_hop(const struct sw_same *same, const struct sw_tidy_row *row)
{
    int n;
    if (isnan(row->density))
        return NULL;
    const struct sw_tidy_row *const *rows = find_all(same, row, "onehop", true, &n),
                                    *found = most_alike(rows, n, row);
    bool native = strcmp(row->budget, "native") == 0;
    return found && (strcmp(found->budget, "native") == 0) == native ? found : NULL;
}

static bool is_head_oracle(const struct sw_tidy_row *row)
{
    json_t *params = json_loads(row->params, 0, NULL);
    const char *unit = json_string_value(json_object_get(params, "unit")),
               *forced = json_string_value(json_object_get(params, "forced"));
    bool of_heads = unit && strcmp(unit, "head") == 0 && forced && strcmp(forced, "common") == 0;
    json_decref(params);
    return of_heads;
}

const struct sw_tidy_row *sw_same_oracle(const struct sw_same *same, const struct sw_tidy_row *row)
{
    int n;
    const struct sw_tidy_row *const *rows = find_all(same, row, "oracle", true, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i]->budget, row->budget) == 0 && is_head_oracle(rows[i]) &&
            block_size_of(rows[i]) == block_size_of(row))
            return rows[i];
    return NULL;
}

/* --- across code ------------------------------------------------------------------------------ */

/* 1.0 becomes 1: one number however it was spelled. */
static void respell(json_t *object)
{
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, name, value)
    {
        double real = json_real_value(value); /* 0 for anything else */
        if (json_is_object(value))
            respell(value);
        else if (json_is_real(value) && fabs(real) < 1e15 && real == trunc(real))
            json_object_set_new(object, name, json_integer((json_int_t)real));
    }
}

enum sw_status sw_same_across_code(const char *identity, char **out, char **input)
{
    static const char *const others[] = {"code",    "device", "variant", "input",
                                         "measure", "save",   "threads", "timing"};
    json_t *json = json_loads(identity, 0, NULL);
    *out = *input = NULL;
    if (!json_is_object(json)) {
        json_decref(json);
        return SW_FAIL(SW_EINPUT, "/provenance: identity is not a JSON object");
    }
    const char *hash = json_string_value(json_object_get(json, "input"));
    *input = strdup(hash ? hash : "");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        json_object_del(json, others[i]);
    const char *name = json_string_value(json_object_get(json, "method"));
    const struct sw_method *method = name ? sw_method_find(name) : NULL;
    if (method)
        sw_param_json_drop_defaults(method->params, json_object_get(json, "params"));
    respell(json);
    *out = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(json);
    return *out && *input ? SW_OK : SW_FAIL(SW_ENOMEM, "out of memory (identity)");
}
