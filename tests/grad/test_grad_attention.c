#include "nn/attention.h"
#include "support/gradcheck.h"
#include "support/suite.h"

#include <string.h>

/* B=2, 3 heads of 5; 7 queries, 9 keys (7 with a mask) in rows with room between them. */
struct fixture {
    struct attention_shape s;
    real *q, *k, *v, *y, *lse, *d_y, *d_q, *d_k, *d_v, *work;
    size_t n_q, n_k, n_v, n_y;
};

static struct fixture make(bool causal)
{
    const struct attention_shape s = {.B = 2,
                                      .heads = 3,
                                      .Lq = 7,
                                      .Lk = causal ? 7 : 9,
                                      .d = 5,
                                      .q_stride = 17,
                                      .k_stride = 15,
                                      .v_stride = 31,
                                      .y_stride = 16,
                                      .scale = 0.45,
                                      .causal = causal};
    struct fixture f = {
        .s = s, .n_q = 2 * 7 * 17, .n_k = 2 * s.Lk * 15, .n_v = 2 * s.Lk * 31, .n_y = 2 * 7 * 16};
    f.q = gradcheck_new(f.n_q), f.d_q = gradcheck_new(f.n_q);
    f.k = gradcheck_new(f.n_k), f.d_k = gradcheck_new(f.n_k);
    f.v = gradcheck_new(f.n_v), f.d_v = gradcheck_new(f.n_v);
    f.y = gradcheck_new(f.n_y), f.d_y = gradcheck_new(f.n_y);
    f.lse = gradcheck_new(2 * 3 * 7);
    f.work = gradcheck_new((attention_forward_work_bytes(s) + attention_backward_work_bytes(s)) /
                           sizeof(real));
    gradcheck_fill(f.q, f.n_q, 1, 2.0);
    gradcheck_fill(f.k, f.n_k, 2, 2.0);
    gradcheck_fill(f.v, f.n_v, 3, 1.0);
    gradcheck_fill(f.d_y, f.n_y, 4, 1.0);
    return f;
}

static double loss(void *arg)
{
    struct fixture *f = arg;
    attention_forward(f->y, f->lse, f->q, f->k, f->v, f->s, f->work);
    return gradcheck_dot(f->d_y, f->y, f->n_y);
}

static void check_gradients(bool causal)
{
    struct fixture f = make(causal);
    loss(&f);
    attention_backward(f.d_q, f.d_k, f.d_v, f.d_y, f.q, f.k, f.v, f.y, f.lse, f.s, f.work);
    gradcheck_claim("d_q", loss, &f, f.q, f.d_q, f.n_q);
    gradcheck_claim("d_k", loss, &f, f.k, f.d_k, f.n_k);
    gradcheck_claim("d_v", loss, &f, f.v, f.d_v, f.n_v);
}

START_TEST(attention_backward_is_the_gradient)
{
    check_gradients(false);
}
END_TEST

START_TEST(causal_attention_backward_is_the_gradient)
{
    check_gradients(true);
}
END_TEST

START_TEST(a_frozen_context_changes_nothing_else)
{
    struct fixture f = make(false);
    loss(&f);
    attention_backward(f.d_q, f.d_k, f.d_v, f.d_y, f.q, f.k, f.v, f.y, f.lse, f.s, f.work);
    real *const once = gradcheck_new(f.n_q);
    memcpy(once, f.d_q, f.n_q * sizeof *once);
    /* a second call overwrites, whatever was there */
    gradcheck_fill(f.d_q, 15, 8, 1.0);
    attention_backward(f.d_q, NULL, NULL, f.d_y, f.q, f.k, f.v, f.y, f.lse, f.s, f.work);
    gradcheck_same("d_q", f.d_q, once, f.n_q);
}
END_TEST

SUITE("grad/attention", 60, attention_backward_is_the_gradient,
      causal_attention_backward_is_the_gradient, a_frozen_context_changes_nothing_else)
