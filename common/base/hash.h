/* Checksums and digests: CRC-32C for frames and blocks (detects accidents), SHA-256 for blobs and
 * policies (identity), 128-bit ids made from their parts.  The only door to nettle (SHA-256 by the processor's
 * own instructions) and to libsodium's hashing (BLAKE2b).
 *
 * Nothing here fails or allocates.  Threads: every function may be called from any thread; a
 * streaming state belongs to one thread at a time. */
#ifndef DAGLINE_BASE_HASH_H
#define DAGLINE_BASE_HASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define HASH_SHA256_BYTES 32
#define HASH_SHA256_HEX_BYTES 65 /* with its NUL */
#define HASH_ID128_BYTES 16
#define HASH_ID128_HEX_BYTES 33 /* with its NUL */

/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) as in iSCSI and ext4:
 * hash_crc32c(0, "123456789", 9) is 0xE3069283.  Streaming: pass the result of the bytes before as
 * `crc`, 0 at the start.  Uses SSE 4.2 where the processor has it, a table elsewhere: same values. */
uint32_t hash_crc32c(uint32_t crc, const void *data, size_t bytes);

/* The table form alone, whatever the processor; for tests. */
uint32_t hash_crc32c_table(uint32_t crc, const void *data, size_t bytes);

/* SHA-256 (FIPS 180-4) of one buffer; data may be NULL where bytes is 0. */
void hash_sha256(uint8_t out[HASH_SHA256_BYTES], const void *data, size_t bytes);

/* SHA-256 in pieces: begin, add any number of times, end once. */
struct hash_sha256 {
    _Alignas(8) uint8_t opaque[128];
};
void hash_sha256_begin(struct hash_sha256 *h);
void hash_sha256_add(struct hash_sha256 *h, const void *data, size_t bytes);
void hash_sha256_end(struct hash_sha256 *h, uint8_t out[HASH_SHA256_BYTES]);

/* A byte string by reference. */
struct hash_part {
    const void *data;
    size_t bytes;
};

/* A 128-bit id that is a function of the list of parts and of nothing else: BLAKE2b-128 over each
 * part preceded by its length as 8 little-endian bytes, so ("ab","c") and ("a","bc") differ. */
void hash_id128(uint8_t out[HASH_ID128_BYTES], const struct hash_part *parts, size_t count);

/* Lower-case hex of `bytes` bytes and a NUL: out holds 2 * bytes + 1. */
void hash_hex(char *out, const void *data, size_t bytes);

/* The bytes of exactly 2 * bytes hex digits (either case); ERR_INVALID for anything else. */
int hash_unhex(void *out, size_t bytes, const char *hex, struct err *e) MUST_USE;

#endif
