#include "shapes/prompts.h"
#include "shapes/scene.h"
#include "shapes/tokens.h"

#include "base/file.h"
#include "base/mem.h"
#include "support/folder.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

START_TEST(text_and_spec_round_trip)
{
    struct rng g = rng_stream(1, 2, 3);
    for (int k = 0; k < 6000; k++) {
        struct caption_spec want, got;
        struct err e = {0};
        char text[CAPTION_BYTES_MAX];
        caption_draw(&want, &g);
        caption_write(text, &want);
        ck_assert_msg(caption_parse(&got, text, &e) == 0, "'%s': %s", text, e.text);
        ck_assert_msg(memcmp(&want, &got, sizeof want) == 0, "'%s' came back as another caption",
                      text);
    }
}
END_TEST

START_TEST(forms_of_the_grammar_are_read)
{
    static const struct {
        const char *text, *written;
        enum caption_kind kind;
        int tag, count, place, relation, background, texture;
    } cases[] = {
        {"a circle", "a circle", CAPTION_SINGLE, TAG_SINGLE_OBJECT, 1, -1, -1, -1, -1},
        {"  A  Small\tRED Circle \n", "a small red circle", CAPTION_SINGLE, TAG_COLORS, 1, -1, -1,
         -1, -1},
        {"a orange ring", "an orange ring", CAPTION_SINGLE, TAG_COLORS, 1, -1, -1, -1, -1},
        {"a large orange ring", "a large orange ring", CAPTION_SINGLE, TAG_COLORS, 1, -1, -1, -1,
         -1},
        {"a star in the bottom right", "a star in the bottom right", CAPTION_PLACED, TAG_POSITION,
         1, PLACE_BOTTOM_RIGHT, -1, -1, -1},
        {"a star in the top", "a star in the top", CAPTION_PLACED, TAG_POSITION, 1, PLACE_TOP, -1,
         -1, -1},
        {"a star in the left on a sky background", "a star in the left on a sky background",
         CAPTION_PLACED, TAG_POSITION, 1, PLACE_LEFT, -1, BACKGROUND_SKY, -1},
        {"four small crosses", "four small crosses", CAPTION_COUNTED, TAG_COUNTING, 4, -1, -1, -1,
         -1},
        {"a red circle and a ring", "a red circle and a ring", CAPTION_PAIR, TAG_COLOR_ATTR, 2, -1,
         -1, -1, -1},
        {"a circle and a ring", "a circle and a ring", CAPTION_PAIR, TAG_TWO_OBJECT, 2, -1, -1, -1,
         -1},
        {"a circle left of a ring on a striped gray background",
         "a circle left of a ring on a striped gray background", CAPTION_RELATED, TAG_POSITION, 2,
         -1, RELATION_LEFT, BACKGROUND_GRAY, TEXTURE_STRIPED},
        {"a circle below a blue ring", "a circle below a blue ring", CAPTION_RELATED, TAG_POSITION,
         2, -1, RELATION_BELOW, -1, -1},
        {" \t ", "", CAPTION_EMPTY, TAG_COUNT, 0, -1, -1, -1, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct caption_spec s;
        struct err e = {0};
        char text[CAPTION_BYTES_MAX];
        ck_assert_msg(caption_parse(&s, cases[i].text, &e) == 0, "'%s': %s", cases[i].text, e.text);
        caption_write(text, &s);
        ck_assert_str_eq(text, cases[i].written);
        ck_assert_int_eq(s.kind, cases[i].kind);
        ck_assert_int_eq((int)caption_tag(&s), cases[i].tag);
        ck_assert_int_eq(s.count, cases[i].count);
        ck_assert_int_eq(s.place, cases[i].place);
        ck_assert_int_eq(s.relation, cases[i].relation);
        ck_assert_int_eq(s.background, cases[i].background);
        ck_assert_int_eq(s.texture, cases[i].texture);
    }
}
END_TEST

START_TEST(a_refusal_names_the_word_and_the_mend)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"a cat", "'cat' is not in this model's world; try: circle, square, triangle, diamond, "
                  "star, cross, ring"},
        {"photo of a cat", "'photo' is not in this model's world; try: a, an, two, three, four"},
        {"a red", "the caption ends where a shape must stand; try: circle"},
        {"red circle", "'red' (word 1) stands where the beginning of a caption must; try: a, an"},
        {"two circle", "'circle' (word 2) stands where several shapes must; try: circles"},
        {"a circles", "'circles' (word 2) stands where a shape must; try: circle"},
        {"a red small circle", "'small' (word 3) stands where a shape must"},
        {"a circle left a ring",
         "'a' (word 4) stands where the next word of the phrase must; try: of"},
        {"a circle in the middle", "'middle' is not in this model's world; try: center, top"},
        {"a circle on a red background",
         "'red' (word 5) stands where the background's colour must; try: gray"},
        {"a circle on a gray",
         "the caption ends where the next word of the phrase must stand; try: background"},
        {"a circle circle",
         "'circle' (word 3) stands where the rest of the caption must; try: and"},
        {"a circle and a ring and a star",
         "'and' (word 6) stands where the rest of the caption must; try: on a"},
        {"a circle on a gray background now",
         "'now' (word 7) comes after the end of the caption; leave it out"},
        {"a white ring on a cream background", "white cannot be told from a cream background"},
        {"a a a a a a a a a a a a a a a a a a a a a a a a a", "more than 24 words"},
        {"a "
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "longer than 159 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct caption_spec s;
        struct err e = {0};
        ck_assert_msg(caption_parse(&s, cases[i].text, &e) < 0, "'%s' was read", cases[i].text);
        ck_assert_int_eq(e.code, ERR_INVALID);
        ck_assert_msg(strstr(e.text, cases[i].message) != NULL, "'%s': got \"%s\"", cases[i].text,
                      e.text);
    }
}
END_TEST

