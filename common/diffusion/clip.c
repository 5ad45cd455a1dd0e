#include "diffusion/clip.h"

#include "base/file.h"
#include "base/mem.h"
#include "diffusion/config_check.h"
#include "diffusion/tokenizer.h"
#include "diffusion/weights.h"
#include "io/safetensors.h"
#include "nn/runner.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define STRIP_MAX 3 /* to one, at most */
#define PASS_MAX 8  /* pictures or texts of one pass: their activations are large */

/* Of the patches as rows of one matrix: row 0 is the class's and all zeros. */
struct vision_shape {
    const struct clip_vision_config *config;
    size_t projection;
};

struct projected_text_shape {
    struct text_shape text;
    size_t projection;
};

struct clip {
    struct clip_config config;
    double logit_scale;
    struct pool *pool;
    struct tokenizer *tokenizer; /* NULL without texts */
    struct params *vision_params, *text_params;
    struct vision_shape vision_shape;
    struct projected_text_shape text_shape;
    struct runner *vision, *text;
    real *patches /* [PASS_MAX, rows, 3 p p] */, *embedded /* [PASS_MAX, rows or L, projection] */;
    int32_t *classes /* [PASS_MAX, rows]: 0 for the class, 1 for a patch */, *ids;
};

static size_t rows_of(const struct clip_vision_config *v)
{
    const size_t side = v->image_side / v->patch;
    return 1 + side * side;
}

/* ---- configuration ---- */

static int parse_vision(struct clip_vision_config *c, const struct json *config, struct err *e)
{
    static const struct config_fixed fixed[] = {
        {"model_type", "\"clip_vision_model\"|\"clip\""}, {"num_channels", "3"}, {"attention_dropout", "0"}};
    c->layer = (struct clip_layer){.width = 768, .intermediate = 3072, .heads = 12};
    if (config_check_fixed(config, fixed, sizeof fixed / sizeof *fixed, e) < 0 ||
        config_size(config, "num_hidden_layers", 1, 128, 12, &c->layers, e) < 0 ||
        config_size(config, "image_size", 1, 1024, 224, &c->image_side, e) < 0 ||
        config_size(config, "patch_size", 1, 1024, 32, &c->patch, e) < 0 || clip_layer_parse(&c->layer, config, e) < 0)
        return -1;
    if (c->image_side % c->patch != 0)
        return err_set(e, ERR_INVALID, "image_size %zu is not a multiple of patch_size %zu", c->image_side, c->patch);
    return 0;
}

static int parse_config(struct clip_config *c, const struct json *config, struct err *e)
{
    static const struct config_fixed fixed[] = {{"model_type", "\"clip\""}};
    const struct json *text, *vision;
    if (config_check_fixed(config, fixed, 1, e) < 0 ||
        config_size(config, "projection_dim", 1, 16384, 512, &c->projection, e) < 0 ||
        json_get_object(config, "text_config", &text, e) < 0 ||
        json_get_object(config, "vision_config", &vision, e) < 0)
        return -1;
    if (text_config_parse(&c->text, text, e) < 0)
        return err_wrap(e, "text_config");
    if (parse_vision(&c->vision, vision, e) < 0)
        return err_wrap(e, "vision_config");
    return 0;
}

static int read_three(const struct json *config, const char *field, float out[3], struct err *e)
{
    const struct json *list;
    if (json_get_list_or(config, field, 3, &list, e) < 0)
        return -1;
    if (list != NULL && json_count(list) != 3)
        return err_set(e, ERR_INVALID, "%s: %zu numbers, wanted 3", field, json_count(list));
    for (size_t i = 0; list != NULL && i < 3; i++) {
        double v;
        if (json_as_number(json_at(list, i), field, -100.0, 100.0, &v, e) < 0)
            return -1;
        out[i] = (float)v;
    }
    return 0;
}

