#include "ob_move.h"

#include <string.h>

/* The innermost loop, once for each size of a single element: a copy of known size becomes a move. A longer run may
 * overlap its copy where both hold the same bytes, as the parts of a join in which a value stands several times do. */
static void copy_runs(ob_copy_axis axis, int32_t run, const uint8_t *in, uint8_t *out) {
  if (run == 1) {
    for (int32_t i = 0; i < axis.count; ++i) {
      out[i * axis.out_step] = in[i * axis.in_step];
    }
  } else if (run == 4) {
    for (int32_t i = 0; i < axis.count; ++i) {
      memcpy(out + i * axis.out_step, in + i * axis.in_step, 4);
    }
  } else {
    for (int32_t i = 0; i < axis.count; ++i) {
      memmove(out + i * axis.out_step, in + i * axis.in_step, (size_t)run);
    }
  }
}

void ob_copy_strided(const ob_copy_params *params, const void *input, void *output) {
  const ob_copy_axis a = params->axis0, b = params->axis1, c = params->axis2;
  const uint8_t *in = (const uint8_t *)input + params->in_start;
  uint8_t *out = (uint8_t *)output + params->out_start;
  for (int32_t i = 0; i < a.count; ++i) {
    for (int32_t j = 0; j < b.count; ++j) {
      for (int32_t k = 0; k < c.count; ++k) {
        copy_runs(params->axis3, params->run, in + (i * a.in_step + j * b.in_step + k * c.in_step),
                  out + (i * a.out_step + j * b.out_step + k * c.out_step));
      }
    }
  }
}
