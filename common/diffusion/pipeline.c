#include "diffusion/pipeline.h"

#include "base/file.h"
#include "base/mem.h"
#include "diffusion/model.h"
#include "diffusion/step.h"
#include "diffusion/weights.h"
#include "io/image.h"
#include "nn/runner.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define POLICY_BYTES_MAX ((size_t)32 << 30)
#define PROMPT_BUCKETS 8192u
#define PROMPT_NONE UINT32_MAX
#define TRAIN_CHUNKS_EACH 2 /* chunks a worker keeps between forward and backward pass */

/* Conditions by prompt, behind a table of chains; they stand in a ring by their last use, in which the one after the newest
 * is the oldest, which is replaced. */
struct prompt_cache {
    struct prompt_entry {
        char *prompt;
        real *condition;
        bool made, truncated;
        uint32_t next;         /* of its chain */
        uint32_t newer, older; /* of the ring */
    } *entry;                  /* [PIPELINE_PROMPTS_MAX] */
    uint32_t *bucket;          /* [PROMPT_BUCKETS]: first of a chain */
    uint32_t count, newest;
};

struct pipeline {
    char *folder;
    struct pipeline_options o;
    struct pipeline_shape shape;
    struct schedule schedule;
    struct pool *pool;
    struct model *model;
    real *base; /* owned: the UNet's values as in the folder; NULL where adapters are the policy */
    struct unet_shape unet_shape;
    struct vae_shape vae_shape;
    struct text_shape text_shape;
    struct runner *unet, *vae, *text;
    struct prompt_cache cache;

    /* gathered inputs of a pass, grown as needed */
    size_t room;
    real *x, *contexts, *out;
    double *times;
    /* the train_forward under way */
    size_t train_B;
    double train_guidance;
};

/* ---- the prompt cache ---- */

static uint32_t bucket_of(const char *prompt)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const unsigned char *c = (const unsigned char *)prompt; *c != 0; c++)
        h = (h ^ *c) * 16777619u;
    return h % PROMPT_BUCKETS;
}

static struct prompt_entry *cache_find(const struct prompt_cache *c, const char *prompt)
{
    for (uint32_t i = c->bucket[bucket_of(prompt)]; i != PROMPT_NONE; i = c->entry[i].next)
        if (strcmp(c->entry[i].prompt, prompt) == 0)
            return &c->entry[i];
    return NULL;
}

static void cache_open(struct prompt_cache *c)
{
    c->entry = mem_new(PIPELINE_PROMPTS_MAX, sizeof *c->entry);
    c->bucket = mem_new(PROMPT_BUCKETS, sizeof *c->bucket);
    for (uint32_t i = 0; i < PROMPT_BUCKETS; i++)
        c->bucket[i] = PROMPT_NONE;
}

static void cache_done(struct prompt_cache *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        mem_free(c->entry[i].prompt);
        mem_free(c->entry[i].condition);
    }
    mem_free(c->entry);
    mem_free(c->bucket);
}

static void ring_add(struct prompt_cache *c, uint32_t i)
{
    struct prompt_entry *const entry = &c->entry[i];
    entry->older = c->newest;
    entry->newer = c->entry[c->newest].newer;
    c->entry[entry->newer].older = i;
    c->entry[c->newest].newer = i;
    c->newest = i;
}

static void cache_used(struct prompt_cache *c, struct prompt_entry *entry)
{
    const uint32_t i = (uint32_t)(entry - c->entry);
    if (i == c->newest)
        return;
    c->entry[entry->older].newer = entry->newer;
    c->entry[entry->newer].older = entry->older;
    ring_add(c, i);
}

/* A place for a new prompt, the newest; its condition memory is the caller's to fill. */
static struct prompt_entry *cache_add(struct prompt_cache *c, const char *prompt, size_t numbers)
{
    const bool full = c->count == PIPELINE_PROMPTS_MAX;
    const uint32_t i = full ? c->entry[c->newest].newer : c->count++;
    struct prompt_entry *const entry = &c->entry[i];
    if (full) {
        uint32_t *link = &c->bucket[bucket_of(entry->prompt)];
        while (*link != i)
            link = &c->entry[*link].next;
        *link = entry->next;
        mem_free(entry->prompt);
        c->newest = i;
    } else {
        entry->condition = mem_new(numbers, sizeof(real));
        if (i > 0)
            ring_add(c, i); /* the first is a ring of itself */
    }
    entry->made = false;
    entry->prompt = mem_strdup(prompt);
    uint32_t *head = &c->bucket[bucket_of(prompt)];
    entry->next = *head;
    *head = i;
    return entry;
}

