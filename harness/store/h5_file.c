/* Whole HDF5 files with a checksum: written in one piece or not at all, verified before they are
 * opened. */
#include "harness/store/h5_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { HEADER_BYTES = 512, GROWTH_BYTES = 1 << 20 };

/* --- failures --------------------------------------------------------------------------------- */

static herr_t first_message(unsigned n, const H5E_error2_t *error, void *out)
{
    (void)n;
    const char **text = out;
    if (*text == NULL)
        *text = error->desc;
    return 0;
}

enum sw_status sw_h5_fail_at(const char *file, int line, enum sw_status code, const char *what)
{
    const char *text = NULL;
    hid_t stack = H5Eget_current_stack();
    H5Ewalk2(stack, H5E_WALK_UPWARD, first_message, &text);
    code = sw_fail_at(file, line, code, "%s: HDF5: %s", what, text ? text : "unknown error");
    H5Eclose_stack(stack);
    return code;
}

/* HDF5 prints a stack of its own at every failure; ours is one line, by sw_h5_fail_at. */
static void silence_hdf5(void)
{
    static bool done;
    if (done)
        return;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    done = true;
}

static enum sw_status verify(const char *path);

/* --- whole files ------------------------------------------------------------------------------ */

static void header(char text[HEADER_BYTES], uint64_t hash, int64_t size)
{
    memset(text, 0, HEADER_BYTES);
    snprintf(text, HEADER_BYTES,
             "swbench HDF5 file: xxh3-64 %016llx of the %lld bytes from byte %d on, where HDF5 "
             "begins (readers find it there)\n",
             (unsigned long long)hash, (long long)size, (int)HEADER_BYTES);
}

/* Names and the empty temporary file. */
static enum sw_status create_temporary(const char *folder, const char *name, struct sw_h5_file *out)
{
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    *out = (struct sw_h5_file){.id = -1, .fd = -1};
    if (asprintf(&out->path, "%s/%s.h5", folder, name) < 0)
        out->path = NULL;
    if (asprintf(&out->temporary, "%s/.%s.%ld@%s.tmp", folder, name, (long)getpid(), host) < 0)
        out->temporary = NULL;
    if (!out->path || !out->temporary) {
        sw_h5_discard(out);
        return SW_FAIL(SW_ENOMEM, "file name: out of host memory");
    }
    out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd >= 0)
        return SW_OK;
    enum sw_status st = SW_FAIL(SW_EIO, "cannot create: %s", strerror(errno));
    st = sw_context(st, "%s", out->path);
    sw_h5_discard(out);
    return st;
}

/* How a file is held while it is written: an image in memory, which HDF5 writes nowhere. -1: HDF5
 * failed. */
static hid_t image_access(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fapl_core(access, GROWTH_BYTES, false) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        return access;
    H5Pclose(access);
    return -1;
}

/* What an opened file is, or why there is none. */
static enum sw_status check_opened(struct sw_h5_file *file, const char *what)
{
    if (file->id >= 0)
        return SW_OK;
    enum sw_status st = SW_H5_FAIL(SW_EIO, what);
    st = sw_context(st, "%s", file->path);
    sw_h5_discard(file);
    return st;
}

enum sw_status sw_h5_create(const char *folder, const char *name, struct sw_h5_file *out)
{
    silence_hdf5();
    SW_TRY(create_temporary(folder, name, out));
    hid_t create = H5Pcreate(H5P_FILE_CREATE), access = image_access();
    if (create >= 0 && access >= 0 && H5Pset_userblock(create, HEADER_BYTES) >= 0)
        out->id = H5Fcreate(out->temporary, H5F_ACC_TRUNC, create, access);
    enum sw_status st = check_opened(out, "cannot create");
    H5Pclose(create);
    H5Pclose(access);
    return st;
}

enum sw_status sw_h5_change(const char *folder, const char *name, struct sw_h5_file *out)
{
    silence_hdf5();
    SW_TRY(create_temporary(folder, name, out));
    enum sw_status st = verify(out->path);
    if (st != SW_OK) {
        st = sw_context(st, "%s", out->path);
        sw_h5_discard(out);
        return st;
    }
    hid_t access = image_access();
    if (access >= 0)
        out->id = H5Fopen(out->path, H5F_ACC_RDWR, access);
    st = check_opened(out, "cannot open");
    H5Pclose(access);
    return st;
}

void sw_h5_discard(struct sw_h5_file *file)
{
    if (file->id > 0)
        H5Fclose(file->id);
    if (file->fd > 0)
        close(file->fd);
    if (file->temporary)
        unlink(file->temporary);
    free(file->path);
    free(file->temporary);
    *file = (struct sw_h5_file){.id = -1, .fd = -1};
}

static enum sw_status sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return SW_FAIL(SW_EIO, "cannot open the folder: %s", strerror(errno));
    int rc = fsync(fd);
    int why = errno;
    close(fd);
    if (rc != 0 && why != EINVAL && why != ENOTSUP) /* some file systems cannot sync folders */
        return SW_FAIL(SW_EIO, "cannot sync the folder: %s", strerror(why));
    return SW_OK;
}

static enum sw_status write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t put = write(fd, data, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return SW_FAIL(SW_EIO, "cannot write: %s", strerror(errno));
        data += put;
        size -= (size_t)put;
    }
    return SW_OK;
}

/* Puts the header into the image of the file and writes it out. Its size is the end-of-file address
 * in the superblock (version 2: 8 bytes at
 * 28): H5Fget_file_image, which would tell it, forgets the user block in some versions. */
