/* Attention of one head of one sample, one variant for each instruction set (nn/simd.h). */
#ifndef DAGLINE_NN_ATTENTION_SIMD_H
#define DAGLINE_NN_ATTENTION_SIMD_H

#include "nn/simd.h"

#include <stdbool.h>

/* Rows are padded to whole vectors of the widest instruction set. */
#define ATTENTION_PAD(n) (((n) + 15) & ~(size_t)15)
/* Keys that are handled at a time, forward and backward; queries at a time; scores at a time in the
 * forward pass. */
#define ATTENTION_KEYS ((size_t)256)
#define ATTENTION_KEYS_BACKWARD ((size_t)64)
#define ATTENTION_ROWS ((size_t)64)
#define ATTENTION_SCORES ((size_t)8192)

/* Inputs and outputs of one head, at its first column of the sample's first row. */
struct attention_head {
    const real *q, *k, *v;
    const real *y, *lse, *d_y; /* backward pass */
    size_t q_stride, k_stride, v_stride, y_stride;
    size_t Lq, Lk, d;
    real scale;
    bool causal;
};

/* Scratch.  Forward: keys [d,KEYS], values [KEYS,dp], scores [SCORES], rows [ROWS,dp], top, sum
 * [Lq] (dp: d padded). Backward: keys, values_t [d,KEYS_BACKWARD], keys_rows [KEYS_BACKWARD,dp],
 * scores, d_scores [ROWS,KEYS_BACKWARD], rows, q_rows, d_y_rows [ROWS,dp], d_keys, d_values
 * [KEYS_BACKWARD,dp]. */
struct attention_scratch {
    real *keys, *values, *scores, *rows, *top, *sum;
    real *keys_rows, *d_scores, *q_rows, *d_y_rows, *d_keys, *d_values;
};

SIMD_DECLARE(void, attention_head_forward, real *y, real *lse, const struct attention_head *h,
             const struct attention_scratch *w);
SIMD_DECLARE(void, attention_head_backward, real *d_q, real *d_k, real *d_v,
             const struct attention_head *h, const struct attention_scratch *w);

#endif
