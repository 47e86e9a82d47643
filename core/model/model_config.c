/* Reads config.json. Families differ in a few switches; what this program does not compute is
 * refused by name. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "core/model/model.h"
#include "core/model/model_keys.h"

/* What a family fixes, and what its Hugging Face class assumes of a key that is not there. */
static const struct family {
    const char *type;
    bool qkv_bias;      /* always: q, k and v have one */
    bool may_have_bias; /* `attention_bias` gives q, k, v and o one */
    bool qk_norm;
    bool window_by_switch; /* `sliding_window` counts only with `use_sliding_window` */
    int default_window;    /* 0: none */
    bool implied_kv_heads, implied_head_dim; /* may be left out: as many as heads; hidden / heads */
} families[] = {
    {.type = "llama", .may_have_bias = true, .implied_kv_heads = true, .implied_head_dim = true},
    {.type = "mistral", .default_window = 4096, .implied_head_dim = true},
    {.type = "qwen2", .qkv_bias = true, .window_by_switch = true, .implied_head_dim = true},
    {.type = "qwen3", .may_have_bias = true, .qk_norm = true, .window_by_switch = true},
};

struct reader {
    const char *path;
    json_t *json;
    FILE *messages;
    int problems;
};

/* Lists a problem; the first is also the error. */
static void __attribute__((format(printf, 2, 3))) problem(struct reader *r, const char *fmt, ...)
{
    char text[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sw_one_line(text);
    if (r->messages)
        fprintf(r->messages, "%s: %s\n", r->path, text);
    if (r->problems++ == 0) {
        enum sw_status ignored = SW_FAIL(SW_EINPUT, "%s: %s", r->path, text);
        (void)ignored;
    }
}

static void refuse_key(void *context, const char *text) { problem(context, "%s", text); }

static void warn_key(void *context, const char *text)
{
    struct reader *r = context;
    char line[640];
    snprintf(line, sizeof line, "%s", text);
    sw_one_line(line);
    if (r->messages)
        fprintf(r->messages, "%s: warning: %s\n", r->path, line);
}

/* NULL where the key is absent or null. */
static json_t *find(json_t *from, const char *key)
{
    json_t *value = json_object_get(from, key);
    return json_is_null(value) ? NULL : value;
}

static int read_int(struct reader *r, const char *key, int min, int max, int missing)
{
    json_t *value = find(r->json, key);
    if (!value) {
        if (missing < min)
            problem(r, "'%s' is missing, expected an integer %d…%d", key, min, max);
        return missing;
    }
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max) {
        problem(r, "'%s' is not an integer %d…%d", key, min, max);
        return min;
    }
    return (int)json_integer_value(value);
}

static double read_real(struct reader *r, json_t *from, const char *key, double min, double max,
                        double missing)
{
    json_t *value = find(from, key);
    if (!value) {
        if (isnan(missing))
            problem(r, "'%s' is missing, expected a number %g…%g", key, min, max);
        return missing;
    }
    double x = json_number_value(value);
    if (!json_is_number(value) || !(x >= min && x <= max)) {
        problem(r, "'%s' is not a number %g…%g", key, min, max);
        return min;
    }
    return x;
}

static bool read_bool(struct reader *r, json_t *from, const char *key, bool missing)
{
    json_t *value = find(from, key);
    if (value && !json_is_boolean(value))
        problem(r, "'%s' is not true or false", key);
    return value ? json_is_true(value) : missing;
}

/* Token ids: one, or (several) a list; null for none. They stand in datasets, so here they are only
 * judged. */
static void check_ids(struct reader *r, const char *key, bool several, int vocab)
{
    json_t *value = find(r->json, key);
    size_t count = several && json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; value && i < count; i++) {
        json_t *id = several && json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab) {
            char shown[64];
            sw_model_key_value(value, shown, sizeof shown);
            problem(r, "'%s' is %s, expected %s below 'vocab_size', %d", key, shown,
                    several ? "ids" : "an id", vocab);
            return;
        }
    }
}

/* The length a scaled RoPE was trained on stands in the scaling, or in some models beside it, where
 * it takes precedence. */
