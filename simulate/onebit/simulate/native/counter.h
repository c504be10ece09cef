/* Executed instructions, counted per address and per slot: the one implementation behind both emulators' hooks.
 *
 * The program's functions are marked with slots. Executing an instruction inside a marked range makes its slot the
 * current one; code that carries no mark (kernels, memcpy) counts for the slot that was current when it was entered. So a
 * layer's slot holds the layer function and all that it calls, and control returning to the caller switches back. */
#ifndef ONEBIT_COUNTER_H
#define ONEBIT_COUNTER_H

#include <stdint.h>

typedef struct onebit_counter onebit_counter;

/* Counts instructions at addresses [base, base + bytes) one by one, and all of them in `slots` slots; NULL: no memory. */
onebit_counter *onebit_counter_new(uint64_t base, uint64_t bytes, uint32_t slots);
void onebit_counter_free(onebit_counter *counter);

/* Gives [start, start + size) to `slot`; 0: done, -1: the range or the slot lies outside. */
int onebit_counter_mark(onebit_counter *counter, uint64_t start, uint64_t size, uint32_t slot);

/* Records one executed instruction. */
void onebit_counter_step(onebit_counter *counter, uint64_t address);

/* Instructions in each slot [slots], and at each address [bytes]. */
const uint64_t *onebit_counter_slots(const onebit_counter *counter);
const uint64_t *onebit_counter_hits(const onebit_counter *counter);

#endif
