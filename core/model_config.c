/* Reads config.json. Families differ in two switches; what this program does not compute is refused by name. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "core/model.h"

static const struct family {
    const char *type;
    bool qkv_bias, qk_norm;
} families[] = {
    {"llama", false, false},
    {"mistral", false, false},
    {"qwen2", true, false},
    {"qwen3", false, true},
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
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (r->messages)
        fprintf(r->messages, "%s: %s\n", r->path, text);
    if (r->problems++ == 0) {
        enum sw_status ignored = SW_FAIL(SW_EINPUT, "%s: %s", r->path, text);
        (void)ignored;
    }
}

static int read_int(struct reader *r, json_t *from, const char *key, int min, int max, int missing)
{
    json_t *value = json_object_get(from, key);
    if (!value || json_is_null(value)) {
        if (missing < min)
            problem(r, "'%s' is missing, expected an integer %d…%d", key, min, max);
        return missing;
    }
    /* eos_token_id may be a list: the first one stops. */
    if (json_is_array(value))
        value = json_array_get(value, 0);
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max) {
        problem(r, "'%s' is not an integer %d…%d", key, min, max);
        return min;
    }
    return (int)json_integer_value(value);
}

static double read_real(struct reader *r, json_t *from, const char *key, double min, double max, double missing)
{
    json_t *value = json_object_get(from, key);
    if (!value || json_is_null(value)) {
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

/* A switch that must be absent, null, or false. */
static void refuse_true(struct reader *r, const char *key)
{
    json_t *value = json_object_get(r->json, key);
    if (value && !json_is_null(value) && !json_is_false(value))
        problem(r, "'%s' is set; this program computes without it", key);
}

static void read_rope(struct reader *r, struct sw_model_config *c)
{
    c->rope = SW_ROPE_PLAIN;
    c->rope_factor = c->rope_attention = 1.0;
    json_t *scaling = json_object_get(r->json, "rope_scaling");
    if (!scaling)
        scaling = json_object_get(r->json, "rope_parameters"); /* newer transformers */
    if (!scaling || json_is_null(scaling))
        return;
    if (!json_is_object(scaling)) {
        problem(r, "'rope_scaling' is not an object or null");
        return;
    }
    if (json_object_get(scaling, "rope_theta"))
        c->rope_theta = read_real(r, scaling, "rope_theta", 1, 1e12, NAN);
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    if (!type)
        type = json_string_value(json_object_get(scaling, "type"));
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
        c->rope_original = read_int(r, scaling, "original_max_position_embeddings", 1, 100000000, 0);
        if (!(c->rope_high > c->rope_low))
            problem(r, "'high_freq_factor' %g is not above 'low_freq_factor' %g", c->rope_high, c->rope_low);
    } else if (strcmp(type, "yarn") == 0) {
        c->rope = SW_ROPE_YARN;
        c->rope_factor = read_real(r, scaling, "factor", 1, 1e6, NAN);
        c->rope_low = read_real(r, scaling, "beta_slow", 1e-3, 1e6, 1);
        c->rope_high = read_real(r, scaling, "beta_fast", 1e-3, 1e6, 32);
        c->rope_original = read_int(r, scaling, "original_max_position_embeddings", 1, 100000000, c->max_context);
        c->rope_attention = read_real(r, scaling, "attention_factor", 1e-3, 1e3, 0.1 * log(c->rope_factor) + 1.0);
        const char *const refused[] = {"mscale", "mscale_all_dim"};
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
            if (json_object_get(scaling, refused[i]))
                problem(r, "'rope_scaling.%s' is not supported", refused[i]);
    } else
        problem(r, "'rope_scaling.rope_type' is '%s', expected default, linear, llama3 or yarn", type);
}

static void read_family(struct reader *r, struct sw_model_config *c)
{
    const char *type = json_string_value(json_object_get(r->json, "model_type"));
    const struct family *family = NULL;
    for (size_t i = 0; type && i < sizeof families / sizeof *families; i++)
        if (strcmp(type, families[i].type) == 0)
            family = &families[i];
    if (!family) {
        problem(r, "'model_type' is '%s', expected llama, mistral, qwen2 or qwen3", type ? type : "(missing)");
        return;
    }
    snprintf(c->type, sizeof c->type, "%s", type);
    c->qkv_bias = family->qkv_bias;
    c->qk_norm = family->qk_norm;
    if (!family->qkv_bias)
        refuse_true(r, "attention_bias");
    refuse_true(r, "mlp_bias");
    json_t *window = json_object_get(r->json, "sliding_window"), *use = json_object_get(r->json, "use_sliding_window");
    bool windowed = strcmp(type, "mistral") == 0 ? json_is_integer(window) : json_is_true(use);
    if (windowed)
        problem(r, "'sliding_window' attention is not supported; set it to null to compare methods on full attention");
    const char *act = json_string_value(json_object_get(r->json, "hidden_act"));
    if (act && strcmp(act, "silu") != 0)
        problem(r, "'hidden_act' is '%s', expected silu", act);
}

enum sw_status sw_model_config_read(const char *folder, FILE *messages, struct sw_model_config *out)
{
    struct sw_model_config c = {.rope_attention = 1.0};
    char path[4096];
    if (snprintf(path, sizeof path, "%s/config.json", folder) >= (int)sizeof path)
        return SW_FAIL(SW_EINPUT, "%s: path too long", folder);
    json_error_t error;
    struct reader r = {.path = path, .json = json_load_file(path, JSON_REJECT_DUPLICATES, &error), .messages = messages};
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
    c.hidden = read_int(&r, r.json, "hidden_size", 1, 1 << 20, 0);
    c.intermediate = read_int(&r, r.json, "intermediate_size", 1, 1 << 22, 0);
    c.shape.n_layers = read_int(&r, r.json, "num_hidden_layers", 1, 4096, 0);
    c.shape.n_heads = read_int(&r, r.json, "num_attention_heads", 1, 4096, 0);
    c.shape.n_kv_heads = read_int(&r, r.json, "num_key_value_heads", 1, 4096, c.shape.n_heads);
    int implied = c.shape.n_heads > 0 ? c.hidden / c.shape.n_heads : 0;
    c.shape.head_dim = read_int(&r, r.json, "head_dim", 1, 1024, implied);
    c.vocab = read_int(&r, r.json, "vocab_size", 1, 1 << 24, 0);
    c.max_context = read_int(&r, r.json, "max_position_embeddings", 1, 1 << 28, 0);
    c.rms_eps = read_real(&r, r.json, "rms_norm_eps", 0, 1, NAN);
    c.rope_theta = read_real(&r, r.json, "rope_theta", 1, 1e12, 10000);
    c.bos = read_int(&r, r.json, "bos_token_id", -1, 1 << 24, -1);
    c.eos = read_int(&r, r.json, "eos_token_id", -1, 1 << 24, -1);
    c.tied = json_is_true(json_object_get(r.json, "tie_word_embeddings"));
    read_family(&r, &c);
    read_rope(&r, &c);
    if (r.problems == 0 && c.shape.n_heads % c.shape.n_kv_heads != 0)
        problem(&r, "'num_attention_heads' %d is no multiple of 'num_key_value_heads' %d", c.shape.n_heads, c.shape.n_kv_heads);
    if (r.problems == 0 && c.shape.head_dim % 2 != 0)
        problem(&r, "'head_dim' %d is odd, expected an even number (RoPE turns pairs)", c.shape.head_dim);
    json_decref(r.json);
    *out = c;
    return r.problems ? SW_EINPUT : SW_OK;
}

/* llama3: Meta's published rule: long wavelengths are divided by the factor, short ones kept, smooth between. yarn: Peng et al.,
 * arXiv 2309.00071, "NTK-by-parts": a ramp over dimensions between the ones that turn beta_fast and beta_slow times. */
void sw_model_inv_freq(const struct sw_model_config *c, float *inv_freq)
{
    const double two_pi = 6.283185307179586;
    int d = c->shape.head_dim;
    double low = 0, high = 0;
    if (c->rope == SW_ROPE_YARN) {
        double per_turn = 2 * log(c->rope_theta);
        low = floor(d * log(c->rope_original / (c->rope_high * two_pi)) / per_turn);
        high = ceil(d * log(c->rope_original / (c->rope_low * two_pi)) / per_turn);
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
            double wavelength = two_pi / f, smooth = (c->rope_original / wavelength - c->rope_low) / (c->rope_high - c->rope_low);
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
