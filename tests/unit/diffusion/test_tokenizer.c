#include "base/json.h"
#include "base/mem.h"
#include "diffusion/tokenizer.h"
#include "support/folder.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define FOLDER "tests/golden/tiny-sd/"
#define EOS 612
#define BOS 611

static struct tokenizer *tiny(void)
{
    struct tokenizer *t;
    struct err e;
    ck_assert_msg(tokenizer_open(&t, FOLDER "model/tokenizer", &e) == 0, "%s", e.text);
    return t;
}

/* The ids of text as "1 2 3". */
static const char *ids_of(const struct tokenizer *t, const char *text)
{
    static char printed[4096];
    int32_t ids[256];
    size_t count, used = 0;
    struct err e;
    ck_assert_msg(tokenizer_pieces(t, text, ids, COUNT(ids), &count, &e) == 0, "%s", e.text);
    printed[0] = 0;
    for (size_t i = 0; i < count && i < COUNT(ids); i++)
        used +=
            (size_t)snprintf(printed + used, sizeof printed - used, i == 0 ? "%d" : " %d", ids[i]);
    return printed;
}

START_TEST(ids_are_those_of_openais_tokenizer)
{
    struct tokenizer *t = tiny();
    struct json *cases;
    struct err e;
    ck_assert_msg(json_read_file(&cases, FOLDER "tokenizer_cases.json", 1 << 20, &e) == 0, "%s",
                  e.text);
    ck_assert_uint_gt(json_count(cases), 20);
    for (size_t c = 0; c < json_count(cases); c++) {
        const char *text;
        int64_t want[256];
        int32_t got[256];
        size_t n_want, n_got;
        ck_assert_int_eq(json_get_string(json_at(cases, c), "text", 4096, &text, &e), 0);
        ck_assert_int_eq(json_get_ints(json_at(cases, c), "ids", 0, 612, want, 256, &n_want, &e),
                         0);
        ck_assert_int_eq(tokenizer_pieces(t, text, got, 256, &n_got, &e), 0);
        ck_assert_msg(n_got == n_want, "'%s': %zu ids, want %zu (%s)", text, n_got, n_want,
                      ids_of(t, text));
        for (size_t i = 0; i < n_got; i++)
            ck_assert_msg(got[i] == want[i], "'%s': id %zu is %d, want %d", text, i, got[i],
                          (int)want[i]);
    }
    json_free(cases);
    tokenizer_close(t);
}
END_TEST

/* Pairs that must tokenize alike, in the order of the cleaning's steps. */
START_TEST(cleaning_makes_these_texts_equal)
{
    static const char *const pairs[][2] = {
        {"cafe\xcc\x81", "caf\xc3\xa9"},    /* decomposed, composed */
        {"\xc3\x89TOILE", "\xc3\xa9toile"}, /* upper case beyond ASCII */
        {"\xc4\xb0", "i\xcc\x87"},          /* the one letter whose lower case is two */
        {"a\xc2\xa0"
         "b\xe3\x80\x80"
         "c",
         "a b c"}, /* no-break and ideographic blanks */
        {"  a \n\t b  ", "a b"},
        {"a &amp;amp; b", "a & b"}, /* resolved twice */
        {"&#97;&#x62;", "ab"},
        {"<|StartOfText|>", "<|startoftext|>"},
    };
    struct tokenizer *t = tiny();
    for (size_t i = 0; i < COUNT(pairs); i++) {
        char first[4096];
        snprintf(first, sizeof first, "%s", ids_of(t, pairs[i][0]));
        ck_assert_msg(strcmp(first, ids_of(t, pairs[i][1])) == 0, "pair %zu: %s, %s", i, first,
                      ids_of(t, pairs[i][1]));
    }
    tokenizer_close(t);
}
END_TEST

START_TEST(what_is_no_entity_stays_as_it_is)
{
    static const char *const texts[] = {"&",         "&;",       "&#;",        "&#x;",
                                        "&#0;",      "&#55296;", "&#1114112;", "&#99999999999;",
                                        "&unknown;", "&am"};
    struct tokenizer *t = tiny();
    for (size_t i = 0; i < COUNT(texts); i++)
        ck_assert_msg(strncmp(ids_of(t, texts[i]), "5", 1) == 0 ||
                          strncmp(ids_of(t, texts[i]), "261", 3) == 0,
                      "%s does not begin with the ampersand: %s", texts[i], ids_of(t, texts[i]));
    tokenizer_close(t);
}
END_TEST

START_TEST(encoding_frames_and_pads)
{
    struct tokenizer *t = tiny();
    int32_t ids[16];
    bool truncated = true;
    ck_assert_int_eq(tokenizer_length(t), 16);
    ck_assert_int_eq(tokenizer_vocab_size(t), 613);
    ck_assert_int_eq(tokenizer_encode(t, "a red circle", ids, 16, &truncated, NULL), 0);
    static const int32_t want[16] = {BOS, 320, 594, 559, EOS, EOS, EOS, EOS,
                                     EOS, EOS, EOS, EOS, EOS, EOS, EOS, EOS};
    ck_assert(!truncated && memcmp(ids, want, sizeof want) == 0);
    tokenizer_close(t);
}
END_TEST

