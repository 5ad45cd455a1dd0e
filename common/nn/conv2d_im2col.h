/* Convolution as a matrix product over gathered taps (im2col): every shape of nn/conv2d.h, in
 * `real`. With gemm_blas it is the reference.  Model code uses nn/conv2d.h.
 *
 * A block of output lines at a time, the K x K taps of all C channels of each output pixel are laid
 * out as one row, [pixels, K*K*C]; a 1x1 kernel of stride 1 needs no copy.
 *
 * Thread rule: pure.  Work memory and derived weights are 64-byte aligned by the caller. */
#ifndef DAGLINE_NN_CONV2D_IM2COL_H
#define DAGLINE_NN_CONV2D_IM2COL_H

#include "nn/conv2d.h"

/* gemm or gemm_blas of nn/gemm.h. */
typedef void conv2d_product(bool trans_a, bool trans_b, size_t M, size_t N, size_t K, real alpha,
                            const real *A, size_t lda, const real *B, size_t ldb, real beta,
                            real *C, size_t ldc);

/* The weights as [K*K,C,O]; none for K = 1, which reads w itself. */
size_t im2col_weights_bytes(struct conv2d_shape s);
void im2col_weights(real *to, const real *w, struct conv2d_shape s);

/* For any of the three passes. */
size_t im2col_work_bytes(struct conv2d_shape s);

/* The passes of nn/conv2d.h over s.B samples; weights from im2col_weights. */
void im2col_forward(real *y, const real *x, const real *w, const real *weights, const real *bias,
                    struct conv2d_shape s, conv2d_product *product, void *work);
void im2col_backward_data(real *d_x, bool accumulate, const real *d_y, const real *w,
                          const real *weights, struct conv2d_shape s, conv2d_product *product,
                          void *work);
void im2col_backward_weights(real *d_w, const real *d_y, const real *x, struct conv2d_shape s,
                             conv2d_product *product, void *work);

/* The size of the output. */
size_t conv2d_out_size(struct conv2d_shape s, size_t in);

#endif
