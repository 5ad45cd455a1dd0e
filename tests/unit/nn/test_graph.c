#include "diffusion/lora.h"
#include "diffusion/unet.h"
#include "nn/graph.h"
#include "support/gradcheck.h"
#include "support/graphcheck.h"
#include "support/suite.h"

#include <string.h>

#define BATCH 3

static const struct unet_config unet = {.sample_size = 8,
                                        .in_channels = 4,
                                        .out_channels = 4,
                                        .levels = 2,
                                        .channels = {8, 16},
                                        .down_attention = {true, true},
                                        .up_attention = {true, true},
                                        .heads = {2, 4},
                                        .depth = {1, 1},
                                        .layers = {2, 1},
                                        .cross_attention_dim = 12,
                                        .norm_groups = 4,
                                        .norm_eps = 1e-5,
                                        .flip_sin_to_cos = true};
static const struct unet_shape shape = {&unet, 8, 8, 5, 0};
static const struct graphcheck check = {.build = unet_build, .arg = &shape, .B = BATCH};

static struct graph *plan(struct params *p, size_t batch, enum graph_mode mode)
{
    struct err e;
    struct graph *const g = graph_new(p, batch, (struct graph_options){.mode = mode});
    unet_build(g, &shape);
    ck_assert_msg(graph_plan(g, &e) == 0, "%s", e.text);
    ck_assert(params_refresh(p, NULL, &e) == 0);
    return g;
}

static real *run(struct graph *g, void *const *inputs)
{
    real *const out = gradcheck_new(graph_batch(g) * graph_output_numbers(g, 0));
    for (size_t i = 0; i < graph_input_count(g); i++)
        graph_write(g, i, inputs[i]);
    graph_forward(g);
    graph_read(g, 0, out);
    return out;
}

START_TEST(memory_used_again_does_not_change_the_result)
{
    struct params *const p = graphcheck_params(&check);
    struct graph *const a = plan(p, BATCH, GRAPH_INFER), *const b = plan(p, BATCH, GRAPH_TRAIN);
    void *inputs[8];
    graphcheck_inputs(a, inputs);
    const size_t bytes = BATCH * graph_output_numbers(a, 0) * sizeof(real);
    real *const first = run(a, inputs), *const again = run(a, inputs), *const kept = run(b, inputs);
    ck_assert(memcmp(first, kept, bytes) == 0);
    ck_assert(memcmp(first, again, bytes) == 0);
    ck_assert_msg(graph_bytes(a) < graph_bytes(b) / 3, "%zu %zu", graph_bytes(a), graph_bytes(b));
    graph_free(a);
    graph_free(b);
    params_free(p);
}
END_TEST

START_TEST(a_sample_does_not_depend_on_its_batch)
{
    struct params *const p = graphcheck_params(&check);
    struct graph *const all = plan(p, BATCH, GRAPH_INFER), *const one = plan(p, 1, GRAPH_INFER);
    void *inputs[8], *last[8];
    graphcheck_inputs(all, inputs);
    for (size_t i = 0; i < graph_input_count(all); i++)
        last[i] = (char *)inputs[i] +
                  (BATCH - 1) * graph_input_numbers(all, i) * graph_input_element_bytes(all, i);
    const size_t n = graph_output_numbers(one, 0);
    gradcheck_same("last sample", run(one, last), run(all, inputs) + (BATCH - 1) * n, n);
    graph_free(all);
    graph_free(one);
    params_free(p);
}
END_TEST

