#include "replay/replay_codec.h"

#include "base/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the stored form is written as it lies in memory");

static const char magic[4] = {'D', 'G', 'R', '1'};

/* ---- a bounded writer: counts where `at` is NULL, so that one walk gives the size and one the
 * bytes ---- */

struct writer {
    uint8_t *at;
    size_t bytes;
};

static void put(struct writer *w, const void *data, size_t bytes)
{
    if (w->at != NULL && bytes > 0)
        memcpy(w->at + w->bytes, data, bytes);
    w->bytes += bytes;
}

static void put_u8(struct writer *w, uint8_t v)
{
    put(w, &v, sizeof v);
}

static void put_u32(struct writer *w, uint32_t v)
{
    put(w, &v, sizeof v);
}

static void put_u64(struct writer *w, uint64_t v)
{
    put(w, &v, sizeof v);
}

static void put_f64(struct writer *w, double v)
{
    put(w, &v, sizeof v);
}

static void put_text(struct writer *w, const char *text)
{
    const size_t n = strlen(text);
    put_u32(w, (uint32_t)n);
    put(w, text, n);
}

static size_t latent_bytes(const struct trajectory *t)
{
    return trajectory_latent_elements(t) * sizeof(float);
}

size_t replay_latents_bytes(const struct trajectory *t)
{
    return t->state_count * latent_bytes(t);
}

/* What the sampler made. */
static void put_identity(struct writer *w, const struct trajectory *t)
{
    put(w, magic, sizeof magic);
    put(w, t->id, sizeof t->id);
    put_u32(w, t->slot);
    put_u64(w, t->counter);
    put_u32(w, t->prompt_index);
    put_text(w, t->prompt);
    put_text(w, t->metadata == NULL ? "" : t->metadata);
    put_text(w, t->tag);
    put_u64(w, t->policy_version);
    put(w, t->policy_digest, sizeof t->policy_digest);
    put(w, t->schedule_digest, sizeof t->schedule_digest);
    put_f64(w, t->guidance);
    put_u32(w, t->latent_channels);
    put_u32(w, t->latent_height);
    put_u32(w, t->latent_width);
    put_u32(w, t->image_height);
    put_u32(w, t->image_width);
    put_u32(w, t->state_count);
    const uint8_t *latent = (const uint8_t *)t->latents;
    for (uint32_t i = 0; i < t->state_count; i++) {
        const struct trajectory_state *s = &t->states[i];
        put_u32(w, s->step);
        put_u32(w, s->timestep);
        put_u8(w, (uint8_t)(s->has_image | s->terminal << 1));
        /* Not while counting: the walk over the latents is made once. */
        put_u32(w,
                w->at == NULL ? 0 : hash_crc32c(0, latent + i * latent_bytes(t), latent_bytes(t)));
    }
    put_u32(w, t->transition_count);
    for (uint32_t i = 0; i < t->transition_count; i++) {
        const struct trajectory_transition *x = &t->transitions[i];
        put_u32(w, x->step);
        put_u32(w, x->from);
        put_u32(w, x->to);
        put_f64(w, x->log_prob);
    }
}

/* What the scorer added. */
static void put_scores(struct writer *w, const struct trajectory *t)
{
    for (uint32_t i = 0; i < t->state_count; i++)
        put_f64(w, t->states[i].reward);
    put_f64(w, t->reward);
    put_u32(w, t->component_count);
    for (uint32_t i = 0; i < t->component_count; i++) {
        put_text(w, t->components[i].name);
        put_f64(w, t->components[i].value);
    }
    put_u32(w, (uint32_t)t->thumbnail_bytes);
    put(w, t->thumbnail, t->thumbnail_bytes);
}

