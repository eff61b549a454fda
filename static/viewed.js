'use strict';

// Shows which client of the live view home.html is. Only a server with --view puts this into the
// page.

const CLIENT_PERIOD = 250;    // milliseconds between two requests, as in the view
const MAX_ASKED = 40;         // times for one connection

let tab = '';                 // names the connection that is shown
let asked = 0;

ui.client = make('span', '', '');
ui.client.id = 'client';
ui.status.after(ui.client);

// The server knows each connection by a name that only this page knows. Each connection has its own
// name, because the page is two clients while it has a probe.
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
      if (!response.ok) asked = MAX_ASKED;     // a full server: leave it alone
      const client = response.ok && await response.json();    // null while the server has none
      if (client && tab === now) ui.client.textContent = `Client ${client.number}, ${client.addr}`;
    } catch { /* The next request tries again. */ }
  }
  setTimeout(showClient, CLIENT_PERIOD);
}

showClient();
