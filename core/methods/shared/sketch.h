/* sketch.h: the subsampled randomised Hadamard transform (SRHT) x -> scale · S·H·D·x.
 *
 * D: random signs; H: the unnormalised Walsh–Hadamard matrix of size d' = next power of two >= d (x
 * is zero padded); S: the first r entries of a random permutation of the coordinates. With scale =
 * 1/sqrt(r), E<x~, y~> = <x, y>, and at r = d' it is exact. Signs and permutation are functions of
 * (seed, coordinate) alone: the same for queries and keys and for all layers.
 * Source: Sketch&Walk, arXiv 2602.07397, §"feature-space sketching"; Ailon & Chazelle 2009 for the
 * transform. */
#ifndef SW_SKETCH_H
#define SW_SKETCH_H

#include "core/backend.h"

int sw_next_power_of_two(int x);

/* Makes the transform in backend memory. r is clamped to d'. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_srht_make(struct sw_backend *be, int d, int r, uint64_t seed,
                                          struct sw_srht *out);
void sw_srht_free(struct sw_backend *be, struct sw_srht *t);

#endif
