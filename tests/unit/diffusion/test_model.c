#include "diffusion/model.h"

#include "base/file.h"
#include "base/mem.h"
#include "support/folder.h"
#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "tests/golden/tiny-sd/model"

static struct model *open_ok(const char *folder, struct model_options o)
{
    struct model *m = NULL;
    struct err e;
    ck_assert_msg(model_open(&m, folder, o, &e) == 0, "%s", e.text);
    return m;
}

static void same_values(const struct model *a, const struct model *b)
{
    for (enum model_part part = 0; part < MODEL_PARTS; part++) {
        ck_assert_uint_eq(params_length(a->params[part]), params_length(b->params[part]));
        for (int id = 0; (size_t)id < params_length(a->params[part]); id++) {
            const struct param *const x = params_at(a->params[part], id);
            const struct param *const y = params_at(b->params[part], id);
            ck_assert_str_eq(x->name, y->name);
            ck_assert_msg(memcmp(x->value, y->value, x->count * sizeof(real)) == 0, "%s", x->name);
        }
    }
}

START_TEST(a_saved_folder_opens_as_the_same_model)
{
    const char *const folder = test_folder();
    struct err e;
    struct json *j;
    int64_t v;
    struct model *const a = open_ok(MODEL, (struct model_options){.parts = MODEL_HAS_ALL});
    json_set_int(a->config[MODEL_UNET], "a_field_of_tomorrow", 42);
    ck_assert_msg(model_save(a, folder, DTYPE_F32, &e) == 0, "%s", e.text);
    struct model *const b = open_ok(folder, (struct model_options){.parts = MODEL_HAS_ALL});
    same_values(a, b);
    ck_assert(json_read_file(&j, in_test_folder("unet/config.json"), 1 << 20, &e) == 0);
    ck_assert(json_get_int(j, "a_field_of_tomorrow", 0, 100, &v, &e) == 0 && v == 42);
    json_free(j);
    ck_assert_int_eq(tokenizer_vocab_size(a->tokenizer), tokenizer_vocab_size(b->tokenizer));
    model_close(a);
    model_close(b);
}
END_TEST

static bool has(const char *name)
{
    return file_exists(in_test_folder(name));
}

/* As Stable Diffusion 1.5 lists a safety checker, which is not loaded and so not saved. */
START_TEST(a_component_that_is_not_saved_is_none_in_the_index)
{
    const char *const folder = test_folder();
    struct err e;
    struct json *index, *pair = json_new_list();
    struct model *const m = open_ok(MODEL, (struct model_options){.parts = MODEL_HAS_ALL});
    json_append_string(pair, "stable_diffusion");
    json_append_string(pair, "StableDiffusionSafetyChecker");
    json_set(m->index, "safety_checker", &pair);
    json_set_bool(m->index, "requires_safety_checker", true);
    ck_assert_msg(model_save(m, folder, DTYPE_F16, &e) == 0, "%s", e.text);
    ck_assert(json_read_file(&index, in_test_folder("model_index.json"), 1 << 20, &e) == 0);
    const struct json *const checker = json_get(index, "safety_checker"), *const unet = json_get(index, "unet");
    bool required = true;
    ck_assert_str_eq(json_type_name(json_at(checker, 1)), "null");
    ck_assert_str_eq(json_type_name(json_at(unet, 1)), "string");
    ck_assert(json_get_bool(index, "requires_safety_checker", &required, &e) == 0 && !required);
    json_free(index);
    model_close(m);
}
END_TEST

