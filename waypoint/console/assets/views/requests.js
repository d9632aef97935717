// Recent requests as they end. A click shows what happened to one, and explains it: the waypoint is asked what it would do
// with the same request now, with those of its headers that routes and policies look at.

import { askAll } from "../api.js";
import { el, say, table } from "../dom.js";
import { flagWords } from "../flags.js";
import { follow, whileSeen } from "../stream.js";
import { bytes, milliseconds } from "../words.js";
import { explained } from "./whatif.js";

export const requests = { id: "requests", key: "r", title: "Requests", show };

const MOST = 200;
/** Browsers open six connections to one server; the rest of the page needs some, too. */
const MOST_STREAMS = 3;
const MOST_HEADERS = 16;
const DRAW_MS = 1000;

const COLUMNS = [
  { title: "Time", value: (it) => it.time.slice(11, 23), cell: (it) => el("span", { class: "code" }, it.time.slice(11, 23)) },
  { title: "From", value: (it) => it.source.workload },
  { title: "Method", value: (it) => it.method || "TCP" },
  { title: "Path", value: (it) => it.path, cell: (it) => el("span", { class: "code" }, it.path) },
  { title: "Service", value: (it) => it.destination.service.split(".")[0] },
  { title: "Workload", value: (it) => (it.destination.workload === "unknown" ? "–" : it.destination.workload) },
  { title: "Status", number: true, value: (it) => it.status, cell: (it) => el("span", { class: it.health }, `${it.status || "none"} ${it.flags.join(",")}`) },
  { title: "Duration", number: true, value: (it) => it.duration_ms, cell: (it) => milliseconds(it.duration_ms) },
];

function show(live, address) {
  const text = el("input", { type: "search", placeholder: "Filter (/)", "aria-label": "Show only requests with this text", input: draw });
  const kind = el("select", { "aria-label": "Which requests", change: open }, [["", "all requests"], ["status=4xx&status=5xx&status=0", "errors only"], ["slower=100", "slower than 100 ms"], ["slower=1000", "slower than 1 s"]].map(([value, title]) => el("option", { value, selected: value === address.get("kind") }, title)));
  const state = el("p", { class: "hint", role: "status" });
  const aside = el("aside", { "aria-label": "Request", hidden: true });
  const told = table("Recent requests, newest first", COLUMNS, { onRow: pick, empty: "no request ended since this view was opened" });
  const element = el("section", { "aria-label": "Requests" }, el("div", { class: "tools" }, text, kind, state), el("div", { class: "split" }, el("div", { class: "main" }, told.element), aside));
  const troubles = new Map();
  let found = [];
  let count = 0;
  let dropped = 0;
  let isStale = false;
  let stop = null;

  function open() {
    address.set("kind", kind.value);
    stop?.();
    found = [];
    stop = whileSeen(live, start);
  }

  async function start(signal) {
    await live.isKnown;
    const waypoints = live.programs.filter((it) => it.kind === "waypoint").slice(0, MOST_STREAMS);
    const shown = (await headersOf(waypoints)).map((name) => `show=${encodeURIComponent(name)}`);
    const path = ["tap?", ...shown, kind.value].filter(Boolean).join("&").replace("?&", "?");
    for (const program of waypoints) follow(program, path, signal, (line) => take(line, program), (trouble) => troubles.set(program.name, trouble));
  }

  function take(line, program) {
    if (line.type === "dropped") dropped += line.count;
    if (line.type !== "request" && line.type !== "connection") return;
    count += 1;
    isStale = true;
    found.unshift({ ...line, program, health: healthOf(line) });
    if (found.length > MOST) found.pop();
  }

  function draw() {
    const wanted = text.value.trim().toLowerCase();
    told.update(found.filter((row) => !wanted || COLUMNS.some((it) => String(it.value(row)).toLowerCase().includes(wanted))));
    isStale = false;
  }

  const timer = setInterval(() => {
    if (isStale && aside.hidden) draw(); // who looks at one request does not want the others to move
    const trouble = [...troubles.values()].filter(Boolean).join("; ");
    say(state, trouble || `${count} seen${aside.hidden ? "" : "; the list waits while a request is shown"}${dropped ? `, ${dropped} left out` : ""}`);
  }, DRAW_MS);

  async function pick(it) {
    const trail = el("div", {}, el("p", { class: "hint" }, "asking the waypoint…"));
    aside.hidden = false;
    aside.replaceChildren(
      el("button", { type: "button", class: "close", "aria-label": "Close the request", title: "Close (Esc)", click: close }, "×"),
      el("h2", {}, `${it.method || "TCP"} ${it.path}`),
      happened(it),
      el("h3", {}, "What the waypoint does with such a request"),
      trail,
    );
    trail.replaceChildren(it.type === "request" ? await explained(live, questionOf(it)) : el("p", { class: "hint" }, "Only requests are explained."));
  }

  function close() {
    aside.hidden = true;
  }

  open();
  return { element, update() {}, focus: () => text.focus(), escape: close, close: () => { clearInterval(timer); stop(); } };
}

/** The request as a question of `explain`: to the address that the client called, with its own Host. */
function questionOf(it) {
  const [, namespace, account] = /\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(it.source.identity) ?? [null, it.source.namespace, "default"];
  const host = it.authority ? [["host", it.authority]] : [];
  return [["from", `${namespace}/${account}`], ["to", it.destination.called], ["method", it.method], ["path", it.path], ...[...host, ...it.headers].map(([name, value]) => ["header", `${name}: ${value}`])];
}

/** Names of headers that routes match, so that the tap shows them. */
async function headersOf(waypoints) {
  const answers = await askAll(waypoints, "routes");
  const routes = answers.flatMap(({ answer }) => answer ?? []);
  const names = routes.flatMap(({ match }) => [...Object.keys(match.headers ?? {}), ...Object.keys(match.without ?? {})]);
  return [...new Set(names)].filter((name) => !name.startsWith(":")).slice(0, MOST_HEADERS);
}

function happened(it) {
  const facts = [
    ["Client", `${it.source.namespace}/${it.source.workload}`],
    ["Identity", it.source.identity || "none"],
    ["Called", `${it.authority || it.destination.called}`],
    ["Route", it.route || "–"],
    ["Destination", it.destination.service],
    ["Endpoint", it.destination.endpoint ? `${it.destination.endpoint} ${it.destination.workload}` : "none: the waypoint answered"],
    ["Result", `${it.status || "no answer"} ${it.flags.map(flagWords).join(", ")}`],
    ["Because", [it.detail, it.reason].filter(Boolean).join("; ") || "–"],
    ["Policy", it.authorization ? `${it.authorization.is_allowed ? "allowed" : "denied"} ${it.authorization.policy}` : "none"],
    ["Duration", `${milliseconds(it.duration_ms)}, of the endpoint ${milliseconds(it.upstream_service_time_ms)}`],
    ["Bytes", `${bytes(it.bytes_received)} received, ${bytes(it.bytes_sent)} sent`],
    ["Request id", it.request_id || "–"],
    ["Trace", it.trace_id || "–"],
    ...it.headers.map(([name, value]) => [`${name}:`, value]),
  ];
  return el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function healthOf({ type, status, grpc_status }) {
  if (type === "connection") return "healthy";
  if (!status || status >= 500 || (grpc_status && grpc_status !== "0")) return "failure";
  return status >= 400 ? "warning" : "healthy";
}
