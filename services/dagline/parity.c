#include "dagline/parity.h"

#include "base/file.h"
#include "base/mem.h"
#include "diffusion/model.h"
#include "nn/runner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define RANK_MAX SAFETENSORS_RANK_MAX

struct parity {
    const char *folder;
    bool fast;
    parity_each *each;
    void *arg;
    struct safetensors *values;
    struct model *model;
    struct pool *pool;
    size_t groups;
};

/* A tensor of the reference as reals. */
struct array {
    real *at;
    int64_t shape[RANK_MAX];
    size_t count;
};

static int load(const struct safetensors *f, const char *name, int rank, struct array *a,
                struct err *e)
{
    const struct safetensors_tensor *const t = safetensors_find(f, name);
    if (t == NULL || (rank > 0 && t->rank != rank) || t->count == 0)
        return err_set(e, ERR_SHAPE, "%s: missing, or not of rank %d", name, rank);
    float *const narrow = mem_new(t->count, sizeof *narrow);
    const int rc = safetensors_to_float(t, narrow, e);
    a->at = mem_new(t->count, sizeof *a->at);
    a->count = t->count;
    memcpy(a->shape, t->shape, sizeof a->shape);
    for (size_t i = 0; rc == 0 && i < t->count; i++)
        a->at[i] = (real)narrow[i];
    mem_free(narrow);
    return rc;
}

/* A tensor of integers; freed with mem_free. */
static int64_t *load_ints(const struct safetensors *f, const char *name, int64_t shape[RANK_MAX],
                          struct err *e)
{
    const struct safetensors_tensor *const t = safetensors_find(f, name);
    if (t == NULL || t->rank < 1 || t->count == 0) {
        err_set(e, ERR_SHAPE, "%s: missing or empty", name);
        return NULL;
    }
    int64_t *const v = mem_new(t->count, sizeof *v);
    memcpy(shape, t->shape, sizeof t->shape);
    if (safetensors_to_int64(t, v, e) == 0)
        return v;
    mem_free(v);
    return NULL;
}

static double worst(const real *got, const real *want, size_t n)
{
    double error = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite((double)got[i]))
            return (double)INFINITY;
        error = fmax(error, fabs((double)got[i] - (double)want[i]));
        size = fmax(size, fabs((double)want[i]));
    }
    return size > 0.0 ? error / size : error;
}

static void line(struct parity *p, const char *name, const real *got, const real *want, size_t n,
                 double limit)
{
    p->each(p->arg, &(struct parity_line){name, worst(got, want, n), limit});
}

/* Compares with the reference tensor of that name. */
static int against(struct parity *p, const struct safetensors *f, const char *name,
                   const char *shown, const real *got, size_t n, double limit, struct err *e)
{
    struct array want = {0};
    int rc = load(f, name, 0, &want, e);
    if (rc == 0 && want.count != n)
        rc = err_set(e, ERR_SHAPE, "%s has %zu elements, expected %zu", name, want.count, n);
    if (rc == 0)
        line(p, shown, got, want.at, n, limit);
    mem_free(want.at);
    return rc;
}

static bool has(const struct parity *p, const char *name)
{
    return safetensors_find(p->values, name) != NULL;
}

static struct runner *runner(struct parity *p, enum model_part part,
                             void (*build)(struct graph *, const void *), const void *arg,
                             struct graph_adapter adapter)
{
    p->groups++;
    return runner_new((struct runner_options){.pool = p->pool,
                                              .params = p->model->params[part],
                                              .build = build,
                                              .arg = arg,
                                              .reference = !p->fast,
                                              .adapter = adapter});
}

/* ---- text encoder ---- */

