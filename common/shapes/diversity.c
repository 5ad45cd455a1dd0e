#include "shapes/diversity.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <string.h>

double diversity_entropy(const int *histogram, int values)
{
    double n = 0.0, bits = 0.0;
    for (int i = 0; i < values; i++)
        n += histogram[i];
    for (int i = 0; i < values; i++)
        if (histogram[i] > 0)
            bits -= histogram[i] / n * log2(histogram[i] / n);
    return bits;
}

static int tuple_of(const struct judge_attributes *a)
{
    int t = a->shape;
    t = t * COLOUR_COUNT + a->colour;
    t = t * 3 + a->size;
    t = t * PLACE_COUNT + a->place;
    t = t * BACKGROUND_COUNT + a->background;
    t = t * TEXTURE_COUNT + a->texture;
    assert(t >= 0 && t < JUDGE_TUPLE_MAX);
    return t;
}

/* The chance that a random subset of DIVERSITY_PER out of n holds none of `count` given pictures.
 */
static double chance_absent(int n, int count)
{
    double p = 1.0;
    for (int i = 0; i < DIVERSITY_PER; i++)
        p *= fmax((double)(n - count - i) / (n - i), 0.0);
    return p;
}

static double distinct_of(const int *count_of_tuple, int n)
{
    double distinct = 0.0;
    for (int t = 0; t < JUDGE_TUPLE_MAX; t++)
        if (count_of_tuple[t] > 0)
            distinct += n > DIVERSITY_PER ? 1.0 - chance_absent(n, count_of_tuple[t]) : 1.0;
    return distinct;
}

void diversity_of(struct diversity *d, const struct judge_attributes *a, const bool *seen, size_t n)
{
    int colour[COLOUR_COUNT] = {0}, size[3] = {0}, place[PLACE_COUNT] = {0};
    int background[BACKGROUND_COUNT] = {0}, texture[TEXTURE_COUNT] = {0}, objects = 0;
    assert(n <= DIVERSITY_SAMPLES_MAX);
    int *tuples = mem_new(JUDGE_TUPLE_MAX, sizeof *tuples);
    for (size_t i = 0; i < n; i++) {
        if (!seen[i])
            continue;
        objects++;
        colour[a[i].colour]++;
        size[a[i].size]++;
        place[a[i].place]++;
        background[a[i].background]++;
        texture[a[i].texture]++;
        tuples[tuple_of(&a[i])]++;
    }
    *d = (struct diversity){
        .colour_bits = diversity_entropy(colour, COLOUR_COUNT),
        .size_bits = diversity_entropy(size, 3),
        .place_bits = diversity_entropy(place, PLACE_COUNT),
        .background_bits = diversity_entropy(background, BACKGROUND_COUNT),
        .texture_bits = diversity_entropy(texture, TEXTURE_COUNT),
        .distinct = distinct_of(tuples, objects),
        .seen = n > 0 ? (double)objects / (double)n : 0.0,
    };
    d->total_bits =
        d->colour_bits + d->size_bits + d->place_bits + d->background_bits + d->texture_bits;
    mem_free(tuples);
}

void diversity_mean(struct diversity *d, const struct diversity *each, size_t n)
{
    struct diversity sum = {0};
    assert(n >= 1);
    for (size_t i = 0; i < n; i++) {
        sum.colour_bits += each[i].colour_bits;
        sum.size_bits += each[i].size_bits;
        sum.place_bits += each[i].place_bits;
        sum.background_bits += each[i].background_bits;
        sum.texture_bits += each[i].texture_bits;
        sum.total_bits += each[i].total_bits;
        sum.distinct += each[i].distinct;
        sum.seen += each[i].seen;
    }
    const double k = 1.0 / (double)n;
    *d = (struct diversity){
        .colour_bits = k * sum.colour_bits,
        .size_bits = k * sum.size_bits,
        .place_bits = k * sum.place_bits,
        .background_bits = k * sum.background_bits,
        .texture_bits = k * sum.texture_bits,
        .total_bits = k * sum.total_bits,
        .distinct = k * sum.distinct,
        .seen = k * sum.seen,
    };
}

double diversity_relative(const struct diversity *now, const struct diversity *base)
{
    return base->total_bits > 0.0 ? now->total_bits / base->total_bits : 0.0;
}
