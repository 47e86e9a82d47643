/* cell_parts.h: what the files that write a cell share. cell_writer.c opens a cell's file and says
 * what the cell is; cell_selection.c writes lists and outputs, cell_metrics.c metrics and raw
 * samples, cell_predictions.c what a model answered. */
#ifndef SW_CELL_PARTS_H
#define SW_CELL_PARTS_H

#include "harness/store/h5_data.h"
#include "harness/store/store.h"

struct sw_cell_writer {
    struct sw_h5_file file;
    const struct sw_cell *cell;
    const struct sw_backend *backend; /* may be NULL: a skipped cell */
    char started[32];
    /* the dimension scales /layer and /head, made with the first metric that has them */
    hid_t layers, heads;
    int n_layers, n_heads;
};

struct sw_text_attribute {
    const char *name, *value;
};
struct sw_int_attribute {
    const char *name;
    int64_t value;
};

/* Attributes; each list ends with name NULL. */
SW_MUST_CHECK enum sw_status sw_cell_set_attributes(hid_t object,
                                                    const struct sw_text_attribute *texts,
                                                    const struct sw_int_attribute *ints);

SW_MUST_CHECK enum sw_status sw_cell_write_metrics(struct sw_cell_writer *w,
                                                   const struct sw_result *result);
SW_MUST_CHECK enum sw_status sw_cell_write_predictions(struct sw_cell_writer *w,
                                                       const struct sw_result *result);

#endif
