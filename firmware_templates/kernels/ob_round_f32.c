#include "ob_unary.h"

static float nearest(float x) {
  /* from 2^23 on every float is an integer; NaN goes the same way */
  if (!(x > -8388608.0f && x < 8388608.0f)) {
    return x;
  }
  const int32_t whole = (int32_t)x;
  if ((float)whole == x) {
    return x; /* -0 too */
  }
  const int32_t floor = whole - (x < 0.0f ? 1 : 0);
  const float rest = x - (float)floor;
  return (float)(floor + (rest > 0.5f || (rest >= 0.5f && floor % 2 != 0) ? 1 : 0));
}

void ob_round_f32(const float *input, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = nearest(input[i]);
  }
}
