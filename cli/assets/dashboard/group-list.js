// The list of all groups. Only rows that changed are updated.

import { byId, element, inSlices, phrase, setText, state, time } from './elements.js';

const list = byId('group-list');
const filter = byId('filter');
// The rows by key, and their keys in the order of the list.
const rows = new Map();
const keys = [];
let withNamespaces = false;
let selected = null;
let latestFilter = 0;

export const keyOf = ({ namespace, name }) => `${namespace}/${name}`;

function isBefore(one, other) {
  if (one.namespace !== other.namespace) return one.namespace < other.namespace;
  return one.name < other.name;
}

// Returns the position of a group among the keys.
function positionOf(group) {
  let [low, high] = [0, keys.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(rows.get(keys[middle]).group, group)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function create(group) {
  const label = withNamespaces ? keyOf(group) : group.name;
  const path = `${encodeURIComponent(group.namespace)}/${encodeURIComponent(group.name)}`;
  const link = element('a', { href: `#/${path}` }, label);
  const head = element('div', { class: 'head' }, element('h3', { class: 'head' }, link));
  const facts = element('p', { class: 'facts' });
  const row = { group, link, head, facts, node: element('li', null, head, facts) };
  const position = positionOf(group);
  list.insertBefore(row.node, rows.get(keys[position])?.node ?? null);
  keys.splice(position, 0, keyOf(group));
  rows.set(keyOf(group), row);
  return row;
}

function update(group) {
  const row = rows.get(keyOf(group)) ?? create(group);
  row.group = group;
  while (row.head.children.length > 1) row.head.lastChild.remove();
  row.head.append(state(group.state));
  const facts = [
    group.running && phrase(`${group.running.item} runs `, time(group.running.since, 'for')),
    group.suspended ?? null,
    group.due > 0 ? `${group.due} of ${group.items} due` : `${group.items} items`,
    group.failing > 0 ? element('span', { class: 'bad' }, `✗ ${group.failing} failing`) : null,
    group.next && phrase('next ', time(group.next, 'in')),
    group.running || group.suspended ? null : group.message || null,
  ].filter((fact) => fact != null);
  row.facts.replaceChildren(...facts.flatMap((fact, index) => (index ? [' · ', fact] : [fact])));
  mark(row);
  row.node.hidden = !matches(group);
}

function mark(row) {
  if (keyOf(row.group) === selected) row.link.setAttribute('aria-current', 'true');
  else row.link.removeAttribute('aria-current');
}

function matches(group) {
  const words = filter.value.trim().toLowerCase().split(/\s+/);
  const text = `${keyOf(group)} ${group.state} ${group.running?.item ?? ''}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function remove(key) {
  rows.get(key)?.node.remove();
  if (rows.delete(key)) keys.splice(keys.indexOf(key), 1);
}

function count() {
  const shown = keys.filter((key) => !rows.get(key).node.hidden).length;
  const all = keys.length === 1 ? '1 group' : `${keys.length} groups`;
  setText(byId('count'), shown === keys.length ? all : `${shown} of ${all}`);
}

// Applies an event of the server.
export async function apply(event) {
  withNamespaces = event.namespace === null;
  if (event.all) {
    const present = new Set(event.groups.map(keyOf));
    [...keys].filter((key) => !present.has(key)).forEach(remove);
  }
  event.gone.forEach(([namespace, name]) => remove(keyOf({ namespace, name })));
  await inSlices(event.groups, update);
  count();
}

// Marks the selected group; null for none.
export function select(key) {
  const earlier = rows.get(selected);
  selected = key;
  for (const row of [earlier, rows.get(key)]) if (row) mark(row);
}

export const rowOf = (key) => rows.get(key);

filter.addEventListener('input', async () => {
  const current = ++latestFilter;
  const each = (row) => { row.node.hidden = !matches(row.group); };
  if (await inSlices(rows.values(), each, () => current === latestFilter)) count();
});
