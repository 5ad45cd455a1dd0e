/* TensorBoard event files: scalars, pictures and histograms that `tensorboard --logdir` shows as
 * they come.
 *
 * A record is u64 length | masked crc32c of it | message | masked crc32c of the message; the
 * messages are tensorflow.Event in protobuf wire form, of which three kinds are written
 * (event.proto, summary.proto). Each record goes out with one write, so that a crash loses at most
 * what was not yet written, never the file.
 *
 * One folder per run: TensorBoard names a curve by its folder.  A tag is "reward/mean".
 * Thread rule: a writer belongs to one thread. */
#ifndef DAGLINE_METRICS_EVENTS_H
#define DAGLINE_METRICS_EVENTS_H

#include "base/clock.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define EVENTS_TAG_BYTES_MAX 256
#define EVENTS_RECORD_BYTES_MAX (64u << 20)
#define EVENTS_BUCKETS 30

struct events;

/* Starts a new file <folder>/events.out.tfevents.<seconds>.<host>.<pid>.<n>, making the folder
 * where it is missing.  clock (NULL: the system's) must outlive the writer; its wall time stamps
 * the records. */
int events_open(struct events **out, const char *folder, const struct clock *clock,
                struct err *e) MUST_USE;
/* Accepts NULL. */
void events_close(struct events *w);

/* The file's path. */
const char *events_path(const struct events *w);

/* On failure the record is absent and the file still readable; the next call may succeed. */
int events_scalar(struct events *w, const char *tag, int64_t step, double value,
                  struct err *e) MUST_USE;
/* png: a whole PNG file of that size. */
int events_image(struct events *w, const char *tag, int64_t step, const uint8_t *png, size_t bytes,
                 int width, int height, struct err *e) MUST_USE;
/* The distribution of v[n] in EVENTS_BUCKETS equal buckets; what is not finite is left out. */
int events_histogram(struct events *w, const char *tag, int64_t step, const double *v, size_t n,
                     struct err *e) MUST_USE;

/* crc32c rotated and offset, as records carry it. */
uint32_t events_masked_crc(const void *bytes, size_t n);

#endif
