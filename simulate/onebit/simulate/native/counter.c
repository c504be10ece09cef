#include "counter.h"

#include <stdlib.h>

#define UNMARKED 0xFFFFFFFFu

struct onebit_counter {
    uint64_t base;
    uint64_t bytes;
    uint32_t slots;
    uint32_t current;
    uint32_t *slot_at; /* [bytes], UNMARKED or a slot */
    uint64_t *hits;    /* [bytes] */
    uint64_t *counts;  /* [slots] */
};

onebit_counter *onebit_counter_new(uint64_t base, uint64_t bytes, uint32_t slots)
{
    onebit_counter *counter = calloc(1, sizeof *counter);
    if (counter == NULL) {
        return NULL;
    }
    counter->base = base;
    counter->bytes = bytes;
    counter->slots = slots;
    counter->slot_at = malloc((size_t)bytes * sizeof *counter->slot_at);
    counter->hits = calloc((size_t)bytes, sizeof *counter->hits);
    counter->counts = calloc(slots, sizeof *counter->counts);
    if (counter->slot_at == NULL || counter->hits == NULL || counter->counts == NULL) {
        onebit_counter_free(counter);
        return NULL;
    }
    for (uint64_t i = 0; i < bytes; i++) {
        counter->slot_at[i] = UNMARKED;
    }
    return counter;
}

void onebit_counter_free(onebit_counter *counter)
{
    free(counter->slot_at);
    free(counter->hits);
    free(counter->counts);
    free(counter);
}

int onebit_counter_mark(onebit_counter *counter, uint64_t start, uint64_t size, uint32_t slot)
{
    if (slot >= counter->slots || start < counter->base || size > counter->bytes ||
        start - counter->base > counter->bytes - size) {
        return -1;
    }
    for (uint64_t i = 0; i < size; i++) {
        counter->slot_at[start - counter->base + i] = slot;
    }
    return 0;
}

void onebit_counter_step(onebit_counter *counter, uint64_t address)
{
    const uint64_t i = address - counter->base; /* below base wraps to a huge index */
    if (i < counter->bytes) {
        counter->hits[i]++;
        if (counter->slot_at[i] != UNMARKED) {
            counter->current = counter->slot_at[i];
        }
    }
    counter->counts[counter->current]++;
}

const uint64_t *onebit_counter_slots(const onebit_counter *counter)
{
    return counter->counts;
}

const uint64_t *onebit_counter_hits(const onebit_counter *counter)
{
    return counter->hits;
}
