'use strict';

// How home.html sends.


// clean changes a message as the server does, so that both count the same bytes. U+0085 is a line
// end that trim() does not know. Half a surrogate pair cannot be encoded in UTF-8; the browser
// sends U+FFFD in its place.
function clean(text) {
  return text.replace(/\p{Surrogate}/gu, '\uFFFD').replace(/[\r\n\u0085]/g, ' ').trim();
}

// outgoing returns the message as it will be sent, or '' if there is none. Without a name,
// “time: 10:30” must not look like a message from someone called time, so the colon is
// followed by a no-break space, U+00A0.
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

// refusal returns the reason why a message cannot be sent now, or ''.
function refusal(bytes) {
  if (limit() && bytes > limit()) return `Not sent: ${bytes} bytes is over the limit of ${limit()}.`;
  // In the state CLOSING, send() would drop the message silently.
  if (!socket || socket.readyState !== WebSocket.OPEN) return 'Not sent: not connected.';
  return '';
}

function showSize() {
  const bytes = bytesOf(outgoing());
  const most = limit();
  const left = most - bytes;
  const level = !most || bytes < 0.8 * most ? 'ok' : left < 0 ? 'over' : 'warn';
  // In words, too, not only by color.
  const words = { ok: '', warn: ` (${left} left)`, over: ` (${-left} too many)` };
  ui.counter.dataset.level = level;
  ui.counter.textContent = `${bytes}${most ? ` / ${most}` : ''} bytes${words[level]}`;
  // With the attribute disabled instead, Enter would do nothing, silently.
  ui.send.setAttribute('aria-disabled', String(refusal(bytes) !== ''));
}

// send returns whether the message was sent; if not, the status line shows the reason.
function send(text) {
  const why = refusal(bytesOf(text));
  ui.refusal.textContent = why;
  if (why) return false;
  socket.send(text);
  unconfirmed.push({ text, server, by: socket, at: Date.now() });
  toEnd();
  return true;
}

// The Enter that ends the composition of, say, a Japanese word must not send.
// Safari reports that Enter after the composition has ended, but with this keyCode.
function composing(event) {
  return event.isComposing || event.keyCode === 229;
}

// Enter sends. Shift+Enter makes a new line, which is sent as a space.
ui.msg.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey) return;
  event.preventDefault();
  if (!composing(event)) ui.form.requestSubmit();
});

// Text typed anywhere goes to the field, unless another field has the focus.
document.addEventListener('keydown', (event) => {
  const { key, target } = event;
  const shortcut = (event.ctrlKey || event.altKey || event.metaKey) && !event.getModifierState('AltGraph');
  // The space bar scrolls the log and presses a button.
  if (key.length !== 1 || key === ' ' || shortcut) return;
  if (target instanceof Element && target.closest('input, textarea')) return;
  ui.msg.focus();
});

// grow makes the field as high as its text, up to a limit in the style.
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

// Two windows with the same name look like one person. The page notices when the other one writes.
const namesakes = new Set();

function warnOfNamesake(text) {
  const name = senderOf(text);
  if (!name || name !== clean(ui.name.value) || namesakes.has(name)) return;
  namesakes.add(name);
  note(`Someone else also writes as “${name}”: perhaps you, in another window.`);
}
