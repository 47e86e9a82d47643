/* h5_file.h: HDF5 files that are whole or absent, and tell damage by themselves: the first 512
 * bytes (an HDF5 user block, which every HDF5 reader steps over) hold one line of text with the
 * XXH3-64 and the size of all that follows. A bit that flips anywhere in the file, or a missing
 * tail, is found before HDF5 sees it. */
#ifndef SW_H5_FILE_H
#define SW_H5_FILE_H

#define H5_USE_110_API /* the same calls with every HDF5 from 1.10 on */
#include <hdf5.h>

#include "core/status.h"

/* A file being written. HDF5 assembles it in memory, since after a write that failed (disk full) it
 * can neither close the file nor end the process cleanly; the finished image is written by us,
 * under a temporary name beside the final one. */
struct sw_h5_file {
    hid_t id;
    /* of the temporary file, there from the start: a folder that cannot be written is found
     * before the work is done */
    int fd;
    char *path, *temporary;
};

/* Creates the temporary file `folder`/.<name>.<pid>@<host>.tmp of `folder`/<name>.h5. SW_EIO: path
 * and why. */
SW_MUST_CHECK enum sw_status sw_h5_create(const char *folder, const char *name,
                                          struct sw_h5_file *out);
/* The same for a file of ours that is there: what it holds, to be changed and published again.
 * SW_EINPUT: missing or damaged. */
SW_MUST_CHECK enum sw_status sw_h5_change(const char *folder, const char *name,
                                          struct sw_h5_file *out);
/* Checksum, write, fsync, rename, fsync of the folder. On failure nothing
 * half-written is left: the file is the new one, the one before, or absent. */
SW_MUST_CHECK enum sw_status sw_h5_publish(struct sw_h5_file *file);
/* closes and removes the temporary file; fine on a zeroed or published one */
void sw_h5_discard(struct sw_h5_file *file);

/* Copies a file of ours to folder/<name>.h5, whole or not at all; its checksum is that of the bytes
 * that arrive. SW_EINPUT: the source is missing or damaged. SW_EIO: the destination cannot be
 * written. */
SW_MUST_CHECK enum sw_status sw_h5_copy(const char *from, const char *folder, const char *name);

/* Verifies the checksum, then opens for reading. SW_EINPUT, one line naming the file: missing,
 * foreign, truncated, damaged. */
SW_MUST_CHECK enum sw_status sw_h5_open(const char *path, hid_t *out);

/* The failure of the last HDF5 call as a status, with HDF5's own first message. */
SW_MUST_CHECK enum sw_status sw_h5_fail_at(const char *file, int line, enum sw_status code,
                                           const char *what);
#define SW_H5_FAIL(code, what) sw_h5_fail_at(__FILE__, __LINE__, (code), (what))

#endif
