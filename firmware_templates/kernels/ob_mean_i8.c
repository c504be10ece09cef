#include "ob_reduce.h"

void ob_mean_i8(const ob_reduce_shape *shape, const int8_t *input, int32_t start, int32_t q, int32_t exponent,
                const ob_requantize_params *stage, int8_t *output) {
  for (int32_t o = 0; o < shape->outer; ++o, input += shape->count * shape->inner) {
    for (int32_t i = 0; i < shape->inner; ++i) {
      int32_t sum = -start;
      for (int32_t n = 0; n < shape->count; ++n) {
        sum += input[n * shape->inner + i];
      }
      *output++ = (int8_t)ob_requantize(sum, q, exponent, i, stage);
    }
  }
}
