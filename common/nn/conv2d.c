#include "nn/conv2d.h"

#include "nn/conv2d_dnnl.h"
#include "nn/conv2d_im2col.h"
#include "nn/conv2d_winograd.h"
#include "nn/gemm.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#define ALIGN_BYTES 64

static size_t align(size_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void check_shape(struct conv2d_shape s)
{
    assert(s.B > 0 && s.H > 0 && s.W > 0 && s.C > 0 && s.O > 0);
    assert(s.K == 1 || s.K == 3);
    assert(s.stride == 1 || s.stride == 2);
    /* an unpadded side must still hold the kernel */
    assert(s.pad == CONV2D_PAD_SAME || (s.H + s.K / 2 >= s.K && s.W + s.K / 2 >= s.K));
}

bool conv2d_can(struct conv2d_shape s, enum conv2d_algo algo)
{
    check_shape(s);
    switch (algo) {
    case CONV2D_IM2COL_BLAS:
    case CONV2D_IM2COL:
        return true;
    case CONV2D_WINOGRAD:
#ifdef DAGLINE_REAL_DOUBLE
        return false;
#else
        return s.K == 3 && s.stride == 1 && s.pad == CONV2D_PAD_SAME && winograd_best() != NULL;
#endif
    case CONV2D_DNNL:
        return conv2d_dnnl_can(s);
    }
    return false;
}

const char *conv2d_algo_name(enum conv2d_algo algo)
{
    static const char *const names[] = {
        [CONV2D_IM2COL_BLAS] = "im2col_blas",
        [CONV2D_IM2COL] = "im2col",
        [CONV2D_WINOGRAD] = "winograd",
        [CONV2D_DNNL] = "dnnl",
    };
    return names[algo];
}

/* oneDNN's direct algorithm wins in three places.  Where Winograd has few tiles to spread the
 * reading of U over, 36 numbers per pair of channels and all of them from main memory, it reads 9.
 * Where what is summed over has 3 or 4 channels, it does not fill vectors with zeros.  And at
 * stride 2 it need not gather; but its gradient of the weights is summed a sample at a time, which
 * only large pictures make worth while. */
#define LARGE_FILTER_PAIRS 400000
#define FEW_PIXELS 64
#define FEW_CHANNELS 4
#define LARGE_PICTURE_PIXELS 1024

static bool dnnl_wins(struct conv2d_shape s, enum conv2d_pass pass)
{
    const bool gradient = pass == CONV2D_BACKWARD_WEIGHTS;
    if (s.K != 3 || !conv2d_can(s, CONV2D_DNNL))
        return false;
    if (conv2d_can(s, CONV2D_WINOGRAD)) {
        const size_t channels = pass == CONV2D_BACKWARD_DATA ? s.O : s.C;
        return channels <= FEW_CHANNELS ||
               (!gradient && s.H * s.W <= FEW_PIXELS && s.C * s.O >= LARGE_FILTER_PAIRS);
    }
    return !gradient || conv2d_out_size(s, s.H) * conv2d_out_size(s, s.W) >= LARGE_PICTURE_PIXELS;
}

/* Not a function of s.B: the prepared weights serve plans of any batch, and a sample's result must
 * not change with its batch. */
enum conv2d_algo conv2d_choose(struct conv2d_shape s, enum conv2d_pass pass,
                               enum conv2d_backend backend)
{
    if (backend == CONV2D_REFERENCE)
        return CONV2D_IM2COL_BLAS;
    if (dnnl_wins(s, pass))
        return CONV2D_DNNL;
    return conv2d_can(s, CONV2D_WINOGRAD) ? CONV2D_WINOGRAD : CONV2D_IM2COL;
}

int conv2d_plan_open_with(struct conv2d_plan *p, struct conv2d_shape s,
                          const enum conv2d_algo algo[CONV2D_PASSES], struct err *e)
{
    check_shape(s);
    *p = (struct conv2d_plan){
        .shape = s, .Ho = conv2d_out_size(s, s.H), .Wo = conv2d_out_size(s, s.W)};
    bool dnnl = false;
    for (int pass = 0; pass < CONV2D_PASSES; pass++) {
        assert(conv2d_can(s, algo[pass]));
        p->algo[pass] = algo[pass];
        dnnl = dnnl || algo[pass] == CONV2D_DNNL;
    }
    return dnnl ? conv2d_dnnl_open(&p->dnnl, s, p->algo, e) : 0;
}

int conv2d_plan_open(struct conv2d_plan *p, struct conv2d_shape s, enum conv2d_backend backend,
                     struct err *e)
{
    enum conv2d_algo algo[CONV2D_PASSES];
    for (int pass = 0; pass < CONV2D_PASSES; pass++)
        algo[pass] = conv2d_choose(s, (enum conv2d_pass)pass, backend);
    return conv2d_plan_open_with(p, s, algo, e);
}

void conv2d_plan_close(struct conv2d_plan *p)
{
    conv2d_dnnl_close(p->dnnl);
    *p = (struct conv2d_plan){0};
}

/* Two passes whose algorithms read the weights in the same form share it. */
static bool is_im2col(enum conv2d_algo algo)
{
    return algo == CONV2D_IM2COL_BLAS || algo == CONV2D_IM2COL;
}

static bool shares_derived(const struct conv2d_plan *p)
{
    const enum conv2d_algo forward = p->algo[CONV2D_FORWARD];
    const enum conv2d_algo back = p->algo[CONV2D_BACKWARD_DATA];
    return is_im2col(forward) && is_im2col(back);
}

static size_t derived_bytes_of(const struct conv2d_plan *p, enum conv2d_pass pass)
{
    const struct conv2d_shape s = p->shape;
    switch (p->algo[pass]) {
    case CONV2D_WINOGRAD:
        return pass == CONV2D_FORWARD ? winograd_filter_bytes(winograd_best(), s.C, s.O)
                                      : winograd_filter_bytes(winograd_best(), s.O, s.C);
    case CONV2D_DNNL:
        return conv2d_dnnl_weights_bytes(p->dnnl, pass);
    case CONV2D_IM2COL_BLAS:
    case CONV2D_IM2COL:
        break;
    }
    return im2col_weights_bytes(s);
}

/* Where the derived weights of a pass lie. */
static size_t derived_offset(const struct conv2d_plan *p, enum conv2d_pass pass)
{
    if (pass == CONV2D_FORWARD || shares_derived(p))
        return 0;
    return align(derived_bytes_of(p, CONV2D_FORWARD));
}

static const void *derived_of(const struct conv2d_plan *p, enum conv2d_pass pass,
                              const void *derived)
{
    return derived == NULL ? NULL : (const char *)derived + derived_offset(p, pass);
}

size_t conv2d_derived_bytes(const struct conv2d_plan *p, bool backward)
{
    if (!backward || shares_derived(p))
        return align(derived_bytes_of(p, CONV2D_FORWARD));
    return derived_offset(p, CONV2D_BACKWARD_DATA) +
           align(derived_bytes_of(p, CONV2D_BACKWARD_DATA));
}

static void prepare_pass(const struct conv2d_plan *p, enum conv2d_pass pass, void *derived,
                         const real *w)
{
    void *const to = (char *)derived + derived_offset(p, pass);
    switch (p->algo[pass]) {
    case CONV2D_WINOGRAD:
#ifndef DAGLINE_REAL_DOUBLE
        winograd_filter(winograd_best(), to, w, p->shape.O, p->shape.C,
                        pass == CONV2D_BACKWARD_DATA);
#endif
        return;
    case CONV2D_DNNL:
        conv2d_dnnl_weights(p->dnnl, pass, to, w);
        return;
    case CONV2D_IM2COL_BLAS:
    case CONV2D_IM2COL:
        im2col_weights(to, w, p->shape);
        return;
    }
}

void conv2d_prepare(const struct conv2d_plan *p, void *derived, const real *w, bool backward)
{
    if (conv2d_derived_bytes(p, backward) == 0)
        return;
    assert((uintptr_t)derived % ALIGN_BYTES == 0);
    prepare_pass(p, CONV2D_FORWARD, derived, w);
    if (backward && !shares_derived(p))
        prepare_pass(p, CONV2D_BACKWARD_DATA, derived, w);
}

static size_t work_bytes_of(const struct conv2d_plan *p, enum conv2d_pass pass)
{
    const struct conv2d_shape s = p->shape;
    switch (p->algo[pass]) {
    case CONV2D_WINOGRAD:
        return larger(
            winograd_work_bytes(winograd_best(), (struct winograd_shape){s.B, s.H, s.W, s.C, s.O}),
            winograd_work_bytes(winograd_best(), (struct winograd_shape){s.B, s.H, s.W, s.O, s.C}));
    case CONV2D_DNNL:
        return conv2d_dnnl_work_bytes(p->dnnl, pass);
    case CONV2D_IM2COL_BLAS:
    case CONV2D_IM2COL:
        break;
    }
    return im2col_work_bytes(s);
}

size_t conv2d_work_bytes(const struct conv2d_plan *p, bool backward)
{
    size_t most = work_bytes_of(p, CONV2D_FORWARD);
    if (backward)
        most = larger(most, larger(work_bytes_of(p, CONV2D_BACKWARD_DATA),
                                   work_bytes_of(p, CONV2D_BACKWARD_WEIGHTS)));
    return align(most);
}

static conv2d_product *product_of(enum conv2d_algo algo)
{
    return algo == CONV2D_IM2COL_BLAS ? gemm_blas : gemm;
}

void conv2d_forward(const struct conv2d_plan *p, size_t B, real *y, const real *x, const real *w,
                    const void *derived, const real *bias, void *work)
{
    const enum conv2d_algo algo = p->algo[CONV2D_FORWARD];
    struct conv2d_shape s = p->shape;
    assert(B <= s.B && (uintptr_t)work % ALIGN_BYTES == 0);
    s.B = B;
    if (B == 0)
        return;
    switch (algo) {
    case CONV2D_WINOGRAD:
#ifndef DAGLINE_REAL_DOUBLE
        winograd_convolve(winograd_best(), y, false, x, derived, bias,
                          (struct winograd_shape){B, s.H, s.W, s.C, s.O}, work);
#endif
        return;
    case CONV2D_DNNL:
        conv2d_dnnl_forward(p->dnnl, B, y, x, derived, bias, work);
        return;
    case CONV2D_IM2COL_BLAS:
    case CONV2D_IM2COL:
        im2col_forward(y, x, w, derived, bias, s, product_of(algo), work);
        return;
    }
}

static void backward_data(const struct conv2d_plan *p, struct conv2d_shape s, real *d_x,
                          bool accumulate, const real *d_y, const real *w, const void *derived,
                          void *work)
{
    const enum conv2d_algo algo = p->algo[CONV2D_BACKWARD_DATA];
    switch (algo) {
    case CONV2D_WINOGRAD:
#ifndef DAGLINE_REAL_DOUBLE
        winograd_convolve(winograd_best(), d_x, accumulate, d_y, derived, NULL,
                          (struct winograd_shape){s.B, s.H, s.W, s.O, s.C}, work);
#endif
        return;
    case CONV2D_DNNL:
        conv2d_dnnl_backward_data(p->dnnl, s.B, d_x, accumulate, d_y, derived, work);
        return;
    case CONV2D_IM2COL_BLAS:
    case CONV2D_IM2COL:
        im2col_backward_data(d_x, accumulate, d_y, w, derived, s, product_of(algo), work);
        return;
    }
}

static void backward_weights(const struct conv2d_plan *p, struct conv2d_shape s, real *d_w,
                             const real *d_y, const real *x, void *work)
{
    const enum conv2d_algo algo = p->algo[CONV2D_BACKWARD_WEIGHTS];
    switch (algo) {
    case CONV2D_WINOGRAD:
#ifndef DAGLINE_REAL_DOUBLE
        winograd_filter_gradient(winograd_best(), d_w, d_y, x,
                                 (struct winograd_shape){s.B, s.H, s.W, s.C, s.O}, work);
#endif
        return;
    case CONV2D_DNNL:
        conv2d_dnnl_backward_weights(p->dnnl, s.B, d_w, d_y, x, work);
        return;
    case CONV2D_IM2COL_BLAS:
    case CONV2D_IM2COL:
        im2col_backward_weights(d_w, d_y, x, s, product_of(algo), work);
        return;
    }
}

#define BIAS_COLUMNS 64
#define BIAS_ROWS 64

/* d_b += the sum of d_y over its rows: short sums in `real`, which vectorise, gathered in double.
 */
static void backward_bias(real *d_b, const real *d_y, size_t rows, size_t O)
{
    for (size_t o = 0; o < O; o += BIAS_COLUMNS) {
        const size_t n = O - o < BIAS_COLUMNS ? O - o : BIAS_COLUMNS;
        double sum[BIAS_COLUMNS] = {0};
        for (size_t first = 0; first < rows; first += BIAS_ROWS) {
            const size_t end = rows - first < BIAS_ROWS ? rows : first + BIAS_ROWS;
            real part[BIAS_COLUMNS] = {0};
            for (size_t r = first; r < end; r++)
                for (size_t j = 0; j < n; j++)
                    part[j] += d_y[r * O + o + j];
            for (size_t j = 0; j < n; j++)
                sum[j] += (double)part[j];
        }
        for (size_t j = 0; j < n; j++)
            d_b[o + j] += (real)sum[j];
    }
}

void conv2d_backward(const struct conv2d_plan *p, size_t B, real *d_x, bool accumulate_d_x,
                     real *d_w, real *d_b, const real *d_y, const real *x, const real *w,
                     const void *derived, void *work)
{
    struct conv2d_shape s = p->shape;
    assert(B <= s.B && (uintptr_t)work % ALIGN_BYTES == 0);
    s.B = B;
    if (B == 0)
        return;
    if (d_b != NULL)
        backward_bias(d_b, d_y, B * p->Ho * p->Wo, s.O);
    if (d_w != NULL)
        backward_weights(p, s, d_w, d_y, x, work);
    if (d_x != NULL)
        backward_data(p, s, d_x, accumulate_d_x, d_y, w,
                      derived_of(p, CONV2D_BACKWARD_DATA, derived), work);
}