START_TEST(saving_over_a_folder_leaves_no_other_form_of_its_weights)
{
    const char *const folder = test_folder();
    struct err e;
    struct model *const m = open_ok(MODEL, (struct model_options){.parts = MODEL_HAS_ALL});
    ck_assert(model_save(m, folder, DTYPE_F16, &e) == 0);
    put_in_test_folder("unet/diffusion_pytorch_model.safetensors.index.json", "{}");
    put_in_test_folder("text_encoder/model.fp16.safetensors", "old");
    ck_assert_msg(model_save(m, folder, DTYPE_F16, &e) == 0, "%s", e.text);
    ck_assert(!has("unet/diffusion_pytorch_model.safetensors.index.json"));
    ck_assert(!has("text_encoder/model.fp16.safetensors"));
    ck_assert(has("model_index.json"));
    /* interrupted: a part cannot be written, and the folder does not pass for a whole one */
    ck_assert_int_eq(file_remove_tree(in_test_folder("vae"), &e), 0);
    put_in_test_folder("vae", "in the way");
    ck_assert_int_lt(model_save(m, folder, DTYPE_F16, &e), 0);
    ck_assert(!has("model_index.json"));
    model_close(m);
}
END_TEST

START_TEST(the_schedule_is_the_pipelines)
{
    const char *const folder = test_folder();
    struct err e;
    struct model *m = open_ok(MODEL, (struct model_options){.parts = MODEL_HAS_ALL});
    ck_assert(model_save(m, folder, DTYPE_F16, &e) == 0);
    model_close(m);
    put_in_test_folder("scheduler/scheduler_config.json",
               "{\"_class_name\":\"PNDMScheduler\",\"beta_schedule\":\"scaled_linear\",\"steps_offset\":0}");
    m = open_ok(folder, (struct model_options){.parts = MODEL_HAS_SCHEDULE});
    ck_assert_int_eq(m->schedule.steps_offset, 1);
    ck_assert(!m->schedule.clip_sample);
    model_close(m);
}
END_TEST

START_TEST(half_precision_is_read_back)
{
    const char *const folder = test_folder();
    struct err e;
    struct model *const a = open_ok(MODEL, (struct model_options){.parts = MODEL_HAS_ALL});
    ck_assert_msg(model_save(a, folder, DTYPE_F16, &e) == 0, "%s", e.text);
    struct model *const b = open_ok(folder, (struct model_options){.parts = MODEL_HAS_ALL});
    const struct param *const x = params_at(a->params[MODEL_UNET], 7), *const y = params_at(
                                                                           b->params[MODEL_UNET],
                                                                           7);
    for (size_t i = 0; i < x->count; i++)
        ck_assert_msg(abs((int)(1e6 * (double)(x->value[i] - y->value[i]))) < 2000, "%zu", i);
    model_close(a);
    model_close(b);
}
END_TEST

START_TEST(fresh_weights_depend_on_the_seed_alone)
{
    const struct model_options o = {.parts = MODEL_HAS_ALL, .fresh = true, .seed = 9};
    struct model_options other = o;
    other.seed = 10;
    struct model *const a = open_ok(MODEL, o), *const b = open_ok(MODEL, o),
                        *const c = open_ok(MODEL, other);
    same_values(a, b);
    const int id = params_find(a->params[MODEL_UNET], "conv_in.weight");
    ck_assert(memcmp(params_at(a->params[MODEL_UNET], id)->value,
                     params_at(c->params[MODEL_UNET], id)->value, 64) != 0);
    model_close(a);
    model_close(b);
    model_close(c);
}
END_TEST

