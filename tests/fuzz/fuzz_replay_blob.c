/* The stored form of a trajectory as Redis would give it back.  Input: u16 length of the meta
 * string, the meta string, the latents.  The checksum is mended, or no input would get behind it.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "replay/replay_codec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t meta_bytes = data[0] | (size_t)data[1] << 8;
    if (meta_bytes > size - 2)
        meta_bytes = size - 2;
    uint8_t *meta = mem_new(meta_bytes, 1);
    memcpy(meta, data + 2, meta_bytes);
    if (meta_bytes >= 8) {
        const uint32_t crc = hash_crc32c(0, meta, meta_bytes - 4);
        memcpy(meta + meta_bytes - 4, &crc, 4);
    }
    struct trajectory *t = NULL;
    struct err e;
    if (replay_decode(meta, meta_bytes, data + 2 + meta_bytes, size - 2 - meta_bytes, &t, &e) ==
        0) {
        uint8_t *again;
        size_t bytes;
        uint32_t identity;
        /* What was accepted is written back to the same bytes. */
        if (replay_encode(t, &again, &bytes, &identity, &e) < 0 || bytes != meta_bytes ||
            memcmp(again, meta, bytes) != 0)
            abort();
        mem_free(again);
    }
    trajectory_free(t);
    mem_free(meta);
    return 0;
}
