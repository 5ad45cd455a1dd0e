#include "dagline/pretrain_private.h"

#include "base/mem.h"
#include "dagline/shapes_model.h"

#include <stdio.h>

static int open_all(struct pretraining *t, struct err *e)
{
    const struct pretrain_options *o = t->o;
    if (file_make_folders(o->work, e) < 0 || file_join(t->model_folder, o->work, "model", e) < 0 ||
        pool_new(&t->pool, (size_t)o->threads, e) < 0 || shapes_model_write(t->model_folder, 1.0, e) < 0)
        return -1;
    const bool fresh = o->start[0] == 0;
    const struct model_options mo = {.parts = MODEL_HAS_ALL, .fresh = fresh, .seed = o->seed};
    if (model_open(&t->model, fresh ? t->model_folder : o->start, mo, e) < 0 ||
        schedule_init(&t->schedule, &t->model->schedule, e) < 0)
        return -1;
    if (t->model->schedule.prediction_type != PREDICTION_V)
        return err_set(e, ERR_INVALID, "%s does not predict v, which is what is trained here: begin without --start",
                       o->start);
    struct model *m = t->model;
    if (m->vae.latent_channels != PRETRAIN_Z_CHANNELS || WORLD_SIDE != PRETRAIN_Z_SIDE * vae_factor(&m->vae) ||
        m->text.positions < PRETRAIN_TOKENS)
        return err_set(e, ERR_SHAPE, "%s has not latents of %dx%dx%d for pictures of %d and %d tokens: begin without --start",
                       o->start, PRETRAIN_Z_SIDE, PRETRAIN_Z_SIDE, PRETRAIN_Z_CHANNELS, WORLD_SIDE, PRETRAIN_TOKENS);
    t->encoder_shape = (struct vae_shape){.config = &m->vae, .H = WORLD_SIDE, .W = WORLD_SIDE};
    t->decoder_shape =
        (struct vae_shape){.config = &m->vae, .H = PRETRAIN_Z_SIDE, .W = PRETRAIN_Z_SIDE, .flags = GRAPH_GRAD};
    t->unet_shape = (struct unet_shape){
        .config = &m->unet, .H = PRETRAIN_Z_SIDE, .W = PRETRAIN_Z_SIDE, .L = PRETRAIN_TOKENS, .flags = GRAPH_GRAD};
    t->text_shape = (struct text_shape){.config = &m->text, .L = PRETRAIN_TOKENS};
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
        *pictures[i] = mem_new((size_t)PRETRAIN_PART_MAX * PRETRAIN_PIXELS, sizeof(real));
    for (size_t i = 0; i < sizeof latents / sizeof *latents; i++)
        *latents[i] = mem_new((size_t)PRETRAIN_PART_MAX * PRETRAIN_Z, sizeof(real));
    for (size_t i = 0; i < 2; i++) {
        *moments[i] = mem_new((size_t)PRETRAIN_PART_MAX * PRETRAIN_Z * 2, sizeof(real));
        *contexts[i] = mem_new((size_t)PRETRAIN_PART_MAX * PRETRAIN_TOKENS * m->text.width, sizeof(real));
    }
    t->weight = mem_new((size_t)PRETRAIN_PART_MAX * PRETRAIN_PIXELS / 3, sizeof(real));
    t->ids = mem_new((size_t)PRETRAIN_PART_MAX * PRETRAIN_TOKENS, sizeof *t->ids);
    t->times = mem_new(PRETRAIN_PART_MAX, sizeof *t->times);
    return 0;
}

static void close_all(struct pretraining *t)
{
    runner_free(t->teacher_unet);
    runner_free(t->teacher_text);
    model_close(t->teacher);
    runner_free(t->encoder);
    runner_free(t->decoder);
    runner_free(t->unet);
    runner_free(t->text);
    model_close(t->model);
    pool_free(t->pool);
    void *const owned[] = {t->image,     t->weight,  t->recon,     t->d_recon, t->z,           t->d_z,
                           t->noise,     t->noised,  t->predicted, t->target,  t->d_predicted, t->moments,
                           t->d_moments, t->context, t->d_context, t->ids,     t->times};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        mem_free(owned[i]);
}

/* The finished folder: float16, configs with the measured scaling factor. */
static int deliver(const struct pretraining *t, struct err *e)
{
    return shapes_model_write(t->o->out, t->model->vae.scaling_factor, e) < 0
               ? -1
               : model_save(t->model, t->o->out, DTYPE_F16, e);
}

static int all_stages(struct pretraining *t, struct err *e)
{
    const struct pretrain_options *const o = t->o;
    struct params *const vae_params[] = {t->model->params[MODEL_VAE]};
    struct params *const unet_params[] = {t->model->params[MODEL_UNET], t->model->params[MODEL_TEXT]};
    struct stage vae = {
        .name = "vae", .steps = o->vae_steps, .batch = o->vae_batch, .lr_max = o->vae_lr, .part = pretrain_vae_part};
    struct stage decoder = {.name = "decoder",
                            .steps = o->decoder_steps,
                            .batch = o->vae_batch,
                            .lr_max = o->decoder_lr,
                            .part = pretrain_decoder_part};
    struct stage unet = {.name = "unet",
                         .steps = o->unet_steps,
                         .batch = o->unet_batch,
                         .lr_max = o->unet_lr,
                         .part = pretrain_unet_part,
                         .look = pretrain_look};
    struct stage distil = {.name = "distil",
                           .steps = o->distil_steps,
                           .batch = o->unet_batch,
                           .lr_max = o->distil_lr,
                           .part = pretrain_distil_part,
                           .look = pretrain_look};
    params_set_trainable(vae_params[0], "", "", true);
    if (stage_train(&vae, t, vae_params, 1, e) < 0)
        return -1;
    /* latents that a UNet was trained on keep their scale */
    if ((o->start[0] == 0 || o->vae_steps > 0) && pretrain_measure_scale(t, e) < 0)
        return -1;
    params_set_trainable(vae_params[0], "decoder.", "", true);
    if (stage_train(&decoder, t, vae_params, 1, e) < 0 ||
        shapes_model_write(t->model_folder, t->model->vae.scaling_factor, e) < 0)
        return -1;
    struct stage *const last[] = {&unet, &distil};
    for (size_t i = 0; i < 2; i++) {
        if (last[i] == &distil && o->distil_steps > 0 && pretrain_open_teacher(t, e) < 0)
            return -1;
        for (size_t k = 0; k < 2; k++)
            params_set_trainable(unet_params[k], "", "", true);
        if (stage_train(last[i], t, unet_params, 2, e) < 0)
            return -1;
    }
    return deliver(t, e);
}

int pretrain(const struct pretrain_options *o, struct err *e)
{
    struct pretraining t = {.o = o};
    if (o->unet_batch % PRETRAIN_USES != 0)
        return err_set(e, ERR_INVALID, "unet_batch %u: a picture is used %d times in a batch, so take a multiple of %d",
                       o->unet_batch, PRETRAIN_USES, PRETRAIN_USES);
    /* what cannot be made is known before an hour of training */
    const int rc = file_make_folders(o->out, e) < 0 || open_all(&t, e) < 0 ? -1 : all_stages(&t, e);
    if (rc == 0)
        printf("model: %s\n", o->out);
    close_all(&t);
    return rc;
}
