#include "io/dtype.h"

#include <string.h>

/* The loops below have no branch in them, so that a compiler turns them into vector code; none of
 * them needs F16C.  memcpy of a few bytes is an unaligned load. */

const char *dtype_name(enum dtype dtype)
{
    static const char *const names[DTYPE_COUNT] = {
#define X(name, bits) #name,
        DTYPES(X)
#undef X
    };
    return names[dtype];
}

unsigned dtype_bits(enum dtype dtype)
{
    static const unsigned char widths[DTYPE_COUNT] = {
#define X(name, bits) bits,
        DTYPES(X)
#undef X
    };
    return widths[dtype];
}

int dtype_parse(enum dtype *out, const char *name)
{
    for (unsigned i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(name, dtype_name((enum dtype)i)) == 0) {
            *out = (enum dtype)i;
            return 0;
        }
    return -1;
}

static float float_of_bits(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint32_t bits_of_float(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* The exponent is moved from bias 15 to 127 by an exact multiplication, which turns half subnormals
 * into normal floats; infinities and NaNs get the exponent that the multiplication cannot reach. */
static float float_of_half(uint32_t half)
{
    const uint32_t magnitude = (half & 0x7fffu) << 13;
    const uint32_t scaled = bits_of_float(float_of_bits(magnitude) * 0x1p112f);
    const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    return float_of_bits(scaled | special | (half & 0x8000u) << 16);
}

/* Round to nearest even by hand: normal results add half an ulp and let the carry run into the
 * exponent, subnormal ones are rounded by the float adder itself (0.5 has the ulp of a half
 * subnormal). */
static uint32_t half_of_float(float v)
{
    const uint32_t bits = bits_of_float(v), sign = bits >> 16 & 0x8000u,
                   magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    const uint32_t small = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = magnitude < 0x38800000u ? small : normal;
    return sign | (magnitude >= 0x47800000u ? large : finite);
}

static void f16_to_float(float *restrict out, const unsigned char *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, in + 2 * i, 2);
        out[i] = float_of_half(half);
    }
}

static void bf16_to_float(float *restrict out, const unsigned char *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t high;
        memcpy(&high, in + 2 * i, 2);
        out[i] = float_of_bits((uint32_t)high << 16);
    }
}

static void f64_to_float(float *restrict out, const unsigned char *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, in + 8 * i, 8);
        out[i] = (float)v;
    }
}

/* E5M2 is the upper half of an F16. */
static void f8_e5m2_to_float(float *restrict out, const unsigned char *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = float_of_half((uint32_t)in[i] << 8);
}

/* E4M3 (the "FN" form of the files): bias 7, no infinities, 0x7f is NaN. */
static void f8_e4m3_to_float(float *restrict out, const unsigned char *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t sign = (in[i] & 0x80u) << 24, magnitude = in[i] & 0x7fu;
        const uint32_t scaled = bits_of_float(float_of_bits(magnitude << 20) * 0x1p120f);
        out[i] = float_of_bits(sign | (magnitude == 0x7fu ? 0x7fc00000u : scaled));
    }
}

int dtype_to_float(float *out, enum dtype dtype, const void *in, size_t n)
{
    if (dtype == DTYPE_F32 && n > 0)
        memcpy(out, in, n * sizeof *out);
    else if (dtype == DTYPE_F16)
        f16_to_float(out, in, n);
    else if (dtype == DTYPE_BF16)
        bf16_to_float(out, in, n);
    else if (dtype == DTYPE_F64)
        f64_to_float(out, in, n);
    else if (dtype == DTYPE_F8_E5M2)
        f8_e5m2_to_float(out, in, n);
    else if (dtype == DTYPE_F8_E4M3)
        f8_e4m3_to_float(out, in, n);
    else
        return dtype == DTYPE_F32 ? 0 : -1;
    return 0;
}

int dtype_to_int64(int64_t *out, enum dtype dtype, const void *in, size_t n)
{
    const unsigned char *bytes = in;
    const size_t size = dtype_bits(dtype) / 8;
    const int is_signed =
        dtype == DTYPE_I8 || dtype == DTYPE_I16 || dtype == DTYPE_I32 || dtype == DTYPE_I64;
    if (!is_signed && dtype != DTYPE_U8 && dtype != DTYPE_U16 && dtype != DTYPE_U32 &&
        dtype != DTYPE_U64)
        return -1;
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 0;
        memcpy(&v, bytes + i * size, size);
        if (is_signed && size < 8 && (v >> (8 * size - 1) & 1) != 0)
            v |= ~UINT64_C(0) << (8 * size);
        out[i] = (int64_t)v;
    }
    return 0;
}

static void float_to_f16(unsigned char *restrict out, const float *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = (uint16_t)half_of_float(in[i]);
        memcpy(out + 2 * i, &half, 2);
    }
}

static void float_to_bf16(unsigned char *restrict out, const float *restrict in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = bits_of_float(in[i]);
        const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        /* rounding must not carry a NaN into infinity: keep it quiet instead */
        const uint32_t nan = bits >> 16 | 0x40u;
        const uint16_t high = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
        memcpy(out + 2 * i, &high, 2);
    }
}

int dtype_from_float(void *out, enum dtype dtype, const float *in, size_t n)
{
    if (dtype == DTYPE_F32 && n > 0)
        memcpy(out, in, n * sizeof *in);
    else if (dtype == DTYPE_F16)
        float_to_f16(out, in, n);
    else if (dtype == DTYPE_BF16)
        float_to_bf16(out, in, n);
    else
        return dtype == DTYPE_F32 ? 0 : -1;
    return 0;
}
