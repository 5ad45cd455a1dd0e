/* JSON from outside: whatever is accepted prints to a text that reads back as the same value. */
#include "base/json.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *v, *again;
    struct err e = {0};
    if (json_parse(&v, (const char *)data, size, 1 << 16, &e) < 0) {
        if (e.text[0] == 0 || v != NULL)
            abort();
        return 0;
    }
    for (int style = JSON_LINE; style <= JSON_INDENTED; style++) {
        size_t bytes;
        char *text = json_print(v, (enum json_style)style, &bytes);
        if (json_parse(&again, text, bytes, SIZE_MAX / 4, &e) < 0)
            abort();
        char *twice = json_print(again, (enum json_style)style, NULL);
        if (strcmp(text, twice) != 0)
            abort();
        json_free(again);
        mem_free(text);
        mem_free(twice);
    }
    json_free(v);
    return 0;
}
