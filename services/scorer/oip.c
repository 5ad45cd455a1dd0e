#include "scorer/oip.h"

#include "base/json.h"
#include "base/mem.h"
#include "io/dtype.h"
#include "io/png.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METADATA_BYTES_MAX (256u << 10)
#define RANK_MAX 8

/* ---- metadata ---- */

struct tensor_info {
    const char *name, *datatype;
    int64_t shape[RANK_MAX]; /* -1: free */
    size_t rank;
};

static int read_tensor_info(struct tensor_info *t, const struct json *v, struct err *e)
{
    if (!json_is_object(v))
        return err_set(e, ERR_INVALID, "a tensor is a %s, not an object", json_type_name(v));
    return json_get_string(v, "name", OIP_NAME_BYTES_MAX - 1, &t->name, e) < 0 ||
                   json_get_string(v, "datatype", 16, &t->datatype, e) < 0 ||
                   json_get_ints(v, "shape", -1, INT32_MAX, t->shape, RANK_MAX, &t->rank, e) < 0
               ? -1
               : 0;
}

/* Whether `name` holds `word`, whatever the case. */
static bool has_word(const char *name, const char *word)
{
    const size_t n = strlen(word);
    for (; *name != 0; name++) {
        size_t i = 0;
        while (i < n && name[i] != 0 && tolower((unsigned char)name[i]) == word[i])
            i++;
        if (i == n)
            return true;
    }
    return false;
}

static bool is_bytes(const struct tensor_info *t)
{
    return strcmp(t->datatype, "BYTES") == 0;
}

static bool takes_pixels(const struct tensor_info *t, enum oip_images *layout)
{
    if (strcmp(t->datatype, "UINT8") != 0 || t->rank != 4)
        return false;
    if (t->shape[3] == 3)
        *layout = OIP_NHWC;
    else if (t->shape[1] == 3)
        *layout = OIP_NCHW;
    else
        *layout = OIP_NHWC;
    return true;
}

static void name_copy(char out[OIP_NAME_BYTES_MAX], const char *name)
{
    snprintf(out, OIP_NAME_BYTES_MAX, "%s", name);
}

/* The role of one input by the settings first, by type and name second; false where it has none. */
static bool place_input(struct oip_model *m, const struct tensor_info *t,
                        const struct reward_params *p)
{
    enum oip_images layout;
    const bool named_image = strcmp(t->name, p->image_input) == 0;
    const bool pixels = takes_pixels(t, &layout);
    const bool png =
        is_bytes(t) && (has_word(t->name, "image") || has_word(t->name, "png") || named_image);
    if ((pixels || png) && m->image_input[0] == 0 && (p->image_input[0] == 0 || named_image)) {
        m->images = pixels ? layout : OIP_PNG;
        m->image_rank = (int64_t)t->rank;
        name_copy(m->image_input, t->name);
        return true;
    }
    if (!is_bytes(t))
        return false;
    const bool meta = p->metadata_input[0] != 0 ? strcmp(t->name, p->metadata_input) == 0
                                                : has_word(t->name, "meta");
    if (meta && m->metadata_input[0] == 0) {
        m->metadata_rank = (int64_t)t->rank;
        name_copy(m->metadata_input, t->name);
        return true;
    }
    /* The remaining BYTES input is the prompt whatever its name, unless the settings name another.
     */
    if (m->prompt_input[0] == 0 &&
        (p->prompt_input[0] == 0 || strcmp(t->name, p->prompt_input) == 0)) {
        m->prompt_rank = (int64_t)t->rank;
        name_copy(m->prompt_input, t->name);
        return true;
    }
    return false;
}

static int place_inputs(struct oip_model *m, const struct json *inputs,
                        const struct reward_params *p, struct err *e)
{
    for (size_t i = 0; i < json_count(inputs); i++) {
        struct tensor_info t;
        if (read_tensor_info(&t, json_at(inputs, i), e) < 0)
            return err_wrap(e, "metadata: input %zu", i);
        if (!place_input(m, &t, p))
            return err_set(
                e, ERR_INVALID,
                "metadata: nothing is known for input %.100s (%.16s, rank %zu); images are UINT8 "
                "[N,H,W,3] or [N,3,H,W] or BYTES, prompts BYTES (settings reward.*_input)",
                t.name, t.datatype, t.rank);
    }
    if (m->image_input[0] == 0)
        return err_set(e, ERR_INVALID, "metadata: no input takes images (reward.image_input)");
    return 0;
}

