/* Labels of cells, made from what their identities differ in. */
#include "harness/judge/label.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/method.h"
#include "core/texts.h"
#include "harness/judge/label_facts.h"

struct set {
    struct sw_label_item *items;
    struct sw_label_item **order; /* sorted by place */
    int n;
    struct sw_texts said; /* "model path" of each option that is a word */
};

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "out of memory (labels)"); }

/* --- which options are said ---------------------------------------------------------------------
 */

/* In `set->said`: an option is said of all cells of its model. */
static void name_option(const struct sw_label_item *item, const char *path, char word[400])
{
    snprintf(word, 400, "%s %s", item->model, path);
}

static bool is_said(const struct set *set, const struct sw_label_item *item,
                    const struct sw_fact *fact)
{
    char word[400];
    name_option(item, fact->path, word);
    return fact->said || sw_texts_have(&set->said, word);
}

static enum sw_status say(struct set *set, const struct sw_label_item *item, const char *path)
{
    char word[400];
    name_option(item, path, word);
    return sw_texts_have(&set->said, word) ? SW_OK : sw_texts_add(&set->said, word);
}

/* Every option in which the two differ becomes a word; or every one of the last facts. */
static enum sw_status say_differences(struct set *set, const struct sw_label_item *a,
                                      const struct sw_label_item *b, bool last)
{
    for (int i = 0; i < b->n; i++) {
        const char *path = b->facts[i].path, *other = sw_fact_value(a, path, i);
        enum sw_fact_role role = sw_role_of_fact(path);
        if (role == (last ? SW_FACT_LAST : SW_FACT_OPTION) &&
            (!other || strcmp(other, b->facts[i].value) != 0))
            SW_TRY(say(set, b, path));
    }
    return SW_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct sw_label_item *a = *(struct sw_label_item *const *)left,
                               *b = *(struct sw_label_item *const *)right;
    int c = strcmp(a->place, b->place);
    c = c || !a->label->name || !b->label->name ? c : strcmp(a->label->name, b->label->name);
    return c ? c : (a > b) - (a < b);
}

static bool same_words(const struct sw_label_item *a, const struct sw_label_item *b)
{
    bool named = a->label->name && b->label->name;
    return strcmp(a->place, b->place) == 0 &&
           (!named || strcmp(a->label->name, b->label->name) == 0);
}

/* One pass over the cells that nothing tells apart so far, each against the first of them. */
static enum sw_status tell_apart(struct set *set, bool last)
{
    qsort(set->order, (size_t)set->n, sizeof *set->order, by_place);
    for (int first = 0, i = 1; i < set->n; i++) {
        if (!same_words(set->order[first], set->order[i])) {
            first = i;
            continue;
        }
        SW_TRY(say_differences(set, set->order[first], set->order[i], last));
        SW_TRY(say_differences(set, set->order[i], set->order[first], last));
    }
    return SW_OK;
}

/* --- which parameters are said ---------------------------------------------------------------- */

/* "block_size" of "params.block_size" */
static const char *name_of(const char *path) { return strchr(path, '.') + 1; }

/* Whether `word` is one of "arxiv|softmax|icml". */
static bool has_choice(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = choices; at && *at; at += strcspn(at, "|"), at += *at == '|')
        if (strcspn(at, "|") == length && strncmp(at, word, length) == 0)
            return true;
    return false;
}

/* Whether the choices are words that need no name before them: "arxiv|icml", not "on|none". */
static bool are_words(const char *choices)
{
    static const char *const bare[] = {"on", "none", "true", "false"};
    for (size_t i = 0; i < sizeof bare / sizeof bare[0]; i++)
        if (has_choice(choices, bare[i]))
            return false;
    for (const char *at = choices; *at; at += strcspn(at, "|"), at += *at == '|')
        if (strcspn(at, "|") < 3)
            return false;
    return true;
}

/* A choice is said by its value alone where that is a word, and no other such parameter of the
 * method has it. */
static bool stands_alone(const struct sw_method *method, const char *name, const char *value)
{
    int owners = 0;
    bool own = false;
    for (const struct sw_param *p = method ? method->params : NULL; p && p->name; p++)
        if (has_choice(p->choices, value) && are_words(p->choices)) {
            owners++;
            own |= strcmp(p->name, name) == 0;
        }
    return own && owners == 1;
}

/* The parameters in which two cells differ, the best of them to begin with: a word that stands
 * alone, since it often decides which others count ("icml"), then in the method's order. */
struct choice {
    const char *path; /* NULL: none so far */
    int rank;
};

static void offer_differences(const struct sw_label_item *a, const struct sw_label_item *b,
                              struct choice *best)
{
    const struct sw_method *method = sw_method_find(a->method);
    for (int i = 0; i < a->n; i++) {
        const char *path = a->facts[i].path, *value = a->facts[i].value,
                   *other = sw_fact_value(b, path, i);
        if (sw_role_of_fact(path) != SW_FACT_PARAM || strcmp(other ? other : "", value) == 0)
            continue;
        int rank = i + (stands_alone(method, name_of(path), value) ? 0 : a->n);
        if (!best->path || rank < best->rank)
            *best = (struct choice){path, rank};
    }
}

