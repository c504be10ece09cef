#include "ob_move.h"

void ob_fill_f32(float value, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = value;
  }
}