/* The protocol's numbers, as little-endian bytes. */
static const struct number_type {
    const char *name;
    enum dtype dtype;
} number_types[] = {{"FP16", DTYPE_F16}, {"BF16", DTYPE_BF16}, {"FP32", DTYPE_F32},  {"FP64", DTYPE_F64},
                    {"INT8", DTYPE_I8},  {"INT16", DTYPE_I16}, {"INT32", DTYPE_I32}, {"INT64", DTYPE_I64},
                    {"UINT8", DTYPE_U8}, {"UINT16", DTYPE_U16}, {"UINT32", DTYPE_U32}, {"UINT64", DTYPE_U64},
                    {"BOOL", DTYPE_U8}};

/* NULL for what is no number. */
static const struct number_type *number_type(const char *datatype)
{
    for (size_t i = 0; i < sizeof number_types / sizeof *number_types; i++)
        if (strcmp(datatype, number_types[i].name) == 0)
            return &number_types[i];
    return NULL;
}

static bool one_per_image(const struct tensor_info *t)
{
    return number_type(t->datatype) != NULL && (t->rank == 1 || (t->rank == 2 && t->shape[1] == 1));
}

static bool is_score_name(const char *name)
{
    return strcmp(name, "score") == 0 || strcmp(name, "scores") == 0 ||
           strcmp(name, "reward") == 0 || strcmp(name, "rewards") == 0;
}

static int place_outputs(struct oip_model *m, const struct json *outputs,
                         const struct reward_params *p, struct err *e)
{
    const struct tensor_info none = {0};
    struct tensor_info score = none;
    size_t numeric = 0;
    struct tensor_info all[OIP_TENSORS_MAX];
    const size_t n = json_count(outputs);
    for (size_t i = 0; i < n; i++) {
        if (read_tensor_info(&all[i], json_at(outputs, i), e) < 0)
            return err_wrap(e, "metadata: output %zu", i);
        if (!one_per_image(&all[i]))
            continue;
        numeric++;
        const bool wanted =
            p->output[0] != 0 ? strcmp(all[i].name, p->output) == 0 : is_score_name(all[i].name);
        if (wanted && score.name == NULL)
            score = all[i];
    }
    for (size_t i = 0; i < n && score.name == NULL && numeric == 1 && p->output[0] == 0; i++)
        if (one_per_image(&all[i]))
            score = all[i];
    if (score.name == NULL)
        return err_set(
            e, ERR_INVALID,
            "metadata: no output is the score; name one of one number per image in reward.output");
    name_copy(m->output, score.name);
    for (size_t i = 0; i < n; i++) {
        if (!one_per_image(&all[i]) || strcmp(all[i].name, score.name) == 0 ||
            m->component_count == BACKEND_COMPONENTS_MAX ||
            strlen(all[i].name) >= TRAJECTORY_NAME_BYTES_MAX || all[i].name[0] == 0)
            continue;
        snprintf(m->components[m->component_count++], TRAJECTORY_NAME_BYTES_MAX, "%s", all[i].name);
    }
    return 0;
}

int oip_read_metadata(struct oip_model *m, const void *text, size_t bytes,
                      const struct reward_params *p, struct err *e)
{
    *m = (struct oip_model){
        .score_min = p->score_min, .score_max = p->score_max, .binary = p->binary};
    struct json *v = NULL;
    const struct json *inputs, *outputs;
    if (json_parse(&v, text, bytes, METADATA_BYTES_MAX, e) < 0)
        return err_wrap(e, "metadata");
    int rc = -1;
    if (!json_is_object(v))
        err_set(e, ERR_INVALID, "metadata: a list, not an object");
    else if (json_get_list(v, "inputs", OIP_TENSORS_MAX, &inputs, e) < 0 ||
             json_get_list(v, "outputs", OIP_TENSORS_MAX, &outputs, e) < 0)
        err_wrap(e, "metadata");
    else if (place_inputs(m, inputs, p, e) == 0)
        rc = place_outputs(m, outputs, p, e);
    json_free(v);
    return rc;
}

