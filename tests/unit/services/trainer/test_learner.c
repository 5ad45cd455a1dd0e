#include "trainer/learner.h"

#include "base/hash.h"
#include "base/mem.h"
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
    for (int i = 0; i < 7; i++)
        update(a, &f);
    if (learner_save(a, blob, &e) < 0 || learner_restore(b, blob, &e) < 0)
        stop(&e);
    for (int i = 0; i < 2; i++) {
        update(a, &f);
        update(b, &f);
    }
    digest_of(a, straight);
    digest_of(b, resumed);
    ck_assert_mem_eq(straight, resumed, sizeof straight);
    for (int i = 0; i < LEARNER_BLOBS; i++)
        mem_free(blob[i].bytes);
    learner_close(a);
    learner_close(b);
    close_fixture(&f);
}
END_TEST

SUITE("trainer/learner", 120, t7_stored_states_scored_again_before_any_update_give_ratio_one,
      resuming_gives_the_same_bits, a_checkpoint_with_its_blobs_mixed_up_is_refused,
      repeated_updates_on_one_batch_reduce_the_residual, the_proximal_term_is_nothing_until_the_policy_moves,
      adapters_alone_are_trained_and_published,
      every_objective_has_the_same_gradient_however_its_batch_is_cut, what_ddpo_remembers_of_a_prompt_survives, a_loss_that_is_not_finite_names_the_step_and_changes_nothing)
