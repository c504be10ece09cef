#include "ob_conv2d_core.h"

void ob_conv2d_i8_bits(const ob_conv2d_params *params, const int8_t *input, const int8_t *filter,
                       const int32_t *threshold, int16_t *patch, uint32_t *output) {
  const int32_t taps = params->window.kernel_h * params->window.kernel_w * params->in_channels;
  const int32_t outputs = params->out_channels;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox) {
      ob_conv2d_gather(params, input, oy, ox, patch);
      uint32_t word = 0u;
      for (int32_t o = 0; o < outputs; o += 4) {
        int32_t acc[4] = {0, 0, 0, 0};
        ob_dot4_i8(patch, filter, taps, o, outputs, acc);
        for (int32_t i = 0; i < ob_min(4, outputs - o); ++i) {
          word = ob_shift_in_sign(word, acc[i] - threshold[o + i]);
        }
        if (o % 32 == 28 || o + 4 >= outputs) {
          *output++ = word >> (31 - (ob_min(o + 4, outputs) - 1) % 32);
          word = 0u;
        }
      }
    }
  }
}
