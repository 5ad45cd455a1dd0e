#include "diffusion/model.h"

#include "base/file.h"
#include "base/mem.h"
#include "diffusion/weights.h"

#include <stdio.h>
#include <string.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define FILE_COPY_BYTES_MAX (64u << 20)

/* ---- names ---- */

/* The middle attention of AutoencoderKL before diffusers 0.15. */
static bool vae_alias(const char *name, char alias[SAFETENSORS_NAME_BYTES_MAX])
{
    static const char *const pairs[][2] = {{".to_q.", ".query."},
                                           {".to_k.", ".key."},
                                           {".to_v.", ".value."},
                                           {".to_out.0.", ".proj_attn."}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *const at = strstr(name, pairs[i][0]);
        if (at == NULL)
            continue;
        snprintf(alias, SAFETENSORS_NAME_BYTES_MAX, "%.*s%s%s", (int)(at - name), name, pairs[i][1],
                 at + strlen(pairs[i][0]));
        return true;
    }
    return false;
}

static bool text_alias(const char *name, char alias[SAFETENSORS_NAME_BYTES_MAX])
{
    static const char prefix[] = "text_model.";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    snprintf(alias, SAFETENSORS_NAME_BYTES_MAX, "%s", name + sizeof prefix - 1);
    return true;
}

/* A buffer that older exports of CLIP keep among the weights: 0, 1, 2, ... */
static bool text_ignored(const char *name)
{
    const char *const at = strstr(name, "embeddings.position_ids");
    return at != NULL && strcmp(at, "embeddings.position_ids") == 0;
}

struct part {
    const char *folder;
    const char *weights; /* without .safetensors */
    struct weights_rules rules;
};

static const struct part parts[MODEL_PARTS] = {
    [MODEL_UNET] = {"unet", "diffusion_pytorch_model", {NULL, NULL}},
    [MODEL_VAE] = {"vae", "diffusion_pytorch_model", {vae_alias, NULL}},
    [MODEL_TEXT] = {"text_encoder", "model", {text_alias, text_ignored}},
};

/* ---- model_index.json ---- */

static int check_component(const struct json *index, const char *name, const char *const *classes,
                           struct err *e)
{
    const struct json *const v = json_get(index, name);
    const char *class;
    if (v == NULL)
        return err_set(e, ERR_INVALID, "component %s is missing", name);
    if (!json_is_list(v) || json_count(v) != 2 ||
        json_as_string(json_at(v, 1), name, 256, &class, e) < 0)
        return err_set(e, ERR_INVALID, "component %s is not a pair of library and class", name);
    for (size_t i = 0; classes[i] != NULL; i++)
        if (strcmp(class, classes[i]) == 0)
            return 0;
    return err_set(e, ERR_INVALID,
                   "component %s is a %s, which this engine does not implement (it has %s)", name,
                   class, classes[0]);
}

static int open_index(struct model *m, unsigned wanted, struct err *e)
{
    static const char *const unet[] = {"UNet2DConditionModel", NULL};
    static const char *const vae[] = {"AutoencoderKL", NULL};
    static const char *const text[] = {"CLIPTextModel", NULL};
    char path[FILE_PATH_BYTES_MAX];
    if (file_join(path, m->folder, "model_index.json", e) < 0)
        return -1;
    if (!file_exists(path))
        return err_set(
            e, ERR_NOT_FOUND,
            "%s: no such file; a diffusers model folder has one (single-file checkpoints "
            "have to be converted first)",
            path);
    if (json_read_object(&m->index, path, CONFIG_BYTES_MAX, e) < 0)
        return -1;
    if ((wanted & MODEL_HAS_UNET && check_component(m->index, "unet", unet, e) < 0) ||
        (wanted & MODEL_HAS_VAE && check_component(m->index, "vae", vae, e) < 0) ||
        (wanted & MODEL_HAS_TEXT && check_component(m->index, "text_encoder", text, e) < 0))
        return err_wrap(e, "%s", path);
    return 0;
}

/* ---- components ---- */

static int parse_config(struct model *m, enum model_part part, struct err *e)
{
    switch (part) {
    case MODEL_UNET:
        return unet_config_parse(&m->unet, m->config[part], e);
    case MODEL_VAE:
        return vae_config_parse(&m->vae, m->config[part], e);
    case MODEL_TEXT:
        return text_config_parse(&m->text, m->config[part], e);
    case MODEL_PARTS:
        break;
    }
    return 0;
}

static void declare(struct model *m, enum model_part part, struct graph_adapter adapter)
{
    switch (part) {
    case MODEL_UNET:
        unet_declare(m->params[part], &m->unet, adapter);
        break;
    case MODEL_VAE:
        vae_declare(m->params[part], &m->vae);
        break;
    case MODEL_TEXT:
        text_encoder_declare(m->params[part], &m->text);
        break;
    case MODEL_PARTS:
        break;
    }
}

