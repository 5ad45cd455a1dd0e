#include "dagline/round_trip.h"

#include "base/mem.h"
#include "diffusion/model.h"
#include "io/image.h"
#include "nn/runner.h"
#include "shapes/scene.h"

#include <math.h>
#include <string.h>

#define BATCH 32
#define PIXELS ((size_t)WORLD_RGB_BYTES)

struct trip {
    struct round_trip *out;
    struct model *model;
    struct pool *pool;
    struct runner *encoder, *decoder;
    struct judge *judge;
    real *image, *moments, *z, *recon;
    double square;
};

static void judge_one(struct trip *t, bool after, const uint8_t *rgb, const struct caption_spec *spec)
{
    struct judge_view view;
    struct judge_verdict v;
    judge_look(t->judge, &view, rgb);
    judge_score(&v, &view, spec);
    evaluate_add(after ? &t->out->after : &t->out->truth, v.strict);
    if (after)
        evaluate_add_clauses(t->out->clause, &v);
}

static int batch(struct trip *t, uint64_t seed, uint64_t first, size_t n, struct err *e)
{
    struct caption_spec spec[BATCH];
    uint8_t rgb[WORLD_RGB_BYTES];
    const struct image view = {WORLD_SIDE, WORLD_SIDE, rgb};
    struct image back = view;
    for (size_t i = 0; i < n; i++) {
        struct scene scene;
        scene_pair(&scene, &spec[i], seed, first + i);
        world_render(rgb, &scene);
        judge_one(t, false, rgb, &spec[i]);
        image_to_float(t->image + i * PIXELS, &view);
    }
    const size_t Z = t->model->vae.latent_channels, side = WORLD_SIDE / vae_factor(&t->model->vae);
    const void *const in[] = {t->image}, *const latents[] = {t->z};
    real *const moments[] = {t->moments}, *const recon[] = {t->recon};
    if (runner_infer(t->encoder, in, moments, n, e) < 0)
        return -1;
    for (size_t row = 0; row < n * side * side; row++)
        memcpy(t->z + row * Z, t->moments + row * 2 * Z, Z * sizeof *t->z);
    if (runner_infer(t->decoder, latents, recon, n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        image_from_float(&back, t->recon + i * PIXELS);
        judge_one(t, true, rgb, &spec[i]);
        for (size_t j = 0; j < PIXELS; j++) {
            const double truth = round((double)t->image[i * PIXELS + j] * 127.5 + 127.5);
            t->square += (truth - (double)rgb[j]) * (truth - (double)rgb[j]);
        }
    }
    return 0;
}

int round_trip(struct round_trip *out, const char *model_folder, size_t pictures, uint64_t seed, int threads,
               struct err *e)
{
    struct trip t = {.out = out};
    int rc = -1;
    memset(out, 0, sizeof *out);
    if (model_open(&t.model, model_folder, (struct model_options){.parts = MODEL_HAS_VAE}, e) < 0)
        return -1;
    const struct vae_config *c = &t.model->vae;
    const size_t side = WORLD_SIDE / vae_factor(c), z = side * side * c->latent_channels;
    const struct vae_shape encoder = {.config = c, .H = WORLD_SIDE, .W = WORLD_SIDE};
    const struct vae_shape decoder = {.config = c, .H = side, .W = side};
    params_set_trainable(t.model->params[MODEL_VAE], "", "", false);
    if (pool_new(&t.pool, threads > 0 ? (size_t)threads : 2, e) < 0)
        goto out;
    t.encoder = runner_new((struct runner_options){
        .pool = t.pool, .params = t.model->params[MODEL_VAE], .build = vae_encoder_build, .arg = &encoder});
    t.decoder = runner_new((struct runner_options){
        .pool = t.pool, .params = t.model->params[MODEL_VAE], .build = vae_decoder_build, .arg = &decoder});
    t.judge = judge_new();
    t.image = mem_new(BATCH * PIXELS, sizeof *t.image);
    t.recon = mem_new(BATCH * PIXELS, sizeof *t.recon);
    t.moments = mem_new(BATCH * z * 2, sizeof *t.moments);
    t.z = mem_new(BATCH * z, sizeof *t.z);
    rc = 0;
    for (size_t first = 0; rc == 0 && first < pictures; first += BATCH)
        rc = batch(&t, seed, first, pictures - first < BATCH ? pictures - first : BATCH, e);
    out->psnr = 10.0 * log10(255.0 * 255.0 / (t.square / ((double)pictures * (double)PIXELS)));
out:
    mem_free(t.z);
    mem_free(t.moments);
    mem_free(t.recon);
    mem_free(t.image);
    judge_free(t.judge);
    runner_free(t.encoder);
    runner_free(t.decoder);
    pool_free(t.pool);
    model_close(t.model);
    return rc;
}
