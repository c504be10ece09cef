#include "ob_affine.h"

/* Beyond every int8 value, whatever the zero point. */
#define FAR 512.0f

void ob_quantize_f32_i8_scalar(const float *input, int32_t n, float scale, int32_t zero_point, int8_t *output) {
  for (int32_t i = 0; i < n; ++i) {
    const float quotient = input[i] / scale;
    const float low = quotient > -FAR ? quotient : -FAR;
    const float x = low < FAR ? low : FAR;
    /* the fraction is exact, so comparing it with 1/2 rounds half away from zero */
    const int32_t whole = (int32_t)x;
    const float rest = x - (float)whole;
    const int32_t steps = whole + (rest >= 0.5f) - (rest <= -0.5f);
    output[i] = (int8_t)ob_clamp(steps + zero_point, -128, 127);
  }
}