static int load_weights(struct model *m, enum model_part part, const char *folder,
                        struct buf *report, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct safetensors *f = NULL;
    struct params *const p = m->params[part];
    if (weights_find(folder, parts[part].weights, path, e) < 0 || safetensors_open(&f, path, e) < 0)
        return -1;
    int rc = weights_load(p, 0, (int)params_length(p), f, parts[part].rules, report, e);
    if (rc < 0)
        rc = err_wrap(e, "%s", path);
    safetensors_close(f);
    return rc;
}

static int open_part(struct model *m, enum model_part part, struct model_options o, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX];
    if (file_join(folder, m->folder, parts[part].folder, e) < 0 ||
        file_join(path, folder, "config.json", e) < 0 ||
        json_read_object(&m->config[part], path, CONFIG_BYTES_MAX, e) < 0)
        return -1;
    if (parse_config(m, part, e) < 0)
        return err_wrap(e, "%s", path);
    m->params[part] = params_new();
    declare(m, part, (struct graph_adapter){0});
    if (params_seal(m->params[part], e) < 0)
        return -1;
    if (!o.fresh)
        return load_weights(m, part, folder, o.report, e);
    params_init(m->params[part], 0, o.seed);
    return 0;
}

static int add_adapter(struct model *m, size_t rank, uint64_t seed, struct err *e)
{
    struct params *const p = m->params[MODEL_UNET];
    const int first = (int)params_length(p);
    m->adapter = lora_adapter(rank);
    params_set_trainable(p, "", "", false);
    declare(m, MODEL_UNET, m->adapter);
    if (params_seal(p, e) < 0)
        return -1;
    params_init(p, first, seed);
    return 0;
}

static int open_schedule(struct model *m, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX];
    char *text = NULL;
    size_t bytes;
    if (file_join(folder, m->folder, "scheduler", e) < 0 ||
        file_join(path, folder, "scheduler_config.json", e) < 0 ||
        file_read_all(path, CONFIG_BYTES_MAX, &text, &bytes, e) < 0)
        return -1;
    const int rc = schedule_config_parse(&m->schedule, text, bytes, path, e);
    mem_free(text);
    if (rc == 0)
        schedule_config_as_pipeline(&m->schedule);
    return rc;
}

static int open_tokenizer(struct model *m, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX];
    return file_join(folder, m->folder, "tokenizer", e) < 0
               ? -1
               : tokenizer_open(&m->tokenizer, folder, e);
}

/* What one component promises another. */
static int check_fit(const struct model *m, unsigned wanted, struct err *e)
{
    if (wanted & MODEL_HAS_UNET && wanted & MODEL_HAS_TEXT &&
        m->unet.cross_attention_dim != m->text.width)
        return err_set(e, ERR_SHAPE,
                       "unet cross_attention_dim %zu is not the text encoder's hidden_size %zu",
                       m->unet.cross_attention_dim, m->text.width);
    if (wanted & MODEL_HAS_UNET && wanted & MODEL_HAS_VAE &&
        (m->unet.in_channels != m->vae.latent_channels ||
         m->unet.out_channels != m->vae.latent_channels))
        return err_set(
            e, ERR_SHAPE,
            "unet in_channels %zu, out_channels %zu are not the vae's latent_channels %zu",
            m->unet.in_channels, m->unet.out_channels, m->vae.latent_channels);
    if (wanted & MODEL_HAS_VAE && (m->vae.in_channels != 3 || m->vae.out_channels != 3))
        return err_set(e, ERR_SHAPE, "vae in_channels %zu, out_channels %zu: pictures have 3", m->vae.in_channels,
                       m->vae.out_channels);
    if (wanted & MODEL_HAS_TOKENIZER && wanted & MODEL_HAS_TEXT &&
        ((size_t)tokenizer_vocab_size(m->tokenizer) > m->text.vocabulary ||
         (size_t)tokenizer_length(m->tokenizer) > m->text.positions))
        return err_set(e, ERR_SHAPE,
                       "tokenizer has %d ids and %d positions, the text encoder %zu and %zu",
                       tokenizer_vocab_size(m->tokenizer), tokenizer_length(m->tokenizer),
                       m->text.vocabulary, m->text.positions);
    return 0;
}