/* ---- life ---- */

static void drop_model(struct pipeline *p)
{
    runner_free(p->text);
    runner_free(p->vae);
    runner_free(p->unet);
    p->text = p->vae = p->unet = NULL;
    model_close(p->model);
    p->model = NULL;
}

static int load_model(struct pipeline *p, struct err *e)
{
    const struct model_options mo = {.parts = MODEL_HAS_ALL, .lora_rank = p->o.lora_rank};
    if (model_open(&p->model, p->folder, mo, e) < 0)
        return -1;
    struct model *m = p->model;
    if (m->unet.in_channels != m->vae.latent_channels || m->unet.out_channels != m->unet.in_channels)
        return err_set(e, ERR_INVALID, "%s: the UNet has %zu in and %zu out channels, the VAE's latents have %zu",
                       p->folder, m->unet.in_channels, m->unet.out_channels, m->vae.latent_channels);
    if (m->unet.cross_attention_dim != m->text.width)
        return err_set(e, ERR_INVALID, "%s: the UNet's cross_attention_dim is %zu, the text encoder is %zu wide",
                       p->folder, m->unet.cross_attention_dim, m->text.width);
    const size_t H = p->o.latent_height > 0 ? p->o.latent_height : m->unet.sample_size;
    const size_t W = p->o.latent_width > 0 ? p->o.latent_width : m->unet.sample_size;
    const size_t grain = (size_t)1 << (m->unet.levels - 1), tokens = (size_t)tokenizer_length(m->tokenizer);
    if (H % grain != 0 || W % grain != 0)
        return err_set(e, ERR_INVALID, "latents of %zux%zu: this UNet halves them %zu times; use multiples of %zu", H, W,
                       m->unet.levels - 1, grain);
    if (tokens > m->text.positions)
        return err_set(e, ERR_INVALID, "%s: the tokenizer pads to %zu, the text encoder has %zu positions",
                       p->folder, tokens, m->text.positions);
    p->shape = (struct pipeline_shape){
        .latent_channels = m->unet.in_channels,
        .latent_height = H,
        .latent_width = W,
        .latent_elements = H * W * m->unet.in_channels,
        .image_height = H * vae_factor(&m->vae),
        .image_width = W * vae_factor(&m->vae),
        .tokens = tokens,
        .condition_width = m->text.width,
    };
    p->unet_shape = (struct unet_shape){.config = &m->unet, .H = H, .W = W, .L = tokens};
    p->vae_shape = (struct vae_shape){.config = &m->vae, .H = H, .W = W};
    p->text_shape = (struct text_shape){.config = &m->text, .L = tokens};
    /* the text encoder and the VAE are frozen here; of the UNet, what model_open left trainable */
    if (p->o.lora_rank == 0)
        params_set_trainable(m->params[MODEL_UNET], "", "", p->o.train);
    params_set_trainable(m->params[MODEL_VAE], "", "", false);
    params_set_trainable(m->params[MODEL_TEXT], "", "", false);
    const struct runner_options shared = {.pool = p->pool, .chunk = p->o.chunk};
    struct runner_options ro = shared;
    ro.params = m->params[MODEL_UNET];
    ro.build = unet_build;
    ro.arg = &p->unet_shape;
    ro.adapter = m->adapter;
    p->unet = runner_new(ro);
    ro = shared;
    ro.params = m->params[MODEL_VAE];
    ro.build = vae_decoder_build;
    ro.arg = &p->vae_shape;
    p->vae = runner_new(ro);
    ro = shared;
    ro.params = m->params[MODEL_TEXT];
    ro.build = text_encoder_build;
    ro.arg = &p->text_shape;
    p->text = runner_new(ro);
    return schedule_init(&p->schedule, &m->schedule, e);
}

static size_t value_count(const struct params *params)
{
    return params_count(params, false);
}

/* All values of a registry, one parameter after the other, out of it or into it. */
static void copy_values(struct params *params, real *slab, bool out)
{
    for (size_t i = 0; i < params_length(params); i++) {
        const struct param *a = params_at(params, (int)i);
        memcpy(out ? slab : a->value, out ? a->value : slab, a->count * sizeof(real));
        slab += a->count;
    }
    if (!out)
        params_touch_all(params);
}

