#include "nn/norm.h"
#include "support/gradcheck.h"
#include "support/suite.h"

#include <string.h>

#define EPS 1e-5

/* B=2, H=5, W=7, C=6, G=3 */
static const struct group_norm_shape shape = {2, 35, 6, 3};
#define N ((size_t)2 * 35 * 6)

struct fixture {
    real *x, *gamma, *beta, *y, *mean, *rstd, *d_y, *d_x, *d_gamma, *d_beta, *work;
    bool silu;
};

static struct fixture make(bool silu)
{
    struct fixture f = {.x = gradcheck_new(N),
                        .gamma = gradcheck_new(6),
                        .beta = gradcheck_new(6),
                        .y = gradcheck_new(N),
                        .mean = gradcheck_new(N),
                        .rstd = gradcheck_new(N),
                        .d_y = gradcheck_new(N),
                        .d_x = gradcheck_new(N),
                        .d_gamma = gradcheck_new(6),
                        .d_beta = gradcheck_new(6),
                        .silu = silu};
    f.work = gradcheck_new(group_norm_backward_work_bytes(shape) / sizeof(real) +
                           layer_norm_backward_work_bytes(6) / sizeof(real));
    gradcheck_fill(f.x, N, 1, 2.0);
    gradcheck_fill(f.gamma, 6, 2, 1.5);
    gradcheck_fill(f.beta, 6, 3, 1.0);
    gradcheck_fill(f.d_y, N, 4, 1.0);
    return f;
}

static double group_loss(void *arg)
{
    struct fixture *f = arg;
    group_norm_forward(f->y, f->mean, f->rstd, f->x, f->gamma, f->beta, shape, EPS, f->silu,
                       f->work);
    return gradcheck_dot(f->d_y, f->y, N);
}

static void group_backward(struct fixture *f, bool accumulate)
{
    group_norm_backward(f->d_x, f->d_gamma, f->d_beta, f->d_y, f->x, f->gamma, f->beta, f->mean,
                        f->rstd, shape, f->silu, accumulate, f->work);
}

static double layer_loss(void *arg)
{
    struct fixture *f = arg;
    layer_norm_forward(f->y, f->mean, f->rstd, f->x, f->gamma, f->beta, N / 6, 6, EPS);
    return gradcheck_dot(f->d_y, f->y, N);
}

static void layer_backward(struct fixture *f, bool accumulate)
{
    layer_norm_backward(f->d_x, f->d_gamma, f->d_beta, f->d_y, f->x, f->gamma, f->mean, f->rstd,
                        N / 6, 6, accumulate, f->work);
}

static void check_all(struct fixture f, double (*loss)(void *),
                      void (*backward)(struct fixture *, bool))
{
    loss(&f);
    backward(&f, false);
    gradcheck_claim("d_x", loss, &f, f.x, f.d_x, N);
    gradcheck_claim("d_gamma", loss, &f, f.gamma, f.d_gamma, 6);
    gradcheck_claim("d_beta", loss, &f, f.beta, f.d_beta, 6);

    loss(&f);
    real once_x[N], once_gamma[6], once_beta[6];
    memcpy(once_x, f.d_x, sizeof once_x);
    memcpy(once_gamma, f.d_gamma, sizeof once_gamma);
    memcpy(once_beta, f.d_beta, sizeof once_beta);
    backward(&f, true);
    gradcheck_twice("d_x", f.d_x, once_x, N);
    gradcheck_twice("d_gamma", f.d_gamma, once_gamma, 6);
    gradcheck_twice("d_beta", f.d_beta, once_beta, 6);
    backward(&f, false);
    gradcheck_same("d_x overwritten", f.d_x, once_x, N);

    f.d_gamma = f.d_beta = NULL;
    memset(f.d_x, 0, sizeof once_x);
    backward(&f, false);
    gradcheck_same("d_x with frozen parameters", f.d_x, once_x, N);
    memcpy(f.d_x, f.d_y, sizeof once_x);
    f.d_y = f.d_x;
    backward(&f, false);
    gradcheck_same("d_x in the place of d_y", f.d_x, once_x, N);
}

START_TEST(group_norm_backward_is_the_gradient)
{
    check_all(make(false), group_loss, group_backward);
}
END_TEST

START_TEST(group_norm_with_silu_backward_is_the_gradient)
{
    check_all(make(true), group_loss, group_backward);
}
END_TEST

START_TEST(layer_norm_backward_is_the_gradient)
{
    check_all(make(false), layer_loss, layer_backward);
}
END_TEST

SUITE("grad/norm", 60, group_norm_backward_is_the_gradient,
      group_norm_with_silu_backward_is_the_gradient, layer_norm_backward_is_the_gradient)
