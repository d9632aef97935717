// Routes in the order in which they are tried, with the weights of their backends and where requests go now.

import { again, askAll } from "../api.js";
import { el, table } from "../dom.js";
import { follow, whileSeen } from "../stream.js";
import { amount, milliseconds, share } from "../words.js";

export const routes = { id: "routes", key: "o", title: "Routes", show };

const SECONDS = 4;
const WINDOW = 5;
/** Browsers open six connections to one server; the rest of the page needs some, too. */
const MOST_STREAMS = 3;

const COLUMNS = [
  { title: "Service", value: (it) => it.service.replace(/\.svc\..*$/, "") },
  { title: "Port", value: (it) => it.port },
  { title: "Match", value: matchWords, cell: (it) => el("span", { class: "code" }, matchWords(it)) },
  { title: "Route", value: (it) => it.source || "no route: all requests go on" },
  { title: "Backends", value: (it) => it.backends.map((to) => to.cluster).join(), cell: backends },
  { title: "Does", value: (it) => Object.keys(it.actions).join(), cell: actions },
  { title: "Requests/s", number: true, value: (it) => it.perSecond, cell: (it) => amount(it.perSecond) },
  { title: "Errors", number: true, value: (it) => it.errors, cell: (it) => (it.perSecond ? share(it.errors) : "–") },
  { title: "p99", number: true, value: (it) => it.p99 ?? -1, cell: (it) => milliseconds(it.p99) },
];

function show(live) {
  const filter = el("input", { type: "search", placeholder: "Filter (/)", "aria-label": "Show only rows with this text", input: draw });
  const told = table("Routes, in the order in which they are tried", COLUMNS, { empty: "no waypoint has routes" });
  const element = el("section", { "aria-label": "Routes" }, el("div", { class: "tools" }, filter), told.element);
  const rounds = new Map();
  let found = [];
  let askAgainAt = -Infinity;

  const stop = whileSeen(live, async (signal) => {
    await live.isKnown;
    for (const program of live.programs.filter((it) => it.kind === "waypoint").slice(0, MOST_STREAMS)) {
      follow(program, "top?by=destination,route&interval=2", signal, (line) => take(program, line), () => {});
    }
  });

  function take(program, line) {
    if (line.type !== "rates") return;
    rounds.set(program.name, [...(rounds.get(program.name) ?? []), line].slice(-WINDOW));
    draw();
  }

  /** What went by a route to each host within the window. */
  function traffic({ program, route, service, port, backends: to }) {
    const hosts = new Set([service, ...to.map((it) => hostOf(it.cluster))].map((host) => `${host}:${port}`));
    const lines = rounds.get(program) ?? [];
    const rows = lines.flatMap((line) => line.rows).filter((it) => it.route === route && hosts.has(it.destination));
    const seconds = lines.reduce((sum, it) => sum + it.seconds, 0) || 1;
    const requests = rows.reduce((sum, it) => sum + it.requests, 0);
    const of = (cluster) => rows.filter((it) => it.destination.startsWith(`${hostOf(cluster)}:`)).reduce((sum, it) => sum + it.requests, 0);
    return {
      perSecond: requests / seconds,
      errors: requests ? rows.reduce((sum, it) => sum + it.errors, 0) / requests : 0,
      p99: rows.length ? Math.max(...rows.map((it) => it.p99_ms)) : null,
      shares: to.map((it) => (requests ? of(it.cluster) / requests : 0)),
    };
  }

  function draw() {
    const text = filter.value.trim().toLowerCase();
    const rows = found.map((row) => ({ ...row, ...traffic(row) }));
    told.update(rows.filter((row) => !text || COLUMNS.some((it) => String(it.value(row)).toLowerCase().includes(text))));
  }

  async function update() {
    const began = performance.now();
    if (began < askAgainAt || !live.programs.length) return;
    askAgainAt = Infinity;
    const answers = await askAll(live.programs.filter((it) => it.kind === "waypoint"), "routes");
    askAgainAt = again(began, SECONDS, answers);
    found = answers.flatMap(({ program, answer }) => (answer ?? []).map((row) => ({ ...row, program: program.name })));
    found.sort((a, b) => Boolean(b.source) - Boolean(a.source) || a.service.localeCompare(b.service) || a.order - b.order);
    draw();
  }

  return { element, update, focus: () => filter.focus(), close: stop };
}

const hostOf = (cluster) => cluster.split("|").pop();

function matchWords({ match }) {
  const pairs = (of, sign = " = ") => Object.entries(of ?? {}).map(([name, value]) => `${name}${sign}${value}`);
  const path = match.path === "PREFIX /" ? "" : match.path ?? "";
  return [match.method, path, match.server_name, ...pairs(match.headers), ...pairs(match.query, "="), ...pairs(match.without, " not ")].filter(Boolean).join(", ") || "everything";
}

function backends(row) {
  const weights = row.backends.reduce((sum, it) => sum + it.weight, 0);
  return el(
    "ul",
    { class: "plain" },
    row.backends.map(({ cluster, weight }, n) =>
      el(
        "li",
        { class: cluster === "unresolved" && "failure" },
        hostOf(cluster).replace(/\.svc\..*$/, ""),
        row.backends.length > 1 && ` ${share(weight / (weights || 1))}`,
        row.perSecond > 0 && row.backends.length > 1 && el("span", { class: "hint" }, ` now ${share(row.shares[n])}`),
        row.backends.length > 1 && el("meter", { min: 0, max: 1, value: row.shares[n], title: `${share(row.shares[n])} of the requests of the last seconds`, "aria-label": `share of ${hostOf(cluster)}` }),
      ),
    ),
  );
}

function actions({ actions: found }) {
  return el("ul", { class: "plain" }, Object.entries(found).map(([name, value]) => el("li", { title: JSON.stringify(value, null, 1) }, value?.name ?? name.replaceAll("_", " "))));
}
