// What one node or link of the graph carries: numbers, results by code and flag, and its rate over time.

import { el, svg } from "./dom.js";
import { flagWords } from "./flags.js";
import { amount, bytes, milliseconds, rate, sentence, share } from "./words.js";

/** Fills `aside`; the focus stays where it is. */
export function details(aside, it, onClose) {
  const title = it.kind ? it.title : `${it.from.title} → ${it.to.title}`;
  const numbers = it.sum.isHttp
    ? [["Requests", rate(it.is.perSecond)], ["Failed", share(it.is.failed)], ["Refused", share(it.is.refused)], ["p50", milliseconds(it.is.p50)], ["p95", milliseconds(it.is.p95)], ["p99", milliseconds(it.is.p99)]]
    : [["Bytes", `${bytes(it.is.bytesPerSecond)}/s`], ["Received", bytes(it.sum.received)], ["Sent", bytes(it.sum.sent)], ["Open connections", String(it.sum.open)]];
  const results = Object.entries(it.sum.results).filter(([, count]) => count).sort((a, b) => b[1] - a[1]);
  const principals = new Set(it.sum.isHttp || it.kind ? it.gains.map((gain) => (it.kind === "workload" ? gain.destination.principal : gain.source.principal)) : []);
  const had = aside.contains(document.activeElement);
  const close = el("button", { type: "button", class: "close", "aria-label": "Close the details", title: "Close (Esc)", click: onClose }, "×");
  aside.replaceChildren(
    close,
    el("h2", {}, title),
    el("p", { class: "hint" }, it.kind ? `${it.kind}, namespace ${it.namespace}` : sentence(it)),
    line(it.points),
    el("dl", {}, numbers.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    results.length > 0 && el("h3", {}, "Results"),
    el("ul", { class: "results" }, results.map(([result, count]) => resultLine(result, count, it.is.requests))),
    principals.size > 0 && el("h3", {}, it.kind === "workload" ? "Identity" : "Identity of the caller"),
    el("ul", {}, [...principals].map((name) => el("li", { class: "code" }, name))),
  );
  if (had) close.focus();
}

function resultLine(result, count, all) {
  const [code, grpc, flags] = result.split(" ");
  const reasons = flags === "-" ? [] : flags.split(",").map(flagWords);
  const kind = code.startsWith("5") || code === "0" ? "failure" : code.startsWith("4") ? "warning" : "healthy";
  return el(
    "li",
    { class: kind },
    el("span", { class: "code" }, code === "0" ? "no answer" : code, grpc !== "-" ? ` gRPC ${grpc}` : ""),
    ` ${amount(count)} (${share(count / all)})`,
    reasons.length > 0 && el("span", { class: "hint" }, ` ${reasons.join(", ")}`),
  );
}

/** A line over time, from 0 to its highest point. */
function line(points) {
  const [width, height] = [240, 40];
  const highest = Math.max(...points, 0.001);
  const place = (number, n) => `${(n / Math.max(points.length - 1, 1)) * width},${height - 2 - (number / highest) * (height - 6)}`;
  return svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `Requests per second over the last ${points.length} rounds, at most ${amount(highest)}` },
    svg("polyline", { points: points.map(place).join(" ") }),
  );
}
