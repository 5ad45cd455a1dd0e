#include "nn/elem.h"

#include "nn/elem_simd.h"

#include <string.h>

void elem_add(real *y, const real *a, const real *b, size_t n)
{
    SIMD_PICK(elem_sum)(y, a, b, n);
}

void elem_accumulate(real *y, const real *x, size_t n)
{
    SIMD_PICK(elem_sum)(y, y, x, n);
}

void elem_scale(real *y, const real *x, double factor, size_t n)
{
    SIMD_PICK(elem_times)(y, x, (real)factor, n);
}

void elem_add_bias(real *y, const real *x, const real *bias, size_t rows, size_t C)
{
    SIMD_PICK(elem_bias)(y, x, bias, rows, C);
}

void elem_add_bias_backward(real *d_bias, const real *d_y, size_t rows, size_t C)
{
    SIMD_PICK(elem_columns)(d_bias, d_y, rows, C);
}

void elem_add_sample_bias(real *y, const real *x, const real *bias, size_t B, size_t HW, size_t C)
{
    for (size_t b = 0; b < B; b++)
        SIMD_PICK(elem_bias)(y + b * HW * C, x + b * HW * C, bias + b * C, HW, C);
}

void elem_add_sample_bias_backward(real *d_bias, const real *d_y, size_t B, size_t HW, size_t C,
                                   bool accumulate)
{
    if (!accumulate)
        memset(d_bias, 0, B * C * sizeof *d_bias);
    for (size_t b = 0; b < B; b++)
        SIMD_PICK(elem_columns)(d_bias + b * C, d_y + b * HW * C, HW, C);
}

void elem_concat(real *y, const real *a, const real *b, size_t rows, size_t C_a, size_t C_b)
{
    for (size_t row = 0; row < rows; row++, y += C_a + C_b) {
        memcpy(y, a + row * C_a, C_a * sizeof *y);
        memcpy(y + C_a, b + row * C_b, C_b * sizeof *y);
    }
}

/* One half of a split: columns at y of rows that are `stride` apart. */
static void take(real *part, const real *y, size_t rows, size_t C, size_t stride, bool accumulate)
{
    for (size_t row = 0; row < rows; row++, part += C, y += stride) {
        if (accumulate)
            elem_accumulate(part, y, C);
        else
            memcpy(part, y, C * sizeof *part);
    }
}

void elem_split(real *a, real *b, const real *y, size_t rows, size_t C_a, size_t C_b,
                bool accumulate_a, bool accumulate_b)
{
    if (a != NULL)
        take(a, y, rows, C_a, C_a + C_b, accumulate_a);
    if (b != NULL)
        take(b, y + C_a, rows, C_b, C_a + C_b, accumulate_b);
}
