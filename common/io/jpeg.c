#include "io/jpeg.h"

#include "base/mem.h"

#include <assert.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

/* libjpeg leaves by error_exit; the default one ends the process. */
struct jpeg_door {
    struct jpeg_error_mgr base; /* first: libjpeg hands back a pointer to it */
    jmp_buf back;
    char why[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr common)
{
    struct jpeg_door *door = (struct jpeg_door *)(void *)common->err;
    common->err->format_message(common, door->why);
    longjmp(door->back, 1);
}

static void on_message(j_common_ptr common)
{
    (void)common; /* warnings concern decoding */
}

int jpeg_encode(uint8_t **bytes, size_t *size, const struct image *image, int quality,
                struct err *e)
{
    assert(quality >= 1 && quality <= 100);
    struct jpeg_door door;
    struct jpeg_compress_struct *jpeg = mem_new(1, sizeof *jpeg);
    unsigned char *file = NULL; /* libjpeg's, from malloc; written through its address only */
    unsigned long file_bytes = 0;
    volatile int rc = -1;
    jpeg->err = jpeg_std_error(&door.base);
    door.base.error_exit = on_error;
    door.base.output_message = on_message;
    if (setjmp(door.back) != 0) {
        err_set(e, ERR_INVALID, "jpeg: %s", door.why);
        goto out;
    }
    jpeg_create_compress(jpeg);
    jpeg_mem_dest(jpeg, &file, &file_bytes);
    jpeg->image_width = (JDIMENSION)image->width;
    jpeg->image_height = (JDIMENSION)image->height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(
        jpeg); /* 4:2:0, islow, standard Huffman tables: PIL's defaults are libjpeg's */
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = image->rgb + (size_t)jpeg->next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    *size = file_bytes;
    if (bytes != NULL) {
        *bytes = mem_new(file_bytes, 1);
        memcpy(*bytes, file, file_bytes);
    }
    rc = 0;
out:
    jpeg_destroy_compress(jpeg);
    mem_free(file);
    mem_free(jpeg);
    return rc;
}
