#include "nn/act.h"
#include "nn/elem.h"
#include "nn/embed.h"
#include "nn/loss.h"
#include "nn/resample.h"
#include "support/gradcheck.h"
#include "support/suite.h"

#include <string.h>

/* B=2, H=5, W=7, C=6 */
#define B 2
#define H 5
#define W 7
#define C 6
#define N ((size_t)B * H * W * C)

/* Kernels with one input: forward(y, x), backward(d_x, d_y, x, accumulate), with y of n_y elements.
 */
struct unary {
    const char *name;
    size_t n_y;
    void (*forward)(real *y, const real *x);
    void (*backward)(real *d_x, const real *d_y, const real *x, bool accumulate);
};

#define ACT(kind, label)                                                                           \
    static void label##_forward(real *y, const real *x)                                            \
    {                                                                                              \
        act_forward(y, x, N, kind);                                                                \
    }                                                                                              \
    static void label##_backward(real *d_x, const real *d_y, const real *x, bool accumulate)       \
    {                                                                                              \
        act_backward(d_x, d_y, x, N, kind, accumulate);                                            \
    }
ACT(ACT_NONE, none)
ACT(ACT_SILU, silu)
ACT(ACT_GELU, gelu)
ACT(ACT_QUICK_GELU, quick_gelu)
ACT(ACT_LEAKY, leaky)

static void geglu_of(real *y, const real *x)
{
    geglu_forward(y, x, N / C, C / 2);
}

static void geglu_back(real *d_x, const real *d_y, const real *x, bool accumulate)
{
    geglu_backward(d_x, d_y, x, N / C, C / 2, accumulate);
}

static const struct resample_shape twice = {B, H, W, C, 2 * H, 2 * W}, odd = {B, H, W, C, 9, 13},
                                   down = {B, H, W, C, 3, 4};

#define NEAREST(shape)                                                                             \
    static void shape##_forward(real *y, const real *x)                                            \
    {                                                                                              \
        resample_nearest_forward(y, x, shape);                                                     \
    }                                                                                              \
    static void shape##_backward(real *d_x, const real *d_y, const real *x, bool accumulate)       \
    {                                                                                              \
        (void)x;                                                                                   \
        resample_nearest_backward(d_x, d_y, shape, accumulate);                                    \
    }
NEAREST(twice)
NEAREST(odd)
NEAREST(down)

static void mean_forward(real *y, const real *x)
{
    resample_mean_forward(y, x, B, H * W, C);
}

static void mean_backward(real *d_x, const real *d_y, const real *x, bool accumulate)
{
    (void)x;
    resample_mean_backward(d_x, d_y, B, H * W, C, accumulate);
}

/* x seen as the two halves of a join */
static void concat_forward(real *y, const real *x)
{
    elem_concat(y, x, x + N / C * 2, N / C, 2, 4);
}

static void concat_backward(real *d_x, const real *d_y, const real *x, bool accumulate)
{
    (void)x;
    elem_split(d_x, d_x + N / C * 2, d_y, N / C, 2, 4, accumulate, accumulate);
}

/* x seen as mean and log-variance with Z = 3, noise fixed */
static void sample_forward(real *y, const real *x)
{
    real noise[N / 2];
    gradcheck_fill(noise, N / 2, 77, 1.0);
    loss_gaussian_sample(y, x, noise, N / C, C / 2);
}

static void sample_backward(real *d_x, const real *d_y, const real *x, bool accumulate)
{
    real noise[N / 2];
    gradcheck_fill(noise, N / 2, 77, 1.0);
    loss_gaussian_sample_backward(d_x, d_y, x, noise, N / C, C / 2, accumulate);
}

/* the broadcast bias: x's first B*C numbers are the bias */
static void bias_forward(real *y, const real *x)
{
    memset(y, 0, N * sizeof *y);
    elem_add_sample_bias(y, y, x, B, H * W, C);
}

static void bias_backward(real *d_x, const real *d_y, const real *x, bool accumulate)
{
    (void)x;
    if (!accumulate)
        memset(d_x, 0, N * sizeof *d_x);
    elem_add_sample_bias_backward(d_x, d_y, B, H * W, C, accumulate);
}

