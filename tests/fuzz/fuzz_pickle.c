/* A pickle of a reward service: refused, or data that prints as JSON. */
#include "base/mem.h"
#include "scorer/pickle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *doc;
    struct err e = {0};
    if (pickle_read(&doc, data, size, &e) < 0) {
        if (doc != NULL || e.text[0] == 0)
            abort();
        return 0;
    }
    char *text = json_print(doc, JSON_LINE, NULL);
    if (text == NULL)
        abort();
    mem_free(text);
    json_free(doc);
    return 0;
}