/* By the value of a parameter, then as they were. */
static int by_key(const void *left, const void *right)
{
    const struct sw_label_item *a = *(struct sw_label_item *const *)left,
                               *b = *(struct sw_label_item *const *)right;
    int c = strcmp(a->key, b->key);
    c = c ? c : strcmp(a->place, b->place);
    return c ? c : (a > b) - (a < b);
}

static void say_param(struct sw_label_item *item, const char *path)
{
    for (int i = 0; i < item->n; i++)
        item->facts[i].said |= strcmp(item->facts[i].path, path) == 0;
}

/* Cells of one method, by place: the first parameter that tells some of one place apart becomes a
 * word of all, then each of its values is looked at by itself. So a parameter is not said of cells
 * that another word sets apart already: "icml", not "icml signed=false", beside "arxiv
 * signed=true". */
static void split(struct sw_label_item **items, int n)
{
    struct choice best = {NULL, 0};
    for (int i = 1; i < n; i++)
        if (strcmp(items[i - 1]->place, items[i]->place) == 0) {
            offer_differences(items[i - 1], items[i], &best);
            offer_differences(items[i], items[i - 1], &best);
        }
    if (!best.path)
        return;
    for (int i = 0; i < n; i++) {
        say_param(items[i], best.path);
        items[i]->key = sw_fact_text(items[i], best.path);
    }
    qsort(items, (size_t)n, sizeof *items, by_key);
    for (int from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && strcmp(items[from]->key, items[to]->key) == 0;)
            to++;
        split(items + from, to - from);
    }
}

static void choose_params(struct set *set)
{
    for (int i = 0; i < set->n; i++)
        set->items[i].key = set->items[i].method;
    qsort(set->order, (size_t)set->n, sizeof *set->order, by_key);
    for (int from = 0, to; from < set->n; from = to) {
        for (to = from + 1;
             to < set->n && strcmp(set->order[from]->method, set->order[to]->method) == 0;)
            to++;
        split(set->order + from, to - from);
    }
}

/* --- words ------------------------------------------------------------------------------------ */

/* Whether a parameter is as it is without being set; *native: by the published rule alone. */
static bool is_default(const struct sw_label_item *item, const struct sw_fact *fact, bool *native)
{
    const struct sw_method *method = sw_method_find(item->method);
    const struct sw_param *param =
        method ? sw_param_find(method->params, name_of(fact->path)) : NULL;
    *native = param && param->native && strcmp(sw_fact_text(item, "budget"), "native") == 0;
    if (!param)
        return false;
    const char *initial = *native ? param->native : *param->initial ? param->initial : "none";
    char *end;
    double value = strtod(fact->value, &end);
    bool number = end != fact->value && *end == '\0';
    return number ? value == strtod(initial, NULL) : strcmp(initial, fact->value) == 0;
}

/* Which of a cell's said parameters are written. Not those at their default beside one that is not,
 * so that a sweep of one parameter at a time names that one. Since two cells that a parameter sets
 * apart are not both at its default, they keep different words. */
static bool is_written(const struct sw_label_item *item, int at)
{
    const struct sw_method *method = sw_method_find(item->method);
    bool native, other = false;
    const struct sw_fact *fact = &item->facts[at];
    if (stands_alone(method, name_of(fact->path), fact->value) || !is_default(item, fact, &native))
        return true;
    for (int i = 0; i < item->n; i++) {
        const struct sw_fact *f = &item->facts[i];
        bool of_native;
        other |= i != at && f->said && !stands_alone(method, name_of(f->path), f->value) &&
                 (i < at || !is_default(item, f, &of_native));
    }
    return !native && !other;
}

static void write_param(FILE *out, const struct sw_label_item *item, const char *name,
                        const char *value)
{
    if (stands_alone(sw_method_find(item->method), name, value))
        fprintf(out, " %s", value);
    else /* block size: the field's letter */
        fprintf(out, " %s=%s", strcmp(name, "block_size") == 0 ? "B" : name, value);
}

/* Options whose values say what they are. */
static bool speaks_for_itself(const char *path)
{
    return strcmp(path, "backend") == 0 || strcmp(path, "device") == 0 ||
           strcmp(path, "budget") == 0 || strcmp(path, "variant") == 0;
}

static void write_option(FILE *out, const struct sw_fact *fact, bool first)
{
    const char *dot = strrchr(fact->path, '.'), *name = dot ? dot + 1 : fact->path;
    fprintf(out, "%s", first ? "" : " ");
    if (!speaks_for_itself(fact->path))
        fprintf(out, "%s=", name);
    fputs(fact->value, out);
}

