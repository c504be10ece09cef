#include "ob_softmax.h"

void ob_softmax_i8(const int8_t *input, int32_t rows, int32_t n, const float *table, int8_t *output) {
  for (int32_t row = 0; row < rows; ++row, input += n, output += n) {
    int32_t max = input[0];
    for (int32_t i = 1; i < n; ++i) {
      max = ob_max(max, input[i]);
    }
    float sum = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
      sum += table[max - input[i]];
    }
    const float scaled = sum * (1.0f / 256.0f);
    const float inverse = 1.0f / scaled;
    for (int32_t i = 0; i < n; ++i) {
      const float p = table[max - input[i]] * inverse;
      /* p is not negative, so truncation is floor */
      output[i] = (int8_t)ob_min((int32_t)(p + 0.5f) - 128, 127);
    }
  }
}
