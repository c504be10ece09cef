#include "ob_elementwise.h"

#define MINUS_ZERO 0x80000000u

/* The bits of what is not below 0, -0 included, are not above those of -0; a NaN stays one on either side. */
void ob_prelu_f32(const ob_operands *operands, const float *a, const float *alpha, float *output) {
  OB_FOR_EACH(operands, a, alpha, output) { *output = ob_bits_of(a[j]) <= MINUS_ZERO ? a[j] : a[j] * alpha[k]; }
}
