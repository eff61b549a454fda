'use strict';

// Connects home.html to its server, notices a dead connection, and reconnects.

const CONNECT_TIMEOUT = 10;      // seconds; browsers would wait for minutes
const LONGEST_WAIT = 30;         // seconds between two attempts
const LASTING = 5;               // seconds after which a connection counts as good

// “Is the connection alive?” below explains these. All except the last are in seconds.
const LATE = 3;                  // time after which a message that has not come back is late
const SILENCE = 45;              // time without input after which the connection is doubted
const PROBE_TIMEOUT = 5;         // time allowed for the probe to open
const OVERLAP = 1;               // time for the old connection or the probe to receive something
const LINGER = 5;                // time for messages that are still in flight on the old connection
const CLOSE_TIMEOUT = 30;        // time allowed for the old connection to end, including LINGER
const MAX_REFUSALS = 3;          // number of probes refused in a row after which the page acts

const MAY_BE_LOST = 'This message has not come back and may be lost:';
const CLOSED = 'The server closed the connection, as it does when a client reads too slowly';
const CLOSE_CODES = {
  1000: CLOSED,
  1001: 'The server is going away or restarting',
  1005: CLOSED,    // reported by the browser if no code was sent
  1006: 'The connection was lost',
  1007: 'The server got text that is not valid UTF-8',
  1008: 'The server refused this because of its policy',
  1009: 'The message was too big for the server',
  1011: 'The server failed',
  1012: 'The server is restarting',
  1013: 'The server is too busy, and asks for another attempt later',
};


// ---- The connection ----

let server = '';        // the URL in use
let socket = null;      // the connection to the server, not the probe
let openedAt = 0;       // when the connection opened; 0 while it is not open
let reached = false;    // whether a connection to this server has ever opened
let attempts = 0;       // number of attempts since the last good connection
let connections = 0;    // number of connections that have opened, to any server
let timer = 0;          // ends an attempt, or counts down to the next attempt
let heardAt = 0;        // when the connection last received something
let unconfirmed = [];   // messages that were sent, but have not come back from the server
let dialed = (url) => url;    // returns the URL to connect to; viewed.js replaces this function

function show(state, text) {
  ui.status.dataset.state = state;
  ui.state.textContent = text;
  ui.countdown.textContent = '';
  if (state === 'connected') ui.refusal.textContent = '';
  ui.retry.hidden = state !== 'waiting';
  showSize();
}

// giveUp reports all unconfirmed messages as possibly lost, or only those that isLost selects.
/** @param {(sent: any) => boolean} isLost */
function giveUp(isLost = () => true) {
  for (const lost of unconfirmed.filter(isLost)) note(MAY_BE_LOST, lost);
  unconfirmed = unconfirmed.filter((sent) => !isLost(sent));
  showDoubt();
}

// disconnect ends the connection, the probe and all timers. why: a sentence for the log.
function disconnect(why = '') {
  clearTimeout(timer);
  endProbe();
  if (socket) {
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    socket = null;
  }
  if (openedAt) note(`Disconnected. ${why}${why && ' '}What others write until the next connection is not shown here.`);
  openedAt = 0;
  giveUp();
}

function opened() {
  clearTimeout(timer);
  openedAt = performance.now();
  heard();
  if (connections++) learnLimit();    // at the first connection, the limit in the page is up to date
  if (reached) note('Connected again.');
  reached = true;
  show('connected', `Connected to ${serverName()}${isOwn(server) ? '' : ', which is not this page\'s server'}.`);
}

function messagesIn({ data }) {
  return (typeof data === 'string' ? data : new TextDecoder().decode(data)).split('\n');
}

// retryLater disconnects, and reconnects after a wait, which doubles with each attempt. A random
// part of the wait keeps the clients of a restarted server from all reconnecting at the same
// moment. A connection that ends immediately does not reset the wait; otherwise the page would
// reconnect in a fast loop.
function retryLater(why) {
  if (openedAt && performance.now() - openedAt > LASTING * 1000) attempts = 0;
  const longest = Math.min(LONGEST_WAIT, 2 ** attempts);
  attempts++;
  const at = performance.now() + longest * (0.5 + 0.5 * Math.random()) * 1000;
  disconnect(why);
  show('waiting', why);
  (function countDown() {
    const seconds = Math.ceil((at - performance.now()) / 1000);
    if (seconds <= 0) return connect();
    ui.countdown.textContent = `Connecting again in ${seconds} s.`;
    timer = setTimeout(countDown, Math.min(1000, at - performance.now()));
  })();
}

