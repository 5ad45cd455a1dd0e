#include "diffusion/unet_config.h"

#include "diffusion/config_check.h"

static const struct config_fixed fixed[] = {
    {"_class_name", "\"UNet2DConditionModel\""},
    {"act_fn", "\"silu\"|\"swish\""},
    {"addition_embed_type", "null"},
    {"addition_time_embed_dim", "null"},
    {"attention_type", "\"default\"|null"},
    {"center_input_sample", "false"},
    {"class_embed_type", "null"},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"cross_attention_norm", "null"},
    {"downsample_padding", "1"},
    {"dropout", "0|null"},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"mid_block_only_cross_attention", "null|false"},
    {"mid_block_scale_factor", "1"},
    {"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
    {"num_attention_heads", "null"},
    {"num_class_embeds", "null"},
    {"only_cross_attention", "false"},
    {"projection_class_embeddings_input_dim", "null"},
    {"resnet_out_scale_factor", "1|null"},
    {"resnet_skip_time_act", "false"},
    {"resnet_time_scale_shift", "\"default\""},
    {"reverse_transformer_layers_per_block", "null"},
    {"time_cond_proj_dim", "null"},
    {"time_embedding_act_fn", "null"},
    {"time_embedding_dim", "null"},
    {"time_embedding_type", "\"positional\""},
    {"timestep_post_act", "null"},
};

/* Class defaults of the lists, for a config that leaves them out. */
static void default_blocks(struct unet_config *c)
{
    static const size_t channels[] = {320, 640, 1280, 1280};
    c->levels = 4;
    for (size_t i = 0; i < 4; i++)
        c->channels[i] = channels[i];
}

static int parse_blocks(struct unet_config *c, const struct json *j, struct err *e)
{
    static const char *const down[] = {"DownBlock2D", "CrossAttnDownBlock2D"};
    static const char *const up[] = {"UpBlock2D", "CrossAttnUpBlock2D"};
    size_t index[UNET_LEVELS_MAX];
    if (config_size_list(j, "block_out_channels", 1, UNET_CHANNELS_MAX, UNET_LEVELS_MAX,
                         c->channels, &c->levels, e) < 0)
        return -1;
    if (c->levels == 0)
        default_blocks(c);
    for (size_t i = 0; i < c->levels; i++) {
        c->down_attention[i] = i + 1 < c->levels;
        c->up_attention[i] = i > 0;
    }
    if (json_get(j, "down_block_types") != NULL) {
        if (config_names(j, "down_block_types", down, 2, c->levels, index, e) < 0)
            return -1;
        for (size_t i = 0; i < c->levels; i++)
            c->down_attention[i] = index[i] == 1;
    }
    if (json_get(j, "up_block_types") != NULL) {
        if (config_names(j, "up_block_types", up, 2, c->levels, index, e) < 0)
            return -1;
        for (size_t i = 0; i < c->levels; i++)
            c->up_attention[i] = index[i] == 1;
    }
    return config_sizes(j, "layers_per_block", 1, UNET_LAYERS_MAX, 2, c->levels, c->layers, e) <
                       0 ||
                   config_sizes(j, "transformer_layers_per_block", 1, UNET_LAYERS_MAX, 1, c->levels,
                                c->depth, e) < 0 ||
                   config_sizes(j, "attention_head_dim", 1, UNET_CHANNELS_MAX, 8, c->levels,
                                c->heads, e) < 0
               ? -1
               : 0;
}

/* Every group norm and attention has to divide its channels. */
static int check_divisors(const struct unet_config *c, struct err *e)
{
    for (size_t i = 0; i < c->levels; i++) {
        if (c->channels[i] % c->norm_groups != 0)
            return err_set(e, ERR_INVALID,
                           "block_out_channels[%zu] is %zu, not a multiple of norm_num_groups %zu",
                           i, c->channels[i], c->norm_groups);
        if (c->channels[i] % c->heads[i] != 0)
            return err_set(e, ERR_INVALID,
                           "block_out_channels[%zu] is %zu, not a multiple of its %zu attention "
                           "heads (attention_head_dim is the number of heads)",
                           i, c->channels[i], c->heads[i]);
    }
    if (c->channels[0] % 2 != 0)
        return err_set(e, ERR_INVALID,
                       "block_out_channels[0] is %zu, the time embedding needs it even",
                       c->channels[0]);
    return 0;
}

int unet_config_parse(struct unet_config *c, const struct json *config, struct err *e)
{
    *c = (struct unet_config){0};
    if (config_check_fixed(config, fixed, sizeof fixed / sizeof *fixed, e) < 0 ||
        parse_blocks(c, config, e) < 0 ||
        config_size(config, "sample_size", 1, 4096, 64, &c->sample_size, e) < 0 ||
        config_size(config, "in_channels", 1, 1024, 4, &c->in_channels, e) < 0 ||
        config_size(config, "out_channels", 1, 1024, 4, &c->out_channels, e) < 0 ||
        config_size(config, "cross_attention_dim", 1, UNET_CHANNELS_MAX, 1280,
                    &c->cross_attention_dim, e) < 0 ||
        config_size(config, "norm_num_groups", 1, UNET_CHANNELS_MAX, 32, &c->norm_groups, e) < 0 ||
        json_get_number_or(config, "norm_eps", 1e-12, 1.0, 1e-5, &c->norm_eps, e) < 0 ||
        json_get_bool_or(config, "flip_sin_to_cos", true, &c->flip_sin_to_cos, e) < 0 ||
        json_get_number_or(config, "freq_shift", 0.0, 1.0, 0.0, &c->freq_shift, e) < 0 ||
        json_get_bool_or(config, "use_linear_projection", false, &c->linear_projection, e) < 0)
        return -1;
    return check_divisors(c, e);
}
