#include "run/rollout.h"

#include "base/mem.h"
#include "base/rng.h"
#include "diffusion/chain.h"
#include "diffusion/step.h"
#include "run/run_chain.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Which step's draw chooses the transitions: behind every draw of the chain itself. */
#define CHOICE_DRAW 0x40000000u
/* Pictures decoded at a time. */
#define DECODE_BATCH 64

struct rollout {
    const struct rollout_request *q;
    struct pipeline *p;
    const struct pipeline_shape *shape;
    struct trajectory **out;
    const real **conditions; /* [count] */
    double *times;           /* [count] */
    real *out_cond;          /* [count,D]: the conditional branch at the step under way */
    int (*poll)(void *, struct err *);
    void *poll_arg;
};

static int predict(void *arg, real *out, const real *x, int t, struct err *e)
{
    struct rollout *r = arg;
    for (size_t i = 0; i < r->q->count; i++)
        r->times[i] = (double)t;
    return pipeline_predict(r->p, out, r->out_cond, x, r->times, r->conditions, r->q->count,
                            r->q->run->guidance, e);
}

/* The state of step k in t, or NULL where that step is not kept. */
static struct trajectory_state *state_of(struct trajectory *t, uint32_t k)
{
    for (uint32_t i = 0; i < t->state_count; i++)
        if (t->states[i].step == k)
            return &t->states[i];
    return NULL;
}

/* Keeps what training needs of transition k.  A state's predicted clean latent takes the state's place among
 * the images until they are decoded (see decode_states). */
static int visit(void *arg, int k, const real *x_t, const real *out, const real *x_s, struct err *e)
{
    struct rollout *r = arg;
    const size_t D = r->shape->latent_elements;
    const struct transition_kernel *kernel = &r->q->kernels[k];
    for (size_t i = 0; i < r->q->count; i++) {
        struct trajectory *t = r->out[i];
        const struct trajectory_state *from = state_of(t, (uint32_t)k);
        const struct trajectory_state *to = state_of(t, (uint32_t)k + 1);
        if (from != NULL)
            memcpy(t->latents + (size_t)(from - t->states) * D, x_t + i * D, D * sizeof *x_t);
        if (to != NULL && k + 1 == (int)r->q->run->steps)
            memcpy(t->latents + (size_t)(to - t->states) * D, x_s + i * D, D * sizeof *x_s);
        for (uint32_t j = 0; j < t->transition_count; j++)
            if (t->transitions[j].step == (uint32_t)k)
                t->transitions[j].log_prob = step_log_pf(kernel, x_t + i * D, out + i * D, x_s + i * D, D);
    }
    return r->poll != NULL ? r->poll(r->poll_arg, e) : 0;
}

/* Lays out the states and transitions that will be kept. */
static void plan_trajectory(struct trajectory *t, const struct rollout_request *q, uint32_t trainable)
{
    const struct run_spec *run = q->run;
    bool keep[CODEC_STEPS_MAX];
    double u[CODEC_STEPS_MAX];
    struct rng g = rng_stream_id(run->seed, t->id, CHOICE_DRAW);
    for (uint32_t k = 0; k < trainable; k++)
        u[k] = rng_uniform(&g);
    t->transition_count = trajectory_choose(keep, run->steps, trainable, run->transition_fraction, u);
    t->transitions = mem_new(t->transition_count, sizeof *t->transitions);
    t->states = mem_new((size_t)t->transition_count * 2, sizeof *t->states);

    uint32_t n = 0;
    for (uint32_t k = 0; k < trainable; k++) {
        if (!keep[k])
            continue;
        for (uint32_t end = k; end <= k + 1; end++)
            if (t->state_count == 0 || t->states[t->state_count - 1].step < end) {
                const bool terminal = end == trainable;
                t->states[t->state_count++] = (struct trajectory_state){
                    .step = end,
                    .timestep = end < run->steps ? (uint32_t)q->kernels[end].t : 0,
                    .has_image = run->forward_looking && !terminal && q->kernels[end].abar_t >= run->forward_looking_abar,
                    .terminal = terminal,
                    .reward = (double)NAN,
                };
            }
        t->transitions[n++] = (struct trajectory_transition){
            .step = k,
            .from = t->states[t->state_count - 1].step == k + 1 ? t->state_count - 2 : t->state_count - 1,
            .to = t->state_count - 1,
        };
    }
    assert(n == t->transition_count);
}