bool oip_same_model(const struct oip_model *a, const struct oip_model *b)
{
    bool same = a->images == b->images && strcmp(a->image_input, b->image_input) == 0 &&
                strcmp(a->prompt_input, b->prompt_input) == 0 &&
                strcmp(a->metadata_input, b->metadata_input) == 0 &&
                a->prompt_rank == b->prompt_rank && a->metadata_rank == b->metadata_rank &&
                a->image_rank == b->image_rank && strcmp(a->output, b->output) == 0 &&
                a->component_count == b->component_count && a->binary == b->binary;
    for (uint32_t i = 0; same && i < a->component_count; i++)
        same = strcmp(a->components[i], b->components[i]) == 0;
    return same;
}

/* ---- request ---- */

/* [N,3,H,W] from [N,H,W,3]. */
static void to_planes(uint8_t *out, const uint8_t *rgb, size_t pixels)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < pixels; i++)
            out[c * pixels + i] = rgb[3 * i + c];
}

struct part { /* the raw bytes of one tensor; borrowed */
    const char *name, *datatype;
    int64_t rank;
    enum { PART_PIXELS, PART_PNG, PART_PROMPT, PART_METADATA } what;
};

/* Element i of a BYTES tensor; for PNG the caller frees *owned. */
static int bytes_element(const struct part *t, const struct backend_item *item, const void **data,
                         size_t *bytes, uint8_t **owned, struct err *e)
{
    *owned = NULL;
    if (t->what == PART_PNG) {
        struct image image = {.width = (int)item->width,
                              .height = (int)item->height,
                              .rgb = (uint8_t *)(uintptr_t)item->rgb}; /* read only */
        if (png_encode(owned, bytes, &image, NULL, e) < 0)
            return -1;
        *data = *owned;
        return 0;
    }
    const char *text = t->what == PART_PROMPT ? item->prompt : item->metadata;
    *data = text;
    *bytes = strlen(text);
    return 0;
}

static int write_binary(struct buf *out, const struct part *t, const struct oip_model *m,
                        const struct backend_item *items, size_t n, struct err *e)
{
    const size_t pixels = (size_t)items[0].height * items[0].width;
    for (size_t i = 0; i < n; i++) {
        if (t->what == PART_PIXELS) {
            uint8_t *at = buf_reserve(out, 3 * pixels);
            if (at == NULL)
                break; /* told by buf_check */
            if (m->images == OIP_NHWC)
                memcpy(at, items[i].rgb, 3 * pixels);
            else
                to_planes(at, items[i].rgb, pixels);
            continue;
        }
        const void *data;
        size_t bytes;
        uint8_t *owned;
        if (bytes_element(t, &items[i], &data, &bytes, &owned, e) < 0)
            return -1;
        const uint32_t length = (uint32_t)bytes;
        buf_add(out, &length, sizeof length);
        buf_add(out, data, bytes);
        mem_free(owned);
    }
    return 0;
}

static void append_base64(struct json *list, const uint8_t *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = mem_new((bytes + 2) / 3 * 4 + 1, 1);
    size_t k = 0;
    for (size_t i = 0; i < bytes; i += 3) {
        const uint32_t v = (uint32_t)data[i] << 16 |
                           (i + 1 < bytes ? (uint32_t)data[i + 1] << 8 : 0) |
                           (i + 2 < bytes ? data[i + 2] : 0u);
        text[k++] = digits[v >> 18];
        text[k++] = digits[v >> 12 & 63];
        text[k++] = i + 1 < bytes ? digits[v >> 6 & 63] : '=';
        text[k++] = i + 2 < bytes ? digits[v & 63] : '=';
    }
    json_append_string(list, text);
    mem_free(text);
}

