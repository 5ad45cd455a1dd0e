/* Element-wise sums, broadcasts over rows, joining and splitting of channels.  Thread rule: pure.
 */
#ifndef DAGLINE_NN_ELEM_H
#define DAGLINE_NN_ELEM_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

/* y = a + b, [n].  y may be a or b.  Overwrites y. */
void elem_add(real *y, const real *a, const real *b, size_t n);

/* y += x, [n]: the backward pass of a fan-out. */
void elem_accumulate(real *y, const real *x, size_t n);

/* y = factor x, [n].  y may be x. */
void elem_scale(real *y, const real *x, double factor, size_t n);

/* y [rows,C] = x [rows,C] + bias [C].  y may be x. */
void elem_add_bias(real *y, const real *x, const real *bias, size_t rows, size_t C);

/* ACCUMULATES the sum over rows of d_y [rows,C] into d_bias [C]. */
void elem_add_bias_backward(real *d_bias, const real *d_y, size_t rows, size_t C);

/* y [B,HW,C] = x [B,HW,C] + bias [B,C], one bias a sample (the time embedding of a resnet block).
 * y may be x. */
void elem_add_sample_bias(real *y, const real *x, const real *bias, size_t B, size_t HW, size_t C);

/* d_bias [B,C] = sum over HW of d_y [B,HW,C]; overwritten, or added to where accumulate is set. */
void elem_add_sample_bias_backward(real *d_bias, const real *d_y, size_t B, size_t HW, size_t C,
                                   bool accumulate);

/* y [rows,C_a+C_b]: each row is a's row, then b's (the up blocks put the hidden state first, the
 * skip second). a: [rows,C_a], b: [rows,C_b].  Overwrites y. */
void elem_concat(real *y, const real *a, const real *b, size_t rows, size_t C_a, size_t C_b);

/* The transpose: a, b = the two parts of y's rows; each overwritten, or added to where its flag is
 * set; either may be NULL (not wanted). */
void elem_split(real *a, real *b, const real *y, size_t rows, size_t C_a, size_t C_b,
                bool accumulate_a, bool accumulate_b);

#endif
