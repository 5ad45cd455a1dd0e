/* A service that takes and gives JSON of its own: a template of the request, a pointer to the
 * scores.
 *
 * Template: any JSON document.  A string that is one of these words alone becomes the value; inside
 * a longer string the word becomes its text; lists and objects have none.
 *
 *   $prompts $images $metadatas  lists over the batch: strings, base64 of PNG or JPEG files,
 *                                objects
 *   $prompt $image $metadata     of one item: inside ["$each", ITEM], which becomes the list of
 *                                ITEM for every item; a template that has them outside takes one
 *                                item a call
 *   $model                       reward.model
 *   $id                          a name that is the same for the same question
 *
 * The scores are found by a pointer (pointer.h). */
#include "base/file.h"
#include "base/mem.h"
#include "scorer/form.h"
#include "scorer/pointer.h"

#include <stdio.h>
#include <string.h>

#define TEMPLATE_BYTES_MAX (64u << 10)
#define REQUEST_BYTES_MAX ((size_t)512 << 20)

struct preset {
    const char *name, *path, *template, *scores;
};

static const struct preset presets[] = {
    {"unirl", "/score",
     "{\"requests\": [\"$each\", {\"history\": [{\"text\": \"$prompt\", \"image_b64\": "
     "\"$image\"}], "
     "\"required_rewards\": [\"$model\"], \"metadata\": \"$metadata\"}]}",
     "/results/*/$model/?"},
    {"flow-factory", "/compute", "{\"prompt\": \"$prompts\", \"image\": \"$images\"}", "/rewards"},
    {"openrlhf", "/get_reward",
     "{\"query\": \"$prompts\", \"prompts\": \"$prompts\", \"images\": \"$images\"}", "/rewards"},
    {"hf-endpoint", "", "{\"inputs\": \"$image\", \"parameters\": {\"prompt\": \"$prompt\"}}",
     "/0/score"},
    {"bentoml", "/score", "{\"images\": \"$images\", \"prompts\": \"$prompts\"}", ""},
};

struct json_form {
    const struct reward_params *p; /* borrowed */
    struct json *template;
    struct pointer scores;
};

/* The batch that a template is filled with; at: the item inside $each, or 0 of one. */
struct filling {
    const struct json_form *f;
    const char *id;
    const struct backend_item *items;
    size_t n, at;
};

/* ---- the request ---- */

static int add_list(struct json *list, const struct filling *x, size_t i, char what, struct err *e)
{
    if (what == 'p') {
        json_append_string(list, x->items[i].prompt);
        return 0;
    }
    if (what == 'm') {
        struct json *meta;
        if (form_metadata(&meta, &x->items[i], e) < 0)
            return -1;
        json_append(list, &meta);
        return 0;
    }
    struct buf picture;
    buf_init(&picture, REQUEST_BYTES_MAX);
    int rc = form_add_picture(&picture, x->f->p, &x->items[i], e);
    if (rc == 0)
        rc = buf_check(&picture, "picture", e);
    if (rc == 0)
        json_append_string(list, buf_text(&picture));
    buf_done(&picture);
    return rc;
}

static const struct word {
    const char *name;
    char what; /* p, i, m: of items; M, I: of the call */
    bool all;  /* of every item */
} words[] = {
    /* longer ones first: $prompts is not $prompt and an s */
    {"$prompts", 'p', true}, {"$images", 'i', true}, {"$metadatas", 'm', true},
    {"$prompt", 'p', false}, {"$image", 'i', false}, {"$metadata", 'm', false},
    {"$model", 'M', false},  {"$id", 'I', false},
};
#define WORDS (sizeof words / sizeof *words)

static const struct word *word_at(const char *text)
{
    for (size_t i = 0; i < WORDS; i++)
        if (strncmp(text, words[i].name, strlen(words[i].name)) == 0)
            return &words[i];
    return NULL;
}

/* The word that the text is, NULL where it is more or none. */
static const struct word *word_alone(const char *text)
{
    const struct word *const w = word_at(text);
    return w != NULL && text[strlen(w->name)] == 0 ? w : NULL;
}