/* The tensor's values inside the JSON, flattened; PNG files as base64 text. */
static int json_data(struct json **out, const struct part *t, const struct oip_model *m,
                     const struct backend_item *items, size_t n, struct err *e)
{
    const size_t pixels = (size_t)items[0].height * items[0].width;
    struct json *data = json_new_list();
    for (size_t i = 0; i < n; i++) {
        if (t->what == PART_PIXELS) {
            for (size_t k = 0; k < 3 * pixels; k++)
                json_append_int(data, m->images == OIP_NHWC
                                          ? items[i].rgb[k]
                                          : items[i].rgb[3 * (k % pixels) + k / pixels]);
            continue;
        }
        const void *bytes;
        size_t count;
        uint8_t *owned;
        if (bytes_element(t, &items[i], &bytes, &count, &owned, e) < 0) {
            json_free(data);
            return -1;
        }
        if (owned != NULL)
            append_base64(data, owned, count);
        else
            json_append_string(data, bytes);
        mem_free(owned);
    }
    *out = data;
    return 0;
}

static struct json *tensor_shape(const struct part *t, const struct oip_model *m,
                                 const struct backend_item *items, size_t n)
{
    struct json *shape = json_new_list();
    json_append_int(shape, (int64_t)n);
    if (t->what != PART_PIXELS) {
        if (t->rank == 2)
            json_append_int(shape, 1);
        return shape;
    }
    if (m->images == OIP_NCHW)
        json_append_int(shape, 3);
    json_append_int(shape, items[0].height);
    json_append_int(shape, items[0].width);
    if (m->images == OIP_NHWC)
        json_append_int(shape, 3);
    return shape;
}

static size_t list_parts(struct part parts[3], const struct oip_model *m)
{
    size_t n = 0;
    const bool png = m->images == OIP_PNG;
    parts[n++] = (struct part){m->image_input, png ? "BYTES" : "UINT8", m->image_rank,
                               png ? PART_PNG : PART_PIXELS};
    if (m->prompt_input[0] != 0)
        parts[n++] = (struct part){m->prompt_input, "BYTES", m->prompt_rank, PART_PROMPT};
    if (m->metadata_input[0] != 0)
        parts[n++] = (struct part){m->metadata_input, "BYTES", m->metadata_rank, PART_METADATA};
    return n;
}

static struct json *asked_outputs(const struct oip_model *m)
{
    struct json *outputs = json_new_list();
    for (uint32_t i = 0; i <= m->component_count; i++) {
        struct json *o = json_new_object();
        json_set_string(o, "name", i == 0 ? m->output : m->components[i - 1]);
        json_append(outputs, &o);
    }
    return outputs;
}

int oip_write_request(struct buf *body, size_t *json_bytes, const struct oip_model *m,
                      const char *id, const struct backend_item *items, size_t n, struct err *e)
{
    assert(n > 0 && n <= BACKEND_BATCH_MAX);
    struct part parts[3];
    const size_t part_count = list_parts(parts, m);
    struct json *request = json_new_object(), *inputs = json_new_list();
    struct buf raw;
    buf_init(&raw, body->bytes_max);
    int rc = -1;
    json_set_string(request, "id", id);
    for (size_t k = 0; k < part_count; k++) {
        struct json *t = json_new_object(), *shape = tensor_shape(&parts[k], m, items, n);
        json_set_string(t, "name", parts[k].name);
        json_set(t, "shape", &shape);
        json_set_string(t, "datatype", parts[k].datatype);
        struct json *rest = NULL;
        const size_t before = raw.bytes;
        if ((m->binary ? write_binary(&raw, &parts[k], m, items, n, e)
                       : json_data(&rest, &parts[k], m, items, n, e)) < 0) {
            json_free(t);
            goto out;
        }
        if (m->binary) {
            rest = json_new_object();
            json_set_int(rest, "binary_data_size", (int64_t)(raw.bytes - before));
        } else if (parts[k].what == PART_PNG) {
            struct json *how = json_new_object();
            json_set_string(how, "content_type", "base64");
            json_set(t, "parameters", &how);
        }
        json_set(t, m->binary ? "parameters" : "data", &rest);
        json_append(inputs, &t);
    }
    struct json *outputs = asked_outputs(m);
    json_set(request, "inputs", &inputs);
    json_set(request, "outputs", &outputs);
    char *text = json_print(request, JSON_LINE, json_bytes);
    buf_add(body, text, *json_bytes);
    buf_add(body, raw.data, raw.bytes);
    mem_free(text);
    rc = buf_check(&raw, "request", e) < 0 ? -1 : buf_check(body, "request", e);
out:
    json_free(inputs);
    json_free(request);
    buf_done(&raw);
    return rc;
}

