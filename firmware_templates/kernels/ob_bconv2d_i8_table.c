#include "ob_bconv2d_core.h"

void ob_bconv2d_i8_table(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                         const int8_t *table, int32_t columns, int32_t index_shift, uint32_t *patch, int8_t *output) {
  const ob_bconv2d_shape shape = ob_bconv2d_shape_of(params);
  int32_t at = 0;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox, at += params->pitch) {
      int8_t *out = output + at;
      const int16_t *correction = ob_bconv2d_gather(params, input, oy, ox, patch);
      for (int32_t o = 0; o < shape.out_channels; ++o) {
        const int32_t x = ob_bconv2d_x(&shape, patch, filter, o, correction);
        *out++ = table[o * columns + (x >> index_shift)];
      }
    }
  }
}
