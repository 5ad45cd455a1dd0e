#include "diffusion/lora.h"

#include "base/mem.h"
#include "nn/gemm.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define SUFFIX_A ".lora_A.weight"
#define SUFFIX_B ".lora_B.weight"

static bool ends_with(const char *text, const char *suffix)
{
    const size_t n = strlen(text), s = strlen(suffix);
    return n >= s && strcmp(text + n - s, suffix) == 0;
}

bool lora_selects(const char *module)
{
    static const char *const ends[] = {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0",
                                       "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(module, ends[i]))
            return true;
    return false;
}

struct graph_adapter lora_adapter(size_t rank)
{
    return (struct graph_adapter){rank, lora_selects};
}

bool lora_is_adapter(const struct param *a)
{
    return ends_with(a->name, SUFFIX_A) || ends_with(a->name, SUFFIX_B);
}

bool lora_is_base(const struct param *a)
{
    return !lora_is_adapter(a);
}

/* ---- names ---- */

/* How one naming spells the two factors of module M. */
struct spelling {
    const char *prefix;
    bool underscores; /* of the module's dots */
    const char *down, *up, *alpha;
};

static const struct spelling spellings[] = {
    [LORA_PEFT] = {"unet.", false, ".lora_A.weight", ".lora_B.weight", ".alpha"},
    [LORA_DIFFUSERS] = {"unet.", false, ".lora.down.weight", ".lora.up.weight", ".alpha"},
    [LORA_KOHYA] = {"lora_unet_", true, ".lora_down.weight", ".lora_up.weight", ".alpha"},
    /* read only */
    {"", false, ".lora_A.weight", ".lora_B.weight", ".alpha"},
    {"base_model.model.", false, ".lora_A.weight", ".lora_B.weight", ".alpha"},
};
#define SPELLINGS (sizeof spellings / sizeof *spellings)

static void spell(char out[SAFETENSORS_NAME_BYTES_MAX], const struct spelling *s,
                  const char *module, size_t module_bytes, const char *end)
{
    const int n = snprintf(out, SAFETENSORS_NAME_BYTES_MAX, "%s%.*s%s", s->prefix,
                           (int)module_bytes, module, end);
    assert(n > 0 && n < SAFETENSORS_NAME_BYTES_MAX);
    for (size_t i = 0; s->underscores && i < module_bytes; i++)
        if (out[strlen(s->prefix) + i] == '.')
            out[strlen(s->prefix) + i] = '_';
}

/* The module's name is a parameter's without its suffix. */
static size_t module_bytes(const struct param *a)
{
    return strlen(a->name) - strlen(SUFFIX_A);
}

/* ---- reading ---- */

int lora_file_rank(const struct safetensors *f, size_t *rank, struct err *e)
{
    int64_t found = 0;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const struct safetensors_tensor *const t = safetensors_at(f, i);
        if (!ends_with(t->name, ".lora_A.weight") && !ends_with(t->name, ".lora.down.weight") &&
            !ends_with(t->name, ".lora_down.weight"))
            continue;
        const int64_t r = t->rank > 0 ? t->shape[0] : 0;
        if (r < 1 || r > LORA_RANK_MAX || (found != 0 && r != found))
            return err_set(e, ERR_INVALID,
                           "adapter %s has rank %lld, expected %lld: one rank of 1 to %d for all",
                           t->name, (long long)r, (long long)found, LORA_RANK_MAX);
        found = r;
    }
    if (found == 0)
        return err_set(e, ERR_NOT_FOUND,
                       "no low-rank adapter in the file (lora_A, lora.down or lora_down weights)");
    *rank = (size_t)found;
    return 0;
}

struct pair {
    const struct safetensors_tensor *down, *up, *alpha;
};

