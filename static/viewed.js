'use strict';

// Shows in home.html the number and address of the page's client in the live view. The server adds
// this script to the page only with --view.

const CLIENT_PERIOD = 250;    // milliseconds between two requests, as in the view
const MAX_ASKED = 40;         // maximum number of requests for one connection

let tab = '';                 // the name of the connection that is shown
let asked = 0;                // number of requests for that connection

ui.client = make('span', '', '');
ui.client.id = 'client';
ui.status.after(ui.client);

// Each connection gets a random name, which only this page and the server know. A page needs a name
// for each connection, because a page that has a probe is two clients.
dialed = (url) => {
  if (url !== ownChat) return url;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `${url}?tab=${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
};

async function showClient() {
  const now = openedAt && new URL(socket.url).searchParams.get('tab') || '';
  if (now !== tab) {
    tab = now;
    asked = 0;
    ui.client.textContent = '';
  }
  if (tab && !ui.client.textContent && asked++ < MAX_ASKED) {
    try {
      const response = await fetch(`client?tab=${tab}`, { cache: 'no-store', signal: AbortSignal.timeout(PROBE_TIMEOUT * 1000) });
      if (!response.ok) asked = MAX_ASKED;     // the server is full, so do not ask again
      const client = response.ok && await response.json();    // null until the client is registered
      if (client && tab === now) ui.client.textContent = `Client ${client.number}, ${client.addr}`;
    } catch { /* The next request tries again. */ }
  }
  setTimeout(showClient, CLIENT_PERIOD);
}

showClient();
