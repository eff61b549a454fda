'use strict';

// Adds Copy buttons to code, indents lines of code that wrap, and adds a button that opens a Go program in the Go
// playground, a Step button to the lesson's pictures, and `?present` to every page.

/** Copies text. The clipboard object exists only on pages that were loaded over HTTPS or from this machine. */
async function copy(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch { /* The browser forbids it. Try the old way. */ }
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

/**
 * Indents the later rows of a line of code that wraps. Otherwise they would begin at the left edge, and in Python the
 * indentation says what belongs together. The text, which the Copy button copies, stays the same.
 */
function indentRows() {
  for (const pre of document.querySelectorAll('article :is(.highlight-python, .highlight-go) pre')) {
    // Each line is an element. Highlighted lines already are, together with their line end.
    pre.innerHTML = pre.innerHTML.replace(/.*\n(<\/span>)?|.+$/g, (line) =>
      line.includes('<span class="hll">') ? line : `<span class="row">${line}</span>`);
    for (const each of pre.querySelectorAll('.p')) {
      if (each.textContent.endsWith('(')) {
        each.after(document.createElement('wbr')); // a better place to break a line than within a name
      }
    }
    /** @type {NodeListOf<HTMLElement>} */
    const rows = pre.querySelectorAll(':scope > *');
    for (const row of rows) {
      const text = /** @type {Text | null} */ (document.createTreeWalker(row, NodeFilter.SHOW_TEXT).nextNode());
      const [spaces] = /^[ \t]*/.exec(text?.textContent ?? '');
      if (spaces && row.textContent.trim()) {
        const indent = document.createElement('span');
        indent.className = 'indent';
        indent.textContent = spaces;
        text.textContent = text.textContent.slice(spaces.length);
        text.before(indent);
        row.style.setProperty('--indent', `${spaces.replaceAll('\t', '  ').length}ch`);
      }
    }
  }
}

/** Makes the Tab key stop at each part that is too wide for its place, so that the arrow keys can scroll the part. */
function addTabStops() {
  for (const part of document.querySelectorAll('article :is(pre, .table-wrapper, .picture, p:has(> img))')) {
    if (part.scrollWidth > part.clientWidth) {
      part.setAttribute('tabindex', '0');
    }
  }
}

/** Makes a paragraph with a button and a text. Screen readers announce changes to the text. */
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

/** Adds a button to the page of a Go program. The button opens the program in the Go playground, in a new tab. */
function addRunButton() {
  const pre = document.querySelector('article .highlight pre');
  const { bar, button, text } = makeBar('Run in the Go playground');
  button.title = 'Uploads this program to go.dev, and opens it there in a new tab';
  button.addEventListener('click', async () => {
    const tab = open(); // before the upload, because after it, the browser might block the new tab
    text.textContent = 'Uploading …';
    try {
      const link = document.createElement('a');
      link.href = await share(pre.textContent);
      link.textContent = link.href.replace('https://', '');
      text.replaceChildren(link); // in case the browser blocked the tab
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

/** Returns a repository file's lines as HTML, from the file's page on the site. */
async function linesOf(path) {
  const site = document.documentElement.dataset.content_root;
  const response = await fetch(`${site}files/${path}.html`);
  const page = new DOMParser().parseFromString(await response.text(), 'text/html');
  const pre = page.querySelector('.highlight pre');
  return pre.innerHTML.split(/<span id="L-\d+"><\/span>/).slice(1);
}

/** Scrolls a box, but not the page, so that the marked element is in the middle of the box. */
function reveal(box, marked) {
  if (marked) {
    const from = box.getBoundingClientRect().top + box.clientHeight / 2;
    box.scrollTop += marked.getBoundingClientRect().top - from;
  }
}

/** Replaces a picture with its SVG, and adds a button that goes through its events one by one. */
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
  // Separates the picture's styles from the page's.
  const shadow = picture.attachShadow({ mode: 'open' });
  const style = document.createElement('style');
  // On a phone, a picture shrinks a little, but not so much that its texts become hard to read.
  const own = Number(svg.getAttribute('width'));
  const width = `var(--picture-width, clamp(${0.88 * own}px, 100%, ${own}px))`;
  const height = `max(${svg.getAttribute('height')}px, var(--picture-height, 0px))`;
  style.textContent = `svg { width: ${width}; height: auto; max-height: ${height}; }
    .step.now { fill: #d55e00; stroke: #d55e00; stroke-width: 4px; }`;
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
      return; // the button was pressed again while the file was loading
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
    reveal(picture, event); // again, because showing the source may have moved it
  });
}

/**
 * Shows one section at a time, with the lesson's picture next to its code. Of a section with subsections, it shows one
 * subsection at a time. The left and right arrow keys change the section, and Escape returns to the normal page.
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
      // A section's introduction is shown with its first subsection.
      each.classList.toggle('begun', slides.find((slide) => each.contains(slide)) === section);
    }
    if (picture) {
      // Next to a question, the picture would give the answer away.
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
    // Makes a reload show the same section.
    history.replaceState(null, '', `#${sections.find((each) => each.matches('.begun')).id}`);
    scrollTo(0, 0);
  };
  addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return; // a browser shortcut, such as Alt+Left for Back
    }
    if (event.key === 'Escape') {
      location.search = '';
    } else if (by && now + by >= 0 && now + by < slides.length) {
      event.preventDefault();
      now += by;
      show();
    }
  });
  if (slides.length > 0) { // a page that shows a file has no sections
    show();
  }
}

addEventListener('DOMContentLoaded', async () => {
  indentRows();
  addCopyButtons();
  document.querySelector('.toc-drawer')?.setAttribute('aria-label', 'On this page');
  // In the playground, step 6 never ends, as its page explains.
  if (/\/lesson\/go\/(?!06_)/.test(location.pathname)) {
    addRunButton();
  }
  if (location.pathname.includes('/lesson/')) {
    const images = document.querySelectorAll('article p > img[src$=".svg"]');
    // A page that was opened from a file cannot fetch anything, so its pictures stay plain images.
    await Promise.allSettled([...images].map(addSteps));
  }
  addTabStops();
  if (new URLSearchParams(location.search).has('present')) {
    present();
  }
});
addEventListener('load', addTabStops); // again, because now the pictures have their sizes