START_TEST(a_steady_input_is_noticed_when_it_changes)
{
    struct params *const p = graphcheck_params(&check);
    struct graph *const g = plan(p, BATCH, GRAPH_INFER), *const fresh = plan(p, BATCH, GRAPH_INFER);
    void *inputs[8];
    graphcheck_inputs(g, inputs);
    const size_t bytes = BATCH * graph_output_numbers(g, 0) * sizeof(real);
    real *const before = run(g, inputs);
    ((real *)inputs[UNET_SAMPLE])[0] += 1; /* the context stays: what it gave is kept */
    run(g, inputs);
    ((real *)inputs[UNET_CONTEXT])[3] += 1;
    real *const after = run(g, inputs);
    ck_assert(memcmp(before, after, bytes) != 0);
    ck_assert(memcmp(after, run(fresh, inputs), bytes) == 0);
    /* and when the weights change */
    struct err e;
    const int id = params_find(p, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight");
    params_at(p, id)->value[0] += 1;
    params_touch_all(p);
    ck_assert(params_refresh(p, NULL, &e) == 0);
    ck_assert(memcmp(after, run(g, inputs), bytes) != 0);
    graph_free(g);
    graph_free(fresh);
    params_free(p);
}
END_TEST

/* Freezing must leave the other gradients as they were, bit for bit. */
START_TEST(a_frozen_part_is_skipped_and_the_rest_unchanged)
{
    struct params *const p = graphcheck_params(&check);
    struct graph *g = plan(p, BATCH, GRAPH_TRAIN);
    void *inputs[8];
    graphcheck_inputs(g, inputs);
    const size_t n = BATCH * graph_output_numbers(g, 0);
    real *const d_out = gradcheck_new(n), *const all = gradcheck_new(params_grad_count(p));
    gradcheck_fill(d_out, n, 3, 1.0);
    run(g, inputs);
    graph_write_grad(g, 0, d_out);
    graph_backward(g, all);
    const size_t all_bytes = graph_bytes(g);
    const int id = params_find(p, "up_blocks.1.attentions.1.proj_out.weight");
    const size_t before = params_at(p, id)->grad, count = params_at(p, id)->count;
    graph_free(g);

    params_set_trainable(p, "", "", false);
    params_set_trainable(p, "up_blocks.1.attentions.1.", "", true);
    g = plan(p, BATCH, GRAPH_TRAIN);
    real *const some = gradcheck_new(params_grad_count(p));
    run(g, inputs);
    graph_write_grad(g, 0, d_out);
    graph_backward(g, some);
    ck_assert(memcmp(some + params_at(p, id)->grad, all + before, count * sizeof(real)) == 0);
    ck_assert_uint_lt(params_grad_count(p) * 4, before);
    ck_assert_uint_lt(graph_bytes(g) * 2,
                      all_bytes); /* nothing is kept below the first trainable layer */
    graph_free(g);
    params_free(p);
}
END_TEST

static void build_mirror(struct graph *g, const void *arg)
{
    (void)arg;
    graph_output(g, graph_act(g, graph_input(g, 2, 3, 4, GRAPH_PLANAR | GRAPH_GRAD), ACT_NONE),
                 GRAPH_PLANAR);
    graph_output(g, graph_act(g, graph_input(g, 2, 3, 4, GRAPH_PLANAR), ACT_NONE), 0);
}

START_TEST(planar_inputs_and_outputs_have_channels_first_outside)
{
    struct params *const p = params_new();
    struct err e;
    real x[48], y[48], z[48], d[48];
    struct graph *const g = graph_new(p, 2, (struct graph_options){.mode = GRAPH_TRAIN});
    build_mirror(g, NULL);
    ck_assert(graph_plan(g, &e) == 0);
    for (size_t i = 0; i < 48; i++)
        x[i] = (real)i;
    graph_write(g, 0, x);
    graph_write(g, 1, x);
    graph_forward(g);
    graph_read(g, 0, y);
    graph_read(g, 1, z);
    ck_assert(memcmp(x, y, sizeof x) == 0);
    ck_assert(z[24 + 5 * 4 + 3] == x[24 + 3 * 6 + 5]); /* sample 1, pixel 5, channel 3 */
    graph_write_grad(g, 0, x);
    graph_backward(g, NULL);
    graph_read_grad(g, 0, d);
    ck_assert(memcmp(x, d, sizeof x) == 0);
    ck_assert(graph_wants_grad(g, 0) && !graph_wants_grad(g, 1));
    graph_free(g);
    params_free(p);
}
END_TEST

START_TEST(builders_name_parameters_as_diffusers_does)
{
    struct params *const p = params_new();
    unet_declare(p, &unet, lora_adapter(2));
    static const char *const names[] = {
        "conv_in.weight",
        "time_embedding.linear_2.bias",
        "down_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj.weight",
        "down_blocks.0.downsamplers.0.conv.weight",
        "mid_block.resnets.1.time_emb_proj.weight",
        "up_blocks.0.upsamplers.0.conv.bias",
        "up_blocks.1.resnets.2.conv_shortcut.weight",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_B.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(params_find(p, names[i]) != PARAM_NONE, "%s", names[i]);
    params_free(p);
}
END_TEST

SUITE("nn/graph", 30, memory_used_again_does_not_change_the_result,
      a_sample_does_not_depend_on_its_batch, a_steady_input_is_noticed_when_it_changes,
      a_frozen_part_is_skipped_and_the_rest_unchanged,
      planar_inputs_and_outputs_have_channels_first_outside,
      builders_name_parameters_as_diffusers_does)