static int check_text(struct parity *p, struct err *e)
{
    int64_t shape[RANK_MAX] = {0};
    int64_t *const wide = load_ints(p->values, "text.ids", shape, e);
    if (wide == NULL)
        return -1;
    const size_t B = (size_t)shape[0], L = (size_t)shape[1], n = B * L * p->model->text.width;
    int32_t *const ids = mem_new(B * L, sizeof *ids);
    real *const got = mem_new(n, sizeof *got);
    struct runner *r = NULL;
    int rc = -1;
    const struct text_shape s = {&p->model->text, L};
    for (size_t i = 0; i < B * L; i++) {
        if (wide[i] < 0 || (size_t)wide[i] >= p->model->text.vocabulary ||
            L > p->model->text.positions) {
            err_set(e, ERR_INVALID, "text.ids do not fit the text encoder");
            goto out;
        }
        ids[i] = (int32_t)wide[i];
    }
    r = runner(p, MODEL_TEXT, text_encoder_build, &s, (struct graph_adapter){0});
    if (runner_infer(r, (const void *const[]){ids}, (real *const[]){got}, B, e) < 0)
        goto out;
    rc = against(p, p->values, "text.hidden", "text.hidden", got, n, PARITY_LIMIT_OUTPUT, e);
out:
    runner_free(r);
    mem_free(got);
    mem_free(ids);
    mem_free(wide);
    return rc;
}

/* ---- UNet ---- */

struct unet_case {
    struct array x, c;
    double *t;
    size_t B, out_count;
    struct unet_shape shape;
};

static void unet_case_done(struct unet_case *u)
{
    mem_free(u->x.at);
    mem_free(u->c.at);
    mem_free(u->t);
}

static int unet_case_load(struct parity *p, struct unet_case *u, struct err *e)
{
    int64_t shape[RANK_MAX] = {0};
    const struct unet_config *const c = &p->model->unet;
    if (load(p->values, "unet.sample", 4, &u->x, e) < 0 ||
        load(p->values, "unet.encoder_hidden_states", 3, &u->c, e) < 0)
        return -1;
    int64_t *const t = load_ints(p->values, "unet.timestep", shape, e);
    if (t == NULL)
        return -1;
    u->B = (size_t)u->x.shape[0];
    const bool fits = shape[0] == u->x.shape[0] && u->c.shape[0] == u->x.shape[0] &&
                      (size_t)u->x.shape[1] == c->in_channels &&
                      (size_t)u->c.shape[2] == c->cross_attention_dim;
    u->t = mem_new(u->B, sizeof *u->t);
    for (size_t i = 0; fits && i < u->B; i++)
        u->t[i] = (double)t[i];
    mem_free(t);
    if (!fits)
        return err_set(e, ERR_SHAPE,
                       "unet.sample, unet.timestep and unet.encoder_hidden_states do not "
                       "fit each other or the config");
    u->shape = (struct unet_shape){c, (size_t)u->x.shape[2], (size_t)u->x.shape[3],
                                   (size_t)u->c.shape[1], GRAPH_PLANAR | GRAPH_GRAD};
    u->out_count = u->B * c->out_channels * u->shape.H * u->shape.W;
    return 0;
}

static int compare_param_grads(struct parity *p, const real *grads, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct safetensors *f = NULL;
    const struct params *const params = p->model->params[MODEL_UNET];
    if (file_join(path, p->folder, "unet_param_grads.safetensors", e) < 0)
        return -1;
    if (!file_exists(path))
        return 0;
    int rc = safetensors_open(&f, path, e);
    for (int id = 0; rc == 0 && (size_t)id < params_length(params); id++) {
        const struct param *const a = params_at(params, id);
        rc = against(p, f, a->name, a->name, grads + a->grad, a->count, PARITY_LIMIT_GRADIENT, e);
    }
    safetensors_close(f);
    return rc;
}

