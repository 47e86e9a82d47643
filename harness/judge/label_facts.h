/* label_facts.h: a cell's identity as a list of facts, of which label.c chooses the words. */
#ifndef SW_LABEL_FACTS_H
#define SW_LABEL_FACTS_H

#include <stdbool.h>

#include "harness/judge/label.h"

/* What a fact is for a label. SW_FACT_LAST: said only where nothing else tells two cells apart,
 * since other facts imply it (another task has other content). */
enum sw_fact_role { SW_FACT_PLACE, SW_FACT_PARAM, SW_FACT_OPTION, SW_FACT_LAST, SW_FACT_NEVER };

enum sw_fact_role sw_role_of_fact(const char *path);

/* One member of an identity: "params.block_size" and "64". */
struct sw_fact {
    const char *path, *value;
    bool said; /* of a parameter: it is a word of its cell */
};

/* A cell of the set. Facts point into `text`. */
struct sw_label_item {
    char *text;
    struct sw_fact *facts;
    int n;
    const char *method;
    char
        *place; /* what every table shows of it: cells of one place need words to tell them apart */
    char *model;     /* kind and name: where an option is said */
    const char *key; /* what cells are being sorted by */
    struct sw_label *label;
};

/* Fills all but `label` and `key`; after a failure too sw_label_item_clear frees it. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_label_item_read(struct sw_label_item *item, const char *identity);
void sw_label_item_clear(struct sw_label_item *item);

/* The value of a fact, NULL where the identity has none. hint: where it is likely to be. */
const char *sw_fact_value(const struct sw_label_item *item, const char *path, int hint);
/* The same, "" where it has none. */
const char *sw_fact_text(const struct sw_label_item *item, const char *path);
/* The task, or what stands in its place. */
const char *sw_label_task(const struct sw_label_item *item);

#endif
