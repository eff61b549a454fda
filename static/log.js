'use strict';

// The log of home.html, and what the browser keeps.

const MAX_LOG = 2000;            // messages kept on the page

// The page's elements by their ids: ui.log, ui.msg, …
const ui = /** @type {Record<string, any>} */ ({});
for (const element of document.querySelectorAll('[id]')) ui[element.id] = element;


// ---- What the browser keeps ----

// A browser can forbid storage by throwing. The chat works without it. Each tab
// has a sessionStorage of its own; all tabs share the localStorage.
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

let arrived = [];       // what is to be appended, see flush
let following = true;   // is the reader at the end?
let lastTop = 0;
let unread = {};        // by kind, what has come below what the reader sees

// note tells the reader something that is not a message. lost: a message that
// may not have arrived, see send.
function note(text, lost) {
  append({ kind: 'note', text, lost, date: new Date() });
}

function drawn({ kind, text, lost, date }) {
  const time = make('time', '', clock(date));
  time.dateTime = date.toISOString();
  time.title = date.toString();
  time.setAttribute('aria-hidden', 'true');    // not to be read out with each message
  const line = make('div', kind, '');
  line.append(time, kind === 'message' ? messageText(text) : noteText(text, lost));
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
    // What was said in one room is not for another.
    if (lost.server !== server) {
      ui.refusal.textContent = 'Not sent: this was for another server.';
    } else if (send(lost.text)) {
      ui.msg.focus();    // the button is about to vanish
      button.remove();
    }
  });
  return button;
}

// A message is "name: text", or text alone. A bdi element takes its direction
// from the text in it, but not from a bdi element in it: the text decides where
// the line starts, and a name in Arabic or Hebrew disturbs nothing behind it.
function messageText(text) {
  const body = make('bdi', 'text', '');
  const end = text.indexOf(': ');
  if (end > 0 && end <= ui.name.maxLength) {
    body.append(make('bdi', 'name', text.slice(0, end)), ': ');
    text = text.slice(end + 2);
  }
  body.append(...withLinks(text));
  return body;
}

// withLinks returns the nodes of a text in which http and https links can be
// clicked. No link may look like a link to somewhere else: a character that is
// invisible or changes the direction ends the link. An address that does not begin
// just as the browser reads it is no link at all, which is plainer than a warning:
// its host has letters outside ASCII, or a user name stands before the host.
function withLinks(text) {
  const nodes = [];
  let from = 0;
  for (const { 0: found, index } of text.matchAll(/\bhttps?:\/\/[^\s<>"\p{Default_Ignorable_Code_Point}]+/giu)) {
    if (found.length > 2000) continue;    // browsers do not open such a link either
    const address = withoutPunctuation(found);
    let origin;
    try { ({ origin } = new URL(address)); } catch { continue; }
    if (!address.toLowerCase().startsWith(origin)) continue;
    const link = make('a', '', address);
    link.href = address;
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    link.dir = 'ltr';
    nodes.push(text.slice(from, index), link);
    from = index + address.length;
  }
  return [...nodes, text.slice(from)];
}

// The punctuation at the end of an address belongs to the sentence around it,
// and so does a closing bracket without its opening one.
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

// make is the one place where text gets into the log: as text, never as HTML.
function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// makeRoom drops the oldest messages. What the reader sees stays in its place
// on the screen.
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
    // Only the reader scrolls up. A place above the end proves nothing: the log
    // may have become lower just now, before the observer below has run.
    following = false;
  }
  lastTop = top;
});

// A phone's keyboard or a longer status line makes the log lower; a reader at
// the end stays there.
new ResizeObserver(() => { if (following) toEnd(); }).observe(ui.log);

ui.jump.addEventListener('click', () => {
  ui.log.focus({ preventScroll: true });    // the button is about to vanish
  toEnd();
});


// ---- The title ----

let missed = 0;    // messages that have come while the tab was hidden

function showMissed() {
  document.title = missed ? `(${missed}) gochat` : 'gochat';
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  missed = 0;
  showMissed();
});