static int backward_unet(struct parity *p, const struct unet_case *u, struct runner *r,
                         struct err *e)
{
    struct array cotangent = {0};
    real *const d_x = mem_new(u->x.count, sizeof *d_x), *const d_c =
                                                            mem_new(u->c.count, sizeof *d_c);
    real *const grads = mem_new(params_grad_count(p->model->params[MODEL_UNET]), sizeof *grads);
    real *const d_inputs[] = {d_x, NULL, d_c};
    int rc = load(p->values, "unet.cotangent", 4, &cotangent, e);
    if (rc == 0 && cotangent.count != u->out_count)
        rc = err_set(e, ERR_SHAPE, "unet.cotangent does not have unet.out's shape");
    if (rc == 0)
        rc = runner_backward(r, (const real *const[]){cotangent.at}, d_inputs, grads, e);
    if (rc == 0)
        rc = against(p, p->values, "unet.grad.sample", "unet.grad.sample", d_x, u->x.count,
                     PARITY_LIMIT_GRADIENT, e);
    if (rc == 0)
        rc = against(p, p->values, "unet.grad.encoder_hidden_states",
                     "unet.grad.encoder_hidden_states", d_c, u->c.count, PARITY_LIMIT_GRADIENT, e);
    if (rc == 0)
        rc = compare_param_grads(p, grads, e);
    mem_free(cotangent.at);
    mem_free(grads);
    mem_free(d_c);
    mem_free(d_x);
    return rc;
}

static int check_unet(struct parity *p, const char *name, struct graph_adapter adapter,
                      bool backward, struct err *e)
{
    struct unet_case u = {.B = 0};
    struct runner *r = NULL;
    real *got = NULL;
    int rc = unet_case_load(p, &u, e);
    if (rc < 0)
        goto out;
    r = runner(p, MODEL_UNET, unet_build, &u.shape, adapter);
    got = mem_new(u.out_count, sizeof *got);
    const void *const inputs[] = {u.x.at, u.t, u.c.at};
    rc = backward ? runner_forward(r, inputs, (real *const[]){got}, u.B, e)
                  : runner_infer(r, inputs, (real *const[]){got}, u.B, e);
    if (rc == 0)
        rc = against(p, p->values, name, name, got, u.out_count, PARITY_LIMIT_OUTPUT, e);
    if (rc == 0 && backward)
        rc = backward_unet(p, &u, r, e);
out:
    mem_free(got);
    runner_free(r);
    unet_case_done(&u);
    return rc;
}

/* The adapter on top of the same weights: a model of its own. */
static int check_lora(struct parity *p, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], folder[FILE_PATH_BYTES_MAX];
    struct safetensors *f = NULL;
    struct model *base = p->model, *adapted = NULL;
    struct model_options o = {.parts = MODEL_HAS_UNET};
    int rc = -1;
    if (file_join(folder, p->folder, "model", e) < 0 ||
        file_join(path, p->folder, "lora/pytorch_lora_weights.safetensors", e) < 0 ||
        safetensors_open(&f, path, e) < 0 || lora_file_rank(f, &o.lora_rank, e) < 0 ||
        model_open(&adapted, folder, o, e) < 0 || lora_load(adapted->params[MODEL_UNET], f, e) < 0)
        goto out;
    p->model = adapted;
    rc = check_unet(p, "lora.out", adapted->adapter, false, e);
    p->model = base;
out:
    model_close(adapted);
    safetensors_close(f);
    return rc;
}

/* ---- VAE ---- */

static int infer_vae(struct parity *p, void (*build)(struct graph *, const void *),
                     const char *input, size_t channels, size_t out_numbers, struct array *x,
                     real **out, size_t *B, struct err *e)
{
    if (load(p->values, input, 4, x, e) < 0)
        return -1;
    if ((size_t)x->shape[1] != channels)
        return err_set(e, ERR_SHAPE, "%s has %lld channels, the config %zu", input,
                       (long long)x->shape[1], channels);
    const struct vae_shape s = {&p->model->vae, (size_t)x->shape[2], (size_t)x->shape[3],
                                GRAPH_PLANAR};
    struct runner *const r = runner(p, MODEL_VAE, build, &s, (struct graph_adapter){0});
    *B = (size_t)x->shape[0];
    *out = mem_new(*B * out_numbers, sizeof **out);
    const int rc = runner_infer(r, (const void *const[]){x->at}, (real *const[]){*out}, *B, e);
    runner_free(r);
    return rc;
}

