'use strict';

// Copy buttons on code, a button that runs a Go program in the Go playground, a step button on the lesson's pictures,
// and `?present` on every page.

/** Copies text. A page that does not come over HTTPS or from this machine has no clipboard object. */
async function copy(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch { /* Not allowed: try the old way. */ }
  }
  const area = document.createElement('textarea');
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

function addCopyButtons() {
  for (const pre of document.querySelectorAll('article .highlight pre')) {
    const button = document.createElement('button');
    button.className = 'copy';
    button.textContent = 'Copy';
    button.addEventListener('click', async () => {
      await copy(pre.textContent);
      button.textContent = 'Copied';
      button.addEventListener('pointerleave', () => (button.textContent = 'Copy'), { once: true });
    });
    pre.parentElement.append(button);
  }
}

/** Lets the Tab key stop at each part that is wider than its place, so that keys can scroll it. */
function addTabStops() {
  for (const part of document.querySelectorAll('article :is(pre, .table-wrapper, .picture, p:has(> img))')) {
    if (part.scrollWidth > part.clientWidth) {
      part.setAttribute('tabindex', '0');
    }
  }
}

/** Makes a paragraph with a button and, beside it, text whose changes screen readers announce. */
function makeBar(label) {
  const bar = document.createElement('p');
  const button = document.createElement('button');
  button.textContent = label;
  const text = document.createElement('span');
  text.setAttribute('aria-live', 'polite');
  bar.append(button, ' ', text);
  return { bar, button, text };
}

/** Uploads a program to the Go playground, and returns its address there. */
async function share(program) {
  const options = { method: 'POST', body: program, signal: AbortSignal.timeout(20_000) };
  const response = await fetch('https://play.golang.org/share', options);
  const id = await response.text();
  if (!response.ok || !/^[\w-]+$/.test(id)) {
    throw new Error(`the answer was ${response.status}`);
  }
  return `https://go.dev/play/p/${id}`;
}

/** Adds a button to the page of a Go program that opens the program in the Go playground, in a new tab. */
function addRunButton() {
  const pre = document.querySelector('article .highlight pre');
  const { bar, button, text } = makeBar('Run in the Go playground');
  button.title = 'Uploads this program to go.dev, and opens it there in a new tab';
  button.addEventListener('click', async () => {
    const tab = open(); // now: after the upload, the browser may block it
    text.textContent = 'Uploading …';
    try {
      const link = document.createElement('a');
      link.href = await share(pre.textContent);
      link.textContent = link.href.replace('https://', '');
      text.replaceChildren(link); // for a reader whose browser has blocked the tab
      if (tab) {
        tab.opener = null;
        tab.location = link.href;
      }
    } catch (error) {
      tab?.close();
      text.textContent = `The upload failed (${error.message}). You can copy the program to go.dev/play.`;
    }
  });
  pre.parentElement.before(bar);
}

/** The lines of a file of the repository as HTML, from the page of the site that shows the file. */
async function linesOf(path) {
  const site = document.documentElement.dataset.content_root;
  const response = await fetch(`${site}files/${path}.html`);
  const page = new DOMParser().parseFromString(await response.text(), 'text/html');
  const pre = page.querySelector('.highlight pre');
  return pre.innerHTML.split(/<span id="L-\d+"><\/span>/).slice(1);
}

/** Scrolls a box, and not the page, so that the marked element is in the middle of the box. */
function reveal(box, marked) {
  if (marked) {
    const from = box.getBoundingClientRect().top + box.clientHeight / 2;
    box.scrollTop += marked.getBoundingClientRect().top - from;
  }
}

