/* Parameters from and to safetensors: every weight by name and shape, nothing left over, all
 * differences listed at once. */
#ifndef DAGLINE_DIFFUSION_WEIGHTS_H
#define DAGLINE_DIFFUSION_WEIGHTS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "io/safetensors.h"
#include "nn/param.h"

#include <stdbool.h>
#include <stddef.h>

/* The path of FOLDER/NAME.safetensors, .fp16.safetensors, or the index of its shards, whichever is
 * there first; ERR_NOT_FOUND. */
int weights_find(const char *folder, const char *name, char path[FILE_PATH_BYTES_MAX],
                 struct err *e) MUST_USE;

/* Removes every form of those weights but NAME.safetensors: some readers prefer them. */
int weights_remove_others(const char *folder, const char *name, struct err *e) MUST_USE;

/* Another name under which older files keep a parameter; false: none. */
typedef bool weights_alias(const char *name, char alias[SAFETENSORS_NAME_BYTES_MAX]);

/* A tensor of the file that is no parameter and means nothing ("...position_ids"). */
typedef bool weights_ignored(const char *name);

struct weights_rules {
    weights_alias *alias;     /* may be NULL */
    weights_ignored *ignored; /* may be NULL */
};

/* Fills parameters first..last-1 from the file, or changes nothing and fails.  Shapes must agree
 * but for trailing ones ([c,c,1,1] in a file for [c,c]).  report (may be NULL) gets one line for
 * each missing, misshapen and extra weight; the error counts them and shows the first. */
int weights_load(struct params *p, int first, int last, const struct safetensors *f,
                 struct weights_rules rules, struct buf *report, struct err *e) MUST_USE;

/* Which parameters weights_save and weights_encode write. */
typedef bool weights_filter(const struct param *a);

/* The chosen parameters (all where filter is NULL) with their values, names and shapes, as F32 or
 * F16. */
int weights_save(const struct params *p, weights_filter *filter, enum dtype dtype, const char *path,
                 struct err *e) MUST_USE;
int weights_encode(const struct params *p, weights_filter *filter, enum dtype dtype,
                   uint8_t **bytes, size_t *size, struct err *e) MUST_USE;

#endif
