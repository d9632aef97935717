// A view that is a table of what all programs answer to one question, asked anew every few seconds while it is shown.

import { again, askAll, missing } from "./api.js";
import { el, put, say, table } from "./dom.js";

const SECONDS = 4;

/**
 * Makes a view. `page(program)` names the page to ask a program for, or nothing; `rows(answer, program)` makes rows of the
 * answer. `above` is an element beside the filter. With more than one program, a column says which one a row is of.
 */
export function listing({ id, key, title, caption, empty, page, rows, columns, seconds = SECONDS, above }) {
  function show(live) {
    const filter = el("input", { type: "search", placeholder: "Filter (/)", "aria-label": "Show only rows with this text", input: draw });
    const trouble = el("p", { class: "failure", role: "alert", hidden: true });
    const told = table(caption, [...columns, { title: "Of", value: (it) => it.program }], { empty });
    const element = el("section", { "aria-label": title, "aria-busy": "true" }, el("div", { class: "tools" }, filter, above?.(live)), trouble, told.element);
    let found = [];
    let askAgainAt = -Infinity;

    function draw() {
      const text = filter.value.trim().toLowerCase();
      told.update(found.filter((row) => !text || columns.some((it) => String(it.value(row)).toLowerCase().includes(text))));
    }

    async function update() {
      const began = performance.now();
      if (began < askAgainAt || !live.programs.length) return;
      askAgainAt = Infinity;
      put(element, "data-single", live.programs.filter(page).length < 2);
      const asked = live.programs.map((program) => [program, page(program)]).filter(([, it]) => it);
      const answers = (await Promise.all(asked.map(([program, it]) => askAll([program], it)))).flat();
      askAgainAt = again(began, seconds, answers);
      const sentence = missing(answers);
      trouble.hidden = !sentence;
      say(trouble, sentence);
      found = answers.flatMap(({ program, answer }) => (answer ? rows(answer, program).map((row) => ({ ...row, program: program.name })) : []));
      put(element, "aria-busy", false);
      draw();
    }

    return { element, update, focus: () => filter.focus() };
  }

  return { id, key, title, show };
}

/** Only waypoints have this page. */
export const ofWaypoints = (name) => (program) => program.kind === "waypoint" && name;
