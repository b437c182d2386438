// The forecast of the next day of the selected group. It is simulated when the user opens it.

import { byId, element, sentence, short } from './elements.js';
import { readForecast } from './server.js';

const SVG = 'http://www.w3.org/2000/svg';
const MINUTES = 24 * 60;
let latest = new AbortController();

export function hideForecast() {
  latest.abort();
  byId('forecast').open = false;
  byId('forecast-content').replaceChildren();
}

export async function showForecast(group) {
  latest.abort();
  const request = new AbortController();
  latest = request;
  const content = byId('forecast-content');
  content.replaceChildren(element('p', { role: 'status' }, 'Simulating the next day'));
  let shown;
  try {
    shown = describe(await readForecast(group, request.signal));
  } catch (error) {
    shown = [element('p', { class: 'bad' }, sentence(error.message))];
  }
  const again = element('button', { type: 'button' }, 'Update the forecast');
  again.addEventListener('click', () => showForecast(group));
  if (!request.signal.aborted) content.replaceChildren(...shown, element('p', { class: 'actions' }, again));
}

function describe(forecast) {
  const from = Date.parse(forecast.from);
  const clock = (at) => new Date(at).toLocaleString([], { weekday: 'short', hour: '2-digit', minute: '2-digit' });
  const paragraph = (text, tone) => element('p', tone ? { class: tone } : null, text);
  const starts = forecast.starts.map((start) => element('li', null,
    element('time', { datetime: start.at, 'data-style': 'clock' }, clock(start.at)),
    ` ${start.item} for about ${short(start.expectedSeconds)}`, start.note ? ` (${start.note})` : null));
  const more = forecast.total - forecast.starts.length;
  return [
    ...forecast.warnings.map((text) => paragraph(sentence(text), 'warn')),
    timeline(forecast, from),
    paragraph(`${forecast.total === 1 ? '1 start' : `${forecast.total} starts`} until ${clock(forecast.to)}.`),
    element('ol', { tabindex: '0', 'aria-label': 'Starts' }, ...starts),
    more > 0 ? paragraph(`And ${more} more.`) : null,
    ...forecast.late.map((late) => paragraph(`${late.item} will be up to ${short(late.seconds)} late.`, 'warn')),
    ...forecast.starved.map((item) => paragraph(`${item} never starts, or waits longer than three periods.`, 'bad')),
    ...forecast.assumptions.map((text) => element('p', { class: 'notes' }, `Assumes that ${text}.`)),
  ].filter((part) => part !== null);
}

// Draws when items start, and a line each six hours.
function timeline(forecast, from) {
  const svg = document.createElementNS(SVG, 'svg');
  const set = (node, values) => {
    for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
    return node;
  };
  set(svg, { viewBox: `0 0 ${MINUTES} 32`, preserveAspectRatio: 'none', role: 'img' });
  svg.setAttribute('aria-label', `Timeline of the next day with ${forecast.starts.length} starts`);
  for (let hour = 6; hour < 24; hour += 6) {
    const line = document.createElementNS(SVG, 'line');
    svg.append(set(line, { x1: hour * 60, x2: hour * 60, y1: 0, y2: 32 }));
  }
  for (const start of forecast.starts) {
    const x = (Date.parse(start.at) - from) / 60000;
    const rect = document.createElementNS(SVG, 'rect');
    svg.append(set(rect, { x, y: 6, width: Math.max(4, start.expectedSeconds / 60), height: 20 }));
  }
  return svg;
}
