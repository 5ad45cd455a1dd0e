#include "diffusion/schedule.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* The schedule of Stable Diffusion 1.x and 2.x. */
static struct schedule_config sd_config(void)
{
    struct schedule_config c = schedule_config_default();
    c.beta_schedule = BETA_SCALED_LINEAR;
    c.beta_start = 0.00085;
    c.beta_end = 0.012;
    c.steps_offset = 1;
    c.clip_sample = false;
    c.set_alpha_to_one = false;
    return c;
}

static struct schedule schedule_of(struct schedule_config c)
{
    static struct schedule s;
    struct err e;
    ck_assert_msg(schedule_init(&s, &c, &e) == 0, "%s", e.text);
    return s;
}

static void near(const char *what, double got, double want, double tolerance)
{
    ck_assert_msg(fabs(got - want) <= tolerance * fmax(1.0, fabs(want)), "%s: got %.10g want %.10g",
                  what, got, want);
}

static const struct plan_options ETA_1 = {.steps = 50, .eta = 1.0, .clamp_last = true};

START_TEST(stable_diffusions_alphas_are_the_known_ones)
{
    static const struct {
        int t;
        double abar;
    } want[] = {{0, .99915},        {1, .99829603},     {21, .98038075},
                {961, .0072817271}, {981, .0057755001}, {999, .0046600985}};
    const struct schedule s = schedule_of(sd_config());
    for (size_t i = 0; i < COUNT(want); i++)
        ck_assert_msg(fabs(s.abar[want[i].t] / want[i].abar - 1.0) < 1e-6,
                      "abar[%d] = %.10g want %.10g", want[i].t, s.abar[want[i].t], want[i].abar);
}
END_TEST

START_TEST(linear_and_cosine_schedules_fall_from_one)
{
    static const enum beta_schedule kinds[] = {BETA_LINEAR, BETA_SQUAREDCOS_CAP_V2};
    for (size_t k = 0; k < COUNT(kinds); k++) {
        struct schedule_config c = schedule_config_default();
        c.beta_schedule = kinds[k];
        const struct schedule s = schedule_of(c);
        for (int t = 1; t < 1000; t++)
            ck_assert(s.abar[t] < s.abar[t - 1] && s.abar[t] > 0.0);
        if (kinds[k] == BETA_LINEAR)
            near("linear abar_0", s.abar[0], 1.0 - 1e-4, 1e-12);
        else /* capped only at the very end: abar follows cos^2 before */
            near("cosine abar_499", s.abar[499],
                 pow(cos((0.5 + .008) / 1.008 * 1.5707963267948966), 2) /
                     pow(cos(.008 / 1.008 * 1.5707963267948966), 2),
                 1e-9);
    }
}
END_TEST

START_TEST(zero_snr_rescaling_ends_at_zero_and_keeps_the_first)
{
    struct schedule_config c = sd_config();
    const double first = schedule_of(c).abar[0];
    c.rescale_betas_zero_snr = true;
    const struct schedule s = schedule_of(c);
    near("first", s.abar[0], first, 1e-12);
    ck_assert(s.abar[999] == 0.0);
}
END_TEST