static int begin(struct rollout *r, size_t i, uint32_t trainable, struct err *e)
{
    const struct rollout_request *q = r->q;
    const struct run_spec *run = q->run;
    struct trajectory *t = r->out[i] = trajectory_new();
    t->slot = q->slot;
    t->counter = q->counter + i;
    trajectory_id(t->id, run->run_id, t->slot, t->counter);
    const uint32_t group_size = run->group_size > 0 ? run->group_size : 1;
    t->prompt_index = (uint32_t)prompt_set_draw(q->prompts->count, run->seed, t->slot, t->counter / group_size);
    const struct run_prompt *prompt = &q->prompts->item[t->prompt_index];
    t->prompt = mem_strdup(prompt->text);
    t->metadata = mem_strdup(prompt->metadata);
    memcpy(t->tag, prompt->tag, strlen(prompt->tag) + 1);
    t->policy_version = q->policy->version;
    memcpy(t->policy_digest, q->policy->digest, sizeof t->policy_digest);
    run_chain_digest(t->schedule_digest, run);
    t->guidance = run->guidance;
    t->latent_channels = (uint32_t)r->shape->latent_channels;
    t->latent_height = (uint32_t)r->shape->latent_height;
    t->latent_width = (uint32_t)r->shape->latent_width;
    t->image_height = (uint32_t)r->shape->image_height;
    t->image_width = (uint32_t)r->shape->image_width;
    t->undecoded = run->undecoded;
    t->reward = (double)NAN;
    plan_trajectory(t, q, trainable);
    t->latents = mem_new((size_t)t->state_count * r->shape->latent_elements, sizeof *t->latents);
    return pipeline_condition(r->p, t->prompt, &r->conditions[i], NULL, e);
}

/* Predicted clean latents of one chain step, for the trajectories that keep it: collected over the chain,
 * decoded at the end in full batches. */
struct pictures {
    size_t count, room;
    real *latents;     /* [count,D] */
    uint8_t **targets; /* [count]: where each picture goes */
};

static void pictures_add(struct pictures *s, const real *latent, size_t D, uint8_t *target)
{
    assert(s->count < s->room);
    memcpy(s->latents + s->count * D, latent, D * sizeof *latent);
    s->targets[s->count++] = target;
}

static int pictures_decode(const struct pictures *s, struct rollout *r, struct err *e)
{
    const size_t D = r->shape->latent_elements;
    if (r->q->run->undecoded) {
        for (size_t i = 0; i < s->count; i++)
            memcpy(s->targets[i], s->latents + i * D, D * sizeof *s->latents);
        return 0;
    }
    const size_t bytes = r->shape->image_height * r->shape->image_width * 3;
    uint8_t *rgb = mem_new(DECODE_BATCH, bytes);
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < s->count; at += DECODE_BATCH) {
        const size_t n = s->count - at < DECODE_BATCH ? s->count - at : DECODE_BATCH;
        rc = pipeline_decode(r->p, rgb, s->latents + at * D, n, e);
        for (size_t i = 0; rc == 0 && i < n; i++)
            memcpy(s->targets[at + i], rgb + i * bytes, bytes);
        if (rc == 0 && r->poll != NULL)
            rc = r->poll(r->poll_arg, e);
    }
    mem_free(rgb);
    return rc;
}

struct visitor {
    struct rollout *r;
    struct pictures *pictures;
    real *x0; /* [D] */
};

/* visit, and the clean latents predicted where a picture is wanted. */
static int visit_and_predict(void *arg, int k, const real *x_t, const real *out, const real *x_s, struct err *e)
{
    struct visitor *v = arg;
    struct rollout *r = v->r;
    const size_t D = r->shape->latent_elements;
    for (size_t i = 0; i < r->q->count; i++) {
        struct trajectory *t = r->out[i];
        size_t image = 0;
        for (uint32_t j = 0; j < t->state_count; j++) {
            if (!t->states[j].has_image)
                continue;
            if (t->states[j].step == (uint32_t)k && !r->q->run->forward_looking_base) {
                step_x0(v->x0, &r->q->kernels[k], x_t + i * D, r->out_cond + i * D, D);
                pictures_add(v->pictures, v->x0, D, t->images + image * trajectory_image_bytes(t));
            }
            image++;
        }
    }
    return visit(r, k, x_t, out, x_s, e);
}

/* The clean latents that the base model predicts from the states that were kept, all in one pass. */
static int predict_by_base(struct rollout *r, struct pictures *pictures, struct err *e)
{
    const size_t D = r->shape->latent_elements;
    size_t n = 0, most = 0;
    for (size_t i = 0; i < r->q->count; i++)
        most += trajectory_image_count(r->out[i]);
    if (most == 0)
        return 0;
    real *x = mem_new(most * D, sizeof *x), *out = mem_new(most * D, sizeof *out), *x0 = mem_new(D, sizeof *x0);
    double *times = mem_new(most, sizeof *times);
    const real **conditions = mem_new(most, sizeof *conditions);
    const struct transition_kernel **kernels = mem_new(most, sizeof *kernels);
    uint8_t **targets = mem_new(most, sizeof *targets);
    for (size_t i = 0; i < r->q->count; i++) {
        const struct trajectory *t = r->out[i];
        size_t image = 0;
        for (uint32_t j = 0; j < t->state_count; j++) {
            if (!t->states[j].has_image)
                continue;
            kernels[n] = &r->q->kernels[t->states[j].step];
            times[n] = (double)kernels[n]->t;
            conditions[n] = r->conditions[i];
            targets[n] = t->images + image++ * trajectory_image_bytes(t);
            memcpy(x + n++ * D, t->latents + j * D, D * sizeof *x);
        }
    }
    /* the conditional branch alone, as the policy's own prediction is */
    const int rc = pipeline_predict_base(r->p, out, x, times, conditions, n, 1.0, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        step_x0(x0, kernels[i], x + i * D, out + i * D, D);
        pictures_add(pictures, x0, D, targets[i]);
    }
    mem_free(targets);
    mem_free(kernels);
    mem_free(conditions);
    mem_free(times);
    mem_free(x0);
    mem_free(out);
    mem_free(x);
    return rc;
}

