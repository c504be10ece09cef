#include "ob_bconv2d_core.h"

void ob_bconv2d_f32(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                    const float *multiplier, const float *bias, int32_t low, int32_t high, uint32_t *patch,
                    float *output) {
  const ob_bconv2d_shape shape = ob_bconv2d_shape_of(params);
  int32_t at = 0;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox, at += params->pitch) {
      float *out = output + at;
      const int16_t *correction = ob_bconv2d_gather(params, input, oy, ox, patch);
      for (int32_t o = 0; o < shape.out_channels; ++o) {
        const int32_t x = ob_bconv2d_x(&shape, patch, filter, o, correction);
        const float product = (float)ob_clamp(x, low, high) * multiplier[o];
        *out++ = product + bias[o];
      }
    }
  }
}