// explain shows why this page's own server refused the connection. A WebSocket does not report the
// reason, but an HTTP request to the same address does.
async function explain() {
  const attempt = attempts;
  const asked = server;
  const status = await answer(server.replace(/^ws/, 'http'));
  if (!status || attempts !== attempt || server !== asked || ui.status.dataset.state !== 'waiting') return;
  const { host, pathname } = new URL(server);
  ui.state.textContent = {
    200: `${host} has no chat at ${pathname}.`,    // the answer was an ordinary page
    404: `${host} has no chat at ${pathname} (404).`,
    503: `${host} is full, and refuses the connection (503).`,
  }[status] || `${host} answers, but refuses the connection. It may refuse pages from ${ownOrigin}.`;
}

ui.retry.addEventListener('click', () => {
  ui.msg.focus();    // the button is about to vanish
  connect();
});

// When the page comes back from the back/forward cache, its connection is dead or soon will be.
window.addEventListener('pageshow', (event) => {
  if (event.persisted && server) connect();
});


// ---- Is the connection alive? ----

// A connection can die unnoticed: the network goes away, or a router forgets the connection. A page
// does not see the server's pings, and cannot send its own. So when the page doubts its connection,
// it opens a second connection to the same server, the probe. It does this
//
// - LATE seconds after sending a message, if it has received nothing since then;
// - after SILENCE seconds without input;
// - when the network is back.
//
// If the probe does not open within PROBE_TIMEOUT seconds, the network is dead. The page then
// disconnects, and reconnects later. If the probe opens, the network is alive, but the old
// connection may be dead. Both connections are now in the room. If the old connection receives
// something first, it is alive, and the probe is closed. Otherwise the probe replaces the old
// connection.
//
// So the page notices a dead network within 9 seconds of sending a message, and otherwise within 51
// seconds. It replaces a dead connection in a live network within a minute.
//
// Two cases are different. If every new connection is refused immediately, the page notices a dead
// connection a few seconds after MAX_REFUSALS times SILENCE. While the server is full, the page
// does not notice a dead connection in a live network.
//
// A hidden tab does not probe, because its timers run late. It probes when it becomes visible.

let probe = null;       // the probe; null if there is none
let probeTimer = 0;
let provenAt = 0;       // when the connection or a probe last got an answer
let refusals = 0;       // number of probes refused since the last input
const shownSince = new Set();    // the texts shown since each replacement whose old connection has not ended

function heard() {
  endProbe();
  heardAt = provenAt = Date.now();
  refusals = 0;
}

function secondsSince(time) {
  // On some computers, performance.now() stops while the computer sleeps.
  return (Date.now() - time) / 1000;
}

function check() {
  showDoubt();
  if (!openedAt || probe || document.hidden) return;
  const doubted = unconfirmed.some(({ at }) => at >= provenAt && secondsSince(at) >= LATE);
  if (doubted || secondsSince(provenAt) >= SILENCE) openProbe();
}

setInterval(check, 1000);

function openProbe() {
  probe = new WebSocket(dialed(server));
  probe.binaryType = 'arraybuffer';
  probe.onopen = probeOpened;
  probe.onclose = probeRefused;
  probeTimer = setTimeout(() => {
    retryLater(`The connection is dead: ${serverName()} has not answered for ${PROBE_TIMEOUT} seconds.`);
  }, PROBE_TIMEOUT * 1000);
}

function endProbe() {
  clearTimeout(probeTimer);
  if (!probe) return;
  probe.onopen = probe.onmessage = probe.onclose = null;
  probe.close();
  probe = null;
}

function probeOpened() {
  clearTimeout(probeTimer);
  provenAt = Date.now();
  refusals = 0;
  // A message has not come back. But the room may be slow, or --rate may make the server read
  // slowly. So keep the connection, and wait longer.
  if (unconfirmed.length > 0 && secondsSince(heardAt) < SILENCE) return endProbe();
  probe.onmessage = (event) => {
    takeOver();
    received(event);
  };
  probeTimer = setTimeout(takeOver, OVERLAP * 1000);
}

