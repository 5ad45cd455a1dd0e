/* A table of prompts: refused, or rows whose fields are text.  Input: the separator's choice, then the text. */
#include "io/csv.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    if (size == 0)
        return 0;
    struct csv c = csv_open((const char *)data + 1, size - 1, data[0] % 2 == 0 ? ',' : '\t');
    size_t bytes = 0;
    int got;
    while ((got = csv_row(&c, &e)) > 0) {
        if (c.count == 0 || c.count > CSV_FIELDS_MAX || c.line == 0)
            abort();
        for (size_t i = 0; i < c.count; i++)
            bytes += strlen(c.field[i]);
    }
    if (bytes > size || (got < 0 && e.text[0] == 0))
        abort();
    csv_close(&c);
    return 0;
}
