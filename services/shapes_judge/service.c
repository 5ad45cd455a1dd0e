#include "shapes_judge/service.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/version.h"
#include "metrics/metrics.h"
#include "shapes/judge.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 64
#define INPUTS_MAX 8
#define OUTPUT_COUNT 8
#define MODEL_PATH "/v2/models/" SERVICE_MODEL

struct judge_service {
    size_t images_max;
    pthread_mutex_t lock; /* guards judges and idle */
    struct judge *judges[THREADS_MAX];
    size_t idle, total;
    struct metrics *metrics;
    struct metric *requests, *refused, *images;
};

static const char *const output_names[OUTPUT_COUNT] = {
    "score", "strict", "count", "shape", "colour", "size", "position", "background"};

struct judge_service *service_new(unsigned threads, size_t images_max)
{
    assert(threads > 0 && threads <= THREADS_MAX);
    struct judge_service *s = mem_new(1, sizeof *s);
    s->images_max = images_max;
    pthread_mutex_init(&s->lock, NULL);
    for (unsigned i = 0; i < threads; i++)
        s->judges[s->idle++] = judge_new();
    s->total = s->idle;
    const struct metrics_labels none = METRICS_NO_LABELS;
    s->metrics = metrics_new("shapes_judge");
    s->requests = metrics_counter(s->metrics, "requests_total", "requests that were scored", none);
    s->refused =
        metrics_counter(s->metrics, "refused_total", "requests answered with an error", none);
    s->images = metrics_counter(s->metrics, "images_total", "images scored", none);
    return s;
}

