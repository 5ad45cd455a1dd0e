#include "dagline/pretrain_private.h"

#include "base/json.h"
#include "base/rng.h"
#include "io/image.h"
#include "nn/loss.h"

#include <math.h>

/* Outlines in the autoencoder's loss: a pixel whose neighbours differ by `range` (of 2) counts 1 + OUTLINE_WEIGHT
 * range / (range + FAINT) (1 + FAINT_BONUS / (range + FAINT)) times: 5 to 6 from faint to bright, 1 on flat ground. */
#define OUTLINE_WEIGHT 4.0
#define OUTLINE_FAINT 0.1
#define OUTLINE_FAINT_BONUS 0.3
#define DECODER_NOISE 0.15 /* standard deviation at most, in latents of unit variance */

/* ---- pictures ---- */

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

/* The replacement of a held-out one comes from a far part of the same sequence. */
void pretrain_draw_pair(struct scene *scene, struct caption_spec *spec, uint64_t seed, uint64_t index)
{
    for (;; index += (uint64_t)1 << 40) {
        scene_pair(scene, spec, seed, index);
        if (!caption_held_out(spec))
            return;
    }
}

struct draw_job {
    struct pretraining *t;
    uint64_t seed, first;
    size_t n;
};

static void draw_pictures(void *arg, size_t worker)
{
    const struct draw_job *job = arg;
    uint8_t rgb[WORLD_RGB_BYTES];
    for (size_t i = worker; i < job->n; i += pool_threads(job->t->pool)) {
        struct scene scene;
        struct caption_spec spec;
        pretrain_draw_pair(&scene, &spec, job->seed, job->first + i);
        world_render(rgb, &scene);
        const struct image view = {WORLD_SIDE, WORLD_SIDE, rgb};
        image_to_float(job->t->image + i * PRETRAIN_PIXELS, &view);
        edge_weights(job->t->weight + i * (PRETRAIN_PIXELS / 3), job->t->image + i * PRETRAIN_PIXELS);
    }
}

void pretrain_draw(struct pretraining *t, uint64_t seed, uint64_t first, size_t n)
{
    struct draw_job job = {t, seed, first, n};
    pool_run(t->pool, draw_pictures, &job);
}

void pretrain_noise(real *out, uint64_t seed, uint64_t stream, uint64_t step, size_t n)
{
    const struct rng g = rng_stream(seed ^ (step >> 32), stream, (uint32_t)step);
    rng_normal_fill(&g, 0, out, n);
}

/* ---- the autoencoder ---- */

/* Mean absolute difference, weighted: its value is added to *loss, its gradient written. */
static void reconstruction_loss(struct pretraining *t, size_t n, double share, double *loss)
{
    const double each = share / (double)(n * PRETRAIN_PIXELS);
    for (size_t i = 0; i < n * PRETRAIN_PIXELS; i++) {
        const double w = each * (double)t->weight[i / 3], d = (double)t->recon[i] - (double)t->image[i];
        *loss += w * fabs(d);
        t->d_recon[i] = (real)(d > 0.0 ? w : d < 0.0 ? -w : 0.0);
    }
}

