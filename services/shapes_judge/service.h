/* The judge of the embedded world as an Open Inference Protocol v2 service: an ordinary external
 * reward service, that Dagline knows only by its URL.
 *
 *   GET  /v2  /v2/health/live  /v2/health/ready
 *   GET  /v2/models/shapes-judge[/versions/1][/ready]
 *   POST /v2/models/shapes-judge[/versions/1]/infer
 *        inputs   image  UINT8 [N,64,64,3], prompt BYTES [N] (captions of the shapes world)
 *        outputs  score  FP32 [N] in [0,1]; strict, count, shape, colour, size, position,
 * background: FP32 0 or 1 GET  /healthz  /metrics JSON and binary tensors, both ways. A request
 * that is not understood whole is answered 400 with
 * {"error": "..."} that says what is wrong; nothing of it is scored.
 * Threads: service_answer may be called by several at once; each borrows a judge of its own. */
#ifndef DAGLINE_SHAPES_JUDGE_SERVICE_H
#define DAGLINE_SHAPES_JUDGE_SERVICE_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define SERVICE_MODEL "shapes-judge"
#define SERVICE_REQUEST_BYTES_MAX ((size_t)64 << 20)

struct judge_service;

/* threads: how many will call service_answer at once. */
struct judge_service *service_new(unsigned threads, size_t images_max) MUST_USE;
void service_free(struct judge_service *s);

struct service_request {
    const char *method, *path;
    const void *body;
    size_t body_bytes;
    const char *json_bytes; /* Inference-Header-Content-Length, or NULL */
};

struct service_reply {
    int status;
    const char *content_type; /* a literal */
    size_t json_bytes;        /* != 0: the answer has binary tensors; value of that header */
    struct buf body;          /* the caller's: buf_init before, buf_done after */
};

void service_answer(struct judge_service *s, const struct service_request *q, struct service_reply *r);

#endif
