#include "base/hash.h"
#include "support/suite.h"

#include <string.h>

START_TEST(crc32c_gives_the_published_values)
{
    uint8_t zeros[32] = {0}, ones[32], up[32];
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++)
        up[i] = (uint8_t)i;
    const struct { /* RFC 3720, B.4, and the check value of the catalogue */
        const void *data;
        size_t bytes;
        uint32_t want;
    } cases[] = {
        {"", 0, 0},
        {"123456789", 9, 0xE3069283},
        {zeros, 32, 0x8A9136AA},
        {ones, 32, 0x62A8AB43},
        {up, 32, 0x46DD794E},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_msg(hash_crc32c(0, cases[i].data, cases[i].bytes) == cases[i].want, "case %zu", i);
        ck_assert_msg(hash_crc32c_table(0, cases[i].data, cases[i].bytes) == cases[i].want,
                      "table, case %zu", i);
    }
}
END_TEST

START_TEST(crc32c_of_pieces_is_the_crc_of_the_whole)
{
    uint8_t data[259];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 37 + 11);
    for (size_t from = 0; from < 9; from++)
        for (size_t cut = from; cut <= sizeof data; cut++) {
            const uint32_t whole = hash_crc32c_table(0, data + from, sizeof data - from);
            const uint32_t first = hash_crc32c(0, data + from, cut - from);
            ck_assert_uint_eq(hash_crc32c(first, data + cut, sizeof data - cut), whole);
        }
}
END_TEST

START_TEST(sha256_gives_the_published_values)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t digest[HASH_SHA256_BYTES], pieces[HASH_SHA256_BYTES];
        char hex[HASH_SHA256_HEX_BYTES];
        hash_sha256(digest, cases[i].text, strlen(cases[i].text));
        hash_hex(hex, digest, sizeof digest);
        ck_assert_str_eq(hex, cases[i].want);
        struct hash_sha256 h;
        hash_sha256_begin(&h);
        for (const char *p = cases[i].text; *p != 0; p++)
            hash_sha256_add(&h, p, 1);
        hash_sha256_end(&h, pieces);
        ck_assert_mem_eq(pieces, digest, sizeof digest);
    }
}
END_TEST

START_TEST(an_id_depends_on_every_part_and_on_where_they_split)
{
    const struct hash_part ab_c[] = {{"ab", 2}, {"c", 1}};
    const struct hash_part a_bc[] = {{"a", 1}, {"bc", 2}};
    const struct hash_part abc_[] = {{"abc", 3}, {NULL, 0}};
    uint8_t first[HASH_ID128_BYTES], again[HASH_ID128_BYTES], other[HASH_ID128_BYTES];
    hash_id128(first, ab_c, 2);
    hash_id128(again, ab_c, 2);
    ck_assert_mem_eq(first, again, sizeof first);
    hash_id128(other, a_bc, 2);
    ck_assert_mem_ne(first, other, sizeof first);
    hash_id128(other, abc_, 2);
    ck_assert_mem_ne(first, other, sizeof first);
    hash_id128(other, ab_c, 1);
    ck_assert_mem_ne(first, other, sizeof first);
}
END_TEST

START_TEST(an_id_is_the_same_in_every_release)
{
    const struct hash_part parts[] = {{"run", 3}, {"7", 1}};
    uint8_t id[HASH_ID128_BYTES];
    char hex[HASH_ID128_HEX_BYTES];
    hash_id128(id, parts, 2);
    hash_hex(hex, id, sizeof id);
    /* python: hashlib.blake2b(b'\3'+bytes(7)+b'run'+b'\1'+bytes(7)+b'7', digest_size=16) */
    ck_assert_str_eq(hex, "ff1be9f8e01cdbeae9c4dfb84f9dcaa0");
}
END_TEST

START_TEST(hex_goes_both_ways_and_refuses_the_rest)
{
    const uint8_t want[4] = {0x00, 0xff, 0x1a, 0xb2};
    uint8_t got[4];
    char hex[9];
    hash_hex(hex, want, 4);
    ck_assert_str_eq(hex, "00ff1ab2");
    ck_assert_int_eq(hash_unhex(got, 4, "00FF1aB2", NULL), 0);
    ck_assert_mem_eq(got, want, 4);
    static const char *const bad[] = {"", "00ff1ab", "00ff1ab23", "00ff1ag2", "00 f1ab2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {0};
        ck_assert_int_eq(hash_unhex(got, 4, bad[i], &e), -1);
        ck_assert_int_eq(e.code, ERR_INVALID);
    }
}
END_TEST

SUITE("base/hash", 20, crc32c_gives_the_published_values, crc32c_of_pieces_is_the_crc_of_the_whole,
      sha256_gives_the_published_values, an_id_depends_on_every_part_and_on_where_they_split,
      an_id_is_the_same_in_every_release, hex_goes_both_ways_and_refuses_the_rest)
