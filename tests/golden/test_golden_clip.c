/* Both towers of a CLIP model in miniature, its rewards, and Pillow's resizing: tests/golden/tiny-clip, which
 * make_tiny_clip.py writes with PyTorch and Pillow. */
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "diffusion/clip.h"
#include "io/image.h"
#include "io/png.h"
#include "rewards/clip_reward.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "tests/golden/tiny-clip"
#define PICTURES 4
#define TEXTS 3
#define E_NUMBERS 20
#define TOLERANCE 2e-6

static struct image picture[PICTURES];
static struct json *expected;

static void setup(void)
{
    struct err e;
    for (int i = 0; i < PICTURES; i++) {
        char path[64];
        snprintf(path, sizeof path, FOLDER "/picture-%d.png", i);
        char *bytes;
        size_t n;
        ck_assert_msg(file_read_all(path, 1 << 20, &bytes, &n, &e) == 0, "%s", e.text);
        ck_assert_msg(png_decode(&picture[i], (const uint8_t *)bytes, n, &e) == 0, "%s", e.text);
        mem_free(bytes);
    }
    ck_assert_msg(json_read_file(&expected, FOLDER "/expected.json", 1 << 20, &e) == 0, "%s", e.text);
}

static void teardown(void)
{
    for (int i = 0; i < PICTURES; i++)
        image_done(&picture[i]);
    json_free(expected);
}

static double number(const struct json *list, size_t i)
{
    double v;
    struct err e;
    ck_assert_int_eq(json_as_number(json_at(list, i), "number", -1e9, 1e9, &v, &e), 0);
    return v;
}

static void texts_of(const char *out[TEXTS])
{
    struct err e;
    for (size_t i = 0; i < TEXTS; i++)
        ck_assert_int_eq(json_as_string(json_at(json_get(expected, "texts"), i), "text", 1000, &out[i], &e), 0);
}

static void compare(const char *what, const float *got, size_t n)
{
    const struct json *rows = json_get(expected, what);
    ck_assert_uint_eq(json_count(rows), n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < E_NUMBERS; k++) {
            const double want = number(json_at(rows, i), k), is = (double)got[i * E_NUMBERS + k];
            ck_assert_msg(fabs(is - want) < TOLERANCE, "%s %zu, %zu: %.9g, wanted %.9g", what, i, k, is, want);
        }
}

START_TEST(both_towers_agree_with_pytorch)
{
    struct clip *c;
    struct err e;
    float got[PICTURES * E_NUMBERS];
    const char *texts[TEXTS];
    setup();
    ck_assert_msg(clip_open(&c, FOLDER, true, 2, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(clip_config(c)->projection, E_NUMBERS);
    ck_assert_msg(fabs(clip_logit_scale(c) - 87.0) < 1e-3, "%g", clip_logit_scale(c));
    ck_assert_msg(clip_embed_pictures(c, picture, PICTURES, got, &e) == 0, "%s", e.text);
    compare("pictures", got, PICTURES);
    texts_of(texts);
    ck_assert_msg(clip_embed_texts(c, texts, TEXTS, got, &e) == 0, "%s", e.text);
    compare("text_embeddings", got, TEXTS);
    clip_close(c);
    teardown();
}
END_TEST

START_TEST(rewards_are_what_their_papers_say)
{
    struct clip_reward *r;
    struct err e;
    double value[TEXTS], cosine[TEXTS] = {0};
    const char *texts[TEXTS];
    setup();
    texts_of(texts);
    for (size_t i = 0; i < TEXTS; i++)
        for (size_t k = 0; k < E_NUMBERS; k++)
            cosine[i] += number(json_at(json_get(expected, "pictures"), i), k) *
                         number(json_at(json_get(expected, "text_embeddings"), i), k);
    for (int kind = 0; kind < CLIP_REWARD_KINDS; kind++) {
        ck_assert_msg(clip_reward_open(&r, (enum clip_reward_kind)kind, FOLDER, FOLDER "/head.safetensors", 1, &e) == 0,
                      "%s", e.text);
        ck_assert_msg(clip_reward_of(r, picture, texts, TEXTS, value, &e) == 0, "%s", e.text);
        for (size_t i = 0; i < TEXTS; i++) {
            const double want = kind == CLIP_REWARD_AESTHETIC   ? number(json_get(expected, "head"), i)
                                : kind == CLIP_REWARD_CLIPSCORE ? 2.5 * fmax(cosine[i], 0.0)
                                : kind == CLIP_REWARD_PICKSCORE ? 87.0 * cosine[i]
                                                                : cosine[i];
            ck_assert_msg(fabs(value[i] - want) < 3e-4, "%s %zu: %g, wanted %g", clip_reward_names[kind], i, value[i],
                          want);
        }
        clip_reward_close(r);
    }
    ck_assert_int_eq(clip_reward_open(&r, CLIP_REWARD_AESTHETIC, FOLDER, "", 1, &e), -1);
    ck_assert_int_eq(clip_reward_open(&r, CLIP_REWARD_AESTHETIC, FOLDER, FOLDER "/model.safetensors", 1, &e), -1);
    ck_assert_int_eq(clip_reward_open(&r, CLIP_REWARD_CLIPSCORE, "tests/golden", "", 1, &e), -1);
    teardown();
}
END_TEST

START_TEST(resizing_gives_pillows_bytes)
{
    struct json *file;
    struct err e;
    setup();
    ck_assert_msg(json_read_file(&file, FOLDER "/resized.json", 1 << 16, &e) == 0, "%s", e.text);
    const struct json *to = json_get(file, "to");
    ck_assert_uint_gt(json_count(to), 0);
    for (size_t i = 0; i < json_count(to); i++) {
        int64_t size[2], want, sum = 0;
        size_t count;
        struct image got = {0};
        ck_assert_int_eq(json_get_ints(json_at(to, i), "size", 1, 4096, size, 2, &count, &e), 0);
        ck_assert_int_eq(json_get_int(json_at(to, i), "sum", 0, INT64_MAX, &want, &e), 0);
        image_resize(&got, &picture[2], (int)size[0], (int)size[1]);
        for (int64_t k = 0; k < size[0] * size[1] * 3; k++)
            sum += got.rgb[k] * (1 + k % 251);
        ck_assert_msg(sum == want, "%dx%d: %lld, wanted %lld", (int)size[0], (int)size[1], (long long)sum,
                      (long long)want);
        image_done(&got);
    }
    json_free(file);
    teardown();
}
END_TEST

SUITE("golden/clip", 60, both_towers_agree_with_pytorch, rewards_are_what_their_papers_say,
      resizing_gives_pillows_bytes)
