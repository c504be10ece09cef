/* The part of <string.h> that generated models and kernels may use, for compilers that come without a C library. */
#ifndef ONEBIT_STRING_H
#define ONEBIT_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
