#include "nn/vmath.h"

#include "nn/vmath_simd.h"

void vmath_exp(real *y, const real *x, size_t n)
{
    SIMD_PICK(vmath_fill_exp)(y, x, n);
}

void vmath_sigmoid(real *y, const real *x, size_t n)
{
    SIMD_PICK(vmath_fill_sigmoid)(y, x, n);
}

void vmath_tanh(real *y, const real *x, size_t n)
{
    SIMD_PICK(vmath_fill_tanh)(y, x, n);
}

void vmath_erf(real *y, const real *x, size_t n)
{
    SIMD_PICK(vmath_fill_erf)(y, x, n);
}

void vmath_log(real *y, const real *x, size_t n)
{
    SIMD_PICK(vmath_fill_log)(y, x, n);
}
