#include "ob_fully_connected.h"

void ob_fully_connected_i8(const ob_fully_connected_params *params, const int8_t *input, const int8_t *filter,
                           const int32_t *bias, const int32_t *q, const int32_t *exponent,
                           const ob_requantize_params *stage, int8_t *output) {
  for (int32_t o = 0; o < params->outputs; ++o) {
    int32_t acc = bias[o];
    for (int32_t i = 0; i < params->inputs; ++i) {
      acc += (input[i] - params->zero_point) * filter[o * params->inputs + i];
    }
    output[o] = (int8_t)ob_requantize(acc, q[o], exponent[o], o, stage);
  }
}
