#include "ob_bconv2d_core.h"

void ob_bconv2d_i8_segments(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                            const int32_t *first, const int32_t *segments, uint32_t *patch, int8_t *output) {
  const ob_bconv2d_shape shape = ob_bconv2d_shape_of(params);
  int32_t at = 0;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox, at += params->pitch) {
      int8_t *out = output + at;
      const int16_t *correction = ob_bconv2d_gather(params, input, oy, ox, patch);
      for (int32_t o = 0; o < shape.out_channels; ++o) {
        const int32_t x = ob_bconv2d_x(&shape, patch, filter, o, correction);
        const int32_t *segment = segments + 3 * first[o];
        while (x >= segment[0]) {
          segment += 3;
        }
        const uint32_t y = (uint32_t)x * (uint32_t)segment[1] + (uint32_t)segment[2];
        *out++ = (int8_t)((int32_t)(y >> 24) - 128);
      }
    }
  }
}
