#include "ob_elementwise.h"

void ob_maximum_f32(const ob_operands *operands, const float *a, const float *b, float *output) {
  OB_FOR_EACH(operands, a, b, output) { *output = a[j] > b[k] ? a[j] : b[k]; }
}
