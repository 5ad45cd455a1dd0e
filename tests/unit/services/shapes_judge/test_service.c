#include "shapes_judge/service.h"

#include "base/json.h"
#include "base/mem.h"
#include "shapes/world.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#define INFER "/v2/models/shapes-judge/infer"

static struct judge_service *service;
static struct service_reply reply;

static int ask(const char *method, const char *path, const void *body, size_t bytes,
               const char *json_bytes)
{
    buf_done(&reply.body);
    reply = (struct service_reply){0};
    buf_init(&reply.body, 1 << 20);
    if (service == NULL)
        service = service_new(1, 8);
    service_answer(service, &(struct service_request){method, path, body, bytes, json_bytes},
                   &reply);
    return reply.status;
}

static int post(const char *text)
{
    return ask("POST", INFER, text, strlen(text), NULL);
}

/* A red square on grey, as the request's image; binary puts it behind the JSON. */
static size_t write_request(char *out, size_t bytes, bool binary, size_t *json_bytes)
{
    uint8_t rgb[WORLD_RGB_BYTES];
    for (int y = 0; y < WORLD_SIDE; y++)
        for (int x = 0; x < WORLD_SIDE; x++) {
            const bool in = x >= 20 && x < 44 && y >= 20 && y < 44;
            memcpy(rgb + 3 * (WORLD_SIDE * y + x), in ? "\xd0\x20\x20" : "\xc0\xc0\xc0", 3);
        }
    size_t n = (size_t)snprintf(out, bytes,
                                "{\"id\":\"7\",\"inputs\":[{\"name\":\"image\",\"shape\":[1,64,64,"
                                "3],\"datatype\":\"UINT8\",");
    if (binary) {
        n += (size_t)snprintf(out + n, bytes - n,
                              "\"parameters\":{\"binary_data_size\":%d}},{\"name\":\"prompt\","
                              "\"shape\":[1],\"datatype\":"
                              "\"BYTES\",\"parameters\":{\"binary_data_size\":16}}],\"parameters\":"
                              "{\"binary_data_output\":true}}",
                              WORLD_RGB_BYTES);
        *json_bytes = n;
        memcpy(out + n, rgb, sizeof rgb);
        memcpy(out + n + sizeof rgb, "\x0c\0\0\0a red square", 16);
        return n + sizeof rgb + 16;
    }
    n += (size_t)snprintf(out + n, bytes - n, "\"data\":[");
    for (size_t i = 0; i < sizeof rgb; i++)
        n += (size_t)snprintf(out + n, bytes - n, "%s%d", i > 0 ? "," : "", rgb[i]);
    n += (size_t)snprintf(out + n, bytes - n,
                          "]},{\"name\":\"prompt\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":["
                          "\"a red square\"]}]}");
    *json_bytes = n;
    return n;
}

START_TEST(json_and_binary_requests_get_the_same_score)
{
    static char text[128 << 10];
    char length[24];
    size_t json_bytes;
    size_t n = write_request(text, sizeof text, false, &json_bytes);
    ck_assert_msg(ask("POST", INFER, text, n, NULL) == 200, "%s", buf_text(&reply.body));
    struct json *v = NULL;
    ck_assert_int_eq(json_parse(&v, reply.body.data, reply.body.bytes, 1 << 20, NULL), 0);
    const struct json *outputs = json_get(v, "outputs");
    ck_assert_uint_eq(json_count(outputs), 8);
    double score;
    ck_assert_int_eq(json_as_number(json_at(json_get(json_at(outputs, 0), "data"), 0), "score", 0,
                                    1, &score, NULL),
                     0);
    ck_assert_double_gt(score, 0.5);
    json_free(v);
    n = write_request(text, sizeof text, true, &json_bytes);
    snprintf(length, sizeof length, "%zu", json_bytes);
    ck_assert_msg(ask("POST", INFER, text, n, length) == 200, "%s", buf_text(&reply.body));
    float first;
    ck_assert_uint_eq(reply.body.bytes - reply.json_bytes, 8 * sizeof first);
    memcpy(&first, reply.body.data + reply.json_bytes, sizeof first);
    ck_assert_msg((float)score == first, "%g, %g", score, (double)first);
    /* one byte less, one more, and a length that is none */
    ck_assert_int_eq(ask("POST", INFER, text, n - 1, length), 400);
    ck_assert_int_eq(ask("POST", INFER, text, n + 1, length), 400);
    ck_assert_int_eq(ask("POST", INFER, text, n, "12x"), 400);
    ck_assert_int_eq(ask("POST", INFER, text, n, "999999999"), 400);
}
END_TEST

START_TEST(what_is_not_understood_whole_is_refused_with_the_reason)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", ""},
        {"[]", "list"},
        {"{}", "inputs"},
        {"{\"inputs\":[]}", "image is missing"},
        {"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[1]}]}",
         "input x is unknown"},
        {"{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,64,64,3]}]}", "FP32"},
        {"{\"inputs\":[{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":[1,32,32,3],\"data\":[]"
         "}]}",
         "[N,64,64,3]"},
        {"{\"inputs\":[{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":[9,64,64,3],\"data\":[]"
         "}]}",
         "at most 8"},
        {"{\"inputs\":[{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":[1,64,64,3],\"data\":["
         "1]}]}",
         "1 values"},
        {"{\"inputs\":[{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":[1,64,64,3],"
         "\"parameters\":{\"binary_data_size\":12288}}]}",
         "0 bytes are left"},
        {"{\"inputs\":[{\"name\":\"prompt\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[\"a "
         "purple elephant\"]}]}",
         "element 0"},
        {"{\"inputs\":[{\"name\":\"prompt\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"a "
         "circle\"]}]}",
         "1 values"},
        {"{\"inputs\":[],\"outputs\":[{\"name\":\"grade\"}]}", "grade"},
        {"{\"inputs\":[],\"inputs\":[]}", "uplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(post(cases[i].text) == 400, "case %zu: %d", i, reply.status);
        ck_assert_msg(strstr(buf_text(&reply.body), cases[i].reason) != NULL, "case %zu: %s", i,
                      buf_text(&reply.body));
        ck_assert_int_eq(strncmp(buf_text(&reply.body), "{\"error\":", 9), 0);
    }
}
END_TEST

START_TEST(paths_and_methods_are_answered_as_the_protocol_says)
{
    static const struct {
        const char *method, *path;
        int status;
    } cases[] = {
        {"GET", "/v2", 200},
        {"GET", "/v2/health/live", 200},
        {"GET", "/v2/health/ready", 200},
        {"GET", "/v2/models/shapes-judge", 200},
        {"GET", "/v2/models/shapes-judge/ready", 200},
        {"GET", "/v2/models/shapes-judge/versions/1", 200},
        {"GET", "/healthz", 200},
        {"GET", "/metrics", 200},
        {"GET", "/v2/models/shapes-judge2", 404},
        {"GET", "/v2/models/shapes-judge/versions/12", 404},
        {"GET", INFER, 404},
        {"POST", "/v2/models/other/infer", 404},
        {"PUT", INFER, 405},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(ask(cases[i].method, cases[i].path, NULL, 0, NULL) == cases[i].status,
                      "%s %s: %d", cases[i].method, cases[i].path, reply.status);
}
END_TEST

SUITE("shapes_judge/service", 20, json_and_binary_requests_get_the_same_score,
      what_is_not_understood_whole_is_refused_with_the_reason,
      paths_and_methods_are_answered_as_the_protocol_says)
