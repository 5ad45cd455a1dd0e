#include "io/safetensors.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 46)
#define INDEX_BYTES_MAX (64u << 20)
#define METADATA_KEY "__metadata__"

struct safetensors {
    char *what; /* path, for messages */
    struct file_map maps[SAFETENSORS_SHARDS_MAX];
    size_t n_maps;
    struct safetensors_tensor *tensors; /* sorted by name; the names are ours */
    size_t count, capacity;
    char **metadata; /* key, value, key, value ... of the first shard */
    size_t n_metadata;
};

/* ---- one entry of the header
 * ------------------------------------------------------------------------ */

/* shape x dtype in bytes; -1 where it overflows or does not end on a byte. */
static int measure(struct safetensors_tensor *t)
{
    size_t count = 1, bits;
    for (int i = 0; i < t->rank; i++)
        if (mem_mul(count, (size_t)t->shape[i], &count) < 0)
            return -1;
    if (mem_mul(count, dtype_bits(t->dtype), &bits) < 0 || bits % 8 != 0)
        return -1;
    t->count = count;
    t->bytes = bits / 8;
    return 0;
}

/* Everything but name and data; *begin is relative to the data. */
static int parse_entry(struct safetensors_tensor *t, size_t *begin, const struct json *entry,
                       size_t data_bytes, struct err *e)
{
    const char *dtype;
    int64_t offsets[2];
    size_t rank, n_offsets;
    if (!json_is_object(entry))
        return err_set(e, ERR_INVALID, "is a %s, expected an object", json_type_name(entry));
    if (json_get_string(entry, "dtype", 32, &dtype, e) < 0 ||
        json_get_ints(entry, "shape", 0, INT64_MAX, t->shape, SAFETENSORS_RANK_MAX, &rank, e) < 0 ||
        json_get_ints(entry, "data_offsets", 0, INT64_MAX, offsets, 2, &n_offsets, e) < 0)
        return -1;
    if (dtype_parse(&t->dtype, dtype) < 0)
        return err_set(e, ERR_INVALID, "has the unknown dtype '%s'", dtype);
    t->rank = (int)rank;
    if (measure(t) < 0)
        return err_set(e, ERR_INVALID, "has a shape whose size in bytes cannot be represented");
    if (n_offsets != 2 || offsets[1] < offsets[0] || (uint64_t)offsets[1] > data_bytes)
        return err_set(e, ERR_INVALID, "has data_offsets outside the %zu bytes of data",
                       data_bytes);
    if ((uint64_t)(offsets[1] - offsets[0]) != t->bytes) {
        char text[SAFETENSORS_SHAPE_TEXT_MAX];
        return err_set(e, ERR_INVALID, "is %s, %zu bytes, but its data_offsets span %lld",
                       safetensors_shape_text(t, text), t->bytes,
                       (long long)(offsets[1] - offsets[0]));
    }
    *begin = (size_t)offsets[0];
    return 0;
}

static struct safetensors_tensor *add_tensor(struct safetensors *f)
{
    if (f->count == f->capacity) {
        f->capacity = f->capacity == 0 ? 256 : 2 * f->capacity;
        f->tensors = mem_grow(f->tensors, f->capacity, sizeof *f->tensors);
    }
    struct safetensors_tensor *t = &f->tensors[f->count];
    *t = (struct safetensors_tensor){0};
    return t;
}

static int parse_metadata(struct safetensors *f, const struct json *metadata, struct err *e)
{
    const char *key, *text;
    const struct json *value;
    if (!json_is_object(metadata))
        return err_set(e, ERR_INVALID, METADATA_KEY " is a %s, expected an object",
                       json_type_name(metadata));
    const int keep = f->metadata == NULL;
    if (keep)
        f->metadata = mem_new(2 * json_count(metadata), sizeof *f->metadata);
    for (void *c = NULL; json_next(metadata, &c, &key, &value);) {
        if (json_as_string(value, METADATA_KEY " value", SAFETENSORS_HEADER_BYTES_MAX, &text, e) <
            0)
            return -1;
        if (keep) {
            f->metadata[f->n_metadata++] = mem_strdup(key);
            f->metadata[f->n_metadata++] = mem_strdup(text);
        }
    }
    return 0;
}

