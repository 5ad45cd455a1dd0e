#include "nn/conv2d_dnnl.h"

#include <assert.h>
#include <stdlib.h>

bool conv2d_dnnl_can(struct conv2d_shape s, enum conv2d_pass pass)
{
    (void)s;
    (void)pass;
    return false;
}

int conv2d_dnnl_open(struct conv2d_dnnl **out, struct conv2d_shape s,
                     const enum conv2d_algo algo[CONV2D_PASSES], struct err *e)
{
    (void)s;
    (void)algo;
    *out = NULL;
    return err_set(e, ERR_INVALID, "this build has no oneDNN");
}

void conv2d_dnnl_close(struct conv2d_dnnl *d)
{
    assert(d == NULL);
}

/* conv2d_dnnl_can is false, so no plan gets as far as these. */
size_t conv2d_dnnl_weights_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass)
{
    (void)d;
    (void)pass;
    abort();
}

void conv2d_dnnl_weights(const struct conv2d_dnnl *d, enum conv2d_pass pass, void *to,
                         const real *w)
{
    (void)d;
    (void)pass;
    (void)to;
    (void)w;
    abort();
}

size_t conv2d_dnnl_work_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass)
{
    (void)d;
    (void)pass;
    abort();
}

void conv2d_dnnl_forward(const struct conv2d_dnnl *d, size_t B, real *y, const real *x,
                         const void *weights, const real *bias, void *work)
{
    (void)d;
    (void)B;
    (void)y;
    (void)x;
    (void)weights;
    (void)bias;
    (void)work;
    abort();
}

void conv2d_dnnl_backward_data(const struct conv2d_dnnl *d, size_t B, real *d_x, bool accumulate,
                               const real *d_y, const void *weights, void *work)
{
    (void)d;
    (void)B;
    (void)d_x;
    (void)accumulate;
    (void)d_y;
    (void)weights;
    (void)work;
    abort();
}

void conv2d_dnnl_backward_weights(const struct conv2d_dnnl *d, size_t B, real *d_w, const real *d_y,
                                  const real *x, void *work)
{
    (void)d;
    (void)B;
    (void)d_w;
    (void)d_y;
    (void)x;
    (void)work;
    abort();
}
