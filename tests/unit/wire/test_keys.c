#include "wire/keys.h"

#include "support/folder.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void setup(void)
{
    struct err e;
    ck_assert_msg(keys_create_folder(test_folder(), &e) == 0, "%s", e.text);
}

static mode_t mode_of(const char *name)
{
    struct stat st;
    ck_assert_int_eq(stat(in_test_folder(name), &st), 0);
    return st.st_mode & 07777;
}

START_TEST(secret_keys_are_readable_by_their_owner_alone)
{
    umask(0);
    setup();
    ck_assert_uint_eq(mode_of("store.key"), 0400);
    ck_assert_uint_eq(mode_of("store.pub"), 0444);
    ck_assert_uint_eq(mode_of("."), 0700);
}
END_TEST

START_TEST(a_secret_key_that_others_can_read_is_refused)
{
    static const mode_t modes[] = {0440, 0404, 0644, 0410};
    setup();
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct keys_pair k;
        struct err e;
        ck_assert_int_eq(chmod(in_test_folder("store.key"), modes[i]), 0);
        ck_assert_int_eq(keys_load(&k, test_folder(), "store", &e), -1);
        ck_assert_msg(strstr(e.text, "chmod 0400") != NULL, "%s", e.text);
        ck_assert_uint_eq(k.secret_text[0], 0); /* wiped */
    }
    struct keys_pair k;
    struct err e;
    ck_assert_int_eq(chmod(in_test_folder("store.key"), 0600), 0);
    ck_assert_int_eq(keys_load(&k, test_folder(), "store", &e), 0);
    keys_wipe(&k);
    for (size_t i = 0; i < sizeof k; i++)
        ck_assert_uint_eq(((const unsigned char *)&k)[i], 0);
}
END_TEST

START_TEST(a_pair_that_does_not_belong_together_is_refused_without_quoting_it)
{
    setup();
    struct keys_pair k, other;
    struct err e;
    ck_assert_int_eq(keys_load(&other, test_folder(), "sampler", &e), 0);
    ck_assert_int_eq(unlink(in_test_folder("store.pub")), 0);
    ck_assert_int_eq(rename(in_test_folder("sampler.pub"), in_test_folder("store.pub")), 0);
    ck_assert_int_eq(keys_load(&k, test_folder(), "store", &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "does not belong"));
    ck_assert_ptr_null(strstr(e.text, other.public_text));
}
END_TEST

START_TEST(keys_that_are_there_stay)
{
    setup();
    struct keys_pair before, after;
    struct keys_allow_list list;
    struct err e;
    ck_assert_int_eq(keys_load(&before, test_folder(), "trainer", &e), 0);
    ck_assert_int_eq(unlink(in_test_folder("scorer.key")), 0);
    ck_assert_int_eq(unlink(in_test_folder("scorer.pub")), 0);
    ck_assert_int_eq(keys_create_folder(test_folder(), &e), 0);
    ck_assert_int_eq(keys_load(&after, test_folder(), "trainer", &e), 0);
    ck_assert_str_eq(before.secret_text, after.secret_text);
    ck_assert_int_eq(keys_allow_load(&list, in_test_folder("allow"), &e), 0);
    ck_assert_uint_eq(list.count,
                      6); /* the old scorer's line stays until the operator takes it out */
}
END_TEST

START_TEST(the_allow_list_is_read_line_by_line)
{
    static const char a[] = "3$Bqk[0LZS}@/bMGbKLwwu.qkcaB1sST.3y2Pwvk";
    static const char b[] = "4$Bqk[0LZ#}@/bMGbKLwwu.qkcaB1sST.3y2Pwv#"; /* # is a letter of Z85 */
    struct keys_allow_list l;
    struct err e;
    char text[512];
    int n =
        snprintf(text, sizeof text, "# comment\n\n%s sampler # a note\n  %s\ttrainer\r\n", a, b);
    ck_assert_msg(keys_allow_parse(&l, text, (size_t)n, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(l.count, 2);
    ck_assert_int_eq(keys_allow_find(&l, l.entries[0].key), PARTY_SAMPLER);
    ck_assert_int_eq(keys_allow_find(&l, l.entries[1].key), PARTY_TRAINER);
    static const uint8_t nobody[KEYS_RAW_BYTES];
    ck_assert_int_eq(keys_allow_find(&l, nobody), PARTY_LOCAL);
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "no keys"},
        {"# nothing\n", "no keys"},
        {"short sampler\n", "line 1: not a key"},
        {"\n3$Bqk[0LZS}@/bMGbKLwwu.qkcaB1sST.3y2Pwvk king\n", "line 2: 'king'"},
        {"3$Bqk[0LZS}@/bMGbKLwwu.qkcaB1sST.3y2Pwvk local\n", "'local'"},
        {"3$Bqk[0LZS}@/bMGbKLwwu.qkcaB1sST.3y2Pwvk\n", "must be"},
        {"3$Bqk[0LZS}@/bMGbKLwwu.qkcaB1sST.3y2Pwvk sampler x\n", "must be"},
        {"3$Bqk[0LZS}@/bMGbKLwwu.qkcaB1sST.3y2Pwvk sampler\n"
         "3$Bqk[0LZS}@/bMGbKLwwu.qkcaB1sST.3y2Pwvk trainer\n",
         "line 2: that key is listed already as sampler"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(keys_allow_parse(&l, bad[i].text, strlen(bad[i].text), &e), -1);
        ck_assert_msg(strstr(e.text, bad[i].says) != NULL, "%zu: %s", i, e.text);
    }
}
END_TEST

SUITE("wire/keys", 20, secret_keys_are_readable_by_their_owner_alone,
      a_secret_key_that_others_can_read_is_refused,
      a_pair_that_does_not_belong_together_is_refused_without_quoting_it, keys_that_are_there_stay,
      the_allow_list_is_read_line_by_line)
