#include "ob_compare.h"
#include "ob_requantize.h"

void ob_greater_i8(const ob_greater_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *b,
                   bool *output) {
  OB_FOR_EACH(operands, a, b, output) {
    const int32_t x = ob_scale((a[j] - params->zero_a) * 256, params->q_a, params->exponent_a, true);
    const int32_t y = ob_scale((b[k] - params->zero_b) * 256, params->q_b, params->exponent_b, true);
    *output = x + params->or_equal > y;
  }
}