/* The value of a word, in a list of its own: one entry, or one of each item. */
static int value_of(struct json *list, const struct word *w, const struct filling *x, struct err *e)
{
    if (w->what == 'M' || w->what == 'I') {
        json_append_string(list, w->what == 'M' ? x->f->p->model : x->id);
        return 0;
    }
    if (!w->all)
        return add_list(list, x, x->at, w->what, e);
    struct json *each = json_new_list();
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < x->n; i++)
        rc = add_list(each, x, i, w->what, e);
    json_append(list, &each);
    return rc;
}

/* Appends the filled text to `list`. */
static int fill_string(struct json *list, const char *text, const struct filling *x, struct err *e)
{
    const struct word *const alone = word_alone(text);
    if (alone != NULL)
        return value_of(list, alone, x, e);
    struct buf out;
    int rc = 0;
    buf_init(&out, REQUEST_BYTES_MAX);
    while (rc == 0 && *text != 0) {
        const struct word *w = *text == '$' ? word_at(text) : NULL;
        if (w == NULL) {
            buf_add_byte(&out, *text++);
            continue;
        }
        struct json *one = json_new_list();
        const char *value;
        rc = value_of(one, w, x, e);
        if (rc == 0 &&
            (rc = json_as_string(json_at(one, 0), w->name, REQUEST_BYTES_MAX, &value, e)) == 0)
            buf_add_text(&out, value);
        json_free(one);
        text += strlen(w->name);
    }
    if (rc == 0 && (rc = buf_check(&out, "request", e)) == 0)
        json_append_string(list, buf_text(&out));
    buf_done(&out);
    return rc;
}

static bool is_each(const struct json *v)
{
    const char *first;
    struct err none;
    return json_is_list(v) && json_count(v) == 2 &&
           json_as_string(json_at(v, 0), "", 16, &first, &none) == 0 && strcmp(first, "$each") == 0;
}

/* Appends the filled copy of v to `list`. */
static int fill(struct json *list, const struct json *v, const struct filling *x, struct err *e)
{
    const char *text;
    struct err none;
    int rc = 0;
    if (json_as_string(v, "", TEMPLATE_BYTES_MAX, &text, &none) == 0)
        return fill_string(list, text, x, e);
    if (json_is_list(v)) {
        struct json *copy = json_new_list();
        struct filling one = *x;
        if (is_each(v))
            for (one.at = 0; rc == 0 && one.at < x->n; one.at++)
                rc = fill(copy, json_at(v, 1), &one, e);
        else
            for (size_t i = 0; rc == 0 && i < json_count(v); i++)
                rc = fill(copy, json_at(v, i), x, e);
        json_append(list, &copy);
        return rc;
    }
    if (json_is_object(v)) {
        struct json *copy = json_new_object();
        const char *key;
        const struct json *member;
        for (void *c = NULL; rc == 0 && json_next(v, &c, &key, &member);) {
            struct json *box = json_new_list();
            rc = fill(box, member, x, e);
            if (rc == 0) {
                struct json *value = json_clone(json_at(box, 0));
                json_set(copy, key, &value);
            }
            json_free(box);
        }
        json_append(list, &copy);
        return rc;
    }
    struct json *same = json_clone(v);
    json_append(list, &same);
    return 0;
}

static int write_request(void *self, struct form_request *r, const char *id,
                         const struct backend_item *items, size_t n, struct err *e)
{
    const struct json_form *f = self;
    const struct filling x = {.f = f, .id = id, .items = items, .n = n};
    struct json *box = json_new_list();
    int rc = fill(box, f->template, &x, e);
    if (rc == 0) {
        size_t bytes;
        char *text = json_print(json_at(box, 0), JSON_LINE, &bytes);
        buf_add(r->body, text, bytes);
        mem_free(text);
        snprintf(r->content_type, sizeof r->content_type, "application/json");
        rc = buf_check(r->body, "request", e);
    }
    json_free(box);
    return rc;
}

/* ---- the answer ---- */

static int read_answer(void *self, struct backend_score *scores, size_t n, const char *id,
                       const struct form_answer *a, struct err *e)
{
    const struct json_form *f = self;
    struct json *doc = NULL;
    (void)id;
    const int rc =
        form_parse(&doc, a, e) < 0 ? -1 : pointer_scores(scores, n, &f->scores, doc, f->p, e);
    json_free(doc);
    return rc;
}

