#include "diffusion/pipeline.h"

#include "base/mem.h"
#include "io/safetensors.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#define MODEL "tests/golden/tiny-sd/model"

static const real *condition_of(struct pipeline *p, const char *prompt)
{
    const real *condition;
    struct err e;
    ck_assert_msg(pipeline_condition(p, prompt, &condition, NULL, &e) == 0, "%s", e.text);
    return condition;
}

START_TEST(a_condition_that_is_used_stays_and_the_least_recently_used_goes)
{
    struct pipeline *p;
    struct err e;
    ck_assert_msg(pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) == 0, "%s", e.text);
    const size_t bytes = pipeline_shape(p)->tokens * pipeline_shape(p)->condition_width * sizeof(real);
    const real *const used = condition_of(p, "a b"), *const idle = condition_of(p, "b a");
    real *const copy = mem_new(bytes, 1);
    memcpy(copy, used, bytes);
    ck_assert(memcmp(used, idle, bytes) != 0);
    for (uint32_t i = 2; i < 2 * PIPELINE_PROMPTS_MAX; i++) {
        char prompt[32];
        snprintf(prompt, sizeof prompt, "c %u", i);
        condition_of(p, prompt);
        if (i % 1000 == 0)
            ck_assert_ptr_eq(condition_of(p, "a b"), used);
    }
    ck_assert_ptr_eq(condition_of(p, "a b"), used);
    ck_assert_mem_eq(used, copy, bytes);
    /* as many others as the promise says: still there; its place is the next to go */
    for (uint32_t i = 0; i + 1 < PIPELINE_PROMPTS_MAX; i++) {
        char prompt[32];
        snprintf(prompt, sizeof prompt, "d %u", i);
        condition_of(p, prompt);
    }
    ck_assert_mem_eq(used, copy, bytes);
    ck_assert_ptr_eq(condition_of(p, "one more"), used);
    ck_assert_mem_eq(condition_of(p, "a b"), copy, bytes);
    mem_free(copy);
    pipeline_close(p);
}
END_TEST

START_TEST(a_policy_of_adapters_of_two_ranks_is_called_that)
{
    static const float values[8 * 32];
    const struct safetensors_item items[] = {
        {.name = "lora_unet_a_to_q.lora_down.weight", .dtype = DTYPE_F32, .rank = 2, .shape = {4, 32}, .data = values},
        {.name = "lora_unet_a_to_k.lora_down.weight", .dtype = DTYPE_F32, .rank = 2, .shape = {8, 32}, .data = values}};
    struct pipeline *p;
    uint8_t *bytes;
    size_t n;
    struct err e;
    ck_assert_msg(pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) == 0, "%s", e.text);
    ck_assert(safetensors_encode(&bytes, &n, items, 2, NULL, 0, &e) == 0);
    ck_assert_int_eq(pipeline_policy_set(p, bytes, n, &e), -1);
    ck_assert_msg(strstr(e.text, "one rank") != NULL, "%s", e.text);
    mem_free(bytes);
    pipeline_close(p);
}
END_TEST

SUITE("diffusion/pipeline", 60, a_policy_of_adapters_of_two_ranks_is_called_that, a_condition_that_is_used_stays_and_the_least_recently_used_goes)
