#include "ob_unary.h"

void ob_table_i8(const int8_t *input, int32_t n, const int8_t *table, int8_t *output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = table[input[i] + 128];
  }
}
