#include "ob_reduce.h"

void ob_mean_f32(const ob_reduce_shape *shape, const float *input, float *output) {
  for (int32_t o = 0; o < shape->outer; ++o, input += shape->count * shape->inner) {
    for (int32_t i = 0; i < shape->inner; ++i) {
      float sum = 0.0f;
      for (int32_t n = 0; n < shape->count; ++n) {
        sum += input[n * shape->inner + i];
      }
      *output++ = sum / (float)shape->count;
    }
  }
}