int replay_encode(const struct trajectory *t, uint8_t **out, size_t *bytes, uint32_t *identity,
                  struct err *e)
{
    if (t->thumbnail_bytes > REPLAY_THUMBNAIL_BYTES_MAX)
        return err_set(e, ERR_INVALID, "thumbnail of %zu bytes, at most %u are stored",
                       t->thumbnail_bytes, REPLAY_THUMBNAIL_BYTES_MAX);
    if (replay_latents_bytes(t) > REPLAY_LATENTS_BYTES_MAX)
        return err_set(e, ERR_INVALID, "latents of %zu bytes, at most %u are stored",
                       replay_latents_bytes(t), REPLAY_LATENTS_BYTES_MAX);
    struct writer size = {0};
    put_identity(&size, t);
    put_scores(&size, t);
    struct writer w = {.at = mem_new(size.bytes + sizeof(uint32_t), 1)};
    put_identity(&w, t);
    *identity = hash_crc32c(0, w.at, w.bytes);
    put_scores(&w, t);
    assert(w.bytes == size.bytes);
    put_u32(&w, hash_crc32c(0, w.at, w.bytes));
    *out = w.at;
    *bytes = w.bytes;
    return 0;
}

/* ---- a bounded reader: the first short read empties it and every later one gives zeros ---- */

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static void get(struct reader *r, void *out, size_t bytes)
{
    if (r->bad || r->left < bytes) {
        r->bad = true;
        memset(out, 0, bytes);
        return;
    }
    memcpy(out, r->at, bytes);
    r->at += bytes;
    r->left -= bytes;
}

static uint8_t get_u8(struct reader *r)
{
    uint8_t v;
    get(r, &v, sizeof v);
    return v;
}

static uint32_t get_u32(struct reader *r)
{
    uint32_t v;
    get(r, &v, sizeof v);
    return v;
}

static uint64_t get_u64(struct reader *r)
{
    uint64_t v;
    get(r, &v, sizeof v);
    return v;
}

static double get_f64(struct reader *r)
{
    double v;
    get(r, &v, sizeof v);
    return v;
}

/* A count or length; beyond its maximum the whole form is refused before anything is allocated. */
static uint32_t get_count(struct reader *r, uint32_t max)
{
    const uint32_t n = get_u32(r);
    if (n <= max)
        return n;
    r->bad = true;
    return 0;
}

/* A string into out[max + 1]; one with a NUL inside is refused, it would come back shorter. */
static void get_text(struct reader *r, char *out, uint32_t max)
{
    const uint32_t n = get_count(r, max);
    get(r, out, n);
    out[r->bad ? 0 : n] = 0;
    if (strlen(out) != n)
        r->bad = true;
}

static char *get_text_new(struct reader *r, uint32_t max)
{
    char *out = mem_new(max + (size_t)1, 1);
    get_text(r, out, max);
    char *exact = mem_strdup(out);
    mem_free(out);
    return exact;
}

static void get_identity(struct reader *r, struct trajectory *t, uint32_t *crc)
{
    get(r, t->id, sizeof t->id);
    t->slot = get_u32(r);
    t->counter = get_u64(r);
    t->prompt_index = get_u32(r);
    mem_free(t->prompt);
    t->prompt = get_text_new(r, TRAJECTORY_PROMPT_BYTES_MAX);
    mem_free(t->metadata);
    t->metadata = get_text_new(r, TRAJECTORY_METADATA_BYTES_MAX);
    get_text(r, t->tag, TRAJECTORY_TAG_BYTES_MAX - 1);
    t->policy_version = get_u64(r);
    get(r, t->policy_digest, sizeof t->policy_digest);
    get(r, t->schedule_digest, sizeof t->schedule_digest);
    t->guidance = get_f64(r);
    t->latent_channels = get_u32(r);
    t->latent_height = get_u32(r);
    t->latent_width = get_u32(r);
    t->image_height = get_u32(r);
    t->image_width = get_u32(r);
    t->state_count = get_count(r, TRAJECTORY_STATES_MAX);
    t->states = mem_new(t->state_count, sizeof *t->states);
    for (uint32_t i = 0; i < t->state_count; i++) {
        struct trajectory_state *s = &t->states[i];
        s->step = get_u32(r);
        s->timestep = get_u32(r);
        const uint8_t flags = get_u8(r);
        if (flags > 3)
            r->bad = true;
        s->has_image = (flags & 1) != 0;
        s->terminal = (flags & 2) != 0;
        crc[i] = get_u32(r);
    }
    t->transition_count = get_count(r, TRAJECTORY_STATES_MAX);
    t->transitions = mem_new(t->transition_count, sizeof *t->transitions);
    for (uint32_t i = 0; i < t->transition_count; i++) {
        struct trajectory_transition *x = &t->transitions[i];
        x->step = get_u32(r);
        x->from = get_u32(r);
        x->to = get_u32(r);
        x->log_prob = get_f64(r);
    }
}