static int parse_entries(struct safetensors *f, const struct json *header, const uint8_t *data,
                         size_t data_bytes, struct err *e)
{
    const char *name;
    const struct json *entry;
    for (void *c = NULL; json_next(header, &c, &name, &entry);) {
        if (strcmp(name, METADATA_KEY) == 0) {
            if (parse_metadata(f, entry, e) < 0)
                return -1;
            continue;
        }
        if (strlen(name) > SAFETENSORS_NAME_BYTES_MAX)
            return err_set(e, ERR_INVALID, "a tensor's name is %zu bytes, at most %d are read",
                           strlen(name), SAFETENSORS_NAME_BYTES_MAX);
        struct safetensors_tensor *t = add_tensor(f);
        size_t begin = 0;
        if (parse_entry(t, &begin, entry, data_bytes, e) < 0)
            return err_wrap(e, "tensor %s", name);
        t->name = mem_strdup(name);
        t->data = data + begin;
        f->count++;
    }
    return 0;
}

/* ---- the rules over all entries
 * ---------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    if (x->data != y->data)
        return (const uint8_t *)x->data < (const uint8_t *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* an empty one before its neighbour */
}

static int by_name(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Every byte of the data belongs to exactly one tensor. */
static int check_cover(struct safetensors_tensor *tensors, size_t count, const uint8_t *data,
                       size_t data_bytes, struct err *e)
{
    const uint8_t *at = data;
    if (count > 1)
        qsort(tensors, count, sizeof *tensors, by_place);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *begin = tensors[i].data;
        if (begin != at)
            return err_set(e, ERR_INVALID,
                           "tensor %s begins at byte %zu of the data, expected %zu: %s",
                           tensors[i].name, (size_t)(begin - data), (size_t)(at - data),
                           begin > at ? "a hole" : "an overlap");
        at += tensors[i].bytes;
    }
    if (at != data + data_bytes)
        return err_set(e, ERR_INVALID, "%zu bytes of data, but the tensors end at %zu", data_bytes,
                       (size_t)(at - data));
    return 0;
}

static int sort_names(struct safetensors *f, struct err *e)
{
    if (f->count > 1)
        qsort(f->tensors, f->count, sizeof *f->tensors, by_name);
    for (size_t i = 1; i < f->count; i++)
        if (strcmp(f->tensors[i - 1].name, f->tensors[i].name) == 0)
            return err_set(e, ERR_INVALID, "tensor %s is in two shards", f->tensors[i].name);
    return 0;
}

/* Adds the tensors of one file's bytes to f, unsorted. */
static int add_file(struct safetensors *f, const uint8_t *bytes, size_t size, struct err *e)
{
    uint64_t n = 0;
    struct json *header = NULL;
    if (size < 8)
        return err_set(e, ERR_INVALID, "%zu bytes are no safetensors file", size);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | bytes[i];
    if (n > SAFETENSORS_HEADER_BYTES_MAX)
        return err_set(e, ERR_INVALID, "the header's length is given as %llu, at most %u are read",
                       (unsigned long long)n, SAFETENSORS_HEADER_BYTES_MAX);
    if (n > size - 8)
        return err_set(
            e, ERR_INVALID,
            "the header's length is given as %llu, but the file has %zu bytes: cut short",
            (unsigned long long)n, size);
    if (n == 0 || bytes[8] != '{')
        return err_set(e, ERR_INVALID, "the header does not begin with '{'");
    const uint8_t *data = bytes + 8 + n;
    const size_t data_bytes = size - 8 - (size_t)n, first = f->count;
    if (json_parse(&header, (const char *)bytes + 8, (size_t)n, SAFETENSORS_HEADER_BYTES_MAX, e) <
        0)
        return err_wrap(e, "header");
    int rc = parse_entries(f, header, data, data_bytes, e);
    json_free(header);
    if (rc == 0 && f->count > first)
        rc = check_cover(f->tensors + first, f->count - first, data, data_bytes, e);
    else if (rc == 0 && data_bytes > 0)
        rc = err_set(e, ERR_INVALID, "%zu bytes of data, but no tensors", data_bytes);
    return rc;
}

