#include "ob_unary.h"

void ob_leaky_relu_f32(const float *input, int32_t n, float alpha, float least, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = input[i] >= least ? input[i] : input[i] * alpha;
  }
}
