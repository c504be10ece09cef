#include "ob_depthwise_conv2d_core.h"

void ob_depthwise_conv2d_f32(const ob_depthwise_conv2d_params *params, const float *input, const float *filter,
                             const float *bias, float low, float high, ob_depthwise_tap *taps, float *output) {
  const int32_t outputs = params->in_channels * params->multiplier;
  int32_t at = 0;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox, at += params->pitch) {
      float *out = output + at;
      const int32_t count = ob_depthwise_list(params, oy, ox, taps);
      for (int32_t o = 0; o < outputs; ++o) {
        const int32_t channel = o / params->multiplier;
        float sum = 0.0f;
        for (int32_t i = 0; i < count; ++i) {
          const float product = input[taps[i].x + channel] * filter[taps[i].w + o];
          sum += product;
        }
        sum += bias[o];
        *out++ = sum < low ? low : (sum > high ? high : sum);
      }
    }
  }
}
