#include "nn/conv2d_dnnl.h"

#include <assert.h>
#include <stdlib.h>

#if defined(HAVE_DNNL) && !defined(DAGLINE_REAL_DOUBLE)

#include "base/mem.h"
#include "nn/conv2d_im2col.h"
#include "nn/gemm.h"

#include <dnnl.h>
#include <stdint.h>
#include <string.h>

#define ALIGN_BYTES 64
#define ARGS_MAX 5

/* One pass over one sample.  The descriptors belong to the primitive's description. */
struct pass {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t convolve;
    dnnl_primitive_t reorder; /* of the weights, into the pass's order, or of d_w, out of it */
    const dnnl_memory_desc_t *weights, *scratch;
};

struct conv2d_dnnl {
    struct conv2d_shape shape;
    size_t x_reals, y_reals, w_reals; /* of one sample */
    dnnl_engine_t engine;
    dnnl_memory_desc_t x, y, w, bias;
    struct pass pass[CONV2D_PASSES];
    real *no_bias; /* [O] zeros */
};

struct arg {
    int id;
    const dnnl_memory_desc_t *desc;
    const void *data;
    size_t step; /* reals from one sample to the next */
};

bool conv2d_dnnl_can(struct conv2d_shape s)
{
    (void)s;
    return true;
}

static size_t align(size_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* Runs a primitive for each of B samples.  oneDNN wants memory objects, which belong to one call;
 * that they cannot be made is no memory for a few hundred bytes, and ends the process. */
static void execute(const struct conv2d_dnnl *d, dnnl_primitive_t primitive, size_t B,
                    const struct arg *args, int count)
{
    dnnl_exec_arg_t exec[ARGS_MAX];
    dnnl_stream_t stream = NULL;
    dnnl_status_t status = dnnl_stream_create(&stream, d->engine, dnnl_stream_default_flags);
    assert(status == dnnl_success && count <= ARGS_MAX);
    gemm_single_thread();
    for (int i = 0; i < count; i++) {
        exec[i].arg = args[i].id;
        status = dnnl_memory_create(&exec[i].memory, args[i].desc, d->engine, DNNL_MEMORY_NONE);
        assert(status == dnnl_success);
    }
    for (size_t b = 0; b < B; b++) {
        for (int i = 0; i < count; i++) {
            /* the interface takes inputs, too, by a pointer to what may be written */
            const uintptr_t at = (uintptr_t)args[i].data + b * args[i].step * sizeof(real);
            status = dnnl_memory_set_data_handle(exec[i].memory, (void *)at);
            assert(status == dnnl_success);
        }
        status = dnnl_primitive_execute(primitive, stream, count, exec);
        assert(status == dnnl_success);
    }
    status = dnnl_stream_wait(stream);
    assert(status == dnnl_success);
    for (int i = 0; i < count; i++)
        dnnl_memory_destroy(exec[i].memory);
    dnnl_stream_destroy(stream);
}

static int fail(struct err *e, const char *step, dnnl_status_t status)
{
    return err_set(e, ERR_INVALID, "oneDNN convolution: %s failed with status %d", step,
                   (int)status);
}

static dnnl_status_t describe_tensors(struct conv2d_dnnl *d)
{
    const struct conv2d_shape s = d->shape;
    const int64_t Ho = (int64_t)conv2d_out_size(s, s.H), Wo = (int64_t)conv2d_out_size(s, s.W);
    const dnnl_dims_t x = {1, (int64_t)s.C, (int64_t)s.H, (int64_t)s.W};
    const dnnl_dims_t y = {1, (int64_t)s.O, Ho, Wo};
    const dnnl_dims_t w = {(int64_t)s.O, (int64_t)s.C, (int64_t)s.K, (int64_t)s.K};
    const dnnl_dims_t bias = {(int64_t)s.O};
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&d->x, 4, x, dnnl_f32, dnnl_nhwc);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&d->y, 4, y, dnnl_f32, dnnl_nhwc);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&d->w, 4, w, dnnl_f32, dnnl_oihw);
    if (status == dnnl_success)
        status = dnnl_memory_desc_init_by_tag(&d->bias, 1, bias, dnnl_f32, dnnl_a);
    return status;
}

