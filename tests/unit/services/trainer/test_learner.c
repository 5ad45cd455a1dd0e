#include "trainer/learner_parts.h"

#include "base/hash.h"
#include "base/mem.h"
#include "diffusion/chain.h"
#include "diffusion/step.h"
#include "io/safetensors.h"
#include "run/rollout.h"
#include "run/run_chain.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

#define MODEL "tests/golden/tiny-sd/model"
#define STEPS 4
#define BATCH 6

/* A run over the reference model, and trajectories of its base policy with rewards made up here. */
struct fixture {
    struct run_spec run;
    struct run_prompt prompt[2];
    struct prompt_set prompts;
    struct transition_kernel kernels[STEPS];
    struct learner_options options;
    struct trajectory *batch[BATCH];
};

static void stop(const struct err *e)
{
    ck_abort_msg("%s", e->text);
}

static void open_fixture(struct fixture *f, double guidance, double fraction)
{
    memset(f, 0, sizeof *f);
    struct err e;
    struct pipeline *p;
    if (pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 2}, &e) < 0)
        stop(&e);
    memcpy(f->run.run_id, "0123456789abcdef", 17);
    memcpy(f->run.variance, "floor", 6);
    f->run.seed = 11;
    f->run.steps = STEPS;
    f->run.eta = 1.0;
    f->run.guidance = guidance;
    f->run.variance_floor = 0.25;
    f->run.last_step_mean = true;
    f->run.transition_fraction = fraction;
    f->run.group_size = 2;
    f->run.forward_looking = true;
    f->prompt[0] = (struct run_prompt){"a b", "", ""};
    f->prompt[1] = (struct run_prompt){"c", "", ""};
    f->prompts = (struct prompt_set){2, f->prompt};
    if (run_chain_plan(f->kernels, &f->run, pipeline_schedule(p), &e) < 0)
        stop(&e);
    const struct policy_ref base = {0};
    const struct rollout_request q = {&f->run, f->kernels, &f->prompts, &base, 0, 0, BATCH};
    if (rollout_make(f->batch, p, &q, NULL, NULL, &e) < 0)
        stop(&e);
    for (int i = 0; i < BATCH; i++) {
        struct trajectory *t = f->batch[i];
        ck_assert_msg(trajectory_check(t, false, &e) == 0, "%s", e.text);
        t->reward = 0.3 * sin(1.0 + i);
        for (uint32_t j = 0; j < t->state_count; j++)
            t->states[j].reward = t->states[j].terminal ? t->reward : 0.1 * cos((double)j + i);
        ck_assert_msg(trajectory_check(t, true, &e) == 0, "%s", e.text);
    }
    pipeline_close(p);
    f->options = (struct learner_options){
        .model_folder = MODEL, .threads = 2, .seed = f->run.seed, .guidance = guidance, .kernels = f->kernels,
        .steps = STEPS, .objective = {.beta = 5.0}, .updates_total = 10, .lr = 1e-4, .flow_lr = 1e-3, .lr_final = 1.0, .beta1 = 0.9, .beta2 = 0.999,
        .eps = 1e-8, .grad_norm_max = 1.0, .flow_levels = 2, .flow_channels = {8, 16}, .flow_scale = 1.0,
        .kl_states = 4};
}

static void close_fixture(struct fixture *f)
{
    for (int i = 0; i < BATCH; i++)
        trajectory_free(f->batch[i]);
}

static struct learner *open_learner(const struct fixture *f)
{
    struct err e;
    struct learner *l;
    if (learner_open(&l, &f->options, &e) < 0)
        stop(&e);
    return l;
}

static struct learner_stats update(struct learner *l, struct fixture *f)
{
    struct err e;
    struct learner_stats s;
    if (learner_update(l, f->batch, BATCH, &s, NULL, NULL, NULL, &e) < 0)
        stop(&e);
    return s;
}