static int check_encoder(struct parity *p, struct err *e)
{
    const struct vae_config *const c = &p->model->vae;
    const struct safetensors_tensor *const t = safetensors_find(p->values, "vae.mean");
    struct array x = {0};
    real *moments = NULL, *mean = NULL, *logvar = NULL;
    size_t B = 0;
    if (t == NULL || t->rank != 4 || t->shape[0] < 1)
        return err_set(e, ERR_SHAPE, "vae.mean: missing, or not of rank 4");
    const size_t half = t->count / (size_t)t->shape[0];
    int rc =
        infer_vae(p, vae_encoder_build, "vae.image", c->in_channels, 2 * half, &x, &moments, &B, e);
    if (rc == 0) {
        mean = mem_new(B * half, sizeof *mean);
        logvar = mem_new(B * half, sizeof *logvar);
        for (size_t i = 0; i < B * half; i++) {
            const size_t at = i / half * 2 * half + i % half;
            mean[i] = moments[at];
            logvar[i] = (real)fmin(fmax((double)moments[at + half], -30.0), 20.0);
        }
        rc = against(p, p->values, "vae.mean", "vae.mean", mean, B * half, PARITY_LIMIT_OUTPUT, e);
    }
    if (rc == 0)
        rc = against(p, p->values, "vae.logvar", "vae.logvar", logvar, B * half,
                     PARITY_LIMIT_OUTPUT, e);
    mem_free(logvar);
    mem_free(mean);
    mem_free(moments);
    mem_free(x.at);
    return rc;
}

static int check_decoder(struct parity *p, struct err *e)
{
    const struct vae_config *const c = &p->model->vae;
    const struct safetensors_tensor *const t = safetensors_find(p->values, "vae.decoded");
    struct array x = {0};
    real *image = NULL;
    size_t B = 0;
    const size_t numbers = t->rank == 4 && t->shape[0] > 0 ? t->count / (size_t)t->shape[0] : 0;
    int rc = infer_vae(p, vae_decoder_build, "vae.latent", c->latent_channels, numbers, &x, &image,
                       &B, e);
    if (rc == 0)
        rc = against(p, p->values, "vae.decoded", "vae.decoded", image, B * numbers,
                     PARITY_LIMIT_OUTPUT, e);
    mem_free(image);
    mem_free(x.at);
    return rc;
}

/* ---- all ---- */

static unsigned wanted(const struct parity *p)
{
    return (has(p, "text.hidden") ? MODEL_HAS_TEXT : 0) |
           (has(p, "unet.out") ? MODEL_HAS_UNET : 0) |
           (has(p, "vae.mean") || has(p, "vae.decoded") ? MODEL_HAS_VAE : 0);
}

static int check_all(struct parity *p, struct err *e)
{
    if (has(p, "text.hidden") && check_text(p, e) < 0)
        return -1;
    if (has(p, "unet.out") &&
        check_unet(p, "unet.out", (struct graph_adapter){0}, has(p, "unet.cotangent"), e) < 0)
        return -1;
    if (has(p, "lora.out") && check_lora(p, e) < 0)
        return -1;
    if (has(p, "vae.mean") && check_encoder(p, e) < 0)
        return -1;
    if (has(p, "vae.decoded") && check_decoder(p, e) < 0)
        return -1;
    return p->groups > 0 ? 0 : err_set(e, ERR_INVALID, "no value that could be compared");
}

int parity_run(const char *folder, bool reference, parity_each *each, void *arg, struct err *e)
{
    struct parity p = {.folder = folder, .fast = !reference, .each = each, .arg = arg};
    char path[FILE_PATH_BYTES_MAX], model[FILE_PATH_BYTES_MAX];
    int rc = -1;
    if (file_join(path, folder, "reference.safetensors", e) < 0 ||
        file_join(model, folder, "model", e) < 0 || safetensors_open(&p.values, path, e) < 0 ||
        model_open(&p.model, model, (struct model_options){.parts = wanted(&p)}, e) < 0 ||
        pool_new(&p.pool, 1, e) < 0)
        goto out;
    rc = check_all(&p, e);
    if (rc < 0)
        err_wrap(e, "%s", path);
out:
    pool_free(p.pool);
    model_close(p.model);
    safetensors_close(p.values);
    return rc;
}
