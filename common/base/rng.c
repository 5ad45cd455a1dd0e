#include "base/rng.h"

#include "base/simd.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define ROUNDS 10
#define MULTIPLIER_0 0xD2511F53U
#define MULTIPLIER_1 0xCD9E8D57U
#define WEYL_0 0x9E3779B9U
#define WEYL_1 0xBB67AE85U

/* Bit 31 of the first counter word tells the two sequences of an address apart. */
#define NORMALS 0x80000000U
#define ELEMENTS_MAX (UINT64_C(1) << 33)

void rng_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0;
        const uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static struct rng from_words(uint64_t seed, const uint32_t stream[4], uint32_t step)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t derived[4];
    rng_philox4x32(stream, key, derived);
    return (struct rng){.key = {derived[0], derived[1]}, .tail = {derived[2], derived[3]}, .step = step};
}

struct rng rng_stream(uint64_t seed, uint64_t stream, uint32_t step)
{
    const uint32_t words[4] = {(uint32_t)stream, (uint32_t)(stream >> 32), 0, 0};
    return from_words(seed, words, step);
}

struct rng rng_stream_id(uint64_t seed, const uint8_t id[RNG_ID_BYTES], uint32_t step)
{
    uint32_t words[4];
    for (int i = 0; i < 4; i++)
        words[i] = (uint32_t)id[4 * i] | (uint32_t)id[4 * i + 1] << 8 | (uint32_t)id[4 * i + 2] << 16 |
                   (uint32_t)id[4 * i + 3] << 24;
    return from_words(seed, words, step);
}

/* ---- words -------------------------------------------------------------------------------------- */

uint32_t rng_u32_at(const struct rng *g, uint64_t element)
{
    assert(element < ELEMENTS_MAX);
    const uint32_t counter[4] = {(uint32_t)(element / 4), g->step, g->tail[0], g->tail[1]};
    uint32_t words[4];
    rng_philox4x32(counter, g->key, words);
    return words[element % 4];
}

uint32_t rng_u32(struct rng *g)
{
    return rng_u32_at(g, g->next++);
}

uint64_t rng_u64(struct rng *g)
{
    const uint64_t low = rng_u32(g);
    return low | (uint64_t)rng_u32(g) << 32;
}

double rng_uniform(struct rng *g)
{
    return (double)(rng_u64(g) >> 11) * 0x1p-53;
}

/* The high and low halves of a * b. */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low)
{
    __extension__ typedef unsigned __int128 wide;
    const wide product = (wide)a * b;
    *low = (uint64_t)product;
    return (uint64_t)(product >> 64);
}

uint64_t rng_below(struct rng *g, uint64_t n)
{
    assert(n >= 1);
    uint64_t low;
    uint64_t high = multiply(rng_u64(g), n, &low);
    if (low < n) {
        const uint64_t unfair = (0 - n) % n; /* 2^64 mod n */
        while (low < unfair)
            high = multiply(rng_u64(g), n, &low);
    }
    return high;
}

void rng_permutation(struct rng *g, uint32_t *p, size_t n)
{
    assert(n <= UINT32_MAX);
    for (size_t i = 0; i < n; i++) {
        const size_t j = (size_t)rng_below(g, i + 1);
        p[i] = p[j];
        p[j] = (uint32_t)i;
    }
}

/* ---- normals ------------------------------------------------------------------------------------ */

/* Counters done together: enough to fill the widest registers, small enough for the first cache. */
#define BATCH 64

/* ln u for a normal u in (0, 1]: u = m 2^k with m in [sqrt(1/2), sqrt 2), then Cephes' logf. */
static inline float log_of(float u)
{
    int32_t bits;
    memcpy(&bits, &u, 4);
    const int32_t shifted = bits - 0x3f3504f3; /* sqrt(1/2) */
    const int32_t k = shifted >> 23;
    const int32_t mantissa = bits - (int32_t)((uint32_t)k << 23);
    float m;
    memcpy(&m, &mantissa, 4);
    const float x = m - 1.0f;
    const float z = x * x;
    float p = 7.0376836292e-2f;
    p = p * x - 1.1514610310e-1f;
    p = p * x + 1.1676998740e-1f;
    p = p * x - 1.2420140846e-1f;
    p = p * x + 1.4249322787e-1f;
    p = p * x - 1.6668057665e-1f;
    p = p * x + 2.0000714765e-1f;
    p = p * x - 2.4999993993e-1f;
    p = p * x + 3.3333331174e-1f;
    const float kf = (float)k;
    float y = p * x * z;
    y += -2.12194440e-4f * kf;
    y -= 0.5f * z;
    return x + y + 0.693359375f * kf;
}