static void digest_of(struct learner *l, uint8_t digest[HASH_SHA256_BYTES])
{
    struct err e;
    struct learner_blob blob[LEARNER_BLOBS];
    struct hash_sha256 h;
    if (learner_save(l, blob, &e) < 0)
        stop(&e);
    hash_sha256_begin(&h);
    for (int i = 0; i < LEARNER_BLOBS; i++) {
        hash_sha256_add(&h, blob[i].bytes, blob[i].n);
        mem_free(blob[i].bytes);
    }
    hash_sha256_end(&h, digest);
}

/* A fresh learner whose policy is not the base model, and whose networks are both moved `by` along gradient slabs (or NULL). */
static void shift(struct params *p, double factor, const real *slab, double by)
{
    struct param_run run;
    for (size_t at = 0; params_next_run(p, &at, &run);)
        for (size_t i = 0; i < run.count; i++)
            run.value[i] = (real)(factor * (double)run.value[i] + (slab == NULL ? 0.0 : by * (double)slab[run.grad + i]));
    params_touch_all(p);
}

static struct learner *open_moved(const struct fixture *f, const real *policy, const real *flow, double by)
{
    struct err e;
    struct learner *l = open_learner(f);
    shift(pipeline_params(l->pipeline), 1.05, policy, by);
    shift(l->flow_params, 1.0, flow, by);
    if (pipeline_touch(l->pipeline, &e) < 0)
        stop(&e);
    return l;
}

static double loss_moved(struct fixture *f, const real *policy, const real *flow, double by)
{
    struct learner *l = open_moved(f, policy, flow, by);
    const double loss = update(l, f).loss;
    learner_close(l);
    return loss;
}

/* Along its own gradient the loss rises by the gradient's norm: both networks, every term, trajectory by trajectory. */
START_TEST(the_gradients_of_an_update_are_the_derivatives_of_its_loss)
{
    static const enum objective_kind kinds[] = {OBJECTIVE_DAG_DB, OBJECTIVE_RESIDUAL_DB};
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.kl_states = 0;
    f.options.micro_batch = 1;
    f.options.flow_scale = 3.0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        f.options.objective = (struct objective_settings){.kind = kinds[k], .beta = 5.0};
        f.options.proximal = k == 0 ? 2.0 : 0.0;
        f.options.anchor = k == 1 ? 2.0 : 0.0;
        struct learner *l = open_moved(&f, NULL, NULL, 0.0);
        const struct learner_stats s = update(l, &f);
        const double norm[2] = {s.grad_norm, s.flow_grad_norm};
        for (int n = 0; n < (k == 0 ? 2 : 1); n++) { /* the flow's is the same in both */
            const double by = 0.01 * s.loss / (norm[n] * norm[n]); /* changes the loss by a hundredth */
            const real *const policy = n == 0 ? l->policy.grads : NULL, *const flow = n == 1 ? l->flow.grads : NULL;
            const double slope = (loss_moved(&f, policy, flow, by) - loss_moved(&f, policy, flow, -by)) / (2.0 * by * norm[n]);
            ck_assert_msg(fabs(slope / norm[n] - 1.0) < 1e-2, "objective %d, network %d: gradient %g, differences give %g",
                          (int)kinds[k], n, norm[n], slope);
        }
        learner_close(l);
    }
    close_fixture(&f);
}
END_TEST

/* Without a flow the balance of a chain's steps is that of its ends: sums of S (log p_F - log q) and of beta psi are left. */
START_TEST(the_residual_is_made_of_the_densities_and_the_rewards_of_both_ends)
{
    static const enum learner_psi psi[] = {PSI_BEHAVIOUR, PSI_ABAR, PSI_NONE};
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.flow_scale = 0.0;
    f.options.kl_states = 0;
    const double trainable = f.batch[0]->transition_count;
    for (int i = 0; i < 4; i++) {
        double want = 0.0, scale = 0.0;
        f.options.psi = psi[i % 3];
        f.options.objective.kind = i == 3 ? OBJECTIVE_TB : OBJECTIVE_DAG_DB;
        struct learner *l = open_learner(&f);
        const struct learner_stats s = update(l, &f);
        for (int b = 0; b < BATCH; b++) {
            const struct trajectory *t = f.batch[b];
            const size_t D = trajectory_latent_elements(t);
            const double weight = f.options.psi == PSI_BEHAVIOUR ? 1.0 : f.options.psi == PSI_ABAR ? f.kernels[0].abar_t : 0.0;
            scale = 1.0 / (double)D;
            want += 5.0 * ((i == 3 ? 0.0 : weight * t->states[0].reward) - t->reward) / BATCH;
            for (size_t j = 0; i == 3 && j < D; j++)
                want -= scale * 0.5 * ((double)t->latents[j] * (double)t->latents[j] + log(2.0 * 3.14159265358979324)) / BATCH;
        }
        want += trainable * (s.log_pf - s.log_pb);
        ck_assert_double_eq_tol(s.delta_mean * (i == 3 ? 1.0 : trainable), want, 1e-5);
        ck_assert_double_eq_tol(l->o.objective.scale, scale, 1e-15);
        learner_close(l);
    }
    close_fixture(&f);
}
END_TEST