/* CLIP's own, where the folder does not say. */
static int parse_preprocessor(struct clip_config *c, const char *folder, struct err *e)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    char path[FILE_PATH_BYTES_MAX];
    struct json *config;
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->std, std, sizeof std);
    if (file_join(path, folder, "preprocessor_config.json", e) < 0)
        return -1;
    if (access(path, F_OK) != 0)
        return 0;
    if (json_read_object(&config, path, CONFIG_BYTES_MAX, e) < 0)
        return -1;
    int rc = read_three(config, "image_mean", c->mean, e) < 0 ? -1 : read_three(config, "image_std", c->std, e);
    for (int i = 0; rc == 0 && i < 3; i++)
        if (!(c->std[i] > 0.0f))
            rc = err_set(e, ERR_INVALID, "image_std: %g is not above 0", (double)c->std[i]);
    json_free(config);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

/* ---- graphs ---- */

static void vision_build(struct graph *g, const void *arg)
{
    const struct vision_shape *const s = arg;
    const struct clip_vision_config *const c = s->config;
    const size_t rows = rows_of(c);
    const int patches = graph_input(g, rows, 1, 3 * c->patch * c->patch, 0);
    const int classes = graph_input_ids(g, rows, 2);
    graph_enter(g, "vision_model");
    /* the class's row of patches is zero, and so is the patches' row of the table */
    int h = graph_dense(g, patches, "embeddings.patch_embedding", (struct graph_dense){.out = c->layer.width});
    h = graph_add(
        g, h, graph_token_embed(g, classes, "embeddings.class_table", "embeddings.position_embedding", rows, c->layer.width));
    h = graph_layer_norm(g, h, "pre_layrnorm", c->layer.norm_eps); /* sic, in every file */
    for (size_t i = 0; i < c->layers; i++) {
        graph_enter(g, "encoder.layers.%zu", i);
        h = clip_layer_build(g, &c->layer, h);
        graph_leave(g);
    }
    h = graph_layer_norm(g, h, "post_layernorm", c->layer.norm_eps);
    graph_leave(g);
    graph_output(g, graph_dense(g, h, "visual_projection", (struct graph_dense){.out = s->projection}), 0);
}

static void text_build(struct graph *g, const void *arg)
{
    const struct projected_text_shape *const s = arg;
    const int h = text_encoder_hidden(g, &s->text);
    graph_output(g, graph_dense(g, h, "text_projection", (struct graph_dense){.out = s->projection}), 0);
}

/* ---- weights ---- */

