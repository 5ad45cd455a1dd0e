#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_ELEMENTS 16384
#define META_MAX 256

/* Everything decided before the first byte is written. */
struct layout {
    const struct safetensors_item **items; /* in file order */
    size_t count;
    struct buf header; /* the 8 length bytes, the JSON and its padding */
    size_t data_bytes;
};

/* Where the bytes go: a file descriptor or memory. */
struct sink {
    int fd;
    const char *path;
    uint8_t *at; /* NULL: to fd */
};

static int sink_put(struct sink *s, const void *bytes, size_t n, struct err *e)
{
    if (s->at == NULL)
        return file_write(s->fd, bytes, n, s->path, e);
    if (n > 0)
        memcpy(s->at, bytes, n);
    s->at += n;
    return 0;
}

/* ---- the order, the sizes, the header
 * ------------------------------------------------------------ */

/* Wide elements first, so that everything stays aligned; then by name, so that bytes are a function
 * of the contents. */
static int by_width_then_name(const void *a, const void *b)
{
    const struct safetensors_item *x = *(const struct safetensors_item *const *)a;
    const struct safetensors_item *y = *(const struct safetensors_item *const *)b;
    const int wider = (int)dtype_bits(y->dtype) - (int)dtype_bits(x->dtype);
    return wider != 0 ? wider : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    const struct safetensors_item *x = *(const struct safetensors_item *const *)a;
    const struct safetensors_item *y = *(const struct safetensors_item *const *)b;
    return strcmp(x->name, y->name);
}

static size_t item_elements(const struct safetensors_item *item)
{
    size_t count = 1;
    for (int i = 0; i < item->rank; i++) {
        assert(item->shape[i] >= 0);
        const int fits = mem_mul(count, (size_t)item->shape[i], &count) == 0;
        assert(fits); /* the elements are in memory */
    }
    return count;
}

static size_t item_bytes(const struct safetensors_item *item)
{
    return item_elements(item) * (dtype_bits(item->dtype) / 8);
}

static int check_item(const struct safetensors_item *item, struct err *e)
{
    assert(item->rank >= 0 && item->rank <= SAFETENSORS_RANK_MAX);
    assert(item->dtype == DTYPE_F32 || item->dtype == DTYPE_F16 || item->dtype == DTYPE_BF16);
    const size_t length = strlen(item->name), n = item_elements(item);
    if (length == 0 || length > SAFETENSORS_NAME_BYTES_MAX ||
        strcmp(item->name, "__metadata__") == 0)
        return err_set(e, ERR_INVALID, "safetensors: '%.80s' cannot be a tensor's name",
                       item->name);
    for (size_t i = 0; item->dtype == DTYPE_F16 && i < n; i++)
        if (isfinite(item->data[i]) && fabsf(item->data[i]) >= 65520.0f)
            return err_set(e, ERR_INVALID,
                           "safetensors: %s[%zu] is %g, which F16 cannot hold: write F32 or BF16",
                           item->name, i, (double)item->data[i]);
    return 0;
}

static int check_items(const struct safetensors_item **items, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (check_item(items[i], e) < 0)
            return -1;
    qsort(items, count, sizeof *items, by_name);
    for (size_t i = 1; i < count; i++)
        if (strcmp(items[i - 1]->name, items[i]->name) == 0)
            return err_set(e, ERR_INVALID, "safetensors: two tensors are named %s", items[i]->name);
    return 0;
}

static void add_json_text(struct buf *b, const char *text)
{
    buf_add_byte(b, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p != 0; p++) {
        if (*p == '"' || *p == '\\')
            buf_format(b, "\\%c", *p);
        else if (*p < 0x20)
            buf_format(b, "\\u%04x", *p);
        else
            buf_add_byte(b, (char)*p);
    }
    buf_add_byte(b, '"');
}

static void add_item(struct buf *b, const struct safetensors_item *item, size_t begin)
{
    buf_add_byte(b, ',');
    add_json_text(b, item->name);
    buf_format(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(item->dtype));
    for (int i = 0; i < item->rank; i++)
        buf_format(b, "%s%lld", i == 0 ? "" : ",", (long long)item->shape[i]);
    buf_format(b, "],\"data_offsets\":[%zu,%zu]}", begin, begin + item_bytes(item));
}

static void layout_done(struct layout *l)
{
    mem_free(l->items);
    buf_done(&l->header);
}

