/* Captions as a user types them: whatever is accepted must have a tag, satisfiable scenes, and a
 * text that reads back as the same caption; whatever is refused must say why in one line. */
#include "base/mem.h"
#include "shapes/scene.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void draw_and_hold(const struct caption_spec *spec)
{
    struct rng g = rng_stream(1, 2, 3);
    struct scene s;
    scene_draw(&s, spec, &g);
    if (!caption_holds(spec, &s))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct caption_spec spec, again;
    struct err e = {0};
    char *text = mem_new(size + 1, 1), written[CAPTION_BYTES_MAX];
    if (size > 0)
        memcpy(text, data, size);
    if (caption_parse(&spec, text, &e) == 0) {
        caption_write(written, &spec);
        if (caption_parse(&again, written, &e) < 0 || memcmp(&spec, &again, sizeof spec) != 0)
            abort();
        if ((spec.kind == CAPTION_EMPTY) != (caption_tag(&spec) == TAG_COUNT))
            abort();
        draw_and_hold(&spec);
    } else if (e.text[0] == '\0' || strchr(e.text, '\n') != NULL) {
        abort();
    }
    mem_free(text);
    return 0;
}
