#include <string.h>

#include "ob_unary.h"

void ob_abs_f32(const float *input, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    uint32_t bits;
    memcpy(&bits, &input[i], sizeof bits);
    bits &= 0x7FFFFFFFu;
    memcpy(&output[i], &bits, sizeof bits);
  }
}
