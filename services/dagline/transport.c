#include "dagline/transport.h"

#include "base/mem.h"

#include <math.h>
#include <stdbool.h>

/* Shortest augmenting paths with dual variables (Kuhn-Munkres in O(n^3)); column 0 is the free one that a path
 * starts from, so that rows and columns count from 1. */
struct assignment {
    size_t n;
    double *cost; /* [n, n] */
    double *row_dual, *column_dual, *least;
    size_t *row_of, *from;
    bool *used;
};

static void augment(struct assignment *a, size_t row)
{
    const size_t n = a->n;
    size_t column = 0;
    a->row_of[0] = row;
    for (size_t j = 0; j <= n; j++) {
        a->least[j] = HUGE_VAL;
        a->used[j] = false;
    }
    do {
        a->used[column] = true;
        const size_t at = a->row_of[column];
        const double *const cost = a->cost + (at - 1) * n;
        double delta = HUGE_VAL;
        size_t next = 0;
        for (size_t j = 1; j <= n; j++) {
            if (a->used[j])
                continue;
            const double reduced = cost[j - 1] - a->row_dual[at] - a->column_dual[j];
            if (reduced < a->least[j]) {
                a->least[j] = reduced;
                a->from[j] = column;
            }
            if (a->least[j] < delta) {
                delta = a->least[j];
                next = j;
            }
        }
        for (size_t j = 0; j <= n; j++)
            if (a->used[j]) {
                a->row_dual[a->row_of[j]] += delta;
                a->column_dual[j] -= delta;
            } else {
                a->least[j] -= delta;
            }
        column = next;
    } while (a->row_of[column] != 0);
    while (column != 0) {
        const size_t before = a->from[column];
        a->row_of[column] = a->row_of[before];
        column = before;
    }
}

double transport_w2(const double *x, const double *y, size_t n, size_t D)
{
    struct assignment a = {.n = n,
                           .cost = mem_new(n * n, sizeof *a.cost),
                           .row_dual = mem_new(n + 1, sizeof *a.row_dual),
                           .column_dual = mem_new(n + 1, sizeof *a.column_dual),
                           .least = mem_new(n + 1, sizeof *a.least),
                           .row_of = mem_new(n + 1, sizeof *a.row_of),
                           .from = mem_new(n + 1, sizeof *a.from),
                           .used = mem_new(n + 1, sizeof *a.used)};
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < D; k++) {
                const double d = x[i * D + k] - y[j * D + k];
                a.cost[i * n + j] += d * d;
            }
    for (size_t row = 1; row <= n; row++)
        augment(&a, row);
    double sum = 0.0;
    for (size_t j = 1; j <= n; j++)
        sum += a.cost[(a.row_of[j] - 1) * n + j - 1];
    void *const owned[] = {a.cost, a.row_dual, a.column_dual, a.least, a.row_of, a.from, a.used};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        mem_free(owned[i]);
    return sqrt(sum / (double)n);
}
