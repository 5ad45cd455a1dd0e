/* A message of raw frames: whatever is accepted says the same when it is packed again.
 * Input: frames, each as a 16-bit little-endian length and its bytes; the last one may be short. */
#include "base/mem.h"
#include "wire/codec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct codec_frame frames[5];
    size_t count = 0;
    while (size >= 2 && count < 5) {
        const size_t want = data[0] | (size_t)data[1] << 8;
        data += 2;
        size -= 2;
        const size_t n = want < size ? want : size;
        frames[count++] = (struct codec_frame){data, n};
        data += n;
        size -= n;
    }
    struct message m = {0}, again = {0};
    struct err e = {0};
    if (codec_get_frames(&m, frames, count, 4096, &e) < 0) {
        if (e.text[0] == 0)
            abort();
        return 0;
    }
    uint8_t envelope[MESSAGE_ENVELOPE_BYTES_MAX];
    const size_t n = codec_put_envelope(&m, envelope);
    const struct codec_frame packed[3] = {
        {envelope, n}, {m.body, m.body_bytes}, {m.payload, m.payload_bytes}};
    if (codec_get_frames(&again, packed, count, 4096, &e) < 0 || again.kind != m.kind ||
        again.request != m.request || again.token != m.token ||
        strcmp(again.run_id, m.run_id) != 0 || strcmp(again.sender, m.sender) != 0)
        abort();
    return 0;
}
