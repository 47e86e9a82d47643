/* Bytes as a file or a folder, for readers that take a path. */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness/inputs/foreign.h"

static void fill(int fd, const uint8_t *data, size_t size)
{
    if (ftruncate(fd, 0) != 0)
        abort();
    for (size_t done = 0; done < size;) {
        ssize_t put = pwrite(fd, data + done, size - done, (off_t)done);
        if (put <= 0)
            abort();
        done += (size_t)put;
    }
}

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    /* HDF5's own crashes are no finding, and a process for each file would be slow */
    sw_foreign_trial = false;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        if (fd < 0)
            abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    fill(fd, data, size);
    return path;
}

static char folder[64], file[128];

static void remove_folder(void)
{
    unlink(file);
    rmdir(folder);
}

const char *fuzz_folder(const char *name, const uint8_t *data, size_t size)
{
    if (!*folder) {
        snprintf(folder, sizeof folder, "/dev/shm/swbench-fuzz-XXXXXX");
        if (!mkdtemp(folder) ||
            snprintf(file, sizeof file, "%s/%s", folder, name) >= (int)sizeof file ||
            atexit(remove_folder) != 0)
            abort();
    }
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
    fill(fd, data, size);
    close(fd);
    return folder;
}

FILE *fuzz_messages(void)
{
    static FILE *null;
    if (!null && !(null = fopen("/dev/null", "w")))
        abort();
    return null;
}
