#include "diffusion/chain.h"
#include "diffusion/step.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

enum { STEPS = 6, D = 700 };

static void plan(struct transition_kernel *kernels, bool last_step_mean)
{
    static struct schedule s;
    struct err e;
    struct schedule_config c = schedule_config_default();
    c.clip_sample = false;
    ck_assert_int_eq(schedule_init(&s, &c, &e), 0);
    const struct plan_options o = {.steps = STEPS,
                                   .eta = 1.0,
                                   .variance = VARIANCE_FLOOR,
                                   .floor_kappa = 0.25,
                                   .last_step_mean = last_step_mean,
                                   .clamp_last = true};
    ck_assert_msg(schedule_plan(kernels, &s, &o, &e) == 0, "%s", e.text);
}

struct seen {
    int calls;
    float eps;              /* what the "network" answers */
    float x[STEPS + 1][D];  /* states of sample 0 */
};

static int predict(void *arg, real *out, const real *x, int t, struct err *e)
{
    struct seen *s = arg;
    (void)t;
    (void)e;
    for (size_t i = 0; i < D; i++)
        out[i] = s->eps * x[i];
    return 0;
}

static int predict_two(void *arg, real *out, const real *x, int t, struct err *e)
{
    return predict(arg, out, x, t, e) < 0 ? -1 : predict(arg, out + D, x + D, t, e);
}

static int visit(void *arg, int k, const real *x_t, const real *out, const real *x_s, struct err *e)
{
    struct seen *s = arg;
    (void)out;
    (void)e;
    s->calls++;
    memcpy(s->x[k], x_t, sizeof s->x[k]);
    memcpy(s->x[k + 1], x_s, sizeof s->x[k]);
    return 0;
}

static const uint8_t IDS[2][RNG_ID_BYTES] = {{1, 2, 3}, {9, 9}};

START_TEST(a_sample_is_the_same_in_any_batch)
{
    struct transition_kernel kernels[STEPS];
    plan(kernels, false);
    static struct seen one, two;
    one.eps = two.eps = 0.7f;
    static real x[2 * D], y[D], work[4 * D];
    struct err e;
    struct chain pair = {kernels, STEPS, 2, D, 42, IDS};
    chain_start(&pair, x);
    ck_assert_int_eq(chain_run(&pair, 0, x, work, predict_two, visit, &two, &e), 0);
    struct chain single = {kernels, STEPS, 1, D, 42, IDS};
    chain_start(&single, y);
    ck_assert_int_eq(chain_run(&single, 0, y, work, predict, visit, &one, &e), 0);
    ck_assert_int_eq(one.calls, STEPS);
    ck_assert_mem_eq(x, y, sizeof y);
    ck_assert_mem_eq(one.x, two.x, sizeof one.x);
    ck_assert_mem_ne(x, x + D, sizeof y);
}
END_TEST

START_TEST(the_noise_of_a_transition_gives_back_its_mean)
{
    struct transition_kernel kernels[STEPS];
    plan(kernels, true);
    static struct seen s;
    s.eps = 0.4f;
    static real x[D], work[2 * D], z[D], out[D], mean[D];
    struct err e;
    struct chain c = {kernels, STEPS, 1, D, 7, IDS + 1};
    chain_start(&c, x);
    ck_assert_int_eq(chain_run(&c, 0, x, work, predict, visit, &s, &e), 0);
    for (int k = 0; k < STEPS; k++) {
        predict(&s, out, s.x[k], kernels[k].t, &e);
        step_mean(mean, &kernels[k], s.x[k], out, D);
        chain_noise(z, 7, IDS[1], (uint32_t)k + 1, D);
        const double sd = kernels[k].stochastic ? sqrt(kernels[k].var) : 0.0;
        for (size_t i = 0; i < D; i++)
            ck_assert_double_eq_tol((double)s.x[k + 1][i] - sd * (double)z[i], (double)mean[i], 2e-6);
    }
    ck_assert(!kernels[STEPS - 1].stochastic);
}
END_TEST

/* D elements take more than one block of work memory. */
START_TEST(every_element_of_the_noise_has_its_own_address)
{
    static real z[D];
    const struct rng g = rng_stream_id(7, IDS[1], 3);
    chain_noise(z, 7, IDS[1], 3, D);
    for (size_t i = 0; i < D; i++)
        ck_assert_double_eq((double)z[i], (double)rng_normal_at(&g, i));
}
END_TEST

static int refuse(void *arg, real *out, const real *x, int t, struct err *e)
{
    (void)arg;
    (void)out;
    (void)x;
    return err_set(e, ERR_NONFINITE, "at t %d", t);
}

START_TEST(an_error_of_the_network_ends_the_chain)
{
    struct transition_kernel kernels[STEPS];
    plan(kernels, false);
    static real x[D], work[2 * D];
    struct err e;
    struct chain c = {kernels, STEPS, 1, D, 7, IDS};
    ck_assert_int_eq(chain_run(&c, 2, x, work, refuse, NULL, NULL, &e), -1);
    ck_assert_int_eq(e.code, ERR_NONFINITE);
}
END_TEST

SUITE("diffusion/chain", 10, a_sample_is_the_same_in_any_batch,
      the_noise_of_a_transition_gives_back_its_mean, every_element_of_the_noise_has_its_own_address,
      an_error_of_the_network_ends_the_chain)
