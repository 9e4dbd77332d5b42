/* From reset to main on a Cortex-M, for tests: floating point on, files and output through the emulator
 * (semihosting). */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t stack_top[]; /* mps2.ld */
void initialise_monitor_handles(void); /* newlib's rdimon */
int main(void);
void start(void);
void fault(void);
void _init(void);
void _fini(void);

void _init(void) {}
void _fini(void) {}

void start(void) {
    volatile uint32_t *const access = (volatile uint32_t *)0xE000ED88u; /* CPACR, Armv7-M manual B3.2.20 */
    *access |= 0xFu << 20;                                             /* coprocessors 10 and 11: the FPU */
    __asm__ volatile("dsb\n isb");
    initialise_monitor_handles();
    exit(main());
}

void fault(void) { abort(); } /* every fault: the emulator ends with an error */

/* Armv7-M manual B1.5.3; 0: reserved. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {stack_top, {start, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault}};