/* The description of one pass; oneDNN builds the passes back from that of the forward pass. */
static dnnl_status_t describe_pass(dnnl_primitive_desc_t *out, const struct conv2d_dnnl *d,
                                   enum conv2d_pass pass, const_dnnl_primitive_attr_t attr)
{
    const struct conv2d_shape s = d->shape;
    const int64_t side = (int64_t)(s.K / 2), before = s.pad == CONV2D_PAD_SAME ? side : 0;
    const dnnl_dims_t strides = {(int64_t)s.stride, (int64_t)s.stride};
    const dnnl_dims_t pad_l = {before, before};
    const dnnl_dims_t pad_r = {
        (d->y.dims[2] - 1) * strides[0] + (int64_t)s.K - (int64_t)s.H - before,
        (d->y.dims[3] - 1) * strides[1] + (int64_t)s.K - (int64_t)s.W - before};
    dnnl_memory_desc_t w = d->w;
    dnnl_convolution_desc_t forward, back;
    dnnl_primitive_desc_t hint = NULL;
    w.format_kind = dnnl_format_kind_any;
    dnnl_status_t status =
        dnnl_convolution_forward_desc_init(&forward, dnnl_forward_training, dnnl_convolution_direct,
                                           &d->x, &w, &d->bias, &d->y, strides, pad_l, pad_r);
    if (status != dnnl_success)
        return status;
    if (pass == CONV2D_FORWARD)
        return dnnl_primitive_desc_create(out, &forward, attr, d->engine, NULL);
    status = dnnl_primitive_desc_create(&hint, &forward, attr, d->engine, NULL);
    if (status != dnnl_success)
        return status;
    if (pass == CONV2D_BACKWARD_DATA)
        status = dnnl_convolution_backward_data_desc_init(&back, dnnl_convolution_direct, &d->x, &w,
                                                          &d->y, strides, pad_l, pad_r);
    else
        status = dnnl_convolution_backward_weights_desc_init(
            &back, dnnl_convolution_direct, &d->x, &w, NULL, &d->y, strides, pad_l, pad_r);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, &back, attr, d->engine, hint);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

static dnnl_status_t create_reorder(dnnl_primitive_t *out, const struct conv2d_dnnl *d,
                                    const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to)
{
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&desc, from, d->engine, to, d->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(out, desc);
    if (desc != NULL)
        dnnl_primitive_desc_destroy(desc);
    return status;
}

static dnnl_status_t open_pass(struct conv2d_dnnl *d, enum conv2d_pass pass,
                               const_dnnl_primitive_attr_t attr)
{
    struct pass *const p = &d->pass[pass];
    const bool is_gradient = pass == CONV2D_BACKWARD_WEIGHTS;
    dnnl_status_t status = describe_pass(&p->desc, d, pass, attr);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&p->convolve, p->desc);
    if (status != dnnl_success)
        return status;
    p->weights = dnnl_primitive_desc_query_md(
        p->desc, is_gradient ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    p->scratch = dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    return is_gradient ? create_reorder(&p->reorder, d, p->weights, &d->w)
                       : create_reorder(&p->reorder, d, &d->w, p->weights);
}

