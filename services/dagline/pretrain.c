#include "dagline/pretrain.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "dagline/evaluate.h"
#include "dagline/grid.h"
#include "dagline/shapes_model.h"
#include "diffusion/model.h"
#include "io/image.h"
#include "nn/loss.h"
#include "nn/optim.h"
#include "nn/runner.h"
#include "run/generate.h"
#include "shapes/caption.h"
#include "shapes/judge.h"
#include "shapes/scene.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PIXELS (WORLD_SIDE * WORLD_SIDE * 3)
#define Z_CHANNELS 4
#define Z_SIDE 16
#define Z_NUMBERS (Z_SIDE * Z_SIDE * Z_CHANNELS)
#define TOKENS 32
#define PART_MAX 32 /* samples between two sums of gradients: small enough to stay in the caches */
#define WARMUP_STEPS 300
/* Outlines in the autoencoder's loss: a pixel whose neighbours differ by `range` (of 2) counts 1 + OUTLINE_WEIGHT
 * range / (range + FAINT) (1 + FAINT_BONUS / (range + FAINT)) times: 5 to 6 from faint to bright, 1 on flat ground. */
#define OUTLINE_WEIGHT 4.0
#define OUTLINE_FAINT 0.1
#define OUTLINE_FAINT_BONUS 0.3
#define DECODER_NOISE 0.15 /* standard deviation at most, in latents of unit variance */
#define USES 2 /* of a picture in one batch of the UNet: drawing and encoding it costs a quarter of learning from it */
#define EMPTY_CAPTIONS 0.1 /* unconditional share, for guidance */
#define AVERAGE_DECAY 0.999
#define EVAL_STEPS 10
#define EVAL_FLOOR 0.25

/* Streams of random numbers: which pictures, and the draws of each step. */
enum { STREAM_VAE = 101, STREAM_UNET, STREAM_SCALE, STREAM_DECODER };

struct stage {
    const char *name; /* of the state file */
    size_t networks;
    struct optim optim[2];
    uint64_t step, steps;
    double lr_max;
    double loss; /* running mean of what is reported */
};

struct pretraining {
    const struct pretrain_options *o;
    char model_folder[FILE_PATH_BYTES_MAX];
    struct pool *pool;
    struct model *model;
    struct runner *encoder, *decoder, *unet, *text;
    struct vae_shape encoder_shape, decoder_shape;
    struct unet_shape unet_shape;
    struct text_shape text_shape;
    struct schedule schedule;
    int64_t started_ns, saved_ns;

    /* one part of a batch */
    real *image, *weight /* [.,H,W] of the loss */, *recon, *d_recon, *moments, *d_moments, *z, *d_z, *noise, *noised, *predicted, *target, *d_predicted;
    real *context, *d_context;
    int32_t *ids;
    double *times;
};

/* ---- pictures ---- */

/* The scene and caption of sample `index` as the networks see them. */
struct draw_job {
    struct pretraining *t;
    uint64_t seed, first;
    size_t n;
};

/* Outlines are few pixels and carry the shape, whatever their contrast. */
static void edge_weights(real *weight, const real *image)
{
    for (int i = 0; i < WORLD_SIDE; i++)
        for (int j = 0; j < WORLD_SIDE; j++) {
            double range = 0.0;
            const real *at = image + (i * WORLD_SIDE + j) * 3;
            for (int k = 0; k < 4; k++) {
                const int y = i + (k == 0) - (k == 1), x = j + (k == 2) - (k == 3);
                if (y < 0 || y >= WORLD_SIDE || x < 0 || x >= WORLD_SIDE)
                    continue;
                const real *near = image + (y * WORLD_SIDE + x) * 3;
                for (int c = 0; c < 3; c++)
                    range = fmax(range, fabs((double)near[c] - (double)at[c]));
            }
            const double faint = range + OUTLINE_FAINT;
            weight[i * WORLD_SIDE + j] =
                (real)(1.0 + OUTLINE_WEIGHT * range / faint * (1.0 + OUTLINE_FAINT_BONUS / faint));
        }
}

