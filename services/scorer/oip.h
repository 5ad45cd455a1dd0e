/* Open Inference Protocol v2 (KServe, Triton, MLServer): requests built and answers read, as bytes.
 * Pure: no sockets, no clock.  Answers are outside data; anything but a whole answer to the
 * question asked is refused with one line.
 *
 * The service's metadata (GET /v2/models/M) says which tensor takes what:
 *   images   UINT8 [N,H,W,3] or [N,3,H,W], or BYTES of PNG files (the one with "image" or "png" in
 * its name) prompts  BYTES ("prompt", "text" or "caption" in its name, or the only BYTES input that
 * is left) metadata BYTES ("meta" in its name): each prompt's JSON object score    the output named
 * score, scores, reward or rewards, or the only numeric one; other numeric outputs of one number
 * per image are components Settings that name a tensor go before these rules. */
#ifndef DAGLINE_SCORER_OIP_H
#define DAGLINE_SCORER_OIP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "scorer/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OIP_NAME_BYTES_MAX 128
#define OIP_TENSORS_MAX 32
#define OIP_ID_BYTES_MAX 64

enum oip_images { OIP_NHWC, OIP_NCHW, OIP_PNG };

struct oip_model {
    enum oip_images images;
    char image_input[OIP_NAME_BYTES_MAX];
    char prompt_input[OIP_NAME_BYTES_MAX];   /* "": not sent */
    char metadata_input[OIP_NAME_BYTES_MAX]; /* "": not sent */
    int64_t prompt_rank;                     /* 1: [N], 2: [N,1] */
    int64_t metadata_rank, image_rank;
    char output[OIP_NAME_BYTES_MAX];
    uint32_t component_count;
    char components[BACKEND_COMPONENTS_MAX][TRAJECTORY_NAME_BYTES_MAX];
    double score_min, score_max;
    bool binary;
};

/* The model's metadata, with the settings that name tensors (image_input ..., output, binary,
 * range). */
int oip_read_metadata(struct oip_model *m, const void *text, size_t bytes,
                      const struct reward_params *p, struct err *e) MUST_USE;

/* Whether a request for the one is a request for the other. */
bool oip_same_model(const struct oip_model *a, const struct oip_model *b);

/* Appends the request for n items of one size.  *json_bytes: the length of the JSON part for the
 * header Inference-Header-Content-Length; equal to all of it where tensors are inside the JSON. */
int oip_write_request(struct buf *body, size_t *json_bytes, const struct oip_model *m,
                      const char *id, const struct backend_item *items, size_t n,
                      struct err *e) MUST_USE;

/* Scores [n] of an answer; json_bytes is that header's value, or `bytes` where there was none.
 * ERR_INVALID, ERR_NONFINITE: the whole answer is refused. */
int oip_read_answer(struct backend_score *scores, size_t n, const struct oip_model *m,
                    const char *id, const void *body, size_t bytes, size_t json_bytes,
                    struct err *e) MUST_USE;

/* Whether an answer's "error" says something (null, false, 0, "", [] and {} do not): its text, or its message, or its JSON, as one
 * line cut to `out_bytes`; "" otherwise.  Such an answer is a failure, whatever else it holds. */
#define OIP_SAID_BYTES 160
bool oip_said_error(char *out, size_t out_bytes, const struct json *answer);

/* The same of a body that need not be an answer at all, for logs. */
void oip_read_error(char *out, size_t out_bytes, const void *body, size_t bytes);

/* Seconds of a Retry-After header: a number, or an HTTP date against now; capped to cap_s; -1:
 * neither. */
int64_t oip_retry_after_s(const char *value, int64_t now_unix_s, int64_t cap_s);

#endif
