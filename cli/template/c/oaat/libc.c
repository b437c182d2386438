// The few functions of a C library that the bindings and a compiler need.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// The first byte after the data and the stack; the linker defines it.
extern uint8_t __heap_base;

static const size_t PAGE = 65536;
// The start and the end of the free memory.
static uintptr_t next, end;

void *malloc(size_t size) {
  if (next == 0) {
    next = ((uintptr_t)&__heap_base + 7) & ~(uintptr_t)7;
    end = __builtin_wasm_memory_size(0) * PAGE;
    if (end < next) end = next;
  }
  if (size > PTRDIFF_MAX) abort();
  // The size is stored before the memory, for realloc.
  size_t needed = ((size + 7) & ~(size_t)7) + 8;
  if (end - next < needed) {
    size_t pages = (needed + PAGE - 1) / PAGE;
    if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) abort();
    end += pages * PAGE;
  }
  size_t *header = (size_t *)next;
  *header = size;
  next += needed;
  return (uint8_t *)header + 8;
}

void *realloc(void *old, size_t size) {
  void *memory = malloc(size);
  if (old != NULL) {
    size_t old_size = *(size_t *)((uint8_t *)old - 8);
    memcpy(memory, old, old_size < size ? old_size : size);
  }
  return memory;
}

void free(void *memory) { (void)memory; }

_Noreturn void abort(void) { __builtin_trap(); }

// With -mbulk-memory, each of these becomes one instruction.
void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  return __builtin_memcpy(to, from, size);
}

void *memmove(void *to, const void *from, size_t size) {
  return __builtin_memmove(to, from, size);
}

void *memset(void *to, int byte, size_t size) { return __builtin_memset(to, byte, size); }

__attribute__((no_builtin)) int memcmp(const void *a, const void *b, size_t size) {
  const uint8_t *left = a, *right = b;
  for (size_t i = 0; i < size; i++) {
    if (left[i] != right[i]) return left[i] - right[i];
  }
  return 0;
}

__attribute__((no_builtin)) size_t strlen(const char *string) {
  size_t length = 0;
  while (string[length] != 0) length++;
  return length;
}