/* Sample `index` of a seed: never one whose caption is held out, so that what was learnt can be told from what was
 * memorised.  The replacement of a held-out one comes from a far part of the same sequence. */
static void draw_pair(struct scene *scene, struct caption_spec *spec, uint64_t seed, uint64_t index)
{
    for (;; index += (uint64_t)1 << 40) {
        scene_pair(scene, spec, seed, index);
        if (!caption_held_out(spec))
            return;
    }
}

static void draw_pictures(void *arg, size_t worker)
{
    const struct draw_job *job = arg;
    uint8_t rgb[WORLD_RGB_BYTES];
    for (size_t i = worker; i < job->n; i += pool_threads(job->t->pool)) {
        struct scene scene;
        struct caption_spec spec;
        draw_pair(&scene, &spec, job->seed, job->first + i);
        world_render(rgb, &scene);
        const struct image view = {WORLD_SIDE, WORLD_SIDE, rgb};
        image_to_float(job->t->image + i * PIXELS, &view);
        edge_weights(job->t->weight + i * (PIXELS / 3), job->t->image + i * PIXELS);
    }
}

static void draw(struct pretraining *t, uint64_t seed, uint64_t first, size_t n)
{
    struct draw_job job = {t, seed, first, n};
    pool_run(t->pool, draw_pictures, &job);
}

static void noise_fill(real *out, uint64_t seed, uint64_t stream, uint64_t step, size_t n)
{
    const struct rng g = rng_stream(seed ^ (step >> 32), stream, (uint32_t)step);
    rng_normal_fill(&g, 0, out, n);
}

/* ---- state on disk ---- */

static void state_items(const struct stage *s, struct safetensors_item *item, char (*name)[32], size_t *count)
{
    static const char *const slab_names[] = {"value", "m", "v", "average"};
    size_t n = 0;
    for (size_t k = 0; k < s->networks; k++) {
        const struct optim *o = &s->optim[k];
        struct param_run run;
        size_t at = 0;
        const bool any = params_next_run(o->params, &at, &run);
        assert(any && run.grad == 0); /* a wholly trainable registry is one run */
        real *const slab[] = {run.value, o->m, o->v, o->average};
        for (size_t j = 0; j < 4; j++, n++) {
            snprintf(name[n], sizeof name[n], "%zu.%s", k, slab_names[j]);
            item[n] = (struct safetensors_item){
                .name = name[n], .dtype = DTYPE_F32, .rank = 1, .shape = {(int64_t)run.count}, .data = slab[j]};
        }
    }
    *count = n;
}

static int state_path(const struct pretraining *t, const struct stage *s, char path[FILE_PATH_BYTES_MAX],
                      struct err *e)
{
    char name[32];
    snprintf(name, sizeof name, "%s.state", s->name);
    return file_join(path, t->o->work, name, e);
}

static int state_save(struct pretraining *t, const struct stage *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], name[8][32], step[24];
    struct safetensors_item item[8];
    size_t n;
    state_items(s, item, name, &n);
    snprintf(step, sizeof step, "%" PRIu64, s->step);
    const struct safetensors_meta meta = {"step", step};
    t->saved_ns = clock_mono_ns(NULL);
    return state_path(t, s, path, e) < 0 ? -1 : safetensors_write(path, item, n, &meta, 1, e);
}

