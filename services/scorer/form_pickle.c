/* The pickles that research reward servers exchange: JPEG files and prompts out, scores in.  Read
 * as plain data (pickle.h). */
#include "base/mem.h"
#include "scorer/form.h"
#include "scorer/pickle.h"
#include "scorer/pointer.h"

#include <stdio.h>
#include <string.h>

#define QUERY "Answer concisely: what is going on in this image?"

/* What stands under a key: one of each item, or the same for all. */
enum field { END, IMAGES, PROMPTS, METADATAS, QUERIES, ANSWERS, FALSE_VALUE, EMPTY_DICT };

static const struct preset {
    const char *name;
    struct {
        const char *key;
        enum field what;
    } fields[4];
    const char *scores;
} presets[] = {
    /* kvablack/LLaVA-server, its BERTScore recall of "The image contains PROMPT" */
    {"llava", {{"images", IMAGES}, {"queries", QUERIES}, {"answers", ANSWERS}}, "/recall/*/?"},
    {"deqa", {{"images", IMAGES}}, "/outputs"},
    {"geneval",
     {{"images", IMAGES}, {"meta_datas", METADATAS}, {"only_strict", FALSE_VALUE}},
     "/scores"},
    {"unifiedreward", {{"images", IMAGES}, {"prompts", PROMPTS}}, "/outputs"},
    {"verl-omni", {{"images", IMAGES}, {"prompts", PROMPTS}, {"metadata", EMPTY_DICT}}, "/scores"},
};

struct pickle_form {
    const struct reward_params *p; /* borrowed */
    const struct preset *preset;
    struct pointer scores;
};

static int add_metadata(struct buf *b, const struct backend_item *item, struct err *e)
{
    struct json *meta;
    if (form_metadata(&meta, item, e) < 0)
        return -1;
    pickle_json(b, meta);
    json_free(meta);
    return 0;
}

/* A list of one text, as LLaVA-server wants questions and answers: several to a picture. */
static void add_texts(struct buf *b, const char *text)
{
    pickle_list_begin(b);
    pickle_text(b, text);
    pickle_list_end(b);
}

static int add_item(struct buf *b, enum field what, const struct backend_item *x, struct err *e)
{
    char answer[TRAJECTORY_PROMPT_BYTES_MAX + 32];
    uint8_t *file = NULL;
    size_t n = 0;
    switch (what) {
    case IMAGES:
        if (form_encode_picture(&file, &n, x, true, e) < 0)
            return -1;
        pickle_bytes(b, file, n);
        mem_free(file);
        break;
    case PROMPTS:
        pickle_text(b, x->prompt);
        break;
    case METADATAS:
        return add_metadata(b, x, e);
    case QUERIES:
        add_texts(b, QUERY);
        break;
    case ANSWERS:
        snprintf(answer, sizeof answer, "The image contains %s", x->prompt);
        add_texts(b, answer);
        break;
    case FALSE_VALUE:
    case EMPTY_DICT:
    case END:
        break;
    }
    return 0;
}

static int write_request(void *self, struct form_request *r, const char *id,
                         const struct backend_item *items, size_t n, struct err *e)
{
    const struct pickle_form *f = self;
    struct buf *b = r->body;
    (void)id;
    pickle_begin(b);
    pickle_dict_begin(b);
    for (size_t k = 0; k < sizeof f->preset->fields / sizeof *f->preset->fields &&
                       f->preset->fields[k].what != END;
         k++) {
        const enum field what = f->preset->fields[k].what;
        pickle_text(b, f->preset->fields[k].key);
        if (what == FALSE_VALUE) {
            pickle_bool(b, false);
        } else if (what == EMPTY_DICT) {
            pickle_dict_begin(b);
            pickle_dict_end(b);
        } else {
            pickle_list_begin(b);
            for (size_t i = 0; i < n; i++)
                if (add_item(b, what, &items[i], e) < 0)
                    return -1;
            pickle_list_end(b);
        }
    }
    pickle_dict_end(b);
    pickle_end(b);
    snprintf(r->content_type, sizeof r->content_type, "application/octet-stream");
    return buf_check(b, "request", e);
}

static int read_answer(void *self, struct backend_score *scores, size_t n, const char *id,
                       const struct form_answer *a, struct err *e)
{
    const struct pickle_form *f = self;
    struct json *doc = NULL;
    (void)id;
    if (pickle_read(&doc, a->body, a->bytes, e) < 0 || form_refuse_error(&doc, e) < 0)
        return -1;
    const int rc = pointer_scores(scores, n, &f->scores, doc, f->p, e);
    json_free(doc);
    return rc;
}

int form_open_pickle(struct form *f, const struct reward_params *p, const char *name, struct err *e)
{
    const struct preset *preset = NULL;
    char known[128] = "";
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        preset = strcmp(name, presets[i].name) == 0 ? &presets[i] : preset;
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i == 0 ? "" : ", ",
                 presets[i].name);
    }
    if (preset == NULL)
        return err_set(e, ERR_INVALID, "reward.backend pickle:%s: known are %s", name, known);
    struct pickle_form *x = mem_new(1, sizeof *x);
    x->p = p;
    x->preset = preset;
    if (pointer_parse(&x->scores, p->scores[0] != 0 ? p->scores : preset->scores, p->model, e) <
            0 ||
        form_set_path(f, p, "/", e) < 0) {
        mem_free(x);
        return -1;
    }
    f->self = x;
    f->items_max = BACKEND_BATCH_MAX;
    f->image_factor = 2;
    f->write = write_request;
    f->read = read_answer;
    f->close = mem_free;
    return 0;
}
