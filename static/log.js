'use strict';

// The log of home.html, and what the browser keeps.

const MAX_LOG = 2000;            // lines kept on the page
const MAX_KEPT = 200;            // of these, how many survive a reload
const MAX_STORED = 500_000;      // characters kept for a reload, and of a draft
const TOGETHER = 300;            // seconds within which messages from one name form a group
const COLORS = 8;                // of names; home.css has them

// The page's elements by their ids: ui.log, ui.msg, …
const ui = /** @type {Record<string, any>} */ ({});
for (const element of document.querySelectorAll('[id]')) ui[element.id] = element;


// ---- What the browser keeps ----

// A browser can forbid storage by throwing. The chat works without it. Each tab
// has its own sessionStorage; all tabs share the localStorage.
function recall(key, storage = 'localStorage') {
  try { return window[storage].getItem(`gochat.${key}`); } catch { return null; }
}

function remember(key, value, storage = 'localStorage') {
  try { window[storage].setItem(`gochat.${key}`, value); } catch { /* Not kept, then. */ }
}

// A tab keeps its own name, even an empty one. A new tab starts with the name
// that was typed last, in any tab.
function rememberName() {
  remember('name', clean(ui.name.value), 'sessionStorage');
}


// ---- The log ----

let arrived = [];       // items to be appended, see flush
let following = true;   // is the reader at the end?
let lastTop = 0;
let unread = {};        // by kind, how many items have come below the visible ones
let kept = [];          // the items that were drawn, for a reload
let last = { name: '', day: '', date: new Date(0) };    // about the item that was drawn last
const plain = new WeakMap();    // for each line, the text that is copied

// note tells the reader something that is not a message. lost: a message that
// might not have arrived, see send.
function note(text, lost) {
  append({ kind: 'note', text, lost, date: new Date() });
}

// drawn returns the lines for an item: on a new day, a line with the date comes first.
function drawn(item) {
  const { kind, text, lost, mine, date } = item;
  kept.push(item);
  const name = kind === 'message' ? senderOf(text) : '';
  const day = date.toDateString();
  const lines = [];
  if (last.day && last.day !== day) {
    lines.push(markLine('day', date.toLocaleDateString('en', { dateStyle: 'full' }), date));
    last.name = '';
  }
  if (kind === 'mark') {
    for (const old of ui.log.querySelectorAll('.left')) removeLine(old);
    lines.push(markLine('left', text, date));
  } else {
    const time = make('time', '', clock(date));
    time.dateTime = date.toISOString();
    time.title = date.toString();
    time.setAttribute('aria-hidden', 'true');    // not to be read out with each message
    const line = make('div', kind, '');
    line.classList.toggle('mine', Boolean(mine));
    line.classList.toggle('again', name !== '' && name === last.name && Number(date) - Number(last.date) < TOGETHER * 1000);
    line.append(time, kind === 'message' ? messageText(text) : noteText(text, lost));
    lines.push(line);
    plain.set(line, `${clock(date).slice(0, 5)} ${text}${lost ? ` ${lost.text}` : ''}`);
  }
  last = { name, day, date };
  return lines;
}

// removeLine removes a line without moving the visible lines.
function removeLine(line) {
  const height = line.offsetTop < ui.log.scrollTop ? line.offsetHeight : 0;
  const top = ui.log.scrollTop;
  line.remove();
  if (!following) ui.log.scrollTop = lastTop = top - height;
}

function markLine(kind, text, date) {
  const line = make('div', `mark ${kind}`, '');
  line.append(make('span', 'text', text));
  plain.set(line, `— ${text}${kind === 'left' ? `, ${clock(date).slice(0, 5)}` : ''} —`);
  return line;
}

function clock(date) {
  return date.toTimeString().slice(0, 8);
}

function noteText(text, lost) {
  const body = make('span', 'text', text);
  if (lost) body.append(' ', make('bdi', '', lost.text), ' ', againButton(lost));
  return body;
}

function againButton(lost) {
  const button = make('button', '', 'Send again');
  button.type = 'button';
  button.addEventListener('click', () => {
    // Messages of one room do not belong in another.
    if (lost.server !== server) {
      ui.refusal.textContent = 'Not sent: this was for another server.';
    } else if (send(lost.text)) {
      ui.msg.focus();    // the button is about to vanish
      button.remove();
    }
  });
  return button;
}

