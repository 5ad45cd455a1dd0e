/* How a reward service is spoken to: requests built and answers read, as bytes.  No sockets, no
 * clock; who carries the bytes, tries again and keeps deadlines is backend_http.c.  Answers are
 * outside data: anything but a whole answer to the question asked is refused with one line.
 *
 *   oip-v2          Open Inference Protocol v2 (oip.h): KServe, Triton, MLServer, OpenVINO Model
 *                   Server
 *   json:PRESET     a template of the request and a pointer to the scores (form_json.c); `json`
 *                   alone takes both from reward.template and reward.scores
 *   pickle:PRESET   pickles of research reward servers (form_pickle.c), read as plain data
 *   openai-chat     any vision-language judge behind /v1/chat/completions (form_chat.c)
 *   raw, multipart  one picture file a call (form_file.c)
 *   latents         clean latents, undecoded, as safetensors (form_latents.c)
 *
 * Thread rule: one thread. */
#ifndef DAGLINE_SCORER_FORM_H
#define DAGLINE_SCORER_FORM_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "scorer/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORM_PATH_BYTES_MAX 1024
#define FORM_HEADER_BYTES_MAX 128
#define FORM_LINE_BYTES_MAX (4 * TRAJECTORY_PROMPT_BYTES_MAX)

struct form_request {
    struct buf *body; /* appended to */
    char content_type[FORM_HEADER_BYTES_MAX];
    char header[FORM_LINE_BYTES_MAX]; /* one more header line; "": none */
};

struct form_answer {
    const void *body;
    size_t bytes;
    size_t json_bytes; /* header Inference-Header-Content-Length, or `bytes` where there was none */
};

struct form {
    void *self;
    size_t items_max;                        /* of one call */
    char describe_path[FORM_PATH_BYTES_MAX]; /* asked by GET until it is answered, before any batch;
                                                "": not asked */
    char score_path[FORM_PATH_BYTES_MAX];    /* POST; both are put behind reward.url */
    bool takes_latents;    /* items have latents and no pictures */
    uint64_t image_factor; /* bytes of a request while it is built, for each byte of its pictures */
    int (*describe)(void *self, const struct form_answer *a, struct err *e);
    int (*write)(void *self, struct form_request *r, const char *id,
                 const struct backend_item *items, size_t n, struct err *e);
    /* scores [n].  ERR_INVALID, ERR_NONFINITE: the whole answer is refused. */
    int (*read)(void *self, struct backend_score *scores, size_t n, const char *id,
                const struct form_answer *a, struct err *e);
    void (*close)(void *self);
};

/* The form that reward.backend names; settings that it needs are checked here.  Close it by
 * form_close. */
int form_open(struct form *f, const struct reward_params *p, struct err *e) MUST_USE;
void form_close(struct form *f); /* accepts a zeroed form */

/* What tells this reward from another: the settings that choose the service, make the question and read the answer,
 * with the text of a template that is a file. */
int form_digest(uint8_t out[HASH_SHA256_BYTES], const struct reward_params *p, struct err *e) MUST_USE;

/* The forms themselves. */
int form_open_oip(struct form *f, const struct reward_params *p, struct err *e) MUST_USE;
int form_open_json(struct form *f, const struct reward_params *p, const char *preset,
                   struct err *e) MUST_USE;
int form_open_pickle(struct form *f, const struct reward_params *p, const char *preset,
                     struct err *e) MUST_USE;
int form_open_file(struct form *f, const struct reward_params *p, bool multipart,
                   struct err *e) MUST_USE;
int form_open_chat(struct form *f, const struct reward_params *p, struct err *e) MUST_USE;
int form_open_latents(struct form *f, const struct reward_params *p, struct err *e) MUST_USE;

/* reward.template: a document, or the name of a file that holds one. */
int form_read_template(struct json **out, const char *text, struct err *e) MUST_USE;

/* ---- what several forms need ---- */

/* reward.path, or `otherwise` where that is empty, as the score path of f. */
int form_set_path(struct form *f, const struct reward_params *p, const char *otherwise,
                  struct err *e) MUST_USE;

/* The picture as a PNG file, or a JPEG file of quality 95; *file is the caller's (mem_free). */
int form_encode_picture(uint8_t **file, size_t *bytes, const struct backend_item *item, bool jpeg,
                        struct err *e) MUST_USE;
/* The same by reward.image_format, in base64, appended to `out`. */
int form_add_picture(struct buf *out, const struct reward_params *p,
                     const struct backend_item *item, struct err *e) MUST_USE;
/* "image/png" or "image/jpeg". */
const char *form_picture_type(const struct reward_params *p);

/* A number of an answer: finite and within reward.score_min..score_max. `what` names it. */
int form_score(double *out, const struct json *v, const char *what, const struct reward_params *p,
               struct err *e) MUST_USE;
int form_score_value(double *out, double value, const char *what, const struct reward_params *p,
                     struct err *e) MUST_USE;

/* The item's metadata as an object; {} where it has none. */
int form_metadata(struct json **out, const struct backend_item *item, struct err *e) MUST_USE;

/* Parses an answer; one that is {"error": ...} is refused with what it says. */
int form_parse(struct json **out, const struct form_answer *a, struct err *e) MUST_USE;

/* Refuses an answer that says {"error": ...}, whatever else it holds: frees it then, and sets *answer to NULL. */
int form_refuse_error(struct json **answer, struct err *e) MUST_USE;

#endif