static void get_scores(struct reader *r, struct trajectory *t)
{
    for (uint32_t i = 0; i < t->state_count; i++)
        t->states[i].reward = get_f64(r);
    t->reward = get_f64(r);
    t->component_count = get_count(r, TRAJECTORY_COMPONENTS_MAX);
    for (uint32_t i = 0; i < t->component_count; i++) {
        get_text(r, t->components[i].name, TRAJECTORY_NAME_BYTES_MAX - 1);
        t->components[i].value = get_f64(r);
    }
    t->thumbnail_bytes = get_count(r, REPLAY_THUMBNAIL_BYTES_MAX);
    if (t->thumbnail_bytes > r->left) {
        r->bad = true;
        t->thumbnail_bytes = 0;
    }
    if (t->thumbnail_bytes > 0) {
        t->thumbnail = mem_new(t->thumbnail_bytes, 1);
        get(r, t->thumbnail, t->thumbnail_bytes);
    }
}

/* H*W*C * 4 * states == bytes, without a product that could wrap. */
static bool latents_fit(const struct trajectory *t, size_t bytes)
{
    size_t n = sizeof(float);
    return mem_mul(n, t->latent_channels, &n) == 0 && mem_mul(n, t->latent_height, &n) == 0 &&
           mem_mul(n, t->latent_width, &n) == 0 && mem_mul(n, t->state_count, &n) == 0 &&
           n == bytes && n > 0;
}

static int get_latents(struct trajectory *t, const uint8_t *latents, size_t bytes,
                       const uint32_t *crc, struct err *e)
{
    if (!latents_fit(t, bytes))
        return err_set(e, ERR_INVALID,
                       "stored latents are %zu bytes, the header asks for %u x [%u,%u,%u]", bytes,
                       t->state_count, t->latent_height, t->latent_width, t->latent_channels);
    const size_t one = bytes / t->state_count;
    for (uint32_t i = 0; i < t->state_count; i++)
        if (hash_crc32c(0, latents + i * one, one) != crc[i])
            return err_set(e, ERR_INVALID, "stored latent of state %u has another checksum", i);
    t->latents = mem_slab(bytes, "latents", e);
    if (t->latents == NULL)
        return -1;
    memcpy(t->latents, latents, bytes);
    return 0;
}

int replay_decode(const uint8_t *meta, size_t meta_bytes, const uint8_t *latents,
                  size_t latents_bytes, struct trajectory **out, struct err *e)
{
    uint32_t crc[TRAJECTORY_STATES_MAX] = {0}, sum;
    if (meta_bytes > REPLAY_META_BYTES_MAX || meta_bytes < sizeof magic + sizeof sum ||
        memcmp(meta, magic, sizeof magic) != 0)
        return err_set(e, ERR_INVALID, "stored trajectory does not begin with DGR1");
    memcpy(&sum, meta + meta_bytes - sizeof sum, sizeof sum);
    if (hash_crc32c(0, meta, meta_bytes - sizeof sum) != sum)
        return err_set(e, ERR_INVALID, "stored trajectory has another checksum");
    struct reader r = {.at = meta + sizeof magic, .left = meta_bytes - sizeof magic - sizeof sum};
    struct trajectory *t = trajectory_new();
    get_identity(&r, t, crc);
    get_scores(&r, t);
    if (r.bad || r.left != 0) {
        err_set(e, ERR_INVALID, "stored trajectory is cut, too long or out of bounds");
        goto fail;
    }
    if (get_latents(t, latents, latents_bytes, crc, e) < 0 || trajectory_check(t, true, e) < 0)
        goto fail;
    *out = t;
    return 0;
fail:
    trajectory_free(t);
    return err_wrap(e, "replay");
}
