#include "ob_elementwise.h"

void ob_prelu_f32(const ob_operands *operands, const float *a, const float *alpha, float *output) {
  OB_FOR_EACH(operands, a, alpha, output) { *output = ob_prelu(a[j], alpha[k]); }
}
