/* Open Inference Protocol v2 as a form: the paths, and what the metadata said. */
#include "base/mem.h"
#include "scorer/form.h"
#include "scorer/oip.h"

#include <stdio.h>
#include <string.h>

struct oip_form {
    const struct reward_params *p; /* borrowed */
    struct oip_model model;
    bool described;
};

/* A name that goes into the path of a URL: what could end the path or climb out of it is refused.
 */
static int check_name(const char *what, const char *name, struct err *e)
{
    for (const char *c = name; *c != 0; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              *c == '-' || *c == '_' || *c == '.'))
            return err_set(e, ERR_INVALID, "%s %s: only letters, digits, - _ . are accepted", what,
                           name);
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0
               ? err_set(e, ERR_INVALID, "%s %s is no name", what, name)
               : 0;
}

static int describe(void *self, const struct form_answer *a, struct err *e)
{
    struct oip_form *o = self;
    struct oip_model model;
    if (oip_read_metadata(&model, a->body, a->bytes, o->p, e) < 0)
        return -1;
    /* a request may go to any of the endpoints */
    if (o->described && !oip_same_model(&model, &o->model))
        return err_set(e, ERR_INVALID,
                       "it takes or gives other tensors than the endpoint that answered first");
    o->model = model;
    o->described = true;
    return 0;
}

static int write_request(void *self, struct form_request *r, const char *id,
                         const struct backend_item *items, size_t n, struct err *e)
{
    const struct oip_form *o = self;
    size_t json_bytes = 0;
    const size_t before = r->body->bytes;
    if (oip_write_request(r->body, &json_bytes, &o->model, id, items, n, e) < 0)
        return -1;
    const bool binary = json_bytes != r->body->bytes - before;
    snprintf(r->content_type, sizeof r->content_type, "%s",
             binary ? "application/octet-stream" : "application/json");
    if (binary)
        snprintf(r->header, sizeof r->header, "Inference-Header-Content-Length: %zu", json_bytes);
    return 0;
}

static int read_answer(void *self, struct backend_score *scores, size_t n, const char *id,
                       const struct form_answer *a, struct err *e)
{
    const struct oip_form *o = self;
    return oip_read_answer(scores, n, &o->model, id, a->body, a->bytes, a->json_bytes, e);
}

int form_open_oip(struct form *f, const struct reward_params *p, struct err *e)
{
    if (p->model[0] == 0)
        return err_set(e, ERR_INVALID, "reward.model is empty: name the model of the service");
    if (check_name("reward.model", p->model, e) < 0 ||
        check_name("reward.model_version", p->model_version, e) < 0)
        return -1;
    struct oip_form *o = mem_new(1, sizeof *o);
    o->p = p;
    f->self = o;
    f->items_max = BACKEND_BATCH_MAX;
    f->image_factor =
        p->binary
            ? 2
            : 40; /* twice while it is built; as values inside JSON 32 bytes and up to 4 of text */
    const char *const version = p->model_version[0] != 0 ? "/versions/" : "";
    snprintf(f->describe_path, sizeof f->describe_path, "/v2/models/%.128s%s%.64s", p->model,
             version, p->model_version);
    snprintf(f->score_path, sizeof f->score_path, "/v2/models/%.128s%s%.64s/infer", p->model,
             version, p->model_version);
    f->describe = describe;
    f->write = write_request;
    f->read = read_answer;
    f->close = mem_free;
    return 0;
}