/* cos and sin of 2 pi v for v in [0, 1): the nearest quarter turn is taken off exactly. */
static inline void circle_of(float v, float *cosine, float *sine)
{
    const int32_t quarter = (int32_t)(v * 4.0f + 0.5f);
    const float a = (v - 0.25f * (float)quarter) * 6.28318530718f; /* in [-pi/4, pi/4] */
    const float z = a * a;
    const float s = a + a * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
    const float c = 1.0f - 0.5f * z +
                    z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
    const float u = (quarter & 1) != 0 ? s : c;
    const float w = (quarter & 1) != 0 ? c : s;
    *cosine = ((quarter + 1) & 2) != 0 ? -u : u;
    *sine = (quarter & 2) != 0 ? -w : w;
}

/* The BATCH counters from `block` on: 4 * BATCH normals, element 4 b + lane at z[4 b + lane]. */
SIMD_CLONES
static void normals(const struct rng *g, uint32_t block, float z[4 * BATCH])
{
    uint32_t c0[BATCH], c1[BATCH], c2[BATCH], c3[BATCH];
    for (uint32_t i = 0; i < BATCH; i++) {
        c0[i] = (block + i) | NORMALS;
        c1[i] = g->step;
        c2[i] = g->tail[0];
        c3[i] = g->tail[1];
    }
    uint32_t k0 = g->key[0], k1 = g->key[1];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BATCH; i++) {
            const uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0[i];
            const uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    float z0[BATCH], z1[BATCH], z2[BATCH], z3[BATCH];
    for (int i = 0; i < BATCH; i++) {
        /* The radius wants the bits near 0 (all 32 of them, never 0); the angle wants even steps. */
        const float u0 = (float)(int32_t)(c0[i] >> 1) * 0x1p-31f + 0x1p-32f;
        const float u1 = (float)(int32_t)(c2[i] >> 1) * 0x1p-31f + 0x1p-32f;
        const float v0 = (float)(int32_t)(c1[i] >> 8) * 0x1p-24f;
        const float v1 = (float)(int32_t)(c3[i] >> 8) * 0x1p-24f;
        const float r0 = sqrtf(-2.0f * log_of(u0));
        const float r1 = sqrtf(-2.0f * log_of(u1));
        float cosine, sine;
        circle_of(v0, &cosine, &sine);
        z0[i] = r0 * cosine;
        z1[i] = r0 * sine;
        circle_of(v1, &cosine, &sine);
        z2[i] = r1 * cosine;
        z3[i] = r1 * sine;
    }
    for (int i = 0; i < BATCH; i++) {
        z[4 * i] = z0[i];
        z[4 * i + 1] = z1[i];
        z[4 * i + 2] = z2[i];
        z[4 * i + 3] = z3[i];
    }
}

float rng_normal_at(const struct rng *g, uint64_t element)
{
    float z;
    rng_normal_fill(g, element, &z, 1);
    return z;
}

void rng_normal_fill(const struct rng *g, uint64_t first, float *out, size_t n)
{
    assert(n <= ELEMENTS_MAX && first <= ELEMENTS_MAX - n);
    float z[4 * BATCH];
    while (n > 0) {
        const uint64_t skip = first % (4 * BATCH);
        const size_t take = n < 4 * BATCH - skip ? n : (size_t)(4 * BATCH - skip);
        const uint32_t block = (uint32_t)((first - skip) / 4);
        if (take == 4 * BATCH) {
            normals(g, block, out);
        } else {
            normals(g, block, z);
            memcpy(out, z + skip, take * sizeof *z);
        }
        out += take;
        first += take;
        n -= take;
    }
}
