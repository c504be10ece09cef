#include "ob_affine.h"

/* Beyond every int8 value, whatever the zero point. */
#define FAR 512.0f

static int8_t saturate(int32_t steps, int32_t zero_point) { return (int8_t)ob_clamp(steps + zero_point, -128, 127); }

static int32_t nearest_even(float x) {
  if (!(x > -FAR)) {
    return -512;
  }
  /* the sum has no bits below 1 */
  const float shifted = (x < FAR ? x : FAR) + 0x1.8p23f;
  return (int32_t)(shifted - 0x1.8p23f);
}

/* x / scale rounded half away from zero. The quotient's integer part may be one off only next to an integer, where
 * comparing with the middle between two integers still finds the nearest. `high` is the upper half of scale's digits,
 * so that edge * high and the rest edge * low are exact. */
static int32_t nearest_away(float x, float scale, float high) {
  const float size = x < 0.0f ? -x : x;
  const float quotient = size / scale;
  if (!(quotient < FAR)) {
    return x > 0.0f ? 512 : -512;
  }
  const int32_t whole = (int32_t)quotient;
  const float edge = (float)whole + 0.5f;
  const float above = size - edge * high;
  const int32_t steps = whole + (above >= edge * (scale - high) ? 1 : 0);
  return x < 0.0f ? -steps : steps;
}

void ob_quantize_f32_i8(const float *input, int32_t n, float scale, float inverse, int32_t zero_point,
                        int8_t *output) {
  const int32_t blocks = n - n % 8;
  const float split = scale * 0x1.001p12f;
  const float high = split - (split - scale);
  for (int32_t i = 0; i < blocks; ++i) {
    output[i] = saturate(nearest_even(input[i] * inverse), zero_point);
  }
  for (int32_t i = blocks; i < n; ++i) {
    output[i] = saturate(nearest_away(input[i], scale, high), zero_point);
  }
}