/* Copies the model's UNet with one change of the weights; returns the error and the report. */
static void refused_unet(bool drop, bool reshape, bool extra, struct err *e, struct buf *report)
{
    const char *const folder = test_folder();
    struct safetensors *f;
    struct model *m = open_ok(MODEL, (struct model_options){.parts = MODEL_HAS_UNET});
    ck_assert_msg(model_save(m, folder, DTYPE_F32, e) == 0, "%s", e->text);
    model_close(m);
    ck_assert(safetensors_open(&f, MODEL "/unet/diffusion_pytorch_model.safetensors", e) == 0);
    const size_t count = safetensors_count(f);
    struct safetensors_item *const items = mem_new(count + 1, sizeof *items);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct safetensors_tensor *const t = safetensors_at(f, i);
        if (drop &&
            (strcmp(t->name, "conv_in.bias") == 0 || strcmp(t->name, "conv_norm_out.weight") == 0))
            continue;
        float *const v = mem_new(t->count, sizeof *v);
        ck_assert(safetensors_to_float(t, v, e) == 0);
        items[n] = (struct safetensors_item){
            .name = t->name, .dtype = DTYPE_F32, .rank = t->rank, .data = v};
        memcpy(items[n].shape, t->shape, sizeof items[n].shape);
        if (reshape && strcmp(t->name, "conv_out.bias") == 0) {
            items[n].shape[0] = 2;
            items[n].shape[1] = 2;
            items[n].rank = 2;
        }
        n++;
    }
    float one = 1;
    if (extra)
        items[n++] = (struct safetensors_item){
            .name = "conv_extra.weight", .dtype = DTYPE_F32, .rank = 1, .shape = {1}, .data = &one};
    ck_assert_msg(safetensors_write(in_test_folder("unet/diffusion_pytorch_model.safetensors"), items, n, NULL, 0, e) == 0,
                  "%s", e->text);
    for (size_t i = 0; i < n; i++)
        if (items[i].data != &one)
            mem_free((void *)(uintptr_t)items[i].data);
    mem_free(items);
    safetensors_close(f);
    m = NULL;
    ck_assert(model_open(&m, folder,
                         (struct model_options){.parts = MODEL_HAS_UNET, .report = report}, e) < 0);
    ck_assert_ptr_null(m);
}

START_TEST(all_weights_that_do_not_fit_are_listed)
{
    struct err e;
    struct buf report;
    buf_init(&report, 1 << 16);
    refused_unet(true, true, true, &e, &report);
    ck_assert_msg(strstr(e.text, "2 missing, 1 misshapen, 1 extra") != NULL, "%s", e.text);
    ck_assert_ptr_nonnull(strstr(buf_text(&report), "missing conv_in.bias [32]\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&report), "missing conv_norm_out.weight [32]\n"));
    ck_assert_ptr_nonnull(
        strstr(buf_text(&report), "misshapen conv_out.bias is F32 [2,2], expected [4]\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&report), "extra conv_extra.weight\n"));
    buf_done(&report);
}
END_TEST

START_TEST(a_folder_that_is_no_model_is_refused_with_a_hint)
{
    const char *const folder = test_folder();
    struct err e;
    struct model *m = NULL;
    ck_assert(model_open(&m, folder, (struct model_options){.parts = MODEL_HAS_ALL}, &e) < 0);
    ck_assert_msg(strstr(e.text, "model_index.json") != NULL, "%s", e.text);
    const char *const index = "{\"unet\": [\"diffusers\", \"FluxTransformer2DModel\"]}";
    put_in_test_folder("model_index.json", index);
    ck_assert(model_open(&m, folder, (struct model_options){.parts = MODEL_HAS_UNET}, &e) < 0);
    ck_assert_msg(strstr(e.text, "FluxTransformer2DModel") != NULL, "%s", e.text);
    /* weights that are not there: the hint about pickles */
    struct model *const ok = open_ok(MODEL, (struct model_options){.parts = MODEL_HAS_UNET});
    ck_assert(model_save(ok, folder, DTYPE_F32, &e) == 0);
    model_close(ok);
    ck_assert_int_eq(remove(in_test_folder("unet/diffusion_pytorch_model.safetensors")), 0);
    ck_assert(model_open(&m, folder, (struct model_options){.parts = MODEL_HAS_UNET}, &e) < 0);
    ck_assert_msg(strstr(e.text, "safe_serialization") != NULL, "%s", e.text);
}
END_TEST

SUITE("diffusion/model", 30, a_saved_folder_opens_as_the_same_model, half_precision_is_read_back,
      a_component_that_is_not_saved_is_none_in_the_index, saving_over_a_folder_leaves_no_other_form_of_its_weights,
      the_schedule_is_the_pipelines,
      fresh_weights_depend_on_the_seed_alone, all_weights_that_do_not_fit_are_listed,
      a_folder_that_is_no_model_is_refused_with_a_hint)
