/* HDF5 files spoilt as the bytes of a fuzzer say. */
#include "tests/fuzz/hdf5_maker.h"

#include <stdlib.h>
#include <string.h>

static unsigned take(struct maker *m) { return m->data < m->end ? *m->data++ : 0; }

static uint64_t take_word(struct maker *m)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word = word << 8 | take(m);
    return word;
}

int maker_is_file(const uint8_t *data, size_t size)
{
    return size >= 4 && memcmp(data, "\x89HDF", 4) == 0;
}

void maker_begin(struct maker *m, const uint8_t *data, size_t size)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    *m = (struct maker){.data = data, .end = data + size};
    if (access < 0 || H5Pset_fapl_core(access, 1 << 16, 0) < 0 ||
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0 ||
        (m->file = H5Fcreate("fuzz", H5F_ACC_TRUNC, H5P_DEFAULT, access)) < 0)
        abort();
    H5Pclose(access);
}

uint8_t *maker_end(struct maker *m, size_t *size)
{
    ssize_t bytes =
        H5Fflush(m->file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(m->file, NULL, 0);
    uint8_t *image = bytes > 0 ? malloc((size_t)bytes) : NULL;
    if (!image || H5Fget_file_image(m->file, image, (size_t)bytes) != bytes ||
        H5Fclose(m->file) < 0)
        abort();
    *size = (size_t)bytes;
    return image;
}

/* --- attributes ------------------------------------------------------------------------------- */

static void put(hid_t object, const char *name, hid_t type, hid_t space, const void *value)
{
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0 && value)
        H5Awrite(attribute, type, value);
    H5Aclose(attribute);
}

static hid_t text_type(size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size);
    return type;
}

/* Another attribute than is expected; false: leave the expected one. */
static int spoil_attribute(struct maker *m, hid_t object, const char *name)
{
    const unsigned how = take(m);
    const hsize_t two = 2, none = 0;
    if (how < 64)
        return 0;
    uint64_t words[2] = {take_word(m), 0};
    double real;
    memcpy(&real, words, sizeof real);
    hid_t scalar = H5Screate(H5S_SCALAR), pair = H5Screate_simple(1, &two, NULL),
          empty = H5Screate_simple(1, &none, NULL), null = H5Screate(H5S_NULL);
    hid_t fixed = text_type(8), variable = text_type(H5T_VARIABLE),
          compound = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(compound, "x", 0, H5T_NATIVE_INT64);
    char letters[9] = "";
    memcpy(letters, words, 8);
    const char *pointer = letters;
    switch (how % 12) {
    case 0:
        break; /* missing */
    case 1:
        put(object, name, H5T_NATIVE_INT64, scalar, words);
        break;
    case 2:
        put(object, name, H5T_NATIVE_UINT64, scalar, words);
        break;
    case 3:
        put(object, name, H5T_STD_I8BE, scalar, words);
        break;
    case 4:
        put(object, name, H5T_NATIVE_DOUBLE, scalar, &real);
        break;
    case 5:
        put(object, name, fixed, scalar, letters);
        break;
    case 6:
        put(object, name, variable, scalar, &pointer);
        break;
    case 7:
        put(object, name, H5T_NATIVE_INT64, pair, words);
        break;
    case 8:
        put(object, name, H5T_NATIVE_INT64, null, NULL);
        break;
    case 9:
        put(object, name, compound, scalar, words);
        break;
    case 10:
        put(object, name, variable, scalar, NULL);
        break; /* never written: no text at all */
    case 11:
        put(object, name, fixed, empty, NULL);
        break;
    }
    H5Sclose(scalar), H5Sclose(pair), H5Sclose(empty), H5Sclose(null);
    H5Tclose(fixed), H5Tclose(variable), H5Tclose(compound);
    return 1;
}

void maker_int(struct maker *m, hid_t object, const char *name, int64_t value)
{
    if (object < 0 || spoil_attribute(m, object, name))
        return;
    hid_t scalar = H5Screate(H5S_SCALAR);
    put(object, name, H5T_NATIVE_INT64, scalar, &value);
    H5Sclose(scalar);
}

void maker_real(struct maker *m, hid_t object, const char *name, double value)
{
    if (object < 0 || spoil_attribute(m, object, name))
        return;
    hid_t scalar = H5Screate(H5S_SCALAR);
    put(object, name, H5T_NATIVE_DOUBLE, scalar, &value);
    H5Sclose(scalar);
}

