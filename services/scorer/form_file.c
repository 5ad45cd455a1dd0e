/* One picture file a call: as the whole body (raw), or beside its prompt and metadata in
 * multipart/form-data.
 *
 *   raw        Content-Type image/png or image/jpeg; the prompt in a header X-Prompt,
 *              percent-encoded
 *   multipart  parts named by reward.image_input (else "image"), reward.prompt_input ("prompt")
 *              and, where the prompt has metadata, reward.metadata_input ("metadata", JSON)
 *
 * The answer is JSON in which reward.scores finds the number ("/score" unless given), or the number
 * alone as text. */
#include "base/mem.h"
#include "scorer/form.h"
#include "scorer/pointer.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_BYTES_MAX 64

struct file_form {
    const struct reward_params *p; /* borrowed */
    bool multipart;
    struct pointer scores;
};

static void add_percent_encoded(struct buf *out, const char *text)
{
    for (const char *c = text; *c != 0; c++)
        if (isalnum((unsigned char)*c) || strchr("-_.~ ", *c) != NULL)
            buf_add_byte(out, *c);
        else
            buf_format(out, "%%%02X", (unsigned char)*c);
}

static const char *name_or(const char *name, const char *otherwise)
{
    return name[0] != 0 ? name : otherwise;
}

static void add_part(struct buf *b, const char *boundary, const char *name, const char *more)
{
    buf_format(b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"%s\r\n\r\n", boundary, name,
               more);
}

static int write_request(void *self, struct form_request *r, const char *id,
                         const struct backend_item *items, size_t n, struct err *e)
{
    const struct file_form *f = self;
    const char *type = form_picture_type(f->p);
    uint8_t *file = NULL;
    size_t bytes = 0;
    char more[96];
    (void)n;
    if (form_encode_picture(&file, &bytes, &items[0], strcmp(type, "image/jpeg") == 0, e) < 0)
        return -1;
    if (f->multipart) {
        /* the id is a digest of the contents, which therefore cannot hold it */
        snprintf(r->content_type, sizeof r->content_type, "multipart/form-data; boundary=%s", id);
        snprintf(more, sizeof more, "; filename=\"image.%s\"\r\nContent-Type: %s",
                 type + strlen("image/"), type);
        add_part(r->body, id, name_or(f->p->prompt_input, "prompt"), "");
        buf_format(r->body, "%s\r\n", items[0].prompt);
        if (items[0].metadata[0] != 0) {
            add_part(r->body, id, name_or(f->p->metadata_input, "metadata"), "");
            buf_format(r->body, "%s\r\n", items[0].metadata);
        }
        add_part(r->body, id, name_or(f->p->image_input, "image"), more);
        buf_add(r->body, file, bytes);
        buf_format(r->body, "\r\n--%s--\r\n", id);
    } else {
        struct buf prompt;
        buf_init(&prompt, 4 * TRAJECTORY_PROMPT_BYTES_MAX);
        add_percent_encoded(&prompt, items[0].prompt);
        snprintf(r->content_type, sizeof r->content_type, "%s", type);
        snprintf(r->header, sizeof r->header, "X-Prompt: %s", buf_text(&prompt));
        buf_done(&prompt);
        buf_add(r->body, file, bytes);
    }
    mem_free(file);
    return buf_check(r->body, "request", e);
}

/* {"v": the number}, or the document. */
static int parse(struct json **out, const struct form_answer *a, bool *alone, struct err *e)
{
    char text[NUMBER_BYTES_MAX], *end = text;
    *alone = false;
    if (a->bytes > 0 && a->bytes < sizeof text) {
        memcpy(text, a->body, a->bytes);
        text[a->bytes] = 0;
        const double v = strtod(text, &end);
        while (*end != 0 && isspace((unsigned char)*end))
            end++;
        *alone = end > text && *end == 0 && strlen(text) == a->bytes;
        if (*alone) {
            *out = json_new_list();
            json_append_number(*out, v);
            return 0;
        }
    }
    return form_parse(out, a, e);
}

static int read_answer(void *self, struct backend_score *scores, size_t n, const char *id,
                       const struct form_answer *a, struct err *e)
{
    const struct file_form *f = self;
    static const struct pointer whole;
    struct json *doc = NULL;
    bool alone;
    (void)id;
    const int rc = parse(&doc, a, &alone, e) < 0
                       ? -1
                       : pointer_scores(scores, n, alone ? &whole : &f->scores, doc, f->p, e);
    json_free(doc);
    return rc;
}

int form_open_file(struct form *f, const struct reward_params *p, bool multipart, struct err *e)
{
    struct file_form *x = mem_new(1, sizeof *x);
    x->p = p;
    x->multipart = multipart;
    if (pointer_parse(&x->scores, p->scores[0] != 0 ? p->scores : "/score", p->model, e) < 0 ||
        form_set_path(f, p, "", e) < 0) {
        mem_free(x);
        return -1;
    }
    f->self = x;
    f->items_max = 1;
    f->image_factor = 2;
    f->write = write_request;
    f->read = read_answer;
    f->close = mem_free;
    return 0;
}