/* Goes on where a killed run was; a fresh start where there is no state. */
static int state_load(struct pretraining *t, struct stage *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], name[8][32];
    struct safetensors_item item[8];
    struct safetensors *f;
    size_t n;
    if (state_path(t, s, path, e) < 0)
        return -1;
    if (access(path, F_OK) != 0)
        return 0;
    if (safetensors_open(&f, path, e) < 0)
        return -1;
    state_items(s, item, name, &n);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = safetensors_load(f, item[i].name, item[i].shape, 1, (float *)(uintptr_t)item[i].data, e);
    const char *step = safetensors_metadata(f, "step");
    if (rc == 0 && (step == NULL || sscanf(step, "%" SCNu64, &s->step) != 1))
        rc = err_set(e, ERR_INVALID, "%s: no step in its metadata", path);
    safetensors_close(f);
    for (size_t k = 0; k < s->networks; k++)
        params_touch_all(s->optim[k].params);
    if (rc == 0)
        printf("%s: going on from step %" PRIu64 "\n", s->name, s->step);
    return rc;
}

/* ---- one step of any stage ---- */

static double learning_rate(const struct stage *s)
{
    const double low = s->lr_max / 20.0;
    if (s->step < WARMUP_STEPS)
        return s->lr_max * (double)(s->step + 1) / WARMUP_STEPS;
    const double at = (double)(s->step - WARMUP_STEPS) / (double)(s->steps - WARMUP_STEPS);
    return low + (s->lr_max - low) * 0.5 * (1.0 + cos(3.14159265358979323846 * at));
}

static int apply_gradients(struct stage *s, struct err *e)
{
    double square = 0.0;
    for (size_t k = 0; k < s->networks; k++) {
        double norm;
        if (optim_grad_norm(&s->optim[k], &norm, e) < 0)
            return err_wrap(e, "%s, step %" PRIu64, s->name, s->step + 1);
        square += norm * norm;
    }
    const struct adamw_settings adamw = {
        .lr = learning_rate(s), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 1e-4};
    const double factor = adamw_clip_factor(sqrt(square), 1.0);
    /* the average forgets the first, random weights faster */
    const double decay = fmin(AVERAGE_DECAY, (1.0 + (double)s->step) / (10.0 + (double)s->step));
    for (size_t k = 0; k < s->networks; k++) {
        optim_step(&s->optim[k], &adamw, s->step + 1, factor);
        optim_average(&s->optim[k], decay);
        optim_zero_grads(&s->optim[k]);
    }
    s->step++;
    return 0;
}

static int log_line(struct pretraining *t, const struct stage *s, struct json **record, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    json_set_string(*record, "stage", s->name);
    json_set_int(*record, "step", (int64_t)s->step);
    json_set_number(*record, "loss", s->loss);
    json_set_number(*record, "lr", learning_rate(s));
    json_set_number(*record, "seconds", (double)(clock_mono_ns(NULL) - t->started_ns) * 1e-9);
    char *line = json_print(*record, JSON_LINE, NULL);
    const size_t n = strlen(line);
    line[n] = '\n';
    const int rc = file_join(path, t->o->work, "log.jsonl", e) < 0 ? -1 : file_append(path, line, n + 1, e);
    line[n] = 0;
    mem_free(line);
    json_free(*record);
    *record = NULL;
    return rc;
}

static void progress(const struct pretraining *t, const struct stage *s, uint64_t from, const char *note)
{
    const double seconds = (double)(clock_mono_ns(NULL) - t->started_ns) * 1e-9;
    const double left = s->step > from ? seconds / (double)(s->step - from) * (double)(s->steps - s->step) : 0.0;
    printf("%s %6" PRIu64 "/%" PRIu64 "  loss %.4f  lr %.2e  %s  ETA %d:%02d\n", s->name, s->step, s->steps, s->loss,
           learning_rate(s), note, (int)left / 60, (int)left % 60);
    fflush(stdout);
}

/* ---- the autoencoder ---- */

/* Mean absolute difference, weighted: its value is added to *loss, its gradient written. */
static void reconstruction_loss(struct pretraining *t, size_t n, double share, double *loss)
{
    const double each = share / (double)(n * PIXELS);
    for (size_t i = 0; i < n * PIXELS; i++) {
        const double w = each * (double)t->weight[i / 3], d = (double)t->recon[i] - (double)t->image[i];
        *loss += w * fabs(d);
        t->d_recon[i] = (real)(d > 0.0 ? w : d < 0.0 ? -w : 0.0);
    }
}