int pipeline_open(struct pipeline **out, const char *folder, const struct pipeline_options *o,
                  struct err *e)
{
    struct pipeline *p = mem_new(1, sizeof *p);
    p->o = *o;
    p->folder = mem_strdup(folder);
    cache_open(&p->cache);
    if (pool_new(&p->pool, (size_t)o->threads, e) < 0 || load_model(p, e) < 0)
        goto fail;
    if (o->lora_rank == 0) {
        struct params *params = p->model->params[MODEL_UNET];
        p->base = mem_slab(value_count(params) * sizeof(real), "the base model's weights", e);
        if (p->base == NULL)
            goto fail;
        copy_values(params, p->base, true);
    }
    *out = p;
    return 0;
fail:
    pipeline_close(p);
    return -1;
}

void pipeline_close(struct pipeline *p)
{
    if (p == NULL)
        return;
    drop_model(p);
    pool_free(p->pool);
    cache_done(&p->cache);
    mem_free(p->base);
    mem_free(p->x);
    mem_free(p->contexts);
    mem_free(p->out);
    mem_free(p->times);
    mem_free(p->folder);
    mem_free(p);
}

const struct pipeline_shape *pipeline_shape(const struct pipeline *p)
{
    return &p->shape;
}

const struct schedule *pipeline_schedule(const struct pipeline *p)
{
    return &p->schedule;
}

struct pool *pipeline_pool(struct pipeline *p)
{
    return p->pool;
}

size_t pipeline_bytes(const struct pipeline *p)
{
    size_t numbers = 0;
    for (int i = 0; i < MODEL_PARTS; i++)
        numbers += value_count(p->model->params[i]);
    if (p->base != NULL)
        numbers += value_count(p->model->params[MODEL_UNET]);
    const size_t context = p->shape.tokens * p->shape.condition_width;
    numbers += p->room * (2 * p->shape.latent_elements + context) + p->cache.count * context;
    return numbers * sizeof(real) + runner_bytes(p->unet) + runner_bytes(p->vae) + runner_bytes(p->text);
}

/* ---- passes ---- */

int pipeline_condition(struct pipeline *p, const char *prompt, const real **condition, bool *truncated,
                       struct err *e)
{
    struct prompt_entry *entry = cache_find(&p->cache, prompt);
    if (entry != NULL)
        cache_used(&p->cache, entry);
    if (entry == NULL || !entry->made) {
        int32_t ids[TOKENIZER_LENGTH_MAX];
        bool cut;
        if (tokenizer_encode(p->model->tokenizer, prompt, ids, (int)p->shape.tokens, &cut, e) < 0)
            return err_wrap(e, "prompt");
        if (entry == NULL)
            entry = cache_add(&p->cache, prompt, p->shape.tokens * p->shape.condition_width);
        entry->truncated = cut;
        const void *const inputs[] = {ids};
        real *const outputs[] = {entry->condition};
        if (runner_infer(p->text, inputs, outputs, 1, e) < 0)
            return err_wrap(e, "text encoder");
        entry->made = true;
    }
    *condition = entry->condition;
    if (truncated != NULL)
        *truncated = entry->truncated;
    return 0;
}

static int grow(struct pipeline *p, size_t B, struct err *e)
{
    if (B <= p->room)
        return 0;
    const size_t D = p->shape.latent_elements, context = p->shape.tokens * p->shape.condition_width;
    mem_free(p->x);
    mem_free(p->contexts);
    mem_free(p->out);
    mem_free(p->times);
    p->room = 0;
    p->x = mem_slab(B * D * sizeof(real), "latents", e);
    p->out = mem_slab(B * D * sizeof(real), "latents", e);
    p->contexts = mem_slab(B * context * sizeof(real), "conditions", e);
    p->times = mem_new(B, sizeof *p->times);
    if (p->x == NULL || p->out == NULL || p->contexts == NULL)
        return -1;
    p->room = B;
    return 0;
}

static int check_finite(const real *v, size_t n, const char *what, struct err *e)
{
    /* a sum is finite unless a term is not; halves of float's range cannot overflow a double */
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i];
    return isfinite(sum) ? 0 : err_set(e, ERR_NONFINITE, "%s is not finite", what);
}

