#include "scorer/oip.h"

#include "base/json.h"
#include "base/mem.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#define IN(x)                                                                                      \
    "{\"inputs\":[" x "],\"outputs\":[{\"name\":\"score\",\"datatype\":\"FP32\",\"shape\":[-1]}]}"
#define OUT(x) "{\"inputs\":[" IMAGE "],\"outputs\":[" x "]}"
#define IMAGE "{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":[-1,64,64,3]}"
#define PROMPT "{\"name\":\"prompt\",\"datatype\":\"BYTES\",\"shape\":[-1]}"

static struct reward_params params;
static struct oip_model model;

static int read_metadata(const char *text, struct err *e)
{
    params.score_min = -10;
    params.score_max = 10;
    return oip_read_metadata(&model, text, strlen(text), &params, e);
}

START_TEST(metadata_says_which_tensor_takes_what)
{
    static const struct {
        const char *text;
        enum oip_images images;
        const char *image, *prompt, *metadata, *output;
        uint32_t components;
    } cases[] = {
        {IN(IMAGE "," PROMPT), OIP_NHWC, "image", "prompt", "", "score", 0},
        {IN("{\"name\":\"x\",\"datatype\":\"UINT8\",\"shape\":[-1,3,-1,-1]}"), OIP_NCHW, "x", "",
         "", "score", 0},
        {IN("{\"name\":\"image_png\",\"datatype\":\"BYTES\",\"shape\":[-1,1]}," PROMPT), OIP_PNG,
         "image_png", "prompt", "", "score", 0},
        {IN(IMAGE ",{\"name\":\"meta_data\",\"datatype\":\"BYTES\",\"shape\":[-1]},{\"name\":"
                  "\"text\",\"datatype\":\"BYTES\",\"shape\":[-1]}"),
         OIP_NHWC, "image", "text", "meta_data", "score", 0},
        {OUT("{\"name\":\"quality\",\"datatype\":\"FP64\",\"shape\":[-1,1]}"), OIP_NHWC, "image",
         "", "", "quality", 0},
        {OUT("{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1]},{\"name\":\"reward\","
             "\"datatype\":\"FP32\",\"shape\":[-1]},"
             "{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]},{\"name\":\"embed\","
             "\"datatype\":\"FP32\",\"shape\":[-1,512]}"),
         OIP_NHWC, "image", "", "", "reward", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        memset(&params, 0, sizeof params);
        ck_assert_msg(read_metadata(cases[i].text, &e) == 0, "case %zu: %s", i, e.text);
        ck_assert_int_eq(model.images, cases[i].images);
        ck_assert_str_eq(model.image_input, cases[i].image);
        ck_assert_str_eq(model.prompt_input, cases[i].prompt);
        ck_assert_str_eq(model.metadata_input, cases[i].metadata);
        ck_assert_str_eq(model.output, cases[i].output);
        ck_assert_uint_eq(model.component_count, cases[i].components);
    }
}
END_TEST

START_TEST(metadata_that_leaves_a_question_open_is_refused)
{
    static const char *const bad[] = {
        "[]",
        "{}",
        "nonsense",
        IN(PROMPT),
        IN(IMAGE ",{\"name\":\"seed\",\"datatype\":\"INT64\",\"shape\":[-1]}"),
        IN(IMAGE "," IMAGE),
        OUT(""),
        OUT("{\"name\":\"label\",\"datatype\":\"BYTES\",\"shape\":[-1]}"),
        OUT("{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1]},{\"name\":\"b\",\"datatype\":"
            "\"FP32\",\"shape\":[-1]}"),
    };
    memset(&params, 0, sizeof params);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(read_metadata(bad[i], NULL) == -1, "case %zu: %s", i, bad[i]);
    snprintf(params.output, sizeof params.output, "b");
    ck_assert_int_eq(read_metadata(bad[8], NULL), 0); /* the settings answer it */
    ck_assert_str_eq(model.output, "b");
}
END_TEST

static uint8_t red[2 * 2 * 3] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static void write_request(struct buf *b, size_t *json_bytes, const char *metadata, bool binary)
{
    struct err e = {0};
    memset(&params, 0, sizeof params);
    params.binary = binary;
    ck_assert_msg(read_metadata(metadata, &e) == 0, "%s", e.text);
    const struct backend_item items[2] = {
        {.rgb = red, .height = 2, .width = 2, .prompt = "one", .metadata = "{}", .tag = ""},
        {.rgb = red, .height = 2, .width = 2, .prompt = "two", .metadata = "", .tag = ""}};
    buf_init(b, 1 << 20);
    ck_assert_msg(oip_write_request(b, json_bytes, &model, "r1", items, 2, &e) == 0, "%s", e.text);
}

START_TEST(a_binary_request_is_json_then_tensors_in_order)
{
    struct buf b;
    size_t n;
    write_request(&b, &n,
                  IN("{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":[-1,3,-1,-1]}," PROMPT),
                  true);
    struct json *v = NULL;
    ck_assert_int_eq(json_parse(&v, b.data, n, 1 << 20, NULL), 0);
    json_free(v);
    ck_assert_uint_eq(b.bytes - n, 2 * 12 + 2 * (4 + 3));
    static const uint8_t planes[] = {1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12};
    ck_assert_mem_eq(b.data + n, planes, 12);
    ck_assert_mem_eq(b.data + n + 24, "\3\0\0\0one\3\0\0\0two", 14);
    ck_assert_ptr_nonnull(strstr(b.data, "\"shape\":[2,3,2,2]"));
    ck_assert_ptr_nonnull(strstr(b.data, "\"binary_data_size\":24"));
    buf_done(&b);
}
END_TEST

START_TEST(a_json_request_holds_the_values)
{
    struct buf b;
    size_t n;
    write_request(&b, &n, IN(IMAGE "," PROMPT), false);
    ck_assert_uint_eq(n, b.bytes);
    ck_assert_ptr_nonnull(strstr(b.data, "\"data\":[1,2,3,4,5,6,7,8,9,10,11,12,1,2"));
    ck_assert_ptr_nonnull(strstr(b.data, "[\"one\",\"two\"]"));
    buf_done(&b);
    write_request(&b, &n, IN("{\"name\":\"image_png\",\"datatype\":\"BYTES\",\"shape\":[-1,1]}"),
                  false);
    ck_assert_ptr_nonnull(strstr(b.data, "\"shape\":[2,1]"));
    ck_assert_ptr_nonnull(strstr(b.data, "iVBORw0KGgo")); /* a PNG's beginning in base64 */
    buf_done(&b);
}
END_TEST

START_TEST(datatypes_of_answers_are_read_as_they_are)
{
    static const struct {
        const char *type, *raw;
        size_t one;
        double want;
    } cases[] = {
        {"FP32", "\0\0\0\x3f", 4, 0.5},
        {"FP16", "\x00\xc1", 2, -2.5},
        {"BF16", "\x20\xc0", 2, -2.5},
        {"FP64", "\0\0\0\0\0\0\xe0\xbf", 8, -0.5},
        {"INT8", "\xff", 1, -1},
        {"UINT8", "\x07", 1, 7},
        {"INT16", "\xfe\xff", 2, -2},
        {"UINT16", "\x05\0", 2, 5},
        {"INT32", "\xfd\xff\xff\xff", 4, -3},
        {"INT64", "\xfc\xff\xff\xff\xff\xff\xff\xff", 8, -4},
        {"UINT64", "\x09\0\0\0\0\0\0\0", 8, 9},
        {"BOOL", "\x01", 1, 1},
    };
    memset(&params, 0, sizeof params);
    ck_assert_int_eq(read_metadata(IN(IMAGE), NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[512];
        struct backend_score s[1];
        struct err e = {0};
        const int n =
            snprintf(body, sizeof body,
                     "{\"outputs\":[{\"name\":\"score\",\"shape\":[1,1],\"datatype\":\"%s\","
                     "\"parameters\":{\"binary_data_size\":%zu}}]}",
                     cases[i].type, cases[i].one);
        memcpy(body + n, cases[i].raw, cases[i].one);
        ck_assert_msg(
            oip_read_answer(s, 1, &model, "r", body, (size_t)n + cases[i].one, (size_t)n, &e) == 0,
            "%s: %s", cases[i].type, e.text);
        ck_assert_msg(s[0].value == cases[i].want, "%s: %g", cases[i].type, s[0].value);
        ck_assert_int_eq(
            oip_read_answer(s, 1, &model, "r", body, (size_t)n + cases[i].one - 1, (size_t)n, &e),
            -1);
        ck_assert_int_eq(oip_read_answer(s, 1, &model, "r", body, (size_t)n, (size_t)n + 1, &e),
                         -1);
    }
}
END_TEST

START_TEST(retry_after_is_seconds_or_a_date_and_capped)
{
    const int64_t now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
    static const struct {
        const char *text;
        int64_t want;
    } cases[] = {
        {"0", 0},
        {"7", 7},
        {" 30", 30},
        {"600", 60},
        {"99999999999999999999", 60},
        {"-1", -1},
        {"1.5", -1},
        {"", -1},
        {"soon", -1},
        {"Sun, 06 Nov 1994 08:49:47 GMT", 10},
        {"Sun, 06 Nov 1994 08:49:27 GMT", 0},
        {"Mon, 07 Nov 1994 08:49:37 GMT", 60},
        {"Sun, 06 Nov 1994 08:49:47 CET", -1},
        {"Sun, 06 Foo 1994 08:49:47 GMT", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(oip_retry_after_s(cases[i].text, now, 60) == cases[i].want, "%s: %lld",
                      cases[i].text, (long long)oip_retry_after_s(cases[i].text, now, 60));
}
END_TEST

SUITE("scorer/oip", 10, metadata_says_which_tensor_takes_what,
      metadata_that_leaves_a_question_open_is_refused,
      a_binary_request_is_json_then_tensors_in_order, a_json_request_holds_the_values,
      datatypes_of_answers_are_read_as_they_are, retry_after_is_seconds_or_a_date_and_capped)
