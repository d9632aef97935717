// The graph as SVG. It is laid out anew only when nodes or links come or go; otherwise numbers change in place. Every
// node and link is a button with a name, so that keyboards and screen readers reach it: arrow keys follow the links.

import { Graph, layout } from "./vendor/dagre/dagre.esm.js";
import { put, say, svg } from "./dom.js";
import { sentence, share, summary } from "./words.js";

const NODE_HEIGHT = 40;
const LABEL = { width: 114, height: 34 };
const NARROW = 720;
/** A graph that does not fit at this size is scrolled. */
const LEGIBLE = 0.7;
const KINDS = { workload: "Workload", service: "Service", waypoint: "Waypoint" };

/** Draws into `frame`, which scrolls. `onPick` receives the id of the node or link that was chosen. */
export class Drawing {
  #frame;
  #onPick;
  #shape = "";
  #parts = new Map();
  #drawn = null;
  #picked = null;
  #size = [0, 0];
  #zoom = 0;

  constructor(frame, onPick) {
    this.#frame = frame;
    this.#onPick = onPick;
    frame.addEventListener("keydown", (event) => this.#follow(event));
    new ResizeObserver(() => this.#fit()).observe(frame);
  }

  update(graph) {
    const direction = this.#frame.clientWidth < NARROW ? "TB" : "LR";
    const links = [...graph.links.values()].map((it) => `${it.id} ${it.isRepeated}`);
    const shape = [direction, ...[...graph.nodes.keys()].sort(), ...links.sort()].join("\n");
    this.#drawn = graph;
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#draw(graph, direction);
    }
    for (const it of [...graph.nodes.values(), ...graph.links.values()]) this.#renew(it);
  }

  pick(id) {
    this.#parts.get(this.#picked)?.classList.remove("picked");
    this.#picked = id;
    this.#parts.get(id)?.classList.add("picked");
  }

  /** Multiplies the size; 0 fits it into the frame again. */
  zoom(factor) {
    this.#zoom = factor ? Math.min(3, Math.max(0.2, this.#scale() * factor)) : 0;
    this.#fit();
  }

  #draw({ nodes, links }, direction) {
    const focused = [...this.#parts].find(([, part]) => part === document.activeElement)?.[0];
    const plan = new Graph();
    plan.setGraph({ rankdir: direction, nodesep: 22, ranksep: 34, edgesep: 14, marginx: 12, marginy: 12 });
    for (const node of nodes.values()) plan.setNode(node.id, { width: 56 + 7.4 * Math.max(node.title.length, node.namespace.length), height: NODE_HEIGHT });
    for (const link of links.values()) plan.setEdge(link.from, link.to, link.isRepeated ? {} : { ...LABEL, labelpos: "c" });
    layout(plan);

    this.#parts.clear();
    if (!nodes.size) return this.#frame.replaceChildren();
    const lines = [...links.values()].map((link) => this.#link(link, plan.edge(link.from, link.to)));
    const boxes = [...nodes.values()].map((node) => this.#node(node, plan.node(node.id)));
    this.#size = [plan.graph().width || 1, plan.graph().height || 1];
    this.#frame.replaceChildren(
      svg("svg", { viewBox: `0 0 ${this.#size.join(" ")}`, role: "group", "aria-label": "Traffic between workloads and services" }, arrow(), lines, boxes),
    );
    this.#fit();
    this.pick(this.#picked);
    this.#parts.get(focused)?.focus();
  }

  #node(node, at) {
    const { x, y, width, height } = at;
    return this.#button(
      node.id,
      `node ${node.kind}`,
      `translate(${x} ${y})`,
      svg("rect", { x: -width / 2, y: -height / 2, width, height, rx: node.kind === "service" ? height / 2 : 6 }),
      mark(node.kind, 20 - width / 2),
      svg("text", { x: 34 - width / 2, y: -3, class: "title" }, `${node.title} `),
      svg("text", { x: 34 - width / 2, y: 12, class: "small" }, node.namespace),
    );
  }

  #link(link, at) {
    return this.#button(
      link.id,
      "link",
      null,
      svg("path", { class: "hit", d: curve(at.points) }),
      svg("path", { class: "line", d: curve(at.points), "marker-end": "url(#arrow)" }),
      !link.isRepeated && svg(
        "g",
        { transform: `translate(${at.x} ${at.y})` },
        svg("rect", { class: "label", x: -LABEL.width / 2, y: -LABEL.height / 2, width: LABEL.width, height: LABEL.height, rx: 5 }),
        svg("path", { class: "lock", d: "M-50 -2h9v7h-9zM-48 -2v-2.5a2.5 2.5 0 0 1 5 0v2.5" }),
        svg("text", { class: "carries", x: -36, y: -2 }),
        svg("text", { class: "errors", x: -36, y: 11 }),
      ),
    );
  }

  #button(id, kind, transform, ...children) {
    const pick = () => this.#onPick(id);
    const part = svg("g", { class: kind, transform, tabindex: 0, role: "button", click: pick }, children);
    part.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") pick(event.preventDefault());
    });
    this.#parts.set(id, part);
    return part;
  }

  #renew(it) {
    const part = this.#parts.get(it.id);
    put(part, "data-health", it.is.health);
    // a name contains what is seen, so that people who speak to their computer can say it
    if (it.kind) {
      put(part, "aria-label", `${KINDS[it.kind]} ${it.title} ${it.namespace}: ${sentence(it)}`);
      return;
    }
    const [from, to] = [this.#drawn.nodes.get(it.from), this.#drawn.nodes.get(it.to)];
    const wrong = it.is.failed + it.is.refused;
    const seen = [`${summary(it)} `, wrong ? `${share(wrong)} errors` : it.sum.isHttp ? "no errors" : "TCP"];
    put(part, "aria-label", `From ${from.title} to ${to.title}: ${seen.join("")}; ${sentence(it)}`);
    put(part, "data-mutual", it.sum.isMutual);
    if (!it.isRepeated) {
      say(part.querySelector(".carries"), seen[0]);
      say(part.querySelector(".errors"), seen[1]);
    }
    part.querySelector(".line").style.strokeWidth = `${1.5 + Math.min(4, Math.log10(1 + it.is.perSecond))}px`;
  }

  #follow(event) {
    const id = [...this.#parts].find(([, part]) => part === event.target)?.[0];
    const { nodes, links } = this.#drawn ?? {};
    if (!id || !event.key.startsWith("Arrow")) return;
    const forward = event.key === "ArrowRight" || event.key === "ArrowDown";
    const link = links.get(id);
    const next = link
      ? forward ? link.to : link.from
      : [...links.values()].find((it) => (forward ? it.from : it.to) === id)?.id ?? [...nodes.keys()].find((it) => it !== id);
    event.preventDefault();
    this.#parts.get(next)?.focus();
  }

  #scale() {
    const [width, height] = this.#size;
    return this.#zoom || Math.min(1.25, (this.#frame.clientWidth - 4) / width, (0.58 * innerHeight) / height);
  }

  #fit() {
    const drawing = this.#frame.firstElementChild;
    if (!drawing || !this.#size[0]) return;
    const scale = Math.max(this.#scale(), this.#zoom ? 0.2 : LEGIBLE);
    drawing.style.width = `${this.#size[0] * scale}px`;
    drawing.style.height = `${this.#size[1] * scale}px`;
  }
}

const arrow = () =>
  svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z" })));

function mark(kind, x) {
  const shapes = {
    service: "M-6 4L0 -7L6 4z",
    workload: "M-6 -6h12v12h-12z",
    waypoint: "M0 -8L7 -4V4L0 8L-7 4V-4z",
  };
  return svg("path", { class: "mark", transform: `translate(${x} 0)`, d: shapes[kind] });
}

/** A smooth line through the points that the layout gives. */
function curve(points) {
  const [first, ...rest] = points;
  let path = `M${first.x} ${first.y}`;
  rest.slice(0, -1).forEach((point, n) => {
    const next = rest[n + 1];
    const end = n === rest.length - 2 ? next : { x: (point.x + next.x) / 2, y: (point.y + next.y) / 2 };
    path += `Q${point.x} ${point.y} ${end.x} ${end.y}`;
  });
  return rest.length === 1 ? `${path}L${rest[0].x} ${rest[0].y}` : path;
}
