#include "ob_layout.h"

#include <string.h>

void ob_copy(const void *input, int32_t n, void *output) { memcpy(output, input, (size_t)n); }
