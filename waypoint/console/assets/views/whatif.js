// What would happen to a request: asks a waypoint, which decides as it would for the request itself, and sends nothing.

import { ask } from "../api.js";
import { el } from "../dom.js";
import { told } from "../explained.js";

export const whatIf = { id: "what-if", key: "w", title: "What if", show };

const FIELDS = [
  { name: "from", label: "Client", value: "default/default", hint: "NAMESPACE/SERVICEACCOUNT" },
  { name: "to", label: "Service", value: "", hint: "HOST:PORT, as the client writes it", required: true },
  { name: "method", label: "Method", value: "GET", hint: "" },
  { name: "path", label: "Path", value: "/", hint: "with its query" },
];

function show(live, address) {
  const inputs = FIELDS.map((field) =>
    el("input", { id: `if-${field.name}`, name: field.name, value: address.get(field.name) ?? field.value, required: field.required, spellcheck: "false", autocomplete: "off" }),
  );
  const headers = el("textarea", { id: "if-headers", name: "headers", rows: 3, spellcheck: "false" });
  headers.value = address.get("headers") ?? "";
  const answer = el("div", { class: "answer", "aria-live": "polite" });
  const form = el(
    "form",
    { class: "ask", submit: (event) => submit(event.preventDefault()) },
    FIELDS.map((field, n) => el("p", {}, el("label", { for: `if-${field.name}` }, field.label), inputs[n], el("span", { class: "hint" }, field.hint))),
    el("p", {}, el("label", { for: "if-headers" }, "Headers"), headers, el("span", { class: "hint" }, "one per line, NAME: VALUE")),
    el("p", {}, el("button", { type: "submit" }, "What would happen?")),
  );

  async function submit() {
    for (const input of inputs) address.set(input.name, input.value);
    address.set("headers", headers.value);
    const lines = headers.value.split("\n").filter((it) => it.trim());
    const question = [...inputs.map((it) => [it.name, it.value]), ...lines.map((it) => ["header", it])];
    answer.replaceChildren(el("p", { class: "hint" }, "asking…"));
    answer.replaceChildren(await explained(live, question));
  }

  if (address.get("to")) submit();
  return { element: el("section", { class: "what-if", "aria-label": "What if" }, form, answer), update() {}, focus: () => inputs[1].focus() };
}

/** Asks each waypoint until one serves the destination; the first one's answer counts if none does. */
export async function explained(live, question) {
  const waypoints = live.programs.filter((it) => it.kind === "waypoint");
  let first = null;
  let trouble = "No waypoint answers here.";
  for (const program of waypoints) {
    try {
      const explanation = await ask(`${program.pages}explain`, question);
      first ??= { program, explanation };
      if (explanation.found.is_served) return told(explanation, program);
    } catch (error) {
      trouble = error.message;
    }
  }
  return first ? told(first.explanation, first.program) : el("p", { class: "failure", role: "alert" }, trouble);
}