static int predict_visitor(void *arg, real *out, const real *x, int t, struct err *e)
{
    struct visitor *v = arg;
    return predict(v->r, out, x, t, e);
}

int rollout_make(struct trajectory **out, struct pipeline *p, const struct rollout_request *q,
                 int (*poll)(void *, struct err *), void *arg, struct err *e)
{
    const struct pipeline_shape *shape = pipeline_shape(p);
    const size_t D = shape->latent_elements, n = q->count;
    const uint32_t trainable = run_chain_trainable(q->kernels, q->run->steps);
    struct rollout r = {.q = q, .p = p, .shape = shape, .out = out, .poll = poll, .poll_arg = arg};
    struct pictures pictures = {.room = n * (trainable + 2)};
    real *x = NULL, *work = NULL;
    uint8_t(*ids)[RNG_ID_BYTES] = NULL;
    int rc = -1;
    memset(out, 0, n * sizeof *out);
    r.conditions = mem_new(n, sizeof *r.conditions);
    r.times = mem_new(n, sizeof *r.times);
    r.out_cond = mem_new(n * D, sizeof *r.out_cond);
    pictures.latents = mem_new(pictures.room * D, sizeof *pictures.latents);
    pictures.targets = mem_new(pictures.room, sizeof *pictures.targets);
    struct visitor v = {.r = &r, .pictures = &pictures, .x0 = mem_new(D, sizeof(real))};
    x = mem_new(n * D, sizeof *x);
    work = mem_new(2 * n * D, sizeof *work);
    ids = mem_new(n, sizeof *ids);

    for (size_t i = 0; i < n; i++) {
        if (begin(&r, i, trainable, e) < 0)
            goto out;
        memcpy(ids[i], out[i]->id, sizeof ids[i]);
        const size_t images = trajectory_image_count(out[i]), bytes = trajectory_image_bytes(out[i]);
        out[i]->images = images == 0 ? NULL : mem_new(images, bytes);
        out[i]->final_image = mem_new(1, bytes);
    }
    const struct chain chain = {.kernels = q->kernels,
                                .steps = (int)q->run->steps,
                                .count = n,
                                .elements = D,
                                .seed = q->run->seed,
                                .ids = (const uint8_t(*)[RNG_ID_BYTES])ids};
    chain_start(&chain, x);
    if (chain_run(&chain, 0, x, work, predict_visitor, visit_and_predict, &v, e) < 0)
        goto out;
    if (q->run->forward_looking_base && predict_by_base(&r, &pictures, e) < 0)
        goto out;
    for (size_t i = 0; i < n; i++)
        pictures_add(&pictures, x + i * D, D, out[i]->final_image);
    rc = pictures_decode(&pictures, &r, e);
out:
    for (size_t i = 0; rc < 0 && i < n; i++) {
        trajectory_free(out[i]);
        out[i] = NULL;
    }
    mem_free(ids);
    mem_free(work);
    mem_free(x);
    mem_free(v.x0);
    mem_free(pictures.targets);
    mem_free(pictures.latents);
    mem_free(r.out_cond);
    mem_free(r.times);
    mem_free(r.conditions);
    return rc;
}

uint32_t rollout_states(const struct run_spec *run, const struct transition_kernel *kernels)
{
    /* at most both ends of every transition kept */
    static const double u[CODEC_STEPS_MAX];
    bool keep[CODEC_STEPS_MAX];
    const uint32_t trainable = run_chain_trainable(kernels, run->steps);
    const uint32_t ends = 2 * trajectory_choose(keep, run->steps, trainable, run->transition_fraction, u);
    return ends < trainable + 1 ? ends : trainable + 1;
}

uint64_t rollout_bytes(const struct run_spec *run, const struct transition_kernel *kernels, const struct pipeline_shape *s)
{
    /* every state, a picture of every one but the terminal that may have one, the final picture, and the header */
    const uint32_t trainable = run_chain_trainable(kernels, run->steps);
    const uint64_t states = rollout_states(run, kernels);
    uint64_t pictured = 0;
    for (uint32_t k = 0; run->forward_looking && k < trainable; k++)
        pictured += kernels[k].abar_t >= run->forward_looking_abar;
    const uint64_t pictures = 1 + (pictured < states - 1 ? pictured : states - 1);
    const uint64_t picture = run->undecoded ? (uint64_t)s->latent_elements * sizeof(float)
                                            : (uint64_t)s->image_height * s->image_width * 3;
    return states * s->latent_elements * sizeof(float) + pictures * picture + TRAJECTORY_PROMPT_BYTES_MAX +
           TRAJECTORY_METADATA_BYTES_MAX + states * 64 + 1024;
}
