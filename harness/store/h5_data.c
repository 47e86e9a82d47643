#include "harness/store/h5_data.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5_hl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/utf8.h"

enum { HEADER_BYTES = 512, GROWTH_BYTES = 1 << 20, COMPACT_BYTES = 8192, CHUNK_ENTRIES = 16384 };

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

static void setup(void)
{
    static bool done;
    if (done)
        return;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* its stack is folded into our one line instead */
    done = true;
}

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
static enum sw_status begin_file(const char *folder, const char *name, struct sw_h5_file *out)
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
        return SW_FAIL(SW_ENOMEM, "out of memory (file name)");
    }
    out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd >= 0)
        return SW_OK;
    enum sw_status st = SW_FAIL(SW_EIO, "cannot create: %s", strerror(errno));
    st = sw_context(st, "%s", out->path);
    sw_h5_discard(out);
    return st;
}

enum sw_status sw_h5_begin(const char *folder, const char *name, struct sw_h5_file *out)
{
    setup();
    SW_TRY(begin_file(folder, name, out));
    hid_t create = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
    bool ready = create >= 0 && access >= 0 && H5Pset_userblock(create, HEADER_BYTES) >= 0 &&
                 H5Pset_fapl_core(access, GROWTH_BYTES, false) >= 0 &&
                 H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
                 H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0;
    if (ready)
        out->id = H5Fcreate(out->temporary, H5F_ACC_TRUNC, create, access);
    enum sw_status st = SW_OK;
    if (out->id < 0) {
        st = SW_H5_FAIL(SW_EIO, "cannot create");
        st = sw_context(st, "%s", out->path);
        sw_h5_discard(out);
    }
    H5Pclose(create);
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

/* Sync, close, rename, sync of the folder. */
static enum sw_status finish_file(struct sw_h5_file *file)
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
        st = finish_file(file);
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
        st = SW_FAIL(SW_ENOMEM, "out of memory (%d bytes for a checksum)", BUFFER);
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

/* What from holds goes to `to`. */
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
    enum sw_status st = begin_file(folder, name, &file);
    if (st != SW_OK) {
        close(fd);
        return st;
    }
    st = copy_bytes(fd, file.fd);
    close(fd);
    if (st == SW_OK)
        st = verify(file.temporary); /* what arrived, not what was there to read a moment ago */
    if (st == SW_OK)
        st = finish_file(&file);
    if (st != SW_OK)
        st = sw_context(st, "%s, copied to %s", from, file.path);
    sw_h5_discard(&file);
    return st;
}

