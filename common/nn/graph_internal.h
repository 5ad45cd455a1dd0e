/* What graph.c (building, planning, running), graph_nodes.c (how each node computes) and
 * graph_build.c (the builder functions) share.  Nobody else includes it. */
#ifndef DAGLINE_NN_GRAPH_INTERNAL_H
#define DAGLINE_NN_GRAPH_INTERNAL_H

#include "nn/attention.h"
#include "nn/conv2d.h"
#include "nn/graph.h"
#include "nn/norm.h"

#define NODE_INPUTS_MAX 3
#define NODE_PARAMS_MAX 4
#define NO_BUFFER (-1)

/* A stretch of the slab with a lifetime in steps of one forward and backward pass. */
struct buffer {
    size_t bytes;
    int start, end; /* both inclusive; start > end: never used */
    size_t offset;
    void *at;
};

struct value {
    size_t H, W, C;
    int node;       /* producer, or -1 for an input */
    int data, grad; /* buffers */
    size_t element_bytes;
    size_t vocabulary; /* of token ids */
    bool needs_grad;
    bool steady;
    bool is_output;
};

enum node_kind {
    NODE_DENSE,
    NODE_CONV,
    NODE_GROUP_NORM,
    NODE_LAYER_NORM,
    NODE_ACT,
    NODE_GEGLU,
    NODE_SELF_ATTENTION,
    NODE_CROSS_ATTENTION,
    NODE_ADD,
    NODE_SAMPLE_BIAS,
    NODE_CONCAT,
    NODE_RESIZE,
    NODE_MEAN_POOL,
    NODE_TIME_EMBED,
    NODE_TOKEN_EMBED,
};

struct branch {
    int a, b;      /* parameters lora_A, lora_B */
    size_t column; /* where its part of y starts */
};

struct dense_node {
    size_t in, out, parts; /* out: of one part */
    int weight, bias;      /* first part's; the others follow */
    struct branch branch[GRAPH_PARTS_MAX];
    size_t branches, rank; /* the lora_A of all branches lie side by side */
};

struct conv_node {
    struct conv2d_shape shape;
    struct conv2d_plan plan; /* open once the graph is planned */
    int weight, bias;
    int form; /* prepared weights, or PARAM_NONE */
};

struct norm_node {
    struct group_norm_shape shape;
    int gamma, beta;
    double eps;
    bool silu;
};

struct node {
    enum node_kind kind;
    int in[NODE_INPUTS_MAX]; /* values, 0 = none */
    int out;
    bool accumulate[NODE_INPUTS_MAX]; /* the gradient of this input is added to what is there */
    bool hand_over[NODE_INPUTS_MAX];  /* the gradient of this input is d_out's own buffer */
    bool in_place;                    /* out lies where in[0] lay */
    bool runs_backward;
    bool steady;
    int saved[2]; /* statistics from forward to backward */
    int work_forward, work_backward;
    union {
        struct dense_node dense;
        struct conv_node conv;
        struct norm_node norm;
        struct attention_shape attention;
        enum act act;
        struct {
            size_t dim;
            bool flip;
            double shift;
        } time;
        struct {
            int token, position;
            size_t vocabulary;
        } token;
    } u;
};

struct port {
    int value;
    unsigned flags;
};

struct graph {
    struct params *params;
    size_t B;
    enum graph_mode mode;
    bool reference;
    struct graph_adapter adapter;
    char scope[PARAM_NAME_BYTES_MAX];
    size_t scope_end[GRAPH_NAME_DEPTH_MAX];
    size_t depth;

    struct value *values; /* [0] is unused */
    size_t value_count, value_room;
    struct node *nodes;
    size_t node_count, node_room;
    struct buffer *buffers;
    size_t buffer_count, buffer_room;
    struct port *inputs, *outputs;
    size_t input_count, output_count;

    bool planned;
    char *slab;
    size_t bytes;
    bool steady_fresh;       /* what depends on steady inputs must be computed again */
    uint64_t steady_version; /* of the parameters it was computed with */
};

/* ---- graph_nodes.c ---- */

/* Which inputs (bit k) and whether the output (GRAPH_READS_OUT) the backward pass of n reads. */
#define GRAPH_READS_OUT 0x100u
unsigned node_backward_reads(const struct graph *g, const struct node *n);

/* A parameter of n is trainable. */
bool node_has_trainable(const struct graph *g, const struct node *n);

/* The gradient of input k is exactly d_out, so that the buffer may be handed on. */
bool node_passes_gradient(const struct node *n, int k);

/* n's forward pass may write its output over input 0. */
bool node_may_run_in_place(const struct node *n);

/* Bytes of saved[0], saved[1], work_forward, work_backward. */
struct node_memory {
    size_t saved[2], forward, backward;
};
struct node_memory node_memory(const struct graph *g, const struct node *n);

/* Opens what a node needs beside memory (convolution plans, prepared weights), and closes it. */
int node_open(struct graph *g, struct node *n, struct err *e) MUST_USE;
void node_close(struct node *n);

void node_forward(struct graph *g, const struct node *n);
void node_backward(struct graph *g, const struct node *n, real *param_grads);

/* ---- shared by the builder and the nodes ---- */
static inline size_t value_rows(const struct graph *g, int v)
{
    return g->B * g->values[v].H * g->values[v].W;
}

static inline size_t value_count_of(const struct graph *g, int v)
{
    return value_rows(g, v) * g->values[v].C;
}

static inline void *buffer_at(const struct graph *g, int buffer)
{
    return buffer == NO_BUFFER ? NULL : g->buffers[buffer].at;
}

int graph_add_value(struct graph *g, size_t H, size_t W, size_t C);
struct node *graph_add_node(struct graph *g, enum node_kind kind, int in0, int in1, int in2,
                            int out);

#endif
