'use strict';

// Which server home.html talks to, and the server's limit.


// ---- The server's address ----

const ownOrigin = window.origin;    // location.origin is not what a browser sends for a file
const ownScheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
// A page opened from a file has no server of its own, and its origin is "null".
const FROM_FILE = 'For a page that was opened from a file, the server must be started with'
  + ' --allow-origin null. That server then accepts every page, no matter whose, that was opened'
  + ' from a file or is in a sandboxed frame.';
const ownServer = location.host ? `${ownScheme}//${location.host}/ws` : '';

// serverURL returns the WebSocket URL for what a person typed, or throws an
// Error that says what is wrong with it.
function serverURL(typed) {
  const address = typed.trim();
  if (!address && ownServer) return ownServer;
  const example = 'Write, for example, chat.example.org, [::1]:8080 or wss://chat.example.org/ws.';
  const [, scheme, rest] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*)$/is.exec(address);
  const schemes = { ws: 'ws:', http: 'ws:', wss: 'wss:', https: 'wss:' };
  const protocol = scheme ? schemes[scheme.toLowerCase()] : ownScheme;
  if (!protocol) throw new Error(`A gochat server cannot be reached by ${scheme}://. ${example}`);
  // The URL parser accepts some nonsense: no host, no port after the colon,
  // white space, and a mere number, which it takes for an IPv4 address.
  const nonsense = /^[/\\]|^[^/?#]*:([/?#]|$)|\s|^\d+$/.test(rest);
  let url;
  try { url = new URL(`${protocol}//${rest}`); } catch { /* url stays undefined */ }
  if (nonsense || !url) throw new Error(`“${address}” is not the address of a server. ${example}`);
  if (url.username || url.password) throw new Error('An address with a user name or password cannot be used.');
  if (url.pathname === '/') url.pathname = '/ws';
  url.hash = '';    // means nothing to a WebSocket
  return url.href;
}

function serverName() {
  return new URL(server).host;
}

function useServer(url) {
  if (server && url !== server) note('Changing to another server.');
  server = url;
  reached = false;
  attempts = 0;
  const own = server === ownServer;
  ui.server.value = own ? location.host : server;
  ui.home.hidden = own || !ownServer;
  connect();
}

function showServerError(text) {
  ui['server-error'].textContent = text;
  ui['server-error'].hidden = !text;
  ui.server.setAttribute('aria-invalid', String(text !== ''));
}

ui.panel.addEventListener('submit', (event) => {
  event.preventDefault();
  let url;
  try {
    url = serverURL(ui.server.value);
  } catch (error) {
    showServerError(error.message);    // and the page stays with its server
    ui.server.focus();
    return;
  }
  // Another server is remembered only on request: otherwise the page would open
  // some day with a server that nobody remembers choosing.
  if (url === ownServer) ui.remember.checked = false;
  remember('server', ui.remember.checked ? url : '');
  showServerError('');
  ui.settings.open = false;
  ui.msg.focus();
  useServer(url);
});

ui.home.addEventListener('click', () => {
  ui.server.value = '';    // no address means our own server
  ui.panel.requestSubmit();
});

ui.settings.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  ui.settings.open = false;
  ui.settings.querySelector('summary').focus();
});

document.addEventListener('pointerdown', (event) => {
  if (!ui.settings.contains(event.target)) ui.settings.open = false;
});


// ---- The server's limit ----

// The server closes the connection on a message with more bytes than it takes.
// Only the server that the page came from has told its limit; 0: not known.
let ownLimit = limitIn(document);

function limitIn(page) {
  return Number(page.querySelector('meta[name=max-message-size]')?.content) || 0;
}

function limit() {
  return server === ownServer ? ownLimit : 0;
}

// A server that was restarted may have another limit, and its page tells that.
async function learnLimit() {
  if (server !== ownServer) return;
  ownLimit = 0;
  showSize();
  try {
    const response = await fetch(location.href, { cache: 'no-cache' });
    ownLimit = limitIn(new DOMParser().parseFromString(await response.text(), 'text/html'));
  } catch { /* It stays unknown. */ }
  showSize();
}
