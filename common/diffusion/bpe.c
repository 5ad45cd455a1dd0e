#include "diffusion/bpe.h"

#include "base/mem.h"

#include <assert.h>

/* ---- the table
 * ------------------------------------------------------------------------------------ */

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot of the pair, or the empty one where it would go. */
static size_t slot_of(const struct bpe *b, uint64_t pair)
{
    uint64_t h = pair * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(h ^ h >> 32) & b->mask;
    while (b->slots[at].rank >= 0 && b->slots[at].pair != pair)
        at = (at + 1) & b->mask;
    return at;
}

void bpe_init(struct bpe *b, size_t merges_max)
{
    size_t capacity = 16;
    while (capacity < 2 * merges_max)
        capacity *= 2;
    b->slots = mem_new(capacity, sizeof *b->slots);
    b->mask = capacity - 1;
    for (size_t i = 0; i < capacity; i++)
        b->slots[i].rank = -1;
}

void bpe_done(struct bpe *b)
{
    mem_free(b->slots);
    *b = (struct bpe){0};
}

int bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t merged, int32_t rank)
{
    assert(rank >= 0 && left >= 0 && right >= 0);
    struct bpe_slot *slot = &b->slots[slot_of(b, pair_of(left, right))];
    if (slot->rank >= 0)
        return -1;
    *slot = (struct bpe_slot){pair_of(left, right), rank, merged};
    return 0;
}

/* ---- merging: a list of symbols, and a heap of the pairs that could be merged
 * ----------------------- */

struct symbol {
    int32_t id;         /* -1: swallowed by its left neighbour */
    int32_t prev, next; /* indices; -1 at the ends */
};

struct candidate {
    int32_t rank, at; /* at: the left symbol */
    uint64_t pair;    /* as it was when this was pushed; stale if the symbols differ now */
    int32_t merged;
};

struct heap {
    struct candidate *items;
    size_t count;
};

static int before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct heap *h, struct candidate c)
{
    size_t at = h->count++;
    for (; at > 0 && before(&c, &h->items[(at - 1) / 2]); at = (at - 1) / 2)
        h->items[at] = h->items[(at - 1) / 2];
    h->items[at] = c;
}

static struct candidate heap_pop(struct heap *h)
{
    const struct candidate top = h->items[0], last = h->items[--h->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < h->count && before(&h->items[child + 1], &h->items[child]))
            child++;
        if (child >= h->count || !before(&h->items[child], &last))
            break;
        h->items[at] = h->items[child];
        at = child;
    }
    h->items[at] = last;
    return top;
}

/* Pushes the pair that begins at symbol `at`, if there is a merge for it. */
static void consider(const struct bpe *b, struct heap *h, const struct symbol *s, int32_t at)
{
    if (at < 0 || s[at].next < 0)
        return;
    const uint64_t pair = pair_of(s[at].id, s[s[at].next].id);
    const struct bpe_slot *slot = &b->slots[slot_of(b, pair)];
    if (slot->rank >= 0)
        heap_push(h, (struct candidate){slot->rank, at, pair, slot->merged});
}

static int is_stale(const struct candidate *c, const struct symbol *s)
{
    return s[c->at].id < 0 || s[c->at].next < 0 ||
           pair_of(s[c->at].id, s[s[c->at].next].id) != c->pair;
}

size_t bpe_apply(const struct bpe *b, int32_t *ids, size_t n)
{
    assert(n < INT32_MAX / 4);
    if (n < 2)
        return n;
    struct symbol *s = mem_new(n, sizeof *s);
    /* n - 1 pairs at the start; each of at most n - 1 merges removes one and pushes two */
    struct heap h = {.items = mem_new(3 * n, sizeof *h.items)};
    for (size_t i = 0; i < n; i++)
        s[i] = (struct symbol){ids[i], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i + 1 < n; i++)
        consider(b, &h, s, (int32_t)i);
    while (h.count > 0) {
        const struct candidate c = heap_pop(&h);
        if (is_stale(&c, s))
            continue;
        struct symbol *left = &s[c.at], *right = &s[left->next];
        left->id = c.merged;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0)
            s[left->next].prev = c.at;
        consider(b, &h, s, left->prev);
        consider(b, &h, s, c.at);
    }
    size_t left_over = 0;
    for (int32_t at = 0; at >= 0; at = s[at].next)
        ids[left_over++] = s[at].id;
    mem_free(h.items);
    mem_free(s);
    return left_over;
}