int conv2d_dnnl_open(struct conv2d_dnnl **out, struct conv2d_shape s,
                     const enum conv2d_algo algo[CONV2D_PASSES], struct err *e)
{
    int rc = -1;
    dnnl_primitive_attr_t attr = NULL;
    struct conv2d_dnnl *const d = mem_new(1, sizeof *d);
    const char *step = "the engine";
    gemm_single_thread(); /* the number of threads is built into a primitive */
    *d = (struct conv2d_dnnl){
        .shape = s,
        .x_reals = s.H * s.W * s.C,
        .y_reals = conv2d_out_size(s, s.H) * conv2d_out_size(s, s.W) * s.O,
        .w_reals = s.O * s.C * s.K * s.K,
        .no_bias = mem_new(s.O, sizeof(real)),
    };
    dnnl_status_t status = dnnl_engine_create(&d->engine, dnnl_cpu, 0);
    if (status == dnnl_success) {
        step = "the description";
        status = describe_tensors(d);
    }
    if (status == dnnl_success)
        status = dnnl_primitive_attr_create(&attr);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    for (int pass = 0; pass < CONV2D_PASSES && status == dnnl_success; pass++) {
        step = "a pass";
        if (algo[pass] == CONV2D_DNNL)
            status = open_pass(d, (enum conv2d_pass)pass, attr);
    }
    if (status != dnnl_success) {
        fail(e, step, status);
        goto out;
    }
    *out = d;
    rc = 0;
out:
    if (attr != NULL)
        dnnl_primitive_attr_destroy(attr);
    if (rc < 0)
        conv2d_dnnl_close(d);
    return rc;
}

void conv2d_dnnl_close(struct conv2d_dnnl *d)
{
    if (d == NULL)
        return;
    for (int pass = 0; pass < CONV2D_PASSES; pass++) {
        struct pass *const p = &d->pass[pass];
        if (p->reorder != NULL)
            dnnl_primitive_destroy(p->reorder);
        if (p->convolve != NULL)
            dnnl_primitive_destroy(p->convolve);
        if (p->desc != NULL)
            dnnl_primitive_desc_destroy(p->desc);
    }
    if (d->engine != NULL)
        dnnl_engine_destroy(d->engine);
    mem_free(d->no_bias);
    mem_free(d);
}

size_t conv2d_dnnl_weights_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass)
{
    return dnnl_memory_desc_get_size(d->pass[pass].weights);
}

void conv2d_dnnl_weights(const struct conv2d_dnnl *d, enum conv2d_pass pass, void *to,
                         const real *w)
{
    const struct pass *const p = &d->pass[pass];
    const struct arg args[] = {{DNNL_ARG_FROM, &d->w, w, 0}, {DNNL_ARG_TO, p->weights, to, 0}};
    execute(d, p->reorder, 1, args, 2);
}

/* The work memory: oneDNN's own, then one sample's result where it has to be added to another. */
static size_t scratch_bytes(const struct pass *p)
{
    return align(dnnl_memory_desc_get_size(p->scratch));
}

size_t conv2d_dnnl_work_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass)
{
    const size_t scratch = scratch_bytes(&d->pass[pass]);
    if (pass == CONV2D_BACKWARD_DATA)
        return scratch + d->x_reals * sizeof(real);
    if (pass == CONV2D_BACKWARD_WEIGHTS)
        return scratch + align(conv2d_dnnl_weights_bytes(d, pass)) + d->w_reals * sizeof(real);
    return scratch;
}

void conv2d_dnnl_forward(const struct conv2d_dnnl *d, size_t B, real *y, const real *x,
                         const void *weights, const real *bias, void *work)
{
    const struct pass *const p = &d->pass[CONV2D_FORWARD];
    const struct arg args[] = {
        {DNNL_ARG_SRC, &d->x, x, d->x_reals},
        {DNNL_ARG_WEIGHTS, p->weights, weights, 0},
        {DNNL_ARG_BIAS, &d->bias, bias != NULL ? bias : d->no_bias, 0},
        {DNNL_ARG_DST, &d->y, y, d->y_reals},
        {DNNL_ARG_SCRATCHPAD, p->scratch, work, 0},
    };
    execute(d, p->convolve, B, args, 5);
}

static void add(real *to, const real *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] += from[i];
}