/* ---- answer ---- */

static int check_shape(const struct json *tensor, size_t n, struct err *e)
{
    int64_t shape[RANK_MAX];
    size_t rank;
    if (json_get_ints(tensor, "shape", 0, INT32_MAX, shape, RANK_MAX, &rank, e) < 0)
        return -1;
    if (rank == 0 || rank > 2 || shape[0] != (int64_t)n || (rank == 2 && shape[1] != 1))
        return err_set(e, ERR_INVALID, "shape is not [%zu] or [%zu,1]", n, n);
    return 0;
}

static double binary_value(enum dtype dtype, const uint8_t *at)
{
    double d;
    float f;
    int64_t i = 0;
    if (dtype == DTYPE_F64)
        return memcpy(&d, at, sizeof d), d;
    if (dtype_to_float(&f, dtype, at, 1) == 0)
        return (double)f;
    const int rc = dtype_to_int64(&i, dtype, at, 1);
    assert(rc == 0);
    (void)rc;
    return dtype == DTYPE_U64 ? (double)(uint64_t)i : (double)i;
}

struct answer {
    const uint8_t *raw; /* the bytes behind the JSON */
    size_t raw_bytes, raw_used;
};

static int read_binary(double *out, size_t n, enum dtype dtype, const struct json *parameters,
                       struct answer *a, struct err *e)
{
    int64_t bytes;
    const size_t one = dtype_bits(dtype) / 8;
    if (json_get_int(parameters, "binary_data_size", 0, INT32_MAX, &bytes, e) < 0)
        return -1;
    if ((size_t)bytes != n * one || a->raw_bytes - a->raw_used < (size_t)bytes)
        return err_set(e, ERR_INVALID,
                       "binary_data_size is %lld, wanted %zu of the %zu bytes that are left",
                       (long long)bytes, n * one, a->raw_bytes - a->raw_used);
    for (size_t i = 0; i < n; i++)
        out[i] = binary_value(dtype, a->raw + a->raw_used + i * one);
    a->raw_used += (size_t)bytes;
    return 0;
}

static int read_json_data(double *out, size_t n, const char *datatype, const struct json *tensor,
                          struct err *e)
{
    const struct json *data;
    if (json_get_list(tensor, "data", n, &data, e) < 0)
        return -1;
    if (json_count(data) != n)
        return err_set(e, ERR_INVALID, "%zu values, wanted %zu", json_count(data), n);
    for (size_t i = 0; i < n; i++) {
        const struct json *v = json_at(data, i);
        /* [[v], [v]] for [N,1], as some servers write it */
        if (json_is_list(v) && json_count(v) == 1)
            v = json_at(v, 0);
        bool b;
        if (strcmp(datatype, "BOOL") == 0 && json_as_bool(v, "value", &b, NULL) == 0)
            out[i] = b;
        else if (json_as_number(v, "value", -1e300, 1e300, &out[i], e) < 0)
            return err_wrap(e, "value %zu", i);
    }
    return 0;
}

