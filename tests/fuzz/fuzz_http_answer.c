/* What a reward service says: metadata, an answer with its JSON length, an error body, a
 * Retry-After header, answers in the other forms.  Input: u8 which, u16 length of the JSON part,
 * then the bytes. */
#include "scorer/form.h"
#include "scorer/oip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const uint8_t *body, size_t bytes, size_t json_bytes)
{
    static const struct oip_model model = {.image_input = "image",
                                           .output = "score",
                                           .component_count = 1,
                                           .components = {"strict"},
                                           .score_min = -100,
                                           .score_max = 100};
    struct backend_score scores[N];
    struct err e;
    if (oip_read_answer(scores, N, &model, "r1", body, bytes, json_bytes, &e) < 0)
        return;
    for (size_t i = 0; i < N; i++)
        if (!isfinite(scores[i].value) || fabs(scores[i].value) > 100.0 ||
            scores[i].component_count != 1 || !isfinite(scores[i].components[0].value))
            abort();
}

/* An answer in the form of these settings: refused, or numbers within the bounds. */
static void check_form(const char *backend, int judge, size_t n, const uint8_t *body, size_t bytes)
{
    struct reward_params p = {.model = "m",
                              .question = "{prompt}",
                              .pattern = "([0-9]+([.][0-9]+)?)",
                              .score_min = -100,
                              .score_max = 100,
                              .judge = judge};
    struct backend_score scores[N];
    struct form form;
    struct err e;
    snprintf(p.backend, sizeof p.backend, "%s", backend);
    if (form_open(&form, &p, &e) < 0)
        abort();
    const struct form_answer a = {body, bytes, bytes};
    if (form.read(form.self, scores, n, "r1", &a, &e) == 0)
        for (size_t i = 0; i < n; i++)
            if (!isfinite(scores[i].value) || fabs(scores[i].value) > 100.0 ||
                scores[i].component_count != 0)
                abort();
    form_close(&form);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct reward_params p;
    struct oip_model m;
    struct err e;
    char text[120];
    if (size < 3)
        return 0;
    const size_t json_bytes = data[1] | (size_t)data[2] << 8;
    const uint8_t *body = data + 3;
    const size_t bytes = size - 3;
    if (data[0] % 16 == 13) {
        check_form("latents", 0, N, body, bytes);
    } else if (data[0] % 8 == 4) {
        check_form("json:flow-factory", 0, N, body, bytes);
    } else if (data[0] % 8 == 5) {
        check_form("json:unirl", 0, N, body, bytes);
    } else if (data[0] % 8 == 6) {
        check_form("openai-chat", 0, 1, body, bytes);
    } else if (data[0] % 8 == 7) {
        check_form("openai-chat", 1, 1, body, bytes);
    } else if (data[0] % 4 == 0) {
        if (oip_read_metadata(&m, body, bytes, &p, &e) == 0 &&
            (m.image_input[0] == 0 || m.output[0] == 0))
            abort();
    } else if (data[0] % 4 == 1) {
        oip_read_error(text, sizeof text, body, bytes);
    } else if (data[0] % 4 == 2) {
        snprintf(text, sizeof text, "%.*s", (int)(bytes < 100 ? bytes : 100), (const char *)body);
        if (oip_retry_after_s(text, 784111777, 60) > 60)
            abort();
    } else {
        check_answer(body, bytes, json_bytes == 0 ? bytes : json_bytes);
    }
    return 0;
}
