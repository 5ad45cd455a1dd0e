/* The registry of a model's parameters: names and shapes as diffusers and safetensors write them
 * (linear [out,in], convolution [out,in,kh,kw], everything else one row), one slab of values, and
 * for each trainable parameter its place in a gradient slab that the caller owns.
 *
 * Life: params_new; params_add for every parameter (the model's builder does it, graph.h);
 * params_seal makes the slab; then values are written (loaded or params_init) and the registry is
 * shared by all graphs of the model.  A second round of params_add + params_seal adds parameters
 * (low-rank branches) without moving the first ones.
 *
 * Gradients are compact: only trainable parameters have a place, in registry order.  Every worker
 * has its own gradient slab of params_grad_count() numbers.  A change of what is trainable moves
 * the places, so set it before graphs are built.
 *
 * Prepared weights: a kernel may want a weight in another form (a transpose, a Winograd
 * transform).  Graphs ask for such forms while they are planned (params_add_form); params_refresh
 * recomputes those whose source has a new version.  After every change of values call
 * params_touch_*, and params_refresh before the next pass.
 *
 * Thread rule: reading is free for all; add, seal, set, touch, forms and refresh belong to one
 * thread while no graph of the model runs. */
#ifndef DAGLINE_NN_PARAM_H
#define DAGLINE_NN_PARAM_H

#include "base/err.h"
#include "nn/pool.h"
#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARAM_NAME_BYTES_MAX 192
#define PARAM_DIMS_MAX 4
#define PARAM_NONE (-1)

/* How params_init draws a fresh value. */
enum param_init_kind {
    PARAM_INIT_ZERO,
    PARAM_INIT_ONE,
    PARAM_INIT_UNIFORM, /* U(-scale, scale): PyTorch's linear and convolution use 1/sqrt(fan_in) */
    PARAM_INIT_NORMAL,  /* N(0, scale^2) */
};

struct param_init {
    enum param_init_kind kind;
    double scale;
};

struct param {
    char *name;
    int dims;
    int64_t dim[PARAM_DIMS_MAX];
    size_t count; /* product of dim */
    real *value;  /* [count], NULL before params_seal */
    size_t grad;  /* offset in a gradient slab; meaningful only where trainable */
    bool trainable;
    bool tight; /* starts where its predecessor ends, see params_add */
    struct param_init init;
    uint64_t version; /* of the value */
};

struct params;

struct params *params_new(void) MUST_USE;
void params_free(struct params *p);

/* Registers a parameter and returns its id (0, 1, ...); a known name with the same shape returns
 * the id it has (asserts on another shape: a builder's mistake).  tight: stored right behind the
 * parameter registered before it, so that weights over one input (to_q, to_k, to_v) form one
 * matrix; otherwise a value starts on a 64-byte boundary. */
int params_add(struct params *p, const char *name, int dims, const int64_t *dim, bool tight,
               struct param_init init);

/* Gives every parameter added since the last seal its memory (zeroed) and places gradients. */
int params_seal(struct params *p, struct err *e) MUST_USE;

size_t params_length(const struct params *p);
const struct param *params_at(const struct params *p, int id);

/* The id, or PARAM_NONE. */
int params_find(const struct params *p, const char *name);

/* Sum of counts: all, or of the trainable ones. */
size_t params_count(const struct params *p, bool trainable_only);

/* Sets trainable for every name that starts with `prefix` and ends with `suffix` ("" matches all);
 * returns how many parameters matched.  Moves gradient places. */
size_t params_set_trainable(struct params *p, const char *prefix, const char *suffix,
                            bool trainable);

/* Numbers in a gradient slab (padding included; padding stays zero). */
size_t params_grad_count(const struct params *p);

/* A maximal stretch where trainable values and their gradients are both contiguous: value[i]
 * belongs to gradient[grad + i] for i < count (padding between parameters included).  An optimiser
 * walks runs, not parameters: all weights of a model are one run, an adapter is one run. */
struct param_run {
    real *value;
    size_t grad;
    size_t count;
};

/* Iterates: *at starts at 0; false when there are no more. */
bool params_next_run(const struct params *p, size_t *at, struct param_run *run);

/* Fresh values by each parameter's initialiser for ids in [first, params_length).  A value is a
 * function of (seed, name, element): the order of registration does not matter. */
void params_init(struct params *p, int first, uint64_t seed);

/* Tells that values have changed, of the trainable parameters or of all: their prepared forms are
 * stale. params_version changes with every touch. */
void params_touch_trainable(struct params *p);
void params_touch_all(struct params *p);
uint64_t params_version(const struct params *p);

/* A prepared form of a parameter: `bytes` of memory that fill(form, value, state) overwrites. state
 * belongs to the registry once params_add_form has taken it, and ends by drop(state). */
struct param_form {
    size_t bytes;
    void (*fill)(void *form, const real *value, const void *state);
    void (*drop)(void *state);
    void *state;
};

#define PARAM_FORM_KEY_BYTES_MAX 128

/* The slot of parameter id's form under this key, or PARAM_NONE: forms are shared by key. */
int params_find_form(const struct params *p, int id, const void *key, size_t key_bytes);

/* A new slot; takes form.state. The next params_refresh fills it. */
int params_add_form(struct params *p, int id, const void *key, size_t key_bytes,
                    struct param_form form);

/* Brings every stale prepared form up to date, on the pool's threads (NULL: on the calling one); allocates only for
 * new slots. */
int params_refresh(struct params *p, struct pool *pool, struct err *e) MUST_USE;
const void *params_prepared(const struct params *p, int slot);

#endif
