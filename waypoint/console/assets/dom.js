// Building elements. Text is always set as text, never as HTML: names in a mesh are chosen by others.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an HTML element. Attributes that are functions become listeners; false and null leave an attribute out. */
export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** Makes an SVG element. */
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Replaces an attribute only if it changed, so that the browser has nothing to do when nothing happened. */
export function put(element, name, value) {
  const text = String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Replaces a text only if it changed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes a table. A column is {title, value(row), number, cell(row)}: `value` sorts and is shown, unless `cell` makes
 * something else of it. A click on a title sorts by it. `onRow` makes rows selectable.
 */
export function table(caption, columns, { onRow, empty = "nothing yet" } = {}) {
  let rows = [];
  let by = null;
  const heads = columns.map((column, index) =>
    el(
      "th",
      { scope: "col", class: column.number && "number", "aria-sort": "none" },
      el("button", { type: "button", click: () => sort(index) }, column.title),
    ),
  );
  const body = el("tbody");
  const element = el(
    "div",
    { class: "table" },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body),
  );

  function sort(index) {
    by = by?.index === index && by.up === !columns[index].number ? { index, up: !by.up } : { index, up: !columns[index].number };
    heads.forEach((head, n) => put(head, "aria-sort", n !== index ? "none" : by.up ? "ascending" : "descending"));
    draw();
  }

  function draw() {
    const sorted = by ? [...rows].sort((a, b) => compare(columns[by.index].value(a), columns[by.index].value(b)) * (by.up ? 1 : -1)) : rows;
    const focused = [...body.children].findIndex((row) => row.contains(document.activeElement));
    body.replaceChildren(
      ...(sorted.length ? sorted.map(line) : [el("tr", {}, el("td", { colspan: columns.length, class: "empty" }, empty))]),
    );
    if (focused >= 0) body.children[focused]?.querySelector("button")?.focus();
  }

  const line = (row) =>
    el(
      "tr",
      { class: row.health },
      columns.map((column, index) => {
        const content = column.cell ? column.cell(row) : String(column.value(row));
        const pick = onRow && index === 0;
        return el(
          "td",
          { class: column.number && "number", "data-title": column.title },
          pick ? el("button", { type: "button", class: "pick", click: () => onRow(row) }, content) : content,
        );
      }),
    );

  return {
    element,
    update(to) {
      rows = to;
      draw();
    },
  };
}

const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
