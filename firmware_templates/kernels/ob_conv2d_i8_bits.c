#include "ob_conv2d_core.h"

void ob_conv2d_i8_bits(const ob_conv2d_params *params, const int8_t *input, const int8_t *filter,
                       const int32_t *threshold, int16_t *patch, uint32_t *output) {
  const int32_t taps = params->window.kernel_h * params->window.kernel_w * params->in_channels;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox) {
      ob_conv2d_gather(params, input, oy, ox, patch);
      for (int32_t first = 0; first < params->out_channels; first += 32) {
        const int32_t end = ob_min(first + 32, params->out_channels);
        uint32_t word = 0u;
        for (int32_t o = first; o < end; ++o) {
          const int32_t acc = ob_dot_i8(patch, filter + o * taps, taps);
          word |= (uint32_t)(acc < threshold[o]) << (uint32_t)(o - first);
        }
        *output++ = word;
      }
    }
  }
}
