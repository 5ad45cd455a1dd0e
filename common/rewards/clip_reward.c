#include "rewards/clip_reward.h"

#include "base/mem.h"
#include "diffusion/clip.h"
#include "io/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define HEAD_LAYERS_MAX 64
#define CLIPSCORE_WEIGHT 2.5

const char *const clip_reward_names[CLIP_REWARD_KINDS] = {"aesthetic", "clipscore", "pickscore", "hpsv2"};

struct clip_reward {
    enum clip_reward_kind kind;
    struct clip *clip;
    /* the head, all of its layers in one: value = bias + weight . embedding */
    double *weight, bias;
};

/* ---- the head ---- */

/* y = W x + b for each column of `map` [in, columns] -> [out, columns]; the last column carries the bias.  Both owned.
 */
static double *apply_layer(const double *map, size_t columns, const float *weight, const float *bias, size_t out,
                           size_t in)
{
    double *y = mem_new(out * columns, sizeof *y);
    for (size_t o = 0; o < out; o++) {
        for (size_t i = 0; i < in; i++)
            for (size_t c = 0; c < columns; c++)
                y[o * columns + c] += (double)weight[o * in + i] * map[i * columns + c];
        y[o * columns + columns - 1] += (double)bias[o];
    }
    return y;
}

/* The layer called `name` after *map [*rows, columns], which it replaces. */
static int add_layer(const struct safetensors *f, const char *name, double **map, size_t *rows, size_t columns,
                     struct err *e)
{
    char weight_name[64], bias_name[64];
    snprintf(weight_name, sizeof weight_name, "%s%sweight", name, name[0] != 0 ? "." : "");
    snprintf(bias_name, sizeof bias_name, "%s%sbias", name, name[0] != 0 ? "." : "");
    const struct safetensors_tensor *t = safetensors_find(f, weight_name);
    if (t == NULL || t->rank != 2 || t->shape[0] < 1 || t->shape[0] > 65536 || t->shape[1] != (int64_t)*rows)
        return err_set(e, ERR_SHAPE, "%s is no matrix over %zu numbers", weight_name, *rows);
    const size_t out = (size_t)t->shape[0];
    const int64_t bias_shape[1] = {(int64_t)out};
    float *weight = mem_new(out * *rows, sizeof *weight), *bias = mem_new(out, sizeof *bias);
    const int rc = safetensors_to_float(t, weight, e) < 0 ? -1 : safetensors_load(f, bias_name, bias_shape, 1, bias, e);
    if (rc == 0) {
        double *next = apply_layer(*map, columns, weight, bias, out, *rows);
        mem_free(*map);
        *map = next;
        *rows = out;
    }
    mem_free(weight);
    mem_free(bias);
    return rc;
}

static int read_head(struct clip_reward *r, const struct safetensors *f, size_t width, struct err *e)
{
    const size_t columns = width + 1;
    size_t rows = width;
    double *map = mem_new(width * columns, sizeof *map); /* the identity, no bias */
    for (size_t i = 0; i < width; i++)
        map[i * columns + i] = 1.0;
    int rc = 0;
    if (safetensors_find(f, "weight") != NULL) {
        rc = add_layer(f, "", &map, &rows, columns, e);
    } else {
        for (int i = 0; rc == 0 && i < HEAD_LAYERS_MAX; i++) {
            char name[32], weight[48];
            snprintf(name, sizeof name, "layers.%d", i);
            snprintf(weight, sizeof weight, "%s.weight", name);
            if (safetensors_find(f, weight) != NULL)
                rc = add_layer(f, name, &map, &rows, columns, e);
        }
    }
    if (rc == 0 && rows != 1)
        rc = err_set(e, ERR_SHAPE,
                     "a head gives one number, this gives %zu (`weight` and `bias`, or `layers.N.weight` ...)", rows);
    if (rc == 0) {
        r->weight = mem_new(width, sizeof *r->weight);
        memcpy(r->weight, map, width * sizeof *map);
        r->bias = map[width];
    }
    mem_free(map);
    return rc;
}

static int open_head(struct clip_reward *r, const char *path, struct err *e)
{
    struct safetensors *f;
    if (path[0] == 0)
        return err_set(e, ERR_INVALID, "an aesthetic reward needs the head's safetensors file");
    if (safetensors_open(&f, path, e) < 0)
        return -1;
    const int rc = read_head(r, f, clip_config(r->clip)->projection, e);
    safetensors_close(f);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

/* ---- the interface ---- */

int clip_reward_open(struct clip_reward **out, enum clip_reward_kind kind, const char *folder, const char *head,
                     int threads, struct err *e)
{
    struct clip_reward *r = mem_new(1, sizeof *r);
    const bool texts = kind != CLIP_REWARD_AESTHETIC;
    *out = NULL;
    r->kind = kind;
    if (clip_open(&r->clip, folder, texts, threads, e) < 0 || (!texts && open_head(r, head, e) < 0)) {
        clip_reward_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void clip_reward_close(struct clip_reward *r)
{
    if (r == NULL)
        return;
    clip_close(r->clip);
    mem_free(r->weight);
    mem_free(r);
}

size_t clip_reward_bytes(const struct clip_reward *r)
{
    return clip_bytes(r->clip);
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double value_of(const struct clip_reward *r, const float *picture, const float *text, size_t n)
{
    double sum = r->bias;
    switch (r->kind) {
    case CLIP_REWARD_AESTHETIC:
        for (size_t i = 0; i < n; i++)
            sum += r->weight[i] * (double)picture[i];
        return sum;
    case CLIP_REWARD_CLIPSCORE:
        return CLIPSCORE_WEIGHT * fmax(dot(picture, text, n), 0.0);
    case CLIP_REWARD_PICKSCORE:
        return clip_logit_scale(r->clip) * dot(picture, text, n);
    case CLIP_REWARD_HPSV2:
    case CLIP_REWARD_KINDS:
        break;
    }
    return dot(picture, text, n);
}

int clip_reward_of(struct clip_reward *r, const struct image *pictures, const char *const *prompts, size_t n,
                   double *values, struct err *e)
{
    const size_t E = clip_config(r->clip)->projection;
    float *picture = mem_new(n * E, sizeof *picture), *text = mem_new(n * E, sizeof *text);
    int rc = clip_embed_pictures(r->clip, pictures, n, picture, e);
    if (rc == 0 && r->kind != CLIP_REWARD_AESTHETIC)
        rc = clip_embed_texts(r->clip, prompts, n, text, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        values[i] = value_of(r, picture + i * E, text + i * E, E);
    mem_free(picture);
    mem_free(text);
    return rc;
}
