#include "ob_exp.h"
#include "ob_softmax.h"

void ob_softmax_f32(const float *input, int32_t rows, int32_t n, float beta, float *output) {
  for (int32_t row = 0; row < rows; ++row, input += n, output += n) {
    float max = input[0];
    for (int32_t i = 1; i < n; ++i) {
      max = input[i] > max ? input[i] : max;
    }
    float sum = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
      const float distance = input[i] - max;
      output[i] = ob_exp_negative(distance * beta);
      sum += output[i];
    }
    for (int32_t i = 0; i < n; ++i) {
      output[i] = output[i] / sum;
    }
  }
}
