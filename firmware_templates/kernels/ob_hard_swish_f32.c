#include "ob_sigmoid.h"

void ob_hard_swish_f32(const float *input, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    const float gate = input[i] + 3.0f;
    output[i] = input[i] * (gate < 0.0f ? 0.0f : (gate > 6.0f ? 6.0f : gate)) / 6.0f;
  }
}
