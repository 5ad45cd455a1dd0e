/* Element types of tensor files and their conversion to and from float.
 * The 8- and 16-bit side may lie at any address; in and out do not overlap; n elements. */
#ifndef DAGLINE_IO_DTYPE_H
#define DAGLINE_IO_DTYPE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* X(name in the file, bits of an element): the dtypes of the safetensors format. */
#define DTYPES(X)                                                                                  \
    X(BOOL, 8)                                                                                     \
    X(F4, 4)                                                                                       \
    X(F6_E2M3, 6)                                                                                  \
    X(F6_E3M2, 6)                                                                                  \
    X(U8, 8)                                                                                       \
    X(I8, 8)                                                                                       \
    X(F8_E5M2, 8)                                                                                  \
    X(F8_E4M3, 8)                                                                                  \
    X(F8_E8M0, 8)                                                                                  \
    X(F8_E4M3FNUZ, 8)                                                                              \
    X(F8_E5M2FNUZ, 8)                                                                              \
    X(I16, 16)                                                                                     \
    X(U16, 16)                                                                                     \
    X(F16, 16)                                                                                     \
    X(BF16, 16)                                                                                    \
    X(I32, 32)                                                                                     \
    X(U32, 32)                                                                                     \
    X(F32, 32)                                                                                     \
    X(C64, 64)                                                                                     \
    X(F64, 64)                                                                                     \
    X(I64, 64)                                                                                     \
    X(U64, 64)

enum dtype {
#define X(name, bits) DTYPE_##name,
    DTYPES(X)
#undef X
        DTYPE_COUNT
};

/* "F32"; never NULL for a dtype below DTYPE_COUNT. */
const char *dtype_name(enum dtype dtype);
/* Bits of one element. */
unsigned dtype_bits(enum dtype dtype);
/* The dtype of that name in *out; -1 where there is none. */
int dtype_parse(enum dtype *out, const char *name) MUST_USE;

/* -1 for what is not F32, F64, F16, BF16, F8_E4M3 or F8_E5M2. */
int dtype_to_float(float *out, enum dtype dtype, const void *in, size_t n) MUST_USE;
/* -1 for what is not a signed or unsigned integer of up to 64 bits; U64 wraps. */
int dtype_to_int64(int64_t *out, enum dtype dtype, const void *in, size_t n) MUST_USE;
/* -1 for what is not F32, F16 or BF16.  Round to nearest even; too large becomes infinity, NaN
 * stays NaN. */
int dtype_from_float(void *out, enum dtype dtype, const float *in, size_t n) MUST_USE;

#endif