START_TEST(rewards_count_for_nothing_where_beta_begins_at_zero)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.kl_states = 0;
    for (int warmup = 0; warmup < 2; warmup++) {
        f.options.beta_warmup = 0.5 * warmup;
        struct learner *a = open_learner(&f), *b = open_learner(&f);
        const struct learner_stats before = update(a, &f);
        for (int i = 0; i < BATCH; i++)
            f.batch[i]->reward += i;
        const struct learner_stats after = update(b, &f);
        ck_assert_double_eq(before.beta, warmup ? 0.0 : 5.0);
        ck_assert_int_eq(before.loss == after.loss, warmup);
        learner_close(a);
        learner_close(b);
    }
    close_fixture(&f);
}
END_TEST

/* How far an update moved a network: largest step of one number, and norm of all. */
static void moved(const struct params *p, const real *before, double *most, double *norm)
{
    struct param_run run;
    *most = *norm = 0.0;
    for (size_t at = 0, n = 0; params_next_run(p, &at, &run); n += run.count)
        for (size_t i = 0; i < run.count; i++) {
            const double d = fabs((double)run.value[i] - (double)before[n + i]);
            *most = fmax(*most, d);
            *norm += d * d;
        }
    *norm = sqrt(*norm);
}

static real *values_of(const struct params *p, size_t room)
{
    struct param_run run;
    real *v = mem_new(room, sizeof *v);
    for (size_t at = 0, n = 0; params_next_run(p, &at, &run); n += run.count)
        memcpy(v + n, run.value, run.count * sizeof *v);
    return v;
}

struct step_sizes {
    double most[2], norm[2]; /* policy, flow */
};

static struct step_sizes step_sizes(struct fixture *f, uint64_t step)
{
    struct step_sizes out;
    struct learner *l = open_learner(f);
    const struct params *const p[2] = {pipeline_params(l->pipeline), l->flow_params};
    real *const before[2] = {values_of(p[0], l->policy.count), values_of(p[1], l->flow.count)};
    l->step = step;
    update(l, f);
    for (int n = 0; n < 2; n++) {
        moved(p[n], before[n], &out.most[n], &out.norm[n]);
        mem_free(before[n]);
    }
    learner_close(l);
    return out;
}

/* The first step of Adam is the learning rate in every number; with an epsilon far above the gradient it is the gradient. */
START_TEST(each_network_steps_at_its_own_rate_within_its_own_bound)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.kl_states = 0;
    f.options.lr_final = 0.1;
    struct step_sizes s = step_sizes(&f, 0);
    ck_assert_double_eq_tol(s.most[0] / f.options.lr, 1.0, 1e-2);
    ck_assert_double_eq_tol(s.most[1] / f.options.flow_lr, 1.0, 1e-2);
    f.options.lr_final = 1.0;
    const struct step_sizes whole = step_sizes(&f, f.options.updates_total - 1);
    f.options.lr_final = 0.1;
    s = step_sizes(&f, f.options.updates_total - 1);
    for (int n = 0; n < 2; n++)
        ck_assert_double_eq_tol(s.most[n] / whole.most[n], 0.1, 1e-2);
    f.options.lr = f.options.flow_lr = f.options.eps = 1e6;
    f.options.grad_norm_max = 1e-3;
    s = step_sizes(&f, 0);
    for (int n = 0; n < 2; n++)
        ck_assert_double_eq_tol(s.norm[n] / f.options.grad_norm_max, 1.0, 1e-2);
    close_fixture(&f);
}
END_TEST