// A message is "name: text", or only text. A bdi element takes its direction
// from the text in it, but not from a bdi element in it: the text decides where
// the line starts, and a name in Arabic or Hebrew does not affect the text after it.
function messageText(text) {
  const body = make('bdi', 'text', '');
  const name = senderOf(text);
  if (name) {
    const from = make('span', 'from', '');
    from.append(make('bdi', 'name', name), ': ');
    from.firstChild.dataset.color = colorOf(name);
    body.append(from);
    text = text.slice(name.length + 2);
  }
  body.append(...withLinks(text));
  return body;
}

// senderOf returns the name that a message begins with, or ''.
function senderOf(text) {
  const end = text.indexOf(': ');
  return end > 0 && end <= ui.name.maxLength ? text.slice(0, end) : '';
}

// colorOf returns the same color for a name everywhere: a hash of it, by FNV-1a.
function colorOf(name) {
  let hash = 0x811c9dc5;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193) >>> 0;
  return ((hash ^ hash >>> 13 ^ hash >>> 21) >>> 0) % COLORS;
}

// withLinks returns the text as nodes in which http and https links can be
// clicked. No link may look as if it led somewhere else: a character that is invisible or changes
// the direction ends the link. An address whose host has letters outside ASCII, or a user name
// before it, does not become a link, because the browser reads it differently. Text that begins
// with www. becomes an https link.
function withLinks(text) {
  const nodes = [];
  let from = 0;
  for (const { 0: found, index } of text.matchAll(/(?:\bhttps?:\/\/|(?<![\w@./-])www\.[^\s.]+\.)[^\s<>"\p{Default_Ignorable_Code_Point}]+/giu)) {
    if (found.length > 2000) continue;    // browsers do not open such a link either
    const address = withoutPunctuation(found);
    const target = /^www/i.test(address) ? `https://${address}` : address;
    let origin;
    try { ({ origin } = new URL(target)); } catch { continue; }
    if (!target.toLowerCase().startsWith(origin)) continue;
    const link = make('a', '', address);
    link.href = target;
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    link.dir = 'ltr';
    nodes.push(text.slice(from, index), link);
    from = index + address.length;
  }
  return [...nodes, text.slice(from)];
}

// Punctuation at the end of an address belongs to the surrounding sentence, and so does a closing
// bracket without an opening one.
function withoutPunctuation(address) {
  const count = (mark) => address.split(mark).length - 1;
  for (;;) {
    const last = address.slice(-1);
    const opening = { ')': '(', ']': '[', '}': '{' }[last];
    const goes = opening ? count(last) > count(opening) : '.,;:!?\'’”»…'.includes(last);
    if (!goes) return address;
    address = address.slice(0, -1);
  }
}

// Only make puts text into the log: as text, never as HTML.
function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// makeRoom drops the oldest messages. The visible ones do not move.
function makeRoom(count) {
  const excess = ui.log.childElementCount + count - MAX_LOG;
  if (excess <= 0) return;
  const height = ui.log.scrollHeight;
  const top = ui.log.scrollTop;
  for (let i = 0; i < excess; i++) ui.log.firstChild.remove();
  if (!following) ui.log.scrollTop = lastTop = Math.max(0, top - (height - ui.log.scrollHeight));
}

function toEnd() {
  ui.log.scrollTop = ui.log.scrollHeight;
  lastTop = ui.log.scrollTop;
  following = true;
  unread = {};
  showJump();
}

function showJump() {
  const parts = Object.entries(unread).map(([kind, count]) => `${count} new ${kind}${count === 1 ? '' : 's'}`);
  ui.jump.hidden = parts.length === 0;
  ui.jump.textContent = `${parts.join(' and ')} below ↓`;
}

ui.log.addEventListener('scroll', () => {
  const top = ui.log.scrollTop;
  // A scroll position is not always a whole number, hence the tolerance.
  if (ui.log.scrollHeight - ui.log.clientHeight - top < 2) {
    following = true;
    unread = {};
    showJump();
  } else if (top < lastTop) {
    // Only the reader scrolls up. A position above the end alone proves nothing, because the log may just
    // have shrunk, and the observer below has not run yet.
    following = false;
  }
  lastTop = top;
});

// A phone's keyboard or a longer status line shrinks the log; a reader at the end
// stays there.
new ResizeObserver(() => { if (following) toEnd(); }).observe(ui.log);

ui.jump.addEventListener('click', () => {
  ui.log.focus({ preventScroll: true });    // the button is about to vanish
  toEnd();
});


// Copied lines have the form 12:03 Ann: hello. A part of one line is copied unchanged.
document.addEventListener('copy', (event) => {
  const selection = getSelection();
  if (event.target instanceof Element && event.target.closest('input, textarea')) return;
  const lines = [...ui.log.children].filter((line) => selection.containsNode(line, true));
  const whole = lines.length > 1 || lines[0]?.querySelector('time') && selection.containsNode(lines[0].querySelector('time'), true);
  if (!whole) return;
  event.clipboardData.setData('text/plain', lines.map((line) => plain.get(line)).join('\n'));
  event.preventDefault();
});


// ---- What survives a reload ----

const LOADED = 'The page was loaded again. What others wrote meanwhile is missing here.';

window.addEventListener('pagehide', () => {
  const lost = unconfirmed.map((sent) => ({ kind: 'note', text: MAY_BE_LOST, lost: { text: sent.text, server: sent.server }, date: new Date() }));
  let items = [...kept, ...arrived, ...lost].slice(-MAX_KEPT);
  while (JSON.stringify(items).length > MAX_STORED) items = items.slice(Math.ceil(items.length / 2));
  remember('log', JSON.stringify({ server, items }), 'sessionStorage');
  remember('draft', ui.msg.value.slice(0, MAX_STORED), 'sessionStorage');
});

// isItem rejects items that this page cannot draw, such as those of another version; the rest is
// kept.
function isItem(item) {
  return ['message', 'note', 'mark'].includes(item?.kind) && typeof item.text === 'string'
    && typeof (item.lost ?? { text: '' }).text === 'string' && !isNaN(Number(new Date(item.date)));
}

// restore brings back the draft, and the log if it is from the same server.
function restore() {
  ui.msg.value = recall('draft', 'sessionStorage') ?? '';
  grow();
  try {
    const stored = JSON.parse(recall('log', 'sessionStorage'));
    const items = stored.items.filter(isItem);
    if (stored.server !== server || items.length === 0) return;
    for (const item of items) append({ ...item, date: new Date(item.date) });
    if (items.at(-1).text !== LOADED) note(LOADED);
  } catch { /* There is none. */ }
}


// ---- The title ----

let missed = 0;    // how many messages have come while the tab was hidden

function showMissed() {
  document.title = missed ? `(${missed}) gochat` : 'gochat';
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  missed = 0;
  showMissed();
});


// ---- Notifications ----

// The browser asks its user, and only after a click. Over plain http, it offers
// notifications only on localhost.
const CAN_NOTIFY = 'Notification' in window && window.isSecureContext;
const NOTIFY_HELP = 'Of messages while the page is hidden, and of @ and your name while you are elsewhere.';

function showNotify(on) {
  ui.notify.checked = on;
  ui.notify.disabled = !CAN_NOTIFY;
  ui['notify-help'].textContent = !CAN_NOTIFY ? 'This browser has no notifications for this page.'
    : Notification.permission === 'denied' ? 'The browser has forbidden this page to notify you.' : NOTIFY_HELP;
}

ui.notify.addEventListener('change', async () => {
  const wanted = ui.notify.checked;
  showNotify(wanted && await Notification.requestPermission() === 'granted');
  remember('notify', ui.notify.checked ? 'on' : '');
});

function notify(text) {
  if (!ui.notify.checked) return;
  const name = clean(ui.name.value).toLowerCase();
  const called = name !== '' && text.toLowerCase().includes(`@${name}`);
  if (!document.hidden && !(called && !document.hasFocus())) return;
  try {
    // The page has only one notification: a new one replaces the previous one.
    const shown = new Notification(called ? 'gochat: you are called' : 'gochat', { body: text, tag: 'gochat' });
    shown.addEventListener('click', () => window.focus());
  } catch { /* Some phones allow only service workers to notify. */ }
}

showNotify(CAN_NOTIFY && Notification.permission === 'granted' && recall('notify') === 'on');
