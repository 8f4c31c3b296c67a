// What page_checks.py asks of a page: contrast of its texts, and what has the focus.

// Ratios of contrast (WCAG 2.1) of all texts that are to be seen: the three worst, with the words.
function worstContrast() {
  const parse = (text) => {
    const n = text.match(/[\d.]+(e-?\d+)?/g).map(Number);
    const scale = text.startsWith("color(srgb") ? 255 : 1;
    return [n[0] * scale, n[1] * scale, n[2] * scale, n[3] ?? 1];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const chain = [];
    for (let n = node; n; n = n.parentElement) chain.push(parse(getComputedStyle(n).backgroundColor));
    return chain.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const found = [];
  const judge = (node, colour, words) => {
    const under = behind(node);
    const [a, b] = [light(over(parse(colour), under)), light(under)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), words]);
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement, words = walk.currentNode.textContent.trim();
    if (!words || !node.getClientRects().length || node.closest(".skip, script, noscript, .sr, title")) continue;
    const style = getComputedStyle(node);
    judge(node, node instanceof SVGElement ? style.fill : style.color, words.slice(0, 40));
  }
  for (const field of document.querySelectorAll("input"))
    if (field.getClientRects().length) judge(field, getComputedStyle(field, "::placeholder").color, "placeholder");
  return found.sort((x, y) => x[0] - y[0]).slice(0, 3);
}

// Where the focus is, in words, and whether that is to be seen.
function focused() {
  const at = document.activeElement;
  const box = at.closest("#loss, #rate, #board, #events, #range, #matrix-stages, .scroll, header");
  const own = at.id || (typeof at.className === "string" && at.className) || at.tagName.toLowerCase();
  const style = getComputedStyle(at);
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return [`${box?.id || box?.className || ""} ${own}`, seen];
}
