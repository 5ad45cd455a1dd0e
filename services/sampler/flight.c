#include "sampler/flight.h"

#include "base/mem.h"

#include <string.h>

void flight_done(struct flight *f)
{
    for (size_t i = 0; i < f->count; i++)
        trajectory_free(f->item[i].trajectory);
    mem_free(f->item);
    memset(f, 0, sizeof *f);
}

void flight_add(struct flight *f, struct trajectory **t, uint64_t bytes)
{
    if (f->count == f->room) {
        f->room = f->room == 0 ? 64 : 2 * f->room;
        f->item = mem_grow(f->item, f->room, sizeof *f->item);
    }
    f->item[f->count++] = (struct flight_item){.trajectory = *t, .bytes = bytes, .sent_ms = -1};
    *t = NULL;
}

bool flight_credit(struct flight *f, const struct credit *c)
{
    const bool opened = c->session != f->session;
    if (opened) {
        f->session = c->session;
        f->items_granted = f->bytes_granted = f->items_sent = f->bytes_sent = 0;
        for (size_t i = 0; i < f->count; i++)
            f->item[i].sent_ms = -1;
    }
    if (c->items > f->items_granted)
        f->items_granted = c->items;
    if (c->bytes > f->bytes_granted)
        f->bytes_granted = c->bytes;
    return opened;
}

bool flight_ack(struct flight *f, const uint8_t id[TRAJECTORY_ID_BYTES])
{
    for (size_t i = 0; i < f->count; i++) {
        if (memcmp(f->item[i].trajectory->id, id, TRAJECTORY_ID_BYTES) != 0)
            continue;
        trajectory_free(f->item[i].trajectory);
        memmove(&f->item[i], &f->item[i + 1], (f->count - i - 1) * sizeof *f->item);
        f->count--;
        return true;
    }
    return false;
}

static bool covered(const struct flight *f, uint64_t bytes)
{
    return f->items_sent < f->items_granted && f->bytes_sent + bytes <= f->bytes_granted;
}

struct flight_item *flight_next(struct flight *f, int64_t now_ms, int64_t resend_ms)
{
    for (size_t i = 0; i < f->count; i++) {
        struct flight_item *item = &f->item[i];
        if (item->sent_ms < 0 || now_ms - item->sent_ms > resend_ms)
            return covered(f, item->bytes) ? item : NULL;
    }
    return NULL;
}

void flight_sent(struct flight *f, struct flight_item *item, int64_t now_ms)
{
    f->items_sent++;
    f->bytes_sent += item->bytes;
    item->sent_ms = now_ms;
}

uint64_t flight_spare(const struct flight *f, uint64_t bytes)
{
    uint64_t items = f->items_granted - f->items_sent;
    uint64_t room = f->bytes_granted - f->bytes_sent;
    for (size_t i = 0; i < f->count; i++)
        if (f->item[i].sent_ms < 0) {
            if (items == 0 || room < f->item[i].bytes)
                return 0;
            items--;
            room -= f->item[i].bytes;
        }
    const uint64_t by_bytes = bytes > 0 ? room / bytes : items;
    return items < by_bytes ? items : by_bytes;
}
