/* slash_tiles.h: the keys that MInference's released kernel reads for a vertical-slash head:
 * slashes as tiles, columns one by one. */
#ifndef SW_METHODS_SLASH_TILES_H
#define SW_METHODS_SLASH_TILES_H

#include <stdint.h>

#include "core/status.h"

/* Queries go in tiles of T = 64 tokens, or of a block where that is larger. For the tile that ends
 * before token e, the slash of distance δ < e is the keys e - δ - T … e - δ - 1, none before 0.
 * Tiles that overlap or touch are one range, which grows by whole T: so it can reach past the last
 * of them, up to T - 1 keys. Kept are the ranges' keys and the columns.
 * columns, slashes: flags [n]. keep: flags [b, b], those of blocks j > i are 0. keys: NULL or [b,
 * b, ceil(B / 64)], bit u mod B. Host memory all. SW_ENOMEM. */
SW_MUST_CHECK enum sw_status sw_slash_tiles(const uint8_t *columns, const uint8_t *slashes, int n,
                                            int block, uint8_t *keep, uint64_t *keys);

#endif
