// The steps of the documented algorithm, and functions for strings.

#ifndef DOCUMENTED_H
#define DOCUMENTED_H

#include "oaat.h"

// Returns the verdict on an item with this cool-off after a failure. If the item is both fresh and
// cooling, returns the standing that lasts longer.
oaat_verdict_t standing(const oaat_item_t *item, oaat_duration_t cool_off, oaat_instant_t now);

// Returns a negative number if `a` is before `b`, 0 if they are equal, and a positive number
// otherwise. None (never) is before any time.
int compare_instants(oaat_option_instant_t a, oaat_option_instant_t b);

// Returns the earlier of two times; none is later than any time.
oaat_option_instant_t earliest(oaat_option_instant_t a, oaat_option_instant_t b);

// Returns a random number from 0 to `count` - 1. The generator is ChaCha, as in policies in Rust, so
// the same seed gives the same number in both languages.
uint32_t choose_at_random(uint32_t count, uint64_t seed);

// Returns the note for a decision. `reason` says why the chosen item has the lowest rank.
// `candidates` and `tied` are the numbers of candidates and of candidates with the same rank.
oaat_string_t note(const char *reason, size_t candidates, size_t tied);

// Returns whether settings are an empty JSON object.
bool is_empty_object(oaat_string_t json);

// Returns a string that refers to a null-terminated string. Does not copy it.
oaat_string_t text(const char *string);

// Returns the decimal digits of a number.
oaat_string_t digits(size_t number);

// Returns a new string that contains these parts.
oaat_string_t join(const oaat_string_t *parts, size_t count);

// Writes a line to the operator's log.
void log_line(oaat_log_level_t level, const char *line);

#endif
