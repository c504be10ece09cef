#include "ob_bconv2d_core.h"

/* Round half away from zero to int8. Truncation and the remainder are exact, unlike y + 0.5f. */
static int8_t round_saturate(float y) {
  if (y >= 127.0f) {
    return 127;
  }
  if (y <= -128.0f) {
    return -128;
  }
  const int32_t whole = (int32_t)y;
  const float rest = y - (float)whole;
  return (int8_t)(whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0));
}

void ob_bconv2d_i8_float(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                         const float *multiplier, const float *bias, int32_t low, int32_t high, uint32_t *patch,
                         int8_t *output) {
  const ob_bconv2d_shape shape = ob_bconv2d_shape_of(params);
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox) {
      const int32_t outside = ob_bconv2d_gather(params, input, oy, ox, patch);
      for (int32_t o = 0; o < shape.out_channels; ++o) {
        const int32_t x = ob_bconv2d_x(params, &shape, patch, filter, o, oy, ox, outside);
        const float product = (float)ob_clamp(x, low, high) * multiplier[o];
        *output++ = round_saturate(product + bias[o]);
      }
    }
  }
}