/** Replaces a picture by its own SVG, with a button that goes through its events one by one. */
async function addSteps(image) {
  const response = await fetch(image.src);
  const text = await response.text();
  const svg = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
  /** @type {NodeListOf<SVGElement>} */
  const marked = svg.querySelectorAll('[data-step]');
  const events = [...marked].sort((a, b) => Number(a.dataset.step) - Number(b.dataset.step));
  if (events.length === 0) {
    return;
  }
  const sentences = svg.querySelector('desc').textContent.trim().split('\n');
  const picture = document.createElement('div');
  picture.className = 'picture';
  // Keeps the styles of the picture inside it, and those of the page outside.
  const shadow = picture.attachShadow({ mode: 'open' });
  const style = document.createElement('style');
  // A picture that is a little too wide for a phone shrinks, but its texts must stay readable.
  const own = Number(svg.getAttribute('width'));
  const width = `var(--picture-width, clamp(${0.88 * own}px, 100%, ${own}px))`;
  const height = `max(${svg.getAttribute('height')}px, var(--picture-height, 0px))`;
  style.textContent = `svg { width: ${width}; height: auto; max-height: ${height}; } .now { r: 8px; fill: #d55e00; }`;
  shadow.append(svg, style);
  svg.setAttribute('aria-label', image.alt);

  const { bar, button, text: sentence } = makeBar('Step');
  bar.className = 'step';
  const name = document.createElement('p');
  const source = document.createElement('pre');
  source.tabIndex = 0;
  const code = document.createElement('div');
  code.className = 'highlight source';
  code.hidden = true;
  code.append(name, source);
  const figure = document.createElement('div');
  figure.className = 'stepper';
  figure.append(picture, bar, code);
  image.closest('p').replaceWith(figure);

  let next = 0;
  let now = null;
  let shown = '';
  /** @type {Record<string, Promise<string[]>>} */
  const files = {};
  button.addEventListener('click', async () => {
    const event = (now = events[next]);
    next = (next + 1) % events.length;
    svg.querySelector('.now')?.classList.remove('now');
    event.classList.add('now');
    reveal(picture, event);
    sentence.textContent = sentences[event.dataset.step];
    const [file, number] = event.dataset.line.split(':');
    const lines = await (files[file] ??= linesOf(file));
    if (event !== now) {
      return; // the button was pressed again while the file was on its way
    }
    if (file !== shown) {
      shown = file;
      source.innerHTML = lines.map((line) => `<span class='line'>${line}</span>`).join('');
      name.textContent = file;
      code.hidden = false;
    }
    source.querySelector('.hll')?.classList.remove('hll');
    const line = source.children[Number(number) - 1];
    line.classList.add('hll');
    reveal(source, line);
    reveal(picture, event); // the source has moved it down
  });
}

/**
 * Shows one section at a time, with the lesson's picture beside its code. A section with parts is shown part by part.
 * The left and right arrows turn the page, Escape leaves.
 */
function present() {
  document.body.classList.add('present');
  const sections = [...document.querySelectorAll('article section')];
  const slides = sections.filter((each) => each.querySelector('section') === null);
  const picture = document.querySelector('.stepper');
  const home = picture?.closest('section');
  const mark = document.createComment('picture');
  picture?.before(mark);
  const target = document.getElementById(location.hash.slice(1));
  let now = Math.max(
    0,
    slides.findIndex((each) => target?.contains(each) || each.contains(target)),
  );
  const show = () => {
    const section = slides[now];
    for (const each of sections) {
      each.classList.toggle('shown', each.contains(section));
      // Its introduction is shown with its first part.
      each.classList.toggle('begun', slides.find((slide) => each.contains(slide)) === section);
    }
    if (picture) {
      // Beside a question, the picture would give the answer away.
      const code = section.querySelector('pre') !== null && section.querySelector('details') === null;
      const beside = section !== home && code;
      section.classList.toggle('with-picture', beside);
      if (beside) {
        section.append(picture);
      } else {
        mark.after(picture);
      }
      const source = picture.querySelector('.source pre');
      reveal(source, source.querySelector('.hll'));
    }
    // The browser scrolls to this address when the page has loaded.
    history.replaceState(null, '', `#${sections.find((each) => each.matches('.begun')).id}`);
    scrollTo(0, 0);
  };
  addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return; // a key of the browser: Alt and left is its Back
    }
    if (event.key === 'Escape') {
      location.search = '';
    } else if (by && now + by >= 0 && now + by < slides.length) {
      event.preventDefault();
      now += by;
      show();
    }
  });
  if (slides.length > 0) { // A page of a file has none.
    show();
  }
}

addEventListener('DOMContentLoaded', async () => {
  addCopyButtons();
  document.querySelector('.toc-drawer')?.setAttribute('aria-label', 'On this page');
  // Step 6 never ends in the playground, as its page explains.
  if (/\/lesson\/go\/(?!06_)/.test(location.pathname)) {
    addRunButton();
  }
  if (location.pathname.includes('/lesson/')) {
    const images = document.querySelectorAll('article p > img[src$=".svg"]');
    // A page that was opened from a folder can fetch nothing, so its pictures stay plain images.
    await Promise.allSettled([...images].map(addSteps));
  }
  addTabStops();
  if (new URLSearchParams(location.search).has('present')) {
    present();
  }
});
addEventListener('load', addTabStops); // now the pictures have their sizes
