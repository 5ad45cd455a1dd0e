/* The adapter interface: images with their prompts in, typed outcomes out.  A backend is one way to
 * a reward; the scorer knows nothing of HTTP or of pictures beyond this header.
 *
 * A batch is submitted and completes exactly once, later, with a score for every item or with one
 * failure for all: an answer that cannot be trusted whole is not trusted in part, and nothing is
 * ever scored by default.  Items and what they point to are read during the submission alone.
 * Thread rule: the thread of the loop. */
#ifndef DAGLINE_SCORER_BACKEND_H
#define DAGLINE_SCORER_BACKEND_H

#include "base/err.h"
#include "base/hash.h"
#include "replay/replay.h"
#include "rewards/clip_reward.h"
#include "rollout/trajectory.h"
#include "scorer/endpoint.h"
#include "scorer/params.h"
#include "wire/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BACKEND_BUILTIN_PREFIX "builtin:" /* of reward.backend: no service, rewards of our own */
#define BACKEND_BATCH_MAX 1024
#define BACKEND_ENDPOINTS_MAX 16 /* of one reward */
#define BACKEND_REASON_BYTES_MAX 200
#define BACKEND_COMPONENTS_MAX (TRAJECTORY_COMPONENTS_MAX - 1) /* one place is the raw score's */

struct backend_item {
    const uint8_t *rgb; /* [height,width,3]; NULL where a latent is to be scored */
    uint32_t height, width;
    const char *prompt, *metadata; /* UTF-8; metadata is a JSON object or "" */
    const char *tag;               /* of the prompt, or "" */
    const void *latent; /* float32 [latent_height,latent_width,latent_channels], clean, as the UNet sees it; or NULL */
    uint32_t latent_height, latent_width, latent_channels;
};

struct backend_score {
    double value; /* finite */
    uint32_t component_count;
    struct trajectory_component components[BACKEND_COMPONENTS_MAX]; /* finite */
};

enum backend_failure {
    BACKEND_OK,
    BACKEND_TRANSPORT, /* no connection, cut answer; tries exhausted */
    BACKEND_TIMEOUT,   /* no answer in time; tries exhausted */
    BACKEND_BUSY,      /* 408, 425, 429, 503; tries exhausted */
    BACKEND_SERVER,    /* other 5xx; tries exhausted */
    BACKEND_REFUSED,   /* 4xx */
    BACKEND_REDIRECT,  /* 3xx: never followed */
    BACKEND_TOO_LARGE, /* answer beyond the limit */
    BACKEND_ANSWER,    /* 200, and not an answer to this question */
    BACKEND_INPUT,     /* this backend cannot score such an item */
    BACKEND_FAILURES
};
/* "transport", "timeout" ...; never NULL. */
const char *backend_failure_name(enum backend_failure f);

struct backend_result {
    uint64_t batch;
    enum backend_failure failure;
    bool unreached;                        /* TRANSPORT without a connection */
    char reason[BACKEND_REASON_BYTES_MAX]; /* one line; "" where OK */
    const struct backend_score *scores;    /* [count] where OK; valid during the call */
    size_t count;
    double seconds; /* of the service's last answer; 0 where there was none */
};

struct backend_counters {
    uint64_t calls, retries, hedges, cache_hits /* items */, failures[BACKEND_FAILURES];
};

/* One endpoint of a service, for those who watch. */
struct backend_endpoint {
    const char *reward; /* NAME of rewards.NAME, or "" */
    size_t index;       /* in reward.url */
    const struct endpoint *health;
};

/* Filled by the backend's open function. */
struct backend {
    void *self;
    /* BACKEND_INPUT-like errors come back as ERR_INVALID at once; nothing is completed then. */
    int (*submit)(void *self, uint64_t batch, const struct backend_item *items, size_t n,
                  struct err *e);
    /* Batches that may be submitted now; 0 while the service is not known yet or is being spared.
     */
    size_t (*room)(void *self);
    bool takes_latents; /* items have no pictures: run.decode is off */
    bool computes;      /* some of it is computed here, and has no endpoint */
    size_t items_max;   /* of one batch */
    size_t batches_max; /* at once */
    bool (*ready)(void *self);
    /* Why it is not ready yet, in one line; "" where that is not known.  NULL: it always is. */
    const char *(*waiting)(void *self);
    uint64_t (*bytes_bound)(void *self, size_t image_bytes);
    void (*counters)(void *self, struct backend_counters *out);
    /* Writes at most `max`, returns how many; the health lives as long as the backend.  NULL: it
     * has none. */
    size_t (*endpoints)(void *self, struct backend_endpoint *out, size_t max);
    void (*close)(void *self);
};

/* What a backend works with; borrowed. */
struct backend_context {
    struct loop *loop;
    struct replay *replay; /* for the cache; NULL: none */
};

/* What is asked about the item (size, pixels, prompt, metadata), into a hash under way. */
void backend_hash_item(struct hash_sha256 *h, const struct backend_item *item);

/* True for a finite score within [min, max]; else the result becomes a BACKEND_ANSWER that says so. */
bool backend_bound_score(struct backend_result *r, double score, double min, double max);

typedef void backend_done(void *arg, const struct backend_result *result);

/* `done` is called for each completion, from the loop or from within submit. */
int backend_open_builtin(struct backend *out, const struct reward_params *p, backend_done *done,
                         void *arg, struct err *e) MUST_USE;
enum backend_combination { COMBINE_SUM, COMBINE_PRODUCT, COMBINE_MIN }; /* scorer.combine */
/* The section `rewards`: struct reward_params items, borrowed. */
int backend_open_combined(struct backend *out, const struct config_copies *rewards,
                          enum backend_combination how, const struct backend_context *context,
                          backend_done *done, void *arg, struct err *e) MUST_USE;
int backend_open_http(struct backend *out, const struct reward_params *p, struct loop *loop,
                      backend_done *done, void *arg, struct err *e) MUST_USE;
/* The service behind a cache in context->replay, of reward.cache scores. */
int backend_open_cached(struct backend *out, const struct reward_params *p,
                        const struct backend_context *context, backend_done *done, void *arg,
                        struct err *e) MUST_USE;
/* A CLIP model of reward.clip: builtin:aesthetic, builtin:clipscore, builtin:pickscore, builtin:hpsv2. */
int backend_open_clip(struct backend *out, const struct reward_params *p,
                      const struct backend_context *context, backend_done *done, void *arg,
                      struct err *e) MUST_USE;
/* The rules that these hold their settings to, without a connection to anywhere: what they would refuse. */
int backend_check_http(const struct reward_params *p, struct err *e) MUST_USE;
int backend_check_clip(const struct reward_params *p, struct err *e) MUST_USE;
int backend_check_combined(const struct config_copies *rewards, enum backend_combination how, struct err *e) MUST_USE;
int backend_check(const struct reward_params *p, struct err *e) MUST_USE;
/* Whether reward.backend names one of those. */
bool backend_is_clip(const char *backend, enum clip_reward_kind *kind);
/* The one of these that the settings name; nothing is cached where there is no replay. */
int backend_open(struct backend *out, const struct reward_params *p,
                 const struct backend_context *context, backend_done *done, void *arg,
                 struct err *e) MUST_USE;

#endif