/* Chains of other prompts are no baseline of each other's, and their distance is no spread. */
START_TEST(a_prompt_is_compared_with_itself_alone)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.kl_states = 0;
    f.options.objective.kind = OBJECTIVE_VARGRAD;
    struct learner *l = open_learner(&f);
    const struct learner_stats pairs = update(l, &f);
    ck_assert(pairs.grad_norm > 0.0 && pairs.spread > 0.0);
    for (uint32_t i = 0; i < BATCH; i++)
        f.batch[i]->prompt_index = i;
    const struct learner_stats alone = update(l, &f);
    ck_assert_double_eq(alone.grad_norm, 0.0);
    ck_assert_double_eq(alone.loss, 0.0);
    ck_assert(isnan(alone.spread));
    learner_close(l);
    close_fixture(&f);
}
END_TEST

/* The policy stands still (no learning rate); its whole chain's distance is what an exact sum over the trajectory gives. */
START_TEST(the_measured_distance_to_the_base_model_is_that_of_the_chain)
{
    enum { UPDATES = 4, KL = 32 };
    struct fixture f;
    struct err e;
    open_fixture(&f, 3.0, 0.5);
    f.options.lr = f.options.flow_lr = 0.0;
    f.options.kl_states = f.options.micro_batch = KL;
    struct learner *l = open_moved(&f, NULL, NULL, 0.0);
    const struct trajectory *t = f.batch[0];
    const size_t D = trajectory_latent_elements(t);
    const uint32_t trainable = t->states[t->state_count - 1].step;
    real *const x = mem_new(3 * D, sizeof *x), *const out = x + D, *const base = out + D;
    double want = 0.0, square = 0.0, got = 0.0;
    ck_assert_uint_eq(t->transition_count, 2);
    for (uint32_t j = 0; j < t->transition_count; j++) {
        const struct transition_kernel *k = &f.kernels[t->transitions[j].step];
        const double time = (double)k->t;
        const real *condition;
        uint32_t first;
        memcpy(x, t->latents + t->transitions[j].from * D, D * sizeof *x);
        if (pipeline_condition(l->pipeline, t->prompt, &condition, NULL, &e) < 0 ||
            pipeline_predict(l->pipeline, out, NULL, x, &time, &condition, 1, 3.0, &e) < 0 ||
            pipeline_predict_base(l->pipeline, base, x, &time, &condition, 1, 3.0, &e) < 0)
            stop(&e);
        const double part = trajectory_stratum(trainable, t->transition_count, j, &first) * step_kl(k, out, base, D);
        want += part;
        square += 2.0 * part * part;
    }
    for (int i = 0; i < UPDATES; i++) {
        struct learner_stats s;
        if (learner_update(l, f.batch, 1, &s, NULL, NULL, NULL, &e) < 0)
            stop(&e);
        got += s.path_kl / UPDATES;
    }
    const double sd = sqrt((square - want * want) / (UPDATES * KL));
    ck_assert_msg(want > 0.0 && sd < 0.05 * want && fabs(got - want) < 4.0 * sd + 1e-4 * want, "got %g, want %g (+- %g)", got, want, sd);
    mem_free(x);
    learner_close(l);

    struct learner *still = open_learner(&f); /* the base model itself, guided as it is */
    struct learner_stats s;
    if (learner_update(still, f.batch, 1, &s, NULL, NULL, NULL, &e) < 0)
        stop(&e);
    ck_assert_msg(fabs(s.path_kl) < 1e-9, "%g", s.path_kl);
    learner_close(still);
    close_fixture(&f);
}
END_TEST