START_TEST(timesteps_follow_each_spacing)
{
    static const struct {
        enum timestep_spacing spacing;
        int steps, offset, first, second, last;
    } cases[] = {
        {SPACING_LEADING, 50, 1, 981, 961, 1},   {SPACING_LEADING, 20, 1, 951, 901, 1},
        {SPACING_LEADING, 10, 0, 900, 800, 0},   {SPACING_TRAILING, 50, 1, 999, 979, 19},
        {SPACING_TRAILING, 3, 1, 999, 666, 332}, {SPACING_LINSPACE, 50, 1, 999, 979, 0},
        {SPACING_LINSPACE, 4, 1, 999, 666, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct schedule_config c = sd_config();
        c.timestep_spacing = cases[i].spacing;
        c.steps_offset = cases[i].offset;
        const struct schedule s = schedule_of(c);
        int t[64];
        struct err e;
        ck_assert_msg(schedule_timesteps(&s, cases[i].steps, t, &e) == 0, "%s", e.text);
        ck_assert_int_eq(t[0], cases[i].first);
        ck_assert_int_eq(t[1], cases[i].second);
        ck_assert_int_eq(t[cases[i].steps - 1], cases[i].last);
    }
}
END_TEST

/* On paper each of them lies between two timesteps; the values are those of numpy, whose last bits decide. */
START_TEST(half_timesteps_are_rounded_as_numpy_rounds_them)
{
    static const struct {
        enum timestep_spacing spacing;
        int steps, k, t;
    } cases[] = {
        {SPACING_TRAILING, 16, 1, 937},  {SPACING_TRAILING, 48, 3, 936}, {SPACING_TRAILING, 48, 15, 686},
        {SPACING_TRAILING, 96, 18, 812}, {SPACING_LINSPACE, 19, 9, 500}, {SPACING_LINSPACE, 27, 13, 499},
        {SPACING_LINSPACE, 103, 17, 833},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct schedule_config c = sd_config();
        c.timestep_spacing = cases[i].spacing;
        const struct schedule s = schedule_of(c);
        int t[128];
        struct err e;
        ck_assert_msg(schedule_timesteps(&s, cases[i].steps, t, &e) == 0, "%s", e.text);
        ck_assert_msg(t[cases[i].k] == cases[i].t, "case %zu: %d", i, t[cases[i].k]);
    }
}
END_TEST

START_TEST(steps_outside_the_schedule_are_refused)
{
    const struct schedule s = schedule_of(sd_config());
    static int t[1001];
    static const int bad[] = {0, -1, 1000 /* offset 1 reaches timestep 1000 */, 1001};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct err e;
        ck_assert_int_eq(schedule_timesteps(&s, bad[i], t, &e), -1);
        ck_assert_int_eq(e.code, ERR_INVALID);
    }
}
END_TEST

/* sigma, |c_eps|/sigma and rho = v/(1-a) of the 50-step chain. */
START_TEST(fifty_steps_have_the_known_variances_and_score_weights)
{
    static const struct {
        int t;
        double sigma, weight, rho;
    } want[] = {
        {981, .4544633, .513, .9985}, {501, .2948, .377, .962},    {481, .2876853, -1, -1},
        {201, .1849, .432, .877},     {101, .1428, .571, .774},    {61, .1194, .757, .650},
        {41, .0999, 1.017, .501},     {21, .0394795, 3.275, .087}, {1, .0206483, 1.003, .499}};
    const struct schedule s = schedule_of(sd_config());
    struct transition_kernel k[50];
    struct err e;
    ck_assert_msg(schedule_plan(k, &s, &ETA_1, &e) == 0, "%s", e.text);
    for (size_t i = 0; i < COUNT(want); i++) {
        const struct transition_kernel *at = &k[(981 - want[i].t) / 20];
        ck_assert_int_eq(at->t, want[i].t);
        ck_assert_int_eq(at->s, want[i].t - 20);
        ck_assert(at->stochastic);
        const double sigma = sqrt(at->var);
        near("sigma", sigma, want[i].sigma, 6e-5);
        if (want[i].weight > 0) {
            near("score weight", fabs(at->mean_out) / sigma, want[i].weight, 6e-4);
            near("rho", at->var / at->q_var, want[i].rho, 6e-4);
        }
    }
}
END_TEST

START_TEST(twenty_steps_have_the_known_variances)
{
    const struct schedule s = schedule_of(sd_config());
    struct plan_options o = ETA_1;
    o.steps = 20;
    struct transition_kernel k[20];
    struct err e;
    ck_assert_int_eq(schedule_plan(k, &s, &o, &e), 0);
    near("sigma(951)", sqrt(k[0].var), .6443910, 1e-6);
    near("sigma(451)", sqrt(k[10].var), .4015530, 1e-6);
    near("sigma(51)", sqrt(k[18].var), .0405967, 1e-6);
}
END_TEST

