#include <string.h>

#include "ob_conv2d_core.h"

void ob_conv2d_i8_bits_dsp(const ob_conv2d_params *params, const int8_t *input, const uint32_t *filter,
                           const int32_t *threshold, uint32_t *patch, uint32_t *output) {
  const int32_t taps = params->window.kernel_h * params->window.kernel_w * params->in_channels;
  const int32_t pairs = (taps + 1) / 2;
  const int32_t outputs = params->out_channels;
  memset(patch + (pairs - 1), 0, sizeof *patch); /* the odd element out; the gather fills the rest */
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox) {
      ob_conv2d_gather(params, input, oy, ox, (int16_t *)(void *)patch);
      const uint32_t *quad = filter;
      const int32_t *limit = threshold;
      for (int32_t first = 0; first < outputs; first += 32) {
        const int32_t end = ob_min(32, outputs - first);
        uint32_t word = 0u;
        for (int32_t i = 0; i < end; i += 4, quad += 4 * pairs, limit += 4) {
          /* acc - threshold, of which only the sign counts */
          int32_t acc[4] = {-limit[0], -limit[1], -limit[2], -limit[3]};
          ob_dot4_pairs(patch, quad, pairs, acc);
          word = ob_shift_in_sign(word, acc[0]);
          word = ob_shift_in_sign(word, acc[1]);
          word = ob_shift_in_sign(word, acc[2]);
          word = ob_shift_in_sign(word, acc[3]);
        }
        *output++ = word >> ((32 - end) & ~3);
      }
    }
  }
}
