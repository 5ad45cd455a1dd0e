#include "shapes/degrade.h"
#include "shapes/judge.h"
#include "shapes/scene.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

static struct judge *judge;

static struct judge_verdict verdict_of(const uint8_t *rgb, const struct caption_spec *spec)
{
    struct judge_view view;
    struct judge_verdict v;
    if (judge == NULL)
        judge = judge_new();
    judge_look(judge, &view, rgb);
    judge_score(&v, &view, spec);
    ck_assert(v.soft >= 0.0 && v.soft <= 1.0);
    return v;
}

static struct caption_spec parsed(const char *text)
{
    struct caption_spec spec;
    struct err e = {0};
    ck_assert_msg(caption_parse(&spec, text, &e) == 0, "'%s': %s", text, e.text);
    return spec;
}

/* The picture of a scene for the caption, the k-th of its kind. */
static void picture_of(uint8_t *rgb, const char *text, uint64_t k)
{
    const struct caption_spec spec = parsed(text);
    struct rng g = rng_stream(21, k, 0);
    struct scene s;
    scene_draw(&s, &spec, &g);
    world_render(rgb, &s);
}

/* Strict share by tag and the mean soft score over n pictures, spoilt as told. */
static void read_back(double *strict, double *soft, int n, double blur, double noise)
{
    int seen[TAG_COUNT] = {0}, held[TAG_COUNT] = {0};
    *soft = 0.0;
    for (int k = 0; k < n; k++) {
        struct scene s;
        struct caption_spec spec;
        uint8_t rgb[WORLD_RGB_BYTES];
        scene_pair(&s, &spec, 31, (uint64_t)k);
        world_render(rgb, &s);
        const struct rng g = rng_stream(31, (uint64_t)k, 1);
        degrade(rgb, blur, noise, &g);
        const struct judge_verdict v = verdict_of(rgb, &spec);
        seen[caption_tag(&spec)]++;
        held[caption_tag(&spec)] += v.strict;
        *soft += v.soft / n;
    }
    for (int t = 0; t < TAG_COUNT; t++)
        strict[t] = seen[t] > 0 ? held[t] / (double)seen[t] : 1.0;
}

START_TEST(rendered_truth_is_read_as_it_is)
{
    double strict[TAG_COUNT], soft;
    read_back(strict, &soft, 1000, 0.0, 0.0);
    for (int t = 0; t < TAG_COUNT; t++)
        ck_assert_msg(strict[t] >= 0.995, "%s: strict %g", caption_tag_names[t], strict[t]);
    ck_assert_msg(soft > 0.94, "soft %g", soft);
}
END_TEST

START_TEST(mild_blur_and_noise_change_no_verdict)
{
    double strict[TAG_COUNT], soft;
    read_back(strict, &soft, 500, 0.6, 4.0);
    for (int t = 0; t < TAG_COUNT; t++)
        ck_assert_msg(strict[t] >= 0.98, "%s: strict %g", caption_tag_names[t], strict[t]);
    ck_assert_msg(soft > 0.92, "soft %g", soft);
}
END_TEST

START_TEST(the_score_falls_step_by_step_with_the_damage)
{
    const double blur[] = {0.0, 1.0, 2.0, 3.0, 5.0, 8.0};
    double strict[TAG_COUNT], soft, before = 1.0;
    for (size_t i = 0; i < sizeof blur / sizeof *blur; i++) {
        read_back(strict, &soft, 100, blur[i], 2.0);
        ck_assert_msg(soft < before - 0.005, "blur %g: %g after %g", blur[i], soft, before);
        before = soft;
    }
    ck_assert_msg(before > 0.05, "blur 8 leaves no signal: %g", before);
}
END_TEST

START_TEST(grain_costs_even_where_the_objects_can_be_read)
{
    const double noise[] = {4.0, 10.0, 20.0, 40.0};
    double strict[TAG_COUNT], soft, before = 1.0;
    for (size_t i = 0; i < sizeof noise / sizeof *noise; i++) {
        read_back(strict, &soft, 100, 0.0, noise[i]);
        ck_assert_msg(soft < before - 0.02, "noise %g: %g after %g", noise[i], soft, before);
        before = soft;
    }
}
END_TEST

