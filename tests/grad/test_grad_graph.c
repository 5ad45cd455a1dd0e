/* Each kind of node alone, and the ways gradients meet: fan-out, residuals, in-place sums. */
#include "support/graphcheck.h"
#include "support/suite.h"

#define TOLERANCE 1e-6

static void check(void (*build)(struct graph *, const void *))
{
    graphcheck_claim(&(struct graphcheck){.build = build, .B = 2, .tolerance = TOLERANCE});
}

#define PLANE(g) graph_input(g, 5, 7, 6, GRAPH_GRAD | GRAPH_PLANAR)
#define ROWS(g) graph_input(g, 5, 1, 6, GRAPH_GRAD)

static void build_dense(struct graph *g, const void *arg)
{
    (void)arg;
    const int x = ROWS(g), r = graph_input(g, 5, 1, 4, GRAPH_GRAD);
    graph_output(
        g, graph_dense(g, x, "d", (struct graph_dense){.out = 4, .bias = true, .residual = r}), 0);
}

static void build_parts(struct graph *g, const void *arg)
{
    static const char *const names[] = {"a", "b", "c"};
    (void)arg;
    graph_output(
        g, graph_dense_parts(g, ROWS(g), names, 3, (struct graph_dense){.out = 5, .bias = true}),
        0);
}

static void build_conv(struct graph *g, const void *arg)
{
    (void)arg;
    int h = graph_conv(g, PLANE(g), "one", (struct graph_conv){.out = 4, .kernel = 3, .stride = 1});
    h = graph_conv(g, h, "two",
                   (struct graph_conv){.out = 4,
                                       .kernel = 3,
                                       .stride = 1,
                                       .residual = h == 0 ? 0 : graph_act(g, h, ACT_SILU)});
    h = graph_conv(g, h, "down", (struct graph_conv){.out = 3, .kernel = 3, .stride = 2});
    graph_output(g, h, GRAPH_PLANAR);
}

static void build_conv_end(struct graph *g, const void *arg)
{
    (void)arg;
    graph_output(
        g,
        graph_conv(g, PLANE(g), "down",
                   (struct graph_conv){.out = 4, .kernel = 3, .stride = 2, .pad_end_only = true}),
        0);
}

static void build_norms(struct graph *g, const void *arg)
{
    (void)arg;
    int h = graph_group_norm(g, PLANE(g), "group", 3, 1e-5, true);
    h = graph_group_norm(g, h, "plain", 2, 1e-6, false);
    graph_output(g, graph_layer_norm(g, h, "layer", 1e-5), 0);
}

static void build_acts(struct graph *g, const void *arg)
{
    (void)arg;
    int h = graph_act(g, ROWS(g), ACT_SILU);
    h = graph_act(g, graph_act(g, h, ACT_GELU), ACT_QUICK_GELU);
    graph_output(g, graph_geglu(g, h), 0);
}

static void build_self_attention(struct graph *g, const void *arg)
{
    (void)arg;
    graph_output(g, graph_self_attention(g, graph_input(g, 7, 1, 18, GRAPH_GRAD), 3, false), 0);
}

static void build_causal_attention(struct graph *g, const void *arg)
{
    (void)arg;
    graph_output(g, graph_self_attention(g, graph_input(g, 7, 1, 18, GRAPH_GRAD), 2, true), 0);
}

static void build_cross_attention(struct graph *g, const void *arg)
{
    (void)arg;
    const int q = ROWS(g), kv = graph_input(g, 3, 1, 12, GRAPH_GRAD);
    graph_output(g, graph_cross_attention(g, q, kv, 2), 0);
}

static void build_joins(struct graph *g, const void *arg)
{
    (void)arg;
    const int x = PLANE(g), b = graph_input(g, 1, 1, 6, GRAPH_GRAD);
    int h = graph_add_sample_bias(g, graph_act(g, x, ACT_SILU), b);
    h = graph_concat(g, h, x);
    h = graph_resize(g, h, 9, 14);
    graph_output(g, graph_mean_pool(g, graph_act(g, h, ACT_GELU)), 0);
}

/* x is read four times, twice as a residual; sums run in place. */
static void build_fan_out(struct graph *g, const void *arg)
{
    (void)arg;
    const int x = ROWS(g);
    const struct graph_dense o = {.out = 6, .bias = true};
    struct graph_dense r = o;
    r.residual = x;
    const int a = graph_dense(g, graph_act(g, x, ACT_SILU), "a", r);
    const int b = graph_dense(g, graph_layer_norm(g, x, "n", 1e-5), "b", r);
    graph_output(g, graph_dense(g, graph_add(g, a, b), "c", o), 0);
}

static void build_time(struct graph *g, const void *arg)
{
    (void)arg;
    const int t = graph_time_embed(g, graph_input_times(g), 8, true, 0.0);
    graph_output(g,
                 graph_act(g, graph_dense(g, t, "t", (struct graph_dense){.out = 3, .bias = true}),
                           ACT_SILU),
                 0);
}

static void build_tokens(struct graph *g, const void *arg)
{
    (void)arg;
    graph_output(g, graph_token_embed(g, graph_input_ids(g, 4, 5), "token", "position", 6, 3), 0);
}

static bool selects_all(const char *module)
{
    return module[0] != 'x';
}

/* Branches on parts a and c, none on xb. */
static void build_low_rank(struct graph *g, const void *arg)
{
    static const char *const names[] = {"a", "xb", "c"};
    (void)arg;
    graph_output(g, graph_dense_parts(g, ROWS(g), names, 3, (struct graph_dense){.out = 5}), 0);
}

START_TEST(every_node_has_the_gradient_of_its_differences)
{
    check(build_dense);
    check(build_parts);
    check(build_conv);
    check(build_conv_end);
    check(build_norms);
    check(build_acts);
    check(build_self_attention);
    check(build_causal_attention);
    check(build_cross_attention);
    check(build_joins);
    check(build_time);
    check(build_tokens);
}
END_TEST

START_TEST(gradients_that_meet_are_summed)
{
    check(build_fan_out);
}
END_TEST

START_TEST(low_rank_branches_have_gradients_with_and_without_the_base)
{
    struct graphcheck c = {
        .build = build_low_rank, .B = 2, .adapter = {2, selects_all}, .tolerance = TOLERANCE};
    graphcheck_claim(&c);
    c.frozen_prefix = "xb";
    graphcheck_claim(&c);
}
END_TEST

SUITE("grad/graph", 60, every_node_has_the_gradient_of_its_differences,
      gradients_that_meet_are_summed, low_rank_branches_have_gradients_with_and_without_the_base)
