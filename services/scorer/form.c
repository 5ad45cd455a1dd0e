#include "scorer/form.h"

#include "base/hash.h"
#include "base/mem.h"
#include "io/image.h"
#include "io/jpeg.h"
#include "io/png.h"
#include "scorer/oip.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define JPEG_QUALITY 95

enum { PICTURE_PNG, PICTURE_JPEG }; /* reward.image_format */

int form_open(struct form *f, const struct reward_params *p, struct err *e)
{
    *f = (struct form){0};
    if (strcmp(p->backend, "oip-v2") == 0)
        return form_open_oip(f, p, e);
    if (strcmp(p->backend, "openai-chat") == 0)
        return form_open_chat(f, p, e);
    if (strcmp(p->backend, "json") == 0)
        return form_open_json(f, p, "", e);
    if (strncmp(p->backend, "json:", 5) == 0)
        return form_open_json(f, p, p->backend + 5, e);
    if (strcmp(p->backend, "raw") == 0 || strcmp(p->backend, "multipart") == 0)
        return form_open_file(f, p, p->backend[0] == 'm', e);
    if (strcmp(p->backend, "latents") == 0)
        return form_open_latents(f, p, e);
    if (strncmp(p->backend, "pickle:", 7) == 0)
        return form_open_pickle(f, p, p->backend + 7, e);
    return err_set(e, ERR_INVALID,
                   "reward.backend %s is not known: expected oip-v2, openai-chat, json, "
                   "json:PRESET, pickle:PRESET, raw, "
                   "multipart, latents or builtin:NAME",
                   p->backend);
}

void form_close(struct form *f)
{
    if (f->close != NULL)
        f->close(f->self);
    *f = (struct form){0};
}

int form_digest(uint8_t out[HASH_SHA256_BYTES], const struct reward_params *p, struct err *e)
{
    struct json *template = NULL;
    if (strncmp(p->backend, "json", 4) == 0 && p->template[0] != 0 &&
        form_read_template(&template, p->template, e) < 0)
        return -1;
    char *const asked = template != NULL ? json_print(template, JSON_LINE, NULL) : mem_strdup("");
    const char *const texts[] = {
        p->backend,  p->url,     p->path,        p->model,        p->model_version,  asked,    p->scores,
        p->question, p->pattern, p->image_input, p->prompt_input, p->metadata_input, p->output};
    const double numbers[] = {(double)p->image_format, (double)p->judge, p->score_min, p->score_max};
    struct hash_sha256 h;
    hash_sha256_begin(&h);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        hash_sha256_add(&h, texts[i], strlen(texts[i]) + 1);
    hash_sha256_add(&h, numbers, sizeof numbers);
    hash_sha256_end(&h, out);
    mem_free(asked);
    json_free(template);
    return 0;
}

int form_set_path(struct form *f, const struct reward_params *p, const char *otherwise,
                  struct err *e)
{
    const char *path = p->path[0] != 0 ? p->path : otherwise;
    if (path[0] != 0 && path[0] != '/')
        return err_set(e, ERR_INVALID, "reward.path %s: begin with /", path);
    for (const char *c = path; *c != 0; c++)
        if (*c <= ' ' || *c > '~' || *c == '#' || *c == '\\')
            return err_set(e, ERR_INVALID,
                           "reward.path %s: no space, fragment or backslash may be in it", path);
    snprintf(f->score_path, sizeof f->score_path, "%s", path);
    return 0;
}

const char *form_picture_type(const struct reward_params *p)
{
    return p->image_format == PICTURE_JPEG ? "image/jpeg" : "image/png";
}

int form_encode_picture(uint8_t **file, size_t *bytes, const struct backend_item *item, bool jpeg,
                        struct err *e)
{
    const struct image view = {(int)item->width, (int)item->height,
                               (uint8_t *)(uintptr_t)item->rgb};
    return jpeg ? jpeg_encode(file, bytes, &view, JPEG_QUALITY, e)
                : png_encode(file, bytes, &view, NULL, e);
}

int form_add_picture(struct buf *out, const struct reward_params *p,
                     const struct backend_item *item, struct err *e)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    if (form_encode_picture(&bytes, &n, item, p->image_format == PICTURE_JPEG, e) < 0)
        return -1;
    buf_add_base64(out, bytes, n);
    mem_free(bytes);
    return 0;
}

int form_score(double *out, const struct json *v, const char *what, const struct reward_params *p,
               struct err *e)
{
    double value;
    return json_as_number(v, what, -HUGE_VAL, HUGE_VAL, &value, e) < 0
               ? -1
               : form_score_value(out, value, what, p, e);
}

int form_score_value(double *out, double value, const char *what, const struct reward_params *p,
                     struct err *e)
{
    if (!isfinite(value))
        return err_set(e, ERR_NONFINITE, "%s is %g", what, value);
    if (value < p->score_min || value > p->score_max)
        return err_set(e, ERR_INVALID, "%s is %g, outside reward.score_min..score_max (%g..%g)",
                       what, value, p->score_min, p->score_max);
    *out = value;
    return 0;
}

int form_metadata(struct json **out, const struct backend_item *item, struct err *e)
{
    const char *const text = item->metadata;
    if (text[0] == 0) {
        *out = json_new_object();
        return 0;
    }
    return json_parse(out, text, strlen(text), TRAJECTORY_METADATA_BYTES_MAX, e) < 0
               ? err_wrap(e, "metadata of the prompt")
               : 0;
}

int form_parse(struct json **out, const struct form_answer *a, struct err *e)
{
    return json_parse(out, a->body, a->bytes, a->bytes, e) < 0 ? -1 : form_refuse_error(out, e);
}

int form_refuse_error(struct json **answer, struct err *e)
{
    char said[OIP_SAID_BYTES];
    if (!oip_said_error(said, sizeof said, *answer))
        return 0;
    json_free(*answer);
    *answer = NULL;
    return err_set(e, ERR_INVALID, "the service says: %s", said);
}
