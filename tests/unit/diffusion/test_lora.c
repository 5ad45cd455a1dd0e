#include "diffusion/lora.h"

#include "base/mem.h"
#include "diffusion/model.h"
#include "nn/runner.h"
#include "support/folder.h"
#include "support/gradcheck.h"
#include "support/near.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MODEL "tests/golden/tiny-sd/model"
#define ADAPTER "tests/golden/tiny-sd/lora/pytorch_lora_weights.safetensors"
#define N 512 /* 2 samples of 8x8x4 */

static struct model *open_model(size_t rank)
{
    struct model *m;
    struct err e;
    const struct model_options o = {.parts = MODEL_HAS_UNET, .lora_rank = rank, .seed = 4};
    ck_assert_msg(model_open(&m, MODEL, o, &e) == 0, "%s", e.text);
    return m;
}

static void load(struct model *m, const char *path)
{
    struct safetensors *f;
    struct err e;
    ck_assert_msg(safetensors_open(&f, path, &e) == 0, "%s", e.text);
    ck_assert_msg(lora_load(m->params[MODEL_UNET], f, &e) == 0, "%s", e.text);
    safetensors_close(f);
}

static void run(real *out, struct model *m, struct graph_adapter adapter)
{
    real x[N], c[2 * 16 * 32];
    const double t[2] = {981, 21};
    struct err e;
    struct pool *pool;
    const struct unet_shape s = {&m->unet, 8, 8, 16, 0};
    gradcheck_fill(x, N, 1, 1.0);
    gradcheck_fill(c, sizeof c / sizeof *c, 2, 1.0);
    ck_assert(pool_new(&pool, 1, &e) == 0);
    struct runner *const r = runner_new((struct runner_options){.pool = pool,
                                                                .params = m->params[MODEL_UNET],
                                                                .build = unet_build,
                                                                .arg = &s,
                                                                .adapter = adapter});
    ck_assert_msg(runner_infer(r, (const void *const[]){x, t, c}, (real *const[]){out}, 2, &e) == 0,
                  "%s", e.text);
    runner_free(r);
    pool_free(pool);
}

static double difference(const real *a, const real *b)
{
#ifdef DAGLINE_REAL_DOUBLE
    return near_worst_double(a, b, N, NULL);
#else
    return near_worst_float(a, b, N, NULL);
#endif
}

START_TEST(a_fresh_adapter_changes_nothing)
{
    struct model *const plain = open_model(0), *const adapted = open_model(4);
    real a[N], b[N];
    run(a, plain, plain->adapter);
    run(b, adapted, adapted->adapter);
    ck_assert(memcmp(a, b, sizeof a) == 0);
    /* it alone is trainable: A random, B zero */
    const struct params *const p = adapted->params[MODEL_UNET];
    for (int id = 0; (size_t)id < params_length(p); id++)
        ck_assert(params_at(p, id)->trainable == lora_is_adapter(params_at(p, id)));
    model_close(plain);
    model_close(adapted);
}
END_TEST

START_TEST(merged_weights_do_what_the_adapter_did)
{
    struct model *const m = open_model(4);
    real base[N], branch[N], merged[N], back[N];
    run(base, m, (struct graph_adapter){0});
    load(m, ADAPTER);
    run(branch, m, m->adapter);
    ck_assert(difference(branch, base) > 1e-3);
    lora_merge(m->params[MODEL_UNET], 1);
    run(merged, m, (struct graph_adapter){0});
    ck_assert_msg(difference(merged, branch) < 1e-5, "%g", difference(merged, branch));
    lora_merge(m->params[MODEL_UNET], -1);
    run(back, m, (struct graph_adapter){0});
    ck_assert_msg(difference(back, base) < 1e-5, "%g", difference(back, base));
    model_close(m);
}
END_TEST

