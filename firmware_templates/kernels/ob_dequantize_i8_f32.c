#include "ob_affine.h"

void ob_dequantize_i8_f32(const int8_t *input, int32_t n, int32_t blocks, float scale, float offset,
                          int32_t zero_point, float *output) {
  for (int32_t i = 0; i < blocks; ++i) {
    const float product = (float)input[i] * scale;
    output[i] = product + offset;
  }
  for (int32_t i = blocks; i < n; ++i) {
    output[i] = (float)(input[i] - zero_point) * scale;
  }
}
