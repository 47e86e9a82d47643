/* h5_data.h: attributes, groups and datasets of an HDF5 file, with errors as sw_status. */
#ifndef SW_H5_DATA_H
#define SW_H5_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "core/texts.h"
#include "harness/store/h5_file.h"

/* Attributes: UTF-8 text of any length, int64, float64. Reading: SW_EINPUT when missing or of
 * another type. */
SW_MUST_CHECK enum sw_status sw_h5_set_text(hid_t object, const char *name, const char *value);
SW_MUST_CHECK enum sw_status sw_h5_set_int(hid_t object, const char *name, int64_t value);
SW_MUST_CHECK enum sw_status sw_h5_set_real(hid_t object, const char *name, double value);
/* malloc'd */
SW_MUST_CHECK enum sw_status sw_h5_get_text(hid_t object, const char *name, char **out);
SW_MUST_CHECK enum sw_status sw_h5_get_int(hid_t object, const char *name, int64_t *out);
SW_MUST_CHECK enum sw_status sw_h5_get_real(hid_t object, const char *name, double *out);

/* opened, or created with its parents */
SW_MUST_CHECK enum sw_status sw_h5_group(hid_t parent, const char *name, hid_t *out);

/* Writes a dataset with its units and long_name. rank 0: a scalar. Small ones live in their object
 * header, large ones are contiguous; compress: chunked, shuffled and deflated. Returns the open
 * dataset when out is not NULL. */
struct sw_h5_array {
    const char *name, *units, *long_name;
    hid_t type; /* in memory and, converted to little endian, in the file */
    int rank;
    hsize_t dims[3];
    bool compress;
    const void *data; /* NULL: left unwritten (a bare dimension) */
};
SW_MUST_CHECK enum sw_status sw_h5_write(hid_t group, const struct sw_h5_array *array, hid_t *out);
SW_MUST_CHECK enum sw_status sw_h5_write_texts(hid_t group, const char *name, const char *long_name,
                                               const char *const *texts, int n, hid_t *out);
void sw_h5_close(hid_t object); /* dataset, group or type; fine on anything <= 0 */

/* Attaches a dimension scale to axis `axis`. A bare one has no values, only a length:
 * group/<stem>_<length>, made when missing. */
SW_MUST_CHECK enum sw_status sw_h5_attach(hid_t dataset, hid_t scale, int axis);
SW_MUST_CHECK enum sw_status sw_h5_attach_bare(hid_t group, hid_t dataset, int axis,
                                               const char *stem, hsize_t length);

/* Whether all the values that a dataset claims to have can be in the file: compression makes at
 * most 1 : 1032 (deflate), so a small file with huge extents is refused before memory is asked for
 * it. False too for extents whose product does not fit. */
bool sw_h5_is_stored(hid_t dataset);

/* Reads a float64 dataset of any rank, flat; *n elements. SW_EINPUT. */
SW_MUST_CHECK enum sw_status sw_h5_read_reals(hid_t group, const char *name, double **out,
                                              hsize_t dims[3], int *rank);
/* a list of any integers */
SW_MUST_CHECK enum sw_status sw_h5_read_ints(hid_t group, const char *name, int64_t **out,
                                             int64_t *n);
SW_MUST_CHECK enum sw_status sw_h5_read_texts(hid_t group, const char *name, struct sw_texts *out);

/* Names of the members of group/`name` in ascending order; none when there is no such group. */
SW_MUST_CHECK enum sw_status sw_h5_members(hid_t file, const char *name, struct sw_texts *out);

#endif
