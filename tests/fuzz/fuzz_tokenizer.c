/* Any text through the tokenizer of the reference model: it is refused or gives ids of the
 * vocabulary. */
#include "base/mem.h"
#include "diffusion/tokenizer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tokenizer *opened(void)
{
    static struct tokenizer *t;
    struct err e;
    if (t == NULL && tokenizer_open(&t, "tests/golden/tiny-sd/model/tokenizer", &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tokenizer *t = opened();
    int32_t ids[32], all[64];
    size_t count;
    bool truncated;
    struct err e;
    char *text = mem_new(size + 1, 1);
    if (size > 0)
        memcpy(text, data, size);
    if (tokenizer_pieces(t, text, all, 64, &count, &e) == 0) {
        const int rc = tokenizer_encode(t, text, ids, 32, &truncated, &e);
        assert(rc == 0 && truncated == (count > 30));
        for (int i = 0; i < 32; i++)
            assert(ids[i] >= 0 && ids[i] < tokenizer_vocab_size(t));
        for (size_t i = 0; i < 30 && i < count; i++)
            assert(ids[i + 1] == all[i]);
    }
    mem_free(text);
    return 0;
}
