#include "ob_elementwise.h"

void ob_maximum_i8(const ob_operands *operands, const int8_t *a, const int8_t *b, int8_t *output) {
  OB_FOR_EACH(operands, a, b, output) { *output = a[j] > b[k] ? a[j] : b[k]; }
}