/* ---- opening
 * ---------------------------------------------------------------------------------------- */

static struct safetensors *new_file(const char *what)
{
    struct safetensors *f = mem_new(1, sizeof *f);
    f->what = mem_strdup(what);
    return f;
}

static int map_file(struct safetensors *f, const char *path, struct err *e)
{
    if (f->n_maps == SAFETENSORS_SHARDS_MAX)
        return err_set(e, ERR_INVALID, "more than %d shards", SAFETENSORS_SHARDS_MAX);
    struct file_map *map = &f->maps[f->n_maps];
    if (file_map_open(map, path, FILE_BYTES_MAX, e) < 0)
        return -1;
    f->n_maps++;
    if (add_file(f, map->data, map->bytes, e) < 0)
        return err_wrap(e, "%s", path);
    return 0;
}

static int add_shard_name(const char **shards, size_t *count, const char *name, struct err *e)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(shards[i], name) == 0)
            return 0;
    if (strchr(name, '/') != NULL)
        return err_set(e, ERR_INVALID, "shard '%.200s' is not a file of the index's own folder",
                       name);
    if (*count == SAFETENSORS_SHARDS_MAX)
        return err_set(e, ERR_INVALID, "more than %d shards", SAFETENSORS_SHARDS_MAX);
    shards[(*count)++] = name;
    return 0;
}

/* The shards that weight_map names, each once; then every name of it must be there. */
static int open_shards(struct safetensors *f, const struct json *weight_map, const char *folder,
                       struct err *e)
{
    const char *shards[SAFETENSORS_SHARDS_MAX], *tensor, *shard;
    const struct json *value;
    size_t n_shards = 0;
    for (void *c = NULL; json_next(weight_map, &c, &tensor, &value);)
        if (json_as_string(value, "weight_map value", 255, &shard, e) < 0 ||
            add_shard_name(shards, &n_shards, shard, e) < 0)
            return -1;
    for (size_t i = 0; i < n_shards; i++) {
        char path[FILE_PATH_BYTES_MAX];
        if (file_join(path, folder, shards[i], e) < 0 || map_file(f, path, e) < 0)
            return -1;
    }
    if (sort_names(f, e) < 0)
        return -1;
    for (void *c = NULL; json_next(weight_map, &c, &tensor, &value);)
        if (safetensors_find(f, tensor) == NULL)
            return err_set(e, ERR_INVALID, "weight_map names tensor %s, which no shard has",
                           tensor);
    return 0;
}

