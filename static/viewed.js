'use strict';

// Shows in home.html which client of the live view this page is. Only a server with --view adds this
// script to the page.

const CLIENT_PERIOD = 250;    // milliseconds between two requests, as in the view
const MAX_ASKED = 40;         // maximum requests for one connection

let tab = '';                 // the name of the connection that is shown
let asked = 0;                // number of requests for it

ui.client = make('span', '', '');
ui.client.id = 'client';
ui.status.after(ui.client);

// Each connection gets a random name that only this page and the server know. The page needs a name
// for each connection, because it is two clients while it has a probe.
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
      if (!response.ok) asked = MAX_ASKED;     // the server is full: do not ask again
      const client = response.ok && await response.json();    // null until the client is registered
      if (client && tab === now) ui.client.textContent = `Client ${client.number}, ${client.addr}`;
    } catch { /* The next request tries again. */ }
  }
  setTimeout(showClient, CLIENT_PERIOD);
}

showClient();
