/* The UC_HOOK_CODE callback: unicorn calls it before each instruction, with no Python in between.
 *
 * Inside an IT block unicorn calls the hook only for instructions whose condition holds; the processor and QEMU fetch and
 * count the others too. So the hook notes where an IT block ends and, when execution goes on further down, counts what
 * was passed over. Only the last instruction of an IT block may branch, hence nothing else can be left out. */
#include <stddef.h>
#include <stdlib.h>

#include "counter.h"

typedef struct {
    onebit_counter *counter;
    const unsigned char *code; /* [bytes], Thumb instructions from address base on */
    uint64_t base;
    uint64_t bytes;
    uint64_t next;   /* the address behind the last instruction seen */
    uint64_t it_end; /* the address behind the IT block that is being executed, or 0 */
} onebit_hook;

onebit_hook *onebit_hook_new(onebit_counter *counter, const unsigned char *code, uint64_t base, uint64_t bytes);
void onebit_hook_free(onebit_hook *hook);
void onebit_on_code(void *engine, uint64_t address, uint32_t size, void *user);

/* The hook's state; `code` must outlive it. NULL: no memory. */
onebit_hook *onebit_hook_new(onebit_counter *counter, const unsigned char *code, uint64_t base, uint64_t bytes)
{
    onebit_hook *hook = calloc(1, sizeof *hook);
    if (hook != NULL) {
        hook->counter = counter;
        hook->code = code;
        hook->base = base;
        hook->bytes = bytes;
    }
    return hook;
}

void onebit_hook_free(onebit_hook *hook)
{
    free(hook);
}

/* The first halfword of the instruction at `address`; 0, a harmless shift, outside the known code. */
static uint32_t halfword(const onebit_hook *hook, uint64_t address)
{
    const uint64_t i = address - hook->base;
    if (i >= hook->bytes || hook->bytes - i < 2u) {
        return 0u;
    }
    return (uint32_t)hook->code[i] | (uint32_t)hook->code[i + 1u] << 8;
}

/* 32-bit Thumb instructions start with 0b11101, 0b11110 or 0b11111. */
static uint64_t instruction_bytes(const onebit_hook *hook, uint64_t address)
{
    return halfword(hook, address) >> 11 >= 0x1Du ? 4u : 2u;
}

/* The address behind the IT block that the IT instruction at `address` opens: the lowest set bit of its mask, the low
 * four bits, stands at 4 - (number of instructions). */
static uint64_t it_block_end(const onebit_hook *hook, uint64_t address, uint32_t mask)
{
    uint64_t end = address + 2u;
    for (; mask != 0u; mask = mask << 1 & 0xFu) {
        end += instruction_bytes(hook, end);
    }
    return end;
}

void onebit_on_code(void *engine, uint64_t address, uint32_t size, void *user)
{
    onebit_hook *hook = user;
    (void)engine;
    while (hook->next < hook->it_end && hook->next != address) {
        onebit_counter_step(hook->counter, hook->next);
        hook->next += instruction_bytes(hook, hook->next);
    }
    onebit_counter_step(hook->counter, address);
    hook->next = address + size;
    const uint32_t first = halfword(hook, address);
    if ((first & 0xFF00u) == 0xBF00u && (first & 0xFu) != 0u) {
        hook->it_end = it_block_end(hook, address, first & 0xFu);
    } else if (hook->next >= hook->it_end) {
        hook->it_end = 0;
    }
}
