/* A static graph of one model at one batch size: built once by a builder function, planned once,
 * then run any number of times without allocation.  Not an autograd: every kind of node has a
 * hand-written forward and backward pass over the kernels of common/nn.
 *
 * Values are dense [B,H,W,C] with C fastest; tokens are H = L, W = 1, vectors H = W = 1.  A value
 * is an int, 0 is "none".  Parameters are named relative to the current scope (graph_enter) and are
 * those of the registry the graph was made with:
 *
 *     graph_enter(g, "resnets.%d", i);
 *     h = graph_group_norm(g, x, "norm1", 32, 1e-5, true);    -> resnets.0.norm1.weight, .bias
 *     h = graph_conv(g, h, "conv1", (struct graph_conv){.out = 64, .kernel = 3, .stride = 1});
 *     graph_leave(g);
 *
 * Modes.  GRAPH_DECLARE: the builder's calls only register parameters in an unsealed registry;
 * nothing can be run.  GRAPH_INFER: memory is reused as soon as a value has been read for the last
 * time.  GRAPH_TRAIN: what the backward pass reads is kept.  In every mode one slab holds values,
 * gradients, saved statistics and work memory, each placed by its lifetime (graph_bytes).
 *
 * The backward pass computes only what is asked for: gradients of trainable parameters and of
 * inputs made with GRAPH_GRAD.
 *
 * Thread rule: a graph belongs to one thread at a time; several graphs may share one registry and
 * run at once.  The graph borrows the registry. */
#ifndef DAGLINE_NN_GRAPH_H
#define DAGLINE_NN_GRAPH_H

#include "base/err.h"
#include "nn/act.h"
#include "nn/param.h"
#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAPH_NAME_DEPTH_MAX 12
#define GRAPH_PARTS_MAX 3

struct graph;

enum graph_mode { GRAPH_DECLARE, GRAPH_INFER, GRAPH_TRAIN };

/* Flags of inputs and outputs. */
enum {
    GRAPH_PLANAR = 1, /* outside the graph the layout is [B,C,H,W]; converted on the way */
    GRAPH_GRAD = 2,   /* input: its gradient is wanted */
    GRAPH_STEADY = 4, /* input: often the same twice (a text condition); in GRAPH_INFER whatever
                         depends on steady inputs alone is kept until one of them changes */
};

/* A low-rank branch y += (x A^T) B^T on each dense module that `selects` (its full name)
 * approves: parameters NAME.lora_A.weight [rank,in] and NAME.lora_B.weight [out,rank]. */
struct graph_adapter {
    size_t rank;
    bool (*selects)(const char *module);
};

struct graph_options {
    enum graph_mode mode;
    bool reference; /* BLAS and im2col throughout: what the fast kernels are held against */
    struct graph_adapter adapter; /* rank 0: none */
};

struct graph *graph_new(struct params *p, size_t B, struct graph_options o) MUST_USE;
void graph_free(struct graph *g);

size_t graph_batch(const struct graph *g);

/* Opens a level of names, joined by '.'; at most GRAPH_NAME_DEPTH_MAX deep. */
void graph_enter(struct graph *g, const char *fmt, ...) PRINTF_LIKE(2, 3);
void graph_leave(struct graph *g);

/* ---- inputs and outputs, in the order the runner knows them by ---- */
int graph_input(struct graph *g, size_t H, size_t W, size_t C, unsigned flags);
/* Token ids [B,L], 0 <= id < vocabulary. */
int graph_input_ids(struct graph *g, size_t L, size_t vocabulary);
/* Timesteps [B], double. */
int graph_input_times(struct graph *g);
void graph_output(struct graph *g, int value, unsigned flags);

size_t graph_height(const struct graph *g, int value);
size_t graph_width(const struct graph *g, int value);
size_t graph_channels(const struct graph *g, int value);

/* ---- nodes ---- */

/* y = x W^T + bias (+ residual).  W: NAME.weight [out,in], or [out,in,1,1] where kernel_dims. */
struct graph_dense {
    size_t out;
    bool bias;
    bool kernel_dims; /* the weight is a 1x1 convolution's */
    int residual;     /* a value of y's shape to add, or 0 */
};
int graph_dense(struct graph *g, int x, const char *name, struct graph_dense o);