static int read_original(struct reader *r, json_t *scaling, double missing)
{
    json_t *beside = find(r->json, "original_max_position_embeddings"),
           *inside = find(scaling, "original_max_position_embeddings");
    if (beside && inside && json_number_value(beside) != json_number_value(inside))
        problem(r, "'original_max_position_embeddings' is %g in the RoPE scaling and %g beside it",
                json_number_value(inside), json_number_value(beside));
    double value = read_real(r, beside ? r->json : scaling, "original_max_position_embeddings", 1,
                             1e8, missing);
    return isnan(value) ? 0 : (int)value; /* a problem was named */
}

/* Every key of the scaling itself is known, or named. */
static void check_scaling_keys(struct reader *r, json_t *scaling)
{
    static const char *const known[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "beta_slow",
                                        "beta_fast",
                                        "original_max_position_embeddings",
                                        "attention_factor",
                                        "truncate",
                                        "finetuned"};
    static const char *const changing[] = {"mscale",      "mscale_all_dim", "short_factor",
                                           "long_factor", "mrope_section",  "llama_4_scaling_beta"};
    const char *key;
    json_t *value;
    json_object_foreach(scaling, key, value)
    {
        bool is_known = json_is_null(value), changes = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is_known |= strcmp(key, known[i]) == 0;
        for (size_t i = 0; i < sizeof changing / sizeof *changing; i++)
            changes |= strcmp(key, changing[i]) == 0;
        char shown[64], text[512];
        sw_model_key_value(value, shown, sizeof shown);
        if (is_known)
            continue;
        if (strcmp(key, "partial_rotary_factor") == 0) {
            if (!json_is_number(value) || json_number_value(value) != 1)
                problem(r,
                        "'rope_scaling.partial_rotary_factor' is %s, expected 1: RoPE on a part of "
                        "each head is not supported",
                        shown);
        } else if (changes)
            problem(r, "'rope_scaling.%s' is %s, expected null: it is not supported", key, shown);
        else {
            snprintf(
                text, sizeof text,
                "'rope_scaling.%.100s' is not understood (%s); computed as if it were not there",
                key, shown);
            warn_key(r, text);
        }
    }
}

static void read_rope(struct reader *r, struct sw_model_config *c)
{
    c->rope = SW_ROPE_PLAIN;
    c->rope_factor = c->rope_attention = 1.0;
    /* transformers 5 */
    json_t *scaling = find(r->json, "rope_scaling"), *newer = find(r->json, "rope_parameters");
    if (scaling && newer && !json_equal(scaling, newer))
        problem(r, "'rope_scaling' and 'rope_parameters' differ, expected one of them");
    if (!scaling)
        scaling = newer;
    if (!scaling)
        return;
    if (!json_is_object(scaling)) {
        problem(r, "'rope_scaling' is not an object or null");
        return;
    }
    check_scaling_keys(r, scaling);
    c->rope_theta = read_real(r, scaling, "rope_theta", 1, 1e12, c->rope_theta);
    const char *type = json_string_value(find(scaling, "rope_type"));
    if (!type)
        type = json_string_value(find(scaling, "type"));
    if (!type)
        problem(r, "'rope_scaling' has no 'rope_type'; expected default, linear, llama3 or yarn");
    else if (strcmp(type, "default") == 0)
        return;
    else if (strcmp(type, "linear") == 0) {
        c->rope = SW_ROPE_LINEAR;
        c->rope_factor = read_real(r, scaling, "factor", 1, 1e6, NAN);
    } else if (strcmp(type, "llama3") == 0) {
        c->rope = SW_ROPE_LLAMA3;
        c->rope_factor = read_real(r, scaling, "factor", 1, 1e6, NAN);
        c->rope_low = read_real(r, scaling, "low_freq_factor", 1e-3, 1e6, NAN);
        c->rope_high = read_real(r, scaling, "high_freq_factor", 1e-3, 1e6, NAN);
        c->rope_original = read_original(r, scaling, NAN);
        if (!(c->rope_high > c->rope_low))
            problem(r, "'high_freq_factor' %g is not above 'low_freq_factor' %g", c->rope_high,
                    c->rope_low);
    } else if (strcmp(type, "yarn") == 0) {
        c->rope = SW_ROPE_YARN;
        c->rope_factor = read_real(r, scaling, "factor", 1, 1e6, NAN);
        c->rope_low = read_real(r, scaling, "beta_slow", 1e-3, 1e6, 1);
        c->rope_high = read_real(r, scaling, "beta_fast", 1e-3, 1e6, 32);
        c->rope_original = read_original(r, scaling, c->max_context);
        c->rope_attention =
            read_real(r, scaling, "attention_factor", 1e-3, 1e3, 0.1 * log(c->rope_factor) + 1.0);
        c->rope_whole = read_bool(r, scaling, "truncate", true);
        if (!(c->rope_theta > 1))
            problem(r, "'rope_theta' is %g, expected more than 1 with yarn", c->rope_theta);
    } else
        problem(r, "'rope_scaling.rope_type' is '%s', expected default, linear, llama3 or yarn",
                type);
}

