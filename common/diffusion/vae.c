#include "diffusion/vae.h"

#include "diffusion/config_check.h"
#include "diffusion/unet_block.h"

#include <string.h>

#define VAE_EPS 1e-6 /* every group norm of AutoencoderKL */
#define VAE_CHANNELS_MAX 16384
#define VAE_LAYERS_MAX 16

static const struct config_fixed fixed[] = {
    {"_class_name", "\"AutoencoderKL\""},
    {"act_fn", "\"silu\"|\"swish\""},
    {"latents_mean", "null"},
    {"latents_std", "null"},
    {"shift_factor", "null|0"},
};

static int check_types(const struct vae_config *c, const struct json *j, struct err *e)
{
    static const char *const down[] = {"DownEncoderBlock2D"};
    static const char *const up[] = {"UpDecoderBlock2D"};
    size_t index[VAE_LEVELS_MAX];
    if (json_get(j, "down_block_types") != NULL &&
        config_names(j, "down_block_types", down, 1, c->levels, index, e) < 0)
        return -1;
    if (json_get(j, "up_block_types") != NULL &&
        config_names(j, "up_block_types", up, 1, c->levels, index, e) < 0)
        return -1;
    for (size_t i = 0; i < c->levels; i++)
        if (c->channels[i] % c->norm_groups != 0)
            return err_set(e, ERR_INVALID,
                           "block_out_channels[%zu] is %zu, not a multiple of norm_num_groups %zu",
                           i, c->channels[i], c->norm_groups);
    return 0;
}

int vae_config_parse(struct vae_config *c, const struct json *config, struct err *e)
{
    *c = (struct vae_config){0};
    if (config_check_fixed(config, fixed, sizeof fixed / sizeof *fixed, e) < 0 ||
        config_size(config, "in_channels", 1, 64, 3, &c->in_channels, e) < 0 ||
        config_size(config, "out_channels", 1, 64, 3, &c->out_channels, e) < 0 ||
        config_size(config, "latent_channels", 1, 64, 4, &c->latent_channels, e) < 0 ||
        config_size_list(config, "block_out_channels", 1, VAE_CHANNELS_MAX, VAE_LEVELS_MAX,
                         c->channels, &c->levels, e) < 0 ||
        config_size(config, "layers_per_block", 1, VAE_LAYERS_MAX, 1, &c->layers, e) < 0 ||
        config_size(config, "norm_num_groups", 1, VAE_CHANNELS_MAX, 32, &c->norm_groups, e) < 0 ||
        config_size(config, "sample_size", 1, 8192, 32, &c->sample_size, e) < 0 ||
        json_get_number_or(config, "scaling_factor", 1e-6, 1e6, 0.18215, &c->scaling_factor, e) <
            0 ||
        json_get_bool_or(config, "mid_block_add_attention", true, &c->mid_attention, e) < 0 ||
        json_get_bool_or(config, "use_quant_conv", true, &c->quant_conv, e) < 0 ||
        json_get_bool_or(config, "use_post_quant_conv", true, &c->post_quant_conv, e) < 0)
        return -1;
    if (c->levels == 0) {
        c->levels = 1;
        c->channels[0] = 64;
    }
    return check_types(c, config, e);
}

size_t vae_factor(const struct vae_config *c)
{
    return (size_t)1 << (c->levels - 1);
}

static struct resnet_options resnet(const struct vae_config *c, size_t out)
{
    return (struct resnet_options){out, c->norm_groups, VAE_EPS, 0};
}

static struct graph_conv conv3(size_t out)
{
    return (struct graph_conv){.out = out, .kernel = 3, .stride = 1};
}

static int resnets(struct graph *g, const struct vae_config *c, int h, size_t out, size_t first,
                   size_t count)
{
    for (size_t j = first; j < first + count; j++) {
        graph_enter(g, "resnets.%zu", j);
        h = resnet_block(g, h, resnet(c, out));
        graph_leave(g);
    }
    return h;
}