static struct pair find_pair(const struct safetensors *f, const struct param *a)
{
    struct pair pair = {NULL, NULL, NULL};
    char name[SAFETENSORS_NAME_BYTES_MAX];
    for (size_t i = 0; i < SPELLINGS && pair.down == NULL; i++) {
        const struct spelling *const s = &spellings[i];
        spell(name, s, a->name, module_bytes(a), s->down);
        pair.down = safetensors_find(f, name);
        spell(name, s, a->name, module_bytes(a), s->up);
        pair.up = safetensors_find(f, name);
        spell(name, s, a->name, module_bytes(a), s->alpha);
        pair.alpha = safetensors_find(f, name);
    }
    return pair;
}

static int check_factor(const struct param *a, const struct safetensors_tensor *t, struct err *e)
{
    char shape[SAFETENSORS_SHAPE_TEXT_MAX];
    if (t == NULL)
        return err_set(e, ERR_NOT_FOUND, "adapter %s is not in the file", a->name);
    if (t->rank != 2 || t->shape[0] != a->dim[0] || t->shape[1] != a->dim[1])
        return err_set(e, ERR_SHAPE, "adapter %s is %s, expected [%lld,%lld]", t->name,
                       safetensors_shape_text(t, shape), (long long)a->dim[0],
                       (long long)a->dim[1]);
    return 0;
}

static int load_factor(const struct param *a, const struct safetensors_tensor *t, double scale,
                       struct err *e)
{
    float *const values = mem_new(a->count, sizeof *values);
    const int rc = safetensors_to_float(t, values, e);
    for (size_t i = 0; rc == 0 && i < a->count; i++)
        a->value[i] = (real)((double)values[i] * scale);
    mem_free(values);
    return rc;
}

/* alpha / r, 1 where the file has no alpha. */
static int scale_of(const struct pair *pair, const struct param *a, double *scale, struct err *e)
{
    float alpha;
    *scale = 1.0;
    if (pair->alpha == NULL)
        return 0;
    if (pair->alpha->count != 1)
        return err_set(e, ERR_SHAPE, "%s has %zu elements, expected 1", pair->alpha->name,
                       pair->alpha->count);
    if (safetensors_to_float(pair->alpha, &alpha, e) < 0)
        return -1;
    *scale = (double)alpha / (double)a->dim[0];
    return 0;
}

/* Checks everything (fill false), or fills; *used counts the file's tensors that belong here. */
static int walk(struct params *p, const struct safetensors *f, bool fill, size_t *used,
                struct err *e)
{
    *used = 0;
    for (int id = 0; (size_t)id < params_length(p); id++) {
        const struct param *const a = params_at(p, id);
        double scale;
        if (!ends_with(a->name, SUFFIX_A))
            continue;
        char name[PARAM_NAME_BYTES_MAX];
        snprintf(name, sizeof name, "%.*s%s", (int)module_bytes(a), a->name, SUFFIX_B);
        const struct param *const b = params_at(p, params_find(p, name));
        const struct pair pair = find_pair(f, a);
        if (check_factor(a, pair.down, e) < 0 || check_factor(b, pair.up, e) < 0 ||
            scale_of(&pair, a, &scale, e) < 0)
            return -1;
        if (fill &&
            (load_factor(a, pair.down, 1.0, e) < 0 || load_factor(b, pair.up, scale, e) < 0))
            return -1;
        *used += pair.alpha == NULL ? 2 : 3;
    }
    return 0;
}

int lora_load(struct params *p, const struct safetensors *f, struct err *e)
{
    size_t used;
    if (walk(p, f, false, &used, e) < 0)
        return -1;
    if (used != safetensors_count(f))
        return err_set(e, ERR_INVALID,
                       "%zu of the file's %zu tensors belong to no adapter of this model",
                       safetensors_count(f) - used, safetensors_count(f));
    if (walk(p, f, true, &used, e) < 0)
        return -1;
    params_touch_all(p);
    return 0;
}

/* ---- writing ---- */

struct items {
    struct safetensors_item *at;
    size_t count;
    char (*names)[SAFETENSORS_NAME_BYTES_MAX];
    float *values;
    float alpha;
};

static void items_done(struct items *s)
{
    mem_free(s->at);
    mem_free(s->names);
    mem_free(s->values);
}