START_TEST(c_eps_matches_the_three_worked_values)
{
    static const double etas[] = {0.0, 0.5, 1.0}, want[] = {-0.266081, -0.309115, -0.459409};
    const double half_pi = 1.5707963267948966;
    const double abar_t = pow(cos(half_pi * 0.6 * 0.9999), 2),
                 abar_s = pow(cos(half_pi * 0.5 * 0.9999), 2);
    for (size_t i = 0; i < COUNT(etas); i++) {
        const struct plan_options o = {.eta = etas[i]};
        struct transition_kernel k;
        struct err e;
        ck_assert_int_eq(transition_kernel_init(&k, abar_t, abar_s, PREDICTION_EPSILON, &o, 0, &e),
                         0);
        near("c_eps", k.mean_out, want[i], 1e-6);
    }
    /* at eta 1 it is DDPM's: -(1-a)/sqrt(a(1-abar_t)), with mean gain 1/sqrt(a) */
    const struct plan_options o = {.eta = 1.0};
    struct transition_kernel k;
    ck_assert_int_eq(transition_kernel_init(&k, abar_t, abar_s, PREDICTION_EPSILON, &o, 0, NULL),
                     0);
    const double a = abar_t / abar_s;
    near("ddpm c_eps", k.mean_out, -(1 - a) / sqrt(a * (1 - abar_t)), 1e-12);
    near("ddpm gain", k.mean_x, 1 / sqrt(a), 1e-12);
}
END_TEST

START_TEST(every_prediction_type_gives_the_same_mean_for_the_same_picture)
{
    const double abar_t = 0.3, abar_s = 0.45, x0 = 0.7, eps = -1.2;
    const double x_t = sqrt(abar_t) * x0 + sqrt(1 - abar_t) * eps;
    const struct {
        enum prediction_type type;
        double out;
    } cases[] = {{PREDICTION_EPSILON, eps},
                 {PREDICTION_SAMPLE, x0},
                 {PREDICTION_V, sqrt(abar_t) * eps - sqrt(1 - abar_t) * x0}};
    const struct plan_options o = {.eta = 0.6};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct transition_kernel k;
        ck_assert_int_eq(transition_kernel_init(&k, abar_t, abar_s, cases[i].type, &o, 0, NULL), 0);
        near("x0", k.x0_x * x_t + k.x0_out * cases[i].out, x0, 1e-12);
        near("mean", k.mean_x * x_t + k.mean_out * cases[i].out,
             sqrt(abar_s) * x0 + sqrt(1 - abar_s - k.var) * eps, 1e-12);
    }
}
END_TEST

START_TEST(variance_modes_change_the_variance_and_keep_the_mean)
{
    const double abar_t = 0.95, abar_s = 0.999, q = 1 - abar_t / abar_s;
    const double small = (1 - abar_s) / (1 - abar_t) * q;
    const struct {
        struct plan_options o;
        double custom, var;
    } cases[] = {
        {{.eta = 1, .variance = VARIANCE_SMALL}, 0, small},
        {{.eta = 1, .variance = VARIANCE_LARGE}, 0, q},
        {{.eta = 1, .variance = VARIANCE_FLOOR, .floor_kappa = 0.25}, 0, 0.25 * q},
        {{.eta = 1, .variance = VARIANCE_FLOOR, .floor_kappa = 1e-6}, 0, small},
        {{.eta = 1, .variance = VARIANCE_CUSTOM}, 0.123, 0.123},
    };
    struct transition_kernel base, k;
    ck_assert_int_eq(
        transition_kernel_init(&base, abar_t, abar_s, PREDICTION_EPSILON, &cases[0].o, 0, NULL), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_int_eq(transition_kernel_init(&k, abar_t, abar_s, PREDICTION_EPSILON, &cases[i].o,
                                                cases[i].custom, NULL),
                         0);
        near("var", k.var, cases[i].var, 1e-12);
        near("mean_out", k.mean_out, base.mean_out, 1e-15);
        near("q_var", k.q_var, q, 1e-15);
    }
    /* a step that goes nowhere has no noising density, and takes no noise */
    ck_assert_int_eq(transition_kernel_init(&k, abar_t, abar_t, PREDICTION_EPSILON, &cases[4].o, 0.123, NULL), 0);
    ck_assert(k.q_var == 0.0 && k.var == 0.123 && !k.stochastic);
}
END_TEST