void service_free(struct judge_service *s)
{
    if (s == NULL)
        return;
    assert(s->idle == s->total);
    for (size_t i = 0; i < s->total; i++)
        judge_free(s->judges[i]);
    metrics_free(s->metrics);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

/* There are as many judges as threads that call: one is always idle. */
static struct judge *borrow(struct judge_service *s)
{
    pthread_mutex_lock(&s->lock);
    assert(s->idle > 0);
    struct judge *j = s->judges[--s->idle];
    pthread_mutex_unlock(&s->lock);
    return j;
}

static void give_back(struct judge_service *s, struct judge *j)
{
    pthread_mutex_lock(&s->lock);
    s->judges[s->idle++] = j;
    pthread_mutex_unlock(&s->lock);
}

/* ---- the request ---- */

struct question {
    size_t count;
    const uint8_t *pixels; /* [count,64,64,3]: in the body, or `owned` */
    uint8_t *owned;
    struct caption_spec *captions; /* owned [count] */
    bool want[OUTPUT_COUNT], binary[OUTPUT_COUNT];
};

struct tail { /* the raw bytes behind the JSON, taken tensor by tensor */
    const uint8_t *at;
    size_t left;
};

static int take_shape(const struct json *tensor, int64_t *shape, size_t want_rank,
                      size_t images_max, size_t *count, struct err *e)
{
    size_t rank;
    if (json_get_ints(tensor, "shape", 1, INT32_MAX, shape, 4, &rank, e) < 0)
        return -1;
    const bool flat = want_rank == 1 && (rank == 1 || (rank == 2 && shape[1] == 1));
    if (rank != want_rank && !flat)
        return err_set(e, ERR_INVALID, "shape has %zu dimensions, wanted %zu", rank, want_rank);
    if (shape[0] > (int64_t)images_max || (*count != 0 && shape[0] != (int64_t)*count))
        return err_set(e, ERR_INVALID,
                       "shape begins with %lld; every tensor has the same N of at most %zu",
                       (long long)shape[0], images_max);
    *count = (size_t)shape[0];
    return 0;
}

/* *raw NULL: the values are in `data`. */
static int take_raw(const struct json *tensor, struct tail *tail, const uint8_t **raw,
                    size_t *bytes, struct err *e)
{
    const struct json *parameters;
    int64_t size;
    *raw = NULL;
    if (json_get_object_or(tensor, "parameters", &parameters, e) < 0)
        return -1;
    if (parameters == NULL || json_get(parameters, "binary_data_size") == NULL)
        return 0;
    if (json_get_int(parameters, "binary_data_size", 0, INT32_MAX, &size, e) < 0)
        return -1;
    if ((size_t)size > tail->left)
        return err_set(e, ERR_INVALID, "binary_data_size is %lld, %zu bytes are left",
                       (long long)size, tail->left);
    *raw = tail->at;
    *bytes = (size_t)size;
    tail->at += size;
    tail->left -= (size_t)size;
    return 0;
}

static int take_image(struct question *q, const struct json *tensor, struct tail *tail,
                      size_t images_max, struct err *e)
{
    int64_t shape[4];
    const struct json *data;
    const uint8_t *raw;
    size_t bytes;
    if (q->pixels != NULL)
        return err_set(e, ERR_INVALID, "it comes twice");
    if (take_shape(tensor, shape, 4, images_max, &q->count, e) < 0 ||
        take_raw(tensor, tail, &raw, &bytes, e) < 0)
        return -1;
    if (shape[1] != WORLD_SIDE || shape[2] != WORLD_SIDE || shape[3] != 3)
        return err_set(e, ERR_INVALID, "shape is [%lld,%lld,%lld,%lld], wanted [N,64,64,3]",
                       (long long)shape[0], (long long)shape[1], (long long)shape[2],
                       (long long)shape[3]);
    const size_t want = q->count * WORLD_RGB_BYTES;
    if (raw != NULL && bytes != want)
        return err_set(e, ERR_INVALID, "binary_data_size is %zu, wanted %zu", bytes, want);
    q->pixels = raw;
    if (raw != NULL)
        return 0;
    if (json_get_list(tensor, "data", want, &data, e) < 0)
        return -1;
    if (json_count(data) != want)
        return err_set(e, ERR_INVALID, "data has %zu values, wanted %zu, flat", json_count(data),
                       want);
    q->owned = mem_slab(want, "pixels", e);
    if (q->owned == NULL)
        return -1;
    for (size_t i = 0; i < want; i++) {
        int64_t v;
        if (json_as_int(json_at(data, i), "pixel", 0, 255, &v, e) < 0)
            return err_wrap(e, "value %zu", i);
        q->owned[i] = (uint8_t)v;
    }
    q->pixels = q->owned;
    return 0;
}

/* The next element of a BYTES tensor, as a string. */
static int take_element(char text[CAPTION_BYTES_MAX], const uint8_t **raw, size_t *left,
                        struct err *e)
{
    uint32_t n;
    if (*left < sizeof n)
        return err_set(e, ERR_INVALID, "the bytes end before its length");
    memcpy(&n, *raw, sizeof n);
    if (n > *left - sizeof n || n >= CAPTION_BYTES_MAX)
        return err_set(e, ERR_INVALID,
                       "its length is %u; %zu bytes are left and a caption has fewer than %d", n,
                       *left - sizeof n, CAPTION_BYTES_MAX);
    memcpy(text, *raw + sizeof n, n);
    text[n] = 0;
    *raw += sizeof n + n;
    *left -= sizeof n + n;
    return 0;
}

static int take_prompt(struct question *q, const struct json *tensor, struct tail *tail,
                       size_t images_max, struct err *e)
{
    int64_t shape[4];
    const struct json *data = NULL;
    const uint8_t *raw;
    size_t left = 0;
    if (q->captions != NULL)
        return err_set(e, ERR_INVALID, "it comes twice");
    if (take_shape(tensor, shape, 1, images_max, &q->count, e) < 0 ||
        take_raw(tensor, tail, &raw, &left, e) < 0)
        return -1;
    if (raw == NULL && json_get_list(tensor, "data", q->count, &data, e) < 0)
        return -1;
    if (raw == NULL && json_count(data) != q->count)
        return err_set(e, ERR_INVALID, "data has %zu values, wanted %zu", json_count(data),
                       q->count);
    q->captions = mem_new(q->count, sizeof *q->captions);
    for (size_t i = 0; i < q->count; i++) {
        char text[CAPTION_BYTES_MAX];
        const char *caption = text;
        if ((raw != NULL ? take_element(text, &raw, &left, e)
                         : json_as_string(json_at(data, i), "prompt", CAPTION_BYTES_MAX - 1,
                                          &caption, e)) < 0 ||
            caption_parse(&q->captions[i], caption, e) < 0)
            return err_wrap(e, "element %zu", i);
    }
    return left == 0 ? 0 : err_set(e, ERR_INVALID, "%zu bytes too many", left);
}

static int take_inputs(struct question *q, const struct json *request, struct tail *tail,
                       size_t images_max, struct err *e)
{
    const struct json *inputs;
    if (json_get_list(request, "inputs", INPUTS_MAX, &inputs, e) < 0)
        return -1;
    for (size_t i = 0; i < json_count(inputs); i++) {
        const struct json *tensor = json_at(inputs, i);
        const char *name, *datatype;
        if (!json_is_object(tensor))
            return err_set(e, ERR_INVALID, "input %zu is no object", i);
        if (json_get_string(tensor, "name", 64, &name, e) < 0 ||
            json_get_string(tensor, "datatype", 16, &datatype, e) < 0)
            return err_wrap(e, "input %zu", i);
        const bool image = strcmp(name, "image") == 0, prompt = strcmp(name, "prompt") == 0;
        if (!image && !prompt)
            return err_set(e, ERR_INVALID, "input %s is unknown; image and prompt are taken", name);
        if (strcmp(datatype, image ? "UINT8" : "BYTES") != 0)
            return err_set(e, ERR_INVALID, "input %s is %s, wanted %s", name, datatype,
                           image ? "UINT8" : "BYTES");
        if ((image ? take_image(q, tensor, tail, images_max, e)
                   : take_prompt(q, tensor, tail, images_max, e)) < 0)
            return err_wrap(e, "input %s", name);
    }
    if (q->pixels == NULL || q->captions == NULL)
        return err_set(e, ERR_INVALID, "input %s is missing",
                       q->pixels == NULL ? "image" : "prompt");
    return tail->left == 0
               ? 0
               : err_set(e, ERR_INVALID, "%zu bytes behind the last tensor", tail->left);
}

static int take_flag(const struct json *object, const char *name, bool *out, struct err *e)
{
    const struct json *parameters;
    if (json_get_object_or(object, "parameters", &parameters, e) < 0)
        return -1;
    return parameters == NULL ? 0 : json_get_bool_or(parameters, name, *out, out, e);
}

/* No list of outputs: all of them. */
static int take_outputs(struct question *q, const struct json *request, struct err *e)
{
    const struct json *outputs;
    bool binary = false;
    if (take_flag(request, "binary_data_output", &binary, e) < 0 ||
        json_get_list_or(request, "outputs", OUTPUT_COUNT, &outputs, e) < 0)
        return -1;
    for (size_t k = 0; k < OUTPUT_COUNT; k++) {
        q->want[k] = outputs == NULL;
        q->binary[k] = binary;
    }
    for (size_t i = 0; outputs != NULL && i < json_count(outputs); i++) {
        const struct json *o = json_at(outputs, i);
        const char *name;
        if (!json_is_object(o))
            return err_set(e, ERR_INVALID, "output %zu is no object", i);
        if (json_get_string(o, "name", 64, &name, e) < 0)
            return -1;
        size_t k = 0;
        while (k < OUTPUT_COUNT && strcmp(name, output_names[k]) != 0)
            k++;
        if (k == OUTPUT_COUNT)
            return err_set(e, ERR_INVALID, "output %s is unknown", name);
        q->want[k] = true;
        if (take_flag(o, "binary_data", &q->binary[k], e) < 0)
            return err_wrap(e, "output %s", name);
    }
    return 0;
}

/* ---- the answer ---- */

static void look(struct judge_service *s, const struct question *q, float *values)
{
    struct judge *j = borrow(s);
    for (size_t i = 0; i < q->count; i++) {
        struct judge_view view;
        struct judge_verdict v;
        judge_look(j, &view, q->pixels + i * WORLD_RGB_BYTES);
        judge_score(&v, &view, &q->captions[i]);
        const float row[OUTPUT_COUNT] = {(float)v.soft,     (float)v.strict,    (float)v.count,
                                         (float)v.shape,    (float)v.colour,    (float)v.size,
                                         (float)v.position, (float)v.background};
        for (size_t k = 0; k < OUTPUT_COUNT; k++)
            values[k * q->count + i] = row[k];
    }
    give_back(s, j);
}

static void write_answer(struct service_reply *r, const struct question *q, const char *id,
                         const float *values)
{
    struct json *answer = json_new_object(), *outputs = json_new_list();
    bool raw = false;
    json_set_string(answer, "model_name", SERVICE_MODEL);
    json_set_string(answer, "model_version", "1");
    if (id != NULL)
        json_set_string(answer, "id", id);
    for (size_t k = 0; k < OUTPUT_COUNT; k++) {
        if (!q->want[k])
            continue;
        struct json *o = json_new_object(), *shape = json_new_list();
        json_set_string(o, "name", output_names[k]);
        json_append_int(shape, (int64_t)q->count);
        json_set(o, "shape", &shape);
        json_set_string(o, "datatype", "FP32");
        struct json *rest = q->binary[k] ? json_new_object() : json_new_list();
        raw = raw || q->binary[k];
        if (q->binary[k])
            json_set_int(rest, "binary_data_size", (int64_t)(q->count * sizeof(float)));
        for (size_t i = 0; !q->binary[k] && i < q->count; i++)
            json_append_number(rest, (double)values[k * q->count + i]);
        json_set(o, q->binary[k] ? "parameters" : "data", &rest);
        json_append(outputs, &o);
    }
    json_set(answer, "outputs", &outputs);
    size_t bytes;
    char *text = json_print(answer, JSON_LINE, &bytes);
    buf_add(&r->body, text, bytes);
    for (size_t k = 0; k < OUTPUT_COUNT; k++)
        if (q->want[k] && q->binary[k])
            buf_add(&r->body, values + k * q->count, q->count * sizeof(float));
    r->json_bytes = raw ? bytes : 0;
    r->content_type = raw ? "application/octet-stream" : "application/json";
    mem_free(text);
    json_free(answer);
}

static int infer(struct judge_service *s, const struct service_request *request, struct service_reply *r,
                 struct err *e)
{
    struct question q = {0};
    struct json *v = NULL;
    const char *id = NULL;
    size_t json_bytes = request->body_bytes;
    if (request->json_bytes != NULL) {
        char *end;
        json_bytes = strtoul(request->json_bytes, &end, 10);
        if (*end != 0 || end == request->json_bytes || json_bytes > request->body_bytes)
            return err_set(
                e, ERR_INVALID,
                "Inference-Header-Content-Length is not within the %zu bytes of the body",
                request->body_bytes);
    }
    if (json_parse(&v, request->body, json_bytes, SERVICE_REQUEST_BYTES_MAX, e) < 0)
        return -1;
    struct tail tail = {(const uint8_t *)request->body + json_bytes,
                        request->body_bytes - json_bytes};
    int rc = -1;
    if (!json_is_object(v))
        err_set(e, ERR_INVALID, "the request is a list, not an object");
    else if ((json_get(v, "id") == NULL || json_get_string(v, "id", 256, &id, e) == 0) &&
             take_outputs(&q, v, e) == 0)
        rc = take_inputs(&q, v, &tail, s->images_max, e);
    if (rc == 0) {
        float *values = mem_new(q.count * OUTPUT_COUNT, sizeof *values);
        look(s, &q, values);
        write_answer(r, &q, id, values);
        mem_free(values);
        metrics_add(s->requests, 1);
        metrics_add(s->images, (double)q.count);
    }
    mem_free(q.owned);
    mem_free(q.captions);
    json_free(v);
    return rc;
}

static void add_tensor(struct json *list, const char *name, const char *datatype, bool image)
{
    struct json *t = json_new_object(), *shape = json_new_list();
    json_set_string(t, "name", name);
    json_set_string(t, "datatype", datatype);
    json_append_int(shape, -1);
    if (image) {
        json_append_int(shape, WORLD_SIDE);
        json_append_int(shape, WORLD_SIDE);
        json_append_int(shape, 3);
    }
    json_set(t, "shape", &shape);
    json_append(list, &t);
}

static void finish_json(struct service_reply *r, struct json *v)
{
    char *text = json_print(v, JSON_LINE, NULL);
    buf_add_text(&r->body, text);
    r->content_type = "application/json";
    mem_free(text);
    json_free(v);
}

static void describe_model(struct service_reply *r)
{
    struct json *v = json_new_object(), *versions = json_new_list();
    struct json *inputs = json_new_list(), *outputs = json_new_list();
    json_set_string(v, "name", SERVICE_MODEL);
    json_append_string(versions, "1");
    json_set(v, "versions", &versions);
    json_set_string(v, "platform", "dagline");
    add_tensor(inputs, "image", "UINT8", true);
    add_tensor(inputs, "prompt", "BYTES", false);
    for (size_t k = 0; k < OUTPUT_COUNT; k++)
        add_tensor(outputs, output_names[k], "FP32", false);
    json_set(v, "inputs", &inputs);
    json_set(v, "outputs", &outputs);
    finish_json(r, v);
}

static void describe_server(struct service_reply *r)
{
    struct json *v = json_new_object(), *extensions = json_new_list();
    json_set_string(v, "name", "dagline-shapes-judge");
    json_set_string(v, "version", VERSION_TEXT);
    json_append_string(extensions, "binary_tensor_data");
    json_set(v, "extensions", &extensions);
    finish_json(r, v);
}

static void refuse(struct judge_service *s, struct service_reply *r, int status, const char *text)
{
    struct json *v = json_new_object();
    json_set_string(v, "error", text);
    r->status = status;
    buf_clear(&r->body);
    r->json_bytes = 0;
    finish_json(r, v);
    metrics_add(s->refused, 1);
}

static void answer_get(struct judge_service *s, const char *path, const char *model,
                       struct service_reply *r)
{
    if (strcmp(path, "/v2/health/live") == 0 || strcmp(path, "/v2/health/ready") == 0 ||
        strcmp(path, "/healthz") == 0 || (model != NULL && strcmp(model, "/ready") == 0)) {
        buf_add_text(&r->body, "ok\n");
    } else if (strcmp(path, "/metrics") == 0) {
        r->content_type = METRICS_CONTENT_TYPE;
        metrics_print(s->metrics, &r->body);
    } else if (strcmp(path, "/v2") == 0 || strcmp(path, "/v2/") == 0) {
        describe_server(r);
    } else if (model != NULL && model[0] == 0) {
        describe_model(r);
    } else {
        refuse(s, r, 404, "nothing is here; the model is /v2/models/" SERVICE_MODEL);
    }
}

void service_answer(struct judge_service *s, const struct service_request *q, struct service_reply *r)
{
    /* What follows the model in the path; NULL where it is another one. */
    const char *model = NULL;
    const size_t n = strlen(MODEL_PATH);
    if (strncmp(q->path, MODEL_PATH, n) == 0 && (q->path[n] == 0 || q->path[n] == '/'))
        model = q->path + n;
    if (model != NULL && strncmp(model, "/versions/1", 11) == 0 &&
        (model[11] == 0 || model[11] == '/'))
        model += 11;
    r->status = 200;
    r->content_type = "text/plain";
    struct err e;
    if (strcmp(q->method, "GET") == 0)
        answer_get(s, q->path, model, r);
    else if (strcmp(q->method, "POST") != 0)
        refuse(s, r, 405, "GET and POST are answered");
    else if (model == NULL || strcmp(model, "/infer") != 0)
        refuse(s, r, 404, "only /v2/models/" SERVICE_MODEL "/infer takes a POST");
    else if (infer(s, q, r, &e) < 0)
        refuse(s, r, 400, e.text);
    if (r->body.overflowed)
        refuse(s, r, 500, "the answer is too large");
}