/* alpha is written by kohya's naming alone: diffusers drops it from its own, and takes r. */
static void items_fill(struct items *s, const struct params *p, enum lora_naming naming,
                       enum dtype dtype)
{
    const struct spelling *const sp = &spellings[naming];
    const size_t length = params_length(p);
    *s = (struct items){.at = mem_new(2 * length, sizeof *s->at),
                        .names = mem_new(2 * length, sizeof *s->names),
                        .values = mem_new(params_count(p, false), sizeof *s->values)};
    float *next = s->values;
    for (int id = 0; (size_t)id < length; id++) {
        const struct param *const a = params_at(p, id);
        if (!lora_is_adapter(a))
            continue;
        const bool down = ends_with(a->name, SUFFIX_A);
        spell(s->names[s->count], sp, a->name, module_bytes(a), down ? sp->down : sp->up);
        for (size_t i = 0; i < a->count; i++)
            next[i] = (float)a->value[i];
        s->at[s->count] = (struct safetensors_item){.name = s->names[s->count],
                                                    .dtype = dtype,
                                                    .rank = 2,
                                                    .shape = {a->dim[0], a->dim[1]},
                                                    .data = next};
        next += a->count;
        s->count++;
        if (!down || naming != LORA_KOHYA)
            continue;
        s->alpha = (float)a->dim[0];
        spell(s->names[s->count], sp, a->name, module_bytes(a), sp->alpha);
        s->at[s->count] = (struct safetensors_item){
            .name = s->names[s->count], .dtype = dtype, .rank = 0, .data = &s->alpha};
        s->count++;
    }
}

/* What sd-scripts writes about a network, so that its tools show rank and alpha. */
static size_t meta_of(const struct items *s, enum lora_naming naming, char rank[16],
                      struct safetensors_meta meta[4])
{
    if (naming != LORA_KOHYA)
        return 0;
    snprintf(rank, 16, "%d", (int)s->alpha);
    meta[0] = (struct safetensors_meta){"ss_network_module", "networks.lora"};
    meta[1] = (struct safetensors_meta){"ss_network_dim", rank};
    meta[2] = (struct safetensors_meta){"ss_network_alpha", rank};
    return 3;
}

int lora_save(const struct params *p, const char *path, enum lora_naming naming, enum dtype dtype,
              struct err *e)
{
    struct items s;
    char rank[16];
    struct safetensors_meta meta[4];
    items_fill(&s, p, naming, dtype);
    const size_t n = meta_of(&s, naming, rank, meta);
    const int rc = safetensors_write(path, s.at, s.count, meta, n, e);
    items_done(&s);
    return rc;
}

int lora_encode(const struct params *p, enum lora_naming naming, enum dtype dtype, uint8_t **bytes,
                size_t *size, struct err *e)
{
    struct items s;
    char rank[16];
    struct safetensors_meta meta[4];
    items_fill(&s, p, naming, dtype);
    const size_t n = meta_of(&s, naming, rank, meta);
    const int rc = safetensors_encode(bytes, size, s.at, s.count, meta, n, e);
    items_done(&s);
    return rc;
}

void lora_merge(struct params *p, int sign)
{
    assert(sign == 1 || sign == -1);
    for (int id = 0; (size_t)id < params_length(p); id++) {
        const struct param *const a = params_at(p, id);
        if (!ends_with(a->name, SUFFIX_A))
            continue;
        char name[PARAM_NAME_BYTES_MAX];
        snprintf(name, sizeof name, "%.*s%s", (int)module_bytes(a), a->name, SUFFIX_B);
        const struct param *const b = params_at(p, params_find(p, name));
        snprintf(name, sizeof name, "%.*s.weight", (int)module_bytes(a), a->name);
        const struct param *const w = params_at(p, params_find(p, name));
        const size_t out = (size_t)b->dim[0], in = (size_t)a->dim[1], r = (size_t)a->dim[0];
        gemm(false, false, out, in, r, (real)sign, b->value, r, a->value, in, 1, w->value, in);
    }
    params_touch_all(p);
}
