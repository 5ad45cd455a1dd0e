#include "dagline/pretrain_private.h"

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "dagline/evaluate.h"
#include "dagline/grid.h"
#include "dagline/shapes_model.h"
#include "nn/loss.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define USES PRETRAIN_USES
#define EMPTY_CAPTIONS 0.1 /* unconditional share, for guidance */
#define EVAL_STEPS 10
#define EVAL_FLOOR 0.25

/* Which timestep a level in [0,1) stands for: shapes are decided between 60 and 600 and are the hardest to learn, so
 * three quarters of the samples go there; grounds, colours and places, before, are learnt from fewer. */
static double timestep_of(double level)
{
    static const double knots[][2] = {
        {0.0, 0.0}, {0.05, 0.06}, {0.8, 0.6}, {1.0, 1.0}}; /* level, share of the schedule */
    size_t k = 1;
    while (level >= knots[k][0])
        k++;
    const double at = (level - knots[k - 1][0]) / (knots[k][0] - knots[k - 1][0]);
    return knots[k - 1][1] + at * (knots[k][1] - knots[k - 1][1]);
}

/* Captions and noise levels of samples first.. of n.  A picture's uses see it at levels far apart. */
static int captions(struct pretraining *t, uint64_t first, size_t n, struct err *e)
{
    const double timesteps = t->schedule.config.num_train_timesteps;
    double level = 0.0;
    for (size_t i = 0; i < n; i++) {
        struct scene scene;
        struct caption_spec spec;
        char text[CAPTION_BYTES_MAX] = "";
        pretrain_draw_pair(&scene, &spec, t->o->seed + STREAM_UNET, (first + i) / USES);
        struct rng g = rng_stream(t->o->seed ^ (first + i), STREAM_UNET, 0);
        if (rng_uniform(&g) >= EMPTY_CAPTIONS)
            caption_write(text, &spec);
        level = (first + i) % USES == 0 ? rng_uniform(&g) : fmod(level + 1.0 / USES, 1.0);
        t->times[i] = floor(timesteps * timestep_of(level));
        if (tokenizer_encode(t->model->tokenizer, text, t->ids + i * PRETRAIN_TOKENS, PRETRAIN_TOKENS, NULL, e) < 0)
            return -1;
    }
    return 0;
}

/* t->ids, t->times, t->noised and the v that would be exact, t->target, of samples first.. of n. */
static int draw_noised(struct pretraining *t, uint64_t first, size_t n, struct err *e)
{
    const size_t rows = PRETRAIN_Z_SIDE * PRETRAIN_Z_SIDE;
    pretrain_draw(t, t->o->seed + STREAM_UNET, first / USES, n / USES);
    const void *const pictures[] = {t->image};
    real *const moments[] = {t->moments};
    if (captions(t, first, n, e) < 0 || runner_infer(t->encoder, pictures, moments, n / USES, e) < 0)
        return -1;
    pretrain_noise(t->noise, t->o->seed + 1, STREAM_UNET, first, n * PRETRAIN_Z);
    for (size_t i = 0; i < n; i++)
        loss_gaussian_sample(t->z + i * PRETRAIN_Z, t->moments + i / USES * PRETRAIN_Z * 2, t->noise + i * PRETRAIN_Z,
                             rows, PRETRAIN_Z_CHANNELS);
    pretrain_noise(t->noise, t->o->seed + 2, STREAM_UNET, first, n * PRETRAIN_Z);
    for (size_t i = 0; i < n; i++) {
        const double abar = t->schedule.abar[(size_t)t->times[i]], scale = t->model->vae.scaling_factor;
        const real root = (real)sqrt(abar), spread = (real)sqrt(1.0 - abar);
        const real signal = root * (real)scale, back = spread * (real)scale;
        for (size_t j = i * PRETRAIN_Z; j < (i + 1) * PRETRAIN_Z; j++) {
            t->noised[j] = signal * t->z[j] + spread * t->noise[j];
            t->target[j] = root * t->noise[j] - back * t->z[j];
        }
    }
    return 0;
}

/* From t->ids, t->times, t->noised towards t->target. */
static int learn_target(struct pretraining *t, struct stage *s, size_t n, double share, double *loss, struct err *e)
{
    const void *const text_in[] = {t->ids}, *const unet_in[] = {t->noised, t->times, t->context};
    real *const text_out[] = {t->context}, *const unet_out[] = {t->predicted};
    if (runner_forward(t->text, text_in, text_out, n, e) < 0 || runner_forward(t->unet, unet_in, unet_out, n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const size_t at = i * PRETRAIN_Z;
        const double part = share / (double)n;
        *loss += part * loss_mse(t->d_predicted + at, t->predicted + at, t->target + at, PRETRAIN_Z, part);
    }
    const real *const d_predicted[] = {t->d_predicted}, *const d_context[] = {t->d_context};
    real *const d_inputs[] = {NULL, NULL, t->d_context};
    return runner_backward(t->unet, d_predicted, d_inputs, s->optim[0].grads, e) < 0
               ? -1
               : runner_backward(t->text, d_context, NULL, s->optim[1].grads, e);
}

int pretrain_unet_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                       struct err *e)
{
    return draw_noised(t, first, n, e) < 0 ? -1 : learn_target(t, s, n, share, loss, e);
}

