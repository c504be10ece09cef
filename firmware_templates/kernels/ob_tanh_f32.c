#include "ob_exp.h"
#include "ob_sigmoid.h"

/* Next to 0 an odd polynomial, since 1 - e loses the digits of a small result; else (1 - e) / (1 + e), e = exp(-2|x|). */
static float tanh_of(float x) {
  const float size = x < 0.0f ? -x : x;
  if (size < 0.625f) {
    const float z = x * x;
    float p = -0x1.76ac98p-8f;
    p = p * z + 0x1.52572ap-6f;
    p = p * z - 0x1.b84460p-5f;
    p = p * z + 0x1.11076ap-3f;
    p = p * z - 0x1.555534p-2f;
    return x + x * z * p;
  }
  const float e = ob_exp_negative(-2.0f * size);
  const float y = 1.0f - 2.0f * e / (1.0f + e);
  return x < 0.0f ? -y : y;
}

void ob_tanh_f32(const float *input, int32_t n, float *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = tanh_of(input[i]);
  }
}
