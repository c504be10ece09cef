/* Moving elements without arithmetic: slices, joins, transpositions, borders, nearest neighbours.
 *
 * A copy is four nested loops, axis0 outermost, around a run of contiguous bytes. Starts, steps and runs count bytes;
 * an in_step may be negative. All elements of the output that are covered are written once.
 */
#ifndef OB_MOVE_H
#define OB_MOVE_H

#include "ob_common.h"

typedef struct {
  int32_t count, in_step, out_step;
} ob_copy_axis;

typedef struct {
  int32_t run, in_start, out_start;
  ob_copy_axis axis0, axis1, axis2, axis3;
} ob_copy_params;

/* Copy a regular part of the input to a regular part of the output. They may overlap where that changes no byte of the
 * input. */
void ob_copy_strided(const ob_copy_params *params, const void *input, void *output);

/* n elements of one value; value is in -128..127. */
void ob_fill_i8(int32_t value, int32_t n, int8_t *output);
void ob_fill_f32(float value, int32_t n, float *output);

/* n words of packed signs; value 0 is +1. */
void ob_fill_bits(uint32_t value, int32_t n, uint32_t *output);

/* One pixel has `pixel` bytes. */
typedef struct {
  int32_t in_w, out_h, out_w, pixel;
} ob_resize_params;

/* [H, W, C] to [out_h, out_w, C]: pixel (y, x) of the output is pixel (row[y], col[x]) of the input. */
void ob_resize_nearest(const ob_resize_params *params, const int32_t *row, const int32_t *col, const void *input,
                       void *output);

#endif