/* Lays the inputs out as [B] or, with guidance, as [uncond B | cond B]; returns the number of rows. */
static int gather(struct pipeline *p, size_t *rows, const real *x, const double *t, const real *const *c, size_t B,
                  double guidance, struct err *e)
{
    const size_t D = p->shape.latent_elements, context = p->shape.tokens * p->shape.condition_width;
    const bool guided = guidance != 1.0;
    const real *uncond = NULL;
    *rows = guided ? 2 * B : B;
    if (grow(p, *rows, e) < 0 || (guided && pipeline_condition(p, "", &uncond, NULL, e) < 0))
        return -1;
    for (size_t half = 0; half < *rows; half += B) {
        memcpy(p->x + half * D, x, B * D * sizeof *x);
        memcpy(p->times + half, t, B * sizeof *t);
    }
    for (size_t i = 0; i < *rows; i++)
        memcpy(p->contexts + i * context, guided && i < B ? uncond : c[guided ? i - B : i],
               context * sizeof(real));
    return 0;
}

typedef int run_fn(struct runner *r, const void *const *inputs, real *const *outputs, size_t B, struct err *e);

static int unet_pass(struct pipeline *p, run_fn *run, real *out, real *out_cond, const real *x, const double *t,
                     const real *const *c, size_t B, double guidance, struct err *e)
{
    const size_t D = p->shape.latent_elements;
    size_t rows;
    if (gather(p, &rows, x, t, c, B, guidance, e) < 0)
        return -1;
    const void *const inputs[] = {p->x, p->times, p->contexts};
    real *const outputs[] = {p->out};
    if (run(p->unet, inputs, outputs, rows, e) < 0 || check_finite(p->out, rows * D, "the UNet's output", e) < 0)
        return -1;
    const real *cond = p->out + (rows - B) * D;
    if (out_cond != NULL)
        memcpy(out_cond, cond, B * D * sizeof *cond);
    if (rows == B)
        memcpy(out, cond, B * D * sizeof *cond);
    else
        step_guide(out, p->out, cond, guidance, B * D);
    return 0;
}

int pipeline_predict(struct pipeline *p, real *out, real *out_cond, const real *x, const double *t,
                     const real *const *c, size_t B, double guidance, struct err *e)
{
    return unet_pass(p, runner_infer, out, out_cond, x, t, c, B, guidance, e);
}

int pipeline_decode(struct pipeline *p, uint8_t *rgb, const real *latents, size_t B, struct err *e)
{
    const size_t D = p->shape.latent_elements;
    const size_t pixels = p->shape.image_height * p->shape.image_width * 3;
    const double scale = 1.0 / p->model->vae.scaling_factor;
    real *z = mem_slab(B * D * sizeof *z, "latents", e);
    real *image = mem_slab(B * pixels * sizeof *image, "pictures", e);
    int rc = -1;
    if (z == NULL || image == NULL)
        goto out;
    for (size_t i = 0; i < B * D; i++)
        z[i] = (real)((double)latents[i] * scale);
    const void *const inputs[] = {z};
    real *const outputs[] = {image};
    if (runner_infer(p->vae, inputs, outputs, B, e) < 0 || check_finite(image, B * pixels, "a decoded picture", e) < 0)
        goto out;
    for (size_t i = 0; i < B; i++) {
        struct image view = {(int)p->shape.image_width, (int)p->shape.image_height, rgb + i * pixels};
        image_from_float(&view, image + i * pixels);
    }
    rc = 0;
out:
    mem_free(image);
    mem_free(z);
    return rc;
}

/* ---- the policy ---- */

static int set_adapters(struct pipeline *p, const struct safetensors *f, struct err *e)
{
    size_t rank;
    if (lora_file_rank(f, &rank, e) < 0)
        return -1;
    if (p->o.lora_rank != rank) {
        if (p->o.train)
            return err_set(e, ERR_SHAPE, "adapters of rank %zu, this run trains rank %zu", rank, p->o.lora_rank);
        /* a policy of adapters for a pipeline without: load again with the branch in place */
        const size_t before = p->o.lora_rank;
        drop_model(p);
        p->o.lora_rank = rank;
        if (load_model(p, e) < 0) {
            struct err second;
            drop_model(p);
            p->o.lora_rank = before;
            return load_model(p, &second) < 0 ? err_wrap(e, "%s", second.text) : -1;
        }
    }
    return lora_load(p->model->params[MODEL_UNET], f, e);
}