enum sw_status sw_h5_open(const char *path, hid_t *out)
{
    setup();
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

/* --- texts ------------------------------------------------------------------------------------ */

static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

enum sw_status sw_h5_texts_add(struct sw_texts *texts, const char *text)
{
    if ((texts->count & (texts->count - 1)) == 0) { /* room for 1, 2, 4, … */
        size_t room = texts->count ? 2 * (size_t)texts->count : 1;
        char **items = realloc(texts->items, room * sizeof *items);
        if (!items)
            return SW_FAIL(SW_ENOMEM, "out of memory (list of %zu texts)", room);
        texts->items = items;
    }
    char *copy = strdup(text ? text : "");
    if (!copy)
        return SW_FAIL(SW_ENOMEM, "out of memory (a text of %zu bytes)", strlen(text ? text : ""));
    texts->items[texts->count++] = copy;
    return SW_OK;
}

void sw_h5_texts_clear(struct sw_texts *texts)
{
    for (int i = 0; i < texts->count; ++i)
        free(texts->items[i]);
    free(texts->items);
    *texts = (struct sw_texts){0};
}

/* --- attributes ------------------------------------------------------------------------------- */

static enum sw_status set_attribute(hid_t object, const char *name, hid_t file_type,
                                    hid_t memory_type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute =
        space < 0 ? -1 : H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    enum sw_status st = ok ? SW_OK : SW_H5_FAIL(SW_EIO, name);
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    return st;
}

enum sw_status sw_h5_set_text(hid_t object, const char *name, const char *value)
{
    char *text;
    SW_TRY(sw_utf8_valid(value ? value : "", &text));
    hid_t type = text_type();
    enum sw_status st =
        type < 0 ? SW_H5_FAIL(SW_EIO, name) : set_attribute(object, name, type, type, &text);
    sw_h5_close(type);
    free(text);
    return st;
}

enum sw_status sw_h5_set_int(hid_t object, const char *name, int64_t value)
{
    return set_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

enum sw_status sw_h5_set_real(hid_t object, const char *name, double value)
{
    return set_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

/* Opens a scalar attribute of class `class`. */
static enum sw_status open_attribute(hid_t object, const char *name, H5T_class_t class, hid_t *out)
{
    *out = -1;
    if (H5Aexists(object, name) <= 0)
        return SW_FAIL(SW_EINPUT, "attribute %s is missing", name);
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return SW_H5_FAIL(SW_EINPUT, name);
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == class &&
              H5Sget_simple_extent_npoints(space) == 1 &&
              (class != H5T_STRING || H5Tis_variable_str(type) > 0);
    if (space >= 0)
        H5Sclose(space);
    sw_h5_close(type);
    if (!ok) {
        H5Aclose(attribute);
        return SW_FAIL(SW_EINPUT, "attribute %s is of another type than expected", name);
    }
    *out = attribute;
    return SW_OK;
}

enum sw_status sw_h5_get_text(hid_t object, const char *name, char **out)
{
    hid_t attribute;
    *out = NULL;
    SW_TRY(open_attribute(object, name, H5T_STRING, &attribute));
    hid_t type = text_type();
    char *text = NULL;
    enum sw_status st = SW_OK;
    if (type < 0 || H5Aread(attribute, type, &text) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    else
        /* another program may have written it, and JSON and XML can hold nothing else */
        st = sw_utf8_valid(text ? text : "", out);
    H5free_memory(text);
    sw_h5_close(type);
    H5Aclose(attribute);
    return st;
}

enum sw_status sw_h5_get_int(hid_t object, const char *name, int64_t *out)
{
    hid_t attribute;
    SW_TRY(open_attribute(object, name, H5T_INTEGER, &attribute));
    enum sw_status st =
        H5Aread(attribute, H5T_NATIVE_INT64, out) < 0 ? SW_H5_FAIL(SW_EINPUT, name) : SW_OK;
    H5Aclose(attribute);
    return st;
}

enum sw_status sw_h5_get_real(hid_t object, const char *name, double *out)
{
    hid_t attribute;
    SW_TRY(open_attribute(object, name, H5T_FLOAT, &attribute));
    enum sw_status st =
        H5Aread(attribute, H5T_NATIVE_DOUBLE, out) < 0 ? SW_H5_FAIL(SW_EINPUT, name) : SW_OK;
    H5Aclose(attribute);
    return st;
}

/* --- groups and datasets ---------------------------------------------------------------------- */

void sw_h5_close(hid_t object)
{
    if (object <= 0)
        return;
    switch (H5Iget_type(object)) {
    case H5I_DATASET:
        H5Dclose(object);
        break;
    case H5I_GROUP:
        H5Gclose(object);
        break;
    case H5I_DATATYPE:
        H5Tclose(object);
        break;
    case H5I_FILE:
        H5Fclose(object);
        break;
    default:
        break;
    }
}

enum sw_status sw_h5_group(hid_t parent, const char *name, hid_t *out)
{
    hid_t current = H5Gopen2(parent, ".", H5P_DEFAULT);
    char part[256];
    for (const char *at = name; current >= 0 && *at;) {
        size_t length = strcspn(at, "/");
        snprintf(part, sizeof part, "%.*s", (int)length, at);
        at += length + (at[length] == '/');
        if (length == 0)
            continue;
        hid_t next = H5Lexists(current, part, H5P_DEFAULT) > 0
                         ? H5Gopen2(current, part, H5P_DEFAULT)
                         : H5Gcreate2(current, part, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        H5Gclose(current);
        current = next;
    }
    *out = current;
    return current < 0 ? SW_H5_FAIL(SW_EIO, name) : SW_OK;
}

static hid_t file_type(hid_t type)
{
    if (H5Tequal(type, H5T_NATIVE_DOUBLE) > 0)
        return H5T_IEEE_F64LE;
    if (H5Tequal(type, H5T_NATIVE_FLOAT) > 0)
        return H5T_IEEE_F32LE;
    if (H5Tequal(type, H5T_NATIVE_INT32) > 0)
        return H5T_STD_I32LE;
    if (H5Tequal(type, H5T_NATIVE_INT64) > 0)
        return H5T_STD_I64LE;
    if (H5Tequal(type, H5T_NATIVE_UINT64) > 0)
        return H5T_STD_U64LE;
    return type; /* bytes and texts are the same everywhere */
}

static bool set_layout(hid_t create, const struct sw_h5_array *a, hsize_t elements)
{
    if (a->compress && a->rank == 1 && elements * H5Tget_size(a->type) > COMPACT_BYTES) {
        hsize_t chunk = elements < CHUNK_ENTRIES ? elements : CHUNK_ENTRIES;
        return H5Pset_chunk(create, 1, &chunk) >= 0 && H5Pset_shuffle(create) >= 0 &&
               H5Pset_deflate(create, 4) >= 0;
    }
    if (a->data && elements * H5Tget_size(a->type) <= COMPACT_BYTES &&
        H5Tis_variable_str(a->type) <= 0)
        return H5Pset_layout(create, H5D_COMPACT) >= 0;
    return true;
}

enum sw_status sw_h5_write(hid_t group, const struct sw_h5_array *a, hid_t *out)
{
    hsize_t elements = 1;
    for (int i = 0; i < a->rank; ++i)
        elements *= a->dims[i];
    hid_t space = a->rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(a->rank, a->dims, NULL);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    bool ok = space >= 0 && create >= 0 && set_layout(create, a, elements);
    if (ok)
        dataset =
            H5Dcreate2(group, a->name, file_type(a->type), space, H5P_DEFAULT, create, H5P_DEFAULT);
    ok = dataset >= 0 && (!a->data || elements == 0 ||
                          H5Dwrite(dataset, a->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, a->data) >= 0);
    enum sw_status st = ok ? SW_OK : SW_H5_FAIL(SW_EIO, "cannot write");
    if (st != SW_OK)
        st = sw_context(st, "%s", a->name);
    H5Pclose(create);
    H5Sclose(space);
    if (st == SW_OK && a->units)
        st = sw_h5_set_text(dataset, "units", a->units);
    if (st == SW_OK && a->long_name)
        st = sw_h5_set_text(dataset, "long_name", a->long_name);
    if (st == SW_OK && out)
        *out = dataset;
    else
        sw_h5_close(dataset);
    return st;
}

enum sw_status sw_h5_write_texts(hid_t group, const char *name, const char *long_name,
                                 const char *const *texts, int n, hid_t *out)
{
    char **valid = calloc((size_t)n + 1, sizeof *valid);
    hid_t type = text_type();
    enum sw_status st = SW_OK;
    if (!valid || type < 0)
        st = SW_FAIL(SW_ENOMEM, "out of memory (%d texts of %s)", n, name);
    for (int i = 0; i < n && st == SW_OK; ++i)
        st = sw_utf8_valid(texts[i] ? texts[i] : "", &valid[i]);
    if (st == SW_OK)
        st = sw_h5_write(group,
                         &(struct sw_h5_array){.name = name,
                                               .units = "",
                                               .long_name = long_name,
                                               .type = type,
                                               .rank = 1,
                                               .dims = {(hsize_t)n},
                                               .data = valid},
                         out);
    for (int i = 0; valid && i < n; ++i)
        free(valid[i]);
    free(valid);
    sw_h5_close(type);
    return st;
}

enum sw_status sw_h5_attach(hid_t dataset, hid_t scale, int axis)
{
    return H5DSattach_scale(dataset, scale, (unsigned)axis) < 0
               ? SW_H5_FAIL(SW_EIO, "cannot attach a dimension")
               : SW_OK;
}

enum sw_status sw_h5_attach_bare(hid_t group, hid_t dataset, int axis, const char *stem,
                                 hsize_t length)
{
    char name[64], mark[80];
    snprintf(name, sizeof name, "%s_%llu", stem, (unsigned long long)length);
    hid_t scale = -1;
    enum sw_status st = SW_OK;
    if (H5Lexists(group, name, H5P_DEFAULT) > 0) {
        scale = H5Dopen2(group, name, H5P_DEFAULT);
        if (scale < 0)
            st = SW_H5_FAIL(SW_EIO, name);
    } else {
        /* The words by which netCDF readers know a dimension without values. */
        snprintf(mark, sizeof mark, "This is a netCDF dimension but not a netCDF variable.%10llu",
                 (unsigned long long)length);
        st = sw_h5_write(group,
                         &(struct sw_h5_array){.name = name,
                                               .units = "",
                                               .long_name = "a dimension, no values",
                                               .type = H5T_NATIVE_FLOAT,
                                               .rank = 1,
                                               .dims = {length}},
                         &scale);
        if (st == SW_OK && H5DSset_scale(scale, mark) < 0)
            st = SW_H5_FAIL(SW_EIO, name);
    }
    if (st == SW_OK)
        st = sw_h5_attach(dataset, scale, axis);
    sw_h5_close(scale);
    return st;
}

/* --- reading ---------------------------------------------------------------------------------- */

bool sw_h5_is_stored(hid_t dataset)
{
    enum { RATIO = 2048 };
    hsize_t dims[H5S_MAX_RANK], bytes = 1;
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    int rank = space < 0 ? -1 : H5Sget_simple_extent_dims(space, dims, NULL);
    size_t size = type < 0 ? 0 : H5Tget_size(type);
    bool fits = rank >= 0 && size > 0 && !__builtin_mul_overflow(bytes, (hsize_t)size, &bytes),
         empty = false;
    for (int i = 0; i < rank; i++) {
        empty = empty || dims[i] == 0;
        fits = fits && !__builtin_mul_overflow(bytes, dims[i], &bytes);
    }
    sw_h5_close(type);
    if (space >= 0)
        H5Sclose(space);
    return empty ? rank >= 0
                 : fits && bytes / RATIO <= H5Dget_storage_size(dataset) &&
                       H5Dget_storage_size(dataset) > 0;
}

static enum sw_status open_dataset(hid_t group, const char *name, H5T_class_t class, hid_t *out,
                                   hsize_t dims[3], int *rank)
{
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    if (dataset < 0)
        return SW_FAIL(SW_EINPUT, "dataset %s is missing", name);
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    *rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    bool ok = type >= 0 && H5Tget_class(type) == class && *rank >= 0 && *rank <= 3 &&
              (class != H5T_STRING || H5Tis_variable_str(type) > 0) &&
              H5Sget_simple_extent_dims(space, dims, NULL) >= 0;
    sw_h5_close(type);
    if (space >= 0)
        H5Sclose(space);
    if (!ok) {
        sw_h5_close(dataset);
        return SW_FAIL(SW_EINPUT, "dataset %s is of another type than expected", name);
    }
    if (!sw_h5_is_stored(dataset)) {
        sw_h5_close(dataset);
        return SW_FAIL(SW_EINPUT, "dataset %s claims more values than are stored", name);
    }
    *out = dataset;
    return SW_OK;
}

enum sw_status sw_h5_read_reals(hid_t group, const char *name, double **out, hsize_t dims[3],
                                int *rank)
{
    hid_t dataset;
    *out = NULL;
    SW_TRY(open_dataset(group, name, H5T_FLOAT, &dataset, dims, rank));
    size_t count = 1;
    for (int i = 0; i < *rank; ++i)
        count *= dims[i];
    enum sw_status st = SW_OK;
    double *values = malloc((count ? count : 1) * sizeof *values);
    if (!values)
        st = SW_FAIL(SW_ENOMEM, "out of memory (%zu values of %s)", count, name);
    else if (count &&
             H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    if (st == SW_OK)
        *out = values;
    else
        free(values);
    sw_h5_close(dataset);
    return st;
}

enum sw_status sw_h5_read_ints(hid_t group, const char *name, int64_t **out, int64_t *n)
{
    hid_t dataset;
    hsize_t dims[3] = {0};
    int rank;
    *out = NULL;
    *n = 0;
    SW_TRY(open_dataset(group, name, H5T_INTEGER, &dataset, dims, &rank));
    enum sw_status st =
        rank == 1 ? SW_OK : SW_FAIL(SW_EINPUT, "dataset %s is of another type than expected", name);
    int64_t *values = st == SW_OK && dims[0] < SIZE_MAX / sizeof *values
                          ? malloc(((size_t)dims[0] + 1) * sizeof *values)
                          : NULL;
    if (st == SW_OK && !values)
        st = SW_FAIL(SW_ENOMEM, "out of memory (%llu values of %s)", (unsigned long long)dims[0],
                     name);
    if (st == SW_OK && dims[0] &&
        H5Dread(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    sw_h5_close(dataset);
    if (st != SW_OK) {
        free(values);
        return st;
    }
    *out = values;
    *n = (int64_t)dims[0];
    return SW_OK;
}

enum sw_status sw_h5_read_texts(hid_t group, const char *name, struct sw_texts *out)
{
    hid_t dataset;
    hsize_t dims[3] = {0};
    int rank;
    *out = (struct sw_texts){0};
    SW_TRY(open_dataset(group, name, H5T_STRING, &dataset, dims, &rank));
    size_t count = rank == 1 ? dims[0] : 0;
    hid_t type = text_type();
    char **texts = calloc(count + 1, sizeof *texts);
    enum sw_status st = SW_OK;
    if (!texts || type < 0)
        st = SW_FAIL(SW_ENOMEM, "out of memory (%zu texts of %s)", count, name);
    else if (count && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    for (size_t i = 0; i < count && st == SW_OK; ++i)
        st = sw_h5_texts_add(out, texts[i]);
    for (size_t i = 0; texts && i < count; ++i)
        H5free_memory(texts[i]);
    if (st != SW_OK)
        sw_h5_texts_clear(out);
    free(texts);
    sw_h5_close(type);
    sw_h5_close(dataset);
    return st;
}

struct listing {
    struct sw_texts *texts;
    enum sw_status status;
};

static herr_t add_member(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    (void)group, (void)info;
    struct listing *listing = data;
    listing->status = sw_h5_texts_add(listing->texts, name);
    return listing->status == SW_OK ? 0 : -1;
}

enum sw_status sw_h5_members(hid_t file, const char *name, struct sw_texts *out)
{
    struct listing listing = {out, SW_OK};
    *out = (struct sw_texts){0};
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0)
        return SW_OK;
    hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    if (group < 0)
        return SW_H5_FAIL(SW_EINPUT, name);
    enum sw_status st = SW_OK;
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, add_member, &listing) < 0)
        st = listing.status != SW_OK ? listing.status : SW_H5_FAIL(SW_EINPUT, name);
    sw_h5_close(group);
    if (st != SW_OK)
        sw_h5_texts_clear(out);
    return st;
}
