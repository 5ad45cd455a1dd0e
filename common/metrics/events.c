#include "metrics/events.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct events {
    int fd;
    const struct clock *clock;
    struct buf message, record; /* reused from record to record */
    off_t size;                 /* of the whole records so far */
    char path[FILE_PATH_BYTES_MAX];
};

/* ---- protobuf wire form
 * --------------------------------------------------------------------------- */

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_add_byte(b, (char)(v | 0x80));
    buf_add_byte(b, (char)v);
}

static void put_key(struct buf *b, unsigned field, enum wire_type type)
{
    put_varint(b, field << 3 | (unsigned)type);
}

static void put_int(struct buf *b, unsigned field, int64_t v)
{
    put_key(b, field, WIRE_VARINT);
    put_varint(b, (uint64_t)v);
}

static void put_little_endian(struct buf *b, uint64_t bits, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_add_byte(b, (char)(bits >> (8 * i) & 0xff));
}

static void put_double_bits(struct buf *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_little_endian(b, bits, 8);
}

static void put_double(struct buf *b, unsigned field, double v)
{
    put_key(b, field, WIRE_64);
    put_double_bits(b, v);
}

static void put_float(struct buf *b, unsigned field, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(b, field, WIRE_32);
    put_little_endian(b, bits, 4);
}

static void put_bytes(struct buf *b, unsigned field, const void *bytes, size_t n)
{
    put_key(b, field, WIRE_BYTES);
    put_varint(b, n);
    buf_add(b, bytes, n);
}

static void put_packed(struct buf *b, unsigned field, const double *v, size_t n)
{
    put_key(b, field, WIRE_BYTES);
    put_varint(b, 8 * n);
    for (size_t i = 0; i < n; i++)
        put_double_bits(b, v[i]);
}

/* ---- records
 * -------------------------------------------------------------------------------------- */

uint32_t events_masked_crc(const void *bytes, size_t n)
{
    const uint32_t crc = hash_crc32c(0, bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Appends w->message as one record; what a failed write left behind is cut off again. */
static int append_record(struct events *w, struct err *e)
{
    struct buf *r = &w->record;
    if (buf_check(&w->message, "event", e) < 0)
        return -1;
    buf_clear(r);
    put_little_endian(r, w->message.bytes, 8);
    put_little_endian(r, events_masked_crc(r->data, 8), 4);
    buf_add(r, w->message.data, w->message.bytes);
    put_little_endian(r, events_masked_crc(w->message.data, w->message.bytes), 4);
    if (buf_check(r, "event record", e) < 0)
        return -1;
    if (file_write(w->fd, r->data, r->bytes, w->path, e) < 0) {
        if (ftruncate(w->fd, w->size) < 0 || lseek(w->fd, w->size, SEEK_SET) < 0)
            return err_wrap(e, "the last record of the file is incomplete");
        return -1;
    }
    w->size += (off_t)r->bytes;
    return 0;
}

static void begin_event(struct events *w)
{
    buf_clear(&w->message);
    put_double(&w->message, 1, (double)clock_wall_ns(w->clock) / 1e9);
}

/* Event{wall_time, step, summary{value{tag, <field>}}} where <field> is already encoded. */
static int append_value(struct events *w, const char *tag, int64_t step, const struct buf *field,
                        struct err *e)
{
    const size_t tag_bytes = strlen(tag);
    if (tag_bytes == 0 || tag_bytes > EVENTS_TAG_BYTES_MAX)
        return err_set(e, ERR_INVALID, "events: tag '%.80s' must be 1..%d bytes", tag,
                       EVENTS_TAG_BYTES_MAX);
    if (buf_check(field, "event value", e) < 0)
        return -1;
    struct buf value, summary;
    buf_init(&value, EVENTS_RECORD_BYTES_MAX);
    buf_init(&summary, EVENTS_RECORD_BYTES_MAX);
    put_bytes(&value, 1, tag, tag_bytes);
    buf_add(&value, field->data, field->bytes);
    put_bytes(&summary, 1, value.data, value.bytes);
    begin_event(w);
    put_int(&w->message, 2, step);
    put_bytes(&w->message, 5, summary.data, summary.bytes);
    int rc = buf_check(&value, "event value", e);
    if (rc == 0)
        rc = buf_check(&summary, "event summary", e);
    if (rc == 0)
        rc = append_record(w, e);
    buf_done(&summary);
    buf_done(&value);
    return rc;
}

int events_scalar(struct events *w, const char *tag, int64_t step, double value, struct err *e)
{
    struct buf field;
    buf_init(&field, 64);
    put_float(&field, 2, (float)value);
    const int rc = append_value(w, tag, step, &field, e);
    buf_done(&field);
    return rc;
}

int events_image(struct events *w, const char *tag, int64_t step, const uint8_t *png, size_t bytes,
                 int width, int height, struct err *e)
{
    assert(width > 0 && height > 0);
    struct buf image, field;
    buf_init(&image, EVENTS_RECORD_BYTES_MAX);
    buf_init(&field, EVENTS_RECORD_BYTES_MAX);
    put_int(&image, 1, height);
    put_int(&image, 2, width);
    put_int(&image, 3, 3); /* RGB */
    put_bytes(&image, 4, png, bytes);
    put_bytes(&field, 4, image.data, image.bytes);
    int rc = buf_check(&image, "event picture", e);
    if (rc == 0)
        rc = append_value(w, tag, step, &field, e);
    buf_done(&field);
    buf_done(&image);
    return rc;
}

/* The finite part of v, in equal buckets; limits are the right edges, the last one is the maximum.
 */
struct histogram {
    double min, max, sum, sum_squares, limits[EVENTS_BUCKETS], counts[EVENTS_BUCKETS];
    size_t num;
};

static struct histogram histogram_of(const double *v, size_t n)
{
    struct histogram h = {.min = (double)INFINITY, .max = -(double)INFINITY};
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i])) {
            h.min = fmin(h.min, v[i]);
            h.max = fmax(h.max, v[i]);
            h.sum += v[i];
            h.sum_squares += v[i] * v[i];
            h.num++;
        }
    if (h.num == 0)
        h.min = h.max = 0.0;
    const double width = h.max / EVENTS_BUCKETS - h.min / EVENTS_BUCKETS;
    for (int b = 0; b < EVENTS_BUCKETS; b++)
        h.limits[b] = b + 1 == EVENTS_BUCKETS ? h.max : h.min + width * (b + 1);
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i])) {
            const double at = width > 0.0 ? (v[i] - h.min) / width : 0.0;
            h.counts[at < EVENTS_BUCKETS - 1 ? (int)at : EVENTS_BUCKETS - 1] += 1.0;
        }
    return h;
}