static int vae_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                    struct err *e)
{
    const size_t rows = n * Z_SIDE * Z_SIDE;
    draw(t, t->o->seed + STREAM_VAE, first, n);
    const void *const pictures[] = {t->image}, *const latents[] = {t->z};
    real *const moments[] = {t->moments}, *const recon[] = {t->recon};
    if (runner_forward(t->encoder, pictures, moments, n, e) < 0)
        return -1;
    noise_fill(t->noise, t->o->seed, STREAM_VAE, first, n * Z_NUMBERS);
    loss_gaussian_sample(t->z, t->moments, t->noise, rows, Z_CHANNELS);
    if (runner_forward(t->decoder, latents, recon, n, e) < 0)
        return -1;
    reconstruction_loss(t, n, share, loss);
    const real *const d_recon[] = {t->d_recon}, *const d_moments[] = {t->d_moments};
    real *const d_z[] = {t->d_z};
    if (runner_backward(t->decoder, d_recon, d_z, s->optim[0].grads, e) < 0)
        return -1;
    loss_gaussian_sample_backward(t->d_moments, t->d_z, t->moments, t->noise, rows, Z_CHANNELS, false);
    loss_gaussian_kl(t->d_moments, t->moments, rows, Z_CHANNELS, share * t->o->kl_weight / (double)n, true);
    return runner_backward(t->encoder, d_moments, NULL, s->optim[0].grads, e);
}

/* The decoder alone, behind the finished encoder, from latents as a sampler hands them over: a little off. */
static int decoder_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                        struct err *e)
{
    const size_t rows = n * Z_SIDE * Z_SIDE;
    draw(t, t->o->seed + STREAM_DECODER, first, n);
    const void *const pictures[] = {t->image}, *const latents[] = {t->z};
    real *const moments[] = {t->moments}, *const recon[] = {t->recon};
    if (runner_infer(t->encoder, pictures, moments, n, e) < 0)
        return -1;
    noise_fill(t->noise, t->o->seed, STREAM_DECODER, first, n * Z_NUMBERS);
    loss_gaussian_sample(t->z, t->moments, t->noise, rows, Z_CHANNELS);
    noise_fill(t->noise, t->o->seed + 1, STREAM_DECODER, first, n * Z_NUMBERS);
    for (size_t i = 0; i < n; i++) {
        struct rng g = rng_stream(t->o->seed ^ (first + i), STREAM_DECODER, 0);
        const double off = rng_uniform(&g) * DECODER_NOISE / t->model->vae.scaling_factor;
        for (size_t j = i * Z_NUMBERS; j < (i + 1) * Z_NUMBERS; j++)
            t->z[j] += (real)off * t->noise[j];
    }
    if (runner_forward(t->decoder, latents, recon, n, e) < 0)
        return -1;
    reconstruction_loss(t, n, share, loss);
    const real *const d_recon[] = {t->d_recon};
    return runner_backward(t->decoder, d_recon, NULL, s->optim[0].grads, e);
}

typedef int stage_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                       struct err *e);

/* The autoencoder, or its decoder alone. */
static int train_pictures(struct pretraining *t, struct stage *s, stage_part *part, struct err *e)
{
    const uint64_t from = s->step;
    t->started_ns = clock_mono_ns(NULL);
    while (s->step < s->steps) {
        double loss = 0.0;
        const uint32_t B = t->o->vae_batch;
        for (uint32_t at = 0; at < B; at += PART_MAX) {
            const size_t n = B - at < PART_MAX ? B - at : PART_MAX;
            if (part(t, s, s->step * B + at, n, (double)n / (double)B, &loss, e) < 0)
                return -1;
        }
        if (apply_gradients(s, e) < 0)
            return -1;
        s->loss = s->step == from + 1 ? loss : 0.98 * s->loss + 0.02 * loss;
        if (s->step % 100 == 0) {
            struct json *record = json_new_object();
            progress(t, s, from, "");
            if (log_line(t, s, &record, e) < 0)
                return -1;
        }
        if (s->step == s->steps ||
            clock_mono_ns(NULL) - t->saved_ns > (int64_t)t->o->save_seconds * CLOCK_NS_PER_S)
            if (state_save(t, s, e) < 0)
                return -1;
    }
    return 0;
}

