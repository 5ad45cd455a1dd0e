/* The sampling chain against diffusers' DDIMScheduler: a whole chain for eta 0 and eta 1 in
 * tests/golden/tiny-sd/reference.safetensors.  Everything here is element by element, so the layout
 * of the tensors (NCHW) does not matter. */
#include "base/file.h"
#include "base/mem.h"
#include "diffusion/step.h"
#include "io/safetensors.h"
#include "support/near.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>

#define FOLDER "tests/golden/tiny-sd/"
#define STEPS 10
#define BATCH 2
#define N 256 /* elements of one sample */

/* A tensor as float, whatever its shape; freed with mem_free. */
static float *load(const struct safetensors *f, const char *chain, const char *name, size_t count)
{
    char full[64];
    struct err e;
    snprintf(full, sizeof full, "ddim.%s%s", chain, name);
    const struct safetensors_tensor *t = safetensors_find(f, full);
    ck_assert_msg(t != NULL && t->count == count, "%s", full);
    float *v = mem_new(count, sizeof *v);
    ck_assert_msg(safetensors_to_float(t, v, &e) == 0, "%s", e.text);
    return v;
}

static struct safetensors *reference(void)
{
    struct safetensors *f;
    struct err e;
    ck_assert_msg(safetensors_open(&f, FOLDER "reference.safetensors", &e) == 0, "%s", e.text);
    return f;
}

static void model_schedule(struct schedule *s)
{
    struct schedule_config c;
    char *text;
    size_t n;
    struct err e;
    const char *path = FOLDER "model/scheduler/scheduler_config.json";
    ck_assert_msg(file_read_all(path, 1 << 16, &text, &n, &e) == 0, "%s", e.text);
    ck_assert_msg(schedule_config_parse(&c, text, n, path, &e) == 0, "%s", e.text);
    ck_assert_msg(schedule_init(s, &c, &e) == 0, "%s", e.text);
    mem_free(text);
}

static void to_real(real *out, const float *in)
{
    for (size_t i = 0; i < N; i++)
        out[i] = (real)in[i];
}

static void compare(const char *what, int k, const real *got, const float *want, double tolerance)
{
    float as_float[N];
    size_t at;
    for (size_t i = 0; i < N; i++)
        as_float[i] = (float)got[i];
    const double worst = near_worst_float(as_float, want, N, &at);
    ck_assert_msg(worst <= tolerance, "%s of step %d: element %zu is %g, want %g (%g)", what, k, at,
                  (double)as_float[at], (double)want[at], worst);
}

START_TEST(schedule_and_timesteps_agree)
{
    struct safetensors *f = reference();
    static struct schedule s;
    int timesteps[STEPS];
    int64_t want_steps[STEPS];
    model_schedule(&s);
    float *abar = load(f, "", "alphas_cumprod", 1000), got[1000];
    for (int i = 0; i < 1000; i++)
        got[i] = (float)s.abar[i];
    ck_assert(near_worst_float(got, abar, 1000, NULL) < 1e-6);
    /* the small end matters most and is the worst rounded in float32 */
    ck_assert(fabs(s.abar[999] / (double)abar[999] - 1.0) < 2e-5);
    ck_assert_int_eq(schedule_timesteps(&s, STEPS, timesteps, NULL), 0);
    ck_assert_int_eq(safetensors_to_int64(safetensors_find(f, "ddim.timesteps"), want_steps, NULL),
                     0);
    for (int k = 0; k < STEPS; k++)
        ck_assert_int_eq(timesteps[k], want_steps[k]);
    mem_free(abar);
    safetensors_close(f);
}
END_TEST

static void chain_agrees(double eta, const char *chain)
{
    struct safetensors *f = reference();
    static struct schedule s;
    struct transition_kernel kernels[STEPS];
    const struct plan_options o = {.steps = STEPS, .eta = eta, .clamp_last = true};
    struct err e;
    model_schedule(&s);
    ck_assert_msg(schedule_plan(kernels, &s, &o, &e) == 0, "%s", e.text);
    float *x = load(f, chain, ".x", (STEPS + 1) * BATCH * N),
          *sigma = load(f, chain, ".sigma", STEPS),
          *out = load(f, chain, ".model_output", STEPS * BATCH * N),
          *noise = load(f, chain, ".noise", STEPS * BATCH * N),
          *x0 = load(f, chain, ".pred_x0", STEPS * BATCH * N),
          *mean = load(f, chain, ".mean", STEPS * BATCH * N),
          *log_prob = load(f, chain, ".log_prob_sum", STEPS * BATCH);
    for (int k = 0; k < STEPS; k++) {
        const struct transition_kernel *at = &kernels[k];
        ck_assert_msg(fabs(sqrt(at->var) - (double)sigma[k]) < 1e-5, "sigma %d: %g want %g", k,
                      sqrt(at->var), (double)sigma[k]);
        for (int b = 0; b < BATCH; b++) {
            const size_t i = (size_t)(k * BATCH + b) * N;
            real x_t[N], x_s[N], o_t[N], z[N], got[N];
            to_real(x_t, x + i);
            to_real(x_s, x + i + BATCH * N);
            to_real(o_t, out + i);
            to_real(z, noise + i);
            step_x0(got, at, x_t, o_t, N);
            compare("pred_x0", k, got, x0 + i, 2e-5);
            step_mean(got, at, x_t, o_t, N);
            compare("mean", k, got, mean + i, 2e-5);
            step_sample(got, at, x_t, o_t, z, N);
            compare("x", k, got, x + i + BATCH * N, 2e-5);
            if (!at->stochastic)
                continue;
            const double lp = step_log_pf(at, x_t, o_t, x_s, N),
                         want = (double)log_prob[k * BATCH + b];
            ck_assert_msg(fabs(lp - want) < 1e-4 * fmax(100.0, fabs(want)),
                          "log_prob %d: %.9g want %.9g", k, lp, want);
        }
    }
    float *all[] = {x, sigma, out, noise, x0, mean, log_prob};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mem_free(all[i]);
    safetensors_close(f);
}

START_TEST(the_deterministic_chain_agrees)
{
    chain_agrees(0.0, "eta0");
}
END_TEST

START_TEST(the_stochastic_chain_and_its_log_densities_agree)
{
    chain_agrees(1.0, "eta1");
}
END_TEST

SUITE("golden/ddim", 30, schedule_and_timesteps_agree, the_deterministic_chain_agrees,
      the_stochastic_chain_and_its_log_densities_agree)
