/* Rewards of a CLIP model that the user supplies (rewards/clip_reward.h), computed here.  A batch takes seconds, so a
 * thread of its own computes it while the loop goes on; one batch at a time. */
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "rewards/clip_reward.h"
#include "scorer/backend.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ITEMS_MAX 32 /* of one batch: a drain waits for no more than these */

enum hand { HAND_FREE, HAND_GIVEN, HAND_DONE, HAND_QUIT };

struct clip_backend {
    struct clip_reward *reward;
    struct loop *loop;
    backend_done *done;
    void *arg;
    double score_min, score_max;
    struct backend_counters counters;

    pthread_t thread;
    bool started;
    int event; /* told by the thread that a batch is done; -1: none */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum hand hand; /* whose the rest is: free and done the loop's, given the thread's; guarded by the lock */
    uint64_t batch;
    size_t n;
    uint8_t *copy; /* owned: pixels, then the prompt, of each item; NULL: none is under way */
    struct image pictures[ITEMS_MAX];
    const char *prompts[ITEMS_MAX];
    double values[ITEMS_MAX], seconds;
    int rc;
    struct err error;
};

static void *work(void *arg)
{
    struct clip_backend *b = arg;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (b->hand != HAND_GIVEN && b->hand != HAND_QUIT)
            pthread_cond_wait(&b->changed, &b->lock);
        if (b->hand == HAND_QUIT)
            break;
        pthread_mutex_unlock(&b->lock);
        const double from = clock_mono_s(NULL);
        b->rc = clip_reward_of(b->reward, b->pictures, b->prompts, b->n, b->values, &b->error);
        b->seconds = clock_mono_s(NULL) - from;
        pthread_mutex_lock(&b->lock);
        if (b->hand == HAND_GIVEN)
            b->hand = HAND_DONE;
        const uint64_t one = 1;
        if (write(b->event, &one, sizeof one) != sizeof one)
            assert(errno == EAGAIN); /* it is told already */
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static enum hand hand_of(struct clip_backend *b)
{
    pthread_mutex_lock(&b->lock);
    const enum hand hand = b->hand;
    pthread_mutex_unlock(&b->lock);
    return hand;
}

static void hand_over(struct clip_backend *b, enum hand hand)
{
    pthread_mutex_lock(&b->lock);
    b->hand = hand;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static int on_event(void *arg, int fd, int events, struct err *e)
{
    struct clip_backend *b = arg;
    struct backend_score scores[ITEMS_MAX] = {0};
    uint64_t told;
    (void)events;
    (void)e;
    if (read(fd, &told, sizeof told) != sizeof told || hand_of(b) != HAND_DONE)
        return 0;
    struct backend_result r = {.batch = b->batch, .scores = scores, .count = b->n, .seconds = b->seconds};
    if (b->rc < 0) {
        r.failure = BACKEND_INPUT;
        snprintf(r.reason, sizeof r.reason, "%.180s", b->error.text);
    }
    for (size_t i = 0; r.failure == BACKEND_OK && i < b->n; i++) {
        scores[i].value = b->values[i];
        backend_bound_score(&r, b->values[i], b->score_min, b->score_max);
    }
    b->counters.failures[r.failure]++;
    mem_free(b->copy);
    b->copy = NULL;
    hand_over(b, HAND_FREE);
    b->done(b->arg, &r);
    return 0;
}

static size_t rgb_bytes(const struct backend_item *item)
{
    return (size_t)item->height * item->width * 3;
}

/* The thread outlives the caller's items: a trajectory is gone once another batch of it has failed. */
static int clip_submit(void *self, uint64_t batch, const struct backend_item *items, size_t n, struct err *e)
{
    struct clip_backend *b = self;
    size_t bytes = 0;
    (void)e;
    assert(n <= ITEMS_MAX && hand_of(b) == HAND_FREE);
    for (size_t i = 0; i < n; i++)
        bytes += rgb_bytes(&items[i]) + strlen(items[i].prompt) + 1;
    uint8_t *at = b->copy = mem_new(bytes, 1);
    for (size_t i = 0; i < n; i++) {
        const size_t pixels = rgb_bytes(&items[i]), prompt = strlen(items[i].prompt) + 1;
        b->pictures[i] = (struct image){.width = (int)items[i].width, .height = (int)items[i].height, .rgb = at};
        b->prompts[i] = (const char *)at + pixels;
        memcpy(at, items[i].rgb, pixels);
        memcpy(at + pixels, items[i].prompt, prompt);
        at += pixels + prompt;
    }
    b->batch = batch;
    b->n = n;
    b->counters.calls++;
    hand_over(b, HAND_GIVEN);
    return 0;
}

static size_t clip_room(void *self)
{
    return hand_of(self) == HAND_FREE;
}

static bool clip_ready(void *self)
{
    (void)self;
    return true;
}

static uint64_t clip_bytes(void *self, size_t image_bytes)
{
    const struct clip_backend *b = self;
    return sizeof *b + clip_reward_bytes(b->reward) + ITEMS_MAX * ((uint64_t)image_bytes + TRAJECTORY_PROMPT_BYTES_MAX);
}

static void clip_counters(void *self, struct backend_counters *out)
{
    *out = ((const struct clip_backend *)self)->counters;
}

static void clip_close_backend(void *self)
{
    struct clip_backend *b = self;
    if (b->started) {
        hand_over(b, HAND_QUIT);
        pthread_join(b->thread, NULL);
    }
    if (b->event >= 0) {
        loop_remove_fd(b->loop, b->event);
        close(b->event);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    clip_reward_close(b->reward);
    mem_free(b->copy);
    mem_free(b);
}

bool backend_is_clip(const char *backend, enum clip_reward_kind *kind)
{
    const size_t prefix = strlen(BACKEND_BUILTIN_PREFIX);
    if (strncmp(backend, BACKEND_BUILTIN_PREFIX, prefix) == 0)
        for (int k = 0; k < CLIP_REWARD_KINDS; k++)
            if (strcmp(backend + prefix, clip_reward_names[k]) == 0) {
                *kind = (enum clip_reward_kind)k;
                return true;
            }
    return false;
}

int backend_check_clip(const struct reward_params *p, struct err *e)
{
    char config[FILE_PATH_BYTES_MAX];
    enum clip_reward_kind kind = CLIP_REWARD_AESTHETIC;
    const bool known = backend_is_clip(p->backend, &kind);
    assert(known);
    if (p->clip[0] == 0)
        return err_set(e, ERR_INVALID, "reward.clip is empty: %s needs the folder of a CLIP model", p->backend);
    if (file_join(config, p->clip, "config.json", e) < 0)
        return -1;
    if (!file_exists(config))
        return err_set(e, ERR_NOT_FOUND, "reward.clip: %s is not there; give the folder of a CLIP model in transformers' layout",
                       config);
    if (kind == CLIP_REWARD_AESTHETIC && !file_exists(p->head))
        return err_set(e, ERR_NOT_FOUND, "reward.head: '%s' is not there; %s needs the predictor as safetensors", p->head,
                       p->backend);
    return 0;
}

int backend_open_clip(struct backend *out, const struct reward_params *p, const struct backend_context *context,
                      backend_done *done, void *arg, struct err *e)
{
    struct clip_backend *b = mem_new(1, sizeof *b);
    enum clip_reward_kind kind = CLIP_REWARD_AESTHETIC;
    const bool known = backend_is_clip(p->backend, &kind);
    assert(known);
    b->loop = context->loop;
    b->done = done;
    b->arg = arg;
    b->score_min = p->score_min;
    b->score_max = p->score_max;
    b->event = -1;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    if (backend_check_clip(p, e) < 0)
        goto fail;
    if (clip_reward_open(&b->reward, kind, p->clip, p->head, (int)p->clip_threads, e) < 0) {
        err_wrap(e, "%s", p->backend);
        goto fail;
    }
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0) {
        err_sys(e, errno, "eventfd");
        goto fail;
    }
    if (loop_add_fd(b->loop, event, LOOP_READ, on_event, b, e) < 0) {
        close(event);
        goto fail;
    }
    b->event = event;
    const int failed = pthread_create(&b->thread, NULL, work, b);
    if (failed != 0) {
        err_sys(e, failed, "a thread for %s", p->backend);
        goto fail;
    }
    b->started = true;
    *out = (struct backend){.self = b,
                            .submit = clip_submit,
                            .items_max = ITEMS_MAX,
                            .batches_max = 1,
                            .room = clip_room,
                            .ready = clip_ready,
                            .bytes_bound = clip_bytes,
                            .counters = clip_counters,
                            .close = clip_close_backend};
    return 0;
fail:
    clip_close_backend(b);
    return -1;
}
