#include "base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_uint_fast64_t fail_countdown;

void mem_fail_nth(uint64_t nth)
{
    atomic_store(&fail_countdown, nth);
}

static int must_fail(void)
{
    uint_fast64_t left = atomic_load(&fail_countdown);
    while (left != 0)
        if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1))
            return left == 1;
    return 0;
}

static void *checked(void *p, size_t bytes)
{
    if (p == NULL) {
        fprintf(stderr, "out of memory: %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

int mem_mul(size_t a, size_t b, size_t *out)
{
    return __builtin_mul_overflow(a, b, out) ? -1 : 0;
}

void *mem_new(size_t n, size_t size)
{
    size_t bytes;
    if (mem_mul(n, size, &bytes) < 0)
        return checked(NULL, SIZE_MAX);
    return checked(must_fail() ? NULL : calloc(bytes == 0 ? 1 : bytes, 1), bytes);
}

void *mem_grow(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (mem_mul(n, size, &bytes) < 0)
        return checked(NULL, SIZE_MAX);
    return checked(must_fail() ? NULL : realloc(p, bytes == 0 ? 1 : bytes), bytes);
}

char *mem_strdup(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    return memcpy(mem_new(bytes, 1), text, bytes);
}

void *mem_slab(size_t bytes, const char *what, struct err *e)
{
    size_t rounded;
    if (__builtin_add_overflow(bytes, (size_t)MEM_ALIGN_BYTES, &rounded) || must_fail()) {
        err_set(e, ERR_FULL, "no memory for %zu bytes of %s", bytes, what);
        return NULL;
    }
    rounded -= rounded % MEM_ALIGN_BYTES;
    void *p = aligned_alloc(MEM_ALIGN_BYTES, rounded);
    if (p == NULL) {
        err_set(e, ERR_FULL, "no memory for %zu bytes of %s", bytes, what);
        return NULL;
    }
    return memset(p, 0, rounded);
}

void mem_free(void *p)
{
    free(p);
}
