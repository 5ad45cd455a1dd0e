#include "nn/attention.h"

#include "nn/attention_simd.h"

#include <assert.h>

static void check_shape(struct attention_shape s)
{
    assert(s.heads > 0 && s.d > 0 && s.Lk > 0);
    assert(s.q_stride >= s.heads * s.d && s.k_stride >= s.heads * s.d);
    assert(s.v_stride >= s.heads * s.d && s.y_stride >= s.heads * s.d);
    assert(!s.causal || s.Lq == s.Lk);
}

/* Takes `reals` (in whole vectors) from the work memory; without one (NULL) it only counts. */
static real *cut(real *work, size_t *used, size_t reals)
{
    real *const at = work == NULL ? NULL : work + *used;
    *used += ATTENTION_PAD(reals);
    return at;
}

/* Lays the scratch out in `work` and returns its size in reals: the one place that knows the sizes.
 */
static size_t forward_scratch(struct attention_scratch *w, real *work, struct attention_shape s)
{
    const size_t dp = ATTENTION_PAD(s.d);
    const size_t keys = ATTENTION_PAD(s.Lk < ATTENTION_KEYS ? s.Lk : ATTENTION_KEYS);
    size_t used = 0;
    w->keys = cut(work, &used, s.d * keys);
    w->values = cut(work, &used, keys * dp);
    w->scores = cut(work, &used, ATTENTION_SCORES);
    w->rows = cut(work, &used, ATTENTION_ROWS * dp);
    w->top = cut(work, &used, s.Lq);
    w->sum = cut(work, &used, s.Lq);
    return used;
}

static size_t backward_scratch(struct attention_scratch *w, real *work, struct attention_shape s)
{
    const size_t dp = ATTENTION_PAD(s.d), keys = ATTENTION_KEYS_BACKWARD;
    size_t used = 0;
    w->keys = cut(work, &used, s.d * keys);
    w->values = cut(work, &used, s.d * keys);
    w->keys_rows = cut(work, &used, keys * dp);
    w->scores = cut(work, &used, ATTENTION_ROWS * keys);
    w->d_scores = cut(work, &used, ATTENTION_ROWS * keys);
    w->rows = cut(work, &used, ATTENTION_ROWS * dp);
    w->q_rows = cut(work, &used, ATTENTION_ROWS * dp);
    w->d_y_rows = cut(work, &used, ATTENTION_ROWS * dp);
    w->d_keys = cut(work, &used, keys * dp);
    w->d_values = cut(work, &used, keys * dp);
    return used;
}

size_t attention_forward_work_bytes(struct attention_shape s)
{
    struct attention_scratch w;
    return forward_scratch(&w, NULL, s) * sizeof(real);
}

size_t attention_backward_work_bytes(struct attention_shape s)
{
    struct attention_scratch w;
    return backward_scratch(&w, NULL, s) * sizeof(real);
}

static struct attention_head head_of(struct attention_shape s, const real *q, const real *k,
                                     const real *v, size_t b, size_t head)
{
    return (struct attention_head){
        .q = q + b * s.Lq * s.q_stride + head * s.d,
        .k = k + b * s.Lk * s.k_stride + head * s.d,
        .v = v + b * s.Lk * s.v_stride + head * s.d,
        .q_stride = s.q_stride,
        .k_stride = s.k_stride,
        .v_stride = s.v_stride,
        .y_stride = s.y_stride,
        .Lq = s.Lq,
        .Lk = s.Lk,
        .d = s.d,
        .scale = (real)s.scale,
        .causal = s.causal,
    };
}

void attention_forward(real *y, real *lse, const real *q, const real *k, const real *v,
                       struct attention_shape s, void *work)
{
    check_shape(s);
    struct attention_scratch w;
    forward_scratch(&w, work, s);
    for (size_t b = 0; b < s.B; b++)
        for (size_t head = 0; head < s.heads; head++) {
            const struct attention_head h = head_of(s, q, k, v, b, head);
            real *const sums = lse == NULL ? NULL : lse + (b * s.heads + head) * s.Lq;
            SIMD_PICK(attention_head_forward)
            (y + b * s.Lq * s.y_stride + head * s.d, sums, &h, &w);
        }
}

void attention_backward(real *d_q, real *d_k, real *d_v, const real *d_y, const real *q,
                        const real *k, const real *v, const real *y, const real *lse,
                        struct attention_shape s, void *work)
{
    check_shape(s);
    assert((d_k == NULL) == (d_v == NULL));
    struct attention_scratch w;
    backward_scratch(&w, work, s);
    for (size_t b = 0; b < s.B; b++)
        for (size_t head = 0; head < s.heads; head++) {
            struct attention_head h = head_of(s, q, k, v, b, head);
            h.y = y + b * s.Lq * s.y_stride + head * s.d;
            h.d_y = d_y + b * s.Lq * s.y_stride + head * s.d;
            h.lse = lse + (b * s.heads + head) * s.Lq;
            const size_t k_at = b * s.Lk * s.k_stride + head * s.d;
            const size_t v_at = b * s.Lk * s.v_stride + head * s.d;
            SIMD_PICK(attention_head_backward)
            (d_q + b * s.Lq * s.q_stride + head * s.d, d_k == NULL ? NULL : d_k + k_at,
             d_v == NULL ? NULL : d_v + v_at, &h, &w);
        }
}
