// What is to be seen of a page's layout. Contrast: 4.5 is what WCAG 2 asks for of text.
(() => {
  const shown = element => element.getClientRects().length > 0;
  const name = element => element.tagName.toLowerCase() + ": " + element.textContent.trim().slice(0, 60);
  const rows = rects => new Set([...rects].filter(one => one.width).map(one => Math.round(one.top))).size;
  const channels = color => color.match(/[\d.]+/g).map(Number);
  const light = color => {
    const [r, g, b] = channels(color).map(one => one / 255)
      .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor, parts = channels(color);
      if (parts.length < 4 || parts[3] > 0) return color;
    }
  };
  const broken = new Set(), outside = new Set(), faint = new Set();
  let looked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; text = walker.nextNode();) {
    const parent = text.parentElement;
    if (!text.data.trim() || !shown(parent) || parent.closest("style")) continue;
    looked += 1;
    const style = getComputedStyle(parent), drawn = parent.closest("svg");
    const inks = [light(drawn ? style.fill : style.color), light(behind(drawn ? drawn.parentElement : parent))];
    if ((Math.max(...inks) + 0.05) / (Math.min(...inks) + 0.05) < 4.5) faint.add(name(parent));
    const range = document.createRange();
    range.selectNodeContents(text);
    const frame = drawn ? drawn.getBoundingClientRect() : {left: 0, right: innerWidth, top: -1e9, bottom: 1e9};
    for (const one of range.getClientRects())
      if (one.width && (one.left < frame.left - 1 || one.right > frame.right + 1 ||
                        one.top < frame.top - 1 || one.bottom > frame.bottom + 1)) outside.add(name(parent));
    if (drawn) continue;
    for (const word of text.data.matchAll(/[\p{L}\p{N}.,:]{2,12}(?![\p{L}\p{N}])/gu)) {
      if (/\p{L}|\p{N}/u.test(text.data[word.index - 1] ?? " ")) continue;  // the end of a longer one
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (rows(range.getClientRects()) > 1) broken.add(word[0] + " in " + name(parent));
    }
  }
  const borrowed = [];  // what a picture refers to has to be in that picture
  for (const svg of document.querySelectorAll("svg"))
    for (const [, id] of svg.outerHTML.matchAll(/(?:url\(|href=")#([^")]+)/g))
      if (!svg.contains(document.getElementById(id))) borrowed.push(id);
  const lines = [...document.querySelectorAll("td.verdict-word")].map(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return rows(range.getClientRects());
  });
  const range = document.createRange();
  range.selectNodeContents(document.querySelector(".problems span") ?? document.querySelector(".verdict p"));
  return {
    title: document.title,
    looked,
    scripts: document.scripts.length,
    width: document.documentElement.scrollWidth,
    verdict_lines: lines,
    named_by: range.getClientRects()[0].bottom,  // the first line of the first reason
    broken: [...broken], outside: [...outside], faint: [...faint], borrowed,
  };
})()