int model_open(struct model **out, const char *folder, struct model_options o, struct err *e)
{
    struct model *const m = mem_new(1, sizeof *m);
    int rc = -1;
    m->folder = mem_strdup(folder);
    if (open_index(m, o.parts, e) < 0)
        goto out;
    for (enum model_part part = 0; part < MODEL_PARTS; part++)
        if (o.parts & 1u << part && open_part(m, part, o, e) < 0)
            goto out;
    if ((o.parts & MODEL_HAS_SCHEDULE && open_schedule(m, e) < 0) ||
        (o.parts & MODEL_HAS_TOKENIZER && open_tokenizer(m, e) < 0) || check_fit(m, o.parts, e) < 0)
        goto out;
    if (o.lora_rank > 0 && o.parts & MODEL_HAS_UNET && add_adapter(m, o.lora_rank, o.seed, e) < 0)
        goto out;
    rc = 0;
out:
    if (rc < 0) {
        model_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

void model_close(struct model *m)
{
    if (m == NULL)
        return;
    for (enum model_part part = 0; part < MODEL_PARTS; part++) {
        params_free(m->params[part]);
        json_free(m->config[part]);
    }
    json_free(m->index);
    tokenizer_close(m->tokenizer);
    mem_free(m->folder);
    mem_free(m);
}

/* ---- saving ---- */

static int save_json(const struct json *v, const char *folder, const char *name, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    size_t bytes;
    if (file_join(path, folder, name, e) < 0)
        return -1;
    char *const text = json_print(v, JSON_INDENTED, &bytes);
    const int rc = file_replace(path, text, bytes, 0644, e);
    mem_free(text);
    return rc;
}

static int save_part(const struct model *m, enum model_part part, const char *root,
                     enum dtype dtype, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX], path[FILE_PATH_BYTES_MAX], file[256];
    snprintf(file, sizeof file, "%s.safetensors", parts[part].weights);
    if (file_join(folder, root, parts[part].folder, e) < 0 || file_make_folders(folder, e) < 0 ||
        save_json(m->config[part], folder, "config.json", e) < 0 ||
        weights_remove_others(folder, parts[part].weights, e) < 0 || file_join(path, folder, file, e) < 0)
        return -1;
    return weights_save(m->params[part], lora_is_base, dtype, path, e);
}

static int copy_file(const char *from_root, const char *to_root, const char *sub, const char *name,
                     struct err *e)
{
    char from[FILE_PATH_BYTES_MAX], to[FILE_PATH_BYTES_MAX], folder[FILE_PATH_BYTES_MAX];
    char *text = NULL;
    size_t bytes;
    if (file_join(folder, from_root, sub, e) < 0 || file_join(from, folder, name, e) < 0)
        return -1;
    if (!file_exists(from))
        return 0;
    if (file_join(folder, to_root, sub, e) < 0 || file_make_folders(folder, e) < 0 ||
        file_join(to, folder, name, e) < 0 ||
        file_read_all(from, FILE_COPY_BYTES_MAX, &text, &bytes, e) < 0)
        return -1;
    const int rc = file_replace(to, text, bytes, 0644, e);
    mem_free(text);
    return rc;
}

/* The index, in which a component without a folder (a safety checker) is none. */
static int save_index(const struct model *m, const char *folder, struct err *e)
{
    size_t bytes;
    char *const text = json_print(m->index, JSON_LINE, &bytes);
    struct json *index;
    int rc = json_parse(&index, text, bytes, bytes, e);
    const char *name;
    const struct json *v;
    bool safe = false;
    for (void *at = NULL; rc == 0 && json_next(m->index, &at, &name, &v);) {
        char path[FILE_PATH_BYTES_MAX];
        if (!json_is_list(v) || json_count(v) != 2)
            continue;
        rc = file_join(path, folder, name, e);
        if (rc == 0 && !file_exists(path)) {
            struct json *none = json_new_list();
            json_append_null(none);
            json_append_null(none);
            json_set(index, name, &none);
        } else {
            safe = safe || strcmp(name, "safety_checker") == 0;
        }
    }
    if (rc == 0 && json_get(index, "requires_safety_checker") != NULL && !safe)
        json_set_bool(index, "requires_safety_checker", false);
    rc = rc < 0 ? rc : save_json(index, folder, "model_index.json", e);
    json_free(index);
    mem_free(text);
    return rc;
}

int model_save(const struct model *m, const char *folder, enum dtype dtype, struct err *e)
{
    static const char *const copied[][2] = {{"scheduler", "scheduler_config.json"},
                                            {"tokenizer", "vocab.json"},
                                            {"tokenizer", "merges.txt"},
                                            {"tokenizer", "tokenizer.json"},
                                            {"tokenizer", "tokenizer_config.json"},
                                            {"tokenizer", "special_tokens_map.json"},
                                            {"feature_extractor", "preprocessor_config.json"}};
    char index[FILE_PATH_BYTES_MAX];
    if (file_make_folders(folder, e) < 0 || file_join(index, folder, "model_index.json", e) < 0 ||
        file_remove_tree(index, e) < 0)
        return -1;
    for (enum model_part part = 0; part < MODEL_PARTS; part++)
        if (m->params[part] != NULL && save_part(m, part, folder, dtype, e) < 0)
            return -1;
    for (size_t i = 0; strcmp(folder, m->folder) != 0 && i < sizeof copied / sizeof *copied; i++)
        if (copy_file(m->folder, folder, copied[i][0], copied[i][1], e) < 0)
            return -1;
    return save_index(m, folder, e); /* last: its presence means whole */
}
