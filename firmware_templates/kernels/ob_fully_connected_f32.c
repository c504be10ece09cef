#include "ob_fully_connected.h"

void ob_fully_connected_f32(const ob_fully_connected_params *params, const float *input, const float *filter,
                            const float *bias, float low, float high, float *output) {
  for (int32_t o = 0; o < params->outputs; ++o) {
    float sum = 0.0f;
    for (int32_t i = 0; i < params->inputs; ++i) {
      const float product = input[i] * filter[o * params->inputs + i];
      sum += product;
    }
    sum += bias[o];
    output[o] = sum < low ? low : (sum > high ? high : sum);
  }
}
