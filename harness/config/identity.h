/* identity.h: what decides a cell's outcome, written down in one place, and the three hashes that
 * say which cells are the same.
 *
 * An identity is a JSON object: version, code, backend, device, variant, workload, input, method,
 * params, param_files, context, density, phase, budget, dense_layers, seed, measure, save; where
 * time is measured also threads and timing. It is stored with the cell, so that the hashes can be
 * made again from a file.
 *
 *   key         of all of it: names the cell's file.
 *   experiment  of all but the code. Two cells with one experiment differ in the code's version
 *               alone; the newer one replaces the older.
 *   conditions  of what remains without code, method, params, param_files, density and budget: what
 *               a cell shares with the dense, oracle and one-hop cells that it is compared with.
 *               The budget is not among them, since it says how a method reaches its density:
 * beside a calibrated method stand dense, which has no budget, and methods without a threshold,
 * whose budget is matched.
 *
 * In `experiment`, parameters at their default count as absent, so that a parameter which a later
 * version adds does not part a cell from its earlier self. */
#ifndef SW_IDENTITY_H
#define SW_IDENTITY_H

#include "core/backend.h"
#include "harness/config/cell.h"

/* Sets the cell's identity and its three hashes. Everything else of the cell is set before, but for
 * state, reason and estimates. */
SW_MUST_CHECK enum sw_status sw_identify(struct sw_cell *cell, const struct sw_backend *backend);

struct sw_identity_hashes {
    char key[SW_HASH_SIZE], experiment[SW_HASH_SIZE], conditions[SW_HASH_SIZE];
};

/* The hashes of a stored identity; the spelling of its numbers and the order of its members do not
 * matter. SW_EINPUT: not an identity. */
SW_MUST_CHECK enum sw_status sw_identity_hash(const char *identity, struct sw_identity_hashes *out);

#endif