/* Actions drawn anew: by the policy, with other noise in every update; what they are scored by and learnt from is theirs. */
START_TEST(an_action_drawn_anew_is_scored_and_learnt_from_itself)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.kl_states = 0;
    f.options.lr = f.options.flow_lr = 0.0;
    f.options.psi = PSI_NONE;
    f.options.objective = (struct objective_settings){.kind = OBJECTIVE_DAG_KL, .ratio = RATIO_RESAMPLED, .beta = 5.0,
                                                      .policy_weight = 1.0, .weight_max = 2.0, .advantage_max = 5.0};
    struct learner *l = open_learner(&f);
    const size_t D = trajectory_latent_elements(f.batch[0]);
    real *const want = mem_new(D, sizeof *want);
    const struct learner_stats first = update(l, &f);
    size_t drawn = 0;
    for (size_t i = 0; i < l->n_transitions; i++) {
        const struct trajectory *t = l->states[l->from[i]];
        const struct trajectory_transition *x = l->transition[i];
        const struct transition_kernel *k = &f.kernels[x->step];
        const size_t at = l->from[i] * D;
        const bool terminal = t->states[x->to].terminal;
        ck_assert_int_eq(l->in[i].fresh.drawn, !terminal);
        const real *const action = terminal ? t->latents + x->to * D : l->fresh + l->fresh_row[i] * D;
        step_log_pf_backward(want, k, l->x + at, l->out + at, action, D, l->cotangent[i].d_log_pf);
        ck_assert_mem_eq(want, l->d_out + at, D * sizeof *want);
        if (terminal)
            continue;
        drawn++;
        ck_assert_double_eq(l->in[i].fresh.log_pf, step_log_pf(k, l->x + at, l->out + at, action, D));
        ck_assert_double_eq(l->in[i].fresh.log_pb, step_log_q(k, l->x + at, action, D));
        ck_assert_double_eq(l->fresh_times[l->fresh_row[i]], (double)t->states[x->to].timestep);
        ck_assert(memcmp(action, t->latents + x->to * D, D * sizeof *action) != 0);
    }
    ck_assert_uint_eq(drawn, l->n_transitions - BATCH);
    ck_assert_double_ne(update(l, &f).grad_norm, first.grad_norm);
    mem_free(want);
    learner_close(l);
    close_fixture(&f);
}
END_TEST

START_TEST(a_clip_that_is_not_given_is_in_the_unit_of_the_scale)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.objective.scale = 1.0 / 16384.0;
    struct learner *l = open_learner(&f);
    ck_assert_double_eq_tol(l->o.objective.clip, 1e-4, 1e-6);
    learner_close(l);
    close_fixture(&f);
}
END_TEST

START_TEST(a_trajectorys_priority_is_the_mean_of_its_residuals)
{
    struct fixture f;
    struct err e;
    struct learner_stats s;
    double delta_abs[BATCH], mean = 0.0;
    open_fixture(&f, 1.0, 1.0);
    f.options.kl_states = 0;
    struct learner *l = open_learner(&f);
    if (learner_update(l, f.batch, BATCH, &s, delta_abs, NULL, NULL, &e) < 0)
        stop(&e);
    for (int i = 0; i < BATCH; i++)
        mean += delta_abs[i] / BATCH;
    ck_assert_double_eq_tol(mean, s.delta_abs, 1e-12); /* chains of equal length */
    learner_close(l);
    close_fixture(&f);
}
END_TEST

static int give_up(void *arg, struct err *e)
{
    (void)arg;
    return err_set(e, ERR_UNAVAILABLE, "enough");
}

