#include "ob_exp.h"
#include "ob_sigmoid.h"

void ob_logistic_f32(const float *input, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    const float small = ob_exp_negative(input[i] < 0.0f ? input[i] : -input[i]);
    output[i] = (input[i] < 0.0f ? small : 1.0f) / (1.0f + small);
  }
}