/* Attention within a window shorter than the model's context is refused; a longer one hides
 * nothing. */
static void check_window(struct reader *r, const struct family *family, int context)
{
    json_t *window = find(r->json, "sliding_window"), *types = find(r->json, "layer_types");
    double size = window                                       ? json_number_value(window)
                  : json_object_get(r->json, "sliding_window") ? 0
                                                               : family->default_window;
    bool switched = read_bool(r, r->json, "use_sliding_window", !family->window_by_switch),
         cuts = size > 0 && size < context;
    if (window && (!json_is_integer(window) || json_integer_value(window) < 1))
        problem(r, "'sliding_window' is not a positive integer or null");
    else if (cuts && !window)
        problem(r,
                "'sliding_window' is missing, which means %d in this family: a window below "
                "'max_position_embeddings' is not supported; "
                "expected null",
                family->default_window);
    else if (cuts && (switched || !family->window_by_switch))
        problem(r,
                "'sliding_window' is %g, below 'max_position_embeddings' %d: it is not supported; "
                "set it to null to compare methods on full "
                "attention",
                size, context);
    if (types && !json_is_array(types))
        problem(r, "'layer_types' is not a list or null");
    for (size_t l = 0; l < json_array_size(types); l++) {
        const char *type = json_string_value(json_array_get(types, l));
        bool whole = type && (strcmp(type, "full_attention") == 0 ||
                              (strcmp(type, "sliding_attention") == 0 && size >= context));
        if (!whole) {
            problem(r,
                    "'layer_types[%zu]' is '%s', expected full_attention: other layers are not "
                    "supported",
                    l, type ? type : "(no text)");
            return;
        }
    }
}

/* "llama, mistral, qwen2 or qwen3" */
static void unknown_family(struct reader *r, const char *type)
{
    enum { N = sizeof families / sizeof *families };
    char known[256] = "";
    for (int i = 0; i < N; i++) {
        size_t used = strlen(known);
        const char *separator = i == N - 1 ? " or " : ", ";
        snprintf(known + used, sizeof known - used, "%s%s", i ? separator : "", families[i].type);
    }
    problem(r, "'model_type' is '%s', expected %s", type ? type : "(missing)", known);
}

static const struct family *read_family(struct reader *r, struct sw_model_config *c)
{
    const char *type = json_string_value(json_object_get(r->json, "model_type"));
    const struct family *family = NULL;
    for (size_t i = 0; type && i < sizeof families / sizeof *families; i++)
        if (strcmp(type, families[i].type) == 0)
            family = &families[i];
    if (!family) {
        unknown_family(r, type);
        return &families[0];
    }
    snprintf(c->type, sizeof c->type, "%s", type);
    /* Of families that fix their biases the key is not read by Hugging Face either; importers write
     * what is the case. */
    bool bias = read_bool(r, r->json, "attention_bias", false);
    if (bias && !family->may_have_bias && !family->qkv_bias)
        problem(r, "'attention_bias' is true, expected false: '%s' has none", type);
    c->o_bias = bias && family->may_have_bias;
    c->qkv_bias = family->qkv_bias || c->o_bias;
    c->qk_norm = family->qk_norm;
    json_t *act = find(r->json, "hidden_act");
    const char *name = json_string_value(act);
    if (act && (!name || strcmp(name, "silu") != 0))
        problem(r, "'hidden_act' is '%s', expected silu", name ? name : "(no text)");
    return family;
}

