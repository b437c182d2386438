// Connects the parts of the page.

import { byId, sentence, setText, updateTimes } from './elements.js';
import * as detail from './group-detail.js';
import { showForecast } from './forecast.js';
import * as groups from './group-list.js';
import { act, follow, takeToken } from './server.js';

// How often relative times, and explanations that contain some, are updated, in milliseconds.
const TIMES = 5000;
const EXPLANATIONS = 30000;
const dialog = byId('confirm');
let selected = null;

function notify(text, isProblem) {
  setText(byId('notice'), text);
  byId('notice').classList.toggle('problem', isProblem);
}

// Asks for a confirmation. Returns the reason, or an empty text, or null if the user cancels.
function confirm({ title, text, yes, withReason }) {
  setText(byId('confirm-title'), title);
  setText(byId('confirm-text'), text);
  setText(byId('confirm-yes'), yes);
  const reason = byId('reason');
  reason.value = '';
  reason.required = withReason;
  byId('confirm-reason').hidden = !withReason;
  dialog.returnValue = 'no';
  dialog.showModal();
  (withReason ? reason : byId('confirm-yes')).focus();
  return new Promise((resolve) => {
    const done = () => resolve(dialog.returnValue === 'yes' ? reason.value : null);
    dialog.addEventListener('close', done, { once: true });
  });
}

async function confirmed(group, question, action, body) {
  const reason = await confirm(question);
  if (reason === null) return;
  notify('Sending the request…', false);
  try {
    notify(await act(group, action, body(reason)), false);
  } catch (error) {
    notify(sentence(error.message), true);
  }
}

function run(name, label) {
  const text = `It starts as soon as group ${selected.name} can start an item, even if it is not due.`;
  const question = { title: `Run ${label} now?`, text, yes: 'Run now', withReason: false };
  return confirmed(selected, question, 'run', () => ({ item: name }));
}

function suspendOrResume() {
  const { name, suspended } = detail.current();
  if (suspended) {
    const text = 'Items that are due start again.';
    const question = { title: `Resume ${name}?`, text, yes: 'Resume', withReason: false };
    return confirmed(selected, question, 'resume', () => ({}));
  }
  const text = 'Nothing starts until the group is resumed. A run in progress continues.';
  const question = { title: `Suspend ${name}?`, text, yes: 'Suspend', withReason: true };
  return confirmed(selected, question, 'suspend', (reason) => ({ reason }));
}

// Returns a part of a URL, or null if it is not valid.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

// Shows the group in the URL.
function route() {
  if (takeToken()) {
    location.reload();
    return;
  }
  const [, namespace, name] = location.hash.split('/').map(decoded);
  const next = namespace && name ? { namespace, name } : null;
  const earlier = selected;
  selected = next;
  document.body.dataset.view = next ? 'group' : 'list';
  document.title = next ? `${next.name} – oaat-operator` : 'oaat-operator';
  groups.select(next && groups.keyOf(next));
  notify('', false);
  detail.show(next);
  if (next) byId('detail-title').focus();
  else if (earlier) (groups.rowOf(groups.keyOf(earlier))?.link ?? byId('filter')).focus();
}

function connection(state, text) {
  byId('connection').dataset.state = state;
  setText(byId('connection'), text);
}

function showConnection({ state, problem }) {
  const texts = { connecting: 'Connecting to the cluster', connected: '✓ Live' };
  connection(state, texts[state] ?? `! Not live: ${sentence(problem)} Reconnecting…`);
}

async function apply(event) {
  const place = event.namespace === null ? 'all namespaces' : `namespace ${event.namespace}`;
  setText(byId('place'), `${place} of ${event.server}${event.readOnly ? ' (read-only)' : ''}`);
  detail.configure({ readOnly: event.readOnly, onRun: run });
  const isSelected = ([namespace, name]) => selected?.namespace === namespace && selected.name === name;
  const isChanged = event.groups.some((group) => isSelected([group.namespace, group.name]));
  if (isChanged || event.gone.some(isSelected) || (event.all && selected)) detail.refresh();
  await groups.apply(event);
  showConnection(event.connection);
  document.body.dataset.loaded = 'true';
}

takeToken();
route();
addEventListener('hashchange', route);
byId('suspend').addEventListener('click', suspendOrResume);
byId('skip').addEventListener('click', (event) => {
  // The fragment of the URL is the selected group.
  event.preventDefault();
  byId('detail').focus();
});
byId('forecast').addEventListener('toggle', () => {
  const isEmpty = byId('forecast-content').childElementCount === 0;
  if (byId('forecast').open && isEmpty && selected) showForecast(selected);
});
setInterval(updateTimes, TIMES);
setInterval(() => { if (selected && !document.hidden) detail.refresh(); }, EXPLANATIONS);
follow(
  (event) => apply(event).catch(({ message }) => {
    throw new Error(`this page failed to show a change (${message})`);
  }),
  (problem) => connection('lost', `! Not live: ${sentence(problem)} Reconnecting…`),
  () => connection('paused', 'Paused while this page is hidden'),
);
