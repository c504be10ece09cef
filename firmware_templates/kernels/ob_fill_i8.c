#include "ob_move.h"

#include <string.h>

void ob_fill_i8(int32_t value, int32_t n, int8_t *output) { memset(output, value, (size_t)n); }
