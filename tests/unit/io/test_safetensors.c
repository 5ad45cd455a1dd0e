#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "support/folder.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define T(dtype, shape, begin, end)                                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

/* A file of that header and n zero bytes of data; freed with mem_free. */
static uint8_t *file_of(const char *header, size_t n, size_t *size)
{
    const size_t length = strlen(header);
    uint8_t *bytes = mem_new(8 + length + n, 1);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    *size = 8 + length + n;
    return bytes;
}

static int open_text(const char *header, size_t n, struct err *e)
{
    size_t size;
    struct safetensors *f = NULL;
    uint8_t *bytes = file_of(header, n, &size);
    /* a copy of the exact size, so that a sanitizer sees a read past the end */
    const int rc = safetensors_open_memory(&f, bytes, size, "memory", e);
    if (rc == 0)
        safetensors_close(f);
    mem_free(bytes);
    return rc;
}

START_TEST(legal_files_open)
{
    static const struct {
        const char *header;
        size_t n;
    } cases[] = {
        {"{}", 0},
        {"{}      ", 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0},
        {"{\"a\":" T("F32", "[2]", 0, 8) "}", 8},
        {"{\"b\":" T("F32", "[1]", 4, 8) ",\"a\":" T("F16", "[2]", 0, 4) "}", 8},
        {"{\"scalar\":" T("F64", "[]", 0, 8) "}", 8},
        {"{\"none\":" T("F32", "[0,5]", 0, 0) ",\"a\":" T("U8", "[3]", 0,
                                                          3) ",\"z\":" T("I8", "[0]", 3, 3) "}",
         3},
        {"{\"nibbles\":" T("F4", "[2,3]", 0, 3) "}", 3},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1]", 0, 4) "}", 4},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err e;
        ck_assert_msg(open_text(cases[i].header, cases[i].n, &e) == 0, "case %zu: %s", i, e.text);
    }
}
END_TEST