START_TEST(an_update_that_is_broken_off_changes_nothing)
{
    struct fixture f;
    struct err e;
    struct learner_stats s;
    uint8_t before[HASH_SHA256_BYTES], after[HASH_SHA256_BYTES];
    open_fixture(&f, 1.0, 1.0);
    f.options.objective = (struct objective_settings){.kind = OBJECTIVE_DDPO, .clip = 0.5, .advantage_max = 5.0};
    struct learner *l = open_learner(&f);
    update(l, &f);
    digest_of(l, before);
    ck_assert_int_eq(learner_update(l, f.batch, BATCH, &s, NULL, give_up, NULL, &e), -1);
    ck_assert_int_eq(e.code, ERR_UNAVAILABLE);
    digest_of(l, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_uint_eq(learner_step(l), 1);
    learner_close(l);
    close_fixture(&f);
}
END_TEST

START_TEST(t7_stored_states_scored_again_before_any_update_give_ratio_one)
{
    static const double guidance[] = {1.0, 3.0}, fraction[] = {1.0, 0.5};
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        open_fixture(&f, guidance[i], fraction[i]);
        struct learner *l = open_learner(&f);
        const struct learner_stats s = update(l, &f);
        ck_assert_double_eq_tol(s.log_ratio, 0.0, 1e-6);
        ck_assert_double_gt(s.grad_norm, 0.0);
        const struct learner_stats moved = update(l, &f);
        ck_assert_double_gt(fabs(moved.log_ratio), 1e-7);
        learner_close(l);
        close_fixture(&f);
    }
}
END_TEST

START_TEST(resuming_gives_the_same_bits)
{
    struct fixture f;
    struct err e;
    uint8_t straight[HASH_SHA256_BYTES], resumed[HASH_SHA256_BYTES];
    open_fixture(&f, 1.0, 1.0);
    struct learner *a = open_learner(&f);
    update(a, &f);
    update(a, &f);
    struct learner_blob blob[LEARNER_BLOBS];
    if (learner_save(a, blob, &e) < 0)
        stop(&e);
    update(a, &f);
    update(a, &f);
    digest_of(a, straight);

    struct learner *b = open_learner(&f);
    if (learner_restore(b, blob, &e) < 0)
        stop(&e);
    ck_assert_uint_eq(learner_step(b), 2);
    update(b, &f);
    update(b, &f);
    digest_of(b, resumed);
    ck_assert_mem_eq(straight, resumed, sizeof straight);

    update(b, &f); /* and it does depend on the state */
    digest_of(b, resumed);
    ck_assert_mem_ne(straight, resumed, sizeof straight);

    struct learner_stats s;
    ck_assert_int_eq(learner_update(b, f.batch, BATCH, &s, NULL, give_up, NULL, &e), -1);
    if (learner_restore(b, blob, &e) < 0) /* nothing is left of what it had become, nor of what it was about */
        stop(&e);
    update(b, &f);
    update(b, &f);
    digest_of(b, resumed);
    ck_assert_mem_eq(straight, resumed, sizeof straight);
    for (int i = 0; i < LEARNER_BLOBS; i++)
        mem_free(blob[i].bytes);
    learner_close(a);
    learner_close(b);
    close_fixture(&f);
}
END_TEST

START_TEST(a_checkpoint_with_its_blobs_mixed_up_is_refused)
{
    struct fixture f;
    struct err e;
    open_fixture(&f, 1.0, 1.0);
    struct learner *l = open_learner(&f);
    struct learner_blob blob[LEARNER_BLOBS];
    if (learner_save(l, blob, &e) < 0)
        stop(&e);
    const struct learner_blob swapped[LEARNER_BLOBS] = {blob[1], blob[0], blob[2]};
    ck_assert_int_eq(learner_restore(l, swapped, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "policy"));
    for (int i = 0; i < LEARNER_BLOBS; i++)
        mem_free(blob[i].bytes);
    learner_close(l);
    close_fixture(&f);
}
END_TEST

START_TEST(repeated_updates_on_one_batch_reduce_the_residual)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    f.options.flow_lr = 5e-3;
    struct learner *l = open_learner(&f);
    const double first = update(l, &f).delta_rms;
    double last = first;
    for (int i = 0; i < 60; i++)
        last = update(l, &f).delta_rms;
    ck_assert_double_lt(last, 0.5 * first);
    learner_close(l);
    close_fixture(&f);
}
END_TEST

