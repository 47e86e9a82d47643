/* Labels of cells, made from what their identities differ in. */
#include "harness/judge/label.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/method.h"
#include "core/texts.h"

/* One member of an identity: "params.block_size" and "64". */
struct fact {
    const char *path, *value;
};

/* A cell of the set. Facts point into `text`. */
struct item {
    char *text;
    struct fact *facts;
    int n;
    const char *method;
    char
        *place; /* what every table shows of it: cells of one place need words to tell them apart */
    char *model; /* kind and name: where an option is said */
    struct sw_label *label;
};

struct set {
    struct item *items;
    struct item **order; /* sorted by place */
    int n;
    struct sw_texts said; /* "scope path" of each fact that is a word */
};

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "out of memory (labels)"); }

/* --- the facts of an identity ----------------------------------------------------------------- */

/* What a fact is for a label. LAST: said only where nothing else tells two cells apart, since other
 * facts imply it (another task has other content). */
enum role { PLACE, PARAM, OPTION, LAST, NEVER };

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static enum role role_of(const char *path)
{
    static const struct {
        const char *path;
        enum role role;
    } known[] = {
        {"workload.kind", PLACE}, {"workload.model", PLACE},
        {"workload.task", PLACE}, {"workload.generator", PLACE},
        {"context", PLACE},       {"phase", PLACE},
        {"method", PLACE},        {"density", PLACE},
        {"input", LAST},          {"measure", LAST},
        {"save", LAST},           {"code", NEVER},
        {"version", NEVER},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].path, path) == 0)
            return known[i].role;
    return begins_with(path, "params.") ? PARAM : begins_with(path, "param_files.") ? LAST : OPTION;
}

/* A value as it is read: no quotes; members of a list joined by '+'. */
static void write_value(FILE *out, const json_t *value)
{
    size_t i;
    const json_t *member;
    if (json_is_string(value))
        fputs(json_string_value(value), out);
    else if (json_is_integer(value))
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        fprintf(out, "%.15g", json_real_value(value));
    else if (json_is_array(value))
        json_array_foreach(value, i, member)
        {
            fputs(i ? "+" : "", out);
            write_value(out, member);
        }
    else
        fputs(json_is_true(value) ? "true" : json_is_false(value) ? "false" : "none", out);
}

/* Writes "path\0value\0" of each member, objects opened. Returns how many. */
static int flatten(FILE *out, const char *prefix, const json_t *object)
{
    int n = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        if (json_is_object(value)) {
            char inner[160];
            snprintf(inner, sizeof inner, "%s%s.", prefix, name);
            n += flatten(out, inner, value);
            continue;
        }
        fprintf(out, "%s%s%c", prefix, name, '\0');
        write_value(out, value);
        fputc('\0', out);
        n++;
    }
    return n;
}

static enum sw_status read_facts(const char *identity, struct item *item)
{
    size_t size = 0;
    FILE *out = open_memstream(&item->text, &size);
    if (!out)
        return no_memory();
    json_t *json = json_loads(identity, 0, NULL);
    item->n = flatten(out, "", json);
    json_decref(json);
    if (fclose(out) != 0 || !item->text)
        return no_memory();
    item->facts = calloc((size_t)item->n + 1, sizeof *item->facts);
    if (!item->facts)
        return no_memory();
    const char *at = item->text;
    for (int i = 0; i < item->n; i++) {
        item->facts[i].path = at;
        item->facts[i].value = at += strlen(at) + 1;
        at += strlen(at) + 1;
    }
    return SW_OK;
}

/* The value of a fact, NULL where the identity has none. hint: where it is likely to be. */
static const char *value_of(const struct item *item, const char *path, int hint)
{
    if (hint < item->n && strcmp(item->facts[hint].path, path) == 0)
        return item->facts[hint].value;
    for (int i = 0; i < item->n; i++)
        if (strcmp(item->facts[i].path, path) == 0)
            return item->facts[i].value;
    return NULL;
}

static const char *text_of(const struct item *item, const char *path)
{
    const char *value = value_of(item, path, item->n);
    return value ? value : "";
}

static const char *task_of(const struct item *item)
{
    const char *task = value_of(item, "workload.task", item->n);
    return task ? task : text_of(item, "workload.generator");
}

static enum sw_status add_item(struct item *item, const char *identity)
{
    SW_TRY(read_facts(identity, item));
    item->method = text_of(item, "method");
    if (asprintf(&item->model, "%s %s", text_of(item, "workload.kind"),
                 text_of(item, "workload.model")) < 0)
        item->model = NULL;
    if (item->model && asprintf(&item->place, "%s %s %s %s %s %s", item->model, task_of(item),
                                text_of(item, "context"), text_of(item, "phase"), item->method,
                                text_of(item, "density")) < 0)
        item->place = NULL;
    return item->place ? SW_OK : no_memory();
}

/* --- which facts are said --------------------------------------------------------------------- */

