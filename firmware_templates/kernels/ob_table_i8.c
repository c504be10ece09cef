#include "ob_unary.h"

void ob_table_i8(const int8_t *input, int32_t runs, int32_t length, int32_t pitch_in, int32_t pitch_out,
                 const int8_t *table, int8_t *output) {
  for (int32_t n = 0; n < runs; ++n, input += pitch_in, output += pitch_out) {
    for (int32_t i = 0; i < length; ++i) {
      output[i] = table[input[i] + 128];
    }
  }
}
