'use strict';

// How home.html keeps its connection alive.

const CONNECT_TIMEOUT = 10;      // seconds; browsers would wait for minutes
const LONGEST_WAIT = 30;         // seconds between two attempts
const LASTING = 5;               // seconds after which a connection counts as good

// See “Is the connection alive?”. All but the last are in seconds.
const LATE = 3;                  // until a message that has not come back is shown as waiting
const SILENCE = 45;              // until a connection without any input is doubted
const PROBE_TIMEOUT = 5;         // for the second connection to open
const OVERLAP = 1;               // for either connection to receive something
const LINGER = 5;                // for the old connection to receive what is still on its way
const CLOSE_TIMEOUT = 30;        // for the old connection to end, including LINGER
const MAX_REFUSALS = 3;          // of second connections, one after another

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
let socket = null;      // the connection; the probe, below, is a different one
let openedAt = 0;       // when it opened, 0 while it is not open
let reached = false;    // has this server ever answered?
let attempts = 0;       // since the last good connection
let connections = 0;    // made by this page, to any server
let timer = 0;          // ends an attempt, or counts down to the next one
let heardAt = 0;        // when something last came on this connection
let unconfirmed = [];   // messages that were sent and have not come back from the server
let dialed = (url) => url;    // the URL to connect to; viewed.js adds to it

function show(state, text) {
  ui.status.dataset.state = state;
  ui.state.textContent = text;
  ui.countdown.textContent = '';
  if (state === 'connected') ui.refusal.textContent = '';
  ui.retry.hidden = state !== 'waiting';
  showSize();
}

// giveUp reports messages as possibly lost: all of them, or those that isLost selects.
/** @param {(sent: any) => boolean} isLost */
function giveUp(isLost = () => true) {
  for (const lost of unconfirmed.filter(isLost)) note(MAY_BE_LOST, lost);
  unconfirmed = unconfirmed.filter((sent) => !isLost(sent));
  showDoubt();
}

// disconnect ends the connection, all timers, and all pending events. why: a sentence.
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
  if (connections++) learnLimit();    // at the first one, the page's limit is up to date
  if (reached) note('Connected again.');
  reached = true;
  show('connected', `Connected to ${serverName()}${isOwn(server) ? '' : ', which is not this page\'s server'}.`);
}

function messagesIn({ data }) {
  return (typeof data === 'string' ? data : new TextDecoder().decode(data)).split('\n');
}

// retryLater waits twice as long each time. The random part keeps the clients
// of a restarted server from all reconnecting together. A connection that ends immediately does not
// reset the wait; otherwise the page would loop without a pause.
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

// explain shows why this page's own server, although reachable, has refused the connection.
// A WebSocket does not give the reason; an HTTP request to the same address does.
async function explain() {
  const attempt = attempts;
  const asked = server;
  const status = await answer(server.replace(/^ws/, 'http'));
  if (!status || attempts !== attempt || server !== asked || ui.status.dataset.state !== 'waiting') return;
  const { host, pathname } = new URL(server);
  ui.state.textContent = {
    200: `${host} has no chat at ${pathname}.`,    // it has a page there
    404: `${host} has no chat at ${pathname} (404).`,
    503: `${host} is full, and refuses the connection (503).`,
  }[status] || `${host} answers, but refuses the connection. It may refuse pages from ${ownOrigin}.`;
}

ui.retry.addEventListener('click', () => {
  ui.msg.focus();    // the button is about to vanish
  connect();
});

// On a return from the back/forward cache, the connection is dead or soon will be.
window.addEventListener('pageshow', (event) => {
  if (event.persisted && server) connect();
});


// ---- Is the connection alive? ----

// A connection can die without a sign: the network goes away, or a router forgets the connection. A
// page does not see the server's pings and cannot send any. So when in doubt, it opens a second
// connection to the same server, the probe:
//
// - LATE seconds after a message was sent, if neither it nor anything else has come since;
// - after SILENCE seconds without input, or when the network is back.
//
// If the probe does not open within PROBE_TIMEOUT seconds, nothing gets through:
// the page disconnects and tries again. If the probe opens, the network is alive, but
// the old connection may be dead. Both connections are in the room now. If the old
// connection receives something first, it is alive. Otherwise the probe replaces it.
//
// So a dead network is noticed within 9 seconds of a message, and within 51 seconds
// without a message. A dead connection in a live network is replaced within a minute.
// If the network immediately refuses every new connection, a dead one is noticed within
// MAX_REFUSALS times SILENCE and a few seconds more. While the server is full, a dead connection in
// a live network is not noticed. All this holds while the tab is visible. A hidden tab does not
// probe, because its timers run late; it probes as soon as it becomes visible.

let probe = null;       // there is never more than one
let probeTimer = 0;
let provenAt = 0;       // when the connection or a probe last got an answer
let refusals = 0;       // probes refused since something last came
const shownSince = new Set();    // lists of texts shown while a replaced connection ends

function heard() {
  endProbe();
  heardAt = provenAt = Date.now();
  refusals = 0;
}

function secondsSince(time) {
  // Not performance.now(), which stands still while some computers sleep.
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
  // A room may be slow, and a server with --rate reads slowly: a waiting message gets more time,
  // and the connection is left alone.
  if (unconfirmed.length > 0 && secondsSince(heardAt) < SILENCE) return endProbe();
  probe.onmessage = (event) => {
    takeOver();
    received(event);
  };
  probeTimer = setTimeout(takeOver, OVERLAP * 1000);
}

// A full server refuses connections, but is alive. This computer may also refuse, if it
// has no route to the server. A WebSocket cannot tell these apart. An HTTP request to
// this page's own server can: any answer, even 503, shows that the server is reachable,
// and then the page keeps its place on the full server.
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
  } else if (socket === doubted && heardAt === last) {    // nothing has come meanwhile
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

// takeOver replaces the connection with the probe. The close frame is the only frame from a page
// that the server must answer. It follows all messages, so a clean end proves that the server has
// read them; they then come back on the new connection. An unclean end proves that the old
// connection was dead.
//
// Messages that still arrive on the old connection are kept; those that have not arrived
// on the new one are shown at the end. After close(), a browser drops arriving messages.
// So the old connection first stays open for LINGER seconds, and if the server's answer
// to the close frame takes longer than LATE, messages may have been dropped before it.
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

// without returns the texts that are not in others. A text that occurs twice in texts and once in
// others is returned once.
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

// showDoubt shows messages that were sent over LATE seconds ago and have not come back.
function showDoubt() {
  const late = unconfirmed.filter(({ at }) => secondsSince(at) >= LATE);
  ui.offline.hidden = navigator.onLine;
  ui.status.classList.toggle('doubtful', late.length > 0 || !navigator.onLine);
  // Only if something has changed, because a screen reader reads out each new text of the status.
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
  provenAt = 0;    // it may be a different network
  check();
});

document.addEventListener('visibilitychange', () => {
  if (document.hidden) endProbe();
  else check();
});
