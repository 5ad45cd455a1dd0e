#include "base/rng.h"
#include "support/suite.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

START_TEST(philox_gives_the_published_known_answers)
{
    static const struct { /* kat_vectors of Random123, philox4x32 10 */
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t got[4];
        rng_philox4x32(cases[i].counter, cases[i].key, got);
        ck_assert_msg(memcmp(got, cases[i].want, sizeof got) == 0, "case %zu: %08x %08x %08x %08x", i,
                      got[0], got[1], got[2], got[3]);
    }
}
END_TEST

START_TEST(every_part_of_the_address_matters)
{
    const uint8_t id[RNG_ID_BYTES] = {7, 0, 0, 0, 0, 0, 0, 0, 1};
    const struct rng all[] = {rng_stream(1, 7, 0), rng_stream(2, 7, 0), rng_stream(1, 8, 0),
                              rng_stream(1, 7, 1), rng_stream_id(1, id, 0)};
    const size_t count = sizeof all / sizeof *all;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            ck_assert_uint_ne(rng_u32_at(&all[i], 0), rng_u32_at(&all[j], 0));
            ck_assert(rng_normal_at(&all[i], 0) != rng_normal_at(&all[j], 0));
        }
    const uint8_t small[RNG_ID_BYTES] = {7};
    const struct rng same = rng_stream_id(1, small, 0);
    ck_assert_uint_eq(rng_u32_at(&same, 9), rng_u32_at(&all[0], 9));
}
END_TEST

START_TEST(sequential_words_are_the_addressed_ones)
{
    struct rng g = rng_stream(3, 4, 5);
    const struct rng at = g;
    for (uint64_t i = 0; i < 100; i++)
        ck_assert_uint_eq(rng_u32(&g), rng_u32_at(&at, i));
    const uint64_t low = rng_u32_at(&at, 100), high = rng_u32_at(&at, 101);
    ck_assert(rng_u64(&g) == (low | high << 32));
    ck_assert_uint_eq(g.next, 102);
}
END_TEST

START_TEST(uniforms_fill_the_unit_interval_evenly)
{
    enum { N = 200000, BINS = 50 };
    struct rng g = rng_stream(11, 0, 0);
    int bins[BINS] = {0};
    for (int i = 0; i < N; i++) {
        const double u = rng_uniform(&g);
        ck_assert(u >= 0.0 && u < 1.0);
        bins[(int)(u * BINS)]++;
    }
    double chi2 = 0.0;
    for (int i = 0; i < BINS; i++)
        chi2 += (bins[i] - (double)N / BINS) * (bins[i] - (double)N / BINS) / ((double)N / BINS);
    ck_assert_msg(chi2 < 90.0, "chi2 %g with 49 degrees of freedom", chi2); /* p < 3e-4 above */
}
END_TEST

START_TEST(integers_below_n_are_even_and_in_range)
{
    struct rng g = rng_stream(12, 0, 0);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq(rng_below(&g, 1), 0);
    /* Below 3 * 2^62 a quarter of the draws is rejected: without that, v mod 3 would be 0 half the time. */
    int thirds[3] = {0};
    for (int i = 0; i < 30000; i++) {
        const uint64_t v = rng_below(&g, UINT64_C(3) << 62);
        ck_assert(v < UINT64_C(3) << 62);
        thirds[v % 3]++;
    }
    for (int i = 0; i < 3; i++)
        ck_assert_msg(abs(thirds[i] - 10000) < 400, "v mod 3 = %d: %d", i, thirds[i]);
}
END_TEST

START_TEST(a_permutation_holds_every_index_once_and_is_even)
{
    int count[4][4] = {{0}};
    for (uint32_t t = 0; t < 24000; t++) {
        struct rng g = rng_stream(13, t, 0);
        uint32_t p[4];
        rng_permutation(&g, p, 4);
        unsigned seen = 0;
        for (int i = 0; i < 4; i++) {
            seen |= 1U << p[i];
            count[i][p[i]]++;
        }
        ck_assert_uint_eq(seen, 15);
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            ck_assert_msg(abs(count[i][j] - 6000) < 350, "[%d][%d]: %d", i, j, count[i][j]);
}
END_TEST

START_TEST(an_element_has_one_normal_however_the_block_is_cut)
{
    enum { N = 3000 };
    float whole[N], part[N];
    const struct rng g = rng_stream(21, 9, 2);
    rng_normal_fill(&g, 0, whole, N);
    const size_t cuts[] = {1, 3, 4, 63, 255, 256, 257, 1000};
    for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
        for (size_t at = 0; at < N; at += cuts[k])
            rng_normal_fill(&g, at, part + at, at + cuts[k] < N ? cuts[k] : N - at);
        ck_assert_msg(memcmp(part, whole, sizeof whole) == 0, "cut %zu", cuts[k]);
    }
    ck_assert(rng_normal_at(&g, 1234) == whole[1234]);
    rng_normal_fill(&g, UINT64_C(5000000000), part, 10); /* beyond 32 bits of elements */
    ck_assert(rng_normal_at(&g, UINT64_C(5000000003)) == part[3]);
}
END_TEST