START_TEST(the_proximal_term_is_nothing_until_the_policy_moves)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    struct learner *without = open_learner(&f);
    f.options.proximal = 1e3;
    struct learner *with = open_learner(&f);
    const struct learner_stats a = update(without, &f), b = update(with, &f);
    ck_assert_double_eq_tol(b.loss, a.loss, 1e-4 * a.loss);
    ck_assert_double_eq_tol(b.grad_norm, a.grad_norm, 1e-2 * a.grad_norm);
    const struct learner_stats c = update(without, &f), d = update(with, &f);
    ck_assert_double_gt(d.loss, 1.001 * c.loss);
    learner_close(without);
    learner_close(with);
    close_fixture(&f);
}
END_TEST

START_TEST(adapters_alone_are_trained_and_published)
{
    struct fixture f;
    struct err e;
    open_fixture(&f, 1.0, 1.0);
    f.options.lora_rank = 2;
    struct learner *l = open_learner(&f);
    update(l, &f);
    uint8_t *bytes;
    size_t n;
    if (learner_policy(l, &bytes, &n, &e) < 0)
        stop(&e);
    struct pipeline *p;
    if (pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) < 0 ||
        pipeline_policy_set(p, bytes, n, &e) < 0)
        stop(&e);
    uint8_t *again;
    size_t m;
    if (pipeline_policy_get(p, &again, &m, &e) < 0)
        stop(&e);
    ck_assert_uint_eq(m, n);
    ck_assert_mem_eq(again, bytes, n);
    ck_assert_uint_lt(n, 200000); /* the whole UNet is 3 MB */
    mem_free(again);
    mem_free(bytes);
    pipeline_close(p);
    learner_close(l);
    close_fixture(&f);
}
END_TEST

START_TEST(a_loss_that_is_not_finite_names_the_step_and_changes_nothing)
{
    struct fixture f;
    struct err e;
    struct learner_stats s;
    uint8_t before[HASH_SHA256_BYTES], after[HASH_SHA256_BYTES];
    open_fixture(&f, 1.0, 1.0);
    struct learner *l = open_learner(&f);
    digest_of(l, before);
    f.batch[2]->reward = 1e308;
    f.batch[2]->states[0].reward = -1e308;
    ck_assert_int_eq(learner_update(l, f.batch, BATCH, &s, NULL, NULL, NULL, &e), -1);
    ck_assert_int_eq(e.code, ERR_NONFINITE);
    ck_assert_ptr_nonnull(strstr(e.text, "step 1"));
    digest_of(l, after);
    ck_assert_mem_eq(before, after, sizeof before);
    learner_close(l);
    close_fixture(&f);
}
END_TEST

START_TEST(every_objective_has_the_same_gradient_however_its_batch_is_cut)
{
    struct fixture f;
    open_fixture(&f, 1.0, 1.0);
    for (int i = 0; i <= OBJECTIVE_KINDS; i++) { /* and DAG-KL with actions of its own */
        const bool resampled = i == OBJECTIVE_KINDS;
        const int kind = resampled ? OBJECTIVE_DAG_KL : i;
        struct learner_stats got[2];
        for (int cut = 0; cut < 2; cut++) {
            f.options.objective = (struct objective_settings){.kind = (enum objective_kind)kind, .beta = 5.0, .lambda = 0.9,
                                                              .policy_weight = 1.0, .weight_max = 2.0, .advantage_max = 5.0,
                                                              .ratio = resampled ? RATIO_RESAMPLED : RATIO_CLIPPED};
            f.options.psi = resampled ? PSI_NONE : PSI_BEHAVIOUR;
            f.options.anchor = kind % 2 == 0 ? 0.5 : 0.0;
            f.options.micro_batch = cut == 0 ? 0 : 1; /* a trajectory at a time */
            struct learner *l = open_learner(&f);
            got[cut] = update(l, &f);
            learner_close(l);
        }
        ck_assert_msg(got[0].grad_norm > 0.0 && fabs(got[0].grad_norm / got[1].grad_norm - 1.0) < 1e-4,
                      "objective %d: gradient %g of one batch, %g of single trajectories", kind, got[0].grad_norm, got[1].grad_norm);
        ck_assert_double_eq_tol(got[0].loss, got[1].loss, 1e-5 * (1.0 + fabs(got[0].loss)));
        ck_assert_double_eq_tol(got[0].weight_mean, 1.0, 1e-4); /* its own actions, before any update */
        ck_assert_double_eq_tol(got[0].weight_ess, 1.0, 1e-4);
        ck_assert_int_eq(got[0].flow_grad_norm > 0.0, objective_needs((enum objective_kind)kind).flow);
    }
    close_fixture(&f);
}
END_TEST

