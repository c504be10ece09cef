#include "ob_elementwise.h"

void ob_prelu_i8(const ob_prelu_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *alpha,
                 int8_t *output) {
  /* copies, which writing int8 cannot change */
  const ob_prelu_i8_params p = *params;
  const ob_operands each = *operands;
  OB_FOR_EACH(&each, a, alpha, output) { *output = ob_prelu_quantized(&p, a[j], alpha[k]); }
}
