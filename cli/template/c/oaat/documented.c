#include "documented.h"
#include <stdlib.h>
#include <string.h>

// Returns the end of a period if it is after `now`.
static oaat_option_instant_t ends_after(oaat_instant_t now, oaat_instant_t start,
                                        oaat_duration_t length) {
  oaat_instant_t end;
  if (__builtin_add_overflow(start, length, &end)) end = INT64_MAX;
  return (oaat_option_instant_t){.is_some = now < end, .val = end};
}

oaat_verdict_t standing(const oaat_item_t *item, oaat_duration_t cool_off, oaat_instant_t now) {
  oaat_option_instant_t cooling = {0}, fresh = {0};
  if (item->last_failure.is_some) cooling = ends_after(now, item->last_failure.val, cool_off);
  if (item->last_success.is_some) {
    if (!item->frequency.is_some) return (oaat_verdict_t){.standing = OAAT_STANDING_FRESH};
    fresh = ends_after(now, item->last_success.val, item->frequency.val);
  }
  if (!cooling.is_some && !fresh.is_some) return (oaat_verdict_t){.standing = OAAT_STANDING_READY};
  if (compare_instants(cooling, fresh) > 0) {
    return (oaat_verdict_t){.standing = OAAT_STANDING_COOLING, .until = cooling};
  }
  return (oaat_verdict_t){.standing = OAAT_STANDING_FRESH, .until = fresh};
}

int compare_instants(oaat_option_instant_t a, oaat_option_instant_t b) {
  if (!a.is_some || !b.is_some) return a.is_some - b.is_some;
  return (a.val > b.val) - (a.val < b.val);
}

oaat_option_instant_t earliest(oaat_option_instant_t a, oaat_option_instant_t b) {
  if (!a.is_some) return b;
  return b.is_some && b.val < a.val ? b : a;
}

// Returns the next word of the generator PCG-XSH-RR, which derives the key from the seed.
static uint32_t next_key_word(uint64_t *state) {
  *state = *state * 0x5851F42D4C957F2D + 0xA17654E46FBE17F3;
  uint32_t shifted = (uint32_t)(((*state >> 18) ^ *state) >> 27);
  uint32_t by = (uint32_t)(*state >> 59);
  return shifted >> by | shifted << (-by & 31);
}

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
  *a += *b, *d ^= *a, *d = *d << 16 | *d >> 16;
  *c += *d, *b ^= *c, *b = *b << 12 | *b >> 20;
  *a += *b, *d ^= *a, *d = *d << 8 | *d >> 24;
  *c += *d, *b ^= *c, *b = *b << 7 | *b >> 25;
}

// Computes the first block of ChaCha with 8 rounds, for a key that is derived from the seed.
static void first_block(uint64_t seed, uint32_t block[16]) {
  uint32_t initial[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  for (int i = 4; i < 12; i++) initial[i] = next_key_word(&seed);
  for (int i = 0; i < 16; i++) block[i] = initial[i];
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < 4; i++) {
      quarter_round(&block[i], &block[4 + i], &block[8 + i], &block[12 + i]);
    }
    for (int i = 0; i < 4; i++) {
      quarter_round(&block[i], &block[4 + (i + 1) % 4], &block[8 + (i + 2) % 4],
                    &block[12 + (i + 3) % 4]);
    }
  }
  for (int i = 0; i < 16; i++) block[i] += initial[i];
}

uint32_t choose_at_random(uint32_t count, uint64_t seed) {
  if (count < 2) return 0;
  uint32_t words[16];
  first_block(seed, words);
  // The upper half of the product is the result. A second word reduces the bias of the first one.
  uint64_t product = (uint64_t)words[0] * count;
  uint32_t low = (uint32_t)product;
  uint64_t carry = 0;
  if (low > -count) carry = (low + ((uint64_t)words[1] * count >> 32)) >> 32;
  return (uint32_t)((product >> 32) + carry);
}

oaat_string_t note(const char *reason, size_t candidates, size_t tied) {
  if (candidates == 1) return text("the only item that is due");
  const oaat_string_t parts[] = {text(reason),
                                 text(" ("),
                                 digits(candidates),
                                 text(" items are due)"),
                                 text("; chosen at random from "),
                                 digits(tied),
                                 text(" tied items")};
  return join(parts, tied == 1 ? 4 : 7);
}

bool is_empty_object(oaat_string_t json) {
  const char *expected = "{}";
  for (size_t i = 0; i < json.len; i++) {
    uint8_t c = json.ptr[i];
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') continue;
    if (c != (uint8_t)*expected || c == 0) return false;
    expected++;
  }
  return *expected == 0;
}

oaat_string_t text(const char *string) {
  return (oaat_string_t){(uint8_t *)string, strlen(string)};
}

oaat_string_t digits(size_t number) {
  size_t len = 1;
  for (size_t rest = number; rest >= 10; rest /= 10) len++;
  uint8_t *ptr = malloc(len);
  for (size_t i = len; i > 0; number /= 10) ptr[--i] = (uint8_t)('0' + number % 10);
  return (oaat_string_t){ptr, len};
}

oaat_string_t join(const oaat_string_t *parts, size_t count) {
  oaat_string_t joined = {0};
  for (size_t i = 0; i < count; i++) joined.len += parts[i].len;
  joined.ptr = malloc(joined.len);
  uint8_t *to = joined.ptr;
  for (size_t i = 0; i < count; i++) {
    memcpy(to, parts[i].ptr, parts[i].len);
    to += parts[i].len;
  }
  return joined;
}

void log_line(oaat_log_level_t level, const char *line) {
  oaat_string_t string = text(line);
  oaat_log_write(level, &string);
}