/* Several dense modules over one x as one product: y = [part 0 | part 1 | ...], o.out features
 * each. The registry stores their weights side by side, so that nothing is copied. No residual. */
int graph_dense_parts(struct graph *g, int x, const char *const *names, size_t parts,
                      struct graph_dense o);

/* 2-D convolution, NAME.weight [out,in,k,k], NAME.bias, + residual.  Padded by kernel / 2 zeros on
 * every side, or, with pad_end_only, below and to the right alone (the VAE encoder's way down). */
struct graph_conv {
    size_t out, kernel, stride;
    bool pad_end_only;
    int residual;
};
int graph_conv(struct graph *g, int x, const char *name, struct graph_conv o);

/* silu: z sigmoid(z) fused behind the norm. */
int graph_group_norm(struct graph *g, int x, const char *name, size_t groups, double eps,
                     bool silu);
int graph_layer_norm(struct graph *g, int x, const char *name, double eps);

int graph_act(struct graph *g, int x, enum act kind);

/* x [.., 2F] -> value gelu(gate) [.., F]. */
int graph_geglu(struct graph *g, int x);

/* qkv [B,L,3C] = [q | k | v] -> [B,L,C]; softmax(q k^T / sqrt(C/heads)) v. */
int graph_self_attention(struct graph *g, int qkv, size_t heads, bool causal);
/* q [B,Lq,C], kv [B,Lk,2C] = [k | v] -> [B,Lq,C]. */
int graph_cross_attention(struct graph *g, int q, int kv, size_t heads);

int graph_add(struct graph *g, int a, int b);
/* x [B,H,W,C] + bias [B,1,1,C]. */
int graph_add_sample_bias(struct graph *g, int x, int bias);
/* Channels of a, then channels of b. */
int graph_concat(struct graph *g, int a, int b);
/* Nearest neighbour to H x W. */
int graph_resize(struct graph *g, int x, size_t H, size_t W);
/* Mean over H and W. */
int graph_mean_pool(struct graph *g, int x);
/* Sinusoids [B,1,1,dim], embed.h. */
int graph_time_embed(struct graph *g, int times, size_t dim, bool flip_sin_to_cos,
                     double freq_shift);
/* TOKEN.weight[id] + POSITION.weight[l]. */
int graph_token_embed(struct graph *g, int ids, const char *token, const char *position,
                      size_t positions, size_t C);

/* ---- running ---- */

/* Plans the memory and allocates it. After this no node may be added. Parameters are sealed. */
int graph_plan(struct graph *g, struct err *e) MUST_USE;

/* Plans without allocating, so that only graph_bytes and graph_free may follow. */
int graph_measure(struct graph *g, struct err *e) MUST_USE;

/* Bytes of the slab. */
size_t graph_bytes(const struct graph *g);

size_t graph_input_count(const struct graph *g);
size_t graph_output_count(const struct graph *g);

/* Numbers per sample of the i-th input or output, as they lie outside. */
size_t graph_input_numbers(const struct graph *g, size_t i);
size_t graph_output_numbers(const struct graph *g, size_t i);

/* Size in bytes of one element of input i as the caller gives it: real, int32_t or double. */
size_t graph_input_element_bytes(const struct graph *g, size_t i);

/* Whether graph_read_grad has something to read for input i after a backward pass. */
bool graph_wants_grad(const struct graph *g, size_t i);

/* Sets the i-th input from src [B, numbers] (real, int32_t ids or double times). */
void graph_write(struct graph *g, size_t i, const void *src);
void graph_read(const struct graph *g, size_t i, real *dst);

/* Needs every input written since the last forward pass (steady ones excepted) and
 * params_refresh. */
void graph_forward(struct graph *g);

/* After a forward pass in GRAPH_TRAIN: d_outputs by graph_write_grad (every output), then the
 * backward pass ACCUMULATES into param_grads [params_grad_count] (NULL where no parameter is
 * trainable), then gradients of GRAPH_GRAD inputs by graph_read_grad.  Once per forward pass. */
void graph_write_grad(struct graph *g, size_t output, const real *d_output);
void graph_backward(struct graph *g, real *param_grads);
void graph_read_grad(const struct graph *g, size_t input, real *d_input);

#endif
