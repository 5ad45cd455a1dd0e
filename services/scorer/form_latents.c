/* Clean latents, which nobody decoded: the body is a safetensors file, the answer JSON (the latent reward models of
 * verl-omni, protocol version 1).
 *
 *   latents   F32 [n,C,H,W], as the UNet sees them (times the autoencoder's scaling factor)
 *   u         F32 [n]: the noise level that is left in them, 0
 *   metadata  "prompts", "metadatas": JSON lists of n texts and n objects
 *   answer    {"protocol_version": "1", "raw_scores": [n numbers]}, or where reward.scores points
 *
 * The published service also takes prompt embeddings of its own text encoder; only it can make those, from the prompts. */
#include "base/mem.h"
#include "io/safetensors.h"
#include "scorer/form.h"
#include "scorer/pointer.h"

#include <stdio.h>
#include <string.h>

#define PROTOCOL "1"

struct latents_form {
    const struct reward_params *p; /* borrowed */
    struct pointer scores;
};

/* [H,W,C] to [C,H,W]. */
static void to_planes(float *out, const struct backend_item *item)
{
    const size_t pixels = (size_t)item->latent_height * item->latent_width, C = item->latent_channels;
    const uint8_t *const from = item->latent;
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < C; c++)
            memcpy(&out[c * pixels + i], from + (i * C + c) * sizeof *out, sizeof *out);
}

static int texts_of(char **prompts, char **metadatas, const struct backend_item *items, size_t n, struct err *e)
{
    struct json *p = json_new_list(), *m = json_new_list();
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json *one;
        json_append_string(p, items[i].prompt);
        rc = form_metadata(&one, &items[i], e);
        if (rc == 0)
            json_append(m, &one);
    }
    *prompts = json_print(p, JSON_LINE, NULL);
    *metadatas = json_print(m, JSON_LINE, NULL);
    json_free(p);
    json_free(m);
    return rc;
}

static int write_request(void *self, struct form_request *r, const char *id, const struct backend_item *items, size_t n,
                         struct err *e)
{
    const struct backend_item *const first = &items[0];
    const size_t D = (size_t)first->latent_channels * first->latent_height * first->latent_width;
    char *prompts = NULL, *metadatas = NULL;
    uint8_t *body = NULL;
    size_t bytes = 0;
    (void)self, (void)id;
    for (size_t i = 0; i < n; i++)
        if (items[i].latent == NULL)
            return err_set(e, ERR_INVALID, "a picture cannot be scored by latents: the run needs run.decode: no");
    float *const planes = mem_new(n * D, sizeof *planes), *const noise = mem_new(n, sizeof *noise);
    for (size_t i = 0; i < n; i++)
        to_planes(planes + i * D, &items[i]);
    int rc = texts_of(&prompts, &metadatas, items, n, e);
    if (rc == 0) {
        const struct safetensors_item tensors[] = {
            {.name = "latents", .dtype = DTYPE_F32, .rank = 4,
             .shape = {(int64_t)n, first->latent_channels, first->latent_height, first->latent_width}, .data = planes},
            {.name = "u", .dtype = DTYPE_F32, .rank = 1, .shape = {(int64_t)n}, .data = noise}};
        const struct safetensors_meta meta[] = {{"prompts", prompts}, {"metadatas", metadatas}};
        rc = safetensors_encode(&body, &bytes, tensors, 2, meta, 2, e);
    }
    if (rc == 0) {
        snprintf(r->content_type, sizeof r->content_type, "application/octet-stream");
        snprintf(r->header, sizeof r->header, "x-drm-protocol-version: " PROTOCOL);
        buf_add(r->body, body, bytes);
        rc = buf_check(r->body, "request", e);
    }
    mem_free(body);
    mem_free(metadatas);
    mem_free(prompts);
    mem_free(noise);
    mem_free(planes);
    return rc;
}

static int read_answer(void *self, struct backend_score *scores, size_t n, const char *id, const struct form_answer *a,
                       struct err *e)
{
    const struct latents_form *const f = self;
    struct json *doc = NULL;
    const char *version;
    (void)id;
    int rc = form_parse(&doc, a, e);
    if (rc == 0 && json_is_object(doc)) {
        rc = json_get_string_or(doc, "protocol_version", 16, PROTOCOL, &version, e);
        if (rc == 0 && strcmp(version, PROTOCOL) != 0)
            rc = err_set(e, ERR_INVALID, "protocol_version %s, this is " PROTOCOL, version);
    }
    if (rc == 0)
        rc = pointer_scores(scores, n, &f->scores, doc, f->p, e);
    json_free(doc);
    return rc;
}

int form_open_latents(struct form *f, const struct reward_params *p, struct err *e)
{
    struct latents_form *x = mem_new(1, sizeof *x);
    x->p = p;
    if (pointer_parse(&x->scores, p->scores[0] != 0 ? p->scores : "/raw_scores", p->model, e) < 0 ||
        form_set_path(f, p, "", e) < 0) {
        mem_free(x);
        return -1;
    }
    f->self = x;
    f->items_max = BACKEND_BATCH_MAX;
    f->takes_latents = true;
    f->image_factor = 4; /* as planes, as a file, as the body */
    f->write = write_request;
    f->read = read_answer;
    f->close = mem_free;
    return 0;
}
