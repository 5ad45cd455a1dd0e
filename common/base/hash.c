#include "base/hash.h"

#include <assert.h>
#include <nettle/sha2.h>
#include <sodium.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

/* ---- CRC-32C ------------------------------------------------------------------------------------ */

/* The CRC of a byte is linear over GF(2): the entry of i is the xor of the entries of its bits, so
 * eight constants make the table. */
#define CRC_BIT(i, bit, value) (((i) >> (bit)&1U) != 0 ? (value) : 0U)
#define CRC_1(i)                                                                                   \
    (CRC_BIT(i, 0, 0xF26B8303U) ^ CRC_BIT(i, 1, 0xE13B70F7U) ^ CRC_BIT(i, 2, 0xC79A971FU) ^        \
     CRC_BIT(i, 3, 0x8AD958CFU) ^ CRC_BIT(i, 4, 0x105EC76FU) ^ CRC_BIT(i, 5, 0x20BD8EDEU) ^        \
     CRC_BIT(i, 6, 0x417B1DBCU) ^ CRC_BIT(i, 7, 0x82F63B78U))
#define CRC_4(i) CRC_1((i) + 0U), CRC_1((i) + 1U), CRC_1((i) + 2U), CRC_1((i) + 3U)
#define CRC_16(i) CRC_4((i) + 0U), CRC_4((i) + 4U), CRC_4((i) + 8U), CRC_4((i) + 12U)
#define CRC_64(i) CRC_16((i) + 0U), CRC_16((i) + 16U), CRC_16((i) + 32U), CRC_16((i) + 48U)

static const uint32_t crc_table[256] = {CRC_64(0U), CRC_64(64U), CRC_64(128U), CRC_64(192U)};

uint32_t hash_crc32c_table(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++)
        crc = crc_table[(crc ^ p[i]) & 0xffU] ^ (crc >> 8);
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data,
                                                               size_t bytes)
{
    const uint8_t *p = data;
    uint64_t c = ~crc;
    for (; bytes >= 8; p += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    uint32_t c32 = (uint32_t)c;
    for (; bytes > 0; p++, bytes--)
        c32 = _mm_crc32_u8(c32, *p);
    return ~c32;
}
#endif

uint32_t hash_crc32c(uint32_t crc, const void *data, size_t bytes)
{
    assert(data != NULL || bytes == 0);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, data, bytes);
#endif
    return hash_crc32c_table(crc, data, bytes);
}

/* ---- SHA-256 ------------------------------------------------------------------------------------ */

static_assert(sizeof(struct sha256_ctx) <= sizeof(struct hash_sha256), "state must fit");
static_assert(_Alignof(struct sha256_ctx) <= 8, "state must be aligned");
static_assert(SHA256_DIGEST_SIZE == HASH_SHA256_BYTES, "digest size");

static struct sha256_ctx *state_of(struct hash_sha256 *h)
{
    return (struct sha256_ctx *)(void *)h->opaque;
}

void hash_sha256_begin(struct hash_sha256 *h)
{
    sha256_init(state_of(h));
}

void hash_sha256_add(struct hash_sha256 *h, const void *data, size_t bytes)
{
    assert(data != NULL || bytes == 0);
    if (bytes > 0)
        sha256_update(state_of(h), bytes, data);
}

void hash_sha256_end(struct hash_sha256 *h, uint8_t out[HASH_SHA256_BYTES])
{
    sha256_digest(state_of(h), HASH_SHA256_BYTES, out);
}

void hash_sha256(uint8_t out[HASH_SHA256_BYTES], const void *data, size_t bytes)
{
    struct hash_sha256 h;
    hash_sha256_begin(&h);
    hash_sha256_add(&h, data, bytes);
    hash_sha256_end(&h, out);
}

/* ---- ids and hex -------------------------------------------------------------------------------- */

void hash_id128(uint8_t out[HASH_ID128_BYTES], const struct hash_part *parts, size_t count)
{
    crypto_generichash_state h;
    crypto_generichash_init(&h, NULL, 0, HASH_ID128_BYTES);
    for (size_t i = 0; i < count; i++) {
        uint8_t length[8];
        for (int b = 0; b < 8; b++)
            length[b] = (uint8_t)((uint64_t)parts[i].bytes >> (8 * b));
        crypto_generichash_update(&h, length, sizeof length);
        if (parts[i].bytes > 0)
            crypto_generichash_update(&h, parts[i].data, parts[i].bytes);
    }
    crypto_generichash_final(&h, out, HASH_ID128_BYTES);
}

void hash_hex(char *out, const void *data, size_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    for (size_t i = 0; i < bytes; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * bytes] = 0;
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hash_unhex(void *out, size_t bytes, const char *hex, struct err *e)
{
    uint8_t *p = out;
    for (size_t i = 0; i < 2 * bytes; i++) {
        const int v = nibble(hex[i]); /* stops at the NUL, which is no digit */
        if (v < 0)
            return err_set(e, ERR_INVALID, "\"%.80s\" is not %zu hex digits", hex, 2 * bytes);
        p[i / 2] = (uint8_t)(i % 2 == 0 ? v << 4 : p[i / 2] | v);
    }
    if (hex[2 * bytes] != 0)
        return err_set(e, ERR_INVALID, "\"%.80s\" is longer than %zu hex digits", hex, 2 * bytes);
    return 0;
}
