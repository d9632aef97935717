// From edges to a graph: workloads and services are nodes; a link is what a workload sends to a service, or what the
// service passes on to a workload.

import { measure, sum } from "./rates.js";

const UNKNOWN = "unknown";

/**
 * Returns {nodes, links}, both by id. `shows` says which edges to draw. Hops of the mesh's own, to and from waypoints,
 * carry what other edges show already; they are drawn only with `withHops`.
 */
export function topology(edges, { waypoints = new Set(), withHops = false, shows = () => true } = {}) {
  const nodes = new Map();
  const links = new Map();

  const node = (kind, namespace, name, title) => {
    const id = `${kind}:${namespace}/${name}`;
    if (!nodes.has(id)) nodes.set(id, { id, kind, namespace, name, title, gains: [] });
    return nodes.get(id);
  };
  const link = (from, to, edge) => {
    const id = `${from.id} ${to.id}`;
    if (!links.has(id)) links.set(id, { id, from: from.id, to: to.id, gains: [] });
    links.get(id).gains.push(edge);
  };
  const workload = (party) => {
    const name = `${party.namespace}/${party.workload}`;
    return node(waypoints.has(name) ? "waypoint" : "workload", party.namespace, party.workload, party.workload);
  };
  const isHop = (edge) => [edge.source, edge.destination].some((it) => waypoints.has(`${it.namespace}/${it.workload}`));
  const isTold = (edge) => edge.reporter !== "destination" || !seen.has(pair(edge));
  const pair = (edge) => JSON.stringify([edge.source.workload, edge.destination.workload, edge.service]);
  const seen = new Set(edges.filter((it) => it.reporter !== "destination").map(pair));

  for (const edge of edges) {
    if (!shows(edge) || !isTold(edge) || (!withHops && edge.reporter !== "waypoint" && isHop(edge))) continue;
    const source = workload(edge.source);
    let last = source;
    if (edge.service !== UNKNOWN) {
      const [name, namespace] = edge.service.split(".");
      last = node("service", namespace ?? "", edge.service, name);
      last.gains.push(edge);
      link(source, last, edge);
    }
    if (edge.destination.workload !== UNKNOWN) {
      const destination = workload(edge.destination);
      destination.gains.push(edge);
      link(last, destination, edge);
    }
  }
  for (const it of [...nodes.values(), ...links.values()]) {
    it.sum = sum(it.gains);
    it.is = measure(it.sum);
  }
  for (const it of links.values()) it.isRepeated = isRepeated(it, nodes, links);
  return { nodes, links };
}

/** Whether a link repeats what the one before it says: one caller, one service, one workload. */
function isRepeated(link, nodes, links) {
  const around = [...links.values()];
  const [into, outOf] = [around.filter((it) => it.to === link.from), around.filter((it) => it.from === link.from)];
  return nodes.get(link.from).kind === "service" && outOf.length === 1 && into.length === 1 && into[0].gains.length === link.gains.length;
}
