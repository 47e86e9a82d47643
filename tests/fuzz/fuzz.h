/* fuzz.h: what the fuzz targets share. Each target is one function that libFuzzer calls with bytes;
 * it must come back whatever they are, and the sanitizers say what went wrong on the way. Statuses
 * are not looked at: any answer is right that is an answer. */
#ifndef SW_FUZZ_H
#define SW_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file in memory that holds the bytes, until the next call. Returns its path. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* A folder in memory with one file of that name, until the next call. Returns the folder's path. */
const char *fuzz_folder(const char *name, const uint8_t *data, size_t size);

/* Messages go here: they are formatted, and dropped. */
FILE *fuzz_messages(void);

#endif
