#include "nn/act.h"

#include "nn/act_simd.h"

void act_forward(real *y, const real *x, size_t n, enum act kind)
{
    SIMD_PICK(act_fill)(y, x, n, kind);
}

void act_backward(real *d_x, const real *d_y, const real *x, size_t n, enum act kind,
                  bool accumulate)
{
    SIMD_PICK(act_fill_backward)(d_x, d_y, x, n, kind, accumulate);
}

void geglu_forward(real *y, const real *x, size_t rows, size_t F)
{
    SIMD_PICK(act_geglu)(y, x, rows, F);
}

void geglu_backward(real *d_x, const real *d_y, const real *x, size_t rows, size_t F,
                    bool accumulate)
{
    SIMD_PICK(act_geglu_backward)(d_x, d_y, x, rows, F, accumulate);
}
