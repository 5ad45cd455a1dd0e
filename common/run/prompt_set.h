/* The prompts of a run: the store's blob of one JSON object a line, {"prompt", "tag"?, "metadata"?}.
 * Immutable once parsed; any thread may read. */
#ifndef DAGLINE_RUN_PROMPT_SET_H
#define DAGLINE_RUN_PROMPT_SET_H

#include "base/err.h"
#include "base/json.h"

#include <stddef.h>
#include <stdint.h>

#define PROMPT_SET_BYTES_MAX ((size_t)256 << 20)
#define PROMPT_SET_LINE_BYTES_MAX 65536

struct run_prompt {
    const char *text;     /* UTF-8 */
    const char *tag;      /* "" where there is none */
    const char *metadata; /* a JSON object as text, "" where there is none */
};

struct prompt_set {
    size_t count;
    struct run_prompt *item; /* owned [count], and the texts */
};

/* ERR_INVALID names the line. Empty lines are skipped; no prompt at all is an error. */
int prompt_set_parse(struct prompt_set *out, const char *jsonl, size_t bytes, struct err *e) MUST_USE;
/* One line of such a blob, without its newline; metadata NULL: none. Freed with mem_free. */
char *prompt_set_line(const char *prompt, const char *tag, const struct json *metadata);
/* Accepts zeroed memory. */
void prompt_set_done(struct prompt_set *p);

/* Which prompt the trajectories of one group of a slot are for: uniform, a function of (seed, slot, group). */
size_t prompt_set_draw(size_t count, uint64_t seed, uint32_t slot, uint64_t group);

#endif
