// Creates and updates elements. Text from the cluster is set as text, never as HTML.

const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']];
// How long the page may be busy before it reacts to the user again, in milliseconds.
const SLICE = 8;

export const byId = (id) => document.getElementById(id);

// Returns a new element. Children are elements and text; those that are null are left out.
export function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) node.setAttribute(name, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

// Sets the text of an element if it differs, so that nothing is announced without a change.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Formats a duration with at most two units, such as 5m30s.
export function short(seconds) {
  const rounded = Math.max(0, Math.floor(seconds));
  let index = UNITS.findIndex(([length]) => rounded >= length);
  if (index < 0) index = UNITS.length - 1;
  const [length, unit] = UNITS[index];
  const count = Math.floor(rounded / length);
  const next = UNITS[index + 1];
  const rest = next ? Math.floor((rounded % length) / next[0]) : 0;
  return count < 10 && rest > 0 ? `${count}${unit}${rest}${next[1]}` : `${count}${unit}`;
}

function relative(node) {
  const seconds = (Date.parse(node.dateTime) - Date.now()) / 1000;
  if (node.dataset.style === 'for') return `for ${short(-seconds)}`;
  if (node.dataset.style === 'ago') return seconds > -1 ? 'just now' : `${short(-seconds)} ago`;
  return seconds <= 0 ? 'now' : `in ${short(Math.ceil(seconds))}`;
}

// Returns an element with a time relative to now. The style is in, ago, or for.
export function time(at, style) {
  const node = element('time', { datetime: at, title: new Date(at).toLocaleString() });
  node.dataset.style = style;
  node.textContent = relative(node);
  return node;
}

// Updates all relative times.
export function updateTimes() {
  return inSlices(document.querySelectorAll('time'), (node) => setText(node, relative(node)));
}

// Returns a fragment or null, of text with elements.
export function phrase(...parts) {
  return parts.some((part) => part == null) ? null : element('span', null, ...parts);
}

// Formats a problem as a sentence. The name of a field, such as itemOptions, is not changed.
export function sentence(problem) {
  const isField = /^[a-z]+[A-Z.]/.test(problem);
  const text = isField ? problem : problem.charAt(0).toUpperCase() + problem.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

// Calls a function for each thing, and lets the browser react to the user in between. Ends early if
// isCurrent returns false.
export async function inSlices(things, each, isCurrent = () => true) {
  let start = performance.now();
  for (const thing of things) {
    each(thing);
    if (performance.now() - start > SLICE) {
      await new Promise((resolve) => setTimeout(resolve));
      if (!isCurrent()) return false;
      start = performance.now();
    }
  }
  return true;
}

const STATES = new Map(Object.entries({
  Running: ['▶', 'busy'], Idle: ['✓', 'good'], Waiting: ['…', 'warn'], Blackout: ['◐', 'warn'],
  Suspended: ['‖', 'warn'], Complete: ['✓', 'good'], Failed: ['✗', 'bad'], Invalid: ['!', 'bad'],
  Blocked: ['■', 'bad'], Unreadable: ['!', 'bad'], New: ['○', ''],
  Ready: ['●', ''], Fresh: ['✓', 'good'], Cooling: ['◔', 'warn'], Deferred: ['→', 'warn'],
  Held: ['‖', 'warn'], GivenUp: ['✗', 'bad'],
}));

// Returns an element with a state: a sign and a word, so that it does not depend on color.
export function state(name) {
  const [sign, tone] = STATES.get(name) ?? ['?', ''];
  return element('span', { class: 'state', 'data-tone': tone },
    element('span', { 'aria-hidden': 'true' }, `${sign} `), name);
}