static int open_index(struct safetensors *f, const char *path, struct err *e)
{
    struct json *index = NULL;
    const struct json *weight_map;
    char folder[FILE_PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        folder[0] = 0;
    else
        slash[slash == folder] = 0; /* "/x" lies in "/" */
    if (json_read_object(&index, path, INDEX_BYTES_MAX, e) < 0)
        return -1;
    int rc = json_get_object(index, "weight_map", &weight_map, e);
    if (rc == 0)
        rc = open_shards(f, weight_map, folder, e);
    json_free(index);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

static int ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

int safetensors_open(struct safetensors **out, const char *path, struct err *e)
{
    if (strlen(path) >= FILE_PATH_BYTES_MAX)
        return err_set(e, ERR_INVALID, "a path of %zu bytes is too long", strlen(path));
    struct safetensors *f = new_file(path);
    int rc = ends_with(path, ".index.json") ? open_index(f, path, e) : map_file(f, path, e);
    if (rc == 0)
        rc = sort_names(f, e);
    if (rc < 0)
        safetensors_close(f);
    else
        *out = f;
    return rc;
}

int safetensors_open_memory(struct safetensors **out, const void *bytes, size_t size,
                            const char *what, struct err *e)
{
    struct safetensors *f = new_file(what);
    if (add_file(f, bytes, size, e) < 0 || sort_names(f, e) < 0) {
        safetensors_close(f);
        return err_wrap(e, "%s", what);
    }
    *out = f;
    return 0;
}

void safetensors_close(struct safetensors *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->count; i++) {
        char *name;
        memcpy(&name, &f->tensors[i].name, sizeof name); /* ours, though const to the reader */
        mem_free(name);
    }
    for (size_t i = 0; i < f->n_metadata; i++)
        mem_free(f->metadata[i]);
    for (size_t i = 0; i < f->n_maps; i++)
        file_map_close(&f->maps[i]);
    mem_free(f->metadata);
    mem_free(f->tensors);
    mem_free(f->what);
    mem_free(f);
}

/* ---- asking
 * ----------------------------------------------------------------------------------------- */

size_t safetensors_count(const struct safetensors *f)
{
    return f->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *f, size_t index)
{
    assert(index < f->count);
    return &f->tensors[index];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *f, const char *name)
{
    const struct safetensors_tensor key = {.name = name};
    return f->count == 0 ? NULL : bsearch(&key, f->tensors, f->count, sizeof key, by_name);
}

const char *safetensors_metadata(const struct safetensors *f, const char *key)
{
    for (size_t i = 0; i < f->n_metadata; i += 2)
        if (strcmp(f->metadata[i], key) == 0)
            return f->metadata[i + 1];
    return NULL;
}

static void print_shape(char *text, size_t bytes, const int64_t *shape, int rank)
{
    size_t used = (size_t)snprintf(text, bytes, "[");
    for (int i = 0; i < rank; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%lld", i == 0 ? "" : ",",
                                 (long long)shape[i]);
    snprintf(text + used, bytes - used, "]");
}

const char *safetensors_shape_text(const struct safetensors_tensor *t,
                                   char text[SAFETENSORS_SHAPE_TEXT_MAX])
{
    /* 16 bytes of dtype and 8 x 20 of dimensions fit */
    const int used = snprintf(text, SAFETENSORS_SHAPE_TEXT_MAX, "%s ", dtype_name(t->dtype));
    print_shape(text + used, SAFETENSORS_SHAPE_TEXT_MAX - (size_t)used, t->shape, t->rank);
    return text;
}

int safetensors_to_float(const struct safetensors_tensor *t, float *out, struct err *e)
{
    if (dtype_to_float(out, t->dtype, t->data, t->count) < 0)
        return err_set(e, ERR_SHAPE, "tensor %s is %s, expected a floating dtype", t->name,
                       dtype_name(t->dtype));
    return 0;
}

int safetensors_to_int64(const struct safetensors_tensor *t, int64_t *out, struct err *e)
{
    if (dtype_to_int64(out, t->dtype, t->data, t->count) < 0)
        return err_set(e, ERR_SHAPE, "tensor %s is %s, expected an integer dtype", t->name,
                       dtype_name(t->dtype));
    return 0;
}

int safetensors_load(const struct safetensors *f, const char *name, const int64_t *shape, int rank,
                     float *out, struct err *e)
{
    const struct safetensors_tensor *t = safetensors_find(f, name);
    if (t == NULL)
        return err_set(e, ERR_NOT_FOUND, "%s has no tensor %s", f->what, name);
    if (t->rank != rank ||
        (rank > 0 && memcmp(t->shape, shape, (size_t)rank * sizeof *shape) != 0)) {
        char got[SAFETENSORS_SHAPE_TEXT_MAX], want[SAFETENSORS_SHAPE_TEXT_MAX];
        print_shape(want, sizeof want, shape, rank);
        return err_set(e, ERR_SHAPE, "%s: tensor %s is %s, expected %s", f->what, name,
                       safetensors_shape_text(t, got), want);
    }
    return safetensors_to_float(t, out, e);
}