/* The values of one output.  Binary tensors are taken in order, wanted or not. */
static int read_output(double *out, size_t n, const struct json *tensor, struct answer *a,
                       struct err *e)
{
    const char *datatype;
    const struct json *parameters;
    if (json_get_string(tensor, "datatype", 16, &datatype, e) < 0 ||
        json_get_object_or(tensor, "parameters", &parameters, e) < 0)
        return -1;
    const struct number_type *const type = number_type(datatype);
    if (type == NULL)
        return err_set(e, ERR_INVALID, "datatype %.16s is no number", datatype);
    if (check_shape(tensor, n, e) < 0)
        return -1;
    const bool binary = parameters != NULL && json_get(parameters, "binary_data_size") != NULL;
    if (binary && json_get(tensor, "data") != NULL)
        return err_set(e, ERR_INVALID, "both data and binary_data_size");
    if ((binary ? read_binary(out, n, type->dtype, parameters, a, e)
                : read_json_data(out, n, datatype, tensor, e)) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return err_set(e, ERR_NONFINITE, "value %zu is %g", i, out[i]);
    return 0;
}

/* Index of the output in (score, components...), or -1 for one that was not asked for. */
static int output_index(const struct oip_model *m, const char *name)
{
    if (strcmp(name, m->output) == 0)
        return 0;
    for (uint32_t i = 0; i < m->component_count; i++)
        if (strcmp(name, m->components[i]) == 0)
            return (int)i + 1;
    return -1;
}

static int keep_output(struct backend_score *scores, size_t n, const struct oip_model *m, int index,
                       const double *values, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (index > 0) {
            struct trajectory_component *c = &scores[i].components[index - 1];
            memcpy(c->name, m->components[index - 1], sizeof c->name);
            c->value = values[i];
            continue;
        }
        if (values[i] < m->score_min || values[i] > m->score_max)
            return err_set(e, ERR_INVALID, "score %zu is %g, outside %g..%g", i, values[i],
                           m->score_min, m->score_max);
        scores[i].value = values[i];
    }
    return 0;
}

static int read_outputs(struct backend_score *scores, size_t n, const struct oip_model *m,
                        const struct json *outputs, struct answer *a, struct err *e)
{
    bool seen[1 + BACKEND_COMPONENTS_MAX] = {false};
    double values[BACKEND_BATCH_MAX];
    for (size_t i = 0; i < json_count(outputs); i++) {
        const struct json *tensor = json_at(outputs, i);
        const char *name;
        if (!json_is_object(tensor))
            return err_set(e, ERR_INVALID, "output %zu is no object", i);
        if (json_get_string(tensor, "name", OIP_NAME_BYTES_MAX - 1, &name, e) < 0)
            return err_wrap(e, "output %zu", i);
        const int index = output_index(m, name);
        if (index < 0)
            return err_set(e, ERR_INVALID, "output %.100s was not asked for", name);
        if (seen[index])
            return err_set(e, ERR_INVALID, "output %.100s comes twice", name);
        seen[index] = true;
        if (read_output(values, n, tensor, a, e) < 0 ||
            keep_output(scores, n, m, index, values, e) < 0)
            return err_wrap(e, "output %.100s", name);
    }
    for (uint32_t i = 0; i <= m->component_count; i++)
        if (!seen[i])
            return err_set(e, ERR_INVALID, "output %s is missing",
                           i == 0 ? m->output : m->components[i - 1]);
    return 0;
}

int oip_read_answer(struct backend_score *scores, size_t n, const struct oip_model *m,
                    const char *id, const void *body, size_t bytes, size_t json_bytes,
                    struct err *e)
{
    assert(n > 0 && n <= BACKEND_BATCH_MAX);
    if (json_bytes > bytes)
        return err_set(e, ERR_INVALID, "answer: %zu bytes of JSON were announced, %zu bytes came",
                       json_bytes, bytes);
    struct json *v = NULL;
    if (json_parse(&v, body, json_bytes, json_bytes, e) < 0)
        return err_wrap(e, "answer");
    struct answer a = {.raw = (const uint8_t *)body + json_bytes, .raw_bytes = bytes - json_bytes};
    const struct json *outputs;
    const char *echoed;
    int rc = -1;
    memset(scores, 0, n * sizeof *scores);
    for (size_t i = 0; i < n; i++)
        scores[i].component_count = m->component_count;
    char said[OIP_SAID_BYTES];
    if (!json_is_object(v))
        err_set(e, ERR_INVALID, "a list, not an object");
    else if (oip_said_error(said, sizeof said, v))
        err_set(e, ERR_INVALID, "the service says: %s", said);
    else if (json_get_string_or(v, "id", OIP_ID_BYTES_MAX, id, &echoed, e) < 0)
        ;
    else if (echoed[0] != 0 && strcmp(echoed, id) != 0)
        err_set(e, ERR_INVALID, "it answers request %.64s", echoed);
    else if (json_get_list(v, "outputs", OIP_TENSORS_MAX, &outputs, e) == 0 &&
             read_outputs(scores, n, m, outputs, &a, e) == 0) {
        if (a.raw_used == a.raw_bytes)
            rc = 0;
        else
            err_set(e, ERR_INVALID, "%zu bytes too many", a.raw_bytes - a.raw_used);
    }
    json_free(v);
    return rc < 0 ? err_wrap(e, "answer") : 0;
}

