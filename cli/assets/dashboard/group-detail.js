// The selected group and its items. Only rows that changed are updated.

import { byId, element, inSlices, phrase, sentence, setText, state, time } from './elements.js';
import { hideForecast } from './forecast.js';
import { readGroup } from './server.js';

const list = byId('item-list');
const filter = byId('item-filter');
const SIGNS = new Map([['Succeeded', '✓'], ['Failed', '✗'], ['Stopped', '–']]);
// The selected group, and the latest answer of the server about it.
let group = null;
let page = null;
let rows = new Map();
// Changes with each request and each filter, so that outdated ones end.
let latest = 0;
let latestFilter = 0;
let isReading = false;
let isOutdated = false;
let options = { readOnly: false, onRun: () => {} };

export const current = () => page;

export function configure(given) {
  const isChanged = given.readOnly !== options.readOnly;
  options = { ...options, ...given };
  if (isChanged && page) show(group);
}

// Shows a group; null for none.
export async function show(next) {
  latest += 1;
  group = next;
  isReading = false;
  clear();
  filter.value = '';
  byId('group').hidden = next === null;
  byId('choose').hidden = next !== null;
  setText(byId('detail-title'), next?.name ?? '');
  if (next) await refresh();
}

// Removes everything about the group except for its name.
function clear() {
  page = null;
  rows = new Map();
  list.replaceChildren();
  hideForecast();
  setText(byId('item-count'), '');
  for (const id of ['suspend', 'forecast']) byId(id).hidden = true;
  for (const id of ['summary', 'problems', 'policy', 'shadow']) byId(id).replaceChildren();
}

// Reads the group again, and shows what has changed.
export async function refresh() {
  if (isReading) {
    isOutdated = true;
    return;
  }
  const request = latest;
  isReading = true;
  do {
    isOutdated = false;
    try {
      const answer = await readGroup(group);
      if (request !== latest) return;
      await update(answer, () => request === latest);
    } catch (error) {
      if (request !== latest) return;
      if (error.status === 404) clear();
      byId('summary').replaceChildren(sentence(error.message));
    }
    if (request !== latest) return;
  } while (isOutdated);
  isReading = false;
}

async function update(answer, isCurrent) {
  const earlier = page;
  page = answer;
  const facts = [
    state(answer.state),
    answer.message || null,
    answer.running && phrase(`run ${answer.running.run} of ${answer.running.item} in pod ${answer.running.pod} runs `, time(answer.running.since, 'for')),
    answer.suspended ?? null,
    answer.next && phrase('next item due ', time(answer.next, 'in')),
  ].filter((fact) => fact != null);
  byId('summary').replaceChildren(...facts.flatMap((fact, index) => (index ? [' · ', fact] : [fact])));
  byId('problems').replaceChildren(...answer.problems.map((text) => element('li', null, sentence(text))));
  updatePolicy(answer.policy);
  setText(byId('shadow'), answer.shadow ? `Shadow policy: ${answer.shadow}` : '');
  const suspend = byId('suspend');
  setText(suspend, `${answer.suspended ? 'Resume' : 'Suspend'} ${answer.name}`);
  suspend.hidden = options.readOnly;
  byId('forecast').hidden = false;
  if (earlier && (earlier.state !== answer.state || earlier.message !== answer.message)) {
    setText(byId('news'), `${answer.name}: ${answer.state}. ${answer.message}`);
  }
  await updateItems(answer.itemList, isCurrent);
}

function updatePolicy(policy) {
  byId('policy').replaceChildren(...(policy ? [
    `Policy: ${policy.source === 'default' ? 'built-in' : policy.source}, contract ${policy.contract}, sha256 `,
    element('code', null, policy.digest),
  ] : ['Policy: no decision yet']));
}

async function updateItems(items, isCurrent) {
  const present = new Set(items.map((item) => item.name));
  for (const [name, row] of rows) {
    if (!present.has(name)) {
      row.node.remove();
      rows.delete(name);
    }
  }
  let before = null;
  const each = (item) => {
    const row = rows.get(item.name) ?? create(item);
    const expected = before ? before.nextSibling : list.firstChild;
    if (row.node !== expected) moveRow(row.node, expected);
    before = row.node;
    updateItem(row, item);
  };
  if (await inSlices(items, each, isCurrent)) count();
}

// Moves a row and keeps its focus.
function moveRow(node, next) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  list.insertBefore(node, next);
  focused?.focus({ preventScroll: true });
}

function create(item) {
  const label = item.label ?? item.name;
  const head = element('div', null, element('h4', null, label));
  const why = element('div', { class: 'why' });
  const act = element('div', { class: 'act' });
  if (!options.readOnly) {
    const button = element('button', { type: 'button', 'aria-label': `Run ${label} now` }, 'Run');
    button.addEventListener('click', () => options.onRun(item.name, label));
    act.append(button);
  }
  const row = { head, why, node: element('li', null, head, why, act), text: null, item };
  rows.set(item.name, row);
  return row;
}

function updateItem(row, item) {
  const text = JSON.stringify(item);
  if (text === row.text) return;
  const isNew = row.text === null;
  const isOther = row.item.state !== item.state;
  row.text = text;
  row.item = item;
  while (row.head.children.length > 1) row.head.lastChild.remove();
  row.head.append(state(item.state), ...strip(item.runs));
  const facts = [
    item.failures > 0 ? element('span', { class: 'bad' }, `✗ ${item.failures} ${item.failures === 1 ? 'failure' : 'failures in a row'}`) : null,
    item.next && phrase('next ', time(item.next, 'in')),
    item.lastSuccess ? phrase('last success ', time(item.lastSuccess, 'ago')) : 'never succeeded',
    item.rule ? `rule: ${item.rule}` : null,
  ].filter((fact) => fact != null);
  row.why.replaceChildren(
    element('p', null, sentence(item.because)),
    element('p', { class: 'facts' }, ...facts.flatMap((fact, index) => (index ? [' · ', fact] : [fact]))),
    ...item.notes.map((note) => element('p', { class: 'notes' }, sentence(note))),
  );
  row.node.hidden = !matches(item);
  row.node.classList.toggle('fresh', !isNew && isOther);
}

// Returns an element with the last runs of an item, oldest first, or nothing.
function strip(runs) {
  if (runs.length === 0) return [];
  const results = runs.map((run) => run.result).join(', ');
  const marks = runs.map((run) => {
    const code = run.exitCode == null ? '' : `, exit code ${run.exitCode}`;
    const title = `run ${run.run}: ${run.result} (${run.reason}${code}) after ${run.took}, ended ${new Date(run.finished).toLocaleString()}`;
    return element('span', { class: run.result, title }, SIGNS.get(run.result) ?? '?');
  });
  const label = `Last runs, oldest first: ${results}`;
  return [element('span', { class: 'strip', role: 'img', 'aria-label': label }, ...marks)];
}

function matches(item) {
  const words = filter.value.trim().toLowerCase().split(/\s+/);
  const text = `${item.name} ${item.state}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function count() {
  const shown = [...rows.values()].filter((row) => !row.node.hidden).length;
  const all = rows.size === 1 ? '1 item' : `${rows.size} items`;
  setText(byId('item-count'), shown === rows.size ? all : `${shown} of ${all}`);
}

filter.addEventListener('input', async () => {
  const request = ++latestFilter;
  const each = (row) => { row.node.hidden = !matches(row.item); };
  if (await inSlices(rows.values(), each, () => request === latestFilter)) count();
});
