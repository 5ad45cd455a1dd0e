/* 3x3 convolution of stride 1 with a zero border of 1, by Winograd's F(4x4, 3x3) (Lavin and Gray
 * 2016): a quarter of the multiplications.  Single precision, NHWC, on the tiles of gemm_kernel.h,
 * which the processor must have.  Model code uses nn/conv2d.h, which picks this where it wins.
 *
 * An output tile of 4x4 comes from an input tile of 6x6: V = B^T x B, M = V U over the channels at
 * each of the 36 points, y = A^T M A, with U = G w G^T prepared once.  The interpolation points are
 * 0, +-1/sqrt(2), +-sqrt(2) and infinity: their transforms keep the numbers within a narrow range,
 * and the result is 4 to 5 times closer to the exact sum than with the usual 0, +-1, +-2
 * (about 2e-6 of the output's maximum at 160 channels).  A sample's result does not depend on the
 * other samples of its batch.
 *
 * Thread rule: pure.  Work memory and U are 64-byte aligned by the caller. */
#ifndef DAGLINE_NN_CONV2D_WINOGRAD_H
#define DAGLINE_NN_CONV2D_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

struct winograd; /* the kernels of one instruction set */

/* As gemm_kernel_best and gemm_kernel_named: NULL where this processor has them not. */
const struct winograd *winograd_best(void);
const struct winograd *winograd_named(const char *name);

/* Bytes of U for C channels in and O out, and the transform of w [O,C,3,3] into it.  With backward
 * set it is the filter of the pass back, from O channels to C: winograd_filter_bytes(g, O, C). */
size_t winograd_filter_bytes(const struct winograd *g, size_t C, size_t O);
void winograd_filter(const struct winograd *g, float *U, const float *w, size_t O, size_t C,
                     bool backward);

/* x: [B,H,W,C], y: [B,H,W,O]; C and O may be taken in either order. */
struct winograd_shape {
    size_t B, H, W, C, O;
};

/* For the two functions below. */
size_t winograd_work_bytes(const struct winograd *g, struct winograd_shape s);

/* y = x * w + bias, overwritten, or added to where accumulate is set; bias [O] may be NULL.  The
 * pass back is the same with C and O exchanged, the backward filter and the gradients. */
void winograd_convolve(const struct winograd *g, float *y, bool accumulate, const float *x,
                       const float *U, const float *bias, struct winograd_shape s, void *work);

/* ACCUMULATES into d_w [O,C,3,3].  d_y: [B,H,W,O], x: [B,H,W,C]. */
void winograd_filter_gradient(const struct winograd *g, float *d_w, const float *d_y,
                              const float *x, struct winograd_shape s, void *work);

#endif
