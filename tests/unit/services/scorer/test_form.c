/* Forms of reward services: what is asked, and which answers are taken. */
#include "scorer/form.h"

#include "base/config.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "scorer/pickle.h"
#include "support/folder.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

static struct reward_params params;
static struct config *config;
static struct form form;

/* The form of these settings ("reward.key=value", NULL-ended), or NULL with the error. */
static struct form *open_form(struct err *e, const char *const *settings)
{
    static const struct config_app app = {.name = "test"};
    const struct config_binding bindings[] = {{&reward_table, &params}};
    char *const none[] = {(char *)(uintptr_t) "test", NULL};
    config_free(config);
    config = config_new(&app, bindings, 1);
    ck_assert_int_eq(config_load(config, 1, none, NULL, e), 0);
    for (; *settings != NULL; settings++) {
        char key[64];
        const size_t n = strcspn(*settings, "=");
        snprintf(key, sizeof key, "%.*s", (int)n, *settings);
        ck_assert_msg(config_put(config, key, *settings + n + 1, "test", e) == 0, "%s", e->text);
    }
    form_close(&form);
    return form_open(&form, &params, e) < 0 ? NULL : &form;
}
#define OPEN(e, ...) open_form((e), (const char *const[]){__VA_ARGS__, NULL})

static uint8_t black[2 * 2 * 3];
static const struct backend_item items[] = {
    {.rgb = black, .height = 2, .width = 2, .prompt = "a \"red\" star", .metadata = "{\"tag\":\"x\"}", .tag = "x"},
    {.rgb = black, .height = 2, .width = 2, .prompt = "two", .metadata = "", .tag = ""}};

/* The request of n items, its base64 cut out. */
static const char *request(size_t n)
{
    static char out[4096];
    struct err e;
    struct buf body;
    buf_init(&body, 1 << 20);
    struct form_request r = {.body = &body};
    ck_assert_msg(form.write(form.self, &r, "id7", items, n, &e) == 0, "%s", e.text);
    ck_assert_str_eq(r.content_type, "application/json");
    size_t at = 0;
    for (const char *c = buf_text(&body); *c != 0; c++) {
        if (strncmp(c, "iVBOR", 5) == 0) { /* how every PNG begins */
            at += (size_t)snprintf(out + at, sizeof out - at, "PNG");
            c += strcspn(c, "\"");
        }
        ck_assert_uint_lt(at, sizeof out - 2);
        out[at++] = *c;
    }
    out[at] = 0;
    buf_done(&body);
    return out;
}

static int answer(struct backend_score *scores, size_t n, const char *text, struct err *e)
{
    const struct form_answer a = {text, strlen(text), strlen(text)};
    return form.read(form.self, scores, n, "id7", &a, e);
}