START_TEST(kinds_and_fields_come_with_the_grammars_probabilities)
{
    const int n = 40000;
    int kind[CAPTION_KIND_COUNT] = {0}, background = 0, colour = 0, size = 0, single = 0;
    struct rng g = rng_stream(4, 0, 0);
    for (int k = 0; k < n; k++) {
        struct caption_spec s;
        caption_draw(&s, &g);
        kind[s.kind]++;
        background += s.background != CAPTION_FREE;
        if (s.kind == CAPTION_SINGLE) {
            single++;
            colour += s.object[0].colour != CAPTION_FREE;
            size += s.object[0].size != CAPTION_FREE;
        }
    }
    const double want[CAPTION_KIND_COUNT] = {0.0, 0.30, 0.20, 0.20, 0.15, 0.15};
    for (int i = 0; i < CAPTION_KIND_COUNT; i++)
        ck_assert_msg(fabs(kind[i] / (double)n - want[i]) < 0.015, "kind %d: %g", i,
                      kind[i] / (double)n);
    ck_assert(fabs(background / (double)n - 0.4) < 0.015);
    ck_assert(fabs(colour / (double)single - 0.6) < 0.02 &&
              fabs(size / (double)single - 0.6) < 0.02);
}
END_TEST

START_TEST(what_is_said_of_a_scene_is_true)
{
    int kinds[CAPTION_KIND_COUNT] = {0};
    for (uint64_t k = 0; k < 5000; k++) {
        struct scene s;
        struct caption_spec spec, said;
        struct err e = {0};
        char text[CAPTION_BYTES_MAX];
        struct rng g = rng_stream(9, k, 1);
        scene_pair(&s, &spec, 9, k);
        ck_assert(caption_of_scene(&said, &s, &g));
        caption_write(text, &said);
        ck_assert_msg(caption_check(&said, &e) == 0, "'%s': %s", text, e.text);
        ck_assert_msg(caption_holds(&said, &s), "scene %d is not '%s'", (int)k, text);
        kinds[said.kind]++;
    }
    for (int i = CAPTION_SINGLE; i < CAPTION_KIND_COUNT; i++)
        ck_assert_msg(kinds[i] > 100, "kind %d was said %d times", i, kinds[i]);
    struct scene s = {.count = 0};
    struct caption_spec said;
    struct rng g = rng_stream(9, 0, 2);
    ck_assert(!caption_of_scene(&said, &s, &g));
}
END_TEST