/* The same transform in double with libm. */
static double reference_normal(const struct rng *g, uint64_t element)
{
    const uint32_t counter[4] = {(uint32_t)(element / 4) | 0x80000000U, g->step, g->tail[0], g->tail[1]};
    uint32_t w[4];
    rng_philox4x32(counter, g->key, w);
    const uint32_t *pair = w + (element % 4 / 2) * 2;
    const double u = (double)(float)(pair[0] >> 1) * 0x1p-31 + 0x1p-32;
    const double angle = 2.0 * 3.14159265358979323846 * (double)(pair[1] >> 8) * 0x1p-24;
    const double r = sqrt(-2.0 * log(fmin(u, 1.0)));
    return r * (element % 2 == 0 ? cos(angle) : sin(angle));
}

START_TEST(normals_agree_with_libm_in_double)
{
    enum { N = 100000 };
    static float z[N];
    const struct rng g = rng_stream(22, 1, 3);
    rng_normal_fill(&g, 0, z, N);
    for (size_t i = 0; i < N; i++) {
        const double want = reference_normal(&g, i);
        ck_assert_msg(fabs((double)z[i] - want) < 3e-6, "[%zu]: got %.9g want %.9g", i, (double)z[i], want);
    }
}
END_TEST

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

START_TEST(normals_are_normal)
{
    enum { N = 1 << 20 };
    float *z = malloc(N * sizeof *z);
    const struct rng g = rng_stream(23, 77, 1);
    rng_normal_fill(&g, 0, z, N);
    double m1 = 0.0, m2 = 0.0, m3 = 0.0, m4 = 0.0, lag = 0.0;
    for (size_t i = 0; i < N; i++) {
        const double x = (double)z[i];
        ck_assert(isfinite(x));
        m1 += x / N;
        m2 += x * x / N;
        m3 += x * x * x / N;
        m4 += x * x * x * x / N;
        if (i > 0)
            lag += x * (double)z[i - 1] / N;
    }
    ck_assert_msg(fabs(m1) < 0.004 && fabs(m2 - 1.0) < 0.006 && fabs(m3) < 0.012 && fabs(m4 - 3.0) < 0.04,
                  "moments %g %g %g %g", m1, m2, m3, m4);
    ck_assert_msg(fabs(lag) < 0.004, "neighbours correlate: %g", lag);
    qsort(z, N, sizeof *z, by_value);
    double d = 0.0;
    for (size_t i = 0; i < N; i++)
        d = fmax(d, fabs(0.5 * erfc(-(double)z[i] / sqrt(2.0)) - ((double)i + 0.5) / N));
    ck_assert_msg(d * sqrt((double)N) < 1.95, "Kolmogorov-Smirnov %g", d * sqrt((double)N)); /* p 0.001 */
    ck_assert(z[0] < -4.2f && z[N - 1] > 4.2f);
    free(z);
}
END_TEST

struct part {
    const struct rng *g;
    float *out;
    size_t from, n;
};

static void *fill_part(void *arg)
{
    const struct part *p = arg;
    rng_normal_fill(p->g, p->from, p->out + p->from, p->n);
    return NULL;
}

START_TEST(threads_give_what_one_thread_gives)
{
    enum { N = 10007, THREADS = 3 };
    static float one[N], many[N];
    const struct rng g = rng_stream(24, 5, 6);
    rng_normal_fill(&g, 0, one, N);
    pthread_t id[THREADS];
    struct part parts[THREADS];
    for (size_t t = 0; t < THREADS; t++) {
        const size_t from = t * N / THREADS;
        parts[t] = (struct part){&g, many, from, (t + 1) * N / THREADS - from};
        ck_assert_int_eq(pthread_create(&id[t], NULL, fill_part, &parts[t]), 0);
    }
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(id[t], NULL);
    ck_assert_mem_eq(one, many, sizeof one);
}
END_TEST

START_TEST(normals_are_the_same_bits_in_every_build)
{
    /* -O0, -O2 with every instruction set, ASan and clang must agree: a sum over the bit patterns. */
    enum { N = 4096 };
    static float z[N];
    const struct rng g = rng_stream(2024, 12, 34);
    rng_normal_fill(&g, 0, z, N);
    uint32_t sum = 0;
    for (size_t i = 0; i < N; i++) {
        uint32_t bits;
        memcpy(&bits, &z[i], 4);
        sum = sum * 16777619U ^ bits;
    }
    ck_assert_msg(sum == 0x9cdb192eU, "got 0x%08x", sum);
}
END_TEST

SUITE("base/rng", 60, philox_gives_the_published_known_answers, every_part_of_the_address_matters,
      sequential_words_are_the_addressed_ones, uniforms_fill_the_unit_interval_evenly,
      integers_below_n_are_even_and_in_range, a_permutation_holds_every_index_once_and_is_even,
      an_element_has_one_normal_however_the_block_is_cut, normals_agree_with_libm_in_double,
      normals_are_normal, threads_give_what_one_thread_gives, normals_are_the_same_bits_in_every_build)