START_TEST(every_naming_comes_back_as_it_was_written)
{
    static const enum lora_naming namings[] = {LORA_PEFT, LORA_DIFFUSERS, LORA_KOHYA};
    static const char *const keys[] = {
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora.down.weight",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight"};
    const char *const path = in_test_folder("x.safetensors");
    struct model *const m = open_model(4);
    real want[N], got[N];
    load(m, ADAPTER);
    run(want, m, m->adapter);
    for (size_t i = 0; i < 3; i++) {
        struct err e;
        struct safetensors *f;
        size_t rank;
        struct model *const other = open_model(4);
        ck_assert_msg(lora_save(m->params[MODEL_UNET], path, namings[i], DTYPE_F32, &e) == 0, "%s",
                      e.text);
        ck_assert(safetensors_open(&f, path, &e) == 0);
        ck_assert_msg(safetensors_find(f, keys[i]) != NULL, "%s", keys[i]);
        ck_assert(lora_file_rank(f, &rank, &e) == 0 && rank == 4);
        safetensors_close(f);
        load(other, path);
        run(got, other, other->adapter);
        ck_assert(memcmp(want, got, sizeof want) == 0);
        model_close(other);
    }
    model_close(m);
}
END_TEST

/* alpha 8 at rank 4 doubles the branch. */
START_TEST(another_alpha_is_folded_into_the_weights)
{
    const char *const path = in_test_folder("x.safetensors");
    struct err e;
    struct model *const m = open_model(4), *const other = open_model(4);
    struct safetensors *f;
    load(m, ADAPTER);
    ck_assert(lora_save(m->params[MODEL_UNET], path, LORA_KOHYA, DTYPE_F32, &e) == 0);
    /* the same file with every alpha doubled */
    ck_assert(safetensors_open(&f, path, &e) == 0);
    const size_t count = safetensors_count(f);
    struct safetensors_item *const items = mem_new(count, sizeof *items);
    for (size_t i = 0; i < count; i++) {
        const struct safetensors_tensor *const t = safetensors_at(f, i);
        float *const v = mem_new(t->count, sizeof *v);
        ck_assert(safetensors_to_float(t, v, &e) == 0);
        if (t->rank == 0)
            v[0] *= 2;
        items[i] = (struct safetensors_item){
            .name = t->name, .dtype = DTYPE_F32, .rank = t->rank, .data = v};
        memcpy(items[i].shape, t->shape, sizeof items[i].shape);
    }
    const char *const doubled = in_test_folder("y.safetensors");
    ck_assert_msg(safetensors_write(doubled, items, count, NULL, 0, &e) == 0, "%s", e.text);
    for (size_t i = 0; i < count; i++)
        mem_free((void *)(uintptr_t)items[i].data);
    mem_free(items);
    safetensors_close(f);
    load(other, doubled);
    const struct params *const p = m->params[MODEL_UNET], *const q = other->params[MODEL_UNET];
    for (int id = 0; (size_t)id < params_length(p); id++) {
        const struct param *const a = params_at(p, id), *const b = params_at(q, id);
        const real factor = strstr(a->name, ".lora_B.") != NULL ? 2 : 1;
        for (size_t i = 0; i < a->count; i++)
            ck_assert_msg(factor * a->value[i] == b->value[i], "%s[%zu]", a->name, i);
    }
    model_close(m);
    model_close(other);
}
END_TEST

START_TEST(an_adapter_of_another_model_or_rank_is_refused_and_changes_nothing)
{
    struct safetensors *f;
    struct err e;
    struct model *const m = open_model(2);
    struct params *const p = m->params[MODEL_UNET];
    const int id =
        params_find(p, "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight");
    const real before = params_at(p, id)->value[0];
    ck_assert(safetensors_open(&f, ADAPTER, &e) == 0);
    ck_assert(lora_load(p, f, &e) < 0);
    ck_assert_msg(strstr(e.text, "expected [2,32]") != NULL, "%s", e.text);
    safetensors_close(f);
    ck_assert(safetensors_open(&f,
                               "tests/golden/tiny-sd/model/vae/diffusion_pytorch_model.safetensors",
                               &e) == 0);
    size_t rank;
    ck_assert(lora_file_rank(f, &rank, &e) < 0 && e.code == ERR_NOT_FOUND);
    ck_assert(lora_load(p, f, &e) < 0);
    safetensors_close(f);
    ck_assert(params_at(p, id)->value[0] == before);
    model_close(m);
}
END_TEST

SUITE("diffusion/lora", 30, a_fresh_adapter_changes_nothing, merged_weights_do_what_the_adapter_did,
      every_naming_comes_back_as_it_was_written, another_alpha_is_folded_into_the_weights,
      an_adapter_of_another_model_or_rank_is_refused_and_changes_nothing)