/* ---- guidance distillation (Meng et al., arXiv 2210.03142, stage one, for one scale) ---- */

int pretrain_open_teacher(struct pretraining *t, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    const struct model_options mo = {.parts = MODEL_HAS_UNET | MODEL_HAS_TEXT};
    if (file_join(path, t->o->work, "teacher", e) < 0 ||
        shapes_model_write(path, t->model->vae.scaling_factor, e) < 0 || model_save(t->model, path, DTYPE_F32, e) < 0 ||
        model_open(&t->teacher, path, mo, e) < 0)
        return -1;
    struct model *const m = t->teacher;
    params_set_trainable(m->params[MODEL_UNET], "", "", false);
    params_set_trainable(m->params[MODEL_TEXT], "", "", false);
    t->teacher_unet_shape =
        (struct unet_shape){.config = &m->unet, .H = PRETRAIN_Z_SIDE, .W = PRETRAIN_Z_SIDE, .L = PRETRAIN_TOKENS};
    t->teacher_text_shape = (struct text_shape){.config = &m->text, .L = PRETRAIN_TOKENS};
    t->teacher_unet = runner_new((struct runner_options){
        .pool = t->pool, .params = m->params[MODEL_UNET], .build = unet_build, .arg = &t->teacher_unet_shape});
    t->teacher_text = runner_new((struct runner_options){
        .pool = t->pool, .params = m->params[MODEL_TEXT], .build = text_encoder_build, .arg = &t->teacher_text_shape});
    return 0;
}

static int teach(struct pretraining *t, const int32_t *ids, real *predicted, size_t n, struct err *e)
{
    const void *const text_in[] = {ids}, *const unet_in[] = {t->noised, t->times, t->context};
    real *const text_out[] = {t->context}, *const unet_out[] = {predicted};
    return runner_infer(t->teacher_text, text_in, text_out, n, e) < 0
               ? -1
               : runner_infer(t->teacher_unet, unet_in, unet_out, n, e);
}

/* The target is the teacher's guided prediction: u + g (c - u).  With the empty caption c = u. */
int pretrain_distil_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                         struct err *e)
{
    int32_t empty[PRETRAIN_PART_MAX * PRETRAIN_TOKENS];
    const real guidance = (real)t->o->distil_guidance;
    /* pictures that the UNet has not seen */
    if (draw_noised(t, t->o->unet_steps * t->o->unet_batch + first, n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (tokenizer_encode(t->model->tokenizer, "", empty + i * PRETRAIN_TOKENS, PRETRAIN_TOKENS, NULL, e) < 0)
            return -1;
    if (teach(t, t->ids, t->target, n, e) < 0 || teach(t, empty, t->predicted, n, e) < 0)
        return -1;
    for (size_t j = 0; j < n * PRETRAIN_Z; j++)
        t->target[j] = t->predicted[j] + guidance * (t->target[j] - t->predicted[j]);
    return learn_target(t, s, n, share, loss, e);
}

/* ---- what it can do ---- */

/* The averaged model as a folder, and what it can do. */
int pretrain_look(struct pretraining *t, struct stage *s, char note[96], struct err *e)
{
    struct transition_kernel kernels[EVAL_STEPS];
    struct pipeline *p = NULL;
    struct evaluation ev;
    char path[FILE_PATH_BYTES_MAX], name[48];
    stage_swap_average(s);
    int rc = model_save(t->model, t->model_folder, DTYPE_F32, e);
    stage_swap_average(s);
    const struct pipeline_options po = {.threads = t->o->threads};
    if (rc < 0 || pipeline_open(&p, t->model_folder, &po, e) < 0)
        return -1;
    const struct evaluate_options eo = {.kernels = kernels,
                                        .steps = EVAL_STEPS,
                                        .guidance = 1.0,
                                        .seed = t->o->seed,
                                        .prompts_per_tag = 32,
                                        .pictures = 2};
    snprintf(name, sizeof name, "grid-%s-%06" PRIu64 ".png", s->name, s->step);
    rc = evaluate_plan(kernels, p, EVAL_STEPS, EVAL_FLOOR, e) < 0 || evaluate(&ev, p, &eo, NULL, NULL, e) < 0 ||
                 file_join(path, t->o->work, name, e) < 0 ||
                 grid_of_prompts(path, p, kernels, EVAL_STEPS, 1.0, t->o->seed, e) < 0
             ? -1
             : 0;
    pipeline_close(p);
    if (rc < 0)
        return -1;
    snprintf(note, 96, "strict: single %.1f %%, hard %.1f %%", 100.0 * evaluate_rate(&ev.single),
             100.0 * evaluate_rate(&ev.hard));
    struct json *record = json_new_object();
    for (int tag = 0; tag < TAG_COUNT; tag++)
        json_set_number(record, caption_tag_names[tag], evaluate_rate(&ev.tag[tag]));
    json_set_number(record, "soft", ev.soft.mean);
    return stage_log(s, t, record, e);
}
