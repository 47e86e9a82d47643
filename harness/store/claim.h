/* claim.h: who works on what in a result folder, so that processes (of one machine or many, under
 * MPI or not) share a sweep. A claim is a flock of a hidden file beside what it is about:
 * cells/.<key>.lock of a cell, .results.lock of results.h5. The kernel gives it up with the
 * process, however that ends, so a file that is left over claims nothing; the next run removes it.
 *
 * Over NFS (v4, or v3 with lockd) Linux passes flock on to the server, so it holds between
 * machines; while a client is cut off for longer than the server's lease, or where a file system
 * has no locks at all, two processes may run one cell twice. Each then publishes the whole file by
 * rename, so nothing but time is lost. */
#ifndef SW_CLAIM_H
#define SW_CLAIM_H

#include <stdbool.h>

#include "core/status.h"

struct sw_claim {
    int fd;
    char *path;
}; /* path NULL: holds nothing */

/* Tries to claim folder/.<name>.lock. *got false: another process has it. Where the file system has
 * no locks, everyone gets it, which is said once on stderr. Making the file also renews what an NFS
 * client believes of the folder: look for the result after the claim, not before. SW_EIO. */
SW_MUST_CHECK enum sw_status sw_claim_try(const char *folder, const char *name,
                                          struct sw_claim *out, bool *got);
/* The same, waiting for `seconds` at most. */
SW_MUST_CHECK enum sw_status sw_claim_wait(const char *folder, const char *name, double seconds,
                                           struct sw_claim *out, bool *got);
void sw_claim_release(struct sw_claim *claim); /* removes the file */

/* Removes `name` (an entry of the open folder) if it is the lock file of a claim that nobody
 * holds. */
void sw_claim_remove_leftover(int folder_fd, const char *name);

#endif
