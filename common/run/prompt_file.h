/* A file of prompts as people write it, into the JSON lines that a run keeps (prompt_set.h).
 *
 * .txt: one prompt a line, empty lines skipped. .jsonl: one object a line with "prompt", and optionally "tag" (text)
 * and "metadata" (object).  .csv, .tsv: a header and rows; the prompt is in the column of that name, "tag" may be
 * another, the others become metadata.  Threads: any. */
#ifndef DAGLINE_RUN_PROMPT_FILE_H
#define DAGLINE_RUN_PROMPT_FILE_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>

/* Adds one line of JSON with exactly these fields for each prompt to `out`, whose bound holds; *count: how many, at
 * least one.  The error names the file and the line. */
int prompt_file_read(struct buf *out, size_t *count, const char *path, const char *column, struct err *e) MUST_USE;

/* The same of what such a file holds. */
int prompt_file_parse(struct buf *out, size_t *count, const char *path, const char *text, size_t bytes, const char *column,
                      struct err *e) MUST_USE;

#endif