/* ---- settings ---- */

/* Lists and objects have no text inside a longer string. */
static int check_string(const char *text, struct err *e)
{
    if (word_alone(text) != NULL)
        return 0;
    for (const char *at = text; (at = strchr(at, '$')) != NULL; at++) {
        const struct word *const w = word_at(at);
        if (w != NULL && (w->all || w->what == 'm'))
            return err_set(e, ERR_INVALID, "reward.template: %s is %s and cannot stand inside \"%.60s\": make it a string of its own%s",
                           w->name, w->all ? "a list" : "an object", text, w->what == 'p' ? ", or write $prompt" : "");
    }
    return 0;
}

static int check_words(const struct json *v, struct err *e)
{
    const char *text, *key;
    const struct json *member;
    struct err none;
    if (json_as_string(v, "", TEMPLATE_BYTES_MAX, &text, &none) == 0)
        return check_string(text, e);
    for (size_t i = 0; json_is_list(v) && i < json_count(v); i++)
        if (check_words(json_at(v, i), e) < 0)
            return -1;
    for (void *c = NULL; json_is_object(v) && json_next(v, &c, &key, &member);)
        if (check_words(member, e) < 0)
            return -1;
    return 0;
}

/* Whether v names one item outside a $each. */
static bool takes_one(const struct json *v)
{
    const char *text, *key;
    const struct json *member;
    struct err none;
    if (json_as_string(v, "", TEMPLATE_BYTES_MAX, &text, &none) == 0) {
        for (; (text = strchr(text, '$')) != NULL; text++) {
            const struct word *w = word_at(text);
            if (w != NULL && !w->all && strchr("pim", w->what) != NULL)
                return true;
        }
        return false;
    }
    if (json_is_list(v)) {
        for (size_t i = 0; !is_each(v) && i < json_count(v); i++)
            if (takes_one(json_at(v, i)))
                return true;
        return false;
    }
    for (void *c = NULL; json_is_object(v) && json_next(v, &c, &key, &member);)
        if (takes_one(member))
            return true;
    return false;
}

int form_read_template(struct json **out, const char *text, struct err *e)
{
    const int rc = text[0] == '{' || text[0] == '[' ? json_parse(out, text, strlen(text), TEMPLATE_BYTES_MAX, e)
                                                    : json_read_file(out, text, TEMPLATE_BYTES_MAX, e);
    return rc < 0 ? err_wrap(e, "reward.template") : 0;
}

static void close_form(void *self)
{
    struct json_form *f = self;
    json_free(f->template);
    mem_free(f);
}

static int preset_named(const struct preset **out, const char *name, struct err *e)
{
    char known[128] = "";
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        if (strcmp(name, presets[i].name) == 0) {
            *out = &presets[i];
            return 0;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i == 0 ? "" : ", ",
                 presets[i].name);
    }
    return err_set(e, ERR_INVALID, "reward.backend json:%s: known are %s", name, known);
}

int form_open_json(struct form *f, const struct reward_params *p, const char *preset, struct err *e)
{
    const struct preset own = {"", "", "", ""}, *use = &own;
    if (preset[0] != 0 && preset_named(&use, preset, e) < 0)
        return -1;
    const char *template = p->template[0] != 0 ? p->template : use->template;
    const char *scores = p->scores[0] != 0 ? p->scores : use->scores;
    if (template[0] == 0)
        return err_set(e, ERR_INVALID,
                       "reward.backend json needs reward.template: a JSON document or its file");
    struct json_form *j = mem_new(1, sizeof *j);
    j->p = p;
    if (form_read_template(&j->template, template, e) < 0 || check_words(j->template, e) < 0 ||
        pointer_parse(&j->scores, scores, p->model, e) < 0 || form_set_path(f, p, use->path, e) < 0) {
        close_form(j);
        return -1;
    }
    f->self = j;
    f->items_max = takes_one(j->template) ? 1 : BACKEND_BATCH_MAX;
    f->image_factor = 8; /* the file, its base64, three copies of that on the way to the text */
    f->write = write_request;
    f->read = read_answer;
    f->close = close_form;
    return 0;
}
