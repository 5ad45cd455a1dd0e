/* Two-dimensional convolution over NHWC activations, forward and backward, on the calling thread.
 *
 * x: [B,H,W,C], y: [B,Ho,Wo,O], w: [O,C,K,K] (the diffusers layout), bias: [O].
 * A plan fixes the shape of one layer and picks an algorithm for each of its three passes.  Forms
 * derived from the weights (transposed, in the Winograd domain) are prepared once after every
 * change of the weights and may be shared by all threads; work memory belongs to one call.  Nothing
 * here allocates but conv2d_plan_open.
 *
 *     struct conv2d_plan p;
 *     if (conv2d_plan_open(&p, (struct conv2d_shape){.B = 8, .H = 16, .W = 16, .C = 32, .O = 32,
 *                          .K = 3, .stride = 1}, CONV2D_FAST, e) < 0) ...
 *     derived = slab of conv2d_derived_bytes(&p, true), work = slab of conv2d_work_bytes(&p, true)
 *     conv2d_prepare(&p, derived, w, true);                          after every weight update
 *     conv2d_forward(&p, 8, y, x, w, derived, bias, work);
 *     conv2d_backward(&p, 8, d_x, false, d_w, d_b, d_y, x, w, derived, work);
 *     conv2d_plan_close(&p);
 *
 * Thread rule: a plan is read-only once open and may serve many threads, each with its own work
 * memory.  derived and work are 64-byte aligned by the caller (mem_slab is). */
#ifndef DAGLINE_NN_CONV2D_H
#define DAGLINE_NN_CONV2D_H

#include "base/err.h"
#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>

enum conv2d_pad {
    CONV2D_PAD_SAME,         /* K / 2 zeros on every side */
    CONV2D_PAD_BOTTOM_RIGHT, /* K / 2 zeros below and to the right alone: AutoencoderKL's encoder
                              * pads its stride-2 convolutions by (0, 1, 0, 1) */
};

/* K is 1 or 3, stride 1 or 2.  B is the largest batch that the plan will be used with: it sizes the
 * work memory, and a call may bring fewer samples. */
struct conv2d_shape {
    size_t B, H, W, C, O, K, stride;
    enum conv2d_pad pad;
};

enum conv2d_backend {
    CONV2D_FAST,      /* the quickest algorithm known for the shape and the processor */
    CONV2D_REFERENCE, /* CONV2D_IM2COL_BLAS throughout */
};

enum conv2d_pass {
    CONV2D_FORWARD,
    CONV2D_BACKWARD_DATA,
    CONV2D_BACKWARD_WEIGHTS,
    CONV2D_PASSES,
};

enum conv2d_algo {
    CONV2D_IM2COL_BLAS, /* im2col + gemm_blas: the reference */
    CONV2D_IM2COL,      /* im2col + gemm */
    CONV2D_WINOGRAD,    /* F(4x4,3x3) on the own microkernels: conv2d_winograd.h */
    CONV2D_DNNL,        /* oneDNN, direct: conv2d_dnnl.h */
};

struct conv2d_dnnl;

struct conv2d_plan {
    struct conv2d_shape shape;
    size_t Ho, Wo;
    enum conv2d_algo algo[CONV2D_PASSES];
    struct conv2d_dnnl *dnnl; /* NULL where no pass uses it */
};

/* What a backend picks for one pass; does not depend on s.B. */
enum conv2d_algo conv2d_choose(struct conv2d_shape s, enum conv2d_pass pass,
                               enum conv2d_backend backend);

/* Whether an algorithm can serve this shape in this build on this processor. */
bool conv2d_can(struct conv2d_shape s, enum conv2d_algo algo);

const char *conv2d_algo_name(enum conv2d_algo algo);

/* Fills *p; the caller closes it.  Fails only where oneDNN refuses a shape it was chosen for, or
 * has no memory. */
int conv2d_plan_open(struct conv2d_plan *p, struct conv2d_shape s, enum conv2d_backend backend,
                     struct err *e) MUST_USE;

/* The same with the algorithms of the three passes given; conv2d_can must allow each. */
int conv2d_plan_open_with(struct conv2d_plan *p, struct conv2d_shape s,
                          const enum conv2d_algo algo[CONV2D_PASSES], struct err *e) MUST_USE;

/* Accepts a zeroed plan. */
void conv2d_plan_close(struct conv2d_plan *p);

/* Bytes of the derived weights and of the work memory, for the forward pass alone, or with the
 * backward passes.  The derived form does not depend on B, so plans that differ in B alone share
 * it. Its size may be 0; then derived may be NULL. */
size_t conv2d_derived_bytes(const struct conv2d_plan *p, bool backward);
size_t conv2d_work_bytes(const struct conv2d_plan *p, bool backward);

/* Overwrites derived from w.  With backward false only what conv2d_forward reads is filled, and
 * derived needs conv2d_derived_bytes(p, false). */
void conv2d_prepare(const struct conv2d_plan *p, void *derived, const real *w, bool backward);

/* y = x * w + bias.  Overwrites y [B,Ho,Wo,O]; bias may be NULL; B <= shape.B. */
void conv2d_forward(const struct conv2d_plan *p, size_t B, real *y, const real *x, const real *w,
                    const void *derived, const real *bias, void *work);

/* d_y: [B,Ho,Wo,O], x: [B,H,W,C] as in the forward pass.  Overwrites d_x [B,H,W,C], or adds to it
 * where accumulate_d_x is set.  ACCUMULATES into d_w [O,C,K,K] and d_b [O].  Each of d_x, d_w, d_b
 * may be NULL (not wanted); x is read for d_w alone.  derived was prepared with backward set; where
 * d_x is NULL it may be NULL. */
void conv2d_backward(const struct conv2d_plan *p, size_t B, real *d_x, bool accumulate_d_x,
                     real *d_w, real *d_b, const real *d_y, const real *x, const real *w,
                     const void *derived, void *work);

#endif
