/* From an identity (JSON) to its facts. */
#include "harness/judge/label_facts.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum sw_status no_memory(void) { return SW_FAIL(SW_ENOMEM, "out of memory (labels)"); }

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

enum sw_fact_role sw_role_of_fact(const char *path)
{
    static const struct {
        const char *path;
        enum sw_fact_role role;
    } known[] = {
        {"workload.kind", SW_FACT_PLACE}, {"workload.model", SW_FACT_PLACE},
        {"workload.task", SW_FACT_PLACE}, {"workload.generator", SW_FACT_PLACE},
        {"context", SW_FACT_PLACE},       {"phase", SW_FACT_PLACE},
        {"method", SW_FACT_PLACE},        {"density", SW_FACT_PLACE},
        {"input", SW_FACT_LAST},          {"measure", SW_FACT_LAST},
        {"save", SW_FACT_LAST},           {"code", SW_FACT_NEVER},
        {"version", SW_FACT_NEVER},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].path, path) == 0)
            return known[i].role;
    return begins_with(path, "params.")        ? SW_FACT_PARAM
           : begins_with(path, "param_files.") ? SW_FACT_LAST
                                               : SW_FACT_OPTION;
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

static enum sw_status read_facts(const char *identity, struct sw_label_item *item)
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

const char *sw_fact_value(const struct sw_label_item *item, const char *path, int hint)
{
    if (hint < item->n && strcmp(item->facts[hint].path, path) == 0)
        return item->facts[hint].value;
    for (int i = 0; i < item->n; i++)
        if (strcmp(item->facts[i].path, path) == 0)
            return item->facts[i].value;
    return NULL;
}

const char *sw_fact_text(const struct sw_label_item *item, const char *path)
{
    const char *value = sw_fact_value(item, path, item->n);
    return value ? value : "";
}

const char *sw_label_task(const struct sw_label_item *item)
{
    const char *task = sw_fact_value(item, "workload.task", item->n);
    return task ? task : sw_fact_text(item, "workload.generator");
}

enum sw_status sw_label_item_read(struct sw_label_item *item, const char *identity)
{
    SW_TRY(read_facts(identity, item));
    item->method = sw_fact_text(item, "method");
    if (asprintf(&item->model, "%s %s", sw_fact_text(item, "workload.kind"),
                 sw_fact_text(item, "workload.model")) < 0)
        item->model = NULL;
    if (item->model && asprintf(&item->place, "%s %s %s %s %s %s", item->model, sw_label_task(item),
                                sw_fact_text(item, "context"), sw_fact_text(item, "phase"),
                                item->method, sw_fact_text(item, "density")) < 0)
        item->place = NULL;
    return item->place ? SW_OK : no_memory();
}

void sw_label_item_clear(struct sw_label_item *item)
{
    free(item->text);
    free(item->facts);
    free(item->place);
    free(item->model);
}
