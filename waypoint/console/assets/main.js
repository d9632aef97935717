// Starts the console: tabs, keys, the address bar, and the view that is shown. Each view is a module of views/ with
// {id, key, title, show(live, address)}; `show` returns {element, update(), focus?(), escape?(), close?()}.

import { el, put, say } from "./dom.js";
import { Live } from "./live.js";
import { certificates, connections, endpoints, policies } from "./views/inside.js";
import { overview } from "./views/overview.js";
import { problems, programs } from "./views/problems.js";
import { requests } from "./views/requests.js";
import { routes } from "./views/routes.js";
import { whatIf } from "./views/whatif.js";

const VIEWS = [overview, requests, routes, policies, problems, endpoints, connections, certificates, programs, whatIf];
const byId = (id) => document.getElementById(id);

let view = null;
let shown = null;
let waitsForKey = false;

/** What the address bar remembers beside the view, so that a view can be linked to. */
class Address {
  #parameters;

  constructor(hash) {
    const [id, query = ""] = hash.replace(/^#/, "").split("?");
    this.id = id;
    this.#parameters = new URLSearchParams(query);
  }

  get(name) {
    return this.#parameters.get(name);
  }

  set(name, value) {
    if (value) this.#parameters.set(name, value);
    else this.#parameters.delete(name);
    const query = this.#parameters.toString();
    history.replaceState(null, "", `#${view.id}${query ? `?${query}` : ""}`);
  }
}

const live = new Live((trouble) => {
  byId("trouble").hidden = !trouble;
  say(byId("trouble"), trouble);
  const failed = live.failures.length;
  put(byId("answering"), "class", failed || trouble ? "badge failure" : "badge healthy");
  say(byId("answering"), failed ? `${failed} of ${live.programs.length} programs do not answer` : `${live.programs.length} ${live.programs.length === 1 ? "program" : "programs"}`);
  shown?.update();
});

function open() {
  shown?.close?.();
  const address = new Address(location.hash);
  view = VIEWS.find((it) => it.id === address.id) ?? VIEWS[0];
  shown = view.show(live, address);
  byId("main").replaceChildren(shown.element);
  shown.update();
  document.title = `${view.title} · pywaypoint console`;
  for (const tab of byId("tabs").children) put(tab, "aria-current", tab.hash === `#${view.id}` ? "page" : "false");
}

function pause() {
  live.pause(!live.isPaused);
  put(byId("pause"), "aria-pressed", live.isPaused);
  say(byId("pause"), live.isPaused ? "Go on" : "Pause");
}

function help() {
  const keys = [["/", "go to the filter or the first field"], ["g, then …", VIEWS.map((it) => `${it.key} ${it.title}`).join(", ")], ["arrow keys", "in the graph: along the links"], ["Enter", "show details"], ["p", "pause"], ["Esc", "close"], ["?", "this help"]];
  byId("help").replaceChildren(
    el("h2", { id: "help-title" }, "Keys"),
    el("dl", {}, keys.map(([key, does]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, does)))),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
  byId("help").showModal();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const writes = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape") {
    if (writes) event.target.blur();
    else shown.escape?.();
  } else if (!writes) {
    const chosen = waitsForKey && VIEWS.find((it) => it.key === event.key);
    waitsForKey = event.key === "g" && !waitsForKey;
    if (chosen) location.hash = `#${chosen.id}`;
    else if (event.key === "/") shown.focus?.(event.preventDefault());
    else if (event.key === "?") help();
    else if (event.key === "p") pause();
  }
}

byId("tabs").append(...VIEWS.map((it) => el("a", { href: `#${it.id}` }, it.title)));
byId("pause").addEventListener("click", pause);
addEventListener("hashchange", open);
addEventListener("keydown", onKey);
open();
live.start();