START_TEST(what_ddpo_remembers_of_a_prompt_survives)
{
    struct fixture f;
    uint8_t straight[HASH_SHA256_BYTES], resumed[HASH_SHA256_BYTES];
    struct learner_blob blob[LEARNER_BLOBS];
    struct err e;
    open_fixture(&f, 1.0, 1.0);
    f.options.objective = (struct objective_settings){.kind = OBJECTIVE_DDPO, .clip = 0.5, .advantage_max = 5.0};
    struct learner *a = open_learner(&f), *b = open_learner(&f);
    struct learner_blob start[LEARNER_BLOBS];
    digest_of(b, straight);
    if (learner_save(b, start, &e) < 0)
        stop(&e);
    for (int i = 0; i < 7; i++)
        update(a, &f);
    update(b, &f);
    if (learner_restore(b, start, &e) < 0) /* to where it remembered nothing */
        stop(&e);
    digest_of(b, resumed);
    ck_assert_mem_eq(straight, resumed, sizeof straight);
    if (learner_save(a, blob, &e) < 0 || learner_restore(b, blob, &e) < 0)
        stop(&e);
    struct safetensors *saved;
    if (safetensors_open_memory(&saved, blob[2].bytes, blob[2].n, "optimizer", &e) < 0)
        stop(&e);
    const struct safetensors_tensor *rewards = safetensors_find(saved, "rewards");
    float row[2 * ADVANTAGE_ROW]; /* of two prompts at most; the third number of each counts its rewards */
    double count = 0.0;
    ck_assert(rewards != NULL && rewards->shape[0] <= 2);
    ck_assert_int_eq(safetensors_load(saved, "rewards", rewards->shape, 2, row, &e), 0);
    for (int64_t i = 0; i < rewards->shape[0]; i++)
        count += (double)row[i * ADVANTAGE_ROW + 2];
    ck_assert_double_eq(count, 7.0 * BATCH);
    safetensors_close(saved);
    for (int i = 0; i < 2; i++) {
        update(a, &f);
        update(b, &f);
    }
    digest_of(a, straight);
    digest_of(b, resumed);
    ck_assert_mem_eq(straight, resumed, sizeof straight);
    for (int i = 0; i < LEARNER_BLOBS; i++) {
        mem_free(blob[i].bytes);
        mem_free(start[i].bytes);
    }
    learner_close(a);
    learner_close(b);
    close_fixture(&f);
}
END_TEST

SUITE("trainer/learner", 120, the_gradients_of_an_update_are_the_derivatives_of_its_loss,
      the_residual_is_made_of_the_densities_and_the_rewards_of_both_ends, rewards_count_for_nothing_where_beta_begins_at_zero,
      each_network_steps_at_its_own_rate_within_its_own_bound, a_prompt_is_compared_with_itself_alone,
      the_measured_distance_to_the_base_model_is_that_of_the_chain, an_action_drawn_anew_is_scored_and_learnt_from_itself,
      a_clip_that_is_not_given_is_in_the_unit_of_the_scale, a_trajectorys_priority_is_the_mean_of_its_residuals,
      an_update_that_is_broken_off_changes_nothing, t7_stored_states_scored_again_before_any_update_give_ratio_one,
      resuming_gives_the_same_bits, a_checkpoint_with_its_blobs_mixed_up_is_refused,
      repeated_updates_on_one_batch_reduce_the_residual, the_proximal_term_is_nothing_until_the_policy_moves,
      adapters_alone_are_trained_and_published,
      every_objective_has_the_same_gradient_however_its_batch_is_cut, what_ddpo_remembers_of_a_prompt_survives, a_loss_that_is_not_finite_names_the_step_and_changes_nothing)
