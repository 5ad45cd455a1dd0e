/* Random numbers with an address: every number is a function of (seed, stream, step, element), so
 * any step of any trajectory can be drawn again alone, in any order, by any number of threads.
 *
 * The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
 * 1, 2, 3", SC'11).  The 128-bit stream id is first sent through Philox under the seed, which for a
 * fixed seed is a bijection: two streams never share a (key, counter) pair.
 *
 * One address has two separate sequences: 32-bit words, and standard normals.  Drawing from one
 * says nothing about the other.  Elements of a sequence: 0 .. 2^33 - 1.
 *
 * Normals are float, by Box-Muller on pairs, with our own logarithm, sine and cosine: the same bits
 * on every processor and compiler, whatever the instruction set.  |z| <= 6.67.
 *
 * Threads: a struct rng is a plain value; copy it.  The _at and _fill functions only read it.
 *
 *     struct rng g = rng_stream_id(run_seed, trajectory_id, (uint32_t)step);
 *     rng_normal_fill(&g, 0, noise, n);               // noise[i] is element i
 *     const float z = rng_normal_at(&g, 17);          // noise[17] again */
#ifndef DAGLINE_BASE_RNG_H
#define DAGLINE_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

#define RNG_ID_BYTES 16

/* The bare function: 4 words from a 128-bit counter and a 64-bit key, ten rounds. */
void rng_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

struct rng {
    uint32_t key[2];  /* from (seed, stream) */
    uint32_t tail[2]; /* from (seed, stream): the upper half of the counter */
    uint32_t step;
    uint64_t next; /* the element that the next sequential word comes from */
};

/* The stream with a small number for a name; the same as the id whose first 8 bytes are `stream` in
 * little-endian order and whose last 8 are zero. */
struct rng rng_stream(uint64_t seed, uint64_t stream, uint32_t step);

/* The stream of a 128-bit id (hash_id128). */
struct rng rng_stream_id(uint64_t seed, const uint8_t id[RNG_ID_BYTES], uint32_t step);

/* ---- words: sequential (advance g->next) and by address --------------------------------------- */

uint32_t rng_u32(struct rng *g);

/* Two words, the first one low. */
uint64_t rng_u64(struct rng *g);

/* Uniform in [0, 1), a multiple of 2^-53; takes two words. */
double rng_uniform(struct rng *g);

/* Uniform in 0 .. n - 1 without bias (Lemire 2019, rejection); n >= 1.  Takes two words or, with a
 * probability below n / 2^64, more. */
uint64_t rng_below(struct rng *g, uint64_t n);

uint32_t rng_u32_at(const struct rng *g, uint64_t element);

/* p[0..n) becomes a uniformly random permutation of 0..n-1 (Fisher-Yates). */
void rng_permutation(struct rng *g, uint32_t *p, size_t n);

/* ---- normals: by address ---------------------------------------------------------------------- */

/* Element `element` of the address's standard normals. */
float rng_normal_at(const struct rng *g, uint64_t element);

/* out[i] = element first + i, for i < n: the same value for an element whatever the cut. */
void rng_normal_fill(const struct rng *g, uint64_t first, float *out, size_t n);

#endif
