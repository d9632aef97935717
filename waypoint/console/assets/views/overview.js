// The first view: the graph, what one of its parts carries, and the same traffic as a table.

import { el, put, table } from "../dom.js";
import { Drawing } from "../graph.js";
import { details } from "../details.js";
import { topology } from "../topology.js";
import { amount, bytes, milliseconds, share } from "../words.js";

export const overview = { id: "graph", key: "g", title: "Graph", show };

const COLUMNS = [
  { title: "From", value: (it) => named(it.from) },
  { title: "To", value: (it) => named(it.to) },
  { title: "TLS", value: (it) => (it.sum.isMutual ? "mutual" : "none") },
  { title: "Requests/s", number: true, value: (it) => it.is.perSecond, cell: (it) => (it.sum.isHttp ? amount(it.is.perSecond) : "–") },
  { title: "Failed", number: true, value: (it) => it.is.failed, cell: (it) => share(it.is.failed) },
  { title: "Refused", number: true, value: (it) => it.is.refused, cell: (it) => share(it.is.refused) },
  { title: "p50", number: true, value: (it) => it.is.p50 ?? -1, cell: (it) => milliseconds(it.is.p50) },
  { title: "p95", number: true, value: (it) => it.is.p95 ?? -1, cell: (it) => milliseconds(it.is.p95) },
  { title: "p99", number: true, value: (it) => it.is.p99 ?? -1, cell: (it) => milliseconds(it.is.p99) },
  { title: "Bytes/s", number: true, value: (it) => it.is.bytesPerSecond, cell: (it) => (it.sum.isHttp ? "–" : bytes(it.is.bytesPerSecond)) },
];

const named = (node) => (node.kind === "service" ? `service ${node.title}` : node.title);

function show(live, address) {
  const filter = el("input", { type: "search", placeholder: "Filter by name (/)", "aria-label": "Show only what is called like this", input: update });
  const namespace = el("select", { "aria-label": "Namespace", change: update }, el("option", { value: "" }, "all namespaces"));
  const hops = el("input", { type: "checkbox", id: "hops", change: update });
  const frame = el("div", { class: "graph", "aria-live": "off" });
  const aside = el("aside", { "aria-label": "Details", hidden: true });
  const drawing = new Drawing(frame, pick);
  const rows = table("Traffic of the last seconds", COLUMNS, { onRow: (it) => pick(it.id), empty: "no traffic yet" });
  const hint = el("p", { class: "hint" }, "No traffic was seen yet. Send a request through the mesh, and it appears here.");
  const zoom = (name, text, factor) => el("button", { type: "button", title: name, "aria-label": name, click: () => drawing.zoom(factor) }, text);
  const element = el(
    "section",
    { class: "overview", "aria-label": "Graph" },
    el(
      "div",
      { class: "tools" },
      filter,
      namespace,
      el("label", { for: "hops" }, hops, "the mesh’s own hops"),
      el("span", { class: "zoom" }, zoom("Smaller", "−", 0.8), zoom("Larger", "+", 1.25), zoom("Fit", "Fit", 0)),
    ),
    el("div", { class: "split" }, el("div", { class: "main" }, el("div", { class: "stage" }, hint, frame), rows.element), aside),
  );
  let picked = address.get("pick");
  let graph = { nodes: new Map(), links: new Map() };

  function pick(id) {
    picked = id === picked ? null : id;
    address.set("pick", picked);
    update();
  }

  function update() {
    const names = new Set(live.edges.flatMap((it) => [it.source.namespace, it.destination.namespace]).filter((it) => it !== "unknown"));
    for (const name of [...names].sort()) {
      if (![...namespace.options].some((it) => it.value === name)) namespace.append(el("option", { value: name }, name));
    }
    const text = filter.value.trim().toLowerCase();
    const shows = (edge) =>
      (!namespace.value || [edge.source.namespace, edge.destination.namespace].includes(namespace.value)) &&
      (!text || [edge.source.workload, edge.destination.workload, edge.service].some((it) => it.toLowerCase().includes(text)));
    graph = topology(live.edges, { waypoints: live.waypoints, withHops: hops.checked, shows });
    for (const it of [...graph.links.values(), ...graph.nodes.values()]) it.points = live.note(it.id, it.is.perSecond);
    hint.hidden = graph.nodes.size > 0;
    drawing.update(graph);
    drawing.pick(picked);
    const links = [...graph.links.values()].map((it) => ({ ...it, health: it.is.health, from: graph.nodes.get(it.from), to: graph.nodes.get(it.to) }));
    rows.update(links.filter((it) => !it.isRepeated));
    const chosen = graph.nodes.get(picked) ?? links.find((it) => it.id === picked);
    put(element, "data-picked", Boolean(chosen));
    aside.hidden = !chosen;
    if (chosen) details(aside, chosen, () => pick(picked));
  }

  return { element, update, focus: () => filter.focus(), escape: () => picked && pick(picked) };
}