enum sw_status sw_model_config_read(const char *folder, FILE *messages, struct sw_model_config *out)
{
    struct sw_model_config c = {.rope_attention = 1.0};
    char path[4096];
    if (snprintf(path, sizeof path, "%s/config.json", folder) >= (int)sizeof path)
        return SW_FAIL(SW_EINPUT, "%s: path too long", folder);
    json_error_t error;
    struct reader r = {.path = path,
                       .json = json_load_file(path, JSON_REJECT_DUPLICATES, &error),
                       .messages = messages};
    if (!json_is_object(r.json)) {
        bool parsed = r.json != NULL;
        json_decref(r.json);
        char place[32] = "";
        if (!parsed && error.line > 0)
            snprintf(place, sizeof place, ":%d", error.line);
        const char *found = parsed ? "found other JSON" : error.text;
        if (messages)
            fprintf(messages, "%s%s: expected a JSON object; %s\n", path, place, found);
        return SW_FAIL(SW_EINPUT, "%s%s: expected a JSON object; %s", path, place, found);
    }
    const struct family *family = read_family(&r, &c);
    c.hidden = read_int(&r, "hidden_size", 1, 1 << 20, 0);
    c.intermediate = read_int(&r, "intermediate_size", 1, 1 << 22, 0);
    c.shape.n_layers = read_int(&r, "num_hidden_layers", 1, 4096, 0);
    c.shape.n_heads = read_int(&r, "num_attention_heads", 1, 4096, 0);
    c.shape.n_kv_heads = read_int(&r, "num_key_value_heads", 1, 4096,
                                  family->implied_kv_heads ? c.shape.n_heads : 0);
    int implied = family->implied_head_dim && c.shape.n_heads > 0 ? c.hidden / c.shape.n_heads : 0;
    c.shape.head_dim = read_int(&r, "head_dim", 1, 1024, implied);
    c.vocab = read_int(&r, "vocab_size", 1, 1 << 24, 0);
    c.max_context = read_int(&r, "max_position_embeddings", 1, 1 << 28, 0);
    c.rms_eps = read_real(&r, r.json, "rms_norm_eps", 0, 1, NAN);
    c.rope_theta = read_real(&r, r.json, "rope_theta", 1, 1e12, 10000);
    c.tied = read_bool(&r, r.json, "tie_word_embeddings", false);
    check_ids(&r, "bos_token_id", false, c.vocab);
    check_ids(&r, "eos_token_id", true, c.vocab);
    read_rope(&r, &c);
    check_window(&r, family, c.max_context);
    sw_model_keys_check(r.json, &(struct sw_model_key_reports){&r, refuse_key, warn_key});
    if (r.problems == 0 && c.shape.n_heads % c.shape.n_kv_heads != 0)
        problem(&r, "'num_attention_heads' %d is no multiple of 'num_key_value_heads' %d",
                c.shape.n_heads, c.shape.n_kv_heads);
    if (r.problems == 0 && c.shape.head_dim % 2 != 0)
        problem(&r, "'head_dim' %d is odd, expected an even number (RoPE turns pairs)",
                c.shape.head_dim);
    json_decref(r.json);
    *out = c;
    return r.problems ? SW_EINPUT : SW_OK;
}

/* llama3: Meta's published rule: long wavelengths are divided by the factor, short ones kept,
 * smooth between. yarn: Peng et al., arXiv 2309.00071, "NTK-by-parts": a ramp over dimensions
 * between the ones that turn beta_fast and beta_slow times. */
void sw_model_inv_freq(const struct sw_model_config *c, float *inv_freq)
{
    const double two_pi = 6.283185307179586;
    int d = c->shape.head_dim;
    double low = 0, high = 0;
    if (c->rope == SW_ROPE_YARN) {
        double per_turn = 2 * log(c->rope_theta);
        low = d * log(c->rope_original / (c->rope_high * two_pi)) / per_turn;
        high = d * log(c->rope_original / (c->rope_low * two_pi)) / per_turn;
        if (c->rope_whole) {
            low = floor(low);
            high = ceil(high);
        }
        low = low < 0 ? 0 : low;
        high = high > d - 1 ? d - 1 : high;
        if (low == high)
            high += 0.001;
    }
    for (int i = 0; i < d / 2; i++) {
        double f = pow(c->rope_theta, -2.0 * i / d);
        if (c->rope == SW_ROPE_LINEAR)
            f /= c->rope_factor;
        if (c->rope == SW_ROPE_LLAMA3) {
            double wavelength = two_pi / f, smooth = (c->rope_original / wavelength - c->rope_low) /
                                                     (c->rope_high - c->rope_low);
            smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
            f = (1 - smooth) * f / c->rope_factor + smooth * f;
        }
        if (c->rope == SW_ROPE_YARN) {
            double ramp = (i - low) / (high - low);
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            f = f / c->rope_factor * ramp + f * (1 - ramp);
        }
        inv_freq[i] = (float)f;
    }
}