/* One head over all channels; the residual is inside. */
static int mid_attention(struct graph *g, const struct vae_config *c, int x)
{
    static const char *const names[] = {"to_q", "to_k", "to_v"};
    const struct graph_dense o = {.out = graph_channels(g, x), .bias = true};
    graph_enter(g, "attentions.0");
    const int n = graph_group_norm(g, x, "group_norm", c->norm_groups, VAE_EPS, false);
    const int a = graph_self_attention(g, graph_dense_parts(g, n, names, 3, o), 1, false);
    struct graph_dense last = o;
    last.residual = x;
    const int y = graph_dense(g, a, "to_out.0", last);
    graph_leave(g);
    return y;
}

static int mid_block(struct graph *g, const struct vae_config *c, int h)
{
    const size_t C = graph_channels(g, h);
    graph_enter(g, "mid_block");
    h = resnets(g, c, h, C, 0, 1);
    if (c->mid_attention)
        h = mid_attention(g, c, h);
    h = resnets(g, c, h, C, 1, 1);
    graph_leave(g);
    return h;
}

static int encoder(struct graph *g, const struct vae_config *c, int h)
{
    graph_enter(g, "encoder");
    h = graph_conv(g, h, "conv_in", conv3(c->channels[0]));
    for (size_t i = 0; i < c->levels; i++) {
        graph_enter(g, "down_blocks.%zu", i);
        h = resnets(g, c, h, c->channels[i], 0, c->layers);
        if (i + 1 < c->levels)
            h = graph_conv(
                g, h, "downsamplers.0.conv",
                (struct graph_conv){
                    .out = c->channels[i], .kernel = 3, .stride = 2, .pad_end_only = true});
        graph_leave(g);
    }
    h = mid_block(g, c, h);
    h = graph_group_norm(g, h, "conv_norm_out", c->norm_groups, VAE_EPS, true);
    h = graph_conv(g, h, "conv_out", conv3(2 * c->latent_channels));
    graph_leave(g);
    return h;
}

static int decoder(struct graph *g, const struct vae_config *c, int h)
{
    graph_enter(g, "decoder");
    h = graph_conv(g, h, "conv_in", conv3(c->channels[c->levels - 1]));
    h = mid_block(g, c, h);
    for (size_t i = 0; i < c->levels; i++) {
        const size_t C = c->channels[c->levels - 1 - i];
        graph_enter(g, "up_blocks.%zu", i);
        h = resnets(g, c, h, C, 0, c->layers + 1);
        if (i + 1 < c->levels) {
            h = graph_resize(g, h, 2 * graph_height(g, h), 2 * graph_width(g, h));
            h = graph_conv(g, h, "upsamplers.0.conv", conv3(C));
        }
        graph_leave(g);
    }
    h = graph_group_norm(g, h, "conv_norm_out", c->norm_groups, VAE_EPS, true);
    h = graph_conv(g, h, "conv_out", conv3(c->out_channels));
    graph_leave(g);
    return h;
}

static struct graph_dense one_by_one(size_t out)
{
    return (struct graph_dense){.out = out, .bias = true, .kernel_dims = true};
}

void vae_encoder_build(struct graph *g, const void *arg)
{
    const struct vae_shape *const s = arg;
    const struct vae_config *const c = s->config;
    int h = encoder(g, c, graph_input(g, s->H, s->W, c->in_channels, s->flags));
    if (c->quant_conv)
        h = graph_dense(g, h, "quant_conv", one_by_one(2 * c->latent_channels));
    graph_output(g, h, s->flags & GRAPH_PLANAR);
}

void vae_decoder_build(struct graph *g, const void *arg)
{
    const struct vae_shape *const s = arg;
    const struct vae_config *const c = s->config;
    int h = graph_input(g, s->H, s->W, c->latent_channels, s->flags);
    if (c->post_quant_conv)
        h = graph_dense(g, h, "post_quant_conv", one_by_one(c->latent_channels));
    graph_output(g, decoder(g, c, h), s->flags & GRAPH_PLANAR);
}

void vae_declare(struct params *p, const struct vae_config *c)
{
    const size_t side = 2 * vae_factor(c);
    const struct vae_shape image = {c, side, side, 0}, latent = {c, 2, 2, 0};
    const struct graph_options declare = {.mode = GRAPH_DECLARE};
    struct graph *g = graph_new(p, 1, declare);
    vae_encoder_build(g, &image);
    graph_free(g);
    g = graph_new(p, 1, declare);
    vae_decoder_build(g, &latent);
    graph_free(g);
}
