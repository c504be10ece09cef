/* Two operands of an element by element operator, of which one may repeat. */
#ifndef OB_OPERANDS_H
#define OB_OPERANDS_H

#include "ob_common.h"

/* The output is `runs` runs of `length` elements. An operand moves on by `next` from one element to the next (1, or 0
 * for a single value) and by `step` from one run to the next (`length`, or 0 if it repeats). */
typedef struct {
  int32_t runs, length;
  int32_t next_a, step_a, next_b, step_b;
} ob_operands;

/* The statement that follows is executed for every output element *output, element i of its run, whose operands are
 * a[j] and b[k]. */
#define OB_FOR_EACH(operands, a, b, output)                                                                  \
  for (int32_t run = 0; run < (operands)->runs; ++run, (a) += (operands)->step_a, (b) += (operands)->step_b) \
    for (int32_t i = 0, j = 0, k = 0; i < (operands)->length;                                                \
         ++i, j += (operands)->next_a, k += (operands)->next_b, ++(output))

/* The statement that follows is executed for every channel i of every pixel, the last one of each word first, with
 * operands a[i] and b[i] and the result output[i]; it appends the channel's sign to `word`: 2 * word + bit. A run is a
 * pixel. `word` is 0 before and after. */
#define OB_FOR_EACH_SIGN(operands, a, b, output, bits, word)                                      \
  for (int32_t run = 0; run < (operands)->runs;                                                   \
       ++run, (a) += (operands)->step_a, (b) += (operands)->step_b, (output) += (operands)->length) \
    for (int32_t first = 0; first < (operands)->length; first += 32, *(bits)++ = (word), (word) = 0u) \
      for (int32_t i = ob_min(first + 32, (operands)->length) - 1; i >= first; --i)

#endif