START_TEST(the_last_step_keeps_its_variance_by_the_clamp_or_takes_its_mean)
{
    struct schedule_config c = sd_config();
    c.set_alpha_to_one = true;
    const struct schedule s = schedule_of(c);
    struct plan_options o = ETA_1;
    struct transition_kernel k[50];
    ck_assert_int_eq(schedule_plan(k, &s, &o, NULL), 0);
    near("clamped sigma", sqrt(k[49].var), .0206483, 1e-6);
    ck_assert(k[49].stochastic && schedule_plan_departs(&s, &o));

    o.clamp_last = false;
    ck_assert_int_eq(schedule_plan(k, &s, &o, NULL), 0);
    ck_assert(k[49].var == 0.0 && !k[49].stochastic && !schedule_plan_departs(&s, &o));

    o.clamp_last = o.last_step_mean = true;
    ck_assert_int_eq(schedule_plan(k, &s, &o, NULL), 0);
    ck_assert(k[49].var > 0.0 && !k[49].stochastic && k[48].stochastic);

    const struct schedule own = schedule_of(sd_config()); /* ends at abar_0 itself: a clamp changes nothing */
    ck_assert(!schedule_plan_departs(&own, &o));
}
END_TEST

START_TEST(eta_zero_is_deterministic_everywhere)
{
    const struct schedule s = schedule_of(sd_config());
    struct plan_options o = ETA_1;
    o.eta = 0.0;
    struct transition_kernel k[50];
    ck_assert_int_eq(schedule_plan(k, &s, &o, NULL), 0);
    for (int i = 0; i < 50; i++)
        ck_assert(k[i].var == 0.0 && !k[i].stochastic && k[i].q_var > 0.0);
}
END_TEST

START_TEST(unusable_plans_are_refused_with_the_reason)
{
    struct schedule_config clip = sd_config(), zero = sd_config();
    clip.clip_sample = true;
    zero.rescale_betas_zero_snr = true;
    zero.timestep_spacing = SPACING_TRAILING;
    const struct {
        struct schedule_config c;
        struct plan_options o;
        const char *word;
    } cases[] = {
        {clip, ETA_1, "clip_sample"},
        {zero, ETA_1, "v_prediction"},
        {sd_config(), {.steps = 50, .eta = 1.5}, "eta"},
        {sd_config(), {.steps = 50, .eta = 0.5, .variance = VARIANCE_LARGE}, "eta"},
        {sd_config(), {.steps = 50, .eta = 1, .variance = VARIANCE_FLOOR}, "floor"},
        {sd_config(), {.steps = 0, .eta = 1}, "steps"},
    };
    struct transition_kernel k[50];
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct schedule s = schedule_of(cases[i].c);
        struct err e;
        ck_assert_int_eq(schedule_plan(k, &s, &cases[i].o, &e), -1);
        ck_assert_msg(strstr(e.text, cases[i].word) != NULL, "case %zu: %s", i, e.text);
    }
}
END_TEST

START_TEST(zero_snr_with_v_prediction_has_finite_gains)
{
    struct schedule_config c = sd_config();
    c.rescale_betas_zero_snr = true;
    c.timestep_spacing = SPACING_TRAILING;
    c.prediction_type = PREDICTION_V;
    const struct schedule s = schedule_of(c);
    struct transition_kernel k[50];
    ck_assert_int_eq(schedule_plan(k, &s, &ETA_1, NULL), 0);
    ck_assert(isfinite(k[0].mean_x) && isfinite(k[0].mean_out) && k[0].q_var == 1.0);
}
END_TEST

START_TEST(the_pipelines_overrides_are_applied_and_reported)
{
    struct schedule_config c = schedule_config_default();
    ck_assert(schedule_config_as_pipeline(&c));
    ck_assert(c.steps_offset == 1 && !c.clip_sample);
    ck_assert(!schedule_config_as_pipeline(&c));
}
END_TEST

static int parse(struct schedule_config *c, const char *json, struct err *e)
{
    return schedule_config_parse(c, json, strlen(json), "scheduler_config.json", e);
}

