/* The prompts of a run: the store's blob of one JSON object a line, {"prompt", "tag"?, "metadata"?}.
 * Immutable once parsed; any thread may read. */
#ifndef DAGLINE_RUN_PROMPTS_H
#define DAGLINE_RUN_PROMPTS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define PROMPTS_BYTES_MAX ((size_t)256 << 20)
#define PROMPTS_LINE_BYTES_MAX 65536

struct prompt {
    const char *text;     /* UTF-8 */
    const char *tag;      /* "" where there is none */
    const char *metadata; /* a JSON object as text, "" where there is none */
};

struct prompts {
    size_t count;
    struct prompt *item; /* owned [count], and the texts */
};

/* ERR_INVALID names the line. Empty lines are skipped; no prompt at all is an error. */
int prompts_parse(struct prompts *out, const char *jsonl, size_t bytes, struct err *e) MUST_USE;
/* Accepts zeroed memory. */
void prompts_done(struct prompts *p);

/* Which prompt the trajectories of one group of a slot are for: uniform, a function of (seed, slot, group). */
size_t prompts_choose(size_t count, uint64_t seed, uint32_t slot, uint64_t group);

#endif
