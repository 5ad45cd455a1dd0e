/* The safetensors reader: whatever the bytes are, it refuses them or every tensor lies inside them.
 */
#include "base/mem.h"
#include "io/safetensors.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *f;
    struct err e;
    if (safetensors_open_memory(&f, data, size, "input", &e) < 0)
        return 0;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const struct safetensors_tensor *t = safetensors_at(f, i);
        char text[SAFETENSORS_SHAPE_TEXT_MAX];
        assert((const uint8_t *)t->data >= data &&
               (const uint8_t *)t->data + t->bytes <= data + size);
        assert(safetensors_find(f, t->name) == t);
        assert(strlen(safetensors_shape_text(t, text)) < sizeof text);
        float *v = mem_new(t->count, sizeof *v);
        int64_t *n = mem_new(t->count, sizeof *n);
        (void)!safetensors_to_float(t, v, &e);
        (void)!safetensors_to_int64(t, n, &e);
        mem_free(v);
        mem_free(n);
    }
    safetensors_close(f);
    return 0;
}
