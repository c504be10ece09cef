#include "ob_softmax.h"

#include <string.h>

/* exp(x) for x <= 0; 0 below the smallest normal result. x = k ln 2 + r, ln 2 in two parts so that r is accurate. */
static float exp_negative(float x) {
  if (x < -87.0f) {
    return 0.0f;
  }
  const int32_t k = (int32_t)(x * 0x1.715476p+0f - 0.5f);
  const float kf = (float)k;
  const float high = kf * 0x1.62e4p-1f;
  const float low = kf * 0x1.7f7d1cp-20f;
  const float r = (x - high) - low;
  float p = 0x1.6c16c2p-10f;
  p = p * r + 0x1.111112p-7f;
  p = p * r + 0x1.555556p-5f;
  p = p * r + 0x1.555556p-3f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const uint32_t bits = (uint32_t)(k + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

void ob_softmax_f32(const float *input, int32_t rows, int32_t n, float beta, float *output) {
  for (int32_t row = 0; row < rows; ++row, input += n, output += n) {
    float max = input[0];
    for (int32_t i = 1; i < n; ++i) {
      max = input[i] > max ? input[i] : max;
    }
    float sum = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
      const float distance = input[i] - max;
      output[i] = exp_negative(distance * beta);
      sum += output[i];
    }
    for (int32_t i = 0; i < n; ++i) {
      output[i] = output[i] / sum;
    }
  }
}