static const struct unary unaries[] = {
    {"none", N, none_forward, none_backward},
    {"silu", N, silu_forward, silu_backward},
    {"gelu", N, gelu_forward, gelu_backward},
    {"quick_gelu", N, quick_gelu_forward, quick_gelu_backward},
    {"leaky", N, leaky_forward, leaky_backward},
    {"geglu", N / 2, geglu_of, geglu_back},
    {"nearest x2", 4 * N, twice_forward, twice_backward},
    {"nearest to 9x13", (size_t)B * 9 * 13 * C, odd_forward, odd_backward},
    {"nearest to 3x4", (size_t)B * 3 * 4 * C, down_forward, down_backward},
    {"mean", B *C, mean_forward, mean_backward},
    {"concat", N, concat_forward, concat_backward},
    {"gaussian sample", N / 2, sample_forward, sample_backward},
    {"sample bias", N, bias_forward, bias_backward},
};
#define UNARIES (sizeof unaries / sizeof *unaries)

struct probe {
    const struct unary *u;
    real *x, *y, *d_y;
};

static double loss_of(void *arg)
{
    struct probe *p = arg;
    p->u->forward(p->y, p->x);
    return gradcheck_dot(p->d_y, p->y, p->u->n_y);
}

static void check_unary(const struct unary *u)
{
    struct probe p = {u, gradcheck_new(N), gradcheck_new(u->n_y), gradcheck_new(u->n_y)};
    real *const d_x = gradcheck_new(N), *const once = gradcheck_new(N);
    gradcheck_fill(p.x, N, 5, 2.5);
    gradcheck_fill(p.d_y, u->n_y, 6, 1.0);
    gradcheck_fill(d_x, N, 7, 1.0); /* must be overwritten */
    u->backward(d_x, p.d_y, p.x, false);
    gradcheck_claim(u->name, loss_of, &p, p.x, d_x, N);
    memcpy(once, d_x, N * sizeof *once);
    u->backward(d_x, p.d_y, p.x, true);
    gradcheck_twice(u->name, d_x, once, N);
}

START_TEST(every_pointwise_and_moving_kernel_has_its_gradient)
{
    for (size_t i = 0; i < UNARIES; i++)
        check_unary(&unaries[i]);
}
END_TEST

/* ---- losses: value(d_x, x)
 * --------------------------------------------------------------------------- */

struct valued {
    const char *name;
    double (*value)(real *d_x, const real *x, const real *target, bool accumulate);
    bool accumulates;
};

static double mse(real *d_x, const real *x, const real *target, bool accumulate)
{
    (void)accumulate;
    return 3.0 * loss_mse(d_x, x, target, N, 3.0);
}

static double l1(real *d_x, const real *x, const real *target, bool accumulate)
{
    (void)accumulate;
    return 3.0 * loss_l1(d_x, x, target, N, 3.0);
}

static double kl(real *d_x, const real *x, const real *target, bool accumulate)
{
    (void)target;
    return 0.5 * loss_gaussian_kl(d_x, x, N / C, C / 2, 0.5, accumulate);
}

static const struct valued valueds[] = {
    {"mse", mse, false}, {"l1", l1, false}, {"gaussian kl", kl, true}};

struct valued_probe {
    const struct valued *f;
    real *x, *target;
};

static double value_of(void *arg)
{
    const struct valued_probe *p = arg;
    return p->f->value(NULL, p->x, p->target, false);
}

START_TEST(every_loss_has_its_gradient)
{
    for (size_t i = 0; i < sizeof valueds / sizeof *valueds; i++) {
        struct valued_probe p = {&valueds[i], gradcheck_new(N), gradcheck_new(N)};
        real *const d_x = gradcheck_new(N), *const once = gradcheck_new(N);
        gradcheck_fill(p.x, N, 8, 1.5);
        gradcheck_fill(p.target, N, 9, 1.5);
        gradcheck_fill(d_x, N, 10, 1.0);
        p.f->value(d_x, p.x, p.target, false);
        gradcheck_claim(p.f->name, value_of, &p, p.x, d_x, N);
        if (!p.f->accumulates)
            continue;
        memcpy(once, d_x, N * sizeof *once);
        p.f->value(d_x, p.x, p.target, true);
        gradcheck_twice(p.f->name, d_x, once, N);
    }
}
END_TEST

