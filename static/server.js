'use strict';

// The address of home.html's server, and that server's limit on the size of messages.


// ---- The server's address ----

const ownOrigin = window.origin;    // sent by browsers; for a file, location.origin is different
const ownScheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
// A page that was opened from a file did not come from a server, and its origin is "null".
const FROM_FILE = 'For a page that was opened from a file, the server must be started with'
  + ' --allow-origin null. That server then accepts every page, no matter whose, that was opened'
  + ' from a file or is in a sandboxed frame.';
// The chat is next to the page, at ws. If the page's address ends in ?room=go, the room is at
// ws/go.
const ownChat = location.host ? nextTo(location.href) : '';
const ownServer = ownChat && withRoom(ownChat, location.href);

// nextTo returns the address of the chat next to a page.
function nextTo(page) {
  const url = new URL('ws', page);
  url.protocol = url.protocol.replace('http', 'ws');
  return url.href;
}

function withRoom(chat, page) {
  const room = new URL(page).searchParams.get('room');
  return room ? `${chat}/${encodeURIComponent(room)}` : chat;
}

// isOwn returns whether a URL is on the server that the page came from, in any room.
function isOwn(url) {
  return location.host !== '' && new URL(url).host === location.host;
}

// serverURL returns the WebSocket URL for a typed address. If the address is bad, it throws an
// Error whose message says what is wrong.
function serverURL(typed) {
  const address = typed.trim();
  if (!address && ownServer) return ownServer;
  const example = 'Write, for example, chat.example.org, [::1]:8080 or wss://chat.example.org/ws.';
  const [, scheme, rest] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*)$/is.exec(address);
  const schemes = { ws: 'ws:', http: 'ws:', wss: 'wss:', https: 'wss:' };
  const isPath = ownServer && /^\/(?![/\\])/.test(address);    // a path on this page's server
  const protocol = scheme ? schemes[scheme.toLowerCase()] : ownScheme;
  if (!protocol) throw new Error(`A gochat server cannot be reached by ${scheme}://. ${example}`);
  // The URL parser accepts some bad input: no host, no port after a colon, white space, and a plain
  // number, which it reads as an IPv4 address.
  const target = isPath ? location.host + rest : rest;
  const nonsense = /^[/\\]|^[^/?#]*:([/?#]|$)|\s|^\d+$/.test(target);
  let url;
  try { url = new URL(`${protocol}//${target}`); } catch { /* url stays undefined */ }
  if (nonsense || !url) throw new Error(`“${address}” is not the address of a server. ${example}`);
  if (url.username || url.password) throw new Error('An address with a user name or password cannot be used.');
  url.hash = '';    // a fragment means nothing to a WebSocket
  // An address that ends in a slash is a page's address, so the chat is next to that page.
  if (!url.pathname.endsWith('/')) return url.href;
  const bare = isOwn(url) && !isPath && url.pathname === '/';
  return withRoom(bare ? ownChat : nextTo(url.href), url.href);
}

// serverName returns a name for the server in use: its host, and its path if that is unusual.
function serverName() {
  const { host, pathname } = new URL(server);
  return server === ownChat || pathname === '/ws' ? host : host + pathname;
}

function useServer(url) {
  if (server && url !== server) note(`Changing to another ${isOwn(url) && isOwn(server) ? 'room' : 'server'}.`);
  server = url;
  reached = false;
  attempts = 0;
  const own = isOwn(server);
  ui.server.value = server === ownChat ? location.host : own ? server.replace(/^wss?:\/\/[^/]*/, '') : server;
  ui.home.hidden = server === ownServer || !ownServer;
  if (own) showRoom();
  connect();
}

// roomOf returns the name of a URL's room. It returns '' for the chat without a room, and null if
// the URL does not belong to this page's chat.
function roomOf(url) {
  if (url === ownChat) return '';
  if (!ownChat || !url.startsWith(`${ownChat}/`) || new URL(url).search) return null;
  try {
    return decodeURIComponent(url.slice(ownChat.length + 1));
  } catch {
    return null;    // such as /ws/100%
  }
}

// showRoom puts the room into the page's address, so that a reload stays in the room.
function showRoom() {
  const page = new URL(location.href);
  page.searchParams.delete('room');
  if (roomOf(server)) page.searchParams.set('room', roomOf(server));
  if (page.href !== location.href) history.replaceState(history.state, '', page);
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
    showServerError(error.message);    // keep the current connection
    ui.server.focus();
    return;
  }
  // Another server is stored only if the user asks for it. Otherwise the page might later connect
  // to a server that the user has forgotten. A room is not stored, because the page's address
  // contains it.
  if (roomOf(url) !== null) ui.remember.checked = false;
  remember('server', ui.remember.checked ? url : '');
  showServerError('');
  ui.settings.open = false;
  ui.msg.focus();
  useServer(url);
});

ui.home.addEventListener('click', () => {
  ui.server.value = '';    // an empty address means this page's server
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

// The maximum size of a message to this page's server, in bytes; 0 if unknown. The server
// disconnects a client that sends more. The page does not know other servers' limits.
let ownLimit = limitIn(document);

function limitIn(page) {
  return Number(page.querySelector('meta[name=max-message-size]')?.content) || 0;
}

function limit() {
  return server && isOwn(server) ? ownLimit : 0;
}

// learnLimit fetches the page again and reads the limit, because a restarted server may have a
// different limit.
async function learnLimit() {
  if (!isOwn(server)) return;
  ownLimit = 0;
  showSize();
  try {
    const response = await fetch(location.href, { cache: 'no-cache' });
    ownLimit = limitIn(new DOMParser().parseFromString(await response.text(), 'text/html'));
  } catch { /* The limit stays unknown. */ }
  showSize();
}
