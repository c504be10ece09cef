#include "ob_elementwise.h"

void ob_mul_i8(const ob_mul_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *b,
               int8_t *output) {
  OB_FOR_EACH(operands, a, b, output) {
    const int32_t product = (a[j] - params->zero_a) * (b[k] - params->zero_b);
    const int32_t y = ob_scale(product, params->output.q, params->output.exponent, true) + params->zero_point;
    *output = (int8_t)ob_clamp(y, params->low, params->high);
  }
}