START_TEST(a_pale_picture_scores_more_as_it_takes_form)
{
    double before = -1.0;
    for (int step = 0; step <= 10; step++) {
        double sum = 0.0;
        for (int k = 0; k < 100; k++) {
            struct scene s;
            struct caption_spec spec;
            uint8_t full[WORLD_RGB_BYTES], empty[WORLD_RGB_BYTES];
            scene_pair(&s, &spec, 41, (uint64_t)k);
            world_render(full, &s);
            s.count = 0;
            world_render(empty, &s);
            for (int i = 0; i < WORLD_RGB_BYTES; i++)
                full[i] = (uint8_t)(empty[i] + (full[i] - empty[i]) * step / 10);
            sum += verdict_of(full, &spec).soft;
        }
        ck_assert_msg(sum > before, "step %d: %g after %g", step, sum / 100, before / 100);
        before = sum;
    }
}
END_TEST

enum degenerate {
    FLAT,
    BLACK,
    WHITE,
    NOISE,
    GRAIN,
    SPECK,
    FRAME,
    HALF,
    FINE_CHECKS,
    HUGE_CIRCLE,
    KINDS
};

static void degenerate(uint8_t *rgb, enum degenerate kind, const struct caption_spec *spec,
                       uint64_t k)
{
    struct rng g = rng_stream(51, k, (uint32_t)kind);
    const int colour = spec->object[0].colour == CAPTION_FREE ? COLOUR_RED : spec->object[0].colour;
    struct scene s = {.background = spec->background == CAPTION_FREE
                                        ? BACKGROUND_GRAY
                                        : (enum world_background)spec->background,
                      .texture = spec->texture == CAPTION_FREE ? TEXTURE_PLAIN
                                                               : (enum world_texture)spec->texture};
    double front[3];
    s.back = world_background_lab(s.background);
    world_render(rgb, &s);
    lab_to_rgb(world_colour_lab((enum world_colour)colour), front);
    for (int p = 0; p < WORLD_SIDE * WORLD_SIDE; p++) {
        const int x = p % WORLD_SIDE, y = p / WORLD_SIDE;
        const bool ink = (kind == SPECK && x > 30 && x < 34 && y > 30 && y < 34) ||
                         (kind == FRAME && x > 3 && x < 60 && y > 3 && y < 60) ||
                         (kind == HALF && x >= 32) ||
                         (kind == FINE_CHECKS && (x / 2 + y / 2) % 2 == 0) ||
                         (kind == HUGE_CIRCLE && hypot(x - 31.5, y - 31.5) < 28.0);
        for (int c = 0; c < 3; c++) {
            uint8_t *v = rgb + p * 3 + c;
            if (ink)
                *v = (uint8_t)front[c];
            else if (kind == BLACK || kind == WHITE)
                *v = kind == BLACK ? 0 : 255;
            else if (kind == NOISE)
                *v = (uint8_t)rng_below(&g, 256);
            else if (kind == GRAIN)
                *v = (uint8_t)(103 + rng_below(&g, 50));
        }
    }
}

START_TEST(degenerate_pictures_score_near_nothing)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int k = 0; k < 100; k++) {
            struct caption_spec spec;
            struct scene s;
            uint8_t rgb[WORLD_RGB_BYTES];
            scene_pair(&s, &spec, 61, (uint64_t)k);
            degenerate(rgb, (enum degenerate)kind, &spec, (uint64_t)k);
            const struct judge_verdict v = verdict_of(rgb, &spec);
            ck_assert_msg(v.soft < 0.06 && !v.strict, "kind %d, caption %d: soft %g", kind, k,
                          v.soft);
        }
}
END_TEST

