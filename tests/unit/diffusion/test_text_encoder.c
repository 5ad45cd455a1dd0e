#include "diffusion/text_encoder.h"

#include "nn/runner.h"
#include "support/gradcheck.h"
#include "support/suite.h"

#include <string.h>

static int parse(struct text_config *c, const char *text, struct err *e)
{
    struct json *j;
    ck_assert_msg(json_parse(&j, text, strlen(text), 1 << 16, e) == 0, "%s", e->text);
    const int rc = text_config_parse(c, j, e);
    json_free(j);
    return rc;
}

START_TEST(clip_has_its_published_parameter_count)
{
    struct text_config c;
    struct err e;
    ck_assert_msg(
        parse(&c,
              "{\"hidden_size\": 768, \"intermediate_size\": 3072, \"num_hidden_layers\": 12,"
              "\"num_attention_heads\": 12, \"bos_token_id\": 0, \"eos_token_id\": 2}",
              &e) == 0,
        "%s", e.text);
    ck_assert(c.act == ACT_QUICK_GELU && c.positions == 77 && c.vocabulary == 49408);
    struct params *const p = params_new();
    text_encoder_declare(p, &c);
    ck_assert_uint_eq(params_count(p, false), 123060480);
    ck_assert_uint_eq(params_length(p), 196);
    params_free(p);
}
END_TEST

START_TEST(what_is_not_implemented_is_refused_by_field_and_value)
{
    static const char *const cases[][3] = {
        {"{\"hidden_act\": \"relu\"}", "hidden_act", "relu"},
        {"{\"model_type\": \"t5\"}", "model_type", "t5"},
        {"{\"hidden_size\": 100, \"num_attention_heads\": 8}", "hidden_size", "100"},
        {"{\"attention_dropout\": 0.1}", "attention_dropout", "0.1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text_config c;
        struct err e = {0};
        ck_assert_msg(parse(&c, cases[i][0], &e) < 0, "%s was accepted", cases[i][0]);
        ck_assert_msg(strstr(e.text, cases[i][1]) != NULL && strstr(e.text, cases[i][2]) != NULL,
                      "%s: %s", cases[i][0], e.text);
    }
}
END_TEST

#define L 6
#define WIDTH 8

/* The mask is causal: a later word changes nothing before it, and everything after. */
START_TEST(a_position_sees_itself_and_what_came_before)
{
    const struct text_config c = {.vocabulary = 20,
                                  .width = WIDTH,
                                  .intermediate = 16,
                                  .layers = 2,
                                  .heads = 2,
                                  .positions = L,
                                  .act = ACT_GELU,
                                  .norm_eps = 1e-5};
    const struct text_shape s = {&c, L};
    int32_t ids[2 * L] = {1, 2, 3, 4, 5, 6, 1, 2, 3, 14, 5, 6};
    real out[2 * L * WIDTH];
    struct err e;
    struct pool *pool;
    struct params *const p = params_new();
    text_encoder_declare(p, &c);
    ck_assert(params_seal(p, &e) == 0 && pool_new(&pool, 1, &e) == 0);
    params_init(p, 0, 3);
    struct runner *const r = runner_new(
        (struct runner_options){.pool = pool, .params = p, .build = text_encoder_build, .arg = &s});
    ck_assert(runner_infer(r, (const void *const[]){ids}, (real *const[]){out}, 2, &e) == 0);
    for (size_t l = 0; l < L; l++) {
        const bool same = memcmp(out + l * WIDTH, out + (L + l) * WIDTH, WIDTH * sizeof(real)) == 0;
        ck_assert_msg(same == (l < 3), "position %zu", l);
    }
    runner_free(r);
    pool_free(pool);
    params_free(p);
}
END_TEST

SUITE("diffusion/text_encoder", 20, clip_has_its_published_parameter_count,
      what_is_not_implemented_is_refused_by_field_and_value,
      a_position_sees_itself_and_what_came_before)
