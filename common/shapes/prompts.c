#include "shapes/prompts.h"

#include <assert.h>
#include <string.h>

#define TRIES_MAX 200000 /* draws for one prompt before the grammar counts as exhausted */

static void finish(struct prompt *p)
{
    caption_write(p->text, &p->spec);
    p->tag = caption_tag(&p->spec);
}

static bool repeated(const struct prompt *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (out[i].tag == out[n].tag && strcmp(out[i].text, out[n].text) == 0)
            return true;
    return false;
}

static enum caption_tag nth_tag(unsigned tags, size_t i)
{
    int count = 0, tag = -1;
    for (int t = 0; t < TAG_COUNT; t++)
        count += (tags >> t & 1) != 0;
    for (size_t left = i % (size_t)count + 1; left > 0; left -= tags >> tag & 1)
        tag++;
    return (enum caption_tag)tag;
}

int prompts_draw(struct prompt *out, size_t n, const struct prompts_options *o, struct err *e)
{
    assert(o->tags != 0 && (o->tags & ~PROMPTS_ALL) == 0 && n <= PROMPTS_MAX);
    struct rng g = rng_stream(o->seed, o->held_out, 0);
    for (size_t i = 0; i < n; i++) {
        const enum caption_tag tag = nth_tag(o->tags, i);
        int tries = 0;
        do {
            if (++tries > TRIES_MAX)
                return err_set(
                    e, ERR_FULL,
                    "only %zu different %sprompts found, no further one with tag %s; ask for fewer",
                    i, o->held_out ? "held-out " : "", caption_tag_names[tag]);
            caption_draw(&out[i].spec, &g);
            out[i].tag = caption_tag(&out[i].spec);
            if (out[i].tag == tag)
                finish(&out[i]);
        } while (out[i].tag != tag || caption_held_out(&out[i].spec) != o->held_out ||
                 repeated(out, i));
    }
    return 0;
}

void prompts_open(struct prompt *out, size_t n)
{
    assert(n <= PROMPTS_OPEN_MAX);
    for (size_t i = 0; i < n; i++) {
        const int form =
            (int)(i / SHAPE_COUNT); /* a S, two Ss, three Ss, four Ss, a small S, a large S */
        const bool counted = form >= 1 && form <= 3;
        out[i].spec = (struct caption_spec){
            .kind = counted ? CAPTION_COUNTED : CAPTION_SINGLE,
            .object = {{(int)(i % SHAPE_COUNT), CAPTION_FREE, form >= 4 ? form - 4 : CAPTION_FREE},
                       {CAPTION_FREE, CAPTION_FREE, CAPTION_FREE}},
            .count = counted ? form + 1 : 1,
            .place = CAPTION_FREE,
            .relation = CAPTION_FREE,
            .background = CAPTION_FREE,
            .texture = CAPTION_FREE,
        };
        finish(&out[i]);
    }
}
