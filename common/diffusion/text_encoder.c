#include "diffusion/text_encoder.h"

#include "diffusion/config_check.h"

#include <string.h>

static const struct config_fixed fixed[] = {
    {"model_type", "\"clip_text_model\"|\"clip\""},
    {"attention_dropout", "0"},
    {"dropout", "0"},
};

int clip_layer_parse(struct clip_layer *c, const struct json *config, struct err *e)
{
    const char *act;
    if (config_size(config, "hidden_size", 1, 16384, c->width, &c->width, e) < 0 ||
        config_size(config, "intermediate_size", 1, 65536, c->intermediate, &c->intermediate, e) < 0 ||
        config_size(config, "num_attention_heads", 1, 1024, c->heads, &c->heads, e) < 0 ||
        json_get_number_or(config, "layer_norm_eps", 1e-12, 1.0, 1e-5, &c->norm_eps, e) < 0 ||
        json_get_string_or(config, "hidden_act", 64, "quick_gelu", &act, e) < 0)
        return -1;
    if (strcmp(act, "quick_gelu") != 0 && strcmp(act, "gelu") != 0)
        return err_set(e, ERR_INVALID,
                       "hidden_act is \"%s\", which this engine does not implement (it has "
                       "quick_gelu, gelu)",
                       act);
    c->act = strcmp(act, "gelu") == 0 ? ACT_GELU : ACT_QUICK_GELU;
    if (c->width % c->heads != 0)
        return err_set(e, ERR_INVALID,
                       "hidden_size %zu is not a multiple of num_attention_heads %zu", c->width,
                       c->heads);
    return 0;
}

int text_config_parse(struct text_config *c, const struct json *config, struct err *e)
{
    struct clip_layer layer = {.width = 512, .intermediate = 2048, .heads = 8};
    *c = (struct text_config){0};
    if (config_check_fixed(config, fixed, sizeof fixed / sizeof *fixed, e) < 0 ||
        config_size(config, "vocab_size", 1, 1000000, 49408, &c->vocabulary, e) < 0 ||
        config_size(config, "num_hidden_layers", 1, 128, 12, &c->layers, e) < 0 ||
        config_size(config, "max_position_embeddings", 2, 1024, 77, &c->positions, e) < 0 ||
        clip_layer_parse(&layer, config, e) < 0)
        return -1;
    c->width = layer.width;
    c->intermediate = layer.intermediate;
    c->heads = layer.heads;
    c->act = layer.act;
    c->norm_eps = layer.norm_eps;
    return 0;
}

int clip_layer_build(struct graph *g, const struct clip_layer *c, int h)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    struct graph_dense o = {.out = c->width, .bias = true};
    int n = graph_layer_norm(g, h, "layer_norm1", c->norm_eps);
    n = graph_self_attention(g, graph_dense_parts(g, n, names, 3, o), c->heads, c->causal);
    o.residual = h;
    h = graph_dense(g, n, "self_attn.out_proj", o);
    n = graph_layer_norm(g, h, "layer_norm2", c->norm_eps);
    n = graph_dense(g, n, "mlp.fc1", (struct graph_dense){.out = c->intermediate, .bias = true});
    n = graph_act(g, n, c->act);
    o.residual = h;
    return graph_dense(g, n, "mlp.fc2", o);
}

int text_encoder_hidden(struct graph *g, const struct text_shape *s)
{
    const struct text_config *const c = s->config;
    const struct clip_layer layer = {.width = c->width,
                                     .intermediate = c->intermediate,
                                     .heads = c->heads,
                                     .act = c->act,
                                     .norm_eps = c->norm_eps,
                                     .causal = true};
    const int ids = graph_input_ids(g, s->L, c->vocabulary);
    graph_enter(g, "text_model");
    int h = graph_token_embed(g, ids, "embeddings.token_embedding", "embeddings.position_embedding",
                              c->positions, c->width);
    for (size_t i = 0; i < c->layers; i++) {
        graph_enter(g, "encoder.layers.%zu", i);
        h = clip_layer_build(g, &layer, h);
        graph_leave(g);
    }
    h = graph_layer_norm(g, h, "final_layer_norm", c->norm_eps);
    graph_leave(g);
    return h;
}

void text_encoder_build(struct graph *g, const void *arg)
{
    graph_output(g, text_encoder_hidden(g, arg), 0);
}

void text_encoder_declare(struct params *p, const struct text_config *c)
{
    const struct text_shape s = {c, 2};
    struct graph *const g = graph_new(p, 1, (struct graph_options){.mode = GRAPH_DECLARE});
    text_encoder_build(g, &s);
    graph_free(g);
}