void conv2d_dnnl_backward_data(const struct conv2d_dnnl *d, size_t B, real *d_x, bool accumulate,
                               const real *d_y, const void *weights, void *work)
{
    const struct pass *const p = &d->pass[CONV2D_BACKWARD_DATA];
    real *const sample = (real *)(void *)((char *)work + scratch_bytes(p));
    struct arg args[] = {
        {DNNL_ARG_DIFF_DST, &d->y, d_y, d->y_reals},
        {DNNL_ARG_WEIGHTS, p->weights, weights, 0},
        {DNNL_ARG_DIFF_SRC, &d->x, d_x, d->x_reals},
        {DNNL_ARG_SCRATCHPAD, p->scratch, work, 0},
    };
    if (!accumulate) {
        execute(d, p->convolve, B, args, 4);
        return;
    }
    args[2].data = sample;
    for (size_t b = 0; b < B; b++) {
        args[0].data = d_y + b * d->y_reals;
        execute(d, p->convolve, 1, args, 4);
        add(d_x + b * d->x_reals, sample, d->x_reals);
    }
}

void conv2d_dnnl_backward_weights(const struct conv2d_dnnl *d, size_t B, real *d_w, const real *d_y,
                                  const real *x, void *work)
{
    const struct pass *const p = &d->pass[CONV2D_BACKWARD_WEIGHTS];
    char *const sum = (char *)work + scratch_bytes(p);
    real *const plain =
        (real *)(void *)(sum + align(conv2d_dnnl_weights_bytes(d, CONV2D_BACKWARD_WEIGHTS)));
    const struct arg reorder[] = {{DNNL_ARG_FROM, p->weights, sum, 0},
                                  {DNNL_ARG_TO, &d->w, plain, 0}};
    for (size_t b = 0; b < B; b++) {
        const struct arg args[] = {
            {DNNL_ARG_SRC, &d->x, x + b * d->x_reals, 0},
            {DNNL_ARG_DIFF_DST, &d->y, d_y + b * d->y_reals, 0},
            {DNNL_ARG_DIFF_WEIGHTS, p->weights, sum, 0},
            {DNNL_ARG_SCRATCHPAD, p->scratch, work, 0},
        };
        execute(d, p->convolve, 1, args, 4);
        execute(d, p->reorder, 1, reorder, 2);
        add(d_w, plain, d->w_reals);
    }
}

#else /* no oneDNN, or another precision than its own */

bool conv2d_dnnl_can(struct conv2d_shape s)
{
    (void)s;
    return false;
}

int conv2d_dnnl_open(struct conv2d_dnnl **out, struct conv2d_shape s,
                     const enum conv2d_algo algo[CONV2D_PASSES], struct err *e)
{
    (void)s;
    (void)algo;
    *out = NULL;
    return err_set(e, ERR_INVALID, "this build has no oneDNN");
}

void conv2d_dnnl_close(struct conv2d_dnnl *d)
{
    assert(d == NULL);
}

/* conv2d_dnnl_can is false, so no plan gets as far as these. */
size_t conv2d_dnnl_weights_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass)
{
    (void)d;
    (void)pass;
    abort();
}

void conv2d_dnnl_weights(const struct conv2d_dnnl *d, enum conv2d_pass pass, void *to,
                         const real *w)
{
    (void)d;
    (void)pass;
    (void)to;
    (void)w;
    abort();
}

size_t conv2d_dnnl_work_bytes(const struct conv2d_dnnl *d, enum conv2d_pass pass)
{
    (void)d;
    (void)pass;
    abort();
}

void conv2d_dnnl_forward(const struct conv2d_dnnl *d, size_t B, real *y, const real *x,
                         const void *weights, const real *bias, void *work)
{
    (void)d;
    (void)B;
    (void)y;
    (void)x;
    (void)weights;
    (void)bias;
    (void)work;
    abort();
}

void conv2d_dnnl_backward_data(const struct conv2d_dnnl *d, size_t B, real *d_x, bool accumulate,
                               const real *d_y, const void *weights, void *work)
{
    (void)d;
    (void)B;
    (void)d_x;
    (void)accumulate;
    (void)d_y;
    (void)weights;
    (void)work;
    abort();
}

void conv2d_dnnl_backward_weights(const struct conv2d_dnnl *d, size_t B, real *d_w, const real *d_y,
                                  const real *x, void *work)
{
    (void)d;
    (void)B;
    (void)d_w;
    (void)d_y;
    (void)x;
    (void)work;
    abort();
}

#endif
