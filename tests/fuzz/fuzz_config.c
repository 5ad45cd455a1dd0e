/* A settings file: whatever is accepted prints as a file that is accepted and prints the same; whatever
 * is refused is refused in one line. */
#include "base/config.h"
#include "base/config_yaml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAIN_PARAMS(P, S)                                                                          \
    P(S, integer, i, "1", "-5", "100", "", "an integer")                                           \
    P(S, real, r, "0.5", "", "", "", "a number")                                                   \
    P(S, flag, f, "no", "", "", "", "a flag")                                                      \
    P(S, choice, c, "a", "a|b|cc", "", "", "a choice")                                             \
    P(S, text, t, "", "", "", "", "a text")                                                        \
    P(S, size, s, "1KiB", "", "1TiB", "", "a size")                                                \
    P(S, duration, d, "1s", "", "", "", "a duration")
CONFIG_STRUCT(main_params, MAIN_PARAMS);
CONFIG_TABLE(fuzz_main_table, "main", "one section", main_params, MAIN_PARAMS);

#define COPY_PARAMS(P, S) P(S, text, url, "", "", "", "", "a text")
CONFIG_STRUCT(copy_params, COPY_PARAMS);
CONFIG_TABLE_REPEATED(fuzz_copy_table, "copy", "a repeated section", copy_params, COPY_PARAMS);

static int put(void *arg, const char *key, const char *value, int line, struct err *e)
{
    (void)line;
    return config_put(arg, key, value, "fuzz", e);
}

/* The printed settings of a file, or false where it is refused. */
static bool load(const char *text, size_t bytes, struct buf *printed)
{
    static const char *const foreign[] = {"other", NULL};
    static const struct config_app app = {.name = "fuzz", .about = "fuzz", .foreign = foreign};
    struct main_params m;
    struct copy_params items[CONFIG_COPIES_MAX];
    struct config_copies copies = {.items = items};
    const struct config_binding bindings[] = {{&fuzz_main_table, &m}, {&fuzz_copy_table, &copies}};
    struct config *c = config_new(&app, bindings, 2);
    struct err e = {0};
    const bool accepted = config_yaml_read(text, bytes, "file", put, c, &e) == 0;
    if (accepted) {
        config_print(c, printed);
        struct buf given;
        buf_init(&given, 1 << 20);
        config_print_given(c, &given);
        buf_done(&given);
    } else if (e.text[0] == 0 || strchr(e.text, '\n') != NULL) {
        abort();
    }
    config_free(c);
    return accepted;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf first, second;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    if (size <= CONFIG_FILE_BYTES_MAX && load((const char *)data, size, &first)) {
        if (first.overflowed || !load(first.data, first.bytes, &second))
            abort();
        /* Origins differ (default, fuzz); the values must not. */
        for (const char *a = buf_text(&first), *b = buf_text(&second); *a != 0 || *b != 0;) {
            const size_t n = strcspn(a, "#\n"), k = strcspn(b, "#\n");
            if (n != k || memcmp(a, b, n) != 0)
                abort();
            a += strcspn(a, "\n");
            b += strcspn(b, "\n");
            a += *a == '\n';
            b += *b == '\n';
        }
    }
    buf_done(&first);
    buf_done(&second);
    return 0;
}