START_TEST(a_clamped_log_variance_has_no_gradient)
{
    const real moments[4] = {1, 2, (real)21, (real)-31}, noise[2] = {1, 1}, d_z[2] = {1, 1};
    real d[4];
    loss_gaussian_kl(d, moments, 1, 2, 1.0, false);
    ck_assert(d[2] == 0 && d[3] == 0 && d[0] == 1 && d[1] == 2);
    loss_gaussian_sample_backward(d, d_z, moments, noise, 1, 2, false);
    ck_assert(d[2] == 0 && d[3] == 0 && d[0] == 1 && d[1] == 1);
}
END_TEST

/* ---- token lookup, row bias
 * --------------------------------------------------------------------------- */

#define VOCABULARY 7
#define L 5

struct tokens {
    real *token, *position, *y, *d_y;
    int32_t ids[B * L];
};

static double tokens_loss(void *arg)
{
    struct tokens *t = arg;
    embed_tokens_forward(t->y, t->ids, t->token, t->position, B, L, C, VOCABULARY);
    return gradcheck_dot(t->d_y, t->y, (size_t)B * L * C);
}

START_TEST(token_lookup_has_its_gradient_and_repeated_tokens_add_up)
{
    const size_t n_y = (size_t)B * L * C, n_token = VOCABULARY * C, n_position = L * C;
    struct tokens t = {gradcheck_new(n_token),
                       gradcheck_new(n_position),
                       gradcheck_new(n_y),
                       gradcheck_new(n_y),
                       {3, 3, 0, 6, 1, 5, 3, 2, 4, 6}};
    real *const d_token = gradcheck_new(n_token), *const d_position = gradcheck_new(n_position);
    real *const once = gradcheck_new(n_token);
    gradcheck_fill(t.token, n_token, 1, 1.0);
    gradcheck_fill(t.position, n_position, 2, 1.0);
    gradcheck_fill(t.d_y, n_y, 3, 1.0);
    embed_tokens_backward(d_token, d_position, t.d_y, t.ids, B, L, C, VOCABULARY);
    gradcheck_claim("d_token", tokens_loss, &t, t.token, d_token, n_token);
    gradcheck_claim("d_position", tokens_loss, &t, t.position, d_position, n_position);
    memcpy(once, d_token, n_token * sizeof *once);
    embed_tokens_backward(d_token, NULL, t.d_y, t.ids, B, L, C, VOCABULARY);
    gradcheck_twice("d_token", d_token, once, n_token);
    embed_tokens_backward(NULL, d_position, t.d_y, t.ids, B, L, C, VOCABULARY);
    gradcheck_twice("d_token, frozen the second time", d_token, once, n_token);
}
END_TEST

struct biased {
    real *x, *bias, *y, *d_y;
};

static double biased_loss(void *arg)
{
    struct biased *b = arg;
    elem_add_bias(b->y, b->x, b->bias, N / C, C);
    return gradcheck_dot(b->d_y, b->y, N);
}

START_TEST(row_bias_has_its_gradient)
{
    struct biased b = {gradcheck_new(N), gradcheck_new(C), gradcheck_new(N), gradcheck_new(N)};
    real *const d_bias = gradcheck_new(C), *const once = gradcheck_new(C);
    gradcheck_fill(b.x, N, 1, 1.0);
    gradcheck_fill(b.d_y, N, 2, 1.0);
    elem_add_bias_backward(d_bias, b.d_y, N / C, C);
    gradcheck_claim("d_bias", biased_loss, &b, b.bias, d_bias, C);
    memcpy(once, d_bias, C * sizeof *once);
    elem_add_bias_backward(d_bias, b.d_y, N / C, C);
    gradcheck_twice("d_bias", d_bias, once, C);
}
END_TEST

SUITE("grad/ops", 60, every_pointwise_and_moving_kernel_has_its_gradient,
      every_loss_has_its_gradient, a_clamped_log_variance_has_no_gradient,
      token_lookup_has_its_gradient_and_repeated_tokens_add_up, row_bias_has_its_gradient)
