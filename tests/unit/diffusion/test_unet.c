#include "diffusion/unet.h"

#include "support/suite.h"

#include <string.h>

static int parse(struct unet_config *c, const char *text, struct err *e)
{
    struct json *j;
    ck_assert_msg(json_parse(&j, text, strlen(text), 1 << 16, e) == 0, "%s", e->text);
    const int rc = unet_config_parse(c, j, e);
    json_free(j);
    return rc;
}

START_TEST(absent_fields_have_the_class_defaults)
{
    struct unet_config c;
    struct err e;
    ck_assert_msg(parse(&c, "{\"attention_head_dim\": 8, \"some_new_field\": 3}", &e) == 0, "%s",
                  e.text);
    ck_assert_uint_eq(c.levels, 4);
    ck_assert_uint_eq(c.channels[3], 1280);
    ck_assert(c.down_attention[2] && !c.down_attention[3] && !c.up_attention[0] &&
              c.up_attention[1]);
    ck_assert_uint_eq(c.heads[0], 8);
    ck_assert_uint_eq(c.cross_attention_dim, 1280);
    ck_assert(!c.linear_projection && c.flip_sin_to_cos && c.norm_eps == 1e-5);
}
END_TEST

START_TEST(lists_and_single_numbers_are_both_read)
{
    struct unet_config c;
    struct err e;
    const char *const text =
        "{\"block_out_channels\": [64, 128], \"norm_num_groups\": 16, \"layers_per_block\": [1, 3],"
        "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"],"
        "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"],"
        "\"attention_head_dim\": [2, 4], \"transformer_layers_per_block\": 2,"
        "\"use_linear_projection\": true, \"act_fn\": \"silu\", \"mid_block_scale_factor\": 1.0}";
    ck_assert_msg(parse(&c, text, &e) == 0, "%s", e.text);
    ck_assert(c.heads[0] == 2 && c.heads[1] == 4 && c.layers[1] == 3 && c.depth[1] == 2);
    ck_assert(c.linear_projection && c.up_attention[0] && !c.up_attention[1]);
}
END_TEST

/* field and value must both be in the message */
static const struct {
    const char *text, *field, *value;
} refused[] = {
    {"{\"act_fn\": \"gelu\"}", "act_fn", "gelu"},
    {"{\"_class_name\": \"UNet2DModel\"}", "_class_name", "UNet2DModel"},
    {"{\"center_input_sample\": true}", "center_input_sample", "true"},
    {"{\"class_embed_type\": \"timestep\"}", "class_embed_type", "timestep"},
    {"{\"addition_embed_type\": \"text_time\"}", "addition_embed_type", "text_time"},
    {"{\"resnet_time_scale_shift\": \"scale_shift\"}", "resnet_time_scale_shift", "scale_shift"},
    {"{\"only_cross_attention\": [true, false]}", "only_cross_attention", "list"},
    {"{\"dual_cross_attention\": true}", "dual_cross_attention", "true"},
    {"{\"downsample_padding\": 0}", "downsample_padding", "0"},
    {"{\"conv_in_kernel\": 5}", "conv_in_kernel", "5"},
    {"{\"num_attention_heads\": 8}", "num_attention_heads", "8"},
    {"{\"mid_block_type\": null}", "mid_block_type", "null"},
    {"{\"down_block_types\": [\"AttnDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\", "
     "\"DownBlock2D\"]}",
     "down_block_types", "AttnDownBlock2D"},
    {"{\"block_out_channels\": [32, 48], \"norm_num_groups\": 32}", "block_out_channels", "48"},
    {"{\"attention_head_dim\": 7}", "block_out_channels", "7"},
    {"{\"attention_head_dim\": [5, 10]}", "attention_head_dim", "2"},
    {"{\"norm_eps\": \"small\"}", "norm_eps", "string"},
    {"{\"in_channels\": 0}", "in_channels", "0"},
};

START_TEST(what_is_not_implemented_is_refused_by_field_and_value)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct unet_config c;
        struct err e = {0};
        ck_assert_msg(parse(&c, refused[i].text, &e) < 0, "%s was accepted", refused[i].text);
        ck_assert_msg(strstr(e.text, refused[i].field) != NULL &&
                          strstr(e.text, refused[i].value) != NULL,
                      "%s: %s", refused[i].text, e.text);
    }
}
END_TEST

static size_t parameters(const char *text, size_t *tensors)
{
    struct unet_config c;
    struct err e;
    ck_assert_msg(parse(&c, text, &e) == 0, "%s", e.text);
    struct params *const p = params_new();
    unet_declare(p, &c, (struct graph_adapter){0});
    const size_t n = params_count(p, false);
    *tensors = params_length(p);
    params_free(p);
    return n;
}

/* The published counts of Stable Diffusion 1.5 and 2.1. */
START_TEST(stable_diffusion_has_its_published_parameter_counts)
{
    size_t tensors;
    ck_assert_uint_eq(
        parameters("{\"cross_attention_dim\": 768, \"attention_head_dim\": 8}", &tensors),
        859520964);
    ck_assert_uint_eq(tensors, 686);
    ck_assert_uint_eq(
        parameters("{\"cross_attention_dim\": 1024, \"attention_head_dim\": [5, 10, 20, 20],"
                   "\"use_linear_projection\": true}",
                   &tensors),
        865910724);
    ck_assert_uint_eq(tensors, 686);
}
END_TEST

SUITE("diffusion/unet", 20, absent_fields_have_the_class_defaults,
      lists_and_single_numbers_are_both_read, what_is_not_implemented_is_refused_by_field_and_value,
      stable_diffusion_has_its_published_parameter_counts)
