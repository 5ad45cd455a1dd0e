#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct json *parsed(const char *text)
{
    struct json *v;
    struct err e = {0};
    ck_assert_msg(json_parse(&v, text, strlen(text), 10000, &e) == 0, "%s: %s", text, e.text);
    return v;
}

START_TEST(bad_documents_are_refused_with_their_place)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "empty, expected JSON"},
        {"{\"a\": 1,\n \"a\": 2}", "line 2 column "},
        {"{\"a\": 1} x", "line 1 column "},
        {"{\"a\": 1e999}", "line 1 column "},
        {"{\"a\": 99999999999999999999}", "line 1 column "},
        {"{\"a\": \"\\u0000\"}", "line 1 column "},
        {"{\"a\": \"\xff\"}", "line 1 column "},
        {"{\"a\": NaN}", "line 1 column "},
        {"[1,]", "line 1 column "},
        {"3", "line 1 column "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json *v;
        struct err e = {0};
        ck_assert_msg(json_parse(&v, cases[i].text, strlen(cases[i].text), 10000, &e) == -1, "case %zu", i);
        ck_assert_ptr_null(v);
        ck_assert_msg(strncmp(e.text, cases[i].want, strlen(cases[i].want)) == 0, "case %zu: %s", i, e.text);
    }
}
END_TEST

START_TEST(depth_and_bytes_are_bounded)
{
    char text[400];
    struct json *v;
    struct err e = {0};
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        const int rc = json_parse(&v, text, 2 * (size_t)depth, sizeof text, &e);
        ck_assert_int_eq(rc, depth == JSON_DEPTH_MAX ? 0 : -1);
        json_free(v);
    }
    ck_assert_str_eq(e.text, "line 1: nested deeper than 64 levels");
    const char *brackets = "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"]";
    json_free(parsed(brackets));
    ck_assert_int_eq(json_parse(&v, "[1]", 3, 2, &e), -1);
    ck_assert_int_eq(e.code, ERR_FULL);
}
END_TEST

START_TEST(typed_getters_name_the_field_and_what_they_want)
{
    struct json *v = parsed("{\"i\": 5, \"r\": 2.5, \"s\": \"text\", \"b\": true, \"n\": null, \"l\": [1, 2, \"x\"], \"o\": {}}");
    struct err e = {0};
    int64_t i = 0, items[3];
    double r = 0.0;
    bool b = false;
    size_t count;
    const char *s = NULL;
    const struct json *sub = NULL;
    ck_assert_int_eq(json_get_int(v, "i", 0, 5, &i, &e), 0);
    ck_assert_int_eq(i, 5);
    ck_assert_int_eq(json_get_number(v, "i", 0, 5, &r, &e), 0);
    ck_assert(r == 5.0);
    ck_assert_int_eq(json_get_number(v, "r", 0, 5, &r, &e), 0);
    ck_assert(r == 2.5);
    ck_assert_int_eq(json_get_bool(v, "b", &b, &e), 0);
    ck_assert(b);
    ck_assert_int_eq(json_get_string(v, "s", 4, &s, &e), 0);
    ck_assert_str_eq(s, "text");
    ck_assert_int_eq(json_get_list(v, "l", 3, &sub, &e), 0);
    ck_assert_uint_eq(json_count(sub), 3);
    ck_assert_int_eq(json_get_object(v, "o", &sub, &e), 0);

    ck_assert_int_eq(json_get_int(v, "i", 6, 9, &i, &e), -1);
    ck_assert_str_eq(e.text, "\"i\" is 5, expected 6 to 9");
    ck_assert_int_eq(json_get_int(v, "r", 0, 9, &i, &e), -1);
    ck_assert_str_eq(e.text, "\"r\" is number, expected integer");
    ck_assert_int_eq(json_get_int(v, "zz", 0, 9, &i, &e), -1);
    ck_assert_str_eq(e.text, "\"zz\" is missing, expected integer");
    ck_assert_int_eq(json_get_number(v, "s", 0, 9, &r, &e), -1);
    ck_assert_str_eq(e.text, "\"s\" is string, expected number");
    ck_assert_int_eq(json_get_bool(v, "i", &b, &e), -1);
    ck_assert_str_eq(e.text, "\"i\" is integer, expected true or false");
    ck_assert_int_eq(json_get_string(v, "s", 3, &s, &e), -1);
    ck_assert_str_eq(e.text, "\"s\" has 4 bytes, expected at most 3");
    ck_assert_int_eq(json_get_list(v, "l", 2, &sub, &e), -1);
    ck_assert_str_eq(e.text, "\"l\" has 3 items, expected at most 2");
    ck_assert_int_eq(json_get_object(v, "l", &sub, &e), -1);
    ck_assert_str_eq(e.text, "\"l\" is list, expected object");
    ck_assert_int_eq(json_get_ints(v, "l", 0, 9, items, 3, &count, &e), -1);
    ck_assert_str_eq(e.text, "item 2: \"l\" is string, expected integer");
    ck_assert_int_eq(i, 5); /* untouched by failures */
    json_free(v);
}
END_TEST