int events_histogram(struct events *w, const char *tag, int64_t step, const double *v, size_t n,
                     struct err *e)
{
    const struct histogram h = histogram_of(v, n);
    struct buf histo, field;
    buf_init(&histo, 4096);
    buf_init(&field, 4096);
    put_double(&histo, 1, h.min);
    put_double(&histo, 2, h.max);
    put_double(&histo, 3, (double)h.num);
    put_double(&histo, 4, h.sum);
    put_double(&histo, 5, h.sum_squares);
    put_packed(&histo, 6, h.limits, EVENTS_BUCKETS);
    put_packed(&histo, 7, h.counts, EVENTS_BUCKETS);
    put_bytes(&field, 5, histo.data, histo.bytes);
    const int rc = append_value(w, tag, step, &field, e);
    buf_done(&field);
    buf_done(&histo);
    return rc;
}

/* ---- the file
 * ------------------------------------------------------------------------------------- */

static int create_file(struct events *w, const char *folder, struct err *e)
{
    /* told apart from the other writers of this process */
    static atomic_uint serial;
    char host[64] = "localhost", name[192];
    if (gethostname(host, sizeof host - 1) < 0 || host[0] == 0)
        snprintf(host, sizeof host, "localhost");
    for (char *p = host; *p != 0; p++)
        if (*p == '/')
            *p = '_';
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld.%u",
             (long long)(clock_wall_ns(w->clock) / CLOCK_NS_PER_S), host, (long)getpid(),
             atomic_fetch_add(&serial, 1));
    if (file_make_folders(folder, e) < 0 || file_join(w->path, folder, name, e) < 0)
        return -1;
    w->fd = open(w->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (w->fd < 0)
        return err_sys(e, errno, "create %s", w->path);
    return 0;
}

int events_open(struct events **out, const char *folder, const struct clock *clock, struct err *e)
{
    struct events *w = mem_new(1, sizeof *w);
    w->fd = -1;
    w->clock = clock;
    buf_init(&w->message, EVENTS_RECORD_BYTES_MAX);
    buf_init(&w->record, EVENTS_RECORD_BYTES_MAX + 16);
    if (create_file(w, folder, e) < 0)
        goto fail;
    begin_event(w);
    put_bytes(&w->message, 3, "brain.Event:2", 13);
    if (append_record(w, e) < 0)
        goto fail;
    *out = w;
    return 0;
fail:
    events_close(w);
    return -1;
}

void events_close(struct events *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0)
        close(w->fd);
    buf_done(&w->message);
    buf_done(&w->record);
    mem_free(w);
}

const char *events_path(const struct events *w)
{
    return w->path;
}
