/* foreign.h: HDF5 files that others wrote: tensor bundles, datasets, whatever `validate` is given.
 * Those of this program have a checksum (h5_file.h). */
#ifndef SW_FOREIGN_H
#define SW_FOREIGN_H

#include <hdf5.h>
#include <stdbool.h>

#include "core/status.h"

/* Opens one for reading, once a process of its own has survived reading its texts. SW_EINPUT:
 * "FILE: what is wrong with it". */
SW_MUST_CHECK enum sw_status sw_foreign_open(const char *path, hid_t *out);

/* Fuzz targets, which open thousands a second, set it to false. */
extern bool sw_foreign_trial;

#endif