/* The words of one role in the identity's order. */
static enum sw_status write_words(const struct set *set, const struct sw_label_item *item,
                                  bool params, char **text)
{
    size_t size = 0;
    bool first = true;
    FILE *out = open_memstream(text, &size);
    if (!out)
        return no_memory();
    if (params)
        fputs(*item->method ? item->method : "unknown", out);
    for (int i = 0; i < item->n; i++) {
        const struct sw_fact *fact = &item->facts[i];
        enum sw_fact_role role = sw_role_of_fact(fact->path);
        if (role == SW_FACT_PLACE || role == SW_FACT_NEVER || (role == SW_FACT_PARAM) != params ||
            !is_said(set, item, fact))
            continue;
        if (params && is_written(item, i))
            write_param(out, item, name_of(fact->path), fact->value);
        else if (!params)
            write_option(out, fact, first);
        first = false;
    }
    return fclose(out) == 0 && *text ? SW_OK : no_memory();
}

static void clear_label(struct sw_label *label)
{
    free(label->method);
    free(label->options);
    free(label->name);
    free(label->full);
    *label = (struct sw_label){0};
}

static const char *density_of(const struct sw_label_item *item, char text[SW_DENSITY_TEXT])
{
    const char *value = sw_fact_value(item, "density", item->n);
    return sw_density_text(!value || strcmp(value, "none") == 0 ? NAN : strtod(value, NULL), text);
}

static enum sw_status compose(const struct set *set, struct sw_label_item *item)
{
    struct sw_label *l = item->label;
    const struct sw_method *method = sw_method_find(item->method);
    bool dense = method && method->flags & SW_METHOD_DENSE;
    char number[SW_DENSITY_TEXT], density[SW_DENSITY_TEXT + 16] = "";
    clear_label(l);
    SW_TRY(write_words(set, item, true, &l->method));
    SW_TRY(write_words(set, item, false, &l->options));
    const char *space = *l->options ? " " : "", *task = sw_label_task(item);
    if (!dense && *item->method)
        snprintf(density, sizeof density, " density %s", density_of(item, number));
    if (asprintf(&l->name, "%s%s%s", l->method, space, l->options) < 0)
        l->name = NULL;
    if (l->name &&
        asprintf(&l->full, "%s%s%s n=%s %s %s%s%s%s", sw_fact_text(item, "workload.model"),
                 *task ? " " : "", task, sw_fact_text(item, "context"), sw_fact_text(item, "phase"),
                 l->method, density, space, l->options) < 0)
        l->full = NULL;
    return l->full ? SW_OK : no_memory();
}

static enum sw_status compose_all(struct set *set)
{
    for (int i = 0; i < set->n; i++)
        SW_TRY(compose(set, &set->items[i]));
    return SW_OK;
}

/* --- a set of cells --------------------------------------------------------------------------- */

static void clear_set(struct set *set)
{
    for (int i = 0; set->items && i < set->n; i++)
        sw_label_item_clear(&set->items[i]);
    free(set->items);
    free(set->order);
    sw_texts_clear(&set->said);
}

enum sw_status sw_labels_make(const char *const *identities, int n, struct sw_label **out)
{
    struct set set = {.items = calloc((size_t)n + 1, sizeof *set.items),
                      .order = calloc((size_t)n + 1, sizeof(struct sw_label_item *)),
                      .n = n};
    struct sw_label *labels = calloc((size_t)n + 1, sizeof *labels);
    enum sw_status st = set.items && set.order && labels ? SW_OK : no_memory();
    for (int i = 0; i < n && st == SW_OK; i++) {
        set.items[i].label = &labels[i];
        set.order[i] = &set.items[i];
        st = sw_label_item_read(&set.items[i], identities[i]);
    }
    if (st == SW_OK)
        choose_params(&set);
    for (int last = 0; last < 2; last++) {
        if (st == SW_OK)
            st = tell_apart(&set, last);
        if (st == SW_OK)
            st = compose_all(&set);
    }
    clear_set(&set);
    if (st != SW_OK) {
        sw_labels_free(labels, n);
        labels = NULL;
    }
    *out = labels;
    return st;
}

enum sw_status sw_label_plan(const struct sw_plan *plan, struct sw_label **out)
{
    const char **identities = calloc((size_t)plan->count + 1, sizeof *identities);
    *out = NULL;
    if (!identities)
        return no_memory();
    for (int i = 0; i < plan->count; i++)
        identities[i] = plan->cells[i].identity;
    enum sw_status st = sw_labels_make(identities, plan->count, out);
    free(identities);
    return st;
}

void sw_labels_free(struct sw_label *labels, int n)
{
    for (int i = 0; labels && i < n; i++)
        clear_label(&labels[i]);
    free(labels);
}

const char *sw_density_text(double density, char text[SW_DENSITY_TEXT])
{
    if (isnan(density))
        snprintf(text, SW_DENSITY_TEXT, "native");
    else
        snprintf(text, SW_DENSITY_TEXT, "%g", density);
    return text;
}
