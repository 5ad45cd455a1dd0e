#include "base/file.h"
#include "base/mem.h"
#include "metrics/events.h"
#include "support/folder.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

/* ---- reading back: records, then protobuf fields
 * ---------------------------------------------------- */

struct field {
    unsigned number, type;
    uint64_t bits; /* varint or fixed */
    const uint8_t *bytes;
    size_t n;
};

static uint64_t little_endian(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i > 0; i--)
        v = v << 8 | p[i - 1];
    return v;
}

static uint64_t varint(const uint8_t **p)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        const uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
}

/* The index-th field of that number within bytes[n]; the test fails where it is missing. */
static struct field find(const uint8_t *bytes, size_t n, unsigned number)
{
    const uint8_t *p = bytes, *end = bytes + n;
    while (p < end) {
        struct field f = {0};
        const uint64_t key = varint(&p);
        f.number = (unsigned)(key >> 3);
        f.type = (unsigned)(key & 7);
        if (f.type == 0) {
            f.bits = varint(&p);
        } else if (f.type == 1 || f.type == 5) {
            const size_t size = f.type == 1 ? 8 : 4;
            f.bits = little_endian(p, size);
            p += size;
        } else {
            ck_assert_uint_eq(f.type, 2);
            f.n = varint(&p);
            f.bytes = p;
            p += f.n;
        }
        ck_assert(p <= end);
        if (f.number == number)
            return f;
    }
    ck_abort_msg("field %u is missing", number);
    return (struct field){0};
}