// A probe can be refused by a full server, which is alive, or by this computer, if it has no route
// to the server. A WebSocket does not report which. But if this page's own server answers an HTTP
// request, even with 503, it is alive, and the page keeps its connection.
async function probeRefused() {
  endProbe();
  provenAt = Date.now();
  refusals++;
  if (!navigator.onLine) return retryLater('The connection is dead.');
  if (refusals < MAX_REFUSALS) return;
  const doubted = socket;
  const last = heardAt;
  if (isOwn(server) && await answer(location.href)) {
    refusals = 0;
  } else if (socket === doubted && heardAt === last) {    // still nothing has been received
    retryLater(`Nothing has come for ${Math.round(secondsSince(last))} seconds, and ${serverName()} refuses another connection.`);
  }
}

// answer returns the status of an HTTP answer, or 0 if there is none.
async function answer(url) {
  try {
    const { status } = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(PROBE_TIMEOUT * 1000) });
    return status;
  } catch {
    return 0;
  }
}

// takeOver replaces the connection with the probe, and closes the old connection.
//
// The page's close frame comes after all its messages, and the server must answer it. So if the
// close is clean, the server has read the messages, and they come back on the new connection. If
// the close is not clean, the old connection was dead.
//
// Messages may still arrive on the old connection. When it ends, the page shows those that the new
// connection did not receive. A browser drops messages that arrive after close(), so the page first
// keeps the old connection open for LINGER seconds. If the server takes more than LATE seconds to
// answer the close frame, the browser may have dropped messages, and the page says so.
function takeOver() {
  const old = socket;
  const room = server;
  const last = heardAt;
  const kept = [];
  const shown = [];
  let closedAt = 0;
  const mine = socket = probe;
  probe = null;
  heard();
  shownSince.add(shown);
  mine.onopen = null;
  mine.onmessage = received;
  mine.onclose = ended;

  old.onmessage = (event) => kept.push(...messagesIn(event));
  old.onclose = ({ wasClean }) => {
    clearTimeout(lingering);
    clearTimeout(overdue);
    old.onmessage = old.onclose = null;
    shownSince.delete(shown);
    if (room === server) showMessages(without(kept, shown));
    const late = closedAt && secondsSince(closedAt) > LATE;
    if (socket === mine && (!wasClean || late)) {
      const why = wasClean ? 'The connection was held up.' : 'The connection had died.';
      note(`${why} What others wrote after ${clock(new Date(last))} may be missing here.`);
      learnLimit();
    }
    setTimeout(giveUp, wasClean ? LATE * 1000 : 0, ({ by }) => by === old);
  };
  const lingering = setTimeout(() => {
    closedAt = Date.now();
    old.close();
  }, LINGER * 1000);
  const overdue = setTimeout(() => old.onclose({ wasClean: false }), CLOSE_TIMEOUT * 1000);
}

// without returns the texts that are not in others. If a text occurs twice in texts and once in
// others, it is returned once.
function without(texts, others) {
  const left = new Map();
  for (const text of others) left.set(text, (left.get(text) || 0) + 1);
  return texts.filter((text) => {
    const count = left.get(text) || 0;
    if (count) left.set(text, count - 1);
    return !count;
  });
}

let shownLate = [];

// showDoubt shows the messages that were sent at least LATE seconds ago and have not come back.
function showDoubt() {
  const late = unconfirmed.filter(({ at }) => secondsSince(at) >= LATE);
  ui.offline.hidden = navigator.onLine;
  ui.status.classList.toggle('doubtful', late.length > 0 || !navigator.onLine);
  // If nothing has changed, stop here, because a screen reader reads out each new text of the
  // status.
  if (late.length === shownLate.length && late.every((sent, i) => sent === shownLate[i])) return;
  shownLate = late;
  ui.doubt.textContent = late.length === 0 ? '' : late.length === 1
    ? '1 message has not come back yet.' : `${late.length} messages have not come back yet.`;
  ui.late.hidden = late.length === 0;
  ui.late.replaceChildren(...late.map(({ text }) => {
    const line = make('div', 'late', '');
    line.append(make('span', 'tag', 'waiting…'), make('bdi', 'text', text));
    return line;
  }));
}

window.addEventListener('offline', showDoubt);
window.addEventListener('online', () => {
  if (['waiting', 'connecting'].includes(ui.status.dataset.state)) return connect();
  provenAt = 0;    // this may be a different network
  check();
});

document.addEventListener('visibilitychange', () => {
  if (document.hidden) endProbe();
  else check();
});
