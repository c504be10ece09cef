#include "ob_move.h"

#include <string.h>

void ob_resize_nearest(const ob_resize_params *params, const int32_t *row, const int32_t *col, const void *input,
                       void *output) {
  const size_t pixel = (size_t)params->pixel;
  uint8_t *out = output;
  for (int32_t y = 0; y < params->out_h; ++y) {
    const uint8_t *line = (const uint8_t *)input + row[y] * params->in_w * params->pixel;
    for (int32_t x = 0; x < params->out_w; ++x) {
      memcpy(out, line + col[x] * params->pixel, pixel);
      out += pixel;
    }
  }
}
