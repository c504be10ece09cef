#include "ob_compare.h"

void ob_greater_f32(const ob_operands *operands, const float *a, const float *b, bool *output) {
  OB_FOR_EACH(operands, a, b, output) { *output = a[j] > b[k]; }
}
