/* AdamW with decoupled weight decay and bias correction (Loshchilov & Hutter 2019, as
 * torch.optim.AdamW), the global gradient norm, and the exponential moving average of weights.  All
 * state lies in the caller's slabs: saving an optimiser is saving m, v and the step counter. One
 * training step: if (adamw_grad_norm(&norm, &bad, slices, count) < 0)  -> slices[bad] has a NaN or
 * an infinity: stop adamw_step(slices, count, &settings, ++step, adamw_clip_factor(norm,
 * norm_max)); Thread rule: pure; slices may be stepped by different threads. */
#ifndef DAGLINE_NN_ADAMW_H
#define DAGLINE_NN_ADAMW_H

#include "base/err.h"
#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One parameter tensor.  value, grad, m, v: [n]; m and v start at zero. */
struct adamw_slice {
    real *value;
    const real *grad;
    real *m;
    real *v;
    size_t n;
    bool no_decay; /* leave this tensor out of weight decay (norms and biases, where wanted) */
};

struct adamw_settings {
    double lr;           /* 1/step */
    double beta1, beta2; /* 0.9, 0.999 */
    double eps;          /* 1e-8, outside the root */
    double weight_decay; /* 0.01: value -= lr weight_decay value */
};

/* *norm = sqrt(sum of squares of every gradient), in double.  -1 where a gradient is not finite;
 * *bad is then the index of the first such slice (and *norm is NaN). */
int adamw_grad_norm(double *norm, size_t *bad, const struct adamw_slice *slices,
                    size_t count) MUST_USE;

/* min(1, norm_max / (norm + 1e-6)), as torch's clip_grad_norm_; 1 where norm_max <= 0 (off). */
double adamw_clip_factor(double norm, double norm_max);

/* g = grad_factor grad; value *= 1 - lr weight_decay; m = beta1 m + (1 - beta1) g; v = beta2 v + (1
 * - beta2) g^2; value -= lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).  step
 * counts from 1. */
void adamw_step(const struct adamw_slice *slices, size_t count, const struct adamw_settings *s,
                uint64_t step, double grad_factor);

/* average += (1 - decay) (value - average), [n]. */
void adamw_ema(real *average, const real *value, size_t n, double decay);

#endif
