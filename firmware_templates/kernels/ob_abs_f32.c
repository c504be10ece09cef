#include "ob_unary.h"

void ob_abs_f32(const float *input, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = ob_float_of(ob_bits_of(input[i]) & 0x7FFFFFFFu);
  }
}