static bool is_said(const struct set *set, const struct item *item, const char *path)
{
    char word[400];
    enum role role = role_of(path);
    snprintf(word, sizeof word, "%s %s", role == PARAM ? item->method : item->model, path);
    return sw_texts_have(&set->said, word);
}

static enum sw_status say(struct set *set, const struct item *item, const char *path)
{
    char word[400];
    enum role role = role_of(path);
    snprintf(word, sizeof word, "%s %s", role == PARAM ? item->method : item->model, path);
    return sw_texts_have(&set->said, word) ? SW_OK : sw_texts_add(&set->said, word);
}

/* Every fact in which the two differ becomes a word: parameters and options, or the last ones. */
static enum sw_status say_differences(struct set *set, const struct item *a, const struct item *b,
                                      bool last)
{
    for (int i = 0; i < b->n; i++) {
        const char *path = b->facts[i].path, *other = value_of(a, path, i);
        enum role role = role_of(path);
        bool said = last ? role == LAST : role == PARAM || role == OPTION;
        if (said && (!other || strcmp(other, b->facts[i].value) != 0))
            SW_TRY(say(set, b, path));
    }
    return SW_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct item *a = *(struct item *const *)left, *b = *(struct item *const *)right;
    int c = strcmp(a->place, b->place);
    c = c || !a->label->name || !b->label->name ? c : strcmp(a->label->name, b->label->name);
    return c ? c : (a > b) - (a < b);
}

static bool same_words(const struct item *a, const struct item *b)
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

/* --- words ------------------------------------------------------------------------------------ */

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

static void write_param(FILE *out, const struct item *item, const char *name, const char *value)
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

static void write_option(FILE *out, const struct fact *fact, bool first)
{
    const char *dot = strrchr(fact->path, '.'), *name = dot ? dot + 1 : fact->path;
    fprintf(out, "%s", first ? "" : " ");
    if (!speaks_for_itself(fact->path))
        fprintf(out, "%s=", name);
    fputs(fact->value, out);
}

/* The words of one role in the identity's order. */
static enum sw_status write_words(const struct set *set, const struct item *item, bool params,
                                  char **text)
{
    size_t size = 0;
    bool first = true;
    FILE *out = open_memstream(text, &size);
    if (!out)
        return no_memory();
    if (params)
        fputs(*item->method ? item->method : "unknown", out);
    for (int i = 0; i < item->n; i++) {
        const struct fact *fact = &item->facts[i];
        enum role role = role_of(fact->path);
        if (role == PLACE || role == NEVER || (role == PARAM) != params ||
            !is_said(set, item, fact->path))
            continue;
        if (params)
            write_param(out, item, strchr(fact->path, '.') + 1, fact->value);
        else
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

static const char *density_of(const struct item *item, char text[SW_DENSITY_TEXT])
{
    const char *value = value_of(item, "density", item->n);
    return sw_density_text(!value || strcmp(value, "none") == 0 ? NAN : strtod(value, NULL), text);
}

static enum sw_status compose(const struct set *set, struct item *item)
{
    struct sw_label *l = item->label;
    const struct sw_method *method = sw_method_find(item->method);
    bool dense = method && method->flags & SW_METHOD_DENSE;
    char number[SW_DENSITY_TEXT], density[SW_DENSITY_TEXT + 16] = "";
    clear_label(l);
    SW_TRY(write_words(set, item, true, &l->method));
    SW_TRY(write_words(set, item, false, &l->options));
    const char *space = *l->options ? " " : "", *task = task_of(item);
    if (!dense && *item->method)
        snprintf(density, sizeof density, " density %s", density_of(item, number));
    if (asprintf(&l->name, "%s%s%s", l->method, space, l->options) < 0)
        l->name = NULL;
    if (l->name && asprintf(&l->full, "%s%s%s n=%s %s %s%s%s%s", text_of(item, "workload.model"),
                            *task ? " " : "", task, text_of(item, "context"),
                            text_of(item, "phase"), l->method, density, space, l->options) < 0)
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
    for (int i = 0; set->items && i < set->n; i++) {
        free(set->items[i].text);
        free(set->items[i].facts);
        free(set->items[i].place);
        free(set->items[i].model);
    }
    free(set->items);
    free(set->order);
    sw_texts_clear(&set->said);
}

enum sw_status sw_labels_make(const char *const *identities, int n, struct sw_label **out)
{
    struct set set = {.items = calloc((size_t)n + 1, sizeof *set.items),
                      .order = calloc((size_t)n + 1, sizeof(struct item *)),
                      .n = n};
    struct sw_label *labels = calloc((size_t)n + 1, sizeof *labels);
    enum sw_status st = set.items && set.order && labels ? SW_OK : no_memory();
    for (int i = 0; i < n && st == SW_OK; i++) {
        set.items[i].label = &labels[i];
        set.order[i] = &set.items[i];
        st = add_item(&set.items[i], identities[i]);
    }
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
