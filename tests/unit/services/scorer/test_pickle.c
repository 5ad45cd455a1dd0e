/* Pickles as Python and numpy write them (tests/fuzz/corpus/pickle, made by tests/fuzz/pickles.py).
 */
#include "scorer/pickle.h"

#include "base/file.h"
#include "base/mem.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#define FOLDER "tests/fuzz/corpus/pickle/"

static int read_file(struct json **out, const char *name, struct err *e)
{
    char path[128], *bytes;
    size_t n;
    snprintf(path, sizeof path, FOLDER "%s", name);
    ck_assert_msg(file_read_all(path, 1 << 20, &bytes, &n, e) == 0, "%s", e->text);
    const int rc = pickle_read(out, bytes, n, e);
    mem_free(bytes);
    return rc;
}

START_TEST(every_protocol_gives_the_same_data)
{
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"plain", "{\"scores\":[0.5,0.25,-1],\"ok\":true,\"none\":null,\"text\":\"gr\xc3\xbcn\","
                  "\"big\":1099511627776,\"neg\":-3}"},
        {"numpy_scalars", "{\"outputs\":[0.5,0.25,-1.0,7,200,true]}"},
        {"numpy_array", "{\"scores\":[0.5,0.25,-1.0],\"grid\":[[0,1,2],[3,4,5]]}"},
        {"numpy_big_endian", "{\"scores\":[1.5,-2.0]}"},
        {"tuple", "[[1,2.0,\"x\"],[[]],{\"1\":\"one\"}]"},
        {"ordered", "{\"outputs\":[[0.5],[0.25]]}"},
        {"bytes", "{\"b\":\"abc\",\"a\":\"xyz\"}"},
        {"shared", "[[1,2],[1,2],[1,2]]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int protocol = 0; protocol <= 5; protocol++) {
            char name[64];
            struct json *doc;
            struct err e = {0};
            snprintf(name, sizeof name, "%s_%d", cases[i].name, protocol);
            ck_assert_msg(read_file(&doc, name, &e) == 0, "%s: %s", name, e.text);
            char *text = json_print(doc, JSON_LINE, NULL);
            ck_assert_msg(strcmp(text, cases[i].want) == 0, "%s: got %s want %s", name, text,
                          cases[i].want);
            mem_free(text);
            json_free(doc);
        }
}
END_TEST

START_TEST(what_is_not_data_is_refused_by_name)
{
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"bad_runs", "global posix.system is not data"},
        {"bad_cycle", "nested too deeply"},
        {"bad_bomb", ""},
        {"bad_deep", "nested too deeply"},
        {"bad_set", "opcode 0x8f is not data"},
        {"bad_complex", "global builtins.complex is not data"},
        {"bad_strings", "an array that holds no numbers"},
        {"bad_huge", "an int of more than 64 bits"},
        {"bad_key", "a key that is no text"},
        {"bad_type", "global builtins.int is not data"},
        {"bad_text", "too much text"},
        {"bad_keys", "too much text"},
        {"bad_encode", "too much text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json *doc;
        struct err e = {0};
        ck_assert_msg(read_file(&doc, cases[i].name, &e) == -1, "%s is taken", cases[i].name);
        ck_assert_ptr_null(doc);
        ck_assert_msg(strstr(e.text, cases[i].want) != NULL, "%s: got '%s' want '%s'",
                      cases[i].name, e.text, cases[i].want);
    }
}
END_TEST

START_TEST(every_cut_is_refused)
{
    static const char *const names[] = {"plain_4", "numpy_scalars_2", "numpy_array_5", "ordered_0"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128], *bytes;
        size_t n;
        struct err e = {0};
        snprintf(path, sizeof path, FOLDER "%s", names[i]);
        ck_assert_msg(file_read_all(path, 1 << 20, &bytes, &n, &e) == 0, "%s", e.text);
        for (size_t cut = 0; cut < n; cut++) {
            struct json *doc;
            char *part = mem_new(cut + 1, 1); /* of its own, so that a read beyond it is seen */
            memcpy(part, bytes, cut);
            ck_assert_msg(pickle_read(&doc, part, cut, &e) == -1, "%s cut to %zu bytes is taken",
                          names[i], cut);
            mem_free(part);
        }
        mem_free(bytes);
    }
}
END_TEST

START_TEST(what_is_written_is_read_back)
{
    static const char text[] = "{\"a\":[1,-2,3.5,true,null,\"x\"],\"b\":{\"c\":\"gr\xc3\xbcn\"},"
                               "\"big\":-4611686018427387904}";
    struct buf b;
    struct json *doc = NULL, *back = NULL;
    struct err e = {0};
    buf_init(&b, 4096);
    ck_assert_int_eq(json_parse(&doc, text, strlen(text), 4096, &e), 0);
    pickle_begin(&b);
    pickle_dict_begin(&b);
    pickle_text(&b, "meta");
    pickle_json(&b, doc);
    pickle_text(&b, "file");
    pickle_bytes(&b, "JPEG", 4);
    pickle_text(&b, "no");
    pickle_bool(&b, false);
    pickle_dict_end(&b);
    pickle_end(&b);
    ck_assert_msg(pickle_read(&back, b.data, b.bytes, &e) == 0, "%s", e.text);
    char *got = json_print(back, JSON_LINE, NULL), want[256];
    snprintf(want, sizeof want, "{\"meta\":%s,\"file\":\"JPEG\",\"no\":false}", text);
    ck_assert_str_eq(got, want);
    mem_free(got);
    json_free(back);
    json_free(doc);
    buf_done(&b);
}
END_TEST

SUITE("scorer/pickle", 60, every_protocol_gives_the_same_data, what_is_not_data_is_refused_by_name,
      every_cut_is_refused, what_is_written_is_read_back)