/* null, false, 0, "", [] and {} are ways to say that there is none. */
static bool is_nothing(const struct json *v)
{
    bool flag;
    int64_t number;
    const char *text;
    if (json_is_object(v) || json_is_list(v))
        return json_count(v) == 0;
    return strcmp(json_type_name(v), "null") == 0 || (json_as_bool(v, "", &flag, NULL) == 0 && !flag) ||
           json_as_int(v, "", 0, 0, &number, NULL) == 0 || (json_as_string(v, "", SIZE_MAX, &text, NULL) == 0 && text[0] == 0);
}

bool oip_said_error(char *out, size_t out_bytes, const struct json *answer)
{
    const struct json *const error = json_is_object(answer) ? json_get(answer, "error") : NULL;
    const char *text = "";
    char *printed = NULL;
    out[0] = 0;
    if (error == NULL || is_nothing(error))
        return false;
    if (json_as_string(error, "error", SIZE_MAX, &text, NULL) < 0 && !(json_is_object(error) && json_get_string(error, "message", SIZE_MAX, &text, NULL) == 0))
        text = printed = json_print(error, JSON_LINE, NULL);
    snprintf(out, out_bytes, "%s", text);
    mem_free(printed);
    for (char *p = out; *p != 0; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return true;
}

void oip_read_error(char *out, size_t out_bytes, const void *body, size_t bytes)
{
    struct json *v = NULL;
    out[0] = 0;
    if (bytes == 0 || json_parse(&v, body, bytes, 64u << 10, NULL) < 0)
        return;
    oip_said_error(out, out_bytes, v);
    json_free(v);
}

/* ---- Retry-After ---- */

/* Days from 1970-01-01 in the proleptic Gregorian calendar. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    const int64_t era = y / 400, yoe = y - era * 400;
    const int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", the one form that HTTP/1.1 lets a sender write. */
static bool parse_http_date(const char *text, int64_t *unix_s)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int day, year, hour, minute, second, used = 0;
    char month[4];
    if (sscanf(text, "%*3c, %2d %3c %4d %2d:%2d:%2d GMT%n", &day, month, &year, &hour, &minute,
               &second, &used) != 6 ||
        used == 0 || text[used] != 0)
        return false;
    month[3] = 0;
    const char *at = strstr(months, month);
    if (at == NULL || (at - months) % 3 != 0 || day < 1 || day > 31 || year < 1970 || hour < 0 ||
        hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    *unix_s = days_from_civil(year, (at - months) / 3 + 1, day) * 86400 + hour * 3600 +
              minute * 60 + second;
    return true;
}

int64_t oip_retry_after_s(const char *value, int64_t now_unix_s, int64_t cap_s)
{
    while (*value == ' ')
        value++;
    const size_t digits = strspn(value, "0123456789");
    int64_t when, seconds;
    if (digits > 0 && value[digits] == 0)
        seconds = digits > 9 ? cap_s : (int64_t)strtol(value, NULL, 10);
    else if (parse_http_date(value, &when))
        seconds = when > now_unix_s ? when - now_unix_s : 0;
    else
        return -1;
    return seconds < cap_s ? seconds : cap_s;
}
