#include "ob_softmax.h"

#include <string.h>

/* exp(x) for x <= 0; 0 below the smallest normal result. x = k ln 2 + r, ln 2 in two parts so that r is accurate.
 * exp(r) = 1 + (r + r^2 q(r)): the polynomial q, of degree 4, has the least relative error of the whole on
 * |r| <= ln(2)/2 (2^-28), and the small terms are added first. Over all floats in [-87, 0] the error is below 1 ULP, and
 * the result never falls as x rises. */
static float exp_negative(float x) {
  if (x < -87.0f) {
    return 0.0f;
  }
  const int32_t k = (int32_t)(x * 0x1.715476p+0f - 0.5f);
  const float kf = (float)k;
  const float high = kf * 0x1.62e4p-1f;
  const float low = kf * 0x1.7f7d1cp-20f;
  const float r = (x - high) - low;
  float q = 0x1.6a2434p-10f;
  q = q * r + 0x1.1239e2p-7f;
  q = q * r + 0x1.5558f2p-5f;
  q = q * r + 0x1.555492p-3f;
  q = q * r + 0x1.fffffcp-2f;
  const float p = 1.0f + (r + r * r * q);
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
