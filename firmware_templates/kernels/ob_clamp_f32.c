#include "ob_unary.h"

void ob_clamp_f32(const float *input, int32_t n, float low, float high, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    const float x = input[i];
    output[i] = x < low ? low : (x > high ? high : x);
  }
}