static int layout_init(struct layout *l, const struct safetensors_item *items, size_t count,
                       const struct safetensors_meta *meta, size_t n_meta, struct err *e)
{
    struct buf *b = &l->header;
    assert(n_meta <= META_MAX);
    l->items = mem_new(count, sizeof *l->items);
    l->count = count;
    l->data_bytes = 0;
    buf_init(b, 8 + SAFETENSORS_HEADER_BYTES_MAX);
    for (size_t i = 0; i < count; i++)
        l->items[i] = &items[i];
    if (check_items(l->items, count, e) < 0)
        return -1;
    if (count > 0)
        qsort(l->items, count, sizeof *l->items, by_width_then_name);

    /* transformers refuses a file without "format" */
    buf_add(b, "\0\0\0\0\0\0\0\0", 8);
    buf_add_text(b, "{\"__metadata__\":{\"format\":\"pt\"");
    for (size_t i = 0; i < n_meta; i++) {
        assert(strcmp(meta[i].key, "format") != 0);
        buf_add_byte(b, ',');
        add_json_text(b, meta[i].key);
        buf_add_byte(b, ':');
        add_json_text(b, meta[i].value);
    }
    buf_add_byte(b, '}');
    for (size_t i = 0; i < count; i++) {
        add_item(b, l->items[i], l->data_bytes);
        l->data_bytes += item_bytes(l->items[i]);
    }
    buf_add_byte(b, '}');
    while (b->bytes % 8 != 0 && !b->overflowed)
        buf_add_byte(b, ' ');
    if (buf_check(b, "safetensors header", e) < 0)
        return -1;
    const uint64_t n = b->bytes - 8;
    for (int i = 0; i < 8; i++)
        b->data[i] = (char)(n >> (8 * i) & 0xff);
    return 0;
}

/* ---- the bytes ----------------------------------------------------------------------------------
 */

static int put_item(struct sink *s, const struct safetensors_item *item, struct err *e)
{
    static const size_t width_max = 4;
    const size_t n = item_elements(item), width = dtype_bits(item->dtype) / 8;
    if (item->dtype == DTYPE_F32)
        return sink_put(s, item->data, n * width, e);
    int rc = 0;
    uint8_t *chunk = mem_new(CHUNK_ELEMENTS, width_max);
    for (size_t at = 0; rc == 0 && at < n; at += CHUNK_ELEMENTS) {
        const size_t some = n - at < CHUNK_ELEMENTS ? n - at : CHUNK_ELEMENTS;
        const int known = dtype_from_float(chunk, item->dtype, item->data + at, some);
        assert(known == 0);
        rc = sink_put(s, chunk, some * width, e);
    }
    mem_free(chunk);
    return rc;
}

static int put_all(struct sink *s, const struct layout *l, struct err *e)
{
    if (sink_put(s, l->header.data, l->header.bytes, e) < 0)
        return -1;
    for (size_t i = 0; i < l->count; i++)
        if (put_item(s, l->items[i], e) < 0)
            return -1;
    return 0;
}

static int fill_file(int fd, const char *path, void *arg, struct err *e)
{
    struct sink s = {.fd = fd, .path = path};
    return put_all(&s, arg, e);
}

int safetensors_write(const char *path, const struct safetensors_item *items, size_t count,
                      const struct safetensors_meta *meta, size_t n_meta, struct err *e)
{
    struct layout l;
    int rc = layout_init(&l, items, count, meta, n_meta, e);
    if (rc == 0)
        rc = file_replace_with(path, 0644, fill_file, &l, e);
    layout_done(&l);
    return rc < 0 ? err_wrap(e, "writing %s", path) : 0;
}

int safetensors_encode(uint8_t **bytes, size_t *size, const struct safetensors_item *items,
                       size_t count, const struct safetensors_meta *meta, size_t n_meta,
                       struct err *e)
{
    struct layout l;
    uint8_t *file = NULL;
    int rc = layout_init(&l, items, count, meta, n_meta, e);
    if (rc < 0)
        goto out;
    const size_t total = l.header.bytes + l.data_bytes;
    file = mem_slab(total, "a safetensors file", e);
    rc = file != NULL ? 0 : -1;
    if (rc < 0)
        goto out;
    struct sink s = {.fd = -1, .path = "memory", .at = file};
    rc = put_all(&s, &l, e);
    assert(rc == 0 && s.at == file + total);
    *bytes = file;
    *size = total;
out:
    layout_done(&l);
    return rc;
}