void maker_text(struct maker *m, hid_t object, const char *name, const char *value)
{
    if (object < 0 || spoil_attribute(m, object, name))
        return;
    hid_t scalar = H5Screate(H5S_SCALAR), type = text_type(H5T_VARIABLE);
    put(object, name, type, scalar, &value);
    H5Sclose(scalar);
    H5Tclose(type);
}

/* --- datasets --------------------------------------------------------------------------------- */

hid_t maker_group(struct maker *m, hid_t parent, const char *name)
{
    if (parent < 0 || take(m) >= 250)
        return -1;
    return H5Gcreate2(parent, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
}

void maker_close(hid_t object)
{
    if (object >= 0)
        H5Oclose(object);
}

/* A float of other fields than IEEE's. */
static hid_t odd_float(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 7, 8, 0, 7); /* bfloat16's */
    H5Tset_size(type, 2);
    return type;
}

/* Extents that may be anything: small ones can be filled, others are only claimed. */
static int spoil_extents(struct maker *m, int rank, hsize_t dims[5])
{
    static const hsize_t odd[] = {
        0, 1, 2, 3, 255, 1 << 16, 1 << 24, (hsize_t)1 << 31, (hsize_t)1 << 32, (hsize_t)1 << 61};
    rank = (int)(take(m) % 6);
    for (int i = 0; i < rank; i++) {
        unsigned how = take(m);
        dims[i] = how & 1 ? odd[how / 2 % (sizeof odd / sizeof *odd)] : how / 2;
    }
    return rank;
}

hid_t maker_dataset(struct maker *m, hid_t parent, const char *name, hid_t type, int rank,
                    const hsize_t *dims, const void *values)
{
    if (parent < 0)
        return -1;
    const unsigned how = take(m);
    hsize_t extents[5] = {0}, chunk[5] = {1, 1, 1, 1, 1};
    memcpy(extents, dims, (size_t)rank * sizeof *dims);
    hid_t space = -1, stored = H5Tcopy(type), create = H5Pcreate(H5P_DATASET_CREATE), made = -1;
    const void *written = values;
    if (how >= 64)
        switch (how % 12) {
        case 0:
            goto out; /* missing */
        case 1:
            made = H5Gcreate2(parent, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
            goto out;
        case 2:
            H5Lcreate_soft(name, parent, name, H5P_DEFAULT, H5P_DEFAULT);
            goto out; /* to itself */
        case 3:
            H5Lcreate_soft("/nowhere", parent, name, H5P_DEFAULT, H5P_DEFAULT);
            goto out;
        case 4:
            H5Lcreate_external("/proc/self/mem", "/", parent, name, H5P_DEFAULT, H5P_DEFAULT);
            goto out;
        case 5:
            H5Tclose(stored), stored = H5Tcopy(H5T_STD_I16BE), written = NULL;
            break;
        case 6:
            H5Tclose(stored), stored = text_type(H5T_VARIABLE), written = NULL;
            break;
        case 7:
            H5Tclose(stored), stored = odd_float(), written = NULL;
            break;
        case 8:
            H5Tclose(stored), stored = H5Tcopy(H5T_IEEE_F64LE), written = NULL;
            break;
        case 9:
            rank = spoil_extents(m, rank, extents), written = NULL;
            break;
        case 10:
            rank = spoil_extents(m, rank, extents), written = NULL;
            if (rank > 0)
                H5Pset_chunk(create, rank, chunk);
            break;
        case 11:
            written = NULL;
            break; /* its values are anybody's guess: the fill value */
        }
    space = rank > 0 ? H5Screate_simple(rank, extents, NULL) : H5Screate(H5S_SCALAR);
    if (space >= 0 &&
        (made = H5Dcreate2(parent, name, stored, space, H5P_DEFAULT, create, H5P_DEFAULT)) >= 0 &&
        written) {
        uint8_t *copy = NULL;
        size_t bytes = H5Tget_class(stored) == H5T_STRING
                           ? 0
                           : (size_t)H5Sget_simple_extent_npoints(space) * H5Tget_size(stored);
        if (bytes && (copy = malloc(bytes))) { /* other values, where the bytes say so */
            memcpy(copy, values, bytes);
            for (unsigned n = take(m) % 4; n > 0; n--) {
                unsigned place = take(m) * 256 + take(m);
                copy[place % bytes] ^= (uint8_t)take(m);
            }
            written = copy;
        }
        H5Dwrite(made, stored, H5S_ALL, H5S_ALL, H5P_DEFAULT, written);
        free(copy);
    }
out:
    if (space >= 0)
        H5Sclose(space);
    H5Tclose(stored);
    H5Pclose(create);
    return made;
}