static enum sw_status write_image(const struct sw_h5_file *file)
{
    char **image = NULL;
    hsize_t room = 0, size = 0;
    if (H5Fflush(file->id, H5F_SCOPE_GLOBAL) < 0 ||
        H5Fget_vfd_handle(file->id, H5P_DEFAULT, (void **)&image) < 0 ||
        H5Fget_filesize(file->id, &room) < 0)
        return SW_H5_FAIL(SW_EIO, "cannot finish");
    for (int i = 7; i >= 0; --i)
        size = size << 8 | (unsigned char)(*image)[HEADER_BYTES + 28 + i];
    if (size <= HEADER_BYTES || size > room)
        return SW_FAIL(SW_EINTERNAL, "HDF5's image ends at byte %llu of %llu",
                       (unsigned long long)size, (unsigned long long)room);
    header(*image, XXH3_64bits(*image + HEADER_BYTES, (size_t)size - HEADER_BYTES),
           (int64_t)size - HEADER_BYTES);
    return write_all(file->fd, *image, (size_t)size);
}

/* Sync, close, rename, sync of the folder: the file is seen once all of it is on the disk. */
static enum sw_status move_into_place(struct sw_h5_file *file)
{
    bool synced = fsync(file->fd) == 0;
    int why = errno;
    if (close(file->fd) != 0 && synced) {
        synced = false;
        why = errno;
    }
    file->fd = -1;
    if (!synced)
        return SW_FAIL(SW_EIO, "cannot write: %s", strerror(why));
    if (rename(file->temporary, file->path) != 0)
        return SW_FAIL(SW_EIO, "cannot rename: %s", strerror(errno));
    free(file->temporary);
    file->temporary = NULL;
    return sync_folder(file->path);
}

enum sw_status sw_h5_publish(struct sw_h5_file *file)
{
    enum sw_status st = write_image(file);
    if (st == SW_OK)
        st = move_into_place(file);
    if (st != SW_OK)
        st = sw_context(st, "%s", file->path);
    sw_h5_discard(file);
    return st;
}

/* XXH3-64 and size of all that follows the header. */
static enum sw_status digest(int fd, uint64_t *hash, int64_t *size)
{
    enum { BUFFER = 1 << 20 };
    enum sw_status st = SW_OK;
    char *buffer = malloc(BUFFER);
    XXH3_state_t *state = XXH3_createState();
    if (!buffer || !state) {
        st = SW_FAIL(SW_ENOMEM, "%d bytes for a checksum: out of host memory", BUFFER);
        goto out;
    }
    XXH3_64bits_reset(state);
    *size = 0;
    for (;;) {
        ssize_t got = pread(fd, buffer, BUFFER, (off_t)(HEADER_BYTES + *size));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            st = SW_FAIL(SW_EIO, "cannot read: %s", strerror(errno));
            goto out;
        }
        if (got == 0)
            break;
        XXH3_64bits_update(state, buffer, (size_t)got);
        *size += got;
    }
    *hash = XXH3_64bits_digest(state);
out:
    XXH3_freeState(state);
    free(buffer);
    return st;
}

static enum sw_status verify(const char *path)
{
    /* a pipe is not waited for: it cannot be read from a place */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return SW_FAIL(SW_EINPUT, "cannot open: %s", strerror(errno));
    char found[HEADER_BYTES] = {0}, expected[HEADER_BYTES];
    uint64_t hash = 0;
    int64_t size = 0;
    enum sw_status st = SW_OK;
    ssize_t got = pread(fd, found, HEADER_BYTES, 0);
    if (got < 0) {
        st = SW_FAIL(SW_EINPUT, "cannot read: %s", strerror(errno));
    } else if (memcmp(found, "swbench HDF5 file: ", 19) != 0) {
        st = SW_FAIL(SW_EINPUT, "not a file written by swbench (its first line is missing)");
    } else {
        st = digest(fd, &hash, &size);
        if (st == SW_OK) {
            header(expected, hash, size);
            if (memcmp(found, expected, HEADER_BYTES) != 0)
                st = SW_FAIL(SW_EINPUT, "damaged: its checksum does not hold (truncated or "
                                        "changed); delete it, then run again");
        }
    }
    close(fd);
    return st;
}

static enum sw_status copy_bytes(int from, int to)
{
    char buffer[65536];
    for (;;) {
        ssize_t got = read(from, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return SW_FAIL(SW_EIO, "cannot read: %s", strerror(errno));
        if (got == 0)
            return SW_OK;
        SW_TRY(write_all(to, buffer, (size_t)got));
    }
}

enum sw_status sw_h5_copy(const char *from, const char *folder, const char *name)
{
    struct sw_h5_file file;
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SW_FAIL(SW_EINPUT, "%s: cannot open: %s", from, strerror(errno));
    enum sw_status st = create_temporary(folder, name, &file);
    if (st != SW_OK) {
        close(fd);
        return st;
    }
    st = copy_bytes(fd, file.fd);
    close(fd);
    if (st == SW_OK)
        st = verify(file.temporary); /* what arrived, not what was there to read a moment ago */
    if (st == SW_OK)
        st = move_into_place(&file);
    if (st != SW_OK)
        st = sw_context(st, "%s, copied to %s", from, file.path);
    sw_h5_discard(&file);
    return st;
}

enum sw_status sw_h5_open(const char *path, hid_t *out)
{
    silence_hdf5();
    *out = -1;
    enum sw_status st = verify(path);
    if (st != SW_OK)
        return sw_context(st, "%s", path);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        *out = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (*out < 0) {
        st = SW_H5_FAIL(SW_EINPUT, "cannot open");
        st = sw_context(st, "%s", path);
    }
    H5Pclose(access);
    return st;
}
