'use strict';

// The log of home.html, and what the browser stores.

const MAX_LOG = 2000;            // maximum lines on the page
const MAX_KEPT = 200;            // maximum lines that survive a reload
const MAX_STORED = 500_000;      // maximum characters stored for the log, and for the draft
const TOGETHER = 300;            // seconds; messages from one name that are closer together form a group
const COLORS = 8;                // number of colors for names; home.css defines them

// The page's elements by their ids: ui.log, ui.msg, …
const ui = /** @type {Record<string, any>} */ ({});
for (const element of document.querySelectorAll('[id]')) ui[element.id] = element;


// ---- What the browser stores ----

// If the browser forbids storage, these functions do nothing, and the chat works without storage.
// Each tab has its own sessionStorage; all tabs share one localStorage.
function recall(key, storage = 'localStorage') {
  try { return window[storage].getItem(`gochat.${key}`); } catch { return null; }
}

function remember(key, value, storage = 'localStorage') {
  try { window[storage].setItem(`gochat.${key}`, value); } catch { /* The value is not kept. */ }
}

// Each tab keeps its own name, even if it is empty. A new tab starts with the name that was last
// typed in any tab.
function rememberName() {
  remember('name', clean(ui.name.value), 'sessionStorage');
}


// ---- The log ----

let arrived = [];       // items that are not drawn yet; flush draws them
let following = true;   // whether the log scrolls to its end when lines are added
let lastTop = 0;        // the last scroll position
let unread = {};        // for each kind, the number of new items below the visible part of the log
let kept = [];          // the items that survive a reload
let last = { name: '', day: '', date: new Date(0) };    // describes the last item in the log
const plain = new WeakMap();    // for each line, its text for the clipboard

// note adds a line that is not a message. lost: a message that might not have arrived; the line
// gets a button that sends it again.
function note(text, lost) {
  append({ kind: 'note', text, lost, date: new Date() });
}

// drawn returns the lines for an item. On a new day, the first line is the date.
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
    time.setAttribute('aria-hidden', 'true');    // so that a screen reader does not read it out
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

// removeLine removes a line. The visible lines do not move.
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
    // A message for one room or server must not be sent to another.
    if (lost.server !== server) {
      ui.refusal.textContent = 'Not sent: this was for another server.';
    } else if (send(lost.text)) {
      ui.msg.focus();    // the button is about to vanish
      button.remove();
    }
  });
  return button;
}

// messageText returns an element for a message, which is "name: text" or just text. The bdi
// elements separate the text directions, so that a name in Arabic or Hebrew does not change the
// direction of the text after it. Only the text decides on which side the line starts.
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

// senderOf returns the name at the beginning of a message, or ''.
function senderOf(text) {
  const end = text.indexOf(': ');
  return end > 0 && end <= ui.name.maxLength ? text.slice(0, end) : '';
}

// colorOf returns the number of a name's color, which comes from a hash (FNV-1a), so it is the same
// on every page.
function colorOf(name) {
  let hash = 0x811c9dc5;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193) >>> 0;
  return ((hash ^ hash >>> 13 ^ hash >>> 21) >>> 0) % COLORS;
}

// withLinks returns the text as nodes in which http and https addresses are links. An address that
// begins with www. becomes an https link.
//
// A link must not look as if it led elsewhere. So it ends before any character that is invisible or
// changes the text direction. If the host has letters outside ASCII, or a user name before it,
// there is no link, because the browser would open a host that looks different.
function withLinks(text) {
  const nodes = [];
  let from = 0;
  for (const { 0: found, index } of text.matchAll(/(?:\bhttps?:\/\/|(?<![\w@./-])www\.[^\s.]+\.)[^\s<>"\p{Default_Ignorable_Code_Point}]+/giu)) {
    if (found.length > 2000) continue;    // nobody wants to open a link this long
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

// withoutPunctuation removes what belongs to the surrounding sentence from the end of an address:
// punctuation, and closing brackets without an opening one.
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

// make returns an element that contains a text. All elements in the log are made here, so no
// message is ever read as HTML.
function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// makeRoom removes the oldest lines so that `count` new lines fit. The visible lines do not move.
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
  // Not exactly 0, because a scroll position may have a fraction.
  if (ui.log.scrollHeight - ui.log.clientHeight - top < 2) {
    following = true;
    unread = {};
    showJump();
  } else if (top < lastTop) {
    // Only the reader scrolls up. A position above the end is not enough, because the log may have
    // just shrunk, before the observer below ran.
    following = false;
  }
  lastTop = top;
});

// When a phone's keyboard or a longer status line shrinks the log, a reader at the end stays there.
new ResizeObserver(() => { if (following) toEnd(); }).observe(ui.log);

ui.jump.addEventListener('click', () => {
  ui.log.focus({ preventScroll: true });    // the button is about to vanish
  toEnd();
});


// Copied lines look like "12:03 Ann: hello". Part of one line is copied unchanged.
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

// isItem returns whether this page can draw a stored item, because another version of the page may
// have stored it.
function isItem(item) {
  return ['message', 'note', 'mark'].includes(item?.kind) && typeof item.text === 'string'
    && typeof (item.lost ?? { text: '' }).text === 'string' && !isNaN(Number(new Date(item.date)));
}

// restore restores the draft, and, if the stored log is from the same server, also the log.
function restore() {
  ui.msg.value = recall('draft', 'sessionStorage') ?? '';
  grow();
  try {
    const stored = JSON.parse(recall('log', 'sessionStorage'));
    const items = stored.items.filter(isItem);
    if (stored.server !== server || items.length === 0) return;
    for (const item of items) append({ ...item, date: new Date(item.date) });
    if (items.at(-1).text !== LOADED) note(LOADED);
  } catch { /* There is no stored log. */ }
}


// ---- The title ----

let missed = 0;    // number of messages received while the tab was hidden

function showMissed() {
  document.title = missed ? `(${missed}) gochat` : 'gochat';
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  missed = 0;
  showMissed();
});


// ---- Notifications ----

// The browser asks the user for permission, but only after a click. Over plain HTTP, a browser
// allows notifications only on localhost.
const CAN_NOTIFY = 'Notification' in window && window.isSecureContext;
const NOTIFY_HELP = 'For messages while this page is hidden, and for @ with your name while you are elsewhere.';

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
    // Because of the tag, a new notification replaces the previous one.
    const shown = new Notification(called ? 'gochat: you are called' : 'gochat', { body: text, tag: 'gochat' });
    shown.addEventListener('click', () => window.focus());
  } catch { /* On some phones, only a service worker may notify. */ }
}

showNotify(CAN_NOTIFY && Notification.permission === 'granted' && recall('notify') === 'on');
