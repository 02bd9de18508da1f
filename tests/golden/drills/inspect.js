// What a page looks like to people: asked of each frame once it is loaded, answered as JSON in the document.
const rgba = text => {
  const found = text.match(/[\d.]+/g).map(Number);
  return found.length < 4 ? [...found.slice(0, 3), 1] : found;
};
const over = (top, under) => under.slice(0, 3).map((base, i) => top[3] * top[i] + (1 - top[3]) * base).concat(1);
const luminance = colour => {
  const [r, g, b] = colour.slice(0, 3).map(part => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};

function backgroundOf(element, style) {
  const layers = [];
  for (let at = element; at && at.nodeType === 1; at = at.parentElement) layers.push(rgba(style(at).backgroundColor));
  return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
}

function behindText(text, style) { // in a drawing: the bar before it, where the words lie on one
  const card = backgroundOf(text.closest("div"), style);
  const words = text.getAttribute("class") || "";
  if (!/^(in|phase-name|count)\b/.test(words)) return card;
  if (words.startsWith("count")) return over([...rgba(style(text.ownerDocument.querySelector(".area")).fill).slice(0, 3), 0.4], card);
  let bar = text.previousElementSibling;
  while (bar && bar.tagName !== "rect") bar = bar.previousElementSibling;
  return over(rgba(style(bar).fill), card);
}

function inspect(frame) {
  const page = frame.contentDocument, view = frame.contentWindow;
  const style = element => view.getComputedStyle(element);
  const seen = element => element.getClientRects().length > 0;
  const pale = [];
  for (const element of page.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || ["STYLE", "TITLE", "title"].includes(element.tagName)) continue;
    const drawn = element.tagName === "text";
    const front = rgba(drawn ? style(element).fill : style(element).color);
    const ratio = contrast(front, drawn ? behindText(element, style) : backgroundOf(element, style));
    if (ratio < 4.5) pale.push(`${ratio.toFixed(2)} ${element.getAttribute("class")} ${element.textContent.trim()}`);
  }
  const shapes = [];
  for (const name of ["req-ok", "req-bad", "bar", "mark", "median"]) {
    const shape = [...page.querySelectorAll(`svg .${name}`)].find(one => one.getClientRects().length);
    if (!shape) continue;
    const ink = rgba(name === "median" ? style(shape).stroke : style(shape).fill);
    const ratio = contrast(ink, backgroundOf(shape.closest("div"), style));
    if (ratio < 3) shapes.push(`${ratio.toFixed(2)} ${name}`);
  }
  const cut = [...page.querySelectorAll("svg text")].filter(seen).filter(text => {
    const [inner, outer] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
    return inner.right > outer.right + 1 || inner.left < outer.left - 1;
  }).map(text => text.textContent);
  return {
    cut,
    scroll: page.documentElement.scrollWidth,
    client: page.documentElement.clientWidth,
    text: page.body.innerText + [...page.querySelectorAll("svg text")].filter(seen).map(one => one.textContent).join("\n"),
    pale, shapes,
    loaded: view.performance.getEntriesByType("resource").map(one => one.name),
    reached: [...page.querySelectorAll("a[href], summary, [tabindex='0']")].filter(seen).length,
    unnamed: [...page.querySelectorAll("[tabindex='0']")].filter(one => !one.getAttribute("aria-label")).length,
    lost: [...page.querySelectorAll("a[href^='#']")].filter(one => !page.querySelector(one.getAttribute("href"))).length,
  };
}

addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) found[frame.id] = inspect(frame);
  const answer = document.createElement("script");
  answer.type = "application/json";
  answer.id = "found";
  answer.textContent = JSON.stringify(found).replaceAll("<", "\\u003c");
  document.body.append(answer);
});
