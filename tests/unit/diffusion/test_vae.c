#include "diffusion/vae.h"

#include "support/gradcheck.h"
#include "support/suite.h"

#include <string.h>

static int parse(struct vae_config *c, const char *text, struct err *e)
{
    struct json *j;
    ck_assert_msg(json_parse(&j, text, strlen(text), 1 << 16, e) == 0, "%s", e->text);
    const int rc = vae_config_parse(c, j, e);
    json_free(j);
    return rc;
}

static const char *const stable_diffusion =
    "{\"block_out_channels\": [128, 256, 512, 512], \"layers_per_block\": 2, \"sample_size\": 512,"
    "\"force_upcast\": true}";

START_TEST(stable_diffusion_has_its_published_parameter_count)
{
    struct vae_config c;
    struct err e;
    ck_assert_msg(parse(&c, stable_diffusion, &e) == 0, "%s", e.text);
    ck_assert(c.scaling_factor == 0.18215 && c.latent_channels == 4 && vae_factor(&c) == 8);
    struct params *const p = params_new();
    vae_declare(p, &c);
    ck_assert_uint_eq(params_count(p, false), 83653863);
    ck_assert_int_ne(params_find(p, "decoder.mid_block.attentions.0.to_out.0.bias"), PARAM_NONE);
    ck_assert_int_ne(params_find(p, "encoder.down_blocks.2.resnets.0.conv_shortcut.weight"),
                     PARAM_NONE);
    params_free(p);
}
END_TEST

START_TEST(options_of_the_config_change_the_network)
{
    struct vae_config c;
    struct err e;
    const char *const text =
        "{\"block_out_channels\": [8], \"norm_num_groups\": 4, \"mid_block_add_attention\": false,"
        "\"use_quant_conv\": false, \"use_post_quant_conv\": false}";
    ck_assert_msg(parse(&c, text, &e) == 0, "%s", e.text);
    struct params *const p = params_new();
    vae_declare(p, &c);
    ck_assert_int_eq(params_find(p, "quant_conv.weight"), PARAM_NONE);
    ck_assert_int_eq(params_find(p, "post_quant_conv.weight"), PARAM_NONE);
    ck_assert_int_eq(params_find(p, "decoder.mid_block.attentions.0.to_q.weight"), PARAM_NONE);
    params_free(p);
}
END_TEST

START_TEST(what_is_not_implemented_is_refused_by_field_and_value)
{
    static const char *const cases[][3] = {
        {"{\"act_fn\": \"relu\"}", "act_fn", "relu"},
        {"{\"shift_factor\": 0.0609}", "shift_factor", "0.0609"},
        {"{\"_class_name\": \"VQModel\"}", "_class_name", "VQModel"},
        {"{\"block_out_channels\": [8], \"norm_num_groups\": 4, \"up_block_types\": "
         "[\"AttnUpDecoderBlock2D\"]}",
         "up_block_types", "AttnUpDecoderBlock2D"},
        {"{\"block_out_channels\": [10]}", "block_out_channels", "10"},
        {"{\"scaling_factor\": 0}", "scaling_factor", "0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vae_config c;
        struct err e = {0};
        ck_assert_msg(parse(&c, cases[i][0], &e) < 0, "%s was accepted", cases[i][0]);
        ck_assert_msg(strstr(e.text, cases[i][1]) != NULL && strstr(e.text, cases[i][2]) != NULL,
                      "%s: %s", cases[i][0], e.text);
    }
}
END_TEST

START_TEST(images_and_latents_differ_by_the_factor)
{
    const struct vae_config c = {.in_channels = 3,
                                 .out_channels = 3,
                                 .latent_channels = 4,
                                 .levels = 3,
                                 .channels = {4, 4, 8},
                                 .layers = 1,
                                 .norm_groups = 4,
                                 .mid_attention = true,
                                 .quant_conv = true,
                                 .post_quant_conv = true};
    const struct vae_shape image = {&c, 24, 16, 0}, latent = {&c, 6, 4, 0};
    struct params *const p = params_new();
    struct graph *g = graph_new(p, 1, (struct graph_options){.mode = GRAPH_DECLARE});
    vae_encoder_build(g, &image);
    ck_assert_uint_eq(graph_output_numbers(g, 0), 6 * 4 * 8);
    graph_free(g);
    g = graph_new(p, 1, (struct graph_options){.mode = GRAPH_DECLARE});
    vae_decoder_build(g, &latent);
    ck_assert_uint_eq(graph_output_numbers(g, 0), 24 * 16 * 3);
    graph_free(g);
    params_free(p);
}
END_TEST

SUITE("diffusion/vae", 20, stable_diffusion_has_its_published_parameter_count,
      options_of_the_config_change_the_network,
      what_is_not_implemented_is_refused_by_field_and_value,
      images_and_latents_differ_by_the_factor)