START_TEST(a_false_caption_does_not_hold)
{
    struct caption_spec spec, other;
    struct rng g = rng_stream(2, 0, 0);
    struct scene s;
    const char *const truth =
        "a small red circle left of a large blue star on a striped gray background";
    const char *const lies[] = {
        "a small red circle right of a large blue star",
        "a large red circle left of a large blue star",
        "a small blue circle left of a large red star",
        "a small red circle",
        "two small circles",
        "a red ring left of a blue star",
        "a red circle above a blue star",
        "a circle left of a star on a pink background",
        "a circle left of a star on a plain gray background",
    };
    ck_assert_int_eq(caption_parse(&spec, truth, NULL), 0);
    scene_draw(&s, &spec, &g);
    ck_assert(caption_holds(&spec, &s));
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        ck_assert_int_eq(caption_parse(&other, lies[i], NULL), 0);
        ck_assert_msg(!caption_holds(&other, &s), "'%s' holds", lies[i]);
    }
}
END_TEST

START_TEST(a_tenth_of_the_combinations_is_held_out)
{
    int combinations = 0, held = 0, texts = 0, texts_held = 0;
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (int size = CAPTION_FREE; size < SIZE_COUNT; size++)
            for (int back = 0; back < BACKGROUND_COUNT; back++)
                for (int texture = CAPTION_FREE; texture < TEXTURE_COUNT; texture++) {
                    const struct caption_spec s = {CAPTION_SINGLE,
                                                   {{shape, CAPTION_FREE, size}},
                                                   1,
                                                   CAPTION_FREE,
                                                   CAPTION_FREE,
                                                   back,
                                                   texture};
                    texts++;
                    texts_held += caption_held_out(&s);
                }
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (int colour = 0; colour < COLOUR_COUNT; colour++)
            for (int r = 0; r < RELATION_COUNT; r++)
                for (int other = 0; other < SHAPE_COUNT; other++) {
                    struct caption_spec s;
                    char text[CAPTION_BYTES_MAX];
                    if (other == shape)
                        continue;
                    snprintf(text, sizeof text, "a %s %s %s a %s", world_colour_names[colour],
                             world_shape_names[shape], world_relation_names[r],
                             world_shape_names[other]);
                    ck_assert_int_eq(caption_parse(&s, text, NULL), 0);
                    combinations++;
                    held += caption_held_out(&s);
                }
    /* Two combinations a caption: 1 - 0.9^2. */
    ck_assert_msg(fabs(held / (double)combinations - 0.19) < 0.06, "%d of %d", held, combinations);
    ck_assert_msg(fabs(texts_held / (double)texts - 0.1) < 0.03, "%d of %d", texts_held, texts);
}
END_TEST

START_TEST(prompt_sets_are_distinct_and_never_mix)
{
    static struct prompt train[600], held[120], again[120];
    const struct prompts_options o = {PROMPTS_ALL, false, 3}, h = {PROMPTS_ALL, true, 3};
    ck_assert_int_eq(prompts_draw(train, 600, &o, NULL), 0);
    ck_assert_int_eq(prompts_draw(held, 120, &h, NULL), 0);
    ck_assert_int_eq(prompts_draw(again, 120, &h, NULL), 0);
    ck_assert_int_eq(memcmp(held, again, sizeof held), 0);
    for (int i = 0; i < 600; i++) {
        ck_assert_int_eq((int)train[i].tag, i % TAG_COUNT);
        ck_assert(!caption_held_out(&train[i].spec));
        for (int k = 0; k < i; k++)
            ck_assert_msg(strcmp(train[i].text, train[k].text) != 0, "'%s' twice", train[i].text);
    }
    for (int i = 0; i < 120; i++)
        ck_assert(caption_held_out(&held[i].spec));
    struct err e = {0};
    const struct prompts_options rare = {PROMPTS_TAG(TAG_SINGLE_OBJECT), true, 3};
    ck_assert_int_lt(prompts_draw(train, 600, &rare, &e), 0);
    ck_assert_int_eq(e.code, ERR_FULL);
}
END_TEST

