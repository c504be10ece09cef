#include "ob_reduce.h"

void ob_reduce_max_f32(const ob_reduce_shape *shape, const float *input, float *output) {
  for (int32_t o = 0; o < shape->outer; ++o, input += shape->count * shape->inner) {
    for (int32_t i = 0; i < shape->inner; ++i) {
      float best = input[i];
      for (int32_t n = 1; n < shape->count; ++n) {
        const float v = input[n * shape->inner + i];
        best = best > v ? best : v; /* of equal values, -0 and 0, the last */
      }
      *output++ = best;
    }
  }
}
