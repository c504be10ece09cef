#include "ob_unary.h"

void ob_sign_f32(const float *input, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = input[i] > 0.0f ? 1.0f : (input[i] < 0.0f ? -1.0f : 0.0f);
  }
}
