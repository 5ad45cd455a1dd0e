/* safetensors files: named tensors behind a JSON header, read through a memory map, written whole
 * or not at all.
 *
 * File: u64 little-endian N; N bytes of JSON {"name": {"dtype","shape","data_offsets":[begin,end]},
 * "__metadata__": {string: string}}; then the data, to which the offsets are relative.
 * The reader is strict: every byte of the data belongs to exactly one tensor (no hole, no overlap,
 * no tail), shape x dtype is the length, names are unique, N <= SAFETENSORS_HEADER_BYTES_MAX. After
 * a successful open nothing has to be checked again but the shape one expects (safetensors_load
 * does it). NaN and infinity are data.  Names and shapes are the file's: PyTorch layouts (OIHW,
 * [out,in]).
 *
 * Thread rule: an open file is immutable; any number of threads may read it. */
#ifndef DAGLINE_IO_SAFETENSORS_H
#define DAGLINE_IO_SAFETENSORS_H

#include "base/err.h"
#include "io/dtype.h"

#include <stddef.h>
#include <stdint.h>

#define SAFETENSORS_HEADER_BYTES_MAX 100000000u
#define SAFETENSORS_RANK_MAX 8
#define SAFETENSORS_NAME_BYTES_MAX 512
#define SAFETENSORS_SHARDS_MAX 256

/* One tensor of an open file; valid until safetensors_close. */
struct safetensors_tensor {
    const char *name;
    enum dtype dtype;
    int rank; /* 0 is a scalar: count 1 */
    int64_t shape[SAFETENSORS_RANK_MAX];
    size_t count; /* elements; may be 0 */
    size_t bytes;
    const void *data; /* inside the map; of no alignment */
};

struct safetensors;

/* ---- reading ------------------------------------------------------------------------------------
 */

/* Maps the file.  A path that ends in ".index.json" opens the shards that its weight_map names
 * (files of the same folder) as one file.  On success *out is the caller's, to be closed. */
int safetensors_open(struct safetensors **out, const char *path, struct err *e) MUST_USE;

/* The same over bytes in memory, which stay the caller's and must outlive the handle.  `what` names
 * them in messages. */
int safetensors_open_memory(struct safetensors **out, const void *bytes, size_t size,
                            const char *what, struct err *e) MUST_USE;

/* Accepts NULL. */
void safetensors_close(struct safetensors *f);

/* Tensors in order of their names (strcmp). index < count. */
size_t safetensors_count(const struct safetensors *f);
const struct safetensors_tensor *safetensors_at(const struct safetensors *f, size_t index);

/* NULL where there is none of that name. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *f, const char *name);

/* The value of a metadata key (of the first shard); NULL where it is absent. */
const char *safetensors_metadata(const struct safetensors *f, const char *key);

/* Demands a tensor by name and shape and converts it to float: ERR_NOT_FOUND or ERR_SHAPE
 * otherwise. out: [product of shape].  Floating dtypes of 8 bits (E4M3, E5M2) and above. */
int safetensors_load(const struct safetensors *f, const char *name, const int64_t *shape, int rank,
                     float *out, struct err *e) MUST_USE;

/* The tensor's elements as float, out: [t->count]; ERR_SHAPE where its dtype is not a floating one.
 */
int safetensors_to_float(const struct safetensors_tensor *t, float *out, struct err *e) MUST_USE;

/* The tensor's elements as integers (I8..I64, U8..U32), out: [t->count]. */
int safetensors_to_int64(const struct safetensors_tensor *t, int64_t *out, struct err *e) MUST_USE;

/* "F16 [320,4,3,3]" into text, for messages; returns text. */
#define SAFETENSORS_SHAPE_TEXT_MAX 192
const char *safetensors_shape_text(const struct safetensors_tensor *t,
                                   char text[SAFETENSORS_SHAPE_TEXT_MAX]);

/* ---- writing ------------------------------------------------------------------------------------
 */

struct safetensors_item {
    const char *name;
    enum dtype dtype; /* as stored: F32, F16 or BF16 */
    int rank;
    int64_t shape[SAFETENSORS_RANK_MAX];
    const float *data; /* [product of shape]; may be NULL where that is 0 */
};

struct safetensors_meta {
    const char *key, *value;
};

/* Writes every item (any order; the file is ordered by element size, then name) with the metadata
 * {"format": "pt"} and the n_meta further pairs.  The same items give the same bytes.  Refused
 * before anything is written: duplicate names, a finite value that F16 cannot hold (ERR_INVALID,
 * naming it).
 *
 * safetensors_write: to a temporary file, fsync, rename: the old file stays valid for who has it
 * mapped. safetensors_encode: to memory; *bytes is the caller's, freed with mem_free. */
int safetensors_write(const char *path, const struct safetensors_item *items, size_t count,
                      const struct safetensors_meta *meta, size_t n_meta, struct err *e) MUST_USE;
int safetensors_encode(uint8_t **bytes, size_t *size, const struct safetensors_item *items,
                       size_t count, const struct safetensors_meta *meta, size_t n_meta,
                       struct err *e) MUST_USE;

#endif
