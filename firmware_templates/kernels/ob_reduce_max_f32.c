#include "ob_reduce.h"

void ob_reduce_max_f32(const ob_reduce_shape *shape, const float *input, float lowest, bool backwards,
                       float *output) {
  const int32_t step = backwards ? -shape->inner : shape->inner;
  const int32_t first = backwards ? (shape->count - 1) * shape->inner : 0;
  for (int32_t o = 0; o < shape->outer; ++o, input += shape->count * shape->inner) {
    for (int32_t i = 0; i < shape->inner; ++i) {
      const float *x = input + first + i;
      float best = *x < lowest ? lowest : *x;
      for (int32_t n = 1; n < shape->count; ++n) {
        const float v = x[n * step];
        best = best > v ? best : v;
      }
      *output++ = best;
    }
  }
}