/* scaling_factor = 1 / standard deviation of the sampled latents. */
static int measure_scale(struct pretraining *t, struct err *e)
{
    double square = 0.0;
    size_t count = 0;
    for (uint64_t first = 0; first < 1024; first += PART_MAX) {
        draw(t, t->o->seed + STREAM_SCALE, first, PART_MAX);
        const void *const pictures[] = {t->image};
        real *const moments[] = {t->moments};
        if (runner_infer(t->encoder, pictures, moments, PART_MAX, e) < 0)
            return -1;
        noise_fill(t->noise, t->o->seed, STREAM_SCALE, first, (size_t)PART_MAX * Z_NUMBERS);
        loss_gaussian_sample(t->z, t->moments, t->noise, (size_t)PART_MAX * Z_SIDE * Z_SIDE, Z_CHANNELS);
        for (size_t i = 0; i < (size_t)PART_MAX * Z_NUMBERS; i++, count++)
            square += (double)t->z[i] * (double)t->z[i];
    }
    t->model->vae.scaling_factor = sqrt((double)count / square);
    json_set_number(t->model->config[MODEL_VAE], "scaling_factor", t->model->vae.scaling_factor);
    return 0;
}

/* ---- UNet and text encoder ---- */

/* Which timestep a level in [0,1) stands for: shapes are decided between 60 and 600 and are the hardest to learn, so
 * three quarters of the samples go there; grounds, colours and places, before, are learnt from fewer. */
static double timestep_of(double level)
{
    static const double knots[][2] = {{0.0, 0.0}, {0.05, 0.06}, {0.8, 0.6}, {1.0, 1.0}}; /* level, share of the schedule */
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
        draw_pair(&scene, &spec, t->o->seed + STREAM_UNET, (first + i) / USES);
        struct rng g = rng_stream(t->o->seed ^ (first + i), STREAM_UNET, 0);
        if (rng_uniform(&g) >= EMPTY_CAPTIONS)
            caption_write(text, &spec);
        level = (first + i) % USES == 0 ? rng_uniform(&g) : fmod(level + 1.0 / USES, 1.0);
        t->times[i] = floor(timesteps * timestep_of(level));
        if (tokenizer_encode(t->model->tokenizer, text, t->ids + i * TOKENS, TOKENS, NULL, e) < 0)
            return -1;
    }
    return 0;
}

