/* A file of prompts: refused with a reason, or JSON lines that a run reads as so many prompts, and the prompts of a run
 * themselves.  Input: the choice of the form, then the text. */
#include "run/prompt_file.h"
#include "run/prompt_set.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"x.txt", "x.jsonl", "x.csv", "x.tsv"};
    struct err e = {0};
    struct prompt_set set;
    struct buf lines;
    size_t count;
    if (size == 0)
        return 0;
    const char *const text = (const char *)data + 1;
    buf_init(&lines, 1 << 20);
    if (prompt_file_parse(&lines, &count, names[data[0] % 4], text, size - 1, "prompt", &e) < 0) {
        if (e.text[0] == 0)
            abort();
    } else {
        if (prompt_set_parse(&set, buf_text(&lines), lines.bytes, &e) < 0 || set.count != count)
            abort();
        prompt_set_done(&set);
    }
    buf_done(&lines);
    if (prompt_set_parse(&set, text, size - 1, &e) == 0)
        prompt_set_done(&set);
    return 0;
}