START_TEST(optional_fields_have_defaults_but_no_other_type)
{
    struct json *v = parsed("{\"n\": null, \"s\": \"x\", \"l\": [3, 4]}");
    struct err e = {0};
    int64_t i, items[2];
    double r;
    bool b;
    size_t count;
    const char *s;
    const struct json *sub;
    ck_assert_int_eq(json_get_int_or(v, "n", 0, 1, 7, &i, &e), 0);
    ck_assert_int_eq(i, 7);
    ck_assert_int_eq(json_get_number_or(v, "none", 0, 1, 0.5, &r, &e), 0);
    ck_assert(r == 0.5);
    ck_assert_int_eq(json_get_bool_or(v, "none", true, &b, &e), 0);
    ck_assert(b);
    ck_assert_int_eq(json_get_string_or(v, "none", 9, "d", &s, &e), 0);
    ck_assert_str_eq(s, "d");
    ck_assert_int_eq(json_get_list_or(v, "none", 9, &sub, &e), 0);
    ck_assert_ptr_null(sub);
    ck_assert_int_eq(json_get_object_or(v, "n", &sub, &e), 0);
    ck_assert_ptr_null(sub);
    ck_assert_int_eq(json_get_int_or(v, "s", 0, 1, 7, &i, &e), -1);
    ck_assert_int_eq(json_get_list_or(v, "s", 9, &sub, &e), -1);
    ck_assert_int_eq(json_get_ints(v, "l", 0, 9, items, 2, &count, &e), 0);
    ck_assert(count == 2 && items[0] == 3 && items[1] == 4);
    json_free(v);
}
END_TEST

START_TEST(an_object_is_walked_in_the_order_of_the_document)
{
    struct json *v = parsed("{\"z\": 1, \"a\": 2, \"m\": 3}");
    char keys[8] = "";
    const char *key;
    const struct json *value;
    for (void *c = NULL; json_next(v, &c, &key, &value);)
        strncat(keys, key, 1);
    ck_assert_str_eq(keys, "zam");
    json_free(v);
}
END_TEST

START_TEST(what_is_built_prints_exactly_and_reads_back)
{
    struct json *v = json_new_object(), *list = json_new_list();
    json_set_int(v, "i", INT64_MIN);
    json_set_number(v, "tenth", 0.1);
    json_set_number(v, "third", 1.0 / 3.0);
    json_set_number(v, "one", 1.0);
    json_set_number(v, "nan", (double)NAN);
    json_set_string(v, "s", "a\"b\\c\n\x01 \xc3\xa9");
    json_set_string(v, "bad", "x\xffy");
    json_set_bool(v, "t", true);
    json_append_int(list, 1);
    json_append_number(list, 2.5);
    json_append_string(list, "x");
    json_set(v, "l", &list);
    ck_assert_ptr_null(list);
    size_t bytes;
    char *text = json_print(v, JSON_LINE, &bytes);
    ck_assert_str_eq(text, "{\"i\":-9223372036854775808,\"tenth\":0.1,\"third\":0.3333333333333333,\"one\":1.0,\"nan\":null,"
                           "\"s\":\"a\\\"b\\\\c\\n\\u0001 \xc3\xa9\",\"bad\":\"x?y\",\"t\":true,\"l\":[1,2.5,\"x\"]}");
    ck_assert_uint_eq(bytes, strlen(text));
    struct json *again = parsed(text);
    char *pretty = json_print(again, JSON_INDENTED, NULL);
    json_free(again);
    again = parsed(pretty);
    char *twice = json_print(again, JSON_LINE, NULL);
    ck_assert_str_eq(twice, text);
    mem_free(text);
    mem_free(pretty);
    mem_free(twice);
    json_free(again);
    json_free(v);
}
END_TEST

START_TEST(indented_text_looks_as_promised)
{
    struct json *v = parsed("{\"a\":[1,{}],\"b\":[]}");
    char *text = json_print(v, JSON_INDENTED, NULL);
    ck_assert_str_eq(text, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}\n");
    mem_free(text);
    json_free(v);
}
END_TEST

START_TEST(a_file_error_begins_with_the_path)
{
    struct json *v;
    struct err e = {0};
    char path[] = "/tmp/dagline-json-XXXXXX";
    const int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(file_replace(path, "{\n", 2, 0600, &e), 0);
    ck_assert_int_eq(json_read_file(&v, path, 100, &e), -1);
    ck_assert_msg(strncmp(e.text, path, strlen(path)) == 0 && strstr(e.text, ": line ") != NULL, "%s", e.text);
    ck_assert_int_eq(file_replace(path, "[{}]\n", 5, 0600, &e), 0);
    ck_assert_int_eq(json_read_object(&v, path, 100, &e), -1);
    ck_assert_ptr_null(v);
    ck_assert_msg(strncmp(e.text, path, strlen(path)) == 0 && strstr(e.text, "not a JSON object") != NULL, "%s", e.text);
    unlink(path);
}
END_TEST

START_TEST(lines_are_walked_and_a_broken_one_is_passed_over)
{
    static const char text[] = "{\"a\": 1}\n\n{\"a\": \n{\"a\": 2}\n[{}, 3]\n{\"a\": 3}{\"a\"";
    static const char *const want[] = {"{\"a\":1}", "{\"a\":2}", "[{},3]"};
    const char *at = text, *const end = text + sizeof text - 1;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct json *v = json_next_line(&at, end);
        ck_assert_ptr_nonnull(v);
        size_t n;
        char *const got = json_print(v, JSON_LINE, &n);
        ck_assert_str_eq(got, want[i]);
        mem_free(got);
        json_free(v);
    }
    ck_assert_ptr_null(json_next_line(&at, end));
    ck_assert_ptr_eq(at, end);
    ck_assert_ptr_null(json_next_line(&at, end));
}
END_TEST

SUITE("base/json", 10, bad_documents_are_refused_with_their_place, lines_are_walked_and_a_broken_one_is_passed_over,
      depth_and_bytes_are_bounded,
      typed_getters_name_the_field_and_what_they_want, optional_fields_have_defaults_but_no_other_type,
      an_object_is_walked_in_the_order_of_the_document, what_is_built_prints_exactly_and_reads_back,
      indented_text_looks_as_promised, a_file_error_begins_with_the_path)