START_TEST(a_long_text_is_cut_and_the_cut_is_told)
{
    static const struct {
        const char *text;
        int length;
        bool truncated;
    } cases[] = {{"1 2 3", 5, false}, {"1 2 3 4", 5, true}, {"", 2, false}, {"1", 2, true}};
    struct tokenizer *t = tiny();
    for (size_t i = 0; i < COUNT(cases); i++) {
        int32_t ids[5];
        bool truncated;
        ck_assert_int_eq(tokenizer_encode(t, cases[i].text, ids, cases[i].length, &truncated, NULL),
                         0);
        ck_assert_msg(truncated == cases[i].truncated, "case %zu", i);
        ck_assert(ids[0] == BOS && ids[cases[i].length - 1] == EOS);
    }
    tokenizer_close(t);
}
END_TEST

START_TEST(texts_that_cannot_be_encoded_are_refused)
{
    struct tokenizer *t = tiny();
    static const char *const bad[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\xaf"};
    int32_t ids[8];
    size_t count;
    struct err e;
    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(tokenizer_pieces(t, bad[i], ids, 8, &count, &e), -1);
    char *text = mem_new(TOKENIZER_TEXT_BYTES_MAX + 2, 1);
    memset(text, 'x', TOKENIZER_TEXT_BYTES_MAX + 1);
    ck_assert_int_eq(tokenizer_pieces(t, text, ids, 8, &count, &e), -1);
    text[TOKENIZER_TEXT_BYTES_MAX] = 0;
    ck_assert_int_eq(tokenizer_pieces(t, text, ids, 8, &count, &e), 0);
    mem_free(text);
    tokenizer_close(t);
}
END_TEST

#define VOCAB "{\"!\":0,\"a\":1,\"b</w>\":2,\"ab</w>\":3,\"<|startoftext|>\":4,\"<|endoftext|>\":5}"

START_TEST(the_padding_of_special_tokens_map_wins)
{
    struct tokenizer *t;
    int32_t ids[6];
    struct err e;
    put_in_test_folder("vocab.json", VOCAB);
    put_in_test_folder("merges.txt", "#version: 0.2\na b</w>\n");
    put_in_test_folder("tokenizer_config.json", "{\"model_max_length\":1e30,\"pad_token\":\"<|endoftext|>\"}");
    put_in_test_folder("special_tokens_map.json",
        "{\"pad_token\":{\"content\":\"!\"},\"bos_token\":\"<|startoftext|>\"}");
    ck_assert_msg(tokenizer_open(&t, test_folder(), &e) == 0, "%s", e.text);
    ck_assert_int_eq(tokenizer_length(t), 77);
    ck_assert_int_eq(tokenizer_encode(t, "AB z", ids, 6, NULL, &e), 0);
    static const int32_t want[6] = {4, 3, 5 /* z is unknown */, 5, 0, 0};
    ck_assert(memcmp(ids, want, sizeof want) == 0);
    tokenizer_close(t);
}
END_TEST

START_TEST(tokenizer_json_alone_will_do)
{
    static const char *const merges[] = {"[\"a b</w>\"]", "[[\"a\",\"b</w>\"]]"};
    for (size_t i = 0; i < COUNT(merges); i++) {
        struct tokenizer *t;
        char text[512];
        struct err e;
        snprintf(text, sizeof text,
                 "{\"model\":{\"type\":\"BPE\",\"vocab\":" VOCAB ",\"merges\":%s}}", merges[i]);
        put_in_test_folder("tokenizer.json", text);
        ck_assert_msg(tokenizer_open(&t, test_folder(), &e) == 0, "%s", e.text);
        ck_assert_str_eq(ids_of(t, "ab"), "3");
        tokenizer_close(t);
    }
}
END_TEST

START_TEST(broken_folders_are_refused)
{
    static const struct {
        const char *vocab, *merges, *config, *word;
    } cases[] = {
        {"[]", "", "{}", "object"},
        {"{\"a\":-1}", "", "{}", "a"},
        {"{\"a\":1}", "", "{}", "bos_token"},
        {VOCAB, "a", "{}", "two symbols"},
        {VOCAB, "a c\n", "{}", "lacks"},
        {VOCAB, "a b</w>\na b</w>\n", "{}", "twice"},
        {VOCAB, "", "{\"pad_token\":\"?\"}", "pad_token"},
        {VOCAB, "", "{\"model_max_length\":\"x\"}", "model_max_length"},
    };
    struct tokenizer *t;
    struct err e;
    ck_assert_int_eq(tokenizer_open(&t, test_folder(), &e), -1);
    ck_assert_int_eq(e.code, ERR_NOT_FOUND);
    for (size_t i = 0; i < COUNT(cases); i++) {
        put_in_test_folder("vocab.json", cases[i].vocab);
        put_in_test_folder("merges.txt", cases[i].merges);
        put_in_test_folder("tokenizer_config.json", cases[i].config);
        ck_assert_int_eq(tokenizer_open(&t, test_folder(), &e), -1);
        ck_assert_msg(strstr(e.text, cases[i].word) != NULL, "case %zu: %s", i, e.text);
    }
    ck_assert_int_eq(unlink(in_test_folder("vocab.json")), 0);
    put_in_test_folder("tokenizer.json", "[{}]");
    ck_assert_int_eq(tokenizer_open(&t, test_folder(), &e), -1);
    ck_assert_msg(strstr(e.text, "tokenizer.json: not a JSON object") != NULL, "%s", e.text);
}
END_TEST

SUITE("diffusion/tokenizer", 20, ids_are_those_of_openais_tokenizer,
      cleaning_makes_these_texts_equal, what_is_no_entity_stays_as_it_is, encoding_frames_and_pads,
      a_long_text_is_cut_and_the_cut_is_told, texts_that_cannot_be_encoded_are_refused,
      the_padding_of_special_tokens_map_wins, tokenizer_json_alone_will_do,
      broken_folders_are_refused)
