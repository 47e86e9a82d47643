/* The keys that MInference's released kernel reads for a vertical-slash head. */
#include "core/methods/shared/slash_tiles.h"

#include <stdlib.h>
#include <string.h>

#include "core/selection.h"

enum { KERNEL_TILE = 64 }; /* BLOCK_SIZE_M and _N of pit_sparse_flash_attention_v2.py */

static void mark(uint8_t *read, int first, int end, int n)
{
    if (end > n)
        end = n;
    if (first < end)
        memset(read + first, 1, (size_t)(end - first));
}

/* Flags of the keys that the tile of queries before token `tile_end` reads. offsets: descending. */
static void read_by_tile(const uint8_t *columns, const int *offsets, int count, int tile_end,
                         int tile, int n, uint8_t *read)
{
    int first = 0, end = 0; /* the range so far; none where they are equal */
    memcpy(read, columns, (size_t)n);
    for (int s = 0; s < count; s++) {
        if (offsets[s] >= tile_end)
            continue;
        int reach = tile_end - offsets[s] > tile ? tile_end - offsets[s] : tile;
        if (first == end || reach > end + tile) {
            mark(read, first, end, n);
            first = reach - tile;
            end = reach;
        } else if (reach > end) {
            end += tile;
        }
    }
    mark(read, first, end, n);
}

/* Row i of keep and keys. */
static void write_row(const uint8_t *read, int i, int n, int block, int b, uint8_t *keep,
                      uint64_t *keys)
{
    int words = sw_query_words(block);
    memset(keep, 0, (size_t)b);
    if (keys)
        memset(keys, 0, (size_t)b * (size_t)words * sizeof *keys);
    for (int u = 0; u < n && u < (i + 1) * block; u++) {
        int j = u / block, bit = u % block;
        if (!read[u])
            continue;
        keep[j] = 1;
        if (keys)
            keys[(size_t)j * (size_t)words + (size_t)(bit / 64)] |= (uint64_t)1 << (bit % 64);
    }
}

enum sw_status sw_slash_tiles(const uint8_t *columns, const uint8_t *slashes, int n, int block,
                              uint8_t *keep, uint64_t *keys)
{
    int b = sw_blocks(n, block), tile = block > KERNEL_TILE ? block : KERNEL_TILE, count = 0;
    uint8_t *read = malloc((size_t)n);
    int *offsets = malloc((size_t)n * sizeof *offsets);
    if (!read || !offsets) {
        free(read);
        free(offsets);
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)n * (1 + sizeof *offsets));
    }
    for (int offset = n - 1; offset >= 0; offset--)
        if (slashes[offset])
            offsets[count++] = offset;
    for (int i = 0; i < b; i++) {
        size_t row = (size_t)i * (size_t)b;
        if (i * block % tile == 0)
            read_by_tile(columns, offsets, count, i * block + tile, tile, n, read);
        write_row(read, i, n, block, b, keep + row,
                  keys ? keys + row * (size_t)sw_query_words(block) : NULL);
    }
    free(read);
    free(offsets);
    return SW_OK;
}
