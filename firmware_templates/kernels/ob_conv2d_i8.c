#include "ob_conv2d_core.h"

void ob_conv2d_i8(const ob_conv2d_params *params, const int8_t *input, const int8_t *filter, const int32_t *bias,
                  const int32_t *q, const int32_t *exponent, const ob_requantize_params *stage, int16_t *patch,
                  int8_t *output) {
  const int32_t taps = params->window.kernel_h * params->window.kernel_w * params->in_channels;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox) {
      ob_conv2d_gather(params, input, oy, ox, patch);
      for (int32_t o = 0; o < params->out_channels; ++o) {
        const int32_t acc = ob_dot_i8(patch, filter + o * taps, taps) + bias[o];
        *output++ = (int8_t)ob_requantize(acc, q[o], exponent[o], stage);
      }
    }
  }
}
