/* Scaled dot-product attention, softmax(scale q k^T) v, for self and cross attention with any
 * number of heads.  Rows have strides, so q, k and v may be columns of one fused buffer.  The
 * probabilities are never kept: the forward pass saves the log of each row's sum, the backward pass
 * recomputes from it (Dao et al. 2022). Short sequences (Lk <= ATTENTION_SHORT_MAX) hold a whole
 * row of scores at a time; longer ones go in blocks with a running maximum, so that work memory
 * does not grow with Lq x Lk. Thread rule: pure; the work memory belongs to the call. */
#ifndef DAGLINE_NN_ATTENTION_H
#define DAGLINE_NN_ATTENTION_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

#define ATTENTION_SHORT_MAX 256

/* Head h of row l of sample b of q starts at q + (b * Lq + l) * q_stride + h * d, and so on.
 * Strides count reals; q_stride >= heads * d.  causal: query i sees keys 0..i; needs Lq == Lk. */
struct attention_shape {
    size_t B, heads, Lq, Lk, d;
    size_t q_stride, k_stride, v_stride, y_stride;
    double scale; /* 1 / sqrt(d) as a rule */
    bool causal;
};

/* Work memory, 64-byte aligned by the caller. */
size_t attention_forward_work_bytes(struct attention_shape s);
size_t attention_backward_work_bytes(struct attention_shape s);

/* q: [B,Lq,heads*d], k, v: [B,Lk,heads*d].  Overwrites y [B,Lq,heads*d] and lse [B,heads,Lq], the
 * natural log of the sum of exp(scale q k); lse may be NULL where no backward pass follows. */
void attention_forward(real *y, real *lse, const real *q, const real *k, const real *v,
                       struct attention_shape s, void *work);

/* Overwrites d_q [B,Lq,heads*d], d_k, d_v [B,Lk,heads*d], which have the strides of q, k, v; d_k
 * and d_v may both be NULL (frozen context).  d_y has y's stride; y and lse as the forward pass
 * left them. */
void attention_backward(real *d_q, real *d_k, real *d_v, const real *d_y, const real *q,
                        const real *k, const real *v, const real *y, const real *lse,
                        struct attention_shape s, void *work);

#endif
