/* Result folders: making them, clearing what a killed run left, and asking for a cell. */
#include "harness/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/store/claim.h"
#include "harness/store/h5_data.h"

/* mkdir -p. */
static enum sw_status make_folder(const char *path)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return SW_FAIL(SW_EINPUT, "result folder: found a name of %zu characters, expected 1…%d",
                       length, PATH_MAX - 1);
    for (size_t end = 1; end <= length; end++) {
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(part, path, end);
        part[end] = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST && errno != EISDIR)
            return SW_FAIL(SW_EINPUT, "%s: cannot make the result folder: %s", part,
                           strerror(errno));
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return SW_FAIL(SW_EINPUT, "%s: found a file, expected a result folder", path);
    return SW_OK;
}

/* Permissions say too little (root, read-only mounts, quotas): write something. */
static enum sw_status prove_writable(const char *folder)
{
    char path[PATH_MAX], host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    if (snprintf(path, sizeof path, "%s/.write-test.%ld@%s.tmp", folder, (long)getpid(), host) >=
        (int)sizeof path) /* see remove_leftovers */
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && write(fd, "?", 1) == 1;
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    unlink(path);
    return ok ? SW_OK
              : SW_FAIL(SW_EINPUT, "%s: cannot write in the result folder: %s", folder,
                        strerror(why));
}

/* Removes the temporary files of processes of this host that are no more, and what claimed cells
 * for them. */
static void remove_leftovers(const char *folder)
{
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) { /* .<name>.<pid>@<host>.tmp */
        const char *name = entry->d_name, *at = strrchr(name, '@');
        sw_claim_remove_leftover(dirfd(dir), name);
        if (name[0] != '.' || !at)
            continue;
        const char *digits = at;
        while (digits > name && digits[-1] >= '0' && digits[-1] <= '9')
            --digits;
        size_t length = strlen(host);
        long pid = strtol(digits, NULL, 10);
        if (pid > 0 && strncmp(at + 1, host, length) == 0 && strcmp(at + 1 + length, ".tmp") == 0 &&
            kill((pid_t)pid, 0) != 0 && errno == ESRCH)
            /* NOLINTNEXTLINE(clang-analyzer-unix.StdCLibraryFunctions): dir is open */
            unlinkat(dirfd(dir), name, 0);
    }
    if (dir)
        closedir(dir);
}

enum sw_status sw_store_open_folder(const char *folder)
{
    char cells[PATH_MAX];
    if (snprintf(cells, sizeof cells, "%s/cells", folder) >= (int)sizeof cells)
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", folder);
    SW_TRY(make_folder(folder));
    SW_TRY(prove_writable(folder));
    SW_TRY(make_folder(cells));
    SW_TRY(prove_writable(cells));
    remove_leftovers(folder);
    remove_leftovers(cells);
    return SW_OK;
}

bool sw_store_has_cell(const char *folder, const char *key, bool *failed)
{
    char path[PATH_MAX];
    *failed = false;
    if (snprintf(path, sizeof path, "%s/cells/%s.h5", folder, key) >= (int)sizeof path ||
        access(path, F_OK) != 0)
        return false;
    hid_t file = -1;
    char *status = NULL;
    enum sw_status st = sw_h5_open(path, &file);
    if (st == SW_OK)
        st = sw_h5_get_text(file, "status", &status);
    if (st == SW_OK)
        *failed = strcmp(status, sw_result_status_names[SW_RESULT_FAILED]) == 0;
    else
        sw_error_clear(); /* damaged: as good as absent, it is made again */
    free(status);
    sw_h5_close(file);
    return st == SW_OK;
}

static enum sw_status says_baseline(const char *path, const char *wanted, bool *same)
{
    hid_t file;
    char *found = NULL;
    SW_TRY(sw_h5_open(path, &file));
    enum sw_status st = SW_OK;
    if (H5Aexists(file, "baseline") > 0)
        st = sw_h5_get_text(file, "baseline", &found);
    *same = found && strcmp(found, wanted) == 0;
    free(found);
    sw_h5_close(file);
    return st;
}

enum sw_status sw_store_set_baseline(const char *folder, const char *key, enum sw_baseline baseline)
{
    char cells[PATH_MAX], path[PATH_MAX + 64];
    const char *wanted = sw_baseline_names[baseline];
    if (snprintf(cells, sizeof cells, "%s/cells", folder) >= (int)sizeof cells)
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", folder);
    snprintf(path, sizeof path, "%s/%s.h5", cells, key);
    bool same;
    SW_TRY(says_baseline(path, wanted, &same));
    if (same)
        return SW_OK;
    struct sw_h5_file file;
    SW_TRY(sw_h5_change(cells, key, &file));
    if (H5Aexists(file.id, "baseline") > 0 && H5Adelete(file.id, "baseline") < 0) {
        sw_h5_discard(&file);
        return SW_H5_FAIL(SW_EIO, "baseline");
    }
    enum sw_status st = sw_h5_set_text(file.id, "baseline", wanted);
    if (st == SW_OK)
        return sw_h5_publish(&file);
    sw_h5_discard(&file);
    return sw_context(st, "%s", path);
}
