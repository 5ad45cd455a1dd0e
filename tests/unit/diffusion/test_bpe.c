#include "base/mem.h"
#include "diffusion/bpe.h"
#include "support/suite.h"

#include <string.h>

/* The definition: find the pair of lowest rank, merge all of its occurrences from the left, repeat.
 */
static size_t slow(const int32_t (*merges)[3], size_t n_merges, int32_t *ids, size_t n)
{
    for (size_t rank = 0; rank < n_merges;) {
        size_t out = 0, merged = 0;
        for (size_t i = 0; i < n; i++) {
            if (i + 1 < n && ids[i] == merges[rank][0] && ids[i + 1] == merges[rank][1]) {
                ids[out++] = merges[rank][2];
                i++;
                merged++;
            } else {
                ids[out++] = ids[i];
            }
        }
        n = out;
        rank = merged > 0 ? 0 : rank + 1;
    }
    return n;
}

static const int32_t MERGES[][3] = {{0, 1, 4}, {1, 1, 5}, {4, 2, 6},  {2, 0, 7},
                                    {6, 6, 8}, {5, 5, 9}, {7, 4, 10}, {0, 0, 11}};
#define N_MERGES (sizeof MERGES / sizeof *MERGES)

static struct bpe table(void)
{
    struct bpe b;
    bpe_init(&b, N_MERGES);
    for (size_t i = 0; i < N_MERGES; i++)
        ck_assert_int_eq(bpe_add(&b, MERGES[i][0], MERGES[i][1], MERGES[i][2], (int32_t)i), 0);
    return b;
}

START_TEST(every_short_word_merges_as_the_definition_says)
{
    struct bpe b = table();
    for (int length = 0; length <= 7; length++)
        for (int word = 0; word < 1 << (2 * length); word++) {
            int32_t fast[8] = {0}, want[8] = {0};
            for (int i = 0; i < length; i++)
                fast[i] = want[i] = word >> (2 * i) & 3;
            const size_t n = bpe_apply(&b, fast, (size_t)length);
            ck_assert_uint_eq(n, slow(MERGES, N_MERGES, want, (size_t)length));
            ck_assert_msg(memcmp(fast, want, n * sizeof *fast) == 0, "word %x of length %d", word,
                          length);
        }
    bpe_done(&b);
}
END_TEST

START_TEST(a_pair_is_added_once)
{
    struct bpe b = table();
    ck_assert_int_eq(bpe_add(&b, 0, 1, 99, 7), -1);
    int32_t ids[] = {0, 1};
    ck_assert(bpe_apply(&b, ids, 2) == 1 && ids[0] == 4);
    bpe_done(&b);
}
END_TEST

START_TEST(a_long_run_takes_no_quadratic_time)
{
    struct bpe b = table();
    const size_t n = 1000000;
    int32_t *ids = mem_new(n, sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = 1;
    ck_assert_uint_eq(bpe_apply(&b, ids, n), n / 4);
    mem_free(ids);
    bpe_done(&b);
}
END_TEST

SUITE("diffusion/bpe", 20, every_short_word_merges_as_the_definition_says, a_pair_is_added_once,
      a_long_run_takes_no_quadratic_time)
