#include "ob_elementwise.h"
#include "ob_requantize.h"

void ob_prelu_i8(const ob_prelu_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *alpha,
                 int8_t *output) {
  /* copies, which writing int8 cannot change */
  const ob_prelu_i8_params p = *params;
  const ob_operands each = *operands;
  OB_FOR_EACH(&each, a, alpha, output) {
    const int32_t x = a[j] - p.zero_a;
    const ob_factor *factor = x >= 0 ? &p.positive : &p.negative;
    const int32_t value = x >= 0 ? x : x * (alpha[k] - p.zero_alpha);
    const int32_t y = ob_scale(value, factor->q, factor->exponent, true) + p.zero_point;
    *output = (int8_t)ob_clamp(y, -128, 127);
  }
}
