#include "ob_elementwise.h"

void ob_add_f32(const float *a, const float *b, int32_t n, int32_t period, float low, float high, float *output) {
  int32_t k = 0;
  for (int32_t i = 0; i < n; ++i) {
    const float y = a[i] + b[k];
    output[i] = y < low ? low : (y > high ? high : y);
    k = k + 1 == period ? 0 : k + 1;
  }
}
