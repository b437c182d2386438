// Talks to the command. Each request has the token from the URL that the command printed.

// The time without an event after which the connection is considered lost, in milliseconds.
const SILENCE = 40000;
const RECONNECT = 1000;
const SILENT = 'kubectl oaat dashboard has not responded for 40 seconds; if more than five windows show it, close one';
const ENDED = 'kubectl oaat dashboard is not responding; restart it, and open the new URL';

// Moves the token from the URL to the storage of this tab. Returns whether there was one.
export function takeToken() {
  const found = /^#token=([0-9a-f]+)$/.exec(location.hash);
  if (found) {
    sessionStorage.setItem('token', found[1]);
    history.replaceState(null, '', location.pathname);
  }
  return found !== null;
}

async function request(path, options) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem('token') ?? ''}` };
  const response = await fetch(`/api/${path}`, { ...options, headers }).catch((error) => {
    if (error.name === 'AbortError') throw error;
    throw new Error(error.name === 'TimeoutError' ? SILENT : ENDED);
  });
  if (!response.ok) {
    const answer = await response.json().catch(() => ({ problem: response.statusText }));
    throw Object.assign(new Error(answer.problem), { status: response.status });
  }
  return response;
}

const pathOf = ({ namespace, name }) =>
  `groups/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

export const readGroup = async (group) => (await request(pathOf(group))).json();

export const readForecast = async (group, signal) =>
  (await request(`${pathOf(group)}/forecast`, { signal })).json();

export async function act(group, action, body) {
  const options = { method: 'POST', body: JSON.stringify(body) };
  return (await (await request(`${pathOf(group)}/${action}`, options)).json()).message;
}

// Receives events until the page is closed. Connects again whenever that fails, or an event cannot be
// applied. The first event of a connection contains all groups. A hidden page has no connection, because
// browsers limit the connections of all pages.
export async function follow(onEvent, onLost, onPause) {
  for (;;) {
    if (document.hidden) {
      onPause();
      await untilVisible();
    }
    try {
      await receive(onEvent);
      onLost(ENDED);
    } catch (error) {
      if (error.name === 'AbortError') continue;
      onLost(error.name === 'Error' ? error.message : ENDED);
    }
    await new Promise((resolve) => setTimeout(resolve, RECONNECT));
  }
}

function untilVisible() {
  return new Promise((resolve) => {
    const check = () => {
      if (document.hidden) return;
      document.removeEventListener('visibilitychange', check);
      resolve();
    };
    document.addEventListener('visibilitychange', check);
  });
}

async function receive(onEvent) {
  const connection = new AbortController();
  const hide = () => { if (document.hidden) connection.abort(); };
  document.addEventListener('visibilitychange', hide);
  let timer;
  const restart = () => {
    clearTimeout(timer);
    timer = setTimeout(() => connection.abort(new DOMException(SILENT, 'TimeoutError')), SILENCE);
  };
  restart();
  try {
    const response = await request('events', { signal: connection.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      text += value;
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) {
        if (event.startsWith('data: ')) await onEvent(JSON.parse(event.slice('data: '.length)));
      }
      restart();
    }
  } finally {
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', hide);
    connection.abort();
  }
}