START_TEST(open_prompts_leave_colour_and_background_free)
{
    static struct prompt p[PROMPTS_OPEN_MAX];
    prompts_open(p, PROMPTS_OPEN_MAX);
    ck_assert_str_eq(p[0].text, "a circle");
    ck_assert_str_eq(p[8].text, "two squares");
    ck_assert_str_eq(p[41].text, "a large ring");
    for (int i = 0; i < PROMPTS_OPEN_MAX; i++) {
        struct caption_spec s;
        ck_assert_int_eq(caption_parse(&s, p[i].text, NULL), 0);
        ck_assert_int_eq(memcmp(&s, &p[i].spec, sizeof s), 0);
        ck_assert(s.object[0].colour == CAPTION_FREE && s.background == CAPTION_FREE);
    }
}
END_TEST

START_TEST(every_word_of_every_caption_is_one_token)
{
    static struct tokens t;
    char parts[TOKENS_WORD_BYTES_MAX][TOKENS_WORD_BYTES_MAX];
    struct rng g = rng_stream(8, 0, 0);
    tokens_init(&t);
    for (int k = 0; k < 3000; k++) {
        struct caption_spec s;
        char text[CAPTION_BYTES_MAX], *rest = text, *word;
        int words = 0;
        caption_draw(&s, &g);
        caption_write(text, &s);
        while ((word = strtok_r(rest, " ", &rest)) != NULL) {
            const int n = tokens_split(&t, word, parts);
            ck_assert_msg(n == 1, "'%s' is %d tokens", word, n);
            words++;
        }
        ck_assert(words + 2 <= TOKENS_LENGTH_MAX);
    }
    ck_assert_int_eq(tokens_split(&t, "zebra", parts), 5);
}
END_TEST

/* Ids as the format has them: the rank of a merge is its line, its id 512 + rank, the ends last. */
START_TEST(tokenizer_files_hold_each_token_once)
{
    static struct tokens t;
    char *vocabulary, *merges;
    struct err e = {0};
    tokens_init(&t);
    for (int i = 0; i < t.merges; i++)
        for (int k = 0; k < i; k++) {
            char x[64], y[64];
            snprintf(x, sizeof x, "%s%s", t.merge[i].left, t.merge[i].right);
            snprintf(y, sizeof y, "%s%s", t.merge[k].left, t.merge[k].right);
            ck_assert_msg(strcmp(x, y) != 0, "'%s' is made twice", x);
        }
    ck_assert_msg(shapes_tokenizer_write(test_folder(), &e) == 0, "%s", e.text);
    ck_assert_int_eq(file_read_all(in_test_folder("vocab.json"), 1 << 20, &vocabulary, NULL, &e), 0);
    ck_assert_int_eq(file_read_all(in_test_folder("merges.txt"), 1 << 20, &merges, NULL, &e), 0);
    char want[64];
    snprintf(want, sizeof want, "\"<|endoftext|>\": %d}", t.vocabulary - 1);
    ck_assert_ptr_nonnull(strstr(vocabulary, want));
    snprintf(want, sizeof want, "\"%s%s\": %d,", t.merge[9].left, t.merge[9].right, 521);
    ck_assert_ptr_nonnull(strstr(vocabulary, want));
    ck_assert_ptr_nonnull(strstr(vocabulary, "{\"!\": 0, \"\\\"\": 1, "));
    ck_assert_ptr_nonnull(strstr(vocabulary, "\"\\\\\": 59, "));
    ck_assert_ptr_nonnull(strstr(vocabulary, "\"\xc4\x80\": 188, ")); /* U+0100 stands for byte 0 */
    int lines = 0;
    for (const char *p = merges; *p != '\0'; p++)
        lines += *p == '\n';
    ck_assert_int_eq(lines, t.merges + 1);
    ck_assert_int_eq(strncmp(merges, "#version", 8), 0);
    mem_free(vocabulary);
    mem_free(merges);
}
END_TEST

SUITE("shapes/caption", 120, text_and_spec_round_trip, forms_of_the_grammar_are_read,
      a_refusal_names_the_word_and_the_mend, kinds_and_fields_come_with_the_grammars_probabilities,
      what_is_said_of_a_scene_is_true, a_false_caption_does_not_hold,
      a_tenth_of_the_combinations_is_held_out, prompt_sets_are_distinct_and_never_mix,
      open_prompts_leave_colour_and_background_free, every_word_of_every_caption_is_one_token,
      tokenizer_files_hold_each_token_once)
