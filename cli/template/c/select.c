// The documented selection algorithm.
//
// 1. The candidates are all items except those that succeeded within their frequency, those that
//    failed within their cool-off, and those that the operator holds.
// 2. The candidate with the oldest success is chosen. An item that never succeeded goes before
//    items that did.
// 3. Ties are broken by the oldest failure. An item that never failed goes before items that did.
// 4. Remaining ties are broken at random.

#include "documented.h"
#include <stdlib.h>

// Compares the ranks of two items. The lowest rank goes first.
static int compare(const oaat_item_t *a, const oaat_item_t *b) {
  int by_success = compare_instants(a->last_success, b->last_success);
  return by_success != 0 ? by_success : compare_instants(a->last_failure, b->last_failure);
}

// Returns why the chosen item has the lowest rank.
static const char *reason(const oaat_item_t *chosen) {
  if (chosen->last_success.is_some) return "its last success is the oldest";
  return chosen->last_failure.is_some ? "it has never succeeded" : "it has never run";
}

// Decides which item runs next. Returns false, and sets `error`, if no decision is possible.
bool exports_oaat_select(oaat_request_t *request, oaat_decision_t *decision, oaat_string_t *error) {
  (void)error;
  const oaat_item_t *items = request->items.ptr;
  size_t count = request->items.len;
  oaat_verdict_t *verdicts = malloc(count * sizeof *verdicts);
  uint32_t *first = malloc(count * sizeof *first);
  size_t candidates = 0, tied = 0;
  oaat_option_instant_t until = {0};
  for (size_t i = 0; i < count; i++) {
    verdicts[i] = standing(&items[i], items[i].cool_off, request->now);
    until = earliest(until, verdicts[i].until);
    if (!items[i].startable || verdicts[i].standing != OAAT_STANDING_READY) continue;
    candidates++;
    int order = tied == 0 ? 0 : compare(&items[i], &items[first[0]]);
    if (order < 0) tied = 0;
    if (order <= 0) first[tied++] = (uint32_t)i;
  }
  *decision = (oaat_decision_t){.verdicts = {verdicts, count}};
  if (tied == 0) {
    decision->choice.tag = OAAT_CHOICE_WAIT;
    decision->choice.val.wait = until;
  } else {
    uint32_t chosen = first[choose_at_random((uint32_t)tied, request->seed)];
    decision->choice.tag = OAAT_CHOICE_RUN;
    decision->choice.val.run = chosen;
    decision->note.is_some = true;
    decision->note.val = note(reason(&items[chosen]), candidates, tied);
  }
  return true;
}

// Validates settings. Returns false, and sets `error`, if they are not valid. Ignores item settings,
// which may be for the shadow policy.
bool exports_oaat_validate(oaat_string_t *settings, exports_oaat_list_item_settings_t *items,
                           oaat_string_t *error) {
  (void)items;
  if (is_empty_object(*settings)) return true;
  const oaat_string_t parts[] = {text("this policy takes no settings, but got "), *settings,
                                 text("; remove the settings")};
  *error = join(parts, 3);
  return false;
}
