#include "io/dtype.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static float half(uint16_t bits)
{
    float out;
    ck_assert_int_eq(dtype_to_float(&out, DTYPE_F16, &bits, 1), 0);
    return out;
}

static uint16_t to(enum dtype dtype, float v)
{
    uint16_t bits;
    ck_assert_int_eq(dtype_from_float(&bits, dtype, &v, 1), 0);
    return bits;
}

START_TEST(known_halves_read_right)
{
    static const struct {
        uint16_t bits;
        double want;
    } cases[] = {{0x0000, 0},        {0x0001, 0x1p-24}, {0x03ff, 1023 * 0x1p-24}, {0x0400, 0x1p-14},
                 {0x3c00, 1},        {0xc000, -2},      {0x3555, 0.333251953125}, {0x7bff, 65504},
                 {0xfc00, -(double)INFINITY}};
    for (size_t i = 0; i < COUNT(cases); i++)
        ck_assert_msg((double)half(cases[i].bits) == cases[i].want, "%04x: %g", cases[i].bits,
                      (double)half(cases[i].bits));
    ck_assert(signbit(half(0x8000)) && isnan(half(0x7c01)));
}
END_TEST

START_TEST(every_16_bit_pattern_survives_the_round_trip)
{
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16};
    for (size_t d = 0; d < COUNT(types); d++)
        for (uint32_t bits = 0; bits < 65536; bits++) {
            const uint16_t in = (uint16_t)bits;
            float v;
            ck_assert_int_eq(dtype_to_float(&v, types[d], &in, 1), 0);
            const uint16_t out = to(types[d], v);
            float again;
            ck_assert_int_eq(dtype_to_float(&again, types[d], &out, 1), 0);
            if (isnan(v))
                ck_assert_msg(isnan(again), "%s %04x: NaN became %04x", dtype_name(types[d]), in,
                              out);
            else
                ck_assert_msg(in == out, "%s %04x became %04x", dtype_name(types[d]), in, out);
        }
}
END_TEST

/* Against the definition: the nearest of the two neighbours, the even one on a tie. */
START_TEST(halves_round_to_nearest_even)
{
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        const float low = half((uint16_t)bits), high = half((uint16_t)(bits + 1));
        const float tie = (float)(((double)low + (double)high) / 2); /* exact in float */
        ck_assert_int_eq(to(DTYPE_F16, tie), bits % 2 == 0 ? bits : bits + 1);
        ck_assert_int_eq(to(DTYPE_F16, nextafterf(tie, 0.0f)), bits);
        ck_assert_int_eq(to(DTYPE_F16, nextafterf(tie, 1e30f)), bits + 1);
    }
    ck_assert_int_eq(to(DTYPE_F16, 65519.996f), 0x7bff);
    ck_assert_int_eq(to(DTYPE_F16, 65520.0f), 0x7c00);
    ck_assert_int_eq(to(DTYPE_F16, -1e30f), 0xfc00);
    ck_assert_int_eq(to(DTYPE_F16, 1e-30f), 0);
}
END_TEST

START_TEST(bfloat16_rounds_to_nearest_even)
{
    ck_assert_int_eq(to(DTYPE_BF16, 1.00390625f), 0x3f80); /* tie, down to even */
    ck_assert_int_eq(to(DTYPE_BF16, 1.01171875f), 0x3f82); /* tie, up to even */
    ck_assert_int_eq(to(DTYPE_BF16, nextafterf(1.00390625f, 2)), 0x3f81);
    ck_assert_int_eq(to(DTYPE_BF16, 3.4e38f), 0x7f80);
    ck_assert_int_eq(to(DTYPE_BF16, -(float)INFINITY), 0xff80);
}
END_TEST

START_TEST(eight_bit_floats_read_right)
{
    static const struct {
        enum dtype dtype;
        uint8_t bits;
        double want;
    } cases[] = {{DTYPE_F8_E4M3, 0x38, 1},        {DTYPE_F8_E4M3, 0x7e, 448},
                 {DTYPE_F8_E4M3, 0x01, 0x1p-9},   {DTYPE_F8_E4M3, 0xc0, -2},
                 {DTYPE_F8_E4M3, 0x08, 0x1p-6},   {DTYPE_F8_E5M2, 0x3c, 1},
                 {DTYPE_F8_E5M2, 0x7b, 57344},    {DTYPE_F8_E5M2, 0x01, 0x1p-16},
                 {DTYPE_F8_E5M2, 0xfc, -(double)INFINITY}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        float v;
        ck_assert_int_eq(dtype_to_float(&v, cases[i].dtype, &cases[i].bits, 1), 0);
        ck_assert_msg((double)v == cases[i].want, "%s %02x: %g", dtype_name(cases[i].dtype),
                      cases[i].bits, (double)v);
    }
    const uint8_t nan = 0x7f;
    float v;
    ck_assert_int_eq(dtype_to_float(&v, DTYPE_F8_E4M3, &nan, 1), 0);
    ck_assert(isnan(v));
}
END_TEST

START_TEST(any_address_will_do)
{
    unsigned char bytes[64] = {0};
    for (size_t offset = 0; offset < 8; offset++) {
        const float in[3] = {1.5f, -2.0f, 0.25f};
        float out[3];
        ck_assert_int_eq(dtype_from_float(bytes + offset, DTYPE_F16, in, 3), 0);
        ck_assert_int_eq(dtype_to_float(out, DTYPE_F16, bytes + offset, 3), 0);
        ck_assert(memcmp(in, out, sizeof in) == 0);
        const double wide[2] = {0.5, -4};
        memcpy(bytes + offset, wide, sizeof wide);
        ck_assert_int_eq(dtype_to_float(out, DTYPE_F64, bytes + offset, 2), 0);
        ck_assert(out[0] == 0.5f && out[1] == -4.0f);
    }
}
END_TEST

START_TEST(integers_keep_their_sign)
{
    const int16_t in[] = {-5, 7, INT16_MIN};
    int64_t out[3];
    ck_assert_int_eq(dtype_to_int64(out, DTYPE_I16, in, 3), 0);
    ck_assert(out[0] == -5 && out[1] == 7 && out[2] == INT16_MIN);
    ck_assert_int_eq(dtype_to_int64(out, DTYPE_U16, in, 1), 0);
    ck_assert(out[0] == 65531);
    ck_assert_int_eq(dtype_to_int64(out, DTYPE_F32, in, 1), -1);
}
END_TEST

START_TEST(names_are_those_of_the_files)
{
    enum dtype d;
    ck_assert_int_eq(dtype_parse(&d, "F8_E4M3FNUZ"), 0);
    ck_assert_int_eq(d, DTYPE_F8_E4M3FNUZ);
    ck_assert_int_eq(dtype_parse(&d, "f32"), -1);
    ck_assert_str_eq(dtype_name(DTYPE_BF16), "BF16");
    ck_assert_uint_eq(dtype_bits(DTYPE_F6_E2M3), 6);
}
END_TEST

SUITE("io/dtype", 30, known_halves_read_right, every_16_bit_pattern_survives_the_round_trip,
      halves_round_to_nearest_even, bfloat16_rounds_to_nearest_even, eight_bit_floats_read_right,
      any_address_will_do, integers_keep_their_sign, names_are_those_of_the_files)
