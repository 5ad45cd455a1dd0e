#include "scorer/backend.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *backend_failure_name(enum backend_failure f)
{
    static const char *const names[BACKEND_FAILURES] = {
        [BACKEND_OK] = "ok",
        [BACKEND_TRANSPORT] = "transport",
        [BACKEND_TIMEOUT] = "timeout",
        [BACKEND_BUSY] = "busy",
        [BACKEND_SERVER] = "server_error",
        [BACKEND_REFUSED] = "refused",
        [BACKEND_REDIRECT] = "redirect",
        [BACKEND_TOO_LARGE] = "too_large",
        [BACKEND_ANSWER] = "bad_answer",
        [BACKEND_INPUT] = "bad_input",
    };
    return (unsigned)f < BACKEND_FAILURES ? names[f] : "unknown";
}

void backend_hash_item(struct hash_sha256 *h, const struct backend_item *item)
{
    const uint32_t size[2] = {item->height, item->width};
    hash_sha256_add(h, size, sizeof size);
    if (item->rgb != NULL)
        hash_sha256_add(h, item->rgb, (size_t)size[0] * size[1] * 3);
    else
        hash_sha256_add(h, item->latent,
                        (size_t)item->latent_height * item->latent_width * item->latent_channels * sizeof(float));
    hash_sha256_add(h, item->prompt, strlen(item->prompt) + 1);
    hash_sha256_add(h, item->metadata, strlen(item->metadata) + 1);
}

bool backend_bound_score(struct backend_result *r, double score, double min, double max)
{
    if (isfinite(score) && score >= min && score <= max)
        return true;
    r->failure = BACKEND_ANSWER;
    snprintf(r->reason, sizeof r->reason, "score %g is outside %g..%g", score, min, max);
    return false;
}

static bool is_builtin(const struct reward_params *p)
{
    return strncmp(p->backend, BACKEND_BUILTIN_PREFIX, strlen(BACKEND_BUILTIN_PREFIX)) == 0;
}

int backend_check(const struct reward_params *p, struct err *e)
{
    enum clip_reward_kind kind;
    struct backend b;
    if (backend_is_clip(p->backend, &kind))
        return backend_check_clip(p, e);
    if (!is_builtin(p))
        return backend_check_http(p, e);
    if (backend_open_builtin(&b, p, NULL, NULL, e) < 0)
        return -1;
    b.close(b.self);
    return 0;
}

int backend_open(struct backend *out, const struct reward_params *p,
                 const struct backend_context *context, backend_done *done, void *arg,
                 struct err *e)
{
    enum clip_reward_kind kind;
    if (backend_is_clip(p->backend, &kind))
        return backend_open_clip(out, p, context, done, arg, e);
    if (is_builtin(p))
        return backend_open_builtin(out, p, done, arg, e);
    if (p->cache > 0 && context->replay != NULL)
        return backend_open_cached(out, p, context, done, arg, e);
    return backend_open_http(out, p, context->loop, done, arg, e);
}
