/* UNet (outputs, gradients of inputs and of every parameter, adapter), VAE and text encoder against
 * PyTorch and diffusers: tests/golden/tiny-sd. */
#include "dagline/parity.h"
#include "support/suite.h"

#include <string.h>

#define FOLDER "tests/golden/tiny-sd"
#define PARAMETERS 304 /* of the miniature UNet */

struct seen {
    size_t lines;
    bool out, lora, sample, context, text, mean, logvar, decoded;
};

static void claim(void *arg, const struct parity_line *l)
{
    struct seen *const s = arg;
    s->lines++;
    s->out |= strcmp(l->name, "unet.out") == 0;
    s->lora |= strcmp(l->name, "lora.out") == 0;
    s->sample |= strcmp(l->name, "unet.grad.sample") == 0;
    s->context |= strcmp(l->name, "unet.grad.encoder_hidden_states") == 0;
    s->text |= strcmp(l->name, "text.hidden") == 0;
    s->mean |= strcmp(l->name, "vae.mean") == 0;
    s->logvar |= strcmp(l->name, "vae.logvar") == 0;
    s->decoded |= strcmp(l->name, "vae.decoded") == 0;
    ck_assert_msg(l->error <= l->limit, "%s: error %g, limit %g", l->name, l->error, l->limit);
}

static void everything_agrees(bool reference)
{
    struct seen s = {0};
    struct err e;
    ck_assert_msg(parity_run(FOLDER, reference, claim, &s, &e) == 0, "%s", e.text);
    ck_assert(s.out && s.lora && s.sample && s.context && s.text && s.mean && s.logvar &&
              s.decoded);
    ck_assert_uint_eq(s.lines, PARAMETERS + 8);
}

START_TEST(the_reference_path_agrees_with_diffusers)
{
    everything_agrees(true);
}
END_TEST

START_TEST(the_fast_path_agrees_with_diffusers)
{
    everything_agrees(false);
}
END_TEST

SUITE("golden/models", 60, the_reference_path_agrees_with_diffusers,
      the_fast_path_agrees_with_diffusers)
