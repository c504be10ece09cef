#include "ob_bconv2d_core.h"

void ob_bconv2d_bits(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                     const int32_t *threshold, uint32_t *patch, uint32_t *output) {
  const ob_bconv2d_shape shape = ob_bconv2d_shape_of(params);
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox) {
      const int16_t *correction = ob_bconv2d_gather(params, input, oy, ox, patch);
      for (int32_t first = 0; first < shape.out_channels; first += 32) {
        const int32_t end = ob_min(first + 32, shape.out_channels);
        uint32_t word = 0u;
        for (int32_t o = first; o < end; ++o) {
          const int32_t x = ob_bconv2d_x(&shape, patch, filter, o, correction);
          word = ob_shift_in_sign(word, threshold[o] - x);
        }
        *output++ = word >> (32 - (end - first));
      }
    }
  }
}
