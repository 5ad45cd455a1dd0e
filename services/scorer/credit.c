#include "scorer/credit.h"

#include <assert.h>
#include <string.h>

void credit_init(struct credit_ledger *c, uint64_t first_session, uint64_t bytes_budget,
                 uint64_t window)
{
    assert(bytes_budget > 0 && window > 0);
    memset(c, 0, sizeof *c);
    c->session_next = first_session;
    c->bytes_budget = bytes_budget;
    c->window = window;
}

struct credit_peer *credit_find(struct credit_ledger *c, const void *id, size_t id_bytes)
{
    for (size_t i = 0; i < c->peer_count; i++)
        if (c->peers[i].id_bytes == id_bytes && memcmp(c->peers[i].id, id, id_bytes) == 0)
            return &c->peers[i];
    return NULL;
}

static struct credit_peer *new_peer(struct credit_ledger *c)
{
    for (size_t i = 0; i < c->peer_count; i++)
        if (c->peers[i].id_bytes == 0)
            return &c->peers[i];
    return c->peer_count < CREDIT_PEERS_MAX ? &c->peers[c->peer_count++] : NULL;
}

struct credit_peer *credit_hello(struct credit_ledger *c, const void *id, size_t id_bytes,
                                 uint64_t item_bytes, int64_t now_ms)
{
    assert(id_bytes > 0 && id_bytes <= MESSAGE_PEER_BYTES_MAX);
    struct credit_peer *p = credit_find(c, id, id_bytes);
    if (p == NULL) {
        p = new_peer(c);
        if (p == NULL)
            return NULL;
        *p = (struct credit_peer){.id_bytes = id_bytes, .session = c->session_next++};
        memcpy(p->id, id, id_bytes);
    }
    p->item_bytes = item_bytes > 0 ? item_bytes : 1;
    p->heard_ms = now_ms;
    p->tell = true; /* a lost grant heals */
    return p;
}

bool credit_take(struct credit_ledger *c, struct credit_peer *p, uint64_t bytes, int64_t now_ms)
{
    p->heard_ms = now_ms;
    p->items_got++;
    p->bytes_got += bytes;
    if (c->bytes_held + bytes > c->bytes_budget)
        return false;
    c->bytes_held += bytes;
    c->items_held++;
    return true;
}

void credit_release(struct credit_ledger *c, uint64_t bytes)
{
    assert(c->items_held > 0 && c->bytes_held >= bytes);
    c->items_held--;
    c->bytes_held -= bytes;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

uint64_t credit_items_outstanding(const struct credit_ledger *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->peer_count; i++)
        n += less(c->peers[i].items_granted, c->peers[i].items_got);
    return n;
}

/* An item that came smaller than announced leaves bytes granted and unused: only items outstanding
 * can still use them, so no more than their announced size counts. */
static uint64_t peer_bytes(const struct credit_peer *p)
{
    const uint64_t items = less(p->items_granted, p->items_got),
                   bytes = less(p->bytes_granted, p->bytes_got);
    const uint64_t most = items * p->item_bytes;
    return bytes < most ? bytes : most;
}

uint64_t credit_bytes_outstanding(const struct credit_ledger *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->peer_count; i++)
        n += peer_bytes(&c->peers[i]);
    return n;
}

void credit_grant(struct credit_ledger *c, uint64_t room)
{
    uint64_t items = c->items_held + credit_items_outstanding(c);
    uint64_t bytes = c->bytes_held + credit_bytes_outstanding(c);
    for (size_t idle = 0; c->peer_count > 0 && idle < c->peer_count && items < room; c->turn++) {
        struct credit_peer *p = &c->peers[c->turn % c->peer_count];
        const bool full = p->id_bytes == 0 || less(p->items_granted, p->items_got) >= c->window ||
                          bytes + p->item_bytes > c->bytes_budget;
        idle = full ? idle + 1 : 0;
        if (full)
            continue;
        /* From what came, where a peer sent more than it was granted: credit is never owed. */
        if (p->items_granted < p->items_got)
            p->items_granted = p->items_got;
        const uint64_t outstanding = p->items_granted - p->items_got;
        p->items_granted++;
        const uint64_t before = peer_bytes(p);
        if (p->bytes_granted < p->bytes_got + (outstanding + 1) * p->item_bytes)
            p->bytes_granted = p->bytes_got + (outstanding + 1) * p->item_bytes;
        p->tell = true;
        items++;
        bytes += peer_bytes(p) - before;
    }
    if (c->peer_count > 0)
        c->turn %= c->peer_count;
}

void credit_forget(struct credit_peer *p)
{
    *p = (struct credit_peer){0};
}

void credit_tell_silent(struct credit_ledger *c, int64_t before_ms)
{
    for (size_t i = 0; i < c->peer_count; i++)
        if (c->peers[i].id_bytes > 0 && c->peers[i].heard_ms < before_ms)
            c->peers[i].tell = true;
}

size_t credit_expire(struct credit_ledger *c, int64_t before_ms)
{
    size_t n = 0;
    for (size_t i = 0; i < c->peer_count; i++)
        if (c->peers[i].id_bytes > 0 && c->peers[i].heard_ms < before_ms) {
            credit_forget(&c->peers[i]);
            n++;
        }
    return n;
}
