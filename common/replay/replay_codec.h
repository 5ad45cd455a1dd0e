/* The stored form of a trajectory: what the replay writes into Redis and reads back.
 *
 * Two byte strings.  Latents: float32 [state_count][H,W,C], little-endian, nothing else, so that
 * state i is GETRANGE(i * bytes, (i + 1) * bytes - 1).  Meta: everything else but the pixels,
 * little-endian, packed, in the order of replay_codec.c, opened by the magic "DGR1" and closed by
 * the CRC32C of what is before it; it holds the CRC32C of each state's latent, so a state read
 * alone can be checked alone.
 *
 * The identity CRC covers what the sampler made and not what the scorer added: the same trajectory
 * scored twice by a reward service that is not deterministic is still the same trajectory. Pure: no
 * I/O, no clock.  Redis's bytes are outside data: decoding believes nothing. */
#ifndef DAGLINE_REPLAY_REPLAY_CODEC_H
#define DAGLINE_REPLAY_REPLAY_CODEC_H

#include "base/err.h"
#include "rollout/trajectory.h"

#include <stddef.h>
#include <stdint.h>

#define REPLAY_THUMBNAIL_BYTES_MAX (256u << 10)
#define REPLAY_META_BYTES_MAX (1u << 20)
#define REPLAY_LATENTS_BYTES_MAX (64u << 20)

/* Meta of a trajectory that passes trajectory_check(t, true).  *out is the caller's (mem_free).
 * *identity: the identity CRC. */
int replay_encode(const struct trajectory *t, uint8_t **out, size_t *bytes, uint32_t *identity,
                  struct err *e) MUST_USE;

/* The trajectory of both strings; trajectory_check(t, true) holds for the result, which the caller
 * frees.  Images are NULL. */
int replay_decode(const uint8_t *meta, size_t meta_bytes, const uint8_t *latents,
                  size_t latents_bytes, struct trajectory **out, struct err *e) MUST_USE;

/* Bytes of the latents string. */
size_t replay_latents_bytes(const struct trajectory *t);

#endif
