#include <string.h>

#include "ob_conv2d_core.h"

void ob_conv2d_i8_dsp(const ob_conv2d_params *params, const int8_t *input, const uint32_t *filter, const int32_t *bias,
                      const int32_t *q, const int32_t *exponent, const ob_requantize_params *stage, uint32_t *patch,
                      int8_t *output) {
  const int32_t taps = params->window.kernel_h * params->window.kernel_w * params->in_channels;
  const int32_t pairs = (taps + 1) / 2;
  const int32_t outputs = params->out_channels;
  const ob_requantize_params to_int8 = *stage;
  memset(patch + (pairs - 1), 0, sizeof *patch); /* the odd element out; the gather fills the rest */
  int32_t at = 0;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox, at += params->pitch) {
      int8_t *out = output + at;
      ob_conv2d_gather(params, input, oy, ox, (int16_t *)(void *)patch);
      for (int32_t o = 0; o < outputs; o += 4) {
        int32_t acc[4] = {0, 0, 0, 0};
        ob_dot4_pairs(patch, filter + o * pairs, pairs, acc);
        for (int32_t i = 0; i < ob_min(4, outputs - o); ++i) {
          *out++ = (int8_t)ob_requantize(acc[i] + bias[o + i], q[o + i], exponent[o + i], o + i, &to_int8);
        }
      }
    }
  }
}
