/* hdf5_maker.h: HDF5 files made from bytes. Random bytes are hardly ever a file that HDF5 opens,
 * and then it is HDF5 that is tested; here the bytes choose how a good file is spoilt: what is
 * missing, of another type, extent or kind. Zeros leave it good. */
#ifndef SW_FUZZ_HDF5_MAKER_H
#define SW_FUZZ_HDF5_MAKER_H

#define H5_USE_110_API
#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

struct maker {
    const uint8_t *data, *end; /* what is left of the bytes; zeros after that */
    hid_t file;
};

/* Starts a file in memory; ends it and gives its malloc'd image. Aborts when HDF5 cannot. */
void maker_begin(struct maker *m, const uint8_t *data, size_t size);
uint8_t *maker_end(struct maker *m, size_t *size);

void maker_int(struct maker *m, hid_t object, const char *name, int64_t value);
void maker_real(struct maker *m, hid_t object, const char *name, double value);
void maker_text(struct maker *m, hid_t object, const char *name, const char *value);

/* A dataset of `type` in memory and file, or what the bytes make of it. Returns it open, or -1. */
hid_t maker_dataset(struct maker *m, hid_t parent, const char *name, hid_t type, int rank,
                    const hsize_t *dims, const void *values);
hid_t maker_group(struct maker *m, hid_t parent, const char *name); /* or -1 */
/* group or dataset; fine on -1 */
void maker_close(hid_t object);

/* Whether the bytes are an HDF5 file themselves. */
int maker_is_file(const uint8_t *data, size_t size);

#endif