START_TEST(the_wrong_picture_scores_less_and_is_never_strict)
{
    /* caption, picture, the clause that must fail */
    static const struct {
        const char *caption, *picture, *clause;
    } cases[] = {
        {"a circle", "a square", "shape"},
        {"a red circle", "a blue circle", "colour"},
        {"a small ring", "a large ring", "size"},
        {"a large ring", "a small ring", "size"},
        {"a star in the top left", "a star in the bottom right", "position"},
        {"a star in the left", "a star in the center", "position"},
        {"a red star left of a blue ring", "a red star right of a blue ring", "position"},
        {"a red star above a blue ring", "a red star below a blue ring", "position"},
        {"three crosses", "two crosses", "count"},
        {"two crosses", "three crosses", "count"},
        {"a diamond", "two diamonds", "count"},
        {"a diamond and a circle", "a diamond", "count"},
        {"a red star and a blue ring", "a blue star and a red ring", "colour"},
        {"a triangle on a pink background", "a triangle on a navy background", "background"},
        {"a triangle on a plain pink background", "a triangle on a striped pink background",
         "background"},
        {"a triangle on a checkered gray background", "a triangle on a gradient gray background",
         "background"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t k = 0; k < 12; k++) {
            uint8_t right[WORLD_RGB_BYTES], wrong[WORLD_RGB_BYTES];
            const struct caption_spec spec = parsed(cases[i].caption);
            picture_of(right, cases[i].caption, k);
            picture_of(wrong, cases[i].picture, k);
            const struct judge_verdict r = verdict_of(right, &spec), w = verdict_of(wrong, &spec);
            const char *clause = cases[i].clause;
            const bool holds = strcmp(clause, "shape") == 0      ? w.shape
                               : strcmp(clause, "colour") == 0   ? w.colour
                               : strcmp(clause, "size") == 0     ? w.size
                               : strcmp(clause, "position") == 0 ? w.position
                               : strcmp(clause, "count") == 0    ? w.count
                                                                 : w.background;
            ck_assert_msg(!w.strict && !holds, "'%s' holds for %s", cases[i].caption,
                          cases[i].picture);
            ck_assert_msg(r.strict, "'%s' is refused its own picture %d", cases[i].caption, (int)k);
            ck_assert_msg(w.soft < r.soft - 0.1, "'%s' for %s: %g, its own picture %g",
                          cases[i].caption, cases[i].picture, w.soft, r.soft);
        }
}
END_TEST

START_TEST(each_object_too_many_costs)
{
    const char *const pictures[] = {"a circle", "two circles", "three circles", "four circles"};
    const struct caption_spec spec = parsed("a circle");
    double before = 2.0;
    for (int i = 0; i < 4; i++) {
        double sum = 0.0;
        for (uint64_t k = 0; k < 50; k++) {
            uint8_t rgb[WORLD_RGB_BYTES];
            picture_of(rgb, pictures[i], k);
            sum += verdict_of(rgb, &spec).soft / 50.0;
        }
        ck_assert_msg(sum < 0.65 * before, "%s: %g after %g", pictures[i], sum, before);
        before = sum;
    }
}
END_TEST

START_TEST(what_is_seen_has_the_scenes_numbers)
{
    if (judge == NULL)
        judge = judge_new();
    for (int k = 0; k < 500; k++) {
        struct scene s;
        struct caption_spec spec;
        struct judge_view view;
        struct judge_attributes a;
        uint8_t rgb[WORLD_RGB_BYTES];
        scene_pair(&s, &spec, 71, (uint64_t)k);
        world_render(rgb, &s);
        judge_look(judge, &view, rgb);
        ck_assert_int_eq(view.count, s.count);
        ck_assert_int_eq((int)view.background, (int)s.background);
        ck_assert_int_eq((int)view.texture, (int)s.texture);
        for (int i = 0; i < s.count; i++) {
            const struct world_object *o = &s.object[i];
            bool found = false;
            for (int n = 0; n < view.count; n++)
                found =
                    found ||
                    (fabs(view.object[n].x - o->x) < 0.6 && fabs(view.object[n].y - o->y) < 0.6 &&
                     fabs(view.object[n].radius / o->radius - 1.0) < 0.1 &&
                     view.object[n].shape == o->shape && view.object[n].colour == o->colour);
            ck_assert_msg(found, "scene %d, object %d", k, i);
        }
        ck_assert(judge_attributes(&a, &view));
        ck_assert_int_eq(a.background, (int)s.background);
        ck_assert_double_eq_tol(judge_colour_reward(&view), (double)view.object[0].colour / 7.0, 1e-12);
        ck_assert(a.size >= 0 && a.size < 3 && a.place >= 0 && a.place < PLACE_COUNT);
    }
}
END_TEST

START_TEST(the_reward_of_a_colour_is_its_place_in_the_list)
{
    static const struct judge_view nothing;
    ck_assert_double_eq(judge_colour_reward(&nothing), 0.0);
    for (int colour = 0; colour < COLOUR_COUNT; colour++) {
        const struct judge_view view = {.count = 1, .object = {{.colour = (enum world_colour)colour, .radius = 10.0}}};
        ck_assert_double_eq_tol(judge_colour_reward(&view), colour / 7.0, 1e-12);
    }
    ck_assert_str_eq(world_colour_names[0], "red"); /* 0 */
    ck_assert_str_eq(world_colour_names[COLOUR_COUNT - 1], "black"); /* 1 */
}
END_TEST

START_TEST(touching_objects_of_two_colours_are_two)
{
    const struct caption_spec spec = parsed("a red square left of a blue circle");
    const struct caption_spec swapped = parsed("a blue square left of a red circle");
    for (int back = 0; back < BACKGROUND_COUNT; back++) {
        struct scene s = {.count = 2, .background = (enum world_background)back};
        uint8_t rgb[WORLD_RGB_BYTES];
        s.back = world_background_lab(s.background);
        s.object[0] = (struct world_object){SHAPE_SQUARE, COLOUR_RED, 20.0,
                                            32.0,         11.0,       world_colour_lab(COLOUR_RED)};
        s.object[1] = (struct world_object){
            SHAPE_CIRCLE, COLOUR_BLUE, 40.5, 32.0, 11.0, world_colour_lab(COLOUR_BLUE)};
        world_render(rgb, &s);
        const struct judge_verdict v = verdict_of(rgb, &spec);
        ck_assert_msg(v.strict && v.soft > 0.7, "on %s: %g", world_background_names[back], v.soft);
        ck_assert(verdict_of(rgb, &swapped).soft < 0.5 * v.soft);
    }
}
END_TEST

START_TEST(any_bytes_can_be_judged)
{
    uint8_t rgb[WORLD_RGB_BYTES];
    for (uint64_t k = 0; k < 200; k++) {
        struct rng g = rng_stream(81, k, 0);
        struct scene s;
        struct caption_spec spec;
        scene_pair(&s, &spec, 81, k);
        const uint32_t block = 1 + (uint32_t)rng_below(&g, 12),
                       levels = 2 + (uint32_t)rng_below(&g, 5);
        for (uint32_t i = 0; i < WORLD_RGB_BYTES; i++) {
            const uint32_t cell =
                i / 3 % WORLD_SIDE / block + i / 3 / WORLD_SIDE / block * 64 + i % 3 * 8192;
            rgb[i] = (uint8_t)(rng_u32_at(&g, cell) % levels * (255 / (levels - 1)));
        }
        verdict_of(rgb, &spec);
    }
}
END_TEST

START_TEST(the_empty_caption_asks_for_a_picture_of_this_world)
{
    const struct caption_spec spec = parsed("");
    uint8_t rgb[WORLD_RGB_BYTES];
    picture_of(rgb, "a red circle", 1);
    const struct judge_verdict v = verdict_of(rgb, &spec);
    ck_assert(v.strict && v.soft > 0.85);
    memset(rgb, 116, sizeof rgb);
    const struct judge_verdict flat = verdict_of(rgb, &spec);
    ck_assert(!flat.strict && flat.soft < 0.01);
}
END_TEST

SUITE("shapes/judge", 120, rendered_truth_is_read_as_it_is, mild_blur_and_noise_change_no_verdict,
      the_score_falls_step_by_step_with_the_damage, grain_costs_even_where_the_objects_can_be_read,
      a_pale_picture_scores_more_as_it_takes_form, degenerate_pictures_score_near_nothing,
      the_wrong_picture_scores_less_and_is_never_strict, each_object_too_many_costs,
      what_is_seen_has_the_scenes_numbers, the_reward_of_a_colour_is_its_place_in_the_list, touching_objects_of_two_colours_are_two,
      any_bytes_can_be_judged, the_empty_caption_asks_for_a_picture_of_this_world)