START_TEST(presets_ask_as_their_services_expect)
{
    static const struct {
        const char *backend, *path, *request, *answer;
        size_t n;
    } cases[] = {
        {"json:unirl", "/score",
         "{\"requests\":[{\"history\":[{\"text\":\"a \\\"red\\\" "
         "star\",\"image_b64\":\"PNG\"}],\"required_rewards\":[\"m\"],"
         "\"metadata\":{\"tag\":\"x\"}},{\"history\":[{\"text\":\"two\",\"image_b64\":\"PNG\"}],"
         "\"required_rewards\":[\"m\"],"
         "\"metadata\":{}}]}",
         "{\"results\":[{\"m\":{\"score\":0.5}},{\"m\":{\"score\":0.25}}],\"errors\":[]}", 2},
        {"json:flow-factory", "/compute",
         "{\"prompt\":[\"a \\\"red\\\" star\",\"two\"],\"image\":[\"PNG\",\"PNG\"]}",
         "{\"rewards\":[0.5,0.25]}", 2},
        {"json:openrlhf", "/get_reward",
         "{\"query\":[\"a \\\"red\\\" star\",\"two\"],\"prompts\":[\"a \\\"red\\\" "
         "star\",\"two\"],\"images\":[\"PNG\",\"PNG\"]}",
         "{\"rewards\":[0.5,0.25],\"scores\":[1,1]}", 2},
        {"json:hf-endpoint", "",
         "{\"inputs\":\"PNG\",\"parameters\":{\"prompt\":\"a \\\"red\\\" star\"}}",
         "[{\"label\":\"good\",\"score\":0.5}]", 1},
        {"json:bentoml", "/score",
         "{\"images\":[\"PNG\",\"PNG\"],\"prompts\":[\"a \\\"red\\\" star\",\"two\"]}",
         "[0.5,0.25]", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        char backend[64];
        struct backend_score scores[2];
        snprintf(backend, sizeof backend, "reward.backend=%s", cases[i].backend);
        ck_assert_msg(OPEN(&e, backend, "reward.model=m") != NULL, "%s", e.text);
        ck_assert_str_eq(form.score_path, cases[i].path);
        ck_assert_uint_eq(form.items_max, cases[i].n == 1 ? 1 : BACKEND_BATCH_MAX);
        ck_assert_str_eq(request(cases[i].n), cases[i].request);
        ck_assert_msg(answer(scores, cases[i].n, cases[i].answer, &e) == 0, "%s: %s",
                      cases[i].backend, e.text);
        for (size_t k = 0; k < cases[i].n; k++)
            ck_assert_double_eq(scores[k].value, k == 0 ? 0.5 : 0.25);
    }
}
END_TEST

/* The request as the service's Python would see it, its JPEG files named. */
static const char *unpickled_request(size_t n)
{
    static char out[2048];
    struct err e;
    struct buf body;
    struct json *doc = NULL;
    buf_init(&body, 1 << 20);
    struct form_request r = {.body = &body};
    ck_assert_msg(form.write(form.self, &r, "id7", items, n, &e) == 0, "%s", e.text);
    ck_assert_str_eq(r.content_type, "application/octet-stream");
    /* bytes are no text: each file is cut down to "JPEG" where it lies */
    for (uint8_t *c = (uint8_t *)body.data; c + 8 < (uint8_t *)body.data + body.bytes; c++)
        if (c[0] == 'B' && c[5] == 0xff && c[6] == 0xd8) {
            const size_t length = c[1] | (size_t)c[2] << 8;
            memmove(c + 9, c + 5 + length,
                    (size_t)((uint8_t *)body.data + body.bytes - (c + 5 + length)));
            memcpy(c + 1, "\4\0\0\0JPEG", 8);
            body.bytes -= length - 4;
        }
    ck_assert_msg(pickle_read(&doc, body.data, body.bytes, &e) == 0, "%s", e.text);
    char *text = json_print(doc, JSON_LINE, NULL);
    snprintf(out, sizeof out, "%s", text);
    mem_free(text);
    json_free(doc);
    buf_done(&body);
    return out;
}

START_TEST(pickles_hold_what_their_servers_expect)
{
    static const struct {
        const char *backend, *request;
    } cases[] = {
        {"pickle:llava", "{\"images\":[\"JPEG\",\"JPEG\"],\"queries\":[[\"Answer concisely: what "
                         "is going on in this image?\"],"
                         "[\"Answer concisely: what is going on in this "
                         "image?\"]],\"answers\":[[\"The image contains a \\\"red\\\" star\"],"
                         "[\"The image contains two\"]]}"},
        {"pickle:deqa", "{\"images\":[\"JPEG\",\"JPEG\"]}"},
        {"pickle:geneval", "{\"images\":[\"JPEG\",\"JPEG\"],\"meta_datas\":[{\"tag\":\"x\"},{}],"
                           "\"only_strict\":false}"},
        {"pickle:unifiedreward",
         "{\"images\":[\"JPEG\",\"JPEG\"],\"prompts\":[\"a \\\"red\\\" star\",\"two\"]}"},
        {"pickle:verl-omni", "{\"images\":[\"JPEG\",\"JPEG\"],\"prompts\":[\"a \\\"red\\\" "
                             "star\",\"two\"],\"metadata\":{}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        char backend[64];
        snprintf(backend, sizeof backend, "reward.backend=%s", cases[i].backend);
        ck_assert_msg(OPEN(&e, backend) != NULL, "%s", e.text);
        ck_assert_str_eq(unpickled_request(2), cases[i].request);
    }
}
END_TEST

/* {"scores": [x, y]} and {"error": "..."} in protocol 3. */
START_TEST(a_pickled_answer_is_scores_or_a_refusal)
{
    struct err e = {0};
    struct backend_score scores[2];
    struct buf b;
    struct json *doc = NULL;
    ck_assert_msg(OPEN(&e, "reward.backend=pickle:verl-omni") != NULL, "%s", e.text);
    for (int good = 0; good < 2; good++) {
        const char *text = good ? "{\"scores\":[0.5,-0.25]}" : "{\"error\":\"CUDA out of memory\"}";
        buf_init(&b, 4096);
        ck_assert_int_eq(json_parse(&doc, text, strlen(text), 4096, &e), 0);
        pickle_begin(&b);
        pickle_json(&b, doc);
        pickle_end(&b);
        const struct form_answer a = {b.data, b.bytes, b.bytes};
        ck_assert_int_eq(form.read(form.self, scores, 2, "id7", &a, &e), good ? 0 : -1);
        if (good)
            ck_assert_double_eq(scores[1].value, -0.25);
        else
            ck_assert_ptr_nonnull(strstr(e.text, "CUDA out of memory"));
        json_free(doc);
        buf_done(&b);
    }
    ck_assert_int_eq(answer(scores, 2, "Traceback (most recent call last)", &e), -1);
}
END_TEST

START_TEST(a_template_of_ones_own_and_a_pointer)
{
    struct err e = {0};
    struct backend_score scores[2];
    ck_assert_msg(OPEN(&e, "reward.backend=json", "reward.path=/rate?v=2",
                       "reward.template={\"id\":\"$id\",\"n\":3,\"in\":[\"$each\",{\"uri\":\"data:"
                       "image/png;base64,$image\",\"of\":"
                       "\"$model: $prompt\"}]}",
                       "reward.scores=/out/*/1/?", "reward.model=m") != NULL,
                  "%s", e.text);
    ck_assert_str_eq(request(2),
                     "{\"id\":\"id7\",\"n\":3,\"in\":[{\"uri\":\"data:image/"
                     "png;base64,PNG\",\"of\":\"m: a \\\"red\\\" "
                     "star\"},{\"uri\":\"data:image/png;base64,PNG\",\"of\":\"m: two\"}]}");
    ck_assert_msg(answer(scores, 2, "{\"out\":[[\"x\",{\"v\":1}],[0,{\"w\":-2.5}]]}", &e) == 0,
                  "%s", e.text);
    ck_assert_double_eq(scores[1].value, -2.5);
}
END_TEST

START_TEST(a_digest_is_of_what_a_template_file_holds)
{
    static const char *const texts[] = {"{\"p\":[\"$each\",\"$prompt\"]}", "{ \"p\": [\"$each\", \"$prompt\"] }\n",
                                        "{\"q\":[\"$each\",\"$prompt\"]}"};
    const char *const path = in_test_folder("json");
    char setting[600];
    static const char *const backends[] = {"reward.backend=json", "reward.backend=json:unirl"};
    uint8_t digest[4][HASH_SHA256_BYTES];
    struct err e = {0};
    for (size_t k = 0; k < 2; k++) {
        snprintf(setting, sizeof setting, "reward.template=%s", path);
        for (size_t i = 0; i < 3; i++) {
            ck_assert_msg(file_replace(path, texts[i], strlen(texts[i]), 0644, &e) == 0, "%s", e.text);
            ck_assert_ptr_nonnull(OPEN(&e, backends[k], setting, "reward.scores=/s"));
            ck_assert_int_eq(form_digest(digest[i], &params, &e), 0);
        }
        ck_assert_mem_eq(digest[0], digest[1], HASH_SHA256_BYTES);
        ck_assert_mem_ne(digest[0], digest[2], HASH_SHA256_BYTES);
        ck_assert_ptr_nonnull(OPEN(&e, backends[k], setting, "reward.scores=/t"));
        ck_assert_int_eq(form_digest(digest[3], &params, &e), 0);
        ck_assert_mem_ne(digest[2], digest[3], HASH_SHA256_BYTES);
        snprintf(setting, sizeof setting, "reward.template=%s", texts[2]); /* the same in place */
        ck_assert_ptr_nonnull(OPEN(&e, backends[k], setting, "reward.scores=/s"));
        ck_assert_int_eq(form_digest(digest[3], &params, &e), 0);
        ck_assert_mem_eq(digest[2], digest[3], HASH_SHA256_BYTES);
    }
}
END_TEST

START_TEST(wrong_answers_are_refused_whole)
{
    static const struct {
        const char *answer, *want;
    } cases[] = {
        {"{\"rewards\":[0.5]}", "1 scores for 2 images"},
        {"{\"rewards\":[0.5,0.5,0.5]}", "3 scores for 2 images"},
        {"{\"rewards\":[0.5,null]}", "score 2 of 2"},
        {"{\"rewards\":[0.5,\"0.5\"]}", "score 2 of 2"},
        {"{\"rewards\":[0.5,1e999]}", ""},
        {"{\"rewards\":[0.5,NaN]}", ""},
        {"{\"rewards\":[0.5,11]}", "outside reward.score_min..score_max"},
        {"{\"rewards\":0.5}", "expected a list of 2 numbers"},
        {"{\"scores\":[0.5,0.5]}", "the answer has no rewards"},
        {"{\"error\":\"out of memory\"}", "the service says: out of memory"},
        {"{\"error\":{\"code\":500,\"message\":\"no\\nGPU\"},\"rewards\":[0,0]}", "the service says: no GPU"},
        {"{\"error\":{\"code\":500},\"rewards\":[0,0]}", "the service says: {\"code\":500}"},
        {"{\"error\":true,\"rewards\":[0,0]}", "the service says: true"},
        {"[]", "the answer has no rewards"},
        {"", ""},
        {"{\"rewards\":[0.5,0.5]} x", ""},
    };
    struct err e = {0};
    ck_assert_msg(OPEN(&e, "reward.backend=json:flow-factory", "reward.score_max=10") != NULL, "%s",
                  e.text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct backend_score scores[2];
        ck_assert_msg(answer(scores, 2, cases[i].answer, &e) == -1, "taken: %s", cases[i].answer);
        ck_assert_msg(strstr(e.text, cases[i].want) != NULL, "%s: got '%s' want '%s'",
                      cases[i].answer, e.text, cases[i].want);
    }
    /* what says that there is no error */
    static const char *const good[] = {"null", "false", "\"\"", "0", "[]", "{}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct backend_score scores[2];
        char text[80];
        snprintf(text, sizeof text, "{\"error\":%s,\"rewards\":[0.5,0.25]}", good[i]);
        ck_assert_msg(answer(scores, 2, text, &e) == 0, "%s: %s", text, e.text);
        ck_assert_double_eq(scores[1].value, 0.25);
    }
    /* however long the rest is */
    char *text = mem_new(200000, 1);
    const int n = snprintf(text, 200000, "{\"error\":\"oom\",\"pad\":\"");
    memset(text + n, 'x', 100000);
    snprintf(text + n + 100000, 1000, "\",\"rewards\":[0.5,0.25]}");
    struct backend_score scores[2];
    ck_assert_int_eq(answer(scores, 2, text, &e), -1);
    ck_assert_msg(strstr(e.text, "oom") != NULL, "%s", e.text);
    mem_free(text);
}
END_TEST

START_TEST(a_judge_is_asked_about_one_picture)
{
    struct err e = {0};
    ck_assert_msg(OPEN(&e, "reward.backend=openai-chat", "reward.model=vlm",
                       "reward.question=Is {prompt} here? {prompt}!") != NULL,
                  "%s", e.text);
    ck_assert_uint_eq(form.items_max, 1);
    ck_assert_str_eq(form.score_path, "/v1/chat/completions");
    ck_assert_str_eq(request(1),
                     "{\"model\":\"vlm\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                     "\"image_url\",\"image_url\":{"
                     "\"url\":\"data:image/png;base64,PNG\"}},{\"type\":\"text\",\"text\":\"Is a "
                     "\\\"red\\\" star here? a "
                     "\\\"red\\\" star!\"}]}],\"temperature\":0,\"max_tokens\":512}");
}
END_TEST

#define SAID(text) "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"" text "\"}}]}"

START_TEST(a_judges_number_is_the_last_match)
{
    static const struct {
        const char *answer;
        double want; /* -1: refused */
    } cases[] = {
        {SAID("7"), 7},
        {SAID("On a scale of 0 to 10 I say 4.5."), 4.5},
        {SAID("Final Score: 3\\nthank you"), 3},
        {SAID("7/10"), 7}, /* the scale is not the score */
        {SAID("Score: 3.5 / 10."), 3.5},
        {SAID("8.5/10.0"), 8.5},
        {SAID("First 4 out of 10, then better: I'd give it 2 out of 10"), 2},
        {"{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":\"5\"}}]}", 5},
        {"{\"choices\":[{\"finish_reason\":\"length\",\"message\":{\"content\":\"I count the stars: 1, 2\"}}]}", -1},
        {"{\"choices\":[{\"finish_reason\":\"content_filter\",\"message\":{\"content\":\"5\"}}]}", -1},
        {SAID("between 7-8"), 8},
        {SAID("I'd say...6"), 6},
        {SAID("Stars:3.Score:4"), 4},
        /* no part of a number is taken for it */
        {SAID("-3"), -1},
        {SAID("Score: \xe2\x88\x92 3, no: \xe2\x88\x92" "3"), -1},
        {SAID("Score: .5"), -1},
        {SAID("7,5/10"), -1},
        {SAID("no idea"), -1},
        {SAID(""), -1},
        {SAID("12"), -1}, /* beyond score_max */
        {"{\"choices\":[]}", -1},
        {"{\"choices\":[{\"message\":{\"content\":null}}]}", -1},
        {"{\"choices\":[7]}", -1},
        {"{\"error\":{\"message\":\"quota\"}}", -1},
        {"[]", -1},
    };
    struct err e = {0};
    ck_assert_msg(
        OPEN(&e, "reward.backend=openai-chat", "reward.model=vlm", "reward.score_max=10") != NULL,
        "%s", e.text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct backend_score score;
        const int rc = answer(&score, 1, cases[i].answer, &e);
        ck_assert_msg(rc == (cases[i].want < 0 ? -1 : 0), "%s: %d %s", cases[i].answer, rc, e.text);
        if (rc == 0)
            ck_assert_double_eq(score.value, cases[i].want);
    }
    ck_assert_msg(OPEN(&e, "reward.backend=openai-chat", "reward.model=vlm",
                       "reward.pattern=Final Score: ([1-5])") != NULL,
                  "%s", e.text);
    struct backend_score score;
    ck_assert_int_eq(answer(&score, 1, SAID("3 of 4. Final Score: 2 (of 5)"), &e), 0);
    ck_assert_double_eq(score.value, 2);
    ck_assert_int_eq(answer(&score, 1, SAID("3 of 4"), &e), -1);
}
END_TEST

START_TEST(a_judges_yes_is_its_probability)
{
#define TOP(list)                                                                                  \
    "{\"choices\":[{\"logprobs\":{\"content\":[{\"token\":\"Yes\",\"top_logprobs\":[" list "]}]}}" \
                                                                                           "]}"
#define T(token, logprob) "{\"token\":\"" token "\",\"logprob\":" logprob "}"
    struct err e = {0};
    struct backend_score score;
    ck_assert_msg(
        OPEN(&e, "reward.backend=openai-chat", "reward.model=vlm", "reward.judge=yes_no") != NULL,
        "%s", e.text);
    ck_assert_ptr_nonnull(
        strstr(request(1), "\"max_tokens\":1,\"logprobs\":true,\"top_logprobs\":20}"));
    /* .5 + .1 yes, .2 no, the rest is neither */
    ck_assert_msg(
        answer(&score, 1,
               TOP(T("Yes", "-0.6931471805599453") "," T(" yes.", "-2.302585092994046") "," T(
                   "NO", "-1.6094379124341003") "," T("Yesterday", "-3") "," T("nothing", "-3")),
               &e) == 0,
        "%s", e.text);
    ck_assert_double_eq_tol(score.value, 0.75, 1e-12);
    static const char *const bad[] = {TOP(T("maybe", "-0.1")),
                                      TOP(T("yes", "2")),
                                      TOP(T("yes", "null")),
                                      TOP("7"),
                                      TOP(""),
                                      SAID("Yes"),
                                      "{\"choices\":[{\"logprobs\":null}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(answer(&score, 1, bad[i], &e) == -1, "taken: %s", bad[i]);
}
END_TEST

START_TEST(one_file_a_call)
{
    struct err e = {0};
    struct backend_score score;
    struct buf body;
    for (int multipart = 0; multipart < 2; multipart++) {
        ck_assert_msg(OPEN(&e, multipart ? "reward.backend=multipart" : "reward.backend=raw",
                           "reward.path=/predictions/m", "reward.image_input=data",
                           "reward.score_max=10") != NULL,
                      "%s", e.text);
        ck_assert_uint_eq(form.items_max, 1);
        buf_init(&body, 1 << 20);
        struct form_request r = {.body = &body};
        ck_assert_msg(form.write(form.self, &r, "id7", items, 1, &e) == 0, "%s", e.text);
        if (multipart) {
            ck_assert_str_eq(r.content_type, "multipart/form-data; boundary=id7");
            const char *text = buf_text(&body);
            static const char begin[] =
                "--id7\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na \"red\" star\r\n"
                "--id7\r\nContent-Disposition: form-data; "
                "name=\"metadata\"\r\n\r\n{\"tag\":\"x\"}\r\n"
                "--id7\r\nContent-Disposition: form-data; name=\"data\"; filename=\"image.png\"\r\n"
                "Content-Type: image/png\r\n\r\n\x89PNG";
            ck_assert_mem_eq(text, begin, sizeof begin - 1);
            ck_assert_mem_eq(text + body.bytes - 11, "\r\n--id7--\r\n", 11);
        } else {
            ck_assert_str_eq(r.content_type, "image/png");
            ck_assert_str_eq(r.header, "X-Prompt: a %22red%22 star");
            ck_assert_mem_eq(body.data, "\x89PNG", 4);
        }
        buf_done(&body);
        ck_assert_msg(answer(&score, 1, "{\"score\":2.5}", &e) == 0, "%s", e.text);
        ck_assert_msg(answer(&score, 1, " 2.5\n", &e) == 0, "%s", e.text);
        ck_assert_double_eq(score.value, 2.5);
        static const char *const bad[] = {
            "", "2.5 x", "nan", "inf", "1e999", "11", "{\"score\":\"2\"}", "{}", "[1,2]"};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            ck_assert_msg(answer(&score, 1, bad[i], &e) == -1, "taken: %s", bad[i]);
    }
}
END_TEST

START_TEST(settings_that_cannot_work_are_refused)
{
    static const struct {
        const char *settings[4], *want;
    } cases[] = {
        {{"reward.backend=http"}, "reward.backend http is not known"},
        {{"reward.backend=json:other"},
         "known are unirl, flow-factory, openrlhf, hf-endpoint, bentoml"},
        {{"reward.backend=pickle:other"},
         "known are llava, deqa, geneval, unifiedreward, verl-omni"},
        {{"reward.backend=json"}, "needs reward.template"},
        {{"reward.backend=json", "reward.template={"}, "reward.template"},
        {{"reward.backend=json", "reward.template=/nowhere/x.json"}, "/nowhere/x.json"},
        {{"reward.backend=json", "reward.template={\"a\":[\"of $prompts\"]}"}, "$prompts is a list and cannot stand inside \"of $prompts\""},
        {{"reward.backend=json", "reward.template={\"a\":[\"$each\",{\"b\":\"$metadata!\"}]}"}, "$metadata is an object"},
        {{"reward.backend=json", "reward.template=[\"$promptsx\"]"}, "or write $prompt"},
        {{"reward.backend=json:bentoml", "reward.scores=rewards"}, "begin with /"},
        {{"reward.backend=json:bentoml", "reward.path=score"}, "begin with /"},
        {{"reward.backend=openai-chat", "reward.question=Well?"}, "{prompt}"},
        {{"reward.backend=openai-chat", "reward.pattern=("}, "reward.pattern"},
        {{"reward.backend=openai-chat", "reward.model="}, "reward.model"},
        {{"reward.backend=oip-v2", "reward.model=../x"}, "only letters"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        ck_assert_msg(open_form(&e, cases[i].settings) == NULL, "case %zu is taken", i);
        ck_assert_msg(strstr(e.text, cases[i].want) != NULL, "case %zu: got '%s' want '%s'", i,
                      e.text, cases[i].want);
    }
}
END_TEST

START_TEST(latents_are_asked_as_safetensors_in_planes)
{
    enum { H = 2, W = 3, C = 2, N = 2 };
    static float latent[N][H][W][C], planes[N][C][H][W], noise[N];
    struct backend_score scores[N];
    struct backend_item two[N];
    struct safetensors *f;
    struct buf body;
    struct err e;
    for (int i = 0; i < N * H * W * C; i++)
        ((float *)latent)[i] = (float)i;
    for (int i = 0; i < N; i++)
        two[i] = (struct backend_item){.latent = latent[i], .latent_height = H, .latent_width = W, .latent_channels = C,
                                       .prompt = i == 0 ? "a \"red\" star" : "two", .metadata = i == 0 ? "{\"k\":1}" : ""};
    ck_assert_msg(OPEN(&e, "reward.backend=latents", "reward.path=/score") != NULL, "%s", e.text);
    ck_assert(form.takes_latents);
    buf_init(&body, 1 << 20);
    struct form_request r = {.body = &body};
    ck_assert_msg(form.write(form.self, &r, "id7", two, N, &e) == 0, "%s", e.text);
    ck_assert_str_eq(r.content_type, "application/octet-stream");
    ck_assert_str_eq(r.header, "x-drm-protocol-version: 1");
    ck_assert_msg(safetensors_open_memory(&f, (const uint8_t *)buf_text(&body), body.bytes, "body", &e) == 0, "%s", e.text);
    ck_assert_msg(safetensors_load(f, "latents", (const int64_t[]){N, C, H, W}, 4, (float *)planes, &e) == 0, "%s", e.text);
    ck_assert_msg(safetensors_load(f, "u", (const int64_t[]){N}, 1, noise, &e) == 0, "%s", e.text);
    for (int n = 0; n < N; n++) {
        ck_assert(noise[n] == 0.0f);
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                for (int c = 0; c < C; c++)
                    ck_assert(planes[n][c][y][x] == latent[n][y][x][c]);
    }
    ck_assert_str_eq(safetensors_metadata(f, "prompts"), "[\"a \\\"red\\\" star\",\"two\"]");
    ck_assert_str_eq(safetensors_metadata(f, "metadatas"), "[{\"k\":1},{}]");
    safetensors_close(f);

    ck_assert_int_eq(answer(scores, N, "{\"protocol_version\":\"1\",\"raw_scores\":[0.25,-3]}", &e), 0);
    ck_assert(scores[0].value == 0.25 && scores[1].value == -3.0);
    ck_assert_int_eq(answer(scores, N, "{\"raw_scores\":[0.25,-3]}", &e), 0);
    ck_assert_int_eq(answer(scores, N, "{\"protocol_version\":\"2\",\"raw_scores\":[0.25,-3]}", &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "protocol_version 2"));
    ck_assert_int_eq(answer(scores, N, "{\"raw_scores\":[0.25]}", &e), -1);
    ck_assert_int_eq(answer(scores, N, "{\"raw_scores\":[0.25,null]}", &e), -1);

    ck_assert_int_eq(form.write(form.self, &r, "id7", items, 1, &e), -1); /* a picture */
    ck_assert_ptr_nonnull(strstr(e.text, "run.decode: no"));
    buf_done(&body);
}
END_TEST

SUITE("scorer/form", 20, presets_ask_as_their_services_expect,
      pickles_hold_what_their_servers_expect, a_pickled_answer_is_scores_or_a_refusal,
      a_template_of_ones_own_and_a_pointer, a_digest_is_of_what_a_template_file_holds, wrong_answers_are_refused_whole,
      a_judge_is_asked_about_one_picture, a_judges_number_is_the_last_match,
      a_judges_yes_is_its_probability, latents_are_asked_as_safetensors_in_planes, one_file_a_call, settings_that_cannot_work_are_refused)
