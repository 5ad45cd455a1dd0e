/* Allocation with checked sizes.  Small allocations never fail: without memory for a few kilobytes
 * the process says so and exits, and its supervisor starts it again.  Model-sized ones report. */
#ifndef DAGLINE_BASE_MEM_H
#define DAGLINE_BASE_MEM_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define MEM_ALIGN_BYTES 64

/* a * b in *out; -1 where the product does not fit size_t. */
int mem_mul(size_t a, size_t b, size_t *out) MUST_USE;

/* Zeroed memory for n objects of `size` bytes; ends the process with a message where there is none.
 * The caller frees with mem_free. n * size of 0 gives a valid pointer. */
void *mem_new(size_t n, size_t size) MUST_USE;

/* realloc with the same promise; grown memory is not zeroed. */
void *mem_grow(void *p, size_t n, size_t size) MUST_USE;

char *mem_strdup(const char *text) MUST_USE;

/* Zeroed, 64-byte aligned memory for tensors; NULL and an error that names the bytes asked for
 * and `what` they are for. Freed with mem_free. */
void *mem_slab(size_t bytes, const char *what, struct err *e) MUST_USE;

/* Accepts NULL. */
void mem_free(void *p);

/* Test hook: the nth allocation from now on fails once (0 switches off).  mem_new and mem_grow then
 * end the process, mem_slab reports. */
void mem_fail_nth(uint64_t nth);

#endif