static bool starts(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool not_vision(const char *name)
{
    return !(starts(name, "vision_model.") || starts(name, "visual_projection.")) ||
           starts(name, "vision_model.embeddings.class_") || starts(name, "vision_model.embeddings.patch_") ||
           strstr(name, "position_ids") != NULL;
}

static bool not_text(const char *name)
{
    return !(starts(name, "text_model.") || starts(name, "text_projection.")) || strstr(name, "position_ids") != NULL;
}

static int declare(struct params **out, void (*build)(struct graph *, const void *), const void *arg, struct err *e)
{
    *out = params_new();
    struct graph *const g = graph_new(*out, 1, (struct graph_options){.mode = GRAPH_DECLARE});
    build(g, arg);
    graph_free(g);
    params_set_trainable(*out, "", "", false);
    return params_seal(*out, e);
}

/* The two that are stored in another shape than they are used in. */
static int load_embeddings(struct clip *c, const struct safetensors *f, struct err *e)
{
    const struct clip_vision_config *const v = &c->config.vision;
    const int64_t patch_shape[4] = {(int64_t)v->layer.width, 3, (int64_t)v->patch, (int64_t)v->patch},
                  class_shape[1] = {(int64_t)v->layer.width};
    const struct param *const patch = params_at(c->vision_params, 0), *const table = params_at(c->vision_params, 1);
    assert(strcmp(patch->name, "vision_model.embeddings.patch_embedding.weight") == 0);
    assert(strcmp(table->name, "vision_model.embeddings.class_table.weight") == 0);
    float *patches = mem_new(patch->count, sizeof *patches), *class_row = mem_new(v->layer.width, sizeof *class_row);
    const int rc = safetensors_load(f, "vision_model.embeddings.patch_embedding.weight", patch_shape, 4, patches, e) < 0
                       ? -1
                       : safetensors_load(f, "vision_model.embeddings.class_embedding", class_shape, 1, class_row, e);
    for (size_t i = 0; i < patch->count; i++)
        patch->value[i] = (real)patches[i];
    for (size_t i = 0; i < v->layer.width; i++)
        table->value[i] = (real)class_row[i];
    mem_free(patches);
    mem_free(class_row);
    return rc;
}

static int load(struct clip *c, const char *folder, bool texts, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct safetensors *f;
    float scale = 0.0f;
    if (weights_find(folder, "model", path, e) < 0 || safetensors_open(&f, path, e) < 0)
        return -1;
    int rc = load_embeddings(c, f, e);
    if (rc == 0)
        rc = weights_load(c->vision_params, 2, (int)params_length(c->vision_params), f,
                          (struct weights_rules){.ignored = not_vision}, NULL, e);
    if (rc == 0 && texts)
        rc = weights_load(c->text_params, 0, (int)params_length(c->text_params), f,
                          (struct weights_rules){.ignored = not_text}, NULL, e);
    if (rc == 0)
        rc = safetensors_load(f, "logit_scale", NULL, 0, &scale, e);
    c->logit_scale = exp((double)scale);
    safetensors_close(f);
    params_touch_all(c->vision_params);
    if (texts)
        params_touch_all(c->text_params);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

/* ---- opening ---- */

static int open_all(struct clip *c, const char *folder, bool texts, int threads, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct json *config;
    if (file_join(path, folder, "config.json", e) < 0 || json_read_object(&config, path, CONFIG_BYTES_MAX, e) < 0)
        return -1;
    const int rc = parse_config(&c->config, config, e);
    json_free(config);
    if (rc < 0)
        return err_wrap(e, "%s", path);
    const struct clip_config *const k = &c->config;
    const size_t rows = rows_of(&k->vision), longest = rows > k->text.positions ? rows : k->text.positions;
    c->vision_shape = (struct vision_shape){&k->vision, k->projection};
    c->text_shape = (struct projected_text_shape){{&k->text, k->text.positions}, k->projection};
    if (parse_preprocessor(&c->config, folder, e) < 0 || (texts && tokenizer_open(&c->tokenizer, folder, e) < 0) ||
        pool_new(&c->pool, (size_t)threads, e) < 0 ||
        declare(&c->vision_params, vision_build, &c->vision_shape, e) < 0 ||
        (texts && declare(&c->text_params, text_build, &c->text_shape, e) < 0) || load(c, folder, texts, e) < 0)
        return -1;
    if (texts && (size_t)tokenizer_vocab_size(c->tokenizer) > k->text.vocabulary)
        return err_set(e, ERR_INVALID, "%s: the tokenizer has %d tokens, the text model %zu", folder,
                       tokenizer_vocab_size(c->tokenizer), k->text.vocabulary);
    c->vision = runner_new((struct runner_options){
        .pool = c->pool, .params = c->vision_params, .build = vision_build, .arg = &c->vision_shape});
    if (texts)
        c->text = runner_new((struct runner_options){
            .pool = c->pool, .params = c->text_params, .build = text_build, .arg = &c->text_shape});
    c->patches = mem_new(PASS_MAX * rows * 3 * k->vision.patch * k->vision.patch, sizeof *c->patches);
    c->embedded = mem_new(PASS_MAX * longest * k->projection, sizeof *c->embedded);
    c->classes = mem_new(PASS_MAX * rows, sizeof *c->classes);
    c->ids = mem_new(PASS_MAX * k->text.positions, sizeof *c->ids);
    for (size_t i = 0; i < PASS_MAX * rows; i++)
        c->classes[i] = i % rows != 0;
    return 0;
}

int clip_open(struct clip **out, const char *folder, bool texts, int threads, struct err *e)
{
    struct clip *c = mem_new(1, sizeof *c);
    *out = NULL;
    if (open_all(c, folder, texts, threads, e) < 0) {
        clip_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

void clip_close(struct clip *c)
{
    if (c == NULL)
        return;
    runner_free(c->vision);
    runner_free(c->text);
    params_free(c->vision_params);
    params_free(c->text_params);
    tokenizer_close(c->tokenizer);
    pool_free(c->pool);
    mem_free(c->patches);
    mem_free(c->embedded);
    mem_free(c->classes);
    mem_free(c->ids);
    mem_free(c);
}

const struct clip_config *clip_config(const struct clip *c)
{
    return &c->config;
}

double clip_logit_scale(const struct clip *c)
{
    return c->logit_scale;
}

size_t clip_bytes(const struct clip *c)
{
    size_t bytes = sizeof *c + params_count(c->vision_params, false) * sizeof(real) + runner_bytes(c->vision);
    if (c->text != NULL)
        bytes += params_count(c->text_params, false) * sizeof(real) + runner_bytes(c->text);
    return bytes;
}

/* ---- embedding ---- */

static void to_patches(const struct clip *c, const struct image *picture, real *out)
{
    const struct clip_vision_config *const v = &c->config.vision;
    const size_t side = v->image_side, p = v->patch, across = side / p, numbers = 3 * p * p;
    struct image middle = {0}, resized = {0}, cropped = {0};
    /* of a strip only the middle is looked at in the end */
    const int w0 = picture->width, h0 = picture->height;
    const int w = w0 < STRIP_MAX * h0 ? w0 : STRIP_MAX * h0, h = h0 < STRIP_MAX * w0 ? h0 : STRIP_MAX * w0;
    const int s = (int)side; /* the shortest side becomes s */
    image_crop(&middle, picture, w, h);
    image_resize(&resized, &middle, w <= h ? s : (int)((int64_t)s * w / h), h <= w ? s : (int)((int64_t)s * h / w));
    image_crop(&cropped, &resized, s, s);
    memset(out, 0, numbers * sizeof *out);
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++)
            for (size_t k = 0; k < 3; k++) {
                const float value = (float)cropped.rgb[(y * side + x) * 3 + k] / 255.0f;
                const size_t row = 1 + y / p * across + x / p, at = (k * p + y % p) * p + x % p;
                out[row * numbers + at] = (real)((value - c->config.mean[k]) / c->config.std[k]);
            }
    image_done(&cropped);
    image_done(&resized);
    image_done(&middle);
}

static void unit(float *out, const real *v, size_t n)
{
    double square = 0.0;
    for (size_t i = 0; i < n; i++)
        square += (double)v[i] * (double)v[i];
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((double)v[i] / fmax(sqrt(square), 1e-30));
}

int clip_embed_pictures(struct clip *c, const struct image *pictures, size_t n, float *out, struct err *e)
{
    const struct clip_config *const k = &c->config;
    const size_t rows = rows_of(&k->vision), numbers = rows * 3 * k->vision.patch * k->vision.patch, E = k->projection;
    for (size_t at = 0; at < n; at += PASS_MAX) {
        const size_t m = n - at < PASS_MAX ? n - at : PASS_MAX;
        for (size_t i = 0; i < m; i++)
            to_patches(c, &pictures[at + i], c->patches + i * numbers);
        const void *const in[] = {c->patches, c->classes};
        real *const embedded[] = {c->embedded};
        if (runner_infer(c->vision, in, embedded, m, e) < 0)
            return -1;
        for (size_t i = 0; i < m; i++)
            unit(out + (at + i) * E, c->embedded + i * rows * E, E);
    }
    return 0;
}

int clip_embed_texts(struct clip *c, const char *const *texts, size_t n, float *out, struct err *e)
{
    const struct clip_config *const k = &c->config;
    const size_t L = k->text.positions, E = k->projection;
    assert(c->text != NULL);
    for (size_t at = 0; at < n; at += PASS_MAX) {
        const size_t m = n - at < PASS_MAX ? n - at : PASS_MAX;
        size_t end[PASS_MAX] = {0};
        for (size_t i = 0; i < m; i++) {
            const int32_t *ids = c->ids + i * L;
            if (tokenizer_encode(c->tokenizer, texts[at + i], c->ids + i * L, (int)L, NULL, e) < 0)
                return -1;
            for (size_t l = 1; l < L; l++) /* end-of-text is the last token of CLIP's vocabulary */
                end[i] = ids[l] > ids[end[i]] ? l : end[i];
        }
        const void *const in[] = {c->ids};
        real *const embedded[] = {c->embedded};
        if (runner_infer(c->text, in, embedded, m, e) < 0)
            return -1;
        for (size_t i = 0; i < m; i++)
            unit(out + (at + i) * E, c->embedded + (i * L + end[i]) * E, E);
    }
    return 0;
}