static int unet_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                     struct err *e)
{
    const size_t numbers = n * Z_NUMBERS, rows = Z_SIDE * Z_SIDE;
    draw(t, t->o->seed + STREAM_UNET, first / USES, n / USES);
    const void *const pictures[] = {t->image};
    real *const moments[] = {t->moments};
    if (captions(t, first, n, e) < 0 || runner_infer(t->encoder, pictures, moments, n / USES, e) < 0)
        return -1;
    noise_fill(t->noise, t->o->seed + 1, STREAM_UNET, first, numbers);
    for (size_t i = 0; i < n; i++)
        loss_gaussian_sample(t->z + i * Z_NUMBERS, t->moments + i / USES * Z_NUMBERS * 2, t->noise + i * Z_NUMBERS, rows,
                             Z_CHANNELS);
    noise_fill(t->noise, t->o->seed + 2, STREAM_UNET, first, numbers);
    for (size_t i = 0; i < n; i++) {
        const double abar = t->schedule.abar[(size_t)t->times[i]];
        const real signal = (real)(sqrt(abar) * t->model->vae.scaling_factor), spread = (real)sqrt(1.0 - abar);
        const real root = (real)sqrt(abar), back = spread * (real)t->model->vae.scaling_factor;
        for (size_t j = i * Z_NUMBERS; j < (i + 1) * Z_NUMBERS; j++) {
            t->noised[j] = signal * t->z[j] + spread * t->noise[j];
            t->target[j] = root * t->noise[j] - back * t->z[j];
        }
    }
    const void *const text_in[] = {t->ids}, *const unet_in[] = {t->noised, t->times, t->context};
    real *const text_out[] = {t->context}, *const unet_out[] = {t->predicted};
    if (runner_forward(t->text, text_in, text_out, n, e) < 0 || runner_forward(t->unet, unet_in, unet_out, n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const size_t at = i * Z_NUMBERS;
        const double part = share / (double)n;
        *loss += part * loss_mse(t->d_predicted + at, t->predicted + at, t->target + at, Z_NUMBERS, part);
    }
    const real *const d_predicted[] = {t->d_predicted}, *const d_context[] = {t->d_context};
    real *const d_inputs[] = {NULL, NULL, t->d_context};
    return runner_backward(t->unet, d_predicted, d_inputs, s->optim[0].grads, e) < 0
               ? -1
               : runner_backward(t->text, d_context, NULL, s->optim[1].grads, e);
}

/* The averaged model as a folder, and what it can do. */
static int look(struct pretraining *t, struct stage *s, char note[96], struct err *e)
{
    struct transition_kernel kernels[EVAL_STEPS];
    struct pipeline *p = NULL;
    struct evaluation ev;
    char path[FILE_PATH_BYTES_MAX], name[32];
    optim_swap_average(&s->optim[0]);
    optim_swap_average(&s->optim[1]);
    int rc = model_save(t->model, t->model_folder, DTYPE_F32, e);
    optim_swap_average(&s->optim[0]);
    optim_swap_average(&s->optim[1]);
    const struct pipeline_options po = {.threads = t->o->threads};
    const struct plan_options plan = {.steps = EVAL_STEPS, .eta = 1.0, .variance = VARIANCE_FLOOR,
                                      .floor_kappa = EVAL_FLOOR, .last_step_mean = true, .clamp_last = true};
    if (rc < 0 || pipeline_open(&p, t->model_folder, &po, e) < 0)
        return -1;
    const struct evaluate_options eo = {.kernels = kernels, .steps = EVAL_STEPS, .guidance = 1.0, .seed = t->o->seed,
                                        .prompts_per_tag = 32, .pictures = 2};
    snprintf(name, sizeof name, "grid-%06" PRIu64 ".png", s->step);
    rc = schedule_plan(kernels, pipeline_schedule(p), &plan, e) < 0 || evaluate(&ev, p, &eo, NULL, NULL, e) < 0 ||
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
    return log_line(t, s, &record, e);
}

static int train_unet(struct pretraining *t, struct stage *s, struct err *e)
{
    const uint64_t from = s->step;
    const uint32_t B = t->o->unet_batch;
    t->started_ns = clock_mono_ns(NULL);
    while (s->step < s->steps) {
        double loss = 0.0;
        for (uint32_t at = 0; at < B; at += PART_MAX) {
            const size_t n = B - at < PART_MAX ? B - at : PART_MAX;
            if (unet_part(t, s, s->step * B + at, n, (double)n / (double)B, &loss, e) < 0)
                return -1;
        }
        if (apply_gradients(s, e) < 0)
            return -1;
        s->loss = s->step == from + 1 ? loss : 0.98 * s->loss + 0.02 * loss;
        const bool last = s->step == s->steps, looking = last || s->step % t->o->look_every == 0;
        if (last || clock_mono_ns(NULL) - t->saved_ns > (int64_t)t->o->save_seconds * CLOCK_NS_PER_S)
            if (state_save(t, s, e) < 0)
                return -1;
        if (looking || s->step % 100 == 0) {
            char note[96] = "";
            struct json *record = looking ? NULL : json_new_object();
            if (looking ? look(t, s, note, e) < 0 : log_line(t, s, &record, e) < 0)
                return -1;
            progress(t, s, from, note);
        }
    }
    return 0;
}

/* ---- everything ---- */

static int open_all(struct pretraining *t, struct err *e)
{
    const struct pretrain_options *o = t->o;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t threads = o->threads > 0 ? (size_t)o->threads : cores > 0 ? (size_t)cores : 1;
    if (file_make_folders(o->work, e) < 0 || file_join(t->model_folder, o->work, "model", e) < 0 ||
        pool_new(&t->pool, threads, e) < 0 || shapes_model_write(t->model_folder, 1.0, e) < 0)
        return -1;
    const bool fresh = o->start[0] == 0;
    const struct model_options mo = {.parts = MODEL_HAS_ALL, .fresh = fresh, .seed = o->seed};
    if (model_open(&t->model, fresh ? t->model_folder : o->start, mo, e) < 0 ||
        schedule_init(&t->schedule, &t->model->schedule, e) < 0)
        return -1;
    if (t->model->schedule.prediction_type != PREDICTION_V)
        return err_set(e, ERR_INVALID, "%s does not predict v, which is what is trained here: begin without --start", o->start);
    struct model *m = t->model;
    for (int i = 0; i < MODEL_PARTS; i++)
        params_set_trainable(m->params[i], "", "", true);
    t->encoder_shape = (struct vae_shape){.config = &m->vae, .H = WORLD_SIDE, .W = WORLD_SIDE};
    t->decoder_shape = (struct vae_shape){.config = &m->vae, .H = Z_SIDE, .W = Z_SIDE, .flags = GRAPH_GRAD};
    t->unet_shape =
        (struct unet_shape){.config = &m->unet, .H = Z_SIDE, .W = Z_SIDE, .L = TOKENS, .flags = GRAPH_GRAD};
    t->text_shape = (struct text_shape){.config = &m->text, .L = TOKENS};
    const struct runner_options ro[] = {
        {.pool = t->pool, .params = m->params[MODEL_VAE], .build = vae_encoder_build, .arg = &t->encoder_shape},
        {.pool = t->pool, .params = m->params[MODEL_VAE], .build = vae_decoder_build, .arg = &t->decoder_shape},
        {.pool = t->pool, .params = m->params[MODEL_UNET], .build = unet_build, .arg = &t->unet_shape},
        {.pool = t->pool, .params = m->params[MODEL_TEXT], .build = text_encoder_build, .arg = &t->text_shape},
    };
    t->encoder = runner_new(ro[0]);
    t->decoder = runner_new(ro[1]);
    t->unet = runner_new(ro[2]);
    t->text = runner_new(ro[3]);

    real **const pictures[] = {&t->image, &t->recon, &t->d_recon};
    real **const latents[] = {&t->z, &t->d_z, &t->noise, &t->noised, &t->predicted, &t->target, &t->d_predicted};
    real **const moments[] = {&t->moments, &t->d_moments}, **const contexts[] = {&t->context, &t->d_context};
    for (size_t i = 0; i < 3; i++)
        *pictures[i] = mem_new((size_t)PART_MAX * PIXELS, sizeof(real));
    for (size_t i = 0; i < sizeof latents / sizeof *latents; i++)
        *latents[i] = mem_new((size_t)PART_MAX * Z_NUMBERS, sizeof(real));
    for (size_t i = 0; i < 2; i++) {
        *moments[i] = mem_new((size_t)PART_MAX * Z_NUMBERS * 2, sizeof(real));
        *contexts[i] = mem_new((size_t)PART_MAX * TOKENS * m->text.width, sizeof(real));
    }
    t->weight = mem_new((size_t)PART_MAX * PIXELS / 3, sizeof(real));
    t->ids = mem_new((size_t)PART_MAX * TOKENS, sizeof *t->ids);
    t->times = mem_new(PART_MAX, sizeof *t->times);
    return 0;
}

static void close_all(struct pretraining *t)
{
    runner_free(t->encoder);
    runner_free(t->decoder);
    runner_free(t->unet);
    runner_free(t->text);
    model_close(t->model);
    pool_free(t->pool);
    void *const owned[] = {t->image, t->weight, t->recon, t->d_recon, t->z, t->d_z, t->noise, t->noised, t->predicted, t->target,
                           t->d_predicted, t->moments, t->d_moments, t->context, t->d_context, t->ids, t->times};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        mem_free(owned[i]);
}

/* The finished folder: averaged weights in float16, configs with the measured scaling factor. */
static int deliver(struct pretraining *t, struct stage *unet, struct err *e)
{
    optim_swap_average(&unet->optim[0]);
    optim_swap_average(&unet->optim[1]);
    const int rc = shapes_model_write(t->o->out, t->model->vae.scaling_factor, e) < 0 ||
                           model_save(t->model, t->o->out, DTYPE_F16, e) < 0
                       ? -1
                       : 0;
    optim_swap_average(&unet->optim[0]);
    optim_swap_average(&unet->optim[1]);
    return rc;
}

/* From here on the averaged weights of a stage, frozen. */
static void finish(struct stage *s)
{
    struct params *const params = s->optim[0].params;
    optim_swap_average(&s->optim[0]);
    optim_done(&s->optim[0]);
    params_set_trainable(params, "", "", false);
}

int pretrain(const struct pretrain_options *o, struct err *e)
{
    struct pretraining t = {.o = o};
    struct stage vae = {.name = "vae", .networks = 1, .steps = o->vae_steps, .lr_max = o->vae_lr};
    struct stage decoder = {.name = "decoder", .networks = 1, .steps = o->decoder_steps, .lr_max = o->decoder_lr};
    struct stage unet = {.name = "unet", .networks = 2, .steps = o->unet_steps, .lr_max = o->unet_lr};
    int rc = -1;
    if (o->unet_batch % USES != 0)
        return err_set(e, ERR_INVALID, "unet_batch %u: a picture is used %d times in a batch, so take a multiple of %d",
                       o->unet_batch, USES, USES);
    if (open_all(&t, e) < 0 || optim_open(&vae.optim[0], t.model->params[MODEL_VAE], t.pool, true, e) < 0 ||
        state_load(&t, &vae, e) < 0 || train_pictures(&t, &vae, vae_part, e) < 0)
        goto out;
    finish(&vae);
    /* latents that a UNet was trained on keep their scale */
    if ((o->start[0] == 0 || o->vae_steps > 0) && measure_scale(&t, e) < 0)
        goto out;
    params_set_trainable(t.model->params[MODEL_VAE], "decoder.", "", true);
    if (optim_open(&decoder.optim[0], t.model->params[MODEL_VAE], t.pool, true, e) < 0 || state_load(&t, &decoder, e) < 0 ||
        train_pictures(&t, &decoder, decoder_part, e) < 0)
        goto out;
    finish(&decoder);
    if (shapes_model_write(t.model_folder, t.model->vae.scaling_factor, e) < 0 ||
        optim_open(&unet.optim[0], t.model->params[MODEL_UNET], t.pool, true, e) < 0 ||
        optim_open(&unet.optim[1], t.model->params[MODEL_TEXT], t.pool, true, e) < 0 || state_load(&t, &unet, e) < 0 ||
        train_unet(&t, &unet, e) < 0 || deliver(&t, &unet, e) < 0)
        goto out;
    printf("model: %s\n", o->out);
    rc = 0;
out:
    optim_done(&vae.optim[0]);
    optim_done(&decoder.optim[0]);
    optim_done(&unet.optim[0]);
    optim_done(&unet.optim[1]);
    close_all(&t);
    return rc;
}
