// The functions of libc.c that allocate memory.

#ifndef STDLIB_H
#define STDLIB_H

#include <stddef.h>

// Returns memory that is aligned to 8 bytes. Never returns NULL.
void *malloc(size_t size);
void *realloc(void *old, size_t size);
// Does nothing: the memory of the sandbox is released after the call.
void free(void *memory);
// Ends the call with a trap.
_Noreturn void abort(void);

#endif
