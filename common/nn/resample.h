/* Changes of resolution of NHWC activations: nearest neighbour to any size with its transpose, and
 * the mean over the whole plane.  Thread rule: pure. */
#ifndef DAGLINE_NN_RESAMPLE_H
#define DAGLINE_NN_RESAMPLE_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

/* x: [B,H,W,C] -> y: [B,H_out,W_out,C].  Twice the size is H_out = 2 H, W_out = 2 W; any other size
 * serves skips whose size is odd.  Source row of output row i: floor(i H / H_out), as PyTorch's
 * "nearest". */
struct resample_shape {
    size_t B, H, W, C, H_out, W_out;
};

/* Overwrites y. */
void resample_nearest_forward(real *y, const real *x, struct resample_shape s);

/* d_x [B,H,W,C] = sum of d_y over the outputs that read each input; overwritten, or added to. */
void resample_nearest_backward(real *d_x, const real *d_y, struct resample_shape s,
                               bool accumulate);

/* y [B,C] = mean over HW of x [B,HW,C]. Overwrites y. */
void resample_mean_forward(real *y, const real *x, size_t B, size_t HW, size_t C);

/* d_x [B,HW,C] = d_y [B,C] / HW, overwritten, or added to where accumulate is set. */
void resample_mean_backward(real *d_x, const real *d_y, size_t B, size_t HW, size_t C,
                            bool accumulate);

#endif