int pipeline_policy_set(struct pipeline *p, const void *bytes, size_t n, struct err *e)
{
    struct params *params = p->model->params[MODEL_UNET];
    if (n == 0) {
        if (p->o.lora_rank > 0)
            for (size_t i = 0; i < params_length(params); i++) {
                const struct param *a = params_at(params, (int)i);
                if (lora_is_adapter(a) && strstr(a->name, ".lora_B.") != NULL)
                    memset(a->value, 0, a->count * sizeof(real));
            }
        else
            copy_values(params, p->base, false);
        return pipeline_touch(p, e);
    }
    struct safetensors *f;
    if (safetensors_open_memory(&f, bytes, n, "policy", e) < 0)
        return -1;
    size_t rank;
    struct err why;
    int rc = lora_file_rank(f, &rank, &why);
    if (rc == 0)
        rc = set_adapters(p, f, e);
    else if (why.code != ERR_NOT_FOUND)
        err_set(e, why.code, "%s", why.text);
    else if (p->o.lora_rank > 0)
        rc = err_set(e, ERR_SHAPE, "a policy of all weights for a pipeline with adapters of rank %zu", p->o.lora_rank);
    else
        rc = weights_load(params, 0, (int)params_length(params), f, (struct weights_rules){0}, NULL, e);
    safetensors_close(f);
    return rc < 0 ? err_wrap(e, "policy") : pipeline_touch(p, e);
}

int pipeline_policy_load(struct pipeline *p, const char *path, struct err *e)
{
    struct file_map map;
    if (file_map_open(&map, path, POLICY_BYTES_MAX, e) < 0)
        return -1;
    const int rc = pipeline_policy_set(p, map.data, map.bytes, e);
    file_map_close(&map);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

int pipeline_policy_get(const struct pipeline *p, uint8_t **bytes, size_t *n, struct err *e)
{
    const struct params *params = p->model->params[MODEL_UNET];
    return p->o.lora_rank > 0 ? lora_encode(params, LORA_PEFT, DTYPE_F32, bytes, n, e)
                              : weights_encode(params, NULL, DTYPE_F32, bytes, n, e);
}

int pipeline_predict_base(struct pipeline *p, real *out, const real *x, const double *t, const real *const *c,
                          size_t B, double guidance, struct err *e)
{
    struct params *params = p->model->params[MODEL_UNET];
    uint8_t *policy = NULL;
    size_t n = 0;
    real *values = NULL;
    int rc = -1;
    if (p->o.lora_rank > 0) {
        if (pipeline_policy_get(p, &policy, &n, e) < 0)
            return -1;
    } else {
        values = mem_slab(value_count(params) * sizeof *values, "the policy's weights", e);
        if (values == NULL)
            return -1;
        copy_values(params, values, true);
    }
    if (pipeline_policy_set(p, NULL, 0, e) == 0)
        rc = pipeline_predict(p, out, NULL, x, t, c, B, guidance, e);
    struct err back;
    if (values != NULL)
        copy_values(params, values, false);
    else if (pipeline_policy_set(p, policy, n, &back) < 0)
        rc = err_set(e, back.code, "%s", back.text);
    mem_free(values);
    mem_free(policy);
    return rc < 0 ? -1 : pipeline_touch(p, e);
}

/* ---- training ---- */

struct params *pipeline_params(struct pipeline *p)
{
    return p->model->params[MODEL_UNET];
}

int pipeline_touch(struct pipeline *p, struct err *e)
{
    params_touch_trainable(p->model->params[MODEL_UNET]);
    return params_refresh(p->model->params[MODEL_UNET], p->pool, e);
}

size_t pipeline_train_batch_max(const struct pipeline *p)
{
    const size_t threads = pool_threads(p->pool);
    struct err e;
    size_t chunk = 1; /* what cannot even be planned fails with its reason in train_forward */
    if (runner_chunk(p->unet, threads * RUNNER_CHUNK, GRAPH_TRAIN, &chunk, &e) < 0)
        chunk = 1;
    return threads * TRAIN_CHUNKS_EACH * chunk;
}

int pipeline_train_forward(struct pipeline *p, real *out, const real *x, const double *t, const real *const *c,
                           size_t B, double guidance, struct err *e)
{
    assert(p->o.train);
    p->train_B = B;
    p->train_guidance = guidance;
    return unet_pass(p, runner_forward, out, NULL, x, t, c, B, guidance, e);
}

int pipeline_train_backward(struct pipeline *p, real *grads, const real *d_out, struct err *e)
{
    assert(p->train_B > 0);
    const size_t n = p->train_B * p->shape.latent_elements;
    const real *d = d_out;
    if (p->train_guidance != 1.0) {
        step_guide_backward(p->out, p->out + n, d_out, p->train_guidance, n);
        d = p->out;
    }
    p->train_B = 0;
    const real *const d_outputs[] = {d};
    return runner_backward(p->unet, d_outputs, NULL, grads, e);
}
