/* Pointwise activations and GEGLU, forward and backward.  Backward passes recompute from the input.
 * Thread rule: pure. */
#ifndef DAGLINE_NN_ACT_H
#define DAGLINE_NN_ACT_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

#define ACT_LEAKY_SLOPE 0.01

enum act {
    ACT_NONE,       /* x */
    ACT_SILU,       /* x sigmoid(x) */
    ACT_GELU,       /* x (1 + erf(x / sqrt 2)) / 2, the exact form */
    ACT_QUICK_GELU, /* x sigmoid(1.702 x), as in CLIP */
    ACT_LEAKY,      /* x > 0 ? x : ACT_LEAKY_SLOPE x */
};

/* y = f(x).  x, y: [n]; y may be x. Overwrites y. */
void act_forward(real *y, const real *x, size_t n, enum act kind);

/* d_x = d_y f'(x), overwritten, or added to where accumulate is set; d_x may be d_y. All [n]. */
void act_backward(real *d_x, const real *d_y, const real *x, size_t n, enum act kind,
                  bool accumulate);

/* y = value gelu(gate), gelu in its exact form.  x: [rows,2F], each row value[F] then gate[F]
 * (diffusers' GEGLU: the value comes first); y: [rows,F], overwritten; must not overlap x. */
void geglu_forward(real *y, const real *x, size_t rows, size_t F);

/* d_x [rows,2F] is overwritten, or added to where accumulate is set.  d_y: [rows,F]; x: [rows,2F].
 */
void geglu_backward(real *d_x, const real *d_y, const real *x, size_t rows, size_t F,
                    bool accumulate);

#endif
