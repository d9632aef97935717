// What programs hold: policies with their hits, endpoints, connections, certificates.

import { el } from "../dom.js";
import { listing, ofWaypoints } from "../listing.js";
import { bytes } from "../words.js";

const code = (text) => el("span", { class: "code" }, text);
const short = (host) => host.replace(/\.svc\..*$/, "");

export const policies = listing({
  id: "policies",
  key: "p",
  title: "Policies",
  caption: "Policies, and how often they acted since the start",
  empty: "no policy is in force",
  page: ofWaypoints("policies"),
  rows: (answer) => answer,
  columns: [
    { title: "Kind", value: (it) => it.kind },
    { title: "Policy", value: (it) => it.policy },
    { title: "Does", value: (it) => `${it.action.replaceAll("_", " ")}${it.is_dry_run ? ", on trial" : ""}` },
    { title: "For", value: (it) => it.services.map(short).join(", ") },
    { title: "Rules", value: (it) => it.rules.map(text).join("; "), cell: (it) => el("ul", { class: "plain" }, it.rules.map((rule) => el("li", { class: "code" }, text(rule)))) },
    { title: "Hits", number: true, value: (it) => Object.values(it.hits).reduce((a, b) => a + b, 0), cell: (it) => Object.entries(it.hits).map(([name, count]) => `${count} ${name.replaceAll("_", " ")}`).join(", ") || "0" },
  ],
});

const text = (rule) => (typeof rule === "string" ? rule : JSON.stringify(rule).replaceAll('"', ""));

export const endpoints = listing({
  id: "endpoints",
  key: "n",
  title: "Endpoints",
  caption: "Endpoints of each destination",
  empty: "no destination has endpoints",
  page: ofWaypoints("endpoints"),
  rows: (answer) => answer.map((it) => ({ ...it, health: it.status === "ready" ? "healthy" : "failure" })),
  columns: [
    { title: "Service", value: (it) => short(it.service) },
    { title: "Workload", value: (it) => it.workload },
    { title: "Address", value: (it) => it.address, cell: (it) => code(it.address) },
    { title: "State", value: (it) => it.status, cell: (it) => el("span", { class: it.health }, it.ejected_for_seconds == null ? it.status : `ejected for ${it.ejected_for_seconds} s`) },
    { title: "Weight", number: true, value: (it) => it.weight },
    { title: "Active requests", number: true, value: (it) => it.requests },
    { title: "Connections", number: true, value: (it) => it.connections },
    { title: "Identity", value: (it) => it.identity ?? "none: plain TCP", cell: (it) => code(it.identity ?? "none: plain TCP") },
  ],
});

export const connections = listing({
  id: "connections",
  key: "c",
  title: "Connections",
  caption: "Open connections",
  empty: "no connection is open",
  page: (program) => (program.kind === "waypoint" ? "connections" : "config_dump"),
  rows: (answer, program) => (program.kind === "waypoint" ? answer.map(waypointsConnection) : Object.values(answer.workloadState).flatMap(ztunnelsConnections)),
  columns: [
    { title: "Direction", value: (it) => it.direction },
    { title: "Peer", value: (it) => it.peer, cell: (it) => code(it.peer) },
    { title: "To", value: (it) => it.to, cell: (it) => code(it.to || "–") },
    { title: "Over", value: (it) => it.over },
    { title: "Identity or pod", value: (it) => it.who, cell: (it) => code(it.who || "–") },
    { title: "Tunnels", number: true, value: (it) => it.tunnels ?? -1, cell: (it) => String(it.tunnels ?? "–") },
    { title: "Received", number: true, value: (it) => it.received ?? -1, cell: (it) => (it.received == null ? "–" : bytes(it.received)) },
    { title: "Sent", number: true, value: (it) => it.sent ?? -1, cell: (it) => (it.sent == null ? "–" : bytes(it.sent)) },
  ],
});

const waypointsConnection = (it) => ({
  direction: it.is_draining ? `${it.direction}, draining` : it.direction,
  peer: it.peer,
  to: it.destination,
  over: it.identity ? "mutual TLS" : "plain TCP",
  who: it.identity,
  tunnels: it.tunnels,
  received: it.bytes_received,
  sent: it.bytes_sent,
});

function ztunnelsConnections({ info, connections }) {
  return ["inbound", "outbound"].flatMap((direction) =>
    connections[direction].map((it) => ({
      direction,
      peer: it.src,
      to: `${it.originalDst} → ${it.actualDst}`,
      over: it.protocol === "HBONE" ? "mutual TLS" : "plain TCP",
      who: `${info.namespace}/${info.name}`,
    })),
  );
}

const DAY = 86400;

export const certificates = listing({
  id: "certificates",
  key: "t",
  title: "Certificates",
  caption: "Certificates and trusted roots",
  empty: "no certificate is there",
  page: (program) => (program.kind === "waypoint" ? "certificates" : "config_dump"),
  rows: (answer, program) => (program.kind === "waypoint" ? answer : answer.certificates.flatMap(ztunnelsCertificates)).map((it) => ({ ...it, health: certificateHealth(it) })),
  columns: [
    { title: "Identity", value: (it) => it.identity, cell: (it) => code(it.identity) },
    { title: "Kind", value: (it) => it.kind },
    { title: "State", value: (it) => it.status, cell: (it) => el("span", { class: it.health }, it.status) },
    { title: "Expires", value: (it) => it.expires },
    { title: "In", number: true, value: (it) => it.seconds_left, cell: (it) => left(it.seconds_left) },
    { title: "Serial number", value: (it) => it.serial, cell: (it) => code(it.serial) },
  ],
});

function ztunnelsCertificates({ identity, state, certChain, rootCerts }) {
  const row = (kind) => (it) => ({ identity, kind, status: state, expires: it.expirationTime, seconds_left: (Date.parse(it.expirationTime) - Date.now()) / 1000, serial: it.serialNumber });
  if (!certChain?.length) return [{ identity, kind: "leaf", status: state, expires: "", seconds_left: 0, serial: "" }];
  return [...certChain.map(row("leaf")), ...(rootCerts ?? []).map(row("root"))];
}

const certificateHealth = (it) => (it.seconds_left <= 0 ? "failure" : it.kind === "leaf" && it.seconds_left < DAY / 4 ? "warning" : "healthy");
const left = (seconds) => (seconds <= 0 ? "expired" : seconds < 2 * DAY ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / DAY)} d`);
