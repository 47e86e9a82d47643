/* Claims: which of several processes runs a cell. */
#include "harness/store/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OPEN_FLAGS = O_RDWR | O_CREAT | O_CLOEXEC, POLL_MS = 50 };

/* The file is still the one of that name: its last owner removes it, and who opened it just before
 * would lock a file that nobody else sees. */
static bool is_current(int fd, int folder, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && fstatat(folder, path, &named, 0) == 0 &&
           held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

static bool has_no_locks(int why)
{
    return why == ENOLCK || why == ENOSYS || why == EOPNOTSUPP || why == EINVAL;
}

static void warn_of_no_locks(const char *path, int why)
{
    static bool warned;
    if (!warned)
        fprintf(stderr, "swbench: %s: no locks here (%s): other processes may run the same cells\n",
                path, strerror(why));
    warned = true;
}

/* Opens and locks out->path. */
static enum sw_status take(struct sw_claim *out, bool *got)
{
    for (;;) {
        out->fd = open(out->path, OPEN_FLAGS, 0666);
        if (out->fd < 0 && errno == EINTR)
            continue;
        if (out->fd < 0)
            return SW_FAIL(SW_EIO, "%s: cannot create: %s", out->path, strerror(errno));
        if (flock(out->fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno == EWOULDBLOCK)
                return SW_OK;
            if (errno == EINTR) {
                close(out->fd);
                continue;
            }
            if (!has_no_locks(errno))
                return SW_FAIL(SW_EIO, "%s: cannot lock: %s", out->path, strerror(errno));
            warn_of_no_locks(out->path, errno);
            *got = true;
            return SW_OK;
        }
        if (is_current(out->fd, AT_FDCWD, out->path)) {
            *got = true;
            return SW_OK;
        }
        close(out->fd);
    }
}

enum sw_status sw_claim_try(const char *folder, const char *name, struct sw_claim *out, bool *got)
{
    *out = (struct sw_claim){.fd = -1};
    *got = false;
    if (asprintf(&out->path, "%s/.%s.lock", folder, name) < 0) {
        out->path = NULL;
        return SW_FAIL(SW_ENOMEM, "file name: out of host memory");
    }
    enum sw_status st = take(out, got);
    if (*got)
        return st;
    if (out->fd >= 0)
        close(out->fd); /* not ours to remove */
    free(out->path);
    *out = (struct sw_claim){.fd = -1};
    return st;
}

enum sw_status sw_claim_wait(const char *folder, const char *name, double seconds,
                             struct sw_claim *out, bool *got)
{
    SW_TRY(sw_claim_try(folder, name, out, got));
    for (double waited = 0; !*got && waited < seconds; waited += POLL_MS / 1e3) {
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
        SW_TRY(sw_claim_try(folder, name, out, got));
    }
    return SW_OK;
}

void sw_claim_release(struct sw_claim *claim)
{
    if (!claim->path)
        return;
    /* while it is locked: who waits for it then finds another file, or none, under the name */
    unlink(claim->path);
    close(claim->fd);
    free(claim->path);
    *claim = (struct sw_claim){.fd = -1};
}

void sw_claim_remove_leftover(int folder_fd, const char *name)
{
    size_t length = strlen(name);
    if (name[0] != '.' || length < 5 || strcmp(name + length - 5, ".lock") != 0)
        return;
    int fd = openat(folder_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_current(fd, folder_fd, name))
        unlinkat(folder_fd, name, 0);
    close(fd);
}