static double as_double(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

struct log {
    char *data;
    size_t bytes, at;
};

/* The next record's message, both checksums verified. */
static struct field next(struct log *l)
{
    const uint8_t *p = (const uint8_t *)l->data + l->at;
    ck_assert(l->at + 16 <= l->bytes);
    const size_t n = little_endian(p, 8);
    ck_assert_uint_eq(little_endian(p + 8, 4), events_masked_crc(p, 8));
    ck_assert(l->at + 16 + n <= l->bytes);
    ck_assert_uint_eq(little_endian(p + 12 + n, 4), events_masked_crc(p + 12, n));
    l->at += 16 + n;
    return (struct field){.bytes = p + 12, .n = n};
}

static struct events *writer(const struct clock *clock)
{
    struct events *w;
    struct err e;
    ck_assert_msg(events_open(&w, in_test_folder("a/run"), clock, &e) == 0, "%s", e.text);
    return w;
}

static struct log reread(struct events *w)
{
    struct log l = {0};
    ck_assert_int_eq(file_read_all(events_path(w), 1 << 20, &l.data, &l.bytes, NULL), 0);
    return l;
}

static void done(struct events *w, struct log *l)
{
    events_close(w);
    mem_free(l->data);
}

/* ---- claims
 * --------------------------------------------------------------------------------------- */

START_TEST(masked_checksums_are_the_known_ones)
{
    static const uint8_t twenty_four[8] = {24};
    ck_assert_uint_eq(events_masked_crc("123456789", 9), 0xC78AB0E5u);
    ck_assert_uint_eq(events_masked_crc(twenty_four, 8), 0x224B7FA3u);
}
END_TEST

START_TEST(the_file_begins_with_its_version)
{
    struct clock_fake fake = {.wall_ns = INT64_C(1700000000500000000)};
    const struct clock clock = clock_fake(&fake);
    struct events *w = writer(&clock);
    struct log l = reread(w);
    const struct field message = next(&l), version = find(message.bytes, message.n, 3);
    ck_assert_uint_eq(message.n, 24);
    ck_assert(version.n == 13 && memcmp(version.bytes, "brain.Event:2", 13) == 0);
    ck_assert(as_double(find(message.bytes, message.n, 1).bits) == 1700000000.5);
    ck_assert_ptr_nonnull(strstr(events_path(w), "/a/run/events.out.tfevents.1700000000."));
    done(w, &l);
}
END_TEST

START_TEST(a_scalar_reads_back_as_soon_as_it_is_written)
{
    struct events *w = writer(NULL);
    ck_assert_int_eq(events_scalar(w, "reward/mean", 1234567, -0.75, NULL), 0);
    struct log l = reread(w);
    next(&l);
    const struct field m = next(&l), summary = find(m.bytes, m.n, 5),
                       value = find(summary.bytes, summary.n, 1);
    ck_assert_uint_eq(find(m.bytes, m.n, 2).bits, 1234567);
    const struct field tag = find(value.bytes, value.n, 1), scalar = find(value.bytes, value.n, 2);
    ck_assert(tag.n == 11 && memcmp(tag.bytes, "reward/mean", 11) == 0);
    float v;
    const uint32_t bits = (uint32_t)scalar.bits;
    memcpy(&v, &bits, sizeof v);
    ck_assert(scalar.type == 5 && v == -0.75f);
    ck_assert_uint_eq(l.at, l.bytes);
    done(w, &l);
}
END_TEST

START_TEST(a_picture_carries_its_size_and_bytes)
{
    static uint8_t png[300];
    for (size_t i = 0; i < sizeof png; i++)
        png[i] = (uint8_t)i;
    struct events *w = writer(NULL);
    ck_assert_int_eq(events_image(w, "samples", 3, png, sizeof png, 640, 480, NULL), 0);
    struct log l = reread(w);
    next(&l);
    const struct field m = next(&l), summary = find(m.bytes, m.n, 5),
                       value = find(summary.bytes, summary.n, 1);
    const struct field image = find(value.bytes, value.n, 4), bytes = find(image.bytes, image.n, 4);
    ck_assert_uint_eq(find(image.bytes, image.n, 1).bits, 480);
    ck_assert_uint_eq(find(image.bytes, image.n, 2).bits, 640);
    ck_assert_uint_eq(find(image.bytes, image.n, 3).bits, 3);
    ck_assert(bytes.n == sizeof png && memcmp(bytes.bytes, png, sizeof png) == 0);
    done(w, &l);
}
END_TEST

START_TEST(a_histogram_counts_what_is_finite)
{
    double v[103];
    for (int i = 0; i < 100; i++)
        v[i] = i / 99.0;
    v[100] = (double)NAN;
    v[101] = (double)INFINITY;
    v[102] = -(double)INFINITY;
    struct events *w = writer(NULL);
    ck_assert_int_eq(events_histogram(w, "delta", 1, v, 103, NULL), 0);
    struct log l = reread(w);
    next(&l);
    const struct field m = next(&l), summary = find(m.bytes, m.n, 5),
                       value = find(summary.bytes, summary.n, 1);
    const struct field h = find(value.bytes, value.n, 5);
    const struct field limits = find(h.bytes, h.n, 6), counts = find(h.bytes, h.n, 7);
    ck_assert(as_double(find(h.bytes, h.n, 1).bits) == 0.0);
    ck_assert(as_double(find(h.bytes, h.n, 2).bits) == 1.0);
    ck_assert(as_double(find(h.bytes, h.n, 3).bits) == 100.0);
    ck_assert(fabs(as_double(find(h.bytes, h.n, 4).bits) - 50.0) < 1e-9);
    ck_assert_uint_eq(limits.n, 8 * EVENTS_BUCKETS);
    ck_assert_uint_eq(counts.n, 8 * EVENTS_BUCKETS);
    double total = 0.0;
    for (size_t i = 0; i < EVENTS_BUCKETS; i++)
        total += as_double(little_endian(counts.bytes + 8 * i, 8));
    ck_assert(total == 100.0);
    ck_assert(as_double(little_endian(limits.bytes + 8 * (EVENTS_BUCKETS - 1), 8)) == 1.0);
    done(w, &l);
}
END_TEST

START_TEST(degenerate_histograms_are_written_too)
{
    static const double same[] = {2.5, 2.5, 2.5}, none[] = {(double)NAN}, wide[] = {-1.7e308, 1.7e308};
    struct events *w = writer(NULL);
    ck_assert_int_eq(events_histogram(w, "same", 1, same, 3, NULL), 0);
    ck_assert_int_eq(events_histogram(w, "none", 1, none, 1, NULL), 0);
    ck_assert_int_eq(events_histogram(w, "empty", 1, NULL, 0, NULL), 0);
    ck_assert_int_eq(events_histogram(w, "wide", 1, wide, 2, NULL), 0);
    struct log l = reread(w);
    for (int i = 0; i < 5; i++)
        next(&l);
    ck_assert_uint_eq(l.at, l.bytes);
    done(w, &l);
}
END_TEST

START_TEST(a_refused_record_leaves_the_file_as_it_was)
{
    struct events *w = writer(NULL);
    static uint8_t huge[EVENTS_RECORD_BYTES_MAX];
    char tag[EVENTS_TAG_BYTES_MAX + 2];
    memset(tag, 'a', sizeof tag);
    tag[sizeof tag - 1] = 0;
    struct err e;
    ck_assert_int_eq(events_image(w, "big", 1, huge, sizeof huge, 1, 1, &e), -1);
    ck_assert_int_eq(events_scalar(w, tag, 1, 0, &e), -1);
    ck_assert_int_eq(events_scalar(w, "fine", 1, 0, &e), 0);
    struct log l = reread(w);
    next(&l);
    next(&l);
    ck_assert_uint_eq(l.at, l.bytes);
    done(w, &l);
}
END_TEST

SUITE("metrics/events", 20, masked_checksums_are_the_known_ones, the_file_begins_with_its_version,
      a_scalar_reads_back_as_soon_as_it_is_written, a_picture_carries_its_size_and_bytes,
      a_histogram_counts_what_is_finite, degenerate_histograms_are_written_too,
      a_refused_record_leaves_the_file_as_it_was)
