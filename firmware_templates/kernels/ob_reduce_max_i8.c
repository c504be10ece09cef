#include "ob_reduce.h"

void ob_reduce_max_i8(const ob_reduce_shape *shape, const int8_t *input, int8_t *output) {
  for (int32_t o = 0; o < shape->outer; ++o, input += shape->count * shape->inner) {
    for (int32_t i = 0; i < shape->inner; ++i) {
      int8_t best = input[i];
      for (int32_t n = 1; n < shape->count; ++n) {
        const int8_t v = input[n * shape->inner + i];
        best = v > best ? v : best;
      }
      *output++ = best;
    }
  }
}