int pretrain_vae_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                      struct err *e)
{
    const size_t rows = n * PRETRAIN_Z_SIDE * PRETRAIN_Z_SIDE;
    pretrain_draw(t, t->o->seed + STREAM_VAE, first, n);
    const void *const pictures[] = {t->image}, *const latents[] = {t->z};
    real *const moments[] = {t->moments}, *const recon[] = {t->recon};
    if (runner_forward(t->encoder, pictures, moments, n, e) < 0)
        return -1;
    pretrain_noise(t->noise, t->o->seed, STREAM_VAE, first, n * PRETRAIN_Z);
    loss_gaussian_sample(t->z, t->moments, t->noise, rows, PRETRAIN_Z_CHANNELS);
    if (runner_forward(t->decoder, latents, recon, n, e) < 0)
        return -1;
    reconstruction_loss(t, n, share, loss);
    const real *const d_recon[] = {t->d_recon}, *const d_moments[] = {t->d_moments};
    real *const d_z[] = {t->d_z};
    if (runner_backward(t->decoder, d_recon, d_z, s->optim[0].grads, e) < 0)
        return -1;
    loss_gaussian_sample_backward(t->d_moments, t->d_z, t->moments, t->noise, rows, PRETRAIN_Z_CHANNELS, false);
    loss_gaussian_kl(t->d_moments, t->moments, rows, PRETRAIN_Z_CHANNELS, share * t->o->kl_weight / (double)n, true);
    return runner_backward(t->encoder, d_moments, NULL, s->optim[0].grads, e);
}

/* The decoder alone, behind the finished encoder, from latents as a sampler hands them over: a little off. */
int pretrain_decoder_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                          struct err *e)
{
    const size_t rows = n * PRETRAIN_Z_SIDE * PRETRAIN_Z_SIDE;
    pretrain_draw(t, t->o->seed + STREAM_DECODER, first, n);
    const void *const pictures[] = {t->image}, *const latents[] = {t->z};
    real *const moments[] = {t->moments}, *const recon[] = {t->recon};
    if (runner_infer(t->encoder, pictures, moments, n, e) < 0)
        return -1;
    pretrain_noise(t->noise, t->o->seed, STREAM_DECODER, first, n * PRETRAIN_Z);
    loss_gaussian_sample(t->z, t->moments, t->noise, rows, PRETRAIN_Z_CHANNELS);
    pretrain_noise(t->noise, t->o->seed + 1, STREAM_DECODER, first, n * PRETRAIN_Z);
    for (size_t i = 0; i < n; i++) {
        struct rng g = rng_stream(t->o->seed ^ (first + i), STREAM_DECODER, 0);
        const double off = rng_uniform(&g) * DECODER_NOISE / t->model->vae.scaling_factor;
        for (size_t j = i * PRETRAIN_Z; j < (i + 1) * PRETRAIN_Z; j++)
            t->z[j] += (real)off * t->noise[j];
    }
    if (runner_forward(t->decoder, latents, recon, n, e) < 0)
        return -1;
    reconstruction_loss(t, n, share, loss);
    const real *const d_recon[] = {t->d_recon};
    return runner_backward(t->decoder, d_recon, NULL, s->optim[0].grads, e);
}

/* scaling_factor = 1 / standard deviation of the sampled latents. */
int pretrain_measure_scale(struct pretraining *t, struct err *e)
{
    double square = 0.0;
    size_t count = 0;
    for (uint64_t first = 0; first < 1024; first += PRETRAIN_PART_MAX) {
        pretrain_draw(t, t->o->seed + STREAM_SCALE, first, PRETRAIN_PART_MAX);
        const void *const pictures[] = {t->image};
        real *const moments[] = {t->moments};
        if (runner_infer(t->encoder, pictures, moments, PRETRAIN_PART_MAX, e) < 0)
            return -1;
        pretrain_noise(t->noise, t->o->seed, STREAM_SCALE, first, (size_t)PRETRAIN_PART_MAX * PRETRAIN_Z);
        loss_gaussian_sample(t->z, t->moments, t->noise, (size_t)PRETRAIN_PART_MAX * PRETRAIN_Z_SIDE * PRETRAIN_Z_SIDE,
                             PRETRAIN_Z_CHANNELS);
        for (size_t i = 0; i < (size_t)PRETRAIN_PART_MAX * PRETRAIN_Z; i++, count++)
            square += (double)t->z[i] * (double)t->z[i];
    }
    t->model->vae.scaling_factor = sqrt((double)count / square);
    json_set_number(t->model->config[MODEL_VAE], "scaling_factor", t->model->vae.scaling_factor);
    return 0;
}