START_TEST(absent_keys_take_the_defaults_of_their_class)
{
    struct schedule_config c;
    struct err e;
    ck_assert_msg(parse(&c, "{\"_class_name\":\"DDIMScheduler\",\"trained_betas\":null}", &e) == 0,
                  "%s", e.text);
    ck_assert(c.set_alpha_to_one && c.clip_sample && c.steps_offset == 0 &&
              c.num_train_timesteps == 1000);
    ck_assert(c.beta_schedule == BETA_LINEAR && c.beta_start == 0.0001 && c.beta_end == 0.02);
    ck_assert_int_eq(parse(&c, "{\"_class_name\":\"PNDMScheduler\",\"skip_prk_steps\":true}", &e),
                     0);
    ck_assert(!c.set_alpha_to_one);
}
END_TEST

START_TEST(stable_diffusions_file_parses)
{
    struct schedule_config c, want = sd_config();
    struct err e;
    ck_assert_msg(
        parse(&c,
              "{\"_class_name\":\"PNDMScheduler\",\"_diffusers_version\":\"0.6.0\","
              "\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\",\"beta_start\":0.00085,"
              "\"num_train_timesteps\":1000,\"set_alpha_to_one\":false,\"skip_prk_steps\":true,"
              "\"steps_offset\":1,\"trained_betas\":null,\"clip_sample\":false}",
              &e) == 0,
        "%s", e.text);
    ck_assert(c.beta_schedule == want.beta_schedule && c.beta_start == want.beta_start &&
              c.beta_end == want.beta_end && c.steps_offset == 1 && !c.clip_sample &&
              !c.set_alpha_to_one);
}
END_TEST

START_TEST(what_is_not_implemented_is_refused_by_field_and_value)
{
    static const struct {
        const char *json, *words[2];
    } cases[] = {
        {"{\"_class_name\":\"EulerDiscreteScheduler\"}", {"_class_name", "EulerDiscreteScheduler"}},
        {"{\"beta_schedule\":\"sigmoid\"}", {"beta_schedule", "sigmoid"}},
        {"{\"prediction_type\":\"flow\"}", {"prediction_type", "flow"}},
        {"{\"timestep_spacing\":\"log\"}", {"timestep_spacing", "log"}},
        {"{\"thresholding\":true}", {"thresholding", "true"}},
        {"{\"trained_betas\":[0.1]}", {"trained_betas", "null"}},
        {"{\"num_train_timesteps\":0}", {"num_train_timesteps", ""}},
        {"{\"beta_start\":\"a\"}", {"beta_start", ""}},
        {"{\"clip_sample\":1}", {"clip_sample", ""}},
        {"[]", {"object", ""}},
        {"{", {"scheduler_config.json", ""}},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct schedule_config c;
        struct err e;
        ck_assert_int_eq(parse(&c, cases[i].json, &e), -1);
        ck_assert_msg(strstr(e.text, cases[i].words[0]) != NULL &&
                          strstr(e.text, cases[i].words[1]) != NULL,
                      "case %zu: %s", i, e.text);
    }
}
END_TEST

SUITE("diffusion/schedule", 20, stable_diffusions_alphas_are_the_known_ones,
      linear_and_cosine_schedules_fall_from_one,
      zero_snr_rescaling_ends_at_zero_and_keeps_the_first, timesteps_follow_each_spacing, half_timesteps_are_rounded_as_numpy_rounds_them,
      steps_outside_the_schedule_are_refused,
      fifty_steps_have_the_known_variances_and_score_weights, twenty_steps_have_the_known_variances,
      c_eps_matches_the_three_worked_values,
      every_prediction_type_gives_the_same_mean_for_the_same_picture,
      variance_modes_change_the_variance_and_keep_the_mean,
      the_last_step_keeps_its_variance_by_the_clamp_or_takes_its_mean,
      eta_zero_is_deterministic_everywhere, unusable_plans_are_refused_with_the_reason,
      zero_snr_with_v_prediction_has_finite_gains, the_pipelines_overrides_are_applied_and_reported,
      absent_keys_take_the_defaults_of_their_class, stable_diffusions_file_parses,
      what_is_not_implemented_is_refused_by_field_and_value)
