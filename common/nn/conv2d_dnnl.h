/* Convolution by oneDNN: its direct algorithm over NHWC, a sample at a time, so that the batch may
 * vary and a sample's result does not depend on it.  In a build without oneDNN, and in double
 * precision, conv2d_dnnl_can is false and the rest is never called.  Model code uses nn/conv2d.h.
 *
 * oneDNN allocates small objects of its own in every call.  Thread rule: read-only once open. */
#ifndef DAGLINE_NN_CONV2D_DNNL_H
#define DAGLINE_NN_CONV2D_DNNL_H

#include "nn/conv2d.h"

bool conv2d_dnnl_can(struct conv2d_shape s);

/* Builds the primitives of the passes whose algo is CONV2D_DNNL. */
int conv2d_dnnl_open(struct conv2d_dnnl **out, struct conv2d_shape s,
                     const enum conv2d_algo algo[CONV2D_PASSES], struct err *e) MUST_USE;

/* Accepts NULL. */
void conv2d_dnnl_close(struct conv2d_dnnl *d);

/* Bytes of the weights in the order that a pass reads, and the copy of w [O,C,K,K] into it. */
size_t conv2d_dnnl_weights_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass);
void conv2d_dnnl_weights(const struct conv2d_dnnl *d, enum conv2d_pass pass, void *to,
                         const real *w);

size_t conv2d_dnnl_work_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass);

/* The passes of nn/conv2d.h. */
void conv2d_dnnl_forward(const struct conv2d_dnnl *d, size_t B, real *y, const real *x,
                         const void *weights, const real *bias, void *work);
void conv2d_dnnl_backward_data(const struct conv2d_dnnl *d, size_t B, real *d_x, bool accumulate,
                               const real *d_y, const void *weights, void *work);
void conv2d_dnnl_backward_weights(const struct conv2d_dnnl *d, size_t B, real *d_w, const real *d_y,
                                  const real *x, void *work);

#endif