START_TEST(illegal_files_are_refused_with_the_reason)
{
    static const struct {
        const char *header;
        size_t n;
        const char *word;
    } cases[] = {
        {"", 0, "begin with"},
        {" {}", 0, "begin with"},
        {"[]", 0, "begin with"},
        {"{\"a\":", 0, "header"},
        {"{} x", 0, "header"},
        {"{\"\xff\":1}", 0, "header"},
        {"{\"a\":" T("F32", "[1]", 0, 4) ",\"a\":" T("F32", "[1]", 4, 8) "}", 8, "header"},
        {"{\"a\":7}", 0, "object"},
        {"{\"a\":" T("F33", "[1]", 0, 4) "}", 4, "dtype"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets"},
        {"{\"a\":" T("F32", "[-1]", 0, 4) "}", 4, "shape"},
        {"{\"a\":" T("F32", "[1.0]", 0, 4) "}", 4, "shape"},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "shape"},
        {"{\"a\":" T("F32", "[4294967296,4294967296]", 0, 4) "}", 4, "size"},
        {"{\"a\":" T("F64", "[2305843009213693952]", 0, 0) "}", 0, "size"},
        {"{\"a\":" T("F4", "[3]", 0, 2) "}", 2, "size"},
        {"{\"a\":" T("F32", "[1]", 0, 8) "}", 8, "span"},
        {"{\"a\":" T("F32", "[2]", 0, 4) "}", 4, "span"},
        {"{\"a\":" T("F32", "[1]", 4, 0) "}", 8, "outside"},
        {"{\"a\":" T("F32", "[1]", 4, 8) "}", 4, "outside"},
        {"{\"a\":" T("F32", "[1]", 0, 18446744073709551616) "}", 4, "header"},
        {"{\"a\":" T("F32", "[1]", 4, 8) "}", 8, "hole"},
        {"{\"a\":" T("F32", "[2]", 0, 8) ",\"b\":" T("F32", "[1]", 4, 8) "}", 8, "overlap"},
        {"{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 0, 4) "}", 4, "overlap"},
        {"{\"a\":" T("F32", "[1]", 0, 4) "}", 5, "end at"},
        {"{}", 1, "no tensors"},
        {"{\"__metadata__\":{\"format\":1}}", 0, "__metadata__"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err e = {0};
        ck_assert_msg(open_text(cases[i].header, cases[i].n, &e) == -1, "case %zu opened: %s", i,
                      cases[i].header);
        ck_assert_msg(strstr(e.text, cases[i].word) != NULL, "case %zu: %s", i, e.text);
    }
}
END_TEST

START_TEST(lengths_that_lie_are_refused)
{
    static const struct {
        uint8_t bytes[16];
        size_t size;
        const char *word;
    } cases[] = {{{0}, 0, "no safetensors"},
                 {{2}, 7, "no safetensors"},
                 {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "cut short"},
                 {{1, 0xe1, 0xf5, 5, 0, 0, 0, 0, '{', '}'}, 10, "at most"}, /* 100,000,001 */
                 {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'}, 10, "at most"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct safetensors *f;
        struct err e;
        ck_assert_int_eq(safetensors_open_memory(&f, cases[i].bytes, cases[i].size, "memory", &e),
                         -1);
        ck_assert_int_eq(e.code, ERR_INVALID);
        ck_assert_msg(strstr(e.text, cases[i].word) != NULL, "case %zu: %s", i, e.text);
    }
}
END_TEST

static const float A[6] = {1, -2, 0.5f, 65504, 1e-7f, 0}, B[2] = {3.25f, -0.125f};

static const struct safetensors_item ITEMS[] = {
    {.name = "half", .dtype = DTYPE_F16, .rank = 2, .shape = {2, 3}, .data = A},
    {.name = "weight \"quoted\"\n", .dtype = DTYPE_F32, .rank = 1, .shape = {2}, .data = B},
    {.name = "brain", .dtype = DTYPE_BF16, .rank = 1, .shape = {1}, .data = B},
    {.name = "empty", .dtype = DTYPE_F32, .rank = 2, .shape = {0, 7}},
    {.name = "alpha", .dtype = DTYPE_F32, .rank = 0, .data = B},
};
static const struct safetensors_meta META[] = {{"step", "12"}, {"note", "caf\xc3\xa9"}};

static struct safetensors *encoded(uint8_t **bytes, size_t *size)
{
    struct err e;
    struct safetensors *f;
    ck_assert_msg(safetensors_encode(bytes, size, ITEMS, COUNT(ITEMS), META, 2, &e) == 0, "%s",
                  e.text);
    ck_assert_msg(safetensors_open_memory(&f, *bytes, *size, "memory", &e) == 0, "%s", e.text);
    return f;
}

START_TEST(what_is_written_reads_back)
{
    uint8_t *bytes;
    size_t size;
    struct safetensors *f = encoded(&bytes, &size);
    float v[6];
    struct err e;
    ck_assert_uint_eq(safetensors_count(f), COUNT(ITEMS));
    ck_assert_int_eq(safetensors_load(f, "half", (int64_t[]){2, 3}, 2, v, &e), 0);
    ck_assert(v[0] == 1 && v[1] == -2 && v[3] == 65504 && v[5] == 0);
    ck_assert(fabsf(v[4] - 1e-7f) < 3e-8f); /* a half subnormal */
    ck_assert_int_eq(safetensors_load(f, "weight \"quoted\"\n", (int64_t[]){2}, 1, v, &e), 0);
    ck_assert(memcmp(v, B, sizeof B) == 0);
    ck_assert_int_eq(safetensors_load(f, "alpha", NULL, 0, v, &e), 0);
    ck_assert(v[0] == B[0]);
    ck_assert_int_eq(safetensors_load(f, "empty", (int64_t[]){0, 7}, 2, v, &e), 0);
    ck_assert_str_eq(safetensors_metadata(f, "format"), "pt");
    ck_assert_str_eq(safetensors_metadata(f, "note"), "caf\xc3\xa9");
    ck_assert_ptr_null(safetensors_metadata(f, "pt"));
    ck_assert_ptr_null(safetensors_find(f, "halves"));
    for (size_t i = 1; i < safetensors_count(f); i++)
        ck_assert(strcmp(safetensors_at(f, i - 1)->name, safetensors_at(f, i)->name) < 0);
    safetensors_close(f);
    mem_free(bytes);
}
END_TEST

START_TEST(the_layout_is_wide_first_aligned_and_a_function_of_the_contents)
{
    uint8_t *bytes, *again;
    size_t size, size_again;
    struct safetensors *f = encoded(&bytes, &size);
    const uint8_t *at = safetensors_find(f, "alpha")->data;
    ck_assert_uint_eq((size_t)(at - bytes) % 8, 0);
    ck_assert(safetensors_find(f, "weight \"quoted\"\n")->data == (const void *)(at + 4));
    ck_assert(safetensors_find(f, "brain")->data == (const void *)(at + 12));
    ck_assert(safetensors_find(f, "half")->data == (const void *)(at + 14));
    safetensors_close(f);

    struct safetensors_item reversed[COUNT(ITEMS)];
    for (size_t i = 0; i < COUNT(ITEMS); i++)
        reversed[i] = ITEMS[COUNT(ITEMS) - 1 - i];
    ck_assert_int_eq(safetensors_encode(&again, &size_again, reversed, COUNT(ITEMS), META, 2, NULL),
                     0);
    ck_assert(size == size_again && memcmp(bytes, again, size) == 0);
    mem_free(bytes);
    mem_free(again);
}
END_TEST

START_TEST(a_missing_tensor_and_a_wrong_shape_are_told_apart)
{
    uint8_t *bytes;
    size_t size;
    struct safetensors *f = encoded(&bytes, &size);
    float v[6];
    struct err e;
    ck_assert_int_eq(safetensors_load(f, "nowhere", (int64_t[]){1}, 1, v, &e), -1);
    ck_assert_int_eq(e.code, ERR_NOT_FOUND);
    ck_assert_int_eq(safetensors_load(f, "half", (int64_t[]){3, 2}, 2, v, &e), -1);
    ck_assert_int_eq(e.code, ERR_SHAPE);
    ck_assert_str_eq(e.text, "memory: tensor half is F16 [2,3], expected [3,2]");
    ck_assert_int_eq(safetensors_load(f, "half", (int64_t[]){2}, 1, v, &e), -1); /* fewer dimensions */
    ck_assert_int_eq(e.code, ERR_SHAPE);
    int64_t i64[6];
    ck_assert_int_eq(safetensors_to_int64(safetensors_find(f, "half"), i64, &e), -1);
    ck_assert_int_eq(e.code, ERR_SHAPE);
    safetensors_close(f);
    mem_free(bytes);
}
END_TEST

START_TEST(unwritable_items_are_refused)
{
    static const float large = 70000.0f, infinite = INFINITY;
    static const float rounds_up = 65520.0f, rounds_down = 65519.996f; /* the largest half is 65504, the next would be 65536 */
    const struct safetensors_item overflow = {.name = "w", .dtype = DTYPE_F16, .data = &large};
    const struct safetensors_item twice[] = {{.name = "w", .dtype = DTYPE_F32, .data = &large},
                                             {.name = "w", .dtype = DTYPE_F32, .data = &large}};
    const struct safetensors_item reserved = {
        .name = "__metadata__", .dtype = DTYPE_F32, .data = &large};
    const struct safetensors_item fine = {.name = "w", .dtype = DTYPE_F16, .data = &infinite};
    const struct safetensors_item beyond = {.name = "w", .dtype = DTYPE_F16, .data = &rounds_up};
    const struct safetensors_item below = {.name = "w", .dtype = DTYPE_F16, .data = &rounds_down};
    uint8_t *bytes;
    size_t size;
    struct err e;
    ck_assert_int_eq(safetensors_encode(&bytes, &size, &overflow, 1, NULL, 0, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "w[0] is 70000"));
    ck_assert_int_eq(safetensors_encode(&bytes, &size, twice, 2, NULL, 0, &e), -1);
    ck_assert_int_eq(safetensors_encode(&bytes, &size, &reserved, 1, NULL, 0, &e), -1);
    ck_assert_int_eq(safetensors_encode(&bytes, &size, &fine, 1, NULL, 0, &e), 0);
    mem_free(bytes);
    ck_assert_int_eq(safetensors_encode(&bytes, &size, &beyond, 1, NULL, 0, &e), -1);
    ck_assert_int_eq(safetensors_encode(&bytes, &size, &below, 1, NULL, 0, &e), 0);
    mem_free(bytes);
}
END_TEST

START_TEST(a_file_on_disk_has_the_bytes_of_the_memory_form)
{
    uint8_t *bytes;
    char *file;
    size_t size, file_size_bytes;
    struct err e;
    safetensors_close(encoded(&bytes, &size));
    ck_assert_msg(safetensors_write(in_test_folder("a.safetensors"), ITEMS, COUNT(ITEMS), META, 2, &e) ==
                      0,
                  "%s", e.text);
    ck_assert_int_eq(
        file_read_all(in_test_folder("a.safetensors"), 1 << 20, &file, &file_size_bytes, &e), 0);
    ck_assert(size == file_size_bytes && memcmp(bytes, file, size) == 0);
    struct safetensors *f;
    ck_assert_int_eq(safetensors_open(&f, in_test_folder("a.safetensors"), &e), 0);
    ck_assert_uint_eq(safetensors_count(f), COUNT(ITEMS));
    safetensors_close(f);
    ck_assert_int_eq(safetensors_open(&f, in_test_folder("b.safetensors"), &e), -1);
    ck_assert_int_eq(e.code, ERR_NOT_FOUND);
    mem_free(bytes);
    mem_free(file);
}
END_TEST

START_TEST(shards_open_as_one_file)
{
    static const struct {
        const char *index;
        int rc;
    } cases[] = {
        {"{\"weight_map\":{\"half\":\"1.safetensors\",\"brain\":\"2.safetensors\"}}", 0},
        {"{\"weight_map\":{\"half\":\"1.safetensors\"}}", 0},
        {"{\"weight_map\":{\"half\":\"1.safetensors\",\"ghost\":\"2.safetensors\"}}", -1},
        {"{\"weight_map\":{\"half\":\"1.safetensors\",\"brain\":\"3.safetensors\"}}", -1},
        {"{\"weight_map\":{\"half\":\"1.safetensors\",\"x\":\"copy.safetensors\"}}",
         -1}, /* half twice */
        {"{\"weight_map\":{\"half\":\"../1.safetensors\"}}", -1},
        {"{\"weight_map\":{\"half\":\"./1.safetensors\"}}", -1}, /* there, and still a path */
        {"{\"weight_map\":{\"half\":7}}", -1},
        {"{\"weights\":{}}", -1},
        {"[]", -1},
    };
    struct err e;
    ck_assert_int_eq(safetensors_write(in_test_folder("1.safetensors"), &ITEMS[0], 1, NULL, 0, &e), 0);
    ck_assert_int_eq(safetensors_write(in_test_folder("2.safetensors"), &ITEMS[2], 1, NULL, 0, &e), 0);
    ck_assert_int_eq(safetensors_write(in_test_folder("copy.safetensors"), &ITEMS[0], 1, NULL, 0, &e),
                     0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct safetensors *f;
        const char *path = in_test_folder("model.safetensors.index.json");
        ck_assert_int_eq(file_replace(path, cases[i].index, strlen(cases[i].index), 0644, &e), 0);
        const int rc = safetensors_open(&f, path, &e);
        ck_assert_msg(rc == cases[i].rc, "case %zu: %s", i, rc < 0 ? e.text : "opened");
        if (rc == 0) {
            ck_assert_ptr_nonnull(safetensors_find(f, "half"));
            safetensors_close(f);
        }
    }
}
END_TEST

SUITE("io/safetensors", 20, legal_files_open, illegal_files_are_refused_with_the_reason,
      lengths_that_lie_are_refused, what_is_written_reads_back,
      the_layout_is_wide_first_aligned_and_a_function_of_the_contents,
      a_missing_tensor_and_a_wrong_shape_are_told_apart, unwritable_items_are_refused,
      a_file_on_disk_has_the_bytes_of_the_memory_form, shards_open_as_one_file)
