'use strict';

// The message field of home.html, and the sending of messages.


// clean changes a message as the server does, so that both count the same bytes. U+0085 is a line
// end that trim() does not remove. A browser sends half a surrogate pair as U+FFFD, because UTF-8
// cannot encode it.
function clean(text) {
  return text.replace(/\p{Surrogate}/gu, '\uFFFD').replace(/[\r\n\u0085]/g, ' ').trim();
}

// outgoing returns the message as it will be sent, or '' if there is none. Without a name,
// “time: 10:30” must not look like a message from someone called time. So a no-break space, U+00A0,
// replaces the space after the colon.
function outgoing() {
  const name = clean(ui.name.value);
  let text = clean(ui.msg.value);
  if (name && text) return `${name}: ${text}`;
  while (senderOf(text)) text = text.replace(': ', ':\u00a0');
  return text;
}

function bytesOf(text) {
  return new TextEncoder().encode(text).length;
}

// refusal returns the reason why a message of this size cannot be sent now, or ''.
function refusal(bytes) {
  if (limit() && bytes > limit()) return `Not sent: ${bytes} bytes is over the limit of ${limit()}.`;
  // In the state CLOSING, WebSocket.send() drops the message silently.
  if (!socket || socket.readyState !== WebSocket.OPEN) return 'Not sent: not connected.';
  return '';
}

function showSize() {
  const bytes = bytesOf(outgoing());
  const most = limit();
  const left = most - bytes;
  const level = !most || bytes < 0.8 * most ? 'ok' : left < 0 ? 'over' : 'warn';
  // In words, because not everyone can see the color.
  const words = { ok: '', warn: ` (${left} left)`, over: ` (${-left} too many)` };
  ui.counter.dataset.level = level;
  ui.counter.textContent = `${bytes}${most ? ` / ${most}` : ''} bytes${words[level]}`;
  // Not `disabled`, because Enter would then do nothing, and show no reason.
  ui.send.setAttribute('aria-disabled', String(refusal(bytes) !== ''));
}

// send sends a message, and returns whether this was possible. If not, the status line says why.
function send(text) {
  const why = refusal(bytesOf(text));
  ui.refusal.textContent = why;
  if (why) return false;
  socket.send(text);
  unconfirmed.push({ text, server, by: socket, at: Date.now() });
  toEnd();
  return true;
}

// composing returns whether a key press belongs to an input method. The Enter that completes a
// Japanese word, for example, must not send the message. Safari reports it after the composition,
// but with keyCode 229.
function composing(event) {
  return event.isComposing || event.keyCode === 229;
}

// Enter sends the message. Shift+Enter makes a new line, which is sent as a space.
ui.msg.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey) return;
  event.preventDefault();
  if (!composing(event)) ui.form.requestSubmit();
});

// Text typed anywhere goes into the message field, unless another field has the focus.
document.addEventListener('keydown', (event) => {
  const { key, target } = event;
  const shortcut = (event.ctrlKey || event.altKey || event.metaKey) && !event.getModifierState('AltGraph');
  // The space bar scrolls the log and presses a button.
  if (key.length !== 1 || key === ' ' || shortcut) return;
  if (target instanceof Element && target.closest('input, textarea')) return;
  ui.msg.focus();
});

// grow makes the field as high as its text, up to the limit in the style sheet.
function grow() {
  ui.msg.style.height = 'auto';
  const borders = ui.msg.offsetHeight - ui.msg.clientHeight;
  ui.msg.style.height = `${ui.msg.scrollHeight + borders}px`;
}

window.addEventListener('resize', grow);

function edited() {
  ui.refusal.textContent = '';
  grow();
  showSize();
}

ui.msg.addEventListener('input', edited);
ui.name.addEventListener('input', () => {
  rememberName();
  remember('name', clean(ui.name.value));
  edited();
  if (clean(ui.name.value).includes(': ')) ui.refusal.textContent = 'Only what is before “: ” is shown as your name.';
});
ui.name.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !composing(event)) ui.msg.focus();
});

// Names of this page's user that someone else has also used. The page reports each only once.
const namesakes = new Set();

function warnOfNamesake(text) {
  const name = senderOf(text);
  if (!name || name !== clean(ui.name.value) || namesakes.has(name)) return;
  namesakes.add(name);
  note(`Someone else also writes as “${name}”: perhaps you, in another window.`);
}
