/* Reset and fault entry of an emulated Cortex-M, in Armv6-M instructions.
 * Assembly, because the FPU must be on before any C runs: a compiler may use vector registers in the first copy loop. */
    .syntax unified
    .thumb

    .section .vectors, "a"
    .word _stack_top
    .word Reset_Handler
    .rept 14
    .word Fault_Handler
    .endr

    .text
    .thumb_func
    .global Reset_Handler
    .type Reset_Handler, %function
Reset_Handler:
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    ldr r0, =0xE000ED88 /* CPACR: full access to coprocessors 10 and 11 */
    ldr r1, [r0]
    ldr r2, =0x00F00000
    orrs r1, r2
    str r1, [r0]
    dsb
    isb
#endif
    ldr r0, =_data_start
    ldr r1, =_data_end
    ldr r2, =_data_load
1:  cmp r0, r1
    bhs 2f
    ldm r2!, {r3}
    stm r0!, {r3}
    b 1b
2:  ldr r0, =_bss_start
    ldr r1, =_bss_end
    movs r2, #0
3:  cmp r0, r1
    bhs 4f
    stm r0!, {r2}
    b 3b
4:  ldr r0, =_stack_limit
    bl onebit_run
    bl onebit_exit
    .size Reset_Handler, . - Reset_Handler

    .thumb_func
    .type Fault_Handler, %function
Fault_Handler:
    mrs r0, msp
    ldr r0, [r0, #24] /* the program counter in the exception frame */
    ldr r1, =_stack_top
    mov sp, r1 /* whatever the stack's state, the report needs a sound one */
    bl onebit_fault
    .size Fault_Handler, . - Fault_Handler
    .pool
